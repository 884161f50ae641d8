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

/// Removes when it is told to: at first more than it was asked for, and one that is not old; then nobody.
/// Nobody is there to select.
#[derive(Default)]
struct Remover {
    asked: Notify,
    answers: Notify,
    questions: Mutex<Vec<(Vec<TargetId>, usize)>>,
}

impl Asker for Remover {
    fn ask<'a>(&'a self, _: &'a EntityId, _: &'a Controllers, asked: Asked) -> Answering<'a> {
        let Asked::Removal(old, count) = asked else { panic!("{asked:?}") };
        let old: Vec<TargetId> = old.into_iter().map(|report| report.target).collect();
        let mut questions = self.questions.lock().unwrap();
        let gone = if questions.is_empty() { [&[id(0)], &old[..=count]].concat() } else { Vec::new() };
        questions.push((old, count));
        drop(questions);
        self.asked.notify_one();
        Box::pin(async {
            self.answers.notified().await;
            Answer::Removal(Ok(gone))
        })
    }

    fn try_ask<'a>(&'a self, id: &'a EntityId, controllers: &'a Controllers, asked: Asked) -> Trying<'a> {
        if let Asked::Selection(..) = asked {
            return Box::pin(async { Err("nobody is there".to_owned()) });
        }
        let answer = self.ask(id, controllers, asked);
        Box::pin(async { Ok(answer.await) })
    }
}

/// Ten targets, of which two are well on `v2`: as many of the others may be removed.
async fn two_are_well(rollouts: &Rollouts, is_selected: bool) -> Vec<Report> {
    let mut reports = established(rollouts, 10, 20).await;
    for _ in 0..2 {
        let (_, targets) = rollouts.orchestrate(web(), reports).await.unwrap();
        reports = obey(&targets);
    }
    rollouts.orchestrate(web(), reports.clone()).await.unwrap();
    pass(3).await;
    let asks = move |controllers: &mut Controllers| {
        controllers.removal = Some(Controller::Program);
        controllers.selection = is_selected.then_some(Controller::Program);
        Ok(())
    };
    rollouts.edit_controllers(web(), asks).await.unwrap();
    reports
}

async fn ids(rollouts: &Rollouts) -> Vec<TargetId> {
    rollouts.targets(&web(), None).await.unwrap().into_iter().map(|target| target.id).collect()
}

#[tokio::test(start_paused = true)]
async fn what_was_removed_is_gone_though_the_version_changed_before_that_was_answered() {
    let (store, _journal) = open_memory().unwrap();
    let remover = Arc::new(Remover::default());
    let rollouts = open_with(&store, remover.clone()).await;
    let reports = two_are_well(&rollouts, false).await;
    let all = ids(&rollouts).await;
    let handle = rollouts.clone();
    let call = tokio::spawn(async move { handle.orchestrate(web(), reports).await });
    remover.asked.notified().await;
    rollouts.change(web(), Change::ForceVersion(v("v3")), None).await.unwrap();
    remover.answers.notify_one();
    // It is asked again, for the version that is in force now, of those that are there by then.
    remover.asked.notified().await;
    let gone = {
        let questions = remover.questions.lock().unwrap();
        let [(old, count), (left, _)] = &questions[..] else { panic!("{questions:?}") };
        assert!(*count > 0 && !left.iter().any(|id| old[..*count].contains(id)), "{questions:?}");
        old[..*count].to_vec()
    };
    remover.answers.notify_one();
    call.await.unwrap().unwrap();
    let left: Vec<TargetId> = all.into_iter().filter(|id| !gone.contains(id)).collect();
    assert_eq!(ids(&rollouts).await, left, "no more than it was asked for");
    drop(rollouts);
    assert_eq!(ids(&open(&store).await).await, left);
}

#[tokio::test(start_paused = true)]
async fn what_was_removed_is_gone_though_nobody_answers_what_was_asked_next() {
    let (store, _journal) = open_memory().unwrap();
    let remover = Arc::new(Remover::default());
    let rollouts = open_with(&store, remover.clone()).await;
    let reports = two_are_well(&rollouts, true).await;
    let all = ids(&rollouts).await;
    remover.answers.notify_one();
    let refused = rollouts.orchestrate(web(), reports).await.unwrap_err();
    assert!(matches!(refused, RolloutError::Unanswered { .. }), "{refused}");
    let (old, count) = remover.questions.lock().unwrap()[0].clone();
    let left: Vec<TargetId> = all.into_iter().filter(|id| !old[..count].contains(id)).collect();
    assert_eq!(ids(&rollouts).await, left);
    drop(rollouts);
    assert_eq!(ids(&open(&store).await).await, left);
}

/// It is asked for two; before it answers, one of those that were well is not any more, so none would be to go.
#[tokio::test(start_paused = true)]
async fn what_was_removed_is_gone_though_fewer_were_to_go_by_the_time_it_was_answered() {
    let (store, _journal) = open_memory().unwrap();
    let remover = Arc::new(Remover::default());
    let rollouts = open_with(&store, remover.clone()).await;
    let reports = two_are_well(&rollouts, false).await;
    let all = ids(&rollouts).await;
    let (handle, said) = (rollouts.clone(), reports.clone());
    let call = tokio::spawn(async move { handle.orchestrate(web(), said).await });
    remover.asked.notified().await;
    let unwell: Vec<Report> = reports
        .into_iter()
        .filter(|report| report.version == Some(v("v2")))
        .map(|report| Report { is_error: true, ..report })
        .collect();
    assert_eq!(unwell.len(), 2);
    rollouts.orchestrate_later(web(), unwell).await.unwrap();
    remover.answers.notify_one();
    let (_, targets) = call.await.unwrap().unwrap();
    let (old, count) = remover.questions.lock().unwrap()[0].clone();
    assert!(count > 0);
    let left: Vec<TargetId> = all.into_iter().filter(|id| !old[..count].contains(id)).collect();
    assert_eq!(targets.into_iter().map(|target| target.id).collect::<Vec<_>>(), left);
    rollouts.idle().await;
    drop(rollouts);
    assert_eq!(ids(&open(&store).await).await, left);
}

/// Somebody wants it decided while one that was wanted has its turn, and is not there yet: the next report is decided
/// all the same.
#[tokio::test(start_paused = true)]
async fn what_is_reported_for_later_is_decided_whoever_else_is_about_to() {
    let (store, _journal) = open_memory().unwrap();
    let rollouts = open(&store).await;
    let reports = established(&rollouts, 4, 50).await;
    rollouts.orchestrate(web(), reports.clone()).await.unwrap();
    let (_, targets) = rollouts.orchestrate(web(), reports).await.unwrap();
    assert_eq!(on(&targets, "v2"), 2);
    let inner = &rollouts.inner;
    let entity = inner.entities().all[&web()].clone();
    let held = inner.hold(&entity).await.unwrap();
    let wanted = entity.begun.load(Ordering::Acquire) + 1;
    inner.decide_later(entity.clone(), wanted);
    while entity.turn.try_lock().is_ok() {
        tokio::task::yield_now().await;
    }
    inner.decide_later(entity.clone(), wanted);
    drop((held, entity));
    rollouts.idle().await;
    rollouts.orchestrate_later(web(), obey(&targets)).await.unwrap();
    rollouts.idle().await;
    pass(1).await;
    rollouts.orchestrate_later(web(), obey(&targets)).await.unwrap();
    rollouts.idle().await;
    assert_eq!(on(&rollouts.targets(&web(), None).await.unwrap(), "v2"), 4);
}

/// What waits to be taken down keeps its room until then, whoever waits for it.
#[tokio::test(start_paused = true)]
async fn room_is_held_until_what_was_reported_is_taken_down() {
    let (store, _journal) = open_memory().unwrap();
    let rollouts = open(&store).await;
    let reports = established(&rollouts, 4, 50).await;
    let entity = rollouts.inner.entities().all[&web()].clone();
    let held = rollouts.inner.hold(&entity).await.unwrap();
    let room = Arc::new(());
    let with_room = || Reported { reports: reports.clone(), room: Box::new(room.clone()) };
    for _ in 0..3 {
        let mut call = std::pin::pin!(rollouts.decide(web(), with_room()));
        // Somebody who hangs up.
        tokio::select! {
            biased;
            decided = &mut call => panic!("{decided:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(Arc::strong_count(&room), 4);
    drop((held, entity));
    rollouts.idle().await;
    assert_eq!(Arc::strong_count(&room), 1);
}
