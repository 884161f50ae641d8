//! Handlers of what is asked about units of rollouts.

use axum::extract::State;
use upbeat_api::rollout_units::{StartUnit, UnitAction};
use upbeat_api::rollouts::RolloutsQuery;
use upbeat_api::{Endpoint, Need, Problem, ProblemKind};
use upbeat_model::rollout::{EntityId, UnitMember, UnitState, UnitsPage};

use super::handlers::{LOOK, check_why};
use super::{Rollouts, Wanted};
use crate::access::{self, Change};
use crate::backend::Backend;
use crate::extract::{By, Json, Path, Query};
use crate::handlers::{Here, NoQuery, Reply, Streamed};
use crate::refusal::Refusal;
use crate::streams;

/// Below here no key is kept: a unit that is asked for twice is the same one.
const BELOW: &str = "/api/v1/rollout-units";

type Named = Path<(String, String)>;

fn named(Path((namespace, unit)): Named) -> Result<EntityId, Refusal> {
    let bad = |bad: upbeat_model::rollout::BadName| {
        let field = if bad.field == "entity" { "unit" } else { bad.field };
        Refusal::bad_request(format!("in the path: `{field}` must {}", bad.must))
    };
    EntityId::new(&namespace, &unit).map_err(bad)
}

pub(crate) async fn units<B: Backend>(
    State(here): Here<B>,
    Query(query): Query<RolloutsQuery>,
) -> Reply<UnitsPage> {
    Ok(axum::Json(here.backend.rollouts().units(Wanted::asked(query)?).await?))
}

pub(crate) async fn watch<B: Backend>(State(here): Here<B>, path: Named, _: Query<NoQuery>) -> Streamed {
    let states = here.backend.rollouts().watch_unit(named(path)?).await?;
    Ok(streams::states("unit", states, here.closing))
}

pub(crate) async fn unit<B: Backend>(
    State(here): Here<B>,
    path: Named,
    _: Query<NoQuery>,
) -> Reply<UnitState> {
    let id = named(path)?;
    let unknown = || {
        Problem::new(ProblemKind::NotFound, format!("there is no unit `{id}`"))
            .with_hint("`GET /api/v1/rollout-units` lists them")
    };
    let state = here.backend.rollouts().unit(id.clone()).await?;
    Ok(axum::Json(state.ok_or_else(unknown)?))
}

pub(crate) async fn start<B: Backend>(
    State(here): Here<B>,
    by: By,
    path: Named,
    _: Query<NoQuery>,
    Json(StartUnit { members }): Json<StartUnit>,
) -> Reply<UnitState> {
    by.refuse_key(BELOW, LOOK)?;
    let id = named(path)?;
    let each = |member: &UnitMember| format!("{} to {}", member.entity, member.version);
    let members_told: Vec<String> = members.iter().map(each).collect();
    let what = format!("start unit {id}: {}", members_told.join(", "));
    let change = Change { endpoint: Endpoint::StartRolloutUnit, app: None, what, need: Need::Recorded };
    let (rollouts, who) = (here.backend.rollouts().clone(), by.origin.who);
    let starting = async move { rollouts.start_unit(id, members, who).await };
    access::changed(here, by.caller, change, starting).await
}

pub(crate) async fn act<B: Backend>(
    State(here): Here<B>,
    by: By,
    path: Named,
    _: Query<NoQuery>,
    Json(action): Json<UnitAction>,
) -> Reply<UnitState> {
    by.refuse_key(BELOW, LOOK)?;
    let id = named(path)?;
    if let UnitAction::Abort { why } = &action {
        check_why(why)?;
    }
    let what = match &action {
        UnitAction::Abort { why } if why.is_empty() => format!("abort unit {id}"),
        UnitAction::Abort { why } => format!("abort unit {id}: {why}"),
        UnitAction::Promote => format!("promote unit {id}"),
        UnitAction::Pause => format!("pause unit {id}"),
        UnitAction::Resume => format!("resume unit {id}"),
    };
    // What stops something must go on a full disk, too.
    let need = match action {
        UnitAction::Pause | UnitAction::Abort { .. } => Need::Anyway,
        UnitAction::Promote | UnitAction::Resume => Need::Recorded,
    };
    let change = Change { endpoint: Endpoint::ActOnRolloutUnit, app: None, what, need };
    let (rollouts, who) = (here.backend.rollouts().clone(), by.origin.who);
    let acting = async move { rollouts.act_on_unit(id, action, who).await };
    access::changed(here, by.caller, change, acting).await
}

pub(crate) async fn forget<B: Backend>(
    State(here): Here<B>,
    by: By,
    path: Named,
    _: Query<NoQuery>,
) -> Reply<()> {
    by.refuse_key(BELOW, LOOK)?;
    let id = named(path)?;
    let what = format!("forget unit {id}");
    let change = Change { endpoint: Endpoint::ForgetRolloutUnit, app: None, what, need: Need::Recorded };
    let (rollouts, who) = (here.backend.rollouts().clone(), by.origin.who);
    access::changed(here, by.caller, change, async move { rollouts.forget_unit(id, who).await }).await
}
