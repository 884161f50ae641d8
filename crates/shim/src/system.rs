//! Small pieces of the system: clocks, private files, who is at the other end.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::time::{ClockId, clock_gettime};

/// The clock on the wall, in nanoseconds since the epoch.
pub fn wall_ns() -> i64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}

/// The boot clock, in milliseconds: moments that a daemon is told are on it.
pub fn boot_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// The clock that stands still while the machine sleeps, in milliseconds: how long somebody has for
/// something is counted on it.
pub(crate) fn awake_ms() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// The user at the other end of a socket. By hand, as the kernel says 0 for a process that cannot be seen
/// from here, which `rustix` takes for impossible.
pub(crate) fn peer_user(socket: BorrowedFd<'_>) -> std::io::Result<u32> {
    let mut who = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the descriptor is borrowed and so open; the kernel writes at most `length` bytes to `who`,
    // which has as many, and any bytes are one.
    let done = unsafe {
        let (socket, who) = (socket.as_raw_fd(), (&raw mut who).cast());
        libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_PEERCRED, who, &raw mut length)
    };
    if done == 0 { Ok(who.uid) } else { Err(std::io::Error::last_os_error()) }
}

/// Opens a file for reading and writing, readable by its owner only; makes it if need be.
pub fn create_private(path: &Path) -> std::io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}
