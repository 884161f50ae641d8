//! Control and the agent in one process, without a face: what the daemon serves, and what a program
//! embeds.

use std::fs::File;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use upbeat_agent::{Events, Meter};
use upbeat_control::webhooks::Webhook;
use upbeat_drivers::cgroups;
use upbeat_drivers::controllers::Means;
use upbeat_drivers::docker::{self, EngineSettings};
use upbeat_drivers::machine::Machine;
use upbeat_drivers::process::{Places, ProcessDriver, ShimProgram};
use upbeat_drivers::update_locks::UpdateLocks;
use upbeat_model::device::RegistryKeys;
use upbeat_server::Backend;
use upbeat_server::compat::guide::Guide;

use super::agent::{AgentThread, Hand};
use super::backend::LocalBackend;
use super::rollouts::LocalRollouts;
use super::serve::{
    FIRST_LOOK, Opened, REPORTS, ServeError, open, open_documents, pass_on, prepare, take_lock,
};
use super::{Dirs, failpoint, queue};
use crate::settings;

/// Where commands of rollouts are, beside the directories of apps: no app has such a name. Nothing is kept there; it
/// tells them from those of services.
const COMMANDS: &str = ".asked";

/// Events of containers that may wait for the agent. Whoever watches the engine waits when it is full, and looks
/// what there is when it goes on.
const ENGINE_EVENTS: usize = 1024;

/// Where the container engine is, and what is ours there: what was made by the daemon of this directory, also
/// when all that it kept is lost.
fn of_engine(
    dirs: &Dirs,
    said: settings::Docker,
    keys: watch::Receiver<Arc<RegistryKeys>>,
) -> EngineSettings {
    let hash = blake3::hash(dirs.state.as_os_str().as_encoded_bytes()).to_hex();
    EngineSettings {
        host: said.host,
        config: said.config,
        keys,
        owner: hash.as_str()[..OWNER].to_owned(),
        slots: dirs.slots(),
        locks: UpdateLocks::new(dirs.update_locks()),
        failpoint: failpoint::reach,
    }
}

/// Digits of the word by which a daemon knows its containers: no two daemons of a machine have the same by chance.
const OWNER: usize = 12;

/// Dropped: all has ended, and every service is as it was.
pub(crate) struct Engine {
    backend: LocalBackend,
    agent: Option<AgentThread>,
    pump: JoinHandle<()>,
    queue: JoinHandle<()>,
    _lock: File,
}

impl Engine {
    /// Begins with what these directories keep; containers are run by that engine, controllers are asked, and
    /// receivers of webhooks told, by these means. Errors: another one has them; they cannot be used.
    pub(crate) async fn begin(
        dirs: &Dirs,
        shim: ShimProgram,
        guide: Guide,
        engine: settings::Docker,
        means: Means,
        webhooks: Vec<Webhook>,
    ) -> Result<Self, ServeError> {
        prepare(dirs)?;
        let lock = take_lock(dirs)?;
        let process = cgroups::OF_THIS_PROCESS.into();
        let places = Places { slots: dirs.slots(), private: dirs.credentials(), process };
        // By another: the agent waits for none of them, nor for what waits with them.
        let theirs = Places { slots: dirs.slots().join(COMMANDS), ..places.clone() };
        let (commands, _) = ProcessDriver::new(shim.clone(), theirs)?;
        let (driver, processes) = ProcessDriver::new(shim, places)?;
        let (tell, containers) = mpsc::channel(ENGINE_EVENTS);
        let documents = open_documents(dirs)?;
        let settings = of_engine(dirs, engine, documents.keys());
        let (owner, locks) = (settings.owner.clone(), settings.locks.clone());
        let containers_of = docker::Engine::new(settings, tell);
        let machine = Machine { processes: driver.clone(), engine: containers_of, locks };
        let events = Events { processes, containers };
        let both = [driver.clone(), commands.clone()];
        // One after the other: each looks at all processes of the machine, and services come first.
        tokio::spawn(async move {
            for clears in both {
                clears.clear_execs_once().await;
            }
        });
        let means = Means { commands: Some(commands), ..means };
        let Opened { control, keep, access, rollouts, webhooks } = open(dirs, means, webhooks).await?;
        let (report, reports) = mpsc::channel(REPORTS);
        let (meter, target) = (Arc::new(Meter::default()), control.target());
        let hand = Hand { keep, machine: machine.clone(), events, target, report, meter: meter.clone() };
        let (agent, watches) = AgentThread::start(hand).await?;
        let pump = tokio::spawn(pass_on(reports, control.clone()));
        let (told, seen) = ((rollouts, webhooks), (meter, owner));
        let backend = LocalBackend::new((control, documents), machine, watches, access, guide, told, seen);
        let queue = tokio::spawn(queue::begin_when_due(backend.clone()));
        Ok(Self { backend, agent: Some(agent), pump, queue, _lock: lock })
    }

    /// Until every slot was seen, or one of them does not answer: then it is told what is, not what
    /// was.
    pub(crate) async fn looked(&self) {
        let _ = tokio::time::timeout(FIRST_LOOK, self.backend.looked()).await;
    }

    /// What it can do for no project, if there is something, in one line.
    pub(super) fn missing_rights(&self) -> Option<String> {
        let missing = self.backend.rights().missing();
        (!missing.is_empty()).then(|| missing.join(", "))
    }

    /// What can be asked of it.
    pub(crate) fn backend(&self) -> LocalBackend {
        self.backend.clone()
    }

    /// Its rollouts, for whoever ends in order.
    pub(super) fn rollouts(&self) -> LocalRollouts {
        self.backend.rollouts().clone()
    }

    /// The agent, to be dropped before all else by whoever ends in order.
    pub(super) fn take_agent(&mut self) -> Option<AgentThread> {
        self.agent.take()
    }

    /// Returns when the agent has ended by itself, which it never should.
    pub(crate) async fn ended(&mut self) {
        match &mut self.agent {
            Some(agent) => agent.ended().await,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.pump.abort();
        self.queue.abort();
        drop(self.agent.take());
    }
}
