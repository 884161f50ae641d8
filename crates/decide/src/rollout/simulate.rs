//! How long a rollout will take and how bad it can become, before it is begun: the machine itself, over targets
//! that are made up.
//!
//! Pure: chance is a seed, time is counted. What is made up is only how targets behave: each needs some time to
//! switch, and some of them are not well on the new version. Whatever follows from that is decided as it would
//! be in earnest. What is measured is taken to be as it should be, in its time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use upbeat_model::rollout::{
    Counts, Course, Gate, Happened, Options, Reason, Report, Sample, SampleOutcome, Strategy, TargetId,
    Version,
};
use upbeat_model::{Millis, Mono, Wall};

use super::{Asks, Change, Refused, Rollout, Step, Told, decide};

/// So often everybody is reported in one run at most: a day of seconds. What is not decided by then, is not.
pub const STEPS_MAX: usize = 86_400;
/// So often at least there has to be time for: most rollouts are decided by then.
pub const STEPS_MIN: usize = 1_000;
/// So many runs at most: a percentile does not become better by more.
pub const RUNS_MAX: usize = 10_000;
/// So many reports at most, of all targets in all runs: at a microsecond each, some minutes of one core.
pub const REPORTS_MAX: usize = 200_000_000;
/// So many moments of a run are kept.
pub const TIMELINE_MAX: usize = 1_000;

/// Targets that are alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crowd {
    /// How many.
    pub targets: usize,
    /// By which stages choose.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How likely each of them is not well on the new version: from 0 to 1.
    pub failure_rate: f64,
}

/// What is tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Who is there.
    pub crowds: Vec<Crowd>,
    /// How carefully they are moved.
    pub options: Options,
    /// In which stages, and within which limits.
    #[serde(default)]
    pub strategy: Strategy,
    /// A target needs at least so long to switch, and at most so long.
    pub switch: (Millis, Millis),
    /// So often everybody is reported.
    pub every: Millis,
    /// Somebody approves so long after it is waited for; none: nobody does.
    #[serde(default)]
    pub approves_after: Option<Millis>,
    /// When it begins, for its windows.
    #[serde(default)]
    pub begins: Wall,
}

/// It cannot be tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadScenario {
    /// A field cannot be.
    #[error("`{field}` must {must}")]
    Field {
        /// Which.
        field: &'static str,
        /// What it must be.
        must: &'static str,
    },
    /// The machine does not take it.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The version was good.
    Good,
    /// It was bad, and all went back.
    RolledBack,
    /// It was neither when there was no more time, or it could go no further.
    Undecided,
}

/// What happened at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Since it began.
    pub after: Millis,
    /// How the targets stood to the version in force, before it was decided.
    pub counts: Counts,
    /// What happened.
    pub happened: Vec<Happened>,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// How it ended.
    pub end: End,
    /// Why, as the last decision said; of a version that was bad, why that was.
    pub reasons: Vec<Reason>,
    /// How long it took, the way back included.
    pub lasted: Millis,
    /// So many targets ran the new version at some time.
    pub exposed: usize,
    /// So many of them were not well on it.
    pub hurt: usize,
    /// When something happened; of long runs, the first of it.
    pub timeline: Vec<Moment>,
}

/// Half of some runs had no more than the first, 95 of each 100 no more than the second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread<T> {
    /// The median.
    pub p50: T,
    /// What one can count on.
    pub p95: T,
    /// The worst.
    pub max: T,
}

/// Many runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// How many.
    pub runs: usize,
    /// In so many the version was good.
    pub good: usize,
    /// In so many it was bad, and all went back.
    pub rolled_back: usize,
    /// So many came to no end.
    pub undecided: usize,
    /// How long they took.
    pub lasted: Spread<Millis>,
    /// How many targets ran a version that turned out to be bad.
    pub on_bad: Spread<usize>,
    /// How many targets were not well on it, whatever it turned out to be.
    pub hurt: Spread<usize>,
    /// Of these analyses it was taken for granted that they are successful, in their time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken_for_successful: Vec<String>,
    /// The first run, as an example.
    pub example: Run,
}

/// Chance, from a seed: splitmix64, as its authors gave it away.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to 1, and never 1.
    fn share(&mut self) -> f64 {
        // Of 53 bits, as a double has them: exact.
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A target that is made up.
struct Device {
    runs: Version,
    labels: BTreeMap<String, String>,
    /// Whether it is not well on the new version.
    breaks: bool,
    switch: Millis,
    /// What it was told to run, and since when, while it switches.
    switching: Option<(Version, Mono)>,
    was_on_new: bool,
}

impl Scenario {
    /// How often everybody is reported in each of so many runs, at most.
    ///
    /// Errors: a field that cannot be, by its name.
    pub fn check(&self, runs: usize) -> Result<usize, BadScenario> {
        let fail = |field, must| Err(BadScenario::Field { field, must });
        let targets = self.crowds.iter().fold(0_usize, |all, crowd| all.saturating_add(crowd.targets));
        if targets == 0 {
            return fail("targets", "be 1 at least");
        }
        if self.crowds.iter().any(|crowd| !(0.0..=1.0).contains(&crowd.failure_rate)) {
            return fail("failure_rate", "be between 0 and 1");
        }
        if self.every.0 == 0 {
            return fail("every", "be longer than nothing");
        }
        if self.switch.0 > self.switch.1 {
            return fail("switch", "have the shorter time first");
        }
        if !(1..=RUNS_MAX).contains(&runs) {
            return fail("runs", "be between 1 and 10000");
        }
        match REPORTS_MAX / targets.saturating_mul(runs) {
            ..STEPS_MIN => fail("runs", "be fewer: with so many targets they would take too long"),
            steps => Ok(steps.min(STEPS_MAX)),
        }
    }

    fn devices(&self, old: &Version, chance: &mut Chance) -> BTreeMap<TargetId, Device> {
        let mut devices = BTreeMap::new();
        for (n, crowd) in self.crowds.iter().enumerate() {
            for m in 0..crowd.targets {
                let group = if self.crowds.len() == 1 { String::new() } else { format!("crowd{}", n + 1) };
                let breaks = chance.share() < crowd.failure_rate;
                let between = self.switch.1.0 - self.switch.0.0;
                let switch = Millis(self.switch.0.0.saturating_add((chance.share() * between as f64) as u64));
                let (runs, labels) = (old.clone(), crowd.labels.clone());
                let id = TargetId { group, name: format!("target{m}") };
                let (switching, was_on_new) = (None, false);
                devices.insert(id, Device { runs, labels, breaks, switch, switching, was_on_new });
            }
        }
        devices
    }
}

impl Device {
    /// It does what it shall, in its time.
    fn obey(&mut self, shall: Option<&Version>, now: Mono) {
        let Some(shall) = shall.filter(|shall| **shall != self.runs) else {
            self.switching = None;
            return;
        };
        if self.switching.as_ref().is_none_or(|(to, _)| to != shall) {
            self.switching = Some((shall.clone(), now));
        }
        if let Some((to, since)) = self.switching.take_if(|(_, since)| now.since(*since) >= self.switch) {
            (self.runs, _) = (to, since);
        }
    }
}

/// What is tried, under way.
struct Trial<'a> {
    scenario: &'a Scenario,
    rollout: Rollout,
    devices: BTreeMap<TargetId, Device>,
    new: Version,
    begun: Mono,
    now: Mono,
    timeline: Vec<Moment>,
}

/// One run with this seed: a version is good and everybody runs it, and another is rolled out.
///
/// Errors: it cannot be tried.
pub fn simulate(scenario: &Scenario, seed: u64) -> Result<Run, BadScenario> {
    run(scenario, seed, scenario.check(1)?)
}

fn run(scenario: &Scenario, seed: u64, steps: usize) -> Result<Run, BadScenario> {
    let mut trial = Trial::new(scenario, seed)?;
    let mut end = End::Undecided;
    for _ in 0..steps {
        trial.turn()?;
        let is_done = match trial.rollout.course() {
            Course::Steady(version) if version == trial.new => Some(End::Good),
            Course::Back { .. } if trial.rollout.rolling.as_ref().is_some_and(|rolling| rolling.is_back) => {
                Some(End::RolledBack)
            }
            _ => None,
        };
        if let Some(done) = is_done {
            end = done;
            break;
        }
        if trial.waits_for_nobody() {
            break;
        }
        trial.now = trial.now + scenario.every;
    }
    Ok(trial.ended(end))
}

/// So many runs, each with a seed of its own that follows from this one.
///
/// Errors: it cannot be tried.
pub fn forecast(scenario: &Scenario, seed: u64, runs: usize) -> Result<Forecast, BadScenario> {
    let steps = scenario.check(runs)?;
    let mut seeds = Chance(seed);
    let example = run(scenario, seeds.next(), steps)?;
    let (mut ends, mut lasted, mut on_bad, mut hurt) = ([0; 3], Vec::new(), Vec::new(), Vec::new());
    let mut count = |run: &Run| {
        ends[run.end as usize] += 1;
        lasted.push(run.lasted);
        on_bad.push(if run.end == End::RolledBack { run.exposed } else { 0 });
        hurt.push(run.hurt);
    };
    count(&example);
    for _ in 1..runs {
        count(&run(scenario, seeds.next(), steps)?);
    }
    let [good, rolled_back, undecided] = ends;
    let (lasted, on_bad, hurt) = (spread(lasted), spread(on_bad), spread(hurt));
    let analyses = scenario.strategy.analyses.iter();
    let taken_for_successful = analyses.map(|analysis| analysis.name.clone()).collect();
    Ok(Forecast { runs, good, rolled_back, undecided, lasted, on_bad, hurt, taken_for_successful, example })
}

fn spread<T: Ord + Copy + Default>(mut all: Vec<T>) -> Spread<T> {
    all.sort_unstable();
    // The smallest that so many of each hundred do not exceed.
    let at = |percent: usize| {
        let rank = (all.len() * percent).div_ceil(100).max(1);
        all.get(rank - 1).copied().unwrap_or_default()
    };
    Spread { p50: at(50), p95: at(95), max: at(100) }
}

impl<'a> Trial<'a> {
    fn new(scenario: &'a Scenario, seed: u64) -> Result<Self, BadScenario> {
        let name = |text| {
            let must = "be a version";
            Version::new(text).map_err(|_| BadScenario::Field { field: "version", must })
        };
        let (old, new) = (name("old")?, name("new")?);
        let begun = Mono(1_000_000_000);
        let devices = scenario.devices(&old, &mut Chance(seed));
        let mut trial = Self {
            scenario,
            rollout: Rollout::default(),
            devices,
            new: new.clone(),
            begun,
            now: begun,
            timeline: Vec::new(),
        };
        // What is known to be good before, whatever is asked of the next.
        trial.rollout.change(Change::SetVersion(old), begun)?;
        trial.turn()?;
        trial.rollout.change(Change::PromoteAll { by: "simulate".to_owned() }, begun)?;
        trial.rollout.change(Change::SetOptions(Some(scenario.options)), begun)?;
        trial.rollout.change(Change::SetStrategy(Some(Box::new(scenario.strategy.clone()))), begun)?;
        trial.rollout.change(Change::SetVersion(new), begun)?;
        for target in trial.devices.keys() {
            trial.rollout.give(target);
        }
        trial.rollout.take_happened();
        trial.timeline.clear();
        Ok(trial)
    }

    /// Everybody does what they shall, is reported, and it is decided.
    fn turn(&mut self) -> Result<(), BadScenario> {
        let now = self.now;
        let mut reports = Vec::with_capacity(self.devices.len());
        for (id, device) in &mut self.devices {
            let target = self.rollout.targets.get(id);
            device.obey(target.and_then(|target| target.assigned.version.as_ref()), now);
            let is_new = device.runs == self.new;
            device.was_on_new |= is_new;
            reports.push(Report {
                target: id.clone(),
                version: Some(device.runs.clone()),
                is_error: is_new && device.breaks,
                message: String::new(),
                labels: device.labels.clone(),
                failed: false,
            });
        }
        self.rollout.report(reports, now);
        self.measure();
        self.approve()?;
        let windows = &self.scenario.strategy.windows;
        let elapsed = i64::try_from(now.since(self.begun).0).unwrap_or(i64::MAX);
        let told = Told::default().opening(windows.at(Wall(self.scenario.begins.0.saturating_add(elapsed))));
        let decision = match decide(&self.rollout, Asks::default(), &told, now) {
            Ok(Step::Settle(decision)) => *decision,
            // A version was asked for, and nobody is asked anything.
            Ok(Step::Ask(_)) | Err(_) => return Ok(()),
        };
        let counts = decision.counts;
        self.rollout.take_on(decision, now);
        let happened = self.rollout.take_happened();
        if !happened.is_empty() && self.timeline.len() < TIMELINE_MAX {
            self.timeline.push(Moment { after: now.since(self.begun), counts, happened });
        }
        Ok(())
    }

    fn measure(&mut self) {
        let due = self.rollout.due(self.now);
        for (name, _) in due.now {
            let sample = Sample { outcome: SampleOutcome::Success, value: String::new() };
            self.rollout.take_sample(due.number, &name, sample, self.now);
        }
    }

    fn approve(&mut self) -> Result<(), BadScenario> {
        let is_measured = self.rollout.measured_at_gate().is_some();
        let gate = self.gate().filter(|(gate, _)| *gate == Gate::Approval && !is_measured);
        if let (Some((_, since)), Some(after)) = (gate, self.scenario.approves_after)
            && self.now.since(since) >= after
        {
            self.rollout.change(Change::Approve { by: "simulate".to_owned() }, self.now)?;
        }
        Ok(())
    }

    fn gate(&self) -> Option<(Gate, Mono)> {
        let rolling = self.rollout.rolling.as_ref()?;
        Some((rolling.stages.get(rolling.stage)?.gate, rolling.at_gate?))
    }

    /// It waits for somebody who does not come.
    fn waits_for_nobody(&self) -> bool {
        let is_measured = self.rollout.measured_at_gate().is_some();
        let is_approval = self.gate().is_some_and(|(gate, _)| gate == Gate::Approval) && !is_measured;
        is_approval && self.scenario.approves_after.is_none() && self.rollout.rolling_is_forward()
    }

    fn ended(self, end: End) -> Run {
        let bad = self.rollout.known_bad.get(&self.new).map(|bad| vec![bad.reason.clone()]);
        let was_on_new = |device: &&Device| device.was_on_new;
        Run {
            end,
            reasons: bad.unwrap_or_else(|| self.rollout.reasons.clone()),
            lasted: self.now.since(self.begun),
            exposed: self.devices.values().filter(was_on_new).count(),
            hurt: self.devices.values().filter(was_on_new).filter(|device| device.breaks).count(),
            timeline: self.timeline,
        }
    }
}

impl Rollout {
    /// It is as if the good version had been given to it before all.
    fn give(&mut self, id: &TargetId) {
        let good = self.good.clone();
        if let Some(target) = self.targets.get_mut(id) {
            target.assigned.version = good;
        }
    }

    fn rolling_is_forward(&self) -> bool {
        matches!(self.course(), Course::Forward(_))
    }
}
