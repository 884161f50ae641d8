//! `logs`: what services wrote, and on request what they write from now on.

use upbeat_api::LogQuery;

use super::args::LogsArgs;
use super::change::{For, named};
use super::follow::LogFollow;
use super::session::Session;
use crate::exit::ExitCode;
use crate::face::logs::{LogView, Prefix, Stamps};
use crate::failure::Outcome;

pub(super) async fn run(session: &Session, args: LogsArgs) -> Outcome {
    let (client, app, services) = named(session, For::Answer, &args.services).await?;
    let prefix = if args.no_prefix { Prefix::None } else { Prefix::Slot };
    let stamps = if args.timestamps { Stamps::Shown } else { Stamps::Hidden };
    let wanted = |service| services.is_empty() || services.contains(service);
    let known = app.slots.iter().map(|s| &s.slot).filter(|slot| wanted(&slot.service));
    let mut view = LogView::new(&session.face(), prefix, stamps, known);
    let query = LogQuery { services: services.clone(), tail: args.tail, follow: args.follow };
    let mut lines = LogFollow::open(session, &client, &app.name, query).await?;
    while let Some(text) = lines.next_text(&mut view).await? {
        session.print(&text)?;
    }
    Ok(ExitCode::Ok)
}
