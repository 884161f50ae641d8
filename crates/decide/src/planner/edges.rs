//! Edges between services: who rests on something starts after it, and stops before it.

use upbeat_model::plan::{Container, ContainerState, StepReason};
use upbeat_model::project::{Condition, Dependency, OnFailure};
use upbeat_model::target::{Goal, TargetSlot};
use upbeat_model::{Phase, Service, ServiceName, SlotId};

use super::NoPlan;
use super::build::Build;
use super::case::Case;
use super::change::Action;
use super::graph::Node;

/// How a condition stands with a slot nothing is done about.
pub(super) enum Stands {
    Holds,
    /// It may come to hold by itself.
    Later,
    /// Not without another wish.
    Never(&'static str),
}

impl<'a> Build<'a, '_> {
    /// Kind 1: a start waits for its dependencies' starts, by the condition of the edge.
    pub(super) fn start_edges(&mut self) -> Result<(), NoPlan> {
        for place in 0..self.lives.len() {
            let life = &self.lives[place];
            let (Some(node), Some(wish)) = (self.own[place].starts, life.wish) else { continue };
            for (service, edge) in &wish.spec.depends_on {
                let mut copies = self.case.copies(&life.slot.app, service).peekable();
                if copies.peek().is_none() {
                    refuse(life.slot, wish, service, edge, "it is not declared")?;
                }
                for copy in copies {
                    self.start_edge((node, life.slot, wish), (service, edge), copy)?;
                }
            }
        }
        Ok(())
    }

    fn start_edge(
        &mut self,
        (node, slot, wish): (Node, &'a SlotId, &'a TargetSlot),
        (service, edge): (&ServiceName, &Dependency),
        (on, of): (&'a SlotId, &'a TargetSlot),
    ) -> Result<(), NoPlan> {
        let place = self.lives.binary_search_by(|life| life.slot.cmp(on)).ok();
        let asked = edge.condition.clone();
        let reason = || StepReason::NeededBy { slot: slot.clone() };
        if let Some(starts) = place.and_then(|place| self.own[place].starts) {
            let is_waited_for = of.spec.container.is_some() && takes_time(&asked, &of.spec);
            let on = match is_waited_for {
                true => self.awaits(on, &asked, reason())?,
                false => starts,
            };
            return self.graph.wait_for(node, on, Some(asked));
        }
        let is_container = wish.spec.container.is_some();
        let goes = place.is_some_and(|place| {
            let life = &self.lives[place];
            life.goes_down() && life.beside.is_none()
        });
        let stands = match goes || of.goal != Goal::Running && !rests_well(self.case, on, &asked) {
            true => Stands::Never("that shall be stopped"),
            false => stands(self.case, on, of, &asked),
        };
        match stands {
            Stands::Holds => Ok(()),
            Stands::Later if is_container || of.spec.container.is_some() => {
                let on = self.awaits(on, &asked, reason())?;
                self.graph.wait_for(node, on, Some(asked))
            }
            Stands::Later => Ok(()),
            Stands::Never(why) => refuse(slot, wish, service, edge, why),
        }
    }

    /// Kind 2: a stop waits for the stops of those that rest on it and go down too.
    pub(super) fn stop_edges(&mut self) -> Result<(), NoPlan> {
        for place in 0..self.lives.len() {
            let life = &self.lives[place];
            let Some(now) = self.case.current(life.slot) else { continue };
            let own = self.own[place].stops.iter().copied().chain(self.own[place].ends);
            let own: Vec<Node> = own.collect();
            for service in now.spec.depends_on.keys() {
                let app = &life.slot.app;
                let is_copy = |slot: &SlotId| slot.app == *app && slot.service == *service;
                let first =
                    self.lives.partition_point(|life| (&life.slot.app, &life.slot.service) < (app, service));
                let copies = self.lives[first..].iter().zip(&self.own[first..]);
                for (other, down) in copies.take_while(|(life, _)| is_copy(life.slot)) {
                    let replaced = down.starts.filter(|_| other.process == Some(Action::Replace));
                    for on in down.stops.iter().copied().chain(down.ends).chain(replaced) {
                        own.iter().try_for_each(|stops| self.graph.wait(on, *stops))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// No plan is made for a container that could never start. What becomes of a process in that case its
/// machine says, which may have been told to wait or to go on.
fn refuse(
    slot: &SlotId,
    wish: &TargetSlot,
    service: &ServiceName,
    edge: &Dependency,
    why: &'static str,
) -> Result<(), NoPlan> {
    if wish.spec.container.is_none() || !edge.required || edge.on_failure != OnFailure::Fail {
        return Ok(());
    }
    let (slot, on, condition) = (slot.clone(), service.clone(), edge.condition.clone());
    Err(NoPlan::NeverHolds { slot, on, condition, why })
}

/// A condition holds some time after the start, and not with it.
pub(super) fn takes_time(condition: &Condition, spec: &Service) -> bool {
    match condition {
        Condition::Started => false,
        Condition::Healthy | Condition::Ready => spec.readiness().is_some(),
        _ => true,
    }
}

/// It shall not run, and that is as the condition asks.
fn rests_well(case: &Case<'_>, slot: &SlotId, condition: &Condition) -> bool {
    let rests = |(_, container): &(&str, &Container)| container_rests_well(container.state, condition);
    case.containers(slot).iter().any(rests)
}

pub(super) fn container_rests_well(state: ContainerState, condition: &Condition) -> bool {
    match condition {
        Condition::Completed => matches!(state, ContainerState::Completed | ContainerState::Failed),
        Condition::Started | Condition::CompletedSuccessfully | Condition::Ready => {
            state == ContainerState::Completed
        }
        Condition::Failed => state == ContainerState::Failed,
        _ => false,
    }
}

/// How a condition stands with a slot that stays as it is and shall run.
fn stands(case: &Case<'_>, slot: &SlotId, wish: &TargetSlot, condition: &Condition) -> Stands {
    if wish.spec.container.is_none() {
        return case.observed(slot).map_or(Stands::Later, |seen| process_stands(seen.phase, condition));
    }
    let there = case.containers(slot);
    let runs = there.iter().find(|(_, container)| container.state.is_running());
    if let Some((_, container)) = runs {
        let is_ready = container.state == ContainerState::Healthy
            || case.observed(slot).is_some_and(|seen| seen.phase == Phase::Healthy);
        return match condition {
            Condition::Healthy | Condition::Ready if is_ready => Stands::Holds,
            _ if takes_time(condition, &wish.spec) => Stands::Later,
            _ => Stands::Holds,
        };
    }
    match rests_well(case, slot, condition) {
        true => Stands::Holds,
        false => Stands::Never("that has ended and is left so"),
    }
}

pub(super) fn process_stands(phase: Phase, condition: &Condition) -> Stands {
    match (phase, condition) {
        (Phase::Failed, Condition::Failed | Condition::Completed) => Stands::Holds,
        (Phase::Completed, Condition::Healthy | Condition::Failed) => Stands::Never("that has ended"),
        (Phase::Completed, _) => Stands::Holds,
        (Phase::Failed | Phase::DependencyFailed, _) => Stands::Never("that has failed"),
        (phase, Condition::Started) if phase.is_alive() => Stands::Holds,
        (phase, Condition::Healthy | Condition::Ready) if phase.is_ready() => Stands::Holds,
        _ => Stands::Later,
    }
}
