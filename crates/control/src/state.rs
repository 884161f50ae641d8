//! What control knows, and what a command or a piece of news makes of it. Pure: nothing is kept or
//! told from here.
//!
//! A slot that shall go is dropped from its app in three steps, each of which can be repeated:
//! *seen absent* by an agent, under the operation that asked for it; *parting*, when the last slot of
//! that operation was; *forgotten*, when the app is kept without them. So an app of ten thousand
//! slots is written once on its way out, and the operation has ended only when nothing is left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use upbeat_decide::instance::Mark;
use upbeat_decide::{Change as SlotChange, planner};
use upbeat_model::project::{Condition, RestartPolicy};
use upbeat_model::target::{Goal, Target, TargetSlot};
use upbeat_model::{
    AppName, AppSummary, Attempt, IdempotencyKey, Mono, OperationId, Phase, ServiceName, SlotId, SlotStart,
    SlotStatus, Starts, Timeline, Wall, Wish,
};

use crate::halt::{Copy, Seen};
use crate::record::{AppRecord, OperationRecord, SlotRecord};

#[cfg(test)]
mod tests;

/// Operations that are remembered, and what they say of slots in all. Of older ones that have ended
/// first the slots are forgotten, so that a request that comes again is still known, then the rest. A
/// client that waits for one asks within seconds, and events tell of the rest.
const OPERATIONS_KEPT: usize = 200;
const WISHES_KEPT: usize = 20_000;

pub(crate) struct State {
    apps: BTreeMap<AppName, Known>,
    operations: BTreeMap<OperationId, Counted>,
    statuses: BTreeMap<SlotId, SlotStatus>,
    /// Under which wish each copy runs, or ended.
    marks: BTreeMap<SlotId, Mark>,
    /// How far the last start of each came, and when.
    timelines: BTreeMap<SlotId, Timeline>,
    /// Since when the copies are up that are.
    up_since: BTreeMap<SlotId, Mono>,
    /// Slots from before this process that no agent has seen since.
    unseen: BTreeSet<SlotId>,
    /// Apps that could not be stopped with one of their services, and somebody tries again.
    ending: BTreeSet<AppName>,
    next_operation: OperationId,
}

/// An app, and what follows from its record.
struct Known {
    record: Arc<AppRecord>,
    /// The wishes as an agent receives them.
    target: Vec<(SlotId, TargetSlot)>,
    /// Slots that shall go and were not seen absent yet, by the operation that asked for it. An empty
    /// set: they are parting.
    going: BTreeMap<OperationId, BTreeSet<SlotId>>,
    /// What is parting could not be forgotten, and somebody tries again.
    stuck: bool,
}

/// An operation, and how many of its wishes are pending.
struct Counted {
    record: OperationRecord,
    pending: usize,
}

/// What an app is to be without the slots that have gone.
pub(crate) enum Rest {
    /// The app goes on without them.
    Shrunk(Box<AppRecord>),
    /// Nothing is left, and nothing shall be.
    Nothing,
}

/// What is remembered no more.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Forgotten {
    /// All of these operations.
    pub(crate) whole: Vec<OperationId>,
    /// Of these the slots; what is left of them.
    pub(crate) slots: Vec<(OperationId, OperationRecord)>,
}

/// What a piece of news led to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// Operations that have ended by it.
    pub(crate) ended: Vec<OperationId>,
    /// Apps with slots that are parting now.
    pub(crate) parting: BTreeSet<AppName>,
}

impl News {
    /// More of it.
    pub(crate) fn add(&mut self, more: News) {
        self.ended.extend(more.ended);
        self.parting.extend(more.parting);
    }
}

impl Known {
    /// `absent` were seen absent, as asked for by these operations.
    fn new(record: AppRecord, absent: &BTreeMap<SlotId, OperationId>) -> Self {
        let mut going: BTreeMap<OperationId, BTreeSet<SlotId>> = BTreeMap::new();
        for (id, slot) in record.slots.iter().filter(|(_, slot)| slot.goal == Goal::Absent) {
            let left = going.entry(slot.operation).or_default();
            if absent.get(id) != Some(&slot.operation) {
                left.insert(id.clone());
            }
        }
        let target = record.target().collect();
        Self { record: Arc::new(record), target, going, stuck: false }
    }

    /// Slots that were seen absent and are not forgotten yet.
    fn absent(&self) -> BTreeMap<SlotId, OperationId> {
        (self.record.slots.iter())
            .filter(|(_, slot)| slot.goal == Goal::Absent)
            .filter(|(id, slot)| self.going.get(&slot.operation).is_some_and(|left| !left.contains(*id)))
            .map(|(id, slot)| (id.clone(), slot.operation))
            .collect()
    }

    fn is_parting(&self) -> bool {
        self.going.values().any(BTreeSet::is_empty) || (self.record.leaving && self.record.slots.is_empty())
    }

    fn has_parted(&self, slot: &SlotRecord) -> bool {
        slot.goal == Goal::Absent && self.going.get(&slot.operation).is_some_and(BTreeSet::is_empty)
    }
}

impl Counted {
    fn new(record: OperationRecord) -> Self {
        let pending = record.slots.values().filter(|wish| **wish == Wish::Pending).count();
        Self { record, pending }
    }

    /// A pending wish has ended so. Says whether it was the last one.
    fn end(&mut self, slot: &SlotId, how: Wish) -> bool {
        match self.record.slots.get_mut(slot) {
            Some(wish) if *wish == Wish::Pending => *wish = how,
            _ => return false,
        }
        self.pending -= 1;
        self.pending == 0
    }
}

impl State {
    /// What was kept, and the operations that turn out to have ended: by one whose news was not kept
    /// any more, or by a slot that was forgotten just before the end.
    pub(crate) fn new(
        apps: impl IntoIterator<Item = AppRecord>,
        operations: impl IntoIterator<Item = (OperationId, OperationRecord)>,
        next_operation: OperationId,
    ) -> (Self, News) {
        let known = |record: AppRecord| (record.name.clone(), Known::new(record, &BTreeMap::new()));
        let mut state = Self {
            apps: apps.into_iter().map(known).collect(),
            operations: operations.into_iter().map(|(id, record)| (id, Counted::new(record))).collect(),
            statuses: BTreeMap::new(),
            marks: BTreeMap::new(),
            timelines: BTreeMap::new(),
            up_since: BTreeMap::new(),
            unseen: BTreeSet::new(),
            ending: BTreeSet::new(),
            next_operation,
        };
        state.unseen = state.apps.values().flat_map(|app| app.record.slots.keys().cloned()).collect();
        let ended = state.end_overtaken(|_| true);
        let parting = state.apps.iter().filter(|(_, app)| app.is_parting()).map(|(name, _)| name.clone());
        let news = News { ended, parting: parting.collect() };
        (state, news)
    }

    /// Every slot was looked at since this process began.
    pub(crate) fn all_seen(&self) -> bool {
        self.unseen.is_empty()
    }

    pub(crate) fn next_operation(&self) -> OperationId {
        self.next_operation
    }

    pub(crate) fn app(&self, name: &AppName) -> Option<Arc<AppRecord>> {
        self.apps.get(name).map(|app| app.record.clone())
    }

    pub(crate) fn operation(&self, id: OperationId) -> Option<&OperationRecord> {
        self.operations.get(&id).map(|operation| &operation.record)
    }

    /// The operation that a request with this key began.
    pub(crate) fn under(&self, key: &IdempotencyKey) -> Option<(OperationId, &OperationRecord)> {
        let known = self.operations.iter().find(|(_, operation)| operation.record.key.as_ref() == Some(key));
        known.map(|(id, operation)| (*id, &operation.record))
    }

    /// All wishes, for an agent.
    pub(crate) fn target(&self, revision: u64) -> Target {
        Target { revision, slots: self.apps.values().flat_map(|app| app.target.iter().cloned()).collect() }
    }

    /// A command was kept: its wishes take the place of the old ones.
    pub(crate) fn begin(&mut self, id: OperationId, record: AppRecord, operation: OperationRecord) -> News {
        let name = record.name.clone();
        let superseded = |other: &OperationRecord| other.app == name;
        let operation = Counted::new(operation);
        let at_once = (operation.pending == 0).then_some(id);
        self.operations.insert(id, operation);
        self.next_operation = id.next();
        let absent = self.apps.get(&name).map(Known::absent).unwrap_or_default();
        let app = Known::new(record, &absent);
        let parting = app.is_parting().then(|| name.clone());
        self.apps.insert(name.clone(), app);
        let mut ended = self.end_overtaken(superseded);
        ended.extend(at_once);
        News { ended, parting: parting.into_iter().collect() }
    }

    /// Forgets what has ended and is too much, but for the last. Says what.
    pub(crate) fn forget_old_operations(&mut self) -> Forgotten {
        let mut wishes: usize = self.operations.values().map(|operation| operation.record.slots.len()).sum();
        let mut left = self.operations.len();
        let mut forgotten = Forgotten::default();
        let last = self.operations.last_key_value().map(|(id, _)| *id);
        for (id, operation) in &mut self.operations {
            if left <= OPERATIONS_KEPT && wishes <= WISHES_KEPT {
                break;
            }
            if operation.pending > 0 || Some(*id) == last {
                continue;
            }
            let record = &mut operation.record;
            wishes -= record.slots.len();
            if left > OPERATIONS_KEPT {
                left -= 1;
                forgotten.whole.push(*id);
            } else if !record.slots.is_empty() {
                record.slots = BTreeMap::new();
                record.is_outline = true;
                forgotten.slots.push((*id, record.clone()));
            }
        }
        for id in &forgotten.whole {
            self.operations.remove(id);
        }
        forgotten
    }

    /// Pending wishes whose slot belongs to a later operation by now, or is no more, have ended.
    fn end_overtaken(&mut self, which: impl Fn(&OperationRecord) -> bool) -> Vec<OperationId> {
        let pending = |operation: &Counted| operation.pending > 0 && which(&operation.record);
        let candidates: Vec<OperationId> =
            self.operations.iter().filter(|(_, o)| pending(o)).map(|(id, _)| *id).collect();
        let mut ended = Vec::new();
        for id in candidates {
            for (slot, how) in self.overtaken(id) {
                if self.operations.get_mut(&id).is_some_and(|operation| operation.end(&slot, how)) {
                    ended.push(id);
                }
            }
        }
        ended
    }

    fn overtaken(&self, id: OperationId) -> Vec<(SlotId, Wish)> {
        let Some(operation) = self.operations.get(&id) else { return Vec::new() };
        let app = self.apps.get(&operation.record.app);
        let later = |slot: &SlotId| {
            let mut later = self.operations.range(id.next()..);
            later.find(|(_, later)| later.record.slots.contains_key(slot)).map(|(by, _)| *by)
        };
        let owner = |slot: &SlotId| app.and_then(|app| app.record.slots.get(slot)).map(|slot| slot.operation);
        (operation.record.slots.iter())
            .filter(|(_, wish)| **wish == Wish::Pending)
            .filter_map(|(slot, _)| match owner(slot) {
                Some(owner) if owner == id => None,
                Some(owner) => Some((slot.clone(), Wish::Superseded { by: later(slot).unwrap_or(owner) })),
                None => match later(slot) {
                    Some(by) => Some((slot.clone(), Wish::Superseded { by })),
                    None => Some((slot.clone(), Wish::Reached)),
                },
            })
            .collect()
    }

    /// An agent says how a slot looks.
    pub(crate) fn take(&mut self, change: SlotChange, news: &mut News) {
        let SlotChange { status, mark, timeline, up_since, is_looked_at, is_seen, .. } = change;
        let slot = status.slot.clone();
        if is_looked_at {
            self.unseen.remove(&slot);
        }
        match mark {
            Some(mark) => drop(self.marks.insert(slot.clone(), mark)),
            None => drop(self.marks.remove(&slot)),
        }
        let has_gone = status.phase == Phase::Absent && status.goal == Goal::Absent;
        match timeline.filter(|_| !has_gone) {
            Some(timeline) => drop(self.timelines.insert(slot.clone(), timeline)),
            None => drop(self.timelines.remove(&slot)),
        }
        match up_since {
            Some(since) => drop(self.up_since.insert(slot.clone(), since)),
            None => drop(self.up_since.remove(&slot)),
        }
        // What an agent remembers of before it was restarted ends no wish.
        if is_seen && has_gone {
            self.part(&slot, status.operation, news);
        } else if is_seen
            && let Some(how) = upbeat_decide::outcome(&status)
            && let Some(operation) = self.operations.get_mut(&status.operation)
            && operation.end(&slot, how)
        {
            news.ended.push(status.operation);
        }
        let (app, operation) = (slot.app.clone(), status.operation);
        match has_gone {
            true => drop(self.statuses.remove(&slot)),
            false => drop(self.statuses.insert(slot, status)),
        }
        self.end_in_vain(&app, operation, news);
    }

    /// What has gone is forgotten with the last of its operation. Where what is left cannot go, as its
    /// stop has failed, nobody waits for that: the others have gone.
    fn end_in_vain(&mut self, app: &AppName, id: OperationId, news: &mut News) {
        let Some(known) = self.apps.get(app) else { return };
        let Some(left) = known.going.get(&id) else { return };
        let Some(operation) = self.operations.get_mut(&id) else { return };
        let wishes = &operation.record.slots;
        let has_failed = |slot: &SlotId| matches!(wishes.get(slot), Some(Wish::Failed { .. }));
        if left.is_empty() || !left.iter().all(has_failed) {
            return;
        }
        // Of what shall run nothing is known by that.
        let goes = |slot: &SlotId| known.record.slots.get(slot).is_some_and(|it| it.goal == Goal::Absent);
        let is_gone = |slot: &SlotId| goes(slot) && !left.contains(slot);
        let gone = wishes.iter().filter(|(slot, wish)| **wish == Wish::Pending && is_gone(slot));
        let gone: Vec<SlotId> = gone.map(|(slot, _)| slot.clone()).collect();
        for slot in gone {
            if operation.end(&slot, Wish::Reached) {
                news.ended.push(id);
            }
        }
    }

    fn part(&mut self, slot: &SlotId, operation: OperationId, news: &mut News) {
        let Some(app) = self.apps.get_mut(&slot.app) else { return };
        let Some(left) = app.going.get_mut(&operation) else { return };
        if left.remove(slot) && left.is_empty() {
            news.parting.insert(slot.app.clone());
        }
    }

    /// An app without what is parting; `None` when nothing is.
    pub(crate) fn rest(&self, name: &AppName) -> Option<Rest> {
        let app = self.apps.get(name).filter(|app| app.is_parting())?;
        let mut rest = AppRecord::clone(&app.record);
        rest.slots.retain(|_, slot| !app.has_parted(slot));
        Some(match rest.leaving && rest.slots.is_empty() {
            true => Rest::Nothing,
            false => Rest::Shrunk(Box::new(rest)),
        })
    }

    /// The rest was kept, so what was parting is forgotten. Says which operations have ended by it.
    pub(crate) fn forget(&mut self, name: &AppName, rest: Rest) -> Vec<OperationId> {
        match rest {
            Rest::Nothing => drop(self.apps.remove(name)),
            Rest::Shrunk(record) => {
                let absent = self.apps.get(name).map(Known::absent).unwrap_or_default();
                self.apps.insert(name.clone(), Known::new(*record, &absent));
            }
        }
        self.end_overtaken(|operation| operation.app == *name)
    }

    /// An app that has reached what was sought, but for what it was before; nothing, where that is gone or of use.
    pub(crate) fn without_before(&self, name: &AppName) -> Option<AppRecord> {
        let record = self.app(name).filter(|record| record.before.is_some() && self.is_reached(name))?;
        Some(AppRecord { before: None, ..AppRecord::clone(&record) })
    }

    /// What an app is kept as is no other in what it wants.
    pub(crate) fn replace(&mut self, record: AppRecord) {
        if let Some(app) = self.apps.get_mut(&record.name) {
            app.record = Arc::new(record);
        }
    }

    /// The rest could not be kept. Says whether that is news.
    pub(crate) fn cannot_forget(&mut self, name: &AppName) -> bool {
        self.apps.get_mut(name).is_some_and(|app| !std::mem::replace(&mut app.stuck, true))
    }

    /// An app could not be stopped. Says whether that is news.
    pub(crate) fn cannot_end(&mut self, name: &AppName) -> bool {
        self.ending.insert(name.clone())
    }

    /// Nobody has to try that again.
    pub(crate) fn can_end(&mut self, name: &AppName) {
        self.ending.remove(name);
    }

    /// How a slot looks, once an agent has looked at it since this process began.
    pub(crate) fn seen(&self, slot: &SlotId) -> Option<&SlotStatus> {
        self.statuses.get(slot).filter(|_| !self.unseen.contains(slot))
    }

    /// By which spec a slot was last started.
    pub(crate) fn running_digest(&self, slot: &SlotId) -> Option<String> {
        self.marks.get(slot).map(|mark| mark.digest.clone())
    }

    /// What the planner may know of an app's slots.
    pub(crate) fn observed(&self, app: &AppName) -> BTreeMap<SlotId, planner::Observed> {
        let observed = |status: &SlotStatus| {
            let mark = self.marks.get(&status.slot);
            planner::Observed {
                phase: status.phase,
                running_digest: mark.map(|mark| mark.digest.clone()),
                running_generation: mark.map(|mark| mark.generation),
            }
        };
        (self.statuses.iter())
            .filter(|(slot, _)| slot.app == *app)
            .map(|(slot, status)| (slot.clone(), observed(status)))
            .collect()
    }

    /// How all slots look that an agent has told of.
    pub(crate) fn statuses(&self) -> Vec<SlotStatus> {
        self.statuses.values().cloned().collect()
    }

    /// Since when the copies are up that are.
    pub(crate) fn up_since(&self) -> BTreeMap<SlotId, Mono> {
        self.up_since.clone()
    }

    /// The last start of each slot of an app, by what the file says now.
    pub(crate) fn starts(&self, name: &AppName, now: Mono) -> Option<Starts> {
        let record = self.app(name)?;
        let needs = |slot: &SlotId| -> BTreeMap<ServiceName, Condition> {
            let spec = record.slots.get(slot).and_then(|slot| slot.spec.as_deref());
            let spec = spec.or_else(|| record.project.services.get(&slot.service));
            let edges = spec.into_iter().flat_map(|spec| &spec.depends_on);
            edges.map(|(service, edge)| (service.clone(), edge.condition.clone())).collect()
        };
        let start = |(slot, status): (&SlotId, &SlotStatus)| {
            let times = self.timelines.get(slot)?.clone();
            Some(SlotStart { slot: slot.clone(), phase: status.phase, times, needs: needs(slot) })
        };
        let of_app = self.statuses.iter().filter(|(slot, _)| slot.app == *name);
        Some(Starts { app: name.clone(), now, slots: of_app.filter_map(start).collect() })
    }

    /// One line an app.
    pub(crate) fn summaries(&self) -> Vec<AppSummary> {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        // What has ended as it should is not waited for any more.
        let is_there = |phase: Phase| phase.is_ready() || phase == Phase::Completed;
        let is_ready = |id: &SlotId| self.statuses.get(id).is_some_and(|status| is_there(status.phase));
        (self.apps.values())
            .map(|Known { record, .. }| {
                let wanted = || record.slots.iter().filter(|(_, slot)| slot.goal == Goal::Running);
                AppSummary {
                    name: record.name.clone(),
                    release: record.release,
                    wanted: count(wanted().count()),
                    ready: count(wanted().filter(|(id, _)| is_ready(id)).count()),
                }
            })
            .collect()
    }

    /// The copies of an app as they were seen last.
    pub(crate) fn copies(&self, name: &AppName) -> Seen {
        let slots = self.shown(name).map(|app| app.slots).unwrap_or_default();
        let wishes = self.app(name);
        let copy = |status: SlotStatus| {
            let digest = self.marks.get(&status.slot).map(|mark| mark.digest.clone());
            let by =
                wishes.as_ref().and_then(|record| record.slots.get(&status.slot)).map(|slot| slot.operation);
            let wish = by.and_then(|by| self.operation(by)?.slots.get(&status.slot));
            // What is not remembered any more has ended long ago.
            let was_reached = wish.is_none_or(|wish| *wish == Wish::Reached);
            (status.slot.clone(), Copy { status, digest, was_reached })
        };
        slots.into_iter().map(copy).collect()
    }

    /// One app, whole.
    pub(crate) fn shown(&self, name: &AppName) -> Option<upbeat_model::App> {
        let record = self.app(name)?;
        let slots = record.slots.iter().filter_map(|(id, slot)| match self.statuses.get(id) {
            Some(status) => Some(status.clone()),
            // Reported gone; the record follows.
            None if slot.goal == Goal::Absent => None,
            None => Some(unseen(id, slot)),
        });
        Some(upbeat_model::App {
            name: name.clone(),
            release: record.release,
            slots: slots.collect(),
            project: record.project.to_look_at(),
        })
    }
}

/// A slot no agent has reported yet.
fn unseen(id: &SlotId, slot: &SlotRecord) -> SlotStatus {
    SlotStatus {
        slot: id.clone(),
        goal: slot.goal,
        phase: if slot.goal == Goal::Running { Phase::Waiting } else { Phase::Stopped },
        attempt: Attempt(0),
        pid: None,
        container: None,
        exit: None,
        restarts: 0,
        since: Wall(0),
        started_at: None,
        log_start: None,
        health: None,
        probes: BTreeMap::new(),
        says: None,
        reasons: Vec::new(),
        operation: slot.operation,
        release: slot.release,
    }
}

/// `restart: always` means: after a boot it runs again, whoever stopped it.
pub(crate) fn revive(app: &mut AppRecord) -> bool {
    let mut any = false;
    for (id, slot) in &mut app.slots {
        let spec = slot.spec.as_deref().or_else(|| app.project.services.get(&id.service));
        let always = spec.is_some_and(|spec| spec.restart == RestartPolicy::Always);
        if slot.goal == Goal::Stopped && always {
            slot.goal = Goal::Running;
            slot.generation += 1;
            any = true;
        }
    }
    any
}
