//! What one node shall hold: slot by slot, a goal.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{OperationId, SlotId};
use crate::project::Service;

/// Where a slot shall get to, and stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Nothing of it is left: no process, no files.
    Absent,
    /// Nothing runs; logs and history stay.
    Stopped,
    /// One copy runs, by its restart policy.
    Running,
}

/// What a command wants of what is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// `up`: a running copy stays, a completed one stays completed, a failed one is tried again.
    #[default]
    Ensure,
    /// `start`: a running copy stays, one that ended is run again.
    Start,
    /// `reload`: a running copy is asked to read its configuration anew; else as `up`.
    Reload,
    /// `restart`: a running copy is replaced, one that ended is run again.
    Restart,
}

/// Of a hash of surroundings, so many hexadecimal digits: no two are the same by chance.
const SURROUNDINGS: usize = 32;

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
    /// Grows with each command that names this slot; together with `ask` it says what is to be done
    /// about a copy that ran, or ended, under a lower number.
    pub generation: u64,
    /// What the command of this generation wants of a copy from an earlier one.
    #[serde(default)]
    pub ask: Ask,
    /// Skip the grace period while getting there (a second Ctrl-C).
    #[serde(default)]
    pub kill: bool,
    /// Getting there is an update that nobody insists on: a copy that holds its update lock is not interrupted
    /// for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub heeds_locks: bool,
    /// The operation that set this; how it ended is reported under this number.
    pub operation: OperationId,
    /// Variables given before the service's own.
    pub base_environment: Arc<BTreeMap<String, String>>,
}

/// A hash of variables that a service is given before its own: whether they are the same can be told without
/// keeping them. It may not be shown: what they are can be tried out.
pub fn surroundings(base_environment: &BTreeMap<String, String>) -> String {
    let mut hasher = blake3::Hasher::new();
    for (name, value) in base_environment {
        for part in [name, "=", value, "\0"] {
            hasher.update(part.as_bytes());
        }
    }
    hasher.finalize().to_hex()[..SURROUNDINGS].to_owned()
}

/// All wishes for one node, at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Grows with every change.
    pub revision: u64,
    /// Slot by slot. A slot that is missing here is none of ours to touch.
    pub slots: BTreeMap<SlotId, TargetSlot>,
}
