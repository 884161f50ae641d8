//! A container that another hand than ours has changed.
//!
//! One that was stopped or removed comes back, whatever its restart policy says: that is about ends by
//! itself. One that runs, and not as it should (paused, renamed, out of its networks), is put right while it
//! runs.

use upbeat_model::reason::StopCause;
use upbeat_model::{Attempt, Exit, Millis, Mono, SlotId};

use super::end::ended;
use super::{Around, Condemned, Follows, Input, Made, Slot, Stage, Taken, making, observe, take_exit};
use crate::effect::Effect;
use crate::node::Outcome;
use crate::rules::Bug;

/// An order that was not answered, or could not be carried out, is given again.
const MEND_AGAIN: Millis = Millis::seconds(5);

/// What is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// Of which attempt.
    attempt: Attempt,
    /// In words.
    pub(super) what: String,
    /// When the next order is given.
    due: Mono,
    /// The last could not be carried out: perhaps nothing is there any more.
    has_failed: bool,
}

/// What is only heard of containers.
pub(super) fn take(id: &SlotId, slot: &mut Slot, input: Input, around: &Around<'_>) {
    match input {
        Input::Preparing { generation, step } => making::goes_on(slot, generation, step, around),
        Input::Prepared { generation, digest, container } => {
            let made = Made { generation, digest, container };
            making::done(slot, made, around.wish, around.rules);
        }
        Input::PrepareFailed { generation, digest, why } => {
            making::failed(slot, generation, &digest, why, around);
        }
        Input::Taken { attempt, .. } if around.rules.has(Bug::TakenIsEnded) => {
            take_exit(id, slot, attempt, Exit::Code(0), around);
        }
        Input::Taken { attempt, how } => taken(id, slot, attempt, how, around),
        Input::Drifted { .. } if around.rules.has(Bug::ForgetDrift) => {}
        Input::Appeared if around.rules.has(Bug::IgnoreFound) => {}
        Input::Drifted { attempt, what } => drifted(slot, attempt, what, around),
        Input::Mended { attempt, outcome } => mended(id, slot, attempt, outcome, around),
        Input::Appeared => {
            slot.observing = true;
            slot.appeared = true;
            slot.recheck = None;
        }
        _ => {}
    }
}

/// It was taken away. What shall run is begun anew as soon as its conditions hold.
pub(super) fn taken(id: &SlotId, slot: &mut Slot, attempt: Attempt, how: Taken, around: &Around<'_>) {
    let is_ours = match &slot.durable.stage {
        Stage::Up(up) => up.attempt == attempt,
        Stage::Starting { .. } => slot.durable.attempt == attempt,
        _ => false,
    };
    if how == Taken::Removed && slot.durable.attempt == attempt {
        making::gone(slot);
    }
    if !is_ours {
        return observe::is_old(slot, attempt);
    }
    let exit = Exit::Stopped(how.to_string());
    if let Stage::Up(up) = &mut slot.durable.stage
        && up.stopping.is_none()
    {
        slot.outcomes.push(Outcome::Taken { slot: id.clone(), attempt, how });
        up.unready = false;
        up.condemned =
            Some(Condemned { cause: StopCause::Taken, exit: Some(exit.clone()), follows: Follows::Start });
    }
    ended(id, slot, exit, around);
}

/// It runs on, and not as it should.
pub(super) fn drifted(slot: &mut Slot, attempt: Attempt, what: String, around: &Around<'_>) {
    let is_it = match &slot.durable.stage {
        Stage::Up(up) => up.attempt == attempt && up.stopping.is_none(),
        // It may overtake the answer to the start, and is told once.
        Stage::Starting { .. } => slot.durable.attempt == attempt,
        _ => false,
    };
    if is_it {
        let due = slot.drift.as_ref().map_or(around.now, |drift| drift.due);
        slot.drift = Some(Drift { attempt, what, due, has_failed: false });
    }
}

/// Orders that it is put right.
pub(super) fn press(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    let Stage::Up(up) = &slot.durable.stage else { return };
    slot.drift.take_if(|drift| drift.attempt != up.attempt);
    if let Some(drift) = &mut slot.drift
        && drift.due <= around.now
    {
        drift.due = around.now + MEND_AGAIN;
        effects.push(Effect::Mend { slot: id.clone(), attempt: drift.attempt });
        if drift.has_failed {
            effects.push(slot.look(id));
        }
    }
}

/// It was put right, or could not be.
pub(super) fn mended(
    id: &SlotId,
    slot: &mut Slot,
    attempt: Attempt,
    outcome: Result<(), String>,
    around: &Around<'_>,
) {
    let Some(drift) = slot.drift.take_if(|drift| drift.attempt == attempt) else { return };
    let (what, failure) = (drift.what.clone(), outcome.as_ref().err().cloned());
    if let Err(why) = &outcome {
        slot.drift =
            Some(Drift { due: around.now + MEND_AGAIN, what: why.clone(), has_failed: true, ..drift });
    }
    slot.outcomes.push(Outcome::Mended { slot: id.clone(), attempt, what, failure });
}

/// When the next order is given.
pub(super) fn deadline(slot: &Slot) -> Option<Mono> {
    let stays = matches!(&slot.durable.stage, Stage::Up(up) if up.stopping.is_none());
    slot.drift.as_ref().filter(|_| stays).map(|drift| drift.due)
}
