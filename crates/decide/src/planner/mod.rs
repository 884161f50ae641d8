//! The planner: what has to be done to which slot, and in which order, to get from what is to what
//! is wanted (`docs/plans.md`).
//!
//! Laws:
//! * Pure and total. What is as wanted gets no step, so `plan(x, x)` with everything at its goal is
//!   empty; where two wishes cannot both come true, [`NoPlan`] says which.
//! * A process gets at most one step. A container's slot gets those that lead from what is there to
//!   its goal, found by walking back from the goal: nothing is searched, so a plan costs as much as it
//!   is long.
//! * The planner says what the instance machines will do, by their own rules: what a wish means
//!   for a copy that runs or has ended is said in [`Ask`](upbeat_model::target::Ask).
//! * Edges are true edges, from step to step; levels only number the steps. An edge with a
//!   condition holds back a *start*, one without waits for the end of the other step.
//! * What only one step can do is in one table, [`tasks`]: when it may be done, and what is so
//!   afterwards. [`lint`] and the tests hold each plan against it.
//!
//! **Why the edges never form a cycle.** Steps stand in layers, and an edge leads from a step to one of
//! the same layer or of a later one:
//!
//! 1. what *prepares*: apps, releases, images, networks, volumes, containers that are made beside others;
//! 2. what goes down *early*: stops and removals of what is replaced stop-first or shall stop, and of
//!    what has to be over before something else can be;
//! 3. what is made *anew*: networks and volumes that had to be emptied first, and their containers;
//! 4. what goes *up*: starts, `Replace` of a process, and what waits for conditions;
//! 5. what goes down *late*: the old copies of what is replaced start-first, and what is dropped;
//! 6. what is *forgotten*: networks, volumes, releases and apps nobody needs.
//!
//! Within 1, 3 and 6 edges follow the kinds of steps. Within 4 they follow `depends_on` as wanted, from a
//! dependency to its dependent. Within 2 and 5 they follow `depends_on` as it is now, against it, because
//! that is what the running copies rest on; and where a dependent would be late and what it rests on early,
//! it is made early too (`clashes::settle`), so no such edge leads back from 5 to 2. A stop never
//! waits for the stop inside a dependent's `Replace`, which would be an edge from 4 to 2: with
//! `web → cache → db` and `web → db`, where `cache` goes and the others are replaced, that edge would
//! close the circle. There the stop gate of the machines keeps the order ([`crate::gate::stop_gate`]): it
//! sees a replaced copy as one that leaves.

mod budget;
mod build;
mod case;
mod change;
mod clashes;
mod edges;
mod graph;
mod life;
mod lint;
mod refusal;
mod supplies;
pub mod tasks;

use std::collections::BTreeMap;

use upbeat_model::ids::{AppName, ServiceName};
use upbeat_model::plan::{Note, Plan};
use upbeat_model::project::container::PullPolicy;
use upbeat_model::target::{Goal, TargetSlot};
use upbeat_model::{Phase, SlotId};

use budget::Budget;
use build::Build;
use case::Case;
use change::Change;
use life::Life;
use supplies::Supplies;

pub use budget::{Limits, WORK_MAX};
pub use case::{How, Input, Locks, Volumes};
pub use lint::{EXACT_MAX, Violation, lint};
pub use refusal::NoPlan;
pub use upbeat_model::plan::Observed;

#[cfg(test)]
mod tests;

/// What is wanted, slot by slot.
type Slots = BTreeMap<SlotId, TargetSlot>;

/// Which slots a service has.
type Copies<'a> = BTreeMap<(&'a AppName, &'a ServiceName), Vec<&'a SlotId>>;

/// Says what has to be done to get from what is there, where `current` was wanted so far, to what is
/// wanted. Errors: why there is no plan.
pub fn plan(input: &Input<'_>) -> Result<Plan, NoPlan> {
    let plan = planned(input)?;
    // Where each step is looked at by itself, a long plan takes minutes of a debug build.
    #[cfg(debug_assertions)]
    if plan.steps.len() <= EXACT_MAX {
        let violations = lint(&plan, input);
        debug_assert!(violations.is_empty(), "{violations:?}\n{}", plan.text());
    }
    Ok(plan)
}

fn planned(input: &Input<'_>) -> Result<Plan, NoPlan> {
    let budget = Budget::new(input.limits);
    let case = Case::new(*input);
    let supplies = Supplies::gather(&case, &budget)?;
    let mut changes = Vec::new();
    for seat in case.seats() {
        budget.spend()?;
        changes.extend(life::needed(&case, &supplies, seat).map(|change| (seat.slot, change)));
    }
    let mut changes: BTreeMap<&SlotId, Change> = changes.into_iter().collect();
    let is_alive = |slot: &SlotId| {
        let of_container = case.containers(slot).iter().any(|(_, container)| container.state.is_running());
        of_container || case.observed(slot).is_some_and(|seen| seen.phase.is_alive())
    };
    change::renew_dependents(&mut changes, is_alive, input.wanted);
    let mut changes = changes.into_iter().peekable();
    let lives = case.seats().iter().filter_map(|seat| {
        let change = changes.next_if(|(slot, _)| *slot == seat.slot);
        Life::of(&case, &supplies, seat, change.map(|(_, change)| change))
    });
    let mut lives: Vec<Life<'_>> = lives.collect();
    let (mut notes, takeovers) = clashes::settle(&case, &mut lives)?;
    notes.extend(refreshed(&case, &lives));
    notes.extend(supplies.notes(input.world));
    notes.extend(locks(&case, &lives)?);
    let mut build = Build::new(&case, &lives, &supplies, &budget);
    build.steps(&takeovers)?;
    build.start_edges()?;
    build.stop_edges()?;
    build.close()?;
    notes.append(&mut build.notes);
    let mut plan = build.graph.number();
    let wished = input.wanted.values().filter(|wish| wish.goal != Goal::Absent).count();
    plan.unchanged = counted(wished - lives.iter().filter(|life| life.wish.is_some()).count());
    plan.notes = notes;
    Ok(plan)
}

/// What stays may have to go all the same: that is known once its image was asked for again.
fn refreshed(case: &Case<'_>, lives: &[Life<'_>]) -> Vec<Note> {
    let mut notes = Vec::new();
    for (slot, wish) in case.wanted_containers().filter(|(_, wish)| wish.goal == Goal::Running) {
        let Some(container) = wish.spec.container.as_deref() else { continue };
        let is_asked_for = matches!(container.pull_policy, PullPolicy::Always | PullPolicy::Every(_));
        let stays = || lives.binary_search_by(|life| life.slot.cmp(slot)).map_or(true, |at| !lives[at].makes);
        if is_asked_for && stays() && !case.is_tracked(&slot.app) && !case.containers(slot).is_empty() {
            let (app, service, image) = (slot.app.clone(), slot.service.clone(), container.image.full());
            notes.push(Note::Refreshed { app, service, image });
        }
    }
    notes.dedup();
    notes
}

/// What holds its update lock is not interrupted, or only where that was asked for.
fn locks(case: &Case<'_>, lives: &[Life<'_>]) -> Result<Vec<Note>, NoPlan> {
    let mut notes = Vec::new();
    if case.input.world.locks.is_empty() {
        return Ok(notes);
    }
    for life in lives.iter().filter(|life| life.goes_down()) {
        // A process that has ended is only forgotten.
        let phase = case.observed(life.slot).map_or(Phase::Absent, |seen| seen.phase);
        if life.stops.is_empty() && !phase.is_alive() {
            continue;
        }
        let (app, service) = (life.slot.app.clone(), life.slot.service.clone());
        let Some(lock) = case.input.world.locks.get(&(app.clone(), service.clone())) else { continue };
        let lock = lock.clone();
        match case.input.how.locks {
            Locks::Respected => return Err(NoPlan::Locked { app, service, lock }),
            Locks::Forced => notes.push(Note::Forced { app, service, lock }),
        }
    }
    notes.dedup();
    Ok(notes)
}

/// A target has far fewer slots than this can count.
fn counted(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
