//! Effects, done to the machine: one task each, whose outcome is an input of the loop.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use upbeat_decide::Effect;
use upbeat_decide::instance::{Durable, HookCommand, Input, Moment, Observation, Preparation, Stage};
use upbeat_drivers::logs;
use upbeat_drivers::probe::{self, Prober};
use upbeat_drivers::process::{self, Launch, ProcessDriver, StartError};
use upbeat_drivers::watch::Watches;
use upbeat_model::{Attempt, Exit, Millis, SlotId};

use crate::asked::{Asked, Question, Task};
use crate::command::{Hooks, exec_request, launch};
use crate::meter::{Meter, count};
use crate::run::is_up;
use crate::turns::Turns;

/// Starts under way at once. Each is a few milliseconds of work for the kernel; more at once only
/// make each of them later.
const STARTS: usize = 64;

/// How long the command of an external service may take to start it. As systemd gives a start.
const EXTERNAL_START: Millis = Millis::seconds(90);

type Inputs = mpsc::Sender<(SlotId, Input)>;

/// What performs effects.
pub(crate) struct Performer {
    driver: ProcessDriver,
    watches: Watches,
    inputs: Inputs,
    starts: Arc<Semaphore>,
    probes: Turns,
    prober: Prober,
    meter: Arc<Meter>,
    /// What is asked of the attempt that runs, by slot. When it is over, nobody wants the answers any
    /// more, and they must not be taken for those of a copy to come.
    asked: HashMap<SlotId, Asked>,
    /// What is run after the end of an attempt. Whoever kills ends it.
    partings: HashMap<SlotId, (Attempt, Task)>,
}

impl Performer {
    pub(crate) fn new(driver: ProcessDriver, watches: Watches, inputs: Inputs, meter: Arc<Meter>) -> Self {
        Self {
            prober: Prober::new(driver.clone()),
            driver,
            watches,
            inputs,
            starts: Arc::new(Semaphore::new(STARTS)),
            probes: Turns::new(),
            meter,
            asked: HashMap::new(),
            partings: HashMap::new(),
        }
    }

    /// Ends what belongs to attempts that are over.
    pub(crate) fn follow(&mut self, persist: &BTreeMap<SlotId, Option<Durable>>) {
        for (slot, durable) in persist {
            let running = durable.as_ref().and_then(is_up);
            if self.asked.get(slot).is_some_and(|asked| running != Some(asked.attempt)) {
                self.asked.remove(slot);
            }
            if durable.as_ref().is_none_or(|durable| durable.farewell.is_none()) {
                self.partings.remove(slot);
            }
            let Some(asked) = self.asked.get_mut(slot) else { continue };
            let Some(Durable { stage: Stage::Up(up), .. }) = durable else { continue };
            // The file may not ask it any more.
            asked.questions.retain(|name, _| up.answers.contains_key(name));
            if up.preparation != Preparation::Due || up.condemned.is_some() {
                // It may have no hooks any more, and nobody waits for those that run.
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
            effect @ Effect::Start { .. } => self.start(slot, effect),
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
            Effect::Signal { attempt, signal, .. } => {
                if let Err(error) = driver.signal(&slot, attempt, signal) {
                    tracing::warn!(%slot, %signal, "not sent: {}", process::chain(&error));
                }
            }
            effect @ Effect::Reload { .. } => self.reload(slot, effect),
            Effect::RunHooks { attempt, moment, serial, commands, timeout, exit, .. } => {
                self.run_hooks(Hooks::of(slot, attempt, moment, serial, commands, timeout, exit), moment);
            }
            effect @ Effect::Probe { .. } => self.probe(effect),
            effect @ Effect::WatchLog { .. } => self.watch_log(effect),
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

    fn start(&mut self, slot: SlotId, effect: Effect) {
        let Effect::Start { attempt, spec, base_environment, .. } = effect else { return };
        let (driver, inputs, starts) = (self.driver.clone(), self.inputs.clone(), self.starts.clone());
        if !spec.external {
            let meter = self.meter.clone();
            tokio::spawn(async move {
                let begun = Instant::now();
                let _turn = starts.acquire().await;
                meter.start_turns.took(begun.elapsed());
                let launch = launch(&spec, &base_environment);
                tell(&inputs, &slot, start(&driver, &slot, attempt, &launch).await).await;
            });
            return;
        }
        if self.asked(&slot, attempt).start.as_ref().is_some_and(|task| !task.0.is_finished()) {
            // It is on its way: ordered again in case it was lost.
            return;
        }
        let started = slot.clone();
        let task = tokio::spawn(async move {
            let _turn = starts.acquire().await;
            let request =
                exec_request(&started, spec.command.clone(), &spec, &base_environment, EXTERNAL_START);
            let input = match driver.exec(request).await {
                outcome if outcome.is_success() => {
                    let at = upbeat_drivers::clock::wall();
                    Input::Started { attempt, pid: 0, at, log_start: 0 }
                }
                outcome => Input::StartFailed { attempt, why: outcome.describe() },
            };
            tell(&inputs, &started, input).await;
        });
        self.asked(&slot, attempt).start = Some(Task(task.abort_handle()));
    }

    fn reload(&mut self, slot: SlotId, effect: Effect) {
        let Effect::Reload { attempt, serial, signal, commands, timeout, .. } = effect else { return };
        let (driver, inputs) = (self.driver.clone(), self.inputs.clone());
        if self.asked(&slot, attempt).reload.as_ref().is_some_and(|task| !task.0.is_finished()) {
            return;
        }
        let (kind, goes_on, exit) = ("reload", false, None);
        let hooks = Hooks { slot: slot.clone(), attempt, kind, serial, commands, timeout, exit, goes_on };
        let task = tokio::spawn(async move {
            let sent = signal.map(|signal| driver.signal(&hooks.slot, attempt, signal));
            let outcome = match sent {
                Some(Err(error)) => Err(process::chain(&error)),
                _ => hooks.run(&driver).await,
            };
            tell(&inputs, &hooks.slot, Input::Reloaded { attempt, serial, outcome }).await;
        });
        self.asked(&slot, attempt).reload = Some(Task(task.abort_handle()));
    }

    fn run_hooks(&mut self, hooks: Hooks, moment: Moment) {
        let (slot, attempt) = (hooks.slot.clone(), hooks.attempt);
        if self.is_running(&slot, attempt, moment, &hooks.commands) {
            // They run: asked for again in case they were lost.
            return;
        }
        let commands = hooks.commands.clone();
        let over = match moment {
            Moment::PostStop => Arc::default(),
            _ => {
                let asked = self.asked(&slot, attempt);
                // A start that is called off has no use for them, and neither has one that has others.
                asked.preparation = None;
                asked.over.clone()
            }
        };
        let (driver, inputs) = (self.driver.clone(), self.inputs.clone());
        let task = tokio::spawn(async move {
            let outcome = hooks.run(&driver).await;
            // They may go on after what they stopped has ended.
            if !over.load(Ordering::Relaxed) {
                tell(&inputs, &hooks.slot, Input::HooksEnded { attempt, moment, outcome }).await;
            }
        });
        let task = task.abort_handle();
        match moment {
            Moment::PreStart | Moment::PostStart => {
                self.asked(&slot, attempt).preparation = Some((commands, Task(task)));
            }
            Moment::PreStop => self.asked(&slot, attempt).farewell = Some(task),
            Moment::PostStop => drop(self.partings.insert(slot, (attempt, Task(task)))),
            Moment::Remedy => self.asked(&slot, attempt).remedy = Some(Task(task)),
        }
    }

    fn is_running(
        &mut self,
        slot: &SlotId,
        attempt: Attempt,
        moment: Moment,
        commands: &[Arc<HookCommand>],
    ) -> bool {
        let runs = |task: &Task| !task.0.is_finished();
        match moment {
            Moment::PreStart | Moment::PostStart => {
                let preparation = &self.asked(slot, attempt).preparation;
                preparation.as_ref().is_some_and(|(running, task)| running == commands && runs(task))
            }
            Moment::PostStop => {
                self.partings.get(slot).is_some_and(|(of, task)| *of == attempt && runs(task))
            }
            // One that still runs is not run beside itself.
            Moment::Remedy => self.asked(slot, attempt).remedy.as_ref().is_some_and(runs),
            Moment::PreStop => false,
        }
    }

    fn probe(&mut self, effect: Effect) {
        let Effect::Probe { slot, attempt, name, check, ask, spec, base_environment, timeout } = effect
        else {
            return;
        };
        if self.asked(&slot, attempt).is_out(&name, check) {
            // Its answer still comes, and asked anew it would go to the end of the queue.
            return;
        }
        let answered = Arc::new(AtomicBool::new(false));
        let answers = answered.clone();
        let queue = self.probes.of(&slot.app);
        let (prober, inputs, asked) = (self.prober.clone(), self.inputs.clone(), slot.clone());
        let (probed, meter) = (name.clone(), self.meter.clone());
        let of_probe = meter.slot(&slot).probe(&name);
        let task = tokio::spawn(async move {
            let waiting = Instant::now();
            let _turn = queue.turn().await;
            meter.probe_turns.took(waiting.elapsed());
            count(&meter.probes, 1);
            let begun = Instant::now();
            let question = probe::Asked {
                slot: &asked,
                attempt,
                probe: &probed,
                question: &ask,
                spec: &spec,
                base_environment: &base_environment,
                timeout,
            };
            let probe::Verdict { healthy, message, .. } = prober.ask(&question).await;
            if let Some(of_probe) = of_probe {
                if healthy { &of_probe.passed } else { &of_probe.failed }.took(begun.elapsed());
            }
            answers.store(true, Ordering::Relaxed);
            tell(&inputs, &asked, Input::Probed { attempt, check, healthy, message }).await;
        });
        let question = Question { check, answered, task: Task(task.abort_handle()) };
        self.asked(&slot, attempt).questions.insert(name, question);
    }

    fn watch_log(&mut self, effect: Effect) {
        let Effect::WatchLog { slot, attempt, name, check, pattern, from } = effect else { return };
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
        let question = Question { check, answered: Arc::default(), task: Task(task.abort_handle()) };
        self.asked(&slot, attempt).questions.insert(name, question);
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;
    use upbeat_drivers::process::{Places, ShimProgram};
    use upbeat_model::ProbeName;
    use upbeat_model::project::{Http, Question as Ask, Service};

    fn service() -> Arc<Service> {
        Arc::new(serde_json::from_str(r#"{"command":["x"],"working_dir":"/"}"#).unwrap())
    }

    fn probe(slot: &str, probe: Ask) -> Effect {
        Effect::Probe {
            slot: slot.parse().unwrap(),
            attempt: Attempt(1),
            check: 1,
            name: ProbeName::new("readiness").unwrap(),
            ask: probe,
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
        (Performer::new(driver, Watches::new().unwrap(), inputs, Arc::default()), outcomes)
    }

    #[tokio::test]
    async fn probes_that_hang_hold_up_no_other_app() {
        let (mut performer, mut outcomes) = performer();
        // Connections are accepted by the system, and nobody ever answers.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", silent.local_addr().unwrap());
        for n in 1..=600 {
            performer.perform(probe(&format!("hangs/s/{n}"), Ask::Http(Http::get(url.clone()))));
        }
        let there = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = there.local_addr().unwrap().to_string();
        performer.perform(probe("web/s/1", Ask::Tcp(address)));
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
        performer.perform(probe("a/s/1", Ask::Http(Http::get(url.clone()))));
        let first = performer.asked[&slot].questions["readiness"].task.0.clone();
        performer.perform(probe("a/s/1", Ask::Http(Http::get(url))));
        assert!(!first.is_finished());
        let mut other = probe("a/s/1", Ask::Log("x".into()));
        if let Effect::Probe { check, .. } = &mut other {
            *check = 2;
        }
        performer.perform(other);
        let (_, answer) = outcomes.recv().await.unwrap();
        assert!(matches!(answer, Input::Probed { check: 2, .. }), "{answer:?}");
        assert!(first.is_finished());
    }
}
