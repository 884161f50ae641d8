//! Descriptors whose readiness the runtime is told of.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor.
pub(crate) fn register(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by what is returned, so it stays open, and the same, for as
    // long as it is registered.
    unsafe { Ok(AsyncFd::register_with_interest(fd, interest)?) }
}
