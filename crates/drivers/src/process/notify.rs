//! What a process says of itself, and signals that are no stop.

use upbeat_model::project::Signal;
use upbeat_model::{Attempt, SlotId};
pub use upbeat_shim::notify::{NotifyState, WatchdogState};
use upbeat_shim::wire::{SIGNALS_SINCE, ToShim};

use super::{DriverError, ProcessDriver, ProcessEvent};
use crate::tree;

impl ProcessDriver {
    /// Sends the main process of an attempt a signal, and nobody else. It has no deadline, and is lost
    /// on a process that has just ended.
    ///
    /// Errors: that attempt is not listened to: look what is there; its shim is of a version that
    /// cannot.
    pub fn signal(&self, slot: &SlotId, attempt: Attempt, signal: Signal) -> Result<(), DriverError> {
        let version = self.running().get(slot).map(|heard| heard.shim.version);
        if version.is_some_and(|version| version < SIGNALS_SINCE) {
            let why = format!(
                "{slot} was started by an earlier version of Upbeat, by which it cannot be sent a signal; \
                 restart it"
            );
            return Err(DriverError::Shim(why));
        }
        self.tell(slot, attempt, ToShim::Signal { signal: signal.0 })
    }

    /// Whether its main process is there and this signal would end it, as far as can be seen: it neither
    /// handles it nor ignores it, and does not fetch it either (`sigwait`, `signalfd`).
    pub fn would_end(&self, slot: &SlotId, attempt: Attempt, signal: Signal) -> bool {
        let pid = self.running().get(slot).filter(|heard| heard.attempt == attempt).map(|it| it.started.pid);
        pid.is_some_and(|pid| tree::would_end(pid, signal.0))
    }

    /// Gives a shim an order. Errors: that attempt is not listened to; the shim is gone.
    pub(super) fn tell(&self, slot: &SlotId, attempt: Attempt, order: ToShim) -> Result<(), DriverError> {
        let heard = self
            .running()
            .get(slot)
            .filter(|heard| heard.attempt == attempt)
            .map(|heard| (heard.channel.clone(), heard.shim.pid, heard.started.pid));
        let not_there = || DriverError::NotThere { slot: slot.clone(), attempt };
        let (channel, shim, pid) = heard.ok_or_else(not_there)?;
        // A shim that somebody has stopped hears nothing.
        shim.or_else(|| tree::parent(pid)).into_iter().for_each(tree::wake);
        channel.send(&order.encode()).map_err(|source| DriverError::io("the shim", source))
    }

    /// Takes note of what a process says of itself.
    pub(super) fn notified(&self, slot: &SlotId, attempt: Attempt, state: NotifyState) -> ProcessEvent {
        if let Some(pid) = state.main_pid
            && let Some(heard) = self.running().get_mut(slot).filter(|heard| heard.attempt == attempt)
        {
            heard.started.pid = pid;
        }
        ProcessEvent::Notified { slot: slot.clone(), attempt, state }
    }
}
