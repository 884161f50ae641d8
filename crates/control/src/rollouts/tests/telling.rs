//! What happened, and who is told of it when a daemon dies between the store and the journal.

use std::cell::Cell;

use super::*;

thread_local! {
    /// So many times more is a head kept before the daemon dies.
    static LIVES: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// The daemon dies when a head is kept and nobody was told.
fn die(point: &str) {
    if point == "rollout_kept" {
        LIVES.set(LIVES.get() - 1);
        assert!(LIVES.get() > 0, "killed");
    }
}

async fn open_telling(store: &Store, events: &EventLog, failpoint: fn(&str)) -> Rollouts {
    let settings = Settings { wall, asker: Arc::new(Nobody), events: Some(events.clone()), failpoint };
    Rollouts::open(store.clone(), settings).await.unwrap()
}

/// All that is in the journal, once so much is.
async fn lines(events: &EventLog, count: usize) -> Vec<String> {
    let mut changes = events.changes();
    let line = |event: upbeat_model::Event| match event.kind {
        EventKind::Rollout { number, what, .. } => format!("{number}: {what}"),
        other => panic!("{other:?}"),
    };
    soon(async {
        loop {
            let (read, seen) = events.read(&EventFilter::default(), 0, 1_000).await.unwrap();
            if read.len() >= count {
                // Whoever has told it may know that a moment later.
                is_written(events, seen).await;
                return read.into_iter().map(line).collect();
            }
            changes.changed().await.unwrap();
        }
    })
    .await
}

fn paused_by(by: &str) -> Change {
    Change::Pause { by: by.to_owned() }
}

/// Something is rolled out. Returns what was told of that.
async fn begun(rollouts: &Rollouts, events: &EventLog) -> Vec<String> {
    let reports = established(rollouts, 1, 50).await;
    rollouts.orchestrate(web(), reports).await.unwrap();
    let told = lines(events, 4).await;
    assert_eq!(told[3], "4: rollout 2 from `v1` to `v2` began");
    told
}

#[tokio::test]
async fn what_a_daemon_died_with_is_told_by_the_next_and_nothing_twice() {
    let (store, journal) = open_memory().unwrap();
    let events = EventLog::open(journal.clone()).await.unwrap();
    let rollouts = open_telling(&store, &events, die).await;
    let mut told = begun(&rollouts, &events).await;
    LIVES.set(2);
    rollouts.change(web(), paused_by("ann"), None).await.unwrap();
    told.push("5: paused by ann".to_owned());
    assert_eq!(lines(&events, 5).await, told);
    let died = rollouts.change(web(), Change::Resume, Some("eve".to_owned())).await;
    assert!(matches!(died, Err(RolloutError::Failed(_))));
    drop((rollouts, events));

    let events = EventLog::open(journal.clone()).await.unwrap();
    let rollouts = open_telling(&store, &events, |_| {}).await;
    told.push("6: resumed by eve".to_owned());
    assert_eq!(lines(&events, 6).await, told);
    assert_eq!(rollouts.rollout(&web()).await.unwrap().unwrap().paused_by, None);
    // And by none of those that come after it.
    for _ in 0..3 {
        drop(open_telling(&store, &events, |_| {}).await);
    }
    let rollouts = open_telling(&store, &events, |_| {}).await;
    rollouts.change(web(), paused_by("joe"), None).await.unwrap();
    told.push("7: paused by joe".to_owned());
    assert_eq!(lines(&events, 7).await, told);
}

/// One whose task broke off goes on, as one does that could not tell what it had kept.
#[tokio::test]
async fn what_was_kept_and_not_told_is_told_when_it_is_read_again() {
    let faults = Faults::default();
    let (store, _) = open_faulty(&faults).unwrap();
    let (_, journal) = open_memory().unwrap();
    let events = EventLog::open(journal).await.unwrap();
    let rollouts = open_telling(&store, &events, die).await;
    begun(&rollouts, &events).await;
    LIVES.set(1);
    rollouts.change(web(), paused_by("ann"), None).await.unwrap_err();
    LIVES.set(usize::MAX);
    assert!(rollouts.rollout(&web()).await.unwrap().unwrap().paused_by.is_some());
    assert_eq!(lines(&events, 5).await[4..], ["5: paused by ann"]);
    faults.then_full.store(true, Ordering::SeqCst);
    faults.deny_after(0);
    rollouts.change(web(), Change::Resume, None).await.unwrap_err();
    faults.full.store(false, Ordering::SeqCst);
    rollouts.change(web(), paused_by("joe"), None).await.unwrap();
    // One that is not kept never happened.
    faults.full.store(true, Ordering::SeqCst);
    rollouts.change(web(), Change::Resume, None).await.unwrap_err();
    faults.full.store(false, Ordering::SeqCst);
    rollouts.change(web(), Change::Resume, Some("kim".to_owned())).await.unwrap();
    let told = lines(&events, 8).await;
    assert_eq!(told[4..], ["5: paused by ann", "6: resumed", "7: paused by joe", "8: resumed by kim"]);
}

/// What is in the journal does not stay in the head: that would grow with every call.
#[tokio::test]
async fn what_is_in_the_journal_is_kept_no_longer_than_until_the_next_write() {
    let (store, journal) = open_memory().unwrap();
    let events = EventLog::open(journal).await.unwrap();
    let rollouts = open_telling(&store, &events, |_| {}).await;
    begun(&rollouts, &events).await;
    let mut sizes = Vec::new();
    for n in 1..=40_usize {
        rollouts.change(web(), paused_by("ann"), None).await.unwrap();
        lines(&events, 2 * n + 3).await;
        rollouts.change(web(), Change::Resume, None).await.unwrap();
        lines(&events, 2 * n + 4).await;
        sizes.push(store.get("rollouts/0000000000/head").await.unwrap().unwrap().value.len());
    }
    // The numbers in it have more digits.
    assert!(sizes[39] < sizes[0] + 50, "{sizes:?}");
}

/// What stands in the head of the only entity of what happened.
async fn in_head(store: &Store) -> usize {
    let head = store.get("rollouts/0000000000/head").await.unwrap().unwrap();
    let head: serde_json::Value = serde_json::from_slice(&head.value).unwrap();
    head["news"].as_array().unwrap().len()
}

/// So much is in the journal, and who has told it knows.
async fn is_written(events: &EventLog, last: u64) {
    events.changes().wait_for(|now| *now >= last).await.unwrap();
}

/// Another event, of somebody else.
fn other(at: Wall) -> (Wall, EventKind) {
    let (namespace, entity) = ("prod".to_owned(), "other".to_owned());
    (at, EventKind::Rollout { namespace, entity, number: 1, what: Happened::Resumed { by: None } })
}

#[tokio::test]
async fn what_the_journal_did_not_take_is_told_again() {
    let faults = Faults::default();
    let (_, journal) = open_faulty(&faults).unwrap();
    let (store, _) = open_memory().unwrap();
    let events = EventLog::open(journal).await.unwrap();
    let rollouts = open_telling(&store, &events, |_| {}).await;
    let mut told = begun(&rollouts, &events).await;
    faults.full.store(true, Ordering::SeqCst);
    rollouts.change(web(), paused_by("ann"), None).await.unwrap();
    soon(async {
        while events.dropped() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    rollouts.change(web(), Change::Resume, None).await.unwrap();
    assert_eq!(in_head(&store).await, 2);
    soon(async {
        while events.dropped() < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    faults.full.store(false, Ordering::SeqCst);
    // Nothing happens here but that it is kept.
    rollouts.orchestrate_later(web(), vec![report(0, Some(&v("v1")))]).await.unwrap();
    told.extend(["5: paused by ann".to_owned(), "6: resumed".to_owned()]);
    assert_eq!(lines(&events, 6).await[..6], told);
}

#[tokio::test]
async fn what_finds_no_room_on_its_way_to_the_journal_is_told_when_there_is_some() {
    let (_, journal) = open_memory().unwrap();
    let events = EventLog::open(journal).await.unwrap();
    let mut outbox = outbox::Outbox::default();
    let (at, kind) = other(Wall(1));
    let mut count = 0;
    while events.add(at, None, kind.clone()).is_some() {
        count += 1;
    }
    let happened = |by: &str| Happened::Resumed { by: Some(by.to_owned()) };
    outbox.add(vec![happened("ann"), happened("joe")], Wall(2));
    outbox.tell(&web(), &events);
    outbox.settle();
    assert!(outbox.is_behind() && outbox.to_keep().0.len() == 2);
    soon(is_written(&events, count)).await;
    outbox.tell(&web(), &events);
    assert!(!outbox.is_behind());
    soon(is_written(&events, count + 2)).await;
    outbox.settle();
    assert!(outbox.to_keep().0.is_empty());
    let (last, _) = events.read(&EventFilter::default(), count, 10).await.unwrap();
    let numbers = last.into_iter().map(|event| match event.kind {
        EventKind::Rollout { number, .. } => number,
        other => panic!("{other:?}"),
    });
    assert_eq!(numbers.collect::<Vec<_>>(), [1, 2]);
}

/// Else all of it was told again by each daemon once the journal has dropped it.
#[tokio::test]
async fn what_is_in_the_journal_leaves_the_head_though_nothing_happens_any_more() {
    let (store, journal) = open_memory().unwrap();
    let events = EventLog::open(journal).await.unwrap();
    let rollouts = open_telling(&store, &events, |_| {}).await;
    begun(&rollouts, &events).await;
    soon(is_written(&events, 4)).await;
    let same = vec![report(0, Some(&v("v1")))];
    rollouts.orchestrate(web(), same.clone()).await.unwrap();
    soon(is_written(&events, 5)).await;
    assert_eq!(in_head(&store).await, 1);
    let held = rollouts.inner.room.held().0;
    let mut changes = rollouts.changes(&web()).unwrap();
    changes.mark_unchanged();
    rollouts.orchestrate(web(), same.clone()).await.unwrap();
    assert_eq!(in_head(&store).await, 0);
    assert!(rollouts.inner.room.held().0 + 256 <= held, "it took room");
    assert!(!changes.has_changed().unwrap(), "it is where it was");
    let revision = async || store.get("rollouts/0000000000/head").await.unwrap().unwrap().mod_revision;
    let before = revision().await;
    rollouts.orchestrate(web(), same).await.unwrap();
    assert_eq!(revision().await, before, "once");
}

#[tokio::test(start_paused = true)]
async fn what_is_in_the_journal_leaves_the_head_of_who_is_not_reported() {
    let (store, journal) = open_memory().unwrap();
    let events = EventLog::open(journal).await.unwrap();
    let rollouts = open_telling(&store, &events, |_| {}).await;
    let same = established(&rollouts, 1, 50).await;
    pass(600).await;
    rollouts.orchestrate_later(web(), same).await.unwrap();
    rollouts.idle().await;
    rollouts.change(web(), paused_by("ann"), None).await.unwrap();
    let count = rollouts.look(&web(), |held| held.outbox.to_keep().1).await.unwrap().unwrap();
    is_written(&events, count).await;
    pass(301).await;
    assert!(in_head(&store).await > 0);
    rollouts.sweep().await;
    assert_eq!(in_head(&store).await, 0);
    assert_eq!(rollouts.targets(&web(), None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_the_journal_has_dropped_is_not_told_as_if_it_were_new() {
    let (store, journal) = open_memory().unwrap();
    let events = EventLog::open(journal.clone()).await.unwrap();
    let rollouts = open_telling(&store, &events, |_| {}).await;
    begun(&rollouts, &events).await;
    drop(rollouts);
    let (at, kind) = other(Wall(wall().0 + 1_000));
    events.add(at, None, kind).unwrap();
    soon(is_written(&events, 5)).await;
    journal.truncate_before(5).await.unwrap();
    assert_eq!(in_head(&store).await, 1);
    drop(events);
    let events = EventLog::open(journal).await.unwrap();
    let rollouts = open_telling(&store, &events, |_| {}).await;
    rollouts.change(web(), paused_by("ann"), None).await.unwrap();
    assert_eq!(lines(&events, 2).await, ["1: resumed", "5: paused by ann"]);
    assert_eq!(events.last(), 6);
}
