//! The record of who changed what, and what shows that it is whole.

use std::fs;

use serde_json::Value;

use crate::access::WEB;
use crate::home::{Home, Ran};
use crate::{Journey, Need};

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        Journey {
            name: "what was done is on record, also of a daemon that was killed",
            needs: &[],
            run: record,
        },
        Journey { name: "no change to the record goes unseen", needs: &[], run: tampered },
        Journey {
            name: "a record that is taken away from a running daemon is missed at once, and goes on",
            needs: &[],
            run: taken_away,
        },
        Journey {
            name: "a full disk stops changes but not `stop`, and the gap is told",
            needs: &[Need::ROOT],
            run: full,
        },
    ]
}

/// All records, as JSON has them.
pub(crate) fn records(home: &Home) -> Vec<Value> {
    let ran = home.run(&["audit", "ls", "-o", "json"]).ok();
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn record() {
    let mut home = Home::with(WEB);
    home.run(&["up", "-d", "--wait"]).ok();
    home.run(&["stop", "web"]).ok();
    home.run(&["stop", "nothing"]).code(3);
    let told: Vec<String> = records(&home)
        .iter()
        .map(|record| match record["entry"].as_str().unwrap() {
            "asked" => format!("{} {} {}", record["method"], record["app"], record["what"]).replace('"', ""),
            _ => format!("{} of {}, operation {}", record["status"], record["asked"], record["operation"]),
        })
        .collect();
    assert_eq!(told, ["PUT shop up", "200 of 1, operation 1", "POST shop stop web", "200 of 3, operation 2"]);
    let who = format!("uid {}", rustix::process::geteuid().as_raw());
    assert!(records(&home).iter().filter(|r| r["entry"] == "asked").all(|r| r["who"] == who));
    assert!(home.run(&["audit", "ls", "--since", "2000-01-01T00:00:00Z"]).ok().stdout.lines().count() == 4);
    assert_eq!(home.run(&["audit", "ls", "--since", "2999-01-01T00:00:00Z"]).ok().stdout, "");
    // A daemon that dies after a change was kept and before its outcome was recorded.
    home.kill_daemon();
    home.set("UPBEAT_FAILPOINT", format!("command_kept:{}", home.outside("marker").display()));
    home.run(&["start", "web"]).ok();
    home.unset("UPBEAT_FAILPOINT");
    let verdict = home.run(&["audit", "verify"]).ok().stdout;
    assert!(verdict.contains("no outcome is recorded of 5:"), "{verdict}");
    // What was asked again is on record again, and that one has its outcome.
    let asked = records(&home);
    let starts: Vec<_> = asked.iter().filter(|r| r["what"] == "start web").collect();
    assert_eq!(starts.len(), 2, "{asked:?}");
    home.run(&["down"]).ok();
}

fn tampered() {
    let home = Home::with(WEB);
    home.run(&["audit", "verify"]).code(3);
    for command in [&["up", "-d", "--wait"][..], &["restart"], &["stop"], &["down"]] {
        home.run(command).ok();
    }
    let verify = || home.run(&["audit", "verify"]);
    let head = |ran: &Ran| ran.stdout.lines().find_map(|l| l.strip_prefix("head: ")).unwrap().to_owned();
    let noted = head(&verify().ok());
    home.run(&["audit", "verify", "--anchor", &noted]).ok();
    home.run(&["audit", "verify", "--anchor", &format!("9{noted}")]).code(1);
    home.kill_daemon();
    assert_eq!(head(&verify().ok()), noted, "without a daemon it is the same");
    let file = fs::read_dir(home.state().join("audit")).unwrap().next().unwrap().unwrap().path();
    let good = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    assert_eq!(lines.len(), 8);
    let without = |gone: usize| {
        let left = lines.iter().enumerate().filter(|(n, _)| *n != gone);
        left.map(|(_, line)| format!("{line}\n")).collect::<String>()
    };
    let swapped = format!("{}{}\n{}\n{}", without_from(&lines, 2), lines[3], lines[2], rest(&lines, 4));
    for (text, first) in [
        (good.replacen("restart", "restarT", 1), 3),
        (without(4), 5),
        (without(0), 1),
        (without(7), 8),
        (swapped, 3),
        (good[..good.len() - 10].to_owned(), 8),
        (without_from(&lines, 4), 5),
        (String::new(), 1),
    ] {
        fs::write(&file, &text).unwrap();
        let ran = verify().code(1);
        assert!(ran.stdout.contains(&format!("not whole: record {first} at")), "{first}: {}", ran.stdout);
        let dir = home.state().join("audit").display().to_string();
        home.run(&["audit", "verify", "--dir", &dir, "--anchor", &noted]).code(1);
    }
    // The next daemon goes on, and mends nothing.
    fs::write(&file, without_from(&lines, 4)).unwrap();
    home.run(&["up", "-d", "--wait"]).ok();
    let ran = verify().code(1);
    assert!(ran.stdout.contains("not whole: record 5 at"), "{}", ran.stdout);
    let log = fs::read_to_string(home.state().join("daemon.log")).unwrap();
    assert!(log.contains("the audit log is not as it was left"), "{log}");
    home.run(&["down"]).ok();
}

fn taken_away() {
    let home = Home::with(WEB);
    home.run(&["up", "-d", "--wait"]).ok();
    fs::remove_dir_all(home.state().join("audit")).unwrap();
    let ran = home.run(&["audit", "verify"]).code(1);
    assert!(ran.stdout.contains("2 were written; the rest is missing"), "{}", ran.stdout);
    home.run(&["restart"]).ok();
    let is_missed = || {
        let ran = home.run(&["audit", "verify"]).code(1);
        assert!(ran.stdout.contains("the records from 1 to 2 are missing"), "{}", ran.stdout);
    };
    is_missed();
    home.kill_daemon();
    // Now the files are looked at without it.
    is_missed();
    let told = home.run(&["audit", "ls"]).ok().stdout;
    assert!(told.contains("was removed while it was in use") && told.contains("restart of shop"), "{told}");
    let log = fs::read_to_string(home.state().join("daemon.log")).unwrap();
    assert!(log.contains("the audit log is not as it was left"), "{log}");
    home.run(&["down"]).ok();
}

fn without_from(lines: &[&str], from: usize) -> String {
    lines[..from].iter().map(|line| format!("{line}\n")).collect()
}

fn rest(lines: &[&str], from: usize) -> String {
    lines[from..].iter().map(|line| format!("{line}\n")).collect()
}

fn full() {
    let mut home = Home::with(WEB);
    let disk = home.outside("disk");
    fs::create_dir(&disk).unwrap();
    let mount = crate::extremes::Mount::tmpfs(&disk, "24m");
    home.set("UPBEAT_STATE_DIR", disk.join("state").display().to_string());
    home.run(&["up", "-d", "--wait"]).ok();
    let ballast = disk.join("ballast");
    fs::create_dir(&ballast).unwrap();
    // What is left of the last page takes some records, and a restart makes some room.
    let refused = (0..50).map(|n| {
        crate::extremes::fill(&ballast.join(n.to_string()));
        home.run(&["restart"])
    });
    let refused = refused.into_iter().find(|ran| ran.code != 0).unwrap();
    assert!(refused.stderr.contains("make room"), "{refused:?}");
    home.run(&["stop"]).ok();
    assert_eq!(home.phase("web-1"), "stopped");
    fs::remove_dir_all(&ballast).unwrap();
    home.run(&["start"]).ok();
    let verdict = home.run(&["audit", "verify"]).ok().stdout;
    assert!(verdict.contains("could not be written at their time"), "{verdict}");
    let gap = records(&home).into_iter().find(|record| record["entry"] == "gap").unwrap();
    assert!(gap["what"].to_string().contains("stop of shop"), "{gap}");
    home.run(&["down"]).ok();
    home.kill_daemon();
    drop(mount);
}
