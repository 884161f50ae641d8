//! How what was decided becomes what is, and what is told of it.

use std::collections::BTreeSet;

use upbeat_model::Mono;
use upbeat_model::rollout::{Happened, Held, Note, Several, TargetId};

use super::{Course, Decision, NewTarget, Rollout, Target, ingest};

/// So much that happened waits for whoever takes note of it. One call makes ten or so; of more than this, the
/// first are dropped, and counted.
pub const HAPPENED_MAX: usize = 256;

impl Rollout {
    /// Takes on what was decided from this very state.
    pub fn take_on(&mut self, decision: Decision, now: Mono) {
        if self.rolling.is_none()
            && let Some(target) = self.target.clone()
        {
            self.roll(target, now);
        }
        self.reasons = decision.reasons.clone();
        self.come_further(&decision, now);
        self.take_on_targets(&decision, now);
        if decision.is_back
            && let Course::Back { from, to } = self.course()
        {
            let failed = decision.counts.failed;
            self.note(Happened::RolledBack { from, to, failed });
        }
        if let Some(reason) = decision.bad {
            self.condemn(reason, decision.counts, now);
        }
        if let Some(reason) = decision.good {
            self.prove(reason, decision.counts, now);
        }
        if let Some(version) = decision.rolling {
            self.roll(version, now);
        }
    }

    fn come_further(&mut self, decision: &Decision, now: Mono) {
        decision.happened.iter().cloned().for_each(|happened| self.note(happened));
        let is_forward = matches!(self.course(), Course::Forward(_));
        let Some(rolling) = &mut self.rolling else { return };
        if decision.is_run && is_forward {
            rolling.measure_throughout(now);
        }
        rolling.is_back |= decision.is_back;
        rolling.progressed = decision.progressed.unwrap_or(rolling.progressed);
        if let Some(position) = decision.position {
            rolling.begin_stage(position, decision.counts, now);
        }
    }

    fn take_on_targets(&mut self, decision: &Decision, now: Mono) {
        let text = self.assignment();
        for (id, why) in &decision.failed {
            if let Some(target) = self.targets.get_mut(id) {
                target.assigned.note = Note { text: why.clone(), at: now, is_error: true };
            }
        }
        self.remove(&decision.removed);
        for NewTarget { id, labels } in &decision.created {
            let note = Note { text: ingest::NEW.to_owned(), at: now, is_error: false };
            let assigned = Held { version: self.good.clone(), since: now, note };
            let current = Held { since: now, ..Held::default() };
            let labels = labels.clone();
            let target = Target { current, assigned, labels, seen: now, is_extra: true, ..Target::default() };
            self.targets.insert(id.clone(), target);
        }
        let Some(version) = &decision.in_force else { return };
        for (n, id) in decision.assigned.iter().enumerate() {
            if let Some(target) = self.targets.get_mut(id) {
                let note = Note { text: format!("{text} {version}"), at: now, is_error: false };
                target.assigned = Held { version: Some(version.clone()), since: now, note };
                (target.failed, target.stage) = (None, decision.placed.get(n).copied());
            }
        }
        let version = version.clone();
        if !decision.failed.is_empty() {
            let targets = Several::of(decision.failed.iter().map(|(id, _)| id));
            self.note(Happened::Failed { version: version.clone(), targets });
        }
        if !decision.removed.is_empty() {
            self.note(Happened::Removed { targets: Several::of(&decision.removed) });
        }
        if !decision.assigned.is_empty() {
            self.note(Happened::Assigned { version, targets: Several::of(&decision.assigned) });
        }
    }

    fn remove(&mut self, gone: &BTreeSet<TargetId>) {
        for id in gone {
            let was_extra = self.targets.get(id).is_none_or(|target| target.is_extra);
            self.targets.remove(id);
            if let Some(rolling) = self.rolling.as_mut().filter(|_| !was_extra) {
                rolling.removed += 1;
            }
        }
    }

    /// These were removed for a question that nobody asks any more, as another version is in force by now, or nobody
    /// came to a decision: whoever removes has done so when it answers. They count as removed in the rollout that is
    /// there by now, so that no more go than may.
    pub fn take_gone(&mut self, gone: &[TargetId]) {
        let is_known = |id: &&TargetId| self.targets.get(id).is_some();
        let gone: BTreeSet<TargetId> = gone.iter().filter(is_known).cloned().collect();
        if !gone.is_empty() {
            self.remove(&gone);
            self.note(Happened::Removed { targets: Several::of(&gone) });
        }
    }

    /// In the words of the first such engine.
    fn assignment(&self) -> &'static str {
        match self.course() {
            Course::Back { .. } => "Rolling back to lkg version",
            Course::Steady(_) => "Setting LKG to version",
            Course::None | Course::Forward(_) | Course::Halted(_) => "Rollout new version",
        }
    }

    pub(super) fn note(&mut self, happened: Happened) {
        self.happened.push(happened);
        if self.happened.len() <= HAPPENED_MAX {
            return;
        }
        // The place of the first two is taken by how many they were.
        let count = |happened: Happened| match happened {
            Happened::Dropped { count } => count,
            _ => 1,
        };
        let dropped = self.happened.drain(..2).map(count).sum();
        self.happened.insert(0, Happened::Dropped { count: dropped });
    }

    /// What happened since this was asked last, in its order.
    pub fn take_happened(&mut self) -> Vec<Happened> {
        std::mem::take(&mut self.happened)
    }
}
