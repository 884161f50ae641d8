//! `down`: stops everything of the app and forgets it.

use super::args::DownArgs;
use super::change::await_end;
use super::load;
use super::session::{Session, is_absent};
use crate::exit::ExitCode;
use crate::face::outcome::Asked;
use crate::failure::Outcome;
use crate::progress::Until;

pub(super) async fn run(session: &Session, args: DownArgs) -> Outcome {
    let app = load::app_name(session)?;
    let client = session.to_change().await?;
    match session.change(async |key| client.down(&app, args.kill, key).await).await? {
        Ok(operation) => await_end(session, &client, operation, Until::Ended, Asked::Down, &[]).await,
        // It is as asked.
        Err(error) if is_absent(&error) => {
            match session.is_json() {
                true => session.print_json(&None::<()>)?,
                false => session.note(&format!("nothing of `{app}` is there")),
            }
            Ok(ExitCode::Ok)
        }
        Err(error) => Err(error.into()),
    }
}
