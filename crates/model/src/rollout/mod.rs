//! What a rollout speaks of: versions of anything, the targets that run them, and how carefully they are
//! moved from one to another.

mod analysis;
mod controller;
mod expression;
mod happened;
mod measure;
mod name;
mod options;
mod page;
mod progress;
mod reason;
mod state;
mod strategy;
mod unit;
mod version;
mod windows;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use analysis::{
    ANALYSES_BYTES_MAX, ANALYSES_MAX, AnalysisProgress, AnalysisSpec, AnalysisState, AnalysisWord,
};
pub use controller::{
    COMMAND_MAX, Controller, ControllerError, Controllers, URL_MAX, WORDS_MAX, check_address,
};
pub use expression::{EXPRESSION_MAX, Expression, ExpressionError};
pub use happened::{Happened, Several};
pub use measure::{
    COUNT_MAX, Cadence, CadenceError, HEADER_BYTES_MAX, HEADERS_MAX, HeaderFile, HeaderValue, Headers,
    Measure, MeasureError, Outcome as SampleOutcome, QUERY_MAX, Sample, Source, VALUE_MAX, is_in_header,
};
pub use name::{BadName, EntityId, LABELS_BYTES_MAX, LABELS_MAX, NAME_MAX, TargetId, check_labels};
pub use options::{Amount, Caution, Options, OptionsError};
pub use page::{PAGE_BYTES_MAX, PAGE_MAX, RolloutsPage, UnitsPage, Unreadable};
pub use progress::{
    AtGate, Budget, Counts, Course, Current, HISTORY_MAX, Outcome, Past, Pause, Progress, StageProgress,
    StageState,
};
pub use reason::{NAMED, Reason};
pub use state::{BadState, CourseWord, GateState, HeldState, PastState, RolloutState, TargetState};
pub use strategy::{
    Concurrency, Gate, Override, REST, STAGE_NAME_MAX, STAGES_LABELS_MAX, STAGES_MAX, Stage, Strategy,
    StrategyError, Who,
};
pub use unit::{
    MEMBERS_MAX, MemberState, MemberWord, PastUnitState, UNIT_HISTORY_MAX, UnitError, UnitMember, UnitState,
    UnitWhy, UnitWord, in_order,
};
pub use version::{BadVersion, VERSION_MAX, Version};
pub use windows::{
    BadTime, FREEZE_REASON_MAX, Freeze, Offset, Opening, TimeOfDay, WINDOWS_MAX, Weekday, Window, Windows,
};

use crate::Mono;

/// The longest message that is kept of a target, in bytes; what is longer is cut.
pub const MESSAGE_MAX: usize = 1024;

/// What a controller says of one of its targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Of which.
    pub target: TargetId,
    /// What it runs; none: nothing, or nobody knows.
    pub version: Option<Version>,
    /// It is not well.
    pub is_error: bool,
    /// In its own words.
    pub message: String,
    /// By which waves choose.
    pub labels: BTreeMap<String, String>,
    /// It has failed on the version it shall run, and is not to be waited for. Said again as long as it is so.
    pub failed: bool,
}

/// Something that was said about a target, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// What.
    pub text: String,
    /// Since when that is so.
    pub at: Mono,
    /// It is bad news.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_error: bool,
}

/// A version of a target, as it is or as it shall be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Which; none: none yet.
    pub version: Option<Version>,
    /// Since when.
    pub since: Mono,
    /// What was said of it last.
    pub note: Note,
}
