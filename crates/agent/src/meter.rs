//! Numbers about what the agent does: counted where it happens, read whenever somebody looks.
//!
//! Laws: to count never waits for a reader and allocates nothing, but for a slot or a probe that was
//! never met before. A slot's numbers go with the slot, so that there are never more of them than slots.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use upbeat_model::project::Reaction;
use upbeat_model::{ProbeName, SlotId};

/// Upper bounds for what takes from a moment to minutes: a start. In seconds.
const OF_STARTS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Upper bounds for a question and its answer. In seconds.
const OF_ANSWERS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Upper bounds for what the agent itself takes: a commit, a turn in a queue. In seconds.
const OF_MOMENTS: &[f64] = &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0];

/// Probes of one slot that are counted: a file has few of them, and edits may bring others.
const PROBES_MAX: usize = 64;

/// How often something took how long.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One for each bound, and one for what is above them all.
    counts: Box<[AtomicU64]>,
    micros: AtomicU64,
}

/// What a [`Histogram`] has counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Counted {
    /// Upper bounds, in seconds, and how many took no longer; all of them are in `count`.
    pub up_to: Vec<(f64, u64)>,
    /// All together, in seconds.
    pub sum: f64,
    /// How many.
    pub count: u64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        let counts = bounds.iter().map(|_| AtomicU64::new(0)).chain([AtomicU64::new(0)]).collect();
        Self { bounds, counts, micros: AtomicU64::new(0) }
    }

    /// Something took so long.
    pub(crate) fn took(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = self.bounds.partition_point(|bound| *bound < seconds);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn counted(&self) -> Counted {
        let mut count = 0;
        let mut below = |bucket: &AtomicU64| {
            count += bucket.load(Ordering::Relaxed);
            count
        };
        let up_to = self.bounds.iter().zip(&self.counts).map(|(bound, n)| (*bound, below(n))).collect();
        let count = below(&self.counts[self.bounds.len()]);
        Counted { up_to, sum: self.micros.load(Ordering::Relaxed) as f64 / 1e6, count }
    }
}

/// Answers of one probe of one slot.
#[derive(Debug)]
pub struct ProbeMeter {
    /// How long it took until it was told yes.
    pub passed: Histogram,
    /// How long it took until it was told no, or nothing.
    pub failed: Histogram,
}

/// Numbers of one slot.
#[derive(Debug)]
pub struct SlotMeter {
    /// Starts that were ordered.
    pub starts: AtomicU64,
    /// Starts that came to an end before the slot was ready, or that could not be made.
    pub failed_starts: AtomicU64,
    /// Starts of those that nobody asked for: after an end.
    pub restarts: AtomicU64,
    /// How often it was left to rest before it was started again.
    pub back_offs: AtomicU64,
    /// From the decision to start until the program was executed.
    pub executed: Histogram,
    /// From the decision to start until it was ready.
    pub ready: Histogram,
    probes: Mutex<Vec<(ProbeName, Arc<ProbeMeter>)>>,
    remedies: Mutex<BTreeMap<(ProbeName, &'static str), u64>>,
}

impl SlotMeter {
    fn new() -> Self {
        Self {
            starts: AtomicU64::new(0),
            failed_starts: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            back_offs: AtomicU64::new(0),
            executed: Histogram::new(OF_STARTS),
            ready: Histogram::new(OF_STARTS),
            probes: Mutex::default(),
            remedies: Mutex::default(),
        }
    }

    /// The numbers of a probe. `None`: there are too many probes.
    pub(crate) fn probe(&self, name: &ProbeName) -> Option<Arc<ProbeMeter>> {
        let mut probes = lock(&self.probes);
        if let Some((_, meter)) = probes.iter().find(|(known, _)| known == name) {
            return Some(meter.clone());
        }
        let new = || ProbeMeter { passed: Histogram::new(OF_ANSWERS), failed: Histogram::new(OF_ANSWERS) };
        (probes.len() < PROBES_MAX).then(|| {
            let meter = Arc::new(new());
            probes.push((name.clone(), meter.clone()));
            meter
        })
    }

    /// Something was done about a failing probe.
    pub(crate) fn remedy(&self, probe: &ProbeName, action: &Reaction) {
        let mut remedies = lock(&self.remedies);
        if remedies.len() < PROBES_MAX {
            *remedies.entry((probe.clone(), word(action))).or_default() += 1;
        }
    }

    /// Its probes that were asked.
    pub fn probes(&self) -> Vec<(ProbeName, Arc<ProbeMeter>)> {
        lock(&self.probes).clone()
    }

    /// What was done about which failing probe, and how often.
    pub fn remedies(&self) -> Vec<(ProbeName, &'static str, u64)> {
        lock(&self.remedies).iter().map(|((probe, action), n)| (probe.clone(), *action, *n)).collect()
    }
}

/// As a file calls it.
fn word(action: &Reaction) -> &'static str {
    match action {
        Reaction::Ignore => "ignore",
        Reaction::Restart => "restart",
        Reaction::Stop => "stop",
        Reaction::Signal(_) => "signal",
        Reaction::Exec(_) => "exec",
    }
}

/// All numbers of one agent.
#[derive(Debug)]
pub struct Meter {
    /// Turns of its loop.
    pub turns: AtomicU64,
    /// What it was told: ends, answers, news of every kind.
    pub inputs: AtomicU64,
    /// Questions that were asked.
    pub probes: AtomicU64,
    /// How long a question waited for its turn to be asked.
    pub probe_turns: Histogram,
    /// How long a start waited for its turn.
    pub start_turns: Histogram,
    /// How long it took to keep a decision.
    pub commits: Histogram,
    slots: RwLock<BTreeMap<SlotId, Arc<SlotMeter>>>,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            turns: AtomicU64::new(0),
            inputs: AtomicU64::new(0),
            probes: AtomicU64::new(0),
            probe_turns: Histogram::new(OF_MOMENTS),
            start_turns: Histogram::new(OF_MOMENTS),
            commits: Histogram::new(OF_MOMENTS),
            slots: RwLock::default(),
        }
    }
}

impl Meter {
    /// The numbers of a slot, from its first on.
    pub(crate) fn slot(&self, slot: &SlotId) -> Arc<SlotMeter> {
        let known = self.slots.read().unwrap_or_else(PoisonError::into_inner).get(slot).cloned();
        known.unwrap_or_else(|| {
            let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
            slots.entry(slot.clone()).or_insert_with(|| Arc::new(SlotMeter::new())).clone()
        })
    }

    /// The slot has gone.
    pub(crate) fn forget(&self, slot: &SlotId) {
        self.slots.write().unwrap_or_else(PoisonError::into_inner).remove(slot);
    }

    /// All slots, in the order of names.
    pub fn slots(&self) -> Vec<(SlotId, Arc<SlotMeter>)> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.iter().map(|(slot, meter)| (slot.clone(), meter.clone())).collect()
    }
}

/// One more.
pub(crate) fn count(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one insertion: nothing is half-done after a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_where_it_belongs() {
        let histogram = Histogram::new(OF_MOMENTS);
        for micros in [0, 100, 101, 1_000_000, 1_000_001] {
            histogram.took(Duration::from_micros(micros));
        }
        let Counted { up_to, sum, count } = histogram.counted();
        assert_eq!((up_to[0], up_to[1], up_to.last()), ((0.0001, 2), (0.00025, 3), Some(&(1.0, 4))));
        assert_eq!((sum, count), (2.000_202, 5));
    }

    #[test]
    fn the_numbers_of_a_slot_go_with_it_and_its_probes_are_bounded() {
        let meter = Meter::default();
        let slot: SlotId = "shop/web/1".parse().unwrap();
        count(&meter.slot(&slot).starts, 1);
        let of_slot = meter.slot(&slot);
        assert_eq!(of_slot.starts.load(Ordering::Relaxed), 1);
        let name = |n: usize| ProbeName::new(format!("p{n}")).unwrap();
        let met = (0..2 * PROBES_MAX).filter(|n| of_slot.probe(&name(*n)).is_some()).count();
        assert_eq!((met, of_slot.probes().len()), (PROBES_MAX, PROBES_MAX));
        of_slot.remedy(&name(1), &Reaction::Restart);
        of_slot.remedy(&name(1), &Reaction::Restart);
        assert_eq!(of_slot.remedies(), [(name(1), "restart", 2)]);
        meter.forget(&slot);
        assert!(meter.slots().is_empty());
    }
}
