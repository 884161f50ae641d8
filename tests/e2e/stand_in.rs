//! What stands in for people's services: this very program, run as one, and servers in this process
//! whose answers can be changed.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// The first word of a command line that makes this program a service.
pub(crate) const WORD: &str = "stand-in";

/// Between two looks, beats or lines.
const PACE: Duration = Duration::from_millis(20);

/// The command of such a service, as a file of a project has it.
pub(crate) fn command(words: &[&str]) -> String {
    let program = std::env::current_exe().unwrap();
    let all: Vec<&str> = [program.to_str().unwrap(), WORD].into_iter().chain(words.iter().copied()).collect();
    serde_json::to_string(&all).unwrap()
}

/// Does one thing after the other:
///
/// * `say TEXT`: tells whoever `NOTIFY_SOCKET` names
/// * `print TEXT`
/// * `touch FILE`: makes it
/// * `await FILE`: until it is there
/// * `beat FILE`, `chatter FILE`: says `WATCHDOG=1`, or prints, again and again until the file is there
/// * `open COUNT`: holds so many files open from then on
/// * `take MEBIBYTES`: of memory
/// * `spin`: uses a CPU from then on
/// * `forever`: does nothing more, and does not end
pub(crate) fn run(mut words: impl Iterator<Item = String>) -> ExitCode {
    let (mut files, mut memory) = (Vec::new(), Vec::new());
    while let Some(what) = words.next() {
        let mut word = || words.next().unwrap();
        match what.as_str() {
            "say" => say(&word()),
            "print" => print(&word()),
            "touch" => drop(File::create(word()).unwrap()),
            "await" => until(&word(), || {}),
            "beat" => until(&word(), || say("WATCHDOG=1")),
            "chatter" => until(&word(), || print("still here")),
            "open" => {
                files.extend((0..word().parse::<u32>().unwrap()).map(|_| File::open("/dev/null").unwrap()));
            }
            // Written to, or it would be a promise only.
            "take" => memory.push(vec![1_u8; word().parse::<usize>().unwrap() << 20]),
            "spin" => loop {
                std::hint::spin_loop();
            },
            "forever" => loop {
                std::thread::park();
            },
            other => panic!("{other}"),
        }
    }
    ExitCode::SUCCESS
}

fn print(text: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{text}").and_then(|()| out.flush()).unwrap();
}

fn say(text: &str) {
    let name = std::env::var("NOTIFY_SOCKET").unwrap();
    let address = SocketAddr::from_abstract_name(name.strip_prefix('@').unwrap()).unwrap();
    UnixDatagram::unbound().unwrap().send_to_addr(text.as_bytes(), &address).unwrap();
}

fn until(file: &str, mut each: impl FnMut()) {
    while !Path::new(file).exists() {
        each();
        std::thread::sleep(PACE);
    }
}

/// Servers of every kind a probe can ask over a socket. All answer well, until [`Outside::fail`].
pub(crate) struct Outside {
    good: Arc<AtomicBool>,
    listeners: (TcpListener, UnixListener),
    /// Where each is: `host:port`.
    pub(crate) http: String,
    pub(crate) https: String,
    pub(crate) tcp: String,
    pub(crate) udp: String,
    pub(crate) grpc: String,
    /// The certificate of whoever issued that of `https`.
    pub(crate) ca: String,
}

impl Outside {
    /// With a socket at this path.
    pub(crate) fn new(unix: &Path) -> Self {
        let good = Arc::new(AtomicBool::new(true));
        let (config, ca) = tls();
        let http = serve(good.clone(), answer);
        let https = serve(good.clone(), move |stream, good| {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream);
            answer(&mut stream, good);
            stream.conn.send_close_notify();
            let _ = stream.flush();
        });
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let unix = UnixListener::bind(unix).unwrap();
        let (accepts, takes) = (tcp.try_clone().unwrap(), unix.try_clone().unwrap());
        // Both end when their listeners are shut down.
        std::thread::spawn(move || while accepts.accept().is_ok() {});
        std::thread::spawn(move || while takes.accept().is_ok() {});
        Self {
            http,
            https,
            tcp: tcp.local_addr().unwrap().to_string(),
            udp: echo(good.clone()),
            grpc: health_service(good.clone()),
            ca,
            listeners: (tcp, unix),
            good,
        }
    }

    /// From now on none answers well.
    pub(crate) fn fail(&self) {
        self.good.store(false, Ordering::SeqCst);
        let both = rustix::net::Shutdown::Both;
        rustix::net::shutdown(self.listeners.0.as_fd(), both).unwrap();
        rustix::net::shutdown(self.listeners.1.as_fd(), both).unwrap();
    }
}

/// A server of TCP that answers each connection in turn.
fn serve(good: Arc<AtomicBool>, answer: impl Fn(std::net::TcpStream, bool) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(stream, good.load(Ordering::SeqCst));
        }
    });
    address
}

fn answer(mut stream: impl Read + Write, good: bool) {
    let status = if good { "200 OK" } else { "500 Internal Server Error" };
    if stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
        let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        let _ = stream.flush();
    }
}

/// A server's settings, and the certificate of its issuer.
fn tls() -> (Arc<rustls::ServerConfig>, String) {
    let issuer_key = KeyPair::generate().unwrap();
    let mut issuer = CertificateParams::new(Vec::new()).unwrap();
    issuer.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = issuer.self_signed(&issuer_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let own = own.signed_by(&key, &Issuer::new(issuer, issuer_key)).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.der().clone()], key)
        .unwrap();
    (Arc::new(config), ca)
}

/// Answers `pong`, or something else.
fn echo(good: Arc<AtomicBool>) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        while let Ok((_, from)) = socket.recv_from(&mut [0; 2048]) {
            let said = if good.load(Ordering::SeqCst) { "pong" } else { "busy" };
            let _ = socket.send_to(said.as_bytes(), from);
        }
    });
    address
}

/// The health service of gRPC.
fn health_service(good: Arc<AtomicBool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let local = tokio::task::LocalSet::new();
            local
                .run_until(async {
                    while let Ok((stream, _)) = listener.accept().await {
                        tokio::task::spawn_local(serving(stream, good.clone()));
                    }
                })
                .await;
        });
    });
    address
}

async fn serving(stream: tokio::net::TcpStream, good: Arc<AtomicBool>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, mut reply))) = connection.accept().await {
        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
        let head = http::Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        // `status: SERVING` or `NOT_SERVING`, behind the length of the message.
        let status = if good.load(Ordering::SeqCst) { 1 } else { 2 };
        let message = bytes::Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 8, status]);
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        let Ok(mut stream) = reply.send_response(head, false) else { return };
        if stream.send_data(message, false).and_then(|()| stream.send_trailers(trailers)).is_err() {
            return;
        }
    }
}
