//! What happens to a running copy when what it rests on ends or is replaced.
//!
//! A copy remembers which attempts it rests on: those that ran when it was started, and those that
//! came to run since. As soon as one of them does not run any more, it has lost something, whether
//! that crashed, was restarted or was stopped.

use std::collections::BTreeMap;

use upbeat_model::project::OnRestart;
use upbeat_model::reason::StopCause;
use upbeat_model::target::TargetSlot;
use upbeat_model::{Attempt, Exit, SlotId};

use super::{Around, Condemned, Follows, Reloading, RestsOn, Up};
use crate::gate::{Verdict, View};
use crate::rules::Bug;

/// What runs now of all that the wish's edges ask to be told the end of.
pub(super) fn now(wish: &TargetSlot, around: &Around<'_>) -> RestsOn {
    let edges = wish.spec.depends_on.iter().filter(|(_, edge)| edge.on_restart != OnRestart::Ignore);
    edges.map(|(service, _)| (service.clone(), running(&(around.copies)(service)))).collect()
}

fn running(copies: &[View]) -> BTreeMap<u32, Attempt> {
    let runs = |copy: &&View| copy.is_known && copy.running;
    copies.iter().filter(runs).map(|copy| (copy.slot.index, copy.attempt)).collect()
}

/// Looks whether something it rests on is gone, and says what follows.
pub(super) fn look(up: &mut Up, around: &Around<'_>) {
    let edges = &around.wish.spec.depends_on;
    if up.rests_on.is_empty() && edges.values().all(|edge| edge.on_restart == OnRestart::Ignore) {
        return;
    }
    up.rests_on
        .retain(|service, _| edges.get(service).is_some_and(|edge| edge.on_restart != OnRestart::Ignore));
    if around.rules.has(Bug::ForgetEdges) {
        return;
    }
    for (service, edge) in edges {
        if edge.on_restart == OnRestart::Ignore || up.condemned.is_some() {
            continue;
        }
        let copies = (around.copies)(service);
        let rests_on = up.rests_on.entry(service.clone()).or_default();
        let Some(lost) = missing(rests_on, &copies) else { continue };
        let what = format!("{}, which it rests on, has ended", lost.short());
        match edge.on_restart {
            OnRestart::Ignore => {}
            OnRestart::Restart => condemn(up, None, Follows::Start),
            OnRestart::Stop => condemn(up, Some(Exit::Stopped(what)), Follows::Nothing),
            OnRestart::Reload
                if (around.edge)(service) == Verdict::Open || around.rules.has(Bug::ReloadTooSoon) =>
            {
                *rests_on = running(&copies);
                let serial = around.now.0;
                up.reload = Some(Reloading::Due { serial });
            }
            // Once it is there again.
            OnRestart::Reload => {}
        }
    }
}

fn condemn(up: &mut Up, exit: Option<Exit>, follows: Follows) {
    up.condemned = Some(Condemned { cause: StopCause::DependencyEnded, exit, follows });
}

/// A copy that ran and does not any more. What came to run since is remembered; what is not wished
/// any more is forgotten.
fn missing(rests_on: &mut BTreeMap<u32, Attempt>, copies: &[View]) -> Option<SlotId> {
    rests_on.retain(|index, _| copies.iter().any(|copy| copy.slot.index == *index));
    let mut lost = None;
    for copy in copies.iter().filter(|copy| copy.is_known) {
        let runs = copy.running.then_some(copy.attempt);
        match (rests_on.get(&copy.slot.index), runs) {
            (Some(attempt), Some(now)) if *attempt == now => {}
            (Some(_), _) => lost = lost.or_else(|| Some(copy.slot.clone())),
            (None, Some(now)) => drop(rests_on.insert(copy.slot.index, now)),
            (None, None) => {}
        }
    }
    lost
}
