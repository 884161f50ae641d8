//! From what is known to the page of numbers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use upbeat_agent::{Histogram, Meter, SlotMeter};
use upbeat_control::rollouts::RolloutNumbers;
use upbeat_drivers::usage::OwnUsage;
use upbeat_model::{Exit, Mono, Phase, SlotId, SlotStatus, Wall};

use super::page::Page;
use super::rollouts;
use super::sampler::{Sample, Used};
use super::table::{self as t, Family};

/// All there is to be in, in the order of a life.
const STATES: [Phase; 14] = [
    Phase::Absent,
    Phase::Stopped,
    Phase::Waiting,
    Phase::DependencyFailed,
    Phase::Starting,
    Phase::Running,
    Phase::Healthy,
    Phase::Unhealthy,
    Phase::NeedsAttention,
    Phase::BackingOff,
    Phase::CrashLooping,
    Phase::Stopping,
    Phase::Completed,
    Phase::Failed,
];

/// Everything that goes into a page.
pub(super) struct Numbers {
    pub(super) statuses: Vec<SlotStatus>,
    pub(super) rollouts: Vec<RolloutNumbers>,
    pub(super) sample: Arc<Sample>,
    pub(super) meter: Arc<Meter>,
    pub(super) started_at: Wall,
    /// Since when copies are up that are, on the boot clock.
    pub(super) up_since: BTreeMap<SlotId, Mono>,
    /// On that clock: the one on the wall steps.
    pub(super) now: Mono,
    pub(super) own: Option<OwnUsage>,
    pub(super) apps: usize,
    pub(super) connections: usize,
    pub(super) log_dropped: u64,
    pub(super) events_dropped: u64,
}

/// One slot, and what its labels are.
struct Row<'a> {
    labels: String,
    status: &'a SlotStatus,
    meter: Option<Arc<SlotMeter>>,
    used: Option<&'a Used>,
}

/// One of a slot's numbers.
type Of<T> = fn(&SlotMeter) -> &T;

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1e3
}

impl Numbers {
    pub(super) fn write(&self) -> String {
        let mut meters: BTreeMap<SlotId, Arc<SlotMeter>> = self.meter.slots().into_iter().collect();
        let rows = self.statuses.iter().map(|status| {
            let slot = &status.slot;
            // Names need no escape: their types see to that.
            let labels = format!("app=\"{}\",service=\"{}\",slot=\"{}\"", slot.app, slot.service, slot.index);
            Row { labels, status, meter: meters.remove(slot), used: self.sample.of(status) }
        });
        let rows: Vec<Row<'_>> = rows.collect();
        let mut page = Page::default();
        self.states(&mut page, &rows);
        starts(&mut page, &rows);
        probes(&mut page, &rows);
        usage(&mut page, &rows);
        rollouts::write(&mut page, &self.rollouts);
        self.agent(&mut page);
        self.process(&mut page);
        page.text()
    }

    fn states(&self, page: &mut Page, rows: &[Row<'_>]) {
        page.family(t::STATE);
        for Row { labels, status, .. } in rows {
            for phase in STATES {
                let labels = format!("{labels},state=\"{}\"", phase.key());
                page.number(t::STATE, &labels, u8::from(phase == status.phase));
            }
        }
        let uptime = |row: &Row<'_>| {
            let since = self.up_since.get(&row.status.slot).filter(|_| row.status.phase.is_alive())?;
            Some(seconds(self.now.since(*since).0))
        };
        each(page, t::UPTIME, rows, uptime);
        each(page, t::EXIT_CODE, rows, |row| match row.status.exit {
            Some(Exit::Code(code)) => Some(code),
            _ => None,
        });
        each(page, t::EXIT_SIGNAL, rows, |row| match row.status.exit {
            Some(Exit::Signal(signal)) => Some(signal),
            _ => None,
        });
    }

    fn agent(&self, page: &mut Page) {
        page.family(t::BUILD);
        page.number(t::BUILD, concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""), 1);
        let meter = &self.meter;
        one(page, t::APPS, self.apps);
        one(page, t::TURNS, count(&meter.turns));
        one(page, t::INPUTS, count(&meter.inputs));
        one(page, t::PROBES, count(&meter.probes));
        for (family, histogram) in [
            (t::COMMITS, &meter.commits),
            (t::START_TURNS, &meter.start_turns),
            (t::PROBE_TURNS, &meter.probe_turns),
        ] {
            page.family(family);
            page.histogram(family, "", &histogram.counted());
        }
        one(page, t::CONNECTIONS, self.connections);
        one(page, t::LOG_DROPPED, self.log_dropped);
        one(page, t::EVENTS_DROPPED, self.events_dropped);
    }

    fn process(&self, page: &mut Page) {
        one(page, t::OWN_START, self.started_at.0 as f64 / 1e3);
        let Some(own) = self.own else { return };
        one(page, t::OWN_CPU, seconds(own.cpu_ms));
        one(page, t::OWN_MEMORY, own.memory_bytes);
        one(page, t::OWN_FILES, own.descriptors);
        if let Some(most) = own.descriptors_max {
            one(page, t::OWN_FILES_MAX, most);
        }
    }
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn one(page: &mut Page, family: Family, number: impl std::fmt::Display) {
    page.family(family);
    page.number(family, "", number);
}

/// A number of each slot that has one.
fn each<N: std::fmt::Display>(
    page: &mut Page,
    family: Family,
    rows: &[Row<'_>],
    number: impl Fn(&Row<'_>) -> Option<N>,
) {
    page.family(family);
    for row in rows {
        if let Some(number) = number(row) {
            page.number(family, &row.labels, number);
        }
    }
}

fn starts(page: &mut Page, rows: &[Row<'_>]) {
    let of = |row: &Row<'_>, counter: Of<AtomicU64>| row.meter.as_deref().map(|m| count(counter(m)));
    each(page, t::STARTS, rows, |row| of(row, |meter| &meter.starts));
    each(page, t::FAILED_STARTS, rows, |row| of(row, |meter| &meter.failed_starts));
    each(page, t::RESTARTS, rows, |row| of(row, |meter| &meter.restarts));
    each(page, t::BACK_OFFS, rows, |row| of(row, |meter| &meter.back_offs));
    let histograms: [(Family, Of<Histogram>); 2] =
        [(t::EXECUTED, |meter| &meter.executed), (t::READY, |meter| &meter.ready)];
    for (family, histogram) in histograms {
        page.family(family);
        for Row { labels, meter, .. } in rows {
            let Some(counted) = meter.as_deref().map(|meter| histogram(meter).counted()) else { continue };
            page.histogram(family, labels, &counted);
        }
    }
}

fn probes(page: &mut Page, rows: &[Row<'_>]) {
    page.family(t::REMEDIES);
    for Row { labels, meter, .. } in rows {
        for (probe, action, times) in meter.iter().flat_map(|meter| meter.remedies()) {
            let labels = format!("{labels},probe=\"{probe}\",action=\"{action}\"");
            page.number(t::REMEDIES, &labels, times);
        }
    }
    page.family(t::PROBE_PASSING);
    for Row { labels, status, .. } in rows {
        for (probe, stands) in &status.probes {
            if let Some(passing) = stands.passing {
                page.number(t::PROBE_PASSING, &format!("{labels},probe=\"{probe}\""), u8::from(passing));
            }
        }
    }
    page.family(t::PROBE_TIME);
    for Row { labels, meter, .. } in rows {
        for (probe, meter) in meter.iter().flat_map(|meter| meter.probes()) {
            for (outcome, histogram) in [("pass", &meter.passed), ("fail", &meter.failed)] {
                let counted = histogram.counted();
                // Most probes never fail, and a thousand histograms of nothing are a megabyte.
                if counted.count > 0 {
                    let labels = format!("{labels},probe=\"{probe}\",outcome=\"{outcome}\"");
                    page.histogram(t::PROBE_TIME, &labels, &counted);
                }
            }
        }
    }
}

fn usage(page: &mut Page, rows: &[Row<'_>]) {
    each(page, t::CPU, rows, |row| row.used.map(|used| seconds(used.usage.cpu_ms)));
    each(page, t::MEMORY, rows, |row| row.used.map(|used| used.usage.memory_bytes));
    each(page, t::OPEN_FILES, rows, |row| row.used.and_then(|used| used.usage.descriptors));
    each(page, t::PROCESSES, rows, |row| row.used.map(|used| used.usage.processes));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::examples::{NOW, status};

    fn numbers(statuses: Vec<SlotStatus>) -> Numbers {
        Numbers {
            statuses,
            rollouts: Vec::new(),
            sample: Arc::default(),
            meter: Arc::default(),
            started_at: Wall(NOW.0 - 1_500),
            up_since: BTreeMap::from([
                ("shop/web/1".parse().unwrap(), Mono(1_000)),
                ("shop/db/1".parse().unwrap(), Mono(1)),
            ]),
            now: Mono(203_500),
            own: upbeat_drivers::usage::own(),
            apps: 1,
            connections: 2,
            log_dropped: 3,
            events_dropped: 4,
        }
    }

    #[test]
    fn each_slot_is_in_one_state_and_none_that_is_gone_is_told() {
        let failed = SlotStatus { exit: Some(Exit::Code(3)), ..status("db-1", Phase::Failed) };
        let text = numbers(vec![failed, status("web-1", Phase::Healthy)]).write();
        let has = |line: &str| text.lines().any(|l| l == line);
        let labels = |service: &str| format!("app=\"shop\",service=\"{service}\",slot=\"1\"");
        for service in ["db", "web"] {
            let states = text.lines().filter(|l| l.contains(&format!("_state{{{}", labels(service))));
            assert_eq!(states.filter(|line| line.ends_with(" 1")).count(), 1);
        }
        assert!(has(&format!("upbeat_slot_state{{{},state=\"failed\"}} 1", labels("db"))), "{text}");
        assert!(has(&format!("upbeat_slot_uptime_seconds{{{}}} 202.5", labels("web"))), "{text}");
        assert!(!text.contains(&format!("upbeat_slot_uptime_seconds{{{}}}", labels("db"))), "it has ended");
        assert!(has(&format!("upbeat_slot_last_exit_code{{{}}} 3", labels("db"))), "{text}");
        assert!(!text.contains("cache"));
        assert!(numbers(Vec::new()).write().lines().all(|line| !line.starts_with("upbeat_slot_")));
    }

    #[test]
    fn every_family_is_on_the_page_once_and_nothing_else_is() {
        let text = numbers(vec![status("web-1", Phase::Running)]).write();
        let told: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let mut told: Vec<&str> = told.iter().filter_map(|line| line.split(' ').next()).collect();
        let mut known: Vec<&str> = t::ALL.iter().map(|family| family.name).collect();
        told.sort_unstable();
        known.sort_unstable();
        assert_eq!(told, known);
        for phase in STATES {
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.key());
        }
    }
}
