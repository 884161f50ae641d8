//! Handlers of the device document: a view of all apps, and a way to ask for all of them at once.
//!
//! Nothing is kept here. What is asked for is worked out from how apps are held now
//! ([`upbeat_model::device::changes`]), and refused by whoever keeps them where they are otherwise by then.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use futures_util::StreamExt;
use tokio::time::Instant;
use upbeat_api::{
    AppName, Asked, DeviceQuery, Endpoint, Need, OperationId, Problem, ProblemKind, SeekQuery, Wall,
};
use upbeat_model::Origin;
use upbeat_model::device::{
    self, Device, DeviceApp, DeviceChanged, KeyChange, Mistakes, Queued, Request, Said, Standing,
    State as Held, changes,
};

use crate::access;
use crate::backend::{Answer, Backend, BoxStream};
use crate::bounds::DEVICE_WAIT_MAX;
use crate::extract::{By, Json, Path, Query};
use crate::handlers::{Here, NoQuery, Reply, Shared, Streamed};
use crate::refusal::Refusal;
use crate::streams;

/// Below here no key is kept: a document that is sent again asks for what is there.
const BELOW: &str = "/api/v1/device";

pub(crate) async fn device<B: Backend>(
    State(here): Here<B>,
    Query(query): Query<DeviceQuery>,
) -> Reply<Device> {
    let held = settled(here, &query, device::standing).await?;
    Ok(axum::Json(device::device(&held, written)))
}

pub(crate) async fn app<B: Backend>(
    State(here): Here<B>,
    Path(app): Path<AppName>,
    Query(query): Query<DeviceQuery>,
) -> Reply<DeviceApp> {
    // What waits may be of this app.
    let waits = |held: &Held| held.queued.as_ref().is_some_and(Queued::waits);
    let of_app = |held: &Held| match held.apps.get(&app) {
        _ if waits(held) => Standing::Applying,
        held => held.map_or(Standing::Done, |app| app.standing),
    };
    let held = settled(here, &query, of_app).await?;
    let found = held.apps.get(&app).ok_or_else(|| no_app(&app))?;
    Ok(axum::Json(device::of_app(found, written)))
}

pub(crate) async fn watch<B: Backend>(State(here): Here<B>, _: Query<NoQuery>) -> Streamed {
    let states = here.backend.watch_device().await?;
    let states = states.map(|held| device::device(&held, written)).boxed();
    Ok(streams::states("device", states, here.closing))
}

pub(crate) async fn set<B: Backend>(
    here: Here<B>,
    by: By,
    query: Query<SeekQuery>,
    Json(Said(said)): Json<Said>,
) -> Streamed {
    seek(here, by, query, Endpoint::SetDevice, Request::Whole(said)).await
}

pub(crate) async fn merge<B: Backend>(
    here: Here<B>,
    by: By,
    query: Query<SeekQuery>,
    Json(Said(said)): Json<Said>,
) -> Streamed {
    seek(here, by, query, Endpoint::MergeDevice, Request::Merge(said)).await
}

pub(crate) async fn set_app<B: Backend>(
    here: Here<B>,
    by: By,
    Path(app): Path<AppName>,
    query: Query<SeekQuery>,
    Json(Said(said)): Json<Said>,
) -> Streamed {
    seek(here, by, query, Endpoint::SetDeviceApp, Request::WholeApp(app, said)).await
}

pub(crate) async fn merge_app<B: Backend>(
    here: Here<B>,
    by: By,
    Path(app): Path<AppName>,
    query: Query<SeekQuery>,
    Json(Said(said)): Json<Said>,
) -> Streamed {
    seek(here, by, query, Endpoint::MergeDeviceApp, Request::MergeApp(app, said)).await
}

pub(crate) async fn remove_app<B: Backend>(
    here: Here<B>,
    by: By,
    Path(app): Path<AppName>,
    query: Query<SeekQuery>,
) -> Streamed {
    if !here.backend.device().await?.apps.contains_key(&app) {
        return Err(no_app(&app).into());
    }
    seek(here, by, query, Endpoint::RemoveDeviceApp, Request::NoApp(app)).await
}

/// So many apps are named in a note.
const NAMED: usize = 10;

pub(crate) async fn stop<B: Backend>(State(here): Here<B>, by: By, _: Query<NoQuery>) -> Streamed {
    by.refuse_key(BELOW, "leave it out: what is called off already is not called off again")?;
    let asked = Asked {
        who: by.caller.who(),
        from: by.caller.from.map(|from| from.to_string()),
        method: Endpoint::StopSeeking.method().as_str().to_owned(),
        route: Endpoint::StopSeeking.path().to_owned(),
        app: None,
        what: "what is sought is called off".to_owned(),
    };
    let backend = here.backend.clone();
    let making = async move {
        let queued = backend.device().await?.queued;
        let (operations, goes_on) = backend.stop_seeking(by.origin).await?;
        let mut notes: Vec<String> = queued.as_ref().map(called_off).into_iter().collect();
        if !goes_on.is_empty() {
            let named: Vec<&str> = goes_on.iter().take(NAMED).map(AppName::as_str).collect();
            let more = goes_on.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            notes.push(format!("goes on to its end, as all of it has begun: {}{more}", named.join(", ")));
        }
        Ok(DeviceChanged { operations, notes, ..DeviceChanged::default() })
    };
    // What ends something must go on a full disk, too.
    let changed = access::recorded(here, asked, Need::Anyway, making, came_of).await?;
    Ok((status(&changed), axum::Json(changed)).into_response())
}

fn came_of(answer: &Answer<DeviceChanged>) -> (u16, Option<OperationId>) {
    match answer {
        Ok(changed) => (status(changed).as_u16(), changed.operations.first().map(|operation| operation.id)),
        Err(problem) => (problem.kind.status(), None),
    }
}

fn called_off(Queued { what, who, .. }: &Queued) -> String {
    format!("a document that was queued by {who} is called off: {what}")
}

/// Everything that is asked for is worked out and judged before the first of it is begun.
async fn seek<B: Backend>(
    State(here): Here<B>,
    by: By,
    Query(query): Query<SeekQuery>,
    endpoint: Endpoint,
    request: Request,
) -> Streamed {
    by.refuse_key(BELOW, "leave it out: who asks again for the same document asks for what is there")?;
    can_be_done(&query)?;
    let (app, what, need) = match &request {
        Request::Whole(_) => (None, "all of the device document".to_owned(), Need::Recorded),
        Request::Merge(_) => (None, "some of the device document".to_owned(), Need::Recorded),
        Request::WholeApp(app, _) => (Some(app.clone()), "all of the app".to_owned(), Need::Recorded),
        Request::MergeApp(app, _) => (Some(app.clone()), "some of the app".to_owned(), Need::Recorded),
        // What stops something must go on a full disk, too.
        Request::NoApp(app) => (Some(app.clone()), "down".to_owned(), Need::Anyway),
    };
    let asked = Asked {
        who: by.caller.who(),
        from: by.caller.from.map(|from| from.to_string()),
        method: endpoint.method().as_str().to_owned(),
        route: endpoint.path().to_owned(),
        app,
        what,
    };
    let making = sought(here.backend.clone(), request, query.cancel != Some(false), by.origin);
    let changed = access::recorded(here, asked, need, making, came_of).await?;
    Ok((status(&changed), axum::Json(changed)).into_response())
}

/// `at_once`: in the place of what is under way; else when that is settled, and at once where it is.
async fn sought<B: Backend>(
    backend: B,
    request: Request,
    at_once: bool,
    origin: Origin,
) -> Answer<DeviceChanged> {
    let held = backend.device().await?;
    let waits = !at_once && device::standing(&held) == Standing::Applying;
    let before = held.queued.clone().filter(Queued::waits);
    let base = backend.guide().surroundings().base_environment.clone();
    // A large document takes a moment to be read, in which others are answered.
    let working_out = move || {
        let worked_out = changes(&request, &held, &base);
        (request, worked_out)
    };
    let (request, worked_out) = tokio::task::spawn_blocking(working_out)
        .await
        .map_err(|error| Problem::new(ProblemKind::Internal, format!("the document: {error}")))?;
    let mut changes = worked_out.map_err(|mistakes| wrong(&mistakes))?;
    let mut notes = std::mem::take(&mut changes.notes);
    // This one is newer.
    notes.extend(before.as_ref().map(called_off));
    if waits {
        backend.queue(request, changes, origin).await?;
        return Ok(DeviceChanged { queued: true, notes, ..DeviceChanged::default() });
    }
    let keys = changes.keys.as_ref().map(KeyChange::registries).unwrap_or_default();
    let operations = backend.seek(changes, origin).await?;
    Ok(DeviceChanged { operations, keys: keys.into_iter().collect(), queued: false, notes })
}

fn status(changed: &DeviceChanged) -> StatusCode {
    match changed.operations.is_empty() && !changed.queued {
        true => StatusCode::OK,
        false => StatusCode::ACCEPTED,
    }
}

/// What we do not do is refused, and not passed over.
fn can_be_done(query: &SeekQuery) -> Result<(), Refusal> {
    if query.force == Some(true) {
        let message = "in the query: force: a document does not overrule update locks";
        return Err(Refusal::bad_request(message)
            .with_hint("leave it out, and restart what holds one by its name, which does not wait for it"));
    }
    Ok(())
}

fn wrong(mistakes: &Mistakes) -> Problem {
    let problem = Problem::new(ProblemKind::BadRequest, format!("nothing was changed: {mistakes}"));
    match mistakes.remedy() {
        Some(remedy) => problem.with_hint(remedy),
        None => problem,
    }
}

fn no_app(app: &AppName) -> Problem {
    Problem::new(ProblemKind::NotFound, format!("there is no app `{app}`"))
        .with_hint("`GET /api/v1/device` shows what there is")
}

fn written(at: Wall) -> String {
    jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().to_string()
}

/// Whoever waits looks no more often: each look is at all apps, and many may wait.
const PACE: Duration = Duration::from_millis(250);

/// How all is by then, once it has changed: whatever happens meanwhile is in it.
async fn paced<T>(states: &mut BoxStream<T>) -> Option<T> {
    tokio::time::sleep(PACE).await;
    states.next().await
}

/// How all is held now; or, where that is asked for, when nothing is on its way any more or the time is over.
async fn settled<B: Backend>(
    here: Shared<B>,
    query: &DeviceQuery,
    standing: impl Fn(&Held) -> Standing,
) -> Answer<Held> {
    let Some(wait) = &query.wait else { return here.backend.device().await };
    let until = Instant::now() + length(wait)?;
    let mut last = here.backend.device().await?;
    if standing(&last) != Standing::Applying {
        return Ok(last);
    }
    let mut states = here.backend.watch_device().await?;
    let mut closing = here.closing;
    loop {
        let next = tokio::select! {
            next = paced(&mut states) => next,
            () = tokio::time::sleep_until(until) => None,
            () = closing.closing() => None,
        };
        let Some(next) = next else { return Ok(last) };
        last = next;
        if standing(&last) != Standing::Applying {
            return Ok(last);
        }
    }
}

/// `60s`, or `60`.
fn length(text: &str) -> Answer<Duration> {
    let most = DEVICE_WAIT_MAX.as_secs();
    let seconds = text.strip_suffix('s').unwrap_or(text).parse::<u64>().ok();
    seconds.filter(|seconds| *seconds <= most).map(Duration::from_secs).ok_or_else(|| {
        let message = format!("in the query: wait: it is no number of seconds up to {most}, such as `60s`");
        Problem::new(ProblemKind::BadRequest, message).with_hint("follow `/api/v1/device/watch` for longer")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_looks_at_its_pace_however_much_happens() {
        let mut states: BoxStream<usize> = futures_util::stream::iter(0..3).boxed();
        let begun = Instant::now();
        for n in 0..3 {
            assert_eq!(paced(&mut states).await, Some(n));
        }
        assert_eq!(begun.elapsed(), PACE * 3);
        assert_eq!(paced(&mut states).await, None);
    }
}
