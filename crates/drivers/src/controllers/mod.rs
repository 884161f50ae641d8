//! How controllers of a rollout are asked.

mod policy;

pub use policy::{Allowed, NotAllowed, Policy};
