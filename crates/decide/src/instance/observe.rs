//! The machine was looked at.

use upbeat_model::state::Exit;
use upbeat_model::{Attempt, SlotId};

use super::end::ended;
use super::settle::START_OVERDUE;
use super::{Around, Begun, Held, Late, Observation, Preparation, Slot, Stage, come_up};
use crate::rules::Bug;

/// What is there overrules what was believed.
pub(super) fn take_observation(id: &SlotId, slot: &mut Slot, seen: Observation, around: &Around<'_>) {
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
            // Of this one nothing was ordered yet.
            Stage::Starting { before: Preparation::Due, .. } => {}
            Stage::Starting { begun, .. } => {
                let begun = begun.clone();
                may_come_late(slot, begun, around);
            }
            Stage::Up(_) => ended(id, slot, Exit::Unknown("its records are gone".into()), around),
            _ => {}
        },
        seen @ Observation::Running { .. } => runs(slot, seen, was_asked, late, around),
        Observation::Ended { attempt: last, exit } => {
            slot.durable.attempt = attempt.max(last);
            match &slot.durable.stage {
                Stage::Up(up) if up.attempt == last => ended(id, slot, exit, around),
                Stage::Starting { .. } if attempt == last => ended(id, slot, exit, around),
                Stage::Starting { before: Preparation::Due, .. } => {}
                Stage::Starting { begun, .. } => {
                    let begun = begun.clone();
                    may_come_late(slot, begun, around);
                }
                Stage::Up(_) => ended(id, slot, Exit::Unknown("its record is gone".into()), around),
                _ => {}
            }
        }
    }
}

/// Nothing stands here, and a container of it is said to run. It is looked at before anything else.
pub(super) fn is_contradicted(slot: &mut Slot) {
    if matches!(slot.durable.stage, Stage::Idle | Stage::Resting { .. } | Stage::Ended { .. }) {
        (slot.observing, slot.appeared) = (true, true);
    }
}

/// Nothing stands here, a container was said to be there, and an end is told while that is being looked at:
/// how it was before that end is no news. It is looked at once more.
pub(super) fn is_old(slot: &mut Slot, attempt: Attempt) {
    let rests = matches!(slot.durable.stage, Stage::Idle | Stage::Resting { .. } | Stage::Ended { .. });
    if rests && slot.observing && slot.appeared && attempt >= slot.durable.attempt {
        slot.durable.attempt = attempt;
        slot.recheck = None;
    }
}

/// Something runs.
fn runs(slot: &mut Slot, seen: Observation, was_asked: bool, late: Option<Late>, around: &Around<'_>) {
    let Observation::Running { attempt: running, pid, started_at, log_start, held } = seen else { return };
    let attempt = slot.durable.attempt;
    slot.durable.attempt = attempt.max(running);
    match &slot.durable.stage {
        Stage::Up(up) if up.attempt == running => {}
        // What was to be started runs: by this attempt, or as a container by whatever hand.
        Stage::Starting { begun, .. } if is_begun(begun, held.as_ref(), attempt == running) => {
            let begun = begun.clone();
            come_up(slot, begun, running, pid, started_at, log_start, around);
        }
        // It came late. One that was ordered before the last is nobody's any more.
        Stage::Idle | Stage::Resting { .. } | Stage::Ended { .. }
            if was_asked && running <= attempt && late.is_some() =>
        {
            slot.durable.late = None;
            let ordered = late.map(|late| late.begun);
            let ordered = ordered.filter(|begun| is_begun(begun, held.as_ref(), running == attempt));
            let begun = ordered.unwrap_or_else(|| Begun::found(held));
            come_up(slot, begun, running, pid, started_at, log_start, around);
        }
        // Its end was told before this look at it was: the look is the older news. Of a container, where
        // it contradicts, the engine is asked once more.
        Stage::Idle | Stage::Resting { .. } | Stage::Ended { .. }
            if running <= attempt && !(was_asked && held.is_some()) =>
        {
            if held.is_some() {
                is_contradicted(slot);
            }
        }
        Stage::Removing | Stage::Gone if !was_asked => {}
        // A copy we have no memory of: it is adopted under no wish, hence replaced, unless it says
        // itself that it is the wished one.
        _ => {
            let held = held.filter(|_| !around.rules.has(Bug::IgnoreLabels));
            come_up(slot, Begun::found(held), running, pid, started_at, log_start, around);
        }
    }
}

/// What is there is what was begun. Attempts of containers may have been counted anew: which one it is says
/// the engine.
fn is_begun(begun: &Begun, held: Option<&Held>, is_attempt: bool) -> bool {
    match held {
        Some(held) => begun.mark.container.as_ref() == Some(&held.container),
        None => is_attempt,
    }
}

/// What was ordered is not there. Should it come late after all, a second look finds it, though nothing
/// else is begun.
fn may_come_late(slot: &mut Slot, begun: Begun, around: &Around<'_>) {
    slot.durable.late = Some(Late { until: around.now + START_OVERDUE, begun });
    slot.durable.stage = Stage::Idle;
    slot.trouble = None;
}
