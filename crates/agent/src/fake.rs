//! What tests have in common: a wish, and how a slot looks.

use std::sync::Arc;

use tokio::sync::mpsc;
use upbeat_decide::Change;
use upbeat_drivers::docker::{Engine, EngineSettings};
use upbeat_drivers::machine::Machine;
use upbeat_drivers::process::{Places, ProcessDriver, ShimProgram};
use upbeat_drivers::update_locks::UpdateLocks;
use upbeat_model::project::Service;
use upbeat_model::target::{Ask, Goal, Target, TargetSlot};
use upbeat_model::{Attempt, OperationId, Phase, SlotId, SlotStatus, Wall};

use crate::Events;

/// That one slot runs so.
pub(crate) fn target(slot: SlotId, spec: Service) -> Target {
    let spec = Arc::new(spec);
    let wish = TargetSlot {
        goal: Goal::Running,
        digest: spec.digest(),
        spec,
        release: 1,
        generation: 1,
        ask: Ask::Ensure,
        kill: false,
        heeds_locks: false,
        operation: OperationId(1),
        base_environment: Arc::default(),
    };
    Target { revision: 1, slots: [(slot, wish)].into() }
}

/// A machine on which nothing can be made, whoever runs this: no process, no container.
pub(crate) fn machine() -> (Machine, Events) {
    let program = ShimProgram { path: "/nonexistent".into(), args: Vec::new() };
    let [slots, private, process] = ["/dev/null/none"; 3].map(Into::into);
    let places = Places { slots, private, process };
    let settings = EngineSettings {
        host: Some("unix:///dev/null/none".into()),
        config: None,
        keys: tokio::sync::watch::channel(Default::default()).1,
        owner: "test".into(),
        slots: places.slots.clone(),
        locks: UpdateLocks::new(places.slots.clone()),
        failpoint: |_| {},
    };
    let (driver, of_processes) = ProcessDriver::new(program, places).unwrap();
    let (tell, containers) = mpsc::channel(16);
    let locks = settings.locks.clone();
    let machine = Machine { processes: driver, engine: Engine::new(settings, tell), locks };
    (machine, Events { processes: of_processes, containers })
}

/// A slot looks different.
pub(crate) fn change(slot: SlotId, from: Phase, phase: Phase, attempt: u64, restarts: u32) -> Change {
    let status = SlotStatus {
        slot,
        goal: if phase == Phase::Absent { Goal::Absent } else { Goal::Running },
        phase,
        attempt: Attempt(attempt),
        pid: None,
        container: None,
        exit: None,
        restarts,
        since: Wall(0),
        started_at: None,
        log_start: None,
        health: None,
        probes: Default::default(),
        says: None,
        reasons: Vec::new(),
        operation: OperationId(1),
        release: 1,
    };
    Change { from, status, mark: None, timeline: None, up_since: None, is_looked_at: true, is_seen: true }
}
