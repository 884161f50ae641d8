//! Containers of a real engine: started, replaced, taken away by another hand, found again.

mod attach;
mod build;
mod device;
mod drift;
mod health;
mod killed;
mod lives;
mod locks;
mod logs;
mod plans;
mod refused;
mod seeking;
mod successors;
mod troubles;

use serde_json::{Value, json};
use upbeat_needs::docker::{Docker, Image};

use crate::home::{Home, eventually};
use crate::{Journey, Need};

pub(crate) fn journeys() -> Vec<Journey> {
    [
        attach::journeys(),
        build::journeys(),
        lives::journeys(),
        locks::journeys(),
        logs::journeys(),
        drift::journeys(),
        health::journeys(),
        killed::journeys(),
        plans::journeys(),
        refused::journeys(),
        successors::journeys(),
        troubles::journeys(),
        device::journeys(),
        seeking::journeys(),
    ]
    .concat()
}

/// A journey that needs an engine.
const fn journey(name: &'static str, run: fn()) -> Journey {
    Journey::needing(&[Need::DOCKER], name, run)
}

/// What a container of these journeys does until it is asked to stop.
const STAYS: &str = r#"["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]"#;

/// An engine, an image of one's own, and a home of which the app has a name of its own.
pub(crate) struct Harbour {
    pub(crate) home: Home,
    docker: Docker,
    image: Image,
    app: String,
}

impl Harbour {
    /// At the machine's engine.
    pub(crate) fn new() -> Self {
        let docker = Docker::here().unwrap();
        Self::at(docker)
    }

    fn at(docker: Docker) -> Self {
        let mut home = Home::new();
        home.set("DOCKER_HOST", docker.host());
        let app = format!("e2e{:x}", rand());
        let image = docker.import_busybox(&app, "1");
        Self { home, docker, image, app }
    }

    /// These services, as the app of this harbour; `IMAGE` is its image, and `STAYS` a command that stays.
    pub(crate) fn file(&self, services: &str) {
        let text = services.replace("IMAGE", self.image.name()).replace("STAYS", STAYS);
        self.home.write("upbeat.yaml", &format!("name: {}\nservices:\n{text}", self.app));
    }

    /// What `docker inspect` says of the container that a slot has by name.
    fn inspect(&self, slot: &str) -> Option<Value> {
        self.docker.inspect(&format!("{}-{slot}", self.app))
    }

    #[track_caller]
    fn id(&self, slot: &str) -> String {
        let found = self.inspect(slot).unwrap_or_else(|| panic!("no container {slot}"));
        found["Id"].as_str().unwrap().to_owned()
    }

    /// Which container, and since when it runs.
    #[track_caller]
    fn run_of(&self, slot: &str) -> (String, String) {
        let found = self.inspect(slot).unwrap_or_else(|| panic!("no container {slot}"));
        (text(&found["Id"]), text(&found["State"]["StartedAt"]))
    }

    fn is_running(&self, slot: &str) -> bool {
        self.inspect(slot).is_some_and(|found| {
            found["State"]["Running"] == json!(true) && found["State"]["Paused"] == json!(false)
        })
    }

    /// All containers of the app.
    fn containers(&self) -> Vec<String> {
        self.docker.labelled(&format!("io.upbeat.app={}", self.app))
    }

    fn networks(&self) -> Vec<String> {
        let found = self.docker.get("/networks");
        let of_app = |name: &&str| name.starts_with(&format!("{}_", self.app));
        found
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|one| one["Name"].as_str())
            .filter(of_app)
            .map(str::to_owned)
            .collect()
    }

    /// Docker and Upbeat agree on what runs: each slot that is up is the container that runs under its name.
    #[track_caller]
    fn agree(&self) {
        for (slot, status) in self.home.slots() {
            let Some(container) = status["container"].as_str() else { continue };
            let is_up = status["pid"].is_number();
            let found = self.docker.inspect(container);
            let runs = found.as_ref().is_some_and(|found| found["State"]["Running"] == json!(true));
            assert_eq!(is_up, runs, "{slot}: {status} {found:?}");
            if let Some(found) = found.filter(|_| is_up) {
                assert_eq!(found["Name"], json!(format!("/{}-{slot}", self.app)));
                assert_eq!(found["State"]["Pid"], status["pid"], "{slot}");
            }
        }
    }
}

impl Drop for Harbour {
    fn drop(&mut self) {
        if let Some(pid) = self.home.daemon() {
            crate::home::kill(pid, 9);
            eventually("the daemon is gone", || !crate::home::is_alive(pid));
        }
        self.docker.purge(&format!("io.upbeat.app={}", self.app));
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A number that no other test has by chance.
fn rand() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish() >> 16
}
