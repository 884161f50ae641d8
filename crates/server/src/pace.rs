//! How fast something large has to go on where it holds a place that others wait for.
//!
//! A place is held by whoever sends a large body, and by whoever takes a large answer. Both have to move something at
//! least every [`STALL_TIMEOUT`], and on the whole [`LEAST_RATE`]: who stands still loses the place before those who
//! wait for it give up, and who trickles holds it for seconds and not for hours.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::BoxError;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::bounds::{LEAST_RATE, STALL_TIMEOUT};

/// How far something came.
pub(crate) struct Pace {
    began: Instant,
    last: Instant,
    moved: u64,
    /// Until when more has to move.
    over: Pin<Box<Sleep>>,
}

impl Pace {
    /// Nothing has moved yet.
    pub(crate) fn begins() -> Self {
        let now = Instant::now();
        Self { began: now, last: now, moved: 0, over: Box::pin(sleep_until(now + STALL_TIMEOUT)) }
    }

    /// So many bytes more.
    pub(crate) fn moved(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        (self.moved, self.last) = (self.moved + bytes as u64, Instant::now());
        let for_all = Duration::from_millis(self.moved.saturating_mul(1_000) / LEAST_RATE);
        let until = (self.last + STALL_TIMEOUT).min(self.began + STALL_TIMEOUT + for_all);
        self.over.as_mut().reset(until);
    }

    /// Nothing moves just now: ready when that was so for too long.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.over.as_mut().poll(cx)
    }
}

/// A body that did not come fast enough.
#[derive(Debug)]
pub(crate) struct Stalled;

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (stall, rate) = (STALL_TIMEOUT.as_secs(), LEAST_RATE >> 10);
        write!(f, "the body came too slowly: nothing of it for {stall} s, or less than {rate} KiB a second")
    }
}

impl std::error::Error for Stalled {}

/// A body that has to come at that pace. Ends with [`Stalled`] where it does not.
pub(crate) struct Paced<B> {
    body: B,
    pace: Pace,
}

impl<B> Paced<B> {
    pub(crate) fn new(body: B) -> Self {
        Self { body, pace: Pace::begins() }
    }
}

impl<B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin> Body for Paced<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                if let Some(Ok(frame)) = &frame {
                    self.pace.moved(frame.data_ref().map_or(0, Bytes::len));
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => {
                ready!(self.pace.poll_over(cx));
                Poll::Ready(Some(Err(Stalled.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{StreamExt, stream};
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    /// So many bytes each after so long; what came of that, and when.
    async fn body_of(parts: Vec<(Duration, usize)>) -> (Result<usize, BoxError>, Duration) {
        let begun = Instant::now();
        let frames = stream::iter(parts).then(async |(pause, bytes)| {
            sleep_until(Instant::now() + pause).await;
            Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'x'; bytes])))
        });
        let read = Paced::new(StreamBody::new(Box::pin(frames))).collect().await;
        (read.map(|read| read.to_bytes().len()), begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_on_has_its_time_and_what_stands_still_or_trickles_has_not() {
        let rate = usize::try_from(LEAST_RATE).unwrap();
        let second = Duration::from_secs(1);
        let (read, after) = body_of(vec![(second, rate); 60]).await;
        assert_eq!((read.unwrap(), after), (60 * rate, 60 * second));
        // A pause of almost as long as may be.
        let (read, _) = body_of(vec![(second, 20 * rate), (STALL_TIMEOUT - second, 1)]).await;
        assert_eq!(read.unwrap(), 20 * rate + 1);
        // Nothing at all; and nothing any more, where what was fast before is no excuse.
        for parts in [vec![(3_600 * second, 1)], vec![(Duration::ZERO, 100 * rate), (3_600 * second, 1)]] {
            let (read, after) = body_of(parts).await;
            assert!(read.unwrap_err().is::<Stalled>());
            assert_eq!(after, STALL_TIMEOUT);
        }
        // A little again and again.
        let (read, after) = body_of(vec![(second, rate / 100); 3_600]).await;
        assert!(read.unwrap_err().is::<Stalled>());
        assert!(after >= STALL_TIMEOUT && after < STALL_TIMEOUT * 3 / 2, "{after:?}");
    }
}
