//! Why: a typed answer to why something is as it is, each chained to its cause.

use serde::{Deserialize, Serialize};

use crate::ids::{OperationId, ProbeName, ServiceName, SlotId};
use crate::plan::Lock;
use crate::project::{Condition, Question, Reaction, Role};
use crate::state::{Exit, Phase};
use crate::time::{Millis, Wall};

/// One link of the answer to *why*.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// A dependency's condition does not hold yet.
    WaitsFor {
        /// The dependency.
        service: ServiceName,
        /// What must hold of it.
        condition: Condition,
        /// The copy that does not satisfy it, and its phase; none when it has no copies.
        blocking: Option<(SlotId, Phase)>,
    },
    /// A dependency can not satisfy its condition any more.
    DependencyFailed {
        /// The dependency.
        service: ServiceName,
        /// What must hold of it.
        condition: Condition,
        /// The copy that failed, its phase and its exit.
        failed: Option<(SlotId, Phase, Option<Exit>)>,
    },
    /// A dependency's condition has not come to hold in time.
    WaitedTooLong {
        /// The dependency.
        service: ServiceName,
        /// What must hold of it.
        condition: Condition,
        /// How long it was waited for.
        timeout: Millis,
    },
    /// Another that is about to stop has what only one can have.
    WaitsForRelease {
        /// `port 8080/tcp`.
        what: String,
        /// Who has it.
        slot: SlotId,
        /// That one runs on, as something of its operation could not be made.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        failed: bool,
    },
    /// A copy of a dependency cannot be made ready, or waits for one that cannot: that is tried again.
    WaitsInVain {
        /// The dependency.
        service: ServiceName,
        /// Its condition.
        condition: Condition,
        /// Which copy.
        slot: SlotId,
    },
    /// What it needs is there as the file before had it, and shall be another.
    WaitsForSuccessor {
        /// Which copy.
        slot: SlotId,
    },
    /// Others that depend on it must stop first.
    WaitsForDependents {
        /// Those that still run, or the first few of them.
        dependents: Vec<SlotId>,
        /// How many there are besides.
        more: usize,
    },
    /// Everything it is started from is being made ready: its image, its networks, its container.
    Prepares {
        /// What is done now, in words: `pulling nginx:1.27 (3 of 40 MB)`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<String>,
    },
    /// It cannot be made ready for now. That is tried again.
    CannotPrepare {
        /// What happened, and what to do about it.
        detail: String,
    },
    /// It runs on as it is until everything new of the same operation is there.
    NothingIsTouched {
        /// What is not there yet, or the first few of them.
        slots: Vec<SlotId>,
        /// How many there are besides.
        more: usize,
        /// Some of it cannot be made ready.
        failed: bool,
    },
    /// It runs on as it is until what holds its update lock, or that of another of the same update, lets go.
    HoldsLock {
        /// Whose lock it is.
        slot: SlotId,
        /// Who holds it, and since when.
        lock: Lock,
    },
    /// It runs on as it is, as an update lock cannot be tried. That is tried again.
    CannotLock {
        /// Whose lock it is.
        slot: SlotId,
        /// What happened.
        detail: String,
    },
    /// It is about to be interrupted, as soon as its app's update locks are taken.
    TakesLocks,
    /// It ended, and is started again after a while.
    BacksOff {
        /// How it ended.
        exit: Exit,
        /// How often in a row.
        failures: u32,
        /// How long it waits in all.
        delay: Millis,
        /// Until when.
        until: Wall,
    },
    /// It ended, and its restart policy says to leave it.
    NotRestarted {
        /// How it ended.
        exit: Exit,
        /// The policy as text: `no`, `on-failure`, `on-failure:5`.
        policy: String,
        /// How often it was restarted before.
        restarts: u32,
    },
    /// It was stopped because it was no good any more, and nobody has started it since.
    StaysDown {
        /// Why it was stopped.
        exit: Exit,
    },
    /// Its process is being started.
    BeingStarted,
    /// Commands of these hooks have not ended: `pre_start`, `post_start` or `post_stop`.
    RunsHooks {
        /// Which.
        hooks: String,
    },
    /// It is being asked to read its configuration anew.
    Reloads,
    /// It was asked to read its configuration anew, and that failed.
    ReloadFailed {
        /// How.
        detail: String,
    },
    /// It has said that it is about to end (`STOPPING=1`).
    SaysStopping,
    /// It has said that it reads its configuration anew, and not yet that it has (`RELOADING=1`).
    SaysReloading,
    /// A probe cannot be asked for want of something of Upbeat's own: its last answer holds.
    CannotAsk {
        /// Which probe.
        name: ProbeName,
        /// The question.
        probe: Question,
        /// Why.
        detail: String,
    },
    /// What was run about a failing probe has failed.
    RemedyFailed {
        /// Which probe.
        name: ProbeName,
        /// How.
        detail: String,
    },
    /// It runs, and a probe has not passed yet.
    NotReadyYet {
        /// Which probe.
        name: ProbeName,
        /// The question.
        probe: Question,
        /// The last answer.
        last: Option<String>,
    },
    /// It runs, and a probe fails.
    ProbeFails {
        /// Which probe.
        name: ProbeName,
        /// The question.
        probe: Question,
        /// The last answer.
        last: String,
        /// How often in a row.
        failures: u32,
    },
    /// What is to be done about a failing probe was done as often as it may be.
    NeedsAttention {
        /// Which probe.
        name: ProbeName,
        /// What was done each time.
        action: Reaction,
        /// How often.
        times: u32,
        /// Within how long.
        window: Millis,
    },
    /// It is asked to stop.
    BeingStopped {
        /// What asks it.
        how: String,
        /// When it is killed. Nothing: what runs elsewhere is not ours to kill.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kill_at: Option<Wall>,
        /// For what.
        why: StopCause,
    },
    /// What runs elsewhere could not be stopped, and may run on.
    StopFailed {
        /// How its stop command failed last.
        detail: String,
    },
    /// Somebody wanted it stopped.
    StoppedBy {
        /// The operation.
        operation: OperationId,
    },
    /// It was stopped because a copy with whose end its app ends (`exit_on_end`) has ended.
    EndedWith {
        /// The operation that stopped it.
        operation: OperationId,
        /// That copy; it may be this one.
        slot: SlotId,
        /// How that one ended, in words.
        how: String,
    },
    /// What was there is being deleted first.
    BeingRemoved,
    /// Upbeat itself cannot do what it should, and tries again.
    Trouble {
        /// What happened.
        detail: String,
    },
    /// A shim was killed: what it watched was killed too and its exit is not known.
    ShimLost {
        /// What is known.
        detail: String,
    },
}

/// Why a running copy is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum StopCause {
    /// Its goal is `stopped` or `absent`.
    Goal,
    /// It was asked to restart.
    Restart,
    /// What it should run has changed.
    Changed,
    /// A `post_start` hook of it has failed.
    HookFailed,
    /// A probe of it has failed, and that is what is to be done about it.
    ProbeFailed,
    /// What it rests on has ended or was replaced.
    DependencyEnded,
    /// It has said that it would end (`STOPPING=1`), and has not.
    SaidStopping,
    /// An earlier stop of it was given up, and it may be half stopped.
    HalfStopped,
    /// Its container was ended by another hand than Upbeat's.
    Taken,
}

impl Reason {
    /// The slot to look at next when following the chain to its cause.
    pub fn cause(&self) -> Option<&SlotId> {
        match self {
            Self::WaitsFor { blocking: Some((slot, _)), .. }
            | Self::DependencyFailed { failed: Some((slot, _, _)), .. } => Some(slot),
            Self::WaitsForDependents { dependents, .. } => dependents.first(),
            Self::NothingIsTouched { slots, .. } => slots.first(),
            Self::EndedWith { slot, .. }
            | Self::HoldsLock { slot, .. }
            | Self::WaitsForRelease { slot, .. }
            | Self::WaitsInVain { slot, .. }
            | Self::WaitsForSuccessor { slot } => Some(slot),
            _ => None,
        }
    }
}

/// What a person can do about an update lock.
const INSIST: &str = "`upbeat up --force` does not wait for it";

/// `a-1, b-1 and 3 more`.
fn named(slots: &[SlotId], more: usize) -> String {
    let names: Vec<String> = slots.iter().map(SlotId::short).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}

impl Reason {
    /// The clause of a reason that is about a container that is being made.
    fn of_making(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Prepares { step: None } => f.write_str("is being made ready"),
            Self::Prepares { step: Some(step) } => f.write_str(step),
            Self::WaitsForRelease { what, slot, failed } => {
                let but = if *failed { " and runs on, as not all that is new can be made" } else { "" };
                write!(f, "waits for {} to stop, which has {what}{but}", slot.short())
            }
            Self::WaitsInVain { service, condition, slot } => {
                write!(
                    f,
                    "waits for {service} to {}, but {} cannot be started",
                    wanted(condition),
                    slot.short()
                )
            }
            Self::WaitsForSuccessor { slot } => {
                write!(f, "waits for {}, which is about to be another", slot.short())
            }
            Self::CannotPrepare { detail } => write!(f, "cannot be made ready: {detail}"),
            Self::NothingIsTouched { slots, more, failed } => {
                let but = if *failed { "; what has failed there is tried again" } else { "" };
                write!(f, "runs on until {} can be started{but}", named(slots, *more))
            }
            _ => Ok(()),
        }
    }

    fn of_reload(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::SaysReloading => f.write_str("has said that it reads its configuration anew"),
            Self::ReloadFailed { detail } => {
                write!(f, "could not be asked to read its configuration anew: {detail}")
            }
            _ => f.write_str("is being asked to read its configuration anew"),
        }
    }

    /// The clause of a reason that is about an update lock.
    fn of_lock(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::HoldsLock { slot, lock } => {
                write!(f, "runs on until the update lock of {} is free, {lock}; {INSIST}", slot.short())
            }
            Self::CannotLock { slot, detail } => {
                write!(
                    f,
                    "runs on, as the update lock of {} cannot be tried: {detail}; {INSIST}",
                    slot.short()
                )
            }
            Self::TakesLocks => f.write_str("is about to be interrupted, when its update lock is taken"),
            _ => Ok(()),
        }
    }

    /// The clause of a reason that is about a probe.
    fn of_probe(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotReadyYet { name, probe, last: None } => {
                write!(f, "{} has not answered yet", asking(name, probe))
            }
            Self::NotReadyYet { name, probe, last: Some(last) } => {
                write!(f, "{} has not passed yet: {last}", asking(name, probe))
            }
            Self::ProbeFails { name, probe, last, failures } => {
                write!(f, "{} failed{}: {last}", asking(name, probe), in_a_row(*failures))
            }
            Self::NeedsAttention { name, action, times, window } => {
                write!(f, "{} still fails after {action} {times} times within {window}: ", called(name))?;
                f.write_str("a person has to look; `upbeat restart` begins anew")
            }
            Self::CannotAsk { name, probe, detail } => {
                write!(f, "{} cannot be asked: {detail}", asking(name, probe))
            }
            _ => Ok(()),
        }
    }
}

/// One clause, without the subject: `waits for db to be healthy (db-1 is starting)`.
impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::WaitsFor { service, condition, blocking } => {
                write!(f, "waits for {service} to {}", wanted(condition))?;
                match blocking {
                    Some((slot, phase)) => write!(f, " ({} is {phase})", slot.short()),
                    None => write!(f, " ({service} has no copies)"),
                }
            }
            Self::DependencyFailed { service, condition, failed } => {
                write!(f, "needs {service} to {}, but ", wanted(condition))?;
                match failed {
                    Some((slot, phase, Some(exit))) => write!(f, "{} is {phase} ({exit})", slot.short()),
                    Some((slot, phase, None)) => write!(f, "{} is {phase}", slot.short()),
                    None => write!(f, "{service} is not there"),
                }
            }
            Self::WaitedTooLong { service, condition, timeout } => {
                write!(f, "waited {timeout} for {service} to {}, in vain", wanted(condition))
            }
            Self::WaitsForDependents { dependents, more } => {
                write!(f, "stops after {}", named(dependents, *more))
            }
            Self::Prepares { .. }
            | Self::CannotPrepare { .. }
            | Self::NothingIsTouched { .. }
            | Self::WaitsForSuccessor { .. }
            | Self::WaitsInVain { .. }
            | Self::WaitsForRelease { .. } => self.of_making(f),
            Self::HoldsLock { .. } | Self::CannotLock { .. } | Self::TakesLocks => self.of_lock(f),
            Self::BacksOff { exit, failures, delay, .. } => {
                write!(f, "backs off {delay} after {} ({exit})", ordinal_exit(*failures))
            }
            Self::NotRestarted { exit, policy, restarts: 0 } => {
                write!(f, "ended ({exit}) and `restart: {policy}` leaves it so")
            }
            Self::NotRestarted { exit, policy, restarts } => write!(
                f,
                "ended ({exit}) after {restarts} {} and `restart: {policy}` leaves it so",
                if *restarts == 1 { "restart" } else { "restarts" }
            ),
            Self::StaysDown { exit } => write!(f, "was {exit}; it stays so until somebody starts it"),
            Self::RunsHooks { hooks } => write!(f, "its `{hooks}` hooks have not ended yet"),
            Self::Reloads | Self::SaysReloading | Self::ReloadFailed { .. } => self.of_reload(f),
            Self::SaysStopping => f.write_str("has said that it is about to end"),
            Self::RemedyFailed { name, detail } => {
                write!(f, "what was run because {} failed has failed, too: {detail}", called(name))
            }
            Self::BeingStarted => f.write_str("its process is being started"),
            Self::NotReadyYet { .. }
            | Self::ProbeFails { .. }
            | Self::CannotAsk { .. }
            | Self::NeedsAttention { .. } => self.of_probe(f),
            Self::BeingStopped { how, why, .. } => write!(f, "is being stopped {why} ({how})"),
            Self::StopFailed { detail } => write!(
                f,
                "could not be stopped, and may run on: its stop command failed: {detail}; `stop`, `up` or `down` tries again"
            ),
            Self::StoppedBy { operation } => f.write_str(&stopped_by(*operation)),
            Self::EndedWith { operation, slot, how } => {
                write!(f, "{} (`exit_on_end` of {}: {how})", stopped_by(*operation), slot.short())
            }
            Self::BeingRemoved => f.write_str("what was there is being deleted first"),
            Self::Trouble { detail } => write!(f, "cannot be handled for now: {detail}"),
            Self::ShimLost { detail } => write!(f, "its shim was killed: {detail}"),
        }
    }
}

/// For what: `to be restarted`.
impl std::fmt::Display for StopCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Goal => "as asked",
            Self::Restart => "to be restarted",
            Self::Changed => "because what it should run has changed",
            Self::ProbeFailed => "because a probe of it has failed",
            Self::DependencyEnded => "because what it rests on has ended",
            Self::SaidStopping => "because it said that it would end and has not",
            Self::HalfStopped => "because an earlier stop of it was given up",
            Self::Taken => "because its container was ended by another hand",
            Self::HookFailed => "because a `post_start` hook of it has failed",
        })
    }
}

fn stopped_by(operation: OperationId) -> String {
    format!("was stopped by operation {operation}")
}

fn in_a_row(times: u32) -> String {
    if times > 1 { format!(" {times} times in a row") } else { String::new() }
}

/// What people call a probe of this name.
fn called(name: &ProbeName) -> String {
    match name.role() {
        Role::Readiness => "its health check".to_owned(),
        _ => format!("its probe `{name}`"),
    }
}

/// The same with its question. One that nobody has written has no name that anybody knows.
fn asking(name: &ProbeName, question: &Question) -> String {
    match question.own_name().as_ref() == Some(name) {
        true => format!("what others wait for ({question})"),
        false => format!("{} ({question})", called(name)),
    }
}

fn wanted(condition: &Condition) -> String {
    let plain = match condition {
        Condition::Started => "be started",
        Condition::Healthy => "be healthy",
        Condition::CompletedSuccessfully => "complete successfully",
        Condition::Completed => "end",
        Condition::Failed => "fail",
        Condition::Ready => "be ready, or complete successfully",
        Condition::Probe(name) => return format!("pass its probe `{name}`"),
        Condition::Port(address) => return format!("accept connections at {address}"),
        Condition::Line(pattern) => return format!("print a line that matches /{pattern}/"),
    };
    plain.to_owned()
}

/// `its 3rd exit`.
fn ordinal_exit(n: u32) -> String {
    let suffix = match (n % 10, n % 100) {
        (1, 11) | (2, 12) | (3, 13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("its {n}{suffix} exit")
}
