//! Plans by hand, plans of the page, the upstream's defects, and random worlds against oracles.

mod defects;
mod lint;
mod pages;
mod processes;
mod rules;
mod scene;
mod worlds;

use std::sync::Arc;

use upbeat_model::plan::{StepReason, World};
use upbeat_model::project::{Condition, Dependency};
use upbeat_model::target::Ask;
use upbeat_model::{OperationId, Service};

use super::*;

fn slot(text: &str) -> SlotId {
    let (service, index) = text.split_once('-').unwrap_or((text, "1"));
    format!("app/{service}/{index}").parse().unwrap()
}

fn service(command: &str, depends_on: &[(&str, Condition, bool)]) -> Service {
    let depends_on = depends_on.iter().map(|(name, condition, restart)| {
        let edge = Dependency { condition: condition.clone(), restart: *restart, ..Dependency::default() };
        (ServiceName::new(name).unwrap(), edge)
    });
    Service { depends_on: depends_on.collect(), ..Service::new(vec![command.to_owned()], "/") }
}

fn wish(goal: Goal, spec: Service) -> TargetSlot {
    TargetSlot {
        goal,
        digest: spec.digest(),
        spec: Arc::new(spec),
        release: 1,
        generation: 1,
        ask: Ask::Ensure,
        kill: false,
        heeds_locks: false,
        operation: OperationId(1),
        base_environment: Arc::default(),
    }
}

fn seen(phase: Phase, by: &TargetSlot) -> Observed {
    Observed { phase, running_digest: Some(by.digest.clone()), running_generation: Some(by.generation) }
}

/// `name: dep dep`, one a line; a dependency ending in `!` has `restart: true`.
fn target(text: &str, command: &str) -> Slots {
    text.lines()
        .map(|line| {
            let (name, needs) = line.split_once(':').unwrap_or((line, ""));
            let needs: Vec<_> = (needs.split_whitespace())
                .map(|need| (need.trim_end_matches('!'), Condition::Healthy, need.ends_with('!')))
                .collect();
            (slot(name.trim()), wish(Goal::Running, service(command, &needs)))
        })
        .collect()
}

fn running(target: &Slots) -> BTreeMap<SlotId, Observed> {
    target.iter().map(|(slot, wish)| (slot.clone(), seen(Phase::Healthy, wish))).collect()
}
