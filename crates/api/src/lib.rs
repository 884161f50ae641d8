//! Wire types and the typed client.

pub mod types;
pub use types::*;
pub use upbeat_model::{
    Action, App, AppName, AppSummary, Event, EventKind, LogLine, LogStream, Operation, OperationId, Plan,
    Project, ServiceName, SlotId, SlotStatus, Why, WhyLink, Wish,
};
