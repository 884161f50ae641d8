//! What the processes of a slot use: time, memory, open files.
//!
//! A slot's processes are those below its shim: the shim takes in what loses its parent, so nothing
//! leaves its tree. Who is below whom is looked up for the whole machine at once, and that serves all
//! slots for a while (`LOOK_SHARE`), as there is no cheap way to ask the kernel for one process'
//! descendants everywhere. So a process that is younger than that may not be counted yet. What each
//! process uses is read at the moment it is asked for.
//!
//! Where a slot has a cgroup, time and memory are the cgroup's, which forgets nothing.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use upbeat_model::{Attempt, SlotId};
use upbeat_shim::cgroup;
use upbeat_shim::stat::{Stat, of_process};

use crate::looks::Looks;
use crate::process::ProcessDriver;

/// The machine's processes are looked through at most so often, ...
const LOOK_LEAST: Duration = Duration::from_secs(1);

/// ... and so that it takes at most this part of one processor: with thousands of processes a look
/// takes tens of milliseconds.
const LOOK_SHARE: u32 = 50;

/// More processes of one slot are not looked at: something has gone wrong there, and to look at it
/// must not make it worse.
const PROCESSES_MAX: usize = 4096;

/// Processes that have more than this together are not asked what they share, which takes the kernel
/// milliseconds for each GiB, in which it lets them change nothing.
const SHARED_MAX: u64 = 1 << 30;

/// What a slot's processes use now, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time since the start, in milliseconds, with that of processes that have ended. Without
    /// a cgroup it has steps of the kernel's clock (10 ms), and of processes whose parent does not
    /// care how they end, nothing.
    pub cpu_ms: u64,
    /// Memory, in bytes. With a cgroup that counts memory: all of it but files that were not used
    /// lately, as Docker counts. Otherwise the sum over processes, by [`Sharing`].
    pub memory_bytes: u64,
    /// Open files of all processes whose files may be counted. An engine does not count those of a container.
    pub descriptors: Option<u64>,
    /// Open files of the process that has most.
    pub descriptors_most: u64,
    /// Processes whose open files may not be counted: another user's, for a daemon that is not root.
    pub descriptors_hidden: u64,
    /// Processes, at most 4,096; zombies are none.
    pub processes: u64,
}

/// How memory that several processes share is counted, where there is no cgroup that counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// By each of them (RSS): cheap, and too much where a program forks.
    Repeated,
    /// Once (PSS), where the processes have more than so many bytes by the other count, but less than
    /// 1 GiB and may be asked; otherwise as the other.
    DividedAbove(u64),
}

/// What is below a shim, and where its cgroup is.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    pub(crate) shim: i32,
    /// When the shim was begun: another process may get its number.
    pub(crate) begun: u64,
    pub(crate) slot_dir: PathBuf,
}

/// What a look has found, to be shared by all who asked for it.
type Seen = Result<Option<Usage>, Errno>;

/// Asks what slots use. Clones share what they have seen.
#[derive(Clone)]
pub struct Usages {
    driver: ProcessDriver,
    machine: Arc<Mutex<Option<Machine>>>,
    looks: Arc<Looks<(SlotId, Attempt, Sharing), Seen>>,
}

impl Usages {
    /// Of the slots of this driver.
    pub fn new(driver: ProcessDriver) -> Self {
        Self { driver, machine: Arc::default(), looks: Arc::new(Looks::new()) }
    }

    /// What the processes of an attempt use now. Takes some ten microseconds for each, on a thread of
    /// its own. `None`: that attempt does not run. Errors: it cannot be looked at, as when this process
    /// has no open files left; then nothing is known of it.
    pub async fn of(&self, slot: &SlotId, attempt: Attempt, sharing: Sharing) -> io::Result<Option<Usage>> {
        let Some(root) = self.driver.root(slot, attempt) else { return Ok(None) };
        let machine = self.machine.clone();
        let look = move || {
            let used = of(&machine, &root, sharing);
            used.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
        };
        let seen = self.looks.at((slot.clone(), attempt, sharing), look).await;
        Ok(seen.unwrap_or(Err(Errno::CANCELED))?)
    }
}

fn of(machine: &Mutex<Option<Machine>>, root: &Root, sharing: Sharing) -> io::Result<Option<Usage>> {
    let Some(shim) = stat_of(root.shim)?.filter(|stat| stat.begun == root.begun) else { return Ok(None) };
    let below = below(machine, root.shim)?;
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let page = rustix::param::page_size() as u64;
    let mut usage = Usage::default();
    // What its children used that have ended: the first process of all, and those it took in.
    let mut time = shim.time_of_children;
    let mut living = Vec::new();
    for (pid, begun) in below {
        // Its number may be another's by now.
        let Some(stat) = stat_of(pid)?.filter(|stat| stat.begun == begun) else { continue };
        time += stat.time + stat.time_of_children;
        if stat.is_dead() {
            continue;
        }
        usage.processes += 1;
        usage.memory_bytes += stat.resident_pages * page;
        living.push(pid);
        match descriptors(pid) {
            Ok(Some(count)) => {
                *usage.descriptors.get_or_insert_default() += count;
                usage.descriptors_most = usage.descriptors_most.max(count);
            }
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => usage.descriptors_hidden += 1,
            Err(error) => return Err(error),
        }
    }
    usage.cpu_ms = time.saturating_mul(1000) / ticks;
    let group = told(fs::read_link(root.slot_dir.join(cgroup::LINK)))?;
    if let Some(cpu_ms) = group.as_deref().map(cpu_of_group).transpose()?.flatten() {
        usage.cpu_ms = cpu_ms;
    }
    if let Some(memory) = group.as_deref().map(memory_of_group).transpose()?.flatten() {
        usage.memory_bytes = memory;
    } else if let Sharing::DividedAbove(limit) = sharing
        && (limit.saturating_add(1)..SHARED_MAX).contains(&usage.memory_bytes)
    {
        let divided: io::Result<Vec<_>> = living.iter().map(|pid| proportional(*pid)).collect();
        usage.memory_bytes = divided?.into_iter().sum::<Option<u64>>().unwrap_or(usage.memory_bytes);
    }
    Ok(Some(usage))
}

/// What the kernel says, but for what is not there, or nobody here may know. Errors: anything else, which
/// leaves open what it would have said.
fn told<T>(said: io::Result<T>) -> io::Result<Option<T>> {
    match of_process(said) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        // A cgroup that was removed while it was read.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NODEV) => Ok(None),
        said => said,
    }
}

/// What this process uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnUsage {
    /// Processor time, in milliseconds.
    pub cpu_ms: u64,
    /// Memory (RSS), in bytes.
    pub memory_bytes: u64,
    /// Open files.
    pub descriptors: u64,
    /// Open files it may have; none: no limit.
    pub descriptors_max: Option<u64>,
}

/// What this process uses now. `None`: `/proc` is not there.
pub fn own() -> Option<OwnUsage> {
    let pid = i32::try_from(std::process::id()).ok()?;
    let stat = stat_of(pid).ok()??;
    Some(OwnUsage {
        cpu_ms: stat.time.saturating_mul(1000) / rustix::param::clock_ticks_per_second().max(1),
        memory_bytes: stat.resident_pages * rustix::param::page_size() as u64,
        descriptors: descriptors(pid).ok()??,
        descriptors_max: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
    })
}

/// Who is below whom, and when that was so.
struct Machine {
    seen: Instant,
    took: Duration,
    children: HashMap<i32, Vec<Begun>>,
}

/// A process, and when it was begun.
type Begun = (i32, u64);

impl Machine {
    /// Errors: a process that is there cannot be looked at, so that not all would be known of the others.
    fn look() -> io::Result<Self> {
        let seen = Instant::now();
        let mut children: HashMap<i32, Vec<Begun>> = HashMap::new();
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if let Some(stat) = stat_of(pid)? {
                children.entry(stat.parent).or_default().push((pid, stat.begun));
            }
        }
        Ok(Self { seen, took: seen.elapsed(), children })
    }

    fn is_good(&self) -> bool {
        self.seen.elapsed() < LOOK_LEAST.max(self.took * LOOK_SHARE)
    }

    fn below(&self, root: i32) -> Vec<Begun> {
        let of = |pid| self.children.get(&pid).into_iter().flatten().copied();
        let mut found: Vec<Begun> = of(root).collect();
        let mut next = 0;
        while let Some((pid, _)) = found.get(next).copied() {
            found.extend(of(pid));
            found.truncate(PROCESSES_MAX);
            next += 1;
        }
        found
    }
}

/// The processes below one. Looked for anew where none is known: then it is younger than the last look.
fn below(machine: &Mutex<Option<Machine>>, root: i32) -> io::Result<Vec<Begun>> {
    // It is replaced as a whole: nothing is half-done after a panic.
    let mut machine = machine.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(machine) = machine.as_ref().filter(|machine| machine.is_good()) {
        let below = machine.below(root);
        if !below.is_empty() {
            return Ok(below);
        }
    }
    Ok(machine.insert(Machine::look()?).below(root))
}

/// `None`: it has ended, or may not be asked.
fn stat_of(pid: i32) -> io::Result<Option<Stat>> {
    told(Stat::of(pid)).map(Option::flatten)
}

/// `None`: it has ended. Errors: it belongs to somebody else; it cannot be looked at.
fn descriptors(pid: i32) -> io::Result<Option<u64>> {
    let dir = format!("/proc/{pid}/fd");
    // Since Linux 6.2 the size says it; before it is 0, and each is counted.
    match of_process(fs::metadata(&dir))?.map(|dir| dir.len()) {
        Some(0) => Ok(of_process(fs::read_dir(&dir))?.map(|files| files.count() as u64)),
        count => Ok(count),
    }
}

/// In bytes. `None`: it has ended, or may not be asked.
fn proportional(pid: i32) -> io::Result<Option<u64>> {
    let text = told(fs::read_to_string(format!("/proc/{pid}/smaps_rollup")))?.unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or_default();
    let kib = line.trim().strip_suffix("kB").and_then(|kib| kib.trim().parse::<u64>().ok());
    Ok(kib.and_then(|kib| kib.checked_mul(1024)))
}

/// `None`: it does not count time.
fn cpu_of_group(dir: &Path) -> io::Result<Option<u64>> {
    let text = told(fs::read_to_string(dir.join("cpu.stat")))?;
    Ok(text.and_then(|text| field(&text, "usage_usec")).map(|time| time / 1000))
}

/// `None`: it does not count memory.
fn memory_of_group(dir: &Path) -> io::Result<Option<u64>> {
    let read = |file: &str| told(fs::read_to_string(dir.join(file)));
    let all = read("memory.current")?.and_then(|all| all.trim().parse::<u64>().ok());
    let unused = read("memory.stat")?.and_then(|text| field(&text, "inactive_file"));
    Ok(all.zip(unused).map(|(all, unused)| all.saturating_sub(unused)))
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_reads_as_it_is() {
        let own = std::process::id() as i32;
        let stat = stat_of(own).unwrap().unwrap();
        assert!(stat_of(i32::MAX).unwrap().is_none());
        assert!(!stat.is_dead() && stat.resident_pages > 0 && stat.begun > 0);
        assert!(descriptors(own).unwrap().unwrap() >= 3);
        assert!(proportional(own).unwrap().unwrap() > 0);
        assert_eq!(descriptors(i32::MAX).unwrap(), None);
        let used = super::own().unwrap();
        assert!(used.memory_bytes > 0 && used.descriptors >= 3, "{used:?}");
        assert!(used.descriptors_max.is_none_or(|most| most >= used.descriptors), "{used:?}");
    }

    #[test]
    fn a_tree_is_walked_to_its_end_and_no_further_than_bounded() {
        let of = |children: &[(i32, Vec<i32>)]| Machine {
            seen: Instant::now(),
            took: Duration::ZERO,
            children: children
                .iter()
                .map(|(parent, pids)| (*parent, pids.iter().map(|pid| (*pid, 1)).collect()))
                .collect(),
        };
        let pids = |machine: &Machine, root| -> Vec<i32> {
            machine.below(root).into_iter().map(|(pid, _)| pid).collect()
        };
        let machine = of(&[(1, vec![2, 3]), (3, vec![4]), (4, vec![5]), (9, vec![10])]);
        assert_eq!(pids(&machine, 1), [2, 3, 4, 5]);
        assert_eq!(pids(&machine, 7), [0; 0]);
        let all = (2..=2 * PROCESSES_MAX as i32).collect();
        assert_eq!(of(&[(1, all)]).below(1).len(), PROCESSES_MAX);
        // Numbers that were given anew while it was looked could make a ring.
        assert_eq!(of(&[(1, vec![2]), (2, vec![1])]).below(1).len(), PROCESSES_MAX);
    }

    #[test]
    fn a_look_serves_for_a_while_in_proportion_to_what_it_took() {
        let of = |ago: Duration, took| {
            Machine { seen: Instant::now() - ago, took, children: HashMap::new() }.is_good()
        };
        assert!(of(LOOK_LEAST / 2, Duration::ZERO));
        assert!(!of(LOOK_LEAST, Duration::ZERO));
        assert!(of(2 * LOOK_LEAST, LOOK_LEAST));
        assert!(!of(LOOK_LEAST * LOOK_SHARE, LOOK_LEAST));
    }

    #[test]
    fn a_cgroup_counts_as_docker_does() {
        let group = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| std::fs::write(group.path().join(file), text).unwrap();
        let of = |dir: &Path| (cpu_of_group(dir).unwrap(), memory_of_group(dir).unwrap());
        assert_eq!(of(group.path()), (None, None));
        write("cpu.stat", "usage_usec 12345678\nuser_usec 1\n");
        write("memory.current", "1000\n");
        write("memory.stat", "anon 5\ninactive_file_other 7\ninactive_file 300\n");
        assert_eq!(of(group.path()), (Some(12_345), Some(700)));
    }
}
