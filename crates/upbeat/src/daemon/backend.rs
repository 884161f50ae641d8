//! What requests ask of this daemon: control for wishes and statuses, log files for output.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use upbeat_agent::Meter;
use upbeat_control::audit::Ticket;
use upbeat_control::documents::{DocumentFile, Queued, Turn};
use upbeat_control::webhooks::Webhooks;
use upbeat_control::{Control, ControlError, Locks};
use upbeat_drivers::clock;
use upbeat_drivers::machine::Machine;
use upbeat_drivers::probe::{self, Prober, Verdict};
use upbeat_drivers::rights::OfThisMachine;
use upbeat_drivers::watch::Watches;
use upbeat_model::plan::World;
use upbeat_model::project::container::ImageRef;
use upbeat_model::rights::DaemonRights;
use upbeat_model::{
    Action, App, AppName, AppSummary, Attempt, BuildWord, Edit, Event, EventFilter, ImageBuild, ImageState,
    LogLine, Operation, OperationId, Origin, Plan, ProbeName, Project, Service, ServiceName, SlotId, Starts,
    Stats, Wall, Why, device,
};
use upbeat_server::compat::guide::Guide;
use upbeat_server::{Answer, Backend, BoxError, BoxStream, Checked, LogQuery, Running};

use super::access::Access;
use super::refusals::{
    networks_stay, problem, refuse_bad, refuse_beyond_rights, refuse_broken, refuse_unlimited, still_there,
    unplanned, unreadable, volumes_stay,
};
use super::rollouts::LocalRollouts;
use super::seeing::Seeing;
use super::whenever::whenever;
use super::{builds, document, events, exec, logs, webhooks, why};
use upbeat_api::{
    Asked, Attach, AuditQuery, AuditRecord, AuditVerdict, Exec, IssuedToken, Need, NewToken, PlanQuery,
    Problem, Refused, RemovedNetworks, RemovedVolumes, Role, TokenInfo, TokenName, Up, Version, WebhookName,
    WebhookState, WebhookTested, Whom,
};

/// The daemon's own answers.
#[derive(Clone)]
pub(crate) struct LocalBackend {
    pub(super) control: Control,
    pub(super) documents: DocumentFile,
    machine: Machine,
    watches: Watches,
    seeing: Seeing,
    access: Access,
    prober: Prober,
    guide: Guide,
    rollouts: LocalRollouts,
    webhooks: Webhooks,
    /// By which the engine's containers of this daemon are known.
    owner: String,
    started_at: Wall,
}

impl LocalBackend {
    pub(super) fn new(
        (control, documents): (Control, DocumentFile),
        machine: Machine,
        watches: Watches,
        access: Access,
        guide: Guide,
        (rollouts, webhooks): (LocalRollouts, Webhooks),
        (meter, owner): (Arc<Meter>, String),
    ) -> Self {
        let started_at = clock::wall();
        let Machine { processes: driver, engine, .. } = &machine;
        let prober = Prober::new(driver.clone());
        let seeing = Seeing::new(control.clone(), rollouts.clone(), (driver, engine), meter, started_at);
        Self {
            control,
            documents,
            machine,
            watches,
            seeing,
            access,
            prober,
            guide,
            rollouts,
            webhooks,
            owner,
            started_at,
        }
    }

    /// What this daemon can give to what it starts.
    pub(super) fn rights(&self) -> DaemonRights {
        self.machine.processes.rights()
    }

    /// Whether this daemon can run these services as they are to be run.
    fn judge<'a>(&self, up: impl IntoIterator<Item = (&'a ServiceName, &'a Service)>) -> Answer<()> {
        refuse_beyond_rights(up, &self.rights(), &OfThisMachine)
    }

    /// Whether this project can be run here, and makes sense.
    fn judge_project(&self, project: &Project) -> Answer<()> {
        refuse_bad(project)?;
        refuse_unlimited(project, || self.machine.processes.capabilities())?;
        self.judge(&project.services)
    }

    /// How all is held, for the device document.
    pub(super) fn state(&self) -> device::State {
        document::state(&self.control, &self.documents, &self.owner)
    }

    /// What processes of device documents are given before their own variables.
    pub(super) fn base_environment(&self) -> BTreeMap<String, String> {
        self.guide.surroundings().base_environment.clone()
    }

    /// Whether all of these changes could be made now.
    fn judge_changes(&self, changes: &device::Changes) -> Answer<()> {
        for change in &changes.apps {
            if let device::Seek::Declared { project, .. } = &change.seek {
                let of_app = |problem: Problem| document::of_app(&change.app, problem);
                self.judge_project(project).map_err(of_app)?;
            }
        }
        self.control.judge(&changes.apps).map_err(|error| problem(&error))?;
        document::suits(changes, &self.state())
    }

    /// In which state of its wishes each app is, and all keys.
    fn stamps(&self) -> (BTreeMap<AppName, String>, device::RegistryKeys) {
        let state = self.state();
        let stamps = state.apps.iter().map(|(name, held)| (name.clone(), held.stamp.clone()));
        (stamps.collect(), state.keys)
    }

    /// Seeks all of it, keys first. Errors: nothing was changed; or it says what was.
    pub(super) async fn seek_in_turn(
        &self,
        turn: &Turn<'_>,
        changes: device::Changes,
        origin: impl Fn(&AppName) -> Origin,
    ) -> Answer<Vec<Operation>> {
        self.judge_changes(&changes)?;
        let Some(keys) = changes.keys else {
            return document::seek(&self.control, changes.apps, origin).await;
        };
        document::set_keys(turn, keys).await?;
        self.control.touch();
        document::seek(&self.control, changes.apps, origin).await.map_err(document::after_keys)
    }

    /// Until every slot there was before was seen.
    pub(super) async fn looked(&self) {
        self.control.looked().await;
    }
}

impl Backend for LocalBackend {
    type Ticket = Ticket;
    type Rollouts = LocalRollouts;

    async fn authenticate(&self, token: &str) -> Answer<(TokenName, Role)> {
        self.access.authenticate(token).await
    }

    async fn asked(&self, asked: Asked, need: Need) -> Answer<Ticket> {
        self.access.asked(asked, need).await
    }

    async fn answered(&self, ticket: Ticket, status: u16, operation: Option<OperationId>) {
        self.access.audit.answered(ticket, status, operation).await;
    }

    fn refused(&self, refused: Refused, whom: Whom) {
        self.access.audit.refused(refused, whom);
    }

    async fn tokens(&self) -> Answer<Vec<TokenInfo>> {
        self.access.tokens().await
    }

    async fn create_token(&self, new: NewToken, by: String) -> Answer<IssuedToken> {
        self.access.create(new, by).await
    }

    async fn revoke_token(&self, name: TokenName) -> Answer<()> {
        self.access.revoke(&name).await
    }

    async fn audit(&self, query: AuditQuery, limit: usize) -> Answer<Vec<AuditRecord>> {
        self.access.records(&query, limit).await
    }

    async fn verify_audit(&self) -> Answer<AuditVerdict> {
        self.access.verify().await
    }

    fn version(&self) -> Version {
        Version {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id() as i32,
            started_at: self.started_at,
        }
    }

    async fn apps(&self) -> Answer<Vec<AppSummary>> {
        Ok(self.control.apps())
    }

    async fn app(&self, app: AppName) -> Answer<App> {
        self.control.app(&app).map_err(|error| problem(&error))
    }

    async fn watch(&self, app: AppName) -> Answer<BoxStream<App>> {
        self.app(app.clone()).await?;
        let control = self.control.clone();
        let changes = control.changes();
        Ok(whenever(changes, move || control.app(&app).ok(), |_| false))
    }

    async fn up(&self, _app: AppName, up: Up, origin: Origin) -> Answer<Operation> {
        self.judge_project(&up.project)?;
        let locks = respect(up.force);
        self.control.up_by(up.project, &up.services, locks, origin).await.map_err(|error| problem(&error))
    }

    async fn remove_volumes(&self, app: AppName) -> Answer<RemovedVolumes> {
        if self.control.has(&app) {
            return Err(still_there(&app, "volumes", "upbeat down --volumes"));
        }
        let volumes =
            self.machine.engine.remove_volumes(&app).await.map_err(|error| volumes_stay(&app, &error))?;
        Ok(RemovedVolumes { volumes })
    }

    async fn remove_networks(&self, app: AppName) -> Answer<RemovedNetworks> {
        if self.control.has(&app) {
            return Err(still_there(&app, "networks", "upbeat down"));
        }
        let removed = self.machine.engine.remove_networks(&app).await;
        let (networks, in_use) = removed.map_err(|error| networks_stay(&app, &error))?;
        Ok(RemovedNetworks { networks, in_use })
    }

    async fn plan(&self, _app: AppName, up: Up, query: PlanQuery) -> Answer<Plan> {
        self.judge_project(&up.project)?;
        let outlook = self.control.outlook(up.project, &up.services).map_err(|error| problem(&error))?;
        let there = match outlook.has_containers() {
            true => self
                .machine
                .engine
                .survey(outlook.app(), outlook.images())
                .await
                .map_err(|error| unplanned(&error))?,
            false => World::default(),
        };
        let locks = self.machine.locks.clone();
        // As long as the plan is large.
        let planned = tokio::task::spawn_blocking(move || {
            let held = outlook
                .locking()
                .filter_map(|slot| Some(((slot.app.clone(), slot.service.clone()), locks.holder(slot)?)));
            let there = World { locks: held.collect(), ..there };
            outlook.plan(there, respect(up.force), query.lint)
        })
        .await;
        let drafted =
            planned.map_err(|error| unreadable("the plan", &error))?.map_err(|error| problem(&error))?;
        refuse_broken(&drafted)?;
        Ok(drafted.plan)
    }

    async fn act(&self, app: AppName, action: Action, origin: Origin) -> Answer<Operation> {
        self.control.act(&app, &action, origin).await.map_err(|error| problem(&error))
    }

    async fn exec(&self, app: AppName, service: ServiceName, exec: Exec) -> Answer<Running> {
        let found = self.app(app).await?;
        known(&found, &service)?;
        exec::begin(&self.machine, self.control.clone(), &found, &service, exec).await
    }

    async fn attach(&self, app: AppName, service: ServiceName, attach: Attach) -> Answer<Running> {
        let found = self.app(app).await?;
        known(&found, &service)?;
        exec::attach(&self.machine, self.control.clone(), &found, &service, attach).await
    }

    async fn edit(&self, app: AppName, edit: Edit, origin: Origin) -> Answer<Operation> {
        self.judge(&edit.put)?;
        self.control.edit(&app, &edit, origin).await.map_err(|error| problem(&error))
    }

    async fn check(&self, slot: SlotId, service: Arc<Service>) -> Answer<Checked> {
        let Some((name, ask)) = service.probes.get_key_value(ProbeName::READINESS) else {
            return Ok(Checked {
                healthy: true,
                message: "it is not asked how it is".to_owned(),
                unasked: false,
            });
        };
        let asked = probe::Asked {
            slot: &slot,
            attempt: Attempt(0),
            probe: name,
            question: &ask.ask,
            spec: &service,
            base_environment: &self.guide.surroundings().base_environment,
            timeout: ask.timeout,
        };
        let Verdict { healthy, message, unasked, .. } = self.prober.ask(&asked).await;
        Ok(Checked { healthy, message, unasked })
    }

    fn guide(&self) -> &Guide {
        &self.guide
    }

    fn rollouts(&self) -> &LocalRollouts {
        &self.rollouts
    }

    async fn image(&self, name: ImageRef) -> Answer<ImageState> {
        builds::image(&self.machine.engine, &name).await
    }

    async fn build(
        &self,
        wanted: ImageBuild,
        context: BoxStream<Result<Bytes, BoxError>>,
    ) -> Answer<BoxStream<Answer<BuildWord>>> {
        builds::build(&self.machine.engine, self.control.clone(), wanted, context).await
    }

    async fn webhooks(&self) -> Answer<Vec<WebhookState>> {
        webhooks::list(&self.webhooks).await
    }

    async fn test_webhook(&self, name: WebhookName) -> Answer<WebhookTested> {
        webhooks::test(&self.webhooks, &name).await
    }

    async fn down(&self, app: AppName, kill: bool, origin: Origin) -> Answer<Operation> {
        self.control.down(&app, kill, origin).await.map_err(|error| problem(&error))
    }

    async fn device(&self) -> Answer<device::State> {
        Ok(self.state())
    }

    async fn watch_device(&self) -> Answer<BoxStream<device::State>> {
        let backend = self.clone();
        Ok(whenever(self.control.changes(), move || Some(backend.state()), |_| false))
    }

    async fn seek(&self, changes: device::Changes, origin: Origin) -> Answer<Vec<Operation>> {
        let turn = self.documents.turn().await;
        // What can be refused is before what waits is called off.
        self.judge_changes(&changes)?;
        let before = (self.documents.kept().queued.clone(), self.stamps());
        turn.set_queued(None).await.map_err(|error| document::not_kept(&error))?;
        let mut begun = self.seek_in_turn(&turn, changes, |_| origin.clone()).await;
        if let Err(problem) = &mut begun
            && let (Some(queued), stamps) = before
            && stamps == self.stamps()
            // Nothing took its place.
            && let Err(error) = turn.set_queued(Some(queued)).await
        {
            problem.message = format!("{}; what was queued is lost: {error}", problem.message);
        }
        self.control.touch();
        begun
    }

    async fn stop_seeking(&self, origin: Origin) -> Answer<(Vec<Operation>, Vec<AppName>)> {
        let turn = self.documents.turn().await;
        turn.set_queued(None).await.map_err(|error| document::not_kept(&error))?;
        let stopped = document::stop_seeking(&self.control, &origin).await;
        self.control.touch();
        stopped
    }

    async fn queue(&self, request: device::Request, changes: device::Changes, origin: Origin) -> Answer<()> {
        let turn = self.documents.turn().await;
        self.judge_changes(&changes)?;
        let queued = Queued::new(request, origin.who, clock::wall());
        turn.set_queued(Some(queued)).await.map_err(|error| document::not_kept(&error))?;
        self.control.touch();
        Ok(())
    }

    async fn operation(&self, id: OperationId) -> Answer<Operation> {
        self.control.operation(id).map_err(|error| problem(&error))
    }

    async fn watch_operation(&self, id: OperationId) -> Answer<BoxStream<Operation>> {
        self.operation(id).await?;
        let control = self.control.clone();
        let changes = control.changes();
        Ok(whenever(changes, move || control.operation(id).ok(), |operation| operation.ended))
    }

    async fn why(&self, app: AppName, service: ServiceName) -> Answer<Why> {
        let found = self.app(app.clone()).await?;
        known(&found, &service)?;
        Ok(why::explain(&service, &found.slots, &self.machine.processes).await)
    }

    async fn events(&self, wanted: EventFilter, after: u64, limit: usize) -> Answer<Vec<Event>> {
        let read = self.control.events().read(&wanted, after, limit).await;
        let (events, _) = read.map_err(|error| unreadable("the events", &error))?;
        Ok(events)
    }

    async fn stats(&self, app: AppName) -> Answer<Stats> {
        let gone = ControlError::NoSuchApp(app.clone());
        self.seeing.stats(app).await.ok_or_else(|| problem(&gone))
    }

    async fn watch_stats(&self, app: AppName) -> Answer<BoxStream<Stats>> {
        match self.control.has(&app) {
            true => Ok(self.seeing.watch_stats(app)),
            false => Err(problem(&ControlError::NoSuchApp(app))),
        }
    }

    async fn starts(&self, app: AppName) -> Answer<Starts> {
        self.control.starts(&app, clock::mono()).map_err(|error| problem(&error))
    }

    async fn metrics(&self) -> Answer<Bytes> {
        self.seeing.metrics().await
    }

    async fn watch_events(&self, wanted: EventFilter, after: u64) -> Answer<BoxStream<Answer<Event>>> {
        events::watch(self.control.events(), wanted, after).await
    }

    async fn logs(&self, app: AppName, query: LogQuery) -> Answer<BoxStream<Answer<LogLine>>> {
        let found = self.app(app.clone()).await?;
        for service in &query.services {
            known(&found, service)?;
        }
        let sources = logs::Sources {
            control: self.control.clone(),
            driver: self.machine.processes.clone(),
            watches: self.watches.clone(),
        };
        logs::stream(sources, app, query).map_err(|error| unreadable("the logs", &error))
    }
}

/// It is declared; or it was, and has not gone yet. Errors: neither.
fn known(app: &App, service: &ServiceName) -> Answer<()> {
    let services = &app.project.services;
    if services.contains_key(service) || app.slots.iter().any(|slot| slot.slot.service == *service) {
        return Ok(());
    }
    let (known, service) = (services.keys().cloned().collect(), service.clone());
    Err(problem(&ControlError::NoSuchService { app: app.project.name.clone(), service, known }))
}

fn respect(force: bool) -> Locks {
    if force { Locks::Forced } else { Locks::Respected }
}

#[cfg(test)]
mod tests {
    use super::*;
    use upbeat_control::Settings;
    use upbeat_model::Project;

    fn shop(services: &serde_json::Value) -> Project {
        let project = serde_json::json!({ "name": "shop", "services": services, "base_environment": {} });
        serde_json::from_value(project).unwrap()
    }

    #[tokio::test]
    async fn whoever_asks_for_no_event_gets_none() {
        let (store, journal) = upbeat_store::open_memory().unwrap();
        let settings = Settings { boot_id: "boot".into(), wall: || Wall(0), failpoint: |_| {} };
        let control = Control::open(store, journal, settings).await.unwrap();
        let mut written = control.events().changes();
        let services = serde_json::json!({ "web": { "command": ["x"], "working_dir": "/" } });
        let origin = Origin { who: "uid 1000".into(), key: None };
        control.up(shop(&services), &[], origin).await.unwrap();
        written.changed().await.unwrap();
        for (limit, found) in [(0, 0), (1, 1)] {
            let (events, _) = control.events().read(&EventFilter::default(), 0, limit).await.unwrap();
            assert_eq!(events.len(), found);
        }
    }
}
