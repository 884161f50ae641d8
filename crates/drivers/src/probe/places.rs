//! How many probes are under way at once: no more than there are open files for.
//!
//! Each service of this machine holds a descriptor here, and many systems give a process 1,024 of them.
//! A probe that is asked when there is none left can only say no, and the service has not been asked.
//! So it waits until others have ended, and its time begins when it is asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use upbeat_model::AppName;

use super::shares::{Shares, Ticket};

/// What a probe holds at the most, but for a moment: one socket to whom it asks, or the channel to the
/// shim of its command and the order that is on its way there.
const OF_ONE: u64 = 2;

/// For all that is neither a service's nor a probe's: stores, logs, clients, starts under way.
const RESERVE: u64 = 256;

/// Of a limit, connections that wait for the next question may hold this part; and never more than
/// this, as they are of use for seconds only.
const IDLE_PART: u64 = 8;
const IDLE_MOST: u64 = 1024;

/// So many are asked however few descriptors there are: services that nobody asks are not looked after.
const LEAST: u64 = 8;

/// More at once are answered no sooner.
const MOST: u64 = 1024;

/// Places for probes. Clones share them.
#[derive(Clone)]
pub(super) struct Places {
    inner: Arc<Inner>,
}

struct Inner {
    /// Descriptors this process may have open.
    limit: u64,
    /// How many services there are by now.
    services: Box<dyn Fn() -> usize + Send + Sync>,
    line: Mutex<Line>,
}

/// Those that wait, and whom to wake when it is their turn.
#[derive(Default)]
struct Line {
    shares: Shares,
    calls: HashMap<Ticket, oneshot::Sender<()>>,
}

/// Leave to ask, until it is dropped.
pub struct Place {
    _held: Held,
}

/// What an app has of the places: one that it waits for, or holds.
struct Held {
    inner: Arc<Inner>,
    app: AppName,
    ticket: Ticket,
}

impl Places {
    /// `limit`: how many descriptors this process may have open. None: as many as it likes. `services`:
    /// how many services there are by now; it waits for nothing.
    pub(super) fn new(limit: Option<u64>, services: impl Fn() -> usize + Send + Sync + 'static) -> Self {
        let (limit, services) = (limit.unwrap_or(u64::MAX), Box::new(services));
        Self { inner: Arc::new(Inner { limit, services, line: Mutex::default() }) }
    }

    /// How many connections may wait for the next question.
    pub(super) fn idle(&self) -> usize {
        idle(self.inner.limit)
    }

    /// How many probes there are places for beside so many services.
    pub(super) fn count(&self, services: usize) -> u64 {
        count(self.inner.limit, services)
    }

    /// Waits for a place for a probe of this app.
    pub(super) async fn take(&self, app: &AppName) -> Place {
        let (call, called) = oneshot::channel();
        let held = {
            let mut line = self.inner.line();
            let ticket = line.shares.wait(app);
            line.calls.insert(ticket, call);
            self.inner.give(&mut line);
            Held { inner: self.inner.clone(), app: app.clone(), ticket }
        };
        // Who calls is kept in the line until it has called.
        let _ = called.await;
        Place { _held: held }
    }
}

fn idle(limit: u64) -> usize {
    (limit / IDLE_PART).min(IDLE_MOST) as usize
}

fn count(limit: u64, services: usize) -> u64 {
    let taken = RESERVE + idle(limit) as u64 + services as u64;
    (limit.saturating_sub(taken) / OF_ONE).clamp(LEAST, MOST)
}

impl Inner {
    fn give(&self, line: &mut Line) {
        let places = count(self.limit, (self.services)());
        while let Some(ticket) = line.shares.give(places) {
            if let Some(call) = line.calls.remove(&ticket) {
                // One that is just going away gives it back.
                let _ = call.send(());
            }
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // Nothing in there panics half-way.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut line = self.inner.line();
        match line.calls.remove(&self.ticket) {
            Some(_) => line.shares.leave(&self.app, self.ticket),
            None => line.shares.free(&self.app),
        }
        self.inner.give(&mut line);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// What there are descriptors for after all else.
    fn limit(probes: u64) -> Option<u64> {
        (1..).find(|limit| count(*limit, 0) == probes)
    }

    fn places(limit: Option<u64>) -> Places {
        Places::new(limit, || 0)
    }

    fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn app(name: &str) -> AppName {
        AppName::new(name).unwrap()
    }

    fn all_of(places: &Places, app: &AppName) -> Vec<Place> {
        let next = |_| match poll(&mut Box::pin(places.take(app))) {
            Poll::Ready(place) => Some(place),
            Poll::Pending => None,
        };
        (0..).map_while(next).collect()
    }

    #[test]
    fn there_are_as_many_places_as_descriptors_are_left() {
        for (descriptors, services, expected) in [
            (Some(1024), 0, 320),
            (Some(1024), 500, 70),
            (Some(1024), 1000, LEAST),
            (Some(16), 0, LEAST),
            (Some(4096), 500, MOST),
            (None, 1_000_000, MOST),
        ] {
            let places = places(descriptors);
            let count = places.count(services);
            assert_eq!(count, expected, "{descriptors:?} {services}");
            let all = count * OF_ONE + places.idle() as u64 + services as u64;
            assert!(count == LEAST || descriptors.is_none_or(|descriptors| all + RESERVE <= descriptors));
        }
    }

    #[test]
    fn who_finds_no_place_waits_for_one_in_turn() {
        let (places, app) = (places(limit(9)), app("a"));
        let take = || Box::pin(places.take(&app));
        let mut taken = all_of(&places, &app);
        assert_eq!(taken.len(), 9);
        let (mut first, mut gone, mut second) = (take(), take(), take());
        for waiting in [&mut first, &mut gone, &mut second] {
            assert!(poll(waiting).is_pending());
        }
        taken.pop();
        assert!(poll(&mut take()).is_pending(), "it comes later");
        assert!(poll(&mut second).is_pending(), "so does this");
        drop(gone);
        let Poll::Ready(place) = poll(&mut first) else { panic!("it is its turn") };
        assert!(poll(&mut second).is_pending());
        drop(place);
        assert!(poll(&mut second).is_ready());
    }

    #[test]
    fn a_place_that_is_free_goes_to_the_app_that_has_the_fewest_and_is_not_lost_with_it() {
        let places = places(limit(9));
        let (many, few) = (app("many"), app("few"));
        let mut taken = all_of(&places, &many);
        let mut before = Box::pin(places.take(&many));
        let mut gone = Box::pin(places.take(&few));
        let mut after = Box::pin(places.take(&few));
        assert!(
            poll(&mut before).is_pending() && poll(&mut gone).is_pending() && poll(&mut after).is_pending()
        );
        taken.pop();
        assert!(poll(&mut before).is_pending());
        // It was given one, and goes without having looked.
        drop(gone);
        let Poll::Ready(place) = poll(&mut after) else { panic!("it is its turn") };
        assert!(poll(&mut before).is_pending());
        drop(place);
        assert!(poll(&mut before).is_ready());
    }

    #[test]
    fn places_go_as_services_come_and_come_back() {
        let services = Arc::new(AtomicUsize::new(500));
        let seen = services.clone();
        let places = Places::new(limit(20), move || seen.load(Ordering::Relaxed));
        let app = app("a");
        let mut taken = all_of(&places, &app);
        assert_eq!(taken.len() as u64, LEAST);
        services.store(0, Ordering::Relaxed);
        taken.extend(all_of(&places, &app));
        assert_eq!(taken.len(), 20);
        services.store(500, Ordering::Relaxed);
        let mut waits = Box::pin(places.take(&app));
        assert!(poll(&mut waits).is_pending());
        taken.truncate(LEAST as usize);
        assert!(poll(&mut waits).is_pending());
        taken.pop();
        assert!(poll(&mut waits).is_ready());
    }
}
