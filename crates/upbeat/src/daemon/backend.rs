//! What requests ask of this daemon: control for wishes and statuses, log files for output.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::watch;
use tokio::time::Instant;
use upbeat_agent::Meter;
use upbeat_control::audit::Ticket;
use upbeat_control::webhooks::Webhooks;
use upbeat_control::{Control, ControlError};
use upbeat_drivers::cgroups::{Capabilities, Lack};
use upbeat_drivers::clock;
use upbeat_drivers::probe::{self, Prober, Verdict};
use upbeat_drivers::process::{ProcessDriver, chain};
use upbeat_drivers::rights::OfThisMachine;
use upbeat_drivers::watch::Watches;
use upbeat_model::file::validate;
use upbeat_model::rights::{Accounts, DaemonRights};
use upbeat_model::{
    Action, App, AppName, AppSummary, Attempt, Edit, Event, EventFilter, LogLine, Operation, OperationId,
    Origin, Plan, ProbeName, Service, ServiceName, SlotId, Starts, Stats, Wall, Why,
};
use upbeat_server::compat::guide::Guide;
use upbeat_server::{Answer, Backend, BoxStream, Checked, LogQuery};
use upbeat_store::StoreError;

use super::access::Access;
use super::rollouts::LocalRollouts;
use super::seeing::Seeing;
use super::{events, logs, webhooks, why};
use upbeat_api::{
    Asked, AuditQuery, AuditRecord, AuditVerdict, IssuedToken, Need, NewToken, Problem, ProblemKind, Refused,
    Role, TokenInfo, TokenName, Up, Version, WebhookName, WebhookState, WebhookTested, Whom,
};

/// The daemon's own answers.
#[derive(Clone)]
pub(crate) struct LocalBackend {
    control: Control,
    driver: ProcessDriver,
    watches: Watches,
    seeing: Seeing,
    access: Access,
    prober: Prober,
    guide: Guide,
    rollouts: LocalRollouts,
    webhooks: Webhooks,
    started_at: Wall,
}

impl LocalBackend {
    pub(super) fn new(
        control: Control,
        driver: ProcessDriver,
        watches: Watches,
        access: Access,
        guide: Guide,
        (rollouts, webhooks): (LocalRollouts, Webhooks),
        meter: Arc<Meter>,
    ) -> Self {
        let started_at = clock::wall();
        let prober = Prober::new(driver.clone());
        let seeing = Seeing::new(control.clone(), rollouts.clone(), &driver, meter, started_at);
        Self { control, driver, watches, seeing, access, prober, guide, rollouts, webhooks, started_at }
    }

    /// What this daemon can give to what it starts.
    pub(super) fn rights(&self) -> DaemonRights {
        self.driver.rights()
    }

    /// Whether this daemon can run these services as they are to be run.
    fn judge<'a>(&self, up: impl IntoIterator<Item = (&'a ServiceName, &'a Service)>) -> Answer<()> {
        refuse_beyond_rights(up, &self.rights(), &OfThisMachine)
    }

    /// Until every slot there was before was seen.
    pub(super) async fn looked(&self) {
        self.control.looked().await;
    }
}

/// Control's words, with the status code and the remedy that belong to them.
fn problem(error: &ControlError) -> Problem {
    let text = chain(error);
    match error {
        ControlError::NoSuchApp(_) => {
            Problem::new(ProblemKind::NotFound, text).with_hint("`upbeat apps` lists what there is")
        }
        ControlError::NoSuchService { known, .. } => {
            let names: Vec<&str> = known.iter().take(20).map(ServiceName::as_str).collect();
            Problem::new(ProblemKind::NotFound, text).with_hint(format!("it has {}", names.join(", ")))
        }
        ControlError::NoSuchOperation(_) => Problem::new(ProblemKind::NotFound, text)
            .with_hint("the last few hundred are remembered; `upbeat events` tells how older ones ended"),
        ControlError::OtherRequest { .. } => Problem::new(ProblemKind::Conflict, text)
            .with_hint("give each change a key of its own, and the same one only when it is sent again"),
        ControlError::Refused(_) => Problem::new(ProblemKind::BadRequest, text),
        ControlError::Unsure(_) => Problem::new(ProblemKind::Unavailable, text)
            .with_hint("once the daemon can read its state again, `upbeat ps` shows what is in force"),
        ControlError::Store(
            StoreError::ValueTooLarge { .. }
            | StoreError::RequestTooLarge { .. }
            | StoreError::TooManyOps { .. },
        ) => Problem::new(ProblemKind::BadRequest, text)
            .with_hint("nothing was changed; a project with less in it can be stored"),
        ControlError::Store(StoreError::Io(_)) => Problem::new(ProblemKind::Unavailable, text)
            .with_hint("nothing was changed; make room on the disk that holds the daemon's state"),
        ControlError::Store(_) => {
            Problem::new(ProblemKind::Unavailable, text).with_hint("nothing was changed")
        }
    }
}

pub(super) fn unreadable(what: &str, error: &dyn std::error::Error) -> Problem {
    Problem::new(ProblemKind::Internal, format!("{what} cannot be read: {error}"))
}

fn refuse_bad(up: &Up) -> Answer<()> {
    validate(&up.project).map_err(|mistakes| {
        Problem::new(ProblemKind::BadRequest, format!("the project makes no sense: {}", mistakes.join("; ")))
    })
}

/// So many things that cannot be had are named of a project: they have few reasons.
const LACKS_SHOWN: usize = 10;

/// What is lacking, in one line.
fn listed(mut lacks: Vec<String>) -> String {
    let more = lacks.len().saturating_sub(LACKS_SHOWN);
    lacks.truncate(LACKS_SHOWN);
    if more > 0 {
        lacks.push(format!("and {more} more"));
    }
    lacks.join("; ")
}

/// What the machine cannot limit is refused beforehand, and not found out by every start.
fn refuse_unlimited(up: &Up, look: impl FnOnce() -> Capabilities) -> Answer<()> {
    // What a container is limited to, its engine keeps, or refuses.
    let is_limited = |service: &Service| service.container.is_none() && !service.resources.is_unlimited();
    let limited: Vec<_> = up.project.services.iter().filter(|(_, service)| is_limited(service)).collect();
    if limited.is_empty() {
        return Ok(());
    }
    let capabilities = look();
    let lacks = limited.into_iter().flat_map(|(name, service)| {
        let lacks = capabilities.lacks(&service.resources).into_iter();
        lacks.map(move |Lack { key, why }| format!("`services.{name}.{key}`: {why}"))
    });
    let lacks: Vec<String> = lacks.collect();
    if lacks.is_empty() {
        return Ok(());
    }
    let message = format!("limits of the project cannot be kept: {}", listed(lacks));
    Err(Problem::new(ProblemKind::BadRequest, message)
        .with_hint("nothing was changed; take them out, or run the project where they can be kept"))
}

/// The same of what this daemon has no right to give.
fn refuse_beyond_rights<'a>(
    services: impl IntoIterator<Item = (&'a ServiceName, &'a Service)>,
    rights: &DaemonRights,
    accounts: &impl Accounts,
) -> Answer<()> {
    let lacks = rights.lacks(services, accounts);
    if lacks.is_empty() {
        return Ok(());
    }
    let lacks = lacks.into_iter().map(|lack| format!("`services.{}`: {}", lack.key, lack.why)).collect();
    let message = format!("the daemon has no right to what the project asks for: {}", listed(lacks));
    Err(Problem::new(ProblemKind::BadRequest, message)
        .with_hint("nothing was changed; run the daemon as root, or take it out"))
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
        refuse_bad(&up)?;
        refuse_unlimited(&up, || self.driver.capabilities())?;
        self.judge(&up.project.services)?;
        self.control.up(up.project, &up.services, origin).await.map_err(|error| problem(&error))
    }

    async fn plan(&self, _app: AppName, up: Up) -> Answer<Plan> {
        refuse_bad(&up)?;
        refuse_unlimited(&up, || self.driver.capabilities())?;
        self.judge(&up.project.services)?;
        self.control.plan(up.project, &up.services).map_err(|error| problem(&error))
    }

    async fn act(&self, app: AppName, action: Action, origin: Origin) -> Answer<Operation> {
        self.control.act(&app, &action, origin).await.map_err(|error| problem(&error))
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

    async fn webhooks(&self) -> Answer<Vec<WebhookState>> {
        webhooks::list(&self.webhooks).await
    }

    async fn test_webhook(&self, name: WebhookName) -> Answer<WebhookTested> {
        webhooks::test(&self.webhooks, &name).await
    }

    async fn down(&self, app: AppName, kill: bool, origin: Origin) -> Answer<Operation> {
        self.control.down(&app, kill, origin).await.map_err(|error| problem(&error))
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
        Ok(why::explain(&service, &found.slots, &self.driver).await)
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
            driver: self.driver.clone(),
            watches: self.watches.clone(),
        };
        logs::stream(sources, app, query).map_err(|error| unreadable("the logs", &error))
    }
}

/// A client is not told more often: a person sees no more, and an app of a thousand slots takes
/// milliseconds to be written down.
const PACE: Duration = Duration::from_millis(50);

/// What something is now, and again after changes, as far as it looks different; ends with it. Told
/// at its own pace, but at once what `is_last`.
fn whenever<T: PartialEq + Clone + Send + 'static>(
    mut changes: watch::Receiver<u64>,
    look: impl FnMut() -> Option<T> + Send + 'static,
    is_last: fn(&T) -> bool,
) -> BoxStream<T> {
    changes.mark_changed();
    let begun = (changes, look, None::<(T, Instant)>);
    Box::pin(stream::unfold(begun, move |(mut changes, mut look, told)| async move {
        if told.as_ref().is_some_and(|(told, _)| is_last(told)) {
            return None;
        }
        loop {
            changes.changed().await.ok()?;
            let mut now = look()?;
            if let Some((_, at)) = &told
                && !is_last(&now)
            {
                tokio::time::sleep_until(*at + PACE).await;
                changes.mark_unchanged();
                now = look()?;
            }
            if told.as_ref().is_none_or(|(told, _)| *told != now) {
                return Some((now.clone(), (changes, look, Some((now, Instant::now())))));
            }
        }
    }))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::{Paint, error};
    use crate::failure::Failure;
    use upbeat_control::Settings;
    use upbeat_model::Project;

    fn shown(problem: Problem) -> String {
        let failure = Failure::from(problem);
        format!("{:?}\n{}", failure.exit, error::text(&failure, Paint::Plain))
    }

    #[test]
    fn what_control_refuses_is_told_with_a_remedy() {
        let (app, service) = (AppName::new("shop").unwrap(), ServiceName::new("wbe").unwrap());
        let known = vec![ServiceName::new("db").unwrap(), ServiceName::new("web").unwrap()];
        let full = StoreError::Io("No space left on device (os error 28)".into());
        let large = [
            StoreError::RequestTooLarge { size: 2_000, max: 1_000 },
            StoreError::ValueTooLarge { key: "app/shop".into(), size: 2_000, max: 1_000 },
            StoreError::TooManyOps { count: 20, max: 10 },
        ];
        let errors = [
            ControlError::NoSuchApp(app.clone()),
            ControlError::OtherRequest { id: OperationId(7), what: "up".into(), app: app.clone() },
            ControlError::NoSuchService { app, service, known },
            ControlError::NoSuchOperation(OperationId(7)),
            ControlError::Refused("`web=9999` is too many: a service has at most 1000 copies".into()),
            ControlError::Unsure(StoreError::Unknown("Input/output error (os error 5)".into())),
            ControlError::Store(full),
            ControlError::Store(StoreError::Stopped),
        ];
        for refused in errors {
            let told = shown(problem(&refused));
            match refused {
                ControlError::NoSuchApp(_) => insta::assert_snapshot!(told, @"
                NotFound
                error: There is no app `shop`
                hint: `upbeat apps` lists what there is
                "),
                ControlError::NoSuchService { .. } => insta::assert_snapshot!(told, @"
                NotFound
                error: App `shop` has no service `wbe`
                hint: it has db, web
                "),
                ControlError::NoSuchOperation(_) => insta::assert_snapshot!(told, @"
                NotFound
                error: Operation 7 is not remembered
                hint: the last few hundred are remembered; `upbeat events` tells how older ones ended
                "),
                ControlError::OtherRequest { .. } => insta::assert_snapshot!(told, @"
                Conflict
                error: The idempotency key belongs to operation 7, `up` of `shop`
                hint: give each change a key of its own, and the same one only when it is sent again
                "),
                ControlError::Refused(_) => insta::assert_snapshot!(told, @"
                Usage
                error: `web=9999` is too many: a service has at most 1000 copies
                "),
                ControlError::Unsure(_) => insta::assert_snapshot!(told, @"
                Failed
                error: It is not known whether the change was stored: the store cannot tell what it has kept: Input/output error (os error 5)
                hint: once the daemon can read its state again, `upbeat ps` shows what is in force
                "),
                ControlError::Store(StoreError::Io(_)) => insta::assert_snapshot!(told, @"
                Failed
                error: The change could not be stored: the store cannot use its file: No space left on device (os error 28)
                hint: nothing was changed; make room on the disk that holds the daemon's state
                "),
                ControlError::Store(_) => insta::assert_snapshot!(told, @"
                Failed
                error: The change could not be stored: the store has stopped
                hint: nothing was changed
                "),
            }
        }
        let told = large.map(|error| shown(problem(&ControlError::Store(error)))).concat();
        insta::assert_snapshot!(told, @"
        Usage
        error: The change could not be stored: a request of 2000 bytes is larger than the limit of 1000
        hint: nothing was changed; a project with less in it can be stored
        Usage
        error: The change could not be stored: the value of `app/shop` has 2000 bytes, more than the limit of 1000
        hint: nothing was changed; a project with less in it can be stored
        Usage
        error: The change could not be stored: a transaction of 20 operations is larger than the limit of 10
        hint: nothing was changed; a project with less in it can be stored
        ");
    }

    #[test]
    fn what_cannot_be_read_was_not_to_be_changed() {
        insta::assert_snapshot!(shown(unreadable("the events", &StoreError::Stopped)), @"
        Failed
        error: The events cannot be read: the store has stopped
        ");
    }

    fn shop(services: &serde_json::Value) -> Project {
        let project = serde_json::json!({ "name": "shop", "services": services, "base_environment": {} });
        serde_json::from_value(project).unwrap()
    }

    #[test]
    fn a_project_that_no_file_could_have_declared_is_refused() {
        let up = Up { project: shop(&serde_json::json!({})), services: vec![] };
        insta::assert_snapshot!(shown(refuse_bad(&up).unwrap_err()), @"
        Usage
        error: The project makes no sense: the project has no service
        ");
    }

    #[test]
    fn limits_that_the_machine_cannot_keep_are_refused_by_their_keys() {
        let nowhere = || Capabilities::look(std::path::Path::new("/nonexistent"));
        let service =
            |resources| serde_json::json!({ "command": ["x"], "working_dir": "/", "resources": resources });
        let refused = |services: &serde_json::Value| {
            refuse_unlimited(&Up { project: shop(services), services: vec![] }, nowhere)
        };
        let services = serde_json::json!({
            "db": service(serde_json::json!({})),
            "web": service(serde_json::json!({ "memory": 1 << 20, "pids": 9 })),
        });
        insta::assert_snapshot!(shown(refused(&services).unwrap_err()), @"
        Usage
        error: Limits of the project cannot be kept: `services.web.mem_limit`: this machine has no cgroups of version 2; `services.web.pids_limit`: this machine has no cgroups of version 2
        hint: nothing was changed; take them out, or run the project where they can be kept
        ");
        assert!(refused(&serde_json::json!({ "db": service(serde_json::json!({})) })).is_ok());
        let many: serde_json::Map<_, _> = (1..=9)
            .map(|n| (format!("s{n}"), service(serde_json::json!({ "cpus": 1, "memory": 1 }))))
            .collect();
        let told = shown(refused(&many.into()).unwrap_err());
        assert!(told.contains("`services.s5.mem_limit`") && told.contains("; and 8 more"), "{told}");
        assert!(!told.contains("`services.s6"), "{told}");
    }

    #[test]
    fn what_the_daemon_has_no_right_to_is_refused_by_its_key() {
        struct Nobody;
        impl Accounts for Nobody {
            fn user(&self, _: &str) -> Option<(u32, u32)> {
                Some((7, 7))
            }
            fn group(&self, _: &str) -> Option<u32> {
                None
            }
        }
        let rights = DaemonRights {
            uid: 1000,
            gid: 1000,
            groups: [].into(),
            becomes_others: false,
            joins_groups: false,
            score: Some(0),
            ulimits: [].into(),
        };
        let project = |web: serde_json::Value| shop(&serde_json::json!({ "web": web }));
        let asked = project(serde_json::json!({ "command": ["x"], "working_dir": "/", "user": "db" }));
        let refused = refuse_beyond_rights(&asked.services, &rights, &Nobody).unwrap_err();
        insta::assert_snapshot!(shown(refused), @"
        Usage
        error: The daemon has no right to what the project asks for: `services.web.user`: `db` is user 7, and the daemon runs as user 1000
        hint: nothing was changed; run the daemon as root, or take it out
        ");
        let fine = project(serde_json::json!({ "command": ["x"], "working_dir": "/" }));
        assert!(refuse_beyond_rights(&fine.services, &rights, &Nobody).is_ok());
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
