//! How targets and rollouts are shown.

use upbeat_decide::rollout::{Counts, Course, Rollout, Target};
use upbeat_model::rollout::{
    BadState, CourseWord, Held, HeldState, RolloutState, Tally, TargetId, TargetState,
};

use super::clock::Clock;
use super::keep::Rest;

fn held(held: &Held, clock: &Clock) -> HeldState {
    HeldState {
        version: held.version.clone(),
        since: clock.wall(held.since),
        message: held.note.text.clone(),
        message_at: clock.wall(held.note.at),
        is_error: held.note.is_error,
    }
}

pub(super) fn target(id: &TargetId, target: &Target, clock: &Clock) -> TargetState {
    TargetState {
        id: id.clone(),
        labels: target.labels.clone(),
        current: held(&target.current, clock),
        assigned: held(&target.assigned, clock),
        seen: clock.wall(target.seen),
    }
}

pub(super) fn tally(counts: Counts) -> Tally {
    let Counts { total, available, on_the_way, well, failed } = counts;
    Tally { total, available, on_the_way, well, failed }
}

fn word(course: &Course) -> CourseWord {
    match course {
        Course::None => CourseWord::None,
        Course::Steady(_) => CourseWord::Steady,
        Course::Forward(_) => CourseWord::Forward,
        Course::Back { .. } => CourseWord::Back,
        Course::Halted(_) => CourseWord::Halted,
    }
}

pub(super) fn rollout(rest: &Rest, rollout: &Rollout, clock: &Clock) -> RolloutState {
    let bad = rollout.known_bad.iter().map(|(version, bad)| BadState {
        version: version.clone(),
        reason: bad.reason.clone(),
        at: clock.wall(bad.at),
        until: bad.until.map(|until| clock.wall(until)),
    });
    RolloutState {
        namespace: rest.id.namespace().to_owned(),
        entity: rest.id.entity().to_owned(),
        course: word(&rollout.course()),
        target: rollout.target.clone(),
        rolling: rollout.rolling.as_ref().map(|rolling| rolling.version.clone()),
        since: rollout.rolling.as_ref().map(|rolling| clock.wall(rolling.since)),
        good: rollout.good.clone(),
        bad: rollout.bad.clone(),
        known_bad: bad.collect(),
        paused_by: rollout.pause.as_ref().map(|pause| pause.by.clone()),
        options: rollout.options,
        controllers: rest.controllers.clone(),
        tally: Tally { total: rollout.targets.len(), ..rest.tally },
        reasons: rest.reasons.clone(),
    }
}
