//! What is there, as far as a plan looks at it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{AppName, ServiceName, SlotId};
use crate::project::container::{Port, Protocol};
use crate::state::Phase;

/// What is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// What the machines of the slots show. One that is missing is absent.
    pub observed: BTreeMap<SlotId, Observed>,
    /// Our containers, by what they are called in the engine.
    pub containers: BTreeMap<String, Container>,
    /// Containers that are none of what is planned, by their names, with the ports of this machine they hold.
    pub foreign: BTreeMap<String, Vec<HostPort>>,
    /// Images: by each name (with its tag or digest), their id.
    pub images: BTreeMap<String, String>,
    /// Networks, by what they are called in the engine.
    pub networks: BTreeMap<String, Kept>,
    /// Containers of others in these networks, by the name of the network: which keeps one from being removed.
    pub strangers: BTreeMap<String, BTreeSet<String>>,
    /// Volumes, likewise.
    pub volumes: BTreeMap<String, Kept>,
    /// Where releases are kept track of: the apps, and of each its releases by number, with their names.
    pub apps: BTreeMap<AppName, BTreeMap<u64, String>>,
    /// Who asked not to be interrupted.
    pub locks: BTreeMap<(AppName, ServiceName), Lock>,
}

/// What is seen of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Its phase.
    pub phase: Phase,
    /// `TargetSlot::digest` under which the copy that runs, or ran last, was started. Where it is
    /// not known, the current target's counts.
    pub running_digest: Option<String>,
    /// `TargetSlot::generation` of the wish that copy is there for, likewise.
    pub running_generation: Option<u64>,
}

/// A container of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Whose it is.
    pub slot: SlotId,
    /// `Service::digest` of what it was made of.
    pub digest: String,
    /// The id of its image.
    pub image: Option<String>,
    /// How it is.
    pub state: ContainerState,
    /// The number of the release it is of, where releases are kept track of.
    pub release: Option<u64>,
    /// Networks it is in, or is in once started.
    pub networks: BTreeSet<String>,
    /// Named volumes it uses.
    pub volumes: BTreeSet<String>,
    /// Ports of this machine it holds while it runs.
    pub ports: Vec<HostPort>,
    /// It is in a temporary slot, beside another copy.
    pub temporary: bool,
}

/// How a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// It was made and never started.
    Created,
    /// It runs.
    Running,
    /// It runs, and its readiness probe passes.
    Healthy,
    /// It was stopped.
    Stopped,
    /// It ended by itself, and well.
    Completed,
    /// It ended by itself, and not well.
    Failed,
}

impl ContainerState {
    /// It runs.
    pub fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::Healthy)
    }
}

/// A network or a volume of the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The app it was made for; `None`: it is not ours.
    pub app: Option<AppName>,
    /// The digest of what it was made of.
    pub digest: Option<String>,
}

/// An update lock that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Lock {
    /// Who holds it, as it says itself.
    pub holder: String,
    /// Since when, as people read it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "held by {}", self.holder)?;
        match &self.since {
            Some(since) => write!(f, " since {since}"),
            None => Ok(()),
        }
    }
}

/// A port of this machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HostPort {
    /// Its number.
    pub port: u16,
    /// Of what.
    pub protocol: Protocol,
    /// At which address; at all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
}

impl HostPort {
    /// What a container has published, where that is one port: of a range the engine takes a free one.
    pub fn of(port: &Port) -> Option<Self> {
        let number = port.published.as_deref()?.parse().ok().filter(|number| *number != 0)?;
        Some(Self::new(number, port.protocol, port.host_ip.as_deref()))
    }

    /// Of this number, at this address of the machine's, where that is one.
    pub fn new(port: u16, protocol: Protocol, ip: Option<&str>) -> Self {
        let ip = ip.filter(|ip| !["0.0.0.0", "::", ""].contains(ip));
        Self { port, protocol, ip: ip.map(str::to_owned) }
    }

    /// Not both can be held.
    pub fn clashes(&self, other: &Self) -> bool {
        let at_one = match (&self.ip, &other.ip) {
            (Some(ip), Some(other)) => ip == other,
            _ => true,
        };
        at_one && self.port == other.port && self.protocol == other.protocol
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(ip) = &self.ip {
            write!(f, "{ip}:")?;
        }
        write!(f, "{}/{}", self.port, self.protocol.key())
    }
}
