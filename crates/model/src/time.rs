//! Time as data: nothing in this room can ask what time it is.

use serde::{Deserialize, Serialize};

/// A moment on the machine's boot clock, in milliseconds since boot (`CLOCK_BOOTTIME`).
///
/// Every deadline is one of these: the boot clock never steps, and it means the same to a daemon
/// that was killed and to the one that took its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Mono(pub u64);

/// A moment for people, in milliseconds since the Unix epoch. Never compared with a deadline, but for
/// the end of an access token, which people agree on by the calendar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Wall(pub i64);

/// A length of time in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// `n` whole seconds.
    pub const fn seconds(n: u64) -> Self {
        Self(n.saturating_mul(1000))
    }

    /// As the standard library's type, for the rooms that wait.
    pub const fn as_duration(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }
}

/// `350ms`, `4s`, `4.5s`, `2m5s`, `1h30m`: the two largest units that matter.
impl std::fmt::Display for Millis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = self.0;
        match ms {
            0..1_000 => write!(f, "{ms}ms"),
            1_000..60_000 if ms % 1_000 < 100 => write!(f, "{}s", ms / 1_000),
            1_000..60_000 => write!(f, "{}.{}s", ms / 1_000, ms % 1_000 / 100),
            60_000..3_600_000 => match ms / 1_000 % 60 {
                0 => write!(f, "{}m", ms / 60_000),
                s => write!(f, "{}m{s}s", ms / 60_000),
            },
            _ => match ms / 60_000 % 60 {
                0 => write!(f, "{}h", ms / 3_600_000),
                m => write!(f, "{}h{m}m", ms / 3_600_000),
            },
        }
    }
}

impl std::ops::Add<Millis> for Mono {
    type Output = Mono;
    fn add(self, d: Millis) -> Mono {
        Mono(self.0.saturating_add(d.0))
    }
}

impl Mono {
    /// How long from `earlier` until `self`; zero when `earlier` is later.
    pub fn since(self, earlier: Mono) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_read_as_people_say_them() {
        for (ms, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (4_500, "4.5s"),
            (59_999, "59.9s"),
            (125_000, "2m5s"),
            (5_400_000, "1h30m"),
            (3_600_000, "1h"),
        ] {
            assert_eq!(Millis(ms).to_string(), text);
        }
    }
}
