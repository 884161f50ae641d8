//! Questions to the machine that may not come back: names, files, other processes.
//!
//! A name server that is silent, a disk of the network that is gone, a process whose memory is locked:
//! each holds the thread that looks for as long as it likes. So a look is made on a thread of its own;
//! whoever asks may go away at any time, and the thread goes on. Of one thing there is one look at a
//! time, shared by all who ask meanwhile: what hangs holds one thread, however often it is asked.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, watch};

/// Threads one kind of looks may hold. The runtime has 512 for all; beyond this, who comes later waits.
const AT_ONCE: usize = 64;

type UnderWay<K, V> = HashMap<K, watch::Receiver<Option<V>>>;

/// Looks of one kind.
pub(crate) struct Looks<K, V> {
    under_way: Arc<Mutex<UnderWay<K, V>>>,
    turns: Arc<Semaphore>,
}

impl<K: Clone + Eq + Hash + Send + 'static, V: Clone + Send + Sync + 'static> Looks<K, V> {
    pub(crate) fn new() -> Self {
        Self { under_way: Arc::default(), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// What is seen there: by this look, or by one that is under way. `None`: the runtime ends, or the
    /// look has panicked.
    pub(crate) async fn at(&self, key: K, look: impl FnOnce() -> V + Send + 'static) -> Option<V> {
        let mut seen = {
            let mut under_way = lock(&self.under_way);
            match under_way.get(&key) {
                Some(seen) => seen.clone(),
                None => {
                    let (tell, seen) = watch::channel(None);
                    under_way.insert(key.clone(), seen.clone());
                    let place = Place { under_way: self.under_way.clone(), key, is_given_up: false };
                    tokio::spawn(begin(self.turns.clone(), place, tell, look));
                    seen
                }
            }
        };
        seen.wait_for(Option::is_some).await.ok()?.clone()
    }
}

/// Who comes after this is dropped begins a look of their own.
struct Place<K: Eq + Hash, V> {
    under_way: Arc<Mutex<UnderWay<K, V>>>,
    key: K,
    /// What is begun for this key from then on is not this one's to remove.
    is_given_up: bool,
}

impl<K: Eq + Hash, V> Drop for Place<K, V> {
    fn drop(&mut self) {
        if !self.is_given_up {
            lock(&self.under_way).remove(&self.key);
        }
    }
}

async fn begin<K, V>(
    turns: Arc<Semaphore>,
    mut place: Place<K, V>,
    tell: watch::Sender<Option<V>>,
    look: impl FnOnce() -> V + Send + 'static,
) where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
{
    // Never closed.
    let Ok(turn) = turns.acquire_owned().await else { return };
    {
        // Nobody can come while this is held; one receiver is the map's own.
        let shared = place.under_way.clone();
        let mut under_way = lock(&shared);
        if tell.receiver_count() <= 1 {
            under_way.remove(&place.key);
            place.is_given_up = true;
            return;
        }
    }
    let seen = tokio::task::spawn_blocking(move || {
        let seen = look();
        drop(turn);
        seen
    })
    .await;
    drop(place);
    if let Ok(seen) = seen {
        tell.send_replace(Some(seen));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one insertion or removal: nothing is half-done after a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[tokio::test]
    async fn one_thing_is_looked_at_once_at_a_time_and_shared() {
        let looks = Looks::<&str, u32>::new();
        let (go, wait) = mpsc::channel::<u32>();
        let first = looks.at("a", move || wait.recv().unwrap());
        let second = looks.at("a", || panic!("a second look"));
        let other = looks.at("b", || 3);
        let (mut first, mut second) = (Box::pin(first), Box::pin(second));
        let mut context = Context::from_waker(Waker::noop());
        assert!(first.as_mut().poll(&mut context).is_pending());
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert_eq!(other.await, Some(3), "what hangs holds up nothing else");
        go.send(7).unwrap();
        assert_eq!((first.await, second.await), (Some(7), Some(7)));
        assert_eq!(looks.at("a", || 8).await, Some(8), "and then it is looked at anew");
        assert!(lock(&looks.under_way).is_empty());
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_begun_and_a_panic_is_no_answer() {
        let looks = Looks::<usize, ()>::new();
        let held: Vec<_> = (0..AT_ONCE).map(|_| looks.turns.clone().try_acquire_owned().unwrap()).collect();
        {
            let dropped = std::pin::pin!(looks.at(1, || panic!("begun")));
            assert!(dropped.poll(&mut Context::from_waker(Waker::noop())) == Poll::Pending);
        }
        drop(held);
        assert_eq!(looks.at(2, || panic!("as it should")).await, None);
        // The turns are first come, first served: the one before is over.
        assert!(lock(&looks.under_way).is_empty());
    }
}
