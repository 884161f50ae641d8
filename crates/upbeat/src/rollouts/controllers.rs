//! Controllers: what has a say in which targets are moved, and in how well they are.

use std::any::Any;
use std::collections::BTreeMap;
use std::error::Error;
use std::future::{Future, ready};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream};
use tokio::time::Instant;
use upbeat_control::rollouts::{Answer, Answering, Asked, Asker, Measuring, NewTarget, Trying};
use upbeat_drivers::process::chain;
use upbeat_model::Millis;
use upbeat_model::rollout::{Controller, Controllers, EntityId, Measure, Report, TargetId};

use super::{ClientState, EngineError};
use crate::daemon::controllers::OverNetwork;

/// Why a controller has no answer, or that something is not well. `?` makes one of any error, and
/// `"text".into()` of a text.
pub type ControllerFailure = Box<dyn Error + Send + Sync>;

/// A controller answers within so long, or is taken for one that has no answer. As long as controllers that
/// are asked over HTTP have.
pub const CONTROLLER_TIME: Duration = upbeat_drivers::controllers::QUESTION_TIME;

/// Targets that are monitored at once: a fleet is looked through in rounds of these.
const MONITORED_AT_ONCE: usize = 32;

/// All targets of one call are monitored within so many times the time for one answer: after so many rounds of
/// those that hang, the others are not waited for.
const MONITORING_ROUNDS: u32 = 3;

/// The longest text of a controller's failure that is kept and shown, in characters.
const FAILURE_MAX: usize = 200;

/// Has a say in which targets of an entity are next, and in how well each is.
///
/// Each method has an answer that lets everything pass, so that only those that matter have to be written. They
/// may be written as `async fn`. What they are given holds the version that was reported, and what was said with
/// it.
///
/// One that panics makes an error of the call that asked, and decides nothing. One that has not answered within
/// [`CONTROLLER_TIME`] is not waited for, and has no answer: its future is dropped. One that blocks its thread
/// cannot be left alone so.
pub trait TargetController: Send + Sync + 'static {
    /// Which of these, that run another version, are next? `count` are taken at most, in their order. Targets
    /// that were not among them are made, for blue-green rollouts. All, where nothing is said.
    ///
    /// Errors: nobody is next for now; the next call asks again.
    fn selection(
        &self,
        available: Vec<ClientState>,
        count: usize,
    ) -> impl Future<Output = Result<Vec<ClientState>, ControllerFailure>> + Send {
        let _ = count;
        ready(Ok(available))
    }

    /// Which of those that are next may go now? All, where nothing is said.
    ///
    /// Errors: nobody may for now; the next call asks again.
    fn approval(
        &self,
        selected: Vec<ClientState>,
    ) -> impl Future<Output = Result<Vec<ClientState>, ControllerFailure>> + Send {
        ready(Ok(selected))
    }

    /// Which of these old targets are not there any more? `count` are taken at most. None, where nothing is
    /// said.
    ///
    /// Errors: the call that asked has it, and nothing is decided.
    fn removal(
        &self,
        old: Vec<ClientState>,
        count: usize,
    ) -> impl Future<Output = Result<Vec<ClientState>, ControllerFailure>> + Send {
        let _ = (old, count);
        ready(Ok(Vec::new()))
    }

    /// Is this target well, which runs the version it shall? It is, where nothing is said.
    ///
    /// Errors: it is not, and has failed.
    fn monitoring(&self, target: ClientState) -> impl Future<Output = Result<(), ControllerFailure>> + Send {
        let _ = target;
        ready(Ok(()))
    }
}

/// Has a say in how well the whole is. As [`TargetController`], it must answer in time.
pub trait MonitoringController: Send + Sync + 'static {
    /// Is the whole well, of which these are on their way, or are well, or have failed? It is, where nothing is
    /// said.
    ///
    /// Errors: the call that asked has it, and nothing is decided.
    fn external_monitoring(
        &self,
        targets: Vec<ClientState>,
    ) -> impl Future<Output = Result<(), ControllerFailure>> + Send {
        let _ = targets;
        ready(Ok(()))
    }
}

/// Addresses that are asked instead of this program, by `POST`, in the first such engine's protocol. Kept with
/// the entity. Who is not named is not asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebControllers {
    /// Which targets are next.
    pub selection: Option<String>,
    /// Which of those may go now.
    pub approval: Option<String>,
    /// Which old targets go.
    pub removal: Option<String>,
    /// Whether a target is well.
    pub monitoring: Option<String>,
    /// Whether the whole is well.
    pub external_monitoring: Option<String>,
}

impl From<WebControllers> for Controllers {
    fn from(web: WebControllers) -> Self {
        let asked = |address: Option<String>| address.map(Controller::Web);
        Self {
            selection: asked(web.selection),
            approval: asked(web.approval),
            removal: asked(web.removal),
            monitoring: asked(web.monitoring),
            external_monitoring: asked(web.external_monitoring),
        }
    }
}

type Said<'a, T> = Pin<Box<dyn Future<Output = Result<T, ControllerFailure>> + Send + 'a>>;

/// A [`TargetController`] of any kind.
pub(super) trait AnyTarget: Send + Sync {
    fn select(&self, available: Vec<ClientState>, count: usize) -> Said<'_, Vec<ClientState>>;
    fn approve(&self, selected: Vec<ClientState>) -> Said<'_, Vec<ClientState>>;
    fn remove(&self, old: Vec<ClientState>, count: usize) -> Said<'_, Vec<ClientState>>;
    fn monitor(&self, target: ClientState) -> Said<'_, ()>;
}

// Asked from within a future, so that what panics before there is one is met like what panics later.
impl<C: TargetController> AnyTarget for C {
    fn select(&self, available: Vec<ClientState>, count: usize) -> Said<'_, Vec<ClientState>> {
        Box::pin(async move { self.selection(available, count).await })
    }

    fn approve(&self, selected: Vec<ClientState>) -> Said<'_, Vec<ClientState>> {
        Box::pin(async move { self.approval(selected).await })
    }

    fn remove(&self, old: Vec<ClientState>, count: usize) -> Said<'_, Vec<ClientState>> {
        Box::pin(async move { self.removal(old, count).await })
    }

    fn monitor(&self, target: ClientState) -> Said<'_, ()> {
        Box::pin(async move { self.monitoring(target).await })
    }
}

/// A [`MonitoringController`] of any kind.
pub(super) trait AnyMonitoring: Send + Sync {
    fn watch(&self, targets: Vec<ClientState>) -> Said<'_, ()>;
}

impl<C: MonitoringController> AnyMonitoring for C {
    fn watch(&self, targets: Vec<ClientState>) -> Said<'_, ()> {
        Box::pin(async move { self.external_monitoring(targets).await })
    }
}

/// The controllers of this program that are asked about one entity.
#[derive(Clone, Default)]
pub(super) struct Registered {
    pub(super) target: Option<Arc<dyn AnyTarget>>,
    pub(super) monitoring: Option<Arc<dyn AnyMonitoring>>,
}

/// Asks the controllers of this program, and others over the network.
pub(super) struct Own {
    network: OverNetwork,
    time: Duration,
    registered: Mutex<BTreeMap<EntityId, Registered>>,
}

const PROGRAM: Option<Controller> = Some(Controller::Program);

impl Own {
    pub(super) fn new(network: OverNetwork, time: Duration) -> Self {
        Self { network, time, registered: Mutex::default() }
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<EntityId, Registered>> {
        // Every change is one insertion or removal.
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn registered(&self, id: &EntityId) -> Registered {
        self.all().get(id).cloned().unwrap_or_default()
    }

    /// Others are asked from now on. Returns those that were until now.
    pub(super) fn register(&self, id: &EntityId, change: impl FnOnce(&mut Registered)) -> Registered {
        let mut all = self.all();
        let mut registered = all.remove(id).unwrap_or_default();
        let before = registered.clone();
        change(&mut registered);
        if registered.target.is_some() || registered.monitoring.is_some() {
            all.insert(id.clone(), registered);
        }
        before
    }

    /// Errors: a controller of this program is to be asked, and is not registered.
    pub(super) fn check(&self, id: &EntityId, controllers: &Controllers) -> Result<(), EngineError> {
        let registered = self.registered(id);
        let mut asked = controllers.each().filter(|(_, controller)| **controller == Controller::Program);
        let is_missing = |(field, _): &(&str, &Controller)| match *field {
            "external_monitoring" => registered.monitoring.is_none(),
            _ => registered.target.is_none(),
        };
        match asked.find(is_missing) {
            Some(("external_monitoring", _)) => Err(no_monitoring(id)),
            Some(_) => Err(no_target(id)),
            None => Ok(()),
        }
    }

    fn target(&self, id: &EntityId) -> Result<Arc<dyn AnyTarget>, String> {
        self.registered(id).target.ok_or_else(|| no_target(id).to_string())
    }

    /// What was said in time, or why nothing was.
    ///
    /// Errors: it panicked.
    async fn within<T>(time: Duration, asked: &str, said: Said<'_, T>) -> Result<Result<T, String>, String> {
        match tokio::time::timeout(time, AssertUnwindSafe(said).catch_unwind()).await {
            Ok(Ok(Ok(answer))) => Ok(Ok(answer)),
            Ok(Ok(Err(failure))) => Ok(Err(line(&chain(&*failure)))),
            Ok(Err(panic)) => Err(format!("its {asked} controller panicked: {}", line(words(&*panic)))),
            Err(_) => Ok(Err(format!("timed out after {}", millis(time)))),
        }
    }

    async fn monitor(&self, id: &EntityId, all: Vec<Report>) -> Result<Answer, String> {
        let target = self.target(id)?;
        let (begun, time) = (Instant::now(), self.time.saturating_mul(MONITORING_ROUNDS));
        let asked = all.into_iter().map(|report| {
            let target = &target;
            async move {
                let (id, left) = (report.target.clone(), time.saturating_sub(begun.elapsed()));
                if left.is_zero() {
                    return Ok::<_, String>((id, Err("not asked in time".to_owned())));
                }
                let said = target.monitor(ClientState::reported(report));
                Ok((id, Self::within(self.time.min(left), "monitoring", said).await?))
            }
        });
        let mut answers = stream::iter(asked).buffer_unordered(MONITORED_AT_ONCE);
        let mut unwell = BTreeMap::new();
        while let Some(answer) = answers.next().await {
            if let (id, Err(why)) = answer? {
                unwell.insert(id, why);
            }
        }
        Ok(Answer::Monitoring(unwell))
    }

    async fn answer(&self, id: &EntityId, controllers: &Controllers, asked: Asked) -> Result<Answer, String> {
        Ok(match asked {
            Asked::External(all) if controllers.external_monitoring == PROGRAM => {
                let monitoring = self.registered(id).monitoring;
                let monitoring = monitoring.ok_or_else(|| no_monitoring(id).to_string())?;
                let said = monitoring.watch(states(all));
                Answer::External(Self::within(self.time, "external monitoring", said).await?)
            }
            Asked::Monitoring(all) if controllers.monitoring == PROGRAM => self.monitor(id, all).await?,
            Asked::Removal(all, count) if controllers.removal == PROGRAM => {
                let target = self.target(id)?;
                let said = Self::within(self.time, "removal", target.remove(states(all), count)).await?;
                Answer::Removal(said.and_then(ids))
            }
            Asked::Selection(all, count) if controllers.selection == PROGRAM => {
                let target = self.target(id)?;
                let said = Self::within(self.time, "selection", target.select(states(all), count)).await?;
                Answer::Selection(said.and_then(new))
            }
            Asked::Approval(all) if controllers.approval == PROGRAM => {
                let target = self.target(id)?;
                let said = Self::within(self.time, "approval", target.approve(states(all))).await?;
                Answer::Approval(said.and_then(ids))
            }
            others => self.network.ask(id, controllers, others).await,
        })
    }
}

impl Asker for Own {
    fn measure<'a>(&'a self, measure: &'a Measure) -> Measuring<'a> {
        self.network.measure(measure)
    }

    fn ask<'a>(&'a self, id: &'a EntityId, controllers: &'a Controllers, asked: Asked) -> Answering<'a> {
        self.network.ask(id, controllers, asked)
    }

    fn try_ask<'a>(&'a self, id: &'a EntityId, controllers: &'a Controllers, asked: Asked) -> Trying<'a> {
        Box::pin(self.answer(id, controllers, asked))
    }
}

fn no_target(id: &EntityId) -> EngineError {
    EngineError::NotRegistered { id: id.clone(), role: "target", call: "set_entity_target_controller" }
}

fn no_monitoring(id: &EntityId) -> EngineError {
    let call = "set_entity_monitoring_controller";
    EngineError::NotRegistered { id: id.clone(), role: "monitoring", call }
}

fn states(reports: Vec<Report>) -> Vec<ClientState> {
    reports.into_iter().map(ClientState::reported).collect()
}

fn ids(chosen: Vec<ClientState>) -> Result<Vec<TargetId>, String> {
    Ok(new(chosen)?.into_iter().map(|new| new.id).collect())
}

fn new(chosen: Vec<ClientState>) -> Result<Vec<NewTarget>, String> {
    let one = |state: ClientState| {
        let Report { target: id, labels, .. } = state.report().map_err(|bad| bad.to_string())?;
        Ok(NewTarget { id, labels })
    };
    chosen.into_iter().map(one).collect()
}

fn millis(time: Duration) -> Millis {
    Millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it did not say why")
}

/// On one line, as it is kept and shown.
fn line(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(FAILURE_MAX).collect()
}
