//! Lengths of time, as they are typed: one reader for all options.

use std::time::Duration;

use jiff::SignedDuration;

const DAY_SECONDS: u64 = 86_400;

/// `90s`, `1h30m`, `30d`, `7d12h`: with a unit, since `30` is days to one and seconds to another.
///
/// Errors: it is none, in words.
pub(super) fn length(text: &str) -> Result<Duration, String> {
    let expected = || "expected a length of time, such as `90s`, `2h30m` or `7d`".to_owned();
    if is_number(text) {
        return Err(format!(
            "`{text}` has no unit; did you mean `{text}s`, `{text}m`, `{text}h` or `{text}d`?"
        ));
    }
    let (days, rest) = match text.split_once('d').filter(|(days, _)| is_number(days)) {
        Some((days, rest)) => (days.parse::<u64>().map_err(|_| expected())?, rest.trim_start()),
        None => (0, text),
    };
    let rest = match rest {
        "" if days > 0 || text.starts_with('0') => Duration::ZERO,
        rest => rest
            .parse::<SignedDuration>()
            .ok()
            .and_then(|rest| Duration::try_from(rest).ok())
            .ok_or_else(expected)?,
    };
    let days = days.checked_mul(DAY_SECONDS).map(Duration::from_secs);
    days.and_then(|days| days.checked_add(rest)).ok_or_else(expected)
}

/// How long to wait: a [`length`], or a number of seconds, as people know it from Compose.
pub(super) fn patience(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    length(text)
        .map_err(|_| "expected a length of time, such as `90s` or `2m`, or a number of seconds".to_owned())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_units() {
        let day = DAY_SECONDS;
        for (text, seconds) in [
            ("90s", 90),
            ("2m", 120),
            ("1m30s", 90),
            ("0s", 0),
            ("12h", 12 * 3_600),
            ("30d", 30 * day),
            ("0d", 0),
            ("1d12h", day + 12 * 3_600),
            ("1d 12h", day + 12 * 3_600),
        ] {
            assert_eq!(length(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "-5s", "soon", "5 apples", "d", "-1d", "1y", "1d-2h", "99999999999999999999d"] {
            assert!(length(text).is_err(), "{text}");
        }
        assert!(length("30").unwrap_err().starts_with("`30` has no unit; did you mean `30s`"));
    }

    #[test]
    fn patience_may_be_plain_seconds() {
        assert_eq!(patience("90"), Ok(Duration::from_secs(90)));
        assert_eq!(patience("2m"), Ok(Duration::from_secs(120)));
        assert!(patience("soon").unwrap_err().ends_with("or a number of seconds"));
    }
}
