//! How a copy is stopped: by the rules it runs under, never by those of the copy that replaces it.
//!
//! While the file says that the same program runs (its digest is the same), a change of the ways to
//! stop it takes effect at once. From then on, when it is to be replaced, the last such rules hold:
//! the signal it understands, the time it needs, the stop command with the variables it knows.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use upbeat_model::project::Signal;
use upbeat_model::reason::StopCause;
use upbeat_model::target::TargetSlot;
use upbeat_model::{Attempt, Millis, Mono, SlotId, Wall};

use super::{Around, Mark, RECHECK_AFTER, Slot, Stage, Up};
use crate::effect::Effect;
use crate::rules::Bug;

/// Rules that are larger than this are not kept across the death of a daemon. Far below what a store
/// takes as one value (1.5 MiB), as one slot that cannot be committed would hold up all others; far
/// above what people write.
const KEPT_MAX: usize = 256 * 1024;

/// How a copy is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRules {
    /// What asks it to.
    pub signal: Signal,
    /// How long it may take.
    pub grace: Millis,
    /// What is run first.
    #[serde(default)]
    pub command: Option<Arc<StopCommand>>,
}

/// A stop command, and all it is run with. Of a copy without one nothing of this is kept: a state is
/// written for each slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopCommand {
    /// Program and arguments.
    pub command: Vec<String>,
    /// The variables of the service.
    pub environment: BTreeMap<String, String>,
    /// Variables given before its own.
    pub base_environment: Arc<BTreeMap<String, String>>,
    /// Where it is run.
    pub working_dir: String,
    /// As whom.
    pub user: Option<String>,
}

impl StopRules {
    /// As the file says by now.
    pub(super) fn of(wish: &TargetSlot) -> Self {
        let spec = &wish.spec;
        let command = spec.stop_command.as_ref().map(|command| {
            Arc::new(StopCommand {
                command: command.clone(),
                environment: spec.environment.clone(),
                base_environment: wish.base_environment.clone(),
                working_dir: spec.working_dir.clone(),
                user: spec.user.clone(),
            })
        });
        Self { signal: spec.stop_signal, grace: spec.stop_grace_period, command }
    }

    /// Whether this is what the file says by now.
    fn is_of(&self, wish: &TargetSlot) -> bool {
        let spec = &wish.spec;
        let same_command = match (&self.command, &spec.stop_command) {
            (None, None) => true,
            (Some(kept), Some(command)) => {
                kept.command == *command
                    && kept.base_environment == wish.base_environment
                    && kept.environment == spec.environment
                    && kept.working_dir == spec.working_dir
                    && kept.user == spec.user
            }
            _ => false,
        };
        self.signal == spec.stop_signal && self.grace == spec.stop_grace_period && same_command
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
        let Some(command) = &self.command else { return 0 };
        let of_map = |map: &BTreeMap<String, String>| -> usize {
            map.iter().map(|(name, value)| name.len() + value.len()).sum()
        };
        let arguments: usize = command.command.iter().map(String::len).sum();
        arguments + of_map(&command.environment) + of_map(&command.base_environment)
    }
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
    /// The stop command runs; the signal comes after it.
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
    let command = rules.command.as_ref().filter(|_| !kill);
    let stopping = Stopping {
        cause,
        how: match (kill, command) {
            (true, _) => Signal::KILL.to_string(),
            (false, Some(_)) => "stop command".to_owned(),
            (false, None) => rules.signal.to_string(),
        },
        deadline: around.now + grace,
        deadline_wall: Wall(around.wall.0.saturating_add_unsigned(grace.0)),
        command_runs: command.is_some(),
        killed: kill,
        unsaid: false,
    };
    effects.push(match command {
        Some(command) => Effect::RunStopCommand {
            slot: id.clone(),
            attempt: up.attempt,
            command: command.clone(),
            timeout: grace,
        },
        None => signal(id, up.attempt, &rules, &stopping, around),
    });
    up.stopping = Some(stopping);
}

/// A stop under way: kill if that is wished by now; ask again when it should be over.
pub(super) fn press(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    let Stage::Up(up) = &mut slot.durable.stage else { return };
    if let Some(Stopping { cause, unsaid: true, .. }) = up.stopping {
        return begin_stop(id, up, cause, around, effects);
    }
    let rules = StopRules::in_force(up, around);
    let Up { attempt, stopping: Some(stopping), .. } = up else { return };
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

/// The signal follows the stop command.
pub(super) fn command_ended(id: &SlotId, up: &mut Up, around: &Around<'_>, effects: &mut Vec<Effect>) {
    let rules = StopRules::in_force(up, around);
    if let Some(stopping) = up.stopping.as_mut().filter(|stopping| stopping.command_runs) {
        stopping.command_runs = false;
        effects.push(signal(id, up.attempt, &rules, stopping, around));
    }
}

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
