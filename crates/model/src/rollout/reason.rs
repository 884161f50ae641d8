//! Why a rollout is where it is.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Gate, TargetId, Version};
use crate::{Millis, Mono, Wall};

/// Of many targets, so many are named.
pub const NAMED: usize = 5;

/// What a decision about an entity rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "RolloutReason"))]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// Nobody has reported a target: nothing is shown by that.
    NoTargets,
    /// Enough targets are well on it.
    WellEnough {
        /// So many.
        well: usize,
        /// So many have to be.
        required: usize,
        /// Of so many.
        total: usize,
    },
    /// No target has to be well on it, as its options say.
    Declared,
    /// More targets failed than may.
    TooManyFailed {
        /// So many.
        failed: usize,
        /// So many may.
        tolerated: usize,
        /// Of so many.
        total: usize,
        /// The first of them.
        targets: Vec<TargetId>,
    },
    /// Somebody has said that it is bad.
    Aborted {
        /// Who.
        by: String,
        /// Why.
        why: String,
    },
    /// Another version was forced in its place.
    Forced {
        /// Which.
        by: Version,
    },
    /// It is known to be bad: targets go back to the one that was good before.
    RollsBack {
        /// To which.
        to: Version,
    },
    /// It is bad, and none was ever good: targets stay as they are.
    Halted,
    /// Somebody wants no more targets to be moved for now.
    Paused {
        /// Who.
        by: String,
    },
    /// As many targets are on their way as may be.
    BatchIsFull {
        /// So many are.
        on_the_way: usize,
        /// So many may be.
        slots: usize,
    },
    /// It follows when the one that is rolled out now is good or bad.
    Queued {
        /// Which.
        version: Version,
    },
    /// Whoever chooses, or approves, could not be asked, or said nothing that could be understood.
    NotChosen {
        /// What was asked: `selection`, `approval`.
        asked: String,
        /// What it said.
        detail: String,
    },
    /// Whoever approves has not approved these.
    NotApproved {
        /// The first of them.
        targets: Vec<TargetId>,
        /// How many there are besides.
        more: usize,
    },
    /// More targets of a stage failed than may.
    StageFailed {
        /// Of which.
        stage: String,
        /// So many.
        failed: usize,
        /// So many may.
        tolerated: usize,
        /// Of so many.
        total: usize,
        /// The first of them.
        targets: Vec<TargetId>,
    },
    /// For too long, no target more became well on it.
    NoProgress {
        /// That may be so for so long.
        within: Millis,
        /// So many are well.
        well: usize,
        /// Of so many.
        total: usize,
    },
    /// A stage is done, and something has to happen before it goes on.
    AtGate {
        /// Which stage.
        stage: String,
        /// What.
        gate: Gate,
        /// When a pause is over.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Mono>,
    },
    /// Not enough targets of a stage are well for the next.
    InStage {
        /// Of which.
        stage: String,
        /// So many are.
        well: usize,
        /// So many have to be.
        required: usize,
    },
    /// A stage that no target is in was passed by.
    EmptyStage {
        /// Which.
        stage: String,
    },
    /// It is not the time to move targets forward.
    Closed {
        /// Until when; none: for good.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Wall>,
        /// Why.
        why: String,
    },
    /// So many targets are unwell that none that is well is moved.
    TooManyUnwell {
        /// So many are.
        unwell: usize,
        /// So many may be.
        may: usize,
    },
    /// Whoever selects wanted to make more targets than may be made.
    NoSurge {
        /// So many too many.
        refused: usize,
        /// So many may be there in addition.
        may: usize,
    },
    /// Whoever selects wanted to make targets for which there is no room: too many of the entity, or too much in memory.
    NoRoom {
        /// So many were not made.
        refused: usize,
        /// How much there is, and how much there may be.
        why: String,
    },
    /// What was measured of it is not as it should be.
    AnalysisFailed {
        /// In which analysis.
        name: String,
        /// How that was decided.
        why: String,
        /// What was found last.
        value: Box<str>,
    },
    /// It is measured, and not decided yet.
    Analysing {
        /// In which analysis.
        name: String,
        /// So many samples were taken.
        taken: u32,
        /// Of so many; none: until enough of them in a row are successes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<u32>,
        /// When the next is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<Mono>,
    },
    /// Nobody can say what was measured of it: somebody has to.
    AnalysisUnclear {
        /// In which analysis.
        name: String,
        /// Why.
        why: String,
    },
    /// Somebody said that it is good.
    Promoted {
        /// Who.
        by: String,
    },
    /// It was good before.
    WasGood,
    /// Another took its place.
    Superseded {
        /// Which.
        by: Version,
    },
    /// Somebody wanted the version before.
    Undone {
        /// Which.
        to: Version,
        /// Who.
        by: String,
    },
}

/// The first of them, and how many there are besides.
struct Few<'a>(&'a [TargetId], usize);

impl fmt::Display for Few<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match self.1 + self.0.len().saturating_sub(NAMED) {
            0 => f.write_str(&names),
            more => write!(f, "{names} and {more} more"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTargets => f.write_str("no target has been reported"),
            Self::WellEnough { well, required, total } => {
                write!(f, "{well} of {total} targets are well on it, and {required} have to be")
            }
            Self::Declared => f.write_str("declared good: no target has to be well on it (success 0%)"),
            Self::TooManyFailed { failed, tolerated, total, targets } => {
                let few = Few(targets, failed.saturating_sub(targets.len()));
                write!(f, "{failed} of {total} targets failed, and {tolerated} may: {few}")
            }
            Self::Aborted { by, why } if why.is_empty() => write!(f, "aborted by {by}"),
            Self::Aborted { by, why } => write!(f, "aborted by {by}: {why}"),
            Self::Forced { by } => write!(f, "`{by}` was forced in its place"),
            Self::RollsBack { to } => write!(f, "rolls back to `{to}`"),
            Self::Halted => f.write_str("halted: no version was ever good, so targets stay as they are"),
            Self::Paused { by } => write!(f, "paused by {by}"),
            Self::BatchIsFull { on_the_way, slots } => {
                write!(f, "{on_the_way} targets are on their way, and {slots} may be")
            }
            Self::Queued { version } => write!(f, "`{version}` follows"),
            Self::NotChosen { asked, detail } => write!(f, "{asked} could not be asked: {detail}"),
            Self::NotApproved { targets, more } => write!(f, "not approved: {}", Few(targets, *more)),
            Self::StageFailed { stage, failed, tolerated, total, targets } => {
                let few = Few(targets, failed.saturating_sub(targets.len()));
                write!(f, "{failed} of {total} targets of stage `{stage}` failed, and {tolerated} may: {few}")
            }
            Self::NoProgress { within, well, total } => {
                write!(f, "no target more became well within {within}: {well} of {total} are")
            }
            Self::AtGate { stage, gate, .. } => write!(f, "waits for {gate} after stage `{stage}`"),
            Self::InStage { stage, well, required } => {
                write!(f, "in stage `{stage}`: {well} are well, and {required} have to be")
            }
            Self::EmptyStage { stage } => write!(f, "no target is in stage `{stage}`"),
            Self::Closed { why, .. } => f.write_str(why),
            Self::TooManyUnwell { unwell, may } => write!(f, "{unwell} targets are unwell, and {may} may be"),
            Self::NoSurge { refused, may } => {
                write!(f, "{refused} new targets were not taken: {may} may be there in addition")
            }
            Self::NoRoom { refused, why } => write!(f, "{refused} new targets were not taken: {why}"),
            Self::AnalysisFailed { name, why, value } if value.is_empty() => {
                write!(f, "analysis `{name}` failed: {why}")
            }
            Self::AnalysisFailed { name, why, value } => {
                write!(f, "analysis `{name}` failed: {why}; last: {value}")
            }
            Self::Analysing { name, taken, of: Some(of), .. } => {
                write!(f, "analysis `{name}` is measured: {taken} of {of} samples are taken")
            }
            Self::Analysing { name, taken, of: None, .. } => {
                write!(f, "analysis `{name}` is measured: {taken} samples are taken")
            }
            Self::AnalysisUnclear { name, why } => {
                write!(f, "analysis `{name}` is unclear, and somebody has to approve or abort: {why}")
            }
            Self::Promoted { by } => write!(f, "promoted by {by}"),
            Self::WasGood => f.write_str("it was good before"),
            Self::Superseded { by } => write!(f, "`{by}` took its place"),
            Self::Undone { to, by } => write!(f, "{by} went back to `{to}`"),
        }
    }
}
