//! What a slot is when its copy has ended.

use upbeat_model::project::{Role, Service};
use upbeat_model::reason::StopCause;
use upbeat_model::state::Exit;
use upbeat_model::target::Goal;
use upbeat_model::{Attempt, Millis, SlotId, Wall};

use super::hooks::{self, Preparation};
use super::{Around, Condemned, Follows, Mark, Slot, Stage, StopRules, Up, backoff};
use crate::node::Outcome;
use crate::rules::Bug;

/// How the copy that has ended came to its end.
struct Ending {
    mark: Mark,
    /// How long it ran.
    ran: Millis,
    /// Somebody wanted it stopped, or another one in its place.
    was_stopped: bool,
    /// What follows, where it was no good any more.
    follows: Option<Follows>,
    /// How it was to be stopped, where its process was there; and which one it was.
    rules: Option<(StopRules, u64)>,
    /// The attempt, where that has failed before it was ready, unless it has completed.
    failed_start: Option<Attempt>,
}

/// A copy ended, or could not be started. Says what the slot is from now on.
pub(super) fn ended(id: &SlotId, slot: &mut Slot, exit: Exit, around: &Around<'_>) {
    slot.observing = false;
    slot.recheck = None;
    slot.trouble = None;
    slot.prepared = None;
    let before = std::mem::take(&mut slot.durable.stage);
    let runs_on = around.wish.goal == Goal::Running;
    let (ending, exit) = match before {
        Stage::Up(up) => {
            let rules = Some((StopRules::in_force(&up, around), up.serial));
            let failed_start = Some(up.attempt).filter(|_| failed_before_ready(&up));
            // Nobody asks why it was no good when it is to go anyway.
            let condemned = up.condemned.filter(|_| runs_on);
            let (follows, on_record) = match condemned {
                Some(Condemned { follows, exit, .. }) => (Some(follows), exit),
                None => (None, None),
            };
            // How long its hooks took to fail is no length of a run.
            let ran = match on_record {
                Some(Exit::NotStarted(_)) => Millis(0),
                _ => around.now.since(up.started),
            };
            let was_stopped = up.stopping.is_some() && follows.is_none();
            let mark = up.mark;
            (Ending { mark, ran, was_stopped, follows, rules, failed_start }, on_record.unwrap_or(exit))
        }
        Stage::Starting { begun, before } => {
            let serial = begun.serial;
            let rules = begun.stop.filter(|_| before == Preparation::Done).map(|rules| (rules, serial));
            let was_stopped = !runs_on;
            // Its end may be heard together with its start, or before: what awaits nothing was ready then.
            let never_ran = matches!(exit, Exit::NotStarted(_));
            let has_failed = runs_on && (never_ran || awaits(&around.wish.spec));
            let failed_start = Some(slot.durable.attempt).filter(|_| has_failed);
            let (mark, ran, follows) = (begun.mark, Millis(0), None);
            (Ending { mark, ran, was_stopped, follows, rules, failed_start }, exit)
        }
        // INVARIANT of the callers: something was up or starting.
        other => {
            slot.durable.stage = other;
            return;
        }
    };
    slot.durable.exit = Some(exit.clone());
    slot.durable.farewell =
        ending.rules.as_ref().and_then(|rules| hooks::farewell(slot, rules, &exit, around));
    let failed_start = ending.failed_start;
    follow(id, slot, ending, &exit, around);
    let completes =
        matches!(slot.durable.stage, Stage::Ended { .. }) && around.wish.spec.succeeds_with(&exit);
    if let Some(attempt) = failed_start.filter(|_| !completes) {
        slot.outcomes.push(Outcome::StartFailed { slot: id.clone(), attempt });
    }
}

/// It has ended, or was no good, before it was ready, and neither did somebody ask for that, nor was it for
/// the sake of what it rests on.
fn failed_before_ready(up: &Up) -> bool {
    let stopped_for = up.stopping.as_ref().map(|stopping| stopping.cause);
    let cause = stopped_for.or(up.condemned.as_ref().map(|condemned| condemned.cause));
    up.unready
        && match cause {
            None | Some(StopCause::HookFailed | StopCause::ProbeFailed | StopCause::SaidStopping) => true,
            Some(StopCause::Goal | StopCause::Restart | StopCause::Changed) => false,
            Some(StopCause::DependencyEnded | StopCause::HalfStopped | StopCause::Taken) => false,
        }
}

/// More has to come than that it runs before it is ready.
fn awaits(spec: &Service) -> bool {
    let mut probes = spec.probes.keys();
    !spec.post_start.is_empty() || probes.any(|name| matches!(name.role(), Role::Startup | Role::Readiness))
}

/// What follows from an end.
fn follow(id: &SlotId, slot: &mut Slot, ending: Ending, exit: &Exit, around: &Around<'_>) {
    if ending.was_stopped {
        slot.durable.failures = 0;
        return;
    }
    if ending.follows == Some(Follows::Start) {
        // A restart like others, but none that it has to make up for.
        slot.durable.failures = 0;
        let (until, until_wall, delay) = (around.now, around.wall, Millis(0));
        slot.durable.stage = Stage::Resting { mark: ending.mark, until, until_wall, delay };
        return;
    }
    count(slot, ending.ran, around);
    let again = match ending.follows {
        Some(Follows::Restart) if !around.rules.has(Bug::RestartByPolicy) => true,
        Some(Follows::Nothing) if !around.rules.has(Bug::StopForNow) => false,
        _ => backoff::restarts(&around.wish.spec, exit, slot.durable.failures),
    };
    slot.durable.stage = match again {
        true => rest(id, slot, ending.mark, around),
        false => Stage::Ended { mark: ending.mark },
    };
}

/// Counts quick ends in a row.
fn count(slot: &mut Slot, ran: Millis, around: &Around<'_>) {
    let window = around.wish.spec.restart_rhythm.window.unwrap_or(backoff::RESET_WINDOW);
    if ran >= window && !around.rules.has(Bug::NeverResetFailures) {
        slot.durable.failures = 0;
    }
    slot.durable.failures = slot.durable.failures.saturating_add(1);
}

fn rest(id: &SlotId, slot: &Slot, mark: Mark, around: &Around<'_>) -> Stage {
    let durable = &slot.durable;
    let fixed = around.wish.spec.restart_rhythm.delay;
    let delay = backoff::delay(id, durable.attempt, durable.failures, fixed);
    Stage::Resting {
        mark,
        until: around.now + delay,
        until_wall: Wall(around.wall.0.saturating_add_unsigned(delay.0)),
        delay,
    }
}
