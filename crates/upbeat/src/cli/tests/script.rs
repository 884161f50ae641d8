//! A daemon that tells what the test wants.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::{Notify, watch};
use upbeat_api::{
    Action, App, AppName, AppSummary, Asked, AuditHead, AuditQuery, AuditRecord, AuditVerdict, BuildWord,
    Event, EventFilter, EventKind, Exec, ImageBuild, ImageState, IssuedToken, LogLine, LogStream, Need,
    NewToken, Operation, OperationId, Plan, PlanQuery, Problem, ProblemKind, Refused, RemovedNetworks,
    RemovedVolumes, Role, ServiceName, SlotId, Starts, Stats, TokenInfo, TokenName, Up, Version, WebhookName,
    WebhookState, WebhookTested, Whom, Why, WhyLink, Wish,
};
use upbeat_model::plan::{After, Step, StepReason, Task};
use upbeat_model::project::container::ImageRef;
use upbeat_model::{
    Attempt, Edit, Exit, Origin, Phase, Service, SlotStatus, Wall, device, project::Condition,
};
use upbeat_server::compat::guide::{Guide, ServicesSettings, Surroundings};
use upbeat_server::{Answer, Backend, BoxError, BoxStream, Checked, LogQuery, Running};

use super::no_rollouts::NoRollouts;
use crate::face::examples::{self, NOW, ago, not_restarted, project, slot, status};

/// What the daemon would tell at one moment.
#[derive(Clone)]
struct Told {
    app: Option<App>,
    operation: Operation,
}

/// What it says when it is asked for more than states.
pub(super) struct Facts {
    pub(super) version: String,
    pub(super) apps: Vec<AppSummary>,
    pub(super) plan: Plan,
    pub(super) why: Why,
    pub(super) events: Vec<Event>,
    pub(super) stats: Stats,
    pub(super) starts: Starts,
    pub(super) tokens: Vec<TokenInfo>,
    pub(super) webhooks: Vec<WebhookState>,
    pub(super) records: Vec<AuditRecord>,
    pub(super) verdict: AuditVerdict,
    pub(super) networks: RemovedNetworks,
    /// Its answer to everything that is no question after states.
    pub(super) refusal: Option<Problem>,
}

pub(super) type Slots = Vec<(SlotStatus, Wish)>;
type Then = dyn Fn(&Script, &str) + Send + Sync;

#[derive(Clone)]
pub(super) struct Script {
    now: Arc<watch::Sender<Told>>,
    lines: Arc<Mutex<Vec<LogLine>>>,
    pub(super) asked: Arc<Mutex<Vec<String>>>,
    facts: Arc<Mutex<Facts>>,
    /// Somebody began to watch the app.
    pub(super) watched: Arc<Notify>,
    /// At the next look at the app this is seen, and the moment after it the other.
    pub(super) at_a_look: Arc<Mutex<Option<[Slots; 2]>>>,
    /// What becomes of the app when something is asked.
    then: Arc<Then>,
    /// What begins so is heard and never answered.
    pub(super) unanswered: Arc<Mutex<Vec<&'static str>>>,
    pub(super) rollouts: NoRollouts,
    /// Somebody waits for such an answer.
    pub(super) is_waited_for: Arc<AtomicBool>,
}

fn app(slots: Vec<SlotStatus>) -> App {
    App { name: AppName::new("shop").unwrap(), release: 1, project: project(), slots }
}

fn operation(slots: &[(SlotId, Wish)]) -> Operation {
    Operation {
        id: OperationId(4),
        app: AppName::new("shop").unwrap(),
        what: "up".into(),
        who: "uid 1000".into(),
        at: NOW,
        slots: slots.iter().cloned().collect(),
        ended: slots.iter().all(|(_, wish)| *wish != Wish::Pending),
    }
}

impl Script {
    pub(super) fn new(then: impl Fn(&Script, &str) + Send + Sync + 'static) -> Self {
        let told = Told { app: None, operation: operation(&[]) };
        let now = Arc::new(watch::Sender::new(told));
        Self {
            now,
            lines: Arc::default(),
            asked: Arc::default(),
            facts: Arc::new(Mutex::new(Facts {
                version: env!("CARGO_PKG_VERSION").into(),
                apps: Vec::new(),
                plan: Plan { unchanged: 3, ..Plan::default() },
                why: Why::default(),
                events: Vec::new(),
                stats: Stats { at: NOW, slots: Vec::new() },
                starts: examples::starts(),
                tokens: Vec::new(),
                webhooks: Vec::new(),
                records: Vec::new(),
                verdict: AuditVerdict {
                    good: 0,
                    first: 0,
                    head: AuditHead::none(),
                    anchor: None,
                    keyed: true,
                    bad: None,
                    unanswered: Vec::new(),
                    notes: Vec::new(),
                },
                networks: RemovedNetworks::default(),
                refusal: None,
            })),
            watched: Arc::default(),
            at_a_look: Arc::default(),
            then: Arc::new(then),
            unanswered: Arc::default(),
            rollouts: NoRollouts::default(),
            is_waited_for: Arc::default(),
        }
    }

    /// Of an app that nobody changes.
    pub(super) fn of(slots: Vec<SlotStatus>) -> Self {
        let script = Self::new(|_, _| {});
        script.tell(slots.into_iter().map(|status| (status, Wish::Reached)).collect());
        script
    }

    /// With other facts.
    pub(super) fn with(self, change: impl FnOnce(&mut Facts)) -> Self {
        change(&mut self.facts.lock().unwrap());
        self
    }

    /// An app of a device document, with nothing done yet where there is no other word for it.
    fn document(&self) -> device::State {
        let apps = self.now.borrow().app.clone().map(|app| {
            let goals = app.slots.iter().map(|slot| (slot.slot.clone(), (slot.goal, app.release)));
            let held = device::Held {
                goals: goals.collect(),
                declared: Default::default(),
                is_leaving: false,
                stamp: String::new(),
                standing: device::Standing::Aborted,
                app: app.clone(),
            };
            (app.name, held)
        });
        device::State {
            name: "d0".to_owned(),
            uuid: "u0".to_owned(),
            keys: Default::default(),
            apps: apps.into_iter().collect(),
            queued: None,
        }
    }

    fn fact<T>(&self, pick: impl FnOnce(&Facts) -> T) -> Answer<T> {
        let facts = self.facts.lock().unwrap();
        facts.refusal.clone().map_or_else(|| Ok(pick(&facts)), Err)
    }

    pub(super) fn tell(&self, slots: Slots) {
        let wishes: Vec<(SlotId, Wish)> = slots.iter().map(|(s, w)| (s.slot.clone(), w.clone())).collect();
        let slots = slots.into_iter().map(|(s, _)| s).collect();
        self.now.send_replace(Told { app: Some(app(slots)), operation: operation(&wishes) });
    }

    /// The app is taken down.
    pub(super) fn forget(&self) {
        self.now.send_modify(|told| told.app = None);
    }

    pub(super) fn say(&self, short: &str, text: &str) {
        let mut lines = self.lines.lock().unwrap();
        let (slot, sequence) = (slot(short), lines.len() as u64 + 1);
        lines.push(LogLine { slot, sequence, at_ns: 1, stream: LogStream::Stdout, text: text.into() });
    }

    async fn answered(&self, what: &str) {
        let is_unanswered = self.unanswered.lock().unwrap().iter().any(|begin| what.starts_with(begin));
        if is_unanswered {
            self.is_waited_for.store(true, Ordering::Relaxed);
            std::future::pending().await
        }
    }

    async fn ask(&self, what: String) -> Answer<Operation> {
        self.asked.lock().unwrap().push(what.clone());
        self.fact(|_| ())?;
        (self.then)(self, &what);
        self.answered(&what).await;
        Ok(self.now.borrow().operation.clone())
    }

    fn changes<T: Send + 'static>(&self, pick: fn(&Told) -> Option<T>) -> BoxStream<T> {
        let receiver = self.now.subscribe();
        stream::unfold((receiver, true), move |(mut receiver, first)| async move {
            if !first {
                receiver.changed().await.ok()?;
            }
            let picked = pick(&receiver.borrow_and_update())?;
            Some((picked, (receiver, false)))
        })
        .boxed()
    }
}

fn absent() -> Problem {
    Problem::new(ProblemKind::NotFound, "there is no app `shop`")
}

/// Of no command so far.
static GUIDE: LazyLock<Guide> = LazyLock::new(|| {
    Guide::new(Surroundings {
        settings: ServicesSettings::default(),
        nu_path: "nu".to_owned(),
        provisioning_path: String::new(),
        working_dir: "/".to_owned(),
        base_environment: Default::default(),
        health_timeout: Surroundings::HEALTH_TIMEOUT,
    })
});

impl Backend for Script {
    type Ticket = ();
    type Rollouts = NoRollouts;

    async fn authenticate(&self, _: &str) -> Answer<(TokenName, Role)> {
        Err(Problem::new(ProblemKind::Unauthorized, "nobody comes from afar"))
    }

    async fn asked(&self, _: Asked, _: Need) -> Answer<()> {
        Ok(())
    }

    async fn answered(&self, (): (), _: u16, _: Option<OperationId>) {}

    fn refused(&self, _: Refused, _: Whom) {}

    async fn image(&self, name: ImageRef) -> Answer<ImageState> {
        self.asked.lock().unwrap().push(format!("image {name}"));
        self.fact(|_| ImageState { id: None })
    }

    /// At its second step `bad` fails.
    async fn build(
        &self,
        wanted: ImageBuild,
        mut context: BoxStream<Result<Bytes, BoxError>>,
    ) -> Answer<BoxStream<Answer<BuildWord>>> {
        let mut bytes = 0;
        while let Some(part) = context.next().await {
            bytes += part.map_err(|error| Problem::new(ProblemKind::BadRequest, error.to_string()))?.len();
        }
        let build = serde_json::to_string(&wanted.build).unwrap();
        let blocks = bytes / 512;
        self.asked.lock().unwrap().push(format!("build {} of {blocks} blocks: {build}", wanted.image));
        self.fact(|_| ())?;
        let step = |number, text: &str| BuildWord::Step { number, of: 2, text: text.into() };
        let output = |text: String| BuildWord::Output { text };
        let mut words = vec![Ok(step(1, "FROM busybox")), Ok(step(2, "RUN make \u{1b}[2J"))];
        words.extend((1..=12).map(|n| Ok(output(format!("line {n} \u{1b}[2J")))));
        words.push(match wanted.service.as_str() {
            "bad" => Err(Problem::new(ProblemKind::BadRequest, "step 2 of 2, `RUN make`, failed: it said 2")),
            _ => Ok(BuildWord::Built { id: format!("sha256:{}", "0123456789abcdef".repeat(4)) }),
        });
        Ok(stream::iter(words).boxed())
    }

    async fn webhooks(&self) -> Answer<Vec<WebhookState>> {
        self.fact(|facts| facts.webhooks.clone())
    }

    async fn test_webhook(&self, name: WebhookName) -> Answer<WebhookTested> {
        self.asked.lock().unwrap().push(format!("test {name}"));
        let delivered = name.as_str() == "ci";
        let (status, error) =
            if delivered { (Some(204), None) } else { (None, Some("timed out after 10s".into())) };
        let id = "0123456789abcdef_test_0000000000000001".to_owned();
        self.fact(|_| WebhookTested { name, delivered, status, error, id, took_ms: 12 })
    }

    async fn device(&self) -> Answer<device::State> {
        Ok(self.document())
    }

    async fn watch_device(&self) -> Answer<BoxStream<device::State>> {
        Ok(stream::iter([self.document()]).boxed())
    }

    async fn seek(&self, changes: device::Changes, _: Origin) -> Answer<Vec<Operation>> {
        let begun = |change: device::Change| {
            self.asked.lock().unwrap().push(format!("seek {}", change.app));
            Operation {
                id: OperationId(9),
                app: change.app,
                what: "release r0".to_owned(),
                who: "uid 1000".to_owned(),
                at: NOW,
                slots: Default::default(),
                ended: false,
            }
        };
        Ok(changes.apps.into_iter().map(begun).collect())
    }

    async fn stop_seeking(&self, _: Origin) -> Answer<(Vec<Operation>, Vec<AppName>)> {
        self.asked.lock().unwrap().push("stop seeking".to_owned());
        Ok((Vec::new(), Vec::new()))
    }

    async fn queue(&self, request: device::Request, _: device::Changes, _: Origin) -> Answer<()> {
        self.asked.lock().unwrap().push(format!("queue {}", request.what()));
        Ok(())
    }

    async fn tokens(&self) -> Answer<Vec<TokenInfo>> {
        self.fact(|facts| facts.tokens.clone())
    }

    async fn create_token(&self, new: NewToken, by: String) -> Answer<IssuedToken> {
        let NewToken { name, role, expires_in_s } = new;
        let expires_at = expires_in_s.map(|s| Wall(NOW.0 + 1_000 * s as i64));
        let info = TokenInfo { name, role, created_at: NOW, created_by: by, expires_at, expired: false };
        self.fact(|_| IssuedToken { token: "upb_0123".into(), info })
    }

    async fn revoke_token(&self, name: TokenName) -> Answer<()> {
        self.asked.lock().unwrap().push(format!("revoke {name}"));
        self.fact(|_| ())
    }

    async fn audit(&self, query: AuditQuery, limit: usize) -> Answer<Vec<AuditRecord>> {
        let since = query.since.unwrap_or(Wall(0));
        let wanted = |record: &&AuditRecord| record.sequence > query.after && record.at >= since;
        self.fact(|facts| facts.records.iter().filter(wanted).take(limit).cloned().collect())
    }

    async fn verify_audit(&self) -> Answer<AuditVerdict> {
        self.fact(|facts| facts.verdict.clone())
    }

    async fn edit(&self, _: AppName, _: Edit, _: Origin) -> Answer<Operation> {
        Err(Problem::new(ProblemKind::BadRequest, "the command line registers nothing"))
    }

    async fn exec(&self, _: AppName, _: ServiceName, _: Exec) -> Answer<Running> {
        Err(Problem::new(ProblemKind::Conflict, "web-1 does not run: it is stopped"))
    }

    async fn attach(&self, _: AppName, _: ServiceName, _: upbeat_api::Attach) -> Answer<Running> {
        Err(Problem::new(ProblemKind::BadRequest, "web-1 is a process, and only containers are attached to"))
    }

    async fn check(&self, _: SlotId, _: Arc<Service>) -> Answer<Checked> {
        Err(Problem::new(ProblemKind::BadRequest, "the command line asks no service"))
    }

    fn guide(&self) -> &Guide {
        &GUIDE
    }

    fn rollouts(&self) -> &NoRollouts {
        &self.rollouts
    }

    fn version(&self) -> Version {
        Version { version: self.facts.lock().unwrap().version.clone(), pid: 42, started_at: ago(7_200) }
    }
    async fn apps(&self) -> Answer<Vec<AppSummary>> {
        self.fact(|facts| facts.apps.clone())
    }
    async fn app(&self, _: AppName) -> Answer<App> {
        self.answered("look").await;
        let moment = self.at_a_look.lock().unwrap().take();
        if let Some([seen, after]) = moment {
            self.tell(seen);
            let app = self.now.borrow().app.clone();
            self.tell(after);
            return app.ok_or_else(absent);
        }
        self.now.borrow().app.clone().ok_or_else(absent)
    }
    async fn watch(&self, _: AppName) -> Answer<BoxStream<App>> {
        self.watched.notify_one();
        Ok(self.changes(|told| told.app.clone()))
    }
    async fn up(&self, app: AppName, up: Up, _: Origin) -> Answer<Operation> {
        let services: Vec<&str> = up.services.iter().map(ServiceName::as_str).collect();
        self.ask(format!("up {app} [{}]", services.join(" "))).await
    }
    async fn remove_volumes(&self, _: AppName) -> Answer<RemovedVolumes> {
        Ok(RemovedVolumes::default())
    }
    async fn remove_networks(&self, _: AppName) -> Answer<RemovedNetworks> {
        self.fact(|facts| facts.networks.clone())
    }
    async fn plan(&self, _: AppName, _: Up, _: PlanQuery) -> Answer<Plan> {
        self.fact(|facts| facts.plan.clone())
    }
    async fn act(&self, _: AppName, action: Action, _: Origin) -> Answer<Operation> {
        self.ask(serde_json::to_string(&action).unwrap()).await
    }
    async fn down(&self, _: AppName, kill: bool, _: Origin) -> Answer<Operation> {
        self.ask(format!("down {kill}")).await
    }
    async fn operation(&self, _: OperationId) -> Answer<Operation> {
        Ok(self.now.borrow().operation.clone())
    }
    async fn watch_operation(&self, _: OperationId) -> Answer<BoxStream<Operation>> {
        let told = self.changes(|told| Some(told.operation.clone()));
        Ok(told
            .scan(false, |ended, o| {
                let item = (!*ended).then_some(o);
                *ended = item.as_ref().is_some_and(|o| o.ended);
                std::future::ready(item)
            })
            .boxed())
    }
    async fn why(&self, _: AppName, _: ServiceName) -> Answer<Why> {
        self.fact(|facts| facts.why.clone())
    }
    async fn events(&self, wanted: EventFilter, after: u64, _: usize) -> Answer<Vec<Event>> {
        let asked = |e: &&Event| e.sequence > after && wanted.takes(e);
        self.fact(|facts| facts.events.iter().filter(asked).cloned().collect())
    }
    async fn watch_events(&self, wanted: EventFilter, after: u64) -> Answer<BoxStream<Answer<Event>>> {
        Ok(stream::iter(self.events(wanted, after, 0).await?).map(Ok).boxed())
    }
    async fn stats(&self, _: AppName) -> Answer<Stats> {
        self.fact(|facts| facts.stats.clone())
    }
    async fn watch_stats(&self, app: AppName) -> Answer<BoxStream<Stats>> {
        let stats = self.stats(app).await?;
        Ok(stream::iter([stats.clone(), stats]).boxed())
    }
    async fn starts(&self, _: AppName) -> Answer<Starts> {
        self.fact(|facts| facts.starts.clone())
    }
    async fn metrics(&self) -> Answer<Bytes> {
        Ok(Bytes::new())
    }
    async fn logs(&self, _: AppName, query: LogQuery) -> Answer<BoxStream<Answer<LogLine>>> {
        let lines = self.lines.lock().unwrap().clone();
        let wanted = move |l: &LogLine| query.services.is_empty() || query.services.contains(&l.slot.service);
        let lines = stream::iter(lines.into_iter().filter(wanted).map(Ok).collect::<Vec<_>>());
        Ok(if query.follow { lines.chain(stream::pending()).boxed() } else { lines.boxed() })
    }
}

/// db fails, and web with it.
pub(super) fn db_fails(script: &Script, _: &str) {
    let failed = Wish::Failed { reasons: vec![not_restarted()] };
    script.say("db-1", "panic: no disk");
    script.tell(vec![
        (SlotStatus { reasons: vec![not_restarted()], ..status("db-1", Phase::Failed) }, failed),
        (status("web-1", Phase::Running), Wish::Reached),
    ]);
}

pub(super) fn both(phase: Phase, wish: Wish) -> Slots {
    ["db-1", "web-1"].map(|short| (status(short, phase), wish.clone())).to_vec()
}

/// An app in which something is in every phase.
pub(super) fn every_phase() -> Script {
    Script::of(examples::every_phase()).with(|facts| {
        facts.apps = vec![summary("blog", 2, 1), summary("shop", 3, 3)];
        facts.plan = plan();
        facts.why = why();
        facts.events = events();
        facts.stats = examples::stats();
    })
}

pub(super) fn summary(name: &str, wanted: u32, ready: u32) -> AppSummary {
    AppSummary { name: AppName::new(name).unwrap(), release: 2, wanted, ready }
}

fn plan() -> Plan {
    let step = |number, task: Task, reason, after| {
        let (goal, undo) = (task.goal(), task.undo());
        Step { number, level: number - 1, task, goal, reason, after, undo, interrupts: number > 1 }
    };
    let start = Task::Start { slot: slot("db-1"), container: None, release: None, temporary: false };
    let healthy = After { step: 1, condition: Some(Condition::Healthy) };
    let changed = StepReason::Changed { fields: vec!["command".into()] };
    Plan {
        steps: vec![
            step(1, start, StepReason::New, vec![]),
            step(2, Task::Replace { slot: slot("web-1") }, changed, vec![healthy]),
            step(3, Task::Remove { slot: slot("old-1") }, StepReason::NotDeclared, vec![]),
        ],
        unchanged: 1,
        ..Plan::default()
    }
}

fn why() -> Why {
    let link = |short, phase, reason, last: &[&str]| WhyLink {
        last_lines: last.iter().map(|line| (*line).to_owned()).collect(),
        ..WhyLink::from(SlotStatus { reasons: vec![reason], ..status(short, phase) })
    };
    let db = link("db-1", Phase::BackingOff, examples::backs_off(), &["no disk"]);
    Why { chains: vec![vec![link("web-1", Phase::Waiting, examples::waits_for_db(), &[]), db]], more: 0 }
}

fn events() -> Vec<Event> {
    let operation = OperationId(4);
    let failed = EventKind::Phase {
        slot: slot("db-1"),
        from: Phase::Running,
        to: Phase::Failed,
        attempt: Attempt(1),
        pid: None,
        exit: Some(Exit::Code(1)),
        reasons: vec![not_restarted()],
    };
    let other = EventKind::Adopted { slot: slot("web-1"), attempt: Attempt(2), pid: 4711 };
    let kinds = [
        ("shop", EventKind::OperationStarted { operation, what: "up".into(), who: "uid 1000".into() }),
        ("shop", failed),
        ("blog", other),
        ("shop", EventKind::OperationEnded { operation, outcome: "failed: db-1".into() }),
    ];
    let event = |(app, kind), sequence| Event { sequence, at: NOW, app: AppName::new(app).ok(), kind };
    kinds.into_iter().zip(1..).map(|(kind, sequence)| event(kind, sequence)).collect()
}
