//! One handler for each [`Endpoint`]: check the form, ask the backend, write down the answer.

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use upbeat_api::{
    Action, App, AppName, AppSummary, DownQuery, Endpoint, Event, EventsQuery, Method, Operation,
    OperationId, Plan, Problem, ProblemKind, ServiceName, Up, Version, WatchEventsQuery, Why,
};

use crate::backend::{Backend, LogQuery};
use crate::extract::{By, Json, Path, Query};
use crate::refusal::Refusal;
use crate::seeing;
use crate::streams::{self, Closing};

/// The description of the API, as a test writes it from the types.
const OPENAPI: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json"));

/// What every handler has.
#[derive(Clone)]
pub(crate) struct Shared<B> {
    pub(crate) backend: B,
    pub(crate) closing: Closing,
}

pub(crate) type Here<B> = State<Shared<B>>;
pub(crate) type Reply<T> = Result<axum::Json<T>, Refusal>;
pub(crate) type Streamed = Result<Response, Refusal>;

/// The handler of an endpoint, under its method.
pub(crate) fn handler<B: Backend>(endpoint: Endpoint) -> MethodRouter<Shared<B>> {
    let method = match endpoint.method() {
        Method::Delete => MethodFilter::DELETE,
        Method::Get => MethodFilter::GET,
        Method::Post => MethodFilter::POST,
        Method::Put => MethodFilter::PUT,
    };
    match endpoint {
        Endpoint::Version => on(method, version::<B>),
        Endpoint::OpenApi => on(method, openapi),
        Endpoint::Apps => on(method, apps::<B>),
        Endpoint::App => on(method, app::<B>),
        Endpoint::WatchApp => on(method, watch_app::<B>),
        Endpoint::Up => on(method, up::<B>),
        Endpoint::Plan => on(method, plan::<B>),
        Endpoint::Act => on(method, act::<B>),
        Endpoint::Down => on(method, down::<B>),
        Endpoint::Operation => on(method, operation::<B>),
        Endpoint::WatchOperation => on(method, watch_operation::<B>),
        Endpoint::Why => on(method, why::<B>),
        Endpoint::Events => on(method, events::<B>),
        Endpoint::WatchEvents => on(method, watch_events::<B>),
        Endpoint::Stats => on(method, seeing::stats::<B>),
        Endpoint::WatchStats => on(method, seeing::watch_stats::<B>),
        Endpoint::Starts => on(method, seeing::starts::<B>),
        Endpoint::Metrics => on(method, seeing::metrics::<B>),
        Endpoint::Logs => on(method, logs::<B>),
    }
}

/// Every query is strict, also that of an endpoint that has none.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoQuery {}

async fn version<B: Backend>(State(here): Here<B>, _: Query<NoQuery>) -> axum::Json<Version> {
    axum::Json(here.backend.version())
}

async fn openapi(_: Query<NoQuery>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn apps<B: Backend>(State(here): Here<B>, _: Query<NoQuery>) -> Reply<Vec<AppSummary>> {
    Ok(axum::Json(here.backend.apps().await?))
}

async fn app<B: Backend>(State(here): Here<B>, Path(app): Path<AppName>, _: Query<NoQuery>) -> Reply<App> {
    Ok(axum::Json(here.backend.app(app).await?))
}

async fn watch_app<B: Backend>(
    State(here): Here<B>,
    Path(app): Path<AppName>,
    _: Query<NoQuery>,
) -> Streamed {
    Ok(streams::states("app", here.backend.watch(app).await?, here.closing))
}

async fn up<B: Backend>(
    State(here): Here<B>,
    By(origin): By,
    Path(app): Path<AppName>,
    _: Query<NoQuery>,
    Json(up): Json<Up>,
) -> Reply<Operation> {
    check_name(&app, &up)?;
    to_its_end(async move { here.backend.up(app, up, origin).await }).await
}

async fn plan<B: Backend>(
    State(here): Here<B>,
    Path(app): Path<AppName>,
    _: Query<NoQuery>,
    Json(up): Json<Up>,
) -> Reply<Plan> {
    check_name(&app, &up)?;
    Ok(axum::Json(here.backend.plan(app, up).await?))
}

async fn act<B: Backend>(
    State(here): Here<B>,
    By(origin): By,
    Path(app): Path<AppName>,
    _: Query<NoQuery>,
    Json(action): Json<Action>,
) -> Reply<Operation> {
    to_its_end(async move { here.backend.act(app, action, origin).await }).await
}

async fn down<B: Backend>(
    State(here): Here<B>,
    By(origin): By,
    Path(app): Path<AppName>,
    Query(query): Query<DownQuery>,
) -> Reply<Operation> {
    to_its_end(async move { here.backend.down(app, query.kill, origin).await }).await
}

async fn operation<B: Backend>(
    State(here): Here<B>,
    Path(id): Path<OperationId>,
    _: Query<NoQuery>,
) -> Reply<Operation> {
    Ok(axum::Json(here.backend.operation(id).await?))
}

async fn watch_operation<B: Backend>(
    State(here): Here<B>,
    Path(id): Path<OperationId>,
    _: Query<NoQuery>,
) -> Streamed {
    Ok(streams::states("operation", here.backend.watch_operation(id).await?, here.closing))
}

async fn why<B: Backend>(
    State(here): Here<B>,
    Path((app, service)): Path<(AppName, ServiceName)>,
    _: Query<NoQuery>,
) -> Reply<Why> {
    Ok(axum::Json(here.backend.why(app, service).await?))
}

async fn events<B: Backend>(State(here): Here<B>, Query(query): Query<EventsQuery>) -> Reply<Vec<Event>> {
    let limit = query.limit.unwrap_or(EventsQuery::MAX_LIMIT);
    if limit > EventsQuery::MAX_LIMIT {
        let message = format!("in the query: limit: {limit} is more than {}", EventsQuery::MAX_LIMIT);
        return Err(Refusal::bad_request(message).with_hint("ask again, `after` the last one you have"));
    }
    let after = query.after;
    Ok(axum::Json(here.backend.events(query.filter(), after, limit).await?))
}

async fn watch_events<B: Backend>(
    State(here): Here<B>,
    Query(query): Query<WatchEventsQuery>,
    headers: HeaderMap,
) -> Streamed {
    let after =
        match headers.get("last-event-id") {
            None => query.after,
            Some(seen) => seen.to_str().ok().and_then(|seen| seen.parse().ok()).ok_or_else(|| {
                Refusal::bad_request("`Last-Event-ID` is not the sequence number of an event")
            })?,
        };
    Ok(streams::events(here.backend.watch_events(query.filter(), after).await?, here.closing))
}

async fn logs<B: Backend>(
    State(here): Here<B>,
    Path(app): Path<AppName>,
    Query(query): Query<LogQuery>,
) -> Streamed {
    Ok(streams::lines(here.backend.logs(app, query).await?, here.closing))
}

fn check_name(app: &AppName, up: &Up) -> Result<(), Refusal> {
    if *app == up.project.name {
        return Ok(());
    }
    let message = format!("the path says app `{app}`, but the project is called `{}`", up.project.name);
    Err(Refusal::bad_request(message).with_hint("use one name in both"))
}

/// A change is made whole, also when the one who asked for it does not wait for the answer.
async fn to_its_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Reply<T> {
    match tokio::spawn(change).await {
        Ok(answer) => Ok(axum::Json(answer?)),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Problem::new(ProblemKind::Unavailable, "the daemon is shutting down").into()),
    }
}
