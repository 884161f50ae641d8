//! The clock of rollouts: it goes while a daemon listens, and stands still otherwise.
//!
//! Nobody can report while no daemon listens. Were that time counted, all targets that were on their way when a
//! daemon stopped would have failed when the next one comes. The clock never steps: where what it showed last
//! is lost, it shows less, so that a target has to be well for longer, and has more time for it.
//!
//! The clock on the wall does step: somebody sets it, or the machine slept while this one stood still. Whenever
//! this clock is read for something that is kept, the two are compared, and where they have come apart, moments
//! from then on are told by the new time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use upbeat_model::{Mono, Wall};

/// Of so many times that a daemon began to listen, or the wall's clock stepped, it is known when that was; moments
/// before are told as if they had been in the time of the first of them.
const EPOCHS_MAX: usize = 64;

/// Clocks that are further apart than this have stepped: more than anybody who sets a clock gently makes of it
/// between two looks, and less than anybody reads off a list.
const STEP_MS: u64 = 1_000;

/// From when on the two clocks went together: on this one, and on the one on the wall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Epoch {
    from: Mono,
    wall: Wall,
}

/// What is kept of the clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptClock {
    /// What it showed then.
    pub(super) now: Mono,
    epochs: Vec<Epoch>,
}

/// The clock.
#[derive(Debug)]
pub(super) struct Clock {
    base: Mono,
    begun: Instant,
    wall: fn() -> Wall,
    epochs: RwLock<Vec<Epoch>>,
    /// The wall has stepped, and that is not kept.
    stepped: AtomicBool,
}

/// What moments are on the wall.
fn told(epochs: &[Epoch], moment: Mono) -> Wall {
    let after = epochs.partition_point(|epoch| epoch.from <= moment);
    let Some(epoch) = epochs.get(after.saturating_sub(1)) else { return Wall(0) };
    let offset =
        i64::try_from(moment.0).unwrap_or(i64::MAX) - i64::try_from(epoch.from.0).unwrap_or(i64::MAX);
    Wall(epoch.wall.0.saturating_add(offset))
}

fn push(epochs: &mut Vec<Epoch>, epoch: Epoch) {
    epochs.push(epoch);
    let surplus = epochs.len().saturating_sub(EPOCHS_MAX);
    epochs.drain(..surplus);
}

impl Clock {
    /// Goes on from what was kept, or from a later moment that is known of.
    pub(super) fn go_on(kept: KeptClock, known: Mono, wall: fn() -> Wall) -> Self {
        // One more than was ever shown, so that nothing that follows has happened before.
        let base = Mono(kept.now.max(known).0 + 1);
        let mut epochs = kept.epochs;
        push(&mut epochs, Epoch { from: base, wall: wall() });
        let (epochs, stepped) = (RwLock::new(epochs), AtomicBool::new(false));
        Self { base, begun: Instant::now(), wall, epochs, stepped }
    }

    /// What it shows. Where the wall has stepped, what happens from this moment on is told by its new time.
    pub(super) fn now(&self) -> Mono {
        let now = self.shows();
        let wall = (self.wall)();
        let is_apart = |epochs: &[Epoch]| told(epochs, now).0.abs_diff(wall.0) > STEP_MS;
        if is_apart(&self.epochs.read().unwrap_or_else(PoisonError::into_inner)) {
            let mut epochs = self.epochs.write().unwrap_or_else(PoisonError::into_inner);
            // Somebody else may have found out meanwhile.
            if is_apart(&epochs) {
                epochs.retain(|epoch| epoch.from < now);
                push(&mut epochs, Epoch { from: now, wall });
                self.stepped.store(true, Ordering::Release);
            }
        }
        now
    }

    fn shows(&self) -> Mono {
        let gone = self.begun.elapsed().as_millis();
        Mono(self.base.0.saturating_add(u64::try_from(gone).unwrap_or(u64::MAX)))
    }

    /// When it shows that.
    pub(super) fn instant(&self, moment: Mono) -> Option<Instant> {
        self.begun.checked_add(Duration::from_millis(moment.since(self.base).0))
    }

    /// Whether the wall has stepped since this was asked last: then the clock is to be kept.
    pub(super) fn has_stepped(&self) -> bool {
        self.stepped.load(Ordering::Acquire) && self.stepped.swap(false, Ordering::AcqRel)
    }

    /// It could not be kept: somebody else has to.
    pub(super) fn step_is_not_kept(&self) {
        self.stepped.store(true, Ordering::Release);
    }

    /// What is to be kept.
    pub(super) fn kept(&self) -> KeptClock {
        let now = self.now();
        KeptClock { now, epochs: self.epochs.read().unwrap_or_else(PoisonError::into_inner).clone() }
    }

    /// When that was, for people.
    pub(super) fn wall(&self, moment: Mono) -> Wall {
        told(&self.epochs.read().unwrap_or_else(PoisonError::into_inner), moment)
    }

    /// What it will show then, as far as daemons listen until then, and nobody sets the wall's clock.
    pub(super) fn at(&self, wall: Wall) -> Mono {
        let now = self.now();
        Mono(now.0.saturating_add_signed(wall.0.saturating_sub((self.wall)().0)))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::*;

    thread_local! {
        /// What hangs on the wall shows so much more than the time that went by.
        static SHOWS: Cell<i64> = const { Cell::new(0) };
        static BEGUN: Cell<Option<Instant>> = const { Cell::new(None) };
    }

    fn wall() -> Wall {
        let begun = BEGUN.get().unwrap_or_else(|| {
            BEGUN.set(Some(Instant::now()));
            Instant::now()
        });
        Wall(SHOWS.get() + i64::try_from(begun.elapsed().as_millis()).unwrap())
    }

    /// It is that late, whatever it was before.
    fn set(to: i64) {
        BEGUN.set(Some(Instant::now()));
        SHOWS.set(to);
    }

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_stands_still_while_nobody_listens_and_tells_when_something_was() {
        set(1_000_000);
        let first = Clock::go_on(KeptClock::default(), Mono(0), wall);
        let begun = first.now();
        pass(5).await;
        assert_eq!(first.now().since(begun).0, 5_000);
        assert_eq!(first.wall(first.now()), Wall(1_005_000));
        let (kept, last) = (first.kept(), first.now());
        // A day later.
        set(86_400_000);
        let second = Clock::go_on(kept.clone(), begun, wall);
        assert_eq!(second.now().since(last).0, 1);
        assert_eq!(second.wall(second.now()), Wall(86_400_000));
        assert_eq!(second.wall(begun), Wall(1_000_000), "in the time of the first");
        assert_eq!(second.at(Wall(86_401_000)).since(second.now()).0, 1_000);
        assert!(!second.has_stepped());
        // What was written after the clock was kept shows that it was later.
        let third = Clock::go_on(kept, Mono(77_000), wall);
        assert_eq!(third.now(), Mono(77_001));
    }

    #[tokio::test(start_paused = true)]
    async fn what_happens_after_the_wall_has_stepped_is_told_by_its_new_time() {
        set(1_000_000);
        let clock = Clock::go_on(KeptClock::default(), Mono(0), wall);
        let before = clock.now();
        pass(10).await;
        set(1_011_000);
        assert_eq!(clock.wall(clock.now()), Wall(1_010_000), "a second is no step");
        assert!(!clock.has_stepped());
        set(1_011_001);
        let ahead = clock.now();
        assert!(clock.has_stepped() && !clock.has_stepped());
        assert_eq!(ahead.since(before).0, 10_000, "it does not step itself");
        assert_eq!((clock.wall(before), clock.wall(ahead)), (Wall(1_000_000), Wall(1_011_001)));
        // A day back, and then some time goes by that nobody looks.
        set(-86_400_000);
        pass(60).await;
        assert_eq!(clock.at(Wall(-86_300_000)).since(clock.now()).0, 40_000);
        let back = clock.now();
        assert_eq!((clock.wall(ahead), clock.wall(back)), (Wall(1_011_001), Wall(-86_340_000)));
        let next = Clock::go_on(clock.kept(), Mono(0), wall);
        assert_eq!((next.wall(ahead), next.wall(back)), (Wall(1_011_001), Wall(-86_340_000)));
        for n in 0..200 {
            set(n * 10_000);
            pass(1).await;
            next.now();
        }
        assert_eq!(next.kept().epochs.len(), EPOCHS_MAX);
    }

    #[test]
    fn of_many_daemons_the_last_are_known() {
        let mut kept = KeptClock::default();
        for n in 0..200_i64 {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            kept = runtime.block_on(async {
                set(n * 10_000);
                Clock::go_on(kept, Mono(0), wall).kept()
            });
        }
        assert_eq!(kept.epochs.len(), EPOCHS_MAX);
        assert!((1_990_000..1_991_000).contains(&kept.epochs.last().unwrap().wall.0));
    }
}
