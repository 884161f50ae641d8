//! What a person declared, resolved: every default filled in, every path absolute.

pub mod container;
mod dependency;
mod probe;
mod process;
mod signal;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ids::{AppName, ProbeName, ServiceName};
use crate::state::Exit;
use crate::time::Millis;

pub use container::Container;
pub use dependency::{Condition, Dependency, OnFailure, OnRestart};
pub use probe::{FileCheck, Grpc, Http, Probe, Question, Reaction, Remedy, Role, Tls, Udp};
pub use process::{Hook, PrivateFile, Reload, Resources, RestartRhythm, Secret, Ulimit};
pub use signal::Signal;

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

/// One declared thing to run: a process of this machine, or a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// What it has as a container. Without it, it is a process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Box<Container>>,
    /// Program and arguments of a process; at least one element. Never seen by a shell. Of a container none:
    /// its own are its container's.
    pub command: Vec<String>,
    /// The variables this service adds.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Absolute directory the process starts in. Of a container that of its project.
    pub working_dir: String,
    /// User (name or uid, optionally `:group`) it runs as; the daemon's own where absent.
    #[serde(default)]
    pub user: Option<String>,
    /// Groups (names or gids) it is in besides those of its user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub group_add: Vec<String>,
    /// Limits of the kernel for each of its processes, by Compose's names (`nofile`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Limits for all its processes together.
    #[serde(default, skip_serializing_if = "Resources::is_unlimited")]
    pub resources: Resources,
    /// From -1000 (never) to 1000 (first): whom the kernel kills when memory is out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// It gets a terminal of its own, into which it prints.
    #[serde(default, skip_serializing_if = "is_false")]
    pub tty: bool,
    /// Its standard input is open, and nothing comes from there.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stdin_open: bool,
    /// Its configs and secrets: files only it can read, in the directory that
    /// [`PrivateFile::DIRECTORY`] names to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PrivateFile>,
    /// What must hold before it starts, each time it starts.
    #[serde(default)]
    pub depends_on: BTreeMap<ServiceName, Dependency>,
    /// What is asked of it while it runs. Compose's `healthcheck` is the one called `readiness`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub probes: BTreeMap<ProbeName, Probe>,
    /// Its command starts it elsewhere and ends; whether it is there is for its probes to say.
    #[serde(default, skip_serializing_if = "is_false")]
    pub external: bool,
    /// What to do when it ends by itself.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// How soon and how often, where that is said.
    #[serde(default, skip_serializing_if = "RestartRhythm::is_default")]
    pub restart_rhythm: RestartRhythm,
    /// Statuses (0 to 255) of a good end besides 0.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub success_exit_codes: BTreeSet<u8>,
    /// Run one after the other before each start; it is started when all have succeeded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pre_start: Vec<Hook>,
    /// Run one after the other when it was started; it counts as started when all have succeeded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub post_start: Vec<Hook>,
    /// Run one after the other, and before `stop_command`, when it is to stop.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pre_stop: Vec<Hook>,
    /// Run one after the other when it has ended, however it did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub post_stop: Vec<Hook>,
    /// How it is asked to read its configuration anew; without it, it cannot be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload: Option<Reload>,
    /// When it has ended and is left so, the whole app is stopped.
    #[serde(default, skip_serializing_if = "is_false")]
    pub exit_on_end: bool,
    /// It is given a file, [`Service::UPDATE_LOCK`]: while it, or anybody, holds a lock on that (`flock`), it is
    /// not interrupted for an update.
    #[serde(default, skip_serializing_if = "is_false")]
    pub update_lock: bool,
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
    /// What differs from copy to copy. What else is said here is as the first copy has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_copy: Option<PerCopy>,
    /// Whether `up` shows what it prints.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub attach: bool,
    /// Words for people and tools.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Texts of a service that are made for each copy: keys of a project file, where in the place of a text
/// may stand `{"{{": "a template of it"}`. See [`Service::for_copy`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct PerCopy(pub serde_json::Value);

fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_true(flag: &bool) -> bool {
    *flag
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
    /// The variable that tells a service where its update lock is.
    pub const UPDATE_LOCK: &str = "UPBEAT_UPDATE_LOCK";

    /// Where that is in a container.
    pub const UPDATE_LOCK_INSIDE: &str = "/run/upbeat/update.lock";

    /// A container of this image; all else as where a file says nothing.
    pub fn of_image(image: container::ImageRef) -> Self {
        Self { container: Some(Box::new(Container::new(image))), ..Self::new(Vec::new(), "/") }
    }

    /// 10 s, as the Compose Specification says.
    pub const fn default_grace() -> Millis {
        Millis::seconds(10)
    }

    /// One copy.
    pub const fn default_scale() -> u32 {
        1
    }

    /// A service with nothing but a command and a directory; all else as where a file says nothing.
    pub fn new(command: Vec<String>, working_dir: impl Into<String>) -> Self {
        Self {
            container: None,
            command,
            environment: BTreeMap::new(),
            working_dir: working_dir.into(),
            user: None,
            group_add: Vec::new(),
            ulimits: BTreeMap::new(),
            resources: Resources::default(),
            oom_score_adj: None,
            tty: false,
            stdin_open: false,
            files: Vec::new(),
            depends_on: BTreeMap::new(),
            probes: BTreeMap::new(),
            external: false,
            restart: RestartPolicy::default(),
            restart_rhythm: RestartRhythm::default(),
            success_exit_codes: BTreeSet::new(),
            pre_start: Vec::new(),
            post_start: Vec::new(),
            pre_stop: Vec::new(),
            post_stop: Vec::new(),
            reload: None,
            exit_on_end: false,
            update_lock: false,
            stop_signal: Signal::default(),
            stop_grace_period: Self::default_grace(),
            stop_command: None,
            scale: Self::default_scale(),
            log: None,
            per_copy: None,
            attach: true,
            labels: BTreeMap::new(),
        }
    }

    /// Whether an end by itself is a good one.
    pub fn succeeds_with(&self, exit: &Exit) -> bool {
        let listed =
            |code: &i32| u8::try_from(*code).is_ok_and(|code| self.success_exit_codes.contains(&code));
        exit.is_success() || matches!(exit, Exit::Code(code) if listed(code))
    }

    /// The probe that says whether it may be used.
    pub fn readiness(&self) -> Option<&Probe> {
        self.probes.get(ProbeName::READINESS)
    }

    /// Whether it is given a socket to say how it is doing.
    pub fn notifies(&self) -> bool {
        self.probes.values().any(|probe| matches!(probe.ask, Question::Notify | Question::Watchdog(_)))
    }

    /// How often it has to say that it is alive. The shortest, where it is asked more than once.
    pub fn watchdog(&self) -> Option<Millis> {
        let every = |probe: &Probe| match probe.ask {
            Question::Watchdog(every) => Some(every),
            _ => None,
        };
        self.probes.values().filter_map(every).min()
    }

    /// The identity of everything that makes a *running copy* what it is: two specs with one
    /// digest need no restart to become each other. `scale`, `depends_on`, `restart`, `labels`, the
    /// hooks and the ways to stop and probe take effect without one.
    ///
    /// What is not said is left out, so that a digest outlives versions that know more keys.
    pub fn digest(&self) -> String {
        let mut identity = serde_json::json!({
            "command": self.command,
            "environment": self.environment,
            "working_dir": self.working_dir,
            "user": self.user,
        });
        let mut say = |name: &str, is_said: bool, value: serde_json::Value| {
            if is_said {
                identity[name] = value;
            }
        };
        say("group_add", !self.group_add.is_empty(), serde_json::json!(self.group_add));
        say("ulimits", !self.ulimits.is_empty(), serde_json::json!(self.ulimits));
        say("resources", !self.resources.is_unlimited(), serde_json::json!(self.resources));
        say("oom_score_adj", self.oom_score_adj.is_some(), serde_json::json!(self.oom_score_adj));
        say("tty", self.tty, serde_json::json!(true));
        say("stdin_open", self.stdin_open, serde_json::json!(true));
        say("per_copy", self.per_copy.is_some(), serde_json::json!(self.per_copy));
        // What it is given to speak by; whoever runs without it cannot be asked.
        say("notifies", self.notifies(), serde_json::json!(true));
        say("watchdog", self.watchdog().is_some(), serde_json::json!(self.watchdog()));
        say("external", self.external, serde_json::json!(true));
        say("update_lock", self.update_lock, serde_json::json!(true));
        // By their hashes: a digest is asked for at every change, and they may be megabytes.
        let of_file = |file: &PrivateFile| {
            let content = blake3::hash(file.content.reveal());
            let mut said = serde_json::json!([file.name, file.mode, content.to_hex().as_str()]);
            if let (Some(target), Some(said)) = (&file.target, said.as_array_mut()) {
                said.extend([serde_json::json!(target), file.uid.into(), file.gid.into()]);
            }
            said
        };
        say("files", !self.files.is_empty(), self.files.iter().map(of_file).collect());
        if let Some(container) = &self.container {
            identity["container"] = container.identity();
            // An engine cannot change them of a container that is there.
            identity["labels"] = serde_json::json!(self.labels);
            // The directory of the project is nothing to it.
            identity["working_dir"] = serde_json::Value::Null;
        }
        short_hash(&identity)
    }
}

/// 16 hexadecimal digits that tell one from another.
fn short_hash(identity: &serde_json::Value) -> String {
    let hash = blake3::hash(identity.to_string().as_bytes());
    hash.to_hex().as_str()[..16].to_owned()
}

const fn yes() -> bool {
    true
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
