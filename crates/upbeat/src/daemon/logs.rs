//! The output of an app as one stream.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::time::Duration;

use futures_util::stream;
use tokio::sync::watch;
use tokio::time::Instant;
use upbeat_control::Control;
use upbeat_drivers::logs::{Merge, Reader};
use upbeat_drivers::process::ProcessDriver;
use upbeat_drivers::watch::{Watcher, Watches};
use upbeat_model::{AppName, Attempt, LogLine, SlotId, SlotStatus, Wall};
use upbeat_server::{Answer, BoxStream, LogQuery};

use super::refusals::unreadable;

/// New slots are not looked for more often: what they print meanwhile is read from its beginning.
const PACE: Duration = Duration::from_millis(50);

/// Where lines come from.
pub(super) struct Sources {
    pub(super) control: Control,
    pub(super) driver: ProcessDriver,
    pub(super) watches: Watches,
}

struct Follower {
    sources: Sources,
    app: AppName,
    query: LogQuery,
    changes: watch::Receiver<u64>,
    merge: Merge,
    slots: BTreeMap<SlotId, Life>,
    watcher: Watcher,
    looked_at: Instant,
    page: VecDeque<LogLine>,
}

/// What tells a slot from one of the same name that was there before.
#[derive(Clone, Copy)]
struct Life {
    attempt: Attempt,
    started_at: Option<Wall>,
}

impl Life {
    fn of(status: &SlotStatus) -> Self {
        Self { attempt: status.attempt, started_at: status.started_at }
    }

    /// What was known of the same attempt stays known while it is not told: between two lives of one
    /// number a slot is seen without a start.
    fn after(self, before: Self) -> Self {
        let same = before.attempt == self.attempt;
        Self { started_at: self.started_at.or(before.started_at.filter(|_| same)), ..self }
    }

    /// Attempts only grow, until the slot is deleted.
    fn goes_on_as(self, later: Self) -> bool {
        let same_start = match (self.started_at, later.started_at) {
            (Some(before), Some(now)) => before == now,
            _ => true,
        };
        later.attempt > self.attempt || (later.attempt == self.attempt && same_start)
    }
}

/// Lines of an app, by time; with `follow` it goes on with new lines, and new slots, until the app
/// is gone.
pub(super) fn stream(
    sources: Sources,
    app: AppName,
    query: LogQuery,
) -> io::Result<BoxStream<Answer<LogLine>>> {
    let changes = sources.control.changes();
    let watcher = sources.watches.watcher();
    let mut follower = Follower {
        sources,
        app,
        query,
        changes,
        merge: Merge::of([]),
        slots: BTreeMap::new(),
        watcher,
        looked_at: Instant::now(),
        page: VecDeque::new(),
    };
    follower.find_slots(true)?;
    Ok(Box::pin(stream::unfold(follower, |mut follower| async move {
        let line = follower.next().await.transpose()?;
        Some((line.map_err(|error| unreadable("the logs", &error)), follower))
    })))
}

impl Follower {
    async fn next(&mut self) -> io::Result<Option<LogLine>> {
        loop {
            if let Some(line) = self.page.pop_front() {
                return Ok(Some(line));
            }
            let page = self.merge.read();
            self.page = page.inspect_err(|error| tracing::warn!(%error, "a log cannot be read"))?.into();
            if !self.page.is_empty() {
                continue;
            }
            if !self.query.follow || self.wait().await?.is_none() {
                return Ok(None);
            }
        }
    }

    /// Until there may be more: a file or the set of slots has changed. `None`: the app is gone.
    async fn wait(&mut self) -> io::Result<Option<()>> {
        let app_changed = async {
            tokio::time::sleep_until(self.looked_at + PACE).await;
            self.changes.changed().await
        };
        tokio::select! {
            () = self.watcher.changed() => {}
            changed = app_changed => {
                if changed.is_err() {
                    return Ok(None);
                }
                self.looked_at = Instant::now();
                let found = self.find_slots(false);
                return found.inspect_err(|error| tracing::warn!(%error, "a log cannot be followed"));
            }
        }
        Ok(Some(()))
    }

    /// Takes up slots that have appeared, and lets go of those that are gone. `None` when the app
    /// is. Later ones are read from their beginning.
    fn find_slots(&mut self, at_first: bool) -> io::Result<Option<()>> {
        let Ok(app) = self.sources.control.app(&self.app) else { return Ok(None) };
        let asked =
            |slot: &SlotId| self.query.services.is_empty() || self.query.services.contains(&slot.service);
        let mut before = std::mem::take(&mut self.slots);
        for status in app.slots.iter().filter(|status| asked(&status.slot)) {
            let (slot, mut life) = (&status.slot, Life::of(status));
            match before.remove(slot) {
                Some(known) if known.goes_on_as(life) => life = life.after(known),
                known => {
                    let dir = self.sources.driver.log_dir(slot);
                    if known.is_some() {
                        self.merge.retire(slot);
                    }
                    if !dir.is_dir() {
                        continue;
                    }
                    // Before reading, so that what comes while we read wakes us afterwards.
                    if self.query.follow {
                        self.watcher.add(&dir)?;
                    }
                    let reader = match self.query.tail.filter(|_| at_first) {
                        Some(count) => Reader::tail(&dir, count)?,
                        None => Reader::from(&dir, 1),
                    };
                    // A service that prints without end must not keep a look at its log from ending.
                    let reader = if self.query.follow { reader } else { reader.until_now()? };
                    self.merge.add(slot.clone(), reader);
                }
            }
            self.slots.insert(slot.clone(), life);
        }
        for slot in before.keys() {
            self.merge.retire(slot);
        }
        Ok(Some(()))
    }
}

/// The last lines of one slot, as text. None when they cannot be read.
pub(super) async fn last_lines(dir: &Path, count: u64) -> Vec<String> {
    let Ok(mut reader) = Reader::tail(dir, count).and_then(Reader::until_now) else { return Vec::new() };
    let mut lines = VecDeque::new();
    while let Ok(page) = reader.read()
        && !page.is_empty()
    {
        for line in page {
            /// Shown to people in an explanation: the beginning of a long line is enough.
            const SHOWN: usize = 500;
            lines.push_back(String::from_utf8_lossy(&line.text).chars().take(SHOWN).collect());
            if lines.len() as u64 > count {
                lines.pop_front();
            }
        }
    }
    lines.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(attempt: u64, started_at: Option<i64>) -> Life {
        Life { attempt: Attempt(attempt), started_at: started_at.map(Wall) }
    }

    /// Whether all these are looks at one life of a slot.
    fn is_one(looks: &[Life]) -> bool {
        let mut seen = looks[0];
        looks[1..].iter().all(|look| {
            let goes_on = seen.goes_on_as(*look);
            seen = look.after(seen);
            goes_on
        })
    }

    #[test]
    fn a_slot_that_was_made_again_under_the_same_number_is_another() {
        assert!(is_one(&[life(1, None), life(1, Some(5)), life(1, None), life(1, Some(5))]));
        assert!(is_one(&[life(1, Some(5)), life(2, None), life(2, Some(9))]));
        assert!(!is_one(&[life(1, Some(5)), life(1, None), life(1, Some(9))]));
        assert!(!is_one(&[life(2, Some(5)), life(1, None)]));
    }
}
