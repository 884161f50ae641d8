//! From what somebody asks to the wishes for slots: pure, one function a command.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use upbeat_model::file::{SCALE_MAX, SLOTS_MAX};
use upbeat_model::project::container::{Attachment, Container};
use upbeat_model::target::{Ask, Goal};
use upbeat_model::{Action, AppName, OperationId, Project, ServiceName, SlotId};

use crate::device::declared_elsewhere;
use crate::error::ControlError;
use crate::reactions::End;
use crate::record::{AppRecord, SlotRecord};

/// A changed app, and the slots the change is about.
pub struct Change {
    /// What is to be kept.
    pub record: AppRecord,
    /// The slots whose way to their goal the operation follows.
    pub slots: BTreeSet<SlotId>,
}

impl Change {
    /// Nobody insists on it: what holds its update lock is not interrupted for it.
    pub(crate) fn heeding_locks(mut self) -> Self {
        for id in &self.slots {
            if let Some(slot) = self.record.slots.get_mut(id) {
                slot.heeds_locks = true;
            }
        }
        self
    }
}

pub(crate) fn slot_id(app: &AppName, service: &ServiceName, index: u32) -> SlotId {
    SlotId { app: app.clone(), service: service.clone(), index }
}

/// `up`: what is declared shall run; what is no longer declared shall go.
///
/// `only` (empty: all) and what those need; other services keep the wish and the spec they have.
pub fn up(
    old: Option<&AppRecord>,
    project: Project,
    only: &[ServiceName],
    operation: OperationId,
) -> Result<Change, ControlError> {
    let app = project.name.clone();
    known(&project, only)?;
    let selected = match only.is_empty() {
        true => project.services.keys().cloned().collect(),
        false => with_dependencies(&project, only),
    };
    let changed = old.is_none_or(|old| old.project.services != project.services);
    let release = old.map_or(0, |old| old.release) + u64::from(changed);
    let mut record = AppRecord {
        name: app.clone(),
        release,
        leaving: false,
        slots: old.map(|old| old.slots.clone()).unwrap_or_default(),
        device: old.and_then(|old| old.device.clone()),
        before: None,
        project,
    };
    if changed {
        record.device = declared_elsewhere(record.device);
    }
    let mut slots = BTreeSet::new();
    keep_old_specs(old, &mut record, &selected);
    for service in &selected {
        let scale = record.project.services[service].scale;
        set_copies(&mut record, service, scale, operation, &mut slots, Ask::Ensure);
    }
    for (id, slot) in &mut record.slots {
        // Also what shall go already: it may not have gone, and is tried again for whoever asks anew.
        if !record.project.services.contains_key(&id.service) {
            let gone = SlotRecord { goal: Goal::Absent, operation, kill: false, ..slot.clone() };
            *slot = gone;
            slots.insert(id.clone());
        }
    }
    networks_agree(&record)?;
    let replaced = old.map(|old| replaced(old, &record, &selected)).unwrap_or_default();
    drag_along(&mut record, &replaced, operation, &mut slots);
    Ok(Change { record, slots })
}

/// Selected services of which a copy runs by another spec than the one declared now.
fn replaced(old: &AppRecord, new: &AppRecord, selected: &BTreeSet<ServiceName>) -> BTreeSet<ServiceName> {
    let declared: BTreeMap<&ServiceName, String> =
        selected.iter().map(|name| (name, new.project.services[name].digest())).collect();
    let mut replaced = BTreeSet::new();
    for (id, slot) in &old.slots {
        let Some(digest) = declared.get(&id.service).filter(|_| !replaced.contains(&id.service)) else {
            continue;
        };
        let was = slot.spec.as_deref().or_else(|| old.project.services.get(&id.service));
        if was.is_some_and(|was| was.digest() != *digest) {
            replaced.insert(id.service.clone());
        }
    }
    replaced
}

/// A network is made anew for all that are in it, or for none: what stays in it as it was would keep others out, which
/// had stopped for it.
fn networks_agree(record: &AppRecord) -> Result<(), ControlError> {
    let mut known: BTreeMap<&str, (String, &ServiceName)> = BTreeMap::new();
    let stays = |slot: &SlotRecord| slot.goal != Goal::Absent;
    // Those that are as they were come last, and are named.
    let (kept, new): (Vec<_>, Vec<_>) =
        record.slots.iter().filter(|(_, slot)| stays(slot)).partition(|(_, slot)| slot.spec.is_some());
    for (id, slot) in new.into_iter().chain(kept) {
        let spec = slot.spec.as_deref().or_else(|| record.project.services.get(&id.service));
        let networks = spec.and_then(|spec| spec.container.as_deref()).map_or(&[][..], Container::networks);
        for Attachment { network, .. } in networks.iter().filter(|at| !at.network.external) {
            let digest = network.digest();
            let (there, of) = known.entry(&network.name).or_insert_with(|| (digest.clone(), &id.service));
            if *there != digest {
                return Err(ControlError::Refused(format!(
                    "network `{}` of `{of}` has changed, and `{name}`, which stays as it is, is in the one that there is: \
                     have `{name}` come along (name it, or name none), or leave the network as it was",
                    network.key,
                    name = id.service,
                )));
            }
        }
    }
    Ok(())
}

/// Slots whose service this `up` leaves out, or drops, keep the spec they run by.
fn keep_old_specs(old: Option<&AppRecord>, record: &mut AppRecord, selected: &BTreeSet<ServiceName>) {
    let Some(old) = old else { return };
    for (id, slot) in &mut record.slots {
        if slot.spec.is_none()
            && !selected.contains(&id.service)
            && let Some(spec) = old.project.services.get(&id.service)
            && record.project.services.get(&id.service) != Some(spec)
        {
            slot.spec = Some(Arc::new(spec.clone()));
        }
    }
}

/// Copies 1 to `scale` shall run, others shall go.
fn set_copies(
    record: &mut AppRecord,
    service: &ServiceName,
    scale: u32,
    operation: OperationId,
    slots: &mut BTreeSet<SlotId>,
    ask: Ask,
) {
    for index in 1..=scale {
        let id = slot_id(&record.name, service, index);
        wish(record, &id, Goal::Running, ask, operation);
        slots.insert(id);
    }
    let extra: Vec<SlotId> = record.copies(service).filter(|id| id.index > scale).cloned().collect();
    for id in extra {
        wish(record, &id, Goal::Absent, Ask::Ensure, operation);
        slots.insert(id);
    }
}

pub(crate) fn wish(record: &mut AppRecord, id: &SlotId, goal: Goal, ask: Ask, operation: OperationId) {
    let release = record.release;
    let slot = record.slots.entry(id.clone()).or_insert(SlotRecord {
        goal,
        generation: 0,
        ask,
        kill: false,
        heeds_locks: false,
        operation,
        release,
        spec: None,
    });
    slot.goal = goal;
    slot.ask = ask;
    (slot.kill, slot.heeds_locks) = (false, false);
    slot.operation = operation;
    if goal == Goal::Running {
        slot.generation += 1;
        slot.release = release;
        slot.spec = None;
    }
}

/// A copy shall run. One that runs by an older spec goes on by it: only an `up` that names its service
/// changes what runs. An update that waits for locks goes on waiting, but where it is restarted by name.
pub(crate) fn wish_as_it_is(record: &mut AppRecord, id: &SlotId, ask: Ask, operation: OperationId) {
    let before = record.slots.get(id).cloned();
    wish(record, id, Goal::Running, ask, operation);
    let (Some(slot), Some(before)) = (record.slots.get_mut(id), before) else { return };
    slot.heeds_locks = before.heeds_locks && ask != Ask::Restart;
    if before.spec.is_some() {
        (slot.spec, slot.release) = (before.spec, before.release);
    }
}

/// Dependents with `restart: true` of what is restarted or replaced are restarted too, and theirs.
fn drag_along(
    record: &mut AppRecord,
    restarted: &BTreeSet<ServiceName>,
    operation: OperationId,
    slots: &mut BTreeSet<SlotId>,
) {
    let mut seen = restarted.clone();
    let mut next: Vec<ServiceName> = restarted.iter().cloned().collect();
    while let Some(dependency) = next.pop() {
        let dependents: Vec<ServiceName> = (record.project.services.iter())
            .filter(|(_, service)| service.depends_on.get(&dependency).is_some_and(|edge| edge.restart))
            .map(|(name, _)| name.clone())
            .collect();
        for dependent in dependents {
            if !seen.insert(dependent.clone()) {
                continue;
            }
            let copies: Vec<SlotId> = record.copies(&dependent).cloned().collect();
            for id in copies {
                if record.slots[&id].goal == Goal::Running {
                    wish_as_it_is(record, &id, Ask::Restart, operation);
                    slots.insert(id);
                }
            }
            next.push(dependent);
        }
    }
}

/// Start, stop, restart, scale.
pub fn act(old: &AppRecord, action: &Action, operation: OperationId) -> Result<Change, ControlError> {
    let mut record = old.clone();
    let mut slots = BTreeSet::new();
    match action {
        Action::Start { services } => {
            let named = named(&record, services)?;
            let all = with_dependencies(&record.project, &named);
            for service in all {
                let ask = if named.contains(&service) { Ask::Start } else { Ask::Ensure };
                start(&mut record, &service, ask, operation, &mut slots);
            }
        }
        Action::Stop { services, kill } => {
            for service in named(&record, services)? {
                let copies: Vec<SlotId> = record.copies(&service).cloned().collect();
                for id in copies {
                    wish(&mut record, &id, Goal::Stopped, Ask::Ensure, operation);
                    if let Some(slot) = record.slots.get_mut(&id) {
                        slot.kill = *kill;
                    }
                    slots.insert(id);
                }
            }
        }
        Action::Restart { services } => {
            let named = named(&record, services)?;
            for service in with_dependencies(&record.project, &named) {
                let ask = if named.contains(&service) { Ask::Restart } else { Ask::Ensure };
                start(&mut record, &service, ask, operation, &mut slots);
            }
            drag_along(&mut record, &named.into_iter().collect(), operation, &mut slots);
        }
        Action::Reload { services } => reload(&mut record, services, operation, &mut slots)?,
        Action::Scale { services } => scale(&mut record, services, operation, &mut slots)?,
    }
    // Something of it is wanted again: it is taken back.
    record.leaving &= !record.slots.values().any(|slot| slot.goal == Goal::Running);
    Ok(Change { record, slots })
}

/// A named service is asked to (re)start; one it needs is only started where it was not wanted.
fn start(
    record: &mut AppRecord,
    service: &ServiceName,
    ask: Ask,
    operation: OperationId,
    slots: &mut BTreeSet<SlotId>,
) {
    let mut copies: Vec<SlotId> = record.copies(service).cloned().collect();
    if copies.is_empty() {
        let scale = record.project.services.get(service).map_or(0, |declared| declared.scale);
        copies = (1..=scale).map(|index| slot_id(&record.name, service, index)).collect();
    }
    for id in copies {
        let wanted = record.slots.get(&id).is_some_and(|slot| slot.goal == Goal::Running);
        if ask == Ask::Ensure && wanted {
            continue;
        }
        wish_as_it_is(record, &id, ask, operation);
        slots.insert(id);
    }
}

/// Copies that shall run are asked to reload; of the others there is nothing to reload.
fn reload(
    record: &mut AppRecord,
    services: &[ServiceName],
    operation: OperationId,
    slots: &mut BTreeSet<SlotId>,
) -> Result<(), ControlError> {
    let can =
        |name: &ServiceName| record.project.services.get(name).is_some_and(|spec| spec.reload.is_some());
    let named = named(record, services)?;
    if let Some(name) = services.iter().find(|name| !can(name)) {
        let is_external = record.project.services.get(name).is_some_and(|spec| spec.external);
        let remedy = match is_external {
            // Nobody here knows a process to send a signal to.
            true => "`reload: { command: … }`",
            false => "`reload: SIGHUP` or a command",
        };
        return Err(ControlError::Refused(format!(
            "`{name}` cannot be reloaded: it does not say how; give it {remedy}, or use `restart`"
        )));
    }
    let copies: Vec<SlotId> = (named.iter().filter(|name| can(name)))
        .flat_map(|service| record.copies(service))
        .filter(|id| record.slots[*id].goal == Goal::Running)
        .cloned()
        .collect();
    if copies.is_empty() {
        let what = match services {
            [name] => format!("`{name}` is stopped: it reads its configuration when it is started"),
            _ => format!("nothing of `{}` that could be reloaded is to run", record.name),
        };
        return Err(ControlError::Refused(what));
    }
    for id in copies {
        wish_as_it_is(record, &id, Ask::Reload, operation);
        slots.insert(id);
    }
    Ok(())
}

fn scale(
    record: &mut AppRecord,
    counts: &BTreeMap<ServiceName, u32>,
    operation: OperationId,
    slots: &mut BTreeSet<SlotId>,
) -> Result<(), ControlError> {
    let names: Vec<ServiceName> = counts.keys().cloned().collect();
    known(&record.project, &names)?;
    let declared: BTreeMap<&ServiceName, u32> =
        names.iter().map(|name| (name, record.project.services[name].scale)).collect();
    if counts.iter().any(|(name, count)| declared.get(name) != Some(count)) {
        record.device = declared_elsewhere(record.device.take());
    }
    for (service, count) in counts {
        if *count > SCALE_MAX {
            return Err(ControlError::Refused(format!(
                "`{service}={count}` is too many: a service has at most {SCALE_MAX} copies"
            )));
        }
        let have: Vec<SlotId> = record.copies(service).cloned().collect();
        makes_copies(&record.project, service, *count)?;
        for index in 1..=*count {
            let id = slot_id(&record.name, service, index);
            if !have.contains(&id) {
                wish(record, &id, Goal::Running, Ask::Ensure, operation);
                slots.insert(id);
            }
        }
        for id in have.into_iter().filter(|id| id.index > *count) {
            wish(record, &id, Goal::Absent, Ask::Ensure, operation);
            slots.insert(id);
        }
        if let Some(declared) = record.project.services.get_mut(service) {
            declared.scale = *count;
        }
    }
    let all: u64 = record.project.services.values().map(|service| u64::from(service.scale)).sum();
    match all > SLOTS_MAX {
        true => Err(ControlError::Refused(format!(
            "`{}` would have {all} copies of services, and {SLOTS_MAX} are the most on one machine",
            record.name
        ))),
        false => Ok(()),
    }
}

/// A copy that is made of a template may make no sense under a number that is too high.
fn makes_copies(project: &Project, service: &ServiceName, count: u32) -> Result<(), ControlError> {
    let Some(spec) = project.services.get(service).filter(|spec| spec.per_copy.is_some()) else {
        return Ok(());
    };
    for index in spec.scale + 1..=count {
        spec.for_copy(service.as_str(), index).map_err(|wrong| {
            ControlError::Refused(format!("copy {index} of `{service}` cannot be made: {}", wrong.join("; ")))
        })?;
    }
    Ok(())
}

/// The app stops with one of its copies, if that is due still. Errors: it is not.
pub(crate) fn end(old: &AppRecord, end: &End, operation: OperationId) -> Result<Change, ControlError> {
    if !end.holds(old.slots.get(&end.slot)) {
        let what = format!("`{}` does not end with {}: it was asked for anew", old.name, end.slot.short());
        return Err(ControlError::Refused(what));
    }
    act(old, &Action::Stop { services: Vec::new(), kill: false }, operation)
}

/// These are there, and do not run.
pub(crate) fn rest(change: &mut Change, services: &BTreeSet<ServiceName>, operation: OperationId) {
    for service in services {
        let copies: Vec<SlotId> = change.record.copies(service).cloned().collect();
        copies.iter().for_each(|id| wish(&mut change.record, id, Goal::Stopped, Ask::Ensure, operation));
    }
}

/// Everything goes.
pub fn down(old: &AppRecord, kill: bool, operation: OperationId) -> Change {
    let mut record = old.clone();
    record.leaving = true;
    for slot in record.slots.values_mut() {
        slot.goal = Goal::Absent;
        (slot.kill, slot.heeds_locks) = (kill, false);
        slot.operation = operation;
    }
    let slots = record.slots.keys().cloned().collect();
    Change { record, slots }
}

fn named(record: &AppRecord, services: &[ServiceName]) -> Result<Vec<ServiceName>, ControlError> {
    known(&record.project, services)?;
    Ok(match services.is_empty() {
        true => record.project.services.keys().cloned().collect(),
        false => services.to_vec(),
    })
}

pub(crate) fn known(project: &Project, services: &[ServiceName]) -> Result<(), ControlError> {
    match services.iter().find(|name| !project.services.contains_key(*name)) {
        Some(name) => Err(ControlError::NoSuchService {
            app: project.name.clone(),
            service: name.clone(),
            known: project.services.keys().cloned().collect(),
        }),
        None => Ok(()),
    }
}

/// The named ones and all they need, declared.
fn with_dependencies(project: &Project, named: &[ServiceName]) -> BTreeSet<ServiceName> {
    let mut all = BTreeSet::new();
    let mut next = named.to_vec();
    while let Some(name) = next.pop() {
        if let Some(service) = project.services.get(&name)
            && all.insert(name)
        {
            next.extend(service.depends_on.keys().cloned());
        }
    }
    all
}
