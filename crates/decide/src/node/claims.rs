//! Who has what only one can have, and who wants it: a copy starts when the one that has it and goes has gone.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use upbeat_model::target::{Goal, TargetSlot};
use upbeat_model::{Mono, Reason, SlotId};

use super::Node;
use crate::gate::{Opening, Verdict, opening};
use crate::holds::{Claim, Holds};
use crate::instance::{self, Durable, Stage};
use crate::rules::Bug;

/// By what is claimed: who may have it now, and who shall.
#[derive(Debug, Default)]
pub(super) struct Claims {
    held: BTreeMap<Claim, BTreeSet<SlotId>>,
    wanted: BTreeMap<Claim, BTreeSet<SlotId>>,
}

/// What a copy that runs, or may be about to, has. One that is being removed has its name until it is gone.
fn held<'a>(durable: &'a Durable, wish: &TargetSlot) -> Cow<'a, Holds> {
    match &durable.stage {
        Stage::Starting { begun, .. } => Cow::Borrowed(&begun.mark.holds),
        Stage::Up(up) => Cow::Borrowed(&up.mark.holds),
        Stage::Removing => Cow::Owned(Holds::of(&wish.spec).name_alone()),
        _ => Cow::Owned(Holds::default()),
    }
}

impl Claims {
    /// Counts a slot in.
    pub(super) fn index(&mut self, id: &SlotId, durable: &Durable, wish: &TargetSlot) {
        for claim in held(durable, wish).claims() {
            self.held.entry(claim).or_default().insert(id.clone());
        }
        for claim in Holds::of(&wish.spec).claims() {
            self.wanted.entry(claim).or_default().insert(id.clone());
        }
    }

    fn release(&mut self, id: &SlotId, holds: &Holds) {
        for claim in holds.claims() {
            if let Some(holders) = self.held.get_mut(&claim) {
                holders.remove(id);
                if holders.is_empty() {
                    self.held.remove(&claim);
                }
            }
        }
    }

    /// A slot has changed. Those that want what it had, or has, are to look again.
    pub(super) fn note(
        &mut self,
        id: &SlotId,
        wish: &TargetSlot,
        (before, after): (&Durable, Option<&Durable>),
        dirty: &mut BTreeSet<SlotId>,
    ) {
        let had = held(before, wish);
        let has = after.map_or_else(|| Cow::Owned(Holds::default()), |after| held(after, wish));
        if had != has {
            self.release(id, &had);
            for claim in has.claims() {
                self.held.entry(claim).or_default().insert(id.clone());
            }
        }
        for claim in had.claims().chain(has.claims()) {
            dirty.extend(self.wanting(id, claim).cloned());
        }
    }

    /// The others that want something.
    fn wanting<'a>(&'a self, id: &SlotId, claim: Claim) -> impl Iterator<Item = &'a SlotId> {
        self.wanted.get(&claim).into_iter().flatten().filter(move |other| *other != id)
    }
}

impl Node {
    /// Those that want what this one has. Whether it goes is a matter of its wish, too.
    pub(super) fn rivals(&self, id: &SlotId) -> Vec<SlotId> {
        let entry = self.entries.get(id);
        let held = entry.and_then(|entry| Some(held(&entry.slot.durable, entry.wish.as_ref()?)));
        let claims = held.iter().flat_map(|held| held.claims());
        claims.flat_map(|claim| self.claims.wanting(id, claim)).cloned().collect()
    }

    /// What a service rests on, and what only one can have.
    pub(super) fn start_gate(
        &self,
        id: &SlotId,
        wish: &TargetSlot,
        (since, resumes): (Mono, bool),
        now: Mono,
    ) -> Opening {
        let edges = wish.spec.depends_on.iter();
        let judged = edges.map(|(service, edge)| (service, edge, self.edge(&id.app, service, edge, resumes)));
        let Opening { verdict, due } = opening(judged, since, now);
        match verdict {
            Verdict::Wait(reason @ Reason::DependencyFailed { .. })
                if self.rules.has(Bug::IgnoreOnFailure) =>
            {
                Opening { verdict: Verdict::Failed(reason), due }
            }
            Verdict::Open => {
                Opening { verdict: self.taken(id, wish).map_or(Verdict::Open, Verdict::Wait), due }
            }
            verdict => Opening { verdict, due },
        }
    }

    /// What a slot needs for itself is still another's, who is about to go. Of one that stays nothing is waited
    /// for: it is tried, and the engine says who has it.
    fn taken(&self, id: &SlotId, wish: &TargetSlot) -> Option<Reason> {
        let wants = Holds::of(&wish.spec);
        if wants.is_empty() || self.rules.has(Bug::IgnoreClaims) {
            return None;
        }
        let holders = |claim| self.claims.held.get(&claim).into_iter().flatten();
        let mut others = wants.claims().flat_map(holders).filter(|other| *other != id);
        others.find_map(|other| {
            let entry = self.entries.get(other)?;
            let wish = entry.wish.as_ref()?;
            // What shall take its place may not be made yet.
            let keeps = wish.goal == Goal::Running && wants.clash(&Holds::of(&wish.spec)).is_some();
            let goes = !keeps && !self.view(other, &entry.slot, wish).given_up;
            let what = wants.clash(&held(&entry.slot.durable, wish)).filter(|_| goes)?;
            let failed = instance::stays_for_now(&entry.slot, wish);
            Some(Reason::WaitsForRelease { what, slot: other.clone(), failed })
        })
    }
}
