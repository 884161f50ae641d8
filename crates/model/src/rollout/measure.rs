//! How often something is measured, and how much of it may go wrong.

use serde::{Deserialize, Serialize};

use crate::Millis;

/// A value that is kept of a sample has so many bytes at most.
pub const VALUE_MAX: usize = 200;

/// Measured so often at most: a week, once a minute, and a little.
pub const COUNT_MAX: u32 = 10_100;

/// What a sample says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is as it should be.
    Success,
    /// It is not.
    Failure,
    /// It is neither as it should be nor as it should not.
    Inconclusive,
    /// It could not be measured, and why.
    Error(String),
}

/// Something was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// What that says.
    pub outcome: Outcome,
    /// What was found, in short: one line of [`VALUE_MAX`] bytes at most.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
}

/// How often something is measured, and how much of it may go wrong. The words and their meaning are those of
/// Argo Rollouts' analysis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cadence {
    /// So long after the beginning it is measured first.
    pub initial_delay: Millis,
    /// So long after one sample follows the next. None: there is one, and what could not be measured is
    /// tried again after ten seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Millis>,
    /// So many samples, those that could not be taken not counted. None: one without an interval; with one,
    /// until something else ends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// So many may be failures.
    pub failure_limit: u32,
    /// So many may be inconclusive.
    pub inconclusive_limit: u32,
    /// So many in a row may be errors.
    pub consecutive_error_limit: u32,
    /// So many successes in a row are enough; 0: none are.
    pub consecutive_success_limit: u32,
}

impl Default for Cadence {
    fn default() -> Self {
        Self {
            initial_delay: Millis(0),
            interval: None,
            count: None,
            failure_limit: 0,
            inconclusive_limit: 0,
            consecutive_error_limit: 4,
            consecutive_success_limit: 0,
        }
    }
}

/// What cannot be, by its field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {problem}")]
pub struct CadenceError {
    /// Which, by its name in the file and in requests.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl Cadence {
    /// What could not be measured is tried again after so long, where nothing says otherwise.
    pub const RETRY: Millis = Millis::seconds(10);

    /// Nothing is measured more often.
    pub const INTERVAL_MIN: Millis = Millis::seconds(1);

    /// How many samples there are, if that is known.
    pub fn effective_count(&self) -> Option<u32> {
        self.count.or(self.interval.is_none().then_some(1))
    }

    /// So long after one sample follows the next.
    pub fn effective_interval(&self) -> Millis {
        self.interval.unwrap_or(Self::RETRY)
    }

    /// Errors: the first field that cannot be.
    pub fn check(&self) -> Result<(), CadenceError> {
        let refuse = |field, problem| Err(CadenceError { field, problem });
        match (self.interval, self.count) {
            (Some(interval), _) if interval < Self::INTERVAL_MIN => {
                return refuse("interval", "must be one second at least");
            }
            (_, Some(0)) => return refuse("count", "must be 1 at least"),
            (_, Some(count)) if count > COUNT_MAX => return refuse("count", "must be 10100 at most"),
            (None, Some(2..)) => return refuse("interval", "must be given where `count` is more than 1"),
            _ => {}
        }
        let Some(count) = self.effective_count() else { return Ok(()) };
        // Each would never be reached: whoever wrote it meant something else.
        match () {
            () if self.failure_limit >= count => {
                refuse("failure_limit", "must be less than `count`, or nothing can fail")
            }
            () if self.inconclusive_limit >= count && self.inconclusive_limit > 0 => {
                refuse("inconclusive_limit", "must be less than `count`")
            }
            () if self.consecutive_success_limit > count => {
                refuse("consecutive_success_limit", "must be `count` at most, or nothing can succeed")
            }
            () => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_by_its_field() {
        let of = |change: fn(&mut Cadence)| {
            let mut cadence =
                Cadence { interval: Some(Millis::seconds(5)), count: Some(3), ..Cadence::default() };
            change(&mut cadence);
            cadence.check().map_err(|error| error.field)
        };
        assert_eq!(of(|_| {}), Ok(()));
        assert_eq!(Cadence::default().check(), Ok(()));
        assert_eq!(of(|it| it.interval = Some(Millis(999))), Err("interval"));
        assert_eq!(of(|it| it.interval = None), Err("interval"));
        assert_eq!(of(|it| it.count = Some(0)), Err("count"));
        assert_eq!(of(|it| it.count = Some(COUNT_MAX + 1)), Err("count"));
        assert_eq!(of(|it| it.count = None), Ok(()), "without end");
        assert_eq!(of(|it| it.failure_limit = 3), Err("failure_limit"));
        assert_eq!(of(|it| it.failure_limit = 2), Ok(()));
        assert_eq!(of(|it| it.inconclusive_limit = 3), Err("inconclusive_limit"));
        assert_eq!(of(|it| it.consecutive_success_limit = 4), Err("consecutive_success_limit"));
        assert_eq!(of(|it| (it.count, it.failure_limit) = (None, 1_000)), Ok(()));
    }
}
