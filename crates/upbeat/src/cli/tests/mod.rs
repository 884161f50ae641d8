//! Commands against a daemon that tells what the test wants, over a real socket: what they print,
//! and how they end.

mod access;
mod builds;
mod changes;
mod colours;
mod config;
mod ctrl_c;
mod device;
mod errors;
mod hostile;
mod json;
mod mortal;
mod no_rollouts;
mod questions;
mod refusals;
mod rollouts;
mod room;
mod script;
mod seeing;
mod webhook;
