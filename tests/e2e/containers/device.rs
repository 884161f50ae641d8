//! The device document on a real engine: what an agent far away seeks, waits for and reads.

use std::io::{BufRead, BufReader, Write};

use serde_json::{Value, json};

use super::{Harbour, journey};
use crate::Journey;
use crate::guide::{ask, connect};
use crate::home::PATIENCE;

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        journey("a device document is sought step by step, from an empty device to an empty device", agent),
        journey(
            "in a device document unchanged services keep their containers and dropped ones go",
            releases,
        ),
        journey(
            "releases of a device document follow each other: what is unchanged goes over as it runs",
            successors,
        ),
        journey("who follows the device document is told of each state of a real daemon", follows),
    ]
}

impl Harbour {
    /// A daemon, and nothing in its document.
    pub(super) fn empty(&self) {
        // Only for its name: `ps` and `down` are asked by it.
        self.file("  main: { image: IMAGE }\n");
        self.home.write("nothing.json", "{}");
        let told = self.home.run(&["device", "apply", "nothing.json"]).ok();
        assert_eq!(told.stdout, "Nothing changes: all of it is wanted already.\n");
        assert_eq!(self.device()["apps"], json!({}));
    }

    /// The document when nothing is on its way any more.
    pub(super) fn device(&self) -> Value {
        let (status, device) = ask(&self.home, "GET /api/v1/device?wait=60s", &Value::Null);
        assert_eq!(status, 200, "{device}");
        device
    }

    /// Seeks this of the app, and waits for it. What is there then.
    #[track_caller]
    pub(super) fn seek(&self, app: &Value) -> Value {
        let (status, told) = ask(&self.home, "PATCH /api/v1/device", &json!({ "apps": { &self.app: app } }));
        assert_eq!(status, 202, "{told}");
        assert_eq!(told["operations"][0]["app"], json!(self.app));
        let device = self.device();
        assert_eq!(device["status"], "done", "{device:#}");
        device["apps"][&self.app]["releases"].clone()
    }
}

pub(super) fn stays(image: &str) -> Value {
    json!({ "image": image, "command": ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"] })
}

/// The first such agent's journey (`spec/mahler.md`, 1.(b)).
fn agent() {
    let harbour = Harbour::new();
    let other = harbour.docker.import_busybox(&harbour.app, "2");
    harbour.empty();

    let found = harbour
        .seek(&json!({ "releases": { "r0": { "services": { "main": stays(harbour.image.name()) } } } }));
    let main = &found["r0"]["services"]["main"];
    let id = harbour.id("main-1");
    assert_eq!((&main["status"], &main["containerId"]), (&json!("running"), &json!(id)));
    assert!(harbour.is_running("main-1"));

    let status = |word: &str| json!({ "releases": { "r0": { "services": { "main": { "status": word } } } } });
    let found = harbour.seek(&status("stopped"));
    let main = &found["r0"]["services"]["main"];
    assert_eq!(main["status"], "stopped");
    assert!(!harbour.is_running("main-1") && harbour.id("main-1") == id);

    let found = harbour.seek(&status("running"));
    assert_eq!(found["r0"]["services"]["main"]["status"], "running");
    assert!(harbour.is_running("main-1") && harbour.id("main-1") == id);

    let next = json!({ "releases": { "r0": null, "r1": { "services": { "main": stays(other.name()) } } } });
    let found = harbour.seek(&next);
    let second = harbour.id("main-1");
    assert_eq!(found["r0"], Value::Null, "{found}");
    assert_eq!(found["r1"]["services"]["main"]["containerId"], json!(second));
    assert!(second != id && harbour.is_running("main-1") && harbour.docker.inspect(&id).is_none());

    // Another content under a name that is known is a release of its own.
    let mut changed = stays(other.name());
    changed["labels"] = json!({ "of": "another content" });
    let found = harbour.seek(&json!({ "releases": { "r1": { "services": { "main": changed } } } }));
    let third = harbour.id("main-1");
    assert_eq!(found.as_object().unwrap().keys().collect::<Vec<_>>(), ["r1"]);
    assert!(third != second && harbour.docker.inspect(&second).is_none());
    harbour.agree();

    // What is shown, sent back, changes nothing; also when the daemon has died in between.
    let device = harbour.device();
    assert_eq!(ask(&harbour.home, "PUT /api/v1/device", &device), (200, json!({ "operations": [] })));
    harbour.home.kill_daemon();
    harbour.home.run(&["device", "apply", "nothing.json"]).ok();
    assert_eq!(harbour.device(), device);

    assert_eq!(harbour.seek(&Value::Null), Value::Null);
    assert_eq!(harbour.device()["apps"], json!({}));
    assert_eq!(harbour.containers(), Vec::<String>::new());
}

/// Where the first such agent found no way, or only after minutes, or by removing everything first.
fn releases() {
    let harbour = Harbour::new();
    let other = harbour.docker.import_busybox(&harbour.app, "2");
    harbour.empty();
    let (image, anew) = (harbour.image.name(), other.name());
    let services = json!({ "main": stays(image), "side": stays(image), "old": stays(image) });
    harbour.seek(&json!({ "releases": { "r0": { "services": services } } }));
    let (main, side) = (harbour.run_of("main-1"), harbour.run_of("side-1"));
    // All is said of the app, so that what is not named goes.
    let services = json!({ "main": stays(image), "side": stays(anew), "new": stays(image) });
    let line = format!("PUT /api/v1/device/apps/{}", harbour.app);
    let (status, told) =
        ask(&harbour.home, &line, &json!({ "releases": { "r1": { "services": services } } }));
    assert_eq!(status, 202, "{told}");
    let device = harbour.device();
    let found = &device["apps"][&harbour.app]["releases"];
    assert_eq!(found.as_object().unwrap().keys().collect::<Vec<_>>(), ["r1"], "{device:#}");
    assert_eq!(harbour.run_of("main-1"), main, "unchanged, and not touched");
    assert!(harbour.run_of("side-1") != side && harbour.inspect("old-1").is_none());
    // What cannot be had touches nothing, and is said.
    let absent = json!({ "releases": { "r1": null, "r2": { "services": {
        "main": { "image": format!("{image}-is-nowhere"), "pull_policy": "never" },
    } } } });
    let line = format!("PATCH /api/v1/device/apps/{}", harbour.app);
    let (status, _) = ask(&harbour.home, &line, &absent);
    assert_eq!(status, 202);
    let device = harbour.device();
    let found = &device["apps"][&harbour.app]["releases"];
    assert_eq!(device["status"], "aborted");
    assert_eq!(harbour.run_of("main-1"), main);
    let old = &found["r1"]["services"]["main"];
    assert_eq!((&old["status"], &old["wanted"]), (&json!("running"), &json!("absent")), "{found:#}");
    assert_eq!(found["r2"]["services"]["main"]["wanted"], "running");
    harbour.home.run(&["down"]).ok();
}

/// `docs/plans.md`, M7 and then M6, with their releases: one comes, what is unchanged goes over to it, the other goes.
fn successors() {
    let harbour = Harbour::new();
    harbour.empty();
    let service = |word: &str| {
        let mut service = stays(harbour.image.name());
        service["environment"] = json!({ "WORD": word });
        service
    };
    // All that there is to be on this machine, in one document.
    let whole = |release: &str, services: Value| {
        let document =
            json!({ "apps": { &harbour.app: { "releases": { release: { "services": services } } } } });
        let (status, told) = ask(&harbour.home, "PUT /api/v1/device", &document);
        assert_eq!(status, 202, "{told}");
        let device = harbour.device();
        assert_eq!(device["status"], "done", "{device:#}");
        let releases = device["apps"][&harbour.app]["releases"].clone();
        assert_eq!(releases.as_object().unwrap().keys().collect::<Vec<_>>(), [release], "{device:#}");
        releases[release]["services"].clone()
    };
    let runs_as_said = |services: &Value, slots: &[(&str, &str)]| {
        assert_eq!(services.as_object().unwrap().len(), slots.len(), "{services:#}");
        for (name, word) in slots {
            let slot = format!("{name}-1");
            let said = &services[name];
            assert_eq!(said["status"], "running", "{services:#}");
            assert_eq!(said["containerId"], json!(harbour.id(&slot)), "{services:#}");
            let variables = harbour.inspect(&slot).unwrap()["Config"]["Env"].to_string();
            assert!(harbour.is_running(&slot) && variables.contains(&format!("WORD={word}")), "{variables}");
        }
        assert_eq!(harbour.containers().len(), slots.len());
    };
    let found = whole("r0", json!({ "main": service("second") }));
    runs_as_said(&found, &[("main", "second")]);
    let main = harbour.run_of("main-1");
    // M7: `main` is not touched, and is of r1 from now on.
    let found = whole("r1", json!({ "main": service("second"), "other": service("x") }));
    runs_as_said(&found, &[("main", "second"), ("other", "x")]);
    assert_eq!(harbour.run_of("main-1"), main, "it is not touched");
    // A daemon that comes later knows it no otherwise.
    let device = harbour.device();
    harbour.home.kill_daemon();
    harbour.home.run(&["ps"]).ok();
    assert_eq!(harbour.device(), device);
    let found = whole("r2", json!({ "main": service("second") }));
    runs_as_said(&found, &[("main", "second")]);
    assert_eq!(harbour.run_of("main-1"), main, "it is not touched");
    // M6: it changes where another comes.
    let found = whole("r3", json!({ "main": service("third"), "other": service("x") }));
    runs_as_said(&found, &[("main", "third"), ("other", "x")]);
    assert!(harbour.docker.inspect(&main.0).is_none(), "what was of r2 is gone");
    harbour.agree();
    assert_eq!(harbour.seek(&Value::Null), Value::Null);
}

fn follows() {
    let harbour = Harbour::new();
    harbour.empty();
    let mut stream = connect(&harbour.home);
    write!(stream, "GET /api/v1/device/watch HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut told = BufReader::new(stream).lines().map(|line| line.unwrap());
    // Only the last state matters: those between may be missed.
    let mut until = |what: &str, is_so: &dyn Fn(&Value) -> bool| {
        let states = told.by_ref().filter_map(|line| serde_json::from_str(line.strip_prefix("data:")?).ok());
        let found = states.into_iter().find(|state: &Value| is_so(state));
        found.unwrap_or_else(|| panic!("nothing of it being so that {what}"))
    };
    until("there is nothing", &|device| device["apps"] == json!({}));
    let main = |device: &Value| device["apps"][&harbour.app]["releases"]["r0"]["services"]["main"].clone();
    let shall = |status: &str| {
        let mut service = stays(harbour.image.name());
        service["status"] = json!(status);
        json!({ "apps": { &harbour.app: { "releases": { "r0": { "services": { "main": service } } } } } })
    };
    assert_eq!(ask(&harbour.home, "PATCH /api/v1/device", &shall("running")).0, 202);
    let device =
        until("it runs", &|device| device["status"] == "done" && main(device)["status"] == "running");
    assert_eq!(main(&device)["containerId"], json!(harbour.id("main-1")));
    assert_eq!(device, harbour.device(), "it is what is shown to who asks");
    // What another hand does is told too.
    let first = harbour.id("main-1");
    harbour.docker.call("DELETE", &format!("/containers/{first}?force=1"), &Value::Null);
    until("it is another", &|device| {
        let id = &main(device)["containerId"];
        main(device)["status"] == "running" && id.is_string() && *id != json!(first)
    });
    assert_eq!(ask(&harbour.home, "PATCH /api/v1/device", &shall("stopped")).0, 202);
    until("it is stopped", &|device| device["status"] == "done" && main(device)["status"] == "stopped");
    assert!(!harbour.is_running("main-1"));
    let gone = json!({ "apps": { &harbour.app: null } });
    assert_eq!(ask(&harbour.home, "PATCH /api/v1/device", &gone).0, 202);
    until("there is nothing again", &|device| device["apps"] == json!({}));
}
