//! The nouns of Upbeat: what a person declared, what is wanted, what was seen, and why.
//!
//! Laws of this room: no clock, no files, no sockets, no randomness, no async. Time, ids and the
//! contents of files are inputs. Everything here serialises, because everything here travels.

pub mod access;
pub mod analyze;
pub mod app;
pub mod build;
pub mod dag;
pub mod device;
pub mod diagnostic;
pub mod event;
pub mod file;
pub mod ids;
pub mod log;
pub mod operation;
pub mod plan;
pub mod project;
pub mod reason;
pub mod rights;
pub mod rollout;
pub mod state;
pub mod stats;
pub mod target;
pub mod time;
pub mod webhook;
pub mod withheld;

pub use access::{
    Asked, AuditEntry, AuditHead, AuditRecord, AuditVerdict, BadRecord, Need, Refused, Role, TokenInfo, Whom,
};
pub use analyze::{ChainLink, CriticalChain, OwnTime, SlotStart, Starts, Timeline};
pub use app::{App, AppSummary, Why, WhyLink};
pub use build::{BuildWord, ImageBuild, ImageState};
pub use diagnostic::Diagnostic;
pub use event::{Event, EventFilter, EventKind, EventWord};
pub use ids::{
    AppName, Attempt, IdempotencyKey, OperationId, ProbeName, ReleaseName, ServiceName, SlotId, TokenName,
    WebhookName,
};
pub use log::{LogLine, LogStream};
pub use operation::{Action, Edit, Operation, Origin, Wish};
pub use plan::Plan;
pub use project::{Project, Service};
pub use reason::Reason;
pub use state::{Exit, Phase, ProbeStatus, SlotStatus};
pub use stats::{SlotStats, SlotUsage, Stats};
pub use target::{Ask, Goal, Target, TargetSlot};
pub use time::{Millis, Mono, Wall};
pub use webhook::{Notice, NoticeKind, WebhookError, WebhookLost, WebhookState, WebhookTested, WebhookWord};
