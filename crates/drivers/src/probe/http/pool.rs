//! Connections that wait for the next question.
//!
//! What is kept is short-lived on purpose. Whether a service accepts new connections is part of what
//! is asked of it, and a server that has one thread can do nothing else while a connection is open. So
//! what is asked often is asked over one connection, and what is asked every half minute over a new
//! one each time, which nobody notices. Who wants a new one each time sends `Connection: close`.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rustls::ClientConfig;
use tokio::time::Instant;
use upbeat_model::{Attempt, SlotId};

use super::super::stream::Stream;

/// A connection waits so long for the next question. Longer than the interval of who asks often; and
/// than that of servers that hang up after five seconds, which is found out when it is used.
const IDLE_MAX: Duration = Duration::from_secs(15);

/// And is of use for so long, so that a server that accepts no new ones is found out.
const AGE_MAX: Duration = Duration::from_secs(60);

/// Connections to one server that wait: its probes are seldom asked at the same moment.
const OF_ONE: usize = 4;

/// How often those that wait too long are looked for.
const SWEEP: Duration = Duration::from_secs(5);

/// To whom a connection leads. Not only to an address: what is asked of one attempt must not be
/// answered by what is left of another, which may listen there still.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Destination {
    pub(super) slot: SlotId,
    pub(super) attempt: Attempt,
    pub(super) host: String,
    pub(super) port: u16,
    /// Who is believed there, and under which name.
    pub(super) tls: Option<(Settings, String)>,
}

/// Settings of TLS. Those that were made together are the same, and as long as a connection is kept,
/// nothing else is in their place.
#[derive(Clone, Debug)]
pub(super) struct Settings(pub(super) Arc<ClientConfig>);

impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Settings {}

impl Hash for Settings {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

/// A connection, and since when it is there.
pub(super) struct Kept {
    pub(super) stream: Stream,
    pub(super) made: Instant,
}

struct Waiting {
    kept: Kept,
    since: Instant,
}

impl Waiting {
    fn is_good(&self, now: Instant) -> bool {
        now - self.since < IDLE_MAX && now - self.kept.made < AGE_MAX
    }
}

#[derive(Default)]
struct Idle {
    by_destination: HashMap<Destination, Vec<Waiting>>,
    count: usize,
    /// Somebody looks for those that wait too long.
    is_swept: bool,
}

/// The connections that wait. Clones share them. All of them belong to the runtime they were made in.
#[derive(Clone)]
pub(super) struct Pool {
    idle: Arc<Mutex<Idle>>,
    /// Connections that wait at all. Beyond this, one is closed when it was used.
    most: usize,
}

fn lock(idle: &Mutex<Idle>) -> MutexGuard<'_, Idle> {
    // The count is all that could be wrong after a panic, and nothing between its changes panics.
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    pub(super) fn new(most: usize) -> Self {
        Self { idle: Arc::default(), most }
    }

    /// One that was good when it was looked at just now; it may end any moment.
    pub(super) fn take(&self, to: &Destination) -> Option<Kept> {
        let mut idle = lock(&self.idle);
        let now = Instant::now();
        while let Some(mut waiting) = idle.by_destination.get_mut(to)?.pop() {
            idle.count -= 1;
            if waiting.is_good(now) && waiting.kept.stream.renew() {
                return Some(waiting.kept);
            }
        }
        None
    }

    /// Keeps one for the next question. Where there are too many, it is closed.
    pub(super) fn put(&self, to: Destination, kept: Kept) {
        let mut idle = lock(&self.idle);
        let now = Instant::now();
        if idle.count >= self.most || now - kept.made >= AGE_MAX {
            return;
        }
        let of_one = idle.by_destination.entry(to).or_default();
        if of_one.len() >= OF_ONE {
            return;
        }
        of_one.push(Waiting { kept, since: now });
        idle.count += 1;
        if !std::mem::replace(&mut idle.is_swept, true) {
            tokio::spawn(sweep(Arc::downgrade(&self.idle)));
        }
    }
}

/// Ends when nothing waits.
async fn sweep(idle: Weak<Mutex<Idle>>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(idle) = idle.upgrade() else { return };
        let mut idle = lock(&idle);
        let now = Instant::now();
        idle.by_destination.retain(|_, waiting| {
            waiting.retain(|waiting| waiting.is_good(now));
            !waiting.is_empty()
        });
        idle.count = idle.by_destination.values().map(Vec::len).sum();
        if idle.count == 0 {
            idle.is_swept = false;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::super::super::stream::{Metered, READ_MAX};
    use super::*;

    fn to(attempt: u64) -> Destination {
        Destination {
            slot: "a/s/1".parse().unwrap(),
            attempt: Attempt(attempt),
            host: "h".into(),
            port: 1,
            tls: None,
        }
    }

    /// A connection, and its other end.
    async fn pair() -> (Kept, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let kept = Kept { stream: Stream::Plain(Metered::new(stream, READ_MAX)), made: Instant::now() };
        (kept, listener.accept().await.unwrap().0)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_kept_for_its_attempt_for_a_while() {
        let pool = Pool::new(64);
        let (kept, _other) = pair().await;
        pool.put(to(1), kept);
        assert!(pool.take(&to(2)).is_none());
        let kept = pool.take(&to(1)).unwrap();
        assert!(pool.take(&to(1)).is_none());
        pool.put(to(1), kept);
        tokio::time::advance(IDLE_MAX).await;
        assert!(pool.take(&to(1)).is_none(), "it has waited too long");
    }

    #[tokio::test(start_paused = true)]
    async fn none_is_used_for_ever() {
        let pool = Pool::new(64);
        let (mut kept, _other) = pair().await;
        let made = Instant::now();
        while made.elapsed() < AGE_MAX {
            pool.put(to(1), kept);
            tokio::time::advance(IDLE_MAX / 3).await;
            match pool.take(&to(1)) {
                Some(again) => kept = again,
                None => break,
            }
        }
        assert_eq!(made.elapsed(), AGE_MAX);
        assert!(pool.take(&to(1)).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_asks_for_any_more_is_closed() {
        let pool = Pool::new(64);
        let mut others = Vec::new();
        for attempt in 0..3 {
            let (kept, other) = pair().await;
            pool.put(to(attempt), kept);
            others.push(other);
        }
        assert_eq!(lock(&pool.idle).count, 3);
        // On the paused clock: the sweeper is all there is to wait for.
        tokio::time::sleep(IDLE_MAX + 2 * SWEEP).await;
        let idle = lock(&pool.idle);
        assert!(idle.by_destination.is_empty() && idle.count == 0 && !idle.is_swept);
    }

    #[tokio::test]
    async fn one_that_ended_or_speaks_unasked_is_not_used() {
        for speaks in [false, true] {
            let pool = Pool::new(64);
            let (kept, mut other) = pair().await;
            if speaks {
                tokio::io::AsyncWriteExt::write_all(&mut other, b"x").await.unwrap();
            } else {
                drop(other);
            }
            let Stream::Plain(_) = &kept.stream else { panic!() };
            pool.put(to(1), kept);
            // The system tells the runtime of it when it looks next.
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            assert!(pool.take(&to(1)).is_none());
        }
    }

    #[tokio::test]
    async fn few_wait_for_one_server_and_not_too_many_for_all() {
        let pool = Pool::new(64);
        let mut others = Vec::new();
        for _ in 0..OF_ONE + 2 {
            let (kept, other) = pair().await;
            pool.put(to(1), kept);
            others.push(other);
        }
        assert_eq!(lock(&pool.idle).count, OF_ONE);
        lock(&pool.idle).count = pool.most;
        let (kept, _other) = pair().await;
        pool.put(to(2), kept);
        lock(&pool.idle).count = OF_ONE;
        assert!(pool.take(&to(2)).is_none());
    }
}
