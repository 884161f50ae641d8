//! What the daemon's own log tells of services, in each of its forms.

use std::fs::File;
use std::os::unix::net::UnixDatagram;

use serde_json::Value;

use crate::Journey;
use crate::home::{Home, Running, eventually, lines};

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        Journey { name: "the daemon's log tells the lives of services, as objects", needs: &[], run: json },
        Journey { name: "the daemon's log tells the lives of services, as lines", needs: &[], run: text },
        Journey { name: "the daemon's log goes to syslog with its fields", needs: &[], run: syslog },
    ]
}

/// Printed by a probe only.
const TOKEN: &str = "tK5-nobody-may-read-this-3Lp";

const TROUBLES: &str = r#"
name: shop
services:
  web: { command: [sleep, '600'], probes: { readiness: { exec: ['true'], interval: 100ms } } }
  crash: { command: [sh, -c, 'exit 3'], restart: 'on-failure:1' }
  sick:
    command: [sleep, '600']
    environment: { API_TOKEN: tK5-nobody-may-read-this-3Lp }
    probes:
      liveness:
        exec: [sh, -c, 'echo no luck with "$$API_TOKEN"; exit 1']
        interval: 50ms
        timeout: 1m
        failure_threshold: 1
        on_failure: { action: restart, max_attempts: 1, window: 1h }
"#;

/// A daemon with a log of this form, in the file `log`; everything has gone wrong that is to.
fn troubled(format: &str) -> (Home, Running) {
    let home = Home::with(TROUBLES);
    let mut daemon = home.command(&["serve", "--log-format", format]);
    let log = File::create(home.outside("log")).unwrap();
    let daemon = Running::of(daemon.stderr(log));
    eventually("it answers", || home.daemon().is_some());
    home.run(&["up", "-d"]);
    eventually("it has failed for good", || home.phase("crash-1") == "failed");
    eventually("a person has to look", || home.phase("sick-1") == "needs_attention");
    home.run(&["stop", "web"]).ok();
    (home, daemon)
}

fn ends(home: &Home, daemon: Running) {
    home.run(&["down"]).ok();
    daemon.signal(15);
    daemon.end();
    assert!(!lines(&home.outside("log")).concat().contains(TOKEN), "a secret is told");
}

fn json() {
    let (home, daemon) = troubled("json");
    let told = || -> Vec<Value> {
        lines(&home.outside("log")).iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    for wanted in [
        serde_json::json!({ "level": "INFO", "event": "operation_started", "app": "shop", "operation": 1, "what": "up" }),
        serde_json::json!({ "level": "INFO", "event": "phase", "slot": "shop/web/1", "to": "healthy", "attempt": 1 }),
        serde_json::json!({ "level": "WARN", "event": "phase", "slot": "shop/crash/1", "to": "failed", "exit": "exit 3", "attempt": 2 }),
        serde_json::json!({ "level": "WARN", "event": "reacted", "slot": "shop/sick/1", "probe": "liveness", "action": "restart", "times": 1 }),
        serde_json::json!({ "level": "ERROR", "event": "phase", "slot": "shop/sick/1", "to": "needs_attention" }),
        serde_json::json!({ "level": "INFO", "event": "phase", "slot": "shop/web/1", "from": "stopping", "to": "stopped" }),
        serde_json::json!({ "level": "INFO", "event": "operation_ended", "outcome": "reached" }),
    ] {
        let of = |record: &Value, name: &str| match name {
            "level" => record["level"].clone(),
            name => record["fields"][name].clone(),
        };
        let is_it = |record: &Value| {
            wanted.as_object().unwrap().iter().all(|(name, value)| of(record, name) == *value)
        };
        eventually(&format!("{wanted} is told"), || told().iter().any(is_it));
    }
    let steps = told().iter().any(|record| record["level"] == "DEBUG");
    assert!(!steps, "the steps in between are told to whoever asks for them");
    ends(&home, daemon);
}

fn text() {
    let (home, daemon) = troubled("text");
    for wanted in [
        &["INFO upbeat::events: web-1: starting → healthy", "slot=shop/web/1", "attempt=1"][..],
        &["WARN upbeat::events: crash-1: ", " → failed (exit 3): ", "from=", "to=failed", "exit=\"exit 3\""],
        &["WARN upbeat::events: sick-1: probe `liveness` failed → restart: ", "no luck", "probe=liveness"],
        &["ERROR upbeat::events: sick-1: ", "to=needs_attention", "a person has to look"],
        &["INFO upbeat::events: operation 1: `up` by uid ", "event=operation_started"],
    ] {
        let has = |line: &String| wanted.iter().all(|part| line.contains(part));
        eventually(&format!("{wanted:?} is told"), || lines(&home.outside("log")).iter().any(has));
    }
    ends(&home, daemon);
}

fn syslog() {
    let mut home =
        Home::with("name: shop\nservices:\n  web: { command: [sh, -c, 'exit 4'], restart: 'no' }\n");
    let path = home.outside("log");
    let socket = UnixDatagram::bind(&path).unwrap();
    home.set("UPBEAT_LOG_FORMAT", "syslog");
    home.set("UPBEAT_LOG_TARGET", path.display().to_string());
    home.run(&["up", "-d"]);
    let mut datagram = vec![0; 1 << 16];
    let text = loop {
        let length = socket.recv(&mut datagram).unwrap();
        let text = String::from_utf8(datagram[..length].to_vec()).unwrap();
        if text.contains(" → failed") {
            break text;
        }
    };
    // Facility `daemon`, severity `warning`.
    assert!(text.starts_with("<28>1 ") && text.contains(" upbeat "), "{text}");
    assert!(text.contains("[upbeat@32473 event=\"phase\" app=\"shop\" slot=\"shop/web/1\" "), "{text}");
    assert!(text.contains(" to=\"failed\"") && text.contains(" exit=\"exit 4\""), "{text}");
}
