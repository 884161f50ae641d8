//! The gate: may this slot start now, given what is seen of what it needs? May it stop?
//!
//! One function judges dependency conditions, for the planner and for every instance machine, at
//! every start for the whole life of a slot. Its mirror judges stops: what others rest on stops
//! after them.

use std::collections::BTreeSet;

use upbeat_model::project::{Condition, Dependency, OnFailure};
use upbeat_model::{Attempt, Exit, Mono, Phase, ProbeName, Reason, ServiceName, SlotId};

/// What the gate needs to know of one copy of a dependency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Which copy.
    pub slot: SlotId,
    /// Its phase.
    pub phase: Phase,
    /// Its program was executed and is there now.
    pub running: bool,
    /// Its stop was begun and given up: half stopped as it may be, nothing is begun on it.
    pub given_up: bool,
    /// Nothing ends it for now: what is decided cannot be kept, so that it could not be started again.
    pub stays: bool,
    /// It is about to be replaced, run again or stopped: what it offers now will not last.
    pub leaving: bool,
    /// It shall be another than it is, which is being made, or waits for what others need: what it offers, or how
    /// it ended, is of the file before.
    pub outdated: bool,
    /// It cannot be made ready, or waits for another of which that is so: it is tried again, and may be for ever.
    pub stuck: bool,
    /// How it ended last.
    pub exit: Option<Exit>,
    /// The probes of it that pass now.
    pub passing: BTreeSet<ProbeName>,
    /// How many times it was started.
    pub attempt: Attempt,
    /// It was looked at since this daemon runs, and what had passed has passed again.
    pub is_known: bool,
}

/// What the gate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go.
    Open,
    /// Not yet.
    Wait(Reason),
    /// Not without somebody's help.
    Failed(Reason),
}

/// What all edges of a service say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Whether it may start.
    pub verdict: Verdict,
    /// When to ask again, though nothing around it has changed.
    pub due: Option<Mono>,
}

/// Judges all edges of a service that waits `since` then, by what each of them says for itself.
pub fn opening<'a>(
    edges: impl Iterator<Item = (&'a ServiceName, &'a Dependency, Verdict)>,
    since: Mono,
    now: Mono,
) -> Opening {
    let (mut waiting, mut due) = (None, None::<Mono>);
    for (service, edge, verdict) in edges {
        let until = edge.timeout.map(|timeout| since + timeout);
        let verdict = match (verdict, edge.timeout) {
            (Verdict::Wait(_), Some(timeout)) if until.is_some_and(|until| until <= now) => {
                let (service, condition) = (service.clone(), edge.condition.clone());
                Verdict::Failed(Reason::WaitedTooLong { service, condition, timeout })
            }
            (verdict, _) => verdict,
        };
        match (verdict, edge.on_failure) {
            (Verdict::Open, _) | (Verdict::Failed(_), OnFailure::Continue) => {}
            (failed @ Verdict::Failed(_), OnFailure::Fail) => return Opening { verdict: failed, due: None },
            (Verdict::Failed(reason), OnFailure::Wait) => waiting = waiting.or(Some(reason)),
            (Verdict::Wait(reason), _) => {
                waiting = waiting.or(Some(reason));
                due = due.into_iter().chain(until).min();
            }
        }
    }
    Opening { verdict: waiting.map_or(Verdict::Open, Verdict::Wait), due }
}

/// Judges one edge. `copies` are the dependency's slots that shall exist; `None` when the
/// dependency is not declared at all. What `resumes` was there before, as it is wished now: it goes on
/// with what there is. What is new waits for what is new.
pub fn gate(service: &ServiceName, edge: &Dependency, copies: Option<&[View]>, resumes: bool) -> Verdict {
    let Some(copies) = copies else {
        return if edge.required {
            Verdict::Failed(Reason::DependencyFailed {
                service: service.clone(),
                condition: edge.condition.clone(),
                failed: None,
            })
        } else {
            Verdict::Open
        };
    };
    if copies.is_empty() && edge.required {
        return wait(service, edge, None);
    }
    let mut waiting = None;
    for copy in copies {
        if copy.outdated && !resumes {
            waiting = waiting.or(Some(copy));
            continue;
        }
        match judge(copy, edge) {
            Judgement::Holds => {}
            Judgement::Passed if !edge.required => {}
            Judgement::Impossible if !edge.required => {}
            Judgement::Impossible => {
                return Verdict::Failed(Reason::DependencyFailed {
                    service: service.clone(),
                    condition: edge.condition.clone(),
                    failed: Some((copy.slot.clone(), copy.phase, copy.exit.clone())),
                });
            }
            Judgement::NotYet | Judgement::Passed => waiting = waiting.or(Some(copy)),
        }
    }
    match waiting {
        Some(copy) if copy.outdated && !resumes => {
            Verdict::Wait(Reason::WaitsForSuccessor { slot: copy.slot.clone() })
        }
        Some(copy) if copy.stuck => Verdict::Wait(Reason::WaitsInVain {
            service: service.clone(),
            condition: edge.condition.clone(),
            slot: copy.slot.clone(),
        }),
        Some(copy) => wait(service, edge, Some((copy.slot.clone(), copy.phase))),
        None => Verdict::Open,
    }
}

fn wait(service: &ServiceName, edge: &Dependency, blocking: Option<(SlotId, Phase)>) -> Verdict {
    Verdict::Wait(Reason::WaitsFor { service: service.clone(), condition: edge.condition.clone(), blocking })
}

enum Judgement {
    Holds,
    NotYet,
    /// Nobody wants it to run: an edge that does not require it need not wait.
    Passed,
    Impossible,
}

fn judge(copy: &View, edge: &Dependency) -> Judgement {
    if copy.leaving || !copy.is_known {
        return Judgement::NotYet;
    }
    match (copy.phase, &edge.condition) {
        (Phase::Failed, Condition::Failed | Condition::Completed) => Judgement::Holds,
        (Phase::Failed | Phase::DependencyFailed, _) => Judgement::Impossible,
        (Phase::Stopped | Phase::Absent, _) => Judgement::Passed,
        (Phase::Completed, Condition::Healthy | Condition::Failed) => Judgement::Impossible,
        (Phase::Completed, Condition::Probe(_) | Condition::Port(_) | Condition::Line(_)) => {
            Judgement::Impossible
        }
        (Phase::Completed, _) => Judgement::Holds,
        (_, Condition::CompletedSuccessfully | Condition::Completed | Condition::Failed) => Judgement::NotYet,
        (Phase::Healthy | Phase::Running, Condition::Healthy | Condition::Ready) => Judgement::Holds,
        // Something else is wrong with it, but it may be used.
        (Phase::Unhealthy | Phase::NeedsAttention, Condition::Healthy | Condition::Ready)
            if copy.passing.contains(ProbeName::READINESS) =>
        {
            Judgement::Holds
        }
        (_, Condition::Healthy | Condition::Ready) => Judgement::NotYet,
        (_, asks @ (Condition::Probe(_) | Condition::Port(_) | Condition::Line(_))) => {
            match asks.probe().is_some_and(|name| copy.passing.contains(&*name)) {
                true => Judgement::Holds,
                false => Judgement::NotYet,
            }
        }
        (_, Condition::Started) if copy.running && !copy.given_up => Judgement::Holds,
        (_, Condition::Started) => Judgement::NotYet,
    }
}

/// Judges a stop: everything that rests on the slot and is itself on its way down goes first.
/// Those that stay up hold nobody back (promise 6 of the design is about what stops together).
pub fn stop_gate(dependents: impl IntoIterator<Item = View>) -> Option<Reason> {
    let goes = |view: &View| view.leaving && !view.stays && (view.running || view.phase.is_alive());
    let mut going = dependents.into_iter().filter(goes).map(|view| view.slot);
    let dependents: Vec<SlotId> = going.by_ref().take(NAMED).collect();
    let more = going.count();
    (!dependents.is_empty()).then_some(Reason::WaitsForDependents { dependents, more })
}

/// Of many that are waited for, so many are named: a status is shown, kept and sent for each slot.
const NAMED: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn view(phase: Phase) -> View {
        View {
            slot: "app/db/1".parse().unwrap(),
            phase,
            running: phase.is_alive(),
            given_up: false,
            leaving: false,
            stays: false,
            outdated: false,
            stuck: false,
            exit: None,
            passing: BTreeSet::new(),
            attempt: Attempt(1),
            is_known: true,
        }
    }

    fn judge_one(condition: Condition, required: bool, view: View) -> &'static str {
        let edge = Dependency { condition, required, ..Dependency::default() };
        match gate(&ServiceName::new("db").unwrap(), &edge, Some(&[view]), false) {
            Verdict::Open => "open",
            Verdict::Wait(_) => "wait",
            Verdict::Failed(_) => "failed",
        }
    }

    #[test]
    fn each_condition_holds_in_its_own_phases() {
        use Condition::{CompletedSuccessfully, Healthy, Ready, Started};
        use Phase as P;
        for (phase, started, healthy, completed, ready) in [
            (P::Stopped, "wait", "wait", "wait", "wait"),
            (P::Waiting, "wait", "wait", "wait", "wait"),
            (P::DependencyFailed, "failed", "failed", "failed", "failed"),
            (P::Starting, "open", "wait", "wait", "wait"),
            (P::Running, "open", "open", "wait", "open"),
            (P::Healthy, "open", "open", "wait", "open"),
            (P::Unhealthy, "open", "wait", "wait", "wait"),
            (P::BackingOff, "wait", "wait", "wait", "wait"),
            (P::CrashLooping, "wait", "wait", "wait", "wait"),
            (P::Completed, "open", "failed", "open", "open"),
            (P::Failed, "failed", "failed", "failed", "failed"),
        ] {
            assert_eq!(judge_one(Started, true, view(phase)), started, "{phase} started");
            assert_eq!(judge_one(Healthy, true, view(phase)), healthy, "{phase} healthy");
            assert_eq!(judge_one(CompletedSuccessfully, true, view(phase)), completed, "{phase} completed");
            assert_eq!(judge_one(Ready, true, view(phase)), ready, "{phase} ready");
        }
    }

    #[test]
    fn a_copy_that_is_leaving_holds_nothing() {
        let leaving = View { leaving: true, ..view(Phase::Healthy) };
        assert_eq!(judge_one(Condition::Healthy, true, leaving), "wait");
    }

    #[test]
    fn what_is_new_waits_for_what_is_new_and_what_was_there_goes_on() {
        let db = ServiceName::new("db").unwrap();
        let old = [View { outdated: true, ..view(Phase::Healthy) }];
        let edge = Dependency::default();
        let Verdict::Wait(reason) = gate(&db, &edge, Some(&old), false) else { panic!("it goes") };
        assert_eq!(reason.to_string(), "waits for db-1, which is about to be another");
        assert_eq!(gate(&db, &edge, Some(&old), true), Verdict::Open);
        let failed = [View { outdated: true, ..view(Phase::Failed) }];
        assert!(matches!(gate(&db, &edge, Some(&failed), false), Verdict::Wait(_)));
    }

    #[test]
    fn what_is_not_required_is_waited_for_but_its_failure_and_absence_are_passed_over() {
        assert_eq!(judge_one(Condition::Healthy, false, view(Phase::Failed)), "open");
        assert_eq!(judge_one(Condition::Healthy, false, view(Phase::Stopped)), "open");
        assert_eq!(judge_one(Condition::Healthy, false, view(Phase::Starting)), "wait");
        let db = ServiceName::new("db").unwrap();
        let edge = |required| Dependency { required, ..Dependency::default() };
        assert_eq!(gate(&db, &edge(false), None, false), Verdict::Open);
        assert!(matches!(gate(&db, &edge(true), None, false), Verdict::Failed(_)));
        assert!(matches!(gate(&db, &edge(true), Some(&[]), false), Verdict::Wait(_)));
    }

    #[test]
    fn a_stop_waits_only_for_dependents_that_go_too() {
        let staying = view(Phase::Healthy);
        assert_eq!(stop_gate([staying.clone()]), None);
        let going = View { leaving: true, ..view(Phase::Stopping) };
        assert!(stop_gate([staying, going]).is_some());
        let held = View { leaving: true, stays: true, ..view(Phase::Stopping) };
        assert_eq!(stop_gate([held]), None);
        let gone = View { leaving: true, running: false, ..view(Phase::Stopped) };
        assert_eq!(stop_gate([gone]), None);
    }
}
