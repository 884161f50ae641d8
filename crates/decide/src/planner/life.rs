//! What a slot needs, walked backwards from its goal: which of its containers stays, which is made, which
//! goes.

use std::collections::BTreeMap;

use upbeat_model::plan::{Container, ContainerState, Observed, StepReason, Strategy};
use upbeat_model::target::{Goal, TargetSlot};
use upbeat_model::{Phase, SlotId};

use super::case::{Case, Seat};
use super::change::{Action, Change, Copy, change, start_or_replace};
use super::supplies::{Need, Supplies, Supply};

/// Which container is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Started<'a> {
    /// The one that is made.
    New,
    /// One that is there.
    There(&'a str),
}

/// All that happens in one slot.
pub(super) struct Life<'a> {
    pub(super) slot: &'a SlotId,
    pub(super) wish: Option<&'a TargetSlot>,
    pub(super) reason: StepReason,
    /// What a process of it does.
    pub(super) process: Option<Action>,
    /// A container is made.
    pub(super) makes: bool,
    pub(super) starts: Option<Started<'a>>,
    /// Containers that are stopped.
    pub(super) stops: Vec<(&'a str, &'a Container)>,
    /// Containers that are removed.
    pub(super) removes: Vec<(&'a str, &'a Container)>,
    /// A container that comes to belong to another release.
    pub(super) migrates: Option<&'a str>,
    /// How one is replaced by the other; settled once all lives are known.
    pub(super) strategy: Strategy,
    /// What it is in is made anew, so that its new container cannot be made beside the old one.
    pub(super) is_renewed: bool,
    /// What is wanted runs already in a temporary slot, left there by a plan that was interrupted.
    pub(super) beside: Option<&'a Container>,
    /// Something that runs has to stop before its new container can be made.
    pub(super) waits_for_stop: bool,
    /// Something it uses is made anew when it has gone.
    pub(super) is_in_the_way: bool,
    /// It stops when the others have started.
    pub(super) is_late: bool,
}

/// What a slot needs by itself. A process by the rules of its machine; a container by the same, and by
/// which containers there are.
pub(super) fn needed(case: &Case<'_>, supplies: &Supplies<'_>, seat: &Seat<'_>) -> Option<Change> {
    let Seat { there, seen, current, wanted: wish, .. } = seat;
    let (seen, current, wish) = (*seen, *current, *wish);
    let is_container = |target: &TargetSlot| target.spec.container.is_some();
    if let Some(wish) = wish.filter(|wish| is_container(wish)) {
        let is_process = there.is_empty()
            && current.is_some_and(|current| !is_container(current))
            && seen.is_some_and(|seen| seen.phase.is_alive());
        return match wish.goal {
            Goal::Running if is_process => Some(Change { action: Action::Replace, reason: changed_kind() }),
            Goal::Running => of_running(case, supplies, seat, wish),
            Goal::Stopped if is_process => change(seen, current, Some(wish)),
            Goal::Stopped => of_stopped(case, supplies, seat, wish),
            Goal::Absent => of_absent(seen, current, wish, there),
        };
    }
    match (there.is_empty(), wish) {
        (true, _) => change(seen, current, wish),
        (false, Some(wish)) if wish.goal == Goal::Running => {
            Some(Change { action: Action::Replace, reason: changed_kind() })
        }
        _ => Some(Change { action: Action::Remove, reason: StepReason::NotDeclared }),
    }
}

fn changed_kind() -> StepReason {
    StepReason::Changed { fields: vec!["image".to_owned()] }
}

fn of_absent(
    seen: Option<&Observed>,
    current: Option<&TargetSlot>,
    wish: &TargetSlot,
    there: &[(&str, &Container)],
) -> Option<Change> {
    match there.is_empty() {
        true => change(seen, current, Some(wish)),
        false => Some(Change { action: Action::Remove, reason: StepReason::NotDeclared }),
    }
}

/// The one that counts: that runs, else that is as wanted, else any.
fn principal<'a>(case: &Case<'a>, seat: &Seat<'a>, wish: &TargetSlot) -> Option<(&'a str, &'a Container)> {
    let Seat { slot, there, .. } = seat;
    let by = |which: &dyn Fn(&Container) -> bool| there.iter().find(|(_, c)| which(c)).copied();
    let runs = by(&|c| c.state.is_running() && !c.temporary).or_else(|| by(&|c| c.state.is_running()));
    runs.or_else(|| by(&|c| case.fits(c, slot, wish))).or(there.first().copied())
}

fn of_running<'a>(
    case: &Case<'a>,
    supplies: &Supplies<'_>,
    seat: &Seat<'a>,
    wish: &TargetSlot,
) -> Option<Change> {
    let Seat { slot, seen, current, .. } = *seat;
    let Some((_, container)) = principal(case, seat, wish) else {
        let new = Change { action: Action::Start, reason: StepReason::New };
        let Some(seen) = seen.filter(|seen| seen.phase != Phase::Absent) else { return Some(new) };
        // Its container was removed by somebody; what had ended for good stays so.
        let phase = if seen.phase.is_alive() { Phase::Stopped } else { seen.phase };
        return start_or_replace(phase, &Copy::of(Some(seen), current, wish), current, wish);
    };
    let renewed = renewed(supplies, container);
    let is_as_wanted = case.fits(container, slot, wish);
    let copy = Copy { other_digest: !is_as_wanted || renewed.is_some(), ..Copy::of(seen, current, wish) };
    let phase = phase_of(container, seen.map(|seen| seen.phase));
    let mut change = start_or_replace(phase, &copy, current, wish)?;
    if matches!(change.reason, StepReason::Changed { .. }) {
        match renewed {
            Some(because) if is_as_wanted => change.reason = because,
            _ if container.digest == wish.digest => change.reason = changed_kind(),
            _ => {}
        }
    }
    Some(change)
}

/// What of that which a container uses is made anew.
fn renewed(supplies: &Supplies<'_>, container: &Container) -> Option<StepReason> {
    let network = supplies.renewed_network(&container.networks);
    let network = network.map(|name| StepReason::NetworkRenewed { network: name.to_owned() });
    let volume = || supplies.renewed_volume(&container.volumes);
    network.or_else(|| volume().map(|name| StepReason::VolumeRenewed { volume: name.to_owned() }))
}

/// Something it uses cannot be made anew before it is gone.
fn needs_renewal(supplies: &Supplies<'_>, container: &Container) -> bool {
    let networks = container.networks.iter().any(|name| is_renewed(&supplies.networks, name));
    networks || container.volumes.iter().any(|name| is_renewed(&supplies.volumes, name))
}

/// Whether it will use something that is made anew, and something of that which is in use now.
fn joins_renewed(supplies: &Supplies<'_>, wish: &TargetSlot) -> (bool, bool) {
    let Some(container) = wish.spec.container.as_deref() else { return (false, false) };
    let mut joins = (false, false);
    let mut join = |need: Need, is_held: bool| {
        joins.0 |= need == Need::Renewed;
        joins.1 |= need == Need::Renewed && is_held;
    };
    for attachment in container.networks() {
        let supply = supplies.networks.get(attachment.network.name.as_str());
        supply.into_iter().for_each(|supply| join(supply.need, supply.is_held));
    }
    for volume in container.volumes() {
        let supply = supplies.volumes.get(volume.name.as_str());
        supply.into_iter().for_each(|supply| join(supply.need, supply.is_held));
    }
    joins
}

fn is_renewed<T>(supplies: &BTreeMap<&str, Supply<T>>, name: &str) -> bool {
    supplies.get(name).is_some_and(|supply| supply.need == Need::Renewed)
}

/// The phase of a slot, by what its container shows and, where that leaves it open, by its machine.
fn phase_of(container: &Container, seen: Option<Phase>) -> Phase {
    let resting = seen.filter(|phase| !phase.is_alive() && *phase != Phase::Absent);
    match container.state {
        ContainerState::Running => seen.filter(|phase| phase.is_alive()).unwrap_or(Phase::Running),
        ContainerState::Healthy => seen.filter(|phase| phase.is_alive()).unwrap_or(Phase::Healthy),
        ContainerState::Created => Phase::Stopped,
        ContainerState::Stopped => resting.unwrap_or(Phase::Stopped),
        ContainerState::Completed => resting.unwrap_or(Phase::Completed),
        ContainerState::Failed => resting.unwrap_or(Phase::Failed),
    }
}

/// It shall not run. Where releases are kept track of, a container as wanted shall be there all the same.
fn of_stopped(
    case: &Case<'_>,
    supplies: &Supplies<'_>,
    seat: &Seat<'_>,
    wish: &TargetSlot,
) -> Option<Change> {
    let Seat { slot, there, .. } = seat;
    let runs = there.iter().any(|(_, container)| container.state.is_running());
    let asked = |action| Some(Change { action, reason: StepReason::Asked });
    if !case.is_tracked(&slot.app) {
        return if runs { asked(Action::Stop) } else { None };
    }
    let is_good = |c: &Container| case.fits(c, slot, wish) && renewed(supplies, c).is_none();
    match there.iter().any(|(_, container)| is_good(container)) {
        false if there.is_empty() => Some(Change { action: Action::Make, reason: StepReason::New }),
        false => Some(Change { action: Action::Make, reason: changed_kind() }),
        true if runs => asked(Action::Stop),
        true => None,
    }
}

impl<'a> Life<'a> {
    /// What follows from a change, or from none; nothing where the slot stays as it is.
    pub(super) fn of(
        case: &Case<'a>,
        supplies: &Supplies<'_>,
        seat: &Seat<'a>,
        change: Option<Change>,
    ) -> Option<Self> {
        let Seat { slot, there, .. } = seat;
        let wish = seat.wanted.filter(|wish| wish.goal != Goal::Absent);
        let action = change.as_ref().map(|change| change.action);
        let reason = change.map_or(StepReason::Superseded, |change| change.reason);
        let mut life = Self {
            slot,
            wish,
            reason,
            process: None,
            makes: false,
            starts: None,
            stops: Vec::new(),
            removes: Vec::new(),
            migrates: None,
            strategy: case.strategy(slot),
            is_renewed: false,
            beside: None,
            waits_for_stop: false,
            is_in_the_way: false,
            is_late: false,
        };
        match wish.filter(|wish| wish.spec.container.is_some()) {
            Some(wish) => life.fill(case, supplies, (seat, wish), action),
            None if there.is_empty() => life.process = action,
            None => {
                life.process = action.filter(|_| wish.is_some()).map(|_| Action::Start);
                life.dismiss(there.iter().copied());
            }
        }
        life.is_in_the_way = life.removes.iter().any(|(_, container)| needs_renewal(supplies, container));
        let joins = wish.map_or((false, false), |wish| joins_renewed(supplies, wish));
        life.is_renewed = life.makes && (life.is_in_the_way || joins.0);
        life.waits_for_stop = life.makes_anew() && (joins.1 || !life.stops.is_empty());
        let is_empty = life.process.is_none()
            && !life.makes
            && life.starts.is_none()
            && life.stops.is_empty()
            && life.removes.is_empty()
            && life.migrates.is_none();
        (!is_empty).then_some(life)
    }

    fn fill(
        &mut self,
        case: &Case<'a>,
        supplies: &Supplies<'_>,
        (seat, wish): (&Seat<'a>, &'a TargetSlot),
        action: Option<Action>,
    ) {
        let Seat { slot, there, .. } = seat;
        let is_good = |container: &Container| {
            case.fits(container, slot, wish) && renewed(supplies, container).is_none()
        };
        let good = there.iter().filter(|(_, container)| is_good(container));
        let first = principal(case, seat, wish).filter(|(_, container)| is_good(container));
        let kept = first.or_else(|| good.max_by_key(|(_, c)| (c.state.is_running(), !c.temporary)).copied());
        let others = || there.iter().copied().filter(|(name, _)| Some(*name) != kept.map(|(name, _)| name));
        match action {
            Some(Action::Start | Action::Replace) => {
                let running = kept.filter(|(_, container)| container.state.is_running());
                let counts = principal(case, seat, wish).map(|(name, _)| name);
                self.beside = running.filter(|(name, _)| Some(*name) != counts).map(|(_, c)| c);
                self.makes = kept.is_none();
                if self.beside.is_none() {
                    self.starts = Some(kept.map_or(Started::New, |(name, _)| Started::There(name)));
                    self.stops.extend(running);
                }
                self.dismiss(others());
                if there.is_empty() && action == Some(Action::Replace) {
                    self.process = Some(Action::Stop);
                }
            }
            Some(Action::Make) => {
                self.makes = true;
                self.dismiss(others());
            }
            Some(Action::Stop) if there.is_empty() => self.process = Some(Action::Stop),
            Some(Action::Stop) => {
                self.stops.extend(there.iter().copied().filter(|(_, c)| c.state.is_running()));
                if case.is_tracked(&slot.app) {
                    self.removes.extend(others());
                }
            }
            // Beside what is wanted something may have been left. What is wanted and stopped, and not as
            // wanted, stays so until it shall run.
            Some(Action::Remove) | None => {
                if kept.is_some() && (wish.goal == Goal::Running || case.is_tracked(&slot.app)) {
                    self.dismiss(others());
                }
            }
        }
        let goes = |c: &Container| wish.goal == Goal::Stopped && needs_renewal(supplies, c);
        if !case.is_tracked(&slot.app) {
            self.removes.extend(there.iter().copied().filter(|(_, c)| goes(c)));
        }
        let is_other = |c: &Container| c.release.is_some_and(|release| release != wish.release);
        self.migrates = kept.filter(|(_, c)| case.is_tracked(&slot.app) && is_other(c)).map(|(name, _)| name);
    }

    /// Stops what runs of them, and removes all.
    fn dismiss(&mut self, them: impl Iterator<Item = (&'a str, &'a Container)>) {
        for (name, container) in them {
            if container.state.is_running() {
                self.stops.push((name, container));
            }
            self.removes.push((name, container));
        }
    }

    /// It is not wanted any more.
    pub(super) fn is_dropped(&self) -> bool {
        self.wish.is_none()
    }

    /// Its container cannot be made, or shall not be, before others have gone.
    pub(super) fn makes_anew(&self) -> bool {
        let is_recreated = self.strategy == Strategy::Recreate && !self.removes.is_empty();
        self.makes && (self.is_renewed || is_recreated)
    }

    /// It runs something else for a while, or for good.
    pub(super) fn goes_down(&self) -> bool {
        !self.stops.is_empty()
            || matches!(self.process, Some(Action::Stop | Action::Remove | Action::Replace))
    }
}
