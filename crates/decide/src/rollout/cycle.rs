//! One decision about an entity (`spec/nixmade.md` 2.F steps 1 to 8).

use std::collections::BTreeSet;

use upbeat_model::Mono;
use upbeat_model::rollout::{
    Amount, Budget, Counts, Course, Happened, NAMED, Opening, Reason, TargetId, Version, Who,
};

use super::judge::{Position, Progressed};
use super::told::{Asks, NewTarget, Nothing, Question, Step, Told};
use super::view::{Standing, Tallies, View, quota};
use super::{Rollout, Target, measured};

/// What is to be, in all its parts. To be taken on as a whole: [`Rollout::take_on`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// The version in force when it was made.
    pub in_force: Option<Version>,
    /// How the targets stood.
    pub counts: Counts,
    /// What is rolled out is good from now on.
    pub good: Option<Reason>,
    /// What is rolled out is bad from now on.
    pub bad: Option<Reason>,
    /// These are not there any more.
    pub removed: BTreeSet<TargetId>,
    /// These were not there before.
    pub created: Vec<NewTarget>,
    /// The version in force is assigned to these.
    pub assigned: Vec<TargetId>,
    /// The stage of each of them, where there are stages.
    pub placed: Vec<u16>,
    /// These have failed, and it was not said of them before.
    pub failed: Vec<(TargetId, String)>,
    /// This one is rolled out from now on.
    pub rolling: Option<Version>,
    /// It is in this stage from now on.
    pub position: Option<Position>,
    /// It has come so far.
    pub progressed: Option<Progressed>,
    /// All targets are back, and were not before.
    pub is_back: bool,
    /// A target runs the version in force.
    pub is_run: bool,
    /// What happened besides.
    pub happened: Vec<Happened>,
    /// Why it is not otherwise.
    pub reasons: Vec<Reason>,
}

/// What is to be, from what is known; or what has to be known for that.
///
/// Errors: nothing can be decided.
pub fn decide(rollout: &Rollout, asks: Asks, told: &Told, now: Mono) -> Result<Step, Nothing> {
    if rollout.course() == Course::None {
        return Err(Nothing::NoVersion);
    }
    let Some(version) = rollout.in_force() else {
        return Ok(Step::Settle(Box::new(halted(rollout))));
    };
    let view = View::new(rollout, version, now);
    let mut cycle = Cycle { view, asks, told, position: Position::of(rollout) };
    Ok(match cycle.run() {
        Ok(decision) => Step::Settle(Box::new(decision)),
        Err(Stop::For(question)) => Step::Ask(question),
        Err(Stop::With(nothing)) => return Err(nothing),
    })
}

/// Nobody is moved; another version takes its place.
fn halted(rollout: &Rollout) -> Decision {
    let counts = Counts { total: rollout.targets.len(), ..Counts::default() };
    let rolling = rollout.queued();
    let mut reasons = vec![Reason::Halted];
    reasons.extend(rolling.clone().map(|version| Reason::Queued { version }));
    Decision { counts, rolling, reasons, ..Decision::default() }
}

/// Why it goes no further.
pub(super) enum Stop {
    For(Question),
    With(Nothing),
}

pub(super) struct Cycle<'a> {
    pub view: View<'a>,
    pub asks: Asks,
    pub told: &'a Told,
    /// Where it is among its stages.
    pub position: Position,
}

/// For how many there is a place.
struct Places {
    /// In the batch.
    batch: usize,
    /// In the stage, where that is for so many.
    stage: usize,
    /// Among those that may be unwell.
    unwell: usize,
    /// For new ones.
    surge: usize,
    /// New ones for whom there was none.
    refused: usize,
}

impl Cycle<'_> {
    fn run(&mut self) -> Result<Decision, Stop> {
        let (mut decision, mut tallies) = self.judge()?;
        if decision.bad.is_some() {
            // Everything else follows from it, with the next report.
            return Ok(decision);
        }
        self.advance(&mut tallies, &mut decision);
        self.conclude(&tallies, &mut decision);
        let slots = slots(&self.view, &tallies);
        let closed = self.closed();
        // Whoever removes has done so when it answers: that counts, though a window closed meanwhile.
        if closed.is_none() || matches!(self.told.removal, Some(Ok(_))) {
            self.remove(slots, &tallies, &mut decision)?;
        }
        let unclear = measured::unclear(self.view.rollout);
        match self.paused().or(unclear).or_else(|| self.at_gate()).or(closed) {
            Some(held) => decision.reasons.push(held),
            None => self.assign(slots, &tallies, &mut decision)?,
        }
        let queued = self.view.rollout.queued();
        let course = self.view.rollout.course();
        let is_decided = decision.good.is_some() || !matches!(course, Course::Forward(_));
        match (queued, is_decided) {
            (Some(version), true) => decision.rolling = Some(version),
            (Some(version), false) => decision.reasons.push(Reason::Queued { version }),
            (None, _) => {}
        }
        if let Course::Back { to, .. } = course {
            let Counts { total, available, on_the_way, .. } = decision.counts;
            let was_back = self.view.rollout.rolling.as_ref().is_some_and(|rolling| rolling.is_back);
            decision.is_back = total > 0 && available + on_the_way == 0 && !was_back;
            decision.reasons.push(Reason::RollsBack { to });
        }
        Ok(decision)
    }

    pub(super) fn those(&self, is_one: impl Fn(&Target) -> bool) -> Vec<TargetId> {
        let targets = self.view.rollout.targets.iter();
        targets.filter(|(_, target)| is_one(target)).map(|(id, _)| id.clone()).collect()
    }

    /// Of those that run another version, as many go as new ones have been decided about (step 5). Who serves
    /// may go only where one may serve less.
    fn remove(&self, slots: usize, tallies: &Tallies, decision: &mut Decision) -> Result<(), Stop> {
        let Counts { well, failed, on_the_way, .. } = decision.counts;
        let count = slots.min((well + failed).saturating_sub(on_the_way));
        if !self.asks.removal || count == 0 {
            return Ok(());
        }
        let (view, mut unwell) = (&self.view, self.room_for_unwell(tallies));
        let is_old = |target: &Target| target.current.version.as_ref() != Some(&view.version);
        let serves = |id: &TargetId| {
            let target = view.rollout.targets.get(id);
            target.is_some_and(|target| View::is_ok(target, view.standing(id, target)))
        };
        let mut old = self.those(is_old);
        if unwell == 0 {
            old.retain(|id| !serves(id));
        }
        if old.is_empty() {
            return Ok(());
        }
        // Whoever removes does so at once: no more are named than may be missed.
        let free = old.iter().filter(|id| !serves(id)).count();
        let count = count.min(unwell.saturating_add(free));
        match &self.told.removal {
            None => Err(Stop::For(Question::Removal(old, count))),
            Some(Err(why)) => Err(Stop::With(Nothing::Removal(why.clone()))),
            Some(Ok(gone)) => {
                let mut known: Vec<&TargetId> = Vec::new();
                for id in gone.iter().filter(|id| old.binary_search(id).is_ok()).take(count) {
                    if unwell == usize::MAX || !serves(id) {
                        known.push(id);
                    } else if unwell > 0 && !known.contains(&id) {
                        unwell -= 1;
                        known.push(id);
                    }
                }
                decision.removed = known.into_iter().cloned().collect();
                Ok(())
            }
        }
    }

    fn paused(&self) -> Option<Reason> {
        let rollout = self.view.rollout;
        let pause = rollout.pause.as_ref()?;
        matches!(rollout.course(), Course::Forward(_)).then(|| Reason::Paused { by: pause.by.clone() })
    }

    /// It is not the time to move targets forward. Going back is always in time.
    pub(super) fn closed(&self) -> Option<Reason> {
        let rollout = self.view.rollout;
        let is_undo = rollout.rolling.as_ref().is_some_and(|rolling| rolling.is_undo);
        if is_undo || !matches!(rollout.course(), Course::Forward(_) | Course::Steady(_)) {
            return None;
        }
        match &self.told.opening {
            Some(Opening::Closed { until, why }) => Some(Reason::Closed { until: *until, why: why.clone() }),
            Some(Opening::Open { .. }) => None,
            // Who forgets to look at the clock must not move anybody at night.
            None if !rollout.strategy.windows.is_empty() => {
                let why = "closed: there are windows, and nobody said what time it is".to_owned();
                Some(Reason::Closed { until: None, why })
            }
            None => None,
        }
    }

    /// How many more may be unwell. Who was made in addition, and serves, makes up for one that was there.
    fn room_for_unwell(&self, tallies: &Tallies) -> usize {
        let may = unwell(&self.view, tallies).map(|budget| budget.of);
        may.map_or(usize::MAX, |may| (may + tallies.ok).saturating_sub(before(&self.view, tallies)))
    }

    fn places(&self, slots: usize, tallies: &Tallies, decision: &Decision) -> Places {
        let view = &self.view;
        let stage = view.stages.get(view.stage).and_then(|stage| quota(stage, decision.counts.total));
        let stage = stage.map_or(usize::MAX, |quota| {
            let Counts { total, available, .. } = tallies.stages[view.stage].counts;
            quota.saturating_sub(total - available)
        });
        let gone = decision.removed.iter().filter_map(|id| view.rollout.targets.get(id));
        let (extra_gone, old_gone) = gone.fold((0, 0), |(extra, old), target| match target.is_extra {
            true => (extra + 1, old),
            false => (extra, old + 1),
        });
        let left = view.rollout.removed() + old_gone + extra_gone;
        let surge = surge(view, tallies)
            .map_or(usize::MAX, |may| may.saturating_add(left).saturating_sub(tallies.extra));
        Places {
            batch: slots.saturating_sub(decision.counts.on_the_way),
            stage,
            unwell: self.room_for_unwell(tallies).saturating_sub(old_gone),
            surge,
            refused: 0,
        }
    }

    /// Who is next, of those for whom there is a place (steps 6 and 7).
    fn assign(&self, slots: usize, tallies: &Tallies, decision: &mut Decision) -> Result<(), Stop> {
        let Counts { on_the_way, available, .. } = decision.counts;
        if available == 0 {
            return Ok(());
        }
        let mut places = self.places(slots, tallies, decision);
        if places.batch == 0 {
            decision.reasons.push(Reason::BatchIsFull { on_the_way, slots });
            return Ok(());
        }
        let is_available = |id: &TargetId, target: &Target| {
            !self.view.is_assigned(target)
                && !decision.removed.contains(id)
                && self.view.may_go(&target.labels).is_some()
        };
        let all = self.view.rollout.targets.iter().filter(|(id, target)| is_available(id, target));
        let mut chosen = Vec::new();
        let mut kept_back = false;
        // A stage of so many may have no place left; only who is of an earlier one, by labels, can go then.
        let mut begun = self.view.stages.iter().take(self.view.stage + 1);
        let is_only_of_number = !begun.any(|stage| matches!(stage.who, Who::Labels(_)));
        if self.asks.selection {
            let all: Vec<(&TargetId, &Target)> = all.collect();
            match self.selected(&all, &mut places, decision)? {
                Some((new, back)) => (chosen, kept_back) = (new, back),
                None => return Ok(()),
            }
        } else {
            for (id, target) in all {
                if places.batch == 0 || is_only_of_number && places.stage == 0 {
                    break;
                }
                match self.takes(id, Some(target), &target.labels, &mut places) {
                    true => chosen.push(id.clone()),
                    false => kept_back |= places.unwell == 0,
                }
            }
        }
        if let (true, Some(Budget { used: unwell, of: may })) = (kept_back, unwell(&self.view, tallies)) {
            decision.reasons.push(Reason::TooManyUnwell { unwell, may });
        }
        if let (1.., Some(may)) = (places.refused, surge(&self.view, tallies)) {
            decision.reasons.push(Reason::NoSurge { refused: places.refused, may });
        }
        self.approve(chosen, decision)?;
        self.put(decision);
        Ok(())
    }

    /// Whether there is a place for one, which is taken then.
    fn takes(
        &self,
        id: &TargetId,
        target: Option<&Target>,
        labels: &std::collections::BTreeMap<String, String>,
        places: &mut Places,
    ) -> bool {
        let Some(stage) = self.view.may_go(labels) else { return false };
        let is_of_number = stage == self.view.stage && places.stage != usize::MAX;
        let was_ok = target.is_some_and(|target| View::is_ok(target, self.view.standing(id, target)));
        if places.batch == 0 || is_of_number && places.stage == 0 || was_ok && places.unwell == 0 {
            return false;
        }
        if target.is_none() {
            if places.surge == 0 {
                places.refused += 1;
                return false;
            }
            places.surge -= usize::from(places.surge != usize::MAX);
        }
        places.batch -= 1;
        places.stage -= usize::from(is_of_number);
        places.unwell -= usize::from(was_ok && places.unwell != usize::MAX);
        true
    }

    /// Whoever selects says who is next, and whether somebody was kept back as too many are unwell; none where
    /// that is not known.
    fn selected(
        &self,
        all: &[(&TargetId, &Target)],
        places: &mut Places,
        decision: &mut Decision,
    ) -> Result<Option<(Vec<TargetId>, bool)>, Stop> {
        let names = |is_one: &dyn Fn(&TargetId, &Target) -> bool| {
            let those = all.iter().filter(|(id, target)| is_one(id, target));
            those.map(|(id, _)| (*id).clone()).collect::<Vec<TargetId>>()
        };
        let chosen = match &self.told.selection {
            None if all.is_empty() => return Ok(None),
            None => {
                let serves =
                    |id: &TargetId, target: &Target| View::is_ok(target, self.view.standing(id, target));
                let mut asked = names(&|id, target| places.unwell > 0 || !serves(id, target));
                if asked.is_empty() {
                    // None of them may be moved; new ones may be made all the same.
                    asked = names(&|_, _| true);
                }
                return Err(Stop::For(Question::Selection(asked, places.batch)));
            }
            Some(Err(detail)) => {
                decision.reasons.push(not_chosen("selection", detail));
                return Ok(None);
            }
            Some(Ok(chosen)) => chosen,
        };
        let (mut ids, mut kept_back) = (Vec::<TargetId>::new(), false);
        for new in chosen {
            let known = self.view.rollout.targets.get(&new.id);
            // One that is well on it, or on its way, is chosen in vain; one that is removed is not there.
            let is_one = known.is_none() || all.binary_search_by(|(id, _)| (*id).cmp(&new.id)).is_ok();
            if places.batch == 0 || !is_one || ids.contains(&new.id) {
                continue;
            }
            let labels = known.map_or(&new.labels, |target| &target.labels);
            if !self.takes(&new.id, known, labels, places) {
                kept_back |= known.is_some() && places.unwell == 0;
                continue;
            }
            ids.push(new.id.clone());
            if known.is_none() {
                decision.created.push(new.clone());
            }
        }
        Ok(Some((ids, kept_back)))
    }

    fn approve(&self, chosen: Vec<TargetId>, decision: &mut Decision) -> Result<(), Stop> {
        if !self.asks.approval || chosen.is_empty() {
            decision.assigned = chosen;
            return Ok(());
        }
        let approved = match &self.told.approval {
            None => return Err(Stop::For(Question::Approval(chosen))),
            Some(Err(detail)) => {
                decision.reasons.push(not_chosen("approval", detail));
                return Ok(());
            }
            Some(Ok(approved)) => approved.iter().collect::<BTreeSet<_>>(),
        };
        let (yes, no): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|id| approved.contains(id));
        if !no.is_empty() {
            let (more, targets) = (no.len().saturating_sub(NAMED), no.into_iter().take(NAMED).collect());
            decision.reasons.push(Reason::NotApproved { targets, more });
        }
        decision.assigned = yes;
        Ok(())
    }

    /// In which stage each is.
    fn put(&self, decision: &mut Decision) {
        if self.view.stages.is_empty() {
            return;
        }
        let created = |id: &TargetId| decision.created.iter().find(|new| new.id == *id);
        let labels = |id: &TargetId| match self.view.rollout.targets.get(id) {
            Some(target) => Some(&target.labels),
            None => created(id).map(|new| &new.labels),
        };
        let stage = |id: &TargetId| labels(id).and_then(|labels| self.view.may_go(labels)).unwrap_or(0);
        decision.placed =
            decision.assigned.iter().map(|id| u16::try_from(stage(id)).unwrap_or(u16::MAX)).collect();
    }
}

/// So many may be on their way: of the stage where that says so, or of all.
pub(super) fn slots(view: &View<'_>, tallies: &Tallies) -> usize {
    match view.stages.get(view.stage).and_then(|stage| stage.options.batch) {
        Some(batch) => batch.of(tallies.stages[view.stage].counts.total).max(1),
        None => view.rollout.options.slots(tallies.all.counts.total),
    }
}

/// So many may be there in addition; none: that is not limited.
fn surge(view: &View<'_>, tallies: &Tallies) -> Option<usize> {
    let may = view.rollout.strategy.max_surge?;
    Some(match may {
        Amount::Percent(1..) => may.of(before(view, tallies)).max(1),
        Amount::Percent(0) => 0,
        // Of how many does not matter.
        Amount::Count(_) => may.of(usize::MAX),
    })
}

/// So many there would be, had nobody been made in addition or removed for that.
fn before(view: &View<'_>, tallies: &Tallies) -> usize {
    (tallies.all.counts.total + view.rollout.removed()).saturating_sub(tallies.extra)
}

/// How many of those that were there before are missed, and may be; none: that is not limited.
pub(super) fn unwell(view: &View<'_>, tallies: &Tallies) -> Option<Budget> {
    let before = before(view, tallies);
    let may = view.rollout.strategy.max_unavailable?.of(before);
    let can_make_new = surge(view, tallies).is_some_and(|may| may > 0);
    let of = if can_make_new { may } else { may.max(1) };
    Some(Budget { used: before.saturating_sub(tallies.ok), of })
}

fn not_chosen(asked: &str, detail: &str) -> Reason {
    Reason::NotChosen { asked: asked.to_owned(), detail: detail.to_owned() }
}

impl Standing {
    /// It was counted among those that have failed.
    pub(super) fn is_failed(self) -> bool {
        self == Self::Failed
    }
}
