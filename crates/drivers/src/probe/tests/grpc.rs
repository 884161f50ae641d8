//! The health service of gRPC, and what pretends to be one.

use ::http::{HeaderMap, Response};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use upbeat_model::project::{Grpc, Tls};

use super::tls::{Authority, Like};
use super::*;

/// What a server says.
#[derive(Clone)]
enum Says {
    /// By the service that is asked for: `up` serves, `down` does not, others are not known.
    Health,
    /// This message, and these trailers.
    This(&'static [u8], &'static [(&'static str, &'static str)]),
    /// Only headers.
    Headers(u16, &'static [(&'static str, &'static str)]),
    /// Nothing.
    Nothing,
    /// Data without end.
    Flood,
}

fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
    of.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(stream: S, says: Says) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, mut reply))) = connection.accept().await {
        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
        assert_eq!(request.headers()["te"], "trailers");
        let says = says.clone();
        tokio::spawn(async move {
            let mut body = request.into_body();
            let asked = body.data().await.unwrap().unwrap();
            let head = |status, with: &[_]| {
                let mut head = Response::builder().status(status).body(()).unwrap();
                *head.headers_mut() = headers(with);
                head
            };
            const GRPC: &[(&str, &str)] = &[("content-type", "application/grpc+proto")];
            let mut say = |message: &'static [u8], trailers: &[_]| {
                let mut stream = reply.send_response(head(200, GRPC), false).unwrap();
                stream.send_data(Bytes::from_static(message), false).unwrap();
                stream.send_trailers(headers(trailers)).unwrap();
            };
            match says {
                Says::Health => match &asked[..] {
                    [0, 0, 0, 0, 0] | [0, 0, 0, 0, 4, 0x0a, 2, b'u', b'p'] => {
                        say(&[0, 0, 0, 0, 2, 8, 1], &[("grpc-status", "0")]);
                    }
                    [0, 0, 0, 0, 6, 0x0a, 4, b'd', b'o', b'w', b'n'] => {
                        say(&[0, 0, 0, 0, 2, 8, 2], &[("grpc-status", "0")]);
                    }
                    _ => {
                        let head = head(200, &[("content-type", "application/grpc"), ("grpc-status", "5")]);
                        reply.send_response(head, true).unwrap();
                    }
                },
                Says::This(message, trailers) => say(message, trailers),
                Says::Headers(status, with) => drop(reply.send_response(head(status, with), true)),
                Says::Nothing => std::future::pending().await,
                Says::Flood => {
                    let mut stream = reply.send_response(head(200, GRPC), false).unwrap();
                    while stream.send_data(Bytes::from_static(&[0; 4096]), false).is_ok() {
                        tokio::task::yield_now().await;
                    }
                }
            }
        });
    }
}

async fn server(says: Says) -> Server {
    Server::new(move |_, stream| answer(stream, says.clone())).await
}

fn question(server: &Server, service: &str) -> Question {
    Question::Grpc(Grpc { address: server.address.clone(), service: service.into(), tls: None })
}

#[tokio::test]
async fn only_who_serves_is_healthy() {
    let prober = prober();
    let server = server(Says::Health).await;
    let of = async |service| prober.verdict(&question(&server, service), PATIENT).await;
    assert_eq!(of("").await, yes("SERVING"));
    assert_eq!(of("up").await, yes("SERVING"));
    assert_eq!(of("down").await, no("NOT_SERVING"));
    assert_eq!(of("other").await, no("it knows no service of this name"));
}

#[tokio::test]
async fn what_is_no_health_service_is_said() {
    let prober = prober();
    let of = async |says, timeout| prober.verdict(&question(&server(says).await, ""), timeout).await;
    const OK: &[(&str, &str)] = &[("grpc-status", "0")];
    const NO_HEALTH: &[(&str, &str)] = &[("content-type", "application/grpc"), ("grpc-status", "12")];
    let unimplemented = no("it has no health service (`grpc.health.v1.Health`)");
    assert_eq!(of(Says::Headers(200, NO_HEALTH), PATIENT).await, unimplemented);
    let not_about = no("its answer is not one about health");
    for odd in [
        &b""[..],
        b"\0\0\0\0\x02\x08\x09",
        b"\x01\0\0\0\x02\x08\x01",
        b"\0\0\0\0\x01\x08",
        b"\0\0\0\0\x03\x08\x01",
    ] {
        assert_eq!(of(Says::This(odd, OK), PATIENT).await, not_about, "{odd:?}");
    }
    let serving = b"\0\0\0\0\x02\x08\x01";
    assert_eq!(of(Says::This(serving, &[("grpc-status", "14")]), PATIENT).await, no("gRPC status 14"));
    assert_eq!(of(Says::This(serving, &[]), PATIENT).await, no("its answer is not gRPC"));
    assert_eq!(
        of(Says::This(serving, &[("grpc-status", "\tno")]), PATIENT).await,
        no("its answer is not gRPC")
    );
    assert_eq!(of(Says::Headers(404, &[]), PATIENT).await, no("HTTP 404: it does not speak gRPC there"));
    assert_eq!(of(Says::Headers(200, &[]), PATIENT).await, no("it does not speak gRPC there"));
    assert_eq!(of(Says::Nothing, SHORT).await, no("timed out after 300ms"));
    assert_eq!(of(Says::Flood, PATIENT).await, no("its answer is too long for one about health"));
}

#[tokio::test]
async fn what_speaks_something_else_is_said() {
    let prober = prober();
    let of = async |server: &Server, timeout| prober.verdict(&question(server, ""), timeout).await;
    let plain = Server::answering("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
    let spoken = of(&plain, PATIENT).await;
    assert_eq!(spoken, no("it does not speak HTTP/2 there"));
    let silent = Server::new(|_, mut stream| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    assert_eq!(of(&silent, SHORT).await, no("timed out after 300ms"));
    let gone =
        Server::new(
            |_, mut stream| async move { while stream.read_u8().await.is_ok_and(|byte| byte != b'S') {} },
        )
        .await;
    let (healthy, words) = of(&gone, PATIENT).await;
    assert!(!healthy && words.contains("connection"), "{words}");
    // Pings that never end: what is read is bounded.
    let pings = Server::new(|_, mut stream| async move {
        let _ = stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
        let (mut from, mut to) = stream.split();
        let ping = [0, 0, 8, 6, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8].repeat(64);
        let read = async { while from.read_u8().await.is_ok() {} };
        let write = async { while to.write_all(&ping).await.is_ok() {} };
        tokio::join!(read, write);
    })
    .await;
    let (healthy, words) = of(&pings, PATIENT).await;
    assert!(!healthy && !words.contains("timed out"), "{words}");
    let nobody = Grpc { address: nobody().await, service: String::new(), tls: None };
    assert_eq!(prober.verdict(&Question::Grpc(nobody), PATIENT).await, no("connection refused"));
}

#[tokio::test]
async fn it_is_asked_over_tls_too() {
    let ours = Authority::new("ours");
    let acceptor = ours.server("127.0.0.1", Like::Good, &[b"h2"]);
    let server = Server::new(move |_, stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            answer(stream, Says::Health).await;
        }
    })
    .await;
    let of = |ca: &str| {
        let tls = Some(Tls { ca: Some(ca.to_owned()), ..Tls::default() });
        Question::Grpc(Grpc { address: server.address.clone(), service: "up".into(), tls })
    };
    let prober = prober();
    assert_eq!(prober.verdict(&of(&ours.pem), PATIENT).await, yes("SERVING"));
    let (healthy, words) = prober.verdict(&of(&Authority::new("other").pem), PATIENT).await;
    assert!(!healthy && words.contains("is not believed"), "{words}");
}
