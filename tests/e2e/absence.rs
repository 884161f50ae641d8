//! No daemon is there: what each command does then, and who may start one.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use crate::Journey;
use crate::home::{Home, eventually, is_alive, kill};

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        Journey {
            name: "a question wakes a daemon that died with services running",
            needs: &[],
            run: woken_by_a_question,
        },
        Journey {
            name: "down works without a daemon, and nothing comes back",
            needs: &[],
            run: down_without_a_daemon,
        },
        Journey { name: "a service cannot start the daemon it lives under", needs: &[], run: inside },
        Journey { name: "directories may be relative", needs: &[], run: relative },
        Journey {
            name: "many clients at once start one daemon, also while one is ending",
            needs: &[],
            run: crowd,
        },
        Journey {
            name: "a daemon that cannot start says why, and not what others said before",
            needs: &[],
            run: own_words,
        },
        Journey {
            name: "a change is made though the daemon dies again and again",
            needs: &[],
            run: stubborn_changes,
        },
    ]
}

const SLEEPER: &str = "services:\n  web: { command: [sleep, \"600\"] }\n";

fn woken_by_a_question() {
    for question in
        [&["ps", "-o", "json"][..], &["apps"], &["why", "web"], &["events"], &["logs"], &["graph"]]
    {
        let home = Home::with(SLEEPER);
        home.run(&["up", "-d", "--wait"]).ok();
        let pid = home.pid("web-1");
        home.kill_daemon();
        let asked = home.run(question).ok();
        assert!(asked.stderr.contains("it is started again"), "{question:?}: {asked:?}");
        assert_eq!(home.pid("web-1"), pid, "{question:?}");
        assert_eq!(home.slots()["web-1"]["attempt"], 1);
        home.run(&["down"]).ok();
    }
}

fn down_without_a_daemon() {
    let home = Home::with(SLEEPER);
    let fresh = home.run(&["down"]).ok();
    assert!(fresh.stderr.contains("nothing of `project` is there"), "{fresh:?}");
    assert!(home.daemon().is_none(), "nothing was there, so nothing is started");
    home.run(&["up", "-d", "--wait"]).ok();
    let pid = home.pid("web-1");
    home.kill_daemon();
    kill(pid, 9);
    eventually("web is gone", || !is_alive(pid));
    eventually("its shim is gone", || home.leftovers().is_empty());
    let asked = home.run(&["ps"]).ok();
    assert!(asked.stderr.contains("the daemon does not run"), "{asked:?}");
    assert!(home.daemon().is_none(), "a question starts nothing");
    home.run(&["down"]).ok();
    home.kill_daemon();
    home.run(&["plan"]).ok();
    assert!(home.slots().is_empty());
}

/// A service that calls Upbeat, once it is told to.
fn caller(home: &Home) -> String {
    format!(
        "services:\n  web:\n    command: [sh, -c, 'read go < go; {} up -d; echo ended $$?; sleep 600']\n    environment: {{ UPBEAT_STATE_DIR: {}, UPBEAT_RUNTIME_DIR: {} }}\n",
        env!("CARGO_BIN_EXE_upbeat"),
        home.state().display(),
        home.outside("run").display()
    )
}

fn inside() {
    let home = Home::new();
    home.write("upbeat.yaml", &caller(&home));
    let fifo = home.project().join("go");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let said = || {
        let logs = home.state().join("slots/project/web/1/log");
        let files = std::fs::read_dir(logs).into_iter().flatten().flatten();
        let bytes: Vec<u8> = files.filter_map(|file| std::fs::read(file.path()).ok()).flatten().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    home.run(&["up", "-d", "--wait"]).ok();
    std::fs::write(&fifo, "\n").unwrap();
    eventually("it has asked a daemon that is there", || said().contains("ended 0"));
    home.run(&["restart"]).ok();
    home.kill_daemon();
    std::fs::write(&fifo, "\n").unwrap();
    eventually("it has tried to start one", || said().contains("ended 1"));
    assert!(said().contains("by a service that it looks after"), "{}", said());
    assert!(home.daemon().is_none());
}

fn relative() {
    let mut home = Home::with(SLEEPER);
    home.set("UPBEAT_STATE_DIR", "../state");
    home.set("UPBEAT_RUNTIME_DIR", "../run");
    home.run(&["up", "-d", "--wait"]).ok();
    home.unset("UPBEAT_STATE_DIR");
    home.unset("UPBEAT_RUNTIME_DIR");
    assert_eq!(home.phase("web-1"), "running");
}

fn crowd() {
    let home = Home::with(SLEEPER);
    for _ in 0..5 {
        if let Some(pid) = home.daemon() {
            kill(pid, 15);
        }
        std::thread::scope(|scope| {
            for _ in 0..8 {
                // One may overtake another; none may find no daemon.
                scope.spawn(|| {
                    let ran = home.run(&["up", "-d", "--wait"]);
                    assert!([0, 4].contains(&ran.code), "{ran:?}");
                });
            }
        });
        assert_eq!(home.slots()["web-1"]["attempt"], 1);
    }
}

fn own_words() {
    let home = Home::with(SLEEPER);
    home.run(&["up", "-d", "--wait"]).ok();
    home.kill_daemon();
    let log = home.state().join("daemon.log");
    std::fs::write(&log, "said by another\n".repeat(5)).unwrap();
    std::fs::write(home.state().join("control.redb"), "no store").unwrap();
    let told = home.run(&["ps"]).code(1).stderr;
    assert!(told.contains("its last lines:") && told.contains("control.redb"), "{told}");
    assert!(!told.contains("said by another"), "{told}");
    assert!(std::fs::read_to_string(&log).unwrap().starts_with("said by another"), "nothing is lost");
}

fn stubborn_changes() {
    let home = Home::with("services:\n  web: { command: [sleep, \"600\"], scale: 2 }\n");
    let changes =
        [&["up", "-d"][..], &["scale", "web=3"], &["restart"], &["stop", "web"], &["start"], &["down"]];
    // How long one change takes on this machine, from no daemon at all.
    let started = Instant::now();
    home.run(changes[0]).ok();
    let once = started.elapsed();
    let (over, killed) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                if let Some(pid) = home.daemon() {
                    // At another moment of its work each time: early and late by turns, so that
                    // what dies again and again comes through at last.
                    let (spin, nth) = (Instant::now(), killed.fetch_add(1, Ordering::Relaxed));
                    while spin.elapsed() < once * (nth * 17 % 40) / 40 {}
                    kill(pid, 9);
                }
            }
        });
        let mut ran = Vec::new();
        while killed.load(Ordering::Relaxed) < 40 {
            ran.extend(changes.iter().map(|change| (change, home.run(change))));
        }
        over.store(true, Ordering::Relaxed);
        for (change, ran) in ran {
            assert_eq!(ran.code, 0, "{change:?}: {ran:?}");
        }
    });
    assert!(home.slots().is_empty());
    eventually("nothing is left", || home.leftovers().iter().all(|(_, name)| name.starts_with("upbeat")));
}
