//! Random fleets, options, stages, limits, failures, silences, requests, hours and restarts, watched by the
//! checker.

use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as Random;
use upbeat_model::rollout::{
    AnalysisSpec, Cadence, Concurrency, Gate, Happened, Override, REST, Sample, SampleOutcome, Stage, Who,
};

use super::checker::Checker;
use super::*;
use crate::rollout::view::View;

const DEVICES: usize = 12;

#[derive(Clone, Debug)]
enum Move {
    /// All, or those whose number leaves this rest, are reported, and it is decided.
    Report(Option<usize>),
    /// Everybody does what they shall.
    Obey,
    Pass(u64),
    /// A device is not well, or is again.
    Error(usize, bool),
    /// Its controller gives it up, or does not any more.
    Failed(usize, bool),
    Come(usize),
    /// It opens, or closes.
    Open(bool),
    Ask(Change),
    Restart,
    /// All that is due is measured, and found to be so.
    Measure(SampleOutcome),
    /// Something comes that nobody asked for, or too late.
    Stray(usize, SampleOutcome),
}

fn name(n: usize) -> TargetId {
    id(&format!("t{n:02}"))
}

fn requests() -> impl Random<Value = Change> {
    let version = || (1..5_u8).prop_map(|n| v(&format!("v{n}")));
    let by = || "ann".to_owned();
    prop_oneof![
        6 => version().prop_map(Change::SetVersion),
        2 => version().prop_map(Change::ForceVersion),
        1 => Just(Change::Pause { by: by() }),
        2 => Just(Change::Resume),
        1 => Just(Change::Abort { by: by(), why: String::new() }),
        1 => Just(Change::Retry),
        5 => Just(Change::Approve { by: by() }),
        2 => Just(Change::Promote { by: by() }),
        1 => Just(Change::PromoteAll { by: by() }),
        1 => Just(Change::Undo { by: by() }),
        1 => (0..DEVICES).prop_map(move |n| Change::Fail { target: name(n), by: by(), why: String::new() }),
    ]
}

fn moves() -> impl Random<Value = Vec<Move>> {
    let one = prop_oneof![
        10 => Just(Move::Report(None)),
        3 => (0..3_usize).prop_map(|rest| Move::Report(Some(rest))),
        8 => Just(Move::Obey),
        6 => (0..4_u64).prop_map(Move::Pass),
        // The machine slept, or nobody reported: some are forgotten, times are over and verdicts due.
        1 => prop_oneof![1..30_u64, 890..910_u64, Just(86_400_u64)].prop_map(Move::Pass),
        1 => (0..DEVICES, any::<bool>()).prop_map(|(n, is)| Move::Error(n, is)),
        1 => (0..DEVICES, prop_oneof![1 => Just(true), 3 => Just(false)]).prop_map(|(n, is)| Move::Failed(n, is)),
        1 => (0..DEVICES).prop_map(Move::Come),
        1 => prop_oneof![3 => Just(true), 1 => Just(false)].prop_map(Move::Open),
        4 => requests().prop_map(Move::Ask),
        1 => Just(Move::Restart),
        6 => outcomes().prop_map(Move::Measure),
        1 => (0..3_usize, outcomes()).prop_map(|(n, outcome)| Move::Stray(n, outcome)),
    ];
    vec(one, 1..160)
}

fn outcomes() -> impl Random<Value = SampleOutcome> {
    prop_oneof![
        12 => Just(SampleOutcome::Success),
        3 => Just(SampleOutcome::Failure),
        1 => Just(SampleOutcome::Inconclusive),
        2 => Just(SampleOutcome::Error("silent".into())),
    ]
}

fn amount(of: std::ops::Range<u32>) -> impl Random<Value = Amount> {
    prop_oneof![of.prop_map(Amount::Count), (1..101_u32).prop_map(Amount::Percent)]
}

fn perhaps<T: Clone + std::fmt::Debug + 'static>(
    one: impl Random<Value = T> + 'static,
) -> impl Random<Value = Option<T>> {
    prop_oneof![2 => Just(None), 1 => one.prop_map(Some)]
}

fn stages() -> impl Random<Value = Vec<Stage>> {
    let who = prop_oneof![
        amount(1..5).prop_map(Who::Amount),
        (0..4_usize).prop_map(|ring| Who::Labels(BTreeMap::from([("ring".into(), ring.to_string())]))),
    ];
    let gate = prop_oneof![
        2 => Just(Gate::None),
        1 => Just(Gate::Approval),
        1 => (1..6_u64).prop_map(|seconds| Gate::Pause(Millis::seconds(seconds))),
    ];
    let options = (perhaps(amount(1..5)), perhaps(50..101_u32), perhaps(0..3_u64));
    let options = options.prop_map(|(batch, success_percent, success)| Override {
        batch,
        success_percent,
        success_timeout: success.map(Millis::seconds),
        duration_timeout: None,
    });
    let stage = (who, gate, options, perhaps(amount(0..3)));
    vec(stage, 0..4).prop_map(|stages| {
        let named = |(n, (who, gate, options, failure_budget))| Stage {
            name: format!("stage{n}"),
            who,
            options,
            failure_budget,
            gate,
        };
        stages.into_iter().enumerate().map(named).collect()
    })
}

/// Of the whole rollout, or after one of so many stages.
fn analyses(stages: usize) -> impl Random<Value = Vec<AnalysisSpec>> {
    let after = perhaps(0..=stages).prop_map(move |after| {
        let name = |n| if n == stages { REST.to_owned() } else { format!("stage{n}") };
        after.filter(|_| stages > 0).map(name)
    });
    let one = (after, any::<bool>(), 1..4_u32, (0..2_u32, 0..2_u32, 0..3_u32), 0..3_u64);
    let one = one.prop_map(|(after, ends, count, (failures, unclear, errors), delay)| {
        let count = (after.is_some() || ends).then_some(count);
        let below = |limit: u32| limit.min(count.unwrap_or(2) - 1);
        let cadence = Cadence {
            initial_delay: Millis::seconds(delay),
            interval: Some(Millis::seconds(1)),
            count,
            failure_limit: below(failures),
            inconclusive_limit: below(unclear),
            consecutive_error_limit: errors,
            consecutive_success_limit: 0,
        };
        (after, cadence)
    });
    vec(one, 0..3).prop_map(|all| {
        let named = |(n, (after, cadence)): (usize, (Option<String>, Cadence))| {
            let mut spec = super::measured::spec(&format!("analysis{n}"), after.as_deref(), None);
            spec.measure.cadence = cadence;
            spec
        };
        all.into_iter().enumerate().map(named).collect()
    })
}

fn strategies() -> impl Random<Value = Strategy> {
    let stages = stages().prop_flat_map(|stages| (analyses(stages.len()), Just(stages)));
    let limits = (perhaps(amount(1..5)), perhaps(amount(0..4)), perhaps(60..120_u64), perhaps(1..60_u64));
    let concurrency = prop_oneof![
        2 => Just(Concurrency::Queue),
        1 => Just(Concurrency::Replace),
        1 => Just(Concurrency::Refuse),
    ];
    (stages, limits, concurrency).prop_map(|((analyses, stages), limits, concurrency)| Strategy {
        stages,
        analyses,
        max_unavailable: limits.0,
        failure_budget: limits.1,
        progress_deadline: limits.2.map(Millis::seconds),
        known_bad_for: limits.3.map(Millis::seconds),
        concurrency,
        ..Strategy::default()
    })
}

fn fleets() -> impl Random<Value = (usize, bool)> {
    (1..DEVICES, any::<bool>())
}

fn all_options() -> impl Random<Value = Options> {
    (1..101_u32, 60..101_u32, 0..3_u64, 4..12_u64)
        .prop_map(|(batch, percent, success, duration)| options(batch, percent, success, duration))
}

/// An entity and who watches it.
struct Watched {
    story: Story,
    checker: Checker,
}

fn newcomer(n: usize) -> Device {
    Device { labels: BTreeMap::from([("ring".to_owned(), (n % 3).to_string())]), ..device("v1") }
}

impl Watched {
    /// All run `v1`, which may be known to be good.
    fn new(count: usize, is_good: bool, options: Options, strategy: Strategy) -> Self {
        let mut story = Story::new();
        story.devices.extend((0..count).map(|n| (name(n), newcomer(n))));
        story.options(options);
        story.ask(Change::SetStrategy(Some(Box::new(strategy.clone()))));
        let mut watched = Self { story, checker: Checker::new(options, strategy) };
        if is_good {
            watched.ask(Change::SetVersion(v("v1")));
            watched.play(Move::Report(None));
            watched.ask(Change::PromoteAll { by: "ann".to_owned() });
        }
        watched
    }

    fn play(&mut self, step: Move) {
        let Self { story, checker } = self;
        match step {
            Move::Report(rest) => {
                let is_one = |n: &usize| rest.is_none_or(|rest| n % 3 == rest);
                let some: Vec<TargetId> = (0..DEVICES).filter(is_one).map(name).collect();
                self.report(&some);
            }
            Move::Obey => {
                for (id, device) in &mut story.devices {
                    if let Some(target) = story.rollout.targets.get(id)
                        && target.assigned.version.is_some()
                    {
                        device.version = target.assigned.version.clone();
                    }
                }
            }
            Move::Pass(seconds) => {
                let is_late = remembered_is_looked_at(story);
                *checker.seen.entry("late").or_default() += usize::from(is_late);
                story.pass(seconds);
            }
            Move::Error(n, is) => {
                story.devices.entry(name(n)).and_modify(|device| device.is_error = is);
            }
            Move::Failed(n, is) => {
                story.devices.entry(name(n)).and_modify(|device| device.failed = is);
            }
            Move::Come(n) => drop(story.devices.entry(name(n)).or_insert_with(|| newcomer(n))),
            Move::Open(is_open) => {
                let closed = || Opening::Closed { until: None, why: "night".to_owned() };
                story.opening = (!is_open).then(closed);
            }
            Move::Restart => {
                story.restart();
                checker.restart(&story.rollout, story.now);
            }
            Move::Ask(change) => self.ask(change),
            Move::Measure(outcome) => {
                let due = story.rollout.due(story.now);
                for (name, _) in due.now {
                    self.measure(&name, due.number, &outcome);
                }
            }
            Move::Stray(n, outcome) => {
                let number = story.rollout.number;
                self.measure(&format!("analysis{n}"), number, &outcome);
            }
        }
    }

    fn measure(&mut self, name: &str, number: u64, outcome: &SampleOutcome) {
        let Self { story, checker } = self;
        let before = story.rollout.clone();
        let mut take = |number| {
            let sample = Sample { outcome: outcome.clone(), value: "x".into() };
            story.rollout.take_sample(number, name, sample, story.now)
        };
        assert!(!take(number + 1), "it is of another rollout");
        let taken = take(number);
        let is_bad = checker.measured(name, outcome, taken, story.now);
        assert!(taken || before == story.rollout, "what comes too late changes nothing");
        let happened = story.rollout.take_happened();
        let says_bad = happened.iter().any(|happened| matches!(happened, Happened::Bad { .. }));
        assert_eq!(says_bad, is_bad, "a version is bad when an analysis of it fails");
        happened.iter().for_each(|happened| checker.tell(happened, story.now));
    }

    fn ask(&mut self, change: Change) {
        let Self { story, checker } = self;
        let before = story.rollout.clone();
        if story.rollout.change(change.clone(), story.now).is_err() {
            assert_eq!(story.rollout, before, "what is refused changes nothing");
            return;
        }
        story.rollout.take_happened().iter().for_each(|happened| checker.tell(happened, story.now));
        match change {
            Change::Undo { .. } => checker.undone(),
            Change::ForceVersion(version) => checker.forgive(&version),
            Change::Retry if before.course() == story.rollout.course() => checker.again(story.now),
            Change::Retry => {
                if let Course::Forward(version) = story.rollout.course() {
                    checker.forgive(&version);
                }
            }
            Change::Fail { target, .. } => checker.give_up(&target),
            _ => {}
        }
        let assigned = |rollout: &Rollout| {
            let each =
                rollout.targets.iter().map(|(id, target)| (id.clone(), target.assigned.version.clone()));
            each.collect::<Vec<_>>()
        };
        assert_eq!(assigned(&before), assigned(&story.rollout), "only decisions move anybody");
    }

    fn report(&mut self, some: &[TargetId]) {
        let Self { story, checker } = self;
        let there = some.iter().filter_map(|id| Some(story.devices.get(id)?.report(id, "")));
        let reports: Vec<Report> = there.collect();
        let mut other = story.rollout.clone();
        let gone = |target: &Target| story.now.since(target.seen.max(story.rollout.woke)) > ZOMBIE_AFTER;
        let last: Vec<Report> = reports.iter().rev().cloned().collect();
        if story.rollout.targets.values().any(gone) {
            other.report(last, story.now);
        } else {
            // In another order, and by two that call one after the other.
            let (first, second) = last.into_iter().partition::<Vec<Report>, _>(|report| report.is_error);
            other.report(second, story.now);
            other.report(first, story.now);
        }
        story.rollout.report(reports.iter().cloned(), story.now);
        assert!(other == story.rollout, "the order of reports changes nothing");
        let again = story.rollout.clone();
        story.rollout.report(reports.iter().cloned(), story.now);
        assert!(again == story.rollout, "what is said twice changes nothing");
        checker.hear(&reports, &story.rollout.targets.keys().cloned().collect(), story.now);
        let before = story.rollout.clone();
        if let Err(nothing) = story.try_decide() {
            assert_eq!((nothing, &story.rollout), (Nothing::NoVersion, &before));
            return;
        }
        let targets = story.rollout.targets.iter();
        let after = targets.map(|(id, target)| (id.clone(), target.assigned.version.clone())).collect();
        let happened = story.rollout.take_happened();
        checker.see(&after, &happened, story.opening.is_none(), story.now);
        let progress = story.rollout.progress(story.now);
        let text = serde_json::to_string(&progress).unwrap();
        assert_eq!(serde_json::from_str::<upbeat_model::rollout::Progress>(&text).unwrap(), progress);
    }

    /// From now on all are well, whoever is gone is forgotten, and it is open.
    fn heal(&mut self) {
        self.story.pass(901);
        self.play(Move::Open(true));
        for device in self.story.devices.values_mut() {
            (device.is_error, device.failed) = (false, false);
        }
        self.play(Move::Report(None));
    }

    /// And all do what they shall, and whoever is asked approves.
    fn finish(&mut self) {
        self.heal();
        self.ask(Change::ForceVersion(v("last")));
        for _ in 0..250 {
            self.play(Move::Report(None));
            self.play(Move::Obey);
            self.ask(Change::Resume);
            self.play(Move::Measure(SampleOutcome::Success));
            self.ask(Change::Approve { by: "ann".to_owned() });
            self.story.pass(1);
        }
    }

    /// And what is on its way becomes bad: somebody aborts it when some run it already, or nobody is well on it.
    /// Returns what was good before, and whether it was said that all are back.
    fn take_back(&mut self, by_abort: bool) -> (Option<Version>, bool) {
        self.heal();
        self.ask(Change::ForceVersion(v("doomed")));
        let good = self.story.rollout.good.clone();
        self.play(Move::Report(None));
        self.ask(Change::Resume);
        self.play(Move::Report(None));
        self.play(Move::Obey);
        if by_abort {
            self.ask(Change::Abort { by: "ann".to_owned(), why: String::new() });
        }
        for _ in 0..400 {
            if self.story.rollout.bad == Some(v("doomed")) {
                break;
            }
            self.suffer();
            self.play(Move::Report(None));
            self.ask(Change::Approve { by: "ann".to_owned() });
            self.play(Move::Measure(SampleOutcome::Success));
            self.play(Move::Obey);
            self.story.pass(1);
        }
        if self.story.rollout.bad != Some(v("doomed")) {
            // Fewer have failed than may, and no more are risked, or are there: that is for somebody to decide.
            self.ask(Change::Abort { by: "ann".to_owned(), why: String::new() });
        }
        let told = self.checker.seen.get("rolled back").copied();
        for _ in 0..250 {
            self.suffer();
            self.play(Move::Report(None));
            self.play(Move::Obey);
            self.story.pass(1);
        }
        (good, self.checker.seen.get("rolled back").copied() != told)
    }
}

/// Where it is at later moments, though nothing is said, is the same by what was counted now as by looking at each
/// target then. Returns whether somebody has failed by then who has not now.
fn remembered_is_looked_at(story: &Story) -> bool {
    let (rollout, now) = (&story.rollout, story.now);
    let remembered = rollout.standings(now);
    for later in [0, 1, 999, 1_000, 4_999, 5_000, 5_001, 12_999, 13_000, 60_000] {
        let then = now + Millis(later);
        let seen = rollout.progress_by(&remembered, then);
        assert_eq!((remembered.counts(then), seen.counts), (rollout.counts(then), rollout.counts(then)));
        let Some(version) = rollout.in_force() else { continue };
        let looked = View::new(rollout, version, then).tally(|_, _, _| {});
        assert_eq!(seen.counts, looked.all.counts, "{later} ms later");
        let stages = seen.stages.iter().map(|stage| stage.counts);
        assert!(stages.eq(looked.stages.iter().map(|tally| tally.counts)), "{later} ms later");
    }
    let failed = |at| remembered.counts(at).failed;
    failed(now + Millis(60_000)) > failed(now)
}

impl Watched {
    /// Whoever runs it is not well, and nobody else.
    fn suffer(&mut self) {
        for device in self.story.devices.values_mut() {
            device.is_error = device.version == Some(v("doomed"));
        }
    }
}

fn played(
    moves: Vec<Move>,
    (count, is_good): (usize, bool),
    options: Options,
    strategy: Strategy,
) -> Watched {
    let mut watched = Watched::new(count, is_good, options, strategy);
    moves.into_iter().for_each(|step| watched.play(step));
    watched
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_in_stages_no_promise_is_broken(
        moves in moves(), fleet in fleets(), options in all_options(), strategy in strategies()
    ) {
        played(moves, fleet, options, strategy);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_healthy_fleet_always_finishes_its_stages(
        moves in moves(), fleet in fleets(), options in all_options(), strategy in strategies()
    ) {
        let mut watched = played(moves, fleet, options, strategy);
        watched.finish();
        let Watched { story, .. } = watched;
        prop_assert_eq!(story.rollout.course(), Course::Steady(v("last")), "{}", story.why());
        prop_assert_eq!(story.assigned(), count_of(&[("last", story.devices.len())]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_is_bad_is_always_taken_back_or_halts(
        moves in moves(), fleet in fleets(), options in all_options(), strategy in strategies(),
        by_abort in any::<bool>()
    ) {
        let mut watched = played(moves, fleet, options, strategy);
        let (good, is_told) = watched.take_back(by_abort);
        let Watched { story, .. } = watched;
        prop_assert_eq!(&story.rollout.good, &good, "what was aborted is not");
        prop_assert_eq!(story.rollout.bad.clone(), Some(v("doomed")));
        match good {
            Some(good) => {
                prop_assert!(is_told, "{}", story.why());
                prop_assert_eq!(story.assigned(), count_of(&[(&good.to_string(), story.devices.len())]));
                prop_assert_eq!(story.rollout.course(), Course::Back { from: v("doomed"), to: good });
            }
            None => {
                prop_assert_eq!(story.rollout.course(), Course::Halted(v("doomed")));
                prop_assert!(story.why().starts_with("halted: "), "{}", story.why());
            }
        }
    }
}

/// A check that never has anything to look at shows nothing.
#[test]
fn the_stories_come_to_where_promises_could_be_broken() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for _ in 0..600 {
        let story = (moves(), fleets(), all_options(), strategies());
        let (moves, fleet, options, strategy) =
            proptest::strategy::ValueTree::current(&story.new_tree(&mut runner).unwrap());
        for (what, times) in played(moves, fleet, options, strategy).checker.seen {
            *seen.entry(what).or_default() += times;
        }
    }
    for what in [
        "good",
        "bad",
        "over budget",
        "forgotten",
        "halted",
        "back",
        "rolled back",
        "undone",
        "approved",
        "amount",
        "first stage",
        "later stage",
        "unavailable",
        "moved and measured",
        "successful",
        "failed analysis",
        "unclear",
        "passed over",
        "late",
    ] {
        assert!(seen.get(what).is_some_and(|times| *times >= 10), "{what}: {seen:?}");
    }
}
