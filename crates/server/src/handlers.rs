//! One handler for each [`Endpoint`]: check the form, ask the backend, write down the answer.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use futures_util::StreamExt;
use upbeat_api::{
    Action, App, AppName, AppSummary, AuditQuery, AuditRecord, AuditVerdict, DownQuery, Endpoint, Event,
    EventsQuery, IssuedToken, Method, Need, NewToken, Operation, OperationId, Plan, PlanQuery, ServiceName,
    TokenInfo, TokenName, Up, Version, WatchEventsQuery, Why,
};

use crate::access::{self, Change};
use crate::backend::{Backend, LogQuery};
use crate::builds;
use crate::compat::guide;
use crate::device;
use crate::extract::{By, Json, Path, Query};
use crate::leftovers;
use crate::refusal::Refusal;
use crate::rollouts::handlers as rollouts;
use crate::rollouts::rooms::Rooms;
use crate::rollouts::units;
use crate::seeing;
use crate::streams::{self, Closing, OpenStreams};
use crate::webhooks;
use crate::{attach, exec};

/// The description of the API, as a test writes it from the types.
const OPENAPI: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json"));

/// What every handler has.
#[derive(Clone)]
pub(crate) struct Shared<B> {
    pub(crate) backend: B,
    pub(crate) closing: Closing,
    /// The names this door answers to.
    pub(crate) hosts: Arc<[String]>,
    /// Those of each token.
    pub(crate) streams: OpenStreams,
    /// For what is large.
    pub(crate) rooms: Rooms,
}

pub(crate) type Here<B> = State<Shared<B>>;
pub(crate) type Reply<T> = Result<axum::Json<T>, Refusal>;
pub(crate) type Streamed = Result<Response, Refusal>;

/// The handler of an endpoint, under its method.
pub(crate) fn handler<B: Backend>(endpoint: Endpoint) -> MethodRouter<Shared<B>> {
    let method = match endpoint.method() {
        Method::Delete => MethodFilter::DELETE,
        Method::Get => MethodFilter::GET,
        Method::Patch => MethodFilter::PATCH,
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
        Endpoint::Exec => on(method, exec::exec::<B>),
        Endpoint::Attach => on(method, attach::attach::<B>),
        Endpoint::Down => on(method, down::<B>),
        Endpoint::RemoveVolumes => on(method, leftovers::remove_volumes::<B>),
        Endpoint::RemoveNetworks => on(method, leftovers::remove_networks::<B>),
        Endpoint::Device => on(method, device::device::<B>),
        Endpoint::WatchDevice => on(method, device::watch::<B>),
        Endpoint::SetDevice => on(method, device::set::<B>),
        Endpoint::MergeDevice => on(method, device::merge::<B>),
        Endpoint::StopSeeking => on(method, device::stop::<B>),
        Endpoint::DeviceApp => on(method, device::app::<B>),
        Endpoint::SetDeviceApp => on(method, device::set_app::<B>),
        Endpoint::MergeDeviceApp => on(method, device::merge_app::<B>),
        Endpoint::RemoveDeviceApp => on(method, device::remove_app::<B>),
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
        Endpoint::Rollouts => on(method, rollouts::rollouts::<B>),
        Endpoint::Rollout => on(method, rollouts::rollout::<B>),
        Endpoint::WatchRollout => on(method, rollouts::watch::<B>),
        Endpoint::RolloutHistory => on(method, rollouts::history::<B>),
        Endpoint::RolloutTargets => on(method, rollouts::targets::<B>),
        Endpoint::ReportTargets => on(method, rollouts::report::<B>),
        Endpoint::ActOnRollout => on(method, rollouts::act::<B>),
        Endpoint::SetControllers => on(method, rollouts::set_controllers::<B>),
        Endpoint::ForgetRollout => on(method, rollouts::forget::<B>),
        Endpoint::RolloutUnits => on(method, units::units::<B>),
        Endpoint::RolloutUnit => on(method, units::unit::<B>),
        Endpoint::WatchRolloutUnit => on(method, units::watch::<B>),
        Endpoint::StartRolloutUnit => on(method, units::start::<B>),
        Endpoint::ActOnRolloutUnit => on(method, units::act::<B>),
        Endpoint::ForgetRolloutUnit => on(method, units::forget::<B>),
        Endpoint::Image => on(method, builds::image::<B>),
        Endpoint::BuildImage => on(method, builds::build::<B>),
        Endpoint::Webhooks => on(method, webhooks::webhooks::<B>),
        Endpoint::TestWebhook => on(method, webhooks::test::<B>),
        Endpoint::Tokens => on(method, tokens::<B>),
        Endpoint::CreateToken => on(method, create_token::<B>),
        Endpoint::RevokeToken => on(method, revoke_token::<B>),
        Endpoint::Audit => on(method, audit::<B>),
        Endpoint::VerifyAudit => on(method, verify_audit::<B>),
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
    Ok(axum::Json(guide::to_look_at(here.backend.app(app).await?)))
}

async fn watch_app<B: Backend>(
    State(here): Here<B>,
    Path(app): Path<AppName>,
    _: Query<NoQuery>,
) -> Streamed {
    let states = here.backend.watch(app).await?.map(guide::to_look_at).boxed();
    Ok(streams::states("app", states, here.closing))
}

async fn up<B: Backend>(
    State(here): Here<B>,
    by: By,
    Path(app): Path<AppName>,
    _: Query<NoQuery>,
    Json(up): Json<Up>,
) -> Reply<Operation> {
    check_name(&app, &up)?;
    let what = words("up", &up.services);
    let change = Change { endpoint: Endpoint::Up, app: Some(app.clone()), what, need: Need::Recorded };
    let backend = here.backend.clone();
    access::changed(here, by.caller, change, async move { backend.up(app, up, by.origin).await }).await
}

async fn plan<B: Backend>(
    State(here): Here<B>,
    Path(app): Path<AppName>,
    Query(query): Query<PlanQuery>,
    Json(up): Json<Up>,
) -> Reply<Plan> {
    check_name(&app, &up)?;
    Ok(axum::Json(here.backend.plan(app, up, query).await?))
}

async fn act<B: Backend>(
    State(here): Here<B>,
    by: By,
    Path(app): Path<AppName>,
    _: Query<NoQuery>,
    Json(action): Json<Action>,
) -> Reply<Operation> {
    let (what, need) = match &action {
        Action::Start { services } => (words("start", services), Need::Recorded),
        Action::Stop { services, kill: false } => (words("stop", services), Need::Anyway),
        Action::Stop { services, kill: true } => (words("kill", services), Need::Anyway),
        Action::Restart { services } => (words("restart", services), Need::Recorded),
        Action::Reload { services } => (words("reload", services), Need::Recorded),
        Action::Scale { services } => {
            let copies = services.iter().map(|(name, count)| format!("{name}={count}"));
            (words("scale", &copies.collect::<Vec<_>>()), Need::Recorded)
        }
    };
    let change = Change { endpoint: Endpoint::Act, app: Some(app.clone()), what, need };
    let backend = here.backend.clone();
    access::changed(here, by.caller, change, async move { backend.act(app, action, by.origin).await }).await
}

async fn down<B: Backend>(
    State(here): Here<B>,
    by: By,
    Path(app): Path<AppName>,
    Query(query): Query<DownQuery>,
) -> Reply<Operation> {
    let what = if query.kill { "down, at once" } else { "down" }.to_owned();
    let change = Change { endpoint: Endpoint::Down, app: Some(app.clone()), what, need: Need::Anyway };
    let backend = here.backend.clone();
    access::changed(here, by.caller, change, async move { backend.down(app, query.kill, by.origin).await })
        .await
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
    let (limit, after) = (page(query.limit)?, query.after);
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

async fn tokens<B: Backend>(State(here): Here<B>, _: Query<NoQuery>) -> Reply<Vec<TokenInfo>> {
    Ok(axum::Json(here.backend.tokens().await?))
}

async fn create_token<B: Backend>(
    State(here): Here<B>,
    by: By,
    _: Query<NoQuery>,
    Json(new): Json<NewToken>,
) -> Reply<IssuedToken> {
    let mut what = format!("create token {} ({})", new.name, new.role);
    if let Some(seconds) = new.expires_in_s {
        what.push_str(&format!(" for {seconds} s"));
    }
    let change = Change { endpoint: Endpoint::CreateToken, app: None, what, need: Need::Recorded };
    let backend = here.backend.clone();
    let making = async move { backend.create_token(new, by.origin.who).await };
    access::changed(here, by.caller, change, making).await
}

/// Recorded if that is possible: on a full disk, too, a token that leaked must be of no use any more.
async fn revoke_token<B: Backend>(
    State(here): Here<B>,
    by: By,
    Path(name): Path<TokenName>,
    _: Query<NoQuery>,
) -> Reply<()> {
    let what = format!("revoke token {name}");
    let change = Change { endpoint: Endpoint::RevokeToken, app: None, what, need: Need::Anyway };
    let backend = here.backend.clone();
    access::changed(here, by.caller, change, async move { backend.revoke_token(name).await }).await
}

async fn audit<B: Backend>(State(here): Here<B>, Query(query): Query<AuditQuery>) -> Reply<Vec<AuditRecord>> {
    let limit = page(query.limit)?;
    Ok(axum::Json(here.backend.audit(query, limit).await?))
}

async fn verify_audit<B: Backend>(State(here): Here<B>, _: Query<NoQuery>) -> Reply<AuditVerdict> {
    Ok(axum::Json(here.backend.verify_audit().await?))
}

/// The length of a page, where it is one.
pub(crate) fn page(limit: Option<usize>) -> Result<usize, Refusal> {
    let limit = limit.unwrap_or(EventsQuery::MAX_LIMIT);
    if limit > EventsQuery::MAX_LIMIT {
        let message = format!("in the query: limit: {limit} is more than {}", EventsQuery::MAX_LIMIT);
        return Err(Refusal::bad_request(message).with_hint("ask again, `after` the last one you have"));
    }
    Ok(limit)
}

/// Names that a record tells: a request may have thousands.
const NAMED: usize = 5;

/// `stop web db`, for the record of it.
fn words(verb: &str, names: &[impl std::fmt::Display]) -> String {
    let shown = names.iter().take(NAMED).map(|name| format!(" {name}")).collect::<String>();
    match names.len().saturating_sub(NAMED) {
        0 => format!("{verb}{shown}"),
        more => format!("{verb}{shown} and {more} more"),
    }
}
