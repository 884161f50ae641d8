//! What a killed shim left behind, found by its mark.
//!
//! Every process of an attempt is given the variable `UPBEAT_INSTANCE`, and hands it to those it
//! starts. A process that wipes its environment and outlives its killed shim is not found: without
//! a cgroup nobody could.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use upbeat_model::Attempt;

/// Looks so often, so far apart: a tree that forks faster than it is killed would take longer.
const ROUNDS: u32 = 500;
const BETWEEN: Duration = Duration::from_millis(2);

/// The variable all processes of an attempt carry. Unique on the machine: the slot's directory is.
pub(crate) fn mark(slot_dir: &Path, attempt: Attempt) -> String {
    format!("UPBEAT_INSTANCE={}#{attempt}", slot_dir.display())
}

/// Kills whatever carries the mark until nothing does; says how many that were.
pub(crate) async fn clear(mark: &str) -> usize {
    let mut killed = std::collections::BTreeSet::new();
    for _ in 0..ROUNDS {
        let found = carriers(mark);
        if found.is_empty() {
            break;
        }
        for pid in found {
            if let Some(pid) = Pid::from_raw(pid) {
                // Gone in between is as good.
                let _ = kill_process(pid, Signal::KILL);
            }
            killed.insert(pid);
        }
        tokio::time::sleep(BETWEEN).await;
    }
    killed.len()
}

/// Processes that carry the mark and live.
fn carriers(mark: &str) -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        // A zombie's environment is empty, so it does not carry the mark.
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
    })
    .collect()
}
