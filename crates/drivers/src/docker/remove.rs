//! Taking down what nobody needs any more, as far as it is ours.

use std::fs;
use std::io::ErrorKind;

use upbeat_model::SlotId;

use super::look::{self, Found};
use super::record::Record;
use super::wire::{Ask, part};
use super::{Engine, EngineError};

impl Engine {
    /// Removes all containers of a slot, with the volumes that have no name; then these networks
    /// as far as they are ours and nobody uses them; then what is on disk of the slot, its log included.
    /// What is not there is fine.
    ///
    /// Errors: a container runs; the engine; the disk.
    pub async fn remove(&self, slot: &SlotId, networks: &[String]) -> Result<(), EngineError> {
        self.watch();
        let _turn = self.turn_of(slot).await;
        let found = look::of_slot(self.wire(), self.owner(), slot).await?;
        if let Some(alive) = found.iter().find(|found| found.state.is_alive()) {
            return Err(EngineError::Runs(alive.name.clone()));
        }
        // What was left undone before; its containers are gone, or among these.
        self.take_away(slot, &[], &[]).await?;
        let anonymous = self.anonymous(slot, &found)?;
        for container in &found {
            self.discard(slot, container).await?;
        }
        self.remove_anonymous(&anonymous).await?;
        // One that cannot go yet keeps none of the others.
        let mut stays = Ok(());
        for name in networks {
            stays = stays.and(self.remove_network(&slot.app, name).await);
        }
        let _log = self.log_turn(slot).await;
        self.delete(slot).and(stays)
    }

    /// Removes the containers of a slot that is a process by now. Asks no engine where none was ever started.
    ///
    /// Errors: one runs; the engine; the disk.
    pub async fn clear(&self, slot: &SlotId) -> Result<(), EngineError> {
        let dir = self.slot_dir(slot);
        if Record::read(&dir)?.is_none() {
            return Ok(());
        }
        let _turn = self.turn_of(slot).await;
        let found = look::of_slot(self.wire(), self.owner(), slot).await?;
        if let Some(alive) = found.iter().find(|found| found.state.is_alive()) {
            return Err(EngineError::Runs(alive.name.clone()));
        }
        let anonymous = self.anonymous(slot, &found)?;
        self.take_away(slot, &found, &[]).await?;
        self.remove_anonymous(&anonymous).await?;
        self.forget_anonymous(slot)?;
        Record::forget(&dir)
    }

    /// Removes a container that does not run. What it has written into volumes without a name is kept for the next.
    pub(super) async fn discard(&self, slot: &SlotId, found: &Found) -> Result<(), EngineError> {
        // Its end is told first, if it was listened to.
        self.check(slot).await?;
        let ask = Ask::delete(format!("/containers/{}", part(&found.id)));
        let ask = if found.state.ever_ran() { ask } else { ask.query("v", "1") };
        let removed = self.wire().done(ask).await;
        self.failpoint("container_removed");
        match removed {
            Err(error) if error.is_absent() => Ok(()),
            // Either it runs, or another hand removes it at this moment.
            Err(error) if error.is_conflict() => {
                match look::container(self.wire(), self.owner(), &found.id).await? {
                    Some(now) if now.state.is_alive() => Err(EngineError::Runs(now.name)),
                    Some(_) => Err(error),
                    None => Ok(()),
                }
            }
            done => done,
        }
    }

    fn delete(&self, slot: &SlotId) -> Result<(), EngineError> {
        let dir = self.slot_dir(slot);
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(EngineError::io("the slot's directory", &error));
            }
            _ => {}
        }
        // The service's and the app's directories go with their last slot.
        for parent in dir.ancestors().skip(1).take(2) {
            if fs::remove_dir(parent).is_err() {
                break;
            }
        }
        Ok(())
    }
}
