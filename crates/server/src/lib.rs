//! HTTP: the native API over a [`Backend`].

mod backend;
pub use backend::{Answer, Backend, BoxStream, LogQuery};
