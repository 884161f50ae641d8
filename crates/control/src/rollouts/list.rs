//! Lists of all that is there. They cost something for each entity and nothing for each target, and one that cannot
//! be read keeps nobody from seeing the others.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use serde::Serialize;
use upbeat_decide::rollout::{Rollout, Standings};
use upbeat_model::Mono;
use upbeat_model::rollout::{
    EntityId, PAGE_BYTES_MAX, RolloutState, RolloutsPage, UnitState, UnitsPage, Unreadable,
};

use super::entity::{Entity, Held};
use super::{RolloutError, RolloutNumbers, Rollouts, show};

/// Others of this thread have their turn after so many: a fraction of a millisecond's work.
const IN_A_ROW: usize = 32;

impl Held {
    /// How its targets stand. They were looked at when it was kept: whoever changes an entity has looked at all of
    /// them for the decision, and whoever only lists many must not have to.
    pub(super) fn standings(&self, now: Mono) -> &Standings {
        self.standings.get_or_init(|| stand(&self.rollout, now))
    }
}

/// How its targets stand: all are looked at.
pub(super) fn stand(rollout: &Rollout, now: Mono) -> Standings {
    #[cfg(test)]
    super::tests::lists::count();
    rollout.standings(now)
}

/// A list that is made.
struct Page<T> {
    items: Vec<T>,
    unreadable: Vec<Unreadable>,
    next: Option<String>,
    limit: usize,
    bytes: usize,
    last: Option<EntityId>,
}

impl<T: Serialize> Page<T> {
    fn new(limit: usize) -> Self {
        Self { items: Vec::new(), unreadable: Vec::new(), next: None, limit, bytes: 0, last: None }
    }

    /// Whether another one goes behind the last; if not, that there is one is told.
    fn goes_on(&mut self) -> bool {
        let is_full = self.items.len() + self.unreadable.len() >= self.limit || self.bytes >= PAGE_BYTES_MAX;
        if is_full {
            self.next = self.last.as_ref().map(EntityId::to_cursor);
        }
        !is_full
    }

    /// The next one. `None`: it is not there any more.
    fn add(&mut self, id: &EntityId, read: Result<Option<T>, RolloutError>) {
        match read {
            Ok(Some(item)) => {
                // What cannot be written down is not told either; whoever answers says so.
                self.bytes += serde_json::to_vec(&item).map_or(0, |json| json.len());
                self.items.push(item);
            }
            Ok(None) => {}
            Err(error) => {
                let (namespace, name) = (id.namespace().to_owned(), id.entity().to_owned());
                self.unreadable.push(Unreadable { namespace, name, why: chain(&error) });
            }
        }
        self.last = Some(id.clone());
    }
}

fn is_in(namespace: Option<&str>) -> impl Fn(&EntityId) -> bool {
    move |id| namespace.is_none_or(|name| id.namespace() == name)
}

impl Rollouts {
    /// In which namespaces there are entities, in order.
    pub fn namespaces(&self) -> BTreeSet<String> {
        self.inner.entities().all.keys().map(|id| id.namespace().to_owned()).collect()
    }

    /// The names of the entities of a namespace, or of all, in order.
    pub fn entities(&self, namespace: Option<&str>) -> Vec<EntityId> {
        let is_wanted = is_in(namespace);
        self.inner.entities().all.keys().filter(|id| is_wanted(id)).cloned().collect()
    }

    fn all_behind(&self, after: Option<&EntityId>) -> Vec<Arc<Entity>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let entities = self.inner.entities();
        entities.all.range((from, Bound::Unbounded)).map(|(_, entity)| entity.clone()).collect()
    }

    /// The entities of a namespace, or of all, in order, behind this one: so many, or as many as a page holds.
    pub async fn rollouts(
        &self,
        namespace: Option<&str>,
        after: Option<&EntityId>,
        limit: usize,
    ) -> RolloutsPage {
        let (is_wanted, mut page) = (is_in(namespace), Page::<RolloutState>::new(limit));
        let wanted = self.all_behind(after).into_iter().filter(|entity| is_wanted(&entity.id));
        for (n, entity) in wanted.enumerate() {
            if !page.goes_on() {
                break;
            }
            let state = self.inner.look(&entity, |held| show::rollout(held, &self.inner.clock)).await;
            page.add(&entity.id, state);
            pause_after(n).await;
        }
        RolloutsPage { rollouts: page.items, unreadable: page.unreadable, next: page.next }
    }

    /// Where each entity is, in numbers; and of those that cannot be read, why.
    pub async fn numbers(&self) -> (Vec<RolloutNumbers>, Vec<RolloutError>) {
        let (mut all, mut unreadable) = (Vec::new(), Vec::new());
        for (n, entity) in self.all_behind(None).into_iter().enumerate() {
            match self.inner.look(&entity, |held| show::numbers(held, &self.inner.clock)).await {
                Ok(numbers) => all.extend(numbers),
                Err(error) => unreadable.push(error),
            }
            pause_after(n).await;
        }
        (all, unreadable)
    }

    /// The units of a namespace, or of all, in order, behind this one: so many, or as many as a page holds.
    pub async fn units(&self, namespace: Option<&str>, after: Option<&EntityId>, limit: usize) -> UnitsPage {
        let (is_wanted, mut page) = (is_in(namespace), Page::<UnitState>::new(limit));
        for (n, id) in self.inner.units.names(after).into_iter().filter(is_wanted).enumerate() {
            if !page.goes_on() {
                break;
            }
            page.add(&id, self.inner.unit(&id).await);
            pause_after(n).await;
        }
        UnitsPage { units: page.items, unreadable: page.unreadable, next: page.next }
    }
}

/// An error, and all that led to it.
fn chain(error: &RolloutError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

async fn pause_after(n: usize) {
    if n % IN_A_ROW == IN_A_ROW - 1 {
        tokio::task::yield_now().await;
    }
}
