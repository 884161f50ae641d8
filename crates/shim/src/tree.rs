//! The tree below this process: being its subreaper, this process is the parent of every orphan in
//! it, so the tree is empty when there is no child left.
#![allow(unsafe_code)]

use crate::wire::End;

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
                let end = match libc::WIFSIGNALED(status) {
                    true => End::Signal(libc::WTERMSIG(status)),
                    false => End::Code(libc::WEXITSTATUS(status)),
                };
                ended.push((pid, end));
            }
            _ => match std::io::Error::last_os_error().raw_os_error() {
                Some(libc::EINTR) => {}
                _ => return Reaped { ended, empty: true },
            },
        }
    }
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
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        Some((pid, parent))
    })
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
pub(crate) fn signal_group(leader: i32, signal: i32) {
    // SAFETY: the leader is a child that was not reaped yet, so the group's number is its own.
    unsafe {
        libc::kill(-leader, signal);
        libc::kill(-leader, libc::SIGCONT);
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

/// When a process was forked, on the boot clock.
fn born_ms(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
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
