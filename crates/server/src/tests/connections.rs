//! Connections that are slow, broken, many, or somebody else's.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep};
use upbeat_api::{Action, ClientError, IdempotencyKey, ProblemKind};

use super::fake::name;
use super::{House, in_time, rest, status_and_body};
use crate::bounds::{BODY_TIMEOUT, CONNECTIONS_MAX, HEAD_TIMEOUT};

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
    assert!(about(before.elapsed(), BODY_TIMEOUT), "{:?}", before.elapsed());
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

#[tokio::test]
async fn one_connection_too_many_hears_so_and_the_next_is_let_in() {
    let house = House::open();
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        idle.push(house.connect().await);
    }
    let error = house.client().version().await.unwrap_err();
    insta::assert_snapshot!(error, @"256 connections are open, which is as many as there may be");
    assert!(matches!(error, ClientError::Problem(problem) if problem.kind == ProblemKind::Unavailable));
    drop(idle.pop());
    in_time(async { while house.client().version().await.is_err() {} }).await;
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
    use std::os::unix::fs::PermissionsExt;
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED somebody_elses_process_is_turned_away: only root can become somebody else");
        return;
    }
    let house = House::open();
    // The file system would keep them out before the server does.
    for path in [house.socket.as_path(), house.socket.parent().unwrap(), house._directory.path()] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
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
}

#[tokio::test]
async fn a_connection_may_ask_more_than_once() {
    let house = House::open();
    let mut stream = house.connect().await;
    let ask = "GET /api/v1/version HTTP/1.1\r\nHost: localhost\r\n";
    stream.write_all(format!("{ask}\r\n{ask}Connection: close\r\n\r\n").as_bytes()).await.unwrap();
    assert_eq!(rest(&mut stream).await.matches("HTTP/1.1 200 OK").count(), 2);
}
