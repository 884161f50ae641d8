//! The `upbeat` binary as a library: the command line, how things look, and the daemon's wiring.
//!
//! Only this room prints and reads the environment. `cli` has one file a command; `face` makes
//! every text; `daemon` joins the other rooms to the process that `upbeat serve` runs,
//! by its `settings`; `services` and `rollouts` are the libraries for programs that embed Upbeat.

pub mod cli;
mod context;
pub mod daemon;
pub mod exit;
pub mod face;
pub mod failure;
pub mod logging;
pub mod progress;
pub mod rollouts;
pub mod services;
pub mod settings;
