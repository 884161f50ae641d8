//! Work that has an outcome whatever becomes of it: the loop waits for one of each thing it has ordered.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// What is said of work that came to no end of its own. What exactly went wrong is not: it is in the
/// daemon's log, and may be about what nobody is to see.
const FAULT: &str = "a fault of Upbeat itself, of which its log says more";

/// Does it. Errors: it has panicked, in words.
pub(crate) async fn guarded<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let mut work = pin!(work);
    std::future::poll_fn(|context| {
        // It is not asked again when it has panicked, and what it shares is locked with care for that.
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
            Ok(polled) => polled.map(Ok),
            Err(_) => Poll::Ready(Err(FAULT.to_owned())),
        }
    })
    .await
}

/// The same for work that can fail by itself.
pub(crate) async fn attempted<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    guarded(work).await.unwrap_or_else(Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_panics_has_an_outcome_and_says_nothing_it_should_not() {
        let broken = async {
            tokio::task::yield_now().await;
            "a secret".parse::<u32>().unwrap()
        };
        assert_eq!(guarded(broken).await, Err(FAULT.to_owned()));
        assert_eq!(guarded(async { 7 }).await, Ok(7));
        assert_eq!(attempted(async { Err::<(), _>("no".to_owned()) }).await, Err("no".to_owned()));
        let broken = async { panic!("another") };
        assert_eq!(attempted::<()>(broken).await, Err(FAULT.to_owned()));
    }
}
