//! The daemon's side of the zygote: started when first needed, and again when it is gone.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Mutex;
use upbeat_shim::spec::Spec;

use super::DriverError;
use super::channel::Channel;

/// The zygote takes an order in microseconds. On a machine that swaps it may take long; after this
/// it is replaced.
const SEND_PATIENCE: Duration = Duration::from_secs(5);

/// How to start the zygote.
#[derive(Clone, Debug)]
pub struct ShimProgram {
    /// The program.
    pub path: PathBuf,
    /// What makes it the zygote, if it can be something else too.
    pub args: Vec<OsString>,
}

pub(super) struct Zygote {
    program: ShimProgram,
    running: Mutex<Option<Running>>,
}

struct Running {
    socket: AsyncFd<OwnedFd>,
    process: OwnedFd,
}

impl Running {
    /// Whatever it still has of orders is void with it.
    fn end(self) {
        // It is gone already, or goes now.
        let _ = rustix::process::pidfd_send_signal(&self.process, Signal::KILL);
    }
}

impl Zygote {
    pub(super) fn new(program: ShimProgram) -> Self {
        Self { program, running: Mutex::new(None) }
    }

    /// Gives an order, with the descriptors that are for it; what comes of it comes by the channel.
    pub(super) async fn order(&self, spec: &Spec, with: &[BorrowedFd<'_>]) -> Result<Channel, DriverError> {
        let failed = |source| DriverError::io("the process that makes shims", source);
        let memory = memory_file(&spec.encode()).map_err(failed)?;
        let (channel, theirs) = Channel::pair().map_err(failed)?;
        // A shim's end of the channel must not outlive the order here, or its death goes unseen.
        let mut running = self.running.lock().await;
        for is_last in [false, true] {
            if running.is_none() {
                *running = Some(self.start().map_err(failed)?);
            }
            let Some(zygote) = running.as_ref() else { continue };
            let sent =
                tokio::time::timeout(SEND_PATIENCE, send(&zygote.socket, &memory, &theirs, with)).await;
            match sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(()) => return Ok(channel),
                // It was killed, or it is stopped: a new one takes its place.
                Err(_) if !is_last => running.take().into_iter().for_each(Running::end),
                Err(error) => return Err(failed(error)),
            }
        }
        Err(failed(io::ErrorKind::BrokenPipe.into()))
    }

    /// An order was not answered in time: somebody has stopped it, or it hangs. The next order gets
    /// another one.
    pub(super) async fn replace(&self) {
        self.running.lock().await.take().into_iter().for_each(Running::end);
    }

    fn start(&self) -> io::Result<Running> {
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        // Reaped when it ends, so that no zombie stays, however far this comes; it ends with the daemon at the
        // latest, or when nobody holds the other end of its socket.
        let (begun, awaited) = std::sync::mpsc::channel::<std::process::Child>();
        std::thread::Builder::new()
            .name("zygote".into())
            .stack_size(64 * 1024)
            .spawn(move || awaited.recv().map(|mut child| child.wait()))?;
        let child = Command::new(&self.program.path)
            .arg0("upbeat-shim")
            .args(&self.program.args)
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()?;
        let restored = super::limits::restore(&child);
        let process = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
        begun.send(child).map_err(io::Error::other)?;
        restored?;
        Ok(Running { socket: crate::readiness::register(ours, Interest::WRITABLE)?, process: process? })
    }
}

fn memory_file(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("upbeat-order", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file)
}

async fn send(
    zygote: &AsyncFd<OwnedFd>,
    memory: &File,
    channel: &OwnedFd,
    with: &[BorrowedFd<'_>],
) -> io::Result<()> {
    loop {
        let mut guard = zygote.writable().await?;
        let sent = guard.try_io(|socket| {
            let fds: Vec<_> =
                [memory.as_fd(), channel.as_fd()].into_iter().chain(with.iter().copied()).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(5))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
                return Err(Errno::NOBUFS.into());
            }
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            Ok(rustix::net::sendmsg(socket.get_ref(), &[IoSlice::new(b"o")], &mut control, flags)?)
        });
        match sent {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(Err(error)) => return Err(error),
            Err(_not_yet) => {}
        }
    }
}
