//! Who answers questions about targets.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use upbeat_decide::rollout::{Answer, Asks, NewTarget, Question, Rollout};
use upbeat_model::rollout::{Controllers, EntityId, Measure, Report, Sample, SampleOutcome, TargetId};

use super::entity::{Entity, Held};
use super::{Inner, RolloutError};

/// An answer that comes later.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// An answer that comes later, or why there is none.
pub type Trying<'a> = Pin<Box<dyn Future<Output = Result<Answer, String>> + Send + 'a>>;

/// Something that is measured.
pub type Measuring<'a> = Pin<Box<dyn Future<Output = Sample> + Send + 'a>>;

/// What an entity's controllers are asked, with what was reported of each target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Is the whole well, while these are on their way, or are well, or have failed?
    External(Vec<Report>),
    /// Is each of these well, which report the version in force?
    Monitoring(Vec<Report>),
    /// Which of these go, that run another version? So many at most.
    Removal(Vec<Report>, usize),
    /// Which of these are next? So many at most.
    Selection(Vec<Report>, usize),
    /// Which of these may go now?
    Approval(Vec<Report>),
}

/// Answers questions about targets. Bounds the time that takes: nobody else is moved meanwhile.
pub trait Asker: Send + Sync + 'static {
    /// Measures once. Bounds the time that takes: one sample of an analysis is taken at a time.
    fn measure<'a>(&'a self, _measure: &'a Measure) -> Measuring<'a> {
        Box::pin(async {
            Sample { outcome: SampleOutcome::Error("nobody measures here".into()), value: String::new() }
        })
    }

    /// Whom this entity asks.
    fn asks(&self, _id: &EntityId, controllers: &Controllers) -> Asks {
        Asks {
            external: controllers.external_monitoring.is_some(),
            monitoring: controllers.monitoring.is_some(),
            removal: controllers.removal.is_some(),
            selection: controllers.selection.is_some(),
            approval: controllers.approval.is_some(),
        }
    }

    /// The answer to this question, of its kind.
    fn ask<'a>(&'a self, id: &'a EntityId, controllers: &'a Controllers, asked: Asked) -> Answering<'a>;

    /// The same, where there may be nobody to ask.
    ///
    /// Errors: why there is no answer, be it yes or no. Then nothing is decided, and nothing is held against
    /// anybody.
    fn try_ask<'a>(&'a self, id: &'a EntityId, controllers: &'a Controllers, asked: Asked) -> Trying<'a> {
        let answer = self.ask(id, controllers, asked);
        Box::pin(async move { Ok(answer.await) })
    }
}

/// The question, with what was reported of each target that it names; of one that was selected and is not there
/// yet, with what it was selected by.
pub(super) fn asked(question: Question, rollout: &Rollout, selected: &[NewTarget]) -> Asked {
    let new: BTreeMap<&TargetId, &NewTarget> = selected.iter().map(|new| (&new.id, new)).collect();
    let of = |ids: Vec<TargetId>| -> Vec<Report> {
        let known = ids.into_iter().filter_map(|id| {
            let Some(target) = rollout.targets.get(&id) else {
                let labels = new.get(&id)?.labels.clone();
                let (version, message) = (None, String::new());
                return Some(Report { target: id, version, is_error: false, message, labels, failed: false });
            };
            let (held, labels) = (target.current.clone(), target.labels.clone());
            let (version, is_error, message) = (held.version, held.note.is_error, held.note.text);
            Some(Report { target: id, version, is_error, message, labels, failed: false })
        });
        known.collect()
    };
    match question {
        Question::External(ids) => Asked::External(of(ids)),
        Question::Monitoring(ids) => Asked::Monitoring(of(ids)),
        Question::Removal(ids, count) => Asked::Removal(of(ids), count),
        Question::Selection(ids, count) => Asked::Selection(of(ids), count),
        Question::Approval(ids) => Asked::Approval(of(ids)),
    }
}

impl Inner {
    /// What controllers say. Nobody waits for them once all of this ends.
    pub(super) async fn answer(
        &self,
        id: &EntityId,
        controllers: &Controllers,
        asked: Asked,
    ) -> Result<Answer, RolloutError> {
        let mut ends = self.ends.subscribe();
        tokio::select! {
            biased;
            // The sender is held here, so it does not end before.
            _ = ends.wait_for(|ends| *ends) => Err(RolloutError::Ends(id.clone())),
            answer = async { self.asker.try_ask(id, controllers, asked).await } => {
                answer.map_err(|why| RolloutError::Unanswered { id: id.clone(), why })
            }
        }
    }

    /// These were removed when that was answered, and what else was asked with it counts no more.
    pub(super) async fn keep_gone(
        &self,
        entity: &Arc<Entity>,
        held: &mut Held,
        gone: &mut Vec<TargetId>,
    ) -> Result<(), RolloutError> {
        if gone.is_empty() {
            return Ok(());
        }
        held.rollout.take_gone(&std::mem::take(gone));
        self.keep(entity, held).await
    }
}
