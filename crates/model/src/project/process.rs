//! What surrounds a process: limits, files of its own, commands run beside it.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Signal;
use crate::time::Millis;

/// A limit of the kernel for one process; -1 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Ulimit {
    /// In force.
    pub soft: i64,
    /// How far the process may raise it by itself.
    pub hard: i64,
}

impl Ulimit {
    /// The limits Linux has, by Compose's names, with their numbers on x86-64 and arm64.
    pub const KNOWN: [(&str, u32); 16] = [
        ("as", 9),
        ("core", 4),
        ("cpu", 0),
        ("data", 2),
        ("fsize", 1),
        ("locks", 10),
        ("memlock", 8),
        ("msgqueue", 12),
        ("nice", 13),
        ("nofile", 7),
        ("nproc", 6),
        ("rss", 5),
        ("rtprio", 14),
        ("rttime", 15),
        ("sigpending", 11),
        ("stack", 3),
    ];

    /// The limit of this number.
    pub fn name(number: u32) -> Option<&'static str> {
        Self::KNOWN.iter().find(|(_, known)| *known == number).map(|(name, _)| *name)
    }

    /// The kernel's number of a limit.
    pub fn number(name: &str) -> Option<u32> {
        Self::KNOWN.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
    }
}

/// Limits for all processes of a copy together, by its cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Processor time, in thousandths of one processor; at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u64>,
    /// Memory, in bytes: more is not given, and the kernel kills.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Memory, in bytes, that is taken from it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_reservation: Option<u64>,
    /// Processes and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
}

impl Resources {
    /// Nothing is limited.
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }

    /// The controllers of a cgroup these need, each with Compose's key for it.
    pub fn controllers(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let needs = [
            (self.cpus.is_some(), "cpu", "cpus"),
            (self.memory.is_some(), "memory", "mem_limit"),
            (self.memory_reservation.is_some(), "memory", "mem_reservation"),
            (self.pids.is_some(), "pids", "pids_limit"),
        ];
        needs.into_iter().filter(|(is_said, ..)| *is_said).map(|(_, controller, key)| (controller, key))
    }
}

/// How soon and how often a process that ended is started again (Compose Specification,
/// `deploy.restart_policy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RestartRhythm {
    /// Before each start; without it, a back-off that grows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Millis>,
    /// At most so many quick ends in a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// A run of this length was a good one, after which counting starts anew; without it, 10 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Millis>,
}

impl RestartRhythm {
    /// Nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A command run beside a process, or inside of a container, with its variables, in its directory and as
/// its user where nothing else is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// Program and arguments; at least one element. Never seen by a shell.
    pub command: Vec<String>,
    /// Variables besides those of the service.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Absolute; the service's own where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// The service's own where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// In a container with all rights of root; of a process never.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub privileged: bool,
    /// How long it may take before its tree is killed and it has failed; as long as all hooks of its moment
    /// where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Millis>,
}

/// How a process is asked to read its configuration anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reload {
    /// Its main process is sent this.
    Signal(Signal),
    /// This is run beside it: program and arguments.
    Exec(Vec<String>),
}

/// A config or a secret, as a file that only the process or the container can read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PrivateFile {
    /// What it is called in its directory: no path.
    pub name: String,
    /// Where a container finds it: absolute, inside of it. Of a process none: it is in its directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Whose it is in a container, by number; root's where absent. Of a process it is its user's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Likewise of its group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Its rights, such as `0o400`.
    #[serde(default = "PrivateFile::default_mode")]
    pub mode: u32,
    /// What is in it.
    pub content: Secret,
}

impl PrivateFile {
    /// The variable that names the directory to the process: the same as under systemd.
    pub const DIRECTORY: &'static str = "CREDENTIALS_DIRECTORY";

    /// One file is no larger, in bytes. The same as under systemd.
    pub const SIZE_MAX: usize = 1 << 20;

    /// All files of a service together are no larger, in bytes.
    pub const SUM_MAX: usize = 4 << 20;

    /// Its owner may read it.
    pub const fn default_mode() -> u32 {
        0o400
    }

    /// Everybody in a container may read it, as the Compose Specification says.
    pub const fn default_container_mode() -> u32 {
        0o444
    }

    /// One of a process: its user's, and only that one may read it.
    pub fn new(name: impl Into<String>, content: Secret) -> Self {
        Self { name: name.into(), target: None, uid: None, gid: None, mode: Self::default_mode(), content }
    }
}

/// Bytes nobody should see by accident: they are not printed, and travel as base64. Who only looks at a
/// project is given none: they are withheld.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Option<Arc<[u8]>>);

impl Secret {
    /// Keeps bytes.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(Some(bytes.into()))
    }

    /// In place of bytes that are not shown.
    pub const fn withheld() -> Self {
        Self(None)
    }

    /// Whether the bytes are not here.
    pub fn is_withheld(&self) -> bool {
        self.0.is_none()
    }

    /// The bytes, for whoever hands them to the process; none that are withheld.
    pub fn reveal(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(bytes) => write!(f, "Secret({} bytes)", bytes.len()),
            None => f.write_str("Secret(withheld)"),
        }
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(bytes) => serializer.serialize_str(&STANDARD.encode(bytes)),
            None => serializer.serialize_none(),
        }
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(Self::withheld()) };
        // What is wrong is not repeated: it may be half a secret.
        let bytes = STANDARD.decode(text).map_err(|_| serde::de::Error::custom("this is not base64"))?;
        Ok(Self::new(bytes))
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Secret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "Bytes nobody should see by accident, as base64; null where they are withheld.",
            "type": ["string", "null"],
            "contentEncoding": "base64",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_travels_and_is_not_printed() {
        let file = PrivateFile::new("key", Secret::new(*b"\xff\0hush"));
        let json = serde_json::to_string(&file).unwrap();
        assert_eq!(json, r#"{"name":"key","mode":256,"content":"/wBodXNo"}"#);
        assert_eq!(serde_json::from_str::<PrivateFile>(&json).unwrap(), file);
        assert!(!format!("{file:?}").contains("hush"));
        let error = serde_json::from_str::<Secret>(r#""aHVzaA=?""#).unwrap_err().to_string();
        assert!(!error.contains("aHVz"), "{error}");
        let withheld = PrivateFile { content: Secret::withheld(), ..file };
        let json = serde_json::to_string(&withheld).unwrap();
        assert_eq!(json, r#"{"name":"key","mode":256,"content":null}"#);
        assert_eq!(serde_json::from_str::<PrivateFile>(&json).unwrap(), withheld);
        assert_eq!((withheld.content.reveal(), withheld.content.is_withheld()), (&[][..], true));
    }

    #[test]
    fn limits_are_known_by_name_and_number() {
        assert_eq!(Ulimit::number("nofile"), Some(libc_nofile()));
        assert_eq!(Ulimit::number("files"), None);
        assert!(Ulimit::KNOWN.iter().all(|(name, number)| Ulimit::name(*number) == Some(name)));
    }

    /// `RLIMIT_NOFILE`.
    fn libc_nofile() -> u32 {
        7
    }
}
