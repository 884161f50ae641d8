//! The `mahler` crate with the same machine in its terms.
//!
//! Its tasks are written so that it has the easiest time that leaves the plans right: a service's image is
//! part of that service, so pulling needs to look nowhere else, and networks are made at the latest on the
//! level of the pulls, so no task asks for them. What is left that looks beyond its own service is a
//! start, for whom it depends on; its documentation has the extractor `System` for that.

use std::time::Instant;

use mahler::extract::{System, Target, View};
use mahler::job::{create, delete, update};
use mahler::state::{Map, State};
use mahler::worker::{Ready, Worker};
use serde_json::{Value, json};
use upbeat_bench::{Failure, Memory, median, ms};

use crate::{Case, TEN};

/// More where a plan takes less than this.
const SHORT_MS: f64 = 500.0;
const ROUNDS: usize = 9;

#[derive(State, Debug, Clone, PartialEq, Eq)]
struct Device {
    networks: Map<String, bool>,
    services: Map<String, Service>,
}

#[derive(State, Debug, Clone, PartialEq, Eq)]
struct Service {
    version: u32,
    needs: String,
    status: String,
    #[mahler(internal)]
    image: u32,
}

/// Milliseconds of a plan, bytes of the first one at most, steps; or why there is none.
pub(crate) fn measure(case: Case, slots: usize) -> Result<Value, Failure> {
    let none = Device { networks: Map::new(), services: Map::new() };
    let all = |version| device(case, slots, version, |_| true);
    let (is, shall) = match case {
        Case::Fresh | Case::Chain => (none, all(1)),
        Case::UpdateAll => (all(1), all(2)),
        Case::DropSome => (all(1), device(case, slots, 1, |n| !case.drops(n))),
    };
    let (worker, target) =
        (worker(is)?, serde_json::from_value::<DeviceTarget>(serde_json::to_value(shall)?)?);
    let memory = Memory::begin()?;
    let mut times = Vec::new();
    let begun = Instant::now();
    let found = worker.find_workflow(&target);
    times.push(ms(begun.elapsed()));
    let bytes = memory.at_most()?;
    let (steps, failed) = match found {
        Ok(Some(workflow)) => (workflow.to_string().lines().count(), None),
        Ok(None) => (0, Some("no plan".to_owned())),
        Err(error) => (0, Some(format!("{:?}", error.kind()))),
    };
    if failed.is_none() && times[0] < SHORT_MS {
        for _ in 1..ROUNDS {
            let begun = Instant::now();
            let found = worker.find_workflow(&target)?;
            times.push(ms(begun.elapsed()));
            assert!(found.is_some(), "the same plan again");
        }
    }
    Ok(json!({ "plan_ms": median(times), "bytes": bytes, "steps": steps, "failed": failed }))
}

fn device(case: Case, slots: usize, version: u32, keeps: impl Fn(usize) -> bool) -> Device {
    let name = |n| format!("s{n:05}");
    let service = |n| {
        let needs = case.needs(n).map(name).unwrap_or_default();
        (name(n), Service { version, needs, status: "running".into(), image: version })
    };
    Device {
        networks: (0..slots.div_ceil(TEN)).map(|n| (format!("n{n:04}"), true)).collect(),
        services: (0..slots).filter(|n| keeps(*n)).map(service).collect(),
    }
}

fn worker(device: Device) -> Result<Worker<Device, Ready>, Failure> {
    let worker = Worker::new().job("/networks/{network}", create(make_network)).jobs(
        "/services/{service}",
        [
            create(pull_first),
            update(pull),
            update(stop),
            update(remove),
            update(make),
            update(start),
            delete(stop_dropped),
            delete(remove_dropped),
        ],
    );
    Ok(worker.initial_state(device)?)
}

fn make_network(view: View<Option<bool>>) -> View<bool> {
    view.create(true)
}

fn pull_first(view: View<Option<Service>>, Target(want): Target<Service>) -> View<Service> {
    let (version, needs) = (want.version, want.needs);
    view.create(Service { version, needs, status: "absent".into(), image: version })
}

fn pull(mut view: View<Service>, Target(want): Target<Service>) -> Option<View<Service>> {
    let is_there = view.image == want.version;
    view.image = want.version;
    (!is_there).then_some(view)
}

fn stop(view: View<Service>, Target(want): Target<Service>) -> Option<View<Service>> {
    let is_due = view.version != want.version && view.image == want.version;
    step(view, is_due, "running", "stopped")
}

fn remove(view: View<Service>, Target(_): Target<Service>) -> Option<View<Service>> {
    step(view, true, "stopped", "absent")
}

fn make(mut view: View<Service>, Target(want): Target<Service>) -> Option<View<Service>> {
    view.version = want.version;
    let is_there = view.image == want.version;
    step(view, is_there, "absent", "created")
}

fn start(
    view: View<Service>,
    Target(want): Target<Service>,
    System(all): System<Device>,
) -> Option<View<Service>> {
    let is_started = |on: &Service| on.status == "running" && on.version == want.version;
    let is_due = want.needs.is_empty() || all.services.get(&want.needs).is_some_and(is_started);
    step(view, is_due, "created", "running")
}

fn stop_dropped(view: View<Service>) -> Option<View<Service>> {
    step(view, true, "running", "stopped")
}

fn remove_dropped(view: View<Service>) -> Option<View<Option<Service>>> {
    (view.status == "stopped").then(|| view.delete())
}

fn step(mut view: View<Service>, is_due: bool, from: &str, to: &str) -> Option<View<Service>> {
    let is_due = is_due && view.status == from;
    view.status = to.to_owned();
    is_due.then_some(view)
}
