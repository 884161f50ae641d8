//! `down`: stops everything of the app and forgets it.

use upbeat_api::{AppName, Client};

use super::args::DownArgs;
use super::change::await_end;
use super::load;
use super::session::{Session, is_absent};
use crate::exit::ExitCode;
use crate::face::outcome::Asked;
use crate::failure::{Failure, Outcome};
use crate::progress::Until;

pub(super) async fn run(session: &Session, args: DownArgs) -> Outcome {
    let app = load::app_name(session)?;
    let client = session.to_change().await?;
    // Processes have no volumes: then no engine is asked for any, which may not be there.
    let may_have_volumes = args.volumes && has_containers(&client, &app).await?;
    match session.change(async |key| client.down(&app, args.kill, key).await).await? {
        Ok(operation) => {
            let ended = await_end(session, &client, operation, Until::Ended, Asked::Down, &[]).await?;
            if may_have_volumes && ended == ExitCode::Ok {
                remove_volumes(session, &client, &app).await?;
            }
            Ok(ended)
        }
        // It is as asked.
        Err(error) if is_absent(&error) => {
            if args.volumes {
                remove_volumes(session, &client, &app).await?;
            }
            match session.is_json() {
                true => session.print_json(&None::<()>)?,
                false => session.note(&format!("nothing of `{app}` is there")),
            }
            Ok(ExitCode::Ok)
        }
        Err(error) => Err(error.into()),
    }
}

/// Also of what is not known to be there.
async fn has_containers(client: &Client, app: &AppName) -> Result<bool, Failure> {
    match client.app(app).await {
        Ok(known) => {
            let declared = known.project.services.values().any(|service| service.container.is_some());
            Ok(declared || known.slots.iter().any(|copy| copy.container.is_some()))
        }
        Err(error) if is_absent(&error) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

async fn remove_volumes(session: &Session, client: &Client, app: &AppName) -> Result<(), Failure> {
    let removed = client.remove_volumes(app).await?;
    for volume in &removed.volumes {
        session.note(&format!("volume {volume} is removed"));
    }
    Ok(())
}
