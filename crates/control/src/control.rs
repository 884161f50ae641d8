//! Commands in, targets out, reports in, answers out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{Mutex as AsyncMutex, watch};
use upbeat_decide::Change as SlotChange;
use upbeat_decide::planner::Locks;
use upbeat_model::device::Change;
use upbeat_model::event::EventKind;
use upbeat_model::target::Target;
use upbeat_model::{
    Action, App, AppName, AppSummary, Edit, Operation, OperationId, Origin, Phase, Project, ServiceName,
    SlotId, Wall, Wish,
};
use upbeat_store::{Journal, Store, StoreError};

use crate::error::ControlError;
use crate::events::EventLog;
use crate::outlook::Outlook;
use crate::persist::{self, Kept};
use crate::reactions::{self, End};
use crate::record::{AppRecord, OperationRecord};
use crate::state::{News, Rest, State, revive};
use crate::{edit, wishes};

/// What the store could not do is tried again after so long: the disk may be well by then.
pub(crate) const AGAIN: Duration = Duration::from_secs(1);

/// What control needs to know of its surroundings.
pub struct Settings {
    /// Which boot of the machine this is: `restart: always` brings back, once a boot, what
    /// somebody had stopped.
    pub boot_id: String,
    /// The clock on the wall.
    pub wall: fn() -> Wall,
    /// Called at named points (`command_kept`, `operation_kept`, `app_forgotten`, `end_seen`), so that a
    /// test can kill the process there.
    pub failpoint: fn(&str),
}

/// The fleet, of one node for now. A cheap handle; clones share it.
#[derive(Clone)]
pub struct Control {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    events: EventLog,
    wall: fn() -> Wall,
    failpoint: fn(&str),
    /// One change of the apps at a time: computed, kept, shown. Holds the one whose fate the store
    /// could not tell: nothing is decided on top of it before that is known.
    pub(crate) commands: AsyncMutex<Option<Unsure>>,
    state: Mutex<State>,
    target: watch::Sender<Arc<Target>>,
    /// Grows whenever anything a client can see changes.
    changed: watch::Sender<u64>,
}

/// Many commands are given one after the other. What they want is shown to the agent when this goes, all at once: shown
/// with each of them, all that is wanted would be copied, and looked through by the agent, as often as there are
/// commands. What others ask for meanwhile is shown at once, and with it what was asked for here.
pub struct Bunch(Control);

impl Drop for Bunch {
    fn drop(&mut self) {
        self.0.show_target();
    }
}

impl Bunch {
    /// Makes one change.
    pub async fn seek(&self, change: Change, origin: Origin) -> Result<Operation, ControlError> {
        self.0.seek_later(change, origin).await
    }
}

/// A command that may have been kept.
pub(crate) struct Unsure {
    app: AppName,
    id: OperationId,
}

/// What somebody asks for, in words and to the letter.
pub(crate) struct Request {
    app: AppName,
    /// `scale web=3`.
    what: String,
    /// Of everything that was said. Only where it may be said again.
    digest: String,
    origin: Origin,
    /// It is shown to the agent with others, by whoever asks for them.
    is_of_bunch: bool,
}

impl Request {
    pub(crate) fn new(app: &AppName, what: String, origin: Origin, all: &impl Serialize) -> Self {
        let digest = match &origin.key {
            Some(_) => serde_json::to_vec(all).map(|bytes| blake3::hash(&bytes).to_hex().to_string()),
            None => Ok(String::new()),
        };
        // INVARIANT: what came as JSON can be said as JSON.
        Self { app: app.clone(), what, digest: digest.unwrap_or_default(), origin, is_of_bunch: false }
    }

    pub(crate) fn of_bunch(self) -> Self {
        Self { is_of_bunch: true, ..self }
    }

    fn is(&self, known: &OperationRecord) -> bool {
        known.app == self.app && known.digest == self.digest && known.who == self.origin.who
    }
}

impl Control {
    /// Reads what was kept.
    pub async fn open(store: Store, journal: Journal, settings: Settings) -> Result<Self, StoreError> {
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
        let (state, news) = State::new(apps.into_values(), operations, next_operation);
        let inner = Inner {
            store,
            events,
            wall: settings.wall,
            failpoint: settings.failpoint,
            commands: AsyncMutex::new(None),
            state: Mutex::new(state),
            target,
            changed,
        };
        let control = Self { inner: Arc::new(inner) };
        control.show_target();
        control.spread(news).await;
        Ok(control)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A panic while it was held was in a read: every change is one assignment.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn downgrade(&self) -> Weak<Inner> {
        Arc::downgrade(&self.inner)
    }

    pub(crate) fn upgrade(inner: &Weak<Inner>) -> Option<Self> {
        inner.upgrade().map(|inner| Self { inner })
    }

    pub(crate) fn failpoint(&self, name: &str) {
        (self.inner.failpoint)(name);
    }

    /// The wishes, to be watched by an agent.
    pub fn target(&self) -> watch::Receiver<Arc<Target>> {
        self.inner.target.subscribe()
    }

    /// Wakes whenever anything that can be asked here has changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    /// Waits until an agent has looked at every slot there was before this process: until then what is
    /// shown may be of before. How their probes stand may be so for longer.
    pub async fn looked(&self) {
        let mut changes = self.changes();
        while !self.state().all_seen() && changes.changed().await.is_ok() {}
    }

    /// What happened.
    pub fn events(&self) -> &EventLog {
        &self.inner.events
    }

    /// From now on more than one command comes.
    pub fn bunch(&self) -> Bunch {
        Bunch(self.clone())
    }

    fn show_target(&self) {
        let state = self.state();
        self.inner.target.send_modify(|target| *target = Arc::new(state.target(target.revision + 1)));
    }

    /// Something that clients see beside the apps has changed.
    pub fn touch(&self) {
        self.inner.changed.send_modify(|version| *version += 1);
    }

    /// Make a project run. What holds its update lock is not interrupted for it.
    pub async fn up(
        &self,
        project: Project,
        only: &[ServiceName],
        origin: Origin,
    ) -> Result<Operation, ControlError> {
        self.up_by(project, only, Locks::Respected, origin).await
    }

    /// The same, or in spite of such locks.
    pub async fn up_by(
        &self,
        project: Project,
        only: &[ServiceName],
        locks: Locks,
        origin: Origin,
    ) -> Result<Operation, ControlError> {
        let app = project.name.clone();
        let is_forced = locks == Locks::Forced;
        // One that is asked again after an update of Upbeat is the same.
        let word = if is_forced { "up, in spite of locks" } else { "up" };
        let what = command_text(word, only.iter());
        let request = Request::new(&app, what, origin, &(word, &project, only));
        self.command(request, |old, operation| {
            let change = wishes::up(old, project, only, operation)?;
            Ok(if is_forced { change } else { change.heeding_locks() })
        })
        .await
    }

    /// What a plan of what `up` would do is made of, as far as it is known here.
    pub fn outlook(&self, project: Project, only: &[ServiceName]) -> Result<Outlook, ControlError> {
        let state = self.state();
        let old = state.app(&project.name);
        let app = project.name.clone();
        let wanted = wishes::up(old.as_deref(), project, only, state.next_operation())?.record;
        let current = old.as_deref().map(|old| old.target().collect()).unwrap_or_default();
        Ok(Outlook { observed: state.observed(&app), app, current, wanted: wanted.target().collect() })
    }

    /// Change what runs.
    pub async fn act(
        &self,
        app: &AppName,
        action: &Action,
        origin: Origin,
    ) -> Result<Operation, ControlError> {
        let what = match action {
            Action::Start { services } => command_text("start", services.iter()),
            Action::Stop { services, kill: false } => command_text("stop", services.iter()),
            Action::Stop { services, kill: true } => command_text("kill", services.iter()),
            Action::Restart { services } => command_text("restart", services.iter()),
            Action::Reload { services } => command_text("reload", services.iter()),
            Action::Scale { services } => {
                command_text("scale", services.iter().map(|(name, count)| format!("{name}={count}")))
            }
        };
        self.command(Request::new(app, what, origin, &("act", action)), |old, operation| {
            let old = old.ok_or_else(|| ControlError::NoSuchApp(app.clone()))?;
            wishes::act(old, action, operation)
        })
        .await
    }

    /// Stops a whole app because a copy has ended. Errors: besides those of any change, that it is not
    /// due any more is a refusal.
    pub(crate) async fn end(&self, end: &End) -> Result<Operation, ControlError> {
        let app = end.slot.app.clone();
        let request = Request::new(&app, "stop".to_owned(), Origin::end_of(&end.slot, &end.how), &());
        self.command(request, |old, operation| {
            let old = old.ok_or(ControlError::NoSuchApp(app))?;
            wishes::end(old, end, operation)
        })
        .await
    }

    /// Declare services one by one, and run some.
    pub async fn edit(&self, app: &AppName, edit: &Edit, origin: Origin) -> Result<Operation, ControlError> {
        let named = (edit.put.keys().filter(|name| !edit.run.contains_key(*name)))
            .map(|name| format!("+{name}"))
            .chain(edit.take.iter().map(|name| format!("-{name}")))
            .chain(edit.run.keys().map(ToString::to_string));
        let what = command_text(if edit.run.is_empty() { "declare" } else { "run" }, named);
        let request = Request::new(app, what, origin, &("edit", edit));
        self.command(request, |old, operation| edit::edit(old, app, edit, operation)).await
    }

    /// Stop everything of an app and forget it.
    pub async fn down(&self, app: &AppName, kill: bool, origin: Origin) -> Result<Operation, ControlError> {
        let what = if kill { "down, at once" } else { "down" };
        let request = Request::new(app, what.to_owned(), origin, &("down", kill));
        self.command(request, |old, operation| {
            let old = old.ok_or_else(|| ControlError::NoSuchApp(app.clone()))?;
            Ok(wishes::down(old, kill, operation))
        })
        .await
    }

    /// One command: decided on what is kept, kept, then shown. One that came before is not done again.
    pub(crate) async fn command(
        &self,
        request: Request,
        decide: impl FnOnce(Option<&AppRecord>, OperationId) -> Result<wishes::Change, ControlError>,
    ) -> Result<Operation, ControlError> {
        let mut turn = self.inner.commands.lock().await;
        let mut news = self.find_out(&mut turn).await?;
        let outcome = self.decided(&mut turn, request, decide).await;
        self.forget_operations().await;
        drop(turn);
        let shown = outcome.map(|(shown, more)| {
            news.add(more);
            shown
        });
        self.spread(news).await;
        self.touch();
        shown
    }

    /// The part of a command for which it is its turn.
    async fn decided(
        &self,
        turn: &mut Option<Unsure>,
        request: Request,
        decide: impl FnOnce(Option<&AppRecord>, OperationId) -> Result<wishes::Change, ControlError>,
    ) -> Result<(Operation, News), ControlError> {
        if let Some(key) = &request.origin.key
            && let Some((id, known)) = self.state().under(key)
        {
            return match request.is(known) {
                true => Ok((known.shown(id), News::default())),
                false => {
                    let (what, app) = (known.what.clone(), known.app.clone());
                    Err(ControlError::OtherRequest { id, what, app })
                }
            };
        }
        let id = self.state().next_operation();
        let old = self.state().app(&request.app);
        let mut change = decide(old.as_deref(), id)?;
        change.record.before = old.and_then(|old| {
            let is_reached = || self.state().is_reached(&old.name);
            crate::halt::remembered(&old, is_reached, &change.record)
        });
        let Request { app, what, digest, origin: Origin { who, key }, is_of_bunch } = request;
        let slots = change.slots.into_iter().map(|slot| (slot, Wish::Pending)).collect();
        let at = (self.inner.wall)();
        let operation =
            OperationRecord { app: app.clone(), what, who, key, digest, at, slots, is_outline: false };
        if let Err(error) = persist::save(&self.inner.store, &change.record, id, &operation).await {
            let StoreError::Unknown(_) = error else { return Err(error.into()) };
            *turn = Some(Unsure { app, id });
            tokio::spawn(find_out_later(self.downgrade()));
            return Err(ControlError::Unsure(error));
        }
        (self.inner.failpoint)("command_kept");
        let shown = operation.shown(id);
        let news = self.begin(id, change.record, operation);
        if !is_of_bunch {
            self.show_target();
        }
        Ok((shown, news))
    }

    /// A command was kept: it is told. It is yet to be shown to the agent.
    fn begin(&self, id: OperationId, record: AppRecord, operation: OperationRecord) -> News {
        let begun = EventKind::OperationStarted {
            operation: id,
            what: operation.what.clone(),
            who: operation.who.clone(),
        };
        self.inner.events.add(operation.at, operation.app.clone(), begun);
        self.state().begin(id, record, operation)
    }

    /// What became of the command whose fate was not known. Errors: it still is not.
    async fn find_out(&self, turn: &mut Option<Unsure>) -> Result<News, StoreError> {
        let Some(Unsure { app, id }) = turn else { return Ok(News::default()) };
        let kept = persist::kept(&self.inner.store, app, *id).await?;
        let news = kept.map(|(record, operation)| self.begin(*id, record, operation));
        if news.is_some() {
            self.show_target();
        }
        *turn = None;
        Ok(news.unwrap_or_default())
    }

    /// What an agent reports.
    pub async fn report(&self, mut changes: Vec<SlotChange>) {
        let at = (self.inner.wall)();
        {
            let state = self.state();
            changes.iter_mut().for_each(|change| state.explain(&mut change.status));
        }
        for change in &changes {
            if let Some(kind) = phase_event(change) {
                self.inner.events.add(at, change.status.slot.app.clone(), kind);
            }
        }
        let mut news = News::default();
        let rested = reactions::rested(&changes);
        {
            let mut state = self.state();
            changes.into_iter().for_each(|change| state.take(change, &mut news));
        }
        self.spread(news).await;
        self.touch();
        for app in rested {
            self.end_app(&app).await;
        }
    }

    /// A process that ran before the agent did was found again.
    pub fn adopted(&self, slot: SlotId, attempt: upbeat_model::Attempt, pid: i32) {
        let kind = EventKind::Adopted { slot: slot.clone(), attempt, pid };
        self.inner.events.add((self.inner.wall)(), slot.app, kind);
    }

    /// An image of a service was built in so long, or why not.
    pub fn built(
        &self,
        app: AppName,
        service: ServiceName,
        image: String,
        seconds: u64,
        failure: Option<String>,
    ) {
        let kind = match failure {
            None => EventKind::Built { service, image, seconds },
            Some(why) => EventKind::BuildFailed { service, image, seconds, why },
        };
        self.note(app, kind);
    }

    /// Something happened that people may want to read of.
    pub(crate) fn note(&self, app: AppName, kind: EventKind) {
        self.inner.events.add((self.inner.wall)(), app, kind);
    }

    /// Those that have ended and are too many.
    async fn forget_operations(&self) {
        let forgotten = self.state().forget_old_operations();
        if let Err(error) = persist::forget_operations(&self.inner.store, &forgotten).await {
            tracing::warn!(%error, "old operations could not be forgotten");
        }
    }

    async fn spread(&self, news: News) {
        for app in &news.parting {
            self.forget_absent(app).await;
        }
        self.finish(news.ended).await;
    }

    /// Keeps and tells how operations ended.
    async fn finish(&self, ended: Vec<OperationId>) {
        for id in ended {
            let Some(operation) = self.state().operation(id).cloned() else { continue };
            let outcome = outcome_text(&operation);
            let kind = EventKind::OperationEnded { operation: id, outcome };
            self.inner.events.add((self.inner.wall)(), operation.app.clone(), kind);
            if let Err(error) = persist::save_operation(&self.inner.store, id, &operation).await {
                // The wishes themselves are kept; a restart works the outcome out anew.
                tracing::warn!(%error, operation = %id, "the outcome of an operation could not be stored");
            }
            self.forget_before(&operation.app).await;
            (self.inner.failpoint)("operation_kept");
        }
    }

    /// Slots that have gone are dropped from an app; one that lost its last slot is forgotten.
    async fn forget_absent(&self, app: &AppName) {
        let Err(error) = self.try_to_forget(app).await else { return };
        tracing::warn!(%error, %app, "what is gone could not be forgotten; it is tried again");
        if self.state().cannot_forget(app) {
            tokio::spawn(forget_later(self.downgrade(), app.clone()));
        }
    }

    async fn try_to_forget(&self, app: &AppName) -> Result<(), StoreError> {
        let ended = {
            let turn = self.inner.commands.lock().await;
            if turn.is_some() {
                return Err(StoreError::Unknown("a command before it".to_owned()));
            }
            let rest = self.state().rest(app);
            match &rest {
                None => return Ok(()),
                Some(Rest::Nothing) => persist::forget(&self.inner.store, app).await?,
                Some(Rest::Shrunk(record)) => persist::save_app(&self.inner.store, record).await?,
            }
            (self.inner.failpoint)("app_forgotten");
            let ended = rest.map(|rest| self.state().forget(app, rest)).unwrap_or_default();
            self.show_target();
            ended
        };
        self.finish(ended).await;
        Ok(())
    }

    /// One line an app.
    pub fn apps(&self) -> Vec<AppSummary> {
        self.state().summaries()
    }

    /// One app, whole.
    pub fn app(&self, name: &AppName) -> Result<App, ControlError> {
        self.state().shown(name).ok_or_else(|| ControlError::NoSuchApp(name.clone()))
    }

    /// An operation, as far as it is.
    pub fn operation(&self, id: OperationId) -> Result<Operation, ControlError> {
        let state = self.state();
        let operation = state.operation(id).filter(|operation| !operation.is_outline);
        let operation = operation.ok_or(ControlError::NoSuchOperation(id))?;
        Ok(operation.shown(id))
    }
}

/// Until the fate of a command is known, or control is no more.
async fn find_out_later(control: Weak<Inner>) {
    loop {
        tokio::time::sleep(AGAIN).await;
        let Some(control) = Control::upgrade(&control) else { return };
        let found = {
            let mut turn = control.inner.commands.lock().await;
            control.find_out(&mut turn).await
        };
        match found {
            Ok(news) => {
                control.spread(news).await;
                return control.touch();
            }
            Err(error) => tracing::debug!(%error, "whether a command was kept is not known yet"),
        }
    }
}

/// Until it is forgotten, or control is no more.
async fn forget_later(control: Weak<Inner>, app: AppName) {
    loop {
        tokio::time::sleep(AGAIN).await;
        let Some(control) = Control::upgrade(&control) else { return };
        match control.try_to_forget(&app).await {
            Ok(()) => return control.touch(),
            Err(error) => tracing::debug!(%error, %app, "what is gone cannot be forgotten yet"),
        }
    }
}

pub(crate) fn command_text(verb: &str, names: impl Iterator<Item = impl std::fmt::Display>) -> String {
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
    let (status, from) = (&change.status, change.from);
    // Whatever ran has ended by now; of an end long ago nothing is said again.
    let has_ended = from.is_alive() && from != Phase::Starting && status.phase == Phase::Starting
        || from.is_alive() && !status.phase.is_alive();
    (from != status.phase).then(|| EventKind::Phase {
        slot: status.slot.clone(),
        from,
        to: status.phase,
        attempt: status.attempt,
        pid: status.pid,
        exit: status.exit.clone().filter(|_| has_ended),
        reasons: status.reasons.clone(),
    })
}
