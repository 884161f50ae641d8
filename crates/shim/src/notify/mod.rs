//! What a process says of itself by the protocol of `sd_notify(3)`, and whether it still says that
//! all is well.
//!
//! `Notify` is what is known, without a socket and without a clock: it is handed datagrams and the
//! time. The socket is the shim's, so that what is said while no daemon lives is kept. Nothing here
//! acts upon what is known: an expired watchdog is told, and that is all.

mod message;
mod notices;
mod socket;

pub use message::{DATAGRAM_MAX, STATUS_MAX};
use message::{Message, Watchdog};
pub(crate) use notices::{Notices, WATCHDOG_PID};

use crate::spec;

/// Nobody needs longer at once; whoever does asks again.
const EXTENSION_MAX_MS: u64 = 24 * 60 * 60 * 1000;

/// What a process has said of itself, and what its watchdog has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotifyState {
    /// It has said once that it is ready.
    pub ready: bool,
    /// It reloads its configuration: said, and not followed by that it is ready.
    pub reloading: bool,
    /// How often it has begun to.
    pub reloads: u32,
    /// When it began the last time, in microseconds on the clock `CLOCK_MONOTONIC`, as it said itself.
    pub reload_usec: Option<u64>,
    /// It has said that it is about to end.
    pub stopping: bool,
    /// What it says of how it is: one line, of [`STATUS_MAX`] bytes at most, without control characters.
    pub status: Option<String>,
    /// What went wrong, as a number of the system, 1 to 4095.
    pub errno: Option<i32>,
    /// The process that it says is its main one, if it has said so: one of its tree.
    pub main_pid: Option<i32>,
    /// It has asked for time until then, in milliseconds on the boot clock.
    pub extended_until_ms: Option<u64>,
    /// What is known of its watchdog.
    pub watchdog: WatchdogState,
}

/// What is known of a watchdog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchdogState {
    /// It is to be heard of at least so often, in milliseconds. None: there is no watchdog.
    pub interval_ms: Option<u64>,
    /// When it was heard of last, in milliseconds on the boot clock; as of when this state was told, as
    /// to be heard of again is no news.
    pub last_ping_ms: Option<u64>,
    /// It was not heard of for too long, or has asked to be treated so; and not heard of since.
    pub expired: bool,
    /// It has asked for it.
    pub triggered: bool,
    /// How often that has come to pass: also what has passed by the time it is told is seen.
    pub expiries: u32,
}

/// What time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Now {
    /// In milliseconds on the boot clock.
    pub(crate) boot_ms: u64,
    /// In milliseconds on a clock that stands still while the machine sleeps: whoever was not let run
    /// has missed no ping.
    pub(crate) awake_ms: u64,
}

/// What a datagram has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Something that is to be told: see [`Notify::state`].
    pub(crate) is_news: bool,
    /// It has asked for time until then, in milliseconds on the boot clock.
    pub(crate) extended_until_ms: Option<u64>,
}

/// What is known of one process.
///
/// The watchdog runs from when the process says that it is ready, or that all is well, until it says
/// that it is about to end, or is asked to. Where nobody waits for it to be ready, it runs from the
/// start: who hangs before the first word would never be found out.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    state: NotifyState,
    /// As ordered: what the process says of it is only for itself.
    ordered: spec::Notify,
    /// The watchdog runs.
    is_watched: bool,
    /// It runs since the start, and nothing was heard yet.
    is_unheard: bool,
    /// It was asked to stop.
    is_asked_to_stop: bool,
    /// When the watchdog expires, on the clock that stands still.
    expires_ms: Option<u64>,
}

impl Notify {
    /// Of a process that has not said anything yet.
    pub(crate) fn new(ordered: spec::Notify) -> Self {
        let watchdog = WatchdogState { interval_ms: ordered.watchdog_ms, ..WatchdogState::default() };
        Self { state: NotifyState { watchdog, ..NotifyState::default() }, ordered, ..Self::default() }
    }

    /// It was executed.
    pub(crate) fn begin(&mut self, now: Now) {
        let first = self.ordered.first_ms.filter(|_| self.ordered.watchdog_ms.is_some());
        self.expires_ms = first.map(|first| now.awake_ms.saturating_add(first));
        (self.is_watched, self.is_unheard) = (first.is_some(), first.is_some());
    }

    /// What is known.
    pub(crate) fn state(&self) -> &NotifyState {
        &self.state
    }

    /// Takes what somebody has said who may. `follow` takes on a process as the main one, and says
    /// whether it may be that.
    pub(crate) fn take(&mut self, datagram: &[u8], follow: impl FnOnce(i32) -> bool, now: Now) -> Changes {
        let said = Message::parse(datagram);
        let state = &mut self.state;
        let mut is_news = false;
        if let Some(pid) = said.main_pid.filter(|pid| state.main_pid != Some(*pid))
            && follow(pid)
        {
            is_news |= set(&mut state.main_pid, Some(pid));
        }
        if let Some(status) = said.status {
            is_news |= set(&mut state.status, Some(status).filter(|text| !text.is_empty()));
        }
        if let Some(errno) = said.errno {
            is_news |= set(&mut state.errno, Some(errno).filter(|errno| *errno != 0));
        }
        if said.reloading && !said.stopping {
            state.reloads = state.reloads.wrapping_add(1);
            state.reload_usec = said.monotonic_usec;
            state.reloading = true;
            is_news = true;
        }
        // Both in one: it has reloaded already.
        if said.ready {
            is_news |= set(&mut state.reloading, false) | set(&mut state.ready, true);
        }
        if said.stopping {
            is_news |= set(&mut state.reloading, false) | set(&mut state.stopping, true);
        }
        let extended_until_ms = said.extend_usec.map(|usec| {
            let until = now.boot_ms.saturating_add(usec.div_ceil(1000).min(EXTENSION_MAX_MS));
            // What was granted is not taken back.
            let until = state.extended_until_ms.map_or(until, |granted| granted.max(until));
            is_news |= set(&mut state.extended_until_ms, Some(until));
            until
        });
        is_news |= self.take_watchdog(said.watchdog, said.watchdog_usec, said.ready, now);
        Changes { is_news, extended_until_ms }
    }

    /// Whether it is news.
    fn take_watchdog(&mut self, said: Option<Watchdog>, usec: Option<u64>, ready: bool, now: Now) -> bool {
        let watchdog = &mut self.state.watchdog;
        let mut is_news = false;
        if let Some(usec) = usec {
            // Another interval it may ask for; that it is watched is not its own to say.
            let asked = Some(usec.div_ceil(1000)).filter(|ms| *ms > 0);
            is_news |= set(&mut watchdog.interval_ms, asked.or(self.ordered.watchdog_ms));
        }
        let is_over = self.state.stopping || self.is_asked_to_stop;
        let begins = ready && (!self.is_watched || self.is_unheard);
        self.is_unheard &= !ready && said != Some(Watchdog::Ping);
        self.is_watched = !is_over && (self.is_watched || ready || said == Some(Watchdog::Ping));
        match said {
            Some(Watchdog::Trigger) if !is_over => {
                watchdog.triggered = true;
                self.expires_ms = None;
                self.expire();
                return true;
            }
            Some(Watchdog::Ping) => {
                // That it is heard of at all is news, once.
                is_news |= watchdog.last_ping_ms.replace(now.boot_ms).is_none();
                is_news |= set(&mut watchdog.expired, false) | set(&mut watchdog.triggered, false);
            }
            _ => {}
        }
        if !self.is_watched {
            self.expires_ms = None;
        } else if said == Some(Watchdog::Ping) || usec.is_some() || begins {
            // One that has expired is only wound up again by being heard of.
            let interval = self.state.watchdog.interval_ms.filter(|_| !self.state.watchdog.expired);
            self.expires_ms = interval.map(|interval| now.awake_ms.saturating_add(interval));
        }
        is_news
    }

    fn expire(&mut self) {
        self.state.watchdog.expired = true;
        self.state.watchdog.expiries = self.state.watchdog.expiries.wrapping_add(1);
    }

    /// It was asked to stop: nobody waits for it to be well any more, and the time it has asked for until
    /// now was for something else.
    pub(crate) fn ask_to_stop(&mut self) {
        if !std::mem::replace(&mut self.is_asked_to_stop, true) {
            self.state.extended_until_ms = None;
        }
        self.is_watched = false;
        self.expires_ms = None;
    }

    /// When the watchdog expires, if it runs: `awake_ms`.
    pub(crate) fn expires_ms(&self) -> Option<u64> {
        self.expires_ms
    }

    /// Whether the watchdog has expired by now, which is said once.
    pub(crate) fn due(&mut self, now: Now) -> bool {
        let is_due = self.expires_ms.is_some_and(|at| at <= now.awake_ms);
        if is_due {
            self.expires_ms = None;
            self.expire();
        }
        is_due
    }
}

/// Whether it was another.
fn set<T: PartialEq>(field: &mut T, value: T) -> bool {
    let is_other = *field != value;
    *field = value;
    is_other
}

#[cfg(test)]
mod tests;
