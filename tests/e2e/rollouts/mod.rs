//! Journeys of rollouts: over HTTP, by several controllers at once, under daemons that are killed.

mod at_once;
mod wire;

use crate::Journey;

pub(crate) fn journeys() -> Vec<Journey> {
    at_once::journeys()
}
