//! Processes that keep whoever looks at them: one whose memory is locked, as it maps a file of a disk that is
//! gone, answers nobody who reads its environment, and no signal ends the wait.
//!
//! Whoever goes through all processes does so in rounds, each on a thread. A round that does not come back is
//! given up, and the process it is stuck at is passed over by all others until it answers: so it holds one
//! thread, however often it is looked for anything.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What each round reads now.
static READS: Mutex<BTreeMap<u64, Read>> = Mutex::new(BTreeMap::new());

struct Read {
    pid: i32,
    is_given_up: bool,
}

fn reads() -> MutexGuard<'static, BTreeMap<u64, Read>> {
    READS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One time through the processes.
pub(crate) struct Round(u64);

impl Round {
    pub(crate) fn begin() -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        Self(NUMBERS.fetch_add(1, Ordering::Relaxed))
    }

    /// Reads something of a process. `None`: another round is stuck at it.
    pub(crate) fn read<T>(&self, pid: i32, read: impl FnOnce() -> T) -> Option<T> {
        {
            let mut reads = reads();
            if reads.values().any(|read| read.pid == pid && read.is_given_up) {
                return None;
            }
            reads.insert(self.0, Read { pid, is_given_up: false });
        }
        let _over = Over(self.0);
        Some(read())
    }

    /// It has not come back, and nobody waits for it any more.
    pub(crate) fn give_up(&self) {
        if let Some(read) = reads().get_mut(&self.0) {
            tracing::warn!(pid = read.pid, "a process does not let itself be looked at, and is passed over");
            read.is_given_up = true;
        }
    }
}

struct Over(u64);

impl Drop for Over {
    fn drop(&mut self) {
        reads().remove(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn who_keeps_one_is_passed_over_by_others_until_it_answers() {
        let (first, second) = (std::sync::Arc::new(Round::begin()), Round::begin());
        let ((let_go, wait), (tell, begun)) = (channel::<()>(), channel());
        let stuck = first.clone();
        let reader = std::thread::spawn(move || {
            stuck.read(-7, || {
                tell.send(()).unwrap();
                wait.recv().unwrap();
            })
        });
        begun.recv().unwrap();
        assert_eq!(second.read(-7, || 1), Some(1), "it may be about to answer");
        first.give_up();
        assert_eq!(second.read(-7, || 2), None);
        assert_eq!(second.read(-8, || 3), Some(3));
        let_go.send(()).unwrap();
        assert_eq!(reader.join().unwrap(), Some(()));
        first.give_up();
        assert_eq!(second.read(-7, || 4), Some(4));
    }
}
