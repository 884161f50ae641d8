//! A daemon that dies while it is asked, and what is said of it.

use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use upbeat_api::{AppName, LogLine, LogStream, Version};
use upbeat_model::{App, Phase};

use super::room::Room;
use crate::face::examples::{NOW, project, slot, status};

/// What becomes of a request.
enum Fate {
    Answered(String),
    /// That is said, and the connection breaks.
    Broken(String),
    /// It dies, and its socket with it.
    Last,
}

/// Answers one connection after the other by the first line of each request, until it dies.
async fn mortal(socket: &Path, mut fate: impl FnMut(&str) -> Fate) {
    let listener = UnixListener::bind(socket).unwrap();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = head(&mut stream).await;
        let text = match fate(head.lines().next().unwrap_or_default()) {
            Fate::Answered(body) => {
                format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                )
            }
            Fate::Broken(body) => format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{body}"),
            Fate::Last => break,
        };
        stream.write_all(text.as_bytes()).await.unwrap();
    }
    std::fs::remove_file(socket).unwrap();
    drop(listener);
    std::future::pending().await
}

async fn head(stream: &mut UnixStream) -> String {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut bytes = [0; 1024];
        match stream.read(&mut bytes).await.unwrap() {
            0 => break,
            n => head.extend_from_slice(&bytes[..n]),
        }
    }
    String::from_utf8(head).unwrap()
}

fn version() -> Fate {
    let version = Version { version: "1".into(), pid: 42, started_at: NOW };
    Fate::Answered(serde_json::to_string(&version).unwrap())
}

fn app() -> Fate {
    let name = AppName::new("shop").unwrap();
    let app = App { name, release: 1, project: project(), slots: vec![status("web-1", Phase::Running)] };
    Fate::Answered(serde_json::to_string(&app).unwrap())
}

/// A daemon was here before, and has left something to read.
fn used() -> Room {
    let room = Room::new();
    std::fs::write(room.dirs.control(), "").unwrap();
    std::fs::write(room.dirs.log(), "of another daemon\n").unwrap();
    room
}

/// This test's own program is no daemon: when it is started as one, it ends.
#[tokio::test]
async fn a_change_that_was_sent_to_a_daemon_without_a_successor_may_have_been_made() {
    for (quiet, notes) in [(&[][..], 1), (&["-q"][..], 0)] {
        let room = used();
        let dies = |request: &str| match request {
            request if request.starts_with("DELETE") => Fate::Last,
            request if request.contains("/apps/") => app(),
            _ => version(),
        };
        let ran = room.beside(mortal(&room.dirs.socket(), dies), &[quiet, &["down"]].concat()).await;
        assert_eq!(ran.matches("the daemon is gone; what it runs goes on").count(), notes, "{ran}");
        let error = &ran[ran.find("error:").unwrap()..];
        let (before, own) = error.split_once("  its last lines:\n").unwrap();
        insta::allow_duplicates! {
            insta::assert_snapshot!(before, @"
            error: It is not known whether the change was made
              caused by: there is no daemon to talk to
              caused by: the daemon did not get ready; its log is `/room/state/daemon.log`
            ");
        }
        assert!(!own.contains("of another daemon"), "{own}");
        assert!(
            own.ends_with("`upbeat ps` shows what is there, `upbeat events` what was changed\n"),
            "{own}"
        );
    }
}

#[tokio::test]
async fn a_question_and_a_change_that_was_never_sent_leave_nothing_unknown() {
    for args in [&["ps"][..], &["stop"]] {
        let room = used();
        let dies = |request: &str| if request.contains("/apps/") { Fate::Last } else { version() };
        let ran = room.beside(mortal(&room.dirs.socket(), dies), args).await;
        assert!(ran.contains("error: "), "{ran}");
        assert!(!ran.contains("not known"), "{ran}");
    }
}

/// Its clock goes on by itself while nothing else does.
#[tokio::test(start_paused = true)]
async fn a_daemon_that_answers_once_and_dies_is_given_up_at_last() {
    let room = Room::new();
    let mut said = 0;
    let answers_once = |request: &str| {
        if request.contains("/logs") {
            said += 1;
            assert!(said < 100, "it is asked again and again");
            let text = format!("line {said}");
            let line =
                LogLine { slot: slot("web-1"), sequence: said, at_ns: 1, stream: LogStream::Stdout, text };
            return Fate::Broken(serde_json::to_string(&line).unwrap() + "\n");
        }
        if request.contains("/apps/") { app() } else { version() }
    };
    let ran = room.beside(mortal(&room.dirs.socket(), answers_once), &["logs", "-f", "--no-prefix"]).await;
    let (lines, end) = ran.split_once("---").unwrap();
    assert_eq!(lines.lines().count(), 20, "{ran}");
    insta::assert_snapshot!(end, @"
     Failed
    error: The daemon was lost 20 times within 60 s
      caused by: the daemon at `/room/run/upbeat.sock` went away in the middle of its answer
    hint: what it runs goes on; its log is `/room/state/daemon.log`
    ");
}
