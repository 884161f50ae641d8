//! Journeys of rollouts: over HTTP, by several controllers at once, under daemons that are killed.

mod at_once;
mod callback;
mod commands;
mod crowded;
mod fleet;
mod hostile;
mod measured;
mod orchestrate;
mod page;
mod typed;
mod units;
mod wire;

use crate::Journey;

pub(crate) fn journeys() -> Vec<Journey> {
    let journeys = [
        at_once::journeys(),
        crowded::journeys(),
        orchestrate::journeys(),
        hostile::journeys(),
        measured::journeys(),
        commands::journeys(),
        typed::journeys(),
        units::journeys(),
        page::journeys(),
    ];
    journeys.into_iter().flatten().collect()
}
