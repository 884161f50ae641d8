//! What goes wrong with an engine.

use std::time::Duration;

use upbeat_model::Attempt;

use super::wire::Version;

/// An engine did not do what was asked, and that says nothing about the wish.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// There is none, or it does not answer.
    #[error("the container engine at {host} cannot be reached: {why}")]
    Unreachable {
        /// Where it was looked for.
        host: String,
        /// What the system said, and what to do.
        why: String,
    },
    /// What was said of where it is says nothing.
    #[error("`{host}` is no container engine: {why}")]
    Host {
        /// As it was said.
        host: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// It did not answer in time.
    #[error("the container engine did not answer {path} within {} s", patience.as_secs())]
    Slow {
        /// What was asked.
        path: String,
        /// For how long it was waited.
        patience: Duration,
    },
    /// It said no.
    #[error("the container engine said: {message} (status {status})")]
    Said {
        /// Of HTTP.
        status: u16,
        /// In its words.
        message: String,
    },
    /// It said what no engine says.
    #[error("the container engine made no sense: {0}")]
    Nonsense(String),
    /// It is of a time before the oldest that is spoken with.
    #[error("the container engine speaks API {version}; at least {oldest} is needed, which is Docker 20.10")]
    TooOld {
        /// What it speaks.
        version: Version,
        /// What is needed.
        oldest: Version,
    },
    /// It has forgotten all that is spoken here.
    #[error("the container engine speaks API {version} and later; here it is spoken up to {newest}")]
    TooNew {
        /// The oldest that it speaks.
        version: Version,
        /// The newest that is spoken here.
        newest: Version,
    },
    /// This machine's disk.
    #[error("cannot use {what}: {why}")]
    Io {
        /// What was used.
        what: String,
        /// What the system said.
        why: String,
    },
    /// That attempt is not there.
    #[error("attempt {0} is not there")]
    NotThere(Attempt),
    /// A container still uses what is to go.
    #[error("{thing} is still used by container `{by}`")]
    InUse {
        /// Which: "network `front`".
        thing: String,
        /// By which container.
        by: String,
    },
    /// Something of the slot runs that must not be touched.
    #[error("container `{0}` runs: stop it first")]
    Runs(String),
}

impl EngineError {
    pub(super) fn unreachable(host: &str, error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        let text = error.to_string();
        let said = text.split(" (os error").next().unwrap_or(&text).to_lowercase();
        let remedy = match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => "; is it installed and started?",
            ErrorKind::PermissionDenied => "; this user must be in the group of its socket (`docker`)",
            _ => "",
        };
        Self::Unreachable { host: host.to_owned(), why: format!("{said}{remedy}") }
    }

    pub(super) fn broken_off(host: &str, error: &hyper::Error) -> Self {
        let why = format!("the connection broke off ({})", crate::process::chain(error));
        Self::Unreachable { host: host.to_owned(), why }
    }

    pub(super) fn io(what: &str, error: &std::io::Error) -> Self {
        Self::Io { what: what.to_owned(), why: error.to_string() }
    }

    /// What was asked about is not there.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Said { status: 404, .. })
    }

    /// It contradicts what is there.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Said { status: 409, .. })
    }

    /// The engine itself does not answer.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Slow { .. })
    }
}

/// Why a container was not prepared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// For the person who wrote the file: as long as nothing changes, it stays so.
    #[error("{0}")]
    Refused(String),
    /// The registry or the image: it may be there later.
    #[error("{0}")]
    Image(String),
    /// A network has to be made anew, and containers are in it still.
    #[error("network `{network}` has to be made anew, and is used by {}", by.join(", "))]
    HeldUp {
        /// Which.
        network: String,
        /// Names of the containers.
        by: Vec<String>,
    },
    /// It has something of another container, and that one was not made yet.
    #[error("it has something of the container of service `{service}`, which was not made yet")]
    Lacks {
        /// Whose.
        service: upbeat_model::ServiceName,
    },
    /// The engine does not answer any more, and something may have been made.
    #[error(transparent)]
    BrokenOff(EngineError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Why an attempt was not started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The container cannot be run: for the person who wrote the file.
    #[error("{0}")]
    NotStarted(String),
    /// It was removed since: prepare another.
    #[error("the container is not there any more")]
    Gone,
    /// Another container of the slot runs.
    #[error("container `{0}` still runs in the slot")]
    Busy(String),
    /// The slot has seen this attempt or a later one.
    #[error("attempt {seen} was there already")]
    Superseded {
        /// The highest it has seen.
        seen: Attempt,
    },
    /// Whether it was started nobody knows: look what is there.
    #[error("the container engine did not say whether it started: {0}")]
    Unanswered(EngineError),
    /// The engine, or the disk; nothing was started.
    #[error(transparent)]
    Engine(#[from] EngineError),
}
