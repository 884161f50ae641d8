//! An app as people look at it.

use serde::{Deserialize, Serialize};

use crate::ids::AppName;
use crate::project::Project;
use crate::state::SlotStatus;

/// `GET /api/v1/apps`: one line an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AppSummary {
    /// Its name.
    pub name: AppName,
    /// The release wanted now.
    pub release: u64,
    /// Slots that shall run.
    pub wanted: u32,
    /// Slots that are ready.
    pub ready: u32,
}

/// `GET /api/v1/apps/{app}`: the whole app, at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct App {
    /// Its name.
    pub name: AppName,
    /// The release wanted now.
    pub release: u64,
    /// What was declared.
    pub project: Project,
    /// Slot by slot, in the order of names.
    pub slots: Vec<SlotStatus>,
}

/// `GET /api/v1/apps/{app}/services/{service}/why`: the answer, slot by slot, cause by cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Why {
    /// One chain for each slot of the service.
    pub chains: Vec<Vec<WhyLink>>,
}

/// One link: a slot, why it is as it is, and what it said last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WhyLink {
    /// The slot and its reasons.
    pub status: SlotStatus,
    /// Its last output lines, where they help (it failed or fails).
    pub last_lines: Vec<String>,
}
