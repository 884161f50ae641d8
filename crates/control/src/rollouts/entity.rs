//! One entity, and what is done about it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as Quick, OnceLock, PoisonError};

use tokio::sync::{Mutex, OwnedRwLockWriteGuard, RwLock, watch};
use upbeat_decide::rollout::{Rollout, Standings};
use upbeat_model::Mono;
use upbeat_model::rollout::{EntityId, RolloutState, Sample};
use upbeat_store::StoreError;

use super::aside::{Sorted, with_known_labels};
use super::deciding::Waiting;
use super::error::not_kept;
use super::keep::{self, Kept, NotKept, Place, Rest, Wrote};
use super::leaves::regrown;
use super::list::stand;
use super::outbox::Outbox;
use super::{Inner, Reported, RolloutError, Share, TARGETS_MAX, room, show, sweep};

/// So many calls wait to take down what was reported while others do. Each holds what it has to say, and who hangs up
/// leaves it to end.
const TAKING_MAX: usize = 256;

/// While nothing changes, what the clock shows is written down so often: so much of it a crash costs at most.
const CLOCK_EVERY_MS: u64 = 60_000;

/// A group of targets that have their version together.
pub(super) struct Entity {
    pub(super) id: EntityId,
    /// One decision at a time: its holder may ask controllers, while others look and change.
    pub(super) turn: Mutex<()>,
    /// So many decisions have begun. Only counted by who holds it, so that what was taken down before is known to
    /// one that begins after.
    pub(super) begun: AtomicU64,
    /// Which decision ended last, and what it came to: whoever waits for that, or for one before it, needs no other.
    pub(super) ended: Quick<(u64, Result<(), RolloutError>)>,
    pub(super) waiting: AtomicUsize,
    /// So many calls wait to take down what was reported.
    taking: AtomicUsize,
    /// When the first of its targets may be forgotten.
    pub(super) sweep_at: AtomicU64,
    /// The last decision that somebody wants and nobody waits for; 0: none.
    pub(super) due: AtomicU64,
    pub(super) held: Arc<RwLock<Held>>,
    changed: watch::Sender<u64>,
}

/// All that is known of an entity.
pub(super) struct Held {
    pub(super) rest: Rest,
    pub(super) rollout: Rollout,
    pub(super) place: Place,
    pub(super) outbox: Outbox,
    /// How its targets stand, from one change to the next.
    pub(super) standings: OnceLock<Standings>,
    /// It may be kept otherwise than it is here.
    pub(super) is_stale: bool,
    /// It was forgotten: another has its name, or nobody.
    pub(super) is_gone: bool,
}

pub(super) type Holding = OwnedRwLockWriteGuard<Held>;

impl Entity {
    /// One that nobody has named before.
    pub(super) fn new(id: EntityId, number: u64, now: Mono) -> Self {
        let rest = Rest { id, controllers: Default::default(), is_listeners: false };
        Self::of(rest, Rollout::default(), (Place::new(number), Outbox::default()), now)
    }

    pub(super) fn kept(kept: Kept, now: Mono) -> Self {
        let Kept { rest, rollout, place, outbox, at: _ } = kept;
        Self::of(rest, rollout, (place, outbox), now)
    }

    fn of(rest: Rest, mut rollout: Rollout, (place, outbox): (Place, Outbox), now: Mono) -> Self {
        rollout.recovered(now);
        let sweep_at = if rollout.targets.is_empty() { sweep::NEVER } else { sweep::gone_at(now) };
        let id = rest.id.clone();
        let standings = rollout.standings(now).into();
        let held = Held { rest, rollout, place, outbox, standings, is_stale: false, is_gone: false };
        Self {
            id,
            turn: Mutex::new(()),
            begun: AtomicU64::new(0),
            ended: Quick::new((0, Ok(()))),
            waiting: AtomicUsize::new(0),
            sweep_at: AtomicU64::new(sweep_at),
            due: AtomicU64::new(0),
            taking: AtomicUsize::new(0),
            held: Arc::new(RwLock::new(held)),
            changed: watch::channel(0).0,
        }
    }

    /// This decision is wanted; returns whether nobody is about to make one that was wanted so yet.
    pub(super) fn is_wanted(&self, decision: u64) -> bool {
        self.due.fetch_max(decision, Ordering::AcqRel) == 0
    }

    /// The first decision that counts what is taken down by now; for whoever holds it.
    fn next_decision(&self) -> u64 {
        self.begun.load(Ordering::Acquire) + 1
    }

    /// What this decision, or a later one, came to. `None`: it has not ended.
    pub(super) fn came_to(&self, decision: u64) -> Option<Result<(), RolloutError>> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        (ended.0 >= decision).then(|| ended.1.clone())
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

impl Held {
    /// About so many bytes in memory.
    pub(super) fn taken(&self) -> u64 {
        room::taken(self.place.weight().held, self.place.head_bytes()) + self.outbox.bytes()
    }
}

/// For whom an entity becomes larger, and about how much.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Growth {
    pub(super) share: Share,
    pub(super) bytes: u64,
}

impl Inner {
    fn not_stored(id: &EntityId) -> impl Fn(StoreError) -> RolloutError {
        move |source| RolloutError::Store { id: id.clone(), source }
    }

    /// To be changed. `None`: it was forgotten.
    pub(super) async fn hold(&self, entity: &Arc<Entity>) -> Result<Option<Holding>, RolloutError> {
        let mut held = entity.held.clone().write_owned().await;
        if held.is_gone {
            return Ok(None);
        }
        if held.is_stale {
            self.read_again(entity, &mut held).await.map_err(Self::not_stored(&entity.id))?;
        }
        Ok((!held.is_gone).then_some(held))
    }

    /// As it is kept. What was never kept is as if nobody had named it.
    async fn read_again(&self, entity: &Arc<Entity>, held: &mut Held) -> Result<(), StoreError> {
        // What readers see may be from before an error.
        self.store.settle().await?;
        let Some(kept) = held.place.read(&self.store).await? else {
            held.is_gone = true;
            self.drop_entity(entity);
            return Ok(());
        };
        self.agenda.set(&entity.id, kept.rollout.next_measure());
        let fresh = Entity::kept(kept, self.clock.now());
        // INVARIANT: it was made just now, and nobody else knows it.
        if let Some(fresh) = Arc::into_inner(fresh.held) {
            let before = std::mem::replace(held, fresh.into_inner());
            held.outbox.takes_the_place_of(&before.outbox);
            self.tell(&entity.id, held);
            self.weigh(held);
        }
        // It may look otherwise than it was told last.
        entity.changed.send_modify(|n| *n += 1);
        Ok(())
    }

    /// The one that has this name, to be changed; one that nobody has named before is made.
    async fn hold_named(&self, id: &EntityId) -> Result<(Arc<Entity>, Holding), RolloutError> {
        loop {
            let entity = self.entity(id)?;
            // One that was forgotten meanwhile is named no more: the next of its name is another.
            if let Some(held) = self.hold(&entity).await? {
                return Ok((entity, held));
            }
        }
    }

    /// What is so of it. `None`: it was forgotten.
    pub(super) async fn look<T>(
        &self,
        entity: &Arc<Entity>,
        look: impl FnOnce(&Held) -> T,
    ) -> Result<Option<T>, RolloutError> {
        {
            let held = entity.held.read().await;
            match (held.is_gone, held.is_stale) {
                (true, _) => return Ok(None),
                // Named, and not kept yet: as if nobody had named it.
                (false, false) => return Ok(held.place.is_kept().then(|| look(&held))),
                (false, true) => {}
            }
        }
        let held = self.hold(entity).await?;
        Ok(held.filter(|held| held.place.is_kept()).map(|held| look(&held)))
    }

    /// Writes what has changed.
    async fn write(&self, held: &mut Held, now: Mono) -> Result<Wrote, NotKept> {
        let touched = held.rollout.targets.take_touched();
        let (leaves, mut next) = held.place.take_leaves();
        let thought = self.think(held, 0, move |rollout| {
            let changed = regrown(&leaves, &rollout.targets, &touched, &mut next);
            (leaves, changed, next)
        });
        let (leaves, changed, next) = thought.await?;
        held.place.put_leaves(leaves);
        let Held { rest, rollout, place, outbox, .. } = held;
        let what = (&*rest, &*rollout, &*outbox);
        place.write(&self.store, what, (changed, next), now, self.failpoint).await
    }

    /// Keeps what has changed; after an error it is read again before anything is done about it.
    pub(super) async fn keep(&self, entity: &Arc<Entity>, held: &mut Held) -> Result<(), RolloutError> {
        let now = self.clock.now();
        let happened = held.rollout.take_happened();
        if self.events.is_some() {
            held.outbox.settle();
            held.outbox.add(happened, (self.wall)());
        }
        held.is_stale = true;
        let wrote = match self.write(held, now).await {
            Ok(wrote) => wrote,
            Err(error) => {
                // Known again at once where that is possible: a new one takes no place then.
                if let Err(error) = self.read_again(entity, held).await {
                    tracing::warn!(entity = %entity.id, %error, "what is kept of a rollout is not known");
                }
                return Err(not_kept(&entity.id, error));
            }
        };
        held.is_stale = false;
        let standings = self.think(held, 0, move |rollout| stand(rollout, now)).await?;
        held.standings = standings.into();
        if wrote != Wrote::Nothing {
            held.outbox.is_kept();
        }
        self.agenda.set(&entity.id, held.rollout.next_measure());
        self.tell(&entity.id, held);
        self.weigh(held);
        if !held.rollout.targets.is_empty() {
            self.has_targets(entity, now);
        }
        if wrote == Wrote::Changes {
            entity.changed.send_modify(|n| *n += 1);
        }
        self.keep_clock(now, wrote != Wrote::Nothing).await;
        Ok(())
    }

    /// So much room it takes.
    fn weigh(&self, held: &Held) {
        self.room.is(&held.rest.id, held.taken(), held.rest.is_listeners);
    }

    /// What happened is told once it is kept.
    fn tell(&self, id: &EntityId, held: &mut Held) {
        match &self.events {
            Some(events) => held.outbox.tell(id, events),
            None => held.outbox.told_to_nobody(),
        }
    }

    /// Heads say what the clock showed; while none is written, this does. That the wall has stepped stands only here.
    async fn keep_clock(&self, now: Mono, is_in_head: bool) {
        let before = self.clock_written.load(Ordering::Relaxed);
        let is_due = !is_in_head && now.0.saturating_sub(before) >= CLOCK_EVERY_MS;
        let order = Ordering::Relaxed;
        let is_mine = is_due && self.clock_written.compare_exchange(before, now.0, order, order).is_ok();
        let has_stepped = self.clock.has_stepped();
        if !is_mine && !has_stepped {
            return;
        }
        if let Err(error) = keep::write_clock(&self.store, &self.clock.kept()).await {
            if has_stepped {
                self.clock.step_is_not_kept();
            }
            // A target has to be well for some time more after a restart.
            tracing::warn!(%error, "what the clock of rollouts shows could not be stored");
        }
    }

    /// What is reported is taken down, and not kept yet. What known targets run and say always is; also returns why
    /// something else was not.
    ///
    /// Errors: there is no room, and nothing to be taken down without it.
    async fn take_down(
        &self,
        id: &EntityId,
        Reported { reports, room }: Reported,
        share: Share,
    ) -> Result<(Arc<Entity>, Holding, Option<RolloutError>), RolloutError> {
        let waits_for = self.entity(id)?;
        let waiting = Waiting::new(id, &waits_for.taking, TAKING_MAX)?;
        let (entity, mut held) = self.hold_named(id).await?;
        drop(waiting);
        let count = reports.len();
        let sorted = self.think(&mut held, count, move |rollout| Sorted::of(reports, rollout)).await?;
        let Sorted { known: mut taken, more, new, bytes } = sorted;
        let (mut labels, mut why) = (0, None);
        if more > 0
            && let Err(refused) = self.grow(&mut held, 0, Growth { share, bytes: more })
        {
            let relabelled = self.think(&mut held, count, move |rollout| with_known_labels(taken, rollout));
            ((taken, labels), why) = (relabelled.await?, Some(refused));
        }
        let mut left = 0;
        if !new.is_empty() || taken.is_empty() {
            match self.grow(&mut held, new.len(), Growth { share, bytes }) {
                Ok(()) => taken.extend(new),
                Err(refused) if taken.is_empty() => {
                    self.drop_unkept(&entity, &mut held);
                    return Err(refused);
                }
                Err(refused) => (left, why) = (new.len(), Some(refused)),
            }
        }
        let now = self.clock.now();
        self.think(&mut held, count, move |rollout| drop(rollout.report(taken, now))).await?;
        // It has its room here from now on.
        drop(room);
        let not_taken =
            why.map(|why| RolloutError::NotTaken { id: id.clone(), new: left, labels, why: Box::new(why) });
        Ok((entity, held, not_taken))
    }

    /// So many targets come to it. Errors: there is no room.
    pub(super) fn grow(&self, held: &mut Held, targets: usize, growth: Growth) -> Result<(), RolloutError> {
        let (id, count) = (&held.rest.id, held.rollout.targets.len() + targets);
        if count > TARGETS_MAX {
            return Err(RolloutError::TooManyTargets { id: id.clone(), count, max: TARGETS_MAX });
        }
        held.rest.is_listeners = self.room.take(id, growth.bytes, growth.share)?;
        Ok(())
    }

    /// What is reported is taken down and kept. Also returns the first decision that counts it.
    ///
    /// Errors: also that some of it was not taken; about the rest it is decided.
    pub(super) async fn report(
        self: &Arc<Self>,
        id: &EntityId,
        reported: Reported,
        share: Share,
    ) -> Result<(Arc<Entity>, u64), RolloutError> {
        let (entity, mut held, not_taken) = self.take_down(id, reported, share).await?;
        self.keep(&entity, &mut held).await?;
        let next = entity.next_decision();
        match not_taken {
            None => Ok((entity, next)),
            Some(not_taken) => {
                self.decide_later(entity, next);
                Err(not_taken)
            }
        }
    }

    /// What is reported is taken down, and it is decided. Where nobody has to be asked, both are kept at once.
    pub(super) async fn orchestrate(
        &self,
        id: &EntityId,
        reported: Reported,
        share: Share,
    ) -> Result<(), RolloutError> {
        let (entity, held, not_taken) = self.take_down(id, reported, share).await?;
        let decided = self.decide_with(&entity, held).await;
        match (decided, not_taken) {
            // What is kept was decided about; only the rest is to be said again.
            (Ok(()) | Err(RolloutError::Nothing(_)), Some(not_taken)) => Err(not_taken),
            (decided, _) => decided,
        }
    }

    /// What is held is kept, and it is decided.
    async fn decide_with(&self, entity: &Arc<Entity>, mut held: Holding) -> Result<(), RolloutError> {
        if let Ok(turn) = entity.turn.try_lock() {
            return self.decide_in_turn(entity, turn, Some(held)).await;
        }
        // Somebody asks controllers: what was reported is there for the decision that follows.
        self.keep(entity, &mut held).await?;
        let next = entity.next_decision();
        drop(held);
        self.decide(entity, next).await
    }

    /// Something about it is made otherwise, and kept; or nothing is.
    pub(super) async fn edit<T>(
        &self,
        id: &EntityId,
        growth: Growth,
        edit: impl FnOnce(&mut Held, Mono) -> Result<T, RolloutError>,
    ) -> Result<(RolloutState, T), RolloutError> {
        let (entity, mut held) = self.hold_named(id).await?;
        let grown = self.grow(&mut held, 0, growth);
        // Should this break off, it is read again.
        held.is_stale = true;
        let edited = grown.and_then(|()| edit(&mut held, self.clock.now()));
        held.is_stale = false;
        match edited {
            Ok(said) => {
                self.keep(&entity, &mut held).await?;
                Ok((show::rollout(&held, &self.clock), said))
            }
            Err(refused) => {
                self.weigh(&held);
                self.drop_unkept(&entity, &mut held);
                Err(refused)
            }
        }
    }

    /// One that was made for what was refused then is not left behind.
    pub(super) fn drop_unkept(&self, entity: &Arc<Entity>, held: &mut Held) {
        if !held.place.is_kept() {
            held.is_gone = true;
            self.drop_entity(entity);
        }
    }

    pub(super) async fn forget(&self, id: &EntityId) -> Result<(), RolloutError> {
        let none = || RolloutError::NoSuchEntity(id.clone());
        let entity = self.entities().all.get(id).cloned().ok_or_else(none)?;
        let mut held = self.hold(&entity).await?.ok_or_else(none)?;
        if let Some(unit) = self.units.claimant(id) {
            return Err(RolloutError::InUnit { id: id.clone(), unit });
        }
        held.is_stale = true;
        held.place.remove(&self.store).await.map_err(Self::not_stored(id))?;
        (held.is_stale, held.is_gone) = (false, true);
        self.drop_entity(&entity);
        self.agenda.set(id, None);
        Ok(())
    }

    /// What was measured is kept. Returns the first decision that counts it, where it counts for anything.
    pub(super) async fn keep_sample(
        &self,
        entity: &Arc<Entity>,
        number: u64,
        name: &str,
        sample: Sample,
    ) -> Result<Option<u64>, RolloutError> {
        let Some(mut held) = self.hold(entity).await? else { return Ok(None) };
        if !held.rollout.take_sample(number, name, sample, self.clock.now()) {
            return Ok(None);
        }
        self.keep(entity, &mut held).await?;
        Ok(Some(entity.next_decision()))
    }
}
