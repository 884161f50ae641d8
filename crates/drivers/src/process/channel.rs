//! A connection to a shim: packets, without waiting when sending.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use upbeat_shim::wire::{FromShim, MESSAGE_MAX, send};

/// One end of a packet socket.
pub(super) struct Channel(AsyncFd<OwnedFd>);

impl Channel {
    /// Two ends: one to keep, one to send to the shim.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self::new(ours)?, theirs))
    }

    fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self(crate::readiness::register(fd, Interest::READABLE)?))
    }

    /// Connects to a socket in a directory whose path may be longer than a socket's may. `None`:
    /// nobody listens.
    pub(super) fn connect(dir: &Path, name: &str) -> io::Result<Option<Self>> {
        use std::os::fd::AsRawFd;
        let dir = match std::fs::File::open(dir) {
            Ok(dir) => dir,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) => Ok(Some(Self::new(socket)?)),
            Err(Errno::NOENT | Errno::CONNREFUSED | Errno::AGAIN) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The process that listened where this is connected to. `None`: it is not known here.
    pub(super) fn peer(&self) -> Option<i32> {
        let peer = crate::peer::process_of(self.0.get_ref().as_fd());
        peer.ok().flatten().map(rustix::process::Pid::as_raw_pid)
    }

    /// The next message this version knows; `None` when the other end is gone. Errors: a message that
    /// makes no sense.
    pub(super) async fn receive(&self) -> io::Result<Option<FromShim>> {
        loop {
            match self.receive_any().await? {
                Some(Some(message)) => return Ok(Some(message)),
                // A later version says more than is known here.
                Some(None) => {}
                None => return Ok(None),
            }
        }
    }

    async fn receive_any(&self) -> io::Result<Option<Option<FromShim>>> {
        loop {
            let mut guard = self.0.readable().await?;
            // On the stack, and only while something is there to be read: a daemon waits here once
            // for each process.
            let read = guard.try_io(|fd| {
                let mut packet = [0; MESSAGE_MAX];
                match rustix::net::recv(fd.get_ref(), &mut packet[..], RecvFlags::DONTWAIT)? {
                    (0, _) => Ok(None),
                    (length, _) => Ok(Some(FromShim::decode(&packet[..length.min(MESSAGE_MAX)]))),
                }
            });
            match read {
                Ok(Ok(message)) => {
                    return message
                        .transpose()
                        .map_err(|garbled| io::Error::new(io::ErrorKind::InvalidData, garbled));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Ok(Err(error)) => return Err(error),
                Err(_not_yet) => {}
            }
        }
    }

    /// Says nothing more: the other end sees that whoever gave an order is gone, and can still answer.
    pub(super) fn hang_up(&self) {
        // Where that fails the other end is gone already.
        let _ = rustix::net::shutdown(self.0.get_ref(), rustix::net::Shutdown::Write);
    }

    /// Sends a packet. Errors: the other end is gone, or does not listen.
    pub(super) fn send(&self, packet: &[u8]) -> io::Result<()> {
        Ok(send(self.0.get_ref().as_fd(), packet)?)
    }
}
