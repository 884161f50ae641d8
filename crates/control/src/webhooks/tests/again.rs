//! What comes again and is not to be told again: a webhook of a name whose settings were changed, and an event that
//! is in the journal twice.

use super::*;

fn sequences(heard: &[Heard]) -> Vec<u64> {
    heard.iter().map(|one| one.body["sequence"].as_u64().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn one_that_wants_other_events_is_told_nothing_of_what_is_past() {
    let house = House::new().await;
    let webhooks = house.one().await;
    house.happens_besides(10).await;
    idle(&webhooks).await;
    drop(webhooks);
    let both = [EventWord::Rollout, EventWord::OperationEnded];
    let mut changed = webhook("ci", &both);
    for step in 1..=4 {
        match step {
            1 => {}
            2 => changed.wanted.namespaces = vec!["prod".into(), "test".into()],
            3 => changed.wanted.apps = vec!["shop".parse().unwrap()],
            // What was a namespace is an app.
            _ => {
                changed.wanted.namespaces = vec!["prod".into()];
                changed.wanted.apps = vec!["shop".parse().unwrap(), "test".parse().unwrap()];
            }
        }
        // While no daemon is there.
        house.happens_besides(1).await;
        let webhooks = house.open(vec![changed.clone()]).await;
        house.happens_besides(1).await;
        idle(&webhooks).await;
        let expected: Vec<u64> = (1..=step).map(|step| 10 + 2 * step).collect();
        assert_eq!(sequences(&house.receiver.all()), expected);
    }
    // In another order they are the same, and it goes on.
    house.happens_besides(1).await;
    changed.wanted.kinds.reverse();
    changed.wanted.apps.reverse();
    let webhooks = house.open(vec![changed]).await;
    idle(&webhooks).await;
    assert_eq!(sequences(&house.receiver.all()), [12, 14, 16, 18, 19]);
}

#[tokio::test(start_paused = true)]
async fn a_kind_of_events_that_a_later_version_adds_to_a_family_is_no_other_wish() {
    let house = House::new().await;
    let mut family = webhook("ci", &[EventWord::OperationEnded]);
    family.wanted.words = ["operation".to_owned()].into();
    let webhooks = house.open(vec![family.clone()]).await;
    house.happens_besides(2).await;
    idle(&webhooks).await;
    drop(webhooks);
    house.happens_besides(1).await;
    // As the next version knows the family.
    family.wanted.kinds.push(EventWord::OperationStarted);
    let webhooks = house.open(vec![family.clone()]).await;
    idle(&webhooks).await;
    assert_eq!(sequences(&house.receiver.all()), [1, 2, 3], "it goes on");
    drop(webhooks);
    // The same kinds, said otherwise: who writes that may mean something else.
    house.happens_besides(1).await;
    family.wanted.words = ["operation_started".to_owned(), "operation_ended".to_owned()].into();
    let webhooks = house.open(vec![family]).await;
    idle(&webhooks).await;
    assert_eq!(sequences(&house.receiver.all()), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn what_waited_for_one_receiver_is_not_posted_to_another() {
    let house = House::new().await;
    let mut one = webhook("ci", &[EventWord::Rollout]);
    let webhooks = house.open(vec![one.clone()]).await;
    house.happen(1).await;
    idle(&webhooks).await;
    house.receiver.will(Does::Refuses);
    house.happen(3).await;
    until(&webhooks, |state| state.failures > 0).await;
    drop(webhooks);
    house.receiver.will(Does::Answers(200));
    one.url = "https://another.example/hush".into();
    let webhooks = house.open(vec![one.clone()]).await;
    let state = idle(&webhooks).await;
    assert_eq!((state.last_delivered, state.lost), (None, None), "it was told nothing");
    drop(webhooks);
    // What is kept is for it from then on: the next daemon goes on, also with what is told meanwhile.
    house.happen(1).await;
    let webhooks = house.open(vec![one]).await;
    let state = idle(&webhooks).await;
    assert_eq!(state.last_delivered, Some(5));
    let heard = house.receiver.all();
    assert_eq!(sequences(&heard), [1, 5]);
    assert_eq!(heard[1].to, "https://another.example/hush");
    let kept = house.store.get("webhook/ci").await.unwrap().unwrap().value;
    assert!(!String::from_utf8_lossy(&kept).contains("example"), "no address is kept");
}

#[tokio::test(start_paused = true)]
async fn how_far_one_came_that_was_kept_without_its_settings_is_taken_as_it_is() {
    let house = House::new().await;
    let webhooks = house.one().await;
    house.happen(1).await;
    idle(&webhooks).await;
    drop(webhooks);
    let kept = house.store.get("webhook/ci").await.unwrap().unwrap().value;
    let mut kept: Value = serde_json::from_slice(&kept).unwrap();
    assert!(kept.as_object_mut().unwrap().remove("aim").is_some_and(|aim| aim.is_string()));
    let kept = serde_json::to_vec(&kept).unwrap();
    house.store.write(vec![Op::put("webhook/ci", kept)]).await.unwrap();
    house.happen(2).await;
    house.receiver.will(Does::Refuses);
    let webhooks = house.one().await;
    let kept = house.store.get("webhook/ci").await.unwrap().unwrap().value;
    assert!(String::from_utf8_lossy(&kept).contains("\"aim\":\""), "from the start on, whatever is taken");
    drop(webhooks);
    house.receiver.will(Does::Answers(200));
    let webhooks = house.one().await;
    let state = idle(&webhooks).await;
    assert_eq!((house.receiver.numbers(), state.last_delivered), (vec![1, 2, 3], Some(3)));
    drop(webhooks);
    // Once is enough: then it is known.
    house.happen(1).await;
    let all = webhook("ci", &EventWord::ALL);
    idle(&house.open(vec![all]).await).await;
    assert_eq!(house.receiver.numbers(), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_rollouts_event_that_is_in_the_journal_twice_is_told_as_the_same() {
    let house = House::new().await;
    let webhooks = house.one().await;
    let event = |namespace: &str, entity: &str, number: u64| {
        let what = Happened::Paused { by: "ann".into() };
        EventKind::Rollout { namespace: namespace.into(), entity: entity.into(), number, what }
    };
    house.happens(event("prod", "web", 7)).await;
    idle(&webhooks).await;
    drop(webhooks);
    // A daemon takes over that does not know that it was told.
    let webhooks = house.one().await;
    house.happens(event("prod", "web", 7)).await;
    for other in [event("prod", "web", 8), event("prod", "api", 7), event("test", "web", 7)] {
        house.happens(other).await;
    }
    house.happens(event("prodw", "eb", 7)).await;
    // Of an entity that was removed and made again; and of a daemon that gave no numbers yet.
    house.events.add(Wall(6), None, event("prod", "web", 7));
    house.receiver.until(|heard| heard.len() == 7).await;
    for _ in 0..2 {
        house.happens(event("prod", "web", 0)).await;
    }
    idle(&webhooks).await;
    let ids: Vec<String> = house.receiver.all().into_iter().map(|heard| heard.id).collect();
    assert_eq!(house.receiver.numbers(), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(ids[0], ids[1]);
    for (index, id) in ids.iter().enumerate().skip(1) {
        assert!(!ids[index + 1..].contains(id), "{id} is two events: {ids:?}");
        assert!(id.len() < 100 && !id.contains("web"), "{id}");
    }
}

#[test]
fn its_address_is_not_shown() {
    assert!(!format!("{:?}", webhook("ci", &[])).contains("hush"));
}

#[tokio::test]
async fn those_that_wait_are_counted_up_to_a_bound() {
    let house = House::new().await;
    house.happens_besides(5_000).await;
    let all = house.events.waiting(0, |_| true).await.unwrap();
    assert!(all.1 && (2_000..2_100).contains(&all.0), "{all:?}");
    assert_eq!(house.events.waiting(0, |_| false).await.unwrap(), (0, true));
    assert_eq!(house.events.waiting(4_990, |_| true).await.unwrap(), (10, false));
}
