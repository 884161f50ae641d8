//! What there is to be seen from outside: numbers for Prometheus, and what slots use.
//!
//! Laws: whoever looks costs the agent nothing, as it counts whether somebody looks or not. What slots
//! use is looked up at most once a second, for all who ask; and so is the page of numbers made.

mod page;
mod rollouts;
mod sampler;
pub mod table;
mod write;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::Mutex;
use tokio::time::Instant;
use upbeat_agent::Meter;
use upbeat_api::{Problem, ProblemKind};
use upbeat_control::Control;
use upbeat_drivers::clock;
use upbeat_drivers::docker::Engine;
use upbeat_drivers::process::ProcessDriver;
use upbeat_drivers::usage::{self, Usages};
use upbeat_model::{AppName, SlotStats, SlotStatus, SlotUsage, Stats, Wall};
use upbeat_server::BoxStream;

use super::rollouts::LocalRollouts;
use sampler::{Sample, Sampler};
use write::Numbers;

/// A page that is not older is given to the next who asks: ten who look cost as much as one.
const PAGE_FRESH: Duration = Duration::from_secs(1);

/// Between two looks of somebody who watches: as often as a number changes that a person can read.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// A cheap handle; clones share it.
#[derive(Clone)]
pub(super) struct Seeing {
    inner: Arc<Inner>,
}

struct Inner {
    control: Control,
    rollouts: LocalRollouts,
    meter: Arc<Meter>,
    sampler: Sampler,
    started_at: Wall,
    page: Mutex<Option<(Instant, Bytes)>>,
}

impl Seeing {
    pub(super) fn new(
        control: Control,
        rollouts: LocalRollouts,
        (driver, engine): (&ProcessDriver, &Engine),
        meter: Arc<Meter>,
        started_at: Wall,
    ) -> Self {
        let sampler = Sampler::new(Usages::new(driver.clone()), engine.clone());
        let page = Mutex::new(None);
        Self { inner: Arc::new(Inner { control, rollouts, meter, sampler, started_at, page }) }
    }

    /// All numbers, in Prometheus' text format. Errors: they could not be written.
    pub(super) async fn metrics(&self) -> Result<Bytes, Problem> {
        // Who comes meanwhile waits here, and is given the same.
        let mut page = self.inner.page.lock().await;
        if let Some((_, page)) = page.as_ref().filter(|(made, _)| made.elapsed() < PAGE_FRESH) {
            return Ok(page.clone());
        }
        let statuses = self.inner.control.statuses();
        let sample = self.inner.sampler.sample(&statuses).await;
        let rollouts = self.inner.rollouts.numbers().await;
        let numbers = Numbers {
            statuses,
            rollouts,
            sample,
            meter: self.inner.meter.clone(),
            started_at: self.inner.started_at,
            up_since: self.inner.control.up_since(),
            now: clock::mono(),
            own: usage::own(),
            apps: self.inner.control.apps().len(),
            connections: upbeat_server::open_connections(),
            log_dropped: crate::logging::dropped(),
            events_dropped: self.inner.control.events().dropped(),
        };
        // What could not be made is not kept: whoever asks next has another try.
        let made = written(move || numbers.write()).await?;
        *page = Some((Instant::now(), made.clone()));
        tokio::spawn(forget(Arc::downgrade(&self.inner)));
        Ok(made)
    }

    /// What each slot of an app uses. `None`: the app is gone.
    pub(super) async fn stats(&self, app: AppName) -> Option<Stats> {
        let first = self.look(&app, None).await?.1;
        tokio::time::sleep(WATCH_EVERY).await;
        Some(self.look(&app, Some(&first)).await?.0)
    }

    /// What each slot of an app uses, again and again, until the app is gone.
    pub(super) fn watch_stats(&self, app: AppName) -> BoxStream<Stats> {
        let begun = (self.clone(), app, None::<Arc<Sample>>);
        Box::pin(stream::unfold(begun, async |(seeing, app, before)| {
            if before.is_some() {
                tokio::time::sleep(WATCH_EVERY).await;
            }
            let (stats, sample) = seeing.look(&app, before.as_deref()).await?;
            Some((stats, (seeing, app, Some(sample))))
        }))
    }

    async fn look(&self, app: &AppName, before: Option<&Sample>) -> Option<(Stats, Arc<Sample>)> {
        if !self.inner.control.has(app) {
            return None;
        }
        let statuses = self.inner.control.statuses();
        let sample = self.inner.sampler.sample(&statuses).await;
        let of_app = statuses.iter().filter(|status| status.slot.app == *app);
        let slots = of_app.map(|status| stats_of(status, &sample, before)).collect();
        Some((Stats { at: clock::wall(), slots }, sample))
    }
}

/// Thousands of slots take milliseconds, in which others want an answer. Errors: there is a bug in it.
async fn written(write: impl FnOnce() -> String + Send + 'static) -> Result<Bytes, Problem> {
    match tokio::task::spawn_blocking(write).await {
        Ok(text) => Ok(Bytes::from(text)),
        Err(error) => {
            tracing::error!(%error, "the page of numbers could not be made");
            let message = "the numbers could not be written: there is a bug in Upbeat";
            Err(Problem::new(ProblemKind::Internal, message)
                .with_hint("the daemon's log tells more; please report it"))
        }
    }
}

/// Nobody looks: what was made for those who did is of no more use.
async fn forget(inner: std::sync::Weak<Inner>) {
    tokio::time::sleep(PAGE_FRESH).await;
    let Some(inner) = inner.upgrade() else { return };
    let mut page = inner.page.lock().await;
    page.take_if(|(made, _)| made.elapsed() >= PAGE_FRESH);
}

fn stats_of(status: &SlotStatus, sample: &Sample, before: Option<&Sample>) -> SlotStats {
    let used = sample.of(status);
    let usage = used.map(|used| SlotUsage {
        cpu_percent: before.and_then(|before| used.cpu_percent_since(before.of(status)?)),
        cpu_ms: used.usage.cpu_ms,
        memory_bytes: used.usage.memory_bytes,
        descriptors: used.usage.descriptors,
        processes: used.usage.processes,
    });
    SlotStats {
        slot: status.slot.clone(),
        phase: status.phase,
        attempt: status.attempt,
        pid: status.pid,
        started_at: status.started_at.filter(|_| status.phase.is_alive()),
        restarts: status.restarts,
        usage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_page_that_cannot_be_made_is_an_error_with_words() {
        let problem = written(|| panic!("a bug")).await.unwrap_err();
        assert_eq!((problem.kind, problem.kind.status()), (ProblemKind::Internal, 500));
        assert!(problem.message.contains("could not be written"), "{problem:?}");
        assert_eq!(written(|| "up 1\n".to_owned()).await.unwrap(), "up 1\n");
    }
}
