//! From nothing to running, through changes, to nothing again.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Harbour, journey};
use crate::Journey;
use crate::home::eventually;

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        journey("a container is started, stopped, started, changed and taken down", life),
        journey("a process needs a healthy container that needs a completed one-shot process", mixed),
        journey("of five services that are updated the unchanged ones keep container and start", update),
        journey("containers of an app meet in its network by name, and share a volume", meet),
        journey("volumes outlive their app, until that is asked otherwise", volumes),
        journey("what a container uses is shown beside what a process does", usage),
        journey("containers whose network has changed are in the new one, and nothing is left", network_anew),
        journey("a container becomes a process, of which nothing is left, and again a container", kinds),
        journey("a dropped service is stopped and removed, and nothing that stays is touched", dropped),
    ]
}

fn volumes() {
    let harbour = Harbour::new();
    let kept = format!("{}-kept", harbour.app);
    let label = json!({ "io.upbeat.app": harbour.app });
    harbour.docker.post("/volumes/create", &json!({ "Name": kept, "Labels": label }));
    let writes = "[sh, -c, \"date +%N >>/data/file; date >/kept/file; test $$(wc -l </data/file) = $$N\"]";
    let file = |n: u32| {
        harbour.file(&format!(
            "  a: {{ image: IMAGE, command: {writes}, environment: {{ N: {n} }}, volumes: [\"data:/data\", \"kept:/kept\"] }}
volumes: {{ data: {{}}, kept: {{ external: true, name: {kept} }} }}
"
        ));
    };
    let there = || {
        let found = harbour.docker.get("/volumes");
        let names = found["Volumes"].as_array().into_iter().flatten().filter_map(|one| one["Name"].as_str());
        let mut names: Vec<_> =
            names.filter(|name| name.starts_with(&harbour.app)).map(str::to_owned).collect();
        names.sort();
        names
    };
    let data = format!("{}_data", harbour.app);
    for n in 1..=2 {
        file(n);
        harbour.home.run(&["up", "-d", "--wait"]).ok();
        harbour.home.run(&["down"]).ok();
        assert_eq!(there(), [kept.clone(), data.clone()]);
    }
    // It is not too late for that when the app is gone.
    let ran = harbour.home.run(&["down", "-v"]).ok();
    assert!(ran.stderr.contains(&format!("volume {data} is removed")), "{}", ran.stderr);
    assert_eq!(there(), [kept.as_str()]);
    file(1);
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    harbour.home.run(&["down", "--volumes"]).ok();
    assert_eq!(there(), [kept.as_str()]);
    // One that somebody else uses stays, and that is said.
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    let other = json!({ "Image": harbour.image.name(), "Cmd": ["true"], "HostConfig": { "Binds": [format!("{data}:/x")] } });
    let id = harbour.docker.post(&format!("/containers/create?name={}-other", harbour.app), &other);
    let ran = harbour.home.run(&["down", "-v"]).code(4);
    assert!(
        ran.stderr.contains(&format!("volume `{data}` is still used by container `{}-other`", harbour.app)),
        "{}",
        ran.stderr
    );
    harbour.docker.call("DELETE", &format!("/containers/{}", id["Id"].as_str().unwrap()), &Value::Null);
    harbour.home.run(&["down", "-v"]).ok();
    assert_eq!(there(), [kept.as_str()]);
    harbour.docker.call("DELETE", &format!("/volumes/{kept}"), &Value::Null);
}

fn usage() {
    let harbour = Harbour::new();
    harbour.file("  a: { image: IMAGE, command: STAYS }\n  b: { command: [sleep, \"600\"] }\n");
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    let stats: Value = serde_json::from_str(&harbour.home.run(&["-o", "json", "stats"]).ok().stdout).unwrap();
    let of = |slot: usize| stats["slots"][slot]["usage"].clone();
    assert!(
        of(0)["memory_bytes"].as_u64().unwrap() > 0 && of(0)["processes"].as_u64().unwrap() >= 1,
        "{stats}"
    );
    assert!(of(0)["cpu_ms"].as_u64().is_some() && of(0)["cpu_percent"].is_number(), "{stats}");
    assert_eq!(of(0)["descriptors"], Value::Null, "an engine does not count them");
    assert!(of(1)["descriptors"].as_u64().unwrap() >= 3, "{stats}");
    let table = harbour.home.run(&["stats"]).ok().stdout;
    let line = table.lines().find(|line| line.starts_with("a-1")).unwrap();
    assert!(
        line.contains('%') && line.contains("iB") || line.contains("MB") || line.contains("KB"),
        "{table}"
    );
}

/// A network that has changed cannot be made beside the one in use: what is in it stops first, all of it.
fn network_anew() {
    let harbour = Harbour::new();
    let file = |internal: bool| {
        harbour.file(&format!(
            "  a: {{ image: IMAGE, command: STAYS, networks: [net] }}
  b: {{ image: IMAGE, command: [\"true\"], networks: [net] }}
  c: {{ image: IMAGE, command: STAYS, networks: [net] }}
networks: {{ net: {{ internal: {internal} }} }}
"
        ));
    };
    file(false);
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    file(true);
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    let network = harbour.docker.get(&format!("/networks/{}_net", harbour.app));
    assert_eq!(network["Internal"], json!(true));
    for slot in ["a-1", "c-1"] {
        let joined = harbour.inspect(slot).unwrap()["NetworkSettings"]["Networks"].clone();
        assert_eq!(joined[format!("{}_net", harbour.app)]["NetworkID"], network["Id"], "{slot}");
    }
    harbour.home.run(&["down"]).ok();
    assert_eq!(harbour.networks(), Vec::<String>::new());
}

/// What was left of the container is none of a process any more.
fn kinds() {
    let harbour = Harbour::new();
    harbour.file("  a: { image: IMAGE, command: STAYS }\n");
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    harbour.file("  a: { command: [sleep, \"600\"] }\n");
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    assert_eq!(harbour.containers(), Vec::<String>::new());
    let pid = harbour.home.pid("a-1");
    harbour.file("  a: { image: IMAGE, command: STAYS }\n");
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    assert!(!crate::home::is_alive(pid) && harbour.is_running("a-1"));
    harbour.home.run(&["down"]).ok();
}

/// The seed's own journey: `spec/mahler.md 1.(b)`, agent.
fn life() {
    let harbour = Harbour::new();
    let home = &harbour.home;
    harbour.file("  main: { image: IMAGE, command: STAYS, restart: always }\n");
    let said = home.run(&["up", "-d", "--wait"]).ok().stderr;
    let at_boot = "after a boot nothing starts the daemon, and so not `main`: `upbeat serve --install`";
    assert!(said.contains(at_boot), "{said}");
    harbour.file("  main: { image: IMAGE, command: STAYS }\n");
    let said = home.run(&["up", "-d", "--wait"]).ok().stderr;
    assert!(!said.contains("after a boot"), "{said}");
    let first = harbour.id("main-1");
    assert!(harbour.is_running("main-1"));
    assert_eq!(home.slots()["main-1"]["container"], json!(first));
    harbour.agree();
    home.run(&["stop", "main"]).ok();
    assert!(!harbour.is_running("main-1"));
    assert_eq!(harbour.id("main-1"), first);
    harbour.agree();
    home.run(&["start", "main"]).ok();
    eventually("it runs again", || home.phase("main-1") == "running");
    assert!(harbour.is_running("main-1"));
    assert_eq!(harbour.id("main-1"), first);
    // Nothing has changed: nothing happens.
    let before = harbour.run_of("main-1");
    home.run(&["up", "-d", "--wait"]).ok();
    assert_eq!(harbour.run_of("main-1"), before);
    harbour.file("  main: { image: IMAGE, command: STAYS, environment: { A: b } }\n");
    home.run(&["up", "-d", "--wait"]).ok();
    assert_ne!(harbour.id("main-1"), first);
    assert!(harbour.is_running("main-1"));
    assert_eq!(harbour.containers().len(), 1);
    let inspected = harbour.inspect("main-1").unwrap();
    assert!(inspected["Config"]["Env"].as_array().unwrap().contains(&json!("A=b")));
    assert_eq!(inspected["HostConfig"]["RestartPolicy"]["Name"], json!("no"));
    harbour.agree();
    home.run(&["down"]).ok();
    assert_eq!(harbour.containers(), Vec::<String>::new());
    assert_eq!(harbour.networks(), Vec::<String>::new());
}

fn mixed() {
    let harbour = Harbour::new();
    let mark = harbour.home.outside("ready");
    let order = harbour.home.outside("order");
    harbour.file(&format!(
        "  setup: {{ command: [sh, -c, \"echo setup >> {order}\"] }}
  db:
    image: IMAGE
    command: STAYS
    depends_on: {{ setup: {{ condition: service_completed_successfully }} }}
    healthcheck: {{ test: [CMD, test, -f, /shared/ready], interval: 100ms, retries: 10000 }}
    volumes: [\"{shared}:/shared\"]
  web:
    command: [sh, -c, \"echo web >> {order}; exec sleep 600\"]
    depends_on: {{ db: {{ condition: service_healthy }} }}
",
        order = order.display(),
        shared = mark.parent().unwrap().display(),
    ));
    let up = harbour.home.spawn(&["up", "-d", "--wait"]);
    eventually("the container runs", || harbour.is_running("db-1"));
    assert_eq!(harbour.home.phase("setup-1"), "completed");
    assert_eq!(harbour.home.phase("web-1"), "waiting");
    std::fs::write(&mark, "").unwrap();
    up.end().ok();
    eventually("it is healthy", || harbour.home.phase("db-1") == "healthy");
    eventually("the process has begun", || {
        std::fs::read_to_string(&order).unwrap_or_default() == "setup\nweb\n"
    });
    harbour.agree();
    // What rests on it stops first.
    harbour.home.run(&["down"]).ok();
    assert_eq!(harbour.containers(), Vec::<String>::new());
}

fn five(harbour: &Harbour, commands: &BTreeMap<&str, &str>) {
    let service = |name: &str| {
        let variable = commands.get(name).copied().unwrap_or("1");
        format!("  {name}: {{ image: IMAGE, command: STAYS, environment: {{ V: \"{variable}\" }} }}\n")
    };
    harbour.file(&["a", "b", "c", "d", "e"].map(service).concat());
}

fn update() {
    let harbour = Harbour::new();
    five(&harbour, &BTreeMap::new());
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    let slots = ["a-1", "b-1", "c-1", "d-1", "e-1"];
    let before: Vec<_> = slots.iter().map(|slot| harbour.run_of(slot)).collect();
    five(&harbour, &BTreeMap::from([("c", "2")]));
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    for (slot, before) in slots.iter().zip(before) {
        let now = harbour.run_of(slot);
        assert_eq!(now == before, *slot != "c-1", "{slot}: {before:?} {now:?}");
    }
    assert_eq!(harbour.containers().len(), 5);
    harbour.agree();
    harbour.home.run(&["down"]).ok();
    assert_eq!(harbour.containers(), Vec::<String>::new());
}

fn meet() {
    let harbour = Harbour::new();
    harbour.file(
        "  server:
    image: IMAGE
    command: [sh, -c, \"echo hello > /data/index.html; exec httpd -f -p 80 -h /data\"]
    volumes: [\"data:/data\"]
  client:
    image: IMAGE
    command: [sh, -c, \"until wget -q -O - http://server/; do sleep 0.1; done; cat /data/index.html\"]
    volumes: [\"data:/data:ro\"]
    depends_on: [server]
volumes:
  data:
",
    );
    harbour.home.run(&["up", "-d"]).ok();
    eventually("the client has read it", || harbour.home.phase("client-1") == "completed");
    assert_eq!(harbour.networks(), [format!("{}_default", harbour.app)]);
    harbour.home.run(&["down"]).ok();
    assert_eq!(harbour.networks(), Vec::<String>::new());
    // Data stay.
    let volume = format!("/volumes/{}_data", harbour.app);
    assert_eq!(harbour.docker.get(&volume)["Name"], json!(format!("{}_data", harbour.app)));
    harbour.docker.call("DELETE", &volume, &json!(null));
}

fn dropped() {
    let harbour = Harbour::new();
    harbour.file("  main: { image: IMAGE, command: STAYS }\n  old: { image: IMAGE, command: STAYS }\n");
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    let before = harbour.run_of("main-1");
    harbour.file("  main: { image: IMAGE, command: STAYS }\n  new: { image: IMAGE, command: STAYS }\n");
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    assert_eq!(harbour.run_of("main-1"), before);
    assert!(harbour.is_running("new-1"));
    assert!(harbour.inspect("old-1").is_none());
    assert_eq!(harbour.containers().len(), 2);
    harbour.home.run(&["down"]).ok();
}
