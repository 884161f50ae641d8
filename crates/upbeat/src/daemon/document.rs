//! The device document of this daemon.

use upbeat_api::{Problem, ProblemKind};
use upbeat_control::documents::{DocumentFile, Queued, Turn};
use upbeat_control::{Control, ControlError};
use upbeat_model::device::{Change, Changes, KeyChange, Standing, State};
use upbeat_model::{AppName, Operation, Origin};
use upbeat_server::Answer;

use super::refusals::problem;

/// So many apps are changed before the agent is shown what is wanted of them: the more, the less often all that is
/// wanted is gone through, and the later the first of them begin. A disk keeps so many in a second.
const BUNCH: usize = 64;

/// So many apps that were changed already are named.
const NAMED: usize = 10;

/// How all is held; `owner`: by which the engine's containers of this daemon are known.
pub(super) fn state(control: &Control, documents: &DocumentFile, owner: &str) -> State {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let kept = documents.kept();
    let (keys, queued) = (kept.keys.clone(), kept.queued.as_ref().map(Queued::shown));
    State { name, uuid: owner.to_owned(), keys, apps: control.held(), queued }
}

/// Whether changes were worked out from how all is held. Whoever asks has their turn: no other document comes between.
pub(super) fn suits(changes: &Changes, state: &State) -> Answer<()> {
    if changes.from.suits(state) {
        return Ok(());
    }
    let text = "what the document speaks of was changed meanwhile";
    Err(Problem::new(ProblemKind::Conflict, text)
        .with_hint("nothing was changed; ask again, and it is worked out from how it is by then"))
}

/// Keys come before what needs them. Errors: they are others than those this was worked out from; they cannot be kept.
pub(super) async fn set_keys(turn: &Turn<'_>, change: KeyChange) -> Answer<()> {
    if !turn.suits(&change) {
        let text = "the keys of registries were changed meanwhile";
        return Err(Problem::new(ProblemKind::Conflict, text)
            .with_hint("nothing was changed; ask again, and it is worked out from how it is by then"));
    }
    turn.set_keys(change.to).await.map_err(|error| not_kept(&error))
}

/// The keys of a document are in force, and its apps could not be changed.
pub(super) fn after_keys(problem: Problem) -> Problem {
    let message = format!("{}; its keys of registries are in force already", problem.message);
    Problem { message, ..problem }.with_hint("send it again: what was changed already is left as it is then")
}

pub(super) fn not_kept(error: &std::io::Error) -> Problem {
    Problem::new(ProblemKind::Unavailable, format!("the document could not be stored: {error}"))
        .with_hint("nothing was changed; make room on the disk that holds the daemon's state")
}

/// Makes changes that were judged. One that cannot be made all the same, as the disk is full or somebody else was
/// first, ends that; what was begun before goes on, and is named.
pub(super) async fn seek(
    control: &Control,
    changes: Vec<Change>,
    origin: impl Fn(&AppName) -> Origin,
) -> Answer<Vec<Operation>> {
    let mut begun: Vec<Operation> = Vec::new();
    let mut bunch = control.bunch();
    for (place, change) in changes.into_iter().enumerate() {
        if place > 0 && place % BUNCH == 0 {
            drop(bunch);
            bunch = control.bunch();
        }
        let app = change.app.clone();
        match bunch.seek(change, origin(&app)).await {
            Ok(operation) => begun.push(operation),
            Err(error) if begun.is_empty() => return Err(problem(&error)),
            Err(error) => return Err(halfway(&app, &begun, problem(&error))),
        }
    }
    Ok(begun)
}

/// Calls off what is sought of each app and was not reached. The operations, and the apps that go on.
pub(super) async fn stop_seeking(
    control: &Control,
    origin: &Origin,
) -> Answer<(Vec<Operation>, Vec<AppName>)> {
    let (mut begun, mut goes_on) = (Vec::new(), Vec::new());
    let held = control.held().into_iter();
    for (app, _) in held.filter(|(_, held)| held.standing != Standing::Done) {
        match control.halt(&app, origin.clone()).await {
            Ok(Some(operation)) => begun.push(operation),
            Ok(None) => goes_on.push(app),
            // It has gone by itself.
            Err(ControlError::NoSuchApp(_)) => {}
            Err(error) if begun.is_empty() => return Err(problem(&error)),
            Err(error) => return Err(halfway(&app, &begun, problem(&error))),
        }
    }
    Ok((begun, goes_on))
}

fn halfway(app: &AppName, begun: &[Operation], problem: Problem) -> Problem {
    let named: Vec<String> =
        begun.iter().take(NAMED).map(|operation| format!("`{}`", operation.app)).collect();
    let more = match begun.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let message = format!("{}; changed already: {}{more}", problem.message, named.join(", "));
    let hint = "send it again: what was changed already is left as it is then";
    of_app(app, Problem { message, ..problem }).with_hint(hint)
}

/// A problem that is one app's.
pub(super) fn of_app(app: &AppName, problem: Problem) -> Problem {
    Problem { message: format!("app `{app}`: {}", problem.message), ..problem }
}

#[cfg(test)]
mod tests {
    use upbeat_api::OperationId;
    use upbeat_model::Wall;

    use super::*;

    #[test]
    fn keys_that_are_in_force_are_said_when_apps_cannot_be_changed() {
        let full = Problem::new(ProblemKind::Unavailable, "the change could not be stored")
            .with_hint("nothing was changed; make room");
        let told = after_keys(full);
        assert_eq!(
            told.message,
            "the change could not be stored; its keys of registries are in force already"
        );
        assert!(!told.hint.unwrap().contains("nothing was changed"));
    }

    #[test]
    fn what_was_changed_before_a_change_that_failed_is_named() {
        let operation = |app: String| Operation {
            id: OperationId(1),
            app: AppName::new(app).unwrap(),
            what: String::new(),
            who: String::new(),
            at: Wall(0),
            slots: Default::default(),
            ended: false,
        };
        let begun: Vec<Operation> = (0..12).map(|n| operation(format!("a{n}"))).collect();
        let full = Problem::new(ProblemKind::Unavailable, "the change could not be stored");
        let told = halfway(&AppName::new("b").unwrap(), &begun, full);
        assert_eq!(told.kind, ProblemKind::Unavailable);
        assert!(
            told.message.starts_with("app `b`: the change could not be stored; changed already: `a0`, `a1`")
        );
        assert!(told.message.ends_with("`a9` and 2 more"), "{}", told.message);
    }
}
