//! What a person declared, resolved: every default filled in, every path absolute.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{AppName, ServiceName};
use crate::time::Millis;

/// A declared set of services under one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// The name of the app it becomes.
    pub name: AppName,
    /// What to run.
    pub services: BTreeMap<ServiceName, Service>,
    /// Variables every process is given first, before its own `environment`: taken from the
    /// person's session (`PATH`, `HOME`, …). No part of a service's digest, so that a `PATH` that
    /// differs between two terminals restarts nothing.
    #[serde(default)]
    pub base_environment: BTreeMap<String, String>,
}

/// One declared thing to run: a host process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Program and arguments; at least one element. Never seen by a shell.
    pub command: Vec<String>,
    /// The variables this service adds.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Absolute directory the process starts in.
    pub working_dir: String,
    /// User (name or uid, optionally `:group`) it runs as; the daemon's own where absent.
    #[serde(default)]
    pub user: Option<String>,
    /// What must hold before it starts, each time it starts.
    #[serde(default)]
    pub depends_on: BTreeMap<ServiceName, Dependency>,
    /// How to tell that it is ready.
    #[serde(default)]
    pub healthcheck: Option<Healthcheck>,
    /// What to do when it ends by itself.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// What asks it to stop.
    #[serde(default)]
    pub stop_signal: Signal,
    /// How long it may take to stop before it is killed.
    #[serde(default = "Service::default_grace")]
    pub stop_grace_period: Millis,
    /// Run first to stop it; the signal follows if it is still there.
    #[serde(default)]
    pub stop_command: Option<Vec<String>>,
    /// How many copies.
    #[serde(default = "Service::default_scale")]
    pub scale: u32,
    /// When its log is rotated; without it, as the daemon does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogRotation>,
    /// Words for people and tools.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// When a log is rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LogRotation {
    /// A segment is closed when it exceeds so many bytes.
    pub max_size: u64,
    /// So many segments are kept, the one that is written included.
    pub max_files: u32,
}

/// 50 MiB a slot.
impl Default for LogRotation {
    fn default() -> Self {
        Self { max_size: 10 << 20, max_files: 5 }
    }
}

impl Service {
    /// 10 s, as the Compose Specification says.
    pub const fn default_grace() -> Millis {
        Millis::seconds(10)
    }

    /// One copy.
    pub const fn default_scale() -> u32 {
        1
    }

    /// The identity of everything that makes a *running copy* what it is: two specs with one
    /// digest need no restart to become each other. `scale`, `depends_on`, `restart`, `labels` and
    /// the ways to stop and probe take effect without one.
    pub fn digest(&self) -> String {
        let identity = serde_json::json!({
            "command": self.command,
            "environment": self.environment,
            "working_dir": self.working_dir,
            "user": self.user,
        });
        let hash = blake3::hash(identity.to_string().as_bytes());
        hash.to_hex().as_str()[..16].to_owned()
    }
}

/// One edge of the graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    /// What must hold.
    #[serde(default)]
    pub condition: Condition,
    /// When false, a dependency that failed or is not declared is passed over.
    #[serde(default = "yes")]
    pub required: bool,
    /// When true, an explicit restart or replacement of the dependency restarts this one too.
    #[serde(default)]
    pub restart: bool,
}

const fn yes() -> bool {
    true
}

impl Default for Dependency {
    fn default() -> Self {
        Self { condition: Condition::default(), required: true, restart: false }
    }
}

/// What must hold of a dependency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Condition {
    /// Its process was started and is there.
    #[default]
    #[serde(rename = "service_started")]
    Started,
    /// Its health check passes; without one, as `service_started`.
    #[serde(rename = "service_healthy")]
    Healthy,
    /// It ended with status 0.
    #[serde(rename = "service_completed_successfully")]
    CompletedSuccessfully,
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Started => "service_started",
            Self::Healthy => "service_healthy",
            Self::CompletedSuccessfully => "service_completed_successfully",
        })
    }
}

/// A readiness probe and its rhythm (Compose Specification, `healthcheck`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Healthcheck {
    /// What is asked.
    pub probe: Probe,
    /// Between the end of one probe and the start of the next.
    #[serde(default = "Healthcheck::default_interval")]
    pub interval: Millis,
    /// After which a probe counts as failed.
    #[serde(default = "Healthcheck::default_timeout")]
    pub timeout: Millis,
    /// Consecutive failures that make it unhealthy; at least 1.
    #[serde(default = "Healthcheck::default_retries")]
    pub retries: u32,
    /// After the start, failures do not count for so long.
    #[serde(default)]
    pub start_period: Millis,
    /// The interval until the first success within `start_period`.
    #[serde(default = "Healthcheck::default_start_interval")]
    pub start_interval: Millis,
}

impl Healthcheck {
    /// 30 s, as the Compose Specification says.
    pub const fn default_interval() -> Millis {
        Millis::seconds(30)
    }
    /// 30 s, as the Compose Specification says.
    pub const fn default_timeout() -> Millis {
        Millis::seconds(30)
    }
    /// 3, as the Compose Specification says.
    pub const fn default_retries() -> u32 {
        3
    }
    /// 5 s, as the Compose Specification says.
    pub const fn default_start_interval() -> Millis {
        Millis::seconds(5)
    }
}

/// A question with a yes or a no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Probe {
    /// `GET url` answers with a status from 200 to 399.
    Http(String),
    /// `host:port` accepts a connection.
    Tcp(String),
    /// The command, run like the service itself, ends with status 0.
    Exec(Vec<String>),
    /// A line of this attempt's output matches the regular expression; once seen, it stays true.
    Log(String),
}

impl std::fmt::Display for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Http(url) => write!(f, "http {url}"),
            Self::Tcp(address) => write!(f, "tcp {address}"),
            Self::Exec(command) => write!(f, "exec {}", command.join(" ")),
            Self::Log(pattern) => write!(f, "log line /{pattern}/"),
        }
    }
}

/// What to do when a process ends by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Leave it.
    #[default]
    No,
    /// Start it again, whatever its status.
    Always,
    /// Start it again after a status other than 0.
    OnFailure {
        /// At most so many times in a row; without it, no bound.
        max: Option<u32>,
    },
    /// As `always`; a copy somebody stopped stays stopped across a reboot.
    UnlessStopped,
}

/// A signal, by number, that Linux can deliver to a process on x86-64 and arm64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Signal(pub i32);

impl Signal {
    /// `SIGTERM`.
    pub const TERM: Self = Self(15);
    /// `SIGKILL`.
    pub const KILL: Self = Self(9);

    const NAMES: &[(&str, i32)] = &[
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ILL", 4),
        ("TRAP", 5),
        ("ABRT", 6),
        ("BUS", 7),
        ("FPE", 8),
        ("KILL", 9),
        ("USR1", 10),
        ("SEGV", 11),
        ("USR2", 12),
        ("PIPE", 13),
        ("ALRM", 14),
        ("TERM", 15),
        ("STKFLT", 16),
        ("CHLD", 17),
        ("CONT", 18),
        ("STOP", 19),
        ("TSTP", 20),
        ("TTIN", 21),
        ("TTOU", 22),
        ("URG", 23),
        ("XCPU", 24),
        ("XFSZ", 25),
        ("VTALRM", 26),
        ("PROF", 27),
        ("WINCH", 28),
        ("IO", 29),
        ("PWR", 30),
        ("SYS", 31),
    ];

    /// Reads `SIGTERM`, `TERM`, `sigterm` or `15`.
    pub fn parse(text: &str) -> Option<Self> {
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some((_, n)) = Self::NAMES.iter().find(|(name, _)| *name == bare) {
            return Some(Self(*n));
        }
        text.parse().ok().filter(|n| (1..=64).contains(n)).map(Self)
    }

    /// The names it knows, for suggestions.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::NAMES.iter().map(|(name, _)| *name)
    }
}

impl Default for Signal {
    fn default() -> Self {
        Self::TERM
    }
}

impl std::fmt::Display for Signal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match Self::NAMES.iter().find(|(_, n)| *n == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None => write!(f, "signal {}", self.0),
        }
    }
}
