//! A daemon that keeps no rollouts, and says so; or has lists of some that a test made up.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use upbeat_api::rollout_units::UnitAction;
use upbeat_api::rollouts::{RolloutAction, RolloutChanged};
use upbeat_api::{Problem, ProblemKind};
use upbeat_model::rollout::{
    EntityId, PastState, RolloutState, RolloutsPage, TargetState, UnitMember, UnitState, UnitsPage,
};
use upbeat_server::{Answer, BoxStream, ControllersEdit, Foreseen, Orchestrated, Reported, Rollouts, Wanted};

/// Keeps none.
#[derive(Clone, Debug, Default)]
pub(crate) struct NoRollouts {
    /// What is listed, a page at each question.
    pub(crate) pages: Arc<Mutex<VecDeque<RolloutsPage>>>,
    /// The same of units.
    pub(crate) units: Arc<Mutex<VecDeque<UnitsPage>>>,
    /// Which pages were asked for.
    pub(crate) wanted: Arc<Mutex<Vec<Wanted>>>,
}

fn unkept<T>() -> Answer<T> {
    Err(Problem::new(ProblemKind::Unavailable, "this daemon keeps no rollouts"))
}

impl Rollouts for NoRollouts {
    async fn decide(&self, _: EntityId, _: Reported, _: String) -> Answer<()> {
        unkept()
    }

    async fn assigned(&self, _: EntityId) -> Answer<Orchestrated> {
        unkept()
    }

    async fn foreseen(&self, _: EntityId) -> Answer<Foreseen> {
        unkept()
    }

    async fn orchestrate_later(&self, _: EntityId, _: Reported, _: String) -> Answer<()> {
        unkept()
    }

    async fn act(&self, _: EntityId, _: RolloutAction, _: String) -> Answer<RolloutChanged> {
        unkept()
    }

    async fn edit_controllers(&self, _: EntityId, _: ControllersEdit, _: String) -> Answer<RolloutState> {
        unkept()
    }

    async fn forget(&self, _: EntityId, _: String) -> Answer<()> {
        unkept()
    }

    async fn namespaces(&self) -> Answer<Vec<String>> {
        unkept()
    }

    async fn entities(&self, _: String) -> Answer<Vec<String>> {
        unkept()
    }

    async fn rollouts(&self, wanted: Wanted) -> Answer<RolloutsPage> {
        self.wanted.lock().unwrap().push(wanted);
        self.pages.lock().unwrap().pop_front().map_or_else(unkept, Ok)
    }

    async fn rollout(&self, _: EntityId) -> Answer<Option<RolloutState>> {
        unkept()
    }

    async fn watch(&self, _: EntityId) -> Answer<BoxStream<RolloutState>> {
        unkept()
    }

    async fn history(&self, _: EntityId) -> Answer<Option<Vec<PastState>>> {
        unkept()
    }

    async fn targets(&self, _: EntityId, _: Option<String>) -> Answer<Vec<TargetState>> {
        unkept()
    }

    async fn start_unit(&self, _: EntityId, _: Vec<UnitMember>, _: String) -> Answer<UnitState> {
        unkept()
    }

    async fn act_on_unit(&self, _: EntityId, _: UnitAction, _: String) -> Answer<UnitState> {
        unkept()
    }

    async fn forget_unit(&self, _: EntityId, _: String) -> Answer<()> {
        unkept()
    }

    async fn units(&self, wanted: Wanted) -> Answer<UnitsPage> {
        self.wanted.lock().unwrap().push(wanted);
        self.units.lock().unwrap().pop_front().map_or_else(unkept, Ok)
    }

    async fn watch_unit(&self, _: EntityId) -> Answer<BoxStream<UnitState>> {
        unkept()
    }

    async fn unit(&self, _: EntityId) -> Answer<Option<UnitState>> {
        unkept()
    }
}
