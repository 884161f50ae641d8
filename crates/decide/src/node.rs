//! One machine's slots, decided together: a change in one makes those that depend on it look again.
//!
//! Pure. What comes out is a [`Bundle`]: persist this first, then perform that, then tell these.
//! Within one call everything is settled: no status in a bundle is one that the next call would
//! take back without a new input.

mod claims;
mod locks;
mod ready;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use upbeat_model::ids::{AppName, ServiceName};
use upbeat_model::project::Dependency;
use upbeat_model::target::{Goal, Target, TargetSlot};
use upbeat_model::{Mono, OperationId, Phase, Reason, SlotId, SlotStatus, Wall};

pub use crate::bundle::{Bundle, Change, Outcome, Reacted};
use crate::gate::{Verdict, View, gate};
use crate::instance::{self, Around, Durable, Input, Slot, Stage};
use crate::order::{Edge, loose};
use crate::rules::{Bug, Rules};
use claims::Claims;
use locks::Locks;
use ready::Unready;

type ServiceKey = (AppName, ServiceName);

#[derive(Debug)]
struct Entry {
    slot: Slot,
    wish: Option<TargetSlot>,
    shown: Option<SlotStatus>,
    /// What was shown came of a look, and was what was seen.
    shown_as: (bool, bool),
    /// Nobody wishes anything of it any more: it goes, and is forgotten when it is gone.
    orphaned: bool,
    deadline: Option<Mono>,
    /// The phase it was last in, to the node before this one.
    remembered: Option<Phase>,
}

impl Entry {
    fn of(slot: Slot, remembered: Option<Phase>) -> Self {
        Self {
            slot,
            wish: None,
            shown: None,
            shown_as: (false, false),
            orphaned: false,
            deadline: None,
            remembered,
        }
    }

    /// The phase it was last shown in, by this node or by the one before it.
    fn before(&self) -> Phase {
        match &self.shown {
            Some(shown) => shown.phase,
            None => self.remembered.unwrap_or(Phase::Absent),
        }
    }
}

/// The edges of one app that may order stops.
#[derive(Default)]
struct Edges {
    edges: BTreeSet<Edge>,
    releases: BTreeSet<u64>,
    /// Some are remembered.
    remembers: bool,
}

impl Edges {
    fn take<'a>(&mut self, id: &SlotId, wish: &TargetSlot, needs: impl Iterator<Item = &'a ServiceName>) {
        let edge = |dependency: &ServiceName, remembered| Edge {
            dependent: id.service.clone(),
            dependency: dependency.clone(),
            remembered,
        };
        self.releases.insert(wish.release);
        self.edges.extend(wish.spec.depends_on.keys().map(|dependency| edge(dependency, false)));
        for need in needs.filter(|need| !wish.spec.depends_on.contains_key(*need)) {
            self.remembers = true;
            self.edges.insert(edge(need, true));
        }
    }

    /// Those of one file make no cycle, so that most often nothing is to be searched.
    fn loose(&self, app: &AppName) -> Vec<(AppName, ServiceName, ServiceName)> {
        if !self.remembers && self.releases.len() < 2 {
            return Vec::new();
        }
        loose(&self.edges).into_iter().map(|(from, to)| (app.clone(), from, to)).collect()
    }
}

/// All slots of one machine.
#[derive(Debug, Default)]
pub struct Node {
    entries: BTreeMap<SlotId, Entry>,
    copies: BTreeMap<ServiceKey, BTreeSet<SlotId>>,
    dependents: BTreeMap<ServiceKey, BTreeSet<ServiceName>>,
    /// Edges (app, dependent, dependency) that order no stop, as they would go round in a circle.
    loose: BTreeSet<(AppName, ServiceName, ServiceName)>,
    claims: Claims,
    timers: BTreeSet<(Mono, SlotId)>,
    verdicts: RefCell<Verdicts>,
    /// What is decided cannot be kept.
    unkept: bool,
    /// Nothing that runs is touched for an operation while something of it is here.
    unready: Unready,
    /// Which operation each of those slots is of.
    unready_of: BTreeMap<SlotId, OperationId>,
    /// These run on for that.
    untouched: BTreeSet<SlotId>,
    /// Update locks.
    locks: Locks,
    /// These wait for others, and are to look at them again, as that has changed.
    anew: BTreeSet<SlotId>,
    rules: Rules,
}

/// An edge, whether who asks was there before as it is wished now, and what was said.
type Asked = (Dependency, bool, Verdict);

/// What the gates said since anything they look at has changed: a thousand copies that wait for a
/// thousand others ask the same question.
#[derive(Debug, Default)]
struct Verdicts {
    /// Of each edge to this service.
    start: HashMap<ServiceKey, Vec<Asked>>,
    /// Of this service.
    stop: HashMap<ServiceKey, Option<Reason>>,
}

impl Node {
    /// A node that remembers what was committed before. Whatever ran then is observed before
    /// anything is decided about it.
    pub fn recover(remembered: impl IntoIterator<Item = (SlotId, Durable)>, rules: Rules) -> Self {
        let mut node = Self { rules, ..Self::default() };
        for (id, mut durable) in remembered {
            if let Stage::Up(up) = &mut durable.stage
                && let Some(stopping) = &mut up.stopping
            {
                stopping.unsaid = stopping.given_up.is_none() && !rules.has(Bug::KeepDeadlines);
            }
            durable.farewell.take_if(|_| rules.has(Bug::ForgetPostStop));
            if let Stage::Up(up) = &mut durable.stage {
                up.reload.take_if(|_| rules.has(Bug::LoseReloads));
                up.remedy.take_if(|_| rules.has(Bug::LoseRemedies));
            }
            let elsewhere = instance::mark(&durable).is_some_and(|mark| mark.external);
            let may_run = durable.may_run() || (elsewhere && rules.has(Bug::LookOutside));
            let observing = may_run && !rules.has(Bug::SkipObservation);
            let remembered = durable.entered.map(|(phase, _)| phase);
            let slot = Slot { durable, observing, ..Slot::default() };
            node.entries.insert(id, Entry::of(slot, remembered));
        }
        node
    }

    /// Slots that exist on disk though nothing is remembered of them: looked at before use.
    pub fn found(&mut self, ids: impl IntoIterator<Item = SlotId>) {
        for id in ids {
            let slot = Slot { observing: true, ..Slot::default() };
            self.entries.entry(id).or_insert_with(|| Entry::of(slot, None));
        }
    }

    /// Containers of these are there, as the engine says: of those that nobody remembers. Looked at before
    /// anything else is decided about them.
    pub fn appeared(&mut self, ids: impl IntoIterator<Item = SlotId>, now: Mono, wall: Wall) -> Bundle {
        let mut known = Vec::new();
        for id in ids {
            match self.entries.get(&id) {
                Some(entry) if entry.wish.is_some() => known.push((id, Input::Appeared)),
                _ => {
                    let slot = Slot { observing: true, appeared: true, ..Slot::default() };
                    self.entries.entry(id).or_insert_with(|| Entry::of(slot, None));
                }
            }
        }
        self.take(known, now, wall)
    }

    /// The wishes changed.
    pub fn aim(&mut self, target: &Target, now: Mono, wall: Wall) -> Bundle {
        let mut dirty = BTreeSet::new();
        for (id, wish) in &target.slots {
            let entry = self.entries.entry(id.clone()).or_insert_with(|| Entry::of(Slot::default(), None));
            entry.orphaned = false;
            if entry.wish.as_ref() != Some(wish) {
                entry.wish = Some(wish.clone());
                dirty.insert(id.clone());
            }
        }
        let changed = dirty.clone();
        let apps: BTreeSet<&AppName> = changed.iter().map(|id| &id.app).collect();
        let waiting: Vec<SlotId> = self
            .untouched
            .iter()
            .filter(|id| changed.contains(*id) || apps.contains(&id.app))
            .cloned()
            .collect();
        let mut bundle = Bundle::default();
        let dropped: Vec<SlotId> = (self.entries.iter())
            .filter(|(id, entry)| entry.wish.is_some() && !entry.orphaned && !target.slots.contains_key(*id))
            .map(|(id, _)| id.clone())
            .collect();
        for id in dropped {
            self.orphan(id, &mut dirty, &mut bundle);
        }
        self.index();
        self.verdicts.take();
        let ids: Vec<SlotId> = self.entries.keys().cloned().collect();
        ids.iter().for_each(|id| self.note_readiness(id, &mut dirty));
        // A wish may change what others wait for without changing how the slot itself looks.
        let around: BTreeSet<SlotId> =
            dirty.iter().flat_map(|id| self.neighbours(id).into_iter().chain(self.rivals(id))).collect();
        dirty.extend(around);
        self.look_at_locks_anew(changed.iter());
        self.look_whether_touched(waiting, &mut dirty);
        self.unsay(&mut dirty);
        self.settle(dirty, now, wall, &mut bundle);
        bundle
    }

    /// Something was seen.
    pub fn take(
        &mut self,
        inputs: impl IntoIterator<Item = (SlotId, Input)>,
        now: Mono,
        wall: Wall,
    ) -> Bundle {
        let mut bundle = Bundle::default();
        let mut dirty = std::mem::take(&mut self.anew);
        for (id, input) in inputs {
            if let Input::Locked { serial, outcome } = input {
                self.take_locks(&id, (serial, outcome), now, &mut dirty);
                continue;
            }
            self.step(&id, input, now, wall, &mut dirty, &mut bundle);
        }
        while let Some((at, id)) = self.timers.first().cloned()
            && at <= now
            && !self.rules.has(Bug::LoseTimers)
        {
            self.timers.remove(&(at, id.clone()));
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.deadline = None;
            }
            dirty.insert(id);
        }
        self.settle(dirty, now, wall, &mut bundle);
        bundle
    }

    /// What is decided cannot be kept, so that nothing can be started: from now on nothing is stopped
    /// that would be started again, and nobody waits for its end. Whoever performs withholds such stops as
    /// [`Node::comes_back`] says, and tells so by [`Input::StopWithheld`]. Decided anew is by the next
    /// [`Node::take`].
    pub fn cannot_keep(&mut self) {
        self.set_kept(false);
    }

    /// It can be kept again: what was not stopped is, now.
    pub fn keeps_again(&mut self, now: Mono, wall: Wall) -> Bundle {
        self.set_kept(true);
        self.take([], now, wall)
    }

    fn set_kept(&mut self, kept: bool) {
        if std::mem::replace(&mut self.unkept, !kept) == kept {
            self.verdicts.take();
            let loses = kept && self.rules.has(Bug::LoseWithheld);
            let waits = |entry: &Entry| {
                entry.slot.blocked.is_some() && matches!(entry.slot.durable.stage, Stage::Up(_)) && !loses
            };
            let waiting = self.entries.iter().filter(|(_, entry)| waits(entry));
            self.anew = waiting.map(|(id, _)| id.clone()).collect();
        }
    }

    /// A stop of this slot is begun, of which nothing was carried out yet, and after which it would be started
    /// again.
    pub fn comes_back(&self, id: &SlotId) -> bool {
        self.entries.get(id).is_some_and(|entry| {
            entry.wish.as_ref().is_some_and(|wish| instance::comes_back(&entry.slot, wish, self.rules))
        })
    }

    /// A start of this slot was ordered that is not wanted any more, or not so. Whoever has not performed it,
    /// as it was not kept, drops it and tells so by [`Input::StartWithheld`]: nobody else knows that there is
    /// nothing to be waited for.
    pub fn is_called_off(&self, id: &SlotId) -> bool {
        self.entries.get(id).is_some_and(|entry| {
            entry.wish.as_ref().is_some_and(|wish| instance::is_called_off(&entry.slot, wish))
        })
    }

    /// When to call [`Node::take`] next, if nothing is seen before.
    pub fn deadline(&self) -> Option<Mono> {
        let of_slots = self.timers.first().map(|(at, _)| *at);
        of_slots.into_iter().chain(self.locks.deadline()).min()
    }

    /// How a slot looks.
    pub fn status(&self, id: &SlotId) -> Option<&SlotStatus> {
        self.entries.get(id)?.shown.as_ref()
    }

    /// How all slots look.
    pub fn statuses(&self) -> impl Iterator<Item = &SlotStatus> {
        self.entries.values().filter_map(|entry| entry.shown.as_ref())
    }

    /// Whether a slot is being looked at before anything is decided about it.
    pub fn is_observing(&self, id: &SlotId) -> bool {
        self.entries.get(id).is_some_and(|entry| entry.slot.observing)
    }

    /// What is kept of a slot.
    pub fn durable(&self, id: &SlotId) -> Option<&Durable> {
        self.entries.get(id).map(|entry| &entry.slot.durable)
    }

    /// A slot that control no longer names. Control only does so once the slot is absent; should it
    /// have come back in the meantime, it goes again.
    fn orphan(&mut self, id: SlotId, dirty: &mut BTreeSet<SlotId>, bundle: &mut Bundle) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        match (&entry.slot.durable.stage, &mut entry.wish) {
            (Stage::Idle, _) if !entry.slot.observing => self.forget(&id, bundle),
            (Stage::Gone, _) | (_, None) => self.forget(&id, bundle),
            (_, Some(wish)) => {
                wish.goal = Goal::Absent;
                entry.orphaned = true;
                dirty.insert(id);
            }
        }
    }

    fn forget(&mut self, id: &SlotId, bundle: &mut Bundle) {
        if let Some(entry) = self.entries.remove(id) {
            if let Some(wish) = &entry.wish {
                self.claims.note(id, wish, (&entry.slot.durable, None), &mut BTreeSet::new());
            }
            self.note_readiness(id, &mut BTreeSet::new());
            self.untouched.remove(id);
            self.note_lock(id, bundle);
            if let Some(at) = entry.deadline {
                self.timers.remove(&(at, id.clone()));
            }
            bundle.persist.insert(id.clone(), None);
        }
    }

    /// That a dependency failed was said under earlier wishes, and so was all that followed from it. It
    /// is judged anew before anybody passes over what "failed".
    fn unsay(&mut self, dirty: &mut BTreeSet<SlotId>) {
        let mut open: Vec<SlotId> = dirty.iter().cloned().collect();
        while let Some(id) = open.pop() {
            let dependents = self.dependents.get(&(id.app.clone(), id.service.clone()));
            let dependents = self.copies_of(&id.app, dependents.into_iter().flatten());
            let looked_at: Vec<SlotId> = dependents.chain([id.clone()]).collect();
            for other in looked_at {
                if let Some(entry) = self.entries.get_mut(&other)
                    && entry.slot.blocked.take_if(|verdict| matches!(verdict, Verdict::Failed(_))).is_some()
                    && dirty.insert(other.clone())
                {
                    open.push(other);
                }
            }
        }
    }

    fn index(&mut self) {
        self.copies.clear();
        self.claims = Claims::default();
        self.dependents.clear();
        let mut apps: BTreeMap<AppName, Edges> = BTreeMap::new();
        for (id, entry) in &self.entries {
            let Some(wish) = &entry.wish else { continue };
            self.copies.entry((id.app.clone(), id.service.clone())).or_default().insert(id.clone());
            self.claims.index(id, &entry.slot.durable, wish);
            let needs = instance::mark(&entry.slot.durable).map(|mark| &mark.needs);
            for dependency in wish.spec.depends_on.keys().chain(needs.into_iter().flatten()) {
                let key = (id.app.clone(), dependency.clone());
                self.dependents.entry(key).or_default().insert(id.service.clone());
            }
            apps.entry(id.app.clone()).or_default().take(id, wish, needs.into_iter().flatten());
        }
        self.loose = apps.iter().flat_map(|(app, edges)| edges.loose(app)).collect();
    }

    /// Looks at slots until none has anything to decide. Ends because a slot's stage only moves on
    /// by an input or a deadline after it has emitted an effect, and what it shows is a function
    /// of the stages around it along an acyclic graph.
    fn settle(&mut self, mut dirty: BTreeSet<SlotId>, now: Mono, wall: Wall, bundle: &mut Bundle) {
        loop {
            while let Some(id) = dirty.pop_first() {
                self.step(&id, Input::Look, now, wall, &mut dirty, bundle);
            }
            self.press_locks(now, &mut dirty, bundle);
            if dirty.is_empty() {
                break;
            }
        }
        let touched: Vec<SlotId> = bundle.persist.keys().cloned().collect();
        for id in touched {
            let Some(entry) = self.entries.get(&id) else { continue };
            if entry.slot.durable.stage == Stage::Gone {
                match entry.orphaned {
                    true => self.forget(&id, bundle),
                    false => drop(bundle.persist.insert(id, None)),
                }
            }
        }
    }

    fn step(
        &mut self,
        id: &SlotId,
        input: Input,
        now: Mono,
        wall: Wall,
        dirty: &mut BTreeSet<SlotId>,
        bundle: &mut Bundle,
    ) {
        let Some(mut entry) = self.entries.remove(id) else { return };
        let Some(wish) = entry.wish.clone() else {
            self.entries.insert(id.clone(), entry);
            return;
        };
        let before = (self.view(id, &entry.slot, &wish), entry.slot.durable.clone());
        let around = Around {
            now,
            wall,
            wish: &wish,
            start_gate: &|since, resumes| self.start_gate(id, &wish, (since, resumes), now),
            copies: &|service| self.views(&id.app, service).unwrap_or_default(),
            edge: &|service| self.edge_of(id, &wish, service),
            keeps: !self.unkept,
            untouched: &|| self.untouched(id, &wish),
            app_has_locks: self.locks.has_any(&id.app),
            last_in: &|made| self.last_in(id, &wish, made),
            stop_gate: &|readiness| self.stop_gate(id, readiness),
            rules: self.rules,
        };
        bundle.effects.extend(instance::step(id, &mut entry.slot, input, &around));
        bundle.reacted.append(&mut entry.slot.reacted);
        bundle.outcomes.append(&mut entry.slot.outcomes);
        let after = self.view(id, &entry.slot, &wish);
        if before.1 != entry.slot.durable {
            bundle.persist.insert(id.clone(), Some(entry.slot.durable.clone()));
        }
        self.show(id, &mut entry, &wish, bundle);
        self.remind(id, &mut entry, &wish);
        match entry.slot.untouched.is_some() {
            true => self.untouched.insert(id.clone()),
            false => self.untouched.remove(id),
        };
        self.entries.insert(id.clone(), entry);
        self.note_lock(id, bundle);
        self.note_readiness(id, dirty);
        if before.0 != after {
            let now = self.entries.get(id).map(|entry| &entry.slot.durable);
            self.claims.note(id, &wish, (&before.1, now), dirty);
            self.forget_verdicts(id, &wish, &before.1);
            // What it rested on until now may stop now.
            let left = instance::mark(&before.1).into_iter().flat_map(|mark| &mark.needs);
            dirty.extend(self.copies_of(&id.app, left));
            dirty.extend(self.neighbours(id));
        }
    }

    fn show(&self, id: &SlotId, entry: &mut Entry, wish: &TargetSlot, bundle: &mut Bundle) {
        let status = instance::status(id, &entry.slot, wish);
        let is_seen = instance::is_known(&entry.slot, wish, self.rules) || self.rules.has(Bug::BelieveMemory);
        let is_looked_at = !entry.slot.observing;
        if entry.shown.as_ref() == Some(&status) && entry.shown_as == (is_looked_at, is_seen) {
            return;
        }
        let from = match bundle.statuses.get(id) {
            Some(earlier) => earlier.from,
            None => entry.before(),
        };
        entry.shown = Some(status.clone());
        entry.shown_as = (is_looked_at, is_seen);
        let mark = instance::mark(&entry.slot.durable).cloned();
        let timeline = entry.slot.durable.timeline.clone();
        let up_since = instance::up_since(&entry.slot);
        let change = Change { from, status, mark, timeline, up_since, is_looked_at, is_seen };
        bundle.statuses.insert(id.clone(), change);
    }

    fn remind(&mut self, id: &SlotId, entry: &mut Entry, wish: &TargetSlot) {
        let deadline = instance::deadline(&entry.slot, wish);
        if deadline == entry.deadline {
            return;
        }
        if let Some(at) = entry.deadline {
            self.timers.remove(&(at, id.clone()));
        }
        if let Some(at) = deadline {
            self.timers.insert((at, id.clone()));
        }
        entry.deadline = deadline;
    }

    /// Those whose gates look at this slot: dependents (start) and dependencies (stop).
    fn neighbours(&self, id: &SlotId) -> Vec<SlotId> {
        let dependents = self.dependents.get(&(id.app.clone(), id.service.clone()));
        let entry = self.entries.get(id);
        let wished = entry.and_then(|entry| entry.wish.as_ref()).map(|wish| wish.spec.depends_on.keys());
        let needed =
            entry.and_then(|entry| instance::mark(&entry.slot.durable)).map(|mark| mark.needs.iter());
        let dependencies = wished.into_iter().flatten().chain(needed.into_iter().flatten());
        self.copies_of(&id.app, dependents.into_iter().flatten().chain(dependencies)).collect()
    }

    fn copies_of<'a>(
        &'a self,
        app: &'a AppName,
        services: impl Iterator<Item = &'a ServiceName>,
    ) -> impl Iterator<Item = SlotId> {
        services.filter_map(|service| self.copies.get(&(app.clone(), service.clone()))).flatten().cloned()
    }

    fn view(&self, id: &SlotId, slot: &Slot, wish: &TargetSlot) -> View {
        instance::view(id, slot, wish, !self.unkept, self.rules)
    }

    fn views(&self, app: &AppName, service: &ServiceName) -> Option<Vec<View>> {
        let copies = self.copies.get(&(app.clone(), service.clone()))?;
        let view = |id: &SlotId| {
            let entry = self.entries.get(id)?;
            let wish = entry.wish.as_ref()?;
            Some((wish.goal, self.view(id, &entry.slot, wish)))
        };
        Some(
            copies
                .iter()
                .filter_map(view)
                .filter(|(goal, _)| *goal != Goal::Absent)
                .map(|(_, view)| view)
                .collect(),
        )
    }

    /// Gates that look at this slot are asked anew.
    fn forget_verdicts(&mut self, id: &SlotId, wish: &TargetSlot, before: &Durable) {
        let verdicts = self.verdicts.get_mut();
        verdicts.start.remove(&(id.app.clone(), id.service.clone()));
        let now = self.entries.get(id).and_then(|entry| instance::mark(&entry.slot.durable));
        let needed = [instance::mark(before), now].into_iter().flatten().flat_map(|mark| &mark.needs);
        for service in wish.spec.depends_on.keys().chain(needed) {
            verdicts.stop.remove(&(id.app.clone(), service.clone()));
        }
    }

    fn edge(&self, app: &AppName, service: &ServiceName, edge: &Dependency, resumes: bool) -> Verdict {
        let key = (app.clone(), service.clone());
        let known = self.verdicts.borrow().start.get(&key).and_then(|known| {
            let asked = |(other, of, _): &&Asked| other == edge && *of == resumes;
            known.iter().find(asked).map(|(_, _, verdict)| verdict.clone())
        });
        known.unwrap_or_else(|| {
            let verdict = gate(service, edge, self.views(app, service).as_deref(), resumes);
            let asked = (edge.clone(), resumes, verdict.clone());
            self.verdicts.borrow_mut().start.entry(key).or_default().push(asked);
            verdict
        })
    }

    /// Whether the condition of one of the wish's edges holds. One that is not required is not passed
    /// over here: whoever waits for something to be back is not told that it need not be.
    fn edge_of(&self, id: &SlotId, wish: &TargetSlot, service: &ServiceName) -> Verdict {
        let strict = |edge: &Dependency| Dependency { required: true, ..edge.clone() };
        let edge = wish.spec.depends_on.get(service).map(strict);
        edge.map_or(Verdict::Open, |edge| self.edge(&id.app, service, &edge, true))
    }
}
