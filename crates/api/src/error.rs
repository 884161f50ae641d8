//! What can go wrong between a client and the daemon, told so that a person knows what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::ServerName;

use crate::connection::is_this_machine;
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
            Self::Connect { socket, source } if TlsError::of(source).is_some() => {
                TlsError::of(source).map(|error| error.hint(socket))
            }
            Self::Connect { socket, source } if is_elsewhere(socket) => match source.kind() {
                io::ErrorKind::InvalidData if is_authority(source) => Some(
                    "its certificate is that of an authority (CA:TRUE), which vouches for others and proves no \
                     server; make it one with CA:FALSE, as docs/access.md shows",
                ),
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

/// What is wrong with TLS at the other end, where that is to be told in words of our own. Nothing was sent
/// to it but a greeting.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("it speaks no TLS")]
    None,
    #[error("it speaks TLS")]
    Only,
    #[error("its certificate is not for `{asked}`, but for {}", or_nothing(names))]
    Name { asked: String, names: Vec<String> },
}

impl TlsError {
    /// The error of a handshake, in our words where there are some.
    pub(crate) fn said_of(error: io::Error, asked: &ServerName<'_>) -> io::Error {
        let tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
        let said = match tls {
            Some(rustls::Error::InvalidMessage(_)) => Self::None,
            Some(rustls::Error::InvalidCertificate(rustls::CertificateError::NotValidForNameContext {
                presented,
                ..
            })) => Self::Name {
                asked: asked.to_str().into_owned(),
                names: presented.iter().map(|name| plain(name)).collect(),
            },
            _ => return error,
        };
        said.into()
    }

    fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref().and_then(|error| error.downcast_ref())
    }

    fn hint(&self, url: &Path) -> &'static str {
        let is_here = url.to_str().and_then(|url| url.split_once("://")).is_some_and(|(_, authority)| {
            authority.parse::<hyper::http::uri::Authority>().is_ok_and(|it| is_this_machine(it.host()))
        });
        match self {
            Self::Only => "use `https://`",
            Self::None if is_here => "use `http://`",
            Self::None => "give the daemon there a certificate: `upbeat serve --tls-cert … --tls-key …`",
            Self::Name { .. } => "name it so as its certificate does, or make it one for that name, too",
        }
    }
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// `DnsName("localhost")`, `IpAddress(127.0.0.1)`: without what programs need of it.
fn plain(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"').to_owned()
}

fn or_nothing(names: &[String]) -> String {
    match names {
        [] => "no name at all".to_owned(),
        names => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    }
}

/// Whether TLS failed since the server showed a certificate that is for vouching: what `openssl req
/// -x509` makes where nothing is said.
fn is_authority(error: &io::Error) -> bool {
    let tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(why))) = tls else {
        return false;
    };
    why.0.downcast_ref::<webpki::Error>() == Some(&webpki::Error::CaUsedAsEndEntity)
}

fn is_elsewhere(socket: &std::path::Path) -> bool {
    socket.to_str().is_some_and(|url| url.starts_with("http"))
}
