//! `down`: stops everything of the app and forgets it.

use upbeat_api::{AppName, Client, ClientError, ProblemKind};

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
    // Processes have no volumes and networks: then no engine is asked for any, which may not be there.
    let has_containers = has_containers(session, &client, &app).await?;
    match session.change(async |key| client.down(&app, args.kill, key).await).await? {
        Ok(operation) => {
            let ended = await_end(session, &client, operation, Until::Ended, Asked::Down, &[]).await?;
            if has_containers && ended == ExitCode::Ok {
                match remove_networks(session, &client, &app).await? {
                    // Somebody has it run again, and them with it.
                    Err(error) if is_kind(&error, ProblemKind::Conflict) => {}
                    // What never ran needed none to go.
                    Err(error) if is_kind(&error, ProblemKind::Unavailable) => {
                        session.note(&error.to_string())
                    }
                    removed => removed?,
                }
                if args.volumes {
                    remove_volumes(session, &client, &app).await?;
                }
            }
            Ok(ended)
        }
        // It is as asked.
        Err(error) if is_absent(&error) => {
            match remove_networks(session, &client, &app).await? {
                // Without a daemon or an engine there is nobody who knows of any.
                Err(error) if is_absent(&error) || is_kind(&error, ProblemKind::Unavailable) => {}
                removed => removed?,
            }
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

fn is_kind(error: &ClientError, kind: ProblemKind) -> bool {
    matches!(error, ClientError::Problem(problem) if problem.kind == kind)
}

/// Also of what is not known to be there.
async fn has_containers(session: &Session, client: &Client, app: &AppName) -> Result<bool, Failure> {
    match session.insist(|| client.app(app)).await? {
        Ok(known) => {
            let declared = known.project.services.values().any(|service| service.container.is_some());
            Ok(declared || known.slots.iter().any(|copy| copy.container.is_some()))
        }
        Err(error) if is_absent(&error) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Those that another kept an earlier `down` from taking away, and those that stay now.
async fn remove_networks(
    session: &Session,
    client: &Client,
    app: &AppName,
) -> Result<Result<(), ClientError>, Failure> {
    // What a daemon had removed whose answer was lost is not named: nothing is amiss with it.
    let removed = match session.insist(|| client.remove_networks(app)).await? {
        Ok(removed) => removed,
        Err(error) => return Ok(Err(error)),
    };
    for network in &removed.networks {
        session.note(&format!("network {network} is removed"));
    }
    for (network, user) in &removed.in_use {
        session.note(&format!(
            "network {network} stays, as container `{user}` is in it; remove that one, then `upbeat down` takes the \
             network, too"
        ));
    }
    Ok(Ok(()))
}

async fn remove_volumes(session: &Session, client: &Client, app: &AppName) -> Result<(), Failure> {
    let removed = session.insist(|| client.remove_volumes(app)).await??;
    for volume in &removed.volumes {
        session.note(&format!("volume {volume} is removed"));
    }
    Ok(())
}
