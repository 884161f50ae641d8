//! The guide's paths: its own two, and those in its style that it lacks.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use upbeat_api::{AppName, Asked, Need, Origin, Role};

use super::APP;
use super::conduct::{Conductor, LOG_LINES_MAX};
use super::error::{self, ServicesError};
use super::service::Service;
use crate::access;
use crate::backend::Backend;
use crate::extract::{By, Json, Path, Query, in_words, without_value};
use crate::handlers::Shared;
use crate::refusal::Refusal;
use crate::router::guarded;

/// A log is shown from so many lines before its end, where nothing is said.
const LOG_LINES: u64 = 100;

/// So many services may be registered at once; as many as a machine has places.
const REGISTERED_MAX: usize = upbeat_model::file::SLOTS_MAX as usize;

type Here<B> = State<Shared<B>>;

/// Everything under `/api/v1/services`, and the least somebody has to be to ask it.
pub(crate) fn routes<B: Backend>() -> [(&'static str, Role, MethodRouter<Shared<B>>); 13] {
    use Role::{Operator, Viewer};
    [
        ("/api/v1/services/list", Viewer, get(list::<B>)),
        ("/api/v1/services/status", Viewer, get(statuses::<B>)),
        ("/api/v1/services/health", Viewer, get(healths::<B>)),
        ("/api/v1/services/order", Viewer, get(order::<B>)),
        (REGISTER, Operator, post(register::<B>)),
        (START_ALL, Operator, post(start_all::<B>)),
        (STOP_ALL, Operator, post(stop_all::<B>)),
        ("/api/v1/services/{name}/health", Viewer, get(health::<B>)),
        ("/api/v1/services/{name}/logs", Viewer, get(logs::<B>)),
        one(Verb::Start),
        one(Verb::Stop),
        one(Verb::Restart),
        one(Verb::Unregister),
    ]
}

const REGISTER: &str = "/api/v1/services/register";
const START_ALL: &str = "/api/v1/services/start";
const STOP_ALL: &str = "/api/v1/services/stop";
const START: &str = "/api/v1/services/{name}/start";
const STOP: &str = "/api/v1/services/{name}/stop";
const RESTART: &str = "/api/v1/services/{name}/restart";
const UNREGISTER: &str = "/api/v1/services/{name}/unregister";

/// All routes on a router.
pub(crate) fn onto<B: Backend>(router: Router<Shared<B>>, here: &Shared<B>) -> Router<Shared<B>> {
    let onto = |router, (path, role, handler)| guarded(router, here, path, role, handler);
    routes::<B>().into_iter().fold(router, onto)
}

/// Whether all answers of a path are in the guide's shape.
pub(crate) fn is_its(path: &str) -> bool {
    let rest = path.strip_prefix("/api/v1/services");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What no route of the guide answers, in its shape.
pub(crate) fn refused(refusal: Refusal) -> Response {
    Failure::from(refusal).into_response()
}

/// Not done, in the guide's shape.
struct Failure {
    status: StatusCode,
    error: String,
}

impl From<ServicesError> for Failure {
    fn from(error: ServicesError) -> Self {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, error: error.to_string() }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let (status, problem) = refusal.into_parts();
        Self { status, error: ServicesError::Upbeat(problem).to_string() }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        /// In this order, as answers that are a success.
        #[derive(Serialize)]
        struct Envelope {
            success: bool,
            error: String,
        }
        (self.status, axum::Json(Envelope { success: false, error: self.error })).into_response()
    }
}

type Reply = Result<Response, Failure>;

/// What came of reading a part of a request.
type Read<T> = Result<T, Refusal>;

fn data(data: impl Serialize) -> Reply {
    /// In this order, as the guide has it.
    #[derive(Serialize)]
    struct Envelope<T> {
        success: bool,
        data: T,
    }
    Ok(axum::Json(Envelope { success: true, data }).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoQuery {}

async fn list<B: Backend>(State(here): Here<B>, query: Read<Query<NoQuery>>) -> Reply {
    query?;
    let registry = Conductor::new(here.backend).registry().await?;
    data(registry.iter().map(|service| service.to_look_at()).collect::<Vec<Service>>())
}

async fn statuses<B: Backend>(State(here): Here<B>, query: Read<Query<NoQuery>>) -> Reply {
    #[derive(Serialize)]
    struct Line {
        name: String,
        status: super::ServiceStatus,
    }
    query?;
    let conductor = Conductor::new(here.backend);
    let registry = conductor.registry().await?;
    let statuses = conductor.statuses(&registry).await?;
    data(statuses.into_iter().map(|(name, status)| Line { name, status }).collect::<Vec<_>>())
}

async fn healths<B: Backend>(State(here): Here<B>, query: Read<Query<NoQuery>>) -> Reply {
    #[derive(Serialize)]
    struct Line {
        name: String,
        #[serde(flatten)]
        health: super::ServiceHealth,
    }
    query?;
    let conductor = Conductor::new(here.backend);
    let registry = conductor.registry().await?;
    let healths = conductor.healths(&registry).await?;
    data(healths.into_iter().map(|(name, health)| Line { name, health }).collect::<Vec<_>>())
}

async fn health<B: Backend>(
    State(here): Here<B>,
    name: Read<Path<String>>,
    query: Read<Query<NoQuery>>,
) -> Reply {
    query?;
    let conductor = Conductor::new(here.backend);
    let registry = conductor.registry().await?;
    data(conductor.health(&registry, &name?.0).await?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OrderQuery {
    /// By commas; all where nothing is said.
    services: Option<String>,
}

async fn order<B: Backend>(State(here): Here<B>, query: Read<Query<OrderQuery>>) -> Reply {
    let services = query?.0.services;
    let conductor = Conductor::new(here.backend);
    let registry = conductor.registry().await?;
    let wanted: Vec<String> = match services {
        Some(services) => services.split(',').map(str::to_owned).collect(),
        None => registry.iter().map(|service| service.name.clone()).collect(),
    };
    data(&*conductor.guide().resolver().resolve(&registry, &wanted)?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogsQuery {
    tail: Option<u64>,
}

async fn logs<B: Backend>(
    State(here): Here<B>,
    name: Read<Path<String>>,
    query: Read<Query<LogsQuery>>,
) -> Reply {
    let tail = query?.0.tail.unwrap_or(LOG_LINES);
    if tail > LOG_LINES_MAX {
        let why = format!("in the query: tail: {tail} is more than {LOG_LINES_MAX}");
        return Err(Refusal::bad_request(why).into());
    }
    let conductor = Conductor::new(here.backend);
    let registry = conductor.registry().await?;
    data(conductor.logs(&registry, &name?.0, tail).await?)
}

/// One service, or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Registered {
    Many(Vec<Value>),
    One(Value),
}

async fn register<B: Backend>(
    State(here): Here<B>,
    by: Read<By>,
    query: Read<Query<NoQuery>>,
    body: Read<Json<Registered>>,
) -> Reply {
    query?;
    let services = match body?.0 {
        Registered::Many(services) => services,
        Registered::One(service) => vec![service],
    };
    if services.is_empty() {
        return Err(Refusal::bad_request("in the body: it names no service").into());
    }
    if services.len() > REGISTERED_MAX {
        return Err(Refusal::bad_request(format!("more than {REGISTERED_MAX} services")).into());
    }
    let read = |(n, value): (usize, Value)| {
        serde_path_to_error::deserialize::<_, Service>(value).map_err(|error| {
            let path = error.path().to_string();
            let why = in_words(&without_value(&error.into_inner().to_string()));
            // A field that is unknown or missing is named already.
            let place = match why.starts_with("invalid ") && !matches!(path.as_str(), "." | "?") {
                true => format!("`{path}`: "),
                false => String::new(),
            };
            Refusal::bad_request(format!("in the body: service {}: {place}{why}", n + 1))
        })
    };
    let services = services.into_iter().enumerate().map(read).collect::<Result<Vec<Service>, _>>()?;
    let names: Vec<String> = services.iter().map(|service| service.name.clone()).collect();
    change(here, by?, REGISTER, words("register", &names), |conductor, origin| async move {
        conductor.register(services, origin).await.map(|()| names)
    })
    .await
}

/// What can be asked of one service.
#[derive(Clone, Copy)]
enum Verb {
    Start,
    Stop,
    Restart,
    Unregister,
}

impl Verb {
    /// The path it is asked at, and the word for it in the record.
    fn place(self) -> (&'static str, &'static str) {
        match self {
            Self::Start => (START, "start"),
            Self::Stop => (STOP, "stop"),
            Self::Restart => (RESTART, "restart"),
            Self::Unregister => (UNREGISTER, "unregister"),
        }
    }
}

/// The path of a verb, and what is done when it is asked at.
fn one<B: Backend>(verb: Verb) -> (&'static str, Role, MethodRouter<Shared<B>>) {
    let handler = move |State(here): Here<B>,
                        by: Read<By>,
                        name: Read<Path<String>>,
                        query: Read<Query<NoQuery>>| async move {
        query?;
        let (route, word) = verb.place();
        let name = name?.0;
        let what = words(word, std::slice::from_ref(&name));
        change(here, by?, route, what, move |conductor, origin| async move {
            let registry = conductor.registry().await?;
            match verb {
                Verb::Start => conductor.start(&registry, &name, origin).await,
                Verb::Stop => conductor.stop(&registry, std::slice::from_ref(&name), origin).await,
                Verb::Restart => conductor.restart(&registry, &name, origin).await,
                Verb::Unregister => conductor.unregister(&registry, &name, origin).await,
            }
            .map(|()| name)
        })
        .await
    };
    (verb.place().0, Role::Operator, post(handler))
}

async fn start_all<B: Backend>(State(here): Here<B>, by: Read<By>, query: Read<Query<NoQuery>>) -> Reply {
    query?;
    change(here, by?, START_ALL, "start all services".to_owned(), |conductor, origin| async move {
        let registry = conductor.registry().await?;
        conductor.start_all(&registry, origin).await
    })
    .await
}

async fn stop_all<B: Backend>(State(here): Here<B>, by: Read<By>, query: Read<Query<NoQuery>>) -> Reply {
    query?;
    change(here, by?, STOP_ALL, "stop all services".to_owned(), |conductor, origin| async move {
        let registry = conductor.registry().await?;
        let names = registry.names();
        conductor.stop(&registry, &names, origin).await.map(|()| names)
    })
    .await
}

/// So many names are said in a record.
const NAMES_RECORDED: usize = 5;

/// What is asked for of those that are named, in words.
fn words(verb: &str, names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(NAMES_RECORDED).map(|name| error::shown(name)).collect();
    match names.len() {
        few if few <= NAMES_RECORDED => format!("{verb} {}", shown.join(" ")),
        many => format!("{verb} {} and {} more", shown.join(" "), many - NAMES_RECORDED),
    }
}

/// A change is recorded, made whole and recorded again. It is worked out from what there is, and made in
/// several steps: sent again, it would be another one, so that no key is kept.
async fn change<B: Backend, T, F>(
    here: Shared<B>,
    by: By,
    route: &'static str,
    what: String,
    making: impl FnOnce(Conductor<B>, Origin) -> F,
) -> Reply
where
    T: Serialize + Send + 'static,
    F: Future<Output = Result<T, ServicesError>> + Send + 'static,
{
    by.refuse_key(
        "/api/v1/services",
        "leave it out; when an answer was lost, look at `list` and `status` before you ask again",
    )?;
    let asked = Asked {
        who: by.caller.who(),
        from: by.caller.from.map(|from| from.to_string()),
        method: "POST".to_owned(),
        route: route.to_owned(),
        app: AppName::new(APP).ok(),
        what,
    };
    // What stops something must go on a full disk, too.
    let need = if [STOP, STOP_ALL, UNREGISTER].contains(&route) { Need::Anyway } else { Need::Recorded };
    let making = making(Conductor::new(here.backend.clone()), by.origin);
    let came_of = |answer: &Result<T, ServicesError>| {
        (answer.as_ref().map_or_else(ServicesError::status, |_| 200), None)
    };
    data(access::recorded(here, asked, need, making, came_of).await?)
}
