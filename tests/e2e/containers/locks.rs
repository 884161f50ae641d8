//! Update locks of containers.

use super::{Harbour, journey, text};
use crate::Journey;
use crate::home::eventually;
use crate::locks::Holder;

pub(crate) fn journeys() -> Vec<Journey> {
    vec![journey("a container that holds its update lock is not replaced", holds)]
}

fn holds() {
    let harbour = Harbour::new();
    let file = |version: u32| {
        harbour.file(&format!(
            "  web:
    image: IMAGE
    user: \"1234\"
    command: [sh, -c, 'trap \"exit 0\" TERM; while :; do sleep 0.1; done # {version}']
    x-upbeat: {{ update_lock: true }}
"
        ));
    };
    file(1);
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    let before = harbour.run_of("web-1");
    // The file that it is told can be opened, and nothing is written into it: it is memory of the machine.
    let opens = ["exec", "-T", "web", "sh", "-c", "exec 9< \"$UPBEAT_UPDATE_LOCK\""];
    harbour.home.run(&opens).ok();
    let writes = ["exec", "-T", "web", "sh", "-c", "echo much > \"$UPBEAT_UPDATE_LOCK\""];
    assert!(harbour.home.run(&writes).stderr.contains("Read-only"), "it is written into");
    let found = harbour.inspect("web-1").unwrap();
    let mounts = found["Mounts"].as_array().unwrap();
    let of_lock = mounts.iter().find(|mount| mount["Destination"] == "/run/upbeat/update.lock").unwrap();
    let holder = Holder::of(text(&of_lock["Source"]).as_ref());
    file(2);
    let waiting = harbour.home.spawn(&["up", "-d", "--wait"]);
    eventually("it says who holds the lock", || {
        let why = harbour.home.run(&["why", "web"]).stdout;
        why.split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .contains(&format!("(pid {}) since ", holder.pid()))
    });
    assert_eq!(harbour.run_of("web-1"), before);
    harbour.home.kill_daemon();
    harbour.home.run(&["ps"]).ok();
    assert_eq!(harbour.run_of("web-1"), before);
    drop(holder);
    waiting.end().ok();
    assert_ne!(harbour.run_of("web-1").0, before.0);
    harbour.home.run(&["down"]).ok();
}
