//! The process driver: starts shims, finds them again, hears how their processes end.
//!
//! Guarantees: every start that is answered with `Started` is followed by exactly one
//! [`ProcessEvent`] that tells its end, as long as this driver lives; a driver that comes later gets it by
//! [`ProcessDriver::observe`]. `Lost` is only said when what the killed shim watched is gone too.
//! A start that was not answered, because this daemon died or its caller went away, is either
//! carried out already, so that its lock is held, or never will be.
//!
//! Assumes: one driver at a time for a directory of slots (the daemon's lock).

mod channel;
mod error;
mod exec;
mod launch;
mod left;
pub(crate) mod limits;
mod notify;
mod out;
mod root;
mod session;
mod zygote;

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::sync::{OnceCell, mpsc};
use upbeat_model::project::Signal;
use upbeat_model::{Attempt, Exit, Millis, SlotId, Wall};
use upbeat_shim::record::{self, Record};
use upbeat_shim::supervise::{LOCK, SOCKET};
use upbeat_shim::wire::{End, FromShim, ToShim, VERSION};

use crate::tree::{StillThere, Tree};
use crate::{clock, tree};
use channel::Channel;
pub use error::{DriverError, StartError, chain};
pub use exec::{ExecOutcome, ExecRequest, Leftovers};
pub use launch::{Launch, Notify, Places, Rights, Stdio, environment};
pub use notify::{NotifyState, WatchdogState};
pub use zygote::ShimProgram;
use zygote::Zygote;

/// The variable by which every process says which attempt it belongs to.
pub const MARK: &str = tree::VARIABLE;

/// Events that may wait for the agent. Tasks that have one wait when it is full; their shims have
/// the exit on record already.
const EVENTS: usize = 1024;

/// A start is answered in milliseconds. On a machine that swaps it may take long; longer than this
/// it is called off.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// A shim between its lock and its socket, or between its record and its end, is in one of the two
/// for microseconds: look again so often before calling it stuck.
const SETTLE_STEP: Duration = Duration::from_millis(5);
const SETTLE_STEPS: u32 = 1000;

/// A look takes no longer, whatever a shim does: whoever asked asks again.
const LOOK_PATIENCE: Duration = Duration::from_secs(5);

/// Where a process does not die, or the disk cannot be read, its end is asked for again so often.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The directory of a service goes with its last slot. Another slot that is being made at that very
/// moment tries again so often.
const MAKE_DIR_TRIES: u32 = 8;

/// A program was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// The main process.
    pub pid: i32,
    /// When.
    pub at: Wall,
    /// The number of its first log record.
    pub log_start: u64,
}

/// What is in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// Nothing was ever begun.
    Never,
    /// A process; its end will be an event.
    Running {
        /// Which attempt.
        attempt: Attempt,
        /// The main process.
        pid: i32,
        /// When it was started.
        started_at: Wall,
        /// The number of its first log record.
        log_start: u64,
    },
    /// The last attempt ended.
    Ended {
        /// Which attempt.
        attempt: Attempt,
        /// How.
        exit: Exit,
        /// When.
        at: Wall,
    },
    /// The last attempt's shim was killed; nothing of the tree is left.
    Lost {
        /// Which attempt.
        attempt: Attempt,
        /// What is known.
        detail: String,
    },
}

/// What happened to a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessEvent {
    /// Its main process ended, and nothing of its tree is left.
    Exited {
        /// Which slot.
        slot: SlotId,
        /// Which attempt.
        attempt: Attempt,
        /// How.
        exit: Exit,
        /// When.
        at: Wall,
    },
    /// A process of its tree may not be killed, and it runs on. Told again as long as that is so.
    Refused {
        /// Which slot.
        slot: SlotId,
        /// Which attempt.
        attempt: Attempt,
        /// Which process, and what the system said.
        detail: String,
    },
    /// What it says of itself has changed, or is told to a driver that has just found it.
    Notified {
        /// Which slot.
        slot: SlotId,
        /// Which attempt.
        attempt: Attempt,
        /// All that is known of it by now.
        state: NotifyState,
    },
    /// Its shim was killed; nothing of its tree is left.
    Lost {
        /// Which slot.
        slot: SlotId,
        /// Which attempt.
        attempt: Attempt,
        /// What is known.
        detail: String,
    },
}

/// Starts, finds and stops processes. A cheap handle; clones share it.
#[derive(Clone)]
pub struct ProcessDriver {
    inner: Arc<Inner>,
}

/// A shim that is listened to.
struct Heard {
    attempt: Attempt,
    channel: Arc<Channel>,
    started: Started,
    shim: Shim,
    /// The same, and when it was begun: what is above all processes of the copy.
    top: Option<(i32, u64)>,
}

/// What is known of a shim besides what it runs.
#[derive(Clone, Copy)]
struct Shim {
    /// Of its messages.
    version: u32,
    /// Its process. Where it is not known, it is the parent of what it runs.
    pid: Option<i32>,
}

struct Inner {
    zygote: Zygote,
    places: Places,
    boot_id: String,
    /// Shims that are listened to.
    running: Mutex<HashMap<SlotId, Heard>>,
    events: mpsc::Sender<ProcessEvent>,
    /// Commands that were run to their end.
    execs: AtomicU64,
    /// What was run by daemons before this one is gone.
    cleared: OnceCell<()>,
}

impl ProcessDriver {
    /// A driver for the slots in these places, and what it will see.
    ///
    /// Raises the limit of open descriptors of this process to what it may be; what is started gets
    /// the limit it was given.
    ///
    /// Errors: the machine does not say which boot it is in, or its limits.
    pub fn new(
        program: ShimProgram,
        places: Places,
    ) -> Result<(Self, mpsc::Receiver<ProcessEvent>), DriverError> {
        let (events, receiver) = mpsc::channel(EVENTS);
        let boot_id = clock::boot_id().map_err(|source| DriverError::io("the boot id", source))?;
        limits::raise().map_err(|source| DriverError::io("the limit of open files", source))?;
        let running = Mutex::new(HashMap::new());
        let (zygote, execs, cleared) = (Zygote::new(program), AtomicU64::new(0), OnceCell::new());
        let inner = Inner { zygote, places, boot_id, running, events, execs, cleared };
        Ok((Self { inner: Arc::new(inner) }, receiver))
    }

    /// Where a slot's things are: names are safe as components of a path, by their types.
    pub fn slot_dir(&self, slot: &SlotId) -> PathBuf {
        dir_of(&self.inner.places.slots, slot)
    }

    /// Where its log is.
    pub fn log_dir(&self, slot: &SlotId) -> PathBuf {
        self.slot_dir(slot).join(upbeat_shim::log::DIR)
    }

    fn running(&self) -> MutexGuard<'_, HashMap<SlotId, Heard>> {
        // Every change is one insertion or removal: nothing is half-done after a panic.
        self.inner.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts an attempt. Ends when its program was executed, or was not.
    ///
    /// Errors: the program cannot be executed; another shim holds the slot; the slot has seen this
    /// attempt or a later one; the machinery itself failed, or did not say.
    pub async fn start(
        &self,
        slot: &SlotId,
        attempt: Attempt,
        launch: &Launch,
    ) -> Result<Started, StartError> {
        let dir = self.slot_dir(slot);
        private_dir(&dir.join(upbeat_shim::log::DIR))
            .map_err(|source| DriverError::io("the slot's directory", source))?;
        let private_dir = self.private_dir(slot);
        let spec = self.spec(slot, attempt, launch, &private_dir)?;
        let place = fs::File::open(&dir).map_err(|source| DriverError::io("the slot's directory", source))?;
        let channel = self.inner.zygote.order(&spec, &[place.as_fd()]).await?;
        let answer = tokio::time::timeout(START_PATIENCE, channel.receive()).await;
        match answer {
            Ok(Ok(Some(FromShim::Started { pid, at_ns, log_start }))) => {
                let started = Started { pid, at: wall(at_ns), log_start };
                // Another process may be the main one later: then it is found no more by that.
                let shim = launch.notify.and_then(|_| tree::parent(pid));
                self.listen(slot, attempt, channel, started, Shim { version: VERSION, pid: shim });
                Ok(started)
            }
            // Nothing of it is on record: a look finds what was there before.
            Ok(Ok(Some(FromShim::StartFailed { stage, errno }))) if stage.is_want(errno) => {
                Err(DriverError::Shim(error::words(stage, errno)).into())
            }
            Ok(Ok(Some(FromShim::StartFailed { stage, errno }))) => {
                Err(error::not_executed(stage, errno, &launch.asked(&private_dir)))
            }
            Ok(Ok(Some(FromShim::Busy))) => Err(StartError::Busy),
            Ok(Ok(Some(FromShim::Superseded { attempt }))) => {
                Err(StartError::Superseded { seen: Attempt(attempt) })
            }
            Ok(Ok(Some(FromShim::Unable { why }))) => Err(DriverError::Shim(why).into()),
            // It may have started: whoever asked must look.
            Ok(Ok(_)) | Ok(Err(_)) => Err(StartError::Unanswered),
            Err(_) => {
                self.inner.zygote.replace().await;
                Err(StartError::Unanswered)
            }
        }
    }

    /// Waits for the end of what a shim runs, and tells it. Once for each attempt.
    fn listen(&self, slot: &SlotId, attempt: Attempt, channel: Channel, started: Started, shim: Shim) {
        let channel = Arc::new(channel);
        let top = root::top(shim.pid, &started);
        {
            let mut running = self.running();
            if running.get(slot).is_some_and(|heard| heard.attempt == attempt) {
                return;
            }
            running.insert(slot.clone(), Heard { attempt, channel: channel.clone(), started, shim, top });
        }
        let driver = self.clone();
        let slot = slot.clone();
        tokio::spawn(async move {
            let end = loop {
                match channel.receive().await {
                    Ok(Some(FromShim::Exited { end, at_ns })) => break Some((end, at_ns)),
                    Ok(Some(FromShim::Refused { pid, errno })) => {
                        let detail = error::refused(pid, errno);
                        let event = ProcessEvent::Refused { slot: slot.clone(), attempt, detail };
                        let _ = driver.inner.events.send(event).await;
                    }
                    Ok(Some(FromShim::Notified(state))) => {
                        let event = driver.notified(&slot, attempt, state);
                        let _ = driver.inner.events.send(event).await;
                    }
                    Ok(Some(_)) => {}
                    // A later version means something else by it.
                    Err(error) if error.kind() == ErrorKind::InvalidData => {}
                    Ok(None) | Err(_) => break None,
                }
            };
            driver.let_go(&slot, attempt);
            let event = match end {
                Some((end, at_ns)) => {
                    Some(ProcessEvent::Exited { slot, attempt, exit: exit(end), at: wall(at_ns) })
                }
                None => driver.find_out(slot, attempt).await,
            };
            if let Some(event) = event {
                // The agent is gone only when the daemon ends.
                let _ = driver.inner.events.send(event).await;
            }
        });
    }

    /// How many shims are listened to: each takes a descriptor of this process.
    pub(crate) fn listened_to(&self) -> usize {
        self.running().len()
    }

    fn let_go(&self, slot: &SlotId, attempt: Attempt) {
        let mut running = self.running();
        if running.get(slot).is_some_and(|heard| heard.attempt == attempt) {
            running.remove(slot);
        }
    }

    /// A channel closed without the news, mostly because the shim was killed. `None`: it lives, and
    /// is listened to again.
    async fn find_out(&self, slot: SlotId, attempt: Attempt) -> Option<ProcessEvent> {
        loop {
            match self.observe(&slot, attempt).await {
                Ok(Observation::Running { attempt: seen, .. }) if seen == attempt => return None,
                Ok(Observation::Ended { attempt: seen, exit, at }) if seen == attempt => {
                    return Some(ProcessEvent::Exited { slot, attempt, exit, at });
                }
                Ok(Observation::Lost { attempt: seen, detail }) if seen == attempt => {
                    return Some(ProcessEvent::Lost { slot, attempt, detail });
                }
                Ok(_) => {
                    if tree::clear(Tree::up_to(&self.slot_dir(&slot), attempt)).await.is_ok() {
                        let detail = "its record is gone, or another attempt's".to_owned();
                        return Some(ProcessEvent::Lost { slot, attempt, detail });
                    }
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                Err(_) => tokio::time::sleep(ASK_AGAIN).await,
            }
        }
    }

    /// Kills what a killed shim left behind. Errors: something does not die.
    async fn clear_tree(&self, slot: &SlotId, record: &Record) -> Result<String, DriverError> {
        match tree::clear(Tree::of(&self.slot_dir(slot), record)).await {
            Ok(()) => Ok("its shim was killed, and its processes with it".to_owned()),
            Err(StillThere(count)) => Err(DriverError::StillThere { slot: slot.clone(), count }),
        }
    }

    /// Asks an attempt to stop. Its end comes as an event.
    ///
    /// Errors: that attempt is not listened to: look what is there.
    pub async fn stop(
        &self,
        slot: &SlotId,
        attempt: Attempt,
        signal: Signal,
        grace: Millis,
    ) -> Result<(), DriverError> {
        self.tell(slot, attempt, ToShim::Stop { signal: signal.0, grace_ms: grace.0 })
    }

    /// Looks what is in a slot, whoever put it there. Where that is nothing, though attempts up to
    /// `last` were decided, the directory may have been deleted under one of them: it is killed.
    ///
    /// Errors: the disk cannot be read; a shim neither answers nor ends; something does not die.
    pub async fn observe(&self, slot: &SlotId, last: Attempt) -> Result<Observation, DriverError> {
        let settled = async {
            loop {
                if let Some(seen) = self.look(slot).await? {
                    return Ok(seen);
                }
                tokio::time::sleep(SETTLE_STEP).await;
            }
        };
        let stuck = || DriverError::Shim(format!("the shim of {slot} neither answers nor ends"));
        let seen = tokio::time::timeout(LOOK_PATIENCE, settled).await.map_err(|_| stuck())??;
        if seen == Observation::Never && last > Attempt(0) {
            let left = tree::clear(Tree::up_to(&self.slot_dir(slot), last)).await;
            left.map_err(|StillThere(count)| DriverError::StillThere { slot: slot.clone(), count })?;
        }
        if matches!(seen, Observation::Never | Observation::Lost { .. }) {
            self.clear_left(slot).await?;
        }
        Ok(seen)
    }

    /// One look. `None`: it is between two states; look again.
    async fn look(&self, slot: &SlotId) -> Result<Option<Observation>, DriverError> {
        if let Some(heard) = self.running().get(slot) {
            let Started { pid, at: started_at, log_start } = heard.started;
            return Ok(Some(Observation::Running { attempt: heard.attempt, pid, started_at, log_start }));
        }
        let Some(record) = self.read_record(slot)? else {
            // A shim writes its record before it lets go of the lock, so that what is not there
            // after that never was. One that is garbled was torn by a crash of the machine.
            let never = !self.is_locked(slot)? && self.read_record(slot)?.is_none();
            return Ok(never.then_some(Observation::Never));
        };
        let attempt = Attempt(record.attempt);
        if let Some((end, at_ns)) = record.end {
            // Until the lock is free the shim is still about to go.
            let gone = !self.is_locked(slot)?;
            return Ok(gone.then(|| Observation::Ended { attempt, exit: exit(end), at: wall(at_ns) }));
        }
        if record.boot_id != self.inner.boot_id {
            let detail = "the machine was restarted while it ran".to_owned();
            return Ok(Some(Observation::Lost { attempt, detail }));
        }
        if let Some(seen) = self.adopt(slot).await? {
            return Ok(Some(seen));
        }
        if self.is_locked(slot)? {
            return Ok(None);
        }
        match self.read_record(slot)? {
            Some(again) if again == record => {
                let detail = self.clear_tree(slot, &record).await?;
                Ok(Some(Observation::Lost { attempt, detail }))
            }
            _ => Ok(None),
        }
    }

    /// Connects to a living shim.
    async fn adopt(&self, slot: &SlotId) -> Result<Option<Observation>, DriverError> {
        let Some(channel) = Channel::connect(&self.slot_dir(slot), SOCKET)
            .map_err(|source| DriverError::io("the shim's socket", source))?
        else {
            return Ok(None);
        };
        channel.peer().into_iter().for_each(tree::wake);
        let hello = channel.receive().await;
        let Ok(Some(FromShim::Hello { version, attempt, pid, at_ns, log_start })) = hello else {
            return Ok(None);
        };
        let (attempt, started_at) = (Attempt(attempt), wall(at_ns));
        let shim = Shim { version, pid: channel.peer() };
        self.listen(slot, attempt, channel, Started { pid, at: started_at, log_start }, shim);
        Ok(Some(Observation::Running { attempt, pid, started_at, log_start }))
    }

    fn read_record(&self, slot: &SlotId) -> Result<Option<Record>, DriverError> {
        match fs::read(self.slot_dir(slot).join(record::FILE)) {
            Ok(block) => Ok(Record::parse(&block)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(DriverError::io("the slot's record", source)),
        }
    }

    fn is_locked(&self, slot: &SlotId) -> Result<bool, DriverError> {
        is_locked(&self.slot_dir(slot)).map_err(|source| DriverError::io("the slot's lock", source))
    }

    /// Deletes everything of a slot. Nothing to delete is fine.
    ///
    /// Errors: a shim holds it.
    pub async fn remove(&self, slot: &SlotId) -> Result<(), DriverError> {
        let dir = self.slot_dir(slot);
        for _ in 0..SETTLE_STEPS {
            match fs::File::open(dir.join(LOCK)) {
                Ok(lock) if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() => {
                    return self.delete(slot, &dir);
                }
                // Its exit is told just before its end.
                Ok(_) => tokio::time::sleep(SETTLE_STEP).await,
                Err(error) if error.kind() == ErrorKind::NotFound => return self.delete(slot, &dir),
                Err(source) => return Err(DriverError::io("the slot's lock", source)),
            }
        }
        Err(DriverError::Shim(format!("a shim still holds {slot}")))
    }

    fn delete(&self, slot: &SlotId, dir: &Path) -> Result<(), DriverError> {
        upbeat_shim::private::remove(&self.private_dir(slot))
            .map_err(|source| DriverError::io("the slot's private files", source))?;
        match fs::remove_dir_all(dir) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                return Err(DriverError::io("the slot's directory", source));
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

    /// The slots that have a directory.
    pub fn slots(&self) -> Vec<SlotId> {
        slots_in(&self.inner.places.slots)
    }
}

/// Whether something runs in one of these slots, whoever looks after it or does not; of containers, whether it may.
pub fn something_runs(slots_dir: &Path) -> bool {
    crate::docker::may_run(slots_dir)
        || slots_in(slots_dir).iter().any(|slot| is_locked(&dir_of(slots_dir, slot)).unwrap_or(false))
}

/// Whether a process belongs to one of these slots, or to a command that was run for one, by the value
/// of its [`MARK`].
pub fn belongs_to(slots_dir: &Path, mark: &str) -> bool {
    let rest = slots_dir.to_str().and_then(|dir| mark.strip_prefix(dir.trim_end_matches('/')));
    rest.is_some_and(|rest| rest.starts_with(['/', '#']))
}

pub(crate) fn slots_in(root: &Path) -> Vec<SlotId> {
    let names = |dir: &Path| -> Vec<String> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    };
    let mut found = Vec::new();
    for app in names(root) {
        for service in names(&root.join(&app)) {
            for index in names(&root.join(&app).join(&service)) {
                found.extend(format!("{app}/{service}/{index}").parse::<SlotId>().ok());
            }
        }
    }
    found
}

pub(crate) fn dir_of(slots_dir: &Path, slot: &SlotId) -> PathBuf {
    let SlotId { app, service, index } = slot;
    slots_dir.join(app.as_str()).join(service.as_str()).join(index.to_string())
}

fn is_locked(slot_dir: &Path) -> std::io::Result<bool> {
    match fs::File::open(slot_dir.join(LOCK)) {
        Ok(file) => {
            let locked = flock(&file, FlockOperation::NonBlockingLockShared).is_err();
            unlock(&file);
            Ok(locked)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Lets go of a slot at once. To close the file may not be enough: a zygote that is being made at this
/// moment has a copy of it until it is executed.
fn unlock(lock: &fs::File) {
    let _ = flock(lock, FlockOperation::Unlock);
}

pub(crate) fn private_dir(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let mut made = Ok(());
    for _ in 0..MAKE_DIR_TRIES {
        made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        if !matches!(&made, Err(error) if error.kind() == ErrorKind::NotFound) {
            break;
        }
    }
    made
}

fn wall(ns: i64) -> Wall {
    Wall(ns.div_euclid(1_000_000))
}

fn exit(end: End) -> Exit {
    match end {
        End::Code(code) => Exit::Code(code),
        End::Signal(signal) => Exit::Signal(signal),
        End::NotExecuted(stage, errno) => Exit::NotStarted(error::words(stage, errno)),
        End::Unknown => {
            Exit::Unknown("its parent, which is another process of the service, did not say how".to_owned())
        }
    }
}
