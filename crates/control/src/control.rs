//! Commands in, targets out, reports in, answers out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, watch};
use upbeat_decide::instance::Mark;
use upbeat_decide::{Change as SlotChange, planner};
use upbeat_model::event::EventKind;
use upbeat_model::project::RestartPolicy;
use upbeat_model::target::{Goal, Target};
use upbeat_model::{
    Action, App, AppName, AppSummary, Operation, OperationId, Phase, Plan, Project, ServiceName, SlotId,
    SlotStatus, Wall, Wish,
};
use upbeat_store::{Journal, Store};

use crate::error::ControlError;
use crate::events::EventLog;
use crate::persist::{self, Kept};
use crate::record::{AppRecord, OperationRecord};
use crate::wishes;

/// Operations that are remembered; older ones that have ended are forgotten. A client that waits
/// for one asks within seconds.
const OPERATIONS_KEPT: usize = 1000;

/// What control needs to know of its surroundings.
pub struct Settings {
    /// Which boot of the machine this is: `restart: always` brings back, once a boot, what
    /// somebody had stopped.
    pub boot_id: String,
    /// The clock on the wall.
    pub wall: fn() -> Wall,
}

/// The fleet, of one node for now. A cheap handle; clones share it.
#[derive(Clone)]
pub struct Control {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    events: EventLog,
    wall: fn() -> Wall,
    /// One command at a time: computed, kept, shown.
    commands: AsyncMutex<()>,
    state: Mutex<State>,
    target: watch::Sender<Arc<Target>>,
    /// Grows whenever anything a client can see changes.
    changed: watch::Sender<u64>,
}

struct State {
    apps: BTreeMap<AppName, AppRecord>,
    operations: BTreeMap<OperationId, OperationRecord>,
    statuses: BTreeMap<SlotId, SlotStatus>,
    /// Under which wish each copy runs, or ended.
    marks: BTreeMap<SlotId, Mark>,
    next_operation: OperationId,
}

impl Control {
    /// Reads what was kept.
    pub async fn open(store: Store, journal: Journal, settings: Settings) -> Result<Self, ControlError> {
        let Kept { mut apps, operations, next_operation, boot_id } = persist::load(&store).await?;
        let mut revived = Vec::new();
        if boot_id.as_ref() != Some(&settings.boot_id) {
            for app in apps.values_mut() {
                if boot_id.is_some() && revive(app) {
                    revived.push(app.clone());
                }
            }
            persist::save_boot(&store, &settings.boot_id, &revived).await?;
        }
        let events = EventLog::open(journal).await?;
        let (target, _) = watch::channel(Arc::new(Target::default()));
        let (changed, _) = watch::channel(0);
        let state =
            State { apps, operations, statuses: BTreeMap::new(), marks: BTreeMap::new(), next_operation };
        let inner = Inner {
            store,
            events,
            wall: settings.wall,
            commands: AsyncMutex::new(()),
            state: Mutex::new(state),
            target,
            changed,
        };
        let control = Self { inner: Arc::new(inner) };
        control.show_target();
        Ok(control)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while it was held was in a read: every change is one assignment.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The wishes, to be watched by an agent.
    pub fn target(&self) -> watch::Receiver<Arc<Target>> {
        self.inner.target.subscribe()
    }

    /// Wakes whenever anything that can be asked here has changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    /// What happened.
    pub fn events(&self) -> &EventLog {
        &self.inner.events
    }

    fn show_target(&self) {
        let slots = self.state().apps.values().flat_map(AppRecord::target).collect();
        self.inner.target.send_modify(|target| {
            *target = Arc::new(Target { revision: target.revision + 1, slots });
        });
    }

    fn touch(&self) {
        self.inner.changed.send_modify(|version| *version += 1);
    }

    /// Make a project run.
    pub async fn up(
        &self,
        project: Project,
        only: &[ServiceName],
        who: String,
    ) -> Result<Operation, ControlError> {
        let app = project.name.clone();
        let what = command_text("up", only.iter());
        self.command(&app, what, who, |old, operation| {
            if old.is_some_and(|old| old.leaving) {
                return Err(ControlError::Leaving(app.clone()));
            }
            wishes::up(old, project.clone(), only, operation)
        })
        .await
    }

    /// What `up` would do.
    pub fn plan(&self, project: Project, only: &[ServiceName]) -> Result<Plan, ControlError> {
        let state = self.state();
        let old = state.apps.get(&project.name);
        let app = project.name.clone();
        let wanted = wishes::up(old, project, only, state.next_operation)?.record.target().collect();
        let current = old.map(|old| old.target().collect()).unwrap_or_default();
        let observed = (state.statuses.values())
            .filter(|status| status.slot.app == app)
            .map(|status| (status.slot.clone(), state.observed(status)))
            .collect();
        Ok(planner::plan(&observed, &current, &wanted))
    }

    /// Change what runs.
    pub async fn act(&self, app: &AppName, action: &Action, who: String) -> Result<Operation, ControlError> {
        let what = match action {
            Action::Start { services } => command_text("start", services.iter()),
            Action::Stop { services, kill: false } => command_text("stop", services.iter()),
            Action::Stop { services, kill: true } => command_text("kill", services.iter()),
            Action::Restart { services } => command_text("restart", services.iter()),
            Action::Scale { services } => {
                command_text("scale", services.iter().map(|(name, count)| format!("{name}={count}")))
            }
        };
        self.command(app, what, who, |old, operation| {
            let old = old.ok_or_else(|| ControlError::NoSuchApp(app.clone()))?;
            if old.leaving {
                return Err(ControlError::Leaving(app.clone()));
            }
            wishes::act(old, action, operation)
        })
        .await
    }

    /// Stop everything of an app and forget it.
    pub async fn down(&self, app: &AppName, kill: bool, who: String) -> Result<Operation, ControlError> {
        let what = if kill { "down, at once" } else { "down" };
        self.command(app, what.to_owned(), who, |old, operation| {
            let old = old.ok_or_else(|| ControlError::NoSuchApp(app.clone()))?;
            Ok(wishes::down(old, kill, operation))
        })
        .await
    }

    /// One command: decided on what is kept, kept, then shown.
    async fn command(
        &self,
        app: &AppName,
        what: String,
        who: String,
        decide: impl FnOnce(Option<&AppRecord>, OperationId) -> Result<wishes::Change, ControlError>,
    ) -> Result<Operation, ControlError> {
        let turn = self.inner.commands.lock().await;
        let at = (self.inner.wall)();
        let (id, change) = {
            let state = self.state();
            let id = state.next_operation;
            (id, decide(state.apps.get(app), id)?)
        };
        let slots = change.slots.into_iter().map(|slot| (slot, Wish::Pending)).collect();
        let operation = OperationRecord { app: app.clone(), what, who, at, slots };
        persist::save(&self.inner.store, &change.record, id, &operation).await?;
        let shown = operation.shown(id);
        let superseded = self.begin(id, change.record, operation.clone());
        let begun = EventKind::OperationStarted { operation: id, what: operation.what, who: operation.who };
        self.inner.events.add(at, app.clone(), begun);
        self.show_target();
        drop(turn);
        self.finish(superseded).await;
        self.settle_now(app).await;
        self.touch();
        Ok(shown)
    }

    /// The new wishes take the place of the old ones; operations that lost their last slot to this
    /// one have ended.
    fn begin(&self, id: OperationId, record: AppRecord, operation: OperationRecord) -> Vec<OperationId> {
        let mut state = self.state();
        let mut ended = Vec::new();
        for (other, before) in &mut state.operations {
            if before.app != record.name || before.ended() {
                continue;
            }
            for (slot, wish) in &mut before.slots {
                if *wish == Wish::Pending && operation.slots.contains_key(slot) {
                    *wish = Wish::Superseded { by: id };
                }
            }
            if before.ended() {
                ended.push(*other);
            }
        }
        if operation.ended() {
            ended.push(id);
        }
        state.next_operation = id.next();
        state.operations.insert(id, operation);
        state.apps.insert(record.name.clone(), record);
        while state.operations.len() > OPERATIONS_KEPT {
            let oldest = state.operations.iter().find(|(_, operation)| operation.ended()).map(|(id, _)| *id);
            let Some(oldest) = oldest else { break };
            state.operations.remove(&oldest);
        }
        ended
    }

    /// An app whose last slot was gone before it was asked to go is forgotten at once.
    async fn settle_now(&self, app: &AppName) {
        let empty =
            self.state().apps.get(app).is_some_and(|record| record.leaving && record.slots.is_empty());
        if empty {
            self.forget_absent(&[]).await;
        }
    }

    /// What an agent reports.
    pub async fn report(&self, changes: Vec<SlotChange>) {
        let at = (self.inner.wall)();
        for change in &changes {
            if let Some(kind) = phase_event(change) {
                self.inner.events.add(at, change.status.slot.app.clone(), kind);
            }
        }
        let (ended, absent) = {
            let mut state = self.state();
            let mut ended = Vec::new();
            let mut absent = Vec::new();
            for SlotChange { status, mark, .. } in changes {
                ended.extend(state.judge(&status));
                match mark {
                    Some(mark) => drop(state.marks.insert(status.slot.clone(), mark)),
                    None => drop(state.marks.remove(&status.slot)),
                }
                if status.phase == Phase::Absent && status.goal == Goal::Absent {
                    absent.push(status.slot.clone());
                    state.statuses.remove(&status.slot);
                } else {
                    state.statuses.insert(status.slot.clone(), status);
                }
            }
            (ended, absent)
        };
        if !absent.is_empty() {
            self.forget_absent(&absent).await;
        }
        self.finish(ended).await;
        self.touch();
    }

    /// A process that ran before the agent did was found again.
    pub fn adopted(&self, slot: SlotId, attempt: upbeat_model::Attempt, pid: i32) {
        let kind = EventKind::Adopted { slot: slot.clone(), attempt, pid };
        self.inner.events.add((self.inner.wall)(), slot.app, kind);
    }

    /// Keeps and tells how operations ended.
    async fn finish(&self, ended: Vec<OperationId>) {
        for id in ended {
            let Some(operation) = self.state().operations.get(&id).cloned() else { continue };
            let outcome = outcome_text(&operation);
            let kind = EventKind::OperationEnded { operation: id, outcome };
            self.inner.events.add((self.inner.wall)(), operation.app.clone(), kind);
            if let Err(error) = persist::save_operation(&self.inner.store, id, &operation).await {
                // The wishes themselves are kept; a restart works the outcome out anew.
                tracing::warn!(%error, operation = %id, "the outcome of an operation could not be stored");
            }
        }
    }

    /// Slots that are gone are dropped from the wishes; an app that lost its last one is forgotten.
    async fn forget_absent(&self, absent: &[SlotId]) {
        let _turn = self.inner.commands.lock().await;
        let mut apps: Vec<AppRecord> = {
            let state = self.state();
            let touched = |record: &&AppRecord| {
                (record.leaving && record.slots.is_empty())
                    || absent.iter().any(|slot| slot.app == record.name)
            };
            state.apps.values().filter(touched).cloned().collect()
        };
        for record in &mut apps {
            record.slots.retain(|id, slot| slot.goal != Goal::Absent || !absent.contains(id));
            let kept = match record.leaving && record.slots.is_empty() {
                true => persist::forget(&self.inner.store, &record.name).await,
                false => persist::save_app(&self.inner.store, record).await,
            };
            if let Err(error) = kept {
                // The agent reports the slot absent again after the next restart.
                tracing::warn!(%error, app = %record.name, "gone slots could not be forgotten");
                continue;
            }
            let mut state = self.state();
            match record.leaving && record.slots.is_empty() {
                true => drop(state.apps.remove(&record.name)),
                false => drop(state.apps.insert(record.name.clone(), record.clone())),
            }
        }
        self.show_target();
    }

    /// One line an app.
    pub fn apps(&self) -> Vec<AppSummary> {
        let state = self.state();
        (state.apps.values())
            .map(|app| {
                let wanted = app.slots.iter().filter(|(_, slot)| slot.goal == Goal::Running);
                let ready = wanted
                    .clone()
                    .filter(|(id, _)| state.statuses.get(id).is_some_and(|status| status.phase.is_ready()));
                AppSummary {
                    name: app.name.clone(),
                    release: app.release,
                    wanted: u32::try_from(wanted.clone().count()).unwrap_or(u32::MAX),
                    ready: u32::try_from(ready.count()).unwrap_or(u32::MAX),
                }
            })
            .collect()
    }

    /// One app, whole.
    pub fn app(&self, name: &AppName) -> Result<App, ControlError> {
        let state = self.state();
        let record = state.apps.get(name).ok_or_else(|| ControlError::NoSuchApp(name.clone()))?;
        let slots = record.slots.iter().filter_map(|(id, slot)| match state.statuses.get(id) {
            Some(status) => Some(status.clone()),
            // Reported gone; the record follows.
            None if slot.goal == Goal::Absent => None,
            None => Some(unseen(id, slot)),
        });
        Ok(App {
            name: name.clone(),
            release: record.release,
            slots: slots.collect(),
            project: record.project.clone(),
        })
    }

    /// An operation, as far as it is.
    pub fn operation(&self, id: OperationId) -> Result<Operation, ControlError> {
        let state = self.state();
        let operation = state.operations.get(&id).ok_or(ControlError::NoSuchOperation(id))?;
        Ok(operation.shown(id))
    }
}

impl State {
    fn observed(&self, status: &SlotStatus) -> planner::Observed {
        let mark = self.marks.get(&status.slot);
        planner::Observed {
            phase: status.phase,
            running_digest: mark.map(|mark| mark.digest.clone()),
            running_generation: mark.map(|mark| mark.generation),
        }
    }

    /// What a new status means for the operations that wait for its slot.
    fn judge(&mut self, status: &SlotStatus) -> Option<OperationId> {
        let operation = self.operations.get_mut(&status.operation)?;
        let wish = operation.slots.get_mut(&status.slot)?;
        if *wish != Wish::Pending {
            return None;
        }
        *wish = upbeat_decide::outcome(status)?;
        operation.ended().then_some(status.operation)
    }
}

/// A slot no agent has reported yet.
fn unseen(id: &SlotId, slot: &crate::record::SlotRecord) -> SlotStatus {
    SlotStatus {
        slot: id.clone(),
        goal: slot.goal,
        phase: if slot.goal == Goal::Running { Phase::Waiting } else { Phase::Stopped },
        attempt: upbeat_model::Attempt(0),
        pid: None,
        exit: None,
        restarts: 0,
        since: Wall(0),
        started_at: None,
        health: None,
        reasons: Vec::new(),
        operation: slot.operation,
        release: slot.release,
    }
}

/// `restart: always` means: after a boot it runs again, whoever stopped it.
fn revive(app: &mut AppRecord) -> bool {
    let mut any = false;
    for (id, slot) in &mut app.slots {
        let spec = slot.spec.as_deref().or_else(|| app.project.services.get(&id.service));
        let always = spec.is_some_and(|spec| spec.restart == RestartPolicy::Always);
        if slot.goal == Goal::Stopped && always {
            slot.goal = Goal::Running;
            slot.generation += 1;
            any = true;
        }
    }
    any
}

fn command_text(verb: &str, names: impl Iterator<Item = impl std::fmt::Display>) -> String {
    let names: Vec<String> = names.map(|name| name.to_string()).collect();
    match names.len() {
        0 => verb.to_owned(),
        1..=5 => format!("{verb} {}", names.join(" ")),
        more => format!("{verb} {} and {} more", names[..5].join(" "), more - 5),
    }
}

fn outcome_text(operation: &OperationRecord) -> String {
    let superseded = operation.slots.values().find_map(|wish| match wish {
        Wish::Superseded { by } => Some(*by),
        _ => None,
    });
    let failed = operation.slots.iter().find_map(|(slot, wish)| match wish {
        Wish::Failed { reasons } => Some((slot, reasons)),
        _ => None,
    });
    match (failed, superseded) {
        (Some((slot, reasons)), _) => match reasons.first() {
            Some(reason) => format!("failed: {} {reason}", slot.short()),
            None => format!("failed: {}", slot.short()),
        },
        (None, Some(by)) => format!("superseded by operation {by}"),
        (None, None) => "reached".to_owned(),
    }
}

fn phase_event(change: &SlotChange) -> Option<EventKind> {
    let status = &change.status;
    (change.from != status.phase).then(|| EventKind::Phase {
        slot: status.slot.clone(),
        from: change.from,
        to: status.phase,
        attempt: status.attempt,
        pid: status.pid,
        exit: status.exit.clone().filter(|_| change.from.is_alive()),
        reasons: status.reasons.clone(),
    })
}
