//! What is done about a probe that fails, and how often before a person has to look.

use serde::{Deserialize, Serialize};
use upbeat_model::project::Reaction;
use upbeat_model::reason::StopCause;
use upbeat_model::{Exit, Millis, Mono, ProbeName, SlotId};

use super::health::{Failed, acts};
use super::settle::{Intent, intent};
use super::{Around, Condemned, Follows, HookCommand, Moment, Slot, Stage};
use crate::effect::Effect;
use crate::node::Reacted;
use crate::rules::Bug;

/// Something was done about this probe at this time. Kept for its budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Which probe.
    pub probe: ProbeName,
    /// When.
    pub at: Mono,
    /// Under the wish of which generation: whoever asks anew looks after it, and what was done before
    /// counts no more.
    #[serde(default)]
    pub generation: u64,
}

/// A command that is run about a probe is given as long as the probe has to fail again; at least this.
const EXEC_MIN: Millis = Millis::seconds(30);

/// Does what is to be done about a probe that has come to a no.
pub(super) fn react(
    id: &SlotId,
    slot: &mut Slot,
    failed: Failed,
    around: &Around<'_>,
    effects: &mut Vec<Effect>,
) -> Option<Reacted> {
    let probe = around.wish.spec.probes.get(&failed.name)?;
    let remedy = probe.remedy(failed.name.role());
    if intent(slot, around.wish) != Intent::Hold {
        // It goes anyway.
        return None;
    }
    let Stage::Up(up) = &mut slot.durable.stage else { return None };
    if !acts(&remedy.action) || up.stopping.is_some() {
        return None;
    }
    let done = &mut slot.durable.done;
    let generation = around.wish.generation;
    let is_due = |done: &Done| done.probe == failed.name && around.now.since(done.at) >= remedy.window;
    let counts = |done: &Done| done.generation == generation || around.rules.has(Bug::KeepBudget);
    done.retain(|done| counts(done) && !is_due(done));
    let times = done.iter().filter(|done| done.probe == failed.name).count() as u32;
    if times >= remedy.max_attempts && !around.rules.has(Bug::ForgetBudget) {
        if let Some(answer) = up.answers.get_mut(&failed.name) {
            answer.spent = true;
        }
        return None;
    }
    done.push(Done { probe: failed.name.clone(), at: around.now, generation });
    let why = format!("its probe `{}` failed: {}", failed.name, failed.last);
    match &remedy.action {
        Reaction::Ignore => {}
        Reaction::Restart | Reaction::Stop => {
            let follows = match remedy.action {
                Reaction::Restart => Follows::Restart,
                _ => Follows::Nothing,
            };
            up.condemned =
                Some(Condemned { cause: StopCause::ProbeFailed, exit: Some(Exit::Stopped(why)), follows });
        }
        Reaction::Signal(signal) => {
            effects.push(Effect::Signal { slot: id.clone(), attempt: up.attempt, signal: *signal });
        }
        Reaction::Exec(command) => effects.push(Effect::RunHooks {
            slot: id.clone(),
            attempt: up.attempt,
            moment: Moment::Remedy,
            serial: around.now.0,
            commands: vec![HookCommand::plain(command.clone(), around.wish)],
            timeout: EXEC_MIN
                .max(Millis(probe.interval.0.saturating_mul(u64::from(probe.failure_threshold)))),
            exit: None,
        }),
    }
    Some(Reacted {
        slot: id.clone(),
        attempt: up.attempt,
        probe: failed.name,
        action: remedy.action,
        last: failed.last,
        times: times + 1,
    })
}
