//! A whole machine in one number: from a seed come a project, commands, faults and crashes, and the
//! real decisions are run against a kernel made of a few maps, in virtual time.
//!
//! Checkers run beside it. They know what shims and processes really did, and hold that against
//! what the node believes and orders. The same seed gives the same run, to the last input. `ledger`
//! notes what is owed to whoever wrote the file, `probing` what each probe may have come to.

mod check;
mod deeds;
mod disk;
mod ending;
pub mod engine;
mod kernel;
mod ledger;
mod locks;
mod onlooker;
mod outside;
mod pace;
mod probing;
mod random;
mod runs;
mod services;
mod telling;
mod temper;
mod workload;
mod world;

pub use pace::Pace;
pub use world::{Broken, Outcome, run};
