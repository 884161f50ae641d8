//! The output of an app as one stream.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use futures_util::stream;
use tokio::sync::watch;
use upbeat_control::Control;
use upbeat_drivers::logs::{Merge, Reader, Watcher};
use upbeat_drivers::process::ProcessDriver;
use upbeat_model::{AppName, LogLine, SlotId};
use upbeat_server::{BoxStream, LogQuery};

/// Lines read at once.
const PAGE: usize = 512;

struct Follower {
    control: Control,
    driver: ProcessDriver,
    app: AppName,
    query: LogQuery,
    changes: watch::Receiver<u64>,
    merge: Merge,
    watched: Vec<PathBuf>,
    watcher: Option<Watcher>,
    page: VecDeque<LogLine>,
}

/// Lines of an app, by time; with `follow` it goes on with new lines, and new slots, until the app
/// is gone.
pub(super) fn stream(
    control: Control,
    driver: ProcessDriver,
    app: AppName,
    query: LogQuery,
) -> io::Result<BoxStream<LogLine>> {
    let changes = control.changes();
    let mut follower = Follower {
        control,
        driver,
        app,
        query,
        changes,
        merge: Merge::of([]),
        watched: Vec::new(),
        watcher: None,
        page: VecDeque::new(),
    };
    follower.find_slots(true)?;
    Ok(Box::pin(stream::unfold(follower, |mut follower| async move {
        let line = follower.next().await?;
        Some((line, follower))
    })))
}

impl Follower {
    async fn next(&mut self) -> Option<LogLine> {
        loop {
            if let Some(line) = self.page.pop_front() {
                return Some(line);
            }
            // Before reading, so that what comes while we read wakes us afterwards.
            if self.query.follow && self.watcher.is_none() && !self.watched.is_empty() {
                self.watcher = Watcher::of(self.watched.iter().map(PathBuf::as_path)).ok();
            }
            self.page = self.merge.read(PAGE).ok()?.into();
            if !self.page.is_empty() {
                continue;
            }
            if !self.query.follow {
                return None;
            }
            self.wait().await?;
        }
    }

    /// Until there may be more: a file or the set of slots has changed. `None`: the app is gone.
    async fn wait(&mut self) -> Option<()> {
        let file_changed = async {
            match &self.watcher {
                Some(watcher) => watcher.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = file_changed => {
                if changed.is_err() {
                    self.watcher = None;
                }
            }
            changed = self.changes.changed() => {
                changed.ok()?;
                self.control.app(&self.app).ok()?;
                self.find_slots(false).ok()?;
            }
        }
        Some(())
    }

    /// Takes up slots that have appeared. Later ones are read from their beginning.
    fn find_slots(&mut self, at_first: bool) -> io::Result<()> {
        let Ok(app) = self.control.app(&self.app) else { return Ok(()) };
        let asked =
            |slot: &SlotId| self.query.services.is_empty() || self.query.services.contains(&slot.service);
        let slots: Vec<SlotId> =
            app.slots.into_iter().map(|status| status.slot).filter(|slot| asked(slot)).collect();
        for slot in slots {
            let dir = self.driver.log_dir(&slot);
            if self.merge.has(&slot) || !dir.is_dir() {
                continue;
            }
            let reader = match self.query.tail.filter(|_| at_first) {
                Some(count) => Reader::tail(&dir, count)?,
                None => Reader::from(&dir, 1),
            };
            self.merge.add(slot, reader);
            self.watched.push(dir);
            self.watcher = None;
        }
        Ok(())
    }
}

/// The last lines of one slot, as text. None when they cannot be read.
pub(super) async fn last_lines(dir: &Path, count: u64) -> Vec<String> {
    let Ok(mut reader) = Reader::tail(dir, count) else { return Vec::new() };
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
