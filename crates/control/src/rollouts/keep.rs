//! What is kept of an entity, and how.
//!
//! `rollouts/<number>/head`: all but its targets, and which leaves hold these. `rollouts/<number>/leaf/<id>`:
//! targets that follow each other. A leaf is never written again: a change of a target is a new leaf, and the
//! head that names it. So what is in force is what the head says, whatever a crash has left besides, and a call
//! about few of many targets writes little. `rollouts/clock`: what the clock of rollouts showed.

use std::collections::BTreeSet;
use std::ops::Bound;

use serde::{Deserialize, Serialize};
use upbeat_decide::rollout::{Rollout, Target, Targets};
use upbeat_model::Mono;
use upbeat_model::rollout::{Controllers, EntityId, TargetId};
use upbeat_store::{Compare, OPS_MAX, Op, Store, StoreError, Txn};

use super::clock::KeptClock;

const ROLLOUTS: &str = "rollouts/";
const CLOCK: &str = "rollouts/clock";
const HEAD: &str = "/head";

/// A leaf with more targets is cut: where each has long messages in letters that JSON writes as six, it still
/// fits into a value of the store; and a change of one target costs little.
const LEAF_MAX: usize = 64;

/// Leaves are made anew, all of them, when they hold less than this part of what they could.
const SPARSE: usize = 4;

/// So many bytes of leaves go into one transaction, with room below the store's limit for the head's keys.
const LEAVES_BYTES_MAX: usize = upbeat_store::REQUEST_MAX / 2;

/// All of an entity that is not a target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Rest {
    pub(super) id: EntityId,
    #[serde(default)]
    pub(super) controllers: Controllers,
}

/// What is written of an entity.
#[derive(Serialize, Deserialize)]
struct Head<R, O, L> {
    rest: R,
    /// Without its targets.
    rollout: O,
    leaves: L,
    next_leaf: u64,
    /// What the clock showed when it was written.
    at: Mono,
}

type ReadHead = Head<Rest, Rollout, Vec<Leaf>>;

/// Targets that follow each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Leaf {
    /// Its first target. Whoever comes between its last one and the next leaf's first belongs here, too.
    from: TargetId,
    id: u64,
}

/// Where an entity is kept, and what of it.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    /// When its head was written last; none: never.
    revision: Option<u64>,
    leaves: Vec<Leaf>,
    next_leaf: u64,
    /// As it was written last, but for the clock.
    written: Vec<u8>,
}

/// An entity as it was kept.
pub(super) struct Kept {
    pub(super) rest: Rest,
    pub(super) rollout: Rollout,
    pub(super) place: Place,
    /// What the clock showed when it was written.
    pub(super) at: Mono,
}

/// What was kept of all.
pub(super) struct All {
    pub(super) entities: Vec<Kept>,
    pub(super) clock: KeptClock,
    pub(super) next_number: u64,
}

fn unreadable(key: &str, error: &serde_json::Error) -> StoreError {
    StoreError::Unreadable { key: key.to_owned(), detail: error.to_string() }
}

fn to_json(key: &str, value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| unreadable(key, &error))
}

/// Reads all there is, and removes leaves that no head names.
pub(super) async fn load(store: &Store) -> Result<All, StoreError> {
    let clock = match store.get(CLOCK).await? {
        Some(kv) => serde_json::from_slice(&kv.value).map_err(|error| unreadable(CLOCK, &error))?,
        None => KeptClock::default(),
    };
    let mut all = All { entities: Vec::new(), clock, next_number: 0 };
    let mut orphans = Vec::new();
    for kv in store.all(ROLLOUTS).await? {
        let Some((number, rest)) = numbered(&kv.key) else { continue };
        all.next_number = all.next_number.max(number + 1);
        match rest {
            HEAD => all.entities.extend(read(store, number).await?),
            _ => orphans.push(kv.key),
        }
    }
    let named: BTreeSet<String> = all.entities.iter().flat_map(|kept| kept.place.leaf_keys()).collect();
    orphans.retain(|key| !named.contains(key));
    for some in orphans.chunks(OPS_MAX) {
        // Only garbage: the next daemon has another try.
        if let Err(error) = store.write(some.iter().map(Op::delete).collect()).await {
            tracing::warn!(%error, "what a crash has left of rollouts could not be removed");
            break;
        }
    }
    Ok(all)
}

/// `rollouts/<number><rest>`
fn numbered(key: &str) -> Option<(u64, &str)> {
    let rest = key.strip_prefix(ROLLOUTS)?;
    let at = rest.find('/')?;
    Some((rest[..at].parse().ok()?, &rest[at..]))
}

/// One entity, as it is kept now. `None`: it is not.
async fn read(store: &Store, number: u64) -> Result<Option<Kept>, StoreError> {
    let mut place = Place::new(number);
    let key = place.head_key();
    let Some(kv) = store.get(&key).await? else { return Ok(None) };
    let head: ReadHead = serde_json::from_slice(&kv.value).map_err(|error| unreadable(&key, &error))?;
    let ReadHead { rest, mut rollout, leaves, next_leaf, at } = head;
    let plain = Head { rest: &rest, rollout: &rollout, leaves: &leaves, next_leaf, at: Mono(0) };
    place.written = to_json(&key, &plain)?;
    (place.leaves, place.next_leaf) = (leaves, next_leaf);
    place.revision = Some(kv.mod_revision);
    let mut targets: Vec<(TargetId, Target)> = Vec::new();
    for leaf in &place.leaves {
        let key = place.leaf_key(leaf.id);
        let missing = || StoreError::Unreadable { key: key.clone(), detail: "it is missing".into() };
        let kv = store.get(&key).await?.ok_or_else(missing)?;
        let some: Vec<(TargetId, Target)> =
            serde_json::from_slice(&kv.value).map_err(|error| unreadable(&key, &error))?;
        targets.extend(some);
    }
    rollout.targets = targets.into_iter().collect();
    Ok(Some(Kept { rest, rollout, place, at }))
}

impl Place {
    /// Nothing is kept there yet.
    pub(super) fn new(number: u64) -> Self {
        Self { number, revision: None, leaves: Vec::new(), next_leaf: 0, written: Vec::new() }
    }

    /// What is kept there; none: nothing.
    pub(super) async fn read(&self, store: &Store) -> Result<Option<Kept>, StoreError> {
        read(store, self.number).await
    }

    /// Whether something is kept there.
    pub(super) fn is_kept(&self) -> bool {
        self.revision.is_some()
    }

    fn prefix(&self) -> String {
        // In the order of their numbers.
        format!("{ROLLOUTS}{:010}", self.number)
    }

    fn head_key(&self) -> String {
        self.prefix() + HEAD
    }

    fn leaf_key(&self, id: u64) -> String {
        format!("{}/leaf/{id}", self.prefix())
    }

    fn leaf_keys(&self) -> impl Iterator<Item = String> {
        self.leaves.iter().map(|leaf| self.leaf_key(leaf.id))
    }

    /// Writes what has changed. Returns whether something had.
    ///
    /// Errors: as [`Store::txn`]; what is kept is as before, or, where the store cannot tell, as it should
    /// be. Then it must be read again before anything else is written.
    pub(super) async fn write(
        &mut self,
        store: &Store,
        rollout: &Rollout,
        touched: &BTreeSet<TargetId>,
        rest: &Rest,
        now: Mono,
        failpoint: fn(&str),
    ) -> Result<bool, StoreError> {
        let key = self.head_key();
        let mut next_leaf = self.next_leaf;
        let changed = regrown(&self.leaves, &rollout.targets, touched, &mut next_leaf);
        let mut head = Head { rest, rollout, leaves: &changed.leaves, next_leaf, at: Mono(0) };
        let written = to_json(&key, &head)?;
        if written == self.written {
            return Ok(false);
        }
        head.at = now;
        let gone: Vec<Op> = changed.gone.iter().map(|id| Op::delete(self.leaf_key(*id))).collect();
        let ops = self.write_leaves(store, &changed, &rollout.targets).await?;
        failpoint("rollout_leaves_kept");
        let compare = match self.revision {
            Some(revision) => Compare::ModRevision(key.clone(), revision),
            None => Compare::Absent(key.clone()),
        };
        let mut success = ops;
        success.push(Op::put(&key, to_json(&key, &head)?));
        let (now_gone, later) = gone.split_at(gone.len().min(OPS_MAX - success.len()));
        success.extend_from_slice(now_gone);
        let outcome = store.txn(Txn { compare: vec![compare], success, failure: Vec::new() }).await?;
        if !outcome.succeeded {
            return Err(StoreError::Conflict(key));
        }
        (self.leaves, self.next_leaf) = (changed.leaves, next_leaf);
        (self.revision, self.written) = (Some(outcome.revision), written);
        failpoint("rollout_kept");
        for some in later.chunks(OPS_MAX) {
            // Only garbage: should it stay, the next daemon removes it.
            if store.write(some.to_vec()).await.is_err() {
                break;
            }
        }
        Ok(true)
    }

    /// Writes new leaves, but for the last ones, which fit into the head's transaction: these are returned.
    async fn write_leaves(
        &self,
        store: &Store,
        changed: &Regrown,
        targets: &Targets,
    ) -> Result<Vec<Op>, StoreError> {
        let (mut ops, mut size) = (Vec::new(), 0);
        for (from, until, id) in &changed.new {
            let some = targets
                .range((Bound::Included(from), until.as_ref().map_or(Bound::Unbounded, Bound::Excluded)));
            let key = self.leaf_key(*id);
            let value = to_json(&key, &some.collect::<Vec<_>>())?;
            if !ops.is_empty() && (size + value.len() > LEAVES_BYTES_MAX || ops.len() >= OPS_MAX / 2) {
                store.write(std::mem::take(&mut ops)).await?;
                size = 0;
            }
            size += value.len();
            ops.push(Op::put(key, value));
        }
        Ok(ops)
    }

    /// Nothing is kept of it any more.
    pub(super) async fn remove(&mut self, store: &Store) -> Result<(), StoreError> {
        if let Some(revision) = self.revision {
            let compare = vec![Compare::ModRevision(self.head_key(), revision)];
            let success = vec![Op::DeletePrefix { prefix: self.prefix() + "/" }];
            if !store.txn(Txn { compare, success, failure: Vec::new() }).await?.succeeded {
                return Err(StoreError::Conflict(self.head_key()));
            }
            *self = Self::new(self.number);
        }
        Ok(())
    }
}

/// Writes down what the clock shows.
pub(super) async fn write_clock(store: &Store, clock: &KeptClock) -> Result<(), StoreError> {
    store.write(vec![Op::put(CLOCK, to_json(CLOCK, clock)?)]).await.map(drop)
}

/// The leaves that hold these targets from now on.
#[derive(Debug, PartialEq, Eq)]
struct Regrown {
    leaves: Vec<Leaf>,
    /// These are to be written: from which target on, up to which, as which leaf.
    new: Vec<(TargetId, Option<TargetId>, u64)>,
    /// These are not named any more.
    gone: Vec<u64>,
}

/// Each leaf one of whose targets was touched is made anew: cut where it has too many, dropped where it has
/// none.
fn regrown(leaves: &[Leaf], targets: &Targets, touched: &BTreeSet<TargetId>, next: &mut u64) -> Regrown {
    let mut regrown = Regrown { leaves: Vec::new(), new: Vec::new(), gone: Vec::new() };
    let is_sparse = leaves.len() > 1 && targets.len() < leaves.len() * LEAF_MAX / SPARSE;
    let leaves = if is_sparse {
        regrown.gone.extend(leaves.iter().map(|leaf| leaf.id));
        &[]
    } else {
        leaves
    };
    // What comes before the first leaf belongs to it.
    let first = TargetId { group: String::new(), name: String::new() };
    let all: Vec<(TargetId, Option<u64>)> = match leaves {
        [] => vec![(first, None)],
        [_, others @ ..] => std::iter::once((first, leaves.first().map(|leaf| leaf.id)))
            .chain(others.iter().map(|leaf| (leaf.from.clone(), Some(leaf.id))))
            .collect(),
    };
    for (n, (from, id)) in all.iter().enumerate() {
        let until = all.get(n + 1).map(|(from, _)| from);
        let range = || (Bound::Included(from), until.map_or(Bound::Unbounded, Bound::Excluded));
        if let Some(id) = id
            && touched.range::<TargetId, _>(range()).next().is_none()
        {
            regrown.leaves.push(Leaf { from: from.clone(), id: *id });
            continue;
        }
        regrown.gone.extend(*id);
        let names: Vec<&TargetId> = targets.range::<TargetId, _>(range()).map(|(name, _)| name).collect();
        let count = names.len().div_ceil(LEAF_MAX);
        let cuts: Vec<&TargetId> = (0..count).map(|cut| names[names.len() * cut / count]).collect();
        for (n, cut) in cuts.iter().enumerate() {
            let end = cuts.get(n + 1).copied().or(until);
            regrown.leaves.push(Leaf { from: (*cut).clone(), id: *next });
            regrown.new.push(((*cut).clone(), end.cloned(), *next));
            *next += 1;
        }
    }
    regrown
}
