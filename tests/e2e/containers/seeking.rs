//! What an agent asks of the device document besides apps: keys of registries, and a queue.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use upbeat_needs::docker::Registry;

use super::{Harbour, journey};
use crate::guide::ask;
use crate::home::{Running, eventually};
use crate::{Journey, Need};

pub(crate) fn journeys() -> Vec<Journey> {
    const REGISTRY: &[Need] = &[Need::DOCKER, Need::REGISTRY];
    vec![
        Journey::needing(
            REGISTRY,
            "a key of the device document opens a registry, and is nowhere to be read",
            keys,
        ),
        journey("what a device document seeks is called off, and what is half done settles", stop),
        journey("a queued device document waits for what is under way, across a killed daemon", queue),
    ]
}

impl Harbour {
    fn patch(&self, document: &Value) -> (u16, Value) {
        ask(&self.home, "PATCH /api/v1/device", document)
    }

    /// A daemon, without anything that is asked of it.
    fn starts_again(&self) -> Running {
        let daemon = self.home.spawn(&["serve"]);
        eventually("it listens", || self.home.command(&["device"]).output().unwrap().status.success());
        daemon
    }

    /// Makes a file in `main`, once the daemon knows that it runs.
    fn touches(&self, file: &str) {
        let touch = || self.home.command(&["exec", "-T", "main", "touch", file]).output().unwrap();
        eventually("the file is made", || touch().status.success());
    }

    /// `main` of this release is this.
    fn main_is(&self, release: &str, main: &Value) -> Value {
        json!({ "apps": { &self.app: { "releases": { release: { "services": { "main": main } } } } } })
    }
}

fn keys() {
    let harbour = Harbour::new();
    harbour.empty();
    let uuid = harbour.device()["uuid"].as_str().unwrap().to_owned();
    let registry = Registry::for_user(&format!("d_{uuid}"));
    let host = registry.address.clone();
    let push = |tag: &str| {
        let pushed = harbour.docker.push(&harbour.image, &registry, &format!("{}/web", harbour.app), tag);
        pushed.remove();
        let mut service = super::device::stays(pushed.name());
        // Each of them is asked for with the key.
        service["pull_policy"] = json!("always");
        (service, pushed)
    };
    let (main, _first) = push("v1");
    let (status, _) = harbour.patch(&harbour.main_is("r0", &main));
    assert_eq!((status, &harbour.device()["status"]), (202, &json!("aborted")));
    let why = || harbour.home.run(&["why", "main"]).stdout;
    assert!(why().contains(&format!("docker login {host}")), "{}", why());

    // One that is refused is said by its registry and where it comes from; that it is another is tried at once.
    let another = |key: &str| {
        let (status, told) = harbour.patch(&json!({ "keys": { &host: key } }));
        assert_eq!((status, &told["keys"]), (202, &json!([host])), "{told}");
        assert_eq!(told["operations"][0]["what"], "try again main");
        harbour.device()
    };
    assert_eq!(another("guessed-by-nobody")["status"], "aborted");
    let refused = format!("registry {host} refuses the key that `keys` of the device document has for it");
    assert!(why().contains(&refused) && !why().contains("guessed"), "{}", why());
    let device = another(Registry::PASSWORD);
    assert_eq!(
        (&device["status"], &device["keys"]),
        (&json!("done"), &json!({ &host: "***" })),
        "{device:#}"
    );
    assert!(harbour.is_running("main-1"));

    // What is shown, sent back, changes nothing; and a daemon that comes after has the key, too.
    assert_eq!(ask(&harbour.home, "PUT /api/v1/device", &device), (200, json!({ "operations": [] })));
    harbour.home.kill_daemon();
    let _daemon = harbour.starts_again();
    let (mut main, _second) = push("v2");
    let found = harbour.seek(&json!({ "releases": { "r0": null, "r1": { "services": { "main": &main } } } }));
    assert_eq!(found["r1"]["services"]["main"]["status"], "running");
    assert_eq!(holding(&harbour.home.state(), Registry::PASSWORD), ["device.json"]);
    let file = std::fs::metadata(harbour.home.state().join("device.json")).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    let events = harbour.home.run(&["events", "--json"]).stdout;
    assert!(!events.contains(Registry::PASSWORD));

    // A whole that does not say it takes it away, and touches nothing that runs.
    let run = harbour.run_of("main-1");
    let mut device = harbour.device();
    device.as_object_mut().unwrap().remove("keys");
    let told = ask(&harbour.home, "PUT /api/v1/device", &device);
    assert_eq!(told, (200, json!({ "operations": [], "keys": [host] })));
    assert_eq!(holding(&harbour.home.state(), Registry::PASSWORD), [""; 0]);
    assert_eq!((harbour.run_of("main-1"), &harbour.device()["keys"]), (run.clone(), &Value::Null));
    main["labels"] = json!({ "of": "another content" });
    harbour.patch(&harbour.main_is("r1", &main));
    assert_eq!(harbour.device()["status"], "aborted");
    assert_eq!(harbour.run_of("main-1"), run);
    assert!(why().contains("docker login"), "{}", why());
    harbour.home.run(&["down"]).ok();
}

/// Files below a directory that have this in them.
fn holding(dir: &Path, secret: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holding(&path, secret));
        } else if let Ok(bytes) = std::fs::read(&path)
            && bytes.windows(secret.len()).any(|part| part == secret.as_bytes())
        {
            found.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    found
}

/// It is well when somebody says so, and ends when somebody says that.
fn slow(image: &str, word: &str) -> Value {
    let command = "trap 'exit 0' TERM; until [ -e /end ]; do sleep 0.1; done; exit 3";
    json!({
        "image": image, "command": ["sh", "-c", command], "labels": { "of": word },
        "healthcheck": { "test": ["CMD", "test", "-e", "/well"], "interval": "100ms", "start_period": "10m" },
    })
}

fn queue() {
    let harbour = Harbour::new();
    harbour.empty();
    let image = harbour.image.name();
    let of = |harbour: &Harbour| {
        let main = harbour.inspect("main-1").unwrap();
        main["Config"]["Labels"]["of"].as_str().unwrap().to_owned()
    };
    let queue = |release: &str, old: &str, main: Value| {
        let mut document = harbour.main_is(release, &main);
        document["apps"][&harbour.app]["releases"][old] = Value::Null;
        let (status, told) = ask(&harbour.home, "PATCH /api/v1/device?cancel=false", &document);
        assert_eq!((status, &told["queued"]), (202, &json!(true)), "{told}");
        told
    };
    let shown = || ask(&harbour.home, "GET /api/v1/device", &Value::Null).1;
    assert_eq!(harbour.patch(&harbour.main_is("r0", &slow(image, "first"))).0, 202);
    eventually("the first runs, and is not well", || {
        harbour.inspect("main-1").is_some_and(|main| main["State"]["Running"] == true)
    });
    queue("r1", "r0", slow(image, "second"));
    let told = queue("r2", "r0", slow(image, "third"));
    assert!(told["notes"][0].as_str().unwrap().contains("is called off"), "{told}");
    harbour.home.kill_daemon();
    let _daemon = harbour.starts_again();
    let device = shown();
    assert_eq!(device["queued"]["what"], "some of the device document", "{device:#}");
    assert_eq!(device["status"], "applying changes");
    assert_eq!(of(&harbour), "first");

    // Reached: the newest of those that waited has its turn.
    harbour.touches("/well");
    eventually("the third has taken its place", || {
        harbour
            .inspect("main-1")
            .is_some_and(|main| main["Config"]["Labels"]["of"] == "third" && main["State"]["Running"] == true)
    });
    let device = shown();
    assert_eq!(device["queued"], Value::Null);
    assert_eq!(
        device["apps"][&harbour.app]["releases"].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["r2"]
    );

    // Failed for good is settled, too.
    queue("r3", "r2", super::device::stays(image));
    harbour.touches("/end");
    let device = harbour.device();
    assert_eq!((&device["status"], &device["queued"]), (&json!("done"), &Value::Null), "{device:#}");
    assert_eq!(device["apps"][&harbour.app]["releases"]["r3"]["services"]["main"]["status"], "running");

    // What cannot be begun when its turn comes is said, and waits no more.
    let mut document = harbour.main_is("r4", &slow(image, "fourth"));
    document["apps"][&harbour.app]["releases"]["r3"] = Value::Null;
    assert_eq!(harbour.patch(&document).0, 202);
    let status = json!({ "main": { "status": "stopped" } });
    let stopped = json!({ "apps": { &harbour.app: { "releases": { "r4": { "services": status } } } } });
    let (_, told) = ask(&harbour.home, "PATCH /api/v1/device?cancel=false", &stopped);
    assert_eq!(told["queued"], true, "{told}");
    harbour.file("  main: { image: IMAGE, command: STAYS }\n");
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    let device = harbour.device();
    let problem = device["queued"]["problem"].as_str().unwrap_or_default();
    assert!(problem.contains("an app runs one release, and services of both"), "{device:#}");
    assert_eq!(device["status"], "done");

    // Where nothing is under way there is nothing to wait for.
    let (status, told) =
        ask(&harbour.home, "PATCH /api/v1/device?cancel=false", &json!({ "apps": { &harbour.app: null } }));
    assert_eq!((status, &told["queued"]), (202, &Value::Null), "{told}");
    let device = harbour.device();
    assert_eq!((&device["apps"], &device["queued"]), (&json!({}), &Value::Null));
}

fn stop() {
    let harbour = Harbour::new();
    harbour.empty();
    let image = harbour.image.name();
    let stop = || {
        let (status, told) = ask(&harbour.home, "POST /api/v1/device/stop", &Value::Null);
        assert_eq!((status, &told["operations"][0]["what"]), (202, &json!("stop seeking")), "{told}");
        told
    };
    let services = json!({ "main": super::device::stays(image), "side": super::device::stays(image) });
    let first = harbour.seek(&json!({ "releases": { "r0": { "services": services } } }));
    let runs = || [harbour.run_of("main-1"), harbour.run_of("side-1")];
    let before = runs();

    // An update that cannot be made ready is tried for ever; called off, all is as it was.
    let absent = json!({ "image": format!("{image}-is-nowhere"), "pull_policy": "never" });
    let services = json!({ "main": slow(image, "next"), "new": absent });
    harbour.patch(
        &json!({ "apps": { &harbour.app: { "releases": { "r0": null, "r1": { "services": services } } } } }),
    );
    assert_eq!(harbour.device()["status"], "aborted");
    stop();
    let device = harbour.device();
    assert_eq!(device["status"], "done", "{device:#}");
    assert_eq!(device["apps"][&harbour.app]["releases"], first, "as it was shown before");
    assert_eq!(runs(), before);
    eventually("nothing is left of the attempt", || harbour.containers().len() == 2);
    let (status, told) = ask(&harbour.home, "POST /api/v1/device/stop", &Value::Null);
    assert_eq!((status, told), (200, json!({ "operations": [] })), "nothing is sought any more");

    // Of what comes new, what was begun settles; what waits for that is not begun.
    let mut waits = super::device::stays(image);
    waits["depends_on"] = json!({ "main": { "condition": "service_healthy" } });
    let services =
        json!({ "main": slow(image, "other"), "side": super::device::stays(image), "last": waits });
    harbour.patch(
        &json!({ "apps": { &harbour.app: { "releases": { "r0": null, "r2": { "services": services } } } } }),
    );
    eventually("the new one runs, and is not well", || {
        let found = harbour.inspect("main-1");
        found
            .is_some_and(|main| main["Config"]["Labels"]["of"] == "other" && main["State"]["Running"] == true)
    });
    let side = harbour.run_of("side-1");
    stop();
    harbour.touches("/well");
    let device = harbour.device();
    let found = &device["apps"][&harbour.app]["releases"]["r2"]["services"];
    assert_eq!(device["status"], "done", "{device:#}");
    assert_eq!((&found["main"]["status"], &found["last"]["status"]), (&json!("running"), &json!("created")));
    assert!(!harbour.is_running("last-1") && harbour.run_of("side-1") == side);
    // It is there to be sought again.
    let found =
        harbour.seek(&json!({ "releases": { "r2": { "services": { "last": { "status": "running" } } } } }));
    assert_eq!(found["r2"]["services"]["last"]["status"], "running");
    harbour.home.run(&["down"]).ok();
}
