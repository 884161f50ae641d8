//! What the targets say of a version, and of the stage it is in (`spec/nixmade.md` 2.F steps 2 to 4).
//!
//! ```text
//!              required are well            no gate, or approved,
//!   ┌────────┐                  ┌─────────┐ or the pause is over   ┌────────┐
//!   │ moving │ ───────────────▶ │ at gate │ ─────────────────────▶ │ next,  │──▶ … behind the last:
//!   └────────┘                  └─────────┘                        │ moving │    good, when enough of
//!    at any time: more failed than may, of the stage or of all,    └────────┘    all are well
//!    or nobody became well for too long ──▶ bad
//! ```
//!
//! What is measured after a stage begins when that is at its gate, and it goes no further before it is successful.

use serde::{Deserialize, Serialize};
use upbeat_model::Mono;
use upbeat_model::rollout::{Counts, Course, Gate, Happened, Opening, Reason, Stage, TargetId};

use super::cycle::{Cycle, Decision, Stop};
use super::told::{Nothing, Question};
use super::view::{Tallies, View, is_longer};
use super::{Rollout, Target, measured};

/// Where a rollout is among its stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// In which; behind the last when all are done.
    pub stage: usize,
    /// Since when it is done, and waits at its gate.
    pub at_gate: Option<Mono>,
}

/// How far a rollout has come, and when it came further last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progressed {
    /// So many were well.
    pub well: usize,
    /// Of so many.
    pub total: usize,
    /// When that became more.
    pub at: Mono,
}

impl Position {
    pub(super) fn of(rollout: &Rollout) -> Self {
        let rolling = rollout.rolling.as_ref();
        rolling.map_or_else(Self::default, |rolling| Self { stage: rolling.stage, at_gate: rolling.at_gate })
    }
}

impl Progressed {
    /// What is well now. Whoever is not there any more is not missed.
    fn seen(self, counts: Counts, now: Mono) -> Self {
        let well = self.well.saturating_sub(self.total.saturating_sub(counts.total));
        let at = if counts.well > well { now } else { self.at };
        Self { well: well.max(counts.well), total: counts.total, at }
    }
}

impl Cycle<'_> {
    /// How each target stands, and whether that shows that the version is bad.
    pub(super) fn judge(&mut self) -> Result<(Decision, Tallies), Stop> {
        if self.asks.external {
            let asked = || Question::External(self.those(|target| self.view.is_assigned(target)));
            match self.told.external.as_ref().ok_or_else(asked).map_err(Stop::For)? {
                Ok(()) => {}
                Err(why) => return Err(Stop::With(Nothing::External(why.clone()))),
            }
        }
        if self.asks.monitoring {
            let asked = || Question::Monitoring(self.those(|target| self.view.runs_it(target)));
            self.view.unwell = self.told.monitoring.clone().ok_or_else(asked).map_err(Stop::For)?;
        }
        let mut decision = Decision { in_force: Some(self.view.version.clone()), ..Decision::default() };
        let (mut failed, mut is_run) = (Vec::new(), false);
        let tallies = self.view.tally(|id, target, standing| {
            is_run |= self.view.runs_it(target);
            if standing.is_failed() && !target.assigned.note.is_error {
                failed.push((id.clone(), self.failure(id, target)));
            }
        });
        (decision.failed, decision.counts, decision.is_run) = (failed, tallies.all.counts, is_run);
        if matches!(self.view.rollout.course(), Course::Forward(_)) && decision.counts.total > 0 {
            decision.bad = self.is_bad(&tallies, &mut decision);
        }
        Ok((decision, tallies))
    }

    fn failure(&self, id: &TargetId, target: &Target) -> String {
        let (view, version) = (&self.view, &self.view.version);
        if let Some(failure) = target.failed.as_deref().filter(|_| target.has_failed()) {
            return match &failure.by {
                Some(by) => format!("{by} said that it failed: {}", failure.why),
                None => format!("it was reported to have failed: {}", failure.why),
            };
        }
        let within = view.options_of(target).duration_timeout;
        match (view.unwell.get(id), &target.current.version) {
            (Some(why), Some(runs)) if runs == version => format!("target monitoring failed: {why}"),
            (_, Some(runs)) if runs == version => {
                format!("it was not well on version {version} within {within}")
            }
            _ => format!("it did not come to run version {version} within {within}"),
        }
    }

    fn is_bad(&self, tallies: &Tallies, decision: &mut Decision) -> Option<Reason> {
        let view = &self.view;
        let Counts { total, failed, .. } = tallies.all.counts;
        let required = view.rollout.options.required(total);
        let tolerated = tolerated(view, total, required);
        if failed > tolerated {
            let targets = tallies.all.failed.clone();
            return Some(Reason::TooManyFailed { failed, tolerated, total, targets });
        }
        // Whoever is in a later stage has it from before: their stage speaks for them when its turn comes.
        for (n, (stage, tally)) in view.stages.iter().zip(&tallies.stages).enumerate().take(view.stage + 1) {
            let Counts { total, failed, .. } = tally.counts;
            let tolerated = stage.tolerated(total, view.required(n, total));
            if failed > tolerated {
                let (stage, targets) = (stage.name.clone(), tally.failed.clone());
                return Some(Reason::StageFailed { stage, failed, tolerated, total, targets });
            }
        }
        self.makes_no_progress(tallies, decision)
    }

    /// Nobody became well for too long, though they could have.
    fn makes_no_progress(&self, tallies: &Tallies, decision: &mut Decision) -> Option<Reason> {
        let (rollout, now) = (self.view.rollout, self.view.now);
        let within = rollout.strategy.progress_deadline?;
        let rolling = rollout.rolling.as_ref()?;
        let progressed = rolling.progressed.seen(tallies.all.counts, now);
        decision.progressed = Some(progressed).filter(|progressed| *progressed != rolling.progressed);
        let is_held = rollout.pause.is_some() || measured::unclear(rollout).is_some();
        if is_held || self.position.at_gate.is_some() || self.closed().is_some() {
            return None;
        }
        let Counts { well, total, .. } = tallies.all.counts;
        // Nobody has to become well any more: what is measured is waited for.
        if well >= rollout.options.required(total) && measured::holds_good(rollout).is_some() {
            return None;
        }
        let opened = match self.told.opening {
            Some(Opening::Open { lasts: Some(lasts), .. }) => Mono(now.0.saturating_sub(lasts.0)),
            _ => Mono(0),
        };
        let since = progressed.at.max(rollout.woke).max(opened);
        is_longer(since, now, within).then_some(Reason::NoProgress { within, well, total })
    }

    /// From one stage to the next, as far as that goes now.
    pub(super) fn advance(&mut self, tallies: &mut Tallies, decision: &mut Decision) {
        let begun = self.position;
        while decision.counts.total > 0
            && let Some(stage) = self.view.stages.get(self.position.stage).cloned()
        {
            if self.position.at_gate.is_none() {
                let well = tallies.stages[self.position.stage].counts.well;
                if let Some(required) = self.lacks(tallies) {
                    decision.reasons.push(Reason::InStage { stage: stage.name, well, required });
                    break;
                }
                self.done(&stage, tallies, decision);
            }
            let is_open = match (stage.gate, self.position.at_gate) {
                (Gate::None, _) => true,
                (Gate::Approval, _) | (Gate::Pause(_), None) => false,
                (Gate::Pause(time), Some(since)) => self.view.now.since(since) >= time,
            };
            if !is_open || measured::holds_stage(self.view.rollout, &stage.name).is_some() {
                break;
            }
            self.position = Position { stage: self.position.stage + 1, at_gate: None };
            self.view.stage = self.position.stage;
            // Who was in it, and is not needed there any more, is in a later one.
            *tallies = self.view.tally(|_, _, _| {});
        }
        decision.position = Some(self.position).filter(|position| *position != begun);
    }

    /// How many targets of the stage it is in have to be well, if not enough are.
    fn lacks(&self, tallies: &Tallies) -> Option<usize> {
        let Counts { total, available, well, .. } = tallies.stages[self.position.stage].counts;
        let required = self.view.required(self.position.stage, total);
        // Where none has to be well, each has to have its turn at least.
        let is_done = total == 0 || well >= required && (required > 0 || available == 0);
        (!is_done).then_some(required)
    }

    /// A stage is done.
    fn done(&mut self, stage: &Stage, tallies: &Tallies, decision: &mut Decision) {
        let (name, version) = (stage.name.clone(), self.view.version.clone());
        if tallies.stages[self.position.stage].counts.total == 0 {
            decision.reasons.push(Reason::EmptyStage { stage: name.clone() });
        }
        decision.happened.push(Happened::StageDone { version: version.clone(), stage: name.clone() });
        self.position.at_gate = Some(self.view.now);
        if stage.gate != Gate::None {
            decision.happened.push(Happened::AtGate { version, stage: name, gate: stage.gate });
        }
    }

    /// What it waits for between two stages.
    pub(super) fn at_gate(&self) -> Option<Reason> {
        let since = self.position.at_gate?;
        let Stage { name, gate, .. } = self.view.stages.get(self.position.stage)?;
        if let Some(measured) = measured::holds_stage(self.view.rollout, name) {
            return Some(measured);
        }
        let until = match gate {
            Gate::Pause(time) => Some(since + *time),
            Gate::None | Gate::Approval => None,
        };
        Some(Reason::AtGate { stage: name.clone(), gate: *gate, until })
    }

    /// Whether the targets show that a version is good that was neither good nor bad yet.
    pub(super) fn conclude(&self, tallies: &Tallies, decision: &mut Decision) {
        let Counts { total, well, .. } = tallies.all.counts;
        if !matches!(self.view.rollout.course(), Course::Forward(_)) {
            return;
        }
        let required = self.view.rollout.options.required(total);
        match total {
            0 => decision.reasons.push(Reason::NoTargets),
            _ if self.position.stage < self.view.stages.len() || well < required => {}
            _ => match measured::holds_good(self.view.rollout) {
                Some(measured) => decision.reasons.push(measured),
                None if required == 0 => decision.good = Some(Reason::Declared),
                None => decision.good = Some(Reason::WellEnough { well, required, total }),
            },
        }
    }
}

/// How many of all may fail.
pub(super) fn tolerated(view: &View<'_>, total: usize, required: usize) -> usize {
    let budget = view.rollout.strategy.failure_budget;
    budget.map_or(total.saturating_sub(required), |budget| budget.of(total))
}
