//! `device`: all that shall run on a machine, as one document.

use futures_util::StreamExt;
use upbeat_api::{Client, SeekQuery};
use upbeat_model::device::{DeviceChanged, Said, Standing};

use super::args::{DeviceApplyArgs, DeviceArgs, DeviceCommand};
use super::careful;
use super::session::Session;
use crate::exit::ExitCode;
use crate::face::visible;
use crate::failure::{Failure, Outcome};

pub(super) async fn run(session: &Session, args: DeviceArgs) -> Outcome {
    let DeviceArgs { app, command } = args;
    match (command, app) {
        (Some(DeviceCommand::Apply(args)), _) => apply(session, args).await,
        (Some(DeviceCommand::Stop), _) => stop(session).await,
        (None, None) => {
            let client = session.to_ask().await?;
            session.print_json(&session.ask(|| client.device()).await??)?;
            Ok(ExitCode::Ok)
        }
        (None, Some(app)) => {
            let client = session.to_ask().await?;
            session.print_json(&session.ask(|| client.device_app(&app)).await??)?;
            Ok(ExitCode::Ok)
        }
    }
}

async fn apply(session: &Session, args: DeviceApplyArgs) -> Outcome {
    let (shown, text) = careful::text(&args.from)?;
    let Said(document) = serde_json::from_str(&text).map_err(|error| {
        // A key that is there twice is JSON, and no document.
        let what = if error.is_data() { "" } else { " is no JSON" };
        Failure::new(ExitCode::Usage, format!("`{shown}`{what}: {error}"))
            .hint("`upbeat device` prints a document; see `docs/device.md`")
    })?;
    let client = session.ensured().await?;
    let how = SeekQuery { cancel: args.queue.then_some(false), force: None };
    let changed = match args.whole {
        true => client.set_device(args.app.as_ref(), &document, &how).await?,
        false => client.merge_device(args.app.as_ref(), &document, &how).await?,
    };
    changed.notes.iter().for_each(|note| session.warn(&visible(note)));
    match session.is_json() {
        true => session.print_json(&changed)?,
        false if session.global.quiet => {}
        false => session.print(&said(&changed))?,
    }
    match args.wait {
        true => settled(session, &client).await,
        false => Ok(ExitCode::Ok),
    }
}

async fn stop(session: &Session) -> Outcome {
    let client = session.to_ask().await?;
    let changed = session.ask(|| client.stop_seeking()).await??;
    changed.notes.iter().for_each(|note| session.warn(&visible(note)));
    match session.is_json() {
        true => session.print_json(&changed)?,
        false if session.global.quiet => {}
        false if changed.operations.is_empty() => session.print("Nothing is called off.\n")?,
        false => session.print(&said(&changed))?,
    }
    Ok(ExitCode::Ok)
}

/// A line for each app that changes, and for each key.
fn said(changed: &DeviceChanged) -> String {
    if changed.queued {
        return "Queued: it is begun when what is under way is settled.\n".to_owned();
    }
    if changed.operations.is_empty() && changed.keys.is_empty() {
        return "Nothing changes: all of it is wanted already.\n".to_owned();
    }
    let keys = changed.keys.iter().map(|host| format!("{}: its key is changed\n", visible(host)));
    let line = |operation: &upbeat_model::Operation| {
        format!("{}: {} (operation {})\n", operation.app, visible(&operation.what), operation.id)
    };
    keys.chain(changed.operations.iter().map(line)).collect()
}

/// Until nothing is on its way. What cannot be reached is a failure.
async fn settled(session: &Session, client: &Client) -> Outcome {
    let mut states = client.watch_device().await?;
    while let Some(state) = states.next().await {
        match state?.status {
            Standing::Applying => {}
            Standing::Done => return Ok(ExitCode::Ok),
            Standing::Aborted => {
                session.complain(
                    "Something cannot be reached: `upbeat ps` shows what, `upbeat why` says why.\n",
                );
                return Ok(ExitCode::Failed);
            }
        }
    }
    Err(Failure::new(ExitCode::Failed, "the daemon went away before all was settled"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_waits_is_not_said_to_change_nothing() {
        let queued = DeviceChanged { queued: true, ..DeviceChanged::default() };
        assert_eq!(said(&queued), "Queued: it is begun when what is under way is settled.\n");
        let keys = DeviceChanged { keys: vec!["r.example".to_owned()], ..DeviceChanged::default() };
        assert_eq!(said(&keys), "r.example: its key is changed\n");
    }
}
