//! The truth: what shims and processes really do. As the shim's own documentation promises it.

use std::collections::BTreeMap;

use upbeat_model::{Attempt, Exit, SlotId};

use crate::random::Random;

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
    /// Its health check passes from then on (and not while it flaps).
    pub(crate) healthy_from: u64,
    pub(crate) flaps: bool,
    pub(crate) kill_at: Option<u64>,
    /// When it was first asked to stop, and how long it may take from then on.
    pub(crate) asked: Option<(u64, u64)>,
    /// Its `post_start` hooks have succeeded once, as a living daemon heard it. One that dies before
    /// it has noted that has them run again.
    pub(crate) hooks_succeeded: bool,
    /// They have failed, last.
    pub(crate) hooks_failed: bool,
    /// Answers to probes that the living daemon was given: to which question the last good one,
    pub(crate) passed: Option<u64>,
    /// and how many bad ones since.
    pub(crate) failed_in_a_row: u32,
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
            healthy_from: now + if random.percent(80) { random.below(2_000) } else { random.below(60_000) },
            flaps: random.percent(20),
            kill_at: None,
            asked: None,
            hooks_succeeded: false,
            hooks_failed: false,
            passed: None,
            failed_in_a_row: 0,
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
