//! The tree below this process: being its subreaper, this process is the parent of every orphan in
//! it, so the tree is empty when there is no child left.
#![allow(unsafe_code)]

use crate::stat::Stat;
use crate::wire::End;

/// A tree that is deeper has members that are not known to be of it: each step up is a file to be read.
const DEPTH_MAX: usize = 64;

/// What reaping found.
pub(crate) struct Reaped {
    /// Who ended, and how.
    pub(crate) ended: Vec<(i32, End)>,
    /// No child is left.
    pub(crate) empty: bool,
}

/// Takes note of every child that has ended. Does not wait.
pub(crate) fn reap() -> Reaped {
    let mut ended = Vec::new();
    loop {
        let mut status = 0;
        // SAFETY: writes one integer, which is ours.
        let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
        match pid {
            0 => return Reaped { ended, empty: false },
            pid if pid > 0 => {
                ended.push((pid, end(status)));
            }
            _ => match std::io::Error::last_os_error().raw_os_error() {
                Some(libc::EINTR) => {}
                _ => return Reaped { ended, empty: true },
            },
        }
    }
}

/// As the kernel says it.
pub(crate) fn end(status: i32) -> End {
    match libc::WIFSIGNALED(status) {
        true => End::Signal(libc::WTERMSIG(status)),
        false => End::Code(libc::WEXITSTATUS(status)),
    }
}

/// How a process ended that somebody else is to reap and has not yet. `None`: it is no such process,
/// or the kernel does not tell us.
pub(crate) fn zombie_end(pid: i32) -> Option<End> {
    let stat = Stat::of(pid).ok()??;
    if stat.state != b'Z' {
        return None;
    }
    // To whom the kernel does not tell, it says that it is 0. It tells by the same rule where a process
    // is at work; a zombie is nowhere, which is another answer than that one may not know.
    let at_work = std::fs::read_link(format!("/proc/{pid}/cwd"));
    let may_know = !matches!(at_work, Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied);
    may_know.then(|| end(stat.end))
}

/// The children of this process, orphans it was given included.
pub(crate) fn children() -> Vec<i32> {
    let own = std::process::id();
    match std::fs::read_to_string(format!("/proc/self/task/{own}/children")) {
        Ok(list) => list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect(),
        // A kernel without that file: look at everyone.
        Err(_) => all().filter(|(_, parent)| *parent == own as i32).map(|(pid, _)| pid).collect(),
    }
}

/// Every process and its parent.
fn all() -> impl Iterator<Item = (i32, i32)> {
    std::fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        Some((pid, parent(pid)?))
    })
}

/// The parent of a process, which may be a zombie.
pub(crate) fn parent(pid: i32) -> Option<i32> {
    Some(Stat::of(pid).ok()??.parent)
}

/// Whether a process belongs to the tree. One that is a zombie does, until somebody reaps it.
pub(crate) fn is_member(pid: i32) -> bool {
    let own = std::process::id() as i32;
    let mut above = Some(pid);
    for _ in 0..DEPTH_MAX {
        above = above.filter(|pid| *pid > 1).and_then(parent);
        if above == Some(own) {
            return true;
        }
    }
    false
}

/// Whether a process is of this user: as whoever it was begun, or as whom it acts.
pub(crate) fn is_of_user(pid: i32, uid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    uids.split_whitespace().any(|word| word.parse() == Ok(uid))
}

/// Kills every child. What they leave behind becomes a child in turn: call it until [`reap`] finds
/// the tree empty. Returns one that may not be killed, and why: it became another user.
pub(crate) fn kill_children() -> Option<(i32, i32)> {
    let mut refused = None;
    for pid in children() {
        // SAFETY: a child's number is not given to another process before it is reaped, here.
        if unsafe { libc::kill(pid, libc::SIGKILL) } < 0 {
            let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
            refused = refused.or(Some((pid, errno)));
        }
    }
    refused
}

/// Sends a signal to a process group, and wakes those of it that are stopped, or they would not hear
/// it.
pub(crate) fn signal_group(group: i32, signal: i32) {
    // SAFETY: one of it is a process that was not reaped yet, so the group's number is its own.
    unsafe {
        libc::kill(-group, signal);
        libc::kill(-group, libc::SIGCONT);
    }
}

/// Sends a signal to every child that has not had it yet, when a group was asked and its leader has
/// ended. To be asked twice means to hurry to many programs, so those that may have had it are left
/// alone.
pub(crate) fn signal_unasked(group: i32, signal: i32) {
    for pid in children() {
        // SAFETY: a child's number is not given to another process before it is reaped, here.
        let asked = unsafe { libc::getpgid(pid) } == group && !is_deadly(pid, signal);
        if !asked {
            // SAFETY: as above.
            unsafe {
                libc::kill(pid, signal);
                libc::kill(pid, libc::SIGCONT);
            }
        }
    }
}

/// Sends a signal to every child in a group that was born since then and has not had it, as far as can
/// be seen. Older ones had it, and may die of a second one though they are busy with the first.
pub(crate) fn signal_newborn(group: i32, signal: i32, since_ms: u64) {
    for pid in children() {
        // SAFETY: a child's number is not given to another process before it is reaped, here.
        let is_of_group = unsafe { libc::getpgid(pid) } == group;
        if is_of_group && born_ms(pid).is_some_and(|born| born >= since_ms) && is_deadly(pid, signal) {
            // SAFETY: as above.
            unsafe {
                libc::kill(pid, signal);
                libc::kill(pid, libc::SIGCONT);
            }
        }
    }
}

/// When a process was forked, in ticks since boot.
pub(crate) fn begun(pid: i32) -> Option<u64> {
    Some(Stat::of(pid).ok()??.begun)
}

/// The same on the boot clock.
fn born_ms(pid: i32) -> Option<u64> {
    let ticks = begun(pid)?;
    Some(ticks.saturating_mul(1000) / rustix::param::clock_ticks_per_second().max(1))
}

/// The process neither catches nor ignores nor blocks the signal: as it lives, it has not had it, or
/// it had it as its parent's copy, before it became what it is. So it is with one that was being forked
/// when its group was asked.
fn is_deadly(pid: i32, signal: i32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    let has = |field: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(field))?;
        let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
        Some(mask & 1 << (signal - 1) != 0)
    };
    let fields = ["SigBlk:", "SigIgn:", "SigCgt:"];
    (1..=64).contains(&signal) && fields.iter().all(|field| has(field) == Some(false))
}
