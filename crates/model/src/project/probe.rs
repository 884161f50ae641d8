//! Probes: what is asked of a running copy, how often, and what is done when the answer is no.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Signal;
use crate::ids::ProbeName;
use crate::time::Millis;

/// What a probe is for. Its name says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Until it has passed no other probe is asked; from then on it is not asked again.
    Startup,
    /// Says whether the service may be used.
    Readiness,
    /// Says whether the copy is of any use at all.
    Liveness,
    /// Says what its author wants to know: conditions may wait for it.
    Named,
}

impl ProbeName {
    /// The probe called `startup`.
    pub const STARTUP: &'static str = "startup";
    /// The probe called `readiness`; Compose calls it `healthcheck`.
    pub const READINESS: &'static str = "readiness";
    /// The probe called `liveness`.
    pub const LIVENESS: &'static str = "liveness";

    /// What a probe of this name is for.
    pub fn role(&self) -> Role {
        match self.as_str() {
            Self::STARTUP => Role::Startup,
            Self::READINESS => Role::Readiness,
            Self::LIVENESS => Role::Liveness,
            _ => Role::Named,
        }
    }
}

/// A question, its rhythm, and what follows from a no.
///
/// After `initial_delay` the first is asked. Then one every `interval`; every `start_interval` until
/// the first yes within `start_period`, where failures do not count. `success_threshold` yeses in a
/// row are a yes, `failure_threshold` noes in a row a no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// What is asked.
    pub ask: Question,
    /// Nothing is asked for so long after the start.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub initial_delay: Millis,
    /// Between the end of one probe and the start of the next.
    #[serde(default = "Probe::default_interval")]
    pub interval: Millis,
    /// After which an answer that did not come is a no.
    #[serde(default = "Probe::default_timeout")]
    pub timeout: Millis,
    /// So many noes in a row are a no; at least 1.
    #[serde(default = "Probe::default_failure_threshold")]
    pub failure_threshold: u32,
    /// So many yeses in a row are a yes; at least 1.
    #[serde(default = "Probe::default_success_threshold")]
    pub success_threshold: u32,
    /// After the start, noes do not count for so long.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_period: Millis,
    /// The interval until the first yes within `start_period`.
    #[serde(default = "Probe::default_start_interval")]
    pub start_interval: Millis,
    /// What is done about a no; without it what its role says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<Remedy>,
}

fn is_zero(length: &Millis) -> bool {
    length.0 == 0
}

impl Probe {
    /// A service has no more: each is remembered and asked for every copy.
    pub const COUNT_MAX: usize = 32;

    /// So high a threshold may be set under `probes`: whoever wants more wants a longer interval.
    pub const THRESHOLD_MAX: u32 = 1000;

    /// 10 s: the interval under `probes` where nothing is said, as with Kubernetes.
    pub const INTERVAL: Millis = Millis::seconds(10);

    /// 1 s: the time-out under `probes` where nothing is said, as with Kubernetes.
    pub const TIMEOUT: Millis = Millis::seconds(1);

    /// With this question, and else as where nothing is said under `probes`. A health check is made by
    /// [`Probe::new`].
    pub fn asking(ask: Question) -> Self {
        Self { interval: Self::INTERVAL, timeout: Self::TIMEOUT, ..Self::new(ask) }
    }

    /// 30 s, as the Compose Specification says.
    pub const fn default_interval() -> Millis {
        Millis::seconds(30)
    }
    /// 30 s, as the Compose Specification says.
    pub const fn default_timeout() -> Millis {
        Millis::seconds(30)
    }
    /// 3, as the Compose Specification says of `retries`.
    pub const fn default_failure_threshold() -> u32 {
        3
    }
    /// 1.
    pub const fn default_success_threshold() -> u32 {
        1
    }
    /// 5 s, as the Compose Specification says.
    pub const fn default_start_interval() -> Millis {
        Millis::seconds(5)
    }

    /// With this question, and else as where a health check says nothing. A watchdog that was not
    /// heard in time is a no at once: its length says already how long it may be silent.
    pub fn new(ask: Question) -> Self {
        let failure_threshold = match ask {
            Question::Watchdog(_) => 1,
            _ => Self::default_failure_threshold(),
        };
        Self {
            ask,
            initial_delay: Millis(0),
            interval: Self::default_interval(),
            timeout: Self::default_timeout(),
            failure_threshold,
            success_threshold: Self::default_success_threshold(),
            start_period: Millis(0),
            start_interval: Self::default_start_interval(),
            on_failure: None,
        }
    }

    /// The engine's answer to the health check of the image. The engine counts, by the image's thresholds: what
    /// it says is so, and costs no more than to look.
    pub fn of_image() -> Self {
        /// For an engine under load; whoever does not answer by then says nothing.
        const PATIENCE: Millis = Millis::seconds(10);
        let interval = Millis::seconds(1);
        Self { interval, timeout: PATIENCE, failure_threshold: 1, ..Self::new(Question::Image) }
    }

    /// What is done about a no. Where nothing is said: a copy that does not come up, or is of no use,
    /// is restarted; that one cannot be used for now is only said.
    pub fn remedy(&self, role: Role) -> Remedy {
        self.on_failure.clone().unwrap_or_else(|| {
            Remedy::of(match role {
                Role::Startup | Role::Liveness => Reaction::Restart,
                Role::Readiness | Role::Named => Reaction::Ignore,
            })
        })
    }
}

/// What is done about a no, and how often before a person has to look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Remedy {
    /// What is done.
    pub action: Reaction,
    /// At most so many times within `window`; then a person has to look. At least 1.
    #[serde(default = "Remedy::default_max_attempts")]
    pub max_attempts: u32,
    /// In which they are counted.
    #[serde(default = "Remedy::default_window")]
    pub window: Millis,
}

impl Udp {
    /// So much may be sent, in bytes: what every network takes in one piece.
    pub const SEND_MAX: usize = 1200;
}

impl Remedy {
    /// The highest `max_attempts`: each is remembered with its time.
    pub const ATTEMPTS_MAX: u32 = 100;

    /// 5: what five restarts did not mend, a sixth will not.
    pub const fn default_max_attempts() -> u32 {
        5
    }

    /// Ten minutes.
    pub const fn default_window() -> Millis {
        Millis::seconds(600)
    }

    /// This, as often as where nothing is said.
    pub fn of(action: Reaction) -> Self {
        Self { action, max_attempts: Self::default_max_attempts(), window: Self::default_window() }
    }
}

/// What is done when a probe says no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reaction {
    /// Nothing: it is said, and conditions see it.
    Ignore,
    /// The copy is stopped and started again, whatever its restart policy says.
    Restart,
    /// The copy is stopped and stays so until somebody starts it.
    Stop,
    /// Its main process is sent this signal.
    Signal(Signal),
    /// This is run beside it: program and arguments.
    Exec(Vec<String>),
}

/// In place of what a program is given.
const ARGUMENTS: &str = "…";

fn leave_out_arguments(command: &mut Vec<String>) {
    if command.len() > 1 {
        command.truncate(1);
        command.push(ARGUMENTS.to_owned());
    }
}

impl Reaction {
    /// The same for a reason: without arguments, as [`Question::to_look_at`].
    #[must_use]
    pub fn to_look_at(&self) -> Self {
        let mut shown = self.clone();
        if let Self::Exec(command) = &mut shown {
            leave_out_arguments(command);
        }
        shown
    }
}

impl std::fmt::Display for Reaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ignore => f.write_str("ignore"),
            Self::Restart => f.write_str("restart"),
            Self::Stop => f.write_str("stop"),
            Self::Signal(signal) => write!(f, "{signal}"),
            Self::Exec(command) => {
                write!(f, "`{}`", command.first().map_or("", String::as_str))
            }
        }
    }
}

/// A question with a yes or a no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    /// A request is answered as it should be.
    Http(Http),
    /// `host:port` accepts a connection.
    Tcp(String),
    /// A datagram is answered; one that nobody takes is a no.
    Udp(Udp),
    /// The health service of gRPC (`grpc.health.v1.Health/Check`) answers `SERVING`.
    Grpc(Grpc),
    /// The socket at this absolute path accepts a connection.
    Unix(String),
    /// The command, run like the service itself, ends with status 0.
    Exec(Vec<String>),
    /// There is something at this absolute path.
    File(FileCheck),
    /// A line of this attempt's output matches the regular expression; once seen, it stays true.
    Log(String),
    /// It has said that it is ready (`READY=1`, the protocol of systemd).
    Notify,
    /// It says that it is alive (`WATCHDOG=1`) at least once in so long. The protocol asks a service
    /// to do so twice as often.
    Watchdog(Millis),
    /// It has printed something within so long.
    Prints(Millis),
    /// All its processes together have at most so many bytes in memory.
    Memory(u64),
    /// Each of its processes has at most so many open files.
    Descriptors(u64),
    /// All its processes together have used at most so much of one CPU since it was asked before, in
    /// hundredths.
    Cpu(u32),
    /// The container engine says that the health check of the image passes. No file asks it: whoever waits
    /// for such a container to be healthy does.
    Image,
}

impl Question {
    /// Where a port is, when nothing else is said.
    pub const HERE: &'static str = "127.0.0.1";

    /// The same for whoever must know it again and need not know it: 16 characters, however much it
    /// says.
    pub fn identity(&self) -> String {
        let text = serde_json::to_vec(self).unwrap_or_default();
        blake3::hash(&text).to_hex().as_str()[..16].to_owned()
    }

    /// The name of a probe that asks this because somebody waits for it, and that nobody has written. It
    /// is always the same; people are told the question instead.
    pub fn own_name(&self) -> Option<ProbeName> {
        let hash = |text: &str| blake3::hash(text.as_bytes()).to_hex()[..8].to_owned();
        match self {
            Self::Tcp(address) => match address.rsplit_once(':')? {
                (Self::HERE, port) => ProbeName::new(format!("port-{port}")).ok(),
                (host, port) => ProbeName::new(format!("port-{host}-{port}"))
                    .or_else(|_| ProbeName::new(format!("port-{}-{port}", hash(host))))
                    .ok(),
            },
            Self::Log(pattern) => ProbeName::new(format!("log-{}", hash(pattern))).ok(),
            _ => None,
        }
    }

    /// The same for a reason, which is also kept, logged and sent on: what may be secret is withheld, and
    /// what is long, and in the project, is left out: headers, certificates, what an answer is to match,
    /// and arguments.
    #[must_use]
    pub fn to_look_at(&self) -> Self {
        let mut shown = self.clone();
        shown.withhold();
        match &mut shown {
            Self::Http(http) => {
                http.headers.clear();
                http.body = None;
            }
            Self::Udp(udp) => udp.expect = None,
            Self::Exec(command) => leave_out_arguments(command),
            _ => {}
        }
        if let Some(tls) = shown.tls_mut() {
            tls.ca = None;
        }
        shown
    }

    /// It is not asked but told: by the service itself, or by a line of its log.
    pub fn is_told(&self) -> bool {
        matches!(self, Self::Log(_) | Self::Notify | Self::Watchdog(_))
    }

    /// It is about processes that are watched, or what these say: of a service that runs elsewhere
    /// there is no answer.
    pub fn is_of_processes(&self) -> bool {
        let is_measured =
            matches!(self, Self::Prints(_) | Self::Memory(_) | Self::Descriptors(_) | Self::Cpu(_));
        is_measured || self.is_told()
    }

    /// Its key in a project file.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Tcp(_) => "tcp",
            Self::Udp(_) => "udp",
            Self::Grpc(_) => "grpc",
            Self::Unix(_) => "unix",
            Self::Exec(_) => "exec",
            Self::File(_) => "file",
            Self::Log(_) => "log",
            Self::Notify => "notify",
            Self::Watchdog(_) => "watchdog",
            Self::Prints(_) => "prints_within",
            Self::Memory(_) => "memory",
            Self::Descriptors(_) => "descriptors",
            Self::Cpu(_) => "cpu",
            Self::Image => "image",
        }
    }

    /// How whoever answers is known, where it is asked over TLS or may be.
    pub fn tls(&self) -> Option<&Tls> {
        match self {
            Self::Http(http) => Some(&http.tls),
            Self::Grpc(grpc) => grpc.tls.as_ref(),
            _ => None,
        }
    }

    /// The same, to be changed.
    pub fn tls_mut(&mut self) -> Option<&mut Tls> {
        match self {
            Self::Http(http) => Some(&mut http.tls),
            Self::Grpc(grpc) => grpc.tls.as_mut(),
            _ => None,
        }
    }
}

/// A request, and what its answer must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// `http://…` or `https://…`.
    pub url: String,
    /// `GET`, where nothing is said.
    #[serde(default = "Http::default_method", skip_serializing_if = "Http::is_get")]
    pub method: String,
    /// Sent with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Statuses that are a yes: single ones, and ranges with both ends. From 200 to 399 where none is
    /// given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<(u16, u16)>,
    /// A regular expression that must be found in the first [`Http::BODY_MAX`] bytes of the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// How whoever answers `https://` is known.
    #[serde(default, skip_serializing_if = "Tls::is_default")]
    pub tls: Tls,
}

impl Http {
    /// So many headers, and so many statuses and ranges of them, may be given.
    pub const LIST_MAX: usize = 32;

    /// So much of a body is looked at.
    pub const BODY_MAX: usize = 64 * 1024;

    /// `GET` of this.
    pub fn get(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            method: Self::default_method(),
            headers: BTreeMap::new(),
            status: Vec::new(),
            body: None,
            tls: Tls::default(),
        }
    }

    /// `GET`.
    pub fn default_method() -> String {
        "GET".to_owned()
    }

    fn is_get(method: &str) -> bool {
        method == "GET"
    }

    /// Whether a status is a yes.
    pub fn accepts(&self, status: u16) -> bool {
        match self.status.is_empty() {
            true => (200..400).contains(&status),
            false => self.status.iter().any(|(from, to)| (*from..=*to).contains(&status)),
        }
    }
}

/// How the other end of a TLS connection is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificates (PEM) that are believed instead of those this machine believes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The name its certificate must have; without it the host that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Whoever answers is believed.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub insecure: bool,
}

impl Tls {
    /// Certificates of one probe are no longer, in bytes: some times all those a system believes.
    pub const CA_MAX: usize = 1 << 20;

    /// Nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A datagram, and what is to come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Udp {
    /// `host:port`.
    pub address: String,
    /// What is sent.
    #[serde(default)]
    pub send: String,
    /// A regular expression that must be found in the answer; without it any answer will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
}

/// A question to the health service of gRPC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Grpc {
    /// `host:port`.
    pub address: String,
    /// Of which service it is asked; empty: of the server as a whole.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service: String,
    /// Over TLS, and how whoever answers is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// Something at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FileCheck {
    /// Absolute.
    pub path: String,
    /// It was changed within so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Millis>,
}

impl std::fmt::Display for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Http(http) if http.method == "GET" => write!(f, "http {}", http.url),
            Self::Http(http) => write!(f, "http {} {}", http.method, http.url),
            Self::Tcp(address) => write!(f, "tcp {address}"),
            Self::Udp(udp) => write!(f, "udp {}", udp.address),
            Self::Grpc(grpc) if grpc.service.is_empty() => write!(f, "grpc {}", grpc.address),
            Self::Grpc(grpc) => write!(f, "grpc {} {}", grpc.address, grpc.service),
            Self::Unix(path) => write!(f, "unix {path}"),
            Self::Exec(command) => {
                let mut shown = command.clone();
                leave_out_arguments(&mut shown);
                write!(f, "exec {}", shown.join(" "))
            }
            Self::File(file) => match file.max_age {
                Some(age) => write!(f, "file {} of the last {age}", file.path),
                None => write!(f, "file {}", file.path),
            },
            Self::Log(pattern) => write!(f, "log line /{pattern}/"),
            Self::Notify => f.write_str("READY=1"),
            Self::Watchdog(every) => write!(f, "WATCHDOG=1 every {every}"),
            Self::Prints(within) => write!(f, "output within {within}"),
            Self::Memory(1) => f.write_str("memory at most 1 byte"),
            Self::Memory(bytes) => write!(f, "memory at most {bytes} bytes"),
            Self::Descriptors(1) => f.write_str("at most 1 open file"),
            Self::Descriptors(count) => write!(f, "at most {count} open files"),
            Self::Cpu(percent) => write!(f, "at most {percent} % of a CPU"),
            Self::Image => f.write_str("that of its image"),
        }
    }
}
