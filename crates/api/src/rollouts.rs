//! What travels about rollouts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use upbeat_model::Wall;
use upbeat_model::rollout::{Caution, Options, RolloutState, TargetState, Version};

/// `POST /api/v1/rollouts/{namespace}/{entity}/actions`: something that is asked of an entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum RolloutAction {
    /// All targets shall run this version.
    SetVersion {
        /// Which.
        version: Version,
        /// At once, and whatever is known of it.
        #[serde(default)]
        force: bool,
    },
    /// How carefully; none: as without being asked.
    SetOptions {
        /// How.
        options: Option<Options>,
    },
    /// No target is moved for now.
    Pause,
    /// Targets are moved again.
    Resume,
    /// What is rolled out now is bad.
    Abort {
        /// Why.
        #[serde(default)]
        why: String,
    },
    /// What is rolled out now is good.
    Promote,
    /// The version that is held to be bad is tried again.
    Retry,
    /// A version is not held to be bad any more, or until then only.
    Forgive {
        /// Which.
        version: Version,
        /// Until when it still is; none: not from now on.
        #[serde(default)]
        until: Option<Wall>,
    },
}

/// What became of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct RolloutChanged {
    /// How it is now.
    pub rollout: RolloutState,
    /// What will most likely not be what was meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cautions: Vec<Caution>,
}

/// `POST /api/v1/rollouts/{namespace}/{entity}/reports`: what a controller says of its targets. Those that are
/// not among them stay as they are, until they have not been reported for a quarter of an hour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Reports {
    /// Of some targets, or of all.
    pub targets: Vec<TargetReport>,
}

/// What a controller says of one of its targets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct TargetReport {
    /// Targets of different groups may have the same name.
    pub group: String,
    /// Its name.
    pub name: String,
    /// What it runs; none, or empty: nothing, or nobody knows.
    pub version: Option<String>,
    /// It is not well.
    pub is_error: bool,
    /// In its own words.
    pub message: String,
    /// By which waves choose.
    pub labels: BTreeMap<String, String>,
}

/// What each target shall run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Assignments {
    /// Where the entity is.
    pub rollout: RolloutState,
    /// All its targets.
    pub targets: Vec<TargetState>,
}
