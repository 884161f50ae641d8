//! Large, endless, stubborn: what must be bounded is.

use std::fmt::Write as _;

use crate::home::{Home, eventually, is_alive};
use crate::{Journey, Need};

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        Journey { name: "five megabytes without a newline are shown whole", needs: &[], run: no_newline },
        Journey { name: "a gigabyte of output keeps to its bound on disk", needs: &[], run: gigabyte },
        Journey {
            name: "a child that ignores sigterm is killed after its grace period",
            needs: &[],
            run: stubborn,
        },
        Journey { name: "a child that closes its output runs on", needs: &[], run: closes_stdout },
        Journey { name: "a thousand services start and stop", needs: &[], run: thousand },
        Journey { name: "a full disk drops whole records and says so", needs: &[Need::ROOT], run: full_disk },
        Journey {
            name: "ten thousand services in one chain are planned, and a cycle of them is named",
            needs: &[],
            run: long_chain,
        },
    ]
}

fn no_newline() {
    let home =
        Home::with("services:\n  big: { command: [sh, -c, \"head -c 5000000 /dev/zero | tr '\\\\0' x\"] }\n");
    home.run(&["up", "-d", "--wait"]).ok();
    eventually("it has ended", || home.phase("big-1") == "completed");
    let printed = home.run(&["logs", "--no-prefix", "big"]).ok().stdout;
    assert_eq!((printed.len(), printed.matches('\n').count()), (5_000_001, 1), "it is one line");
    assert!(printed.trim_end().bytes().all(|byte| byte == b'x'));
}

fn gigabyte() {
    let home = Home::with(
        "services:\n  big: { command: [sh, -c, \"yes 0123456789012345678901234567890123456789 | head -c 1000000000; echo; echo the end\"] }\n",
    );
    home.run(&["up", "-d"]);
    eventually("it has ended", || home.phase("big-1") == "completed");
    let dir = home.state().join("slots");
    let size: u64 = sizes(&dir);
    assert!(size < 80_000_000, "{size} bytes on disk");
    let printed = home.run(&["logs", "--no-prefix", "--tail", "1", "big"]).ok().stdout;
    assert_eq!(printed.trim_end(), "the end");
}

fn sizes(dir: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => sizes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

fn stubborn() {
    let home = Home::with(
        "services:\n  no:\n    command: [sh, -c, \"trap '' TERM; echo up; while :; do sleep 1; done\"]\n    healthcheck: { log: up }\n    stop_grace_period: 300ms\n",
    );
    home.run(&["up", "-d", "--wait"]).ok();
    let pid = home.pid("no-1");
    home.run(&["stop", "no"]).ok();
    assert!(!is_alive(pid));
    assert_eq!(home.slots()["no-1"]["exit"]["signal"], 9);
}

fn closes_stdout() {
    let home = Home::with(
        "services:\n  quiet: { command: [sh, -c, \"echo last words; exec >&- 2>&-; exec sleep 600\"] }\n",
    );
    home.run(&["up", "-d", "--wait"]).ok();
    let pid = home.pid("quiet-1");
    eventually("its words are there", || {
        home.run(&["logs", "--no-prefix", "quiet"]).stdout == "last words\n"
    });
    assert!(is_alive(pid));
    assert_eq!(home.phase("quiet-1"), "running");
}

fn thousand() {
    let mut file = String::from("services:\n");
    for index in 0..1000 {
        writeln!(file, "  s{index}: {{ command: [sleep, \"600\"], stop_grace_period: 2s }}").unwrap();
    }
    let home = Home::with(&file);
    home.run(&["up", "-d", "--wait"]).ok();
    let slots = home.slots();
    assert_eq!(slots.len(), 1000);
    assert!(slots.values().all(|slot| slot["phase"] == "running"));
    let pids: Vec<i32> = slots.values().map(|slot| slot["pid"].as_i64().unwrap() as i32).collect();
    home.run(&["down"]).ok();
    // By what they say they are: their numbers may belong to others by now.
    assert!(home.leftovers().iter().all(|(pid, _)| !pids.contains(pid)));
}

/// The state directory is a small tmpfs; the journey fills it, and makes room again.
fn full_disk() {
    let mut home =
        Home::with("services:\n  loud: { command: [sh, loud.sh] }\n  calm: { command: [sleep, \"600\"] }\n");
    home.write("loud.sh", "n=0\nwhile :; do n=$((n + 1)); echo \"$n 0123456789012345678901234567890123456789\"; echo $n > count; sleep 0.001; done\n");
    let disk = home.outside("disk");
    std::fs::create_dir(&disk).unwrap();
    let mount = Mount::tmpfs(&disk, "24m");
    home.set("UPBEAT_STATE_DIR", disk.join("state").display().to_string());
    home.run(&["up", "-d", "--wait"]).ok();
    let ballast = disk.join("ballast");
    fill(&ballast);
    let count = |home: &Home| home.read("count").trim().parse::<u64>().unwrap_or(0);
    let then = count(&home);
    eventually("the child is not blocked by the full disk", || count(&home) > then + 2_000);
    assert_eq!(home.phase("calm-1"), "running");
    // Who fills the disk can be stopped, or nobody could make room.
    home.run(&["stop", "calm"]).ok();
    assert_eq!(home.phase("calm-1"), "stopped");
    std::fs::remove_file(&ballast).unwrap();
    eventually("the log says how many records are missing", || {
        home.run(&["logs", "--no-prefix", "loud"]).stdout.lines().any(|line| line.contains("records dropped"))
    });
    let printed = home.run(&["logs", "--no-prefix", "loud"]).ok().stdout;
    for line in printed.lines().filter(|line| !line.contains("dropped")) {
        assert!(line.ends_with(" 0123456789012345678901234567890123456789"), "a torn record: {line:?}");
    }
    home.run(&["down"]).ok();
    home.kill_daemon();
    drop(mount);
}

pub(crate) fn fill(path: &std::path::Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).unwrap();
    let chunk = [0u8; 4096];
    while file.write_all(&chunk).is_ok() {}
}

pub(crate) struct Mount(std::path::PathBuf);

impl Mount {
    pub(crate) fn tmpfs(at: &std::path::Path, size: &str) -> Self {
        let options = format!("size={size},mode=0700");
        let status = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "upbeat-test"])
            .arg(at)
            .status()
            .unwrap();
        assert!(status.success());
        Self(at.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn long_chain() {
    let mut file = String::from("services:\n  s0: { command: [\"true\"] }\n");
    for index in 1..10_000 {
        writeln!(file, "  s{index}: {{ command: [\"true\"], depends_on: [s{}] }}", index - 1).unwrap();
    }
    let home = Home::with(&file);
    let graph = home.run(&["graph", "--format", "json"]).ok().stdout;
    assert!(graph.contains("s9999"));
    let cyclic =
        file.replacen("s0: { command: [\"true\"]", "s0: { command: [\"true\"], depends_on: [s9999]", 1);
    home.write("upbeat.yaml", &cyclic);
    let ran = home.run(&["up", "-d"]).code(2);
    assert!(ran.stderr.contains("s9999"), "{}", ran.stderr);
    assert!(home.daemon().is_none(), "nothing was started for it");
    home.write("upbeat.yaml", &file);
    let plan = home.run(&["plan"]).ok().stdout;
    let starts = plan.lines().filter(|line| line.contains("it is new")).count();
    assert_eq!(starts, 10_000);
    assert!(plan.lines().last().is_some_and(|line| line.contains("s9999-1")), "the end of the chain is last");
}
