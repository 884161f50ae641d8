//! Every number there is: what it is called, what kind it is, what it says.

/// One family of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// What tells its numbers apart.
    pub labels: &'static str,
    /// What it says, in a sentence.
    pub help: &'static str,
}

macro_rules! families {
    ($($constant:ident: $kind:ident $name:literal [$labels:literal] $help:literal;)*) => {
        $(pub(super) const $constant: Family =
            Family { name: $name, kind: stringify!($kind), labels: $labels, help: $help };)*

        /// All of them, in the order of the page.
        pub const ALL: &[Family] = &[$($constant,)*];
    };
}

families! {
    STATE: gauge "upbeat_slot_state" ["app, service, slot, state"] "Whether the slot is in this state: 1 for one of them, 0 for the others.";
    UPTIME: gauge "upbeat_slot_uptime_seconds" ["app, service, slot"] "Time since the current process was started.";
    STARTS: counter "upbeat_slot_starts_total" ["app, service, slot"] "Starts that were ordered.";
    FAILED_STARTS: counter "upbeat_slot_failed_starts_total" ["app, service, slot"] "Starts that failed, or ended before the slot was ready though nobody had asked for that.";
    RESTARTS: counter "upbeat_slot_restarts_total" ["app, service, slot"] "Starts that followed an end by themselves.";
    BACK_OFFS: counter "upbeat_slot_backoffs_total" ["app, service, slot"] "How often the slot was left to rest before it was started again.";
    EXECUTED: histogram "upbeat_slot_exec_seconds" ["app, service, slot"] "From the decision to start until the program was executed, pre_start hooks included.";
    READY: histogram "upbeat_slot_ready_seconds" ["app, service, slot"] "From the decision to start until the slot was ready.";
    EXIT_CODE: gauge "upbeat_slot_last_exit_code" ["app, service, slot"] "With which status the last process ended that ended by itself.";
    EXIT_SIGNAL: gauge "upbeat_slot_last_exit_signal" ["app, service, slot"] "By which signal the last process ended that was ended by one.";
    REMEDIES: counter "upbeat_slot_remedies_total" ["app, service, slot, probe, action"] "What was done about a failing probe, and how often.";
    PROBE_PASSING: gauge "upbeat_probe_passing" ["app, service, slot, probe"] "What the probe says by its thresholds: 1 that it passes, 0 that it fails.";
    PROBE_TIME: histogram "upbeat_probe_duration_seconds" ["app, service, slot, probe, outcome"] "From the question until its answer, by what that was: pass or fail.";
    CPU: counter "upbeat_slot_cpu_seconds_total" ["app, service, slot"] "Processor time of the current attempt, all its processes together.";
    MEMORY: gauge "upbeat_slot_memory_bytes" ["app, service, slot"] "Memory: of its cgroup, where that counts it, else resident in its processes together.";
    OPEN_FILES: gauge "upbeat_slot_open_fds" ["app, service, slot"] "Open files of those of its processes that may be asked.";
    PROCESSES: gauge "upbeat_slot_processes" ["app, service, slot"] "Processes.";
    ROLLOUT_STATE: gauge "upbeat_rollout_state" ["namespace, entity, state"] "Where the entity is between versions: 1 for one of none, steady, forward, back and halted, 0 for the others.";
    ROLLOUT_PAUSED: gauge "upbeat_rollout_paused" ["namespace, entity"] "Whether somebody wants nobody to be moved for now.";
    ROLLOUT_TARGETS: gauge "upbeat_rollout_targets" ["namespace, entity, standing"] "Targets, by how they stand to the version in force: available, on_the_way, well or failed; none where none is.";
    ROLLOUT_VERSION: gauge "upbeat_rollout_version_info" ["namespace, entity, is, version"] "Which version is the last that was asked for (target), that was rolled out (rolling), that was good and that was bad; always 1.";
    ROLLOUT_BEGAN: gauge "upbeat_rollout_began_timestamp_seconds" ["namespace, entity"] "When the last rollout began, in seconds since the Unix epoch.";
    ROLLOUTS: counter "upbeat_rollouts_total" ["namespace, entity"] "Rollouts that have begun.";
    BUILD: gauge "upbeat_build_info" ["version"] "Which version this daemon is; always 1.";
    APPS: gauge "upbeat_apps" [""] "Apps that the daemon knows.";
    TURNS: counter "upbeat_agent_turns_total" [""] "Turns of the agent's loop.";
    INPUTS: counter "upbeat_agent_inputs_total" [""] "News that the agent was told: ends, answers, messages.";
    COMMITS: histogram "upbeat_agent_commit_seconds" [""] "How long it took to keep a decision before it was carried out.";
    START_TURNS: histogram "upbeat_agent_start_queue_seconds" [""] "How long a start waited for its turn.";
    PROBES: counter "upbeat_probes_asked_total" [""] "Questions that were asked.";
    PROBE_TURNS: histogram "upbeat_probe_queue_seconds" [""] "How long a question waited for its turn.";
    CONNECTIONS: gauge "upbeat_http_connections" [""] "Connections that the daemon serves.";
    LOG_DROPPED: counter "upbeat_log_records_dropped_total" [""] "Lines of the daemon's own log that nobody got.";
    EVENTS_DROPPED: counter "upbeat_events_dropped_total" [""] "Events that found no room, or could not be written.";
    OWN_START: gauge "process_start_time_seconds" [""] "When the daemon was started, in seconds since the Unix epoch.";
    OWN_CPU: counter "process_cpu_seconds_total" [""] "Processor time of the daemon.";
    OWN_MEMORY: gauge "process_resident_memory_bytes" [""] "Resident memory of the daemon.";
    OWN_FILES: gauge "process_open_fds" [""] "Open files of the daemon.";
    OWN_FILES_MAX: gauge "process_max_fds" [""] "Open files the daemon may have.";
}

/// The table for `docs/seeing.md`, in Markdown.
pub fn markdown() -> String {
    let mut text = String::from("| name | kind | labels | |\n|---|---|---|---|\n");
    for Family { name, kind, labels, help } in ALL {
        let labels: Vec<String> =
            labels.split(", ").filter(|label| !label.is_empty()).map(|label| format!("`{label}`")).collect();
        text.push_str(&format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands around the table in the page.
    const BEGIN: &str = "<!-- Made by `UPDATE_DOCS=1 cargo test -p upbeat --lib`. -->\n";
    const END: &str = "<!-- end -->";

    #[test]
    fn the_page_of_the_docs_has_every_number() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/seeing.md");
        let kept = std::fs::read_to_string(path).unwrap();
        let (before, rest) = kept.split_once(BEGIN).unwrap();
        let (_, after) = rest.split_once(END).unwrap();
        let made = format!("{before}{BEGIN}{}{END}{after}", markdown());
        if std::env::var_os("UPDATE_DOCS").is_some_and(|set| set == "1") {
            std::fs::write(path, &made).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap();
        assert!(
            kept == made,
            "`docs/seeing.md` is stale; `UPDATE_DOCS=1 cargo test -p upbeat --lib` rewrites it"
        );
    }

    #[test]
    fn names_say_their_units_as_prometheus_wants_it() {
        for Family { name, kind, help, .. } in ALL {
            assert_eq!(*kind == "counter", name.ends_with("_total"), "{name}");
            assert!(*kind != "histogram" || name.ends_with("_seconds"), "{name}");
            assert!(help.ends_with('.') && !help.contains(['\\', '\n', '|']), "{name}");
        }
    }
}
