//! Commands beside services: bytes both ways, within their bounds, and ended with whoever asked.

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use upbeat_api::{
    Attach, ClientError, Exec, ExecEnd, FRAME_MAX, Frame, Frames, Hearing, INPUT_ROOM, ProblemKind, Saying,
    Window,
};

use super::{House, in_time, status_and_body};
use crate::backend::BoxStream;
use crate::exec::{Printed, Running};
use crate::tests::fake::name;

/// Does this when it is dropped.
struct Held<F: Fn()>(F);

impl<F: Fn()> Drop for Held<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// What a fake runs: `cat` gives back what it gets and ends with it, `yes` prints without end, whatever else prints the
/// size of its terminal and stays. Does this when it is over.
pub(super) fn running(exec: Exec, over: impl Fn() + Send + 'static) -> Running {
    let held = Held(over);
    let (input, output) = tokio::io::duplex(64);
    let (windows, sizes) =
        tokio::sync::watch::channel(exec.terminal.unwrap_or(Window { columns: 0, rows: 0 }));
    let (over, is_over) = oneshot::channel::<()>();
    let printed: BoxStream<std::io::Result<Printed>> = match exec.command[0].as_str() {
        "cat" => Box::pin(stream::unfold((output, Some(over)), async |(mut output, mut over)| {
            let mut piece = bytes::BytesMut::new();
            match tokio::io::AsyncReadExt::read_buf(&mut output, &mut piece).await {
                Ok(1..) => Some((Ok(Printed::Output(piece.freeze())), (output, over))),
                _ => {
                    over.take().map(|over| over.send(()));
                    None
                }
            }
        })),
        // Endless, and as fast as it is taken.
        "yes" => Box::pin(stream::unfold((output, over), async |kept| {
            Some((Ok(Printed::Output(Bytes::from(vec![b'y'; 4096]))), kept))
        })),
        _ => Box::pin(stream::unfold(
            (sizes, true, output, over),
            async |(mut sizes, is_first, output, over)| {
                if !is_first {
                    sizes.changed().await.ok()?;
                }
                let size = *sizes.borrow_and_update();
                let said = format!("{}x{}", size.columns, size.rows);
                Some((Ok(Printed::Errors(said.into())), (sizes, false, output, over)))
            },
        )),
    };
    let end = async move {
        let _held = held;
        let _ = is_over.await;
        ExecEnd { code: Some(7), problem: None }
    };
    Running { input: Box::new(input), output: printed, windows: Some(windows), end: Box::pin(end) }
}

fn command(words: &str) -> Exec {
    Exec { command: words.split(' ').map(str::to_owned).collect(), ..Exec::default() }
}

async fn begun(house: &House, exec: &Exec) -> (Saying, Hearing) {
    in_time(house.client().exec(&name("shop"), &name("web"), exec)).await.unwrap()
}

/// Until it is on record that nothing runs any more.
async fn over(house: &House) -> Vec<String> {
    in_time(async {
        let mut all = Vec::new();
        while !all.iter().any(|record: &String| record.ends_with("is over")) {
            tokio::task::yield_now().await;
            all.extend(house.fake.recorded());
        }
        all
    })
    .await
}

#[tokio::test]
async fn what_goes_in_comes_out_whatever_it_is_and_the_record_is_kept_before() {
    let house = House::open();
    let mut exec = command("cat -u");
    exec.command.push("x y".to_owned());
    let (mut saying, mut hearing) = begun(&house, &exec).await;
    let sent: Bytes = (0..1_u32 << 18).flat_map(u32::to_be_bytes).collect::<Vec<_>>().into();
    let mut left = sent.clone();
    let mut first = left.split_to(INPUT_ROOM);
    // As much as there is room for, without a word of room.
    let (mut got, mut room) = (BytesMut::new(), INPUT_ROOM);
    while got.len() < sent.len() {
        let now =
            if first.is_empty() { left.split_to(room.min(left.len())) } else { std::mem::take(&mut first) };
        room -= now.len();
        if !now.is_empty() {
            saying.say(&Frame::Input(now)).await.unwrap();
        }
        match in_time(hearing.hear()).await.unwrap() {
            Frame::Output(bytes) => got.extend_from_slice(&bytes),
            Frame::Room(more) => room += more as usize,
            other => panic!("{other:?}"),
        }
    }
    assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
    saying.say(&Frame::InputEnd).await.unwrap();
    let end = loop {
        match in_time(hearing.hear()).await.unwrap() {
            Frame::Room(_) => {}
            other => break other,
        }
    };
    assert_eq!(end, Frame::End(ExecEnd { code: Some(7), problem: None }));
    let own = rustix::process::geteuid().as_raw();
    let route = "POST /api/v1/apps/{app}/services/{service}/exec";
    let asked = format!("uid {own}: {route}: exec web: cat -u 'x y' of shop");
    let records = over(&house).await;
    assert_eq!(records[..2], [asked.clone(), format!("{asked} -> 101, operation None")]);
    assert!(matches!(in_time(hearing.hear()).await, Err(ClientError::Interrupted { .. })), "nothing follows");
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_command_whatever_either_does_not_take() {
    // It takes no input; and prints without end what nobody reads.
    for words in ["stay", "yes"] {
        let house = House::open();
        let (mut saying, hearing) = begun(&house, &command(words)).await;
        saying.say(&Frame::Input(Bytes::from(vec![0; INPUT_ROOM]))).await.unwrap();
        house.fake.recorded();
        drop((saying, hearing));
        over(&house).await;
    }
}

#[tokio::test]
async fn the_last_size_of_the_terminal_is_what_counts() {
    let house = House::open();
    let exec = Exec { terminal: Some(Window { columns: 80, rows: 24 }), ..command("stay") };
    let (mut saying, mut hearing) = begun(&house, &exec).await;
    assert_eq!(in_time(hearing.hear()).await.unwrap(), Frame::Errors("80x24".into()));
    for columns in 100..=200 {
        saying.say(&Frame::Resize(Window { columns, rows: 50 })).await.unwrap();
    }
    while in_time(hearing.hear()).await.unwrap() != Frame::Errors("200x50".into()) {}
}

#[tokio::test]
async fn a_daemon_that_ends_ends_the_command_and_says_so() {
    let mut house = House::open();
    let (saying, mut hearing) = begun(&house, &command("yes")).await;
    house.stop();
    let end = loop {
        match in_time(hearing.hear()).await.unwrap() {
            Frame::Output(_) => {}
            Frame::End(end) => break end,
            other => panic!("{other:?}"),
        }
    };
    let problem = end.problem.unwrap();
    assert_eq!((end.code, problem.kind), (None, ProblemKind::Unavailable));
    assert_eq!(problem.message, "the daemon is shutting down, and has ended the command");
    over(&house).await;
    drop(saying);
}

#[tokio::test]
async fn what_cannot_be_run_is_a_problem_and_no_connection() {
    let house = House::open();
    let refused = in_time(house.client().exec(&name("shop"), &name("nobody"), &command("cat"))).await;
    let Err(ClientError::Problem(problem)) = refused else { panic!("it was begun") };
    assert_eq!(problem.message, "nobody-1 does not run: it is stopped");
    assert!(house.fake.recorded()[1].ends_with("-> 409, operation None"));
    let path = "POST /api/v1/apps/shop/services/web/exec";
    let json = "Content-Type: application/json";
    let asked = house.ask(path, &[json], "{\"command\":[\"cat\"]}").await;
    assert!(asked.starts_with("426 ") && asked.contains("`Upgrade: upbeat-exec/1`"), "{asked}");
    for (body, words) in [
        ("{\"command\":[]}", "it names no program"),
        ("{\"command\":[\"\"]}", "it names no program"),
        ("{\"command\":[\"a\\u0000\"]}", "zero byte"),
        ("{\"command\":[\"a\"],\"environment\":{\"A=B\":\"\"}}", "may hold no `=`"),
        ("{\"command\":[\"a\"],\"user\":\"\"}", "may be empty"),
        ("{\"command\":[\"a\"],\"index\":0}", "counted from 1"),
        ("{\"command\":[\"a\"],\"detach\":true}", "unknown field `detach`"),
        ("{\"command\":[\"a\"],\"terminal\":{\"columns\":1}}", "`rows` is missing"),
    ] {
        let mut stream = house.connect().await;
        stream.write_all(upgrade(body).as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let told = status_and_body(&super::rest(&mut stream).await);
        assert!(told.starts_with("400 ") && told.contains(words), "{body}: {told}");
    }
    assert_eq!(house.fake.asked(), ["exec shop/nobody cat"]);
}

fn upgrade(body: &str) -> String {
    format!(
        "POST /api/v1/apps/shop/services/web/exec HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\n\
         Upgrade: upbeat-exec/1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len(),
    )
}

/// What a client that keeps to no rules is told.
async fn told_to(house: &House, bytes: &[u8]) -> ExecEnd {
    let (mut from, mut to) = upgraded(house).await;
    to.write_all(bytes).await.unwrap();
    let mut frames = Frames::default();
    let mut read = BytesMut::new();
    loop {
        match frames.next_frame().unwrap() {
            Some(Frame::End(end)) => return end,
            Some(_) => continue,
            None => {}
        }
        read.clear();
        assert!(in_time(from.read_buf(&mut read)).await.unwrap() > 0, "without a word");
        frames.take(&read);
    }
}

async fn upgraded(house: &House) -> (ReadHalf<UnixStream>, WriteHalf<UnixStream>) {
    let mut stream = house.connect().await;
    stream.write_all(upgrade("{\"command\":[\"stay\"]}").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(in_time(stream.read_u8()).await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap().to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 101 ") && answer.contains("upgrade: upbeat-exec/1\r\n"), "{answer}");
    tokio::io::split(stream)
}

#[tokio::test]
async fn who_breaks_the_rules_is_told_and_the_command_ends() {
    let mut room = BytesMut::new();
    Frame::Input(Bytes::from(vec![0; INPUT_ROOM + 1])).write(&mut room);
    let mut after = BytesMut::new();
    [Frame::InputEnd, Frame::Input("x".into())].iter().for_each(|frame| frame.write(&mut after));
    let mut backwards = BytesMut::new();
    Frame::Output("x".into()).write(&mut backwards);
    let long = u32::try_from(FRAME_MAX + 1).unwrap().to_be_bytes();
    for (bytes, words) in [
        (&room[..], "more input than there was room for"),
        (&after[..], "input after its end"),
        (&backwards[..], "only the daemon sends"),
        (&[&[1], &long[..]].concat()[..], "a frame of 65537 bytes"),
        (b"GET / HTTP/1.1\r\n\r\n", "a frame of"),
    ] {
        let house = House::open();
        let end = told_to(&house, bytes).await;
        let problem = end.problem.unwrap();
        assert!(problem.message.contains(words) && end.code.is_none(), "{problem:?}");
        over(&house).await;
    }
}

#[tokio::test]
async fn whoever_is_attached_speaks_in_the_same_frames_and_is_on_record() {
    let house = House::open();
    let attach = Attach { input: true, ..Attach::default() };
    let begun = in_time(house.client().attach(&name("shop"), &name("web"), &attach)).await;
    let (mut saying, mut hearing) = begun.unwrap();
    in_time(saying.say(&Frame::Input("hello".into()))).await.unwrap();
    let heard = loop {
        match in_time(hearing.hear()).await.unwrap() {
            Frame::Room(_) => {}
            frame => break frame,
        }
    };
    assert_eq!(heard, Frame::Output("hello".into()));
    drop((saying, hearing));
    let own = rustix::process::geteuid().as_raw();
    let asked =
        format!("uid {own}: POST /api/v1/apps/{{app}}/services/{{service}}/attach: attach web of shop");
    let records = over(&house).await;
    assert_eq!(records[..2], [asked.clone(), format!("{asked} -> 101, operation None")]);
    let (path, json) = ("POST /api/v1/apps/shop/services/web/attach", "Content-Type: application/json");
    let none = house.ask(path, &[json], "{}").await;
    assert!(none.starts_with("426 "), "{none}");
}
