//! Controllers that are silent, lead elsewhere, or talk nonsense.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::callback::{Callback, Does};
use super::fleet::{Fleet, at_once, count, ones_and_twos};
use super::wire::{Wire, socket};
use crate::Journey;
use crate::access::Served;
use crate::home::{Home, eventually};

pub(super) fn journeys() -> Vec<Journey> {
    vec![
        Journey::new("a controller that never answers holds up nobody else, and ends in time", silent),
        Journey::new("a controller that leads elsewhere or talks nonsense moves nobody", nonsense),
        Journey::new("a controller outside of the allow-list is not asked, and named", not_allowed),
    ]
}

/// Ten targets of which one would be told v2 next, and whoever is to be asked before.
fn fleet(home: &Home, entity: &str, controllers: &Value) -> Fleet {
    let mut fleet = Fleet::of(home, entity).with(10, "", "v1");
    fleet.established(&at_once());
    let what = match controllers.get("externalmonitoring") {
        Some(_) => "/monitoring/controller",
        None => "/target/controller",
    };
    fleet.done(what, controllers);
    fleet
}

fn why(home: &Home, entity: &str) -> String {
    home.run(&["rollout", "why", entity]).ok().stdout
}

/// On a machine that stands still for so long that the time of the silent is over before the others are
/// answered, nothing is shown by that: then it is tried again. Where they wait for the silent, it always is so.
fn silent() {
    let home = Home::new();
    let _served = Served::start(&home, &[]);
    assert!((1..=3).any(|round| others_are_answered(&home, round)), "each time the others waited");
}

/// Whether what others asked was answered while three callers waited for whoever never answers.
fn others_are_answered(home: &Home, round: usize) -> bool {
    let waits = || Callback::new(|_| Does::Waits);
    let (one, other, whole) = (waits(), waits(), waits());
    let [left, held, judged, another] =
        ["left", "held", "judged", "another"].map(|name| format!("prod/{name}{round}"));
    let selection = |callback: &Callback| json!({"selection": callback.url});
    let mut fleets = [
        fleet(home, &left, &selection(&one)),
        fleet(home, &held, &selection(&other)),
        fleet(home, &judged, &json!({"externalmonitoring": whole.url})),
    ];
    let has_ended = AtomicBool::new(false);
    let are_answered = std::thread::scope(|scope| {
        let has_ended = &has_ended;
        let calling = fleets.each_mut().map(|fleet| {
            scope.spawn(move || {
                let reports = Value::Array(fleet.targets.clone());
                let said = fleet.post("", &reports);
                has_ended.store(true, Ordering::SeqCst);
                said
            })
        });
        eventually("all three are asked", || {
            [&one, &other, &whole].iter().all(|callback| callback.asked().len() == 1)
        });
        let mut wire = Wire::open(&socket(home)).unwrap();
        for id in [&left, &held, &judged] {
            let (status, state) = wire.ask("GET", &format!("/api/v1/rollouts/{id}"), None).unwrap();
            assert_eq!((status, &state["course"]), (200, &json!("forward")), "{state}");
        }
        let pause = format!("/api/v1/rollouts/{held}/actions");
        let (status, paused) = wire.ask("POST", &pause, Some(&json!({"action": "pause"}))).unwrap();
        assert_eq!(status, 200, "{paused}");
        let mut another = Fleet::of(home, &another).with(10, "", "v1");
        another.established(&at_once());
        assert_eq!(count(&another.call()), ones_and_twos(9, 1));
        let more = format!("/v1/orchestrate/{left}/status");
        let (status, _) = wire.ask("POST", &more, Some(&json!([{"name": "late"}]))).unwrap();
        assert_eq!(status, 200, "also what is said of the same entity is taken down");
        let are_answered = !has_ended.load(Ordering::SeqCst);
        let [left, held, judged] = calling.map(|calling| calling.join().unwrap());
        for (status, targets) in [left, held] {
            let targets = targets.as_array().unwrap();
            assert_eq!((status, count(targets).get("v2")), (200, None), "{targets:?}");
        }
        let (status, said) = judged;
        assert_eq!((status, &said["status"]), (409, &json!("error")), "{said}");
        let message = said["message"].as_str().unwrap();
        assert!(message.contains("external monitoring failed: timed out after 10s"), "{message}");
        are_answered
    });
    let (left, held) = (why(home, &left), why(home, &held));
    assert!(left.contains("selection could not be asked: timed out after 10s"), "{left}");
    // What was asked for meanwhile counts.
    assert!(!are_answered || held.contains("paused by"), "{held}");
    are_answered
}

fn nonsense() {
    let home = Home::new();
    let _served = Served::start(&home, &[]);
    let says = |text: &'static str| move |_: &Value| Does::Says(text.to_owned());
    let keys = Callback::new(|_| Does::Redirects("http://169.254.169.254/latest/meta-data".to_owned()));
    let garbage = Callback::new(says("<html>"));
    let strangers = Callback::new(says(r#"{"targets":[{"name":"TARGET1"},{"name":"stranger"}]}"#));
    let hangs_up = Callback::new(says(""));
    for (entity, controllers, words) in [
        (
            "prod/keys",
            json!({"selection": keys.url}),
            "selection could not be asked: `169.254.169.254` may not be asked: it is a link-local address",
        ),
        (
            "prod/garbage",
            json!({"selection": garbage.url}),
            "selection could not be asked: its answer is not the JSON that was asked for",
        ),
        ("prod/empty", json!({"approval": hangs_up.url}), "approval could not be asked: its answer is empty"),
        ("prod/strangers", json!({"approval": strangers.url}), "not approved: target1"),
    ] {
        let mut fleet = fleet(&home, entity, &controllers);
        for _ in 0..2 {
            assert_eq!(count(&fleet.call()), ones_and_twos(10, 0), "{entity}");
        }
        let why = why(&home, entity);
        assert!(why.contains(words), "{why}");
    }
    // Who is not there cannot be removed, and who is there is not.
    let mut kept = fleet(&home, "prod/kept", &json!({"removal": strangers.url}));
    eventually("whoever removes is asked", || {
        kept.call();
        strangers.asked().iter().any(|asked| asked["count"] == 1)
    });
    assert_eq!(kept.call().len(), 10);
}

fn not_allowed() {
    let mut home = Home::new();
    // Of 10.0.0.0/8 one program, and it is not that one.
    home.set("UPBEAT_ROLLOUTS_CALLBACKS", "10.1.2.3:8443,*.example.com");
    let _served = Served::start(&home, &[]);
    for (entity, url, words) in [
        ("prod/port", "http://10.1.2.3/", "no entry of the allow-list is for it and port 80"),
        ("prod/other", "https://10.1.2.4:8443/", "`10.1.2.4` may not be asked"),
        ("prod/link", "http://169.254.169.254/", "which no block of the allow-list means"),
    ] {
        let mut fleet = fleet(&home, entity, &json!({"selection": url}));
        assert_eq!(count(&fleet.call()), ones_and_twos(10, 0), "{entity}");
        let why = why(&home, entity);
        assert!(why.contains(words), "{why}");
    }
}
