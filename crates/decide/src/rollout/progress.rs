//! Where a rollout is, in one value for people.

use upbeat_model::Mono;
use upbeat_model::rollout::{
    AtGate, Budget, Counts, Course, Current, Gate, Progress, StageProgress, StageState,
};

use super::judge::{Position, tolerated};
use super::view::{Tallies, View};
use super::{Rolling, Rollout, cycle};

impl Rollout {
    /// Where it is, and why.
    pub fn progress(&self, now: Mono) -> Progress {
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
            let tallies = view.tally(|_, _, _| {});
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
