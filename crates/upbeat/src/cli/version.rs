//! `version`: of this program and, where one runs, of the daemon.

use std::path::Path;

use serde::Serialize;
use upbeat_api::Version;

use super::session::{Session, is_absent};
use crate::exit::ExitCode;
use crate::face::apps::version;
use crate::failure::Outcome;

/// `version -o json`.
#[derive(Serialize)]
struct Versions<'a> {
    client: &'a str,
    daemon: Option<Version>,
    /// Where it is asked: a socket, or of a daemon elsewhere its URL.
    socket: &'a Path,
}

pub(super) async fn run(session: &Session) -> Outcome {
    let own = env!("CARGO_PKG_VERSION");
    let client = session.client()?;
    let daemon = match client.version().await {
        Ok(daemon) => Some(daemon),
        Err(error) if is_absent(&error) => None,
        Err(error) => return Err(error.into()),
    };
    if session.is_json() {
        session.print_json(&Versions { client: own, daemon, socket: client.socket() })?;
    } else {
        session.print(&version(own, daemon.as_ref(), client.socket(), &session.face()))?;
    }
    Ok(ExitCode::Ok)
}
