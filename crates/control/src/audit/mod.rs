//! Who changed what: a record before each change, and one after it.
//!
//! Laws: a change is recorded, on disk, before it is made; one that cannot be recorded is not made,
//! but for one that stops something. What came of it is recorded before it is told. Records hold on
//! to each other (`chain`), and the last of them is kept a second time, in control's store: so a
//! record that is changed or missing shows, also the last (`verify`). What could not be recorded is
//! counted, and the count recorded when that is possible again.

mod book;
mod chain;
mod key;
mod pace;
#[cfg(test)]
mod tests;
mod verify;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use upbeat_model::{
    Asked, AuditEntry, AuditHead, AuditRecord, AuditVerdict, Need, OperationId, Refused, Wall, Whom,
};
use upbeat_store::{Compare, Op, Store, StoreError, Txn};

use book::Book;
pub use book::{Limits, open_segments};
pub use chain::Key;
pub use verify::{Segment, verify};

/// Where the last record's number and hash are kept besides.
const ANCHOR: &str = "audit-head";

/// Records that may wait to be written: as many changes as there can be connections.
const WAITING_MAX: usize = 512;

/// Records that are written together: those of that many connections, in one sync of the disk.
const BATCH_MAX: usize = 64;

/// Of what could not be written, so many are named.
const GAP_NAMED: usize = 16;

/// And each by so many characters.
const GAP_NAME_MAX: usize = 200;

/// What could not be written is tried again after so long: there may be room on the disk by then.
const AGAIN: Duration = Duration::from_secs(1);

/// The head is told to the daemon's log whenever so many records have come: who has that log
/// elsewhere can say to which record all of this was there.
const TELL_EACH: u64 = 100;

/// What the log needs to know of its surroundings.
pub struct AuditSettings {
    /// Where its segments are.
    pub dir: PathBuf,
    /// The key of its codes.
    pub key: Key,
    /// The key was made just now; so older codes were made with another.
    pub key_is_new: bool,
    /// How much is kept.
    pub limits: Limits,
    /// The clock on the wall.
    pub wall: fn() -> Wall,
}

/// Why there is no record.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The files cannot be used.
    #[error("the audit log cannot be used")]
    Files(#[from] io::Error),
    /// The anchor cannot be used.
    #[error("the head of the audit log cannot be kept")]
    Store(#[from] StoreError),
    /// Somebody else writes it.
    #[error("somebody else has written the head of the audit log")]
    Conflict,
    /// Its writer is gone: it panicked, which is a bug.
    #[error("the audit log cannot be written any more: its writer has stopped, which is a bug in Upbeat")]
    Stopped,
}

impl AuditError {
    /// The same, for one more who has to be told.
    fn again(&self) -> Self {
        match self {
            Self::Files(error) => Self::Files(io::Error::new(error.kind(), error.to_string())),
            Self::Store(error) => Self::Store(error.clone()),
            Self::Conflict => Self::Conflict,
            Self::Stopped => Self::Stopped,
        }
    }
}

/// A change that was asked for and not answered yet.
#[derive(Debug)]
pub struct Ticket {
    /// None: it could not be recorded.
    asked: Option<u64>,
    words: String,
}

enum Job {
    Write {
        entry: AuditEntry,
        words: String,
        done: Option<oneshot::Sender<Result<u64, AuditError>>>,
    },
    /// A record that has no place any more.
    Missed(String),
    Look {
        after: u64,
        looked: oneshot::Sender<Result<Look, AuditError>>,
    },
}

/// The log as it was at one moment.
struct Look {
    segments: Vec<book::Opened>,
    anchor: AuditHead,
}

/// The log. A cheap handle; clones share it.
#[derive(Clone)]
pub struct Audit {
    jobs: mpsc::Sender<Job>,
    key: Key,
    begun: Instant,
    paces: Arc<Mutex<Paces>>,
}

/// How fast refusals are written. Apart, since whoever floods one of them silences it, and strangers
/// must not silence what is said of those who are known.
struct Paces {
    known: pace::Pace,
    strangers: pace::Pace,
}

impl Paces {
    fn of(&mut self, whom: Whom) -> &mut pace::Pace {
        match whom {
            Whom::Known => &mut self.known,
            Whom::Stranger => &mut self.strangers,
        }
    }
}

/// What `store` keeps of the log: the number and the hash of the last record.
pub async fn anchor(store: &Store) -> Result<Option<AuditHead>, StoreError> {
    let Some(kept) = store.get(ANCHOR).await? else { return Ok(None) };
    serde_json::from_slice(&kept.value)
        .map(Some)
        .map_err(|error| StoreError::Unreadable { key: ANCHOR.to_owned(), detail: error.to_string() })
}

impl Audit {
    /// Goes on with a log, or begins one. What it finds otherwise than it was left is recorded.
    pub async fn open(store: Store, settings: AuditSettings) -> Result<Self, AuditError> {
        let AuditSettings { dir, key, key_is_new, limits, wall } = settings;
        let anchor = anchor(&store).await?;
        let (known, codes) = (anchor.clone(), key.clone());
        let opening = move || Book::open(dir, codes, limits, known);
        let (book, mut found) =
            tokio::task::spawn_blocking(opening).await.map_err(|_| AuditError::Stopped)??;
        if key_is_new && book.head().count > 0 {
            found.push("the key was gone; the codes of older records cannot be checked any more".to_owned());
        }
        tracing::info!(head = %book.head(), "the audit log goes on");
        let (jobs, waiting) = mpsc::channel(WAITING_MAX);
        let told = book.head().count;
        let mut writer =
            Writer { book: Some(book), store, anchor, wall, unsure: None, is_behind: false, gap: None, told };
        for what in found {
            tracing::error!(what, "the audit log is not as it was left");
            let what = AuditEntry::Found { what };
            writer.write(vec![(what, String::new(), None)]).await;
        }
        let writing = tokio::spawn(writer.run(waiting));
        tokio::spawn(async move {
            if let Err(error) = writing.await
                && error.is_panic()
            {
                tracing::error!(%error, "the audit log has stopped: no change is made any more");
            }
        });
        let (begun, pace) = (Instant::now(), || pace::Pace::new(Duration::ZERO));
        let paces = Paces { known: pace(), strangers: pace() };
        Ok(Self { jobs, key, begun, paces: Arc::new(Mutex::new(paces)) })
    }

    /// A change is about to be made. Its record is on disk when this returns. Errors: it is not, and
    /// the change may not be made; with [`Need::Anyway`] only when the writer has stopped: then nothing
    /// would ever tell of the change, and another daemon can be asked for it, which a full disk cannot.
    pub async fn asked(&self, asked: Asked, need: Need) -> Result<Ticket, AuditError> {
        let words = words(&asked);
        let (done, is_done) = oneshot::channel();
        let entry = AuditEntry::Asked(asked);
        let written = match self.jobs.send(Job::Write { entry, words: words.clone(), done: Some(done) }).await
        {
            Ok(()) => is_done.await.unwrap_or(Err(AuditError::Stopped)),
            Err(_) => Err(AuditError::Stopped),
        };
        match (written, need) {
            (Ok(sequence), _) => Ok(Ticket { asked: Some(sequence), words }),
            (Err(AuditError::Stopped), _) => {
                tracing::error!(words, "a change is refused: the audit log has stopped");
                Err(AuditError::Stopped)
            }
            (Err(error), Need::Anyway) => {
                tracing::error!(%error, words, "a change is made that could not be recorded");
                Ok(Ticket { asked: None, words })
            }
            (Err(error), Need::Recorded) => Err(error),
        }
    }

    /// What came of it. On disk when this returns, or counted as missing.
    pub async fn answered(&self, ticket: Ticket, status: u16, operation: Option<OperationId>) {
        let words = format!("{}: {status}", ticket.words);
        let Some(asked) = ticket.asked else {
            if let Err(mpsc::error::SendError(_)) = self.jobs.send(Job::Missed(words.clone())).await {
                tracing::error!(words, "a change was made that nothing tells of: the audit log has stopped");
            }
            return;
        };
        let (done, is_done) = oneshot::channel();
        let entry = AuditEntry::Answered { asked, status, operation };
        let written = match self.jobs.send(Job::Write { entry, words, done: Some(done) }).await {
            Ok(()) => is_done.await.unwrap_or(Err(AuditError::Stopped)),
            Err(_) => Err(AuditError::Stopped),
        };
        if let Err(error) = written {
            tracing::error!(%error, asked, status, "the outcome of a change could not be recorded");
        }
    }

    /// Somebody was turned away. Written when there is time, and at a pace: see `pace`.
    pub fn refused(&self, mut refused: Refused, whom: Whom) {
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        let pace = paces.of(whom);
        let Some(not_written) = pace.take(self.begun.elapsed()) else { return };
        refused.not_written = not_written;
        let words = format!("{}: {} {} refused", refused.who, refused.method, refused.path);
        let job = Job::Write { entry: AuditEntry::Refused(refused), words, done: None };
        if let Err(error) = self.jobs.try_send(job) {
            pace.lost(not_written);
            if matches!(error, mpsc::error::TrySendError::Closed(_)) {
                tracing::error!("a refusal is not recorded: the audit log has stopped");
            }
        }
    }

    async fn look(&self, after: u64) -> Result<Look, AuditError> {
        let (looked, look) = oneshot::channel();
        self.jobs.send(Job::Look { after, looked }).await.map_err(|_| AuditError::Stopped)?;
        look.await.map_err(|_| AuditError::Stopped)?
    }

    /// Records after a number and not before a moment, the oldest first, at most `limit`.
    pub async fn read(&self, after: u64, since: Wall, limit: usize) -> Result<Vec<AuditRecord>, AuditError> {
        let look = self.look(after).await?;
        let reading = move || book::read(look.segments, after, since, limit);
        Ok(tokio::task::spawn_blocking(reading).await.map_err(|_| AuditError::Stopped)??)
    }

    /// Looks at every record.
    pub async fn verify(&self) -> Result<AuditVerdict, AuditError> {
        let (look, key) = (self.look(0).await?, self.key.clone());
        let looking = move || verify(look.segments, Some(&key), Some(&look.anchor));
        Ok(tokio::task::spawn_blocking(looking).await.map_err(|_| AuditError::Stopped)??)
    }
}

fn words(asked: &Asked) -> String {
    match &asked.app {
        Some(app) => format!("{}: {} of {app}", asked.who, asked.what),
        None => format!("{}: {}", asked.who, asked.what),
    }
}

/// Records that were due and are not there.
struct Gap {
    missed: u64,
    since: Wall,
    what: Vec<String>,
}

type Pending = (AuditEntry, String, Option<oneshot::Sender<Result<u64, AuditError>>>);

/// The one who writes.
struct Writer {
    /// Away only while it writes.
    book: Option<Book>,
    store: Store,
    anchor: Option<AuditHead>,
    wall: fn() -> Wall,
    /// A head that may have been kept: the store could not tell.
    unsure: Option<AuditHead>,
    /// The head of the last records could not be kept.
    is_behind: bool,
    gap: Option<Gap>,
    told: u64,
}

impl Writer {
    async fn run(mut self, mut waiting: mpsc::Receiver<Job>) {
        loop {
            let mut jobs = Vec::new();
            let more = waiting.recv_many(&mut jobs, BATCH_MAX);
            // Also when nobody asks for anything: what is due is not left for whoever comes next.
            let count = match self.gap.is_some() || self.is_behind {
                false => more.await,
                true => match tokio::time::timeout(AGAIN, more).await {
                    Ok(count) => count,
                    Err(_) => {
                        self.write(Vec::new()).await;
                        continue;
                    }
                },
            };
            if count == 0 {
                // The last try.
                self.write(Vec::new()).await;
                if self.is_behind {
                    tracing::error!("the head of the audit log could not be kept, and nobody tries again");
                }
                return;
            }
            self.take(jobs).await;
        }
    }

    async fn take(&mut self, jobs: Vec<Job>) {
        let (mut batch, mut looks) = (Vec::new(), Vec::new());
        for job in jobs {
            match job {
                Job::Write { entry, words, done } => batch.push((entry, words, done)),
                Job::Missed(words) => self.miss(words),
                Job::Look { after, looked } => looks.push((after, looked)),
            }
        }
        if !batch.is_empty() {
            self.write(batch).await;
        }
        for (after, looked) in looks {
            // Whoever asked may have gone.
            let _ = looked.send(self.look(after));
        }
    }

    fn look(&self, after: u64) -> Result<Look, AuditError> {
        let Some(book) = &self.book else { return Err(AuditError::Stopped) };
        let segments = if after == 0 { book.snapshot()? } else { book.snapshot_after(after)? };
        Ok(Look { segments, anchor: self.anchor.clone().unwrap_or_else(AuditHead::none) })
    }

    fn miss(&mut self, words: String) {
        let since = (self.wall)();
        let gap = self.gap.get_or_insert_with(|| Gap { missed: 0, since, what: Vec::new() });
        gap.missed += 1;
        if gap.what.len() < GAP_NAMED {
            gap.what.push(words.chars().take(GAP_NAME_MAX).collect());
        }
    }

    /// Writes what is due, and before it what was missed.
    async fn write(&mut self, batch: Vec<Pending>) {
        let at = (self.wall)();
        let gap = self.gap.take();
        let gap_entry = gap.as_ref().map(|Gap { missed, since, what }| AuditEntry::Gap {
            missed: *missed,
            since: *since,
            what: what.clone(),
        });
        let before = u64::from(gap_entry.is_some());
        let entries: Vec<AuditEntry> =
            gap_entry.into_iter().chain(batch.iter().map(|(entry, ..)| entry.clone())).collect();
        // What could not be kept of the last ones comes first: nothing goes on without it.
        let kept = if self.is_behind { self.keep().await } else { Ok(()) };
        if entries.is_empty() {
            return;
        }
        let written = match kept {
            Ok(()) => self.append(at, entries).await,
            Err(error) => Err(error),
        };
        match written {
            Ok(first) => {
                for (sequence, (.., done)) in (first + before..).zip(batch) {
                    // Whoever asked may have gone.
                    let _ = done.map(|done| done.send(Ok(sequence)));
                }
                // Nobody waits for it: a daemon that is killed here finds the record, and takes it over.
                let kept = self.keep().await;
                self.is_behind = kept.is_err();
                if let Err(error) = kept {
                    tracing::error!(%error, "the head of the audit log could not be kept");
                }
            }
            Err(error) => {
                self.gap = gap;
                for (_, words, done) in batch {
                    self.miss(words);
                    let _ = done.map(|done| done.send(Err(error.again())));
                }
            }
        }
    }

    async fn append(&mut self, at: Wall, entries: Vec<AuditEntry>) -> Result<u64, AuditError> {
        let mut book = self.book.take().ok_or(AuditError::Stopped)?;
        let writing = move || {
            let written = book.append(at, &entries);
            (book, written)
        };
        let (book, written) = tokio::task::spawn_blocking(writing).await.map_err(|_| AuditError::Stopped)?;
        self.book = Some(book);
        Ok(written?)
    }

    /// Keeps the head in the store, where nobody else may have moved it.
    async fn keep(&mut self) -> Result<(), AuditError> {
        let Some(head) = self.book.as_ref().map(|book| book.head().clone()) else {
            return Err(AuditError::Stopped);
        };
        if let Some(unsure) = &self.unsure {
            self.store.settle().await?;
            let kept = anchor(&self.store).await?;
            if kept.as_ref() == Some(unsure) {
                self.anchor = kept;
            }
            self.unsure = None;
        }
        let compare = match &self.anchor {
            None => Compare::Absent(ANCHOR.to_owned()),
            Some(known) => Compare::Value(ANCHOR.to_owned(), said(known)?),
        };
        let success = vec![Op::put(ANCHOR, said(&head)?)];
        match self.store.txn(Txn { compare: vec![compare], success, failure: Vec::new() }).await {
            Ok(outcome) if outcome.succeeded => {}
            Ok(_) => return Err(AuditError::Conflict),
            Err(error) => {
                self.unsure = matches!(error, StoreError::Unknown(_)).then_some(head);
                return Err(error.into());
            }
        }
        if head.count - self.told >= TELL_EACH {
            self.told = head.count;
            tracing::info!(%head, "the head of the audit log");
        }
        self.anchor = Some(head);
        self.is_behind = false;
        Ok(())
    }
}

fn said(head: &AuditHead) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(head)
        .map_err(|error| StoreError::Unreadable { key: ANCHOR.to_owned(), detail: error.to_string() })
}
