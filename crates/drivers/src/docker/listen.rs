//! What is listened to, and how its end is told: once.

use std::time::{Duration, Instant};

use upbeat_model::project::Signal;
use upbeat_model::{Attempt, SlotId};

use super::logs::{Follower, Log};
use super::look::{self, Found};
use super::{Drift, Engine, EngineError, EngineEvent, Started, Taken};

/// An attempt whose end will be told.
pub(super) struct Heard {
    pub(super) attempt: Attempt,
    pub(super) container: String,
    /// As the engine writes it: another time is another start.
    started: String,
    pub(super) told: Started,
    stop_signal: i32,
    /// We asked it to end: however it does, it is no other hand's doing.
    asked: bool,
    /// Signals that we sent and the engine has not told of yet.
    sent: Vec<i32>,
    /// Another hand asked it to end, by this signal, then.
    by_hand: Option<(i32, Instant)>,
    /// As it was told last; `None`: it was put right since, so that the same once more is told again.
    drift: Option<Vec<Drift>>,
    /// Writes down what it prints.
    follower: Option<Follower>,
}

/// An engine that is asked to stop a container kills it after so long, where nobody says otherwise. Who runs on for
/// longer has not ended for that signal.
const HAND_PATIENCE: Duration = Duration::from_secs(10);

impl Heard {
    fn is_ended_by_hand(&self, found: &Found) -> bool {
        let is_for_that = |(signal, at): (i32, Instant)| {
            signal == 9 || found.state.exit_code == i64::from(128 + signal) || at.elapsed() < HAND_PATIENCE
        };
        !self.asked && self.by_hand.is_some_and(is_for_that)
    }
}

/// Signals that were sent by us are remembered until the engine tells of them. Where it does not, because
/// its events were missed, the oldest are forgotten.
const SENT_MAX: usize = 16;

impl Engine {
    /// Its end is told from now on. An attempt that is listened to already stays as it is.
    pub(super) fn listen(
        &self,
        slot: &SlotId,
        attempt: Attempt,
        found: &Found,
        log: Log,
        log_start: u64,
    ) -> Started {
        let at = look::wall(&found.state.started_at).unwrap_or_else(crate::clock::wall);
        let pid = i32::try_from(found.state.pid).unwrap_or_default();
        let told = Started { pid, at, log_start };
        {
            let mut running = self.running();
            if let Some(heard) = running.get(slot).filter(|heard| heard.is(attempt, found)) {
                return heard.told;
            }
            let follower = Some(self.follow(found, log));
            let stop_signal = found.stop_signal.as_deref().and_then(Signal::parse);
            let heard = Heard {
                attempt,
                container: found.id.clone(),
                started: found.state.started_at.clone(),
                told,
                stop_signal: stop_signal.unwrap_or(Signal::TERM).0,
                asked: false,
                sent: Vec::new(),
                by_hand: None,
                drift: Some(found.drift()),
                follower,
            };
            running.insert(slot.clone(), heard);
        }
        let (engine, slot) = (self.clone(), slot.clone());
        // It may have ended before it was listened to.
        tokio::spawn(async move { engine.look_until_told(&slot).await });
        told
    }

    /// Asks how an attempt is until the engine says it.
    async fn look_until_told(&self, slot: &SlotId) {
        if self.check(slot).await.is_err() {
            self.look_soon();
        }
    }

    /// We ask it to end from now on, or not after all.
    pub(super) fn will_end(&self, slot: &SlotId, attempt: Attempt, asked: bool) {
        if let Some(heard) = self.running().get_mut(slot).filter(|heard| heard.attempt == attempt) {
            heard.asked = asked;
        }
    }

    /// It was put right.
    pub(super) fn is_mended(&self, slot: &SlotId, attempt: Attempt) {
        if let Some(heard) = self.running().get_mut(slot).filter(|heard| heard.attempt == attempt) {
            heard.drift = None;
        }
    }

    pub(super) fn will_hear(&self, slot: &SlotId, attempt: Attempt, signal: Signal) {
        if let Some(heard) = self.running().get_mut(slot).filter(|heard| heard.attempt == attempt) {
            if heard.sent.len() >= SENT_MAX {
                heard.sent.remove(0);
            }
            heard.sent.push(signal.0);
        }
    }

    /// The engine told that a signal was sent to a container.
    pub(super) fn was_signalled(&self, container: &str, signal: i32) {
        for heard in self.running().values_mut().filter(|heard| heard.container == container) {
            match heard.sent.iter().position(|sent| *sent == signal) {
                Some(at) => drop(heard.sent.remove(at)),
                None if heard.asked => {}
                None if [9, 15, heard.stop_signal].contains(&signal) => {
                    heard.by_hand = Some((signal, Instant::now()));
                }
                None => {}
            }
        }
    }

    /// Whether this attempt is a container, and listened to.
    pub fn holds(&self, slot: &SlotId, attempt: Attempt) -> bool {
        self.running().get(slot).is_some_and(|heard| heard.attempt == attempt)
    }

    /// The container of an attempt that is listened to.
    pub(super) fn container_of(&self, slot: &SlotId, attempt: Attempt) -> Result<String, EngineError> {
        let running = self.running();
        let heard = running.get(slot).filter(|heard| heard.attempt == attempt);
        heard.map(|heard| heard.container.clone()).ok_or(EngineError::NotThere(attempt))
    }

    /// The slots that run these containers; all, where none is named.
    pub(super) fn slots_of(&self, container: Option<&str>) -> Vec<SlotId> {
        let running = self.running();
        let wanted = running
            .iter()
            .filter(|(_, heard)| container.is_none_or(|container| heard.container == container));
        wanted.map(|(slot, _)| slot.clone()).collect()
    }

    /// Asks how one is that is listened to, and tells what there is to tell.
    ///
    /// Errors: the engine does not say; it has to be asked again.
    pub(super) async fn check(&self, slot: &SlotId) -> Result<(), EngineError> {
        let asked = self.running().get(slot).map(|heard| (heard.attempt, heard.container.clone()));
        let Some((attempt, container)) = asked else { return Ok(()) };
        let found = look::container(self.wire(), self.owner(), &container).await?;
        match self.judge(slot, attempt, &container, found.as_ref()) {
            None => {}
            Some((event, None)) => {
                // The agent is gone only when the daemon ends.
                let _ = self.inner.events.send(event).await;
            }
            Some((event, Some(heard))) => self.tell_end(heard.follower, found.as_ref(), event),
        }
        Ok(())
    }

    /// Whether this very run is listened to.
    pub(super) fn hears(&self, slot: &SlotId, attempt: Attempt, found: &Found) -> Option<Started> {
        self.running().get(slot).filter(|heard| heard.is(attempt, found)).map(|heard| heard.told)
    }

    /// What there is to tell of one that is listened to, and, where that is its end, what was known of it.
    /// Whoever gets an end from here has to tell it: nobody else will.
    fn judge(
        &self,
        slot: &SlotId,
        attempt: Attempt,
        container: &str,
        found: Option<&Found>,
    ) -> Option<(EngineEvent, Option<Heard>)> {
        let mut running = self.running();
        let heard = running.get_mut(slot)?;
        if heard.attempt != attempt || heard.container != container {
            return None;
        }
        let event = match found {
            None => taken(slot, attempt, Taken::Removed),
            Some(found) if found.state.started_at != heard.started => taken(slot, attempt, Taken::Restarted),
            Some(found) if found.state.is_alive() => {
                let drift = found.drift();
                if heard.drift.as_ref() == Some(&drift) {
                    return None;
                }
                heard.drift = Some(drift.clone());
                return Some((EngineEvent::Drifted { slot: slot.clone(), attempt, drift }, None));
            }
            Some(found) if heard.is_ended_by_hand(found) => {
                taken(slot, attempt, if found.is_going() { Taken::Removed } else { Taken::StoppedByHand })
            }
            Some(found) => {
                let (exit, at) = (found.state.exit(), found.state.ended_at());
                EngineEvent::Exited { slot: slot.clone(), attempt, exit, at }
            }
        };
        let heard = running.remove(slot);
        Some((event, heard))
    }
}

fn taken(slot: &SlotId, attempt: Attempt, how: Taken) -> EngineEvent {
    EngineEvent::Taken { slot: slot.clone(), attempt, how }
}

impl Heard {
    fn is(&self, attempt: Attempt, found: &Found) -> bool {
        self.attempt == attempt && self.container == found.id && self.started == found.state.started_at
    }
}
