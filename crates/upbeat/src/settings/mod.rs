//! The daemon's own settings: built-in defaults, then `/etc/upbeat/config.toml`, then the user's
//! file, then variables, then flags; each value knows where it came from.
//!
//! Laws: there is one table of settings ([`table`]), from which they are read, shown and described.
//! A key that is not in it is refused with its place and what was probably meant. A value that is
//! read and would not be honoured is refused, too.

mod check;
mod page;
mod read;
pub mod table;
#[cfg(test)]
mod tests;
mod webhooks;

use std::ffi::OsString;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use rustix::fs::OFlags;
use serde::{Serialize, Serializer};
use upbeat_control::webhooks::Webhook;
use upbeat_drivers::controllers::Policy;
use upbeat_model::WebhookName;
use upbeat_model::webhook::Wanted;
use upbeat_model::withheld::receiver_to_look_at;

pub use page::markdown;
pub use read::{Sources, read};
use table::Kind;

use crate::logging::{LogFormat, LogSettings};

/// For all daemons of the machine.
pub const SYSTEM_FILE: &str = "/etc/upbeat/config.toml";

/// A file of settings has some lines; what is longer is another file.
const FILE_MAX: u64 = 1 << 20;

/// What a setting is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// It is not set.
    Nothing,
    /// Yes or no.
    Flag(bool),
    /// Several.
    List(Vec<String>),
    /// Words, a path, an address.
    Text(String),
}

impl Value {
    /// As it is written in a variable. `None`: that is none of this kind. Empty means that it is not
    /// set, whatever a weaker place says.
    fn read(kind: Kind, text: &str) -> Option<Self> {
        let text = text.trim();
        match kind {
            Kind::Flag => text.parse().ok().map(Self::Flag),
            Kind::List => {
                let items = text.trim_start_matches('[').trim_end_matches(']').split(',');
                // As a file has it, too.
                let items = items.map(|item| item.trim().trim_matches('"'));
                Some(Self::List(items.filter(|item| !item.is_empty()).map(str::to_owned).collect()))
            }
            _ if text.is_empty() => Some(Self::Nothing),
            Kind::Address if text.parse::<SocketAddr>().is_err() => None,
            Kind::Path if !Path::new(text).is_absolute() => None,
            Kind::Address | Kind::Path | Kind::Text => Some(Self::Text(text.to_owned())),
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// As TOML has it; nothing where nothing is set.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::Flag(flag) => flag.fmt(f),
            Self::List(items) => write!(f, "{items:?}"),
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// A file, and where in it.
    File {
        /// Which.
        file: String,
        /// From 1.
        line: u32,
        /// In characters, from 1.
        column: u32,
    },
    /// A variable of the environment.
    Variable(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// One setting as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// `api.listen`.
    pub name: String,
    /// What it is.
    pub value: Value,
    /// Where from.
    pub source: Source,
}

impl Shown {
    /// The same without what an address may hold that is a secret.
    fn without_secret(self) -> Self {
        let is_address = self.name.ends_with(".url");
        let value = match self.value {
            Value::Text(url) if is_address => Value::Text(receiver_to_look_at(&url)),
            value => value,
        };
        Self { value, ..self }
    }
}

/// `[api]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Api {
    /// Where TCP is served.
    pub listen: Option<SocketAddr>,
    /// The certificate; with `tls_key` or not at all.
    pub tls_cert: Option<PathBuf>,
    /// Its key.
    pub tls_key: Option<PathBuf>,
    /// Names this machine is called by.
    pub allowed_hosts: Vec<String>,
    /// Whose members are operators.
    pub socket_group: Option<String>,
}

/// `[orchestrator.services]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orchestrator {
    /// Look after services.
    pub manager_enabled: bool,
    /// Start what a service depends on with it.
    pub auto_start_dependencies: bool,
}

/// `[rollouts]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rollouts {
    /// Where they are served without tokens.
    pub listen: Option<SocketAddr>,
    /// Whom controllers may be besides programs of this machine.
    pub callbacks: Vec<String>,
}

/// A webhook as it was said: what is wrong with it is found out by the check.
#[derive(Clone, Debug, PartialEq, Eq)]
struct WebhookSaid {
    name: WebhookName,
    /// Where it was named.
    source: Source,
    /// Its settings, in the order of the table.
    shown: Vec<Shown>,
}

impl WebhookSaid {
    fn shown(&self, key: &str) -> Option<&Shown> {
        self.shown.iter().find(|shown| shown.name.rsplit('.').next() == Some(key))
    }

    fn text(&self, key: &str) -> &str {
        self.shown(key).and_then(|shown| shown.value.text()).unwrap_or_default()
    }

    fn list(&self, key: &str) -> &[String] {
        match self.shown(key).map(|shown| &shown.value) {
            Some(Value::List(items)) => items,
            _ => &[],
        }
    }

    /// Errors: the kinds of events are none.
    fn wanted(&self) -> Result<Wanted, String> {
        let (kinds, words) = (Wanted::kinds(self.list("events"))?, Wanted::words(self.list("events")));
        // Each was checked.
        let apps = self.list("apps").iter().filter_map(|app| app.parse().ok()).collect();
        Ok(Wanted { words, kinds, apps, namespaces: self.list("namespaces").to_vec() })
    }
}

/// Which container engine it uses, and as whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Docker {
    /// Where it is: `unix:///var/run/docker.sock`.
    pub host: Option<String>,
    /// The directory of its own configuration.
    pub config: Option<PathBuf>,
}

impl Docker {
    /// What is not said is as it is for Docker's own programs: `DOCKER_HOST`, `DOCKER_CONFIG`, `~/.docker`.
    pub fn or_of_environment(self, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let host = || variable("DOCKER_HOST").and_then(|host| host.into_string().ok());
        let home = || variable("HOME").map(|home| PathBuf::from(home).join(".docker"));
        let config = || variable("DOCKER_CONFIG").map(PathBuf::from).or_else(home);
        Self { host: self.host.or_else(host), config: self.config.or_else(config) }
    }
}

/// All settings, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Who may speak to the daemon.
    pub api: Api,
    /// Which container engine it uses.
    pub docker: Docker,
    /// What it does on its own.
    pub orchestrator: Orchestrator,
    /// Who may speak of rollouts, and whom they ask.
    pub rollouts: Rollouts,
    /// What it says of itself, and to whom.
    pub log: LogSettings,
    webhooks: Vec<WebhookSaid>,
    shown: Vec<Shown>,
}

impl Settings {
    /// Of values of the right kinds, in the order of the table.
    fn of(mut shown: Vec<Shown>, webhooks: Vec<WebhookSaid>) -> Self {
        let value = |name: &str| shown.iter().find(|shown| shown.name == name).map(|shown| &shown.value);
        let text = |name: &str| value(name).and_then(Value::text);
        let flag = |name: &str| matches!(value(name), Some(Value::Flag(true)));
        let list = |name: &str| match value(name) {
            Some(Value::List(items)) => items.clone(),
            _ => Vec::new(),
        };
        let api = Api {
            listen: text("api.listen").and_then(|text| text.parse().ok()),
            tls_cert: text("api.tls_cert").map(PathBuf::from),
            tls_key: text("api.tls_key").map(PathBuf::from),
            allowed_hosts: list("api.allowed_hosts"),
            socket_group: text("api.socket_group").map(str::to_owned),
        };
        let docker = Docker {
            host: text("docker.host").map(str::to_owned),
            config: text("docker.config").map(PathBuf::from),
        };
        let orchestrator = Orchestrator {
            manager_enabled: flag("orchestrator.services.manager_enabled"),
            auto_start_dependencies: flag("orchestrator.services.auto_start_dependencies"),
        };
        let rollouts = Rollouts {
            listen: text("rollouts.listen").and_then(|text| text.parse().ok()),
            callbacks: list("rollouts.callbacks"),
        };
        // One that is none is refused by the check.
        let format = text("log.format").and_then(|text| LogFormat::from_str(text, false).ok());
        let log =
            LogSettings { format: format.unwrap_or_default(), target: text("log.target").map(str::to_owned) };
        shown.extend(webhooks.iter().flat_map(|webhook| webhook.shown.clone()).map(Shown::without_secret));
        Self { api, docker, orchestrator, rollouts, log, webhooks, shown }
    }

    /// Who is told of events.
    pub fn webhooks(&self) -> Vec<Webhook> {
        let each = self.webhooks.iter().filter_map(|said| {
            let (url, secret_file) = (said.text("url").to_owned(), said.text("secret_file").into());
            // It was checked.
            Some(Webhook { name: said.name.clone(), url, secret_file, wanted: said.wanted().ok()? })
        });
        each.collect()
    }

    /// Whom controllers of rollouts may be. This machine's own programs, as long as only they can say whom to
    /// ask.
    pub fn callbacks(&self) -> Policy {
        let loopback = self.api.listen.is_none_or(|listen| listen.ip().is_loopback());
        // Each entry was checked.
        let allow = self.rollouts.callbacks.iter().filter_map(|entry| entry.parse().ok()).collect();
        Policy { loopback, allow }
    }

    /// Each of them, in the order of the table.
    pub fn all(&self) -> &[Shown] {
        &self.shown
    }

    /// Where a setting of `[api]` came from.
    fn source(&self, key: &str) -> &Source {
        self.shown(&format!("api.{key}")).map_or(&Source::Default, |shown| &shown.source)
    }

    fn shown(&self, name: &str) -> Option<&Shown> {
        self.shown.iter().find(|shown| shown.name == name)
    }
}

/// Where the user's own file is, if there is a place for it.
pub fn user_file(var: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name: &str| var(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(config.join("upbeat/config.toml"))
}

/// The text of a file; `None` where there is none. Never waits. Errors: it cannot be read, or is none
/// of settings.
pub fn file_text(path: &Path) -> io::Result<Option<String>> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut text = String::new();
    if file.take(FILE_MAX + 1).read_to_string(&mut text)? as u64 > FILE_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    Ok(Some(text))
}
