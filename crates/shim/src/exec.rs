//! One command, to its end or its time-out: health checks and stop commands.
//!
//! Nothing of it stays: its tree is killed when it has ended, when its time is over, and when
//! whoever asked for it is gone.

use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags};

use crate::child::{self, Child};
use crate::spec::{Order, Spec};
use crate::stdio::Streams;
use crate::supervise::{KILL_AGAIN_MS, KILL_REFUSED_AGAIN_MS};
use crate::system::boot_ms;
use crate::tree;
use crate::wire::{End, FromShim, send};
use crate::zygote::wait_for;

/// The end of what it prints is kept, to be shown; the rest is read and thrown away.
const OUTPUT_MAX: usize = 4 * 1024;

/// Runs one command.
pub(crate) fn run(spec: &Spec, channel: OwnedFd) -> ExitCode {
    let Order::Exec { timeout_ms } = spec.order else { return ExitCode::FAILURE };
    let deadline = boot_ms().saturating_add(timeout_ms);
    let start = || child::spawn(&child::prepare(spec)?, Streams::joined()?);
    let child = match start() {
        Ok(child) => child,
        Err((stage, errno)) => {
            let done = FromShim::Done { end: Some(End::NotExecuted(stage, errno)), output: Vec::new() };
            let _ = send(channel.as_fd(), &done.encode());
            return ExitCode::FAILURE;
        }
    };
    let (end, output) = serve(child, deadline, &channel);
    let _ = send(channel.as_fd(), &FromShim::Done { end, output }.encode());
    ExitCode::SUCCESS
}

fn serve(child: Child, deadline: u64, channel: &OwnedFd) -> (Option<End>, Vec<u8>) {
    let Child { pid, mut outputs, .. } = child;
    let mut output = Vec::new();
    let (mut end, mut abandoned, mut refused) = (None, false, false);
    loop {
        let reaped = tree::reap();
        end = end.or(reaped.ended.iter().find(|(ended, _)| *ended == pid).map(|(_, end)| *end));
        if reaped.empty {
            break;
        }
        let over = boot_ms() >= deadline || crate::zygote::take_terminate();
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
            deadline.saturating_sub(boot_ms()).max(1)
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
    (end.filter(|_| !abandoned), output)
}

fn read_all(outputs: &mut [Option<OwnedFd>; 2], output: &mut Vec<u8>) {
    let mut buffer = [0; 4096];
    for slot in outputs {
        // A bound for each turn, so that endless output does not outrun the deadline.
        for _ in 0..16 {
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
