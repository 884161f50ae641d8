//! Where a rollout is, what came of those before, and what has just happened: for people.

use serde::{Deserialize, Serialize};

use super::{AnalysisProgress, Gate, Reason, Version};
use crate::{Millis, Mono};

/// So many of the rollouts of an entity are remembered.
pub const HISTORY_MAX: usize = 50;

/// How the targets stand to the version in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Counts {
    /// All.
    pub total: usize,
    /// It is not assigned to them yet.
    pub available: usize,
    /// They may become well, or fail.
    pub on_the_way: usize,
    /// They are well on it.
    pub well: usize,
    /// They have failed.
    pub failed: usize,
}

/// Where an entity is between versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Course {
    /// No version was ever asked for.
    #[default]
    None,
    /// Its version is good.
    Steady(Version),
    /// A version is being rolled out that is neither good nor bad yet.
    Forward(Version),
    /// A version was bad: all go back to the one that was good before.
    Back {
        /// Which was bad.
        from: Version,
        /// Which was good.
        to: Version,
    },
    /// A version was bad, and none was ever good.
    Halted(Version),
}

/// Nobody is to be moved for now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Pause {
    /// Who says so.
    pub by: String,
    /// Since when.
    pub at: Mono,
}

/// What came of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its version is good.
    Good,
    /// Its version is bad.
    Bad,
    /// Somebody said that its version is bad.
    Aborted,
    /// Another took its place before it was decided.
    Superseded,
    /// Somebody went back to the version before.
    Undone,
}

/// A rollout that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Past {
    /// Of this entity, the how manieth: never given twice.
    pub number: u64,
    /// Which version.
    pub version: Version,
    /// What was good when it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Version>,
    /// When it began.
    pub began: Mono,
    /// When it was decided.
    pub ended: Mono,
    /// How.
    pub outcome: Outcome,
    /// Who asked for it, where somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why it ended so.
    pub reason: Reason,
    /// How its targets stood when it ended.
    pub counts: Counts,
}

/// How many may fail, and how many have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Budget {
    /// So many have.
    pub used: usize,
    /// So many may; of more, the version is bad.
    pub of: usize,
}

/// Where a stage is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum StageState {
    /// Others come first.
    #[default]
    Waits,
    /// Its targets are moved.
    OnItsWay,
    /// It is done, and what has to happen before the next has not yet.
    AtGate,
    /// It is done.
    Done,
}

/// A stage of what is being rolled out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StageProgress {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub state: StageState,
    /// How its targets stand. Of a stage that has not begun: who would be in it, as it looks now.
    pub counts: Counts,
    /// So many of them have to be well.
    pub required: usize,
    /// How many of them may fail.
    pub budget: Budget,
    /// What has to happen after it.
    pub gate: Gate,
}

/// What a rollout waits for after a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AtGate {
    /// Which stage is done.
    pub stage: String,
    /// What has to happen.
    pub gate: Gate,
    /// Since when.
    pub since: Mono,
    /// Until when, where it is a pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Mono>,
}

/// What is being rolled out, or was last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Current {
    /// Of this entity, the how manieth rollout.
    pub number: u64,
    /// Which version.
    pub version: Version,
    /// What was good when it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Version>,
    /// Since when.
    pub since: Mono,
    /// Who asked for it, where somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why its version is bad, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad: Option<Reason>,
}

/// Where a rollout is and why, in one value: the picture and the answer to *why* are drawn from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Progress {
    /// Where the entity is between versions.
    pub course: Course,
    /// The version that was asked for last.
    pub target: Option<Version>,
    /// What is being rolled out, or was last.
    pub current: Option<Current>,
    /// The last version that was good.
    pub good: Option<Version>,
    /// How all targets stand to the version in force. What whoever monitors says of them is not in it.
    pub counts: Counts,
    /// So many have to be well for the version to be good.
    pub required: usize,
    /// How many of all may fail.
    pub budget: Budget,
    /// So many may be on their way at the same time.
    pub slots: usize,
    /// One after the other. None: it goes forward in one, or not forward.
    pub stages: Vec<StageProgress>,
    /// What it waits for between two of them.
    pub gate: Option<AtGate>,
    /// What is measured of what is being rolled out, or was of what was found to be bad.
    pub analyses: Vec<AnalysisProgress>,
    /// Who wants nobody to be moved.
    pub pause: Option<Pause>,
    /// How many are unwell, whatever the reason, and how many may be. None: that is not limited.
    pub unwell: Option<Budget>,
    /// Since when no target more became well, and how long that may be so. None: that is not limited.
    pub no_progress: Option<(Mono, Millis)>,
    /// Why the last decision was not otherwise.
    pub reasons: Vec<Reason>,
}
