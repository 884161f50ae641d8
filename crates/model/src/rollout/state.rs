//! Targets and rollouts as people and controllers are shown them: with times on the clock on the wall.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    AnalysisState, Budget, Controllers, Counts, EntityId, Gate, Options, Outcome, Reason, StageProgress,
    Strategy, TargetId, Version,
};
use crate::Wall;

/// A version of a target, as it is or as it shall be, and what was said of it last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HeldState {
    /// Which; none: none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// Since when.
    pub since: Wall,
    /// What was said of it last.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Since when that is so.
    pub message_at: Wall,
    /// It is bad news.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_error: bool,
}

/// A target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TargetState {
    /// Which.
    #[serde(flatten)]
    pub id: TargetId,
    /// By which waves choose.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What it was reported to run. The message is the controller's.
    pub current: HeldState,
    /// What it shall run. The message is ours.
    pub assigned: HeldState,
    /// When it was reported last.
    pub seen: Wall,
}

/// Where an entity is between versions, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CourseWord {
    /// No version was ever asked for.
    None,
    /// Its version is good.
    Steady,
    /// A version is being rolled out that is neither good nor bad yet.
    Forward,
    /// A version was bad: all go back to the one that was good before.
    Back,
    /// A version was bad, and none was ever good.
    Halted,
}

/// A version that is held to be bad.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BadState {
    /// Which.
    pub version: Version,
    /// What showed it.
    pub reason: Reason,
    /// When.
    pub at: Wall,
    /// Until when that is held against it; none: for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Wall>,
}

/// What a rollout waits for after a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GateState {
    /// Which stage is done.
    pub stage: String,
    /// What has to happen.
    pub gate: Gate,
    /// Since when.
    pub since: Wall,
    /// Until when, where it is a pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Wall>,
}

/// A rollout that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PastState {
    /// Of this entity, the how manieth: never given twice.
    pub number: u64,
    /// Which version.
    pub version: Version,
    /// What was good when it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Version>,
    /// When it began.
    pub began: Wall,
    /// When it was decided.
    pub ended: Wall,
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

fn is_default(strategy: &Strategy) -> bool {
    *strategy == Strategy::default()
}

/// An entity, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RolloutState {
    /// In which namespace.
    pub namespace: String,
    /// Its name.
    pub entity: String,
    /// Where it is.
    pub course: CourseWord,
    /// The version that was asked for last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Version>,
    /// The one that is being rolled out, or was last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolling: Option<Version>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Wall>,
    /// The last that was good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good: Option<Version>,
    /// The last that was found to be bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad: Option<Version>,
    /// All that are held to be bad.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known_bad: Vec<BadState>,
    /// Who wants nobody to be moved for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_by: Option<String>,
    /// How carefully targets are moved.
    pub options: Options,
    /// Whom it asks.
    #[serde(default)]
    pub controllers: Controllers,
    /// In which stages, and within which limits.
    #[serde(default, skip_serializing_if = "is_default")]
    pub strategy: Strategy,
    /// The how manieth rollout of the entity that is, or was last.
    #[serde(default)]
    pub number: u64,
    /// Who asked for it, where somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// How all targets stand to the version in force. What whoever monitors says of them is not in it.
    pub counts: Counts,
    /// So many have to be well for the version to be good.
    #[serde(default)]
    pub required: usize,
    /// How many of all may fail, and have.
    #[serde(default)]
    pub budget: Budget,
    /// So many may be on their way at the same time.
    #[serde(default)]
    pub slots: usize,
    /// One after the other; none: it goes forward in one, or not forward.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageProgress>,
    /// What it waits for between two of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateState>,
    /// What is measured of what is being rolled out, or was of what was found to be bad.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub analyses: Vec<AnalysisState>,
    /// How many are unwell, whatever the reason, and how many may be; none: that is not limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unwell: Option<Budget>,
    /// Why it is not otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
}

impl RolloutState {
    /// Of an entity of which nothing is known but its name.
    pub fn unknown(id: &EntityId) -> Self {
        Self {
            namespace: id.namespace().to_owned(),
            entity: id.entity().to_owned(),
            course: CourseWord::None,
            target: None,
            rolling: None,
            since: None,
            good: None,
            bad: None,
            known_bad: Vec::new(),
            paused_by: None,
            options: Options::default(),
            strategy: Strategy::default(),
            number: 0,
            by: None,
            controllers: Controllers::default(),
            counts: Counts::default(),
            required: 0,
            budget: Budget::default(),
            slots: 0,
            stages: Vec::new(),
            gate: None,
            analyses: Vec::new(),
            unwell: None,
            reasons: Vec::new(),
        }
    }
}
