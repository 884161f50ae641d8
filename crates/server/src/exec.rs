//! Commands beside services: from a request to a connection that speaks frames.
//!
//! Laws: the command runs before 101 is answered, and its record is kept before it runs. Whatever is wrong with the
//! request is a `Problem`, as everywhere. The client's end is listened to all the time, also while the command takes
//! no input or the client no output, so that a client that goes away is noticed at once; then the command is dropped,
//! which ends it. Of output no more than a piece is held, of input no more than there is room for.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::timeout;
use upbeat_api::{
    AppName, Asked, EXEC_PROTOCOL, Endpoint, Exec, ExecEnd, Frame, Frames, INPUT_ROOM, Need, Problem,
    ProblemKind, ServiceName, Window,
};

use crate::access;
use crate::afterwards::Afterwards;
use crate::backend::{Answer, Backend, BoxStream};
use crate::bounds::{EXEC_ARGUMENTS_MAX, EXEC_WORDS_SHOWN};
use crate::extract::{By, Json, Path, Query};
use crate::handlers::{Here, NoQuery, Streamed};
use crate::refusal::Refusal;
use crate::streams::Closing;

/// Bytes that are taken at once, of either side.
const PIECE: usize = 16 << 10;

/// When it is known how a command ended, so long it is waited for what it has printed before: it is there already,
/// unless somebody who cannot be killed has its output open.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// And so much: the most that a pipe holds. More is of somebody who goes on all the same.
const LAST_BYTES: usize = 1 << 20;

/// How long a client may take for the last frame and the end of the connection, which are a few hundred bytes.
const FAREWELL: Duration = Duration::from_secs(10);

/// Something that a command has printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Printed {
    /// To its standard output, or its terminal.
    Output(Bytes),
    /// To its standard error.
    Errors(Bytes),
}

/// A command that runs, or the streams of a service. Dropping it kills what was begun for it, and no service.
pub struct Running {
    /// Its standard input; ends when it is shut down or dropped.
    pub input: Box<dyn AsyncWrite + Send + Unpin>,
    /// What it prints, as fast as that is taken. Ends when nobody can print any more.
    pub output: BoxStream<io::Result<Printed>>,
    /// Takes the new size of its terminal, if it has one.
    pub windows: Option<watch::Sender<Window>>,
    /// Until it has ended.
    pub end: BoxFuture<'static, ExecEnd>,
}

/// The handler.
pub(crate) async fn exec<B: Backend>(
    State(here): Here<B>,
    by: By,
    Path((app, service)): Path<(AppName, ServiceName)>,
    _: Query<NoQuery>,
    mut request: Request,
) -> Streamed {
    let (upgrade, afterwards) = upgradable(&mut request)?;
    let Json(exec) = <Json<Exec> as axum::extract::FromRequest<()>>::from_request(request, &()).await?;
    check(&exec)?;
    by.refuse_key(Endpoint::Exec.path(), "leave it out: a command is run once for each request")?;
    let asked = Asked {
        who: by.caller.who(),
        from: by.caller.from.map(|from| from.to_string()),
        method: Endpoint::Exec.method().as_str().to_owned(),
        route: Endpoint::Exec.path().to_owned(),
        app: Some(app.clone()),
        what: words(&service, &exec),
    };
    let (backend, closing) = (here.backend.clone(), here.closing.clone());
    let starting = async move { backend.exec(app, service, exec).await };
    let came_of = |running: &Answer<Running>| match running {
        Ok(_) => (StatusCode::SWITCHING_PROTOCOLS.as_u16(), None),
        Err(problem) => (problem.kind.status(), None),
    };
    let running = access::recorded(here, asked, Need::Recorded, starting, came_of).await?;
    afterwards.then(async move {
        // An error: the client is gone before it was answered, and the command goes with it.
        if let Ok(stream) = upgrade.await {
            converse(TokioIo::new(stream), running, (closing, "and has ended the command"), None).await;
        }
    });
    Ok(switched())
}

pub(crate) fn switched() -> axum::response::Response {
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static(EXEC_PROTOCOL)),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// What the connection becomes. Errors: the client has not asked for it.
pub(crate) fn upgradable(request: &mut Request) -> Result<(OnUpgrade, Afterwards), Refusal> {
    let wanted = wants(request.headers());
    let parts = request.extensions_mut();
    match (wanted, parts.remove::<OnUpgrade>(), parts.get::<Afterwards>().cloned()) {
        (true, Some(upgrade), Some(afterwards)) => Ok((upgrade, afterwards)),
        _ => Err(Refusal::bad_request(format!("it is spoken by `{EXEC_PROTOCOL}`, which was not asked for"))
            .with_hint(format!("send `Connection: upgrade` and `Upgrade: {EXEC_PROTOCOL}`"))
            .with_status(StatusCode::UPGRADE_REQUIRED)),
    }
}

fn wants(headers: &HeaderMap) -> bool {
    let words = headers.get_all(header::UPGRADE).iter().filter_map(|value| value.to_str().ok());
    words.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case(EXEC_PROTOCOL))
}

/// Errors: there is nothing to run, or what no program can be given.
fn check(exec: &Exec) -> Result<(), Refusal> {
    let refuse =
        |place: &str, why: &str| Err(Refusal::bad_request(format!("in the body at `{place}`: {why}")));
    if exec.command.first().is_none_or(String::is_empty) {
        return refuse("command", "it names no program");
    }
    let variables = exec.environment.iter().map(|(name, value)| name.len() + value.len());
    let length = exec.command.iter().map(String::len).chain(variables).sum::<usize>();
    if length > EXEC_ARGUMENTS_MAX {
        return refuse(
            "command",
            "with its variables it is longer than any program can be given; use its input",
        );
    }
    let is_cut = |text: &String| text.contains('\0');
    if exec.command.iter().any(is_cut) {
        return refuse("command", "no argument can hold a zero byte");
    }
    if exec
        .environment
        .iter()
        .any(|(name, value)| name.is_empty() || name.contains('=') || is_cut(name) || is_cut(value))
    {
        return refuse("environment", "a name may hold no `=`, and nothing of it a zero byte");
    }
    if [&exec.user, &exec.working_dir].into_iter().flatten().any(|text| text.is_empty() || is_cut(text)) {
        return refuse("user", "neither it nor `working_dir` may be empty or hold a zero byte");
    }
    if exec.index == Some(0) {
        return refuse("index", "copies are counted from 1");
    }
    Ok(())
}

/// For the record: what is run, and no variable.
fn words(service: &ServiceName, exec: &Exec) -> String {
    let copy = exec.index.map(|index| format!("-{index}")).unwrap_or_default();
    let user = exec.user.as_ref().map(|user| format!(" as {user}")).unwrap_or_default();
    let command = shell_words::join(&exec.command);
    let mut shown: String = command.chars().take(EXEC_WORDS_SHOWN).collect();
    if shown.len() < command.len() {
        shown.push('…');
    }
    format!("exec {service}{copy}{user}: {shown}")
}

/// Input that has come and was not taken, in bytes; and how much of that is to be told as room.
#[derive(Default)]
struct Taken {
    waiting: AtomicU32,
    untold: AtomicU32,
    news: Notify,
}

/// Carries what is said to the command and what it prints to the client, until it has ended or the client is gone.
/// `closing`: until the daemon shuts down, and what becomes of the command then. `patience`: for how long the client may
/// take nothing of what is printed; without it, for ever.
pub(crate) async fn converse<S>(
    stream: S,
    running: Running,
    closing: (Closing, &str),
    patience: Option<Duration>,
) where
    S: AsyncRead + AsyncWrite + Send,
{
    let Running { input, output, windows, end } = running;
    let (from, mut to) = tokio::io::split(stream);
    let (held, to_feed) = tokio::io::duplex(INPUT_ROOM);
    let taken = Taken::default();
    let (offend, offended) = oneshot::channel();
    let (mut closing, and_then) = closing;
    let end = async {
        tokio::select! {
            end = end => end,
            () = closing.closing() => {
                let message = format!("the daemon is shutting down, {and_then}");
                unknown(Problem::new(ProblemKind::Unavailable, message))
            }
            Ok(problem) = offended => unknown(problem),
        }
    };
    let hearing = hear(from, held, windows, &taken, offend);
    let telling = async {
        let said = tell(&mut to, output, end, (&taken, patience)).await;
        // The other end may be gone, and there is nobody else to hear of that.
        let _ = timeout(FAREWELL, to.shutdown()).await;
        said
    };
    tokio::select! {
        // It is over, or the client takes nothing any more.
        _ = telling => {}
        () = hearing => tracing::debug!("whoever ran a command is gone; it is ended"),
        () = feed(to_feed, input, &taken) => {}
    }
}

fn unknown(problem: Problem) -> ExecEnd {
    ExecEnd { code: None, problem: Some(problem) }
}

/// Listens until the client is gone. Who breaks the rules is told, and heard no more.
async fn hear<S: AsyncRead>(
    mut from: ReadHalf<S>,
    held: DuplexStream,
    windows: Option<watch::Sender<Window>>,
    taken: &Taken,
    offend: oneshot::Sender<Problem>,
) {
    let (mut frames, mut held) = (Frames::default(), Some(held));
    let mut read = BytesMut::with_capacity(PIECE);
    let why = loop {
        match frames.next_frame() {
            Ok(None) => {
                read.clear();
                match from.read_buf(&mut read).await {
                    Ok(1..) => frames.take(&read),
                    Ok(0) | Err(_) => return,
                }
            }
            Ok(Some(Frame::Input(bytes))) => {
                let Some(held) = &mut held else { break "input after its end".to_owned() };
                let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                let waiting = taken.waiting.fetch_add(length, Ordering::Relaxed);
                if waiting.saturating_add(length) as usize > INPUT_ROOM {
                    break "more input than there was room for".to_owned();
                }
                // Does not wait, as there is room. An error: it is not taken any more, as it is over.
                if held.write_all(&bytes).await.is_err() {
                    return std::future::pending().await;
                }
            }
            Ok(Some(Frame::InputEnd)) => drop(held.take()),
            Ok(Some(Frame::Resize(window))) => {
                if let Some(windows) = &windows {
                    windows.send_replace(window);
                }
            }
            Ok(Some(_)) => break "a frame that only the daemon sends".to_owned(),
            Err(malformed) => break malformed.to_string(),
        }
    };
    let hint = "compare the versions of the client and the daemon";
    let _ = offend.send(Problem::new(ProblemKind::BadRequest, why).with_hint(hint));
    std::future::pending().await
}

/// Gives the command its input. Never ends: without input it runs on.
async fn feed(mut to_feed: DuplexStream, mut input: Box<dyn AsyncWrite + Send + Unpin>, taken: &Taken) {
    let mut piece = vec![0; PIECE];
    while let Ok(read @ 1..) = to_feed.read(&mut piece).await {
        // It takes no more input: the client is given no more room, and sees how it ends.
        if input.write_all(&piece[..read]).await.is_err() || input.flush().await.is_err() {
            return std::future::pending().await;
        }
        let read = u32::try_from(read).unwrap_or(u32::MAX);
        taken.waiting.fetch_sub(read, Ordering::Relaxed);
        taken.untold.fetch_add(read, Ordering::Relaxed);
        taken.news.notify_one();
    }
    // Where it has ended meanwhile, nobody minds.
    let _ = input.shutdown().await;
    drop(input);
    std::future::pending().await
}

/// Tells what it prints, and at last how it ended. Errors: the client is gone.
async fn tell<S: AsyncWrite>(
    to: &mut WriteHalf<S>,
    mut output: BoxStream<io::Result<Printed>>,
    end: impl Future<Output = ExecEnd>,
    (taken, patience): (&Taken, Option<Duration>),
) -> io::Result<()> {
    let mut end = std::pin::pin!(end);
    let (mut ended, mut is_silent) = (None, false);
    let (mut frames, mut last) = (BytesMut::new(), LAST_BYTES);
    loop {
        tokio::select! {
            printed = output.next(), if frames.is_empty() && !is_silent => match printed {
                Some(Ok(Printed::Output(bytes))) => Frame::Output(bytes).write(&mut frames),
                Some(Ok(Printed::Errors(bytes))) => Frame::Errors(bytes).write(&mut frames),
                Some(Err(_)) | None => is_silent = true,
            },
            () = taken.news.notified(), if frames.is_empty() => {
                Frame::Room(taken.untold.swap(0, Ordering::Relaxed)).write(&mut frames);
            }
            // It ends in its time also where nobody takes what it prints.
            how = &mut end, if ended.is_none() => ended = Some(how),
            sent = send_within(to, &mut frames, patience), if !frames.is_empty() => sent?,
            () = tokio::time::sleep(LAST_WORDS), if ended.is_some() && frames.is_empty() && !is_silent => {
                is_silent = true;
            }
        }
        if ended.is_some() {
            last = last.saturating_sub(frames.len());
            is_silent |= last == 0;
        }
        if is_silent
            && frames.is_empty()
            && let Some(how) = ended.take()
        {
            Frame::End(how).write(&mut frames);
            return timeout(FAREWELL, send(to, &mut frames)).await.unwrap_or(Ok(()));
        }
    }
}

/// Errors: besides the client's, that it takes nothing for so long.
async fn send_within<S: AsyncWrite>(
    to: &mut WriteHalf<S>,
    frames: &mut BytesMut,
    patience: Option<Duration>,
) -> io::Result<()> {
    match patience {
        Some(patience) => timeout(patience, send(to, frames)).await?,
        None => send(to, frames).await,
    }
}

/// Safe to be given up: what was sent is no longer there.
async fn send<S: AsyncWrite>(to: &mut WriteHalf<S>, frames: &mut BytesMut) -> io::Result<()> {
    while !frames.is_empty() {
        if to.write_buf(frames).await? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    to.flush().await
}
