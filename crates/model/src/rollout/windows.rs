//! When targets may be moved: by the week, by the calendar.
//!
//! Pure: the moment is an argument. A day is that of one fixed offset from UTC; the rules of named zones change
//! with laws, and are not in this program.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::StrategyError;
use crate::{Millis, Wall};

/// So many windows at most, and so many freezes: each is looked at for each decision.
pub const WINDOWS_MAX: usize = 32;
/// The longest reason of a freeze, in bytes.
pub const FREEZE_REASON_MAX: usize = 256;

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;
/// Who looks further than a week of windows sees the same again.
const WEEK: i64 = 7 * DAY;

/// When targets may be moved forward: always, where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Windows {
    /// Whose days and hours are meant.
    pub utc_offset: Offset,
    /// In one of these, unless there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<Window>,
    /// And in none of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub freezes: Vec<Freeze>,
}

/// A time of some days of the week.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// On which it begins; none: on each.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub days: BTreeSet<Weekday>,
    /// When it begins.
    pub from: TimeOfDay,
    /// When it has ended. Where that is not later, it is that of the next day.
    pub to: TimeOfDay,
}

/// Nobody is moved forward in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// When it begins.
    pub from: Wall,
    /// When it has ended.
    pub to: Wall,
    /// Why.
    pub reason: String,
}

/// A day of the week.
#[expect(missing_docs, reason = "their names say it")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Weekday {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// Minutes since midnight, from `00:00` to `24:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct TimeOfDay(u16);

/// How far ahead of UTC the clocks are: `Z`, `+05:30`, `-03:00`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct Offset(i16);

/// It is no time, or no offset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTime {
    /// Not a time of the day.
    #[error("`{0}` is not a time of the day: write it like `09:30`, from `00:00` to `24:00`")]
    TimeOfDay(String),
    /// Not an offset.
    #[error("`{0}` is not an offset: write it like `Z`, `+05:30` or `-03:00`, to 14 hours at most")]
    Offset(String),
    /// The name of a zone.
    #[error(
        "`{0}` is the name of a time zone, whose rules are not in this program: write its offset from UTC, \
         like `+02:00`, and change that when its clocks change"
    )]
    Zone(String),
}

/// Whether targets may be moved forward now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Opening {
    /// They may.
    Open {
        /// Since so long; none: always.
        lasts: Option<Millis>,
        /// Until then; none: for good.
        until: Option<Wall>,
    },
    /// They may not.
    Closed {
        /// Until then; none: for good.
        until: Option<Wall>,
        /// Why.
        why: String,
    },
}

impl Window {
    /// When it begins and when it has ended, counted from the first midnight of that day.
    fn span(&self) -> (i64, i64) {
        let (from, to) = (i64::from(self.from.0) * MINUTE, i64::from(self.to.0) * MINUTE);
        (from, if to > from { to } else { to + DAY })
    }

    /// Those that begin on the day of this local moment, and as many days around it: from, and to.
    fn around(&self, local: i64, days: std::ops::RangeInclusive<i64>) -> impl Iterator<Item = (i64, i64)> {
        let (today, (from, to)) = (local.div_euclid(DAY), self.span());
        let begins = days.map(move |day| today + day).filter(|day| self.is_on(*day));
        begins.map(move |day| (day * DAY + from, day * DAY + to))
    }

    /// Whether it begins on that day since the epoch, which was a Thursday.
    fn is_on(&self, day: i64) -> bool {
        use Weekday::{Fri, Mon, Sat, Sun, Thu, Tue, Wed};
        let weekday = match day.rem_euclid(7) {
            0 => Thu,
            1 => Fri,
            2 => Sat,
            3 => Sun,
            4 => Mon,
            5 => Tue,
            _ => Wed,
        };
        self.days.is_empty() || self.days.contains(&weekday)
    }
}

impl Windows {
    /// There is nothing to look at: it is always open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.freezes.is_empty()
    }

    /// Errors: a field that cannot be, by its name.
    pub fn check(&self) -> Result<(), StrategyError> {
        let fail = |field: String, must: &str| Err(StrategyError::must(field, must));
        if self.open.len() > WINDOWS_MAX {
            return fail("windows.open".into(), "have 32 windows at most");
        }
        if self.freezes.len() > WINDOWS_MAX {
            return fail("windows.freezes".into(), "have 32 freezes at most");
        }
        for (n, freeze) in self.freezes.iter().enumerate() {
            if freeze.to <= freeze.from {
                return fail(format!("windows.freezes[{n}].to"), "be later than `from`");
            }
            if freeze.reason.is_empty() || freeze.reason.len() > FREEZE_REASON_MAX {
                return fail(format!("windows.freezes[{n}].reason"), "have between 1 and 256 bytes");
            }
        }
        Ok(())
    }

    /// Whether it is open at that moment; until when, and why not.
    pub fn at(&self, now: Wall) -> Opening {
        if let Some(freeze) = self.frozen(now.0) {
            return Opening::Closed { until: self.opens(now.0), why: format!("frozen: {}", freeze.reason) };
        }
        match self.is_in_window(now.0) {
            true => Opening::Open { lasts: self.lasts(now.0), until: self.closes(now.0) },
            false => Opening::Closed { until: self.opens(now.0), why: "outside of all windows".to_owned() },
        }
    }

    fn frozen(&self, at: i64) -> Option<&Freeze> {
        let now = self.freezes.iter().filter(|freeze| freeze.from.0 <= at && at < freeze.to.0);
        now.max_by_key(|freeze| freeze.to)
    }

    fn is_in_window(&self, at: i64) -> bool {
        let local = self.local(at);
        let is_in =
            |window: &Window| window.around(local, -1..=0).any(|(from, to)| from <= local && local < to);
        self.open.is_empty() || self.open.iter().any(is_in)
    }

    fn is_open(&self, at: i64) -> bool {
        self.frozen(at).is_none() && self.is_in_window(at)
    }

    fn local(&self, at: i64) -> i64 {
        at.saturating_add(i64::from(self.utc_offset.0) * MINUTE)
    }

    /// Each moment at which a window or a freeze begins or has ended, for more than a week on both sides.
    fn edges(&self, at: i64) -> BTreeSet<i64> {
        let (local, ahead) = (self.local(at), i64::from(self.utc_offset.0) * MINUTE);
        let windows = self.open.iter().flat_map(|window| window.around(local, -9..=8));
        let windows = windows.flat_map(|(from, to)| [from - ahead, to - ahead]);
        let freezes = self.freezes.iter().flat_map(|freeze| [freeze.from.0, freeze.to.0]);
        windows.chain(freezes).collect()
    }

    /// When it is closed next, if it is open now.
    fn closes(&self, at: i64) -> Option<Wall> {
        let edges = self.edges(at);
        let near = edges.range(at + 1..).take_while(|edge| **edge <= at.saturating_add(WEEK));
        let by_the_week = near.copied().find(|edge| !self.is_open(*edge));
        // Where a week has no end, only a freeze is one.
        let freezes = self.freezes.iter().map(|freeze| freeze.from.0);
        by_the_week.or_else(|| freezes.filter(|from| *from > at).min()).map(Wall)
    }

    /// For how long it has been open, if it is now.
    fn lasts(&self, at: i64) -> Option<Millis> {
        let edges = self.edges(at);
        let near = edges.range(..=at).rev().take_while(|edge| **edge >= at.saturating_sub(WEEK));
        // An edge at which it is open, and was not just before.
        let opened = near.copied().find(|edge| self.is_open(*edge) && !self.is_open(*edge - 1));
        let thawed = self.freezes.iter().map(|freeze| freeze.to.0);
        let since = opened.or_else(|| thawed.filter(|to| *to <= at).max())?;
        Some(Millis(u64::try_from(at - since).unwrap_or(0)))
    }

    /// When it is open next, if it is closed now.
    fn opens(&self, at: i64) -> Option<Wall> {
        let mut at = at;
        // Each turn leaves a freeze behind, or is the last.
        for _ in 0..=2 * self.freezes.len() + 1 {
            if let Some(freeze) = self.frozen(at) {
                at = freeze.to.0;
            } else if self.is_in_window(at) {
                return Some(Wall(at));
            } else {
                let edges = self.edges(at);
                at = edges.range(at + 1..).copied().find(|edge| self.is_in_window(*edge))?;
            }
        }
        None
    }
}

impl TryFrom<String> for TimeOfDay {
    type Error = BadTime;

    fn try_from(text: String) -> Result<Self, BadTime> {
        match hours_and_minutes(&text) {
            Some((hours, minutes)) if hours < 24 || (hours, minutes) == (24, 0) => {
                Ok(Self(hours * 60 + minutes))
            }
            _ => Err(BadTime::TimeOfDay(text)),
        }
    }
}

/// Of `HH:MM`.
fn hours_and_minutes(text: &str) -> Option<(u16, u16)> {
    let number = |part: &str| match part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit()) {
        true => part.parse().ok(),
        false => None,
    };
    let (hours, minutes) = text.split_once(':')?;
    Some((number(hours)?, number(minutes)?)).filter(|(_, minutes)| *minutes < 60)
}

impl TryFrom<String> for Offset {
    type Error = BadTime;

    fn try_from(text: String) -> Result<Self, BadTime> {
        if matches!(&*text, "Z" | "UTC") {
            return Ok(Self(0));
        }
        let parted = match text.split_at_checked(1) {
            Some(("+", rest)) => Some((1, rest)),
            Some(("-", rest)) => Some((-1, rest)),
            _ => None,
        };
        let signed = parted.and_then(|(sign, rest)| Some((sign, hours_and_minutes(rest)?)));
        match signed {
            Some((sign, (hours, minutes))) if hours * 60 + minutes <= 14 * 60 => {
                Ok(Self(sign * (hours * 60 + minutes).cast_signed()))
            }
            None if text.starts_with(|first: char| first.is_ascii_alphabetic()) => Err(BadTime::Zone(text)),
            _ => Err(BadTime::Offset(text)),
        }
    }
}

impl From<TimeOfDay> for String {
    fn from(time: TimeOfDay) -> Self {
        time.to_string()
    }
}

impl From<Offset> for String {
    fn from(offset: Offset) -> Self {
        offset.to_string()
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("Z"),
            ahead => {
                let (sign, minutes) = (if ahead < 0 { '-' } else { '+' }, ahead.unsigned_abs());
                write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Minutes since Monday, 2024-01-01 00:00 UTC.
    fn at(day: i64, hours: i64, minutes: i64) -> Wall {
        Wall(1_704_067_200_000 + ((day * 24 + hours) * 60 + minutes) * MINUTE)
    }

    fn windows(text: &str) -> Windows {
        serde_json::from_str(text).unwrap()
    }

    fn closed(until: Option<Wall>, why: &str) -> Opening {
        Opening::Closed { until, why: why.to_owned() }
    }

    const OUTSIDE: &str = "outside of all windows";

    #[test]
    fn where_nothing_is_said_it_is_always_open() {
        assert_eq!(Windows::default().at(Wall(0)), Opening::Open { lasts: None, until: None });
    }

    #[test]
    fn days_and_hours_are_those_of_the_offset() {
        let office = r#"{"utc_offset":"+02:00",
            "open":[{"days":["mon","tue","wed","thu","fri"],"from":"09:00","to":"17:00"}]}"#;
        let office = windows(office);
        let open =
            |minutes: u64, until| Opening::Open { lasts: Some(Millis(minutes * 60_000)), until: Some(until) };
        assert_eq!(office.at(at(0, 6, 59)), closed(Some(at(0, 7, 0)), OUTSIDE));
        assert_eq!(office.at(at(0, 7, 0)), open(0, at(0, 15, 0)));
        assert_eq!(office.at(at(0, 14, 59)), open(479, at(0, 15, 0)));
        assert_eq!(office.at(at(4, 15, 0)), closed(Some(at(7, 7, 0)), OUTSIDE), "over the week-end");
    }

    #[test]
    fn a_window_may_end_on_the_next_day_and_two_may_follow_each_other() {
        let night = windows(r#"{"open":[{"days":["sun"],"from":"22:00","to":"04:00"}]}"#);
        let until = Some(at(7, 4, 0));
        assert_eq!(night.at(at(7, 1, 0)), Opening::Open { lasts: Some(Millis(3 * 3_600_000)), until });
        assert_eq!(night.at(at(7, 4, 0)), closed(Some(at(13, 22, 0)), OUTSIDE));
        let two = windows(r#"{"open":[{"from":"00:00","to":"12:00"},{"from":"12:00","to":"20:00"}]}"#);
        let until = Some(at(0, 20, 0));
        assert_eq!(two.at(at(0, 3, 0)), Opening::Open { lasts: Some(Millis(3 * 3_600_000)), until });
        let whole = windows(r#"{"open":[{"from":"00:00","to":"24:00"}]}"#);
        assert_eq!(whole.at(at(0, 3, 0)), Opening::Open { lasts: None, until: None }, "it never ends");
    }

    #[test]
    fn a_freeze_closes_what_is_open_and_ends_in_the_next_window() {
        let (from, to) = (at(30, 0, 0).0, at(61, 0, 0).0);
        let text = format!(
            r#"{{"open":[{{"days":["wed"],"from":"09:00","to":"10:00"}}],
            "freezes":[{{"from":{from},"to":{to},"reason":"the holidays"}}]}}"#
        );
        // Days 58 and 65 are Wednesdays, and 30 is one.
        let frozen = windows(&text);
        let why = "frozen: the holidays";
        assert_eq!(frozen.at(at(58, 9, 30)), closed(Some(at(65, 9, 0)), why));
        assert_eq!(frozen.at(at(29, 9, 30)), closed(Some(at(65, 9, 0)), OUTSIDE));
        let only = Windows { open: vec![], ..frozen };
        assert_eq!(only.at(at(0, 0, 0)), Opening::Open { lasts: None, until: Some(at(30, 0, 0)) });
        assert_eq!(only.at(at(31, 0, 0)), closed(Some(at(61, 0, 0)), why));
        let after = Opening::Open { lasts: Some(Millis(3_600_000)), until: None };
        assert_eq!(only.at(at(61, 1, 0)), after);
    }

    /// Looked at minute by minute, what was said beforehand comes true.
    #[test]
    fn until_when_is_when_it_changes() {
        let freeze = format!(r#"{{"from":{},"to":{},"reason":"x"}}"#, at(2, 9, 30).0, at(3, 9, 45).0);
        for open in [
            r#"{"from":"09:00","to":"10:00"}"#,
            r#"{"days":["mon","wed"],"from":"23:30","to":"00:30"},{"from":"08:00","to":"08:30"}"#,
            r#"{"days":["thu"],"from":"00:00","to":"00:00"},{"days":["fri"],"from":"00:00","to":"01:00"}"#,
        ] {
            let windows =
                windows(&format!(r#"{{"utc_offset":"-03:30","open":[{open}],"freezes":[{freeze}]}}"#));
            let is_open = |minute| matches!(windows.at(at(0, 0, minute)), Opening::Open { .. });
            let changes: Vec<i64> =
                (1..20 * 24 * 60).filter(|minute| is_open(*minute) != is_open(minute - 1)).collect();
            for minute in (0..7 * 24 * 60).step_by(15) {
                let next = changes.iter().find(|change| **change > minute).map(|change| at(0, 0, *change));
                let last = changes.iter().rev().find(|change| **change <= minute);
                match windows.at(at(0, 0, minute)) {
                    Opening::Closed { until, .. } => assert_eq!(until, next, "{minute}"),
                    Opening::Open { until, lasts } => {
                        assert_eq!(until, next, "{minute}");
                        if let Some(last) = last {
                            assert_eq!(
                                lasts.unwrap().0,
                                ((minute - last) * MINUTE).unsigned_abs(),
                                "{minute}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_time_is_refused_with_what_to_write() {
        let refused = |text: &str| serde_json::from_str::<Windows>(text).unwrap_err().to_string();
        let zone = refused(r#"{"utc_offset":"Europe/Berlin"}"#);
        assert!(zone.contains("`Europe/Berlin` is the name of a time zone"), "{zone}");
        assert!(zone.contains("write its offset from UTC, like `+02:00`"), "{zone}");
        for bad in ["2", "+2:00", "+15:00", "+14:01", "+02:60", "", "é"] {
            assert!(Offset::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        for bad in ["9:00", "24:01", "12:60", "12", "-1:00", "+1:00"] {
            assert!(TimeOfDay::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        for good in ["Z", "+05:30", "-03:00"] {
            assert_eq!(Offset::try_from(good.to_owned()).unwrap().to_string(), good);
        }
        let freeze = windows(r#"{"freezes":[{"from":5,"to":5,"reason":"x"}]}"#);
        let error = freeze.check().unwrap_err().to_string();
        assert_eq!(error, "`windows.freezes[0].to` must be later than `from`");
    }
}
