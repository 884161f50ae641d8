//! Every route, by everybody who may and who may not; and what is recorded of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use upbeat_api::{Action, BUILD_TYPE, Endpoint, IdempotencyKey, NewToken, Role, Up};

use upbeat_model::rollout::EntityId;

use super::House;
use super::fake::{app, name};
use super::tcp::Afar;

const BUILD: &str = concat!(
    r#"{"app":"shop","service":"web","image":"shop-web","build":{"context":""}}"#,
    "\nwhat would be a tar"
);

/// A request that would be understood.
fn line(endpoint: Endpoint) -> (String, &'static str) {
    let path = endpoint.path().replace("{app}", "shop").replace("{service}", "web").replace("{id}", "7");
    let path = path.replace("{webhook}", "ci");
    let path = if endpoint == Endpoint::Image { format!("{path}?name=web") } else { path };
    let path = path.replace("{namespace}", "prod").replace("{entity}", "web").replace("{unit}", "release");
    let body = match endpoint {
        Endpoint::Up | Endpoint::Plan => r#"{"project":{"name":"shop","services":{},"base_environment":{}}}"#,
        Endpoint::Act => r#"{"action":"start"}"#,
        Endpoint::ReportTargets => r#"{"targets":[]}"#,
        Endpoint::ActOnRollout => r#"{"action":"pause"}"#,
        Endpoint::SetControllers => "{}",
        Endpoint::StartRolloutUnit => r#"{"members":[]}"#,
        Endpoint::ActOnRolloutUnit => r#"{"action":"pause"}"#,
        Endpoint::SetDevice => {
            r#"{"apps":{"shop":{"releases":{"3":{"partial":true,"services":{"web":{"image":"web:1"}}}}}}}"#
        }
        Endpoint::SetDeviceApp => {
            r#"{"releases":{"3":{"partial":true,"services":{"web":{"image":"web:1"}}}}}"#
        }
        Endpoint::MergeDevice | Endpoint::MergeDeviceApp => "{}",
        Endpoint::BuildImage => BUILD,
        Endpoint::CreateToken => r#"{"name":"x","role":"viewer"}"#,
        _ => "",
    };
    (format!("{} {}", endpoint.method().as_str(), path.replace("{name}", "ci")), body)
}

async fn status(afar: &Afar, endpoint: Endpoint, authorization: Option<&str>) -> String {
    let (line, body) = line(endpoint);
    let kind = if endpoint == Endpoint::BuildImage { BUILD_TYPE } else { "application/json" };
    let mut headers = vec![format!("Content-Type: {kind}")];
    headers.extend(authorization.map(|token| format!("Authorization: {token}")));
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    afar.ask(&line, &headers, body).await.split(' ').next().unwrap().to_owned()
}

#[test]
fn the_table_of_roles_is_the_promised_one() {
    let mut table: BTreeMap<Role, Vec<&str>> = BTreeMap::new();
    for endpoint in Endpoint::ALL {
        table.entry(endpoint.role()).or_default().push(endpoint.name());
        let is_get = endpoint.method().as_str() == "GET";
        assert!(is_get || endpoint.role() > Role::Viewer, "{endpoint:?}: a viewer only looks");
    }
    let of_rollouts = [
        "ReportTargets",
        "ActOnRollout",
        "SetControllers",
        "ForgetRollout",
        "StartRolloutUnit",
        "ActOnRolloutUnit",
        "ForgetRolloutUnit",
    ];
    let of_device =
        ["SetDevice", "MergeDevice", "StopSeeking", "SetDeviceApp", "MergeDeviceApp", "RemoveDeviceApp"];
    let first = ["Up", "Plan", "Act", "Exec", "Attach", "Down", "RemoveVolumes", "RemoveNetworks"];
    let others = [&first[..], &of_device, &of_rollouts, &["BuildImage", "TestWebhook"]].concat();
    assert_eq!(table[&Role::Operator], others);
    assert_eq!(table[&Role::Admin], ["Tokens", "CreateToken", "RevokeToken", "Audit", "VerifyAudit"]);
    assert_eq!(table[&Role::Viewer].len() + 28, Endpoint::ALL.len());
}

/// Every way to put a route on a router but `route`, which one function alone calls: so each route has a
/// least role, and stands in one of the tables that the tests of roles go through.
#[test]
fn no_route_comes_onto_the_router_past_its_tables() {
    fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true if path.ends_with("tests") => {}
                true => sources(&path, found),
                false => found.push(path),
            }
        }
    }
    let mut files = Vec::new();
    sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut files);
    let count = |word: &str| -> Vec<String> {
        let with = |path: &PathBuf| {
            let times = std::fs::read_to_string(path).unwrap().matches(word).count();
            (times > 0).then(|| format!("{} {times}", path.file_name().unwrap().display()))
        };
        files.iter().filter_map(with).collect()
    };
    assert_eq!(count(".route("), ["router.rs 1"]);
    let mut guarded = count("guarded(router, ");
    guarded.sort();
    // One for each other system, and one for all endpoints.
    assert_eq!(guarded, ["http.rs 1", "http.rs 1", "router.rs 1"]);
    for other in [".route_service(", ".nest(", ".nest_service(", ".merge(", ".fallback_service("] {
        assert_eq!(count(other), [""; 0], "{other}");
    }
    assert_eq!(count(".fallback("), ["router.rs 1"]);
}

#[tokio::test]
async fn every_route_for_every_role_and_for_nobody() {
    let afar = Afar::open();
    for &endpoint in Endpoint::ALL {
        for role in Role::ALL {
            afar.fake.rollouts.is_there(&EntityId::new("prod", "web").unwrap());
            let told = status(&afar, endpoint, Some(&format!("Bearer {role}"))).await;
            let may = role >= endpoint.role();
            let done = match endpoint {
                // It says that it has to be spoken to in another way.
                Endpoint::Exec | Endpoint::Attach => "426",
                // Only this one changes anything of what is there.
                Endpoint::RemoveDeviceApp => "202",
                _ => "200",
            };
            assert_eq!(told, if may { done } else { "403" }, "{endpoint:?} as {role}");
            afar.fake.device.begin_again();
            let recorded = afar.fake.recorded();
            if !may {
                assert_eq!(recorded.len(), 1, "{recorded:?}");
                assert!(recorded[0].contains(": 403, "), "{recorded:?}");
                let asked = [afar.fake.asked(), afar.fake.rollouts.asked()].concat();
                assert_eq!(asked, [""; 0], "{endpoint:?} as {role}");
            }
            afar.fake.asked();
            afar.fake.rollouts.asked();
        }
        // None, garbage, another scheme, nothing after it, one that was, one that was revoked.
        for nobody in [
            None,
            Some("Bearer upb_garbage"),
            Some("Basic YWRtaW46YWRtaW4="),
            Some("admin"),
            Some("Bearer"),
            Some("Bearer expired"),
            Some("Bearer revoked"),
            Some("Bearer admin, Bearer admin"),
        ] {
            assert_eq!(status(&afar, endpoint, nobody).await, "401", "{endpoint:?} with {nobody:?}");
            let recorded = afar.fake.recorded();
            assert!(
                recorded.len() == 1 && recorded[0].starts_with("nobody known from afar: "),
                "{recorded:?}"
            );
            assert!(!recorded[0].contains("garbage") && !recorded[0].contains("YWRt"), "{recorded:?}");
        }
    }
    assert_eq!((afar.fake.asked(), afar.fake.rollouts.asked()), (vec![], vec![]));
}

#[tokio::test]
async fn over_tcp_nobody_is_told_even_what_is_not_there() {
    let afar = Afar::open();
    for line in ["GET /", "GET /api/v2/apps", "PATCH /api/v1/apps", "OPTIONS *", "HEAD /api/v1/version"] {
        let told = afar.ask(line, &[], "").await;
        assert!(told.starts_with("401 "), "{line}: {told}");
    }
    let told =
        afar.ask("GET /api/v1/apps", &["Authorization: Bearer viewer", "Authorization: Bearer viewer"], "");
    insta::assert_snapshot!(told.await, @r#"401 {"kind":"unauthorized","message":"there is more than one `Authorization`","hint":"send `Authorization: Bearer TOKEN`; `upbeat token create` makes one where the daemon runs"}"#);
    let told = afar.ask("GET /nowhere", &["Authorization: bearer viewer"], "").await;
    assert!(told.starts_with("404 "), "{told}");
    let raw = afar.raw("GET /api/v1/apps HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(raw.to_ascii_lowercase().contains("\r\nwww-authenticate: bearer\r\n"), "{raw}");
}

#[tokio::test]
async fn the_role_that_lacks_is_named() {
    let afar = Afar::open();
    let told = afar.ask("DELETE /api/v1/apps/shop", &["Authorization: Bearer viewer"], "").await;
    insta::assert_snapshot!(told, @r#"403 {"kind":"forbidden","message":"token viewer is viewer, and this is for operators","hint":"`upbeat token create --role operator` makes a token that may"}"#);
    assert_eq!(
        afar.fake.recorded(),
        [
            "token viewer from afar: DELETE /api/v1/apps/shop: 403, token viewer is viewer, and this is for operators"
        ]
    );
}

#[tokio::test]
async fn every_change_is_recorded_before_and_after_and_no_look_is() {
    let afar = Afar::open();
    let (client, shop) = (afar.client("admin"), name("shop"));
    let key = IdempotencyKey::new("k").unwrap();
    let up = Up { project: app(3).project, services: vec![name("web"), name("db")], force: false };
    client.apps().await.unwrap();
    client.plan(&shop, &up, false).await.unwrap();
    client.tokens().await.unwrap();
    client.webhooks().await.unwrap();
    client.audit(0, None, 5).await.unwrap();
    client.verify_audit().await.unwrap();
    assert_eq!(afar.fake.recorded(), [""; 0]);
    client.up(&shop, &up, &key).await.unwrap();
    let scale = Action::Scale { services: (1..=7).map(|n| (name(&format!("s{n}")), 3)).collect() };
    client.act(&shop, &scale, &key).await.unwrap();
    client.down(&shop, true, &key).await.unwrap();
    let new = NewToken { name: name("ci"), role: Role::Viewer, expires_in_s: Some(60) };
    let issued = client.create_token(&new).await.unwrap();
    assert_eq!(issued.token, "upb_hush");
    assert!(!format!("{issued:?} {client:?}").contains("hush"));
    client.test_webhook(&name("ci")).await.unwrap();
    client.revoke_token(&name("ci")).await.unwrap();
    insta::assert_snapshot!(afar.fake.recorded().join("\n"), @r"
    token admin from afar: PUT /api/v1/apps/{app}: up web db of shop
    token admin from afar: PUT /api/v1/apps/{app}: up web db of shop -> 200, operation Some(OperationId(7))
    token admin from afar: POST /api/v1/apps/{app}/actions: scale s1=3 s2=3 s3=3 s4=3 s5=3 and 2 more of shop
    token admin from afar: POST /api/v1/apps/{app}/actions: scale s1=3 s2=3 s3=3 s4=3 s5=3 and 2 more of shop -> 200, operation Some(OperationId(7))
    token admin from afar: DELETE /api/v1/apps/{app}: down, at once of shop
    token admin from afar: DELETE /api/v1/apps/{app}: down, at once of shop -> 200, operation Some(OperationId(7))
    token admin from afar: POST /api/v1/tokens: create token ci (viewer) for 60 s
    token admin from afar: POST /api/v1/tokens: create token ci (viewer) for 60 s -> 200, operation None
    token admin from afar: POST /api/v1/webhooks/{webhook}/test: test webhook ci
    token admin from afar: POST /api/v1/webhooks/{webhook}/test: test webhook ci -> 200, operation None
    token admin from afar: DELETE /api/v1/tokens/{name}: revoke token ci
    token admin from afar: DELETE /api/v1/tokens/{name}: revoke token ci -> 200, operation None
    ");
    let asked = afar.fake.asked();
    assert_eq!(asked.last().map(String::as_str), Some("revoke ci"));
    assert!(asked.iter().any(|a| a.starts_with("token admin as k: up shop")), "{asked:?}");
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_done_unless_it_stops_something() {
    let house = House::open();
    house.fake.is_full.store(true, Ordering::Relaxed);
    let (client, shop, key) = (house.client(), name("shop"), IdempotencyKey::new("k").unwrap());
    let start = Action::Start { services: Vec::new() };
    let refused = client.act(&shop, &start, &key).await.unwrap_err();
    insta::assert_snapshot!(refused, @"the audit log cannot be used");
    assert_eq!(house.fake.asked(), [""; 0]);
    for kill in [false, true] {
        let stop = Action::Stop { services: vec![name("web")], kill };
        client.act(&shop, &stop, &key).await.unwrap();
        client.down(&shop, kill, &key).await.unwrap();
    }
    client.revoke_token(&name("ci")).await.unwrap();
    assert_eq!(house.fake.asked().len(), 5);
}

#[tokio::test]
async fn pages_of_others_are_recorded() {
    let house = House::open();
    house.ask("DELETE /api/v1/apps/shop", &["Host: evil.example"], "").await;
    house.ask("DELETE /api/v1/apps/shop", &["Origin: http://evil.example"], "").await;
    let who = format!("uid {}", rustix::process::geteuid().as_raw());
    assert_eq!(
        house.fake.recorded(),
        [
            format!("{who}: DELETE /api/v1/apps/shop: 403, the `Host` of the request is not this server"),
            format!("{who}: DELETE /api/v1/apps/shop: 403, web pages may not ask this server"),
        ]
    );
    assert_eq!(house.fake.asked(), [""; 0]);
}
