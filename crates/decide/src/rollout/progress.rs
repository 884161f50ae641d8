//! Where a rollout is, in one value for people.
//!
//! Targets are looked at once for each change of a rollout, and what that came to is remembered: with time alone
//! only those change that are on their way, and when each of them has failed is known beforehand. So where a rollout
//! is, at any moment until its next change, costs nothing for each target.

use std::collections::BTreeMap;

use upbeat_model::Mono;
use upbeat_model::rollout::{
    AtGate, Budget, Counts, Course, Current, Gate, Progress, StageProgress, StageState,
};

use super::judge::{Position, tolerated};
use super::view::{Standing, Tallies, View};
use super::{Rolling, Rollout, cycle};

/// How all targets stand to the version in force, until the rollout changes.
#[derive(Clone, Debug, Default)]
pub struct Standings {
    /// As it was when they were counted.
    tallies: Tallies,
    /// From when on how many more have failed, and in which stage; as a decision assigns one moment to all it moves,
    /// there are few.
    fail: BTreeMap<(Mono, usize), usize>,
}

impl Standings {
    /// As it is now, and not before they were counted.
    fn tallies(&self, now: Mono) -> Tallies {
        let mut tallies = self.tallies.clone();
        for ((_, stage), count) in self.fail.range(..=(now, usize::MAX)) {
            let of_stage = tallies.stages.get_mut(*stage).map(|tally| &mut tally.counts);
            for counts in std::iter::once(&mut tallies.all.counts).chain(of_stage) {
                counts.on_the_way -= count;
                counts.failed += count;
            }
        }
        tallies
    }

    /// How many there are of each kind now.
    pub fn counts(&self, now: Mono) -> Counts {
        self.tallies(now).all.counts
    }
}

impl Rollout {
    /// How all targets stand: looks at each.
    pub fn standings(&self, now: Mono) -> Standings {
        let Some(version) = self.in_force() else {
            let mut standings = Standings::default();
            standings.tallies.all.counts.total = self.targets.len();
            return standings;
        };
        let (view, mut fail) = (View::new(self, version, now), BTreeMap::new());
        let mut tallies = view.tally(|_, target, standing| {
            if standing == Standing::OnTheWay {
                let stage = view.stage_of(target).unwrap_or_default();
                *fail.entry((view.fails_at(target), stage)).or_default() += 1;
            }
        });
        // Who they are is nothing for people to look at here, and names are long.
        tallies.stages.iter_mut().chain([&mut tallies.all]).for_each(|tally| tally.failed = Vec::new());
        Standings { tallies, fail }
    }

    /// Where it is, and why.
    pub fn progress(&self, now: Mono) -> Progress {
        self.progress_by(&self.standings(now), now)
    }

    /// The same, where it is known how its targets stand: as they have stood since they were counted.
    pub fn progress_by(&self, standings: &Standings, now: Mono) -> Progress {
        let course = self.course();
        let mut progress = Progress {
            target: self.target.clone(),
            current: self.rolling.as_ref().map(|rolling| self.current(rolling)),
            good: self.good.clone(),
            counts: Counts { total: self.targets.len(), ..Counts::default() },
            slots: self.options.slots(self.targets.len()),
            pause: self.pause.clone(),
            analyses: self.analyses_progress(),
            reasons: self.reasons.clone(),
            ..Progress::default()
        };
        if let Some(version) = self.in_force() {
            let view = View::new(self, version, now);
            let tallies = standings.tallies(now);
            let total = tallies.all.counts.total;
            progress.counts = tallies.all.counts;
            progress.required = self.options.required(total);
            let of = tolerated(&view, total, progress.required);
            progress.budget = Budget { used: tallies.all.counts.failed, of };
            progress.unwell = cycle::unwell(&view, &tallies);
            progress.slots = cycle::slots(&view, &tallies);
            let position = Position::of(self);
            progress.stages = stages(&view, &tallies, position);
            progress.gate = at_gate(&view, position);
        }
        if let (Course::Forward(_), Some(rolling)) = (&course, &self.rolling) {
            let within = self.strategy.progress_deadline;
            progress.no_progress = within.map(|within| (rolling.progressed.at, within));
        }
        Progress { course, ..progress }
    }

    fn current(&self, rolling: &Rolling) -> Current {
        let Rolling { number, version, from, since, by, is_bad, .. } = rolling.clone();
        let bad = self.known_bad.get(&version).filter(|_| is_bad).map(|bad| bad.reason.clone());
        Current { number, version, from, since, by, bad }
    }
}

fn stages(view: &View<'_>, tallies: &Tallies, position: Position) -> Vec<StageProgress> {
    let of = |(n, (stage, tally)): (usize, (&upbeat_model::rollout::Stage, &super::view::Tally))| {
        let state = match n.cmp(&position.stage) {
            std::cmp::Ordering::Less => StageState::Done,
            std::cmp::Ordering::Equal if position.at_gate.is_some() => StageState::AtGate,
            std::cmp::Ordering::Equal => StageState::OnItsWay,
            std::cmp::Ordering::Greater => StageState::Waits,
        };
        let (counts, total) = (tally.counts, tally.counts.total);
        let required = view.required(n, total);
        let budget = Budget { used: counts.failed, of: stage.tolerated(total, required) };
        StageProgress { name: stage.name.clone(), state, counts, required, budget, gate: stage.gate }
    };
    view.stages.iter().zip(&tallies.stages).enumerate().map(of).collect()
}

fn at_gate(view: &View<'_>, position: Position) -> Option<AtGate> {
    let since = position.at_gate?;
    let stage = view.stages.get(position.stage)?;
    let until = match stage.gate {
        Gate::Pause(time) => Some(since + time),
        Gate::None | Gate::Approval => None,
    };
    Some(AtGate { stage: stage.name.clone(), gate: stage.gate, since, until })
}
