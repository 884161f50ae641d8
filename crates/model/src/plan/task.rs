//! What a step does: small tasks, each with one condition and one effect.

use serde::{Deserialize, Serialize};

use crate::ids::{AppName, SlotId};
use crate::project::Condition;
use crate::target::Goal;

/// A release as plans name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Release {
    /// Its number in its app.
    pub number: u64,
    /// What whoever asked for it calls it.
    pub name: String,
}

/// What a step does. Those of a process have the first four actions and no `container`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Task {
    /// Start a copy where none runs.
    Start {
        /// Where.
        slot: SlotId,
        /// The container that is started, as it is called now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        container: Option<String>,
        /// Of which release it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        release: Option<Release>,
        /// In a temporary slot beside the copy that runs.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        temporary: bool,
    },
    /// Stop the process that runs and start its successor.
    Replace {
        /// Where.
        slot: SlotId,
    },
    /// Stop the copy that runs.
    Stop {
        /// Where.
        slot: SlotId,
        /// The container that is stopped.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        container: Option<String>,
        /// Of which release it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        release: Option<Release>,
    },
    /// Stop the process that runs and forget the slot.
    Remove {
        /// Which.
        slot: SlotId,
    },
    /// Begin to keep an app.
    CreateApp {
        /// Which.
        app: AppName,
    },
    /// Begin to keep a release.
    CreateRelease {
        /// Of which app.
        app: AppName,
        /// Which.
        release: Release,
    },
    /// Get an image from its registry.
    Pull {
        /// Its full name.
        image: String,
        /// The name under which the release keeps it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tag: Option<String>,
    },
    /// Make an image.
    Build {
        /// Its full name.
        image: String,
        /// The name under which the release keeps it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tag: Option<String>,
    },
    /// Give an image that is there another name.
    Tag {
        /// By which name it is there.
        image: String,
        /// The other one.
        tag: String,
    },
    /// Make a network.
    CreateNetwork {
        /// Its name in the engine.
        network: String,
    },
    /// Make a volume.
    CreateVolume {
        /// Its name in the engine.
        volume: String,
    },
    /// Make a container, and do not start it.
    Create {
        /// For which slot.
        slot: SlotId,
        /// What it is called until it is started.
        container: String,
        /// Of which release it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        release: Option<Release>,
    },
    /// Have an unchanged container belong to another release.
    Migrate {
        /// Its slot.
        slot: SlotId,
        /// Which.
        container: String,
        /// To which release.
        release: Release,
    },
    /// Everything new of an app is there; ends at once.
    Prepared {
        /// Of which app.
        app: AppName,
    },
    /// Remove a container that does not run.
    RemoveContainer {
        /// Its slot.
        slot: SlotId,
        /// Which.
        container: String,
        /// Of which release it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        release: Option<Release>,
    },
    /// Wait until something holds of a slot.
    Await {
        /// Of which.
        slot: SlotId,
        /// What.
        condition: Condition,
    },
    /// Everything wanted of an app was started; ends at once.
    Ready {
        /// Of which app.
        app: AppName,
    },
    /// Remove a network in which nothing is any more.
    RemoveNetwork {
        /// Its name in the engine.
        network: String,
    },
    /// Remove a volume, with what is in it.
    RemoveVolume {
        /// Its name in the engine.
        volume: String,
    },
    /// Forget a release.
    RemoveRelease {
        /// Of which app.
        app: AppName,
        /// Which.
        release: Release,
    },
    /// Forget an app.
    RemoveApp {
        /// Which.
        app: AppName,
    },
}

/// How a step is undone when a later one of the same plan fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Undo {
    /// There is nothing to undo, or what it left costs nothing and is used the next time.
    #[default]
    Nothing,
    /// What it made is removed.
    Remove,
    /// What it started is stopped.
    Stop,
    /// What it stopped is started again.
    Start,
    /// It is given back to the release it was of.
    MigrateBack,
    /// By running the former release anew: what it removed cannot be brought back by itself.
    ByRelease,
    /// Not at all: what was in it is lost.
    Never,
}

impl Task {
    /// Of which slot it is, where it is of one.
    pub fn slot(&self) -> Option<&SlotId> {
        match self {
            Self::Start { slot, .. }
            | Self::Replace { slot }
            | Self::Stop { slot, .. }
            | Self::Remove { slot }
            | Self::Create { slot, .. }
            | Self::Migrate { slot, .. }
            | Self::RemoveContainer { slot, .. }
            | Self::Await { slot, .. } => Some(slot),
            _ => None,
        }
    }

    /// It starts, replaces, stops or removes a process.
    pub fn is_of_process(&self) -> bool {
        matches!(
            self,
            Self::Start { container: None, .. }
                | Self::Replace { .. }
                | Self::Stop { container: None, .. }
                | Self::Remove { .. }
        )
    }

    /// It makes something beside what runs, and touches nothing else.
    pub fn prepares(&self) -> bool {
        matches!(self, Self::Pull { .. } | Self::Build { .. } | Self::Tag { .. } | Self::Create { .. })
    }

    /// The word for programs, as in JSON.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Replace { .. } => "replace",
            Self::Stop { .. } => "stop",
            Self::Remove { .. } => "remove",
            Self::CreateApp { .. } => "create_app",
            Self::CreateRelease { .. } => "create_release",
            Self::Pull { .. } => "pull",
            Self::Build { .. } => "build",
            Self::Tag { .. } => "tag",
            Self::CreateNetwork { .. } => "create_network",
            Self::CreateVolume { .. } => "create_volume",
            Self::Create { .. } => "create",
            Self::Migrate { .. } => "migrate",
            Self::Prepared { .. } => "prepared",
            Self::RemoveContainer { .. } => "remove_container",
            Self::Await { .. } => "await",
            Self::Ready { .. } => "ready",
            Self::RemoveNetwork { .. } => "remove_network",
            Self::RemoveVolume { .. } => "remove_volume",
            Self::RemoveRelease { .. } => "remove_release",
            Self::RemoveApp { .. } => "remove_app",
        }
    }

    /// Where it stands among tasks of the same level and slot.
    pub fn rank(&self) -> u8 {
        match self {
            Self::CreateApp { .. } => 0,
            Self::CreateRelease { .. } => 1,
            Self::Pull { .. } => 2,
            Self::Build { .. } => 3,
            Self::Tag { .. } => 4,
            Self::CreateNetwork { .. } => 5,
            Self::CreateVolume { .. } => 6,
            Self::Migrate { .. } => 7,
            Self::Create { .. } => 8,
            Self::Prepared { .. } => 9,
            Self::Stop { .. } => 10,
            Self::RemoveContainer { .. } => 11,
            Self::Start { .. } | Self::Replace { .. } => 12,
            Self::Await { .. } => 13,
            Self::Ready { .. } => 14,
            Self::Remove { .. } => 15,
            Self::RemoveNetwork { .. } => 16,
            Self::RemoveVolume { .. } => 17,
            Self::RemoveRelease { .. } => 18,
            Self::RemoveApp { .. } => 19,
        }
    }

    /// The goal it sets of its slot.
    pub fn goal(&self) -> Option<Goal> {
        match self {
            Self::Start { .. } | Self::Replace { .. } => Some(Goal::Running),
            Self::Stop { .. } => Some(Goal::Stopped),
            Self::Remove { .. } => Some(Goal::Absent),
            _ => None,
        }
    }

    /// How it is undone.
    pub fn undo(&self) -> Undo {
        match self {
            Self::CreateApp { .. }
            | Self::CreateRelease { .. }
            | Self::Tag { .. }
            | Self::CreateNetwork { .. }
            | Self::CreateVolume { .. }
            | Self::Create { .. } => Undo::Remove,
            Self::Start { .. } => Undo::Stop,
            Self::Stop { .. } => Undo::Start,
            Self::Migrate { .. } => Undo::MigrateBack,
            Self::Replace { .. } | Self::Remove { .. } | Self::RemoveContainer { .. } => Undo::ByRelease,
            Self::RemoveNetwork { .. } | Self::RemoveRelease { .. } | Self::RemoveApp { .. } => {
                Undo::ByRelease
            }
            Self::RemoveVolume { .. } => Undo::Never,
            Self::Pull { .. } | Self::Build { .. } => Undo::Nothing,
            Self::Prepared { .. } | Self::Await { .. } | Self::Ready { .. } => Undo::Nothing,
        }
    }
}
