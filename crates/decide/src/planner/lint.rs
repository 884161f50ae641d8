//! Looks a finished plan over: every rule it has to keep, each with what breaks it.

use std::collections::{BTreeMap, BTreeSet};

use upbeat_model::plan::{Plan, Step, StepReason, Strategy, Task, World};
use upbeat_model::project::Condition;
use upbeat_model::{AppName, SlotId};

use super::case::{Case, Input};
use super::tasks::{Unmet, condition, effect, is_so};
use super::{NoPlan, planned};

/// Up to so many steps each is looked at by itself, in the least and in the most that may have happened
/// before it: that costs the square of them. Of longer plans two orders are looked at.
pub const EXACT_MAX: usize = 200;

/// A rule that a plan breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// It is not numbered by its place, or not in order.
    #[error("step {0} is not in topological order by level, slot and kind")]
    Number(u32),
    /// It waits for a step that is not there or comes later.
    #[error("step {step} waits for step {on}, which does not come before it")]
    Edge {
        /// Which.
        step: u32,
        /// For which.
        on: u32,
    },
    /// It may happen when its condition does not hold.
    #[error("step {step} may happen when {unmet}")]
    Condition {
        /// Which.
        step: u32,
        /// What does not hold.
        unmet: Unmet,
    },
    /// It may touch what runs before everything new is there.
    #[error("step {step} may touch what runs before step {missing}, which prepares")]
    Unprepared {
        /// Which.
        step: u32,
        /// What may be missing.
        missing: u32,
    },
    /// It may happen before one that has to be over.
    #[error("step {step} may happen before step {before}, on which its service rests or which rests on it")]
    Order {
        /// Which.
        step: u32,
        /// Which one has to be over.
        before: u32,
    },
    /// The goal is not reached.
    #[error("when all is done, there is still to do: {0}")]
    Goal(String),
    /// Nothing needs it.
    #[error("step {0} can be left out")]
    Needless(u32),
}

/// All rules that a plan breaks; none, if the planner made it.
pub fn lint(plan: &Plan, input: &Input<'_>) -> Vec<Violation> {
    let mut violations = numbering(plan);
    if !violations.is_empty() {
        // The rest is said of steps by their places.
        return violations;
    }
    let order: Vec<usize> = (0..plan.steps.len()).collect();
    violations.extend(simulate(plan, &order, input));
    violations.extend(simulate(plan, &hasty(plan), input));
    violations.extend(preparation(plan, input));
    if plan.steps.len() <= EXACT_MAX {
        let before = ancestors(plan);
        violations.extend(each_by_itself(plan, &before, input));
        violations.extend(services(plan, &before, input));
        violations.extend(needless(plan, &before, input));
    }
    let mut seen = Vec::new();
    violations.retain(|violation| {
        let is_new = !seen.contains(violation);
        seen.push(violation.clone());
        is_new
    });
    violations
}

fn numbering(plan: &Plan) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut levels = Vec::with_capacity(plan.steps.len());
    for (place, step) in plan.steps.iter().enumerate() {
        let mut level = 0;
        for after in &step.after {
            match levels.get((after.step as usize).wrapping_sub(1)) {
                Some(below) => level = level.max(below + 1),
                None => violations.push(Violation::Edge { step: step.number, on: after.step }),
            }
        }
        levels.push(level);
        if step.number as usize != place + 1 || step.level != level {
            violations.push(Violation::Number(step.number));
        }
    }
    let key = |step: &Step| (step.level, step.slot().cloned(), step.task.rank());
    for pair in plan.steps.windows(2).filter(|pair| key(&pair[0]) > key(&pair[1])) {
        violations.push(Violation::Number(pair[1].number));
    }
    violations
}

/// Does the steps in an order that the edges allow, and holds each against the table.
fn simulate(plan: &Plan, order: &[usize], input: &Input<'_>) -> Vec<Violation> {
    let (mut world, mut violations) = (input.world.clone(), Vec::new());
    for place in order {
        let step = &plan.steps[*place];
        if let Err(unmet) = condition(&step.task, &world, input) {
            violations.push(Violation::Condition { step: step.number, unmet });
        }
        effect(&step.task, &mut world, input);
    }
    violations.extend(left_to_do(&world, input));
    violations
}

/// What would still have to be done in this world.
fn left_to_do(world: &World, input: &Input<'_>) -> Option<Violation> {
    match planned(&Input { world, ..*input }) {
        Ok(plan) if plan.steps.is_empty() => None,
        Ok(plan) => Some(Violation::Goal(plan.steps[0].task.to_string())),
        // Whoever has no time to say it again has not said that there is something.
        Err(NoPlan::Interrupted | NoPlan::TooLarge(_)) => None,
        Err(refusal) => Some(Violation::Goal(refusal.to_string())),
    }
}

fn touches(task: &Task) -> bool {
    matches!(task, Task::Stop { .. } | Task::Replace { .. } | Task::Remove { .. })
}

/// The order in which what runs is touched as soon as the edges allow it, and all else as late.
fn hasty(plan: &Plan) -> Vec<usize> {
    let mut open: Vec<usize> = plan.steps.iter().map(|step| step.after.len()).collect();
    let mut next: Vec<Vec<usize>> = vec![Vec::new(); plan.steps.len()];
    for (place, step) in plan.steps.iter().enumerate() {
        for after in &step.after {
            next[after.step as usize - 1].push(place);
        }
    }
    let rank = |place: usize| (!touches(&plan.steps[place].task), plan.steps[place].task.prepares(), place);
    let free = (0..plan.steps.len()).filter(|place| open[*place] == 0);
    let mut ready: BTreeSet<(bool, bool, usize)> = free.map(rank).collect();
    let mut order = Vec::with_capacity(plan.steps.len());
    while let Some((_, _, place)) = ready.pop_first() {
        order.push(place);
        for later in std::mem::take(&mut next[place]) {
            open[later] -= 1;
            if open[later] == 0 {
                ready.insert(rank(later));
            }
        }
    }
    order
}

/// Nothing that runs is touched before everything new is there.
fn preparation(plan: &Plan, input: &Input<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    // Whether something has to be touched before a step.
    let mut late = vec![false; plan.steps.len()];
    let mut preparing: BTreeMap<&AppName, BTreeSet<usize>> = BTreeMap::new();
    for (place, step) in plan.steps.iter().enumerate() {
        let is_before = |on: usize| late[on] || touches(&plan.steps[on].task);
        late[place] = step.after.iter().any(|after| is_before(after.step as usize - 1));
        let Task::Create { slot, .. } = &step.task else { continue };
        if !late[place] {
            preparing.entry(&slot.app).or_default().insert(place);
        } else if !may_be_late(slot, plan, input) {
            violations.push(Violation::Unprepared { step: step.number, missing: step.number });
        }
    }
    for place in hasty(plan) {
        let step = &plan.steps[place];
        let Some(slot) = step.slot() else { continue };
        let left = preparing.get_mut(&slot.app);
        if let Some(missing) = left.filter(|_| touches(&step.task) || !late[place]) {
            missing.remove(&place);
            if let Some(missing) = missing.first().filter(|_| touches(&step.task)) {
                let (step, missing) = (step.number, plan.steps[*missing].number);
                violations.push(Violation::Unprepared { step, missing });
            }
        }
    }
    violations
}

/// Its container shall not be made before the old one has gone, or cannot.
fn may_be_late(slot: &SlotId, plan: &Plan, input: &Input<'_>) -> bool {
    let case = Case::new(*input);
    let Some(container) = case.wish(slot).and_then(|wish| wish.spec.container.as_deref()) else {
        return false;
    };
    let is_renewed = |step: &Step| match &step.task {
        Task::RemoveNetwork { network } => container.networks().iter().any(|a| a.network.name == *network),
        Task::RemoveVolume { volume } => container.volumes().any(|used| used.name == *volume),
        _ => false,
    };
    case.strategy(slot) == Strategy::Recreate || plan.steps.iter().any(is_renewed)
}

/// For each step, whether each other has to happen before it.
fn ancestors(plan: &Plan) -> Vec<Vec<bool>> {
    let mut before: Vec<Vec<bool>> = Vec::with_capacity(plan.steps.len());
    for step in &plan.steps {
        let mut own = vec![false; plan.steps.len()];
        for after in &step.after {
            let on = after.step as usize - 1;
            own.iter_mut().zip(&before[on]).for_each(|(own, theirs)| *own |= *theirs);
            own[on] = true;
        }
        before.push(own);
    }
    before
}

/// Each step in the least that has happened before it, and in the most that may have.
fn each_by_itself(plan: &Plan, before: &[Vec<bool>], input: &Input<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (place, step) in plan.steps.iter().enumerate() {
        let least: &dyn Fn(usize) -> bool = &|other| before[place][other];
        let most: &dyn Fn(usize) -> bool = &|other| other != place && !before[other][place];
        for happened in [least, most] {
            let mut world = input.world.clone();
            for (_, other) in plan.steps.iter().enumerate().filter(|(other, _)| happened(*other)) {
                effect(&other.task, &mut world, input);
            }
            if let Err(unmet) = condition(&step.task, &world, input) {
                violations.push(Violation::Condition { step: step.number, unmet });
            }
        }
    }
    violations
}

/// Starts follow `depends_on` as wanted, stops follow it as it is now, against it.
fn services(plan: &Plan, before: &[Vec<bool>], input: &Input<'_>) -> Vec<Violation> {
    let case = Case::new(*input);
    let mut violations = Vec::new();
    let mut require = |first: usize, then: usize| {
        // In a circle nobody can keep both orders.
        if !before[then][first] && !before[first][then] {
            let (step, before) = (plan.steps[then].number, plan.steps[first].number);
            violations.push(Violation::Order { step, before });
        }
    };
    let goes = |task: &Task| matches!(task, Task::Stop { .. } | Task::Remove { .. });
    for (place, step) in plan.steps.iter().enumerate() {
        let Some(slot) = step.slot() else { continue };
        for (other, on) in plan.steps.iter().enumerate().filter(|(other, _)| *other != place) {
            let Some(of) = on.slot().filter(|of| of.app == slot.app && of.service != slot.service) else {
                continue;
            };
            let wants = case.wish(slot).is_some_and(|wish| wish.spec.depends_on.contains_key(&of.service));
            if starts(&step.task) && starts(&on.task) && wants {
                require(other, place);
            }
            let rests = case.current(slot).is_some_and(|now| now.spec.depends_on.contains_key(&of.service));
            if goes(&step.task) && touches(&on.task) && rests {
                require(place, other);
            }
        }
    }
    violations
}

/// A step that can be left out: all others still may be done, the goal is reached, and nobody asked for it.
fn needless(plan: &Plan, before: &[Vec<bool>], input: &Input<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (place, step) in plan.steps.iter().enumerate() {
        let is_missed = || {
            let order: Vec<usize> = (0..plan.steps.len()).filter(|other| *other != place).collect();
            !simulate(plan, &order, input).is_empty()
        };
        let is_needed = match (&step.task, &step.reason) {
            (Task::Prepared { .. } | Task::Ready { .. }, _) => joins(plan, place),
            (Task::Await { slot, condition }, _) => {
                is_missed() || is_awaited(plan, (place, slot, condition), before, input)
            }
            // That something was run again is seen of nothing but that it was.
            (_, StepReason::DependencyRestarts { slot }) => is_missed() || follows(plan, step, slot, input),
            _ => is_missed(),
        };
        if !is_needed {
            violations.push(Violation::Needless(step.number));
        }
    }
    violations
}

/// Some step has only this join to say that it waits for some other one: neither an edge nor another join
/// does. What follows from steps that do something is not looked at: they may be missing from the next plan.
fn joins(plan: &Plan, place: usize) -> bool {
    let number = plan.steps[place].number;
    let of = |step: u32| plan.steps[step as usize - 1].after.iter().map(|after| after.step);
    let is_join = |step: u32| {
        let task = &plan.steps[step as usize - 1].task;
        step != number && matches!(task, Task::Prepared { .. } | Task::Ready { .. })
    };
    let says = |waiting: u32, on: u32| {
        of(waiting).any(|step| step == on || is_join(step) && of(step).any(|step| step == on))
    };
    let mut waiting = plan.steps.iter().filter(|step| of(step.number).any(|on| on == number));
    waiting.any(|waiting| of(number).any(|on| !says(waiting.number, on)))
}

/// Somebody who waits for it is declared to, and it does not hold anyway; or a copy that makes room for
/// this one.
fn is_awaited(
    plan: &Plan,
    (place, slot, condition): (usize, &SlotId, &Condition),
    before: &[Vec<bool>],
    input: &Input<'_>,
) -> bool {
    let mut world = input.world.clone();
    for (_, other) in plan.steps.iter().enumerate().filter(|(other, _)| before[place][*other]) {
        effect(&other.task, &mut world, input);
    }
    let case = Case::new(*input);
    let is_declared = |step: &Step| {
        let wish = step.slot().and_then(|waiting| case.wish(waiting));
        let edge = wish.and_then(|wish| wish.spec.depends_on.get(&slot.service));
        starts(&step.task) && edge.is_some_and(|edge| edge.condition == *condition)
    };
    let number = plan.steps[place].number;
    let waiting: Vec<&Step> =
        plan.steps.iter().filter(|step| step.after.iter().any(|after| after.step == number)).collect();
    let is_probed = case.wish(slot).is_some_and(|wish| wish.spec.readiness().is_some());
    let makes_room = |step: &&Step| matches!(step.task, Task::Stop { .. }) && step.slot() == Some(slot);
    let holds = || is_so(slot, condition, &world, input);
    is_probed && waiting.iter().any(makes_room) || waiting.into_iter().any(is_declared) && !holds()
}

/// It is run again after something that is, as it is declared to be.
fn follows(plan: &Plan, step: &Step, renewed: &SlotId, input: &Input<'_>) -> bool {
    let wish = step.slot().and_then(|slot| input.wanted.get(slot));
    let edge = wish.and_then(|wish| wish.spec.depends_on.get(&renewed.service));
    let is_renewed = |step: &Step| starts(&step.task) && step.slot() == Some(renewed);
    edge.is_some_and(|edge| edge.restart) && plan.steps.iter().any(is_renewed)
}

fn starts(task: &Task) -> bool {
    matches!(task, Task::Start { .. } | Task::Replace { .. })
}
