//! A driver with an owner, a directory and names of its own, and all that it made removed at the end.

use std::cell::RefCell;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::mpsc;
use upbeat_drivers::docker::{Engine, EngineEvent, EngineSettings, Prepare, PrepareError, Prepared, Seen};
use upbeat_drivers::update_locks::UpdateLocks;
use upbeat_model::project::container::{Attachment, ImageRef, Network, NetworkMode};
use upbeat_model::project::{Container, Service};
use upbeat_model::{Attempt, SlotId};
use upbeat_needs::docker::{Docker, Image, Registry};

/// What has not come by then does not come: an engine under load takes seconds for a container.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

static IMAGE: OnceLock<Image> = OnceLock::new();
static NUMBER: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// The failpoint that this test dies at.
    static DEADLY: RefCell<Option<&'static str>> = const { RefCell::new(None) };
}

/// Each test has a thread of its own, and its driver lives on that.
pub(crate) fn dies_at(name: Option<&'static str>) {
    DEADLY.set(name);
}

fn failpoint(name: &str) {
    let is_deadly = DEADLY.with_borrow(|deadly| *deadly == Some(name));
    if is_deadly {
        DEADLY.set(None);
        // Without a word: it is meant.
        std::panic::resume_unwind(Box::new(name.to_owned()));
    }
}

pub(crate) fn clean_up() {
    if let Some(image) = IMAGE.get() {
        image.remove();
    }
}

/// The name of an image of busybox.
pub(crate) fn image() -> &'static Image {
    IMAGE.get_or_init(|| {
        let docker = Docker::here().unwrap();
        docker.import_busybox(&format!("upbeat-drivers-{}", std::process::id()), "v1")
    })
}

pub(crate) struct Rig {
    pub(crate) docker: Docker,
    pub(crate) engine: Engine,
    pub(crate) events: mpsc::Receiver<EngineEvent>,
    /// Owner, app and beginning of all names.
    pub(crate) name: String,
    pub(crate) dir: tempfile::TempDir,
}

/// Runs a test with the engine of this machine.
pub(crate) fn run(test: impl AsyncFnOnce(&mut Rig)) {
    run_at(Docker::here().unwrap(), test);
}

pub(crate) fn run_at(docker: Docker, test: impl AsyncFnOnce(&mut Rig)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut rig = Rig::new(docker);
        let Ok(()) = tokio::time::timeout(4 * PATIENCE, test(&mut rig)).await else {
            panic!("it did not come to its end");
        };
    });
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.docker.purge(&format!("io.upbeat.owner={}", self.name));
        self.docker.purge(&format!("test={}", self.name));
        // Images that were built.
        self.docker.purge(&format!("io.upbeat.app={}", self.name));
    }
}

impl Rig {
    fn new(docker: Docker) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{}x{number}", std::process::id());
        let dir = tempfile::tempdir().unwrap();
        let (engine, events) = driver(&docker, &name, dir.path());
        Self { docker, engine, events, name, dir }
    }

    /// The daemon dies, and another takes its place.
    pub(crate) fn be_another(&mut self) {
        (self.engine, self.events) = driver(&self.docker, &self.name, self.dir.path());
    }

    /// The same, and all that it had on disk is lost.
    pub(crate) fn lose_all(&mut self) {
        self.dir = tempfile::tempdir().unwrap();
        self.be_another();
    }

    pub(crate) fn slot(&self, service: &str) -> SlotId {
        format!("{}/{service}/1", self.name).parse().unwrap()
    }

    /// A container that runs this in a shell, in no network.
    pub(crate) fn shell(&self, script: &str) -> Service {
        let mut spec = Service::of_image(ImageRef::parse(image().name()).unwrap());
        let container = of(&mut spec);
        container.command = Some(["sh", "-c", script].map(str::to_owned).to_vec());
        container.network = NetworkMode::None;
        spec
    }

    /// One that runs until it is stopped.
    pub(crate) fn lasting(&self) -> Service {
        self.shell("trap 'exit 0' TERM; echo up; while :; do sleep 1 & wait $!; done")
    }

    pub(crate) fn network(&self, key: &str) -> Network {
        Network::new(key, format!("{}_{key}", self.name))
    }

    pub(crate) fn in_networks(&self, spec: &mut Service, networks: &[&Network]) {
        let attachments = networks.iter().map(|network| Attachment::to((*network).clone())).collect();
        of(spec).network = NetworkMode::Networks(attachments);
    }

    pub(crate) async fn prepare(&self, slot: &SlotId, spec: &Service) -> Result<Prepared, PrepareError> {
        self.engine.prepare(wish(slot, spec), |_| {}).await
    }

    /// Prepares and starts.
    pub(crate) async fn up(&self, slot: &SlotId, attempt: u64, spec: &Service) -> String {
        let prepared = self.prepare(slot, spec).await.unwrap();
        self.engine.start(slot, Attempt(attempt), &prepared.container).await.unwrap();
        prepared.container
    }

    pub(crate) async fn seen(&self, slot: &SlotId) -> Seen {
        self.engine.observe(slot).await.unwrap()
    }

    /// The next event that is of a slot.
    pub(crate) async fn event(&mut self) -> EngineEvent {
        loop {
            let event = tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("an event").unwrap();
            if !matches!(event, EngineEvent::Engine { .. } | EngineEvent::Found(_)) {
                return event;
            }
        }
    }

    /// Nothing was told of a slot so far.
    pub(crate) fn hears_nothing(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            assert!(matches!(event, EngineEvent::Engine { .. } | EngineEvent::Found(_)), "{event:?}");
        }
    }

    /// The engine's events are heard from now on.
    pub(crate) async fn hears(&mut self) {
        self.engine.watch();
        loop {
            let event = tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("an event").unwrap();
            if matches!(event, EngineEvent::Found(_)) {
                return;
            }
        }
    }

    /// As `docker login` does.
    pub(crate) fn log_in(&self, registry: &Registry, password: &str) {
        let auth = STANDARD.encode(format!("{}:{password}", Registry::USER));
        let config = serde_json::json!({ "auths": { &registry.address: { "auth": auth } } });
        let dir = self.dir.path().join("config");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    }

    /// Does as another hand: `docker …` of the container.
    pub(crate) fn by_hand(&self, container: &str, verb: &str) {
        self.docker.post(&format!("/containers/{container}/{verb}"), &serde_json::Value::Null);
    }
}

fn driver(docker: &Docker, owner: &str, dir: &Path) -> (Engine, mpsc::Receiver<EngineEvent>) {
    let (tell, events) = mpsc::channel(64);
    let settings = EngineSettings {
        host: Some(docker.host()),
        config: Some(dir.join("config")),
        keys: tokio::sync::watch::channel(Default::default()).1,
        owner: owner.to_owned(),
        slots: dir.join("slots"),
        locks: UpdateLocks::new(dir.join("locks")),
        failpoint,
    };
    (Engine::new(settings, tell), events)
}

pub(crate) fn of(spec: &mut Service) -> &mut Container {
    spec.container.as_mut().unwrap()
}

pub(crate) fn wish(slot: &SlotId, spec: &Service) -> Prepare {
    Prepare {
        slot: slot.clone(),
        spec: spec.clone().into(),
        digest: spec.digest(),
        release: "7".to_owned(),
        generation: 1,
    }
}

/// Until it is so: nobody tells.
pub(crate) async fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    let looked = tokio::time::timeout(PATIENCE, async {
        while !is_true() {
            looks.tick().await;
        }
    });
    assert!(looked.await.is_ok(), "never {what}");
}
