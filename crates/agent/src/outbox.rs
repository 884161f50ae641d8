//! What is told, to somebody who may be busy: the agent does not wait for it.

use std::collections::{BTreeMap, VecDeque};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use upbeat_decide::Change;
use upbeat_model::SlotId;

use crate::run::Report;

/// Nobody listens any more.
pub(crate) struct Gone;

/// News that wait to be told: more than there may be slots to be found again.
const NEWS_MAX: usize = 32 * 1024;

/// Reports on their way. Of a slot that changes again before it is told, the last state is told: so
/// there is never more to tell than there are slots.
pub(crate) struct Outbox {
    reports: mpsc::Sender<Report>,
    news: VecDeque<Report>,
    changed: BTreeMap<SlotId, Change>,
}

impl Outbox {
    pub(crate) fn new(reports: mpsc::Sender<Report>) -> Self {
        Self { reports, news: VecDeque::new(), changed: BTreeMap::new() }
    }

    /// Something has happened, for those who keep a history. When nobody has time for it, the oldest
    /// news is what is lost.
    pub(crate) fn news(&mut self, report: Report) -> Result<(), Gone> {
        if self.news.len() >= NEWS_MAX {
            self.news.pop_front();
        }
        self.news.push_back(report);
        self.flush()
    }

    /// Slots look different than before.
    pub(crate) fn changed(&mut self, changes: BTreeMap<SlotId, Change>) -> Result<(), Gone> {
        for (slot, change) in changes {
            let from = self.changed.get(&slot).map_or(change.from, |untold| untold.from);
            self.changed.insert(slot, Change { from, ..change });
        }
        self.flush()
    }

    /// Something is not told yet, because nobody had time for it.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.news.is_empty() || !self.changed.is_empty()
    }

    /// Waits until somebody has time, and tells it. May be cancelled.
    pub(crate) async fn room(&mut self) -> Result<(), Gone> {
        drop(self.reports.reserve().await.map_err(|_| Gone)?);
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Gone> {
        while let Some(report) = self.news.pop_front() {
            match self.reports.try_send(report) {
                Ok(()) => {}
                Err(TrySendError::Full(report)) => {
                    self.news.push_front(report);
                    return Ok(());
                }
                Err(TrySendError::Closed(_)) => return Err(Gone),
            }
        }
        if self.changed.is_empty() {
            return Ok(());
        }
        match self.reports.try_reserve() {
            Ok(room) => {
                room.send(Report::Changed(std::mem::take(&mut self.changed).into_values().collect()));
                Ok(())
            }
            Err(TrySendError::Full(())) => Ok(()),
            Err(TrySendError::Closed(())) => Err(Gone),
        }
    }
}

#[cfg(test)]
mod tests {
    use upbeat_model::Phase;

    use super::*;
    use crate::fake;

    fn change(short: &str, from: Phase, to: Phase) -> (SlotId, Change) {
        let slot: SlotId = format!("app/{short}/1").parse().unwrap();
        (slot.clone(), fake::change(slot, from, to, 1, 0))
    }

    fn told(report: Option<Report>) -> Vec<String> {
        let Some(Report::Changed(changes)) = report else { return Vec::new() };
        let told = |change: &Change| {
            format!("{} {} {}", change.status.slot.short(), change.from, change.status.phase)
        };
        changes.iter().map(told).collect()
    }

    #[tokio::test]
    async fn nobody_waits_for_who_does_not_listen_and_nothing_is_lost_but_what_lies_between() {
        let (sender, mut receiver) = mpsc::channel(1);
        let mut outbox = Outbox::new(sender);
        let say = |outbox: &mut Outbox, short: &str, from, to| {
            assert!(outbox.changed(BTreeMap::from([change(short, from, to)])).is_ok());
        };
        say(&mut outbox, "a", Phase::Waiting, Phase::Starting);
        say(&mut outbox, "a", Phase::Starting, Phase::Running);
        say(&mut outbox, "b", Phase::Waiting, Phase::Starting);
        say(&mut outbox, "a", Phase::Running, Phase::Failed);
        assert!(outbox.is_waiting());
        assert_eq!(told(receiver.recv().await), ["a-1 waiting starting"]);
        assert!(outbox.room().await.is_ok() && !outbox.is_waiting());
        assert_eq!(told(receiver.recv().await), ["a-1 starting failed", "b-1 waiting starting"]);
        drop(receiver);
        assert!(outbox.room().await.is_err());
    }
}
