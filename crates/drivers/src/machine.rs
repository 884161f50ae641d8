//! What runs copies of both kinds.

use crate::docker::Engine;
use crate::process::ProcessDriver;
use crate::update_locks::UpdateLocks;

/// Processes of this machine, and containers of its engine. A cheap handle; clones share it.
#[derive(Clone)]
pub struct Machine {
    /// Processes.
    pub processes: ProcessDriver,
    /// Containers. Nobody has to have an engine who has none.
    pub engine: Engine,
    /// The update locks of both.
    pub locks: UpdateLocks,
}
