//! Reading what a process says of itself: of whom, how much at once, and when to tell daemons.
//!
//! Everybody on the machine can send something here; whoever does not belong to the tree gains by it
//! that this process reads it and throws it away, and can have no more of it than a share of its time.

use std::os::fd::OwnedFd;

use super::socket::{Hurry, Read, Sender, Socket};
use super::{DATAGRAM_MAX, Notify, NotifyState, Now};
use crate::spec;
use crate::system::{awake_ms, boot_ms};
use crate::tree;
use crate::user::User;
use crate::wire::End;

/// What a process is told where to say something, and what is asked of it. Whatever it was given under
/// these names by others is not meant for it.
const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", WATCHDOG_PID];

/// Its number is only known when it is there.
pub(crate) const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// Messages read in one turn, between which output is read and orders are heard.
const TURN: usize = 64;

/// The longest queue the kernel keeps for a socket where systemd has set it. Before a process is held
/// to be silent, and for one that has ended, all that was said before is read.
const QUEUE: usize = 512;

/// A turn takes no longer, and reading a whole queue no longer than that: a message takes microseconds,
/// unless somebody makes it hard.
const TURN_MS: u64 = 20;
const QUEUE_MS: u64 = 200;

/// Daemons are told at once, but then not again for so long: a process can say more than anybody wants
/// to hear.
const BETWEEN_TELLS_MS: u64 = 50;

/// A daemon that did not take it is told again after so long.
const TELL_AGAIN_MS: u64 = 1000;

/// What one process says of itself.
pub(crate) struct Notices {
    socket: Socket,
    /// The one it is started as.
    user: Option<User>,
    notify: Notify,
    /// What is known was not told yet: when to.
    tell_at_ms: Option<u64>,
    told_at_ms: Option<u64>,
}

fn now() -> Now {
    Now { boot_ms: boot_ms(), awake_ms: awake_ms() }
}

impl Notices {
    /// Makes the socket. Errors: what the system said.
    pub(crate) fn open(order: spec::Notify) -> std::io::Result<Self> {
        let (socket, notify) = (Socket::open()?, Notify::new(order));
        Ok(Self { socket, user: None, notify, tell_at_ms: None, told_at_ms: None })
    }

    /// Who it is that will say something.
    pub(crate) fn expect(&mut self, user: Option<User>) {
        self.user = user;
    }

    /// It was executed.
    pub(crate) fn begin(&mut self) {
        self.notify.begin(now());
    }

    /// Says so to the process by its variables, all but its number.
    pub(crate) fn invite(&self, environment: &mut Vec<Vec<u8>>) {
        let is_ours = |entry: &[u8]| {
            VARIABLES
                .iter()
                .any(|name| entry.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b"=")))
        };
        environment.retain(|entry| !is_ours(entry));
        environment.push(format!("NOTIFY_SOCKET={}", self.socket.address()).into_bytes());
        if let Some(interval) = self.state().watchdog.interval_ms {
            environment.push(format!("WATCHDOG_USEC={}", interval.saturating_mul(1000)).into_bytes());
        }
    }

    /// To wait for.
    pub(crate) fn fd(&self) -> &OwnedFd {
        self.socket.fd()
    }

    /// What is known.
    pub(crate) fn state(&self) -> &NotifyState {
        self.notify.state()
    }

    /// The process was asked to stop.
    pub(crate) fn ask_to_stop(&mut self) {
        self.notify.ask_to_stop();
    }

    /// How long nothing is to be done here, in milliseconds, if nothing is said.
    pub(crate) fn pause_ms(&self) -> Option<u64> {
        let Now { boot_ms, awake_ms } = now();
        let expires = self.notify.expires_ms().map(|at| at.saturating_sub(awake_ms));
        let tell = self.tell_at_ms.map(|at| at.saturating_sub(boot_ms));
        expires.into_iter().chain(tell).min()
    }

    /// Reads what was said, and sees whether too long nothing was. Until when more time was asked for,
    /// on the boot clock.
    ///
    /// Heard are the processes of the tree, as it is now, and those that have `ended` just now. One
    /// that its own parent has reaped already is not: nothing is known of it any more. Whoever sends
    /// and ends at once waits for a barrier first, as `systemd-notify` does.
    // Its buffer shall be on the stack of none but those that have something to read.
    #[inline(never)]
    pub(crate) fn read(&mut self, ended: &[(i32, End)], mut follow: impl FnMut(i32) -> bool) -> Option<u64> {
        let begun = now();
        let is_due = self.notify.expires_ms().is_some_and(|at| at <= begun.awake_ms);
        let (most, longest) = match is_due || !ended.is_empty() {
            true => (QUEUE, QUEUE_MS),
            false => (TURN, TURN_MS),
        };
        let (mut is_news, mut extended) = (false, None);
        let mut buffer = [0; DATAGRAM_MAX];
        let hurry = Hurry::begin();
        for _ in 0..most {
            let (sender, datagram) = match self.socket.read(&mut buffer) {
                Read::Nothing => break,
                Read::Useless => continue,
                Read::From(sender, datagram) => (sender, datagram),
            };
            let now = now();
            if self.is_believed(sender, ended) {
                let changes = self.notify.take(datagram, &mut follow, now);
                is_news |= changes.is_news;
                extended = extended.max(changes.extended_until_ms);
            }
            if now.awake_ms.saturating_sub(begun.awake_ms) > longest {
                break;
            }
        }
        drop(hurry);
        // As of before the reading: what was said in time is read by now.
        is_news |= self.notify.due(begun);
        if is_news {
            let soon = self.told_at_ms.map_or(0, |told| told.saturating_add(BETWEEN_TELLS_MS));
            self.tell_at_ms = Some(self.tell_at_ms.map_or(soon, |at| at.min(soon)));
        }
        extended
    }

    /// The number of a process that has ended may be another's by now. So whoever could be in the place
    /// of somebody of the tree must be of a user that could do as it likes with it anyway: the
    /// system's, the daemon's, or the one that process is of.
    fn is_believed(&self, Sender { pid, uid }: Sender, ended: &[(i32, End)]) -> bool {
        let is_of_ours = |uid: u32| {
            uid == 0
                || uid == rustix::process::geteuid().as_raw()
                || self.user.is_some_and(|user| user.uid == uid)
        };
        match ended.iter().any(|(ended, _)| *ended == pid) {
            // As whom it ended is not known any more.
            true => is_of_ours(uid),
            false => tree::is_member(pid) && (is_of_ours(uid) || tree::is_of_user(pid, uid)),
        }
    }

    /// What daemons are to be told now, if anything.
    pub(crate) fn news(&mut self) -> Option<NotifyState> {
        self.news_by(boot_ms())
    }

    /// What they are to be told before nothing more can be.
    pub(crate) fn last_news(&mut self) -> Option<NotifyState> {
        self.news_by(u64::MAX)
    }

    fn news_by(&mut self, now_ms: u64) -> Option<NotifyState> {
        self.tell_at_ms.take_if(|at| *at <= now_ms)?;
        self.told_at_ms = Some(now_ms);
        Some(self.state().clone())
    }

    /// Somebody did not take it.
    pub(crate) fn tell_again(&mut self) {
        self.tell_at_ms = Some(boot_ms().saturating_add(TELL_AGAIN_MS));
    }
}
