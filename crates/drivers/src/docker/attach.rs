//! The standard streams of the first process of a container, over a connection that the engine gives away for it.
//!
//! Laws: whoever comes and goes changes nothing of the container. Its input stays open when that of whoever is here
//! has ended.

use std::io;
use std::pin::Pin;
use std::task::{self, Poll};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::AsyncWrite;
use tokio::sync::{oneshot, watch};
use upbeat_model::{Attempt, Exit, SlotId};

use super::session::{DETACH_KEYS, Output};
use super::wire::{Ask, part};
use super::{Engine, EngineError, words};
use crate::session::{Ended, Session, Window};

/// An engine that gives no more output has seen the end of the container, and says so within this; else it has let
/// go of whoever was attached.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// So long one request waits for the end; then it is asked anew.
const WAIT: Duration = Duration::from_secs(600);

/// What is wanted of the streams.
#[derive(Clone, Debug)]
pub struct Attach {
    /// To the container of which slot.
    pub slot: SlotId,
    /// Of which attempt.
    pub attempt: Attempt,
    /// What is typed goes in.
    pub input: bool,
    /// The size of the terminal that is there, for a container that has one.
    pub at: Option<Window>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Streams {
    #[serde(default)]
    tty: bool,
    #[serde(default)]
    open_stdin: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    config: Streams,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Waited {
    status_code: i64,
}

/// An end of what is written ends nothing: the engine takes that of a connection for the wish to hear no more.
struct StaysOpen<W>(W);

impl<W: AsyncWrite + Unpin> AsyncWrite for StaysOpen<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

impl Engine {
    /// Is given what the first process of a container prints from now on, and gives it input. Its end is that of
    /// the container; dropping it leaves the container alone.
    ///
    /// Errors: the attempt has ended; the container takes no input; the engine, in words.
    pub async fn attach(&self, asked: Attach) -> Result<Session, String> {
        let said = |error: EngineError| error.to_string();
        let container = self.container_of(&asked.slot, asked.attempt).map_err(said)?;
        let path = format!("/containers/{}", part(&container));
        let Inspected { config } =
            self.wire().answer(Ask::get(format!("{path}/json"))).await.map_err(said)?;
        let input = asked.input && config.open_stdin;
        let ask = Ask::post(format!("{path}/attach")).query("stream", "1").query("detachKeys", DETACH_KEYS);
        let ask = ask.query("stdin", if input { "1" } else { "0" }).query("stdout", "1").query("stderr", "1");
        let stream = self.wire().upgrade(ask).await.map_err(said)?;
        let (from, to) = tokio::io::split(TokioIo::new(stream));
        let output = Output::of(from, config.tty);
        let (over, is_over) = oneshot::channel::<()>();
        // Whoever drops the output has dropped all.
        let output = stream::unfold(Some((output, over)), async |state| {
            let (mut output, over) = state?;
            match output.next().await.transpose()? {
                Ok(piece) => Some((Ok(piece), Some((output, over)))),
                Err(error) => Some((Err(error), None)),
            }
        });
        let (window, sizes) = asked.at.filter(|_| config.tty).map(watch::channel).unzip();
        let engine = self.clone();
        let end = Box::pin(async move {
            let follows = async {
                match sizes {
                    Some(sizes) => engine.follow_size(&path, sizes).await,
                    None => std::future::pending().await,
                }
            };
            let silent = async {
                // Dropped with the output: nothing more comes.
                let _ = is_over.await;
                tokio::time::sleep(END_PATIENCE).await;
            };
            tokio::select! {
                ended = engine.await_end(&path) => ended,
                () = silent => Ended::Unable("the container engine has let go of it; it runs on".to_owned()),
                () = follows => Ended::Unable("its terminal is gone".to_owned()),
            }
        });
        let input: Box<dyn AsyncWrite + Send + Unpin> = match input {
            true => Box::new(StaysOpen(to)),
            false => Box::new(tokio::io::sink()),
        };
        Ok(Session { input, output: output.boxed(), window, end })
    }

    /// Until the container has ended.
    async fn await_end(&self, path: &str) -> Ended {
        loop {
            let ask = Ask::post(format!("{path}/wait")).query("condition", "not-running").patience(WAIT);
            match self.wire().answer::<Waited>(ask).await.map(|waited| i32::try_from(waited.status_code)) {
                Ok(Ok(code)) => return Ended::Exit(Exit::Code(code)),
                Ok(Err(_)) => {
                    return Ended::Unable("the container engine did not say how it ended".to_owned());
                }
                Err(EngineError::Slow { .. }) => {}
                Err(EngineError::Said { message, .. }) => return Ended::Unable(words::tidy(&message)),
                Err(error) => return Ended::Unable(error.to_string()),
            }
        }
    }
}
