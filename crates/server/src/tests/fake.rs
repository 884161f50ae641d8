//! A backend in memory that answers as it is told and remembers what it was asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use axum::BoxError;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::{Notify, oneshot};
use upbeat_api::{
    Action, App, AppName, AppSummary, Asked, Attach, AuditHead, AuditQuery, AuditRecord, AuditVerdict,
    BuildWord, Event, EventFilter, EventKind, EventWord, Exec, ImageBuild, ImageState, IssuedToken, LogLine,
    LogStream, Need, NewToken, Operation, OperationId, Origin, Plan, PlanQuery, Problem, ProblemKind,
    Project, Refused, RemovedNetworks, RemovedVolumes, Role, ServiceName, Starts, Stats, TokenInfo,
    TokenName, Up, Version, WebhookName, WebhookState, WebhookTested, Whom, Why, Wish,
};
use upbeat_model::project::container::ImageRef;
use upbeat_model::{
    Attempt, Edit, Goal, Mono, Phase, Service, SlotId, SlotStats, SlotStatus, SlotUsage, Wall, WebhookError,
    WebhookWord, device,
};

use crate::backend::{Answer, Backend, BoxStream, Checked, LogQuery};
use crate::compat::guide::{Guide, ServicesSettings, Surroundings};
use crate::exec::Running;
use crate::tests::fake_device::FakeDevice;
use crate::tests::fake_rollouts::FakeRollouts;

fn own() -> String {
    format!("uid {}", rustix::process::geteuid().as_raw())
}

fn by(origin: &Origin) -> String {
    match &origin.key {
        Some(key) => format!("{} as {key}", origin.who),
        None => origin.who.clone(),
    }
}

/// What an action waits for, and whom it tells that it is done.
type Gate = (Arc<Notify>, oneshot::Sender<()>);

/// What comes of asking an endpoint.
#[derive(Clone, Copy)]
pub(crate) enum Endpoint {
    Answers,
    Silent,
    /// Nobody can ask it.
    Unaskable,
}

#[derive(Clone)]
pub(crate) struct Fake {
    /// Declared by edits.
    services: Arc<Mutex<BTreeMap<ServiceName, Service>>>,
    /// Run by edits, at once; stopped by actions.
    running: Arc<Mutex<BTreeSet<ServiceName>>>,
    /// Services whose start command has ended, once they were started, and what their endpoint does.
    pub(crate) elsewhere: Arc<Mutex<BTreeMap<String, Endpoint>>>,
    guide: Guide,
    pub(crate) rollouts: FakeRollouts,
    pub(crate) device: FakeDevice,
    asked: Arc<Mutex<Vec<String>>>,
    /// What was recorded.
    records: Arc<Mutex<Vec<String>>>,
    /// No token holds any more.
    pub(crate) is_revoked: Arc<std::sync::atomic::AtomicBool>,
    /// No token can be looked up.
    pub(crate) is_busy: Arc<std::sync::atomic::AtomicBool>,
    /// Nothing can be recorded.
    pub(crate) is_full: Arc<std::sync::atomic::AtomicBool>,
    /// What the next watch of an app shows, where it is not the one app.
    pub(crate) states: Arc<Mutex<Option<BoxStream<App>>>>,
    /// What the next request for logs shows, where it is not the one line.
    pub(crate) lines: Arc<Mutex<Option<BoxStream<Answer<LogLine>>>>>,
    /// What the next watch of events shows, where it is not the two.
    pub(crate) events: Arc<Mutex<Option<BoxStream<Answer<Event>>>>>,
    /// Where it is there, an action waits for it, and then says so.
    pub(crate) gate: Arc<Mutex<Option<Gate>>>,
    /// So many apps are listed besides the one.
    pub(crate) others: Arc<std::sync::atomic::AtomicUsize>,
    /// How often one app was asked for.
    pub(crate) looks: Arc<std::sync::atomic::AtomicUsize>,
}

impl Default for Fake {
    fn default() -> Self {
        Self::with(ServicesSettings::default())
    }
}

impl Fake {
    pub(crate) fn with(settings: ServicesSettings) -> Self {
        Self {
            services: Arc::default(),
            running: Arc::default(),
            elsewhere: Arc::default(),
            guide: Guide::new(Surroundings {
                settings,
                nu_path: "nu".into(),
                provisioning_path: String::new(),
                working_dir: "/".into(),
                base_environment: BTreeMap::new(),
                health_timeout: Surroundings::HEALTH_TIMEOUT,
            }),
            rollouts: FakeRollouts::default(),
            device: FakeDevice::default(),
            asked: Arc::default(),
            states: Arc::default(),
            lines: Arc::default(),
            events: Arc::default(),
            gate: Arc::default(),
            looks: Arc::default(),
            others: Arc::default(),
            is_full: Arc::default(),
            is_revoked: Arc::default(),
            is_busy: Arc::default(),
            records: Arc::default(),
        }
    }

    /// The app of the guide, once anything is declared in it.
    fn services_app(&self) -> Option<App> {
        let services = self.services.lock().unwrap().clone();
        let running = self.running.lock().unwrap();
        let elsewhere = self.elsewhere.lock().unwrap();
        let slots = services.keys().map(|service| match status(service, running.contains(service)) {
            // Its start command has ended.
            status if status.goal == Goal::Running && elsewhere.contains_key(service.as_str()) => {
                SlotStatus { phase: Phase::Completed, ..status }
            }
            status => status,
        });
        let slots = slots.collect();
        let project = Project { name: name("services"), services, base_environment: BTreeMap::new() };
        let app = App { name: name("services"), release: 1, project: project.to_look_at(), slots };
        Some(app).filter(|app| !app.project.services.is_empty())
    }

    fn note(&self, asked: impl Into<String>) {
        self.asked.lock().unwrap().push(asked.into());
    }

    fn record(&self, record: impl Into<String>) {
        self.records.lock().unwrap().push(record.into());
    }

    /// What was recorded since the last time.
    pub(crate) fn recorded(&self) -> Vec<String> {
        std::mem::take(&mut self.records.lock().unwrap())
    }

    /// What was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

pub(crate) fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

pub(crate) fn app(release: u64) -> App {
    let project =
        Project { name: name("shop"), services: BTreeMap::new(), base_environment: BTreeMap::new() };
    App { name: name("shop"), release, project, slots: Vec::new() }
}

pub(crate) fn operation(ended: bool) -> Operation {
    let wish = if ended { Wish::Reached } else { Wish::Pending };
    Operation {
        id: OperationId(7),
        app: name("shop"),
        what: "stop web".into(),
        who: "uid 1000".into(),
        at: Wall(1),
        slots: BTreeMap::from([("shop/web/1".parse().unwrap(), wish)]),
        ended,
    }
}

pub(crate) fn event(sequence: u64) -> Event {
    let kind = EventKind::OperationEnded { operation: OperationId(7), outcome: "reached".into() };
    Event { sequence, at: Wall(1), app: Some(name("shop")), kind }
}

pub(crate) fn line(number: u64) -> LogLine {
    LogLine {
        slot: "shop/web/1".parse().unwrap(),
        sequence: number,
        at_ns: 1,
        stream: LogStream::Stdout,
        text: format!("line {number}\twith \"quotes\", ünïcode"),
    }
}

fn status(service: &ServiceName, runs: bool) -> SlotStatus {
    let (goal, phase) = if runs { (Goal::Running, Phase::Healthy) } else { (Goal::Stopped, Phase::Stopped) };
    SlotStatus {
        slot: SlotId { app: name("services"), service: service.clone(), index: 1 },
        goal,
        phase,
        attempt: Attempt(1),
        pid: None,
        container: None,
        exit: None,
        restarts: 0,
        since: Wall(0),
        started_at: runs.then_some(Wall(1)),
        log_start: None,
        health: None,
        probes: BTreeMap::new(),
        says: None,
        reasons: Vec::new(),
        operation: OperationId(7),
        release: 1,
    }
}

/// The app, and the rest where there is any.
fn by_words(wanted: &EventFilter) -> String {
    let app = &wanted.app;
    match (EventFilter { app: app.clone(), ..EventFilter::default() }) == *wanted {
        true => format!("{app:?}"),
        false => format!("{wanted:?}"),
    }
}

pub(crate) fn stats(at: i64) -> Stats {
    let usage = SlotUsage {
        cpu_percent: Some(12.5),
        cpu_ms: 7,
        memory_bytes: 4096,
        descriptors: Some(3),
        processes: 1,
    };
    let slot = SlotStats {
        slot: "shop/web/1".parse().unwrap(),
        phase: Phase::Running,
        attempt: Attempt(1),
        pid: Some(42),
        started_at: Some(Wall(1)),
        restarts: 0,
        usage: Some(usage),
    };
    Stats { at: Wall(at), slots: vec![slot] }
}

fn no_app(app: &AppName) -> Problem {
    Problem::new(ProblemKind::NotFound, format!("there is no app `{app}`"))
        .with_hint("`upbeat ps` lists them")
}

/// One that waits.
pub(crate) fn webhook() -> WebhookState {
    WebhookState {
        name: name("ci"),
        address: "https://hooks.example/…".into(),
        events: vec![EventWord::Rollout],
        apps: Vec::new(),
        namespaces: vec!["prod".into()],
        state: WebhookWord::Retrying,
        last_delivered: Some(4),
        last_delivered_at: Some(Wall(1)),
        pending: 2,
        pending_more: false,
        failures: 3,
        last_error: Some(WebhookError { why: "HTTP 500".into(), at: Wall(2) }),
        next_try: Some(Wall(3)),
        lost: None,
    }
}

fn token(name: TokenName, role: Role) -> TokenInfo {
    let created_by = "uid 0".into();
    TokenInfo { name, role, created_at: Wall(1), created_by, expires_at: None, expired: false }
}

impl Backend for Fake {
    type Ticket = String;
    type Rollouts = FakeRollouts;

    /// `viewer`, `operator`, `admin` are tokens; so was `expired`.
    async fn authenticate(&self, shown: &str) -> Answer<(TokenName, Role)> {
        if self.is_busy.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(Problem::new(ProblemKind::Unavailable, "the token cannot be looked up"));
        }
        match (shown, shown.parse::<Role>()) {
            (_, Ok(role)) if !self.is_revoked.load(std::sync::atomic::Ordering::Relaxed) => {
                Ok((name(shown), role))
            }
            ("expired", _) => Err(Problem::new(ProblemKind::Unauthorized, "the token `expired` has expired")),
            _ => Err(Problem::new(ProblemKind::Unauthorized, "the token is not known")),
        }
    }

    /// `cat` gives back what it gets and ends with it; whatever else is run says so, takes nothing and stays.
    async fn exec(&self, app: AppName, service: ServiceName, exec: Exec) -> Answer<Running> {
        let words = format!("exec {app}/{service} {}", exec.command.join(" "));
        self.note(words.clone());
        if service.as_str() == "nobody" {
            return Err(Problem::new(ProblemKind::Conflict, "nobody-1 does not run: it is stopped"));
        }
        let fake = self.clone();
        Ok(super::exec::running(exec, move || fake.record(format!("{words} is over"))))
    }

    /// As a command that stays.
    async fn attach(&self, app: AppName, service: ServiceName, attach: Attach) -> Answer<Running> {
        let words = format!("attach {app}/{service}");
        self.note(words.clone());
        let fake = self.clone();
        let exec = Exec { command: vec!["cat".to_owned()], terminal: attach.terminal, ..Exec::default() };
        Ok(super::exec::running(exec, move || fake.record(format!("{words} is over"))))
    }

    async fn asked(&self, asked: Asked, need: Need) -> Answer<String> {
        let Asked { who, from, method, route, app, what } = asked;
        let app = app.map(|app| format!(" of {app}")).unwrap_or_default();
        let from = if from.is_some() { " from afar" } else { "" };
        let words = format!("{who}{from}: {method} {route}: {what}{app}");
        if self.is_full.load(std::sync::atomic::Ordering::Relaxed) && need == Need::Recorded {
            return Err(Problem::new(ProblemKind::Unavailable, "the audit log cannot be used"));
        }
        self.record(words.clone());
        Ok(words)
    }

    async fn answered(&self, ticket: String, status: u16, operation: Option<OperationId>) {
        self.record(format!("{ticket} -> {status}, operation {operation:?}"));
    }

    fn refused(&self, refused: Refused, whom: Whom) {
        assert_eq!(
            whom == Whom::Known,
            refused.who.starts_with("token ") || refused.who == own(),
            "{refused:?}"
        );
        let Refused { who, from, method, path, status, why, .. } = refused;
        let from = if from.is_some() { " from afar" } else { "" };
        self.record(format!("{who}{from}: {method} {path}: {status}, {why}"));
    }

    fn version(&self) -> Version {
        Version { version: "1.2.3".into(), pid: 42, started_at: Wall(5) }
    }

    async fn apps(&self) -> Answer<Vec<AppSummary>> {
        let others = self.others.load(std::sync::atomic::Ordering::Relaxed);
        Ok(vec![AppSummary { name: name("shop"), release: 3, wanted: 2, ready: 1 }; others + 1])
    }

    async fn app(&self, of: AppName) -> Answer<App> {
        assert_ne!(of.as_str(), "bug", "a bug");
        self.looks.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if of.as_str() == "services" {
            return self.services_app().ok_or_else(|| no_app(&of));
        }
        if of.as_str() == "shop" { Ok(app(3)) } else { Err(no_app(&of)) }
    }

    async fn watch(&self, of: AppName) -> Answer<BoxStream<App>> {
        if of.as_str() == "services" {
            return Ok(stream::iter(self.services_app()).boxed());
        }
        if of.as_str() != "shop" {
            return Err(no_app(&of));
        }
        let told = self.states.lock().unwrap().take();
        Ok(told.unwrap_or_else(|| stream::iter([app(3)]).boxed()))
    }

    async fn up(&self, app: AppName, up: Up, origin: Origin) -> Answer<Operation> {
        self.note(format!("{}: up {app} with {} services", by(&origin), up.project.services.len()));
        Ok(operation(false))
    }

    async fn remove_volumes(&self, app: AppName) -> Answer<RemovedVolumes> {
        self.note(format!("remove the volumes of {app}"));
        Ok(RemovedVolumes { volumes: vec![format!("{app}_data")] })
    }
    async fn remove_networks(&self, _: AppName) -> Answer<RemovedNetworks> {
        Ok(RemovedNetworks::default())
    }

    async fn plan(&self, app: AppName, _: Up, _: PlanQuery) -> Answer<Plan> {
        self.note(format!("plan {app}"));
        Ok(Plan { unchanged: 4, ..Plan::default() })
    }

    async fn act(&self, app: AppName, action: Action, origin: Origin) -> Answer<Operation> {
        self.note(format!("{}: {app} {action:?}", by(&origin)));
        let gate = self.gate.lock().unwrap().take();
        if let Some((opened, done)) = gate {
            self.note("waits");
            opened.notified().await;
            done.send(()).unwrap();
        }
        if let (Action::Stop { services, .. }, "services") = (action, app.as_str()) {
            self.running.lock().unwrap().retain(|service| !services.contains(service));
        }
        Ok(operation(false))
    }

    async fn edit(&self, app: AppName, edit: Edit, origin: Origin) -> Answer<Operation> {
        let names =
            |names: Vec<&ServiceName>| names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ");
        let (put, run) = (names(edit.put.keys().collect()), names(edit.run.keys().collect()));
        self.note(format!("{}: {app} put [{put}] run [{run}]", by(&origin)));
        let mut services = self.services.lock().unwrap();
        services.extend(edit.put);
        let up = edit.run.into_keys();
        self.running.lock().unwrap().extend(up);
        Ok(operation(true))
    }

    async fn check(&self, slot: SlotId, service: Arc<Service>) -> Answer<Checked> {
        let ask = service.probes.values().next().map(|probe| probe.ask.to_string()).unwrap_or_default();
        self.note(format!("{slot}: {ask}"));
        assert_ne!(slot.service.as_str(), "bug", "a bug");
        if slot.service.as_str() == "unaskable" {
            return Err(Problem::new(ProblemKind::Unavailable, "nobody can be asked"));
        }
        match self.elsewhere.lock().unwrap().get(slot.service.as_str()) {
            None | Some(Endpoint::Silent) => {
                Ok(Checked { healthy: false, message: "status 500".into(), unasked: false })
            }
            Some(Endpoint::Answers) => {
                Ok(Checked { healthy: true, message: "status 200".into(), unasked: false })
            }
            Some(Endpoint::Unaskable) => {
                Ok(Checked { healthy: false, message: "could not be asked: no files".into(), unasked: true })
            }
        }
    }

    fn guide(&self) -> &Guide {
        &self.guide
    }

    fn rollouts(&self) -> &FakeRollouts {
        &self.rollouts
    }

    async fn down(&self, app: AppName, kill: bool, origin: Origin) -> Answer<Operation> {
        self.note(format!("{}: down {app}, kill {kill}", by(&origin)));
        Ok(operation(true))
    }

    async fn device(&self) -> Answer<device::State> {
        Ok(self.device.state())
    }

    async fn watch_device(&self) -> Answer<BoxStream<device::State>> {
        Ok(self.device.states())
    }

    async fn seek(&self, changes: device::Changes, origin: Origin) -> Answer<Vec<Operation>> {
        FakeDevice::words(&changes).for_each(|told| self.note(format!("{}: {told}", by(&origin))));
        self.device.reach(changes)
    }

    async fn stop_seeking(&self, origin: Origin) -> Answer<(Vec<Operation>, Vec<AppName>)> {
        self.note(format!("{}: stops seeking", by(&origin)));
        self.device.stop_seeking()
    }

    async fn queue(&self, request: device::Request, _: device::Changes, origin: Origin) -> Answer<()> {
        self.note(format!("{}: queues {}", by(&origin), request.what()));
        self.device.queue(&request, &origin.who)
    }

    async fn operation(&self, id: OperationId) -> Answer<Operation> {
        if id == OperationId(7) {
            return Ok(operation(true));
        }
        Err(Problem::new(ProblemKind::NotFound, format!("there is no operation {id}")))
    }

    async fn watch_operation(&self, _: OperationId) -> Answer<BoxStream<Operation>> {
        Ok(stream::iter([operation(true)]).boxed())
    }

    async fn why(&self, app: AppName, service: ServiceName) -> Answer<Why> {
        self.note(format!("why {app} {service}"));
        Ok(Why { chains: vec![Vec::new()], more: 0 })
    }

    async fn events(&self, wanted: EventFilter, after: u64, limit: usize) -> Answer<Vec<Event>> {
        self.note(format!("events of {} after {after}, at most {limit}", by_words(&wanted)));
        Ok(vec![event(after + 1)])
    }

    async fn watch_events(&self, wanted: EventFilter, after: u64) -> Answer<BoxStream<Answer<Event>>> {
        self.note(format!("watch events of {} after {after}", by_words(&wanted)));
        let told = self.events.lock().unwrap().take();
        Ok(told.unwrap_or_else(|| stream::iter([event(after + 1), event(after + 2)].map(Ok)).boxed()))
    }

    async fn stats(&self, app: AppName) -> Answer<Stats> {
        self.note(format!("stats of {app}"));
        Ok(stats(2))
    }

    async fn watch_stats(&self, app: AppName) -> Answer<BoxStream<Stats>> {
        self.note(format!("watch stats of {app}"));
        Ok(stream::iter([stats(1)]).boxed())
    }

    async fn starts(&self, app: AppName) -> Answer<Starts> {
        Ok(Starts { app, now: Mono(9), slots: Vec::new() })
    }

    async fn metrics(&self) -> Answer<Bytes> {
        Ok("# HELP up Is it.\n".into())
    }

    async fn logs(&self, app: AppName, query: LogQuery) -> Answer<BoxStream<Answer<LogLine>>> {
        self.note(format!("logs of {app}: {query:?}"));
        let told = self.lines.lock().unwrap().take();
        Ok(told.unwrap_or_else(|| stream::iter([Ok(line(1))]).boxed()))
    }

    async fn image(&self, name: ImageRef) -> Answer<ImageState> {
        self.note(format!("image {name}"));
        Ok(ImageState { id: (name.name() == "web").then(|| "sha256:1".into()) })
    }

    /// Of `web`; what is built for others goes wrong at its second step, or is never told an end of.
    async fn build(
        &self,
        wanted: ImageBuild,
        mut context: BoxStream<Result<Bytes, BoxError>>,
    ) -> Answer<BoxStream<Answer<BuildWord>>> {
        let mut bytes = 0;
        while let Some(part) = context.next().await {
            // As an engine says it.
            let broken = |_| Problem::new(ProblemKind::Unavailable, "the engine broke off");
            bytes += part.map_err(broken)?.len();
        }
        self.note(format!("build {} of {bytes} bytes", wanted.image));
        let first = BuildWord::Step { number: 1, of: 2, text: "FROM a".into() };
        let then = match wanted.service.as_str() {
            "web" => vec![Ok(BuildWord::Built { id: "sha256:1".into() })],
            "bad" => vec![Err(Problem::new(ProblemKind::BadRequest, "step 2 of 2, `RUN b`, failed"))],
            _ => return Ok(stream::iter([Ok(first)]).chain(stream::pending()).boxed()),
        };
        Ok(stream::iter([Ok(first)]).chain(stream::iter(then)).boxed())
    }

    async fn webhooks(&self) -> Answer<Vec<WebhookState>> {
        Ok(vec![webhook()])
    }

    async fn test_webhook(&self, webhook: WebhookName) -> Answer<WebhookTested> {
        self.note(format!("test {webhook}"));
        if webhook.as_str() != "ci" {
            return Err(Problem::new(ProblemKind::NotFound, format!("there is no webhook `{webhook}`")));
        }
        let (status, error, id) = (Some(500), Some("HTTP 500".into()), "x_test_1".into());
        Ok(WebhookTested { name: webhook, delivered: false, status, error, id, took_ms: 7 })
    }

    async fn tokens(&self) -> Answer<Vec<TokenInfo>> {
        Ok(vec![token(name("ci"), Role::Operator)])
    }

    async fn create_token(&self, new: NewToken, by: String) -> Answer<IssuedToken> {
        self.note(format!("{by}: create {} {}", new.role, new.name));
        Ok(IssuedToken { token: "upb_hush".into(), info: token(new.name, new.role) })
    }

    async fn revoke_token(&self, name: TokenName) -> Answer<()> {
        self.note(format!("revoke {name}"));
        Ok(())
    }

    async fn audit(&self, query: AuditQuery, limit: usize) -> Answer<Vec<AuditRecord>> {
        self.note(format!("{query:?}, at most {limit}"));
        Ok(Vec::new())
    }

    async fn verify_audit(&self) -> Answer<AuditVerdict> {
        Ok(AuditVerdict {
            good: 0,
            first: 0,
            head: AuditHead::none(),
            anchor: None,
            keyed: true,
            bad: None,
            unanswered: Vec::new(),
            notes: Vec::new(),
        })
    }
}
