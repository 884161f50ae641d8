//! Wire types and the typed client: all that another program needs to speak with the daemon.

mod client;
mod connection;
mod decode;
mod endpoint;
mod error;
#[cfg(feature = "openapi")]
pub mod openapi;
pub mod rollout_units;
pub mod rollouts;
pub mod types;
mod webhooks;

pub use client::{Client, KEY_HEADER, Updates};
pub use connection::Remote;
pub use endpoint::{Endpoint, Method};
pub use error::ClientError;
pub use types::*;
pub use upbeat_model::{
    Action, App, AppName, AppSummary, Asked, AuditEntry, AuditHead, AuditRecord, AuditVerdict, Event,
    EventFilter, EventKind, EventWord, IdempotencyKey, LogLine, LogStream, Need, Operation, OperationId,
    Origin, Plan, Project, Refused, Role, ServiceName, SlotId, SlotStatus, Starts, Stats, TokenInfo,
    TokenName, WebhookName, WebhookState, WebhookTested, Whom, Why, WhyLink, Wish,
};
