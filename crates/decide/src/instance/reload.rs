//! A running copy is asked to read its configuration anew: by a signal, or by a command beside it.
//!
//! At least once: a daemon that dies while it is asked leaves it to the next, under the same key. Not
//! before it is ready for the first time: a signal that it does not handle yet would end it.

use upbeat_model::project::Reload;
use upbeat_model::target::{Ask, TargetSlot};
use upbeat_model::{Attempt, Millis, SlotId};

use super::health::{self, Health};
use super::{Around, HookCommand, Mark, Preparation, RETRY_AFTER, Reloading, Slot, Stage, Up};
use crate::effect::Effect;
use crate::node::Outcome;
use crate::rules::Bug;

/// An order to reload that got lost is given again so soon. Whoever carries it out takes it once.
const ASK_AGAIN: Millis = Millis::seconds(60);

/// How long a command that reloads may take. As systemd gives a start: what takes longer hangs.
const PATIENCE: Millis = Millis::seconds(90);

/// The wish asks a copy that was ordered under this mark, and not by anybody who was asked anew since.
fn is_asked(mark: &Mark, wish: &TargetSlot) -> bool {
    wish.ask == Ask::Reload && mark.generation < wish.generation
}

/// Takes note that the wish asks what is there, or is being started, to reload: in the state at once, as
/// the next wish may be another.
pub(super) fn follow(stage: &mut Stage, wish: &TargetSlot) {
    match stage {
        // Before its hooks have ended nothing has read anything.
        Stage::Starting { begun, before: Preparation::Done } if is_asked(&begun.mark, wish) => {
            begun.reload = Some(wish.generation);
        }
        Stage::Up(up) if is_asked(&up.mark, wish) => {
            up.reload = Some(Reloading::Due { serial: wish.generation });
        }
        _ => {}
    }
}

/// Has it asked, if it is to be.
pub(super) fn press(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    let Stage::Up(up) = &mut slot.durable.stage else { return };
    let Some(Reloading::Due { serial }) = up.reload else {
        if slot.reload_again.take().is_some() {
            // With it goes what was said of it.
            slot.trouble = None;
        }
        return;
    };
    if !is_ready_for_it(&slot.health, up, around) {
        return;
    }
    let Some(how) = &around.wish.spec.reload else {
        // The newest file knows no way to.
        up.reload = Some(Reloading::Failed("no `reload` says how".to_owned()));
        return;
    };
    if slot.reload_again.is_some_and(|at| at > around.now) {
        return;
    }
    slot.reload_again = Some(around.now + ASK_AGAIN);
    let (signal, commands) = match how {
        Reload::Signal(signal) => (Some(*signal), Vec::new()),
        Reload::Exec(command) => (None, vec![HookCommand::plain(command.clone(), around.wish)]),
    };
    let (slot, attempt, begun) = (id.clone(), up.attempt, up.serial);
    effects.push(Effect::Reload { slot, attempt, begun, serial, signal, commands, timeout: PATIENCE });
}

/// It has come as far as to be ready once, or has had all its time for that: what fails by now may be
/// mended by a reload.
fn is_ready_for_it(health: &Health, up: &Up, around: &Around<'_>) -> bool {
    around.rules.has(Bug::ReloadTooSoon) || !health::is_awaited(health, up, around.wish)
}

/// It was asked, or could not be.
pub(super) fn ended(id: &SlotId, slot: &mut Slot, of: Attempt, which: u64, outcome: Result<(), String>) {
    let Stage::Up(up) = &mut slot.durable.stage else { return };
    if up.attempt != of {
        return;
    }
    // Whoever carries it out is free for another that was ordered meanwhile.
    (slot.reload_again, slot.trouble) = (None, None);
    if up.reload == Some(Reloading::Due { serial: which }) {
        let failure = outcome.err();
        up.reload = failure.clone().map(Reloading::Failed);
        slot.outcomes.push(Outcome::Reloaded { slot: id.clone(), attempt: of, failure });
    }
}

/// It could not be asked, through no fault of its own: it is asked again soon.
pub(super) fn unable(slot: &mut Slot, of: Attempt, which: u64, why: String, around: &Around<'_>) {
    let Stage::Up(up) = &slot.durable.stage else { return };
    if up.attempt == of && up.reload == Some(Reloading::Due { serial: which }) && up.stopping.is_none() {
        slot.trouble = Some(format!("it could not be asked to reload, and is asked again: {why}"));
        slot.reload_again = Some(around.now + RETRY_AFTER);
    }
}
