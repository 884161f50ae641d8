//! Things to do, as data.

use std::collections::BTreeMap;
use std::sync::Arc;

use upbeat_model::project::{Question, Service, Signal};
use upbeat_model::{Attempt, Millis, SlotId};

use crate::instance::{HookCommand, Moment};

/// One thing to do to the machine. Each is harmless when done twice: the attempt fences it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Look what is there. Where that is nothing any more, end what is left of these attempts.
    Observe {
        /// Which slot.
        slot: SlotId,
        /// The highest that was ever decided here.
        attempt: Attempt,
    },
    /// Start a copy.
    Start {
        /// Which slot.
        slot: SlotId,
        /// The fence.
        attempt: Attempt,
        /// What to run.
        spec: Arc<Service>,
        /// Variables given before its own.
        base_environment: Arc<BTreeMap<String, String>>,
    },
    /// Ask a copy to stop, and kill it when it has not after the grace period.
    Stop {
        /// Which slot.
        slot: SlotId,
        /// The fence.
        attempt: Attempt,
        /// How it is asked.
        signal: Signal,
        /// How long it may take.
        grace: Millis,
    },
    /// Run commands beside it, one after the other. Those after the start end with the first that
    /// fails; those before the end go on.
    RunHooks {
        /// Which slot.
        slot: SlotId,
        /// The fence.
        attempt: Attempt,
        /// After its start, or before its end.
        moment: Moment,
        /// What to run, and as what.
        commands: Vec<Arc<HookCommand>>,
        /// After which all of them are killed.
        timeout: Millis,
    },
    /// Ask once whether it is ready.
    Probe {
        /// Which slot.
        slot: SlotId,
        /// The fence.
        attempt: Attempt,
        /// Which check of this attempt asks: goes back with the answer.
        check: u64,
        /// The question.
        probe: Question,
        /// The service, for an `exec` probe's directory, user and variables.
        spec: Arc<Service>,
        /// Variables given before its own.
        base_environment: Arc<BTreeMap<String, String>>,
        /// After which the answer is no.
        timeout: Millis,
    },
    /// Say so when a line of its output matches.
    WatchLog {
        /// Which slot.
        slot: SlotId,
        /// The fence.
        attempt: Attempt,
        /// Which check of this attempt asks: goes back with the answer.
        check: u64,
        /// The regular expression.
        pattern: String,
        /// Where the attempt's output begins.
        from: u64,
    },
    /// Delete its files.
    Remove {
        /// Which slot.
        slot: SlotId,
    },
}

impl Effect {
    /// The slot it is done to.
    pub fn slot(&self) -> &SlotId {
        match self {
            Self::Observe { slot, .. }
            | Self::Start { slot, .. }
            | Self::Stop { slot, .. }
            | Self::RunHooks { slot, .. }
            | Self::Probe { slot, .. }
            | Self::WatchLog { slot, .. }
            | Self::Remove { slot } => slot,
        }
    }
}
