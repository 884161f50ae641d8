//! `events`: what happened, and on request what happens from now on.

use std::cell::Cell;
use std::rc::Rc;

use upbeat_api::{AppName, Client, Event, EventFilter, EventsQuery};

use super::args::EventsArgs;
use super::moment::moment_of;
use super::session::{Session, is_absent};
use super::watch::Steady;
use super::{load, names};
use crate::exit::ExitCode;
use crate::face::events::{Columns, line};
use crate::failure::{Failure, Outcome};

pub(super) async fn run(session: &Session, args: EventsArgs) -> Outcome {
    let app = if args.all || args.rollout.is_some() { None } else { Some(load::app_name(session)?) };
    let wanted = filter(session, app, &args)?;
    let as_json = args.json || session.is_json();
    let client = session.to_ask().await?;
    if !args.follow {
        let (mut after, mut is_any) = (args.since_sequence, false);
        let mut columns = Columns::default();
        loop {
            let page = session.ask(|| client.events(&wanted, after, EventsQuery::MAX_LIMIT)).await??;
            let Some(last) = page.last() else {
                // Of a service that was there once something may be told; of one that never was, nothing.
                return if is_any { Ok(ExitCode::Ok) } else { known(session, &client, &wanted).await };
            };
            (after, is_any) = (last.sequence, true);
            page.iter().for_each(|event| columns.see(event, &session.face()));
            for event in &page {
                show(session, event, &mut columns, as_json)?;
            }
        }
    }
    known(session, &client, &wanted).await?;
    let after = Rc::new(Cell::new(args.since_sequence));
    let from = after.clone();
    let opening = client.clone();
    let mut events = Steady::new(session, &client, move || {
        let (client, wanted, after) = (opening.clone(), wanted.clone(), from.get());
        async move { client.watch_events(&wanted, after).await }
    })
    .opened()
    .await?;
    let mut columns = Columns::default();
    while let Some(event) = events.next().await? {
        after.set(event.sequence);
        show(session, &event, &mut columns, as_json)?;
    }
    Ok(ExitCode::Ok)
}

/// Whether the app has the services that were named; of an app that is not there nobody knows. Errors: it has
/// one not.
async fn known(session: &Session, client: &Client, wanted: &EventFilter) -> Outcome {
    let Some(name) = wanted.app.as_ref().filter(|_| !wanted.services.is_empty()) else {
        return Ok(ExitCode::Ok);
    };
    let app = match session.ask(|| client.app(name)).await? {
        Ok(app) => app,
        Err(error) if is_absent(&error) => return Ok(ExitCode::Ok),
        Err(error) => return Err(error.into()),
    };
    let typed: Vec<String> = wanted.services.iter().map(ToString::to_string).collect();
    names::services(&typed, name.as_str(), app.project.services.keys())?;
    Ok(ExitCode::Ok)
}

fn filter(session: &Session, app: Option<AppName>, args: &EventsArgs) -> Result<EventFilter, Failure> {
    let face = session.face();
    let since = moment_of("--since", args.since.as_deref(), &face)?;
    let until = moment_of("--until", args.until.as_deref(), &face)?;
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        return Err(Failure::new(ExitCode::Usage, "`--until` is before `--since`: nothing is between"));
    }
    let rollout = args.rollout.as_ref().map(|id| (id.namespace().to_owned(), id.entity().to_owned()));
    let (namespace, entity) = rollout.unzip();
    let (services, kinds) = (args.services.clone(), args.kind.clone());
    Ok(EventFilter { app, namespace, entity, services, kinds, since, until })
}

fn show(session: &Session, event: &Event, columns: &mut Columns, as_json: bool) -> Result<(), Failure> {
    match as_json {
        true => session.print_json_line(event),
        false => session.print(&line(event, columns, &session.face())),
    }
}
