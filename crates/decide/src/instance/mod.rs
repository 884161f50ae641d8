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
mod edges;
mod end;
mod health;
mod hooks;
mod input;
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

use std::collections::BTreeMap;

use upbeat_model::project::Question;
use upbeat_model::state::Exit;
use upbeat_model::target::TargetSlot;
use upbeat_model::{Attempt, Millis, Mono, ProbeName, Reason, ServiceName, SlotId, Wall};

pub use health::Health;
pub use hooks::{HookCommand, Moment, Preparation};
pub use input::{Input, Observation};
pub use react::Done;
pub use rhythm::Answer;
pub use said::{Said, Watchdog};
pub use stage::{Begun, Condemned, Durable, Farewell, Follows, Late, Mark, Reloading, RestsOn, Stage, Up};
pub use status::{status, view};
pub use stop::{StopRules, Stopping};

use crate::effect::Effect;
use crate::gate::{Opening, Verdict, View};
use crate::node::Reacted;
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
    /// When to look again at something that did not answer as it should.
    pub recheck: Option<Mono>,
    /// What went wrong with the machinery itself, for people.
    pub trouble: Option<String>,
    /// What the process of this attempt has said of itself. Its shim says it again to every daemon.
    pub said: Option<(Attempt, Said)>,
    /// Since when it waits for what it needs, and under the wish of which generation: whoever asks
    /// anew waits anew. Begins anew with the daemon.
    pub waiting_since: Option<(u64, Mono)>,
    /// When to look at the gate again, if nothing around it changes.
    pub gate_due: Option<Mono>,
    /// When to order a reload again that was not answered.
    pub reload_again: Option<Mono>,
    /// What was done about failing probes just now: taken by whoever tells it.
    pub reacted: Vec<Reacted>,
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

    fn starts(&self, attempt: Attempt) -> bool {
        matches!(self.durable.stage, Stage::Starting { .. }) && self.durable.attempt == attempt
    }

    fn look(&self, id: &SlotId) -> Effect {
        Effect::Observe { slot: id.clone(), attempt: self.durable.attempt }
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
    pub start_gate: &'a dyn Fn(Mono) -> Opening,
    /// The copies of a dependency that shall exist.
    pub copies: &'a dyn Fn(&ServiceName) -> Vec<View>,
    /// What one of its dependencies allows.
    pub edge: &'a dyn Fn(&ServiceName) -> Verdict,
    /// What its dependents allow.
    pub stop_gate: &'a dyn Fn() -> Option<Reason>,
    /// Which deliberate bug a test has planted.
    pub rules: Rules,
}

/// After an effect that should have been answered by now, look at the machine again.
const RECHECK_AFTER: Millis = Millis::seconds(5);

/// After the machine could not be looked at, or files not be deleted, try again.
const RETRY_AFTER: Millis = Millis::seconds(1);

/// Takes one input and says what to do. The state changes at once; whoever calls commits it before
/// performing the effects.
pub fn step(id: &SlotId, slot: &mut Slot, input: Input, around: &Around<'_>) -> Vec<Effect> {
    let mut effects = Vec::new();
    take(id, slot, input, around, &mut effects);
    settle::settle(id, slot, around, &mut effects);
    let phase = status::phase(slot, around.wish);
    if slot.durable.entered.is_none_or(|(entered, _)| entered != phase) {
        slot.durable.entered = Some((phase, around.wall));
        timeline::enters(&mut slot.durable, phase, around.now);
    }
    effects
}

/// The facts an input brings, without any decision about what comes next.
fn take(id: &SlotId, slot: &mut Slot, input: Input, around: &Around<'_>, effects: &mut Vec<Effect>) {
    match input {
        Input::Look => {}
        Input::Started { attempt, pid, at, log_start } => {
            if let Stage::Starting { begun, .. } = &slot.durable.stage
                && (slot.durable.attempt == attempt)
            {
                let begun = begun.clone();
                come_up(slot, begun, attempt, pid, at, log_start, around);
            }
        }
        Input::StartFailed { attempt, why } if slot.starts(attempt) => {
            ended(id, slot, Exit::NotStarted(why), around);
        }
        Input::StartUnable { attempt, why } if slot.starts(attempt) => {
            // Nothing was started, as a look will tell: then it is begun anew. What would run elsewhere
            // cannot be looked at: its command is run again.
            slot.observing =
                !matches!(&slot.durable.stage, Stage::Starting { begun, .. } if begun.mark.external);
            slot.in_trouble(why, around);
        }
        Input::StartRefused { attempt, seen } if slot.starts(attempt) => {
            slot.durable.attempt = attempt.max(seen);
            slot.observing = true;
            slot.recheck = Some(around.now + RECHECK_AFTER);
            effects.push(slot.look(id));
        }
        // Of an attempt that is over.
        Input::StartFailed { .. } | Input::StartUnable { .. } | Input::StartRefused { .. } => {}
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
        Input::Notified { attempt, said } => heard(slot, attempt, said),
        Input::HooksEnded { attempt, moment, outcome } => {
            hooks_ended(id, slot, attempt, (moment, outcome), around, effects);
        }
        Input::Reloaded { attempt, serial, outcome } => reload::ended(slot, attempt, serial, outcome),
        Input::StopFailed { attempt, why } => {
            if matches!(&slot.durable.stage, Stage::Up(up) if up.attempt == attempt) {
                slot.in_trouble(why, around);
            }
        }
        Input::Removed => {
            if slot.durable.stage == Stage::Removing {
                slot.durable =
                    Durable { stage: Stage::Gone, entered: slot.durable.entered, ..Durable::default() };
                slot.trouble = None;
                slot.recheck = None;
            }
        }
        Input::RemoveFailed { why } => {
            if slot.durable.stage == Stage::Removing {
                slot.in_trouble(why, around);
            }
        }
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
    slot.health.follow(id, up, around.wish);
    let said = Slot::said_by(&slot.said, attempt);
    if let Some(failed) = slot.health.answered(up, &said, answer, around) {
        let reacted = react::react(id, slot, failed, around, effects);
        slot.reacted.extend(reacted);
    }
}

/// It says how it is doing. May overtake the answer to its start.
fn heard(slot: &mut Slot, attempt: Attempt, said: Said) {
    if attempt < slot.durable.attempt {
        return;
    }
    if let Stage::Up(up) = &mut slot.durable.stage
        && up.attempt == attempt
    {
        if let Some(pid) = said.main_pid {
            up.pid = pid;
        }
        if let Some(until) = said.extended {
            stop::extend(up, until);
        }
    }
    slot.said = Some((attempt, said));
}

fn hooks_ended(
    id: &SlotId,
    slot: &mut Slot,
    attempt: Attempt,
    (moment, outcome): (Moment, Result<(), String>),
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
        // Of an attempt that is over; or its probe will tell what it was good for.
        _ => {}
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
    timeline::comes_up(&mut slot.durable, around.now);
    let Begun { mark, serial, stop, rests_on } = begun;
    let said = Slot::said_by(&slot.said, attempt);
    slot.durable.stage = Stage::Up(Box::new(Up {
        mark,
        attempt,
        serial,
        pid: said.main_pid.unwrap_or(pid),
        started: around.now,
        started_at: at,
        log_start,
        stop,
        preparation: Preparation::of(around),
        answers: answers(around),
        condemned: None,
        rests_on,
        reload: None,
        stopping: None,
    }));
}

/// Of a copy that was just started there are none.
fn answers(around: &Around<'_>) -> BTreeMap<ProbeName, Answer> {
    let probes = around.wish.spec.probes.iter().filter(|_| around.rules.has(Bug::ReadyWhenStarted));
    let yes = |ask: &Question| Answer {
        to: Some(ask.identity()),
        was_yes: true,
        passing: Some(true),
        spent: false,
    };
    probes.map(|(name, probe)| (name.clone(), yes(&probe.ask))).collect()
}

fn take_exit(id: &SlotId, slot: &mut Slot, attempt: Attempt, exit: Exit, around: &Around<'_>) {
    if slot.durable.stage == Stage::Idle && slot.durable.attempt == attempt {
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
        ended(id, slot, exit, around);
    }
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
            // Its stop command is run again, or asked after.
            Some(_) if up.mark.external && slot.recheck.is_some() => slot.recheck,
            Some(stopping) => Some(stopping.deadline + RECHECK_AFTER),
            None if up.preparation.is_done() => {
                let said = Slot::said_by(&slot.said, up.attempt);
                let probes = slot.health.due(up, &said, wish);
                probes.into_iter().chain(slot.reload_again).min()
            }
            None => None,
        },
        _ => None,
    };
    [stage, slot.recheck, late.map(|late| late.until)].into_iter().flatten().min()
}
