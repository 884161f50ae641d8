//! What one node shall hold: slot by slot, a goal.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{OperationId, SlotId};
use crate::project::Service;

/// Where a slot shall get to, and stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Nothing of it is left: no process, no files.
    Absent,
    /// Nothing runs; logs and history stay.
    Stopped,
    /// One copy runs, by its restart policy.
    Running,
}

/// The wish for one slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetSlot {
    /// Where to.
    pub goal: Goal,
    /// What to run there.
    pub spec: Arc<Service>,
    /// [`Service::digest`] of `spec`; a running copy with another one is replaced.
    pub digest: String,
    /// The release it comes from.
    pub release: u64,
    /// Grows by one with each explicit start or restart of this slot: a copy started under a lower
    /// number is replaced; a slot that completed or failed under a lower number is tried again.
    pub generation: u64,
    /// Skip the grace period while getting there (a second Ctrl-C).
    #[serde(default)]
    pub kill: bool,
    /// The operation that set this; how it ended is reported under this number.
    pub operation: OperationId,
    /// Variables given before the service's own.
    pub base_environment: Arc<BTreeMap<String, String>>,
}

/// All wishes for one node, at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Grows with every change.
    pub revision: u64,
    /// Slot by slot. A slot that is missing here is none of ours to touch.
    pub slots: BTreeMap<SlotId, TargetSlot>,
}
