//! `plan`: what `up` would do. Changes nothing, though it may start the daemon to ask.

use upbeat_api::Up;

use super::args::PlanArgs;
use super::session::Session;
use super::{load, names};
use crate::exit::ExitCode;
use crate::face::plan::text;
use crate::failure::Outcome;

pub(super) async fn run(session: &Session, args: PlanArgs) -> Outcome {
    let project = load::project(session, load::Notes::Told)?;
    let services = names::services(&args.services, project.name.as_str(), project.services.keys())?;
    let app = project.name.clone();
    let plan = {
        let (client, wish) = (session.ensured().await?, Up { project, services });
        session.insist(|| client.plan(&app, &wish)).await??
    };
    if session.is_json() {
        session.print_json(&plan)?;
    } else {
        session.print(&text(app.as_str(), &plan, &session.face()))?;
    }
    Ok(match args.detailed_exitcode && !plan.steps.is_empty() {
        true => ExitCode::PlanHasChanges,
        false => ExitCode::Ok,
    })
}
