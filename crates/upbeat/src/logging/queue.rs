//! What waits to be told.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::count_dropped;

/// Bytes that may wait. A daemon that is well says ten lines an hour; one in whose apps everything
/// fails, some hundred a second: then this is half a minute. The first lines of a trouble are kept, and
/// the later ones dropped, as they say more of its cause.
pub(super) const BYTES_MAX: usize = 1 << 20;

/// Records that wait. Filled and emptied by one thread each at a time, under a lock that is held for as
/// long as it takes to move one record.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Of which nobody was told.
    dropped: u64,
    is_closed: bool,
    /// Whoever tells has ended.
    is_over: bool,
}

/// What is next.
pub(super) enum Next {
    /// So many records were dropped here.
    Dropped(u64),
    /// A record.
    Frame(Vec<u8>),
    /// There is no more.
    End,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self { waiting: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Every change is whole: nothing is half-done after a panic.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never waits for a reader.
    pub(super) fn put(&self, frame: Vec<u8>) {
        let mut waiting = self.lock();
        // What follows something dropped must not stand before the news of that.
        if waiting.is_over || waiting.dropped > 0 || waiting.bytes + frame.len() > BYTES_MAX {
            waiting.dropped += 1;
            count_dropped(1);
            return;
        }
        waiting.bytes += frame.len();
        waiting.frames.push_back(frame);
        self.changed.notify_all();
    }

    /// Waits for the next one.
    pub(super) fn next(&self) -> Next {
        let mut waiting = self.lock();
        loop {
            if let Some(frame) = waiting.frames.pop_front() {
                waiting.bytes -= frame.len();
                return Next::Frame(frame);
            }
            if waiting.dropped > 0 {
                return Next::Dropped(std::mem::take(&mut waiting.dropped));
            }
            if waiting.is_closed {
                return Next::End;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What was taken could not be told and never will be.
    pub(super) fn lost(&self, records: u64) {
        self.lock().dropped += records;
        count_dropped(records);
    }

    /// Waits so long, or until the end. Says whether that has come.
    pub(super) fn pause(&self, pause: Duration) -> bool {
        let waiting = self.lock();
        let is_open = |waiting: &mut Waiting| !waiting.is_closed;
        let waited = self.changed.wait_timeout_while(waiting, pause, is_open);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_closed
    }

    /// Whoever tells has ended.
    pub(super) fn over(&self) {
        let mut waiting = self.lock();
        waiting.is_over = true;
        waiting.frames.clear();
        waiting.bytes = 0;
        self.changed.notify_all();
    }

    /// Nothing more comes. Waits until all is told, but no longer than so long.
    pub(super) fn close(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut waiting = self.lock();
        waiting.is_closed = true;
        self.changed.notify_all();
        while !waiting.is_over {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let woken = self.changed.wait_timeout(waiting, left);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
