//! Questions to real sockets and files.

mod files;
mod grpc;
mod hanging;
mod sockets;
pub(crate) mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::process::{Places, ShimProgram};

/// Never over before an answer that comes.
pub(crate) const PATIENT: Millis = Millis::seconds(60);

/// For what never answers.
pub(crate) const SHORT: Millis = Millis(300);

/// One that starts no process.
pub(crate) fn prober() -> Prober {
    let program = ShimProgram { path: "/nonexistent".into(), args: Vec::new() };
    let [slots, private, process] = ["/nonexistent"; 3].map(Into::into);
    let (driver, _events) = ProcessDriver::new(program, Places { slots, private, process }).unwrap();
    Prober::new(driver)
}

impl Prober {
    pub(crate) async fn verdict(&self, question: &Question, timeout: Millis) -> (bool, String) {
        self.verdict_of(1, question, timeout).await
    }

    pub(crate) async fn verdict_of(
        &self,
        attempt: u64,
        question: &Question,
        timeout: Millis,
    ) -> (bool, String) {
        let (slot, probe) = ("a/s/1".parse().unwrap(), ProbeName::new("x").unwrap());
        let spec: Service = serde_json::from_str(r#"{"command":["x"],"working_dir":"/"}"#).unwrap();
        let base_environment = BTreeMap::new();
        let asked = Asked {
            slot: &slot,
            attempt: Attempt(attempt),
            probe: &probe,
            question,
            spec: &spec,
            base_environment: &base_environment,
            timeout,
        };
        let verdict = self.ask(&asked).await;
        assert!(verdict.message.chars().count() <= 200 && !verdict.message.contains(char::is_control));
        (verdict.healthy, verdict.message)
    }
}

pub(crate) fn yes(words: &str) -> (bool, String) {
    (true, words.to_owned())
}

pub(crate) fn no(words: &str) -> (bool, String) {
    (false, words.to_owned())
}

/// An address where nobody listens.
pub(crate) async fn nobody() -> String {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    free.local_addr().unwrap().to_string()
}

/// A server, and how many connections it has accepted.
pub(crate) struct Server {
    pub(crate) address: String,
    accepted: Arc<AtomicUsize>,
}

impl Server {
    /// Each connection is this one's, with its number from 0.
    pub(crate) async fn new<F: Future<Output = ()> + Send>(
        serve: impl Fn(usize, TcpStream) -> F + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let accepted = Arc::new(AtomicUsize::new(0));
        let (counter, serve) = (accepted.clone(), Arc::new(serve));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = counter.fetch_add(1, Ordering::SeqCst);
                let serve = serve.clone();
                tokio::spawn(async move { serve(number, stream).await });
            }
        });
        Self { address, accepted }
    }

    /// One that answers each request with the same, and then waits for the next.
    pub(crate) async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = Arc::new(answer.into());
        Self::new(move |_, mut stream| {
            let answer = answer.clone();
            async move {
                while request(&mut stream).await.is_some() {
                    let _ = stream.write_all(&answer).await;
                }
            }
        })
        .await
    }

    pub(crate) fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/health?x=1", self.address)
    }
}

/// The head of a request. `None`: the other end has hung up.
pub(crate) async fn request<S: tokio::io::AsyncRead + Unpin>(stream: &mut S) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

#[tokio::test]
async fn what_is_told_is_not_asked() {
    let prober = prober();
    assert_eq!(prober.verdict(&Question::Log("x".into()), SHORT).await, no("no line matched yet"));
    assert!(!prober.verdict(&Question::Notify, SHORT).await.0);
    assert!(!prober.verdict(&Question::Watchdog(SHORT), SHORT).await.0);
}

#[tokio::test]
async fn what_does_not_run_has_no_use_of_anything() {
    let prober = prober();
    for question in [
        Question::Prints(PATIENT),
        Question::Memory(1 << 40),
        Question::Descriptors(1 << 40),
        Question::Cpu(100),
    ] {
        assert_eq!(prober.verdict(&question, PATIENT).await, no("it does not run"));
    }
}

/// On the paused clock.
#[tokio::test(start_paused = true)]
async fn what_was_seen_is_remembered_for_its_attempt_and_not_for_ever() {
    let memory = traces::Memory::new();
    let (slot, question) = ("a/s/1".parse().unwrap(), Question::Notify);
    let spec: Service = serde_json::from_str(r#"{"command":["x"],"working_dir":"/"}"#).unwrap();
    let base_environment = BTreeMap::new();
    let ask = |attempt, name: &str, value: u64| {
        let probe = ProbeName::new(name).unwrap();
        let asked = Asked {
            slot: &slot,
            attempt: Attempt(attempt),
            probe: &probe,
            question: &question,
            spec: &spec,
            base_environment: &base_environment,
            timeout: SHORT,
        };
        let mut last = None;
        memory.replace(&asked, |before| {
            last = before;
            value
        });
        last.map(|(since, value)| (since.as_millis(), value))
    };
    assert_eq!(ask(1, "cpu", 5), None);
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(ask(1, "cpu", 6), Some((2_000, 5)));
    assert_eq!(ask(1, "other", 7), None);
    assert_eq!(ask(2, "cpu", 8), None);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    for n in 0..100_000 {
        ask(1, &format!("p{n}"), 0);
    }
    assert_eq!(ask(2, "cpu", 9), None, "it was the oldest");
    assert!(ask(1, "p99999", 1).is_some());
}
