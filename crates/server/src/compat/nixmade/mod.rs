//! The first engine for rollouts of anything (`spec/nixmade.md` 2.D): its paths below `/v1/orchestrate`, its
//! shapes, and its clients, which are not to notice that another answers them.
//!
//! Laws:
//! * Nothing is decided here. What is asked becomes what the native API asks of [`Rollouts`](crate::Rollouts).
//! * A body is read as those clients write it ([`go`]): names of fields in any case, `null` as nothing, unknown
//!   fields passed over, any `Content-Type` or none. Beyond that it is read strictly: what cannot be is refused
//!   by its field and place, before anything is changed.
//! * There are two shapes of what is not data: `{"status":"success","message":"ok"}`, and
//!   `{"status":"error","message":…}` with the status code that says whose fault it is.
//! * Names are plain: no keys of a store. A list is a list, also an empty one.

mod go;
mod http;
mod shapes;

#[cfg(test)]
pub(crate) use http::routes;
pub(crate) use http::{HINT, is_its, onto, refused};
