//! What can go wrong with the guide's services, for people: what, where, and what to do.

use upbeat_api::{Problem, ProblemKind};
use upbeat_model::dag::DagError;

/// So many names of a list, or of a circle, are said.
const NAMES_MAX: usize = 20;

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServicesError {
    /// Services are not managed here.
    #[error("the service manager is disabled; set `manager_enabled = true` under `[orchestrator.services]`")]
    Disabled,
    /// Nobody has registered a service of this name.
    #[error("service `{}` is not registered; {}", shown(.name), hint(.near))]
    NotRegistered {
        /// Which.
        name: String,
        /// The most similar name, or nothing.
        near: Option<String>,
    },
    /// A service depends on names that are not registered.
    #[error("Missing dependencies of `{}`: {}; register them first, or take them out of its `dependencies`", shown(.of), list(.missing))]
    Missing {
        /// Which.
        of: String,
        /// On what.
        missing: Vec<String>,
    },
    /// What was registered of a service is kept, and cannot be read.
    #[error(
        "the registration of service `{}` cannot be read ({why}); register it again, or stop and unregister it",
        shown(.name)
    )]
    Unreadable {
        /// Which.
        name: String,
        /// Why.
        why: String,
    },
    /// Services depend on each other in a circle.
    #[error("Circular dependency detected: {}; take one of these dependencies out", circle(.0))]
    Circular(Vec<String>),
    /// A service cannot be run as it is declared.
    #[error("service `{}` cannot be run: {why}", shown(.name))]
    Unusable {
        /// Which.
        name: String,
        /// Why, and what to do.
        why: String,
    },
    /// What a service needs does not run, and is not started along with it.
    #[error(
        "service `{}` was not started: what it needs does not run: {}; start that first, or set \
         `auto_start_dependencies = true`", shown(.name), list(.down)
    )]
    DependenciesNotRunning {
        /// Which.
        name: String,
        /// What it needs, in the order in which to start it.
        down: Vec<String>,
    },
    /// It was not started, because something it needs could not be.
    #[error("service `{}` was not started: it needs `{}`, which failed: {why}", shown(.name), shown(.dependency))]
    DependencyFailed {
        /// Which.
        name: String,
        /// What it needs.
        dependency: String,
        /// How that failed.
        why: String,
    },
    /// It could not be started.
    #[error("service `{}` failed to start: {why}", shown(.name))]
    StartFailed {
        /// Which.
        name: String,
        /// How.
        why: String,
    },
    /// It could not be stopped.
    #[error("service `{}` could not be stopped: {why}", shown(.name))]
    StopFailed {
        /// Which.
        name: String,
        /// How.
        why: String,
    },
    /// Nobody could be asked whether it runs.
    #[error(
        "it is not known whether service `{}` runs elsewhere: {why}; nothing is done about it before that \
         is known: ask again", shown(.name)
    )]
    Unasked {
        /// Which.
        name: String,
        /// Why.
        why: String,
    },
    /// What it prints is not read here.
    #[error(
        "service `{}` runs elsewhere, and so does its log: look where `{start_command}` has it run; under \
         systemd with `journalctl -u`", shown(.name)
    )]
    LogElsewhere {
        /// Which.
        name: String,
        /// What starts it.
        start_command: String,
    },
    /// A service without which nobody may be: others depend on it.
    #[error("service `{}` is needed by {}; unregister those first", shown(.name), list(.by))]
    Needed {
        /// Which.
        name: String,
        /// By whom.
        by: Vec<String>,
    },
    /// Upbeat itself could not do it.
    #[error("{}", .0.hint.as_ref().map_or_else(|| .0.message.clone(), |hint| format!("{}; {hint}", .0.message)))]
    Upbeat(Problem),
}

impl ServicesError {
    /// The status code of HTTP for it.
    pub(crate) fn status(&self) -> u16 {
        let kind = match self {
            Self::NotRegistered { .. } => ProblemKind::NotFound,
            Self::Missing { .. } | Self::Circular(_) | Self::Unusable { .. } => ProblemKind::BadRequest,
            Self::DependenciesNotRunning { .. }
            | Self::DependencyFailed { .. }
            | Self::StartFailed { .. }
            | Self::StopFailed { .. }
            | Self::LogElsewhere { .. }
            | Self::Needed { .. } => ProblemKind::Conflict,
            Self::Unreadable { .. } => ProblemKind::Internal,
            Self::Disabled | Self::Unasked { .. } => ProblemKind::Unavailable,
            Self::Upbeat(problem) => problem.kind,
        };
        kind.status()
    }
}

impl From<Problem> for ServicesError {
    fn from(problem: Problem) -> Self {
        Self::Upbeat(problem)
    }
}

impl From<DagError<String>> for ServicesError {
    fn from(error: DagError<String>) -> Self {
        match error {
            DagError::Missing { of, missing } => Self::Missing { of, missing },
            DagError::SelfDependency(name) => Self::Circular(vec![name.clone(), name]),
            DagError::Cycle(path) => Self::Circular(path),
            DagError::Unknown(names) => {
                Self::NotRegistered { name: names.into_iter().next().unwrap_or_default(), near: None }
            }
        }
    }
}

/// A name may be anything: of one that is too long the beginning, and nothing that moves a cursor.
pub(super) fn shown(name: &str) -> String {
    let mut shown: String =
        name.chars().take(upbeat_model::ids::NAME_MAX).flat_map(char::escape_debug).collect();
    if name.chars().nth(upbeat_model::ids::NAME_MAX).is_some() {
        shown.push('…');
    }
    shown
}

fn hint(near: &Option<String>) -> String {
    match near {
        Some(near) => format!("did you mean `{}`?", shown(near)),
        None => "register it first".to_owned(),
    }
}

fn list(names: &[String]) -> String {
    let mut texts: Vec<String> =
        names.iter().take(NAMES_MAX).map(|name| format!("`{}`", shown(name))).collect();
    if names.len() > NAMES_MAX {
        texts.push(format!("and {} more", names.len() - NAMES_MAX));
    }
    texts.join(", ")
}

/// `a -> c -> b -> a`; a long one is cut in the middle.
fn circle(path: &[String]) -> String {
    let half = NAMES_MAX / 2;
    let names = |path: &[String]| path.iter().map(|name| shown(name)).collect::<Vec<_>>().join(" -> ");
    match path.len() > NAMES_MAX {
        false => names(path),
        true => format!(
            "{} -> … {} more … -> {}",
            names(&path[..half]),
            path.len() - NAMES_MAX,
            names(&path[path.len() - half..])
        ),
    }
}
