//! Signals, by their names and numbers.

use serde::{Deserialize, Serialize};

/// A signal, by number, that Linux can deliver to a process on x86-64 and arm64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Signal(pub i32);

impl Signal {
    /// `SIGTERM`.
    pub const TERM: Self = Self(15);
    /// `SIGKILL`.
    pub const KILL: Self = Self(9);
    /// `SIGSTOP`.
    pub const STOP: Self = Self(19);

    const NAMES: &[(&str, i32)] = &[
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ILL", 4),
        ("TRAP", 5),
        ("ABRT", 6),
        ("BUS", 7),
        ("FPE", 8),
        ("KILL", 9),
        ("USR1", 10),
        ("SEGV", 11),
        ("USR2", 12),
        ("PIPE", 13),
        ("ALRM", 14),
        ("TERM", 15),
        ("STKFLT", 16),
        ("CHLD", 17),
        ("CONT", 18),
        ("STOP", 19),
        ("TSTP", 20),
        ("TTIN", 21),
        ("TTOU", 22),
        ("URG", 23),
        ("XCPU", 24),
        ("XFSZ", 25),
        ("VTALRM", 26),
        ("PROF", 27),
        ("WINCH", 28),
        ("IO", 29),
        ("PWR", 30),
        ("SYS", 31),
    ];

    /// The first and the last signal without a meaning of its own, as programs are told them.
    const REAL_TIME: (i32, i32) = (34, 64);

    /// Reads `SIGTERM`, `TERM`, `sigterm`, `15` or `SIGRTMIN+3`.
    pub fn parse(text: &str) -> Option<Self> {
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some((_, n)) = Self::NAMES.iter().find(|(name, _)| *name == bare) {
            return Some(Self(*n));
        }
        if let Some(rest) = bare.strip_prefix("RT") {
            return Self::real_time(rest);
        }
        text.parse().ok().filter(|n| (1..=64).contains(n)).map(Self)
    }

    /// `MIN`, `MIN+3`, `MAX`, `MAX-3`.
    fn real_time(text: &str) -> Option<Self> {
        let (least, most) = Self::REAL_TIME;
        let step = |text: &str, sign| match text.strip_prefix(sign) {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse::<i32>().ok(),
            Some(_) => None,
            None => text.is_empty().then_some(0),
        };
        let number = match (text.strip_prefix("MIN"), text.strip_prefix("MAX")) {
            (Some(rest), _) => least.checked_add(step(rest, '+')?)?,
            (_, Some(rest)) => most.checked_sub(step(rest, '-')?)?,
            _ => return None,
        };
        (least..=most).contains(&number).then_some(Self(number))
    }

    /// The names it knows, for suggestions.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::NAMES.iter().map(|(name, _)| *name)
    }
}

impl Default for Signal {
    fn default() -> Self {
        Self::TERM
    }
}

impl std::fmt::Display for Signal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match Self::NAMES.iter().find(|(_, n)| *n == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None => write!(f, "signal {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_by_their_names_and_numbers() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("sigkill", 9),
            ("9", 9),
            ("64", 64),
            ("SIGRTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmin+30", 64),
            ("RTMAX", 64),
            ("SIGRTMAX-30", 34),
        ] {
            assert_eq!(Signal::parse(text), Some(Signal(number)), "{text}");
        }
        for text in [
            "",
            "SIG",
            "0",
            "65",
            "-1",
            "SIGRTMIN+31",
            "SIGRTMAX-31",
            "SIGRTMIN-1",
            "RTMIN+",
            "RTMIN++1",
            "RT",
        ] {
            assert_eq!(Signal::parse(text), None, "{text}");
        }
        assert_eq!(Signal::parse("SIGRTMIN+99999999999"), None);
    }
}
