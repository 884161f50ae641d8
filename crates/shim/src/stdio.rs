//! What a process reads from and prints into: pipes, or a terminal of its own.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::child::Failure;
use crate::record::Outlets;
use crate::spec::Stdio;
use crate::user::User;
use crate::wire::Stage;

/// A terminal nobody looks at is as large as the first ones were; programs lay out their lines by it.
const WINDOW: Winsize = Winsize { ws_col: 80, ws_row: 24, ws_xpixel: 0, ws_ypixel: 0 };

/// The three descriptors of a process, and the other ends of them. No program is given any of these
/// unless it is meant to have it.
pub(crate) struct Streams {
    /// Standard input, output and error, for the process.
    pub(crate) theirs: [OwnedFd; 3],
    /// Those that are its user's to open again, by `/dev/stdout`: pipes of its own.
    pub(crate) own: &'static [i32],
    /// They are a terminal, which it shall control.
    pub(crate) is_terminal: bool,
    /// What it prints, to be read without waiting.
    pub(crate) outputs: [Option<OwnedFd>; 2],
    /// Held open as long as it runs, so that what reads there finds neither anything nor an end.
    pub(crate) input: Option<OwnedFd>,
    /// How to tell who prints here.
    pub(crate) outlets: Outlets,
}

impl Streams {
    /// As ordered. A terminal belongs to this user, or to the daemon's.
    pub(crate) fn new(stdio: Stdio, owner: Option<User>) -> Result<Self, Failure> {
        match stdio {
            Stdio::Terminal => Self::terminal(owner).map_err(|errno| (Stage::Terminal, errno.raw_os_error())),
            Stdio::Plain | Stdio::OpenInput => Self::pipes(stdio == Stdio::OpenInput).map_err(failed),
        }
    }

    /// No input, and one pipe for both outputs, so that what is printed stays in order. `leaves`: whoever
    /// prints into it may outlive who reads it.
    pub(crate) fn joined(leaves: bool) -> Result<Self, Failure> {
        let joined = || {
            let (output, mut out) = outlet()?;
            let path = format!("/proc/self/fd/{}", out.as_raw_fd());
            if leaves && let Ok(both) = File::options().read(true).write(true).open(path) {
                // Who could read from it themselves is not ended for writing what nobody else reads.
                out = both.into();
            }
            let err = rustix::io::fcntl_dupfd_cloexec(&out, 0)?;
            let outlets = Outlets::Pipes([inode(&output), inode(&output)]);
            let theirs = [null()?, out, err];
            let outputs = [Some(output), None];
            Ok(Self { theirs, own: &[1, 2], is_terminal: false, outputs, input: None, outlets })
        };
        joined().map_err(failed)
    }

    /// Those of whoever asks, who reads what is printed. A terminal among them is for it alone, and belongs to
    /// this user, or to the daemon's.
    pub(crate) fn given(theirs: [OwnedFd; 3], owner: Option<User>) -> Self {
        let outlets = Outlets::Pipes([inode(&theirs[1]), inode(&theirs[2])]);
        let is_terminal = rustix::termios::isatty(&theirs[0]);
        if let Some(owner) = owner.filter(|_| is_terminal) {
            give(&theirs[0], owner);
        }
        Self { theirs, own: &[], is_terminal, outputs: [None, None], input: None, outlets }
    }

    fn pipes(is_input_open: bool) -> rustix::io::Result<Self> {
        let ((stdout, out), (stderr, err)) = (outlet()?, outlet()?);
        let (read, input, own): (_, _, &[i32]) = match is_input_open {
            true => {
                let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
                (read, Some(write), &[0, 1, 2])
            }
            // Nobody's: it is not to be given to a user.
            false => (null()?, None, &[1, 2]),
        };
        let outlets = Outlets::Pipes([inode(&stdout), inode(&stderr)]);
        let outputs = [Some(stdout), Some(stderr)];
        Ok(Self { theirs: [read, out, err], own, is_terminal: false, outputs, input, outlets })
    }

    fn terminal(owner: Option<User>) -> rustix::io::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        unlockpt(&master)?;
        // By the master and not by its name, which in another mount of `devpts` is somebody else's.
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        tcsetwinsize(&master, WINDOW)?;
        rustix::io::ioctl_fionbio(&master, true)?;
        if let Some(owner) = owner {
            give(&slave, owner);
        }
        // After the last change of it that is made here: see `Outlets`.
        let stat = rustix::fs::fstat(&slave)?;
        let changed_ns = (stat.st_ctime as i64).saturating_mul(1_000_000_000) + stat.st_ctime_nsec as i64;
        let again = || rustix::io::fcntl_dupfd_cloexec(&slave, 0);
        let theirs = [again()?, again()?, slave];
        let outlets = Outlets::Terminal { inode: stat.st_ino, changed_ns };
        // No end of its own is kept open here: then the last one to close it finds all that was printed
        // still there to be read, and the kernel hangs up no session.
        Ok(Self { theirs, own: &[], is_terminal: true, outputs: [Some(master), None], input: None, outlets })
    }
}

/// Where it may not, it lives without: it has the descriptors. The group stays that of terminals.
fn give(terminal: &OwnedFd, owner: User) {
    let _ = rustix::fs::fchown(terminal, Some(rustix::fs::Uid::from_raw(owner.uid)), None);
}

/// The other end of a terminal, by that which is read. `None`: the system says no.
pub(crate) fn reopen(master: &OwnedFd) -> Option<OwnedFd> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    ioctl_tiocgptpeer(master, flags).ok()
}

/// A pipe that is read without waiting.
fn outlet() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&read, true)?;
    Ok((read, write))
}

fn null() -> rustix::io::Result<OwnedFd> {
    let opened = File::open("/dev/null");
    opened.map(OwnedFd::from).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

fn inode(fd: impl AsFd) -> u64 {
    rustix::fs::fstat(fd).map_or(0, |stat| stat.st_ino)
}

fn failed(errno: Errno) -> Failure {
    (Stage::Fork, errno.raw_os_error())
}
