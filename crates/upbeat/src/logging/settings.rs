//! What somebody wants of the daemon's log, and whether it can be had.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use super::encode::{Encoding, Framing, Wire};
use super::line::Line;
use super::record::TEXT_MAX;
use crate::face::Paint;

/// Where the journal listens.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// Where syslog listens.
const SYSLOG: &str = "/dev/log";

/// Everything a record can come to: its text, should each byte of it be written as `\u{1}`, and what
/// stands around it.
const UNBOUNDED: usize = 8 * TEXT_MAX;

/// What Debian's syslog takes of one message where nobody said otherwise.
const SYSLOG_MAX: usize = 8 << 10;

/// What RFC 5426 asks a syslog server to take of one datagram.
const SYSLOG_UDP_MAX: usize = 2 << 10;

/// Larger datagrams are split on the way, and lost when a part of them is; this is nine parts.
const LOGSTASH_UDP_MAX: usize = 8 << 10;

/// How records are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people, on standard error
    #[default]
    Text,
    /// A JSON object each line, on standard error
    Json,
    /// The journal of systemd, in its own protocol
    Journald,
    /// RFC 5424
    Syslog,
    /// JSON for logstash
    Logstash,
}

/// What somebody wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// How records are written.
    pub format: LogFormat,
    /// Where they go: `stderr`, a path, `unix://PATH`, `udp://HOST:PORT`, `tcp://HOST:PORT`. None: where
    /// such records usually go.
    pub target: Option<String>,
}

/// Why records cannot be written so.
#[derive(Debug, thiserror::Error)]
pub enum LogSettingsError {
    /// It is no place.
    #[error("`{0}` is not a place for a log")]
    NoPlace(String),
    /// This format does not go there.
    #[error("a log in the format `{format}` cannot go to `{target}`")]
    Elsewhere {
        /// Which format.
        format: &'static str,
        /// Where to.
        target: String,
        /// Where it can go.
        places: &'static str,
    },
    /// There is no usual place.
    #[error("a log for logstash needs a place to go to")]
    Nowhere,
    /// Standard error cannot be had.
    #[error("the log cannot be written to standard error")]
    Stderr(#[source] std::io::Error),
    /// No thread for it.
    #[error("the log has no thread")]
    Thread(#[source] std::io::Error),
    /// Somebody else has it.
    #[error("the log cannot be written: {0}")]
    Taken(String),
}

impl LogSettingsError {
    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            Self::NoPlace(_) => {
                "a place is `stderr`, the path of a socket, `unix://PATH`, `udp://HOST:PORT` \
                                 or `tcp://HOST:PORT`"
                    .to_owned()
            }
            Self::Elsewhere { places, .. } => format!("it can go to {places}"),
            Self::Nowhere => "say where: `--log-target tcp://HOST:PORT`, or `udp://HOST:PORT`".to_owned(),
            Self::Stderr(_) => "raise the limit of open files of this user".to_owned(),
            Self::Thread(_) => "raise the limit of processes of this user".to_owned(),
            Self::Taken(_) => "this is a bug in Upbeat; please report it".to_owned(),
        }
    }
}

/// A place, as it is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Stderr,
    Unix(PathBuf),
    Udp(String),
    Tcp(String),
}

impl Place {
    pub(super) fn read(text: &str) -> Result<Self, LogSettingsError> {
        let no_place = || LogSettingsError::NoPlace(text.to_owned());
        let path = |path: &str| {
            let is_one = path.starts_with('/') && !path.contains('\0');
            is_one.then(|| Self::Unix(path.into())).ok_or_else(no_place)
        };
        let address = |address: &str| {
            let (host, port) = address.rsplit_once(':').ok_or_else(no_place)?;
            let is_one = !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0);
            let is_plain = !address.contains(['/', '@', '?', '#']) && !address.contains(char::is_whitespace);
            (is_one && is_plain).then(|| address.to_owned()).ok_or_else(no_place)
        };
        match text.split_once("://") {
            Some(("unix", rest)) => path(rest),
            Some(("udp", rest)) => address(rest).map(Self::Udp),
            Some(("tcp", rest)) => address(rest).map(Self::Tcp),
            None if text == "stderr" => Ok(Self::Stderr),
            None => path(text),
            Some(_) => Err(no_place()),
        }
    }
}

impl LogSettings {
    /// Errors: they make no sense.
    pub fn check(&self) -> Result<(), LogSettingsError> {
        self.open(Paint::Plain, false).map(drop)
    }

    /// Where records go, and in which form. Nothing is connected yet.
    pub(super) fn open(&self, paint: Paint, is_ours: bool) -> Result<(Arc<Wire>, Line), LogSettingsError> {
        let place = match (&self.target, self.format) {
            (Some(target), _) => Place::read(target)?,
            (None, LogFormat::Text | LogFormat::Json) => Place::Stderr,
            (None, LogFormat::Journald) => Place::Unix(JOURNAL.into()),
            (None, LogFormat::Syslog) => Place::Unix(SYSLOG.into()),
            (None, LogFormat::Logstash) => return Err(LogSettingsError::Nowhere),
        };
        let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        let syslog = || Encoding::Syslog { host: host(), pid: std::process::id() };
        let logstash = || Encoding::Logstash { host: host() };
        let (encoding, framing, limit) = match (self.format, &place) {
            (LogFormat::Text, Place::Stderr) => (Encoding::Text(paint), Framing::Line, UNBOUNDED),
            (LogFormat::Json, Place::Stderr) => (Encoding::Json, Framing::Line, UNBOUNDED),
            (LogFormat::Journald, Place::Unix(_)) => (Encoding::Journald, Framing::Datagram, UNBOUNDED),
            (LogFormat::Syslog, Place::Unix(_)) => (syslog(), Framing::Datagram, SYSLOG_MAX),
            (LogFormat::Syslog, Place::Udp(_)) => (syslog(), Framing::Datagram, SYSLOG_UDP_MAX),
            (LogFormat::Syslog, Place::Tcp(_)) => (syslog(), Framing::Counted, SYSLOG_MAX),
            (LogFormat::Logstash, Place::Udp(_)) => (logstash(), Framing::Datagram, LOGSTASH_UDP_MAX),
            (LogFormat::Logstash, Place::Tcp(_)) => (logstash(), Framing::Line, UNBOUNDED),
            _ => return Err(self.elsewhere()),
        };
        let takes_files = self.format == LogFormat::Journald;
        let line = match place {
            Place::Stderr => {
                let to = std::io::stderr().as_fd().try_clone_to_owned().map_err(LogSettingsError::Stderr)?;
                Line::Stderr { to, is_ours }
            }
            Place::Unix(path) => Line::Unix { path, takes_files, socket: None },
            Place::Udp(to) => Line::Udp { to, socket: None },
            Place::Tcp(to) => Line::Tcp { to, stream: None },
        };
        Ok((Arc::new(Wire { encoding, framing, limit }), line))
    }

    fn elsewhere(&self) -> LogSettingsError {
        let (format, places) = match self.format {
            LogFormat::Text => ("text", "`stderr`"),
            LogFormat::Json => ("json", "`stderr`; over a network, `logstash` is JSON as well"),
            LogFormat::Journald => ("journald", "the path of a socket"),
            LogFormat::Syslog => ("syslog", "the path of a socket, `udp://HOST:PORT` or `tcp://HOST:PORT`"),
            LogFormat::Logstash => ("logstash", "`udp://HOST:PORT` or `tcp://HOST:PORT`"),
        };
        let target = self.target.clone().unwrap_or_default();
        LogSettingsError::Elsewhere { format, target, places }
    }
}
