//! The fleet: which apps there are, what is wished for their slots, and how each wish ended.
//!
//! A command becomes a changed [`record::AppRecord`] by a pure function of [`wishes`], is kept, and
//! only then acknowledged and shown to the agent as a new target. What agents report is soft state:
//! lost with this process and reported anew by the next. What news means is a pure function, too.
//!
//! Control does not know the agent: it offers a target to watch, and takes reports.

pub mod audit;
mod control;
mod device;
pub mod documents;
mod edit;
mod error;
mod events;
mod halt;
mod outlook;
mod persist;
mod reactions;
pub mod record;
pub mod rollouts;
mod seen;
mod state;
pub mod tokens;
mod told;
pub mod webhooks;
pub mod wishes;

pub use control::{Bunch, Control, Settings};
pub use error::ControlError;
pub use events::{EVENTS_KEPT, EventLog, Next};
pub use outlook::{Drafted, Outlook};
pub use upbeat_decide::planner::Locks;
