//! The daemon: control, one agent and the embedded store in one process, and how a client finds or
//! starts it.
//!
//! One per user (or one for the system, run by root). Killing it stops no service.

mod access;
mod agent;
mod backend;
mod builds;
pub(crate) mod controllers;
mod dirs;
mod document;
mod engine;
mod ensure;
mod events;
mod exec;
mod failpoint;
mod install;
mod logs;
mod notify;
mod queue;
mod refusals;
mod rollouts;
pub mod seeing;
mod serve;
mod starting;
mod stop;
mod webhooks;
mod whenever;
mod why;

pub use access::{AccessError, anchor_on_disk};
pub(crate) use backend::LocalBackend;
pub use dirs::{Dirs, NoHome};
pub(crate) use engine::Engine;
pub use ensure::{EnsureError, LOG_MAX, READY_PATIENCE, ensure, is_gone};
pub use install::{InstallError, Installed, install, is_installed};
pub use serve::{ServeError, serve};
pub use starting::is_starting;
pub use stop::{StopError, stop};

/// `argv[1]` that makes the `upbeat` binary the shim: one file is enough to install.
pub const SHIM_ARGUMENT: &str = "__shim";
