//! The guide's operations, each in terms of what a [`Backend`] can be asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;
use upbeat_api::{LogQuery, ProblemKind};
use upbeat_model::target::{Ask, Goal};
use upbeat_model::withheld::url_to_look_at;
use upbeat_model::{
    Action, App, AppName, Edit, OperationId, Origin, Phase, Service as Declared, ServiceName, SlotId,
    SlotStatus, Wish,
};

use super::elsewhere::Elsewhere;
use super::error::{ServicesError, shown};
use super::registry::Registry;
use super::seen::{
    Settled, by_name, checked, gave_up, named, needed, of_process, runs, settled, stopped, trouble,
};
use super::service::{Service, ServiceHealth, ServiceStatus};
use super::translate::{self, declared};
use super::{APP, Guide, Surroundings};
use crate::backend::{Backend, Checked};

/// The most lines of a log that are shown at once: a screen or two for people, little for a program.
pub const LOG_LINES_MAX: u64 = 1_000;

/// So many services are asked at once how they are: enough that a thousand take seconds, and few enough
/// that their answers find a socket.
pub(super) const CHECKS_AT_ONCE: usize = 32;

/// A stop command that failed is run again well within this time; until then its old failure says
/// nothing of what was asked since.
const TRIED_AGAIN: Duration = Duration::from_secs(20);

/// Speaks the guide's words. Cheap to clone.
#[derive(Clone)]
pub struct Conductor<B> {
    backend: B,
    guide: Guide,
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

    /// Stops a service and forgets it. Errors: others depend on it; it cannot be stopped, and then it stays
    /// registered.
    pub async fn unregister(
        &self,
        registry: &Registry,
        name: &str,
        origin: Origin,
    ) -> Result<(), ServicesError> {
        registry.known(name)?;
        let needs = |service: &&Arc<Service>| service.dependencies.iter().any(|need| need == name);
        let by: Vec<String> = registry.iter().filter(needs).map(|service| service.name.clone()).collect();
        if !by.is_empty() {
            return Err(ServicesError::Needed { name: name.to_owned(), by });
        }
        let is_kept = |app: &App| app.project.services.keys().any(|kept| kept.as_str() == name);
        let (Ok(service), Some(app)) = (ServiceName::new(name), self.app().await?.filter(is_kept)) else {
            return Ok(());
        };
        let elsewhere = Elsewhere::look(self, registry, Some(&app), [&name.to_owned()]).await;
        if let Some(error) = elsewhere.refusal(name) {
            return Err(error);
        }
        // What is not known any more could be stopped by nobody.
        let stopping = Origin { key: None, ..origin.clone() };
        self.stop_these(&app, &BTreeSet::from([name.to_owned()]), stopping).await?;
        let mut edit = self.edit(BTreeMap::new(), BTreeMap::new());
        edit.take.insert(service);
        let begun = self.backend.edit(self.app_name()?, edit, origin).await?;
        let mut operation = self.backend.watch_operation(begun.id).await?;
        let mut end = None;
        while let Some(now) = operation.next().await {
            end = Some(now);
        }
        let failed = |wish: &Wish| match wish {
            Wish::Reached => None,
            Wish::Failed { reasons } => {
                Some(reasons.first().map_or_else(|| "it is still there".to_owned(), ToString::to_string))
            }
            Wish::Superseded { .. } => Some("somebody has asked for something else meanwhile".to_owned()),
            Wish::Pending => Some("the daemon ends".to_owned()),
        };
        let why = match end {
            Some(end) => end.slots.values().find_map(failed),
            None => failed(&Wish::Pending),
        };
        why.map_or(Ok(()), |why| Err(ServicesError::StopFailed { name: name.to_owned(), why }))
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
        let elsewhere = Elsewhere::look(self, registry, app.as_ref(), order.iter()).await;
        let refused = if ask == Ask::Restart { elsewhere.refusal(name) } else { None };
        // Of one that may run already nobody knows what to do.
        let unknown = || order.iter().find_map(|need| elsewhere.unknown(need).cloned());
        if let Some(error) = refused.or_else(unknown) {
            return Err(error);
        }
        let mut run = BTreeMap::new();
        match self.guide.surroundings().settings.auto_start_dependencies {
            true => {
                let ask = |need: &String| Some((need.clone(), needed(need, &seen, &elsewhere)?));
                run.extend(order.iter().filter_map(ask));
            }
            false => {
                let is_down = |need: &&String| **need != name && !runs(need, &seen, &elsewhere);
                let down: Vec<String> = order.iter().filter(is_down).cloned().collect();
                if !down.is_empty() {
                    return Err(ServicesError::DependenciesNotRunning { name: name.to_owned(), down });
                }
            }
        }
        run.remove(name);
        // One that is there elsewhere is left alone, as one that runs here; but for one that can be stopped
        // there once it was started again.
        let ask = named(seen.get(name), ask).filter(|_| !elsewhere.is_left_alone(name));
        run.extend(ask.map(|ask| (name.to_owned(), ask)));
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
    /// started; others go on when one fails, or when nobody can say whether it runs already, but for those
    /// that need it.
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
        let without = |order: &[String], bad: &[String]| -> Vec<String> {
            let out = if bad.is_empty() { BTreeSet::new() } else { registry.dependents(bad) };
            order.iter().filter(|name| !out.contains(*name)).cloned().collect()
        };
        let order = without(&order, &bad);
        let app = self.app().await?;
        let seen = by_name(app.as_ref());
        let elsewhere = Elsewhere::look(self, registry, app.as_ref(), &order).await;
        let is_unknown = |name: &&String| elsewhere.unknown(name).is_some();
        let unknown: Vec<String> = order.iter().filter(is_unknown).cloned().collect();
        let order = without(&order, &unknown);
        let ask = |name: &String| Some((name.clone(), needed(name, &seen, &elsewhere)?));
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
            registry.known(name)?;
        }
        let mut goes = registry.dependents(names);
        let Some(app) = self.app().await? else { return Ok(()) };
        let elsewhere = Elsewhere::look(self, registry, Some(&app), &goes).await;
        let refused = goes.iter().find_map(|name| elsewhere.refusal(name));
        if refused.is_some() {
            // What those need that cannot be stopped stays with them; the others can go.
            let is_stuck = |name: &&String| elsewhere.refusal(name).is_some();
            let stuck: Vec<String> = goes.iter().filter(is_stuck).cloned().collect();
            // Where what they need is not known, they alone.
            let stay = self.guide.resolver().resolve(registry, &stuck).map_or(stuck, |order| order.to_vec());
            goes.retain(|name| !stay.contains(name));
        }
        self.stop_these(&app, &goes, origin).await?;
        refused.map_or(Ok(()), Err)
    }

    async fn stop_these(
        &self,
        app: &App,
        goes: &BTreeSet<String>,
        origin: Origin,
    ) -> Result<(), ServicesError> {
        let is_wanted = |status: &&SlotStatus| {
            goes.contains(status.slot.service.as_str())
                && (status.goal == Goal::Running || status.phase == Phase::Stopping || gave_up(status))
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
        let names = registry.names();
        let elsewhere = Elsewhere::look(self, registry, app.as_ref(), &names).await;
        let around = self.guide.surroundings();
        let status = |service: &Arc<Service>| match seen.get(service.name.as_str()) {
            Some(_) if elsewhere.answers(&service.name) => ServiceStatus::Running,
            Some(_) if elsewhere.is_silent(&service.name) => ServiceStatus::Failed,
            Some(_) if elsewhere.unknown(&service.name).is_some() => ServiceStatus::Unknown,
            Some(status) => ServiceStatus::from(status.phase),
            None if declared(service, &Registry::default(), around).is_err() => ServiceStatus::Failed,
            None => ServiceStatus::Stopped,
        };
        let unread = |name: &String| {
            let seen = seen.get(name.as_str());
            (name.clone(), seen.map_or(ServiceStatus::Unknown, |status| status.phase.into()))
        };
        let readable = registry.iter().map(|service| (service.name.clone(), status(service)));
        let all = readable.chain(registry.unreadable().map(|(name, _)| unread(name)));
        Ok(all.collect::<BTreeMap<_, _>>().into_iter().collect())
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
        let app = self.app().await?;
        self.health_among(registry, name, &by_name(app.as_ref())).await
    }

    /// What a service's endpoint answers, now; nothing without one.
    ///
    /// Errors: it cannot be run; nobody can be asked.
    pub(super) async fn answer(
        &self,
        registry: &Registry,
        service: &Service,
    ) -> Result<Option<Checked>, ServicesError> {
        let (service_name, made) = declared(service, registry, self.guide.surroundings())?;
        let Some(url) = &service.health_check_endpoint else { return Ok(None) };
        let slot = SlotId { app: self.app_name()?, service: service_name, index: 1 };
        let answer = self.backend.check(slot, Arc::<Declared>::new(translate::by_endpoint(made))).await?;
        let message = format!("{}: {}", url_to_look_at(url), answer.message);
        Ok(Some(Checked { message, ..answer }))
    }

    /// The same, where it is known what is seen of all.
    async fn health_among(
        &self,
        registry: &Registry,
        name: &str,
        seen: &BTreeMap<&str, &SlotStatus>,
    ) -> Result<ServiceHealth, ServicesError> {
        match self.answer(registry, registry.get(name)?).await {
            Ok(Some(answer)) => Ok(checked(answer.healthy, answer.message)),
            Ok(None) => Ok(of_process(seen.get(name).copied())),
            Err(error @ ServicesError::Unusable { .. }) => Ok(checked(false, error.to_string())),
            Err(error) => Err(error),
        }
    }

    /// Asks all services how they are, many at a time. One that cannot be asked is not well, and says why;
    /// the others are told all the same.
    pub async fn healths(&self, registry: &Registry) -> Result<Vec<(String, ServiceHealth)>, ServicesError> {
        let app = self.app().await?;
        let seen = &by_name(app.as_ref());
        let asked = stream::iter(registry.names()).map(|name| async move {
            // Of thousands without an endpoint none waits: others have their turn all the same.
            tokio::task::consume_budget().await;
            let health = self.health_among(registry, &name, seen).await;
            (name, health.unwrap_or_else(|error| checked(false, error.to_string())))
        });
        Ok(asked.buffered(CHECKS_AT_ONCE).collect().await)
    }

    /// The last lines a service has printed; at most [`LOG_LINES_MAX`].
    ///
    /// Errors: it runs elsewhere, and has never printed anything here.
    pub async fn logs(
        &self,
        registry: &Registry,
        name: &str,
        tail: u64,
    ) -> Result<Vec<String>, ServicesError> {
        registry.known(name)?;
        let app = self.app().await?;
        let is_kept = |app: &App| app.project.services.keys().any(|kept| kept.as_str() == name);
        let (Ok(service), true) = (ServiceName::new(name), app.as_ref().is_some_and(is_kept)) else {
            return Ok(Vec::new());
        };
        let has_ended = by_name(app.as_ref()).get(name).is_some_and(|seen| seen.phase == Phase::Completed);
        let is_elsewhere = |service: &&Arc<Service>| {
            translate::is_external(service) || (has_ended && translate::may_be_elsewhere(service))
        };
        let elsewhere = registry.get(name).ok().filter(is_elsewhere);
        let tail = tail.min(LOG_LINES_MAX);
        let query = LogQuery { services: vec![service], tail: Some(tail), follow: false };
        let lines = self.backend.logs(self.app_name()?, query).await?;
        // A log grows while it is read.
        let most = usize::try_from(tail).unwrap_or(usize::MAX);
        let lines: Vec<String> = lines.take(most).map_ok(|line| line.text).try_collect().await?;
        match elsewhere.filter(|_| lines.is_empty()) {
            Some(service) => Err(ServicesError::LogElsewhere {
                name: name.to_owned(),
                start_command: shown(&service.start_command),
            }),
            None => Ok(lines),
        }
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
