//! Whoever is refused before their body was read is told so, also where they say all of it before they listen.
//!
//! A connection that is closed with something unread is reset, and the answer goes with it: such a client sees a
//! broken pipe instead of the reason. So what nobody reads is read and thrown away, as much and for as long as
//! [`crate::bounds`] says, while the answer is on its way. That holds no place but that of the connection.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::BoxError;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::bounds::{LINGER_BYTES_MAX, LINGER_IDLE, LINGER_TIMEOUT};

/// A body of a request. What is left of it when nobody wants it any more is thrown away as it comes.
pub(crate) struct Lingering<B: Left> {
    /// None: all of it was read, or it broke off.
    body: Option<B>,
}

/// A body that something can be left of.
pub(crate) trait Left: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static {}

impl<B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static> Left for B {}

impl<B: Left> Lingering<B> {
    pub(crate) fn new(body: B) -> Self {
        Self { body: Some(body) }
    }
}

impl<B: Left> Body for Lingering<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<B: Left> Drop for Lingering<B> {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream())
            && let Ok(runtime) = Handle::try_current()
        {
            // One for each connection at most: the next request on it comes behind this body.
            runtime.spawn(timeout(LINGER_TIMEOUT, thrown_away(body)));
        }
    }
}

/// Reads until the end, until nothing comes, or until it is too much. Then the connection is closed, whatever is on it.
async fn thrown_away(mut body: impl Left) {
    let mut left = LINGER_BYTES_MAX;
    while let Ok(Some(Ok(frame))) = timeout(LINGER_IDLE, body.frame()).await {
        let Some(less) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { break };
        left = less;
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use futures_util::stream;
    use http_body_util::StreamBody;
    use tokio::sync::oneshot;
    use tokio::time::{Instant, sleep_until};

    use super::*;

    const PART: usize = 1 << 20;

    /// A refused body that never ends and has a part each so often: how much of it was read, and for how long.
    async fn refused(pause: Duration) -> (usize, Duration) {
        let (read, (held, gone)) = (Arc::new(AtomicUsize::new(0)), oneshot::channel::<()>());
        let begun = Instant::now();
        let parts = stream::unfold((read.clone(), held), move |(read, held)| async move {
            sleep_until(Instant::now() + pause).await;
            read.fetch_add(PART, Ordering::Relaxed);
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'x'; PART]))), (read, held)))
        });
        drop(Lingering::new(StreamBody::new(Box::pin(parts))));
        assert!(gone.await.is_err());
        (read.load(Ordering::Relaxed), begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn so_much_is_thrown_away_and_for_so_long() {
        let (read, _) = refused(Duration::ZERO).await;
        assert_eq!(read, LINGER_BYTES_MAX + PART);
        let (read, after) = refused(Duration::from_secs(1)).await;
        assert!(read <= 10 * PART && after == LINGER_TIMEOUT, "{read} {after:?}");
        assert_eq!(refused(Duration::from_secs(3_600)).await, (0, LINGER_IDLE));
    }

    #[tokio::test]
    async fn what_was_read_to_its_end_leaves_nothing() {
        let mut body = Lingering::new(http_body_util::Full::new(Bytes::from_static(b"{}")));
        assert_eq!(body.size_hint().exact(), Some(2));
        assert_eq!((&mut body).collect().await.unwrap().to_bytes(), "{}");
        assert!(body.body.is_none());
    }
}
