//! The table of tasks: when each may be done, and what is so afterwards.
//!
//! The planner is made so that its steps keep this table; it is looked at by the linter, by the tests and
//! by whoever carries a plan out and wants to know whether a step still may be done.

use std::collections::BTreeSet;

use upbeat_model::plan::{Container, ContainerState, HostPort, Kept, Observed, Strategy, Task, World};
use upbeat_model::project::container::{self, PullPolicy};
use upbeat_model::project::{Condition, OnFailure};
use upbeat_model::target::{Goal, TargetSlot};
use upbeat_model::{Phase, SlotId};

use super::case::{Case, Input, Locks, Volumes};
use super::clashes::final_name;
use super::edges::{Stands, container_rests_well, process_stands, takes_time};

/// Why a task may not be done now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmet {
    /// It is there already.
    #[error("{0} is there already")]
    There(String),
    /// It is not there.
    #[error("{0} is not there")]
    NotThere(String),
    /// It runs.
    #[error("{0} runs")]
    Runs(String),
    /// It does not run.
    #[error("{0} does not run")]
    DoesNotRun(String),
    /// It is not what is wanted.
    #[error("{0} is not what is wanted")]
    NotWanted(String),
    /// Something uses it.
    #[error("{0} is used")]
    Used(String),
    /// A condition of what it rests on does not hold.
    #[error("{0} does not hold")]
    DoesNotHold(String),
    /// Its update lock is held.
    #[error("{0} holds its update lock")]
    Locked(String),
}

/// Whether a task may be done in this world. Errors: the first condition that does not hold.
pub fn condition(task: &Task, world: &World, input: &Input<'_>) -> Result<(), Unmet> {
    let there = |is: bool, what: &dyn Fn() -> String| if is { Ok(()) } else { Err(Unmet::NotThere(what())) };
    let not_there = |is: bool, what: &dyn Fn() -> String| if is { Err(Unmet::There(what())) } else { Ok(()) };
    match task {
        Task::CreateApp { app } => not_there(world.apps.contains_key(app), &|| format!("app {app}")),
        Task::CreateRelease { app, release } => {
            let known = world.apps.get(app);
            there(known.is_some(), &|| format!("app {app}"))?;
            let is_known = known.is_some_and(|known| known.contains_key(&release.number));
            not_there(is_known, &|| format!("release {}", release.name))
        }
        Task::Pull { image, tag } | Task::Build { image, tag } => {
            let name = tag.as_ref().unwrap_or(image);
            let is_there = world.images.contains_key(name) && !is_fresh(image, input);
            not_there(is_there, &|| format!("image {name}"))?;
            there(may_be_got(image, input), &|| format!("leave to get image {image}"))
        }
        Task::Tag { image, .. } => there(world.images.contains_key(image), &|| format!("image {image}")),
        Task::CreateNetwork { network } => {
            not_there(world.networks.contains_key(network), &|| format!("network {network}"))
        }
        Task::CreateVolume { volume } => {
            not_there(world.volumes.contains_key(volume), &|| format!("volume {volume}"))
        }
        Task::Create { slot, container, release } => {
            if let Some(release) = release {
                let known =
                    world.apps.get(&slot.app).is_some_and(|known| known.contains_key(&release.number));
                there(known, &|| format!("release {}", release.name))?;
            }
            not_there(world.containers.contains_key(container), &|| format!("container {container}"))?;
            may_be_made(slot, world, input)
        }
        Task::Start { slot, container: Some(container), temporary, .. } => {
            may_start(slot, container, *temporary, world, input)
        }
        Task::Start { slot, .. } => nothing_runs(slot, false, world, input),
        Task::Stop { slot, container: Some(container), .. } => may_stop(slot, container, world, input),
        Task::Replace { slot } | Task::Stop { slot, .. } | Task::Remove { slot } => {
            unlocked(slot, world, input)
        }
        Task::RemoveContainer { container, .. } => {
            let found = world.containers.get(container);
            there(found.is_some(), &|| format!("container {container}"))?;
            let runs = found.is_some_and(|found| found.state.is_running());
            if runs { Err(Unmet::Runs(format!("container {container}"))) } else { Ok(()) }
        }
        Task::Migrate { slot, container, release } => {
            let known = world.apps.get(&slot.app).is_some_and(|known| known.contains_key(&release.number));
            there(known, &|| format!("release {}", release.name))?;
            there(world.containers.contains_key(container), &|| format!("container {container}"))
        }
        Task::Await { slot, condition } => may_come(slot, condition, world, input),
        Task::Prepared { .. } | Task::Ready { .. } => Ok(()),
        Task::RemoveNetwork { .. }
        | Task::RemoveVolume { .. }
        | Task::RemoveRelease { .. }
        | Task::RemoveApp { .. } => may_be_forgotten(task, world, input),
    }
}

/// Somebody who wants it lets it be pulled or built.
fn may_be_got(image: &str, input: &Input<'_>) -> bool {
    let mut containers = input.wanted.values().filter_map(|wish| wish.spec.container.as_deref());
    let may = |c: &container::Container| c.pull_policy != PullPolicy::Never || c.build.is_some();
    containers.any(|container| container.image.full() == image && may(container))
}

/// Somebody wants it asked for, though it is there.
fn is_fresh(image: &str, input: &Input<'_>) -> bool {
    let containers = input.wanted.values().filter_map(|wish| wish.spec.container.as_deref());
    let mut fresh = containers.filter(|c| matches!(c.pull_policy, PullPolicy::Always | PullPolicy::Build));
    fresh.any(|container| container.image.full() == image)
}

fn wish<'a>(slot: &SlotId, input: &Input<'a>) -> Result<&'a TargetSlot, Unmet> {
    let wish = input.wanted.get(slot).filter(|wish| wish.goal != Goal::Absent);
    wish.ok_or_else(|| Unmet::NotWanted(slot.to_string()))
}

fn may_be_made(slot: &SlotId, world: &World, input: &Input<'_>) -> Result<(), Unmet> {
    let wish = wish(slot, input)?;
    let Some(container) = wish.spec.container.as_deref() else {
        return Err(Unmet::NotWanted(slot.to_string()));
    };
    let image = image_name(slot, wish, input);
    if !world.images.contains_key(&image) {
        return Err(Unmet::NotThere(format!("image {image}")));
    }
    let name = final_name(slot, container);
    if world.foreign.contains_key(&name) {
        return Err(Unmet::Used(format!("the name {name}")));
    }
    let is_ours = |kept: &Kept| kept.app.as_ref() == Some(&slot.app);
    let is_right = |kept: Option<&Kept>, external: bool, digest: &dyn Fn() -> String| {
        let is_same = |kept: &Kept| kept.digest.as_ref().is_none_or(|is| *is == digest());
        kept.is_some_and(|kept| external || is_ours(kept) && is_same(kept))
    };
    for attachment in container.networks() {
        let network = &attachment.network;
        if !is_right(world.networks.get(&network.name), network.external, &|| network.digest()) {
            return Err(Unmet::NotThere(format!("network {}", network.name)));
        }
    }
    for volume in container.volumes() {
        let there = world.volumes.get(&volume.name);
        // One of somebody else is used as it is, and so is one of ours that shall keep what is in it.
        let is_kept = input.how.volumes == Volumes::Keep;
        let as_it_is = volume.external || is_kept || there.is_some_and(|kept| !is_ours(kept));
        if !is_right(there, as_it_is, &|| volume.digest()) {
            return Err(Unmet::NotThere(format!("volume {}", volume.name)));
        }
    }
    Ok(())
}

fn image_name(slot: &SlotId, wish: &TargetSlot, input: &Input<'_>) -> String {
    let image = wish.spec.container.as_ref().map(|container| container.image.full());
    input.tag(slot, wish).or(image).unwrap_or_default()
}

fn of_slot<'a>(slot: &'a SlotId, world: &'a World) -> impl Iterator<Item = (&'a String, &'a Container)> {
    world.containers.iter().filter(move |(_, container)| container.slot == *slot)
}

/// Never two in one slot: neither in the slot itself nor in the temporary one beside it.
fn nothing_runs(slot: &SlotId, temporary: bool, world: &World, input: &Input<'_>) -> Result<(), Unmet> {
    let running = |(_, c): &(&String, &Container)| c.state.is_running() && c.temporary == temporary;
    if let Some((name, _)) = of_slot(slot, world).find(running) {
        return Err(Unmet::Runs(format!("container {name}")));
    }
    // What a machine shows of a slot is about a process where that was wanted so far.
    let was_process = input.current.get(slot).is_some_and(|now| now.spec.container.is_none());
    let in_container = of_slot(slot, world).any(|(_, container)| container.state.is_running());
    let shows_one = world.observed.get(slot).is_some_and(|seen| seen.phase.is_alive());
    match was_process && shows_one && !in_container {
        true => Err(Unmet::Runs(format!("process {slot}"))),
        false => Ok(()),
    }
}

fn may_start(
    slot: &SlotId,
    name: &str,
    temporary: bool,
    world: &World,
    input: &Input<'_>,
) -> Result<(), Unmet> {
    let wish = wish(slot, input)?;
    let found = world.containers.get(name).ok_or_else(|| Unmet::NotThere(format!("container {name}")))?;
    if found.digest != wish.digest || found.slot != *slot || wish.goal != Goal::Running {
        return Err(Unmet::NotWanted(format!("container {name}")));
    }
    nothing_runs(slot, temporary, world, input)?;
    if let Some(network) = found.networks.iter().find(|network| !world.networks.contains_key(*network)) {
        return Err(Unmet::NotThere(format!("network {network}")));
    }
    let others = world.containers.iter().filter(|(other, c)| *other != name && c.state.is_running());
    for (other, container) in others {
        if found.ports.iter().any(|port| container.ports.iter().any(|held| held.clashes(port))) {
            return Err(Unmet::Used(format!("a port that container {other} holds")));
        }
    }
    for (service, edge) in &wish.spec.depends_on {
        if !edge.required || edge.on_failure != OnFailure::Fail {
            continue;
        }
        let of_service = |on: &SlotId| on.app == slot.app && on.service == *service;
        let copies = input.wanted.iter().filter(|(on, of)| of_service(on) && of.goal != Goal::Absent);
        if copies.clone().next().is_none() {
            return Err(Unmet::NotThere(format!("service {service}")));
        }
        // Of processes their machines know more than stands here.
        for (on, of) in copies.filter(|(_, of)| of.spec.container.is_some()) {
            if !holds(on, of, &edge.condition, world) {
                return Err(Unmet::DoesNotHold(format!("{} of {on}", edge.condition)));
            }
        }
    }
    Ok(())
}

fn holds(slot: &SlotId, wish: &TargetSlot, condition: &Condition, world: &World) -> bool {
    of_slot(slot, world).any(|(_, container)| {
        let runs = container.state.is_running();
        let is_ready = container.state == ContainerState::Healthy
            || runs && world.observed.get(slot).is_some_and(|seen| seen.phase == Phase::Healthy);
        let is_still = container_rests_well(container.state, condition);
        is_still || is_ready && !ends(condition) || runs && !takes_time(condition, &wish.spec)
    })
}

/// Whether a condition of a wanted slot holds in this world.
pub(super) fn is_so(slot: &SlotId, condition: &Condition, world: &World, input: &Input<'_>) -> bool {
    let Ok(wish) = wish(slot, input) else { return false };
    if wish.spec.container.is_some() {
        return holds(slot, wish, condition, world);
    }
    let seen = world.observed.get(slot);
    seen.is_some_and(|seen| matches!(process_stands(seen.phase, condition), Stands::Holds))
}

/// The condition is about an end.
fn ends(condition: &Condition) -> bool {
    matches!(condition, Condition::CompletedSuccessfully | Condition::Completed | Condition::Failed)
}

fn unlocked(slot: &SlotId, world: &World, input: &Input<'_>) -> Result<(), Unmet> {
    let is_locked = world.locks.contains_key(&(slot.app.clone(), slot.service.clone()));
    let runs = world.observed.get(slot).is_some_and(|seen| seen.phase.is_alive())
        || of_slot(slot, world).any(|(_, container)| container.state.is_running());
    match is_locked && runs && input.how.locks == Locks::Respected {
        true => Err(Unmet::Locked(slot.to_string())),
        false => Ok(()),
    }
}

fn may_stop(slot: &SlotId, name: &str, world: &World, input: &Input<'_>) -> Result<(), Unmet> {
    let found = world.containers.get(name).ok_or_else(|| Unmet::NotThere(format!("container {name}")))?;
    if !found.state.is_running() {
        return Err(Unmet::DoesNotRun(format!("container {name}")));
    }
    unlocked(slot, world, input)?;
    let beside = of_slot(slot, world).find(|(_, container)| container.temporary && !found.temporary);
    let Some((beside, container)) = beside else { return Ok(()) };
    let is_asked = input.wanted.get(slot).is_some_and(|wish| wish.spec.readiness().is_some());
    // A job that has ended well needs no place any more.
    let is_ready = matches!(container.state, ContainerState::Healthy | ContainerState::Completed);
    match is_ready || !is_asked {
        true => Ok(()),
        false => Err(Unmet::DoesNotHold(format!("readiness of container {beside}"))),
    }
}

fn may_come(slot: &SlotId, condition: &Condition, world: &World, input: &Input<'_>) -> Result<(), Unmet> {
    let wish = wish(slot, input)?;
    if wish.spec.container.is_none() || holds(slot, wish, condition, world) {
        return Ok(());
    }
    match of_slot(slot, world).any(|(_, container)| container.state.is_running()) {
        true => Ok(()),
        false => Err(Unmet::DoesNotRun(slot.to_string())),
    }
}

fn may_be_forgotten(task: &Task, world: &World, input: &Input<'_>) -> Result<(), Unmet> {
    let is_used = |uses: &dyn Fn(&Container) -> bool, what: String| match world.containers.values().any(uses)
    {
        true => Err(Unmet::Used(what)),
        false => Ok(()),
    };
    let is_ours = |kept: Option<&Kept>, what: String| match kept {
        None => Err(Unmet::NotThere(what)),
        Some(Kept { app: None, .. }) => Err(Unmet::NotWanted(what)),
        Some(_) => Ok(()),
    };
    match task {
        Task::RemoveNetwork { network } => {
            is_ours(world.networks.get(network), format!("network {network}"))?;
            if world.strangers.contains_key(network) {
                return Err(Unmet::Used(format!("network {network}")));
            }
            is_used(&|container| container.networks.contains(network), format!("network {network}"))
        }
        Task::RemoveVolume { volume } => {
            is_ours(world.volumes.get(volume), format!("volume {volume}"))?;
            if input.how.volumes == Volumes::Keep {
                return Err(Unmet::NotWanted(format!("the loss of volume {volume}")));
            }
            is_used(&|container| container.volumes.contains(volume), format!("volume {volume}"))
        }
        Task::RemoveRelease { app, release } => {
            if !world.apps.get(app).is_some_and(|known| known.contains_key(&release.number)) {
                return Err(Unmet::NotThere(format!("release {}", release.name)));
            }
            let is_of = |c: &Container| c.slot.app == *app && c.release == Some(release.number);
            is_used(&is_of, format!("release {}", release.name))
        }
        Task::RemoveApp { app } => match world.apps.get(app) {
            None => Err(Unmet::NotThere(format!("app {app}"))),
            Some(releases) if releases.is_empty() => Ok(()),
            Some(_) => Err(Unmet::Used(format!("app {app}"))),
        },
        _ => Ok(()),
    }
}

/// What is so when a task has been done.
pub fn effect(task: &Task, world: &mut World, input: &Input<'_>) {
    match task {
        Task::CreateApp { app } => drop(world.apps.insert(app.clone(), Default::default())),
        Task::CreateRelease { app, release } => {
            world.apps.entry(app.clone()).or_default().insert(release.number, release.name.clone());
        }
        Task::Pull { image, tag } | Task::Build { image, tag } => {
            // An image that is asked for again is taken for the same: what it has become nobody knows yet.
            let id = world.images.entry(image.clone()).or_insert_with(|| format!("id of {image}")).clone();
            world.images.extend(tag.clone().map(|tag| (tag, id)));
        }
        Task::Tag { image, tag } => {
            let id = world.images.get(image).cloned();
            world.images.extend(id.map(|id| (tag.clone(), id)));
        }
        Task::CreateNetwork { .. } | Task::CreateVolume { .. } => make_supply(task, world, input),
        Task::Create { slot, container, release } => {
            if let Some(made) = made(slot, release.as_ref().map(|r| r.number), world, input) {
                world.containers.insert(container.clone(), made);
            }
        }
        Task::Start { slot, container: Some(container), temporary, .. } => {
            if let Some(container) = world.containers.get_mut(container) {
                container.state = ContainerState::Running;
                container.temporary = *temporary;
            }
            runs(slot, world, input);
        }
        Task::Start { slot, .. } | Task::Replace { slot } => runs(slot, world, input),
        Task::Stop { slot, container: Some(container), .. } => {
            if let Some(container) = world.containers.get_mut(container) {
                container.state = ContainerState::Stopped;
            }
            rests(slot, world);
        }
        Task::Stop { slot, .. } => {
            if let Some(seen) = world.observed.get_mut(slot) {
                seen.phase = Phase::Stopped;
            }
        }
        Task::Remove { slot } => drop(world.observed.remove(slot)),
        Task::RemoveContainer { slot, container, .. } => remove(slot, container, world, input),
        Task::Migrate { container, release, .. } => {
            if let Some(container) = world.containers.get_mut(container) {
                container.release = Some(release.number);
            }
        }
        Task::Await { slot, condition } => come(slot, condition, world),
        Task::Prepared { .. } | Task::Ready { .. } => {}
        Task::RemoveNetwork { network } => drop(world.networks.remove(network)),
        Task::RemoveVolume { volume } => drop(world.volumes.remove(volume)),
        Task::RemoveRelease { app, release } => {
            world.apps.entry(app.clone()).or_default().remove(&release.number);
        }
        Task::RemoveApp { app } => drop(world.apps.remove(app)),
    }
}

fn make_supply(task: &Task, world: &mut World, input: &Input<'_>) {
    let containers =
        input.wanted.iter().filter_map(|(slot, wish)| Some((slot, wish.spec.container.as_deref()?)));
    for (slot, container) in containers {
        let app = Some(slot.app.clone());
        match task {
            Task::CreateNetwork { network: name } => {
                let mut all = container.networks().iter().map(|attachment| &attachment.network);
                if let Some(network) = all.find(|network| network.name == *name) {
                    world.networks.insert(name.clone(), Kept { app, digest: Some(network.digest()) });
                    return;
                }
            }
            Task::CreateVolume { volume: name } => {
                if let Some(volume) = container.volumes().find(|volume| volume.name == *name) {
                    world.volumes.insert(name.clone(), Kept { app, digest: Some(volume.digest()) });
                    return;
                }
            }
            _ => return,
        }
    }
}

fn made(slot: &SlotId, release: Option<u64>, world: &World, input: &Input<'_>) -> Option<Container> {
    let wish = wish(slot, input).ok()?;
    let container = wish.spec.container.as_deref()?;
    let networks: BTreeSet<String> = container.networks().iter().map(|a| a.network.name.clone()).collect();
    Some(Container {
        slot: slot.clone(),
        digest: wish.digest.clone(),
        image: world.images.get(&image_name(slot, wish, input)).cloned(),
        state: ContainerState::Created,
        release,
        networks,
        volumes: container.volumes().map(|volume| volume.name.clone()).collect(),
        ports: container.ports.iter().filter_map(HostPort::of).collect(),
        temporary: false,
    })
}

fn runs(slot: &SlotId, world: &mut World, input: &Input<'_>) {
    if let Ok(wish) = wish(slot, input) {
        let (digest, generation) = (Some(wish.digest.clone()), Some(wish.generation));
        let seen = Observed { phase: Phase::Running, running_digest: digest, running_generation: generation };
        world.observed.insert(slot.clone(), seen);
    }
}

fn rests(slot: &SlotId, world: &mut World) {
    let runs = of_slot(slot, world).any(|(_, container)| container.state.is_running());
    if let Some(seen) = world.observed.get_mut(slot).filter(|seen| !runs && seen.phase.is_alive()) {
        seen.phase = Phase::Stopped;
    }
}

fn remove(slot: &SlotId, name: &str, world: &mut World, input: &Input<'_>) {
    world.containers.remove(name);
    let mut left: Vec<&mut Container> = world.containers.values_mut().filter(|c| c.slot == *slot).collect();
    if left.iter().all(|container| container.temporary) {
        // What was started beside it takes its place.
        left.iter_mut().for_each(|container| container.temporary = false);
    }
    if left.is_empty() && wish(slot, input).is_err() {
        world.observed.remove(slot);
    }
}

fn come(slot: &SlotId, condition: &Condition, world: &mut World) {
    let (state, phase) = match condition {
        Condition::CompletedSuccessfully | Condition::Completed => {
            (ContainerState::Completed, Phase::Completed)
        }
        Condition::Failed => (ContainerState::Failed, Phase::Failed),
        _ => (ContainerState::Healthy, Phase::Healthy),
    };
    let running = world.containers.values_mut().filter(|c| c.slot == *slot && c.state.is_running());
    // Of two the one beside is waited for.
    if let Some(container) = running.max_by_key(|container| container.temporary) {
        container.state = state;
    }
    if let Some(seen) = world.observed.get_mut(slot) {
        seen.phase = phase;
    }
}

/// Whether everything new of an app is there, so that what runs may be touched: the rule no single
/// task keeps.
pub fn is_prepared(slot: &SlotId, world: &World, input: &Input<'_>) -> bool {
    let case = Case::new(Input { world, ..*input });
    let is_tracked = input.how.releases.contains_key(&slot.app);
    let mut wanted = case.wanted_containers().filter(|(other, _)| other.app == slot.app);
    wanted.all(|(other, wish)| {
        let is_needed = wish.goal == Goal::Running || is_tracked;
        // What ended for good is not made anew.
        let rested =
            case.observed(other).is_some_and(|seen| matches!(seen.phase, Phase::Completed | Phase::Failed));
        let anew = case.strategy(other) == Strategy::Recreate || joins_renewed(wish, input.world);
        let there = case.containers(other);
        let has = there.iter().any(|(_, container)| case.fits(container, other, wish));
        !is_needed || has || anew || rested && there.is_empty()
    })
}

/// It will use something that had to be made anew.
fn joins_renewed(wish: &TargetSlot, before: &World) -> bool {
    let Some(container) = wish.spec.container.as_deref() else { return false };
    let is_other = |kept: Option<&Kept>, digest: &dyn Fn() -> String| {
        kept.and_then(|kept| kept.digest.as_ref()).is_some_and(|is| *is != digest())
    };
    let mut networks = container.networks().iter().map(|attachment| &attachment.network);
    networks.any(|network| {
        !network.external && is_other(before.networks.get(&network.name), &|| network.digest())
    }) || container
        .volumes()
        .any(|volume| !volume.external && is_other(before.volumes.get(&volume.name), &|| volume.digest()))
}
