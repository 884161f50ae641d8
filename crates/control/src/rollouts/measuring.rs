//! What rollouts want measured is measured when it is due, beside all decisions: a server that is slow delays its own
//! analysis, and others of the same entity while two of them are under way.
//!
//! One task looks at the agenda: when something of which entity is due next. It is told with every change that is
//! kept of an entity, and made anew from what is kept when a daemon begins. What was measured is taken down like
//! any other change, and kept before anybody hears of it; then it is decided. Laws:
//! * Of one analysis one sample is taken at a time, and of one entity two. Who had to wait is looked at when one of
//!   them ends, and not before; that which has been due for longest is first.
//! * What is under way when the daemon ends is not counted, and is measured again by the next.
//! * It ends with the handles to the rollouts: it holds none while it waits.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{Id, JoinHandle, JoinSet};
use upbeat_decide::rollout::Due;
use upbeat_model::Mono;
use upbeat_model::rollout::{Cadence, EntityId, Measure, Sample};

use super::{Asker, Busy, Inner, RolloutError};

/// So many samples at once: a connection or a process each, and of servers that are silent each holds one for ten
/// seconds. Those that come later wait, which counts for nothing.
pub(super) const AT_ONCE: usize = 16;

/// And so many of one entity: one that is silent does not hold up another beside it, and it takes eight whole
/// entities of those to keep others waiting.
pub(super) const OF_ENTITY_AT_ONCE: usize = 2;

/// When something of which entity is to be measured next.
#[derive(Default)]
struct Times {
    of: BTreeMap<EntityId, Mono>,
    /// The same, the next first.
    in_order: BTreeSet<(Mono, EntityId)>,
}

impl Times {
    fn set(&mut self, id: &EntityId, at: Option<Mono>) {
        if let Some(before) = self.of.remove(id) {
            self.in_order.remove(&(before, id.clone()));
        }
        if let Some(at) = at {
            self.of.insert(id.clone(), at);
            self.in_order.insert((at, id.clone()));
        }
    }
}

/// What is to be measured, of all entities.
#[derive(Default)]
pub(super) struct Agenda {
    times: Mutex<Times>,
    changed: Notify,
    is_ending: AtomicBool,
    task: Mutex<Option<JoinHandle<()>>>,
    /// So often it was looked at.
    #[cfg(test)]
    pub(super) looks: std::sync::atomic::AtomicUsize,
}

impl Agenda {
    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of this entity, something is due then; none: nothing is.
    pub(super) fn set(&self, id: &EntityId, at: Option<Mono>) {
        let mut times = self.times();
        if times.of.get(id).copied() != at {
            times.set(id, at);
            self.changed.notify_one();
        }
    }

    /// The same, or sooner where that is known.
    fn set_at_latest(&self, id: &EntityId, at: Mono) {
        let mut times = self.times();
        let at = times.of.get(id).map_or(at, |known| at.min(*known));
        times.set(id, Some(at));
    }

    /// The entity of which something has been due for longest. It is not there any more then.
    fn take(&self, now: Mono) -> Option<EntityId> {
        let mut times = self.times();
        let (_, id) = times.in_order.first().filter(|(at, _)| *at <= now)?.clone();
        times.set(&id, None);
        Some(id)
    }

    fn next(&self) -> Option<Mono> {
        self.times().in_order.first().map(|(at, _)| *at)
    }

    /// Whoever looks at it looks again.
    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Nothing is measured from now on, and nothing of ours is held for that.
    pub(super) async fn end(&self) {
        self.is_ending.store(true, Ordering::Release);
        self.wake();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && let Err(failed) = task.await
        {
            tracing::error!(%failed, "a bug in Upbeat: what measures has failed");
        }
    }

    pub(super) fn begin(self: &Arc<Self>, inner: &Arc<Inner>) {
        let measuring = Measuring {
            inner: Arc::downgrade(inner),
            agenda: self.clone(),
            tasks: JoinSet::new(),
            asked: HashMap::new(),
        };
        let task = tokio::spawn(measuring.run());
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }
}

/// One analysis of one rollout of an entity.
type Key = (EntityId, u64, String);

struct Measuring {
    inner: Weak<Inner>,
    agenda: Arc<Agenda>,
    tasks: JoinSet<Result<(), RolloutError>>,
    /// What is under way.
    asked: HashMap<Id, Key>,
}

impl Measuring {
    async fn run(mut self) {
        while let Some(inner) = self.inner.upgrade() {
            #[cfg(test)]
            self.agenda.looks.fetch_add(1, Ordering::Relaxed);
            if self.agenda.is_ending.load(Ordering::Acquire) {
                break;
            }
            self.ask(&inner).await;
            let now = inner.clock.now();
            drop(inner);
            let is_full = self.tasks.len() >= AT_ONCE;
            let next = self.agenda.next().filter(|_| !is_full);
            let wait = next.map(|next| Duration::from_millis(next.since(now).0));
            let agenda = self.agenda.clone();
            tokio::select! {
                () = agenda.changed.notified() => {}
                Some(ended) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => {
                    // It may have waited for long.
                    let Some(inner) = self.inner.upgrade() else { break };
                    self.ended(ended, inner.clock.now());
                }
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            }
        }
        self.tasks.shutdown().await;
    }

    /// All that is due, as far as there are places.
    async fn ask(&mut self, inner: &Arc<Inner>) {
        while self.tasks.len() < AT_ONCE {
            let now = inner.clock.now();
            let Some(id) = self.agenda.take(now) else { return };
            if self.places_of(&id) == 0 {
                // It is on the agenda again when one of its measures ends.
                continue;
            }
            let Some(entity) = inner.entities().all.get(&id).cloned() else { continue };
            let due = match inner.look(&entity, |held| held.rollout.due(now)).await {
                Ok(due) => due.unwrap_or_default(),
                Err(error) => {
                    tracing::warn!(entity = %id, %error, "what is to be measured of a rollout is not known");
                    self.agenda.set_at_latest(&id, now + Cadence::RETRY);
                    continue;
                }
            };
            if let Some(next) = due.next {
                self.agenda.set_at_latest(&id, next);
            }
            self.begin(&id, due, now, inner);
        }
    }

    /// So many more may be measured of this entity, where there are places.
    fn places_of(&self, id: &EntityId) -> usize {
        OF_ENTITY_AT_ONCE.saturating_sub(self.asked.values().filter(|(asked, ..)| asked == id).count())
    }

    /// What is due of an entity, as far as there are places for that.
    fn begin(&mut self, id: &EntityId, due: Due, now: Mono, inner: &Arc<Inner>) {
        let is_asked = |key: &Key| self.asked.values().any(|asked| asked == key);
        let keyed = due.now.into_iter().map(|(name, measure)| ((id.clone(), due.number, name), measure));
        let waiting: Vec<(Key, Measure)> = keyed.filter(|(key, _)| !is_asked(key)).collect();
        for (key, measure) in waiting {
            if self.places_of(id) == 0 {
                return;
            }
            if self.tasks.len() >= AT_ONCE {
                // It takes the next place that is free, whoever leaves it.
                return self.agenda.set_at_latest(id, now);
            }
            let asking = ask(self.inner.clone(), inner.asker.clone(), key.clone(), measure);
            self.asked.insert(self.tasks.spawn(asking).id(), key);
        }
    }

    fn ended(&mut self, ended: Result<(Id, Result<(), RolloutError>), tokio::task::JoinError>, now: Mono) {
        let (task, error) = match ended {
            Ok((task, Ok(()))) => (task, None),
            Ok((task, Err(error))) => (task, Some(error.to_string())),
            Err(failed) => (failed.id(), Some(failed.to_string())),
        };
        let Some((id, _, name)) = self.asked.remove(&task) else { return };
        match error {
            // What came due meanwhile was passed over.
            None => self.agenda.set_at_latest(&id, now),
            Some(error) => {
                tracing::warn!(entity = %id, analysis = name, error, "a sample is lost, and is taken again");
                // Not before: a disk that takes nothing is not asked as fast as it refuses.
                self.agenda.set(&id, Some(now + Cadence::RETRY));
            }
        }
    }
}

/// Measures once, and takes that down.
async fn ask(
    inner: Weak<Inner>,
    asker: Arc<dyn Asker>,
    (id, number, name): Key,
    measure: Measure,
) -> Result<(), RolloutError> {
    let sample = asker.measure(&measure).await;
    let Some(inner) = inner.upgrade() else { return Ok(()) };
    let busy = Busy::new(&inner);
    // Ends also where this does not.
    let taking = tokio::spawn(async move {
        let taken = inner.take_sample(&id, number, &name, sample).await;
        drop(inner);
        drop(busy);
        taken
    });
    taking.await.unwrap_or_else(|failed| Err(RolloutError::Failed(failed.to_string())))
}

impl Inner {
    /// What was measured is kept, where it counts, and then decided about.
    async fn take_sample(
        self: &Arc<Self>,
        id: &EntityId,
        number: u64,
        name: &str,
        sample: Sample,
    ) -> Result<(), RolloutError> {
        let Some(entity) = self.entities().all.get(id).cloned() else { return Ok(()) };
        if let Some(next) = self.keep_sample(&entity, number, name, sample).await? {
            self.decide_later(entity, next);
        }
        Ok(())
    }
}
