//! How targets stand to a version, each by itself and counted: what decisions and people look at.

use std::collections::BTreeMap;

use upbeat_model::rollout::{Counts, Course, NAMED, Options, Stage, TargetId, Version, Who};
use upbeat_model::{Millis, Mono};

use super::{Rollout, Target};

/// How a target stands to the version in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Available,
    OnTheWay,
    Well,
    Failed,
}

/// Whole seconds count, as they always have (`spec/nixmade.md` 2.F step 3).
pub(super) fn is_longer(since: Mono, now: Mono, than: Millis) -> bool {
    now.since(since).0 / 1000 > than.0 / 1000
}

/// Whether a stage is of those that have these labels, and if so theirs.
pub(super) fn is_labelled(stage: &Stage, labels: &BTreeMap<String, String>) -> bool {
    let has = |(name, value): (&String, &String)| labels.get(name) == Some(value);
    matches!(&stage.who, Who::Labels(asked) if asked.iter().all(has))
}

/// The first stage that a target with these labels fits, where there is room; the last is of all.
pub(super) fn place(stages: &[Stage], labels: &BTreeMap<String, String>, room: &mut [usize]) -> usize {
    for (n, (stage, room)) in stages.iter().zip(room).enumerate() {
        match stage.who {
            Who::Labels(_) if is_labelled(stage, labels) => return n,
            Who::Amount(_) if *room > 0 => {
                *room -= 1;
                return n;
            }
            Who::Rest => return n,
            Who::Labels(_) | Who::Amount(_) => {}
        }
    }
    stages.len().saturating_sub(1)
}

/// How many of all a stage is for, where that is said by number.
pub(super) fn quota(stage: &Stage, total: usize) -> Option<usize> {
    match stage.who {
        Who::Amount(amount) => Some(amount.of(total).max(1)),
        Who::Labels(_) | Who::Rest => None,
    }
}

/// Some targets, counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub counts: Counts,
    /// The first that have failed.
    pub failed: Vec<TargetId>,
}

/// All targets, counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Tallies {
    pub all: Tally,
    /// Of each stage. Who is not moved yet is counted where they would be, as it looks now.
    pub stages: Vec<Tally>,
    /// Whoever serves, whatever the version. Only counted where something is limited by that.
    pub ok: usize,
    /// Whoever was made in addition. The same.
    pub extra: usize,
}

impl Tally {
    fn count(&mut self, id: &TargetId, standing: Standing) {
        let counts = &mut self.counts;
        counts.total += 1;
        match standing {
            Standing::Available => counts.available += 1,
            Standing::OnTheWay => counts.on_the_way += 1,
            Standing::Well => counts.well += 1,
            Standing::Failed => {
                counts.failed += 1;
                if self.failed.len() < NAMED {
                    self.failed.push(id.clone());
                }
            }
        }
    }
}

/// The targets as a version sees them that is, or shall be, in force.
pub(super) struct View<'a> {
    pub rollout: &'a Rollout,
    pub version: Version,
    /// In which it goes forward. None: it does not, or it does in one.
    pub stages: Vec<Stage>,
    /// Of each stage, those that hold in it.
    options: Vec<Options>,
    /// Which of them it is in; behind the last when all are done.
    pub stage: usize,
    /// Of whom whoever monitors says that they are not well, and why.
    pub unwell: BTreeMap<TargetId, String>,
    pub now: Mono,
}

impl<'a> View<'a> {
    pub(super) fn new(rollout: &'a Rollout, version: Version, now: Mono) -> Self {
        let (stages, stage) = match (rollout.course(), &rollout.rolling) {
            (Course::Forward(_), Some(rolling)) => (rolling.stages.clone(), rolling.stage),
            // It begins with this decision.
            (Course::Forward(_), None) => (rollout.strategy.whole(), 0),
            _ => (Vec::new(), 0),
        };
        let options = stages.iter().map(|stage| stage.options.over(rollout.options)).collect();
        Self { rollout, version, stages, options, stage, unwell: BTreeMap::new(), now }
    }

    /// The options that hold for a target.
    pub(super) fn options_of(&self, target: &Target) -> &Options {
        if self.options.is_empty() {
            return &self.rollout.options;
        }
        let stage = target.stage.and_then(|stage| self.options.get(usize::from(stage)));
        stage.unwrap_or(&self.rollout.options)
    }

    /// How many targets of a stage have to be well.
    pub(super) fn required(&self, stage: usize, targets: usize) -> usize {
        self.options.get(stage).map_or(0, |options| options.required(targets))
    }

    pub(super) fn is_assigned(&self, target: &Target) -> bool {
        target.assigned.version.as_ref() == Some(&self.version)
    }

    pub(super) fn runs_it(&self, target: &Target) -> bool {
        self.is_assigned(target) && target.current.version.as_ref() == Some(&self.version)
    }

    pub(super) fn standing(&self, id: &TargetId, target: &Target) -> Standing {
        if !self.is_assigned(target) {
            return Standing::Available;
        }
        if target.has_failed() || self.unwell.contains_key(id) && self.runs_it(target) {
            return Standing::Failed;
        }
        let (options, current) = (self.options_of(target), &target.current);
        // It was reported to be well when it had been for long enough: that it has been silent since the
        // beginning of that time shows nothing.
        let is_proven = is_longer(current.note.at, target.seen, options.success_timeout);
        if current.version.as_ref() == Some(&self.version) && !current.note.is_error && is_proven {
            return Standing::Well;
        }
        match is_longer(target.assigned.since, self.now, options.duration_timeout) {
            true => Standing::Failed,
            false => Standing::OnTheWay,
        }
    }

    /// From when on one that is on its way has failed, if nothing else is said of it: the first moment that is longer
    /// ago than it has time for.
    pub(super) fn fails_at(&self, target: &Target) -> Mono {
        let seconds = self.options_of(target).duration_timeout.0 / 1000;
        target.assigned.since + Millis((seconds + 1).saturating_mul(1000))
    }

    /// Which stage one is counted in to whom the version is assigned; none: there are no stages.
    pub(super) fn stage_of(&self, target: &Target) -> Option<usize> {
        let last = self.stages.len().checked_sub(1)?;
        Some(target.stage.map_or(last, |stage| usize::from(stage).min(last)))
    }

    /// It serves, in whatever version: to move it is to have one less that does.
    pub(super) fn is_ok(target: &Target, standing: Standing) -> bool {
        let current = &target.current;
        match standing {
            Standing::Well => true,
            Standing::OnTheWay | Standing::Failed => false,
            Standing::Available => {
                current.version.is_some() && !current.note.is_error && !target.has_failed()
            }
        }
    }

    /// Counts all, and calls for each to whom the version is assigned.
    pub(super) fn tally(&self, mut each: impl FnMut(&TargetId, &Target, Standing)) -> Tallies {
        let mut tallies = Tallies { stages: vec![Tally::default(); self.stages.len()], ..Tallies::default() };
        let strategy = &self.rollout.strategy;
        let is_limited = strategy.max_unavailable.is_some() || strategy.max_surge.is_some();
        let mut room = self.room();
        let is_plain = self.stages.is_empty() && !is_limited;
        let mut plain = 0;
        for (id, target) in self.rollout.targets.iter() {
            // Most are such, most of the time; and of a million, it would be felt to ask more of them.
            if is_plain && !self.is_assigned(target) {
                plain += 1;
                continue;
            }
            let standing = self.standing(id, target);
            tallies.all.count(id, standing);
            if is_limited {
                tallies.extra += usize::from(target.is_extra);
                tallies.ok += usize::from(Self::is_ok(target, standing));
            }
            if let Some(stage) = self.stage_of(target) {
                let stage = match standing {
                    Standing::Available => place(&self.stages, &target.labels, &mut room),
                    _ => stage,
                };
                tallies.stages[stage].count(id, standing);
            }
            if standing != Standing::Available {
                each(id, target, standing);
            }
        }
        tallies.all.counts.total += plain;
        tallies.all.counts.available += plain;
        tallies
    }

    /// How many more there is room for in each stage that has not passed.
    fn room(&self) -> Vec<usize> {
        let mut room = vec![0; self.stages.len()];
        if self.stages.is_empty() {
            return room;
        }
        let mut taken = room.clone();
        for target in self.rollout.targets.values().filter(|target| self.is_assigned(target)) {
            if let Some(taken) = target.stage.and_then(|stage| taken.get_mut(usize::from(stage))) {
                *taken += 1;
            }
        }
        for (n, stage) in self.stages.iter().enumerate().skip(self.stage) {
            let quota = quota(stage, self.rollout.targets.len()).unwrap_or(0);
            room[n] = quota.saturating_sub(taken[n]);
        }
        room
    }

    /// The stage in which one with these labels may be moved now, if it may.
    pub(super) fn may_go(&self, labels: &BTreeMap<String, String>) -> Option<usize> {
        let Some(last) = self.stages.len().checked_sub(1) else { return Some(0) };
        let labelled = self.stages.iter().take(self.stage + 1).position(|stage| is_labelled(stage, labels));
        let is_for_all = |stage: &Stage| !matches!(stage.who, Who::Labels(_));
        match self.stages.get(self.stage) {
            _ if labelled.is_some() => labelled,
            None => Some(last),
            Some(stage) => is_for_all(stage).then_some(self.stage),
        }
    }
}

impl Target {
    /// It was said to have failed on what it shall run.
    pub(super) fn has_failed(&self) -> bool {
        let is_of_it = |failure: &super::Failure| Some(&failure.version) == self.assigned.version.as_ref();
        self.failed.as_deref().is_some_and(is_of_it)
    }
}

impl Rollout {
    /// How all targets stand to the version in force.
    pub(super) fn counts(&self, now: Mono) -> Counts {
        self.standings(now).counts(now)
    }
}
