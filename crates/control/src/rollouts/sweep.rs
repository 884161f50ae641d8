//! Targets that nobody reports are forgotten, also where nobody reports anything of their entity any more.
//!
//! One task looks at each entity when the first of its targets may be forgotten, which is a quarter of an hour after
//! it was reported; so at a fleet that reports, four times an hour. Where no entity has targets, it sleeps. It writes
//! where somebody is forgotten, and nothing otherwise.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use upbeat_decide::rollout::{Rollout, ZOMBIE_AFTER};
use upbeat_model::{Millis, Mono};

use super::entity::Entity;
use super::{Busy, Inner};

/// It is looked so often at most, whatever is due. Nobody waits for a target to be forgotten.
const SWEEP_EVERY: Millis = Millis::seconds(60);

/// Where something could not be kept, it is tried again after so long.
const AGAIN_AFTER: Millis = Millis::seconds(60);

/// No target of it will be forgotten, as it has none.
pub(super) const NEVER: u64 = u64::MAX;

/// The earliest moment at which one of these targets may be forgotten.
fn due(rollout: &Rollout) -> u64 {
    let first = rollout.targets.values().map(|target| target.seen.max(rollout.woke)).min();
    first.map_or(NEVER, gone_at)
}

/// When somebody who was seen then is forgotten.
pub(super) fn gone_at(seen: Mono) -> u64 {
    (seen + ZOMBIE_AFTER).0 + 1
}

/// Looks at entities for as long as they are there.
pub(super) async fn sweeps(inner: Weak<Inner>, woken: Arc<Notify>) {
    loop {
        let next = match inner.upgrade() {
            Some(inner) => inner.next_sweep(),
            None => return,
        };
        let Some(at) = next else {
            woken.notified().await;
            continue;
        };
        tokio::select! {
            () = sleep_until(at) => {}
            () = woken.notified() => continue,
        }
        let Some(inner) = inner.upgrade() else { return };
        inner.sweep().await;
    }
}

impl Inner {
    /// When to look next; none: when it is said.
    fn next_sweep(&self) -> Option<Instant> {
        // Said before it is looked: whoever has a target from now on sees this, or is seen.
        self.sweeper_sleeps.store(true, Ordering::SeqCst);
        let entities = self.entities();
        let next = entities.all.values().map(|entity| entity.sweep_at.load(Ordering::SeqCst)).min();
        let next = next.filter(|next| *next != NEVER)?;
        self.sweeper_sleeps.store(false, Ordering::SeqCst);
        self.clock.instant(Mono(next.max(self.sweep_from.load(Ordering::SeqCst))))
    }

    pub(super) fn is_time_to_sweep(&self) -> bool {
        self.sweep_from.load(Ordering::SeqCst) <= self.clock.now().0
    }

    /// It has targets.
    pub(super) fn has_targets(&self, entity: &Entity, now: Mono) {
        let order = Ordering::SeqCst;
        let is_first = entity.sweep_at.compare_exchange(NEVER, gone_at(now), order, order).is_ok();
        if is_first && self.sweeper_sleeps.load(Ordering::SeqCst) {
            self.sweeper_woken.notify_one();
        }
    }

    /// Forgets who is due.
    pub(super) async fn sweep(self: Arc<Self>) {
        // Dropped after all else: who waits until nothing is under way finds nothing of this held.
        let _busy = Busy::new(&self);
        let this = self;
        let now = this.clock.now();
        let before = this.sweep_from.load(Ordering::SeqCst);
        let (next, order) = ((now + SWEEP_EVERY).0, Ordering::SeqCst);
        if before > now.0 || this.sweep_from.compare_exchange(before, next, order, order).is_err() {
            return;
        }
        let is_due = |entity: &&Arc<Entity>| entity.sweep_at.load(Ordering::SeqCst) <= now.0;
        let due: Vec<Arc<Entity>> = this.entities().all.values().filter(is_due).cloned().collect();
        for entity in due {
            this.sweep_one(&entity).await;
        }
    }

    async fn sweep_one(&self, entity: &Arc<Entity>) {
        let now = self.clock.now();
        // Whatever comes of it, it is not looked at again before.
        entity.sweep_at.store((now + AGAIN_AFTER).0, Ordering::SeqCst);
        let swept = async {
            let Some(mut held) = self.hold(entity).await? else { return Ok(false) };
            let now = self.clock.now();
            let report = move |rollout: &mut Rollout| (rollout.report([], now), due(rollout));
            let (gone, due) = self.think(&mut held, 0, report).await?;
            entity.sweep_at.store(due, Ordering::SeqCst);
            held.outbox.settle();
            // What the journal has by now, or did not take, waits for nobody's report.
            if !gone.is_empty() || held.outbox.is_behind() {
                self.keep(entity, &mut held).await?;
            }
            Ok::<_, super::RolloutError>(!gone.is_empty())
        };
        match swept.await {
            Ok(true) => self.unit_goes_on(&entity.id).await,
            Ok(false) => {}
            Err(error) => {
                entity.sweep_at.store((now + AGAIN_AFTER).0, Ordering::SeqCst);
                tracing::warn!(entity = %entity.id, %error, "targets that are not reported any more could not be forgotten");
            }
        }
    }
}
