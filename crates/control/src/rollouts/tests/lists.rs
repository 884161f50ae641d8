//! Lists: what they cost, and what they say of what cannot be read.

use std::cell::Cell;

use upbeat_model::rollout::{UnitsPage, Unreadable};

use super::*;

thread_local! {
    static COUNTED: Cell<usize> = const { Cell::new(0) };
}

/// All targets of an entity are looked at, for a list.
pub(in crate::rollouts) fn count() {
    COUNTED.set(COUNTED.get() + 1);
}

async fn all_lists(rollouts: &Rollouts) -> RolloutState {
    let mut page = rollouts.rollouts(None, None, 10).await;
    let (numbers, unreadable) = rollouts.numbers().await;
    assert!(unreadable.is_empty() && page.unreadable.is_empty() && page.next.is_none());
    let state = page.rollouts.remove(0);
    assert_eq!(rollouts.rollout(&web()).await.unwrap().unwrap(), state);
    let RolloutNumbers { course, counts, target, rolling, good, number, since, .. } = numbers[0].clone();
    assert_eq!(
        (course, counts, target, rolling, good, number, since),
        (
            state.course,
            state.counts,
            state.target.clone(),
            state.rolling.clone(),
            state.good.clone(),
            state.number,
            state.since
        )
    );
    state
}

#[tokio::test(start_paused = true)]
async fn what_is_listed_looks_at_no_target_also_where_time_alone_has_changed_it() {
    let (store, _journal) = open_memory().unwrap();
    let rollouts = open(&store).await;
    let reports = established(&rollouts, 10, 50).await;
    for _ in 0..2 {
        rollouts.orchestrate(web(), reports.clone()).await.unwrap();
    }
    let member = UnitMember { entity: "web".into(), version: v("v2"), needs: Vec::new() };
    rollouts
        .start_unit(EntityId::new("prod", "unit").unwrap(), vec![member], "ann".into())
        .await
        .unwrap_err();
    let counted = COUNTED.get();
    assert!(counted > 0, "they are counted with each change");
    let state = all_lists(&rollouts).await;
    assert_eq!((state.counts.on_the_way, state.counts.failed), (5, 0));
    pass(60).await;
    assert_eq!(all_lists(&rollouts).await.counts.failed, 0);
    pass(1).await;
    let state = all_lists(&rollouts).await;
    assert_eq!((state.counts.on_the_way, state.counts.failed, state.budget.used), (0, 5, 5));
    assert_eq!(COUNTED.get(), counted);
    // What is asked of it is seen by the next list.
    let fail = Change::Fail { target: id(0), by: "ann".into(), why: String::new() };
    rollouts.change(web(), fail, None).await.unwrap();
    rollouts.orchestrate(web(), reports).await.unwrap();
    let counted = COUNTED.get();
    let state = all_lists(&rollouts).await;
    assert_eq!(state.course, CourseWord::Back);
    assert_eq!(COUNTED.get(), counted);
    // Who comes after a crash counts once, when it reads what was kept.
    let next = open(&store).await;
    let counted = COUNTED.get();
    assert_eq!(all_lists(&next).await.counts, state.counts);
    assert_eq!(COUNTED.get(), counted);
}

#[tokio::test(start_paused = true)]
async fn units_are_listed_by_what_is_known_of_their_members() {
    let (store, _journal) = open_memory().unwrap();
    let rollouts = open(&store).await;
    let reports = established(&rollouts, 4, 50).await;
    rollouts.orchestrate(web(), reports).await.unwrap();
    rollouts.change(web(), Change::PromoteAll { by: "ann".into() }, None).await.unwrap();
    let member = UnitMember { entity: "web".into(), version: v("v3"), needs: Vec::new() };
    let unit = EntityId::new("prod", "unit").unwrap();
    let begun = rollouts.start_unit(unit.clone(), vec![member.clone()], "ann".into()).await.unwrap();
    let counted = COUNTED.get();
    let page = rollouts.units(Some("prod"), None, 10).await;
    assert_eq!((page.units, page.next), (vec![begun], None));
    assert_eq!(COUNTED.get(), counted);
    assert_eq!(rollouts.units(Some("test"), None, 10).await, UnitsPage::default());
    assert_eq!(rollouts.units(None, Some(&unit), 10).await, UnitsPage::default());
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_be_read_is_named_and_the_others_are_there() {
    let faults = Faults::default();
    let (store, _journal) = open_faulty(&faults).unwrap();
    let rollouts = open(&store).await;
    let api = EntityId::new("prod", "api").unwrap();
    let unit = |name: &str| EntityId::new("prod", name).unwrap();
    for (entity, name) in [(&api, "first"), (&web(), "second")] {
        let options = Options { success_percent: 0, ..options(100) };
        rollouts.change(entity.clone(), Change::SetOptions(Some(options)), None).await.unwrap();
        let member = UnitMember { entity: entity.entity().into(), version: v("v1"), needs: Vec::new() };
        rollouts.start_unit(unit(name), vec![member], "ann".into()).await.unwrap();
    }
    let before = rollouts.rollouts(None, None, 10).await;
    let units = rollouts.units(None, None, 10).await;
    assert_eq!((before.rollouts.len(), units.units.len()), (2, 2));
    faults.full.store(true, Ordering::SeqCst);
    rollouts.change(web(), Change::SetOptions(None), None).await.unwrap_err();
    let page = rollouts.rollouts(None, None, 10).await;
    assert_eq!(page.rollouts, before.rollouts[..1]);
    let [Unreadable { namespace, name, why }] = &page.unreadable[..] else { panic!("{page:?}") };
    assert_eq!((namespace.as_str(), name.as_str()), ("prod", "web"));
    assert_eq!(
        why,
        "what is known of rollout `prod/web` could not be stored: the store cannot use its file: full"
    );
    let (numbers, unreadable) = rollouts.numbers().await;
    assert_eq!((numbers.len(), numbers[0].entity.as_str(), unreadable.len()), (1, "api", 1));
    let page = rollouts.units(None, None, 10).await;
    assert_eq!((page.units, page.unreadable.len()), (units.units[..1].to_vec(), 1));
    assert_eq!(rollouts.entities(Some("prod")), [api, web()], "names need no disk");
    faults.full.store(false, Ordering::SeqCst);
    assert_eq!(rollouts.rollouts(None, None, 10).await, before);
    assert_eq!(rollouts.units(None, None, 10).await.units.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_list_has_pages_and_a_page_ends_where_it_is_long_or_large() {
    let (store, _journal) = open_memory().unwrap();
    let rollouts = open(&store).await;
    let names = ["a", "a/b", "b%"].map(|space| ["x", "y/z"].map(|name| EntityId::new(space, name).unwrap()));
    let names: Vec<EntityId> = names.into_iter().flatten().collect();
    for id in names.iter().rev() {
        rollouts.change(id.clone(), Change::SetVersion(v("v1")), None).await.unwrap();
    }
    for limit in [1, 2, 4, 5, 6, 7] {
        let (mut listed, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = rollouts.rollouts(None, after.as_ref(), limit).await;
            assert!(page.rollouts.len() <= limit);
            listed.extend(page.rollouts.into_iter().map(|state| (state.namespace, state.entity)));
            pages += 1;
            let Some(next) = page.next else { break };
            after = Some(EntityId::of_cursor(&next).unwrap());
        }
        let all: Vec<_> =
            names.iter().map(|id| (id.namespace().to_owned(), id.entity().to_owned())).collect();
        assert_eq!((listed, pages), (all, names.len().div_ceil(limit)), "pages of {limit}");
    }
    let of_one = rollouts.rollouts(Some("a/b"), None, 1).await;
    assert_eq!(of_one.next.as_deref(), Some("a%2Fb/x"));
    let next = rollouts.rollouts(Some("a/b"), Some(&names[2]), 1).await;
    assert_eq!((next.rollouts[0].entity.as_str(), next.next), ("y/z", None));
    // Whoever says much fills a page: each of these has 192 kB, and six are more than a megabyte.
    for n in 0..8 {
        let asks = |controllers: &mut Controllers| {
            controllers.approval = Some(Controller::Exec(vec!["check".into(), "\u{1}".repeat(32_000)]));
            Ok(())
        };
        rollouts.edit_controllers(EntityId::new("loud", &n.to_string()).unwrap(), asks).await.unwrap();
    }
    let page = rollouts.rollouts(Some("loud"), None, 1_000).await;
    assert_eq!((page.rollouts.len(), page.next.as_deref()), (6, Some("loud/5")));
    let rest = rollouts.rollouts(Some("loud"), Some(&EntityId::new("loud", "5").unwrap()), 1_000).await;
    assert_eq!((rest.rollouts.len(), rest.next), (2, None));
}

/// On a daemon's one thread, others have their turn while a long list is made.
#[tokio::test(start_paused = true)]
async fn a_long_list_lets_others_have_their_turn() {
    let (store, _journal) = open_memory().unwrap();
    let rollouts = open(&store).await;
    for n in 0..100 {
        let id = EntityId::new("prod", &format!("web{n}")).unwrap();
        rollouts.change(id, Change::SetVersion(v("v1")), None).await.unwrap();
    }
    rollouts.idle().await;
    for list in [0, 1] {
        let had = Arc::new(AtomicUsize::new(0));
        let turns = had.clone();
        let other = tokio::spawn(async move {
            loop {
                turns.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        });
        let count = match list {
            0 => rollouts.numbers().await.0.len(),
            _ => rollouts.rollouts(None, None, 1_000).await.rollouts.len(),
        };
        assert_eq!(count, 100);
        assert!(had.load(Ordering::SeqCst) >= 3, "{list}: {had:?}");
        other.abort();
    }
}
