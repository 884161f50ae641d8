//! The guide's paths, byte by byte.

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
async fn what_is_not_done_says_why_in_the_guides_shape() {
    let house = House::open();
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
            assert_eq!(
                recorded.is_empty(),
                role >= least && method == "GET",
                "{line} as {role}: {recorded:?}"
            );
        }
        assert!(afar.ask(&line, &["Content-Type: application/json"], body).await.starts_with("401 "));
    }
}
