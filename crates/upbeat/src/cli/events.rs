//! `events`: what happened, and on request what happens from now on.

use std::cell::Cell;
use std::rc::Rc;

use upbeat_api::{AppName, Event, EventFilter, EventsQuery};

use super::args::EventsArgs;
use super::load;
use super::moment::{MOMENTS, moment};
use super::session::Session;
use super::watch::Steady;
use crate::exit::ExitCode;
use crate::face::events::line;
use crate::failure::{Failure, Outcome};

pub(super) async fn run(session: &Session, args: EventsArgs) -> Outcome {
    let app = if args.all { None } else { Some(load::app_name(session)?) };
    let wanted = filter(session, app, &args)?;
    let as_json = args.json || session.is_json();
    let client = session.to_ask().await?;
    if !args.follow {
        let mut after = args.since_sequence;
        loop {
            let page = session.ask(|| client.events(&wanted, after, EventsQuery::MAX_LIMIT)).await??;
            let Some(last) = page.last() else { return Ok(ExitCode::Ok) };
            after = last.sequence;
            for event in &page {
                show(session, event, as_json)?;
            }
        }
    }
    let after = Rc::new(Cell::new(args.since_sequence));
    let from = after.clone();
    let opening = client.clone();
    let mut events = Steady::new(session, &client, move || {
        let (client, wanted, after) = (opening.clone(), wanted.clone(), from.get());
        async move { client.watch_events(&wanted, after).await }
    })
    .opened()
    .await?;
    while let Some(event) = events.next().await? {
        after.set(event.sequence);
        show(session, &event, as_json)?;
    }
    Ok(ExitCode::Ok)
}

fn filter(session: &Session, app: Option<AppName>, args: &EventsArgs) -> Result<EventFilter, Failure> {
    let face = session.face();
    let read = |option: &str, text: &Option<String>| {
        let read = text.as_deref().map(|text| moment(text, &face)).transpose();
        read.map_err(|why| Failure::new(ExitCode::Usage, format!("`{option}`: {why}")).hint(MOMENTS))
    };
    let (since, until) = (read("--since", &args.since)?, read("--until", &args.until)?);
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        return Err(Failure::new(ExitCode::Usage, "`--until` is before `--since`: nothing is between"));
    }
    Ok(EventFilter { app, services: args.services.clone(), kinds: args.kind.clone(), since, until })
}

fn show(session: &Session, event: &Event, as_json: bool) -> Result<(), Failure> {
    match as_json {
        true => session.print_json_line(event),
        false => session.print(&line(event, &session.face())),
    }
}
