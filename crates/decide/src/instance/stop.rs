//! How a copy is stopped: by the rules it runs under, never by those of the copy that replaces it.
//!
//! While the file says that the same program runs (its digest is the same), a change of the ways to
//! stop it takes effect at once. From then on, when it is to be replaced, the last such rules hold:
//! the signal it understands, the time it needs, the stop command with the variables it knows.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use upbeat_model::project::{Hook, Service, Signal};
use upbeat_model::reason::StopCause;
use upbeat_model::target::TargetSlot;
use upbeat_model::{Attempt, Exit, Millis, Mono, SlotId, Wall};

use super::end::ended;
use super::{Around, HookCommand, Mark, Moment, RECHECK_AFTER, Slot, Stage, Up};
use crate::effect::Effect;
use crate::rules::Bug;

/// Rules that are larger than this are not kept across the death of a daemon. Far below what a store
/// takes as one value (1.5 MiB), as one slot that cannot be committed would hold up all others; far
/// above what people write.
pub(super) const KEPT_MAX: usize = 256 * 1024;

/// How a copy is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRules {
    /// What asks it to.
    pub signal: Signal,
    /// How long it may take.
    pub grace: Millis,
    /// What is run first: its `pre_stop` hooks, then its stop command. Of a copy without any nothing
    /// else is kept: a state is written for each slot.
    #[serde(default)]
    pub commands: Vec<Arc<HookCommand>>,
    /// What is run when it has ended: its `post_stop` hooks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Arc<HookCommand>>,
}

impl StopRules {
    /// As the file says by now.
    pub(super) fn of(wish: &TargetSlot) -> Self {
        let spec = &wish.spec;
        let commands = hooks(spec).map(|hook| Arc::new(HookCommand::of(&hook, wish))).collect();
        let after = HookCommand::all(&spec.post_stop, wish);
        Self { signal: spec.stop_signal, grace: spec.stop_grace_period, commands, after }
    }

    /// Whether this is what the file says by now. Asked for each slot at each change.
    fn is_of(&self, wish: &TargetSlot) -> bool {
        let spec = &wish.spec;
        let (mine, theirs) =
            (self.commands.len() + self.after.len(), hooks(spec).count() + spec.post_stop.len());
        if self.signal != spec.stop_signal || self.grace != spec.stop_grace_period || mine != theirs {
            return false;
        }
        mine == 0 || *self == Self::of(wish)
    }

    /// The file may say something else by now of a copy of the same program.
    pub(super) fn follow(rules: &mut Option<Self>, mark: &Mark, wish: &TargetSlot) {
        if mark.digest == wish.digest && !rules.as_ref().is_some_and(|rules| rules.is_of(wish)) {
            *rules = Some(Self::of(wish));
        }
    }

    /// What a copy is stopped by now.
    pub(super) fn in_force(up: &Up, around: &Around<'_>) -> Self {
        match &up.stop {
            Some(rules) if !around.rules.has(Bug::StopByNewFile) => rules.clone(),
            _ => Self::of(around.wish),
        }
    }

    /// Whether these are left out of the kept state.
    pub(super) fn is_not_kept(rules: &Option<Self>) -> bool {
        rules.as_ref().is_none_or(|rules| rules.size() > KEPT_MAX)
    }

    fn size(&self) -> usize {
        self.commands.iter().chain(&self.after).map(|command| command.size()).sum()
    }
}

/// What is run before the signal.
fn hooks(spec: &Service) -> impl Iterator<Item = Hook> + '_ {
    let command = spec.stop_command.iter().map(|command| Hook {
        command: command.clone(),
        environment: BTreeMap::new(),
        working_dir: None,
        user: None,
    });
    spec.pre_stop.iter().cloned().chain(command)
}

/// A stop under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopping {
    /// For what.
    pub cause: StopCause,
    /// How, for people: `SIGTERM`, `stop command`.
    pub how: String,
    /// When the shim kills it.
    pub deadline: Mono,
    /// The same for people.
    pub deadline_wall: Wall,
    /// What is run first runs; the signal comes after it.
    pub command_runs: bool,
    /// It was killed without grace.
    pub killed: bool,
    /// Decided by a daemon that died, perhaps before it could say so: it is begun anew, with the
    /// whole grace period. A shim that was asked already keeps its earlier deadline.
    #[serde(default)]
    pub unsaid: bool,
}

pub(super) fn begin_stop(
    id: &SlotId,
    up: &mut Up,
    cause: StopCause,
    around: &Around<'_>,
    effects: &mut Vec<Effect>,
) {
    let rules = StopRules::in_force(up, around);
    let kill = around.wish.kill;
    let grace = if kill { Millis(0) } else { rules.grace };
    // Of a stop that a dead daemon had begun, they may have ended: that was kept, and then they are not
    // run again.
    let have_run = up.stopping.as_ref().is_some_and(|stopping| !stopping.command_runs);
    // What runs elsewhere can be stopped by nothing else.
    let commands = if (kill && !up.mark.external) || have_run { Vec::new() } else { rules.commands.clone() };
    let grace = if up.mark.external { rules.grace.max(COMMAND_MIN) } else { grace };
    let stopping = Stopping {
        cause,
        how: match (kill && !up.mark.external, commands.is_empty()) {
            (true, _) => Signal::KILL.to_string(),
            (false, false) => "stop command".to_owned(),
            (false, true) => rules.signal.to_string(),
        },
        deadline: around.now + grace,
        deadline_wall: Wall(around.wall.0.saturating_add_unsigned(grace.0)),
        command_runs: !commands.is_empty() || up.mark.external,
        killed: kill,
        unsaid: false,
    };
    effects.push(match stopping.command_runs {
        true => Effect::RunHooks {
            slot: id.clone(),
            attempt: up.attempt,
            moment: Moment::PreStop,
            serial: up.serial,
            commands,
            timeout: grace,
            exit: None,
        },
        false => signal(id, up.attempt, &rules, &stopping, around),
    });
    up.stopping = Some(stopping);
}

/// A stop under way: kill if that is wished by now; ask again when it should be over.
pub(super) fn press(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    let Stage::Up(up) = &mut slot.durable.stage else { return };
    if let Some(Stopping { cause, unsaid: true, .. }) = up.stopping {
        return begin_stop(id, up, cause, around, effects);
    }
    if up.mark.external {
        return press_external(id, slot, around, effects);
    }
    let rules = StopRules::in_force(up, around);
    let Up { attempt, stopping: Some(stopping), .. } = &mut **up else { return };
    if around.wish.kill && !stopping.killed {
        stopping.killed = true;
        stopping.command_runs = false;
        stopping.how = Signal::KILL.to_string();
        stopping.deadline = around.now;
        stopping.deadline_wall = around.wall;
        effects.push(signal(id, *attempt, &rules, stopping, around));
        return;
    }
    let overdue = stopping.deadline + RECHECK_AFTER;
    let again = slot.recheck.map_or(overdue, |at| at.min(overdue)) <= around.now;
    if again {
        // Both the exit and the order to stop may have been lost with a driver: look, and say it
        // again. Either is harmless when it was not.
        stopping.deadline = around.now.max(stopping.deadline);
        if !stopping.command_runs || around.now >= stopping.deadline {
            stopping.command_runs = false;
            effects.push(signal(id, *attempt, &rules, stopping, around));
        }
        slot.recheck = Some(around.now + RECHECK_AFTER);
        effects.push(slot.look(id));
    }
}

/// A stop command that has not said how it ended is run again, with all its time.
fn press_external(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    let Stage::Up(up) = &mut slot.durable.stage else { return };
    let Some(stopping) = &up.stopping else { return };
    let again = slot.recheck.unwrap_or(stopping.deadline + RECHECK_AFTER);
    if again <= around.now {
        let cause = stopping.cause;
        begin_stop(id, up, cause, around, effects);
        // By then it has said how it ended, if anybody runs it.
        slot.recheck = up.stopping.as_ref().map(|stopping| stopping.deadline + RECHECK_AFTER);
    }
}

/// What is run first has ended: the signal follows. What runs elsewhere has ended with it.
pub(super) fn hooks_ended(
    id: &SlotId,
    slot: &mut Slot,
    outcome: Result<(), String>,
    around: &Around<'_>,
    effects: &mut Vec<Effect>,
) {
    let Stage::Up(up) = &mut slot.durable.stage else { return };
    let rules = StopRules::in_force(up, around);
    let Some(stopping) = up.stopping.as_mut().filter(|stopping| stopping.command_runs) else { return };
    if !up.mark.external {
        stopping.command_runs = false;
        effects.push(signal(id, up.attempt, &rules, stopping, around));
        return;
    }
    match outcome {
        Err(why) if !around.wish.kill && !around.rules.has(Bug::SkipStopCommand) => {
            slot.in_trouble(format!("its stop command: {why}"), around);
        }
        _ => ended(id, slot, Exit::Code(0), around),
    }
}

/// The process asks for more time.
pub(super) fn extend(up: &mut Up, until: Mono) {
    if let Some(stopping) = &mut up.stopping
        && !stopping.killed
        && until > stopping.deadline
    {
        let more = until.since(stopping.deadline);
        stopping.deadline = until;
        stopping.deadline_wall = Wall(stopping.deadline_wall.0.saturating_add_unsigned(more.0));
    }
}

/// A stop command of what runs elsewhere has at least this long: it may have to wait for an end.
const COMMAND_MIN: Millis = Millis::seconds(10);

/// The order to stop, with what is left of the grace period.
fn signal(
    id: &SlotId,
    attempt: Attempt,
    rules: &StopRules,
    stopping: &Stopping,
    around: &Around<'_>,
) -> Effect {
    let signal = if stopping.killed { Signal::KILL } else { rules.signal };
    Effect::Stop { slot: id.clone(), attempt, signal, grace: stopping.deadline.since(around.now) }
}
