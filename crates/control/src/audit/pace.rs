//! How fast records of those who are turned away are written: so slowly that nobody fills the disk
//! with them, or pushes out what others did.

use std::time::Duration;

/// So many at once are written: a person who mistypes, a scanner that passes by.
const BURST: u64 = 20;

/// Then one in so long: 1,440 a day, half a megabyte; the whole log in half a year.
const EACH: Duration = Duration::from_secs(60);

/// A bucket of permissions to write.
#[derive(Debug)]
pub(crate) struct Pace {
    left: u64,
    /// When the last permission was added.
    filled: Duration,
    not_written: u64,
}

impl Pace {
    /// Full, at this moment of any clock that does not step.
    pub(crate) fn new(now: Duration) -> Self {
        Self { left: BURST, filled: now, not_written: 0 }
    }

    /// Whether one more may be written; then how many before it were not.
    pub(crate) fn take(&mut self, now: Duration) -> Option<u64> {
        let due = now.saturating_sub(self.filled).as_secs() / EACH.as_secs();
        self.filled += Duration::from_secs(due * EACH.as_secs());
        self.left = self.left.saturating_add(due).min(BURST);
        if self.left == 0 {
            self.not_written += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.not_written))
    }

    /// One that was allowed could not be written.
    pub(crate) fn lost(&mut self, not_written: u64) {
        self.not_written += not_written + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_trickle_and_says_how_much_it_was() {
        let mut pace = Pace::new(Duration::ZERO);
        let written: Vec<u64> = (0..1_000).filter_map(|_| pace.take(Duration::from_secs(1))).collect();
        assert_eq!(written, vec![0; 20]);
        assert_eq!(pace.take(Duration::from_secs(59)), None);
        assert_eq!(pace.take(Duration::from_secs(60)), Some(981));
        assert_eq!(pace.take(Duration::from_secs(61)), None);
        let days: usize =
            (0..86_400 * 2).filter(|s| pace.take(Duration::from_secs(61 + s)).is_some()).count();
        assert!((2_879..=2_881).contains(&days), "{days}");
    }
}
