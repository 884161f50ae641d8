//! What happened, from when it is kept until it is in the journal.
//!
//! The journal is another file than the store, and is written behind: a daemon that is killed between the two would
//! never tell what happened last. So what happened is kept with the decision that made it so, in the same write, and
//! stays in the head until it is in the journal and another write comes. A daemon that opens the store tells what is
//! there and not in the journal. So each thing is told at least once, and carries its number, of the entity, and the
//! time it happened: one that is told twice is the same to whoever compares these.

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use upbeat_model::event::{EventKind, EventWord};
use upbeat_model::rollout::{EntityId, Happened};
use upbeat_model::{EventFilter, Wall};
use upbeat_store::StoreError;

use super::leaves::in_json;
use crate::events::EventLog;

/// So much waits to be in the journal, which takes milliseconds. Of more, the first is only as safe as that: it has
/// been handed over already.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Not,
    /// As this event of the process.
    As(u64),
}

/// What happened to one entity and may not be in the journal yet.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    news: VecDeque<(News, Told)>,
    /// What is too much to be kept with it, and is to be told all the same.
    surplus: Vec<News>,
    /// So much has happened.
    count: u64,
    /// Of that, so much was told by this process.
    told: u64,
}

impl Outbox {
    /// As it was kept: nobody knows what of it was told.
    pub(super) fn kept(news: Vec<News>, count: u64) -> Self {
        let news = news.into_iter().map(|news| (news, Told::Not)).collect();
        Self { news, surplus: Vec::new(), count, told: 0 }
    }

    /// What is to be kept.
    pub(super) fn to_keep(&self) -> (Vec<&News>, u64) {
        (self.news.iter().map(|(news, _)| news).collect(), self.count)
    }

    /// Something is in it that was not told.
    pub(super) fn has_news(&self) -> bool {
        self.count > self.told
    }

    /// What is in the journal by now is not needed.
    pub(super) fn settle(&mut self, events: &EventLog) {
        while matches!(self.news.front(), Some((_, Told::As(event))) if events.is_written(*event)) {
            self.news.pop_front();
        }
    }

    /// This happened then.
    pub(super) fn add(&mut self, happened: Vec<Happened>, at: Wall) {
        for what in happened {
            self.count += 1;
            self.news.push_back((News { number: self.count, at, what }, Told::Not));
        }
        let mut bytes = 0;
        let fits = |(news, _): &&(News, Told)| {
            bytes += 2 * in_json(&news.what.to_string()) + 256;
            bytes <= OUTBOX_BYTES_MAX
        };
        let fits = self.news.iter().rev().take(OUTBOX_MAX).take_while(fits).count();
        let surplus = self.news.drain(..self.news.len() - fits);
        self.surplus.extend(surplus.filter(|(_, told)| *told == Told::Not).map(|(news, _)| news));
    }

    /// All that was not told is told; for when it is kept.
    pub(super) fn tell(&mut self, id: &EntityId, events: &EventLog) {
        let event = |News { number, at, what }: News| {
            let (namespace, entity) = (id.namespace().to_owned(), id.entity().to_owned());
            events.add(at, None, EventKind::Rollout { namespace, entity, number, what })
        };
        for news in self.surplus.drain(..) {
            event(news);
        }
        for (news, told) in self.news.iter_mut().filter(|(_, told)| *told == Told::Not) {
            *told = Told::As(event(news.clone()));
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
        for (news, told) in &mut self.news {
            if news.number <= before.told {
                let known = before.news.iter().find(|(known, _)| known.number == news.number);
                *told = known.map_or(Told::As(0), |(_, told)| *told);
            }
        }
    }

    fn is_told(&mut self, is_one: impl Fn(&News) -> bool) {
        for (news, told) in &mut self.news {
            if is_one(news) {
                *told = Told::As(0);
            }
        }
    }
}

/// What the last daemon kept and did not tell is told. Where the journal cannot be read, so is what it did tell.
pub(super) async fn go_on<'a>(all: impl Iterator<Item = (&'a EntityId, &'a mut Outbox)>, events: &EventLog) {
    let mut all: Vec<_> = all.collect();
    let mut sought = BTreeSet::new();
    for (id, outbox) in &all {
        sought.extend(outbox.news.iter().map(|(news, _)| name(id, news)));
    }
    let told = told(&sought, events).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "what was told of rollouts cannot be read, so the last of it is told again");
        BTreeSet::new()
    });
    for (id, outbox) in &mut all {
        outbox.is_told(|news| told.contains(&name(id, news)));
        outbox.tell(id, events);
    }
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
