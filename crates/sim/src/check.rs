//! The checkers: what must never be seen, whatever the seed. They know the kernel's truth and the
//! statuses people are shown; of the decisions they know nothing.

use upbeat_decide::instance::Moment;
use upbeat_decide::{Bundle, Effect, Node};
use upbeat_model::project::{Condition, Dependency, OnFailure, Signal};
use upbeat_model::target::{Ask, Goal};
use upbeat_model::{Attempt, Phase, ProbeName, Reason, SlotId, SlotStatus};

use crate::kernel::Kernel;
use crate::ledger::{Ledger, gave_up};
use crate::probing::Probing;
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
    /// Hooks are run before it may be started again.
    pub(crate) has_hooks: bool,
}

/// What can be seen: what the node shows, what is really there, what is wished, and what was ordered.
pub(crate) struct Onlooker<'a> {
    pub(crate) node: &'a Node,
    pub(crate) kernel: &'a Kernel,
    pub(crate) workload: &'a Workload,
    pub(crate) runs: &'a Runs,
    pub(crate) probing: &'a Probing,
}

impl Onlooker<'_> {
    /// What this attempt runs is elsewhere.
    pub(crate) fn is_external(&self, slot: &SlotId, attempt: Attempt) -> bool {
        self.runs.held(slot, attempt).is_some_and(|held| held.external)
    }

    /// When what this attempt runs began to.
    pub(crate) fn began(&self, slot: &SlotId, attempt: Attempt) -> Option<u64> {
        let outside = self.kernel.elsewhere.get(slot).filter(|outside| outside.attempt == attempt);
        outside.map(|outside| outside.since).or_else(|| self.kernel.began(slot, attempt))
    }

    /// Something is wrong with it, but its readiness passes.
    fn is_usable(&self, copy: &SlotId) -> bool {
        self.node.status(copy).is_some_and(|seen| {
            let ready = seen.probes.get("readiness").is_some_and(|shown| shown.passing == Some(true));
            matches!(seen.phase, Phase::Unhealthy | Phase::NeedsAttention) && ready
        })
    }

    /// Whether a copy is as a condition wants it, as far as it is shown.
    pub(crate) fn holds(&self, copy: &SlotId, condition: &Condition) -> bool {
        let Some(seen) = self.node.status(copy) else { return false };
        let phase = seen.phase;
        match condition {
            Condition::Started => {
                let up = matches!(
                    phase,
                    Phase::Running
                        | Phase::Healthy
                        | Phase::Unhealthy
                        | Phase::NeedsAttention
                        | Phase::Completed
                );
                !gave_up(seen) && (up || (phase == Phase::Starting && seen.started_at.is_some()))
            }
            Condition::Healthy => matches!(phase, Phase::Running | Phase::Healthy) || self.is_usable(copy),
            Condition::CompletedSuccessfully => phase == Phase::Completed,
            Condition::Ready => {
                matches!(phase, Phase::Running | Phase::Healthy | Phase::Completed) || self.is_usable(copy)
            }
            Condition::Completed => matches!(phase, Phase::Completed | Phase::Failed),
            Condition::Failed => phase == Phase::Failed,
            Condition::Probe(_) | Condition::Port(_) | Condition::Line(_) => {
                let shown = condition.probe().and_then(|name| seen.probes.get(&*name));
                phase.is_alive() && shown.is_some_and(|shown| shown.passing == Some(true))
            }
        }
    }

    /// It will never be so without somebody's help, and the edge says what then.
    pub(crate) fn has_failed(&self, copy: &SlotId, edge: &Dependency) -> bool {
        self.node.status(copy).is_some_and(|seen| is_hopeless(seen.phase, edge))
    }
}

/// Who waits for this of what is in such a phase waits in vain.
fn is_hopeless(phase: Phase, edge: &Dependency) -> bool {
    match (phase, &edge.condition) {
        (Phase::Failed, Condition::Failed | Condition::Completed) => false,
        (Phase::Failed | Phase::DependencyFailed, _) => true,
        (Phase::Completed, Condition::Healthy | Condition::Failed) => true,
        (Phase::Completed, asks) => asks.probe().is_some(),
        _ => false,
    }
}

/// An order is about to be carried out.
pub(crate) fn order(
    effect: &Effect,
    bundle: &Bundle,
    onlooker: &Onlooker<'_>,
    ledger: &Ledger,
    past: &Past,
    now: u64,
) -> Verdict {
    match effect {
        Effect::Start { slot, attempt, .. } => {
            let page = ledger.pages.get(slot);
            if page.and_then(|page| page.ordered).is_some_and(|(ordered, _)| ordered == *attempt) {
                // Of what runs elsewhere: whether its command was run died with the daemon.
                return Ok(());
            }
            start(slot, bundle, onlooker, ledger, past, now)
        }
        Effect::Stop { slot, .. } | Effect::RunHooks { slot, moment: Moment::PreStop, .. } => {
            stop(slot, bundle, onlooker, ledger)
        }
        _ => Ok(()),
    }
}

fn start(
    slot: &SlotId,
    bundle: &Bundle,
    onlooker: &Onlooker<'_>,
    ledger: &Ledger,
    past: &Past,
    now: u64,
) -> Verdict {
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
    let waited = now.saturating_sub(ledger.waits_since(slot));
    // In one and the same decision it had failed for the one, and is begun anew after that.
    let had_failed = |copy: &SlotId, edge: &Dependency| {
        bundle.statuses.get(copy).is_some_and(|change| is_hopeless(change.from, edge))
    };
    for (service, edge) in &wish.spec.depends_on {
        let copies = workload.copies(service);
        let gives_up = edge.timeout.is_some_and(|timeout| waited >= timeout.0)
            || copies.iter().any(|copy| onlooker.has_failed(copy, edge) || had_failed(copy, edge));
        if edge.on_failure == OnFailure::Continue && gives_up {
            continue;
        }
        for copy in copies {
            // In one and the same decision it was still there for the one, and is taken down for another.
            let change = bundle.statuses.get(copy);
            if change.is_some_and(|change| {
                change.from != change.status.phase && change.status.phase == Phase::Stopping
            }) {
                continue;
            }
            condition(slot, copy, edge, onlooker)?;
        }
    }
    rhythm(slot, onlooker, past, now)
}

/// A start after an end comes when its back-off is over, and then at once.
fn rhythm(slot: &SlotId, onlooker: &Onlooker<'_>, past: &Past, now: u64) -> Verdict {
    let wish = &onlooker.workload.target.slots[slot];
    let (Some(ends), Some(ended_at)) = (past.ends_in_a_row, past.ended_at) else { return Ok(()) };
    if past.generation != wish.generation {
        return Ok(());
    }
    let (least, waited) = (least_delay(ends), now - ended_at);
    if waited < least {
        return Err(format!("{slot}: started {waited} ms after an end, {least} ms are due"));
    }
    let spec = &wish.spec;
    let free = spec.depends_on.is_empty() && spec.pre_start.is_empty() && !past.disturbed && !past.has_hooks;
    if free && waited > least + least / 10 + 200 {
        return Err(format!("{slot}: started {waited} ms after an end, only {least} ms are due"));
    }
    Ok(())
}

fn condition(slot: &SlotId, copy: &SlotId, edge: &Dependency, onlooker: &Onlooker<'_>) -> Verdict {
    let Onlooker { node, kernel, runs, probing, .. } = onlooker;
    let Some(seen) = node.status(copy) else { return Ok(()) };
    let phase = seen.phase;
    if edge.condition == Condition::Started
        && kernel
            .process(copy)
            .is_some_and(|process| process.attempt == seen.attempt && !runs.is_prepared(process, copy))
    {
        return Err(format!("{slot}: started though the hooks of {copy} have not succeeded"));
    }
    let passed_over = !edge.required
        && (phase == Phase::Stopped || phase == Phase::Completed || onlooker.has_failed(copy, edge));
    let holds = onlooker.holds(copy, &edge.condition);
    if !holds && !passed_over {
        return Err(format!("{slot}: started though {copy} is {phase}, not {}", edge.condition));
    }
    let probe;
    let asks = match &edge.condition {
        Condition::Healthy | Condition::Ready if phase.is_alive() => Some(ProbeName::READINESS),
        asks => {
            probe = asks.probe();
            probe.as_deref().map(ProbeName::as_str)
        }
    };
    match asks {
        Some(name) if holds && !probing.may_pass(copy, seen.attempt, name) => {
            Err(format!("{slot}: started though {copy} has not passed what its probe `{name}` asks"))
        }
        Some(name) if holds && !probing.is_heard(copy, seen.attempt, name) => {
            Err(format!("{slot}: started by what `{name}` of {copy} was answered before the daemon died"))
        }
        _ => Ok(()),
    }
}

/// What is as wished is left alone. What rests on it, and goes too, goes first.
fn stop(slot: &SlotId, bundle: &Bundle, onlooker: &Onlooker<'_>, ledger: &Ledger) -> Verdict {
    let Onlooker { node, kernel, workload, runs, .. } = onlooker;
    let wish = &workload.target.slots[slot];
    // One that came late, after a later attempt was decided, is nobody's.
    let last = node.durable(slot).map(|durable| durable.attempt);
    let known =
        kernel.process(slot).filter(|process| Some(process.attempt) == last && process.ordered_for != 0);
    let has_failed = known.is_some_and(|process| process.hooks_failed);
    if let Some(attempt) = known.map(|process| process.attempt)
        && let Some(run) = runs.of_attempt(slot, attempt)
        && wish.goal == Goal::Running
        && run.held.digest() == wish.digest
        && (wish.ask != Ask::Restart || run.ordered_for == wish.generation)
        && !has_failed
        && !ledger.has_cause(slot, attempt, bundle, onlooker)
    {
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
        let status = node.status(dependent);
        // It may wait for its lock for ever; who stops what it rests on does not wait for that.
        let is_locked = |status: &SlotStatus| status.reasons.iter().any(is_of_a_lock);
        let known =
            status.is_some_and(|status| status.pid.is_some() && !(theirs.heeds_locks && is_locked(status)));
        if rests && goes && known && !runs.is_loose(dependent, slot) {
            return Err(format!("{slot}: stopped before {dependent}, which rests on it and goes too"));
        }
    }
    Ok(())
}

fn is_of_a_lock(reason: &Reason) -> bool {
    matches!(reason, Reason::HoldsLock { .. } | Reason::TakesLocks | Reason::CannotLock { .. })
}

/// A copy is stopped as the file says that it was started by, or went on under since.
pub(crate) fn manner(effect: &Effect, pressed: bool, onlooker: &Onlooker<'_>) -> Verdict {
    let Onlooker { kernel, workload, runs, .. } = onlooker;
    let slot = effect.slot();
    let Some(run) = kernel.process(slot).and_then(|process| runs.of(process, slot)) else { return Ok(()) };
    let spec = &run.held;
    match effect {
        Effect::RunHooks { moment: Moment::PreStop, commands, timeout, .. } => {
            let hooks = spec.pre_stop.iter().map(|hook| &hook.command).chain(&spec.stop_command);
            let own = commands.iter().map(|command| &command.command).eq(hooks)
                && commands.iter().all(|command| spec.environment == command.environment)
                // What could not be run is run with what is left of the time.
                && (spec.stop_grace_period == *timeout || (pressed && *timeout < spec.stop_grace_period));
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
