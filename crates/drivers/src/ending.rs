//! Ends the daemon that listens on a socket.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::peer;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nobody listens there.
    Nobody,
    /// The process of this id has ended.
    Ended(i32),
    /// It was asked to end, and has not in that time.
    GoesOn(i32),
}

/// Asks whoever listens there to end (SIGTERM), and waits for that.
///
/// It is not asked over the socket who it is: one that does not answer any more has to be ended above all.
/// Blocks. Errors: it cannot be reached or sent a signal, as of another user.
pub fn end_listener(socket: &Path, patience: Duration) -> io::Result<Ending> {
    let Some(pid) = listener(socket)? else { return Ok(Ending::Nobody) };
    let Some(process) = held(pid)? else { return Ok(Ending::Nobody) };
    // Between the first look and the hold it may have ended, and its number be another's by now.
    if listener(socket)? != Some(pid) {
        return Ok(Ending::Nobody);
    }
    let number = pid.as_raw_nonzero().get();
    match rustix::process::pidfd_send_signal(&process, Signal::TERM) {
        Err(Errno::SRCH) => return Ok(Ending::Ended(number)),
        sent => sent?,
    }
    // One that somebody has stopped would not hear it. Gone in between is as good.
    let _ = rustix::process::pidfd_send_signal(&process, Signal::CONT);
    let patience = Timespec::try_from(patience).map_err(io::Error::other)?;
    let mut ended = [PollFd::new(&process, PollFlags::IN)];
    match rustix::io::retry_on_intr(|| rustix::event::poll(&mut ended, Some(&patience)))? {
        0 => Ok(Ending::GoesOn(number)),
        _ => Ok(Ending::Ended(number)),
    }
}

/// The process that listens there, as the kernel says.
fn listener(socket: &Path) -> io::Result<Option<Pid>> {
    // Whoever does not take connections any more, and has as many in its queue as that holds, is not waited for.
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let stream = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&stream, &SocketAddrUnix::new(socket)?) {
        Ok(()) => {}
        Err(Errno::NOENT | Errno::CONNREFUSED) => return Ok(None),
        Err(Errno::AGAIN) => {
            let why = "it takes no connections any more and so many wait already that it cannot be found out \
                       which process it is; `pgrep -x upbeat` names it, `kill` ends it";
            return Err(io::Error::other(why));
        }
        Err(error) => return Err(error.into()),
    }
    let hidden =
        || io::Error::other("whoever listens there is in another container, and can only be ended there");
    peer::process_of(stream.as_fd())?.map(Some).ok_or_else(hidden)
}

fn held(pid: Pid) -> io::Result<Option<OwnedFd>> {
    match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Err(Errno::SRCH) => Ok(None),
        process => Ok(Some(process?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nobody_listens_nobody_is_ended() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("a.sock");
        assert_eq!(end_listener(&socket, Duration::ZERO).unwrap(), Ending::Nobody);
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        assert_eq!(end_listener(&socket, Duration::ZERO).unwrap(), Ending::Nobody);
        std::fs::write(directory.path().join("file"), "").unwrap();
        assert!(listener(directory.path()).is_err() || listener(directory.path()).unwrap().is_none());
    }

    #[test]
    fn who_takes_no_connections_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("a.sock");
        let address = SocketAddrUnix::new(&socket).unwrap();
        let listener =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .unwrap();
        rustix::net::bind(&listener, &address).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let queue = || std::os::unix::net::UnixStream::connect(&socket).unwrap();
        let _waits = queue();
        let error = end_listener(&socket, Duration::from_secs(600)).unwrap_err().to_string();
        assert!(error.contains("takes no connections any more"), "{error}");
    }
}
