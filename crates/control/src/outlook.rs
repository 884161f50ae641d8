//! What a plan is made of, as far as control knows it.

use std::collections::BTreeMap;

use upbeat_decide::planner::{self, How, Input, Limits, Locks, Observed, Violation};
use upbeat_model::plan::{ContainerState, World};
use upbeat_model::project::container::ImageRef;
use upbeat_model::target::{Goal, TargetSlot};
use upbeat_model::{AppName, Phase, Plan, SlotId};

use crate::ControlError;

type Slots = BTreeMap<SlotId, TargetSlot>;

/// What is wanted of an app, what was wanted so far, and how its slots look: all that a plan is made of but
/// what only an engine knows.
#[derive(Clone, Debug)]
pub struct Outlook {
    pub(crate) app: AppName,
    pub(crate) current: Slots,
    pub(crate) wanted: Slots,
    pub(crate) observed: BTreeMap<SlotId, Observed>,
}

/// A plan, and the rules that it breaks: none, as far as the planner is right.
#[derive(Clone, Debug)]
pub struct Drafted {
    /// The plan.
    pub plan: Plan,
    /// What was found in it. Empty where nobody looked.
    pub violations: Vec<Violation>,
}

impl Outlook {
    /// Of which app.
    pub fn app(&self) -> &AppName {
        &self.app
    }

    /// Something of it is a container, or was one until now: an engine has to be asked.
    pub fn has_containers(&self) -> bool {
        let mut all = self.current.values().chain(self.wanted.values());
        all.any(|wish| wish.spec.container.is_some())
    }

    /// The copies that may hold an update lock now.
    pub fn locking(&self) -> impl Iterator<Item = &SlotId> {
        let locking = self.current.iter().filter(|(_, wish)| wish.spec.update_lock);
        locking.map(|(slot, _)| slot)
    }

    /// Images that are wanted.
    pub fn images(&self) -> impl Iterator<Item = &ImageRef> {
        let wanted = self.wanted.values().filter(|wish| wish.goal != Goal::Absent);
        wanted.filter_map(|wish| Some(&wish.spec.container.as_deref()?.image))
    }

    /// The plan, from what an engine says is there; with `lint`, looked over. Errors: why there is none.
    pub fn plan(&self, there: World, locks: Locks, lint: bool) -> Result<Drafted, ControlError> {
        let mut world = World { observed: self.observed.clone(), ..there };
        for container in world.containers.values_mut() {
            let phase = world.observed.get(&container.slot).map(|seen| seen.phase);
            container.state = settled(container.state, phase);
        }
        let (current, wanted) = (&self.current, &self.wanted);
        let (how, limits) = (How { locks, ..How::default() }, Limits::default());
        let input = Input { world: &world, current, wanted, how: &how, limits };
        let plan = planner::plan(&input).map_err(|refusal| ControlError::Refused(refusal.to_string()))?;
        let violations = if lint { planner::lint(&plan, &input) } else { Vec::new() };
        Ok(Drafted { plan, violations })
    }
}

/// How a container is: whether it ended by itself or was stopped only its machine knows.
fn settled(state: ContainerState, phase: Option<Phase>) -> ContainerState {
    match (state, phase) {
        (ContainerState::Running, Some(Phase::Healthy)) => ContainerState::Healthy,
        (ContainerState::Completed | ContainerState::Failed, Some(phase)) => match phase {
            Phase::Stopped => ContainerState::Stopped,
            Phase::Completed => ContainerState::Completed,
            Phase::Failed => ContainerState::Failed,
            _ => state,
        },
        _ => state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whether_an_end_was_wanted_the_machine_says() {
        let (ended, ran) = (ContainerState::Failed, ContainerState::Running);
        assert_eq!(settled(ended, Some(Phase::Stopped)), ContainerState::Stopped);
        assert_eq!(settled(ended, Some(Phase::Completed)), ContainerState::Completed);
        assert_eq!(settled(ended, Some(Phase::BackingOff)), ContainerState::Failed);
        assert_eq!(settled(ended, None), ContainerState::Failed);
        assert_eq!(settled(ran, Some(Phase::Healthy)), ContainerState::Healthy);
        assert_eq!(settled(ran, Some(Phase::Stopped)), ContainerState::Running);
        assert_eq!(settled(ContainerState::Created, Some(Phase::Stopped)), ContainerState::Created);
    }
}
