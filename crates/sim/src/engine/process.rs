//! Processes, as simple as can be: they do what they are told at once, and their ends are always heard.

use std::collections::BTreeMap;

use upbeat_decide::instance::Observation;
use upbeat_model::{Attempt, Exit, SlotId, Wall};

use super::people::Nature;

/// The last process of a slot.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) attempt: Attempt,
    pub(super) pid: i32,
    /// How it ended.
    pub(super) exit: Option<Exit>,
    pub(super) digest: String,
}

#[derive(Default)]
pub(super) struct Processes {
    pub(super) places: BTreeMap<SlotId, Process>,
    last: i32,
}

impl Processes {
    pub(super) fn alive(&self, slot: &SlotId) -> Option<&Process> {
        self.places.get(slot).filter(|process| process.exit.is_none())
    }

    /// Its pid; or the attempt that is in its way; or that it cannot be run.
    pub(super) fn start(
        &mut self,
        slot: &SlotId,
        attempt: Attempt,
        digest: &str,
        nature: Nature,
    ) -> Result<i32, Option<Attempt>> {
        if let Some(seen) =
            self.places.get(slot).map(|process| process.attempt).filter(|seen| *seen >= attempt)
        {
            return Err(Some(seen));
        }
        if let Some(alive) = self.alive(slot) {
            return Err(Some(alive.attempt));
        }
        self.last += 1;
        let exit = (nature == Nature::Broken).then(|| Exit::NotStarted("there is no such program".into()));
        let is_broken = exit.is_some();
        let process = Process { attempt, pid: self.last, exit, digest: digest.to_owned() };
        self.places.insert(slot.clone(), process);
        if is_broken { Err(None) } else { Ok(self.last) }
    }

    pub(super) fn observe(&self, slot: &SlotId, now: u64) -> Observation {
        let Some(process) = self.places.get(slot) else { return Observation::Never };
        let (attempt, pid) = (process.attempt, process.pid);
        match &process.exit {
            Some(exit) => Observation::Ended { attempt, exit: exit.clone() },
            None => {
                Observation::Running { attempt, pid, started_at: Wall(now as i64), log_start: 1, held: None }
            }
        }
    }

    /// It ends, if it is there.
    pub(super) fn end(&mut self, slot: &SlotId, pid: i32, exit: Exit) -> Option<Attempt> {
        let process = self.places.get_mut(slot).filter(|one| one.pid == pid && one.exit.is_none())?;
        process.exit = Some(exit);
        Some(process.attempt)
    }
}
