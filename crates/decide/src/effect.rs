//! Things to do, as data.

use std::collections::BTreeMap;
use std::sync::Arc;

use upbeat_model::project::{Question, Service, Signal};
use upbeat_model::{Attempt, Exit, Millis, ProbeName, SlotId};

use crate::instance::{HookCommand, Moment};

/// One thing to do to the machine. Each is harmless when it is ordered twice, as the attempt fences it, but
/// for a signal, which is ordered once. Commands may be run twice, and can tell by their idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Look what is there. Where that is nothing any more, end what is left of these attempts.
    Observe {
        /// Which slot.
        slot: SlotId,
        /// The highest that was ever decided here.
        attempt: Attempt,
        /// A container of it may be there.
        container: bool,
    },
    /// Have everything there that a container is started from: its image, its networks and volumes, and
    /// the container itself, beside the one that runs. What is there already is taken as it is.
    Prepare {
        /// Which slot.
        slot: SlotId,
        /// [`TargetSlot::generation`](upbeat_model::target::TargetSlot::generation): goes back with the answer.
        generation: u64,
        /// [`Service::digest`]: likewise.
        digest: String,
        /// The release it comes from.
        release: u64,
        /// What to make.
        spec: Arc<Service>,
    },
    /// Put a running container right: it was paused or renamed, or taken out of its networks.
    Mend {
        /// Which slot.
        slot: SlotId,
        /// The fence.
        attempt: Attempt,
    },
    /// Start a copy. Of an external service: run its command to its end.
    Start {
        /// Which slot.
        slot: SlotId,
        /// The fence.
        attempt: Attempt,
        /// What to run.
        spec: Arc<Service>,
        /// Variables given before its own.
        base_environment: Arc<BTreeMap<String, String>>,
        /// Of a container: the one that was made for this. Others of the slot are removed before.
        container: Option<String>,
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
    /// Send its main process a signal.
    Signal {
        /// Which slot.
        slot: SlotId,
        /// The fence.
        attempt: Attempt,
        /// The probe that has failed.
        probe: ProbeName,
        /// Which.
        signal: Signal,
    },
    /// Have it read its configuration anew: by a signal, or by commands.
    Reload {
        /// Which slot.
        slot: SlotId,
        /// The fence.
        attempt: Attempt,
        /// When the copy was begun: part of the idempotency key.
        begun: u64,
        /// Which time this is: goes back with the answer.
        serial: u64,
        /// Sent to its main process.
        signal: Option<Signal>,
        /// Run beside it.
        commands: Vec<Arc<HookCommand>>,
        /// After which they are killed.
        timeout: Millis,
    },
    /// Run commands beside it, one after the other. Those around the start end with the first that
    /// fails; those around the end go on, and the last failure is told.
    RunHooks {
        /// Which slot.
        slot: SlotId,
        /// The fence.
        attempt: Attempt,
        /// When in its life.
        moment: Moment,
        /// When the copy was begun, which tells it from one of the same attempt of a slot that was
        /// there before. Part of their idempotency key, as is the next.
        begun: u64,
        /// Which time in this attempt: goes back with the answer.
        serial: u64,
        /// What to run, and as what.
        commands: Vec<Arc<HookCommand>>,
        /// After which all of them are killed.
        timeout: Millis,
        /// How the attempt ended, where it has.
        exit: Option<Exit>,
    },
    /// Ask once whether it is ready.
    Probe {
        /// Which slot.
        slot: SlotId,
        /// The fence.
        attempt: Attempt,
        /// What the probe is called.
        name: ProbeName,
        /// Which check of this attempt asks: goes back with the answer.
        check: u64,
        /// The question.
        ask: Question,
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
        /// What the probe is called.
        name: ProbeName,
        /// Which check of this attempt asks: goes back with the answer.
        check: u64,
        /// The regular expression.
        pattern: String,
        /// Where the attempt's output begins.
        from: u64,
    },
    /// Take the update locks of all these, besides those that are held already; or, where one is another's, of
    /// none.
    Lock {
        /// One of them.
        slot: SlotId,
        /// Which time: goes back with the answer.
        serial: u64,
        /// Whose.
        slots: Vec<SlotId>,
    },
    /// Let go of its update lock.
    Unlock {
        /// Which slot.
        slot: SlotId,
    },
    /// Delete its files, and its containers.
    Remove {
        /// Which slot.
        slot: SlotId,
        /// A container of it may be there.
        container: bool,
        /// Networks that nobody else of its app needs: they go with it.
        networks: Vec<String>,
    },
}

impl Effect {
    /// The slot it is done to.
    pub fn slot(&self) -> &SlotId {
        match self {
            Self::Observe { slot, .. }
            | Self::Prepare { slot, .. }
            | Self::Mend { slot, .. }
            | Self::Start { slot, .. }
            | Self::Stop { slot, .. }
            | Self::Signal { slot, .. }
            | Self::Reload { slot, .. }
            | Self::RunHooks { slot, .. }
            | Self::Probe { slot, .. }
            | Self::WatchLog { slot, .. }
            | Self::Lock { slot, .. }
            | Self::Unlock { slot }
            | Self::Remove { slot, .. } => slot,
        }
    }
}
