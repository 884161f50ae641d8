//! What can go wrong between a client and the daemon, told so that a person knows what to do.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::types::Problem;

/// Why a request has no answer, or a stream no further item.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody listens: there is no socket, or its daemon has ended.
    #[error("no daemon is listening on `{}`", socket.display())]
    NotRunning {
        /// Where it was looked for.
        socket: PathBuf,
    },
    /// The file system does not let this user connect.
    #[error("this user may not connect to the daemon at `{}`", socket.display())]
    PermissionDenied {
        /// Whose socket it is.
        socket: PathBuf,
    },
    /// The connection could not be made for another reason.
    #[error("cannot connect to the daemon at `{}`", socket.display())]
    Connect {
        /// Where to: a socket, or for a daemon elsewhere its URL.
        socket: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Nobody can be asked there, or not so.
    #[error("`{what}` cannot be used: {why}")]
    BadAddress {
        /// What was given.
        what: String,
        /// Why not.
        why: String,
    },
    /// The daemon understood and answered no.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// The connection broke before the answer, or the stream, was complete: the daemon died or was
    /// killed. A change that was asked for may or may not have been made.
    #[error("the daemon at `{}` went away in the middle of its answer", socket.display())]
    Interrupted {
        /// Of which daemon.
        socket: PathBuf,
        /// What the connection says, where it says anything.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The daemon ended the stream because it is about to end itself.
    #[error("the daemon at `{}` is shutting down", socket.display())]
    ShuttingDown {
        /// Which daemon.
        socket: PathBuf,
    },
    /// There is a daemon, but it does not answer.
    #[error("the daemon at `{}` has not answered within {} s", socket.display(), after.as_secs())]
    TimedOut {
        /// Which daemon.
        socket: PathBuf,
        /// How long it was waited for.
        after: Duration,
    },
    /// The answer makes no sense to this client; most likely the two are of different versions.
    #[error("the daemon at `{}` answered something unexpected: {detail}", socket.display())]
    Protocol {
        /// Which daemon.
        socket: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
}

impl ClientError {
    /// What to do about it, where there is something to do.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Connect { socket, source } if is_elsewhere(socket) => match source.kind() {
                io::ErrorKind::InvalidData => Some("`--ca FILE` names a certificate to trust instead"),
                io::ErrorKind::ConnectionRefused => {
                    Some("start it there, with `upbeat serve --listen ADDRESS`")
                }
                _ => None,
            },
            Self::NotRunning { .. } => Some("start it with `upbeat serve`, or let `upbeat up` start it"),
            Self::PermissionDenied { .. } => Some("only the user who started the daemon, and root, may"),
            Self::Problem(problem) => problem.hint.as_deref(),
            Self::Interrupted { .. } => Some("what it runs goes on; ask again once it is back"),
            Self::ShuttingDown { .. } => Some("what it runs goes on; ask again once its successor is up"),
            Self::TimedOut { .. } => Some("its log says what it is busy with"),
            Self::Protocol { .. } => Some("compare `upbeat version` with the version of the daemon"),
            Self::Connect { .. } | Self::BadAddress { .. } => None,
        }
    }
}

fn is_elsewhere(socket: &std::path::Path) -> bool {
    socket.to_str().is_some_and(|url| url.starts_with("http"))
}
