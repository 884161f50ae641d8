//! Effects, done to the machine: one task each, whose outcome is an input of the loop.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use upbeat_decide::Effect;
use upbeat_decide::instance::{Durable, HookCommand, Input, Moment, Observation, Preparation, Stage};
use upbeat_drivers::process::{self, ExecRequest, Launch, ProcessDriver, Rights, StartError, Stdio};
use upbeat_drivers::watch::Watches;
use upbeat_drivers::{logs, probe};
use upbeat_model::project::{Probe, Service};
use upbeat_model::{Attempt, Exit, Millis, SlotId};

use crate::run::is_up;
use crate::turns::Turns;

/// Starts under way at once. Each is a few milliseconds of work for the kernel; more at once only
/// make each of them later.
const STARTS: usize = 64;

type Inputs = mpsc::Sender<(SlotId, Input)>;

/// What performs effects.
pub(crate) struct Performer {
    driver: ProcessDriver,
    watches: Watches,
    inputs: Inputs,
    starts: Arc<Semaphore>,
    probes: Turns,
    /// What is asked of the attempt that runs, by slot. When it is over, nobody wants the answers any
    /// more, and they must not be taken for those of a copy to come.
    asked: HashMap<SlotId, Asked>,
}

/// What is asked of one attempt. Dropped: nobody wants to know any more.
struct Asked {
    attempt: Attempt,
    /// What its health check asks now, be it a probe or a wait for a line. Another check takes the
    /// place of this one.
    question: Option<Question>,
    /// Its `post_start` hooks, and what they are.
    preparation: Option<(Vec<Arc<HookCommand>>, Task)>,
    /// What is run before its stop. It may go on when the copy is gone: only who kills ends it.
    farewell: Option<AbortHandle>,
    over: Arc<AtomicBool>,
}

/// One question of one check.
struct Question {
    check: u64,
    /// The answer is on its way to the loop: the next one may be asked.
    answered: Arc<AtomicBool>,
    task: Task,
}

impl Question {
    /// It waits for its turn or its answer.
    fn is_out(&self, check: u64) -> bool {
        let over = self.answered.load(Ordering::Relaxed) || self.task.0.is_finished();
        self.check == check && !over
    }
}

impl Asked {
    fn of(attempt: Attempt) -> Self {
        Self { attempt, question: None, preparation: None, farewell: None, over: Arc::default() }
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
            probes: Turns::new(),
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
            if let Some(Durable { stage: Stage::Up(up), .. }) = durable
                && up.preparation != Preparation::Due
                && let Some(asked) = self.asked.get_mut(slot)
            {
                // The file may have none any more, and nobody waits for those that run.
                asked.preparation = None;
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
                let asked = self.asked(&slot, attempt);
                asked.preparation = None;
                // They have ended, or their time is over, or it is killed.
                asked.farewell.take().inspect(AbortHandle::abort);
                tokio::spawn(async move {
                    if let Err(error) = driver.stop(&slot, attempt, signal, grace).await {
                        let why = process::chain(&error);
                        tell(&inputs, &slot, Input::StopFailed { attempt, why }).await;
                    }
                });
            }
            Effect::RunHooks { attempt, moment, commands, timeout, .. } => {
                self.run_hooks(slot, attempt, moment, commands, timeout);
            }
            effect @ Effect::Probe { .. } => self.probe(effect),
            Effect::WatchLog { attempt, check, pattern, from, .. } => {
                self.watch_log(slot, attempt, check, pattern, from);
            }
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

    fn run_hooks(
        &mut self,
        slot: SlotId,
        attempt: Attempt,
        moment: Moment,
        commands: Vec<Arc<HookCommand>>,
        timeout: Millis,
    ) {
        let asked = self.asked(&slot, attempt);
        if moment == Moment::PostStart
            && let Some((running, task)) = &asked.preparation
            && (*running == commands && !task.0.is_finished())
        {
            // They run: asked for again in case they were lost.
            return;
        }
        // A start that is called off has no use for them, and neither has one that has others now.
        asked.preparation = None;
        let over = asked.over.clone();
        let (driver, inputs, hooked) = (self.driver.clone(), self.inputs.clone(), slot.clone());
        let run = commands.clone();
        let task = tokio::spawn(async move {
            let outcome = hooks(&driver, &hooked, moment, &run, timeout).await;
            // They may go on after what they stopped has ended.
            if !over.load(Ordering::Relaxed) {
                tell(&inputs, &hooked, Input::HooksEnded { attempt, moment, outcome }).await;
            }
        });
        let (asked, task) = (self.asked(&slot, attempt), task.abort_handle());
        match moment {
            Moment::PostStart => asked.preparation = Some((commands, Task(task))),
            Moment::PreStop => asked.farewell = Some(task),
        }
    }

    fn probe(&mut self, effect: Effect) {
        let Effect::Probe { slot, attempt, check, probe, spec, base_environment, timeout } = effect else {
            return;
        };
        if self.asked(&slot, attempt).question.as_ref().is_some_and(|question| question.is_out(check)) {
            // Its answer still comes, and asked anew it would go to the end of the queue.
            return;
        }
        let answered = Arc::new(AtomicBool::new(false));
        let answers = answered.clone();
        let queue = self.probes.of(&slot.app);
        let (driver, inputs, asked) = (self.driver.clone(), self.inputs.clone(), slot.clone());
        let task = tokio::spawn(async move {
            let _turn = queue.turn().await;
            let (healthy, message) = ask(&driver, &asked, probe, &spec, &base_environment, timeout).await;
            answers.store(true, Ordering::Relaxed);
            tell(&inputs, &asked, Input::Probed { attempt, check, healthy, message }).await;
        });
        let question = Question { check, answered, task: Task(task.abort_handle()) };
        self.asked(&slot, attempt).question = Some(question);
    }

    fn watch_log(&mut self, slot: SlotId, attempt: Attempt, check: u64, pattern: String, from: u64) {
        let dir = self.driver.log_dir(&slot);
        let inputs = self.inputs.clone();
        let (watched, watches) = (slot.clone(), self.watches.clone());
        let task = tokio::spawn(async move {
            let (healthy, message) = match logs::watch_for(&watches, &dir, from, &pattern).await {
                Ok(line) => (true, format!("line matched: {line}")),
                Err(error) => (false, process::chain(&error)),
            };
            tell(&inputs, &watched, Input::Probed { attempt, check, healthy, message }).await;
        });
        let task = Task(task.abort_handle());
        self.asked(&slot, attempt).question = Some(Question { check, answered: Arc::default(), task });
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

fn rights(spec: &Service) -> Rights {
    Rights {
        groups: spec.group_add.clone(),
        ulimits: spec.ulimits.clone(),
        oom_score_adj: spec.oom_score_adj,
    }
}

fn launch(spec: &Service, base: &BTreeMap<String, String>) -> Launch {
    Launch {
        command: spec.command.clone(),
        environment: environment(spec, base),
        working_dir: spec.working_dir.clone(),
        user: spec.user.clone(),
        rights: rights(spec),
        stdio: match (spec.tty, spec.stdin_open) {
            (true, _) => Stdio::Terminal,
            (false, true) => Stdio::OpenInput,
            (false, false) => Stdio::Plain,
        },
        files: spec.files.clone(),
        resources: spec.resources,
        notify: None,
        log_max_size: spec.log.unwrap_or_default().max_size,
        log_max_files: spec.log.unwrap_or_default().max_files,
    }
}

fn exec_request(
    slot: &SlotId,
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
        rights: rights(spec),
        beside: Some(slot.clone()),
        timeout,
    }
}

/// Runs commands one after the other, within one time for all.
async fn hooks(
    driver: &ProcessDriver,
    slot: &SlotId,
    moment: Moment,
    commands: &[Arc<HookCommand>],
    timeout: Millis,
) -> Result<(), String> {
    let begun = Instant::now();
    for hook in commands {
        let gone = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let why = match timeout.0.saturating_sub(gone) {
            // One that is begun to be killed at once would be half done at best.
            0 => "no time was left for it".to_owned(),
            left => match driver.exec(hook_request(slot, hook, Millis(left))).await {
                outcome if outcome.is_success() => continue,
                outcome => outcome.describe(),
            },
        };
        let program = hook.command.first().map_or("", String::as_str);
        let why = format!("`{program}`: {why}");
        match moment {
            Moment::PostStart => return Err(why),
            Moment::PreStop => tracing::warn!(%slot, "before its stop: {why}"),
        }
    }
    Ok(())
}

fn hook_request(slot: &SlotId, hook: &HookCommand, timeout: Millis) -> ExecRequest {
    let mut environment = (*hook.base_environment).clone();
    environment.extend(hook.environment.clone());
    ExecRequest {
        command: hook.command.clone(),
        environment,
        working_dir: hook.working_dir.clone(),
        user: hook.user.clone(),
        rights: Rights {
            groups: hook.group_add.clone(),
            ulimits: hook.ulimits.clone(),
            oom_score_adj: hook.oom_score_adj,
        },
        beside: Some(slot.clone()),
        timeout,
    }
}

async fn ask(
    driver: &ProcessDriver,
    slot: &SlotId,
    probe: Probe,
    spec: &Service,
    base: &BTreeMap<String, String>,
    timeout: Millis,
) -> (bool, String) {
    match probe {
        Probe::Http(url) => verdict(probe::http(&url, timeout).await),
        Probe::Tcp(address) => verdict(probe::tcp(&address, timeout).await),
        Probe::Exec(command) => {
            let outcome = driver.exec(exec_request(slot, command, spec, base, timeout)).await;
            (outcome.is_success(), outcome.describe())
        }
        // Waited for, not asked: see `Effect::WatchLog`.
        Probe::Log(_) => (false, "no line matched yet".into()),
    }
}

fn verdict(verdict: probe::Verdict) -> (bool, String) {
    (verdict.healthy, verdict.message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;
    use upbeat_drivers::process::{Places, ShimProgram};

    fn service() -> Arc<Service> {
        Arc::new(serde_json::from_str(r#"{"command":["x"],"working_dir":"/"}"#).unwrap())
    }

    fn probe(slot: &str, probe: Probe) -> Effect {
        Effect::Probe {
            slot: slot.parse().unwrap(),
            attempt: Attempt(1),
            check: 1,
            probe,
            spec: service(),
            base_environment: Arc::default(),
            timeout: Millis::seconds(3_600),
        }
    }

    /// No process is started here.
    fn performer() -> (Performer, mpsc::Receiver<(SlotId, Input)>) {
        let program = ShimProgram { path: "/nonexistent".into(), args: Vec::new() };
        let [slots, private, process] = ["/nonexistent"; 3].map(Into::into);
        let places = Places { slots, private, process };
        let (driver, _events) = ProcessDriver::new(program, places).unwrap();
        let (inputs, outcomes) = mpsc::channel(16);
        (Performer::new(driver, Watches::new().unwrap(), inputs), outcomes)
    }

    #[tokio::test]
    async fn probes_that_hang_hold_up_no_other_app() {
        let (mut performer, mut outcomes) = performer();
        // Connections are accepted by the system, and nobody ever answers.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", silent.local_addr().unwrap());
        for n in 1..=600 {
            performer.perform(probe(&format!("hangs/s/{n}"), Probe::Http(url.clone())));
        }
        let there = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = there.local_addr().unwrap().to_string();
        performer.perform(probe("web/s/1", Probe::Tcp(address)));
        let (slot, answer) = outcomes.recv().await.unwrap();
        assert_eq!(slot.app.to_string(), "web");
        assert!(matches!(answer, Input::Probed { healthy: true, check: 1, .. }), "{answer:?}");
    }

    #[tokio::test]
    async fn a_probe_that_is_out_is_not_asked_twice_and_another_check_takes_its_place() {
        let (mut performer, mut outcomes) = performer();
        let slot: SlotId = "a/s/1".parse().unwrap();
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", silent.local_addr().unwrap());
        performer.perform(probe("a/s/1", Probe::Http(url.clone())));
        let first = performer.asked[&slot].question.as_ref().unwrap().task.0.clone();
        performer.perform(probe("a/s/1", Probe::Http(url)));
        assert!(!first.is_finished());
        let mut other = probe("a/s/1", Probe::Log("x".into()));
        if let Effect::Probe { check, .. } = &mut other {
            *check = 2;
        }
        performer.perform(other);
        let (_, answer) = outcomes.recv().await.unwrap();
        assert!(matches!(answer, Input::Probed { check: 2, .. }), "{answer:?}");
        assert!(first.is_finished());
    }
}
