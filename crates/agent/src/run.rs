//! The loop.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use upbeat_decide::instance::{Durable, Input, Observation, Said, Stage, Watchdog};
use upbeat_decide::node::Reacted;
use upbeat_decide::rules::Rules;
use upbeat_decide::{Bundle, Change, Effect, Node};
use upbeat_drivers::clock;
use upbeat_drivers::process::{NotifyState, ProcessDriver, ProcessEvent, WatchdogState};
use upbeat_drivers::watch::Watches;
use upbeat_model::{Attempt, Mono, SlotId, Target};
use upbeat_store::StoreError;

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
/// what runs is looked after, and stopped when that is wished.
const COMMIT_AGAIN: Duration = Duration::from_secs(1);

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
    events: mpsc::Receiver<ProcessEvent>,
    target: TargetSource,
    outbox: Outbox,
    unsaved: Unsaved,
    reading: Reading,
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
}

impl Agent {
    /// Remembers what its store holds and looks what the machine shows.
    pub async fn new(
        keep: Keep,
        driver: ProcessDriver,
        watches: Watches,
        events: mpsc::Receiver<ProcessEvent>,
        target: TargetSource,
        reports: mpsc::Sender<Report>,
        onlookers: Onlookers,
    ) -> Result<Self, KeepError> {
        let Onlookers { meter, failpoint } = onlookers;
        let remembered = keep.load().await?;
        let found = driver.slots();
        let unseen = remembered.iter().map(|(id, _)| id).chain(&found).cloned().collect();
        let mut node = Node::recover(remembered, Rules::default());
        node.found(found);
        let (inputs_in, inputs) = mpsc::channel(INPUTS);
        let performer = Performer::new(driver, watches, inputs_in, meter.clone());
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
            failpoint,
        })
    }

    /// Runs until the source of targets or the sink of reports is gone. Leaves every service as it
    /// is.
    pub async fn run(mut self) {
        let target = self.target.borrow_and_update().clone();
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
                taken = self.events.recv_many(&mut events, BATCH) => {
                    if taken == 0 {
                        return;
                    }
                }
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
            let bundle = self.node.aim(&target, clock::mono(), clock::wall());
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
        let bundle = self.take(batch, events);
        self.carry_out(bundle).await
    }

    fn take(&mut self, batch: &mut Vec<(SlotId, Input)>, events: &mut Vec<ProcessEvent>) -> Bundle {
        let seen = events.drain(..).map(perceive);
        let inputs: Vec<(SlotId, Input)> = batch.drain(..).chain(seen).collect();
        count(&self.reading.meter().turns, 1);
        count(&self.reading.meter().inputs, inputs.len() as u64);
        for (slot, input) in &inputs {
            self.reading.heard(slot, input, clock::mono());
        }
        self.node.take(inputs, clock::mono(), clock::wall())
    }

    /// Commit, perform, tell: in this order. Errors: nobody listens any more.
    async fn carry_out(&mut self, bundle: Bundle) -> Result<(), Gone> {
        let Bundle { persist, effects, statuses, reacted } = bundle;
        self.performer.follow(&persist);
        self.reading.ordered(&effects, clock::mono());
        self.reading.changed(&statuses, clock::mono());
        reacted.iter().for_each(|reacted| self.reading.reacted(reacted));
        // Of a slot that is gone all the same, though nobody looked.
        persist.iter().filter(|(_, kept)| kept.is_none()).for_each(|(slot, _)| self.reading.forget(slot));
        self.unsaved.states.extend(persist);
        let (starts, others): (Vec<Effect>, Vec<Effect>) =
            effects.into_iter().partition(|effect| matches!(effect, Effect::Start { .. }));
        self.unsaved.starts.extend(starts.into_iter().map(|start| (start.slot().clone(), start)));
        let starts = self.commit().await?;
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
                    tracing::error!(%error, "the agent's state cannot be stored; nothing is started until it can");
                }
                self.unsaved.again_at = Some(Instant::now() + COMMIT_AGAIN);
                return Ok(Vec::new());
            }
        }
        if failed_before {
            tracing::info!("the agent's state can be stored again");
        }
        let Unsaved { states, starts, .. } = std::mem::take(&mut self.unsaved);
        if !starts.is_empty() {
            (self.failpoint)("intent_committed");
        } else if !states.is_empty() {
            (self.failpoint)("outcome_committed");
        }
        // One that waited for its commit may have been given up since.
        Ok(starts.into_values().filter(|start| self.is_due(start)).collect())
    }

    fn is_due(&self, start: &Effect) -> bool {
        let Effect::Start { slot, attempt, .. } = start else { return true };
        self.node.durable(slot).is_some_and(|durable| {
            durable.attempt == *attempt && matches!(durable.stage, Stage::Starting { .. })
        })
    }
}

fn until(at: Mono) -> Duration {
    at.since(clock::mono()).as_duration()
}

async fn wait(due: Option<Duration>) {
    match due {
        Some(due) => tokio::time::sleep(due).await,
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
