//! Services that are declared one by one: an app that grows and shrinks under its name. Pure.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use upbeat_model::dag::Dag;
use upbeat_model::file::SLOTS_MAX;
use upbeat_model::target::{Ask, Goal};
use upbeat_model::{AppName, Edit, OperationId, Project, Service, ServiceName, SlotId};

use crate::device::declared_elsewhere;
use crate::error::ControlError;
use crate::record::AppRecord;
use crate::wishes::{Change, known, slot_id, wish};

/// What an [`Edit`] makes of an app, which is begun by it where there is none.
pub(crate) fn edit(
    old: Option<&AppRecord>,
    app: &AppName,
    edit: &Edit,
    operation: OperationId,
) -> Result<Change, ControlError> {
    let none = || AppRecord {
        name: app.clone(),
        release: 0,
        project: Project { name: app.clone(), services: BTreeMap::new(), base_environment: BTreeMap::new() },
        leaving: false,
        slots: BTreeMap::new(),
        device: None,
        before: None,
    };
    let before = match old {
        Some(old) => old.clone(),
        None if edit.put.is_empty() => return Err(ControlError::NoSuchApp(app.clone())),
        None => none(),
    };
    let mut record = before.clone();
    record.project.base_environment.clone_from(&edit.base_environment);
    let services = &mut record.project.services;
    services.extend(edit.put.iter().map(|(name, service)| (name.clone(), service.clone())));
    let taken: Vec<ServiceName> = edit.take.iter().cloned().collect();
    known(&before.project, &taken)?;
    services.retain(|name, _| !edit.take.contains(name));
    leave_out_unknown(services);
    is_ordered(services)?;
    let names: Vec<ServiceName> = edit.run.keys().cloned().collect();
    known(&record.project, &names)?;
    if record.project.services != before.project.services {
        record.release += 1;
        record.device = declared_elsewhere(record.device);
    }
    record.leaving = record.project.services.is_empty();
    keep_what_runs(&before, &mut record);
    let mut slots = BTreeSet::new();
    for name in edit.put.keys() {
        place(&mut record, name, operation);
    }
    for (name, ask) in &edit.run {
        for id in copies(&record, name) {
            wish(&mut record, &id, Goal::Running, *ask, operation);
            slots.insert(id);
        }
    }
    let count = |name: &ServiceName| edit.put.get(name).map_or(u32::MAX, |service| service.scale);
    for (id, slot) in &mut record.slots {
        if edit.take.contains(&id.service) || id.index > count(&id.service) {
            slot.goal = Goal::Absent;
            slot.operation = operation;
            slots.insert(id.clone());
        }
    }
    match record.slots.len() as u64 > SLOTS_MAX {
        true => Err(ControlError::Refused(format!(
            "`{app}` would have {} copies of services, and {SLOTS_MAX} are the most on one machine",
            record.slots.len()
        ))),
        false => Ok(Change { record, slots }),
    }
}

/// Whoever is declared one by one may come before what it needs.
fn leave_out_unknown(services: &mut BTreeMap<ServiceName, Service>) {
    let known: BTreeSet<ServiceName> = services.keys().cloned().collect();
    for service in services.values_mut() {
        service.depends_on.retain(|name, _| known.contains(name));
    }
}

fn is_ordered(services: &BTreeMap<ServiceName, Service>) -> Result<(), ControlError> {
    let nodes = services.iter().map(|(name, service)| (name.clone(), service.depends_on.keys().cloned()));
    Dag::new(nodes).map(drop).map_err(|error| ControlError::Refused(error.to_string()))
}

/// Copies that were to run, or to go, go on by what they were started with.
fn keep_what_runs(before: &AppRecord, record: &mut AppRecord) {
    for (id, slot) in &mut record.slots {
        let declared = record.project.services.get(&id.service);
        if slot.goal == Goal::Stopped && declared.is_some() {
            slot.spec = None;
        } else if slot.spec.is_none()
            && let Some(spec) = before.project.services.get(&id.service)
            && declared != Some(spec)
        {
            slot.spec = Some(Arc::new(spec.clone()));
        }
    }
}

fn copies(record: &AppRecord, name: &ServiceName) -> Vec<SlotId> {
    let scale = record.project.services.get(name).map_or(0, |service| service.scale);
    (1..=scale).map(|index| slot_id(&record.name, name, index)).collect()
}

/// What is new has a place, in which nothing runs; so has what was to go, and is declared again.
fn place(record: &mut AppRecord, name: &ServiceName, operation: OperationId) {
    for id in copies(record, name) {
        if record.slots.get(&id).is_none_or(|slot| slot.goal == Goal::Absent) {
            wish(record, &id, Goal::Stopped, Ask::Ensure, operation);
            if let Some(slot) = record.slots.get_mut(&id) {
                slot.spec = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ServiceName {
        ServiceName::new(text).unwrap()
    }

    fn service(command: &str, needs: &[&str]) -> Service {
        let mut service = Service::new(vec![command.to_owned()], "/");
        service.depends_on = needs.iter().map(|need| (name(need), Default::default())).collect();
        service
    }

    fn put(services: &[(&str, Service)]) -> Edit {
        let put = services.iter().map(|(n, service)| (name(n), service.clone())).collect();
        Edit { put, ..Edit::default() }
    }

    fn run(edit: Edit, names: &[&str]) -> Edit {
        Edit { run: names.iter().map(|n| (name(n), Ask::Start)).collect(), ..edit }
    }

    fn take(names: &[&str]) -> Edit {
        Edit { take: names.iter().map(|n| name(n)).collect(), ..Edit::default() }
    }

    fn made(old: Option<&AppRecord>, edit: &Edit) -> Result<AppRecord, String> {
        let app = AppName::new("services").unwrap();
        let change = super::edit(old, &app, edit, OperationId(old.map_or(1, |old| old.release + 1)));
        change.map(|change| change.record).map_err(|error| error.to_string())
    }

    /// `web-1 running`, and by which command where it is not the declared one.
    fn shown(record: &AppRecord) -> Vec<String> {
        let slot = |(id, slot): (&SlotId, &crate::record::SlotRecord)| {
            let by = slot.spec.as_ref().map_or(String::new(), |spec| format!(" by {}", spec.command[0]));
            format!("{} {:?}{by}", id.short(), slot.goal)
        };
        record.slots.iter().map(slot).collect()
    }

    #[test]
    fn what_is_declared_does_not_run_before_that_is_asked_for() {
        let record = made(None, &put(&[("web", service("w", &["db"]))])).unwrap();
        assert_eq!(shown(&record), ["web-1 Stopped"]);
        assert!(record.project.services[&name("web")].depends_on.is_empty(), "`db` is not there yet");
        let both = run(put(&[("web", service("w", &["db"])), ("db", service("d", &[]))]), &["db"]);
        let record = made(Some(&record), &both).unwrap();
        assert_eq!(shown(&record), ["db-1 Running", "web-1 Stopped"]);
        assert!(record.project.services[&name("web")].depends_on.contains_key("db"));
    }

    #[test]
    fn a_copy_that_runs_goes_on_as_it_was_started_until_it_is_run_anew() {
        let first = made(None, &run(put(&[("web", service("old", &[]))]), &["web"])).unwrap();
        let second = made(Some(&first), &put(&[("web", service("new", &[]))])).unwrap();
        assert_eq!(shown(&second), ["web-1 Running by old"]);
        let third = made(Some(&second), &run(Edit::default(), &["web"])).unwrap();
        assert_eq!(shown(&third), ["web-1 Running"]);
        let mut stopped = second;
        stopped.slots.values_mut().for_each(|slot| slot.goal = Goal::Stopped);
        let again = made(Some(&stopped), &put(&[("web", service("newest", &[]))])).unwrap();
        assert_eq!(shown(&again), ["web-1 Stopped"]);
    }

    #[test]
    fn what_is_taken_goes_and_the_last_takes_the_app_with_it() {
        let first = put(&[("a", service("a", &[])), ("b", service("b", &["a"]))]);
        let first = made(None, &run(first, &["a"])).unwrap();
        let second = made(Some(&first), &take(&["a"])).unwrap();
        assert_eq!(shown(&second), ["a-1 Absent by a", "b-1 Stopped"]);
        assert!(second.project.services[&name("b")].depends_on.is_empty() && !second.leaving);
        assert!(made(Some(&second), &take(&["b"])).unwrap().leaving);
        let back = made(Some(&second), &put(&[("a", service("c", &[]))])).unwrap();
        assert_eq!(shown(&back), ["a-1 Stopped", "b-1 Stopped"]);
    }

    #[test]
    fn a_circle_and_names_that_are_not_there_change_nothing() {
        let circle = put(&[("a", service("a", &["b"])), ("b", service("b", &["a"]))]);
        let refused = made(None, &circle).unwrap_err();
        assert!(refused.starts_with("Circular dependency detected: a → b → a"), "{refused}");
        let there = made(None, &put(&[("a", service("a", &[]))])).unwrap();
        for edit in [take(&["x"]), run(Edit::default(), &["x"])] {
            assert_eq!(made(Some(&there), &edit).unwrap_err(), "app `services` has no service `x`");
        }
        assert_eq!(made(None, &run(Edit::default(), &["x"])).unwrap_err(), "there is no app `services`");
    }
}
