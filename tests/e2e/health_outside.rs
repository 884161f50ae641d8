//! What runs elsewhere, and what says of itself how it is.

use crate::crash::{nothing_is_left, parent};
use crate::home::{Home, eventually, is_alive, kill, lines};
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
            needs: &[Need::REDIS],
            run: redis,
        },
        Journey { name: "what is said while the daemon is dead counts", needs: &[], run: unheard },
        Journey {
            name: "who says that it reloads, or ends, and how it is, is told so by `ps` and `why`",
            needs: &[],
            run: said,
        },
        Journey {
            name: "what the command of an external service leaves behind is that service, whoever dies",
            needs: &[],
            run: left_behind,
        },
        Journey {
            name: "a command that hangs while it starts something elsewhere is ended when that is to be stopped",
            needs: &[],
            run: hangs,
        },
        Journey {
            name: "who hangs before its first word is restarted where nobody waits for it to be ready",
            needs: &[],
            run: speechless,
        },
        Journey { name: "who stops saying that it lives is restarted", needs: &[], run: silent },
        Journey {
            name: "what was done in vain is told, and what cannot be stopped is given up",
            needs: &[],
            run: in_vain,
        },
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

/// What a daemon in the background prints is read by nobody in particular, and it says so without end.
const DAEMON_CONTROL: &str = r#"#!/bin/sh
begin() { setsid sh -c 'echo $$ >> daemons; : > unit; while :; do echo still here; sleep 0.02; done' & }
case $1 in
start)
    echo $$ >> starts
    begin
    while [ ! -e unit ] || [ -e held ]; do sleep 0.02; done ;;
stop)
    pid=$(tail -n 1 daemons)
    kill "$pid" 2>/dev/null
    while kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
    rm -f unit ;;
reload)
    pid=$(tail -n 1 daemons)
    begin
    while [ "$(tail -n 1 daemons)" = "$pid" ]; do sleep 0.02; done
    kill "$pid" ;;
linger)
    setsid sleep 600 &
    echo $! > lingers ;;
alive) kill -0 "$(tail -n 1 daemons)" ;;
esac
"#;

fn left_behind() {
    let home = Home::with(
        r#"services:
  db:
    command: [./control, start]
    stop_command: [./control, stop]
    reload: { command: [./control, reload] }
    pre_stop: [{ command: [./control, linger] }]
    external: true
    probes:
      readiness: { file: unit, interval: 50ms, timeout: 1m }
      liveness: { exec: [./control, alive], interval: 50ms, timeout: 1m }
  web: { command: [sleep, '600'] }
"#,
    );
    home.write("control", DAEMON_CONTROL);
    assert!(home.shell("chmod +x control").status().unwrap().success());
    let pids = |file: &str| -> Vec<i32> {
        lines(&home.project().join(file)).iter().map(|line| line.parse().unwrap()).collect()
    };
    home.run(&["up", "-d", "--wait"]).ok();
    let daemon = pids("daemons")[0];
    home.kill_daemon();
    home.run(&["ps"]).ok();
    eventually("it is seen to live", || home.slots()["db-1"]["probes"]["liveness"]["passing"] == true);
    assert!(is_alive(daemon) && pids("daemons").len() == 1);
    // One that reads its configuration by being replaced.
    home.run(&["reload", "db"]).ok();
    eventually("the old one is gone", || !is_alive(daemon));
    assert!(is_alive(pids("daemons")[1]));
    home.run(&["down"]).ok();
    assert!(!is_alive(pids("daemons")[1]));
    assert!(!is_alive(pids("lingers")[0]), "of a hook nothing is left");
    eventually("nobody listens to it any more", || {
        let zygote_or_daemon =
            |pid| home.daemon().is_some_and(|daemon| pid == daemon || parent(pid) == daemon);
        home.leftovers().into_iter().all(|(pid, _)| !is_alive(pid) || zygote_or_daemon(pid))
    });
    nothing_is_left(&home);
    // While it is being started, its daemon is killed; then its daemon and its shim.
    home.write("held", "");
    let mut ups = vec![home.spawn(&["up", "-d"])];
    for with_shim in [false, true] {
        let count = pids("daemons").len() + 1;
        eventually("it is being started", || pids("daemons").len() == count);
        let shim = parent(*pids("starts").last().unwrap());
        if with_shim {
            // It does not see to it before it dies.
            kill(shim, 19);
        }
        home.kill_daemon();
        if with_shim {
            kill(shim, 9);
        }
        ups.push(home.spawn(&["up", "-d"]));
    }
    eventually("it is being started again", || pids("daemons").len() == 5);
    assert!(pids("daemons")[2..4].iter().all(|pid| !is_alive(*pid)), "never two at a time");
    std::fs::remove_file(home.project().join("held")).unwrap();
    home.run(&["wait", "db"]).ok();
    for mut up in ups {
        let _ = up.child.wait().unwrap();
    }
    assert!(is_alive(pids("daemons")[4]));
    home.run(&["down"]).ok();
    assert!(!is_alive(pids("daemons")[4]) && pids("daemons").len() == 5);
}

/// Says of its stop command whether anything of its start command runs beside it.
const HANGS: &str = r#"#!/bin/sh
case $1 in
start)
    setsid sleep 600 &
    echo $! >> begun
    echo $$ >> begun
    while :; do sleep 0.05; done ;;
stop)
    for pid in $(cat begun); do kill -0 "$pid" 2>/dev/null && echo beside "$pid" >> stops; done
    echo stopped >> stops ;;
esac
"#;

fn hangs() {
    let home = Home::with(
        "services:\n  far: { command: [./control, start], stop_command: [./control, stop], external: true, \
         probes: { readiness: { file: unit } } }\n",
    );
    home.write("control", HANGS);
    assert!(home.shell("chmod +x control").status().unwrap().success());
    let of = |file: &str| lines(&home.project().join(file));
    for (times, stop) in [&["stop"][..], &["stop", "--kill"], &["down"]].into_iter().enumerate() {
        let mut up = home.spawn(&["up", "-d"]);
        eventually("it is being started", || of("begun").len() == 2 * (times + 1));
        home.run(stop).ok();
        assert_eq!(of("stops"), vec!["stopped"; times + 1], "{stop:?}");
        let _ = up.child.wait().unwrap();
    }
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

fn said() {
    let web = command(&[
        "say",
        "STATUS=warm\nREADY=1",
        "await",
        "anew",
        "say",
        "STATUS=reading\nRELOADING=1",
        "await",
        "read",
        "say",
        "STATUS=warm again\nREADY=1",
        "await",
        "end",
        "say",
        "STATUS=saving\nSTOPPING=1",
        "await",
        "over",
    ]);
    let home = Home::with(&format!(
        "services:\n  web: {{ command: {web}, healthcheck: {{ notify: true }}, stop_grace_period: 10m, restart: 'no' }}\n  \
         late: {{ command: [sleep, '600'], profiles: [late], depends_on: {{ web: {{ condition: service_healthy }} }} }}\n"
    ));
    home.run(&["up", "-d", "--wait"]).ok();
    let (anew, ends) = ("has said that it reads its configuration anew", "has said that it is about to end");
    let why = || home.run(&["why", "web"]).ok().stdout;
    let reasons = || home.slots()["web-1"]["reasons"].to_string();
    let is = |phase: &str, says: &str| {
        let web = &home.slots()["web-1"];
        web["phase"] == phase && web["says"] == says
    };
    eventually("it says how it is", || is("healthy", "warm"));
    assert!(!why().contains("has said"), "{}", why());
    home.write("anew", "");
    eventually("it says that it reloads", || {
        is("healthy", "reading") && reasons().contains("says_reloading")
    });
    assert!(why().contains(anew), "{}", why());
    // So does the next daemon: its shim remembers.
    home.kill_daemon();
    home.run(&["ps"]).ok();
    eventually("it still does", || why().contains(anew) && is("healthy", "reading"));
    home.write("read", "");
    eventually("it has", || is("healthy", "warm again") && !reasons().contains("says_"));
    assert!(!why().contains("has said"), "{}", why());
    home.write("end", "");
    eventually("it says that it ends", || is("healthy", "saving") && reasons().contains("says_stopping"));
    assert!(why().contains(ends), "{}", why());
    let ps = home.run(&["ps"]).ok().stdout;
    assert!(ps.contains(ends), "{ps}");
    // Nothing is begun on what is about to end.
    let mut up = home.spawn(&["--profile", "late", "up", "-d", "--wait"]);
    eventually("the other waits", || {
        home.slots().get("late-1").is_some_and(|late| late["phase"] == "waiting")
    });
    home.write("over", "");
    eventually("it has ended", || {
        home.phase("web-1") == "completed" && home.slots()["web-1"]["says"].is_null()
    });
    assert!(!up.child.wait().unwrap().success(), "what it waits for does not come");
}

fn speechless() {
    let hangs = command(&["touch", "begun", "await", "go", "beat", "quiet", "forever"]);
    let home = Home::with(&format!(
        "services:\n  web: {{ command: {hangs}, probes: {{ liveness: {{ watchdog: 2s }} }} }}\n"
    ));
    home.run(&["up", "-d"]).ok();
    eventually("it has begun", || home.project().join("begun").exists());
    let pid = home.pid("web-1");
    eventually("it is stopped", || !is_alive(pid));
    home.write("go", "");
    eventually("it lives", || home.slots()["web-1"]["probes"]["liveness"]["passing"] == true);
    let events = home.run(&["events"]).ok().stdout;
    assert!(events.contains("it has not said WATCHDOG=1 for 2s"), "{events}");
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

fn in_vain() {
    let home = Home::with(
        r#"services:
  sick:
    command: [sleep, '600']
    reload: { command: [sh, -c, 'echo cannot read it; exit 4'] }
    probes:
      liveness:
        exec: [test, -e, well]
        interval: 50ms
        timeout: 1m
        on_failure: { action: exec, command: [sh, -c, 'echo the disk is full; exit 3'], max_attempts: 2, window: 1h }
  far:
    command: ['true']
    stop_command: [sh, -c, 'echo x >> tried; echo it is busy; exit 1']
    stop_grace_period: 1s
    external: true
    probes: { readiness: { exec: ['true'] } }
"#,
    );
    home.run(&["up", "-d"]);
    eventually("both remedies have failed", || {
        home.run(&["events", "sick"]).ok().stdout.matches("the disk is full").count() >= 2
    });
    eventually("a person has to look", || home.phase("sick-1") == "needs_attention");
    let why = home.run(&["why", "sick"]).ok().stdout;
    for words in ["has failed, too: ", "exit 3", "the disk is full", "a person has to look"] {
        assert!(why.contains(words), "{words} in {why}");
    }
    home.run(&["reload", "sick"]).code(1);
    let events = home.run(&["events", "--kind", "reloaded"]).ok().stdout;
    assert!(events.contains("cannot read it"), "{events}");
    home.write("well", "");
    eventually("all is well", || !home.run(&["why", "sick"]).ok().stdout.contains("the disk is full"));
    // Whatever runs elsewhere, and does not stop, is not ours to kill; nor is it said to be stopped.
    let stopped = home.run(&["stop", "far"]).code(1);
    assert!(format!("{}{}", stopped.stdout, stopped.stderr).contains("it is busy"), "{stopped:?}");
    assert_eq!(home.phase("far-1"), "needs_attention");
    let tried = || lines(&home.project().join("tried")).len();
    let before = tried();
    assert!(before > 1, "it was tried again");
    // Nor when the file does not speak of it any more.
    home.write("upbeat.yaml", "services:\n  sick: { command: [sleep, '600'] }\n");
    let up = home.run(&["up", "-d"]).code(1);
    assert!(format!("{}{}", up.stdout, up.stderr).contains("it is busy"), "{up:?}");
    assert!(home.run(&["why", "far"]).ok().stdout.contains("it is busy"));
    let before = tried();
    let down = home.run(&["down"]).code(1);
    assert!(format!("{}{}", down.stdout, down.stderr).contains("it is busy"), "{down:?}");
    assert_eq!(home.slots().len(), 1, "the other has gone: {:?}", home.slots().keys());
    let again = tried();
    assert!(again > before, "and was for whoever asked anew");
    home.run(&["down", "--kill"]).ok();
    assert!(tried() > again);
    nothing_is_left(&home);
}
