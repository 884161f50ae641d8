//! The decisions of Upbeat, as pure functions: given what is wished, what is seen and what time it
//! is, what shall be done, and why.
//!
//! Laws of this room: nothing here knows the time, the disk, the network or a random number; no
//! async. So every decision can be replayed, simulated and crashed at any point.

mod bundle;
pub mod effect;
pub mod gate;
pub mod holds;
pub mod instance;
pub mod node;
mod order;
pub mod outcome;
pub mod planner;
pub mod rollout;
pub mod rules;
pub mod webhook;

pub use effect::Effect;
pub use node::{Bundle, Change, Node};
pub use outcome::outcome;
