//! What people write and type: services that are containers or processes, and commands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use upbeat_model::project::container::{
    Attachment, ImageRef, Network, NetworkMode, Port, Protocol, PullPolicy,
};
use upbeat_model::project::{Condition, Dependency, RestartPolicy, Service};
use upbeat_model::target::{Ask, Goal, Target, TargetSlot};
use upbeat_model::{AppName, Millis, OperationId, ServiceName, SlotId};

use crate::random::Random;

/// What a program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nature {
    /// Runs until somebody ends it; at times it falls.
    Serves,
    /// Does something and ends.
    Completes,
    /// Cannot be run.
    Broken,
}

impl Nature {
    const WORDS: [(&str, Self); 3] =
        [("serve", Self::Serves), ("once", Self::Completes), ("broken", Self::Broken)];

    pub(super) fn of(spec: &Service) -> Self {
        let command = match spec.container.as_deref() {
            Some(container) => container.command.as_deref().unwrap_or_default(),
            None => &spec.command,
        };
        let word = command.first().map(String::as_str);
        Self::WORDS.iter().find(|(name, _)| Some(*name) == word).map_or(Self::Serves, |(_, nature)| *nature)
    }

    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, nature)| *nature == self).map_or("serve", |(name, _)| *name)
    }

    fn any(random: &mut Random) -> Self {
        match random.below(20) {
            0..14 => Self::Serves,
            14..19 => Self::Completes,
            _ => Self::Broken,
        }
    }
}

/// One service as it stands in the file.
#[derive(Clone)]
struct Written {
    nature: Nature,
    /// Which image; none: a process.
    image: Option<(u64, PullPolicy)>,
    networks: BTreeSet<&'static str>,
    version: u64,
    restart: RestartPolicy,
    grace: u64,
    scale: u32,
    needs: BTreeMap<ServiceName, Condition>,
    declared: bool,
}

const NETWORKS: [&str; 2] = ["front", "back"];

/// The file, and what is wished.
pub(super) struct People {
    app: AppName,
    file: BTreeMap<ServiceName, Written>,
    /// How often each network was changed.
    networks: BTreeMap<&'static str, u64>,
    /// Which service publishes the port of this machine that there is.
    port: Option<ServiceName>,
    /// Digests of all that was ever wished so.
    publishing: BTreeSet<String>,
    pub(super) target: Target,
    operation: u64,
}

pub(super) fn reference(image: u64) -> String {
    format!("registry.test/image{image}:1")
}

/// So many images there are.
pub(super) const IMAGES: u64 = 3;

fn policy(random: &mut Random) -> RestartPolicy {
    match random.below(3) {
        0 => RestartPolicy::No,
        1 => RestartPolicy::Always,
        _ => RestartPolicy::OnFailure { max: None },
    }
}

fn image(random: &mut Random) -> (u64, PullPolicy) {
    let image = random.below(IMAGES);
    // Of one image all say the same, so that which is the newest is one question.
    (image, if image == 0 { PullPolicy::Always } else { PullPolicy::Missing })
}

impl Written {
    fn any(random: &mut Random) -> Self {
        let nature = Nature::any(random);
        Self {
            nature,
            image: random.percent(80).then(|| image(random)),
            networks: NETWORKS.into_iter().filter(|_| random.percent(50)).collect(),
            version: random.below(4),
            restart: if nature == Nature::Completes { RestartPolicy::No } else { policy(random) },
            grace: random.between(100, 5_000),
            scale: random.between(1, 2) as u32,
            needs: BTreeMap::new(),
            declared: true,
        }
    }

    fn spec(&self, networks: &BTreeMap<&'static str, u64>) -> Service {
        let command = vec![self.nature.word().to_owned(), self.version.to_string()];
        let mut spec = match self.image {
            None => Service::new(command, "/"),
            Some((image, pull_policy)) => {
                // INVARIANT: written here, and well.
                let image = ImageRef::parse(&reference(image)).expect("a reference");
                let mut spec = Service::of_image(image);
                if let Some(container) = &mut spec.container {
                    container.command = Some(command);
                    container.pull_policy = pull_policy;
                    let attach = |name: &&'static str| {
                        let version = networks.get(name).copied().unwrap_or_default();
                        let labels = [("version".to_owned(), version.to_string())].into();
                        Attachment::to(Network {
                            driver_opts: labels,
                            ..Network::new(*name, format!("app_{name}"))
                        })
                    };
                    container.network = NetworkMode::Networks(self.networks.iter().map(attach).collect());
                }
                spec
            }
        };
        spec.restart = self.restart;
        spec.stop_grace_period = Millis(self.grace);
        let edge = |(name, condition): (&ServiceName, &Condition)| {
            (name.clone(), Dependency { condition: condition.clone(), ..Dependency::default() })
        };
        spec.depends_on = self.needs.iter().map(edge).collect();
        spec
    }
}

impl People {
    pub(super) fn new(random: &mut Random) -> Self {
        // INVARIANT: a word is a name.
        let app = AppName::new("app").expect("a word is a name");
        // INVARIANT: a letter and digits are a name.
        let name = |n| ServiceName::new(format!("s{n}")).expect("a letter and digits are a name");
        let file = (0..random.between(1, 5)).map(|n| (name(n), Written::any(random))).collect();
        let networks = NETWORKS.into_iter().map(|name| (name, 0)).collect();
        let (port, publishing, target, operation) = (None, BTreeSet::new(), Target::default(), 0);
        let mut people = Self { app, file, networks, port, publishing, target, operation };
        people.move_port(random);
        people.draw_edges(random);
        people.up();
        people
    }

    /// Each rests on some of those before it, and asks of them what they can come to.
    fn draw_edges(&mut self, random: &mut Random) {
        let natures: Vec<(ServiceName, Nature)> = self
            .file
            .iter()
            .filter(|(_, one)| one.declared)
            .map(|(name, one)| (name.clone(), one.nature))
            .collect();
        for (name, one) in &mut self.file {
            one.needs.clear();
            for (other, nature) in natures.iter().take_while(|(other, _)| other < name) {
                if random.percent(35) {
                    let condition = match (nature, random.below(2)) {
                        (Nature::Completes, _) => Condition::CompletedSuccessfully,
                        (_, 0) => Condition::Started,
                        _ => Condition::Healthy,
                    };
                    one.needs.insert(other.clone(), condition);
                }
            }
        }
    }

    /// It goes to another, or to nobody.
    fn move_port(&mut self, random: &mut Random) {
        let containers = self.file.iter().filter(|(_, one)| one.image.is_some()).map(|(name, _)| name);
        let containers: Vec<ServiceName> = containers.cloned().collect();
        self.port = (!containers.is_empty() && random.percent(80)).then(|| random.pick(&containers).clone());
    }

    /// What was wished when this was made publishes the port.
    pub(super) fn publishes(&self, digest: &str) -> bool {
        self.publishing.contains(digest)
    }

    fn written(&self, name: &ServiceName) -> Option<Service> {
        let one = self.file.get(name).filter(|one| one.declared)?;
        let mut spec = one.spec(&self.networks);
        if self.port.as_ref() == Some(name)
            && let Some(container) = &mut spec.container
        {
            let published = Some("8080".to_owned());
            container.ports.push(Port { target: 80, published, host_ip: None, protocol: Protocol::Tcp });
        }
        Some(spec)
    }

    fn wish(&mut self, id: SlotId, goal: Goal, ask: Ask, kill: bool) {
        let before = self.target.slots.get(&id);
        let written = self.written(&id.service).map(Arc::new);
        let spec = match (written, before) {
            // Of what is dropped the last that was wished is what is known.
            (_, Some(before)) if goal != Goal::Running => before.spec.clone(),
            (Some(spec), _) => spec,
            (None, Some(before)) => before.spec.clone(),
            (None, None) => Arc::new(Service::new(Vec::new(), "/")),
        };
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
            heeds_locks: false,
        };
        if wish.spec.container.as_ref().is_some_and(|container| !container.ports.is_empty()) {
            self.publishing.insert(wish.digest.clone());
        }
        self.target.slots.insert(id, wish);
    }

    fn begin(&mut self) {
        self.operation += 1;
        self.target.revision += 1;
    }

    fn up(&mut self) {
        let mut wanted = BTreeSet::new();
        for (name, one) in self.file.iter().filter(|(_, one)| one.declared) {
            let scale = if self.port.as_ref() == Some(name) { 1 } else { one.scale };
            for index in 1..=scale {
                wanted.insert(SlotId { app: self.app.clone(), service: name.clone(), index });
            }
        }
        let dropped: Vec<SlotId> =
            self.target.slots.keys().filter(|id| !wanted.contains(*id)).cloned().collect();
        for id in wanted {
            self.wish(id, Goal::Running, Ask::Ensure, false);
        }
        for id in dropped {
            self.wish(id, Goal::Absent, Ask::Ensure, false);
        }
    }

    /// Somebody edits the file.
    fn edit(&mut self, random: &mut Random) -> &'static str {
        let names: Vec<ServiceName> = self.file.keys().cloned().collect();
        let name = random.pick(&names).clone();
        let Some(one) = self.file.get_mut(&name) else { return "nothing" };
        match random.below(14) {
            0..=3 => {
                one.version += 1;
                "a command"
            }
            4 => {
                // A container stays one, and so does a process.
                one.image = one.image.map(|_| image(random));
                "an image"
            }
            5 => {
                one.networks = NETWORKS.into_iter().filter(|_| random.percent(50)).collect();
                "the networks of one"
            }
            6 | 7 => {
                *self.networks.entry(*random.pick(&NETWORKS)).or_default() += 1;
                "a network"
            }
            8 => {
                one.declared = !one.declared;
                self.draw_edges(random);
                "what is declared"
            }
            9 => {
                one.nature = Nature::any(random);
                self.draw_edges(random);
                "a program"
            }
            10 => {
                one.scale = 3 - one.scale;
                "a scale"
            }
            11 | 12 => {
                self.move_port(random);
                "who has the port"
            }
            _ => {
                self.draw_edges(random);
                "depends_on"
            }
        }
    }

    /// One random command. Says what it was.
    pub(super) fn command(&mut self, random: &mut Random) -> String {
        self.begin();
        let everything: Vec<SlotId> = self.target.slots.keys().cloned().collect();
        let some = || -> Vec<SlotId> {
            let service = everything.first().map(|id| id.service.clone());
            everything.iter().filter(|id| Some(&id.service) == service.as_ref()).cloned().collect()
        };
        let picked = if everything.is_empty() { Vec::new() } else { vec![random.pick(&everything).clone()] };
        let (what, goal, ask, slots) = match random.below(16) {
            0 | 1 => ("stop", Goal::Stopped, Ask::Ensure, picked),
            2 => ("start", Goal::Running, Ask::Start, picked),
            3 => ("restart", Goal::Running, Ask::Restart, some()),
            4 => ("stop all", Goal::Stopped, Ask::Ensure, everything),
            5 => ("down", Goal::Absent, Ask::Ensure, everything),
            6 | 7 => {
                self.up();
                return "up".into();
            }
            _ => {
                let what = self.edit(random);
                self.up();
                return format!("up with another file: {what}");
            }
        };
        let kill = goal != Goal::Running && random.percent(10);
        // What was dropped, or is not in the file any more, stays as it is.
        let is_there = |id: &&SlotId| self.target.slots[*id].goal != Goal::Absent || goal == Goal::Absent;
        let slots: Vec<SlotId> = slots.iter().filter(is_there).cloned().collect();
        let named = slots.first().map(SlotId::short).unwrap_or_default();
        for id in slots {
            self.wish_again(id, goal, ask, kill);
        }
        format!("{what} {named}")
    }

    /// `start`, `restart`, `stop`: by the file as it was last taken up.
    fn wish_again(&mut self, id: SlotId, goal: Goal, ask: Ask, kill: bool) {
        let operation = OperationId(self.operation);
        if let Some(wish) = self.target.slots.get_mut(&id) {
            (wish.goal, wish.ask, wish.kill, wish.operation) = (goal, ask, kill, operation);
            wish.generation += u64::from(goal == Goal::Running);
        }
    }

    /// The last word.
    pub(super) fn last_word(&mut self, random: &mut Random) -> &'static str {
        self.begin();
        if random.percent(75) {
            self.up();
            return "finally up";
        }
        let all: Vec<SlotId> = self.target.slots.keys().cloned().collect();
        for id in all {
            self.wish_again(id, Goal::Absent, Ask::Ensure, false);
        }
        "finally down"
    }

    /// Those of whom nobody wishes anything.
    pub(super) fn strangers(&self, found: &[SlotId]) -> Vec<SlotId> {
        found.iter().filter(|id| !self.target.slots.contains_key(*id)).cloned().collect()
    }

    /// Of these nobody wishes anything, and they are there: they go.
    pub(super) fn disown(&mut self, strangers: Vec<SlotId>) -> bool {
        if strangers.is_empty() {
            return false;
        }
        self.begin();
        for id in strangers {
            self.wish(id, Goal::Absent, Ask::Ensure, false);
        }
        true
    }

    /// Slots that are gone are no longer wished for: as control does.
    pub(super) fn forget(&mut self, gone: &BTreeSet<SlotId>) -> bool {
        let before = self.target.slots.len();
        self.target.slots.retain(|id, wish| wish.goal != Goal::Absent || !gone.contains(id));
        let changed = self.target.slots.len() != before;
        self.target.revision += u64::from(changed);
        changed
    }

    /// Slots of a service that shall exist.
    pub(super) fn copies<'a>(&'a self, service: &'a ServiceName) -> impl Iterator<Item = &'a SlotId> {
        let wanted =
            move |(id, wish): &(&SlotId, &TargetSlot)| id.service == *service && wish.goal != Goal::Absent;
        self.target.slots.iter().filter(wanted).map(|(id, _)| id)
    }
}
