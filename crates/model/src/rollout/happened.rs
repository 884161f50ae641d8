//! What happened to a rollout, as data: for those who listen.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{AnalysisWord, Gate, NAMED, Reason, TargetId, Version};

/// Something that happened. Many targets are counted, and the first of them named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "happened", rename_all = "snake_case")]
pub enum Happened {
    /// A version began to be rolled out.
    Began {
        /// The how manieth rollout.
        number: u64,
        /// Of which version.
        version: Version,
        /// What was good then.
        from: Option<Version>,
        /// Who asked for it, where somebody said so.
        by: Option<String>,
    },
    /// A version was assigned to targets.
    Assigned {
        /// Which.
        version: Version,
        /// To whom.
        targets: Several,
    },
    /// Targets failed on a version.
    Failed {
        /// Which.
        version: Version,
        /// Who.
        targets: Several,
    },
    /// Targets were removed, by whoever decides that.
    Removed {
        /// Which.
        targets: Several,
    },
    /// Targets were not reported for so long that they are forgotten.
    Forgotten {
        /// Which.
        targets: Several,
    },
    /// Enough targets of a stage are well.
    StageDone {
        /// Of which version.
        version: Version,
        /// Which.
        stage: String,
    },
    /// Something has to happen before it goes on.
    AtGate {
        /// Of which version.
        version: Version,
        /// After which stage.
        stage: String,
        /// What.
        gate: Gate,
    },
    /// Somebody approved that it goes on.
    Approved {
        /// Of which version.
        version: Version,
        /// After which stage.
        stage: String,
        /// Who.
        by: String,
    },
    /// Somebody wanted it to go on without what it waited for.
    Promoted {
        /// Which version.
        version: Version,
        /// The stage, or what it waited for after it; none: all there was to do.
        stage: Option<String>,
        /// Who.
        by: String,
    },
    /// An analysis of a version is decided.
    AnalysisDone {
        /// Of which version.
        version: Version,
        /// Which.
        name: String,
        /// How.
        verdict: AnalysisWord,
    },
    /// Somebody wanted it to go on without an analysis.
    AnalysisPassedOver {
        /// Of which version.
        version: Version,
        /// Which.
        name: String,
        /// Who.
        by: String,
    },
    /// Somebody wanted nobody to be moved.
    Paused {
        /// Who.
        by: String,
    },
    /// Targets are moved again.
    Resumed {
        /// Who said so, where somebody did.
        by: Option<String>,
    },
    /// A version is good.
    Good {
        /// Which.
        version: Version,
        /// Why.
        why: Reason,
    },
    /// A version is bad.
    Bad {
        /// Which.
        version: Version,
        /// Why.
        why: Reason,
    },
    /// All go back.
    RollingBack {
        /// From the bad one.
        from: Version,
        /// To the one that was good before.
        to: Version,
    },
    /// All targets are back: none is to be moved any more, and none is on its way.
    RolledBack {
        /// From the bad one.
        from: Version,
        /// To the one that was good before.
        to: Version,
        /// So many have failed on that.
        failed: usize,
    },
    /// A version is bad and none was ever good: targets stay as they are.
    Halted {
        /// Which.
        version: Version,
    },
    /// Another took its place before it was decided.
    Superseded {
        /// Which.
        version: Version,
        /// The other one.
        by: Version,
    },
    /// Somebody wanted the version before.
    Undone {
        /// Instead of which.
        version: Version,
        /// That one.
        to: Version,
        /// Who.
        by: String,
    },
    /// So much happened, and nobody took note, that the first of it was dropped.
    Dropped {
        /// So many.
        count: usize,
    },
}

/// Some targets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Several {
    /// How many.
    pub count: usize,
    /// The first of them.
    pub first: Vec<TargetId>,
}

impl Several {
    /// Of these.
    pub fn of<'a>(targets: impl IntoIterator<Item = &'a TargetId>) -> Self {
        let mut targets = targets.into_iter();
        let first: Vec<TargetId> = targets.by_ref().take(NAMED).cloned().collect();
        Self { count: first.len() + targets.count(), first }
    }
}

/// `a, b and 3 more`.
impl fmt::Display for Several {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.first.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match self.count.saturating_sub(self.first.len()) {
            0 => f.write_str(&names),
            more => write!(f, "{names} and {more} more"),
        }
    }
}

/// ` by ann`, where somebody said so.
struct By<'a>(&'a Option<String>);

impl fmt::Display for By<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |by| write!(f, " by {by}"))
    }
}

impl fmt::Display for Happened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Began { number, version, from: None, by } => {
                write!(f, "rollout {number} of `{version}` began{}", By(by))
            }
            Self::Began { number, version, from: Some(from), by } => {
                write!(f, "rollout {number} from `{from}` to `{version}` began{}", By(by))
            }
            Self::Assigned { version, targets } => write!(f, "`{version}` was assigned to {targets}"),
            Self::Failed { version, targets } => write!(f, "failed on `{version}`: {targets}"),
            Self::Removed { targets } => write!(f, "removed: {targets}"),
            Self::Forgotten { targets } => write!(f, "forgotten, as nobody reports them: {targets}"),
            Self::StageDone { version, stage } => write!(f, "stage `{stage}` of `{version}` is done"),
            Self::AtGate { version, stage, gate } => {
                write!(f, "`{version}` waits for {gate} after stage `{stage}`")
            }
            Self::Approved { version, stage, by } => {
                write!(f, "`{version}` was approved by {by} after stage `{stage}`")
            }
            Self::Promoted { version, stage: Some(stage), by } => {
                write!(f, "`{version}` was promoted by {by} beyond stage `{stage}`")
            }
            Self::Promoted { version, stage: None, by } => {
                write!(f, "`{version}` was promoted by {by}")
            }
            Self::AnalysisDone { version, name, verdict } => {
                write!(f, "analysis `{name}` of `{version}`: {verdict}")
            }
            Self::AnalysisPassedOver { version, name, by } => {
                write!(f, "{by} passed over analysis `{name}` of `{version}`")
            }
            Self::Paused { by } => write!(f, "paused by {by}"),
            Self::Resumed { by } => write!(f, "resumed{}", By(by)),
            Self::Good { version, why } => write!(f, "`{version}` is good: {why}"),
            Self::Bad { version, why } => write!(f, "`{version}` is bad: {why}"),
            Self::RollingBack { from, to } => write!(f, "rolls back from `{from}` to `{to}`"),
            Self::RolledBack { from, to, failed: 0 } => {
                write!(f, "rolled back from `{from}` to `{to}`")
            }
            Self::RolledBack { from, to, failed } => {
                write!(f, "rolled back from `{from}` to `{to}`, on which {failed} have failed")
            }
            Self::Halted { version } => {
                write!(f, "halted: `{version}` is bad, and no version was ever good")
            }
            Self::Superseded { version, by } => write!(f, "`{by}` took the place of `{version}`"),
            Self::Undone { version, to, by } => write!(f, "{by} went back from `{version}` to `{to}`"),
            Self::Dropped { count } => write!(f, "{count} more things happened before"),
        }
    }
}
