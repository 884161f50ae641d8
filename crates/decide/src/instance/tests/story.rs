//! The teller: a node, a clock, a disk, and what a person does.

use std::collections::BTreeMap;
use std::sync::Arc;

use upbeat_model::file::{Context, Source, parse};
use upbeat_model::project::{Role, Service};
use upbeat_model::target::{Ask, Goal, Target, TargetSlot};
use upbeat_model::{Attempt, Exit, Millis, Mono, OperationId, ProbeName, ServiceName, SlotId, Wall};

use crate::effect::Effect;
use crate::instance::{Durable, HookCommand, Input, Moment, Observation, Said};
use crate::node::{Bundle, Node, Outcome};
use crate::rules::Rules;

/// One machine and its person.
pub(super) struct Story {
    pub(super) node: Node,
    pub(super) now: u64,
    pub(super) target: Target,
    /// The number of the next command.
    pub(super) operation: u64,
    /// What was ordered and not yet looked at by the test.
    pub(super) orders: Vec<String>,
    pub(super) disk: BTreeMap<SlotId, Durable>,
    /// Which check of a slot asked last.
    checks: BTreeMap<SlotId, u64>,
    /// Which check of a probe of a slot asked last.
    named: BTreeMap<(SlotId, ProbeName), u64>,
    /// What was done about failing probes.
    pub(super) reacted: Vec<String>,
    /// And what came of that, of starts that failed, and of reloads.
    pub(super) came_to: Vec<String>,
    /// What was last run to stop a slot.
    stop_commands: BTreeMap<SlotId, Arc<HookCommand>>,
    /// Of each reload that was ordered: attempt, when its copy was begun, which time.
    pub(super) reloads: Vec<(u64, u64, u64)>,
    /// Which hooks of a slot were ordered last.
    serials: BTreeMap<SlotId, u64>,
}

pub(super) fn id(short: &str) -> SlotId {
    let (service, index) = short.split_once('-').unwrap_or((short, "1"));
    format!("app/{service}/{index}").parse().unwrap()
}

pub(super) fn services(text: &str) -> BTreeMap<ServiceName, Service> {
    let text = format!("services:\n{text}");
    let nothing = |_: &str| None;
    let context = Context::new("/", "app", &nothing);
    let parsed = parse(&[Source { name: "upbeat.yaml", text: &text }], &context);
    parsed.unwrap_or_else(|errors| panic!("{errors}")).project.services
}

impl Story {
    /// Nothing is there and nothing wished yet.
    pub(super) fn new() -> Self {
        Self {
            node: Node::recover([], Rules::default()),
            now: 1_000,
            target: Target::default(),
            operation: 1,
            orders: Vec::new(),
            disk: BTreeMap::new(),
            checks: BTreeMap::new(),
            named: BTreeMap::new(),
            reacted: Vec::new(),
            came_to: Vec::new(),
            stop_commands: BTreeMap::new(),
            reloads: Vec::new(),
            serials: BTreeMap::new(),
        }
    }

    /// `upbeat up` of these services.
    pub(super) fn up(text: &str) -> Self {
        let mut story = Self::new();
        story.declare(text);
        story
    }

    /// `upbeat up` of this file, now.
    pub(super) fn declare(&mut self, text: &str) {
        self.declare_all(services(text));
    }

    /// `upbeat up` of this service, called `s`.
    pub(super) fn of(spec: Service) -> Self {
        let mut story = Self::new();
        story.declare_all([(ServiceName::new("s").unwrap(), spec)].into());
        story
    }

    pub(super) fn declare_all(&mut self, services: BTreeMap<ServiceName, Service>) {
        self.declare_all_by(services, false);
    }

    fn declare_all_by(&mut self, services: BTreeMap<ServiceName, Service>, heeds_locks: bool) {
        for (name, spec) in services {
            let spec = Arc::new(spec);
            for index in 1..=spec.scale {
                let slot = id(&format!("{name}-{index}"));
                let generation = self.target.slots.get(&slot).map_or(0, |wish| wish.generation);
                let wish = TargetSlot {
                    goal: Goal::Running,
                    digest: spec.digest(),
                    spec: spec.clone(),
                    release: 1,
                    generation: generation + 1,
                    ask: Ask::Ensure,
                    kill: false,
                    heeds_locks,
                    operation: OperationId(self.operation),
                    base_environment: Arc::default(),
                };
                self.target.slots.insert(slot, wish);
            }
        }
        self.aim();
    }

    /// `upbeat up` of this file, now, which nobody insists on.
    pub(super) fn update(&mut self, text: &str) {
        self.operation += 1;
        let (declared, operation) = (services(text), OperationId(self.operation));
        for (slot, wish) in &mut self.target.slots {
            wish.heeds_locks = true;
            wish.operation = operation;
            if !declared.contains_key(&slot.service) {
                wish.goal = Goal::Absent;
            }
        }
        self.declare_all_by(declared, true);
    }

    /// A command that names these slots.
    pub(super) fn command(&mut self, goal: Goal, ask: Ask, slots: &[&str]) {
        for slot in slots {
            let wish = self.target.slots.get_mut(&id(slot)).unwrap();
            (wish.goal, wish.ask, wish.generation) = (goal, ask, wish.generation + 1);
        }
        self.aim();
    }

    pub(super) fn aim(&mut self) {
        let bundle = self.node.aim(&self.target, Mono(self.now), Wall(self.now as i64));
        self.keep(bundle);
    }

    pub(super) fn keep(&mut self, bundle: Bundle) {
        for (slot, durable) in bundle.persist {
            match durable {
                Some(durable) => self.disk.insert(slot, durable),
                None => self.disk.remove(&slot),
            };
        }
        self.orders.extend(bundle.effects.iter().map(told));
        let reacted = bundle.reacted.iter();
        self.reacted
            .extend(reacted.map(|did| format!("{} {} {}: {}", did.probe, did.action, did.times, did.last)));
        self.came_to.extend(bundle.outcomes.iter().map(|outcome| match outcome {
            Outcome::StartFailed { slot, attempt } => {
                format!("start {} #{attempt} failed", slot.short().trim_end_matches("-1"))
            }
            Outcome::Remedied { probe, failure, .. } => {
                format!("{probe}: {}", failure.as_deref().unwrap_or("well"))
            }
            Outcome::Taken { how, .. } => how.to_string(),
            Outcome::Mended { what, failure, .. } => {
                format!("{what}: {}", failure.as_deref().unwrap_or("put right"))
            }
            Outcome::Reloaded { failure, .. } => format!("reload: {}", failure.as_deref().unwrap_or("well")),
        }));
        for effect in &bundle.effects {
            if let Effect::Reload { attempt, begun, serial, .. } = effect {
                self.reloads.push((attempt.0, *begun, *serial));
            }
            if let Effect::RunHooks { slot, serial, .. } = effect {
                self.serials.insert(slot.clone(), *serial);
            }
            match effect {
                Effect::Probe { slot, name, check, .. } | Effect::WatchLog { slot, name, check, .. } => {
                    self.checks.insert(slot.clone(), *check);
                    self.named.insert((slot.clone(), name.clone()), *check);
                }
                Effect::RunHooks { slot, moment: Moment::PreStop, commands, .. } => {
                    self.stop_commands.insert(slot.clone(), commands[commands.len() - 1].clone());
                }
                _ => {}
            }
        }
    }

    pub(super) fn take(&mut self, slot: &str, input: Input) {
        let bundle = self.node.take([(id(slot), input)], Mono(self.now), Wall(self.now as i64));
        self.keep(bundle);
    }

    pub(super) fn attempt(&self, slot: &str) -> Attempt {
        self.node.durable(&id(slot)).unwrap().attempt
    }

    pub(super) fn started(&mut self, slot: &str) {
        let attempt = self.attempt(slot);
        self.take(slot, Input::Started { attempt, pid: 7, at: Wall(self.now as i64), log_start: 1 });
    }

    pub(super) fn exits(&mut self, slot: &str, exit: Exit) {
        let attempt = self.attempt(slot);
        self.take(slot, Input::Exited { attempt, exit });
    }

    /// The answer to a look that was asked for just now.
    pub(super) fn seen(&mut self, slot: &str, seen: Observation) {
        let asked = self.attempt(slot);
        self.take(slot, Input::Observed { asked, seen });
    }

    /// The check that asked last is answered.
    pub(super) fn probed(&mut self, slot: &str, healthy: bool) {
        self.answered(slot, self.check(slot), healthy);
    }

    /// The check of this probe that asked last is answered.
    pub(super) fn said(&mut self, slot: &str, probe: &str, healthy: bool) {
        let check = self.named[&(id(slot), ProbeName::new(probe).unwrap())];
        self.answered(slot, check, healthy);
    }

    /// Its process says this of itself.
    pub(super) fn notified(&mut self, slot: &str, said: Said) {
        let attempt = self.attempt(slot);
        self.take(slot, Input::Notified { attempt, said });
    }

    /// A check is answered.
    pub(super) fn answered(&mut self, slot: &str, check: u64, healthy: bool) {
        let attempt = self.attempt(slot);
        self.take(slot, Input::Probed { attempt, check, healthy, message: format!("said {healthy}") });
    }

    /// The check that asked last.
    pub(super) fn check(&self, slot: &str) -> u64 {
        self.checks[&id(slot)]
    }

    /// Its hooks end.
    pub(super) fn hooks_end(&mut self, slot: &str, moment: Moment, outcome: Result<(), &str>) {
        let attempt = self.attempt(slot);
        let serial = self.serials.get(&id(slot)).copied().unwrap_or_default();
        let outcome = outcome.map_err(str::to_owned);
        self.take(slot, Input::HooksEnded { attempt, moment, serial, outcome });
    }

    /// Its hooks could not be run.
    pub(super) fn hooks_unable(&mut self, slot: &str, moment: Moment) {
        let attempt = self.attempt(slot);
        let serial = self.serials.get(&id(slot)).copied().unwrap_or_default();
        self.take(slot, Input::HooksUnable { attempt, moment, serial, why: "no processes".into() });
    }

    /// What was last run to stop it: its arguments, and what it knows by this name.
    pub(super) fn stop_command(&self, slot: &str, variable: &str) -> (String, Option<String>) {
        let run = &self.stop_commands[&id(slot)];
        let value = run.environment.get(variable).or_else(|| run.base_environment.get(variable));
        (run.command.join(" "), value.cloned())
    }

    /// Time passes, deadline by deadline; nothing else happens.
    pub(super) fn pass(&mut self, length: Millis) {
        let end = self.now + length.0;
        while let Some(Mono(at)) = self.node.deadline().filter(|at| at.0 <= end) {
            assert!(at > self.now || self.orders.len() < 10_000, "a deadline that never ends");
            self.now = self.now.max(at);
            let bundle = self.node.take([], Mono(self.now), Wall(self.now as i64));
            self.keep(bundle);
        }
        self.now = end;
    }

    /// The daemon is killed, and the next one reads what was committed.
    pub(super) fn daemon_dies(&mut self) {
        self.node = Node::recover(self.disk.clone(), Rules::default());
        self.orders.clear();
        self.aim();
    }

    /// What was ordered since the last look.
    pub(super) fn ordered(&mut self) -> Vec<String> {
        std::mem::take(&mut self.orders)
    }

    pub(super) fn phase(&self, slot: &str) -> String {
        self.node.status(&id(slot)).unwrap().phase.to_string()
    }

    pub(super) fn why(&self, slot: &str) -> String {
        let reasons = &self.node.status(&id(slot)).unwrap().reasons;
        reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }
}

fn words(commands: &[Arc<HookCommand>]) -> String {
    commands.iter().map(|hook| hook.command.join(" ")).collect::<Vec<_>>().join(", ")
}

pub(super) fn told(effect: &Effect) -> String {
    let slot = effect.slot().short();
    let slot = slot.trim_end_matches("-1");
    match effect {
        Effect::Observe { container: true, .. } => format!("observe container {slot}"),
        Effect::Observe { .. } => format!("observe {slot}"),
        Effect::Prepare { spec, .. } => {
            format!("prepare {slot} {}", spec.container.as_ref().map_or("?", |made| made.image.as_str()))
        }
        Effect::Mend { .. } => format!("mend {slot}"),
        Effect::Start { attempt, container: Some(container), .. } => {
            format!("start {slot} #{attempt} as {container}")
        }
        Effect::Start { attempt, .. } => format!("start {slot} #{attempt}"),
        Effect::Stop { signal, grace, .. } => format!("stop {slot} {signal} {grace}"),
        Effect::Signal { signal, .. } => format!("signal {slot} {signal}"),
        Effect::Reload { signal: Some(signal), serial, .. } => format!("reload {slot} {signal} ({serial})"),
        Effect::Reload { commands, serial, .. } => format!("reload {slot} {} ({serial})", words(commands)),
        Effect::RunHooks { moment, commands, timeout, .. } => match moment {
            Moment::PreStart => format!("before its start {slot} {}", words(commands)),
            Moment::PostStart => format!("after its start {slot} {}", words(commands)),
            Moment::PreStop => format!("before its stop {slot} {} {timeout}", words(commands)),
            Moment::PostStop => format!("after its stop {slot} {} {timeout}", words(commands)),
            Moment::Remedy => format!("remedy {slot} {}", words(commands)),
        },
        Effect::Probe { name, .. } if name.role() == Role::Readiness => format!("probe {slot}"),
        Effect::Probe { name, .. } => format!("probe {slot} {name}"),
        Effect::WatchLog { pattern, .. } => format!("watch {slot} for {pattern}"),
        Effect::Lock { slots, .. } => {
            let slots: Vec<String> = slots.iter().map(SlotId::short).collect();
            format!("lock {}", slots.join(", "))
        }
        Effect::Unlock { .. } => format!("unlock {slot}"),
        Effect::Remove { networks, .. } if !networks.is_empty() => {
            format!("remove {slot} and {}", networks.join(", "))
        }
        Effect::Remove { container: true, .. } => format!("remove container {slot}"),
        Effect::Remove { .. } => format!("remove {slot}"),
    }
}
