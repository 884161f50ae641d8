//! Entities on a store: kept, read again, killed in between, asked by many at once.

mod aside;
mod calendar;
mod dying;
pub(super) mod lists;
mod rooms;
mod sizes;
mod telling;
mod waiting;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use proptest::prelude::*;
use tokio::sync::Notify;
use upbeat_decide::rollout::Answer;
use upbeat_model::event::EventKind;
use upbeat_model::rollout::{
    Amount, Controller, CourseWord, Happened, HeldState, Options, Reason, RolloutsPage, TargetId, Version,
};
use upbeat_model::{EventFilter, Millis};
use upbeat_store::faults::{Faults, open_faulty};
use upbeat_store::open_memory;

use super::*;

fn v(text: &str) -> Version {
    Version::new(text).unwrap()
}

fn web() -> EntityId {
    EntityId::new("prod", "web").unwrap()
}

fn id(n: usize) -> TargetId {
    TargetId::new("", &format!("t{n:06}")).unwrap()
}

fn report(n: usize, version: Option<&Version>) -> Report {
    let (version, labels) = (version.cloned(), BTreeMap::new());
    Report { target: id(n), version, is_error: false, message: "well".into(), labels, failed: false }
}

/// Batches of this percentage, and a target is well when it has been for longer than no second at all.
fn options(batch: u32) -> Options {
    Options {
        batch: Amount::Percent(batch),
        success_timeout: Millis(0),
        duration_timeout: Millis::seconds(60),
        ..Options::default()
    }
}

/// Nobody is asked.
struct Nobody;

impl Asker for Nobody {
    fn ask<'a>(&'a self, _: &'a EntityId, _: &'a Controllers, asked: Asked) -> Answering<'a> {
        panic!("nobody answers {asked:?}")
    }
}

/// A clock on the wall that never steps, whatever runtime asks.
fn wall() -> Wall {
    static BEGUN: OnceLock<tokio::time::Instant> = OnceLock::new();
    let now = tokio::time::Instant::now();
    let begun = *BEGUN.get_or_init(|| now);
    let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap();
    Wall(
        1_000_000_000 + millis(now.saturating_duration_since(begun))
            - millis(begun.saturating_duration_since(now)),
    )
}

async fn open_with(store: &Store, asker: Arc<dyn Asker>) -> Rollouts {
    let settings = Settings { wall, asker, events: None, failpoint: |_| {} };
    Rollouts::open(store.clone(), settings).await.unwrap()
}

async fn open(store: &Store) -> Rollouts {
    open_with(store, Arc::new(Nobody)).await
}

/// So many targets run `v1`, which is good; `v2` was asked for.
async fn established(rollouts: &Rollouts, count: usize, batch: u32) -> Vec<Report> {
    let declared = Options { batch: Amount::Percent(100), success_percent: 0, ..options(100) };
    rollouts.change(web(), Change::SetOptions(Some(declared)), None).await.unwrap();
    rollouts.change(web(), Change::SetVersion(v("v1")), None).await.unwrap();
    let reports: Vec<Report> = (0..count).map(|n| report(n, Some(&v("v1")))).collect();
    let (state, _) = rollouts.orchestrate(web(), reports.clone()).await.unwrap();
    assert_eq!(state.good, Some(v("v1")));
    rollouts.change(web(), Change::SetOptions(Some(options(batch))), None).await.unwrap();
    rollouts.change(web(), Change::SetVersion(v("v2")), None).await.unwrap();
    reports
}

/// Everybody does what they shall.
fn obey(targets: &[TargetState]) -> Vec<Report> {
    let reports = targets.iter().map(|target| Report {
        target: target.id.clone(),
        version: target.assigned.version.clone(),
        is_error: false,
        message: String::new(),
        labels: BTreeMap::new(),
        failed: false,
    });
    reports.collect()
}

fn on(targets: &[TargetState], version: &str) -> usize {
    targets.iter().filter(|target| target.assigned.version == Some(v(version))).count()
}

async fn pass(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_rollout_goes_on_under_each_daemon_that_comes() {
    let (store, _journal) = open_memory().unwrap();
    let mut rollouts = open(&store).await;
    let mut reports = established(&rollouts, 10, 10).await;
    let mut moved = Vec::new();
    for _ in 0..24 {
        let (_, targets) = rollouts.orchestrate(web(), reports).await.unwrap();
        moved.push(on(&targets, "v2"));
        reports = obey(&targets);
        rollouts = open(&store).await;
        let read = rollouts.targets(&web(), None).await.unwrap();
        // That somebody was seen again is nothing to write down.
        let seen = targets.iter().map(|target| target.seen);
        let read = read.into_iter().zip(seen).map(|(target, seen)| TargetState { seen, ..target });
        assert_eq!(read.collect::<Vec<_>>(), targets, "nothing is lost");
        pass(1).await;
    }
    assert!(moved.is_sorted_by(|before, now| before <= now && now - before <= 1), "{moved:?}");
    let state = rollouts.rollout(&web()).await.unwrap().unwrap();
    assert_eq!((state.course, state.good, state.counts.total), (CourseWord::Steady, Some(v("v2")), 10));
    assert_eq!(rollouts.namespaces().into_iter().collect::<Vec<_>>(), ["prod"]);
    rollouts.forget(web()).await.unwrap();
    assert!(matches!(rollouts.forget(web()).await, Err(RolloutError::NoSuchEntity(_))));
    assert_eq!(rollouts.rollout(&web()).await.unwrap(), None);
    let left: Vec<String> = store.all("").await.unwrap().into_iter().map(|kv| kv.key).collect();
    assert_eq!(left, ["rollouts/clock"]);
}

/// A daemon that is not there hears nobody: that is no fault of those who were on their way.
#[tokio::test(start_paused = true)]
async fn time_without_a_daemon_is_not_held_against_anybody() {
    let (store, _journal) = open_memory().unwrap();
    let rollouts = open(&store).await;
    let reports = established(&rollouts, 3, 50).await;
    rollouts.orchestrate(web(), reports.clone()).await.unwrap();
    let (_, targets) = rollouts.orchestrate(web(), reports).await.unwrap();
    assert_eq!(on(&targets, "v2"), 1);
    drop(rollouts);
    pass(3_600).await;
    let rollouts = open(&store).await;
    let (state, targets) = rollouts.orchestrate(web(), obey(&targets)).await.unwrap();
    assert_eq!((state.course, state.bad, on(&targets, "v2")), (CourseWord::Forward, None, 1));
    pass(2).await;
    let (_, targets) = rollouts.orchestrate(web(), obey(&targets)).await.unwrap();
    assert_eq!(on(&targets, "v2"), 2, "it is well, and the next one goes");
}

#[tokio::test(start_paused = true)]
async fn what_is_looked_at_or_refused_makes_nothing() {
    let (store, _journal) = open_memory().unwrap();
    let rollouts = open(&store).await;
    assert_eq!(rollouts.rollout(&web()).await.unwrap(), None);
    assert_eq!(rollouts.targets(&web(), None).await.unwrap(), []);
    assert!(rollouts.changes(&web()).is_none());
    let refused = rollouts.change(web(), Change::Resume, None).await.unwrap_err();
    assert_eq!(refused.to_string(), "it is not paused");
    let options = Options { success_percent: 101, ..options(5) };
    let refused = rollouts.change(web(), Change::SetOptions(Some(options)), None).await.unwrap_err();
    assert_eq!(refused.to_string(), "`success_percent` must be between 0 and 100");
    assert_eq!(rollouts.rollouts(None, None, 10).await, RolloutsPage::default());
    assert!(rollouts.namespaces().is_empty());
    // What was reported is known though nobody has said yet which version there shall be.
    let nothing = rollouts.orchestrate(web(), vec![report(1, None)]).await.unwrap_err();
    assert!(nothing.to_string().starts_with("empty target version"), "{nothing}");
    assert_eq!(rollouts.targets(&web(), Some("")).await.unwrap().len(), 1);
    assert_eq!(rollouts.targets(&web(), Some("g")).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn what_the_disk_did_not_take_is_neither_told_nor_remembered() {
    let faults = Faults::default();
    let (store, _journal) = open_faulty(&faults).unwrap();
    let rollouts = open(&store).await;
    let reports = established(&rollouts, 10, 50).await;
    rollouts.orchestrate(web(), reports.clone()).await.unwrap();
    let before = rollouts.targets(&web(), None).await.unwrap();
    faults.full.store(true, Ordering::SeqCst);
    let failed = rollouts.orchestrate(web(), reports.clone()).await.unwrap_err();
    assert_eq!(failed.to_string(), "what is known of rollout `prod/web` could not be stored");
    // While the file cannot be read, nobody can tell what it holds.
    assert!(matches!(rollouts.targets(&web(), None).await, Err(RolloutError::Store { .. })));
    faults.full.store(false, Ordering::SeqCst);
    assert_eq!(rollouts.targets(&web(), None).await.unwrap(), before);
    // It takes it, says that it has not, and cannot be read: nobody is told, and it is in force all the same.
    faults.then_full.store(true, Ordering::SeqCst);
    faults.deny_after(0);
    rollouts.orchestrate(web(), reports.clone()).await.unwrap_err();
    faults.full.store(false, Ordering::SeqCst);
    let targets = rollouts.targets(&web(), None).await.unwrap();
    assert_eq!(on(&targets, "v2"), 5);
    assert_eq!(open(&store).await.targets(&web(), None).await.unwrap(), targets);
}

/// One that was never kept takes no place, and one of which that is not known is found again.
#[tokio::test]
async fn a_name_whose_first_word_was_not_kept_is_free() {
    let faults = Faults::default();
    let (store, _journal) = open_faulty(&faults).unwrap();
    let rollouts = open(&store).await;
    assert!(rollouts.orchestrate(web(), Vec::new()).await.is_err());
    rollouts.orchestrate_later(web(), Vec::new()).await.unwrap();
    assert!(rollouts.namespaces().is_empty(), "nobody said anything of it");
    faults.full.store(true, Ordering::SeqCst);
    rollouts.change(web(), Change::SetVersion(v("v1")), None).await.unwrap_err();
    faults.full.store(false, Ordering::SeqCst);
    assert_eq!(rollouts.rollout(&web()).await.unwrap(), None);
    assert!(rollouts.namespaces().is_empty());
    // Kept, and nobody was told so: what is refused then does not make another of its name.
    faults.then_full.store(true, Ordering::SeqCst);
    faults.deny_after(0);
    rollouts.change(web(), Change::SetVersion(v("v1")), None).await.unwrap_err();
    faults.full.store(false, Ordering::SeqCst);
    rollouts.change(web(), Change::Resume, None).await.unwrap_err();
    assert_eq!(rollouts.rollout(&web()).await.unwrap().unwrap().target, Some(v("v1")));
    rollouts.forget(web()).await.unwrap();
    assert_eq!(open(&store).await.rollout(&web()).await.unwrap(), None);
}

#[tokio::test]
async fn a_version_that_is_refused_leaves_what_was_said_with_it_undone() {
    let (store, _journal) = open_memory().unwrap();
    let rollouts = open(&store).await;
    let reports = established(&rollouts, 10, 10).await;
    rollouts.orchestrate(web(), reports).await.unwrap();
    rollouts.change(web(), Change::Abort { by: "ann".into(), why: String::new() }, None).await.unwrap();
    let before = rollouts.rollout(&web()).await.unwrap().unwrap();
    rollouts.change(web(), Change::SetVersion(v("v3")), None).await.unwrap();
    let careless = Options { success_percent: 0, ..options(100) };
    let asked = vec![
        Change::SetOptions(Some(careless)),
        Change::SetStrategy(Some(Box::new(upbeat_model::rollout::Strategy {
            max_surge: Some(Amount::Count(9)),
            ..Default::default()
        }))),
        Change::SetVersion(v("v2")),
    ];
    let refused = rollouts.change_all(web(), asked.clone(), None).await.unwrap_err();
    assert!(refused.to_string().starts_with("version `v2` is known to be bad"), "{refused}");
    let now = rollouts.rollout(&web()).await.unwrap().unwrap();
    assert_eq!((now.options, now.strategy, now.target), (before.options, before.strategy, Some(v("v3"))));
    let forced = asked.into_iter().take(2).chain([Change::ForceVersion(v("v2"))]).collect();
    rollouts.change_all(web(), forced, None).await.unwrap();
    assert_eq!(rollouts.rollout(&web()).await.unwrap().unwrap().options, careless);
}

/// Answers when it is told to.
#[derive(Default)]
struct Slow {
    asked: Notify,
    answers: Notify,
    count: AtomicUsize,
    is_wrong: AtomicBool,
}

impl Asker for Slow {
    fn ask<'a>(&'a self, _: &'a EntityId, _: &'a Controllers, asked: Asked) -> Answering<'a> {
        let Asked::External(_) = asked else { panic!("{asked:?}") };
        self.count.fetch_add(1, Ordering::SeqCst);
        self.asked.notify_one();
        Box::pin(async {
            self.answers.notified().await;
            assert!(!self.is_wrong.load(Ordering::SeqCst), "a bug in a controller");
            Answer::External(Ok(()))
        })
    }
}

/// Selects a new one, and approves of it alone; or says that nobody is there to answer.
struct Maker(AtomicBool);

impl Asker for Maker {
    fn ask<'a>(&'a self, _: &'a EntityId, _: &'a Controllers, asked: Asked) -> Answering<'a> {
        let labels: BTreeMap<_, _> = [("ring".to_owned(), "0".to_owned())].into();
        Box::pin(async move {
            match asked {
                Asked::Selection(..) => Answer::Selection(Ok(vec![NewTarget { id: id(77), labels }])),
                Asked::Approval(all) => {
                    assert_eq!(all, [Report { labels, message: String::new(), ..report(77, None) }]);
                    Answer::Approval(Ok(vec![id(77)]))
                }
                other => panic!("{other:?}"),
            }
        })
    }

    fn try_ask<'a>(&'a self, id: &'a EntityId, controllers: &'a Controllers, asked: Asked) -> Trying<'a> {
        if self.0.load(Ordering::SeqCst) {
            return Box::pin(async { Err("nobody is there".to_owned()) });
        }
        let answer = self.ask(id, controllers, asked);
        Box::pin(async { Ok(answer.await) })
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_new_is_approved_like_others_and_where_nobody_answers_nothing_is_decided() {
    let (store, _journal) = open_memory().unwrap();
    let maker = Arc::new(Maker(AtomicBool::new(true)));
    let rollouts = open_with(&store, maker.clone()).await;
    let reports = established(&rollouts, 3, 50).await;
    rollouts.orchestrate(web(), reports).await.unwrap();
    let asks = |controllers: &mut Controllers| {
        controllers.selection = Some(Controller::Program);
        controllers.approval = Some(Controller::Program);
        Ok(())
    };
    rollouts.edit_controllers(web(), asks).await.unwrap();
    assert_eq!(rollouts.controllers(&web()).await.unwrap().unwrap().each().count(), 2);
    let more = vec![report(3, Some(&v("v1")))];
    let nothing = rollouts.orchestrate(web(), more).await.unwrap_err();
    assert_eq!(nothing.to_string(), "nothing was decided about rollout `prod/web`: nobody is there");
    let targets = rollouts.targets(&web(), None).await.unwrap();
    assert_eq!((targets.len(), on(&targets, "v2")), (4, 0), "what was reported is kept");
    maker.0.store(false, Ordering::SeqCst);
    let (_, targets) = rollouts.orchestrate(web(), vec![]).await.unwrap();
    assert_eq!((targets.len(), on(&targets, "v2")), (5, 1));
    assert_eq!(targets[4].assigned.version, Some(v("v2")));
}

/// Where nothing happens any more, it is over.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.unwrap()
}

/// Somebody is asked whether the whole is well.
async fn is_watched(rollouts: &Rollouts) {
    let asks = |controllers: &mut Controllers| {
        controllers.external_monitoring = Some(Controller::Web("http://localhost/".into()));
        Ok(())
    };
    rollouts.edit_controllers(web(), asks).await.unwrap();
}

#[tokio::test]
async fn a_pause_does_not_wait_for_a_controller_and_counts_for_the_decision() {
    let (store, _journal) = open_memory().unwrap();
    let slow = Arc::new(Slow::default());
    let rollouts = open_with(&store, slow.clone()).await;
    let reports = established(&rollouts, 10, 50).await;
    rollouts.orchestrate(web(), reports.clone()).await.unwrap();
    is_watched(&rollouts).await;
    let (handle, some) = (rollouts.clone(), reports.clone());
    let call = tokio::spawn(async move { handle.orchestrate(web(), some).await });
    soon(slow.asked.notified()).await;
    rollouts.change(web(), Change::Pause { by: "ann".into() }, None).await.unwrap();
    rollouts.orchestrate_later(web(), vec![report(77, None)]).await.unwrap();
    assert_eq!(rollouts.targets(&web(), None).await.unwrap().len(), 11);
    slow.answers.notify_one();
    let (state, targets) = soon(call).await.unwrap().unwrap();
    assert_eq!((state.paused_by.as_deref(), on(&targets, "v2")), (Some("ann"), 0));
    // What was reported in between is decided about, too, and whoever is wrong about it is no harm.
    soon(slow.asked.notified()).await;
    slow.is_wrong.store(true, Ordering::SeqCst);
    slow.answers.notify_one();
    let (handle, some) = (rollouts.clone(), reports.clone());
    let call = tokio::spawn(async move { handle.orchestrate(web(), some).await });
    soon(slow.asked.notified()).await;
    slow.answers.notify_one();
    assert!(matches!(soon(call).await.unwrap(), Err(RolloutError::Failed(_))));
    assert_eq!(slow.count.load(Ordering::SeqCst), 3);
    // Whoever goes away leaves the call to end.
    slow.is_wrong.store(false, Ordering::SeqCst);
    rollouts.change(web(), Change::Resume, None).await.unwrap();
    let mut changes = rollouts.changes(&web()).unwrap();
    let (handle, some) = (rollouts.clone(), reports);
    let call = tokio::spawn(async move { handle.orchestrate(web(), some).await });
    soon(slow.asked.notified()).await;
    call.abort();
    changes.mark_unchanged();
    slow.answers.notify_one();
    soon(changes.changed()).await.unwrap();
    assert_eq!(on(&rollouts.targets(&web(), None).await.unwrap(), "v2"), 5);
}

#[tokio::test]
async fn an_answer_about_one_version_is_none_about_another() {
    let (store, _journal) = open_memory().unwrap();
    let slow = Arc::new(Slow::default());
    let rollouts = open_with(&store, slow.clone()).await;
    let reports = established(&rollouts, 10, 50).await;
    rollouts.orchestrate(web(), reports.clone()).await.unwrap();
    is_watched(&rollouts).await;
    let handle = rollouts.clone();
    let call = tokio::spawn(async move { handle.orchestrate(web(), reports).await });
    soon(slow.asked.notified()).await;
    rollouts.change(web(), Change::ForceVersion(v("v3")), None).await.unwrap();
    slow.answers.notify_one();
    soon(slow.asked.notified()).await;
    slow.answers.notify_one();
    soon(call).await.unwrap().unwrap();
    assert_eq!(slow.count.load(Ordering::SeqCst), 2);
}

/// Whoever is moved is told once, and never more than a batch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_calls_at_once_none_is_lost() {
    let (store, _journal) = open_memory().unwrap();
    let rollouts = open(&store).await;
    rollouts.change(web(), Change::SetOptions(Some(options(10))), None).await.unwrap();
    rollouts.change(web(), Change::SetVersion(v("v2")), None).await.unwrap();
    let callers = (0..4_usize).map(|caller| {
        let rollouts = rollouts.clone();
        tokio::spawn(async move {
            for n in 0..250 {
                // Each brings a target of its own with each call.
                let new = report(caller * 1_000 + n, Some(&v("v1")));
                let (_, targets) = rollouts.orchestrate(web(), vec![new]).await.unwrap();
                let total = targets.len();
                let on_the_way = on(&targets, "v2");
                assert!(on_the_way <= (total / 10).max(1), "{on_the_way} of {total}");
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    let targets = rollouts.targets(&web(), None).await.unwrap();
    assert_eq!(targets.len(), 1_000);
    assert_eq!(open(&store).await.targets(&web(), None).await.unwrap(), targets);
}

#[derive(Clone, Debug)]
enum Deed {
    Report(Vec<usize>),
    Forget,
    Reopen,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let one = prop_oneof![
        4 => proptest::collection::vec(0..2_000_usize, 0..900).prop_map(Deed::Report),
        2 => proptest::collection::vec(0..2_000_usize, 0..4).prop_map(Deed::Report),
        1 => Just(Deed::Forget),
        2 => Just(Deed::Reopen),
    ];
    proptest::collection::vec(one, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Whatever is reported, and whoever is not any more: what is read is what was there, and nothing besides is
    /// kept.
    #[test]
    fn what_is_kept_is_what_there_is(deeds in deeds()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (store, _journal) = open_memory().unwrap();
            let mut rollouts = open(&store).await;
            rollouts.change(web(), Change::SetVersion(v("v1")), None).await.unwrap();
            for deed in deeds {
                match deed {
                    Deed::Report(some) => {
                        let reports = some.into_iter().map(|n| report(n, Some(&v("v1")))).collect();
                        rollouts.orchestrate(web(), reports).await.unwrap();
                        pass(400).await;
                    }
                    Deed::Forget => {
                        rollouts.forget(web()).await.unwrap();
                        rollouts.change(web(), Change::SetVersion(v("v1")), None).await.unwrap();
                    }
                    Deed::Reopen => rollouts = open(&store).await,
                }
                let there = rollouts.targets(&web(), None).await.unwrap();
                // Whoever opens it removes what is left over: none is.
                let leaves = store.all("rollouts/").await.unwrap().len() - 2;
                let read = open(&store).await.targets(&web(), None).await.unwrap();
                // When something was is told by the time of the daemon that listened, and here two do.
                let gist = |targets: &[TargetState]| -> Vec<_> {
                    let held = |held: &HeldState| (held.version.clone(), held.message.clone(), held.is_error);
                    let one = |target: &TargetState| (target.id.clone(), held(&target.current), held(&target.assigned));
                    targets.iter().map(one).collect()
                };
                assert_eq!(gist(&there), gist(&read));
                // Each could hold 64 of these, and a quarter of that is enough.
                let most = 4 * there.len().div_ceil(64).max(1);
                assert!(leaves <= most, "{leaves} leaves of {} targets", there.len());
            }
        });
    }
}

#[tokio::test]
async fn what_happened_is_told_once_it_is_kept() {
    let faults = Faults::default();
    let (store, journal) = open_faulty(&faults).unwrap();
    let events = EventLog::open(journal).await.unwrap();
    let settings =
        Settings { wall, asker: Arc::new(Nobody), events: Some(events.clone()), failpoint: |_| {} };
    let rollouts = Rollouts::open(store, settings).await.unwrap();
    let reports = established(&rollouts, 2, 50).await;
    faults.full.store(true, Ordering::SeqCst);
    rollouts.change(web(), Change::Pause { by: "eve".into() }, None).await.unwrap_err();
    faults.full.store(false, Ordering::SeqCst);
    rollouts.orchestrate(web(), reports).await.unwrap();
    rollouts.change(web(), Change::Pause { by: "ann".into() }, None).await.unwrap();
    let mut changes = events.changes();
    let told = |event: upbeat_model::Event| match event.kind {
        EventKind::Rollout { namespace, entity, what, .. } => format!("{namespace}/{entity}: {what}"),
        other => panic!("{other:?}"),
    };
    let lines: Vec<String> = soon(async {
        loop {
            let (read, _) = events.read(&EventFilter::default(), 0, 100).await.unwrap();
            if read.len() >= 5 {
                return read.into_iter().map(told).collect();
            }
            changes.changed().await.unwrap();
        }
    })
    .await;
    assert_eq!(
        lines,
        [
            "prod/web: rollout 1 of `v1` began",
            "prod/web: `v1` was assigned to t000000, t000001",
            "prod/web: `v1` is good: declared good: no target has to be well on it (success 0%)",
            "prod/web: rollout 2 from `v1` to `v2` began",
            "prod/web: paused by ann",
        ]
    );
}
