//! A place at a door: what it is used for, and when it is given back.
//!
//! Laws: somebody is being answered until the last byte of the answer has left, not until it stands
//! ready: hyper lets go of a body once all of it is in its own buffer, which may be megabytes. Whoever
//! takes an answer too slowly may lose the place to a newcomer after [`TAKEN_TIMEOUT`]; and who takes a large one
//! slower than [`crate::pace`] says, the connection, as others wait for the room it takes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

use crate::admission::{Crowd, Full, Peer, Standing};
use crate::bounds::TAKEN_TIMEOUT;
use crate::pace::Pace;

/// All of a door.
pub(crate) type Places = Arc<Mutex<Crowd<oneshot::Sender<()>>>>;

/// Given back when it is dropped.
pub(crate) struct Place {
    pub(crate) seat: Seat,
    lost: oneshot::Receiver<()>,
}

impl Place {
    /// One of these, if there is one or somebody loses theirs.
    pub(crate) fn among(places: &Places, peer: Peer, standing: Standing) -> Result<Self, Full> {
        let (hold, lost) = oneshot::channel();
        let number = places.lock().unwrap_or_else(PoisonError::into_inner).enter(peer, standing, hold)?;
        Ok(Self { seat: Seat { places: places.clone(), number, answers: Arc::default() }, lost })
    }

    /// Until it was given to somebody else.
    pub(crate) async fn lost(&mut self) {
        // Nothing is ever sent: the sender goes with the place.
        let _ = (&mut self.lost).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.seat.with(|crowd, number| crowd.leave(number));
    }
}

/// The answers of one place.
#[derive(Default)]
struct Answers {
    /// Those that are being made, or told.
    under_way: AtomicUsize,
    /// One was told, and may not have left yet.
    is_told: AtomicBool,
    /// One that is told holds room that others wait for.
    is_large: AtomicBool,
}

/// Says what a place is used for.
#[derive(Clone)]
pub(crate) struct Seat {
    places: Places,
    number: u64,
    answers: Arc<Answers>,
}

impl Seat {
    fn with<T>(&self, look: impl FnOnce(&mut Crowd<oneshot::Sender<()>>, u64) -> T) -> T {
        look(&mut self.places.lock().unwrap_or_else(PoisonError::into_inner), self.number)
    }

    /// It is known who asks, and they are being answered. Does not return where the place was given to
    /// somebody else in this moment: nothing may be begun on it any more.
    pub(crate) async fn is_busy(&self) {
        if !self.with(|crowd, number| crowd.is_now(number, Standing::Busy)) {
            std::future::pending().await
        }
    }

    /// What is being answered has no end.
    pub(crate) fn streams(&self) -> Result<(), Full> {
        self.with(Crowd::streams)
    }

    /// Something is being answered, until this is dropped and the answer has left.
    pub(crate) fn answering(&self) -> Answering {
        self.answers.under_way.fetch_add(1, Ordering::Relaxed);
        Answering(self.clone())
    }

    /// What is being told holds room that others wait for.
    fn is_large(&self) -> bool {
        self.answers.is_large.load(Ordering::Relaxed)
    }

    /// Nothing is under way but what stands in the connection's buffer.
    fn is_leaving(&self) -> bool {
        self.answers.under_way.load(Ordering::Relaxed) == 0 && self.answers.is_told.load(Ordering::Relaxed)
    }

    /// All that was told has left, or was not taken for too long.
    fn is_free(&self) {
        self.answers.is_told.store(false, Ordering::Relaxed);
        // Who has proved nothing has still proved nothing.
        self.with(|crowd, number| {
            if crowd.standing(number).is_some_and(|standing| standing >= Standing::Busy) {
                crowd.is_now(number, Standing::Idle);
            }
        });
    }
}

/// Held while something is answered.
pub(crate) struct Answering(Seat);

impl Answering {
    /// It holds room that others wait for, until this is dropped. One connection tells one answer at a time.
    pub(crate) fn is_large(&self) {
        self.0.answers.is_large.store(true, Ordering::Relaxed);
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answers.is_large.store(false, Ordering::Relaxed);
        self.0.answers.is_told.store(true, Ordering::Relaxed);
        self.0.answers.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that tells its place when an answer has left. It relies on hyper's flushing it only
/// when nothing is left in hyper's own buffer.
pub(crate) struct Leaving<S> {
    stream: S,
    seat: Seat,
    /// Until an answer that does not leave is protected.
    until: Option<Pin<Box<Sleep>>>,
    /// How fast a large one leaves.
    pace: Option<Pace>,
}

impl<S> Leaving<S> {
    pub(crate) fn new(stream: S, seat: Seat) -> Self {
        Self { stream, seat, until: None, pace: None }
    }

    /// The other end takes nothing just now.
    fn waits(&mut self, cx: &mut Context<'_>) {
        if self.seat.is_leaving()
            && self.until.get_or_insert_with(|| Box::pin(sleep(TAKEN_TIMEOUT))).as_mut().poll(cx).is_ready()
        {
            self.until = None;
            self.seat.is_free();
        }
    }

    /// So many bytes have left, or none just now. Errors: it is a large answer, and that is too slow.
    fn left(&mut self, bytes: Poll<usize>, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.seat.is_large() {
            self.pace = None;
            return Ok(());
        }
        let pace = self.pace.get_or_insert_with(Pace::begins);
        match bytes {
            Poll::Ready(bytes) => pace.moved(bytes),
            Poll::Pending if pace.poll_over(cx).is_pending() => {}
            Poll::Pending => {
                let why = "a large answer was not taken fast enough, and others wait for its place";
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
        }
        Ok(())
    }

    /// What came of writing.
    fn written(&mut self, written: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if written.is_pending() {
            self.waits(cx);
        }
        let bytes = match &written {
            Poll::Ready(Err(_)) => return written,
            Poll::Ready(Ok(bytes)) => Poll::Ready(*bytes),
            Poll::Pending => Poll::Pending,
        };
        match self.left(bytes, cx) {
            Ok(()) => written,
            Err(slow) => Poll::Ready(Err(slow)),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Leaving<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, to)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Leaving<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.written(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        match flushed {
            Poll::Pending => {
                self.waits(cx);
                self.left(Poll::Pending, cx)?;
            }
            Poll::Ready(_) if self.seat.is_leaving() => {
                self.until = None;
                self.seat.is_free();
            }
            Poll::Ready(_) => {}
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::admission::Rules;
    use crate::bounds::STALL_TIMEOUT;

    fn place() -> Place {
        let rules = Rules { size: 1, reserved: 0, share: 1, loopback_share: 1 };
        let places: Places = Arc::new(Mutex::new(Crowd::new(rules)));
        Place::among(&places, Peer::Loopback, Standing::Unproven).unwrap()
    }

    fn standing(place: &Place) -> Option<Standing> {
        place.seat.with(|crowd, number| crowd.standing(number))
    }

    #[tokio::test]
    async fn a_place_is_free_when_all_has_left_and_nothing_more_is_under_way() {
        let place = place();
        let (mut client, ours) = tokio::io::duplex(8);
        let mut connection = Leaving::new(ours, place.seat.clone());
        place.seat.is_busy().await;
        let first = place.seat.answering();
        connection.flush().await.unwrap();
        assert_eq!(standing(&place), Some(Standing::Busy), "it is not told yet");
        drop(first);
        connection.write_all(b"answer").await.unwrap();
        assert_eq!(standing(&place), Some(Standing::Busy), "it has not left yet");
        // The next was asked meanwhile.
        let second = place.seat.answering();
        connection.flush().await.unwrap();
        assert_eq!(standing(&place), Some(Standing::Busy));
        drop(second);
        connection.flush().await.unwrap();
        assert_eq!(standing(&place), Some(Standing::Idle));
        client.read_exact(&mut [0; 6]).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_answer_that_is_not_taken_is_cut_off_and_one_that_is_goes_on() {
        let place = place();
        let (mut client, ours) = tokio::io::duplex(8);
        let mut connection = Leaving::new(ours, place.seat.clone());
        place.seat.is_busy().await;
        let answering = place.seat.answering();
        answering.is_large();
        let begun = Instant::now();
        let told = tokio::join!(connection.write_all(b"more than there is room for"), async {
            tokio::time::sleep(STALL_TIMEOUT - Duration::from_secs(1)).await;
            client.read_exact(&mut [0; 8]).await.unwrap();
        });
        assert_eq!(told.0.unwrap_err().kind(), io::ErrorKind::TimedOut);
        // What was taken last was so little that it gives no more time.
        assert_eq!(begun.elapsed(), STALL_TIMEOUT);
        drop(answering);
        // What is not large may be taken as slowly as one likes.
        let mut writing = std::pin::pin!(connection.write_all(b"more than there is room for"));
        assert!(tokio::time::timeout(STALL_TIMEOUT * 2, &mut writing).await.is_err());
        // With what was left of the other.
        let (written, read) = tokio::join!(writing, async { client.read_exact(&mut [0; 34]).await });
        assert!(written.is_ok() && read.is_ok());
    }

    #[tokio::test]
    async fn who_has_proved_nothing_is_not_taken_for_somebody_by_an_answer() {
        let place = place();
        let (_client, ours) = tokio::io::duplex(8);
        drop(place.seat.answering());
        Leaving::new(ours, place.seat.clone()).flush().await.unwrap();
        assert_eq!(standing(&place), Some(Standing::Unproven));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_taken_protects_nobody_for_long() {
        let place = place();
        let (_client, ours) = tokio::io::duplex(8);
        let mut connection = Leaving::new(ours, place.seat.clone());
        place.seat.is_busy().await;
        drop(place.seat.answering());
        let mut writing = std::pin::pin!(connection.write_all(b"more than there is room for"));
        let not_taken = tokio::time::timeout(TAKEN_TIMEOUT - TAKEN_TIMEOUT / 10, &mut writing).await;
        assert!(not_taken.is_err());
        assert_eq!(standing(&place), Some(Standing::Busy));
        assert!(tokio::time::timeout(TAKEN_TIMEOUT, &mut writing).await.is_err());
        assert_eq!(standing(&place), Some(Standing::Idle));
    }
}
