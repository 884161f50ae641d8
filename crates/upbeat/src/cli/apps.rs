//! `apps`: what this daemon runs.

use super::session::{Session, is_absent};
use crate::exit::ExitCode;
use crate::face::apps::table;
use crate::failure::Outcome;

pub(super) async fn run(session: &Session) -> Outcome {
    let client = session.to_ask().await?;
    let apps = match session.ask(|| client.apps()).await? {
        Ok(apps) => apps,
        Err(error) if is_absent(&error) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    if session.is_json() {
        session.print_json(&apps)?;
    } else if session.global.quiet {
        session.print(&apps.iter().map(|app| format!("{}\n", app.name)).collect::<String>())?;
    } else {
        session.print(&table(&apps, &session.face()))?;
    }
    Ok(ExitCode::Ok)
}
