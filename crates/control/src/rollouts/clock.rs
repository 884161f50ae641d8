//! The clock of rollouts: it goes while a daemon listens, and stands still otherwise.
//!
//! Nobody can report while no daemon listens. Were that time counted, all targets that were on their way when a
//! daemon stopped would have failed when the next one comes. The clock never steps: where what it showed last
//! is lost, it shows less, so that a target has to be well for longer, and has more time for it.

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use upbeat_model::{Mono, Wall};

/// Of so many daemons it is known when they listened; moments before are told as if they had been in the time
/// of the first of them.
const EPOCHS_MAX: usize = 64;

/// From when on a daemon listened: on this clock, and on the one on the wall.
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
    epochs: Vec<Epoch>,
}

impl Clock {
    /// Goes on from what was kept, or from a later moment that is known of.
    pub(super) fn go_on(kept: KeptClock, known: Mono, wall: Wall) -> Self {
        // One more than was ever shown, so that nothing that follows has happened before.
        let base = Mono(kept.now.max(known).0 + 1);
        let mut epochs = kept.epochs;
        epochs.push(Epoch { from: base, wall });
        let surplus = epochs.len().saturating_sub(EPOCHS_MAX);
        epochs.drain(..surplus);
        Self { base, begun: Instant::now(), epochs }
    }

    /// What it shows.
    pub(super) fn now(&self) -> Mono {
        let gone = self.begun.elapsed().as_millis();
        Mono(self.base.0.saturating_add(u64::try_from(gone).unwrap_or(u64::MAX)))
    }

    /// What is to be kept.
    pub(super) fn kept(&self) -> KeptClock {
        KeptClock { now: self.now(), epochs: self.epochs.clone() }
    }

    /// When that was, for people.
    pub(super) fn wall(&self, moment: Mono) -> Wall {
        let after = self.epochs.partition_point(|epoch| epoch.from <= moment);
        let Some(epoch) = self.epochs.get(after.saturating_sub(1)) else { return Wall(0) };
        let offset =
            i64::try_from(moment.0).unwrap_or(i64::MAX) - i64::try_from(epoch.from.0).unwrap_or(i64::MAX);
        Wall(epoch.wall.0.saturating_add(offset))
    }

    /// What it will show then, as far as daemons listen until then.
    pub(super) fn at(&self, wall: Wall) -> Mono {
        let Some(epoch) = self.epochs.last() else { return self.now() };
        let offset = wall.0.saturating_sub(epoch.wall.0);
        Mono(epoch.from.0.saturating_add_signed(offset))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_stands_still_while_nobody_listens_and_tells_when_something_was() {
        let first = Clock::go_on(KeptClock::default(), Mono(0), Wall(1_000_000));
        let begun = first.now();
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(first.now().since(begun).0, 5_000);
        assert_eq!(first.wall(first.now()), Wall(1_005_000));
        let kept = first.kept();
        // A day later.
        let second = Clock::go_on(kept, begun, Wall(86_400_000));
        assert_eq!(second.now().since(first.now()).0, 1);
        assert_eq!(second.wall(second.now()), Wall(86_400_000));
        assert_eq!(second.wall(begun), Wall(1_000_000), "in the time of the first");
        assert_eq!(second.at(Wall(86_401_000)).since(second.now()).0, 1_000);
        // What was written after the clock was kept shows that it was later.
        let third = Clock::go_on(first.kept(), Mono(77_000), Wall(0));
        assert_eq!(third.now(), Mono(77_001));
    }

    #[test]
    fn of_many_daemons_the_last_are_known() {
        let mut kept = KeptClock::default();
        for n in 0..200_i64 {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            kept = runtime.block_on(async { Clock::go_on(kept, Mono(0), Wall(n * 1_000)).kept() });
        }
        assert_eq!(kept.epochs.len(), EPOCHS_MAX);
        assert_eq!(kept.epochs.last().unwrap().wall, Wall(199_000));
    }
}
