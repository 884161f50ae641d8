//! Units under daemons that come and go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use upbeat_model::Millis;
use upbeat_model::rollout::{Amount, MemberWord, Options, TargetId, UnitMember, UnitWord, Version};
use upbeat_store::faults::{Faults, open_faulty};
use upbeat_store::open_memory;

use super::*;

fn v(text: &str) -> Version {
    Version::new(text).unwrap()
}

fn entity(name: &str) -> EntityId {
    EntityId::new("prod", name).unwrap()
}

fn release() -> EntityId {
    entity("release")
}

struct Nobody;

impl Asker for Nobody {
    fn ask<'a>(&'a self, _: &'a EntityId, _: &'a Controllers, asked: Asked) -> Answering<'a> {
        panic!("nobody answers {asked:?}")
    }
}

async fn open_at(store: &Store, failpoint: fn(&str)) -> Rollouts {
    let settings = Settings { wall: || Wall(1_000_000), asker: Arc::new(Nobody), events: None, failpoint };
    Rollouts::open(store.clone(), settings).await.unwrap()
}

async fn open(store: &Store) -> Rollouts {
    open_at(store, |_| {}).await
}

const NAMES: [&str; 3] = ["a", "b", "c"];

fn chain(version: &str) -> Vec<UnitMember> {
    let one = |(n, name): (usize, &&str)| UnitMember {
        entity: (*name).to_owned(),
        version: v(version),
        needs: NAMES[..n].last().map(|name| (*name).to_owned()).into_iter().collect(),
    };
    NAMES.iter().enumerate().map(one).collect()
}

/// One target, which is not well on `bad`.
async fn report(rollouts: &Rollouts, name: &str, runs: &str, bad: Option<&str>) -> String {
    let report = Report {
        target: TargetId::new("", "t").unwrap(),
        version: Some(v(runs)),
        is_error: bad == Some(runs),
        message: String::new(),
        labels: BTreeMap::new(),
        failed: bad == Some(runs),
    };
    let (_, targets) = rollouts.orchestrate(entity(name), vec![report]).await.unwrap();
    targets[0].assigned.version.as_ref().map_or(runs.to_owned(), ToString::to_string)
}

/// Each has one target, and `v1` is good.
async fn established(rollouts: &Rollouts) {
    let options = |success_percent| Options {
        batch: Amount::Percent(100),
        success_percent,
        success_timeout: Millis(0),
        duration_timeout: Millis::seconds(600),
    };
    for name in NAMES {
        rollouts.change(entity(name), Change::SetOptions(Some(options(0))), None).await.unwrap();
        rollouts.change(entity(name), Change::SetVersion(v("v1")), None).await.unwrap();
        report(rollouts, name, "v1", None).await;
        rollouts.change(entity(name), Change::SetOptions(Some(options(100))), None).await.unwrap();
    }
}

/// All do what they are told, until the unit is over. Between two turns another daemon comes, where that is
/// wanted.
async fn run(store: &Store, rollouts: &mut Rollouts, bad: Option<(&str, &str)>, dies: bool) -> UnitState {
    let mut runs = NAMES.map(|name| (name, "v1".to_owned()));
    for _ in 0..100 {
        let state = rollouts.unit(&release()).await.unwrap().unwrap();
        if state.course.is_over() {
            return state;
        }
        for (name, runs) in &mut runs {
            let bad = bad.filter(|(who, _)| who == name).map(|(_, version)| version);
            tokio::time::advance(Duration::from_secs(1)).await;
            *runs = report(rollouts, name, runs, bad).await;
        }
        // How a target is shows only what is reported to a daemon: each hears all of them once.
        if dies {
            *rollouts = open(store).await;
        }
    }
    panic!("it does not end: {:#?}", rollouts.unit(&release()).await);
}

fn words(state: &UnitState) -> Vec<MemberWord> {
    state.members.iter().map(|member| member.state).collect()
}

async fn good(rollouts: &Rollouts) -> Vec<String> {
    let mut good = Vec::new();
    for state in rollouts.rollouts(Some("prod"), None, 10).await.rollouts {
        good.push(state.good.unwrap().to_string());
    }
    good
}

#[tokio::test(start_paused = true)]
async fn a_unit_goes_forward_and_the_next_one_back_under_each_daemon_that_comes() {
    for dies in [false, true] {
        let (store, _journal) = open_memory().unwrap();
        let mut rollouts = open(&store).await;
        established(&rollouts).await;
        let begun = rollouts.start_unit(release(), chain("v2"), "ann".into()).await.unwrap();
        assert_eq!(words(&begun), [MemberWord::Forward, MemberWord::Waits, MemberWord::Waits]);
        let twice = rollouts.start_unit(release(), chain("v2"), "bob".into()).await.unwrap();
        assert_eq!((twice.by.as_str(), twice.number), ("ann", 1), "asked for twice it is the same");
        let state = run(&store, &mut rollouts, None, dies).await;
        assert_eq!((state.course, good(&rollouts).await), (UnitWord::Good, vec!["v2".to_owned(); 3]));
        // The last of the next one is bad.
        rollouts.start_unit(release(), chain("v3"), "ann".into()).await.unwrap();
        let state = run(&store, &mut rollouts, Some(("c", "v3")), dies).await;
        assert_eq!((state.course, good(&rollouts).await), (UnitWord::RolledBack, vec!["v2".to_owned(); 3]));
        assert_eq!(words(&state), [MemberWord::Back; 3]);
        assert!(state.why.unwrap().to_string().starts_with("`v3` of `c` is bad: "));
        let history: Vec<(u64, UnitWord)> =
            state.history.iter().map(|past| (past.number, past.outcome)).collect();
        assert_eq!((state.number, history), (2, vec![(1, UnitWord::Good)]));
        // What it ended with stays, whatever becomes of its members.
        rollouts.change(entity("a"), Change::SetVersion(v("v9")), None).await.unwrap();
        assert_eq!(
            words(&open(&store).await.unit(&release()).await.unwrap().unwrap()),
            [MemberWord::Back; 3]
        );
        let refused = rollouts.start_unit(release(), chain("v3"), "ann".into()).await.unwrap_err();
        assert_eq!(refused.to_string(), "a version is on its way in `a` already");
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_in_a_unit_has_no_other_version_until_it_is_over() {
    let (store, _journal) = open_memory().unwrap();
    let mut rollouts = open(&store).await;
    established(&rollouts).await;
    rollouts.start_unit(release(), chain("v2"), "ann".into()).await.unwrap();
    rollouts = open(&store).await;
    let by = || "ann".to_owned();
    for change in
        [Change::SetVersion(v("v3")), Change::ForceVersion(v("v3")), Change::Undo { by: by() }, Change::Retry]
    {
        let refused = rollouts.change(entity("b"), change, None).await.unwrap_err();
        assert_eq!(refused.to_string(), "`prod/b` is in unit `prod/release`, which is on its way");
    }
    assert!(matches!(rollouts.forget(entity("b")).await, Err(RolloutError::InUnit { .. })));
    rollouts.change(entity("b"), Change::SetVersion(v("v1")), None).await.unwrap();
    let other = rollouts.start_unit(entity("other"), chain("v4"), by()).await.unwrap_err();
    assert!(matches!(other, RolloutError::InUnit { .. }), "{other}");
    assert_eq!(rollouts.unit(&entity("other")).await.unwrap(), None, "what was refused is not there");
    assert_eq!(rollouts.units(None, None, 10).await.units.len(), 1);
    let runs = rollouts.start_unit(release(), chain("v4"), by()).await.unwrap_err();
    assert_eq!(runs.to_string(), "unit `prod/release` is on its way already");
    let abort = UnitChange::Abort { by: by(), why: "friday".into() };
    let state = rollouts.change_unit(release(), abort).await.unwrap();
    assert_eq!(
        (state.course, words(&state)[0]),
        (UnitWord::RolledBack, MemberWord::Back),
        "nobody was moved"
    );
    rollouts.change(entity("b"), Change::SetVersion(v("v3")), None).await.unwrap();
    let over = rollouts.change_unit(release(), UnitChange::Resume).await.unwrap_err();
    assert_eq!(over.to_string(), "unit `prod/release` does not go forward: it has gone back");
    let none = rollouts.change_unit(entity("none"), UnitChange::Resume).await.unwrap_err();
    assert_eq!(none.to_string(), "there is no unit `prod/none`");
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_in_the_midst_of_a_unit_does_no_harm() {
    let faults = Faults::default();
    let (store, _journal) = open_faulty(&faults).unwrap();
    let mut rollouts = open(&store).await;
    established(&rollouts).await;
    faults.full.store(true, Ordering::SeqCst);
    let failed = rollouts.start_unit(release(), chain("v2"), "ann".into()).await.unwrap_err();
    assert_eq!(failed.to_string(), "what is known of unit `prod/release` could not be stored");
    faults.full.store(false, Ordering::SeqCst);
    assert_eq!(rollouts.unit(&release()).await.unwrap(), None);
    rollouts.change(entity("b"), Change::SetVersion(v("v1")), None).await.unwrap();
    rollouts.start_unit(release(), chain("v2"), "ann".into()).await.unwrap();
    let state = run(&store, &mut rollouts, None, false).await;
    assert_eq!(state.course, UnitWord::Good);
}

#[tokio::test(start_paused = true)]
async fn of_too_many_units_those_that_are_over_make_room() {
    static KEPT: AtomicUsize = AtomicUsize::new(0);
    let (store, _journal) = open_memory().unwrap();
    let count = |point: &str| {
        if point == "unit_kept" {
            KEPT.fetch_add(1, Ordering::SeqCst);
        }
    };
    let rollouts = open_at(&store, count).await;
    for n in 0..=UNITS_MAX {
        let id = entity(&format!("unit{n}"));
        let member = UnitMember { entity: "a".into(), version: v("v1"), needs: Vec::new() };
        rollouts.start_unit(id.clone(), vec![member], "ann".into()).await.unwrap();
        let abort = UnitChange::Abort { by: "ann".into(), why: String::new() };
        let state = rollouts.change_unit(id, abort).await.unwrap();
        assert!(state.course.is_over(), "nobody was there to be moved: {state:?}");
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    assert_eq!(rollouts.units(None, None, UNITS_MAX).await.units.len(), UNITS_MAX);
    assert_eq!(rollouts.unit(&entity("unit0")).await.unwrap(), None);
    assert_eq!(open(&store).await.units(None, None, UNITS_MAX).await.units.len(), UNITS_MAX);
    assert!(KEPT.load(Ordering::SeqCst) >= 3 * UNITS_MAX, "begun, asked and over");
}

/// What is told is there at once, as nothing else is going on.
async fn next(watch: &mut UnitWatch) -> Option<UnitState> {
    tokio::time::timeout(Duration::from_secs(1), watch.next()).await.expect("something is told")
}

#[tokio::test(start_paused = true)]
async fn who_watches_a_unit_sees_what_becomes_of_it_and_of_its_members() {
    let (store, _journal) = open_memory().unwrap();
    let rollouts = open(&store).await;
    assert!(rollouts.watch_unit(&release()).await.unwrap().is_none());
    established(&rollouts).await;
    let begun = rollouts.start_unit(release(), chain("v2"), "ann".into()).await.unwrap();
    let mut watch = rollouts.watch_unit(&release()).await.unwrap().unwrap();
    assert_eq!(next(&mut watch).await, Some(begun));
    // A word of the unit.
    let paused = rollouts.change_unit(release(), UnitChange::Pause { by: "ann".into() }).await.unwrap();
    assert_eq!(next(&mut watch).await.unwrap().paused_by, paused.paused_by);
    rollouts.change_unit(release(), UnitChange::Resume).await.unwrap();
    assert_eq!(next(&mut watch).await.unwrap().paused_by, None);
    // Of a member alone, by nothing that changes the unit: v2 begins there, and then its target is on its way to it.
    for available in [1, 0] {
        report(&rollouts, "a", "v1", None).await;
        let seen = next(&mut watch).await.unwrap();
        assert_eq!(
            (seen.members[0].counts.available, seen.members[0].counts.on_the_way),
            (available, 1 - available)
        );
        assert_eq!(seen, rollouts.unit(&release()).await.unwrap().unwrap());
    }
    // What looks the same is not told.
    report(&rollouts, "a", "v1", None).await;
    let again = tokio::time::timeout(Duration::from_secs(1), watch.next()).await;
    assert!(again.is_err(), "{again:?}");
    // The last is seen, whatever lay between.
    let ended = run(&store, &mut rollouts.clone(), None, false).await;
    assert_eq!(next(&mut watch).await, Some(ended));
    // It ends with the unit: another one needs its place.
    for n in 0..UNITS_MAX {
        let member = UnitMember { entity: "a".into(), version: v("v2"), needs: Vec::new() };
        rollouts.start_unit(entity(&format!("unit{n}")), vec![member], "ann".into()).await.unwrap();
        let abort = UnitChange::Abort { by: "ann".into(), why: String::new() };
        let aborted = rollouts.change_unit(entity(&format!("unit{n}")), abort).await;
        assert!(aborted.is_err() || aborted.unwrap().course.is_over());
    }
    assert_eq!(rollouts.unit(&release()).await.unwrap(), None);
    assert_eq!(next(&mut watch).await, None);
}

/// Nobody reports its members any more: those that had not begun are free at once, and the others when it is forgotten.
#[tokio::test(start_paused = true)]
async fn a_unit_that_cannot_go_back_is_forgotten_and_lets_its_members_go() {
    let (store, _journal) = open_memory().unwrap();
    let rollouts = open(&store).await;
    established(&rollouts).await;
    rollouts.start_unit(release(), chain("v2"), "ann".into()).await.unwrap();
    report(&rollouts, "a", "v1", None).await;
    let taken = |name: &str| {
        let (rollouts, id) = (rollouts.clone(), entity(name));
        async move { rollouts.change(id, Change::SetVersion(v("v9")), None).await }
    };
    assert!(matches!(taken("c").await, Err(RolloutError::InUnit { .. })), "it is to come");
    let abort = UnitChange::Abort { by: "ann".into(), why: String::new() };
    let state = rollouts.change_unit(release(), abort).await.unwrap();
    assert_eq!((state.course, words(&state)[2]), (UnitWord::Back, MemberWord::Waits));
    taken("c").await.unwrap();
    assert!(matches!(taken("a").await, Err(RolloutError::InUnit { .. })), "it has to go back");
    // The next daemon knows the same.
    drop(rollouts);
    let rollouts = open(&store).await;
    rollouts.change(entity("b"), Change::SetVersion(v("v9")), None).await.unwrap();
    let refused = rollouts.forget(entity("a")).await;
    assert!(matches!(refused, Err(RolloutError::InUnit { .. })), "{refused:?}");
    rollouts.forget_unit(release()).await.unwrap();
    assert!(matches!(rollouts.forget_unit(release()).await, Err(RolloutError::NoSuchUnit(_))));
    assert_eq!(rollouts.unit(&release()).await.unwrap(), None);
    rollouts.change(entity("a"), Change::ForceVersion(v("v9")), None).await.unwrap();
    drop(rollouts);
    let rollouts = open(&store).await;
    assert_eq!(rollouts.unit(&release()).await.unwrap(), None);
    rollouts.start_unit(release(), vec![chain("v3").remove(0)], "ann".into()).await.unwrap_err();
    rollouts.forget(entity("a")).await.unwrap();
}
