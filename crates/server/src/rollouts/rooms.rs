//! Room for large bodies and answers about rollouts: how many bytes of them are in the making at once, and who makes
//! them.
//!
//! A report and an answer about all targets of an entity may have tens of MiB, and there are hundreds of places for
//! whoever asks. Laws:
//! * Nothing is decided that cannot be told: the place for the answer of a controller is taken before it is decided.
//!   Where somebody else has to be asked first, who may be silent for long, it is taken to see that there is one, let
//!   go of, and waited for again, for as long as that takes: what was decided is told to whoever still listens.
//! * A place for a body comes before one for an answer, and nobody who has the second waits for the first: so nobody
//!   waits in a circle.
//! * Whoever has a place goes on at a pace ([`crate::pace`]), or loses it and the connection.
//! * What is large is read, checked and written on other threads than the one that answers requests.
//!
//! Who can keep whom out: at one door, those who send large bodies at that pace keep out others who do, and those who
//! take large answers keep out others who report; with places for two or three of the largest that is for half a
//! minute at most, and who is refused is refused before anything was taken down. Who only looks has a room apart, and
//! keeps out no controller. Nobody keeps anybody out at another door: at the one without tokens every program of the
//! machine may crowd it, and neither those with a token nor those on the socket notice. What is small waits for
//! nobody.

use std::panic::resume_unwind;
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

use super::Foreseen;
use crate::bounds::{
    ANSWERS_BYTES_MAX, ASIDE_AT_ONCE, ASIDE_BYTES, BODIES_BYTES_MAX, LOOKS_BYTES_MAX, ROOM_FRAME, ROOM_WAIT,
    SMALL_BYTES,
};
use crate::refusal::Refusal;

/// Of one door.
#[derive(Clone)]
pub(crate) struct Rooms {
    bodies: Room,
    answers: Room,
    looks: Room,
    aside: Aside,
}

/// For so many bytes, in KiB.
#[derive(Clone)]
struct Room {
    left: Arc<Semaphore>,
    whole: u32,
}

/// Other threads, so many at once.
#[derive(Clone, Debug)]
struct Aside(Arc<Semaphore>);

/// A place for so many bytes. Small ones need none.
#[derive(Debug)]
pub(crate) struct Taken {
    /// Held until this is dropped.
    permit: Option<OwnedSemaphorePermit>,
    /// About so many it is.
    bytes: u64,
    aside: Aside,
}

/// A place for what will be decided.
#[derive(Debug)]
pub(crate) enum Promised {
    /// It is held.
    Held(Taken),
    /// There was one for so many bytes, and will be again: somebody else is asked meanwhile.
    Again(u64),
}

impl Default for Rooms {
    fn default() -> Self {
        Self {
            bodies: Room::of(BODIES_BYTES_MAX),
            answers: Room::of(ANSWERS_BYTES_MAX),
            looks: Room::of(LOOKS_BYTES_MAX),
            aside: Aside::default(),
        }
    }
}

fn kibi(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX)
}

/// So much room is waited for: what is small needs none.
fn needed(bytes: u64) -> u32 {
    match bytes <= SMALL_BYTES {
        true => 0,
        false => kibi(bytes),
    }
}

impl Room {
    fn of(bytes: u64) -> Self {
        let whole = kibi(bytes);
        Self { left: Arc::new(Semaphore::new(whole as usize)), whole }
    }

    /// A place, in the order in which they were asked for. None: what is small needs none.
    async fn wait(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        match needed(bytes) {
            0 => None,
            // What is larger than all there is has it alone. An error is that it was closed, which it never is.
            many => self.left.clone().acquire_many_owned(many.min(self.whole)).await.ok(),
        }
    }

    /// Errors: there was no place in time.
    async fn take(&self, bytes: u64, what: &str) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
        tokio::time::timeout(ROOM_WAIT, self.wait(bytes)).await.map_err(|_| {
            let message = format!("too many large {what} about rollouts are under way");
            Problem::new(ProblemKind::Unavailable, message)
                .with_hint("nothing was done; try again later")
                .into()
        })
    }
}

impl Default for Aside {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ASIDE_AT_ONCE)))
    }
}

impl Aside {
    /// Errors: all of this ends.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
        let ends = || Problem::new(ProblemKind::Unavailable, "the daemon is about to end");
        let place = self.0.clone().acquire_owned().await.map_err(|_| ends())?;
        let working = tokio::task::spawn_blocking(move || {
            let done = work();
            // Also where nobody waits for it any more: it is so long that there are no more.
            drop(place);
            done
        });
        match working.await {
            Ok(done) => Ok(done),
            // A bug is told where all bugs of handlers are.
            Err(failed) if failed.is_panic() => resume_unwind(failed.into_panic()),
            Err(_) => Err(ends().into()),
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
        let rooms = request.extensions().get::<Self>().cloned().unwrap_or_default();
        async move {
            let permit = rooms.bodies.take(bytes * PARSED, "reports").await?;
            Ok(Taken { permit, bytes, aside: rooms.aside })
        }
    }

    /// Nothing large is read or written while these are held.
    #[cfg(test)]
    pub(crate) fn all_turns(&self) -> Vec<OwnedSemaphorePermit> {
        std::iter::from_fn(|| self.aside.0.clone().try_acquire_owned().ok()).collect()
    }

    /// For an answer to somebody who only looks, until it was taken.
    pub(crate) async fn to_look(&self, Foreseen { bytes, .. }: Foreseen) -> Result<Taken, Refusal> {
        let permit = self.looks.take(bytes * MADE, "answers").await?;
        Ok(Taken { permit, bytes, aside: self.aside.clone() })
    }

    /// For the answer to a controller, which also tells of so many bytes that it reports; before it is decided.
    pub(crate) async fn promise(
        &self,
        Foreseen { bytes, asks }: Foreseen,
        more: u64,
    ) -> Result<Promised, Refusal> {
        let bytes = bytes + more;
        let permit = self.answers.take(bytes * MADE, "answers").await?;
        Ok(match asks && permit.is_some() {
            true => Promised::Again(bytes),
            false => Promised::Held(Taken { permit, bytes, aside: self.aside.clone() }),
        })
    }

    /// It was decided: the place for the answer, until that was taken.
    pub(crate) async fn promised(&self, promised: Promised) -> Taken {
        match promised {
            Promised::Held(taken) => taken,
            Promised::Again(bytes) => {
                let permit = self.answers.wait(bytes * MADE).await;
                Taken { permit, bytes, aside: self.aside.clone() }
            }
        }
    }
}

/// A report is held as it came, as it was read, and as it is taken down.
const PARSED: u64 = 3;

/// An answer is held as what it tells, and as it is written.
const MADE: u64 = 2;

/// An answer has a place that others wait for: it is to be taken at a pace.
#[derive(Clone, Copy)]
pub(crate) struct IsLarge;

impl Taken {
    /// Others may wait for it.
    pub(crate) fn is_held(&self) -> bool {
        self.permit.is_some()
    }

    /// A body turned out to be so many bytes, whatever was foreseen: what it does not need is free for others.
    pub(crate) fn came_to(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        let needed = needed(bytes * PARSED) as usize;
        if let Some(held) = &mut self.permit {
            drop(held.split(held.num_permits().saturating_sub(needed)));
            if held.num_permits() == 0 {
                self.permit = None;
            }
        }
        self
    }

    /// Does something with what has this place: where that is large, on another thread.
    pub(crate) async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        match self.bytes > ASIDE_BYTES {
            true => self.aside.run(work).await,
            false => Ok(work()),
        }
    }

    /// What is answered, as JSON. It has its place until it was taken, or nobody wants it any more.
    pub(crate) async fn answer<T: Serialize>(
        self,
        say: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Response, Refusal> {
        let Ok(json) = self.aside(move || serde_json::to_vec(&say())).await? else {
            return Ok(StatusCode::INTERNAL_SERVER_ERROR.into_response());
        };
        let is_held = self.is_held();
        let body = axum::body::Body::new(Held { left: json.into(), _taken: self });
        let mut answer = ([(header::CONTENT_TYPE, "application/json")], body).into_response();
        if is_held {
            answer.extensions_mut().insert(IsLarge);
        }
        Ok(answer)
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

    fn of(bytes: u64) -> Foreseen {
        Foreseen { bytes, asks: false }
    }

    async fn held(rooms: &Rooms, bytes: u64) -> Result<Taken, Refusal> {
        Ok(rooms.promised(rooms.promise(of(bytes), 0).await?).await)
    }

    #[tokio::test(start_paused = true)]
    async fn large_answers_wait_for_each_other_and_not_for_ever() {
        let rooms = Rooms::default();
        let large = ANSWERS_BYTES_MAX;
        let first = held(&rooms, large).await.unwrap();
        let small = held(&rooms, SMALL_BYTES / MADE).await.unwrap();
        assert!(!small.is_held(), "what is small waits for nobody");
        let refused = rooms.promise(of(SMALL_BYTES / MADE), 1_024).await.unwrap_err().into_response();
        assert_eq!(refused.status(), 503, "what is reported counts");
        assert_eq!(refused.headers()["retry-after"], "5");
        let _look = rooms.to_look(of(large)).await.expect("who looks has another room");
        assert!(rooms.to_look(of(SMALL_BYTES)).await.is_err(), "and fills it");
        let text = "x".repeat(3 * ROOM_FRAME);
        let answer = first.answer(move || text).await.unwrap();
        assert!(answer.extensions().get::<IsLarge>().is_some());
        let mut body = answer.into_body();
        assert_eq!(body.size_hint().exact(), Some(3 * ROOM_FRAME as u64 + 2));
        // Somebody takes it slowly.
        for _ in 0..3 {
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().len(), ROOM_FRAME);
            assert!(held(&rooms, SMALL_BYTES).await.is_err());
        }
        drop(body);
        let _next = held(&rooms, large).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn while_somebody_else_is_asked_no_place_is_held_and_what_was_decided_is_told_however_late() {
        let rooms = Rooms::default();
        let asks = Foreseen { bytes: ANSWERS_BYTES_MAX, asks: true };
        let promised = rooms.promise(asks, 0).await.unwrap();
        let other = held(&rooms, ANSWERS_BYTES_MAX).await.expect("nothing is held meanwhile");
        assert!(rooms.promise(asks, 0).await.is_err(), "and nothing is decided where there is no room");
        let mut told = std::pin::pin!(rooms.promised(promised));
        assert!(tokio::time::timeout(10 * ROOM_WAIT, &mut told).await.is_err());
        drop(other);
        assert!(told.await.is_held());
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

    #[tokio::test(start_paused = true)]
    async fn what_a_body_of_unsaid_length_does_not_need_is_given_back_when_it_was_read() {
        let most = 16 << 20;
        for (bytes, kept) in [
            (0, 0),
            (SMALL_BYTES / PARSED, 0),
            (SMALL_BYTES / PARSED + 1, SMALL_BYTES / 1_024 + 1),
            (5 << 20, 15 << 10),
            (most, (PARSED * most) / 1_024),
        ] {
            let rooms = Rooms::default();
            let left = || rooms.bodies.left.available_permits() as u64;
            let whole = left();
            let (inside, parts) = tokio::sync::mpsc::channel(1);
            let parts = futures_util::stream::unfold(parts, |mut parts| async {
                let part: Option<Bytes> = parts.recv().await;
                part.map(|part| (Ok::<_, std::io::Error>(part), parts))
            });
            let mut request = Request::new(axum::body::Body::from_stream(parts));
            request.extensions_mut().insert(rooms.clone());
            let mut reading = std::pin::pin!(crate::extract::large(request, most as usize));
            let soon = std::time::Duration::from_secs(1);
            assert!(tokio::time::timeout(soon, &mut reading).await.is_err());
            assert_eq!(whole - left(), PARSED * most / 1_024, "it may become the largest");
            inside.send(vec![b'x'; bytes as usize].into()).await.unwrap();
            drop(inside);
            let (body, taken) = reading.await.unwrap();
            assert_eq!((body.len() as u64, whole - left()), (bytes, kept));
            assert_eq!(taken.is_held(), kept > 0);
            drop(taken);
            assert_eq!(left(), whole, "{bytes}");
        }
    }

    #[tokio::test]
    async fn what_is_large_has_its_turn_on_another_thread_and_what_is_small_is_done_here() {
        let rooms = Rooms::default();
        let here = std::thread::current().id();
        let thread = || std::thread::current().id();
        let (small, large) = (of(ASIDE_BYTES), of(ASIDE_BYTES + 1));
        let small = rooms.to_look(small).await.unwrap();
        let large = rooms.to_look(large).await.unwrap();
        assert_ne!(large.aside(thread).await.unwrap(), here);
        let _all = rooms.aside.0.clone().acquire_many_owned(ASIDE_AT_ONCE as u32).await.unwrap();
        assert_eq!(small.aside(thread).await.unwrap(), here);
        tokio::select! {
            biased;
            thread = large.aside(thread) => panic!("one more than there may be at once: {thread:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
}
