//! What a killed shim left behind, and its end.
//!
//! A process belongs to an attempt when it carries its mark, the variable `UPBEAT_INSTANCE` that
//! every process hands to those it starts, or when its standard output or error is a pipe or the
//! terminal of that attempt: programs that rewrite their title wipe their environment, but still print where they
//! were told to. Of another user's process, or one that is kept from being looked at, neither can be seen
//! by a daemon without the right to (`CAP_SYS_PTRACE`): it belongs to the attempt where it is of the session that its main
//! process has made. One that does none of this and outlives its killed shim is not found: without a
//! cgroup nobody could.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::fs::RawDir;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use upbeat_model::Attempt;
use upbeat_shim::record::{Outlets, Record};
use upbeat_shim::stat::{Stat, of_process};

use crate::stuck::Round;

/// Looks so far apart, ...
const BETWEEN: Duration = Duration::from_millis(2);

/// ... and so long: a tree that forks faster than it is killed would take longer, and so would a process
/// that the kernel does not let die. Less than a look at a slot takes at most.
const PATIENCE: Duration = Duration::from_secs(3);

/// One look reads a few files of each process, in microseconds. One that takes longer than this waits for a
/// process, or for memory.
const ROUND_MAX: Duration = Duration::from_secs(1);

/// Nobody is there when so many looks in a row have found nobody, ...
const QUIET: u32 = 2;

/// ... or so many, where in each some process was gone before it was looked at: mostly a stranger's, as
/// there are many on a busy machine; but it may be one of a tree that lives on by making another and
/// ending, at any time younger than the look at it. Of such a one, nine of ten looks find somebody.
const QUIET_AMONG_OTHERS: u32 = 10;

/// Bytes: of what else is listed there, the longest name fits in with ease.
const LISTED_AT_ONCE: usize = 160;

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
    format!("{VARIABLE}={}#exec-{}-{number}", slots_dir.display(), own())
}

/// What processes of a command carry that may leave some of them behind: not the same, as those are
/// not looked for.
pub(crate) fn mark_of_start(slots_dir: &Path, number: u64) -> String {
    mark_of_started(slots_dir, &number_of_start(number))
}

/// By which number such a command is known on the machine.
pub(crate) fn number_of_start(number: u64) -> String {
    format!("{}-{number}", own())
}

/// This process, and no other of this boot, whatever number it may be given.
fn own() -> &'static str {
    static OWN: OnceLock<String> = OnceLock::new();
    OWN.get_or_init(|| {
        let pid = std::process::id();
        format!("{pid}.{}", life(pid as i32).unwrap_or_default())
    })
}

fn mark_of_started(slots_dir: &Path, number: &str) -> String {
    format!("{VARIABLE}={}#start-{number}", slots_dir.display())
}

/// How to tell the processes of an attempt.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    mark: Mark,
    outlets: Outlets,
    /// Its main process, and when that was begun.
    main: Option<(i32, u64)>,
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
        Self {
            mark: Mark::Whole(mark(slot_dir, Attempt(record.attempt))),
            outlets: record.outlets,
            main: record.main,
        }
    }

    /// Every attempt up to this one. A later one may be starting.
    pub(crate) fn up_to(slot_dir: &Path, last: Attempt) -> Self {
        let before = format!("{VARIABLE}={}#", slot_dir.display());
        Self { mark: Mark::UpTo(before, last), outlets: UNKNOWN, main: None }
    }

    /// What [`mark_of_exec`] has marked in other processes than this.
    pub(crate) fn of_execs_of_others(slots_dir: &Path) -> Self {
        let before = format!("{VARIABLE}={}#exec-", slots_dir.display());
        Self { mark: Mark::But(before, format!("{}-", own())), outlets: UNKNOWN, main: None }
    }

    /// What [`mark_of_start`] has marked in another process than this. `None`: it was this one.
    pub(crate) fn of_start_of_other(slots_dir: &Path, number: &str) -> Option<Self> {
        let own = format!("{}-", own());
        (!number.starts_with(&own)).then(|| Self::of_exec(mark_of_started(slots_dir, number)))
    }

    /// What [`mark_of_exec`], or [`mark_of_start`], has marked.
    pub(crate) fn of_exec(mark: String) -> Self {
        Self { mark: Mark::Whole(mark), outlets: UNKNOWN, main: None }
    }
}

/// Whether a process carries the mark.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Carried {
    Yes,
    No,
    /// That may not be looked at.
    Hidden,
    /// It has ended.
    Gone,
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

/// Some process does not die, or others are made as fast as they are killed; so many were seen last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StillThere(pub(crate) usize);

/// One look at all processes.
struct Look {
    /// Those of the tree.
    members: Vec<i32>,
    /// Each other one was looked at.
    is_whole: bool,
}

/// Who was killed, and when they were begun.
type Dying = BTreeMap<i32, u64>;

/// Kills what belongs to an attempt until nothing does, and nothing of it is left.
pub(crate) async fn clear(tree: Tree) -> Result<(), StillThere> {
    let until = Instant::now() + PATIENCE;
    let mut dying = Dying::new();
    let (mut quiet, mut whole) = (0, 0);
    loop {
        let (tree, round) = (tree.clone(), Arc::new(Round::begin()));
        let given_up = round.clone();
        // Reads a few files for each process of the machine.
        let done = tokio::task::spawn_blocking(move || {
            let look = tree.look(&round);
            look.iter().for_each(|look| kill_all(&look.members, &mut dying));
            // A dying process gives up its environment first and its sockets later.
            dying.retain(|pid, begun| !matches!(life_of(*pid), Ok(life) if life != Some(*begun)));
            (look, dying)
        });
        let (look, left) = match tokio::time::timeout(ROUND_MAX, done).await {
            Ok(Ok(done)) => done,
            // The runtime is being shut down.
            Ok(Err(_)) => return Err(StillThere(0)),
            Err(_) => {
                given_up.give_up();
                (Err(io::ErrorKind::TimedOut.into()), Dying::new())
            }
        };
        dying = left;
        let seen = match look {
            Ok(Look { members, is_whole }) if members.is_empty() && dying.is_empty() => {
                quiet += 1;
                whole = if is_whole { whole + 1 } else { 0 };
                if whole >= QUIET || quiet >= QUIET_AMONG_OTHERS {
                    return Ok(());
                }
                0
            }
            Ok(Look { members, .. }) => {
                (quiet, whole) = (0, 0);
                members.len()
            }
            // There are no open files left, or the like: who is there is not known.
            Err(_) => {
                (quiet, whole) = (0, 0);
                0
            }
        };
        if Instant::now() >= until {
            return Err(StillThere(seen.max(dying.len()).max(1)));
        }
        tokio::time::sleep(BETWEEN).await;
    }
}

/// Kills a process that an engine has begun in a container, and all that has come of it and is of it still, whatever
/// they carry. Only where they are on this machine, and in that container: the engine may be elsewhere.
pub(crate) async fn kill_under(root: i32, container: String) {
    // Reads a few files for each process of the machine. The runtime is being shut down: then it is not done.
    let _ = tokio::task::spawn_blocking(move || {
        if root <= 1 || !is_of_container(root, &container) {
            return;
        }
        for pid in under(root) {
            if is_of_container(pid, &container)
                && let Some(id) = Pid::from_raw(pid)
            {
                // Gone in between is as good.
                let _ = kill_process(id, Signal::KILL);
            }
        }
    })
    .await;
}

/// The engine puts each container into a cgroup that is called after it.
fn is_of_container(pid: i32, container: &str) -> bool {
    let of = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    !container.is_empty() && of.contains(container)
}

/// A process and those that descend from it, those first: who is left without a parent is not found any more.
fn under(root: i32) -> Vec<i32> {
    let listed = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = listed.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let parents: Vec<(i32, i32)> = pids.filter_map(|pid| Some((pid, Stat::of(pid).ok()??.parent))).collect();
    let mut all = vec![root];
    let mut next = 0;
    while let Some(parent) = all.get(next).copied() {
        let children = parents.iter().filter(|(pid, of)| *of == parent && !all.contains(pid));
        let children: Vec<i32> = children.map(|(pid, _)| *pid).collect();
        all.extend(children);
        next += 1;
    }
    all.reverse();
    all
}

fn kill_all(members: &[i32], dying: &mut Dying) {
    for pid in members {
        let Some(id) = Pid::from_raw(*pid) else { continue };
        // With its group, in which others may have been made meanwhile: the kernel spares none of them,
        // be they just being made.
        if let Some(group) = group_of(*pid, members) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        if let Some(begun) = life(*pid) {
            dying.insert(*pid, begun);
            // Gone in between is as good.
            let _ = kill_process(id, Signal::KILL);
        }
    }
}

/// The process group of a member, if that is all of the tree: its leader is a member too, or has ended. A
/// group of this session is not: it was made by somebody else, who has taken on the mark. Nor is one that
/// was made outside of this PID namespace, which has no number here.
fn group_of(member: i32, members: &[i32]) -> Option<Pid> {
    let stat = Stat::of(member).ok()??;
    let is_strange = stat.session == Stat::own().ok()??.session;
    let leader = stat.group;
    let is_whole = leader > 1 && (members.contains(&leader) || matches!(life_of(leader), Ok(None)));
    Pid::from_raw(leader.max(0)).filter(|_| is_whole && !is_strange)
}

impl Tree {
    /// Errors: nobody can be looked at.
    fn look(&self, round: &Round) -> io::Result<Look> {
        let own = std::process::id() as i32;
        let mut look = Look { members: Vec::new(), is_whole: true };
        let processes = fs::File::open("/proc")?;
        // Room for a few at a time, so that each is looked at as soon as it is listed, and has no time to
        // end in between.
        let mut room = [const { MaybeUninit::uninit() }; LISTED_AT_ONCE];
        let mut listed = RawDir::new(&processes, &mut room);
        while let Some(entry) = listed.next() {
            let pid = entry?.file_name().to_str().ok().and_then(|name| name.parse().ok());
            let Some(pid) = pid.filter(|pid| *pid != own) else { continue };
            let carried = self.is_carried_by(pid, round)?;
            look.is_whole &= carried != Carried::Gone;
            let is_member = match carried {
                Carried::Yes => true,
                Carried::Gone | Carried::No => self.is_printed_to_by(pid),
                Carried::Hidden => self.is_in_session(pid),
            };
            if is_member {
                look.members.push(pid);
            }
        }
        Ok(look)
    }

    /// A zombie's environment is empty, so it does not carry the mark.
    fn is_carried_by(&self, pid: i32, round: &Round) -> io::Result<Carried> {
        let read = round.read(pid, || fs::read(format!("/proc/{pid}/environ")));
        let Some(read) = read else { return Ok(Carried::Hidden) };
        let environment = match of_process(read) {
            // Another user's, or one that is kept from being looked at.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(Carried::Hidden),
            environment => environment?,
        };
        Ok(match environment {
            None => Carried::Gone,
            Some(bytes) if bytes.split(|byte| *byte == 0).any(|entry| self.mark.is(entry)) => Carried::Yes,
            Some(_) => Carried::No,
        })
    }

    /// Of the session that the main process has made. While one of it lives, its number is given to nobody
    /// else: whoever has that number by now and is another was begun in a session's place that is gone.
    fn is_in_session(&self, pid: i32) -> bool {
        let (Some((main, begun)), Ok(Some(stat))) = (self.main, Stat::of(pid)) else { return false };
        let is_same = || !matches!(Stat::of(main), Ok(Some(leader)) if leader.begun != begun);
        stat.session == main && stat.begun >= begun && !stat.is_dead() && is_same()
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
    Some(Stat::of(pid).ok()??.parent).filter(|parent| *parent > 1)
}

/// These end nobody who has no word for them: SIGCHLD, SIGCONT, SIGURG and SIGWINCH are passed over,
/// SIGSTOP, SIGTSTP, SIGTTIN and SIGTTOU halt.
const HARMLESS: [i32; 8] = [17, 18, 23, 28, 19, 20, 21, 22];

/// Whether a process is there that this signal would end: its main thread has it neither handled, nor
/// ignored, nor blocked.
pub(crate) fn would_end(pid: i32, signal: i32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    is_ended_by(&status, signal)
}

fn is_ended_by(status: &str, signal: i32) -> bool {
    let masks = ["SigBlk:", "SigIgn:", "SigCgt:"].map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(line.trim(), 16).ok()
    });
    let [Some(blocked), Some(ignored), Some(caught)] = masks else { return false };
    let is_met = u32::try_from(signal - 1).ok().and_then(|bit| 1_u64.checked_shl(bit));
    is_met.is_some_and(|bit| (blocked | ignored | caught) & bit == 0) && !HARMLESS.contains(&signal)
}

/// Lets a process go on that somebody has stopped.
pub(crate) fn wake(pid: i32) {
    let is_stopped = matches!(Stat::of(pid), Ok(Some(stat)) if stat.state == b'T');
    if is_stopped && let Some(pid) = Pid::from_raw(pid) {
        tracing::warn!(?pid, "a shim was stopped; it is let go on");
        // Gone in between is as good.
        let _ = kill_process(pid, Signal::CONT);
    }
}

/// When a process that is no zombie was begun, in ticks since boot: with its number, its identity.
pub(crate) fn life(pid: i32) -> Option<u64> {
    life_of(pid).ok().flatten()
}

/// The same. Errors: it cannot be looked at; to be gone is none.
pub(crate) fn life_of(pid: i32) -> io::Result<Option<u64>> {
    Ok(Stat::of(pid)?.filter(|stat| !stat.is_dead()).map(|stat| stat.begun))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_ends_whoever_has_no_word_for_it() {
        // SIGHUP blocked, SIGINT ignored, SIGUSR1 caught.
        let status = "Name:\tSigCgt: 1\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000000002\n\
                      SigCgt:\t0000000000000200\n";
        let ends = |signals: &[i32]| -> Vec<bool> {
            signals.iter().map(|signal| is_ended_by(status, *signal)).collect()
        };
        assert_eq!(ends(&[1, 2, 10]), [false; 3], "blocked, ignored, caught");
        assert_eq!(ends(&[12, 15, 9, 64]), [true; 4]);
        assert_eq!(ends(&[17, 28, 19]), [false; 3], "harmless");
        assert_eq!(ends(&[0, -1, 65]), [false; 3], "no signals");
        assert!(!is_ended_by("Name:\tgone\n", 15), "nobody is there");
    }

    #[test]
    fn it_is_seen_of_a_process() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(would_end(pid, 10) && !would_end(pid, 17));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!would_end(pid, 10));
    }
}
