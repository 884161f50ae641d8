//! The guide's nouns, in its shape, and what a machine's phase is in its words.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use upbeat_model::Phase;
use upbeat_model::withheld::url_to_look_at;

/// A service as the guide declares it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Letters, digits, `.`, `_`, `-`; starts with a letter or a digit; at most 63 bytes.
    pub name: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Names of services that are started before it.
    #[serde(default)]
    pub dependencies: Vec<String>,
    /// What starts it: a program and its arguments. No shell sees it.
    pub start_command: String,
    /// What stops it; empty: it is asked to end by SIGTERM.
    #[serde(default)]
    pub stop_command: String,
    /// `http://…` or `https://…`: whether it is well. Without it, whether its process is there.
    #[serde(default)]
    pub health_check_endpoint: Option<String>,
}

impl Service {
    /// The same for whoever only looks.
    #[must_use]
    pub fn to_look_at(&self) -> Self {
        let endpoint = self.health_check_endpoint.as_deref().map(url_to_look_at);
        Self { health_check_endpoint: endpoint, ..self.clone() }
    }
}

/// What the guide knows of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ServiceStatus {
    /// It runs.
    Running,
    /// It does not run, and is not meant to, or ended well by itself.
    Stopped,
    /// It was to run and could not be started, has ended badly, or does not answer as it should.
    Failed,
    /// It is not known yet.
    Unknown,
}

impl std::fmt::Display for ServiceStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Running => "Running",
            Self::Stopped => "Stopped",
            Self::Failed => "Failed",
            Self::Unknown => "Unknown",
        })
    }
}

impl From<Phase> for ServiceStatus {
    /// The table of `docs/guide.md`.
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Running | Phase::Healthy | Phase::Stopping => Self::Running,
            Phase::Absent | Phase::Stopped | Phase::Waiting | Phase::Completed => Self::Stopped,
            Phase::DependencyFailed
            | Phase::Unhealthy
            | Phase::NeedsAttention
            | Phase::BackingOff
            | Phase::CrashLooping
            | Phase::Failed => Self::Failed,
            Phase::Starting => Self::Unknown,
        }
    }
}

/// How a service is, at the moment it was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceHealth {
    /// It is well.
    pub healthy: bool,
    /// What its endpoint answered, or what is known of its process; one line.
    pub message: String,
    /// When it was asked.
    #[serde(serialize_with = "as_text")]
    pub last_check: Timestamp,
}

fn as_text<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every phase, in the order of the table in `docs/guide.md`.
    const TABLE: [(Phase, ServiceStatus); 14] = [
        (Phase::Absent, ServiceStatus::Stopped),
        (Phase::Stopped, ServiceStatus::Stopped),
        (Phase::Waiting, ServiceStatus::Stopped),
        (Phase::DependencyFailed, ServiceStatus::Failed),
        (Phase::Starting, ServiceStatus::Unknown),
        (Phase::Running, ServiceStatus::Running),
        (Phase::Healthy, ServiceStatus::Running),
        (Phase::Unhealthy, ServiceStatus::Failed),
        (Phase::NeedsAttention, ServiceStatus::Failed),
        (Phase::BackingOff, ServiceStatus::Failed),
        (Phase::CrashLooping, ServiceStatus::Failed),
        (Phase::Stopping, ServiceStatus::Running),
        (Phase::Completed, ServiceStatus::Stopped),
        (Phase::Failed, ServiceStatus::Failed),
    ];

    #[test]
    fn every_phase_has_a_status_and_the_page_says_the_same() {
        let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide.md"));
        for (phase, status) in TABLE {
            assert_eq!(ServiceStatus::from(phase), status, "{phase}");
            let row = format!("| {phase} | `{status}` |");
            assert!(page.contains(&row), "docs/guide.md lacks `{row}`");
        }
        let mut phases: Vec<&str> = TABLE.iter().map(|(phase, _)| phase.word()).collect();
        phases.sort_unstable();
        phases.dedup();
        assert_eq!(phases.len(), TABLE.len());
    }

    #[test]
    fn a_service_is_written_with_its_six_fields_in_their_order() {
        let service = Service {
            name: "coredns".into(),
            description: "DNS".into(),
            dependencies: vec![],
            start_command: "systemctl start coredns".into(),
            stop_command: "systemctl stop coredns".into(),
            health_check_endpoint: None,
        };
        let text = serde_json::to_string(&service).unwrap();
        let expected = r#"{"name":"coredns","description":"DNS","dependencies":[],"#.to_owned()
            + r#""start_command":"systemctl start coredns","stop_command":"systemctl stop coredns","#
            + r#""health_check_endpoint":null}"#;
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Service>(&text).unwrap(), service);
        assert!(serde_json::from_str::<Service>(&text.replace("description", "descripton")).is_err());
    }
}
