//! `config`: what the project's files come to.

use std::collections::BTreeMap;

use super::args::{ConfigArgs, ConfigCommand, ConfigFormat};
use super::load::{self, Interpolate, Notes};
use super::session::Session;
use crate::exit::ExitCode;
use crate::face::data;
use crate::failure::{Failure, Outcome};

pub(super) fn run(session: &Session, args: ConfigArgs) -> Outcome {
    if let Some(ConfigCommand::Schema) = args.schema {
        session.print_json(&upbeat_model::file::schema())?;
        return Ok(ExitCode::Ok);
    }
    let is_json = session.is_json() || args.format == ConfigFormat::Json;
    if args.hash {
        let project = load::project(session, Notes::Told)?;
        let digests = project.services.iter().map(|(name, service)| (name.to_string(), service.digest()));
        return match is_json {
            true => session.print_json(&digests.collect::<BTreeMap<_, _>>()),
            false => {
                let lines: String = digests.map(|(name, digest)| format!("{name} {digest}\n")).collect();
                session.print(&lines)
            }
        }
        .map(|()| ExitCode::Ok);
    }
    let interpolate = if args.no_interpolate { Interpolate::No } else { Interpolate::Yes };
    let document = load::document(session, interpolate, Notes::Told)?;
    if args.services {
        let services = document.get("services").and_then(|services| services.as_object());
        let names: Vec<&String> = services.into_iter().flatten().map(|(name, _)| name).collect();
        match is_json {
            true => session.print_json(&names)?,
            false => session.print(&names.iter().map(|name| format!("{name}\n")).collect::<String>())?,
        }
    } else if is_json {
        session.print_json(&document)?;
    } else {
        let text = data::yaml(&document).map_err(|error| {
            Failure::new(ExitCode::Failed, "it cannot be written as YAML").because(&error)
        })?;
        session.print(&text)?;
    }
    Ok(ExitCode::Ok)
}
