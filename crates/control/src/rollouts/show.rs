//! How targets and rollouts are shown.

use upbeat_decide::rollout::{Course, Rollout, Target};
use upbeat_model::rollout::{
    AtGate, BadState, CourseWord, GateState, Held, HeldState, Past, PastState, RolloutState, TargetId,
    TargetState,
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

fn word(course: &Course) -> CourseWord {
    match course {
        Course::None => CourseWord::None,
        Course::Steady(_) => CourseWord::Steady,
        Course::Forward(_) => CourseWord::Forward,
        Course::Back { .. } => CourseWord::Back,
        Course::Halted(_) => CourseWord::Halted,
    }
}

pub(super) fn past(past: &Past, clock: &Clock) -> PastState {
    let Past { number, version, from, began, ended, outcome, by, reason, counts } = past.clone();
    let (began, ended) = (clock.wall(began), clock.wall(ended));
    PastState { number, version, from, began, ended, outcome, by, reason, counts }
}

fn gate(gate: AtGate, clock: &Clock) -> GateState {
    let AtGate { stage, gate, since, until } = gate;
    GateState { stage, gate, since: clock.wall(since), until: until.map(|until| clock.wall(until)) }
}

pub(super) fn rollout(rest: &Rest, rollout: &Rollout, clock: &Clock) -> RolloutState {
    let bad = rollout.known_bad.iter().map(|(version, bad)| BadState {
        version: version.clone(),
        reason: bad.reason.clone(),
        at: clock.wall(bad.at),
        until: bad.until.map(|until| clock.wall(until)),
    });
    let progress = rollout.progress(clock.now());
    let current = progress.current;
    RolloutState {
        namespace: rest.id.namespace().to_owned(),
        entity: rest.id.entity().to_owned(),
        course: word(&progress.course),
        target: progress.target,
        rolling: current.as_ref().map(|current| current.version.clone()),
        since: current.as_ref().map(|current| clock.wall(current.since)),
        number: current.as_ref().map_or(0, |current| current.number),
        by: current.and_then(|current| current.by),
        good: progress.good,
        bad: rollout.bad.clone(),
        known_bad: bad.collect(),
        paused_by: progress.pause.map(|pause| pause.by),
        options: rollout.options,
        strategy: rollout.strategy.clone(),
        controllers: rest.controllers.clone(),
        counts: progress.counts,
        required: progress.required,
        budget: progress.budget,
        slots: progress.slots,
        stages: progress.stages,
        gate: progress.gate.map(|at| gate(at, clock)),
        analyses: progress.analyses.into_iter().map(|one| one.by(|at| clock.wall(at))).collect(),
        unwell: progress.unwell,
        reasons: progress.reasons,
    }
}
