//! Lines of output, as they travel.

use serde::{Deserialize, Serialize};

use crate::ids::SlotId;

/// One line of a service's output, or a note of ours in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LogLine {
    /// Which slot.
    pub slot: SlotId,
    /// Its place in the slot's output: grows from line to line, not always by one.
    pub sequence: u64,
    /// When it was read, in nanoseconds since the Unix epoch.
    pub at_ns: i64,
    /// Where it came from.
    pub stream: LogStream,
    /// The line, without its end; bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A note of Upbeat's own: `12 records dropped`.
    Upbeat,
}
