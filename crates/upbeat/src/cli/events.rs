//! `events`: what happened, and on request what happens from now on.

use std::cell::Cell;
use std::rc::Rc;

use upbeat_api::{Event, EventsQuery};

use super::args::EventsArgs;
use super::load;
use super::session::Session;
use super::watch::Steady;
use crate::exit::ExitCode;
use crate::face::events::line;
use crate::failure::{Failure, Outcome};

pub(super) async fn run(session: &Session, args: EventsArgs) -> Outcome {
    let app = if args.all { None } else { Some(load::app_name(session)?) };
    let client = session.to_ask().await?;
    if !args.follow {
        let mut after = args.since_sequence;
        loop {
            let page = session.ask(|| client.events(app.as_ref(), after, EventsQuery::MAX_LIMIT)).await??;
            let Some(last) = page.last() else { return Ok(ExitCode::Ok) };
            after = last.sequence;
            for event in &page {
                show(session, event)?;
            }
        }
    }
    let after = Rc::new(Cell::new(args.since_sequence));
    let from = after.clone();
    let opening = client.clone();
    let mut events = Steady::new(session, &client, move || {
        let (client, app, after) = (opening.clone(), app.clone(), from.get());
        async move { client.watch_events(app.as_ref(), after).await }
    })
    .opened()
    .await?;
    while let Some(event) = events.next().await? {
        after.set(event.sequence);
        show(session, &event)?;
    }
    Ok(ExitCode::Ok)
}

fn show(session: &Session, event: &Event) -> Result<(), Failure> {
    match session.is_json() {
        true => session.print_json_line(event),
        false => session.print(&line(event, &session.face())),
    }
}
