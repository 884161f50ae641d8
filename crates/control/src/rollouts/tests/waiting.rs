//! Those who wait while controllers are asked.

use super::*;

/// What `web` is watched by answers when it is told to; one call has asked it, and so many others wait.
async fn crowd(rollouts: &Rollouts, slow: &Slow, others: usize) -> Vec<Call> {
    let reports = established(rollouts, 10, 50).await;
    rollouts.orchestrate(web(), reports.clone()).await.unwrap();
    is_watched(rollouts).await;
    let call = |reports: Vec<Report>| {
        let rollouts = rollouts.clone();
        tokio::spawn(async move { rollouts.orchestrate(web(), reports).await })
    };
    let mut calls = vec![call(reports)];
    soon(slow.asked.notified()).await;
    // Each brings a target of its own.
    calls.extend((0..others).map(|n| call(vec![report(100 + n, Some(&v("v1")))])));
    let mut changes = rollouts.changes(&web()).unwrap();
    while rollouts.targets(&web(), None).await.unwrap().len() < 10 + others {
        soon(changes.changed()).await.unwrap();
    }
    calls
}

type Call = tokio::task::JoinHandle<Result<(RolloutState, Vec<TargetState>), RolloutError>>;

#[tokio::test]
async fn however_many_wait_for_a_controller_it_is_asked_once_more() {
    let (store, _journal) = open_memory().unwrap();
    let slow = Arc::new(Slow::default());
    let rollouts = open_with(&store, slow.clone()).await;
    let mut calls = crowd(&rollouts, &slow, 200).await;
    slow.answers.notify_one();
    let (_, targets) = soon(calls.remove(0)).await.unwrap().unwrap();
    assert_eq!(targets.len(), 210, "what was reported meanwhile counts");
    soon(slow.asked.notified()).await;
    slow.answers.notify_one();
    for call in calls {
        let (_, targets) = soon(call).await.unwrap().unwrap();
        assert_eq!((targets.len(), on(&targets, "v2")), (210, 105));
    }
    assert_eq!(slow.count.load(Ordering::SeqCst), 2);
    // What is reported after that is decided about by another.
    let handle = rollouts.clone();
    let call = tokio::spawn(async move { handle.orchestrate(web(), vec![report(900, None)]).await });
    soon(slow.asked.notified()).await;
    slow.answers.notify_one();
    soon(call).await.unwrap().unwrap();
    assert_eq!(slow.count.load(Ordering::SeqCst), 3);
}

/// Also where it comes to nothing, all who wait share that.
#[tokio::test]
async fn where_nobody_answers_all_who_wait_hear_that_at_once() {
    let (store, _journal) = open_memory().unwrap();
    let slow = Arc::new(Slow::default());
    let rollouts = open_with(&store, slow.clone()).await;
    let calls = crowd(&rollouts, &slow, 20).await;
    let nobody = |controllers: &mut Controllers| {
        *controllers = Controllers::default();
        Ok(())
    };
    rollouts.edit_controllers(web(), nobody).await.unwrap();
    rollouts.change(web(), Change::ForceVersion(v("v3")), None).await.unwrap();
    slow.answers.notify_one();
    for call in calls {
        let (state, _) = soon(call).await.unwrap().unwrap();
        assert_eq!(state.rolling, Some(v("v3")));
    }
    assert_eq!(slow.count.load(Ordering::SeqCst), 1, "nobody is to be asked any more");
}

#[tokio::test]
async fn who_ends_waits_for_no_controller_and_keeps_what_was_reported() {
    let (store, _journal) = open_memory().unwrap();
    let slow = Arc::new(Slow::default());
    let rollouts = open_with(&store, slow.clone()).await;
    let calls = crowd(&rollouts, &slow, 20).await;
    rollouts.give_up();
    for call in calls {
        assert!(matches!(soon(call).await.unwrap(), Err(RolloutError::Ends(_))));
    }
    soon(rollouts.idle()).await;
    // Nor does whoever comes now.
    let late = soon(rollouts.orchestrate(web(), vec![report(900, None)])).await;
    assert!(matches!(late, Err(RolloutError::Ends(_))));
    assert_eq!(slow.count.load(Ordering::SeqCst), 1);
    drop(rollouts);
    let targets = open(&store).await.targets(&web(), None).await.unwrap();
    assert_eq!((targets.len(), on(&targets, "v2")), (31, 0));
}
