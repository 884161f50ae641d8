//! What somebody beside the machine can count: orders, ends, answers to probes.

use upbeat_decide::instance::{Input, Moment, Observation};
use upbeat_decide::{Bundle, Effect};
use upbeat_model::SlotId;
use upbeat_model::target::Ask;

use crate::world::World;

impl World {
    /// Orders that are given, or will be by a daemon that remembers them.
    pub(crate) fn remember_orders(&mut self, bundle: &Bundle) {
        for effect in &bundle.effects {
            let slot = effect.slot().clone();
            match effect {
                Effect::Start { attempt, spec, .. } => {
                    let generation = self.workload.target.slots[&slot].generation;
                    self.runs.started(&slot, *attempt, generation, spec);
                    let past = self.past.entry(slot.clone()).or_default();
                    if past.generation != generation {
                        // Somebody may have asked while its first hooks ran, which is no new beginning.
                        let is_anew = !past.disturbed && !self.ledger.had_hooks(&slot, *attempt);
                        past.ends_in_a_row = is_anew.then_some(0);
                        past.generation = generation;
                    }
                    past.disturbed = false;
                    past.ended_at = None;
                    self.started_under.insert(slot.clone(), generation);
                    self.failed_hooks.remove(&slot);
                    self.asked_to_stop.remove(&slot);
                }
                Effect::Stop { .. } | Effect::RunHooks { moment: Moment::PreStop, .. } => {
                    self.asked_to_stop.insert(slot);
                }
                _ => {}
            }
        }
    }

    fn hears_of_probes(&mut self, slot: &SlotId, input: &Input) {
        match input {
            Input::Started { attempt, .. } => {
                let known =
                    self.node.as_ref().and_then(|node| node.status(slot)).map(|status| status.attempt);
                if known == Some(*attempt) {
                    self.probing.is_up(slot, *attempt, true, &self.workload.target, self.now);
                }
            }
            Input::Observed { seen: Observation::Running { attempt, .. }, .. } => {
                self.probing.is_up(slot, *attempt, false, &self.workload.target, self.now);
            }
            Input::Removed => self.probing.is_gone(slot),
            Input::Notified { attempt, said } => self.probing.heard(slot, *attempt, said, self.now),
            Input::Probed { attempt, healthy, message, .. } => {
                self.probing.answered(slot, *attempt, message, *healthy, self.now);
            }
            _ => {}
        }
    }

    /// An onlooker's count of ends and of answers.
    pub(crate) fn count(&mut self, slot: &SlotId, input: &Input) {
        let kills = self.workload.target.slots.get(slot).is_some_and(|wish| wish.kill);
        self.ledger.hears(slot, input, kills, self.now);
        self.hears_of_probes(slot, input);
        match input {
            // It is begun anew, under a wish that may be a newer one.
            Input::StartUnable { .. } => self.past.entry(slot.clone()).or_default().disturbed = true,
            Input::HooksEnded { attempt, moment: Moment::PostStart, outcome, .. } => {
                if self.asked_to_stop.contains(slot) {
                    return;
                }
                // It may have ended, and that is on its way.
                if outcome.is_err() {
                    self.failed_hooks.insert(slot.clone());
                }
                if let Some(process) = self.kernel.process_mut(slot).filter(|p| p.attempt == *attempt) {
                    process.hooks_succeeded |= outcome.is_ok();
                    process.hooks_failed = outcome.is_err();
                }
            }
            Input::Exited { attempt, .. } | Input::StartFailed { attempt, .. } => {
                let Some(node) = &self.node else { return };
                let news = node
                    .status(slot)
                    .is_some_and(|status| status.attempt == *attempt && status.phase.is_alive());
                let ran = node.status(slot).and_then(|status| status.started_at).map(|_| ());
                let Some(wish) = self.workload.target.slots.get(slot) else { return };
                let started_under = self.started_under.get(slot).copied().unwrap_or(0);
                let past = self.past.entry(slot.clone()).or_default();
                if !news {
                    return;
                }
                let hooks_failed = self.failed_hooks.remove(slot);
                let length =
                    self.kernel.began(slot, *attempt).map_or(0, |began| self.now.saturating_sub(began));
                // A copy that is found running runs under the wish from then on, unless it shall be another.
                let is_same = self.runs.held(slot, *attempt).is_none_or(|held| held.digest() == wish.digest);
                let taken_over = ran.is_some() && wish.ask != Ask::Restart && is_same;
                past.generation = if taken_over { wish.generation } else { started_under };
                past.ended_at = Some(self.now);
                past.has_hooks = self.runs.held(slot, *attempt).is_none_or(|held| !held.post_stop.is_empty());
                past.ends_in_a_row = if hooks_failed {
                    // Whether it counts as an end by itself, depends on what is wished by now.
                    past.ended_at = None;
                    None
                } else if self.asked_to_stop.contains(slot)
                    && (self.ledger.was_no_good(slot, *attempt) || wish.spec.notifies())
                {
                    past.ended_at = None;
                    None
                } else if self.asked_to_stop.contains(slot) {
                    past.ended_at = None;
                    Some(0)
                } else if past.disturbed || ran.is_none() || (9_900..10_100).contains(&length) {
                    // An onlooker cannot tell how this one is counted.
                    None
                } else if length >= 10_000 {
                    Some(1)
                } else {
                    past.ends_in_a_row.map(|ends| ends + 1)
                };
            }
            _ => {}
        }
    }
}
