//! Rollouts that survive: entities, their targets, and one call after the other about each.
//!
//! A call is: what is reported is taken down; it is decided, which may ask an entity's controllers; what was
//! decided is kept, and only then told. Laws:
//! * Of one entity one thing is decided at a time; what is asked meanwhile is taken down at once, and counts
//!   for the decision. So no answer is lost, and a pause does not wait for a controller that does not answer.
//! * Nobody is told of an assignment that is not kept.
//! * What the store could not tell of is read again before anything else is said of that entity.
//! * Whoever goes away in the midst of a call leaves it to end.

mod ask;
mod clock;
mod entity;
mod error;
mod keep;
mod show;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod unit_tests;
mod units;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
pub use upbeat_decide::rollout::unit::{UnitChange, UnitRefused};
pub use upbeat_decide::rollout::{Answer, Asks, Change, NewTarget, Nothing, Refused};
use upbeat_model::rollout::{
    Caution, ControllerError, Controllers, EntityId, PastState, Report, RolloutState, TargetState,
    UnitMember, UnitState,
};
use upbeat_model::{Mono, Wall};
use upbeat_store::{Store, StoreError};

use crate::events::EventLog;
pub use ask::{Answering, Asked, Asker, Trying};
use clock::Clock;
use entity::Entity;
pub use error::RolloutError;
pub use units::UNITS_MAX;
use units::Units;

/// More entities than anybody has apps. Each is held in memory.
pub const ENTITIES_MAX: usize = 10_000;

/// Of one entity. The list of the leaves of more would not fit into one value of the store.
pub const TARGETS_MAX: usize = 250_000;

/// What is needed of the surroundings.
pub struct Settings {
    /// The clock on the wall.
    pub wall: fn() -> Wall,
    /// Who answers questions about targets.
    pub asker: Arc<dyn Asker>,
    /// Where it is told what happens; none: nowhere.
    pub events: Option<EventLog>,
    /// Called at named points (`rollout_leaves_kept`, `rollout_kept`, `unit_kept`, `unit_member_asked`), so that a test
    /// can kill the process there.
    pub failpoint: fn(&str),
}

/// All rollouts of a daemon. A cheap handle; clones share it.
#[derive(Clone)]
pub struct Rollouts {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    store: Store,
    clock: Clock,
    wall: fn() -> Wall,
    asker: Arc<dyn Asker>,
    events: Option<EventLog>,
    failpoint: fn(&str),
    entities: Mutex<Entities>,
    units: Units,
    /// When the clock was written last, by itself.
    clock_written: AtomicU64,
    /// Controllers are not waited for any more.
    ends: watch::Sender<bool>,
    /// So many tasks are about something.
    busy: watch::Sender<usize>,
}

/// Something is under way, from before it begins until nothing of ours is held for it any more.
pub struct Busy(watch::Sender<usize>);

impl Busy {
    fn new(inner: &Inner) -> Self {
        inner.busy.send_modify(|busy| *busy += 1);
        Self(inner.busy.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.send_modify(|busy| *busy -= 1);
    }
}

#[derive(Default)]
struct Entities {
    all: BTreeMap<EntityId, Arc<Entity>>,
    next_number: u64,
}

impl Inner {
    fn entities(&self) -> MutexGuard<'_, Entities> {
        self.entities.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entity of that name; one that nobody has named before is made.
    fn entity(&self, id: &EntityId) -> Result<Arc<Entity>, RolloutError> {
        let mut entities = self.entities();
        if let Some(entity) = entities.all.get(id) {
            return Ok(entity.clone());
        }
        if entities.all.len() >= ENTITIES_MAX {
            return Err(RolloutError::TooManyEntities { max: ENTITIES_MAX });
        }
        let entity = Arc::new(Entity::new(id.clone(), entities.next_number, self.clock.now()));
        entities.next_number += 1;
        entities.all.insert(id.clone(), entity.clone());
        Ok(entity)
    }

    /// This very one is not there any more.
    fn drop_entity(&self, entity: &Arc<Entity>) {
        let mut entities = self.entities();
        if entities.all.get(&entity.id).is_some_and(|known| Arc::ptr_eq(known, entity)) {
            entities.all.remove(&entity.id);
        }
    }
}

impl Rollouts {
    /// Reads what was kept.
    ///
    /// Errors: it cannot be read.
    pub async fn open(store: Store, settings: Settings) -> Result<Self, StoreError> {
        let keep::All { entities: kept, clock, next_number } = keep::load(&store).await?;
        let units = units::load(&store).await?;
        let written = kept.iter().map(|kept| kept.at).chain(units.iter().map(|(_, _, kept)| kept.at));
        let known = written.max().unwrap_or_default();
        let clock = Clock::go_on(clock, known, settings.wall);
        // When this daemon began to listen is known from the first on.
        if let Err(error) = keep::write_clock(&store, &clock.kept()).await {
            // A full disk must not keep services from being looked after. The next head says it, too.
            tracing::warn!(%error, "what the clock of rollouts shows could not be stored");
        }
        let now = clock.now();
        let all = kept.into_iter().map(|kept| {
            let entity = Entity::kept(kept, now);
            (entity.id.clone(), Arc::new(entity))
        });
        let inner = Inner {
            entities: Mutex::new(Entities { all: all.collect(), next_number }),
            units: Units::of(units),
            store,
            clock_written: AtomicU64::new(now.0),
            clock,
            wall: settings.wall,
            asker: settings.asker,
            events: settings.events,
            failpoint: settings.failpoint,
            ends: watch::channel(false).0,
            busy: watch::channel(0).0,
        };
        inner.units_go_on().await;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// On a task of its own: it ends also where whoever waits for it goes away.
    async fn run<T, F>(&self, run: impl FnOnce(Arc<Inner>) -> F) -> Result<T, RolloutError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, RolloutError>> + Send + 'static,
    {
        let (busy, run) = (Busy::new(&self.inner), run(self.inner.clone()));
        let ran = tokio::spawn(async move {
            let ran = run.await;
            drop(busy);
            ran
        });
        let ran = ran.await;
        ran.unwrap_or_else(|failed| Err(RolloutError::Failed(failed.to_string())))
    }

    /// What a controller says of its targets is taken down, and it is decided. Returns where the entity is, and
    /// all its targets: see [`Rollouts::decide`] and [`Rollouts::assigned`].
    ///
    /// Errors: as those.
    pub async fn orchestrate(
        &self,
        id: EntityId,
        reports: Vec<Report>,
    ) -> Result<(RolloutState, Vec<TargetState>), RolloutError> {
        self.decide(id.clone(), reports).await?;
        self.assigned(&id).await
    }

    /// What a controller says of its targets is taken down, and it is decided. Of those who wait because controllers
    /// are being asked, all share one decision that begins after what they reported was taken down.
    ///
    /// Errors: nothing could be decided, or kept. What was reported is kept all the same where that is possible.
    pub async fn decide(&self, id: EntityId, reports: Vec<Report>) -> Result<(), RolloutError> {
        self.run(|inner| async move {
            let decided = inner.orchestrate(&id, reports).await;
            inner.unit_goes_on(&id).await;
            decided
        })
        .await
    }

    /// Where an entity is, and all its targets, as it was decided last.
    ///
    /// Errors: nobody has named it; what is kept cannot be read.
    pub async fn assigned(&self, id: &EntityId) -> Result<(RolloutState, Vec<TargetState>), RolloutError> {
        let clock = &self.inner.clock;
        let assigned = self.look(id, |held| {
            let targets = held.rollout.targets.iter();
            let targets = targets.map(|(id, target)| show::target(id, target, clock)).collect();
            (show::rollout(&held.rest, &held.rollout, clock), targets)
        });
        assigned.await?.ok_or_else(|| RolloutError::NoSuchEntity(id.clone()))
    }

    /// As [`Rollouts::decide`], but it is decided later. What was reported is kept when this answers.
    ///
    /// Errors: it could not be kept.
    pub async fn orchestrate_later(&self, id: EntityId, reports: Vec<Report>) -> Result<(), RolloutError> {
        if reports.is_empty() && !self.inner.entities().all.contains_key(&id) {
            // Nobody said anything of it yet.
            return Ok(());
        }
        self.run(|inner| async move {
            let (entity, next) = inner.report(&id, reports).await?;
            if entity.is_due() {
                let busy = Busy::new(&inner);
                tokio::spawn(async move {
                    if let Err(error) = inner.decide(&entity, next).await {
                        tracing::info!(entity = %entity.id, %error, "nothing was decided about what was reported");
                    }
                    inner.unit_goes_on(&entity.id).await;
                    drop((inner, entity));
                    drop(busy);
                });
            }
            Ok(())
        })
        .await
    }

    /// Does what somebody asks of an entity. Returns where it is, and what will most likely not be what was meant.
    ///
    /// Errors: it is refused, or could not be kept; nothing has changed.
    pub async fn change(
        &self,
        id: EntityId,
        change: Change,
        by: Option<String>,
    ) -> Result<(RolloutState, Vec<Caution>), RolloutError> {
        self.change_all(id, vec![change], by).await
    }

    /// The same of several, one after the other: all are done, or none. What comes before one that may be refused
    /// has to be options and strategy.
    ///
    /// Errors: one of them is refused, or they could not be kept; nothing has changed.
    pub async fn change_all(
        &self,
        id: EntityId,
        changes: Vec<Change>,
        by: Option<String>,
    ) -> Result<(RolloutState, Vec<Caution>), RolloutError> {
        self.run(|inner| async move {
            let edited = inner.edit(&id, |held, now| {
                for change in &changes {
                    inner.units.check(&id, &held.rollout, change)?;
                }
                Ok(held.rollout.change_all(changes, by.as_deref(), now)?)
            });
            let changed = edited.await;
            inner.unit_goes_on(&id).await;
            changed
        })
        .await
    }

    /// Several entities go to new versions as one. Asked for twice, it is the same unit. Returns where it is.
    ///
    /// Errors: the members make no unit, one cannot begin, or it could not be kept; nothing has changed.
    pub async fn start_unit(
        &self,
        id: EntityId,
        members: Vec<UnitMember>,
        by: String,
    ) -> Result<UnitState, RolloutError> {
        self.run(|inner| async move { inner.start_unit(id, members, by).await }).await
    }

    /// Does what somebody asks of a unit. Returns where it is.
    ///
    /// Errors: it is refused, or could not be kept; nothing has changed.
    pub async fn change_unit(&self, id: EntityId, change: UnitChange) -> Result<UnitState, RolloutError> {
        self.run(|inner| async move { inner.change_unit(id, change).await }).await
    }

    /// Where a unit is. `None`: nobody has named it.
    pub async fn unit(&self, id: &EntityId) -> Result<Option<UnitState>, RolloutError> {
        self.inner.unit(id).await
    }

    /// The units of a namespace, or of all, in order.
    pub async fn units(&self, namespace: Option<&str>) -> Result<Vec<UnitState>, RolloutError> {
        self.inner.units(namespace).await
    }

    /// Others are asked from now on.
    ///
    /// Errors: they cannot be, or it could not be kept; nothing has changed.
    pub async fn edit_controllers(
        &self,
        id: EntityId,
        edit: impl FnOnce(&mut Controllers) -> Result<(), ControllerError> + Send + 'static,
    ) -> Result<RolloutState, RolloutError> {
        let edited = self.run(|inner| async move {
            inner.edit(&id, |held, _| Ok(edit(&mut held.rest.controllers)?)).await
        });
        edited.await.map(|(state, ())| state)
    }

    /// Nothing is known of an entity any more.
    ///
    /// Errors: there is none of that name; it could not be removed.
    pub async fn forget(&self, id: EntityId) -> Result<(), RolloutError> {
        self.run(|inner| async move { inner.forget(&id).await }).await
    }

    /// In which namespaces there are entities, in order.
    pub fn namespaces(&self) -> BTreeSet<String> {
        self.inner.entities().all.keys().map(|id| id.namespace().to_owned()).collect()
    }

    /// The entities of a namespace, or of all, in order.
    pub async fn rollouts(&self, namespace: Option<&str>) -> Result<Vec<RolloutState>, RolloutError> {
        let wanted: Vec<Arc<Entity>> = {
            let entities = self.inner.entities();
            let wanted = entities
                .all
                .values()
                .filter(|entity| namespace.is_none_or(|name| entity.id.namespace() == name));
            wanted.cloned().collect()
        };
        let mut states = Vec::new();
        for entity in wanted {
            let state = |held: &entity::Held| show::rollout(&held.rest, &held.rollout, &self.inner.clock);
            states.extend(self.inner.look(&entity, state).await?);
        }
        Ok(states)
    }

    /// What is so of an entity; `None`: nobody has named it.
    async fn look<T>(
        &self,
        id: &EntityId,
        look: impl FnOnce(&entity::Held) -> T,
    ) -> Result<Option<T>, RolloutError> {
        let entity = self.inner.entities().all.get(id).cloned();
        match entity {
            Some(entity) => self.inner.look(&entity, look).await,
            None => Ok(None),
        }
    }

    /// Where an entity is. `None`: nobody has named it.
    pub async fn rollout(&self, id: &EntityId) -> Result<Option<RolloutState>, RolloutError> {
        self.look(id, |held| show::rollout(&held.rest, &held.rollout, &self.inner.clock)).await
    }

    /// Its targets, in the order of their groups and names, of one group or of all.
    pub async fn targets(
        &self,
        id: &EntityId,
        group: Option<&str>,
    ) -> Result<Vec<TargetState>, RolloutError> {
        let clock = &self.inner.clock;
        let targets = self.look(id, |held| {
            let wanted =
                held.rollout.targets.iter().filter(|(id, _)| group.is_none_or(|group| id.group == group));
            wanted.map(|(id, target)| show::target(id, target, clock)).collect()
        });
        Ok(targets.await?.unwrap_or_default())
    }

    /// Its rollouts that have ended, the latest first. `None`: nobody has named it.
    pub async fn history(&self, id: &EntityId) -> Result<Option<Vec<PastState>>, RolloutError> {
        let clock = &self.inner.clock;
        self.look(id, |held| held.rollout.history.iter().rev().map(|past| show::past(past, clock)).collect())
            .await
    }

    /// Whom it asks. `None`: nobody has named it.
    pub async fn controllers(&self, id: &EntityId) -> Result<Option<Controllers>, RolloutError> {
        self.look(id, |held| held.rest.controllers.clone()).await
    }

    /// Wakes whenever the entity has changed; ends when it is forgotten. `None`: nobody has named it.
    pub fn changes(&self, id: &EntityId) -> Option<watch::Receiver<u64>> {
        self.inner.entities().all.get(id).map(|entity| entity.changes())
    }

    /// What the clock of rollouts will show then.
    pub fn at(&self, wall: Wall) -> Mono {
        self.inner.clock.at(wall)
    }

    /// Something is under way until this is dropped.
    pub fn begin(&self) -> Busy {
        Busy::new(&self.inner)
    }

    /// Decisions that wait for controllers are given up, also those that are yet to begin: nothing of them is kept but
    /// what was reported.
    pub fn give_up(&self) {
        self.inner.ends.send_replace(true);
    }

    /// Returns when nothing is under way any more: all that was asked before has been done, also what is decided
    /// later, and what others have stopped waiting for.
    pub async fn idle(&self) {
        // The sender is held here, so it does not end before.
        let _ = self.inner.busy.subscribe().wait_for(|busy| *busy == 0).await;
    }

    /// The clock is written down, so that the next daemon goes on from here. For an orderly end.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.inner.clock_written.store(self.inner.clock.now().0, Ordering::Relaxed);
        keep::write_clock(&self.inner.store, &self.inner.clock.kept()).await
    }
}
