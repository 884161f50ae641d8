//! What people write and type: random projects, and commands that change the wishes.
//!
//! This is a model of control, written apart from it: goals, generations and what a command asks.

use std::collections::BTreeSet;
use std::sync::Arc;

use upbeat_model::project::OnRestart;
use upbeat_model::target::{Ask, Goal, Target, TargetSlot};
use upbeat_model::{AppName, OperationId, Service, ServiceName, SlotId};

use crate::locks::Locks;
use crate::pace::Pace;
use crate::random::Random;
use crate::services::{Services, change, edges, service};

/// What is declared, and what is wished.
pub(crate) struct Workload {
    app: AppName,
    services: Services,
    /// Services only rest on those before them.
    order: Vec<ServiceName>,
    pub(crate) target: Target,
    operation: u64,
    /// What is wished now is an update that nobody insists on.
    heeds_locks: bool,
    pace: Pace,
}

fn service_name(index: u64) -> ServiceName {
    // INVARIANT: a letter and digits are a name.
    ServiceName::new(format!("s{index}")).expect("a letter and digits are a name")
}

impl Workload {
    pub(crate) fn new(random: &mut Random, locks: &mut Locks, pace: Pace) -> Self {
        let count = random.between(1, 6);
        let services = (0..count).map(|n| (service_name(n), Arc::new(service(random, n, pace)))).collect();
        // INVARIANT: a word is a name.
        let app = AppName::new("app").expect("a word is a name");
        let order: Vec<ServiceName> = (0..count).map(service_name).collect();
        let target = Target::default();
        let mut workload =
            Self { app, services, order, target, operation: 0, heeds_locks: locks.are_given, pace };
        for name in workload.order.clone() {
            workload.spec(&name).update_lock = locks.draws();
            workload.draw_edges(random, &name);
        }
        workload.up();
        workload
    }

    fn wish(&mut self, id: SlotId, goal: Goal, ask: Ask, kill: bool) {
        let Some(spec) = self.services.get(&id.service).cloned() else { return };
        let before = self.target.slots.get(&id);
        let generation = before.map_or(0, |before| before.generation) + u64::from(goal == Goal::Running);
        let wish = TargetSlot {
            goal,
            digest: spec.digest(),
            spec,
            release: 1,
            generation,
            ask,
            kill,
            operation: OperationId(self.operation),
            base_environment: Arc::default(),
            heeds_locks: self.heeds_locks,
        };
        self.target.slots.insert(id, wish);
    }

    fn slot(&self, service: &ServiceName, index: u32) -> SlotId {
        SlotId { app: self.app.clone(), service: service.clone(), index }
    }

    fn up(&mut self) {
        let all: Vec<(ServiceName, u32)> =
            self.services.iter().map(|(name, service)| (name.clone(), service.scale)).collect();
        let runs_other = |(id, wish): &(&SlotId, &TargetSlot)| {
            self.services.get(&id.service).is_some_and(|service| service.digest() != wish.digest)
        };
        let replaced: BTreeSet<ServiceName> =
            self.target.slots.iter().filter(runs_other).map(|(id, _)| id.service.clone()).collect();
        for (name, scale) in all {
            for index in 1..=scale {
                self.wish(self.slot(&name, index), Goal::Running, Ask::Ensure, false);
            }
            let extra: Vec<SlotId> = self.of(&name).filter(|id| id.index > scale).cloned().collect();
            for id in extra {
                self.wish(id, Goal::Absent, Ask::Ensure, false);
            }
        }
        self.drag_along(replaced);
    }

    /// What says `restart: true` of something that is restarted or replaced on purpose is restarted too.
    fn drag_along(&mut self, renewed: BTreeSet<ServiceName>) {
        let mut open: Vec<ServiceName> = renewed.iter().cloned().collect();
        let mut seen = renewed;
        while let Some(dependency) = open.pop() {
            let follows =
                |service: &Service| service.depends_on.get(&dependency).is_some_and(|edge| edge.restart);
            let dependents = self.services.iter().filter(|(_, service)| follows(service));
            let dependents: Vec<ServiceName> =
                dependents.map(|(name, _)| name.clone()).filter(|name| seen.insert(name.clone())).collect();
            for dependent in dependents {
                let runs = |id: &&SlotId| self.target.slots[*id].goal == Goal::Running;
                let copies: Vec<SlotId> = self.of(&dependent).filter(runs).cloned().collect();
                for id in copies {
                    self.wish(id, Goal::Running, Ask::Restart, false);
                }
                open.push(dependent);
            }
        }
    }

    fn of<'a>(&'a self, name: &'a ServiceName) -> impl Iterator<Item = &'a SlotId> {
        self.target.slots.keys().filter(move |id| id.service == *name)
    }

    /// One random command. Says what it was.
    pub(crate) fn command(&mut self, random: &mut Random, locks: &mut Locks) -> String {
        self.heeds_locks = false;
        self.operation += 1;
        self.target.revision += 1;
        let names: Vec<ServiceName> = self.services.keys().cloned().collect();
        let name = random.pick(&names).clone();
        let slots: Vec<SlotId> = self.of(&name).cloned().collect();
        let everything: Vec<SlotId> = self.target.slots.keys().cloned().collect();
        let (what, goal, ask, kill, slots) = match random.below(14) {
            0 | 1 => ("stop", Goal::Stopped, Ask::Ensure, random.percent(20), slots),
            2 | 3 => ("start", Goal::Running, Ask::Start, false, slots),
            4 => ("restart", Goal::Running, Ask::Restart, false, slots),
            5 => ("stop all", Goal::Stopped, Ask::Ensure, random.percent(10), everything),
            6 => ("down", Goal::Absent, Ask::Ensure, random.percent(10), everything),
            7..=9 => {
                self.heeds_locks = locks.are_given;
                self.spec(&name).update_lock = locks.draws();
                return self.edit(random, &name);
            }
            10 => {
                self.heeds_locks = locks.are_given;
                return self.scale(random, &name);
            }
            11 | 12 => ("reload", Goal::Running, Ask::Reload, false, slots),
            _ => {
                // Sometimes with `--force`.
                self.heeds_locks = locks.draws();
                self.up();
                return "up".into();
            }
        };
        for id in slots {
            self.wish(id, goal, ask, kill);
        }
        if ask == Ask::Restart {
            self.drag_along([name.clone()].into());
        }
        format!("{what} {name}")
    }

    /// `up` after somebody has edited the file.
    fn edit(&mut self, random: &mut Random, name: &ServiceName) -> String {
        let mut keys = Vec::new();
        for _ in 0..random.between(1, 3) {
            keys.push(match random.below(8) {
                0 => self.turn_edges_round(random),
                1 => {
                    self.draw_edges(random, name);
                    "depends_on"
                }
                _ => {
                    let pace = self.pace;
                    change(random, self.spec(name), pace)
                }
            });
        }
        self.up();
        format!("up with another {name}: {}", keys.join(", "))
    }

    fn spec(&mut self, name: &ServiceName) -> &mut Service {
        // INVARIANT: names are only ever taken from this map, which none leaves.
        Arc::make_mut(self.services.get_mut(name).expect("every service is declared"))
    }

    fn draw_edges(&mut self, random: &mut Random, name: &ServiceName) {
        let earlier = self.earlier(name);
        let can_reload = self.spec(name).reload.is_some();
        let edges = edges(random, &earlier, &self.services, can_reload, self.pace);
        self.spec(name).depends_on = edges;
    }

    /// Those that come before it in the file's order: it may rest on them.
    fn earlier(&self, name: &ServiceName) -> Vec<ServiceName> {
        self.order.iter().take_while(|other| *other != name).cloned().collect()
    }

    /// Another order of all services: edges against it go, and half of them come back the other way.
    fn turn_edges_round(&mut self, random: &mut Random) -> &'static str {
        for last in (1..self.order.len()).rev() {
            self.order.swap(last, random.below(last as u64 + 1) as usize);
        }
        for name in self.order.clone() {
            let earlier = self.earlier(&name);
            let against: Vec<ServiceName> = self
                .spec(&name)
                .depends_on
                .keys()
                .filter(|other| !earlier.contains(other))
                .cloned()
                .collect();
            for other in against {
                let edge = self.spec(&name).depends_on.remove(&other);
                if let Some(mut edge) = edge.filter(|_| random.percent(50)) {
                    if self.spec(&other).reload.is_none() && edge.on_restart == OnRestart::Reload {
                        edge.on_restart = OnRestart::Ignore;
                    }
                    self.spec(&other).depends_on.insert(name.clone(), edge);
                }
            }
        }
        "the order"
    }

    fn scale(&mut self, random: &mut Random, name: &ServiceName) -> String {
        let count = random.below(4) as u32;
        if let Some(service) = self.services.get_mut(name) {
            Arc::make_mut(service).scale = count;
        }
        self.up();
        format!("scale {name}={count}")
    }

    /// The last word: everything runs, or everything is gone.
    pub(crate) fn last_word(&mut self, random: &mut Random) -> String {
        self.operation += 1;
        self.target.revision += 1;
        if random.percent(70) {
            self.up();
            return "finally up".into();
        }
        self.heeds_locks = false;
        let all: Vec<SlotId> = self.target.slots.keys().cloned().collect();
        for id in all {
            self.wish(id, Goal::Absent, Ask::Ensure, false);
        }
        "finally down".into()
    }

    /// Slots of a service that shall exist.
    pub(crate) fn copies(&self, service: &ServiceName) -> Vec<&SlotId> {
        let wanted =
            |(id, wish): &(&SlotId, &TargetSlot)| id.service == *service && wish.goal != Goal::Absent;
        self.target.slots.iter().filter(wanted).map(|(id, _)| id).collect()
    }

    /// Slots that are gone are no longer wished for: as control does.
    pub(crate) fn forget(&mut self, gone: &BTreeSet<SlotId>) -> bool {
        let before = self.target.slots.len();
        self.target.slots.retain(|id, wish| wish.goal != Goal::Absent || !gone.contains(id));
        self.target.slots.len() != before
    }
}
