//! A plan: what would be done to get from what is to what is wanted, as data.

mod note;
mod task;
mod text;
mod world;

use serde::{Deserialize, Serialize};

use crate::ids::SlotId;
use crate::project::Condition;
use crate::target::Goal;

pub use note::{Note, SideBySide};
pub use task::{Release, Task, Undo};
pub use world::{Container, ContainerState, HostPort, Kept, Lock, Observed, World};

/// Why a step is in the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "because", rename_all = "snake_case")]
pub enum StepReason {
    /// The slot has never been there.
    New,
    /// It is declared and does not run.
    NotRunning,
    /// Its spec changed: the names of the fields that did.
    Changed {
        /// `command`, `environment`, …
        fields: Vec<String>,
    },
    /// Asked for explicitly.
    Asked,
    /// It is not declared any more.
    NotDeclared,
    /// No container needs it any more.
    NotNeeded,
    /// A dependency with `restart: true` is restarted or replaced.
    DependencyRestarts {
        /// Which.
        slot: SlotId,
    },
    /// A network it is in is made anew.
    NetworkRenewed {
        /// What that is called in the engine.
        network: String,
    },
    /// A volume it uses is made anew.
    VolumeRenewed {
        /// What that is called in the engine.
        volume: String,
    },
    /// Another copy has taken its place.
    Superseded,
    /// Nothing of it changed; it only comes to belong to another release.
    Unchanged,
    /// A slot cannot do without it.
    NeededBy {
        /// Which; of several the first.
        slot: SlotId,
    },
    /// It is a new release.
    NewRelease,
    /// Many steps wait for many others.
    Order,
}

/// What a step waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct After {
    /// The step (its number in the plan).
    pub step: u32,
    /// What must hold of that step's slot; `None`: the step must have ended, and where it stops a process,
    /// that must be stopped.
    pub condition: Option<Condition>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Step {
    /// Its number, from 1, in topological order by (level, slot, kind of task).
    pub number: u32,
    /// How many steps deep it is, from 0.
    pub level: u32,
    /// What is done.
    #[serde(flatten)]
    pub task: Task,
    /// The goal that is set of its slot, where one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal: Option<Goal>,
    /// Why.
    pub reason: StepReason,
    /// What it waits for.
    pub after: Vec<After>,
    /// How it is undone when a later one fails.
    #[serde(default)]
    pub undo: Undo,
    /// It stops something that runs, and nothing else runs in its place then.
    #[serde(default)]
    pub interrupts: bool,
}

/// An immutable, acyclic set of steps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Plan {
    /// In topological order.
    pub steps: Vec<Step>,
    /// How many slots stay as they are.
    pub unchanged: u32,
    /// What a person should know of it besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
}

impl Plan {
    /// Only processes are in it.
    pub fn is_of_processes(&self) -> bool {
        self.steps.iter().all(|step| step.task.is_of_process())
    }

    /// The step of this number.
    pub fn step(&self, number: u32) -> Option<&Step> {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        // Plans number their steps by place; what was read from elsewhere may not.
        let placed = self.steps.get(at).filter(|step| step.number == number);
        placed.or_else(|| self.steps.iter().find(|step| step.number == number))
    }
}

impl Step {
    /// Of which slot it is, where it is of one.
    pub fn slot(&self) -> Option<&SlotId> {
        self.task.slot()
    }
}

/// How a container that runs is replaced by its successor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ReplaceStrategy"))]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Made beside it; then the old one is stopped and removed, and the new one started.
    #[default]
    StopFirst,
    /// Made and started beside it, in a temporary slot; then the old one is stopped and removed.
    StartFirst,
    /// The old one is stopped and removed; then the new one is made and started.
    Recreate,
}
