//! What only one container can have at a time: ports of this machine, names. And what follows: who has to
//! go before whom, who cannot run side by side with its successor, and which wishes contradict each other.

use std::collections::BTreeMap;

use upbeat_model::plan::{HostPort, Note, SideBySide, Strategy, World};
use upbeat_model::project::container::{Container, MountKind, Protocol};
use upbeat_model::target::{Goal, TargetSlot};
use upbeat_model::{AppName, ServiceName, SlotId};

use super::NoPlan;
use super::case::Case;
use super::change::Action;
use super::life::{Life, Started};

/// What a container is called in the engine once it has been started.
pub(super) fn final_name(slot: &SlotId, container: &Container) -> String {
    container.name.clone().unwrap_or_else(|| format!("{}-{}-{}", slot.app, slot.service, slot.index))
}

/// Which life has to be over before which other begins: (starts, goes), by their places.
pub(super) type Takeovers = Vec<(usize, usize)>;

type Key<'a> = (&'a AppName, &'a ServiceName);

/// Settles by which strategy each copy is replaced and which go late. Errors: two want one thing.
pub(super) fn settle(case: &Case<'_>, lives: &mut [Life<'_>]) -> Result<(Vec<Note>, Takeovers), NoPlan> {
    contradictions(case)?;
    let takeovers = takeovers(case, lives)?;
    let mut notes = Vec::new();
    for life in lives.iter_mut() {
        let again = |(name, _): &(&str, _)| life.starts == Some(Started::There(name));
        let is_exchanged = life.starts.is_some() && !life.stops.is_empty() && !life.stops.iter().any(again);
        let is_running = is_exchanged || life.process == Some(Action::Replace);
        let asked = life.strategy == Strategy::StartFirst && is_running;
        if let Some(because) = asked.then(|| side_by_side(case, life)).flatten() {
            fall_back(life, because, &mut notes);
        }
        let starts_first = life.strategy == Strategy::StartFirst && is_exchanged;
        // Without releases there is none to go back to: it goes as soon as everything new is made, which is
        // what the machines do.
        let is_of_release = case.is_tracked(&life.slot.app) && life.process.is_none();
        let is_dropped = life.is_dropped() && is_of_release && !life.is_in_the_way;
        life.is_late = is_dropped || starts_first;
    }
    for (by, holder) in &takeovers {
        let service = lives[*by].slot.service.clone();
        hurry(&mut lives[*holder], SideBySide::TakenOver { service }, &mut notes);
    }
    hurry_dependents(case, lives, &mut notes);
    notes.sort_by_cached_key(|note| format!("{note:?}"));
    notes.dedup();
    Ok((notes, takeovers))
}

fn fall_back(life: &mut Life<'_>, because: SideBySide, notes: &mut Vec<Note>) {
    life.strategy = Strategy::StopFirst;
    let (app, service) = (life.slot.app.clone(), life.slot.service.clone());
    notes.push(Note::StopFirst { app, service, because });
}

/// It does not go late any more.
fn hurry(life: &mut Life<'_>, because: SideBySide, notes: &mut Vec<Note>) {
    if std::mem::take(&mut life.is_late) && life.strategy == Strategy::StartFirst && life.wish.is_some() {
        fall_back(life, because, notes);
    }
}

/// Who rests on something that stops has stopped by then, so it cannot be one of the last to stop.
fn hurry_dependents(case: &Case<'_>, lives: &mut [Life<'_>], notes: &mut Vec<Note>) {
    let mut dependents: BTreeMap<Key<'_>, Vec<usize>> = BTreeMap::new();
    for (place, life) in lives.iter().enumerate().filter(|(_, life)| life.is_late) {
        let Some(now) = case.current(life.slot) else { continue };
        for service in now.spec.depends_on.keys() {
            dependents.entry((&life.slot.app, service)).or_default().push(place);
        }
    }
    let early = lives.iter().filter(|life| !life.is_late && life.goes_down());
    let mut stopping: Vec<&SlotId> = early.map(|life| life.slot).collect();
    while let Some(slot) = stopping.pop() {
        for place in dependents.remove(&(&slot.app, &slot.service)).unwrap_or_default() {
            if lives[place].is_late {
                let because = SideBySide::DependencyStops { service: slot.service.clone() };
                hurry(&mut lives[place], because, notes);
                stopping.push(lives[place].slot);
            }
        }
    }
}

/// Why the old copy and the new one cannot both run; `None` where they can.
fn side_by_side(case: &Case<'_>, life: &Life<'_>) -> Option<SideBySide> {
    let wish = life.wish?;
    let Some(container) = wish.spec.container.as_deref() else { return Some(SideBySide::Process) };
    if life.is_renewed {
        let network = life.removes.iter().flat_map(|(_, c)| &c.networks).next();
        return Some(SideBySide::NetworkRenewed { network: network.cloned().unwrap_or_default() });
    }
    let wanted = container.ports.iter().filter_map(HostPort::of);
    let held = || life.stops.iter().flat_map(|(_, old)| &old.ports);
    if let Some(port) = wanted.into_iter().find(|port| held().any(|held| held.clashes(port))) {
        return Some(SideBySide::Port { port: port.to_string() });
    }
    if let Some(address) = fixed_address(container) {
        return Some(SideBySide::Address { address });
    }
    let is_only = case.input.wanted.range(first_of(life.slot)..).take(2);
    let copies = is_only.filter(|(slot, _)| slot.app == life.slot.app && slot.service == life.slot.service);
    match copies.count() {
        0 | 1 => shared(container).map(|what| SideBySide::Shared { what }),
        _ => None,
    }
}

fn first_of(slot: &SlotId) -> SlotId {
    SlotId { index: 0, ..slot.clone() }
}

fn fixed_address(container: &Container) -> Option<String> {
    let of_networks = container.networks().iter().flat_map(|attachment| {
        [&attachment.ipv4_address, &attachment.ipv6_address, &attachment.mac_address].into_iter().flatten()
    });
    container.mac_address.iter().chain(of_networks).next().cloned()
}

/// What it writes to that outlives it.
fn shared(container: &Container) -> Option<String> {
    let written = container.mounts.iter().filter(|mount| !mount.read_only);
    written.into_iter().find_map(|mount| match &mount.kind {
        MountKind::Bind { source, .. } => Some(source.clone()),
        MountKind::Volume { volume: Some(volume), .. } => Some(volume.name.clone()),
        _ => None,
    })
}

fn ports(wish: &TargetSlot) -> impl Iterator<Item = HostPort> {
    wish.spec.container.iter().flat_map(|container| &container.ports).filter_map(HostPort::of)
}

/// Two wishes for one port, or for one name.
fn contradictions(case: &Case<'_>) -> Result<(), NoPlan> {
    let mut names: BTreeMap<String, &SlotId> = BTreeMap::new();
    let mut taken: BTreeMap<(u16, Protocol), Vec<(HostPort, &SlotId)>> = BTreeMap::new();
    for (slot, wish) in case.wanted_containers() {
        let Some(container) = wish.spec.container.as_deref() else { continue };
        let name = final_name(slot, container);
        if let Some(other) = names.insert(name, slot) {
            let (other, name) = (other.clone(), final_name(slot, container));
            return Err(NoPlan::Name { name, slot: slot.clone(), other });
        }
        for port in ports(wish).filter(|_| wish.goal == Goal::Running) {
            let others = taken.entry((port.port, port.protocol)).or_default();
            if let Some((_, other)) = others.iter().find(|(other, by)| *by != slot && other.clashes(&port)) {
                let (slot, other) = (slot.clone(), (*other).clone());
                return Err(NoPlan::Port { port, slot, other, stays: false });
            }
            others.push((port, slot));
        }
    }
    Ok(())
}

/// Ports that are held now by others, by whom.
fn held_by_others(world: &World) -> BTreeMap<(u16, Protocol), Vec<(&HostPort, &str)>> {
    let mut held: BTreeMap<(u16, Protocol), Vec<(&HostPort, &str)>> = BTreeMap::new();
    for (name, ports) in &world.foreign {
        for port in ports {
            held.entry((port.port, port.protocol)).or_default().push((port, name));
        }
    }
    held
}

/// Ports that are held now, by whom.
fn held(world: &World) -> BTreeMap<(u16, Protocol), Vec<(&HostPort, &SlotId)>> {
    let mut held: BTreeMap<(u16, Protocol), Vec<(&HostPort, &SlotId)>> = BTreeMap::new();
    for container in world.containers.values().filter(|container| container.state.is_running()) {
        for port in &container.ports {
            held.entry((port.port, port.protocol)).or_default().push((port, &container.slot));
        }
    }
    held
}

/// Whoever takes a port or a name that another slot has now starts when that has gone.
fn takeovers(case: &Case<'_>, lives: &[Life<'_>]) -> Result<Takeovers, NoPlan> {
    let world = case.input.world;
    let (held, others) = (held(world), held_by_others(world));
    let place = |slot: &SlotId| lives.binary_search_by(|life| life.slot.cmp(slot)).ok();
    let mut takeovers = Takeovers::new();
    for (by, life) in lives.iter().enumerate().filter(|(_, life)| life.starts.is_some()) {
        let Some(wish) = life.wish else { continue };
        for port in ports(wish) {
            let mut by_others = others.get(&(port.port, port.protocol)).into_iter().flatten();
            if let Some((_, by)) = by_others.find(|(held, _)| held.clashes(&port)) {
                return Err(NoPlan::PortHeld { port, slot: life.slot.clone(), by: (*by).to_owned() });
            }
            let holders = held.get(&(port.port, port.protocol)).into_iter().flatten();
            for (_, holder) in holders.filter(|(held, slot)| held.clashes(&port) && *slot != life.slot) {
                match place(holder).filter(|place| !lives[*place].stops.is_empty()) {
                    Some(place) => takeovers.push((by, place)),
                    None => {
                        let (slot, other) = (life.slot.clone(), (*holder).clone());
                        return Err(NoPlan::Port { port, slot, other, stays: true });
                    }
                }
            }
        }
        let Some(container) = wish.spec.container.as_deref() else { continue };
        let named = world.containers.get(&final_name(life.slot, container));
        if let Some(holder) = named.filter(|holder| holder.slot != *life.slot)
            && let Some(place) = place(&holder.slot).filter(|place| !lives[*place].removes.is_empty())
        {
            takeovers.push((by, place));
        }
    }
    Ok(takeovers)
}
