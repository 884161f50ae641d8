//! `stats`: what each slot uses; on a terminal again and again.

use std::collections::BTreeSet;

use upbeat_api::{ServiceName, Stats};

use super::args::{Format, StatsArgs};
use super::change::{For, named};
use super::session::Session;
use super::watch::Steady;
use crate::exit::ExitCode;
use crate::face::stats::{redrawn, table};
use crate::failure::{Failure, Outcome};

/// Lines of the terminal that are not for slots: the header, what is left out, and the cursor's.
const LINES_AROUND: usize = 3;

pub(super) async fn run(session: &Session, args: StatsArgs) -> Outcome {
    let (client, app, services) = named(session, For::Answer, &args.services).await?;
    let services: BTreeSet<ServiceName> = services.into_iter().collect();
    let wanted = |mut stats: Stats| {
        stats.slots.retain(|slot| services.is_empty() || services.contains(&slot.slot.service));
        stats
    };
    let is_live = !args.no_stream && session.face().is_terminal && session.global.output != Format::Json;
    if !args.watch && !is_live {
        let stats = wanted(session.ask(|| client.stats(&app.name)).await??);
        match session.is_json() {
            true => session.print_json(&stats)?,
            false => session.print(&table(&stats, None, &session.face()))?,
        }
        return Ok(ExitCode::Ok);
    }
    let (opening, name) = (client.clone(), app.name.clone());
    let mut looks = Steady::new(session, &client, move || {
        let (client, name) = (opening.clone(), name.clone());
        async move { client.watch_stats(&name).await }
    })
    .opened()
    .await?;
    let mut is_first = true;
    while let Some(stats) = looks.next().await? {
        show(session, &wanted(stats), is_first)?;
        is_first = false;
    }
    Ok(ExitCode::Ok)
}

fn show(session: &Session, stats: &Stats, is_first: bool) -> Result<(), Failure> {
    if session.is_json() {
        return session.print_json_line(stats);
    }
    let face = session.face();
    if !face.is_terminal {
        let gap = if is_first { "" } else { "\n" };
        return session.print(&format!("{gap}{}", table(stats, None, &face)));
    }
    let rows = session.rows().map(|rows| rows.saturating_sub(LINES_AROUND).max(1));
    session.print(&redrawn(&table(stats, rows, &face), is_first))
}
