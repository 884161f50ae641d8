//! Journeys: the real binary, real processes, a daemon that is really killed.

#![expect(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

mod absence;
mod access;
mod canary;
mod clients;
mod containers;
mod crash;
mod exec;
mod extremes;
mod files;
mod graph;
mod guide;
mod health;
mod health_edges;
mod health_hooks;
mod health_outside;
mod home;
mod itself;
mod lifecycle;
mod locks;
mod readme;
mod record;
mod requests;
mod rollouts;
mod seeing;
mod stand_in;
mod surroundings;
mod telling;
mod terminal;
mod webhooks;

use std::process::ExitCode;

pub(crate) use upbeat_needs::{Need, Test as Journey};

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    if words.next_if(|word| word == stand_in::WORD).is_some() {
        return stand_in::run(words);
    }
    let _signals = hear_what_is_ignored();
    upbeat_needs::run(journeys())
}

/// Signals that end a command are at their default in all that a journey starts.
///
/// Who starts the journeys as a job of the background (`nohup … &`) has them ignored, which whatever is started
/// inherits: then nobody could be interrupted. What is *caught* is at its default again in what is started.
fn hear_what_is_ignored() -> tokio::runtime::Runtime {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let here = runtime.enter();
    let ignored = home::ignored_signals(std::process::id());
    for kind in [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit()] {
        if ignored.contains(&kind.as_raw_value()) {
            // As nobody listens to it, these journeys go on as they did.
            drop(signal(kind).unwrap());
        }
    }
    drop(here);
    runtime
}

/// All of them.
pub(crate) fn journeys() -> Vec<Journey> {
    let journeys = [
        readme::journeys(),
        graph::journeys(),
        guide::journeys(),
        lifecycle::journeys(),
        locks::journeys(),
        containers::journeys(),
        requests::journeys(),
        clients::journeys(),
        terminal::journeys(),
        absence::journeys(),
        crash::journeys(),
        exec::journeys(),
        extremes::journeys(),
        files::journeys(),
        surroundings::journeys(),
        telling::journeys(),
        health::journeys(),
        health_edges::journeys(),
        health_hooks::journeys(),
        health_outside::journeys(),
        seeing::journeys(),
        access::journeys(),
        record::journeys(),
        rollouts::journeys(),
        webhooks::journeys(),
        canary::journeys(),
        itself::journeys(),
    ];
    journeys.into_iter().flatten().collect()
}
