//! What happens to a running copy when what it rests on ends or is replaced.
//!
//! A copy remembers which attempts it rests on: those that ran when it was started, and those that
//! came to run since. As soon as one of them does not run any more, it has lost something, whether
//! that crashed, was restarted or was stopped. What has completed has done what it was there for: that
//! is no loss, until it is run again.

use std::collections::BTreeMap;

use upbeat_model::project::{Dependency, OnRestart};
use upbeat_model::reason::StopCause;
use upbeat_model::target::TargetSlot;
use upbeat_model::{Attempt, Exit, Phase, SlotId};

use super::{Around, Condemned, Follows, Reloading, RestsOn, Up};
use crate::gate::{Verdict, View};
use crate::rules::{Bug, Rules};

/// What follows from the end of what an edge leads to. Compose's own `restart: true` is about what
/// somebody restarts or replaces on purpose: those who rest on that are asked to restart with it.
fn follows(edge: &Dependency, rules: Rules) -> OnRestart {
    match edge.on_restart {
        OnRestart::Ignore if edge.restart && rules.has(Bug::FollowCrashes) => OnRestart::Restart,
        follows => follows,
    }
}

/// What runs now of all that the wish's edges ask to be told the end of.
pub(super) fn now(wish: &TargetSlot, around: &Around<'_>) -> RestsOn {
    let edges =
        wish.spec.depends_on.iter().filter(|(_, edge)| follows(edge, around.rules) != OnRestart::Ignore);
    edges.map(|(service, _)| (service.clone(), running(&(around.copies)(service)))).collect()
}

fn running(copies: &[View]) -> BTreeMap<u32, Attempt> {
    let runs = |copy: &&View| copy.is_known && copy.running;
    copies.iter().filter(runs).map(|copy| (copy.slot.index, copy.attempt)).collect()
}

/// Looks whether something it rests on is gone, and says what follows.
pub(super) fn look(up: &mut Up, around: &Around<'_>) {
    let edges = &around.wish.spec.depends_on;
    let ignores = |edge: &Dependency| follows(edge, around.rules) == OnRestart::Ignore;
    if up.rests_on.is_empty() && edges.values().all(ignores) {
        return;
    }
    up.rests_on.retain(|service, _| edges.get(service).is_some_and(|edge| !ignores(edge)));
    if around.rules.has(Bug::ForgetEdges) {
        return;
    }
    for (service, edge) in edges {
        if ignores(edge) || up.condemned.is_some() {
            continue;
        }
        let copies = (around.copies)(service);
        let rests_on = up.rests_on.entry(service.clone()).or_default();
        let Some(lost) = missing(rests_on, &copies) else { continue };
        let what = format!("{}, which it rests on, has ended", lost.short());
        match follows(edge, around.rules) {
            OnRestart::Ignore => {}
            OnRestart::Stop if around.rules.has(Bug::RestartInsteadOfStop) => {
                condemn(up, None, Follows::Start);
            }
            OnRestart::Restart => condemn(up, None, Follows::Start),
            OnRestart::Stop => condemn(up, Some(Exit::Stopped(what)), Follows::Nothing),
            OnRestart::Reload
                if (around.edge)(service) == Verdict::Open || around.rules.has(Bug::ReloadTooSoon) =>
            {
                *rests_on = running(&copies);
                let serial = OF_EDGE | around.now.0;
                up.reload = Some(Reloading::Due { serial });
            }
            // Once it is there again.
            OnRestart::Reload => {}
        }
    }
}

/// A reload for the sake of an edge is counted by the clock, and one that somebody has asked for by its
/// generation: this tells them apart.
const OF_EDGE: u64 = 1 << 63;

fn condemn(up: &mut Up, exit: Option<Exit>, follows: Follows) {
    up.condemned = Some(Condemned { cause: StopCause::DependencyEnded, exit, follows });
}

/// A copy that ran and does not any more. What came to run since is remembered; what is not wished
/// any more, and what has completed, is forgotten.
fn missing(rests_on: &mut BTreeMap<u32, Attempt>, copies: &[View]) -> Option<SlotId> {
    rests_on.retain(|index, _| copies.iter().any(|copy| copy.slot.index == *index));
    let mut lost = None;
    for copy in copies.iter().filter(|copy| copy.is_known) {
        let index = copy.slot.index;
        let runs = copy.running.then_some(copy.attempt);
        match (rests_on.get(&index), runs) {
            (Some(attempt), Some(now)) if *attempt == now => {}
            // How it ends is known when its hooks have ended, too.
            (Some(attempt), None) if *attempt == copy.attempt && copy.phase == Phase::Stopping => {}
            (Some(attempt), None) if *attempt == copy.attempt && copy.phase == Phase::Completed => {
                rests_on.remove(&index);
            }
            (Some(_), _) => lost = lost.or_else(|| Some(copy.slot.clone())),
            (None, Some(now)) => drop(rests_on.insert(index, now)),
            (None, None) => {}
        }
    }
    lost
}
