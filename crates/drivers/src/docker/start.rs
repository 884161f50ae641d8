//! Starting a container, and finding out what is in a slot.

use std::path::Path;

use upbeat_model::{Attempt, Exit, SlotId, Wall};

use super::look::{self, Found};
use super::record::Record;
use super::wire::{Ask, part};
use super::{Engine, EngineError, Seen, StartError, Started, words};

/// Containers that no record speaks of were started once, as far as anybody knows.
const UNRECORDED: Attempt = Attempt(1);

impl Record {
    /// Whether its attempt came to something, be it a failure: as far as the engine shows it.
    fn has_happened(&self, found: &[Found]) -> bool {
        let container = found.iter().find(|found| found.id == self.container);
        self.ran || self.failed.is_some() || container.is_some_and(|found| self.is_of(found))
    }

    /// What the engine says of its last start is this attempt.
    fn is_of(&self, found: &Found) -> bool {
        found.id == self.container && found.state.started_at != self.started_before
    }
}

impl Engine {
    /// Starts a container that was prepared, as this attempt. Containers of the slot that have ended are
    /// removed before, and it gets the name of the slot.
    ///
    /// Errors: it cannot be run; it is not there any more; another one of the slot runs; the slot has seen
    /// this attempt or a later one; the engine, which may not have said whether it started.
    pub async fn start(
        &self,
        slot: &SlotId,
        attempt: Attempt,
        container: &str,
    ) -> Result<Started, StartError> {
        self.watch();
        let _turn = self.turn_of(slot).await;
        let dir = self.slot_dir(slot);
        // The end of the attempt before is told first.
        self.check(slot).await?;
        let found = look::settled(self.wire(), self.owner(), slot).await?;
        if let Some(record) = Record::read(&dir)?
            && (record.attempt > attempt || record.attempt == attempt && record.has_happened(&found))
        {
            return Err(StartError::Superseded { seen: record.attempt });
        }
        if let Some(alive) = found.iter().find(|found| found.state.is_alive()) {
            return Err(StartError::Busy(alive.name.clone()));
        }
        let (mut wanted, others): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|found| found.id == container);
        let Some(wanted) = wanted.pop() else { return Err(StartError::Gone) };
        // Made for another container than the one that is there, it is of no use.
        if !self.has_its_peers(slot, &wanted.marks.peers).await? {
            return Err(StartError::Gone);
        }
        self.take_away(slot, &others, &wanted.marks.networks).await?;
        self.failpoint("container_discarded");
        self.give_name(slot, &wanted).await?;
        self.failpoint("container_renamed");
        self.run(slot, attempt, wanted, &dir).await
    }

    async fn run(
        &self,
        slot: &SlotId,
        attempt: Attempt,
        wanted: Found,
        dir: &Path,
    ) -> Result<Started, StartError> {
        let log = self.open_log(slot, &wanted).await;
        let log_start = log.next();
        let mut record = Record {
            container: wanted.id.clone(),
            attempt,
            started_before: wanted.state.started_at,
            log_start,
            // Without one it is only not known whether it may run.
            boot: crate::clock::boot_id().unwrap_or_default(),
            ran: false,
            failed: None,
        };
        record.write(dir)?;
        self.failpoint("container_recorded");
        let begin = || self.wire().done(Ask::post(format!("/containers/{}/start", part(&wanted.id))));
        let mut answer = begin().await;
        if matches!(&answer, Err(EngineError::Said { message, .. }) if super::networks::is_of_doubles(message))
        {
            for attachment in &wanted.marks.networks {
                let name = &attachment.network.name;
                self.without_doubles(&slot.app, name).await.map_err(StartError::Unanswered)?;
            }
            answer = begin().await;
        }
        self.failpoint("container_started");
        let refused = match answer {
            Ok(()) => None,
            Err(EngineError::Said { status, message }) => Some((status, message)),
            Err(error) => return Err(StartError::Unanswered(error)),
        };
        let now =
            look::container(self.wire(), self.owner(), &wanted.id).await.map_err(StartError::Unanswered)?;
        let now = now.filter(|now| refused.is_none() || record.is_of(now));
        match (now, refused) {
            (Some(now), _) => {
                record.ran = true;
                // Should this fail, the engine still shows that it was started.
                if let Err(error) = record.write(dir) {
                    tracing::warn!(%slot, %error, "that its container was started is not on disk");
                }
                Ok(self.listen(slot, attempt, &now, log, log_start))
            }
            (None, None) => Err(StartError::Gone),
            (None, Some((404, message))) if words::is_no_container(&message) => Err(StartError::Gone),
            (None, Some((status, message))) if words::is_of_the_engine(&message) => {
                Err(EngineError::Said { status, message }.into())
            }
            (None, Some((_, message))) => {
                let why = words::not_started(&message);
                record.failed = Some(why.clone());
                record.write(dir)?;
                Err(StartError::NotStarted(why))
            }
        }
    }

    /// The one that runs has the name of its slot.
    async fn give_name(&self, slot: &SlotId, wanted: &Found) -> Result<(), StartError> {
        let Some(name) = wanted.marks.name.as_ref().filter(|name| **name != wanted.name) else {
            return Ok(());
        };
        if self.rename(&wanted.id, name).await? {
            return Ok(());
        }
        let has_let_go = self.take_name(slot, name).await?;
        match has_let_go && self.rename(&wanted.id, name).await? {
            true => Ok(()),
            false => Err(StartError::NotStarted(words::name_taken(name, None))),
        }
    }

    /// `false`: another has the name.
    async fn rename(&self, container: &str, name: &str) -> Result<bool, StartError> {
        let ask = Ask::post(format!("/containers/{}/rename", part(container))).query("name", name);
        match self.wire().done(ask).await {
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) if error.is_absent() => Err(StartError::Gone),
            done => Ok(done.map(|()| true)?),
        }
    }

    /// Takes a name from another slot of the app, whose container has it and has ended: that one is replaced, or
    /// goes, as the file gives the name to this slot now. Whether it was there to be taken.
    async fn take_name(&self, slot: &SlotId, name: &str) -> Result<bool, StartError> {
        let Some(holder) = self.holder_of(name).await? else { return Ok(true) };
        if self.marks_of(&holder).is_none_or(|marks| marks.slot.app != slot.app) {
            return Ok(false);
        }
        match look::container(self.wire(), self.owner(), &holder.id).await? {
            Some(found) if found.state.is_alive() => Ok(false),
            Some(found) => {
                let aside = format!("{name}.{}", found.id.get(..12).unwrap_or(&found.id));
                match self.rename(&found.id, &aside).await {
                    // It is removed at this moment.
                    Err(StartError::Gone) => Ok(true),
                    renamed => renamed,
                }
            }
            None => Ok(true),
        }
    }

    /// Looks what is in a slot, whoever put it there. What runs is listened to from then on.
    ///
    /// Errors: the engine does not say; the disk cannot be read.
    pub async fn observe(&self, slot: &SlotId) -> Result<Seen, EngineError> {
        self.watch();
        let _turn = self.turn_of(slot).await;
        self.check(slot).await?;
        let found = look::of_slot(self.wire(), self.owner(), slot).await?;
        let record = Record::read(&self.slot_dir(slot))?;
        let alive = || found.iter().filter(|found| found.state.is_alive());
        let recorded = |found: &&Found| record.as_ref().is_some_and(|record| record.container == found.id);
        // Of several, which only another hand can have started, the one that we started.
        if let Some(running) = alive().find(recorded).or_else(|| alive().next_back()) {
            return Ok(self.seen_running(slot, running, record.as_ref()).await);
        }
        let seen = match record {
            Some(record) => ended(&record, &found),
            None => {
                let ran = found.iter().filter(|found| found.state.ever_ran());
                let last = ran.max_by_key(|found| found.state.ended_at());
                last.map_or(Seen::Never, |found| end_of(found, UNRECORDED))
            }
        };
        if let Seen::Ended { container: Some(id), .. } = &seen
            && let Some(found) = found.iter().find(|found| found.id == *id)
        {
            self.catch_up(slot, found).await;
        }
        Ok(seen)
    }

    async fn seen_running(&self, slot: &SlotId, running: &Found, record: Option<&Record>) -> Seen {
        let attempt = record.map_or(UNRECORDED, |record| record.attempt.max(UNRECORDED));
        let Started { pid, at, log_start } = match self.hears(slot, attempt, running) {
            Some(told) => told,
            None => {
                let log = self.open_log(slot, running).await;
                let recorded = record.filter(|record| record.is_of(running));
                let log_start = recorded.map_or_else(|| log.next(), |record| record.log_start);
                self.listen(slot, attempt, running, log, log_start)
            }
        };
        Seen::Running {
            attempt,
            pid,
            started_at: at,
            log_start,
            container: running.id.clone(),
            digest: running.marks.digest.clone(),
            release: running.marks.release.clone(),
            drift: running.drift(),
        }
    }
}

/// What became of the attempt that was begun last.
fn ended(record: &Record, found: &[Found]) -> Seen {
    let attempt = record.attempt;
    let container = found.iter().find(|found| found.id == record.container);
    if let Some(why) = &record.failed {
        let container = container.map(|found| found.id.clone());
        return Seen::Ended { attempt, exit: Exit::NotStarted(why.clone()), at: Wall(0), container };
    }
    match container {
        Some(found) if record.is_of(found) => end_of(found, attempt),
        // It was begun and never came to be: what the engine shows is the attempt before.
        Some(found) if found.state.ever_ran() => end_of(found, Attempt(attempt.0.saturating_sub(1))),
        None if record.ran => {
            let exit = Exit::Unknown("its container was removed".to_owned());
            Seen::Ended { attempt, exit, at: crate::clock::wall(), container: None }
        }
        _ => Seen::Never,
    }
}

fn end_of(found: &Found, attempt: Attempt) -> Seen {
    let (exit, at) = (found.state.exit(), found.state.ended_at());
    Seen::Ended { attempt, exit, at, container: Some(found.id.clone()) }
}
