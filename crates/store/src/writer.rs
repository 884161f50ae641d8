//! One thread writes: what has come together is one commit, and is acknowledged after it.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{Semaphore, oneshot};

use crate::StoreError;
use crate::backend::{Backend, Group};
use crate::journal::{Extent, Growth, Journal};
use crate::kv::{Txn, TxnOutcome};
use crate::state::{Changes, State};
use crate::store::Store;

/// Requests in one commit. More would let the first wait for the last.
const GROUP_MAX: usize = 64;

/// Requests that are on their way to the disk; who comes after them waits for their turn. With
/// requests of their largest size that is some 200 MB, with usual ones nothing.
const WAITING_MAX: usize = 128;

pub(crate) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// Something to write.
pub(crate) enum Request {
    Txn(Txn, Reply<TxnOutcome>),
    Append(Vec<Vec<u8>>, Reply<u64>),
    TruncateBefore(u64, Reply<()>),
}

/// What readers see: only what is committed. Locked for moments, never while a commit is under way.
pub(crate) struct Shared {
    backend: Box<dyn Backend>,
    content: Mutex<Content>,
}

#[derive(Default)]
pub(crate) struct Content {
    pub(crate) state: State,
    pub(crate) journal: Extent,
}

impl Shared {
    pub(crate) fn content(&self) -> MutexGuard<'_, Content> {
        // Only ever changed to what was committed, key by key: whole at any moment.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.backend
    }
}

/// Reads what is kept and starts the thread. It ends when the last handle is gone.
pub(crate) fn start(backend: impl Backend) -> Result<(Store, Journal), StoreError> {
    let loaded = backend.load()?;
    let working = loaded.state.clone();
    let content = Content { state: loaded.state, journal: Extent::of(loaded.journal) };
    let shared = Arc::new(Shared { backend: Box::new(backend), content: Mutex::new(content) });
    let (requests, queue) = channel();
    let writers = shared.clone();
    let thread = std::thread::Builder::new()
        .name("store".into())
        .stack_size(512 * 1024)
        .spawn(move || Writer { shared: writers, working, broken: false }.run(&queue))
        .map_err(|error| StoreError::Io(error.to_string()))?;
    let line =
        Arc::new(Line { requests: Some(requests), turns: Semaphore::new(WAITING_MAX), thread: Some(thread) });
    Ok((Store::new(shared.clone(), line.clone()), Journal::new(shared, line)))
}

/// The line to the writer. With the last handle the thread ends, and the file is closed when that
/// handle is gone.
pub(crate) struct Line {
    requests: Option<Sender<Request>>,
    turns: Semaphore,
    thread: Option<JoinHandle<()>>,
}

impl Line {
    /// Sends a request and waits for its answer.
    pub(crate) async fn ask<T>(&self, make: impl FnOnce(Reply<T>) -> Request) -> Result<T, StoreError> {
        let _turn = self.turns.acquire().await.map_err(|_| StoreError::Stopped)?;
        let (reply, answer) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or(StoreError::Stopped)?;
        requests.send(make(reply)).map_err(|_| StoreError::Stopped)?;
        answer.await.map_err(|_| StoreError::Stopped)?
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // One that panicked has told its callers `Stopped`.
            let _ = thread.join();
        }
    }
}

/// Answers that are sent once the commit is known to hold.
type Answer = Box<dyn FnOnce(Result<(), StoreError>)>;

struct Writer {
    shared: Arc<Shared>,
    /// The content with what is being committed.
    working: State,
    /// A commit failed: whether it is on disk is not known before the file was read again.
    broken: bool,
}

impl Writer {
    fn run(mut self, queue: &Receiver<Request>) {
        while let Ok(first) = queue.recv() {
            let group = std::iter::once(first).chain(queue.try_iter().take(GROUP_MAX - 1)).collect();
            self.write_group(group);
        }
    }

    fn write_group(&mut self, requests: Vec<Request>) {
        let recovered = if self.broken { self.read_again() } else { Ok(()) };
        let mut changes = Changes::default();
        let mut group = Group::default();
        let mut answers: Vec<Answer> = Vec::with_capacity(requests.len());
        let mut growth = self.shared.content().journal.growth();
        for request in requests {
            match request {
                Request::Txn(txn, reply) => {
                    let outcome = self.working.apply(&txn, &mut changes);
                    answers.push(answer(reply, outcome));
                }
                Request::Append(records, reply) => {
                    for record in records {
                        group.append.push((growth.append(record.len()), record));
                    }
                    answers.push(answer(reply, growth.last()));
                }
                Request::TruncateBefore(first, reply) => {
                    growth.truncate_before(first);
                    answers.push(answer(reply, ()));
                }
            }
        }
        group.truncate_before = self.shared.content().journal.first_after(&growth);
        group.revision = self.working.revision;
        group.keys = changes.keys().map(|key| (key.clone(), self.working.keys.get(key).cloned())).collect();
        let nothing = group.keys.is_empty() && group.append.is_empty() && group.truncate_before.is_none();
        let result =
            match recovered.map(|()| if nothing { Ok(()) } else { self.shared.backend().commit(&group) }) {
                Ok(Ok(())) => {
                    self.show(&group, &growth);
                    Ok(())
                }
                Ok(Err(error)) => {
                    self.working.take_back(changes);
                    self.found_out(&group, &growth, error)
                }
                // Nothing of it was tried.
                Err(error) => {
                    self.working.take_back(changes);
                    Err(error)
                }
            };
        for answer in answers {
            answer(result.clone());
        }
    }

    /// What is committed is what readers see from now on.
    fn show(&self, group: &Group, growth: &Growth) {
        let mut content = self.shared.content();
        for (key, now) in &group.keys {
            match now {
                Some(kv) => drop(content.state.keys.insert(key.clone(), kv.clone())),
                None => drop(content.state.keys.remove(key)),
            }
        }
        content.state.revision = group.revision;
        content.journal.grow(growth, group.truncate_before);
    }

    /// What became of a commit that failed: it may be there all the same, and then it counts, once
    /// another one that says the same has brought it to the disk.
    fn found_out(&mut self, group: &Group, growth: &Growth, error: StoreError) -> Result<(), StoreError> {
        self.broken = true;
        if self.read_again().is_err() {
            return Err(StoreError::Unknown(error.to_string()));
        }
        let is_there =
            self.working.revision >= group.revision && self.shared.content().journal.last() >= growth.last();
        if !is_there {
            return Err(error);
        }
        let again = Group { revision: self.working.revision, ..Group::default() };
        self.shared.backend().commit(&again).map_err(|error| {
            self.broken = true;
            StoreError::Unknown(error.to_string())
        })
    }

    /// The disk is the truth about a commit that failed.
    fn read_again(&mut self) -> Result<(), StoreError> {
        let loaded = self.shared.backend().reopen()?;
        self.working = loaded.state.clone();
        let mut content = self.shared.content();
        *content = Content { state: loaded.state, journal: Extent::of(loaded.journal) };
        self.broken = false;
        Ok(())
    }
}

fn answer<T: 'static>(reply: Reply<T>, outcome: T) -> Answer {
    // Whoever asked may have stopped waiting.
    Box::new(move |result| drop(reply.send(result.map(|()| outcome))))
}
