//! What travels between a client and the daemon. Nouns of `model` travel as they are.
//!
//! Laws: a request with a key it does not know is refused, never half understood. Every stream
//! ends with an explicit [`End`], so that a client can tell a source that is done from a daemon
//! that died.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use upbeat_model::project::container::ImageRef;
use upbeat_model::{
    AppName, BuildWord, Diagnostic, EventFilter, EventWord, LogLine, Project, Role, ServiceName, TokenInfo,
    TokenName, Wall,
};

/// `GET /api/v1/version`: who answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Version {
    /// The daemon's version.
    pub version: String,
    /// Its process id.
    pub pid: i32,
    /// When it was started.
    pub started_at: Wall,
}

/// `PUT /api/v1/apps/{app}`: make this project run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Up {
    /// The project, resolved by the client.
    pub project: Project,
    /// Only these and what they need; empty: all.
    #[serde(default)]
    pub services: Vec<ServiceName>,
    /// In spite of update locks: what holds one is interrupted all the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

impl Up {
    /// The largest body of a request: a project of 1,000 services takes 1 MiB, one with very long
    /// environments some more. Each is held in memory once, while it is read.
    pub const MAX_BYTES: usize = 16 << 20;
}

/// The body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Problem {
    /// Which kind, for programs: `not_found`, `bad_request`, `conflict`, `unavailable`, `internal`.
    pub kind: ProblemKind,
    /// What happened and where, for people.
    pub message: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Errors in a submitted project.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<Diagnostic>,
}

impl Problem {
    /// A problem of this kind, said in a sentence without a full stop.
    pub fn new(kind: ProblemKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, diagnostics: Vec::new() }
    }

    /// With what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// The kinds of problems; each has one status code and one exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub enum ProblemKind {
    /// 400: the request itself is wrong.
    BadRequest,
    /// 401: nobody knows who asks.
    Unauthorized,
    /// 403: not for this caller.
    Forbidden,
    /// 404: no such app, service or operation.
    NotFound,
    /// 409: somebody else was first.
    Conflict,
    /// 503: not now (store full, shutting down).
    Unavailable,
    /// 500: a bug.
    Internal,
}

impl ProblemKind {
    /// The HTTP status code of a problem of this kind.
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Internal => 500,
            Self::Unavailable => 503,
        }
    }
}

/// The query of `GET /api/v1/device`, and of its apps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct DeviceQuery {
    /// Answer when nothing is on its way any more, and at the latest after so many seconds: `60s`. At most 600.
    pub wait: Option<String>,
}

/// The query of what changes `/api/v1/device`, and its apps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct SeekQuery {
    /// In the place of what is under way: `true`, and so where nothing is said. `false`: once that is settled; of what
    /// waits the newest counts.
    pub cancel: Option<bool>,
    /// In spite of update locks: `true` is refused. What is restarted by its name does not wait for its lock.
    pub force: Option<bool>,
}

/// The query of `POST /api/v1/apps/{app}/plan`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct PlanQuery {
    /// Holds the plan against every rule that plans have to keep; one that breaks one is refused.
    pub lint: bool,
}

/// The query of `DELETE /api/v1/apps/{app}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct DownQuery {
    /// Without the grace period.
    pub kill: bool,
}

/// `DELETE /api/v1/apps/{app}/volumes`: what is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct RemovedVolumes {
    /// What they were called in the engine.
    pub volumes: Vec<String>,
}

/// `DELETE /api/v1/apps/{app}/networks`: what is gone, and what is not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct RemovedNetworks {
    /// What they were called in the engine.
    pub networks: Vec<String>,
    /// Those that stay, as somebody else's container is in them, each with one of these.
    pub in_use: BTreeMap<String, String>,
}

/// The query of `GET /api/v1/events`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct EventsQuery {
    /// Only of this app.
    pub app: Option<AppName>,
    /// Only of rollouts in this namespace.
    pub namespace: Option<String>,
    /// Only of the rollouts of entities of this name.
    pub entity: Option<String>,
    /// Only with a greater sequence number.
    pub after: u64,
    /// Only of these services, by commas.
    #[serde(rename = "service", with = "comma_separated")]
    #[cfg_attr(feature = "openapi", schemars(with = "Option<String>"))]
    pub services: Vec<ServiceName>,
    /// Only of these kinds, by commas: the words of `event`.
    #[serde(rename = "kind", with = "comma_separated")]
    #[cfg_attr(feature = "openapi", schemars(with = "Option<String>"))]
    pub kinds: Vec<EventWord>,
    /// Not before, in milliseconds since the Unix epoch.
    pub since: Option<Wall>,
    /// Not after, in milliseconds since the Unix epoch.
    pub until: Option<Wall>,
    /// At most so many; [`EventsQuery::MAX_LIMIT`] at most, and where absent.
    pub limit: Option<usize>,
}

impl EventsQuery {
    /// The longest page: about 1 MiB of JSON, a moment's work for both sides.
    pub const MAX_LIMIT: usize = 1_000;

    /// Which ones.
    pub fn filter(self) -> EventFilter {
        let Self { app, namespace, entity, services, kinds, since, until, .. } = self;
        EventFilter { app, namespace, entity, services, kinds, since, until }
    }
}

/// The query of `GET /api/v1/events/watch`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct WatchEventsQuery {
    /// Only of this app.
    pub app: Option<AppName>,
    /// Only of rollouts in this namespace.
    pub namespace: Option<String>,
    /// Only of the rollouts of entities of this name.
    pub entity: Option<String>,
    /// Only with a greater sequence number. A `Last-Event-ID` header comes first.
    pub after: u64,
    /// Only of these services, by commas.
    #[serde(rename = "service", with = "comma_separated")]
    #[cfg_attr(feature = "openapi", schemars(with = "Option<String>"))]
    pub services: Vec<ServiceName>,
    /// Only of these kinds, by commas: the words of `event`.
    #[serde(rename = "kind", with = "comma_separated")]
    #[cfg_attr(feature = "openapi", schemars(with = "Option<String>"))]
    pub kinds: Vec<EventWord>,
    /// Not before, in milliseconds since the Unix epoch.
    pub since: Option<Wall>,
}

impl WatchEventsQuery {
    /// Which ones.
    pub fn filter(self) -> EventFilter {
        let Self { app, namespace, entity, services, kinds, since, .. } = self;
        EventFilter { app, namespace, entity, services, kinds, since, until: None }
    }
}

/// Which lines of output are asked for: the query of `GET /api/v1/apps/{app}/logs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct LogQuery {
    /// Of these services; empty: all.
    #[serde(rename = "service", with = "comma_separated")]
    #[cfg_attr(feature = "openapi", schemars(with = "Option<String>"))]
    pub services: Vec<ServiceName>,
    /// Only the last so many lines of each slot.
    pub tail: Option<u64>,
    /// Go on with new lines as they come.
    pub follow: bool,
}

/// `a,b` in a query. No name contains a comma.
mod comma_separated {
    use std::fmt::Display;
    use std::str::FromStr;

    use super::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<T: Display, S: Serializer>(words: &[T], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::joined(words))
    }

    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<Vec<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = String::deserialize(from)?;
        text.split(',').map(|word| word.parse().map_err(serde::de::Error::custom)).collect()
    }
}

/// `a,b`.
pub(crate) fn joined(words: &[impl std::fmt::Display]) -> String {
    words.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// `POST /api/v1/tokens`: make a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct NewToken {
    /// Its name.
    pub name: TokenName,
    /// What it allows.
    pub role: Role,
    /// How long it lives, in seconds; without, until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
}

/// A token that was just made.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct IssuedToken {
    /// The token. It is kept nowhere and told by nothing else.
    pub token: String,
    /// What is known of it from now on.
    pub info: TokenInfo,
}

/// Without the token.
impl std::fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedToken").field("info", &self.info).finish_non_exhaustive()
    }
}

/// The query of `GET /api/v1/audit`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct AuditQuery {
    /// Only with a greater sequence number.
    pub after: u64,
    /// Only from this moment on, in milliseconds since the Unix epoch.
    pub since: Option<Wall>,
    /// At most so many; [`EventsQuery::MAX_LIMIT`] at most, and where absent.
    pub limit: Option<usize>,
}

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub enum EndReason {
    /// There is nothing more to say: the app is gone, the operation has ended, all lines are told.
    Complete,
    /// The daemon is about to end. What it watched goes on; ask its successor.
    ShuttingDown,
    /// There may be more, and it cannot be told: the problem says why.
    Failed,
}

/// The last thing a stream says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct End {
    /// Why there is no more.
    pub end: EndReason,
    /// What has failed, where something has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

impl From<EndReason> for End {
    fn from(end: EndReason) -> Self {
        Self { end, problem: None }
    }
}

impl From<Problem> for End {
    fn from(problem: Problem) -> Self {
        Self { end: EndReason::Failed, problem: Some(problem) }
    }
}

/// The query of `GET /api/v1/images`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct ImageQuery {
    /// Its name, with a tag or without.
    pub name: ImageRef,
}

/// What the body of `POST /api/v1/images/build` is: one line of JSON, an [`upbeat_model::ImageBuild`], and behind it
/// the tar of the context, which has no length that is known beforehand.
pub const BUILD_TYPE: &str = "application/vnd.upbeat.build";

/// The longest first line of it: a build with very many arguments.
pub const BUILD_LINE_MAX: usize = 1 << 20;

/// One line of `application/x-ndjson` about a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub enum BuildRecord {
    /// What is told of it.
    Word(BuildWord),
    /// The last record.
    End(End),
}

/// One line of `application/x-ndjson`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub enum LogRecord {
    /// A line of output.
    Line(LogLine),
    /// The last record.
    End(End),
}
