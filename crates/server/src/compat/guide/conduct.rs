//! The guide's operations, each in terms of what a [`Backend`] can be asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tokio::time::Instant;
use upbeat_api::{LogQuery, ProblemKind};
use upbeat_model::target::{Ask, Goal};
use upbeat_model::{
    Action, App, AppName, Edit, OperationId, Origin, Phase, Reason, Service as Declared, ServiceName, SlotId,
    SlotStatus,
};

use super::error::ServicesError;
use super::registry::Registry;
use super::service::{Service, ServiceHealth, ServiceStatus};
use super::translate::{self, declared};
use super::{APP, Guide, Surroundings};
use crate::backend::Backend;

/// The most lines of a log that are shown at once: a screen or two for people, little for a program.
pub const LOG_LINES_MAX: u64 = 1_000;

/// So many services are asked at once how they are: enough that a thousand take seconds, and few enough
/// that their answers find a socket.
const CHECKS_AT_ONCE: usize = 32;

/// A stop command that failed is run again well within this time; until then its old failure says
/// nothing of what was asked since.
const TRIED_AGAIN: Duration = Duration::from_secs(20);

/// Speaks the guide's words. Cheap to clone.
#[derive(Clone)]
pub struct Conductor<B> {
    backend: B,
    guide: Guide,
}

/// How far a service is that was to be started.
#[derive(Debug, PartialEq, Eq)]
enum Settled {
    NotYet,
    Up,
    Failed(String),
}

impl<B: Backend> Conductor<B> {
    /// Over this backend, in the surroundings it gives.
    pub fn new(backend: B) -> Self {
        let guide = backend.guide().clone();
        Self { backend, guide }
    }

    /// What puts services into order.
    pub fn guide(&self) -> &Guide {
        &self.guide
    }

    fn app_name(&self) -> Result<AppName, ServicesError> {
        let bug = |error: upbeat_model::ids::InvalidName| {
            upbeat_api::Problem::new(ProblemKind::Internal, error.to_string())
        };
        Ok(AppName::new(APP).map_err(bug)?)
    }

    /// The app, once there is one.
    async fn app(&self) -> Result<Option<App>, ServicesError> {
        match self.backend.app(self.app_name()?).await {
            Ok(app) => Ok(Some(app)),
            Err(problem) if problem.kind == ProblemKind::NotFound => Ok(None),
            Err(problem) => Err(problem.into()),
        }
    }

    /// What was registered and is kept. Errors: services are not managed here.
    pub async fn registry(&self) -> Result<Registry, ServicesError> {
        if !self.guide.surroundings().settings.manager_enabled {
            return Err(ServicesError::Disabled);
        }
        Ok(self.app().await?.as_ref().map(translate::registered).unwrap_or_default())
    }

    /// Registers services, all of them or none, and keeps them. What they depend on may come later.
    ///
    /// Errors: one cannot be run; they depend on each other in a circle.
    pub async fn register(&self, services: Vec<Service>, origin: Origin) -> Result<(), ServicesError> {
        let mut registry = self.registry().await?;
        let names: Vec<String> = services.iter().map(|service| service.name.clone()).collect();
        services.iter().cloned().for_each(|service| registry.insert(service));
        // A missing one may come yet; a circle will stay one.
        if let Err(error @ ServicesError::Circular(_)) = self.guide.resolver().resolve(&registry, &names) {
            return Err(error);
        }
        let edit = self.edit(self.put(&registry, &names)?, BTreeMap::new());
        self.backend.edit(self.app_name()?, edit, origin).await?;
        Ok(())
    }

    /// Stops a service and forgets it. Errors: others depend on it.
    pub async fn unregister(
        &self,
        registry: &Registry,
        name: &str,
        origin: Origin,
    ) -> Result<(), ServicesError> {
        registry.get(name)?;
        let needs = |service: &&Arc<Service>| service.dependencies.iter().any(|need| need == name);
        let by: Vec<String> = registry.iter().filter(needs).map(|service| service.name.clone()).collect();
        if !by.is_empty() {
            return Err(ServicesError::Needed { name: name.to_owned(), by });
        }
        let is_kept = |app: &App| app.project.services.keys().any(|kept| kept.as_str() == name);
        let (Ok(service), true) = (ServiceName::new(name), self.app().await?.as_ref().is_some_and(is_kept))
        else {
            return Ok(());
        };
        let mut edit = self.edit(BTreeMap::new(), BTreeMap::new());
        edit.take.insert(service);
        let begun = self.backend.edit(self.app_name()?, edit, origin).await?;
        let mut operation = self.backend.watch_operation(begun.id).await?;
        while operation.next().await.is_some() {}
        Ok(())
    }

    /// Starts a service, what it needs first. Returns when it was started; of one that runs, at once.
    pub async fn start(&self, registry: &Registry, name: &str, origin: Origin) -> Result<(), ServicesError> {
        self.bring_up(registry, name, Ask::Start, origin).await
    }

    /// Stops a service and starts it as it is registered now. What depends on it goes on.
    pub async fn restart(
        &self,
        registry: &Registry,
        name: &str,
        origin: Origin,
    ) -> Result<(), ServicesError> {
        self.bring_up(registry, name, Ask::Restart, origin).await
    }

    async fn bring_up(
        &self,
        registry: &Registry,
        name: &str,
        ask: Ask,
        origin: Origin,
    ) -> Result<(), ServicesError> {
        registry.get(name)?;
        let wanted = [name.to_owned()];
        let order = self.guide.resolver().resolve(registry, &wanted)?;
        let app = self.app().await?;
        let seen = by_name(app.as_ref());
        let mut run = BTreeMap::new();
        match self.guide.surroundings().settings.auto_start_dependencies {
            true => {
                run.extend(order.iter().filter_map(|need| Some((need.clone(), needed(seen.get(&**need))?))))
            }
            false => {
                let is_down = |need: &&String| **need != name && !runs(seen.get(need.as_str()));
                let down: Vec<String> = order.iter().filter(is_down).cloned().collect();
                if !down.is_empty() {
                    return Err(ServicesError::DependenciesNotRunning { name: name.to_owned(), down });
                }
            }
        }
        run.remove(name);
        run.extend(named(seen.get(name), ask).map(|ask| (name.to_owned(), ask)));
        let ends = self.run(registry, &order, run, origin).await?;
        let failed = |(of, how): (String, Settled)| match how {
            Settled::Failed(why) => Some((of, why)),
            _ => None,
        };
        match ends.into_iter().find_map(failed) {
            None => Ok(()),
            Some((of, why)) if of == name => Err(ServicesError::StartFailed { name: of, why }),
            Some((dependency, why)) => {
                Err(ServicesError::DependencyFailed { name: name.to_owned(), dependency, why })
            }
        }
    }

    /// Starts all services. Returns those that run then, or have ended well, in the order in which they
    /// started; others go on when one fails, but for those that need it.
    ///
    /// Errors: they cannot be ordered. Then none is started.
    pub async fn start_all(&self, registry: &Registry, origin: Origin) -> Result<Vec<String>, ServicesError> {
        let all: Vec<String> = registry.iter().map(|service| service.name.clone()).collect();
        let order = self.guide.resolver().resolve(registry, &all)?;
        let around = self.guide.surroundings();
        let bad: Vec<String> = (registry.iter())
            .filter(|service| declared(service, &Registry::default(), around).is_err())
            .map(|service| service.name.clone())
            .collect();
        let out = if bad.is_empty() { BTreeSet::new() } else { registry.dependents(&bad) };
        let order: Vec<String> = order.iter().filter(|name| !out.contains(*name)).cloned().collect();
        let app = self.app().await?;
        let seen = by_name(app.as_ref());
        let ask = |name: &String| Some((name.clone(), needed(seen.get(name.as_str()))?));
        let run = order.iter().filter_map(ask).collect();
        let ends = self.run(registry, &order, run, origin).await?;
        Ok(ends.into_iter().filter(|(_, how)| *how == Settled::Up).map(|(name, _)| name).collect())
    }

    /// Has services run, and returns how far each of `order` has come.
    async fn run(
        &self,
        registry: &Registry,
        order: &[String],
        run: BTreeMap<String, Ask>,
        origin: Origin,
    ) -> Result<Vec<(String, Settled)>, ServicesError> {
        if order.is_empty() {
            return Ok(Vec::new());
        }
        let asked: BTreeSet<String> = run.keys().cloned().collect();
        let mut since = OperationId(0);
        if !run.is_empty() {
            let put = self.put(registry, order)?;
            let run = run.into_iter().filter_map(|(name, ask)| Some((ServiceName::new(name).ok()?, ask)));
            let edit = self.edit(put, run.collect());
            since = self.backend.edit(self.app_name()?, edit, origin).await?.id;
        }
        let since = |name: &str| if asked.contains(name) { since } else { OperationId(0) };
        let mut states = self.backend.watch(self.app_name()?).await?;
        while let Some(app) = states.next().await {
            let seen = by_name(Some(&app));
            let how = |name: &String| settled(seen.get(name.as_str()), since(name), &seen);
            let mut ends: Vec<_> = order.iter().map(|name| (name.clone(), how(name))).collect();
            if !ends.iter().any(|(_, how)| *how == Settled::NotYet) {
                for (name, how) in &mut ends {
                    self.add_last_line(registry, name, how).await;
                }
                return Ok(ends);
            }
        }
        let gone = "all services were unregistered meanwhile, or the daemon ends";
        Ok(order.iter().map(|name| (name.clone(), Settled::Failed(gone.to_owned()))).collect())
    }

    /// What a process printed last often says why it ended.
    async fn add_last_line(&self, registry: &Registry, name: &str, how: &mut Settled) {
        let Settled::Failed(why) = how else { return };
        let is_process = registry.get(name).is_ok_and(|service| !translate::is_external(service));
        if is_process
            && let Ok(lines) = self.logs(registry, name, 1).await
            && let Some(line) = lines.last().filter(|line| !line.trim().is_empty())
        {
            why.push_str(&format!("; it printed last: {}", line.escape_debug()));
        }
    }

    /// Stops services, what depends on each first. Returns when they have ended.
    pub async fn stop(
        &self,
        registry: &Registry,
        names: &[String],
        origin: Origin,
    ) -> Result<(), ServicesError> {
        for name in names {
            registry.get(name)?;
        }
        let goes = registry.dependents(names);
        let Some(app) = self.app().await? else { return Ok(()) };
        let is_wanted = |status: &&SlotStatus| {
            goes.contains(status.slot.service.as_str())
                && (status.goal == Goal::Running || status.phase == Phase::Stopping)
        };
        let services: Vec<ServiceName> =
            app.slots.iter().filter(is_wanted).map(|status| status.slot.service.clone()).collect();
        if services.is_empty() {
            return Ok(());
        }
        let action = Action::Stop { services: services.clone(), kill: false };
        let begun = self.backend.act(self.app_name()?, action, origin).await?.id;
        let before: BTreeMap<String, String> = (app.slots.iter())
            .filter_map(|status| Some((status.slot.service.to_string(), trouble(status)?)))
            .collect();
        let until = Instant::now() + TRIED_AGAIN;
        let mut states = self.backend.watch(self.app_name()?).await?;
        loop {
            let is_fresh = Instant::now() >= until;
            let next = match is_fresh || before.is_empty() {
                true => states.next().await,
                // Then it is looked once more, and an old trouble is one.
                false => match tokio::time::timeout_at(until, states.next()).await {
                    Ok(next) => next,
                    Err(_) => self.app().await?,
                },
            };
            let Some(app) = next else { return Ok(()) };
            let seen = by_name(Some(&app));
            let mut is_over = true;
            for service in &services {
                let name = service.as_str();
                let old = before.get(name).filter(|_| Instant::now() < until);
                is_over &= stopped(name, seen.get(name), begun, old)?;
            }
            if is_over {
                return Ok(());
            }
        }
    }

    /// How all services are, by name.
    pub async fn statuses(&self, registry: &Registry) -> Result<Vec<(String, ServiceStatus)>, ServicesError> {
        let app = self.app().await?;
        let seen = by_name(app.as_ref());
        let around = self.guide.surroundings();
        let status = |service: &Arc<Service>| match seen.get(service.name.as_str()) {
            Some(status) => ServiceStatus::from(status.phase),
            None if declared(service, &Registry::default(), around).is_err() => ServiceStatus::Failed,
            None => ServiceStatus::Stopped,
        };
        Ok(registry.iter().map(|service| (service.name.clone(), status(service))).collect())
    }

    /// How a service is.
    pub async fn status(&self, registry: &Registry, name: &str) -> Result<ServiceStatus, ServicesError> {
        let service = registry.get(name)?;
        let one: Registry = [Service::clone(service)].into_iter().collect();
        let statuses = self.statuses(&one).await?;
        Ok(statuses.first().map_or(ServiceStatus::Unknown, |(_, status)| *status))
    }

    /// Asks a service how it is, now. Without an endpoint: whether its process is there.
    pub async fn health(&self, registry: &Registry, name: &str) -> Result<ServiceHealth, ServicesError> {
        let service = registry.get(name)?;
        let (service_name, made) = match declared(service, registry, self.guide.surroundings()) {
            Ok(made) => made,
            Err(error) => return Ok(checked(false, error.to_string())),
        };
        if let Some(url) = &service.health_check_endpoint {
            let slot = SlotId { app: self.app_name()?, service: service_name, index: 1 };
            let answer = self.backend.check(slot, Arc::<Declared>::new(made)).await?;
            return Ok(checked(answer.healthy, format!("{url}: {}", answer.message)));
        }
        let app = self.app().await?;
        Ok(of_process(by_name(app.as_ref()).get(name).copied()))
    }

    /// Asks all services how they are, many at a time.
    pub async fn healths(&self, registry: &Registry) -> Result<Vec<(String, ServiceHealth)>, ServicesError> {
        let names: Vec<String> = registry.iter().map(|service| service.name.clone()).collect();
        let asked = stream::iter(names).map(|name| async move {
            let health = self.health(registry, &name).await;
            (name, health)
        });
        let answers: Vec<_> = asked.buffered(CHECKS_AT_ONCE).collect().await;
        answers.into_iter().map(|(name, health)| Ok((name, health?))).collect()
    }

    /// The last lines a service has printed; at most [`LOG_LINES_MAX`].
    pub async fn logs(
        &self,
        registry: &Registry,
        name: &str,
        tail: u64,
    ) -> Result<Vec<String>, ServicesError> {
        registry.get(name)?;
        let is_kept = |app: App| app.project.services.keys().any(|kept| kept.as_str() == name);
        let (Ok(service), true) = (ServiceName::new(name), self.app().await?.is_some_and(is_kept)) else {
            return Ok(Vec::new());
        };
        let tail = tail.min(LOG_LINES_MAX);
        let query = LogQuery { services: vec![service], tail: Some(tail), follow: false };
        let lines = self.backend.logs(self.app_name()?, query).await?;
        // A log grows while it is read.
        let most = usize::try_from(tail).unwrap_or(usize::MAX);
        Ok(lines.take(most).map(|line| line.text).collect().await)
    }

    fn edit(&self, put: BTreeMap<ServiceName, Declared>, run: BTreeMap<ServiceName, Ask>) -> Edit {
        let base_environment = self.guide.surroundings().base_environment.clone();
        Edit { base_environment, put, take: BTreeSet::new(), run }
    }

    fn put(
        &self,
        registry: &Registry,
        names: &[String],
    ) -> Result<BTreeMap<ServiceName, Declared>, ServicesError> {
        names.iter().map(|name| declared(registry.get(name)?, registry, self.guide.surroundings())).collect()
    }
}

/// Whether a service can be run as it is declared. Errors: what is wrong with it.
pub fn check_usable(service: &Service, around: &Surroundings) -> Result<(), ServicesError> {
    declared(service, &Registry::default(), around).map(drop)
}

/// Its first copy; it has no others.
fn by_name(app: Option<&App>) -> BTreeMap<&str, &SlotStatus> {
    let slots = app.into_iter().flat_map(|app| &app.slots).filter(|status| status.slot.index == 1);
    slots.map(|status| (status.slot.service.as_str(), status)).collect()
}

/// It was started and has not been seen to end, or it has ended well.
fn runs(seen: Option<&&SlotStatus>) -> bool {
    seen.is_some_and(|status| {
        status.phase == Phase::Completed
            || (status.goal == Goal::Running && status.started_at.is_some() && status.phase.is_alive())
    })
}

/// It is on its way up, or there.
fn is_coming_up(status: &SlotStatus) -> bool {
    status.goal == Goal::Running && status.phase.is_alive()
}

/// What is to be asked of a service that others need.
fn needed(seen: Option<&&SlotStatus>) -> Option<Ask> {
    (!runs(seen) && !seen.is_some_and(|status| is_coming_up(status))).then_some(Ask::Start)
}

/// What is to be asked of the named service: one that does not answer is begun anew.
fn named(seen: Option<&&SlotStatus>, ask: Ask) -> Option<Ask> {
    let is_ill = |phase| matches!(phase, Phase::Unhealthy | Phase::NeedsAttention);
    match seen {
        Some(status) if ask == Ask::Start && is_ill(status.phase) => Some(Ask::Restart),
        Some(status) if ask == Ask::Start && is_coming_up(status) => None,
        _ => Some(ask),
    }
}

/// Whether a service that was to be started by this operation, or runs already, was started.
fn settled(seen: Option<&&SlotStatus>, since: OperationId, all: &BTreeMap<&str, &SlotStatus>) -> Settled {
    let Some(status) = seen.filter(|status| status.operation >= since) else { return Settled::NotYet };
    if status.goal != Goal::Running {
        return Settled::Failed("it was stopped meanwhile".to_owned());
    }
    match status.phase {
        Phase::Running | Phase::Healthy | Phase::Completed => Settled::Up,
        Phase::Unhealthy | Phase::NeedsAttention => Settled::Up,
        Phase::Starting => {
            let has_answered = status.probes.values().all(|probe| probe.last.is_some());
            let is_up = status.started_at.is_some() && !status.probes.is_empty() && has_answered;
            if is_up { Settled::Up } else { Settled::NotYet }
        }
        Phase::Waiting => {
            let stopped = status.reasons.iter().find_map(|reason| match reason {
                Reason::WaitsFor { service, .. } => {
                    let needed = all.get(service.as_str());
                    needed.is_none_or(|needed| needed.goal != Goal::Running).then_some(service)
                }
                _ => None,
            });
            match stopped {
                Some(service) => {
                    Settled::Failed(format!("it needs `{service}`, which was stopped meanwhile"))
                }
                None => Settled::NotYet,
            }
        }
        Phase::Absent | Phase::Stopped | Phase::Stopping => Settled::NotYet,
        Phase::DependencyFailed | Phase::Failed | Phase::BackingOff | Phase::CrashLooping => {
            Settled::Failed(why(status))
        }
    }
}

/// Whether a service that was to be stopped by this operation has ended.
///
/// `old`: a trouble there was before, which may be mended when it is tried again.
fn stopped(
    name: &str,
    seen: Option<&&SlotStatus>,
    begun: OperationId,
    old: Option<&String>,
) -> Result<bool, ServicesError> {
    let Some(status) = seen else { return Ok(true) };
    if status.operation < begun {
        return Ok(false);
    }
    let failed = |why: String| Err(ServicesError::StopFailed { name: name.to_owned(), why });
    if status.goal == Goal::Running {
        return failed("it was started again meanwhile".to_owned());
    }
    match (status.phase, trouble(status)) {
        (Phase::Stopped | Phase::Absent, _) => Ok(true),
        (_, Some(trouble)) if Some(&trouble) != old => failed(format!("{trouble}; it is tried again")),
        _ => Ok(false),
    }
}

/// Why it cannot be handled, if it cannot.
fn trouble(status: &SlotStatus) -> Option<String> {
    let trouble = status.reasons.iter().find(|reason| matches!(reason, Reason::Trouble { .. }));
    trouble.map(ToString::to_string)
}

/// Why it is where it is, in one line.
fn why(status: &SlotStatus) -> String {
    match (&status.exit, status.reasons.first()) {
        (Some(exit), _) if status.phase == Phase::Failed => exit.to_string(),
        (_, Some(reason)) => reason.to_string(),
        (_, None) => status.phase.to_string(),
    }
}

/// What is known of a process without its being asked.
fn of_process(seen: Option<&SlotStatus>) -> ServiceHealth {
    let Some(status) = seen else {
        return checked(false, "no process runs: it was not started".to_owned());
    };
    match status.pid {
        Some(pid) => checked(true, format!("process {pid} runs")),
        None if status.phase == Phase::Completed => checked(
            false,
            "no process runs: its start command has ended; if that started something elsewhere, give the \
             service a `health_check_endpoint` and a `stop_command`"
                .to_owned(),
        ),
        None => checked(false, format!("no process runs: {}", why(status))),
    }
}

fn checked(healthy: bool, message: String) -> ServiceHealth {
    ServiceHealth { healthy, message, last_check: Timestamp::now() }
}
