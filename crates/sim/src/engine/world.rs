//! The loop: time passes, things happen, the daemon decides, dies, and comes back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use upbeat_decide::instance::{Durable, Input};
use upbeat_decide::rules::{Bug, Rules};
use upbeat_decide::{Effect, Node};
use upbeat_model::{Exit, Mono, Phase, SlotId, Wall};

use super::check::Ledger;
use super::docker::{Docker, End, Request};
use super::driver::{Heard, Records};
use super::hands::Deed;
use super::people::{IMAGES, People, reference};
use super::process::Processes;
use super::{Plant, Slip, ending};
use crate::check::Verdict;
use crate::random::Random;
use crate::world::Broken;

/// Lines of what happened that are kept for the report of a failure.
const TRACE: usize = 120;

/// More happenings than any run of this length has reason for.
const STEPS_MAX: u32 = 50_000;

/// For how long there is malice, and for how long there is none then: so long that the longest back-off of
/// what cannot be made (5 min) is over several times.
const MALICE: u64 = 240_000;
const PEACE: u64 = 1_500_000;

/// What the driver listens to is looked at so often, though no event came.
pub(super) const LOOK_ANYWAY: u64 = 60_000;

pub(super) const BEGINNING: u64 = 1_000_000;

/// How a run ended well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Containers that were started.
    pub starts: u32,
    /// Times the daemon died.
    pub crashes: u32,
    /// Requests that were carried out when nobody waited for them any more.
    pub late: u32,
    /// Answers and news that nobody ever heard.
    pub missing: u32,
    /// Answers and news that came twice.
    pub doubled: u32,
    /// Times it was said of what ran that it never did.
    pub lies: u32,
    /// Things that another hand did.
    pub deeds: u32,
}

pub(super) enum Happening {
    /// An order gets to the driver, which has so many requests answered.
    Arrive {
        effect: Effect,
        left: u32,
        incarnation: u64,
    },
    /// A request is carried out late.
    Late(Request),
    /// An input reaches the daemon that waits for it.
    Deliver {
        slot: SlotId,
        input: Input,
        incarnation: u64,
    },
    /// A run of a container ends.
    Ends {
        id: String,
        run: u64,
        code: i32,
        end: End,
    },
    /// A process ends.
    Dies {
        slot: SlotId,
        pid: i32,
        exit: Exit,
    },
    /// The driver hears that something happened to a container.
    Hear {
        id: String,
        incarnation: u64,
    },
    /// The driver looks at what it listens to.
    LookAnyway {
        incarnation: u64,
    },
    /// The driver finds the engine, and what there is in it.
    Find {
        incarnation: u64,
    },
    Deed(Deed),
    Command,
    Revive,
    Peace,
}

pub(super) struct World {
    pub(super) random: Random,
    pub(super) rules: Rules,
    pub(super) slip: Option<Slip>,
    pub(super) now: u64,
    pub(super) malice: bool,
    /// The engine says what is not so, at times.
    pub(super) lies: bool,
    pub(super) queue: BTreeMap<(u64, u64), Happening>,
    sequence: u64,
    pub(super) people: People,
    pub(super) docker: Docker,
    pub(super) processes: Processes,
    pub(super) records: Records,
    pub(super) store: BTreeMap<SlotId, Durable>,
    pub(super) node: Option<Node>,
    /// What the driver of this daemon listens to.
    pub(super) heard: BTreeMap<SlotId, Heard>,
    /// When the last thing is done that was ordered of a slot.
    pub(super) turns: BTreeMap<SlotId, u64>,
    /// The newest wish of each slot that it has made something for.
    pub(super) newest: BTreeMap<SlotId, u64>,
    pub(super) incarnation: u64,
    pub(super) ledger: Ledger,
    pub(super) outcome: Outcome,
    trace: VecDeque<String>,
}

/// Runs one seed, with or without a planted bug.
///
/// # Errors
/// Which promise was broken, and what happened before.
pub fn run(seed: u64, plant: Option<Plant>) -> Result<Outcome, Broken> {
    let mut random = Random::new(seed);
    let lies = random.percent(50);
    let people = People::new(&mut random);
    let (rules, slip) = match plant {
        None => (Rules::default(), None),
        Some(Plant::Decision(bug)) => (Rules::with(bug), None),
        Some(Plant::Driver(slip)) => (Rules::default(), Some(slip)),
    };
    let mut world = World {
        random,
        rules,
        slip,
        now: BEGINNING,
        malice: true,
        lies,
        queue: BTreeMap::new(),
        sequence: 0,
        people,
        docker: Docker::new(),
        processes: Processes::default(),
        records: Records::new(),
        store: BTreeMap::new(),
        node: None,
        heard: BTreeMap::new(),
        newest: BTreeMap::new(),
        turns: BTreeMap::new(),
        incarnation: 0,
        ledger: Ledger::default(),
        outcome: Outcome::default(),
        trace: VecDeque::new(),
    };
    let result = world.live();
    result.map_err(|what| Broken { what, at: world.now, trace: world.trace.into() }).map(|()| world.outcome)
}

impl World {
    fn live(&mut self) -> Verdict {
        for image in 0..IMAGES {
            self.docker.publish(&reference(image));
        }
        self.at(0, Happening::Revive);
        self.at(MALICE, Happening::Peace);
        for _ in 0..self.random.between(2, 10) {
            let when = self.random.below(MALICE);
            self.at(when, Happening::Command);
        }
        self.plan_deeds(MALICE);
        let end = self.now + MALICE + PEACE;
        for step in 0.. {
            if step > STEPS_MAX {
                return Err("things happen for ever: a busy loop".into());
            }
            let next = self.queue.first_key_value().map(|((at, _), _)| *at);
            let lost_timers = self.rules.has(Bug::LoseTimers);
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
                    crate::ending::moves_on(node, self.now)?;
                }
            }
        }
        ending::at_the_end(self)?;
        self.remembered().map(drop)
    }

    pub(super) fn at(&mut self, delay: u64, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), happening);
    }

    pub(super) fn note(&mut self, line: String) {
        if self.trace.len() == TRACE {
            self.trace.pop_front();
        }
        self.trace.push_back(format!("{:>9} {line}", self.now - BEGINNING));
    }

    pub(super) fn clocks(&self) -> (Mono, Wall) {
        (Mono(self.now), Wall(self.now as i64))
    }

    fn happen(&mut self, happening: Happening) -> Verdict {
        match happening {
            Happening::Arrive { effect, left, incarnation } if incarnation == self.incarnation => {
                self.arrive(&effect, left);
            }
            Happening::Deliver { slot, input, incarnation } if incarnation == self.incarnation => {
                return self.receive(slot, input);
            }
            Happening::Hear { id, incarnation } if incarnation == self.incarnation => {
                return self.hear(&id);
            }
            Happening::LookAnyway { incarnation } if incarnation == self.incarnation => {
                self.at(LOOK_ANYWAY, Happening::LookAnyway { incarnation });
                return self.look_anyway();
            }
            Happening::Find { incarnation } if incarnation == self.incarnation => return self.find(),
            // To a daemon that is dead.
            Happening::Arrive { .. } | Happening::Deliver { .. } | Happening::Hear { .. } => {}
            Happening::LookAnyway { .. } | Happening::Find { .. } => {}
            Happening::Late(request) => {
                // Networks of nobody would stay for ever, and nobody could tell.
                let leaves = matches!(request, Request::MakeNetwork { .. });
                if self.malice && self.docker.is_there && !leaves {
                    self.note(format!("the engine carries out late: {request:?}"));
                    self.outcome.late += 1;
                    // Refused or not, nobody hears of it.
                    let _ = self.docker.apply(request);
                }
            }
            Happening::Ends { id, run, code, end } => {
                if self.docker.containers.get(&id).is_some_and(|one| one.run == run) {
                    self.docker.end(&id, code, end);
                }
            }
            Happening::Dies { slot, pid, exit } => {
                if let Some(attempt) = self.processes.end(&slot, pid, exit.clone()) {
                    self.note(format!("{slot} attempt {attempt} (a process) ends: {exit}"));
                    self.deliver(1, slot, Input::Exited { attempt, exit });
                }
            }
            Happening::Deed(deed) => {
                self.outcome.deeds += 1;
                self.does(deed);
            }
            Happening::Command => {
                let what = self.people.command(&mut self.random);
                self.note(format!("somebody types: {what}"));
                return self.decide_wishes();
            }
            Happening::Peace => return self.make_peace(),
            Happening::Revive => return self.revive(),
        }
        self.spread_news()
    }

    fn make_peace(&mut self) -> Verdict {
        self.malice = false;
        if !self.docker.is_there {
            self.does(Deed::EngineBack { restarted: false });
        }
        let what = self.people.last_word(&mut self.random);
        self.note(format!("there is peace, and somebody types: {what}"));
        self.ledger.final_images(&self.docker);
        self.spread_news()?;
        self.decide_wishes()
    }

    /// Slots that are gone are not wished for any more.
    pub(super) fn forget(&mut self, gone: &BTreeSet<SlotId>) -> Verdict {
        if self.people.forget(gone) {
            return self.decide_wishes();
        }
        Ok(())
    }

    /// What was committed, as it comes back from where it is kept: as text.
    pub(super) fn remembered(&self) -> Result<Vec<(SlotId, Durable)>, String> {
        let mut slots = Vec::new();
        for (slot, durable) in &self.store {
            let text = serde_json::to_string(durable).map_err(|error| format!("{slot}: {error}"))?;
            crate::ending::is_small(slot, &text)?;
            let read: Durable = serde_json::from_str(&text).map_err(|error| format!("{slot}: {error}"))?;
            if read != *durable {
                return Err(format!("{slot}: {durable:?} is kept, and {read:?} comes back"));
            }
            slots.push((slot.clone(), read));
        }
        Ok(slots)
    }

    pub(super) fn phase(&self, slot: &SlotId) -> Option<Phase> {
        Some(self.node.as_ref()?.status(slot)?.phase)
    }
}
