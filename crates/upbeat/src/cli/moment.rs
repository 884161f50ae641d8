//! A moment, as people say it.

use jiff::civil::{Date, DateTime, Time};
use jiff::{SignedDuration, Timestamp};
use upbeat_model::Wall;

use super::length::length;
use crate::exit::ExitCode;
use crate::face::Face;
use crate::failure::Failure;

/// What can be said.
const MOMENTS: &str = "say how long ago, such as `10m`, `2h30m` or `7d`, or when: `14:00`, `2026-03-01 14:00`, `2026-03-01T14:00:00Z`";

/// What an option says, where it says anything.
pub(super) fn moment_of(option: &str, text: Option<&str>, face: &Face) -> Result<Option<Wall>, Failure> {
    let read = text.map(|text| moment(text, face)).transpose();
    read.map_err(|why| Failure::new(ExitCode::Usage, format!("`{option}`: {why}")).hint(MOMENTS))
}

/// `10m`: so long ago. `14:00`: today, on the clock of whoever asks; before, if that is still to come.
/// `2026-03-01`, `2026-03-01 14:00`: on that clock. With an offset: everywhere the same.
///
/// Errors: it is no moment.
fn moment(text: &str, face: &Face) -> Result<Wall, String> {
    let text = text.trim();
    let wrong = || format!("`{}` is no moment", text.escape_debug());
    let wall = |at: Timestamp| Wall(at.as_millisecond());
    let now = Timestamp::from_millisecond(face.now.0).map_err(|_| wrong())?;
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(wall(at));
    }
    let local = |at: DateTime| at.to_zoned(face.zone.clone()).map(|at| wall(at.timestamp()));
    if let Ok(at) = text.parse::<DateTime>() {
        return local(at).map_err(|_| wrong());
    }
    if let Ok(date) = text.parse::<Date>() {
        return local(date.to_datetime(Time::midnight())).map_err(|_| wrong());
    }
    if text.contains(':')
        && let Ok(time) = text.parse::<Time>()
    {
        let today = now.to_zoned(face.zone.clone()).date();
        let at = local(today.to_datetime(time)).map_err(|_| wrong())?;
        if at <= face.now {
            return Ok(at);
        }
        let yesterday = today.yesterday().map_err(|_| wrong())?;
        return local(yesterday.to_datetime(time)).map_err(|_| wrong());
    }
    let ago = text.strip_suffix("ago").unwrap_or(text).trim();
    if ago.bytes().all(|b| b.is_ascii_digit()) && !ago.is_empty() {
        return Err(format!("`{ago}` has no unit"));
    }
    let ago = length(ago).ok().and_then(|ago| SignedDuration::try_from(ago).ok()).ok_or_else(wrong)?;
    now.checked_sub(ago).map(wall).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::examples::{NOW, face};

    #[test]
    fn moments_are_read_as_people_say_them() {
        // 2026-03-01 12:00:00 UTC.
        for (text, ms) in [
            ("10m", -600_000),
            ("2h30m", -9_000_000),
            ("90s ago", -90_000),
            ("7d", -604_800_000),
            ("0s", 0),
            ("11:30", -1_800_000),
            ("12:30", 1_800_000 - 86_400_000),
            ("2026-03-01", -43_200_000),
            ("2026-03-01 11:00", -3_600_000),
            ("2026-03-01T11:00:00Z", -3_600_000),
            ("2026-03-01T12:00:00+02:00", -7_200_000),
            ("2026-03-02T00:00:00Z", 43_200_000),
        ] {
            assert_eq!(moment(text, &face()), Ok(Wall(NOW.0 + ms)), "{text}");
        }
        for text in ["", "soon", "-5m", "25:00", "2026-13-01", "10", "99999999h99999999h", "\u{1b}[2J"] {
            let error = moment(text, &face()).unwrap_err();
            assert!(!error.contains('\u{1b}'), "{error:?}");
        }
    }

    #[test]
    fn a_time_of_day_is_on_the_clock_of_who_asks() {
        let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(2));
        let face = Face { zone, ..face() };
        assert_eq!(moment("13:00", &face), Ok(Wall(NOW.0 - 3_600_000)));
    }
}
