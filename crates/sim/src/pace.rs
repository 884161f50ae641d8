//! How fast a life goes: crowded minutes, or weeks in which little happens.

/// Of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Two minutes of commands, faults and crashes, then a quarter of an hour without.
    Minutes,
    /// The same in 21 days: probes come every few hours, processes live for days.
    Weeks,
}

/// In weeks everything that a file says takes so much longer.
const STRETCH: u64 = 2_000;

impl Pace {
    /// A length of time in minutes, as long as it is in this life.
    pub(crate) fn stretch(self, millis: u64) -> u64 {
        match self {
            Self::Minutes => millis,
            Self::Weeks => millis * STRETCH,
        }
    }

    /// For how long commands and faults come.
    pub(crate) fn chaos(self) -> u64 {
        match self {
            Self::Minutes => 120_000,
            Self::Weeks => 21 * 86_400_000,
        }
    }

    /// For how long all is quiet then: so long that the longest back-off is over several times.
    pub(crate) fn quiet(self) -> u64 {
        match self {
            Self::Minutes => 900_000,
            Self::Weeks => 4 * 86_400_000,
        }
    }
}
