//! What people and gates see of a slot.

use upbeat_model::state::{Exit, SlotStatus};
use upbeat_model::target::{Goal, TargetSlot};
use upbeat_model::{Phase, Reason, SlotId, Wall};

use super::settle::{Intent, intent};
use super::{Slot, Stage, Up, backoff, health};
use crate::gate::{Verdict, View};

/// The phase, from the stage, the wish and what the gate said.
pub(super) fn phase(slot: &Slot, wish: &TargetSlot) -> Phase {
    let shall_go = wish.goal != Goal::Running || matches!(intent(slot, wish), Intent::Down(_));
    if slot.observing && shall_go && slot.durable.stage != Stage::Removing {
        // Whatever is there shall go, and it is not known yet what that is.
        return Phase::Stopping;
    }
    match (&slot.durable.stage, &slot.blocked) {
        (Stage::Gone, _) => Phase::Absent,
        (Stage::Removing, _) if wish.goal == Goal::Running => Phase::Waiting,
        (Stage::Removing, _) => Phase::Stopped,
        (Stage::Starting { .. }, _) => Phase::Starting,
        (Stage::Up(up), blocked) => up_phase(up, blocked.is_some(), wish),
        (_, Some(Verdict::Failed(_))) => Phase::DependencyFailed,
        (_, Some(Verdict::Wait(_))) => Phase::Waiting,
        (Stage::Idle, _) if wish.goal == Goal::Running => Phase::Waiting,
        (Stage::Idle, _) => Phase::Stopped,
        (Stage::Resting { .. }, _) if slot.durable.failures >= backoff::CRASH_LOOP => Phase::CrashLooping,
        (Stage::Resting { .. }, _) => Phase::BackingOff,
        (Stage::Ended { .. }, _) => match &slot.durable.exit {
            Some(exit) if wish.spec.succeeds_with(exit) => Phase::Completed,
            _ => Phase::Failed,
        },
    }
}

fn up_phase(up: &Up, blocked: bool, wish: &TargetSlot) -> Phase {
    if up.stopping.is_some() || blocked {
        return Phase::Stopping;
    }
    if !up.preparation.is_done() {
        return Phase::Starting;
    }
    match (wish.spec.readiness(), health::answer(up, wish)) {
        (None, _) => Phase::Running,
        (Some(_), Some(true)) => Phase::Healthy,
        (Some(_), Some(false)) => Phase::Unhealthy,
        (Some(_), None) => Phase::Starting,
    }
}

/// What the gates of others see.
pub fn view(id: &SlotId, slot: &Slot, wish: &TargetSlot) -> View {
    let leaving = match intent(slot, wish) {
        Intent::Down(_) | Intent::Clear => slot.durable.stage != Stage::Idle || slot.observing,
        Intent::Run => matches!(slot.durable.stage, Stage::Ended { .. }),
        Intent::Hold => matches!(&slot.durable.stage, Stage::Up(up) if up.stopping.is_some()),
    };
    View {
        slot: id.clone(),
        phase: phase(slot, wish),
        running: matches!(&slot.durable.stage, Stage::Up(up) if up.preparation.is_done()),
        leaving: leaving
            || (slot.observing && matches!(slot.durable.stage, Stage::Up(_) | Stage::Starting { .. })),
        exit: slot.durable.exit.clone(),
        passing: Default::default(),
    }
}

/// Everything people may know of it.
pub fn status(id: &SlotId, slot: &Slot, wish: &TargetSlot) -> SlotStatus {
    let phase = phase(slot, wish);
    let durable = &slot.durable;
    let (pid, started_at, release) = match &durable.stage {
        Stage::Up(up) => (Some(up.pid), Some(up.started_at), up.mark.release),
        Stage::Starting { mark, .. } | Stage::Ended { mark } | Stage::Resting { mark, .. } => {
            (None, None, mark.release)
        }
        _ => (None, None, wish.release),
    };
    SlotStatus {
        slot: id.clone(),
        goal: wish.goal,
        phase,
        attempt: durable.attempt,
        pid,
        exit: durable.exit.clone(),
        restarts: durable.restarts,
        since: durable.entered.map_or(Wall(0), |(_, at)| at),
        started_at,
        health: slot.health.last.clone().filter(|_| pid.is_some()),
        reasons: reasons(slot, phase, wish),
        operation: wish.operation,
        release,
    }
}

fn reasons(slot: &Slot, phase: Phase, wish: &TargetSlot) -> Vec<Reason> {
    let durable = &slot.durable;
    let mut reasons = Vec::new();
    if let Some(Verdict::Wait(reason) | Verdict::Failed(reason)) = &slot.blocked {
        reasons.push(reason.clone());
    }
    match &durable.stage {
        Stage::Starting { .. } => reasons.push(Reason::BeingStarted),
        Stage::Removing => reasons.push(Reason::BeingRemoved),
        Stage::Up(up) => reasons.extend(up_reason(slot, up, phase, wish)),
        Stage::Resting { until_wall, delay, .. } if slot.blocked.is_none() => {
            if let Some(exit) = &durable.exit {
                reasons.push(Reason::BacksOff {
                    exit: exit.clone(),
                    failures: durable.failures,
                    delay: *delay,
                    until: *until_wall,
                });
            }
        }
        Stage::Ended { .. } if phase == Phase::Failed => {
            if let Some(exit) = &durable.exit {
                reasons.push(Reason::NotRestarted {
                    exit: exit.clone(),
                    policy: backoff::policy_text(&wish.spec),
                    restarts: durable.restarts,
                });
            }
        }
        Stage::Idle if wish.goal == Goal::Stopped => {
            reasons.push(Reason::StoppedBy { operation: wish.operation });
        }
        _ => {}
    }
    if let (Some(Exit::Unknown(detail)), Stage::Resting { .. } | Stage::Ended { .. }) =
        (&durable.exit, &durable.stage)
    {
        reasons.push(Reason::ShimLost { detail: detail.clone() });
    }
    if let Some(detail) = &slot.trouble {
        reasons.push(Reason::Trouble { detail: detail.clone() });
    }
    reasons
}

fn up_reason(slot: &Slot, up: &Up, phase: Phase, wish: &TargetSlot) -> Option<Reason> {
    if let Some(stopping) = &up.stopping {
        return Some(Reason::BeingStopped {
            how: stopping.how.clone(),
            kill_at: stopping.deadline_wall,
            why: stopping.cause,
        });
    }
    if !up.preparation.is_done() {
        return Some(Reason::RunsHooks);
    }
    let probe = wish.spec.readiness()?.ask.clone();
    let last = slot.health.last.clone();
    match phase {
        Phase::Starting => Some(Reason::NotReadyYet { probe, last }),
        Phase::Unhealthy => Some(Reason::ProbeFails {
            probe,
            last: last.unwrap_or_else(|| "it has not answered since Upbeat was restarted".into()),
            failures: slot.health.failures,
        }),
        _ => None,
    }
}
