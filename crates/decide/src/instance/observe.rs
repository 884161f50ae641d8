//! The machine was looked at.

use upbeat_model::SlotId;
use upbeat_model::state::Exit;

use super::end::ended;
use super::settle::START_OVERDUE;
use super::{Around, Begun, Late, Observation, Preparation, Slot, Stage, come_up};

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
        Observation::Running { attempt: running, pid, started_at, log_start, held } => {
            slot.durable.attempt = attempt.max(running);
            match &slot.durable.stage {
                Stage::Up(up) if up.attempt == running => {}
                Stage::Starting { begun, .. } if attempt == running => {
                    let begun = begun.clone();
                    come_up(slot, begun, running, pid, started_at, log_start, around);
                }
                // It came late. One that was ordered before the last is nobody's any more.
                Stage::Idle | Stage::Resting { .. } | Stage::Ended { .. }
                    if was_asked && running <= attempt && late.is_some() =>
                {
                    slot.durable.late = None;
                    let ordered = late.filter(|_| running == attempt).map(|late| late.begun);
                    let begun = ordered.unwrap_or_else(Begun::unknown);
                    come_up(slot, begun, running, pid, started_at, log_start, around);
                }
                // Its end was told before this look at it was: the look is the older news.
                Stage::Idle | Stage::Resting { .. } | Stage::Ended { .. }
                    if running <= attempt && held.is_none() => {}
                Stage::Removing | Stage::Gone if !was_asked => {}
                // A copy we have no memory of, or a container that another hand has started (of one that has
                // ended meanwhile that is told once more): it is adopted under no wish, hence replaced, unless it says
                // itself that it is the wished one.
                _ => {
                    come_up(slot, Begun::found(held), running, pid, started_at, log_start, around);
                }
            }
        }
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

/// What was ordered is not there. Should it come late after all, a second look finds it, though nothing
/// else is begun.
fn may_come_late(slot: &mut Slot, begun: Begun, around: &Around<'_>) {
    slot.durable.late = Some(Late { until: around.now + START_OVERDUE, begun });
    slot.durable.stage = Stage::Idle;
    slot.trouble = None;
}
