//! How much all entities may hold, whose that is, and who is forgotten.

use super::*;

const LIMITS: Limits = Limits { bytes: 8 << 20, entities: 12 };

async fn open_small(store: &Store) -> Rollouts {
    open_small_with(store, Arc::new(Nobody)).await
}

async fn open_small_with(store: &Store, asker: Arc<dyn Asker>) -> Rollouts {
    let settings = Settings { wall, asker, events: None, failpoint: |_| {} };
    Rollouts::open_within(store.clone(), settings, LIMITS).await.unwrap()
}

fn of(name: &str) -> EntityId {
    EntityId::new("prod", name).unwrap()
}

fn reports(range: std::ops::Range<usize>) -> Vec<Report> {
    range.map(|n| report(n, Some(&v("v1")))).collect()
}

/// Reports targets until there is no room; returns how many there are then, and what is said.
async fn fill(rollouts: &Rollouts, name: &str) -> (usize, String) {
    let mut count = 0;
    loop {
        match rollouts.orchestrate_later(of(name), reports(count..count + 500)).await {
            Ok(()) => count += 500,
            Err(refused) => {
                assert!(matches!(refused, RolloutError::NoRoom { .. }), "{refused}");
                rollouts.idle().await;
                assert_eq!(
                    rollouts.targets(&of(name), None).await.unwrap().len(),
                    count,
                    "nothing has changed"
                );
                return (count, refused.to_string());
            }
        }
    }
}

/// The same, until there is no room for a single one.
async fn fill_up(rollouts: &Rollouts, name: &str) {
    let mut count = 0;
    for step in [500, 50, 5, 1] {
        while rollouts.orchestrate_later(of(name), reports(count..count + step)).await.is_ok() {
            rollouts.idle().await;
            count += step;
        }
    }
}

/// Else a rollout would not see that its targets fail because others say much.
#[tokio::test(start_paused = true)]
async fn where_there_is_no_room_what_known_targets_say_is_heard() {
    let (store, _journal) = open_memory().unwrap();
    let rollouts = open_small(&store).await;
    let said = established(&rollouts, 10, 50).await;
    rollouts.orchestrate(web(), said.clone()).await.unwrap();
    fill_up(&rollouts, "large").await;
    let why = "x".repeat(1_024);
    let fail =
        |n: usize| Report { is_error: true, failed: true, message: why.clone(), ..report(n, Some(&v("v2"))) };
    rollouts.orchestrate(web(), vec![fail(0)]).await.unwrap();
    // Also with those for whom there is none; and both where it is decided at once and where it is later.
    let refused =
        rollouts.orchestrate(web(), vec![fail(1), report(77, None), report(78, None)]).await.unwrap_err();
    let text = refused.to_string();
    assert!(
        text.starts_with(
            "2 new targets of rollout `prod/web`, and new labels of 0 that are known, were not taken, and all else is \
             kept: there is no room for more of rollout `prod/web`"
        ),
        "{text}"
    );
    let labels: BTreeMap<_, _> = (0..64).map(|n| (format!("k{n}"), "x".repeat(60))).collect();
    let labelled = Report { labels, ..fail(2) };
    let refused =
        rollouts.orchestrate_later(web(), vec![labelled, fail(3), report(77, None)]).await.unwrap_err();
    assert!(matches!(refused, RolloutError::NotTaken { new: 1, labels: 1, .. }), "{refused}");
    rollouts.idle().await;
    let targets = rollouts.targets(&web(), None).await.unwrap();
    assert_eq!(targets.len(), 10);
    for target in &targets[..4] {
        assert!(
            target.current.is_error && target.current.message == why && target.labels.is_empty(),
            "{target:?}"
        );
    }
    let state = rollouts.rollout(&web()).await.unwrap().unwrap();
    assert_eq!((state.bad, state.course), (Some(v("v2")), CourseWord::Back), "it was decided about that");
    let only_new = rollouts.orchestrate(web(), vec![report(77, None)]).await.unwrap_err();
    assert!(matches!(only_new, RolloutError::NoRoom { .. }), "{only_new}");
}

/// Also of the share of who came without a token, if it is theirs.
#[tokio::test(start_paused = true)]
async fn where_there_is_no_room_for_who_is_selected_all_else_that_was_decided_stands() {
    let (store, _journal) = open_memory().unwrap();
    let rollouts = open_small_with(&store, Arc::new(Maker(AtomicBool::new(false)))).await;
    let listener = rollouts.with_share(Share::Listener);
    let said = established(&listener, 4, 50).await;
    listener.orchestrate(web(), said.clone()).await.unwrap();
    fill_up(&listener, "theirs").await;
    let asks = |controllers: &mut Controllers| {
        controllers.selection = Some(Controller::Program);
        controllers.approval = Some(Controller::Program);
        Ok(())
    };
    rollouts.edit_controllers(web(), asks).await.unwrap();
    let (state, targets) = rollouts.orchestrate(web(), said).await.unwrap();
    let no_room = |reason: &&Reason| matches!(reason, Reason::NoRoom { refused: 1, .. });
    let said = state.reasons.iter().find(no_room).unwrap().to_string();
    let words = "1 new targets were not taken: there is no room for more of rollout `prod/web`: \
        those of who comes without a token take about ";
    assert!(said.starts_with(words), "{said}");
    assert_eq!((targets.len(), on(&targets, "v2")), (4, 0));
    // As soon as there is room, it is made.
    rollouts.forget(of("theirs")).await.unwrap();
    let (state, targets) = rollouts.orchestrate(web(), vec![]).await.unwrap();
    assert!(!state.reasons.iter().any(|reason| no_room(&reason)), "{:?}", state.reasons);
    assert_eq!((targets.len(), on(&targets, "v2")), (5, 1));
}

#[tokio::test(start_paused = true)]
async fn all_entities_together_hold_so_much_and_who_holds_most_is_said() {
    let (store, _journal) = open_memory().unwrap();
    let rollouts = open_small(&store).await;
    rollouts.orchestrate_later(of("small"), reports(0..500)).await.unwrap();
    let (count, said) = fill(&rollouts, "large").await;
    assert_eq!(
        said,
        "there is no room for more of rollout `prod/large`: all rollouts together take about 8 MiB, and 8 fit; \
         `prod/large` takes most of that, 8 MiB"
    );
    assert!((5_000..20_000).contains(&count), "{count}");
    // Who is known already is heard.
    rollouts.orchestrate_later(of("large"), reports(0..count)).await.unwrap();
    let all = reports(500..1_000);
    rollouts.orchestrate_later(of("small"), all.clone()).await.unwrap_err();
    assert!(rollouts.change(of("new"), Change::SetVersion(v("v1")), None).await.is_ok());
    rollouts.idle().await;
    let held = rollouts.inner.room.held();
    assert_eq!(open_small(&store).await.inner.room.held(), held, "it is the same to who reads it");
    rollouts.forget(of("large")).await.unwrap();
    rollouts.orchestrate_later(of("small"), all).await.unwrap();
    for name in ["small", "new"] {
        rollouts.idle().await;
        rollouts.forget(of(name)).await.unwrap();
    }
    assert_eq!(rollouts.inner.room.held(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_comes_without_a_token_fills_only_a_share() {
    let (store, _journal) = open_memory().unwrap();
    let rollouts = open_small(&store).await;
    let listener = rollouts.with_share(Share::Listener);
    rollouts.orchestrate_later(of("ours"), reports(0..500)).await.unwrap();
    let (count, said) = fill(&listener, "theirs").await;
    assert_eq!(
        said,
        "there is no room for more of rollout `prod/theirs`: those of who comes without a token take about 2 MiB, \
         and 2 fit; `prod/theirs` takes most of that, 2 MiB"
    );
    // Nor does it help to make one larger that is not theirs.
    assert!(listener.orchestrate_later(of("ours"), reports(500..3_000)).await.is_err());
    listener.orchestrate_later(of("ours"), reports(0..500)).await.unwrap();
    // They are theirs under the next daemon, too.
    rollouts.idle().await;
    drop((rollouts, listener));
    let rollouts = open_small(&store).await;
    let listener = rollouts.with_share(Share::Listener);
    assert!(listener.orchestrate_later(of("theirs"), reports(count..count + 500)).await.is_err());
    rollouts.orchestrate_later(of("ours"), reports(0..3_000)).await.unwrap();
    listener.forget(of("theirs")).await.unwrap();
    for n in 0..3 {
        listener.change(of(&format!("e{n}")), Change::SetVersion(v("v1")), None).await.unwrap();
    }
    let refused = listener.change(of("e3"), Change::SetVersion(v("v1")), None).await.unwrap_err();
    assert!(matches!(refused, RolloutError::TooManyOfListener { max: 3 }), "{refused}");
    assert_eq!(rollouts.rollout(&of("e3")).await.unwrap(), None);
    rollouts.change(of("e3"), Change::SetVersion(v("v1")), None).await.unwrap();
}

/// The last write of anything.
async fn written(store: &Store) -> Option<u64> {
    store.all("rollouts/").await.unwrap().into_iter().map(|kv| kv.mod_revision).max()
}

#[tokio::test(start_paused = true)]
async fn who_is_reported_no_more_is_forgotten_though_nobody_says_anything() {
    let (store, _journal) = open_memory().unwrap();
    let rollouts = open(&store).await;
    established(&rollouts, 500, 50).await;
    let held = rollouts.inner.room.held().0;
    let count = async || rollouts.targets(&web(), None).await.unwrap().len();
    pass(900).await;
    rollouts.sweep().await;
    assert_eq!(count().await, 500);
    pass(1).await;
    rollouts.sweep().await;
    assert_eq!(count().await, 500, "it was looked just now");
    pass(60).await;
    rollouts.sweep().await;
    assert_eq!(count().await, 0);
    let state = rollouts.rollout(&web()).await.unwrap().unwrap();
    assert_eq!((state.good, state.target), (Some(v("v1")), Some(v("v2"))), "the entity is there");
    assert!(rollouts.inner.room.held().0 < held / 4);
    // Nothing is written for nobody.
    let before = written(&store).await;
    for _ in 0..100 {
        pass(900).await;
        assert!(rollouts.is_time_to_sweep());
        rollouts.sweep().await;
    }
    assert_eq!(written(&store).await, before);
    // One of three is there for longer.
    rollouts.orchestrate(web(), reports(0..3)).await.unwrap();
    pass(600).await;
    rollouts.orchestrate(web(), reports(0..1)).await.unwrap();
    for (seconds, there) in [(301, 1), (500, 1), (2, 0)] {
        pass(seconds).await;
        rollouts.sweep().await;
        assert_eq!(count().await, there);
        pass(60).await;
    }
}

/// Who is asleep is woken by the first target, also under a daemon that finds them: these have their time from
/// when it listens.
#[tokio::test(start_paused = true)]
async fn whoever_sweeps_sleeps_until_somebody_may_be_forgotten() {
    let (store, _journal) = open_memory().unwrap();
    for is_found in [false, true] {
        let rollouts = match is_found {
            true => {
                established(&open(&store).await, 5, 50).await;
                open(&store).await
            }
            false => open(&store).await,
        };
        let sweeper = tokio::spawn(rollouts.sweeps());
        if !is_found {
            pass(86_400).await;
            established(&rollouts, 5, 50).await;
        }
        let mut changes = rollouts.changes(&web()).unwrap();
        let begun = tokio::time::Instant::now();
        while !rollouts.targets(&web(), None).await.unwrap().is_empty() {
            changes.changed().await.unwrap();
        }
        assert!(begun.elapsed() < Duration::from_secs(1_000), "{:?}", begun.elapsed());
        rollouts.idle().await;
        rollouts.forget(web()).await.unwrap();
        drop(rollouts);
        sweeper.await.unwrap();
    }
}
