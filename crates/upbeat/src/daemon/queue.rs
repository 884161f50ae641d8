//! Who looks whether the turn of a queued device document has come, and begins it.

use std::time::Duration;

use upbeat_api::{Problem, ProblemKind};
use upbeat_control::documents::Queued;
use upbeat_model::device::{self, Standing, changes};
use upbeat_model::{AppName, Origin};

use super::backend::LocalBackend;

/// What could not be begun for now, as the disk is full or an app was changed at this moment, is tried again after so
/// long. It is what control waits for its store.
const AGAIN: Duration = Duration::from_secs(1);

/// Goes on for as long as its task.
pub(super) async fn begin_when_due(backend: LocalBackend) {
    let (mut apps, mut kept) = (backend.control.changes(), backend.documents.watch());
    // What was told before this daemon says nothing of what is settled.
    backend.looked().await;
    loop {
        kept.mark_unchanged();
        apps.mark_unchanged();
        if let Err(problem) = begin(&backend).await {
            tracing::warn!(problem = %problem.message, "a queued document cannot be begun yet");
            tokio::time::sleep(AGAIN).await;
            continue;
        }
        let told = tokio::select! {
            told = kept.changed() => told.is_ok(),
            told = apps.changed() => told.is_ok(),
        };
        if !told {
            return;
        }
    }
}

/// Errors: it is to be tried again.
async fn begin(backend: &LocalBackend) -> Result<(), Problem> {
    let waits = |queued: &Queued| queued.problem.is_none() && queued.request.is_some();
    // Without a turn: nobody waits for nothing.
    if !backend.documents.kept().queued.as_ref().is_some_and(waits) {
        return Ok(());
    }
    let turn = backend.documents.turn().await;
    let Some(queued) = backend.documents.kept().queued.clone().filter(waits) else { return Ok(()) };
    let held = backend.state();
    if device::settled(&held) == Standing::Applying {
        return Ok(());
    }
    let Some(request) = queued.request.clone() else { return Ok(()) };
    let base = backend.base_environment();
    let worked_out = tokio::task::spawn_blocking(move || changes(&request, &held, &base)).await;
    let worked_out = match worked_out {
        Ok(worked_out) => {
            worked_out.map_err(|mistakes| Problem::new(ProblemKind::BadRequest, mistakes.to_string()))
        }
        // It would stumble over the same the next time.
        Err(error) => Err(Problem::new(ProblemKind::Internal, format!("it cannot be worked out: {error}"))),
    };
    let origin = |app: &AppName| Origin { who: queued.who.clone(), key: queued.key(app) };
    let begun = match worked_out {
        Ok(changes) => backend.seek_in_turn(&turn, changes, origin).await.map(drop),
        Err(problem) => Err(problem),
    };
    let left = match begun {
        Ok(()) => None,
        Err(problem) if passes(problem.kind) => return Err(problem),
        Err(problem) => Some(queued.failed(problem.message)),
    };
    turn.set_queued(left).await.map_err(|error| super::document::not_kept(&error))?;
    backend.control.touch();
    Ok(())
}

/// It may be well the next time.
fn passes(kind: ProblemKind) -> bool {
    matches!(kind, ProblemKind::Unavailable | ProblemKind::Conflict)
}
