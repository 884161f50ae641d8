//! What happened, for people and tools, in order.

use serde::{Deserialize, Serialize};

use crate::ids::{AppName, Attempt, OperationId, ProbeName, SlotId};
use crate::project::Reaction;
use crate::reason::Reason;
use crate::state::{Exit, Phase};
use crate::time::Wall;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Event {
    /// Its place in the order; grows over the life of the store.
    pub sequence: u64,
    /// When.
    pub at: Wall,
    /// In which app.
    pub app: AppName,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// A slot entered another phase.
    Phase {
        /// Which slot.
        slot: SlotId,
        /// Before.
        from: Phase,
        /// After.
        to: Phase,
        /// Of which attempt.
        attempt: Attempt,
        /// The main process, if there is one.
        pid: Option<i32>,
        /// How the process ended, if it just did.
        exit: Option<Exit>,
        /// Why.
        reasons: Vec<Reason>,
    },
    /// Something was done about a failing probe.
    Reacted {
        /// Which slot.
        slot: SlotId,
        /// Of which attempt.
        attempt: Attempt,
        /// Which probe.
        probe: ProbeName,
        /// What was done.
        action: Reaction,
        /// What the probe was answered.
        last: String,
        /// How often within its window, this time included.
        times: u32,
    },
    /// A running slot was found again after a restart of the daemon.
    Adopted {
        /// Which slot.
        slot: SlotId,
        /// Of which attempt.
        attempt: Attempt,
        /// Its main process.
        pid: i32,
    },
    /// Somebody asked for a change.
    OperationStarted {
        /// Its number.
        operation: OperationId,
        /// What was asked, in words: `stop web`.
        what: String,
        /// Who asked: `uid 1000`.
        who: String,
    },
    /// A change came to its end.
    OperationEnded {
        /// Its number.
        operation: OperationId,
        /// `reached`, `superseded by operation 7`, `failed: …`.
        outcome: String,
    },
}
