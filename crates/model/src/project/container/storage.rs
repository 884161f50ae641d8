//! What is mounted into a container.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::ServiceName;

/// Something that is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Where, absolute, in the container.
    pub target: String,
    /// It is not written to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// What.
    pub kind: MountKind,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum MountKind {
    /// A file or directory of this machine.
    Bind {
        /// Absolute.
        source: String,
        /// Made as a directory where it is not there.
        #[serde(default = "super::super::yes", skip_serializing_if = "super::super::is_true")]
        create_host_path: bool,
        /// `private`, `rslave`, …
        #[serde(default, skip_serializing_if = "Option::is_none")]
        propagation: Option<String>,
        /// Mounts below it are mounted too: `enabled`, `disabled`, `writable`, `readonly`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        recursive: Option<String>,
        /// Relabelled for SELinux: `z` or `Z`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        selinux: Option<String>,
    },
    /// A volume of the engine.
    Volume {
        /// Which; one of its own, which goes with the container, where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        volume: Option<Volume>,
        /// Words for people and tools, on one of its own.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        labels: BTreeMap<String, String>,
        /// Relabelled for SELinux: `z` or `Z`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        selinux: Option<String>,
        /// An empty one is not filled from the image.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        nocopy: bool,
        /// Only this directory of it. Engine API 1.45.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subpath: Option<String>,
    },
    /// A file system in memory.
    Tmpfs {
        /// At most so many bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
        /// Its rights.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<u32>,
    },
    /// The files of an image. Engine API 1.48.
    Image {
        /// Which.
        source: String,
        /// Only this directory of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subpath: Option<String>,
    },
}

impl MountKind {
    /// This one, with nothing said but which.
    pub fn of_volume(volume: Volume) -> Self {
        let labels = BTreeMap::new();
        Self::Volume { volume: Some(volume), labels, selinux: None, nocopy: false, subpath: None }
    }
}

/// A volume of the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// What it is called in the file.
    pub key: String,
    /// What it is called in the engine.
    pub name: String,
    /// It is not made or removed with the app: it has to be there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub external: bool,
    /// `local` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Of the driver.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub driver_opts: BTreeMap<String, String>,
    /// Words for people and tools.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Volume {
    /// One of the engine's usual kind.
    pub fn new(key: impl Into<String>, name: impl Into<String>) -> Self {
        let (driver_opts, labels) = (BTreeMap::new(), BTreeMap::new());
        Self { key: key.into(), name: name.into(), external: false, driver: None, driver_opts, labels }
    }

    /// The identity of all that makes it what it is.
    pub fn digest(&self) -> String {
        super::super::short_hash(&serde_json::to_value(self).unwrap_or_default())
    }
}

/// Whose mounts a container has too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum VolumesFrom {
    /// A service of the same app.
    Service {
        /// Which.
        name: ServiceName,
        /// They are not written to.
        read_only: bool,
    },
    /// A container that is not of this app.
    Container {
        /// Which.
        name: String,
        /// They are not written to.
        read_only: bool,
    },
}
