//! What single words mean: lengths of time, sizes, numbers, true and false.

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
        let broken = Broken::new(format!("must be a whole number, not `{}`", super::report::shown(text)));
        let percent = text.strip_suffix('%').filter(|number| number.bytes().all(|b| b.is_ascii_digit()));
        return Err(match percent.filter(|number| !number.is_empty()) {
            Some(number) => broken.hint(format!("write `{}`", super::report::shown(number))),
            None => broken,
        });
    }
    text.parse().map_err(|_| Broken::new("is too large"))
}

const UNITS: &[(&str, u64)] =
    &[("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

/// A length of time as Compose writes it: `1h5m30s20ms`, `1.5s`; the units from large to small.
pub(super) fn length(text: &str) -> Result<Millis, Broken> {
    let micros = micros(text)?;
    if !micros.is_multiple_of(1_000) {
        return Err(Broken::new("is finer than a millisecond").hint("round it to whole milliseconds"));
    }
    let length = Some(Millis(micros / 1_000)).filter(|length| *length <= LENGTH_MAX);
    length.ok_or_else(|| Broken::new("is longer than a year"))
}

/// The same, in microseconds.
pub(super) fn micros(text: &str) -> Result<u64, Broken> {
    let bad = || {
        let what = format!("must be a length of time, not `{}`", super::report::shown(text));
        Broken::new(what).hint("such as `1h5m30s20ms`: `h`, `m`, `s`, `ms`, `us`")
    };
    let too_long = || Broken::new("is longer than a year");
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        let broken = Broken::new(format!("has no unit: `{}`", super::report::shown(text)));
        // Whether none at all can be meant, only the field knows.
        return Err(broken.hint(match text.bytes().all(|b| b == b'0') {
            true => "such as `1h5m30s20ms`: `h`, `m`, `s`, `ms`, `us`".to_owned(),
            false => format!("did you mean `{}s`?", super::report::shown(text)),
        }));
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
    if text.is_empty() { Err(bad()) } else { Ok(micros) }
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

/// A decimal number that is not negative: `0.5`, `2`.
pub(super) fn number(text: &str) -> Result<f64, Broken> {
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if !(digits(whole) || whole.is_empty()) || !digits(fraction) {
        return Err(Broken::new(format!("must be a number, not `{}`", super::report::shown(text))));
    }
    match text.parse::<f64>() {
        Ok(number) if number <= NUMBER_MAX => Ok(number),
        _ => Err(Broken::new("is too large")),
    }
}

/// Whole numbers up to here are exact.
const NUMBER_MAX: f64 = 9_007_199_254_740_992.0;

/// A size as Compose writes it: `512`, `64m`, `1.5gb`; units of 1024.
pub(super) fn bytes(text: &str) -> Result<u64, Broken> {
    let bad = || {
        Broken::new(format!("must be a size, not `{}`", super::report::shown(text)))
            .hint("such as `512`, `64m` or `2gb`")
    };
    let (digits, unit) = split_where(text, |b| !b.is_ascii_digit() && b != b'.');
    let shift = match unit.trim_start_matches(' ').to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return Err(bad()),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) || fraction.len() > 9 {
        return Err(bad());
    }
    let too_large = || Broken::new("is too large");
    let unit = 1_u64 << shift;
    let whole = whole.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).ok_or_else(too_large)?;
    let scale = 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| bad())?);
    let part = fraction.parse::<u128>().map_err(|_| bad())? * u128::from(unit) / scale;
    let part = u64::try_from(part).map_err(|_| too_large())?;
    whole.checked_add(part).ok_or_else(too_large)
}

/// The mode of a file, in octal digits: `0440`.
pub(super) fn mode(text: &str) -> Result<u32, Broken> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    match u32::from_str_radix(digits, 8) {
        Ok(mode) if mode <= 0o7777 && !digits.starts_with('+') => Ok(mode),
        _ => Err(Broken::new(format!("must be a file mode, not `{}`", super::report::shown(text)))
            .hint("octal digits, such as `0440`")),
    }
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
    fn sizes_are_read_as_compose_writes_them() {
        for (text, size) in [
            ("0", 0),
            ("512", 512),
            ("64m", 64 << 20),
            ("1.5gb", 3 << 29),
            ("2 KiB", 2048),
            ("16777215t", 16_777_215 << 40),
        ] {
            assert_eq!(bytes(text).map_err(|e| e.what), Ok(size), "{text}");
        }
        for text in ["", "m", "-1", "1x", "1..5m", "0x10", "99999999999999999999", "16777216t", "1e3"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_and_modes() {
        for (text, value) in [("0.5", 0.5), ("2", 2.0), (".25", 0.25)] {
            assert_eq!(number(text).map_err(|e| e.what), Ok(value), "{text}");
        }
        for text in ["", ".", "-1", "1e3", "inf", "NaN", "9007199254740993000"] {
            assert!(number(text).is_err(), "{text}");
        }
        assert_eq!(mode("0440").map_err(|e| e.what), Ok(0o440));
        assert_eq!(mode("0o600").map_err(|e| e.what), Ok(0o600));
        for text in ["", "8", "-1", "+7", "10000", "rw"] {
            assert!(mode(text).is_err(), "{text}");
        }
    }
}
