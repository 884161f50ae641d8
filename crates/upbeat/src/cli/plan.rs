//! `plan`: what `up` would do. Changes nothing, though it may start the daemon to ask.

use upbeat_api::Up;

use super::plan_args::{PlanArgs, PlanFormat};
use super::session::Session;
use super::{load, names};
use crate::exit::ExitCode;
use crate::face::count;
use crate::face::plan::text;
use crate::failure::Outcome;

pub(super) async fn run(session: &Session, args: PlanArgs) -> Outcome {
    let project = load::project(session, load::Notes::Told)?;
    let services = names::services(&args.services, project.name.as_str(), project.services.keys())?;
    let app = project.name.clone();
    let plan = {
        let (client, wish) = (session.ensured().await?, Up { project, services, force: args.force });
        session.insist(|| client.plan(&app, &wish, args.lint)).await??
    };
    match args.format {
        PlanFormat::Json => session.print_json(&plan)?,
        PlanFormat::Table if session.is_json() => session.print_json(&plan)?,
        PlanFormat::Table => session.print(&text(app.as_str(), &plan, &session.face()))?,
        PlanFormat::Text => session.print(&plan.text())?,
        PlanFormat::Dot => session.print(&plan.dot())?,
        PlanFormat::Mermaid => session.print(&plan.mermaid())?,
    }
    if args.lint {
        session.note(&format!("every rule of plans holds ({} looked over)", count(plan.steps.len(), "step")));
    }
    Ok(match args.detailed_exitcode && !plan.steps.is_empty() {
        true => ExitCode::PlanHasChanges,
        false => ExitCode::Ok,
    })
}
