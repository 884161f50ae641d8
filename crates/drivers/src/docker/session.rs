//! Commands in a container that somebody speaks with, over a connection that the engine gives away for it.
//!
//! As for those that are run to their end, an engine cannot end what it has begun: each of its processes carries a
//! mark, by which it is killed when whoever asked is gone, and by the next daemon if this one is killed.

use std::io;
use std::time::Duration;

use bollard::models::ExecConfig;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, ReadHalf};
use tokio::sync::{oneshot, watch};
use upbeat_model::Exit;

use super::exec::{ContainerExec, KILLED, Out, Stands, has_failed, not_run};
use super::wire::{Ask, part};
use super::{Engine, EngineError};
use crate::process::ExecOutcome;
use crate::session::{Ended, PIECE, Piece, Session, Window};

/// Before each chunk without a terminal: its stream, three zeros, its length in four bytes.
const HEAD: usize = 8;

/// A command that has closed its output may run on. It is looked at again after so long, and more and more slowly.
const LOOK_FIRST: Duration = Duration::from_millis(20);
const LOOK_LAST: Duration = Duration::from_secs(1);

/// An engine refuses the size of a terminal that it has not made yet, which takes it some milliseconds: it is told so
/// often, after so long each.
const SIZE_TRIES: u32 = 100;
const SIZE_AGAIN: Duration = Duration::from_millis(10);

/// What begins like this is the engine's, if the command then ends as one that could not be run. So much is held back
/// until that is known.
const FAULTS: [&str; 2] = ["OCI runtime exec failed", "unable to find user"];
/// By which an engine lets go of who types them: by default two keys that shells and editors use, of which it holds the
/// first back. It cannot be told of none; these nobody types.
pub(super) const DETACH_KEYS: &str = "ctrl-^,ctrl-@,ctrl-^,ctrl-@,ctrl-^,ctrl-@,ctrl-^,ctrl-@";
const FAULT_MAX: usize = 4 << 10;

impl Engine {
    /// Runs a command in the container of a slot that is spoken with, at a terminal of this size or by pipes. It has as
    /// long as it likes: its time-out is not looked at.
    ///
    /// Errors: it was not begun, in words; a program that is not there is told as its end.
    pub async fn converse(&self, asked: ContainerExec, at: Option<Window>) -> Result<Session, String> {
        let mark = self.fresh_mark();
        let is_terminal = at.is_some();
        let besides = ExecConfig {
            detach_keys: Some(DETACH_KEYS.to_owned()),
            attach_stdin: Some(true),
            tty: Some(is_terminal),
            // Engines before API 1.42 pass it over, and are told as soon as the terminal is there.
            console_size: at.map(|Window { columns, rows }| vec![rows.into(), columns.into()]),
            ..ExecConfig::default()
        };
        let id =
            self.make_exec(&asked, &mark, besides).await.map_err(|error| self.in_words(&asked, error))?;
        // From here on it may run.
        let out = Out::of(self, &id, mark);
        let body = serde_json::json!({ "Detach": false, "Tty": is_terminal });
        let ask = Ask::post(format!("/exec/{}/start", part(&id))).json(&body);
        let stream = match ask {
            Ok(ask) => self.wire().upgrade(ask).await,
            Err(error) => Err(error),
        };
        let stream = stream.map_err(|error| self.in_words(&asked, error))?;
        let (from, input) = tokio::io::split(TokioIo::new(stream));
        let (fault, faulty) = oneshot::channel();
        let output = Output::of(from, is_terminal);
        let (window, sizes) = at.map(watch::channel).unzip();
        let (engine, sized) = (self.clone(), format!("/exec/{}", part(&id)));
        let follows = async move {
            match sizes {
                Some(sizes) => engine.follow_size(&sized, sizes).await,
                None => std::future::pending().await,
            }
        };
        let (engine, told_of) = (self.clone(), id.clone());
        let end = async move {
            tokio::select! {
                ended = engine.ended(asked, id, out, faulty) => ended,
                () = follows => Ended::Unable("its terminal is gone".to_owned()),
            }
        };
        let told = Told {
            engine: self.clone(),
            id: told_of,
            output,
            fault: Some(fault),
            held: BytesMut::new(),
            next: None,
            is_known: false,
        };
        let output = stream::unfold(Some(told), async |told| {
            let mut told = told?;
            match told.next().await.transpose()? {
                Ok(piece) => Some((Ok(piece), Some(told))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(Session { input: Box::new(input), output: output.boxed(), window, end: Box::pin(end) })
    }

    fn in_words(&self, asked: &ContainerExec, error: EngineError) -> String {
        match error {
            EngineError::Said { message, .. } => not_run(asked, &message).describe(),
            error => error.to_string(),
        }
    }

    /// How it has ended: when the engine says that it is no more. `faulty`: what was printed when that may be the
    /// engine's; dropped where it is the command's; and one of these when nothing more is printed.
    async fn ended(
        &self,
        asked: ContainerExec,
        id: String,
        mut out: Out,
        faulty: oneshot::Receiver<String>,
    ) -> Ended {
        let fault = faulty.await.ok();
        let code = match self.code_of(&id).await {
            Ok(Some(code)) => code,
            Ok(None) => return Ended::Unable("the container engine did not say how it ended".to_owned()),
            Err(_) if self.is_ending(&asked.slot, asked.attempt).await => return container_ended(),
            Err(error) => return Ended::Unable(error.to_string()),
        };
        if let Some(fault) = fault {
            out.is_over();
            return match not_run(&asked, &fault) {
                ExecOutcome::Failed(why) if code == 127 || why.contains("no such program") => {
                    Ended::NotFound(why)
                }
                ExecOutcome::Failed(why) => Ended::NotRun(why),
                outcome => Ended::Unable(outcome.describe()),
            };
        }
        if code == KILLED && self.is_ending(&asked.slot, asked.attempt).await {
            return container_ended();
        }
        // What it has left behind in the container is ended too; what does not die is looked for by the next daemon.
        let _ = out.clear().await;
        Ended::Exit(Exit::Code(code))
    }

    /// The code it has ended with, as soon as it has. `None`: the engine does not say.
    async fn code_of(&self, id: &str) -> Result<Option<i32>, EngineError> {
        let mut pause = LOOK_FIRST;
        loop {
            let ask = Ask::get(format!("/exec/{}/json", part(id)));
            match self.wire().answer::<Stands>(ask).await? {
                Stands { running: true, .. } => {
                    tokio::time::sleep(pause).await;
                    pause = (2 * pause).min(LOOK_LAST);
                }
                Stands { exit_code: Some(code @ 0..=255), .. } => return Ok(Some(code as i32)),
                _ => return Ok(None),
            }
        }
    }

    /// Tells the engine each size of the terminal of what is there under this path. Never ends.
    pub(super) async fn follow_size(&self, path: &str, mut sizes: watch::Receiver<Window>) {
        sizes.mark_changed();
        while sizes.changed().await.is_ok() {
            for _ in 0..SIZE_TRIES {
                let Window { columns, rows } = *sizes.borrow_and_update();
                let ask = Ask::post(format!("{path}/resize"))
                    .query("h", rows.to_string())
                    .query("w", columns.to_string());
                match self.wire().done(ask).await {
                    Ok(()) => break,
                    Err(error) => tracing::debug!(%error, "the engine does not take the size of a terminal"),
                }
                tokio::time::sleep(SIZE_AGAIN).await;
            }
        }
        std::future::pending().await
    }
}

fn container_ended() -> Ended {
    Ended::Unable("the container ended while it ran".to_owned())
}

/// What it prints, as it comes. What the engine says in its place is told apart.
struct Told {
    engine: Engine,
    id: String,
    output: Output,
    /// Dropped when nothing more is printed.
    fault: Option<oneshot::Sender<String>>,
    /// What may be the engine's.
    held: BytesMut,
    /// Behind what was held.
    next: Option<Piece>,
    /// It is the command that prints.
    is_known: bool,
}

impl Told {
    async fn next(&mut self) -> io::Result<Option<Piece>> {
        if let Some(piece) = self.next.take() {
            return Ok(Some(piece));
        }
        while !self.is_known {
            match self.output.next().await? {
                Some(Piece::Output(bytes)) => {
                    self.held.extend_from_slice(&bytes);
                    self.is_known = self.held.len() >= FAULT_MAX || !is_fault(&self.held);
                }
                other => {
                    self.is_known = true;
                    let text = String::from_utf8_lossy(&self.held);
                    // A command may print the same words: then it ends with another code.
                    if other.is_none()
                        && has_failed(&text)
                        && matches!(self.engine.code_of(&self.id).await, Ok(Some(126 | 127)))
                    {
                        // Nobody listens: then nobody asks.
                        self.fault.take().map(|fault| fault.send(text.into_owned()));
                        return Ok(None);
                    }
                    self.next = other;
                }
            }
        }
        match self.held.is_empty() {
            false => Ok(Some(Piece::Output(self.held.split().freeze()))),
            true if self.next.is_some() => Ok(self.next.take()),
            true => self.output.next().await,
        }
    }
}

/// It is one of [`FAULTS`], or may become one.
fn is_fault(bytes: &[u8]) -> bool {
    FAULTS.iter().any(|fault| {
        let length = bytes.len().min(fault.len());
        bytes[..length] == fault.as_bytes()[..length]
    })
}

/// What the engine sends, taken apart.
pub(super) struct Output {
    from: ReadHalf<TokioIo<Upgraded>>,
    is_terminal: bool,
    left: BytesMut,
    /// Of the chunk that is being read: its stream, and its bytes that are still to come.
    stream: u8,
    rest: usize,
}

impl Output {
    pub(super) fn of(from: ReadHalf<TokioIo<Upgraded>>, is_terminal: bool) -> Self {
        Self { from, is_terminal, left: BytesMut::new(), stream: 0, rest: 0 }
    }

    /// `None`: that was all.
    pub(super) async fn next(&mut self) -> io::Result<Option<Piece>> {
        loop {
            if let Some(piece) = self.cut()? {
                return Ok(Some(piece));
            }
            self.left.reserve(PIECE);
            if self.from.read_buf(&mut self.left).await? == 0 {
                return Ok(None);
            }
        }
    }

    fn cut(&mut self) -> io::Result<Option<Piece>> {
        if self.is_terminal {
            return Ok((!self.left.is_empty()).then(|| Piece::Output(self.left.split().freeze())));
        }
        while self.rest == 0 {
            let Some([stream, _, _, _, length @ ..]) = self.left.first_chunk::<HEAD>() else {
                return Ok(None);
            };
            if *stream > 2 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "no output of a container"));
            }
            (self.stream, self.rest) = (*stream, u32::from_be_bytes(*length) as usize);
            self.left.advance(HEAD);
        }
        let now = self.rest.min(self.left.len());
        self.rest -= now;
        let bytes: Bytes = self.left.split_to(now).freeze();
        Ok((now > 0).then(|| if self.stream == 2 { Piece::Errors(bytes) } else { Piece::Output(bytes) }))
    }
}
