//! What follows from what was seen, without anybody asking.

use std::collections::BTreeMap;

use upbeat_decide::Change as SlotChange;
use upbeat_decide::node::Reacted;
use upbeat_model::event::EventKind;
use upbeat_model::target::Goal;
use upbeat_model::{Action, AppName, Origin, Phase, ServiceName};

use crate::control::Control;
use crate::state::State;

/// Apps whose end it is that one of their services has ended, and which one.
pub(crate) fn ends(state: &State, changes: &[SlotChange]) -> BTreeMap<AppName, ServiceName> {
    let ended = changes.iter().filter(|change| {
        change.is_seen
            && change.status.goal == Goal::Running
            && matches!(change.status.phase, Phase::Completed | Phase::Failed)
    });
    let mut ends = BTreeMap::new();
    for change in ended {
        let slot = &change.status.slot;
        let ends_app = state.app(&slot.app).is_some_and(|record| {
            record.project.services.get(&slot.service).is_some_and(|service| service.exit_on_end)
        });
        if ends_app {
            ends.entry(slot.app.clone()).or_insert_with(|| slot.service.clone());
        }
    }
    ends
}

impl Control {
    /// Stops what is to stop with one of its services. Looked at anew whenever such an end is told, so
    /// that one which a crash has cut short is made up for.
    pub(crate) async fn end_apps(&self, ends: BTreeMap<AppName, ServiceName>) {
        for (app, service) in ends {
            let runs = self
                .state()
                .app(&app)
                .is_some_and(|record| record.slots.values().any(|slot| slot.goal == Goal::Running));
            if !runs {
                continue;
            }
            let origin = Origin { who: format!("`exit_on_end` of {service}"), key: None };
            let stop = Action::Stop { services: Vec::new(), kill: false };
            if let Err(error) = self.act(&app, &stop, origin).await {
                tracing::error!(%app, %service, %error, "the app could not be stopped with its service");
            }
        }
    }

    /// Something was done about a failing probe.
    pub fn reacted(&self, reacted: Reacted) {
        let Reacted { slot, attempt, probe, action, last, times } = reacted;
        let app = slot.app.clone();
        self.note(app, EventKind::Reacted { slot, attempt, probe, action, last, times });
    }
}
