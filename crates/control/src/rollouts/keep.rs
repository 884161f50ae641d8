//! What is kept of an entity, and how.
//!
//! `rollouts/<number>/head`: all but its targets, which leaves hold these, and what of
//! what happened may not be told yet. `rollouts/<number>/leaf/<id>`:
//! targets that follow each other. A leaf is never written again: a change of a target is a new leaf, and the
//! head that names it. So what is in force is what the head says, whatever a crash has left besides, and a call
//! about few of many targets writes little. `rollouts/clock`: what the clock of rollouts showed.

use std::collections::BTreeSet;
use std::ops::Bound;

use serde::{Deserialize, Serialize};
use upbeat_decide::rollout::{Rollout, Target, Targets};
use upbeat_model::Mono;
use upbeat_model::rollout::{Controllers, EntityId, TargetId};
use upbeat_store::{Compare, OPS_MAX, Op, Store, StoreError, Txn, VALUE_MAX};

use super::RolloutError;
use super::clock::KeptClock;
use super::leaves::{self, Leaf, Regrown, Weight};
use super::outbox::{News, Outbox};

const ROLLOUTS: &str = "rollouts/";
const CLOCK: &str = "rollouts/clock";
const HEAD: &str = "/head";

/// So many bytes of leaves go into one transaction.
const LEAVES_BYTES_MAX: usize = upbeat_store::REQUEST_MAX / 2;

/// A head with the leaves that are written with it is no larger, with room below the store's limit for keys.
const WITH_HEAD_BYTES_MAX: usize = upbeat_store::REQUEST_MAX / 8 * 7;

/// All of an entity that is not a target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Rest {
    pub(super) id: EntityId,
    #[serde(default)]
    pub(super) controllers: Controllers,
    /// Whoever came without a token has made it, or made it larger.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_listeners: bool,
}

/// What is written of an entity.
#[derive(Serialize, Deserialize)]
struct Head<R, O, N> {
    rest: R,
    /// Without its targets.
    rollout: O,
    /// Their numbers, in the order of their targets. Where each begins stands in itself.
    leaves: Vec<u64>,
    next_leaf: u64,
    /// What happened, and may not be in the journal yet.
    #[serde(default = "Vec::new")]
    news: Vec<N>,
    /// So much happened.
    #[serde(default)]
    news_count: u64,
    /// What the clock showed when it was written.
    at: Mono,
}

type ReadHead = Head<Rest, Rollout, News>;

/// Why something was not written.
#[derive(Debug)]
pub(super) enum NotKept {
    /// It does not fit into a value of the store.
    TooLarge {
        /// The largest part of it.
        what: &'static str,
        size: usize,
    },
    Store(StoreError),
    /// There is a bug in what is to be written.
    Failed(RolloutError),
}

impl From<RolloutError> for NotKept {
    fn from(error: RolloutError) -> Self {
        Self::Failed(error)
    }
}

impl From<StoreError> for NotKept {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What was written of an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrote {
    /// Nothing, as nothing has changed.
    Nothing,
    /// Only that what happened is told.
    Told,
    /// What has changed.
    Changes,
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
    pub(super) outbox: Outbox,
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
    let ReadHead { rest, mut rollout, leaves, next_leaf, news, news_count, at } = head;
    let (mut targets, ids) = (Vec::<(TargetId, Target)>::new(), leaves.clone());
    for id in leaves {
        let key = place.leaf_key(id);
        let missing = || StoreError::Unreadable { key: key.clone(), detail: "it is missing".into() };
        let kv = store.get(&key).await?.ok_or_else(missing)?;
        let some: Vec<(TargetId, Target)> =
            serde_json::from_slice(&kv.value).map_err(|error| unreadable(&key, &error))?;
        let mut weight = Weight::default();
        some.iter().for_each(|(id, target)| weight += leaves::weight(id, target));
        // Of a large entity there are thousands: others of this thread have their turn between two.
        tokio::task::yield_now().await;
        // None is without targets.
        let Some((from, _)) = some.first() else { continue };
        place.leaves.push(Leaf { from: from.clone(), id, weight });
        targets.extend(some);
    }
    (place.next_leaf, place.revision) = (next_leaf, Some(kv.mod_revision));
    place.written = to_json(&key, &Head::plain(&rest, &rollout, ids, next_leaf))?;
    rollout.targets = targets.into_iter().collect();
    let outbox = Outbox::kept(news, news_count);
    Ok(Some(Kept { rest, rollout, place, outbox, at }))
}

impl<'a> Head<&'a Rest, &'a Rollout, &'a News> {
    /// Without what alone is no reason to write it.
    fn plain(rest: &'a Rest, rollout: &'a Rollout, leaves: Vec<u64>, next_leaf: u64) -> Self {
        Self { rest, rollout, leaves, next_leaf, news: Vec::new(), news_count: 0, at: Mono(0) }
    }

    /// What it has most of.
    fn largest(&self) -> Result<&'static str, StoreError> {
        let Rollout { strategy, rolling, history, known_bad, .. } = self.rollout;
        let size = |part: serde_json::Result<Vec<u8>>| {
            part.map(|part| part.len()).map_err(|error| unreadable(HEAD, &error))
        };
        let sizes = [
            ("its controllers", size(serde_json::to_vec(&self.rest.controllers))?),
            ("its strategy", size(serde_json::to_vec(&(strategy, rolling)))?),
            ("its history", size(serde_json::to_vec(history))?),
            ("what is known of bad versions", size(serde_json::to_vec(known_bad))?),
            ("the list of its targets", size(serde_json::to_vec(&self.leaves))?),
            ("what happened", size(serde_json::to_vec(&self.news))?),
        ];
        Ok(sizes.into_iter().max_by_key(|(_, size)| *size).map_or("all of it", |(what, _)| what))
    }
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

    /// What its targets cost, all together.
    pub(super) fn weight(&self) -> Weight {
        let mut weight = Weight::default();
        self.leaves.iter().for_each(|leaf| weight += leaf.weight);
        weight
    }

    /// So many bytes have all of it but its targets, where they are kept.
    pub(super) fn head_bytes(&self) -> usize {
        self.written.len()
    }

    /// Its leaves, to see which of them are made anew, and the number of the next. To be put back.
    pub(super) fn take_leaves(&mut self) -> (Vec<Leaf>, u64) {
        (std::mem::take(&mut self.leaves), self.next_leaf)
    }

    /// As they were.
    pub(super) fn put_leaves(&mut self, leaves: Vec<Leaf>) {
        self.leaves = leaves;
    }

    /// Writes what has changed, with these leaves from now on and this number for the next; also that nothing of what happened is to be told any more.
    ///
    /// Errors: as [`Store::txn`]; what is kept is as before, or, where the store cannot tell, as it should
    /// be. Then it must be read again before anything else is written.
    pub(super) async fn write(
        &mut self,
        store: &Store,
        (rest, rollout, outbox): (&Rest, &Rollout, &Outbox),
        (changed, next_leaf): (Regrown, u64),
        now: Mono,
        failpoint: fn(&str),
    ) -> Result<Wrote, NotKept> {
        let key = self.head_key();
        let ids = changed.leaves.iter().map(|leaf| leaf.id).collect();
        let mut head = Head::plain(rest, rollout, ids, next_leaf);
        let written = to_json(&key, &head)?;
        let wrote = match written != self.written || outbox.has_news() {
            true => Wrote::Changes,
            false if outbox.has_settled() => Wrote::Told,
            false => return Ok(Wrote::Nothing),
        };
        head.at = now;
        (head.news, head.news_count) = outbox.to_keep();
        let value = to_json(&key, &head)?;
        if value.len() > VALUE_MAX {
            // Before anything is written.
            return Err(NotKept::TooLarge { what: head.largest()?, size: value.len() });
        }
        let gone: Vec<Op> = changed.gone.iter().map(|id| Op::delete(self.leaf_key(*id))).collect();
        let ops = self.write_leaves(store, &changed, &rollout.targets, value.len()).await?;
        failpoint("rollout_leaves_kept");
        let compare = match self.revision {
            Some(revision) => Compare::ModRevision(key.clone(), revision),
            None => Compare::Absent(key.clone()),
        };
        let mut success = ops;
        success.push(Op::put(&key, value));
        let (now_gone, later) = gone.split_at(gone.len().min(OPS_MAX - success.len()));
        success.extend_from_slice(now_gone);
        let outcome = store.txn(Txn { compare: vec![compare], success, failure: Vec::new() }).await?;
        if !outcome.succeeded {
            return Err(StoreError::Conflict(key).into());
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
        Ok(wrote)
    }

    /// Writes new leaves, but for the last ones, which fit into the transaction of a head of so many bytes: these
    /// are returned.
    async fn write_leaves(
        &self,
        store: &Store,
        changed: &Regrown,
        targets: &Targets,
        head: usize,
    ) -> Result<Vec<Op>, NotKept> {
        let (mut ops, mut size) = (Vec::new(), 0);
        for (from, until, id) in &changed.new {
            let some = targets
                .range((Bound::Included(from), until.as_ref().map_or(Bound::Unbounded, Bound::Excluded)));
            let key = self.leaf_key(*id);
            let value = to_json(&key, &some.collect::<Vec<_>>())?;
            if value.len() > VALUE_MAX {
                return Err(NotKept::TooLarge { what: "one of its targets", size: value.len() });
            }
            if !ops.is_empty() && (size + value.len() > LEAVES_BYTES_MAX || ops.len() >= OPS_MAX / 2) {
                store.write(std::mem::take(&mut ops)).await?;
                size = 0;
            }
            size += value.len();
            ops.push(Op::put(key, value));
        }
        if !ops.is_empty() && size + head > WITH_HEAD_BYTES_MAX {
            store.write(std::mem::take(&mut ops)).await?;
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
