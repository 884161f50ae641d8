//! The daemon dies in the midst of it, or loses what it kept.

use std::collections::BTreeMap;

use super::{Harbour, journey};
use crate::Journey;
use crate::home::eventually;

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        journey("the daemon dies at every named point of an update of five containers", every_point),
        journey("a store that is lost is found again in the engine, and nothing is started anew", store_lost),
        journey("a container that ends while the daemon is dead is known afterwards", ended_unseen),
    ]
}

/// Where it can die: before and after each thing that is done to the engine, and around each commit.
const POINTS: [&str; 10] = [
    "container_creating",
    "container_created",
    "container_connected",
    "container_discarded",
    "container_renamed",
    "container_recorded",
    "container_started",
    "intent_committed",
    "performed",
    "outcome_committed",
];

fn file(harbour: &Harbour, version: u32) {
    // `a` stays as it is, `e` is dropped, `f` comes.
    let of = |name: &str, version: u32| {
        format!("  {name}: {{ image: IMAGE, command: STAYS, environment: {{ V: \"{version}\" }} }}\n")
    };
    let changed = ["b", "c", "d"].map(|name| of(name, version)).concat();
    let last = if version % 2 == 1 { of("e", 1) } else { of("f", 1) };
    harbour.file(&format!("{}{changed}{last}", of("a", 1)));
}

fn every_point() {
    let mut harbour = Harbour::new();
    file(&harbour, 1);
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    let untouched = harbour.run_of("a-1");
    for (n, point) in POINTS.iter().enumerate() {
        let version = n as u32 + 2;
        let marker = harbour.home.outside(&format!("died-{point}"));
        harbour.home.kill_daemon();
        harbour.home.set("UPBEAT_FAILPOINT", format!("{point}:{}", marker.display()));
        file(&harbour, version);
        // The daemon dies under this command, or after it.
        harbour.home.run(&["up", "-d"]);
        eventually("it died there", || marker.exists());
        harbour.home.run(&["wait", "--timeout", "60s"]).ok();
        let last = if version % 2 == 1 { "e-1" } else { "f-1" };
        let slots: BTreeMap<_, _> = harbour.home.slots();
        assert_eq!(
            slots.keys().map(String::as_str).collect::<Vec<_>>(),
            ["a-1", "b-1", "c-1", "d-1", last],
            "{point}"
        );
        eventually("there are five", || harbour.containers().len() == 5);
        for slot in ["a-1", "b-1", "c-1", "d-1", last] {
            assert!(harbour.is_running(slot), "{point}: {slot}");
        }
        for slot in ["b-1", "c-1", "d-1"] {
            let variables = harbour.inspect(slot).unwrap()["Config"]["Env"].to_string();
            assert!(variables.contains(&format!("V={version}")), "{point}: {slot}: {variables}");
        }
        assert_eq!(harbour.run_of("a-1"), untouched, "{point}");
        harbour.agree();
    }
    harbour.home.unset("UPBEAT_FAILPOINT");
    harbour.home.run(&["down"]).ok();
    assert_eq!(harbour.containers(), Vec::<String>::new());
    assert_eq!(harbour.networks(), Vec::<String>::new());
}

fn store_lost() {
    let harbour = Harbour::new();
    file(&harbour, 1);
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    let slots = ["a-1", "b-1", "c-1", "d-1", "e-1"];
    let before: Vec<_> = slots.iter().map(|slot| harbour.run_of(slot)).collect();
    harbour.home.kill_daemon();
    std::fs::remove_dir_all(harbour.home.state()).unwrap();
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    for (slot, before) in slots.iter().zip(before) {
        assert_eq!(harbour.run_of(slot), before, "{slot}");
    }
    assert_eq!(harbour.containers().len(), 5);
    harbour.agree();
    // It knows them as well as its own.
    file(&harbour, 2);
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    assert_eq!(harbour.containers().len(), 5);
    harbour.home.run(&["down"]).ok();
    assert_eq!(harbour.containers(), Vec::<String>::new());
}

fn ended_unseen() {
    let harbour = Harbour::new();
    harbour.file("  job: { image: IMAGE, command: [sh, -c, \"until [ -e /here/end ]; do sleep 0.05; done; exit 7\"], volumes: [\".:/here\"] }\n");
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    harbour.home.kill_daemon();
    harbour.home.write("end", "");
    eventually("it has ended", || !harbour.is_running("job-1"));
    harbour.home.run(&["plan"]);
    eventually("that is known", || harbour.home.phase("job-1") == "failed");
    assert_eq!(harbour.home.slots()["job-1"]["exit"], serde_json::json!({ "code": 7 }));
}
