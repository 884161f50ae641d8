//! What happened, from when it is kept until it is in the journal.
//!
//! The journal is another file than the store, and is written behind: a daemon that is killed between the two would
//! never tell what happened last. So what happened is kept with the decision that made it so, in the same write. It
//! stays in the head until the journal has it and the entity is kept again, or swept; what the journal did not take is
//! told again then.
//!
//! A daemon that opens the store looks which of what is kept is in the journal, and tells the rest. What happened
//! before the first event that the journal still holds was told and dropped, or is as old as what was: it is not told.
//! That is judged by the clock on the wall, so where that was set back meanwhile, something that was never told may
//! be taken for dropped, and where it was set forward, something may be told twice.
//!
//! So each thing is told at least once, and carries its number, of the entity, and the time it happened: one that is
//! told twice is the same to whoever compares these. But for two cases: what is taken for dropped, and the first of
//! more than [`OUTBOX_MAX`] things that happen at once, or before the journal takes any of them. These are told too,
//! but kept nowhere meanwhile: a daemon that is killed within those milliseconds, or a journal that does not take
//! them, loses them. The daemon's log has them.

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use upbeat_model::event::{EventKind, EventWord};
use upbeat_model::rollout::{EntityId, Happened};
use upbeat_model::{EventFilter, Wall};
use upbeat_store::StoreError;

use super::leaves::in_json;
use crate::events::{EventLog, Fate};

/// So much waits to be in the journal, which takes milliseconds. Of more, the first is told once, and kept nowhere.
const OUTBOX_MAX: usize = 256;

/// And so many bytes, about: beside all else that is in a head, this fits into a value of the store.
const OUTBOX_BYTES_MAX: usize = 64 << 10;

/// A page of the journal.
const PAGE: usize = 1_000;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct News {
    /// Of its entity the how manieth.
    number: u64,
    at: Wall,
    what: Happened,
}

/// How far the telling has come.
#[derive(Clone, Debug)]
enum Told {
    Not,
    /// It is a line of the daemon's log, and the journal did not take it.
    Lost,
    /// It is on its way into the journal.
    As(Fate),
    /// It is in the journal.
    Written,
}

#[derive(Debug)]
struct Entry {
    news: News,
    told: Told,
    /// About so many it takes, in memory and where it is kept.
    bytes: usize,
}

impl Entry {
    fn new(news: News) -> Self {
        let bytes = 2 * in_json(&news.what.to_string()) + 256;
        Self { news, told: Told::Not, bytes }
    }
}

/// What happened to one entity and may not be in the journal yet.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    news: VecDeque<Entry>,
    /// What is too much to be kept with it, and is to be told all the same.
    surplus: Vec<News>,
    /// So much has happened.
    count: u64,
    /// Of that, so much is kept, and was told by this process or is told again when the journal takes it.
    told: u64,
    /// So much is in the head as it was written last.
    in_head: usize,
}

impl Outbox {
    /// As it was kept: nobody knows what of it was told.
    pub(super) fn kept(news: Vec<News>, count: u64) -> Self {
        let news: VecDeque<Entry> = news.into_iter().map(Entry::new).collect();
        let in_head = news.len();
        Self { news, surplus: Vec::new(), count, told: 0, in_head }
    }

    /// What is to be kept.
    pub(super) fn to_keep(&self) -> (Vec<&News>, u64) {
        (self.news.iter().map(|entry| &entry.news).collect(), self.count)
    }

    /// The head was written as it is.
    pub(super) fn is_kept(&mut self) {
        self.in_head = self.news.len();
    }

    /// Something is in it that is not kept.
    pub(super) fn has_news(&self) -> bool {
        self.count > self.told
    }

    /// All that the head has of it is in the journal: in the head it would be told again once the journal has
    /// dropped it.
    pub(super) fn has_settled(&self) -> bool {
        self.news.is_empty() && self.in_head > 0
    }

    /// There is something to be done about it though nothing happened.
    pub(super) fn is_behind(&self) -> bool {
        let is_untold = |entry: &Entry| matches!(entry.told, Told::Not | Told::Lost);
        self.has_settled() || self.news.iter().any(is_untold)
    }

    /// About so many bytes in memory.
    pub(super) fn bytes(&self) -> u64 {
        self.news.iter().map(|entry| entry.bytes as u64).sum()
    }

    /// What is in the journal by now is not needed, and what that did not take was not told.
    pub(super) fn settle(&mut self) {
        self.news.retain_mut(|entry| {
            if let Told::As(fate) = &entry.told {
                match fate.is_written() {
                    Some(true) => entry.told = Told::Written,
                    Some(false) => entry.told = Told::Lost,
                    None => {}
                }
            }
            !matches!(entry.told, Told::Written)
        });
    }

    /// This happened then.
    pub(super) fn add(&mut self, happened: Vec<Happened>, at: Wall) {
        for what in happened {
            self.count += 1;
            self.news.push_back(Entry::new(News { number: self.count, at, what }));
        }
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            bytes += entry.bytes;
            bytes <= OUTBOX_BYTES_MAX
        };
        let fits = self.news.iter().rev().take(OUTBOX_MAX).take_while(fits).count();
        let surplus = self.news.drain(..self.news.len() - fits);
        self.surplus.extend(surplus.filter(|entry| matches!(entry.told, Told::Not)).map(|entry| entry.news));
    }

    /// All that was not told is told; for when it is kept. Where the journal takes no more, the rest waits for the
    /// next time.
    pub(super) fn tell(&mut self, id: &EntityId, events: &EventLog) {
        let event = |News { number, what, .. }: News| {
            let (namespace, entity) = (id.namespace().to_owned(), id.entity().to_owned());
            EventKind::Rollout { namespace, entity, number, what }
        };
        for news in self.surplus.drain(..) {
            // It is kept nowhere: where there is no room, it is counted there, and in the daemon's log.
            events.add(news.at, None, event(news));
        }
        for entry in &mut self.news {
            let (at, news) = (entry.news.at, entry.news.clone());
            let fate = match entry.told {
                Told::Not => events.add(at, None, event(news)),
                Told::Lost => events.add_again(at, event(news)),
                Told::As(_) | Told::Written => continue,
            };
            let Some(fate) = fate else {
                entry.told = Told::Lost;
                // Nothing overtakes it.
                break;
            };
            entry.told = Told::As(fate);
        }
        self.told = self.count;
    }

    /// Nobody wants to be told.
    pub(super) fn told_to_nobody(&mut self) {
        (self.news, self.surplus, self.told) = (VecDeque::new(), Vec::new(), self.count);
    }

    /// This one was read again in the place of that one, which knows what was told.
    pub(super) fn takes_the_place_of(&mut self, before: &Self) {
        self.told = before.told;
        for Entry { news, told, .. } in &mut self.news {
            if news.number <= before.told {
                let known = before.news.iter().find(|known| known.news.number == news.number);
                *told = known.map_or(Told::Written, |known| known.told.clone());
            }
        }
    }

    fn is_told(&mut self, is_one: impl Fn(&News) -> bool) {
        for Entry { news, told, .. } in &mut self.news {
            if is_one(news) {
                *told = Told::Written;
            }
        }
    }
}

/// What the last daemon kept and did not tell is told. Where the journal cannot be read, so is what it did tell.
pub(super) async fn go_on<'a>(all: impl Iterator<Item = (&'a EntityId, &'a mut Outbox)>, events: &EventLog) {
    let mut all: Vec<_> = all.collect();
    let mut sought = BTreeSet::new();
    for (id, outbox) in &all {
        sought.extend(outbox.news.iter().map(|entry| name(id, &entry.news)));
    }
    let told = told(&sought, events).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "what was told of rollouts cannot be read, so the last of it is told again");
        BTreeSet::new()
    });
    let dropped_until = dropped_until(events).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "what of rollouts the journal has dropped cannot be read, so it is told again");
        None
    });
    for (id, outbox) in &mut all {
        outbox.is_told(|news| {
            dropped_until.is_some_and(|until| news.at < until) || told.contains(&name(id, news))
        });
        outbox.tell(id, events);
    }
}

/// What happened before is not in the journal any more, whether it was told or not, as far as the clock on the wall
/// can be trusted. `None`: it holds all there was.
async fn dropped_until(events: &EventLog) -> Result<Option<Wall>, StoreError> {
    let (first, _) = events.read(&EventFilter::default(), 0, 1).await?;
    Ok(first.first().filter(|event| event.sequence > 1).map(|event| event.at))
}

/// What makes one thing that happened another than all others.
type Name = (String, String, u64, Wall);

fn name(id: &EntityId, news: &News) -> Name {
    (id.namespace().to_owned(), id.entity().to_owned(), news.number, news.at)
}

/// Those of these that are in the journal.
async fn told(sought: &BTreeSet<Name>, events: &EventLog) -> Result<BTreeSet<Name>, StoreError> {
    let at = || sought.iter().map(|(_, _, _, at)| *at);
    let (kinds, since, until) = (vec![EventWord::Rollout], at().min(), at().max());
    let wanted = EventFilter { kinds, since, until, ..EventFilter::default() };
    let (mut found, mut after) = (BTreeSet::new(), 0);
    while found.len() < sought.len() {
        let (page, seen) = events.read(&wanted, after, PAGE).await?;
        if page.is_empty() {
            break;
        }
        after = seen;
        for event in page {
            if let EventKind::Rollout { namespace, entity, number, .. } = event.kind {
                found.extend(sought.get(&(namespace, entity, number, event.at)).cloned());
            }
        }
    }
    Ok(found)
}
