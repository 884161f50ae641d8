//! Over TCP: names, TLS, and those who are slow or many.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{StreamExt, stream};

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::Instant;
use upbeat_api::{Client, ClientError, Remote};

use super::connections::{is_open, keep_busy};
use super::fake::{Fake, app, name};
use super::{in_time, request, rest, status_and_body};
use crate::bounds::{
    HANDSHAKE_TIMEOUT, HEAD_TIMEOUT, MISSED_MAX, STREAM_LOOK, STREAMS_OF_TOKEN_MAX, TCP_CONNECTIONS_MAX,
    TCP_CONNECTIONS_OF_HERE_MAX,
};
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
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        Self::certified(secret.then_some(params))
    }

    fn certified(params: Option<CertificateParams>) -> Self {
        let secret = params.is_some();
        let directory = tempfile::tempdir().unwrap();
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let address = listener.local_addr().unwrap();
        let socket = directory.path().join("run/upbeat.sock");
        let unix = Unix { listener: crate::bind(&socket).unwrap(), group: None };
        let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
        let tls = params.map(|params| {
            let own = KeyPair::generate().unwrap();
            std::fs::write(&cert, params.self_signed(&own).unwrap().pem()).unwrap();
            std::fs::write(&key, own.serialize_pem()).unwrap();
            Tls::read(&cert, &key).unwrap()
        });
        let ca = secret.then_some(cert);
        let tcp = Some(Tcp { listener, tls, hosts: vec!["upbeat.example".into()] });
        let fake = Fake::default();
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(crate::serve(Doors { unix, tcp, rollouts: None }, fake.clone(), async {
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

    pub(super) async fn connect(&self) -> TcpStream {
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
    let error = Client::remote(&misnamed).unwrap().version().await.unwrap_err();
    assert_eq!(why(&error), "its certificate is not for `127.0.0.1`, but for `localhost`");
    assert!(error.hint().unwrap_or_default().contains("name it so as its certificate does"), "{error:?}");
    assert_eq!(afar.fake.recorded(), [""; 0]);
}

/// What the system, or TLS, says of it.
fn why(error: &ClientError) -> String {
    std::error::Error::source(error).map(ToString::to_string).unwrap_or_default()
}

#[tokio::test]
async fn who_speaks_tls_and_who_does_not_is_told_with_the_remedy() {
    for (secret, scheme, said, remedy) in [
        (true, "http", "it speaks TLS", "use `https://`"),
        (false, "https", "it speaks no TLS", "use `http://`"),
    ] {
        let (afar, certificate) = (Afar::with(secret), Afar::with(true));
        let url = format!("{scheme}://localhost:{}", afar.address.port());
        let ca = certificate.ca.clone().filter(|_| scheme == "https");
        let error = Client::remote(&Remote { url, token: None, ca }).unwrap().version().await.unwrap_err();
        assert_eq!((why(&error).as_str(), error.hint()), (said, Some(remedy)), "{error:?}");
    }
}

#[tokio::test]
async fn who_has_no_token_is_told_where_to_put_one() {
    let afar = Afar::open();
    let remote = Remote { token: None, ..afar.remote("") };
    let error = Client::remote(&remote).unwrap().version().await.unwrap_err();
    assert!(error.hint().unwrap_or_default().contains("set `UPBEAT_TOKEN`"), "{error:?}");
}

#[tokio::test]
async fn a_certificate_of_an_authority_proves_no_server_and_the_remedy_is_said() {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let afar = Afar::certified(Some(params));
    let error = afar.client("admin").version().await.unwrap_err();
    let hint = error.hint().unwrap_or_default();
    assert!(hint.contains("CA:FALSE") && hint.contains("docs/access.md"), "{error:?}: {hint}");
    assert_eq!(afar.fake.recorded(), [""; 0], "and it got no token");
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
    // Nor does it break off while nobody can tell for a while whether it does.
    afar.fake.is_busy.store(true, Ordering::Relaxed);
    assert!(tokio::time::timeout(STREAM_LOOK * MISSED_MAX, watch.next()).await.is_err());
    assert!(afar.client("viewer").version().await.is_err(), "but nobody new is let in");
    afar.fake.is_busy.store(false, Ordering::Relaxed);
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
    for host in [
        "evil.example",
        "127.0.0.1.evil.example",
        "[::1]:80",
        "upbeat.example.evil",
        "[localhost",
        "localhost:evil.example",
        "localhost:",
        "x@localhost",
    ] {
        let told = afar.ask("GET /api/v1/apps", &[token, &format!("Host: {host}")], "").await;
        assert!(told.starts_with("403 "), "{host}: {told}");
    }
    // Said twice, or another in the line: who reads which is not to matter.
    let told = afar.ask("GET /api/v1/apps", &[token, "Host: localhost", "Host: evil.example"], "").await;
    assert!(told.starts_with("403 "), "{told}");
    let told = afar.ask("GET http://evil.example/api/v1/apps", &[token], "").await;
    assert!(told.starts_with("403 "), "{told}");
    let told = afar.ask("GET http://upbeat.example:80/api/v1/apps", &[token], "").await;
    assert!(told.starts_with("200 "), "{told}");
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
async fn a_crowd_that_says_nothing_keeps_nobody_out() {
    for secret in [false, true] {
        let afar = Afar::with(secret);
        let mut silent = Vec::new();
        for _ in 0..TCP_CONNECTIONS_MAX {
            silent.push(afar.connect().await);
        }
        afar.client("viewer").version().await.unwrap();
        // Gone is who came first, and nothing was said.
        assert_eq!(rest(&mut silent[0]).await, "");
    }
}

#[tokio::test]
async fn who_loses_a_place_is_gone_at_once_and_who_proved_themselves_stays() {
    // On a machine that is slow enough all are gone, as they say nothing; then once more.
    let only_one_is_gone = async {
        loop {
            let afar = Afar::open();
            let mut proven = afar.connect().await;
            let asked =
                "GET /api/v1/version HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer viewer\r\n\r\n";
            proven.write_all(asked.as_bytes()).await.unwrap();
            let mut told = Vec::new();
            while !told.ends_with(b"}") {
                proven.read_buf(&mut told).await.unwrap();
            }
            let mut busy = Vec::new();
            for _ in 0..TCP_CONNECTIONS_OF_HERE_MAX - 2 {
                busy.push(afar.connect().await);
                keep_busy(busy.last_mut().unwrap(), &["Authorization: Bearer operator"]).await;
            }
            let mut unproven = afar.connect().await;
            afar.client("viewer").version().await.unwrap();
            assert_eq!(rest(&mut unproven).await, "");
            // It was idle for longer than the other was there.
            if is_open(proven.try_read(&mut [0])) {
                return;
            }
        }
    };
    in_time(only_one_is_gone).await;
}

#[tokio::test]
async fn a_crowd_that_is_answered_is_told_so_and_closes_no_other_door() {
    let afar = Afar::open();
    let mut busy = Vec::new();
    for _ in 0..TCP_CONNECTIONS_OF_HERE_MAX {
        busy.push(afar.connect().await);
        keep_busy(busy.last_mut().unwrap(), &["Authorization: Bearer operator"]).await;
    }
    let error = afar.client("viewer").version().await.unwrap_err();
    insta::assert_snapshot!(error, @"96 connections of this machine are in use, which is as many as there may be");
    let said = afar.ask("GET /api/v1/services/list", &["Authorization: Bearer viewer"], "").await;
    assert!(said.starts_with(r#"503 {"success":false,"error":"96 connections of this machine"#), "{said}");
    Client::new(&afar.socket).version().await.unwrap();
    drop(busy.pop());
    in_time(async { while afar.client("viewer").version().await.is_err() {} }).await;
}

/// Far more apps than fit into what the kernel keeps for a connection.
const MANY_APPS: usize = 400_000;

#[tokio::test]
async fn whoever_reads_a_large_answer_slowly_is_not_cut_for_a_newcomer() {
    let afar = Afar::open();
    afar.fake.others.store(MANY_APPS, Ordering::Relaxed);
    let mut slow = afar.connect().await;
    let asked = "GET /api/v1/apps HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer viewer\r\n\r\n";
    slow.write_all(asked.as_bytes()).await.unwrap();
    let mut told = Vec::new();
    while !told.windows(4).any(|end| end == b"\r\n\r\n") {
        in_time(slow.read_buf(&mut told)).await.unwrap();
    }
    let mut busy = Vec::new();
    for _ in 0..TCP_CONNECTIONS_OF_HERE_MAX - 1 {
        busy.push(afar.connect().await);
        keep_busy(busy.last_mut().unwrap(), &["Authorization: Bearer operator"]).await;
    }
    let error = afar.client("viewer").version().await.unwrap_err();
    insta::assert_snapshot!(error, @"96 connections of this machine are in use, which is as many as there may be");
    while !told.ends_with(b"}]") {
        assert!(in_time(slow.read_buf(&mut told)).await.unwrap() > 0, "it was cut");
    }
    let (_, list) = std::str::from_utf8(&told).unwrap().split_once("\r\n\r\n").unwrap();
    assert_eq!(list.matches("shop").count(), MANY_APPS + 1);
    // Idle from then on, which gives way.
    in_time(async { while afar.client("viewer").version().await.is_err() {} }).await;
}

#[tokio::test]
async fn one_token_has_only_so_many_streams() {
    let afar = Afar::open();
    let mut streams = Vec::new();
    for _ in 0..STREAMS_OF_TOKEN_MAX {
        *afar.fake.states.lock().unwrap() = Some(stream::pending().boxed());
        streams.push(afar.client("viewer").watch(&name("shop")).await.unwrap());
    }
    *afar.fake.states.lock().unwrap() = Some(stream::pending().boxed());
    let refused = afar.client("viewer").watch(&name("shop")).await.err().unwrap();
    insta::assert_snapshot!(refused, @"token viewer has 32 streams open, which is as many as there may be");
    afar.client("viewer").version().await.unwrap();
    drop(afar.client("operator").watch(&name("shop")).await.unwrap());
    drop(streams.pop());
    in_time(async { while afar.client("viewer").watch(&name("shop")).await.is_err() {} }).await;
}

#[tokio::test]
async fn streams_of_several_tokens_keep_nobody_out() {
    let afar = Afar::open();
    let mut streams = Vec::new();
    for token in ["viewer", "operator"].iter().cycle().take(TCP_CONNECTIONS_OF_HERE_MAX / 2) {
        *afar.fake.states.lock().unwrap() = Some(stream::pending().boxed());
        streams.push(afar.client(token).watch(&name("shop")).await.unwrap());
    }
    let refused = afar.client("admin").watch(&name("shop")).await.err().unwrap();
    insta::assert_snapshot!(refused, @"this machine has 48 streams open, which is as many as there may be");
    // The one that was told so asks for something else, and so do many more.
    for _ in 0..TCP_CONNECTIONS_OF_HERE_MAX {
        afar.client("admin").version().await.unwrap();
    }
    drop(streams.pop());
    in_time(async { while afar.client("admin").watch(&name("shop")).await.is_err() {} }).await;
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
