//! What each probe may have come to by now: as somebody counts it who reads the file, hears every
//! question and every answer, and what the process says of itself.
//!
//! After the death of a daemon nobody outside knows which of the last answers it had noted, so that
//! several verdicts may be right. Only what none of them allows is a broken promise.

use std::collections::BTreeMap;

use upbeat_decide::instance::{Said, Watchdog};
use upbeat_model::project::{Probe, Question, Role};
use upbeat_model::target::Target;
use upbeat_model::{Attempt, Mono, Phase, ProbeName, SlotId, SlotStatus};

use crate::check::Verdict;

/// What may be so, and what must.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    least: u32,
    most: u32,
}

impl Span {
    const ANY: Self = Self { least: 0, most: u32::MAX };

    fn count(&mut self, surely: bool, perhaps: bool) {
        self.least += u32::from(surely);
        self.most = self.most.saturating_add(u32::from(perhaps));
    }
}

/// Which verdicts may be the machine's.
#[derive(Clone, Copy, Debug)]
struct Maybe {
    unheard: bool,
    yes: bool,
    no: bool,
}

impl Maybe {
    const ANY: Self = Self { unheard: true, yes: true, no: true };
    const UNHEARD: Self = Self { unheard: true, yes: false, no: false };
    const YES: Self = Self { unheard: false, yes: true, no: false };
    const NO: Self = Self { unheard: false, yes: false, no: true };

    fn is_surely_yes(self) -> bool {
        self.yes && !self.unheard && !self.no
    }

    fn allows(self, passing: Option<bool>) -> bool {
        match passing {
            None => self.unheard,
            Some(true) => self.yes,
            Some(false) => self.no,
        }
    }
}

/// One probe of one process.
#[derive(Clone, Debug)]
struct Asked {
    probe: Probe,
    /// Another whenever anything of the probe changes.
    tag: u64,
    maybe: Maybe,
    /// Of what is told: it may have come to a no in another rhythm, and nothing was said since.
    was_no: bool,
    was_yes_perhaps: bool,
    was_yes_surely: bool,
    yes: Span,
    no: Span,
    /// Between these two the next counted one is due.
    next_least: u64,
    next_most: u64,
    /// When these began to be asked.
    begun: u64,
    asked_at: Option<u64>,
    last_asked: Option<u64>,
    answered_at: Option<u64>,
    /// The living daemon has heard an answer.
    is_heard: bool,
    /// The last answer was the one that made it a yes for the first time.
    was_first_yes: bool,
    /// It has said yes since the living daemon, or this rhythm, began.
    has_passed: bool,
}

/// One process and what is known of it.
#[derive(Clone, Debug)]
struct Watched {
    attempt: Attempt,
    started: u64,
    /// No daemon has died since it was started.
    exact: bool,
    /// What the living daemon has heard of it.
    said: Option<Said>,
    was_ready: bool,
    was_alive: bool,
    silent_since: Option<u64>,
    /// How often its watchdog has expired, and that no no of it was acted upon since the last time.
    expiries: u32,
    has_lapsed: bool,
    asked: BTreeMap<ProbeName, Asked>,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Probing {
    slots: BTreeMap<SlotId, Watched>,
    /// What was heard before the answer to its start.
    early: BTreeMap<SlotId, (Attempt, Said)>,
    tags: u64,
    /// The next wishes are the first that this daemon reads.
    is_new: bool,
}

impl Probing {
    /// The daemon reads the newest wishes.
    pub(crate) fn aim(&mut self, target: &Target, now: u64) {
        let is_new = std::mem::take(&mut self.is_new);
        self.slots.retain(|slot, _| target.slots.contains_key(slot));
        for (slot, wish) in &target.slots {
            let Some(watched) = self.slots.get_mut(slot) else { continue };
            watched.asked.retain(|name, _| wish.spec.probes.contains_key(name));
            let no: Vec<ProbeName> = (watched.asked.iter())
                .filter(|(_, asked)| watched.told_may_be(asked, Some(false), now))
                .map(|(name, _)| name.clone())
                .collect();
            for (name, probe) in &wish.spec.probes {
                match watched.asked.get_mut(name) {
                    Some(asked) if asked.probe == *probe && !is_new => {}
                    Some(asked) if asked.probe.ask == probe.ask || is_new => {
                        self.tags += 1;
                        asked.turn_over(probe, self.tags, watched.started, now);
                        asked.was_no = no.contains(name);
                    }
                    _ => {
                        self.tags += 1;
                        let mut fresh = Asked::fresh(probe, self.tags, watched.started, now);
                        let said = match probe.ask {
                            Question::Notify => watched.was_ready,
                            Question::Watchdog(_) => watched.was_alive,
                            _ => false,
                        };
                        fresh.maybe.yes |= said;
                        fresh.was_yes_perhaps |= said;
                        watched.asked.insert(name.clone(), fresh);
                    }
                }
                if is_new && let Some(asked) = watched.asked.get_mut(name) {
                    asked.forget();
                }
            }
        }
    }

    /// The daemon learns that this attempt runs.
    pub(crate) fn is_up(&mut self, slot: &SlotId, attempt: Attempt, exact: bool, target: &Target, now: u64) {
        if self.slots.get(slot).is_some_and(|watched| watched.attempt == attempt) {
            return;
        }
        let Some(wish) = target.slots.get(slot) else { return };
        let said = self.early.remove(slot).filter(|(of, _)| *of == attempt);
        let mut watched = Watched {
            attempt,
            started: now,
            exact,
            said: None,
            was_ready: false,
            was_alive: false,
            silent_since: None,
            expiries: 0,
            has_lapsed: false,
            asked: BTreeMap::new(),
        };
        for (name, probe) in &wish.spec.probes {
            self.tags += 1;
            let mut asked = Asked::fresh(probe, self.tags, now, now);
            if !exact {
                asked.forget();
            }
            watched.asked.insert(name.clone(), asked);
        }
        self.slots.insert(slot.clone(), watched);
        if let Some((_, said)) = said {
            self.heard(slot, attempt, &said, now);
        }
    }

    pub(crate) fn is_gone(&mut self, slot: &SlotId) {
        self.slots.remove(slot);
    }

    /// The daemon is dead: what it knew last is not known.
    pub(crate) fn died(&mut self) {
        self.is_new = true;
        self.early.clear();
        for watched in self.slots.values_mut() {
            watched.exact = false;
            watched.said = None;
            watched.silent_since = None;
            (watched.expiries, watched.has_lapsed) = (0, false);
            watched.asked.values_mut().for_each(Asked::forget);
        }
    }

    /// By this an onlooker knows whose answer it is, whatever the numbers of the machine say.
    pub(crate) fn tag(&self, slot: &SlotId, name: &ProbeName) -> u64 {
        self.slots.get(slot).and_then(|watched| watched.asked.get(name)).map_or(0, |asked| asked.tag)
    }

    /// It has passed what its probe asks, perhaps.
    pub(crate) fn may_pass(&self, slot: &SlotId, attempt: Attempt, name: &str) -> bool {
        let watched = self.slots.get(slot).filter(|watched| watched.attempt == attempt);
        let asked = watched.and_then(|watched| {
            watched.asked.iter().find(|(other, _)| other.as_str() == name).map(|(_, asked)| asked)
        });
        asked.is_none_or(|asked| asked.maybe.yes)
    }

    /// The living daemon has had an answer from this probe, if that is one that is asked.
    pub(crate) fn is_heard(&self, slot: &SlotId, attempt: Attempt, name: &str) -> bool {
        let watched = self.slots.get(slot).filter(|watched| watched.attempt == attempt);
        let asked =
            watched.and_then(|watched| watched.asked.iter().find(|(other, _)| other.as_str() == name));
        asked.is_none_or(|(name, asked)| {
            asked.is_heard || asked.probe.ask.is_told() || name.role() == Role::Startup
        })
    }

    /// The daemon hears what a process says of itself.
    pub(crate) fn heard(&mut self, slot: &SlotId, attempt: Attempt, said: &Said, now: u64) {
        let known = self.slots.get_mut(slot).filter(|watched| watched.attempt == attempt);
        let Some(watched) = known else {
            self.early.insert(slot.clone(), (attempt, said.clone()));
            return;
        };
        watched.was_ready |= said.ready;
        if watched.expiries != said.expiries {
            watched.expiries = said.expiries;
            watched.has_lapsed = true;
        }
        match said.watchdog {
            Watchdog::Off => {}
            Watchdog::Alive => {
                watched.silent_since = None;
                watched.was_alive = true;
            }
            Watchdog::Expired | Watchdog::Triggered => {
                watched.silent_since = watched.silent_since.or(Some(now));
            }
        }
        watched.said = Some(said.clone());
        for asked in watched.asked.values_mut() {
            let yes = match asked.probe.ask {
                Question::Notify => watched.was_ready,
                Question::Watchdog(_) => watched.was_alive,
                _ => continue,
            };
            asked.was_no &= !yes || watched.silent_since.is_some();
            asked.maybe.yes |= yes;
            asked.was_yes_perhaps |= yes;
        }
    }

    /// What the living daemon has heard this attempt say of itself.
    pub(crate) fn said(&self, slot: &SlotId, attempt: Attempt) -> Option<&Said> {
        self.slots.get(slot).filter(|watched| watched.attempt == attempt)?.said.as_ref()
    }

    /// A question is asked.
    pub(crate) fn asks(
        &mut self,
        (slot, attempt, name): (&SlotId, Attempt, &ProbeName),
        has_startup: bool,
        now: u64,
    ) -> Verdict {
        let Some(watched) = self.slots.get_mut(slot).filter(|watched| watched.attempt == attempt) else {
            return Ok(());
        };
        let mut startup = watched.asked.iter().filter(|(name, _)| name.role() == Role::Startup);
        let started = startup.next().map(|(_, asked)| (asked.was_yes_perhaps, asked.was_yes_surely));
        match (name.role(), started) {
            (Role::Startup, Some((_, true))) => {
                return Err(format!("{slot}: its startup probe is asked though it has passed"));
            }
            (Role::Startup, _) | (_, None) => {}
            (_, Some((perhaps, _))) if perhaps || !has_startup => {}
            _ => return Err(format!("{slot}: `{name}` is asked before its startup probe has passed")),
        }
        let Some(asked) = watched.asked.get_mut(name) else { return Ok(()) };
        asked.comes_when_due(slot, name, watched.started, now)
    }

    /// It is answered.
    pub(crate) fn answered(&mut self, slot: &SlotId, attempt: Attempt, tag: &str, yes: bool, now: u64) {
        let Some(watched) = self.slots.get_mut(slot).filter(|watched| watched.attempt == attempt) else {
            return;
        };
        let Watched { started, exact, said, asked, .. } = watched;
        let Some(asked) = asked.values_mut().find(|asked| asked.tag.to_string() == tag) else { return };
        if matches!(asked.probe.ask, Question::Log(_)) {
            asked.maybe.yes |= yes;
            asked.was_yes_perhaps |= yes;
            asked.was_no &= !yes;
            return;
        }
        let more_time = |said: &Said| !said.ready && said.extended.is_some_and(|until| until > Mono(now));
        let extended = said.as_ref().is_some_and(more_time);
        asked.judge(yes, (*started, *exact), extended, now);
    }

    /// What people are told of its probes.
    pub(crate) fn told(&self, status: &SlotStatus, now: u64) -> Verdict {
        let slot = &status.slot;
        let Some(watched) = self.slots.get(slot).filter(|watched| watched.attempt == status.attempt) else {
            return Ok(());
        };
        if status.phase == Phase::Stopping {
            // Nobody asks it any more.
            return Ok(());
        }
        for (name, shown) in &status.probes {
            let Some(asked) = watched.asked.get(name) else { continue };
            let allowed = match asked.probe.ask.is_told() {
                true => watched.told_may_be(asked, shown.passing, now),
                false => asked.maybe.allows(shown.passing),
            };
            if !allowed {
                return Err(format!(
                    "{slot}: its probe `{name}` is said to be {:?}, which no count allows: {asked:?}",
                    shown.passing
                ));
            }
        }
        Ok(())
    }

    /// All that is known of a probe.
    pub(crate) fn tells(&self, slot: &SlotId, name: &ProbeName) -> String {
        format!(
            "{:?}",
            self.slots.get(slot).map(|watched| (watched.started, watched.exact, watched.asked.get(name)))
        )
    }

    /// Whether a probe may have come to a no.
    pub(crate) fn may_fail(&self, slot: &SlotId, attempt: Attempt, name: &ProbeName, now: u64) -> bool {
        let Some(watched) = self.slots.get(slot).filter(|watched| watched.attempt == attempt) else {
            return true;
        };
        let Some(asked) = watched.asked.get(name) else { return false };
        match asked.probe.ask.is_told() {
            true => watched.told_may_be(asked, Some(false), now),
            false => asked.maybe.no,
        }
    }

    /// Something was done about it.
    pub(crate) fn has_reacted(&mut self, slot: &SlotId, name: &ProbeName) {
        if let Some(watched) = self.slots.get_mut(slot)
            && let Some(asked) = watched.asked.get(name)
            && matches!(asked.probe.ask, Question::Watchdog(_))
        {
            watched.has_lapsed = false;
        }
    }

    /// After long quiet: each probe that is to be asked was asked lately, and what was said is heard.
    pub(crate) fn goes_on(
        &self,
        slot: &SlotId,
        status: &SlotStatus,
        said: Option<&Said>,
        now: u64,
    ) -> Verdict {
        let Some(watched) = self.slots.get(slot).filter(|watched| watched.attempt == status.attempt) else {
            return Ok(());
        };
        let passes =
            |name: &ProbeName| status.probes.get(name).is_some_and(|shown| shown.passing == Some(true));
        let startup = watched.asked.keys().find(|name| name.role() == Role::Startup);
        let has_started = startup.is_none_or(passes);
        for (name, asked) in &watched.asked {
            if name.role() != Role::Startup && !has_started {
                continue;
            }
            let shown = status.probes.get(name).and_then(|shown| shown.passing);
            let settles = asked.settles_within();
            match (&asked.probe.ask, said) {
                (Question::Notify, Some(said)) if said.ready && shown != Some(true) => {
                    return Err(format!("{slot}: it has said that it is ready, and `{name}` is {shown:?}"));
                }
                (Question::Watchdog(_), Some(said))
                    if said.watchdog == Watchdog::Alive && shown != Some(true) =>
                {
                    return Err(format!("{slot}: it says that it is alive, and `{name}` is {shown:?}"));
                }
                (Question::Watchdog(_), _)
                    if name.role() != Role::Startup
                        && watched.silent_since.is_some_and(|since| since + settles < now)
                        && watched.started + settles < now
                        && shown != Some(false) =>
                {
                    return Err(format!("{slot}: it is silent, and `{name}` is {shown:?}"));
                }
                (ask, _) if ask.is_told() => {}
                _ if name.role() == Role::Startup && asked.was_yes_perhaps => {}
                _ => {
                    // It may have begun when the startup probe passed, which was when nobody knows.
                    let begun = if startup.is_some() { now } else { asked.begun };
                    let last = asked.last_asked.map_or(begun, |last| last.max(asked.begun));
                    if last + asked.longest_pause() < now && watched.started + settles < now {
                        return Err(format!("{slot}: `{name}` was not asked for {} ms", now - last));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Watched {
    /// What is told and not asked: by when, and by what was said.
    fn told_may_be(&self, asked: &Asked, passing: Option<bool>, now: u64) -> bool {
        let probe = &asked.probe;
        let in_a_row = u64::from(probe.failure_threshold.saturating_sub(1));
        match (passing, &probe.ask) {
            (None, _) => true,
            (Some(true), _) => asked.maybe.yes,
            (Some(false), _) if asked.was_no => true,
            (Some(false), Question::Watchdog(_)) if self.has_lapsed && in_a_row == 0 => true,
            (Some(false), Question::Watchdog(_)) if self.said.is_some() => {
                self.silent_since.is_some_and(|since| {
                    !self.exact || since + in_a_row * probe.interval.0.min(asked.shortest()) <= now
                })
            }
            (Some(false), Question::Watchdog(_)) => !self.exact,
            (Some(false), _) if !self.exact => true,
            (Some(false), _) => {
                let first = asked.begun.max(self.started + probe.initial_delay.0) + asked.shortest();
                let forgiven = self.started + probe.start_period.0;
                first.max(forgiven) + in_a_row * probe.interval.0.min(asked.shortest()) <= now
            }
        }
    }
}

impl Asked {
    fn fresh(probe: &Probe, tag: u64, started: u64, now: u64) -> Self {
        let mut asked = Self {
            probe: probe.clone(),
            tag,
            maybe: Maybe::UNHEARD,
            was_no: false,
            was_yes_perhaps: false,
            was_yes_surely: false,
            yes: Span::default(),
            no: Span::default(),
            next_least: 0,
            next_most: u64::MAX,
            begun: now,
            asked_at: None,
            last_asked: None,
            answered_at: None,
            is_heard: false,
            was_first_yes: false,
            has_passed: false,
        };
        asked.turn_over(probe, tag, started, now);
        asked
    }

    /// The same question, asked in another rhythm from now on.
    fn turn_over(&mut self, probe: &Probe, tag: u64, started: u64, now: u64) {
        self.probe = probe.clone();
        self.tag = tag;
        (self.yes, self.no) = (Span::default(), Span::default());
        (self.asked_at, self.answered_at, self.was_first_yes) = (None, None, false);
        self.has_passed = false;
        self.begun = now;
        self.next_least = now.max(started + probe.initial_delay.0) + self.shortest();
        self.next_most = u64::MAX;
    }

    fn forget(&mut self) {
        self.maybe = Maybe::ANY;
        (self.was_yes_perhaps, self.was_yes_surely) = (true, false);
        (self.yes, self.no) = (Span::ANY, Span::ANY);
        (self.next_least, self.next_most) = (0, u64::MAX);
        (self.is_heard, self.has_passed) = (false, false);
        (self.asked_at, self.last_asked, self.answered_at, self.was_first_yes) = (None, None, None, false);
    }

    /// The shortest interval that it may be asked at.
    fn shortest(&self) -> u64 {
        let Probe { interval, start_interval, start_period, .. } = &self.probe;
        let may_be_starting = !self.was_yes_surely && start_period.0 > 0;
        if may_be_starting { interval.0.min(start_interval.0) } else { interval.0 }
    }

    fn longest(&self) -> u64 {
        self.probe.interval.0.max(self.probe.start_interval.0)
    }

    /// Nobody who is asked waits longer between two.
    fn longest_pause(&self) -> u64 {
        self.longest() + self.probe.initial_delay.0 + 2 * (self.probe.timeout.0 + 2_000) + 5_000
    }

    /// By then its state shows what it is answered.
    fn settles_within(&self) -> u64 {
        let noes = u64::from(self.probe.failure_threshold + 1);
        self.probe.initial_delay.0 + self.probe.start_period.0 + noes * self.longest_pause() + 60_000
    }

    /// Counted ones come at their interval, and none sooner.
    fn comes_when_due(&mut self, slot: &SlotId, name: &ProbeName, started: u64, now: u64) -> Verdict {
        let interval = self.shortest();
        let earliest = match (self.asked_at, self.answered_at, self.was_yes_surely) {
            (Some(asked), ..) => Some(asked + self.probe.timeout.0),
            (None, Some(answered), true) => {
                Some(answered + if self.was_first_yes { interval.div_ceil(2) } else { interval })
            }
            // It is asked once, and then counted.
            (None, Some(_), false) if name.role() == Role::Liveness && !self.was_yes_perhaps => {
                self.last_asked.map(|last| last + interval.div_ceil(2))
            }
            _ => None,
        };
        if let Some(earliest) = earliest.filter(|earliest| now < *earliest) {
            return Err(format!("{slot}: `{name}` is asked {} ms before it is due", earliest - now));
        }
        if now < started + self.probe.initial_delay.0 && !self.was_yes_perhaps {
            return Err(format!("{slot}: `{name}` is asked within its initial delay"));
        }
        if self.next_most == u64::MAX {
            self.next_most = now + self.longest();
        }
        (self.asked_at, self.last_asked) = (Some(now), Some(now));
        Ok(())
    }

    fn judge(&mut self, yes: bool, (started, exact): (u64, bool), extended: bool, now: u64) {
        let asked_at = self.asked_at.take();
        let surely = asked_at.is_some();
        self.answered_at = Some(now);
        self.is_heard = true;
        self.was_first_yes = false;
        let perhaps_starting = !self.was_yes_surely && now <= started + self.probe.start_period.0 + 50;
        if yes {
            self.no = Span::default();
            self.yes.count(surely, true);
            self.passed();
            self.was_first_yes |= !std::mem::replace(&mut self.has_passed, true);
            (self.next_least, self.next_most) = (now + self.shortest().div_ceil(2), now + self.longest());
            return;
        }
        let asked_at = asked_at.unwrap_or(now);
        let may_count = self.was_yes_perhaps || asked_at >= self.next_least;
        let must_count = surely && (self.was_yes_surely || (exact && asked_at >= self.next_most));
        let starting_for_sure = exact && now < started + self.probe.start_period.0;
        let may_forgive = !self.was_yes_surely && (perhaps_starting || extended || !exact);
        let must_forgive = !self.was_yes_perhaps && (starting_for_sure || extended);
        self.yes = Span { least: 0, most: if surely { 0 } else { self.yes.most } };
        self.no.count(must_count && !may_forgive, may_count && !must_forgive);
        if self.no.most >= self.probe.failure_threshold {
            self.maybe.no = true;
        }
        if self.no.least >= self.probe.failure_threshold {
            self.maybe = Maybe::NO;
        }
        if must_count {
            self.next_least = now + self.shortest();
            self.next_most = now + self.longest();
        } else if may_count {
            self.next_most = self.next_most.max(now + self.longest());
        }
    }

    fn passed(&mut self) {
        let enough = self.probe.success_threshold;
        if self.maybe.is_surely_yes() {
            return;
        }
        if self.yes.least >= enough {
            // One that follows others that may have been enough is not the first.
            self.was_first_yes = !self.was_yes_surely;
            self.maybe = Maybe::YES;
            self.was_yes_surely = true;
        } else if self.yes.most >= enough {
            self.maybe.yes = true;
        }
        self.was_yes_perhaps |= self.maybe.yes;
    }
}
