//! The first engine's paths, byte by byte: each route, by everybody, and each way to be told no.

use std::sync::Arc;
use std::time::Duration;

use insta::assert_snapshot;
use tokio::sync::{Notify, oneshot};
use tokio::time::sleep;
use upbeat_api::{Problem, ProblemKind, Role};
use upbeat_model::rollout::{Amount, Controller, EntityId, Options};
use upbeat_model::{Millis, rollout::RolloutState};

use super::fake::Fake;
use super::tcp::Afar;
use super::{House, in_time};
use crate::Rollouts;
use crate::compat::nixmade::routes;

pub(super) const OK: &str = r#"200 {"status":"success","message":"ok"}"#;

pub(super) async fn post(house: &House, path: &str, body: &str) -> String {
    house.ask(&format!("POST /v1/orchestrate/{path}"), &[], body).await
}

async fn get(house: &House, path: &str) -> String {
    house.ask(&format!("GET /v1/orchestrate/{path}"), &[], "").await
}

/// How an entity is kept.
async fn kept(house: &House, namespace: &str, entity: &str) -> RolloutState {
    let id = EntityId::new(namespace, entity).unwrap();
    house.fake.rollouts.rollout(id).await.unwrap().unwrap()
}

fn who() -> String {
    format!("uid {}", rustix::process::geteuid().as_raw())
}

#[tokio::test]
async fn what_nobody_has_named_is_empty_and_no_error() {
    let house = House::open();
    assert_eq!(get(&house, "namespaces").await, "200 []");
    assert_eq!(get(&house, "prod/entities").await, "200 []");
    for path in ["prod/web/targets", "prod/web/status", "prod/web/Group0/status"] {
        assert_eq!(get(&house, path).await, "200 []", "{path}");
    }
    assert_eq!(
        get(&house, "prod/web/rollout").await,
        r#"200 {"options":{"batchpercent":5,"successpercent":100,"successtimeoutsecs":60,"durationtimeoutsecs":120}}"#
    );
    assert_eq!(house.fake.rollouts.asked(), [""; 0]);
    assert_eq!(get(&house, "namespaces").await, "200 []", "to look makes none");
}

/// What the load generator asks, in its order and as it writes it.
#[tokio::test]
async fn a_loop_of_the_load_generator_is_answered_as_it_expects() {
    let house = House::open();
    let options =
        r#"{"batchpercent":5,"successpercent":95,"successtimeoutsecs":10,"durationtimeoutsecs":30}"#;
    assert_eq!(post(&house, "prod/web/options", options).await, OK);
    assert_eq!(get(&house, "prod/web/Group0/status").await, "200 []");
    let targets = r#"[{"name":"clientTarget0","group":"Group0","message":"running successfully"},{"name":"clientTarget1","group":"Group0","message":"running successfully"}]"#;
    assert_eq!(post(&house, "prod/web/version", r#"{"version":"v1"}"#).await, OK);
    assert_eq!(post(&house, "prod/web/status", targets).await, OK);
    let expected = get(&house, "prod/web/Group0/status").await;
    let said = |n| {
        format!(
            r#"{{"name":"clientTarget{n}","group":"Group0","version":"v1","message":"Rollout new version v1 at 2023-11-14T22:13:20.123Z"}}"#
        )
    };
    assert_eq!(expected, format!("200 [{},{}]", said(0), said(1)));
    // It reports what it was told, and finds an error.
    let again = expected[4..].replacen("\"}", "\",\"isError\":true}", 1);
    let answer = post(&house, "prod/web", &again).await;
    let ill = said(0).replace("\"}", "\",\"isError\":true}");
    assert_eq!(answer, format!("200 [{ill},{}]", said(1)));
    let state = kept(&house, "prod", "web").await;
    let shares = Options { batch: Amount::Percent(5), success_percent: 95, ..Options::default() };
    let (success_timeout, duration_timeout) = (Millis::seconds(10), Millis::seconds(30));
    let carefully = Options { success_timeout, duration_timeout, ..shares };
    assert_eq!(state.options, carefully);
    let nothing = "clientTarget0 runs nothing, well (running successfully) {}";
    let asked = house.fake.rollouts.asked();
    assert_eq!(
        asked[2..4],
        [
            "later".to_owned(),
            format!(
                "prod/web: Group0/{nothing}; Group0/clientTarget1 runs nothing, well (running successfully) {{}}"
            )
        ]
    );
    assert!(asked[4].starts_with("prod/web: Group0/clientTarget0 runs v1, ill (Rollout new"), "{asked:?}");
}

#[tokio::test]
async fn where_an_entity_is_is_told_in_whole_percents_and_seconds() {
    let house = House::open();
    post(&house, "prod/web/version", r#"{"version":"v2"}"#).await;
    post(&house, "prod/web/options", r#"{"batchpercent":100}"#).await;
    assert_eq!(
        get(&house, "prod/web/rollout").await,
        r#"200 {"targetversion":"v2","options":{"batchpercent":100}}"#,
        "what is zero is left out, as it was sent"
    );
    let id = EntityId::new("prod", "web").unwrap();
    for (count, total, percent) in [(3, 10, 30), (1, 1000, 1), (7, 7, 100), (30, 10, 100), (5, 0, 100)] {
        house.fake.rollouts.put(&id, |state| {
            let (success_timeout, duration_timeout) = (Millis(1_500), Millis(1));
            state.options = Options {
                batch: Amount::Count(count),
                success_timeout,
                duration_timeout,
                ..Options::default()
            };
            state.counts.total = total;
            (state.rolling, state.good) = (state.target.clone(), state.target.clone());
            state.bad = state.target.clone();
        });
        let expected = format!(
            r#"200 {{"targetversion":"v2","rollingversion":"v2","lastknowngoodversion":"v2","lastknownbadversion":"v2","options":{{"batchpercent":{percent},"successpercent":100,"successtimeoutsecs":2,"durationtimeoutsecs":1}}}}"#
        );
        assert_eq!(get(&house, "prod/web/rollout").await, expected, "{count} of {total}");
    }
}

#[tokio::test]
async fn names_are_plain_and_lists_are_of_what_was_asked_for() {
    let house = House::open();
    for path in ["prod/web", "prod/db", "prod2/cache", "a%2Fb/c%20d%252F", "prod/entities", "namespaces/x"] {
        assert_eq!(post(&house, path, "[]").await, "200 []", "{path}");
    }
    assert_eq!(get(&house, "namespaces").await, r#"200 ["a/b","namespaces","prod","prod2"]"#);
    assert_eq!(get(&house, "prod/entities").await, r#"200 ["db","entities","web"]"#);
    assert_eq!(get(&house, "prod2/entities").await, r#"200 ["cache"]"#);
    assert_eq!(get(&house, "a%2Fb/entities").await, r#"200 ["c d%2F"]"#, "decoded once");
    assert_eq!(get(&house, "namespaces/entities").await, r#"200 ["x"]"#);
    // Groups by their whole names, whatever else these words mean.
    for group in ["Group1", "Group10", "target", "monitoring", "a/b", ""] {
        let body = format!(r#"[{{"name":"t","group":"{group}"}}]"#);
        assert!(post(&house, "prod/entities", &body).await.starts_with("200 [{"), "{group}");
    }
    for group in ["Group1", "Group10", "target", "monitoring", "a%2Fb"] {
        let said = get(&house, &format!("prod/entities/{group}/status")).await;
        let expected = format!(r#"200 [{{"name":"t","group":"{}","message""#, group.replace("%2F", "/"));
        assert!(said.starts_with(&expected) && said.matches("\"name\"").count() == 1, "{group}: {said}");
    }
    assert_eq!(get(&house, "prod/entities/Group/status").await, "200 []");
    assert_eq!(get(&house, "prod/entities/status").await.matches("\"name\"").count(), 6);
    assert_eq!(get(&house, "prod/entities/status").await, get(&house, "prod/entities/targets").await);
    assert_eq!(post(&house, "prod/entities/version", r#"{"version":"v1"}"#).await, OK);
}

#[tokio::test]
async fn options_are_reset_by_nothing_and_what_is_left_out_is_zero() {
    let house = House::open();
    let at_once = Options { success_timeout: Millis(0), duration_timeout: Millis(0), ..Options::default() };
    let none = Options { batch: Amount::Percent(0), success_percent: 0, ..at_once };
    let some = Options { batch: Amount::Percent(10), success_percent: 100, ..none };
    for (body, expected) in [
        ("{}", none),
        (r#"{"batchpercent":10,"successpercent":100,"successtimeoutsecs":null}"#, some),
        ("null", Options::default()),
        (r#"{"BatchPercent":10,"SUCCESSPERCENT":100,"colour":{"a":[1]}}"#, some),
        ("", Options::default()),
        (r#"{"batchpercent":10,"successpercent":100}"#, some),
        (" \n", Options::default()),
    ] {
        let said = post(&house, "prod/web/options", body).await;
        assert!(said.starts_with(r#"200 {"status":"success","message":"ok"#), "{body}: {said}");
        assert_eq!(kept(&house, "prod", "web").await.options, expected, "{body}");
    }
    assert_snapshot!(post(&house, "prod/web/options", r#"{"batchpercent":5,"successpercent":90,"successtimeoutsecs":900,"durationtimeoutsecs":120}"#).await, @r#"200 {"status":"success","message":"ok; a target has to be well for more than 15m and fails after 2m: none can succeed"}"#);
    assert_snapshot!(post(&house, "prod/web/options", "{}").await, @r#"200 {"status":"success","message":"ok; no target has to succeed: any version is good at once"}"#);
}

#[tokio::test]
async fn controllers_are_addresses_and_each_path_sets_its_own() {
    let house = House::open();
    let (target, monitoring) = ("prod/web/target/controller", "prod/web/monitoring/controller");
    let whole = r#"{"externalmonitoring":"https://m.example/"}"#;
    assert_eq!(post(&house, monitoring, whole).await, OK);
    let some = r#"{"Selection":"http://127.0.0.1:8081/selection","removal":"http://r.example/?token=t","approval":""}"#;
    assert_eq!(post(&house, target, some).await, OK);
    let controllers = kept(&house, "prod", "web").await.controllers;
    let asked: Vec<_> = controllers.each().map(|(field, _)| field).collect();
    assert_eq!(asked, ["selection", "removal", "external_monitoring"]);
    assert_eq!(controllers.selection, Some(Controller::Web("http://127.0.0.1:8081/selection".into())));
    let recorded = house.fake.recorded().join("\n");
    assert!(recorded.contains("set target controllers of prod/web: selection, removal -> 200"), "{recorded}");
    assert!(!recorded.contains("token"), "{recorded}");
    // Nothing changes by what cannot be.
    house.fake.rollouts.asked();
    assert_snapshot!(post(&house, target, r#"{"approval":"ftp://a/"}"#).await, @r#"400 {"status":"error","message":"in the body: `approval` must begin with `http://` or `https://`"}"#);
    assert_snapshot!(post(&house, monitoring, r#"{"externalmonitoring":"http://u:p@a/"}"#).await, @r#"400 {"status":"error","message":"in the body: `externalmonitoring` must have no login before `@`"}"#);
    assert_snapshot!(post(&house, target, r#"{"approval":["x"]}"#).await, @r#"400 {"status":"error","message":"in the body at `approval`: invalid type: sequence, expected a string at line 1 column 12"}"#);
    assert_snapshot!(post(&house, target, "").await, @r#"400 {"status":"error","message":"the body is empty; send JSON"}"#);
    assert_eq!((house.fake.rollouts.asked(), house.fake.recorded()), (vec![], vec![]));
    assert_eq!(post(&house, target, "{}").await, OK);
    let controllers = kept(&house, "prod", "web").await.controllers;
    assert_eq!(controllers.each().map(|(field, _)| field).collect::<Vec<_>>(), ["external_monitoring"]);
    assert_eq!(post(&house, monitoring, "null").await, OK);
    assert_eq!(kept(&house, "prod", "web").await.controllers, Default::default());
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_in_the_same_shape() {
    let house = House::open();
    assert_snapshot!(get(&house, "prod").await, @r#"404 {"status":"error","message":"there is no `/v1/orchestrate/prod` here; look at `/namespaces`, at `/{namespace}/entities` or, below `/{namespace}/{entity}`, at `/rollout`, `/targets`, `/status` or `/{group}/status`; post to `/{namespace}/{entity}`, or to its `/status`, `/version`, `/options`, `/target/controller` or `/monitoring/controller`"}"#);
    assert_snapshot!(house.ask("GET /v1/orchestrate", &[], "").await, @r#"404 {"status":"error","message":"there is no `/v1/orchestrate` here; look at `/namespaces`, at `/{namespace}/entities` or, below `/{namespace}/{entity}`, at `/rollout`, `/targets`, `/status` or `/{group}/status`; post to `/{namespace}/{entity}`, or to its `/status`, `/version`, `/options`, `/target/controller` or `/monitoring/controller`"}"#);
    assert_snapshot!(post(&house, "prod/web/undo", "{}").await, @r#"404 {"status":"error","message":"there is no `/v1/orchestrate/prod/web/undo` here; look at `/namespaces`, at `/{namespace}/entities` or, below `/{namespace}/{entity}`, at `/rollout`, `/targets`, `/status` or `/{group}/status`; post to `/{namespace}/{entity}`, or to its `/status`, `/version`, `/options`, `/target/controller` or `/monitoring/controller`"}"#);
    assert_snapshot!(house.ask("DELETE /v1/orchestrate/prod/web", &[], "").await, @r#"405 {"status":"error","message":"`/v1/orchestrate/prod/web` cannot be asked with DELETE; look at `/namespaces`, at `/{namespace}/entities` or, below `/{namespace}/{entity}`, at `/rollout`, `/targets`, `/status` or `/{group}/status`; post to `/{namespace}/{entity}`, or to its `/status`, `/version`, `/options`, `/target/controller` or `/monitoring/controller`"}"#);
    assert_snapshot!(get(&house, "prod/web").await, @r#"405 {"status":"error","message":"`/v1/orchestrate/prod/web` cannot be asked with GET; look at `/namespaces`, at `/{namespace}/entities` or, below `/{namespace}/{entity}`, at `/rollout`, `/targets`, `/status` or `/{group}/status`; post to `/{namespace}/{entity}`, or to its `/status`, `/version`, `/options`, `/target/controller` or `/monitoring/controller`"}"#);
    assert_snapshot!(post(&house, "prod/%ff/version", r#"{"version":"v1"}"#).await, @r#"400 {"status":"error","message":"in the path: Invalid UTF-8 in `entity`"}"#);
    assert_snapshot!(post(&house, "prod/a%0Ab", "[]").await, @r#"400 {"status":"error","message":"in the path: `entity` must have no control characters"}"#);
    assert_snapshot!(post(&house, "prod/", "[]").await, @r#"404 {"status":"error","message":"there is no `/v1/orchestrate/prod/` here; look at `/namespaces`, at `/{namespace}/entities` or, below `/{namespace}/{entity}`, at `/rollout`, `/targets`, `/status` or `/{group}/status`; post to `/{namespace}/{entity}`, or to its `/status`, `/version`, `/options`, `/target/controller` or `/monitoring/controller`"}"#);
    assert_snapshot!(get(&house, &format!("{}/entities", "x".repeat(257))).await, @r#"400 {"status":"error","message":"in the path: `namespace` must have 256 bytes at most"}"#);
    assert_snapshot!(get(&house, "prod/web/a%07/status").await, @r#"400 {"status":"error","message":"in the path: `group` must have no control characters"}"#);
    assert_snapshot!(get(&house, "namespaces?all=1").await, @r#"400 {"status":"error","message":"in the query: all: unknown field `all`, there are no fields"}"#);
    assert_snapshot!(house.ask("POST /v1/orchestrate/prod/web", &["Idempotency-Key: k"], "[]").await, @r#"400 {"status":"error","message":"in `idempotency-key`: no key is kept below `/v1/orchestrate`; leave it out; when an answer was lost, look at `/rollout` before you ask again"}"#);
    assert_snapshot!(house.ask("GET /v1/orchestrate/namespaces", &["Host: evil.example"], "").await, @r#"403 {"status":"error","message":"the `Host` of the request is not this server; use `Host: localhost`, or one of `api.allowed_hosts`"}"#);
    assert_snapshot!(house.ask("POST /v1/orchestrate/prod/web", &["Origin: http://evil.example"], "[]").await, @r#"403 {"status":"error","message":"web pages may not ask this server; leave out the `Origin` header"}"#);
    assert_eq!(house.fake.rollouts.asked(), [""; 0]);
    let elsewhere = house.ask("GET /v1/orchestrated", &[], "").await;
    assert!(elsewhere.starts_with(r#"404 {"kind":"not_found""#), "elsewhere it stays as it is: {elsewhere}");
}

#[tokio::test]
async fn what_is_decided_against_has_the_status_that_says_whose_fault_it_is() {
    let house = House::open();
    assert_snapshot!(post(&house, "prod/web/version", r#"{"version":"bad"}"#).await, @r#"409 {"status":"error","message":"version `bad` is known to be bad: aborted by ci; force it"}"#);
    for (kind, status) in [
        (ProblemKind::Conflict, 409),
        (ProblemKind::Unavailable, 503),
        (ProblemKind::Internal, 500),
        (ProblemKind::BadRequest, 400),
    ] {
        let problem = Problem::new(kind, "it is so").with_hint("wait");
        *house.fake.rollouts.refusal.lock().unwrap() = Some(problem);
        for path in ["namespaces", "prod/entities", "prod/web/rollout", "prod/web/targets"] {
            let said = get(&house, path).await;
            assert_eq!(
                said,
                format!(r#"{status} {{"status":"error","message":"it is so; wait"}}"#),
                "{path}"
            );
        }
        for (path, body) in [
            ("prod/web", "[]"),
            ("prod/web/status", "[]"),
            ("prod/web/version", r#"{"version":"v"}"#),
            ("prod/web/options", ""),
            ("prod/web/target/controller", "{}"),
            ("prod/web/monitoring/controller", "{}"),
        ] {
            let said = post(&house, path, body).await;
            assert_eq!(
                said,
                format!(r#"{status} {{"status":"error","message":"it is so; wait"}}"#),
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn every_path_for_every_role_and_only_what_people_ask_is_recorded() {
    let afar = Afar::open();
    for (path, least, _) in routes::<Fake>() {
        let method = if least == Role::Viewer { "GET" } else { "POST" };
        let (body, is_recorded) = match path.rsplit('/').next().unwrap() {
            _ if method == "GET" => ("", false),
            "version" => (r#"{"version":"v1"}"#, true),
            "options" | "controller" => ("{}", true),
            _ => ("[]", false),
        };
        let named = path.replace("{namespace}", "prod").replace("{entity}", "web").replace("{group}", "g");
        let line = format!("{method} {named}");
        for role in Role::ALL {
            afar.fake.recorded();
            afar.fake.rollouts.forget_all();
            let said = afar.ask(&line, &[&format!("Authorization: Bearer {role}")], body).await;
            let recorded = afar.fake.recorded();
            if role < least {
                let why = format!(
                    r#"403 {{"status":"error","message":"token {role} is {role}, and this is for {least}s; `"#
                );
                assert!(said.starts_with(&why), "{line} as {role}: {said}");
                continue;
            }
            assert!(said.starts_with("200 "), "{line} as {role}: {said}");
            assert_eq!(recorded.len(), if is_recorded { 2 } else { 0 }, "{line} as {role}: {recorded:?}");
            let of_it = format!("token {role} from afar: POST {path}: ");
            assert!(recorded.iter().all(|record| record.starts_with(&of_it)), "{recorded:?}");
        }
        // As those clients ask, who know of no token.
        let said = afar.ask(&line, &["Authorization: "], body).await;
        assert!(said.starts_with(r#"401 {"status":"error","message":""#), "{line}: {said}");
    }
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_done() {
    let house = House::open();
    house.fake.is_full.store(true, std::sync::atomic::Ordering::Relaxed);
    let said = post(&house, "prod/web/version", r#"{"version":"v1"}"#).await;
    assert_eq!(said, r#"503 {"status":"error","message":"the audit log cannot be used"}"#);
    assert_eq!(house.fake.rollouts.asked(), [""; 0]);
    assert_eq!(post(&house, "prod/web", "[]").await, "200 []");
    assert_eq!(house.fake.recorded(), [""; 0]);
}

/// Those clients do so with each report.
#[tokio::test]
async fn a_version_that_is_asked_for_again_is_no_change() {
    let house = House::open();
    let set = |version: &'static str| post(&house, "prod/web/version", version);
    for (version, is_change) in [
        (r#"{"version":"v1"}"#, true),
        (r#"{"version":"v1"}"#, false),
        (r#"{"version":"V1"}"#, true),
        (r#"{"version":"v1"}"#, true),
    ] {
        assert_eq!(set(version).await, OK, "{version}");
        let changes = (house.fake.rollouts.asked().len(), house.fake.recorded().len());
        assert_eq!(changes, if is_change { (1, 2) } else { (0, 0) }, "{version}");
    }
    let line = "POST /v1/orchestrate/prod/web/version";
    let said = house.ask(line, &["Idempotency-Key: k"], r#"{"version":"v1"}"#).await;
    assert!(said.starts_with("400 "), "{said}");
}

#[tokio::test]
async fn who_asks_is_known_to_whoever_keeps_rollouts() {
    let house = House::open();
    post(&house, "prod/web/version", r#"{"version":"v1"}"#).await;
    post(&house, "prod/web/monitoring/controller", "{}").await;
    let expected = [
        format!(
            "{}: prod/web SetVersion {{ version: \"v1\", force: false, options: None, strategy: None }}",
            who()
        ),
        format!("{}: prod/web controllers", who()),
    ];
    assert_eq!(house.fake.rollouts.asked(), expected);
}

// The clock is paused: see `streams`.
#[tokio::test(start_paused = true)]
async fn what_was_said_is_kept_also_when_nobody_waits_for_the_answer() {
    for path in ["prod/web", "prod/web/status"] {
        let house = House::open();
        let (opened, (done, is_done)) = (Arc::new(Notify::new()), oneshot::channel());
        *house.fake.rollouts.gate.lock().unwrap() = Some((opened.clone(), done));
        let mut stream = house.connect().await;
        let asked = super::request(&format!("POST /v1/orchestrate/{path}"), &[], r#"[{"name":"a"}]"#);
        tokio::io::AsyncWriteExt::write_all(&mut stream, asked.as_bytes()).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(house.fake.rollouts.asked().last().map(String::as_str), Some("waits"));
        drop(stream);
        sleep(Duration::from_secs(1)).await;
        opened.notify_one();
        in_time(is_done).await.unwrap();
    }
}
