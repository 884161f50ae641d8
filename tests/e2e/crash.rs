//! The daemon dies: at every named point, and at random moments under load. Nobody notices.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use crate::Journey;
use crate::home::{Home, eventually, is_alive, kill, lines, processes};

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        Journey {
            name: "a killed daemon is replaced and nothing is stopped or started",
            needs: &[],
            run: survives,
        },
        Journey {
            name: "the daemon dies at every named point of a start and of an exit",
            needs: &[],
            run: every_point,
        },
        Journey {
            name: "the daemon dies at every named point of a command",
            needs: &[],
            run: every_point_of_a_command,
        },
        Journey {
            name: "the daemon dies 200 times under load and every line is there once",
            needs: &[],
            run: random_moments,
        },
        Journey {
            name: "an exit while the daemon is dead is known afterwards",
            needs: &[],
            run: exit_unseen,
        },
        Journey {
            name: "a killed shim is seen, its tree killed, its exit unknown",
            needs: &[],
            run: killed_shim,
        },
        Journey { name: "after down nothing of ours is left", needs: &[], run: clean },
    ]
}

/// Wakes a new daemon without asking it for anything: `up` would try again what has failed.
fn wake(home: &Home) {
    home.run(&["plan"]);
}

fn survives() {
    let home = Home::with(
        "services:\n  web: { command: [sleep, \"600\"], scale: 3 }\n  db: { command: [sh, -c, \"echo up; sleep 600\"], healthcheck: { log: up } }\n",
    );
    home.run(&["up", "-d", "--wait"]).ok();
    let before = pids(&home);
    home.kill_daemon();
    for pid in before.values() {
        assert!(is_alive(*pid));
    }
    wake(&home);
    eventually("all are back", || pids(&home) == before);
    let slots = home.slots();
    assert!(slots.values().all(|slot| slot["attempt"] == 1 && slot["restarts"] == 0), "{slots:?}");
    assert_eq!(slots["db-1"]["phase"], "healthy");
}

fn pids(home: &Home) -> BTreeMap<String, i32> {
    let pid = |slot: &Value| slot["pid"].as_i64().map(|pid| pid as i32);
    home.slots().iter().filter_map(|(name, slot)| Some((name.clone(), pid(slot)?))).collect()
}

const AGENT_POINTS: &[&str] = &["intent_committed", "performed", "outcome_committed"];
const SHIM_POINTS: &[&str] = &[
    "after_lock",
    "before_fork",
    "after_fork",
    "after_exec",
    "before_exit_record",
    "after_exit_record",
    "log_rotation",
];

/// One service that runs on and one that ends with 7; in the end one copy of the first runs, it
/// was started once, and the exit of the second is known.
fn every_point() {
    let points = (AGENT_POINTS.iter().map(|point| ("UPBEAT_FAILPOINT", point)))
        .chain(SHIM_POINTS.iter().map(|point| ("UPBEAT_SHIM_FAILPOINT", point)));
    for (variable, point) in points {
        let mut home = Home::with(
            "services:\n  web: { command: [sh, -c, \"echo started >> starts; exec sleep 600\"] }\n  job: { command: [sh, job.sh] }\n",
        );
        // More than one log segment, so that there is a rotation to die at.
        let lots = "echo began >> jobs\nhead -c 12000000 /dev/zero | tr '\\0' 'x' | fold -w 1000\nexit 7\n";
        home.write("job.sh", lots);
        let marker = home.outside("marker");
        home.set(variable, format!("{point}:{}", marker.display()));
        home.run(&["up", "-d"]);
        eventually(&format!("the daemon died at {point}"), || marker.exists());
        home.unset(variable);
        eventually(&format!("after {point} a new daemon answers"), || {
            wake_if_dead(&home);
            home.slots().len() == 2
        });
        eventually(&format!("after {point} the job has ended"), || home.phase("job-1") == "failed");
        eventually(&format!("after {point} web runs"), || home.phase("web-1") == "running");
        let slots = home.slots();
        assert_eq!(slots["job-1"]["exit"]["code"], 7, "{point}: {}", slots["job-1"]);
        assert_eq!(lines(&home.project().join("jobs")).len(), 1, "{point}: the job ran once");
        let printed = home.run(&["logs", "--no-prefix", "job"]).ok().stdout;
        let whole = printed.lines().filter(|line| line.len() == 1000).count();
        assert_eq!((whole, printed.lines().count()), (12_000, 12_000), "{point}: all it printed");
        assert_eq!(lines(&home.project().join("starts")).len(), 1, "{point}: web was started once");
    }
}

/// Every wish that was acknowledged comes true, and the client learns of it, wherever control dies.
fn every_point_of_a_command() {
    for point in ["command_kept", "operation_kept", "app_forgotten"] {
        let changes = [
            &["up", "-d", "--wait"][..],
            &["scale", "web=1"],
            &["stop"],
            &["start"],
            &["restart"],
            &["down"],
        ];
        for change in changes {
            let mut home = Home::with("services:\n  web: { command: [sleep, \"600\"], scale: 2 }\n");
            if change[0] != "up" {
                home.run(&["up", "-d", "--wait"]).ok();
                home.kill_daemon();
            }
            let marker = home.outside("marker");
            home.set("UPBEAT_FAILPOINT", format!("{point}:{}", marker.display()));
            let ran = home.run(change).ok();
            let told = ran.stderr.matches("the daemon is gone").count();
            match point {
                // It dies with the request.
                "command_kept" => assert_eq!(told, 1, "{change:?}: {ran:?}"),
                _ => assert!(told <= 1, "{point} of {change:?}: {ran:?}"),
            }
            let forgets = ["scale", "down"].contains(&change[0]);
            match point == "app_forgotten" && !forgets {
                true => assert!(!marker.exists(), "{point} of {change:?}"),
                // A client may be told that its operation has ended just before that is kept.
                false => eventually(&format!("it died at {point} of {change:?}"), || marker.exists()),
            }
            let expected = match change[0] {
                "down" => vec![],
                "scale" => vec!["\"running\""],
                "stop" => vec!["\"stopped\""; 2],
                _ => vec!["\"running\""; 2],
            };
            home.unset("UPBEAT_FAILPOINT");
            eventually(&format!("{point} of {change:?}: {expected:?}"), || {
                wake(&home);
                let slots = home.slots();
                slots.values().map(|slot| slot["phase"].to_string()).collect::<Vec<_>>() == expected
            });
            if change[0] == "restart" {
                let attempts: Vec<_> = home.slots().values().map(|slot| slot["attempt"].clone()).collect();
                assert_eq!(attempts, [2, 2], "{point}: restarted once");
            }
        }
    }
}

fn wake_if_dead(home: &Home) {
    if home.daemon().is_none() {
        wake(home);
    }
}

/// Prints consecutive numbers, about a thousand a second, and ends now and then.
const COUNTER: &str = r#"
mkdir "$1.here" || echo "$1" >> twice
n=0
[ -e "$1.n" ] && n=$(cat "$1.n")
last=$((n + $2))
while [ $n -lt $last ]; do
  i=0
  while [ $i -lt 12 ]; do n=$((n + 1)); i=$((i + 1)); echo "$n"; done
  echo $n > "$1.at"
  sleep 0.01
done
echo $n > "$1.n"
rmdir "$1.here"
exit $3
"#;

fn random_moments() {
    let mut file = String::from("services:\n");
    for index in 0..20 {
        // Half run on for the whole journey; others end, well or badly, and are started again.
        let (count, code, policy) = match index % 4 {
            0 | 1 => (10_000_000, 0, "no"),
            2 => (2_000, 0, "always"),
            _ => (1_500, 3, "on-failure"),
        };
        file.push_str(&format!(
            "  s{index:02}:\n    command: [sh, count.sh, s{index:02}, \"{count}\", \"{code}\"]\n    restart: {policy}\n"
        ));
    }
    // Killed by us now and then, while there is no daemon.
    file.push_str("  victim: { command: [sleep, \"600\"], restart: always }\n");
    let home = Home::with(&file);
    home.write("count.sh", COUNTER);
    home.run(&["up", "-d", "--wait"]).ok();
    let steady: Vec<String> = (0..20).filter(|n| n % 4 < 2).map(|n| format!("s{n:02}-1")).collect();
    let before = pids(&home);
    let mut seed: u64 = 0x5eed;
    let (mut killed, mut victims) = (0, 0);
    while killed < rounds() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if let Some(pid) = home.daemon() {
            spin((seed >> 33) % 20_000);
            kill(pid, 9);
            eventually("the daemon is gone", || !is_alive(pid));
            killed += 1;
        }
        if let Some(victim) = victim(&home).filter(|_| killed % 20 == 10) {
            kill(victim, 9);
            victims += 1;
        }
        wake(&home);
    }
    assert!(victims >= rounds() / 40, "only {victims} have ended while there was no daemon");
    let after = pids(&home);
    assert_eq!(home.slots().len(), 21);
    for name in &steady {
        assert_eq!(after.get(name), before.get(name), "{name} runs on");
        assert!(is_alive(after[name]), "{name} is there");
    }
    for (name, slot) in home.slots() {
        if name == "victim-1" {
            assert_eq!(slot["exit"], json!({ "signal": 9 }), "it ended while there was no daemon");
            continue;
        }
        let known = match name[1..3].parse::<u32>().unwrap() % 4 {
            0 | 1 => Value::Null,
            2 => json!({ "code": 0 }),
            _ => json!({ "code": 3 }),
        };
        assert_eq!(slot["exit"], known, "how {name} ended last");
    }
    assert_eq!(home.read("twice"), "", "two copies at once");
    let events = home.run(&["events"]).ok().stdout;
    assert!(events.contains("s02-1") && !events.contains("exit unknown"), "every end is known: {events}");
    home.run(&["stop"]).ok();
    for index in 0..20 {
        let service = format!("s{index:02}");
        let printed = home.run(&["logs", "--no-prefix", &service]).ok().stdout;
        let last = check_consecutive(&service, &printed);
        // It was killed while it wrote that, perhaps.
        let said = home.read(&format!("{service}.at")).trim().parse().unwrap_or(0);
        let whole_runs = home.read(&format!("{service}.n")).trim().parse().unwrap_or(0);
        assert!(last >= whole_runs.max(said), "{service}: the end of what it printed is missing");
    }
    home.run(&["down"]).ok();
    let left = home.leftovers();
    assert!(left.iter().all(|(_, name)| name.starts_with("upbeat")), "{left:?}");
    assert_eq!(files(&home), OWN_FILES);
}

/// The process of the service that is killed, if it runs.
fn victim(home: &Home) -> Option<i32> {
    let mark = format!("UPBEAT_INSTANCE={}", home.state().join("slots/project/victim/1#").display());
    processes().find(|pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry.starts_with(mark.as_bytes()))
    })
}

/// Every file of the daemon's directories.
fn files(home: &Home) -> Vec<String> {
    let root = home.outside("");
    let mut files: Vec<String> = [home.state(), home.outside("run")]
        .iter()
        .flat_map(|dir| walk(dir))
        .map(|path| path.trim_start_matches(&*root.to_string_lossy()).trim_start_matches('/').to_owned())
        .collect();
    files.sort();
    files
}

/// What a daemon that looks after nothing has.
const OWN_FILES: [&str; 9] = [
    "run/upbeat.sock",
    "state/audit.key",
    "state/audit/00000000000000000001.jsonl",
    "state/control.redb",
    "state/daemon.lock",
    "state/daemon.log",
    "state/daemon.starting",
    "state/events.redb",
    "state/node.redb",
];

fn rounds() -> u32 {
    std::env::var("UPBEAT_CRASHES").ok().and_then(|n| n.parse().ok()).unwrap_or(200)
}

/// A wait of so many microseconds that no other process can see: the moment shall be arbitrary.
fn spin(micros: u64) {
    let until = std::time::Instant::now() + std::time::Duration::from_micros(micros);
    while std::time::Instant::now() < until {
        std::hint::spin_loop();
    }
}

/// Each number once and in order, from 1 on, through all runs. Returns the last.
fn check_consecutive(service: &str, printed: &str) -> u64 {
    let mut last = 0;
    for line in printed.lines() {
        let Ok(number) = line.parse::<u64>() else { panic!("{service}: not a number: {line:?}") };
        assert_eq!(number, last + 1, "{service}");
        last = number;
    }
    assert!(last > 0, "{service} printed nothing");
    last
}

fn exit_unseen() {
    let home = Home::with(
        "services:\n  job: { command: [sh, -c, \"while [ ! -e go ]; do sleep 0.02; done; exit 5\"] }\n  again:\n    command: [sh, -c, \"echo x >> runs; [ -e go2 ] || exec sleep 600; sleep 600\"]\n    restart: always\n",
    );
    home.run(&["up", "-d", "--wait"]).ok();
    let (job, again) = (home.pid("job-1"), home.pid("again-1"));
    home.kill_daemon();
    home.write("go", "");
    kill(again, 9);
    eventually("both have ended", || !is_alive(job) && !is_alive(again));
    wake(&home);
    eventually("the job is known to have failed", || home.phase("job-1") == "failed");
    assert_eq!(home.slots()["job-1"]["exit"]["code"], 5);
    eventually("the other runs again", || home.phase("again-1") == "running");
    assert_eq!(home.slots()["again-1"]["exit"]["signal"], 9);
    eventually("it was started a second time", || lines(&home.project().join("runs")).len() == 2);
}

pub(crate) fn parent(pid: i32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after = stat.rsplit(')').next().unwrap();
    after.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn killed_shim() {
    let home = Home::with("services:\n  tree:\n    command: [sh, tree.sh]\n    restart: on-failure\n");
    home.write("tree.sh", "setsid sleep 7777 &\nsleep 7778 &\necho $! > child\nexec sleep 7779\n");
    home.run(&["up", "-d", "--wait"]).ok();
    eventually("the child is there", || !home.read("child").is_empty());
    let (main, child) = (home.pid("tree-1"), home.read("child").trim().parse().unwrap());
    let shim = parent(main);
    kill(shim, 9);
    eventually("the whole tree is gone", || !is_alive(main) && !is_alive(child));
    eventually("it runs again", || {
        let slot = &home.slots()["tree-1"];
        slot["phase"] == "running" && slot["pid"] != main
    });
    assert!(home.slots()["tree-1"]["exit"]["unknown"].is_string(), "{}", home.slots()["tree-1"]);
    for asked in [&["events"][..], &["why", "tree"]] {
        let answer = home.run(asked).ok().stdout;
        assert!(answer.contains("exit unknown: its shim was killed"), "{answer}");
    }
}

fn clean() {
    let home =
        Home::with("services:\n  a: { command: [sh, -c, \"sleep 600 & exec sleep 601\"], scale: 3 }\n");
    home.run(&["up", "-d", "--wait"]).ok();
    home.run(&["down"]).ok();
    nothing_is_left(&home);
}

/// After `down` there is nothing but a daemon and what is its own: no process, no socket, no file.
pub(crate) fn nothing_is_left(home: &Home) {
    let daemon = home.daemon().expect("the daemon goes on");
    let left = home.leftovers();
    let foreign: Vec<_> =
        left.iter().filter(|(pid, _)| *pid != daemon && parent_or(*pid) != daemon).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    assert_eq!(files(home), OWN_FILES);
}

/// The zygote is the daemon's child.
fn parent_or(pid: i32) -> i32 {
    if is_alive(pid) { parent(pid) } else { 0 }
}

fn walk(dir: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(walk(&entry.path()));
        } else {
            found.push(entry.path().display().to_string());
        }
    }
    found
}
