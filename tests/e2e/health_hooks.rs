//! What is run around a copy: hooks, a reload, and the end of the app with one of its services.

use crate::Journey;
use crate::crash::nothing_is_left;
use crate::home::{Home, eventually, is_alive, lines};

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        Journey { name: "hooks are run around a copy, in order", needs: &[], run: order },
        Journey {
            name: "a hook whose daemon was killed is run again under the same key",
            needs: &[],
            run: keys,
        },
        Journey { name: "a start whose pre_start fails has failed", needs: &[], run: failing },
        Journey { name: "a hook that takes longer than it may has failed", needs: &[], run: late },
        Journey { name: "a copy reads its configuration anew, or says why not", needs: &[], run: reloads },
        Journey {
            name: "an app ends with one of its services, in order, and `up` with its status",
            needs: &[],
            run: ends,
        },
        Journey {
            name: "an app ends with one of its services though the daemon is killed",
            needs: &[],
            run: ends_all_the_same,
        },
        Journey {
            name: "an end that a killed daemon saw is acted upon once, and not after the next `up`",
            needs: &[],
            run: ends_after_a_crash,
        },
        Journey {
            name: "`up --wait` does not wait for what nobody expects",
            needs: &[],
            run: expects_no_failure,
        },
    ]
}

fn order() {
    let home = Home::with(
        r#"services:
  web:
    command: [sh, -c, "trap 'echo signal >> order; exit 7' TERM; echo web >> order; while :; do sleep 0.05; done"]
    environment: { WHO: web }
    healthcheck: { exec: [grep, -q, web, order], interval: 50ms }
    pre_start:
      - command: [sh, -c, 'echo first $$WHO >> order']
      - { command: [sh, -c, 'echo second $$WHO >> ../order'], environment: { WHO: hook }, working_dir: sub }
    pre_stop: [{ command: [sh, -c, 'echo before >> order'] }]
    post_stop:
      - command: [sh, -c, 'echo after $$UPBEAT_SLOT $$UPBEAT_EXIT_CODE: $$UPBEAT_EXIT >> order; exit 9']
      - command: [sh, -c, 'echo last >> order']
name: shop
"#,
    );
    std::fs::create_dir(home.project().join("sub")).unwrap();
    home.run(&["up", "-d", "--wait"]).ok();
    home.run(&["stop"]).ok();
    let order = lines(&home.project().join("order"));
    let expected =
        ["first web", "second hook", "web", "before", "signal", "after shop/web/1 7: exit 7", "last"];
    assert_eq!(order, expected);
    home.run(&["down"]).ok();
    nothing_is_left(&home);
}

fn keys() {
    let home = Home::with(
        r#"services:
  web:
    command: [sleep, '600']
    pre_start: [{ command: [sh, -c, 'echo $$UPBEAT_IDEMPOTENCY_KEY >> begun; while [ ! -e go ]; do sleep 0.05; done'] }]
    post_stop: [{ command: [sh, -c, 'echo $$UPBEAT_IDEMPOTENCY_KEY $$UPBEAT_EXIT_SIGNAL >> ended; while [ ! -e rest ]; do sleep 0.05; done'] }]
    stop_grace_period: 10m
"#,
    );
    let (begun, ended) = (home.project().join("begun"), home.project().join("ended"));
    let mut up = home.spawn(&["up", "-d"]);
    eventually("the first hook runs", || lines(&begun).len() == 1);
    assert_eq!(home.phase("web-1"), "starting");
    home.kill_daemon();
    home.run(&["ps"]).ok();
    eventually("it is run again", || lines(&begun).len() == 2);
    home.write("go", "");
    home.run(&["wait", "web"]).ok();
    let _ = up.child.wait().unwrap();
    let mut stop = home.spawn(&["stop"]);
    eventually("the last hook runs", || lines(&ended).len() == 1);
    assert_eq!(home.phase("web-1"), "stopping");
    home.kill_daemon();
    home.run(&["ps"]).ok();
    eventually("it is run again", || lines(&ended).len() == 2);
    home.write("rest", "");
    eventually("it has stopped", || home.phase("web-1") == "stopped");
    let _ = stop.child.wait().unwrap();
    home.run(&["start"]).ok();
    home.run(&["stop"]).ok();
    let (begun, ended) = (lines(&begun), lines(&ended));
    assert_eq!((begun.len(), ended.len()), (3, 3), "{begun:?} {ended:?}");
    assert_eq!((&begun[0], &ended[0]), (&begun[1], &ended[1]));
    assert_ne!(begun[0], begun[2]);
    assert_ne!(ended[0], ended[2]);
    assert_ne!(begun[2], ended[2]);
    assert!(ended[0].ends_with(" 15"), "{ended:?}");
}

/// The one behind it has all its time.
fn late() {
    let home = Home::with(
        "services:\n  web:\n    command: [sh, -c, 'echo x >> ran; exec sleep 600']\n    stop_grace_period: 10m\n    \
         pre_start: [{ command: [sh, -c, 'echo $$$$ > pid; echo hangs; test -e good || sleep 600'], timeout: 300ms }]\n    \
         pre_stop: [{ command: [sh, -c, 'echo x >> drained; sleep 600'], timeout: 300ms }, { command: [sh, -c, 'echo x >> next'] }]\n",
    );
    let up = home.run(&["up", "-d", "--wait"]);
    assert_eq!(up.code, 1, "{up:?}");
    let why = home.run(&["why", "web"]).ok().stdout;
    assert!(why.contains("could not start: pre_start: `sh`: timed out after 300ms: hangs"), "{why}");
    assert_eq!(home.read("ran"), "");
    let pid: i32 = home.read("pid").trim().parse().unwrap();
    assert!(!is_alive(pid));
    home.write("good", "");
    home.run(&["up", "-d", "--wait"]).ok();
    home.run(&["stop"]).ok();
    let told = ["ran", "drained", "next"].map(|name| home.read(name));
    assert_eq!(told, ["x\n"; 3].map(str::to_owned));
    home.run(&["down"]).ok();
    nothing_is_left(&home);
}

fn failing() {
    let home = Home::with(
        "services:\n  web:\n    command: [sh, -c, 'echo x >> ran; exec sleep 600']\n    \
         pre_start: [{ command: [sh, -c, 'echo no luck; test -e good || exit 3'] }, { command: [sh, -c, 'echo x >> next'] }]\n  \
         after: { command: [sleep, '600'], depends_on: [web] }\n",
    );
    let up = home.run(&["up", "-d", "--wait"]);
    assert_eq!(up.code, 7, "{up:?}");
    assert_eq!(home.phase("web-1"), "failed");
    let why = home.run(&["why", "web"]).ok().stdout;
    assert!(why.contains("could not start: pre_start: `sh`: exit 3: no luck"), "{why}");
    assert_eq!((home.read("ran"), home.read("next")), (String::new(), String::new()));
    home.write("good", "");
    home.run(&["up", "-d", "--wait"]).ok();
    assert_eq!(home.phase("after-1"), "running");
    home.run(&["down"]).ok();
    nothing_is_left(&home);
}

fn reloads() {
    let home = Home::with(
        r#"services:
  signalled:
    command: [sh, -c, "trap 'echo hup >> hups' HUP; echo x >> ready; while :; do sleep 0.05; done"]
    healthcheck: { exec: [test, -e, ready], interval: 50ms }
    reload: SIGHUP
  commanded:
    command: [sleep, '600']
    reload: { command: [sh, -c, 'echo $$UPBEAT_IDEMPOTENCY_KEY >> reloaded; test ! -e bad || { echo bad syntax; exit 3; }'] }
  plain: { command: [sleep, '600'] }
  deaf: { command: [sleep, '600'], reload: SIGHUP }
"#,
    );
    home.run(&["up", "-d", "--wait"]).ok();
    let pids = || ["signalled-1", "commanded-1", "plain-1", "deaf-1"].map(|slot| home.pid(slot));
    let before = pids();
    home.run(&["reload", "signalled", "commanded"]).ok();
    eventually("it has heard", || home.read("hups") == "hup\n");
    assert_eq!(home.read("reloaded").lines().count(), 1);
    home.write("bad", "");
    let ran = home.run(&["reload", "commanded"]).code(1);
    assert!(format!("{}{}", ran.stdout, ran.stderr).contains("`sh`: exit 3: bad syntax"), "{ran:?}");
    let why = home.run(&["why", "commanded"]).ok().stdout;
    assert!(why.contains("read its configuration anew: `sh`: exit 3: bad syntax"), "{why}");
    std::fs::remove_file(home.project().join("bad")).unwrap();
    home.run(&["reload", "commanded"]).ok();
    let keys = lines(&home.project().join("reloaded"));
    assert!(keys.len() == 3 && keys[0] != keys[1] && keys[1] != keys[2], "{keys:?}");
    // A signal that would end it reloads nothing, and is not sent.
    let deaf = "SIGHUP would end it: it has no handler for that signal";
    let ran = home.run(&["reload", "deaf"]).code(1);
    assert!(format!("{}{}", ran.stdout, ran.stderr).contains(deaf), "{ran:?}");
    let why = home.run(&["why", "deaf"]).ok().stdout;
    assert!(why.contains(&format!("read its configuration anew: {deaf}")), "{why}");
    let ran = home.run(&["reload", "plain"]).code(2);
    assert!(ran.stderr.contains("plain") && ran.stderr.contains("reload"), "{ran:?}");
    assert_eq!(pids(), before, "nobody was restarted");
    home.run(&["down"]).ok();
    nothing_is_left(&home);
}

/// A job that ends the app, and two services that say when they are stopped.
fn with_job(job: &str) -> Home {
    let home = Home::with(&format!(
        r#"services:
  db: {{ command: [sh, note.sh, db], healthcheck: {{ log: up }} }}
  web: {{ command: [sh, note.sh, web], healthcheck: {{ log: up }}, depends_on: {{ db: {{ condition: service_healthy }} }} }}
  job:
    command: [sh, -c, '{job}']
    exit_on_end: true
    depends_on: {{ web: {{ condition: service_healthy }} }}
"#
    ));
    home.write(
        "note.sh",
        "trap 'echo \"$1\" >> order; exit 0' TERM\necho up\nwhile :; do sleep 0.05; done\n",
    );
    home
}

fn ends() {
    for (job, code, how) in [
        ("exit 0", 0, "exit 0"),
        ("echo no luck; exit 5", 5, "exit 5"),
        ("kill -9 $$$$", 137, "killed by SIGKILL"),
        ("exec ./nothing", 127, "exit 127"),
    ] {
        let home = with_job(job);
        let ran = home.run(&["up"]).code(code);
        assert_eq!(lines(&home.project().join("order")), ["web", "db"], "{job}: {ran:?}");
        for slot in ["db-1", "web-1", "job-1"] {
            assert_eq!(home.phase(slot), "stopped");
        }
        let events = home.run(&["events"]).ok().stdout;
        assert!(events.contains(&format!("`exit_on_end` of job-1: {how}")), "{events}");
        assert!(ran.stderr.contains(&format!("`project` ended with job-1: {how}\n")), "{}", ran.stderr);
        for service in ["job", "web"] {
            let why = home.run(&["why", service]).ok().stdout;
            assert!(why.contains(&format!("(`exit_on_end` of job-1: {how})")), "{why}");
            assert_eq!(why.contains("no luck"), job.contains("no luck"), "{why}");
        }
        home.run(&["down"]).ok();
        nothing_is_left(&home);
    }
    // Alone: nothing else is there that could be seen to be stopped.
    let home = Home::with("services:\n  job: { command: [sh, -c, 'exit 6'], exit_on_end: true }\n");
    home.run(&["up"]).code(6);
    home.run(&["up"]).code(6);
    assert_eq!(home.slots()["job-1"]["exit"], serde_json::json!({ "code": 6 }), "its own end is on record");
    // One that never ran: there is nothing but what is said of it.
    let home = Home::with(
        "services:\n  tests: { command: [./nope], exit_on_end: true }\n  web: { command: [sleep, '600'] }\n",
    );
    let said = home.run(&["up"]).code(1).stderr;
    assert!(said.contains("ended with tests-1: could not start: ") && said.contains("./nope"), "{said}");
    for service in ["tests", "web"] {
        let why = home.run(&["why", service]).ok().stdout;
        assert!(why.contains("of tests-1: could not start: ") && why.contains("./nope"), "{why}");
    }
}

fn ends_all_the_same() {
    let home = with_job("while [ ! -e go ]; do sleep 0.02; done; exit 5");
    home.run(&["up", "-d", "--wait"]).ok();
    home.kill_daemon();
    home.write("go", "");
    home.run(&["ps"]).ok();
    for slot in ["db-1", "web-1", "job-1"] {
        eventually(&format!("{slot} is stopped"), || home.phase(slot) == "stopped");
    }
    assert_eq!(lines(&home.project().join("order")), ["web", "db"]);
    // Somebody starts it again: it is not stopped for what ended before.
    std::fs::remove_file(home.project().join("go")).unwrap();
    home.run(&["start"]).ok();
    home.kill_daemon();
    home.run(&["wait", "--for=running", "job"]).ok();
    assert_eq!(home.phase("db-1"), "healthy");
}

/// The daemon sees the end, and dies before it has asked for the stop.
fn ends_after_a_crash() {
    let seen = |home: &mut Home| {
        let marker = home.outside("marker");
        home.set("UPBEAT_FAILPOINT", format!("end_seen:{}", marker.display()));
        home.run(&["up", "-d", "--wait"]).ok();
        home.unset("UPBEAT_FAILPOINT");
        let daemon = home.daemon().unwrap();
        home.write("go", "");
        eventually("it has died", || marker.exists() && !is_alive(daemon));
        assert!(lines(&home.project().join("order")).is_empty(), "nothing was stopped yet");
    };
    let job = "while [ ! -e go ]; do sleep 0.02; done; exit 5";
    let mut home = with_job(job);
    seen(&mut home);
    // Whoever only looks wakes a daemon that makes up for it.
    for slot in ["db-1", "web-1", "job-1"] {
        eventually(&format!("{slot} is stopped"), || home.phase(slot) == "stopped");
    }
    assert_eq!(lines(&home.project().join("order")), ["web", "db"]);
    let ends = || home.run(&["events"]).ok().stdout.matches("` by `exit_on_end` of job-1").count();
    assert_eq!(ends(), 1);
    home.kill_daemon();
    home.run(&["plan"]).ok();
    assert_eq!(ends(), 1, "it is over");
    // Somebody wants it all to run before that: it does, whatever the next daemon sees first.
    let mut home = with_job(job);
    seen(&mut home);
    std::fs::remove_file(home.project().join("go")).unwrap();
    home.run(&["up", "-d", "--wait"]).ok();
    home.kill_daemon();
    home.run(&["wait", "--for=running", "job"]).ok();
    for (slot, phase) in [("db-1", "healthy"), ("web-1", "healthy"), ("job-1", "running")] {
        assert_eq!(home.phase(slot), phase);
    }
}

/// `tell` waits for what nobody expects, and nobody waits for it.
fn expects_no_failure() {
    let home = Home::with(
        "services:
  web: { command: [sh, -c, 'echo up; read end < end; exit 3'], healthcheck: { log: up } }
  tell: { command: [sh, -c, 'echo told > told'], depends_on: { web: { condition: service_failed } } }
  after: { command: [sh, -c, 'echo after > after'], depends_on: { web: { condition: service_completed } } }
",
    );
    home.shell("mkfifo end").output().unwrap();
    for ask in [&["up", "--wait"][..], &["up", "-d"], &["restart"], &["up", "-d", "--wait"]] {
        let ran = home.run(ask).ok();
        for words in ["tell-1   waits for web to fail (web-1 is", "after-1  waits for web to end (web-1 is"] {
            assert!(ran.stdout.contains(words), "{ask:?}: {ran:?}");
        }
    }
    assert_eq!((home.phase("tell-1"), home.phase("after-1")), ("waiting".into(), "waiting".into()));
    // What was not expected happens.
    home.shell("echo > end").output().unwrap();
    eventually("they have run", || !home.read("told").is_empty() && !home.read("after").is_empty());
}
