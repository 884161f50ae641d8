//! A whole machine in one number: from a seed come a project, commands, faults and crashes, and the
//! real decisions are run against a kernel made of a few maps, in virtual time.
//!
//! Checkers run beside it. They know what shims and processes really did, and hold that against
//! what the node believes and orders. The same seed gives the same run, to the last input.

mod check;
mod deeds;
mod kernel;
mod onlooker;
mod random;
mod runs;
mod workload;
mod world;

pub use world::{Broken, Outcome, run};
