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

//!
//! Where an answer differs from the first engine's:
//! * Errors have the status code that is theirs; there they are all 400.
//! * What cannot be is refused: empty and double names, control characters, an empty version, percents beyond 100,
//!   negative numbers, a field that is said twice, anything after the JSON. Texts and lists have bounds.
//! * `null` or nothing posted to `/options` is the usual way, as in its library; over HTTP it sets zeros there. A
//!   number that is left out is zero, as there: its clients leave out zeros.
//! * What will most likely not be what was meant stands behind `ok` in the message: `ok; …`.
//! * `/namespaces` and `/{namespace}/entities` are names, not keys of a store, and of that namespace alone; groups
//!   are whole names, not beginnings of names; a name may have `/`, as `%2F`.
//! * Times in messages are RFC 3339, in UTC.
//! * There is no profiler.

mod go;
mod http;
mod shapes;

#[cfg(test)]
pub(crate) use http::routes;
pub(crate) use http::{HINT, is_its, onto, refused};
