//! The socket a process says it through, and who has said it.
//!
//! An abstract name: it needs no directory that the process' user could reach, has the same short
//! length wherever slots lie, and is free again when the shim is gone, however it went. The name
//! itself protects nothing, as everybody can list it: a message counts by who sent it, as the kernel
//! says.
//!
//! Descriptors that come with a message never become this process': the kernel closes them when the
//! message is read, as there is no room for them. That is what `BARRIER=1` waits for, and what is to
//! become of any other. To close the last descriptor of a socket can take as long as its owner likes
//! (`SO_LINGER`), so while messages are read a timer interrupts that.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, sockopt};
use rustix::rand::{GetRandomFlags, getrandom};

use super::DATAGRAM_MAX;

/// What the names of all these sockets begin with.
const NAME: &str = "upbeat/notify/";

/// Random bytes in a name, so that nobody has taken it before.
const RANDOM: usize = 16;

/// What is being closed may take so long; no process that means well needs any of it.
const CLOSING_MS: libc::suseconds_t = 5;

/// Where to say something, and what was said.
pub(super) struct Socket {
    fd: OwnedFd,
    name: String,
}

/// Who has sent a message, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sender {
    /// 0 for one that this process cannot see.
    pub(super) pid: i32,
    pub(super) uid: u32,
}

/// One read.
pub(super) enum Read<'a> {
    /// Nothing is there.
    Nothing,
    /// A message that says nothing: nobody has sent it, or it is too long.
    Useless,
    /// A message.
    From(Sender, &'a [u8]),
}

/// Room for what the kernel says of a sender, and for nothing else.
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

// SAFETY: computes a number.
const CONTROL: usize = unsafe { libc::CMSG_SPACE(size_of::<libc::ucred>() as u32) } as usize;

extern "C" fn interrupt(_: libc::c_int) {}

impl Socket {
    /// A new one. Errors: what the system said.
    pub(super) fn open() -> rustix::io::Result<Self> {
        let mut random = [0; RANDOM];
        getrandom(&mut random, GetRandomFlags::empty())?;
        let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = format!("{NAME}{digits}");
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        // Before anybody can send.
        sockopt::set_socket_passcred(&fd, true)?;
        bind(&fd, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
        // SAFETY: the handler does nothing; nothing else here uses this signal.
        unsafe { libc::signal(libc::SIGALRM, interrupt as *const () as libc::sighandler_t) };
        Ok(Self { fd, name })
    }

    /// As `NOTIFY_SOCKET` says it.
    pub(super) fn address(&self) -> String {
        format!("@{}", self.name)
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Reads one message, and closes what came with it.
    pub(super) fn read<'a>(&self, buffer: &'a mut [u8; DATAGRAM_MAX]) -> Read<'a> {
        let mut control = Control([0; CONTROL]);
        let mut vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: all zero is a header that points nowhere.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = &mut vector;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL as _;
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        // SAFETY: the header points to what lives as long as this call, and is as long as it says.
        let length = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &mut header, flags) };
        let Ok(length) = usize::try_from(length) else {
            let errno = std::io::Error::last_os_error();
            return match Errno::from_io_error(&errno) {
                Some(Errno::INTR) => Read::Useless,
                _ => Read::Nothing,
            };
        };
        let sender = sender(&header);
        match sender.filter(|_| header.msg_flags & libc::MSG_TRUNC == 0) {
            Some(sender) => Read::From(sender, &buffer[..length]),
            None => Read::Useless,
        }
    }
}

/// By hand, as a sender this process cannot see has the number 0, which `rustix` takes for impossible.
fn sender(header: &libc::msghdr) -> Option<Sender> {
    // SAFETY: the kernel has filled in the header and what it points to.
    unsafe {
        let said = libc::CMSG_FIRSTHDR(header);
        let kind = said.as_ref().map(|said| (said.cmsg_level, said.cmsg_type, said.cmsg_len))?;
        let whole = libc::CMSG_LEN(size_of::<libc::ucred>() as u32) as _;
        if kind != (libc::SOL_SOCKET, libc::SCM_CREDENTIALS, whole) {
            return None;
        }
        let who: libc::ucred = std::ptr::read_unaligned(libc::CMSG_DATA(said).cast());
        Some(Sender { pid: who.pid, uid: who.uid })
    }
}

/// As long as this lives, nothing that this process closes holds it up for long.
pub(super) struct Hurry(());

impl Hurry {
    pub(super) fn begin() -> Self {
        set_timer(CLOSING_MS * 1000);
        Self(())
    }
}

impl Drop for Hurry {
    fn drop(&mut self) {
        set_timer(0);
    }
}

fn set_timer(usec: libc::suseconds_t) {
    let every = libc::timeval { tv_sec: 0, tv_usec: usec };
    // Again and again: the first may come before there is anything to interrupt.
    let timer = libc::itimerval { it_interval: every, it_value: every };
    // SAFETY: reads one structure, which is ours; the signal has a handler.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) };
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::os::fd::AsFd;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg_addr};

    use super::*;

    fn send(to: &Socket, text: &[u8]) {
        let address = SocketAddr::from_abstract_name(&to.name).unwrap();
        UnixDatagram::unbound().unwrap().send_to_addr(text, &address).unwrap();
    }

    fn read(socket: &Socket) -> Option<Vec<u8>> {
        let mut buffer = [0; DATAGRAM_MAX];
        match socket.read(&mut buffer) {
            Read::From(sender, text) => {
                let own = Sender { pid: std::process::id() as i32, uid: rustix::process::geteuid().as_raw() };
                assert_eq!(sender, own);
                Some(text.to_vec())
            }
            Read::Useless => Some(b"useless".to_vec()),
            Read::Nothing => None,
        }
    }

    #[test]
    fn messages_come_one_by_one_with_their_senders() {
        let (socket, other) = (Socket::open().unwrap(), Socket::open().unwrap());
        assert_ne!(socket.name, other.name);
        assert_eq!(read(&socket), None);
        send(&socket, b"one");
        send(&socket, b"");
        send(&socket, &[b'x'; DATAGRAM_MAX]);
        send(&socket, &[b'x'; DATAGRAM_MAX + 1]);
        assert_eq!(read(&socket).unwrap(), b"one");
        assert_eq!(read(&socket).unwrap(), b"");
        assert_eq!(read(&socket).unwrap(), [b'x'; DATAGRAM_MAX]);
        assert_eq!(read(&socket).unwrap(), b"useless");
        assert_eq!(read(&socket), None);
        assert_eq!(read(&other), None);
    }

    #[test]
    fn descriptors_are_closed_when_their_message_is_read() {
        let socket = Socket::open().unwrap();
        let (read_end, write_end) = rustix::pipe::pipe().unwrap();
        rustix::io::ioctl_fionbio(&read_end, true).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        let fds = vec![write_end.as_fd(); 200];
        let mut space = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(200))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        let address = SocketAddrUnix::new_abstract_name(socket.name.as_bytes()).unwrap();
        let text = [IoSlice::new(b"BARRIER=1")];
        sendmsg_addr(&sender, &address, &text, &mut control, SendFlags::empty()).unwrap();
        drop(fds);
        drop(write_end);
        let is_closed = || rustix::io::read(&read_end, &mut [0; 1]) == Ok(0);
        assert!(!is_closed());
        assert_eq!(read(&socket).unwrap(), b"BARRIER=1");
        assert!(is_closed());
    }

    #[test]
    fn a_name_is_free_again() {
        let name = Socket::open().unwrap().name;
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        assert!(UnixDatagram::unbound().unwrap().send_to_addr(b"x", &address).is_err());
    }
}
