//! How much memory all entities take together, and who may take more of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use upbeat_decide::rollout::Decision;
use upbeat_model::rollout::{EntityId, Reason, TargetId};

use super::{ENTITIES_MAX, RolloutError};

/// About so many bytes do all entities of a daemon take: a million targets that say a little, or four whole entities
/// of as many as there may be. A daemon that looks after services beside them leaves a small machine the rest.
///
/// No target comes in beyond that. What those that are there run and say is heard all the same, or a rollout would
/// not see that they fail: each may take some 3 KiB more than it did, which are two versions, what it says and why
/// it failed.
pub const HELD_BYTES_MAX: u64 = 512 << 20;

/// One part in so many of the bytes and of the entities is for those who come without a token: whoever can
/// open a connection to that address fills no more, and others find room.
pub const LISTENER_SHARE: u64 = 4;

/// What an entity takes without a target: its name, its locks and its place among the others.
const ENTITY_BYTES: u64 = 4 << 10;

/// All of an entity but its targets is in memory as what was written last, and as what that says, which takes twice
/// as much in maps and texts.
const HEAD_FACTOR: u64 = 3;

/// For whom something is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Share {
    /// Somebody who is known: all there is.
    #[default]
    Whole,
    /// Whoever came without a token. An entity that they make, or make larger, counts as theirs from then on.
    Listener,
}

/// How much there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) bytes: u64,
    pub(super) entities: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: HELD_BYTES_MAX, entities: ENTITIES_MAX }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Account {
    bytes: u64,
    is_listeners: bool,
}

#[derive(Debug, Default)]
struct Accounts {
    all: BTreeMap<EntityId, Account>,
    /// Of all.
    bytes: u64,
    /// Of the listener's.
    listeners: u64,
    /// So many are the listener's.
    count: usize,
}

/// What each entity takes.
#[derive(Debug)]
pub(super) struct Room {
    limits: Limits,
    accounts: Mutex<Accounts>,
}

/// What an entity takes, whose targets take so much and of which all else is kept in so many bytes.
pub(super) fn taken(targets: u64, head: usize) -> u64 {
    ENTITY_BYTES + targets + HEAD_FACTOR * head as u64
}

/// There is no room for targets that whoever selects wants to be there: all else that was decided stands.
pub(super) fn without_created(decision: &mut Decision, why: String) {
    let refused: BTreeSet<TargetId> =
        std::mem::take(&mut decision.created).into_iter().map(|new| new.id).collect();
    let stays: Vec<bool> = decision.assigned.iter().map(|id| !refused.contains(id)).collect();
    // Nobody has a place where there are no stages.
    let mut places = stays.iter();
    decision.placed.retain(|_| places.next() == Some(&true));
    decision.assigned.retain(|id| !refused.contains(id));
    decision.reasons.push(Reason::NoRoom { refused: refused.len(), why });
}

impl Accounts {
    /// Takes the place of what was known of it; returns that.
    fn put(&mut self, id: &EntityId, account: Option<Account>) -> Option<Account> {
        let before = match account {
            Some(account) => self.all.insert(id.clone(), account),
            None => self.all.remove(id),
        };
        let mut count = |account: Account, sign: fn(u64, u64) -> u64| {
            self.bytes = sign(self.bytes, account.bytes);
            if account.is_listeners {
                self.listeners = sign(self.listeners, account.bytes);
                self.count = sign(self.count as u64, 1) as usize;
            }
        };
        if let Some(before) = before {
            count(before, u64::saturating_sub);
        }
        if let Some(account) = account {
            count(account, u64::saturating_add);
        }
        before
    }

    /// Who has most, of all or of the listener's.
    fn most(&self, share: Share) -> Option<(EntityId, u64)> {
        let all = self.all.iter().filter(|(_, account)| share == Share::Whole || account.is_listeners);
        all.max_by_key(|(_, account)| account.bytes).map(|(id, account)| (id.clone(), account.bytes))
    }
}

impl Room {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, accounts: Mutex::default() }
    }

    fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So much more is to be held of an entity, as somebody asks; it is taken at once. Returns whether the entity is
    /// the listener's from now on.
    ///
    /// Errors: there is no room, and who has most of it.
    pub(super) fn take(&self, id: &EntityId, more: u64, share: Share) -> Result<bool, RolloutError> {
        let mut accounts = self.accounts();
        let (is_new, before) = (!accounts.all.contains_key(id), accounts.all.get(id).copied());
        let before = before.unwrap_or(Account { bytes: ENTITY_BYTES, is_listeners: false });
        if !is_new && more == 0 {
            return Ok(before.is_listeners);
        }
        let bytes = before.bytes + more;
        let is_listeners = before.is_listeners || share == Share::Listener;
        let no_room = |share, held, max| {
            let most = accounts.most(share).map(Box::new);
            RolloutError::NoRoom { id: id.clone(), share, held, max, most }
        };
        let added = if is_new { bytes } else { more };
        if accounts.bytes + added > self.limits.bytes {
            return Err(no_room(Share::Whole, accounts.bytes, self.limits.bytes));
        }
        if share == Share::Listener {
            let max = self.limits.bytes / LISTENER_SHARE;
            let added = if before.is_listeners { more } else { bytes };
            if accounts.listeners + added > max {
                return Err(no_room(share, accounts.listeners, max));
            }
            let max = self.limits.entities / LISTENER_SHARE as usize;
            if !before.is_listeners && accounts.count >= max {
                return Err(RolloutError::TooManyOfListener { max });
            }
        }
        accounts.put(id, Some(Account { bytes, is_listeners }));
        Ok(is_listeners)
    }

    /// So much an entity takes.
    pub(super) fn is(&self, id: &EntityId, bytes: u64, is_listeners: bool) {
        self.accounts().put(id, Some(Account { bytes, is_listeners }));
    }

    /// It is not there any more.
    pub(super) fn gone(&self, id: &EntityId) {
        self.accounts().put(id, None);
    }

    /// So many entities may there be.
    pub(super) fn entities_max(&self) -> usize {
        self.limits.entities
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> (u64, u64) {
        let accounts = self.accounts();
        (accounts.bytes, accounts.listeners)
    }
}

#[cfg(test)]
mod tests {
    use upbeat_decide::rollout::NewTarget;

    use super::*;

    #[test]
    fn who_is_not_made_is_assigned_nothing_and_others_keep_their_places() {
        let id = |name: &str| TargetId::new("", name).unwrap();
        let created = ["b", "d"].map(|name| NewTarget { id: id(name), labels: BTreeMap::new() }).into();
        let assigned: Vec<TargetId> = ["a", "b", "c", "d"].map(id).into();
        let failed = vec![(id("e"), "why".to_owned())];
        let decided = Decision { created, assigned, placed: vec![0, 1, 2, 3], failed, ..Decision::default() };
        for placed in [vec![0, 1, 2, 3], vec![]] {
            let left = if placed.is_empty() { vec![] } else { vec![0, 2] };
            let mut decision = Decision { placed, ..decided.clone() };
            without_created(&mut decision, "full".into());
            let reasons = vec![Reason::NoRoom { refused: 2, why: "full".into() }];
            let (created, assigned) = (Vec::new(), vec![id("a"), id("c")]);
            assert_eq!(decision, Decision { created, assigned, placed: left, reasons, ..decided.clone() });
        }
    }
}
