//! How a wish ended: judged from how its slot looks.

use upbeat_model::target::Goal;
use upbeat_model::{Phase, Reason, SlotStatus, Wish};

/// Whether the operation that set this slot's goal has its way, or never will unless something
/// changes. `None`: it is not decided yet.
pub fn outcome(status: &SlotStatus) -> Option<Wish> {
    let running = status.goal == Goal::Running && status.phase.is_alive();
    if running && status.reasons.contains(&Reason::Reloads) {
        return None;
    }
    let stands_in_the_way = |reason: &Reason| match reason {
        Reason::CannotPrepare { .. }
        | Reason::CannotLock { .. }
        | Reason::NothingIsTouched { failed: true, .. }
        | Reason::WaitsInVain { .. }
        | Reason::WaitsForRelease { failed: true, .. } => Some(true),
        Reason::HoldsLock { .. } | Reason::TakesLocks => Some(false),
        Reason::Prepares { .. } | Reason::NothingIsTouched { .. } => Some(false),
        _ => None,
    };
    if let Some(failed) = status.reasons.iter().find_map(stands_in_the_way) {
        return failed.then(|| Wish::Failed { reasons: status.reasons.clone() });
    }
    if running && status.reasons.iter().any(|reason| matches!(reason, Reason::ReloadFailed { .. })) {
        return Some(Wish::Failed { reasons: status.reasons.clone() });
    }
    if status.reasons.iter().any(|reason| matches!(reason, Reason::StopFailed { .. })) {
        return Some(Wish::Failed { reasons: status.reasons.clone() });
    }
    match (status.goal, status.phase) {
        (Goal::Running, Phase::Running | Phase::Healthy | Phase::Completed) => Some(Wish::Reached),
        (
            Goal::Running,
            Phase::Failed | Phase::DependencyFailed | Phase::CrashLooping | Phase::NeedsAttention,
        ) => Some(Wish::Failed { reasons: status.reasons.clone() }),
        (Goal::Stopped, Phase::Stopped) | (Goal::Absent, Phase::Absent) => Some(Wish::Reached),
        _ => None,
    }
}
