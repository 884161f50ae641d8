//! `webhook`: who is told of events, and how that goes.

use super::args::{WebhookArgs, WebhookCommand};
use super::session::Session;
use crate::exit::ExitCode;
use crate::face::webhook as face;
use crate::failure::Outcome;

pub(super) async fn run(session: &Session, args: WebhookArgs) -> Outcome {
    match args.command {
        WebhookCommand::Ls => list(session).await,
        WebhookCommand::Test(args) => {
            let tested = session.ensured().await?.test_webhook(&args.name).await?;
            match session.is_json() {
                true => session.print_json(&tested)?,
                false => session.print(&face::tested(&tested, &session.face()))?,
            }
            Ok(if tested.delivered { ExitCode::Ok } else { ExitCode::Failed })
        }
    }
}

/// Without a daemon nobody knows which there are: they are its settings.
async fn list(session: &Session) -> Outcome {
    let client = session.to_ask().await?;
    let webhooks = session.ask(|| client.webhooks()).await??;
    if session.is_json() {
        session.print_json(&webhooks)?;
    } else if session.global.quiet {
        session.print(&webhooks.iter().map(|webhook| format!("{}\n", webhook.name)).collect::<String>())?;
    } else {
        session.print(&face::list(&webhooks, &session.face()))?;
    }
    Ok(ExitCode::Ok)
}
