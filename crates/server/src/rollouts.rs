//! What the HTTP room needs of whoever keeps rollouts.

pub(crate) mod handlers;
pub(crate) mod reports;
pub(crate) mod rooms;
pub(crate) mod units;

use std::any::Any;

use std::future::Future;

use upbeat_api::rollout_units::UnitAction;
use upbeat_api::rollouts::{RolloutAction, RolloutChanged, RolloutsQuery};
use upbeat_model::rollout::{
    ControllerError, Controllers, EntityId, PastState, Report, RolloutState, RolloutsPage, TargetState,
    UnitMember, UnitState, UnitsPage,
};

use crate::backend::{Answer, BoxStream};
use crate::refusal::Refusal;

/// Which of an entity's controllers are to be others.
pub type ControllersEdit = Box<dyn FnOnce(&mut Controllers) -> Result<(), ControllerError> + Send>;

/// Which page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Of this namespace; none: of all.
    pub namespace: Option<String>,
    /// Behind this one; none: from the first on.
    pub after: Option<EntityId>,
    /// So many at most.
    pub limit: usize,
}

impl Wanted {
    /// Errors: there is no such page.
    fn asked(RolloutsQuery { namespace, after, limit }: RolloutsQuery) -> Result<Self, Refusal> {
        let after = after.map(|after| EntityId::of_cursor(&after)).transpose();
        let after = after.map_err(|bad| Refusal::bad_request(format!("in the query: {bad}")))?;
        let limit = crate::handlers::page(limit)?;
        if limit == 0 {
            return Err(Refusal::bad_request("in the query: limit: it must be 1 at least"));
        }
        Ok(Self { namespace, after, limit })
    }
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orchestrated {
    /// Where the entity is.
    pub rollout: RolloutState,
    /// All its targets, in the order of their groups and names.
    pub targets: Vec<TargetState>,
}

/// What is reported, and the place it takes for as long as it waits to be taken down: also where nobody waits for that
/// any more.
pub struct Reported {
    /// Of each target once.
    pub reports: Vec<Report>,
    /// To be dropped when they are taken down.
    pub room: Box<dyn Any + Send>,
}

/// What can be said of an answer about all targets of an entity before it is decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Foreseen {
    /// About how many bytes it would have now.
    pub bytes: u64,
    /// Somebody else is asked before it is decided, and may take long.
    pub asks: bool,
}

/// Rollouts of anything that has a version. An entity that nobody has named before is as if it had been made
/// just now; it is kept from its first change on.
pub trait Rollouts: Clone + Send + Sync + 'static {
    /// What a controller says of its targets, as this somebody; it is decided what each shall run. Done when it is
    /// kept.
    fn decide(&self, id: EntityId, reported: Reported, by: String)
    -> impl Future<Output = Answer<()>> + Send;
    /// What was decided last. Errors: `not_found`.
    fn assigned(&self, id: EntityId) -> impl Future<Output = Answer<Orchestrated>> + Send;
    /// What can be said of an answer about all targets of an entity before it is decided.
    fn foreseen(&self, id: EntityId) -> impl Future<Output = Answer<Foreseen>> + Send;
    /// As [`Rollouts::decide`]; answered when what is said has been taken, and decided about later, in order.
    fn orchestrate_later(
        &self,
        id: EntityId,
        reported: Reported,
        by: String,
    ) -> impl Future<Output = Answer<()>> + Send;
    /// Something is asked of it, by somebody.
    fn act(
        &self,
        id: EntityId,
        action: RolloutAction,
        by: String,
    ) -> impl Future<Output = Answer<RolloutChanged>> + Send;
    /// Others are asked from now on.
    fn edit_controllers(
        &self,
        id: EntityId,
        edit: ControllersEdit,
        by: String,
    ) -> impl Future<Output = Answer<RolloutState>> + Send;
    /// Nothing is known of it any more. Errors: `not_found`.
    fn forget(&self, id: EntityId, by: String) -> impl Future<Output = Answer<()>> + Send;
    /// In which namespaces there are entities, in order.
    fn namespaces(&self) -> impl Future<Output = Answer<Vec<String>>> + Send;
    /// The names of the entities of a namespace, in order.
    fn entities(&self, namespace: String) -> impl Future<Output = Answer<Vec<String>>> + Send;
    /// The entities of a namespace, or of all, in order: a page.
    fn rollouts(&self, wanted: Wanted) -> impl Future<Output = Answer<RolloutsPage>> + Send;
    /// Where an entity is. `None`: nobody has named it.
    fn rollout(&self, id: EntityId) -> impl Future<Output = Answer<Option<RolloutState>>> + Send;
    /// Its rollouts that have ended, the latest first. `None`: nobody has named it.
    fn history(&self, id: EntityId) -> impl Future<Output = Answer<Option<Vec<PastState>>>> + Send;
    /// Now and whenever it changes (coalesced); ends when it is forgotten. Errors: `not_found`.
    fn watch(&self, id: EntityId) -> impl Future<Output = Answer<BoxStream<RolloutState>>> + Send;
    /// Its targets, in the order of their groups and names, of one group (by equality) or of all.
    fn targets(
        &self,
        id: EntityId,
        group: Option<String>,
    ) -> impl Future<Output = Answer<Vec<TargetState>>> + Send;
    /// Several entities go to new versions as one, as somebody asks.
    fn start_unit(
        &self,
        id: EntityId,
        members: Vec<UnitMember>,
        by: String,
    ) -> impl Future<Output = Answer<UnitState>> + Send;
    /// Something is asked of a unit, by somebody. Errors: `not_found`.
    fn act_on_unit(
        &self,
        id: EntityId,
        action: UnitAction,
        by: String,
    ) -> impl Future<Output = Answer<UnitState>> + Send;
    /// A unit is forgotten, by somebody; its members stay where they are. Errors: `not_found`.
    fn forget_unit(&self, id: EntityId, by: String) -> impl Future<Output = Answer<()>> + Send;
    /// The units of a namespace, or of all, in order: a page.
    fn units(&self, wanted: Wanted) -> impl Future<Output = Answer<UnitsPage>> + Send;
    /// A unit now and whenever it or one of its members changes; ends when it is forgotten. Errors: `not_found`.
    fn watch_unit(&self, id: EntityId) -> impl Future<Output = Answer<BoxStream<UnitState>>> + Send;
    /// Where a unit is. `None`: nobody has named it.
    fn unit(&self, id: EntityId) -> impl Future<Output = Answer<Option<UnitState>>> + Send;
}
