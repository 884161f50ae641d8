//! HTTP: the native API over a [`Backend`], on a unix socket and on demand over TCP.
//!
//! Laws:
//! * Nothing is decided here. A handler checks the form of a request, asks the [`Backend`] and
//!   writes down the answer.
//! * Whatever is not an answer is a [`upbeat_api::Problem`] that names the place and the remedy. A
//!   key or a field that is not known is refused, never ignored.
//! * No caller costs more than a bound: [`bounds`] lists them all, each with its reason.
//! * A change goes on when the one who asked for it goes away; a stream does not.

mod access;
mod admission;
mod afterwards;
mod attach;
mod backend;
pub mod bounds;
mod builds;
pub mod compat;
mod connections;
mod device;
mod door;
mod exec;
mod extract;
mod handlers;
mod host;
mod leftovers;
mod linger;
mod pace;
mod place;
mod refusal;
mod rollouts;
mod router;
mod seeing;
mod serve;
mod socket;
mod streams;
mod tls;
mod webhooks;

/// Who asks where rollouts are open to this machine, and nobody knows more: for records, and for who counts what they
/// make.
pub const ROLLOUTS_LISTENER: &str = "rollouts-listener";

#[cfg(test)]
mod tests;

pub use axum::BoxError;
pub use backend::{Answer, Backend, BoxStream, Checked, LogQuery};
pub use connections::open as open_connections;
pub use door::{Group, GroupsOf, OpenError, OpenRollouts, Tcp, Unix};
pub use exec::{Printed, Running};
pub use host::is_host;
pub use rollouts::{ControllersEdit, Foreseen, Orchestrated, Reported, Rollouts, Wanted};
pub use router::router;
pub use serve::{Doors, serve};
pub use socket::{BindError, bind, bind_for};
pub use tls::{Tls, TlsError};
