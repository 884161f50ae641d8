//! What touches the machine besides the shim: starting shims, reading logs, probing, clocks.
//!
//! Stupid on purpose: nothing here decides. Whatever is started, stopped or removed here was decided
//! by an instance machine.

pub mod cgroups;
pub mod clock;
pub mod controllers;
pub mod docker;
pub mod ending;
pub mod logs;
mod looks;
pub mod machine;
pub mod peer;
pub mod probe;
pub mod process;
mod readiness;
pub mod rights;
pub mod session;
mod stuck;
mod tree;
pub mod update_locks;
pub mod usage;
pub mod watch;
pub mod webhooks;
