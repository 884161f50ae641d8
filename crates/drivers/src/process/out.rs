//! A command that is out: its shim, and how that is ended where it answers no more.
//!
//! A shim that somebody has stopped, be it by hand or the command itself, hears nothing. So it says at its
//! beginning which process it is, and is killed by that; its tree is known by its mark.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::io::Interest;
use upbeat_shim::wire::FromShim;

use super::channel::Channel;
use crate::tree::{self, StillThere, Tree};

/// A shim that answers later than this after the command's time is over, or was called off, is stopped.
pub(super) const ANSWER_SLACK: Duration = Duration::from_secs(5);

/// A shim is there within milliseconds. Who asks has ten seconds in all, so that this leaves time for another.
pub(super) const BEGIN_PATIENCE: Duration = Duration::from_secs(3);

/// A killed shim is gone in a moment. Where there is no descriptor to hold it by, there may be one so
/// soon, and is tried for so often.
const HOLD_AGAIN: Duration = Duration::from_millis(100);
const HOLD_TRIES: u32 = 50;
const DEATH_PATIENCE: Duration = Duration::from_secs(5);

/// A process, whoever has its number later.
#[derive(Clone, Copy, Debug)]
struct Who {
    pid: i32,
    /// In ticks since boot.
    begun: u64,
}

/// How it begins.
pub(super) enum Begins {
    /// Its shim is there.
    Begun,
    /// Its shim could not do what it shall: why.
    Unable(String),
    /// There is no shim, and nothing was run.
    Killed,
}

/// A command that is out. Dropped before it is over, it is called off, and it is seen to that it ends.
pub(super) struct Out(Option<Held>);

struct Held {
    channel: Channel,
    /// Unknown before it is there: then no command was run.
    shim: Option<Who>,
    mark: String,
    /// Where it is noted that it has not ended.
    note: Option<PathBuf>,
}

impl Out {
    pub(super) fn new(channel: Channel, mark: String, note: Option<PathBuf>) -> Self {
        Self(Some(Held { channel, shim: None, mark, note }))
    }

    /// What came of it. `None`: its shim was killed.
    pub(super) async fn heard(&mut self) -> Option<FromShim> {
        self.0.as_mut()?.heard().await
    }

    /// Waits until its shim is there, which says so before it runs anything.
    pub(super) async fn begins(&mut self) -> Begins {
        let Some(held) = self.0.as_mut() else { return Begins::Killed };
        loop {
            match held.channel.receive().await {
                Ok(Some(FromShim::Here { pid, begun })) => {
                    held.shim = Some(Who { pid, begun });
                    return Begins::Begun;
                }
                Ok(Some(FromShim::Unable { why })) => return Begins::Unable(why),
                Ok(Some(_)) => {}
                // A later version means something else by it.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                Ok(None) | Err(_) => return Begins::Killed,
            }
        }
    }

    /// Nobody wants to know any more how it ends, but when.
    pub(super) fn call_off(&self) {
        self.0.iter().for_each(|held| held.channel.hang_up());
    }

    /// A shim was there.
    pub(super) fn has_begun(&self) -> bool {
        self.0.as_ref().is_some_and(|held| held.shim.is_some())
    }

    /// It has said how it ended: what it was to leave behind is left.
    pub(super) fn ended(mut self) {
        self.0.take().iter().for_each(Held::forget);
    }

    /// Kills its shim, and what there is of its tree. Errors: something does not die.
    pub(super) async fn kill(mut self) -> Result<(), StillThere> {
        let Some(held) = &self.0 else { return Ok(()) };
        held.kill().await?;
        // Whoever goes away before this has it done all the same.
        self.0 = None;
        Ok(())
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        let Some(mut held) = self.0.take() else { return };
        held.channel.hang_up();
        // Without a runtime the daemon ends: a shim that was stopped cannot be waited for.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            match tokio::time::timeout(ANSWER_SLACK, held.heard()).await {
                Ok(Some(_)) => held.forget(),
                _ => {
                    if let Err(StillThere(count)) = held.kill().await {
                        tracing::warn!(count, "processes of a command that was called off do not die");
                    }
                }
            }
        });
    }
}

impl Held {
    async fn heard(&mut self) -> Option<FromShim> {
        loop {
            match self.channel.receive().await {
                Ok(Some(FromShim::Here { pid, begun })) => self.shim = Some(Who { pid, begun }),
                Ok(message) => return message,
                // A later version means something else by it.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                Err(_) => return None,
            }
        }
    }

    async fn kill(&self) -> Result<(), StillThere> {
        // First of all: it makes nothing any more, and its children are killed or become orphans.
        let is_dead = match self.shim {
            Some(shim) => shim.kill().await,
            None => true,
        };
        tree::clear(Tree::of_exec(self.mark.clone())).await?;
        self.forget();
        if is_dead { Ok(()) } else { Err(StillThere(1)) }
    }

    /// Its shim has taken the note back, unless it was killed, or never was.
    fn forget(&self) {
        self.note.iter().for_each(|note| drop(std::fs::remove_file(note)));
    }
}

impl Who {
    /// Kills it, and waits until it is gone. `false`: it does not die, or there are no descriptors left.
    async fn kill(self) -> bool {
        for _ in 0..HOLD_TRIES {
            match self.hold() {
                Ok(None) => return true,
                Ok(Some(process)) => {
                    // Gone in between is as good.
                    let _ = rustix::process::pidfd_send_signal(&process, Signal::KILL);
                    let Ok(process) = crate::readiness::register(process, Interest::READABLE) else {
                        return false;
                    };
                    return tokio::time::timeout(DEATH_PATIENCE, process.readable()).await.is_ok();
                }
                Err(_) => tokio::time::sleep(HOLD_AGAIN).await,
            }
        }
        false
    }

    /// Held, so that its number means nobody else from here on; and only then it is looked whose it is.
    /// `None`: it is gone.
    fn hold(self) -> io::Result<Option<std::os::fd::OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(None) };
        let process = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Err(Errno::SRCH | Errno::INVAL) => return Ok(None),
            process => process?,
        };
        Ok((tree::life_of(self.pid)? == Some(self.begun)).then_some(process))
    }
}
