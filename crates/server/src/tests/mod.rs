//! The server on a real socket, with a backend in memory.

mod access;
mod answers;
mod builds;
mod connections;
mod device;
mod document;
mod exec;
mod fake;
mod fake_device;
mod fake_rollouts;
mod guide;
mod guide_elsewhere;
mod large;
mod nixmade;
mod nixmade_bodies;
mod open_rollouts;
mod refusals;
mod rollout_lists;
mod rollouts;
mod socket;
mod streams;
mod tcp;
mod webhooks;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use upbeat_api::Client;

use fake::Fake;

/// A server of its own, in a directory of its own.
struct House {
    fake: Fake,
    socket: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl House {
    fn open() -> Self {
        Self::with(Fake::default())
    }

    fn with(fake: Fake) -> Self {
        Self::of(fake, None)
    }

    /// A group's members are operators.
    fn for_group(groups_of: crate::GroupsOf, gid: u32) -> Self {
        Self::of(Fake::default(), Some(crate::Group { gid, groups_of }))
    }

    fn of(fake: Fake, group: Option<crate::Group>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("run/upbeat.sock");
        let unix = crate::Unix { listener: crate::bind(&socket).unwrap(), group };
        let (stop, stopped) = oneshot::channel();
        let doors = crate::Doors { unix, tcp: None, rollouts: None };
        let server = tokio::spawn(crate::serve(doors, fake.clone(), async move {
            // A test that ends without a word leaves the server to the end of its runtime.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        }));
        Self { fake, socket, stop: Some(stop), server, _directory: directory }
    }

    /// For every user, whom the file system would keep out before the server does.
    fn open_to_all(&self) {
        for path in [self.socket.as_path(), self.socket.parent().unwrap(), self._directory.path()] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
        }
    }

    fn client(&self) -> Client {
        Client::new(&self.socket)
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.unwrap()
    }

    /// Sends these bytes and returns all that comes back until the connection is closed.
    async fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_ref()).await.unwrap();
        rest(&mut stream).await
    }

    /// The answer to a request: its status, its body.
    async fn ask(&self, line: &str, headers: &[&str], body: &str) -> String {
        let answer = self.raw(request(line, headers, body)).await;
        status_and_body(&answer)
    }

    fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }
}

/// A request as it is sent.
fn request(line: &str, headers: &[&str], body: &str) -> String {
    let host = if headers.iter().any(|h| h.starts_with("Host:")) { "" } else { "Host: localhost\r\n" };
    let mut request = format!("{line} HTTP/1.1\r\n{host}Connection: close\r\n");
    for header in headers {
        request.push_str(header);
        request.push_str("\r\n");
    }
    if !body.is_empty() {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    format!("{request}\r\n{body}")
}

async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut all = Vec::new();
    // A server that has not read everything it was sent resets the connection after its answer.
    if let Err(error) = in_time(stream.read_to_end(&mut all)).await {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    String::from_utf8(all).unwrap()
}

fn status_and_body(answer: &str) -> String {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head.split(' ').nth(1).unwrap_or("no answer");
    format!("{status} {body}")
}

/// Fails instead of hanging.
async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("within a minute")
}
