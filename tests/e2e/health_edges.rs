//! What a service waits for, and what becomes of it when that ends.

use std::os::fd::AsFd;

use rustix::net::{AddressFamily, SocketType};

use crate::Journey;
use crate::crash::nothing_is_left;
use crate::home::{Home, eventually, kill};
use crate::readme::blocks;
use crate::stand_in::command;

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        Journey {
            name: "when what it rests on is killed, a service does what its edge says",
            needs: &[],
            run: reactions,
        },
        Journey {
            name: "a condition that cannot hold is waited for, passed over or fails the start",
            needs: &[],
            run: failures,
        },
        Journey {
            name: "what waits for a failure runs once, and again only when it is asked for",
            needs: &[],
            run: told_once,
        },
        Journey { name: "every condition holds back until it holds", needs: &[], run: conditions },
    ]
}

fn reactions() {
    let home = Home::with(
        r#"services:
  db: { command: [sleep, '600'], restart: always }
  anew: { command: [sleep, '600'], depends_on: { db: { on_restart: restart } } }
  told:
    command: [sh, -c, "trap 'echo hup >> hups' HUP; echo x >> ready; while :; do sleep 0.05; done"]
    healthcheck: { exec: [test, -e, ready], interval: 50ms }
    reload: SIGHUP
    depends_on: { db: { on_restart: reload } }
  off: { command: [sleep, '600'], restart: always, depends_on: { db: { on_restart: stop } } }
  same: { command: [sleep, '600'], depends_on: { db: {} } }
"#,
    );
    home.run(&["up", "-d", "--wait"]).ok();
    let [db, anew, told, same] = ["db-1", "anew-1", "told-1", "same-1"].map(|slot| home.pid(slot));
    kill(db, 9);
    eventually("one is started again with it", || {
        let slots = home.slots();
        slots["anew-1"]["phase"] == "running" && slots["anew-1"]["pid"] != anew
    });
    eventually("one reads its configuration anew", || home.read("hups") == "hup\n");
    eventually("one is stopped", || home.phase("off-1") == "failed");
    let why = home.run(&["why", "off"]).ok().stdout;
    assert!(why.contains("db-1, which it rests on, has ended"), "{why}");
    assert_ne!(home.pid("db-1"), db);
    assert_eq!((home.pid("told-1"), home.pid("same-1")), (told, same));
    home.run(&["down"]).ok();
    nothing_is_left(&home);
}

fn failures() {
    let sleeps = "command: [sleep, '600']";
    let home = Home::with(&format!(
        r#"services:
  bad: {{ command: [sh, -c, 'test -e good && exec sleep 600'], healthcheck: {{ exec: [test, -e, good], interval: 50ms, timeout: 1m }} }}
  slow: {{ {sleeps}, probes: {{ warm: {{ exec: [test, -e, good], interval: 50ms, timeout: 1m }} }} }}
  waits: {{ {sleeps}, depends_on: {{ bad: {{ condition: service_healthy, on_failure: wait }} }} }}
  goes: {{ {sleeps}, depends_on: {{ bad: {{ condition: service_healthy, on_failure: continue }} }} }}
  fails: {{ {sleeps}, depends_on: {{ bad: {{ condition: service_completed_successfully }} }} }}
  late: {{ {sleeps}, depends_on: {{ slow: {{ condition: 'probe:warm', timeout: 200ms }} }} }}
  bold: {{ {sleeps}, depends_on: {{ slow: {{ condition: 'probe:warm', timeout: 200ms, on_failure: continue }} }} }}
"#
    ));
    home.run(&["up", "-d"]);
    let phases = [
        ("bad", "failed"),
        ("goes", "running"),
        ("bold", "running"),
        ("waits", "waiting"),
        ("fails", "dependency_failed"),
        ("late", "dependency_failed"),
    ];
    for (name, phase) in phases {
        eventually(&format!("{name} is {phase}"), || home.phase(&format!("{name}-1")) == phase);
    }
    let why = home.run(&["why", "late"]).ok().stdout;
    assert!(why.contains("waited 200ms for slow to pass its probe `warm`, in vain"), "{why}");
    // Mended: who waited starts, and who failed too.
    home.write("good", "");
    home.run(&["start", "bad"]).ok();
    for name in ["waits", "late"] {
        eventually(&format!("{name} runs"), || home.phase(&format!("{name}-1")) == "running");
    }
}

/// The example of the page about services.
fn told_once() {
    let examples = blocks("docs/services.md", "yaml");
    let example = examples.iter().find(|example| example.contains("read order < orders")).unwrap();
    let home = Home::with(example);
    assert!(home.shell("mkfifo orders").status().unwrap().success());
    let told = || home.read("told").lines().count();
    let fail = |wanted: usize| {
        let attempt = home.slots()["web-1"]["attempt"].as_u64();
        assert!(home.shell("echo > orders").status().unwrap().success());
        eventually("it has failed", || {
            let web = &home.slots()["web-1"];
            web["phase"] == "failed" && web["attempt"].as_u64() == attempt
        });
        eventually("all is at rest", || home.phase("tell-1") == "completed");
        assert_eq!(told(), wanted);
    };
    home.run(&["up", "-d", "--wait"]).ok();
    assert_eq!((home.phase("tell-1").as_str(), told()), ("waiting", 0));
    fail(1);
    for again in [&["start", "web"][..], &["restart", "web"], &["up", "-d", "--wait"]] {
        home.run(again).ok();
        assert_eq!(home.phase("web-1"), "running", "{again:?}");
        fail(1);
    }
    // Asked for where it has failed, and where it has not.
    home.run(&["start", "tell"]).ok();
    eventually("it tells at once", || told() == 2);
    eventually("it has ended", || home.phase("tell-1") == "completed");
    home.run(&["start", "web"]).ok();
    home.run(&["restart", "tell"]).ok();
    assert_eq!((home.phase("tell-1").as_str(), told()), ("waiting", 2));
    fail(3);
    home.run(&["down"]).ok();
    nothing_is_left(&home);
}

/// A port at which nobody listens yet, and nobody else can.
fn port() -> (std::os::fd::OwnedFd, u16) {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    let any = std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 0);
    rustix::net::bind(&socket, &any).unwrap();
    let bound = std::net::SocketAddr::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap();
    (socket, bound.port())
}

fn conditions() {
    let (socket, port) = port();
    let prints = command(&["await", "go", "print", "now ready", "forever"]);
    let wait = "while [ ! -e go ]; do sleep 0.02; done";
    let waits = [
        ("port", format!("port: {{ condition: port_open, port: {port} }}")),
        ("log", "log: { condition: log_ready, pattern: 'now r.ady' }".to_owned()),
        ("warm", "warm: { condition: 'probe:warm' }".to_owned()),
        ("end", "bad: { condition: service_completed }".to_owned()),
        ("failure", "bad: { condition: service_failed }".to_owned()),
        ("never", "good: { condition: service_failed }".to_owned()),
    ];
    let service = |(name, needs): &(&str, String)| {
        format!("  for-{name}: {{ command: [sleep, '600'], depends_on: {{ {needs} }} }}\n")
    };
    let waiting: String = waits.iter().map(service).collect();
    let home = Home::with(&format!(
        "services:\n  port: {{ command: [sleep, '600'] }}\n  log: {{ command: {prints} }}\n  \
         warm: {{ command: [sleep, '600'], probes: {{ warm: {{ exec: [test, -e, go], interval: 50ms, timeout: 1m }} }} }}\n  \
         bad: {{ command: [sh, -c, '{wait}; exit 3'] }}\n  good: {{ command: [sh, -c, '{wait}'] }}\n{waiting}"
    ));
    let mut up = home.spawn(&["up", "-d"]);
    let phase = |name: &str| home.phase(&format!("for-{name}-1"));
    eventually("all wait", || {
        let slots = home.slots();
        waits.iter().all(|(name, _)| {
            slots.get(&format!("for-{name}-1")).is_some_and(|slot| slot["phase"] == "waiting")
        })
    });
    eventually("the port was asked for", || {
        let probes = &home.slots()["port-1"]["probes"];
        probes[format!("port-{port}")]["last"].as_str().is_some_and(|last| last.contains("refused"))
    });
    for (name, what) in [
        ("log", "waits for log to print a line that matches /now r.ady/ (".to_owned()),
        ("port", format!("waits for port to accept connections at 127.0.0.1:{port} (")),
    ] {
        let why = home.run(&["why", &format!("for-{name}")]).ok().stdout;
        assert!(why.contains(&what), "{why}");
    }
    home.write("go", "");
    rustix::net::listen(socket.as_fd(), 128).unwrap();
    for (name, _) in &waits {
        let then = if *name == "never" { "dependency_failed" } else { "running" };
        eventually(&format!("{name} is {then}"), || phase(name) == then);
    }
    let _ = up.child.wait().unwrap();
    home.run(&["down"]).ok();
    nothing_is_left(&home);
}
