//! Moments and lengths of time as people say them.

use upbeat_model::Wall;

use super::Face;

/// `0s`, `59s`, `3m`, `2h`, `5d`: one unit, since at a glance no more is read.
pub fn age(since: Wall, now: Wall) -> String {
    // A clock that was stepped back makes a negative age; "just now" is the honest reading.
    let seconds = (now.0 - since.0).max(0) / 1_000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// `14:03:05` today, `2026-03-01 14:03:05` on any other day, in the person's time zone.
pub fn clock(at: Wall, face: &Face) -> String {
    let Some(at) = zoned(at, face) else { return "?".into() };
    match zoned(face.now, face) {
        Some(now) if now.date() == at.date() => at.strftime("%H:%M:%S").to_string(),
        _ => at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
    }
}

/// `2026-03-01T14:03:05.123Z`: for logs, the same for everybody who compares them.
pub fn stamp(at_ns: i64) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(at_ns)) {
        Ok(at) => format!("{at:.3}"),
        Err(_) => "?".into(),
    }
}

fn zoned(at: Wall, face: &Face) -> Option<jiff::Zoned> {
    let at = jiff::Timestamp::from_millisecond(at.0).ok()?;
    Some(at.to_zoned(face.zone.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::examples::{NOW, face};

    #[test]
    fn ages_have_one_unit() {
        for (ms, text) in [
            (-5_000, "0s"),
            (999, "0s"),
            (59_999, "59s"),
            (60_000, "1m"),
            (3_599_999, "59m"),
            (3_600_000, "1h"),
            (86_399_999, "23h"),
            (864_000_000, "10d"),
        ] {
            assert_eq!(age(Wall(NOW.0 - ms), NOW), text);
        }
    }

    #[test]
    fn another_day_is_named() {
        assert_eq!(clock(NOW, &face()), "12:00:00");
        assert_eq!(clock(Wall(NOW.0 - 86_400_000), &face()), "2026-02-28 12:00:00");
        assert_eq!(clock(Wall(i64::MAX), &face()), "?");
    }

    #[test]
    fn stamps_are_utc_to_the_millisecond() {
        assert_eq!(stamp(NOW.0 * 1_000_000 + 7_000_000), "2026-03-01T12:00:00.007Z");
    }
}
