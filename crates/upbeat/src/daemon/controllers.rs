//! Who answers control's questions about targets: an entity's controllers, over the network and as commands.

use std::collections::BTreeMap;

use upbeat_control::rollouts::{Answer as Said, Answering, Asked, Asker, Measuring, NewTarget};
use upbeat_drivers::controllers::{Caller, Choice, Means};
use upbeat_model::rollout::{Controller, Controllers, EntityId, Measure, Report, TargetId};

/// Asks an entity's controllers.
pub(crate) struct OverNetwork(Caller);

impl OverNetwork {
    pub(crate) fn new(means: Means) -> Self {
        Self(Caller::new(means))
    }

    /// The targets of an answer, once it is there; whom nobody asks was not to be asked.
    async fn choose(
        &self,
        controller: Option<&Controller>,
        choice: Choice,
        offered: &[Report],
        count: usize,
    ) -> Result<Vec<Report>, String> {
        let controller = controller.ok_or_else(|| "nobody is there to ask any more".to_owned())?;
        self.0.choose(controller, choice, offered, count).await
    }
}

fn ids(chosen: Result<Vec<Report>, String>) -> Result<Vec<TargetId>, String> {
    Ok(chosen?.into_iter().map(|report| report.target).collect())
}

impl Asker for OverNetwork {
    fn measure<'a>(&'a self, measure: &'a Measure) -> Measuring<'a> {
        Box::pin(self.0.measure(measure))
    }

    fn ask<'a>(&'a self, _: &'a EntityId, controllers: &'a Controllers, asked: Asked) -> Answering<'a> {
        Box::pin(async move {
            match asked {
                Asked::External(all) => Said::External(match &controllers.external_monitoring {
                    Some(controller) => self.0.is_well(controller, &all).await,
                    None => Ok(()),
                }),
                Asked::Monitoring(all) => Said::Monitoring(match &controllers.monitoring {
                    Some(controller) => self.0.unwell(controller, &all).await,
                    None => BTreeMap::new(),
                }),
                Asked::Removal(all, count) => {
                    let chosen = self.choose(controllers.removal.as_ref(), Choice::Removal, &all, count);
                    Said::Removal(ids(chosen.await))
                }
                Asked::Selection(all, count) => {
                    let chosen = self.choose(controllers.selection.as_ref(), Choice::Selection, &all, count);
                    let new = |report: Report| NewTarget { id: report.target, labels: report.labels };
                    Said::Selection(chosen.await.map(|chosen| chosen.into_iter().map(new).collect()))
                }
                Asked::Approval(all) => {
                    let chosen =
                        self.choose(controllers.approval.as_ref(), Choice::Approval, &all, all.len());
                    Said::Approval(ids(chosen.await))
                }
            }
        })
    }
}
