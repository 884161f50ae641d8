//! What happened, and what happens from now on, as one stream.

use futures_util::stream;
use tokio::sync::watch;
use upbeat_api::Event;
use upbeat_model::EventFilter;
use upbeat_server::{Answer, BoxStream};
use upbeat_store::StoreError;

use super::refusals::unreadable;
use upbeat_control::EventLog;

/// Events a follower gets at once.
const PAGE: usize = 200;

/// Events, and up to which number was looked.
type Page = Result<(Vec<Event>, u64), StoreError>;

/// Events after a number and then as they come.
pub(super) async fn watch(
    log: &EventLog,
    wanted: EventFilter,
    after: u64,
) -> Answer<BoxStream<Answer<Event>>> {
    let (changes, log) = (log.changes(), log.clone());
    let read = move |after| {
        let (log, wanted) = (log.clone(), wanted.clone());
        async move { log.read(&wanted, after, PAGE).await }
    };
    pages(changes, after, read).await
}

/// The first page is read before this returns, so that what cannot be read is an answer with a status of
/// its own, and no end of what there is. Later the stream says so.
async fn pages<F>(
    mut changes: watch::Receiver<u64>,
    after: u64,
    read: impl Fn(u64) -> F + Send + Sync + 'static,
) -> Answer<BoxStream<Answer<Event>>>
where
    F: Future<Output = Page> + Send,
{
    let failed = |error: StoreError| unreadable("the events", &error);
    changes.mark_unchanged();
    let (events, seen) = read(after).await.map_err(failed)?;
    let begun = (changes, read, seen, events.into_iter());
    Ok(Box::pin(stream::unfold(begun, move |(mut changes, read, mut after, mut page)| async move {
        loop {
            if let Some(event) = page.next() {
                return Some((Ok(event), (changes, read, after, page)));
            }
            // Before it is looked, so that what comes meanwhile is looked for.
            changes.mark_unchanged();
            match read(after).await {
                Ok((events, seen)) => {
                    after = seen;
                    if events.is_empty() {
                        changes.changed().await.ok()?;
                    }
                    page = events.into_iter();
                }
                Err(error) => return Some((Err(failed(error)), (changes, read, after, page))),
            }
        }
    })))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures_util::StreamExt;
    use upbeat_api::{EventKind, ProblemKind};
    use upbeat_model::{OperationId, Wall};

    use super::*;

    fn event(sequence: u64) -> Event {
        let kind = EventKind::OperationEnded { operation: OperationId(7), outcome: "reached".into() };
        Event { sequence, at: Wall(1), app: Some("shop".parse().unwrap()), kind }
    }

    #[tokio::test]
    async fn a_journal_that_cannot_be_read_is_told_and_is_no_end() {
        let is_lost = Arc::new(AtomicBool::new(true));
        let (changed, _) = watch::channel(0);
        let open = || {
            let is_lost = is_lost.clone();
            pages(changed.subscribe(), 0, move |after| {
                let page = match is_lost.load(Ordering::SeqCst) {
                    true => Err(StoreError::Io("disk".into())),
                    false if after < 2 => Ok((vec![event(after + 1)], after + 1)),
                    false => Ok((Vec::new(), after)),
                };
                std::future::ready(page)
            })
        };
        let Err(refused) = open().await else { panic!("it is an answer") };
        assert_eq!(refused.kind, ProblemKind::Internal);
        assert!(refused.message.starts_with("the events cannot be read: "), "{refused:?}");
        is_lost.store(false, Ordering::SeqCst);
        let mut events = open().await.unwrap();
        for sequence in 1..=2 {
            assert_eq!(events.next().await, Some(Ok(event(sequence))));
        }
        is_lost.store(true, Ordering::SeqCst);
        assert_eq!(events.next().await, Some(Err(refused)));
    }
}
