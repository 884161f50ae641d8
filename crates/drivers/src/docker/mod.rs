//! The driver of containers: asks an engine to pull, make, start, watch, stop and remove what it is told to.
//!
//! Guarantees: every start that is answered with [`Started`] is followed by exactly one
//! [`EngineEvent::Exited`] or [`EngineEvent::Taken`], as long as this driver lives; a driver that comes
//! later gets it by [`Engine::observe`]. Nothing is said to have ended that the engine did not say has. What
//! does not carry our owner's label is never stopped, changed or removed.
//!
//! Assumes: one driver at a time for an owner (the daemon's lock).
//!
//! Events of the engine only wake it up: after each, and whenever a connection is made, the engine is asked
//! how things are.

mod anonymous;
mod attach;
pub mod body;
mod build;
mod credentials;
mod error;
mod events;
mod exec;
mod files;
mod frames;
mod health;
mod images;
pub mod labels;
mod leaving;
mod limits;
mod listen;
mod logs;
mod look;
mod mounts;
mod networks;
mod peers;
mod prepare;
mod record;
mod remove;
mod session;
mod start;
mod stop;
mod survey;
mod usage;
mod wire;
mod words;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{mpsc, watch};
use upbeat_model::device::RegistryKeys;
use upbeat_model::{Attempt, Exit, SlotId, Wall};

use crate::update_locks::UpdateLocks;

pub use crate::process::Started;
pub use attach::Attach;
pub use build::{BuildError, Building};
pub use error::{EngineError, PrepareError, StartError};
pub use exec::ContainerExec;
pub use health::ImageHealth;
pub use images::Progress;
use listen::Heard;
pub use prepare::{Prepare, Prepared, usual_name};
pub(crate) use record::may_run;
pub use wire::Version;
use wire::Wire;

/// Where an engine is, and what is ours in it.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// `unix:///path` or `tcp://host:port`; the engine's usual socket where absent.
    pub host: Option<String>,
    /// The person's directory of Docker's settings (`~/.docker`): where credentials are.
    pub config: Option<PathBuf>,
    /// Keys of registries, which come before what is there.
    pub keys: watch::Receiver<Arc<RegistryKeys>>,
    /// Whose containers these are: a short word that no other daemon has.
    pub owner: String,
    /// A directory for each slot: its record, its log.
    pub slots: PathBuf,
    /// The files that containers with an update lock are given.
    pub locks: UpdateLocks,
    /// A named place that is come to: tests kill the daemon there.
    pub failpoint: fn(&str),
}

/// What is in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing was ever started.
    Never,
    /// A container; its end will be an event.
    Running {
        /// Which attempt.
        attempt: Attempt,
        /// Its first process, as this machine numbers it; 0 where the engine does not say.
        pid: i32,
        /// When it was started.
        started_at: Wall,
        /// The number of its first log record.
        log_start: u64,
        /// Which container.
        container: String,
        /// Of the service that it was made for.
        digest: String,
        /// For which release.
        release: String,
        /// What another hand has changed.
        drift: Vec<Drift>,
    },
    /// The last attempt ended.
    Ended {
        /// Which attempt.
        attempt: Attempt,
        /// How.
        exit: Exit,
        /// When.
        at: Wall,
        /// Which container, if it is still there.
        container: Option<String>,
    },
}

/// What another hand has changed of a container that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drift {
    /// It stands still.
    Paused,
    /// It is called this.
    Renamed(String),
    /// It is not in this network any more.
    Disconnected(String),
}

impl std::fmt::Display for Drift {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Paused => write!(f, "it was paused"),
            Self::Renamed(name) => write!(f, "it was renamed to `{name}`"),
            Self::Disconnected(network) => write!(f, "it is not in network `{network}` any more"),
        }
    }
}

/// How an attempt was taken from us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Its container was removed.
    Removed,
    /// It was stopped or killed, and not by us.
    StoppedByHand,
    /// It was started anew, and not by us: the container runs, as the same attempt.
    Restarted,
}

/// What happened to containers, or to the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineEvent {
    /// A container ended.
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
    /// A container was ended by another hand.
    Taken {
        /// Which slot.
        slot: SlotId,
        /// Which attempt.
        attempt: Attempt,
        /// How.
        how: Taken,
    },
    /// A container that runs was changed by another hand; told when that is not as it was told last.
    Drifted {
        /// Which slot.
        slot: SlotId,
        /// Which attempt.
        attempt: Attempt,
        /// All that is changed.
        drift: Vec<Drift>,
    },
    /// The engine answers, or does not any more. Told when that changes.
    Engine {
        /// It answers.
        reachable: bool,
        /// Why not.
        why: Option<String>,
    },
    /// The slots that have a container of ours, told whenever the engine was found (again).
    Found(Vec<SlotId>),
}

/// Speaks with one engine. A cheap handle; clones share it.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("host", &self.inner.wire.host()).finish_non_exhaustive()
    }
}

struct Inner {
    settings: EngineSettings,
    wire: Wire,
    events: mpsc::Sender<EngineEvent>,
    /// Attempts that are listened to.
    running: Mutex<HashMap<SlotId, Heard>>,
    /// One thing at a time is done to a slot, and to a network or volume of this name.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    watching: OnceLock<()>,
    look_soon: tokio::sync::Notify,
    images: images::Images,
    builds: build::Builds,
}

impl Engine {
    /// A driver; no I/O. It watches the engine's events from its first use on, and tells them here.
    pub fn new(settings: EngineSettings, events: mpsc::Sender<EngineEvent>) -> Self {
        let wire = Wire::new(settings.host.as_deref());
        let (running, turns) = (Mutex::default(), Mutex::default());
        let (watching, images, builds) = (OnceLock::new(), Default::default(), Default::default());
        let look_soon = tokio::sync::Notify::new();
        let inner = Inner { settings, wire, events, running, turns, watching, look_soon, images, builds };
        Self { inner: Arc::new(inner) }
    }

    /// The version of the API that is spoken with the engine.
    ///
    /// Errors: there is none, or none that is spoken with.
    pub async fn version(&self) -> Result<Version, EngineError> {
        self.wire().version().await
    }

    /// The slots that have a container of ours, in order. Asking alone does not begin to watch.
    pub async fn slots(&self) -> Result<Vec<SlotId>, EngineError> {
        self.find().await
    }

    async fn find(&self) -> Result<Vec<SlotId>, EngineError> {
        let owner = &self.inner.settings.owner;
        let listed = look::list(self.wire(), &[labels::is(labels::OWNER, owner)]).await?;
        let marks = listed.iter().filter_map(|one| labels::Marks::read(owner, one.labels.as_ref()?));
        Ok(marks.map(|marks| marks.slot).collect::<BTreeSet<_>>().into_iter().collect())
    }

    fn wire(&self) -> &Wire {
        &self.inner.wire
    }

    fn owner(&self) -> &str {
        &self.inner.settings.owner
    }

    fn failpoint(&self, name: &str) {
        (self.inner.settings.failpoint)(name);
    }

    /// Where a slot's things are.
    pub fn slot_dir(&self, slot: &SlotId) -> PathBuf {
        crate::process::dir_of(&self.inner.settings.slots, slot)
    }

    /// Where its log is.
    pub fn log_dir(&self, slot: &SlotId) -> PathBuf {
        self.slot_dir(slot).join(upbeat_shim::log::DIR)
    }

    fn running(&self) -> MutexGuard<'_, HashMap<SlotId, Heard>> {
        // Every change is one insertion or removal: nothing is half-done after a panic.
        self.inner.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else does anything to this.
    async fn turn(&self, of: &str) -> tokio::sync::OwnedMutexGuard<()> {
        self.turn_at(of).lock_owned().await
    }

    /// Where nobody does anything to this slot.
    fn turn_now(&self, slot: &SlotId) -> Option<tokio::sync::OwnedMutexGuard<()>> {
        self.turn_at(&format!("slot {slot}")).try_lock_owned().ok()
    }

    fn turn_at(&self, of: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.inner.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody waits for are forgotten when they are many.
        const MANY: usize = 256;
        if turns.len() > MANY {
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        }
        turns.entry(of.to_owned()).or_default().clone()
    }

    async fn turn_of(&self, slot: &SlotId) -> tokio::sync::OwnedMutexGuard<()> {
        self.turn(&format!("slot {slot}")).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_says_where_its_engine_is_and_no_more() {
        let (events, _) = mpsc::channel(1);
        let settings = EngineSettings {
            host: Some("unix:///x.sock".to_owned()),
            config: None,
            keys: watch::channel(Default::default()).1,
            owner: "me".to_owned(),
            slots: "/slots".into(),
            locks: UpdateLocks::new("/locks".into()),
            failpoint: |_| {},
        };
        let engine = Engine::new(settings, events);
        assert_eq!(format!("{engine:?}"), "Engine { host: \"unix:///x.sock\", .. }");
        assert_eq!(engine.log_dir(&"a/web/2".parse().unwrap()), PathBuf::from("/slots/a/web/2/log"));
    }
}
