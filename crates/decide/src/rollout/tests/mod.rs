//! A controller, a clock, and what people ask.

mod analyses;
mod checker;
mod fleets;
mod limits;
mod measured;
mod rows;
mod rules;
mod samples;
mod simulated;
mod stages;
mod stories;
mod units;

use std::collections::BTreeMap;

use upbeat_model::rollout::{Amount, Opening, Options, Report, TargetId, Version};
use upbeat_model::{Millis, Mono};

use super::*;

fn v(text: &str) -> Version {
    Version::new(text).unwrap()
}

fn id(name: &str) -> TargetId {
    let (group, name) = name.split_once('/').unwrap_or(("", name));
    TargetId { group: group.to_owned(), name: name.to_owned() }
}

fn options(batch: u32, success_percent: u32, success: u64, duration: u64) -> Options {
    Options {
        batch: Amount::Percent(batch),
        success_percent,
        success_timeout: Millis::seconds(success),
        duration_timeout: Millis::seconds(duration),
    }
}

/// What a target of the controller is.
#[derive(Clone, Debug)]
struct Device {
    version: Option<Version>,
    is_error: bool,
    /// Its controller does not wait for it any more.
    failed: bool,
    labels: BTreeMap<String, String>,
}

/// One entity, and whoever reports it.
struct Story {
    rollout: Rollout,
    now: Mono,
    asks: Asks,
    devices: BTreeMap<TargetId, Device>,
    /// Whether it is the time, where somebody says so.
    opening: Option<Opening>,
    /// What answers to a question.
    answers: Box<dyn FnMut(&Question) -> Answer>,
    /// Of the last decision.
    reasons: Vec<Reason>,
    /// What a store holds of it.
    kept: Kept,
}

/// The head and each target, apart, as they were written down last.
#[derive(Default)]
struct Kept {
    head: String,
    targets: BTreeMap<TargetId, String>,
}

impl Story {
    fn new() -> Self {
        Self {
            rollout: Rollout::default(),
            now: Mono(1_000_000),
            asks: Asks::default(),
            devices: BTreeMap::new(),
            opening: None,
            answers: Box::new(|question| panic!("nobody answers {question:?}")),
            reasons: Vec::new(),
            kept: Kept::default(),
        }
    }

    /// So many targets run `v1`, which is known to be good; and `v2` was asked for.
    fn established(count: usize) -> Self {
        let mut story = Self::new();
        story.devices.extend((0..count).map(|n| (id(&format!("target{n}")), device("v1"))));
        story.options(options(100, 0, 0, 0));
        story.ask(Change::SetVersion(v("v1")));
        story.call();
        assert_eq!(story.rollout.good, Some(v("v1")));
        story.pass(1);
        story.rollout.change(Change::SetOptions(None), story.now).unwrap();
        story.options(Options { success_timeout: Millis(0), ..Options::default() });
        story.ask(Change::SetVersion(v("v2")));
        assert_eq!(story.call(), count_of(&[("v1", count)]), "nobody is moved by the call that begins it");
        assert_eq!(story.rollout.rolling.as_ref().unwrap().version, v("v2"));
        story
    }

    fn options(&mut self, options: Options) {
        self.rollout.change(Change::SetOptions(Some(options)), self.now).unwrap();
    }

    fn ask(&mut self, change: Change) {
        self.rollout.change(change, self.now).unwrap();
    }

    /// Only what was touched is written.
    fn write_down(&mut self) {
        self.kept.head = serde_json::to_string(&self.rollout).unwrap();
        for id in self.rollout.targets.take_touched() {
            match self.rollout.targets.get(&id) {
                Some(target) => drop(self.kept.targets.insert(id, serde_json::to_string(target).unwrap())),
                None => drop(self.kept.targets.remove(&id)),
            }
        }
    }

    /// The daemon dies, and another reads what was kept.
    fn restart(&mut self) {
        self.write_down();
        let targets = self.kept.targets.iter();
        let targets = targets.map(|(id, text)| (id.clone(), serde_json::from_str(text).unwrap()));
        let targets: BTreeMap<TargetId, Target> = targets.collect();
        for (id, target) in self.rollout.targets.iter() {
            assert_eq!(Target { seen: target.seen, ..targets[id].clone() }, *target, "{id} was touched");
        }
        let targets = targets.into_iter().collect();
        self.rollout = Rollout { targets, ..serde_json::from_str(&self.kept.head).unwrap() };
        self.rollout.recovered(self.now);
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now + Millis::seconds(seconds);
    }

    /// All are reported as they are. Returns how many shall run which version.
    fn call(&mut self) -> BTreeMap<String, usize> {
        let all: Vec<TargetId> = self.devices.keys().cloned().collect();
        self.call_of(&all);
        self.assigned()
    }

    /// These are reported, and it is decided.
    fn call_of(&mut self, some: &[TargetId]) {
        let reports = some.iter().map(|id| self.devices[id].report(id, "said"));
        self.rollout.report(reports.collect::<Vec<_>>(), self.now);
        self.try_decide().unwrap();
    }

    fn try_decide(&mut self) -> Result<(), Nothing> {
        let mut told = Told::default();
        if let Some(opening) = self.opening.clone() {
            told = told.opening(opening);
        }
        loop {
            match decide(&self.rollout, self.asks, &told, self.now)? {
                Step::Ask(question) => told.take((self.answers)(&question)),
                Step::Settle(decision) => {
                    self.reasons = decision.reasons.clone();
                    self.rollout.take_on(*decision, self.now);
                    return Ok(());
                }
            }
        }
    }

    fn assigned(&self) -> BTreeMap<String, usize> {
        let mut count = BTreeMap::new();
        for target in self.rollout.targets.values() {
            let version = target.assigned.version.as_ref().map(ToString::to_string).unwrap_or_default();
            *count.entry(version).or_default() += 1;
        }
        count
    }

    /// Everybody runs what they shall; who is new is there.
    fn obey(&mut self) {
        let shall = self.rollout.targets.iter().map(|(id, target)| {
            let was = self.devices.get(id).cloned().unwrap_or_else(|| device("v0"));
            (id.clone(), Device { version: target.assigned.version.clone(), ..was })
        });
        self.devices = shall.collect();
    }

    /// Whoever runs this is not well.
    fn breaks(&mut self, version: &str) {
        for device in self.devices.values_mut() {
            device.is_error |= device.version.as_ref() == Some(&v(version));
        }
    }

    fn why(&self) -> String {
        self.reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }
}

impl Device {
    fn report(&self, id: &TargetId, message: &str) -> Report {
        let Self { version, is_error, failed, labels } = self.clone();
        Report { target: id.clone(), version, is_error, message: message.into(), labels, failed }
    }
}

fn device(version: &str) -> Device {
    Device { version: Some(v(version)), is_error: false, failed: false, labels: BTreeMap::new() }
}

fn count_of(versions: &[(&str, usize)]) -> BTreeMap<String, usize> {
    versions.iter().map(|(version, count)| ((*version).to_owned(), *count)).collect()
}
