//! From what the loop decides and hears to the numbers of slots.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use upbeat_decide::instance::{Input, Moment};
use upbeat_decide::node::{Outcome, Reacted};
use upbeat_decide::{Change, Effect};
use upbeat_model::target::Goal;
use upbeat_model::{Attempt, Mono, Phase, SlotId};

use crate::meter::{Meter, count};

/// The start of a slot that was ordered last.
struct Ordered {
    attempt: Attempt,
    at: Mono,
    is_executed: bool,
    /// It was ready, or has ended, or is about to: how long it took is counted.
    is_over: bool,
    /// The one before, while nobody has said that it was executed: an end may be heard before the answer
    /// to the start, and the next start be ordered meanwhile.
    before: Option<(Attempt, Mono)>,
}

impl Ordered {
    /// When this attempt was ordered, if nobody has said yet that it was executed.
    fn unheard(&mut self, attempt: Attempt) -> Option<Mono> {
        if self.attempt == attempt {
            return (!std::mem::replace(&mut self.is_executed, true)).then_some(self.at);
        }
        self.before.take_if(|(before, _)| *before == attempt).map(|(_, at)| at)
    }
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
            let before = self.ordered.get(slot).filter(|before| !before.is_executed);
            let before = before.map(|before| (before.attempt, before.at));
            let begun = Ordered { attempt: *attempt, at: now, is_executed: false, is_over: false, before };
            self.ordered.insert(slot.clone(), begun);
        }
    }

    /// This was heard.
    pub(crate) fn heard(&mut self, slot: &SlotId, input: &Input, now: Mono) {
        let Input::Started { attempt, .. } = input else { return };
        let Some(ordered) = self.ordered.get_mut(slot) else { return };
        if let Some(at) = ordered.unheard(*attempt) {
            self.meter.slot(slot).executed.took(now.since(at).as_duration());
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
                Phase::BackingOff
                | Phase::CrashLooping
                | Phase::Failed
                | Phase::Stopping
                | Phase::Stopped
                | Phase::Completed => ordered.is_over = true,
                _ => {}
            }
        }
    }

    /// This came of what was done. That a start has failed is said by whoever decides: what is shown of the
    /// slot may be the next attempt by then.
    pub(crate) fn came_to(&self, outcome: &Outcome) {
        if let Outcome::StartFailed { slot, .. } = outcome {
            count(&self.meter.slot(slot).failed_starts, 1);
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::fake;
    use crate::meter::SlotMeter;
    use upbeat_model::Wall;

    fn slot() -> SlotId {
        "shop/web/1".parse().unwrap()
    }

    fn start(attempt: u64) -> Vec<Effect> {
        let spec = serde_json::from_str(r#"{"command":["x"],"working_dir":"/"}"#).unwrap();
        let (slot, attempt) = (slot(), Attempt(attempt));
        vec![Effect::Start {
            slot,
            attempt,
            spec: Arc::new(spec),
            base_environment: Arc::default(),
            container: None,
        }]
    }

    fn looks(from: Phase, phase: Phase, attempt: u64, restarts: u32) -> BTreeMap<SlotId, Change> {
        [(slot(), fake::change(slot(), from, phase, attempt, restarts))].into()
    }

    fn started(attempt: u64) -> Input {
        Input::Started { attempt: Attempt(attempt), pid: 7, at: Wall(0), log_start: 0 }
    }

    /// Starts, failed ones, restarts, back-offs, executed, ready.
    fn numbers(reading: &Reading) -> [u64; 6] {
        let meter = reading.meter().slot(&slot());
        let SlotMeter { starts, failed_starts, restarts, back_offs, .. } = &*meter;
        let [a, b, c, d] = [starts, failed_starts, restarts, back_offs].map(|n| n.load(Relaxed));
        [a, b, c, d, meter.executed.counted().count, meter.ready.counted().count]
    }

    #[test]
    fn a_start_is_counted_once_and_ends_ready_failed_or_stopped() {
        let mut reading = Reading::new(Arc::default());
        reading.ordered(&start(1), Mono(0));
        // Ordered again in case it was lost, and answered twice.
        reading.ordered(&start(1), Mono(5));
        reading.heard(&slot(), &started(1), Mono(10));
        reading.heard(&slot(), &started(1), Mono(20));
        reading.changed(&looks(Phase::Waiting, Phase::Starting, 1, 0), Mono(10));
        assert_eq!(numbers(&reading), [1, 0, 0, 0, 1, 0]);
        reading.came_to(&Outcome::StartFailed { slot: slot(), attempt: Attempt(1) });
        reading.changed(&looks(Phase::Starting, Phase::BackingOff, 1, 0), Mono(30));
        reading.changed(&looks(Phase::BackingOff, Phase::BackingOff, 1, 0), Mono(31));
        assert_eq!(numbers(&reading), [1, 1, 0, 1, 1, 0]);
        reading.ordered(&start(2), Mono(40));
        reading.heard(&slot(), &started(1), Mono(45));
        reading.changed(&looks(Phase::BackingOff, Phase::Starting, 2, 1), Mono(50));
        reading.changed(&looks(Phase::Starting, Phase::Healthy, 2, 1), Mono(60));
        reading.changed(&looks(Phase::Healthy, Phase::Unhealthy, 2, 1), Mono(61));
        reading.changed(&looks(Phase::Unhealthy, Phase::Healthy, 2, 1), Mono(62));
        assert_eq!(numbers(&reading), [2, 1, 1, 1, 1, 1], "what was ready once does not start again");
        assert_eq!(reading.meter().slot(&slot()).ready.counted().sum, 0.02);
        reading.ordered(&start(3), Mono(70));
        reading.changed(&looks(Phase::Starting, Phase::Stopping, 3, 0), Mono(80));
        reading.changed(&looks(Phase::Stopping, Phase::Failed, 3, 0), Mono(90));
        assert_eq!(numbers(&reading), [3, 1, 1, 1, 1, 1], "one that somebody stops has not failed");
        // The end of the third was heard before the answer to its start, which comes now, twice.
        reading.ordered(&start(4), Mono(95));
        reading.heard(&slot(), &started(3), Mono(96));
        reading.heard(&slot(), &started(3), Mono(97));
        reading.heard(&slot(), &started(4), Mono(98));
        assert_eq!(numbers(&reading), [4, 1, 1, 1, 3, 1]);
        reading.changed(&looks(Phase::Stopped, Phase::Absent, 4, 0), Mono(99));
        assert!(reading.meter().slots().is_empty() && reading.ordered.is_empty());
    }
}
