//! Rollouts that survive: entities, their targets, and one call after the other about each.
//!
//! A call is: what is reported is taken down; it is decided, which may ask an entity's controllers; what was
//! decided is kept, and only then told. Laws:
//! * Of one entity one thing is decided at a time; what is asked meanwhile is taken down at once, and counts
//!   for the decision. So no answer is lost, and a pause does not wait for a controller that does not answer.
//! * Nobody is told of an assignment that is not kept.
//! * What the store could not tell of is read again before anything else is said of that entity.
//! * Whoever goes away in the midst of a call leaves it to end.
//! * About many targets nobody thinks where requests are answered (`aside`).

mod aside;
mod ask;
mod clock;
mod deciding;
mod entity;
mod error;
mod keep;
mod leaves;
mod list;
mod measuring;
#[cfg(test)]
mod measuring_tests;
mod outbox;
mod room;
mod show;
mod sweep;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod unit_tests;
mod units;
mod watching;

use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::{Notify, watch};
pub use upbeat_decide::rollout::unit::{UnitChange, UnitRefused};
pub use upbeat_decide::rollout::{Answer, Asks, Change, NewTarget, Nothing, Refused};
use upbeat_model::rollout::{
    Caution, ControllerError, Controllers, EntityId, Options, PastState, Report, RolloutState, TargetId,
    TargetState, UnitMember, UnitState,
};
use upbeat_model::{Mono, Wall};
use upbeat_store::{Store, StoreError};

use crate::events::EventLog;
use aside::Aside;
pub use ask::{Answering, Asked, Asker, Measuring, Trying};
use clock::Clock;
use entity::{Entity, Growth};
pub use error::RolloutError;
use measuring::Agenda;
pub use room::{HELD_BYTES_MAX, LISTENER_SHARE, Share};
use room::{Limits, Room};
pub use show::{Foreseen, RolloutNumbers};
pub use units::UNITS_MAX;
use units::Units;
pub use watching::UnitWatch;

/// More entities than anybody has apps. Each is held in memory.
pub const ENTITIES_MAX: usize = 10_000;

/// Of one entity. The list of the leaves of more would not fit into one value of the store.
pub const TARGETS_MAX: usize = 250_000;

/// What is asked for has so many bytes at most where it is kept: a strategy is kept twice, also with what is on its
/// way in its stages, and both fit into one value of the store with all that is remembered beside them.
pub const STRATEGY_BYTES_MAX: usize = upbeat_store::VALUE_MAX / 8;

/// And so many have all the controllers of an entity, of which some may be long commands.
const CONTROLLERS_BYTES_MAX: usize = upbeat_store::VALUE_MAX / 16 * 3;

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
    share: Share,
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
    agenda: Arc<Agenda>,
    room: Room,
    aside: Aside,
    /// Nobody has targets that may be forgotten, as far as whoever forgets them knows.
    sweeper_sleeps: AtomicBool,
    sweeper_woken: Arc<Notify>,
    /// It is looked who may be forgotten from then on.
    sweep_from: AtomicU64,
    /// When the clock was written last, by itself.
    clock_written: AtomicU64,
    /// Controllers are not waited for any more.
    ends: watch::Sender<bool>,
    /// So many tasks are about something.
    busy: watch::Sender<usize>,
}

/// What is reported, and the room that it takes elsewhere for as long as it waits to be taken down: also where nobody
/// waits for that any more.
pub struct Reported {
    /// Of each target once.
    pub reports: Vec<Report>,
    /// Dropped when they are taken down.
    pub room: Box<dyn Any + Send>,
}

impl From<Vec<Report>> for Reported {
    fn from(reports: Vec<Report>) -> Self {
        Self { reports, room: Box::new(()) }
    }
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
        let max = self.room.entities_max();
        if entities.all.len() >= max {
            return Err(RolloutError::TooManyEntities { max });
        }
        let entity = Arc::new(Entity::new(id.clone(), entities.next_number, self.clock.now()));
        entities.next_number += 1;
        entities.all.insert(id.clone(), entity.clone());
        Ok(entity)
    }

    /// It is decided about what is new, unless somebody is about to.
    fn decide_later(self: &Arc<Self>, entity: Arc<Entity>, decision: u64) {
        if !entity.is_wanted(decision) {
            return;
        }
        let (busy, inner) = (Busy::new(self), self.clone());
        tokio::spawn(async move {
            if let Err(error) = inner.decide_wanted(&entity).await {
                tracing::info!(entity = %entity.id, %error, "nothing was decided about what was reported");
            }
            inner.unit_goes_on(&entity.id).await;
            drop((inner, entity));
            drop(busy);
        });
    }

    /// This very one is not there any more.
    fn drop_entity(&self, entity: &Arc<Entity>) {
        let mut entities = self.entities();
        if entities.all.get(&entity.id).is_some_and(|known| Arc::ptr_eq(known, entity)) {
            entities.all.remove(&entity.id);
            self.room.gone(&entity.id);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Whoever measures, and whoever forgets, find out that there is nothing any more.
        self.agenda.wake();
        self.sweeper_woken.notify_one();
    }
}

/// So many bytes has what is asked for, where it is kept. Errors: that is more than there may be.
fn fits(id: &EntityId, field: &'static str, asked: &impl Serialize, max: usize) -> Result<u64, RolloutError> {
    let size = serde_json::to_vec(asked).map(|json| json.len());
    match size.map_err(|error| RolloutError::Failed(error.to_string()))? {
        size if size > max => Err(RolloutError::Large { id: id.clone(), field, size, max }),
        size => Ok(size as u64),
    }
}

impl Rollouts {
    /// Reads what was kept.
    ///
    /// Errors: it cannot be read.
    pub async fn open(store: Store, settings: Settings) -> Result<Self, StoreError> {
        Self::open_within(store, settings, Limits::default()).await
    }

    async fn open_within(store: Store, settings: Settings, limits: Limits) -> Result<Self, StoreError> {
        let keep::All { entities: mut kept, clock, next_number } = keep::load(&store).await?;
        let outboxes = kept.iter_mut().map(|kept| (&kept.rest.id, &mut kept.outbox));
        match &settings.events {
            Some(events) => outbox::go_on(outboxes, events).await,
            None => outboxes.for_each(|(_, outbox)| outbox.told_to_nobody()),
        }
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
        let agenda = Arc::new(Agenda::default());
        let room = Room::new(limits);
        let all = kept.into_iter().map(|kept| {
            agenda.set(&kept.rest.id, kept.rollout.next_measure());
            let taken = room::taken(kept.place.weight().held, kept.place.head_bytes()) + kept.outbox.bytes();
            room.is(&kept.rest.id, taken, kept.rest.is_listeners);
            let entity = Entity::kept(kept, now);
            (entity.id.clone(), Arc::new(entity))
        });
        let all: BTreeMap<EntityId, Arc<Entity>> = all.collect();
        let inner = Inner {
            entities: Mutex::new(Entities { all, next_number }),
            units: Units::of(units),
            agenda: agenda.clone(),
            room,
            aside: Aside::default(),
            sweeper_sleeps: AtomicBool::new(false),
            sweeper_woken: Arc::default(),
            sweep_from: AtomicU64::new(0),
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
        let inner = Arc::new(inner);
        agenda.begin(&inner);
        Ok(Self { inner, share: Share::Whole })
    }

    /// The same, for somebody who has this share of the room.
    #[must_use]
    pub fn with_share(&self, share: Share) -> Self {
        Self { inner: self.inner.clone(), share }
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
    pub async fn decide(&self, id: EntityId, reports: impl Into<Reported>) -> Result<(), RolloutError> {
        let (share, reported) = (self.share, reports.into());
        self.run(|inner| async move {
            let decided = inner.orchestrate(&id, reported, share).await;
            inner.unit_goes_on(&id).await;
            decided
        })
        .await
    }

    /// Where an entity is, and all its targets, as it was decided last.
    ///
    /// Errors: nobody has named it; what is kept cannot be read.
    pub async fn assigned(&self, id: &EntityId) -> Result<(RolloutState, Vec<TargetState>), RolloutError> {
        let assigned = self.look_through(id, |Inner { clock, .. }, held| {
            let targets = held.rollout.targets.iter();
            let targets = targets.map(|(id, target)| show::target(id, target, clock)).collect();
            (show::rollout(held, clock), targets)
        });
        assigned.await?.ok_or_else(|| RolloutError::NoSuchEntity(id.clone()))
    }

    /// What can be said of an answer about all targets of an entity before it is decided.
    ///
    /// Errors: what is kept cannot be read.
    pub async fn foreseen(&self, id: &EntityId) -> Result<Foreseen, RolloutError> {
        let asker = &self.inner.asker;
        let foreseen = self.look(id, |held| Foreseen {
            bytes: (held.place.weight().kept + held.place.head_bytes()) as u64,
            asks: asker.asks(id, &held.rest.controllers) != Asks::default(),
        });
        Ok(foreseen.await?.unwrap_or_default())
    }

    /// As [`Rollouts::decide`], but it is decided later. What was reported is kept when this answers.
    ///
    /// Errors: it could not be kept.
    pub async fn orchestrate_later(
        &self,
        id: EntityId,
        reports: impl Into<Reported>,
    ) -> Result<(), RolloutError> {
        let (share, reported) = (self.share, reports.into());
        if reported.reports.is_empty() && !self.inner.entities().all.contains_key(&id) {
            // Nobody said anything of it yet.
            return Ok(());
        }
        self.run(|inner| async move {
            let (entity, next) = inner.report(&id, reported, share).await?;
            inner.decide_later(entity, next);
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
        let mut growth = Growth { share: self.share, bytes: 0 };
        for change in &changes {
            // What cannot be is told by its field first.
            if let Change::SetStrategy(Some(strategy)) = change
                && strategy.check(&Options::default()).is_ok()
            {
                growth.bytes += fits(&id, "strategy", strategy, STRATEGY_BYTES_MAX)?;
            }
        }
        self.run(|inner| async move {
            let edited = inner.edit(&id, growth, |held, now| {
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

    /// Nothing is known of a unit any more, wherever it is: its members stay where they are, and each goes its own way.
    ///
    /// Errors: there is none of that name; it could not be removed.
    pub async fn forget_unit(&self, id: EntityId) -> Result<(), RolloutError> {
        self.run(|inner| async move { inner.forget_unit(&id).await }).await
    }

    /// Where a unit is. `None`: nobody has named it.
    pub async fn unit(&self, id: &EntityId) -> Result<Option<UnitState>, RolloutError> {
        self.inner.unit(id).await
    }

    /// Others are asked from now on.
    ///
    /// Errors: they cannot be, or it could not be kept; nothing has changed.
    pub async fn edit_controllers(
        &self,
        id: EntityId,
        edit: impl FnOnce(&mut Controllers) -> Result<(), ControllerError> + Send + 'static,
    ) -> Result<RolloutState, RolloutError> {
        let growth = Growth { share: self.share, bytes: 0 };
        let edited = self.run(|inner| async move {
            let edit = |held: &mut entity::Held, _| {
                // It is as before where this does not fit.
                let mut controllers = held.rest.controllers.clone();
                edit(&mut controllers)?;
                fits(&id, "controllers", &controllers, CONTROLLERS_BYTES_MAX)?;
                held.rest.controllers = controllers;
                Ok(())
            };
            inner.edit(&id, growth, edit).await
        });
        edited.await.map(|(state, ())| state)
    }

    /// Nothing is known of an entity any more.
    ///
    /// Errors: there is none of that name; it could not be removed.
    pub async fn forget(&self, id: EntityId) -> Result<(), RolloutError> {
        self.run(|inner| async move { inner.forget(&id).await }).await
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

    /// The same, where that is of all its targets.
    async fn look_through<T: Send + 'static>(
        &self,
        id: &EntityId,
        look: impl FnOnce(&Inner, &entity::Held) -> T + Send + 'static,
    ) -> Result<Option<T>, RolloutError> {
        let entity = self.inner.entities().all.get(id).cloned();
        match entity {
            Some(entity) => self.inner.look_through(&entity, look).await,
            None => Ok(None),
        }
    }

    fn shown(inner: &Inner, held: &entity::Held) -> RolloutState {
        show::rollout(held, &inner.clock)
    }

    /// Where an entity is. `None`: nobody has named it.
    pub async fn rollout(&self, id: &EntityId) -> Result<Option<RolloutState>, RolloutError> {
        self.look_through(id, Self::shown).await
    }

    /// Its targets, in the order of their groups and names, of one group or of all.
    pub async fn targets(
        &self,
        id: &EntityId,
        group: Option<&str>,
    ) -> Result<Vec<TargetState>, RolloutError> {
        let group = group.map(str::to_owned);
        let targets = self.look_through(id, move |Inner { clock, .. }, held| {
            let is_in = |id: &TargetId| group.as_ref().is_none_or(|group| id.group == *group);
            let wanted = held.rollout.targets.iter().filter(|(id, _)| is_in(id));
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

    /// Forgets targets that nobody reports any more, also of entities of which nobody says anything, for as long as
    /// the entities are there. To be run on a task of its own; it sleeps while nobody may be forgotten.
    pub fn sweeps(&self) -> impl Future<Output = ()> + Send + use<> {
        sweep::sweeps(Arc::downgrade(&self.inner), self.inner.sweeper_woken.clone())
    }

    /// The same once, for who has no such task: does nothing where it was done less than a minute ago.
    pub async fn sweep(&self) {
        self.inner.clone().sweep().await;
    }

    /// Whether [`Rollouts::sweep`] may do something.
    pub fn is_time_to_sweep(&self) -> bool {
        self.inner.is_time_to_sweep()
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

    /// Nothing is measured any more, and the clock is written down, so that the next daemon goes on from here. For
    /// an orderly end.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.inner.agenda.end().await;
        // What was measured just before is taken down.
        self.idle().await;
        self.inner.clock_written.store(self.inner.clock.now().0, Ordering::Relaxed);
        keep::write_clock(&self.inner.store, &self.inner.clock.kept()).await
    }
}
