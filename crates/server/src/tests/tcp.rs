//! Over TCP: names, TLS, and those who are slow or many.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{StreamExt, stream};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::Instant;
use upbeat_api::{Client, ClientError, Remote};

use super::fake::{Fake, app, name};
use super::{in_time, request, rest, status_and_body};
use crate::bounds::{HANDSHAKE_TIMEOUT, HEAD_TIMEOUT, STREAM_LOOK, TCP_CONNECTIONS_OF_ONE_MAX};
use crate::{Doors, Tcp, Tls, Unix};

/// A server with both doors.
pub(super) struct Afar {
    pub(super) fake: Fake,
    pub(super) address: SocketAddr,
    socket: PathBuf,
    ca: Option<PathBuf>,
    _stop: oneshot::Sender<()>,
    _directory: tempfile::TempDir,
}

impl Afar {
    pub(super) fn open() -> Self {
        Self::with(false)
    }

    fn with(secret: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let address = listener.local_addr().unwrap();
        let socket = directory.path().join("run/upbeat.sock");
        let unix = Unix { listener: crate::bind(&socket).unwrap(), group: None };
        let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
        let tls = secret.then(|| {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            std::fs::write(&cert, made.cert.pem()).unwrap();
            std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
            Tls::read(&cert, &key).unwrap()
        });
        let ca = secret.then_some(cert);
        let tcp = Some(Tcp { listener, tls, hosts: vec!["upbeat.example".into()] });
        let fake = Fake::default();
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(crate::serve(Doors { unix, tcp }, fake.clone(), async {
            drop(stopped.await);
        }));
        Self { fake, address, socket, ca, _stop: stop, _directory: directory }
    }

    fn remote(&self, token: &str) -> Remote {
        let scheme = if self.ca.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://localhost:{}", self.address.port());
        Remote { url, token: Some(token.into()), ca: self.ca.clone() }
    }

    pub(super) fn client(&self, token: &str) -> Client {
        Client::remote(&self.remote(token)).unwrap()
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    pub(super) async fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_ref()).await.unwrap();
        rest(&mut stream).await
    }

    pub(super) async fn ask(&self, line: &str, headers: &[&str], body: &str) -> String {
        status_and_body(&self.raw(request(line, headers, body)).await)
    }
}

#[tokio::test]
async fn the_same_client_asks_the_same_from_afar() {
    for secret in [false, true] {
        let afar = Afar::with(secret);
        assert_eq!(afar.client("viewer").version().await.unwrap().pid, 42);
        let error = afar.client("nobody").version().await.unwrap_err();
        assert_eq!(error.to_string(), "the token is not known");
        assert_eq!(Client::new(&afar.socket).version().await.unwrap().pid, 42, "and here needs none");
    }
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_gets_no_token() {
    let (afar, other) = (Afar::with(true), Afar::with(true));
    let stranger = Remote { ca: other.ca.clone(), ..afar.remote("admin") };
    let error = Client::remote(&stranger).unwrap().version().await.unwrap_err();
    assert!(matches!(&error, ClientError::Connect { .. }), "{error:?}");
    assert_eq!(error.hint(), Some("`--ca FILE` names a certificate to trust instead"));
    // It is for another name, too.
    let url = format!("https://127.0.0.1:{}", afar.address.port());
    let misnamed = Remote { url, ..afar.remote("admin") };
    assert!(Client::remote(&misnamed).unwrap().version().await.is_err());
    assert_eq!(afar.fake.recorded(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_breaks_off_when_its_token_does_not_hold_any_more() {
    let afar = Afar::open();
    let (dropped, source_gone) = oneshot::channel::<()>();
    let quiet = stream::once(async { app(1) }).chain(stream::pending()).map(move |app| {
        let _held = &dropped;
        app
    });
    *afar.fake.states.lock().unwrap() = Some(quiet.boxed());
    let mut watch = afar.client("viewer").watch(&name("shop")).await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap(), app(1));
    // Many looks later it goes on.
    assert!(tokio::time::timeout(STREAM_LOOK * 100, watch.next()).await.is_err());
    afar.fake.is_revoked.store(true, Ordering::Relaxed);
    let revoked = Instant::now();
    assert!(matches!(watch.next().await, Some(Err(ClientError::Interrupted { .. }))));
    assert!(revoked.elapsed() <= STREAM_LOOK + Duration::from_secs(1), "{:?}", revoked.elapsed());
    assert!(in_time(source_gone).await.is_err(), "its sender is dropped with the source");
}

#[tokio::test]
async fn where_nobody_listens_afar_the_client_says_so() {
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let error = Client::remote(&Remote { url, token: None, ca: None }).unwrap().version().await.unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error:?}");
    assert_eq!(error.hint(), Some("start it there, with `upbeat serve --listen ADDRESS`"));
}

#[tokio::test]
async fn a_door_answers_to_its_names_and_to_no_other() {
    let afar = Afar::open();
    let token = "Authorization: Bearer viewer";
    for host in ["localhost", "LOCALHOST:80", "127.0.0.1:7000", "upbeat.example", "upbeat.example:7000"] {
        let told = afar.ask("GET /api/v1/apps", &[token, &format!("Host: {host}")], "").await;
        assert!(told.starts_with("200 "), "{host}: {told}");
    }
    for host in ["evil.example", "127.0.0.1.evil.example", "[::1]:80", "upbeat.example.evil", "[localhost"] {
        let told = afar.ask("GET /api/v1/apps", &[token, &format!("Host: {host}")], "").await;
        assert!(told.starts_with("403 "), "{host}: {told}");
    }
    let origin = ["Origin: http://127.0.0.1:80", token];
    let told = afar.ask("GET /api/v1/apps", &origin, "").await;
    assert!(told.starts_with("403 "), "{told}");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_over_tcp() {
    let afar = Afar::open();
    let long = format!("X: {}", "x".repeat(crate::bounds::HEAD_MAX));
    assert!(afar.ask("GET /api/v1/apps", &[&long], "").await.starts_with("431"));
}

#[tokio::test]
async fn a_body_of_somebody_unknown_is_not_read() {
    let afar = Afar::open();
    // Announced and not sent: whoever waited for it would wait for long.
    let head = ["Content-Type: application/json", "Content-Length: 1000000"];
    assert!(afar.ask("PUT /api/v1/apps/shop", &head, "").await.starts_with("401 "));
}

fn about(took: Duration, expected: Duration) -> bool {
    took >= expected && took < expected + Duration::from_secs(1)
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_come_is_not_waited_for() {
    let afar = Afar::with(true);
    // Nothing, and the beginning of a greeting.
    for begun in [&[][..], &[0x16, 0x03, 0x01]] {
        let before = Instant::now();
        afar.raw(begun).await;
        assert!(about(before.elapsed(), HANDSHAKE_TIMEOUT), "{:?}", before.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_come_is_not_waited_for_over_tcp() {
    let afar = Afar::open();
    for begun in ["", "GET /api/v1/apps HTTP/1.1\r\nHo"] {
        let before = Instant::now();
        afar.raw(begun).await;
        assert!(about(before.elapsed(), HEAD_TIMEOUT), "{:?}", before.elapsed());
    }
}

#[tokio::test]
async fn words_in_the_clear_get_no_answer_where_all_is_secret() {
    let afar = Afar::with(true);
    let said = in_time(afar.ask("GET /api/v1/apps", &["Authorization: Bearer admin"], "")).await;
    assert!(!said.contains("shop") && afar.fake.asked().is_empty(), "{said}");
}

#[tokio::test]
async fn a_crowd_from_one_address_is_told_so_and_closes_no_other_door() {
    let afar = Afar::open();
    let mut idle = Vec::new();
    for _ in 0..TCP_CONNECTIONS_OF_ONE_MAX {
        idle.push(afar.connect().await);
    }
    let error = afar.client("viewer").version().await.unwrap_err();
    insta::assert_snapshot!(error, @"64 connections of one address are open, which is as many as there may be");
    Client::new(&afar.socket).version().await.unwrap();
    drop(idle.pop());
    in_time(async { while afar.client("viewer").version().await.is_err() {} }).await;
}

#[test]
fn a_certificate_that_is_of_no_use_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let made = ["a", "b"].map(|name| {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        std::fs::write(path(name), made.cert.pem()).unwrap();
        std::fs::write(path(&format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
    });
    assert_eq!(made.len(), 2);
    std::fs::write(path("empty"), "").unwrap();
    for (cert, key, named) in
        [("none", "a.key", "none"), ("empty", "a.key", "empty"), ("a", "empty", "empty"), ("a", "a", "/a`")]
    {
        let error = Tls::read(&path(cert), &path(key)).err().unwrap().to_string();
        assert!(error.contains(named), "{error}");
    }
    let error = Tls::read(&path("a"), &path("b.key")).err().unwrap().to_string();
    assert!(error.contains("together"), "{error}");
    assert!(Tls::read(&path("a"), &path("a.key")).is_ok());
}
