//! What to do next, judged from what is wished and what is there, as often as needed.

use upbeat_model::reason::StopCause;
use upbeat_model::target::{Ask, Goal, TargetSlot};
use upbeat_model::{Millis, SlotId};

use super::hooks::prepare;
use super::stop::{StopRules, begin_stop, press};
use super::{Around, Mark, Preparation, RECHECK_AFTER, Slot, Stage, Up};
use crate::effect::Effect;
use crate::gate::Verdict;
use crate::rules::Bug;

/// What the wish means for what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    /// Leave no trace.
    Clear,
    /// Nothing shall run.
    Down(StopCause),
    /// A copy shall be started.
    Run,
    /// What is there is what is wanted.
    Hold,
}

pub(crate) fn intent(slot: &Slot, wish: &TargetSlot) -> Intent {
    match wish.goal {
        Goal::Absent if slot.durable.stage == Stage::Gone => Intent::Hold,
        Goal::Absent => match slot.durable.stage {
            Stage::Starting { .. } | Stage::Up(_) => Intent::Down(StopCause::Goal),
            _ => Intent::Clear,
        },
        Goal::Stopped => match slot.durable.stage {
            Stage::Idle => Intent::Hold,
            _ => Intent::Down(StopCause::Goal),
        },
        Goal::Running => match &slot.durable.stage {
            Stage::Idle | Stage::Gone | Stage::Removing | Stage::Resting { .. } => Intent::Run,
            Stage::Starting { mark, .. } | Stage::Up(Up { mark, .. }) => match replaced(mark, wish) {
                Some(cause) => Intent::Down(cause),
                None if has_failed(slot) => Intent::Down(StopCause::HookFailed),
                None => Intent::Hold,
            },
            Stage::Ended { mark } => match runs_again(slot, mark, wish) {
                true => Intent::Run,
                false => Intent::Hold,
            },
        },
    }
}

/// A copy whose `post_start` hooks have failed is no good one.
fn has_failed(slot: &Slot) -> bool {
    matches!(&slot.durable.stage, Stage::Up(Up { preparation: Preparation::Failed(_), .. }))
}

fn replaced(mark: &Mark, wish: &TargetSlot) -> Option<StopCause> {
    if mark.digest != wish.digest {
        return Some(StopCause::Changed);
    }
    (wish.ask == Ask::Restart && mark.generation < wish.generation).then_some(StopCause::Restart)
}

fn runs_again(slot: &Slot, mark: &Mark, wish: &TargetSlot) -> bool {
    let completed = slot.durable.exit.as_ref().is_some_and(|exit| wish.spec.succeeds_with(exit));
    let asked_anew = mark.generation < wish.generation;
    mark.digest != wish.digest || (asked_anew && !(wish.ask == Ask::Ensure && completed))
}

/// Decides until nothing more is to be decided now.
pub(super) fn settle(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    slot.blocked = None;
    follow(slot, around.wish);
    if slot.durable.stage == Stage::Idle
        && slot.durable.late.as_ref().is_some_and(|late| late.until <= around.now)
    {
        slot.observing = true;
    }
    if slot.observing {
        return recheck(id, slot, around, effects);
    }
    match intent(slot, around.wish) {
        Intent::Hold => hold(id, slot, around, effects),
        Intent::Clear => clear(id, slot, around, effects),
        Intent::Run => run(id, slot, around, effects),
        Intent::Down(cause) => down(id, slot, cause, around, effects),
    }
    if slot.recheck.is_some_and(|at| at <= around.now) {
        // Whoever still needs one has set it anew.
        slot.recheck = None;
    }
}

/// What the newest file changes about the copy that is there, whatever is decided about it. In the
/// state at once, so that a daemon that dies forgets none of it.
fn follow(slot: &mut Slot, wish: &TargetSlot) {
    match &mut slot.durable.stage {
        Stage::Starting { mark, stop } => StopRules::follow(stop, mark, wish),
        Stage::Up(up) => {
            StopRules::follow(&mut up.stop, &up.mark, wish);
            slot.health.follow(up, wish);
        }
        _ => {}
    }
}

/// An observation was asked for: nothing is decided before it comes; it is asked for again if it
/// does not.
fn recheck(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    if slot.recheck.is_none_or(|at| at <= around.now) {
        slot.recheck = Some(around.now + RECHECK_AFTER);
        effects.push(slot.look(id));
    }
}

fn hold(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    match &mut slot.durable.stage {
        Stage::Starting { .. } => recheck_start(id, slot, around, effects),
        Stage::Up(up) if up.stopping.is_some() => press(id, slot, around, effects),
        Stage::Up(up) => {
            if up.mark.generation < around.wish.generation {
                // `start` or `up` found it running: from now on it runs under their wish.
                up.mark.pass_to(around.wish, around.rules);
                slot.durable.restarts = 0;
                if !up.preparation.is_done() {
                    // Its hooks may be others by now. Whoever runs the same ones goes on.
                    slot.recheck = None;
                }
            }
            match up.preparation.is_done() {
                true => slot.health.probe(id, up, around, effects),
                false => prepare(id, slot, around, effects),
            }
        }
        Stage::Ended { mark } => mark.generation = around.wish.generation,
        _ => {}
    }
}

/// The answer to a start is overdue when the driver was lost: then look.
fn recheck_start(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    match slot.recheck {
        None => slot.recheck = Some(around.now + START_OVERDUE),
        Some(at) if at <= around.now => {
            slot.observing = true;
            slot.recheck = Some(around.now + RECHECK_AFTER);
            effects.push(slot.look(id));
        }
        Some(_) => {}
    }
}

/// A start is answered in milliseconds; on a machine that swaps, in seconds. The driver calls it off
/// after twenty, so that one that is overdue here was lost with its driver.
pub(super) const START_OVERDUE: Millis = Millis::seconds(60);

fn clear(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    if slot.durable.stage != Stage::Removing {
        slot.durable.stage = Stage::Removing;
        slot.recheck = None;
    }
    remove(id, slot, around, effects);
}

/// Orders the removal, once the last order was answered. Where it failed, or was not answered, a
/// copy may be there after all, which was late: then that goes first.
fn remove(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    match slot.recheck {
        Some(at) if at > around.now => return,
        Some(_) => {
            slot.observing = true;
            effects.push(slot.look(id));
        }
        None => effects.push(Effect::Remove { slot: id.clone() }),
    }
    slot.recheck = Some(around.now + RECHECK_AFTER);
}

fn run(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    if slot.durable.stage == Stage::Gone {
        slot.durable.stage = Stage::Idle;
    }
    let asked_anew =
        |mark: &Mark| mark.generation < around.wish.generation || mark.digest != around.wish.digest;
    match &slot.durable.stage {
        // A removal under way ends first; its files must not vanish under a new copy.
        Stage::Removing => return remove(id, slot, around, effects),
        Stage::Resting { mark, .. } | Stage::Ended { mark } if asked_anew(mark) => {
            slot.durable.failures = 0;
            slot.durable.restarts = 0;
        }
        Stage::Resting { until, .. } if *until > around.now => return,
        Stage::Resting { .. } => {}
        _ => slot.durable.restarts = 0,
    }
    let verdict = match around.rules.has(Bug::IgnoreGate) {
        true => Verdict::Open,
        false => (around.start_gate)(),
    };
    if verdict != Verdict::Open {
        slot.blocked = Some(verdict);
        if let Stage::Ended { mark } | Stage::Resting { mark, .. } = &slot.durable.stage
            && asked_anew(mark)
        {
            slot.durable.stage = Stage::Idle;
        }
        return;
    }
    if matches!(slot.durable.stage, Stage::Resting { .. }) && slot.durable.failures > 0 {
        slot.durable.restarts += 1;
    }
    let attempt = slot.durable.attempt.next();
    if !around.rules.has(Bug::ReuseAttempts) {
        slot.durable.attempt = attempt;
    }
    slot.durable.stage =
        Stage::Starting { mark: Mark::of(around.wish), stop: Some(StopRules::of(around.wish)) };
    slot.recheck = Some(around.now + START_OVERDUE);
    slot.durable.late = None;
    slot.trouble = None;
    effects.push(Effect::Start {
        slot: id.clone(),
        attempt: slot.durable.attempt,
        spec: around.wish.spec.clone(),
        base_environment: around.wish.base_environment.clone(),
    });
    if around.rules.has(Bug::StartTwice) {
        effects.push(Effect::Start {
            slot: id.clone(),
            attempt: attempt.next(),
            spec: around.wish.spec.clone(),
            base_environment: around.wish.base_environment.clone(),
        });
    }
}

fn down(id: &SlotId, slot: &mut Slot, cause: StopCause, around: &Around<'_>, effects: &mut Vec<Effect>) {
    match &mut slot.durable.stage {
        Stage::Starting { .. } => recheck_start(id, slot, around, effects),
        Stage::Up(up) if up.stopping.is_some() => press(id, slot, around, effects),
        Stage::Up(up) => {
            let skip = around.wish.kill || around.rules.has(Bug::StopInAnyOrder);
            if let Some(reason) = (!skip).then(|| (around.stop_gate)()).flatten() {
                slot.blocked = Some(Verdict::Wait(reason));
                if up.preparation.is_done() {
                    slot.health.probe(id, up, around, effects);
                }
                return;
            }
            begin_stop(id, up, cause, around, effects);
        }
        _ => {
            slot.durable.stage = Stage::Idle;
            slot.durable.failures = 0;
            slot.recheck = None;
        }
    }
}
