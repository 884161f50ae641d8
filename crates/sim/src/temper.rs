//! How a process behaves: what its probes are answered, what it says of itself, and when.

use upbeat_decide::instance::{Said, Watchdog};
use upbeat_model::project::Question;
use upbeat_model::{Mono, Service};

use crate::pace::Pace;
use crate::random::Random;
use crate::services::never_passes;

/// The number of a process that another one names as its main one is so much larger.
const CHILDREN: i32 = 1_000_000;

/// What one process answers to one question.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Temper {
    /// It passes from then on,
    pub(crate) passes_from: u64,
    /// until then,
    fails_from: u64,
    /// and not while it flaps.
    flaps: bool,
    /// From the time on that it fails it does not answer at all.
    hangs: bool,
}

impl Temper {
    /// Of the process with this character: the same whenever it is asked.
    pub(crate) fn of(character: u64, question: &Question, begun: u64, pace: Pace) -> Self {
        let text = question.to_string();
        let hash =
            text.bytes().fold(character, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let mut random = Random::new(hash);
        let (soon, late) = (random.below(2_000), random.below(60_000));
        let passes_from = begun + pace.stretch(if random.percent(80) { soon } else { late });
        let (lives, life) = (random.percent(65), random.below(60_000));
        let never = *question == never_passes();
        Self {
            passes_from: if never { u64::MAX } else { passes_from },
            fails_from: if lives { u64::MAX } else { passes_from.saturating_add(pace.stretch(life)) },
            flaps: random.percent(20),
            hangs: random.percent(50),
        }
    }

    /// Yes or no; nothing where it hangs.
    pub(crate) fn answer(&self, now: u64, random: &mut Random) -> Option<bool> {
        if now >= self.fails_from && self.hangs {
            return None;
        }
        let flaps = self.flaps && random.percent(30);
        Some((self.passes_from..self.fails_from).contains(&now) && !flaps)
    }
}

/// One thing that a process says of itself, or that its shim notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Ready,
    Status,
    Stopping,
    MainPid(i32),
    Extend(u64),
    Alive,
    Expired,
    Triggered,
}

impl Word {
    /// All that was said, with this.
    pub(crate) fn add_to(self, said: &mut Said, now: u64) {
        match self {
            Self::Ready => said.ready = true,
            Self::Status => said.status = Some("busy".to_owned()),
            Self::Stopping => said.stopping = true,
            Self::MainPid(pid) => said.main_pid = Some(pid),
            Self::Extend(by) => said.extended = Some(Mono(now + by)),
            Self::Alive => said.watchdog = Watchdog::Alive,
            Self::Expired | Self::Triggered => {
                said.expiries += 1;
                said.watchdog = match self {
                    Self::Expired => Watchdog::Expired,
                    _ => Watchdog::Triggered,
                };
            }
        }
    }
}

/// What a process under this file will say, and how long after its start.
pub(crate) fn words(spec: &Service, pid: i32, random: &mut Random, pace: Pace) -> Vec<(u64, Word)> {
    let mut words = Vec::new();
    if !spec.notifies() {
        return words;
    }
    let ready = if random.percent(80) { random.below(2_000) } else { random.below(60_000) };
    if random.percent(85) {
        words.push((pace.stretch(ready), Word::Ready));
    }
    if random.percent(20) {
        words.push((random.below(500), Word::Status));
    }
    if random.percent(10) {
        words.push((random.below(20), Word::MainPid(pid + CHILDREN)));
    }
    if random.percent(30) {
        words.push((random.below(2_000), Word::Extend(pace.stretch(random.below(10_000)))));
    }
    if random.percent(5) {
        words.push((pace.stretch(random.below(20_000)), Word::Stopping));
    }
    let Some(every) = spec.watchdog() else { return words };
    if random.percent(10) {
        // Never a word: its time runs from the start.
        words.push((every.0, Word::Expired));
        return words;
    }
    words.push((random.below(every.0.min(400)), Word::Alive));
    let mut at = pace.stretch(1_000 + random.below(40_000));
    for _ in 0..random.below(4) {
        let silent = *random.pick(&[Word::Expired, Word::Expired, Word::Triggered]);
        words.push((at, silent));
        at += 1 + pace.stretch(random.below(20_000));
        if random.percent(60) {
            words.push((at, Word::Alive));
            at += every.0 + pace.stretch(random.below(20_000));
        } else {
            break;
        }
    }
    words
}
