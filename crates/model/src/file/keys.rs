//! Which keys are honoured where, which ones Compose has besides, and what to say about the rest.

use super::report::{Problem, shown};

/// Longer texts are compared with nothing: no key is that long, and comparing costs its square.
const COMPARED_MAX: usize = 64;

/// How alike two words must be, from 0 to 1, when they begin alike but end differently.
const SIMILAR: f64 = 0.85;

/// The keys of one kind of mapping.
pub(super) struct Keys {
    /// `a service`.
    owner: &'static str,
    honoured: &'static [&'static str],
    /// Keys of the Compose Specification that are refused by name, each with what to do.
    later: &'static [(&'static str, &'static str)],
}

const WITHOUT: &str = "take it out to run this file today";

pub(super) const FILE: Keys = Keys {
    owner: "a project file",
    honoured: &["name", "services", "version"],
    later: &[
        ("configs", WITHOUT),
        ("include", "keep all services in one file for now"),
        ("models", WITHOUT),
        ("networks", "all processes share this machine's network; take it out"),
        ("secrets", "let the service read the file itself for now"),
        ("volumes", "processes see this machine's files; take it out"),
    ],
};

pub(super) const SERVICE: Keys = Keys {
    owner: "a service",
    honoured: &[
        "command",
        "depends_on",
        "environment",
        "healthcheck",
        "labels",
        "restart",
        "scale",
        "stop_command",
        "stop_grace_period",
        "stop_signal",
        "user",
        "working_dir",
    ],
    later: SERVICE_LATER,
};

const CONTAINER: &str = "a service is a process of this machine for now: give it a `command`";

const SERVICE_LATER: &[(&str, &str)] = &[
    ("annotations", "use `labels`"),
    ("attach", WITHOUT),
    ("blkio_config", WITHOUT),
    ("build", CONTAINER),
    ("cap_add", WITHOUT),
    ("cap_drop", WITHOUT),
    ("cgroup", WITHOUT),
    ("cgroup_parent", WITHOUT),
    ("configs", WITHOUT),
    ("container_name", WITHOUT),
    ("cpu_count", WITHOUT),
    ("cpu_percent", WITHOUT),
    ("cpu_period", WITHOUT),
    ("cpu_quota", WITHOUT),
    ("cpu_rt_period", WITHOUT),
    ("cpu_rt_runtime", WITHOUT),
    ("cpu_shares", WITHOUT),
    ("cpus", WITHOUT),
    ("cpuset", WITHOUT),
    ("credential_spec", WITHOUT),
    ("deploy", "for copies use `scale`"),
    ("develop", WITHOUT),
    ("device_cgroup_rules", WITHOUT),
    ("devices", WITHOUT),
    ("dns", WITHOUT),
    ("dns_opt", WITHOUT),
    ("dns_search", WITHOUT),
    ("domainname", WITHOUT),
    ("driver_opts", WITHOUT),
    ("entrypoint", "put the whole command line into `command`"),
    ("env_file", "write the variables under `environment`"),
    ("expose", WITHOUT),
    ("extends", "write the service out"),
    ("external_links", WITHOUT),
    ("extra_hosts", WITHOUT),
    ("gpus", WITHOUT),
    ("group_add", WITHOUT),
    ("hostname", WITHOUT),
    ("image", CONTAINER),
    ("init", WITHOUT),
    ("ipc", WITHOUT),
    ("isolation", WITHOUT),
    ("label_file", "write the labels under `labels`"),
    ("links", "use `depends_on`"),
    ("logging", WITHOUT),
    ("mac_address", WITHOUT),
    ("mem_limit", WITHOUT),
    ("mem_reservation", WITHOUT),
    ("mem_swappiness", WITHOUT),
    ("memswap_limit", WITHOUT),
    ("models", WITHOUT),
    ("network_mode", "processes share this machine's network; take it out"),
    ("networks", "processes share this machine's network; take it out"),
    ("oom_kill_disable", WITHOUT),
    ("oom_score_adj", WITHOUT),
    ("pid", WITHOUT),
    ("pids_limit", WITHOUT),
    ("platform", WITHOUT),
    ("ports", "a process listens on this machine itself; take it out"),
    ("post_start", WITHOUT),
    ("pre_stop", "use `stop_command`"),
    ("privileged", WITHOUT),
    ("profiles", WITHOUT),
    ("provider", WITHOUT),
    ("pull_policy", WITHOUT),
    ("read_only", WITHOUT),
    ("runtime", WITHOUT),
    ("secrets", "let the service read the file itself for now"),
    ("security_opt", WITHOUT),
    ("shm_size", WITHOUT),
    ("stdin_open", WITHOUT),
    ("storage_opt", WITHOUT),
    ("sysctls", WITHOUT),
    ("tmpfs", WITHOUT),
    ("tty", WITHOUT),
    ("ulimits", WITHOUT),
    ("use_api_socket", WITHOUT),
    ("userns_mode", WITHOUT),
    ("uts", WITHOUT),
    ("volumes", "processes see this machine's files; take it out"),
    ("volumes_from", "processes see this machine's files; take it out"),
];

pub(super) const DEPENDENCY: Keys =
    Keys { owner: "a dependency", honoured: &["condition", "required", "restart"], later: &[] };

pub(super) const HEALTHCHECK: Keys = Keys {
    owner: "a health check",
    honoured: &[
        "disable",
        "exec",
        "http",
        "interval",
        "log",
        "retries",
        "start_interval",
        "start_period",
        "tcp",
        "test",
        "timeout",
    ],
    later: &[],
};

impl Keys {
    /// What to say about a key that is not honoured; `at` is where it stands.
    pub(super) fn refusal(&self, key: &str, at: &str) -> Problem {
        if let Some((_, hint)) = self.later.iter().find(|(name, _)| *name == key) {
            return Problem::new(format!("`{at}` is not supported yet")).hint((*hint).to_owned());
        }
        if key.starts_with("x-") {
            return Problem::new(format!("`{at}` is an extension, and those are not supported yet"))
                .hint("take it out, or write it as a comment".to_owned());
        }
        let hint = self.misplaced(key).or_else(|| did_you_mean(key, self.honoured.iter().copied()));
        let hint = hint.unwrap_or_else(|| format!("{} has {}", self.owner, quoted(self.honoured)));
        Problem::new(format!("Unknown key `{at}`")).label(format!("not a key of {}", self.owner)).hint(hint)
    }

    /// True when the key is not honoured but seems to stand for one of these, which then need not
    /// be missed as well.
    pub(super) fn seems(&self, key: &str, wanted: &[&str]) -> bool {
        let honoured = self.honoured.contains(&key);
        !honoured && nearest(key, self.honoured.iter().copied()).is_some_and(|best| wanted.contains(&best))
    }

    /// A key of a service at the top of the file, or of a health check in a service.
    fn misplaced(&self, key: &str) -> Option<String> {
        let inner = |keys: &Keys| keys.honoured.contains(&key);
        if self.owner == FILE.owner && inner(&SERVICE) {
            return Some("it belongs in a service, under `services`".to_owned());
        }
        if self.owner == SERVICE.owner && inner(&HEALTHCHECK) {
            return Some("it belongs under `healthcheck`".to_owned());
        }
        None
    }
}

/// `` `a`, `b`, `c` ``.
pub(super) fn quoted(words: &[&str]) -> String {
    words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", ")
}

/// The nearest of the known words, if one is near: `` did you mean `command`? ``.
pub(super) fn did_you_mean<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    nearest(word, known).map(|best| format!("did you mean `{}`?", shown(best)))
}

/// The nearest of the known words, if it is near: a third of its letters may differ, or one is the
/// beginning or the end of the other.
pub(super) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    if word.len() > COMPARED_MAX {
        return None;
    }
    let lower = word.to_lowercase();
    let part_of =
        |long: &str, short: &str| short.len() >= 3 && (long.starts_with(short) || long.ends_with(short));
    known
        .into_iter()
        .filter_map(|candidate| {
            let other = candidate.to_lowercase();
            let distance = strsim::damerau_levenshtein(&lower, &other);
            let near = distance <= (lower.len().max(other.len()) / 3).max(1)
                || strsim::jaro_winkler(&lower, &other) >= SIMILAR;
            let near = near && lower.len() > 1;
            (near || part_of(&lower, &other) || part_of(&other, &lower)).then_some((distance, candidate))
        })
        .min()
        .map(|(_, best)| best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_honoured_key_is_in_the_docs() {
        let page = include_str!("../../../../docs/services.md");
        for keys in [&FILE, &SERVICE, &HEALTHCHECK, &DEPENDENCY] {
            for key in keys.honoured {
                assert!(page.contains(&format!("| `{key}` |")), "`{key}` of {}", keys.owner);
            }
        }
    }
}
