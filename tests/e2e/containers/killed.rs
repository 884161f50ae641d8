//! The daemon dies in the midst of it, or loses what it kept.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use upbeat_needs::docker::{Image, Listener, Registry};

use super::{Harbour, journey, text};
use crate::home::eventually;
use crate::{Journey, Need};

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        Journey::needing(
            &[Need::DOCKER, Need::REGISTRY],
            "the daemon dies wherever an update of five containers comes to a named point, each time it does",
            every_point,
        ),
        journey("a store that is lost is found again in the engine, and nothing is started anew", store_lost),
        journey("a container that ends while the daemon is dead is known afterwards", ended_unseen),
    ]
}

/// Where the daemon can die while it updates five containers, and at how many places that is at least: each is come to
/// once for each thing that is done there. What the engine is asked for first, as those take longest.
const POINTS: [(&str, usize); 20] = [
    // Of each of four new ones, and of what becomes of the old ones.
    ("outcome_committed", 8),
    ("intent_committed", 2),
    ("performed", 2),
    ("container_creating", 4),
    ("container_created", 4),
    ("container_connected", 4),
    ("container_stopped", 4),
    ("container_discarded", 4),
    ("container_removed", 4),
    ("container_renamed", 4),
    ("container_recorded", 4),
    ("container_started", 4),
    ("image_pulled", 1),
    ("network_made", 2),
    ("network_removed", 2),
    ("command_kept", 1),
    ("operation_kept", 1),
    ("app_forgotten", 1),
    ("daemon_starting", 1),
    ("daemon_begun", 1),
];

/// All of them.
const BOUNDARIES_MIN: usize = 60;

/// So many daemons are killed at once: each waits for the engine most of the time.
const FLEET: usize = 4;

fn every_point() {
    let registry = Registry::open();
    let points = Mutex::new(POINTS.iter());
    let ships: Vec<Ship> = (0..FLEET).map(|_| Ship::new(&registry)).collect();
    let died: usize = std::thread::scope(|scope| {
        let sail = |mut ship: Ship| {
            let mut died = 0;
            let next = || points.lock().unwrap_or_else(PoisonError::into_inner).next();
            while let Some((point, least)) = next() {
                let times = (1..).take_while(|n| ship.dies_at(point, *n)).count();
                assert!(times >= *least, "{point}: {times}");
                died += times;
            }
            ship.land();
            died
        };
        let crews: Vec<_> = ships.into_iter().map(|ship| scope.spawn(move || sail(ship))).collect();
        crews.into_iter().map(|crew| crew.join().unwrap_or_else(|why| std::panic::resume_unwind(why))).sum()
    });
    assert!(died >= BOUNDARIES_MIN, "{died}");
}

/// Five, of which `a` never changes.
fn file(harbour: &Harbour, version: u32) {
    // `a` stays as it is, `e` is dropped, `f` comes.
    let of = |name: &str, version: u32| {
        format!("  {name}: {{ image: IMAGE, command: STAYS, environment: {{ V: \"{version}\" }} }}\n")
    };
    let changed = ["b", "c", "d"].map(|name| of(name, version)).concat();
    let last = if version % 2 == 1 { of("e", 1) } else { of("f", 1) };
    harbour.file(&format!("{}{changed}{last}", of("a", 1)));
}

/// An app of five containers, of which all but one change with each version.
struct Ship {
    harbour: Harbour,
    /// What `b` runs: it has to be pulled each time.
    pushed: Image,
    listener: Listener,
    version: u32,
    /// Of `a`, which never changes.
    untouched: (String, String),
}

impl Ship {
    fn new(registry: &Registry) -> Self {
        let harbour = Harbour::new();
        let pushed = harbour.docker.push(&harbour.image, registry, &harbour.app, "1");
        let listener = harbour.docker.listen(&format!("io.upbeat.app={}", harbour.app));
        let mut ship = Self { harbour, pushed, listener, version: 1, untouched: Default::default() };
        ship.write();
        ship.harbour.home.run(&["up", "-d", "--wait"]).ok();
        ship.untouched = ship.harbour.run_of("a-1");
        ship
    }

    /// `a` stays, `b` has to be pulled, `d` goes to another network, and one is dropped with its network where another
    /// comes with one of its own.
    fn write(&self) {
        let version = self.version;
        let [last, network, side] = self.names();
        // The engine has some thirty networks to give, for all who ask.
        const NONE: &str = ", network_mode: none";
        let of = |name: &str, image: &str, version: u32, more: &str| {
            format!(
                "  {name}: {{ image: {image:?}, command: STAYS, environment: {{ V: \"{version}\" }}{more} }}\n"
            )
        };
        self.harbour.file(&format!(
            "{}{}{}{}{}networks: {{ {network}: {{}}, {side}: {{}} }}\n",
            of("a", "IMAGE", 1, NONE),
            of("b", self.pushed.name(), version, NONE),
            of("c", "IMAGE", version, NONE),
            of("d", "IMAGE", version, &format!(", networks: [{side}]")),
            of(last, "IMAGE", version, &format!(", networks: [{network}]")),
        ));
    }

    /// The service that comes and goes, its network, and that of `d`.
    fn names(&self) -> [&'static str; 3] {
        if self.version % 2 == 1 { ["e", "odd", "left"] } else { ["f", "even", "right"] }
    }

    /// Updates, and dies where it comes to this point for the n-th time; then it goes on to the goal. Whether it came
    /// there so often.
    fn dies_at(&mut self, point: &str, n: usize) -> bool {
        self.version += 1;
        let home = &mut self.harbour.home;
        let marker = home.outside(&format!("died-{point}-{n}"));
        home.kill_daemon();
        home.set("UPBEAT_FAILPOINT", format!("{point}#{n}:{}", marker.display()));
        self.pushed.remove();
        self.write();
        let place = format!("{point} {n}");
        let home = &self.harbour.home;
        // The daemon dies under this command, or after it, or under those that look.
        let told = home.run(&["up", "-d"]);
        eventually(&format!("it is there after {place}"), || {
            home.run(&["wait", "--timeout", "60s"]).code == 0 && self.is_there() || marker.exists()
        });
        let died = marker.exists();
        assert!(told.code == 0 || died, "{place}: {told:?}");
        // Whoever was told that it went wrong asks again, unless it was kept all the same.
        if !home.slots().contains_key(&format!("{}-1", self.names()[0])) {
            assert!(told.code != 0, "{place}: it was told that this would be so: {told:?}");
            home.run(&["up", "-d"]).ok();
        }
        home.run(&["wait", "--timeout", "60s"]).ok();
        eventually(&format!("all is as it shall be after {place}"), || self.is_there());
        self.is_as_it_shall_be(&place);
        died
    }

    fn slots(&self) -> [String; 5] {
        ["a", "b", "c", "d", self.names()[0]].map(|name| format!("{name}-1"))
    }

    /// No more, and no less: as the engine has it.
    fn is_there(&self) -> bool {
        let [_, network, side] = self.names();
        let mut networks = self.harbour.networks();
        networks.sort();
        let mut wanted = [network, side].map(|name| format!("{}_{name}", self.harbour.app));
        wanted.sort();
        networks == wanted && self.harbour.containers().len() == 5
    }

    fn is_as_it_shall_be(&self, place: &str) {
        let (harbour, slots) = (&self.harbour, self.slots());
        eventually(&format!("it knows of these alone after {place}"), || {
            harbour.home.slots().keys().eq(&slots)
        });
        let mut running = BTreeMap::new();
        for slot in &slots {
            assert!(harbour.is_running(slot), "{place}: {slot}");
            let variables = harbour.inspect(slot).unwrap()["Config"]["Env"].to_string();
            let version = if slot == "a-1" { 1 } else { self.version };
            assert!(variables.contains(&format!("\"V={version}\"")), "{place}: {slot}: {variables}");
            running.insert(slot.clone(), harbour.id(slot));
        }
        assert_eq!(harbour.run_of("a-1"), self.untouched, "{place}");
        harbour.agree();
        // What it has told ends with what is there: nothing of it was missed.
        eventually("the engine has told of all of it", || never_two(&self.listener.told(), place) == running);
    }

    fn land(mut self) {
        self.harbour.home.unset("UPBEAT_FAILPOINT");
        self.harbour.home.kill_daemon();
        let marker = self.harbour.home.outside("died-at-the-end");
        self.harbour.home.set("UPBEAT_FAILPOINT", format!("app_forgotten:{}", marker.display()));
        self.harbour.home.run(&["down"]);
        eventually("it died there", || marker.exists());
        self.harbour.home.run(&["down"]);
        let is_empty = || self.harbour.containers().is_empty() && self.harbour.networks().is_empty();
        eventually("nothing is left", is_empty);
        assert_eq!(never_two(&self.listener.told(), "down").len(), 0);
    }
}

/// What runs in each slot after all that the engine told; at no time two.
pub(super) fn never_two(told: &[Value], place: &str) -> BTreeMap<String, String> {
    let mut running = BTreeMap::new();
    for event in told {
        let said = &event["Actor"]["Attributes"];
        let slot = format!("{}-{}", text(&said["io.upbeat.service"]), text(&said["io.upbeat.slot"]));
        let id = text(&event["Actor"]["ID"]);
        match event["Action"].as_str() {
            Some("start") => {
                let other = running.insert(slot.clone(), id.clone());
                assert_eq!(other, None, "{place}: {slot} runs twice, as {id} too: {told:#?}");
            }
            Some("die") => {
                let ended = running.remove(&slot);
                assert_eq!(ended, Some(id), "{place}: {slot}: {told:#?}");
            }
            _ => {}
        }
    }
    running
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
