//! The probes of one process: which are asked now, what they have come to, what is done about a no.
//!
//! ```text
//! started ─▶ startup ─▶ readiness: yes ⇄ no      the slot is healthy, or unhealthy
//!            │ no       liveness:  no ─▶ remedy   restart | stop | signal | exec, while its budget lasts
//!            ▼          NAME:      yes ⇄ no       conditions of others wait for it
//!          remedy                    └─▶ remedy   budget spent: the slot needs attention
//! ```
//!
//! A probe whose budget is spent and that passes again is well again: that is so, and is shown. Should
//! it fail once more, the slot needs attention as before, and nothing is done. One that flaps so changes
//! its phase no faster than its thresholds and its interval let any other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use upbeat_model::project::{Probe, Question, Reaction, Role, Service};
use upbeat_model::target::TargetSlot;
use upbeat_model::{Attempt, Mono, ProbeName, ProbeStatus, SlotId};

use super::rhythm::{Answer, Beat, Rhythm, Turn, Verdict};
use super::said::Said;
use super::{Around, Up, backoff};
use crate::effect::Effect;
use crate::rules::{Bug, Rules};

/// The rhythms of the probes of one process. Not kept across a restart of the daemon: they begin anew.
#[derive(Clone, Debug, Default)]
pub struct Health {
    rhythms: BTreeMap<ProbeName, Rhythm>,
    /// The file whose probes these are.
    of: Option<Arc<Service>>,
    /// How many rhythms this process has had.
    numbers: u64,
}

/// A probe that has come to a no.
pub(super) struct Failed {
    pub(super) name: ProbeName,
    /// What it was answered.
    pub(super) last: String,
}

/// Whether a probe is asked at this time of the life of its process.
fn is_asked(name: &ProbeName, up: &Up, spec: &Service) -> bool {
    match name.role() {
        Role::Startup => !was_yes(up, name.as_str()),
        _ => has_started(up, spec),
    }
}

fn was_yes(up: &Up, name: &str) -> bool {
    up.answers.get(name).is_some_and(|answer| answer.was_yes)
}

/// Its startup probe has passed, or it has none.
pub(super) fn has_started(up: &Up, spec: &Service) -> bool {
    !spec.probes.contains_key(ProbeName::STARTUP) || was_yes(up, ProbeName::STARTUP)
}

/// It has not come as far as to be ready, or not to be in all the time for that: its startup probe has come
/// to nothing yet, or that has passed and its readiness has not been judged.
pub(super) fn is_awaited(health: &Health, up: &Up, wish: &TargetSlot) -> bool {
    let is_open = |name: &str| {
        let known = wish.spec.probes.get_key_value(name);
        known.is_some_and(|(name, _)| {
            answer(health, up, wish, name).is_none_or(|answer| answer.passing.is_none())
        })
    };
    match has_started(up, &wish.spec) {
        true => is_open(ProbeName::READINESS),
        false => is_open(ProbeName::STARTUP),
    }
}

fn beat<'a>(
    name: &ProbeName,
    probe: &'a Probe,
    up: &Up,
    said: &'a Said,
    (now, rules): (Mono, Rules),
) -> Beat<'a> {
    let threshold = if rules.has(Bug::IgnoreRetries) { 1 } else { probe.failure_threshold };
    let is_awaited = name.role() != Role::Liveness;
    Beat { probe, now, started: up.started, is_awaited, said, threshold, rules }
}

impl Health {
    /// When to look at this next.
    pub(super) fn due(&self, up: &Up, said: &Said, wish: &TargetSlot) -> Option<Mono> {
        let spec = &wish.spec;
        let asked = spec.probes.iter().filter(|(name, _)| is_asked(name, up, spec));
        let nothing = Answer::default();
        let due = asked.filter_map(|(name, probe)| {
            let Some(rhythm) = self.rhythms.get(name) else { return Some(up.started) };
            let answer = up.answers.get(name).unwrap_or(&nothing);
            rhythm.due(&beat(name, probe, up, said, (Mono(0), Rules::default())), answer)
        });
        due.min()
    }

    /// The probes may have changed under a running copy: what another question was answered says
    /// nothing, and what is still out of another rhythm is not waited for.
    pub(super) fn follow(&mut self, id: &SlotId, up: &mut Up, said: &Said, wish: &TargetSlot) {
        let spec = &wish.spec;
        if self.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, spec)) {
            return;
        }
        let (before, expiries) = (self.of.replace(spec.clone()), said.expiries);
        self.rhythms.retain(|name, _| spec.probes.contains_key(name));
        up.answers.retain(|name, _| spec.probes.contains_key(name));
        for (name, probe) in &spec.probes {
            let answer = up.answers.entry(name.clone()).or_default();
            let asks = probe.ask.identity();
            if answer.to.as_ref() != Some(&asks) {
                // What has expired before anybody asked is no answer.
                let expiries = if before.is_some() { expiries } else { 0 };
                *answer = Answer { to: Some(asks), expiries, ..Answer::default() };
            }
            let same = before.as_ref().is_some_and(|before| before.probes.get(name) == Some(probe));
            if !same || !self.rhythms.contains_key(name) {
                self.numbers += 1;
                let seed = backoff::spread(id, up.attempt) ^ self.numbers.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let is_heard = self.rhythms.get(name).is_some_and(|rhythm| rhythm.is_heard);
                self.rhythms.insert(name.clone(), Rhythm::new(self.numbers, seed, is_heard));
            }
        }
    }

    /// Asks what it is time to ask. Returns the probes that have come to a no without an answer.
    pub(super) fn probe(
        &mut self,
        id: &SlotId,
        up: &mut Up,
        said: &Said,
        around: &Around<'_>,
        effects: &mut Vec<Effect>,
    ) -> Vec<Failed> {
        let spec = &around.wish.spec;
        let mut failed = Vec::new();
        // Where it has passed by now, the others are asked in the same moment.
        let is_startup = |(name, _): &(&ProbeName, &Probe)| name.role() == Role::Startup;
        let startup = spec.probes.iter().filter(is_startup);
        for (name, probe) in startup.chain(spec.probes.iter().filter(|probe| !is_startup(probe))) {
            if !is_asked(name, up, spec) && !around.rules.has(Bug::AskBeforeStartup) {
                continue;
            }
            let beat = beat(name, probe, up, said, (around.now, around.rules));
            let Some(rhythm) = self.rhythms.get_mut(name) else { continue };
            let (attempt, log) = (up.attempt, (up.attempt, up.log_start));
            let answer = up.answers.entry(name.clone()).or_default();
            // What is told may be news more than once: of a log that is watched from now on a counted no
            // may be due; who was silent may live again by now.
            for _ in 0..2 {
                let yes = match rhythm.turn(&beat, answer) {
                    Turn::Rest => break,
                    Turn::Watch => {
                        effects.push(watch(id, log, name, rhythm.number, probe));
                        continue;
                    }
                    Turn::Ask => {
                        effects.push(ask(id, (attempt, name), rhythm.number, probe, around));
                        break;
                    }
                    Turn::Yes => true,
                    Turn::No => false,
                };
                let last = told(&probe.ask, yes, beat.said);
                if rhythm.judge(yes, last.clone(), &beat, answer) == Verdict::Failed {
                    failed.push(Failed { name: name.clone(), last });
                }
            }
        }
        failed
    }

    /// An answer came. Returns the probe, if that has come to a no.
    pub(super) fn answered(
        &mut self,
        up: &mut Up,
        said: &Said,
        (check, yes, message): (u64, bool, String),
        around: &Around<'_>,
    ) -> Option<Failed> {
        let spec = &around.wish.spec;
        let wrong = around.rules.has(Bug::TakeAnyAnswer);
        let (name, rhythm) = self.rhythms.iter_mut().find(|(_, rhythm)| rhythm.number == check || wrong)?;
        let probe = spec.probes.get(name)?;
        let beat = beat(name, probe, up, said, (around.now, around.rules));
        let answer = up.answers.entry(name.clone()).or_default();
        if !yes && matches!(probe.ask, Question::Log(_)) {
            // Nothing is said about the service: it is we who cannot look.
            rhythm.cannot_watch(message, &beat);
            return None;
        }
        let verdict = rhythm.judge(yes, message.clone(), &beat, answer);
        (verdict == Verdict::Failed).then(|| Failed { name: name.clone(), last: message })
    }

    /// It could not be asked, and why.
    pub(super) fn unasked(&mut self, check: u64, why: String, now: Mono) {
        if let Some(rhythm) = self.rhythms.values_mut().find(|rhythm| rhythm.number == check) {
            rhythm.cannot_ask(why, now);
        }
    }

    /// The probes that cannot be asked, and why.
    pub(super) fn mute(&self) -> impl Iterator<Item = (&ProbeName, &String)> {
        self.rhythms.iter().filter_map(|(name, rhythm)| Some((name, rhythm.unasked.as_ref()?)))
    }

    /// How each probe stands.
    pub(super) fn shown(&self, up: &Up) -> BTreeMap<ProbeName, ProbeStatus> {
        let shown = up.answers.iter().map(|(name, answer)| {
            let rhythm = self.rhythms.get(name);
            let status = ProbeStatus {
                passing: answer.passing,
                failures: rhythm.map_or(0, |rhythm| rhythm.failures),
                last: rhythm.and_then(|rhythm| rhythm.last.clone()),
            };
            (name.clone(), status)
        });
        shown.collect()
    }

    /// What a probe said last, and how often in a row it was a no.
    pub(super) fn last(&self, name: &str) -> (Option<String>, u32) {
        let rhythm = self.rhythms.get(name);
        (rhythm.and_then(|rhythm| rhythm.last.clone()), rhythm.map_or(0, |rhythm| rhythm.failures))
    }
}

fn ask(
    id: &SlotId,
    (attempt, name): (Attempt, &ProbeName),
    check: u64,
    probe: &Probe,
    around: &Around<'_>,
) -> Effect {
    Effect::Probe {
        slot: id.clone(),
        attempt,
        name: name.clone(),
        check,
        ask: probe.ask.clone(),
        spec: around.wish.spec.clone(),
        base_environment: around.wish.base_environment.clone(),
        timeout: probe.timeout,
    }
}

fn watch(
    id: &SlotId,
    (attempt, from): (Attempt, u64),
    name: &ProbeName,
    check: u64,
    probe: &Probe,
) -> Effect {
    let pattern = match &probe.ask {
        Question::Log(pattern) => pattern.clone(),
        _ => String::new(),
    };
    let (slot, name) = (id.clone(), name.clone());
    Effect::WatchLog { slot, attempt, name, check, pattern, from }
}

/// What is said of a probe that is not asked.
fn told(question: &Question, yes: bool, said: &Said) -> String {
    match (question, yes) {
        (Question::Log(_), _) => "no line matched yet".to_owned(),
        (Question::Notify, true) => "it said READY=1".to_owned(),
        (Question::Notify, false) => "it has not said READY=1 yet".to_owned(),
        (_, true) => "it says WATCHDOG=1".to_owned(),
        (_, false) if said.watchdog == super::Watchdog::Triggered => "it said WATCHDOG=trigger".to_owned(),
        (Question::Watchdog(every), false) => {
            format!("it has not said WATCHDOG=1 for {}", said.watchdog_every.unwrap_or(*every))
        }
        (_, false) => "it has not said WATCHDOG=1 in time".to_owned(),
    }
}

/// The probe that says most about how the slot stands, with its question: one that is spent, then one
/// that fails, then one that is waited for.
pub(super) fn worst<'a>(
    health: &Health,
    up: &'a Up,
    wish: &'a TargetSlot,
) -> Option<(&'a ProbeName, &'a Probe, Standing)> {
    let spec = &wish.spec;
    let standing = |name: &ProbeName| {
        let answer = answer(health, up, wish, name);
        let passing = answer.and_then(|answer| answer.passing);
        match (passing, name.role()) {
            (Some(false), _) if answer.is_some_and(|answer| answer.spent) => Some(Standing::Spent),
            (Some(false), Role::Startup | Role::Readiness | Role::Liveness) => Some(Standing::Fails),
            (None, Role::Startup | Role::Readiness) => Some(Standing::Awaited),
            _ => None,
        }
    };
    // Of those alike, the startup probe comes first: what follows it is not asked before it passes.
    let order = |name: &ProbeName| (name.role() != Role::Startup, name.role() != Role::Readiness);
    let standings = spec.probes.iter().filter_map(|(name, probe)| Some((name, probe, standing(name)?)));
    standings.min_by_key(|(name, _, standing)| (*standing, order(name)))
}

/// Probes of a name of their own that fail: they say nothing of whether it may be used, and whoever
/// asks how it is wants to know.
pub(super) fn failing<'a>(
    health: &'a Health,
    up: &'a Up,
    wish: &'a TargetSlot,
) -> impl Iterator<Item = (&'a ProbeName, &'a Probe)> {
    let fails = |name: &ProbeName| {
        let answer = answer(health, up, wish, name);
        name.role() == Role::Named
            && answer.is_some_and(|answer| answer.passing == Some(false) && !answer.spent)
    };
    wish.spec.probes.iter().filter(move |(name, _)| fails(name))
}

/// How a probe stands that does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// It fails, and what was to be done about it was done as often as it may be.
    Spent,
    /// It fails.
    Fails,
    /// It has not passed yet.
    Awaited,
}

/// Whether anything is to be done about a no.
pub(super) fn acts(action: &Reaction) -> bool {
    *action != Reaction::Ignore
}

/// What a probe was answered, where that is an answer to what it asks by now.
fn answer<'a>(health: &Health, up: &'a Up, wish: &TargetSlot, name: &ProbeName) -> Option<&'a Answer> {
    let answer = up.answers.get(name)?;
    if health.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, &wish.spec)) {
        // It has followed the file, and forgotten what was no answer to it.
        return Some(answer);
    }
    let asks = wish.spec.probes.get(name).map(|probe| probe.ask.identity());
    Some(answer).filter(|answer| answer.to == asks)
}

/// Whether this daemon knows how it stands: what had passed before the daemon was restarted has been
/// answered once since. What a process is told to have said stays said, and is not asked again.
pub(super) fn is_known(health: &Health, up: &Up, wish: &TargetSlot, rules: Rules) -> bool {
    let spec = &wish.spec;
    let is_remembered = |(name, probe): (&ProbeName, &Probe)| {
        let passes = up.answers.get(name).is_some_and(|answer| answer.passing == Some(true));
        let is_heard = || health.rhythms.get(name).is_some_and(|rhythm| rhythm.is_heard);
        passes && !probe.ask.is_told() && is_asked(name, up, spec) && !is_heard()
    };
    let is_quiet = up.stopping.is_some() || !up.preparation.is_done();
    is_quiet || rules.has(Bug::BelieveOldYes) || !spec.probes.iter().any(is_remembered)
}

/// The probes that pass now.
pub(super) fn passing(health: &Health, up: &Up, wish: &TargetSlot) -> BTreeSet<ProbeName> {
    let passes =
        |name: &&ProbeName| answer(health, up, wish, name).is_some_and(|answer| answer.passing == Some(true));
    wish.spec.probes.keys().filter(passes).cloned().collect()
}
