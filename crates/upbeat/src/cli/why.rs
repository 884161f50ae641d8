//! `why`: the chain from a service to the cause of its state.

use super::args::WhyArgs;
use super::change::{For, named};
use super::session::Session;
use crate::exit::ExitCode;
use crate::face::why::text;
use crate::failure::Outcome;

pub(super) async fn run(session: &Session, args: WhyArgs) -> Outcome {
    let (client, app, services) = named(session, For::Answer, std::slice::from_ref(&args.service)).await?;
    for service in &services {
        let why = session.ask(|| client.why(&app.name, service)).await??;
        if session.is_json() {
            session.print_json(&why)?;
        } else if why.chains.is_empty() {
            session.print(&format!("{service} has no copies; `upbeat scale {service}=1` starts one\n"))?;
        } else {
            session.print(&text(&why, &session.face()))?;
        }
    }
    Ok(ExitCode::Ok)
}
