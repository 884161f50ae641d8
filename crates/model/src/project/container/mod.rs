//! A service that is a container: what only an engine knows of, resolved.
//!
//! It stands by itself: networks and volumes it uses are said here with all that makes them, under the
//! names they have in the engine, so that whoever makes the container needs nothing else.

mod image;
mod limits;
mod network;
mod storage;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use image::{Build, ImageRef, InvalidImage, PullPolicy};
pub use limits::{BlockIo, BlockRate, BlockWeight, Device, DeviceRequest, HostLimits};
pub use network::{Attachment, Network, NetworkMode, Port, Protocol, Subnet};
pub use storage::{Mount, MountKind, Volume, VolumesFrom};

use super::Signal;
use crate::ids::{AppName, ServiceName};

/// What a container has besides what every service has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// What it is made of.
    pub image: ImageRef,
    /// How its image is made, where it is not pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,
    /// When its image is asked for at the registry.
    #[serde(default, skip_serializing_if = "PullPolicy::is_default")]
    pub pull_policy: PullPolicy,
    /// `os[/arch[/variant]]`; the engine's own where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// The engine asks by itself what the image says of its health. Not where a file says what is asked, or
    /// that nothing is.
    #[serde(default = "super::yes", skip_serializing_if = "super::is_true")]
    pub image_check: bool,
    /// What asks it to stop; the image's where absent, and where that says nothing, SIGTERM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<Signal>,
    /// In place of the image's; an empty list is none at all, absent is the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Likewise, behind the entrypoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Absolute, in the container; the image's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// What it is called in the engine; `app-service-index` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its own name of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The domain of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// Which networks it is in, and as what.
    #[serde(default)]
    pub network: NetworkMode,
    /// Its address on the link, where there is one network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    /// What of it is reached from outside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// What it listens at, for others in its networks: `80/tcp`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub expose: BTreeSet<String>,
    /// What is mounted into it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// File systems in memory: where, and with which options (`size=64m`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tmpfs: BTreeMap<String, String>,
    /// It has the mounts of these too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes_from: Vec<VolumesFrom>,
    /// Servers it asks for names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
    /// Domains it looks in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_search: Vec<String>,
    /// Options of its resolver.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_options: Vec<String>,
    /// Names it knows by itself, each with its addresses (`host-gateway` is one).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_hosts: BTreeMap<String, Vec<String>>,
    /// Other services by other names, in all networks it is in: the service, and the name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<(ServiceName, String)>,
    /// Containers that are not of this app, likewise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external_links: Vec<(String, String)>,
    /// Rights of root it has besides the engine's usual ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cap_add: Vec<String>,
    /// Rights it has not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cap_drop: Vec<String>,
    /// It has all rights of root on this machine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub privileged: bool,
    /// Its own file system is not written to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// As `no-new-privileges:true`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub security_opt: Vec<String>,
    /// Settings of the kernel, in its namespaces.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// Devices of this machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// As `c 1:3 mr`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub device_cgroup_rules: Vec<String>,
    /// Devices a driver of the engine gives out (`gpus`, `deploy.resources.reservations.devices`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub device_requests: Vec<DeviceRequest>,
    /// What becomes of what it prints; as the engine does where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logging: Option<Logging>,
    /// A small program is its first process, and reaps; as the engine does where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
    /// Namespaces it shares or owns.
    #[serde(default, skip_serializing_if = "Namespaces::is_default")]
    pub namespaces: Namespaces,
    /// What runs it; the engine's usual one where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Bytes of `/dev/shm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shm_size: Option<u64>,
    /// Options of the engine's storage.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub storage_opt: BTreeMap<String, String>,
    /// Limits that processes do not have; the others are the service's `resources`.
    #[serde(default, skip_serializing_if = "HostLimits::is_default")]
    pub limits: HostLimits,
    /// Words for the runtime.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What the containers of other services are called with which it shares something, where that is not
    /// `app-service-1`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub peers: BTreeMap<ServiceName, String>,
}

impl Container {
    /// One of this image, with all else as where a file says nothing.
    pub fn new(image: ImageRef) -> Self {
        Self {
            image,
            build: None,
            pull_policy: PullPolicy::default(),
            platform: None,
            image_check: true,
            stop_signal: None,
            entrypoint: None,
            command: None,
            working_dir: None,
            name: None,
            hostname: None,
            domainname: None,
            network: NetworkMode::default(),
            mac_address: None,
            ports: Vec::new(),
            expose: BTreeSet::new(),
            mounts: Vec::new(),
            tmpfs: BTreeMap::new(),
            volumes_from: Vec::new(),
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            extra_hosts: BTreeMap::new(),
            links: Vec::new(),
            external_links: Vec::new(),
            cap_add: Vec::new(),
            cap_drop: Vec::new(),
            privileged: false,
            read_only: false,
            security_opt: Vec::new(),
            sysctls: BTreeMap::new(),
            devices: Vec::new(),
            device_cgroup_rules: Vec::new(),
            device_requests: Vec::new(),
            logging: None,
            init: None,
            namespaces: Namespaces::default(),
            runtime: None,
            shm_size: None,
            storage_opt: BTreeMap::new(),
            limits: HostLimits::default(),
            annotations: BTreeMap::new(),
            peers: BTreeMap::new(),
        }
    }

    /// What the container of a service of the same app is called, of which this one has something.
    pub fn peer(&self, app: &AppName, service: &ServiceName) -> String {
        self.peers.get(service).cloned().unwrap_or_else(|| format!("{app}-{service}-1"))
    }

    /// Networks of the engine it is in, in the order they are joined.
    pub fn networks(&self) -> &[Attachment] {
        match &self.network {
            NetworkMode::Networks(attachments) => attachments,
            _ => &[],
        }
    }

    /// Named volumes it uses.
    pub fn volumes(&self) -> impl Iterator<Item = &Volume> {
        self.mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Volume { volume, .. } => volume.as_ref(),
            _ => None,
        })
    }

    /// What of it makes a *running copy* what it is: what only says where the image comes from does not.
    pub(crate) fn identity(&self) -> serde_json::Value {
        let build = None;
        let asked = Self { build, pull_policy: PullPolicy::default(), ..self.clone() };
        serde_json::to_value(asked).unwrap_or_default()
    }
}

/// What becomes of what a container prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Logging {
    /// Of the engine; its usual one where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Of that driver.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// Namespaces a container shares or owns, in the engine's words (`host`, `container:NAME`, `service:NAME` of
/// a service of the same app); as the engine does where absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Namespaces {
    /// Of shared memory and semaphores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipc: Option<String>,
    /// Of processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<String>,
    /// Of its host's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uts: Option<String>,
    /// Of users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Of cgroups: `host` or `private`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// The cgroup its own is made in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup_parent: Option<String>,
}

impl Namespaces {
    /// Nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
