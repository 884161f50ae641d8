//! What travels between a client and the daemon. Nouns of `model` travel as they are.

use serde::{Deserialize, Serialize};
use upbeat_model::{Diagnostic, Project, ServiceName, Wall};

/// `GET /api/v1/version`: who answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
pub struct Up {
    /// The project, resolved by the client.
    pub project: Project,
    /// Only these and what they need; empty: all.
    #[serde(default)]
    pub services: Vec<ServiceName>,
}

/// The body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// The kinds of problems; each has one status code and one exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// 400: the request itself is wrong.
    BadRequest,
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
