//! The rhythm of one probe: when to ask, and what an answer means.
//!
//! Counted probes come every `interval` (every `start_interval` until the first yes within
//! `start_period`, where a no does not count), the first of them one interval after `initial_delay`.
//! Until the first yes there are *eager* ones between them, whose noes never count: a service that is
//! ready after 40 ms is seen ready after 40 ms, whatever its interval. Sources: the Compose
//! Specification, "healthcheck"; the probes of Kubernetes, whose thresholds and delays these are.
//!
//! After a restart of the daemon whatever had passed is asked at once: until it has answered, its yes
//! is only a memory.

use upbeat_model::project::{Probe, Question};
use upbeat_model::{Millis, Mono};

use super::said::{Said, Watchdog};
use crate::rules::{Bug, Rules};

/// The first eager probe comes so soon after the start; the gap doubles with each.
const EAGER_FIRST: Millis = Millis(10);

/// Eager probes are never further apart, so that readiness is seen within a second.
const EAGER_CEILING: Millis = Millis::seconds(1);

/// So long after the start, and its `start_period`, nobody waits eagerly any more: what is not ready by
/// then is asked at its interval.
const EAGER_FOR: Millis = Millis::seconds(60);

/// A log that could not be watched is tried again.
const WATCH_AGAIN: Millis = Millis::seconds(1);

/// A probe that could not be asked is asked again.
const ASK_AGAIN: Millis = Millis::seconds(1);

/// A probe that is not answered so long after its timeout waits for its turn behind many others, or
/// its answer was lost. Either says nothing about the service: it is asked again, and not counted.
const LOST_AFTER: Millis = Millis::seconds(2);

/// From this interval on, probes that were first passed together, or first asked by a new daemon, are
/// asked at different times from then on.
const SPREAD_FROM: Millis = Millis::seconds(1);

/// What is known of a probe's answers so far. Kept across a restart of the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Answer {
    /// What was asked, by its [`Question::identity`]: this is written for each change of a slot. An
    /// answer to something else says nothing.
    pub to: Option<String>,
    /// There was a yes.
    pub was_yes: bool,
    /// The last verdict.
    pub passing: Option<bool>,
    /// What is to be done about its no was done as often as it may be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spent: bool,
    /// How many [`Said::expiries`] have been taken for a no.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub expiries: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing.
    Rest,
    /// Ask.
    Ask,
    /// Have the log watched for the line.
    Watch,
    /// It has said so itself.
    Yes,
    /// Its time is over without a word, or it has said so itself.
    No,
}

/// What an answer has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing new.
    Same,
    /// A threshold of noes is full, once more.
    Failed,
}

/// The rhythm of one probe of one process. Not kept across a restart of the daemon: it begins anew.
#[derive(Clone, Debug)]
pub(super) struct Rhythm {
    /// Which one of this copy it is: what another was answered says nothing to it.
    pub(super) number: u64,
    /// Counted noes in a row.
    pub(super) failures: u32,
    /// Yeses in a row.
    successes: u32,
    /// What the last probe said.
    pub(super) last: Option<String>,
    /// Why it could not be asked the last time, if so.
    pub(super) unasked: Option<String>,
    /// The next counted one.
    next: Option<Mono>,
    /// The next eager one.
    eager: Option<Mono>,
    gap: Millis,
    asked: Option<Asked>,
    watch: Watch,
    /// This daemon has heard an answer.
    pub(super) is_heard: bool,
    /// It has said yes in this rhythm.
    has_passed: bool,
    /// Of a thousandth of an interval, by slot and probe: the first interval after the first yes is so
    /// much shorter.
    spread: u64,
}

/// Whether somebody waits for a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Watch {
    #[default]
    Wanted,
    Set,
    /// It could not be; it is tried again.
    Failed {
        again: Mono,
    },
}

/// A probe is out; it is asked again if unanswered by then, and it counts or does not.
#[derive(Clone, Copy, Debug)]
struct Asked {
    lost_at: Mono,
    counts: bool,
}

/// What a rhythm may look at.
pub(super) struct Beat<'a> {
    pub(super) probe: &'a Probe,
    pub(super) now: Mono,
    /// When its process was started.
    pub(super) started: Mono,
    /// It is worth being asked more often until the first yes: somebody may wait for that.
    pub(super) is_awaited: bool,
    /// What the service says of itself.
    pub(super) said: &'a Said,
    /// How many noes in a row are a no.
    pub(super) threshold: u32,
    /// Which deliberate bug a test has planted.
    pub(super) rules: Rules,
}

impl Beat<'_> {
    fn interval(&self, answer: &Answer) -> Millis {
        let starting = !answer.was_yes && self.now.since(self.started) < self.probe.start_period;
        if starting { self.probe.start_interval } else { self.probe.interval }
    }

    /// Its watchdog has expired, and nothing was judged by that yet. A new daemon has heard of none before
    /// the shim has told it.
    fn has_expired(&self, answer: &Answer) -> bool {
        self.said.expiries > answer.expiries
    }

    /// A no is forgiven: it may still be starting. More time is for whoever has not said that it is
    /// ready.
    fn forgives(&self, answer: &Answer) -> bool {
        let has_more_time = !self.said.ready && self.said.extended.is_some_and(|until| until > self.now);
        let starting = self.now.since(self.started) < self.probe.start_period || has_more_time;
        !answer.was_yes && starting && !self.rules.has(Bug::ForgiveNothing)
    }
}

impl Rhythm {
    /// `seed`: spreads those that begin together. `is_heard`: this daemon had an answer already.
    pub(super) fn new(number: u64, seed: u64, is_heard: bool) -> Self {
        Self {
            number,
            failures: 0,
            successes: 0,
            last: None,
            unasked: None,
            next: None,
            eager: None,
            gap: EAGER_FIRST,
            asked: None,
            watch: Watch::default(),
            is_heard,
            has_passed: false,
            spread: seed % 500,
        }
    }

    /// When to look at this next.
    pub(super) fn due(&self, beat: &Beat<'_>, answer: &Answer) -> Option<Mono> {
        let counted = self.next.unwrap_or(beat.started);
        match beat.probe.ask {
            Question::Log(_) => {
                let again = match self.watch {
                    Watch::Failed { again } => Some(again),
                    Watch::Wanted => Some(beat.started),
                    Watch::Set => None,
                };
                (!answer.was_yes).then(|| again.map_or(counted, |again| again.min(counted)))
            }
            Question::Notify => (!answer.was_yes).then_some(counted),
            // Told when it expires; from then on each further interval is one more no.
            Question::Watchdog(_) => match beat.said.watchdog {
                _ if self.has_news(beat, answer) => Some(beat.started),
                Watchdog::Expired | Watchdog::Triggered => Some(counted),
                Watchdog::Off | Watchdog::Alive => self.next.is_none().then_some(beat.started),
            },
            _ => match (self.asked, self.next, self.eager) {
                (Some(asked), ..) => Some(asked.lost_at),
                (None, None, _) => Some(beat.started),
                (None, Some(counted), Some(eager)) => Some(counted.min(eager)),
                (None, counted, None) => counted,
            },
        }
    }

    /// What to do now. Whoever is told to ask has asked.
    pub(super) fn turn(&mut self, beat: &Beat<'_>, answer: &Answer) -> Turn {
        self.asked.take_if(|asked| asked.lost_at <= beat.now);
        if self.asked.is_some() {
            return Turn::Rest;
        }
        if self.next.is_none() {
            self.begin(beat, answer);
        }
        let counts = self.next.is_none_or(|at| at <= beat.now);
        match &beat.probe.ask {
            Question::Log(_) => self.await_line(counts, beat, answer),
            Question::Notify if answer.was_yes => Turn::Rest,
            Question::Notify if beat.said.ready => Turn::Yes,
            Question::Notify if counts => self.no(beat),
            Question::Notify => Turn::Rest,
            Question::Watchdog(_) => self.await_sign(counts, beat, answer),
            _ => {
                let eager = !answer.was_yes && self.eager.is_some_and(|at| at <= beat.now);
                if !counts && !eager {
                    return Turn::Rest;
                }
                let counts = counts || beat.rules.has(Bug::CountEagerNoes);
                self.asked = Some(Asked { lost_at: beat.now + beat.probe.timeout + LOST_AFTER, counts });
                Turn::Ask
            }
        }
    }

    fn await_line(&mut self, counts: bool, beat: &Beat<'_>, answer: &Answer) -> Turn {
        let due = match self.watch {
            Watch::Wanted => true,
            Watch::Failed { again } => again <= beat.now,
            Watch::Set => false,
        };
        match (answer.was_yes, due, counts) {
            (true, ..) => Turn::Rest,
            (false, true, _) => {
                self.watch = Watch::Set;
                Turn::Watch
            }
            (false, false, true) => self.no(beat),
            (false, false, false) => Turn::Rest,
        }
    }

    /// Whether its watchdog has come to something that was not judged yet.
    fn has_news(&self, beat: &Beat<'_>, answer: &Answer) -> bool {
        // A no may be one that a rhythm or a daemon before this one came to.
        let is_alive =
            beat.said.watchdog == Watchdog::Alive && (answer.passing != Some(true) || self.failures > 0);
        (beat.has_expired(answer) || is_alive) && !beat.rules.has(Bug::IgnoreWatchdogs)
    }

    /// That it has expired since it was last judged is a no, however often it has, and also where that was
    /// over before anybody heard of it.
    fn await_sign(&mut self, counts: bool, beat: &Beat<'_>, answer: &Answer) -> Turn {
        match beat.said.watchdog {
            _ if beat.rules.has(Bug::IgnoreWatchdogs) => Turn::Rest,
            _ if beat.has_expired(answer) => self.no(beat),
            Watchdog::Alive if self.has_news(beat, answer) => Turn::Yes,
            Watchdog::Expired | Watchdog::Triggered if counts => self.no(beat),
            _ => Turn::Rest,
        }
    }

    fn begin(&mut self, beat: &Beat<'_>, answer: &Answer) {
        let first = beat.started + beat.probe.initial_delay;
        if answer.was_yes {
            // Found again after a restart of the daemon: ask at once, it may have changed.
            self.next = Some(beat.now);
            return;
        }
        let first = first.max(beat.now);
        self.next = Some(first + beat.interval(answer));
        self.eager = Some(first);
    }

    fn no(&mut self, beat: &Beat<'_>) -> Turn {
        self.asked = Some(Asked { lost_at: beat.now, counts: true });
        Turn::No
    }

    /// It could not be asked at all, which says nothing about the service.
    pub(super) fn cannot_watch(&mut self, why: String, beat: &Beat<'_>) {
        self.watch = Watch::Failed { again: beat.now + WATCH_AGAIN };
        self.last = Some(why);
    }

    /// It could not be asked for want of something of ours: it is asked again soon, and is not counted.
    pub(super) fn cannot_ask(&mut self, why: String, now: Mono) {
        if let Some(asked) = &mut self.asked {
            asked.lost_at = now + ASK_AGAIN;
            self.unasked = Some(why);
        }
    }

    /// An answer came.
    pub(super) fn judge(
        &mut self,
        yes: bool,
        message: String,
        beat: &Beat<'_>,
        answer: &mut Answer,
    ) -> Verdict {
        if self.asked.is_none() && !beat.probe.ask.is_told() {
            // It was given up, or another question is asked now.
            return Verdict::Same;
        }
        let counts = self.asked.take().is_some_and(|asked| asked.counts);
        self.is_heard = true;
        self.unasked = None;
        if matches!(beat.probe.ask, Question::Watchdog(_)) {
            answer.expiries = answer.expiries.max(beat.said.expiries);
        }
        if !matches!(self.watch, Watch::Failed { .. }) {
            self.last = Some(message);
        }
        let verdict = match yes {
            true => self.passed(beat, answer),
            false => self.refused(counts, beat, answer),
        };
        let is_first = yes && answer.was_yes && !std::mem::replace(&mut self.has_passed, true);
        if counts || yes || self.next.is_none() {
            let interval = beat.interval(answer);
            let early = if is_first && interval >= SPREAD_FROM { interval.0 * self.spread / 1000 } else { 0 };
            self.next = Some(beat.now + Millis(interval.0 - early));
        }
        let is_young = beat.now < beat.started + beat.probe.start_period + EAGER_FOR;
        let is_eager = beat.is_awaited && is_young && beat.probe.success_threshold <= 1;
        self.eager = (is_eager && !answer.was_yes).then_some(beat.now + self.gap);
        self.gap = Millis((self.gap.0 * 2).clamp(EAGER_FIRST.0, EAGER_CEILING.0));
        verdict
    }

    fn passed(&mut self, beat: &Beat<'_>, answer: &mut Answer) -> Verdict {
        self.failures = 0;
        self.successes = self.successes.saturating_add(1);
        // What it is told is said once, and not again for each time that it is looked at.
        let is_enough = self.successes >= beat.probe.success_threshold || beat.probe.ask.is_told();
        if is_enough || beat.rules.has(Bug::BelieveFirstYes) || answer.passing == Some(true) {
            (answer.was_yes, answer.passing, answer.spent) = (true, Some(true), false);
        }
        Verdict::Same
    }

    fn refused(&mut self, counts: bool, beat: &Beat<'_>, answer: &mut Answer) -> Verdict {
        self.successes = 0;
        if !counts || beat.forgives(answer) {
            return Verdict::Same;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures < beat.threshold {
            return Verdict::Same;
        }
        answer.passing = Some(false);
        // What was done about it may need as long as it took to be seen: then once more.
        match self.failures.is_multiple_of(beat.threshold.max(1)) {
            true => Verdict::Failed,
            false => Verdict::Same,
        }
    }
}
