//! The guide's paths, byte by byte.

use std::sync::atomic::Ordering;

use upbeat_api::Role;

use super::House;
use super::fake::Fake;
use super::tcp::Afar;
use crate::compat::guide::{ServicesSettings, routes};

const COREDNS: &str = r#"{"name":"coredns","description":"CoreDNS DNS server","dependencies":[],"start_command":"systemctl start coredns","stop_command":"systemctl stop coredns","health_check_endpoint":"http://localhost:53/health"}"#;
const REGISTRY: &str = r#"{"name":"oci-registry","description":"","dependencies":["coredns"],"start_command":"systemctl start oci-registry","stop_command":"systemctl stop oci-registry","health_check_endpoint":"http://localhost:5000/v2/"}"#;

async fn post(house: &House, path: &str, body: &str) -> String {
    let headers: &[&str] = if body.is_empty() { &[] } else { &["Content-Type: application/json"] };
    house.ask(&format!("POST /api/v1/services/{path}"), headers, body).await
}

async fn get(house: &House, path: &str) -> String {
    house.ask(&format!("GET /api/v1/services/{path}"), &[], "").await
}

#[tokio::test]
async fn the_guides_two_answers_are_its_own_byte_for_byte() {
    let house = House::open();
    assert_eq!(get(&house, "list").await, r#"200 {"success":true,"data":[]}"#);
    assert_eq!(get(&house, "status").await, r#"200 {"success":true,"data":[]}"#);
    let registered = post(&house, "register", &format!("[{REGISTRY},{COREDNS}]")).await;
    assert_eq!(registered, r#"200 {"success":true,"data":["oci-registry","coredns"]}"#);
    assert_eq!(get(&house, "list").await, format!(r#"200 {{"success":true,"data":[{COREDNS},{REGISTRY}]}}"#));
    let stopped = r#"[{"name":"coredns","status":"Stopped"},{"name":"oci-registry","status":"Stopped"}]"#;
    assert_eq!(get(&house, "status").await, format!(r#"200 {{"success":true,"data":{stopped}}}"#));
    assert_eq!(post(&house, "oci-registry/start", "").await, r#"200 {"success":true,"data":"oci-registry"}"#);
    let running = stopped.replace("Stopped", "Running");
    assert_eq!(get(&house, "status").await, format!(r#"200 {{"success":true,"data":{running}}}"#));
    let uid = rustix::process::geteuid().as_raw();
    assert_eq!(
        house.fake.asked(),
        [
            format!("uid {uid}: services put [coredns oci-registry] run []"),
            format!("uid {uid}: services put [coredns oci-registry] run [coredns oci-registry]"),
        ]
    );
}

#[tokio::test]
async fn what_the_guide_lacks_is_asked_in_its_style() {
    let house = House::open();
    post(&house, "register", COREDNS).await;
    post(&house, "register", REGISTRY).await;
    let order = get(&house, "order?services=oci-registry").await;
    assert_eq!(order, r#"200 {"success":true,"data":["coredns","oci-registry"]}"#);
    let health = get(&house, "coredns/health").await;
    let shape = r#"200 {"success":true,"data":{"healthy":false,"message":"http://localhost:53/health: status 500","last_check":""#;
    assert!(health.starts_with(shape), "{health}");
    let healths = get(&house, "health").await;
    assert_eq!(healths.matches(r#"{"name":""#).count(), 2, "{healths}");
    assert_eq!(post(&house, "start", "").await, r#"200 {"success":true,"data":["coredns","oci-registry"]}"#);
    assert_eq!(
        get(&house, "coredns/logs?tail=1").await,
        r#"200 {"success":true,"data":["line 1\twith \"quotes\", ünïcode"]}"#.replace('\t', "\\t")
    );
    assert!(
        get(&house, "coredns/logs?tail=1001")
            .await
            .starts_with(r#"400 {"success":false,"error":"in the query: tail: 1001 is more than 1000""#)
    );
}

#[tokio::test]
async fn what_an_endpoint_keeps_secret_is_shown_to_nobody() {
    let house = House::open();
    let endpoint = "http://localhost:53/health?deep=1&token=canary-1&api_key=canary-2";
    post(&house, "register", &COREDNS.replace("http://localhost:53/health", endpoint)).await;
    let shown = "http://localhost:53/health?deep=1&token=***&api_key=***";
    let ways = ["services/list", "services/health", "services/coredns/health", "apps/services"];
    for way in ways.map(|way| format!("/api/v1/{way}")) {
        let answer = house.ask(&format!("GET {way}"), &[], "").await;
        assert!(answer.contains(shown) && !answer.contains("canary"), "{way}: {answer}");
    }
    let watched = house.ask("GET /api/v1/apps/services/watch", &[], "").await;
    assert!(watched.contains(shown) && !watched.contains("canary"), "{watched}");
    // It is known all the same.
    assert!(house.fake.asked().iter().any(|asked| asked.contains(endpoint)), "{:?}", house.fake.asked());
    let again = post(&house, "register", &COREDNS.replace("http://localhost:53/health", shown)).await;
    assert!(again.starts_with("400 ") && again.contains("`***`"), "{again}");
}

/// Ten thousand, each of which is only counted.
#[tokio::test]
async fn the_health_of_all_is_asked_of_one_look_at_them() {
    let house = House::open();
    let one = |n| format!(r#"{{"name":"s{n:03}","start_command":"sleep 9"}}"#);
    let services: Vec<String> = (0..300).map(one).collect();
    post(&house, "register", &format!("[{}]", services.join(","))).await;
    let before = house.fake.looks.load(Ordering::SeqCst);
    let healths = get(&house, "health").await;
    assert_eq!(healths.matches(r#"{"name":""#).count(), 300);
    // One for what is registered, and one for how it is.
    assert_eq!(house.fake.looks.load(Ordering::SeqCst) - before, 2);
}

#[tokio::test]
async fn one_that_cannot_be_asked_keeps_no_other_from_being_told() {
    let house = House::open();
    post(&house, "register", COREDNS).await;
    post(&house, "register", &COREDNS.replace("\"coredns\"", "\"unaskable\"")).await;
    let healths = get(&house, "health").await;
    assert!(
        healths
            .starts_with(r#"200 {"success":true,"data":[{"name":"coredns","healthy":false,"message":"http"#),
        "{healths}"
    );
    assert!(
        healths.contains(r#"{"name":"unaskable","healthy":false,"message":"nobody can be asked""#),
        "{healths}"
    );
}

#[tokio::test]
async fn what_is_not_done_says_why_in_the_guides_shape() {
    let house = House::open();
    let said = post(&house, "register", "[]").await;
    assert!(said.starts_with("400 ") && house.fake.recorded().is_empty(), "{said}");
    post(&house, "register", COREDNS).await;
    let bad = |from: &str, to: &str| COREDNS.replace(from, to);
    for (path, body, expected) in [
        ("nobody/start", String::new(), "404 service `nobody` is not registered; register it first"),
        ("zz%0Azz/start", String::new(), "404 service `zz\\\\nzz` is not registered; register it first"),
        (
            "register",
            bad("systemctl start coredns", "a; b"),
            "400 service `coredns` cannot be run: in its `start_command`: `;` would",
        ),
        ("register", bad("\"coredns\"", "\"../x\""), "400 service `../x` cannot be run: "),
        ("register", bad("[]", "[\"coredns\"]"), "400 Circular dependency detected: coredns -> coredns; "),
        (
            "register",
            bad("description", "descripton"),
            "400 in the body: service 1: unknown field `descripton`",
        ),
        ("register", "[1".into(), "400 in the body"),
        ("register", "[]".into(), "400 in the body: it names no service\""),
        ("register", "7".into(), "400 in the body: service 1: "),
        ("coredns/start?now=1", String::new(), "400 in the query: now: unknown field `now`"),
        ("coredns/unregister", String::new(), ""),
    ] {
        if expected.is_empty() {
            post(&house, "register", REGISTRY).await;
            let said = post(&house, path, &body).await;
            assert!(said.contains("`coredns` is needed by `oci-registry`"), "{said}");
            continue;
        }
        let said = post(&house, path, &body).await;
        let (status, error) = expected.split_once(' ').unwrap();
        assert!(
            said.starts_with(&format!(r#"{status} {{"success":false,"error":"{error}"#)),
            "{path}: {said}"
        );
    }
    post(&house, "register", &bad("[]", "[\"gone\"]").replace("\"coredns\"", "\"web\"")).await;
    let said = post(&house, "web/start", "").await;
    assert!(
        said.starts_with(
            r#"400 {"success":false,"error":"Missing dependencies of `web`: `gone`; register them first"#
        ),
        "{said}"
    );
}

#[tokio::test]
async fn what_is_asked_wrongly_is_answered_in_the_same_shape_and_in_words() {
    let house = House::open();
    let not_done = |status: &str, error: &str| format!(r#"{status} {{"success":false,"error":"{error}"#);
    for (asked, status, error) in [
        ("GET /api/v1/services", "404", "there is no `/api/v1/services` here; "),
        ("GET /api/v1/services/a/b/c", "404", "there is no `/api/v1/services/a/b/c` here; "),
        ("DELETE /api/v1/services/list", "405", "`/api/v1/services/list` cannot be asked with DELETE; "),
        ("GET /api/v1/services/a/logs?tail=x", "400", "in the query: tail: must be a whole number\"}"),
        (
            "GET /api/v1/services/order?service=a",
            "400",
            "in the query: service: unknown field `service`, expected `services`",
        ),
    ] {
        let said = house.ask(asked, &[], "").await;
        assert!(said.starts_with(&not_done(status, error)), "{asked}: {said}");
    }
    let said = post(&house, "register", r#"{"name":"a"}"#).await;
    assert!(said.starts_with(&not_done("400", "in the body: service 1: `")), "{said}");
    assert!(said.contains("is missing"), "{said}");
    // Elsewhere it stays as it is.
    let elsewhere = house.ask("GET /api/v1/servicesx", &[], "").await;
    assert!(elsewhere.starts_with(r#"404 {"kind":"not_found""#), "{elsewhere}");
}

/// One that is taken and not kept would be worse than none.
#[tokio::test]
async fn a_key_is_refused_where_none_is_kept() {
    let house = House::open();
    post(&house, "register", COREDNS).await;
    house.fake.asked();
    house.fake.recorded();
    let changes = ["register", "start", "stop", "coredns/start", "coredns/stop", "coredns/restart"];
    for path in changes.into_iter().chain(["coredns/unregister"]) {
        let body = if path == "register" { COREDNS } else { "" };
        let headers = ["Content-Type: application/json", "Idempotency-Key: k-1"];
        let said = house.ask(&format!("POST /api/v1/services/{path}"), &headers, body).await;
        let why = "in `idempotency-key`: no key is kept below `/api/v1/services`; leave it out; ";
        assert!(said.starts_with(&format!(r#"400 {{"success":false,"error":"{why}"#)), "{path}: {said}");
    }
    assert_eq!((house.fake.asked(), house.fake.recorded()), (vec![], vec![]));
}

#[tokio::test]
async fn the_order_of_all_is_asked_for_without_naming_any() {
    let house = House::open();
    post(&house, "register", &format!("[{REGISTRY},{COREDNS}]")).await;
    let all = r#"200 {"success":true,"data":["coredns","oci-registry"]}"#;
    assert_eq!(get(&house, "order").await, all);
    assert_eq!(get(&house, "order?services=oci-registry").await, all);
}

#[tokio::test]
async fn a_disabled_manager_says_so_everywhere() {
    let settings = ServicesSettings { manager_enabled: false, ..ServicesSettings::default() };
    let house = House::with(Fake::with(settings));
    for (method, path) in [
        ("GET", "list"),
        ("GET", "status"),
        ("GET", "health"),
        ("GET", "order?services=a"),
        ("GET", "a/health"),
        ("GET", "a/logs"),
        ("POST", "start"),
        ("POST", "stop"),
        ("POST", "a/start"),
        ("POST", "a/stop"),
        ("POST", "a/restart"),
        ("POST", "a/unregister"),
    ] {
        let said = house.ask(&format!("{method} /api/v1/services/{path}"), &[], "").await;
        assert!(
            said.starts_with(r#"503 {"success":false,"error":"the service manager is disabled; set "#),
            "{path}: {said}"
        );
    }
    assert!(post(&house, "register", COREDNS).await.starts_with("503 "));
    assert!(house.fake.asked().is_empty());
}

#[tokio::test]
async fn without_auto_start_what_is_needed_must_run() {
    let settings = ServicesSettings { auto_start_dependencies: false, ..ServicesSettings::default() };
    let house = House::with(Fake::with(settings));
    post(&house, "register", &format!("[{COREDNS},{REGISTRY}]")).await;
    let said = post(&house, "oci-registry/start", "").await;
    assert!(said.starts_with("409 ") && said.contains("does not run: `coredns`; start that first"), "{said}");
    assert!(post(&house, "coredns/start", "").await.starts_with("200 "));
    assert!(post(&house, "oci-registry/start", "").await.starts_with("200 "));
}

#[tokio::test]
async fn every_path_for_every_role_and_changes_are_recorded() {
    let afar = Afar::open();
    for (path, least, _) in routes::<Fake>() {
        let method = if least == Role::Viewer { "GET" } else { "POST" };
        let query = if path.ends_with("/order") { "?services=coredns" } else { "" };
        let body = if path.ends_with("/register") { COREDNS } else { "" };
        let line = format!("{method} {}{query}", path.replace("{name}", "coredns"));
        for role in Role::ALL {
            afar.fake.recorded();
            let token = format!("Authorization: Bearer {role}");
            let said = afar.ask(&line, &["Content-Type: application/json", &token], body).await;
            let recorded = afar.fake.recorded();
            assert_eq!(said.starts_with("403 "), role < least, "{line} as {role}: {said}");
            let why = format!(
                r#"403 {{"success":false,"error":"token {role} is {role}, and this is for {least}s; `"#
            );
            assert_eq!(said.starts_with(&why), role < least, "{line} as {role}: {said}");
            assert_eq!(
                recorded.is_empty(),
                role >= least && method == "GET",
                "{line} as {role}: {recorded:?}"
            );
        }
        let said = afar.ask(&line, &["Content-Type: application/json"], body).await;
        assert!(
            said.starts_with(r#"401 {"success":false,"error":"there is no token; send `"#),
            "{line}: {said}"
        );
    }
}

/// Whoever refuses it: none of them is reached by a handler of the guide.
#[tokio::test]
async fn whoever_is_turned_away_is_told_so_in_the_guides_shape() {
    let house = House::open();
    post(&house, "register", &COREDNS.replace("\"coredns\"", "\"bug\"")).await;
    for (asked, header, expected) in [
        ("list", "Host: evil.example", "403 the `Host` of the request is not this server; use `Host: "),
        ("list", "Origin: http://evil.example", "403 web pages may not ask this server; leave out "),
        ("bug/health", "X: y", "500 a bug in Upbeat met `GET /api/v1/services/bug/health`; the daemon's log"),
    ] {
        let said = house.ask(&format!("GET /api/v1/services/{asked}"), &[header], "").await;
        let (status, error) = expected.split_once(' ').unwrap();
        assert!(
            said.starts_with(&format!(r#"{status} {{"success":false,"error":"{error}"#)),
            "{asked} with {header}: {said}"
        );
    }
    let afar = Afar::open();
    let token = ["Authorization: Bearer admin"];
    afar.fake.is_busy.store(true, Ordering::SeqCst);
    let said = afar.ask("GET /api/v1/services/list", &token, "").await;
    assert_eq!(said, r#"503 {"success":false,"error":"the token cannot be looked up"}"#);
    // Elsewhere it stays as it is.
    let said = afar.ask("GET /api/v1/version", &token, "").await;
    assert!(said.starts_with(r#"503 {"kind":"unavailable","#), "{said}");
}
