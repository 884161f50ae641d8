//! A small world said in a few lines, and what is wanted of it.

use upbeat_model::plan::{Container, ContainerState, HostPort, Kept, Release, Strategy};
use upbeat_model::project::container::{
    Attachment, ImageRef, Mount, MountKind, Network, NetworkMode, Port, Volume,
};
use upbeat_model::project::{Probe, Question};

use super::*;

/// What is there, and what is wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct Scene {
    pub(super) world: World,
    pub(super) current: Slots,
    pub(super) wanted: Slots,
    pub(super) how: How,
}

/// A container of `alpine:latest` with this command.
pub(super) fn of(command: &str) -> Service {
    let mut service = Service::of_image(ImageRef::parse("alpine").unwrap());
    let container = service.container.as_mut().unwrap();
    container.command = Some(command.split(' ').map(str::to_owned).collect());
    service
}

/// Of another image.
pub(super) fn of_image(image: &str) -> Service {
    Service::of_image(ImageRef::parse(image).unwrap())
}

/// It depends on these, each `name`, `name:healthy` or `name:completed`.
pub(super) fn needing(mut service: Service, needs: &[&str]) -> Service {
    for need in needs {
        let (name, condition) = need.split_once(':').unwrap_or((need, "started"));
        let condition = match condition {
            "healthy" => Condition::Healthy,
            "completed" => Condition::CompletedSuccessfully,
            _ => Condition::Started,
        };
        let edge = Dependency { condition, ..Dependency::default() };
        service.depends_on.insert(ServiceName::new(name).unwrap(), edge);
    }
    service
}

pub(super) fn probed(mut service: Service) -> Service {
    let probe = Probe::new(Question::Tcp("127.0.0.1:80".into()));
    service.probes.insert(upbeat_model::ProbeName::new("readiness").unwrap(), probe);
    service
}

pub(super) fn publishing(mut service: Service, port: u16) -> Service {
    let port =
        Port { target: 80, published: Some(port.to_string()), host_ip: None, protocol: Default::default() };
    service.container.as_mut().unwrap().ports.push(port);
    service
}

pub(super) fn in_network(mut service: Service, network: &Network) -> Service {
    let attachment = Attachment::to(network.clone());
    service.container.as_mut().unwrap().network = NetworkMode::Networks(vec![attachment]);
    service
}

pub(super) fn writing(mut service: Service, volume: &Volume) -> Service {
    let kind = MountKind::of_volume(volume.clone());
    let mount = Mount { target: "/data".into(), read_only: false, kind };
    service.container.as_mut().unwrap().mounts.push(mount);
    service
}

/// `web`, `web-2`: of app `a0`.
pub(super) fn at(text: &str) -> SlotId {
    let (service, index) = text.split_once('-').unwrap_or((text, "1"));
    format!("a0/{service}/{index}").parse().unwrap()
}

pub(super) fn release(number: u64) -> Release {
    Release { number, name: format!("r{number}") }
}

/// What its machine says of who is in this state; nothing of who was never started.
fn phase_of(state: ContainerState) -> Option<Phase> {
    Some(match state {
        ContainerState::Created => return None,
        ContainerState::Running => Phase::Running,
        ContainerState::Healthy => Phase::Healthy,
        ContainerState::Completed => Phase::Completed,
        ContainerState::Failed => Phase::Failed,
        _ => Phase::Stopped,
    })
}

impl Scene {
    /// Releases are kept track of: these are there, that one is wanted.
    pub(super) fn tracked(there: &[u64], wanted: Option<u64>) -> Self {
        let mut scene = Self::default();
        if !there.is_empty() {
            let known = there.iter().map(|number| (*number, format!("r{number}"))).collect();
            scene.world.apps.insert(AppName::new("a0").unwrap(), known);
        }
        scene.how.releases.insert(AppName::new("a0").unwrap(), wanted.map(release));
        scene
    }

    pub(super) fn image(mut self, name: &str) -> Self {
        self.world.images.insert(name.to_owned(), "id of alpine:latest".to_owned());
        self
    }

    /// A container is there, made as said of a release, and was wanted so.
    pub(super) fn has(mut self, slot: &str, of: Service, release: u64, state: ContainerState) -> Self {
        let slot = at(slot);
        let goal = if state.is_running() { Goal::Running } else { Goal::Stopped };
        let wish = TargetSlot { release, ..wish(goal, of) };
        let asked = wish.spec.container.as_deref().unwrap();
        let networks = asked.networks().iter().map(|a| a.network.name.clone()).collect();
        let container = Container {
            slot: slot.clone(),
            digest: wish.digest.clone(),
            image: Some(format!("id of {}", asked.image.full())),
            state,
            release: self.how.releases.contains_key(&slot.app).then_some(release),
            networks,
            volumes: asked.volumes().map(|volume| volume.name.clone()).collect(),
            ports: asked.ports.iter().filter_map(HostPort::of).collect(),
            temporary: false,
        };
        let name = format!("{}-{}-{}.of-{release}", slot.app, slot.service, slot.index);
        self.world.containers.insert(name, container);
        if let Some(phase) = phase_of(state) {
            self.world.observed.insert(slot.clone(), seen(phase, &wish));
        }
        self.current.insert(slot, wish);
        self
    }

    /// A process is there, as a container would be in this state: one that was never started is not.
    pub(super) fn has_process(mut self, slot: &str, of: Service, state: ContainerState) -> Self {
        let slot = at(slot);
        let goal = if state.is_running() { Goal::Running } else { Goal::Stopped };
        let wish = wish(goal, of);
        if let Some(phase) = phase_of(state) {
            self.world.observed.insert(slot.clone(), seen(phase, &wish));
        }
        self.current.insert(slot, wish);
        self
    }

    pub(super) fn runs(self, slot: &str, of: Service, release: u64) -> Self {
        self.has(slot, of, release, ContainerState::Running)
    }

    pub(super) fn network(mut self, network: &Network) -> Self {
        let kept = Kept { app: Some(AppName::new("a0").unwrap()), digest: Some(network.digest()) };
        self.world.networks.insert(network.name.clone(), kept);
        self
    }

    pub(super) fn volume(mut self, volume: &Volume) -> Self {
        let kept = Kept { app: Some(AppName::new("a0").unwrap()), digest: Some(volume.digest()) };
        self.world.volumes.insert(volume.name.clone(), kept);
        self
    }

    pub(super) fn wants(mut self, slot: &str, of: Service, release: u64) -> Self {
        self.wanted.insert(at(slot), TargetSlot { release, ..wish(Goal::Running, of) });
        self
    }

    pub(super) fn wants_stopped(mut self, slot: &str, of: Service, release: u64) -> Self {
        self.wanted.insert(at(slot), TargetSlot { release, ..wish(Goal::Stopped, of) });
        self
    }

    pub(super) fn by(mut self, service: &str, strategy: Strategy) -> Self {
        let key = (AppName::new("a0").unwrap(), ServiceName::new(service).unwrap());
        self.how.strategies.insert(key, strategy);
        self
    }

    pub(super) fn input(&self) -> Input<'_> {
        let Self { world, current, wanted, how } = self;
        Input { world, current, wanted, how, limits: Limits::default() }
    }

    pub(super) fn plan(&self) -> Plan {
        plan(&self.input()).unwrap_or_else(|refusal| panic!("{refusal}"))
    }

    pub(super) fn refusal(&self) -> String {
        plan(&self.input()).map(|plan| plan.text()).unwrap_err().to_string()
    }

    /// One line a step, then the last line and the notes.
    pub(super) fn lines(&self) -> Vec<String> {
        self.plan().text().lines().map(str::to_owned).collect()
    }
}
