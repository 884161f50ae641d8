//! Two controllers of one entity, ten thousand calls, and daemons that are killed in between.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::wire::{Wire, socket};
use crate::Journey;
use crate::home::{Home, eventually};

pub(super) fn journeys() -> Vec<Journey> {
    vec![Journey {
        name: "two controllers call ten thousand times while daemons die: nothing is lost, nobody is moved twice",
        needs: &[],
        run: at_once,
    }]
}

const CALLS: usize = 5_000;
const EACH: usize = 10;
/// Of twenty targets.
const BATCH: usize = 4;

/// A controller, its targets, and what it knows of all.
struct Controller {
    group: &'static str,
    runs: Vec<String>,
    calls: usize,
    /// What each target of the other one said last, as far as this one was told.
    others: BTreeMap<String, usize>,
    /// Which versions each target was to run, in order.
    assigned: BTreeMap<String, Vec<String>>,
}

fn path(what: &str) -> String {
    format!("/api/v1/rollouts/prod/web{what}")
}

impl Controller {
    fn new(group: &'static str) -> Self {
        let runs = vec!["v0".to_owned(); EACH];
        Self { group, runs, calls: 0, others: BTreeMap::new(), assigned: BTreeMap::new() }
    }

    /// Says what its targets run, until somebody has heard it, and does what it is told.
    fn call(&mut self, socket: &Path, wire: &mut Option<Wire>) {
        self.calls += 1;
        let message = self.calls.to_string();
        let targets: Vec<Value> = self.runs.iter().enumerate().map(|(n, version)| {
            json!({"group": self.group, "name": format!("t{n}"), "version": version, "message": message})
        }).collect();
        let body = json!({"targets": targets});
        let mut answer = None;
        eventually("a daemon answers", || {
            let asked = wire.take().map_or_else(|| Wire::open(socket), Ok).and_then(|mut open| {
                let asked = open.ask("POST", &path("/reports"), Some(&body))?;
                *wire = Some(open);
                Ok(asked)
            });
            answer = asked.ok();
            answer.is_some()
        });
        let (status, answer) = answer.unwrap();
        assert_eq!(status, 200, "{answer}");
        self.hear(&answer["targets"]);
    }

    fn hear(&mut self, targets: &Value) {
        let mut on_the_way = 0;
        for target in targets.as_array().unwrap() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (current, assigned) = (&target["current"], &target["assigned"]);
            let name = format!("{}/{}", text(&target["group"]), text(&target["name"]));
            let said: usize = text(&current["message"]).parse().unwrap();
            if target["group"] == self.group {
                assert_eq!(said, self.calls, "{name}: an update is lost");
                let n: usize = text(&target["name"])[1..].parse().unwrap();
                if let Some(version) = assigned["version"].as_str() {
                    self.runs[n] = version.to_owned();
                }
            } else {
                let before = self.others.insert(name.clone(), said).unwrap_or(0);
                assert!(said >= before, "{name}: {said} after {before}");
            }
            // As long as none was ever good, who comes shall run nothing in particular.
            let Some(shall) = assigned["version"].as_str() else { continue };
            on_the_way += usize::from(current["version"] != shall);
            let story = self.assigned.entry(name).or_default();
            if story.last().is_none_or(|last| last != shall) {
                story.push(shall.to_owned());
            }
        }
        assert!(on_the_way <= BATCH, "{on_the_way} are on their way at once: {targets}");
    }
}

fn at_once() {
    let mut home = Home::new();
    // Where a sync costs nothing: ten thousand of them are the disk's time, and who is killed loses none.
    let state = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    home.set("UPBEAT_STATE_DIR", state.path().to_str().unwrap());
    let home = home;
    let start = |version: &str| {
        let careful = ["--batch", "4", "--success-timeout", "0s", "--duration-timeout", "10m"];
        home.run(&[&["rollout", "start", "prod/web", version], &careful[..]].concat()).ok()
    };
    start("v1");
    let (socket, done) = (socket(&home), AtomicUsize::new(0));
    let controllers: Vec<Controller> = std::thread::scope(|scope| {
        let threads = ["a", "b"].map(|group| {
            let (socket, done) = (&socket, &done);
            scope.spawn(move || {
                let (mut controller, mut wire) = (Controller::new(group), None);
                for _ in 0..CALLS {
                    controller.call(socket, &mut wire);
                    done.fetch_add(1, Ordering::SeqCst);
                }
                controller
            })
        });
        for n in 1..=3 {
            let is_far = || done.load(Ordering::SeqCst) >= n * CALLS / 2;
            eventually("they have called for long", || {
                is_far() || threads.iter().any(|thread| thread.is_finished())
            });
            home.kill_daemon();
            // Also where the one before is good by now, or still on its way: then it follows.
            start(&format!("v{}", n + 1));
        }
        threads.map(|thread| thread.join().unwrap()).into()
    });
    let stories: Vec<&Vec<String>> = controllers.iter().flat_map(|one| one.assigned.values()).collect();
    for story in stories {
        // Nobody is moved to a version twice, nor back to one that was left.
        assert!(story.is_sorted_by(|before, next| before < next), "{story:?}");
    }
    let targets = home.run(&["rollout", "targets", "prod/web", "-o", "json"]).ok().stdout;
    let targets: Value = serde_json::from_str(&targets).unwrap();
    let last = CALLS.to_string();
    assert_eq!(targets.as_array().unwrap().len(), 2 * EACH);
    assert!(
        targets.as_array().unwrap().iter().all(|target| target["current"]["message"] == last.as_str()),
        "{targets}"
    );
    // Left to itself it comes to its end.
    let mut controllers = controllers;
    let mut wire = None;
    eventually("all run the last version, and it is good", || {
        controllers.iter_mut().for_each(|controller| controller.call(&socket, &mut wire));
        let shown = home.run(&["rollout", "show", "prod/web", "-o", "json"]).ok().stdout;
        let state: Value = serde_json::from_str(&shown).unwrap();
        state["good"] == "v4" && state["course"] == "steady"
    });
}
