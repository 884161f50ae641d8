//! Effects, done to the machine: one task each, whose outcome is an input of the loop.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use upbeat_decide::Effect;
use upbeat_decide::instance::{
    Durable, Healing, HookCommand, Input, Moment, Observation, Preparation, Stage, Unlocked,
};
use upbeat_drivers::logs;
use upbeat_drivers::machine::Machine;
use upbeat_drivers::probe::{self, Prober};
use upbeat_drivers::process::{self, ExecOutcome, Launch, ProcessDriver, StartError};
use upbeat_drivers::update_locks::NotTaken;
use upbeat_drivers::watch::Watches;
use upbeat_model::project::{Service, Signal};
use upbeat_model::{Attempt, Exit, Millis, SlotId};

use crate::asked::{Asked, Question, StartCommand, Task};
use crate::command::{Hooks, NotWell, exec_request, launch};
use crate::containers::{self, Order};
use crate::guarded::{attempted, guarded};
use crate::keep::Seal;
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
    /// Of the keys of hooks.
    seal: Seal,
    machine: Machine,
    watches: Watches,
    inputs: Inputs,
    starts: Arc<Semaphore>,
    probes: Turns,
    prober: Prober,
    meter: Arc<Meter>,
    /// What is asked of the attempt that runs, by slot. When it is over, nobody wants the answers any
    /// more, and they must not be taken for those of a copy to come.
    asked: HashMap<SlotId, Asked>,
    /// What is being made, by slot: for the wish of which generation and digest.
    making: HashMap<SlotId, ((u64, String), Task)>,
    /// What is run after the end of an attempt. Whoever kills ends it.
    partings: HashMap<SlotId, (Attempt, Task)>,
}

impl Performer {
    pub(crate) fn new(
        machine: Machine,
        watches: Watches,
        inputs: Inputs,
        meter: Arc<Meter>,
        seal: Seal,
    ) -> Self {
        let prober = Prober::of(machine.clone());
        Self {
            seal,
            probes: Turns::new(prober.clone()),
            prober,
            machine,
            watches,
            inputs,
            starts: Arc::new(Semaphore::new(STARTS)),
            meter,
            asked: HashMap::new(),
            making: HashMap::new(),
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
            let is_due = |(serial, _): &(u64, Task)| matches!(&up.remedy, Some(Healing::Due { serial: due, .. }) if due == serial);
            // The file may know nothing of it any more.
            asked.remedy.take_if(|remedy| !is_due(remedy));
        }
    }

    /// Begins an effect. Its outcome comes as an input.
    pub(crate) fn perform(&mut self, effect: Effect) {
        let slot = effect.slot().clone();
        let machine = self.machine.clone();
        let inputs = self.inputs.clone();
        match effect {
            Effect::Observe { attempt, container, .. } => self.observe(slot, attempt, container),
            Effect::Prepare { generation, digest, release, spec, .. } => {
                self.prepare(Order { slot, generation, digest, release, spec });
            }
            Effect::Mend { attempt, .. } => self.mend(slot, attempt),
            effect @ Effect::Start { .. } => self.start(slot, effect),
            Effect::Stop { attempt, signal, grace, .. } => {
                let asked = self.asked(&slot, attempt);
                asked.preparation = None;
                // They have ended, or their time is over, or it is killed.
                asked.farewell.take().inspect(AbortHandle::abort);
                tokio::spawn(async move {
                    let stop = async {
                        match machine.engine.holds(&slot, attempt) {
                            true => machine.engine.stop(&slot, attempt, signal, grace).await.map_err(chained),
                            false => {
                                machine.processes.stop(&slot, attempt, signal, grace).await.map_err(chained)
                            }
                        }
                    };
                    if let Err(why) = attempted(stop).await {
                        tell(&inputs, &slot, Input::StopFailed { attempt, why }).await;
                    }
                });
            }
            Effect::Signal { attempt, probe, signal, .. } => {
                tokio::spawn(async move {
                    if let Err(why) = send(&machine, &slot, attempt, signal).await {
                        let why = format!("{signal} could not be sent: {why}");
                        tell(&inputs, &slot, Input::SignalFailed { attempt, probe, why }).await;
                    }
                });
            }
            effect @ Effect::Reload { .. } => self.reload(slot, effect),
            Effect::RunHooks { attempt, moment, begun, serial, commands, timeout, exit, .. } => {
                let which = (begun, serial);
                self.run_hooks(
                    Hooks::of(self.seal, (slot, attempt), moment, which, commands, timeout, exit),
                    moment,
                );
            }
            effect @ Effect::Probe { .. } => self.probe(effect),
            effect @ Effect::WatchLog { .. } => self.watch_log(effect),
            Effect::Lock { serial, slots, .. } => self.lock(slot, serial, &slots),
            Effect::Unlock { .. } => machine.locks.let_go(&slot),
            Effect::Remove { container, networks, .. } => self.remove(slot, container, networks),
        }
    }

    /// Deletes what there is of a slot.
    fn remove(&mut self, slot: SlotId, container: bool, networks: Vec<String>) {
        let (machine, inputs) = (self.machine.clone(), self.inputs.clone());
        let making = self.making.remove(&slot);
        tokio::spawn(async move {
            // Nobody wants it any more.
            drop(making);
            let remove = async {
                if container {
                    machine.engine.remove(&slot, &networks).await.map_err(chained)?;
                }
                machine.processes.remove(&slot).await.map_err(chained)?;
                machine.locks.remove(&slot).map_err(|error| format!("its update lock: {error}"))
            };
            let input = match attempted(remove).await {
                Ok(()) => Input::Removed,
                Err(why) => Input::RemoveFailed { why },
            };
            tell(&inputs, &slot, input).await;
        });
    }

    /// Takes update locks, which takes moments: what is ordered of them is done in its order.
    fn lock(&self, slot: SlotId, serial: u64, slots: &[SlotId]) {
        let outcome = self.machine.locks.take(slots).map_err(|why| match why {
            NotTaken::Held(slot, lock) => Unlocked::Held { slot, lock },
            NotTaken::Failed(slot, why) => Unlocked::Failed { slot, why },
        });
        let inputs = self.inputs.clone();
        tokio::spawn(async move { tell(&inputs, &slot, Input::Locked { serial, outcome }).await });
    }

    /// Looks what is there; what of it is not as it should be is told after that.
    fn observe(&self, slot: SlotId, attempt: Attempt, container: bool) {
        let (machine, inputs) = (self.machine.clone(), self.inputs.clone());
        tokio::spawn(async move {
            let seen = guarded(observe(&machine, &slot, attempt, container)).await;
            let (seen, drifted) = seen.unwrap_or_else(|why| (Input::ObserveFailed { why }, None));
            tell(&inputs, &slot, seen).await;
            if let Some(drifted) = drifted {
                tell(&inputs, &slot, drifted).await;
            }
        });
    }

    /// Puts a container right.
    fn mend(&self, slot: SlotId, attempt: Attempt) {
        let (machine, inputs) = (self.machine.clone(), self.inputs.clone());
        tokio::spawn(async move {
            let outcome =
                attempted(async { machine.engine.mend(&slot, attempt).await.map_err(chained) }).await;
            tell(&inputs, &slot, Input::Mended { attempt, outcome }).await;
        });
    }

    /// Has a container made. One that is ordered once more goes on; one that is ordered otherwise takes its place.
    fn prepare(&mut self, order: Order) {
        let which = (order.generation, order.digest.clone());
        if self.making.get(&order.slot).is_some_and(|(of, task)| *of == which && !task.0.is_finished()) {
            return;
        }
        let (engine, inputs, slot) = (self.machine.engine.clone(), self.inputs.clone(), order.slot.clone());
        let task = tokio::spawn(async move {
            let prepared = containers::prepare(&engine, &order, inputs.clone()).await;
            tell(&inputs, &order.slot, prepared).await;
        });
        self.making.insert(slot, (which, Task(task.abort_handle())));
    }

    fn start(&mut self, slot: SlotId, effect: Effect) {
        let Effect::Start { attempt, spec, base_environment, container, .. } = effect else { return };
        let (machine, inputs, starts) = (self.machine.clone(), self.inputs.clone(), self.starts.clone());
        // The copy it was held for has ended, or this would not be ordered.
        machine.locks.let_go(&slot);
        if let Some(container) = container {
            return self.start_container(slot, attempt, container, &spec);
        }
        let driver = machine.processes;
        if !spec.external {
            return self.start_process(slot, attempt, spec, base_environment);
        }
        if self.asked(&slot, attempt).start.as_ref().is_some_and(|start| !start.task.is_finished()) {
            // It is on its way: ordered again in case it was lost.
            return;
        }
        let (started, called_off) = (slot.clone(), Arc::new(Notify::new()));
        let no_more = called_off.clone();
        let task = tokio::spawn(async move {
            let _turn = tokio::select! {
                biased;
                () = no_more.notified() => return,
                turn = starts.acquire() => turn,
            };
            let request =
                exec_request(&started, spec.command.clone(), &spec, &base_environment, EXTERNAL_START);
            let outcome = guarded(driver.exec_until(request, no_more.notified())).await;
            let input = match outcome.unwrap_or_else(ExecOutcome::Unable) {
                outcome if outcome.is_success() => {
                    let at = upbeat_drivers::clock::wall();
                    Input::Started { attempt, pid: 0, at, log_start: 0 }
                }
                ExecOutcome::Unable(why) => Input::StartUnable { attempt, why },
                outcome => Input::StartFailed { attempt, why: outcome.describe() },
            };
            tell(&inputs, &started, input).await;
        });
        self.asked(&slot, attempt).start = Some(StartCommand { called_off, task });
    }

    fn start_container(&self, slot: SlotId, attempt: Attempt, container: String, spec: &Service) {
        let (machine, inputs, starts) = (self.machine.clone(), self.inputs.clone(), self.starts.clone());
        let (meter, has_lock) = (self.meter.clone(), spec.update_lock);
        tokio::spawn(async move {
            let begun = Instant::now();
            let _turn = starts.acquire().await;
            meter.start_turns.took(begun.elapsed());
            // It may be gone with a boot.
            if let Err(why) = lock_of(&machine, &slot, has_lock) {
                return tell(&inputs, &slot, Input::StartUnable { attempt, why }).await;
            }
            let started = guarded(containers::start(&machine.engine, &slot, attempt, &container)).await;
            // It may have been started: that is looked for before anything else is done.
            let started = started.unwrap_or_else(|why| Input::StartUnable { attempt, why });
            tell(&inputs, &slot, started).await;
        });
    }

    fn start_process(
        &self,
        slot: SlotId,
        attempt: Attempt,
        spec: Arc<Service>,
        base_environment: Arc<BTreeMap<String, String>>,
    ) {
        let (machine, inputs, starts) = (self.machine.clone(), self.inputs.clone(), self.starts.clone());
        let meter = self.meter.clone();
        tokio::spawn(async move {
            let begun = Instant::now();
            let _turn = starts.acquire().await;
            meter.start_turns.took(begun.elapsed());
            let mut launch = launch(&spec, &base_environment);
            match lock_of(&machine, &slot, spec.update_lock) {
                Ok(path) => {
                    launch.environment.extend(path.map(|path| (Service::UPDATE_LOCK.to_owned(), path)));
                }
                Err(why) => return tell(&inputs, &slot, Input::StartUnable { attempt, why }).await,
            }
            // It may have been a container until now.
            if let Err(why) = attempted(async { machine.engine.clear(&slot).await.map_err(chained) }).await {
                return tell(&inputs, &slot, Input::StartUnable { attempt, why }).await;
            }
            let started = guarded(start(&machine.processes, &slot, attempt, &launch)).await;
            // It may have been started: that is looked for before anything else is done.
            let started = started.unwrap_or_else(|why| Input::StartUnable { attempt, why });
            tell(&inputs, &slot, started).await;
        });
    }

    fn reload(&mut self, slot: SlotId, effect: Effect) {
        let Effect::Reload { attempt, begun, serial, signal, commands, timeout, .. } = effect else { return };
        let (machine, inputs) = (self.machine.clone(), self.inputs.clone());
        if self.asked(&slot, attempt).reload.as_ref().is_some_and(|task| !task.0.is_finished()) {
            return;
        }
        let (kind, goes_on, exit) = ("reload", false, None);
        let hooks = Hooks {
            seal: self.seal,
            slot: slot.clone(),
            attempt,
            kind,
            begun,
            serial,
            commands,
            timeout,
            exit,
            goes_on,
        };
        let task = tokio::spawn(async move {
            let outcome = match signal {
                // One that ends is not reloaded, and nobody asked for an end.
                Some(signal) if machine.processes.would_end(&hooks.slot, attempt, signal) => {
                    Err(NotWell::Failed(format!("{signal} would end it: it has no handler for that signal")))
                }
                Some(signal) => send(&machine, &hooks.slot, attempt, signal).await.map_err(NotWell::Failed),
                None => run(&hooks, &machine).await,
            };
            let input = match outcome {
                Err(NotWell::Unable(why)) => Input::ReloadUnable { attempt, serial, why },
                Err(NotWell::Failed(why)) => Input::Reloaded { attempt, serial, outcome: Err(why) },
                Ok(()) => Input::Reloaded { attempt, serial, outcome: Ok(()) },
            };
            tell(&inputs, &hooks.slot, input).await;
        });
        self.asked(&slot, attempt).reload = Some(Task(task.abort_handle()));
    }

    fn run_hooks(&mut self, hooks: Hooks, moment: Moment) {
        let (slot, attempt, serial) = (hooks.slot.clone(), hooks.attempt, hooks.serial);
        if self.is_running(&slot, attempt, moment, &hooks.commands) {
            // They run: asked for again in case they were lost.
            return;
        }
        let commands = hooks.commands.clone();
        let (over, start) = match moment {
            Moment::PostStop => (Arc::default(), None),
            _ => {
                let asked = self.asked(&slot, attempt);
                // A start that is called off has no use for them, and neither has one that has others.
                asked.preparation = None;
                (asked.over.clone(), asked.start.take_if(|_| moment == Moment::PreStop))
            }
        };
        let (machine, inputs) = (self.machine.clone(), self.inputs.clone());
        let task = tokio::spawn(async move {
            if let Some(start) = start {
                // What is to be stopped is not still being started.
                start.end().await;
            }
            let outcome = run(&hooks, &machine).await;
            // They may go on after what they stopped has ended.
            if over.load(Ordering::Relaxed) {
                if outcome.is_err() {
                    // What it said is not looked through for secrets here.
                    tracing::warn!(slot = %hooks.slot, "{}: failed when its copy had ended", hooks.kind);
                }
                return;
            }
            let input = match outcome {
                Err(NotWell::Unable(why)) => Input::HooksUnable { attempt, moment, serial, why },
                Err(NotWell::Failed(why)) => Input::HooksEnded { attempt, moment, serial, outcome: Err(why) },
                Ok(()) => Input::HooksEnded { attempt, moment, serial, outcome: Ok(()) },
            };
            tell(&inputs, &hooks.slot, input).await;
        });
        let task = task.abort_handle();
        match moment {
            Moment::PreStart | Moment::PostStart => {
                self.asked(&slot, attempt).preparation = Some((commands, Task(task)));
            }
            Moment::PreStop => self.asked(&slot, attempt).farewell = Some(task),
            Moment::PostStop => drop(self.partings.insert(slot, (attempt, Task(task)))),
            Moment::Remedy => self.asked(&slot, attempt).remedy = Some((serial, Task(task))),
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
            Moment::Remedy => self.asked(slot, attempt).remedy.as_ref().is_some_and(|(_, task)| runs(task)),
            // Neither is this, though a stop command that does not end in time is run again.
            Moment::PreStop => {
                self.asked(slot, attempt).farewell.as_ref().is_some_and(|task| !task.is_finished())
            }
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
            let turn = queue.turn().await;
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
            let verdict = guarded(prober.ask_at(&turn.place, &question)).await;
            let probe::Verdict { healthy, message, unasked, .. } = verdict.unwrap_or_else(not_asked);
            if unasked {
                tracing::debug!(slot = %asked, probe = %probed, "{message}");
                answers.store(true, Ordering::Relaxed);
                return tell(&inputs, &asked, Input::Unasked { attempt, check, why: message }).await;
            }
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
        let dir = self.machine.processes.log_dir(&slot);
        let inputs = self.inputs.clone();
        let (watched, watches) = (slot.clone(), self.watches.clone());
        let task = tokio::spawn(async move {
            let watch = async {
                let line = logs::watch_for(&watches, &dir, from, &pattern).await;
                line.map_err(|error| process::chain(&error))
            };
            let (healthy, message) = match attempted(watch).await {
                Ok(line) => (true, format!("line matched: {line}")),
                Err(why) => (false, why),
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

/// Runs them. A fault of ours while they ran has failed them: begun again it would come again.
async fn run(hooks: &Hooks, machine: &Machine) -> Result<(), NotWell> {
    guarded(hooks.run(machine)).await.unwrap_or_else(|why| Err(NotWell::Failed(why)))
}

/// The loop is gone only when the daemon ends; then nobody needs the outcome.
async fn tell(inputs: &Inputs, slot: &SlotId, input: Input) {
    let _ = inputs.send((slot.clone(), input)).await;
}

/// A question on which Upbeat itself stumbles is answered with a no: unanswered it would be asked for
/// ever, and nobody would hear why.
fn not_asked(why: String) -> probe::Verdict {
    let message = format!("could not be asked: {why}");
    probe::Verdict { healthy: false, message, took: Millis(0), unasked: false }
}

/// Looks what is there. What of it is not as it should be is told after it.
async fn observe(machine: &Machine, slot: &SlotId, last: Attempt, container: bool) -> (Input, Option<Input>) {
    let seen = match machine.processes.observe(slot, last).await {
        Ok(process::Observation::Never) => Observation::Never,
        Ok(process::Observation::Running { attempt, pid, started_at, log_start }) => {
            Observation::Running { attempt, pid, started_at, log_start, held: None }
        }
        Ok(process::Observation::Ended { attempt, exit, .. }) => Observation::Ended { attempt, exit },
        Ok(process::Observation::Lost { attempt, detail }) => {
            Observation::Ended { attempt, exit: Exit::Unknown(detail) }
        }
        Err(error) => return (Input::ObserveFailed { why: process::chain(&error) }, None),
    };
    if !container {
        return (Input::Observed { asked: last, seen }, None);
    }
    match containers::observe(&machine.engine, slot).await {
        Ok((held, drifted)) => {
            (Input::Observed { asked: last, seen: containers::latest(seen, held) }, drifted)
        }
        Err(error) => (Input::ObserveFailed { why: process::chain(&error) }, None),
    }
}

/// Sends the first process of an attempt a signal.
async fn send(machine: &Machine, slot: &SlotId, attempt: Attempt, signal: Signal) -> Result<(), String> {
    match machine.engine.holds(slot, attempt) {
        true => machine.engine.signal(slot, attempt, signal).await.map_err(chained),
        false => machine.processes.signal(slot, attempt, signal).map_err(chained),
    }
}

/// Where the update lock of a slot is, which is made where it is not there.
fn lock_of(machine: &Machine, slot: &SlotId, has_one: bool) -> Result<Option<String>, String> {
    let made = has_one.then(|| machine.locks.make(slot)).transpose();
    let path = made.map_err(|error| format!("its update lock: {error}"))?;
    Ok(path.map(|path| path.to_string_lossy().into_owned()))
}

fn chained(error: impl std::error::Error) -> String {
    process::chain(&error)
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
mod tests;
