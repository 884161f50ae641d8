//! What a slot can be told, and what can be seen of it.

use upbeat_model::plan::Lock;
use upbeat_model::state::Exit;
use upbeat_model::{Attempt, ProbeName, SlotId, Wall};

use super::{Moment, Said};

/// What a slot can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Something around it changed, or a deadline came: look again.
    Look,
    /// Its program was executed.
    Started {
        /// Which attempt.
        attempt: Attempt,
        /// The main process.
        pid: i32,
        /// When.
        at: Wall,
        /// Where its output begins.
        log_start: u64,
    },
    /// It could not be started.
    StartFailed {
        /// Which attempt.
        attempt: Attempt,
        /// Why.
        why: String,
    },
    /// Upbeat itself could not: it is out of files, processes or disk. No word about the service.
    StartUnable {
        /// Which attempt.
        attempt: Attempt,
        /// Why.
        why: String,
    },
    /// Another attempt holds the slot, or was there after this one was decided: look what it is.
    StartRefused {
        /// Which attempt was refused.
        attempt: Attempt,
        /// The highest attempt that was seen there.
        seen: Attempt,
    },
    /// What it is to be started from is being made: how far that is.
    Preparing {
        /// Under which wish.
        generation: u64,
        /// In words: `pulling nginx:1.27 (3 of 40 MB)`.
        step: String,
    },
    /// Everything is there that it is started from.
    Prepared {
        /// Under which wish.
        generation: u64,
        /// By which spec.
        digest: String,
        /// The container that was made, or was there.
        container: String,
    },
    /// It could not be made.
    PrepareFailed {
        /// Under which wish.
        generation: u64,
        /// By which spec.
        digest: String,
        /// Why.
        why: Unprepared,
    },
    /// The container that was to be started is not there any more.
    StartGone {
        /// Which attempt.
        attempt: Attempt,
    },
    /// Its container was ended or removed by somebody else's hand.
    Taken {
        /// Which attempt.
        attempt: Attempt,
        /// How.
        how: Taken,
    },
    /// It runs on, and not as it should.
    Drifted {
        /// Which attempt.
        attempt: Attempt,
        /// In words: `it was paused`.
        what: String,
    },
    /// It was put right.
    Mended {
        /// Which attempt.
        attempt: Attempt,
        /// Or could not be: why.
        outcome: Result<(), String>,
    },
    /// A container of it is there that nobody remembers: look at it before anything else is decided.
    Appeared,
    /// Its main process ended, and its whole tree is gone.
    Exited {
        /// Which attempt.
        attempt: Attempt,
        /// How.
        exit: Exit,
    },
    /// The answer to [`Effect::Observe`](crate::Effect::Observe).
    Observed {
        /// The last attempt when it was asked: of what came since it knows nothing.
        asked: Attempt,
        /// What is there.
        seen: Observation,
    },
    /// The machine could not be looked at.
    ObserveFailed {
        /// Why.
        why: String,
    },
    /// The answer to a probe.
    Probed {
        /// Which attempt.
        attempt: Attempt,
        /// Which of its checks.
        check: u64,
        /// Passed.
        healthy: bool,
        /// What it said.
        message: String,
    },
    /// A probe could not be asked, for want of something of ours: that says nothing about the service.
    Unasked {
        /// Which attempt.
        attempt: Attempt,
        /// Which of its checks.
        check: u64,
        /// Why.
        why: String,
    },
    /// Its process says how it is doing.
    Notified {
        /// Which attempt.
        attempt: Attempt,
        /// All it has said so far.
        said: Said,
    },
    /// It was asked to read its configuration anew.
    Reloaded {
        /// Which attempt.
        attempt: Attempt,
        /// Which time.
        serial: u64,
        /// Or could not be: why.
        outcome: Result<(), String>,
    },
    /// It could not be asked to, for want of something of ours: it is asked again.
    ReloadUnable {
        /// Which attempt.
        attempt: Attempt,
        /// Which time.
        serial: u64,
        /// Why.
        why: String,
    },
    /// Its hooks ended, one way or another.
    HooksEnded {
        /// Which attempt.
        attempt: Attempt,
        /// Which of its hooks.
        moment: Moment,
        /// Which time.
        serial: u64,
        /// All have succeeded, or how the one that failed did so.
        outcome: Result<(), String>,
    },
    /// Hooks of it could not be run, for want of something of ours: that says nothing about them, and
    /// some may have been. All are run again.
    HooksUnable {
        /// Which attempt.
        attempt: Attempt,
        /// Which of its hooks.
        moment: Moment,
        /// Which time.
        serial: u64,
        /// Why.
        why: String,
    },
    /// The signal could not be sent that was to be about a failing probe. It is not sent again: what it
    /// does twice nobody knows.
    SignalFailed {
        /// Which attempt.
        attempt: Attempt,
        /// Which probe.
        probe: ProbeName,
        /// Why.
        why: String,
    },
    /// A stop does not get through: to the shim, or to a process that may not be killed.
    StopFailed {
        /// Which attempt.
        attempt: Attempt,
        /// Why.
        why: String,
    },
    /// The order to start it waited for what was decided to be kept, and is dropped: nothing was started, and
    /// nothing will be.
    StartWithheld {
        /// Which attempt.
        attempt: Attempt,
    },
    /// The order to stop it was not carried out, since what is decided cannot be kept now: so it could
    /// not be started again.
    StopWithheld {
        /// Which attempt.
        attempt: Attempt,
    },
    /// The answer to [`Effect::Lock`](crate::Effect::Lock). It is about the whole app, and goes to
    /// [`Node::take`](crate::Node::take).
    Locked {
        /// Which time.
        serial: u64,
        /// All are held now, or why none is.
        outcome: Result<(), Unlocked>,
    },
    /// Its files are deleted.
    Removed,
    /// Its files could not be deleted.
    RemoveFailed {
        /// Why.
        why: String,
    },
}

/// Why update locks were not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unlocked {
    /// One of them is another's.
    Held {
        /// Whose it is.
        slot: SlotId,
        /// Who holds it.
        lock: Lock,
    },
    /// One of them cannot be tried.
    Failed {
        /// Whose it is.
        slot: SlotId,
        /// What happened.
        why: String,
    },
}

/// Why a container could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unprepared {
    /// It is tried again after a while, and somebody should look: in words.
    Failed(String),
    /// The engine is not there, and nothing was made: it is tried again when it may be back, and nobody is to blame.
    Unreachable(String),
    /// The same, after something may have been made.
    BrokenOff(String),
    /// Everything is there but what can only be made anew when what runs has stopped: in words.
    HeldUp(String),
}

/// How a container was taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Taken {
    /// It was stopped or killed.
    Stopped,
    /// It was removed.
    Removed,
    /// It was stopped and started.
    Restarted,
}

impl std::fmt::Display for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Stopped => "its container was stopped by another hand than Upbeat's",
            Self::Removed => "its container was removed by another hand than Upbeat's",
            Self::Restarted => "its container was restarted by another hand than Upbeat's",
        })
    }
}

/// A container that is there, and what its labels say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its id in the engine.
    pub container: String,
    /// The digest of the spec it was made by.
    pub digest: String,
    /// The release that spec was of.
    pub release: u64,
}

/// What the machine shows of a slot, whoever started it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// Nothing was ever started here.
    Never,
    /// A process runs.
    Running {
        /// Which attempt.
        attempt: Attempt,
        /// The main process.
        pid: i32,
        /// When it was started.
        started_at: Wall,
        /// Where its output begins.
        log_start: u64,
        /// Of a container: which.
        held: Option<Held>,
    },
    /// The last attempt ended.
    Ended {
        /// Which attempt.
        attempt: Attempt,
        /// How; `Unknown` when its shim was killed.
        exit: Exit,
    },
}
