//! Effects, done to the machine: one task each, whose outcome is an input of the loop.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use upbeat_decide::Effect;
use upbeat_decide::instance::{Durable, Input, Observation};
use upbeat_drivers::process::{self, ExecRequest, Launch, ProcessDriver, StartError};
use upbeat_drivers::watch::Watches;
use upbeat_drivers::{logs, probe};
use upbeat_model::project::{Probe, Service};
use upbeat_model::{Attempt, Exit, Millis, SlotId};

use crate::run::is_up;

/// Starts under way at once. Each is a few milliseconds of work for the kernel; more at once only
/// make each of them later.
const STARTS: usize = 64;

/// Probes under way at once: enough that a few hundred hanging ones delay no other, few enough
/// that their sockets fit any limit on open files.
const PROBES: usize = 512;

/// A log file is rotated when it exceeds this, and so many are kept: 50 MiB a slot.
const LOG_MAX_SIZE: u64 = 10 * 1024 * 1024;
const LOG_MAX_FILES: u32 = 5;

type Inputs = mpsc::Sender<(SlotId, Input)>;

/// What performs effects.
pub(crate) struct Performer {
    driver: ProcessDriver,
    watches: Watches,
    inputs: Inputs,
    starts: Arc<Semaphore>,
    probes: Arc<Semaphore>,
    /// What is asked of the attempt that runs, by slot. When it is over, nobody wants the answers any
    /// more, and they must not be taken for those of a copy to come.
    asked: HashMap<SlotId, Asked>,
}

/// What is asked of one attempt. Dropped: nobody wants to know any more.
struct Asked {
    attempt: Attempt,
    probe: Option<Task>,
    line: Option<Task>,
    over: Arc<AtomicBool>,
}

impl Asked {
    fn of(attempt: Attempt) -> Self {
        Self { attempt, probe: None, line: None, over: Arc::default() }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Ends when dropped.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Performer {
    pub(crate) fn new(driver: ProcessDriver, watches: Watches, inputs: Inputs) -> Self {
        Self {
            driver,
            watches,
            inputs,
            starts: Arc::new(Semaphore::new(STARTS)),
            probes: Arc::new(Semaphore::new(PROBES)),
            asked: HashMap::new(),
        }
    }

    /// Ends what belongs to attempts that are over.
    pub(crate) fn follow(&mut self, persist: &BTreeMap<SlotId, Option<Durable>>) {
        for (slot, durable) in persist {
            let running = durable.as_ref().and_then(is_up);
            if self.asked.get(slot).is_some_and(|asked| running != Some(asked.attempt)) {
                self.asked.remove(slot);
            }
        }
    }

    /// Begins an effect. Its outcome comes as an input.
    pub(crate) fn perform(&mut self, effect: Effect) {
        let slot = effect.slot().clone();
        let driver = self.driver.clone();
        let inputs = self.inputs.clone();
        match effect {
            Effect::Observe { attempt, .. } => {
                tokio::spawn(
                    async move { tell(&inputs, &slot, observe(&driver, &slot, attempt).await).await },
                );
            }
            Effect::Start { attempt, spec, base_environment, .. } => {
                let starts = self.starts.clone();
                tokio::spawn(async move {
                    let _turn = starts.acquire().await;
                    let launch = launch(&spec, &base_environment);
                    tell(&inputs, &slot, start(&driver, &slot, attempt, &launch).await).await;
                });
            }
            Effect::Stop { attempt, signal, grace, .. } => {
                tokio::spawn(async move {
                    if let Err(error) = driver.stop(&slot, attempt, signal, grace).await {
                        let why = process::chain(&error);
                        tell(&inputs, &slot, Input::StopFailed { attempt, why }).await;
                    }
                });
            }
            Effect::RunStopCommand { attempt, command, spec, base_environment, timeout, .. } => {
                let over = self.asked(&slot, attempt).over.clone();
                tokio::spawn(async move {
                    let request = exec_request(command, &spec, &base_environment, timeout);
                    let outcome = driver.exec(request).await;
                    if !outcome.is_success() {
                        tracing::warn!(%slot, "stop command: {}", outcome.describe());
                    }
                    // It may go on after what it stopped has ended.
                    if !over.load(Ordering::Relaxed) {
                        tell(&inputs, &slot, Input::StopCommandEnded { attempt }).await;
                    }
                });
            }
            Effect::Probe { attempt, probe, spec, base_environment, timeout, .. } => {
                let (probes, asked) = (self.probes.clone(), slot.clone());
                let task = tokio::spawn(async move {
                    let _turn = probes.acquire().await;
                    let (healthy, message) = ask(&driver, probe, &spec, &base_environment, timeout).await;
                    tell(&inputs, &asked, Input::Probed { attempt, healthy, message }).await;
                });
                self.asked(&slot, attempt).probe = Some(Task(task.abort_handle()));
            }
            Effect::WatchLog { attempt, pattern, from, .. } => self.watch_log(slot, attempt, pattern, from),
            Effect::Remove { .. } => {
                tokio::spawn(async move {
                    let input = match driver.remove(&slot).await {
                        Ok(()) => Input::Removed,
                        Err(error) => Input::RemoveFailed { why: process::chain(&error) },
                    };
                    tell(&inputs, &slot, input).await;
                });
            }
        }
    }

    fn watch_log(&mut self, slot: SlotId, attempt: Attempt, pattern: String, from: u64) {
        let dir = self.driver.log_dir(&slot);
        let inputs = self.inputs.clone();
        let (watched, watches) = (slot.clone(), self.watches.clone());
        let task = tokio::spawn(async move {
            let (healthy, message) = match logs::watch_for(&watches, &dir, from, &pattern).await {
                Ok(line) => (true, format!("line matched: {line}")),
                Err(error) => (false, process::chain(&error)),
            };
            tell(&inputs, &watched, Input::Probed { attempt, healthy, message }).await;
        });
        self.asked(&slot, attempt).line = Some(Task(task.abort_handle()));
    }

    fn asked(&mut self, slot: &SlotId, attempt: Attempt) -> &mut Asked {
        let asked = self.asked.entry(slot.clone()).or_insert_with(|| Asked::of(attempt));
        if asked.attempt != attempt {
            *asked = Asked::of(attempt);
        }
        asked
    }
}

/// The loop is gone only when the daemon ends; then nobody needs the outcome.
async fn tell(inputs: &Inputs, slot: &SlotId, input: Input) {
    let _ = inputs.send((slot.clone(), input)).await;
}

async fn observe(driver: &ProcessDriver, slot: &SlotId, last: Attempt) -> Input {
    match driver.observe(slot, last).await {
        Ok(seen) => Input::Observed {
            asked: last,
            seen: match seen {
                process::Observation::Never => Observation::Never,
                process::Observation::Running { attempt, pid, started_at, log_start } => {
                    Observation::Running { attempt, pid, started_at, log_start }
                }
                process::Observation::Ended { attempt, exit, .. } => Observation::Ended { attempt, exit },
                process::Observation::Lost { attempt, detail } => {
                    Observation::Ended { attempt, exit: Exit::Unknown(detail) }
                }
            },
        },
        Err(error) => Input::ObserveFailed { why: process::chain(&error) },
    }
}

async fn start(driver: &ProcessDriver, slot: &SlotId, attempt: Attempt, launch: &Launch) -> Input {
    match driver.start(slot, attempt, launch).await {
        Ok(started) => {
            Input::Started { attempt, pid: started.pid, at: started.at, log_start: started.log_start }
        }
        Err(StartError::Superseded { seen }) => Input::StartRefused { attempt, seen },
        // Whatever holds the slot, or did not answer: it is looked at before anything else is done.
        Err(StartError::Busy | StartError::Unanswered) => Input::StartRefused { attempt, seen: attempt },
        Err(StartError::NotExecuted(why)) => Input::StartFailed { attempt, why },
        Err(error @ StartError::Driver(_)) => Input::StartUnable { attempt, why: process::chain(&error) },
    }
}

fn environment(spec: &Service, base: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut all = base.clone();
    all.extend(spec.environment.iter().map(|(name, value)| (name.clone(), value.clone())));
    all
}

fn launch(spec: &Service, base: &BTreeMap<String, String>) -> Launch {
    Launch {
        command: spec.command.clone(),
        environment: environment(spec, base),
        working_dir: spec.working_dir.clone(),
        user: spec.user.clone(),
        log_max_size: LOG_MAX_SIZE,
        log_max_files: LOG_MAX_FILES,
    }
}

fn exec_request(
    command: Vec<String>,
    spec: &Service,
    base: &BTreeMap<String, String>,
    timeout: Millis,
) -> ExecRequest {
    ExecRequest {
        command,
        environment: environment(spec, base),
        working_dir: spec.working_dir.clone(),
        user: spec.user.clone(),
        timeout,
    }
}

async fn ask(
    driver: &ProcessDriver,
    probe: Probe,
    spec: &Service,
    base: &BTreeMap<String, String>,
    timeout: Millis,
) -> (bool, String) {
    match probe {
        Probe::Http(url) => verdict(probe::http(&url, timeout).await),
        Probe::Tcp(address) => verdict(probe::tcp(&address, timeout).await),
        Probe::Exec(command) => {
            let outcome = driver.exec(exec_request(command, spec, base, timeout)).await;
            (outcome.is_success(), outcome.describe())
        }
        // Waited for, not asked: see `Effect::WatchLog`.
        Probe::Log(_) => (false, "no line matched yet".into()),
    }
}

fn verdict(verdict: probe::Verdict) -> (bool, String) {
    (verdict.healthy, verdict.message)
}
