//! What goes wrong with processes, in words.

use upbeat_model::{Attempt, SlotId};
use upbeat_shim::wire::Stage;

/// The machinery failed.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The system said no.
    #[error("cannot use {what}")]
    Io {
        /// What was used.
        what: String,
        /// What it said.
        source: std::io::Error,
    },
    /// A shim said no.
    #[error("{0}")]
    Shim(String),
    /// That attempt is not listened to.
    #[error("attempt {attempt} of {slot} is not there")]
    NotThere {
        /// Which slot.
        slot: SlotId,
        /// Which attempt.
        attempt: Attempt,
    },
    /// A shim was killed, and something it left behind does not die.
    #[error("{count} processes of {slot} do not die, though they were killed")]
    StillThere {
        /// Which slot.
        slot: SlotId,
        /// How many.
        count: usize,
    },
}

impl DriverError {
    pub(super) fn io(what: &str, source: std::io::Error) -> Self {
        Self::Io { what: what.to_owned(), source }
    }
}

/// Why an attempt was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program was not executed: for the person who wrote the file.
    #[error("{0}")]
    NotExecuted(String),
    /// Another shim holds the slot.
    #[error("another process holds the slot")]
    Busy,
    /// The slot has seen this attempt or a later one.
    #[error("attempt {seen} was there already")]
    Superseded {
        /// The highest it has seen.
        seen: Attempt,
    },
    /// The zygote or the shim was killed on the way: look what is there.
    #[error("the shim did not answer")]
    Unanswered,
    /// The machinery failed; nothing was started.
    #[error(transparent)]
    Driver(#[from] DriverError),
}

/// An error with its causes: `cannot use the slot's record: no space left on device`.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// What a failed execution means to whoever wrote the command.
pub(super) fn not_executed(
    stage: Stage,
    errno: i32,
    command: &[String],
    working_dir: &str,
    user: Option<&str>,
) -> StartError {
    let said = words_of_errno(errno);
    let program = command.first().map_or("", String::as_str);
    let text = match stage {
        Stage::Fork => format!("no process can be made: {said}"),
        Stage::User => match errno {
            errnos::ENOENT => format!(
                "there is no user or group `{}` in /etc/passwd or /etc/group",
                user.unwrap_or_default()
            ),
            _ => format!("cannot become user `{}`: {said}", user.unwrap_or_default()),
        },
        Stage::Directory => format!("cannot enter the working directory `{working_dir}`: {said}"),
        Stage::Execute => match (errno, program.contains('/')) {
            (errnos::ENOENT, false) => format!("cannot run `{program}`: no such file in PATH"),
            (errnos::ENOEXEC, _) => {
                format!("cannot run `{program}`: {said} (a script must begin with `#!`)")
            }
            _ => format!("cannot run `{program}`: {said} (in {working_dir})"),
        },
    };
    StartError::NotExecuted(text)
}

/// The same from a record alone, which does not hold the command.
pub(super) fn words(stage: Stage, errno: i32) -> String {
    let said = words_of_errno(errno);
    match stage {
        Stage::Fork => format!("no process can be made: {said}"),
        Stage::User => format!("cannot become its user: {said}"),
        Stage::Directory => format!("cannot enter its working directory: {said}"),
        Stage::Execute => format!("cannot run its program: {said}"),
    }
}

/// A process that may not be killed.
pub(super) fn refused(pid: i32, errno: i32) -> String {
    format!("process {pid} may not be killed: {}; end it yourself", words_of_errno(errno))
}

mod errnos {
    pub(super) const ENOENT: i32 = rustix::io::Errno::NOENT.raw_os_error();
    pub(super) const ENOEXEC: i32 = rustix::io::Errno::NOEXEC.raw_os_error();
}

/// `no such file or directory`: without the number and the capital letter.
fn words_of_errno(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}
