//! The loop.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use upbeat_decide::instance::{self, Durable, Input, Moment, Observation, Said, Stage, Taken, Watchdog};
use upbeat_decide::node::{Outcome, Reacted};
use upbeat_decide::rules::Rules;
use upbeat_decide::{Bundle, Change, Effect, Node};
use upbeat_drivers::clock;
use upbeat_drivers::docker::{self, EngineEvent};
use upbeat_drivers::machine::Machine;
use upbeat_drivers::process::{NotifyState, ProcessEvent, WatchdogState};
use upbeat_drivers::watch::Watches;
use upbeat_model::{Attempt, Millis, Mono, SlotId, Target};
use upbeat_store::StoreError;

use crate::discretion::Discretion;
use crate::keep::{Keep, KeepError};
use crate::meter::{Meter, count};
use crate::outbox::{Gone, Outbox};
use crate::perform::Performer;
use crate::reading::Reading;

/// Where the wishes come from: always the newest one.
pub type TargetSource = watch::Receiver<Arc<Target>>;

/// What the agent tells.
#[derive(Clone, Debug)]
pub enum Report {
    /// Slots look different than before.
    Changed(Vec<Change>),
    /// Something was done about a failing probe.
    Reacted(Reacted),
    /// Something came of what was done. Starts that failed are not told, but counted.
    CameTo(Outcome),
    /// A process that ran before this agent did was found again.
    Adopted {
        /// Which slot.
        slot: SlotId,
        /// Of which attempt.
        attempt: Attempt,
        /// Its main process.
        pid: i32,
    },
}

/// Inputs taken into one decision and one commit. Large enough that a thousand starts are a few
/// commits; small enough that a status is never older than a few milliseconds.
const BATCH: usize = 512;

/// Outcomes that may wait for the loop. Tasks that have one wait when it is full.
pub(crate) const INPUTS: usize = 4096;

/// After a commit failed (the disk is full), it is tried again. Until it holds nothing is started;
/// what runs is looked after, and stopped when that is wished, but not in order to be started again.
const COMMIT_AGAIN: Duration = Duration::from_secs(1);

/// What drivers see.
pub struct Events {
    /// Of processes.
    pub processes: mpsc::Receiver<ProcessEvent>,
    /// Of containers.
    pub containers: mpsc::Receiver<EngineEvent>,
}

/// Who looks on, and decides nothing.
pub struct Onlookers {
    /// What is counted.
    pub meter: Arc<Meter>,
    /// Called at named points of the loop (`intent_committed`, `performed`, `outcome_committed`), so
    /// that a test can kill the process there.
    pub failpoint: fn(&str),
}

/// One machine's agent.
pub struct Agent {
    node: Node,
    /// Slots there were before this agent, until they are seen.
    unseen: HashSet<SlotId>,
    keep: Keep,
    performer: Performer,
    inputs: mpsc::Receiver<(SlotId, Input)>,
    events: Events,
    target: TargetSource,
    outbox: Outbox,
    unsaved: Unsaved,
    reading: Reading,
    discretion: Discretion,
    failpoint: fn(&str),
}

/// What was decided and is not on disk yet.
#[derive(Default)]
struct Unsaved {
    states: BTreeMap<SlotId, Option<Durable>>,
    /// The only effects that must not come before their commit: after a crash nobody would know them.
    starts: BTreeMap<SlotId, Effect>,
    /// The last commit failed.
    again_at: Option<Instant>,
    /// Orders that were not carried out while it does, as the node is still to be told.
    withheld: Vec<(SlotId, Input)>,
    /// It has not, as the node is still to be told.
    is_well_again: bool,
}

impl Unsaved {
    /// The node is to be told something before anything else comes.
    fn has_news(&self) -> bool {
        self.is_well_again || !self.withheld.is_empty()
    }
}

impl Agent {
    /// Remembers what its store holds and looks what the machine shows.
    pub async fn new(
        keep: Keep,
        machine: Machine,
        watches: Watches,
        events: Events,
        target: TargetSource,
        reports: mpsc::Sender<Report>,
        onlookers: Onlookers,
    ) -> Result<Self, KeepError> {
        let Onlookers { meter, failpoint } = onlookers;
        let remembered = keep.load().await?;
        let found = machine.processes.slots();
        let unseen = remembered.iter().map(|(id, _)| id).chain(&found).cloned().collect();
        let of_containers = remembered.iter().any(|(_, durable)| is_container(durable));
        let mut node = Node::recover(remembered, Rules::default());
        node.found(found);
        look_for_containers(&machine, of_containers);
        let (inputs_in, inputs) = mpsc::channel(INPUTS);
        let performer = Performer::new(machine, watches, inputs_in, meter.clone(), keep.seal().await?);
        let (outbox, unsaved) = (Outbox::new(reports), Unsaved::default());
        let reading = Reading::new(meter);
        Ok(Self {
            node,
            unseen,
            keep,
            performer,
            inputs,
            events,
            target,
            outbox,
            unsaved,
            reading,
            discretion: Discretion::default(),
            failpoint,
        })
    }

    /// Runs until the source of targets or the sink of reports is gone. Leaves every service as it
    /// is.
    pub async fn run(mut self) {
        let target = self.target.borrow_and_update().clone();
        self.discretion.aim(&target);
        let bundle = self.node.aim(&target, clock::mono(), clock::wall());
        if self.carry_out(bundle).await.is_err() {
            return;
        }
        let mut batch = Vec::with_capacity(BATCH);
        let mut events = Vec::with_capacity(BATCH);
        loop {
            let due = self.node.deadline().map(until);
            tokio::select! {
                changed = self.target.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // Seen by `changed`; the turn below must still take it.
                    self.target.mark_changed();
                }
                taken = self.inputs.recv_many(&mut batch, BATCH) => {
                    if taken == 0 {
                        return;
                    }
                }
                taken = self.events.processes.recv_many(&mut events, BATCH) => {
                    if taken == 0 {
                        return;
                    }
                }
                Some(event) = self.events.containers.recv() => {
                    if self.heard(event).await.is_err() {
                        return;
                    }
                }
                () = std::future::ready(()), if self.unsaved.has_news() => {}
                () = wait(due) => {}
                () = tokio::time::sleep_until(self.unsaved.again_at.unwrap_or_else(Instant::now)),
                    if self.unsaved.again_at.is_some() => {}
                room = self.outbox.room(), if self.outbox.is_waiting() => {
                    if room.is_err() {
                        return;
                    }
                }
            }
            if self.turn(&mut batch, &mut events).await.is_err() {
                return;
            }
        }
    }

    /// An engine tells something.
    async fn heard(&mut self, event: EngineEvent) -> Result<(), Gone> {
        let input = match event {
            EngineEvent::Exited { slot, attempt, exit, .. } => (slot, Input::Exited { attempt, exit }),
            EngineEvent::Taken { slot, attempt, how } => {
                let how = match how {
                    docker::Taken::Removed => Taken::Removed,
                    docker::Taken::StoppedByHand => Taken::Stopped,
                    docker::Taken::Restarted => Taken::Restarted,
                };
                (slot, Input::Taken { attempt, how })
            }
            // It is right again: whoever put it right says so.
            EngineEvent::Drifted { drift, .. } if drift.is_empty() => return Ok(()),
            EngineEvent::Drifted { slot, attempt, drift } => {
                let what = drift.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                (slot, Input::Drifted { attempt, what })
            }
            EngineEvent::Found(slots) => {
                self.unseen.extend(slots.iter().filter(|slot| self.node.durable(slot).is_none()).cloned());
                let bundle = self.node.appeared(slots, clock::mono(), clock::wall());
                return self.carry_out(bundle).await;
            }
            EngineEvent::Engine { reachable: true, .. } => {
                tracing::info!("the container engine can be reached");
                return Ok(());
            }
            EngineEvent::Engine { why, .. } => {
                // Most machines of processes have none.
                tracing::debug!("the container engine cannot be reached: {}", why.unwrap_or_default());
                return Ok(());
            }
        };
        self.turn(&mut vec![input], &mut Vec::new()).await
    }

    /// One turn: the newest target, then what was seen, then what is due.
    async fn turn(
        &mut self,
        batch: &mut Vec<(SlotId, Input)>,
        events: &mut Vec<ProcessEvent>,
    ) -> Result<(), Gone> {
        let target = match self.target.has_changed() {
            Ok(true) => Some(self.target.borrow_and_update().clone()),
            _ => None,
        };
        if let Some(target) = target {
            self.discretion.aim(&target);
            let bundle = self.node.aim(&target, clock::mono(), clock::wall());
            self.call_off();
            self.carry_out(bundle).await?;
        }
        for (slot, input) in batch.iter() {
            if let Input::Observed { seen, .. } = input
                && self.unseen.remove(slot)
                && let Observation::Running { attempt, pid, .. } = seen
            {
                let (slot, attempt, pid) = (slot.clone(), *attempt, *pid);
                self.outbox.news(Report::Adopted { slot, attempt, pid })?;
            }
        }
        // Where this turn's own commit has failed that is taken back: what it decides would have to be withheld.
        if std::mem::take(&mut self.unsaved.is_well_again) {
            let bundle = self.node.keeps_again(clock::mono(), clock::wall());
            self.carry_out(bundle).await?;
        }
        let bundle = self.take(batch, events);
        self.carry_out(bundle).await
    }

    fn take(&mut self, batch: &mut Vec<(SlotId, Input)>, events: &mut Vec<ProcessEvent>) -> Bundle {
        let seen = events.drain(..).map(perceive);
        let withheld = self.unsaved.withheld.drain(..);
        let mut inputs: Vec<(SlotId, Input)> = withheld.chain(batch.drain(..)).chain(seen).collect();
        count(&self.reading.meter().turns, 1);
        count(&self.reading.meter().inputs, inputs.len() as u64);
        for (slot, input) in &mut inputs {
            let copy = self.node.durable(slot).and_then(instance::mark);
            self.discretion.hide(slot, copy, input);
            if let Input::HooksEnded {
                moment: moment @ (Moment::PreStop | Moment::PostStop), outcome, ..
            } = input
                && let Err(why) = outcome
            {
                // Nothing else is said of them: what they were to stop, or to clean up after, goes on.
                tracing::warn!(%slot, "{}: {why}", moment.key());
            }
            self.reading.heard(slot, input, clock::mono());
        }
        self.node.take(inputs, clock::mono(), clock::wall())
    }

    /// Commit, perform, tell: in this order. Errors: nobody listens any more.
    async fn carry_out(&mut self, bundle: Bundle) -> Result<(), Gone> {
        let Bundle { persist, effects, statuses, reacted, outcomes } = bundle;
        self.performer.follow(&persist);
        self.reading.ordered(&effects, clock::mono());
        self.reading.changed(&statuses, clock::mono());
        reacted.iter().for_each(|reacted| self.reading.reacted(reacted));
        outcomes.iter().for_each(|outcome| self.reading.came_to(outcome));
        // Of a slot that is gone all the same, though nobody looked.
        persist.iter().filter(|(_, kept)| kept.is_none()).for_each(|(slot, _)| self.reading.forget(slot));
        self.unsaved.states.extend(persist);
        let (starts, others): (Vec<Effect>, Vec<Effect>) = effects.into_iter().partition(begins);
        self.unsaved.starts.extend(starts.into_iter().map(|start| (start.slot().clone(), start)));
        let starts = self.commit().await?;
        let others = self.withhold(others);
        let any = !starts.is_empty();
        for effect in starts.into_iter().chain(others) {
            self.performer.perform(effect);
        }
        if any {
            (self.failpoint)("performed");
        }
        for reacted in reacted {
            self.outbox.news(Report::Reacted(reacted))?;
        }
        for outcome in outcomes.into_iter().filter(|came_to| !matches!(came_to, Outcome::StartFailed { .. }))
        {
            self.outbox.news(Report::CameTo(outcome))?;
        }
        self.outbox.changed(statuses)
    }

    /// Keeps what is to be kept. Returns the starts that may be performed now.
    async fn commit(&mut self) -> Result<Vec<Effect>, Gone> {
        let failed_before = self.unsaved.again_at.is_some();
        if self.unsaved.again_at.is_some_and(|at| Instant::now() < at) {
            return Ok(Vec::new());
        }
        let begun = Instant::now();
        let saved = self.keep.save(&self.unsaved.states).await;
        if !self.unsaved.states.is_empty() {
            self.reading.meter().commits.took(begun.elapsed());
        }
        match saved {
            Ok(()) => {}
            Err(KeepError::Store(StoreError::Stopped)) => return Err(Gone),
            Err(error) => {
                if !failed_before {
                    tracing::error!(
                        %error,
                        "the agent's state cannot be stored; until it can nothing is started, and nothing is stopped that would be started again"
                    );
                }
                self.node.cannot_keep();
                self.unsaved.again_at = Some(Instant::now() + COMMIT_AGAIN);
                self.unsaved.is_well_again = false;
                return Ok(Vec::new());
            }
        }
        if failed_before {
            tracing::info!("the agent's state can be stored again");
        }
        let (states, starts) =
            (std::mem::take(&mut self.unsaved.states), std::mem::take(&mut self.unsaved.starts));
        self.unsaved.again_at = None;
        self.unsaved.is_well_again |= failed_before;
        if !starts.is_empty() {
            (self.failpoint)("intent_committed");
        } else if !states.is_empty() {
            (self.failpoint)("outcome_committed");
        }
        // One that waited for its commit may have been given up since.
        Ok(starts.into_values().filter(|start| self.is_due(start)).collect())
    }

    /// Takes out what would stop something that could not be started again by now. The node is told.
    fn withhold(&mut self, mut effects: Vec<Effect>) -> Vec<Effect> {
        if self.unsaved.again_at.is_some() {
            let node = &self.node;
            let held =
                effects.extract_if(.., |effect| stops(effect).is_some() && node.comes_back(effect.slot()));
            let told = held.filter_map(|effect| {
                let attempt = stops(&effect)?;
                Some((effect.slot().clone(), Input::StopWithheld { attempt }))
            });
            self.unsaved.withheld.extend(told);
        }
        effects
    }

    /// Drops starts that wait for their commit and that nobody wants any more. The node is told: it would wait
    /// for their answers.
    fn call_off(&mut self) {
        let Unsaved { starts, withheld, .. } = &mut self.unsaved;
        starts.retain(|slot, start| {
            let is_called_off = self.node.is_called_off(slot);
            if let (Effect::Start { attempt, .. }, true) = (start, is_called_off) {
                withheld.push((slot.clone(), Input::StartWithheld { attempt: *attempt }));
            }
            !is_called_off
        });
    }

    fn is_due(&self, start: &Effect) -> bool {
        let (Effect::Start { slot, attempt, .. } | Effect::RunHooks { slot, attempt, .. }) = start else {
            return true;
        };
        self.node.durable(slot).is_some_and(|durable| {
            durable.attempt == *attempt && matches!(durable.stage, Stage::Starting { .. })
        })
    }
}

/// It was one, or one was made for it.
fn is_container(durable: &Durable) -> bool {
    durable.made.is_some() || instance::mark(durable).is_some_and(|mark| mark.container.is_some())
}

/// The engine tells which containers are there, as soon as it can be reached. Where none is remembered it is
/// asked once: on most machines of processes there is none, and nobody waits for one.
fn look_for_containers(machine: &Machine, remembered: bool) {
    let engine = machine.engine.clone();
    tokio::spawn(async move {
        if remembered || engine.slots().await.is_ok_and(|slots| !slots.is_empty()) {
            engine.watch();
        }
    });
}

fn until(at: Mono) -> Duration {
    at.since(clock::mono()).as_duration()
}

/// What is due is so on the clock that goes on while the machine sleeps, and a sleep here is on one that
/// does not. So it is looked at the clock this often: what has become due in a machine's sleep is done so
/// long after it at the latest. Once more in half a minute costs nothing that anybody could measure.
const SLEEP_MAX: Duration = Duration::from_secs(30);

async fn wait(due: Option<Duration>) {
    match due {
        Some(due) => tokio::time::sleep(due.min(SLEEP_MAX)).await,
        None => std::future::pending().await,
    }
}

/// What a driver saw, as an input.
fn perceive(event: ProcessEvent) -> (SlotId, Input) {
    match event {
        ProcessEvent::Exited { slot, attempt, exit, .. } => (slot, Input::Exited { attempt, exit }),
        ProcessEvent::Refused { slot, attempt, detail } => (slot, Input::StopFailed { attempt, why: detail }),
        ProcessEvent::Lost { slot, attempt, detail } => {
            (slot, Input::Exited { attempt, exit: upbeat_model::Exit::Unknown(detail) })
        }
        ProcessEvent::Notified { slot, attempt, state } => {
            (slot, Input::Notified { attempt, said: said(state) })
        }
    }
}

/// It begins something that nobody would know of if this could not be kept.
fn begins(effect: &Effect) -> bool {
    matches!(effect, Effect::Start { .. } | Effect::RunHooks { moment: Moment::PreStart, .. })
}

/// It stops a copy, or begins to: which attempt.
fn stops(effect: &Effect) -> Option<Attempt> {
    match effect {
        Effect::Stop { attempt, .. } | Effect::RunHooks { attempt, moment: Moment::PreStop, .. } => {
            Some(*attempt)
        }
        _ => None,
    }
}

fn said(state: NotifyState) -> Said {
    let watchdog = match state.watchdog {
        WatchdogState { triggered: true, .. } => Watchdog::Triggered,
        WatchdogState { expired: true, .. } => Watchdog::Expired,
        WatchdogState { interval_ms: Some(_), last_ping_ms: Some(_), .. } => Watchdog::Alive,
        _ => Watchdog::Off,
    };
    Said {
        ready: state.ready,
        reloading: state.reloading,
        stopping: state.stopping,
        status: state.status,
        main_pid: state.main_pid,
        extended: state.extended_until_ms.map(Mono),
        watchdog,
        expiries: state.watchdog.expiries,
        watchdog_every: state.watchdog.interval_ms.map(Millis),
    }
}

/// Whether a process may be there, or something is run for one: of which attempt.
pub(crate) fn is_up(durable: &Durable) -> Option<Attempt> {
    match &durable.stage {
        Stage::Up(up) => Some(up.attempt),
        // Its hooks run, or the command that starts it elsewhere.
        Stage::Starting { .. } => Some(durable.attempt),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
