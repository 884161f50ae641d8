//! Rollouts as the first engine's clients ask for them (`spec/nixmade.md` 2.(b)).

use serde_json::{Value, json};

use super::callback::{Callback, Does};
use super::fleet::{Fleet, at_once, count, ones_and_twos};
use super::wire::Wire;
use crate::Journey;
use crate::access::Served;
use crate::home::{Home, eventually};

pub(super) fn journeys() -> Vec<Journey> {
    vec![
        Journey::new("of ten targets and five percent one is moved, and in the end all are", rollout),
        Journey::new("ten thousand devices are reported in one request, and told what to run", many),
        Journey::new("programs without tokens roll out at the address that is open to them", open),
        Journey::new("targets that report errors on a version are taken back, all of them", rollback),
        Journey::new("what is reported for later is decided in the background", later),
        Journey::new("a group is a whole name, and its targets are told apart", groups),
        Journey::new("whoever selects targets over HTTP is asked, and obeyed", selection),
        Journey::new("new targets take the place of old ones where controllers say so", blue_green),
        Journey::new("entities of several namespaces go their ways at once, and are listed apart", apart),
        Journey::new("a rollout goes on where a killed daemon has left it", killed),
        Journey::new("what cannot be is refused in the envelope, and changes nothing", refused),
    ]
}

/// A home with a daemon.
fn served() -> (Home, Served) {
    let home = Home::new();
    let served = Served::start(&home, &[]);
    (home, served)
}

/// Ten targets on v1, and one of them is told v2.
#[track_caller]
fn one_of_ten(fleet: &mut Fleet) -> Vec<Value> {
    fleet.established(&at_once());
    let told = fleet.call();
    assert_eq!(count(&told), ones_and_twos(9, 1));
    told
}

/// Calls until v2 is good: so many more at a time, and nobody back.
#[track_caller]
fn to_the_end(fleet: &mut Fleet, batch: usize) {
    let all = fleet.targets.len();
    let mut before = count(fleet.get("/status").as_array().unwrap()).get("v2").copied().unwrap_or(0);
    eventually("all are on v2, and it is good", || {
        let twos = count(&fleet.call()).get("v2").copied().unwrap_or(0);
        assert!((before..=before + batch).contains(&twos), "{twos} after {before}");
        before = twos;
        fleet.rollout()["lastknowngoodversion"] == "v2"
    });
    assert_eq!(before, all);
}

/// The rest is moved together.
fn faster() -> Value {
    json!({"batchpercent": 100, "successpercent": 100, "durationtimeoutsecs": 600})
}

fn rollout() {
    let (home, _served) = served();
    let mut fleet = Fleet::of(&home, "prod/web").with(10, "", "v1");
    let told = one_of_ten(&mut fleet);
    let moved = told.iter().find(|target| target["version"] == "v2").unwrap();
    let message = moved["message"].as_str().unwrap();
    assert!(message.starts_with("Rollout new version v2 at 2"), "{message}");
    assert_eq!(fleet.get("/targets"), fleet.get("/status"));
    assert_eq!(count(fleet.get("/targets").as_array().unwrap()), ones_and_twos(9, 1));
    let options = json!({"batchpercent": 5, "successpercent": 100, "durationtimeoutsecs": 600});
    let whole = json!({
        "targetversion": "v2", "rollingversion": "v2", "lastknowngoodversion": "v1", "options": options,
    });
    assert_eq!(fleet.rollout(), whole);
    fleet.done("/options", &faster());
    to_the_end(&mut fleet, 9);
}

fn many() {
    let (home, _served) = served();
    let mut fleet = Fleet::of(&home, "edge/devices").with(10_000, "", "v1");
    fleet.established(&at_once());
    assert_eq!(count(&fleet.call()), ones_and_twos(9_500, 500));
    // Those that were moved alone say so; all are told.
    let all = std::mem::take(&mut fleet.targets);
    fleet.targets = all.into_iter().filter(|target| target["version"] == "v2").collect();
    assert_eq!(fleet.targets.len(), 500);
    eventually("they are well, and as many more are moved", || {
        count(&fleet.report()) == ones_and_twos(9_000, 1_000)
    });
}

fn open() {
    let mut home = Home::new();
    home.set("UPBEAT_ROLLOUTS_LISTEN", "127.0.0.1:0");
    let served = Served::start(&home, &[]);
    let address = served.address_behind("rollouts are served without tokens to this machine");
    let mut fleet = Fleet::over(Wire::to(&address).unwrap(), "prod/web").with(10, "", "v1");
    one_of_ten(&mut fleet);
    fleet.done("/options", &faster());
    to_the_end(&mut fleet, 9);
    // It is the same that others see, and there is nothing else.
    let shown = home.run(&["rollout", "show", "prod/web", "-o", "json"]).ok().stdout;
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["good"], "v2");
    let mut wire = Wire::to(&address).unwrap();
    for path in ["/api/v1/rollouts", "/api/v1/apps", "/metrics", "/"] {
        let (status, said) = wire.ask("GET", path, None).unwrap();
        assert_eq!((status, &said["status"]), (404, &json!("error")), "{path}: {said}");
    }
}

/// Those that run v2 are unwell, and say so.
fn complain(fleet: &mut Fleet) {
    for target in &mut fleet.targets {
        let is_unwell = target["version"] == "v2";
        target["isError"] = json!(is_unwell);
        target["message"] = json!(if is_unwell { "it crashes" } else { "" });
    }
}

/// Calls until v2 is bad and nobody is on it. Never more than so many were.
#[track_caller]
fn until_back(fleet: &mut Fleet, batch: usize) {
    let all = fleet.targets.len();
    let mut was_moved = false;
    eventually("none is on v2 any more", || {
        complain(fleet);
        let told = fleet.call();
        let twos = count(&told).get("v2").copied().unwrap_or(0);
        assert!(twos <= batch, "{twos} were moved");
        was_moved |= twos > 0;
        let state = fleet.rollout();
        state["lastknownbadversion"] == "v2" && count(&told) == ones_and_twos(all, 0)
    });
    assert!(was_moved, "nobody ever was");
    assert_eq!(fleet.rollout()["lastknowngoodversion"], "v1");
    complain(fleet);
    // It stays so, as long as v2 is what was asked for.
    assert_eq!(count(&fleet.call()), ones_and_twos(all, 0));
}

fn rollback() {
    let (home, _served) = served();
    let mut fleet = Fleet::of(&home, "prod/web").with(10, "", "v1");
    let options = json!({
        "batchpercent": 5, "successpercent": 100, "successtimeoutsecs": 2, "durationtimeoutsecs": 3,
    });
    fleet.established(&options);
    until_back(&mut fleet, 1);
    let why = home.run(&["rollout", "why", "prod/web"]).ok().stdout;
    assert!(why.contains("`v2` is held to be bad: 1 of 10 targets failed, and 0 may: target1"), "{why}");
}

fn later() {
    let (home, _served) = served();
    let mut fleet = Fleet::of(&home, "prod/web").with(10, "", "v1");
    fleet.established(&at_once());
    let targets = Value::Array(fleet.targets.clone());
    fleet.done("/status", &targets);
    eventually("one is moved", || count(fleet.get("/status").as_array().unwrap()) == ones_and_twos(9, 1));
}

fn groups() {
    let (home, _served) = served();
    let mut fleet = Fleet::of(&home, "prod/web").with(10, "", "v1");
    fleet.declared();
    let mut fleet = fleet.with(10, "Group2", "v1");
    fleet.done("/options", &at_once());
    fleet.done("/version", &json!({"version": "v2"}));
    fleet.call();
    assert_eq!(count(&fleet.call()), ones_and_twos(19, 1));
    let second = fleet.get("/Group2/status");
    let second = second.as_array().unwrap();
    assert!(second.iter().all(|target| target["group"] == "Group2"), "{second:?}");
    assert_eq!(count(second), ones_and_twos(10, 0));
    // One group's name may begin with another's.
    let mut fleet = fleet.with(2, "Group1", "v1").with(3, "Group10", "v1");
    fleet.call();
    for (group, members) in [("Group1", 2), ("Group10", 3), ("Group", 0), ("group1", 0)] {
        assert_eq!(fleet.get(&format!("/{group}/status")).as_array().unwrap().len(), members, "{group}");
    }
}

fn selection() {
    let (home, _served) = served();
    let mut fleet = Fleet::of(&home, "prod/web").with(10, "", "v1");
    let chooser = Callback::new(|question| {
        let all = question["targets"].as_array().unwrap();
        let chosen: Vec<_> = all.iter().filter(|target| target["name"] == "target7").collect();
        Does::Says(json!({ "targets": chosen }).to_string())
    });
    fleet.established(&at_once());
    fleet.done("/target/controller", &json!({"selection": chooser.url}));
    let told = fleet.call();
    assert_eq!(count(&told), ones_and_twos(9, 1));
    let moved: Vec<_> = told.iter().filter(|target| target["version"] == "v2").collect();
    assert_eq!(moved[0]["name"], "target7", "{moved:?}");
    // All were offered, and one was asked for.
    let asked = chooser.asked();
    let asked = asked.last().unwrap();
    assert_eq!((asked["targets"].as_array().unwrap().len(), &asked["count"]), (10, &json!(1)));
}

/// Whoever selects makes a new target for each, and whoever removes takes an old one away.
fn blue_green() {
    let (home, _served) = served();
    let mut fleet = Fleet::of(&home, "prod/web").with(3, "", "v1");
    let maker = Callback::new(|question| {
        let old = question["targets"][0]["name"].as_str().unwrap().replace("target", "new");
        Does::Says(json!({"targets": [{"name": old}]}).to_string())
    });
    let remover = Callback::new(|question| {
        let old = question["targets"].as_array().unwrap().iter();
        let old: Vec<_> = old.filter(|target| target["version"] == "v1").take(1).collect();
        Does::Says(json!({ "targets": old }).to_string())
    });
    let controllers = json!({"selection": maker.url, "removal": remover.url});
    fleet.established(&at_once());
    fleet.done("/target/controller", &controllers);
    let new = |told: &[Value]| {
        let is_new = |target: &&Value| target["name"].as_str().unwrap().starts_with("new");
        told.iter().filter(is_new).count()
    };
    eventually("all are new", || {
        let told = fleet.report();
        assert!(told.len() <= 4, "one more than there were, at most: {told:?}");
        // Whoever was made runs what it shall; whoever is gone is not reported again.
        fleet.targets = told.clone();
        for target in &mut fleet.targets {
            target.as_object_mut().unwrap().remove("message");
        }
        new(&told) == 3 && told.len() == 3 && fleet.rollout()["lastknowngoodversion"] == "v2"
    });
    assert_eq!(count(&fleet.report()), ones_and_twos(0, 3));
}

fn apart() {
    let (home, _served) = served();
    let names: Vec<(&str, String)> = ["test", "dev", "prod"]
        .iter()
        .flat_map(|namespace| (1..=4).map(move |n| (*namespace, format!("{namespace}{n}"))))
        .collect();
    std::thread::scope(|scope| {
        for (n, (namespace, entity)) in names.iter().enumerate() {
            let home = &home;
            scope.spawn(move || {
                let mut fleet = Fleet::of(home, &format!("{namespace}/{entity}")).with(3, "", "v1");
                if n % 2 == 0 {
                    fleet.established(&at_once());
                    to_the_end(&mut fleet, 1);
                } else {
                    fleet.established(&json!({
                        "batchpercent": 5, "successpercent": 100, "durationtimeoutsecs": 1,
                    }));
                    until_back(&mut fleet, 1);
                }
            });
        }
    });
    let mut all = Fleet::of(&home, "");
    let mut ask = |path: &str| all.get(path);
    assert_eq!(ask("namespaces"), json!(["dev", "prod", "test"]));
    for namespace in ["dev", "prod", "test"] {
        let its: Vec<_> = (1..=4).map(|n| format!("{namespace}{n}")).collect();
        assert_eq!(ask(&format!("{namespace}/entities")), json!(its));
    }
    assert_eq!(ask("pro/entities"), json!([]), "no part of a name is one");
}

fn killed() {
    let (home, served) = served();
    let mut fleet = Fleet::of(&home, "prod/web").with(10, "", "v1");
    fleet.established(&json!({"batchpercent": 20, "successpercent": 100, "durationtimeoutsecs": 600}));
    let mut told = Vec::new();
    eventually("four of them are on v2", || {
        told = fleet.call();
        count(&told).get("v2") == Some(&4)
    });
    let before = fleet.rollout();
    drop(served);
    let _served = Served::start(&home, &[]);
    let mut fleet = fleet.again(&home);
    assert_eq!(fleet.rollout(), before);
    assert_eq!(fleet.get("/status"), json!(told), "what was told is known");
    to_the_end(&mut fleet, 2);
}

fn refused() {
    let (home, _served) = served();
    let mut fleet = Fleet::of(&home, "prod/web").with(3, "", "v1");
    fleet.established(&json!({"batchpercent": 5, "successpercent": 100, "durationtimeoutsecs": 1}));
    until_back(&mut fleet, 1);
    fleet.done("/version", &json!({"version": "v3"}));
    fleet.call();
    let (state, targets) = (fleet.rollout(), fleet.get("/targets"));
    for (what, body, expected, words) in [
        ("/version", json!({"version": "v2"}), 409, "version `v2` is known to be bad: 1 of 3 targets failed"),
        ("/version", json!({"version": ""}), 400, "version"),
        ("/version", json!({"version": 7}), 400, "version"),
        ("/options", json!({"batchpercent": 101}), 400, "batchpercent"),
        ("/options", json!({"successtimeoutsecs": -1}), 400, "successtimeoutsecs"),
        ("/options", json!({"successpercent": 99.5}), 400, "successpercent"),
        ("", json!({"name": "target1"}), 400, "list"),
        ("", json!([{"name": ""}]), 400, "[0].name"),
        ("", json!([{"name": "a"}, {"name": "a"}]), 400, "same target"),
        ("/target/controller", json!({"approval": "file:///etc/passwd"}), 400, "approval"),
        ("/nowhere", json!({}), 404, "/nowhere"),
    ] {
        let (status, said) = fleet.post(what, &body);
        let message = said["message"].as_str().unwrap();
        assert_eq!((status, &said["status"]), (expected, &json!("error")), "{what} {body}: {message}");
        assert!(message.contains(words), "{what} {body}: {message}");
    }
    let mut early = Fleet::of(&home, "prod/early").with(1, "", "v1");
    let reports = Value::Array(early.targets.clone());
    let (status, said) = early.post("", &reports);
    assert_eq!((status, &said["status"]), (409, &json!("error")), "{said}");
    assert!(said["message"].as_str().unwrap().starts_with("empty target version"), "{said}");
    assert_eq!(early.get("/targets").as_array().unwrap().len(), 1, "what was said is kept");
    let judge = Callback::new(|_| Does::Says(json!({"status": "error", "message": "it burns"}).to_string()));
    assert_eq!((fleet.rollout(), fleet.get("/targets")), (state, targets));
    // Somebody else's no is no fault of whoever asks.
    fleet.done("/monitoring/controller", &json!({"externalmonitoring": judge.url}));
    let reports = Value::Array(fleet.targets.clone());
    let (status, said) = fleet.post("", &reports);
    assert_eq!((status, &said["status"]), (409, &json!("error")), "{said}");
    assert!(said["message"].as_str().unwrap().contains("it burns"), "{said}");
}
