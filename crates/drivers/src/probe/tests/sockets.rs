//! TCP, UDP, and sockets in the file system.

use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use tokio::net::UdpSocket;
use upbeat_model::project::Udp;

use super::*;

#[tokio::test]
async fn a_port_is_open_or_refused() {
    let prober = prober();
    let of = async |address: String| prober.verdict(&Question::Tcp(address), PATIENT).await;
    let server = Server::answering("").await;
    assert_eq!(of(server.address.clone()).await, yes("connection accepted"));
    assert_eq!(of(server.address.replace("127.0.0.1", "localhost")).await, yes("connection accepted"));
    assert_eq!(of(nobody().await).await, no("connection refused"));
    assert_eq!(of("nobody.invalid:1".into()).await, no("there is no address for `nobody.invalid`"));
    assert_eq!(of("x".into()).await, no("`x` is not `host:port`"));
}

/// A port, its queue, and who is in it: connections beyond are not answered by the system.
pub(super) async fn full_port() -> (String, std::net::TcpListener, TcpStream) {
    let listener = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    bind(&listener, &"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap()).unwrap();
    listen(&listener, 0).unwrap();
    let listener = std::net::TcpListener::from(listener);
    let at = listener.local_addr().unwrap();
    let held = TcpStream::connect(at).await.unwrap();
    (at.to_string(), listener, held)
}

/// The same of a socket in the file system.
pub(super) fn full_socket(dir: &tempfile::TempDir) -> (Question, OwnedFd) {
    let (question, listener) = unix(dir, "s", SocketType::STREAM);
    let Question::Unix(path) = &question else { panic!() };
    listener_is_full(path);
    (question, listener)
}

#[tokio::test]
async fn a_queue_that_is_full_is_waited_for_and_times_out() {
    let (port, _listener, _held) = full_port().await;
    let verdict = prober().verdict(&Question::Tcp(port), SHORT).await;
    assert_eq!(verdict, no("timed out after 300ms"));
}

/// Answers each datagram like this; an empty one not at all.
async fn echo(answer: &'static [u8]) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut asked = [0; 64];
        while let Ok((count, from)) = socket.recv_from(&mut asked).await {
            if &asked[..count] == b"ping" && !answer.is_empty() {
                let _ = socket.send_to(answer, from).await;
            }
        }
    });
    address
}

#[tokio::test]
async fn a_datagram_is_answered_as_it_should_be() {
    let prober = prober();
    let of = async |address: String, send: &str, expect: Option<&str>, timeout| {
        let udp = Udp { address, send: send.into(), expect: expect.map(Into::into) };
        prober.verdict(&Question::Udp(udp), timeout).await
    };
    let server = echo(b"pong \xff").await;
    assert_eq!(of(server.clone(), "ping", None, PATIENT).await, yes("it answers"));
    assert_eq!(of(server.clone(), "ping", Some("^pong"), PATIENT).await, yes("its answer matches"));
    assert_eq!(of(server.clone(), "ping", Some("pang"), PATIENT).await, no("its answer does not match"));
    assert_eq!(of(server, "other", None, SHORT).await, no("timed out after 300ms"));
    assert_eq!(of(echo(b"").await, "ping", None, SHORT).await, no("timed out after 300ms"));
    assert_eq!(
        of(echo(b"x").await, "ping", Some("("), PATIENT).await,
        no("its pattern is not a regular expression")
    );
    let free = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let nobody = free.local_addr().unwrap().to_string();
    drop(free);
    assert_eq!(of(nobody, "ping", None, PATIENT).await, no("nobody takes datagrams there"));
}

fn unix(dir: &tempfile::TempDir, name: &str, kind: SocketType) -> (Question, OwnedFd) {
    let path = dir.path().join(name).display().to_string();
    let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
    bind(&socket, &SocketAddrUnix::new(path.as_str()).unwrap()).unwrap();
    if kind != SocketType::DGRAM {
        listen(&socket, 1).unwrap();
    }
    (Question::Unix(path), socket)
}

#[tokio::test]
async fn a_socket_of_each_kind_is_there_or_not() {
    let prober = prober();
    let of = async |question: &Question| prober.verdict(question, PATIENT).await;
    let dir = tempfile::tempdir().unwrap();
    for (name, kind) in
        [("stream", SocketType::STREAM), ("packets", SocketType::SEQPACKET), ("datagrams", SocketType::DGRAM)]
    {
        let (question, socket) = unix(&dir, name, kind);
        assert_eq!(of(&question).await, yes("connection accepted"), "{name}");
        drop(socket);
        assert_eq!(of(&question).await, no("connection refused"), "{name}");
    }
    let at = |name: &str| Question::Unix(dir.path().join(name).display().to_string());
    std::fs::write(dir.path().join("file"), "").unwrap();
    assert_eq!(of(&at("file")).await, no("it is no socket"));
    assert_eq!(of(&at("nothing")).await, no("it is not there"));
    let long = no("its path is longer than that of a socket can be");
    assert_eq!(of(&at(&"x".repeat(200))).await, long);
}

#[tokio::test]
async fn a_socket_whose_queue_is_full_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (question, listener) = full_socket(&dir);
    let prober = prober();
    assert_eq!(prober.verdict(&question, SHORT).await, no("timed out after 300ms"));
    let is_accepted = Arc::new(AtomicBool::new(false));
    let accepted = is_accepted.clone();
    let listener = std::os::unix::net::UnixListener::from(listener);
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::UnixListener::from_std(listener).unwrap();
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            accepted.store(true, Ordering::SeqCst);
        }
    });
    assert_eq!(prober.verdict(&question, PATIENT).await, yes("connection accepted"));
    assert!(is_accepted.load(Ordering::SeqCst));
}

/// Connects until the queue takes no more.
fn listener_is_full(path: &str) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let address = SocketAddrUnix::new(path).unwrap();
    loop {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        match rustix::net::connect(&socket, &address) {
            // It stays in the queue when this end is closed.
            Ok(()) => drop(socket),
            Err(errno) => return assert_eq!(errno, Errno::AGAIN),
        }
    }
}
