//! Update locks: what somebody holds the lock of is not interrupted for an update.
//!
//! Of each app, all that an update interrupts, or none:
//!
//! ```text
//!            copies that have locks       all taken
//!   ┌──────┐ are to be interrupted ┌───────┐ ───▶ ┌──────┐
//!   │ Free │ ────────────────────▶ │ Asked │      │ Held │  what has waited goes; each lock is let go
//!   └──────┘                       └───────┘      └──────┘  when the copy has ended
//!      ▲                 one is another's │ ▲        │
//!      │                                  ▼ │ soon   │
//!      │                            ┌─────────┐      │
//!      └─ wishes change, none goes ─│ Refused │◀─────┘ wishes change: it is judged anew
//!                                   └─────────┘
//! ```
//!
//! Nothing of it is kept: the kernel lets go of the locks of a daemon that dies, and the next takes them anew. What
//! was told to end by then ends, and what follows its end follows it: half interrupted it would be of no use.

use std::collections::{BTreeMap, BTreeSet};

use upbeat_model::ids::AppName;
use upbeat_model::project::OnRestart;
use upbeat_model::target::TargetSlot;
use upbeat_model::{Attempt, Millis, Mono, Reason, ServiceName, SlotId};

use super::{Entry, Node};
use crate::bundle::Bundle;
use crate::effect::Effect;
use crate::gate::Verdict;
use crate::instance::{self, Slot, Stage, Unlocked};
use crate::rules::Bug;

/// A lock that is another's is tried again after so long, and then after twice as long, up to the next.
const TRIED_AGAIN: Millis = Millis::seconds(1);

/// A person who waits for a lock sees within so long that it is free.
const TRIED_LEAST: Millis = Millis::seconds(5);

/// Locks are taken in moments. An answer that has not come by then is lost.
const OVERDUE: Millis = Millis::seconds(5);

/// The locks of all copies of a machine.
#[derive(Debug, Default)]
pub(super) struct Locks {
    /// Copies that run and were given one.
    given: BTreeMap<SlotId, Attempt>,
    /// Apps of which something is to be interrupted that has one, or was.
    apps: BTreeMap<AppName, OfApp>,
    /// These are to be judged.
    dirty: BTreeSet<AppName>,
    /// How often was asked.
    asked: u64,
}

/// Those of one app.
#[derive(Debug)]
struct OfApp {
    /// For whom it was judged. Whoever comes to it later, as a copy that was looked for longer, is none of them.
    goers: BTreeSet<SlotId>,
    /// What has to be held.
    needs: BTreeSet<SlotId>,
    /// What may be held: what was asked for, and not let go of since.
    taken: BTreeSet<SlotId>,
    /// What is held.
    held: BTreeSet<SlotId>,
    standing: Standing,
    /// How often in a row one was another's.
    refused: u32,
}

#[derive(Debug)]
enum Standing {
    /// It is to be asked for.
    Due,
    /// It was asked for so, and is asked for again by then.
    Asked { serial: u64, again: Mono },
    /// It is asked for again by then.
    Refused { why: Unlocked, again: Mono },
    /// All that is needed.
    Held,
}

/// Whether the copy there is, or is about to be, was given a lock: it may run for moments before that is heard.
fn given(slot: &Slot, wish: &TargetSlot) -> Option<Attempt> {
    let durable = &slot.durable;
    let (Stage::Starting { .. } | Stage::Up(_)) = &durable.stage else { return None };
    let mark = instance::mark(durable)?;
    // Of one that nobody remembers: it is as its file says.
    let is_same = mark.digest == wish.digest && wish.spec.update_lock;
    (mark.update_lock || is_same).then_some(durable.attempt)
}

impl Locks {
    /// By when something is to be asked for again.
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.apps.values().filter_map(OfApp::due).min()
    }

    pub(super) fn has_any(&self, app: &AppName) -> bool {
        self.given.keys().any(|slot| slot.app == *app)
    }

    fn of(&self, app: &AppName) -> impl Iterator<Item = &SlotId> {
        self.given.keys().filter(move |slot| slot.app == *app)
    }
}

impl OfApp {
    fn due(&self) -> Option<Mono> {
        match &self.standing {
            Standing::Asked { again, .. } | Standing::Refused { again, .. } => Some(*again),
            Standing::Due | Standing::Held => None,
        }
    }
}

impl Node {
    /// What keeps something of the app of this wish from being interrupted for it.
    pub(super) fn locked(&self, id: &SlotId, wish: &TargetSlot) -> Option<Verdict> {
        if !wish.heeds_locks || self.locks.given.is_empty() || self.rules.has(Bug::IgnoreLocks) {
            return None;
        }
        if !self.locks.has_any(&id.app) {
            return None;
        }
        let app = self.locks.apps.get(&id.app);
        let reason = match app.map(|app| &app.standing) {
            Some(Standing::Held) if app.is_some_and(|app| app.goers.contains(id)) => return None,
            Some(Standing::Held) if self.rules.has(Bug::LockOnce) => return None,
            Some(Standing::Refused { why: Unlocked::Held { slot, lock }, .. }) => {
                Reason::HoldsLock { slot: slot.clone(), lock: lock.clone() }
            }
            Some(Standing::Refused { why: Unlocked::Failed { slot, why }, .. }) => {
                Reason::CannotLock { slot: slot.clone(), detail: why.clone() }
            }
            Some(Standing::Due | Standing::Asked { .. } | Standing::Held) | None => Reason::TakesLocks,
        };
        Some(Verdict::Wait(reason))
    }

    /// Takes down which copy is there that was given a lock. That of one that has ended is let go of.
    pub(super) fn note_lock(&mut self, id: &SlotId, bundle: &mut Bundle) {
        let entry = self.entries.get(id);
        let now = entry.and_then(|entry| given(&entry.slot, entry.wish.as_ref()?));
        let before = self.locks.given.get(id).copied();
        if now != before {
            match now {
                Some(attempt) => drop(self.locks.given.insert(id.clone(), attempt)),
                None => drop(self.locks.given.remove(id)),
            }
            if let Some(app) = self.locks.apps.get_mut(&id.app) {
                if before.is_some() && app.taken.remove(id) {
                    // Before what comes after it is started.
                    bundle.effects.insert(0, Effect::Unlock { slot: id.clone() });
                }
                app.needs.remove(id);
                app.held.remove(id);
                if now.is_some() {
                    app.standing = Standing::Due;
                }
            }
        }
        let waits = self.untouched.contains(id) && !self.locks.given.is_empty();
        if waits || self.locks.apps.contains_key(&id.app) {
            self.locks.dirty.insert(id.app.clone());
        }
    }

    /// Wishes of these have changed: what was found of their apps counts no more.
    pub(super) fn look_at_locks_anew<'a>(&mut self, changed: impl Iterator<Item = &'a SlotId>) {
        for id in changed {
            if let Some(app) = self.locks.apps.get_mut(&id.app) {
                (app.standing, app.refused) = (Standing::Due, 0);
                self.locks.dirty.insert(id.app.clone());
            }
        }
    }

    /// An answer.
    pub(super) fn take_locks(
        &mut self,
        id: &SlotId,
        (serial, outcome): (u64, Result<(), Unlocked>),
        now: Mono,
        dirty: &mut BTreeSet<SlotId>,
    ) {
        let Some(app) = self.locks.apps.get_mut(&id.app) else { return };
        if !matches!(app.standing, Standing::Asked { serial: asked, .. } if asked == serial) {
            return;
        }
        match outcome {
            Ok(()) => {
                (app.standing, app.refused) = (Standing::Held, 0);
                app.held.extend(app.needs.iter().cloned());
            }
            Err(why) => {
                let wait = TRIED_AGAIN.0.saturating_mul(1 << app.refused.min(8)).min(TRIED_LEAST.0);
                app.refused = app.refused.saturating_add(1);
                app.standing = Standing::Refused { why, again: now + Millis(wait) };
            }
        }
        self.locks.dirty.insert(id.app.clone());
        self.look_at_waiting(&id.app.clone(), dirty);
    }

    fn look_at_waiting(&mut self, app: &AppName, dirty: &mut BTreeSet<SlotId>) {
        let waiting = self.untouched.iter().filter(|slot| slot.app == *app).cloned().collect();
        self.look_whether_touched(waiting, dirty);
    }

    /// Asks for what is needed, and lets go of what is not.
    pub(super) fn press_locks(&mut self, now: Mono, dirty: &mut BTreeSet<SlotId>, bundle: &mut Bundle) {
        let due = self.locks.apps.iter().filter(|(_, app)| app.due().is_some_and(|due| due <= now));
        let due: Vec<AppName> = due.map(|(name, _)| name.clone()).collect();
        self.locks.dirty.extend(due);
        for name in std::mem::take(&mut self.locks.dirty) {
            self.press_locks_of(&name, now, dirty, bundle);
        }
    }

    fn press_locks_of(
        &mut self,
        name: &AppName,
        now: Mono,
        dirty: &mut BTreeSet<SlotId>,
        bundle: &mut Bundle,
    ) {
        if !self.locks.has_any(name) && !self.locks.apps.contains_key(name) {
            return;
        }
        let goers = self.goers(name);
        let needs = self.interrupted(name, &goers);
        let going = |id: &SlotId| self.entries.get(id).is_some_and(|entry| instance::is_going(&entry.slot));
        let mut app = self.locks.apps.remove(name).unwrap_or_else(OfApp::none);
        let is_refused = matches!(app.standing, Standing::Refused { .. });
        // Of none where one is another's: whoever else wants one does not wait for that.
        let follows = self.interrupted(name, &goers.iter().chain(&self.going(name)).cloned().collect());
        let kept = |id: &SlotId| going(id) || (follows.contains(id) && !is_refused);
        let (taken, let_go) = std::mem::take(&mut app.taken).into_iter().partition(kept);
        app.taken = taken;
        app.held.retain(|id| app.taken.contains(id));
        let let_go: BTreeSet<SlotId> = let_go;
        bundle.effects.extend(let_go.into_iter().map(|slot| Effect::Unlock { slot }));
        let waits = !goers.is_empty();
        if !waits && app.taken.is_empty() {
            // What cannot go yet for another reason is judged when it can.
            return;
        }
        let is_other = app.needs != needs || !goers.is_subset(&app.goers);
        app.needs = needs;
        let is_due = match &app.standing {
            Standing::Due => true,
            Standing::Held => is_other,
            Standing::Asked { again, .. } | Standing::Refused { again, .. } => is_other || *again <= now,
        };
        if !waits || !is_due {
            self.locks.apps.insert(name.clone(), app);
            return;
        }
        let is_hasty = self.rules.has(Bug::LockUnseen) || self.rules.has(Bug::LockOnce);
        if !is_hasty && self.has_unseen(name) {
            app.standing = Standing::Due;
            self.locks.apps.insert(name.clone(), app);
            return;
        }
        app.goers = goers;
        if app.needs.is_subset(&app.held) {
            app.standing = Standing::Held;
        } else {
            self.locks.asked += 1;
            let (serial, slots) = (self.locks.asked, Vec::from_iter(app.needs.iter().cloned()));
            let slot = slots[0].clone();
            app.taken.extend(slots.iter().cloned());
            app.standing = Standing::Asked { serial, again: now + OVERDUE };
            bundle.effects.push(Effect::Lock { slot, serial, slots });
        }
        self.locks.apps.insert(name.clone(), app);
        self.look_at_waiting(name, dirty);
    }

    /// What is to be stopped now for an update that nobody insists on, and was not asked to yet.
    fn goers(&self, app: &AppName) -> BTreeSet<SlotId> {
        let mut goers = BTreeSet::new();
        for (id, entry) in self.of_app(app) {
            let Some(wish) = entry.wish.as_ref().filter(|wish| wish.heeds_locks) else { continue };
            if !instance::goes_for_a_change(&entry.slot, wish) || entry.slot.observing {
                continue;
            }
            // What waits for something else to be made is judged when that is there.
            if self.unready_for(id, wish).is_none() {
                goers.insert(id.clone());
            }
        }
        goers
    }

    /// A copy is being looked for that goes with the others, or may, as nobody remembers how it is: what has to be
    /// held is not known yet.
    fn has_unseen(&self, app: &AppName) -> bool {
        self.of_app(app).filter(|(_, entry)| entry.slot.observing).any(|(_, entry)| {
            let Some(wish) = entry.wish.as_ref().filter(|wish| wish.heeds_locks && !wish.kill) else {
                return false;
            };
            instance::may_go_for_a_change(&entry.slot, wish)
        })
    }

    /// What is being stopped for such an update: what follows it has not been, yet.
    fn going(&self, app: &AppName) -> BTreeSet<SlotId> {
        let heeds = |entry: &Entry| entry.wish.as_ref().is_some_and(|wish| wish.heeds_locks);
        let going = self.of_app(app).filter(|(_, entry)| heeds(entry) && instance::is_going(&entry.slot));
        going.map(|(id, _)| id.clone()).collect()
    }

    /// Those of the app that have locks, and that would be interrupted with these: they themselves, and what
    /// follows them when they end.
    fn interrupted(&self, app: &AppName, goers: &BTreeSet<SlotId>) -> BTreeSet<SlotId> {
        let mut services: BTreeSet<ServiceName> = goers.iter().map(|id| id.service.clone()).collect();
        loop {
            let follows = |entry: &Entry| {
                let edges = entry.wish.iter().flat_map(|wish| &wish.spec.depends_on);
                let mut ends =
                    edges.filter(|(_, edge)| matches!(edge.on_restart, OnRestart::Restart | OnRestart::Stop));
                ends.any(|(service, _)| services.contains(service))
            };
            let followers = self.of_app(app).filter(|(_, entry)| follows(entry));
            let followers: Vec<ServiceName> = followers.map(|(id, _)| id.service.clone()).collect();
            let before = services.len();
            services.extend(followers);
            if services.len() == before {
                break;
            }
        }
        let is_going = |id: &SlotId| instance::is_going(&self.entries[id].slot);
        let own = self.locks.of(app).filter(|id| !is_going(id));
        let goes = |id: &&SlotId| {
            let is_goer = goers.contains(*id);
            let is_named = goers.iter().any(|goer| goer.service == id.service);
            is_goer || (!is_named && services.contains(&id.service))
        };
        own.filter(goes).cloned().collect()
    }

    pub(super) fn of_app<'a>(&'a self, app: &'a AppName) -> impl Iterator<Item = (&'a SlotId, &'a Entry)> {
        self.entries.iter().filter(move |(id, _)| id.app == *app)
    }
}

impl OfApp {
    fn none() -> Self {
        Self {
            goers: BTreeSet::new(),
            needs: BTreeSet::new(),
            taken: BTreeSet::new(),
            held: BTreeSet::new(),
            standing: Standing::Due,
            refused: 0,
        }
    }
}
