//! What single words mean: lengths of time, whole numbers, true and false, `$`.

use std::ops::Range;

use super::LENGTH_MAX;
use super::rules::Broken;
use crate::time::Millis;

/// `true` or `false`. The other words YAML once had for them are refused, not guessed.
pub(super) fn flag(text: &str) -> Result<bool, Broken> {
    match text {
        "true" | "True" | "TRUE" => Ok(true),
        "false" | "False" | "FALSE" => Ok(false),
        _ => {
            let hint = match text.to_ascii_lowercase().as_str() {
                "yes" | "on" | "y" | "1" => Some("write `true`"),
                "no" | "off" | "n" | "0" => Some("write `false`"),
                _ => None,
            };
            Err(Broken::new("must be `true` or `false`").hinted(hint))
        }
    }
}

/// Decimal digits and nothing else.
pub(super) fn whole(text: &str) -> Result<u64, Broken> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        let what = format!("must be a whole number, not `{}`", super::report::shown(text));
        return Err(Broken::new(what));
    }
    text.parse().map_err(|_| Broken::new("is too large"))
}

const UNITS: &[(&str, u64)] =
    &[("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

/// A length of time as Compose writes it: `1h5m30s20ms`, `1.5s`; the units from large to small.
pub(super) fn length(text: &str) -> Result<Millis, Broken> {
    let bad = || {
        let what = format!("must be a length of time, not `{}`", super::report::shown(text));
        Broken::new(what).hint("such as `1h5m30s20ms`: `h`, `m`, `s`, `ms`, `us`")
    };
    let too_long = || Broken::new("is longer than a year");
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        let what = format!("has no unit: `{}`", super::report::shown(text));
        return Err(Broken::new(what).hint(format!("did you mean `{}s`?", super::report::shown(text))));
    }
    let mut rest = text;
    let mut units = UNITS;
    let mut micros = 0_u64;
    while !rest.is_empty() {
        let (number, after) = split_where(rest, |b| !b.is_ascii_digit() && b != b'.');
        let (unit, after) = split_where(after, |b| !b.is_ascii_alphabetic());
        let place = units.iter().position(|(name, _)| *name == unit).ok_or_else(bad)?;
        let part = times(number, units[place].1).ok_or_else(bad)?.ok_or_else(too_long)?;
        micros = micros.checked_add(part).ok_or_else(too_long)?;
        units = &units[place + 1..];
        rest = after;
    }
    if text.is_empty() {
        return Err(bad());
    }
    if !micros.is_multiple_of(1_000) {
        return Err(Broken::new("is finer than a millisecond").hint("round it to whole milliseconds"));
    }
    Some(Millis(micros / 1_000)).filter(|l| *l <= LENGTH_MAX).ok_or_else(too_long)
}

fn split_where(text: &str, end: impl Fn(u8) -> bool) -> (&str, &str) {
    text.split_at(text.bytes().position(end).unwrap_or(text.len()))
}

/// `1.5` times a unit. Outside: not a number; inside: too large.
fn times(number: &str, unit: u64) -> Option<Option<u64>> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    // Nine places are finer than a microsecond of an hour needs; more would overflow.
    if fraction.len() > 9 {
        return None;
    }
    let scale = 10_u64.pow(u32::try_from(fraction.len()).ok()?);
    let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(unit);
    if !part.is_multiple_of(u128::from(scale)) {
        return None;
    }
    let part = u64::try_from(part / u128::from(scale)).ok()?;
    Some(whole.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)?.checked_add(part)))
}

/// The first `$` that is not one of a pair, with the variable it names: `$`, `$TAG`, `${TAG:-x}`.
pub(super) fn unpaired_dollar(text: &str) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let mut start = 0;
    loop {
        start += bytes[start..].iter().position(|b| *b == b'$')?;
        if bytes.get(start + 1) != Some(&b'$') {
            break;
        }
        start += 2;
    }
    let rest = &bytes[start + 1..];
    let length = match rest.first() {
        Some(b'{') => rest.iter().position(|b| *b == b'}').map_or(1, |end| end + 1),
        Some(b) if b.is_ascii_alphabetic() || *b == b'_' => {
            rest.iter().position(|b| !b.is_ascii_alphanumeric() && *b != b'_').unwrap_or(rest.len())
        }
        _ => 0,
    };
    Some(start..start + 1 + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_as_compose_writes_them() {
        for (text, ms) in [
            ("1h5m30s20ms", 3_930_020),
            ("500ms", 500),
            ("1.5s", 1_500),
            ("0.5h", 1_800_000),
            ("2000us", 2),
            ("0s", 0),
            ("8760h", LENGTH_MAX.0),
        ] {
            assert_eq!(length(text).map_err(|e| e.what), Ok(Millis(ms)), "{text}");
        }
    }

    #[test]
    fn no_other_text_is_a_length() {
        for text in [
            "",
            "5",
            "s",
            "5 s",
            " 5s",
            "-5s",
            "+5s",
            "5S",
            "5d",
            "5s5h",
            "5s5s",
            "1..5s",
            ".s",
            "1.s",
            "1e3s",
            "5µs",
            "5us",
            "0.0001s",
            "8761h",
            "99999999999999999999h",
            "9999999999999h9999999999999m",
            "1.0000000001s",
        ] {
            assert!(length(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_pair_of_dollars_is_one() {
        for (text, found) in [
            ("a$$b$$$$", None),
            ("", None),
            ("$", Some("$")),
            ("$$$", Some("$")),
            ("a $TAG-x", Some("$TAG")),
            ("${A:-$B}x", Some("${A:-$B}")),
            ("${A", Some("${")),
            ("$1", Some("$")),
            ("$ä", Some("$")),
        ] {
            assert_eq!(unpaired_dollar(text).map(|r| &text[r]), found, "{text}");
        }
    }
}
