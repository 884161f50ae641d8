//! How a wish ended: judged from how its slot looks.

use upbeat_model::target::Goal;
use upbeat_model::{Phase, SlotStatus, Wish};

/// Whether the operation that set this slot's goal has its way, or never will unless something
/// changes. `None`: it is not decided yet.
pub fn outcome(status: &SlotStatus) -> Option<Wish> {
    match (status.goal, status.phase) {
        (Goal::Running, Phase::Running | Phase::Healthy | Phase::Completed) => Some(Wish::Reached),
        (Goal::Running, Phase::Failed | Phase::DependencyFailed | Phase::CrashLooping) => {
            Some(Wish::Failed { reasons: status.reasons.clone() })
        }
        (Goal::Stopped, Phase::Stopped) | (Goal::Absent, Phase::Absent) => Some(Wish::Reached),
        _ => None,
    }
}
