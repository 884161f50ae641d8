//! Whether a daemon is starting: it has its directories, and does not answer yet, as it reads what was kept.
//!
//! It says so by a lock of its own on the file of its lock. That one can be asked after without being taken, so
//! nobody who asks is in the way of a daemon that begins; and the kernel lets go of it whatever becomes of the daemon.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::process::{Flock, FlockType, fcntl_getlk};

use super::Dirs;

/// This process is starting, until it is dropped.
pub(super) struct Starting {
    _said: Option<File>,
}

impl Starting {
    /// Says so, where there are directories. Nothing depends on that but what clients are told meanwhile: why they
    /// cannot be used is told by who needs them.
    pub(super) fn say(dirs: &Dirs) -> Self {
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(dirs.lock());
        let said = file
            .and_then(|file| Ok(fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).map(|()| file)?));
        Self { _said: said.ok() }
    }
}

/// Whether a process is about to be the daemon of these directories, and does not answer yet.
pub fn is_starting(dirs: &Dirs) -> bool {
    // Without the file there never was one.
    let Ok(file) = File::open(dirs.lock()) else { return false };
    matches!(fcntl_getlk(&file, &Flock::from(FlockType::WriteLock)), Ok(Some(_)))
}
