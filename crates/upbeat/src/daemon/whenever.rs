//! What is told to whoever follows something: its states, at a pace.

use std::time::Duration;

use futures_util::stream;
use tokio::sync::watch;
use tokio::time::Instant;
use upbeat_server::BoxStream;

/// A client is not told more often: a person sees no more, and an app of a thousand slots takes
/// milliseconds to be written down.
const PACE: Duration = Duration::from_millis(50);

/// What something is now, and again after changes, as far as it looks different; ends with it. Told
/// at its own pace, but at once what `is_last`.
pub(super) fn whenever<T: PartialEq + Clone + Send + 'static>(
    mut changes: watch::Receiver<u64>,
    look: impl FnMut() -> Option<T> + Send + 'static,
    is_last: fn(&T) -> bool,
) -> BoxStream<T> {
    changes.mark_changed();
    let begun = (changes, look, None::<(T, Instant)>);
    Box::pin(stream::unfold(begun, move |(mut changes, mut look, told)| async move {
        if told.as_ref().is_some_and(|(told, _)| is_last(told)) {
            return None;
        }
        loop {
            changes.changed().await.ok()?;
            let mut now = look()?;
            if let Some((_, at)) = &told
                && !is_last(&now)
            {
                tokio::time::sleep_until(*at + PACE).await;
                changes.mark_unchanged();
                now = look()?;
            }
            if told.as_ref().is_none_or(|(told, _)| *told != now) {
                return Some((now.clone(), (changes, look, Some((now, Instant::now())))));
            }
        }
    }))
}
