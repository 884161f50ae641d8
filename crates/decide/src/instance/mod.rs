//! The instance machine: whether and when a slot's process is started, probed, restarted, stopped.
//!
//! ```text
//!            wish: running, gate open            started
//!   ┌──────┐ ───────────────────────▶ ┌──────────┐ ───▶ ┌────────────────────────────┐
//!   │ Idle │              pre_start ▶ │ Starting │      │ Up   post_start → starting │
//!   └──────┘ ◀──────────┐             └──────────┘      │       starting → ready     │
//!      │ ▲  ▲           │ due, gate open ▲ │ failed     │       ready ⇄ unhealthy    │
//!      │ │  │           │                │ │            │ condemned: by probe, edge  │
//!      │ │  │ stopped   └────────────────┼─┤            │ stopping: command → signal │
//!      │ │  │                            │ │            └────────────────────────────┘
//!      │ │  └────────────────────────────┼─│──────── exit, stopping ────┘ │ exit by itself, condemned
//!      │ │                          ┌─────────┐◀── policy: again ─────────┤
//!      │ │                          │ Resting │                           │
//!      │ │ wish: run again          └─────────┘     ┌───────┐◀─────────────┘
//!      │ └──────────────────────────────────────────│ Ended │ policy: leave it
//!      ▼ wish: absent                               └───────┘
//!   ┌──────────┐ removed ┌──────┐
//!   │ Removing │ ──────▶ │ Gone │
//!   └──────────┘         └──────┘
//! ```
//!
//! Between an end and whatever follows it the `post_stop` hooks run.
//!
//! Laws: pure, so time is an argument; level-triggered, so a lost input costs time and nothing
//! else; the attempt in every input fences it, so a late one is ignored; the intent to start is in
//! the state before the effect is performed, so after a crash it is observed before it is redone.
//! This machine is the only caller of the process driver.

pub mod backoff;
mod drift;
mod edges;
mod end;
mod health;
mod hooks;
mod input;
mod making;
mod observe;
mod react;
mod reload;
mod rhythm;
mod said;
mod settle;
mod stage;
mod status;
mod stop;
#[cfg(test)]
mod tests;
mod timeline;

use std::collections::{BTreeMap, BTreeSet};

use upbeat_model::project::Question;
use upbeat_model::state::Exit;
use upbeat_model::target::TargetSlot;
use upbeat_model::{Attempt, Millis, Mono, ProbeName, Reason, ServiceName, SlotId, Wall};

pub use drift::Drift;
pub use health::Health;
pub use hooks::{HookCommand, Moment, Preparation};
pub use input::{Held, Input, Observation, Taken, Unlocked, Unprepared};
pub(crate) use making::networks;
pub use making::{Making, Readiness, readiness, stays_for_now};
pub use react::Done;
pub use rhythm::Answer;
pub use said::{Said, Watchdog};
pub(crate) use settle::{goes_for_a_change, is_going, may_go_for_a_change};
pub use stage::{
    Begun, Condemned, Durable, Farewell, Follows, Healing, Late, Made, Mark, Reloading, RestsOn, Stage, Up,
};
pub use status::{comes_back, is_called_off, is_known, status, up_since, view};
pub use stop::{GivenUp, StopRules, Stopping};

use crate::effect::Effect;
use crate::gate::{Opening, Verdict, View};
use crate::node::{Outcome, Reacted};
use crate::rules::{Bug, Rules};
use end::ended;
use observe::take_observation;

/// A slot: what is kept, and what is found out anew.
#[derive(Clone, Debug, Default)]
pub struct Slot {
    /// What is kept.
    pub durable: Durable,
    /// The rhythm of probes.
    pub health: Health,
    /// What the gate said last, while it keeps the slot from starting or stopping.
    pub blocked: Option<Verdict>,
    /// The stage was read from the store and the machine was not looked at yet.
    pub observing: bool,
    /// A container of it may be there, though nobody remembers one: it was ordered, or the engine has it.
    pub appeared: bool,
    /// When to look again at something that did not answer as it should.
    pub recheck: Option<Mono>,
    /// What went wrong with the machinery itself, for people.
    pub trouble: Option<String>,
    /// What the process of this attempt has said of itself. Its shim says it again to every daemon.
    pub said: Option<(Attempt, Said)>,
    /// Since when this attempt is known to have said that it is about to end.
    pub leaves_since: Option<(Attempt, Mono)>,
    /// Since when it waits for what it needs, and under the wish of which generation: whoever asks
    /// anew waits anew. Begins anew with the daemon.
    pub waiting_since: Option<(u64, Mono)>,
    /// What was begun and could not be started, or perhaps was not, for a lack of ours: its `pre_start` hooks have succeeded, and
    /// are not run again for that.
    pub prepared: Option<Begun>,
    /// When to look at the gate again, if nothing around it changes.
    pub gate_due: Option<Mono>,
    /// The container of the newest wish, while it is not made.
    pub making: Option<Making>,
    /// It would be stopped for the sake of something new, and is not before everything is there.
    pub untouched: Option<Verdict>,
    /// Its container was changed by another hand.
    pub drift: Option<Drift>,
    /// When to order a reload again that was not answered.
    pub reload_again: Option<Mono>,
    /// When to order what is run about a failing probe again that was not answered.
    pub remedy_again: Option<Mono>,
    /// What was done about failing probes just now: taken by whoever tells it.
    pub reacted: Vec<Reacted>,
    /// And what came of what was done before.
    pub outcomes: Vec<Outcome>,
}

impl Slot {
    /// The machinery itself does not do as it should: that is said, and tried again soon.
    fn in_trouble(&mut self, why: String, around: &Around<'_>) {
        self.trouble = Some(why);
        self.recheck = Some(around.now + RETRY_AFTER);
    }

    /// What this attempt has said of itself.
    fn said_by(said: &Option<(Attempt, Said)>, attempt: Attempt) -> Said {
        said.as_ref().filter(|(of, _)| *of == attempt).map(|(_, said)| said.clone()).unwrap_or_default()
    }

    /// By when a copy that has said that it is about to end has ended, or is made to.
    fn leaves_by(&self, up: &Up) -> Option<Mono> {
        let (_, since) = self.leaves_since.filter(|(of, _)| *of == up.attempt)?;
        Some(since + up.stop.as_ref().map_or(LEAVES_WITHIN, |rules| rules.grace))
    }

    fn starts(&self, attempt: Attempt) -> bool {
        matches!(self.durable.stage, Stage::Starting { .. }) && self.durable.attempt == attempt
    }

    /// What is being started.
    fn begun(&self) -> Option<&Begun> {
        match &self.durable.stage {
            Stage::Starting { begun, .. } => Some(begun),
            _ => None,
        }
    }

    fn look(&self, id: &SlotId) -> Effect {
        let container = self.may_be_container();
        Effect::Observe { slot: id.clone(), attempt: self.durable.attempt, container }
    }

    /// A container of it may be there. Whoever has none does not need an engine.
    fn may_be_container(&self) -> bool {
        let is_one = mark(&self.durable).is_some_and(|mark| mark.container.is_some());
        let was_one = self.durable.made.is_some() || !self.durable.networks.is_empty();
        is_one || was_one || self.appeared
    }
}

/// What a decision may look at besides the slot itself.
pub struct Around<'a> {
    /// The boot clock.
    pub now: Mono,
    /// The clock on the wall.
    pub wall: Wall,
    /// What is wished for this slot.
    pub wish: &'a TargetSlot,
    /// What its dependencies allow it, when it waits since then.
    pub start_gate: &'a dyn Fn(Mono, bool) -> Opening,
    /// The copies of a dependency that shall exist.
    pub copies: &'a dyn Fn(&ServiceName) -> Vec<View>,
    /// What one of its dependencies allows.
    pub edge: &'a dyn Fn(&ServiceName) -> Verdict,
    /// What is decided can be kept: without that nothing is started.
    pub keeps: bool,
    /// What of the same operation has to be there before anything that runs is touched for it.
    pub untouched: &'a dyn Fn() -> Option<Verdict>,
    /// Copies of its app run that were given update locks.
    pub app_has_locks: bool,
    /// Those of these networks, and of its wish, that nobody else of its app needs.
    pub last_in: &'a dyn Fn(&BTreeSet<String>) -> Vec<String>,
    /// What its dependents allow, when everything that is wished of itself is there or not.
    pub stop_gate: &'a dyn Fn(Readiness) -> Option<Reason>,
    /// Which deliberate bug a test has planted.
    pub rules: Rules,
}

/// After an effect that should have been answered by now, look at the machine again.
const RECHECK_AFTER: Millis = Millis::seconds(5);

/// A copy of which nobody knows how it is stopped has so long to end by itself, once it has said that it
/// will.
const LEAVES_WITHIN: Millis = Millis::seconds(10);

/// After the machine could not be looked at, or files not be deleted, try again.
const RETRY_AFTER: Millis = Millis::seconds(1);

/// Takes one input and says what to do. The state changes at once; whoever calls commits it before
/// performing the effects.
pub fn step(id: &SlotId, slot: &mut Slot, input: Input, around: &Around<'_>) -> Vec<Effect> {
    let mut effects = Vec::new();
    take(id, slot, input, around, &mut effects);
    settle::settle(id, slot, around, &mut effects);
    let phase = status::phase(slot, around.wish);
    if phase.is_ready()
        && let Stage::Up(up) = &mut slot.durable.stage
    {
        up.unready = false;
    }
    if slot.durable.entered.is_none_or(|(entered, _)| entered != phase) {
        slot.durable.entered = Some((phase, around.wall));
        timeline::enters(&mut slot.durable, phase, around.now);
    }
    effects
}

/// The facts an input brings, without any decision about what comes next.
fn take(id: &SlotId, slot: &mut Slot, input: Input, around: &Around<'_>, effects: &mut Vec<Effect>) {
    match input {
        // Of locks the node decides.
        Input::Look | Input::Locked { .. } => {}
        input @ (Input::Started { .. }
        | Input::StartFailed { .. }
        | Input::StartUnable { .. }
        | Input::StartWithheld { .. }
        | Input::StartRefused { .. }
        | Input::StartGone { .. }) => take_start(id, slot, input, around, effects),
        input @ (Input::Preparing { .. }
        | Input::Prepared { .. }
        | Input::PrepareFailed { .. }
        | Input::Taken { .. }
        | Input::Drifted { .. }
        | Input::Mended { .. }
        | Input::Appeared) => drift::take(id, slot, input, around),
        Input::Exited { attempt, exit } => take_exit(id, slot, attempt, exit, around),
        Input::Observed { asked, seen } => {
            if asked == slot.durable.attempt || around.rules.has(Bug::TakeStaleLooks) {
                take_observation(id, slot, seen, around);
            }
        }
        Input::ObserveFailed { why } => slot.in_trouble(why, around),
        Input::Probed { attempt, check, healthy, message } => {
            probed(id, slot, attempt, (check, healthy, message), around, effects);
        }
        Input::Unasked { attempt, check, why } => unasked(slot, attempt, check, why, around),
        Input::Notified { attempt, said } => heard(slot, attempt, said, around),
        input @ (Input::HooksEnded { .. }
        | Input::HooksUnable { .. }
        | Input::Reloaded { .. }
        | Input::ReloadUnable { .. }
        | Input::SignalFailed { .. }) => take_deed(id, slot, input, around, effects),
        Input::StopFailed { attempt, why } => {
            if matches!(&slot.durable.stage, Stage::Up(up) if up.attempt == attempt) {
                slot.in_trouble(why, around);
            }
        }
        Input::StopWithheld { attempt } => stop::withheld(slot, attempt),
        Input::Removed => {
            if slot.durable.stage == Stage::Removing {
                slot.durable =
                    Durable { stage: Stage::Gone, entered: slot.durable.entered, ..Durable::default() };
                slot.trouble = None;
                slot.recheck = None;
                // Attempts are counted anew: what one of the same number has said was another.
                (slot.said, slot.leaves_since) = (None, None);
                slot.appeared = false;
            }
        }
        Input::RemoveFailed { why } => {
            if slot.durable.stage == Stage::Removing {
                slot.in_trouble(why, around);
            }
        }
    }
}

/// What came of a start. Of an attempt that is over it is no news.
fn take_start(id: &SlotId, slot: &mut Slot, input: Input, around: &Around<'_>, effects: &mut Vec<Effect>) {
    match input {
        Input::Started { attempt, pid, at, log_start } => {
            if let Stage::Starting { begun, .. } = &slot.durable.stage
                && (slot.durable.attempt == attempt)
            {
                let begun = begun.clone();
                come_up(slot, begun, attempt, pid, at, log_start, around);
            } else if attempt == slot.durable.attempt && slot.may_be_container() {
                // An engine may take minutes to start one.
                observe::is_contradicted(slot);
            }
        }
        Input::StartFailed { attempt, why } if slot.starts(attempt) => {
            ended(id, slot, Exit::NotStarted(why), around);
        }
        Input::StartUnable { attempt, why } if slot.starts(attempt) => start_unable(slot, why, around),
        Input::StartWithheld { attempt } if slot.starts(attempt) => start_withheld(slot),
        Input::StartRefused { attempt, seen } if slot.starts(attempt) => {
            slot.durable.attempt = attempt.max(seen);
            slot.observing = true;
            slot.prepared = slot.begun().cloned();
            slot.recheck = Some(around.now + RECHECK_AFTER);
            effects.push(slot.look(id));
        }
        Input::StartGone { attempt } if slot.starts(attempt) => {
            if !around.rules.has(Bug::IgnoreGone) {
                making::gone(slot);
            }
            start_withheld(slot);
        }
        _ => {}
    }
}

/// What came of something that was done to a copy, or run beside it.
fn take_deed(id: &SlotId, slot: &mut Slot, input: Input, around: &Around<'_>, effects: &mut Vec<Effect>) {
    match input {
        Input::HooksEnded { attempt, moment, serial, outcome } => {
            hooks_ended(id, slot, attempt, (moment, serial, outcome), around, effects);
        }
        Input::HooksUnable { attempt, moment, serial, why } if around.rules.has(Bug::SpendOnUnable) => {
            hooks_ended(id, slot, attempt, (moment, serial, Err(why)), around, effects);
        }
        Input::HooksUnable { attempt, moment, serial, why } => {
            hooks_unable(id, slot, attempt, (moment, serial, why), around, effects);
        }
        Input::Reloaded { attempt, serial, outcome } => reload::ended(id, slot, attempt, serial, outcome),
        Input::ReloadUnable { attempt, serial, why } => reload::unable(slot, attempt, serial, why, around),
        Input::SignalFailed { attempt, probe, why } => react::not_sent(id, slot, attempt, probe, why),
        _ => {}
    }
}

/// Nothing was started, as a look will tell: then it is begun anew. What would run elsewhere cannot be
/// looked at: its command is run again.
fn start_unable(slot: &mut Slot, why: String, around: &Around<'_>) {
    slot.prepared = slot.begun().filter(|begun| !begun.mark.external).cloned();
    slot.observing = slot.prepared.is_some();
    slot.in_trouble(why, around);
}

/// Nothing was started, and there is nothing to look at. What is run elsewhere is ordered more than once, so
/// that an order before this one may have been carried out.
fn start_withheld(slot: &mut Slot) {
    if matches!(&slot.durable.stage, Stage::Starting { begun, .. } if !begun.mark.external) {
        slot.durable.stage = Stage::Idle;
        slot.durable.failures = 0;
        slot.observing = false;
        (slot.recheck, slot.trouble) = (None, None);
    }
}

fn unasked(slot: &mut Slot, attempt: Attempt, check: u64, why: String, around: &Around<'_>) {
    if matches!(&slot.durable.stage, Stage::Up(up) if up.attempt == attempt) {
        slot.health.unasked(check, why, around.now);
    }
}

fn probed(
    id: &SlotId,
    slot: &mut Slot,
    attempt: Attempt,
    answer: (u64, bool, String),
    around: &Around<'_>,
    effects: &mut Vec<Effect>,
) {
    let Stage::Up(up) = &mut slot.durable.stage else { return };
    if up.attempt != attempt {
        return;
    }
    // The file may be a newer one than the one that asked.
    let said = Slot::said_by(&slot.said, attempt);
    slot.health.follow(id, up, &said, around.wish);
    if let Some(failed) = slot.health.answered(up, &said, answer, around) {
        let reacted = react::react(id, slot, failed, around, effects);
        slot.reacted.extend(reacted);
    }
}

/// It says how it is doing. May overtake the answer to its start.
fn heard(slot: &mut Slot, attempt: Attempt, said: Said, around: &Around<'_>) {
    // What stands there may be one that came late, after a later one was decided.
    let oldest = match &slot.durable.stage {
        Stage::Up(up) => up.attempt,
        _ => slot.durable.attempt,
    };
    if attempt < oldest {
        return;
    }
    if let Stage::Up(up) = &mut slot.durable.stage
        && up.attempt == attempt
    {
        if let Some(pid) = said.main_pid.filter(|_| !around.rules.has(Bug::IgnoreMainPid)) {
            up.pid = pid;
        }
        if let Some(until) = said.extended.filter(|_| !around.rules.has(Bug::IgnoreExtensions)) {
            stop::extend(up, until);
        }
    }
    slot.leaves_since.take_if(|(of, _)| *of != attempt || !said.stopping);
    if said.stopping {
        slot.leaves_since.get_or_insert((attempt, around.now));
    }
    slot.said = Some((attempt, said));
}

fn hooks_ended(
    id: &SlotId,
    slot: &mut Slot,
    attempt: Attempt,
    (moment, serial, outcome): (Moment, u64, Result<(), String>),
    around: &Around<'_>,
    effects: &mut Vec<Effect>,
) {
    let is_up = matches!(&slot.durable.stage, Stage::Up(up) if up.attempt == attempt);
    match moment {
        Moment::PreStart if slot.starts(attempt) => settle::preceded(id, slot, outcome, around, effects),
        Moment::PostStart if is_up => hooks::prepared(slot, outcome),
        Moment::PreStop if is_up => stop::hooks_ended(id, slot, outcome, around, effects),
        Moment::PostStop if slot.durable.farewell.as_ref().is_some_and(|of| of.attempt == attempt) => {
            hooks::parted(slot);
        }
        Moment::Remedy if is_up => react::ended(id, slot, serial, outcome),
        // Of an attempt that is over.
        _ => {}
    }
}

/// They could not be run: what is due stays due, and is ordered again soon.
fn hooks_unable(
    id: &SlotId,
    slot: &mut Slot,
    attempt: Attempt,
    (moment, serial, why): (Moment, u64, String),
    around: &Around<'_>,
    effects: &mut Vec<Effect>,
) {
    let is_due = match (&slot.durable.stage, moment) {
        (Stage::Starting { before, .. }, Moment::PreStart) => {
            *before == Preparation::Due && slot.durable.attempt == attempt
        }
        (Stage::Up(up), Moment::PostStart) => hooks::are_awaited(up) && up.attempt == attempt,
        (_, Moment::PostStop) => slot.durable.farewell.as_ref().is_some_and(|of| of.attempt == attempt),
        (Stage::Up(up), Moment::PreStop) if up.attempt == attempt => {
            return stop::hooks_unable(id, slot, why, around, effects);
        }
        (Stage::Up(up), Moment::Remedy) if up.attempt == attempt => {
            return react::unable(slot, serial, why, around);
        }
        // Of an attempt that is over.
        _ => false,
    };
    if is_due {
        slot.in_trouble(hooks::not_run(moment, &why), around);
    }
}

fn come_up(
    slot: &mut Slot,
    begun: Begun,
    attempt: Attempt,
    pid: i32,
    at: Wall,
    log_start: u64,
    around: &Around<'_>,
) {
    slot.health = Health::default();
    if let Some((of, _)) = slot.said.as_mut().filter(|_| around.rules.has(Bug::SayReadyOfDeadAttempt)) {
        *of = attempt;
    }
    slot.recheck = None;
    slot.trouble = None;
    slot.prepared = None;
    timeline::comes_up(&mut slot.durable, around.now);
    let Begun { mark, serial, stop, rests_on, reload } = begun;
    let said = Slot::said_by(&slot.said, attempt);
    slot.durable.stage = Stage::Up(Box::new(Up {
        unready: mark.is_known(),
        mark,
        attempt,
        serial,
        pid: said.main_pid.filter(|_| !around.rules.has(Bug::IgnoreMainPid)).unwrap_or(pid),
        started: around.now,
        started_at: at,
        log_start,
        stop,
        preparation: Preparation::of(around),
        answers: answers(around),
        condemned: None,
        rests_on,
        reload: reload.map(|serial| Reloading::Due { serial }),
        remedy: None,
        stopping: None,
        may_be_asked: false,
    }));
}

/// Of a copy that was just started there are none.
fn answers(around: &Around<'_>) -> BTreeMap<ProbeName, Answer> {
    let probes = around.wish.spec.probes.iter().filter(|_| around.rules.has(Bug::ReadyWhenStarted));
    let yes = |ask: &Question| Answer {
        to: Some(ask.identity()),
        was_yes: true,
        passing: Some(true),
        ..Answer::default()
    };
    probes.map(|(name, probe)| (name.clone(), yes(&probe.ask))).collect()
}

fn take_exit(id: &SlotId, slot: &mut Slot, attempt: Attempt, exit: Exit, around: &Around<'_>) {
    if slot.durable.stage == Stage::Idle && slot.durable.attempt == attempt && !slot.appeared {
        // It came late, and is gone: a look that was asked for before is older news.
        slot.durable.late = None;
        slot.observing = false;
        slot.recheck = None;
        return;
    }
    let ours = match &slot.durable.stage {
        Stage::Up(up) => up.attempt == attempt,
        // The exit may overtake the answer to the start.
        Stage::Starting { .. } => slot.durable.attempt == attempt,
        _ => false,
    };
    if ours || (around.rules.has(Bug::TakeStaleExits) && matches!(slot.durable.stage, Stage::Up(_))) {
        return ended(id, slot, exit, around);
    }
    observe::is_old(slot, attempt);
}

/// Under which wish the copy in the slot runs, or ended.
pub fn mark(durable: &Durable) -> Option<&Mark> {
    match &durable.stage {
        Stage::Starting { begun, .. } => Some(&begun.mark),
        Stage::Resting { mark, .. } | Stage::Ended { mark } => Some(mark),
        Stage::Up(up) => Some(&up.mark),
        Stage::Idle | Stage::Removing | Stage::Gone => None,
    }
}

/// When the slot must be looked at next, if nothing happens before.
pub fn deadline(slot: &Slot, wish: &TargetSlot) -> Option<Mono> {
    if slot.observing {
        // Nothing is decided before the observation comes, so no other deadline matters.
        return slot.recheck;
    }
    if slot.durable.farewell.is_some() {
        return slot.recheck;
    }
    let blocked = || slot.gate_due.filter(|_| slot.blocked.is_some());
    let late = match &slot.durable.stage {
        Stage::Idle | Stage::Resting { .. } | Stage::Ended { .. } => slot.durable.late.as_ref(),
        _ => None,
    };
    let stage = match &slot.durable.stage {
        Stage::Idle => blocked(),
        Stage::Resting { until, .. } if slot.blocked.is_none() => Some(*until),
        Stage::Resting { .. } | Stage::Ended { .. } => blocked(),
        Stage::Up(up) => match &up.stopping {
            Some(stopping) if stopping.given_up.is_some() => None,
            // Its stop command is run again, or asked after.
            Some(_) if up.mark.external && slot.recheck.is_some() => slot.recheck,
            Some(stopping) => Some(stopping.deadline + RECHECK_AFTER),
            None => {
                // What goes anyway, and waits for others, is not made to.
                let stays = slot.blocked.is_none() && up.condemned.is_none();
                let leaves = slot.leaves_by(up).filter(|_| stays);
                let probes = up.preparation.is_done().then(|| {
                    let said = Slot::said_by(&slot.said, up.attempt);
                    let orders = slot.reload_again.into_iter().chain(slot.remedy_again);
                    slot.health.due(up, &said, wish).into_iter().chain(orders).min()
                });
                probes.flatten().into_iter().chain(leaves).min()
            }
        },
        _ => None,
    };
    let container = [making::deadline(slot, wish), drift::deadline(slot)];
    [stage, slot.recheck, late.map(|late| late.until)].into_iter().chain(container).flatten().min()
}
