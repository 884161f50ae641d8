//! A second world: containers under a malicious engine.
//!
//! People write files and type commands; the real decisions are run against an engine made of a few maps. It
//! is late, answers twice or not at all, carries out what a dead daemon asked of it, contradicts itself, goes
//! away and comes back; and somebody else's hand stops, removes, pauses, renames. `docker` is that engine,
//! `driver` the contract of what speaks with it, `hands` the malice; `check` and `ending` know the truth, and
//! hold it against what is ordered and what has come of it.
//!
//! Processes are here only to stand beside containers: their own world is the other one.

mod check;
mod daemon;
mod docker;
mod driver;
mod ending;
mod hands;
mod people;
mod process;
mod world;

pub use world::{Outcome, run};

use upbeat_decide::rules::Bug;

/// A mistake of the driver: to see that the checkers can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slip {
    /// Start beside what runs.
    IgnoreOthers,
    /// Start, and let the others of the slot be.
    LeaveOthers,
}

/// What a test has planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// In the decisions.
    Decision(Bug),
    /// In the driver.
    Driver(Slip),
}
