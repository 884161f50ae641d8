//! What to run, as what, within which limits; and the order that says so to a shim.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use upbeat_model::project::{PrivateFile, Resources, Service, Ulimit};
use upbeat_model::rights::DaemonRights;
use upbeat_model::{Attempt, SlotId};
use upbeat_shim::spec::{Cgroup, Limit, Order, Spec, Supervise};
pub use upbeat_shim::spec::{Notify, Stdio};

use super::{ProcessDriver, StartError, left};
use crate::cgroups::{Capabilities, Lack};
use crate::{rights, tree};

/// Where a driver keeps what belongs to slots.
#[derive(Clone, Debug)]
pub struct Places {
    /// A directory for each slot: its record, its log. Survives a reboot.
    pub slots: PathBuf,
    /// A directory for each slot whose processes have private files. Made when first needed; should
    /// lie in memory and not on a disk. Each user a process runs as must be let through those above.
    pub private: PathBuf,
    /// What the kernel tells this process of itself: [`crate::cgroups::OF_THIS_PROCESS`].
    pub process: PathBuf,
}

/// By where its slots are.
impl std::fmt::Debug for ProcessDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProcessDriver").field("slots", &self.inner.places.slots).finish_non_exhaustive()
    }
}

/// What to run in a slot.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Program and arguments.
    pub command: Vec<String>,
    /// All of its variables.
    pub environment: BTreeMap<String, String>,
    /// Absolute.
    pub working_dir: String,
    /// `name`, `uid`, either with `:group`.
    pub user: Option<String>,
    /// What it may besides.
    pub rights: Rights,
    /// What it reads from and prints into.
    pub stdio: Stdio,
    /// Files only it can read, in the directory that [`PrivateFile::DIRECTORY`] names to it.
    pub files: Vec<PrivateFile>,
    /// What limits it and its descendants together.
    pub resources: Resources,
    /// It can say of itself how it is, and is given the variables of `sd_notify(3)` to do so, in place
    /// of any of those names.
    pub notify: Option<Notify>,
    /// A log segment is closed when it exceeds this.
    pub log_max_size: u64,
    /// So many segments are kept.
    pub log_max_files: u32,
}

/// What kind of terminal it is, where the variables do not say: what Docker says, which every program
/// knows.
const TERMINAL: (&str, &str) = ("TERM", "xterm");

impl Launch {
    /// The order to run it.
    pub(super) fn spec(&self, order: Order, mark: String, private_dir: &Path) -> Spec {
        let mut spec = self.asked(private_dir).spec(order, mark);
        let (name, kind) = TERMINAL;
        if self.stdio == Stdio::Terminal && !self.environment.contains_key(name) {
            spec.environment.push(format!("{name}={kind}").into_bytes());
        }
        spec
    }

    pub(super) fn asked<'a>(&'a self, private_dir: &'a Path) -> Asked<'a> {
        let Self { command, environment, working_dir, user, rights, .. } = self;
        let private = Some(private_dir).filter(|_| !self.files.is_empty());
        Asked { command, environment, working_dir, user: user.as_deref(), rights, private }
    }
}

/// What a program may, besides what its user may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Groups, by name or number, it is in besides those of its user, or of the daemon without one.
    pub groups: Vec<String>,
    /// Limits of the kernel for each of its processes, by their names of [`Ulimit::KNOWN`]. Others are
    /// passed over.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// From -1000 (never) to 1000 (first): whom the kernel kills when memory is out. Without it as
    /// the daemon, but not below 0.
    pub oom_score_adj: Option<i32>,
}

impl Rights {
    /// Those of a service.
    pub fn of(spec: &Service) -> Self {
        Self {
            groups: spec.group_add.clone(),
            ulimits: spec.ulimits.clone(),
            oom_score_adj: spec.oom_score_adj,
        }
    }
}

/// By these a process speaks to whoever started it: who inherits one would speak in another's name.
const SPOKEN_BY: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];

/// All variables of a service: its own come before those it is given.
pub fn environment(
    own: &BTreeMap<String, String>,
    given: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut all = given.clone();
    all.retain(|name, _| !SPOKEN_BY.contains(&name.as_str()));
    all.extend(own.iter().map(|(name, value)| (name.clone(), value.clone())));
    all
}

impl ProcessDriver {
    /// The order to start an attempt. Errors: what the machine cannot limit.
    pub(super) fn spec(
        &self,
        slot: &SlotId,
        attempt: Attempt,
        launch: &Launch,
        private_dir: &Path,
    ) -> Result<Spec, StartError> {
        if !launch.files.is_empty() {
            left::warn_of_disk(private_dir);
        }
        let order = Order::Supervise(Supervise {
            attempt: attempt.0,
            boot_id: self.inner.boot_id.clone(),
            log_max_size: launch.log_max_size,
            log_max_files: launch.log_max_files,
            daemon: std::process::id() as i32,
            stdio: launch.stdio,
            private: left::private(&launch.files, private_dir),
            cgroup: self.cgroup(slot, &launch.resources)?,
            notify: launch.notify,
        });
        Ok(launch.spec(order, tree::mark(&self.slot_dir(slot), attempt), private_dir))
    }

    /// What this machine can limit now.
    pub fn capabilities(&self) -> Capabilities {
        Capabilities::look(&self.inner.places.process)
    }

    /// What this daemon can give to what it starts.
    pub fn rights(&self) -> DaemonRights {
        rights::look(&self.inner.places.process)
    }

    /// The cgroup for a slot, if anything is limited. Errors: what the machine cannot limit.
    fn cgroup(&self, slot: &SlotId, resources: &Resources) -> Result<Option<Cgroup>, StartError> {
        if resources.is_unlimited() {
            return Ok(None);
        }
        let capabilities = self.capabilities();
        if let Some(Lack { key, why }) = capabilities.lacks(resources).into_iter().next() {
            return Err(StartError::NotExecuted(format!("`{key}` cannot be kept: {why}")));
        }
        Ok(capabilities.order(&self.inner.places.slots, slot, resources))
    }
}

/// A program, and what it is run as.
pub(super) struct Asked<'a> {
    pub(super) command: &'a [String],
    pub(super) environment: &'a BTreeMap<String, String>,
    pub(super) working_dir: &'a str,
    pub(super) user: Option<&'a str>,
    pub(super) rights: &'a Rights,
    /// Where the private files of its service are, if there are any.
    pub(super) private: Option<&'a Path>,
}

impl Asked<'_> {
    /// The order to run it.
    pub(super) fn spec(&self, order: Order, mark: String) -> Spec {
        let Self { command, environment, working_dir, user, rights, private } = self;
        // A daemon inside a service, or a person, may have set the mark: ours must win.
        let is_ours =
            |name: &str| name == tree::VARIABLE || private.is_some() && name == PrivateFile::DIRECTORY;
        let variables = environment.iter().filter(|(name, _)| !is_ours(name));
        let entries = variables.map(|(name, value)| format!("{name}={value}").into_bytes());
        let private =
            private.map(|dir| [PrivateFile::DIRECTORY.as_bytes(), b"=", dir.as_os_str().as_bytes()].concat());
        let bytes = |texts: &[String]| texts.iter().map(|text| text.clone().into_bytes()).collect();
        Spec {
            order,
            command: bytes(command),
            environment: entries.chain(private).chain([mark.into_bytes()]).collect(),
            working_dir: working_dir.as_bytes().to_vec(),
            user: user.unwrap_or_default().as_bytes().to_vec(),
            groups: bytes(&rights.groups),
            limits: rights.ulimits.iter().filter_map(|(name, limit)| limit_of(name, *limit)).collect(),
            oom_score_adj: rights.oom_score_adj,
        }
    }
}

fn limit_of(name: &str, Ulimit { soft, hard }: Ulimit) -> Option<Limit> {
    let number = u8::try_from(Ulimit::number(name)?).ok()?;
    Some(Limit { number, soft, hard })
}
