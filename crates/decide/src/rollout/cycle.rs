//! One decision about an entity (`spec/nixmade.md` 2.F steps 1 to 8).

use std::collections::{BTreeMap, BTreeSet};

use upbeat_model::rollout::{Held, NAMED, Note, Reason, TargetId, Version};
use upbeat_model::{Millis, Mono};

use super::{Course, Rollout, Target, ingest};

/// Whom to ask. What nobody answers for is as if it were said: all may go, all are well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// Whether the whole is well.
    pub external: bool,
    /// Whether a target is well.
    pub monitoring: bool,
    /// Which old targets go.
    pub removal: bool,
    /// Which targets are next.
    pub selection: bool,
    /// Which of these may go.
    pub approval: bool,
}

/// What has to be known before it can be decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Is the whole well, while these are on their way, or are well, or have failed?
    External(Vec<TargetId>),
    /// Is each of these well, which report the version in force?
    Monitoring(Vec<TargetId>),
    /// Which of these go, that run another version? So many at most.
    Removal(Vec<TargetId>, usize),
    /// Which of these are next? So many at most.
    Selection(Vec<TargetId>, usize),
    /// Which of these may go now?
    Approval(Vec<TargetId>),
}

/// A target that whoever selects wants to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTarget {
    /// Which; it may be there already.
    pub id: TargetId,
    /// By which waves choose.
    pub labels: BTreeMap<String, String>,
}

/// What was said to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The whole is well; or it is not, and why: nothing is decided then.
    External(Result<(), String>),
    /// Those that are not well, and why.
    Monitoring(BTreeMap<TargetId, String>),
    /// Those that go; or whoever was asked could not say: nothing is decided then.
    Removal(Result<Vec<TargetId>, String>),
    /// Those that are next; or nobody is, and why.
    Selection(Result<Vec<NewTarget>, String>),
    /// Those that may go; or nobody may, and why.
    Approval(Result<Vec<TargetId>, String>),
}

/// What was said so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    external: Option<Result<(), String>>,
    monitoring: Option<BTreeMap<TargetId, String>>,
    removal: Option<Result<Vec<TargetId>, String>>,
    selection: Option<Result<Vec<NewTarget>, String>>,
    approval: Option<Result<Vec<TargetId>, String>>,
}

impl Told {
    /// And this.
    pub fn take(&mut self, answer: Answer) {
        match answer {
            Answer::External(said) => self.external = Some(said),
            Answer::Monitoring(said) => self.monitoring = Some(said),
            Answer::Removal(said) => self.removal = Some(said),
            Answer::Selection(said) => self.selection = Some(said),
            Answer::Approval(said) => self.approval = Some(said),
        }
    }
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask this, and decide anew with the answer.
    Ask(Question),
    /// It is decided.
    Settle(Box<Decision>),
}

/// Nothing can be decided. What was reported stays known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Nothing {
    /// Nobody has said which version there shall be.
    #[error("empty target version, please set target version before calling orchestrate")]
    NoVersion,
    /// The whole is not well.
    #[error("external monitoring failed: {0}")]
    External(String),
    /// Who goes is not known.
    #[error("target removal failed: {0}")]
    Removal(String),
}

/// How the targets stand to the version in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub total: usize,
    /// It is not assigned to them yet.
    pub available: usize,
    /// They may become well, or fail.
    pub on_the_way: usize,
    /// They are well on it.
    pub well: usize,
    /// They have failed.
    pub failed: usize,
}

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
    /// These have failed, and it was not said of them before.
    pub failed: Vec<(TargetId, String)>,
    /// This one is rolled out from now on.
    pub rolling: Option<Version>,
    /// Why it is not otherwise.
    pub reasons: Vec<Reason>,
}

/// How a target stands to the version in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Available,
    OnTheWay,
    Well,
    Failed,
}

/// Whole seconds count, as they always have (`spec/nixmade.md` 2.F step 3).
fn is_longer(since: Mono, now: Mono, than: Millis) -> bool {
    now.since(since).0 / 1000 > than.0 / 1000
}

fn standing(target: &Target, version: &Version, rollout: &Rollout, now: Mono) -> Standing {
    if target.assigned.version.as_ref() != Some(version) {
        return Standing::Available;
    }
    let options = &rollout.options;
    let current = &target.current;
    // It was reported to be well when it had been for long enough: that it has been silent since the
    // beginning of that time shows nothing.
    let is_proven = is_longer(current.note.at, target.seen, options.success_timeout);
    if current.version.as_ref() == Some(version) && !current.note.is_error && is_proven {
        return Standing::Well;
    }
    match is_longer(target.assigned.since, now, options.duration_timeout) {
        true => Standing::Failed,
        false => Standing::OnTheWay,
    }
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
    let cycle = Cycle { rollout, version, asks, told, now };
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
enum Stop {
    For(Question),
    With(Nothing),
}

struct Cycle<'a> {
    rollout: &'a Rollout,
    version: Version,
    asks: Asks,
    told: &'a Told,
    now: Mono,
}

impl Cycle<'_> {
    fn run(&self) -> Result<Decision, Stop> {
        let mut decision = self.judge()?;
        if decision.bad.is_some() {
            // Everything else follows from it, with the next report.
            return Ok(decision);
        }
        let slots = self.rollout.options.slots(decision.counts.total);
        self.remove(slots, &mut decision)?;
        if let Some(pause) = self.paused() {
            decision.reasons.push(pause);
        } else {
            self.assign(slots, &mut decision)?;
        }
        let queued = self.rollout.queued();
        let is_decided = decision.good.is_some() || !matches!(self.rollout.course(), Course::Forward(_));
        match (queued, is_decided) {
            (Some(version), true) => decision.rolling = Some(version),
            (Some(version), false) => decision.reasons.push(Reason::Queued { version }),
            (None, _) => {}
        }
        if let Course::Back { to, .. } = self.rollout.course() {
            decision.reasons.push(Reason::RollsBack { to });
        }
        Ok(decision)
    }

    /// How each target stands, and what that says of the version (steps 2 to 4).
    fn judge(&self) -> Result<Decision, Stop> {
        let targets = &self.rollout.targets;
        let is_assigned = |target: &Target| target.assigned.version.as_ref() == Some(&self.version);
        let runs_it =
            |target: &Target| is_assigned(target) && target.current.version.as_ref() == Some(&self.version);
        if self.asks.external {
            let asked = || Question::External(self.those(is_assigned));
            match self.told.external.as_ref().ok_or_else(asked).map_err(Stop::For)? {
                Ok(()) => {}
                Err(why) => return Err(Stop::With(Nothing::External(why.clone()))),
            }
        }
        let nobody = BTreeMap::new();
        let unwell = match &self.told.monitoring {
            _ if !self.asks.monitoring => &nobody,
            Some(unwell) => unwell,
            None => return Err(Stop::For(Question::Monitoring(self.those(runs_it)))),
        };
        let mut decision = Decision { in_force: Some(self.version.clone()), ..Decision::default() };
        let counts = &mut decision.counts;
        let mut first = Vec::new();
        for (id, target) in targets.iter() {
            let standing = match unwell.get(id) {
                Some(_) if runs_it(target) => Standing::Failed,
                _ => standing(target, &self.version, self.rollout, self.now),
            };
            counts.total += 1;
            match standing {
                Standing::Available => counts.available += 1,
                Standing::OnTheWay => counts.on_the_way += 1,
                Standing::Well => counts.well += 1,
                Standing::Failed => {
                    counts.failed += 1;
                    if first.len() < NAMED {
                        first.push(id.clone());
                    }
                    if !target.assigned.note.is_error {
                        decision.failed.push((id.clone(), self.failure(target, unwell.get(id))));
                    }
                }
            }
        }
        self.conclude(first, &mut decision);
        Ok(decision)
    }

    fn failure(&self, target: &Target, unwell: Option<&String>) -> String {
        let within = self.rollout.options.duration_timeout;
        match (unwell, &target.current.version) {
            (Some(why), _) => format!("target monitoring failed: {why}"),
            (None, Some(version)) if *version == self.version => {
                format!("it was not well on version {version} within {within}")
            }
            (None, _) => format!("it did not come to run version {} within {within}", self.version),
        }
    }

    /// What the targets say of a version that is neither good nor bad yet.
    fn conclude(&self, failed: Vec<TargetId>, decision: &mut Decision) {
        let Counts { total, well, .. } = decision.counts;
        if !matches!(self.rollout.course(), Course::Forward(_)) {
            return;
        }
        let required = self.rollout.options.required(total);
        let tolerated = total.saturating_sub(required);
        match total {
            0 => decision.reasons.push(Reason::NoTargets),
            _ if decision.counts.failed > tolerated => {
                let failed_count = decision.counts.failed;
                decision.bad =
                    Some(Reason::TooManyFailed { failed: failed_count, tolerated, total, targets: failed });
            }
            _ if required == 0 => decision.good = Some(Reason::Declared),
            _ if well >= required => decision.good = Some(Reason::WellEnough { well, required, total }),
            _ => {}
        }
    }

    fn those(&self, is_one: impl Fn(&Target) -> bool) -> Vec<TargetId> {
        self.rollout.targets.iter().filter(|(_, target)| is_one(target)).map(|(id, _)| id.clone()).collect()
    }

    /// Of those that run another version, as many go as new ones have been decided about (step 5).
    fn remove(&self, slots: usize, decision: &mut Decision) -> Result<(), Stop> {
        let Counts { well, failed, on_the_way, .. } = decision.counts;
        let count = slots.min((well + failed).saturating_sub(on_the_way));
        if !self.asks.removal || count == 0 {
            return Ok(());
        }
        let is_old = |target: &Target| target.current.version.as_ref() != Some(&self.version);
        let old = self.those(is_old);
        if old.is_empty() {
            return Ok(());
        }
        match &self.told.removal {
            None => Err(Stop::For(Question::Removal(old, count))),
            Some(Err(why)) => Err(Stop::With(Nothing::Removal(why.clone()))),
            Some(Ok(gone)) => {
                let known = gone.iter().filter(|id| old.binary_search(id).is_ok()).take(count);
                decision.removed = known.cloned().collect();
                Ok(())
            }
        }
    }

    fn paused(&self) -> Option<Reason> {
        let pause = self.rollout.pause.as_ref()?;
        matches!(self.rollout.course(), Course::Forward(_)).then(|| Reason::Paused { by: pause.by.clone() })
    }

    /// Who is next, of those for whom there is a place (steps 6 and 7).
    fn assign(&self, slots: usize, decision: &mut Decision) -> Result<(), Stop> {
        let Counts { on_the_way, available, .. } = decision.counts;
        if available == 0 {
            return Ok(());
        }
        let places = slots.saturating_sub(on_the_way);
        if places == 0 {
            decision.reasons.push(Reason::BatchIsFull { on_the_way, slots });
            return Ok(());
        }
        let is_available = |id: &TargetId, target: &Target| {
            target.assigned.version.as_ref() != Some(&self.version) && !decision.removed.contains(id)
        };
        let all =
            self.rollout.targets.iter().filter(|(id, target)| is_available(id, target)).map(|(id, _)| id);
        if !self.asks.selection {
            let chosen = all.take(places).cloned().collect();
            return self.approve(chosen, decision);
        }
        let all: Vec<TargetId> = all.cloned().collect();
        let chosen = match &self.told.selection {
            None if all.is_empty() => return Ok(()),
            None => return Err(Stop::For(Question::Selection(all, places))),
            Some(Err(detail)) => {
                decision.reasons.push(not_chosen("selection", detail));
                return Ok(());
            }
            Some(Ok(chosen)) => chosen,
        };
        let mut ids: Vec<TargetId> = Vec::new();
        for new in chosen {
            let is_new = !self.rollout.targets.contains_key(&new.id);
            // One that is well on it, or on its way, is chosen in vain; one that is removed is not there.
            let is_one = is_new || all.binary_search(&new.id).is_ok();
            if ids.len() == places || !is_one || ids.contains(&new.id) {
                continue;
            }
            ids.push(new.id.clone());
            if is_new {
                decision.created.push(new.clone());
            }
        }
        self.approve(ids, decision)
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
}

fn not_chosen(asked: &str, detail: &str) -> Reason {
    Reason::NotChosen { asked: asked.to_owned(), detail: detail.to_owned() }
}

impl Rollout {
    /// The version that was asked for last, where it is another than the one that is rolled out.
    fn queued(&self) -> Option<Version> {
        let rolls = &self.rolling.as_ref()?.version;
        self.target.clone().filter(|target| target != rolls)
    }

    /// Takes on what was decided from this very state.
    pub fn take_on(&mut self, decision: Decision, now: Mono) {
        if self.rolling.is_none()
            && let Some(target) = self.target.clone()
        {
            self.roll(target, now);
        }
        let text = self.assignment();
        for (id, why) in decision.failed {
            if let Some(target) = self.targets.get_mut(&id) {
                target.assigned.note = Note { text: why, at: now, is_error: true };
            }
        }
        for id in &decision.removed {
            self.targets.remove(id);
        }
        for NewTarget { id, labels } in decision.created {
            let note = Note { text: ingest::NEW.to_owned(), at: now, is_error: false };
            let assigned = Held { version: self.good.clone(), since: now, note };
            let current = Held { since: now, ..Held::default() };
            self.targets.insert(id, Target { current, assigned, labels, seen: now });
        }
        if let Some(version) = &decision.in_force {
            for id in &decision.assigned {
                if let Some(target) = self.targets.get_mut(id) {
                    let note = Note { text: format!("{text} {version}"), at: now, is_error: false };
                    target.assigned = Held { version: Some(version.clone()), since: now, note };
                }
            }
        }
        if let Some(reason) = decision.bad {
            self.condemn(reason, now);
        }
        if decision.good.is_some() {
            self.good = self.rolling.as_ref().map(|rolling| rolling.version.clone());
            self.pause = None;
        }
        if let Some(version) = decision.rolling {
            self.roll(version, now);
        }
    }

    /// In the words of the first such engine.
    fn assignment(&self) -> &'static str {
        match self.course() {
            Course::Back { .. } => "Rolling back to lkg version",
            Course::Steady(_) => "Setting LKG to version",
            Course::None | Course::Forward(_) | Course::Halted(_) => "Rollout new version",
        }
    }
}
