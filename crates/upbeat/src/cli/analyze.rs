//! `analyze`: what the time of the last start went into.

use upbeat_api::ServiceName;

use super::args::{AnalyzeArgs, AnalyzeCommand};
use super::change::{For, named};
use super::session::Session;
use crate::exit::ExitCode;
use crate::face::analyze::{blame, chain};
use crate::failure::Outcome;

pub(super) async fn run(session: &Session, args: AnalyzeArgs) -> Outcome {
    let typed = match &args.what {
        AnalyzeCommand::CriticalChain { service: Some(service) } => std::slice::from_ref(service),
        AnalyzeCommand::CriticalChain { service: None } | AnalyzeCommand::Blame => &[],
    };
    let (client, app, services) = named(session, For::Answer, typed).await?;
    let of: Option<&ServiceName> = services.first();
    let starts = session.ask(|| client.starts(&app.name)).await??;
    match args.what {
        AnalyzeCommand::CriticalChain { .. } if session.is_json() => {
            session.print_json(&starts.critical_chain(of))?;
        }
        AnalyzeCommand::CriticalChain { .. } => {
            let subject = of.map_or_else(|| app.name.to_string(), ToString::to_string);
            session.print(&chain(&subject, &starts.critical_chain(of), &session.face()))?;
        }
        AnalyzeCommand::Blame if session.is_json() => session.print_json(&starts.blame())?,
        AnalyzeCommand::Blame => session.print(&blame(&starts.blame(), &session.face()))?,
    }
    Ok(ExitCode::Ok)
}
