//! What is told against what is owed: at each telling, and after long quiet.

use upbeat_decide::Effect;
use upbeat_model::project::{OnRestart, Signal};
use upbeat_model::reason::StopCause;
use upbeat_model::target::{Goal, TargetSlot};
use upbeat_model::{Phase, Reason, SlotId, SlotStatus};

use super::{Ledger, Page, awaits_locks, is_up, rests, runs_hooks};
use crate::check::{Onlooker, Verdict};
use crate::ending::is_fresh;

impl Ledger {
    /// Who has asked for more time to end has it.
    pub(super) fn presses(&self, effect: &Effect, now: u64) -> Verdict {
        let Effect::Stop { slot, attempt, signal, grace } = effect else { return Ok(()) };
        let asked = self.pages.get(slot).and_then(|page| page.asked_to_stop);
        match asked.filter(|(of, _)| of == attempt && *signal != Signal::KILL) {
            Some((_, Some(until))) if now + grace.0 < until => Err(format!(
                "{slot}: is to have ended {} ms before the time it has asked for",
                until - now - grace.0
            )),
            _ => Ok(()),
        }
    }

    /// People are told.
    pub(crate) fn told(&mut self, status: &SlotStatus, onlooker: &Onlooker<'_>, now: u64) -> Verdict {
        let slot = &status.slot;
        if !onlooker.workload.target.slots.contains_key(slot) {
            return Ok(());
        }
        let known = onlooker.kernel.process(slot).is_none_or(|process| process.ordered_for != 0);
        let born = self.born;
        let spent = status.reasons.iter().find_map(|reason| match reason {
            Reason::NeedsAttention { name, times, window, .. } => {
                Some((name, *times, self.times(slot, name, now.saturating_sub(window.0))))
            }
            _ => None,
        });
        let page = self.pages.entry(slot.clone()).or_default();
        if is_up(status) {
            page.up = page.up.filter(|_| !known).or(known.then_some(status.attempt));
            // It came late: that it was not there is no news of its end.
            page.heard_end.take_if(|end| *end >= status.attempt);
        }
        page.completed = status.exit.clone().filter(|_| status.phase == Phase::Completed);
        let began = page.ordered.map_or(0, |(_, at)| at);
        if let Some((name, allowed, times)) = spent {
            if status.probes.get(name).is_none_or(|shown| shown.passing != Some(false)) {
                return Err(format!("{slot}: needs attention though `{name}` does not fail"));
            }
            let is_first = page.needs_attention != Some(status.attempt)
                && born < began
                && !awaits_locks(slot, status.attempt, onlooker);
            if is_first && times < allowed {
                return Err(format!("{slot}: needs attention after {times} of {allowed} remedies"));
            }
            page.needs_attention = Some(status.attempt);
        }
        let why = status.reasons.iter().find_map(|reason| match reason {
            Reason::BeingStopped { why, .. } => Some(*why),
            _ => None,
        });
        if why == Some(StopCause::DependencyEnded)
            && let Some(bereft) = page.bereft.filter(|of| of.attempt == status.attempt && of.stops)
        {
            page.stays_down = (!awaits_locks(slot, status.attempt, onlooker)).then_some(bereft.generation);
        }
        page.owes(status, onlooker)?;
        if gave_up(status) {
            let has_had_its_time = page.gave_up || page.gives_up_at.is_some_and(|at| at <= now);
            if !has_had_its_time {
                return Err(format!("{slot}: is given up before its stop command has had all its time"));
            }
            page.gave_up = true;
        }
        let is_down = !status.phase.is_alive() && page.outside.is_some();
        match is_down
            && status.attempt == page.outside.unwrap_or_default()
            && !onlooker.node.is_observing(slot)
        {
            true => Err(format!("{slot}: is {}, and its stop command was not run", status.phase)),
            false => Ok(()),
        }
    }

    /// What runs now rests on what runs now.
    pub(crate) fn note_edges(&mut self, onlooker: &Onlooker<'_>) {
        let target = &onlooker.workload.target;
        let up = |slot: &SlotId| {
            let status = onlooker.node.status(slot).filter(|_| !onlooker.node.is_observing(slot))?;
            let settled = is_up(status) && status.phase != Phase::Stopping && !runs_hooks(status);
            settled.then_some(status.attempt)
        };
        for (slot, wish) in &target.slots {
            if wish.spec.depends_on.values().all(|edge| edge.on_restart == OnRestart::Ignore) {
                continue;
            }
            let Some(attempt) = up(slot) else { continue };
            let page = self.pages.entry(slot.clone()).or_default();
            if page.rests_as != Some(attempt) {
                page.rests_as = Some(attempt);
                page.rests_on.clear();
            }
            // What has completed has done what it was there for.
            page.rests_on.retain(|on, theirs| {
                let seen = onlooker.node.status(on);
                seen.is_none_or(|seen| seen.phase != Phase::Completed || seen.attempt != *theirs)
            });
            for (on, _) in target.slots.iter().filter(|(on, wish)| *on != slot && wish.goal != Goal::Absent) {
                if let (Some(_), Some(theirs)) = (rests(wish, &on.service), up(on)) {
                    page.rests_on.entry(on.clone()).or_insert(theirs);
                }
            }
        }
    }

    /// After long quiet: nothing is owed any more.
    pub(crate) fn at_the_end(&self, onlooker: &Onlooker<'_>, wall: i64) -> Verdict {
        for (slot, page) in &self.pages {
            let Some(status) = onlooker.node.status(slot) else { continue };
            let wish = &onlooker.workload.target.slots[slot];
            if is_fresh(status, wall) {
                continue;
            }
            let runs_on = page.condemned.iter().find(|attempt| onlooker.kernel.runs(slot, **attempt));
            if let Some(attempt) = runs_on.filter(|_| !page.gave_up) {
                return Err(format!("{slot}: attempt {attempt} is no good, and runs on for ever"));
            }
            if let Some((attempt, since)) = page.reload_due
                && onlooker.kernel.runs(slot, attempt)
                && (status.phase.is_ready() || status.phase == Phase::Unhealthy)
                && !onlooker.kernel.reloads(slot, attempt).iter().any(|at| *at >= since)
            {
                return Err(format!("{slot}: somebody has asked it to reload, and it never was"));
            }
            // Nothing more is done about what cannot be stopped, and that is told.
            if page.rests_as == Some(status.attempt) && is_up(status) && !gave_up(status) {
                self.rests_at_the_end(slot, page, wish, status, onlooker)?;
            }
        }
        Ok(())
    }

    fn rests_at_the_end(
        &self,
        slot: &SlotId,
        page: &Page,
        wish: &TargetSlot,
        status: &SlotStatus,
        onlooker: &Onlooker<'_>,
    ) -> Verdict {
        for (on, attempt) in &page.rests_on {
            let Some(theirs) = onlooker.node.status(on) else { continue };
            if theirs.attempt == *attempt && is_up(theirs) {
                continue;
            }
            match rests(wish, &on.service) {
                Some(OnRestart::Restart | OnRestart::Stop) => {
                    return Err(format!("{slot}: runs on, and attempt {attempt} of {on} has ended"));
                }
                Some(OnRestart::Reload) if theirs.phase.is_ready() && theirs.attempt > *attempt => {
                    let back = onlooker.began(on, theirs.attempt);
                    let copies = onlooker.workload.copies(&on.service);
                    let edge = &wish.spec.depends_on[&on.service];
                    let holds = copies.iter().all(|copy| onlooker.holds(copy, &edge.condition));
                    let reloads = onlooker.kernel.reloads(slot, status.attempt);
                    if holds && !reloads.iter().any(|at| Some(*at) >= back) {
                        return Err(format!("{slot}: {on} is back, and it was not reloaded since"));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Its stop command has failed for all its time.
pub(crate) fn gave_up(status: &SlotStatus) -> bool {
    status.reasons.iter().any(|reason| matches!(reason, Reason::StopFailed { .. }))
}

impl Page {
    /// What is to be done to this copy is told as long as it was not done.
    fn owes(&self, status: &SlotStatus, onlooker: &Onlooker<'_>) -> Verdict {
        let (slot, page) = (&status.slot, self);
        let reloads = |reason: &Reason| matches!(reason, Reason::Reloads | Reason::ReloadFailed { .. });
        if let Some((attempt, since)) = page.reload_due
            && attempt == status.attempt
            && (status.phase.is_ready() || status.phase == Phase::Unhealthy)
            && !onlooker.node.is_observing(slot)
            && onlooker.kernel.runs(slot, attempt)
            && !status.reasons.iter().any(reloads)
            && !onlooker.kernel.reloads(slot, attempt).iter().any(|at| *at >= since)
        {
            return Err(format!("{slot}: somebody has asked it to reload, and nobody knows that any more"));
        }
        if let Some(mends) = &page.mends
            && !mends.is_ordered
            && mends.attempt == status.attempt
            && (status.phase.is_ready() || matches!(status.phase, Phase::Unhealthy | Phase::NeedsAttention))
            && !gave_up(status)
            && !onlooker.node.is_observing(slot)
        {
            return Err(format!("{slot}: nothing is run about `{}`, and was to be", mends.probe));
        }
        if page.comes_back == Some(status.attempt) && matches!(status.phase, Phase::Failed | Phase::Completed)
        {
            return Err(format!(
                "{slot}: is left {}, and is to be restarted as its probe failed",
                status.phase
            ));
        }
        Ok(())
    }
}
