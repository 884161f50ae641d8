//! What orders do to the machine, and when their outcomes come.

use upbeat_decide::Effect;
use upbeat_decide::instance::{Input, Moment};
use upbeat_model::project::Signal;
use upbeat_model::{Attempt, Exit, SlotId};

use crate::runs::Run;
use crate::workload::never_passes;
use crate::world::{Happening, World};

impl World {
    pub(crate) fn perform(&mut self, effect: &Effect) {
        let slot = effect.slot().clone();
        let incarnation = self.incarnation;
        let lost = self.chaos && self.random.percent(1);
        let soon = self.random.below(15);
        match effect {
            Effect::Observe { .. } if lost => {}
            Effect::Observe { attempt, .. } => {
                self.at(soon, Happening::Look { slot, asked: *attempt, incarnation });
            }
            Effect::Start { attempt, .. } => {
                let late = if self.random.percent(5) { self.random.below(3_000) } else { soon };
                let generation = self.workload.target.slots[&slot].generation;
                self.at(late, Happening::Arrive { slot, attempt: *attempt, generation, incarnation });
            }
            Effect::Stop { attempt, signal, grace, .. } => self.stop(slot, *attempt, *signal, grace.0),
            Effect::RunHooks { moment: Moment::PostStart, .. } if lost => {}
            Effect::RunHooks { attempt, moment: Moment::PostStart, .. } => self.prepare(slot, *attempt),
            // No workload has any of these yet.
            Effect::RunHooks { moment: Moment::PreStart | Moment::PostStop | Moment::Remedy, .. } => {}
            Effect::Signal { .. } | Effect::Reload { .. } => {}
            Effect::RunHooks { attempt, moment: Moment::PreStop, timeout, .. } => {
                self.ask_to_stop(&slot);
                let works = self.random.percent(50);
                if works && let Some(pid) = self.kernel.process(&slot).map(|process| process.pid) {
                    let exit = Happening::Exit { slot: slot.clone(), pid, exit: Exit::Code(0) };
                    self.at(soon + 5, exit);
                }
                let takes = self.random.below(timeout.0 + 1);
                let ended = Input::HooksEnded { attempt: *attempt, moment: Moment::PreStop, outcome: Ok(()) };
                self.deliver(takes, slot, ended);
            }
            Effect::Probe { .. } | Effect::WatchLog { .. } => self.probe(&slot, effect, lost),
            Effect::Remove { .. } => self.remove(slot, soon),
        }
    }

    pub(crate) fn deliver(&mut self, delay: u64, slot: SlotId, input: Input) {
        let incarnation = self.incarnation;
        self.at(delay, Happening::Deliver { slot, input, incarnation });
    }

    /// Its hooks run, unless they do already.
    fn prepare(&mut self, slot: SlotId, attempt: Attempt) {
        if self.preparing.get(&slot) == Some(&attempt) {
            return;
        }
        self.preparing.insert(slot.clone(), attempt);
        let outcome = if self.random.percent(80) { Ok(()) } else { Err("sim".to_owned()) };
        let takes = if self.random.percent(80) { self.random.below(500) } else { self.random.below(90_000) };
        self.deliver(takes, slot, Input::HooksEnded { attempt, moment: Moment::PostStart, outcome });
    }

    fn stop(&mut self, slot: SlotId, attempt: Attempt, signal: Signal, grace: u64) {
        let (now, incarnation) = (self.now, self.incarnation);
        let heard =
            self.kernel.process_mut(&slot).filter(|p| p.attempt == attempt && p.listener == incarnation);
        let Some(process) = heard else {
            return self.deliver(1, slot, Input::StopFailed { attempt, why: "not there".into() });
        };
        let deadline = now + grace;
        process.kill_at = Some(process.kill_at.map_or(deadline, |earlier| earlier.min(deadline)));
        let (pid, ignores) = (process.pid, process.ignores_signals);
        match signal {
            Signal::KILL => process.asked = Some((now, 0)),
            _ => self.ask_to_stop(&slot),
        }
        self.at(grace, Happening::Deadline { slot: slot.clone(), pid });
        if signal == Signal::KILL {
            self.at(0, Happening::Exit { slot, pid, exit: Exit::Signal(9) });
        } else if !ignores {
            let takes = self.random.below(300);
            let exit = if self.random.percent(50) { Exit::Code(0) } else { Exit::Signal(15) };
            self.at(takes, Happening::Exit { slot, pid, exit });
        }
    }

    /// From now on its grace period runs, by the rules it is under; one that was asked before has
    /// what is left of that.
    fn ask_to_stop(&mut self, slot: &SlotId) {
        let now = self.now;
        let wished = self.workload.target.slots.get(slot).map(|wish| wish.spec.stop_grace_period.0);
        let Some(process) = self.kernel.process_mut(slot) else { return };
        let by_run = |run: Option<&Run>| run.map(|run| run.held.stop_grace_period.0);
        let due = by_run(self.runs.of(process, slot)).unwrap_or_else(|| {
            // It came late: the daemon may know what it is, or take it for a stranger.
            let perhaps = by_run(self.runs.perhaps_of(process, slot));
            perhaps.into_iter().chain(wished).min().unwrap_or(0)
        });
        let earlier = process.asked.filter(|(at, may_take)| at + may_take <= now + due);
        process.asked = earlier.or(Some((now, due)));
    }

    fn probe(&mut self, slot: &SlotId, effect: &Effect, lost: bool) {
        let Some(process) = self.kernel.process(slot).cloned() else { return };
        let (attempt, check, delay, healthy) =
            match effect {
                Effect::WatchLog { attempt, check, .. } => {
                    (*attempt, *check, process.healthy_from.saturating_sub(self.now) + 1, true)
                }
                Effect::Probe { attempt, check, ask, timeout, .. } => {
                    if self.asking.get(slot).is_some_and(|(of, which, until)| {
                        (of, which) == (attempt, check) && *until > self.now
                    }) {
                        // It waits for its turn, and is not asked twice.
                        return;
                    }
                    let late = if self.chaos && self.random.percent(2) {
                        timeout.0 + self.random.below(6_000)
                    } else {
                        0
                    };
                    let takes = late + self.random.below(timeout.0.min(200) + 1);
                    self.asking.insert(slot.clone(), (*attempt, *check, self.now + takes));
                    let flaps = process.flaps && self.random.percent(30);
                    let never = *ask == never_passes();
                    (*attempt, *check, takes, self.now >= process.healthy_from && !flaps && !never)
                }
                _ => return,
            };
        if lost && matches!(effect, Effect::Probe { .. }) {
            self.asking.remove(slot);
            return;
        }
        // By this an onlooker knows whose answer it is, whatever the numbers of the machine say.
        let message = self.runs.rhythm(slot).to_string();
        self.deliver(delay, slot.clone(), Input::Probed { attempt, check, healthy, message });
    }

    fn remove(&mut self, slot: SlotId, soon: u64) {
        let input = match self.kernel.process(&slot) {
            Some(_) => Input::RemoveFailed { why: "a shim still holds it".into() },
            None => {
                self.kernel.places.remove(&slot);
                // The driver tells an end once, and before it removes; nothing of it comes later. With
                // the copy the agent has dropped all that was asked of it.
                self.asking.remove(&slot);
                self.preparing.remove(&slot);
                self.queue.retain(|_, happening| match happening {
                    Happening::Deliver { slot: of, input, .. } if *of == slot => !matches!(
                        input,
                        Input::Exited { .. } | Input::Probed { .. } | Input::HooksEnded { .. }
                    ),
                    _ => true,
                });
                Input::Removed
            }
        };
        self.deliver(soon, slot, input);
    }
}
