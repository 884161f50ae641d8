//! What goes wrong with processes, in words.

use std::path::Path;

use upbeat_model::project::Ulimit;
use upbeat_model::{Attempt, SlotId};
use upbeat_shim::wire::Stage;

use super::launch::Asked;

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
    #[error("{count} processes of {slot} do not die, or make others as fast as they are killed")]
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
pub(super) fn not_executed(stage: Stage, errno: i32, asked: &Asked<'_>) -> StartError {
    let said = words_of_errno(errno);
    let (user, dir) = (asked.user.unwrap_or_default(), asked.working_dir);
    let program = asked.command.first().map_or("", String::as_str);
    let text = match stage {
        Stage::Fork => format!("no process can be made: {said}"),
        Stage::User => match errno {
            errnos::ENOENT => format!("there is no user or group `{user}` in /etc/passwd or /etc/group"),
            _ => format!("cannot become user `{user}`: {said}"),
        },
        Stage::Directory => format!("cannot enter the working directory `{dir}`: {said}"),
        Stage::Execute => match (errno, program.contains('/')) {
            (errnos::ENOENT, false) => format!("cannot run `{program}`: no such file in PATH"),
            (errnos::ENOEXEC, _) => {
                format!("cannot run `{program}`: {said} (a script must begin with `#!`)")
            }
            _ => format!("cannot run `{program}`: {said} (in {dir})"),
        },
        Stage::Terminal => format!("it cannot be given a terminal: {said}"),
        Stage::Private => {
            let dir = asked.private.unwrap_or(Path::new("")).display();
            format!("user `{user}` cannot reach its configs and secrets in {dir}: {said}")
        }
        Stage::Cgroup => format!("cannot join its cgroup: {said}"),
        Stage::Privileges => {
            format!("it would have rights of the daemon's that user `{user}` does not have: {said}")
        }
        Stage::OomScore => {
            let score = asked.rights.oom_score_adj.unwrap_or_default();
            format!("cannot set `oom_score_adj` to {score}: {said}{}", rights_needed(errno))
        }
        Stage::Limit(number) => {
            let name = limit_name(number);
            let to = asked.rights.ulimits.get(name).map(limit_words).unwrap_or_default();
            format!("cannot set the limit `{name}`{to}: {said}{}", rights_needed(errno))
        }
        Stage::Group(place) => {
            // Beyond the last place that is told, it may be any of the rest.
            let group = asked.rights.groups.get(usize::from(place)).filter(|_| place < Stage::GROUP_MAX);
            let group = group.map(|group| format!(" `{group}`")).unwrap_or_default();
            match errno {
                errnos::ENOENT => format!("there is no group{group} in /etc/group"),
                _ => format!("cannot join the group{group}: {said}{}", rights_needed(errno)),
            }
        }
    };
    StartError::NotExecuted(text)
}

/// The same from a record alone, which does not hold what was asked.
pub(super) fn words(stage: Stage, errno: i32) -> String {
    let said = words_of_errno(errno);
    match stage {
        Stage::Fork => format!("no process can be made: {said}"),
        Stage::User => format!("cannot become its user: {said}"),
        Stage::Directory => format!("cannot enter its working directory: {said}"),
        Stage::Execute => format!("cannot run its program: {said}"),
        Stage::Terminal => format!("it cannot be given a terminal: {said}"),
        Stage::Private => format!("its user cannot reach its configs and secrets: {said}"),
        Stage::Cgroup => format!("cannot join its cgroup: {said}"),
        Stage::Privileges => {
            format!("it would have rights of the daemon's that its user does not have: {said}")
        }
        Stage::OomScore => format!("cannot set its `oom_score_adj`: {said}"),
        Stage::Limit(number) => format!("cannot set its limit `{}`: {said}", limit_name(number)),
        Stage::Group(_) => format!("cannot join one of its groups: {said}"),
    }
}

fn limit_name(number: u8) -> &'static str {
    Ulimit::name(u32::from(number)).unwrap_or_default()
}

/// ` to 4096`, ` to 1024 (hard: unlimited)`.
fn limit_words(limit: &Ulimit) -> String {
    let height = |limit: i64| if limit < 0 { "unlimited".to_owned() } else { limit.to_string() };
    match limit.soft == limit.hard {
        true => format!(" to {}", height(limit.soft)),
        false => format!(" to {} (hard: {})", height(limit.soft), height(limit.hard)),
    }
}

/// Why the system refuses what is well-formed.
fn rights_needed(errno: i32) -> &'static str {
    match errno {
        errnos::EPERM | errnos::EACCES => " (it is more than the daemon may give)",
        _ => "",
    }
}

/// A process that may not be killed.
pub(super) fn refused(pid: i32, errno: i32) -> String {
    format!("process {pid} may not be killed: {}; end it yourself", words_of_errno(errno))
}

mod errnos {
    pub(super) const ENOENT: i32 = rustix::io::Errno::NOENT.raw_os_error();
    pub(super) const EPERM: i32 = rustix::io::Errno::PERM.raw_os_error();
    pub(super) const EACCES: i32 = rustix::io::Errno::ACCESS.raw_os_error();
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
