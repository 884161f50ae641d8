//! How targets and rollouts are shown.

use upbeat_decide::rollout::{Course, Target};
use upbeat_model::Wall;
use upbeat_model::rollout::{
    AtGate, BadState, Counts, CourseWord, GateState, Held, HeldState, Past, PastState, RolloutState,
    TargetId, TargetState, Version,
};

use super::clock::Clock;
use super::entity;

/// Where an entity is, in numbers and versions: what is asked of thousands again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutNumbers {
    /// In which namespace.
    pub namespace: String,
    /// Its name.
    pub entity: String,
    /// Where it is.
    pub course: CourseWord,
    /// The version that was asked for last.
    pub target: Option<Version>,
    /// The one that is being rolled out, or was last.
    pub rolling: Option<Version>,
    /// Since when.
    pub since: Option<Wall>,
    /// The last that was good.
    pub good: Option<Version>,
    /// The last that was found to be bad.
    pub bad: Option<Version>,
    /// Somebody wants nobody to be moved for now.
    pub is_paused: bool,
    /// How its targets stand to the version in force.
    pub counts: Counts,
    /// So many rollouts have begun.
    pub number: u64,
}

/// What can be said of an answer about all targets of an entity before it is decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Foreseen {
    /// About how many bytes it would have now.
    pub bytes: u64,
    /// Somebody is asked before it is decided, who may be slow.
    pub asks: bool,
}

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

pub(super) fn numbers(held: &entity::Held, clock: &Clock) -> RolloutNumbers {
    let (id, rollout, now) = (&held.rest.id, &held.rollout, clock.now());
    let rolling = rollout.rolling.as_ref();
    RolloutNumbers {
        namespace: id.namespace().to_owned(),
        entity: id.entity().to_owned(),
        course: word(&rollout.course()),
        target: rollout.target.clone(),
        rolling: rolling.map(|rolling| rolling.version.clone()),
        since: rolling.map(|rolling| clock.wall(rolling.since)),
        good: rollout.good.clone(),
        bad: rollout.bad.clone(),
        is_paused: rollout.pause.is_some(),
        counts: held.standings(now).counts(now),
        number: rolling.map_or(0, |rolling| rolling.number),
    }
}

pub(super) fn rollout(held: &entity::Held, clock: &Clock) -> RolloutState {
    let (rest, rollout, now) = (&held.rest, &held.rollout, clock.now());
    let bad = rollout.known_bad.iter().map(|(version, bad)| BadState {
        version: version.clone(),
        reason: bad.reason.clone(),
        at: clock.wall(bad.at),
        until: bad.until.map(|until| clock.wall(until)),
    });
    let progress = rollout.progress_by(held.standings(now), now);
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
