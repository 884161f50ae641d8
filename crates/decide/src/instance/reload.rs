//! A running copy is asked to read its configuration anew: by a signal, or by a command beside it.
//!
//! At least once: a daemon that dies while it is asked leaves it to the next, under the same key.

use upbeat_model::project::Reload;
use upbeat_model::target::{Ask, TargetSlot};
use upbeat_model::{Attempt, Millis, SlotId};

use super::{Around, HookCommand, Reloading, Slot, Stage, Up};
use crate::effect::Effect;

/// An order to reload that got lost is given again so soon. Whoever carries it out takes it once.
const ASK_AGAIN: Millis = Millis::seconds(60);

/// How long a command that reloads may take. As systemd gives a start: what takes longer hangs.
const PATIENCE: Millis = Millis::seconds(90);

/// The wish asks a copy that runs already.
pub(super) fn is_asked(up: &Up, wish: &TargetSlot) -> bool {
    wish.ask == Ask::Reload && up.mark.generation < wish.generation
}

/// Has it asked, if it is to be.
pub(super) fn press(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    let Stage::Up(up) = &mut slot.durable.stage else { return };
    let Some(Reloading::Due { serial }) = up.reload else {
        slot.reload_again = None;
        return;
    };
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
    let (slot, attempt) = (id.clone(), up.attempt);
    effects.push(Effect::Reload { slot, attempt, serial, signal, commands, timeout: PATIENCE });
}

/// It was asked, or could not be.
pub(super) fn ended(slot: &mut Slot, of: Attempt, which: u64, outcome: Result<(), String>) {
    if let Stage::Up(up) = &mut slot.durable.stage
        && up.attempt == of
        && up.reload == Some(Reloading::Due { serial: which })
    {
        up.reload = outcome.err().map(Reloading::Failed);
        slot.reload_again = None;
    }
}
