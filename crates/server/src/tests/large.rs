//! Large reports and answers about rollouts: who waits, who is refused and hears why, and who loses their place.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response, header};
use futures_util::future::join_all;
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use insta::assert_snapshot;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use upbeat_api::{Problem, ProblemKind, Role};
use upbeat_model::rollout::{EntityId, Report, TargetId};

use super::fake::Fake;
use super::tcp::Afar;
use super::{House, in_time, request, rest, status_and_body};
use crate::Rollouts;
use crate::access::{Caller, Name};
use crate::bounds::{
    ANSWERS_BYTES_MAX, ASIDE_BYTES, LOOKS_BYTES_MAX, REPORTS_BYTES_MAX, ROOM_WAIT, STALL_TIMEOUT,
};
use crate::handlers::Shared;
use crate::rollouts::rooms::Rooms;
use crate::rollouts::{Foreseen, Reported};
use crate::router::router_until;
use crate::streams::{Closing, OpenStreams};

const JSON: &str = "Content-Type: application/json";
const NATIVE: &str = "/api/v1/rollouts/prod/web";
const FIRST: &str = "/v1/orchestrate/prod/web";

fn web() -> EntityId {
    EntityId::new("prod", "web").unwrap()
}

/// So many targets of `prod/web`, of which each answer has 1,000 bytes, as the fake foresees.
async fn targets(fake: &Fake, count: usize) {
    let report = |n: usize| Report {
        target: TargetId::new("", &format!("t{n:06}")).unwrap(),
        version: None,
        is_error: false,
        message: "x".repeat(200),
        labels: Default::default(),
        failed: false,
    };
    let reports = (0..count).map(report).collect();
    let reported = Reported { reports, room: Box::new(()) };
    fake.rollouts.decide(web(), reported, String::new()).await.unwrap();
    fake.rollouts.asked();
}

/// What is said of one target, in so many bytes, to this path.
fn said(path: &str, bytes: usize) -> Vec<u8> {
    let target = r#"{"name":"a"}"#;
    let body = match path.starts_with(NATIVE) {
        true => format!(r#"{{"targets":[{target}]}}"#),
        false => format!("[{target}]"),
    };
    let mut body = body.into_bytes();
    body.resize(body.len().max(bytes), b' ');
    body
}

/// Everything but the doors, with rooms that a test may fill.
struct Inside {
    fake: Fake,
    rooms: Rooms,
    routes: TowerToHyperService<axum::Router>,
}

impl Inside {
    fn new() -> Self {
        let (fake, rooms) = (Fake::default(), Rooms::default());
        let here = Shared {
            backend: fake.clone(),
            closing: Closing::never(),
            hosts: Arc::default(),
            streams: OpenStreams::default(),
            rooms: rooms.clone(),
        };
        Self { fake, rooms, routes: TowerToHyperService::new(router_until(here)) }
    }

    async fn ask(&self, method: &str, path: &str, body: Vec<u8>) -> Response<Body> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .extension(Caller { name: Name::Uid(0), role: Role::Operator, from: None })
            .body(Body::from(body))
            .unwrap();
        self.routes.call(request).await.unwrap()
    }

    /// Status, when to try again, and what is said.
    async fn told(&self, method: &str, path: &str, body: Vec<u8>) -> String {
        let answer = self.ask(method, path, body).await;
        let again = answer.headers().get(header::RETRY_AFTER).map(|again| again.to_str().unwrap().to_owned());
        let (status, again) = (answer.status().as_u16(), again.unwrap_or_default());
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        format!("{status} [{again}] {}", String::from_utf8_lossy(&body))
    }
}

fn of(bytes: u64) -> Foreseen {
    Foreseen { bytes, asks: false }
}

// The clock is paused: see `streams`.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_told_is_not_decided_and_who_looks_keeps_no_controller_out() {
    let inside = Inside::new();
    targets(&inside.fake, 100).await;
    let all = inside.rooms.promise(of(ANSWERS_BYTES_MAX), 0).await.unwrap();
    let reports = format!("{NATIVE}/reports");
    let before = Instant::now();
    assert_snapshot!(inside.told("POST", &reports, said(&reports, 0)).await, @r#"503 [5] {"kind":"unavailable","message":"too many large answers about rollouts are under way","hint":"nothing was done; try again later"}"#);
    assert_eq!(before.elapsed(), ROOM_WAIT);
    assert_snapshot!(inside.told("POST", FIRST, said(FIRST, 0)).await, @r#"503 [5] {"status":"error","message":"too many large answers about rollouts are under way; nothing was done; try again later"}"#);
    assert_eq!(inside.fake.rollouts.asked(), [""; 0], "and nothing was taken down");
    for path in [format!("{NATIVE}/targets"), format!("{FIRST}/status")] {
        assert!(inside.told("GET", &path, Vec::new()).await.starts_with("200 [] "), "{path}");
    }
    drop(all);
    let _all = inside.rooms.to_look(of(LOOKS_BYTES_MAX)).await.unwrap();
    assert_snapshot!(inside.told("GET", &format!("{NATIVE}/targets"), Vec::new()).await, @r#"503 [5] {"kind":"unavailable","message":"too many large answers about rollouts are under way","hint":"nothing was done; try again later"}"#);
    assert_snapshot!(inside.told("GET", &format!("{FIRST}/g/status"), Vec::new()).await, @r#"503 [5] {"status":"error","message":"too many large answers about rollouts are under way; nothing was done; try again later"}"#);
    for path in [reports.as_str(), FIRST] {
        assert!(inside.told("POST", path, said(path, 0)).await.starts_with("200 [] "), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_large_reports_crowd_the_next_is_refused_in_both_shapes() {
    let inside = Inside::new();
    let mut most = Request::new(Body::from(vec![b'x'; REPORTS_BYTES_MAX]));
    most.extensions_mut().insert(inside.rooms.clone());
    let _first = Rooms::for_body(&most, REPORTS_BYTES_MAX).await.unwrap();
    let _second = Rooms::for_body(&most, REPORTS_BYTES_MAX).await.unwrap();
    let reports = format!("{NATIVE}/reports");
    assert_snapshot!(inside.told("POST", &reports, said(&reports, 13 << 20)).await, @r#"503 [5] {"kind":"unavailable","message":"too many large reports about rollouts are under way","hint":"nothing was done; try again later"}"#);
    assert_snapshot!(inside.told("POST", FIRST, said(FIRST, 13 << 20)).await, @r#"503 [5] {"status":"error","message":"too many large reports about rollouts are under way; nothing was done; try again later"}"#);
    assert_eq!(inside.fake.rollouts.asked(), [""; 0]);
}

/// As whoever keeps rollouts says it has no room, or is busy.
#[tokio::test]
async fn who_is_refused_for_now_is_told_when_to_try_again_in_both_shapes() {
    let inside = Inside::new();
    let busy = Problem::new(ProblemKind::Unavailable, "there is no room for more of rollout `prod/web`");
    *inside.fake.rollouts.refusal.lock().unwrap() = Some(busy.with_hint("forget what is not used any more"));
    let reports = format!("{NATIVE}/reports");
    assert_snapshot!(inside.told("POST", &reports, said(&reports, 0)).await, @r#"503 [5] {"kind":"unavailable","message":"there is no room for more of rollout `prod/web`","hint":"forget what is not used any more"}"#);
    assert_snapshot!(inside.told("POST", FIRST, said(FIRST, 0)).await, @r#"503 [5] {"status":"error","message":"there is no room for more of rollout `prod/web`; forget what is not used any more"}"#);
    assert_snapshot!(inside.told("POST", &format!("{FIRST}/status"), said(FIRST, 0)).await, @r#"503 [5] {"status":"error","message":"there is no room for more of rollout `prod/web`; forget what is not used any more"}"#);
    let conflict = Problem::new(ProblemKind::Conflict, "empty target version");
    *inside.fake.rollouts.refusal.lock().unwrap() = Some(conflict);
    assert_snapshot!(inside.told("POST", FIRST, said(FIRST, 0)).await, @r#"409 [] {"status":"error","message":"empty target version"}"#);
}

#[tokio::test(start_paused = true)]
async fn while_a_controller_is_asked_others_have_the_room_and_what_was_decided_is_told_however_late() {
    let inside = Inside::new();
    targets(&inside.fake, 100).await;
    inside.fake.rollouts.asks.store(true, Ordering::Relaxed);
    let (opened, (done, decided)) = (Arc::new(Notify::new()), oneshot::channel());
    *inside.fake.rollouts.gate.lock().unwrap() = Some((opened.clone(), done));
    let mut telling = std::pin::pin!(inside.told("POST", FIRST, said(FIRST, 0)));
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut telling).await.is_err());
    assert_eq!(inside.fake.rollouts.asked(), ["waits"]);
    let all = inside.rooms.promise(of(ANSWERS_BYTES_MAX), 0).await.expect("nothing is held meanwhile");
    opened.notify_one();
    assert!(tokio::time::timeout(3 * ROOM_WAIT, &mut telling).await.is_err());
    decided.await.unwrap();
    drop(all);
    assert!(telling.await.starts_with("200 [] [{"));
}

/// Two large ones are as many as are read at once; what is small, and what is no report, does not wait for them.
#[tokio::test]
async fn while_large_reports_are_read_others_are_answered() {
    let inside = Inside::new();
    let turns = inside.rooms.all_turns();
    let large = said(FIRST, usize::try_from(ASIDE_BYTES).unwrap() + 1);
    let mut reading = std::pin::pin!(inside.told("POST", FIRST, large));
    tokio::select! {
        biased;
        told = &mut reading => panic!("it is read on the thread that answers requests: {told}"),
        told = inside.told("POST", FIRST, said(FIRST, 1_024)) => assert!(told.starts_with("200 "), "{told}"),
    }
    assert!(inside.told("GET", "/api/v1/version", Vec::new()).await.starts_with("200 "));
    inside.fake.rollouts.asked();
    drop(turns);
    assert!(reading.await.starts_with("200 "));
    assert_eq!(inside.fake.rollouts.asked().len(), 1);
}

/// A head that announces so many bytes, and asks that the connection is closed afterwards.
fn head(path: &str, headers: &[&str], bytes: usize) -> String {
    let length = format!("Content-Length: {bytes}");
    request(&format!("POST {path}"), &[headers, &[JSON, &length]].concat(), "")
}

/// Says all of it before it listens.
async fn all_at_once(mut stream: impl AsyncRead + AsyncWrite + Unpin, head: &str, bytes: usize) -> String {
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b' '; bytes]).await.expect("all of it is taken");
    let mut answer = String::new();
    in_time(stream.read_to_string(&mut answer)).await.expect("and nothing is lost of the answer");
    status_and_body(&answer)
}

#[tokio::test]
async fn who_says_all_before_listening_hears_why_it_is_refused() {
    let (afar, house) = (Afar::open(), House::open());
    let more = REPORTS_BYTES_MAX + 1;
    for path in [FIRST.to_owned(), format!("{NATIVE}/reports")] {
        let stranger = head(&path, &["Authorization: Bearer nobody"], 13 << 20);
        let told = all_at_once(afar.connect().await, &stranger, 13 << 20).await;
        assert!(told.starts_with("401 ") && told.contains("the token is not known"), "{told}");
        let viewer = head(&path, &["Authorization: Bearer viewer"], 13 << 20);
        let told = all_at_once(afar.connect().await, &viewer, 13 << 20).await;
        assert!(told.starts_with("403 "), "{told}");
        let operator = head(&path, &["Authorization: Bearer operator"], more);
        for told in [
            all_at_once(afar.connect().await, &operator, more).await,
            all_at_once(house.connect().await, &operator, more).await,
        ] {
            assert!(told.starts_with("413 ") && told.contains("larger than 16 MiB"), "{told}");
        }
    }
}

/// Six of the largest that never come: two at a time have places, until it is seen that they stand still.
#[tokio::test(start_paused = true)]
async fn who_stands_still_loses_the_place_and_who_waits_too_long_hears_so() {
    let afar = Afar::open();
    let operator = "Authorization: Bearer operator";
    let mut silent = Vec::new();
    for _ in 0..6 {
        let mut stream = afar.connect().await;
        stream.write_all(head(FIRST, &[operator], REPORTS_BYTES_MAX).as_bytes()).await.unwrap();
        silent.push(stream);
        // In this order.
        sleep(Duration::from_millis(1)).await;
    }
    let told = all_at_once(afar.connect().await, &head(FIRST, &[operator], 13 << 20), 13 << 20).await;
    assert_snapshot!(told, @r#"503 {"status":"error","message":"too many large reports about rollouts are under way; nothing was done; try again later"}"#);
    let told: Vec<String> =
        join_all(silent.iter_mut().map(rest)).await.iter().map(|told| status_and_body(told)).collect();
    assert_snapshot!(told[0], @r#"408 {"status":"error","message":"the body came too slowly: nothing of it for 10 s, or less than 512 KiB a second; report some of the targets at a time: the others stay as they are"}"#);
    let statuses: Vec<&str> = told.iter().map(|told| &told[..3]).collect();
    assert_eq!(statuses, ["408", "408", "408", "408", "503", "503"]);
    assert_eq!(afar.fake.rollouts.asked(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn who_waits_outlasts_those_who_stand_still() {
    let house = House::open();
    let mut silent = Vec::new();
    for _ in 0..2 {
        let mut stream = house.connect().await;
        stream.write_all(head(FIRST, &[], REPORTS_BYTES_MAX).as_bytes()).await.unwrap();
        silent.push(stream);
        sleep(Duration::from_millis(1)).await;
    }
    let before = Instant::now();
    let body = String::from_utf8(said(FIRST, 13 << 20)).unwrap();
    let told = house.ask(&format!("POST {FIRST}"), &[], &body).await;
    assert!(told.starts_with("200 "), "{told}");
    assert!(before.elapsed() >= STALL_TIMEOUT - Duration::from_secs(1), "they had their places");
}

/// Reads a head and the first of what follows, and then nothing for so long; returns how much came in all, and how much
/// was announced.
async fn taken(mut stream: UnixStream, pause: Duration) -> (usize, usize) {
    let mut all = vec![0; 1_024];
    stream.read_exact(&mut all).await.unwrap();
    let text = String::from_utf8_lossy(&all).to_ascii_lowercase();
    let length =
        text.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap();
    sleep_until(Instant::now() + pause).await;
    let mut rest = Vec::new();
    in_time(stream.read_to_end(&mut rest)).await.unwrap();
    (text.split("\r\n\r\n").nth(1).unwrap().len() + rest.len(), length)
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_of_a_large_answer_loses_it_and_the_next_has_the_room() {
    let house = House::open();
    targets(&house.fake, 6_000).await;
    // So many answers of 12 MB fill the room of those who look, and that of controllers.
    for (method, path, body, count) in
        [("GET", format!("{NATIVE}/targets"), "", 5), ("POST", FIRST.to_owned(), "[]", 11)]
    {
        let mut stalled = Vec::new();
        for _ in 0..count {
            let mut stream = house.connect().await;
            let asked = request(&format!("{method} {path}"), &[], body);
            stream.write_all(asked.as_bytes()).await.unwrap();
            stalled.push(tokio::spawn(taken(stream, Duration::from_secs(3_600))));
            sleep(Duration::from_millis(1)).await;
        }
        let before = Instant::now();
        let told = house.ask(&format!("{method} {path}"), &[], body).await;
        assert!(told.starts_with("200 "), "{method}: {}", &told[..told.len().min(300)]);
        assert!(before.elapsed() >= STALL_TIMEOUT - Duration::from_secs(1), "the room was full");
        let cut = join_all(stalled).await;
        assert!(
            cut.iter().all(|cut| matches!(cut, Ok((came, length)) if came < length)),
            "{method}: {cut:?}"
        );
    }
    // Who takes it slowly, but does, has all of it.
    let mut stream = house.connect().await;
    stream.write_all(request(&format!("GET {NATIVE}/targets"), &[], "").as_bytes()).await.unwrap();
    let (came, length) = taken(stream, STALL_TIMEOUT - Duration::from_secs(1)).await;
    assert_eq!(came, length);
}
