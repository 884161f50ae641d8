//! Stopping what runs, and putting right what another hand has changed of it.

use std::time::Duration;

use upbeat_model::project::Signal;
use upbeat_model::{Attempt, Millis, SlotId};

use super::look::{self, Found};
use super::wire::{Ask, PATIENCE, Version, part};
use super::{Engine, EngineError};

/// From this version on a stop can say by which signal.
const STOPS_BY_SIGNAL: Version = Version { major: 1, minor: 42 };

impl Engine {
    /// Asks an attempt to stop, and ends when the engine says that it has. The engine kills it when its
    /// time is over, also if nobody waits for that any more. Its end comes as an event.
    ///
    /// Before API 1.42 an engine knows only the signal that the container was made with, and SIGKILL.
    ///
    /// Errors: that attempt is not listened to; the engine.
    pub async fn stop(
        &self,
        slot: &SlotId,
        attempt: Attempt,
        signal: Signal,
        grace: Millis,
    ) -> Result<(), EngineError> {
        let container = self.container_of(slot, attempt)?;
        self.will_end(slot, attempt, true);
        let stopped = self.stop_container(&container, signal, grace).await;
        self.failpoint("container_stopped");
        match stopped {
            // It has ended, or there is nothing any more to stop.
            Err(error) if error.is_absent() || error.is_conflict() && !self.is_alive(&container).await? => {
                Ok(())
            }
            Err(EngineError::Said { status, message }) => {
                // It was refused: whoever ends it now is not us.
                self.will_end(slot, attempt, false);
                Err(EngineError::Said { status, message })
            }
            stopped => stopped,
        }
    }

    async fn stop_container(
        &self,
        container: &str,
        signal: Signal,
        grace: Millis,
    ) -> Result<(), EngineError> {
        let path = format!("/containers/{}", part(container));
        if signal == Signal::KILL {
            return self.wire().done(Ask::post(format!("{path}/kill")).query("signal", "SIGKILL")).await;
        }
        // One that is paused hears nothing.
        if self.find_container(container).await?.is_some_and(|found| found.state.paused) {
            self.wire().done(Ask::post(format!("{path}/unpause"))).await?;
        }
        let seconds = grace.0.div_ceil(1000);
        let mut ask = Ask::post(format!("{path}/stop")).query("t", seconds.to_string());
        if self.wire().version().await? >= STOPS_BY_SIGNAL {
            ask = ask.query("signal", signal.0.to_string());
        }
        self.wire().done(ask.patience(PATIENCE + Duration::from_secs(seconds))).await
    }

    async fn find_container(&self, id: &str) -> Result<Option<Found>, EngineError> {
        look::container(self.wire(), self.owner(), id).await
    }

    async fn is_alive(&self, id: &str) -> Result<bool, EngineError> {
        Ok(self.find_container(id).await?.is_some_and(|found| found.state.is_alive()))
    }

    /// Sends a signal to the first process of an attempt.
    ///
    /// Errors: that attempt is not listened to; the engine.
    pub async fn signal(&self, slot: &SlotId, attempt: Attempt, signal: Signal) -> Result<(), EngineError> {
        let container = self.container_of(slot, attempt)?;
        self.will_hear(slot, attempt, signal);
        let ask = Ask::post(format!("/containers/{}/kill", part(&container)));
        self.wire().done(ask.query("signal", signal.0.to_string())).await
    }

    /// Puts right what another hand has changed: it runs on, has its name, and is in its networks, which are
    /// made anew where they were removed.
    ///
    /// Errors: that attempt is not listened to; its name or a network is another's now; the engine.
    pub async fn mend(&self, slot: &SlotId, attempt: Attempt) -> Result<(), super::PrepareError> {
        let container = self.container_of(slot, attempt)?;
        let _turn = self.turn_of(slot).await;
        let Some(found) = self.find_container(&container).await? else { return Ok(()) };
        let path = format!("/containers/{}", part(&container));
        if found.state.paused {
            self.wire().done(Ask::post(format!("{path}/unpause"))).await?;
        }
        if let Some(name) = found.marks.name.as_ref().filter(|name| **name != found.name) {
            let renamed = self.wire().done(Ask::post(format!("{path}/rename")).query("name", name)).await;
            match renamed {
                Err(error) if error.is_conflict() => {
                    return Err(super::PrepareError::Refused(super::words::name_taken(name, None)));
                }
                renamed => renamed?,
            }
        }
        for wanted in &found.marks.networks {
            self.network(&slot.app, &wanted.network).await?;
        }
        self.join(&found, &found.marks.networks, &slot.service).await?;
        self.is_mended(slot, attempt);
        Ok(())
    }
}
