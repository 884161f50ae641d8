//! An app as people look at it.

use serde::{Deserialize, Serialize};

use crate::ids::{AppName, SlotId};
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
    /// Slots that are ready, or have ended as they should.
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

/// `GET /api/v1/apps/{app}/services/{service}/why`: the answer, slot by slot, cause by cause. It is
/// bounded: what is told once is not told again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Why {
    /// One chain for each slot of the service, or for several of which the same is to be said.
    pub chains: Vec<Vec<WhyLink>>,
    /// Slots of the service that have no chain here, because there are so many.
    #[serde(default)]
    pub more: usize,
}

/// One link: a slot, why it is as it is, and what it said last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WhyLink {
    /// The slot and its reasons.
    pub status: SlotStatus,
    /// Its last output lines, where they help (it failed or fails).
    pub last_lines: Vec<String>,
    /// At the head of a chain: other slots of the service of which the same is to be said, or the
    /// first few of them.
    #[serde(default)]
    pub alike: Vec<SlotId>,
    /// How many such slots there are besides.
    #[serde(default)]
    pub alike_more: usize,
    /// At the end of a chain: it goes on, with a slot that an earlier chain has told of.
    #[serde(default)]
    pub told: bool,
}

/// Without more to say.
impl From<SlotStatus> for WhyLink {
    fn from(status: SlotStatus) -> Self {
        Self { status, last_lines: Vec::new(), alike: Vec::new(), alike_more: 0, told: false }
    }
}
