//! The picture at moments of a rollout and of a rollback, as the machine itself comes to them: what `--watch`
//! draws.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use upbeat_control::rollouts::{Answering, Asked, Asker, Change, Measuring, Rollouts, Settings};
use upbeat_model::rollout::{
    Amount, Controllers, EntityId, Measure, Options, Report, Sample, Stage, Strategy, TargetId,
};
use upbeat_model::{Millis, Wall};

use super::*;
use crate::face::Face;
use crate::face::examples::{self, NOW};

/// Nobody is asked; what is measured is this.
struct Gauge(Mutex<f64>);

impl Asker for Gauge {
    fn measure<'a>(&'a self, measure: &'a Measure) -> Measuring<'a> {
        let value = serde_json::Value::from(*self.0.lock().unwrap());
        let sample = Sample { outcome: measure.judge(&value), value: value.to_string() };
        Box::pin(std::future::ready(sample))
    }

    fn ask<'a>(&'a self, _: &'a EntityId, _: &'a Controllers, asked: Asked) -> Answering<'a> {
        panic!("nobody answers {asked:?}")
    }
}

/// An entity, its targets, and whoever reports them.
struct Story {
    rollouts: Rollouts,
    runs: BTreeMap<TargetId, Option<Version>>,
    sick: BTreeSet<TargetId>,
    begun: Instant,
    gauge: Arc<Gauge>,
}

fn v(text: &str) -> Version {
    Version::new(text).unwrap()
}

fn web() -> EntityId {
    EntityId::new("prod", "web").unwrap()
}

fn id(n: usize) -> TargetId {
    TargetId::new("", &format!("t{n:02}")).unwrap()
}

thread_local! {
    /// When the story of this thread began.
    static BEGUN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The clock on the wall goes with the one of the story.
fn wall() -> Wall {
    let gone = BEGUN.get().map_or(Duration::ZERO, |begun| begun.elapsed());
    Wall(NOW.0 + i64::try_from(gone.as_millis()).unwrap())
}

impl Story {
    /// Twenty targets, eight of them in `eu`.
    async fn new(options: Options, strategy: Strategy) -> Self {
        let (store, _journal) = upbeat_store::open_memory().unwrap();
        let gauge = Arc::new(Gauge(Mutex::new(0.01)));
        let settings = Settings { wall, asker: gauge.clone(), events: None, failpoint: |_| {} };
        BEGUN.set(Some(Instant::now()));
        let rollouts = Rollouts::open(store, settings).await.unwrap();
        let runs = (0..20).map(|n| (id(n), None)).collect();
        let story = Self { rollouts, runs, sick: BTreeSet::new(), begun: Instant::now(), gauge };
        story.ask(Change::SetOptions(Some(options))).await;
        story.ask(Change::SetStrategy(Some(Box::new(strategy)))).await;
        story
    }

    async fn ask(&self, change: Change) {
        self.rollouts.change(web(), change, Some("ann".into())).await.unwrap();
    }

    /// All are reported, and do what they shall.
    async fn call(&mut self) {
        let reports = self.runs.iter().enumerate().map(|(n, (target, version))| {
            let region = if (5..13).contains(&n) { "eu" } else { "us" };
            Report {
                target: target.clone(),
                version: version.clone(),
                is_error: self.sick.contains(target),
                message: String::new(),
                labels: [("region".to_owned(), region.to_owned())].into(),
                failed: false,
            }
        });
        let reports = reports.collect();
        let (_, targets) = self.rollouts.orchestrate(web(), reports).await.unwrap();
        for target in targets {
            if target.assigned.version.is_some() {
                self.runs.insert(target.id, target.assigned.version);
            }
        }
    }

    /// So often, every five seconds.
    async fn calls(&mut self, count: usize) {
        for _ in 0..count {
            self.call().await;
            tokio::time::advance(Duration::from_secs(5)).await;
        }
    }

    async fn state(&self) -> RolloutState {
        self.rollouts.rollout(&web()).await.unwrap().unwrap()
    }

    /// Until it is so, whoever brings that about.
    async fn until(&self, is_so: impl Fn(&RolloutState) -> bool) {
        let mut changes = self.rollouts.changes(&web()).unwrap();
        while !is_so(&self.state().await) {
            changes.changed().await.unwrap();
        }
    }

    async fn picture(&self) -> String {
        let gone = i64::try_from(self.begun.elapsed().as_millis()).unwrap();
        let face = Face { now: Wall(NOW.0 + gone), ..examples::face() };
        show(&self.state().await, &face)
    }
}

fn options() -> Options {
    Options {
        batch: Amount::Percent(25),
        success_percent: 90,
        success_timeout: Millis::seconds(10),
        duration_timeout: Millis::seconds(30),
    }
}

fn stages() -> Strategy {
    let eu = Stage::wave("eu", [("region".to_owned(), "eu".to_owned())]);
    let stages = vec![Stage::canary(Amount::Count(2), Gate::Approval), eu];
    Strategy { stages, ..Strategy::default() }
}

/// All run `v1`, which is good.
async fn on_v1(strategy: Strategy) -> Story {
    let mut story = Story::new(Options { success_percent: 0, ..options() }, Strategy::default()).await;
    story.ask(Change::SetVersion(v("v1"))).await;
    while story.state().await.counts.well < 20 {
        story.calls(1).await;
    }
    story.ask(Change::SetOptions(Some(options()))).await;
    story.ask(Change::SetStrategy(Some(Box::new(strategy)))).await;
    story.ask(Change::SetVersion(v("v2"))).await;
    story.calls(1).await;
    story
}

#[tokio::test(start_paused = true)]
async fn a_rollout_in_stages_at_five_moments() {
    let mut story = on_v1(stages()).await;
    story.calls(1).await;
    insta::assert_snapshot!(story.picture().await, @"
    prod/web  v1 → v2  rolling out, for 10s

      ▒▒▒▒░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░
      2 on the way   18 to come   of 20 targets

      ▸ canary  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒  0/2  then approval
      · eu      ░░░░░░░░░░░░░░░░░░░░  0/8
      · rest    ░░░░░░░░░░░░░░░░░░░░  0/10

      good      v1
      limits    batch 25%, 90% have to be well for 10s within 30s, 2 may fail
      asked by  ann
      because   in stage `canary`: 0 are well, and 1 have to be
    ");
    story.calls(4).await;
    insta::assert_snapshot!(story.picture().await, @"
    prod/web  v1 → v2  rolling out, for 30s

      ████░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░
      2 well   18 to come   of 20 targets

      ‖ canary  ████████████████████  2/2  waits for approval
      · eu      ░░░░░░░░░░░░░░░░░░░░  0/8
      · rest    ░░░░░░░░░░░░░░░░░░░░  0/10

      good      v1
      limits    batch 25%, 90% have to be well for 10s within 30s, 2 may fail
      asked by  ann
      because   waits for approval after stage `canary`
    ");
    story.ask(Change::Approve { by: "ann".into() }).await;
    story.sick.insert(id(7));
    story.calls(3).await;
    insta::assert_snapshot!(story.picture().await, @"
    prod/web  v1 → v2  rolling out, for 45s

      ████▒▒▒▒▒▒▒▒▒▒░░░░░░░░░░░░░░░░░░░░░░░░░░
      2 well   5 on the way   13 to come   of 20 targets

      ✓ canary  ████████████████████  2/2
      ▸ eu      ▒▒▒▒▒▒▒▒▒▒▒▒░░░░░░░░  0/8
      · rest    ░░░░░░░░░░░░░░░░░░░░  0/10

      good      v1
      limits    batch 25%, 90% have to be well for 10s within 30s, 2 may fail
      asked by  ann
      because   in stage `eu`: 0 are well, and 7 have to be
                5 targets are on their way, and 5 may be
    ");
    story.calls(8).await;
    story.ask(Change::Pause { by: "bob".into() }).await;
    story.calls(2).await;
    insta::assert_snapshot!(story.picture().await, @"
    prod/web  v1 → v2  paused by bob, for 1m

      ████████████████████████████▚▚░░░░░░░░░░
      14 well   1 failed   5 to come   of 20 targets

      ✓ canary  ████████████████████  2/2
      ✓ eu      █████████████████▚▚▚  7/8  1 failed of 1
      ▸ rest    ██████████░░░░░░░░░░  5/10

      good      v1
      limits    batch 25%, 90% have to be well for 10s within 30s, 2 may fail
      asked by  ann
      because   in stage `rest`: 5 are well, and 9 have to be
                paused by bob
    ");
    story.ask(Change::Resume).await;
    while story.state().await.course != CourseWord::Steady {
        story.calls(1).await;
    }
    insta::assert_snapshot!(story.picture().await, @"
    prod/web  v2  steady, for 2m

      ██████████████████████████████████████▚▚
      19 well   1 failed   of 20 targets

      good      v2
      limits    batch 25%, 90% have to be well for 10s within 30s
      asked by  ann
    ");
}

#[tokio::test(start_paused = true)]
async fn a_rollback_at_five_moments() {
    let mut story = on_v1(Strategy::default()).await;
    story.sick.extend((0..4).map(id));
    story.calls(2).await;
    insta::assert_snapshot!(story.picture().await, @"
    prod/web  v1 → v2  rolling out, for 15s

      ▒▒▒▒▒▒▒▒▒▒░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░
      5 on the way   15 to come   of 20 targets

      good      v1
      limits    batch 25%, 90% have to be well for 10s within 30s, 2 may fail
      asked by  ann
      because   5 targets are on their way, and 5 may be
    ");
    while story.state().await.course == CourseWord::Forward {
        story.calls(1).await;
    }
    insta::assert_snapshot!(story.picture().await, @"
    prod/web  v1 ← v2  rolling back, for 45s

      ████████████████████████████░░░░░░░░░░░░
      14 well   6 to come   of 20 targets

      good      v1
      bad       v2, 5s ago: 4 of 20 targets failed, and 2 may: t00, t01, t02, t03
      limits    batch 25%, 90% have to be well for 10s within 30s
      asked by  ann
    ");
    story.sick.clear();
    story.calls(1).await;
    story.ask(Change::SetOptions(Some(Options { batch: Amount::Count(2), ..options() }))).await;
    insta::assert_snapshot!(story.picture().await, @"
    prod/web  v1 ← v2  rolling back, for 50s

      ████████████████████████████▒▒▒▒▒▒▒▒▒▒░░
      14 well   5 on the way   1 to come   of 20 targets

      good      v1
      bad       v2, 10s ago: 4 of 20 targets failed, and 2 may: t00, t01, t02, t03
      limits    batch 2, 90% have to be well for 10s within 30s
      asked by  ann
      because   rolls back to `v1`
    ");
    while story.state().await.counts.well < 20 {
        story.calls(1).await;
    }
    insta::assert_snapshot!(story.picture().await, @"
    prod/web  v1 ← v2  rolled back, for 1m

      ████████████████████████████████████████
      20 well   of 20 targets

      good      v1
      bad       v2, 50s ago: 4 of 20 targets failed, and 2 may: t00, t01, t02, t03
      limits    batch 2, 90% have to be well for 10s within 30s
      asked by  ann
      because   rolls back to `v1`
    ");
    // A first version that is bad leaves nothing to go back to.
    let mut first = Story::new(options(), Strategy::default()).await;
    first.ask(Change::SetVersion(v("v1"))).await;
    first.sick.extend((0..20).map(id));
    while first.state().await.course != CourseWord::Halted {
        first.calls(1).await;
    }
    insta::assert_snapshot!(first.picture().await, @"
    prod/web  v1  halted, for 40s

      20 targets stay as they are

      bad       v1, 5s ago: 5 of 20 targets failed, and 2 may: t00, t01, t02, t03, t04
      limits    batch 25%, 90% have to be well for 10s within 30s
      asked by  ann
    ");
}

#[tokio::test(start_paused = true)]
async fn what_is_measured_at_three_moments() {
    // The clock goes when the story says so, and at no other time.
    let (_story, ends) = std::sync::mpsc::channel::<()>();
    tokio::task::spawn_blocking(move || ends.recv());
    let measured = serde_json::json!({
        "stages": [{"name": "canary", "who": {"amount": {"count": 2}}}],
        "analyses": [
            {
                "name": "error-rate",
                "after": "canary",
                "measure": {
                    "source": {"prometheus": {"address": "http://127.0.0.1:9090", "query": "error_rate"}},
                    "success": "result < 0.05",
                    "cadence": {"interval": 5000, "count": 3},
                },
            },
            {
                "name": "health",
                "measure": {
                    "source": {"http": {"url": "http://127.0.0.1/health"}},
                    "success": "result < 0.5",
                    "cadence": {"initial_delay": 60000, "interval": 60000},
                },
            },
        ],
    });
    let mut story = on_v1(serde_json::from_value(measured).unwrap()).await;
    story.calls(2).await;
    insta::assert_snapshot!(story.picture().await, @"
    prod/web  v1 → v2  rolling out, for 15s

      ▒▒▒▒░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░
      2 on the way   18 to come   of 20 targets

      ▸ canary  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒  0/2
      · rest    ░░░░░░░░░░░░░░░░░░░░  0/18

      · analysis error-rate  after canary
      ▸ analysis health  running, 0 samples, next in 55s

      good      v1
      limits    batch 25%, 90% have to be well for 10s within 30s, 2 may fail
      asked by  ann
      because   in stage `canary`: 0 are well, and 1 have to be
    ");
    // It is measured at the very moment at which it begins.
    story.call().await;
    while story.state().await.analyses[0].verdict == AnalysisWord::Waits {
        tokio::time::advance(Duration::from_secs(5)).await;
        story.call().await;
    }
    story.until(|state| state.analyses[0].successes == 1).await;
    story.rollouts.idle().await;
    insta::assert_snapshot!(story.picture().await, @"
    prod/web  v1 → v2  rolling out, for 25s

      ████░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░
      2 well   18 to come   of 20 targets

      ‖ canary  ████████████████████  2/2  is measured
      · rest    ░░░░░░░░░░░░░░░░░░░░  0/18

      ▸ analysis error-rate  running, 1 of 3 samples, next in 5s, last: 0.01
      ▸ analysis health  running, 0 samples, next in 45s

      good      v1
      limits    batch 25%, 90% have to be well for 10s within 30s, 2 may fail
      asked by  ann
      because   analysis `error-rate` is measured: 1 of 3 samples are taken
    ");
    *story.gauge.0.lock().unwrap() = 0.2;
    tokio::time::advance(Duration::from_secs(5)).await;
    story.until(|state| state.course == CourseWord::Back).await;
    story.rollouts.idle().await;
    insta::assert_snapshot!(story.picture().await, @"
    prod/web  v1 ← v2  rolling back, for 30s

      ████████████████████████████████████▒▒▒▒
      18 well   2 on the way   of 20 targets

      ✗ analysis error-rate  failed, 2 of 3 samples, 1 failed, last: 0.2
      · analysis health  ended, 0 samples

      good      v1
      bad       v2, 0s ago: analysis `error-rate` failed: 1 failed, and 0 may; last: 0.2
      limits    batch 25%, 90% have to be well for 10s within 30s
      asked by  ann
      because   rolls back to `v1`
    ");
    insta::assert_snapshot!(why(&story.state().await, &examples::face()), @"
    prod/web  v1 ← v2  rolling back, for 0s
      rolls back to `v1`
      `v2` is held to be bad: analysis `error-rate` failed: 1 failed, and 0 may; last: 0.2
    ");
}
