//! The main process: the one whose end is the end of the service, and that is asked to stop.
//!
//! At first it is the one that was started: a child of this process, which reaps it, so that its number
//! is its own until then. By `MAINPID=` it can be any other of the tree. That one is held by a
//! descriptor, and may be a child of somebody else, who reaps it and keeps to himself how it ended.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::tree;
use crate::wire::End;

/// The main process.
pub(crate) struct Leader {
    pid: i32,
    kind: Kind,
}

enum Kind {
    /// The one that was started.
    Child,
    /// Another one.
    Other(OwnedFd),
    /// Reaped, so that its number may be another's.
    Gone,
}

impl Leader {
    /// The one that was started.
    pub(crate) fn child(pid: i32) -> Self {
        Self { pid, kind: Kind::Child }
    }

    /// Another one. `None`: it is not of the tree, nor has it `ended` just now.
    pub(crate) fn other(pid: i32, ended: &[(i32, End)]) -> Option<Self> {
        if ended.iter().any(|(ended, _)| *ended == pid) {
            return Some(Self { pid, kind: Kind::Gone });
        }
        let handle = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        let leader = Self { pid, kind: Kind::Other(handle) };
        // In this order: it is there, so its number was not another's when the tree was looked at.
        (tree::is_member(pid) && leader.is_there()).then_some(leader)
    }

    /// Its number.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Readable when it has ended. None for a child: that is told by a signal.
    pub(crate) fn handle(&self) -> Option<&OwnedFd> {
        match &self.kind {
            Kind::Other(handle) => Some(handle),
            Kind::Child | Kind::Gone => None,
        }
    }

    /// Its process group: nobody who is not of the tree can be in it. `None`: it is gone.
    pub(crate) fn group(&self) -> Option<i32> {
        match &self.kind {
            // Made with it, and for its life.
            Kind::Child => Some(self.pid),
            Kind::Gone => None,
            Kind::Other(_) => {
                // SAFETY: asks for a number.
                let group = unsafe { libc::getpgid(self.pid) };
                (group > 1 && self.is_there()).then_some(group)
            }
        }
    }

    /// Sends it a signal; that it is gone is as good. Only while its end was not seen.
    pub(crate) fn signal(&self, signal: i32) {
        match &self.kind {
            Kind::Child => {
                // SAFETY: a child's number is not given to another process before it is reaped, here.
                unsafe { libc::kill(self.pid, signal) };
            }
            Kind::Other(handle) => drop(send(handle, signal)),
            Kind::Gone => {}
        }
    }

    /// Not reaped yet, so that its number is its own.
    fn is_there(&self) -> bool {
        self.handle().is_some_and(|handle| match send(handle, 0) {
            Ok(()) => true,
            Err(error) => error.raw_os_error() == Some(libc::EPERM),
        })
    }

    /// How it has ended, where that is not told by its being reaped here. `None`: it has not, or will
    /// be. Where its parent lives and has it as a zombie, it may yet come to be reaped here too.
    pub(crate) fn end_elsewhere(&self) -> Option<End> {
        let handle = self.handle()?;
        let mut fds = [rustix::event::PollFd::new(handle, rustix::event::PollFlags::IN)];
        let has_ended = rustix::event::poll(&mut fds, Some(&rustix::time::Timespec::default())) == Ok(1);
        if !has_ended || self.is_there() && tree::parent(self.pid) == Some(std::process::id() as i32) {
            return None;
        }
        let zombie = tree::zombie_end(self.pid).filter(|_| self.is_there());
        Some(zombie.or_else(|| self.last_known()).unwrap_or(End::Unknown))
    }

    /// How it ended, of one that is gone: kernels from 6.15 on still know.
    pub(crate) fn last_known(&self) -> Option<End> {
        let handle = self.handle()?;
        // SAFETY: all zero is a question for nothing.
        let mut info: libc::pidfd_info = unsafe { std::mem::zeroed() };
        info.mask = u64::from(libc::PIDFD_INFO_EXIT);
        // SAFETY: the structure is as large as the request says. An older kernel refuses it.
        let asked = unsafe { libc::ioctl(handle.as_raw_fd(), libc::PIDFD_GET_INFO, &mut info) };
        let is_known = asked == 0 && info.mask & u64::from(libc::PIDFD_INFO_EXIT) != 0;
        is_known.then(|| tree::end(info.exit_code))
    }
}

fn send(handle: &OwnedFd, signal: i32) -> std::io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: plain numbers, and no pointer.
    match unsafe { libc::syscall(libc::SYS_pidfd_send_signal, handle.as_raw_fd(), signal, none, 0) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use rustix::process::{WaitId, WaitIdOptions, waitid};

    use super::*;

    /// A child that has ended and was not reaped.
    fn zombie(script: &str) -> (Child, Leader) {
        let child = Command::new("sh").args(["-c", script]).spawn().unwrap();
        let pid = child.id() as i32;
        // A child of this process is of its tree.
        let leader = Leader::other(pid, &[]).unwrap();
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(Pid::from_raw(pid).unwrap()), ended).unwrap().unwrap();
        (child, leader)
    }

    /// Whether this kernel remembers how a process ended that was reaped.
    fn kernel_remembers() -> bool {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers = release.split(['.', '-']).map(|number| number.trim().parse::<u32>().unwrap());
        (numbers.next().unwrap(), numbers.next().unwrap()) >= (6, 15)
    }

    #[test]
    fn how_a_process_ended_is_known_without_reaping_it() {
        for (script, end) in
            [("exit 7", End::Code(7)), ("exit 0", End::Code(0)), ("kill -9 $$", End::Signal(9))]
        {
            let (mut child, leader) = zombie(script);
            assert!(leader.is_there());
            assert_eq!(tree::zombie_end(leader.pid()), Some(end));
            // It will be reaped here.
            assert_eq!(leader.end_elsewhere(), None);
            child.wait().unwrap();
            assert!(!leader.is_there());
            assert_eq!(leader.group(), None);
            assert_eq!(tree::zombie_end(leader.pid()), None);
            let known = if kernel_remembers() { end } else { End::Unknown };
            assert_eq!(leader.end_elsewhere(), Some(known));
        }
    }

    #[test]
    fn only_one_of_the_tree_can_lead() {
        // It ends with this test, however that does.
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = child.id() as i32;
        let leader = Leader::other(pid, &[]).unwrap();
        assert_eq!(leader.end_elsewhere(), None);
        let parent = tree::parent(std::process::id() as i32).unwrap();
        for stranger in [1, parent, i32::MAX, std::process::id() as i32] {
            assert!(Leader::other(stranger, &[]).is_none(), "{stranger}");
        }
        leader.signal(libc::SIGTERM);
        child.wait().unwrap();
        assert!(Leader::other(pid, &[]).is_none());
        assert!(Leader::other(pid, &[(pid, End::Signal(15))]).is_some_and(|leader| leader.group().is_none()));
    }
}
