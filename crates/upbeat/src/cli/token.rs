//! `token`: who may speak to the daemon over TCP.

use upbeat_api::NewToken;

use super::args::{CreateTokenArgs, TokenArgs, TokenCommand};
use super::session::{Session, is_absent};
use crate::exit::ExitCode;
use crate::face::{access, visible};
use crate::failure::Outcome;

pub(super) async fn run(session: &Session, args: TokenArgs) -> Outcome {
    match args.command {
        TokenCommand::Create(args) => create(session, args).await,
        TokenCommand::Ls => list(session).await,
        TokenCommand::Revoke(args) => {
            session.to_change().await?.revoke_token(&args.name).await?;
            match session.is_json() {
                true => session.print_json(&None::<()>)?,
                false => session.note(&format!("`{}` lets nobody in any more", args.name)),
            }
            Ok(ExitCode::Ok)
        }
    }
}

/// Asked once: an answer that is lost takes the token with it, and a second try would find its name
/// taken.
async fn create(session: &Session, args: CreateTokenArgs) -> Outcome {
    let expires_in_s = args.expires.map(|life| life.as_secs());
    let new = NewToken { name: args.name, role: args.role, expires_in_s };
    let issued = session.ensured().await?.create_token(&new).await?;
    if session.is_json() {
        session.print_json(&issued)?;
    } else {
        session.note(&access::issued(&issued.info, &session.face_of_errors()));
        // What another daemon says, too, may end up on a terminal.
        session.print(&format!("{}\n", visible(&issued.token)))?;
    }
    Ok(ExitCode::Ok)
}

async fn list(session: &Session) -> Outcome {
    let client = session.to_ask().await?;
    let tokens = match session.ask(|| client.tokens()).await? {
        Ok(tokens) => tokens,
        Err(error) if is_absent(&error) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    if session.is_json() {
        session.print_json(&tokens)?;
    } else if session.global.quiet {
        session.print(&tokens.iter().map(|token| format!("{}\n", token.name)).collect::<String>())?;
    } else {
        session.print(&access::tokens(&tokens, &session.face()))?;
    }
    Ok(ExitCode::Ok)
}
