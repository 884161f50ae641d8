//! How rollouts begin and end, and what is remembered of them.

use upbeat_model::Mono;
use upbeat_model::rollout::{Counts, HISTORY_MAX, Happened, Outcome, Past, Reason, Version};

use super::judge::Position;
use super::view::{place, quota};
use super::{Bad, Course, KNOWN_BAD_MAX, Measured, Progressed, Refused, Rolling, Rollout, Target};

/// So many versions that were good before are remembered, to go back to.
pub const GOOD_MAX: usize = 10;

/// What is remembered of rollouts that have ended has so many bytes of texts at most, and so has what is remembered of
/// bad versions: of more, the oldest is forgotten. With all else that is kept of an entity but its targets, this fits
/// into one value of a store.
const TEXTS_MAX: usize = 48 << 10;

/// How many bytes of texts a reason has, about.
fn texts(reason: &Reason) -> usize {
    reason.to_string().len()
}

fn length(version: &Version) -> usize {
    version.as_str().len()
}

/// How many of these, from the last, have no more texts than may be; the last in any case.
fn fitting(texts: impl Iterator<Item = usize>) -> usize {
    let mut sum = 0;
    texts
        .take_while(|texts| {
            sum += texts;
            sum <= TEXTS_MAX
        })
        .count()
        .max(1)
}

impl Rolling {
    /// From now on it is there, and has all its time for what is to come.
    pub(super) fn begin_stage(&mut self, position: Position, counts: Counts, at: Mono) {
        (self.stage, self.at_gate) = (position.stage, position.at_gate);
        self.measure_from(at);
        self.progressed = Progressed { well: counts.well, total: counts.total, at };
    }
}

impl Rollout {
    /// It begins to be rolled out.
    pub(super) fn roll(&mut self, version: Version, now: Mono) {
        let was_good = self.good.as_ref() == Some(&version);
        let (stages, analyses) = match was_good {
            true => (Vec::new(), Vec::new()),
            false => (self.strategy.whole(), Measured::of(&self.strategy)),
        };
        self.targets.change_each(|target| target.is_extra, |target| target.is_extra = false);
        // Nothing would ever take it back, and who is unwell for good would hold up the others for good.
        self.targets.change_each(Target::is_given_up, |target| target.failed = None);
        let total = self.targets.len();
        let mut room: Vec<usize> = stages.iter().map(|stage| quota(stage, total).unwrap_or(0)).collect();
        // Whoever was given it before has its time from now on, or would be found to have failed at once.
        let has_it = |target: &Target| target.assigned.version.as_ref() == Some(&version);
        self.targets.change_each(has_it, |target| {
            (target.assigned.since, target.assigned.note.is_error) = (now, false);
            let stage = place(&stages, &target.labels, &mut room);
            target.stage = u16::try_from(stage).ok().filter(|_| !stages.is_empty());
            target.failed = None;
        });
        self.number += 1;
        let (number, from, by) = (self.number, self.good.clone(), self.asked_by.clone());
        self.note(Happened::Began { number, version: version.clone(), from: from.clone(), by: by.clone() });
        let progressed = Progressed { at: now, total, ..Progressed::default() };
        self.rolling = Some(Rolling {
            version,
            since: now,
            is_bad: false,
            number,
            from,
            by,
            stages,
            stage: 0,
            at_gate: None,
            progressed,
            removed: 0,
            is_undo: false,
            is_back: false,
            analyses,
        });
        self.pause = None;
        if was_good {
            self.end(Outcome::Good, Reason::WasGood, self.counts(now), now);
        }
    }

    /// What is being rolled out is decided.
    pub(super) fn end(&mut self, outcome: Outcome, reason: Reason, counts: Counts, now: Mono) {
        let Some(rolling) = &self.rolling else { return };
        let Rolling { number, version, from, since, by, .. } = rolling.clone();
        self.history.push(Past {
            number,
            version,
            from,
            began: since,
            ended: now,
            outcome,
            by,
            reason,
            counts,
        });
        let size = |past: &Past| {
            let from = past.from.as_ref().map_or(0, length);
            length(&past.version) + from + past.by.as_ref().map_or(0, String::len) + texts(&past.reason)
        };
        let most = fitting(self.history.iter().rev().map(size)).min(HISTORY_MAX);
        let more = self.history.len().saturating_sub(most);
        self.history.drain(..more);
    }

    /// What is being rolled out is good from now on.
    pub(super) fn prove(&mut self, reason: Reason, counts: Counts, now: Mono) {
        let Some(version) = self.rolling.as_ref().map(|rolling| rolling.version.clone()) else { return };
        self.end(Outcome::Good, reason.clone(), counts, now);
        self.note(Happened::Good { version: version.clone(), why: reason });
        self.good_before.retain(|good| *good != version);
        self.good_before.extend(self.good.take().filter(|good| *good != version));
        let more = self.good_before.len().saturating_sub(GOOD_MAX);
        self.good_before.drain(..more);
        (self.good, self.pause) = (Some(version), None);
    }

    /// What is being rolled out is bad from now on.
    pub(super) fn condemn(&mut self, reason: Reason, counts: Counts, now: Mono) {
        let Some(rolling) = self.rolling.as_mut() else { return };
        rolling.is_bad = true;
        let version = rolling.version.clone();
        let outcome = match reason {
            Reason::Aborted { .. } => Outcome::Aborted,
            _ => Outcome::Bad,
        };
        self.end(outcome, reason.clone(), counts, now);
        self.note(Happened::Bad { version: version.clone(), why: reason.clone() });
        self.note(match self.good.clone() {
            Some(to) => Happened::RollingBack { from: version.clone(), to },
            None => Happened::Halted { version: version.clone() },
        });
        self.bad = Some(version.clone());
        let until = self.strategy.known_bad_for.map(|time| now + time);
        self.known_bad.insert(version, Bad { reason, at: now, until });
        self.forget_bad();
    }

    /// Of more than may be remembered, those that are known longest are forgotten.
    fn forget_bad(&mut self) {
        let is_last = |version: &Version| Some(version) == self.bad.as_ref();
        let mut all: Vec<(&Version, &Bad)> = self.known_bad.iter().collect();
        all.sort_by_key(|(version, bad)| (is_last(version), bad.at));
        let sizes = all.iter().rev().map(|(version, bad)| length(version) + texts(&bad.reason));
        let most = fitting(sizes).min(KNOWN_BAD_MAX);
        let surplus = all.len().saturating_sub(most);
        let gone: Vec<Version> = all.into_iter().take(surplus).map(|(version, _)| version.clone()).collect();
        self.known_bad.retain(|version, _| !gone.contains(version));
    }

    /// Another version takes the place of the one that is on its way, which is neither good nor bad.
    pub(super) fn supersede(&mut self, by: Version, now: Mono) {
        let Some(version) = self.rolling.as_ref().map(|rolling| rolling.version.clone()) else { return };
        self.end(Outcome::Superseded, Reason::Superseded { by: by.clone() }, self.counts(now), now);
        self.note(Happened::Superseded { version, by });
    }

    /// Back to the version that was good before the one in force.
    pub(super) fn undo(&mut self, by: String, now: Mono) -> Result<(), Refused> {
        let course = self.course();
        let is_usable = |version: &&Version| self.is_known_bad(version, now).is_none();
        let to = match &course {
            Course::Forward(_) if self.rolling.is_none() => {
                return Err(Refused::NothingBefore("nothing runs yet"));
            }
            // What is on its way is not the last that was good.
            Course::Forward(_) => self.good.as_ref().filter(is_usable),
            Course::Steady(_) | Course::Back { .. } => self.good_before.iter().rev().find(is_usable),
            Course::None | Course::Halted(_) => None,
        };
        let to =
            to.cloned().ok_or(Refused::NothingBefore("none that is known and not bad was good before"))?;
        self.go_back_to(to, by, now);
        Ok(())
    }

    /// The version that was asked for last is as if it had not been; see [`super::Change::Withdraw`].
    pub(super) fn withdraw(
        &mut self,
        version: &Version,
        good: Option<Version>,
        target: Option<Version>,
        (by, why): (String, String),
        now: Mono,
    ) {
        let rolls = self.rolling.as_ref().filter(|rolling| rolling.version == *version);
        match (rolls.map(|rolling| rolling.is_bad), good) {
            // Nobody was moved to it yet.
            (None, _) => self.target = target,
            // It goes back, or stands still, by itself.
            (Some(true), _) => {}
            (Some(false), Some(good)) if good == *version => {}
            (Some(false), Some(good)) => self.go_back_to(good, by, now),
            (Some(false), None) if self.good.as_ref() == Some(version) => {}
            (Some(false), None) => self.condemn(Reason::Aborted { by, why }, self.counts(now), now),
        }
    }

    /// To a version that was good, at once.
    fn go_back_to(&mut self, to: Version, by: String, now: Mono) {
        let version = match self.course() {
            Course::Forward(version) => {
                let reason = Reason::Undone { to: to.clone(), by: by.clone() };
                self.end(Outcome::Undone, reason, self.counts(now), now);
                version
            }
            Course::Steady(version) | Course::Back { to: version, .. } | Course::Halted(version) => version,
            Course::None => return,
        };
        self.note(Happened::Undone { version, to: to.clone(), by: by.clone() });
        // What was good after it is not before it.
        if let Some(n) = self.good_before.iter().position(|good| *good == to) {
            self.good_before.truncate(n);
        }
        (self.target, self.good, self.asked_by) = (Some(to.clone()), Some(to.clone()), Some(by));
        self.roll(to, now);
        if let Some(rolling) = &mut self.rolling {
            rolling.is_undo = true;
        }
    }
}
