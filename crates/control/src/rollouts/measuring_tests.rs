//! What is measured beside decisions: bounded, kept, and taken again where it was lost.

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Semaphore;
use upbeat_model::rollout::{
    AnalysisWord, CourseWord, Measure, Options, Sample, SampleOutcome, Source, Strategy, Version,
};
use upbeat_store::faults::{Faults, open_faulty};
use upbeat_store::open_memory;

use super::*;

fn v(text: &str) -> Version {
    Version::new(text).unwrap()
}

fn web(n: usize) -> EntityId {
    EntityId::new("prod", &format!("web{n}")).unwrap()
}

/// Measures where there is a place, and finds that.
struct Gauge {
    places: Semaphore,
    /// For what is asked of `silent`.
    answers: Semaphore,
    /// What was asked of it, one after the other.
    kept_waiting: Mutex<Vec<String>>,
    outcome: Mutex<SampleOutcome>,
    asked: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
    changed: watch::Sender<usize>,
    answered: watch::Sender<usize>,
}

impl Gauge {
    fn new(places: usize) -> Arc<Self> {
        Arc::new(Self {
            places: Semaphore::new(places),
            answers: Semaphore::new(0),
            kept_waiting: Mutex::default(),
            outcome: Mutex::new(SampleOutcome::Success),
            asked: AtomicUsize::new(0),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            changed: watch::channel(0).0,
            answered: watch::channel(0).0,
        })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Until it was asked so often.
    async fn until_asked(&self, times: usize) {
        let mut changed = self.changed.subscribe();
        changed.wait_for(|asked| *asked >= times).await.unwrap();
    }
}

impl Asker for Gauge {
    fn ask<'a>(&'a self, _: &'a EntityId, _: &'a Controllers, asked: Asked) -> Answering<'a> {
        panic!("nobody answers {asked:?}")
    }

    fn measure<'a>(&'a self, measure: &'a Measure) -> Measuring<'a> {
        let Source::Exec(words) = &measure.source else { panic!("a command was named") };
        let places = match &words[..] {
            [silent, which] if silent == "silent" => {
                self.kept_waiting.lock().unwrap().push(which.clone());
                &self.answers
            }
            _ => &self.places,
        };
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.changed.send_modify(|asked| *asked += 1);
        Box::pin(async move {
            places.acquire().await.unwrap().forget();
            self.now.fetch_sub(1, Ordering::SeqCst);
            self.answered.send_modify(|answered| *answered += 1);
            Sample { outcome: self.outcome.lock().unwrap().clone(), value: "0.5".into() }
        })
    }
}

async fn open(store: &Store, asker: Arc<dyn Asker>) -> Rollouts {
    let settings = Settings { wall: || Wall(1_000_000), asker, events: None, failpoint: |_| {} };
    Rollouts::open(store.clone(), settings).await.unwrap()
}

/// So many samples, a second apart, throughout a rollout.
fn strategy(count: u32) -> Strategy {
    of(&[("load", json!(["check"]))], count)
}

/// The same, of whom each asks a server that is silent.
fn silent(count: u32) -> Strategy {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    assert_eq!(names.len(), upbeat_model::rollout::ANALYSES_MAX);
    of(&names.map(|name| (name, json!(["silent", name]))), count)
}

fn of(analyses: &[(&str, serde_json::Value)], count: u32) -> Strategy {
    let cadence = json!({"interval": 1000, "count": count});
    let analysis = |(name, exec): &(&str, serde_json::Value)| {
        let measure = json!({"source": {"exec": exec}, "success": "result < 1", "cadence": cadence});
        json!({"name": name, "measure": measure})
    };
    let analyses: Vec<_> = analyses.iter().map(analysis).collect();
    serde_json::from_value(json!({ "analyses": analyses })).unwrap()
}

/// `v1` is good, and `v2` is on its way, and runs.
async fn begun(rollouts: &Rollouts, id: &EntityId, count: u32) {
    begun_by(rollouts, id, strategy(count)).await;
}

async fn begun_by(rollouts: &Rollouts, id: &EntityId, strategy: Strategy) {
    let options = Options { success_percent: 0, ..Options::default() };
    let report = |version| {
        let (target, version) = (upbeat_model::rollout::TargetId::new("", "t").unwrap(), Some(v(version)));
        let (message, labels) = (String::new(), BTreeMap::new());
        vec![Report { target, version, is_error: false, message, labels, failed: false }]
    };
    let ask = async |change| rollouts.change(id.clone(), change, None).await.unwrap();
    ask(Change::SetOptions(Some(options))).await;
    ask(Change::SetVersion(v("v1"))).await;
    rollouts.orchestrate(id.clone(), report("v1")).await.unwrap();
    ask(Change::SetStrategy(Some(Box::new(strategy)))).await;
    ask(Change::SetVersion(v("v2"))).await;
    for runs in ["v1", "v1", "v2"] {
        rollouts.orchestrate(id.clone(), report(runs)).await.unwrap();
    }
}

/// Until it is so.
async fn until(rollouts: &Rollouts, id: &EntityId, is_so: impl Fn(&RolloutState) -> bool) -> RolloutState {
    let mut changes = rollouts.changes(id).unwrap();
    loop {
        let state = rollouts.rollout(id).await.unwrap().unwrap();
        if is_so(&state) {
            return state;
        }
        changes.changed().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_is_good_when_what_is_measured_is_and_nobody_reports_meanwhile() {
    let (store, _journal) = open_memory().unwrap();
    let gauge = Gauge::new(100);
    let rollouts = open(&store, gauge.clone()).await;
    begun(&rollouts, &web(0), 3).await;
    let state = until(&rollouts, &web(0), |state| state.good == Some(v("v2"))).await;
    assert_eq!(state.course, CourseWord::Steady);
    assert_eq!(gauge.asked(), 3, "and not once more");
}

#[tokio::test(start_paused = true)]
async fn a_version_is_bad_when_what_is_measured_is_not() {
    let (store, _journal) = open_memory().unwrap();
    let gauge = Gauge::new(1);
    let rollouts = open(&store, gauge.clone()).await;
    begun(&rollouts, &web(0), 3).await;
    until(&rollouts, &web(0), |state| state.analyses.iter().any(|load| load.successes == 1)).await;
    *gauge.outcome.lock().unwrap() = SampleOutcome::Failure;
    gauge.places.add_permits(1);
    let state = until(&rollouts, &web(0), |state| state.course == CourseWord::Back).await;
    assert_eq!(
        state.known_bad[0].reason.to_string(),
        "analysis `load` failed: 1 failed, and 0 may; last: 0.5"
    );
    assert_eq!(state.analyses[0].verdict, AnalysisWord::Failed);
    rollouts.idle().await;
    assert_eq!(gauge.asked(), 2, "going back measures nothing");
}

#[tokio::test(start_paused = true)]
async fn who_is_slow_holds_up_nobody_and_is_asked_once_at_a_time() {
    let (store, _journal) = open_memory().unwrap();
    let gauge = Gauge::new(0);
    let rollouts = open(&store, gauge.clone()).await;
    begun(&rollouts, &web(0), 3).await;
    gauge.until_asked(1).await;
    for _ in 0..20 {
        tokio::time::advance(Duration::from_secs(1)).await;
        rollouts.orchestrate(web(0), Vec::new()).await.unwrap();
    }
    rollouts.change(web(0), Change::Pause { by: "ann".into() }, None).await.unwrap();
    assert_eq!(gauge.asked(), 1);
    gauge.places.add_permits(3);
    until(&rollouts, &web(0), |state| state.good == Some(v("v2"))).await;
    assert_eq!((gauge.asked(), gauge.most.load(Ordering::SeqCst)), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn so_many_are_measured_at_once_and_all_have_their_turn() {
    const COUNT: usize = measuring::AT_ONCE + 5;
    let (store, _journal) = open_memory().unwrap();
    let gauge = Gauge::new(0);
    let rollouts = open(&store, gauge.clone()).await;
    for n in 0..COUNT {
        begun(&rollouts, &web(n), 1).await;
    }
    gauge.until_asked(measuring::AT_ONCE).await;
    rollouts.idle().await;
    assert_eq!(gauge.asked(), measuring::AT_ONCE);
    gauge.places.add_permits(COUNT);
    for n in 0..COUNT {
        until(&rollouts, &web(n), |state| state.good == Some(v("v2"))).await;
    }
    assert_eq!((gauge.asked(), gauge.most.load(Ordering::SeqCst)), (COUNT, measuring::AT_ONCE));
}

/// Two entities that together could hold all places that there are.
#[tokio::test(start_paused = true)]
async fn who_measures_much_in_vain_leaves_places_for_others_and_is_not_looked_at_meanwhile() {
    const OTHERS: usize = 8;
    let (store, _journal) = open_memory().unwrap();
    let gauge = Gauge::new(0);
    let rollouts = open(&store, gauge.clone()).await;
    for n in 0..2 {
        begun_by(&rollouts, &web(n), silent(3)).await;
        gauge.until_asked((n + 1) * measuring::OF_ENTITY_AT_ONCE).await;
    }
    for n in 0..OTHERS {
        begun(&rollouts, &web(2 + n), 1).await;
    }
    let under_way = 2 * measuring::OF_ENTITY_AT_ONCE + OTHERS;
    gauge.until_asked(under_way).await;
    rollouts.idle().await;
    assert_eq!(gauge.asked(), under_way);
    // Six more of each are due, and there are places: nobody asks for them again and again.
    let looks = || rollouts.inner.agenda.looks.load(Ordering::SeqCst);
    let before = looks();
    for _ in 0..100 {
        tokio::time::advance(Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
    }
    assert_eq!((gauge.asked(), looks()), (under_way, before));
    gauge.places.add_permits(OTHERS);
    for n in 0..OTHERS {
        until(&rollouts, &web(2 + n), |state| state.good == Some(v("v2"))).await;
    }
}

#[tokio::test(start_paused = true)]
async fn of_one_entity_whoever_has_waited_longest_is_next_and_nobody_is_left_out() {
    const SAMPLES: usize = 3;
    let (store, _journal) = open_memory().unwrap();
    let gauge = Gauge::new(0);
    let rollouts = open(&store, gauge.clone()).await;
    begun_by(&rollouts, &web(0), silent(SAMPLES as u32)).await;
    let all = SAMPLES * upbeat_model::rollout::ANALYSES_MAX;
    for answered in 0..all {
        gauge.until_asked((answered + measuring::OF_ENTITY_AT_ONCE).min(all)).await;
        // Who was measured is due again before those that wait have been.
        tokio::time::advance(Duration::from_secs(2)).await;
        gauge.answers.add_permits(1);
    }
    let is_whole = |state: &RolloutState| state.analyses.iter().all(|one| one.successes == SAMPLES as u32);
    until(&rollouts, &web(0), is_whole).await;
    assert_eq!(gauge.most.load(Ordering::SeqCst), measuring::OF_ENTITY_AT_ONCE);
    let asked = gauge.kept_waiting.lock().unwrap().clone();
    for round in asked.chunks(upbeat_model::rollout::ANALYSES_MAX) {
        let each: std::collections::BTreeSet<_> = round.iter().collect();
        assert_eq!(each.len(), round.len(), "{asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_comes_goes_on_and_what_was_under_way_is_measured_again() {
    let (store, _journal) = open_memory().unwrap();
    let gauge = Gauge::new(1);
    let rollouts = open(&store, gauge.clone()).await;
    begun(&rollouts, &web(0), 3).await;
    gauge.until_asked(2).await;
    // Killed: nobody is told that it ends.
    drop(rollouts);
    let rollouts = open(&store, gauge.clone()).await;
    let state = rollouts.rollout(&web(0)).await.unwrap().unwrap();
    assert_eq!(state.analyses[0].successes, 1);
    gauge.until_asked(3).await;
    gauge.places.add_permits(2);
    until(&rollouts, &web(0), |state| state.good == Some(v("v2"))).await;
    assert_eq!(gauge.asked(), 4, "three that count, and one that was lost");
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_kept_is_measured_again() {
    let faults = Faults::default();
    let (store, _journal) = open_faulty(&faults).unwrap();
    let gauge = Gauge::new(0);
    let rollouts = open(&store, gauge.clone()).await;
    begun(&rollouts, &web(0), 1).await;
    gauge.until_asked(1).await;
    faults.full.store(true, Ordering::SeqCst);
    gauge.places.add_permits(1);
    gauge.answered.subscribe().wait_for(|answered| *answered == 1).await.unwrap();
    rollouts.idle().await;
    faults.full.store(false, Ordering::SeqCst);
    gauge.places.add_permits(1);
    // By itself, whether anybody looks or not. Without a limit: the store's thread has no part in the time of this test.
    gauge.until_asked(2).await;
    until(&rollouts, &web(0), |state| state.good == Some(v("v2"))).await;
    assert_eq!(gauge.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_end_waits_for_no_measure_and_nothing_is_held_behind_it() {
    let (store, _journal) = open_memory().unwrap();
    let gauge = Gauge::new(0);
    let rollouts = open(&store, gauge.clone()).await;
    begun(&rollouts, &web(0), 3).await;
    gauge.until_asked(1).await;
    rollouts.idle().await;
    rollouts.close().await.unwrap();
    drop(rollouts);
    assert_eq!(Arc::strong_count(&gauge), 1);
}

#[tokio::test(start_paused = true)]
async fn where_nobody_measures_it_is_unclear_and_says_so() {
    struct Nobody;
    impl Asker for Nobody {
        fn ask<'a>(&'a self, _: &'a EntityId, _: &'a Controllers, asked: Asked) -> Answering<'a> {
            panic!("nobody answers {asked:?}")
        }
    }
    let (store, _journal) = open_memory().unwrap();
    let rollouts = open(&store, Arc::new(Nobody)).await;
    begun(&rollouts, &web(0), 3).await;
    let is_error =
        |state: &RolloutState| state.analyses.first().is_some_and(|load| load.verdict == AnalysisWord::Error);
    let state = until(&rollouts, &web(0), is_error).await;
    assert_eq!(state.analyses[0].why, "5 errors in a row, and 4 may be: nobody measures here");
    assert_eq!(state.course, CourseWord::Forward);
    rollouts.forget(web(0)).await.unwrap();
}
