//! The truth: what shims and processes really do. As the shim's own documentation promises it.

use std::collections::BTreeMap;

use upbeat_decide::instance::Said;
use upbeat_model::project::Question;
use upbeat_model::{Attempt, Exit, SlotId};

use crate::pace::Pace;
use crate::random::Random;
use crate::temper::Temper;

/// A process under its shim.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) attempt: Attempt,
    pub(crate) pid: i32,
    pub(crate) begun: u64,
    /// The wish it was ordered for; 0 when it came so late that the next daemon was there.
    pub(crate) ordered_for: u64,
    /// Which daemon hears of its end, if that one lives then.
    pub(crate) listener: u64,
    pub(crate) ignores_signals: bool,
    /// What its probes will be answered follows from it.
    pub(crate) character: u64,
    /// What it has said, as its shim keeps it.
    pub(crate) said: Said,
    /// When it has read its configuration anew.
    pub(crate) reloads: Vec<u64>,
    pub(crate) kill_at: Option<u64>,
    /// When it was first asked to stop, and how long it may take from then on.
    pub(crate) asked: Option<(u64, u64)>,
    /// Its `post_start` hooks have succeeded once, as a living daemon heard it. One that dies before
    /// it has noted that has them run again.
    pub(crate) hooks_succeeded: bool,
    /// They have failed, last.
    pub(crate) hooks_failed: bool,
}

/// Something that a command has started in the world outside. It has no shim, and nobody tells its end.
#[derive(Clone, Debug)]
pub(crate) struct Elsewhere {
    pub(crate) attempt: Attempt,
    pub(crate) since: u64,
    pub(crate) character: u64,
    pub(crate) reloads: Vec<u64>,
}

/// The record in a slot's directory.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) attempt: Attempt,
    pub(crate) end: Option<Exit>,
}

/// One slot's directory and lock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    pub(crate) process: Option<Process>,
    pub(crate) record: Option<Record>,
}

/// The whole machine.
#[derive(Default)]
pub(crate) struct Kernel {
    pub(crate) places: BTreeMap<SlotId, Place>,
    /// What runs outside.
    pub(crate) elsewhere: BTreeMap<SlotId, Elsewhere>,
    /// How every attempt really ended.
    pub(crate) history: BTreeMap<(SlotId, Attempt, i32), Exit>,
    /// When every attempt really ended.
    ended: BTreeMap<(SlotId, Attempt), u64>,
    /// When every attempt really began.
    begun: BTreeMap<(SlotId, Attempt), u64>,
    next_pid: i32,
}

/// What a shim answers to an order to start.
pub(crate) enum Answer {
    Started { pid: i32 },
    Failed,
    Busy,
    Superseded { seen: Attempt },
}

impl Kernel {
    /// A shim gets to its slot.
    pub(crate) fn start(
        &mut self,
        slot: &SlotId,
        attempt: Attempt,
        ordered_for: u64,
        now: u64,
        listener: u64,
        random: &mut Random,
    ) -> Answer {
        let place = self.places.entry(slot.clone()).or_default();
        if place.process.is_some() {
            return Answer::Busy;
        }
        if let Some(record) = &place.record
            && record.attempt >= attempt
        {
            return Answer::Superseded { seen: record.attempt };
        }
        if random.percent(4) {
            let end = Exit::NotStarted("sim".into());
            place.record = Some(Record { attempt, end: Some(end.clone()) });
            self.history.insert((slot.clone(), attempt, 0), end);
            return Answer::Failed;
        }
        self.next_pid += 1;
        let pid = self.next_pid;
        place.record = Some(Record { attempt, end: None });
        self.begun.insert((slot.clone(), attempt), now);
        place.process = Some(Process {
            attempt,
            pid,
            begun: now,
            ordered_for,
            listener,
            ignores_signals: random.percent(15),
            character: random.next(),
            said: Said::default(),
            reloads: Vec::new(),
            kill_at: None,
            asked: None,
            hooks_succeeded: false,
            hooks_failed: false,
        });
        Answer::Started { pid }
    }

    /// A process ends. Its shim puts it on record, if there is a shim.
    pub(crate) fn end(&mut self, slot: &SlotId, pid: i32, exit: Exit, now: u64) -> Option<Process> {
        let place = self.places.get_mut(slot)?;
        let process = place.process.take_if(|process| process.pid == pid)?;
        if let Some(record) = &mut place.record
            && !matches!(exit, Exit::Unknown(_))
        {
            record.end = Some(exit.clone());
        }
        self.history.insert((slot.clone(), process.attempt, pid), exit);
        self.ended.insert((slot.clone(), process.attempt), now);
        Some(process)
    }

    /// What whatever runs there answers to a question; nothing where nothing runs.
    pub(crate) fn temper(&self, slot: &SlotId, question: &Question, pace: Pace) -> Option<Temper> {
        let process = self.process(slot).map(|process| (process.character, process.begun));
        let elsewhere = || self.elsewhere.get(slot).map(|outside| (outside.character, outside.since));
        let (character, begun) = process.or_else(elsewhere)?;
        Some(Temper::of(character, question, begun, pace))
    }

    /// When whatever runs there has read its configuration anew.
    pub(crate) fn reloads(&self, slot: &SlotId, attempt: Attempt) -> &[u64] {
        let process = self.process(slot).filter(|process| process.attempt == attempt);
        let outside = || self.elsewhere.get(slot).filter(|outside| outside.attempt == attempt);
        match (process, outside()) {
            (Some(process), _) => &process.reloads,
            (None, Some(outside)) => &outside.reloads,
            (None, None) => &[],
        }
    }

    /// It reads its configuration anew, if it is there.
    pub(crate) fn reload(&mut self, slot: &SlotId, attempt: Attempt, now: u64) -> bool {
        if let Some(outside) = self.elsewhere.get_mut(slot).filter(|outside| outside.attempt == attempt) {
            outside.reloads.push(now);
            return true;
        }
        match self.process_mut(slot).filter(|process| process.attempt == attempt) {
            Some(process) => process.reloads.push(now),
            None => return false,
        }
        true
    }

    /// This attempt runs, here or elsewhere.
    pub(crate) fn runs(&self, slot: &SlotId, attempt: Attempt) -> bool {
        let here = self.process(slot).is_some_and(|process| process.attempt == attempt);
        here || self.elsewhere.get(slot).is_some_and(|outside| outside.attempt == attempt)
    }

    pub(crate) fn began(&self, slot: &SlotId, attempt: Attempt) -> Option<u64> {
        self.begun.get(&(slot.clone(), attempt)).copied()
    }

    /// Whether a process of this attempt has ended since then.
    pub(crate) fn ended_since(&self, slot: &SlotId, attempt: Attempt, then: u64) -> bool {
        self.ended.get(&(slot.clone(), attempt)).is_some_and(|at| *at >= then)
    }

    pub(crate) fn process(&self, slot: &SlotId) -> Option<&Process> {
        self.places.get(slot)?.process.as_ref()
    }

    pub(crate) fn process_mut(&mut self, slot: &SlotId) -> Option<&mut Process> {
        self.places.get_mut(slot)?.process.as_mut()
    }

    /// Whether some process of this attempt really ended so.
    pub(crate) fn ended_so(&self, slot: &SlotId, attempt: Attempt, exit: &Exit) -> bool {
        let range = (slot.clone(), attempt, i32::MIN)..=(slot.clone(), attempt, i32::MAX);
        self.history.range(range).any(|(_, truth)| {
            truth == exit
                || matches!(
                    (truth, exit),
                    (Exit::NotStarted(_), Exit::NotStarted(_)) | (Exit::Unknown(_), Exit::Unknown(_))
                )
        })
    }
}
