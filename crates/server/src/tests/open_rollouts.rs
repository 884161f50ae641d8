//! Where rollouts are open to this machine: who comes in, what is there, and what is not.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use upbeat_api::{Endpoint, Role};

use super::fake::Fake;
use super::nixmade::OK;
use super::{in_time, request, rest, status_and_body};
use crate::bounds::ROLLOUTS_CONNECTIONS_MAX;
use crate::compat::nixmade::routes;
use crate::{Doors, OpenError, OpenRollouts, Unix};

/// A server with that door.
struct Open {
    fake: Fake,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    server: tokio::task::JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl Open {
    async fn at(address: &str) -> Self {
        let rollouts = OpenRollouts::bind(address.parse().unwrap()).await.unwrap();
        let address = rollouts.address().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let listener = crate::bind(&directory.path().join("run/upbeat.sock")).unwrap();
        let doors = Doors { unix: Unix { listener, group: None }, tcp: None, rollouts: Some(rollouts) };
        let fake = Fake::default();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(crate::serve(doors, fake.clone(), async {
            drop(stopped.await);
        }));
        Self { fake, address, stop, server, _directory: directory }
    }

    async fn here() -> Self {
        Self::at("127.0.0.1:0").await
    }

    async fn ask(&self, line: &str, headers: &[&str], body: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request(line, headers, body).as_bytes()).await.unwrap();
        status_and_body(&rest(&mut stream).await)
    }
}

#[tokio::test]
async fn an_address_that_others_could_reach_is_refused_with_the_reason() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:8080", "[2001:db8::1]:8080"] {
        let error = OpenRollouts::bind(address.parse().unwrap()).await.err().unwrap();
        assert!(matches!(error, OpenError::NotLoopback(_)), "{error}");
        assert!(error.to_string().contains(&format!("`{address}`, which is no loopback address")), "{error}");
    }
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = OpenRollouts::bind(taken.local_addr().unwrap()).await.err().unwrap();
    assert!(matches!(error, OpenError::Listen { .. }), "{error}");
}

#[tokio::test]
async fn whoever_runs_here_may_ask_about_rollouts_without_a_token() {
    let open = Open::here().await;
    // As those clients send it: a header that says nothing.
    let headers = ["Content-Type: application/json", "Authorization: "];
    let host = format!("Host: {}", open.address);
    for (path, least, _) in routes::<Fake>() {
        let named = path.replace("{namespace}", "prod").replace("{entity}", "web").replace("{group}", "g");
        let body = match named.rsplit('/').next().unwrap() {
            "version" => r#"{"version":"v1"}"#,
            "options" | "controller" => "{}",
            _ => "[]",
        };
        let (method, body) = if least == Role::Viewer { ("GET", "") } else { ("POST", body) };
        for headers in [&headers[..], &[], &[host.as_str()], &["Authorization: Bearer garbage"]] {
            let said = open.ask(&format!("{method} {named}"), headers, body).await;
            assert!(said.starts_with("200 "), "{method} {named} {headers:?}: {said}");
        }
    }
    let recorded = open.fake.recorded();
    let by = "rollouts-listener from afar: POST /v1/orchestrate/{namespace}/{entity}/";
    // Of four ways to ask for three changes, and of one that is none when it is asked for again.
    assert!(recorded.iter().all(|record| record.starts_with(by)) && recorded.len() == 26, "{recorded:?}");
    let asked = open.fake.rollouts.asked();
    assert!(
        asked
            .iter()
            .any(|asked| asked.starts_with(r#"rollouts-listener: prod/web SetVersion { version: "v1""#))
    );
}

#[tokio::test]
async fn nothing_else_is_there() {
    let open = Open::here().await;
    let paths = Endpoint::ALL.iter().map(|endpoint| (endpoint.method().as_str(), endpoint.path()));
    for (method, path) in paths.chain([("GET", "/api/v1/services/list"), ("GET", "/"), ("GET", "/v1")]) {
        let named = path.replace(['{', '}'], "");
        let said = open.ask(&format!("{method} {named}"), &["Authorization: Bearer admin"], "").await;
        let expected = format!(
            r#"404 {{"status":"error","message":"there is no `{named}` here, but rollouts alone; look at"#
        );
        assert!(said.starts_with(&expected), "{method} {path}: {said}");
    }
    assert_eq!((open.fake.asked(), open.fake.rollouts.asked()), (vec![], vec![]));
}

#[tokio::test]
async fn pages_of_others_are_kept_out() {
    let open = Open::here().await;
    let version = r#"{"version":"v1"}"#;
    let own = format!("Origin: http://{}", open.address);
    for header in ["Host: evil.example", "Origin: http://evil.example", "Origin: null", &own] {
        let said = open.ask("POST /v1/orchestrate/prod/web/version", &[header], version).await;
        assert!(said.starts_with(r#"403 {"status":"error","message":""#), "{header}: {said}");
    }
    assert_eq!(open.fake.rollouts.asked(), [""; 0]);
    let recorded = open.fake.recorded();
    assert_eq!(recorded.len(), 4, "{recorded:?}");
    assert!(
        recorded[0].starts_with("rollouts-listener from afar: POST /v1/orchestrate/prod/web/version: 403, ")
    );
}

#[tokio::test]
async fn any_loopback_address_will_do_and_is_a_name_of_the_server() {
    let open = Open::at("127.0.0.2:0").await;
    let host = format!("Host: {}", open.address);
    assert_eq!(open.ask("POST /v1/orchestrate/prod/web/options", &[&host], "null").await, OK);
    let other = open.ask("GET /v1/orchestrate/namespaces", &["Host: 127.0.0.3"], "").await;
    assert!(other.starts_with("403 "), "{other}");
}

#[tokio::test]
async fn who_is_idle_makes_place_for_a_newcomer_and_the_end_is_in_order() {
    let open = Open::here().await;
    let mut idle = Vec::new();
    for _ in 0..=ROLLOUTS_CONNECTIONS_MAX {
        idle.push(TcpStream::connect(open.address).await.unwrap());
    }
    assert_eq!(open.ask("GET /v1/orchestrate/namespaces", &[], "").await, "200 []");
    open.stop.send(()).unwrap();
    in_time(open.server).await.unwrap();
}
