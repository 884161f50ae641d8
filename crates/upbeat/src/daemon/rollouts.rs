//! What requests ask about rollouts, from what control keeps of them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use upbeat_api::rollout_units::UnitAction;
use upbeat_api::rollouts::{RolloutAction, RolloutChanged};
use upbeat_api::{Problem, ProblemKind};
use upbeat_control::EventLog;
use upbeat_control::rollouts::{
    Change, Nothing, Refused, RolloutError, RolloutNumbers, Rollouts as Kept, Settings, Share, UnitChange,
    UnitRefused, UnitWatch,
};
use upbeat_drivers::clock;
use upbeat_drivers::controllers::Means;
use upbeat_drivers::process::chain;
use upbeat_model::rollout::{
    EntityId, PastState, RolloutState, RolloutsPage, TargetId, TargetState, UnitMember, UnitState, UnitsPage,
};
use upbeat_server::{
    Answer, BoxStream, ControllersEdit, Foreseen, Orchestrated, ROLLOUTS_LISTENER, Reported, Rollouts, Wanted,
};
use upbeat_store::{Store, StoreError};

use super::controllers::OverNetwork;
use super::failpoint;

/// Those of this daemon.
#[derive(Clone)]
pub(crate) struct LocalRollouts {
    kept: Kept,
}

/// Controllers are not waited for: what is left to be done is done on this machine.
const CLOSE_TIME: Duration = Duration::from_secs(5);

impl LocalRollouts {
    /// Goes on with what the store holds, and asks controllers by these means. Errors: it cannot be read.
    pub(super) async fn open(store: Store, events: EventLog, means: Means) -> Result<Self, StoreError> {
        let asker = Arc::new(OverNetwork::new(means));
        let settings =
            Settings { wall: clock::wall, asker, events: Some(events), failpoint: failpoint::reach };
        let kept = Kept::open(store, settings).await?;
        tokio::spawn(kept.sweeps());
        Ok(Self { kept })
    }

    /// Controllers are not waited for any more: the daemon ends.
    pub(crate) fn give_up(&self) {
        self.kept.give_up();
    }

    /// Nothing is measured any more, what was asked is done, and the clock is written down; or that took too long.
    pub(crate) async fn close(&self) {
        match tokio::time::timeout(CLOSE_TIME, self.kept.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "what the clock of rollouts shows could not be stored"),
            Err(_) => {
                tracing::warn!("rollouts are left in the midst of something: what is kept of them is whole")
            }
        }
    }

    /// Where each entity is, in numbers. Whoever cannot be read is told of in the log.
    pub(super) async fn numbers(&self) -> Vec<RolloutNumbers> {
        let (numbers, unreadable) = self.kept.numbers().await;
        for error in unreadable {
            tracing::warn!(
                why = chain(&error),
                "the page of numbers has none of a rollout that cannot be read"
            );
        }
        numbers
    }

    /// As whoever this is may.
    fn of(&self, by: &str) -> Kept {
        let share = if by == ROLLOUTS_LISTENER { Share::Listener } else { Share::Whole };
        self.kept.with_share(share)
    }

    /// What an action comes to: one after the other.
    fn changes(&self, action: RolloutAction, by: String) -> Answer<Vec<Change>> {
        let change = match action {
            RolloutAction::SetVersion { version, force, options, strategy } => {
                let options = options.map(|options| Change::SetOptions(Some(options)));
                let strategy = strategy.map(|strategy| Change::SetStrategy(Some(strategy)));
                let version = if force { Change::ForceVersion(version) } else { Change::SetVersion(version) };
                // The version last: it takes its stages with it.
                return Ok(options.into_iter().chain(strategy).chain([version]).collect());
            }
            RolloutAction::SetOptions { options } => Change::SetOptions(options),
            RolloutAction::SetStrategy { strategy } => Change::SetStrategy(strategy),
            RolloutAction::Pause => Change::Pause { by },
            RolloutAction::Resume => Change::Resume,
            RolloutAction::Abort { why } => Change::Abort { by, why },
            RolloutAction::Approve => Change::Approve { by },
            RolloutAction::Promote { all: false } => Change::Promote { by },
            RolloutAction::Promote { all: true } => Change::PromoteAll { by },
            RolloutAction::Undo => Change::Undo { by },
            RolloutAction::Fail { group, name, why } => {
                let target = TargetId::new(&group, &name)
                    .map_err(|bad| Problem::new(ProblemKind::BadRequest, format!("in the body: {bad}")))?;
                Change::Fail { target, by, why }
            }
            RolloutAction::Retry => Change::Retry,
            RolloutAction::Forgive { version, until } => {
                Change::Forgive { version, until: until.map(|until| self.kept.at(until)) }
            }
        };
        Ok(vec![change])
    }
}

fn problem(error: RolloutError) -> Problem {
    let text = chain(&error);
    let (kind, hint) = match &error {
        RolloutError::NoSuchEntity(_) => (ProblemKind::NotFound, "`upbeat rollout ls` lists what there is"),
        RolloutError::Refused(Refused::KnownBad { .. }) => {
            (ProblemKind::Conflict, "force it, or forgive it first, if it is good after all")
        }
        RolloutError::Refused(Refused::Options(_) | Refused::Strategy(_)) => (ProblemKind::BadRequest, ""),
        RolloutError::Refused(Refused::NoSuchTarget(_)) => {
            (ProblemKind::NotFound, "`upbeat rollout targets` lists what there is")
        }
        RolloutError::Refused(_) => (ProblemKind::Conflict, "`upbeat rollout show` tells where it is"),
        RolloutError::Nothing(Nothing::NoVersion) => {
            (ProblemKind::Conflict, "`upbeat rollout start` sets one")
        }
        RolloutError::Nothing(_) => (ProblemKind::Conflict, "what was reported is kept; nobody was moved"),
        RolloutError::Controller(_) => (ProblemKind::BadRequest, ""),
        RolloutError::TooManyEntities { .. }
        | RolloutError::TooManyOfListener { .. }
        | RolloutError::TooManyTargets { .. } => {
            (ProblemKind::BadRequest, "forget what is not used any more")
        }
        RolloutError::NoRoom { .. } | RolloutError::NotTaken { .. } => {
            (ProblemKind::Unavailable, "forget what is not used any more, and report again")
        }
        RolloutError::Large { .. } => (ProblemKind::BadRequest, "nothing was changed; say less"),
        RolloutError::TooLarge { .. } => {
            (ProblemKind::BadRequest, "nothing was changed; say less of that, or make two entities of it")
        }
        RolloutError::UnitStore {
            source: StoreError::ValueTooLarge { .. } | StoreError::RequestTooLarge { .. },
            ..
        } => (ProblemKind::BadRequest, "nothing was changed; make a unit of fewer members"),
        RolloutError::Ends(_) => (ProblemKind::Unavailable, "report again, to the next daemon"),
        RolloutError::Unanswered { .. } => {
            (ProblemKind::Unavailable, "what was reported is kept; say whom to ask instead")
        }
        RolloutError::Busy { .. } => (ProblemKind::Unavailable, "try again later"),
        RolloutError::Store { source: StoreError::Io(_), .. }
        | RolloutError::UnitStore { source: StoreError::Io(_), .. } => (
            ProblemKind::Unavailable,
            "nothing was changed; make room on the disk that holds the daemon's state",
        ),
        RolloutError::Store { source: StoreError::Unknown(_), .. }
        | RolloutError::UnitStore { source: StoreError::Unknown(_), .. } => {
            (ProblemKind::Unavailable, "it may have been done: look at the rollout before you ask again")
        }
        RolloutError::Store { .. } | RolloutError::UnitStore { .. } => {
            (ProblemKind::Unavailable, "nothing was changed; try again")
        }
        RolloutError::NoSuchUnit(_) => {
            (ProblemKind::NotFound, "`GET /api/v1/rollout-units` lists what there is")
        }
        RolloutError::Unit(UnitRefused::Members(_)) => (ProblemKind::BadRequest, ""),
        RolloutError::Unit(UnitRefused::KnownBad { .. }) => {
            (ProblemKind::Conflict, "forgive it first, if it is good after all: `upbeat rollout forgive`")
        }
        RolloutError::Unit(_) => (ProblemKind::Conflict, "look at the unit and its members"),
        RolloutError::InUnit { .. } => (ProblemKind::Conflict, "wait until the unit is over, or forget it"),
        RolloutError::TooManyUnits { .. } => (ProblemKind::BadRequest, "wait until one is over"),
        RolloutError::UnitBusy(_) => (ProblemKind::Unavailable, "try again"),
        RolloutError::Failed(_) => (ProblemKind::Internal, "the daemon's log tells more; please report it"),
    };
    let problem = Problem::new(kind, text);
    match hint {
        "" => problem,
        hint => problem.with_hint(hint),
    }
}

impl Rollouts for LocalRollouts {
    async fn decide(&self, id: EntityId, Reported { reports, room }: Reported, by: String) -> Answer<()> {
        let reports = upbeat_control::rollouts::Reported { reports, room };
        self.of(&by).decide(id, reports).await.map_err(problem)
    }

    async fn assigned(&self, id: EntityId) -> Answer<Orchestrated> {
        let (rollout, targets) = self.kept.assigned(&id).await.map_err(problem)?;
        Ok(Orchestrated { rollout, targets })
    }

    async fn foreseen(&self, id: EntityId) -> Answer<Foreseen> {
        let upbeat_control::rollouts::Foreseen { bytes, asks } =
            self.kept.foreseen(&id).await.map_err(problem)?;
        Ok(Foreseen { bytes, asks })
    }

    async fn orchestrate_later(
        &self,
        id: EntityId,
        Reported { reports, room }: Reported,
        by: String,
    ) -> Answer<()> {
        let reports = upbeat_control::rollouts::Reported { reports, room };
        self.of(&by).orchestrate_later(id, reports).await.map_err(problem)
    }

    async fn act(&self, id: EntityId, action: RolloutAction, by: String) -> Answer<RolloutChanged> {
        let changes = self.changes(action, by.clone())?;
        let (rollout, cautions) = self.of(&by).change_all(id, changes, Some(by)).await.map_err(problem)?;
        Ok(RolloutChanged { rollout, cautions })
    }

    async fn edit_controllers(
        &self,
        id: EntityId,
        edit: ControllersEdit,
        by: String,
    ) -> Answer<RolloutState> {
        self.of(&by).edit_controllers(id, edit).await.map_err(problem)
    }

    async fn forget(&self, id: EntityId, _: String) -> Answer<()> {
        self.kept.forget(id).await.map_err(problem)
    }

    async fn namespaces(&self) -> Answer<Vec<String>> {
        Ok(self.kept.namespaces().into_iter().collect())
    }

    async fn entities(&self, namespace: String) -> Answer<Vec<String>> {
        let ids = self.kept.entities(Some(&namespace)).into_iter();
        Ok(ids.map(|id| id.entity().to_owned()).collect())
    }

    async fn rollouts(&self, wanted: Wanted) -> Answer<RolloutsPage> {
        let Wanted { namespace, after, limit } = wanted;
        Ok(self.kept.rollouts(namespace.as_deref(), after.as_ref(), limit).await)
    }

    async fn rollout(&self, id: EntityId) -> Answer<Option<RolloutState>> {
        self.kept.rollout(&id).await.map_err(problem)
    }

    async fn watch(&self, id: EntityId) -> Answer<BoxStream<RolloutState>> {
        let gone = || problem(RolloutError::NoSuchEntity(id.clone()));
        let mut changes = self.kept.changes(&id).ok_or_else(gone)?;
        if self.rollout(id.clone()).await?.is_none() {
            return Err(gone());
        }
        changes.mark_changed();
        let begun = (self.kept.clone(), id, changes);
        Ok(Box::pin(stream::unfold(begun, async |(kept, id, mut changes)| {
            loop {
                changes.changed().await.ok()?;
                // While it cannot be read, nothing is told; it changes when it can be.
                let Ok(state) = kept.rollout(&id).await else { continue };
                return Some((state?, (kept, id, changes)));
            }
        })))
    }

    async fn history(&self, id: EntityId) -> Answer<Option<Vec<PastState>>> {
        self.kept.history(&id).await.map_err(problem)
    }

    async fn targets(&self, id: EntityId, group: Option<String>) -> Answer<Vec<TargetState>> {
        self.kept.targets(&id, group.as_deref()).await.map_err(problem)
    }

    async fn start_unit(&self, id: EntityId, members: Vec<UnitMember>, by: String) -> Answer<UnitState> {
        self.kept.start_unit(id, members, by).await.map_err(problem)
    }

    async fn act_on_unit(&self, id: EntityId, action: UnitAction, by: String) -> Answer<UnitState> {
        let change = match action {
            UnitAction::Abort { why } => UnitChange::Abort { by, why },
            UnitAction::Promote => UnitChange::Promote { by },
            UnitAction::Pause => UnitChange::Pause { by },
            UnitAction::Resume => UnitChange::Resume,
        };
        self.kept.change_unit(id, change).await.map_err(problem)
    }

    async fn forget_unit(&self, id: EntityId, _: String) -> Answer<()> {
        self.kept.forget_unit(id).await.map_err(problem)
    }

    async fn units(&self, wanted: Wanted) -> Answer<UnitsPage> {
        let Wanted { namespace, after, limit } = wanted;
        Ok(self.kept.units(namespace.as_deref(), after.as_ref(), limit).await)
    }

    async fn watch_unit(&self, id: EntityId) -> Answer<BoxStream<UnitState>> {
        let watch = self.kept.watch_unit(&id).await.map_err(problem)?;
        let watch = watch.ok_or_else(|| problem(RolloutError::NoSuchUnit(id)))?;
        let states = async |mut watch: UnitWatch| Some((watch.next().await?, watch));
        Ok(Box::pin(stream::unfold(watch, states)))
    }

    async fn unit(&self, id: EntityId) -> Answer<Option<UnitState>> {
        self.kept.unit(&id).await.map_err(problem)
    }
}
