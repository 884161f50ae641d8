//! What a plan says and what then happens on the engine are the same: the same deeds, in an order that the plan
//! allows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use upbeat_needs::docker::Registry;

use super::{Harbour, STAYS, journey, text};
use crate::guide::ask;
use crate::home::eventually;
use crate::{Journey, Need};

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        journey("what a plan says of containers is what happens then", agrees),
        Journey::needing(
            &[Need::DOCKER, Need::REGISTRY],
            "the seven plans of the page, each of containers on the engine",
            seven,
        ),
        journey(
            "a plan names who holds a port, and says what an engine that is not there keeps from it",
            refused,
        ),
    ]
}

const PROBED: &str = "healthcheck: { test: [CMD, \"true\"], interval: 100ms }";

fn agrees() {
    let harbour = Harbour::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let file = |db: &str, web: &str, more: &str, internal: bool| {
        harbour.file(&format!(
            "  db: {{ image: IMAGE, command: STAYS, {PROBED}, volumes: [\"data:/data\"], environment: {{ V: {db} }} }}
  once: {{ image: IMAGE, command: [\"true\"] }}
  web:
    image: IMAGE
    command: STAYS
    environment: {{ V: {web} }}
    depends_on:
      db: {{ condition: service_healthy, restart: true }}
      once: {{ condition: service_completed_successfully }}
{more}
volumes: {{ data: {{}} }}
networks: {{ default: {{ internal: {internal} }} }}
"
        ));
    };
    let old = format!("  old: {{ image: IMAGE, command: STAYS, ports: [\"127.0.0.1:{port}:80\"] }}");
    let new = format!("  new: {{ image: IMAGE, command: STAYS, ports: [\"127.0.0.1:{port}:80\"] }}");
    file("1", "1", &old, false);
    let mut all: Vec<String> = ["db-1", "old-1", "once-1", "web-1"]
        .into_iter()
        .flat_map(|slot| [format!("create {slot}"), format!("start {slot}")])
        .collect();
    all.extend(["create network default".to_owned(), "create volume data".to_owned()]);
    all.push("die once-1".to_owned());
    all.sort();
    assert_eq!(planned_and_done(&harbour, &["once-1"]), all, "from nothing");
    assert_eq!(planned_and_done(&harbour, &[]), Vec::<String>::new(), "of what is as it shall be");
    let anew =
        |slot: &str| ["create", "destroy", "die", "start"].map(|deed| format!("{deed} {slot}")).to_vec();
    file("1", "2", &old, false);
    assert_eq!(planned_and_done(&harbour, &[]), anew("web-1"), "one that nobody rests on");
    file("2", "2", &old, false);
    let mut both = anew("db-1");
    both.extend(["die web-1".to_owned(), "start web-1".to_owned()]);
    both.sort();
    assert_eq!(planned_and_done(&harbour, &[]), both, "one that another follows");
    file("2", "2", &new, false);
    let taken = ["create new-1", "destroy old-1", "die old-1", "start new-1"].map(str::to_owned).to_vec();
    assert_eq!(planned_and_done(&harbour, &[]), taken, "a port that goes to another");
    harbour.home.run(&["stop", "web"]).ok();
    assert_eq!(planned_and_done(&harbour, &[]), ["start web-1"], "one that was stopped");
    file("2", "2", "", false);
    assert_eq!(planned_and_done(&harbour, &[]), ["destroy new-1", "die new-1"], "one that is dropped");
    file("2", "3", "", true);
    let mut all: Vec<String> = ["db-1", "once-1", "web-1"].into_iter().flat_map(anew).collect();
    all.extend(["create network default", "destroy network default"].map(str::to_owned));
    all.sort();
    assert_eq!(planned_and_done(&harbour, &["once-1"]), all, "a network that is made anew");
    harbour.home.run(&["down"]).ok();
    assert_eq!(harbour.containers(), Vec::<String>::new());
}

/// Plans, does what was planned, and holds the one against the other. What ends by itself is no deed of a plan.
fn planned_and_done(harbour: &Harbour, ends: &[&str]) -> Vec<String> {
    let ran = harbour.home.run(&["-o", "json", "plan", "--lint"]).ok();
    let plan: Value = serde_json::from_str(&ran.stdout).unwrap();
    let steps = plan["steps"].as_array().unwrap();
    let had = volumes(harbour);
    let since = now();
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    let mut wanted: BTreeMap<String, usize> = BTreeMap::new();
    for (place, step) in steps.iter().enumerate() {
        if let Some(deed) = of_plan(harbour, step) {
            assert_eq!(wanted.insert(deed.clone(), place), None, "{deed} twice in {}", ran.stdout);
        }
    }
    let all: BTreeSet<String> =
        wanted.keys().cloned().chain(ends.iter().map(|slot| format!("die {slot}"))).collect();
    let mut done = Vec::new();
    eventually("all that was planned has happened", || {
        done = happened(harbour, &since);
        // The engine tells so of each that a new container is given, though it is there.
        done.retain(|deed| !had.iter().any(|volume| *deed == format!("create volume {volume}")));
        all.iter().all(|deed| done.contains(deed))
    });
    let text = harbour.home.run(&["plan", "--format", "text"]).ok().stdout;
    assert!(text.starts_with("There is nothing to do") || text.starts_with("Nothing"), "{text}");
    let mut sorted = done.clone();
    sorted.sort();
    assert_eq!(sorted, all.iter().cloned().collect::<Vec<_>>(), "{}", ran.stdout);
    let before = ancestors(steps);
    for (later, deed) in done.iter().enumerate() {
        let Some(place) = wanted.get(deed) else { continue };
        for after in &done[later + 1..] {
            let is_before = wanted.get(after).is_some_and(|after| before[*place].contains(after));
            assert!(!is_before, "{deed} came before {after}: {done:?} {}", ran.stdout);
        }
    }
    sorted
}

/// The volumes of the app.
fn volumes(harbour: &Harbour) -> Vec<String> {
    let there = harbour.docker.get("/volumes");
    let names = there["Volumes"].as_array().into_iter().flatten().filter_map(|one| one["Name"].as_str());
    names.filter_map(|name| name.strip_prefix(&format!("{}_", harbour.app))).map(str::to_owned).collect()
}

/// For each step the places of all that come before it.
fn ancestors(steps: &[Value]) -> Vec<BTreeSet<usize>> {
    let mut all: Vec<BTreeSet<usize>> = Vec::new();
    for step in steps {
        let mut own = BTreeSet::new();
        for after in step["after"].as_array().unwrap() {
            let on = usize::try_from(after["step"].as_u64().unwrap()).unwrap() - 1;
            own.extend(all[on].iter().copied());
            own.insert(on);
        }
        all.push(own);
    }
    all
}

fn of_plan(harbour: &Harbour, step: &Value) -> Option<String> {
    let slot = || text(&step["slot"]).split_once('/').unwrap().1.replace('/', "-");
    let named = |key: &str| text(&step[key]).trim_start_matches(&format!("{}_", harbour.app)).to_owned();
    Some(match step["action"].as_str().unwrap() {
        "create" => format!("create {}", slot()),
        "start" => format!("start {}", slot()),
        "stop" => format!("die {}", slot()),
        "remove_container" => format!("destroy {}", slot()),
        "pull" => format!("pull {}", text(&step["image"])),
        "create_network" => format!("create network {}", named("network")),
        "remove_network" => format!("destroy network {}", named("network")),
        "create_volume" => format!("create volume {}", named("volume")),
        "await" | "prepared" | "ready" => return None,
        other => panic!("{other}"),
    })
}

/// What the engine says has happened since then, in order.
fn happened(harbour: &Harbour, since: &str) -> Vec<String> {
    let of_app = format!("{}_", harbour.app);
    let mut done: Vec<(u64, String)> = Vec::new();
    for event in harbour.docker.history(since, &now()) {
        let (kind, action) = (text(&event["Type"]), text(&event["Action"]));
        let said = &event["Actor"]["Attributes"];
        let is_deed = ["create", "start", "die", "destroy"].contains(&action.as_str());
        let what = match kind.as_str() {
            "container" if is_deed && said["io.upbeat.app"] == json!(harbour.app) => {
                format!("{}-{}", text(&said["io.upbeat.service"]), text(&said["io.upbeat.slot"]))
            }
            "network" if is_deed && text(&said["name"]).starts_with(&of_app) => {
                format!("network {}", text(&said["name"]).trim_start_matches(&of_app))
            }
            "volume" if is_deed && text(&event["Actor"]["ID"]).starts_with(&of_app) => {
                format!("volume {}", text(&event["Actor"]["ID"]).trim_start_matches(&of_app))
            }
            "image" if action == "pull" && text(&event["Actor"]["ID"]).contains(&harbour.app) => {
                text(&event["Actor"]["ID"])
            }
            _ => continue,
        };
        done.push((event["timeNano"].as_u64().unwrap_or_default(), format!("{action} {what}")));
    }
    done.sort_by_key(|(at, _)| *at);
    let mut deeds: Vec<String> = Vec::new();
    for (_, deed) in done {
        // The engine tells of a volume once more when it is first used.
        if !(deed.starts_with("create volume") && deeds.contains(&deed)) {
            deeds.push(deed);
        }
    }
    deeds
}

/// `docs/plans.md`, M1 to M7. Releases are not kept track of here, so their steps and images' names are missing.
fn seven() {
    let harbour = Harbour::new();
    let registry = Registry::open();
    let pushed = harbour.docker.push(&harbour.image, &registry, &harbour.app, "1");
    let id = pushed.id();
    let service = |name: &str, word: &str| {
        let command = format!("{}, {word:?}]", STAYS.trim_end_matches(']'));
        format!("  {name}: {{ image: {:?}, command: {command}, network_mode: none }}\n", pushed.name())
    };
    let is_as_said = |slot: &str, word: &str| {
        let found = harbour.inspect(slot).unwrap();
        assert_eq!((&found["State"]["Status"], &found["Image"]), (&json!("running"), &json!(id)), "{slot}");
        assert_eq!(found["Config"]["Cmd"][3], json!(word), "{slot}");
    };
    let deeds = |all: &str| all.split(", ").map(str::to_owned).collect::<Vec<_>>();
    harbour.file(&service("main", "first"));
    assert_eq!(planned_and_done(&harbour, &[]), deeds("create main-1, start main-1"), "M1");
    is_as_said("main-1", "first");
    harbour.file(&service("main", "second"));
    let anew = "create main-1, destroy main-1, die main-1, start main-1";
    assert_eq!(planned_and_done(&harbour, &[]), deeds(anew), "M5");
    is_as_said("main-1", "second");
    let before = harbour.run_of("main-1");
    harbour.file(&(service("main", "second") + &service("other", "x")));
    assert_eq!(planned_and_done(&harbour, &[]), deeds("create other-1, start other-1"), "M7");
    assert_eq!(harbour.run_of("main-1"), before, "it is not touched");
    is_as_said("other-1", "x");
    harbour.file(&service("main", "second"));
    assert_eq!(planned_and_done(&harbour, &[]), deeds("destroy other-1, die other-1"));
    harbour.file(&(service("main", "third") + &service("other", "x")));
    let six = "create main-1, create other-1, destroy main-1, die main-1, start main-1, start other-1";
    assert_eq!(planned_and_done(&harbour, &[]), deeds(six), "M6");
    is_as_said("main-1", "third");
    is_as_said("other-1", "x");
    harbour.home.run(&["down"]).ok();
    pushed.remove();
    harbour.file(&service("main", "first"));
    let pulled = format!("create main-1, pull {}, start main-1", pushed.name());
    assert_eq!(planned_and_done(&harbour, &[]), deeds(&pulled), "M2");
    is_as_said("main-1", "first");
    harbour.home.run(&["down"]).ok();
    made_and_not_started(&harbour, &service("main", "first"));
    is_as_said("main-1", "first");
    harbour.home.run(&["down"]).ok();
    stopped_from_nothing(&harbour, pushed.name());
}

/// M3: its container is there, and waits. What is left to do is to start it.
fn made_and_not_started(harbour: &Harbour, main: &str) {
    let ready = harbour.home.project().join("ready");
    let gate = "  gate:
    command: [sleep, \"600\"]
    healthcheck: { test: [CMD, test, -e, ready], interval: 100ms, retries: 10000 }
";
    let waits = main.replace(" }\n", ", depends_on: { gate: { condition: service_healthy } } }\n");
    harbour.file(&(waits + gate));
    let up = harbour.home.spawn(&["up", "-d"]);
    let is = |status: &str| {
        harbour.inspect("main-1").is_some_and(|found| found["State"]["Status"] == json!(status))
    };
    eventually("it is made", || is("created"));
    let id = harbour.id("main-1");
    let plan: Value = serde_json::from_str(&harbour.home.run(&["-o", "json", "plan"]).ok().stdout).unwrap();
    let slot = json!(format!("{}/main/1", harbour.app));
    let of_main = plan["steps"].as_array().unwrap().iter().filter(|step| step["slot"] == slot);
    assert_eq!(of_main.map(|step| text(&step["action"])).collect::<Vec<_>>(), ["start"], "M3: {plan}");
    std::fs::write(ready, "").unwrap();
    eventually("it runs", || is("running"));
    assert_eq!(harbour.id("main-1"), id, "M3");
    up.end().ok();
}

/// M4: what shall not run is not started to be stopped; nor is it made before it shall run.
fn stopped_from_nothing(harbour: &Harbour, image: &str) {
    let main = json!({ "image": image, "command": ["true"], "status": "stopped" });
    let document = json!({ "releases": { "r0": { "services": { "main": main } } } });
    let since = now();
    let line = format!("PUT /api/v1/device/apps/{}", harbour.app);
    assert_eq!(ask(&harbour.home, &line, &document).0, 202);
    let (status, device) = ask(&harbour.home, "GET /api/v1/device?wait=60s", &Value::Null);
    assert_eq!((status, &device["status"]), (200, &json!("done")), "M4");
    let main = &device["apps"][&harbour.app]["releases"]["r0"]["services"]["main"];
    assert_eq!(main["status"], "created", "M4: {device}");
    assert_eq!(happened(harbour, &since), Vec::<String>::new(), "M4");
    harbour.home.run(&["down"]).ok();
}

fn now() -> String {
    let now: Duration = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    format!("{}.{:09}", now.as_secs(), now.subsec_nanos())
}

fn refused() {
    let mut harbour = Harbour::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let publishes = |service: &str| {
        harbour.file(&format!(
            "  {service}: {{ image: IMAGE, command: STAYS, ports: [\"127.0.0.1:{port}:80\"] }}\n"
        ));
    };
    publishes("first");
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    publishes("second");
    let other = format!("{}x", harbour.app);
    let ran = harbour.home.run(&["-p", &other, "plan"]).code(2);
    assert!(ran.stderr.contains(&format!("but container `{}-first-1`", harbour.app)), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("127.0.0.1:{port}/tcp")), "{}", ran.stderr);
    harbour.home.run(&["down"]).ok();
    harbour.home.run(&["serve", "--stop"]).ok();
    let nowhere = harbour.home.outside("no.sock");
    harbour.home.set("DOCKER_HOST", format!("unix://{}", nowhere.display()));
    let ran = harbour.home.run(&["plan"]).code(1);
    assert!(ran.stderr.contains("containers there are is not known"), "{}", ran.stderr);
    assert!(ran.stderr.contains("no.sock"), "{}", ran.stderr);
}
