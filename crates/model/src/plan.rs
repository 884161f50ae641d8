//! A plan: what would be done to get from what is to what is wanted, as data.

use serde::{Deserialize, Serialize};

use crate::ids::SlotId;
use crate::project::Condition;
use crate::target::Goal;

/// What a step does to its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "StepAction"))]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Start a copy where none runs.
    Start,
    /// Stop the copy that runs and start its successor.
    Replace,
    /// Stop the copy that runs.
    Stop,
    /// Stop what runs and forget the slot.
    Remove,
}

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
    /// A dependency with `restart: true` is restarted or replaced.
    DependencyRestarts {
        /// Which.
        slot: SlotId,
    },
}

/// What a step waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct After {
    /// The step (its number in the plan).
    pub step: u32,
    /// What must hold of that step's slot; `None`: it must be stopped.
    pub condition: Option<Condition>,
}

/// One step: sets one slot's goal, and ends when the slot's machine reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Step {
    /// Its number, from 1, in topological order by (level, slot).
    pub number: u32,
    /// How many steps deep it is, from 0.
    pub level: u32,
    /// Which slot.
    pub slot: SlotId,
    /// What is done.
    pub action: Action,
    /// The goal that is set.
    pub goal: Goal,
    /// Why.
    pub reason: StepReason,
    /// What it waits for.
    pub after: Vec<After>,
}

/// An immutable, acyclic set of steps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Plan {
    /// In topological order.
    pub steps: Vec<Step>,
    /// How many slots stay as they are.
    pub unchanged: u32,
}
