//! One command, to its end or its time-out: health checks, stop commands, what starts something
//! elsewhere, and what is asked something.
//!
//! Nothing of it stays: its tree is killed when it has ended, when its time is over, and when
//! whoever asked for it is gone. But for what is ordered to leave something behind: of that, what is
//! there when it has ended well is somebody else's from then on.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags};

use crate::child::{self, Child};
use crate::spec::{Order, Spec};
use crate::stdio::Streams;
use crate::supervise::{KILL_AGAIN_MS, KILL_REFUSED_AGAIN_MS, is_void};
use crate::system::awake_ms;
use crate::tree;
use crate::wire::{End, FromShim, send};
use crate::zygote::wait_for;

/// The end of what it prints is kept, to be shown; the rest is read and thrown away.
const OUTPUT_MAX: usize = 4 * 1024;

/// What there is to read in one turn, so that endless output does not outrun the deadline.
const READS_MAX: usize = 16;

/// Runs one command. `given`: what it reads from and prints into, where that is not for us.
pub(crate) fn run(spec: Spec, channel: OwnedFd, given: Option<[OwnedFd; 3]>) -> ExitCode {
    let (timeout_ms, leaves) = match &spec.order {
        Order::Exec { timeout_ms, leaves } => (timeout_ms, leaves.as_ref()),
        Order::Ask { timeout_ms } => (timeout_ms, None),
        Order::Supervise(_) => return ExitCode::FAILURE,
    };
    let deadline = awake_ms().saturating_add(*timeout_ms);
    let own = std::process::id() as i32;
    let _ =
        send(channel.as_fd(), &FromShim::Here { pid: own, begun: tree::begun(own).unwrap_or(0) }.encode());
    let start = || {
        let image = child::prepare(&spec)?;
        let streams = match given {
            Some(given) => Streams::given(given, image.user()),
            None => Streams::joined(leaves.is_some())?,
        };
        child::spawn(&image, streams, None)
    };
    // A daemon that is dead by now has ordered it, and the next one may have run it already.
    let ended = match (!is_void(&channel)).then(start) {
        Some(Ok(child)) => serve(child, deadline, &channel, leaves.is_some()),
        Some(Err((stage, errno))) => Ended { end: Some(End::NotExecuted(stage, errno)), ..Ended::default() },
        None => Ended::default(),
    };
    if let Some(path) = leaves {
        // What is left carries the mark of this command for ever: from here on it is not to be killed
        // for it. Should the file stay, its daemon removes it, or is dead and the next one kills what
        // is left.
        let _ = std::fs::remove_file(Path::new(OsStr::from_bytes(path)));
    }
    let Ended { end, output, outputs } = ended;
    let _ = send(channel.as_fd(), &FromShim::Done { end, output }.encode());
    drop((channel, spec));
    listen_in_vain(outputs);
    ExitCode::SUCCESS
}

/// What has come of a command.
#[derive(Default)]
struct Ended {
    /// None: not in time, or nobody waits for it.
    end: Option<End>,
    output: Vec<u8>,
    /// Where what it has left behind still prints.
    outputs: [Option<OwnedFd>; 2],
}

/// `deadline`: when its time is over, on the clock that stands still while the machine sleeps, as do the
/// timers of whoever waits for it.
fn serve(child: Child, deadline: u64, channel: &OwnedFd, leaves: bool) -> Ended {
    let Child { pid, mut outputs, .. } = child;
    let mut output = Vec::new();
    let (mut end, mut abandoned, mut refused) = (None, false, false);
    loop {
        let reaped = tree::reap();
        end = end.or(reaped.ended.iter().find(|(ended, _)| *ended == pid).map(|(_, end)| *end));
        if reaped.empty || leaves && !abandoned && end == Some(End::Code(0)) {
            break;
        }
        let over = awake_ms() >= deadline || crate::zygote::take_terminate();
        abandoned |= over && end.is_none();
        let killing = abandoned || end.is_some();
        if killing {
            // What may not be killed is waited for; whoever asked does so only for a while.
            refused = tree::kill_children().is_some();
        }
        let timeout = if refused {
            KILL_REFUSED_AGAIN_MS
        } else if killing {
            KILL_AGAIN_MS
        } else {
            deadline.saturating_sub(awake_ms()).max(1)
        };
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(3);
        fds.extend(outputs.iter().flatten().map(|fd| PollFd::new(fd, PollFlags::IN)));
        if !killing {
            // Nothing is ever sent here: readable means that the other end is gone.
            fds.push(PollFd::new(channel, PollFlags::IN));
        }
        wait_for(&mut fds, Some(timeout));
        let gone = !killing && fds.last().is_some_and(|fd| !fd.revents().is_empty());
        drop(fds);
        abandoned |= gone;
        read_all(&mut outputs, &mut output);
    }
    read_all(&mut outputs, &mut output);
    Ended { end: end.filter(|_| !abandoned), output, outputs }
}

/// Reads what is printed by whoever a command has left behind, as long as there is somebody who could
/// print. What they print is nobody's; but a pipe that nobody reads from makes them wait when it is full.
fn listen_in_vain(mut outputs: [Option<OwnedFd>; 2]) {
    let mut nothing = Vec::new();
    while outputs.iter().any(Option::is_some) && !tree::reap().empty && !crate::zygote::take_terminate() {
        let mut fds: Vec<PollFd<'_>> =
            outputs.iter().flatten().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        wait_for(&mut fds, None);
        drop(fds);
        read_all(&mut outputs, &mut nothing);
    }
}

fn read_all(outputs: &mut [Option<OwnedFd>; 2], output: &mut Vec<u8>) {
    let mut buffer = [0; 4096];
    for slot in outputs {
        for _ in 0..READS_MAX {
            let Some(fd) = slot else { break };
            match rustix::io::read(&*fd, &mut buffer) {
                Ok(0) => *slot = None,
                Ok(length) => {
                    output.extend_from_slice(&buffer[..length]);
                    let excess = output.len().saturating_sub(OUTPUT_MAX);
                    output.drain(..excess);
                }
                Err(_) => break,
            }
        }
    }
}
