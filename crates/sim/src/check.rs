//! The checkers: what must never be seen, whatever the seed. They know the kernel's truth and the
//! statuses people are shown; of the decisions they know nothing.

use upbeat_decide::instance::Moment;
use upbeat_decide::{Effect, Node};
use upbeat_model::project::{Condition, Dependency, Question, Signal};
use upbeat_model::target::{Ask, Goal};
use upbeat_model::{Exit, Phase, SlotId, SlotStatus};

use crate::kernel::Kernel;
use crate::runs::Runs;
use crate::workload::Workload;

/// A promise that was broken, in words.
pub(crate) type Verdict = Result<(), String>;

/// Back-off as the documentation has it, kept apart from the code: 0, 1, 2, 4 … 60 s.
fn least_delay(ends_in_a_row: u32) -> u64 {
    match ends_in_a_row {
        0 | 1 => 0,
        n => (1_000u64 << (n - 2).min(10)).min(60_000),
    }
}

/// What a slot has been through, as an onlooker counts it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Past {
    /// Quick ends; `None` when an onlooker cannot know.
    pub(crate) ends_in_a_row: Option<u32>,
    pub(crate) ended_at: Option<u64>,
    pub(crate) generation: u64,
    /// The daemon was killed since, so it may have noticed later.
    pub(crate) disturbed: bool,
}

/// What can be seen: what the node shows, what is really there, what is wished, and what was ordered.
pub(crate) struct Onlooker<'a> {
    pub(crate) node: &'a Node,
    pub(crate) kernel: &'a Kernel,
    pub(crate) workload: &'a Workload,
    pub(crate) runs: &'a Runs,
}

/// An order is about to be carried out.
pub(crate) fn order(effect: &Effect, onlooker: &Onlooker<'_>, past: &Past, now: u64) -> Verdict {
    match effect {
        Effect::Start { slot, .. } => start(slot, onlooker, past, now),
        Effect::Stop { slot, .. } | Effect::RunHooks { slot, moment: Moment::PreStop, .. } => {
            stop(slot, onlooker)
        }
        _ => Ok(()),
    }
}

fn start(slot: &SlotId, onlooker: &Onlooker<'_>, past: &Past, now: u64) -> Verdict {
    let Onlooker { node, kernel, workload, .. } = onlooker;
    if let Some(process) = kernel.process(slot)
        && process.listener != u64::MAX
        && node.status(slot).is_some_and(|status| status.attempt > process.attempt.next())
    {
        return Err(format!("{slot}: a second start is ordered while pid {} lives", process.pid));
    }
    let wish = &workload.target.slots[slot];
    if wish.goal != Goal::Running {
        return Err(format!("{slot}: a start is ordered though its goal is {:?}", wish.goal));
    }
    for (service, edge) in &wish.spec.depends_on {
        for copy in workload.copies(service) {
            condition(slot, copy, edge, onlooker)?;
        }
    }
    let (Some(ends), Some(ended_at)) = (past.ends_in_a_row, past.ended_at) else { return Ok(()) };
    if past.generation != wish.generation {
        return Ok(());
    }
    let (least, waited) = (least_delay(ends), now - ended_at);
    if waited < least {
        return Err(format!("{slot}: started {waited} ms after an end, {least} ms are due"));
    }
    let free = wish.spec.depends_on.is_empty() && !past.disturbed;
    if free && waited > least + least / 10 + 200 {
        return Err(format!("{slot}: started {waited} ms after an end, only {least} ms are due"));
    }
    Ok(())
}

fn condition(slot: &SlotId, copy: &SlotId, edge: &Dependency, onlooker: &Onlooker<'_>) -> Verdict {
    let Onlooker { node, kernel, runs, .. } = onlooker;
    let Some(seen) = node.status(copy) else { return Ok(()) };
    let phase = seen.phase;
    let holds = match &edge.condition {
        Condition::Started => {
            matches!(phase, Phase::Running | Phase::Healthy | Phase::Unhealthy | Phase::Completed)
                || (phase == Phase::Starting && seen.pid.is_some())
        }
        Condition::Healthy => matches!(phase, Phase::Running | Phase::Healthy),
        Condition::CompletedSuccessfully => phase == Phase::Completed,
        Condition::Completed => matches!(phase, Phase::Completed | Phase::Failed),
        Condition::Failed => phase == Phase::Failed,
        Condition::Ready => matches!(phase, Phase::Running | Phase::Healthy | Phase::Completed),
        // No workload has one yet.
        Condition::Probe(_) => false,
    };
    if edge.condition == Condition::Started
        && kernel
            .process(copy)
            .is_some_and(|process| process.attempt == seen.attempt && !runs.is_prepared(process, copy))
    {
        return Err(format!("{slot}: started though the hooks of {copy} have not succeeded"));
    }
    let passed_over = !edge.required
        && matches!(phase, Phase::Failed | Phase::DependencyFailed | Phase::Stopped | Phase::Completed);
    if !holds && !passed_over {
        return Err(format!("{slot}: started though {copy} is {phase}, not {}", edge.condition));
    }
    if edge.condition == Condition::Healthy
        && phase == Phase::Healthy
        && kernel.process(copy).is_some_and(|process| {
            process.passed != Some(runs.question(copy)) && process.attempt == seen.attempt
        })
    {
        return Err(format!("{slot}: started though {copy} has not passed what its check asks"));
    }
    Ok(())
}

/// What is as wished is left alone. What rests on it, and goes too, goes first.
fn stop(slot: &SlotId, onlooker: &Onlooker<'_>) -> Verdict {
    let Onlooker { node, kernel, workload, runs } = onlooker;
    let wish = &workload.target.slots[slot];
    // One that came late, after a later attempt was decided, is nobody's.
    let last = node.durable(slot).map(|durable| durable.attempt);
    let known = kernel.process(slot).filter(|process| Some(process.attempt) == last);
    let there_for = known.map(|process| process.ordered_for);
    let has_failed = known.is_some_and(|process| process.hooks_failed);
    if wish.goal == Goal::Running && there_for == Some(wish.generation) && !has_failed {
        return Err(format!("{slot}: is to be stopped, though it runs as wished"));
    }
    if wish.kill {
        return Ok(());
    }
    for (dependent, theirs) in &workload.target.slots {
        let Some(process) = kernel.process(dependent) else { continue };
        let run = runs.of(process, dependent);
        let rests = theirs.spec.depends_on.contains_key(&slot.service)
            || run.is_some_and(|run| run.needs.contains(&slot.service));
        let replaced = run.is_some_and(|run| run.held.digest() != theirs.digest);
        let goes = theirs.goal != Goal::Running || replaced;
        let known = node.status(dependent).is_some_and(|status| status.pid.is_some());
        if rests && goes && known && !runs.is_loose(dependent, slot) {
            return Err(format!("{slot}: stopped before {dependent}, which rests on it and goes too"));
        }
    }
    Ok(())
}

/// A copy is stopped as the file says that it was started by, or went on under since.
pub(crate) fn manner(
    effect: &Effect,
    pressed: bool,
    kernel: &Kernel,
    workload: &Workload,
    runs: &Runs,
) -> Verdict {
    let slot = effect.slot();
    let Some(run) = kernel.process(slot).and_then(|process| runs.of(process, slot)) else { return Ok(()) };
    let spec = &run.held;
    match effect {
        Effect::RunHooks { moment: Moment::PostStart, .. } => Ok(()),
        Effect::RunHooks { commands, timeout, .. } => {
            let hooks = spec.pre_stop.iter().map(|hook| &hook.command).chain(&spec.stop_command);
            let own = commands.iter().map(|command| &command.command).eq(hooks)
                && commands.iter().all(|command| spec.environment == command.environment)
                && spec.stop_grace_period == *timeout;
            own.then_some(()).ok_or_else(|| format!("{slot}: what is run before its stop is not its own"))
        }
        Effect::Stop { signal: Signal::KILL, .. } if pressed || workload.target.slots[slot].kill => Ok(()),
        Effect::Stop { signal, grace, .. } => {
            let runs_first = spec.stop_command.is_some() || !spec.pre_stop.is_empty();
            let first = !runs_first && spec.stop_grace_period == *grace;
            match *signal == spec.stop_signal && (pressed || first) {
                true => Ok(()),
                false => Err(format!("{slot}: {signal} within {grace} is not its own way to stop")),
            }
        }
        _ => Ok(()),
    }
}

/// What people are told is so.
pub(crate) fn told(status: &SlotStatus, onlooker: &Onlooker<'_>) -> Verdict {
    let Onlooker { node, kernel, workload, runs } = onlooker;
    let slot = &status.slot;
    if matches!(status.phase, Phase::Completed | Phase::Failed | Phase::BackingOff | Phase::CrashLooping)
        && let Some(exit) = &status.exit
        && !kernel.ended_so(slot, status.attempt, exit)
        && !matches!(exit, Exit::NotStarted(_))
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
        return Err(format!("{slot}: is {} and nobody says why", status.phase));
    }
    if matches!(status.phase, Phase::Running | Phase::Healthy | Phase::Unhealthy)
        && let Some(process) = kernel.process(slot)
        && process.attempt == status.attempt
        && !runs.is_prepared(process, slot)
    {
        return Err(format!("{slot}: {} though its hooks have not succeeded", status.phase));
    }
    if status.phase == Phase::Healthy
        && let Some(process) = kernel.process(slot)
        && process.attempt == status.attempt
        && process.passed != Some(runs.question(slot))
    {
        return Err(format!("{slot}: healthy though it has not passed what its check asks"));
    }
    if status.phase == Phase::Unhealthy {
        let check = workload.target.slots.get(slot).and_then(|wish| wish.spec.readiness().cloned());
        if let (Some(check), Some(process)) = (check, kernel.process(slot))
            && !matches!(check.ask, Question::Log(_))
            && process.attempt == status.attempt
            && process.failed_in_a_row < check.failure_threshold
        {
            let failed = process.failed_in_a_row;
            return Err(format!(
                "{slot}: unhealthy after {failed} failures, not {}",
                check.failure_threshold
            ));
        }
    }
    Ok(())
}

/// What ends an operation is true at that moment, but for what is still on its way here.
pub(crate) fn reached(
    status: &SlotStatus,
    kernel: &Kernel,
    workload: &Workload,
    started_under: Option<u64>,
    now: u64,
) -> Verdict {
    let (slot, attempt) = (&status.slot, status.attempt);
    let Some(wish) = workload.target.slots.get(slot) else { return Ok(()) };
    if upbeat_decide::outcome(status) != Some(upbeat_model::Wish::Reached) {
        return Ok(());
    }
    let process = kernel.process(slot).filter(|process| process.listener != u64::MAX);
    let wrong = match status.phase {
        Phase::Running | Phase::Healthy => {
            let runs = process.is_some_and(|process| process.attempt == attempt);
            !runs && !kernel.ended_since(slot, attempt, now.saturating_sub(NEWS_TRAVELS))
        }
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

/// A shim is about to kill what it has asked to stop.
pub(crate) fn patience(slot: &SlotId, kernel: &Kernel, workload: &Workload, now: u64) -> Verdict {
    let asked = kernel.process(slot).and_then(|process| process.asked);
    let at_once = workload.target.slots.get(slot).is_none_or(|wish| wish.kill);
    match asked {
        Some((at, due)) if now < at + due && !at_once => {
            Err(format!("{slot}: killed {} ms after it was asked to stop, {due} are due", now - at))
        }
        _ => Ok(()),
    }
}

/// Nothing is decided before an observation comes.
fn node_is_looking(node: &Node, slot: &SlotId) -> bool {
    node.is_observing(slot)
}

/// After everything has been quiet for long.
pub(crate) fn at_the_end(node: &Node, kernel: &Kernel, workload: &Workload) -> Verdict {
    for (slot, wish) in &workload.target.slots {
        let Some(status) = node.status(slot) else { return Err(format!("{slot}: nothing is known of it")) };
        let alive = kernel.process(slot).is_some();
        let phase = status.phase;
        if alive != status.pid.is_some() {
            return Err(format!(
                "{slot}: it is {phase}, but its process {}",
                if alive { "lives" } else { "is gone" }
            ));
        }
        let settled = match wish.goal {
            Goal::Running => match phase {
                Phase::Running | Phase::Healthy | Phase::Unhealthy => true,
                Phase::NeedsAttention | Phase::Completed => true,
                Phase::Failed | Phase::DependencyFailed | Phase::BackingOff | Phase::CrashLooping => true,
                Phase::Starting => {
                    let prepared = kernel
                        .process(slot)
                        .is_some_and(|process| process.hooks_succeeded || wish.spec.post_start.is_empty());
                    wish.spec.readiness().is_some() && alive && prepared
                }
                Phase::Waiting => waits_with_cause(slot, node, workload),
                Phase::Stopped | Phase::Absent | Phase::Stopping => false,
            },
            Goal::Stopped => phase == Phase::Stopped && !alive,
            Goal::Absent => phase == Phase::Absent && !alive,
        };
        if !settled {
            return Err(format!("{slot}: it shall be {:?} and is {phase} for ever", wish.goal));
        }
    }
    match kernel
        .places
        .iter()
        .find(|(id, place)| place.process.is_some() && !workload.target.slots.contains_key(*id))
    {
        Some((slot, _)) => Err(format!("{slot}: a process is left that nobody wishes for")),
        None => Ok(()),
    }
}

/// Some condition of it really does not hold.
fn waits_with_cause(slot: &SlotId, node: &Node, workload: &Workload) -> bool {
    workload.target.slots[slot].spec.depends_on.iter().any(|(service, edge)| {
        let copies = workload.copies(service);
        copies.is_empty()
            || copies.iter().any(|copy| {
                let phase = node.status(copy).map(|status| status.phase);
                match &edge.condition {
                    Condition::Started => !matches!(
                        phase,
                        Some(Phase::Running | Phase::Healthy | Phase::Unhealthy | Phase::Completed)
                    ),
                    Condition::Healthy => !matches!(phase, Some(Phase::Running | Phase::Healthy)),
                    Condition::CompletedSuccessfully => phase != Some(Phase::Completed),
                    Condition::Completed => !matches!(phase, Some(Phase::Completed | Phase::Failed)),
                    Condition::Failed => phase != Some(Phase::Failed),
                    Condition::Ready => {
                        !matches!(phase, Some(Phase::Running | Phase::Healthy | Phase::Completed))
                    }
                    Condition::Probe(_) => true,
                }
            })
    })
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
