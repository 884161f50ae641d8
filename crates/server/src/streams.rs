//! Streams as bodies: server-sent events for what changes, newline-delimited JSON for logs.
//!
//! Laws: a body is made only as fast as it is read, and holds one item or one batch at a time, so
//! a reader that is slow costs nothing. Where only the last state matters, it misses those between;
//! where each item matters, its source waits. Every body says that it ends, and why, before it
//! does; also where its source has failed. When the reader goes, the source is dropped.

use std::collections::BTreeMap;
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::header;
use axum::response::sse::{Event as Frame, Sse};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::Fuse;
use futures_util::{Stream, StreamExt, stream};
use hyper::body::{Body as HttpBody, SizeHint};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;
use upbeat_api::{End, EndReason, Event, Problem, ProblemKind, TokenName};

use crate::backend::{Answer, BoxStream};
use crate::bounds::{COALESCED_MAX, LOG_BATCH, STATES_PAUSE_MAX, STATES_SHARE, STREAMS_OF_TOKEN_MAX};

const LINES: &str = "application/x-ndjson";

/// A body that holds something until it was told, or nobody reads it any more.
pub(crate) struct Holding<T> {
    body: Body,
    _held: T,
}

impl<T> Holding<T> {
    pub(crate) fn new(body: Body, held: T) -> Self {
        Self { body, _held: held }
    }
}

impl<T: Unpin> HttpBody for Holding<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How many streams each token has open: as many entries as there are streams.
#[derive(Clone, Default)]
pub(crate) struct OpenStreams(Arc<Mutex<BTreeMap<TokenName, usize>>>);

impl OpenStreams {
    /// One more of this token, until it is dropped. Errors: there are as many as there may be.
    pub(crate) fn open(&self, of: &TokenName) -> Result<OpenStream, Problem> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(of.clone()).or_default();
        if *count >= STREAMS_OF_TOKEN_MAX {
            let message = format!("token {of} has {count} streams open, which is as many as there may be");
            return Err(Problem::new(ProblemKind::Unavailable, message)
                .with_hint("end some, such as `logs -f`; or give each program a token of its own"));
        }
        *count += 1;
        Ok(OpenStream { all: self.clone(), of: of.clone() })
    }
}

/// One stream.
pub(crate) struct OpenStream {
    all: OpenStreams,
    of: TokenName,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut counts = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.of);
            }
        }
    }
}

/// Knows when the daemon is about to end.
#[derive(Clone, Debug)]
pub(crate) struct Closing(Option<watch::Receiver<bool>>);

impl Closing {
    /// Never.
    pub(crate) fn never() -> Self {
        Self(None)
    }

    /// When the sender says `true`, or is gone.
    pub(crate) fn told_by(sender: &watch::Sender<bool>) -> Self {
        Self(Some(sender.subscribe()))
    }

    pub(crate) async fn closing(&mut self) {
        match &mut self.0 {
            // An error says that the server is gone: that is closing, too.
            Some(told) => drop(told.wait_for(|closing| *closing).await),
            None => pending().await,
        }
    }
}

/// States, of which only the last counts.
pub(crate) fn states<T>(name: &'static str, states: BoxStream<T>, closing: Closing) -> Response
where
    T: Serialize + Send + 'static,
{
    events_of(with_end(latest(states).map(Ok), closing), move |state| {
        Frame::default().event(name).json_data(state)
    })
}

/// Events, of which each counts; the id of each is its sequence number.
pub(crate) fn events(events: BoxStream<Answer<Event>>, closing: Closing) -> Response {
    events_of(with_end(events, closing), |event| {
        Frame::default().event("event").id(event.sequence.to_string()).json_data(event)
    })
}

/// Lines of output, and what else each counts of, as newline-delimited JSON: they are many.
pub(crate) fn lines<T: Serialize + Send + 'static>(
    lines: BoxStream<Answer<T>>,
    closing: Closing,
) -> Response {
    let body = with_end(batches(lines), closing).map(|told| match told {
        Told::Item(batch) => Ok(batch),
        Told::End(end) => json_line(Vec::new(), &end).map(Bytes::from),
    });
    ([(header::CONTENT_TYPE, LINES)], Body::from_stream(body)).into_response()
}

/// Whether an answer is one of these.
pub(crate) fn is_stream(answer: &Response) -> bool {
    let kind = answer.headers().get(header::CONTENT_TYPE).map(header::HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"text/event-stream") || kind.starts_with(LINES.as_bytes()))
}

/// What a body tells next.
enum Told<T> {
    Item(T),
    End(End),
}

/// The items and then the reason why there are no more.
fn with_end<T: Send>(
    items: impl Stream<Item = Answer<T>> + Send + Unpin + 'static,
    closing: Closing,
) -> impl Stream<Item = Told<T>> + Send {
    stream::unfold(Some((items, closing)), |going| async {
        let (mut items, mut closing) = going?;
        tokio::select! {
            biased;
            () = closing.closing() => Some((Told::End(EndReason::ShuttingDown.into()), None)),
            item = items.next() => match item {
                Some(Ok(item)) => Some((Told::Item(item), Some((items, closing)))),
                Some(Err(problem)) => Some((Told::End(problem.into()), None)),
                None => Some((Told::End(EndReason::Complete.into()), None)),
            }
        }
    })
}

fn events_of<T: Send + 'static>(
    told: impl Stream<Item = Told<T>> + Send + 'static,
    frame: impl Fn(&T) -> Result<Frame, axum::Error> + Send + 'static,
) -> Response {
    // No keep-alive: the kernel says at once when the other end of a unix socket is gone.
    Sse::new(told.map(move |told| match told {
        Told::Item(item) => frame(&item),
        Told::End(end) => Frame::default().event("end").json_data(end),
    }))
    .into_response()
}

/// Of what is there at once, the last; then a pause, as long as it took to be told several times.
fn latest<T: Send + 'static>(states: BoxStream<T>) -> impl Stream<Item = T> + Send + Unpin {
    let begun = (states.fuse(), None::<Instant>);
    Box::pin(stream::unfold(begun, async |(mut states, told)| {
        if let Some(told) = told {
            // Until now it was written down, and waited for a reader.
            let cost = told.elapsed();
            tokio::time::sleep((cost * (STATES_SHARE - 1)).min(STATES_PAUSE_MAX)).await;
        }
        let last = poll_fn(|cx| last_of(&mut states, cx)).await?;
        Some((last, (states, Some(Instant::now()))))
    }))
}

fn last_of<T>(states: &mut Fuse<BoxStream<T>>, cx: &mut Context<'_>) -> Poll<Option<T>> {
    let mut last = None;
    for _ in 0..COALESCED_MAX {
        match states.poll_next_unpin(cx) {
            Poll::Ready(Some(state)) => last = Some(state),
            Poll::Ready(None) => return Poll::Ready(last),
            Poll::Pending if last.is_none() => return Poll::Pending,
            Poll::Pending => break,
        }
    }
    Poll::Ready(last)
}

/// Of what is there at once, as much as fits.
fn batches<T: Serialize + Send + 'static>(
    lines: BoxStream<Answer<T>>,
) -> impl Stream<Item = Answer<Bytes>> + Send + Unpin {
    let mut lines = lines.fuse();
    let mut failed = None;
    stream::poll_fn(move |cx| {
        if let Some(problem) = failed.take() {
            return Poll::Ready(Some(Err(problem)));
        }
        let mut batch = Vec::new();
        while batch.len() < LOG_BATCH {
            match lines.poll_next_unpin(cx) {
                Poll::Ready(Some(line)) => match line.and_then(|line| written(&mut batch, &line)) {
                    Ok(()) => {}
                    Err(problem) if batch.is_empty() => return Poll::Ready(Some(Err(problem))),
                    // After what came before it.
                    Err(problem) => {
                        failed = Some(problem);
                        break;
                    }
                },
                Poll::Ready(None) if batch.is_empty() => return Poll::Ready(None),
                Poll::Pending if batch.is_empty() => return Poll::Pending,
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Poll::Ready(Some(Ok(batch.into())))
    })
}

fn written(batch: &mut Vec<u8>, line: &impl Serialize) -> Answer<()> {
    *batch = json_line(std::mem::take(batch), line).map_err(|error| {
        Problem::new(ProblemKind::Internal, format!("a line cannot be written down: {error}"))
    })?;
    Ok(())
}

fn json_line(mut to: Vec<u8>, value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    serde_json::to_writer(&mut to, value)?;
    to.push(b'\n');
    Ok(to)
}
