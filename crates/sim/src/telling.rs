//! What people are told, held against what is there.

use upbeat_decide::Node;
use upbeat_model::project::OnFailure;
use upbeat_model::target::{Ask, Goal};
use upbeat_model::{Exit, Phase, ProbeName, Reason, SlotId, SlotStatus};

use crate::check::{Onlooker, Verdict};
use crate::ledger::Ledger;

/// What people are told is so.
pub(crate) fn told(status: &SlotStatus, onlooker: &Onlooker<'_>, ledger: &Ledger, now: u64) -> Verdict {
    let Onlooker { node, kernel, runs, probing, .. } = onlooker;
    let slot = &status.slot;
    if matches!(status.phase, Phase::Completed | Phase::Failed | Phase::BackingOff | Phase::CrashLooping)
        && let Some(exit) = &status.exit
        && !kernel.ended_so(slot, status.attempt, exit)
        && !matches!(exit, Exit::NotStarted(_) | Exit::Stopped(_))
        && !onlooker.is_external(slot, status.attempt)
    {
        return Err(format!(
            "{slot}: attempt {} is said to have ended by {exit}, which it did not",
            status.attempt
        ));
    }
    let content = status.phase.is_ready() || status.phase == Phase::Completed;
    let at_goal = match status.goal {
        Goal::Running => content,
        Goal::Stopped => true,
        Goal::Absent => true,
    };
    // A wait that was taken up in this very moment has its reason in the next status.
    if !at_goal && status.reasons.is_empty() && !node_is_looking(node, slot) {
        return Err(format!("{slot}: is {} and nobody says why: {:?}", status.phase, node.durable(slot)));
    }
    if matches!(status.phase, Phase::Running | Phase::Healthy | Phase::Unhealthy)
        && let Some(process) = kernel.process(slot)
        && process.attempt == status.attempt
        && !runs.is_prepared(process, slot)
    {
        return Err(format!("{slot}: {} though its hooks have not succeeded", status.phase));
    }
    if status.phase == Phase::Healthy && !probing.may_pass(slot, status.attempt, ProbeName::READINESS) {
        let known =
            ProbeName::new(ProbeName::READINESS).map(|name| probing.tells(slot, &name)).unwrap_or_default();
        return Err(format!(
            "{slot}: healthy though it has not passed what its check asks: {known} {:?}",
            node.durable(slot)
        ));
    }
    if !node.is_observing(slot) {
        probing.told(status, now)?;
    }
    let main = probing.said(slot, status.attempt).and_then(|said| said.main_pid);
    if let (Some(pid), Some(main)) = (status.pid, main)
        && pid != main
    {
        return Err(format!("{slot}: its main process is said to be {pid}, and it has said {main}"));
    }
    failed_edge(status, onlooker, ledger, now)
}

/// That it cannot start is only said where an edge says that it then fails, and not too soon.
fn failed_edge(status: &SlotStatus, onlooker: &Onlooker<'_>, ledger: &Ledger, now: u64) -> Verdict {
    let slot = &status.slot;
    let Some(wish) = onlooker.workload.target.slots.get(slot) else { return Ok(()) };
    let edge_to = |service| wish.spec.depends_on.get(service);
    let because = status.reasons.iter().find_map(|reason| match reason {
        Reason::WaitedTooLong { service, timeout, .. } => Some((edge_to(service), Some(*timeout))),
        Reason::DependencyFailed { service, .. } => Some((edge_to(service), None)),
        _ => None,
    });
    let Some((Some(edge), timeout)) = because.filter(|_| status.phase == Phase::DependencyFailed) else {
        return Ok(());
    };
    if edge.on_failure != OnFailure::Fail {
        return Err(format!("{slot}: has failed by an edge that says {:?}", edge.on_failure));
    }
    let waited = now.saturating_sub(ledger.waits_since(slot));
    match timeout {
        Some(timeout) if waited < timeout.0 => {
            Err(format!("{slot}: gives up after {waited} ms, though it waits {timeout}"))
        }
        _ => Ok(()),
    }
}

/// What ends an operation is true at that moment, but for what is still on its way here.
pub(crate) fn reached(
    status: &SlotStatus,
    onlooker: &Onlooker<'_>,
    started_under: Option<u64>,
    now: u64,
) -> Verdict {
    let Onlooker { kernel, workload, .. } = onlooker;
    let (slot, attempt) = (&status.slot, status.attempt);
    let Some(wish) = workload.target.slots.get(slot) else { return Ok(()) };
    if upbeat_decide::outcome(status) != Some(upbeat_model::Wish::Reached) {
        return Ok(());
    }
    let process = kernel.process(slot).filter(|process| process.listener != u64::MAX);
    let wrong = match status.phase {
        Phase::Running | Phase::Healthy => {
            let runs = kernel.runs(slot, attempt);
            !runs && !kernel.ended_since(slot, attempt, now.saturating_sub(NEWS_TRAVELS))
        }
        Phase::Completed if onlooker.is_external(slot, attempt) => false,
        Phase::Completed => {
            let listed = wish.spec.success_exit_codes.iter().map(|code| i32::from(*code));
            !listed.chain([0]).any(|code| kernel.ended_so(slot, attempt, &Exit::Code(code)))
        }
        _ => process.is_some(),
    };
    if wrong {
        let there = process.map_or("nothing".to_owned(), |process| format!("attempt {}", process.attempt));
        return Err(format!(
            "{slot}: attempt {attempt} is said to be {}, and there is {there}",
            status.phase
        ));
    }
    let asked_anew = wish.ask == Ask::Restart && status.phase.is_ready();
    match started_under {
        Some(generation) if asked_anew && generation < wish.generation => {
            Err(format!("{slot}: a restart is said to be done, and attempt {attempt} is older"))
        }
        _ => Ok(()),
    }
}

/// News of an end, or an answer about what there is, is on its way for less than this.
const NEWS_TRAVELS: u64 = 100;

/// Nothing is decided before an observation comes.
fn node_is_looking(node: &Node, slot: &SlotId) -> bool {
    node.is_observing(slot)
}
