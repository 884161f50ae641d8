//! From what the loop decides and hears to the numbers of slots.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use upbeat_decide::instance::{Input, Moment};
use upbeat_decide::node::Reacted;
use upbeat_decide::{Change, Effect};
use upbeat_model::target::Goal;
use upbeat_model::{Attempt, Mono, Phase, SlotId};

use crate::meter::{Meter, count};

/// The start of a slot that was ordered last.
struct Ordered {
    attempt: Attempt,
    at: Mono,
    is_executed: bool,
    /// It was ready, or failed, or somebody stopped it: it is counted.
    is_over: bool,
}

/// What the loop knows of starts that are not counted yet.
pub(crate) struct Reading {
    meter: Arc<Meter>,
    ordered: HashMap<SlotId, Ordered>,
    restarts: HashMap<SlotId, u32>,
}

impl Reading {
    pub(crate) fn new(meter: Arc<Meter>) -> Self {
        Self { meter, ordered: HashMap::new(), restarts: HashMap::new() }
    }

    pub(crate) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// These are to be performed.
    pub(crate) fn ordered(&mut self, effects: &[Effect], now: Mono) {
        for effect in effects {
            let (Effect::Start { slot, attempt, .. }
            | Effect::RunHooks { slot, attempt, moment: Moment::PreStart, .. }) = effect
            else {
                continue;
            };
            // It may be ordered again, and after its hooks it is.
            if self.ordered.get(slot).is_some_and(|before| before.attempt >= *attempt) {
                continue;
            }
            count(&self.meter.slot(slot).starts, 1);
            let begun = Ordered { attempt: *attempt, at: now, is_executed: false, is_over: false };
            self.ordered.insert(slot.clone(), begun);
        }
    }

    /// This was heard.
    pub(crate) fn heard(&mut self, slot: &SlotId, input: &Input, now: Mono) {
        let Input::Started { attempt, .. } = input else { return };
        let Some(ordered) = self.ordered.get_mut(slot) else { return };
        if ordered.attempt == *attempt && !ordered.is_executed {
            ordered.is_executed = true;
            self.meter.slot(slot).executed.took(now.since(ordered.at).as_duration());
        }
    }

    /// These look different than before.
    pub(crate) fn changed(&mut self, changes: &BTreeMap<SlotId, Change>, now: Mono) {
        for (slot, change) in changes {
            let status = &change.status;
            if status.phase == Phase::Absent && status.goal == Goal::Absent {
                self.forget(slot);
                continue;
            }
            let meter = self.meter.slot(slot);
            let before = self.restarts.insert(slot.clone(), status.restarts).unwrap_or(status.restarts);
            count(&meter.restarts, status.restarts.saturating_sub(before).into());
            let rests = |phase: Phase| matches!(phase, Phase::BackingOff | Phase::CrashLooping);
            if rests(status.phase) && !rests(change.from) {
                count(&meter.back_offs, 1);
            }
            let Some(ordered) = self.ordered.get_mut(slot) else { continue };
            if ordered.is_over || ordered.attempt != status.attempt {
                continue;
            }
            match status.phase {
                phase if phase.is_ready() => {
                    ordered.is_over = true;
                    meter.ready.took(now.since(ordered.at).as_duration());
                }
                Phase::BackingOff | Phase::CrashLooping | Phase::Failed => {
                    ordered.is_over = true;
                    count(&meter.failed_starts, 1);
                }
                Phase::Stopping | Phase::Stopped | Phase::Completed => ordered.is_over = true,
                _ => {}
            }
        }
    }

    /// The slot is none of ours any more.
    pub(crate) fn forget(&mut self, slot: &SlotId) {
        self.ordered.remove(slot);
        self.restarts.remove(slot);
        self.meter.forget(slot);
    }

    /// This was done about a failing probe.
    pub(crate) fn reacted(&self, reacted: &Reacted) {
        self.meter.slot(&reacted.slot).remedy(&reacted.probe, &reacted.action);
    }
}
