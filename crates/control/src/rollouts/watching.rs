//! Whoever watches a unit sees it again whenever it or one of its members looks otherwise.

use std::future::poll_fn;
use std::task::Poll;

use tokio::sync::watch;
use upbeat_model::rollout::{EntityId, UnitState};

use super::Rollouts;

/// A unit that is watched.
pub struct UnitWatch {
    kept: Rollouts,
    id: EntityId,
    /// Of the unit, and of those of its members that somebody has named.
    changes: Vec<watch::Receiver<u64>>,
    told: Option<UnitState>,
}

impl Rollouts {
    /// A unit, to be watched. `None`: nobody has named it.
    ///
    /// Errors: it cannot be read.
    pub async fn watch_unit(&self, id: &EntityId) -> Result<Option<UnitWatch>, super::RolloutError> {
        let is_there = self.unit(id).await?.is_some();
        let watch = || UnitWatch { kept: self.clone(), id: id.clone(), changes: Vec::new(), told: None };
        Ok(is_there.then(watch))
    }
}

impl UnitWatch {
    /// Where it is, at once and then as soon as that is otherwise; what lies between is passed over. While it cannot
    /// be read, nothing is told. `None`: it is not there any more.
    pub async fn next(&mut self) -> Option<UnitState> {
        loop {
            one_of(&mut self.changes).await;
            // Before it is looked, so that what changes meanwhile is looked at; and anew each time, as members come
            // and go.
            self.changes = self.kept.inner.unit_changes(&self.id).await?;
            let Ok(state) = self.kept.unit(&self.id).await else { continue };
            let state = state?;
            if self.told.as_ref() != Some(&state) {
                self.told = Some(state.clone());
                return Some(state);
            }
        }
    }
}

/// Returns when one of them has changed, or has come to its end; at once, where there is none.
async fn one_of(changes: &mut [watch::Receiver<u64>]) {
    if changes.is_empty() {
        return;
    }
    let mut waits: Vec<_> = changes.iter_mut().map(|change| Box::pin(change.changed())).collect();
    poll_fn(|cx| match waits.iter_mut().any(|wait| wait.as_mut().poll(cx).is_ready()) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}
