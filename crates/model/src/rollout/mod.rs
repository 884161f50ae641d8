//! What a rollout speaks of: versions of anything, the targets that run them, and how carefully they are
//! moved from one to another.

mod controller;
mod expression;
mod measure;
mod name;
mod options;
mod reason;
mod version;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use controller::{
    COMMAND_MAX, Controller, ControllerError, Controllers, URL_MAX, WORDS_MAX, check_address,
};
pub use expression::{EXPRESSION_MAX, Expression, ExpressionError};
pub use measure::{
    COUNT_MAX, Cadence, CadenceError, HEADER_BYTES_MAX, HEADERS_MAX, Measure, MeasureError, Outcome,
    QUERY_MAX, Sample, Source,
};
pub use name::{BadName, EntityId, NAME_MAX, TargetId};
pub use options::{Amount, Caution, Options, OptionsError};
pub use reason::{NAMED, Reason};
pub use version::{BadVersion, VERSION_MAX, Version};

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
