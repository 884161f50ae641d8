//! What is posted to the first engine's paths: as Go's encoder writes it, by hand, and by the hostile.

use axum::body::Body;
use axum::http::{Request, header};
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use proptest::prelude::*;
use serde_json::{Value, json};
use upbeat_api::Role;
use upbeat_api::rollouts::Reports;

use super::House;
use super::fake::Fake;
use super::nixmade::{OK, post};
use crate::access::{Caller, Name};
use crate::bounds::{LABELS_MAX, REPORTS_BYTES_MAX};

/// What is said of targets, and what was understood.
#[tokio::test]
async fn what_gos_encoder_writes_is_read_and_what_says_nothing_is_nothing() {
    let house = House::open();
    let well = |rest: &str| format!("prod/web: {rest}");
    for (body, understood) in [
        ("[]", ""),
        ("null", ""),
        ("[null]", "400"),
        (r#"[{"name":"a"}]"#, "a runs nothing, well () {}"),
        (r#"[{"name":"a","version":""}]"#, "a runs nothing, well () {}"),
        (
            r#"[{"name":"a","group":"g","tags":{"ring":"1"},"version":"v1","message":"m","isError":true}]"#,
            r#"g/a runs v1, ill (m) {"ring": "1"}"#,
        ),
        (r#"[{"name":"a","tags":["canary","eu"]}]"#, r#"a runs nothing, well () {"canary": "", "eu": ""}"#),
        (r#"[{"name":"a","tags":{"x":null},"isError":false}]"#, r#"a runs nothing, well () {"x": ""}"#),
        (
            r#"[{"name":"a","group":null,"tags":null,"version":null,"message":null,"isError":null}]"#,
            "a runs nothing, well () {}",
        ),
        (r#"[{"NAME":"a","Version":"v1","iserror":true}]"#, "a runs v1, ill () {}"),
        (r#"[{"name":"a","state":{"a":[1,{"b":null}]},"extra":1e400}]"#, "a runs nothing, well () {}"),
        (r#"[{"name":"a","state":{"a":[1,{"b":null}]}}]"#, "a runs nothing, well () {}"),
        // As Go writes what HTML would take for its own.
        (
            r#"[{"name":"\u003ca\u003e \u0026","message":"line\nnext"}]"#,
            "<a> & runs nothing, well (line\nnext) {}",
        ),
        ("\n [ {\"name\" : \"a\"} ]\n", "a runs nothing, well () {}"),
        (
            r#"[{"name":"a"},{"name":"a","group":"g"}]"#,
            "a runs nothing, well () {}; g/a runs nothing, well () {}",
        ),
    ] {
        let said = post(&house, "prod/web", body).await;
        if understood == "400" {
            assert!(said.starts_with("400 "), "{body}: {said}");
            assert_eq!(house.fake.rollouts.asked(), [""; 0]);
            continue;
        }
        assert!(said.starts_with("200 ["), "{body}: {said}");
        assert_eq!(house.fake.rollouts.asked(), [well(understood)], "{body}");
        assert_eq!(post(&house, "prod/web/status", body).await, OK, "{body}");
        assert_eq!(house.fake.rollouts.asked(), ["later".to_owned(), well(understood)], "{body}");
    }
}

#[tokio::test]
async fn whatever_a_body_is_declared_to_be_it_is_read() {
    let house = House::open();
    for kind in ["application/json", "application/json; charset=utf-8", "application/x-www-form-urlencoded"] {
        let kind = format!("Content-Type: {kind}");
        let said = house.ask("POST /v1/orchestrate/prod/web/version", &[&kind], r#"{"version":"v"}"#).await;
        assert_eq!(said, OK, "{kind}");
    }
}

/// What is said of targets and cannot be: where it is, and why.
const TARGETS: &[(&str, &str)] = &[
    ("", "the body is empty; send JSON"),
    (" ", "the body is empty; send JSON"),
    ("{", "in the body: invalid type: map, expected a list of targets"),
    (r#"{"name":"a"}"#, "in the body: invalid type: map, expected a list of targets"),
    ("7", "in the body: invalid type: integer, expected a list of targets"),
    (r#"[{"name":"a"}"#, "in the body: EOF while parsing a list"),
    (r#"[{"name":"a"}] []"#, "in the body: trailing characters"),
    ("[7]", "in the body at `[0]`: invalid type: integer, expected an object"),
    (r#"[{"name":"a"},null]"#, "in the body at `[1]`: invalid type: null, expected an object"),
    (r#"[{"name":"a"},["b"]]"#, "in the body at `[1]`: invalid type: sequence, expected an object"),
    (r#"[{"name":7}]"#, "in the body at `[0].name`: invalid type: integer, expected a string"),
    (r#"[{"NAME":7}]"#, "in the body at `[0].NAME`: invalid type: integer, expected a string"),
    (
        r#"[{"name":"a","isError":"true"}]"#,
        "in the body at `[0].isError`: invalid type: string, expected a boolean",
    ),
    (
        r#"[{"name":"a","isError":1}]"#,
        "in the body at `[0].isError`: invalid type: integer, expected a boolean",
    ),
    (
        r#"[{"name":"a","version":1.5}]"#,
        "in the body at `[0].version`: invalid type: floating point, expected a string",
    ),
    (
        r#"[{"name":"a","tags":"canary"}]"#,
        "in the body at `[0].tags`: invalid type: string, expected an object or a list of strings",
    ),
    (
        r#"[{"name":"a","tags":[1]}]"#,
        "in the body at `[0].tags[0]`: invalid type: integer, expected a string",
    ),
    (r#"[{"name":"a","tags":[""]}]"#, "in the body: `[0].tags` must have no empty key"),
    (r#"[{"name":"a","tags":["\u0007"]}]"#, "in the body: `[0].tags` must have no control characters"),
    (r#"[{"name":"a","Name":"b"}]"#, "in the body at `[0]`: duplicate field `name`"),
    (r#"[{"name":"\ud800"}]"#, "in the body at `[0].name`: "),
    ("[{}]", "in the body: `[0].name` must not be empty"),
    (r#"[{"name":"a"},{"name":""}]"#, "in the body: `[1].name` must not be empty"),
    (r#"[{"name":"a\u0000"}]"#, "in the body: `[0].name` must have no control characters"),
    (r#"[{"name":"a","group":"\u001b[2J"}]"#, "in the body: `[0].group` must have no control characters"),
    (r#"[{"name":"a","version":"v\t1"}]"#, "in the body: `[0].version` must have no control characters"),
    (
        r#"[{"name":"b"},{"name":"a","group":"g"},{"group":"g","name":"a"}]"#,
        "in the body: `[2]` is the same target as `[1]`; report each once",
    ),
];

#[tokio::test]
async fn targets_that_cannot_be_are_refused_by_their_field_and_place_and_change_nothing() {
    let house = House::open();
    let (long, version) = ("x".repeat(257), "v".repeat(513));
    let tags: Vec<String> = (0..=LABELS_MAX).map(|n| format!("\"l{n}\":\"\"")).collect();
    let made = [
        (
            format!(r#"[{{"name":"a","tags":{{{}}}}}]"#, tags.join(",")),
            "in the body at `[0].tags`: must be 64 at most",
        ),
        (format!(r#"[{{"name":"{long}"}}]"#), "in the body: `[0].name` must have 256 bytes at most"),
        (
            format!(r#"[{{"name":"a","version":"{version}"}}]"#),
            "in the body: `[0].version` must have 512 bytes at most",
        ),
    ];
    for path in ["prod/web", "prod/web/status"] {
        for (body, why) in TARGETS.iter().copied().chain(made.iter().map(|(body, why)| (body.as_str(), *why)))
        {
            refused(&house, path, body, why).await;
        }
    }
}

#[tokio::test]
async fn versions_that_cannot_be_are_refused_and_change_nothing() {
    let house = House::open();
    let version = "v".repeat(513);
    let version = format!(r#"{{"version":"{version}"}}"#);
    for (body, why) in [
        ("", "the body is empty"),
        ("null", "in the body: `version` must not be empty"),
        ("{}", "in the body: `version` must not be empty"),
        (r#"{"version":""}"#, "in the body: `version` must not be empty"),
        (r#"{"version":"a\nb"}"#, "in the body: `version` must have no control characters"),
        (version.as_str(), "in the body: `version` must have 512 bytes at most"),
        (r#"{"version":7}"#, "in the body at `version`: invalid type: integer, expected a string"),
        (r#""v1""#, "in the body: invalid type: string, expected an object"),
        (r#"["v1"]"#, "in the body: invalid type: sequence, expected an object"),
        (r#"{"version":"v1","version":"v2"}"#, "in the body: duplicate field `version`"),
    ] {
        refused(&house, "prod/web/version", body, why).await;
    }
}

#[tokio::test]
async fn options_that_cannot_be_are_refused_by_their_field_as_it_was_sent_and_change_nothing() {
    let house = House::open();
    let percent = "must be between 0 and 100 ";
    let whole = "must be a whole number between 0 and ";
    for field in ["batchpercent", "successpercent", "successtimeoutsecs", "DurationTimeoutSecs"] {
        let is_percent = field.ends_with("percent");
        for (number, why) in [
            ("-1", if is_percent { percent } else { "must be between 0 and 3162240000 " }),
            ("101", if is_percent { percent } else { "" }),
            ("3162240001", if is_percent { percent } else { "must be between 0 and 3162240000 " }),
            ("18446744073709551616", whole),
            ("-9223372036854775809", whole),
            ("5.0", whole),
            ("0.5", whole),
            ("1e1", whole),
            ("\"5\"", "invalid type: string, expected a whole number between 0 and "),
            ("true", "invalid type: boolean, expected a whole number between 0 and "),
            ("[5]", "invalid type: sequence, expected a whole number between 0 and "),
            ("NaN", "expected "),
        ] {
            if why.is_empty() {
                continue;
            }
            let body = format!(r#"{{"{field}":{number}}}"#);
            let why = format!("in the body at `{field}`: {why}");
            refused(&house, "prod/web/options", &body, &why).await;
        }
    }
    refused(&house, "prod/web/options", "[]", "in the body: invalid type: sequence, expected an object")
        .await;
}

/// That it is, and why; that nobody was asked, and nothing recorded.
async fn refused(house: &House, path: &str, body: &str, why: &str) {
    let said = post(house, path, body).await;
    let message = said.strip_prefix(r#"400 {"status":"error","message":""#);
    let message = message.unwrap_or_else(|| panic!("{path}: {body}: {said}"));
    assert!(message.replace("\\\"", "\"").starts_with(why), "{path}: {body}: {said}");
    assert_eq!((house.fake.rollouts.asked(), house.fake.recorded()), (vec![], vec![]), "{path}: {body}");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_unread_and_one_that_fits_is_read() {
    let house = House::open();
    let too_large = format!("Content-Length: {}", REPORTS_BYTES_MAX + 1);
    let said = house.ask("POST /v1/orchestrate/prod/web", &[&too_large], "").await;
    insta::assert_snapshot!(said, @r#"413 {"status":"error","message":"the body is larger than 16 MiB; report some of the targets at a time: the others stay as they are"}"#);
    let targets: Vec<String> = (0..100_000)
        .map(|n| {
            format!(
                r#"{{"name":"clientTarget{n:06}","group":"Group{}","version":"v1.2.3","message":"running successfully since yesterday"}}"#,
                n % 10
            )
        })
        .collect();
    let body = format!("[{}]", targets.join(","));
    assert_eq!(post(&house, "prod/web/status", &body).await, OK);
    let more = format!("[{}]", vec!["{}"; Reports::MAX + 1].join(","));
    let said = post(&house, "prod/web/status", &more).await;
    assert!(said.starts_with("400 ") && said.contains("more than 250000 targets; report some"), "{said}");
}

fn words() -> impl Strategy<Value = String> {
    let known = [
        "name",
        "group",
        "tags",
        "version",
        "message",
        "isError",
        "ISERROR",
        "batchpercent",
        "successpercent",
        "successtimeoutsecs",
        "durationtimeoutsecs",
        "selection",
        "approval",
        "removal",
        "monitoring",
        "externalmonitoring",
        "v1",
        "",
        "http://a/",
        "\u{0}",
        "é",
        "\u{1b}",
    ];
    prop_oneof![4 => prop::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => any::<String>()]
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..200_i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        words().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((words(), inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// As it is, cut off, and bytes of any sort.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let written = || values().prop_map(|value| value.to_string().into_bytes());
    prop_oneof![
        6 => written(),
        2 => (written(), any::<prop::sample::Index>()).prop_map(|(mut body, at)| {
            body.truncate(at.index(body.len() + 1));
            body
        }),
        1 => prop::collection::vec(any::<u8>(), 0..64),
    ]
}

proptest! {
    #[test]
    fn no_body_is_answered_in_another_shape_or_taken_by_halves(
        path in prop::sample::select(vec![
            "prod/web", "prod/web/status", "prod/web/version", "prod/web/options",
            "prod/web/target/controller", "prod/web/monitoring/controller",
        ]),
        body in bodies(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let fake = Fake::default();
        let (status, said) = runtime.block_on(asked(&fake, path, body));
        let done = json!({ "status": "success" });
        match status {
            200 if path == "prod/web" => prop_assert!(said.is_array(), "{said}"),
            200 => prop_assert_eq!(&said["status"], &done["status"]),
            400 | 409 => {
                let fields: Vec<&str> = said.as_object().unwrap().keys().map(String::as_str).collect();
                prop_assert_eq!(fields, ["message", "status"]);
                prop_assert_eq!(&said["status"], "error");
                let whys = fake.recorded();
                prop_assert!(whys.is_empty(), "{:?}", whys);
                prop_assert!(fake.rollouts.asked().is_empty());
            }
            other => prop_assert!(false, "{other}: {said}"),
        }
    }
}

async fn asked(fake: &Fake, path: &str, body: Vec<u8>) -> (u16, Value) {
    let request = Request::post(format!("/v1/orchestrate/{path}"))
        .header(header::HOST, "localhost")
        .extension(Caller { name: Name::Uid(0), role: Role::Operator, from: None })
        .body(Body::from(body))
        .unwrap();
    let routes = TowerToHyperService::new(crate::router(fake.clone()));
    let answer = routes.call(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}
