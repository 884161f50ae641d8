//! What must be so after everything has been quiet for long.

use upbeat_decide::Node;
use upbeat_model::project::{OnFailure, Reaction};
use upbeat_model::target::Goal;
use upbeat_model::{Millis, Phase, Reason, SlotId, SlotStatus};

use crate::check::{Onlooker, Verdict};
use crate::ledger::{gave_up, is_up};

/// News of an end or a start is on its way for less than this.
const NEWS_TRAVELS: u64 = 100;

/// Hooks, a grace period and a probe together take less than this; whatever takes longer hangs.
const PASSES: i64 = 400_000;

/// It came to this lately: among those that are restarted for ever some are on their way.
pub(crate) fn is_fresh(status: &SlotStatus, wall: i64) -> bool {
    status.since.0 + PASSES > wall
}

/// No state that is kept of a slot is larger than this, in bytes: whatever has happened to it.
const KEPT_MAX: usize = 8 * 1024;

/// After everything has been quiet for long.
pub(crate) fn at_the_end(onlooker: &Onlooker<'_>, now: u64, wall: i64) -> Verdict {
    let Onlooker { node, kernel, workload, probing, .. } = onlooker;
    for (slot, wish) in &workload.target.slots {
        let Some(status) = node.status(slot) else { return Err(format!("{slot}: nothing is known of it")) };
        let phase = status.phase;
        let here = kernel.process(slot).is_some();
        let in_motion = kernel.ended_since(slot, status.attempt, now - NEWS_TRAVELS)
            || kernel.process(slot).is_some_and(|process| process.begun + NEWS_TRAVELS > now);
        if here != status.pid.is_some() && !in_motion {
            let is = if here { "lives" } else { "is gone" };
            return Err(format!("{slot}: it is {phase}, but its process {is}"));
        }
        let settled = match wish.goal {
            Goal::Running => is_settled(status, onlooker, wall) || is_fresh(status, wall),
            Goal::Stopped | Goal::Absent if gave_up(status) => !here,
            Goal::Stopped => phase == Phase::Stopped && !here,
            Goal::Absent => phase == Phase::Absent && !here,
        };
        if !settled {
            let edges: Vec<String> = (wish.spec.depends_on.iter())
                .map(|(on, edge)| {
                    format!(
                        "{on} {} {:?} {:?} {}",
                        edge.condition, edge.on_failure, edge.timeout, edge.required
                    )
                })
                .collect();
            return Err(format!(
                "{slot}: it shall be {:?} and is {phase} for ever: {}",
                wish.goal,
                edges.join(", ")
            ));
        }
        if is_up(status) && wish.goal == Goal::Running && phase != Phase::Stopping && !gave_up(status) {
            let said = kernel.process(slot).map(|process| &process.said);
            if !runs_hooks(status) {
                probing.goes_on(slot, status, said, now)?;
            }
            if !is_fresh(status, wall) {
                remedied(status, onlooker)?;
            }
        }
    }
    let is_wished = |slot: &SlotId| workload.target.slots.contains_key(slot);
    match kernel.places.iter().find(|(slot, place)| place.process.is_some() && !is_wished(slot)) {
        Some((slot, _)) => Err(format!("{slot}: a process is left that nobody wishes for")),
        None => Ok(()),
    }
}

fn is_settled(status: &SlotStatus, onlooker: &Onlooker<'_>, wall: i64) -> bool {
    let slot = &status.slot;
    let wish = &onlooker.workload.target.slots[slot];
    match status.phase {
        Phase::Running | Phase::Healthy | Phase::Unhealthy => true,
        Phase::NeedsAttention | Phase::Completed => true,
        Phase::Failed | Phase::BackingOff | Phase::CrashLooping => true,
        Phase::DependencyFailed => fails_with_cause(slot, onlooker),
        Phase::Starting => is_up(status) && wish.spec.probes.values().len() > 0 && !runs_hooks(status),
        Phase::Waiting => waits_with_cause(slot, onlooker, wall - status.since.0),
        Phase::Stopped | Phase::Absent | Phase::Stopping => false,
    }
}

fn runs_hooks(status: &SlotStatus) -> bool {
    status.reasons.iter().any(|reason| matches!(reason, Reason::RunsHooks { .. }))
}

/// A copy whose probe has come to a no is replaced or stopped where that is what is to be done about
/// it, or a person is asked to look.
fn remedied(status: &SlotStatus, onlooker: &Onlooker<'_>) -> Verdict {
    let slot = &status.slot;
    let probes = &onlooker.workload.target.slots[slot].spec.probes;
    let stands = status.probes.iter().find(|(name, shown)| {
        let remedy = probes.get(*name).map(|probe| probe.remedy(name.role()).action);
        shown.passing == Some(false) && matches!(remedy, Some(Reaction::Restart | Reaction::Stop))
    });
    match stands {
        Some((name, _)) if status.phase != Phase::NeedsAttention => {
            Err(format!("{slot}: `{name}` fails for long, and nothing is done about it"))
        }
        _ => Ok(()),
    }
}

/// Some edge of it says that it fails by now.
fn fails_with_cause(slot: &SlotId, onlooker: &Onlooker<'_>) -> bool {
    let edges = &onlooker.workload.target.slots[slot].spec.depends_on;
    edges.iter().filter(|(_, edge)| edge.on_failure == OnFailure::Fail).any(|(service, edge)| {
        let copies = onlooker.workload.copies(service);
        let late = edge.timeout.is_some() && copies.iter().any(|copy| !onlooker.holds(copy, &edge.condition));
        let failed = edge.required && copies.iter().any(|copy| onlooker.has_failed(copy, edge));
        late || failed || (copies.is_empty() && (edge.required || edge.timeout.is_some()))
    })
}

/// Some condition of it really does not hold, and its edge lets it wait for that.
fn waits_with_cause(slot: &SlotId, onlooker: &Onlooker<'_>, waited: i64) -> bool {
    let edges = &onlooker.workload.target.slots[slot].spec.depends_on;
    let fails = edges.iter().any(|(service, edge)| {
        let copies = onlooker.workload.copies(service);
        let failed = |copy: &&SlotId| onlooker.has_failed(copy, edge);
        edge.on_failure == OnFailure::Fail && edge.required && copies.iter().any(failed)
    });
    let waits = edges.iter().any(|(service, edge)| {
        let copies = onlooker.workload.copies(service);
        let holds = |copy: &&SlotId| onlooker.holds(copy, &edge.condition);
        let never = copies.iter().any(|copy| onlooker.has_failed(copy, edge));
        // One that is not required passes over a copy that has failed, and waits for the others.
        let gives_up = edge.on_failure == OnFailure::Continue && edge.required && never;
        let in_time = |timeout: Millis| u64::try_from(waited).is_ok_and(|waited| waited < timeout.0);
        let patient = edge.timeout.is_none_or(in_time) || edge.on_failure == OnFailure::Wait;
        patient && !gives_up && (copies.is_empty() || !copies.iter().all(holds))
    });
    waits && !fails
}

/// What is kept does not grow.
pub(crate) fn is_small(slot: &SlotId, kept: &str) -> Verdict {
    match kept.len() > KEPT_MAX {
        true => Err(format!("{slot}: {} bytes are kept of it: {}", kept.len(), &kept[..500])),
        false => Ok(()),
    }
}

/// A deadline that is due was just looked at: it must have moved.
pub(crate) fn moves_on(node: &Node, now: u64) -> Verdict {
    match node.deadline() {
        Some(due) if due.0 <= now => {
            Err(format!("the deadline {} is due at {now} and does not move: a busy loop", due.0))
        }
        _ => Ok(()),
    }
}
