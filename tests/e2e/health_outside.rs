//! What runs elsewhere, and what says of itself how it is.

use crate::crash::nothing_is_left;
use crate::home::{Home, eventually, is_alive, lines};
use crate::stand_in::command;
use crate::{Journey, Need};

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        Journey {
            name: "an external service is started, asked and stopped, and not started twice",
            needs: &[],
            run: external,
        },
        Journey {
            name: "redis runs under the protocol of systemd, unchanged",
            needs: &[Need::Redis],
            run: redis,
        },
        Journey { name: "what is said while the daemon is dead counts", needs: &[], run: unheard },
        Journey { name: "who stops saying that it lives is restarted", needs: &[], run: silent },
    ]
}

/// Stands in for `systemctl`: what it starts is there as long as there is a file of its name.
const SYSTEMCTL: &str = r#"#!/bin/sh
echo "$1 $2" >> calls
case $1 in
start) while [ -e held ]; do sleep 0.05; done; : > "$2.unit" ;;
stop) rm -f "$2.unit" ;;
is-active) test -e "$2.unit" ;;
esac
"#;

fn external() {
    let home = Home::with(
        r#"services:
  nginx:
    command: [./systemctl, start, nginx]
    stop_command: [./systemctl, stop, nginx]
    reload: { command: [./systemctl, reload, nginx] }
    external: true
    probes:
      readiness: { file: nginx.unit, interval: 50ms, timeout: 1m, failure_threshold: 1 }
      liveness: { exec: [./systemctl, is-active, nginx], interval: 50ms, timeout: 1m, failure_threshold: 3 }
  web: { command: [sleep, '600'], depends_on: { nginx: { condition: service_healthy } } }
"#,
    );
    home.write("systemctl", SYSTEMCTL);
    assert!(home.shell("chmod +x systemctl").status().unwrap().success());
    let calls = || -> Vec<String> {
        let all = lines(&home.project().join("calls"));
        all.into_iter().filter(|call| !call.starts_with("is-active")).collect()
    };
    home.run(&["up", "-d", "--wait"]).ok();
    assert_eq!(calls(), ["start nginx"]);
    assert!(home.slots()["nginx-1"]["pid"].is_null(), "no process of it is known");
    home.kill_daemon();
    home.run(&["ps"]).ok();
    eventually("it is seen to live", || home.slots()["nginx-1"]["probes"]["liveness"]["last"].is_string());
    home.run(&["wait", "nginx"]).ok();
    home.run(&["up", "-d", "--wait"]).ok();
    assert_eq!(calls(), ["start nginx"], "what is there is not started again");
    home.run(&["reload", "nginx"]).ok();
    assert_eq!(calls()[1..], ["reload nginx"]);
    // It goes down elsewhere: it is stopped, to be sure, and started again.
    std::fs::remove_file(home.project().join("nginx.unit")).unwrap();
    eventually("it is started again", || calls().len() == 4);
    home.run(&["wait", "nginx"]).ok();
    assert_eq!(calls()[2..], ["stop nginx", "start nginx"]);
    // A start that a killed daemon did not see the end of is made again.
    home.run(&["stop"]).ok();
    assert_eq!(calls()[4..], ["stop nginx"]);
    home.write("held", "");
    let mut start = home.spawn(&["start"]);
    eventually("it is being started", || calls().len() == 6);
    home.kill_daemon();
    home.run(&["ps"]).ok();
    eventually("it is being started again", || calls().len() == 7);
    std::fs::remove_file(home.project().join("held")).unwrap();
    home.run(&["wait", "web"]).ok();
    assert!(start.child.wait().unwrap().success());
    assert_eq!(calls()[5..], ["start nginx", "start nginx"]);
    home.run(&["down"]).ok();
    assert_eq!(calls()[7..], ["stop nginx"]);
    assert!(!home.project().join("nginx.unit").exists());
    nothing_is_left(&home);
}

fn redis() {
    let home = Home::new();
    let socket = home.outside("redis.sock");
    home.write(
        "upbeat.yaml",
        &format!(
            "services:\n  redis:\n    command: [redis-server, --port, '0', --unixsocket, '{socket}', --supervised, systemd, --save, '']\n    \
             probes:\n      readiness: {{ notify: true }}\n      open: {{ unix: '{socket}', interval: 50ms, timeout: 1m }}\n  \
             web: {{ command: [sleep, '600'], depends_on: {{ redis: {{ condition: service_healthy }} }} }}\n",
            socket = socket.display()
        ),
    );
    home.run(&["up", "-d", "--wait"]).ok();
    let slots = home.slots();
    assert_eq!(
        (&slots["redis-1"]["phase"], &slots["web-1"]["phase"]),
        (&"healthy".into(), &"running".into())
    );
    let ready = &slots["redis-1"]["probes"]["readiness"];
    assert_eq!((&ready["passing"], &ready["last"]), (&true.into(), &"it said READY=1".into()));
    assert_eq!(slots["redis-1"]["says"], "Ready to accept connections");
    eventually("it can be used", || home.slots()["redis-1"]["probes"]["open"]["passing"] == true);
    let pid = home.pid("redis-1");
    home.kill_daemon();
    home.run(&["ps"]).ok();
    home.run(&["wait", "redis"]).ok();
    assert_eq!(home.pid("redis-1"), pid);
    assert_eq!(home.slots()["redis-1"]["says"], "Ready to accept connections", "as its shim remembers");
    home.run(&["down"]).ok();
    assert!(!is_alive(pid) && !socket.exists());
    nothing_is_left(&home);
}

fn unheard() {
    let says = command(&["await", "go", "say", "STATUS=all warm\nREADY=1", "touch", "said", "forever"]);
    let home = Home::with(&format!(
        "services:\n  web: {{ command: {says}, healthcheck: {{ notify: true }} }}\n  \
         after: {{ command: [sleep, '600'], depends_on: {{ web: {{ condition: service_healthy }} }} }}\n"
    ));
    home.run(&["up", "-d", "--wait-timeout", "1"]);
    eventually("it has not said so", || home.phase("web-1") == "starting");
    let pid = home.pid("web-1");
    home.kill_daemon();
    home.write("go", "");
    eventually("it has said so", || home.project().join("said").exists());
    home.run(&["ps"]).ok();
    home.run(&["wait", "after"]).ok();
    let web = &home.slots()["web-1"];
    assert_eq!(
        (&web["phase"], &web["says"], &web["pid"]),
        (&"healthy".into(), &"all warm".into(), &pid.into())
    );
}

fn silent() {
    let beats = command(&["say", "READY=1", "beat", "quiet", "forever"]);
    let home = Home::with(&format!(
        "services:\n  web: {{ command: {beats}, probes: {{ liveness: {{ watchdog: 2s }}, readiness: {{ notify: true }} }} }}\n"
    ));
    home.run(&["up", "-d", "--wait"]).ok();
    eventually("it is seen to live", || home.slots()["web-1"]["probes"]["liveness"]["passing"] == true);
    let pid = home.pid("web-1");
    home.write("quiet", "");
    eventually("it is stopped", || !is_alive(pid));
    std::fs::remove_file(home.project().join("quiet")).unwrap();
    eventually("it lives again", || {
        let web = &home.slots()["web-1"];
        web["phase"] == "healthy" && web["pid"] != pid && web["probes"]["liveness"]["passing"] == true
    });
    let events = home.run(&["events"]).ok().stdout;
    assert!(events.contains("it has not said WATCHDOG=1 for 2s"), "{events}");
}
