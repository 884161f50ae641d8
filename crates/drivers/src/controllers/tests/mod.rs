//! Controllers, good and hostile: real servers and real programs.

mod commands;
mod hostile;
mod measures;
mod monitoring;
mod redirects;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use upbeat_model::rollout::Version;

use super::*;
use crate::probe::address;
use crate::probe::tests::{Server, request};
use crate::probe::words::No;

fn report(group: &str, name: &str) -> Report {
    let target = TargetId::new(group, name).unwrap();
    let version = Some(Version::new("v1").unwrap());
    Report {
        target,
        version,
        is_error: false,
        message: String::new(),
        labels: BTreeMap::new(),
        failed: false,
    }
}

fn web(url: impl Into<String>) -> Controller {
    Controller::Web(url.into())
}

/// One that may ask this machine alone.
fn caller() -> Caller {
    Caller::new(Means { policy: Policy { loopback: true, allow: vec![] }, ..Means::default() })
}

/// What a server was sent: the head of each request, and its body.
type Seen = Arc<Mutex<Vec<(String, String)>>>;

/// A request with its body. `None`: the other end has hung up.
pub(crate) async fn whole_request<S: AsyncRead + Unpin>(stream: &mut S) -> Option<(String, String)> {
    let head = request(stream).await?;
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await.ok()?;
    Some((head, String::from_utf8(body).unwrap()))
}

/// A server that answers each request with these bytes, and what it was sent.
async fn recording(answer: impl Into<Vec<u8>>) -> (Server, Seen) {
    let seen = Seen::default();
    let (record, answer) = (seen.clone(), Arc::new(answer.into()));
    let server = Server::new(move |_, mut stream| {
        let (record, answer) = (record.clone(), answer.clone());
        async move {
            while let Some(request) = whole_request(&mut stream).await {
                record.lock().unwrap().push(request);
                let _ = stream.write_all(&answer).await;
            }
        }
    });
    (server.await, seen)
}

fn json(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// What a controller that answers with this has to say of a target.
async fn said(answer: impl Into<Vec<u8>>) -> Result<(), String> {
    let (server, _seen) = recording(answer).await;
    let said = caller().is_well(&web(server.url()), &[report("", "a")]).await;
    if let Err(why) = &said {
        assert!(why.chars().count() <= 200 && !why.contains(char::is_control), "{why}");
    }
    said
}

#[tokio::test]
async fn a_question_is_sent_as_the_protocol_has_it_and_its_answer_is_understood() {
    let offered = [report("g", "a"), report("g", "b")];
    let (server, seen) = recording(json(r#"{"targets":[{"name":"b","group":"g"},{"name":"n"}]}"#)).await;
    let caller = caller();
    let choose = async |choice| {
        let chosen = caller.choose(&web(server.url()), choice, &offered, 1).await.unwrap();
        chosen.iter().map(|report| report.target.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(choose(Choice::Selection).await, ["g/b", "n"]);
    assert_eq!(choose(Choice::Approval).await, ["g/b"]);
    assert_eq!(choose(Choice::Removal).await, ["g/b"]);
    let targets =
        r#""targets":[{"name":"a","group":"g","version":"v1"},{"name":"b","group":"g","version":"v1"}]"#;
    let (with, without) = (format!(r#"{{{targets},"count":1}}"#), format!("{{{targets}}}"));
    let seen = seen.lock().unwrap();
    let bodies: Vec<_> = seen.iter().map(|(_, body)| body).collect();
    assert_eq!(bodies, [&with, &without, &with]);
    for (head, body) in seen.iter() {
        assert!(head.starts_with("POST /health?x=1 HTTP/1.1\r\n"), "{head}");
        for header in [
            format!("\r\nHost: {}\r\n", server.address),
            "\r\nContent-Type: application/json\r\n".into(),
            format!("\r\nContent-Length: {}\r\n", body.len()),
            "\r\nConnection: close\r\n".into(),
        ] {
            assert!(head.contains(&header), "{head}");
        }
    }
}

#[tokio::test]
async fn a_single_target_is_asked_about_by_itself_and_the_whole_together() {
    let (server, seen) = recording(json(r#"{"status":"OK"}"#)).await;
    let caller = caller();
    assert_eq!(caller.unwell(&web(server.url()), &[report("g", "a")]).await, BTreeMap::new());
    assert_eq!(caller.is_well(&web(server.url()), &[report("g", "a")]).await, Ok(()));
    assert_eq!(caller.is_well(&web(server.url()), &[]).await, Ok(()));
    let bodies: Vec<_> = seen.lock().unwrap().iter().map(|(_, body)| body.clone()).collect();
    let target = r#"{"name":"a","group":"g","version":"v1"}"#;
    assert_eq!(
        bodies,
        [
            format!(r#"{{"target":{target}}}"#),
            format!(r#"{{"targets":[{target}]}}"#),
            r#"{"targets":[]}"#.into()
        ]
    );
}

/// Names and connections as a test says: what each look-up finds, in turn, and where a connection really leads.
pub(crate) struct Staged {
    /// For each look-up.
    found: Mutex<Vec<(&'static str, Vec<&'static str>)>>,
    leads_to: Option<String>,
    connected: Mutex<Vec<SocketAddr>>,
}

impl Staged {
    pub(crate) fn new(found: &[(&'static str, &[&'static str])], leads_to: Option<&Server>) -> Arc<Self> {
        let found = found.iter().rev().map(|(name, addresses)| (*name, addresses.to_vec())).collect();
        let leads_to = leads_to.map(|server| server.address.clone());
        Arc::new(Self { found: Mutex::new(found), leads_to, connected: Mutex::default() })
    }

    /// Look-ups that nobody made.
    fn left(&self) -> usize {
        self.found.lock().unwrap().len()
    }

    pub(crate) fn connected(&self) -> Vec<String> {
        self.connected.lock().unwrap().iter().map(ToString::to_string).collect()
    }
}

impl web::Network for Staged {
    fn look_up<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<SocketAddr>, No>> + Send + 'a>> {
        Box::pin(async move {
            let (name, addresses) =
                self.found.lock().unwrap().pop().expect("one more look-up than there may be");
            assert_eq!(name, host);
            Ok(addresses.iter().map(|address| SocketAddr::new(address.parse().unwrap(), port)).collect())
        })
    }

    fn connect<'a>(
        &'a self,
        to: &'a [SocketAddr],
        patience: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<TcpStream, No>> + Send + 'a>> {
        Box::pin(async move {
            self.connected.lock().unwrap().extend(to);
            let there = self.leads_to.as_ref().expect("nobody may be connected to").parse().unwrap();
            address::connect(&[there], patience).await
        })
    }
}

fn staged(network: &Arc<Staged>, loopback: bool, allow: &[&str]) -> Caller {
    let policy = Policy::new(loopback, allow.iter().copied()).unwrap();
    Caller::over(Means { policy, ..Means::default() }, network.clone())
}
