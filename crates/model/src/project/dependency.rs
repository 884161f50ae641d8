//! Edges: what a service needs of another, at its start and for as long as it runs.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::Question;
use crate::ids::ProbeName;
use crate::time::Millis;

/// One edge of the graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    /// What must hold.
    #[serde(default)]
    pub condition: Condition,
    /// When false, a dependency that failed or is not declared is passed over.
    #[serde(default = "super::yes")]
    pub required: bool,
    /// When true, an explicit restart or replacement of the dependency restarts this one too.
    #[serde(default)]
    pub restart: bool,
    /// What happens to a running copy when the one it rests on ends or is replaced, for whatever
    /// reason.
    #[serde(default, skip_serializing_if = "OnRestart::is_ignored")]
    pub on_restart: OnRestart,
    /// What happens to a start when the condition cannot hold any more, or `timeout` is over.
    #[serde(default, skip_serializing_if = "OnFailure::is_default")]
    pub on_failure: OnFailure,
    /// How long a start waits for the condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Millis>,
}

impl Default for Dependency {
    fn default() -> Self {
        Self {
            condition: Condition::default(),
            required: true,
            restart: false,
            on_restart: OnRestart::default(),
            on_failure: OnFailure::default(),
            timeout: None,
        }
    }
}

/// What happens to a running copy when what it rests on ends or is replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnRestart {
    /// Nothing.
    #[default]
    Ignore,
    /// It is stopped, and started again when its conditions hold.
    Restart,
    /// It is reloaded, once the condition holds again.
    Reload,
    /// It is stopped, and stays so until somebody starts it.
    Stop,
}

impl OnRestart {
    fn is_ignored(&self) -> bool {
        *self == Self::Ignore
    }
}

/// What happens to a start when its condition cannot hold any more, or has not come to hold in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// It fails: those who depend on it hear of it.
    #[default]
    Fail,
    /// It waits on: somebody may mend the dependency.
    Wait,
    /// It starts all the same.
    Continue,
}

impl OnFailure {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What must hold of a dependency.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(with = "String"))]
#[serde(try_from = "String", into = "String")]
pub enum Condition {
    /// Its process was started and is there.
    #[default]
    Started,
    /// Its readiness probe passes; without one, as `service_started`.
    Healthy,
    /// It ended well, and is left so.
    CompletedSuccessfully,
    /// It ended, well or not, and is left so.
    Completed,
    /// It ended badly, and is left so.
    Failed,
    /// It runs and its readiness probe passes, or it ended well and is left so.
    Ready,
    /// This probe of it passes.
    Probe(ProbeName),
    /// This `host:port` accepts a connection: asked by a probe of it that nobody has written.
    Port(String),
    /// A line of its output has matched this regular expression: likewise.
    Line(String),
}

impl Condition {
    /// The words of all but those about probes.
    pub const PLAIN: [Self; 6] = [
        Self::Started,
        Self::Healthy,
        Self::CompletedSuccessfully,
        Self::Completed,
        Self::Failed,
        Self::Ready,
    ];

    /// What stands before the name of a probe.
    pub const PROBE: &'static str = "probe:";

    /// What stands before an address.
    const PORT: &'static str = "port_open:";

    /// What stands before a regular expression.
    const LINE: &'static str = "log_ready:";

    /// The probe of the dependency by which this is known, where it is by one of a name of its own.
    pub fn probe(&self) -> Option<Cow<'_, ProbeName>> {
        match self {
            Self::Probe(name) => Some(Cow::Borrowed(name)),
            Self::Port(address) => Question::Tcp(address.clone()).own_name().map(Cow::Owned),
            Self::Line(pattern) => Question::Log(pattern.clone()).own_name().map(Cow::Owned),
            _ => None,
        }
    }

    /// It is about how the dependency ended, and holds when that does not run any more.
    pub fn is_end(&self) -> bool {
        matches!(self, Self::CompletedSuccessfully | Self::Completed | Self::Failed)
    }

    /// In a word: `healthy`.
    pub fn word(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Started => "started",
            Self::Healthy => "healthy",
            Self::CompletedSuccessfully => "completed",
            Self::Completed => "ended",
            Self::Failed => "failed",
            Self::Ready => "ready",
            Self::Probe(name) => return Cow::Owned(format!("passing `{name}`")),
            Self::Port(_) => "port open",
            Self::Line(_) => "log ready",
        })
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Started => "service_started",
            Self::Healthy => "service_healthy",
            Self::CompletedSuccessfully => "service_completed_successfully",
            Self::Completed => "service_completed",
            Self::Failed => "service_failed",
            Self::Ready => "service_ready",
            Self::Probe(name) => return write!(f, "{}{name}", Self::PROBE),
            Self::Port(address) => return write!(f, "{}{address}", Self::PORT),
            Self::Line(pattern) => return write!(f, "{}{pattern}", Self::LINE),
        })
    }
}

impl std::str::FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix(Self::PROBE) {
            return ProbeName::new(name).map(Self::Probe).map_err(|error| error.to_string());
        }
        let asks = [(Self::PORT, Self::Port as fn(String) -> Self), (Self::LINE, Self::Line)];
        for (sign, condition) in asks {
            if let Some(asked) = text.strip_prefix(sign) {
                return Ok(condition(asked.to_owned()));
            }
        }
        let plain = Self::PLAIN.into_iter().find(|condition| condition.to_string() == text);
        plain.ok_or_else(|| format!("`{}` is no condition", text.escape_debug()))
    }
}

impl TryFrom<String> for Condition {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Condition> for String {
    fn from(condition: Condition) -> String {
        condition.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_reads_back() {
        let probe = Condition::Probe(ProbeName::new("warm").unwrap());
        let made = [Condition::Port("127.0.0.1:80".into()), Condition::Line("up: (a|b)".into())];
        for condition in Condition::PLAIN.into_iter().chain([probe]).chain(made) {
            assert_eq!(condition.to_string().parse(), Ok(condition));
        }
        assert!("service_reedy".parse::<Condition>().is_err());
        assert!("probe:".parse::<Condition>().is_err());
    }
}
