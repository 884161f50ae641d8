//! How many bytes of large bodies and answers about rollouts are in the making at once.
//!
//! A report and an answer about all targets of an entity may have tens of MiB, and there are hundreds of places for
//! whoever asks. Each door has its own room, so that whoever fills that of one keeps nobody out elsewhere.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use upbeat_api::{Problem, ProblemKind};

use crate::bounds::{ANSWERS_BYTES_MAX, BODIES_BYTES_MAX, ROOM_FRAME, ROOM_WAIT, SMALL_BYTES};
use crate::refusal::Refusal;

/// Of one door.
#[derive(Clone)]
pub(crate) struct Rooms {
    bodies: Room,
    answers: Room,
}

/// For so many bytes, in KiB.
#[derive(Clone)]
struct Room {
    left: Arc<Semaphore>,
    whole: u32,
}

/// A place for so many bytes. Small ones need none.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Held until this is dropped.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Default for Rooms {
    fn default() -> Self {
        Self { bodies: Room::of(BODIES_BYTES_MAX), answers: Room::of(ANSWERS_BYTES_MAX) }
    }
}

fn kibi(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX)
}

impl Room {
    fn of(bytes: u64) -> Self {
        let whole = kibi(bytes);
        Self { left: Arc::new(Semaphore::new(whole as usize)), whole }
    }

    /// Errors: there was no place in time.
    async fn take(&self, bytes: u64, what: &str) -> Result<Taken, Refusal> {
        if bytes <= SMALL_BYTES {
            return Ok(Taken::default());
        }
        // What is larger than all there is has it alone.
        let taking = self.left.clone().acquire_many_owned(kibi(bytes).min(self.whole));
        match tokio::time::timeout(ROOM_WAIT, taking).await {
            Ok(Ok(permit)) => Ok(Taken { _permit: Some(permit) }),
            // It is never closed.
            Ok(Err(_)) | Err(_) => {
                let message = format!("too many large {what} about rollouts are under way");
                let problem = Problem::new(ProblemKind::Unavailable, message);
                Err(Refusal::from(problem.with_hint("try again later")).with_retry_after(ROOM_WAIT))
            }
        }
    }
}

impl Rooms {
    /// For the body of this request, until it was understood and handed on.
    pub(crate) fn for_body<B: Body>(
        request: &Request<B>,
        most: usize,
    ) -> impl Future<Output = Result<Taken, Refusal>> + Send + use<B> {
        let (most, hint) = (most as u64, request.body().size_hint());
        // Whoever does not say takes the most there may be.
        let bytes = hint.exact().unwrap_or(most).min(most);
        let rooms = request.extensions().get::<Self>().cloned();
        async move {
            match rooms {
                Some(rooms) => rooms.bodies.take(bytes * PARSED, "reports").await,
                None => Ok(Taken::default()),
            }
        }
    }

    /// For an answer of about so many bytes, until it was taken.
    pub(crate) async fn for_answer(&self, bytes: u64) -> Result<Taken, Refusal> {
        self.answers.take(bytes * MADE, "answers").await
    }
}

/// A report is held as it came, as it was read, and as it is taken down.
const PARSED: u64 = 3;

/// An answer is held as what it tells, and as it is written.
const MADE: u64 = 2;

impl Taken {
    /// What is answered, as JSON. It has its place until it was taken, or nobody wants it any more.
    pub(crate) fn answer(self, said: &impl Serialize) -> Response {
        let Ok(json) = serde_json::to_vec(said) else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        let body = axum::body::Body::new(Held { left: json.into(), _taken: self });
        ([(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

/// In parts, so that it is there until the last of them is on its way.
struct Held {
    left: Bytes,
    _taken: Taken,
}

impl Body for Held {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let size = self.left.len().min(ROOM_FRAME);
        let part = self.left.split_to(size);
        Poll::Ready((!part.is_empty()).then(|| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn large_answers_wait_for_each_other_and_not_for_ever() {
        let rooms = Rooms::default();
        let large = ANSWERS_BYTES_MAX;
        let first = rooms.for_answer(large).await.unwrap();
        let small = rooms.for_answer(SMALL_BYTES / MADE).await.unwrap();
        assert!(small._permit.is_none(), "what is small waits for nobody");
        let refused = rooms.for_answer(SMALL_BYTES).await.unwrap_err().into_response();
        assert_eq!(refused.status(), 503);
        assert_eq!(refused.headers()["retry-after"], "5");
        let text = "x".repeat(3 * ROOM_FRAME);
        let mut body = first.answer(&text).into_body();
        assert_eq!(body.size_hint().exact(), Some(text.len() as u64 + 2));
        // Somebody takes it slowly.
        for _ in 0..3 {
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().len(), ROOM_FRAME);
            assert!(rooms.for_answer(SMALL_BYTES).await.is_err());
        }
        drop(body);
        let _next = rooms.for_answer(large).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_say_how_large_a_body_is_takes_the_most() {
        let rooms = Rooms::default();
        let request = |body: axum::body::Body| {
            let mut request = Request::new(body);
            request.extensions_mut().insert(rooms.clone());
            request
        };
        let most = usize::try_from(BODIES_BYTES_MAX / PARSED).unwrap();
        let unsaid =
            request(axum::body::Body::new(axum::body::Body::from_stream(futures_util::stream::pending::<
                Result<Bytes, std::io::Error>,
            >())));
        let taken = Rooms::for_body(&unsaid, most).await.unwrap();
        let said = request(vec![b'x'; 1 << 20].into());
        assert!(Rooms::for_body(&said, most).await.is_err());
        assert!(Rooms::for_body(&request("{}".into()), most).await.is_ok());
        drop(taken);
        assert!(Rooms::for_body(&said, most).await.is_ok());
    }
}
