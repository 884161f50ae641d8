//! The rhythm of a health check: when to ask, and what an answer means.
//!
//! The counted probes follow the Compose Specification: one every `interval` (every
//! `start_interval` until the first success within `start_period`, where failures do not count).
//! Until the first success there are *eager* probes between them, whose failures never count: a
//! service that is ready after 40 ms is seen ready after 40 ms, whatever its interval.

use upbeat_model::project::{Probe, Question};
use upbeat_model::target::TargetSlot;
use upbeat_model::{Millis, Mono, SlotId};

use super::{Around, Up};
use crate::effect::Effect;
use crate::rules::Bug;

/// The first eager probe comes so soon after the start; the gap doubles with each.
const EAGER_FIRST: Millis = Millis(10);

/// Eager probes are never further apart, so that readiness is seen within a second.
const EAGER_CEILING: Millis = Millis::seconds(1);

/// A log that could not be watched is tried again.
const WATCH_AGAIN: Millis = Millis::seconds(1);

/// A probe that is not answered so long after its timeout waits for its turn behind many others, or
/// its answer was lost. Either says nothing about the service: it is asked again, and not counted.
const LOST_AFTER: Millis = Millis::seconds(2);

/// The probes of one process. Not kept across a restart of the daemon: they begin anew.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Counted failures in a row.
    pub failures: u32,
    /// What the last probe said.
    pub last: Option<String>,
    next_counted: Option<Mono>,
    next_eager: Option<Mono>,
    eager_gap: Millis,
    /// A probe is out; it is asked again if unanswered by then, and it counts or does not.
    asked: Option<Asked>,
    /// The check this is the rhythm of.
    of: Option<Probe>,
    /// Which one of this copy that is: what another one was answered says nothing.
    number: u64,
    watch: Watch,
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

#[derive(Clone, Copy, Debug)]
struct Asked {
    lost_at: Mono,
    counts: bool,
}

impl Health {
    /// When to look at this next.
    pub(super) fn due(&self, up: &Up, wish: &TargetSlot) -> Option<Mono> {
        let check = wish.spec.readiness()?;
        if let Question::Log(_) = check.ask {
            let again = match self.watch {
                Watch::Failed { again } => Some(again),
                Watch::Wanted => Some(up.started),
                Watch::Set => None,
            };
            let counted = self.next_counted.unwrap_or(up.started);
            return (!up.was_ready).then(|| again.map_or(counted, |again| again.min(counted)));
        }
        if let Some(asked) = self.asked {
            return Some(asked.lost_at);
        }
        match (self.next_counted, self.next_eager) {
            (None, _) => Some(up.started),
            (Some(counted), Some(eager)) => Some(counted.min(eager)),
            (counted, None) => counted,
        }
    }

    /// Asks if it is time to.
    pub(super) fn probe(&mut self, id: &SlotId, up: &mut Up, around: &Around<'_>, effects: &mut Vec<Effect>) {
        let Some(check) = around.wish.spec.readiness() else { return };
        self.asked.take_if(|asked| asked.lost_at <= around.now);
        if self.asked.is_some() {
            return;
        }
        if self.next_counted.is_none() {
            self.begin(up, check, around.now);
        }
        if let Question::Log(pattern) = &check.ask {
            return self.watch(id, up, check, pattern, around, effects);
        }
        let counts = self.next_counted.is_none_or(|at| at <= around.now);
        let eager = !up.was_ready && self.next_eager.is_some_and(|at| at <= around.now);
        if !counts && !eager {
            return;
        }
        self.asked = Some(Asked { lost_at: around.now + check.timeout + LOST_AFTER, counts });
        effects.push(Effect::Probe {
            slot: id.clone(),
            attempt: up.attempt,
            check: self.number,
            probe: check.ask.clone(),
            spec: around.wish.spec.clone(),
            base_environment: around.wish.base_environment.clone(),
            timeout: check.timeout,
        });
    }

    /// The check may have changed under a running copy: what another question was answered says
    /// nothing, and what is still out of another rhythm is not waited for.
    pub(super) fn follow(&mut self, up: &mut Up, wish: &TargetSlot) {
        let check = wish.spec.readiness();
        let question = check.map(|check| &check.ask);
        if up.question.as_ref() != question {
            if up.question.is_some() {
                up.was_ready = false;
                up.healthy = None;
            }
            up.question = question.cloned();
        }
        if self.of.as_ref() != check {
            *self = Self { of: check.cloned(), number: self.number + 1, ..Self::default() };
        }
    }

    /// Whether this is the check that is asked by now.
    pub(super) fn asks(&self, check: u64, around: &Around<'_>) -> bool {
        let is_this = self.number == check && self.of.as_ref() == around.wish.spec.readiness();
        is_this || around.rules.has(Bug::TakeAnyAnswer)
    }

    fn begin(&mut self, up: &Up, check: &Probe, now: Mono) {
        self.next_counted = Some(now + interval(up, check, now));
        self.next_eager = (!up.was_ready).then_some(now);
        self.eager_gap = EAGER_FIRST;
        if up.was_ready {
            // Found again after a restart of the daemon: ask at once, it may have changed.
            self.next_counted = Some(now);
        }
    }

    /// A log line is not asked for but waited for; not having come by now counts as a failure.
    fn watch(
        &mut self,
        id: &SlotId,
        up: &mut Up,
        check: &Probe,
        pattern: &str,
        around: &Around<'_>,
        effects: &mut Vec<Effect>,
    ) {
        if up.was_ready {
            return;
        }
        let due = match self.watch {
            Watch::Wanted => true,
            Watch::Failed { again } => again <= around.now,
            Watch::Set => false,
        };
        if due {
            self.watch = Watch::Set;
            effects.push(Effect::WatchLog {
                slot: id.clone(),
                attempt: up.attempt,
                check: self.number,
                pattern: pattern.to_owned(),
                from: up.log_start,
            });
        }
        if self.next_counted.is_some_and(|at| at <= around.now) {
            self.asked = Some(Asked { lost_at: around.now, counts: true });
            self.judge(up, false, "no line matched yet".into(), around);
            self.next_counted = Some(around.now + interval(up, check, around.now));
        }
    }

    /// An answer came.
    pub(super) fn answered(&mut self, up: &mut Up, healthy: bool, message: String, around: &Around<'_>) {
        let check = around.wish.spec.readiness();
        if !healthy && check.is_some_and(|check| matches!(check.ask, Question::Log(_))) {
            // Nothing is said about the service: it is we who cannot look.
            self.watch = Watch::Failed { again: around.now + WATCH_AGAIN };
            self.last = Some(message);
            return;
        }
        self.judge(up, healthy, message, around);
    }

    fn judge(&mut self, up: &mut Up, healthy: bool, message: String, around: &Around<'_>) {
        let Some(check) = around.wish.spec.readiness() else { return };
        let now = around.now;
        if self.asked.is_none() && !matches!(check.ask, Question::Log(_)) {
            // It was given up, or another question is asked now.
            return;
        }
        let counts = self.asked.take().is_some_and(|asked| asked.counts);
        if !matches!(self.watch, Watch::Failed { .. }) {
            self.last = Some(message);
        }
        if healthy {
            up.was_ready = true;
            up.healthy = Some(true);
            self.failures = 0;
            self.next_eager = None;
        } else if counts {
            let forgiven = !up.was_ready && now.since(up.started) < check.start_period;
            if !forgiven {
                self.failures = self.failures.saturating_add(1);
            }
            let limit = if around.rules.has(Bug::IgnoreRetries) { 1 } else { check.failure_threshold };
            if self.failures >= limit {
                up.healthy = Some(false);
            }
        }
        if counts || healthy || self.next_counted.is_none() {
            self.next_counted = Some(now + interval(up, check, now));
        }
        if !up.was_ready {
            self.next_eager = Some(now + self.eager_gap);
            self.eager_gap = Millis((self.eager_gap.0 * 2).clamp(EAGER_FIRST.0, EAGER_CEILING.0));
        }
    }
}

/// The last verdict, where it answers what is asked by now.
pub(super) fn answer(up: &Up, wish: &TargetSlot) -> Option<bool> {
    let asked = wish.spec.readiness().map(|check| &check.ask);
    up.healthy.filter(|_| up.question.is_none() || up.question.as_ref() == asked)
}

fn interval(up: &Up, check: &Probe, now: Mono) -> Millis {
    let starting = !up.was_ready && now.since(up.started) < check.start_period;
    if starting { check.start_interval } else { check.interval }
}
