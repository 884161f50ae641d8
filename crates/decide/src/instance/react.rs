//! What is done about a probe that fails, and how often before a person has to look.
//!
//! A command is run at least once, under one key, though daemons die meanwhile; one at a time for each
//! copy: a probe that comes to a no while another's command runs is heard at its next no. A signal is
//! sent at most once: what it does twice nobody knows.

use serde::{Deserialize, Serialize};
use upbeat_model::project::Reaction;
use upbeat_model::reason::StopCause;
use upbeat_model::{Attempt, Exit, Millis, Mono, ProbeName, SlotId};

use super::health::{Failed, acts};
use super::settle::{Intent, intent};
use super::{
    Around, Condemned, Follows, Healing, HookCommand, Moment, RECHECK_AFTER, RETRY_AFTER, Slot, Stage,
};
use crate::effect::Effect;
use crate::node::{Outcome, Reacted};
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

/// A command that is run about a probe is given as long as the probe has to fail again; at least this,
const EXEC_MIN: Millis = Millis::seconds(30);

/// and at most this, as the command of a reload: no other is run meanwhile.
const EXEC_MAX: Millis = Millis::seconds(90);

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
    let says_so = matches!(&slot.durable.stage, Stage::Up(up) if slot.leaves_by(up).is_some());
    if intent(slot, around.wish) != Intent::Hold || says_so {
        // It goes anyway.
        return None;
    }
    let Stage::Up(up) = &mut slot.durable.stage else { return None };
    if !acts(&remedy.action) || up.stopping.is_some() {
        return None;
    }
    if up.answers.get(&failed.name).is_some_and(|answer| answer.spent) {
        // It is left to a person, also when the window has moved on.
        return None;
    }
    let runs_one = matches!(up.remedy, Some(Healing::Due { .. }));
    if runs_one && matches!(remedy.action, Reaction::Exec(_)) {
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
            let (slot, probe) = (id.clone(), failed.name.clone());
            effects.push(Effect::Signal { slot, attempt: up.attempt, probe, signal: *signal });
        }
        // Ordered with the next look.
        Reaction::Exec(_) => {
            up.remedy = Some(Healing::Due { probe: failed.name.clone(), serial: around.now.0 });
            slot.remedy_again = None;
        }
    }
    Some(Reacted {
        slot: id.clone(),
        attempt: up.attempt,
        probe: failed.name,
        action: remedy.action.to_look_at(),
        last: failed.last,
        times: times + 1,
    })
}

/// Has the command run that is due. Asked again now and then: whoever runs it takes it once.
pub(super) fn press(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    let Stage::Up(up) = &mut slot.durable.stage else { return };
    let passes = |probe: &ProbeName| up.answers.get(probe).is_some_and(|answer| answer.passing == Some(true));
    let command = |name: &ProbeName| {
        let probe = around.wish.spec.probes.get(name)?;
        match probe.remedy(name.role()).action {
            Reaction::Exec(command) => Some((probe, command)),
            _ => None,
        }
    };
    let runs = |name: &ProbeName| command(name).is_some();
    let (name, serial) = match &up.remedy {
        Some(Healing::Due { probe, serial }) => (probe, *serial),
        Some(Healing::Failed { probe, .. }) if passes(probe) || !runs(probe) => {
            up.remedy = None;
            return;
        }
        _ => {
            if slot.remedy_again.take().is_some() {
                // With it goes what was said of it.
                slot.trouble = None;
            }
            return;
        }
    };
    let Some((probe, command)) = command(name) else {
        // The newest file knows nothing of it.
        (up.remedy, slot.remedy_again, slot.trouble) = (None, None, None);
        return;
    };
    if slot.remedy_again.is_some_and(|at| at > around.now) {
        return;
    }
    let long = Millis(probe.interval.0.saturating_mul(u64::from(probe.failure_threshold)));
    let timeout = long.clamp(EXEC_MIN, EXEC_MAX);
    slot.remedy_again = Some(around.now + timeout + RECHECK_AFTER);
    effects.push(Effect::RunHooks {
        slot: id.clone(),
        attempt: up.attempt,
        moment: Moment::Remedy,
        begun: up.serial,
        serial,
        commands: vec![HookCommand::plain(command, around.wish)],
        timeout,
        exit: None,
    });
}

/// It has ended.
pub(super) fn ended(id: &SlotId, slot: &mut Slot, which: u64, outcome: Result<(), String>) {
    let Stage::Up(up) = &mut slot.durable.stage else { return };
    let Some(Healing::Due { probe, serial }) = &up.remedy else { return };
    if *serial != which {
        return;
    }
    let (probe, failure) = (probe.clone(), outcome.err());
    up.remedy = failure.clone().map(|why| Healing::Failed { probe: probe.clone(), why });
    (slot.remedy_again, slot.trouble) = (None, None);
    slot.outcomes.push(Outcome::Remedied { slot: id.clone(), attempt: up.attempt, probe, failure });
}

/// It could not be run, through no fault of its own: it is run again soon.
pub(super) fn unable(slot: &mut Slot, which: u64, why: String, around: &Around<'_>) {
    let Stage::Up(up) = &slot.durable.stage else { return };
    let Some(Healing::Due { probe, serial }) = &up.remedy else { return };
    if *serial == which && up.stopping.is_none() {
        slot.trouble =
            Some(format!("what is to be run as `{probe}` fails could not be, and is run again: {why}"));
        slot.remedy_again = Some(around.now + RETRY_AFTER);
    }
}

/// The signal could not be sent: then nothing was done about the probe.
pub(super) fn not_sent(id: &SlotId, slot: &mut Slot, of: Attempt, probe: ProbeName, why: String) {
    if matches!(&slot.durable.stage, Stage::Up(up) if up.attempt == of && up.stopping.is_none()) {
        let failure = Some(why);
        slot.outcomes.push(Outcome::Remedied { slot: id.clone(), attempt: of, probe, failure });
    }
}
