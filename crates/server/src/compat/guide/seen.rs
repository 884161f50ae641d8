//! What is seen of services, judged in the guide's words.

use std::collections::BTreeMap;

use jiff::Timestamp;
use upbeat_model::target::{Ask, Goal};
use upbeat_model::{App, OperationId, Phase, Reason, SlotStatus};

use super::elsewhere::Elsewhere;
use super::error::ServicesError;
use super::service::ServiceHealth;

/// How far a service is that was to be started.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// It is on its way.
    NotYet,
    /// It is there.
    Up,
    /// It is not, for this reason.
    Failed(String),
}

/// Its first copy; it has no others.
pub(super) fn by_name(app: Option<&App>) -> BTreeMap<&str, &SlotStatus> {
    let slots = app.into_iter().flat_map(|app| &app.slots).filter(|status| status.slot.index == 1);
    slots.map(|status| (status.slot.service.as_str(), status)).collect()
}

/// It was started and has not been seen to end, or it has ended well, and what it started elsewhere is not
/// known to be gone.
pub(super) fn runs(name: &str, seen: &BTreeMap<&str, &SlotStatus>, elsewhere: &Elsewhere) -> bool {
    !elsewhere.is_silent(name)
        && seen.get(name).is_some_and(|status| {
            status.phase == Phase::Completed
                || (status.goal == Goal::Running && status.started_at.is_some() && status.phase.is_alive())
        })
}

/// It is on its way up, or there.
fn is_coming_up(status: &SlotStatus) -> bool {
    status.goal == Goal::Running && status.phase.is_alive()
}

/// What is to be asked of a service that others need.
pub(super) fn needed(name: &str, seen: &BTreeMap<&str, &SlotStatus>, elsewhere: &Elsewhere) -> Option<Ask> {
    let is_on_its_way = seen.get(name).is_some_and(|status| is_coming_up(status));
    (!runs(name, seen, elsewhere) && !is_on_its_way).then_some(Ask::Start)
}

/// What is to be asked of the named service: one that does not answer is begun anew.
pub(super) fn named(seen: Option<&&SlotStatus>, ask: Ask) -> Option<Ask> {
    let is_ill = |phase| matches!(phase, Phase::Unhealthy | Phase::NeedsAttention);
    match seen {
        Some(status) if ask == Ask::Start && is_ill(status.phase) => Some(Ask::Restart),
        Some(status) if ask == Ask::Start && is_coming_up(status) => None,
        _ => Some(ask),
    }
}

/// Whether a service that was to be started by this operation, or runs already, was started.
pub(super) fn settled(
    seen: Option<&&SlotStatus>,
    since: OperationId,
    all: &BTreeMap<&str, &SlotStatus>,
) -> Settled {
    let Some(status) = seen.filter(|status| status.operation >= since) else { return Settled::NotYet };
    if status.goal != Goal::Running {
        return Settled::Failed("it was stopped meanwhile".to_owned());
    }
    match status.phase {
        Phase::Running | Phase::Healthy | Phase::Completed => Settled::Up,
        Phase::NeedsAttention if gave_up(status) => Settled::Failed(why(status)),
        Phase::Unhealthy | Phase::NeedsAttention => Settled::Up,
        Phase::Starting => {
            let has_answered = status.probes.values().all(|probe| probe.last.is_some());
            let is_up = status.started_at.is_some() && !status.probes.is_empty() && has_answered;
            if is_up { Settled::Up } else { Settled::NotYet }
        }
        Phase::Waiting => {
            let stopped = status.reasons.iter().find_map(|reason| match reason {
                Reason::WaitsFor { service, .. } => {
                    let needed = all.get(service.as_str());
                    needed.is_none_or(|needed| needed.goal != Goal::Running).then_some(service)
                }
                _ => None,
            });
            match stopped {
                Some(service) => {
                    Settled::Failed(format!("it needs `{service}`, which was stopped meanwhile"))
                }
                None => Settled::NotYet,
            }
        }
        Phase::Absent | Phase::Stopped | Phase::Stopping => Settled::NotYet,
        Phase::DependencyFailed | Phase::Failed | Phase::BackingOff | Phase::CrashLooping => {
            Settled::Failed(why(status))
        }
    }
}

/// Whether a service that was to be stopped by this operation has ended.
///
/// `old`: a trouble there was before, which may be mended when it is tried again.
pub(super) fn stopped(
    name: &str,
    seen: Option<&&SlotStatus>,
    begun: OperationId,
    old: Option<&String>,
) -> Result<bool, ServicesError> {
    let Some(status) = seen else { return Ok(true) };
    if status.operation < begun {
        return Ok(false);
    }
    let failed = |why: String| Err(ServicesError::StopFailed { name: name.to_owned(), why });
    if status.goal == Goal::Running {
        return failed("it was started again meanwhile".to_owned());
    }
    if gave_up(status) {
        return failed(why(status));
    }
    match (status.phase, trouble(status)) {
        (Phase::Stopped | Phase::Absent, _) => Ok(true),
        (_, Some(trouble)) if Some(&trouble) != old => failed(format!("{trouble}; it is tried again")),
        _ => Ok(false),
    }
}

/// It could not be stopped, and nothing more is done about that before somebody asks.
pub(super) fn gave_up(status: &SlotStatus) -> bool {
    status.reasons.iter().any(|reason| matches!(reason, Reason::StopFailed { .. }))
}

/// Why it cannot be handled, if it cannot.
pub(super) fn trouble(status: &SlotStatus) -> Option<String> {
    let trouble = status.reasons.iter().find(|reason| matches!(reason, Reason::Trouble { .. }));
    trouble.map(ToString::to_string)
}

/// Why it is where it is, in one line.
fn why(status: &SlotStatus) -> String {
    match (&status.exit, status.reasons.first()) {
        (Some(exit), _) if status.phase == Phase::Failed => exit.to_string(),
        (_, Some(reason)) => reason.to_string(),
        (_, None) => status.phase.to_string(),
    }
}

/// What is known of a process without its being asked.
pub(super) fn of_process(seen: Option<&SlotStatus>) -> ServiceHealth {
    let Some(status) = seen else {
        return checked(false, "no process runs: it was not started".to_owned());
    };
    match status.pid {
        Some(pid) => checked(true, format!("process {pid} runs")),
        None if status.phase == Phase::Completed => checked(
            false,
            "no process runs: its start command has ended; if that started something elsewhere, give the \
             service a `health_check_endpoint` and a `stop_command`"
                .to_owned(),
        ),
        None => checked(false, format!("no process runs: {}", why(status))),
    }
}

pub(super) fn checked(healthy: bool, message: String) -> ServiceHealth {
    ServiceHealth { healthy, message, last_check: Timestamp::now() }
}
