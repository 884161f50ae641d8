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
            let (read, _) = events.read(&EventFilter::default(), 0, 1_000).await.unwrap();
            if read.len() >= count {
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
