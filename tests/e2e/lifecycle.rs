//! One service through its life: start, stop, restart, scale, change, crash, give up.

use crate::Journey;
use crate::home::{Home, eventually, is_alive, kill, lines};

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        Journey { name: "a crashed service is started again at once", needs: &[], run: crash_restarts },
        Journey { name: "a service that keeps failing gives up after its bound", needs: &[], run: gives_up },
        Journey { name: "start, stop and restart do what they say", needs: &[], run: commands },
        Journey {
            name: "scaling adds and removes copies and leaves the rest alone",
            needs: &[],
            run: scales,
        },
        Journey { name: "a changed service is replaced and others are not", needs: &[], run: changes },
        Journey { name: "a completed one-shot is not run again by up", needs: &[], run: one_shot },
        Journey { name: "many clients at once neither start twice nor wedge", needs: &[], run: many_clients },
        Journey {
            name: "ctrl-c stops in reverse, and a killed client stops nothing",
            needs: &[],
            run: foreground,
        },
        Journey {
            name: "ctrl-c is heard though the daemon does not answer",
            needs: &[],
            run: ctrl_c_without_an_answer,
        },
        Journey { name: "health checks by http, tcp and command", needs: &[], run: probes },
        Journey { name: "a stop command runs before the signal", needs: &[], run: stop_command },
        Journey { name: "hooks run after the start and before the stop", needs: &[], run: hooks },
        Journey { name: "a hook that fails is a start that failed", needs: &[], run: failing_hook },
        Journey { name: "hooks outlive the daemon: they are run again", needs: &[], run: hooks_again },
        Journey { name: "hooks that hang are mended by the file", needs: &[], run: mended_hooks },
        Journey { name: "who kills waits for no hook, and ends it", needs: &[], run: killed_hooks },
        Journey {
            name: "a listed status is a good end, and what is not attached is not shown",
            needs: &[],
            run: good_ends,
        },
        Journey { name: "a service is stopped by the signal its file names", needs: &[], run: stop_signal },
        Journey { name: "following logs outlives the daemon", needs: &[], run: logs_follow },
    ]
}

const SLEEPER: &str = "services:\n  web:\n    command: [sleep, \"600\"]\n    restart: always\n";

fn crash_restarts() {
    let home = Home::with(SLEEPER);
    home.run(&["up", "-d", "--wait"]).ok();
    let before = home.pid("web-1");
    kill(before, 9);
    eventually("it runs again", || {
        home.slots()["web-1"]["pid"].as_i64().is_some_and(|pid| pid as i32 != before)
    });
    let slot = &home.slots()["web-1"];
    assert_eq!(slot["attempt"], 2);
    assert_eq!(slot["exit"]["signal"], 9);
    let events = home.run(&["events"]).ok().stdout;
    assert!(events.contains("SIGKILL"), "{events}");
}

fn gives_up() {
    let home = Home::with(
        "services:\n  bad:\n    command: [sh, -c, \"echo attempt >> tries; exit 4\"]\n    restart: on-failure:1\n",
    );
    home.run(&["up", "-d"]);
    eventually("it has failed", || home.phase("bad-1") == "failed");
    assert_eq!(lines(&home.project().join("tries")).len(), 2);
    let why = home.run(&["why", "bad"]).ok().stdout;
    assert!(why.contains("on-failure:1") && why.contains("exit 4"), "{why}");
}

fn commands() {
    let home = Home::with(SLEEPER);
    home.run(&["up", "-d", "--wait"]).ok();
    let first = home.pid("web-1");
    home.run(&["start", "web"]).ok();
    assert_eq!(home.pid("web-1"), first, "start leaves what runs");
    home.run(&["restart", "web"]).ok();
    let second = home.pid("web-1");
    assert_ne!(second, first);
    assert!(!is_alive(first));
    home.run(&["stop", "web"]).ok();
    assert!(!is_alive(second));
    assert_eq!(home.phase("web-1"), "stopped");
    home.run(&["start", "web"]).ok();
    assert_eq!(home.phase("web-1"), "running");
    home.run(&["down"]).ok();
    assert!(home.slots().is_empty());
    let slots = home.state().join("slots");
    let left: Vec<_> = std::fs::read_dir(&slots).map(|dir| dir.flatten().collect()).unwrap_or_default();
    assert!(left.is_empty(), "{left:?}");
}

fn scales() {
    let home = Home::with(SLEEPER);
    home.run(&["up", "-d", "--wait"]).ok();
    let first = home.pid("web-1");
    home.run(&["scale", "web=3"]).ok();
    assert_eq!(home.slots().len(), 3);
    let third = home.pid("web-3");
    home.run(&["scale", "web=1"]).ok();
    assert_eq!(home.slots().len(), 1);
    assert!(!is_alive(third));
    assert_eq!(home.pid("web-1"), first);
}

fn changes() {
    let file = "services:\n  a: { command: [sleep, \"600\"] }\n  b: { command: [sleep, \"600\"] }\n";
    let home = Home::with(file);
    home.run(&["up", "-d", "--wait"]).ok();
    let (a, b) = (home.pid("a-1"), home.pid("b-1"));
    assert!(
        home.run(&["plan", "--detailed-exitcode"]).ok().stdout.contains("nothing"),
        "an empty plan says so"
    );
    home.write("upbeat.yaml", &file.replacen("\"600\"", "\"601\"", 1));
    let plan = home.run(&["plan", "--detailed-exitcode"]).code(9).stdout;
    assert!(plan.contains("a-1") && plan.contains("command") && !plan.contains("b-1"), "{plan}");
    home.run(&["up", "-d", "--wait"]).ok();
    assert_ne!(home.pid("a-1"), a);
    assert_eq!(home.pid("b-1"), b);
    // No longer declared: gone.
    home.write("upbeat.yaml", "services:\n  b: { command: [sleep, \"600\"] }\n");
    home.run(&["up", "-d", "--wait"]).ok();
    eventually("a is gone", || !home.slots().contains_key("a-1"));
    assert_eq!(home.pid("b-1"), b);
}

fn one_shot() {
    let home = Home::with(
        "services:\n  once: { command: [sh, -c, \"echo ran >> ran\"] }\n  web:\n    command: [sleep, \"600\"]\n    depends_on: { once: { condition: service_completed_successfully } }\n",
    );
    home.run(&["up", "-d", "--wait"]).ok();
    home.run(&["up", "-d", "--wait"]).ok();
    assert_eq!(lines(&home.project().join("ran")).len(), 1);
    home.run(&["start", "once"]).ok();
    assert_eq!(lines(&home.project().join("ran")).len(), 2);
    assert_eq!(home.phase("web-1"), "running");
}

/// Each copy takes a lock by making a directory; a second copy would find it there.
fn many_clients() {
    let home = Home::with(
        "services:\n  web:\n    command: [sh, one.sh]\n    restart: always\n    stop_grace_period: 2s\n",
    );
    home.write(
        "one.sh",
        "trap 'rmdir held; exit 0' TERM\nmkdir held || { echo twice >> twice; exit 1; }\nwhile :; do sleep 60 & wait $!; done\n",
    );
    home.run(&["up", "-d", "--wait"]).ok();
    let verbs = [["stop", "web"], ["start", "web"], ["restart", "web"], ["start", "web"], ["stop", "web"]];
    std::thread::scope(|scope| {
        for client in 0..6 {
            let (home, verbs) = (&home, &verbs);
            scope.spawn(move || {
                for round in 0..4 {
                    let verb = verbs[(client + round) % verbs.len()];
                    let ran = home.run(&verb);
                    assert!([0, 1, 4].contains(&ran.code), "{verb:?}: {ran:?}");
                }
            });
        }
    });
    home.run(&["start", "web"]).ok();
    assert_eq!(home.phase("web-1"), "running");
    assert_eq!(home.read("twice"), "");
    home.run(&["down"]).ok();
    assert_eq!(home.leftovers().iter().filter(|(_, name)| !name.starts_with("upbeat")).count(), 0);
}

fn foreground() {
    let file = "services:\n  a: { command: [sh, note.sh, a], healthcheck: { log: up } }\n  b:\n    command: [sh, note.sh, b]\n    depends_on: { a: { condition: service_healthy } }\n";
    let note =
        "trap 'echo \"-$1\" >> order; exit 0' TERM\necho up $$\nwhile :; do sleep 60 & wait $!; done\n";
    let home = Home::with(file);
    home.write("note.sh", note);
    let mut up = home.spawn(&["up"]);
    up.until(|line| line.contains("b-1") && line.contains("up"));
    up.signal(9);
    up.end();
    assert_eq!(home.phase("a-1"), "healthy", "a killed client stops nothing");
    let mut up = home.spawn(&["up"]);
    up.until(|line| line.contains("up"));
    up.signal(2);
    up.end().code(130);
    assert_eq!(lines(&home.project().join("order")), ["-b", "-a"]);
    // What earlier runs have printed is no part of this one.
    let mut up = home.spawn(&["up"]);
    let first = up.until(|line| line.contains("up "));
    assert!(first.trim_end().ends_with(&format!("up {}", home.pid("a-1"))), "{first}");
    up.signal(2);
    up.end().code(130);
}

fn ctrl_c_without_an_answer() {
    let home = Home::with("services:\n  web: { command: [sh, -c, \"echo up; exec sleep 600\"] }\n");
    let mut up = home.spawn(&["up"]);
    up.until(|line| line.contains("up"));
    let daemon = home.daemon().unwrap();
    kill(daemon, 19);
    eventually("it has ended", || {
        up.signal(2);
        up.child.try_wait().unwrap().is_some()
    });
    let ran = up.end();
    kill(daemon, 18);
    assert_eq!(ran.code, 130, "{ran:?}");
    for words in ["stopping `project`", "killing `project`", "not known whether `project` is killed"] {
        assert!(ran.stderr.contains(words), "{words}: {ran:?}");
    }
}

/// A server in this process stands for what the probes ask.
fn probes() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let healthy = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let answer = healthy.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let mut request = [0; 1024];
            if stream.read(&mut request).unwrap_or(0) > 0 {
                let ok = answer.load(std::sync::atomic::Ordering::SeqCst);
                let line = if ok { "200 OK" } else { "503 Service Unavailable" };
                let _ = write!(stream, "HTTP/1.1 {line}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            }
        }
    });
    let home = Home::with(&format!(
        "services:\n  http:\n    command: [sleep, \"600\"]\n    healthcheck: {{ http: \"http://127.0.0.1:{port}/health\", interval: 50ms, retries: 2 }}\n  tcp:\n    command: [sleep, \"600\"]\n    healthcheck: {{ tcp: \"127.0.0.1:{port}\", interval: 50ms }}\n  exec:\n    command: [sleep, \"600\"]\n    healthcheck: {{ test: [CMD, test, -e, ready], interval: 50ms }}\n"
    ));
    home.write("ready", "");
    home.run(&["up", "-d", "--wait"]).ok();
    assert!(home.slots().values().all(|slot| slot["phase"] == "healthy"), "{:?}", home.slots());
    healthy.store(false, std::sync::atomic::Ordering::SeqCst);
    eventually("http is unhealthy", || home.phase("http-1") == "unhealthy");
    let why = home.run(&["why", "http"]).ok().stdout;
    assert!(why.contains("503"), "{why}");
    assert_eq!(home.phase("tcp-1"), "healthy");
    healthy.store(true, std::sync::atomic::Ordering::SeqCst);
    home.run(&["wait", "--for=healthy", "http"]).ok();
}

fn stop_command() {
    let home = Home::with(
        "services:\n  web:\n    command: [sh, web.sh]\n    stop_command: [sh, -c, \"echo command >> order; echo > stop\"]\n",
    );
    home.write(
        "web.sh",
        "trap 'echo signal >> order; exit 0' TERM\nwhile [ ! -e stop ]; do sleep 0.05; done\necho ended >> order\n",
    );
    home.run(&["up", "-d", "--wait"]).ok();
    home.run(&["stop", "web"]).ok();
    let order = lines(&home.project().join("order"));
    assert_eq!(order[0], "command");
    assert!(order.contains(&"ended".to_owned()) || order.contains(&"signal".to_owned()), "{order:?}");
}

fn stop_signal() {
    let home = Home::with(
        "services:\n  web:\n    command: [sh, -c, \"trap 'exit 41' USR1; echo up; while :; do sleep 600 & wait; done\"]\n    stop_signal: SIGUSR1\n    healthcheck: { log: up }\n",
    );
    home.run(&["up", "-d", "--wait"]).ok();
    home.run(&["stop"]).ok();
    assert_eq!(home.slots()["web-1"]["exit"]["code"], 41);
}

fn logs_follow() {
    let home = Home::with(
        "services:\n  web: { command: [sh, -c, \"exec 3<> more; echo first; while read line <&3; do echo $$line; done\"], healthcheck: { log: first } }\n",
    );
    // The service holds both ends: no writer waits for it, and none that leaves ends its reading.
    let more = home.project().join("more");
    assert!(std::process::Command::new("mkfifo").arg(&more).status().unwrap().success());
    home.run(&["up", "-d", "--wait"]).ok();
    let mut logs = home.spawn(&["logs", "-f", "--no-prefix", "web"]);
    assert_eq!(logs.line().as_deref(), Some("first"));
    std::fs::write(&more, "second\n").unwrap();
    assert_eq!(logs.line().as_deref(), Some("second"));
    home.kill_daemon();
    std::fs::write(&more, "third\n").unwrap();
    assert_eq!(logs.line().as_deref(), Some("third"), "each line once, through the daemon's death");
    home.run(&["down"]).ok();
    assert_eq!(logs.end().code, 0, "it ends with the app");
}

/// Tells its order of events in a file beside the project file.
const HOOKED: &str = r#"services:
  web:
    command: [sh, -c, "trap 'echo signal >> order; exit 0' TERM; echo started >> order; echo up; while :; do sleep 600 & wait; done"]
    environment: { WHO: web }
    healthcheck: { log: up }
    post_start:
      - command: [sh, -c, "while ! grep -q started order; do sleep 0.02; done; echo warm $$WHO >> order"]
      - command: [sh, -c, "echo $$0 $$WHO $$(pwd) >> ../order", tell]
        environment: { WHO: hook }
        working_dir: sub
    pre_stop:
      - command: [sh, -c, "echo drain >> order"]
      - command: [sh, -c, "echo fails >> order; exit 3"]
    stop_command: [sh, -c, "echo stop command >> order"]
  after:
    command: [sh, -c, "echo after >> order; exec sleep 600"]
    depends_on: [web]
"#;

fn hooks() {
    let home = Home::with(HOOKED);
    std::fs::create_dir(home.project().join("sub")).expect("a directory");
    home.run(&["up", "-d", "--wait"]).ok();
    let order = home.project().join("order");
    eventually("the dependent has said so", || lines(&order).len() == 4);
    let sub = home.project().join("sub");
    let sub = std::fs::canonicalize(sub).expect("it is there");
    assert_eq!(lines(&order), ["started", "warm web", &format!("tell hook {}", sub.display()), "after"]);
    home.run(&["stop", "web"]).ok();
    assert_eq!(lines(&order)[4..], ["drain", "fails", "stop command", "signal"]);
}

fn failing_hook() {
    let home = Home::with(
        "services:\n  web:\n    command: [sleep, '600']\n    post_start: [{ command: [sh, -c, 'echo no luck; exit 3'] }]\n",
    );
    let up = home.run(&["up", "-d", "--wait"]);
    assert_eq!(up.code, 1, "{}", up.stderr);
    assert_eq!(home.phase("web-1"), "failed");
    let why = home.run(&["why", "web"]).ok().stdout;
    assert!(why.contains("could not start: post_start: `sh`: exit 3: no luck"), "{why}");
    assert!(home.slots()["web-1"]["pid"].is_null());
}

fn hooks_again() {
    let home = Home::with(
        "services:\n  web:\n    command: [sleep, '600']\n    post_start: [{ command: [sh, -c, 'echo $$$$ >> begun; while [ ! -e go ]; do sleep 0.05; done'] }]\n",
    );
    home.run(&["up", "-d"]).ok();
    let begun = home.project().join("begun");
    eventually("the hook runs", || lines(&begun).len() == 1);
    assert_eq!(home.phase("web-1"), "starting");
    let pid = home.pid("web-1");
    home.kill_daemon();
    let first: i32 = lines(&begun)[0].parse().expect("a number");
    eventually("the hook of a dead daemon has ended", || !is_alive(first));
    home.run(&["ps"]).ok();
    eventually("the next one runs it again", || lines(&begun).len() == 2);
    home.write("go", "");
    home.run(&["wait", "web"]).ok();
    assert_eq!((home.phase("web-1"), home.pid("web-1")), ("running".to_owned(), pid));
    let second: i32 = lines(&begun)[1].parse().expect("a number");
    eventually("it has ended", || !is_alive(second));
}

fn mended_hooks() {
    let file =
        |hooks: &str| format!("services:\n  web:\n    command: [sleep, '600']\n    post_start: [{hooks}]\n");
    for mended in ["{ command: ['true'] }", ""] {
        let home = Home::with(&file("{ command: [sh, -c, 'echo $$$$ >> begun; sleep 600'] }"));
        home.run(&["up", "-d"]).ok();
        let begun = home.project().join("begun");
        eventually("the hook runs", || lines(&begun).len() == 1);
        let (pid, hook) = (home.pid("web-1"), lines(&begun)[0].parse().expect("a number"));
        home.write("upbeat.yaml", &file(mended));
        home.run(&["up", "-d", "--wait"]).ok();
        assert_eq!(home.pid("web-1"), pid);
        eventually("the one that hung is gone", || !is_alive(hook));
    }
}

fn killed_hooks() {
    let home = Home::with(
        "services:\n  web:\n    command: [sleep, '600']\n    stop_grace_period: 10m\n    pre_stop: [{ command: [sh, -c, 'echo $$$$ >> begun; sleep 600'] }]\n",
    );
    home.run(&["up", "-d", "--wait"]).ok();
    let stop = home.spawn(&["stop"]);
    let begun = home.project().join("begun");
    eventually("the hook runs", || lines(&begun).len() == 1);
    home.run(&["stop", "--kill"]).ok();
    let hook = lines(&begun)[0].parse().expect("a number");
    eventually("it is gone", || !is_alive(hook));
    stop.end();
}

fn good_ends() {
    let home = Home::with(
        "services:\n  job: { command: [sh, -c, 'echo quiet job; exit 3'], success_exit_codes: 3, attach: false }\n  \
         then: { command: [echo, loud], depends_on: { job: { condition: service_completed_successfully } } }\n",
    );
    let up = home.run(&["up"]).ok();
    assert!(up.stdout.contains("loud") && !up.stdout.contains("quiet"), "{}", up.stdout);
    assert_eq!(home.phase("job-1"), "completed");
    assert!(home.run(&["logs", "job"]).ok().stdout.contains("quiet job"));
}
