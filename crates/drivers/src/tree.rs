//! What a killed shim left behind, and its end.
//!
//! A process belongs to an attempt when it carries its mark, the variable `UPBEAT_INSTANCE` that
//! every process hands to those it starts, or when its standard output or error is a pipe or the
//! terminal of that attempt: programs that rewrite their title wipe their environment, but still print where they
//! were told to. One that does neither and outlives its killed shim is not found: without a cgroup
//! nobody could.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use upbeat_model::Attempt;
use upbeat_shim::record::{Outlets, Record};

/// Looks so often, so far apart: a tree that forks faster than it is killed would take longer, and
/// so would a process that the kernel does not let die.
const ROUNDS: u32 = 500;
const BETWEEN: Duration = Duration::from_millis(2);

/// Only the mark tells.
const UNKNOWN: Outlets = Outlets::Pipes([0, 0]);

/// The name of the variable.
pub(crate) const VARIABLE: &str = "UPBEAT_INSTANCE";

/// The variable all processes of an attempt carry. Unique on the machine: the slot's directory is.
pub(crate) fn mark(slot_dir: &Path, attempt: Attempt) -> String {
    format!("{VARIABLE}={}#{attempt}", slot_dir.display())
}

/// What processes of one `exec` carry.
pub(crate) fn mark_of_exec(slots_dir: &Path, number: u64) -> String {
    format!("{VARIABLE}={}#exec-{}-{number}", slots_dir.display(), std::process::id())
}

/// How to tell the processes of an attempt.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    mark: Mark,
    outlets: Outlets,
}

#[derive(Clone, Debug)]
enum Mark {
    /// All of it.
    Whole(String),
    /// What stands before the number of the attempt, and the highest.
    UpTo(String, Attempt),
    /// What it begins with, and what must not follow.
    But(String, String),
}

impl Tree {
    /// The attempt a record speaks of.
    pub(crate) fn of(slot_dir: &Path, record: &Record) -> Self {
        Self { mark: Mark::Whole(mark(slot_dir, Attempt(record.attempt))), outlets: record.outlets }
    }

    /// Every attempt up to this one. A later one may be starting.
    pub(crate) fn up_to(slot_dir: &Path, last: Attempt) -> Self {
        let before = format!("{VARIABLE}={}#", slot_dir.display());
        Self { mark: Mark::UpTo(before, last), outlets: UNKNOWN }
    }

    /// What [`mark_of_exec`] has marked in other processes than this.
    pub(crate) fn of_execs_of_others(slots_dir: &Path) -> Self {
        let before = format!("{VARIABLE}={}#exec-", slots_dir.display());
        let own = format!("{}-", std::process::id());
        Self { mark: Mark::But(before, own), outlets: UNKNOWN }
    }

    /// What [`mark_of_exec`] has marked.
    pub(crate) fn of_exec(mark: String) -> Self {
        Self { mark: Mark::Whole(mark), outlets: UNKNOWN }
    }
}

impl Mark {
    fn is(&self, entry: &[u8]) -> bool {
        match self {
            Self::Whole(mark) => entry == mark.as_bytes(),
            Self::But(before, but) => {
                let rest = entry.strip_prefix(before.as_bytes());
                rest.is_some_and(|rest| !rest.starts_with(but.as_bytes()))
            }
            Self::UpTo(before, last) => {
                let number = entry.strip_prefix(before.as_bytes());
                let number = number.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
                number.is_some_and(|number| Attempt(number) <= *last)
            }
        }
    }
}

/// Some process does not die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StillThere(pub(crate) usize);

/// Kills what belongs to an attempt until nothing does, and nothing of it is left.
pub(crate) async fn clear(tree: Tree) -> Result<(), StillThere> {
    let mut dying = BTreeMap::new();
    for _ in 0..ROUNDS {
        let tree = tree.clone();
        // Reads a few files for each process of the machine.
        let round = tokio::task::spawn_blocking(move || {
            for pid in tree.members() {
                if let (Some(id), Some(begun)) = (Pid::from_raw(pid), life(pid)) {
                    dying.insert(pid, begun);
                    // Gone in between is as good.
                    let _ = kill_process(id, Signal::KILL);
                }
            }
            // A dying process gives up its environment first and its sockets later.
            dying.retain(|pid, begun| life(*pid) == Some(*begun));
            dying
        });
        match round.await {
            Ok(left) if left.is_empty() => return Ok(()),
            Ok(left) => dying = left,
            // The runtime is being shut down.
            Err(_) => return Err(StillThere(0)),
        }
        tokio::time::sleep(BETWEEN).await;
    }
    Err(StillThere(dying.len()))
}

impl Tree {
    fn members(&self) -> Vec<i32> {
        let own = std::process::id() as i32;
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| *pid != own && (self.is_carried_by(*pid) || self.is_printed_to_by(*pid))).collect()
    }

    /// A zombie's environment is empty, so it does not carry the mark.
    fn is_carried_by(&self, pid: i32) -> bool {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| self.mark.is(entry))
    }

    fn is_printed_to_by(&self, pid: i32) -> bool {
        [1, 2].into_iter().any(|fd| {
            let path = format!("/proc/{pid}/fd/{fd}");
            let target = fs::read_link(&path).unwrap_or_default();
            let Some(target) = target.to_str() else { return false };
            match &self.outlets {
                Outlets::Pipes(pipes) => {
                    let number = |text: &str| text.strip_prefix("pipe:[")?.strip_suffix(']')?.parse().ok();
                    number(target).is_some_and(|pipe: u64| pipe != 0 && pipes.contains(&pipe))
                }
                // Looked at only where it is one: what lies on a dead network disk would hang.
                Outlets::Terminal { inode, changed_ns } => {
                    target.starts_with("/dev/pts/")
                        && fs::metadata(path).is_ok_and(|stat| {
                            let changed = stat.ctime().saturating_mul(1_000_000_000) + stat.ctime_nsec();
                            (stat.ino(), changed) == (*inode, *changed_ns)
                        })
                }
            }
        })
    }
}

/// The parent of a process, which may be a zombie.
pub(crate) fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok().filter(|parent| *parent > 1)
}

/// Lets a process go on that somebody has stopped.
pub(crate) fn wake(pid: i32) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let is_stopped = stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'));
    if is_stopped && let Some(pid) = Pid::from_raw(pid) {
        tracing::warn!(?pid, "a shim was stopped; it is let go on");
        // Gone in between is as good.
        let _ = kill_process(pid, Signal::CONT);
    }
}

/// When a process that is no zombie was begun, in ticks since boot: with its number, its identity.
pub(crate) fn life(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let is_dead = matches!(fields.next()?, "Z" | "X" | "x");
    // Field 22 of the line.
    let begun = fields.nth(18)?.parse().ok()?;
    (!is_dead).then_some(begun)
}
