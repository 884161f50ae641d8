//! `graph`: who needs whom, with states where something runs.

use upbeat_model::{Project, SlotStatus};

use super::args::{GraphArgs, GraphFormat};
use super::load;
use super::session::{Session, is_absent};
use crate::exit::ExitCode;
use crate::face::graph::Graph;
use crate::failure::{Failure, Outcome};

pub(super) async fn run(session: &Session, args: GraphArgs) -> Outcome {
    let (project, slots) = project(session).await?;
    let graph = Graph::new(&project, &slots)
        .map_err(|e| Failure::new(ExitCode::Failed, "the graph cannot be drawn").because(&e))?;
    match args.format {
        GraphFormat::Json => session.print_json(&json(&graph)?)?,
        GraphFormat::Text if session.is_json() => session.print_json(&json(&graph)?)?,
        GraphFormat::Text => session.print(&graph.text(&session.face()))?,
        GraphFormat::Dot => session.print(&graph.dot())?,
        GraphFormat::Mermaid => session.print(&graph.mermaid())?,
    }
    Ok(ExitCode::Ok)
}

fn json(graph: &Graph<'_>) -> Result<serde_json::Value, Failure> {
    graph.json().map_err(|e| Failure::new(ExitCode::Failed, "the graph cannot be written").because(&e))
}

/// What the file declares, with the states of what runs; by `-p` alone, what runs.
async fn project(session: &Session) -> Result<(Project, Vec<SlotStatus>), Failure> {
    let client = session.to_ask().await?;
    if session.global.project_name.is_some()
        && session.global.file.is_empty()
        && session.global.short_file.is_empty()
    {
        let name = load::app_name(session)?;
        let app = session.ask(|| client.app(&name)).await??;
        return Ok((app.project, app.slots));
    }
    let project = load::project(session, load::Notes::Kept)?;
    let slots = match session.ask(|| client.app(&project.name)).await? {
        Ok(app) => app.slots,
        Err(error) if is_absent(&error) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    Ok((project, slots))
}
