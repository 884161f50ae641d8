//! What a slot needs by itself, by the rules of the instance machines: what a wish means for a copy that
//! runs or has ended.

use std::collections::BTreeMap;

use upbeat_model::plan::{Observed, StepReason};
use upbeat_model::project::container::Container;
use upbeat_model::target::{Ask, Goal, TargetSlot};
use upbeat_model::{Phase, Service, SlotId};

use super::{Copies, Slots};

/// What shall happen to a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Start a copy where none runs.
    Start,
    /// Stop the copy that runs and start its successor, or it again.
    Replace,
    /// Stop the copy that runs.
    Stop,
    /// Stop what runs and forget the slot.
    Remove,
    /// Make a container that shall not run.
    Make,
}

/// What shall happen to a slot, and why.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) action: Action,
    pub(super) reason: StepReason,
}

impl Change {
    pub(super) fn starts(&self) -> bool {
        matches!(self.action, Action::Start | Action::Replace)
    }

    /// Dependents with `restart: true` follow: a copy others may have been using is exchanged, or
    /// one that ended is run anew as something else.
    fn renews(&self) -> bool {
        let is_other = matches!(
            self.reason,
            StepReason::Changed { .. } | StepReason::NetworkRenewed { .. } | StepReason::VolumeRenewed { .. }
        );
        self.action == Action::Replace || self.starts() && is_other
    }
}

/// What one slot needs by itself; nothing when it is as wanted.
pub(super) fn change(
    seen: Option<&Observed>,
    current: Option<&TargetSlot>,
    wanted: Option<&TargetSlot>,
) -> Option<Change> {
    let phase = seen.map_or(Phase::Absent, |seen| seen.phase);
    match wanted.map(|wish| (wish.goal, wish)) {
        Some((Goal::Running, wish)) => match phase {
            Phase::Absent => Some(Change { action: Action::Start, reason: StepReason::New }),
            _ => start_or_replace(phase, &Copy::of(seen, current, wish), current, wish),
        },
        Some((Goal::Stopped, _)) => (!matches!(phase, Phase::Stopped | Phase::Absent))
            .then_some(Change { action: Action::Stop, reason: StepReason::Asked }),
        Some((Goal::Absent, _)) | None => (phase != Phase::Absent)
            .then_some(Change { action: Action::Remove, reason: StepReason::NotDeclared }),
    }
}

/// How the copy that runs, or ran last, compares with the wish.
pub(super) struct Copy {
    pub(super) other_digest: bool,
    pub(super) older_generation: bool,
}

impl Copy {
    /// A copy of which nothing is known is taken for the wanted one: it is not ours to kill.
    pub(super) fn of(seen: Option<&Observed>, current: Option<&TargetSlot>, wish: &TargetSlot) -> Self {
        let digest = seen.and_then(|s| s.running_digest.as_ref()).or(current.map(|c| &c.digest));
        let generation = seen.and_then(|s| s.running_generation).or(current.map(|c| c.generation));
        Self {
            other_digest: digest.is_some_and(|digest| *digest != wish.digest),
            older_generation: generation.is_some_and(|generation| generation < wish.generation),
        }
    }
}

/// The slot shall run and something is or was there.
pub(super) fn start_or_replace(
    phase: Phase,
    copy: &Copy,
    current: Option<&TargetSlot>,
    wish: &TargetSlot,
) -> Option<Change> {
    let asked = copy.older_generation && matches!(wish.ask, Ask::Start | Ask::Restart);
    let by_itself = if asked { StepReason::Asked } else { StepReason::NotRunning };
    let changed = || StepReason::Changed { fields: changed_fields(current, &wish.spec) };
    let (action, reason) = match phase {
        Phase::Stopping if copy.other_digest => (Action::Replace, changed()),
        Phase::Stopping => (Action::Replace, by_itself),
        _ if phase.is_alive() && copy.other_digest => (Action::Replace, changed()),
        _ if phase.is_alive() && asked && wish.ask == Ask::Restart => (Action::Replace, StepReason::Asked),
        _ if phase.is_alive() => return None,
        Phase::Completed | Phase::Failed if copy.other_digest => (Action::Start, changed()),
        Phase::Completed if !asked => return None,
        Phase::Failed if !copy.older_generation => return None,
        _ => (Action::Start, by_itself),
    };
    Some(Change { action, reason })
}

/// The fields by which [`Service::digest`] tells two specs apart. Empty when the copy that runs is
/// older than the current spec too: then nobody knows.
fn changed_fields(current: Option<&TargetSlot>, wanted: &Service) -> Vec<String> {
    let Some(now) = current.map(|current| &current.spec) else { return Vec::new() };
    let fields = [
        ("command", now.command != wanted.command),
        ("environment", now.environment != wanted.environment),
        ("working_dir", now.working_dir != wanted.working_dir),
        ("user", now.user != wanted.user),
        ("group_add", now.group_add != wanted.group_add),
        ("ulimits", now.ulimits != wanted.ulimits),
        ("cpus", now.resources.cpus != wanted.resources.cpus),
        ("mem_limit", now.resources.memory != wanted.resources.memory),
        ("mem_reservation", now.resources.memory_reservation != wanted.resources.memory_reservation),
        ("pids_limit", now.resources.pids != wanted.resources.pids),
        ("oom_score_adj", now.oom_score_adj != wanted.oom_score_adj),
        ("tty", now.tty != wanted.tty),
        ("stdin_open", now.stdin_open != wanted.stdin_open),
        ("configs or secrets", now.files != wanted.files),
        ("labels", wanted.container.is_some() && now.labels != wanted.labels),
    ];
    let mut changed: Vec<&str> =
        fields.into_iter().filter(|(_, differs)| *differs).map(|(field, _)| field).collect();
    match (&now.container, &wanted.container) {
        (Some(now), Some(wanted)) => changed.extend(changed_of_container(now, wanted)),
        (None, None) => {}
        _ => changed.push("image"),
    }
    changed.into_iter().map(str::to_owned).collect()
}

/// Likewise, of what only a container has.
fn changed_of_container<'a>(now: &Container, wanted: &Container) -> impl Iterator<Item = &'a str> {
    let (a, b) = (now, wanted);
    let fields = [
        ("image", a.image != b.image),
        ("platform", a.platform != b.platform),
        ("stop_signal", a.stop_signal != b.stop_signal),
        ("entrypoint", a.entrypoint != b.entrypoint),
        ("command", a.command != b.command),
        ("working_dir", a.working_dir != b.working_dir),
        ("container_name", a.name != b.name),
        ("hostname", a.hostname != b.hostname),
        ("domainname", a.domainname != b.domainname),
        ("networks", a.network != b.network),
        ("mac_address", a.mac_address != b.mac_address),
        ("ports", a.ports != b.ports),
        ("expose", a.expose != b.expose),
        ("volumes", a.mounts != b.mounts),
        ("tmpfs", a.tmpfs != b.tmpfs),
        ("volumes_from", a.volumes_from != b.volumes_from),
        ("dns", a.dns != b.dns || a.dns_search != b.dns_search || a.dns_options != b.dns_options),
        ("extra_hosts", a.extra_hosts != b.extra_hosts),
        ("links", a.links != b.links || a.external_links != b.external_links),
        ("cap_add", a.cap_add != b.cap_add),
        ("cap_drop", a.cap_drop != b.cap_drop),
        ("privileged", a.privileged != b.privileged),
        ("read_only", a.read_only != b.read_only),
        ("security_opt", a.security_opt != b.security_opt),
        ("sysctls", a.sysctls != b.sysctls),
        ("devices", a.devices != b.devices || a.device_requests != b.device_requests),
        ("device_cgroup_rules", a.device_cgroup_rules != b.device_cgroup_rules),
        ("logging", a.logging != b.logging),
        ("init", a.init != b.init),
        ("ipc, pid, uts, userns_mode or cgroup", a.namespaces != b.namespaces),
        ("runtime", a.runtime != b.runtime),
        ("shm_size", a.shm_size != b.shm_size),
        ("storage_opt", a.storage_opt != b.storage_opt),
        ("limits", a.limits != b.limits),
        ("annotations", a.annotations != b.annotations),
    ];
    fields.into_iter().filter(|(_, differs)| *differs).map(|(field, _)| field)
}

/// Running copies with `restart: true` on something that is renewed are replaced too, and so on
/// upwards. Where the wish for such a copy says so already, the plan names the cause of it.
pub(super) fn renew_dependents<'a>(
    changes: &mut BTreeMap<&'a SlotId, Change>,
    is_alive: impl Fn(&SlotId) -> bool,
    wanted: &'a Slots,
) {
    let mut followers: Copies<'a> = BTreeMap::new();
    for (slot, wish) in wanted.iter().filter(|(_, wish)| wish.goal == Goal::Running) {
        for (service, _) in wish.spec.depends_on.iter().filter(|(_, edge)| edge.restart) {
            followers.entry((&slot.app, service)).or_default().push(slot);
        }
    }
    let renewed = changes.iter().filter(|(_, change)| change.renews());
    let mut renewed: Vec<(&SlotId, bool)> =
        renewed.map(|(slot, change)| (*slot, matches!(change.reason, StepReason::Changed { .. }))).collect();
    // A stack: all that follows from what has changed comes before what was only asked for, so that
    // a change is named as the cause as far up as it reaches.
    renewed.sort_by_key(|(slot, is_changed)| (*is_changed, std::cmp::Reverse(*slot)));
    while let Some((dependency, is_cause)) = renewed.pop() {
        // All copies of one service have the same followers: the first renewed one brings them.
        let following = followers.remove(&(&dependency.app, &dependency.service)).unwrap_or_default();
        for slot in following {
            let follows = match changes.get(slot) {
                None => is_alive(slot),
                Some(change) => {
                    is_cause && change.action == Action::Replace && change.reason == StepReason::Asked
                }
            };
            if follows {
                let reason = StepReason::DependencyRestarts { slot: dependency.clone() };
                changes.insert(slot, Change { action: Action::Replace, reason });
                renewed.push((slot, true));
            }
        }
    }
}
