//! Streams, and readers that are slow, or gone, or left behind by their daemon.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use upbeat_api::{ClientError, EventFilter, LogQuery, Problem, ProblemKind};

use super::fake::{app, event, line, name};
use super::{House, in_time};
use crate::bounds::{COALESCED_MAX, DRAIN_TIMEOUT};

#[tokio::test]
async fn an_event_stream_reads_as_the_standard_says() {
    let house = House::open();
    let answer = house.ask("GET /api/v1/events/watch?after=1", &["Last-Event-ID: 4"], "").await;
    insta::assert_snapshot!(answer, @r#"
    200 79
    event: event
    id: 5
    data: {"sequence":5,"at":1,"app":"shop","event":"operation_ended","operation":7,"outcome":"reached"}


    79
    event: event
    id: 6
    data: {"sequence":6,"at":1,"app":"shop","event":"operation_ended","operation":7,"outcome":"reached"}


    25
    event: end
    data: {"end":"complete"}


    0
    "#);
    insta::assert_snapshot!(house.ask("GET /api/v1/apps/shop/logs", &[], "").await, @r#"
    200 6B
    {"slot":"shop/web/1","sequence":1,"at_ns":1,"stream":"stdout","text":"line 1\twith \"quotes\", ünïcode"}

    13
    {"end":"complete"}

    0
    "#);
}

#[tokio::test]
async fn a_source_that_fails_is_no_end_of_what_there_was() {
    let house = House::open();
    let lost = || Problem::new(ProblemKind::Internal, "the events cannot be read: disk");
    *house.fake.events.lock().unwrap() = Some(stream::iter([Ok(event(1)), Err(lost())]).boxed());
    let mut events = house.client().watch_events(&EventFilter::default(), 0).await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap(), event(1));
    let told = events.next().await.unwrap();
    assert!(matches!(&told, Err(ClientError::Problem(problem)) if *problem == lost()), "{told:?}");
    assert!(events.next().await.is_none());
    *house.fake.lines.lock().unwrap() = Some(stream::iter([Ok(line(1)), Err(lost()), Ok(line(2))]).boxed());
    let mut lines = house.client().logs(&name("shop"), &LogQuery::default()).await.unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap(), line(1), "what came before is told");
    let told = lines.next().await.unwrap();
    assert!(matches!(&told, Err(ClientError::Problem(problem)) if *problem == lost()), "{told:?}");
    assert!(lines.next().await.is_none());
}

#[tokio::test]
async fn a_reader_that_is_behind_gets_the_last_state() {
    let house = House::open();
    let count = 20 * COALESCED_MAX as u64;
    *house.fake.states.lock().unwrap() = Some(stream::iter((1..=count).map(app)).boxed());
    let seen: Vec<_> = house.client().watch(&name("shop")).await.unwrap().try_collect().await.unwrap();
    assert!(seen.len() <= 21, "{} of {count} states were sent", seen.len());
    assert!(seen.is_sorted_by(|a, b| a.release < b.release));
    assert_eq!(seen.last(), Some(&app(count)));
}

// The clock of a paused runtime moves on only when nothing else can happen: so a second's sleep
// means "until all have done what they can".
#[tokio::test(start_paused = true)]
async fn a_reader_of_logs_that_does_not_read_stops_the_source_and_misses_nothing() {
    let house = House::open();
    let made = Arc::new(AtomicU64::new(0));
    let lines = stream::repeat(made.clone()).map(|made| line(made.fetch_add(1, Ordering::Relaxed)));
    *house.fake.lines.lock().unwrap() = Some(lines.map(Ok).boxed());
    let mut read = house.client().logs(&name("shop"), &LogQuery::default()).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let before = made.load(Ordering::Relaxed);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(made.load(Ordering::Relaxed), before, "it waits");
    let bytes = before as usize * serde_json::to_string(&line(0)).unwrap().len();
    assert!(bytes < 2 << 20, "{bytes} bytes were buffered");
    for number in 0..2 * before {
        assert_eq!(read.next().await.unwrap().unwrap(), line(number));
    }
}

#[tokio::test]
async fn a_reader_that_goes_takes_its_source_along() {
    let house = House::open();
    let (dropped, source_gone) = oneshot::channel::<()>();
    let quiet = stream::once(async { app(1) }).chain(stream::pending()).map(move |app| {
        let _held = &dropped;
        app
    });
    *house.fake.states.lock().unwrap() = Some(quiet.boxed());
    let mut watch = house.client().watch(&name("shop")).await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap(), app(1));
    drop(watch);
    assert!(in_time(source_gone).await.is_err(), "its sender is dropped with the source");
}

#[tokio::test]
async fn a_daemon_that_shuts_down_says_so_to_its_readers() {
    let mut house = House::open();
    let quiet = stream::once(async { app(1) }).chain(stream::pending());
    *house.fake.states.lock().unwrap() = Some(quiet.boxed());
    *house.fake.lines.lock().unwrap() = Some(stream::pending().boxed());
    let mut watch = house.client().watch(&name("shop")).await.unwrap();
    let mut lines = house.client().logs(&name("shop"), &LogQuery::default()).await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap(), app(1));
    house.stop();
    assert!(matches!(watch.next().await, Some(Err(ClientError::ShuttingDown { .. }))));
    assert!(watch.next().await.is_none());
    assert!(matches!(lines.next().await, Some(Err(ClientError::ShuttingDown { .. }))));
    in_time(house.server).await.unwrap();
}

#[tokio::test]
async fn a_daemon_that_dies_is_not_taken_for_an_end() {
    let house = House::open();
    let quiet = stream::once(async { app(1) }).chain(stream::pending());
    *house.fake.states.lock().unwrap() = Some(quiet.boxed());
    *house.fake.lines.lock().unwrap() = Some(stream::pending().boxed());
    let mut watch = house.client().watch(&name("shop")).await.unwrap();
    let mut lines = house.client().logs(&name("shop"), &LogQuery::default()).await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap(), app(1));
    house.server.abort();
    assert!(matches!(watch.next().await, Some(Err(ClientError::Interrupted { .. }))));
    assert!(matches!(lines.next().await, Some(Err(ClientError::Interrupted { .. }))));
}

#[tokio::test]
async fn a_stream_that_does_not_say_that_it_ends_is_broken() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("upbeat.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut request).await.unwrap();
        }
        let line = serde_json::to_string(&line(1)).unwrap() + "\n";
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson";
        let answer = format!("{head}\r\nContent-Length: {}\r\n\r\n{line}", line.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        std::future::pending::<()>().await;
    });
    let client = upbeat_api::Client::new(&socket);
    let mut lines = client.logs(&name("shop"), &LogQuery::default()).await.unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap(), line(1));
    assert!(matches!(lines.next().await, Some(Err(ClientError::Interrupted { source: None, .. }))));
    assert!(lines.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_for_no_reader_that_does_not_read() {
    let mut house = House::open();
    *house.fake.lines.lock().unwrap() = Some(stream::repeat(Ok(line(1))).boxed());
    let unread = house.client().logs(&name("shop"), &LogQuery::default()).await.unwrap();
    let before = Instant::now();
    house.stop();
    (&mut house.server).await.unwrap();
    let took = before.elapsed();
    assert!(took >= DRAIN_TIMEOUT && took < DRAIN_TIMEOUT + Duration::from_secs(1), "{took:?}");
    drop(unread);
}
