//! Whether a daemon is starting: it is about to have its directories, or has them, and does not answer yet, as it
//! reads what was kept.
//!
//! It says so by a lock (`fcntl`) on a file that is for nothing else. That can be asked after without being taken, so
//! nobody who asks is in the way of a daemon that begins; and the kernel lets go of it whatever becomes of the daemon.
//! Not on the file of the daemon's own lock (`flock`): over a network, where homes may be, the two are one kind.
//!
//! It is a shared lock, said before the daemon's own is tried. So each of several that are started at once says it,
//! none silences another, and there is no moment in which one has the directories and has not said it. Those that
//! find them taken end, and nothing of theirs is left.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::process::{Flock, FlockType, fcntl_getlk};

use super::Dirs;

/// This process is starting, until it is dropped. The kernel forgets it, too, where this process closes any other
/// file it has opened of the lock's path: nothing may, meanwhile.
pub(super) struct Starting {
    _said: File,
}

impl Starting {
    /// Says so. Errors: the file cannot be used.
    pub(super) fn say(dirs: &Dirs) -> std::io::Result<Self> {
        let said = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(dirs.starting())?;
        fcntl_lock(&said, FlockOperation::NonBlockingLockShared)?;
        Ok(Self { _said: said })
    }
}

/// Whether a process is about to be the daemon of these directories, and does not answer yet.
pub fn is_starting(dirs: &Dirs) -> bool {
    // Without the file there never was one.
    let Ok(file) = File::open(dirs.starting()) else { return false };
    // Whoever says it is in the way of an exclusive lock.
    matches!(fcntl_getlk(&file, &Flock::from(FlockType::WriteLock)), Ok(Some(_)))
}
