//! What people write and type: random projects, and commands that change the wishes.
//!
//! This is a model of control, written apart from it: goals, generations and what a command asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use upbeat_model::project::{Condition, Dependency, Hook, Probe, Question, RestartPolicy, Signal};
use upbeat_model::target::{Ask, Goal, Target, TargetSlot};
use upbeat_model::{AppName, Millis, OperationId, ProbeName, Service, ServiceName, SlotId};

use crate::random::Random;

/// What is declared, and what is wished.
pub(crate) struct Workload {
    app: AppName,
    services: BTreeMap<ServiceName, Arc<Service>>,
    /// Services only rest on those before them.
    order: Vec<ServiceName>,
    pub(crate) target: Target,
    operation: u64,
}

fn service_name(index: u64) -> ServiceName {
    // INVARIANT: a letter and digits are a name.
    ServiceName::new(format!("s{index}")).expect("a letter and digits are a name")
}

impl Workload {
    pub(crate) fn new(random: &mut Random) -> Self {
        let count = random.between(1, 6);
        let services = (0..count).map(|n| (service_name(n), Arc::new(service(random, n)))).collect();
        // INVARIANT: a word is a name.
        let app = AppName::new("app").expect("a word is a name");
        let order = (0..count).map(service_name).collect();
        let mut workload = Self { app, services, order, target: Target::default(), operation: 0 };
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
        };
        self.target.slots.insert(id, wish);
    }

    fn slot(&self, service: &ServiceName, index: u32) -> SlotId {
        SlotId { app: self.app.clone(), service: service.clone(), index }
    }

    fn up(&mut self) {
        let all: Vec<(ServiceName, u32)> =
            self.services.iter().map(|(name, service)| (name.clone(), service.scale)).collect();
        for (name, scale) in all {
            for index in 1..=scale {
                self.wish(self.slot(&name, index), Goal::Running, Ask::Ensure, false);
            }
            let extra: Vec<SlotId> = self.of(&name).filter(|id| id.index > scale).cloned().collect();
            for id in extra {
                self.wish(id, Goal::Absent, Ask::Ensure, false);
            }
        }
    }

    fn of<'a>(&'a self, name: &'a ServiceName) -> impl Iterator<Item = &'a SlotId> {
        self.target.slots.keys().filter(move |id| id.service == *name)
    }

    /// One random command. Says what it was.
    pub(crate) fn command(&mut self, random: &mut Random) -> String {
        self.operation += 1;
        self.target.revision += 1;
        let names: Vec<ServiceName> = self.services.keys().cloned().collect();
        let name = random.pick(&names).clone();
        let slots: Vec<SlotId> = self.of(&name).cloned().collect();
        let everything: Vec<SlotId> = self.target.slots.keys().cloned().collect();
        let (what, goal, ask, kill, slots) = match random.below(12) {
            0 | 1 => ("stop", Goal::Stopped, Ask::Ensure, random.percent(20), slots),
            2 | 3 => ("start", Goal::Running, Ask::Start, false, slots),
            4 => ("restart", Goal::Running, Ask::Restart, false, slots),
            5 => ("stop all", Goal::Stopped, Ask::Ensure, random.percent(10), everything),
            6 => ("down", Goal::Absent, Ask::Ensure, random.percent(10), everything),
            7..=9 => return self.edit(random, &name),
            10 => return self.scale(random, &name),
            _ => {
                self.up();
                return "up".into();
            }
        };
        for id in slots {
            self.wish(id, goal, ask, kill);
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
                    let earlier = self.earlier(name);
                    let edges = edges(random, &earlier);
                    self.spec(name).depends_on = edges;
                    "depends_on"
                }
                _ => change(random, self.spec(name)),
            });
        }
        self.up();
        format!("up with another {name}: {}", keys.join(", "))
    }

    fn spec(&mut self, name: &ServiceName) -> &mut Service {
        // INVARIANT: names are only ever taken from this map, which none leaves.
        Arc::make_mut(self.services.get_mut(name).expect("every service is declared"))
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
                if let Some(edge) = edge.filter(|_| random.percent(50)) {
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

/// A random service that depends on some of those before it.
fn service(random: &mut Random, index: u64) -> Service {
    let earlier: Vec<ServiceName> = (0..index).map(service_name).collect();
    Service {
        depends_on: edges(random, &earlier),
        probes: readiness(healthcheck(random)),
        restart: policy(random),
        stop_grace_period: Millis(random.between(100, 5_000)),
        stop_command: random.percent(15).then(|| vec!["stop".into()]),
        post_start: hooks(random),
        pre_stop: hooks(random),
        success_exit_codes: if random.percent(20) { [1].into() } else { [].into() },
        scale: random.between(1, 2) as u32,
        ..Service::new(vec![format!("program-{index}")], "/")
    }
}

/// Another value for one key of a service, under whatever runs of it. Says which.
fn change(random: &mut Random, service: &mut Service) -> &'static str {
    let number = random.below(1000).to_string();
    match random.below(12) {
        0 | 1 => {
            service.command.push(number);
            "command"
        }
        2 => {
            service.environment.insert("PORT".into(), number);
            "environment"
        }
        3 => {
            service.probes = readiness(healthcheck(random));
            "healthcheck"
        }
        4 => {
            if let (Some(check), Some(other)) = (service.readiness(), healthcheck(random)) {
                service.probes = readiness(Some(Probe { ask: check.ask.clone(), ..other }));
            }
            "the rhythm of the check"
        }
        5 => {
            service.stop_signal = *random.pick(&[Signal::TERM, Signal(2), Signal(3)]);
            "stop_signal"
        }
        6 => {
            service.stop_grace_period = Millis(*random.pick(&[0, 10, 500, 3_000, 20_000]));
            "stop_grace_period"
        }
        7 => {
            service.stop_command = random.percent(50).then(|| vec!["stop".into(), number]);
            "stop_command"
        }
        8 => {
            service.post_start = hooks(random);
            "post_start"
        }
        9 => {
            service.pre_stop = hooks(random);
            "pre_stop"
        }
        10 => {
            service.success_exit_codes = if random.percent(50) { [1].into() } else { [].into() };
            "success_exit_codes"
        }
        _ => {
            service.restart = policy(random);
            "restart"
        }
    }
}

/// Most services have none.
fn hooks(random: &mut Random) -> Vec<Hook> {
    let count = if random.percent(80) { 0 } else { random.between(1, 2) };
    let hook = |n: u64| Hook {
        command: vec![format!("hook-{n}")],
        environment: BTreeMap::new(),
        working_dir: None,
        user: None,
    };
    (0..count).map(hook).collect()
}

fn edges(random: &mut Random, earlier: &[ServiceName]) -> BTreeMap<ServiceName, Dependency> {
    let mut edges = BTreeMap::new();
    for name in earlier {
        if random.percent(40) {
            let conditions = [Condition::Started, Condition::Healthy, Condition::CompletedSuccessfully];
            let edge = Dependency {
                condition: random.pick(&conditions).clone(),
                required: random.percent(85),
                ..Dependency::default()
            };
            edges.insert(name.clone(), edge);
        }
    }
    edges
}

/// A question that is never answered well.
pub(crate) fn never_passes() -> Question {
    Question::Tcp("127.0.0.1:3".into())
}

fn readiness(probe: Option<Probe>) -> BTreeMap<ProbeName, Probe> {
    ProbeName::new(ProbeName::READINESS).ok().zip(probe).into_iter().collect()
}

fn healthcheck(random: &mut Random) -> Option<Probe> {
    let ask = match random.below(10) {
        0..=2 => Question::Log(if random.percent(70) { "up" } else { "ready" }.into()),
        3 => never_passes(),
        4 => Question::Tcp("127.0.0.1:2".into()),
        _ => Question::Tcp("127.0.0.1:1".into()),
    };
    random.percent(50).then(|| Probe {
        interval: Millis(random.between(50, 5_000)),
        timeout: Millis(random.between(20, 2_000)),
        failure_threshold: random.between(1, 4) as u32,
        start_period: Millis(random.below(3_000)),
        start_interval: Millis(random.between(20, 500)),
        ..Probe::new(ask)
    })
}

fn policy(random: &mut Random) -> RestartPolicy {
    let policies = [
        RestartPolicy::No,
        RestartPolicy::Always,
        RestartPolicy::OnFailure { max: None },
        RestartPolicy::OnFailure { max: Some(random.below(3) as u32) },
        RestartPolicy::UnlessStopped,
    ];
    *random.pick(&policies)
}
