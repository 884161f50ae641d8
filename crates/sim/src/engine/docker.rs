//! The engine itself: what is really there, and what one request makes of it.

use std::collections::BTreeMap;

use upbeat_model::SlotId;

/// How a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Created,
    Running { paused: bool },
    Exited(i32),
}

/// Who ended a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Itself.
    Own,
    /// Somebody asked it to.
    Asked,
    /// The engine, which went down.
    Engine,
}

/// A container of ours.
#[derive(Clone, Debug)]
pub(super) struct Container {
    pub(super) slot: SlotId,
    /// A later one has a higher number.
    pub(super) born: u64,
    pub(super) name: String,
    /// Its labels say of which spec and release it is, what it is called, and which networks it is in.
    pub(super) digest: String,
    pub(super) release: u64,
    pub(super) proper: String,
    pub(super) wants: BTreeMap<String, String>,
    /// The image it was made of.
    pub(super) image: String,
    /// The networks it is in, by name: which one of that name.
    pub(super) joined: BTreeMap<String, u64>,
    pub(super) state: State,
    /// Which start was its last, of all in this engine; 0: none.
    pub(super) run: u64,
    pub(super) end: Option<End>,
    /// What its program does.
    pub(super) nature: super::people::Nature,
}

impl Container {
    pub(super) fn is_alive(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    /// What another hand has changed of it, in words.
    pub(super) fn drift(&self, networks: &BTreeMap<String, Network>) -> Option<String> {
        if self.state == (State::Running { paused: true }) {
            return Some("it was paused".into());
        }
        if self.name != self.proper {
            return Some(format!("it was renamed to {}", self.name));
        }
        let is_in =
            |name: &&String| networks.get(*name).map(|there| there.id) == self.joined.get(*name).copied();
        self.wants
            .keys()
            .find(|name| !is_in(name) || !self.joined.contains_key(*name))
            .map(|name| format!("it is not in {name}"))
    }
}

#[derive(Clone, Debug)]
pub(super) struct Network {
    pub(super) id: u64,
    pub(super) digest: String,
}

/// One request.
#[derive(Clone, Debug)]
pub(super) enum Request {
    Pull {
        reference: String,
    },
    MakeNetwork {
        name: String,
        digest: String,
    },
    RemoveNetwork {
        name: String,
    },
    Create {
        id: String,
        container: Box<Container>,
    },
    Connect {
        id: String,
        network: String,
    },
    Rename {
        id: String,
        name: String,
    },
    Start {
        id: String,
    },
    /// By a signal, and killed after so many milliseconds.
    Stop {
        id: String,
        grace: u64,
    },
    Unpause {
        id: String,
    },
    Remove {
        id: String,
    },
}

/// Why a request is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Absent,
    Conflict,
    /// A network it is in is not there.
    NoNetwork,
    /// The program cannot be run.
    NoProgram,
}

/// What happened to a container.
#[derive(Clone, Debug)]
pub(super) enum News {
    Started {
        id: String,
        run: u64,
    },
    /// It is to end within this.
    Asked {
        id: String,
        run: u64,
        grace: u64,
    },
    Ended {
        id: String,
    },
    Changed {
        id: String,
    },
}

impl News {
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Started { id, .. } | Self::Asked { id, .. } | Self::Ended { id } | Self::Changed { id } => {
                id
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Docker {
    pub(super) containers: BTreeMap<String, Container>,
    pub(super) networks: BTreeMap<String, Network>,
    /// Images that are there: which one each reference is.
    pub(super) local: BTreeMap<String, String>,
    /// Which one each reference is at the registry.
    pub(super) registry: BTreeMap<String, String>,
    /// It answers.
    pub(super) is_there: bool,
    counter: u64,
    /// What happened since somebody last looked.
    pub(super) news: Vec<News>,
}

impl Docker {
    pub(super) fn new() -> Self {
        Self {
            containers: BTreeMap::new(),
            networks: BTreeMap::new(),
            local: BTreeMap::new(),
            registry: BTreeMap::new(),
            is_there: true,
            counter: 0,
            news: Vec::new(),
        }
    }

    pub(super) fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    pub(super) fn of<'a>(&'a self, slot: &'a SlotId) -> impl Iterator<Item = (&'a String, &'a Container)> {
        self.containers.iter().filter(move |(_, container)| container.slot == *slot)
    }

    pub(super) fn alive<'a>(&'a self, slot: &'a SlotId) -> Option<(&'a String, &'a Container)> {
        self.of(slot).find(|(_, container)| container.is_alive())
    }

    /// At the registry it is another one from now on.
    pub(super) fn publish(&mut self, reference: &str) {
        let id = format!("image-{}", self.next());
        self.registry.insert(reference.to_owned(), id);
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        self.containers.values().any(|container| container.name == name)
    }

    fn changed(&mut self, id: &str) {
        self.news.push(News::Changed { id: id.to_owned() });
    }

    fn get(&mut self, id: &str) -> Result<&mut Container, Refusal> {
        self.containers.get_mut(id).ok_or(Refusal::Absent)
    }

    /// Carries it out.
    pub(super) fn apply(&mut self, request: Request) -> Result<(), Refusal> {
        match request {
            Request::Pull { reference } => {
                let image = self.registry.get(&reference).ok_or(Refusal::Absent)?.clone();
                self.local.insert(reference, image);
            }
            Request::MakeNetwork { name, digest } => {
                let id = self.next();
                if self.networks.contains_key(&name) {
                    return Err(Refusal::Conflict);
                }
                self.networks.insert(name, Network { id, digest });
            }
            Request::RemoveNetwork { name } => {
                let there = self.networks.get(&name).ok_or(Refusal::Absent)?;
                let uses = |one: &Container| one.is_alive() && one.joined.get(&name) == Some(&there.id);
                if self.containers.values().any(uses) {
                    return Err(Refusal::Conflict);
                }
                self.networks.remove(&name);
            }
            Request::Create { id, container } => {
                if self.is_named(&container.name) || self.containers.contains_key(&id) {
                    return Err(Refusal::Conflict);
                }
                self.containers.insert(id, *container);
            }
            Request::Connect { id, network } => {
                let there = self.networks.get(&network).ok_or(Refusal::NoNetwork)?.id;
                self.get(&id)?.joined.insert(network, there);
                self.changed(&id);
            }
            Request::Rename { id, name } => {
                if self.is_named(&name) {
                    return Err(Refusal::Conflict);
                }
                self.get(&id)?.name = name;
                self.changed(&id);
            }
            Request::Start { id } => return self.start(&id),
            Request::Stop { id, grace } => {
                let container = self.get(&id)?;
                if container.is_alive() {
                    let run = container.run;
                    self.news.push(News::Asked { id, run, grace });
                }
            }
            Request::Unpause { id } => {
                let container = self.get(&id)?;
                if container.is_alive() {
                    container.state = State::Running { paused: false };
                }
                self.changed(&id);
            }
            Request::Remove { id } => {
                if self.get(&id)?.is_alive() {
                    return Err(Refusal::Conflict);
                }
                self.containers.remove(&id);
                self.changed(&id);
            }
        }
        Ok(())
    }

    fn start(&mut self, id: &str) -> Result<(), Refusal> {
        let run = self.next();
        let networks = &self.networks;
        let container = self.containers.get_mut(id).ok_or(Refusal::Absent)?;
        if container.is_alive() {
            return Ok(());
        }
        let is_there =
            |(name, which): (&String, &u64)| networks.get(name).is_some_and(|there| there.id == *which);
        if !container.joined.iter().all(is_there) {
            return Err(Refusal::NoNetwork);
        }
        if container.nature == super::people::Nature::Broken {
            return Err(Refusal::NoProgram);
        }
        container.state = State::Running { paused: false };
        (container.run, container.end) = (run, None);
        self.news.push(News::Started { id: id.to_owned(), run });
        Ok(())
    }

    /// A run ends.
    pub(super) fn end(&mut self, id: &str, code: i32, end: End) {
        if let Some(container) = self.containers.get_mut(id).filter(|container| container.is_alive()) {
            container.state = State::Exited(code);
            container.end = Some(end);
            self.news.push(News::Ended { id: id.to_owned() });
        }
    }
}
