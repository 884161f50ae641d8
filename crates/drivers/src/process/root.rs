//! What is known of a copy that runs, for those who measure it.

use upbeat_model::{Attempt, SlotId, Wall};

use super::{ProcessDriver, Started};
use crate::tree;
use crate::usage::Root;

/// The shim of a process, and when it was begun, in ticks since boot. Known as long as the process was
/// not waited for.
pub(super) fn top(shim: Option<i32>, started: &Started) -> Option<(i32, u64)> {
    let shim = shim.or_else(|| tree::parent(started.pid))?;
    Some((shim, tree::life(shim)?))
}

impl ProcessDriver {
    /// What is above all processes of an attempt. `None`: it does not run.
    pub(crate) fn root(&self, slot: &SlotId, attempt: Attempt) -> Option<Root> {
        let (shim, begun) = self.running().get(slot).filter(|heard| heard.attempt == attempt)?.top?;
        Some(Root { shim, begun, slot_dir: self.slot_dir(slot) })
    }

    /// When an attempt was started. `None`: it does not run.
    pub(crate) fn started_at(&self, slot: &SlotId, attempt: Attempt) -> Option<Wall> {
        self.running().get(slot).filter(|heard| heard.attempt == attempt).map(|heard| heard.started.at)
    }
}
