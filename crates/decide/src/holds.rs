//! What only one container of a machine can have at a time: ports of the machine, and a name somebody chose.

use serde::{Deserialize, Serialize};
use upbeat_model::Service;
use upbeat_model::plan::HostPort;
use upbeat_model::project::container::Protocol;

/// What a copy has while it runs, of that which only one can have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holds {
    /// Ports of this machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ports: Vec<HostPort>,
    /// Its `container_name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

/// Two that have none of these in common do not clash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Claim {
    Port(u16, Protocol),
    Name(String),
}

impl Holds {
    /// What a copy of this service has.
    pub(crate) fn of(service: &Service) -> Self {
        let Some(container) = service.container.as_deref() else { return Self::default() };
        let ports = container.ports.iter().filter_map(HostPort::of).collect();
        Self { ports, name: container.name.clone() }
    }

    /// It has nothing of the kind.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty() && self.name.is_none()
    }

    pub(crate) fn name_alone(self) -> Self {
        Self { ports: Vec::new(), ..self }
    }

    pub(crate) fn claims(&self) -> impl Iterator<Item = Claim> {
        let ports = self.ports.iter().map(|port| Claim::Port(port.port, port.protocol));
        ports.chain(self.name.iter().cloned().map(Claim::Name))
    }

    /// What both would have, in words.
    pub(crate) fn clash(&self, other: &Self) -> Option<String> {
        let taken = |port: &&HostPort| other.ports.iter().any(|held| held.clashes(port));
        let port = self.ports.iter().find(taken).map(|port| format!("port {port}"));
        let name = || self.name.as_ref().filter(|name| other.name.as_ref() == Some(name));
        port.or_else(|| name().map(|name| format!("the name `{name}`")))
    }
}
