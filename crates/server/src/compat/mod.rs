//! Other systems' ways to ask: their paths and shapes, as thin translations of what a
//! [`Backend`](crate::Backend) can be asked.

pub mod guide;
pub(crate) mod nixmade;
