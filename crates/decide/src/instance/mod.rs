//! The instance machine: whether and when a slot's process is started, probed, restarted, stopped.
//!
//! ```text
//!            wish: running, gate open            started
//!   ┌──────┐ ───────────────────────▶ ┌──────────┐ ───▶ ┌────────────────────────────┐
//!   │ Idle │                          │ Starting │      │ Up   starting → ready      │
//!   └──────┘ ◀──────────┐             └──────────┘      │       ready ⇄ unhealthy    │
//!      │ ▲  ▲           │ due, gate open ▲ │ failed     │ stopping: command → signal │
//!      │ │  │ stopped   └────────────────┼─┤            └────────────────────────────┘
//!      │ │  └────────────────────────────┼─│──────── exit, stopping ────┘ │ exit by itself
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
//! Laws: pure, so time is an argument; level-triggered, so a lost input costs time and nothing
//! else; the attempt in every input fences it, so a late one is ignored; the intent to start is in
//! the state before the effect is performed, so after a crash it is observed before it is redone.
//! This machine is the only caller of the process driver.

pub mod backoff;
mod health;
mod hooks;
mod input;
mod settle;
mod status;
mod stop;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use upbeat_model::project::Question;
use upbeat_model::state::Exit;
use upbeat_model::target::{Goal, TargetSlot};
use upbeat_model::{Attempt, Millis, Mono, Phase, Reason, ServiceName, SlotId, Wall};

pub use health::Health;
pub use hooks::{HookCommand, Moment, Preparation};
pub use input::{Input, Observation};
pub use status::{status, view};
pub use stop::{StopRules, Stopping};

use crate::effect::Effect;
use crate::gate::Verdict;
use crate::rules::{Bug, Rules};

/// Under which wish a copy was started: what tells whether it is still the wanted one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// [`TargetSlot::generation`].
    pub generation: u64,
    /// [`TargetSlot::digest`].
    pub digest: String,
    /// [`TargetSlot::release`].
    pub release: u64,
    /// The services it was told to rest on when it was started, and since: it stops before they do,
    /// whatever is wished by then.
    #[serde(default)]
    pub needs: BTreeSet<ServiceName>,
}

impl Mark {
    fn of(wish: &TargetSlot) -> Self {
        Self {
            generation: wish.generation,
            digest: wish.digest.clone(),
            release: wish.release,
            needs: wish.spec.depends_on.keys().cloned().collect(),
        }
    }

    /// It goes on under a newer wish. What it was started with it may still use.
    fn pass_to(&mut self, wish: &TargetSlot, rules: Rules) {
        let needs = std::mem::take(&mut self.needs);
        *self = Self::of(wish);
        if !rules.has(Bug::ForgetNeeds) {
            self.needs.extend(needs);
        }
    }

    /// Of a copy we have no memory of: no wish's.
    fn unknown() -> Self {
        Self { generation: 0, digest: String::new(), release: 0, needs: BTreeSet::new() }
    }
}

/// What stands in a slot. What happens next is drawn above.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum Stage {
    /// Nothing, and nothing is known to have ended here that still matters.
    #[default]
    Idle,
    /// A start was decided; whether it happened is not known yet.
    Starting {
        /// Under which wish.
        mark: Mark,
        /// How it is stopped.
        #[serde(default, skip_serializing_if = "StopRules::is_not_kept")]
        stop: Option<StopRules>,
    },
    /// A process.
    Up(Up),
    /// Nothing, until the back-off is over.
    Resting {
        /// The wish its last copy ran under.
        mark: Mark,
        /// Until when.
        until: Mono,
        /// The same for people.
        until_wall: Wall,
        /// How long in all.
        delay: Millis,
    },
    /// Nothing, and the restart policy leaves it so.
    Ended {
        /// The wish its last copy ran under.
        mark: Mark,
    },
    /// Its files are being deleted.
    Removing,
    /// Its files are deleted.
    Gone,
}

/// A process and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Up {
    /// Under which wish it was started.
    pub mark: Mark,
    /// Of which attempt.
    pub attempt: Attempt,
    /// The main process.
    pub pid: i32,
    /// When it was started (or adopted, when nothing better is known).
    pub started: Mono,
    /// The same for people.
    pub started_at: Wall,
    /// Where its output begins in the slot's log.
    pub log_start: u64,
    /// How it is stopped. `None` of a copy that another version started, or that nobody remembers:
    /// then as the newest file says.
    #[serde(default, skip_serializing_if = "StopRules::is_not_kept")]
    pub stop: Option<StopRules>,
    /// How far its `post_start` hooks have come.
    #[serde(default, skip_serializing_if = "Preparation::is_done")]
    pub preparation: Preparation,
    /// What its health check asks: `was_ready` and `healthy` are answers to this. `None` with
    /// answers is of another version, which kept no question.
    #[serde(default)]
    pub question: Option<Question>,
    /// It was ready once.
    pub was_ready: bool,
    /// The last verdict of its health check.
    pub healthy: Option<bool>,
    /// It was asked to stop.
    pub stopping: Option<Stopping>,
}

/// A start whose answer was lost, and of which nothing was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Late {
    /// Then it is looked for once more.
    pub until: Mono,
    /// Under which wish it was ordered.
    pub mark: Mark,
    /// How it is stopped.
    #[serde(default, skip_serializing_if = "StopRules::is_not_kept")]
    pub stop: Option<StopRules>,
}

/// What is kept across a restart of the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durable {
    /// The highest attempt ever decided here.
    pub attempt: Attempt,
    /// What stands in the slot.
    pub stage: Stage,
    /// How the last attempt that ended did so.
    pub exit: Option<Exit>,
    /// Quick ends in a row.
    pub failures: u32,
    /// Restarts since somebody last asked for a start.
    pub restarts: u32,
    /// A start that was ordered was not there when it was looked for, and may still come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<Late>,
    /// The phase and when it was entered.
    pub entered: Option<(Phase, Wall)>,
}

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
}

impl Slot {
    /// The machinery itself does not do as it should: that is said, and tried again soon.
    fn in_trouble(&mut self, why: String, around: &Around<'_>) {
        self.trouble = Some(why);
        self.recheck = Some(around.now + RETRY_AFTER);
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
    /// What its dependencies allow.
    pub start_gate: &'a dyn Fn() -> Verdict,
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
    }
    effects
}

/// The facts an input brings, without any decision about what comes next.
fn take(id: &SlotId, slot: &mut Slot, input: Input, around: &Around<'_>, effects: &mut Vec<Effect>) {
    match input {
        Input::Look => {}
        Input::Started { attempt, pid, at, log_start } => {
            if let Stage::Starting { mark, stop } = &slot.durable.stage
                && (slot.durable.attempt == attempt)
            {
                let begun = (mark.clone(), stop.clone());
                come_up(slot, begun, attempt, pid, at, log_start, around);
            }
        }
        Input::StartFailed { attempt, why } if slot.starts(attempt) => {
            ended(id, slot, Exit::NotStarted(why), around);
        }
        Input::StartUnable { attempt, why } if slot.starts(attempt) => {
            // Nothing was started, as a look will tell: then it is begun anew.
            slot.observing = true;
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
            if let Stage::Up(up) = &mut slot.durable.stage
                && (up.attempt == attempt)
                && slot.health.asks(check, around)
            {
                slot.health.answered(up, healthy, message, around);
            }
        }
        Input::HooksEnded { attempt, moment, outcome } => {
            if matches!(&slot.durable.stage, Stage::Up(up) if up.attempt == attempt) {
                match moment {
                    Moment::PostStart => hooks::prepared(slot, outcome),
                    Moment::PreStop => stop::hooks_ended(id, slot, around, effects),
                }
            }
        }
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

fn come_up(
    slot: &mut Slot,
    (mark, stop): (Mark, Option<StopRules>),
    attempt: Attempt,
    pid: i32,
    at: Wall,
    log_start: u64,
    around: &Around<'_>,
) {
    slot.health = Health::default();
    slot.recheck = None;
    slot.trouble = None;
    slot.durable.stage = Stage::Up(Up {
        mark,
        attempt,
        pid,
        started: around.now,
        started_at: at,
        log_start,
        stop,
        preparation: Preparation::of(around),
        question: None,
        was_ready: around.rules.has(Bug::ReadyWhenStarted),
        healthy: around.rules.has(Bug::ReadyWhenStarted).then_some(true),
        stopping: None,
    });
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

/// A copy ended, or could not be started. Says what the slot is from now on.
fn ended(id: &SlotId, slot: &mut Slot, exit: Exit, around: &Around<'_>) {
    slot.observing = false;
    slot.recheck = None;
    slot.trouble = None;
    let before = std::mem::take(&mut slot.durable.stage);
    let runs_on = around.wish.goal == Goal::Running;
    let exit = match &before {
        // It was stopped because its start has failed: that is how it ended, whatever it said then.
        Stage::Up(Up { preparation: Preparation::Failed(why), .. }) if runs_on => {
            Exit::NotStarted(format!("post_start: {why}"))
        }
        _ => exit,
    };
    slot.durable.exit = Some(exit.clone());
    let (mark, ran, was_stopped) = match before {
        Stage::Up(up) => {
            let failed = matches!(up.preparation, Preparation::Failed(_)) && runs_on;
            // How long its hooks took to fail is no length of a run.
            let ran = if failed { Millis(0) } else { around.now.since(up.started) };
            (up.mark, ran, up.stopping.is_some() && !failed)
        }
        Stage::Starting { mark, .. } => (mark, Millis(0), !runs_on),
        // INVARIANT of the callers: something was up or starting.
        other => {
            slot.durable.stage = other;
            return;
        }
    };
    if was_stopped {
        slot.durable.failures = 0;
        return;
    }
    let spec = &around.wish.spec;
    if ran >= spec.restart_rhythm.window.unwrap_or(backoff::RESET_WINDOW)
        && !around.rules.has(Bug::NeverResetFailures)
    {
        slot.durable.failures = 0;
    }
    slot.durable.failures = slot.durable.failures.saturating_add(1);
    if backoff::restarts(spec, &exit, slot.durable.failures) {
        let delay =
            backoff::delay(id, slot.durable.attempt, slot.durable.failures, spec.restart_rhythm.delay);
        slot.durable.stage = Stage::Resting {
            mark,
            until: around.now + delay,
            until_wall: Wall(around.wall.0.saturating_add_unsigned(delay.0)),
            delay,
        };
    } else {
        slot.durable.stage = Stage::Ended { mark };
    }
}

/// The machine was looked at: what is there overrules what was believed.
fn take_observation(id: &SlotId, slot: &mut Slot, seen: Observation, around: &Around<'_>) {
    let was_asked = std::mem::take(&mut slot.observing);
    slot.recheck = None;
    let late = slot.durable.late.clone();
    slot.durable.late.take_if(|late| late.until <= around.now);
    let is_news = match (&slot.durable.stage, &seen) {
        // That it is still there is no news of a stop that does not get through,
        (Stage::Up(up), Observation::Running { .. }) => up.stopping.is_none(),
        // and that nothing is there is none of a removal that fails.
        (Stage::Removing | Stage::Starting { .. }, seen) => matches!(seen, Observation::Running { .. }),
        _ => true,
    };
    if is_news {
        slot.trouble = None;
    }
    let attempt = slot.durable.attempt;
    match seen {
        Observation::Never => match &slot.durable.stage {
            Stage::Starting { mark, stop } => {
                // Should it come late after all, a second look finds it, though nothing else is begun.
                let until = around.now + settle::START_OVERDUE;
                slot.durable.late = Some(Late { until, mark: mark.clone(), stop: stop.clone() });
                slot.durable.stage = Stage::Idle;
            }
            Stage::Up(_) => ended(id, slot, Exit::Unknown("its records are gone".into()), around),
            _ => {}
        },
        Observation::Running { attempt: running, pid, started_at, log_start } => {
            slot.durable.attempt = attempt.max(running);
            match &slot.durable.stage {
                Stage::Up(up) if up.attempt == running => {}
                Stage::Starting { mark, stop } if attempt == running => {
                    let begun = (mark.clone(), stop.clone());
                    come_up(slot, begun, running, pid, started_at, log_start, around);
                }
                // It came late. One that was ordered before the last is nobody's any more.
                Stage::Idle if was_asked && running <= attempt && late.is_some() => {
                    slot.durable.late = None;
                    let ordered = late.filter(|_| running == attempt).map(|late| (late.mark, late.stop));
                    let begun = ordered.unwrap_or((Mark::unknown(), None));
                    come_up(slot, begun, running, pid, started_at, log_start, around);
                }
                // Its end was told before this look at it was: the look is the older news.
                Stage::Idle | Stage::Resting { .. } | Stage::Ended { .. } if running <= attempt => {}
                Stage::Removing | Stage::Gone if !was_asked => {}
                // A copy we have no memory of: it is adopted under no wish, hence replaced.
                _ => {
                    come_up(slot, (Mark::unknown(), None), running, pid, started_at, log_start, around);
                }
            }
        }
        Observation::Ended { attempt: last, exit } => {
            slot.durable.attempt = attempt.max(last);
            match &slot.durable.stage {
                Stage::Up(up) if up.attempt == last => ended(id, slot, exit, around),
                Stage::Starting { .. } if attempt == last => ended(id, slot, exit, around),
                Stage::Starting { .. } => slot.durable.stage = Stage::Idle,
                Stage::Up(_) => ended(id, slot, Exit::Unknown("its record is gone".into()), around),
                _ => {}
            }
        }
    }
}

/// Under which wish the copy in the slot runs, or ended.
pub fn mark(durable: &Durable) -> Option<&Mark> {
    match &durable.stage {
        Stage::Starting { mark, .. } | Stage::Resting { mark, .. } | Stage::Ended { mark } => Some(mark),
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
    let stage = match &slot.durable.stage {
        Stage::Idle => slot.durable.late.as_ref().map(|late| late.until),
        Stage::Resting { until, .. } if slot.blocked.is_none() => Some(*until),
        Stage::Up(up) => match &up.stopping {
            Some(stopping) => Some(stopping.deadline + RECHECK_AFTER),
            None if up.preparation.is_done() => slot.health.due(up, wish),
            None => None,
        },
        _ => None,
    };
    [stage, slot.recheck].into_iter().flatten().min()
}
