//! Rollouts over the native API, by the typed client and byte by byte.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::TryStreamExt;
use insta::assert_snapshot;
use tokio::sync::{Notify, oneshot};
use tokio::time::sleep;
use upbeat_api::rollouts::{Assignments, Reports, RolloutAction, RolloutsQuery, TargetReport};
use upbeat_api::{ClientError, Problem, ProblemKind};
use upbeat_model::rollout::{
    Amount, Caution, Controller, Controllers, EntityId, Options, RolloutState, TargetState, Version,
};
use upbeat_model::{Millis, Wall};

use super::fake_rollouts::AT;
use super::tcp::Afar;
use super::{House, in_time};

const JSON: &str = "Content-Type: application/json";

fn id(namespace: &str, entity: &str) -> EntityId {
    EntityId::new(namespace, entity).unwrap()
}

fn set(version: &str) -> RolloutAction {
    RolloutAction::set_version(Version::new(version).unwrap(), false)
}

fn report(group: &str, name: &str) -> TargetReport {
    TargetReport { group: group.into(), name: name.into(), version: Some("v1".into()), ..Default::default() }
}

fn names(targets: &[TargetState]) -> Vec<String> {
    targets.iter().map(|target| target.id.to_string()).collect()
}

fn who() -> String {
    format!("uid {}", rustix::process::geteuid().as_raw())
}

#[tokio::test]
async fn what_is_asked_about_rollouts_is_answered() {
    let house = House::open();
    let client = house.client();
    // Names that mean something in a URL.
    let shop = id("prod/eu", "web ?#%2F&größe");
    let error = client.rollout(&shop).await.unwrap_err();
    assert_snapshot!(error, @"there is no entity `prod/eu/web ?#%2F&größe`");
    let changed = client.act_on_rollout(&shop, &set("v2")).await.unwrap();
    assert_eq!(changed.rollout.target, Some(Version::new("v2").unwrap()));
    let labels = BTreeMap::from([("ring".to_owned(), "canary".to_owned())]);
    let ill = TargetReport { is_error: true, message: "down".into(), labels, ..report("a&b", "x") };
    let none = TargetReport { version: Some(String::new()), ..report("", "y") };
    let reports = Reports { targets: vec![ill, report("a", "x"), none] };
    let Assignments { rollout, targets } = client.report_targets(&shop, &reports).await.unwrap();
    assert_eq!(rollout, changed.rollout);
    assert_eq!(names(&targets), ["y", "a/x", "a&b/x"]);
    assert_eq!(targets[0].assigned.version, rollout.target);
    assert_eq!((targets[0].current.version.as_ref(), targets[2].seen), (None, AT));
    assert_eq!(client.rollout_targets(&shop, None).await.unwrap(), targets);
    assert_eq!(client.rollout_targets(&shop, Some("a&b")).await.unwrap(), targets[2..]);
    assert_eq!(client.rollout_targets(&shop, Some("")).await.unwrap(), targets[..1]);
    client.act_on_rollout(&id("test", "web"), &RolloutAction::Pause).await.unwrap();
    assert_eq!(client.rollouts(&RolloutsQuery::default()).await.unwrap().rollouts.len(), 2);
    let of_namespace = RolloutsQuery { namespace: Some("prod/eu".into()), ..RolloutsQuery::default() };
    let of_prod: Vec<RolloutState> = client.rollouts(&of_namespace).await.unwrap().rollouts;
    assert_eq!(of_prod, [client.rollout(&shop).await.unwrap()]);
    let watched: Vec<_> = client.watch_rollout(&shop).await.unwrap().try_collect().await.unwrap();
    assert_eq!(watched, of_prod);
    client.forget_rollout(&shop).await.unwrap();
    for error in [
        client.rollout(&shop).await.unwrap_err(),
        client.watch_rollout(&shop).await.err().unwrap(),
        client.rollout_targets(&shop, None).await.unwrap_err(),
        client.forget_rollout(&shop).await.unwrap_err(),
    ] {
        assert!(
            matches!(&error, ClientError::Problem(problem) if problem.kind == ProblemKind::NotFound),
            "{error}"
        );
    }
    let shop = "prod/eu/web ?#%2F&größe";
    assert_eq!(
        house.fake.rollouts.asked()[..2],
        [
            format!(
                "{}: {shop} SetVersion {{ version: \"v2\", force: false, options: None, strategy: None }}",
                who()
            ),
            format!(
                "{shop}: a&b/x runs v1, ill (down) {{\"ring\": \"canary\"}}; a/x runs v1, well () {{}}; \
                 y runs nothing, well () {{}}"
            ),
        ]
    );
}

#[tokio::test]
async fn what_cannot_go_well_is_said_and_what_cannot_be_is_refused() {
    let house = House::open();
    let (client, web) = (house.client(), id("prod", "web"));
    let options = |batch, success| {
        let (success_timeout, duration_timeout) = (Millis::seconds(success), Millis::seconds(120));
        let options = Options { batch, success_timeout, duration_timeout, ..Options::default() };
        RolloutAction::SetOptions { options: Some(options) }
    };
    let changed = client.act_on_rollout(&web, &options(Amount::Count(3), 900)).await.unwrap();
    assert!(matches!(changed.cautions[..], [Caution::NoTimeToSucceed { .. }]), "{changed:?}");
    let error = client.act_on_rollout(&web, &options(Amount::Percent(101), 1)).await.unwrap_err();
    assert_snapshot!(error, @"`batch` must be between 0 and 100");
    let error = client.act_on_rollout(&web, &set("bad")).await.unwrap_err();
    assert!(matches!(&error, ClientError::Problem(problem) if problem.kind == ProblemKind::Conflict));
    assert_eq!(error.hint(), Some("force it"));
    assert_eq!(client.rollout(&web).await.unwrap(), changed.rollout, "and nothing has changed");
}

#[tokio::test]
async fn whom_an_entity_asks_is_replaced_and_its_secrets_are_shown_to_nobody() {
    let house = House::open();
    let (client, web) = (house.client(), id("prod", "web"));
    let address = "https://gate.example/ask?deep=1&token=canary-1";
    let shown = "https://gate.example/ask?deep=1&token=***";
    let asked = |address: &str| Controllers {
        approval: Some(Controller::Web(address.into())),
        monitoring: Some(Controller::Exec(vec!["check".into(), "--now".into()])),
        ..Controllers::default()
    };
    let state = client.set_controllers(&web, &asked(address)).await.unwrap();
    assert_eq!(state.controllers, asked(shown));
    let looked = [
        client.rollout(&web).await.unwrap(),
        client.rollouts(&RolloutsQuery::default()).await.unwrap().rollouts.remove(0),
        client.watch_rollout(&web).await.unwrap().try_next().await.unwrap().unwrap(),
        client.report_targets(&web, &Reports { targets: vec![] }).await.unwrap().rollout,
        client.act_on_rollout(&web, &RolloutAction::Pause).await.unwrap().rollout,
    ];
    for state in looked {
        assert_eq!(state.controllers, asked(shown));
    }
    let error = client.set_controllers(&web, &asked(shown)).await.unwrap_err();
    assert_snapshot!(error, @"in the body: `approval` has `***` where something was not shown: say it again, whole");
    let error = client.set_controllers(&web, &asked("ftp://a/")).await.unwrap_err();
    assert_snapshot!(error, @"in the body: `approval` must begin with `http://` or `https://`");
    let program = Controllers { approval: Some(Controller::Program), ..Controllers::default() };
    let error = client.set_controllers(&web, &program).await.unwrap_err().to_string();
    assert!(error.starts_with("in the body: `approval` cannot be `program`"), "{error}");
    // It is kept all the same.
    let kept = crate::Rollouts::rollout(&house.fake.rollouts, web.clone()).await.unwrap().unwrap();
    assert_eq!(kept.controllers, asked(address));
    let none = client.set_controllers(&web, &Controllers::default()).await.unwrap();
    assert_eq!(none.controllers, Controllers::default());
    let recorded = house.fake.recorded().join("\n");
    assert!(recorded.contains("set controllers of prod/web: approval, monitoring"), "{recorded}");
    assert!(recorded.contains("set controllers of prod/web: nobody -> 200"), "{recorded}");
    assert!(!recorded.contains("canary"), "{recorded}");
}

#[tokio::test]
async fn what_people_ask_is_recorded_before_and_after_and_what_controllers_say_is_not() {
    let afar = Afar::open();
    let (client, web) = (afar.client("operator"), id("prod", "web"));
    let reports = Reports { targets: vec![report("", "x")] };
    client.report_targets(&web, &reports).await.unwrap();
    client.rollouts(&RolloutsQuery::default()).await.unwrap();
    client.rollout_targets(&web, None).await.unwrap();
    assert_eq!(afar.fake.recorded(), [""; 0]);
    let version = Version::new("v2").unwrap();
    for action in [
        set("v2"),
        RolloutAction::set_version(version.clone(), true),
        set("bad"),
        RolloutAction::SetOptions { options: None },
        RolloutAction::SetOptions { options: Some(Options::default()) },
        RolloutAction::Pause,
        RolloutAction::Resume,
        RolloutAction::Abort { why: String::new() },
        RolloutAction::Abort { why: "too slow".into() },
        RolloutAction::Promote { all: true },
        RolloutAction::Retry,
        RolloutAction::Forgive { version: version.clone(), until: None },
        RolloutAction::Forgive { version, until: Some(Wall(7)) },
    ] {
        let _ = client.act_on_rollout(&web, &action).await;
    }
    client.forget_rollout(&web).await.unwrap();
    let recorded: Vec<String> =
        afar.fake.recorded().into_iter().filter(|record| record.contains(" -> ")).collect();
    assert_snapshot!(recorded.join("\n").replace("/api/v1/rollouts/{namespace}/{entity}", "…"), @r#"
    token operator from afar: POST …/actions: set version v2 of prod/web -> 200, operation None
    token operator from afar: POST …/actions: force version v2 of prod/web -> 200, operation None
    token operator from afar: POST …/actions: set version bad of prod/web -> 409, operation None
    token operator from afar: POST …/actions: reset options of prod/web -> 200, operation None
    token operator from afar: POST …/actions: set options of prod/web: batch 5%, success 100% after 1m within 2m -> 200, operation None
    token operator from afar: POST …/actions: pause prod/web -> 200, operation None
    token operator from afar: POST …/actions: resume prod/web -> 200, operation None
    token operator from afar: POST …/actions: abort prod/web -> 200, operation None
    token operator from afar: POST …/actions: abort prod/web: too slow -> 200, operation None
    token operator from afar: POST …/actions: promote prod/web -> 200, operation None
    token operator from afar: POST …/actions: retry prod/web -> 200, operation None
    token operator from afar: POST …/actions: forgive version v2 of prod/web -> 200, operation None
    token operator from afar: POST …/actions: hold version v2 of prod/web to be bad until 7 ms -> 200, operation None
    token operator from afar: DELETE …: forget prod/web -> 200, operation None
    "#);
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_done_unless_it_stops_something() {
    let house = House::open();
    house.fake.is_full.store(true, Ordering::Relaxed);
    let (client, web) = (house.client(), id("prod", "web"));
    for action in
        [set("v2"), RolloutAction::Resume, RolloutAction::Promote { all: true }, RolloutAction::Retry]
    {
        let refused = client.act_on_rollout(&web, &action).await.unwrap_err();
        assert_eq!(refused.to_string(), "the audit log cannot be used", "{action:?}");
    }
    assert!(client.set_controllers(&web, &Controllers::default()).await.is_err());
    assert!(client.forget_rollout(&web).await.is_err());
    assert_eq!(house.fake.rollouts.asked(), [""; 0]);
    for action in [RolloutAction::Pause, RolloutAction::Abort { why: String::new() }] {
        client.act_on_rollout(&web, &action).await.unwrap();
    }
    assert_eq!(house.fake.rollouts.asked().len(), 2);
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_named_and_changes_nothing() {
    let house = House::open();
    let (long, label) = ("x".repeat(257), r#"{"name":"a","labels":"#);
    let version = "v".repeat(513);
    let many: Vec<String> = (0..65).map(|n| format!("\"l{n}\":\"\"")).collect();
    let reports = "POST /api/v1/rollouts/prod/web/reports";
    for (targets, expected) in [
        (r#"{"name":""}"#.to_owned(), "`targets[0].name` must not be empty"),
        (r#"{"name":"a"},{}"#.into(), "`targets[1].name` must not be empty"),
        (format!(r#"{{"name":"{long}"}}"#), "`targets[0].name` must have 256 bytes at most"),
        (r#"{"name":"a","group":"b\u0007"}"#.into(), "`targets[0].group` must have no control characters"),
        (
            format!(r#"{{"name":"a","version":"{version}"}}"#),
            "`targets[0].version` must have 512 bytes at most",
        ),
        (r#"{"name":"a","version":"v\n"}"#.into(), "`targets[0].version` must have no control characters"),
        (
            r#"{"name":"a"},{"name":"b"},{"name":"a","group":"g"},{"name":"a","group":""}"#.into(),
            "`targets[3]` is the same target as `targets[0]`",
        ),
        (format!("{label}{{{}}}}}", many.join(",")), "`targets[0].labels` must be 64 at most"),
        (format!(r#"{label}{{"":"x"}}}}"#), "`targets[0].labels` must have no empty key"),
        (
            format!(r#"{label}{{"a":"{long}"}}}}"#),
            "`targets[0].labels` must have keys and values of 256 bytes at most",
        ),
        (format!(r#"{label}{{"a\t":"x"}}}}"#), "`targets[0].labels` must have no control characters"),
    ] {
        let said = house.ask(reports, &[JSON], &format!(r#"{{"targets":[{targets}]}}"#)).await;
        let expected = format!(r#"400 {{"kind":"bad_request","message":"in the body: {expected}""#);
        assert!(said.starts_with(&expected), "{said}");
    }
    for (targets, expected) in [
        (r#"[{"name":7}]"#, " at `targets[0].name`: invalid type: integer, expected a string"),
        (r#"[{"name":"a","tags":{}}]"#, " at `targets[0].tags`: unknown field `tags`"),
        (r#"{"name":"a"}"#, " at `targets`: invalid type: map, expected a list of targets"),
    ] {
        let said = house.ask(reports, &[JSON], &format!(r#"{{"targets":{targets}}}"#)).await;
        assert!(said.starts_with("400 ") && said.contains(expected), "{said}");
    }
    let actions = "POST /api/v1/rollouts/prod/web/actions";
    assert_snapshot!(house.ask(actions, &[JSON], r#"{"action":"set_version","version":""}"#).await, @r#"400 {"kind":"bad_request","message":"in the body: a version must not be empty"}"#);
    assert_snapshot!(house.ask(actions, &[JSON], r#"{"action":"abort","why":"a\u0000"}"#).await, @r#"400 {"kind":"bad_request","message":"in the body: `why` must have no control characters"}"#);
    assert_snapshot!(house.ask(actions, &[JSON], r#"{"action":"undone"}"#).await, @r#"400 {"kind":"bad_request","message":"in the body at `action`: unknown variant `undone`, expected one of `set_version`, `set_options`, `set_strategy`, `pause`, `resume`, `abort`, `approve`, `promote`, `undo`, `fail`, `retry`, `forgive` at line 1 column 18"}"#);
    assert_snapshot!(house.ask(actions, &[JSON, "Idempotency-Key: k"], r#"{"action":"pause"}"#).await, @r#"400 {"kind":"bad_request","message":"in `idempotency-key`: no key is kept below `/api/v1/rollouts`","hint":"leave it out; when an answer was lost, look at the entity before you ask again"}"#);
    let control = "POST /api/v1/rollouts/prod%0A/web/actions";
    assert_snapshot!(house.ask(control, &[JSON], r#"{"action":"pause"}"#).await, @r#"400 {"kind":"bad_request","message":"in the path: `namespace` must have no control characters"}"#);
    assert_snapshot!(house.ask("GET /api/v1/rollouts?name=a", &[], "").await, @r#"400 {"kind":"bad_request","message":"in the query: name: unknown field `name`, expected one of `namespace`, `after`, `limit`"}"#);
    assert_snapshot!(house.ask("GET /api/v1/rollouts/prod", &[], "").await, @r#"404 {"kind":"not_found","message":"there is no `/api/v1/rollouts/prod` here","hint":"`GET /api/v1/openapi.json` lists what there is"}"#);
    assert_snapshot!(house.ask("GET /api/v1/rollouts/prod//watch", &[], "").await, @r#"400 {"kind":"bad_request","message":"in the path: `entity` must not be empty"}"#);
    assert_eq!((house.fake.rollouts.asked(), house.fake.recorded()), (vec![], vec![]));
}

#[tokio::test]
async fn more_targets_than_one_request_may_have_are_not_even_kept_in_memory() {
    let house = House::open();
    let targets = vec!["{}"; Reports::MAX + 1].join(",");
    let body = format!(r#"{{"targets":[{targets}]}}"#);
    let said = house.ask("POST /api/v1/rollouts/prod/web/reports", &[JSON], &body).await;
    assert!(said.starts_with("400 ") && said.contains("more than 250000 targets; report some"), "{said}");
}

// The clock is paused: see `streams`.
#[tokio::test(start_paused = true)]
async fn what_a_controller_says_is_kept_also_when_it_does_not_wait_for_the_answer() {
    let house = House::open();
    let (opened, (done, kept)) = (Arc::new(Notify::new()), oneshot::channel());
    *house.fake.rollouts.gate.lock().unwrap() = Some((opened.clone(), done));
    let client = house.client();
    let asking = tokio::spawn(async move {
        let reports = Reports { targets: vec![report("", "a")] };
        client.report_targets(&id("prod", "web"), &reports).await
    });
    sleep(Duration::from_secs(1)).await;
    assert_eq!(house.fake.rollouts.asked(), ["waits"]);
    asking.abort();
    sleep(Duration::from_secs(1)).await;
    opened.notify_one();
    in_time(kept).await.unwrap();
}

#[tokio::test]
async fn a_problem_of_whoever_keeps_rollouts_comes_back_as_it_was_told() {
    let house = House::open();
    let full = Problem::new(ProblemKind::Unavailable, "the disk is full").with_hint("make room");
    *house.fake.rollouts.refusal.lock().unwrap() = Some(full.clone());
    let (client, web) = (house.client(), id("prod", "web"));
    for error in [
        client.rollouts(&RolloutsQuery::default()).await.unwrap_err(),
        client.rollout(&web).await.unwrap_err(),
        client.rollout_targets(&web, None).await.unwrap_err(),
        client.watch_rollout(&web).await.err().unwrap(),
        client.report_targets(&web, &Reports { targets: vec![] }).await.unwrap_err(),
        client.act_on_rollout(&web, &RolloutAction::Pause).await.unwrap_err(),
        client.set_controllers(&web, &Controllers::default()).await.unwrap_err(),
        client.forget_rollout(&web).await.unwrap_err(),
    ] {
        assert!(matches!(&error, ClientError::Problem(problem) if *problem == full), "{error:?}");
    }
}
