//! Targets in the hands of a client of the first engine: it reports them, and does what it is told.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::wire::Wire;
use crate::home::Home;

/// What posting answers that is not about targets.
pub(super) fn ok() -> (u16, Value) {
    (200, json!({"status": "success", "message": "ok"}))
}

/// An entity, its targets, and the connection to whom they are reported.
pub(super) struct Fleet {
    wire: Wire,
    at: String,
    /// As they are reported next.
    pub(super) targets: Vec<Value>,
}

impl Fleet {
    /// Over the daemon's socket, without targets.
    pub(super) fn of(home: &Home, entity: &str) -> Self {
        Self::over(Wire::open(&super::wire::socket(home)).unwrap(), entity)
    }

    pub(super) fn over(wire: Wire, entity: &str) -> Self {
        Self { wire, at: format!("/v1/orchestrate/{entity}"), targets: Vec::new() }
    }

    /// The same, to the next daemon.
    pub(super) fn again(self, home: &Home) -> Self {
        Self { wire: Wire::open(&super::wire::socket(home)).unwrap(), ..self }
    }

    /// So many more of a group, which run this.
    pub(super) fn with(mut self, count: usize, group: &str, version: &str) -> Self {
        let new = (1..=count).map(|n| match group {
            "" => json!({"name": format!("target{n}"), "version": version}),
            group => json!({"name": format!("target{n}"), "group": group, "version": version}),
        });
        self.targets.extend(new);
        self
    }

    pub(super) fn get(&mut self, what: &str) -> Value {
        let (status, answer) = self.wire.ask("GET", &format!("{}{what}", self.at), None).unwrap();
        assert_eq!(status, 200, "{what}: {answer}");
        answer
    }

    pub(super) fn post(&mut self, what: &str, body: &Value) -> (u16, Value) {
        self.wire.ask("POST", &format!("{}{what}", self.at), Some(body)).unwrap()
    }

    /// Posts what is done.
    #[track_caller]
    pub(super) fn done(&mut self, what: &str, body: &Value) {
        assert_eq!(self.post(what, body), ok(), "{what}");
    }

    /// Where the entity is.
    pub(super) fn rollout(&mut self) -> Value {
        self.get("/rollout")
    }

    /// Says how its targets are: what each shall run.
    #[track_caller]
    pub(super) fn report(&mut self) -> Vec<Value> {
        let (status, answer) = self.post("", &Value::Array(self.targets.clone()));
        assert_eq!(status, 200, "{answer}");
        answer.as_array().unwrap().clone()
    }

    /// Each target runs what it shall.
    pub(super) fn obey(&mut self, told: &[Value]) {
        let told: HashMap<String, &Value> = told.iter().map(|its| (name(its), its)).collect();
        for target in &mut self.targets {
            if let Some(version) = told[&name(target)].get("version") {
                target["version"] = version.clone();
            }
        }
    }

    /// Says how its targets are, and does what it is told.
    #[track_caller]
    pub(super) fn call(&mut self) -> Vec<Value> {
        let told = self.report();
        self.obey(&told);
        told
    }

    /// The version its targets run is declared good, as those clients do at first; then v2 is asked for with
    /// these options, and begins with the next report but one.
    #[track_caller]
    pub(super) fn established(&mut self, options: &Value) {
        self.declared();
        self.done("/options", options);
        self.done("/version", &json!({"version": "v2"}));
        let told = self.call();
        assert_eq!(count(&told), ones_and_twos(told.len(), 0), "it begins with the next");
        assert_eq!(self.rollout()["rollingversion"], "v2");
    }
}

impl Fleet {
    /// The first half of that.
    #[track_caller]
    pub(super) fn declared(&mut self) {
        // Those clients leave out what is zero.
        let (status, said) = self.post("/options", &json!({"batchpercent": 100}));
        let caution = "ok; no target has to succeed: any version is good at once";
        assert_eq!((status, said), (200, json!({"status": "success", "message": caution})));
        self.done("/version", &json!({"version": "v1"}));
        let told = self.call();
        assert_eq!(count(&told), ones_and_twos(told.len(), 0));
        assert_eq!(self.rollout()["lastknowngoodversion"], "v1");
    }
}

fn name(target: &Value) -> String {
    format!("{}/{}", target["group"], target["name"])
}

/// One at a time, and good as soon as it is seen on it.
pub(super) fn at_once() -> Value {
    json!({"batchpercent": 5, "successpercent": 100, "durationtimeoutsecs": 600})
}

/// How many have each version.
pub(super) fn count(targets: &[Value]) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for target in targets {
        *count.entry(target["version"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    count
}

/// So many have v1, and so many v2.
pub(super) fn ones_and_twos(ones: usize, twos: usize) -> BTreeMap<String, usize> {
    let all = [("v1".to_owned(), ones), ("v2".to_owned(), twos)];
    all.into_iter().filter(|(_, count)| *count > 0).collect()
}
