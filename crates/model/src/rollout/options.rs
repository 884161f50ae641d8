//! How carefully targets are moved.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Millis;

/// How many, of so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    /// Of each hundred.
    Percent(u32),
    /// So many.
    Count(u32),
}

impl Amount {
    /// Of so many: rounded down.
    pub fn of(self, total: usize) -> usize {
        match self {
            Self::Percent(percent) => share(percent, total),
            Self::Count(count) => usize::try_from(count).unwrap_or(usize::MAX).min(total),
        }
    }
}

/// `10%`, or `3`.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

/// So many of each hundred, rounded down.
fn share(percent: u32, total: usize) -> usize {
    let share = u128::from(percent) * (total as u128) / 100;
    usize::try_from(share).unwrap_or(usize::MAX)
}

/// How carefully the targets of an entity are moved (`spec/nixmade.md` 2.B).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "RolloutOptions"))]
pub struct Options {
    /// So many targets are on their way at the same time, and one at least.
    pub batch: Amount,
    /// Percent of all targets that have to be well on a version for it to be good.
    pub success_percent: u32,
    /// A target that reports a version is well on it when it has been for longer than this.
    pub success_timeout: Millis,
    /// A target that is not well on a version so long after that was assigned to it has failed.
    pub duration_timeout: Millis,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            batch: Amount::Percent(5),
            success_percent: 100,
            success_timeout: Millis::seconds(60),
            duration_timeout: Millis::seconds(120),
        }
    }
}

/// A field that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` must be {must}")]
pub struct OptionsError {
    /// Which, by its name in the file and in requests.
    pub field: &'static str,
    /// What it must be.
    pub must: &'static str,
}

/// What is allowed, and will most likely not be what was meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "RolloutCaution"))]
#[serde(rename_all = "snake_case")]
pub enum Caution {
    /// To be well takes longer than there is time for: every target fails.
    NoTimeToSucceed {
        /// How long a target has to be well.
        success: Millis,
        /// How long it has for that in all.
        duration: Millis,
    },
    /// Any version is good as soon as there is a target.
    NothingHasToSucceed,
    /// No target can have become well before a version is bad for that.
    NoTimeForProgress {
        /// How long a target has to be well.
        success: Millis,
        /// How long it may take until one more is.
        deadline: Millis,
    },
    /// So many may fail that a version can be neither good nor bad, and nothing ends that.
    MayWaitForEver {
        /// Percent that may fail.
        budget: u32,
        /// Percent that have to be well.
        success_percent: u32,
    },
}

impl fmt::Display for Caution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTimeToSucceed { success, duration } => write!(
                f,
                "a target has to be well for more than {success} and fails after {duration}: none can succeed"
            ),
            Self::NothingHasToSucceed => f.write_str("no target has to succeed: any version is good at once"),
            Self::NoTimeForProgress { success, deadline } => write!(
                f,
                "a target has to be well for more than {success} and the next may take {deadline}: any version \
                 is bad"
            ),
            Self::MayWaitForEver { budget, success_percent } => write!(
                f,
                "{budget}% may fail and {success_percent}% have to be well: a rollout may come to no end; set \
                 `progress_deadline`"
            ),
        }
    }
}

impl Options {
    /// Errors: a field that cannot be, by its name.
    pub fn check(&self) -> Result<Vec<Caution>, OptionsError> {
        let percent = |field, percent| match percent {
            0..=100 => Ok(()),
            _ => Err(OptionsError { field, must: "between 0 and 100" }),
        };
        percent("success_percent", self.success_percent)?;
        if let Amount::Percent(batch) = self.batch {
            percent("batch", batch)?;
        }
        let mut cautions = Vec::new();
        let (success, duration) = (self.success_timeout, self.duration_timeout);
        // Where nothing has to succeed, and nothing to be waited for, that is what is meant.
        if success >= duration && self.success_percent > 0 {
            cautions.push(Caution::NoTimeToSucceed { success, duration });
        }
        if self.success_percent == 0 {
            cautions.push(Caution::NothingHasToSucceed);
        }
        Ok(cautions)
    }

    /// How many of so many may be on their way: one at least.
    pub fn slots(&self, total: usize) -> usize {
        self.batch.of(total).max(1)
    }

    /// How many of so many have to be well. Never none, unless none has to be by what was said.
    pub fn required(&self, total: usize) -> usize {
        match self.success_percent {
            0 => 0,
            percent => share(percent, total).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_down_and_a_batch_is_one_at_least() {
        let options = |batch, success_percent| Options { batch, success_percent, ..Options::default() };
        for (batch, total, slots) in [
            (Amount::Percent(5), 3, 1),
            (Amount::Percent(5), 10, 1),
            (Amount::Percent(50), 10, 5),
            (Amount::Percent(50), 11, 5),
            (Amount::Percent(100), 0, 1),
            (Amount::Percent(100), usize::MAX, usize::MAX),
            (Amount::Percent(0), 10, 1),
            (Amount::Count(3), 10, 3),
            (Amount::Count(30), 10, 10),
        ] {
            assert_eq!(options(batch, 100).slots(total), slots, "{batch} of {total}");
        }
        for (percent, total, required) in
            [(100, 10, 10), (90, 10, 9), (95, 10, 9), (50, 1, 1), (1, 10, 1), (0, 10, 0), (100, 0, 1)]
        {
            assert_eq!(
                options(Amount::Percent(5), percent).required(total),
                required,
                "{percent}% of {total}"
            );
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_name_and_what_cannot_go_well_is_said() {
        let of = |batch, success_percent, success, duration| {
            let (success_timeout, duration_timeout) = (Millis::seconds(success), Millis::seconds(duration));
            Options { batch, success_percent, success_timeout, duration_timeout }.check()
        };
        assert_eq!(of(Amount::Percent(5), 100, 60, 120), Ok(vec![]));
        assert_eq!(
            of(Amount::Percent(101), 100, 60, 120).unwrap_err().to_string(),
            "`batch` must be between 0 and 100"
        );
        assert_eq!(
            of(Amount::Count(7), 200, 60, 120).unwrap_err().to_string(),
            "`success_percent` must be between 0 and 100"
        );
        let (success, duration) = (Millis::seconds(900), Millis::seconds(120));
        assert_eq!(
            of(Amount::Count(7), 100, 900, 120),
            Ok(vec![Caution::NoTimeToSucceed { success, duration }])
        );
        assert_eq!(of(Amount::Percent(100), 0, 0, 0), Ok(vec![Caution::NothingHasToSucceed]));
    }
}
