//! Servers of HTTP, good and bad: over real sockets, and byte by byte.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};

use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use upbeat_model::project::Question;

use super::super::tests::{PATIENT, SHORT, Server, no, nobody, prober, request, yes};
use super::exchange::{self, Body, HEAD_MAX};
use super::*;

/// The verdict about a server that answers each request with this, and holds the connection open.
async fn of(answer: impl Into<Vec<u8>>) -> (bool, String) {
    asked(answer, |http| http, SHORT).await
}

async fn asked(answer: impl Into<Vec<u8>>, how: impl Fn(Http) -> Http, timeout: Millis) -> (bool, String) {
    let server = Server::answering(answer).await;
    prober().verdict(&Question::Http(how(Http::get(server.url()))), timeout).await
}

#[tokio::test]
async fn the_status_decides_and_nothing_after_the_head_is_waited_for() {
    assert_eq!(of("HTTP/1.1 204 No Content\r\n\r\n").await, yes("HTTP 204"));
    assert_eq!(of("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n").await, yes("HTTP 200"));
    assert_eq!(of("HTTP/1.0 500 Oops\r\n\r\n").await, no("HTTP 500"));
    assert_eq!(of("HTTP/1.1 404\n\n").await, no("HTTP 404"));
    let range = |http| Http { status: vec![(404, 404), (500, 599)], ..http };
    assert_eq!(asked("HTTP/1.1 503 x\r\n\r\n", range, PATIENT).await, yes("HTTP 503"));
    assert_eq!(asked("HTTP/1.1 200 OK\r\n\r\n", range, PATIENT).await, no("HTTP 200"));
    let odd = b"HTTP/1.1 200 OK\r\nno colon\r\na b: c\r\n\xff: \x01\r\n folded\r\n\r\n";
    assert_eq!(of(odd).await, yes("HTTP 200"), "odd headers do not take it back");
}

/// A redirect is an answer, and where it points to is nobody's business here: not another path of the
/// same server, not another server.
#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (elsewhere, asked_elsewhere) = recorded(EMPTY).await;
    for status in [301, 302, 303, 307, 308] {
        for to in ["/other", &elsewhere.url()] {
            let answer = format!("HTTP/1.1 {status} x\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
            let (server, asked) = recorded(answer).await;
            let prober = prober();
            let verdict = prober.verdict(&Question::Http(Http::get(server.url())), PATIENT).await;
            assert_eq!(verdict, yes(&format!("HTTP {status}")));
            let only_good = Http { status: vec![(200, 299)], ..Http::get(server.url()) };
            let verdict = prober.verdict(&Question::Http(only_good), PATIENT).await;
            assert_eq!(verdict, no(&format!("HTTP {status}")));
            // One for each question.
            let asked = asked.lock().unwrap();
            assert_eq!(asked.len(), 2, "{asked:?}");
            assert!(asked.iter().all(|head| head.starts_with("GET /health?x=1 ")), "{asked:?}");
        }
    }
    assert_eq!((elsewhere.connections(), asked_elsewhere.lock().unwrap().len()), (0, 0));
}

#[tokio::test]
async fn interim_answers_are_none() {
    let early = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
    assert_eq!(
        of(format!("HTTP/1.1 100 Continue\r\n\r\n{early}HTTP/1.1 200 OK\r\n\r\n")).await,
        yes("HTTP 200")
    );
    assert_eq!(of("HTTP/1.1 101 Switching\r\n\r\n").await, no("HTTP 101"));
    assert_eq!(of(early).await, no("timed out after 300ms"));
    assert_eq!(of(early.repeat(2_000)).await, no("the head of its answer is longer than 32 KiB"));
}

#[tokio::test]
async fn what_is_not_http_is_said_at_once() {
    assert_eq!(asked("SSH-2.0-x\r\n", |http| http, PATIENT).await, no("its answer is not HTTP"));
    assert_eq!(asked(vec![b'x'; 5000], |http| http, PATIENT).await, no("its answer is not HTTP"));
    assert_eq!(asked("HTTP/2 200\r\n\r\n", |http| http, PATIENT).await, no("its answer is not HTTP"));
    assert_eq!(asked("HTTP/1.1 20x OK\r\n\r\n", |http| http, PATIENT).await, no("its answer is not HTTP"));
    assert_eq!(of("").await, no("timed out after 300ms"));
    assert_eq!(of("HTTP/1.1 200 OK\r\nServ").await, no("timed out after 300ms"));
    let url = format!("http://{}", nobody().await);
    assert_eq!(prober().verdict(&Question::Http(Http::get(url)), PATIENT).await, no("connection refused"));
}

#[tokio::test]
async fn heads_that_do_not_end_are_bounded() {
    let too_long = no("the head of its answer is longer than 32 KiB");
    let line = [b"HTTP/1.1 200 ".to_vec(), vec![b'x'; 2 * HEAD_MAX]].concat();
    assert_eq!(asked(line, |http| http, PATIENT).await, too_long);
    let headers = [b"HTTP/1.1 200 OK\r\n".to_vec(), b"a: b\r\n".repeat(HEAD_MAX)].concat();
    assert_eq!(asked(headers, |http| http, PATIENT).await, too_long);
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(101));
    assert_eq!(asked(many, |http| http, PATIENT).await, no("its answer has more than 100 headers"));
    let drips = Server::new(|_, mut stream| async move {
        request(&mut stream).await;
        let mut bytes = b"HTTP/1.1 200 OK\r\na: ".iter().chain(std::iter::repeat(&b'x'));
        while let Some(byte) = bytes.next()
            && stream.write_all(&[*byte]).await.is_ok()
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (healthy, words) = prober().verdict(&Question::Http(Http::get(drips.url())), SHORT).await;
    assert!(!healthy && (words == "timed out after 300ms" || words == too_long.1), "{words}");
}

#[tokio::test]
async fn a_body_is_looked_at_as_far_as_it_is_said_to_be() {
    let ok = |http| Http { body: Some("(?i)^all OK$".into()), ..http };
    let (good, bad) = (yes("HTTP 200, and its body matches"), no("HTTP 200, but its body does not match"));
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nall ok";
    assert_eq!(asked(length, ok, PATIENT).await, good);
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(
        asked(format!("{chunked}3;x=y\r\nall\r\n3\r\n ok\r\n0\r\nT: x\r\n\r\n"), ok, PATIENT).await,
        good
    );
    assert_eq!(asked("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad", ok, PATIENT).await, bad);
    assert_eq!(
        asked("HTTP/1.1 204 OK\r\nContent-Length: 3\r\n\r\n", ok, PATIENT).await.1,
        "HTTP 204, but its body does not match"
    );
    assert_eq!(asked("HTTP/1.1 500 x\r\nContent-Length: 6\r\n\r\nall ok", ok, PATIENT).await, no("HTTP 500"));
    let packed = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 6\r\n\r\nall ok";
    let refused = no("HTTP 200, but its body is packed as `gzip`, which was not asked for");
    assert_eq!(asked(packed, ok, PATIENT).await, refused);
    let garbled = no("HTTP 200, but its body is not chunked as it says");
    for garbage in ["x\r\n", "3\r\nallxx", "ffffffffffffffffff\r\n", &"1;".repeat(300)] {
        assert_eq!(asked(format!("{chunked}{garbage}"), ok, PATIENT).await, garbled, "{garbage}");
    }
    assert_eq!(asked(format!("{chunked}3\r\nall"), ok, SHORT).await, no("timed out after 300ms"));
    let pattern = |http| Http { body: Some("(".into()), ..http };
    assert_eq!(asked(length, pattern, PATIENT).await, no("its pattern is not a regular expression"));
}

#[tokio::test]
async fn of_an_endless_body_only_the_beginning_is_read() {
    let endless = |head: &'static [u8], piece: &'static [u8]| {
        Server::new(move |_, mut stream| async move {
            request(&mut stream).await;
            let _ = stream.write_all(head).await;
            while stream.write_all(piece).await.is_ok() {}
        })
    };
    let with = |server: &Server, body: &str| {
        Question::Http(Http { body: Some(body.into()), ..Http::get(server.url()) })
    };
    for (head, piece) in [
        (&b"HTTP/1.1 200 OK\r\n\r\nbegin"[..], &b"yyyyyyyyyyyyyyyyyyyyyy"[..]),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\nbegin", b"yyyyyyyyyyyyyyyyy"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n", b"8\r\nyyyyyyyy\r\n"),
    ] {
        let server = endless(head, piece).await;
        let prober = prober();
        assert_eq!(
            prober.verdict(&with(&server, "^beginy"), PATIENT).await.1,
            "HTTP 200, and its body matches"
        );
        assert!(!prober.verdict(&with(&server, "z"), PATIENT).await.0);
        // And none where nobody looks.
        assert!(prober.verdict(&Question::Http(Http::get(server.url())), PATIENT).await.0);
        assert_eq!(server.connections(), 3, "none of them is used again");
    }
    let ones =
        endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;xxxxxxxxxxx\r\ny\r\n").await;
    let garbled = no("HTTP 200, but its body is not chunked as it says");
    assert_eq!(prober().verdict(&with(&ones, "z"), PATIENT).await, garbled);
}

/// The requests a server has seen.
async fn recorded(answer: impl Into<String>) -> (Server, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let (record, answer) = (seen.clone(), Arc::<str>::from(answer.into()));
    let server = Server::new(move |_, mut stream| {
        let (record, answer) = (record.clone(), answer.clone());
        async move {
            while let Some(head) = request(&mut stream).await {
                record.lock().unwrap().push(head);
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    });
    (server.await, seen)
}

const EMPTY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

#[tokio::test]
async fn a_request_is_sent_as_it_is_written() {
    let (server, seen) = recorded(EMPTY).await;
    let prober = prober();
    let ask = async |http| prober.verdict(&Question::Http(http), PATIENT).await;
    ask(Http::get(format!("http://user:secret@{}?a=b#c", server.address))).await;
    let headers = [("X-Token", "s3cret"), ("host", "web.example"), ("accept", "text/plain")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    ask(Http { method: "POST".into(), headers, ..Http::get(server.url()) }).await;
    let seen = seen.lock().unwrap();
    let address = &server.address;
    assert_eq!(
        seen[0],
        format!(
            "GET /?a=b HTTP/1.1\r\nHost: {address}\r\nUser-Agent: upbeat\r\nAccept: */*\r\nAccept-Encoding: identity\r\n\r\n"
        )
    );
    assert_eq!(
        seen[1],
        "POST /health?x=1 HTTP/1.1\r\nUser-Agent: upbeat\r\nAccept-Encoding: identity\r\nContent-Length: 0\r\nX-Token: s3cret\r\naccept: text/plain\r\nhost: web.example\r\n\r\n"
    );
}

#[tokio::test]
async fn nothing_else_than_one_request_is_ever_sent() {
    let (server, seen) = recorded(EMPTY).await;
    let prober = prober();
    let with = |name: &str, value: &str| Http {
        headers: [(name.to_owned(), value.to_owned())].into(),
        ..Http::get(server.url())
    };
    for http in [
        with("a", "b\r\nc: d"),
        with("a", "secret\0"),
        with("a b", "c"),
        with("", "c"),
        Http { method: "GET /x HTTP/1.1\r\na:".into(), ..Http::get(server.url()) },
        Http::get(format!("http://{}/a b", server.address)),
        Http::get(format!("http://{}/\r\nx: y", server.address)),
        Http::get("ftp://a/"),
        Http::get("http:///x"),
        Http::get("http://[::1/"),
        Http::get("http://a:99999/"),
    ] {
        let (healthy, words) = prober.verdict(&Question::Http(http.clone()), PATIENT).await;
        assert!(!healthy && !words.contains("secret"), "{http:?}: {words}");
    }
    assert_eq!(*seen.lock().unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_url_has_its_parts() {
    let of = |url| Url::parse(url).map(|url| (url.is_tls, url.authority, url.host, url.port, url.path));
    assert_eq!(of("http://a"), Some((false, "a", "a", 80, "")));
    assert_eq!(of("https://a:8443/x?y"), Some((true, "a:8443", "a", 8443, "/x?y")));
    assert_eq!(of("https://[::1]?y"), Some((true, "[::1]", "::1", 443, "?y")));
    assert_eq!(of("http://[::1]:8/"), Some((false, "[::1]:8", "::1", 8, "/")));
    assert_eq!(of("http://a:/"), None);
}

/// Asks so often; how many connections that took.
async fn connections(server: &Server, http: Http, times: usize) -> usize {
    let prober = prober();
    for _ in 0..times {
        let (healthy, words) = prober.verdict(&Question::Http(http.clone()), PATIENT).await;
        assert!(healthy, "{words}");
        // What is read after the answer is over when it is asked next.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    server.connections()
}

#[tokio::test]
async fn a_connection_is_used_again_where_its_answer_has_an_end() {
    for answer in [
        EMPTY,
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        let server = Server::answering(answer).await;
        assert_eq!(connections(&server, Http::get(server.url()), 4).await, 1, "{answer}");
    }
    for answer in [
        "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 500 Not asked\r\nContent-Length: 0\r\n\r\n",
    ] {
        let server = Server::answering(answer).await;
        assert_eq!(connections(&server, Http::get(server.url()), 4).await, 4, "{answer}");
    }
}

#[tokio::test]
async fn a_connection_is_not_used_again_where_that_could_do_harm() {
    let server = Server::answering(EMPTY).await;
    let post = Http { method: "POST".into(), ..Http::get(server.url()) };
    assert_eq!(connections(&server, post, 3).await, 3);
    let server = Server::answering(EMPTY).await;
    let headers = [("connection".to_owned(), "Close".to_owned())].into();
    assert_eq!(connections(&server, Http { headers, ..Http::get(server.url()) }, 3).await, 3);
    let server = Server::answering(EMPTY).await;
    let (prober, question) = (prober(), Question::Http(Http::get(server.url())));
    for attempt in 1..=3 {
        assert!(prober.verdict_of(attempt, &question, PATIENT).await.0);
    }
    assert_eq!(server.connections(), 3, "each attempt has its own");
}

#[tokio::test]
async fn one_that_died_is_tried_anew_once_and_then_it_is_a_no() {
    // Each connection answers once, and hangs up when it is asked again; from the third on at once.
    let server = Server::new(|number, mut stream| async move {
        request(&mut stream).await;
        if number < 2 {
            let _ = stream.write_all(EMPTY.as_bytes()).await;
            request(&mut stream).await;
        }
    })
    .await;
    let (prober, question) = (prober(), Question::Http(Http::get(server.url())));
    assert!(prober.verdict(&question, PATIENT).await.0);
    assert!(prober.verdict(&question, PATIENT).await.0, "over a new one");
    assert_eq!(server.connections(), 2);
    let closed = no("it closed the connection without an answer");
    assert_eq!(prober.verdict(&question, PATIENT).await, closed);
    assert_eq!(server.connections(), 3);
    // A fresh one that dies is not tried anew.
    assert_eq!(prober.verdict(&question, PATIENT).await, closed);
    assert_eq!(server.connections(), 4);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_asked_for_again() {
    let server = Server::new(|number, mut stream| async move {
        request(&mut stream).await;
        let _ = stream.write_all(if number == 0 { EMPTY.as_bytes() } else { b"HTTP/1.1 2" }).await;
        if number == 0 {
            request(&mut stream).await;
            let _ = stream.write_all(b"HTTP").await;
        }
    })
    .await;
    let (prober, question) = (prober(), Question::Http(Http::get(server.url())));
    let broken = no("it closed the connection in the middle of its answer");
    assert!(prober.verdict(&question, PATIENT).await.0);
    assert_eq!(prober.verdict(&question, PATIENT).await, broken);
    assert_eq!(server.connections(), 1);
    assert_eq!(prober.verdict(&question, PATIENT).await, broken);
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_request_counts() {
    let server = Server::new(|_, mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 503 Busy\r\n\r\n").await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    assert_eq!(prober().verdict(&Question::Http(Http::get(server.url())), PATIENT).await, no("HTTP 503"));
}

/// The other end of a connection, byte by byte.
struct Script {
    pieces: VecDeque<Vec<u8>>,
    then: Then,
    /// What was read of it.
    read: usize,
}

/// What comes when all was said.
#[derive(Clone, Debug)]
enum Then {
    HangUp,
    Reset,
    Silence,
    /// Over and over.
    Again(Vec<u8>),
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut piece = match (self.pieces.pop_front(), &self.then) {
            (Some(piece), _) => piece,
            (None, Then::HangUp) => return Poll::Ready(Ok(())),
            (None, Then::Reset) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            // Nobody is woken: only a time-out ends this.
            (None, Then::Silence) => return Poll::Pending,
            (None, Then::Again(piece)) => piece.clone(),
        };
        let count = piece.len().min(to.remaining());
        let rest = piece.split_off(count);
        if !rest.is_empty() {
            self.pieces.push_front(rest);
        }
        self.read += count;
        to.put_slice(&piece);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

type Outcome = Option<Result<(u16, Result<Body, Failure>), Failure>>;

/// What comes of it, on the paused clock; `None`: the time-out. And how much was read.
fn exchanged(pieces: &[Vec<u8>], then: &Then, method: &str) -> (Outcome, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let mut script = Script { pieces: pieces.to_vec().into(), then: then.clone(), read: 0 };
    let outcome = runtime.unwrap().block_on(async {
        let asked = async {
            let answer = exchange::ask(&mut script, b"x", method).await?;
            let status = answer.head.status;
            let body = answer.body(&mut script, Http::BODY_MAX).await;
            Ok((status, body))
        };
        tokio::time::timeout(Duration::from_secs(30), asked).await.ok()
    });
    (outcome, script.read)
}

/// What servers say, and what they should not.
fn words() -> impl Strategy<Value = Vec<u8>> {
    let texts = prop_oneof![
        Just("HTTP/1.1 200 OK\r\n"),
        Just("HTTP/1.0 503\n"),
        Just("HTTP/1.1 100 Continue\r\n\r\n"),
        Just("HTTP/1.1 "),
        Just("Content-Length: 5\r\n"),
        Just("Content-Length: 18446744073709551616\r\n"),
        Just("Content-Length: 99999999999\r\n"),
        Just("Transfer-Encoding: chunked\r\n"),
        Just("Connection: close\r\n"),
        Just("\r\n"),
        Just("\n"),
        Just("\r"),
        Just("5\r\nhello\r\n"),
        Just("fffffffffffffff\r\n"),
        Just("1;"),
        Just("0\r\n\r\n"),
        Just("x"),
    ];
    prop_oneof![
        9 => texts.prop_map(|text| text.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 1..40),
    ]
}

fn ends() -> impl Strategy<Value = Then> {
    prop_oneof![
        Just(Then::HangUp),
        Just(Then::Reset),
        Just(Then::Silence),
        proptest::collection::vec(words(), 1..4).prop_map(|words| Then::Again(words.concat())),
    ]
}

fn conversations() -> impl Strategy<Value = (Vec<Vec<u8>>, Then, &'static str)> {
    let begin = prop_oneof![Just(b"HTTP/1.1 200 OK\r\n".to_vec()), Just(Vec::new())];
    let rest = proptest::collection::vec(words(), 0..12);
    (begin, rest, ends(), prop_oneof![4 => Just("GET"), 1 => Just("HEAD")]).prop_map(
        |(begin, rest, then, method)| {
            let pieces = std::iter::once(begin).chain(rest).filter(|piece| !piece.is_empty()).collect();
            (pieces, then, method)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1024, ..ProptestConfig::default() })]

    /// It ends, by an answer, an error or the time-out, and no more is read than is bounded.
    #[test]
    fn whatever_a_server_says_it_ends_and_is_bounded((pieces, then, method) in conversations()) {
        let (outcome, read) = exchanged(&pieces, &then, method);
        prop_assert!(read <= HEAD_MAX + 8 * Http::BODY_MAX + 1024, "{read}");
        if let Some(Ok((status, body))) = &outcome {
            prop_assert!((100..1000).contains(status));
            if let Ok(body) = body {
                prop_assert!(body.bytes.len() <= Http::BODY_MAX);
            }
        }
        if matches!(then, Then::HangUp | Then::Reset) {
            prop_assert!(outcome.is_some(), "nothing is waited for");
        }
    }

    /// How the bytes are cut into pieces changes nothing.
    #[test]
    fn pieces_do_not_matter((pieces, then, method) in conversations(), size in 1..9usize) {
        if !matches!(then, Then::Again(_)) {
            let cut: Vec<Vec<u8>> = pieces.concat().chunks(size).map(<[u8]>::to_vec).collect();
            let (whole, _) = exchanged(pieces.concat().chunks(1 << 20).map(<[u8]>::to_vec).collect::<Vec<_>>().as_slice(), &then, method);
            let (cut, _) = exchanged(&cut, &then, method);
            prop_assert_eq!(format!("{:?}", comparable(whole)), format!("{:?}", comparable(cut)));
        }
    }

    /// What is sent in chunks comes together again.
    #[test]
    fn chunks_read_back(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 0..20), size in 1..60usize) {
        let mut sent = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for chunk in &chunks {
            sent.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
            sent.extend(chunk);
            sent.extend(b"\r\n");
        }
        sent.extend(b"0\r\n\r\n");
        let pieces: Vec<Vec<u8>> = sent.chunks(size).map(<[u8]>::to_vec).collect();
        let (outcome, _) = exchanged(&pieces, &Then::Silence, "GET");
        let body = Body { bytes: chunks.concat(), is_over: true };
        prop_assert_eq!(format!("{outcome:?}"), format!("{:?}", Some(Ok::<_, Failure>((200, Ok::<_, Failure>(body))))));
    }
}

/// That something follows an answer is only seen when it came with it.
fn comparable(outcome: Outcome) -> Outcome {
    outcome
        .map(|answer| answer.map(|(status, body)| (status, body.map(|body| Body { is_over: false, ..body }))))
}
