//! What happens beyond the orders: processes say something of themselves, commands elsewhere end.

use upbeat_decide::instance::{Input, Moment};
use upbeat_model::{Attempt, Exit, Service, SlotId};

use crate::deeds::unable;
use crate::kernel::{Answer, Elsewhere};
use crate::temper::{Word, words};
use crate::world::{Happening, NOBODY, World};

/// A shim speaks to its daemon in order, and this fast.
const SHIM_SAYS: u64 = 3;

impl World {
    /// A process says something. Its shim keeps it, and tells the daemon that listens, if one does.
    pub(crate) fn say(&mut self, slot: &SlotId, pid: i32, word: Word) {
        let (now, incarnation) = (self.now, self.incarnation);
        let Some(process) = self.kernel.process_mut(slot).filter(|process| process.pid == pid) else {
            return;
        };
        word.add_to(&mut process.said, now);
        if let (Word::Extend(by), Some(at)) = (word, process.kill_at) {
            process.kill_at = Some(at.max(now + by));
            let slot = slot.clone();
            self.at(by, Happening::Deadline { slot, pid });
        }
        self.note(format!("{slot} ({pid}) says {word:?}"));
        self.tell_said(slot, incarnation);
    }

    /// All that was said so far reaches the daemon that listens.
    pub(crate) fn tell_said(&mut self, slot: &SlotId, incarnation: u64) {
        let Some(process) = self.kernel.process(slot) else { return };
        if process.listener == incarnation && process.said != Default::default() {
            let input = Input::Notified { attempt: process.attempt, said: process.said.clone() };
            self.deliver(SHIM_SAYS, slot.clone(), input);
        }
    }

    /// A command that starts or stops something elsewhere ends. One whose daemon is dead may have been
    /// cut short; nobody hears of it.
    pub(crate) fn outside(&mut self, slot: SlotId, attempt: Attempt, starts: bool, incarnation: u64) {
        let orphaned = incarnation != self.incarnation;
        // Whoever starts what is there already succeeds.
        let succeeds = self.random.percent(85) || (starts && self.kernel.elsewhere.contains_key(&slot));
        let is_awaited = self.ledger.pages.get(&slot).is_some_and(|page| page.outside == Some(attempt));
        // With the attempt its driver has ended the command.
        if !is_awaited || (orphaned && self.random.percent(50)) {
            return;
        }
        self.note(format!(
            "{slot}: the {} command of {attempt} ends: {succeeds}",
            if starts { "start" } else { "stop" }
        ));
        let outcome = if succeeds { Ok(()) } else { Err("sim".to_owned()) };
        let input = match starts {
            true if succeeds => {
                if !orphaned {
                    self.outcome.starts += 1;
                }
                let (since, character) = (self.now, self.random.next());
                let outside = Elsewhere { attempt, since, character, reloads: Vec::new() };
                self.kernel.elsewhere.entry(slot.clone()).or_insert(outside).attempt = attempt;
                Input::Started { attempt, pid: 0, at: self.clocks().1, log_start: 0 }
            }
            true => Input::StartFailed { attempt, why: "sim".into() },
            false if self.is_out_of_processes() => unable(attempt, Moment::PreStop, 0),
            false => {
                if succeeds {
                    self.kernel.elsewhere.remove(&slot);
                }
                Input::HooksEnded { attempt, moment: Moment::PreStop, serial: 0, outcome }
            }
        };
        if !orphaned {
            self.deliver(0, slot, input);
        }
    }

    /// A shim gets to its slot, and says what became of its order.
    pub(crate) fn arrive(
        &mut self,
        slot: SlotId,
        attempt: Attempt,
        spec: &Service,
        generation: u64,
        incarnation: u64,
    ) {
        let listener = if incarnation == self.incarnation { incarnation } else { NOBODY };
        // The directory was made for the order; one that is gone since takes no shim.
        let stale = listener == NOBODY;
        if stale && !self.kernel.places.contains_key(&slot) {
            return;
        }
        // A daemon that was there before it may have looked, and found nothing.
        let ordered_for = if stale && self.node.is_some() { 0 } else { generation };
        let answer = self.kernel.start(&slot, attempt, ordered_for, self.now, listener, &mut self.random);
        let input = match answer {
            Answer::Started { pid } => {
                self.outcome.starts += 1;
                self.note(format!(
                    "{slot} attempt {attempt} runs as {pid}{}",
                    if stale { " (late)" } else { "" }
                ));
                self.plan_exit(&slot, pid);
                for (after, word) in words(spec, pid, &mut self.random, self.pace) {
                    self.at(after, Happening::Say { slot: slot.clone(), pid, word });
                }
                let (_, at) = self.clocks();
                Input::Started { attempt, pid, at, log_start: 1 }
            }
            Answer::Failed => Input::StartFailed { attempt, why: "sim".into() },
            Answer::Busy => Input::StartRefused { attempt, seen: attempt },
            Answer::Superseded { seen } => Input::StartRefused { attempt, seen },
        };
        let delay = self.random.below(15);
        self.at(delay, Happening::Deliver { slot, input, incarnation });
    }

    fn plan_exit(&mut self, slot: &SlotId, pid: i32) {
        let ends = self.random.percent(if self.chaos { 60 } else { 30 });
        if !ends {
            return;
        }
        let after = *self.random.pick(&[5, 100, 2_000, 9_000, 15_000, 40_000]);
        let after = self.pace.stretch(after + self.random.below(after));
        let exit = match self.random.below(3) {
            0 => Exit::Code(0),
            1 => Exit::Code(1 + self.random.below(3) as i32),
            _ => Exit::Signal(11),
        };
        self.at(after, Happening::Exit { slot: slot.clone(), pid, exit });
    }
}
