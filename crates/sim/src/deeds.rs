//! What orders do to the machine, and when their outcomes come.

use upbeat_decide::Effect;
use upbeat_decide::instance::{Input, Moment};
use upbeat_model::project::Signal;
use upbeat_model::{Attempt, Exit, SlotId};

use crate::runs::Run;
use crate::temper::Word;
use crate::world::{Happening, World};

/// What one driver runs, and runs once: of which slot, what, of which attempt, which time.
pub(crate) type Key = (SlotId, &'static str, Attempt, u64);

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
            Effect::Start { attempt, .. } if lost => {
                let why = "no room".to_owned();
                self.deliver(soon, slot, Input::StartUnable { attempt: *attempt, why });
            }
            Effect::Start { attempt, spec, .. } if spec.external => self.start_outside(slot, *attempt),
            Effect::Start { attempt, spec, .. } => {
                self.locks.starts(&slot);
                let late = if self.random.percent(5) { self.random.below(3_000) } else { soon };
                let generation = self.workload.target.slots[&slot].generation;
                let (attempt, spec) = (*attempt, spec.clone());
                self.at(late, Happening::Arrive { slot, attempt, spec, generation, incarnation });
            }
            Effect::Stop { attempt, signal, grace, .. } => self.stop(slot, *attempt, *signal, grace.0),
            Effect::RunHooks { moment, .. } if lost && *moment != Moment::PreStop => {}
            Effect::RunHooks { attempt, moment, serial, timeout, .. } => {
                self.run_hooks((slot, moment.key(), *attempt, *serial), *moment, timeout.0);
            }
            Effect::Signal { attempt, .. } => self.signal(&slot, *attempt),
            Effect::Reload { .. } if lost => {}
            Effect::Reload { attempt, serial, signal, .. } => {
                self.reload(slot, *attempt, *serial, signal.is_some());
            }
            Effect::Probe { .. } | Effect::WatchLog { .. } => self.probe(&slot, effect, lost),
            Effect::Remove { .. } => {
                self.lock(effect);
                self.remove(slot, soon);
            }
            Effect::Lock { .. } | Effect::Unlock { .. } => self.lock(effect),
            // No service of this workload is a container.
            Effect::Prepare { .. } | Effect::Mend { .. } => {}
        }
    }

    pub(crate) fn deliver(&mut self, delay: u64, slot: SlotId, input: Input) {
        let incarnation = self.incarnation;
        self.at(delay, Happening::Deliver { slot, input, incarnation });
    }

    /// Whether this driver is to run it: not while it does already.
    fn takes(&mut self, key: Key, takes: u64) -> bool {
        if self.busy.get(&key).is_some_and(|until| *until > self.now) {
            return false;
        }
        self.busy.insert(key, self.now + takes);
        true
    }

    fn run_hooks(&mut self, key: Key, moment: Moment, timeout: u64) {
        let (slot, attempt, serial) = (key.0.clone(), key.2, key.3);
        if moment == Moment::PreStop {
            return self.run_before_stop(key, timeout);
        }
        let takes = if self.random.percent(80) { self.random.below(500) } else { self.random.below(90_000) };
        let takes = takes.min(timeout);
        if !self.takes(key, takes) {
            return;
        }
        if self.is_out_of_processes() {
            return self.deliver(takes, slot, unable(attempt, moment, serial));
        }
        let succeeds = self.random.percent(if moment == Moment::PostStop { 60 } else { 80 });
        let outcome = if succeeds { Ok(()) } else { Err("sim".to_owned()) };
        self.deliver(takes, slot, Input::HooksEnded { attempt, moment, serial, outcome });
    }

    fn run_before_stop(&mut self, key: Key, timeout: u64) {
        let (slot, attempt) = (key.0.clone(), key.2);
        let takes = self.random.below(timeout + 1);
        if self.ledger.pages.get(&slot).is_some_and(|page| page.outside == Some(attempt)) {
            if !self.takes(key, takes) {
                return;
            }
            // Whoever is to stop it is not still to start it.
            self.queue.retain(|_, happening| {
                !matches!(happening, Happening::Outside { slot: of, starts: true, .. } if *of == slot)
            });
            let incarnation = self.incarnation;
            return self.at(takes, Happening::Outside { slot, attempt, starts: false, incarnation });
        }
        self.ask_to_stop(&slot);
        if self.is_out_of_processes() {
            return self.deliver(takes, slot, unable(attempt, Moment::PreStop, 0));
        }
        let works = self.random.percent(50);
        if works && let Some(pid) = self.kernel.process(&slot).map(|process| process.pid) {
            let soon = self.random.below(15) + 5;
            let exit = Happening::Exit { slot: slot.clone(), pid, exit: Exit::Code(0) };
            self.at(soon, exit);
        }
        let ended = Input::HooksEnded { attempt, moment: Moment::PreStop, serial: 0, outcome: Ok(()) };
        self.deliver(takes, slot, ended);
    }

    /// Upbeat itself cannot run what it is to, now.
    pub(crate) fn is_out_of_processes(&mut self) -> bool {
        self.chaos && self.random.percent(5)
    }

    fn start_outside(&mut self, slot: SlotId, attempt: Attempt) {
        let takes = if self.random.percent(90) { self.random.below(500) } else { self.random.below(150_000) };
        if self.takes((slot.clone(), "start", attempt, 0), takes) {
            let incarnation = self.incarnation;
            self.at(takes, Happening::Outside { slot, attempt, starts: true, incarnation });
        }
    }

    /// A signal that its probe has earned it. It may not survive that.
    fn signal(&mut self, slot: &SlotId, attempt: Attempt) {
        let process = self.kernel.process(slot).filter(|process| process.attempt == attempt);
        if let Some(pid) = process.map(|process| process.pid)
            && self.random.percent(20)
        {
            self.at(1, Happening::Exit { slot: slot.clone(), pid, exit: Exit::Signal(10) });
        }
    }

    fn reload(&mut self, slot: SlotId, attempt: Attempt, serial: u64, by_signal: bool) {
        let takes = if self.random.percent(90) { self.random.below(300) } else { self.random.below(80_000) };
        if !self.takes((slot.clone(), "reload", attempt, serial), takes) {
            return;
        }
        if !by_signal && self.is_out_of_processes() {
            let why = "sim".to_owned();
            return self.deliver(takes, slot, Input::ReloadUnable { attempt, serial, why });
        }
        let there = self.kernel.reload(&slot, attempt, self.now);
        let succeeds = there && self.random.percent(85);
        let outcome = if succeeds { Ok(()) } else { Err("sim".to_owned()) };
        let takes = if by_signal { 5 } else { takes };
        self.deliver(takes, slot, Input::Reloaded { attempt, serial, outcome });
    }

    fn stop(&mut self, slot: SlotId, attempt: Attempt, signal: Signal, grace: u64) {
        let (now, incarnation) = (self.now, self.incarnation);
        let heard =
            self.kernel.process_mut(&slot).filter(|p| p.attempt == attempt && p.listener == incarnation);
        let Some(process) = heard else {
            return self.deliver(1, slot, Input::StopFailed { attempt, why: "not there".into() });
        };
        if process.kill_at.is_none() {
            // What it has asked for until now was for something else.
            process.said.extended = None;
        }
        let deadline = now + grace;
        let granted = process.said.extended.filter(|_| signal != Signal::KILL).map_or(0, |until| until.0);
        let earlier = process.kill_at.map_or(deadline, |earlier| earlier.min(deadline));
        process.kill_at = Some(earlier.max(granted));
        let (pid, ignores) = (process.pid, process.ignores_signals);
        match signal {
            Signal::KILL => process.asked = Some((now, 0)),
            _ => self.ask_to_stop(&slot),
        }
        self.asks_for_more(&slot, pid, grace);
        self.at(grace, Happening::Deadline { slot: slot.clone(), pid });
        if signal == Signal::KILL {
            self.at(0, Happening::Exit { slot, pid, exit: Exit::Signal(9) });
        } else if !ignores {
            let takes = self.random.below(300);
            let exit = if self.random.percent(50) { Exit::Code(0) } else { Exit::Signal(15) };
            self.at(takes, Happening::Exit { slot, pid, exit });
        }
    }

    /// One that speaks up may ask for more time to end.
    fn asks_for_more(&mut self, slot: &SlotId, pid: i32, grace: u64) {
        let speaks = self.workload.target.slots.get(slot).is_some_and(|wish| wish.spec.notifies());
        if speaks && self.random.percent(40) {
            let (after, by) = (self.random.below(grace + 1), self.random.below(30_000));
            self.at(after, Happening::Say { slot: slot.clone(), pid, word: Word::Extend(by) });
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
        let now = self.now;
        let (attempt, name, check, delay, healthy) = match effect {
            Effect::WatchLog { attempt, name, check, .. } => {
                if lost {
                    // The agent says so: it is tried again.
                    let (attempt, check) = (*attempt, *check);
                    let input = Input::Probed { attempt, check, healthy: false, message: "sim".into() };
                    return self.deliver(5, slot.clone(), input);
                }
                let ask = upbeat_model::project::Question::Log("a line".into());
                let Some(temper) = self.kernel.temper(slot, &ask, self.pace) else { return };
                (*attempt, name, *check, temper.passes_from.saturating_sub(now) + 1, true)
            }
            Effect::Probe { attempt, name, check, ask, timeout, .. } => {
                let key = (slot.clone(), name.clone());
                if self
                    .asking
                    .get(&key)
                    .is_some_and(|(of, which, until)| (of, which) == (attempt, check) && *until > now)
                {
                    // It waits for its turn, and is not asked twice.
                    return;
                }
                let answer = match self.kernel.temper(slot, ask, self.pace) {
                    Some(temper) => temper.answer(now, &mut self.random),
                    None => Some(false),
                };
                let late = if self.chaos && self.random.percent(2) {
                    timeout.0 + self.random.below(6_000)
                } else {
                    0
                };
                let takes = match answer {
                    None => timeout.0,
                    Some(_) => late + self.random.below(timeout.0.min(200) + 1),
                };
                if lost {
                    return;
                }
                self.asking.insert(key, (*attempt, *check, now + takes));
                (*attempt, name, *check, takes, answer.unwrap_or(false))
            }
            _ => return,
        };
        let message = self.probing.tag(slot, name).to_string();
        self.deliver(delay, slot.clone(), Input::Probed { attempt, check, healthy, message });
    }

    fn remove(&mut self, slot: SlotId, soon: u64) {
        let input = match self.kernel.process(&slot) {
            Some(_) => Input::RemoveFailed { why: "a shim still holds it".into() },
            None => {
                self.kernel.places.remove(&slot);
                self.disk.forget(&slot);
                // The driver tells an end once, and before it removes; nothing of it comes later. With
                // the copy the agent has dropped all that was asked of it.
                self.asking.retain(|(of, _), _| *of != slot);
                self.busy.retain(|(of, ..), _| *of != slot);
                self.queue.retain(|_, happening| match happening {
                    Happening::Deliver { slot: of, input, .. } if *of == slot => !matches!(
                        input,
                        Input::Exited { .. }
                            | Input::Probed { .. }
                            | Input::HooksEnded { .. }
                            | Input::HooksUnable { .. }
                            | Input::Reloaded { .. }
                            | Input::ReloadUnable { .. }
                            | Input::Notified { .. }
                    ),
                    Happening::Outside { slot: of, .. } => *of != slot,
                    _ => true,
                });
                Input::Removed
            }
        };
        self.deliver(soon, slot, input);
    }
}

/// What becomes of hooks that could not be run.
pub(crate) fn unable(attempt: Attempt, moment: Moment, serial: u64) -> Input {
    Input::HooksUnable { attempt, moment, serial, why: "sim".to_owned() }
}

/// An order, as the trace has it.
pub(crate) fn shown(effect: &Effect) -> String {
    match effect {
        Effect::Start { slot, attempt, .. } => format!("start {slot} attempt {attempt}"),
        Effect::Stop { slot, signal, grace, .. } => format!("stop {slot} by {signal} within {grace}"),
        Effect::Signal { slot, signal, .. } => format!("send {slot} {signal}"),
        Effect::Reload { slot, .. } => format!("reload {slot}"),
        Effect::Observe { slot, .. } => format!("observe {slot}"),
        Effect::Remove { slot, .. } => format!("remove {slot}"),
        Effect::Prepare { slot, .. } | Effect::Mend { slot, .. } => format!("make or mend {slot}"),
        Effect::RunHooks { slot, moment, .. } => format!("run the hooks of {slot}: {moment:?}"),
        Effect::Probe { slot, .. } => format!("probe {slot}"),
        Effect::WatchLog { slot, .. } => format!("watch the log of {slot}"),
        Effect::Lock { slots, .. } => {
            let slots: Vec<String> = slots.iter().map(ToString::to_string).collect();
            format!("lock {}", slots.join(", "))
        }
        Effect::Unlock { slot } => format!("unlock {slot}"),
    }
}
