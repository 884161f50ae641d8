//! One thread writes: what has come together is one commit, and is acknowledged after it.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::StoreError;
use crate::backend::{Backend, Group};
use crate::journal::{Extent, Journal};
use crate::kv::{Txn, TxnOutcome};
use crate::state::{Changes, State};
use crate::store::Store;

/// Requests in one commit. More would let the first wait for the last.
const GROUP_MAX: usize = 256;

pub(crate) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// Something to write.
pub(crate) enum Request {
    Txn(Txn, Reply<TxnOutcome>),
    Append(Vec<Vec<u8>>, Reply<u64>),
    TruncateBefore(u64, Reply<()>),
}

/// What readers see: only what is committed.
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
        // The writer takes back what it could not commit before it lets go, panic or not.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.backend
    }
}

/// Reads what is kept and starts the thread. It ends when the last handle is gone.
pub(crate) fn start(backend: impl Backend) -> Result<(Store, Journal), StoreError> {
    let loaded = backend.load()?;
    let content = Content { state: loaded.state, journal: Extent::of(loaded.journal) };
    let shared = Arc::new(Shared { backend: Box::new(backend), content: Mutex::new(content) });
    let (requests, queue) = channel();
    let writers = shared.clone();
    std::thread::Builder::new()
        .name("store".into())
        .stack_size(512 * 1024)
        .spawn(move || run(&writers, &queue))
        .map_err(|error| StoreError::Io(error.to_string()))?;
    Ok((Store::new(shared.clone(), requests.clone()), Journal::new(shared, requests)))
}

/// Sends a request and waits for its answer.
pub(crate) async fn ask<T>(
    requests: &Sender<Request>,
    make: impl FnOnce(Reply<T>) -> Request,
) -> Result<T, StoreError> {
    let (reply, answer) = oneshot::channel();
    requests.send(make(reply)).map_err(|_| StoreError::Stopped)?;
    answer.await.map_err(|_| StoreError::Stopped)?
}

fn run(shared: &Shared, queue: &Receiver<Request>) {
    while let Ok(first) = queue.recv() {
        let group = std::iter::once(first).chain(queue.try_iter().take(GROUP_MAX - 1)).collect();
        write_group(shared, group);
    }
}

/// Answers that are sent once the commit is known to hold.
type Answer = Box<dyn FnOnce(Result<(), StoreError>)>;

fn write_group(shared: &Shared, requests: Vec<Request>) {
    // Held until the commit is done: readers never see what may be taken back.
    let mut content = shared.content();
    let before = content.journal.clone();
    let mut changes = Changes::default();
    let mut group = Group::default();
    let mut answers: Vec<Answer> = Vec::with_capacity(requests.len());
    for request in requests {
        match request {
            Request::Txn(txn, reply) => {
                let outcome = content.state.apply(&txn, &mut changes);
                answers.push(answer(reply, outcome));
            }
            Request::Append(records, reply) => {
                for record in records {
                    let number = content.journal.append(record.len());
                    group.append.push((number, record));
                }
                answers.push(answer(reply, content.journal.last()));
            }
            Request::TruncateBefore(first, reply) => {
                content.journal.truncate_before(first);
                answers.push(answer(reply, ()));
            }
        }
    }
    content.journal.keep_bounds();
    let first = content.journal.first();
    group.append.retain(|(number, _)| *number >= first);
    group.truncate_before = (first != before.first()).then_some(first);
    group.revision = content.state.revision;
    group.keys = changes.keys().map(|key| (key.clone(), content.state.keys.get(key).cloned())).collect();
    let result = shared.backend().commit(&group);
    if result.is_err() {
        content.state.take_back(changes);
        content.journal = before;
    }
    drop(content);
    for answer in answers {
        answer(result.clone());
    }
}

fn answer<T: 'static>(reply: Reply<T>, outcome: T) -> Answer {
    // Whoever asked may have stopped waiting.
    Box::new(move |result| drop(reply.send(result.map(|()| outcome))))
}
