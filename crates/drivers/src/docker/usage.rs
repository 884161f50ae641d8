//! What a container uses, as the engine counts it.

use std::time::Duration;

use serde::Deserialize;
use upbeat_model::{Attempt, SlotId};

use super::wire::{Ask, part};
use super::{Engine, EngineError};
use crate::usage::Usage;

/// Whoever looks at what all slots use does not wait longer for one: an engine reads it from its cgroup.
const PATIENCE: Duration = Duration::from_secs(2);

const NANOS_PER_MS: u64 = 1_000_000;

#[derive(Deserialize)]
struct Counted {
    #[serde(default, rename = "cpu_stats")]
    cpu: Cpu,
    #[serde(default, rename = "memory_stats")]
    memory: Memory,
    #[serde(default, rename = "pids_stats")]
    pids: Pids,
}

#[derive(Default, Deserialize)]
struct Cpu {
    #[serde(default, rename = "cpu_usage")]
    usage: CpuUsage,
}

#[derive(Default, Deserialize)]
struct CpuUsage {
    /// Nanoseconds.
    #[serde(default, rename = "total_usage")]
    total: u64,
}

#[derive(Default, Deserialize)]
struct Memory {
    #[serde(default)]
    usage: u64,
    #[serde(default)]
    stats: Files,
}

/// Files that were not used lately: by version 1 of cgroups, and by version 2.
#[derive(Default, Deserialize)]
struct Files {
    total_inactive_file: Option<u64>,
    inactive_file: Option<u64>,
}

#[derive(Default, Deserialize)]
struct Pids {
    #[serde(default)]
    current: u64,
}

impl Engine {
    /// What the container of an attempt uses now. `None`: that attempt does not run.
    ///
    /// Errors: the engine does not say.
    pub async fn usage(&self, slot: &SlotId, attempt: Attempt) -> Result<Option<Usage>, EngineError> {
        let Ok(container) = self.container_of(slot, attempt) else { return Ok(None) };
        let path = format!("/containers/{}/stats", part(&container));
        let ask = Ask::get(path).query("stream", "false").query("one-shot", "true").patience(PATIENCE);
        match self.wire().answer::<Counted>(ask).await {
            Err(error) if error.is_absent() => Ok(None),
            counted => Ok(counted?.usage()),
        }
    }
}

impl Counted {
    /// As Docker counts. `None`: of what has ended meanwhile an engine says nothing but zeros.
    fn usage(&self) -> Option<Usage> {
        let Files { total_inactive_file, inactive_file } = self.memory.stats;
        let unused = total_inactive_file.or(inactive_file).unwrap_or_default();
        (self.cpu.usage.total > 0).then(|| Usage {
            cpu_ms: self.cpu.usage.total / NANOS_PER_MS,
            memory_bytes: self.memory.usage.saturating_sub(unused),
            processes: self.pids.current,
            descriptors: None,
            ..Usage::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_counted_as_docker_counts_by_both_versions_of_cgroups() {
        let read = |text: &str| serde_json::from_str::<Counted>(text).unwrap().usage();
        let used = read(
            r#"{"cpu_stats": {"cpu_usage": {"total_usage": 37428979}}, "pids_stats": {"current": 2},
                "memory_stats": {"usage": 1000, "stats": {"total_inactive_file": 300, "inactive_file": 100}}}"#,
        );
        let wanted = Usage { cpu_ms: 37, memory_bytes: 700, processes: 2, ..Usage::default() };
        assert_eq!(used, Some(wanted));
        let used = read(
            r#"{"cpu_stats": {"cpu_usage": {"total_usage": 1}}, "memory_stats": {"usage": 10, "stats": {"inactive_file": 20}}}"#,
        );
        assert_eq!(used, Some(Usage::default()));
        assert_eq!(read(r#"{"cpu_stats": {"cpu_usage": {"total_usage": 0}}}"#), None);
        assert_eq!(read("{}"), None);
    }
}
