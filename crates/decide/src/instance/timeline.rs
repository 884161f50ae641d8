//! When the last start of a slot came how far: for people who ask what took so long. Nothing is decided
//! by it.

use upbeat_model::{Mono, Phase, Timeline};

use super::{Durable, Stage};

/// Nobody asked for this start: the copy before it has ended by itself.
fn is_again(durable: &Durable) -> bool {
    matches!(durable.stage, Stage::Resting { .. }) && durable.failures > 0
}

/// Its conditions do not hold yet.
pub(super) fn waits(durable: &mut Durable, since: Mono) {
    if !is_again(durable) {
        durable.timeline = Some(Timeline::since(since));
    }
}

/// Its conditions hold, and it is begun.
pub(super) fn opens(durable: &mut Durable, since: Mono, now: Mono) {
    match (is_again(durable), &mut durable.timeline) {
        // It had arrived.
        (true, Some(times)) if times.ready.is_some() => {}
        (true, Some(times)) => {
            times.opened.get_or_insert(now);
            times.attempts = times.attempts.saturating_add(1);
        }
        (_, times) => *times = Some(Timeline { opened: Some(now), attempts: 1, ..Timeline::since(since) }),
    }
}

/// Its program was executed.
pub(super) fn comes_up(durable: &mut Durable, now: Mono) {
    if let Some(times) = durable.timeline.as_mut().filter(|times| times.ready.is_none()) {
        times.executed = Some(now);
    }
}

/// It is in this phase.
pub(super) fn enters(durable: &mut Durable, phase: Phase, now: Mono) {
    let Some(times) = &mut durable.timeline else { return };
    match phase {
        phase if phase.is_ready() => drop(times.ready.get_or_insert(now)),
        Phase::Completed | Phase::Failed => drop(times.ended.get_or_insert(now)),
        _ => {}
    }
}
