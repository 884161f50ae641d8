//! What must be so after there has been peace for long.

use upbeat_model::project::Condition;
use upbeat_model::project::container::PullPolicy;
use upbeat_model::target::{Goal, TargetSlot};
use upbeat_model::{Phase, SlotId};

use super::docker::{Container, End, State};
use super::world::World;
use crate::check::Verdict;

/// Everything is as wished, and nothing else is there.
pub(super) fn at_the_end(world: &World) -> Verdict {
    if world.node.is_none() {
        return Err("the daemon never came back".into());
    }
    for (slot, wish) in &world.people.target.slots {
        match wish.goal {
            Goal::Running => runs(world, slot, wish)?,
            Goal::Stopped if is_alive(world, slot) => return Err(format!("{slot}: it runs, and shall not")),
            Goal::Stopped => {}
            Goal::Absent => return Err(format!("{slot}: it shall go, and is {:?}", world.phase(slot))),
        }
    }
    for (id, container) in &world.docker.containers {
        if !world.people.target.slots.contains_key(&container.slot) {
            return Err(format!("{id} of {} is left, and nobody wishes for it", container.slot));
        }
    }
    let wished = || {
        let slots = world.people.target.slots.values().flat_map(|wish| &wish.spec.container);
        let now = slots.flat_map(|container| container.networks()).map(|at| &at.network.name);
        // Those of an earlier file go with the last that was in them.
        now.chain(world.store.values().flat_map(|kept| &kept.networks))
    };
    if world.ledger.forgot {
        return Ok(());
    }
    match world.docker.networks.keys().find(|name| !wished().any(|other| other == *name)) {
        Some(name) => Err(format!("network {name} is left, and nobody wishes for it")),
        None => Ok(()),
    }
}

fn is_alive(world: &World, slot: &SlotId) -> bool {
    world.docker.alive(slot).is_some() || world.processes.alive(slot).is_some()
}

fn runs(world: &World, slot: &SlotId, wish: &TargetSlot) -> Verdict {
    let phase = world.phase(slot);
    let is_down =
        matches!(phase, Some(Phase::Completed | Phase::Failed | Phase::BackingOff | Phase::CrashLooping));
    let waits = matches!(phase, Some(Phase::Waiting | Phase::DependencyFailed));
    let fits = match is_alive(world, slot) {
        true => phase == Some(Phase::Running),
        false if wish.spec.container.is_none() && is_down => true,
        false => (is_down && ended_by_itself(world, slot)) || (waits && has_cause(world, wish)),
    };
    if !fits {
        let is = if is_alive(world, slot) { "lives" } else { "is not there" };
        return Err(format!("{slot}: it shall run and is {phase:?} for ever, and {is}"));
    }
    match (&wish.spec.container, world.processes.alive(slot)) {
        (None, Some(process)) if process.digest != wish.digest && !world.ledger.is_stranger(process.pid) => {
            Err(format!("{slot}: another process runs"))
        }
        (None, _) if world.docker.of(slot).any(|(_, one)| one.is_alive()) => {
            Err(format!("{slot}: a container runs, and a process shall"))
        }
        (None, _) => Ok(()),
        (Some(_), _) => is_right(world, slot, wish),
    }
}

/// Nothing but itself has ended it, as far as anybody could see; or it cannot be run.
fn ended_by_itself(world: &World, slot: &SlotId) -> bool {
    let by_itself =
        |one: &Container| one.end != Some(End::Asked) || one.nature == super::people::Nature::Broken;
    world.ledger.lied_of.contains(slot) || world.docker.of(slot).all(|(_, one)| by_itself(one))
}

/// Some copy that it needs is not as it is needed.
fn has_cause(world: &World, wish: &TargetSlot) -> bool {
    let holds = |copy: &SlotId, condition: &Condition| match condition {
        Condition::CompletedSuccessfully => world.phase(copy) == Some(Phase::Completed),
        _ => world.phase(copy) == Some(Phase::Running),
    };
    wish.spec.depends_on.iter().any(|(service, edge)| {
        let mut copies = world.people.copies(service).peekable();
        copies.peek().is_none() || copies.any(|copy| !holds(copy, &edge.condition))
    })
}

/// One container, of the wished spec and the newest image, with its name, in its networks.
fn is_right(world: &World, slot: &SlotId, wish: &TargetSlot) -> Verdict {
    let wrong = |what: &str| Err(format!("{slot}: in the end {what}"));
    // Beside one that waits for its start there is the one that ran before.
    let most = if world.docker.alive(slot).is_some() { 1 } else { 2 };
    let all: Vec<&Container> = world.docker.of(slot).map(|(_, one)| one).collect();
    let newest = all.iter().find(|one| one.is_alive()).or_else(|| all.iter().max_by_key(|one| one.born));
    let Some(found) = newest.filter(|_| all.len() <= most) else {
        return wrong(&format!("it is {} containers", all.len()));
    };
    if found.digest != wish.digest {
        return wrong("it is of another spec");
    }
    let Some(spec) = &wish.spec.container else { return Ok(()) };
    let reference = spec.image.as_str();
    let is_newest = match spec.pull_policy {
        PullPolicy::Always => world.docker.registry.get(reference) == Some(&found.image),
        _ => world.ledger.images.get(reference).is_some_and(|images| images.contains(&found.image)),
    };
    if !is_newest {
        return wrong("it is of an older image");
    }
    if found.is_alive() {
        if found.state != (State::Running { paused: false }) {
            return wrong("it is paused");
        }
        if let Some(drift) = found.drift(&world.docker.networks) {
            return wrong(&drift);
        }
        for (name, digest) in &found.wants {
            if world.docker.networks.get(name).is_none_or(|there| there.digest != *digest) {
                return wrong(&format!("network {name} is another"));
            }
        }
    }
    Ok(())
}
