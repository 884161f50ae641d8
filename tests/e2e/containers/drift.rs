//! Another hand than Upbeat's changes what runs.

use serde_json::{Value, json};
use upbeat_needs::docker::PrivateEngine;

use super::{Harbour, journey};
use crate::home::{eventually, kill};
use crate::{Journey, Need};

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        journey("a container that was removed, stopped, killed or restarted by hand comes back", comes_back),
        journey("a container that was paused, renamed or taken out of its network is put right", put_right),
        journey(
            "a container that was stopped on purpose and started by hand is stopped again",
            stays_stopped,
        ),
        journey(
            "a container whose image was removed runs on, and once it has ended waits until that is there again",
            without_image,
        ),
        Journey::needing(
            &[Need::DOCKER, Need::ROOT],
            "an engine that is killed and started again has its containers back",
            engine_killed,
        ),
    ]
}

/// Signals, by their numbers.
const STOP: i32 = 19;
const CONTINUE: i32 = 18;

fn up(harbour: &Harbour) {
    harbour.file("  web: { image: IMAGE, command: STAYS }\n  other: { image: IMAGE, command: STAYS }\n");
    harbour.home.run(&["up", "-d", "--wait"]).ok();
}

/// What another hand has done so far, by what was seen of it.
fn drifts(harbour: &Harbour) -> Vec<String> {
    let told = harbour.home.run(&["events", "--kind", "drifted"]).ok().stdout;
    told.lines().map(str::to_owned).collect()
}

/// Since there were so many, this has been said of `web-1`.
#[track_caller]
fn is_said(harbour: &Harbour, before: usize, words: &str) {
    eventually(&format!("`{words}` is said"), || {
        drifts(harbour).iter().skip(before).any(|line| line.contains("web-1") && line.contains(words))
    });
}

fn comes_back() {
    let harbour = Harbour::new();
    up(&harbour);
    let other = harbour.run_of("other-1");
    for (method, path, same) in [
        ("DELETE", "?force=1", false),
        ("POST", "/stop?t=0", true),
        ("POST", "/kill", true),
        ("POST", "/restart?t=0", true),
    ] {
        let before = harbour.run_of("web-1");
        let said = drifts(&harbour).len();
        let id = &before.0;
        let (status, answer) = harbour.docker.call(method, &format!("/containers/{id}{path}"), &Value::Null);
        assert!(status < 300, "{path}: {answer}");
        eventually("it is back", || harbour.is_running("web-1") && harbour.run_of("web-1") != before);
        eventually("its phase says so", || harbour.home.phase("web-1") == "running");
        assert_eq!(harbour.id("web-1") == *id, same, "{path}");
        is_said(&harbour, said, "by another hand than Upbeat's → it is begun anew");
        harbour.agree();
    }
    assert_eq!(harbour.run_of("other-1"), other);
    assert_eq!(harbour.containers().len(), 2);
    harbour.home.run(&["down"]).ok();
    assert_eq!(harbour.containers(), Vec::<String>::new());
}

fn put_right() {
    let harbour = Harbour::new();
    up(&harbour);
    let before = harbour.run_of("web-1");
    let id = &before.0;
    let network = format!("{}_default", harbour.app);
    let so_far = || drifts(&harbour).len();
    let said = so_far();
    harbour.docker.post(&format!("/containers/{id}/pause"), &Value::Null);
    eventually("it runs again", || harbour.is_running("web-1"));
    is_said(&harbour, said, "it was paused");
    let said = so_far();
    harbour.docker.post(&format!("/containers/{id}/rename?name={}-mine", harbour.app), &Value::Null);
    eventually("it has its name again", || harbour.inspect("web-1").is_some());
    is_said(&harbour, said, "it was renamed");
    let said = so_far();
    let leave = json!({ "Container": id, "Force": true });
    harbour.docker.post(&format!("/networks/{network}/disconnect"), &leave);
    let is_in = || {
        let networks = harbour.inspect("web-1").unwrap()["NetworkSettings"]["Networks"].clone();
        networks[&network]["Aliases"].as_array().is_some_and(|names| names.contains(&json!("web")))
    };
    eventually("it is in its network again", is_in);
    is_said(&harbour, said, "it is not in network");
    // The network itself goes, with all who are in it, before anybody puts one of them back.
    let (said, daemon) = (so_far(), harbour.home.daemon().unwrap());
    let network_id =
        || harbour.docker.call("GET", &format!("/networks/{network}"), &Value::Null).1["Id"].clone();
    let first = network_id();
    kill(daemon, STOP);
    for slot in ["web-1", "other-1"] {
        let leave = json!({ "Container": harbour.id(slot), "Force": true });
        harbour.docker.post(&format!("/networks/{network}/disconnect"), &leave);
    }
    let removed = harbour.docker.call("DELETE", &format!("/networks/{network}"), &Value::Null);
    kill(daemon, CONTINUE);
    assert_eq!(removed.0, 204, "{removed:?}");
    eventually("its network is back", is_in);
    assert!(network_id().is_string() && network_id() != first);
    is_said(&harbour, said, "it is not in network");
    assert_eq!(harbour.run_of("web-1"), before, "it was never stopped");
    harbour.home.run(&["down"]).ok();
    assert_eq!(harbour.networks(), Vec::<String>::new());
}

fn stays_stopped() {
    let harbour = Harbour::new();
    up(&harbour);
    harbour.home.run(&["stop", "web"]).ok();
    let id = harbour.id("web-1");
    harbour.docker.post(&format!("/containers/{id}/start"), &Value::Null);
    eventually("it is stopped again", || !harbour.is_running("web-1"));
    eventually("its phase says so", || harbour.home.phase("web-1") == "stopped");
    assert_eq!(harbour.id("web-1"), id);
}

fn without_image() {
    let harbour = Harbour::new();
    up(&harbour);
    let before = harbour.run_of("web-1");
    harbour.image.remove();
    let path = format!("/images/{}/json", harbour.image.name());
    assert_eq!(harbour.docker.call("GET", &path, &Value::Null).0, 404, "it is gone");
    harbour.home.run(&["restart", "web"]).code(1);
    assert_eq!(harbour.run_of("web-1"), before, "what cannot be made anew is not stopped");
    // One that ends is not begun again without it: that is said, and others are left alone.
    let other = harbour.run_of("other-1");
    harbour.docker.post(&format!("/containers/{}/kill", before.0), &Value::Null);
    let why = || harbour.home.run(&["why", "web"]).stdout;
    eventually("that is said", || why().contains(&format!("image `{}`", harbour.image.name())));
    assert!(!harbour.is_running("web-1") && harbour.run_of("other-1") == other);
    let _anew = harbour.docker.import_busybox(&harbour.app, "1");
    eventually("it is made of the new one", || harbour.is_running("web-1"));
    assert_eq!(harbour.inspect("web-1").unwrap()["Image"], harbour.image.id());
    eventually("its phase says so", || harbour.home.phase("web-1") == "running");
    harbour.agree();
}

fn engine_killed() {
    let mut engine = PrivateEngine::start();
    let harbour = Harbour::at(engine.docker.clone());
    harbour.file(
        "  web: { image: IMAGE, command: STAYS, network_mode: none }
  job: { image: IMAGE, command: [\"true\"], network_mode: none }
  tool: { command: [sleep, \"600\"], depends_on: [web] }
",
    );
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    let (id, tool) = (harbour.id("web-1"), harbour.home.pid("tool-1"));
    engine.kill();
    // Without its engine nothing can be said of it, and what does not need one goes on.
    assert_eq!(harbour.home.phase("tool-1"), "running");
    engine.start_again();
    eventually("it is back", || harbour.is_running("web-1"));
    eventually("its phase says so", || harbour.home.phase("web-1") == "running");
    assert_eq!(harbour.id("web-1"), id);
    assert_eq!(harbour.home.pid("tool-1"), tool);
    assert_eq!(harbour.home.phase("job-1"), "completed");
    harbour.agree();
    harbour.home.run(&["down"]).ok();
    assert_eq!(harbour.containers(), Vec::<String>::new());
}
