//! One probe, one answer: is it as it should be, and what did it say.
//!
//! Every question has a time, after which there is an answer, and bounds on what is read and kept for
//! it; so nothing that is asked, be it broken or hostile, holds anything up for longer. What may hang
//! where no time-out reaches it (names, files, other processes) is looked at on a thread of its own.

pub(crate) mod address;
mod grpc;
pub(crate) mod http;
mod limits;
mod patterns;
mod places;
mod shares;
mod sockets;
pub(crate) mod stream;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod tls;
mod traces;
pub(crate) mod words;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use tokio::time::Instant;
use upbeat_model::project::{Question, Service};
use upbeat_model::{AppName, Attempt, Millis, ProbeName, SlotId};

use crate::docker::{ContainerExec, Engine, ImageHealth};
use crate::looks::Looks;
use crate::machine::Machine;
use crate::process::{ExecOutcome, ExecRequest, Leftovers, ProcessDriver, Rights, environment};
use crate::usage::Usages;

pub use places::Place;
use words::No;

/// The answer to a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Yes.
    pub healthy: bool,
    /// What it said, for people: one line of at most 200 characters. The same answer has the same
    /// words, and no secret is among them.
    pub message: String,
    /// How long the answer took.
    pub took: Millis,
    /// It could not be asked, for a lack of files or processes here: no word about the service.
    pub unasked: bool,
}

/// A question to one attempt.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Of which slot.
    pub slot: &'a SlotId,
    /// Of which attempt.
    pub attempt: Attempt,
    /// Which of its probes asks.
    pub probe: &'a ProbeName,
    /// What is asked.
    pub question: &'a Question,
    /// What runs there: as which user, where, and with which variables commands are run.
    pub spec: &'a Service,
    /// The variables it has besides its own.
    pub base_environment: &'a BTreeMap<String, String>,
    /// After which there is an answer, and it is no.
    pub timeout: Millis,
}

/// Yes or no, each in words.
type Answered = Result<String, No>;

/// Asks. Clones share connections and what is remembered; all are used in one runtime.
#[derive(Clone)]
pub struct Prober {
    inner: Arc<Inner>,
}

struct Inner {
    driver: ProcessDriver,
    engine: Option<Engine>,
    places: places::Places,
    usages: Usages,
    names: address::Names,
    trust: tls::Trust,
    http: http::Client,
    patterns: patterns::Patterns,
    files: Looks<PathBuf, Result<SystemTime, No>>,
    logs: Looks<PathBuf, Result<traces::End, No>>,
    sockets: Looks<PathBuf, Result<(), Errno>>,
    /// Processor time when a probe asked last, in milliseconds.
    times: traces::Memory<u64>,
    printed: traces::Memory<traces::Printed>,
}

impl Prober {
    /// For the slots of this driver: processes alone.
    pub fn new(driver: ProcessDriver) -> Self {
        Self::with(driver, None)
    }

    /// For the slots of both kinds.
    pub fn of(machine: Machine) -> Self {
        Self::with(machine.processes, Some(machine.engine))
    }

    fn with(driver: ProcessDriver, engine: Option<Engine>) -> Self {
        // As the driver has raised it.
        let counted = driver.clone();
        let places = places::Places::new(getrlimit(Resource::Nofile).current, move || counted.listened_to());
        let inner = Inner {
            http: http::Client::new(places.idle()),
            places,
            usages: Usages::new(driver.clone()),
            driver,
            engine,
            names: address::Names::new(),
            trust: tls::Trust::new(Some("tls: { ca_file: … }")),
            patterns: patterns::Patterns::default(),
            files: Looks::new(),
            logs: Looks::new(),
            sockets: Looks::new(),
            times: traces::Memory::new(),
            printed: traces::Memory::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What slots use; it shares with this what was seen of the machine.
    pub fn usages(&self) -> Usages {
        self.inner.usages.clone()
    }

    /// How many can be asked at once where no service runs. Whoever asks more waits, before its time
    /// begins.
    pub fn places(&self) -> usize {
        self.inner.places.count(0) as usize
    }

    /// Waits until there are the means to ask one more probe of this app. Where not all can be asked at
    /// once, the next is of the app of which the fewest are under way.
    pub async fn place(&self, app: &AppName) -> Place {
        self.inner.places.take(app).await
    }

    /// Waits for a place, asks, and ends with an answer by the time-out (a command a little later: its tree is ended
    /// first). Dropping the future ends what it does but for a look at the machine that hangs.
    pub async fn ask(&self, asked: &Asked<'_>) -> Verdict {
        let place = self.place(&asked.slot.app).await;
        self.ask_at(&place, asked).await
    }

    /// The same, at a place that was waited for.
    pub async fn ask_at(&self, _place: &Place, asked: &Asked<'_>) -> Verdict {
        let begun = Instant::now();
        let (answered, unasked) = match asked.question {
            // It has its own, and ends what it has started.
            Question::Exec(command) => match self.inner.exec(asked, command).await {
                ExecOutcome::Unable(why) => (Err(why), true),
                outcome if outcome.is_success() => (Ok(outcome.describe()), false),
                outcome => (Err(outcome.describe()), false),
            },
            _ => match tokio::time::timeout(asked.timeout.as_duration(), self.inner.answer(asked)).await {
                Ok(Ok(said)) => (Ok(said), false),
                Ok(Err(No::Said(said))) => (Err(said), false),
                Ok(Err(No::Unasked(why))) => (Err(why), true),
                // It is the engine that is slow, and not the service.
                Err(_) => {
                    let is_engines = *asked.question == Question::Image;
                    (Err(format!("timed out after {}", asked.timeout)), is_engines)
                }
            },
        };
        let took = Millis(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX));
        let healthy = answered.is_ok();
        let message = match answered {
            Ok(said) | Err(said) => words::shown(&said),
        };
        Verdict { healthy, message, took, unasked }
    }
}

impl Inner {
    async fn answer(&self, asked: &Asked<'_>) -> Answered {
        match asked.question {
            Question::Http(http) => self.http(asked, http).await,
            Question::Tcp(address) => self.tcp(asked, address).await,
            Question::Udp(udp) => self.udp(udp).await,
            Question::Grpc(grpc) => self.grpc(asked, grpc).await,
            Question::Unix(path) => self.unix(path).await,
            Question::File(file) => self.file(file).await,
            Question::Prints(within) => self.prints(asked, *within).await,
            Question::Memory(most) => self.memory(asked, *most).await,
            Question::Descriptors(most) => self.descriptors(asked, *most).await,
            Question::Cpu(most) => self.cpu(asked, *most).await,
            Question::Image => self.image(asked).await,
            // Whoever asks one has its outcome.
            Question::Exec(_) => Err("a command is not asked in this way".into()),
            // Who asks all the same has not been told anything.
            Question::Log(_) => Err("no line matched yet".into()),
            Question::Notify => Err("it has not said that it is ready yet".into()),
            Question::Watchdog(_) => Err("it has not said that it is alive yet".into()),
        }
    }

    /// What the engine has come to by the health check of the image.
    async fn image(&self, asked: &Asked<'_>) -> Answered {
        let unable = |why: &str| No::Unasked(why.to_owned());
        let engine =
            self.engine.as_ref().ok_or_else(|| unable("nobody here speaks with a container engine"))?;
        match engine.image_health(asked.slot, asked.attempt).await {
            Ok(ImageHealth::Healthy(said)) => Ok(said),
            Ok(ImageHealth::Unhealthy(said)) => Err(No::Said(said)),
            Ok(ImageHealth::Starting) => Err(unable("the container engine has come to nothing by it yet")),
            // It was not when the container was made.
            Ok(ImageHealth::None) => Err(No::Said("its container has no health check".to_owned())),
            Err(error) => Err(No::Unasked(error.to_string())),
        }
    }

    async fn exec(&self, asked: &Asked<'_>, command: &[String]) -> ExecOutcome {
        let Asked { slot, attempt, spec, base_environment, timeout, .. } = asked;
        if spec.container.is_some() {
            let Some(engine) = &self.engine else {
                return ExecOutcome::Unable("nobody here speaks with a container engine".to_owned());
            };
            // As the container has it: its variables, its directory, its user.
            let asked = ContainerExec {
                slot: (*slot).clone(),
                attempt: *attempt,
                command: command.to_vec(),
                environment: BTreeMap::new(),
                working_dir: None,
                user: None,
                privileged: false,
                timeout: *timeout,
            };
            return engine.exec(asked).await;
        }
        let request = ExecRequest {
            command: command.to_vec(),
            environment: environment(&spec.environment, base_environment),
            working_dir: spec.working_dir.clone(),
            user: spec.user.clone(),
            rights: Rights::of(spec),
            beside: Some((*slot).clone()),
            timeout: *timeout,
            leftovers: Leftovers::Killed,
        };
        self.driver.exec(request).await
    }
}
