//! Wire types and the typed client: all that another program needs to speak with the daemon.

mod client;
mod decode;
mod endpoint;
mod error;
#[cfg(feature = "openapi")]
pub mod openapi;
pub mod types;

pub use client::{Client, KEY_HEADER, Updates};
pub use endpoint::{Endpoint, Method};
pub use error::ClientError;
pub use types::*;
pub use upbeat_model::{
    Action, App, AppName, AppSummary, Event, EventFilter, EventKind, EventWord, IdempotencyKey, LogLine,
    LogStream, Operation, OperationId, Origin, Plan, Project, ServiceName, SlotId, SlotStatus, Starts, Stats,
    Why, WhyLink, Wish,
};
