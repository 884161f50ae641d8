//! What happened, as lines of the daemon's log: for whoever alerts on them.
//!
//! Laws: every event is a line, with the same words in it and no more, so nothing is told here that is
//! withheld there. A slot that is as it should be again is `info`; what came unasked is `warn`; what
//! waits for a person is `error`; the steps in between are `debug`.

use tracing::Level;
use tracing::field::display;
use upbeat_model::rollout::Happened;
use upbeat_model::{AppName, EventKind, Phase, Reason};

/// Whose lines they are: `UPBEAT_LOG=warn,upbeat::events=info` writes them and little else.
const TARGET: &str = "upbeat::events";

/// `tracing` wants a level that is known where it is written.
macro_rules! tell {
    ($level:expr, $($line:tt)+) => {
        match $level {
            Level::ERROR => tracing::error!(target: TARGET, $($line)+),
            Level::WARN => tracing::warn!(target: TARGET, $($line)+),
            Level::INFO => tracing::info!(target: TARGET, $($line)+),
            _ => tracing::debug!(target: TARGET, $($line)+),
        }
    };
}

/// One event, one line.
pub(crate) fn tell(app: Option<&AppName>, kind: &EventKind) {
    let app = app.map(display);
    let level = level(kind);
    let event = kind.word().as_str();
    match kind {
        EventKind::Phase { slot, from, to, attempt, pid, exit, reasons } => {
            let why = (!reasons.is_empty()).then(|| all(reasons));
            let ended = exit.as_ref().map(|exit| format!(" ({exit})")).unwrap_or_default();
            let because = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            let (exit, left, entered) = (exit.as_ref().map(display), from.key(), to.key());
            tell!(level, event, app, %slot, from = left, to = entered, attempt = attempt.0, pid, exit, why,
                "{}: {from} → {to}{ended}{because}", slot.short());
        }
        EventKind::Reacted { slot, attempt, probe, action, last, times } => {
            tell!(level, event, app, %slot, attempt = attempt.0, %probe, %action, answer = %last, times,
                "{}: probe `{probe}` failed → {action}: {last}", slot.short());
        }
        EventKind::Remedied { slot, attempt, probe, failure } => {
            tell!(level, event, app, %slot, attempt = attempt.0, %probe, failure,
                "{}: what was run about probe `{probe}` {}", slot.short(), came_to(failure.as_deref()));
        }
        EventKind::Reloaded { slot, attempt, failure } => {
            tell!(level, event, app, %slot, attempt = attempt.0, failure,
                "{}: its reload {}", slot.short(), came_to(failure.as_deref()));
        }
        EventKind::Drifted { slot, attempt, what, remedy, failure } => {
            let came_to = failure.as_ref().map_or_else(|| remedy.clone(), |why| format!("failed: {why}"));
            tell!(level, event, app, %slot, attempt = attempt.0, failure, "{}: {what} → {came_to}",
                slot.short());
        }
        EventKind::Adopted { slot, attempt, pid } => {
            tell!(level, event, app, %slot, attempt = attempt.0, pid,
                "{}: found again after a restart of the daemon", slot.short());
        }
        EventKind::Built { service, image, seconds } => {
            tell!(level, event, app, %service, image, seconds, "{service}: built {image} in {seconds} s");
        }
        EventKind::BuildFailed { service, image, seconds, why } => {
            tell!(level, event, app, %service, image, seconds, why,
                "{service}: {image} was not built: {why}");
        }
        EventKind::OperationStarted { operation, what, who } => {
            tell!(
                level,
                event,
                app,
                operation = operation.0,
                what,
                who,
                "operation {operation}: `{what}` by {who}"
            );
        }
        EventKind::Rollout { namespace, entity, what, .. } => {
            tell!(level, event, namespace, entity, "rollout {namespace}/{entity}: {what}");
        }
        EventKind::OperationEnded { operation, outcome } => {
            tell!(level, event, app, operation = operation.0, outcome, "operation {operation}: {outcome}");
        }
    }
}

fn all(reasons: &[Reason]) -> String {
    reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join(", and ")
}

fn came_to(failure: Option<&str>) -> String {
    failure.map_or_else(|| "has ended well".to_owned(), |why| format!("failed: {why}"))
}

/// How much somebody should care.
fn level(kind: &EventKind) -> Level {
    match kind {
        EventKind::Phase { from, to, exit, .. } => {
            // One that ended well and is to run again may be meant so; any other end that nobody asked for
            // is not.
            let ended_badly =
                exit.as_ref().is_some_and(|exit| !exit.is_success()) && *from != Phase::Stopping;
            match to {
                Phase::NeedsAttention | Phase::CrashLooping => Level::ERROR,
                Phase::Failed | Phase::Unhealthy | Phase::BackingOff | Phase::DependencyFailed => Level::WARN,
                _ if ended_badly => Level::WARN,
                Phase::Starting if exit.is_some() => Level::INFO,
                Phase::Running | Phase::Healthy | Phase::Completed | Phase::Stopped | Phase::Absent => {
                    Level::INFO
                }
                Phase::Waiting | Phase::Starting | Phase::Stopping => Level::DEBUG,
            }
        }
        EventKind::Reacted { .. } | EventKind::Drifted { .. } | EventKind::BuildFailed { .. } => Level::WARN,
        EventKind::Remedied { failure, .. } | EventKind::Reloaded { failure, .. } => {
            if failure.is_some() {
                Level::WARN
            } else {
                Level::INFO
            }
        }
        EventKind::Rollout { what, .. } => match what {
            Happened::Halted { .. } => Level::ERROR,
            Happened::Bad { .. } | Happened::RollingBack { .. } | Happened::Failed { .. } => Level::WARN,
            Happened::Assigned { .. } => Level::DEBUG,
            _ => Level::INFO,
        },
        EventKind::Adopted { .. }
        | EventKind::Built { .. }
        | EventKind::OperationStarted { .. }
        | EventKind::OperationEnded { .. } => Level::INFO,
    }
}

#[cfg(test)]
mod tests {
    use upbeat_model::{Attempt, Exit};

    use super::*;

    fn change(from: Phase, to: Phase, exit: Option<Exit>) -> EventKind {
        let slot = "shop/web/1".parse().unwrap();
        EventKind::Phase { slot, from, to, attempt: Attempt(1), pid: None, exit, reasons: Vec::new() }
    }

    #[test]
    fn what_nobody_asked_for_warns_and_what_waits_for_a_person_is_an_error() {
        use Phase::*;
        let (well, badly, killed) = (Some(Exit::Code(0)), Some(Exit::Code(3)), Some(Exit::Signal(9)));
        for (from, to, exit, expected) in [
            (Waiting, Starting, None, Level::DEBUG),
            (Starting, Running, None, Level::INFO),
            (Starting, Healthy, None, Level::INFO),
            (Unhealthy, Healthy, None, Level::INFO),
            (Running, Stopping, None, Level::DEBUG),
            (Stopping, Stopped, killed.clone(), Level::INFO),
            (Stopping, Starting, killed, Level::INFO),
            (Running, Completed, well.clone(), Level::INFO),
            (Running, Starting, well, Level::INFO),
            (Running, Starting, badly.clone(), Level::WARN),
            (Running, BackingOff, badly.clone(), Level::WARN),
            (Running, Stopped, badly.clone(), Level::WARN),
            (Starting, Failed, badly.clone(), Level::WARN),
            (Waiting, DependencyFailed, None, Level::WARN),
            (Healthy, Unhealthy, None, Level::WARN),
            (Unhealthy, NeedsAttention, None, Level::ERROR),
            (Running, CrashLooping, badly, Level::ERROR),
        ] {
            assert_eq!(level(&change(from, to, exit)), expected, "{from} → {to}");
        }
        let reloaded = |failure: Option<&str>| EventKind::Reloaded {
            slot: "shop/web/1".parse().unwrap(),
            attempt: Attempt(1),
            failure: failure.map(str::to_owned),
        };
        assert_eq!((level(&reloaded(None)), level(&reloaded(Some("x")))), (Level::INFO, Level::WARN));
    }
}
