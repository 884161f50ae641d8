//! What takes long for many targets is done beside whoever answers requests, which is one thread.
//!
//! What is thought about is moved there and back under the entity's lock, so nobody sees it meanwhile. Until it is
//! back, the entity counts as one of which it is not known how it is kept: should it not come back, it is read again.
//! What is written of targets is not done here: it is made ready in parts of which none takes long, and each waits for
//! the store.

use std::sync::Arc;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, Semaphore};
use upbeat_decide::rollout::{Rollout, Target};
use upbeat_model::rollout::Report;

use super::entity::{Entity, Held};
use super::{Busy, Inner, RolloutError, leaves};

/// With more targets, or with more in a report, it is done aside. A decision about so many takes some milliseconds,
/// for which nobody has to wait noticeably; sending it to another thread takes some tens of microseconds, which would
/// be felt where there are few.
pub(super) const LARGE: usize = 10_000;

/// So many threads think at once, of all entities. A daemon of many large ones leaves the machine to what it runs, and
/// one that is very large does not keep all others waiting.
const AT_ONCE: usize = 2;

/// Places for those who think aside. What is done there waits for nobody, so each is free again soon.
pub(super) struct Aside(pub(super) Arc<Semaphore>);

impl Default for Aside {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Aside {
    /// Errors: there is a bug in what is done.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, RolloutError> {
        let failed = |error: String| RolloutError::Failed(error);
        let place = self.0.clone().acquire_owned().await.map_err(|closed| failed(closed.to_string()))?;
        let working = tokio::task::spawn_blocking(move || {
            let done = work();
            // Also where nobody waits for it any more: it is so long that there are no more.
            drop(place);
            done
        });
        working.await.map_err(|error| failed(error.to_string()))
    }
}

impl Inner {
    /// Thinks about what is held, with so many things that were said of it.
    ///
    /// Errors: there is a bug in that; the entity is read again before anything else is done about it.
    pub(super) async fn think<T: Send + 'static>(
        &self,
        held: &mut Held,
        said: usize,
        think: impl FnOnce(&mut Rollout) -> T + Send + 'static,
    ) -> Result<T, RolloutError> {
        let was_stale = std::mem::replace(&mut held.is_stale, true);
        if held.rollout.targets.len().max(said) <= LARGE {
            let thought = think(&mut held.rollout);
            held.is_stale = was_stale;
            return Ok(thought);
        }
        let mut rollout = std::mem::take(&mut held.rollout);
        let thinking = self.aside.run(move || {
            let thought = think(&mut rollout);
            (rollout, thought)
        });
        let (rollout, thought) = thinking.await?;
        (held.rollout, held.is_stale) = (rollout, was_stale);
        Ok(thought)
    }

    /// To be looked at for as long as one likes. `None`: it was forgotten, or is not kept yet.
    async fn held_to_look(
        &self,
        entity: &Arc<Entity>,
    ) -> Result<Option<OwnedRwLockReadGuard<Held>>, RolloutError> {
        let held = entity.held.clone().read_owned().await;
        let held = match (held.is_gone, held.is_stale) {
            (true, _) => return Ok(None),
            (false, false) => Some(held),
            (false, true) => {
                drop(held);
                self.hold(entity).await?.map(OwnedRwLockWriteGuard::downgrade)
            }
        };
        Ok(held.filter(|held| held.place.is_kept()))
    }

    /// What is so of an entity, where that is of all its targets. `None`: it was forgotten.
    pub(super) async fn look_through<T: Send + 'static>(
        self: &Arc<Self>,
        entity: &Arc<Entity>,
        look: impl FnOnce(&Inner, &Held) -> T + Send + 'static,
    ) -> Result<Option<T>, RolloutError> {
        let Some(held) = self.held_to_look(entity).await? else { return Ok(None) };
        if held.rollout.targets.len() <= LARGE {
            return Ok(Some(look(self, &held)));
        }
        let (busy, inner) = (Busy::new(self), self.clone());
        let looking = self.aside.run(move || {
            let seen = look(&inner, &held);
            drop((held, inner));
            drop(busy);
            seen
        });
        looking.await.map(Some)
    }
}

/// What is reported, apart.
pub(super) struct Sorted {
    /// Of targets that are there.
    pub(super) known: Vec<Report>,
    /// About so many bytes more are held of them.
    pub(super) more: u64,
    /// Of others.
    pub(super) new: Vec<Report>,
    /// About so many bytes are held of those.
    pub(super) bytes: u64,
}

/// About how many bytes more are held of a target that is there.
fn more(rollout: &Rollout, report: &Report) -> u64 {
    leaves::growth(report, rollout.targets.get(&report.target))
}

impl Sorted {
    pub(super) fn of(reports: Vec<Report>, rollout: &Rollout) -> Self {
        let is_known = |report: &Report| rollout.targets.get(&report.target).is_some();
        let (known, new): (Vec<Report>, Vec<Report>) = reports.into_iter().partition(is_known);
        let more = known.iter().map(|report| more(rollout, report)).sum();
        let bytes = new.iter().map(|report| leaves::growth(report, None)).sum();
        Self { known, more, new, bytes }
    }
}

/// Where there is no room for more labels, those that would have more are reported with what they have: returns how
/// many.
pub(super) fn with_known_labels(mut known: Vec<Report>, rollout: &Rollout) -> (Vec<Report>, usize) {
    let mut count = 0;
    for report in known.iter_mut().filter(|report| more(rollout, report) > 0) {
        let labels = rollout.targets.get(&report.target).map(|known: &Target| known.labels.clone());
        (report.labels, count) = (labels.unwrap_or_default(), count + 1);
    }
    (known, count)
}
