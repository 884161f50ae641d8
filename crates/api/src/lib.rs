//! Wire types and the typed client: all that another program needs to speak with the daemon.

mod client;
mod connection;
mod decode;
mod device;
mod endpoint;
mod error;
mod exec;
#[cfg(feature = "openapi")]
pub mod openapi;
pub mod rollout_units;
pub mod rollouts;
mod running;
pub mod types;
mod webhooks;

pub use client::{Client, KEY_HEADER, Updates};
pub use connection::Remote;
pub use endpoint::{Endpoint, Method};
pub use error::ClientError;
pub use exec::{
    Attach, EXEC_PROTOCOL, Exec, ExecEnd, FRAME_MAX, Frame, Frames, INPUT_ROOM, Malformed, Window,
};
pub use running::{Hearing, Saying};
pub use types::*;
pub use upbeat_model::{
    Action, App, AppName, AppSummary, Asked, AuditEntry, AuditHead, AuditRecord, AuditVerdict, BuildWord,
    Event, EventFilter, EventKind, EventWord, IdempotencyKey, ImageBuild, ImageState, LogLine, LogStream,
    Need, Operation, OperationId, Origin, Plan, Project, Refused, Role, ServiceName, SlotId, SlotStatus,
    Starts, Stats, TokenInfo, TokenName, Wall, WebhookName, WebhookState, WebhookTested, Whom, Why, WhyLink,
    Wish,
};
