//! Who is at the other end of a socket: the process, and the groups it is in.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::process::Pid;

/// `NGROUPS_MAX` of Linux: no process is in more.
const GROUPS_MAX: usize = 65_536;

/// Most are in fewer, and one question is enough.
const GROUPS_USUAL: usize = 64;

/// The supplementary groups that the process had when it connected (`SO_PEERGROUPS`), as the kernel
/// knows them.
///
/// Asked of the kernel and not of `/etc/group`: what counts is what the process was given, also by
/// directories that are no file, and not what its user would be given at the next login.
pub fn groups_of(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups: Vec<libc::gid_t> = vec![0; GROUPS_USUAL];
    loop {
        let room = groups.len() * size_of::<libc::gid_t>();
        let mut length = libc::socklen_t::try_from(room).map_err(io::Error::other)?;
        // SAFETY: the descriptor is borrowed and so open; the kernel writes at most `length` bytes to
        // `groups`, which has as many, and tells in `length` how many there are.
        let done = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let count = length as usize / size_of::<libc::gid_t>();
        if done == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() || count > GROUPS_MAX {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

/// The process that was at the other end when it was connected, or that listened there (`SO_PEERCRED`).
/// `None`: this process cannot see it, as it is in another namespace of processes: that of a container
/// whose socket was mounted here.
///
/// By hand: the kernel then says 0, which `rustix` takes for impossible.
pub(crate) fn process_of(socket: BorrowedFd<'_>) -> io::Result<Option<Pid>> {
    let mut who = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the descriptor is borrowed and so open; the kernel writes at most `length` bytes to `who`,
    // which has as many, and any bytes are one.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut who).cast(),
            &raw mut length,
        )
    };
    match done {
        0 => Ok(Pid::from_raw(who.pid.max(0))),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The number of a group: by its name in `/etc/group`, else the number itself. Names of other
/// directories are not known here; their numbers can be given.
pub fn group_id(name: &str) -> Option<u32> {
    upbeat_shim::user::group(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_groups_are_those_of_the_process_itself() {
        let (one, _other) = UnixStream::pair().unwrap();
        let mut told = groups_of(one.as_fd()).unwrap();
        let mut own: Vec<u32> =
            rustix::process::getgroups().unwrap().into_iter().map(rustix::process::Gid::as_raw).collect();
        told.sort_unstable();
        own.sort_unstable();
        assert_eq!(told, own);
    }

    #[test]
    fn the_process_is_this_one_and_one_that_was_never_connected_is_none() {
        let (one, _other) = UnixStream::pair().unwrap();
        assert_eq!(process_of(one.as_fd()).unwrap(), Some(rustix::process::getpid()));
        // The kernel says 0 of it, as of one in another namespace.
        let datagram = std::os::unix::net::UnixDatagram::unbound().unwrap();
        assert_eq!(process_of(datagram.as_fd()).unwrap(), None);
    }

    #[test]
    fn groups_go_by_name_and_else_by_number() {
        assert_eq!(group_id("root"), Some(0));
        assert_eq!(group_id("12345"), Some(12345));
        assert_eq!(group_id("no-such-group"), None);
    }

    #[test]
    fn what_is_no_socket_has_no_peer() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(groups_of(file.as_fd()).is_err());
        assert!(process_of(file.as_fd()).is_err());
    }
}
