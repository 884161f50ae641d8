//! Connections that are slow, broken, many, or somebody else's.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep};
use upbeat_api::{Action, ClientError, IdempotencyKey, ProblemKind};

use super::fake::name;
use super::{House, in_time, request, rest, status_and_body};
use crate::bounds::{
    BODY_TIMEOUT, CONNECTIONS_MAX, CONNECTIONS_OF_ONE_MAX, HEAD_TIMEOUT, LINGER_IDLE, REFUSALS_MAX,
};

/// Only root can become somebody else.
#[track_caller]
fn is_not_root(test: &str) -> bool {
    upbeat_needs::is_skipped(test, upbeat_needs::Need::ROOT)
}

fn about(took: Duration, expected: Duration) -> bool {
    took >= expected && took < expected + Duration::from_secs(1)
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let house = House::open();
    for begun in ["", "GET /api/v1/apps HTTP/1.1\r\nHo"] {
        let before = Instant::now();
        house.raw(begun).await;
        assert!(about(before.elapsed(), HEAD_TIMEOUT), "{begun:?}: {:?}", before.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let house = House::open();
    let before = Instant::now();
    let json = "Content-Type: application/json";
    let answer = house.ask("PUT /api/v1/apps/shop", &[json, "Content-Length: 100"], "").await;
    insta::assert_snapshot!(answer, @r#"408 {"kind":"bad_request","message":"the body was not there within 30 s"}"#);
    // And the connection is closed as soon as it is clear that nothing comes.
    assert!(about(before.elapsed(), BODY_TIMEOUT + LINGER_IDLE), "{:?}", before.elapsed());
}

#[tokio::test]
async fn half_a_request_harms_nobody() {
    let house = House::open();
    let half = "PUT /api/v1/apps/shop HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Content-Length: 100\r\n\r\n{\"pro";
    for end in 0..half.len() {
        let mut stream = house.connect().await;
        stream.write_all(&half.as_bytes()[..end]).await.unwrap();
    }
    house.client().version().await.unwrap();
    assert!(house.fake.asked().is_empty());
}

/// Asks for a change and keeps its body back: it is being answered from then on.
pub(super) async fn keep_busy(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), headers: &[&str]) {
    let own = ["Content-Type: application/json", "Content-Length: 9", "Expect: 100-continue"];
    let asked = request("PUT /api/v1/apps/shop", &[&own[..], headers].concat(), "");
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut told = [0; 12];
    in_time(stream.read_exact(&mut told)).await.unwrap();
    assert_eq!(std::str::from_utf8(&told), Ok("HTTP/1.1 100"));
}

#[tokio::test]
async fn one_connection_too_many_hears_so_and_the_next_is_let_in() {
    let house = House::open();
    let mut busy = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        busy.push(house.connect().await);
        keep_busy(busy.last_mut().unwrap(), &[]).await;
    }
    let error = house.client().version().await.unwrap_err();
    insta::assert_snapshot!(error, @"256 connections are in use, which is as many as there may be");
    assert!(matches!(error, ClientError::Problem(problem) if problem.kind == ProblemKind::Unavailable));
    drop(busy.pop());
    in_time(async { while house.client().version().await.is_err() {} }).await;
}

#[tokio::test]
async fn whoever_asks_nothing_gives_way_the_oldest_first() {
    let house = House::open();
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        idle.push(house.connect().await);
    }
    // It was answered, and is idle again.
    let first = &mut idle[0];
    first.write_all(b"GET /api/v1/version HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut told = [0; 12];
    in_time(first.read_exact(&mut told)).await.unwrap();
    keep_busy(&mut idle[1], &[]).await;
    for _ in 0..2 {
        house.client().version().await.unwrap();
        let _newcomer = house.connect().await;
    }
    // Ended, not timed out: those of `HEAD_TIMEOUT` are not first.
    rest(&mut idle[0]).await;
    rest(&mut idle[2]).await;
    idle[1].write_all(b"{}       ").await.unwrap();
    assert!(in_time(rest(&mut idle[1])).await.contains("HTTP/1.1 400"));
}

/// Nothing was said, and no end.
pub(super) fn is_open(read: std::io::Result<usize>) -> bool {
    read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

/// A connection of another user, who is in the socket's group.
async fn connect_as(uid: u32, house: &House) -> UnixStream {
    let socket = house.socket.clone();
    let connecting = std::thread::spawn(move || {
        // Of this thread alone, which ends with it.
        rustix::thread::set_thread_uid(rustix::fs::Uid::from_raw(uid)).unwrap();
        std::os::unix::net::UnixStream::connect(socket).unwrap()
    });
    let stream = connecting.join().unwrap();
    stream.set_nonblocking(true).unwrap();
    UnixStream::from_std(stream).unwrap()
}

/// A house whose one guest has all the places a guest may have.
async fn crowded(guest: u32) -> (House, Vec<UnixStream>) {
    let house = House::for_group(|_| Ok(vec![GUEST]), GUEST);
    house.open_to_all();
    let mut busy = Vec::new();
    for _ in 0..CONNECTIONS_OF_ONE_MAX {
        busy.push(connect_as(guest, &house).await);
        keep_busy(busy.last_mut().unwrap(), &[]).await;
    }
    (house, busy)
}

const GUEST: u32 = 65_534;

#[tokio::test]
async fn a_member_of_the_group_gets_a_share_and_keeps_nobody_waiting() {
    if is_not_root("a_member_of_the_group_gets_a_share") {
        return;
    }
    let (house, _busy) = crowded(GUEST).await;
    let mut refused = connect_as(GUEST, &house).await;
    refused.write_all(request("GET /api/v1/apps", &[], "").as_bytes()).await.unwrap();
    insta::assert_snapshot!(status_and_body(&rest(&mut refused).await), @r#"503 {"kind":"unavailable","message":"64 connections of uid 65534 are in use, which is as many as there may be","hint":"close some, and ask again"}"#);
    house.client().version().await.unwrap();
    // Those who are being told so and do not listen hold up nobody: none of them is through when root is
    // answered. (On a machine that is slow enough they are; then once more.)
    let undisturbed = async {
        loop {
            let (house, _busy) = crowded(GUEST).await;
            let mut silent = Vec::new();
            // The last hears nothing, for there are too many.
            for _ in 0..=REFUSALS_MAX {
                silent.push(connect_as(GUEST, &house).await);
            }
            house.client().version().await.unwrap();
            if silent[..REFUSALS_MAX].iter().all(|stream| is_open(stream.try_read(&mut [0]))) {
                return;
            }
        }
    };
    in_time(undisturbed).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_is_made_whole_though_its_client_went_away() {
    let house = House::open();
    let opened = Arc::new(Notify::new());
    let (done, is_done) = oneshot::channel();
    *house.fake.gate.lock().unwrap() = Some((opened.clone(), done));
    let client = house.client();
    let asking = tokio::spawn(async move {
        let key = IdempotencyKey::new("k").unwrap();
        client.act(&name("shop"), &Action::Start { services: vec![] }, &key).await
    });
    // Until all have done what they can: see `streams`.
    sleep(Duration::from_secs(1)).await;
    assert_eq!(house.fake.asked().last().map(String::as_str), Some("waits"));
    asking.abort();
    sleep(Duration::from_secs(1)).await;
    opened.notify_one();
    in_time(is_done).await.unwrap();
}

#[tokio::test]
async fn somebody_elses_process_is_turned_away() {
    use std::io::{Read, Write};
    if is_not_root("somebody_elses_process_is_turned_away") {
        return;
    }
    let house = House::open();
    house.open_to_all();
    let socket = house.socket.clone();
    let (tell, told) = oneshot::channel();
    std::thread::spawn(move || {
        // Of this thread alone, which ends with it.
        rustix::thread::set_thread_uid(rustix::fs::Uid::from_raw(65_534)).unwrap();
        let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
        stream.write_all(b"GET /api/v1/apps HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        tell.send(answer).unwrap();
    });
    insta::assert_snapshot!(status_and_body(&in_time(told).await.unwrap()), @r#"403 {"kind":"forbidden","message":"uid 65534 may not speak to this daemon, which runs as uid 0","hint":"only its own user and root may; start a daemon of your own with `upbeat serve`"}"#);
    assert_eq!(
        house.fake.recorded(),
        ["uid 65534:  : 403, uid 65534 may not speak to this daemon, which runs as uid 0"]
    );
}

#[tokio::test]
async fn a_connection_may_ask_more_than_once() {
    let house = House::open();
    let mut stream = house.connect().await;
    let ask = "GET /api/v1/version HTTP/1.1\r\nHost: localhost\r\n";
    stream.write_all(format!("{ask}\r\n{ask}Connection: close\r\n\r\n").as_bytes()).await.unwrap();
    assert_eq!(rest(&mut stream).await.matches("HTTP/1.1 200 OK").count(), 2);
}
