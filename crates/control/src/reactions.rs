//! What follows from what was seen, without anybody asking.
//!
//! That an app ends with one of its services is no event but a state: a copy of that service is at rest
//! under the very wish that is in force, and that wish is to run. So it is found again by whoever looks
//! after a restart; it is over as soon as the app is stopped; and of a copy somebody has asked for since,
//! be it by an `up` in between, it does not hold any more.

use std::collections::BTreeSet;
use std::sync::Weak;

use upbeat_decide::Change as SlotChange;
use upbeat_decide::node::{Outcome, Reacted};
use upbeat_model::event::EventKind;
use upbeat_model::target::Goal;
use upbeat_model::{AppName, OperationId, Origin, Phase, Reason, SlotId, SlotStatus};

use crate::control::{AGAIN, Control, Inner};
use crate::error::ControlError;
use crate::record::SlotRecord;
use crate::state::State;

/// A copy with whose end its app ends, and under which operation it ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) slot: SlotId,
    pub(crate) under: OperationId,
    /// How it ended, in words.
    pub(crate) how: String,
}

impl End {
    /// Nobody has asked for anything else of it.
    pub(crate) fn holds(&self, slot: Option<&SlotRecord>) -> bool {
        slot.is_some_and(|slot| slot.operation == self.under && slot.goal == Goal::Running)
    }
}

/// Apps of which a copy has come to rest. Whether they end with it is for [`State::end_of`] to say.
pub(crate) fn rested(changes: &[SlotChange]) -> BTreeSet<AppName> {
    let rested = changes.iter().filter(|change| change.is_seen && is_at_rest(change.status.phase));
    rested.map(|change| change.status.slot.app.clone()).collect()
}

fn is_at_rest(phase: Phase) -> bool {
    matches!(phase, Phase::Completed | Phase::Failed)
}

impl State {
    /// The copy with whose end this app is to end now, if there is one.
    pub(crate) fn end_of(&self, app: &AppName) -> Option<End> {
        let record = self.app(app)?;
        let ends = |id: &SlotId, slot: &SlotRecord| {
            let spec = slot.spec.as_deref().or_else(|| record.project.services.get(&id.service));
            let status = self.seen(id).filter(|status| is_at_rest(status.phase))?;
            let how = status.exit.as_ref().map_or_else(|| status.phase.to_string(), ToString::to_string);
            let end = End { slot: id.clone(), under: status.operation, how };
            (status.goal == Goal::Running && spec?.exit_on_end && end.holds(Some(slot))).then_some(end)
        };
        record.slots.iter().find_map(|(id, slot)| ends(id, slot))
    }
}

impl State {
    /// A copy that was stopped with its app is told so, and by whose end.
    pub(crate) fn explain(&self, status: &mut SlotStatus) {
        for reason in &mut status.reasons {
            let Reason::StoppedBy { operation } = reason else { continue };
            if let Some(known) = self.operation(*operation)
                && let Some((slot, how)) = Origin::is_end_of(&known.app, &known.who)
            {
                *reason = Reason::EndedWith { operation: *operation, slot, how: how.to_owned() };
            }
        }
    }
}

impl Control {
    /// Stops an app that is to stop with one of its services.
    pub(crate) async fn end_app(&self, app: &AppName) {
        let Err(error) = self.try_to_end(app).await else { return };
        tracing::error!(error = %chain(&error), %app, "an app could not be stopped with its service; it is tried again");
        if self.state().cannot_end(app) {
            tokio::spawn(end_later(self.downgrade(), app.clone()));
        }
    }

    async fn try_to_end(&self, app: &AppName) -> Result<(), ControlError> {
        let Some(end) = self.state().end_of(app) else { return Ok(()) };
        self.failpoint("end_seen");
        match self.end(&end).await {
            // Somebody else's wish came first: of the copy it asks for, news will come.
            Err(ControlError::Refused(why)) => tracing::info!(slot = %end.slot, "{why}"),
            Err(ControlError::NoSuchApp(_)) => {}
            done => drop(done?),
        }
        Ok(())
    }

    /// Something was done about a failing probe.
    pub fn reacted(&self, reacted: Reacted) {
        let Reacted { slot, attempt, probe, action, last, times } = reacted;
        let app = slot.app.clone();
        self.note(app, EventKind::Reacted { slot, attempt, probe, action, last, times });
    }

    /// This came of what was done.
    pub fn came_to(&self, outcome: Outcome) {
        let (app, kind) = match outcome {
            // Counted where it was decided; how the slot looks now says the rest.
            Outcome::StartFailed { .. } => return,
            Outcome::Remedied { slot, attempt, probe, failure } => {
                (slot.app.clone(), EventKind::Remedied { slot, attempt, probe, failure })
            }
            Outcome::Reloaded { slot, attempt, failure } => {
                (slot.app.clone(), EventKind::Reloaded { slot, attempt, failure })
            }
            Outcome::Taken { slot, attempt, how } => {
                let (what, remedy) = (how.to_string(), "it is begun anew".to_owned());
                (slot.app.clone(), EventKind::Drifted { slot, attempt, what, remedy, failure: None })
            }
            Outcome::Mended { slot, attempt, what, failure } => {
                let remedy = "it was put right".to_owned();
                (slot.app.clone(), EventKind::Drifted { slot, attempt, what, remedy, failure })
            }
        };
        self.note(app, kind);
    }
}

/// Until it has ended, or need not any more, or control is no more.
async fn end_later(control: Weak<Inner>, app: AppName) {
    loop {
        tokio::time::sleep(AGAIN).await;
        let Some(control) = Control::upgrade(&control) else { return };
        // Whoever fails from here on sees to it that it is tried again.
        control.state().can_end(&app);
        let Err(error) = control.try_to_end(&app).await else { return };
        tracing::debug!(error = %chain(&error), %app, "an app cannot be stopped yet");
        if !control.state().cannot_end(&app) {
            return;
        }
    }
}

/// An error and its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
