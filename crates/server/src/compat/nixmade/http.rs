//! The paths, who may ask them, and the two shapes of what is not data.

use axum::Router;
use axum::extract::{FromRequest, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use upbeat_api::rollouts::{RolloutAction, RolloutChanged};
use upbeat_api::{Asked, Need, Problem, Role};
use upbeat_model::rollout::{
    BadName, ControllerError, Controllers, EntityId, TargetId, TargetState, Version,
};

use super::shapes::{
    ClientStates, Expected, MonitoringController, Rollout, RolloutOptions, Sent, TargetController,
    TargetVersion,
};
use crate::access;
use crate::backend::{Answer, Backend};
use crate::bounds::REPORTS_BYTES_MAX;
use crate::extract::{self, By, Path, Query};
use crate::handlers::{NoQuery, Shared};
use crate::refusal::Refusal;
use crate::rollouts::handlers::{decided, usable, words};
use crate::rollouts::reports::{Checked, Fields, checked, must};
use crate::rollouts::rooms::Taken;
use crate::rollouts::{Orchestrated, Reported, Rollouts};
use crate::router::guarded;

const FIELDS: Fields = Fields { list: "", labels: "tags" };

const BELOW: &str = "/v1/orchestrate";
const NAMESPACES: &str = "/v1/orchestrate/namespaces";
/// Looked at, these are all there are; posted to, it is an entity of that name.
const ENTITIES: &str = "/v1/orchestrate/{namespace}/entities";
const ENTITY: &str = "/v1/orchestrate/{namespace}/{entity}";
const STATUS: &str = "/v1/orchestrate/{namespace}/{entity}/status";
const TARGETS: &str = "/v1/orchestrate/{namespace}/{entity}/targets";
const GROUP: &str = "/v1/orchestrate/{namespace}/{entity}/{group}/status";
const ROLLOUT: &str = "/v1/orchestrate/{namespace}/{entity}/rollout";
const VERSION: &str = "/v1/orchestrate/{namespace}/{entity}/version";
const OPTIONS: &str = "/v1/orchestrate/{namespace}/{entity}/options";
pub(super) const TARGET_CONTROLLER: &str = "/v1/orchestrate/{namespace}/{entity}/target/controller";
pub(super) const MONITORING_CONTROLLER: &str = "/v1/orchestrate/{namespace}/{entity}/monitoring/controller";

/// Where there is no such path, or it cannot be asked so.
pub(crate) const HINT: &str = "look at `/namespaces`, at `/{namespace}/entities` or, below `/{namespace}/{entity}`, at \
     `/rollout`, `/targets`, `/status` or `/{group}/status`; post to `/{namespace}/{entity}`, or to its `/status`, \
     `/version`, `/options`, `/target/controller` or `/monitoring/controller`";

type Here<B> = State<Shared<B>>;

/// All of them, and the least somebody has to be to ask it: who looks, a viewer.
pub(crate) fn routes<B: Backend>() -> [(&'static str, Role, MethodRouter<Shared<B>>); 13] {
    use Role::{Operator, Viewer};
    [
        (NAMESPACES, Viewer, get(namespaces::<B>)),
        (ENTITIES, Viewer, get(entities::<B>)),
        (ENTITIES, Operator, post(orchestrate::<B>)),
        (ENTITY, Operator, post(orchestrate::<B>)),
        (STATUS, Operator, post(orchestrate_later::<B>)),
        (STATUS, Viewer, get(targets::<B>)),
        (TARGETS, Viewer, get(targets::<B>)),
        (GROUP, Viewer, get(group::<B>)),
        (ROLLOUT, Viewer, get(rollout::<B>)),
        (VERSION, Operator, post(set_version::<B>)),
        (OPTIONS, Operator, post(set_options::<B>)),
        (TARGET_CONTROLLER, Operator, post(set_controllers::<B, TargetController>)),
        (MONITORING_CONTROLLER, Operator, post(set_controllers::<B, MonitoringController>)),
    ]
}

/// All routes on a router.
pub(crate) fn onto<B: Backend>(router: Router<Shared<B>>, here: &Shared<B>) -> Router<Shared<B>> {
    let onto = |router, (path, role, handler)| guarded(router, here, path, role, handler);
    routes::<B>().into_iter().fold(router, onto)
}

/// Whether all answers of a path are in these shapes.
pub(crate) fn is_its(path: &str) -> bool {
    path.strip_prefix(BELOW).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[derive(Serialize)]
struct Envelope {
    status: &'static str,
    message: String,
}

/// What is not done, in this shape.
pub(crate) fn refused(refusal: Refusal) -> Response {
    refusal.in_shape(|status, Problem { message, hint, .. }| {
        let message = match hint {
            Some(hint) => format!("{message}; {hint}"),
            None => message,
        };
        (status, axum::Json(Envelope { status: "error", message })).into_response()
    })
}

/// Not done.
struct Failure(Refusal);

impl<R: Into<Refusal>> From<R> for Failure {
    fn from(refusal: R) -> Self {
        Self(refusal.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        refused(self.0)
    }
}

type Reply = Result<Response, Failure>;

/// What came of reading a part of a request.
type Read<T> = Result<T, Refusal>;

fn data(data: impl Serialize) -> Reply {
    Ok(axum::Json(data).into_response())
}

/// Done, and what will most likely not be what was meant.
fn ok(cautions: impl IntoIterator<Item = String>) -> Reply {
    let message = std::iter::once("ok".to_owned()).chain(cautions).collect::<Vec<_>>().join("; ");
    data(Envelope { status: "success", message })
}

/// What a body says.
enum Body<T> {
    /// It is empty.
    Nothing,
    /// `null`.
    Null,
    Said(T),
}

impl<T: Default> Body<T> {
    /// Where something has to be said, be it that there is nothing.
    fn said(self) -> Read<T> {
        match self {
            Self::Said(said) => Ok(said),
            Self::Null => Ok(T::default()),
            Self::Nothing => Err(Refusal::bad_request("the body is empty").with_hint("send JSON")),
        }
    }
}

/// As whatever it is declared to be: those who ask by hand declare a form.
impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Read<Self> {
        let hint = "report some of the targets at a time: the others stay as they are";
        Self::read(&extract::whole(request.into_body(), REPORTS_BYTES_MAX, hint).await?)
    }
}

impl<T: DeserializeOwned> Body<T> {
    fn read(body: &[u8]) -> Read<Self> {
        if body.trim_ascii().is_empty() {
            return Ok(Self::Nothing);
        }
        Ok(extract::json::<Option<T>>(body)?.map_or(Self::Null, Self::Said))
    }
}

/// A body that may be large, and its place.
struct Large<T>(Body<T>, Taken);

impl<T: DeserializeOwned + Send + 'static, S: Send + Sync> FromRequest<S> for Large<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Read<Self> {
        let (body, taken) = extract::large(request, REPORTS_BYTES_MAX).await?;
        let said = taken.aside(move || Body::read(&body)).await??;
        Ok(Self(said, taken))
    }
}

/// Of a path. One that ends with `entities` is that of the entity of that name.
#[derive(Deserialize)]
struct Names {
    namespace: String,
    #[serde(default = "entities_itself")]
    entity: String,
    #[serde(default)]
    group: String,
}

fn entities_itself() -> String {
    "entities".to_owned()
}

fn bad_path(bad: BadName) -> Refusal {
    Refusal::bad_request(format!("in the path: {bad}"))
}

/// Which entity is asked about, and in which group.
fn asked_about(names: Read<Path<Names>>, query: Read<Query<NoQuery>>) -> Read<(EntityId, String)> {
    let Path(Names { namespace, entity, group }) = names?;
    query?;
    Ok((EntityId::new(&namespace, &entity).map_err(bad_path)?, group))
}

async fn namespaces<B: Backend>(State(here): Here<B>, query: Read<Query<NoQuery>>) -> Reply {
    query?;
    data(here.backend.rollouts().namespaces().await?)
}

async fn entities<B: Backend>(
    State(here): Here<B>,
    names: Read<Path<Names>>,
    query: Read<Query<NoQuery>>,
) -> Reply {
    let (id, _) = asked_about(names, query)?;
    data(here.backend.rollouts().entities(id.namespace().to_owned()).await?)
}

async fn rollout<B: Backend>(
    State(here): Here<B>,
    names: Read<Path<Names>>,
    query: Read<Query<NoQuery>>,
) -> Reply {
    let (id, _) = asked_about(names, query)?;
    data(Rollout::from(here.backend.rollouts().rollout(id).await?))
}

async fn expected(targets: Vec<TargetState>, taken: Taken) -> Reply {
    Ok(taken.answer(|| targets.into_iter().map(Expected::from).collect::<Vec<_>>()).await?)
}

/// The targets of an entity, to be looked at.
async fn looked_at<B: Backend>(here: &Shared<B>, id: EntityId, group: Option<String>) -> Reply {
    let rollouts = here.backend.rollouts();
    let taken = here.rooms.to_look(rollouts.foreseen(id.clone()).await?).await?;
    expected(rollouts.targets(id, group).await?, taken).await
}

async fn targets<B: Backend>(
    State(here): Here<B>,
    names: Read<Path<Names>>,
    query: Read<Query<NoQuery>>,
) -> Reply {
    let (id, _) = asked_about(names, query)?;
    looked_at(&here, id, None).await
}

async fn group<B: Backend>(
    State(here): Here<B>,
    names: Read<Path<Names>>,
    query: Read<Query<NoQuery>>,
) -> Reply {
    let (id, group) = asked_about(names, query)?;
    // Whatever the target: only its group is of interest.
    TargetId::new(&group, "any").map_err(bad_path)?;
    looked_at(&here, id, Some(group)).await
}

/// What is said of targets, by whoever may. It is no audited change: see [`crate::rollouts::handlers`].
async fn said_of(by: &By, body: Body<ClientStates>, taken: &Taken) -> Read<Checked> {
    refuse_key(by)?;
    let ClientStates(said) = body.said()?;
    taken.aside(move || checked(said.into_iter().map(Into::into).collect(), &FIELDS)).await?
}

async fn orchestrate<B: Backend>(
    State(here): Here<B>,
    by: Read<By>,
    names: Read<Path<Names>>,
    query: Read<Query<NoQuery>>,
    body: Read<Large<ClientStates>>,
) -> Reply {
    let ((id, _), by, Large(body, taken)) = (asked_about(names, query)?, by?, body?);
    let said = said_of(&by, body, &taken).await?;
    let (Orchestrated { targets, .. }, place) = decided(&here, id, said, taken, by.caller.who()).await?;
    expected(targets, place).await
}

async fn orchestrate_later<B: Backend>(
    State(here): Here<B>,
    by: Read<By>,
    names: Read<Path<Names>>,
    query: Read<Query<NoQuery>>,
    body: Read<Large<ClientStates>>,
) -> Reply {
    let ((id, _), by, Large(body, taken)) = (asked_about(names, query)?, by?, body?);
    let Checked { reports, .. } = said_of(&by, body, &taken).await?;
    let (rollouts, who) = (here.backend.rollouts().clone(), by.caller.who());
    let reported = Reported { reports, room: Box::new(taken) };
    access::whole::<_, Problem>(async move { rollouts.orchestrate_later(id, reported, who).await }).await?;
    ok([])
}

fn refuse_key(by: &By) -> Read<()> {
    by.refuse_key(BELOW, "leave it out; when an answer was lost, look at `/rollout` before you ask again")
}

/// Something that is recorded before it is done.
async fn change<B: Backend, T: Send + 'static>(
    here: Shared<B>,
    by: By,
    route: &'static str,
    what: String,
    making: impl Future<Output = Answer<T>> + Send + 'static,
) -> Result<T, Failure> {
    let asked = Asked {
        who: by.caller.who(),
        from: by.caller.from.map(|from| from.to_string()),
        method: "POST".to_owned(),
        route: route.to_owned(),
        app: None,
        what,
    };
    let came_of =
        |answer: &Answer<T>| (answer.as_ref().map_or_else(|problem| problem.kind.status(), |_| 200), None);
    Ok(access::recorded(here, asked, Need::Recorded, making, came_of).await?)
}

async fn act<B: Backend>(
    here: Shared<B>,
    by: Read<By>,
    route: &'static str,
    id: EntityId,
    action: RolloutAction,
) -> Reply {
    let by = by?;
    refuse_key(&by)?;
    let (rollouts, who, what) = (here.backend.rollouts().clone(), by.caller.who(), words(&id, &action));
    let acting = async move { rollouts.act(id, action, who).await };
    let RolloutChanged { cautions, .. } = change(here, by, route, what, acting).await?;
    ok(cautions.iter().map(ToString::to_string))
}

/// Those clients say it again with each report. What is asked for already is no change, and not recorded as one:
/// it would push out of the log what people did.
async fn set_version<B: Backend>(
    State(here): Here<B>,
    by: Read<By>,
    names: Read<Path<Names>>,
    query: Read<Query<NoQuery>>,
    body: Read<Body<TargetVersion>>,
) -> Reply {
    let ((id, _), TargetVersion { version }) = (asked_about(names, query)?, body?.said()?);
    let version = Version::new(&version)
        .map_err(|bad| Refusal::bad_request(format!("in the body: `version` must {}", must(bad))))?;
    let now = here.backend.rollouts().rollout(id.clone()).await?;
    if now.is_some_and(|now| now.target.as_ref() == Some(&version)) {
        return refuse_key(&by?).map_err(Failure::from).and_then(|()| ok([]));
    }
    act(here, by, VERSION, id, RolloutAction::set_version(version, false)).await
}

/// Nothing said at all, or `null`, is: as without being asked.
async fn set_options<B: Backend>(
    State(here): Here<B>,
    by: Read<By>,
    names: Read<Path<Names>>,
    query: Read<Query<NoQuery>>,
    body: Read<Body<RolloutOptions>>,
) -> Reply {
    let (id, _) = asked_about(names, query)?;
    let options = match body? {
        Body::Nothing | Body::Null => None,
        Body::Said(options) => Some(options.into()),
    };
    act(here, by, OPTIONS, id, RolloutAction::SetOptions { options }).await
}

async fn set_controllers<B: Backend, S: Sent + DeserializeOwned + Send + 'static>(
    State(here): Here<B>,
    by: Read<By>,
    names: Read<Path<Names>>,
    query: Read<Query<NoQuery>>,
    body: Read<Body<S>>,
) -> Reply {
    let ((id, _), sent, by) = (asked_about(names, query)?, body?.said()?, by?);
    refuse_key(&by)?;
    let alone = sent.alone();
    usable(&alone).map_err(|ControllerError { field, problem }| {
        // As it was sent: those clients write it in one.
        let message = format!("in the body: `{}` {problem}", field.replace('_', ""));
        Refusal::bad_request(message)
    })?;
    let asked: Vec<&str> = alone.each().map(|(question, _)| question).collect();
    let whom = if asked.is_empty() { "nobody".to_owned() } else { asked.join(", ") };
    let what = format!("set {} of {id}: {whom}", S::WHAT);
    let (rollouts, who) = (here.backend.rollouts().clone(), by.caller.who());
    let edit = Box::new(move |kept: &mut Controllers| {
        S::put(alone, kept);
        kept.check()
    });
    let editing = async move { rollouts.edit_controllers(id, edit, who).await };
    change(here, by, S::ROUTE, what, editing).await?;
    ok([])
}
