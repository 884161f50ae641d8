//! What travels about units of rollouts: several entities that go to new versions as one.

use serde::{Deserialize, Serialize};
use upbeat_model::rollout::{EntityId, UnitMember, UnitState, UnitsPage};

use crate::client::{Answer, Client, Updates};
use crate::decode::Decoder;
use crate::endpoint::Endpoint;
use crate::rollouts::RolloutsQuery;

/// `PUT /api/v1/rollout-units/{namespace}/{unit}`: who is in a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StartUnit {
    /// Entities of its namespace, the version that each shall have, and whom each needs first.
    pub members: Vec<UnitMember>,
}

/// `POST /api/v1/rollout-units/{namespace}/{unit}/actions`: something that is asked of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum UnitAction {
    /// All that have begun go back, the last first.
    Abort {
        /// Why.
        #[serde(default)]
        why: String,
    },
    /// Each member is good as soon as it has begun, whatever it waits for; one after the other all the same.
    Promote,
    /// No member begins, and no target of those that have is moved.
    Pause,
    /// They go on.
    Resume,
}

/// What can be asked about units.
impl Client {
    /// The units of a namespace, or all, and where each is: a page of them. Where it says what is next, there are
    /// more.
    pub async fn rollout_units(&self, query: &RolloutsQuery) -> Answer<UnitsPage> {
        self.answer(self.request(Endpoint::RolloutUnits, &[], &query.said())).await
    }

    /// Where a unit is.
    pub async fn rollout_unit(&self, id: &EntityId) -> Answer<UnitState> {
        self.answer(self.request(Endpoint::RolloutUnit, &path(id), &[])).await
    }

    /// Where a unit is now, and again whenever it or one of its members looks otherwise. A reader that is slow misses
    /// what lies between, never the last. Ends when the unit is forgotten.
    pub async fn watch_rollout_unit(&self, id: &EntityId) -> Answer<Updates<UnitState>> {
        self.updates(self.request(Endpoint::WatchRolloutUnit, &path(id), &[]), Decoder::events()).await
    }

    /// Has several entities go to new versions as one. Asked for twice, it is the same unit.
    pub async fn start_rollout_unit(&self, id: &EntityId, start: &StartUnit) -> Answer<UnitState> {
        let request = self.request(Endpoint::StartRolloutUnit, &path(id), &[]);
        self.answer(self.with_body(request, start)?).await
    }

    /// Forgets a unit, wherever it is: its members stay where they are, and each goes its own way.
    pub async fn forget_rollout_unit(&self, id: &EntityId) -> Answer<()> {
        self.answer(self.request(Endpoint::ForgetRolloutUnit, &path(id), &[])).await
    }

    /// Asks something of a unit.
    pub async fn act_on_rollout_unit(&self, id: &EntityId, action: &UnitAction) -> Answer<UnitState> {
        let request = self.request(Endpoint::ActOnRolloutUnit, &path(id), &[]);
        self.answer(self.with_body(request, action)?).await
    }
}

fn path(id: &EntityId) -> [&str; 2] {
    [id.namespace(), id.entity()]
}
