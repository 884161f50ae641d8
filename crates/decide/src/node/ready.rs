//! What an operation has to make ready before it may touch what runs, and what goes with the last that is in it.

use std::collections::{BTreeMap, BTreeSet};

use upbeat_model::ids::AppName;
use upbeat_model::target::{Goal, TargetSlot};
use upbeat_model::{OperationId, Reason, ServiceName, SlotId};

use super::{Entry, Node};
use crate::gate::{Verdict, stop_gate};
use crate::instance::{self, Readiness, Slot, Stage, networks};
use crate::rules::Bug;

/// What one operation has not made ready yet, and whether that has failed.
pub(super) type Unready = BTreeMap<(AppName, OperationId), BTreeMap<SlotId, bool>>;

/// Of many that are waited for, so many are named: a status is shown, kept and sent for each slot.
const NAMED: usize = 5;

/// It is not about to be removed: of two that are, the later one takes what both are in. One that shall be
/// there again after that needs them still.
fn uses_networks(entry: &Entry) -> bool {
    let shall_run = entry.wish.as_ref().is_some_and(|wish| wish.goal == Goal::Running);
    shall_run || !matches!(entry.slot.durable.stage, Stage::Gone | Stage::Removing)
}

impl Node {
    /// Takes down whether everything of a slot is there; those that wait for that look again.
    pub(super) fn note_readiness(&mut self, id: &SlotId, dirty: &mut BTreeSet<SlotId>) {
        let entry = self.entries.get(id);
        let now = entry.and_then(|entry| {
            let wish = entry.wish.as_ref()?;
            match instance::readiness(&entry.slot, wish) {
                Readiness::There => None,
                readiness => Some((wish.operation, readiness == Readiness::Failed)),
            }
        });
        let before = self.unready_of.get(id).copied();
        if now.is_none() && before.is_none() {
            return;
        }
        let of = |operation| (id.app.clone(), operation);
        let was = before.and_then(|operation| Some((operation, *self.unready.get(&of(operation))?.get(id)?)));
        if was == now {
            return;
        }
        if let Some(operation) = before
            && let Some(slots) = self.unready.get_mut(&of(operation))
        {
            slots.remove(id);
            if slots.is_empty() {
                self.unready.remove(&of(operation));
            }
        }
        match now {
            None => drop(self.unready_of.remove(id)),
            Some((operation, failed)) => {
                self.unready_of.insert(id.clone(), operation);
                self.unready.entry(of(operation)).or_default().insert(id.clone(), failed);
            }
        }
        let waiting: Vec<SlotId> =
            self.untouched.iter().filter(|other| other.app == id.app).cloned().collect();
        self.look_whether_touched(waiting, dirty);
    }

    /// These are to look anew whether they may be touched. Until they have, nobody takes them for what stays
    /// where it is: what they rest on would be stopped before them.
    pub(super) fn look_whether_touched(&mut self, waiting: Vec<SlotId>, dirty: &mut BTreeSet<SlotId>) {
        for id in waiting {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            entry.slot.untouched = None;
            if let (Some(wish), durable) = (entry.wish.clone(), entry.slot.durable.clone()) {
                self.forget_verdicts(&id, &wish, &durable);
            }
            dirty.extend(self.neighbours(&id));
            dirty.insert(id);
        }
    }

    /// What keeps the operation of this wish from touching what runs: what it has to make ready, and update locks.
    pub(super) fn untouched(&self, id: &SlotId, wish: &TargetSlot) -> Option<Verdict> {
        self.unready_for(id, wish).or_else(|| self.locked(id, wish))
    }

    /// What the operation of this wish has to make ready before it may touch what runs.
    pub(super) fn unready_for(&self, id: &SlotId, wish: &TargetSlot) -> Option<Verdict> {
        let slots = self.unready.get(&(id.app.clone(), wish.operation))?;
        // What has failed is named first: nothing else would be waited for.
        let others = || slots.iter().filter(|(other, _)| *other != id);
        let failed = others().any(|(_, failed)| *failed);
        let mut named = others().filter(|(_, it)| **it == failed).map(|(other, _)| other.clone());
        let slots: Vec<SlotId> = named.by_ref().take(NAMED).collect();
        let reason = Reason::NothingIsTouched { more: named.count(), failed, slots: slots.clone() };
        (!slots.is_empty()).then_some(Verdict::Wait(reason))
    }

    /// Networks of a slot that is to go, and that no other of its app is in.
    pub(super) fn last_in(&self, id: &SlotId, wish: &TargetSlot, made: &BTreeSet<String>) -> Vec<String> {
        let others = self.of_app(&id.app).filter(|(other, entry)| *other != id && uses_networks(entry));
        let in_use: BTreeSet<&str> =
            others.filter_map(|(_, entry)| entry.wish.as_ref()).flat_map(networks).collect();
        // One that shall be there again needs its own still, and those of an earlier file no more.
        let comes_back = wish.goal == Goal::Running;
        let own: BTreeSet<&str> = networks(wish).filter(|_| comes_back).collect();
        let takes = self.rules.has(Bug::TakeNetworks) && !comes_back;
        let goes = |name: &&str| takes || !(in_use.contains(name) || own.contains(name));
        if self.rules.has(Bug::LeaveNetworks) {
            return Vec::new();
        }
        let all: BTreeSet<&str> = networks(wish).chain(made.iter().map(String::as_str)).collect();
        all.into_iter().filter(goes).map(str::to_owned).collect()
    }

    /// It ran on until something was made, and does not any more: the last that was waited for is the one that
    /// is being decided about.
    pub(super) fn is_free_to_go(
        &self,
        copy: &SlotId,
        slot: &Slot,
        wish: &TargetSlot,
        (asks, readiness): (&SlotId, Readiness),
    ) -> bool {
        let waits_for_others = || {
            let unready = self.unready.get(&(copy.app.clone(), wish.operation));
            unready.is_some_and(|slots| slots.keys().any(|other| other != copy && other != asks))
        };
        !self.rules.has(Bug::ForgetWaiting)
            && slot.untouched.is_some()
            && self.locked(copy, wish).is_none()
            && readiness == Readiness::There
            && !waits_for_others()
    }

    /// What the dependents of a slot say to its stop.
    pub(super) fn stop_gate(&self, id: &SlotId, readiness: Readiness) -> Option<Reason> {
        let key = (id.app.clone(), id.service.clone());
        let dependents = self.dependents.get(&key)?;
        let waits = |copy: SlotId| self.untouched.contains(&copy);
        // Of one that runs on until something is made, it depends on who asks whether it goes.
        let is_shared = self.untouched.is_empty() || !self.copies_of(&id.app, dependents.iter()).any(waits);
        if let Some(known) = self.verdicts.borrow().stop.get(&key).filter(|_| is_shared) {
            return known.clone();
        }
        let holds = |dependent: &&ServiceName| {
            let edge = || (id.app.clone(), (*dependent).clone(), id.service.clone());
            self.loose.is_empty() || !self.loose.contains(&edge())
        };
        let copies = self.copies_of(&id.app, dependents.iter().filter(holds));
        let verdict = stop_gate(copies.filter_map(|copy| {
            let entry = self.entries.get(&copy)?;
            let wish = entry.wish.as_ref()?;
            // Of two copies one may rest on it and the other not: then that one's end is no news here.
            let mark = instance::mark(&entry.slot.durable);
            let rests = wish.spec.depends_on.contains_key(&id.service)
                || mark.is_some_and(|mark| mark.needs.contains(&id.service));
            rests.then(|| match self.is_free_to_go(&copy, &entry.slot, wish, (id, readiness)) {
                true => self.view(&copy, &Slot { untouched: None, ..entry.slot.clone() }, wish),
                false => self.view(&copy, &entry.slot, wish),
            })
        }));
        if is_shared {
            self.verdicts.borrow_mut().stop.insert(key, verdict.clone());
        }
        verdict
    }
}
