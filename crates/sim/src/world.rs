//! The loop: time passes, things happen, the daemon decides, dies, and comes back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use upbeat_decide::instance::{Durable, Input, Moment, Observation};
use upbeat_decide::rules::{Bug, Rules};
use upbeat_decide::{Bundle, Effect, Node};
use upbeat_model::{Attempt, Exit, Mono, Phase, ProbeName, Service, SlotId, Wall};

use crate::check::{self, Onlooker, Past};
use crate::deeds::{Key, shown};
use crate::disk::Disk;
use crate::kernel::Kernel;
use crate::ledger::{Ledger, gave_up};
use crate::locks::Locks;
use crate::pace::Pace;
use crate::probing::Probing;
use crate::random::Random;
use crate::runs::Runs;
use crate::temper::Word;
use crate::workload::Workload;
use crate::{ending, telling};

/// Lines of what happened that are kept for the report of a failure.
const TRACE: usize = 60;

/// More happenings than any run of this length has reason for.
const STEPS_MAX: u32 = 200_000;

/// Nobody: a process whose start was ordered by a daemon that is dead.
pub(crate) const NOBODY: u64 = u64::MAX;

/// How a run ended well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Starts that were carried out.
    pub starts: u32,
    /// Times the daemon died.
    pub crashes: u32,
    /// Starts that had to wait for a full disk, and stops that were withheld on one.
    pub held: u32,
}

/// How a run ended badly.
#[derive(Clone, Debug)]
pub struct Broken {
    /// Which promise.
    pub what: String,
    /// When, in virtual milliseconds.
    pub at: u64,
    /// What happened last.
    pub trace: Vec<String>,
}

pub(crate) enum Happening {
    /// A shim gets to its slot.
    Arrive {
        slot: SlotId,
        attempt: Attempt,
        spec: Arc<Service>,
        generation: u64,
        incarnation: u64,
    },
    /// A command that starts or stops something elsewhere ends.
    Outside {
        slot: SlotId,
        attempt: Attempt,
        starts: bool,
        incarnation: u64,
    },
    /// A process says something of itself.
    Say {
        slot: SlotId,
        pid: i32,
        word: Word,
    },
    /// The clock on the wall is set.
    Clock,
    /// An input reaches the daemon that waits for it.
    Deliver {
        slot: SlotId,
        input: Input,
        incarnation: u64,
    },
    /// The daemon looks at a slot.
    Look {
        slot: SlotId,
        asked: Attempt,
        incarnation: u64,
    },
    /// A process ends by itself.
    Exit {
        slot: SlotId,
        pid: i32,
        exit: Exit,
    },
    /// A shim's deadline.
    Deadline {
        slot: SlotId,
        pid: i32,
    },
    /// It is full, or has room again.
    Disk {
        is_full: bool,
    },
    /// What could not be kept is tried again.
    KeepAgain {
        incarnation: u64,
    },
    /// Somebody kills a shim.
    KillShim,
    /// Somebody takes an update lock.
    Lock,
    Command,
    Revive,
    Quiet,
}

pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) rules: Rules,
    pub(crate) now: u64,
    wall_shift: i64,
    pub(crate) chaos: bool,
    pub(crate) queue: BTreeMap<(u64, u64), Happening>,
    sequence: u64,
    pub(crate) workload: Workload,
    pub(crate) kernel: Kernel,
    pub(crate) store: BTreeMap<SlotId, Durable>,
    pub(crate) disk: Disk,
    pub(crate) locks: Locks,
    pub(crate) node: Option<Node>,
    pub(crate) incarnation: u64,
    pub(crate) past: BTreeMap<SlotId, Past>,
    pub(crate) started_under: BTreeMap<SlotId, u64>,
    pub(crate) asked_to_stop: BTreeSet<SlotId>,
    pub(crate) runs: Runs,
    pub(crate) probing: Probing,
    pub(crate) ledger: Ledger,
    /// Probes that are out: of which attempt and check, and until when.
    pub(crate) asking: BTreeMap<(SlotId, ProbeName), (Attempt, u64, u64)>,
    /// What this daemon runs beside its slots, and until when.
    pub(crate) busy: BTreeMap<Key, u64>,
    pub(crate) pace: Pace,
    /// Copies whose `post_start` hooks have failed.
    pub(crate) failed_hooks: BTreeSet<SlotId>,
    pub(crate) outcome: Outcome,
    trace: VecDeque<String>,
}

/// Runs one seed at one pace, with or without a planted bug.
pub fn run(seed: u64, pace: Pace, bug: Option<Bug>) -> Result<Outcome, Broken> {
    let mut random = Random::new(seed);
    let mut locks = Locks::new(seed);
    let workload = Workload::new(&mut random, &mut locks, pace);
    let mut world = World {
        random,
        rules: bug.map_or_else(Rules::default, Rules::with),
        now: 1_000_000,
        wall_shift: 0,
        chaos: true,
        queue: BTreeMap::new(),
        sequence: 0,
        workload,
        kernel: Kernel::default(),
        store: BTreeMap::new(),
        disk: Disk::default(),
        locks,
        node: None,
        incarnation: 0,
        past: BTreeMap::new(),
        started_under: BTreeMap::new(),
        asked_to_stop: BTreeSet::new(),
        runs: Runs::default(),
        probing: Probing::default(),
        ledger: Ledger::default(),
        asking: BTreeMap::new(),
        busy: BTreeMap::new(),
        pace,
        failed_hooks: BTreeSet::new(),
        outcome: Outcome::default(),
        trace: VecDeque::new(),
    };
    world.fill_disk_at_times(seed, pace);
    world.take_locks_at_times(pace);
    let result = world.live(bug);
    result.map_err(|what| Broken { what, at: world.now, trace: world.trace.into() }).map(|()| world.outcome)
}

impl World {
    fn live(&mut self, bug: Option<Bug>) -> check::Verdict {
        self.at(0, Happening::Revive);
        let (chaos, quiet) = (self.pace.chaos(), self.pace.quiet());
        self.at(chaos, Happening::Quiet);
        for _ in 0..self.random.between(3, 15) {
            let when = self.random.below(chaos);
            self.at(when, Happening::Command);
        }
        for _ in 0..self.random.below(4) {
            let when = self.random.below(chaos);
            self.at(when, Happening::KillShim);
        }
        for _ in 0..self.random.below(3) {
            let when = self.random.below(chaos);
            self.at(when, Happening::Clock);
        }
        let end = self.now + chaos + quiet;
        for step in 0.. {
            if step > STEPS_MAX {
                return Err("things happen for ever: a busy loop".into());
            }
            let next = self.queue.first_key_value().map(|((at, _), _)| *at);
            let lost_timers = bug == Some(Bug::LoseTimers);
            let due = self.node.as_ref().and_then(Node::deadline).map(|at| at.0).filter(|_| !lost_timers);
            let Some(at) = [next, due].into_iter().flatten().min().filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            if next == Some(at) {
                if let Some((_, happening)) = self.queue.pop_first() {
                    self.happen(happening)?;
                }
            } else {
                self.decide(|node, now, wall| node.take([], now, wall))?;
                if let Some(node) = &self.node {
                    ending::moves_on(node, self.now)?;
                }
            }
        }
        let (now, wall) = (end, end as i64 + self.wall_shift);
        let Some(onlooker) = self.onlooker() else { return Err("the daemon never came back".into()) };
        ending::at_the_end(&onlooker, now, wall)?;
        self.holds_no_lock()?;
        self.ledger.at_the_end(&onlooker, wall)?;
        self.remembered().map(drop)
    }

    /// What was committed, as it comes back from where it is kept: as text.
    fn remembered(&self) -> Result<Vec<(SlotId, Durable)>, String> {
        let mut slots = Vec::new();
        for (slot, durable) in &self.store {
            let text = serde_json::to_string(durable).map_err(|error| format!("{slot}: {error}"))?;
            ending::is_small(slot, &text)?;
            let read: Durable = serde_json::from_str(&text).map_err(|error| format!("{slot}: {error}"))?;
            if read != *durable {
                return Err(format!("{slot}: {durable:?} is kept, and {read:?} comes back"));
            }
            slots.push((slot.clone(), read));
        }
        Ok(slots)
    }

    fn onlooker(&self) -> Option<Onlooker<'_>> {
        let (kernel, workload, runs, probing) = (&self.kernel, &self.workload, &self.runs, &self.probing);
        self.node.as_ref().map(|node| Onlooker { node, kernel, workload, runs, probing })
    }

    pub(crate) fn at(&mut self, delay: u64, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), happening);
    }

    pub(crate) fn note(&mut self, line: String) {
        if self.trace.len() == TRACE {
            self.trace.pop_front();
        }
        self.trace.push_back(format!("{:>9} {line}", self.now - 1_000_000));
    }

    pub(crate) fn clocks(&self) -> (Mono, Wall) {
        (Mono(self.now), Wall(self.now as i64 + self.wall_shift))
    }

    fn decide(&mut self, with: impl FnOnce(&mut Node, Mono, Wall) -> Bundle) -> check::Verdict {
        self.decide_once(with)?;
        self.hear_news()
    }

    pub(crate) fn decide_once(
        &mut self,
        with: impl FnOnce(&mut Node, Mono, Wall) -> Bundle,
    ) -> check::Verdict {
        let (now, wall) = self.clocks();
        let Some(node) = &mut self.node else { return Ok(()) };
        let bundle = with(node, now, wall);
        self.call_off();
        self.carry_out(bundle)
    }

    /// The daemon, if there is one, reads the newest wishes.
    fn decide_wishes(&mut self) -> check::Verdict {
        let target = self.workload.target.clone();
        if let Some(node) = &self.node {
            self.runs.aim(&target);
            self.probing.aim(&target, self.now);
            self.ledger.aim(&target, node, self.now);
        }
        self.decide(|node, now, wall| node.aim(&target, now, wall))
    }

    /// Commit, perform, tell; the daemon may die in between.
    fn carry_out(&mut self, bundle: Bundle) -> check::Verdict {
        // What happens seldom and once only is the easiest to lose.
        let is_seldom = |effect: &Effect| {
            matches!(effect, Effect::Reload { .. } | Effect::RunHooks { moment: Moment::Remedy, .. })
                || self.locks.are_held_for(effect)
        };
        let risk = if bundle.effects.iter().any(is_seldom) { 15 } else { 3 };
        let may_die = self.chaos && !self.disk.cannot_keep(&bundle);
        let deadly = may_die && !bundle.effects.is_empty() && self.random.percent(risk);
        let dies_after = if deadly { self.random.below(bundle.effects.len() as u64 + 2) } else { u64::MAX };
        let performs_first = self.rules.has(Bug::PerformBeforeCommit);
        self.check_orders(&bundle)?;
        if dies_after == 0 && !performs_first {
            self.runs.died_before_commit();
            self.crash("before the commit");
            return Ok(());
        }
        self.may_withhold(&bundle)?;
        let (bundle, effects) = match performs_first {
            true => (bundle.clone(), bundle.effects),
            false => self.keep(bundle),
        };
        self.runs.committed(self.ledger.removed());
        if let Some(node) = &self.node {
            let (kernel, workload, runs, probing) = (&self.kernel, &self.workload, &self.runs, &self.probing);
            let onlooker = Onlooker { node, kernel, workload, runs, probing };
            self.ledger.committed(&bundle, &onlooker, self.now);
        }
        self.remember_orders(&bundle);
        for (index, effect) in effects.iter().enumerate() {
            if dies_after == index as u64 + 1 {
                self.crash("between effects");
                return Ok(());
            }
            self.carries_out(effect)?;
            self.perform(effect);
        }
        if dies_after != u64::MAX {
            self.crash("after the effects");
            return Ok(());
        }
        let bundle = if performs_first { self.keep(bundle).0 } else { bundle };
        self.tell(&bundle)
    }

    fn check_orders(&mut self, bundle: &Bundle) -> check::Verdict {
        for reacted in &bundle.reacted {
            self.note(format!("{}: {} as `{}` fails", reacted.slot, reacted.action, reacted.probe));
        }
        for effect in &bundle.effects {
            // Of a quarter of an hour of probes nothing else would be left to read.
            if self.chaos || !matches!(effect, Effect::Probe { .. }) {
                self.note(format!("order {}", shown(effect)));
            }
        }
        if let Some(onlooker) = self.onlooker() {
            self.ledger.judge(bundle, &onlooker, self.now)?;
            for effect in &bundle.effects {
                let slot = effect.slot();
                let past = self.past.get(slot).copied().unwrap_or_default();
                // A stop that was begun is only pressed on, also by a later daemon: its order was judged
                // then.
                let stops =
                    matches!(effect, Effect::Stop { .. } | Effect::RunHooks { moment: Moment::PreStop, .. });
                let pressed = stops && self.asked_to_stop.contains(slot);
                check::manner(effect, pressed, &onlooker)?;
                if !pressed {
                    check::order(effect, bundle, &onlooker, &self.ledger, &past, self.now)?;
                }
                if !(pressed && self.disk.was_carried_out(effect)) {
                    self.respects_locks(effect, bundle, &onlooker)?;
                }
            }
        }
        for reacted in &bundle.reacted {
            self.probing.has_reacted(&reacted.slot, &reacted.probe);
        }
        for effect in &bundle.effects {
            if let Effect::Probe { slot, attempt, name, .. } = effect {
                let has_startup = self.workload.target.slots[slot].spec.probes.contains_key("startup");
                self.probing.asks((slot, *attempt, name), has_startup, self.now)?;
            }
        }
        let starts: Vec<&SlotId> = (bundle.effects.iter())
            .filter(|effect| matches!(effect, Effect::Start { .. }))
            .map(Effect::slot)
            .collect();
        let different: BTreeSet<&&SlotId> = starts.iter().collect();
        match different.len() == starts.len() {
            true => Ok(()),
            false => Err("one slot is ordered to start twice at once".into()),
        }
    }

    fn tell(&mut self, bundle: &Bundle) -> check::Verdict {
        let mut gone = BTreeSet::new();
        for change in bundle.statuses.values() {
            let status = &change.status;
            if let Some(node) = &self.node {
                let (kernel, workload, runs, probing) =
                    (&self.kernel, &self.workload, &self.runs, &self.probing);
                let onlooker = Onlooker { node, kernel, workload, runs, probing };
                telling::told(status, &onlooker, &self.ledger, self.now)?;
                self.ledger.told(status, &onlooker, self.now)?;
                if change.is_seen {
                    let started_under = self.started_under.get(&status.slot).copied();
                    telling::reached(status, &onlooker, started_under, self.now)?;
                }
            }
            if change.from != status.phase {
                self.note(format!("{} is {} (was {})", status.slot, status.phase, change.from));
            }
            if gave_up(status) {
                // Its stop is begun anew when somebody asks for anything.
                self.disk.forget(&status.slot);
            }
            if status.phase == Phase::Absent {
                gone.insert(status.slot.clone());
            }
        }
        if !bundle.statuses.is_empty()
            && let Some(node) = &self.node
        {
            let (kernel, workload, runs, probing) = (&self.kernel, &self.workload, &self.runs, &self.probing);
            self.ledger.note_edges(&Onlooker { node, kernel, workload, runs, probing });
        }
        for slot in &gone {
            self.probing.is_gone(slot);
            self.ledger.is_gone(slot);
            self.disk.forget(slot);
        }
        if self.workload.forget(&gone) {
            // Whoever comes to that place later has no past.
            self.past.retain(|slot, _| !gone.contains(slot));
            self.workload.target.revision += 1;
            return self.decide_wishes();
        }
        Ok(())
    }

    fn crash(&mut self, when: &str) {
        self.note(format!("the daemon dies {when}"));
        self.outcome.crashes += 1;
        self.node = None;
        self.asking.clear();
        self.busy.clear();
        self.locks.died();
        self.probing.died();
        self.ledger.died();
        self.incarnation += 1;
        for past in self.past.values_mut() {
            past.disturbed = true;
            past.ends_in_a_row = None;
        }
        let long = self.pace.stretch(self.random.below(20_000));
        let away = if self.random.percent(70) { self.random.below(200) } else { long };
        self.at(away, Happening::Revive);
    }

    fn happen(&mut self, happening: Happening) -> check::Verdict {
        match happening {
            Happening::Arrive { slot, attempt, spec, generation, incarnation } => {
                self.arrive(slot, attempt, &spec, generation, incarnation);
            }
            Happening::Outside { slot, attempt, starts, incarnation } => {
                self.outside(slot, attempt, starts, incarnation);
            }
            Happening::Say { slot, pid, word } => self.say(&slot, pid, word),
            Happening::Clock => {
                // By hours, both ways; sometimes the battery was empty.
                let hours = self.random.between(0, 20_000_000) as i64 - 10_000_000;
                self.wall_shift = if self.random.percent(5) { -(self.now as i64) } else { hours };
                self.note("the clock on the wall is set".into());
            }
            Happening::Deliver { slot, input, incarnation } if incarnation == self.incarnation => {
                self.receive(slot, input)?;
            }
            Happening::Deliver { .. } => {}
            Happening::Look { slot, asked, incarnation } if incarnation == self.incarnation => {
                self.look(slot, asked);
            }
            Happening::Look { .. } => {}
            Happening::Exit { slot, pid, exit } => self.end(&slot, pid, exit),
            Happening::Deadline { slot, pid } => {
                let due = self
                    .kernel
                    .process(&slot)
                    .is_some_and(|p| p.pid == pid && p.kill_at.is_some_and(|at| at <= self.now));
                if due {
                    check::patience(&slot, &self.kernel, &self.workload, self.now)?;
                    self.end(&slot, pid, Exit::Signal(9));
                }
            }
            Happening::Disk { is_full } => self.disk_turns(is_full && self.chaos),
            Happening::KeepAgain { incarnation } if incarnation == self.incarnation => {
                return self.decide(|node, now, wall| node.take([], now, wall));
            }
            Happening::KeepAgain { .. } => {}
            Happening::KillShim => self.kill_shim(),
            Happening::Lock => self.somebody_locks(),
            Happening::Command => {
                let what = self.workload.command(&mut self.random, &mut self.locks);
                return self.aim(&what);
            }
            Happening::Quiet => {
                self.chaos = false;
                self.locks.quiet();
                self.disk_turns(false);
                let what = self.workload.last_word(&mut self.random);
                return self.aim(&what);
            }
            Happening::Revive => return self.revive(),
        }
        Ok(())
    }

    fn aim(&mut self, what: &str) -> check::Verdict {
        self.note(format!("somebody types: {what}"));
        if self.random.percent(20) {
            self.wall_shift += self.random.between(0, 7_200_000) as i64 - 3_600_000;
        }
        self.decide_wishes()
    }

    fn revive(&mut self) -> check::Verdict {
        self.note("a daemon starts".into());
        if self.chaos
            && self.random.percent(50)
            && let Some((slot, pid)) = self.any_process()
        {
            let soon = self.random.below(30);
            self.at(soon, Happening::Exit { slot, pid, exit: Exit::Code(1) });
        }
        let mut node = Node::recover(self.remembered()?, self.rules);
        node.found(self.kernel.places.keys().cloned());
        self.ledger.is_born(self.now);
        self.node = Some(node);
        self.decide_wishes()
    }

    fn end(&mut self, slot: &SlotId, pid: i32, exit: Exit) {
        let Some(process) = self.kernel.end(slot, pid, exit.clone(), self.now) else { return };
        self.note(format!("{slot} attempt {} ({pid}) ends: {exit}", process.attempt));
        self.locks.ended(slot);
        if process.listener != self.incarnation {
            return;
        }
        let input = Input::Exited { attempt: process.attempt, exit };
        let delay = self.random.below(15);
        if self.chaos && self.random.percent(5) {
            // The same news once more, much later.
            let late = 200 + self.random.below(3_000);
            self.deliver(late, slot.clone(), input.clone());
        }
        self.deliver(delay, slot.clone(), input);
    }

    fn any_process(&mut self) -> Option<(SlotId, i32)> {
        let running: Vec<(SlotId, i32)> = (self.kernel.places.iter())
            .filter_map(|(slot, place)| Some((slot.clone(), place.process.as_ref()?.pid)))
            .collect();
        (!running.is_empty()).then(|| self.random.pick(&running).clone())
    }

    fn kill_shim(&mut self) {
        if let Some((slot, pid)) = self.any_process() {
            self.end(&slot, pid, Exit::Unknown("its shim was killed".into()));
        }
    }

    fn look(&mut self, slot: SlotId, asked: Attempt) {
        let incarnation = self.incarnation;
        let place = self.kernel.places.entry(slot.clone()).or_default();
        let seen = match (&mut place.process, &place.record) {
            (Some(process), _) => {
                process.listener = incarnation;
                Observation::Running {
                    attempt: process.attempt,
                    pid: process.pid,
                    started_at: Wall(process.begun as i64),
                    log_start: 1,
                    held: None,
                }
            }
            (None, Some(record)) => Observation::Ended {
                attempt: record.attempt,
                exit: record.end.clone().unwrap_or(Exit::Unknown("no record".into())),
            },
            (None, None) => Observation::Never,
        };
        let delay = self.random.below(10);
        self.deliver(delay, slot.clone(), Input::Observed { asked, seen });
        self.tell_said(&slot, incarnation);
    }

    fn receive(&mut self, slot: SlotId, input: Input) -> check::Verdict {
        self.count(&slot, &input);
        self.decide(|node, now, wall| node.take([(slot, input)], now, wall))
    }
}
