//! Moves targets from one version to another, a few at a time, and back when that was wrong, inside your own
//! program.
//!
//! Your program says which version all targets of an *entity* shall run, and reports in a loop what each of
//! them runs. It is told what each shall run, and does that itself: the engine touches no target. It is the
//! engine of the daemon, with a store of its own. `docs/rollouts.md` says how it decides.
//!
//! A first rollout. Ten targets run `v1`, and go to `v2` one after the other:
//!
//! ```
//! use std::time::Duration;
//! use upbeat::rollouts::{Amount, ClientState, Millis, Options, RolloutEngine};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = RolloutEngine::in_memory().await?;
//! let mut states: Vec<ClientState> = (0..10).map(|n| ClientState::new(format!("web-{n}"), "v1")).collect();
//!
//! // What runs is good.
//! let declared = Options { batch: Amount::Percent(100), success_percent: 0, ..Options::default() };
//! engine.set_rollout_options("prod", "web", Some(declared)).await?;
//! engine.set_target_version("prod", "web", "v1").await?;
//! engine.orchestrate("prod", "web", states.clone()).await?;
//! assert_eq!(engine.get_rollout_info("prod", "web").await?.good.unwrap().as_str(), "v1");
//!
//! // Ten percent at a time. A target is well when it has run its version for a second; usually that takes longer.
//! let options = Options { batch: Amount::Percent(10), success_timeout: Millis(0), ..Options::default() };
//! engine.set_rollout_options("prod", "web", Some(options)).await?;
//! engine.set_target_version("prod", "web", "v2").await?;
//!
//! loop {
//!     let told = engine.orchestrate("prod", "web", states.clone()).await?;
//!     for (state, told) in states.iter_mut().zip(told) {
//!         state.version = told.version; // Here is what really moves a target.
//!     }
//!     let info = engine.get_rollout_info("prod", "web").await?;
//!     assert!(info.counts.on_the_way <= 1);
//!     if info.good.is_some_and(|good| good.as_str() == "v2") {
//!         break;
//!     }
//!     tokio::time::sleep(Duration::from_secs(2)).await;
//! }
//! assert!(states.iter().all(|state| state.version == "v2"));
//! engine.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # A version that fails
//!
//! One target fails on `v2`, and all go back to `v1`. `v2` is not tried again until somebody says so:
//!
//! ```
//! use upbeat::rollouts::{Amount, ClientState, CourseWord, Options, RolloutEngine};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let engine = RolloutEngine::in_memory().await?;
//! # let states: Vec<ClientState> = (0..3).map(|n| ClientState::new(format!("web-{n}"), "v1")).collect();
//! # let declared = Options { success_percent: 0, ..Options::default() };
//! # engine.set_rollout_options("prod", "web", Some(declared)).await?;
//! # engine.set_target_version("prod", "web", "v1").await?;
//! # engine.orchestrate("prod", "web", states.clone()).await?;
//! let options = Options { batch: Amount::Count(3), ..Options::default() }; // All at once.
//! engine.set_rollout_options("prod", "web", Some(options)).await?;
//! engine.set_target_version("prod", "web", "v2").await?;
//! engine.orchestrate("prod", "web", states.clone()).await?;
//! let told = engine.orchestrate("prod", "web", states).await?;
//! assert!(told.iter().all(|told| told.version == "v2"));
//!
//! // `with_error` would give it its time; a failure is not waited for.
//! let failed = ClientState::new("web-1", "v2").with_failure("it does not start");
//! engine.orchestrate("prod", "web", vec![failed]).await?;
//! let told = engine.orchestrate("prod", "web", vec![]).await?;
//! assert!(told.iter().all(|told| told.version == "v1"));
//!
//! let info = engine.get_rollout_info("prod", "web").await?;
//! assert_eq!((info.course, info.bad.unwrap().as_str()), (CourseWord::Back, "v2"));
//! assert_eq!(engine.get_history("prod", "web").await?[0].version.as_str(), "v2");
//!
//! engine.retry("prod", "web", "ann").await?;
//! assert_eq!(engine.get_rollout_info("prod", "web").await?.course, CourseWord::Forward);
//! # Ok(())
//! # }
//! ```
//!
//! # Controllers: a blue-green rollout
//!
//! A [`TargetController`] says which targets are next, and may name new ones; and which old ones go. It is told
//! and asked in the midst of a call:
//!
//! ```
//! use std::sync::atomic::{AtomicUsize, Ordering};
//! use std::time::Duration;
//! use upbeat::rollouts::{ClientState, ControllerFailure, Millis, Options, RolloutEngine, TargetController};
//!
//! struct BlueGreen {
//!     next: AtomicUsize,
//! }
//!
//! impl TargetController for BlueGreen {
//!     async fn selection(
//!         &self,
//!         _available: Vec<ClientState>,
//!         count: usize,
//!     ) -> Result<Vec<ClientState>, ControllerFailure> {
//!         let first = self.next.fetch_add(count, Ordering::Relaxed);
//!         Ok((first..first + count).map(|n| ClientState::new(format!("green-{n}"), "")).collect())
//!     }
//!
//!     async fn removal(
//!         &self,
//!         old: Vec<ClientState>,
//!         count: usize,
//!     ) -> Result<Vec<ClientState>, ControllerFailure> {
//!         Ok(old.into_iter().take(count).collect())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let engine = RolloutEngine::in_memory().await?;
//! # let mut states: Vec<ClientState> = (0..3).map(|n| ClientState::new(format!("blue-{n}"), "v1")).collect();
//! # let declared = Options { success_percent: 0, ..Options::default() };
//! # engine.set_rollout_options("prod", "web", Some(declared)).await?;
//! # engine.set_target_version("prod", "web", "v1").await?;
//! # engine.orchestrate("prod", "web", states.clone()).await?;
//! # let options = Options { success_timeout: Millis(0), ..Options::default() };
//! # engine.set_rollout_options("prod", "web", Some(options)).await?;
//! let blue_green = BlueGreen { next: AtomicUsize::new(0) };
//! engine.set_entity_target_controller("prod", "web", blue_green).await?;
//! engine.set_target_version("prod", "web", "v2").await?;
//! loop {
//!     let told = engine.orchestrate("prod", "web", states).await?;
//!     // Make and remove what really is a target, and report what there is then.
//!     states = told.iter().map(|told| ClientState::new(&told.name, &told.version)).collect();
//!     if states.iter().all(|state| state.name.starts_with("green")) {
//!         break;
//!     }
//!     tokio::time::sleep(Duration::from_secs(2)).await;
//! }
//! assert_eq!(states.len(), 3);
//! assert!(states.iter().all(|state| state.version == "v2"));
//! # Ok(())
//! # }
//! ```
//!
//! # At once, and for good
//!
//! What is rolled out now is dropped where another version is forced. All of it is kept when a call returns, also
//! when the program is killed then; but for controllers of the program, which it names again:
//!
//! ```
//! use upbeat::rollouts::{ClientState, EngineError, MonitoringController, RolloutEngine};
//!
//! struct AllIsWell;
//! impl MonitoringController for AllIsWell {}
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let directory = directory.path();
//! let engine = RolloutEngine::open(directory).await?;
//! engine.set_entity_monitoring_controller("prod", "web", AllIsWell).await?;
//! engine.set_target_version("prod", "web", "v1").await?;
//! engine.orchestrate("prod", "web", vec![ClientState::new("web-0", "v0")]).await?;
//! engine.force_target_version("prod", "web", "v2").await?;
//! engine.shutdown().await?;
//!
//! let engine = RolloutEngine::open(directory).await?;
//! let info = engine.get_rollout_info("prod", "web").await?;
//! assert_eq!(info.target.unwrap().as_str(), "v2");
//! assert_eq!(info.bad.unwrap().as_str(), "v1");
//!
//! let refused = engine.orchestrate("prod", "web", vec![]).await.unwrap_err();
//! assert!(matches!(refused, EngineError::NotRegistered { .. }));
//! engine.set_entity_monitoring_controller("prod", "web", AllIsWell).await?;
//! engine.orchestrate("prod", "web", vec![]).await?;
//! # Ok(())
//! # }
//! ```

mod controllers;
mod error;
mod looking;
mod people;
mod state;
#[cfg(test)]
mod tests;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use upbeat_control::rollouts::{Change, Rollouts, Settings};
use upbeat_drivers::clock;
use upbeat_drivers::controllers::Means;
use upbeat_model::rollout::{Controller, Controllers, EntityId};
use upbeat_store::{Durability, Store};

pub use controllers::{
    CONTROLLER_TIME, ControllerFailure, MonitoringController, TargetController, WebControllers,
};
pub use error::EngineError;
pub use state::ClientState;
pub use upbeat_control::rollouts::RolloutError;
pub use upbeat_drivers::controllers::{Allowed, NotAllowed, Policy};
pub use upbeat_model::rollout::{
    Amount, AnalysisSpec, AnalysisState, AnalysisWord, Cadence, Caution, CourseWord, Gate, HeaderFile,
    HeaderValue, Measure, Options, Outcome, PastState, RolloutState, Source, Stage, Strategy, Version,
};
pub use upbeat_model::{Millis, Wall};

use crate::daemon::controllers::OverNetwork;
use controllers::Own;

/// What is kept lies in this file of an engine's directory.
const FILE: &str = "rollouts.redb";

/// What an engine may do, and for how long.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// A controller of this program answers within so long, or has no answer; [`CONTROLLER_TIME`] where nothing
    /// is said.
    pub controller_time: Duration,
    /// Whom [`WebControllers`] and measures may reach; where nothing is said, this machine alone.
    pub callbacks: Policy,
}

impl Default for EngineSettings {
    fn default() -> Self {
        let callbacks = Policy { loopback: true, allow: Vec::new() };
        Self { controller_time: CONTROLLER_TIME, callbacks }
    }
}

/// Decides which version each target of each entity shall run, and keeps that.
///
/// A cheap handle; clones share the engine. It runs in the runtime of tokio in which it was opened, which needs
/// its timers, and all calls are made there. What a call has begun ends also where nobody waits for it.
///
/// What a strategy has measured by a command runs below this program, and is killed with its process group when it has
/// answered. A daemon has it killed, too, when the daemon itself is; a program that embeds rollouts has no shims for that.
#[derive(Clone)]
pub struct RolloutEngine {
    /// None: it was shut down.
    kept: Arc<Mutex<Option<Rollouts>>>,
    own: Arc<Own>,
}

impl RolloutEngine {
    /// Goes on with what this directory keeps, which is made where it is missing, and is private to its owner.
    ///
    /// Errors: another engine has it; it cannot be used; what it keeps cannot be read.
    pub async fn open(directory: impl AsRef<Path>) -> Result<Self, EngineError> {
        Self::open_with(directory, EngineSettings::default()).await
    }

    /// The same, by other rules.
    pub async fn open_with(
        directory: impl AsRef<Path>,
        settings: EngineSettings,
    ) -> Result<Self, EngineError> {
        let directory = directory.as_ref().to_owned();
        let place = directory.join(FILE);
        let file = place.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
            made.map_err(|source| EngineError::Directory { directory, source })?;
            upbeat_store::open_redb(&file, Durability::Machine)
                .map_err(|source| EngineError::Open { place: file, source })
        });
        let (store, _) = opened.await.map_err(|error| EngineError::Failed(error.to_string()))??;
        Self::on(store, &place, settings).await
    }

    /// Keeps everything in memory: it is gone with the engine.
    ///
    /// Errors: the system has no thread left for it.
    pub async fn in_memory() -> Result<Self, EngineError> {
        Self::in_memory_with(EngineSettings::default()).await
    }

    /// The same, by other rules.
    pub async fn in_memory_with(settings: EngineSettings) -> Result<Self, EngineError> {
        let place = Path::new("memory");
        let (store, _) = upbeat_store::open_memory()
            .map_err(|source| EngineError::Open { place: place.to_owned(), source })?;
        Self::on(store, place, settings).await
    }

    async fn on(store: Store, place: &Path, settings: EngineSettings) -> Result<Self, EngineError> {
        let means = Means { policy: settings.callbacks, ..Means::default() };
        let own = Arc::new(Own::new(OverNetwork::new(means), settings.controller_time));
        let settings = Settings { wall: clock::wall, asker: own.clone(), events: None, failpoint: |_| {} };
        let kept = Rollouts::open(store, settings).await;
        let kept = kept.map_err(|source| EngineError::Open { place: place.to_owned(), source })?;
        Ok(Self { kept: Arc::new(Mutex::new(Some(kept))), own })
    }

    fn kept(&self) -> MutexGuard<'_, Option<Rollouts>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// On a task of its own, for which a shutdown waits, and nobody else has to.
    async fn run<T, F>(&self, ask: impl FnOnce(Rollouts, Arc<Own>) -> F) -> Result<T, EngineError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, EngineError>> + Send + 'static,
    {
        let task = {
            let kept = self.kept();
            let kept = kept.as_ref().ok_or(EngineError::ShutDown)?;
            let (under_way, asked) = (kept.begin(), ask(kept.clone(), self.own.clone()));
            // Targets that nobody reports any more are forgotten with calls about any entity: a program that makes none
            // has no timer of ours.
            if kept.is_time_to_sweep() {
                let (under_way, kept) = (kept.begin(), kept.clone());
                tokio::spawn(async move {
                    kept.sweep().await;
                    drop(kept);
                    drop(under_way);
                });
            }
            tokio::spawn(async move {
                let said = asked.await;
                drop(under_way);
                said
            })
        };
        task.await.unwrap_or_else(|failed| Err(EngineError::Failed(failed.to_string())))
    }

    async fn change(
        &self,
        namespace: &str,
        entity: &str,
        change: Change,
        by: Option<&str>,
    ) -> Result<Vec<Caution>, EngineError> {
        let (id, by) = (EntityId::new(namespace, entity)?, by.map(ToOwned::to_owned));
        self.run(|kept, _| async move { Ok(kept.change(id, change, by).await?.1) }).await
    }

    /// All targets of this entity shall run this version, when what is rolled out now is good or bad. A namespace
    /// and an entity are made when they are first named.
    ///
    /// Errors: the version is known to be bad; [`RolloutEngine::force_target_version`] and
    /// [`RolloutEngine::forgive`] hold that against it no more.
    pub async fn set_target_version(
        &self,
        namespace: &str,
        entity: &str,
        version: &str,
    ) -> Result<(), EngineError> {
        let change = Change::SetVersion(Version::new(version)?);
        self.change(namespace, entity, change, None).await.map(drop)
    }

    /// The same, at once: what is rolled out now is held to be bad.
    pub async fn force_target_version(
        &self,
        namespace: &str,
        entity: &str,
        version: &str,
    ) -> Result<(), EngineError> {
        let change = Change::ForceVersion(Version::new(version)?);
        self.change(namespace, entity, change, None).await.map(drop)
    }

    /// How carefully targets are moved; `None`: as without being asked. Returns what will most likely not be
    /// what was meant.
    ///
    /// Errors: a field that cannot be, by its name.
    pub async fn set_rollout_options(
        &self,
        namespace: &str,
        entity: &str,
        options: Option<Options>,
    ) -> Result<Vec<Caution>, EngineError> {
        self.change(namespace, entity, Change::SetOptions(options), None).await
    }

    /// In which stages, and within which limits and windows; `None`: as without being asked. What is on its way
    /// keeps its stages. Returns and errors: as [`RolloutEngine::set_rollout_options`].
    pub async fn set_strategy(
        &self,
        namespace: &str,
        entity: &str,
        strategy: Option<Strategy>,
    ) -> Result<Vec<Caution>, EngineError> {
        self.change(namespace, entity, Change::SetStrategy(strategy.map(Box::new)), None).await
    }

    /// Asks this controller about the entity's targets, and nobody else. That somebody is asked is kept, but not
    /// who: the next run of the program names it again, and until then nothing is decided about the entity.
    pub async fn set_entity_target_controller(
        &self,
        namespace: &str,
        entity: &str,
        controller: impl TargetController,
    ) -> Result<(), EngineError> {
        let controller = Arc::new(controller);
        self.register(
            namespace,
            entity,
            |registered| registered.target = Some(controller),
            |controllers| {
                let program = || Some(Controller::Program);
                (controllers.selection, controllers.approval) = (program(), program());
                (controllers.removal, controllers.monitoring) = (program(), program());
            },
        )
        .await
    }

    /// Asks this controller about the whole of the entity, and nobody else. Kept as
    /// [`RolloutEngine::set_entity_target_controller`] says.
    pub async fn set_entity_monitoring_controller(
        &self,
        namespace: &str,
        entity: &str,
        controller: impl MonitoringController,
    ) -> Result<(), EngineError> {
        let controller = Arc::new(controller);
        self.register(
            namespace,
            entity,
            |registered| registered.monitoring = Some(controller),
            |controllers| controllers.external_monitoring = Some(Controller::Program),
        )
        .await
    }

    /// Whoever is to be asked is there before that is kept, so that no decision misses it.
    async fn register(
        &self,
        namespace: &str,
        entity: &str,
        change: impl FnOnce(&mut controllers::Registered),
        edit: impl FnOnce(&mut Controllers) + Send + 'static,
    ) -> Result<(), EngineError> {
        let id = EntityId::new(namespace, entity)?;
        if self.kept().is_none() {
            return Err(EngineError::ShutDown);
        }
        let before = self.own.register(&id, change);
        self.run(|kept, own| async move {
            let edit = |controllers: &mut Controllers| {
                edit(controllers);
                Ok(())
            };
            let kept = kept.edit_controllers(id.clone(), edit).await;
            if kept.is_err() {
                own.register(&id, |registered| *registered = before);
            }
            kept?;
            Ok(())
        })
        .await
    }

    /// Asks these addresses about the entity, and nobody else, also not this program. With none, nobody is asked.
    ///
    /// Errors: one that cannot be asked.
    pub async fn set_web_controllers(
        &self,
        namespace: &str,
        entity: &str,
        controllers: WebControllers,
    ) -> Result<(), EngineError> {
        let (id, controllers) = (EntityId::new(namespace, entity)?, Controllers::from(controllers));
        self.run(|kept, own| async move {
            let edit = |kept: &mut Controllers| {
                controllers.check()?;
                *kept = controllers;
                Ok(())
            };
            kept.edit_controllers(id.clone(), edit).await?;
            own.register(&id, |registered| *registered = controllers::Registered::default());
            Ok(())
        })
        .await
    }

    /// Says what runs, and returns what shall run, of all targets that are known. Those that are not reported are
    /// as they were, for a quarter of an hour.
    ///
    /// Errors: nothing could be decided, or kept; the same may be reported again.
    pub async fn orchestrate(
        &self,
        namespace: &str,
        entity: &str,
        states: Vec<ClientState>,
    ) -> Result<Vec<ClientState>, EngineError> {
        let (id, reports) = (EntityId::new(namespace, entity)?, state::reports(states)?);
        self.run(|kept, own| async move {
            own.check(&id, &kept.controllers(&id).await?.unwrap_or_default())?;
            let (_, targets) = kept.orchestrate(id, reports).await?;
            Ok(targets.into_iter().map(ClientState::told).collect())
        })
        .await
    }

    /// The same, but it is decided later; [`RolloutEngine::get_client_state`] tells what. What was reported is
    /// kept when this returns.
    pub async fn orchestrate_async(
        &self,
        namespace: &str,
        entity: &str,
        states: Vec<ClientState>,
    ) -> Result<(), EngineError> {
        let (id, reports) = (EntityId::new(namespace, entity)?, state::reports(states)?);
        self.run(|kept, own| async move {
            own.check(&id, &kept.controllers(&id).await?.unwrap_or_default())?;
            Ok(kept.orchestrate_later(id, reports).await?)
        })
        .await
    }

    /// What all targets of an entity shall run, as it was decided last.
    ///
    /// Errors: nobody has named it.
    pub async fn get_client_state(
        &self,
        namespace: &str,
        entity: &str,
    ) -> Result<Vec<ClientState>, EngineError> {
        self.told(EntityId::new(namespace, entity)?, None).await
    }

    /// The same, of those of this group.
    pub async fn get_client_group_state(
        &self,
        namespace: &str,
        entity: &str,
        group: &str,
    ) -> Result<Vec<ClientState>, EngineError> {
        self.told(EntityId::new(namespace, entity)?, Some(group.to_owned())).await
    }

    async fn told(&self, id: EntityId, group: Option<String>) -> Result<Vec<ClientState>, EngineError> {
        self.run(|kept, _| async move {
            if kept.controllers(&id).await?.is_none() {
                return Err(EngineError::Unknown(id));
            }
            let targets = kept.targets(&id, group.as_deref()).await?;
            Ok(targets.into_iter().map(ClientState::told).collect())
        })
        .await
    }

    /// Ends the engine: what was begun is ended, the clock of rollouts is kept, and the directory is free for another
    /// engine. Controllers are not waited for: what waits for one is given up, and a call that does has an error; what
    /// was reported is kept, and decided by the next engine. Every later call, of any clone, is an error that says so.
    ///
    /// An engine that is dropped instead loses nothing that was kept.
    ///
    /// Errors: it was shut down before; the clock could not be kept.
    pub async fn shutdown(&self) -> Result<(), EngineError> {
        let kept = self.kept().take().ok_or(EngineError::ShutDown)?;
        kept.give_up();
        // Goes on where nobody waits for it any more.
        let ended = tokio::spawn(async move {
            kept.idle().await;
            kept.close().await.map_err(EngineError::Clock)
        });
        ended.await.unwrap_or_else(|failed| Err(EngineError::Failed(failed.to_string())))
    }
}
