//! Targets and rollouts as people and controllers are shown them: with times on the clock on the wall.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Controllers, Options, Reason, TargetId, Version};
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

/// How many targets stand how to the version in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Tally {
    /// All.
    pub total: usize,
    /// It is not assigned to them yet.
    pub available: usize,
    /// It is, and they are neither well on it nor have they failed.
    pub on_the_way: usize,
    /// They are well on it.
    pub well: usize,
    /// They have failed on it.
    pub failed: usize,
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
    /// How the targets stood at the last decision.
    pub tally: Tally,
    /// Why it is not otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
}
