//! The planner: what has to be done to which slot, and in which order, to get from what is to what
//! is wanted.
//!
//! Laws:
//! * Pure and total. A slot gets at most one step; one that is as wanted gets none, so
//!   `plan(x, x)` with everything at its goal is empty.
//! * The planner says what the instance machines will do, by their own rules: what a wish means
//!   for a copy that runs or has ended is said in [`Ask`].
//! * Edges are true edges, from slot to slot; levels only number the steps. An edge with a
//!   condition holds back the *start* in a step, one without holds back the *stop* in it.
//!
//! **Why the edges never form a cycle.** Let *up* be the steps that start a copy (`Start`,
//! `Replace`) and *down* those that do not (`Stop`, `Remove`). There are two kinds of edges:
//!
//! 1. from up to up: a dependency's step before its dependent's, along `depends_on` as wanted;
//! 2. from down to down or `Replace`: a dependent's stop before its dependency's, against
//!    `depends_on` as it is now, because that is what the running copies rest on.
//!
//! No edge leads from up to down, so a cycle would lie within one of them; within each there is
//! only one kind of edge, and it follows one acyclic graph in one direction. This is why a stop
//! never waits for the stop inside a dependent's `Replace`: with `web → cache → db` and `web → db`,
//! where `cache` goes and the others are replaced, that edge would close the circle. There the stop
//! gate of the machines keeps the order ([`crate::gate::stop_gate`]): it sees a replaced copy as
//! one that leaves.

use std::collections::{BTreeMap, BTreeSet};

use upbeat_model::dag::{Dag, DagError};
use upbeat_model::ids::{AppName, ServiceName};
use upbeat_model::plan::{Action, After, Plan, Step, StepReason};
use upbeat_model::project::Condition;
use upbeat_model::target::{Ask, Goal, TargetSlot};
use upbeat_model::{Phase, Service, SlotId};

#[cfg(test)]
mod tests;

/// What is seen of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Its phase. A slot that is not observed at all is absent.
    pub phase: Phase,
    /// [`TargetSlot::digest`] under which the copy that runs, or ran last, was started. Where it is
    /// not known, the current target's counts.
    pub running_digest: Option<String>,
    /// [`TargetSlot::generation`] of the wish that copy is there for, likewise.
    pub running_generation: Option<u64>,
}

/// What is wanted, slot by slot.
type Slots = BTreeMap<SlotId, TargetSlot>;

/// Which slots a service has.
type Copies<'a> = BTreeMap<(&'a AppName, &'a ServiceName), Vec<&'a SlotId>>;

/// What shall happen to a slot, and why.
struct Change {
    action: Action,
    reason: StepReason,
}

impl Change {
    fn starts(&self) -> bool {
        matches!(self.action, Action::Start | Action::Replace)
    }

    fn is_down(&self) -> bool {
        matches!(self.action, Action::Stop | Action::Remove)
    }

    /// Dependents with `restart: true` follow: a copy others may have been using is exchanged, or
    /// one that ended is run anew as something else.
    fn renews(&self) -> bool {
        self.action == Action::Replace || matches!(self.reason, StepReason::Changed { .. })
    }
}

/// An edge between two steps: the slot waits for `on`.
type Edges = BTreeMap<SlotId, BTreeMap<SlotId, Option<Condition>>>;

/// Says what has to be done to get from `observed`, where `current` was wanted so far, to `wanted`.
///
/// A slot that is not declared any more may be missing from `wanted` or be there with the goal
/// `Absent`.
pub fn plan(observed: &BTreeMap<SlotId, Observed>, current: &Slots, wanted: &Slots) -> Plan {
    let slots: BTreeSet<&SlotId> = observed.keys().chain(current.keys()).chain(wanted.keys()).collect();
    let mut changes: BTreeMap<&SlotId, Change> = slots
        .into_iter()
        .filter_map(|slot| {
            let seen = observed.get(slot);
            Some((slot, change(seen, current.get(slot), wanted.get(slot))?))
        })
        .collect();
    renew_dependents(&mut changes, observed, wanted);
    let mut edges = Edges::new();
    start_edges(&changes, wanted, &mut edges);
    stop_edges(&changes, current, &mut edges);
    let kept =
        |(slot, wish): &(&SlotId, &TargetSlot)| wish.goal != Goal::Absent && !changes.contains_key(slot);
    let unchanged = wanted.iter().filter(kept).count();
    Plan { steps: number(changes, edges), unchanged: counted(unchanged) }
}

/// What one slot needs by itself; nothing when it is as wanted.
fn change(
    seen: Option<&Observed>,
    current: Option<&TargetSlot>,
    wanted: Option<&TargetSlot>,
) -> Option<Change> {
    let phase = seen.map_or(Phase::Absent, |seen| seen.phase);
    match wanted.map(|wish| (wish.goal, wish)) {
        Some((Goal::Running, wish)) => match phase {
            Phase::Absent => Some(Change { action: Action::Start, reason: StepReason::New }),
            _ => start_or_replace(phase, &Copy::of(seen, current, wish), current, wish),
        },
        Some((Goal::Stopped, _)) => (!matches!(phase, Phase::Stopped | Phase::Absent))
            .then_some(Change { action: Action::Stop, reason: StepReason::Asked }),
        Some((Goal::Absent, _)) | None => (phase != Phase::Absent)
            .then_some(Change { action: Action::Remove, reason: StepReason::NotDeclared }),
    }
}

/// How the copy that runs, or ran last, compares with the wish.
struct Copy {
    other_digest: bool,
    older_generation: bool,
}

impl Copy {
    /// A copy of which nothing is known is taken for the wanted one: it is not ours to kill.
    fn of(seen: Option<&Observed>, current: Option<&TargetSlot>, wish: &TargetSlot) -> Self {
        let digest = seen.and_then(|s| s.running_digest.as_ref()).or(current.map(|c| &c.digest));
        let generation = seen.and_then(|s| s.running_generation).or(current.map(|c| c.generation));
        Self {
            other_digest: digest.is_some_and(|digest| *digest != wish.digest),
            older_generation: generation.is_some_and(|generation| generation < wish.generation),
        }
    }
}

/// The slot shall run and something is or was there.
fn start_or_replace(
    phase: Phase,
    copy: &Copy,
    current: Option<&TargetSlot>,
    wish: &TargetSlot,
) -> Option<Change> {
    let asked = copy.older_generation && matches!(wish.ask, Ask::Start | Ask::Restart);
    let by_itself = if asked { StepReason::Asked } else { StepReason::NotRunning };
    let changed = || StepReason::Changed { fields: changed_fields(current, &wish.spec) };
    let (action, reason) = match phase {
        Phase::Stopping if copy.other_digest => (Action::Replace, changed()),
        Phase::Stopping => (Action::Replace, by_itself),
        _ if phase.is_alive() && copy.other_digest => (Action::Replace, changed()),
        _ if phase.is_alive() && asked && wish.ask == Ask::Restart => (Action::Replace, StepReason::Asked),
        _ if phase.is_alive() => return None,
        Phase::Completed | Phase::Failed if copy.other_digest => (Action::Start, changed()),
        Phase::Completed if !asked => return None,
        Phase::Failed if !copy.older_generation => return None,
        _ => (Action::Start, by_itself),
    };
    Some(Change { action, reason })
}

/// The fields by which [`Service::digest`] tells two specs apart. Empty when the copy that runs is
/// older than the current spec too: then nobody knows.
fn changed_fields(current: Option<&TargetSlot>, wanted: &Service) -> Vec<String> {
    let Some(now) = current.map(|current| &current.spec) else { return Vec::new() };
    [
        ("command", now.command != wanted.command),
        ("environment", now.environment != wanted.environment),
        ("working_dir", now.working_dir != wanted.working_dir),
        ("user", now.user != wanted.user),
        ("group_add", now.group_add != wanted.group_add),
        ("ulimits", now.ulimits != wanted.ulimits),
        ("cpus", now.resources.cpus != wanted.resources.cpus),
        ("mem_limit", now.resources.memory != wanted.resources.memory),
        ("mem_reservation", now.resources.memory_reservation != wanted.resources.memory_reservation),
        ("pids_limit", now.resources.pids != wanted.resources.pids),
        ("oom_score_adj", now.oom_score_adj != wanted.oom_score_adj),
        ("tty", now.tty != wanted.tty),
        ("stdin_open", now.stdin_open != wanted.stdin_open),
        ("configs or secrets", now.files != wanted.files),
    ]
    .into_iter()
    .filter(|(_, differs)| *differs)
    .map(|(field, _)| field.to_owned())
    .collect()
}

/// Running copies with `restart: true` on something that is renewed are replaced too, and so on
/// upwards. Where the wish for such a copy says so already, the plan names the cause of it.
fn renew_dependents<'a>(
    changes: &mut BTreeMap<&'a SlotId, Change>,
    observed: &BTreeMap<SlotId, Observed>,
    wanted: &'a Slots,
) {
    let mut followers: Copies<'a> = BTreeMap::new();
    for (slot, wish) in wanted.iter().filter(|(_, wish)| wish.goal == Goal::Running) {
        for (service, _) in wish.spec.depends_on.iter().filter(|(_, edge)| edge.restart) {
            followers.entry((&slot.app, service)).or_default().push(slot);
        }
    }
    let renewed = changes.iter().filter(|(_, change)| change.renews());
    let mut renewed: Vec<(&SlotId, bool)> =
        renewed.map(|(slot, change)| (*slot, matches!(change.reason, StepReason::Changed { .. }))).collect();
    // A stack: all that follows from what has changed comes before what was only asked for, so that
    // a change is named as the cause as far up as it reaches.
    renewed.sort_by_key(|(slot, is_changed)| (*is_changed, std::cmp::Reverse(*slot)));
    while let Some((dependency, is_cause)) = renewed.pop() {
        // All copies of one service have the same followers: the first renewed one brings them.
        let following = followers.remove(&(&dependency.app, &dependency.service)).unwrap_or_default();
        for slot in following {
            let follows = match changes.get(slot) {
                None => observed.get(slot).is_some_and(|seen| seen.phase.is_alive()),
                Some(change) => {
                    is_cause && change.action == Action::Replace && change.reason == StepReason::Asked
                }
            };
            if follows {
                let reason = StepReason::DependencyRestarts { slot: dependency.clone() };
                changes.insert(slot, Change { action: Action::Replace, reason });
                renewed.push((slot, true));
            }
        }
    }
}

/// Kind 1: a start waits for its dependencies' starts, by the condition of the edge.
fn start_edges(changes: &BTreeMap<&SlotId, Change>, wanted: &Slots, edges: &mut Edges) {
    let starting = copies(changes, Change::starts);
    for slot in starting.values().flatten().copied() {
        let Some(wish) = wanted.get(slot) else { continue };
        for (service, edge) in &wish.spec.depends_on {
            for dependency in starting.get(&(&slot.app, service)).into_iter().flatten() {
                let after = edges.entry(slot.clone()).or_default();
                after.insert((*dependency).clone(), Some(edge.condition.clone()));
            }
        }
    }
}

/// Kind 2: a stop waits for the stops of those that rest on it and go down too.
fn stop_edges(changes: &BTreeMap<&SlotId, Change>, current: &Slots, edges: &mut Edges) {
    let stopping = copies(changes, |change| change.action != Action::Start);
    for (dependent, _) in changes.iter().filter(|(_, change)| change.is_down()) {
        let Some(now) = current.get(*dependent) else { continue };
        for service in now.spec.depends_on.keys() {
            for slot in stopping.get(&(&dependent.app, service)).into_iter().flatten() {
                edges.entry((*slot).clone()).or_default().insert((*dependent).clone(), None);
            }
        }
    }
}

fn copies<'a>(changes: &BTreeMap<&'a SlotId, Change>, which: impl Fn(&Change) -> bool) -> Copies<'a> {
    let mut copies = Copies::new();
    for (slot, _) in changes.iter().filter(|(_, change)| which(change)) {
        copies.entry((&slot.app, &slot.service)).or_default().push(*slot);
    }
    copies
}

/// Steps in topological order by (level, slot), each numbered by its place.
fn number(mut changes: BTreeMap<&SlotId, Change>, mut edges: Edges) -> Vec<Step> {
    let levels = levels(&changes, &mut edges);
    let mut numbers: BTreeMap<SlotId, u32> = BTreeMap::new();
    let mut steps = Vec::with_capacity(changes.len());
    for (level, slots) in levels.into_iter().enumerate() {
        for slot in slots {
            let Some(Change { action, reason }) = changes.remove(&slot) else { continue };
            let waits = edges.remove(&slot).unwrap_or_default();
            let mut after: Vec<After> = waits
                .into_iter()
                .filter_map(|(on, condition)| Some(After { step: *numbers.get(&on)?, condition }))
                .collect();
            after.sort_by_key(|after| after.step);
            let goal = match action {
                Action::Start | Action::Replace => Goal::Running,
                Action::Stop => Goal::Stopped,
                Action::Remove => Goal::Absent,
            };
            let number = counted(steps.len() + 1);
            numbers.insert(slot.clone(), number);
            steps.push(Step { number, level: counted(level), slot, action, goal, reason, after });
        }
    }
    steps
}

/// The slots level by level.
///
/// A cycle can only be where the specs in one of the two maps do not fit together: leftovers of an
/// older release beside the current one, which declare each other as dependencies. Then one edge
/// of it goes: the plan loses an order nobody can keep, and no step.
fn levels(changes: &BTreeMap<&SlotId, Change>, edges: &mut Edges) -> Vec<Vec<SlotId>> {
    loop {
        let waits = |slot: &SlotId| edges.get(slot).map(|on| on.keys().cloned().collect::<Vec<_>>());
        let nodes = changes.keys().map(|slot| ((*slot).clone(), waits(slot).unwrap_or_default()));
        let ends = match Dag::new(nodes) {
            Ok(dag) => return dag.levels(),
            Err(DagError::Cycle(path)) => path.into_iter().take(2).collect::<Vec<_>>(),
            Err(DagError::SelfDependency(slot)) => vec![slot.clone(), slot],
            // Edges are made between steps only, so nothing is missing or unknown.
            Err(DagError::Missing { .. } | DagError::Unknown(_)) => Vec::new(),
        };
        match &ends[..] {
            [slot, on] => edges.entry(slot.clone()).or_default().remove(on),
            _ => return vec![changes.keys().map(|slot| (*slot).clone()).collect()],
        };
    }
}

/// A target has far fewer slots than this can count.
fn counted(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
