//! Rollouts in memory that decide nothing: every target is assigned what was asked for last.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::{StreamExt, stream};
use tokio::sync::{Notify, oneshot};
use upbeat_api::rollout_units::UnitAction;
use upbeat_api::rollouts::{RolloutAction, RolloutChanged};
use upbeat_api::{Problem, ProblemKind};
use upbeat_model::Wall;
use upbeat_model::rollout::{
    EntityId, HeldState, PastState, Report, RolloutState, RolloutsPage, TargetId, TargetState, UnitMember,
    UnitState, UnitWord, UnitsPage, Unreadable, Version,
};

use crate::backend::{Answer, BoxStream};
use crate::rollouts::{ControllersEdit, Foreseen, Orchestrated, Reported, Rollouts, Wanted};

/// When everything was said.
pub(crate) const AT: Wall = Wall(1_700_000_000_123);

#[derive(Clone, Debug)]
struct Kept {
    state: RolloutState,
    targets: BTreeMap<TargetId, TargetState>,
}

impl Kept {
    fn new(id: &EntityId) -> Self {
        let state = RolloutState::unknown(id);
        Self { state, targets: BTreeMap::new() }
    }
}

/// What `orchestrate` waits for, and whom it tells that it is done.
type Gate = (Arc<Notify>, oneshot::Sender<()>);

#[derive(Clone, Default)]
pub(crate) struct FakeRollouts {
    kept: Arc<Mutex<BTreeMap<EntityId, Kept>>>,
    asked: Arc<Mutex<Vec<String>>>,
    /// The answer to everything, while it is there.
    pub(crate) refusal: Arc<Mutex<Option<Problem>>>,
    /// Where it is there, `orchestrate` waits for it, and then says so.
    pub(crate) gate: Arc<Mutex<Option<Gate>>>,
    /// Somebody has to be asked before it is decided.
    pub(crate) asks: Arc<AtomicBool>,
}

impl FakeRollouts {
    /// What was to be changed since the last time.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// Somebody has named it.
    pub(crate) fn is_there(&self, id: &EntityId) {
        self.kept.lock().unwrap().entry(id.clone()).or_insert_with(|| Kept::new(id));
    }

    /// Nobody has named any.
    pub(crate) fn forget_all(&self) {
        self.kept.lock().unwrap().clear();
    }

    /// It is otherwise.
    pub(crate) fn put(&self, id: &EntityId, change: impl FnOnce(&mut RolloutState)) {
        change(&mut self.kept.lock().unwrap().get_mut(id).unwrap().state);
    }

    fn note(&self, asked: String) {
        self.asked.lock().unwrap().push(asked);
    }

    fn look<T>(&self, look: impl FnOnce(&mut BTreeMap<EntityId, Kept>) -> Answer<T>) -> Answer<T> {
        match self.refusal.lock().unwrap().clone() {
            Some(problem) => Err(problem),
            None => look(&mut self.kept.lock().unwrap()),
        }
    }

    fn change<T>(&self, id: &EntityId, change: impl FnOnce(&mut Kept) -> Answer<T>) -> Answer<T> {
        self.look(|kept| {
            let mut changed = kept.get(id).cloned().unwrap_or_else(|| Kept::new(id));
            let answer = change(&mut changed)?;
            kept.insert(id.clone(), changed);
            Ok(answer)
        })
    }
}

fn unknown(id: &EntityId) -> Problem {
    Problem::new(ProblemKind::NotFound, format!("there is no entity `{id}`"))
}

fn held(version: Option<Version>, message: String, is_error: bool) -> HeldState {
    HeldState { version, since: AT, message, message_at: AT, is_error }
}

/// In words that show all of it.
fn shown(report: &Report) -> String {
    let Report { target, version, is_error, message, labels, failed: _ } = report;
    let version = version.as_ref().map_or("nothing", Version::as_str);
    let health = if *is_error { "ill" } else { "well" };
    format!("{target} runs {version}, {health} ({message}) {labels:?}")
}

impl Rollouts for FakeRollouts {
    async fn decide(&self, id: EntityId, Reported { reports, room }: Reported, _: String) -> Answer<()> {
        drop(room);
        let gate = self.gate.lock().unwrap().take();
        if let Some((opened, done)) = gate {
            self.note("waits".into());
            opened.notified().await;
            done.send(()).unwrap();
        }
        let shown: Vec<String> = reports.iter().map(shown).collect();
        self.note(format!("{id}: {}", shown.join("; ")));
        self.change(&id, |kept| {
            for Report { target, version, is_error, message, labels, failed: _ } in reports {
                let assigned = kept.state.target.clone();
                let said = match &assigned {
                    Some(version) => format!("Rollout new version {version}"),
                    None => "new target, setting lkg".into(),
                };
                let state = TargetState {
                    id: target.clone(),
                    labels,
                    current: held(version, message, is_error),
                    assigned: held(assigned, said, is_error),
                    seen: AT,
                };
                kept.targets.insert(target, state);
            }
            Ok(())
        })
    }

    async fn assigned(&self, id: EntityId) -> Answer<Orchestrated> {
        self.change(&id, |kept| {
            let targets = kept.targets.values().cloned().collect();
            Ok(Orchestrated { rollout: kept.state.clone(), targets })
        })
    }

    async fn foreseen(&self, id: EntityId) -> Answer<Foreseen> {
        let bytes = 1_000 * self.targets(id, None).await?.len() as u64;
        Ok(Foreseen { bytes, asks: self.asks.load(Ordering::Relaxed) })
    }

    async fn orchestrate_later(&self, id: EntityId, reports: Reported, by: String) -> Answer<()> {
        self.note("later".into());
        self.decide(id, reports, by).await
    }

    /// The version `bad` is refused.
    async fn act(&self, id: EntityId, action: RolloutAction, by: String) -> Answer<RolloutChanged> {
        self.note(format!("{by}: {id} {action:?}"));
        self.change(&id, |kept| {
            let mut cautions = Vec::new();
            match action {
                RolloutAction::SetVersion { version, force: false, .. } if version.as_str() == "bad" => {
                    return Err(Problem::new(
                        ProblemKind::Conflict,
                        "version `bad` is known to be bad: aborted by ci",
                    )
                    .with_hint("force it"));
                }
                RolloutAction::SetVersion { version, .. } => kept.state.target = Some(version),
                RolloutAction::SetOptions { options } => {
                    let options = options.unwrap_or_default();
                    cautions = options
                        .check()
                        .map_err(|error| Problem::new(ProblemKind::BadRequest, error.to_string()))?;
                    kept.state.options = options;
                }
                RolloutAction::Pause => kept.state.paused_by = Some(by),
                _ => {}
            }
            Ok(RolloutChanged { rollout: kept.state.clone(), cautions })
        })
    }

    async fn edit_controllers(
        &self,
        id: EntityId,
        edit: ControllersEdit,
        by: String,
    ) -> Answer<RolloutState> {
        self.note(format!("{by}: {id} controllers"));
        self.change(&id, |kept| {
            let bad = |error: upbeat_model::rollout::ControllerError| {
                Problem::new(ProblemKind::BadRequest, error.to_string())
            };
            edit(&mut kept.state.controllers).map_err(bad)?;
            Ok(kept.state.clone())
        })
    }

    async fn forget(&self, id: EntityId, by: String) -> Answer<()> {
        self.note(format!("{by}: forget {id}"));
        self.look(|kept| kept.remove(&id).map(drop).ok_or_else(|| unknown(&id)))
    }

    async fn namespaces(&self) -> Answer<Vec<String>> {
        self.look(|kept| {
            let mut names: Vec<String> = kept.keys().map(|id| id.namespace().to_owned()).collect();
            names.dedup();
            Ok(names)
        })
    }

    async fn entities(&self, namespace: String) -> Answer<Vec<String>> {
        self.look(|kept| {
            let of_it = kept.keys().filter(|id| id.namespace() == namespace);
            Ok(of_it.map(|id| id.entity().to_owned()).collect())
        })
    }

    /// One that is called `lost` cannot be read.
    async fn rollouts(&self, wanted: Wanted) -> Answer<RolloutsPage> {
        let Wanted { namespace, after, limit } = wanted;
        self.look(|kept| {
            let is_in = |id: &EntityId| namespace.as_ref().is_none_or(|name| name == id.namespace());
            let is_behind = |id: &EntityId| after.as_ref().is_none_or(|after| id > after);
            let mut page = RolloutsPage::default();
            for (id, kept) in kept.iter().filter(|(id, _)| is_in(id) && is_behind(id)) {
                if page.rollouts.len() + page.unreadable.len() == limit {
                    page.next = page
                        .rollouts
                        .last()
                        .map(|last| EntityId::new(&last.namespace, &last.entity).unwrap().to_cursor());
                    break;
                }
                match id.entity() {
                    "lost" => page.unreadable.push(Unreadable {
                        namespace: id.namespace().to_owned(),
                        name: "lost".to_owned(),
                        why: "the disk is away".to_owned(),
                    }),
                    _ => page.rollouts.push(kept.state.clone()),
                }
            }
            Ok(page)
        })
    }

    async fn rollout(&self, id: EntityId) -> Answer<Option<RolloutState>> {
        self.look(|kept| Ok(kept.get(&id).map(|kept| kept.state.clone())))
    }

    async fn watch(&self, id: EntityId) -> Answer<BoxStream<RolloutState>> {
        let state = self.rollout(id.clone()).await?.ok_or_else(|| unknown(&id))?;
        Ok(stream::iter([state]).boxed())
    }

    async fn history(&self, id: EntityId) -> Answer<Option<Vec<PastState>>> {
        self.note(format!("history of {id}"));
        let kept = self.kept.lock().unwrap();
        Ok(kept.get(&id).map(|_| Vec::new()))
    }

    async fn targets(&self, id: EntityId, group: Option<String>) -> Answer<Vec<TargetState>> {
        self.look(|kept| {
            let targets = kept.get(&id).into_iter().flat_map(|kept| kept.targets.values());
            let is_in = |target: &&TargetState| group.as_ref().is_none_or(|group| *group == target.id.group);
            Ok(targets.filter(is_in).cloned().collect())
        })
    }

    async fn start_unit(&self, id: EntityId, members: Vec<UnitMember>, by: String) -> Answer<UnitState> {
        self.note(format!("{by}: start unit {id} of {}", members.len()));
        self.look(|_| Ok(unit(&id)))
    }

    async fn act_on_unit(&self, id: EntityId, action: UnitAction, by: String) -> Answer<UnitState> {
        self.note(format!("{by}: unit {id} {action:?}"));
        self.look(|_| Ok(unit(&id)))
    }

    async fn forget_unit(&self, id: EntityId, by: String) -> Answer<()> {
        self.note(format!("{by}: forget unit {id}"));
        self.unit(id.clone()).await?.map(drop).ok_or_else(|| unknown(&id))
    }

    async fn units(&self, wanted: Wanted) -> Answer<UnitsPage> {
        self.note(format!("units {wanted:?}"));
        let units = vec![unit(&EntityId::new("prod", "release").unwrap())];
        self.look(|_| Ok(UnitsPage { units, ..UnitsPage::default() }))
    }

    async fn watch_unit(&self, id: EntityId) -> Answer<BoxStream<UnitState>> {
        let state = self.unit(id.clone()).await?.ok_or_else(|| unknown(&id))?;
        Ok(stream::iter([state]).boxed())
    }

    /// There is one.
    async fn unit(&self, id: EntityId) -> Answer<Option<UnitState>> {
        self.look(|_| Ok((id.entity() == "release").then(|| unit(&id))))
    }
}

fn unit(id: &EntityId) -> UnitState {
    UnitState {
        namespace: id.namespace().to_owned(),
        unit: id.entity().to_owned(),
        number: 1,
        course: UnitWord::Forward,
        by: "ann".into(),
        began: AT,
        ended: None,
        why: None,
        paused_by: None,
        promoted_by: None,
        members: Vec::new(),
        history: Vec::new(),
    }
}
