//! What slots use of the machine.

use serde::{Deserialize, Serialize};

use crate::ids::{Attempt, SlotId};
use crate::state::Phase;
use crate::time::Wall;

/// `GET /api/v1/apps/{app}/stats`: what each slot of an app uses, at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Stats {
    /// When.
    pub at: Wall,
    /// Slot by slot, in the order of names.
    pub slots: Vec<SlotStats>,
}

/// One slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SlotStats {
    /// Which.
    pub slot: SlotId,
    /// Where it is.
    pub phase: Phase,
    /// Of which attempt.
    pub attempt: Attempt,
    /// The main process, while there is one.
    pub pid: Option<i32>,
    /// When the current process was started.
    pub started_at: Option<Wall>,
    /// Restarts since somebody last asked for a start.
    pub restarts: u32,
    /// What its processes use, all together; none where there are none, or none of ours.
    pub usage: Option<SlotUsage>,
}

/// What the processes of a slot use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SlotUsage {
    /// Of one processor, over about the last second: 200 is two whole ones. None before that is known.
    pub cpu_percent: Option<f64>,
    /// Processor time since its start, in milliseconds.
    pub cpu_ms: u64,
    /// Memory, in bytes: that of its cgroup, where it has one that counts, as of a container; else the sum over its
    /// processes, in which what they share is counted for each.
    pub memory_bytes: u64,
    /// Open files of all processes that may be asked. None of a container: its engine does not count them.
    pub descriptors: Option<u64>,
    /// Processes.
    pub processes: u64,
}
