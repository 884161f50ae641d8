//! What was seen of a slot: its phase, how its process ended, and the status people read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{Attempt, OperationId, ProbeName, SlotId};
use crate::reason::Reason;
use crate::target::Goal;
use crate::time::Wall;

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// By itself, with this status (0 to 255).
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It never ran: the program could not be executed. The text says why.
    NotStarted(String),
    /// Upbeat stopped it because it was no good any more, however it ended then. The text says why.
    Stopped(String),
    /// Nobody saw it: the shim that watched it was killed. The text says what is known.
    Unknown(String),
}

impl Exit {
    /// Nothing of it ran, so it has said nothing. Hooks that failed before or behind its start did run.
    pub fn ran_nothing(&self) -> bool {
        const HOOKS: [&str; 2] = ["pre_start: ", "post_start: "];
        matches!(self, Self::NotStarted(why) if !HOOKS.iter().any(|hooks| why.starts_with(hooks)))
    }

    /// Status 0.
    pub fn is_success(&self) -> bool {
        *self == Self::Code(0)
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit {code}"),
            Self::Signal(n) => write!(f, "killed by {}", crate::project::Signal(*n)),
            Self::NotStarted(why) => write!(f, "could not start: {why}"),
            Self::Stopped(why) => write!(f, "stopped: {why}"),
            Self::Unknown(why) => write!(f, "exit unknown: {why}"),
        }
    }
}

/// Where a slot is in its life. What happens next is said per variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing of it is left. It is forgotten.
    Absent,
    /// Nothing runs because nobody wants it to. Next: a wish.
    Stopped,
    /// It wants to start, but a condition does not hold yet. Next: the condition holds or fails.
    Waiting,
    /// It cannot start because what it needs failed. Next: the dependency recovers, or a wish.
    DependencyFailed,
    /// Its process is being started, or runs and was never ready. Next: the first passed probe.
    Starting,
    /// It runs and has no health check. Next: it ends.
    Running,
    /// It runs and its health check passes. Next: it fails, or ends.
    Healthy,
    /// It runs and its health check fails. Next: it passes, or ends.
    Unhealthy,
    /// It runs, a probe fails, and what was to be done about it was done as often as it may be. Next:
    /// a person looks, or the probe passes.
    NeedsAttention,
    /// It ended and is started again after a while. Next: the time has come.
    BackingOff,
    /// As `BackingOff`, but it has ended so soon and so often that a person should look.
    CrashLooping,
    /// It was asked to stop. Next: it ends, or its grace period does.
    Stopping,
    /// It ended with status 0 and is not to be started again. Next: a wish.
    Completed,
    /// It ended otherwise and is not to be started again. Next: a wish.
    Failed,
}

impl Phase {
    /// A process of it may exist.
    pub fn is_alive(self) -> bool {
        matches!(
            self,
            Self::Starting
                | Self::Running
                | Self::Healthy
                | Self::Unhealthy
                | Self::NeedsAttention
                | Self::Stopping
        )
    }

    /// It runs and may be used.
    pub fn is_ready(self) -> bool {
        matches!(self, Self::Running | Self::Healthy)
    }

    /// The word programs read, as in JSON.
    pub fn key(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Stopped => "stopped",
            Self::Waiting => "waiting",
            Self::DependencyFailed => "dependency_failed",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::NeedsAttention => "needs_attention",
            Self::BackingOff => "backing_off",
            Self::CrashLooping => "crash_looping",
            Self::Stopping => "stopping",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    /// The word people read.
    pub fn word(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Stopped => "stopped",
            Self::Waiting => "waiting",
            Self::DependencyFailed => "dependency failed",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::NeedsAttention => "needs attention",
            Self::BackingOff => "backing off",
            Self::CrashLooping => "crash-looping",
            Self::Stopping => "stopping",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.word())
    }
}

/// How a probe stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProbeStatus {
    /// Its verdict; none before the first.
    pub passing: Option<bool>,
    /// Counted noes in a row.
    pub failures: u32,
    /// What it was answered last.
    pub last: Option<String>,
}

/// Everything a person or a tool may know about one slot, at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SlotStatus {
    /// Which slot.
    pub slot: SlotId,
    /// Where it shall get to.
    pub goal: Goal,
    /// Where it is.
    pub phase: Phase,
    /// How many times it was started.
    pub attempt: Attempt,
    /// The main process, while there is one.
    pub pid: Option<i32>,
    /// Of a container: its id in the engine, as long as it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// How the last attempt that ended did so.
    pub exit: Option<Exit>,
    /// Restarts since somebody last asked for a start.
    pub restarts: u32,
    /// When the phase was entered.
    pub since: Wall,
    /// When the current process was started.
    pub started_at: Option<Wall>,
    /// The number of the first line of output that is its own, and not of one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_start: Option<u64>,
    /// What its readiness probe said last.
    pub health: Option<String>,
    /// How each of its probes stands, while it runs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub probes: BTreeMap<ProbeName, ProbeStatus>,
    /// What the process says of itself (`STATUS=`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<String>,
    /// Why it is in this phase and not where it should be; empty when all is as wished.
    pub reasons: Vec<Reason>,
    /// The operation that set the goal.
    pub operation: OperationId,
    /// The release that runs (or ran last) here.
    pub release: u64,
}

impl SlotStatus {
    /// It is where it is because nothing could be run: what was printed last is of an earlier attempt.
    pub fn ran_nothing(&self) -> bool {
        let is_unmade = self.reasons.iter().any(|reason| matches!(reason, Reason::CannotPrepare { .. }));
        is_unmade || (!self.phase.is_alive() && self.exit.as_ref().is_some_and(Exit::ran_nothing))
    }
}
