//! What is new starts on what is new.

use super::{Harbour, STAYS, journey, text};
use crate::Journey;
use crate::home::eventually;

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        journey("processes of a new file wait for its containers, not for those before", mixed),
        journey("who rests on a container that is mended is not judged by how it failed before", mended),
        journey("names that containers chose go from one service to another, and are swapped", names),
        journey("a port of a stranger's container is seen before anything that runs is touched", stranger),
        journey("a network that a stranger is in is not made anew, and nothing stops for it", network),
        journey("a daemon that died is started again by who asks, as its containers run on", asked),
    ]
}

/// `job`, a process, needs `db` to be healthy and `once` to have completed, which are containers.
fn mixed() {
    let harbour = Harbour::new();
    let place = harbour.home.outside("seen");
    std::fs::create_dir(&place).unwrap();
    let file = |version: &str| {
        let place = place.display();
        harbour.file(&format!(
            "  db:
    image: IMAGE
    command: [sh, -c, \"echo {version} > /seen/db; trap 'exit 0' TERM; while :; do sleep 0.1; done\"]
    healthcheck: {{ test: [CMD, grep, -q, {version}, /seen/db], interval: 100ms, retries: 10000 }}
    volumes: [\"{place}:/seen\"]
  once:
    image: IMAGE
    command: [sh, -c, \"echo {version} > /seen/once\"]
    volumes: [\"{place}:/seen\"]
  job:
    command: [sh, -c, \"cat {place}/db {place}/once > {place}/job-{version}\"]
    depends_on:
      db: {{ condition: service_healthy }}
      once: {{ condition: service_completed_successfully }}
"
        ));
    };
    for version in ["one", "two", "three"] {
        file(version);
        harbour.home.run(&["up", "-d", "--wait"]).ok();
        let seen = || std::fs::read_to_string(place.join(format!("job-{version}"))).unwrap_or_default();
        eventually("the job has ended", || harbour.home.phase("job-1") == "completed" && !seen().is_empty());
        assert_eq!(seen(), format!("{version}\n{version}\n"));
    }
}

fn mended() {
    let harbour = Harbour::new();
    let file = |command: &str| {
        harbour.file(&format!(
            "  a: {{ image: IMAGE, command: {command} }}\n  c: {{ command: [sleep, \"600\"], depends_on: [a] }}\n"
        ));
    };
    file("[no-such-program]");
    harbour.home.run(&["up", "-d", "--wait"]).code(7);
    assert_eq!(harbour.home.phase("c-1"), "dependency_failed");
    file(STAYS);
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    assert_eq!([harbour.home.phase("a-1"), harbour.home.phase("c-1")], ["running", "running"]);
}

fn names() {
    let harbour = Harbour::new();
    let (x, y) = (format!("{}-x", harbour.app), format!("{}-y", harbour.app));
    let file = |named: &[(&str, &str)]| {
        let service = |(service, name): &(&str, &str)| {
            format!("  {service}: {{ image: IMAGE, command: STAYS, container_name: {name} }}\n")
        };
        harbour.file(&named.iter().map(service).collect::<String>());
        harbour.home.run(&["up", "-d", "--wait"]).ok();
        for (service, name) in named {
            let found = harbour.docker.inspect(name).unwrap_or_else(|| panic!("no {name}"));
            assert_eq!(text(&found["Config"]["Labels"]["io.upbeat.service"]), *service);
            assert_eq!(found["State"]["Running"], serde_json::json!(true), "{name}");
        }
        eventually("nothing is left of those before", || harbour.containers().len() == named.len());
    };
    file(&[("a", &x), ("b", &y)]);
    // Swapped, of a service that is dropped, of one that stays, and to one that is called otherwise.
    file(&[("a", &y), ("b", &x)]);
    file(&[("a", &y), ("c", &x)]);
    file(&[("a", &x), ("c", &y)]);
    file(&[("renamed", &x), ("c", &y)]);
    harbour.home.run(&["down"]).ok();
    assert_eq!(harbour.containers(), Vec::<String>::new());
}

fn stranger() {
    let harbour = Harbour::new();
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (own, taken) = (free(), free());
    let other = Harbour::new();
    let file = |harbour: &Harbour, port: u16| {
        harbour
            .file(&format!("  web: {{ image: IMAGE, command: STAYS, ports: [\"127.0.0.1:{port}:80\"] }}\n"));
    };
    file(&harbour, own);
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    let before = harbour.run_of("web-1");
    // Another daemon's is as strange as one of no daemon.
    file(&other, taken);
    other.home.run(&["up", "-d", "--wait"]).ok();
    file(&harbour, taken);
    let ran = harbour.home.run(&["up", "-d", "--wait"]).code(1);
    let wanted = format!("port 127.0.0.1:{taken}/tcp is published by the container `{}-web-1`", other.app);
    assert!(ran.stderr.contains(&wanted) || ran.stdout.contains(&wanted), "{ran:?}");
    assert_eq!(harbour.run_of("web-1"), before);
    // It is tried again by itself when that one has gone.
    other.home.run(&["down"]).ok();
    eventually("the new one runs", || harbour.is_running("web-1") && harbour.run_of("web-1") != before);
}

fn network() {
    let harbour = Harbour::new();
    let file = |internal: bool| {
        harbour.file(&format!(
            "  web: {{ image: IMAGE, command: STAYS }}\nnetworks: {{ default: {{ internal: {internal} }} }}\n"
        ));
    };
    file(false);
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    let before = harbour.run_of("web-1");
    let stranger = format!("{}-stranger", harbour.app);
    let labels = serde_json::json!({ "io.upbeat.app": harbour.app });
    let host = serde_json::json!({ "NetworkMode": format!("{}_default", harbour.app) });
    let body = serde_json::json!({
        "Image": harbour.image.name(), "Cmd": ["sleep", "600"], "Labels": labels, "HostConfig": host,
    });
    let made = harbour.docker.post(&format!("/containers/create?name={stranger}"), &body);
    harbour.docker.post(&format!("/containers/{}/start", text(&made["Id"])), &serde_json::Value::Null);
    file(true);
    let ran = harbour.home.run(&["up", "-d", "--wait"]).code(1);
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert!(said.contains(&format!("`{stranger}` of somebody else uses it")), "{said}");
    assert_eq!(harbour.run_of("web-1"), before);
    harbour.docker.call("DELETE", &format!("/containers/{stranger}?force=1"), &serde_json::Value::Null);
    eventually("it is made anew", || harbour.is_running("web-1") && harbour.run_of("web-1") != before);
    harbour.home.run(&["down"]).ok();
    assert_eq!(harbour.networks(), Vec::<String>::new());
}

fn asked() {
    let harbour = Harbour::new();
    harbour.file("  web: { image: IMAGE, command: STAYS }\n");
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    let before = harbour.run_of("web-1");
    harbour.home.kill_daemon();
    let ran = harbour.home.run(&["ps"]).ok();
    assert!(ran.stderr.contains("it is started again") && ran.stdout.contains("web-1"), "{ran:?}");
    assert_eq!(harbour.run_of("web-1"), before);
    harbour.home.run(&["down"]).ok();
    // Nothing of it is there, and nothing is started for a question.
    harbour.home.kill_daemon();
    let ran = harbour.home.run(&["ps"]);
    assert!(!ran.stderr.contains("it is started again"), "{ran:?}");
}
