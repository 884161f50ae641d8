//! Update locks of processes: what holds one is not interrupted for an update.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::Journey;
use crate::home::{Home, eventually, is_alive};

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        Journey { name: "a process that holds its update lock is not replaced", needs: &[], run: holds },
        Journey { name: "an update lock is overruled by who insists", needs: &[], run: insists },
    ]
}

/// Somebody who holds the lock of this file until he is killed.
pub(crate) struct Holder(Child);

impl Holder {
    pub(crate) fn of(file: &Path) -> Self {
        let mut holder = Command::new("flock");
        holder.args(["-n", "-F"]).arg(file).args(["sh", "-c", "echo held; exec sleep 600"]);
        let mut holder = holder.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        Self(holder)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

/// With SIGKILL.
impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn file(home: &Home, version: u32) {
    let said = home.outside("said");
    let text = format!(
        "services:
  web:
    command: [sh, -c, 'echo \"$$UPBEAT_UPDATE_LOCK\" > {}; exec sleep 600 # {version}']
    x-upbeat: {{ update_lock: true }}
  other: {{ command: [sh, -c, 'exec sleep 600 # {version}'] }}
",
        said.display()
    );
    home.write("upbeat.yaml", &text);
}

fn lock_of(home: &Home) -> std::path::PathBuf {
    let said = home.outside("said");
    let read = || std::fs::read_to_string(&said).unwrap_or_default();
    eventually("it is told its lock", || read().ends_with('\n'));
    read().trim_end().into()
}

fn holds() {
    let home = Home::new();
    file(&home, 1);
    home.run(&["up", "-d", "--wait"]).ok();
    let (web, other) = (home.pid("web-1"), home.pid("other-1"));
    let lock = lock_of(&home);
    let holder = Holder::of(&lock);
    file(&home, 2);
    let refused = home.run(&["plan"]);
    assert!(refused.stderr.contains("holds its update lock"), "{refused:?}");
    let waiting = home.spawn(&["up", "-d", "--wait"]);
    let said = format!("(pid {}) since ", holder.pid());
    let waits = || {
        let why = home.run(&["why", "web"]).stdout;
        why.split_whitespace().collect::<Vec<_>>().join(" ").contains(&said)
    };
    eventually("it says who holds the lock", waits);
    assert_eq!((home.pid("web-1"), home.pid("other-1")), (web, other));
    home.kill_daemon();
    home.run(&["ps"]).ok();
    eventually("the next daemon says so, too", waits);
    assert_eq!((home.pid("web-1"), home.pid("other-1")), (web, other), "all of the app, or nothing");
    drop(holder);
    waiting.end().ok();
    assert!(!is_alive(web) && !is_alive(other));
    // What comes after it may take the lock.
    let lock = lock_of(&home);
    drop(Holder::of(&lock));
    home.run(&["down"]).ok();
    assert!(!lock.exists());
}

fn insists() {
    let home = Home::new();
    file(&home, 1);
    home.run(&["up", "-d", "--wait"]).ok();
    let web = home.pid("web-1");
    let holder = Holder::of(&lock_of(&home));
    file(&home, 2);
    let planned = home.run(&["plan", "--force", "--format", "text"]).ok();
    assert!(planned.stdout.contains("though it holds its update lock"), "{planned:?}");
    home.run(&["up", "-d", "--wait", "--force"]).ok();
    assert!(!is_alive(web));
    // What a person asks for by name does not wait either.
    home.run(&["restart"]).ok();
    home.run(&["down"]).ok();
    drop(holder);
}
