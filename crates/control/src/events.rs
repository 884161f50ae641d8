//! What happened, kept in order, and told to whoever listens.
//!
//! Events are numbered when they happen and written behind: a burst is one append. They are a
//! history for people; nothing is decided by them, so one that a crash loses costs a line.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{mpsc, watch};
use upbeat_model::event::EventKind;
use upbeat_model::{AppName, Event, EventFilter, Wall};
use upbeat_store::{APPEND_MAX, Journal, StoreError};

use crate::told;

/// Events a reader gets at once.
const PAGE: usize = 1000;

/// Records that are read at once for somebody who takes one after the other, as each may be as large as a value.
const STEP: usize = 64;

/// Records that are looked at to say how many wait: some milliseconds.
const COUNTED_MAX: u64 = 2_000;

/// Events that may wait to be written. When the disk is that far behind, the oldest news is kept
/// and the newest dropped, and counted.
const WAITING_MAX: usize = 16 * 1024;

/// Events that are kept: as many as the journal holds.
pub const EVENTS_KEPT: usize = upbeat_store::JOURNAL_COUNT_MAX;

/// What stands in the history behind a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing that was asked for, up to this number.
    Nothing(u64),
    /// This event.
    Event(Box<Event>),
    /// These are not there any more, or cannot be read: the first and the last.
    Lost(u64, u64),
}

/// What became of an event that was handed over to be written: nothing yet, or whether it is in the journal.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fate(Arc<OnceLock<bool>>);

impl Fate {
    /// Whether it is in the journal. `None`: nobody knows yet. `Some(false)`: it never will be.
    pub(crate) fn is_written(&self) -> Option<bool> {
        self.0.get().copied()
    }

    fn is(&self, is_written: bool) {
        // Said once, by who writes.
        let _ = self.0.set(is_written);
    }
}

/// An event on its way into the journal.
struct Waiting {
    at: Wall,
    app: Option<AppName>,
    kind: EventKind,
    fate: Fate,
}

/// The history. A cheap handle; clones share it.
#[derive(Clone)]
pub struct EventLog {
    journal: Journal,
    last: watch::Sender<u64>,
    sender: mpsc::Sender<Waiting>,
    dropped: Arc<Mutex<u64>>,
}

impl EventLog {
    /// Goes on where the journal ends.
    pub(crate) async fn open(journal: Journal) -> Result<Self, StoreError> {
        let (last, _) = watch::channel(journal.last());
        let (sender, waiting) = mpsc::channel(WAITING_MAX);
        let log = Self { journal: journal.clone(), last: last.clone(), sender, dropped: Arc::default() };
        tokio::spawn(write_behind(journal, last, waiting, log.dropped.clone()));
        Ok(log)
    }

    /// Something happened: it is a line of the daemon's log, too, also when there is no room for it here. Returns
    /// what becomes of it. `None`: there is no room, and it is counted as dropped.
    pub(crate) fn add(&self, at: Wall, app: impl Into<Option<AppName>>, kind: EventKind) -> Option<Fate> {
        let app = app.into();
        told::tell(app.as_ref(), &kind);
        self.hand_over(at, app, kind)
    }

    /// The same for what was added before and did not come into the journal: it is in the daemon's log already.
    pub(crate) fn add_again(&self, at: Wall, kind: EventKind) -> Option<Fate> {
        self.hand_over(at, None, kind)
    }

    fn hand_over(&self, at: Wall, app: Option<AppName>, kind: EventKind) -> Option<Fate> {
        let fate = Fate::default();
        if self.sender.try_send(Waiting { at, app, kind, fate: fate.clone() }).is_err() {
            *lock(&self.dropped) += 1;
            return None;
        }
        Some(fate)
    }

    /// How often an event of this process found no room, or could not be written. One of a rollout is handed over
    /// again then.
    pub fn dropped(&self) -> u64 {
        *lock(&self.dropped)
    }

    /// Wakes when there are more.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// The number of the last event there is; 0 before the first.
    pub fn last(&self) -> u64 {
        self.journal.last()
    }

    /// The first event after a number that is asked for, or the first after it that nobody will ever read. No
    /// more than some records are held at once.
    ///
    /// Errors: they cannot be read.
    pub async fn next(&self, after: u64, takes: impl Fn(&Event) -> bool) -> Result<Next, StoreError> {
        let mut seen = after;
        loop {
            let page = self.journal.read(seen, STEP).await?;
            if page.is_empty() {
                return Ok(Next::Nothing(seen));
            }
            for (sequence, bytes) in page {
                if sequence > seen + 1 {
                    return Ok(Next::Lost(seen + 1, sequence - 1));
                }
                match serde_json::from_slice::<Event>(&bytes) {
                    Ok(event) if takes(&event) => {
                        return Ok(Next::Event(Box::new(Event { sequence, ..event })));
                    }
                    Ok(_) => seen = sequence,
                    Err(_) => return Ok(Next::Lost(sequence, sequence)),
                }
            }
            // Whoever is far behind does not keep others waiting.
            tokio::task::yield_now().await;
        }
    }

    /// How many events after a number are asked for, among the next thousands; and whether there are more than
    /// those.
    ///
    /// Errors: they cannot be read.
    pub async fn waiting(
        &self,
        after: u64,
        takes: impl Fn(&Event) -> bool,
    ) -> Result<(u64, bool), StoreError> {
        let (mut seen, mut count) = (after, 0);
        let end = after.saturating_add(COUNTED_MAX);
        loop {
            let page = self.journal.read(seen, STEP).await?;
            if page.is_empty() {
                return Ok((count, false));
            }
            for (sequence, bytes) in page {
                // Those that are gone are waited for as one: that they are.
                let is_gap = sequence > seen + 1;
                let is_wanted = serde_json::from_slice::<Event>(&bytes).map_or(true, |event| takes(&event));
                count += u64::from(is_gap) + u64::from(is_wanted);
                seen = sequence;
            }
            if seen >= end {
                return Ok((count, self.last() > seen));
            }
            tokio::task::yield_now().await;
        }
    }

    /// Events after a number, oldest first, at most `limit` (and at most a thousand), of those that are
    /// asked for. Also says up to which number was looked.
    pub async fn read(
        &self,
        wanted: &EventFilter,
        after: u64,
        limit: usize,
    ) -> Result<(Vec<Event>, u64), StoreError> {
        let most = limit.min(PAGE);
        let mut found = Vec::new();
        let mut seen = after;
        if most == 0 {
            return Ok((found, seen));
        }
        loop {
            let page = self.journal.read(seen, PAGE).await?;
            if page.is_empty() {
                return Ok((found, seen));
            }
            for (sequence, bytes) in page {
                seen = sequence;
                let Ok(mut event) = serde_json::from_slice::<Event>(&bytes) else { continue };
                if wanted.takes(&event) {
                    event.sequence = sequence;
                    found.push(event);
                }
                if found.len() >= most {
                    return Ok((found, seen));
                }
            }
        }
    }
}

fn lock(count: &Mutex<u64>) -> MutexGuard<'_, u64> {
    count.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn write_behind(
    journal: Journal,
    last: watch::Sender<u64>,
    mut waiting: mpsc::Receiver<Waiting>,
    dropped: Arc<Mutex<u64>>,
) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, PAGE).await > 0 {
        let mut records = Vec::new();
        let mut size = 0;
        for Waiting { at, app, kind, fate } in batch.drain(..) {
            // The number is the journal's; it is put in when the event is read.
            let Ok(record) = serde_json::to_vec(&Event { sequence: 0, at, app, kind }) else {
                *lock(&dropped) += 1;
                fate.is(false);
                continue;
            };
            if size + record.len() > APPEND_MAX {
                write(&journal, &last, std::mem::take(&mut records), &dropped).await;
                size = 0;
            }
            size += record.len();
            records.push((record, fate));
        }
        write(&journal, &last, records, &dropped).await;
    }
}

async fn write(
    journal: &Journal,
    last: &watch::Sender<u64>,
    records: Vec<(Vec<u8>, Fate)>,
    dropped: &Mutex<u64>,
) {
    let (records, fates): (Vec<_>, Vec<_>) = records.into_iter().unzip();
    let appended = journal.append(records).await;
    // Before anybody is woken who looks for them.
    fates.iter().for_each(|fate| fate.is(appended.is_ok()));
    match appended {
        Ok(sequence) => drop(last.send_replace(sequence)),
        Err(error) => {
            *lock(dropped) += fates.len() as u64;
            tracing::warn!(%error, dropped = *lock(dropped), "events could not be stored");
        }
    }
}
