//! Upbeat's own planner.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use upbeat_bench::{Failure, Memory, median, ms};
use upbeat_decide::planner::{How, Input, Limits, Observed, plan};
use upbeat_model::plan::{Container, ContainerState, Kept, World};
use upbeat_model::project::Dependency;
use upbeat_model::project::container::{Attachment, ImageRef, Network, NetworkMode};
use upbeat_model::{AppName, Ask, Goal, OperationId, Phase, Service, ServiceName, SlotId, TargetSlot};

use crate::{Case, TEN};

const ROUNDS: usize = 9;

type Slots = BTreeMap<SlotId, TargetSlot>;

/// Milliseconds of a plan and of the floor, bytes of the first plan at most, steps and edges.
pub(crate) fn measure(case: Case, slots: usize) -> Result<Value, Failure> {
    let none = Slots::new();
    let (world, current, wanted) = match case {
        Case::Fresh | Case::Chain => (World::default(), none, wishes(case, slots, 1)?),
        Case::UpdateAll => (world(case, slots)?, wishes(case, slots, 1)?, wishes(case, slots, 2)?),
        Case::DropSome => {
            let current = wishes(case, slots, 1)?;
            let kept = current.iter().filter(|(slot, _)| !case.drops(number(slot)));
            (
                world(case, slots)?,
                current.clone(),
                kept.map(|(slot, wish)| (slot.clone(), wish.clone())).collect(),
            )
        }
    };
    let how = How::default();
    let input =
        Input { world: &world, current: &current, wanted: &wanted, how: &how, limits: Limits::default() };
    let memory = Memory::begin()?;
    let first = plan(&input)?;
    let bytes = memory.at_most()?;
    let (mut times, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let copied = (world.clone(), current.clone(), wanted.clone());
        floor.push(ms(begun.elapsed()));
        drop(copied);
        let begun = Instant::now();
        let plan = plan(&input)?;
        times.push(ms(begun.elapsed()));
        assert_eq!(plan.steps.len(), first.steps.len(), "the same plan again");
    }
    let groups = slots.div_ceil(TEN);
    let expected = match case {
        // Pulled, made, started; and the networks.
        Case::Fresh | Case::Chain => 3 * slots + groups,
        // Pulled, made, stopped, removed, started; and between what waits for all and all it waits for.
        Case::UpdateAll => 5 * slots + 1,
        // Stopped and removed.
        Case::DropSome => 2 * (0..slots).filter(|n| case.drops(*n)).count(),
    };
    if first.steps.len() != expected {
        return Err(format!("{} steps instead of {expected}", first.steps.len()).into());
    }
    Ok(json!({
        "plan_ms": median(times),
        "copied_ms": median(floor),
        "bytes": bytes,
        "steps": first.steps.len(),
        "edges": first.steps.iter().map(|step| step.after.len()).sum::<usize>(),
    }))
}

fn name(n: usize) -> String {
    format!("s{n:05}")
}

fn slot(n: usize) -> Result<SlotId, Failure> {
    Ok(format!("bench/{}/1", name(n)).parse()?)
}

/// Of which service of them a slot is.
fn number(slot: &SlotId) -> usize {
    slot.service.as_str().trim_start_matches('s').parse().unwrap_or_default()
}

fn network(n: usize) -> Network {
    let group = n / TEN;
    Network::new(format!("net{group:04}"), format!("bench_net{group:04}"))
}

/// Each of an image of its own, in a network with nine others, and depending on the one before.
fn wishes(case: Case, slots: usize, version: u32) -> Result<Slots, Failure> {
    (0..slots).map(|n| Ok((slot(n)?, wish(case, n, version)?))).collect()
}

fn wish(case: Case, n: usize, version: u32) -> Result<TargetSlot, Failure> {
    let mut service = Service::of_image(ImageRef::parse(&format!("registry.example/{}:{version}", name(n)))?);
    if let Some(container) = service.container.as_mut() {
        container.network = NetworkMode::Networks(vec![Attachment::to(network(n))]);
    }
    if let Some(before) = case.needs(n) {
        service.depends_on.insert(ServiceName::new(name(before))?, Dependency::default());
    }
    Ok(TargetSlot {
        goal: Goal::Running,
        digest: service.digest(),
        spec: Arc::new(service),
        release: 1,
        generation: 1,
        ask: Ask::Ensure,
        kill: false,
        operation: OperationId(1),
        base_environment: Arc::default(),
        heeds_locks: false,
    })
}

/// All of them run, of the first version.
fn world(case: Case, slots: usize) -> Result<World, Failure> {
    let mut world = World::default();
    let app = AppName::new("bench")?;
    for n in 0..slots {
        let (slot, wish, network) = (slot(n)?, wish(case, n, 1)?, network(n));
        let image = format!("registry.example/{}:1", name(n));
        let id = format!("sha256:{n:064x}");
        world.images.insert(image, id.clone());
        let container = Container {
            slot: slot.clone(),
            digest: wish.digest.clone(),
            image: Some(id),
            state: ContainerState::Running,
            release: None,
            networks: [network.name.clone()].into(),
            volumes: Default::default(),
            ports: Vec::new(),
            temporary: false,
        };
        world.containers.insert(format!("bench-{}-1", name(n)), container);
        let kept = Kept { app: Some(app.clone()), digest: Some(network.digest()) };
        world.networks.insert(network.name, kept);
        let seen = Observed {
            phase: Phase::Running,
            running_digest: Some(wish.digest),
            running_generation: Some(wish.generation),
        };
        world.observed.insert(slot, seen);
    }
    Ok(world)
}
