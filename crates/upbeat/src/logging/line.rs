//! The way to a reader: opened when there is something to tell, opened again when it broke.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use tracing::Level;

use super::encode::Wire;
use super::queue::{Next, Queue};
use super::record::Record;
use crate::daemon::LOG_MAX;

/// How long a reader is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For its name, a connection, and room for a record.
    pub(super) hang: Duration,
    /// After the first failure. Each further one doubles it, ...
    pub(super) pause: Duration,
    /// ... up to this.
    pub(super) pause_most: Duration,
}

impl Patience {
    /// A reader that is restarted is back within seconds; one that is away for hours is asked twice a
    /// minute, which costs nobody anything.
    pub(super) const USUAL: Self = Self {
        hang: Duration::from_secs(5),
        pause: Duration::from_millis(100),
        pause_most: Duration::from_secs(30),
    };
}

/// What a server says to whoever only tells it something is thrown away, up to so many bytes for each
/// record: its end must be seen behind it.
const CHATTER: usize = 64 << 10;

/// That records do not arrive is told on standard error, but not more often: a reader that comes and goes
/// must not fill what that is written to.
const NOTE_EVERY: Duration = Duration::from_secs(60);

/// Where records go.
#[derive(Debug)]
pub(super) enum Line {
    /// This process' own standard error.
    Stderr {
        /// A copy of it: what is written by others at the end of the daemon waits for no lock of ours.
        to: OwnedFd,
        /// A file of the daemon's own: it begins anew before it gets too long.
        is_ours: bool,
    },
    /// A datagram socket of this machine.
    Unix {
        /// Its path.
        path: PathBuf,
        /// Takes records that are too large for a datagram as sealed files, as the journal does.
        takes_files: bool,
        socket: Option<UnixDatagram>,
    },
    /// `host:port`.
    Udp { to: String, socket: Option<UdpSocket> },
    /// `host:port`.
    Tcp { to: String, stream: Option<TcpStream> },
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stderr { .. } => f.write_str("standard error"),
            Self::Unix { path, .. } => write!(f, "`{}`", path.display()),
            Self::Udp { to, .. } => write!(f, "`udp://{to}`"),
            Self::Tcp { to, .. } => write!(f, "`tcp://{to}`"),
        }
    }
}

/// Tells what waits, one after the other, until there is no more.
pub(super) fn carry(queue: &Queue, mut line: Line, wire: &Wire, patience: Patience) {
    let mut outages = Outages { pause: patience.pause, noted: None, is_known: false };
    loop {
        let (frame, records) = match queue.next() {
            Next::End => break,
            Next::Frame(frame) => (frame, 1),
            Next::Dropped(records) => (wire.frame(&news(records)), records),
        };
        loop {
            match line.send(&frame, patience.hang) {
                Ok(()) => {
                    outages.over(&line, patience);
                    break;
                }
                Err(error) if Errno::from_io_error(&error) == Some(Errno::MSGSIZE) => {
                    queue.lost(records);
                    break;
                }
                Err(error) => {
                    line.close();
                    if queue.pause(outages.one(&line, &error, patience)) {
                        // The daemon ends, and nobody is there to be told.
                        return queue.over();
                    }
                }
            }
        }
    }
    queue.over();
}

/// How often it could not be told, and who knows.
struct Outages {
    pause: Duration,
    noted: Option<Instant>,
    /// This one was noted.
    is_known: bool,
}

impl Outages {
    /// One more. Says how long to wait.
    fn one(&mut self, line: &Line, error: &io::Error, patience: Patience) -> Duration {
        if !self.is_known && self.noted.is_none_or(|at| at.elapsed() >= NOTE_EVERY) {
            (self.is_known, self.noted) = (true, Some(Instant::now()));
            note(line, format_args!("the daemon's log cannot be sent to {line} ({error}); it waits"));
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(patience.pause_most);
        pause
    }

    fn over(&mut self, line: &Line, patience: Patience) {
        if std::mem::take(&mut self.is_known) {
            note(line, format_args!("the daemon's log goes to {line} again"));
        }
        self.pause = patience.pause;
    }
}

fn news(records: u64) -> Record {
    let lines = if records == 1 { "line" } else { "lines" };
    Record::own(Level::WARN, format!("{records} log {lines} found no room and were dropped"))
}

/// For whoever looks where the daemon's words do not arrive. Nowhere to say it is nowhere to say it.
fn note(line: &Line, what: std::fmt::Arguments<'_>) {
    if !matches!(line, Line::Stderr { .. }) {
        let _ = writeln!(io::stderr(), "{what}");
    }
}

impl Line {
    /// One record, whole. Errors: it did not arrive, or only in part; the way is to be closed.
    pub(super) fn send(&mut self, frame: &[u8], hang: Duration) -> io::Result<()> {
        match self {
            Self::Stderr { to, is_ours } => to_stderr(to, frame, *is_ours),
            Self::Unix { path, takes_files, socket } => {
                let open = || {
                    let socket = UnixDatagram::unbound()?;
                    socket.connect(&*path)?;
                    socket.set_write_timeout(Some(hang))?;
                    Ok(socket)
                };
                let socket = opened(socket, open)?;
                match socket.send(frame) {
                    Err(error) if *takes_files && is_too_large(&error) => send_file(socket, frame),
                    sent => sent.map(drop),
                }
            }
            Self::Udp { to, socket } => {
                let socket = opened(socket, || open_udp(to))?;
                socket.send(frame).map(drop)
            }
            Self::Tcp { to, stream } => {
                if stream.as_ref().is_some_and(has_ended) {
                    // What is written to a closed connection is lost without an error.
                    *stream = None;
                }
                let stream = opened(stream, || open_tcp(to, hang))?;
                stream.write_all(frame)
            }
        }
    }

    fn close(&mut self) {
        match self {
            Self::Stderr { .. } => {}
            Self::Unix { socket, .. } => *socket = None,
            Self::Udp { socket, .. } => *socket = None,
            Self::Tcp { stream, .. } => *stream = None,
        }
    }
}

fn opened<T>(way: &mut Option<T>, open: impl FnOnce() -> io::Result<T>) -> io::Result<&mut T> {
    let found = match way.take() {
        Some(found) => found,
        None => open()?,
    };
    Ok(way.insert(found))
}

/// Waits for its reader as long as that takes: a line that was begun is ended, and only this thread waits.
fn to_stderr(to: &OwnedFd, frame: &[u8], is_ours: bool) -> io::Result<()> {
    if is_ours && rustix::fs::fstat(to).is_ok_and(|file| file.st_size > LOG_MAX as i64) {
        rustix::fs::ftruncate(to, 0)?;
    }
    let mut left = frame;
    while !left.is_empty() {
        match rustix::io::write(to, left) {
            Ok(written) => left = &left[written..],
            Err(Errno::INTR) => {}
            // Others that have it open may have set it so.
            Err(Errno::AGAIN) => {
                let mut ready = [PollFd::new(to, PollFlags::OUT)];
                rustix::event::poll(&mut ready, None)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn is_too_large(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MSGSIZE | Errno::NOBUFS))
}

/// Too large for a datagram: in a file in memory that nobody can change any more.
fn send_file(socket: &UnixDatagram, frame: &[u8]) -> io::Result<()> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = std::fs::File::from(rustix::fs::memfd_create("upbeat-log", flags)?);
    file.write_all(frame)?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    let fds = [file.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::other("no room for a file"));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(&[])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn open_udp(to: &str) -> io::Result<UdpSocket> {
    let mut last = no_address();
    for address in to.to_socket_addrs()? {
        let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let opened = UdpSocket::bind(any).and_then(|socket| {
            socket.connect(address)?;
            // What has no room in the kernel does not wait for it.
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        match opened {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn open_tcp(to: &str, hang: Duration) -> io::Result<TcpStream> {
    let mut last = no_address();
    for address in to.to_socket_addrs()? {
        let opened = TcpStream::connect_timeout(&address, hang).and_then(|stream| {
            stream.set_write_timeout(Some(hang))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        });
        match opened {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn no_address() -> io::Error {
    io::Error::new(ErrorKind::NotFound, "its name has no address")
}

/// Whether the other side has closed it. Reads away what it said before.
fn has_ended(mut stream: &TcpStream) -> bool {
    if stream.set_nonblocking(true).is_err() {
        return true;
    }
    let mut heard = 0;
    let is_open = loop {
        match stream.read(&mut [0; 4096]) {
            Ok(0) => break false,
            Ok(length) => heard += length,
            Err(error) => break error.kind() == ErrorKind::WouldBlock,
        }
        if heard >= CHATTER {
            break true;
        }
    };
    !is_open || stream.set_nonblocking(false).is_err()
}
