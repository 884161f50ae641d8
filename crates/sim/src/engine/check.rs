//! The checkers: what must never be ordered, whatever the seed. They know what is really there, what is
//! wished, and what people are shown; of the decisions they know nothing.

use std::collections::{BTreeMap, BTreeSet};

use upbeat_decide::instance::{Input, Unprepared};
use upbeat_decide::{Bundle, Effect, Node};
use upbeat_model::project::Condition;
use upbeat_model::target::{Ask, Goal, TargetSlot};
use upbeat_model::{Attempt, Phase, SlotId};

use super::docker::Docker;
use super::people::People;
use super::process::Processes;
use crate::check::Verdict;

/// What can be seen.
pub(super) struct Sight<'a> {
    pub(super) node: &'a Node,
    pub(super) people: &'a People,
    pub(super) docker: &'a Docker,
    pub(super) processes: &'a Processes,
}

/// What runs in a slot: which, and of which spec.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Living {
    /// A container and its run, or a process.
    which: (Option<String>, u64),
    digest: String,
}

/// A wish that something was made for.
type Made = (u64, String);

/// What somebody beside the daemon notes.
#[derive(Default)]
pub(super) struct Ledger {
    /// For which wish a container was made, and which.
    made: BTreeMap<SlotId, (Made, String)>,
    /// For which wish it could only be made when what runs has stopped.
    held_up: BTreeMap<SlotId, Made>,
    /// What was asked to stop.
    asked: BTreeMap<SlotId, Living>,
    /// Of which slots something is being stopped.
    stopping: BTreeSet<SlotId>,
    /// Under which generation a slot was last started, and as which spec.
    started_for: BTreeMap<SlotId, (u64, String)>,
    /// Which container each slot was last started as, by which attempt.
    started_as: BTreeMap<SlotId, (Attempt, Option<String>)>,
    /// Containers that were said not to be there any more.
    gone: BTreeMap<SlotId, String>,
    /// Slots that something has run in, and of which specs.
    ran: BTreeMap<SlotId, BTreeSet<String>>,
    /// Slots of which the engine has told what is not so.
    pub(super) lied_of: BTreeSet<SlotId>,
    /// Processes that nobody remembers: nothing says of them what they are.
    strangers: BTreeSet<u64>,
    /// Runs that another hand began.
    by_hand: BTreeSet<u64>,
    /// What was kept is lost: nobody remembers which networks were made under earlier files, nor who had which
    /// port.
    pub(super) forgot: bool,
    /// The images that were there since there is peace, by reference.
    pub(super) images: BTreeMap<String, BTreeSet<String>>,
}

impl Sight<'_> {
    fn living(&self, slot: &SlotId) -> Option<Living> {
        if let Some(process) = self.processes.alive(slot) {
            return Some(Living {
                which: (None, process.pid.unsigned_abs().into()),
                digest: process.digest.clone(),
            });
        }
        let (id, found) = self.docker.alive(slot)?;
        Some(Living { which: (Some(id.clone()), found.run), digest: found.digest.clone() })
    }
}

fn is_container(wish: &TargetSlot) -> bool {
    wish.goal == Goal::Running && wish.spec.container.is_some()
}

impl Ledger {
    /// What the driver answers.
    pub(super) fn answered(&mut self, slot: &SlotId, answer: &Input) {
        match answer {
            Input::Prepared { generation, digest, container } => {
                self.made.insert(slot.clone(), ((*generation, digest.clone()), container.clone()));
            }
            Input::PrepareFailed { generation, digest, why: Unprepared::HeldUp(_) } => {
                self.held_up.insert(slot.clone(), (*generation, digest.clone()));
            }
            Input::Removed => drop(self.made.remove(slot)),
            _ => {}
        }
    }

    /// What this daemon is told.
    pub(super) fn told(&mut self, slot: &SlotId, input: &Input) {
        match (input, self.started_as.get(slot)) {
            (Input::StartGone { attempt }, Some((of, Some(container)))) if of == attempt => {
                self.gone.insert(slot.clone(), container.clone());
            }
            (Input::Prepared { .. }, _) => drop(self.gone.remove(slot)),
            _ => {}
        }
    }

    /// The daemon died.
    pub(super) fn died(&mut self) {
        self.gone.clear();
    }

    pub(super) fn ran(&mut self, slot: &SlotId, digest: &str) {
        self.ran.entry(slot.clone()).or_default().insert(digest.to_owned());
    }

    pub(super) fn began_by_hand(&mut self, run: Option<u64>) {
        self.by_hand.extend(run);
    }

    pub(super) fn lied(&mut self, slot: &SlotId) {
        self.lied_of.insert(slot.clone());
    }

    /// What was kept is lost.
    pub(super) fn forgotten(&mut self, processes: &Processes) {
        self.forgot = true;
        self.strangers.extend(processes.places.values().map(|process| u64::from(process.pid.unsigned_abs())));
    }

    /// A process of which nothing says what it is.
    pub(super) fn is_stranger(&self, pid: i32) -> bool {
        self.strangers.contains(&u64::from(pid.unsigned_abs()))
    }

    pub(super) fn final_images(&mut self, docker: &Docker) {
        for (reference, image) in docker.local.iter().chain(&docker.registry) {
            self.images.entry(reference.clone()).or_default().insert(image.clone());
        }
    }

    /// Everything that is wished here is there, or can only be made when something has stopped.
    fn is_ready(&self, slot: &SlotId, wish: &TargetSlot) -> bool {
        let this = (wish.generation, wish.digest.clone());
        self.made.get(slot).is_some_and(|(made, _)| *made == this) || self.held_up.get(slot) == Some(&this)
    }

    /// Orders are about to be given.
    pub(super) fn judge(&mut self, bundle: &Bundle, sight: &Sight<'_>) -> Verdict {
        for effect in &bundle.effects {
            match effect {
                Effect::Stop { slot, .. } => self.stop(slot, bundle, sight)?,
                Effect::Start { slot, attempt, container, .. } => {
                    if container.is_some() && self.gone.get(slot) == container.as_ref() {
                        return Err(format!("{slot}: {container:?} is started, and was said to be gone"));
                    }
                    self.started_as.insert(slot.clone(), (*attempt, container.clone()));
                    self.start(slot, bundle, sight)?;
                }
                Effect::Remove { slot, networks, .. } => remove(slot, networks, sight)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn stop(&mut self, slot: &SlotId, bundle: &Bundle, sight: &Sight<'_>) -> Verdict {
        let goes_on = !self.stopping.insert(slot.clone());
        let Some(living) = sight.living(slot) else { return Ok(()) };
        let is_it = |asked: &Living| {
            let is_again = asked.which.0 == living.which.0 && self.by_hand.contains(&living.which.1);
            *asked == living || is_again
        };
        if self.asked.get(slot).is_some_and(is_it) {
            // That was judged when it was asked first.
            return Ok(());
        }
        let wish = &sight.people.target.slots[slot];
        self.asked.insert(slot.clone(), living.clone());
        if !(goes_on && self.by_hand.contains(&living.which.1)) {
            // Else it was started beside what was being stopped.
            self.is_not_as_wished(slot, wish, &living)?;
        }
        if !wish.kill && wish.goal != Goal::Stopped {
            self.all_is_there(slot, wish, sight)?;
        }
        if !wish.kill { dependents_are_down(slot, wish, bundle, sight) } else { Ok(()) }
    }

    /// What is as wished is left alone.
    fn is_not_as_wished(&self, slot: &SlotId, wish: &TargetSlot, living: &Living) -> Verdict {
        let is_made = match (&living.which.0, self.made.get(slot)) {
            (Some(id), Some((made, container))) => {
                *made != (wish.generation, wish.digest.clone()) || container == id
            }
            (id, _) => id.is_some() == wish.spec.container.is_some(),
        };
        let restarts = wish.ask == Ask::Restart
            && self.started_for.get(slot).is_none_or(|(started, _)| *started < wish.generation);
        let by_hand = self.by_hand.contains(&living.which.1);
        if by_hand && self.held_up.get(slot) == Some(&(wish.generation, wish.digest.clone())) {
            // Nobody knew that it could be made by then.
            return Ok(());
        }
        let is_stranger = living.which.0.is_none() && self.strangers.contains(&living.which.1);
        if wish.goal == Goal::Running && !is_stranger && living.digest == wish.digest && is_made && !restarts
        {
            return Err(format!("{slot}: it is as wished, and stopped: {living:?}"));
        }
        Ok(())
    }

    /// Nothing is stopped for a change before everything new of the same command is there.
    fn all_is_there(&self, slot: &SlotId, wish: &TargetSlot, sight: &Sight<'_>) -> Verdict {
        let same = sight.people.target.slots.iter().filter(|(_, other)| other.operation == wish.operation);
        for (other, its) in same.filter(|(_, its)| is_container(its)) {
            if !self.is_ready(other, its) {
                return Err(format!("{slot}: it is stopped before {other} is made"));
            }
        }
        Ok(())
    }

    fn start(&mut self, slot: &SlotId, bundle: &Bundle, sight: &Sight<'_>) -> Verdict {
        let wish = &sight.people.target.slots[slot];
        if wish.goal != Goal::Running {
            return Err(format!("{slot}: it is started, and shall be {:?}", wish.goal));
        }
        let before = self.started_for.insert(slot.clone(), (wish.generation, wish.digest.clone()));
        let is_new = before.is_none_or(|(_, digest)| digest != wish.digest);
        self.stopping.remove(slot);
        self.port_is_free(slot, wish, sight)?;
        for (service, edge) in &wish.spec.depends_on {
            for copy in sight.people.copies(service) {
                self.holds(slot, copy, &edge.condition, bundle, sight)?;
                if is_new && edge.condition == Condition::CompletedSuccessfully {
                    self.has_done_so(slot, copy, sight)?;
                }
            }
        }
        Ok(())
    }

    /// No other that goes has the port it publishes, as far as that can be known.
    fn port_is_free(&self, slot: &SlotId, wish: &TargetSlot, sight: &Sight<'_>) -> Verdict {
        if !sight.people.publishes(&wish.digest) || self.forgot {
            return Ok(());
        }
        for (other, its) in sight.people.target.slots.iter().filter(|(other, _)| *other != slot) {
            let Some(living) = sight.living(other).filter(|living| sight.people.publishes(&living.digest))
            else {
                continue;
            };
            let goes = its.goal != Goal::Running || living.digest != its.digest;
            let is_shown = sight.node.status(other).is_some_and(|seen| seen.phase.is_alive());
            // One that an older order began, when a newer one had been given, is seen only when that is refused.
            let is_last = |(_, container): &(Attempt, Option<String>)| *container == living.which.0;
            let is_known = self.started_as.get(other).is_none_or(is_last)
                && !self.by_hand.contains(&living.which.1)
                && !self.lied_of.contains(other);
            if goes && is_shown && is_known {
                return Err(format!("{slot}: it is started while {other} has its port, and goes"));
            }
        }
        Ok(())
    }

    /// As it is shown; and it really ran.
    fn holds(
        &self,
        slot: &SlotId,
        copy: &SlotId,
        condition: &Condition,
        bundle: &Bundle,
        sight: &Sight<'_>,
    ) -> Verdict {
        let seen = sight.node.status(copy).map(|seen| seen.phase);
        // In one and the same decision it was there for this one, and is taken down for another.
        let was = bundle.statuses.get(copy).map(|change| change.from);
        let is = |phase: Phase| match condition {
            Condition::CompletedSuccessfully => phase == Phase::Completed,
            Condition::Started => matches!(phase, Phase::Running | Phase::Completed),
            _ => phase == Phase::Running,
        };
        if !seen.into_iter().chain(was).any(is) {
            return Err(format!("{slot}: it is started, and {copy} is {seen:?} and not {condition}"));
        }
        let has_run = self.ran.contains_key(copy) || self.lied_of.contains(copy);
        if !has_run && sight.docker.of(copy).next().is_some() {
            return Err(format!("{slot}: it is started, and {copy} never ran"));
        }
        Ok(())
    }

    /// What is new waits for what the newest file says, not for what an older one said.
    fn has_done_so(&self, slot: &SlotId, copy: &SlotId, sight: &Sight<'_>) -> Verdict {
        let wish = &sight.people.target.slots[copy];
        let has_run = self.ran.get(copy).is_some_and(|specs| specs.contains(&wish.digest));
        if wish.goal == Goal::Running && !has_run && !self.lied_of.contains(copy) {
            return Err(format!("{slot}: it is started, and {copy} has completed of an older file"));
        }
        Ok(())
    }
}

/// What rests on it and goes too is down before.
fn dependents_are_down(slot: &SlotId, wish: &TargetSlot, bundle: &Bundle, sight: &Sight<'_>) -> Verdict {
    for (other, its) in &sight.people.target.slots {
        let rests = its.spec.depends_on.contains_key(&slot.service);
        // One that waits for what another command cannot make is not on its way down.
        let goes = its.goal == Goal::Stopped || (its.goal == Goal::Absent && its.operation == wish.operation);
        let is_shown = sight.node.status(other).is_some_and(|seen| seen.phase.is_alive());
        let was_shown = bundle.statuses.get(other).is_none_or(|change| change.from.is_alive());
        if rests && goes && is_shown && was_shown && sight.living(other).is_some() {
            return Err(format!("{slot}: it is stopped while {other} rests on it, and goes too"));
        }
    }
    Ok(())
}

/// No network is taken from somebody who shall be in it.
fn remove(slot: &SlotId, networks: &[String], sight: &Sight<'_>) -> Verdict {
    for (other, its) in &sight.people.target.slots {
        let uses = |name: &String| {
            its.spec.container.iter().flat_map(|one| one.networks()).any(|at| at.network.name == *name)
        };
        if other != slot && is_container(its) && networks.iter().any(uses) {
            return Err(format!("{slot}: {networks:?} go with it, and {other} is in one of them"));
        }
    }
    Ok(())
}
