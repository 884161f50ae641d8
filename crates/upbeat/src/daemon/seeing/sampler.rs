//! What all slots use, looked up together and shared by all who ask.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};
use upbeat_drivers::docker::Engine;
use upbeat_drivers::usage::{Sharing, Usage, Usages};
use upbeat_model::{Attempt, SlotId, SlotStatus};

/// A sample that is not older serves whoever asks next. A little less than the pace of those who watch,
/// so that each look of theirs is a new one.
const FRESH: Duration = Duration::from_millis(900);

/// Looks under way at once: each takes a thread for some ten microseconds.
const LOOKS: usize = 8;

/// A slot that does not answer within this is left out: the kernel holds its memory locked, and whoever
/// looks must not wait for that.
const LOOK_MAX: Duration = Duration::from_millis(500);

/// Then those that were not looked at yet are left out: a page of numbers that comes too late is thrown
/// away by who asked for it.
const SAMPLE_MAX: Duration = Duration::from_secs(3);

/// What one slot used, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    attempt: Attempt,
    at: Instant,
    pub(super) usage: Usage,
}

impl Used {
    /// Of one processor, since an earlier look. `None`: that was another attempt, or the same look.
    pub(super) fn cpu_percent_since(&self, before: &Self) -> Option<f64> {
        let time = self.at.checked_duration_since(before.at)?.as_secs_f64();
        if self.attempt != before.attempt || time <= 0.0 {
            return None;
        }
        let used = self.usage.cpu_ms.saturating_sub(before.usage.cpu_ms) as f64 / 1e3;
        // What is told of ticks of ten milliseconds has no more digits.
        Some((used / time * 1e3).round() / 10.0)
    }
}

/// What all slots used at about one moment.
#[derive(Debug, Default)]
pub(super) struct Sample {
    slots: HashMap<SlotId, Used>,
}

impl Sample {
    /// What the copy used that is there.
    pub(super) fn of(&self, status: &SlotStatus) -> Option<&Used> {
        self.slots.get(&status.slot).filter(|used| used.attempt == status.attempt)
    }
}

/// Looks.
pub(super) struct Sampler {
    usages: Usages,
    engine: Engine,
    last: Mutex<Option<(Instant, Arc<Sample>)>>,
}

impl Sampler {
    pub(super) fn new(usages: Usages, engine: Engine) -> Self {
        Self { usages, engine, last: Mutex::new(None) }
    }

    /// What these slots use, as far as they run.
    pub(super) async fn sample(&self, statuses: &[SlotStatus]) -> Arc<Sample> {
        // Who comes meanwhile waits here, and is given the same.
        let mut last = self.last.lock().await;
        if let Some((_, sample)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return sample.clone();
        }
        let looks = in_order(statuses).into_iter().map(|(slot, attempt, is_container)| async move {
            let usage = match is_container {
                // It has bounds of its own.
                true => self.engine.usage(&slot, attempt).await.ok()??,
                false => {
                    let look = self.usages.of(&slot, attempt, Sharing::Repeated);
                    timeout(LOOK_MAX, look).await.ok()?.ok()??
                }
            };
            Some((slot, Used { attempt, at: Instant::now(), usage }))
        });
        let until = Instant::now() + SAMPLE_MAX;
        let mut looks = std::pin::pin!(stream::iter(looks).buffer_unordered(LOOKS));
        let mut slots = HashMap::new();
        while let Ok(Some(used)) = timeout_at(until, looks.next()).await {
            slots.extend(used);
        }
        let sample = Arc::new(Sample { slots });
        *last = Some((Instant::now(), sample.clone()));
        sample
    }
}

/// Whom to look at, and whether that is a container. Processes are first: an engine that hangs does not keep anybody
/// from looking at those, which takes no time.
fn in_order(statuses: &[SlotStatus]) -> Vec<(SlotId, Attempt, bool)> {
    let running = statuses.iter().filter(|status| status.phase.is_alive());
    let one = |status: &SlotStatus| (status.slot.clone(), status.attempt, status.container.is_some());
    let mut all: Vec<_> = running.map(one).collect();
    all.sort_by_key(|(_, _, is_container)| *is_container);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::examples::status;
    use upbeat_model::Phase;

    #[test]
    fn processes_are_looked_at_before_containers() {
        let container =
            |short: &str| SlotStatus { container: Some("c".to_owned()), ..status(short, Phase::Running) };
        let all = [
            container("a-1"),
            status("b-1", Phase::Running),
            container("c-1"),
            status("d-1", Phase::Healthy),
        ];
        let order: Vec<String> = in_order(&all).iter().map(|(slot, ..)| slot.short()).collect();
        assert_eq!(order, ["b-1", "d-1", "a-1", "c-1"]);
        assert_eq!(in_order(&[status("e-1", Phase::Stopped)]), []);
    }

    #[tokio::test]
    async fn a_processor_is_a_hundred_percent_and_another_attempt_is_another_story() {
        let now = Instant::now();
        let used = |attempt, ms, cpu_ms| Used {
            attempt: Attempt(attempt),
            at: now + Duration::from_millis(ms),
            usage: Usage { cpu_ms, ..Usage::default() },
        };
        assert_eq!(used(1, 1_000, 1_500).cpu_percent_since(&used(1, 0, 500)), Some(100.0));
        assert_eq!(used(1, 3_000, 10).cpu_percent_since(&used(1, 0, 0)), Some(0.3));
        assert_eq!(used(2, 1_000, 10).cpu_percent_since(&used(1, 0, 0)), None);
        assert_eq!(used(1, 0, 10).cpu_percent_since(&used(1, 0, 10)), None);
    }
}
