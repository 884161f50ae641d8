//! Units that survive: several entities that go forward and back as one.
//!
//! `rollouts/unit/<number>` holds a unit whole. What is decided of it is kept before it is asked of its members, and
//! it is decided anew after each decision about a member, after each change of the unit, and when a daemon opens
//! the store: so one that dies between two members goes on where it was (`decide::rollout::unit`).
//!
//! **Locks.** A unit's lock is taken first, and entities' under it, one at a time and each let go before the next.
//! Nobody who holds an entity takes a unit's lock: what a member must know of its unit, that there is one, stands in
//! the claims, whose lock nothing is awaited or taken under. Members are claimed before they are looked at, so
//! that whoever gives one another version by hand has done so before the unit sees it, or is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as Quick, MutexGuard as QuickGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};
use upbeat_decide::rollout::unit::{NextUnit, Seen, Unit, UnitChange};
use upbeat_decide::rollout::{Change, Rollout};
use upbeat_model::Mono;
use upbeat_model::rollout::{
    EntityId, MemberState, PastUnitState, Reason, UnitError, UnitMember, UnitState, UnitWord, in_order,
};
use upbeat_store::{Compare, Op, Store, StoreError, Txn};

use super::entity::Growth;
use super::{Inner, RolloutError};

/// So many units are remembered; of more, the one that was over first is forgotten.
pub const UNITS_MAX: usize = 1_000;

const UNITS: &str = "rollouts/unit/";

/// A decision leads to the next: each member begins, pauses or goes back once. More rounds than this are a bug, and
/// the next report goes on.
const ROUNDS_MAX: usize = 8 * upbeat_model::rollout::MEMBERS_MAX;

/// What is written of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptUnit {
    unit: Unit,
    /// What the clock showed when it was written.
    pub(super) at: Mono,
}

/// A unit, and where it is kept.
struct Held {
    unit: Option<Unit>,
    revision: Option<u64>,
    /// It may be kept otherwise than it is here.
    is_stale: bool,
    /// It was forgotten: another has its name, or nobody.
    is_gone: bool,
}

/// One name of a unit.
pub(super) struct UnitSlot {
    id: EntityId,
    key: String,
    /// Somebody is about to decide about it, and has not looked at its members yet.
    due: AtomicBool,
    held: Mutex<Held>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Known {
    all: BTreeMap<EntityId, Arc<UnitSlot>>,
    /// The unit of each member of one that runs.
    claims: BTreeMap<EntityId, EntityId>,
    next_number: u64,
}

/// All units of a daemon.
#[derive(Default)]
pub(super) struct Units(Quick<Known>);

/// What was kept of all units, by their keys.
pub(super) type AllUnits = Vec<(String, u64, KeptUnit)>;

/// Reads all there is.
pub(super) async fn load(store: &Store) -> Result<AllUnits, StoreError> {
    let mut all = Vec::new();
    for kv in store.all(UNITS).await? {
        all.push((kv.key.clone(), kv.mod_revision, parsed(&kv.key, &kv.value)?));
    }
    Ok(all)
}

fn parsed(key: &str, value: &[u8]) -> Result<KeptUnit, StoreError> {
    let unreadable =
        |error: serde_json::Error| StoreError::Unreadable { key: key.to_owned(), detail: error.to_string() };
    serde_json::from_slice(value).map_err(unreadable)
}

fn members(unit: &Unit) -> impl Iterator<Item = EntityId> {
    unit.members.iter().filter_map(|member| unit.entity(member))
}

/// Those that nobody else may give a version: while it goes back, those that had not begun never do.
fn claimed(unit: &Unit) -> impl Iterator<Item = EntityId> {
    let is_forward = unit.course == UnitWord::Forward;
    let those = unit.members.iter().filter(move |member| is_forward || member.has_begun);
    those.filter(|_| !unit.course.is_over()).filter_map(|member| unit.entity(member))
}

impl Units {
    pub(super) fn of(kept: AllUnits) -> Self {
        let mut known = Known::default();
        for (key, revision, KeptUnit { unit, .. }) in kept {
            let number = key.strip_prefix(UNITS).and_then(|number| number.parse().ok()).unwrap_or(0_u64);
            known.next_number = known.next_number.max(number + 1);
            known.claims.extend(claimed(&unit).map(|member| (member, unit.id.clone())));
            let id = unit.id.clone();
            let held = Held { unit: Some(unit), revision: Some(revision), is_stale: false, is_gone: false };
            known.all.insert(id.clone(), Arc::new(UnitSlot::new(id, key, held)));
        }
        Self(Quick::new(known))
    }

    /// The names of all, in order, behind this one.
    pub(super) fn names(&self, after: Option<&EntityId>) -> Vec<EntityId> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.known().all.range((from, Bound::Unbounded)).map(|(id, _)| id.clone()).collect()
    }

    fn known(&self) -> QuickGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The unit that runs and has this member.
    pub(super) fn claimant(&self, id: &EntityId) -> Option<EntityId> {
        self.known().claims.get(id).cloned()
    }

    fn slot(&self, id: &EntityId) -> Option<Arc<UnitSlot>> {
        self.known().all.get(id).cloned()
    }

    /// Refuses what would give a member of a unit that runs another version.
    pub(super) fn check(
        &self,
        id: &EntityId,
        rollout: &Rollout,
        change: &Change,
    ) -> Result<(), RolloutError> {
        let is_other = match change {
            // To say again what was said is no news.
            Change::SetVersion(version) => rollout.target.as_ref() != Some(version),
            Change::ForceVersion(_) | Change::Undo { .. } | Change::Retry | Change::Withdraw { .. } => true,
            _ => false,
        };
        match self.claimant(id).filter(|_| is_other) {
            Some(unit) => Err(RolloutError::InUnit { id: id.clone(), unit }),
            None => Ok(()),
        }
    }

    /// These are the unit's from now on: all, or none.
    fn claim(&self, unit: &EntityId, wanted: &[EntityId]) -> Result<(), RolloutError> {
        let mut known = self.known();
        for id in wanted {
            if let Some(other) = known.claims.get(id).filter(|other| *other != unit) {
                return Err(RolloutError::InUnit { id: id.clone(), unit: other.clone() });
            }
        }
        known.claims.extend(wanted.iter().map(|id| (id.clone(), unit.clone())));
        Ok(())
    }

    fn release(&self, unit: &EntityId) {
        self.release_but(unit, &BTreeSet::new());
    }

    /// All but these.
    fn release_but(&self, unit: &EntityId, kept: &BTreeSet<EntityId>) {
        self.known().claims.retain(|id, claimant| claimant != unit || kept.contains(id));
    }
}

impl UnitSlot {
    fn new(id: EntityId, key: String, held: Held) -> Self {
        Self { id, key, due: AtomicBool::new(false), held: Mutex::new(held), changed: watch::channel(0).0 }
    }
}

impl Inner {
    fn unit_not_stored(id: &EntityId) -> impl Fn(StoreError) -> RolloutError {
        move |source| RolloutError::UnitStore { id: id.clone(), source }
    }

    async fn hold_unit<'a>(
        &self,
        slot: &'a UnitSlot,
    ) -> Result<tokio::sync::MutexGuard<'a, Held>, RolloutError> {
        let mut held = slot.held.lock().await;
        if held.is_stale {
            let not_stored = Self::unit_not_stored(&slot.id);
            // What readers see may be from before an error.
            self.store.settle().await.map_err(&not_stored)?;
            let kept = self.store.get(&slot.key).await.map_err(&not_stored)?;
            (held.unit, held.revision) = match kept {
                Some(kv) => {
                    let KeptUnit { unit, .. } = parsed(&slot.key, &kv.value).map_err(&not_stored)?;
                    (Some(unit), Some(kv.mod_revision))
                }
                None => (None, None),
            };
            held.is_stale = false;
            slot.changed.send_modify(|n| *n += 1);
            // While that was not known, its members stayed claimed.
            let kept = held.unit.iter().flat_map(claimed).collect();
            self.units.release_but(&slot.id, &kept);
        }
        Ok(held)
    }

    /// After an error it is read again before anything is done about it.
    async fn keep_unit(&self, slot: &UnitSlot, held: &mut Held, unit: Unit) -> Result<(), RolloutError> {
        let not_stored = Self::unit_not_stored(&slot.id);
        let kept = KeptUnit { unit, at: self.clock.now() };
        let value = serde_json::to_vec(&kept).map_err(|error| {
            not_stored(StoreError::Unreadable { key: slot.key.clone(), detail: error.to_string() })
        })?;
        let compare = match held.revision {
            Some(revision) => Compare::ModRevision(slot.key.clone(), revision),
            None => Compare::Absent(slot.key.clone()),
        };
        let success = vec![Op::put(&slot.key, value)];
        held.is_stale = true;
        let txn = Txn { compare: vec![compare], success, failure: Vec::new() };
        let outcome = self.store.txn(txn).await.map_err(&not_stored)?;
        if !outcome.succeeded {
            return Err(not_stored(StoreError::Conflict(slot.key.clone())));
        }
        self.units.release_but(&slot.id, &claimed(&kept.unit).collect());
        (held.unit, held.revision, held.is_stale) = (Some(kept.unit), Some(outcome.revision), false);
        slot.changed.send_modify(|n| *n += 1);
        (self.failpoint)("unit_kept");
        Ok(())
    }

    /// What is so of a member, and what is known against a version of it.
    async fn seen(&self, id: &EntityId, asked: &UnitMember) -> Result<(Seen, Option<Reason>), RolloutError> {
        let now = self.clock.now();
        let look = |held: &super::entity::Held| {
            let (rollout, counts) = (&held.rollout, held.standings(now).counts(now));
            let bad = rollout.is_known_bad(&asked.version, now).map(|bad| bad.reason.clone());
            (Seen::by(rollout, counts), bad)
        };
        let entity = self.entities().all.get(id).cloned();
        let seen = match entity {
            Some(entity) => self.look(&entity, look).await?,
            None => None,
        };
        // Nobody has named it: as one that nothing was asked of.
        Ok(seen.unwrap_or_else(|| (Seen::of(&Rollout::default(), now), None)))
    }

    async fn all_seen(&self, unit: &Unit) -> Result<Vec<Seen>, RolloutError> {
        let mut all = Vec::new();
        for member in &unit.members {
            let id = unit.entity(member).ok_or_else(|| RolloutError::NoSuchEntity(unit.id.clone()))?;
            all.push(self.seen(&id, &member.asked).await?.0);
        }
        Ok(all)
    }

    /// A decision was made about an entity: its unit, if it is in one, goes on.
    pub(super) async fn unit_goes_on(&self, member: &EntityId) {
        let Some(slot) = self.units.claimant(member).and_then(|unit| self.units.slot(&unit)) else { return };
        // Whoever is about to look sees this, too.
        if slot.due.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Err(error) = self.drive(&slot).await {
            // The next decision about a member asks again.
            tracing::warn!(unit = %slot.id, %error, "a unit could not go on");
        }
    }

    /// Each that runs goes on, with what the last daemon left.
    pub(super) async fn units_go_on(&self) {
        let slots: Vec<Arc<UnitSlot>> = self.units.known().all.values().cloned().collect();
        for slot in slots {
            if let Err(error) = self.drive(&slot).await {
                tracing::warn!(unit = %slot.id, %error, "a unit could not go on");
            }
        }
    }

    async fn drive(&self, slot: &UnitSlot) -> Result<(), RolloutError> {
        let held = self.hold_unit(slot).await;
        // Also where it cannot be read now: the next decision about a member has another try.
        slot.due.store(false, Ordering::Release);
        let mut held = held?;
        self.drive_held(slot, &mut held).await
    }

    /// What is decided is kept, then asked, then looked at again, until there is nothing to do.
    async fn drive_held(&self, slot: &UnitSlot, held: &mut Held) -> Result<(), RolloutError> {
        for _ in 0..ROUNDS_MAX {
            let Some(unit) = held.unit.clone().filter(|unit| !unit.course.is_over()) else { return Ok(()) };
            let seen = self.all_seen(&unit).await?;
            let NextUnit { unit: mut next, asks } = unit.decide(&seen, self.clock.now());
            if next == unit && asks.is_empty() {
                return Ok(());
            }
            if next != unit {
                self.keep_unit(slot, held, next.clone()).await?;
            }
            for ask in asks {
                let Some(id) = next.members.get(ask.member).and_then(|member| next.entity(member)) else {
                    continue;
                };
                let takes_version = matches!(ask.change, Change::SetVersion(_) | Change::Retry);
                let by = next.name();
                let asked = self
                    .edit(&id, Growth::default(), |held, now| {
                        Ok(held.rollout.change_by(ask.change, Some(&by), now)?)
                    })
                    .await;
                match asked {
                    Ok(_) => (self.failpoint)("unit_member_asked"),
                    Err(RolloutError::Refused(refused)) if takes_version => {
                        next.refused(ask.member, refused.to_string());
                        self.keep_unit(slot, held, next.clone()).await?;
                        break;
                    }
                    // It came further meanwhile: it is looked at again with the next decision about it.
                    Err(RolloutError::Refused(_)) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        }
        tracing::error!(unit = %slot.id, "a bug in Upbeat: a unit does not come to rest");
        Ok(())
    }

    /// The slot of this name; one that nobody has named before is made.
    async fn named_unit(&self, id: &EntityId) -> Result<Arc<UnitSlot>, RolloutError> {
        if let Some(slot) = self.units.slot(id) {
            return Ok(slot);
        }
        let is_full = self.units.known().all.len() >= UNITS_MAX;
        if is_full && !self.forget_oldest_unit().await? {
            return Err(RolloutError::TooManyUnits { max: UNITS_MAX });
        }
        let mut known = self.units.known();
        let key = format!("{UNITS}{:010}", known.next_number);
        known.next_number += 1;
        let held = Held { unit: None, revision: None, is_stale: false, is_gone: false };
        let slot = Arc::new(UnitSlot::new(id.clone(), key, held));
        Ok(known.all.entry(id.clone()).or_insert(slot).clone())
    }

    /// Nothing is kept of it, and nobody finds it.
    fn drop_unit(&self, slot: &UnitSlot, held: &mut Held) {
        held.is_gone = true;
        self.units.known().all.remove(&slot.id);
        slot.changed.send_modify(|n| *n += 1);
    }

    /// Of those that are over the first. Returns whether there was one.
    async fn forget_oldest_unit(&self) -> Result<bool, RolloutError> {
        let slots: Vec<Arc<UnitSlot>> = self.units.known().all.values().cloned().collect();
        let mut oldest: Option<(Mono, Arc<UnitSlot>)> = None;
        for slot in slots {
            let held = self.hold_unit(&slot).await?;
            let Some(ended) = held.unit.as_ref().and_then(|unit| unit.ended) else { continue };
            drop(held);
            if oldest.as_ref().is_none_or(|(first, _)| ended < *first) {
                oldest = Some((ended, slot));
            }
        }
        let Some((_, slot)) = oldest else { return Ok(false) };
        let mut held = self.hold_unit(&slot).await?;
        if held.unit.as_ref().is_none_or(|unit| !unit.course.is_over()) {
            // Somebody was quicker.
            return Ok(false);
        }
        self.remove_unit(&slot, &mut held).await?;
        Ok(true)
    }

    async fn remove_unit(&self, slot: &UnitSlot, held: &mut Held) -> Result<(), RolloutError> {
        held.is_stale = true;
        let gone = self.store.write(vec![Op::delete(&slot.key)]).await;
        gone.map_err(Self::unit_not_stored(&slot.id))?;
        (held.unit, held.revision, held.is_stale) = (None, None, false);
        self.units.release(&slot.id);
        self.drop_unit(slot, held);
        Ok(())
    }

    /// Its members stay where they are, and each goes its own way from then on.
    pub(super) async fn forget_unit(&self, id: &EntityId) -> Result<(), RolloutError> {
        let none = || RolloutError::NoSuchUnit(id.clone());
        let slot = self.units.slot(id).ok_or_else(none)?;
        let mut held = self.hold_unit(&slot).await?;
        if held.unit.is_none() {
            return Err(none());
        }
        self.remove_unit(&slot, &mut held).await
    }

    pub(super) async fn start_unit(
        &self,
        id: EntityId,
        asked: Vec<UnitMember>,
        by: String,
    ) -> Result<UnitState, RolloutError> {
        let refused = |error: UnitError| RolloutError::Unit(error.into());
        let asked = in_order(id.namespace(), asked).map_err(refused)?;
        let slot = self.named_unit(&id).await?;
        let mut held = self.hold_unit(&slot).await?;
        if held.is_gone {
            return Err(RolloutError::UnitBusy(id));
        }
        if let Some(runs) = held.unit.clone().filter(|unit| !unit.course.is_over()) {
            // Asked for twice it is the same one.
            if runs.is_of(&asked) {
                return self.unit_shown(&runs).await;
            }
            return Err(RolloutError::Unit(upbeat_decide::rollout::unit::UnitRefused::Runs(id)));
        }
        let wanted: Vec<EntityId> =
            asked.iter().filter_map(|member| EntityId::new(id.namespace(), &member.entity).ok()).collect();
        let began = match self.units.claim(&id, &wanted) {
            Ok(()) => self.begin_unit(&slot, &mut held, &wanted, asked, by).await,
            Err(claimed) => Err(claimed),
        };
        if let Err(error) = began {
            // What may be kept all the same stays claimed until it is read.
            if !held.is_stale {
                self.units.release(&id);
                if held.unit.is_none() {
                    self.drop_unit(&slot, &mut held);
                }
            }
            return Err(error);
        }
        self.drive_or_later(&slot, &mut held).await;
        self.held_shown(&slot, &held).await
    }

    async fn begin_unit(
        &self,
        slot: &UnitSlot,
        held: &mut Held,
        wanted: &[EntityId],
        asked: Vec<UnitMember>,
        by: String,
    ) -> Result<(), RolloutError> {
        let mut seen = BTreeMap::new();
        for (id, member) in wanted.iter().zip(&asked) {
            seen.insert(member.entity.clone(), self.seen(id, member).await?);
        }
        let now = self.clock.now();
        let nothing = || (Seen::of(&Rollout::default(), now), None);
        let look = |member: &UnitMember| seen.get(&member.entity).cloned().unwrap_or_else(nothing);
        let unit = Unit::begin(slot.id.clone(), asked, by, held.unit.as_ref(), look, now)?;
        self.keep_unit(slot, held, unit).await
    }

    /// What was asked is kept; should a member not be reached now, it is asked with the next decision about one.
    async fn drive_or_later(&self, slot: &UnitSlot, held: &mut Held) {
        if let Err(error) = self.drive_held(slot, held).await {
            tracing::warn!(unit = %slot.id, %error, "a unit could not go on");
        }
    }

    pub(super) async fn change_unit(
        &self,
        id: EntityId,
        change: UnitChange,
    ) -> Result<UnitState, RolloutError> {
        let none = || RolloutError::NoSuchUnit(id.clone());
        let slot = self.units.slot(&id).ok_or_else(none)?;
        let mut held = self.hold_unit(&slot).await?;
        let mut unit = held.unit.clone().ok_or_else(none)?;
        unit.change(change)?;
        self.keep_unit(&slot, &mut held, unit).await?;
        self.drive_or_later(&slot, &mut held).await;
        self.held_shown(&slot, &held).await
    }

    async fn held_shown(&self, slot: &UnitSlot, held: &Held) -> Result<UnitState, RolloutError> {
        let unit = held.unit.as_ref().ok_or_else(|| RolloutError::NoSuchUnit(slot.id.clone()))?;
        self.unit_shown(unit).await
    }

    async fn unit_shown(&self, unit: &Unit) -> Result<UnitState, RolloutError> {
        let seen = self.all_seen(unit).await?;
        let words = unit.words(&seen);
        let member =
            |((member, seen), word): ((&upbeat_decide::rollout::unit::Member, &Seen), _)| MemberState {
                member: member.asked.clone(),
                before: member.before.good.clone(),
                state: word,
                counts: seen.counts,
            };
        let history = unit.history.iter().rev().map(|past| PastUnitState {
            number: past.number,
            began: self.clock.wall(past.began),
            ended: self.clock.wall(past.ended),
            outcome: past.outcome,
            why: past.why.clone(),
        });
        Ok(UnitState {
            namespace: unit.id.namespace().to_owned(),
            unit: unit.id.entity().to_owned(),
            number: unit.number,
            course: unit.course,
            by: unit.by.clone(),
            began: self.clock.wall(unit.began),
            ended: unit.ended.map(|ended| self.clock.wall(ended)),
            why: unit.why.clone(),
            paused_by: unit.paused_by.clone(),
            promoted_by: unit.promoted_by.clone(),
            members: unit.members.iter().zip(&seen).zip(words).map(member).collect(),
            history: history.collect(),
        })
    }

    /// Wakes when a unit has changed, and when one of its members has; in the state that is read after this was called
    /// all is that wakes nobody. `None`: nobody has named it.
    pub(super) async fn unit_changes(&self, id: &EntityId) -> Option<Vec<watch::Receiver<u64>>> {
        let slot = self.units.slot(id)?;
        let mut changes = vec![slot.changed.subscribe()];
        let members: Vec<EntityId> = slot.held.lock().await.unit.iter().flat_map(members).collect();
        let entities = self.entities();
        changes.extend(members.iter().filter_map(|id| Some(entities.all.get(id)?.changes())));
        Some(changes)
    }

    /// Where a unit is. `None`: nobody has named it.
    pub(super) async fn unit(&self, id: &EntityId) -> Result<Option<UnitState>, RolloutError> {
        let Some(slot) = self.units.slot(id) else { return Ok(None) };
        let unit = self.hold_unit(&slot).await?.unit.clone();
        match unit {
            Some(unit) => self.unit_shown(&unit).await.map(Some),
            None => Ok(None),
        }
    }
}
