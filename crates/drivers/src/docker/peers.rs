//! Containers of other services that one cannot be made without: it has their network, their processes, their
//! shared memory or their mounts.
//!
//! An engine takes them by their ids when it makes the container, and for good. So which these were is said
//! on the container, and one that was made for others is as if it were not there.

use std::collections::{BTreeMap, BTreeSet};

use upbeat_model::project::container::{Container, NetworkMode, VolumesFrom};
use upbeat_model::{ServiceName, SlotId};

use super::look::{self, Found};
use super::{Engine, EngineError, PrepareError};

/// Their ids, by their services.
pub(super) type Peers = BTreeMap<ServiceName, String>;

/// Of which services it has something that is fixed when it is made.
fn services(container: &Container) -> BTreeSet<ServiceName> {
    let mut found = BTreeSet::new();
    if let NetworkMode::Service(name) = &container.network {
        found.insert(name.clone());
    }
    for word in [&container.namespaces.ipc, &container.namespaces.pid] {
        let name = word.as_deref().and_then(|word| word.strip_prefix("service:"));
        found.extend(name.and_then(|name| name.parse().ok()));
    }
    found.extend(container.volumes_from.iter().filter_map(|from| match from {
        VolumesFrom::Service { name, .. } => Some(name.clone()),
        VolumesFrom::Container { .. } => None,
    }));
    found
}

impl Engine {
    /// The containers that one has something of: the newest of the first copy of each of these services.
    ///
    /// Errors: one of them is not there yet.
    pub(super) async fn peers(&self, slot: &SlotId, container: &Container) -> Result<Peers, PrepareError> {
        let mut found = Peers::new();
        for service in services(container) {
            let Some(id) = self.newest(slot, &service).await? else {
                return Err(PrepareError::Lacks { service });
            };
            found.insert(service, id);
        }
        Ok(found)
    }

    /// Whether a container was made for those that are there now: for the newest, or for one that runs on while the
    /// newest waits to take its place.
    pub(super) async fn has_its_peers(&self, slot: &SlotId, made_for: &Peers) -> Result<bool, EngineError> {
        for (service, id) in made_for {
            let found = self.first_of(slot, service).await?;
            let newest = found.last().map(|found| &found.id);
            let runs = found.iter().any(|found| found.id == *id && found.state.is_alive());
            if newest != Some(id) && !runs {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn newest(&self, slot: &SlotId, service: &ServiceName) -> Result<Option<String>, EngineError> {
        Ok(self.first_of(slot, service).await?.pop().map(|found| found.id))
    }

    /// Containers of the first copy of a service of the same app, oldest first.
    async fn first_of(&self, slot: &SlotId, service: &ServiceName) -> Result<Vec<Found>, EngineError> {
        let first = SlotId { app: slot.app.clone(), service: service.clone(), index: 1 };
        look::of_slot(self.wire(), self.owner(), &first).await
    }
}
