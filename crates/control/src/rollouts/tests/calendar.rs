//! Windows and freezes are looked up on the clock on the wall, which steps; times are counted by the clock of rollouts,
//! which does not.

use std::sync::atomic::AtomicI64;

use upbeat_model::rollout::{Strategy, Windows};

use super::*;

/// Noon of a day, and so much later.
static LATER: AtomicI64 = AtomicI64::new(0);
const HOUR: i64 = 3_600_000;
const NOON: i64 = 1_700_049_600_000 - 1_700_049_600_000 % (24 * HOUR) + 12 * HOUR;

fn wall_of_this_test() -> Wall {
    Wall(NOON + LATER.load(Ordering::SeqCst))
}

fn step_to(later: i64) {
    LATER.store(later, Ordering::SeqCst);
}

fn closed(state: &RolloutState) -> Option<Option<Wall>> {
    let until = |reason: &Reason| match reason {
        Reason::Closed { until, .. } => Some(*until),
        _ => None,
    };
    state.reasons.iter().find_map(until)
}

#[tokio::test(start_paused = true)]
async fn nobody_is_moved_in_a_freeze_wherever_the_wall_steps_to() {
    let (store, _journal) = open_memory().unwrap();
    let settings =
        Settings { wall: wall_of_this_test, asker: Arc::new(Nobody), events: None, failpoint: |_| {} };
    let rollouts = Rollouts::open(store.clone(), settings).await.unwrap();
    let windows = format!(
        r#"{{"open":[{{"from":"12:00","to":"18:00"}}],
             "freezes":[{{"from":{},"to":{},"reason":"the launch"}}]}}"#,
        NOON,
        NOON + HOUR
    );
    let windows: Windows = serde_json::from_str(&windows).unwrap();
    let reports = established(&rollouts, 4, 50).await;
    let strategy = Strategy { windows, ..Strategy::default() };
    rollouts.change(web(), Change::SetStrategy(Some(Box::new(strategy))), None).await.unwrap();
    rollouts.orchestrate(web(), reports.clone()).await.unwrap();
    let (state, targets) = rollouts.orchestrate(web(), reports.clone()).await.unwrap();
    assert_eq!((closed(&state), on(&targets, "v2")), (Some(Some(Wall(NOON + HOUR))), 0));

    // The freeze is over.
    step_to(HOUR);
    let (state, targets) = rollouts.orchestrate(web(), reports).await.unwrap();
    assert_eq!((closed(&state), on(&targets, "v2")), (None, 2));
    let reports = obey(&targets);
    rollouts.orchestrate(web(), reports.clone()).await.unwrap();

    // Somebody sets it back: who is on the way is judged all the same, and nobody else is moved.
    step_to(HOUR / 2);
    pass(1).await;
    let (state, targets) = rollouts.orchestrate(web(), reports.clone()).await.unwrap();
    assert_eq!((state.counts.well, on(&targets, "v2")), (2, 2));
    assert_eq!(closed(&state), Some(Some(Wall(NOON + HOUR))));

    // A day ahead, after hours: it opens on the next day.
    step_to(24 * HOUR + 7 * HOUR);
    let (state, targets) = rollouts.orchestrate(web(), reports.clone()).await.unwrap();
    assert_eq!((closed(&state), on(&targets, "v2")), (Some(Some(Wall(NOON + 48 * HOUR))), 2));
    assert_eq!(state.counts.failed, 0, "a day on the wall is no time here");
    step_to(48 * HOUR);
    let (state, targets) = rollouts.orchestrate(web(), reports).await.unwrap();
    assert_eq!((closed(&state), on(&targets, "v2")), (None, 4));
}
