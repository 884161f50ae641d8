//! The disk, which is full for a while: what the agent does with what it cannot keep, and what must be so
//! meanwhile. While there is something that could not be kept no daemon dies here: what it has heard
//! and done since is known to nobody else.

use std::collections::{BTreeMap, BTreeSet};

use upbeat_decide::instance::{Durable, Input, Moment, Stage};
use upbeat_decide::rules::Bug;
use upbeat_decide::{Bundle, Effect};
use upbeat_model::target::{Goal, TargetSlot};
use upbeat_model::{Attempt, Reason, SlotId, SlotStatus};

use crate::check::Verdict;
use crate::ledger::{gave_up, is_up};
use crate::pace::Pace;
use crate::random::Random;
use crate::world::{Happening, World};

/// What could not be kept is tried again so long after.
const COMMIT_AGAIN: u64 = 1_000;

/// Whoever is told that an order was withheld has another idea by then.
const NEWS_MAX: u32 = 20;

/// What was decided and is not kept yet, and what came of that.
#[derive(Default)]
pub(crate) struct Disk {
    is_full: bool,
    states: BTreeMap<SlotId, Option<Durable>>,
    /// These wait for their commit.
    starts: BTreeMap<SlotId, Effect>,
    /// The last commit has failed, and is tried again then.
    again_at: Option<u64>,
    /// The first one that has.
    fails_since: u64,
    /// The daemon is still to be told of these,
    withheld: Vec<(SlotId, Input)>,
    /// and of this.
    is_well_again: bool,
    /// Copies of which an order to stop was carried out.
    asked: BTreeSet<(SlotId, Attempt)>,
}

impl Disk {
    /// Something could not be kept.
    pub(crate) fn fails(&self) -> bool {
        self.again_at.is_some()
    }

    /// This could not be kept now, or something before it.
    pub(crate) fn cannot_keep(&self, bundle: &Bundle) -> bool {
        self.fails() || (self.is_full && !bundle.persist.is_empty())
    }

    /// Attempts of it are counted anew.
    pub(crate) fn forget(&mut self, slot: &SlotId) {
        self.asked.retain(|(of, _)| of != slot);
    }

    fn has_news(&self) -> bool {
        self.is_well_again || !self.withheld.is_empty()
    }
}

impl Disk {
    /// An order to stop the same attempt was.
    pub(crate) fn was_carried_out(&self, effect: &Effect) -> bool {
        stops(effect).is_some_and(|attempt| self.asked.contains(&(effect.slot().clone(), attempt)))
    }
}

impl World {
    /// The disk is full from time to time, in some lives: chance of its own, so that it changes no other.
    pub(crate) fn fill_disk_at_times(&mut self, seed: u64, pace: Pace) {
        let mut random = Random::new(seed ^ 0x6469_736b);
        if !random.percent(40) {
            return;
        }
        for _ in 0..random.between(1, 3) {
            let from = random.below(pace.chaos());
            let long = *random.pick(&[10, 900, 4_000, 20_000, 60_000]);
            // In weeks for hours at most: it is tried each second.
            let long = if pace == Pace::Weeks { long * 100 } else { long };
            let until = from + 1 + random.below(2 * long);
            self.at(from, Happening::Disk { is_full: true });
            self.at(until, Happening::Disk { is_full: false });
        }
    }

    pub(crate) fn disk_turns(&mut self, is_full: bool) {
        self.note(format!("the disk {}", if is_full { "is full" } else { "has room" }));
        self.disk.is_full = is_full;
    }

    /// Keeps a decision, if it can. Returns it without the orders that are withheld, and what is to be
    /// carried out of it, and of those before, now.
    pub(crate) fn keep(&mut self, mut bundle: Bundle) -> (Bundle, Vec<Effect>) {
        self.disk.states.extend(std::mem::take(&mut bundle.persist));
        let waits = self.disk.again_at.is_some_and(|at| self.now < at);
        if !waits && (!self.disk.is_full || self.disk.states.is_empty()) {
            return self.commit(bundle);
        }
        if !waits {
            self.cannot_keep();
        }
        let is_withheld = |effect: &mut Effect| stops(effect).is_some() && self.comes_back(effect);
        let withheld: Vec<Effect> = bundle.effects.extract_if(.., is_withheld).collect();
        for effect in withheld {
            self.note(format!("the stop of {} is withheld", effect.slot()));
            self.outcome.held += 1;
            let told = stops(&effect).map(|attempt| Input::StopWithheld { attempt });
            self.disk.withheld.extend(told.map(|told| (effect.slot().clone(), told)));
        }
        let holds = |effect: &Effect| begins(effect) && !self.rules.has(Bug::StartUnkept);
        let (starts, others): (Vec<Effect>, Vec<Effect>) = bundle.effects.iter().cloned().partition(holds);
        for start in starts {
            self.outcome.held += 1;
            if let Some(before) = self.disk.starts.insert(start.slot().clone(), start) {
                self.is_never_begun(&before);
            }
        }
        (bundle, others)
    }

    fn commit(&mut self, bundle: Bundle) -> (Bundle, Vec<Effect>) {
        for (slot, durable) in std::mem::take(&mut self.disk.states) {
            match durable {
                Some(durable) => drop(self.store.insert(slot, durable)),
                None => drop(self.store.remove(&slot)),
            }
        }
        self.disk.is_well_again |= self.disk.again_at.take().is_some();
        let mut performed = Vec::new();
        for (slot, start) in std::mem::take(&mut self.disk.starts) {
            let is_other = |effect: &Effect| begins(effect) && *effect.slot() == slot;
            match self.is_due(&start) && !bundle.effects.iter().any(is_other) {
                true => performed.push(start),
                false => self.is_never_begun(&start),
            }
        }
        performed.extend(bundle.effects.iter().cloned());
        (bundle, performed)
    }

    /// One that was looked for meanwhile, and was not there. How the next end is counted nobody outside
    /// can tell.
    fn is_never_begun(&mut self, start: &Effect) {
        self.past.entry(start.slot().clone()).or_default().disturbed = true;
    }

    fn cannot_keep(&mut self) {
        if let Some(node) = &mut self.node {
            node.cannot_keep();
        }
        if self.disk.again_at.replace(self.now + COMMIT_AGAIN).is_none() {
            self.disk.fails_since = self.now;
        }
        self.disk.is_well_again = false;
        let incarnation = self.incarnation;
        self.at(COMMIT_AGAIN, Happening::KeepAgain { incarnation });
    }

    fn comes_back(&self, effect: &Effect) -> bool {
        self.node.as_ref().is_some_and(|node| node.comes_back(effect.slot()))
    }

    fn is_due(&self, start: &Effect) -> bool {
        let (Effect::Start { slot, attempt, .. } | Effect::RunHooks { slot, attempt, .. }) = start else {
            return true;
        };
        let durable = self.node.as_ref().and_then(|node| node.durable(slot));
        durable.is_some_and(|durable| {
            durable.attempt == *attempt && matches!(durable.stage, Stage::Starting { .. })
        })
    }

    /// Drops starts that wait for their commit and that nobody wants any more.
    pub(crate) fn call_off(&mut self) {
        let Some(node) = &self.node else { return };
        let mut dropped = Vec::new();
        self.disk.starts.retain(|slot, start| {
            let is_called_off = node.is_called_off(slot);
            if let (Effect::Start { attempt, .. }, true) = (start, is_called_off) {
                dropped.push((slot.clone(), Input::StartWithheld { attempt: *attempt }));
            }
            !is_called_off
        });
        for (slot, input) in dropped {
            self.note(format!("the start of {slot} is dropped"));
            self.disk.withheld.push((slot, input));
        }
    }

    /// The daemon is told what was not carried out, and that it can be.
    pub(crate) fn hear_news(&mut self) -> Verdict {
        for _ in 0..NEWS_MAX {
            if !self.disk.has_news() {
                return self.wished_stops_go_on();
            }
            if std::mem::take(&mut self.disk.is_well_again) {
                self.note("what is decided can be kept again".into());
                self.decide_once(|node, now, wall| node.keeps_again(now, wall))?;
            }
            let withheld = std::mem::take(&mut self.disk.withheld);
            self.decide_once(|node, now, wall| node.take(withheld, now, wall))?;
        }
        Err("what is withheld is decided anew at once: a busy loop".into())
    }

    /// An order is about to be carried out.
    pub(crate) fn carries_out(&mut self, effect: &Effect) -> Verdict {
        let slot = effect.slot();
        if let Some(attempt) = stops(effect) {
            self.disk.asked.insert((slot.clone(), attempt));
        }
        let (Effect::Start { attempt, .. } | Effect::RunHooks { attempt, moment: Moment::PreStart, .. }) =
            effect
        else {
            return Ok(());
        };
        match self.store.get(slot).is_some_and(|kept| kept.attempt == *attempt) {
            true => Ok(()),
            false => Err(format!("{slot}: attempt {attempt} is begun, and nothing that is kept says so")),
        }
    }

    /// Of these orders to stop some are about to be withheld.
    pub(crate) fn may_withhold(&self, bundle: &Bundle) -> Verdict {
        let was_asked = bundle.effects.iter().find(|effect| {
            let asked = stops(effect).map(|attempt| (effect.slot().clone(), attempt));
            self.comes_back(effect) && asked.is_some_and(|asked| self.disk.asked.contains(&asked))
        });
        match was_asked {
            Some(effect) => {
                Err(format!("{}: could be withheld, and was asked to stop before", effect.slot()))
            }
            None => Ok(()),
        }
    }

    /// What somebody wants to be down is asked to stop, or waits for others that are: whatever can be kept.
    /// At once, and as soon as the daemon knows that the disk is full: with its next attempt to keep anything.
    fn wished_stops_go_on(&self) -> Verdict {
        let is_known = self.disk.fails() && self.now >= self.disk.fails_since + COMMIT_AGAIN;
        let Some(node) = self.node.as_ref().filter(|_| is_known) else { return Ok(()) };
        // What is dropped by an update may wait for its lock.
        let is_down = |wish: &TargetSlot| wish.goal != Goal::Running && !wish.heeds_locks;
        let down = self.workload.target.slots.iter().filter(|(_, wish)| is_down(wish));
        for (slot, _) in down.filter(|(slot, _)| !node.is_observing(slot)) {
            let held = self.disk.starts.get(slot).filter(|start| self.is_due(start));
            if matches!(held, Some(Effect::Start { spec, .. }) if !spec.external) {
                return Err(format!("{slot}: nobody wants it, and its start still waits for the disk"));
            }
            let Some(status) = node.status(slot).filter(|status| is_up(status) && !gave_up(status)) else {
                continue;
            };
            if self.asked_to_stop.contains(slot) {
                continue;
            }
            let waits = status.reasons.iter().find_map(|reason| match reason {
                Reason::WaitsForDependents { dependents, .. } => Some(dependents),
                _ => None,
            });
            let Some(dependents) = waits else {
                return Err(format!(
                    "{slot}: nobody wants it, and it is not asked to stop: {:?}",
                    status.reasons
                ));
            };
            let is_held = |on: &&SlotId| node.status(on).is_some_and(is_held_back);
            if let Some(on) = dependents.iter().find(is_held) {
                return Err(format!("{slot}: waits for {on}, which is stopped when the disk has room"));
            }
        }
        Ok(())
    }
}

/// It goes, when what is decided can be kept.
fn is_held_back(status: &SlotStatus) -> bool {
    let says_so =
        |reason: &Reason| matches!(reason, Reason::Trouble { detail } if detail.contains("cannot be stored"));
    status.reasons.iter().any(says_so)
}

/// It begins something.
fn begins(effect: &Effect) -> bool {
    matches!(effect, Effect::Start { .. } | Effect::RunHooks { moment: Moment::PreStart, .. })
}

/// It stops a copy, or begins to: which attempt.
fn stops(effect: &Effect) -> Option<Attempt> {
    match effect {
        Effect::Stop { attempt, .. } | Effect::RunHooks { attempt, moment: Moment::PreStop, .. } => {
            Some(*attempt)
        }
        _ => None,
    }
}
