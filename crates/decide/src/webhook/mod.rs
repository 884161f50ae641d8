//! A webhook: what it tells next, when, and when no more.
//!
//! ```text
//!            an event, or a gap
//!   looking ────────────────────▶ telling ── 2xx ──▶ looking
//!      ▲                             │
//!      │ its time has come           ├── 410 ──▶ off
//!      └──────── waiting ◀───────────┘ anything else
//! ```
//!
//! Laws: nothing is told after what was not taken, so a receiver hears in order; what was taken is never asked
//! for again, and only what was taken, or was not wanted, is passed over. What the journal has dropped
//! meanwhile is told of as such.

#[cfg(test)]
mod tests;

use upbeat_model::{Millis, Mono};

/// What was not taken is told again so much later at least, and each further time twice as long as the one
/// before. As other senders do: a receiver that is being replaced is back within some seconds.
pub const FIRST_WAIT: Millis = Millis::seconds(1);

/// No wait is longer: who mends a receiver sees it work within some minutes.
pub const LONGEST_WAIT: Millis = Millis::seconds(5 * 60);

/// What stands in the journal behind a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// Nothing that is wanted, up to this number.
    Nothing(u64),
    /// The event of this number.
    Event(u64),
    /// There is no more of these, from the first to the last.
    Lost(u64, u64),
}

/// What is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parcel {
    /// The event of this number.
    Event(u64),
    /// That these are lost, from the first to the last.
    Lost(u64, u64),
}

impl Parcel {
    /// With this one all up to this number is told.
    const fn last(self) -> u64 {
        match self {
            Self::Event(last) | Self::Lost(_, last) => last,
        }
    }
}

/// What came of telling it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was taken.
    Taken,
    /// The receiver is gone for good, it says.
    Gone,
    /// It was not taken, or nobody knows.
    Failed,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Look what stands behind this number, and say so by [`Hook::found`].
    Look(u64),
    /// Nothing, until then.
    WaitUntil(Mono),
    /// Nothing any more.
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Looking,
    Waiting(Mono),
    Off,
}

/// One webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Up to this number all is told, or was not wanted.
    after: u64,
    failures: u32,
    state: State,
}

impl Hook {
    /// One that was there before, and had told all up to `kept`; or a new one, which tells what happens from
    /// now on. `last`: the number of the last event there is. Where that is smaller than what was told, the
    /// journal has begun anew, or was set back by a power cut: it is told all that is new.
    pub fn new(kept: Option<u64>, last: u64) -> Self {
        Self { after: kept.map_or(last, |kept| kept.min(last)), failures: 0, state: State::Looking }
    }

    /// Up to this number all is told, or was not wanted.
    pub fn after(&self) -> u64 {
        self.after
    }

    /// So many times in a row something was not taken.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// What to do.
    pub fn step(&self, now: Mono) -> Step {
        match self.state {
            State::Looking => Step::Look(self.after),
            State::Waiting(until) if until <= now => Step::Look(self.after),
            State::Waiting(until) => Step::WaitUntil(until),
            State::Off => Step::Off,
        }
    }

    /// What to tell, of what stands behind the number it looked at; none: nothing until there is more.
    pub fn found(&mut self, stands: Stands) -> Option<Parcel> {
        match stands {
            Stands::Nothing(up_to) => {
                self.after = self.after.max(up_to);
                None
            }
            Stands::Event(number) => Some(Parcel::Event(number)),
            Stands::Lost(first, last) => Some(Parcel::Lost(first, last)),
        }
    }

    /// Something was told, and this came of it. `chance`: any number, so that hooks that failed together do not
    /// come back together.
    pub fn came_of(&mut self, parcel: Parcel, outcome: Outcome, now: Mono, chance: u64) {
        match outcome {
            Outcome::Taken => {
                self.after = parcel.last();
                self.failures = 0;
                self.state = State::Looking;
            }
            Outcome::Gone => self.state = State::Off,
            Outcome::Failed => self.failed(now, chance),
        }
    }

    /// Nothing could be told.
    pub fn failed(&mut self, now: Mono, chance: u64) {
        self.failures = self.failures.saturating_add(1);
        self.state = State::Waiting(now + wait(self.failures, chance));
    }
}

/// After so many failures in a row, from 1: between a time and twice that time, and never longer than the
/// longest.
fn wait(failures: u32, chance: u64) -> Millis {
    let doublings = failures.saturating_sub(1).min(16);
    let least = (FIRST_WAIT.0 << doublings).min(LONGEST_WAIT.0 / 2);
    Millis(least + chance % (least + 1))
}
