//! Handlers of what is asked about rollouts.
//!
//! What controllers report is no audited change: ten thousand devices say every few seconds how they are, which
//! decides nothing that was not decided by whoever asked for the version. It would push out of the log what
//! people did, and cost a synced write for each. So it goes past `access::changed`, but as whole as a change: it
//! is not cut off when the asker goes. What people ask for is a change, and recorded as one.

use axum::extract::State;
use axum::response::Response;
use futures_util::StreamExt;
use upbeat_api::rollouts::{
    Assignments, Reports, RolloutAction, RolloutChanged, RolloutsQuery, TargetsQuery,
};
use upbeat_api::{Endpoint, Need, Problem, ProblemKind};
use upbeat_model::rollout::{
    Controller, ControllerError, Controllers, EntityId, MESSAGE_MAX, Options, PastState, RolloutState,
    RolloutsPage, Strategy,
};
use upbeat_model::withheld::{WITHHELD, url_to_look_at};

use super::reports::{Checked, Fields, checked};
use super::rooms::Taken;
use super::{Orchestrated, Reported, Rollouts, Wanted};
use crate::access::{self, Change};
use crate::backend::Backend;
use crate::extract::{By, Json, Large, Path, Query};
use crate::handlers::{Here, NoQuery, Reply, Shared, Streamed};
use crate::refusal::Refusal;
use crate::streams;

const FIELDS: Fields = Fields { list: "targets", labels: "labels" };

/// Below here no key is kept: a change that is asked for twice is the same one, or is refused the second time.
const BELOW: &str = "/api/v1/rollouts";
pub(super) const LOOK: &str =
    "leave it out; when an answer was lost, look at the entity before you ask again";

type Named = Path<(String, String)>;

fn entity(Path((namespace, entity)): Named) -> Result<EntityId, Refusal> {
    EntityId::new(&namespace, &entity).map_err(|bad| Refusal::bad_request(format!("in the path: {bad}")))
}

pub(crate) fn unknown(id: &EntityId) -> Problem {
    Problem::new(ProblemKind::NotFound, format!("there is no entity `{id}`"))
        .with_hint("`GET /api/v1/rollouts` lists them; one is made by the first thing that is asked of it")
}

/// For whoever looks: without what the addresses of controllers say that may be secret.
fn to_look_at(mut state: RolloutState) -> RolloutState {
    let Controllers { selection, approval, removal, monitoring, external_monitoring } =
        &mut state.controllers;
    for controller in [selection, approval, removal, monitoring, external_monitoring] {
        if let Some(Controller::Web(address)) = controller {
            *address = url_to_look_at(address);
        }
    }
    state
}

/// Errors: nobody can be asked so; or an address is one that was looked at, and not the one that is meant.
pub(crate) fn usable(controllers: &Controllers) -> Result<(), ControllerError> {
    controllers.check()?;
    for (field, controller) in controllers.each() {
        if let Controller::Web(address) = controller
            && [format!("={WITHHELD}"), format!("{WITHHELD}@")].iter().any(|unsaid| address.contains(unsaid))
        {
            let problem = format!("has `{WITHHELD}` where something was not shown: say it again, whole");
            return Err(ControllerError { field, problem });
        }
    }
    Ok(())
}

pub(crate) async fn rollouts<B: Backend>(
    State(here): Here<B>,
    Query(query): Query<RolloutsQuery>,
) -> Reply<RolloutsPage> {
    let RolloutsPage { rollouts, unreadable, next } =
        here.backend.rollouts().rollouts(Wanted::asked(query)?).await?;
    let rollouts = rollouts.into_iter().map(to_look_at).collect();
    Ok(axum::Json(RolloutsPage { rollouts, unreadable, next }))
}

pub(crate) async fn rollout<B: Backend>(
    State(here): Here<B>,
    named: Named,
    _: Query<NoQuery>,
) -> Reply<RolloutState> {
    let id = entity(named)?;
    let state = here.backend.rollouts().rollout(id.clone()).await?;
    Ok(axum::Json(to_look_at(state.ok_or_else(|| unknown(&id))?)))
}

pub(crate) async fn watch<B: Backend>(State(here): Here<B>, named: Named, _: Query<NoQuery>) -> Streamed {
    let states = here.backend.rollouts().watch(entity(named)?).await?.map(to_look_at).boxed();
    Ok(streams::states("rollout", states, here.closing))
}

pub(crate) async fn history<B: Backend>(
    State(here): Here<B>,
    named: Named,
    _: Query<NoQuery>,
) -> Reply<Vec<PastState>> {
    let id = entity(named)?;
    let history = here.backend.rollouts().history(id.clone()).await?;
    Ok(axum::Json(history.ok_or_else(|| unknown(&id))?))
}

pub(crate) async fn targets<B: Backend>(
    State(here): Here<B>,
    named: Named,
    Query(query): Query<TargetsQuery>,
) -> Result<Response, Refusal> {
    let (id, rollouts) = (entity(named)?, here.backend.rollouts());
    rollouts.rollout(id.clone()).await?.ok_or_else(|| unknown(&id))?;
    let taken = here.rooms.to_look(rollouts.foreseen(id.clone()).await?).await?;
    let targets = rollouts.targets(id, query.group).await?;
    taken.answer(move || targets).await
}

/// What is said is decided about, once it is sure that it will be told: with the place for that. What was said had a
/// place as well, which it has until it was taken down.
pub(crate) async fn decided<B: Backend>(
    here: &Shared<B>,
    id: EntityId,
    Checked { reports, answer_bytes }: Checked,
    said: Taken,
    who: String,
) -> Result<(Orchestrated, Taken), Refusal> {
    let rollouts = here.backend.rollouts();
    let promised = here.rooms.promise(rollouts.foreseen(id.clone()).await?, answer_bytes).await?;
    let (deciding, of) = (rollouts.clone(), id.clone());
    let reported = Reported { reports, room: Box::new(said) };
    access::whole::<_, Problem>(async move { deciding.decide(of, reported, who).await }).await?;
    let place = here.rooms.promised(promised).await;
    Ok((rollouts.assigned(id).await?, place))
}

pub(crate) async fn report<B: Backend>(
    State(here): Here<B>,
    by: By,
    named: Named,
    _: Query<NoQuery>,
    Large(Reports { targets }, taken): Large<Reports>,
) -> Result<Response, Refusal> {
    by.refuse_key(BELOW, LOOK)?;
    let id = entity(named)?;
    let said = taken.aside(move || checked(targets, &FIELDS)).await??;
    let (told, place) = decided(&here, id, said, taken, by.origin.who).await?;
    let Orchestrated { rollout, targets } = told;
    place.answer(move || Assignments { rollout: to_look_at(rollout), targets }).await
}

pub(crate) async fn act<B: Backend>(
    State(here): Here<B>,
    by: By,
    named: Named,
    _: Query<NoQuery>,
    Json(action): Json<RolloutAction>,
) -> Reply<RolloutChanged> {
    by.refuse_key(BELOW, LOOK)?;
    let id = entity(named)?;
    check(&action)?;
    // What stops something must go on a full disk, too.
    let need = match action {
        RolloutAction::Pause | RolloutAction::Abort { .. } => Need::Anyway,
        _ => Need::Recorded,
    };
    let change = Change { endpoint: Endpoint::ActOnRollout, app: None, what: words(&id, &action), need };
    let rollouts = here.backend.rollouts().clone();
    let who = by.origin.who;
    let acting = async move {
        let RolloutChanged { rollout, cautions } = rollouts.act(id, action, who).await?;
        Ok(RolloutChanged { rollout: to_look_at(rollout), cautions })
    };
    access::changed(here, by.caller, change, acting).await
}

/// What is shown on a line and kept with the rollout must fit there.
fn check(action: &RolloutAction) -> Result<(), Refusal> {
    match action {
        RolloutAction::Abort { why } | RolloutAction::Fail { why, .. } => check_why(why),
        _ => Ok(()),
    }
}

/// What is shown on a line must fit there.
pub(super) fn check_why(why: &str) -> Result<(), Refusal> {
    let must = match why {
        why if why.len() > MESSAGE_MAX => format!("have {MESSAGE_MAX} bytes at most"),
        why if why.contains(char::is_control) => "have no control characters".to_owned(),
        _ => return Ok(()),
    };
    Err(Refusal::bad_request(format!("in the body: `why` must {must}")))
}

fn carefully(options: &Options) -> String {
    let Options { batch, success_percent, success_timeout, duration_timeout } = options;
    format!("batch {batch}, success {success_percent}% after {success_timeout} within {duration_timeout}")
}

fn staged(strategy: &Strategy) -> String {
    let names: Vec<&str> = strategy.stages.iter().map(|stage| stage.name.as_str()).collect();
    let stages = match names.is_empty() {
        true => "without stages".to_owned(),
        false => format!("stages {}", names.join(", ")),
    };
    // Not what: a command may hold a secret.
    let measured: Vec<&str> = strategy.analyses.iter().map(|analysis| analysis.name.as_str()).collect();
    match measured.is_empty() {
        true => stages,
        false => format!("{stages}; analyses {}", measured.join(", ")),
    }
}

/// What is asked of an entity, for the record.
pub(crate) fn words(id: &EntityId, action: &RolloutAction) -> String {
    match action {
        RolloutAction::SetVersion { version, force, options, strategy } => {
            let verb = if *force { "force" } else { "set" };
            let options = options.as_ref().map(|options| format!("; {}", carefully(options)));
            let strategy = strategy.as_ref().map(|strategy| format!("; {}", staged(strategy)));
            let (options, strategy) = (options.unwrap_or_default(), strategy.unwrap_or_default());
            format!("{verb} version {version} of {id}{options}{strategy}")
        }
        RolloutAction::SetOptions { options: None } => format!("reset options of {id}"),
        RolloutAction::SetOptions { options: Some(options) } => {
            format!("set options of {id}: {}", carefully(options))
        }
        RolloutAction::Pause => format!("pause {id}"),
        RolloutAction::Resume => format!("resume {id}"),
        RolloutAction::Abort { why } if why.is_empty() => format!("abort {id}"),
        RolloutAction::Abort { why } => format!("abort {id}: {why}"),
        RolloutAction::SetStrategy { strategy: None } => format!("reset strategy of {id}"),
        RolloutAction::SetStrategy { strategy: Some(strategy) } => {
            format!("set strategy of {id}: {}", staged(strategy))
        }
        RolloutAction::Approve => format!("approve {id}"),
        RolloutAction::Promote { all: false } => format!("promote {id} by one step"),
        RolloutAction::Promote { all: true } => format!("promote {id}"),
        RolloutAction::Undo => format!("undo {id}"),
        RolloutAction::Fail { group, name, why } => {
            let target = if group.is_empty() { name.clone() } else { format!("{group}/{name}") };
            let why = if why.is_empty() { String::new() } else { format!(": {why}") };
            format!("fail target {target} of {id}{why}")
        }
        RolloutAction::Retry => format!("retry {id}"),
        RolloutAction::Forgive { version, until: None } => format!("forgive version {version} of {id}"),
        RolloutAction::Forgive { version, until: Some(until) } => {
            format!("hold version {version} of {id} to be bad until {} ms", until.0)
        }
    }
}

pub(crate) async fn set_controllers<B: Backend>(
    State(here): Here<B>,
    by: By,
    named: Named,
    _: Query<NoQuery>,
    Json(controllers): Json<Controllers>,
) -> Reply<RolloutState> {
    by.refuse_key(BELOW, LOOK)?;
    let id = entity(named)?;
    usable(&controllers).map_err(|error| Refusal::bad_request(format!("in the body: {error}")))?;
    let asked: Vec<&str> = controllers.each().map(|(question, _)| question).collect();
    // Not whom: an address or a command may hold a secret.
    let whom = if asked.is_empty() { "nobody".to_owned() } else { asked.join(", ") };
    let what = format!("set controllers of {id}: {whom}");
    let change = Change { endpoint: Endpoint::SetControllers, app: None, what, need: Need::Recorded };
    let rollouts = here.backend.rollouts().clone();
    let who = by.origin.who;
    let edit = Box::new(move |kept: &mut Controllers| {
        *kept = controllers;
        Ok(())
    });
    let editing = async move { rollouts.edit_controllers(id, edit, who).await.map(to_look_at) };
    access::changed(here, by.caller, change, editing).await
}

pub(crate) async fn forget<B: Backend>(
    State(here): Here<B>,
    by: By,
    named: Named,
    _: Query<NoQuery>,
) -> Reply<()> {
    by.refuse_key(BELOW, LOOK)?;
    let id = entity(named)?;
    let what = format!("forget {id}");
    let change = Change { endpoint: Endpoint::ForgetRollout, app: None, what, need: Need::Recorded };
    let rollouts = here.backend.rollouts().clone();
    let who = by.origin.who;
    access::changed(here, by.caller, change, async move { rollouts.forget(id, who).await }).await
}
