//! One machine: observe, decide, perform.
//!
//! One loop owns the [`Node`](upbeat_decide::Node) with all its decisions, so no two commands race:
//! they are inputs in one queue. Its law: commit the new state, then perform the effects, then
//! record what came of them; after a restart, observe before performing.
//!
//! The agent does not know control. It is given a source of targets and a sink for reports: in one
//! process these are bounded channels.

mod asked;
mod command;
mod containers;
mod discretion;
#[cfg(test)]
mod fake;
mod guarded;
mod keep;
mod meter;
#[cfg(test)]
mod moments;
mod outbox;
mod perform;
mod reading;
mod run;
mod turns;

pub use keep::{Keep, KeepError};
pub use meter::{Counted, Histogram, Meter, ProbeMeter, SlotMeter};
pub use run::{Agent, Events, Onlookers, Report, TargetSource};
