//! Update locks: who holds them besides the daemon, and what must never be interrupted for an update.

use std::collections::{BTreeMap, BTreeSet};

use upbeat_decide::instance::{Input, Moment, Unlocked};
use upbeat_decide::{Bundle, Effect};
use upbeat_model::SlotId;
use upbeat_model::plan::Lock;
use upbeat_model::target::Goal;

use crate::check::{Onlooker, Verdict};
use crate::pace::Pace;
use crate::random::Random;
use crate::world::{Happening, World};

/// All locks of the machine. The kernel lets go of those of whoever ends.
#[derive(Debug)]
pub(crate) struct Locks {
    /// Chance of its own: what happens besides is the same with locks and without.
    random: Random,
    /// Services of this run have locks.
    pub(crate) are_given: bool,
    /// Held by somebody else, who lives in the copy or beside it, for so long.
    others: BTreeMap<SlotId, Other>,
    /// Held by the daemon that lives.
    ours: BTreeSet<SlotId>,
}

#[derive(Clone, Copy, Debug)]
struct Other {
    until: u64,
    is_inside: bool,
}

impl Locks {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x6c6f_636b);
        let are_given = random.percent(30);
        Self { random, are_given, others: BTreeMap::new(), ours: BTreeSet::new() }
    }

    /// A service as it is first declared, or edited, may have a lock.
    pub(crate) fn draws(&mut self) -> bool {
        self.are_given && self.random.percent(60)
    }

    /// The daemon dies.
    pub(crate) fn died(&mut self) {
        self.ours.clear();
    }

    /// A copy ends, and whoever lives in it.
    pub(crate) fn ended(&mut self, slot: &SlotId) {
        if self.others.get(slot).is_some_and(|other| other.is_inside) {
            self.others.remove(slot);
        }
    }

    /// It stops what the daemon holds the lock of.
    pub(crate) fn are_held_for(&self, effect: &Effect) -> bool {
        matches!(effect, Effect::Stop { .. } | Effect::RunHooks { moment: Moment::PreStop, .. })
            && self.ours.contains(effect.slot())
    }

    /// The daemon starts a copy: its driver lets go of what it held of the one before.
    pub(crate) fn starts(&mut self, slot: &SlotId) {
        self.ours.remove(slot);
    }

    /// All is quiet: nobody holds anything for ever.
    pub(crate) fn quiet(&mut self) {
        self.others.clear();
    }
}

impl World {
    /// People and programs take locks at times.
    pub(crate) fn take_locks_at_times(&mut self, pace: Pace) {
        if !self.locks.are_given {
            return;
        }
        for _ in 0..self.locks.random.between(5, 25) {
            let when = self.locks.random.below(pace.chaos());
            self.at(when, Happening::Lock);
        }
    }

    /// Somebody takes the lock of a copy that has one, if it is free.
    pub(crate) fn somebody_locks(&mut self) {
        let has_lock = |slot: &SlotId| {
            let process = self.kernel.process(slot)?;
            self.runs.of(process, slot).is_some_and(|run| run.held.update_lock).then_some(())
        };
        let free =
            |slot: &&SlotId| !self.locks.ours.contains(*slot) && !self.locks.others.contains_key(*slot);
        let places: Vec<SlotId> = (self.kernel.places.keys())
            .filter(|slot| has_lock(slot).is_some())
            .filter(free)
            .cloned()
            .collect();
        if places.is_empty() || !self.chaos {
            return;
        }
        let random = &mut self.locks.random;
        let slot = random.pick(&places).clone();
        let long = if random.percent(70) { random.below(4_000) } else { random.below(60_000) };
        let other = Other { until: self.now + self.pace.stretch(long), is_inside: random.percent(60) };
        self.note(format!("somebody takes the lock of {slot}"));
        self.locks.others.insert(slot, other);
    }

    /// The daemon's driver does what is ordered of locks.
    pub(crate) fn lock(&mut self, effect: &Effect) {
        let now = self.now;
        self.locks.others.retain(|_, other| other.until > now);
        let locks = &mut self.locks;
        match effect {
            Effect::Lock { slot, serial, slots } => {
                if self.chaos && locks.random.percent(3) {
                    // It is taken, and nobody hears of it; or not even that.
                    if locks.random.percent(50) && !slots.iter().any(|slot| locks.others.contains_key(slot)) {
                        locks.ours.extend(slots.iter().cloned());
                    }
                    return;
                }
                let outcome = match slots.iter().find(|slot| locks.others.contains_key(*slot)) {
                    _ if self.chaos && locks.random.percent(2) => {
                        Err(Unlocked::Failed { slot: slots[0].clone(), why: "no room".to_owned() })
                    }
                    Some(held) => {
                        let lock = Lock { holder: "somebody".to_owned(), since: None };
                        Err(Unlocked::Held { slot: held.clone(), lock })
                    }
                    None => {
                        locks.ours.extend(slots.iter().cloned());
                        Ok(())
                    }
                };
                let soon = locks.random.below(15);
                self.deliver(soon, slot.clone(), Input::Locked { serial: *serial, outcome });
            }
            Effect::Unlock { slot } | Effect::Remove { slot, .. } => drop(locks.ours.remove(slot)),
            _ => {}
        }
    }

    /// What runs and was given a lock is not stopped for an update that nobody insists on, unless the daemon
    /// holds that lock; and nothing of its app is, unless it holds those of all that go.
    pub(crate) fn respects_locks(
        &self,
        effect: &Effect,
        bundle: &Bundle,
        onlooker: &Onlooker<'_>,
    ) -> Verdict {
        let stops = matches!(effect, Effect::Stop { .. } | Effect::RunHooks { moment: Moment::PreStop, .. });
        let slot = effect.slot();
        if !stops || !self.is_updated(slot, bundle, onlooker) {
            return Ok(());
        }
        let has_lock = |slot: &SlotId| {
            let process = self.kernel.process(slot)?;
            self.runs.of(process, slot).filter(|run| run.held.update_lock)
        };
        if has_lock(slot).is_some() && !self.locks.ours.contains(slot) {
            return Err(format!("{slot}: is interrupted for an update, and its lock is not held for that"));
        }
        // Half stopped it is of no use: the next daemon goes on with that.
        let is_asked =
            |slot: &SlotId| self.kernel.process(slot).is_some_and(|process| process.asked.is_some());
        if is_asked(slot) {
            return Ok(());
        }
        let of_app =
            self.workload.target.slots.keys().filter(|other| other.app == slot.app && *other != slot);
        let mut unheld =
            of_app.filter(|other| has_lock(other).is_some() && !self.locks.ours.contains(*other));
        let goes_too = |other: &&SlotId| !is_asked(other) && self.is_updated(other, bundle, onlooker);
        match unheld.find(goes_too) {
            Some(other) => {
                Err(format!("{slot}: is interrupted for an update, and the lock of {other} is not held"))
            }
            None => Ok(()),
        }
    }

    /// It runs, and is to be stopped for an update that nobody insists on, and for nothing else.
    fn is_updated(&self, slot: &SlotId, bundle: &Bundle, onlooker: &Onlooker<'_>) -> bool {
        let Some(wish) = self.workload.target.slots.get(slot).filter(|wish| wish.heeds_locks) else {
            return false;
        };
        let Some(process) = self.kernel.process(slot) else { return false };
        let Some(run) = self.runs.of(process, slot) else { return false };
        let is_other =
            wish.goal == Goal::Absent || (wish.goal == Goal::Running && run.held.digest() != wish.digest);
        let has_cause =
            process.hooks_failed || self.ledger.has_cause(slot, process.attempt, bundle, onlooker);
        is_other && !wish.kill && !has_cause
    }

    /// After everything has been quiet for long the daemon holds no lock.
    pub(crate) fn holds_no_lock(&self) -> Verdict {
        match self.locks.ours.first() {
            Some(slot) => Err(format!("{slot}: its lock is held for an update, and nothing goes on")),
            None => Ok(()),
        }
    }
}
