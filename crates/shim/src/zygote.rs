//! The zygote: small, single-threaded, forks a shim for each order. And what every process here
//! needs of signals.
#![allow(unsafe_code)]

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, Timespec};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags};

use crate::spec::{Order, Spec};
use crate::wire::{FromShim, send};
use crate::{exec, supervise};

/// The name that `ps` and `killall` see. Another one than the daemon's, so that `killall upbeat`
/// spares it.
const NAME: &std::ffi::CStr = c"upbeat-shim";

static TERMINATE: AtomicBool = AtomicBool::new(false);

/// Whether the system has asked this process to end since the last call.
pub(crate) fn take_terminate() -> bool {
    TERMINATE.swap(false, Ordering::Relaxed)
}

extern "C" fn note_terminate(_: libc::c_int) {
    TERMINATE.store(true, Ordering::Relaxed);
}

extern "C" fn note_child(_: libc::c_int) {}

/// Closes whatever the daemon was itself given by mistake, so that no service inherits it.
fn close_strangers() {
    // SAFETY: nothing in this process has opened a descriptor yet.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    if done == 0 {
        return;
    }
    // A kernel before 5.9.
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let open: Vec<i32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for fd in open.into_iter().filter(|fd| *fd > 2) {
        // SAFETY: as above; the listing's own descriptor is closed already.
        unsafe { libc::close(fd) };
    }
}

/// Forks a shim for each order until the daemon closes the socket.
pub(crate) fn run() -> ExitCode {
    close_strangers();
    let _ = rustix::thread::set_name(NAME);
    // A group of its own: a Ctrl-C meant for others does not reach it.
    let _ = rustix::process::setsid();
    // What a shim leaves behind comes here, and is reaped when it ends: as the first process of a container
    // the daemon would be its parent, which looks after its own children only. A kernel that refuses has
    // another who does.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    // SAFETY: no other thread looks at the mask or at signal dispositions.
    unsafe {
        libc::umask(0o077);
        // Children that end are nobody's business here; the kernel reaps them.
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGPIPE] {
            libc::signal(signal, libc::SIG_IGN);
        }
    }
    let orders = std::io::stdin();
    loop {
        match receive(orders.as_fd()) {
            Ok(Some(order)) => fork_shim(order),
            Ok(None) => return ExitCode::SUCCESS,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return ExitCode::from(2),
        }
    }
}

/// What comes with one order.
struct Received {
    /// A memory file with the spec.
    spec: OwnedFd,
    /// The daemon's channel to the shim.
    channel: OwnedFd,
    /// To supervise: the slot's directory. By descriptor, so that an order that comes late finds the
    /// directory it was meant for, or a deleted one in which nothing can be made; never one that took its
    /// place. To ask: what the command reads from and prints into.
    rest: Vec<OwnedFd>,
}

/// The most descriptors that come with an order: of what is asked.
const FDS_MAX: usize = 5;

fn receive(orders: BorrowedFd<'_>) -> rustix::io::Result<Option<Received>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut buffers = [rustix::io::IoSliceMut::new(&mut byte)];
    let received = rustix::net::recvmsg(orders, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut fds = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => fds.collect::<Vec<_>>(),
        _ => Vec::new(),
    });
    match (fds.next(), fds.next()) {
        (Some(spec), Some(channel)) if !received.flags.contains(ReturnFlags::CTRUNC) => {
            Ok(Some(Received { spec, channel, rest: fds.collect() }))
        }
        _ => Err(rustix::io::Errno::PROTO),
    }
}

fn fork_shim(order: Received) {
    // SAFETY: this process has one thread.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        let why = format!("no process can be made: {}", std::io::Error::last_os_error());
        let _ = send(order.channel.as_fd(), &FromShim::Unable { why }.encode());
    }
    if pid == 0 {
        let code = be_shim(order);
        // SAFETY: ends this process; nothing of the zygote's is to be flushed.
        unsafe { libc::_exit(i32::from(code != ExitCode::SUCCESS)) };
    }
}

fn be_shim(order: Received) -> ExitCode {
    let Received { spec, channel, rest } = order;
    if let Err(error) = forget_stdio() {
        let why = format!("/dev/null: {error}");
        let _ = send(channel.as_fd(), &FromShim::Unable { why }.encode());
        return ExitCode::FAILURE;
    }
    let _ = rustix::process::setsid();
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    // SAFETY: no other thread. SIGCHLD and SIGTERM are only let through while waiting, so that
    // none comes between looking and waiting.
    unsafe {
        let mut blocked: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut blocked);
        libc::sigaddset(&mut blocked, libc::SIGCHLD);
        libc::sigaddset(&mut blocked, libc::SIGTERM);
        libc::sigprocmask(libc::SIG_BLOCK, &blocked, std::ptr::null_mut());
        libc::signal(libc::SIGCHLD, note_child as *const () as libc::sighandler_t);
        libc::signal(libc::SIGTERM, note_terminate as *const () as libc::sighandler_t);
    }
    match Spec::read(File::from(spec)) {
        Ok(spec) => match spec.order {
            Order::Supervise(_) => supervise::run(spec, rest.into_iter().next(), channel),
            Order::Exec { .. } => exec::run(spec, channel, None),
            Order::Ask { .. } => match <[OwnedFd; 3]>::try_from(rest) {
                Ok(given) => exec::run(spec, channel, Some(given)),
                Err(_) => {
                    let why = "the order came without what the command is to read from and print into".into();
                    let _ = send(channel.as_fd(), &FromShim::Unable { why }.encode());
                    ExitCode::FAILURE
                }
            },
        },
        Err(error) => {
            let _ = send(channel.as_fd(), &FromShim::Unable { why: error.to_string() }.encode());
            ExitCode::FAILURE
        }
    }
}

/// The zygote's socket must not live on in its children, nor the daemon's standard error.
fn forget_stdio() -> std::io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

/// Sleeps until a descriptor is ready, a child ends, the system asks to end, or the time is over.
pub(crate) fn wait_for(fds: &mut [PollFd<'_>], timeout_ms: Option<u64>) {
    let timeout =
        timeout_ms.map(|ms| Timespec { tv_sec: (ms / 1000) as i64, tv_nsec: (ms % 1000 * 1_000_000) as i64 });
    let timeout = timeout.map(|time| libc::timespec { tv_sec: time.tv_sec, tv_nsec: time.tv_nsec });
    // SAFETY: `PollFd` is laid out as `pollfd`; the pointers live as long as the call.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let count = fds.len() as libc::nfds_t;
        libc::ppoll(fds.as_mut_ptr().cast::<libc::pollfd>(), count, timeout, &none);
    }
}
