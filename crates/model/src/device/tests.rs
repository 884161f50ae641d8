//! The document there and back.

use std::collections::BTreeMap;

use insta::assert_snapshot;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::ids::{Attempt, OperationId};
use crate::state::{Phase, SlotStatus};
use crate::time::Wall;

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn written(at: Wall) -> String {
    format!("at {}", at.0)
}

fn slot(app: &str, service: &str, runs: bool, release: u64) -> SlotStatus {
    SlotStatus {
        slot: SlotId { app: name(app), service: name(service), index: 1 },
        goal: if runs { Goal::Running } else { Goal::Stopped },
        phase: if runs { Phase::Running } else { Phase::Stopped },
        attempt: Attempt(1),
        pid: None,
        container: Some(format!("c-{service}-{release}")),
        exit: None,
        restarts: 0,
        since: Wall(2),
        started_at: runs.then_some(Wall(1)),
        log_start: None,
        health: None,
        probes: BTreeMap::new(),
        says: None,
        reasons: Vec::new(),
        operation: OperationId(1),
        release,
    }
}

/// What comes of changes at once, as a machine that reaches all.
fn reach(state: &mut State, all: Vec<Change>) {
    for Change { app, seek, .. } in all {
        match seek {
            Seek::Gone => drop(state.apps.remove(&app)),
            Seek::Again(_) => {}
            Seek::Goals(goals) => {
                let held = state.apps.get_mut(&app).unwrap();
                for (service, runs) in goals {
                    set(held, &service, runs);
                }
            }
            Seek::Declared { project, release, name, text, stopped } => {
                let before = state.apps.remove(&app);
                let same = before.as_ref().is_some_and(|b| b.app.project.services == project.services);
                let number = before.as_ref().map_or(0, |b| b.app.release) + u64::from(!same);
                let services = project.services.keys().cloned().collect::<Vec<_>>();
                let declared = Declared { name, aliases: [(number, release)].into(), text: Some(text) };
                let shown = App { name: app.clone(), release: number, project, slots: vec![] };
                let mut held = held(shown, declared);
                for service in services {
                    let runs = if stopped.contains(&service) { Runs::No } else { Runs::Yes };
                    set(&mut held, &service, runs);
                }
                state.apps.insert(app, held);
            }
        }
    }
}

fn held(app: App, declared: Declared) -> Held {
    let (goals, stamp) = (BTreeMap::new(), "s".to_owned());
    Held { app, goals, declared, is_leaving: false, stamp, standing: Standing::Done }
}

fn set(held: &mut Held, service: &ServiceName, runs: Runs) {
    held.app.slots.retain(|slot| slot.slot.service != *service);
    let slot = slot(held.app.name.as_str(), service.as_str(), runs == Runs::Yes, held.app.release);
    held.goals.insert(slot.slot.clone(), (slot.goal, held.app.release));
    held.app.slots.push(slot);
}

fn empty() -> State {
    State {
        name: "d0".to_owned(),
        uuid: "u0".to_owned(),
        keys: RegistryKeys::new(),
        apps: BTreeMap::new(),
        queued: None,
    }
}

fn ask(state: &State, request: &Request) -> Result<Vec<Change>, String> {
    all_of(state, request).map(|changes| changes.apps)
}

fn all_of(state: &State, request: &Request) -> Result<Changes, String> {
    match changes(request, state, &BTreeMap::new()) {
        Ok(changes) => Ok(changes),
        Err(mistakes) => Err(match mistakes.remedy() {
            Some(remedy) => format!("{mistakes} ({remedy})"),
            None => mistakes.to_string(),
        }),
    }
}

fn is_nothing(state: &State, request: &Request) -> bool {
    let Changes { apps, keys, notes, .. } = all_of(state, request).unwrap();
    apps.is_empty() && keys.is_none() && notes.is_empty()
}

fn after(state: &mut State, request: Request) {
    let all = ask(state, &request).unwrap();
    assert!(!all.is_empty(), "{request:?}");
    reach(state, all);
}

fn shown(state: &State) -> Value {
    serde_json::to_value(device(state, written)).unwrap()
}

fn r0(main: Value) -> Value {
    json!({ "apps": { "a0": { "name": "test", "releases": { "r0": { "services": { "main": main } } } } } })
}

/// `a0` with `main` of `r0`, that runs.
fn running() -> State {
    let mut state = empty();
    after(&mut state, Request::Whole(r0(json!({ "image": "alpine:latest", "command": ["sleep", "9"] }))));
    state
}

#[test]
fn the_agents_journey_in_documents() {
    let mut state = running();
    let main = shown(&state)["apps"]["a0"]["releases"]["r0"]["services"]["main"].clone();
    assert_eq!(
        main,
        json!({
            "image": "alpine:latest", "command": ["sleep", "9"], "status": "running",
            "containerId": "c-main-1", "startedAt": "at 1",
        })
    );
    let stop = r0(json!({ "status": "stopped" }));
    assert_eq!(
        ask(&state, &Request::Merge(stop.clone())).unwrap()[0].seek,
        Seek::Goals([(name("main"), Runs::No)].into()),
        "nothing is declared anew"
    );
    after(&mut state, Request::Merge(stop));
    let main = &shown(&state)["apps"]["a0"]["releases"]["r0"]["services"]["main"];
    assert_eq!(
        (&main["status"], &main["finishedAt"], &main["wanted"]),
        (&json!("stopped"), &json!("at 2"), &Value::Null)
    );
    after(&mut state, Request::Merge(r0(json!({ "status": "running" }))));
    let next = json!({ "apps": { "a0": { "releases": {
        "r0": null, "r1": { "services": { "main": { "image": "alpine:3.13" } } },
    } } } });
    after(&mut state, Request::Merge(next));
    let releases = &shown(&state)["apps"]["a0"]["releases"];
    assert_eq!(releases.as_object().unwrap().keys().collect::<Vec<_>>(), ["r1"]);
    after(&mut state, Request::Merge(json!({ "apps": { "a0": null } })));
    assert_eq!(shown(&state)["apps"], json!({}));
}

#[test]
fn a_whole_takes_away_what_it_does_not_name_and_a_merge_does_not() {
    let mut state = running();
    let other = json!({ "releases": { "x": { "services": { "s": { "image": "b" } } } } });
    let merged = ask(&state, &Request::Merge(json!({ "apps": { "a1": other } }))).unwrap();
    assert_eq!(merged.iter().map(|c| c.app.as_str()).collect::<Vec<_>>(), ["a1"]);
    let whole = ask(&state, &Request::Whole(json!({ "apps": { "a1": other } }))).unwrap();
    let told = whole.iter().map(|c| (c.app.as_str(), c.seek == Seek::Gone)).collect::<Vec<_>>();
    assert_eq!(told, [("a0", true), ("a1", false)], "what goes is first");
    assert!(ask(&state, &Request::Whole(json!({}))).unwrap_err().contains("`/apps`: it is missing"));
    assert_eq!(ask(&state, &Request::Merge(json!({}))), Ok(vec![]));
    let more = json!({ "releases": { "r0": { "services": { "side": { "image": "b" } } } } });
    after(&mut state, Request::MergeApp(name("a0"), more.clone()));
    let services = |state: &State| -> Vec<String> {
        state.apps["a0"].app.project.services.keys().map(ToString::to_string).collect()
    };
    assert_eq!(services(&state), ["main", "side"]);
    after(&mut state, Request::WholeApp(name("a0"), more));
    assert_eq!(services(&state), ["side"]);
    after(&mut state, Request::NoApp(name("a0")));
    assert_eq!(ask(&state, &Request::NoApp(name("a0"))), Ok(vec![]), "it has gone");
}

#[test]
fn while_an_update_is_under_way_the_old_copy_is_below_its_release() {
    let mut state = running();
    let next = json!({ "releases": {
        "r0": null, "r1": { "services": { "main": { "image": "b" }, "new": { "image": "b" } } },
    } });
    let all = ask(&state, &Request::MergeApp(name("a0"), next)).unwrap();
    let old = state.apps["a0"].clone();
    reach(&mut state, all);
    let held = state.apps.get_mut("a0").unwrap();
    held.declared.aliases.insert(1, name("r0"));
    held.app.slots = old.app.slots;
    held.app.slots.push(SlotStatus {
        container: None,
        attempt: Attempt(0),
        started_at: None,
        phase: Phase::Waiting,
        ..slot("a0", "new", true, 2)
    });
    held.standing = Standing::Applying;
    assert_snapshot!(serde_json::to_string_pretty(&shown(&state)).unwrap(), @r#"
    {
      "apps": {
        "a0": {
          "name": "test",
          "releases": {
            "r0": {
              "services": {
                "main": {
                  "containerId": "c-main-1",
                  "startedAt": "at 1",
                  "status": "running",
                  "wanted": "absent"
                }
              }
            },
            "r1": {
              "services": {
                "main": {
                  "image": "b",
                  "status": "created",
                  "wanted": "running"
                },
                "new": {
                  "image": "b",
                  "status": "created",
                  "wanted": "running"
                }
              }
            }
          }
        }
      },
      "name": "d0",
      "status": "applying changes",
      "uuid": "u0"
    }
    "#);
    assert_eq!(ask(&state, &Request::Whole(shown(&state))), Ok(vec![]), "that is wanted already");
}

#[test]
fn what_may_be_secret_is_not_shown_and_comes_back_as_it_was() {
    let mut state = empty();
    let main = json!({
        "image": "a", "environment": { "TOKEN": "t0p", "N": 5 }, "labels": { "l": "v" },
        "configs": ["c"],
        "healthcheck": { "test": ["CMD", "true"] },
    });
    let side = json!({ "image": "a", "environment": ["A=secret=1", "B=2"], "command": "echo $HOME $$" });
    let app = json!({ "releases": { "r0": {
        "services": { "main": main, "side": side },
        "configs": { "c": { "content": "k=hidden" } },
    } } });
    after(&mut state, Request::WholeApp(name("a0"), app));
    let told = shown(&state);
    let release = &told["apps"]["a0"]["releases"]["r0"];
    assert_eq!(release["services"]["main"]["environment"], json!({ "TOKEN": "***", "N": "***" }));
    assert_eq!(release["services"]["side"]["environment"], json!(["A=***", "B=***"]));
    assert_eq!(release["configs"], json!({ "c": { "content": "***" } }));
    for secret in ["t0p", "secret=1", "hidden"] {
        assert!(!told.to_string().contains(secret), "{secret}");
    }
    let side = &state.apps["a0"].app.project.services["side"];
    assert_eq!(
        side.container.as_ref().unwrap().command.as_ref().unwrap(),
        &["echo", "$HOME", "$$"],
        "as it is said"
    );
    assert_eq!(ask(&state, &Request::Whole(told.clone())), Ok(vec![]));
    let mut other = told;
    other["apps"]["a0"]["releases"]["r0"]["services"]["main"]["image"] = json!("b");
    after(&mut state, Request::Whole(other.clone()));
    assert_eq!(state.apps["a0"].app.project.services["main"].environment["TOKEN"], "t0p");
    other["apps"]["a0"]["releases"]["r0"]["services"]["main"]["environment"]["MORE"] = json!("***");
    assert_snapshot!(ask(&state, &Request::Whole(other)).unwrap_err(), @"`/apps/a0/releases/r0/services/main/environment/MORE`: `***` stands for what is not shown, and nothing is known there (say the value itself)");
}

#[test]
fn what_a_project_file_declared_is_started_and_stopped_and_not_declared_by_halves() {
    let mut state = running();
    let held = state.apps.get_mut("a0").unwrap();
    held.declared = Declared::default();
    held.app.project.services.get_mut("main").unwrap().environment.insert("X".into(), "y".into());
    let told = shown(&state);
    let release = &told["apps"]["a0"]["releases"]["1"];
    assert_eq!(
        (&release["partial"], &release["services"]["main"]["image"]),
        (&json!(true), &json!("alpine:latest"))
    );
    assert_eq!(ask(&state, &Request::Whole(told.clone())), Ok(vec![]));
    let mut stopped = told.clone();
    stopped["apps"]["a0"]["releases"]["1"]["services"]["main"]["status"] = json!("stopped");
    assert!(matches!(ask(&state, &Request::Whole(stopped)).unwrap()[0].seek, Seek::Goals(_)));
    let mut other = told;
    other["apps"]["a0"]["releases"]["1"]["services"]["main"]["image"] = json!("b");
    assert_snapshot!(ask(&state, &Request::Whole(other.clone())).unwrap_err(), @"`/apps/a0/releases/1/partial`: `a0` was declared by a project file, and not all of that is shown here: of its services only `status` can be changed (use `upbeat up` with its file, or declare a release of your own, without `partial`)");
    other["apps"]["a0"]["releases"]["1"]["partial"] = json!(false);
    assert!(matches!(ask(&state, &Request::Whole(other)).unwrap()[0].seek, Seek::Declared { .. }));
}

#[test]
fn what_shall_run_and_needs_what_is_stopped_is_refused_at_the_edge() {
    let services = |edges: Value, db: &str, web: &str| {
        let services = json!({
            "db": { "image": "b", "status": db },
            "web": { "image": "b", "depends_on": edges, "status": web },
        });
        json!({ "apps": { "a0": { "releases": { "r0": { "services": services } } } } })
    };
    let told = |edges: Value| refused(services(edges, "stopped", "running"));
    assert_snapshot!(told(json!(["db"])), @"`/apps/a0/releases/r0/services/web/depends_on/0`: `web` shall run and needs `db`, which shall be stopped (have both run, or neither)");
    assert_snapshot!(told(json!({ "db": { "condition": "service_healthy" } })), @"`/apps/a0/releases/r0/services/web/depends_on/db`: `web` shall run and needs `db`, which shall be stopped (have both run, or neither)");
    let asked = |document: Value| ask(&running(), &Request::Merge(document));
    let ended = json!({ "db": { "condition": "service_completed_successfully" } });
    assert!(asked(services(ended, "stopped", "running")).is_ok());
    assert!(asked(services(json!(["db"]), "stopped", "stopped")).is_ok());
    // Who runs already is not asked for again.
    let mut state = running();
    after(&mut state, Request::Merge(services(json!(["db"]), "running", "running")));
    assert!(ask(&state, &Request::Merge(services(json!(["db"]), "stopped", "running"))).is_ok());
}

fn refused(document: Value) -> String {
    ask(&running(), &Request::Merge(document)).unwrap_err()
}

#[test]
fn mistakes_say_where_and_what_to_do() {
    let main = |main: Value| refused(r0(main));
    let app = |app: Value| refused(json!({ "apps": { "a0": app } }));
    assert_snapshot!(main(json!({ "imag": "b" })), @"`/apps/a0/releases/r0/services/main/imag`: Unknown key `services.main.imag` (did you mean `image`?)");
    assert_snapshot!(main(json!({ "ports": ["80:80", "x:y"] })), @"`/apps/a0/releases/r0/services/main/ports/1`: `services.main.ports[2]` must have a port from 1 to 65535, not `y`");
    assert_snapshot!(main(json!({ "image": "B:latest" })), @"`/apps/a0/releases/r0/services/main/image`: `services.main.image` is not an image: `B:latest` (its name must be in lower case; write one such as `nginx:1.27`)");
    assert_snapshot!(main(json!({ "image": "UPPER//x:::" })), @"`/apps/a0/releases/r0/services/main/image`: `services.main.image` is not an image: `UPPER//x:::` (its name must be in lower case; write one such as `nginx:1.27`)");
    assert_snapshot!(main(json!({ "image": "b", "command": 5 })), @r#"`/apps/a0/releases/r0/services/main/command`: `services.main.command` must be a list of words, or text, not the number 5 (write `"5"` where a program is called so)"#);
    assert_snapshot!(main(json!({ "image": "b", "depends_on": { "db": { "condition": "up" } } })).split(':').next().unwrap(), @"`/apps/a0/releases/r0/services/main/depends_on/db`");
    assert_snapshot!(main(json!({ "status": "paused" })), @"`/apps/a0/releases/r0/services/main/status`: it is none of `running`, `stopped` and `created`");
    assert_snapshot!(main(json!({ "profiles": ["x"] })), @"`/apps/a0/releases/r0/services/main/profiles`: a document has no profiles: what is in it is wanted (leave it out; `status` says whether a service runs)");
    assert_snapshot!(main(json!({ "env_file": "x.env" })), @"`/apps/a0/releases/r0/services/main/env_file`: The file `/x.env` cannot be read: a document names no files; say what is in it");
    assert_snapshot!(app(json!({ "releases": { "r1": { "services": { "main": { "image": "b" } } } } })), @r#"`/apps/a0/releases/r1`: an app runs one release, and services of both `r0` and `r1` are wanted (leave one out; in a `PATCH`, `"r0": null` takes the old one away)"#);
    assert_snapshot!(app(json!({ "releases": { "r/1": {} } })), @"`/apps/a0/releases/r~11`: `r/1` is not a valid name of a release: only letters, digits, `.`, `_` and `-` are allowed");
    assert_snapshot!(app(json!({ "releases": { "r0": { "include": [] } } })), @"`/apps/a0/releases/r0/include`: there is no such key (there are services, networks, volumes, configs, secrets, partial)");
    let keys = |keys: Value| refused(json!({ "keys": keys }));
    assert_snapshot!(keys(json!({ "https://r.example/v1/": "k" })), @"`/keys/https:~1~1r.example~1v1~1`: it is no registry as names of images have it (say its host, and its port where that has one: `registry.example:5000`; Docker's own is `docker.io`)");
    assert_snapshot!(keys(json!({ "registry": "k", "r.example": 7, "s.example": "" })), @"`/keys/r.example`: a key is a text; `/keys/registry`: it is no registry as names of images have it; `/keys/s.example`: the key is empty (say its host, and its port where that has one: `registry.example:5000`; Docker's own is `docker.io`)");
    assert!(keys(json!({ "index.docker.io": "k" })).contains("Docker's own is `docker.io`"));
    assert_snapshot!(keys(json!({ "r.example": "***" })), @"`/keys/r.example`: `***` stands for a key that is not shown, and none is known there (say the key itself)");
    assert_snapshot!(keys(json!({ "r.example": "k".repeat(KEY_MAX + 1) })), @"`/keys/r.example`: the key has 8193 bytes, and 8192 are the most");
    assert_snapshot!(keys(json!("k")), @"`/keys`: it is no object");
    assert_snapshot!(refused(json!({ "images": {} })), @"`/images`: there is no such key (leave it out: images are pulled as services need them)");
    assert_snapshot!(refused(json!({ "uuid": "other" })), @"`/uuid`: this is `u0`, and the document is for another (leave it out, or ask the device it is for)");
    assert_snapshot!(refused(json!({ "apps": { "a b": {} } })), @"`/apps/a b`: the name of an app: only letters, digits, `.`, `_` and `-` are allowed");
    assert_snapshot!(refused(json!({ "apps": null })), @"`/apps`: it is `null` (`null` takes away in a `PATCH`; where all is said, leave out what shall go)");
    assert_snapshot!(refused(json!([])), @"`the document`: it is no object");
}

/// Some document of some apps.
fn documents() -> impl Strategy<Value = Value> {
    let status = prop_oneof![Just(json!("running")), Just(json!("stopped")), Just(json!("created"))];
    let service = (0..3_u8, proptest::option::of(status), proptest::option::of("[a-z]{1,8}")).prop_map(
        |(image, status, secret)| {
            let mut service = json!({ "image": format!("i{image}") });
            service.as_object_mut().unwrap().extend(
                [("status", status), ("environment", secret.map(|secret| json!({ "KEY": secret })))]
                    .into_iter()
                    .filter_map(|(key, value)| Some((key.to_owned(), value?))),
            );
            service
        },
    );
    let services = proptest::collection::btree_map("[abc]", service, 1..3);
    let app = ("r[0-2]", services)
        .prop_map(|(release, services)| json!({ "releases": { release: { "services": services } } }));
    proptest::collection::btree_map("a[0-2]", app, 0..3).prop_map(|apps| json!({ "apps": apps }))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_shown_said_again_changes_nothing(first in documents(), second in documents()) {
        let mut state = empty();
        for document in [first, second] {
            let all = ask(&state, &Request::Whole(document.clone())).unwrap();
            reach(&mut state, all);
            prop_assert_eq!(ask(&state, &Request::Whole(shown(&state))), Ok(vec![]));
            prop_assert_eq!(ask(&state, &Request::Merge(shown(&state))), Ok(vec![]));
            prop_assert_eq!(ask(&state, &Request::Merge(json!({}))), Ok(vec![]));
            // What was asked for is what there is: asked for again, it is nothing new.
            prop_assert_eq!(ask(&state, &Request::Whole(document)), Ok(vec![]));
        }
    }

    #[test]
    fn the_way_there_does_not_show(first in documents(), second in documents()) {
        let (mut long, mut short) = (empty(), empty());
        let go = |state: &mut State, document: &Value| {
            let all = ask(state, &Request::Whole(document.clone())).unwrap();
            reach(state, all);
        };
        go(&mut long, &first);
        go(&mut long, &second);
        go(&mut short, &second);
        let without_numbers = |state: &State| {
            let apps = state.apps.values();
            apps.map(|held| (held.app.project.services.clone(), held.declared.text.clone())).collect::<Vec<_>>()
        };
        prop_assert_eq!(without_numbers(&long), without_numbers(&short));
    }
}

/// Without what differs from machine to machine.
fn comparable(mut value: Value) -> Value {
    if let Value::Object(map) = &mut value {
        for key in ["containerId", "startedAt", "finishedAt", "uuid"] {
            map.remove(key);
        }
        *map = std::mem::take(map).into_iter().map(|(key, value)| (key, comparable(value))).collect();
    }
    value
}

/// In the order of the page, on one device.
#[test]
fn every_example_of_the_page_does_what_the_page_says() {
    let page = include_str!("../../../../docs/device.md");
    let mut state = empty();
    let mut seen = 0;
    for example in page.split("```http\n").skip(1) {
        let (line, body) = example.split_once("```").unwrap().0.split_once('\n').unwrap();
        let body: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
        let (method, path) = line.split_once(' ').unwrap();
        let app = path.strip_prefix("/api/v1/device/apps/").map(name);
        let request = match (method, app) {
            ("GET", None) => {
                // A service that was stopped from the beginning has not been started.
                let slots = state.apps.values_mut().flat_map(|held| &mut held.app.slots);
                slots.filter(|slot| slot.goal == Goal::Stopped).for_each(|slot| slot.attempt = Attempt(0));
                assert_eq!(comparable(shown(&state)), comparable(body));
                seen += 1;
                continue;
            }
            ("PUT", None) => Request::Whole(body),
            ("PATCH", None) => Request::Merge(body),
            ("PUT", Some(app)) => Request::WholeApp(app, body),
            ("PATCH", Some(app)) => Request::MergeApp(app, body),
            _ => panic!("{line}"),
        };
        after(&mut state, request);
        seen += 1;
    }
    assert_eq!(seen, 6);
    assert_eq!(state.apps.keys().map(AppName::as_str).collect::<Vec<_>>(), ["a1"]);
    for (bound, word) in [(APPS_MAX, "1,000 apps"), (RELEASES_MAX, "64 releases")] {
        assert!(page.contains(word) && word.replace(',', "").contains(&bound.to_string()), "{word}");
    }
}

fn keys(all: &[(&str, &str)]) -> RegistryKeys {
    all.iter().map(|(host, key)| ((*host).to_owned(), RegistryKey::from(*key))).collect()
}

#[test]
fn keys_stay_in_a_merge_go_in_a_whole_and_are_never_shown() {
    let mut state = running();
    let to = |state: &State, request: Request| all_of(state, &request).unwrap().keys.map(|change| change.to);
    let merge = |state: &State, said: Value| to(state, Request::Merge(json!({ "keys": said })));
    let first = json!({ "r.example:5000": "open sesame", "docker.io": "t" });
    let both = keys(&[("r.example:5000", "open sesame"), ("docker.io", "t")]);
    assert_eq!(merge(&state, first), Some(both.clone()));
    state.keys = both;
    let document = shown(&state);
    assert_eq!(document["keys"], json!({ "docker.io": "***", "r.example:5000": "***" }));
    assert!(!format!("{document}{state:?}").contains("sesame"));
    // What is shown, said again, changes nothing, and so does a merge that says nothing of them.
    assert!(is_nothing(&state, &Request::Whole(document.clone())));
    assert!(is_nothing(&state, &Request::Merge(json!({}))));
    assert_eq!(
        merge(&state, json!({ "docker.io": null, "r.example:5000": "***" })),
        Some(keys(&[("r.example:5000", "open sesame")]))
    );
    assert_eq!(merge(&state, json!(null)), Some(RegistryKeys::new()));
    // A whole that is silent of one takes it away; one that is silent of all, all.
    let whole = |said: Option<Value>| {
        let mut document = document.clone();
        let map = document.as_object_mut().unwrap();
        map.remove("keys");
        map.extend(said.map(|said| ("keys".to_owned(), said)));
        to(&state, Request::Whole(document))
    };
    assert_eq!(whole(Some(json!({ "docker.io": "***" }))), Some(keys(&[("docker.io", "t")])));
    assert_eq!(whole(None), Some(RegistryKeys::new()));
    let most: serde_json::Map<_, _> = (0..=KEYS_MAX).map(|n| (format!("r{n}.example"), json!("k"))).collect();
    let refused = ask(&state, &Request::Merge(json!({ "keys": most }))).unwrap_err();
    assert_eq!(refused, "`/keys`: there are keys of 67 registries, and 64 are the most");
    let app = Request::MergeApp(name("a0"), json!({ "keys": {} }));
    assert!(ask(&state, &app).unwrap_err().starts_with("`/keys`: there is no such key"));
}

#[test]
fn with_another_key_what_lacks_an_image_is_tried_again_and_nothing_else() {
    let mut state = empty();
    let image = |image: &str, status: &str| json!({ "image": image, "status": status });
    let services = json!({
        "main": image("r.example/main", "running"), "side": image("s.example/side", "running"),
        "rest": image("r.example/rest", "stopped"),
    });
    after(
        &mut state,
        Request::Whole(json!({ "apps": { "a0": { "releases": { "r0": { "services": services } } } } })),
    );
    let merge = Request::Merge(json!({ "keys": { "r.example": "k" } }));
    let apps = |state: &State| all_of(state, &merge).unwrap().apps;
    assert_eq!(apps(&state), [], "all of it is there");
    state.apps.get_mut("a0").unwrap().standing = Standing::Aborted;
    let again = Seek::Again([name("main")].into());
    assert_eq!(apps(&state), [Change { app: name("a0"), stamp: Some("s".to_owned()), seek: again }]);
    // A key that goes is no reason.
    state.keys = keys(&[("r.example", "k")]);
    assert_eq!(all_of(&state, &Request::Merge(json!({ "keys": null }))).unwrap().apps, []);
}

#[test]
fn a_document_that_waits_is_on_its_way_and_is_not_read_when_it_comes_back() {
    let mut state = running();
    let queued = Queued { what: "w".into(), who: "uid 1".into(), at: Wall(7), problem: None };
    state.queued = Some(queued.clone());
    let document = shown(&state);
    assert_eq!(document["queued"], json!({ "what": "w", "who": "uid 1", "at": "at 7" }));
    assert_eq!(document["status"], "applying changes");
    assert!(is_nothing(&state, &Request::Whole(document)));
    state.queued = Some(Queued { problem: Some("full".into()), ..queued });
    assert_eq!(
        (&shown(&state)["status"], &shown(&state)["queued"]["problem"]),
        (&json!("done"), &json!("full"))
    );
}

#[test]
fn what_a_document_cannot_bring_is_refused_where_it_stands_and_a_secret_is_brought_as_content() {
    let main = |main: Value| refused(r0(main));
    assert_snapshot!(main(json!({ "build": "/etc" })), @"`/apps/a0/releases/r0/services/main/build`: a document names no files, so nobody can build an image for it (name an image that a registry has under `image`)");
    let release = |secret: Value| {
        json!({ "apps": { "a0": { "releases": { "r0": {
            "secrets": { "key": secret }, "services": { "main": { "secrets": ["key"] } },
        } } } } })
    };
    assert_snapshot!(refused(release(json!({ "file": "/etc/shadow" }))), @"`/apps/a0/releases/r0/secrets/key/file`: a document names no files (say what is in it under `content`)");
    assert_snapshot!(refused(release(json!({ "environment": "HOME" }))), @"`/apps/a0/releases/r0/secrets/key/environment`: a document has no variables (say what is in it under `content`)");
    let mut state = running();
    after(&mut state, Request::Merge(release(json!({ "content": "open $esame" }))));
    let files = &state.apps["a0"].app.project.services["main"].files;
    assert_eq!(files[0].content.reveal(), b"open $esame");
    let told = shown(&state);
    assert_eq!(told["apps"]["a0"]["releases"]["r0"]["secrets"], json!({ "key": { "content": "***" } }));
    assert_eq!(ask(&state, &Request::Whole(told)), Ok(vec![]));
}

#[test]
fn what_a_request_speaks_of_must_be_as_it_was_also_what_it_leaves_as_it_is() {
    let mut state = running();
    let other = json!({ "releases": { "x": { "services": { "s": { "image": "b" } } } } });
    let a0 = shown(&state)["apps"]["a0"].clone();
    let from = |request: Request| all_of(&state, &request).unwrap().from;
    let whole = from(Request::Whole(json!({ "apps": { "a0": a0 } })));
    let merge = from(Request::Merge(json!({ "apps": { "a0": a0, "a1": null } })));
    let of_keys = from(Request::Merge(json!({ "keys": { "r.example": "k" } })));
    let of_app = from(Request::WholeApp(name("a0"), a0));
    let suit = |state: &State| [&whole, &merge, &of_keys, &of_app].map(|from| from.suits(state));
    assert_eq!(suit(&state), [true; 4]);
    let mut stopped = state.clone();
    stopped.apps.get_mut("a0").unwrap().stamp = "other".to_owned();
    assert_eq!(suit(&stopped), [false, false, true, false]);
    let mut keyed = state.clone();
    keyed.keys = keys(&[("r.example", "j")]);
    assert_eq!(suit(&keyed), [false, true, false, true]);
    let declared = ask(&state, &Request::WholeApp(name("a2"), other.clone())).unwrap();
    let mut more = state.clone();
    reach(&mut more, declared);
    assert_eq!(suit(&more), [false, true, true, true], "who says all there is knew of no other");
    // What was going has gone, and what is going is there no more: nobody asked for it.
    more.apps.get_mut("a2").unwrap().is_leaving = true;
    assert_eq!(suit(&more), [true; 4]);
    let declared = ask(&state, &Request::WholeApp(name("a1"), other)).unwrap();
    reach(&mut state, declared);
    assert_eq!(suit(&state), [false, false, true, true]);
}
