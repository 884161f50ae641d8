//! How a copy is stopped: by the rules it runs under, never by those of the copy that replaces it.
//!
//! While the file says that the same program runs (its digest is the same), a change of the ways to
//! stop it takes effect at once. From then on, when it is to be replaced, the last such rules hold:
//! the signal it understands, the time it needs, the stop command with the variables it knows.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use upbeat_model::project::{Service, Signal};
use upbeat_model::reason::StopCause;
use upbeat_model::target::{Goal, TargetSlot};
use upbeat_model::{Attempt, Exit, Millis, Mono, OperationId, SlotId, Wall};

use super::end::ended;
use super::hooks::not_run;
use super::{Around, Condemned, Follows, HookCommand, Mark, Moment, RECHECK_AFTER, Slot, Stage, Up};
use crate::effect::Effect;
use crate::rules::{Bug, Rules};

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
        let command = spec.stop_command.iter().map(|command| HookCommand::plain(command.clone(), wish));
        let commands = HookCommand::all(&spec.pre_stop, wish).into_iter().chain(command).collect();
        let after = HookCommand::all(&spec.post_stop, wish);
        Self { signal: spec.stop_signal, grace: spec.stop_grace_period, commands, after }
    }

    /// Whether this is what the file says by now. Asked for each slot at each change.
    fn is_of(&self, wish: &TargetSlot) -> bool {
        let spec = &wish.spec;
        let (mine, theirs) = (self.commands.len() + self.after.len(), count(spec) + spec.post_stop.len());
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

/// How much is run before the signal.
fn count(spec: &Service) -> usize {
    spec.pre_stop.len() + usize::from(spec.stop_command.is_some())
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
    /// An order to stop it was carried out before the last one, by this daemon or perhaps by one before:
    /// nothing can be taken back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_out: bool,
    /// What runs elsewhere could not be stopped in all the time there was: nothing more is done before
    /// somebody asks anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up: Option<GivenUp>,
}

/// A stop that has failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenUp {
    /// How.
    pub why: String,
    /// Under the wish of which generation,
    pub generation: u64,
    /// and of which operation: a second `stop` is another of these alone.
    pub operation: OperationId,
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
            (false, false) if around.wish.spec.stop_command.is_none() => "`pre_stop` hooks".to_owned(),
            (false, false) => "stop command".to_owned(),
            (false, true) => rules.signal.to_string(),
        },
        deadline: around.now + grace,
        deadline_wall: Wall(around.wall.0.saturating_add_unsigned(grace.0)),
        command_runs: !commands.is_empty() || up.mark.external,
        killed: kill,
        unsaid: false,
        is_out: up.stopping.is_some() || up.may_be_asked,
        given_up: None,
    };
    effects.push(match stopping.command_runs {
        true => before_stop(id, up, commands, grace),
        false => signal(id, up.attempt, &rules, &stopping, around),
    });
    up.stopping = Some(stopping);
}

/// Whether it would be stopped only to be started again, or as it was no good and by its policy: not what
/// somebody wants to be down.
pub(super) fn comes_back(up: &Up, wish: &TargetSlot, rules: Rules) -> bool {
    let stays_down = up.condemned.as_ref().is_some_and(|condemned| condemned.follows == Follows::Nothing);
    (wish.goal == Goal::Running || rules.has(Bug::WithholdWished)) && !stays_down
}

/// As long as nothing can be kept, nothing ends it.
pub(super) fn is_held_back(up: &Up, wish: &TargetSlot, rules: Rules) -> bool {
    up.stopping.is_none() && comes_back(up, wish, rules)
}

/// The order was not carried out, and none before it. It is given when that can be.
pub(super) fn withheld(slot: &mut Slot, attempt: Attempt) {
    if let Stage::Up(up) = &mut slot.durable.stage
        && up.attempt == attempt
    {
        up.stopping.take_if(|stopping| !stopping.is_out && stopping.given_up.is_none());
        slot.recheck = None;
    }
}

/// A stop for an update that nobody insists on, decided by a daemon that died perhaps before it could say so: the locks
/// of its app died with it, so that it is decided anew, with those.
pub(super) fn take_back(slot: &mut Slot, around: &Around<'_>) {
    let Stage::Up(up) = &mut slot.durable.stage else { return };
    let wish = around.wish;
    // Of what runs elsewhere nobody knows how far its stop command has come.
    let has_locks = up.mark.update_lock || (around.app_has_locks && !up.mark.external);
    if !(has_locks && wish.heeds_locks) || wish.kill || around.rules.has(Bug::BelieveOldLocks) {
        return;
    }
    let has_hooks = !StopRules::in_force(up, around).commands.is_empty();
    let taken_back = up.stopping.take_if(|stopping| {
        let is_for_update = matches!(stopping.cause, StopCause::Changed | StopCause::Restart)
            || (stopping.cause == StopCause::Goal && wish.goal == Goal::Absent);
        // Where its hooks have ended the signal was next, and half stopped it is of no use to anybody.
        let is_begun = stopping.is_out || stopping.killed || (has_hooks && !stopping.command_runs);
        stopping.unsaid && is_for_update && !is_begun
    });
    up.may_be_asked |= taken_back.is_some();
}

/// Somebody asks anew of what could not be stopped: whatever they want, its stop is begun anew. Half
/// stopped it is of no use to anybody who wants it to run: that comes after.
pub(super) fn forgive(up: &mut Up, wish: &TargetSlot) {
    let given_up = up.stopping.as_ref().and_then(|stopping| stopping.given_up.as_ref());
    let is_other =
        |given_up: &GivenUp| (given_up.generation, given_up.operation) != (wish.generation, wish.operation);
    if given_up.is_some_and(is_other) {
        up.stopping = None;
        up.condemned = Some(Condemned::half_stopped());
    }
}

/// A stop under way: kill if that is wished by now; ask again when it should be over.
pub(super) fn press(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    let before = effects.len();
    press_on(id, slot, around, effects);
    if effects.len() > before
        && let Stage::Up(up) = &mut slot.durable.stage
        && let Some(stopping) = &mut up.stopping
    {
        stopping.is_out = true;
    }
}

fn press_on(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
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
    if stopping.command_runs
        && around.now < stopping.deadline
        && slot.recheck.is_some_and(|at| at <= around.now)
    {
        // They could not be run: with what is left of the time.
        slot.recheck = None;
        let timeout = stopping.deadline.since(around.now);
        effects.push(before_stop(id, up, rules.commands, timeout));
        return;
    }
    let overdue = stopping.deadline + RECHECK_AFTER;
    let again = slot.recheck.map_or(overdue, |at| at.min(overdue)) <= around.now;
    if again && stopping.command_runs && stopping.deadline <= around.now {
        effects.push(ask_late(id, *attempt, &rules, stopping, around));
        (slot.recheck, slot.trouble) = (None, None);
        return;
    }
    if again {
        // Both the exit and the order to stop may have been lost with a driver: look, and say it
        // again. Either is harmless when it was not.
        stopping.deadline = around.now.max(stopping.deadline);
        effects.push(signal(id, *attempt, &rules, stopping, around));
        slot.recheck = Some(around.now + RECHECK_AFTER);
        effects.push(slot.look(id));
    }
}

/// What is run first has its time within the grace, and the process what is left of it, but so much in any
/// case: or it would be killed in the moment in which it is asked.
const GRACE_LEAST: Millis = Millis::seconds(2);

/// What was run first is over, and has not ended: the machine has slept, or it could not be run. The
/// process has its own time from now on.
fn ask_late(
    id: &SlotId,
    attempt: Attempt,
    rules: &StopRules,
    stopping: &mut Stopping,
    around: &Around<'_>,
) -> Effect {
    ask(id, attempt, rules, stopping, rules.grace, around)
}

/// The signal, after what is run first. The process has what is left of the grace, and at least so long.
fn ask(
    id: &SlotId,
    attempt: Attempt,
    rules: &StopRules,
    stopping: &mut Stopping,
    least: Millis,
    around: &Around<'_>,
) -> Effect {
    stopping.command_runs = false;
    stopping.how = rules.signal.to_string();
    if stopping.deadline.since(around.now) < least {
        stopping.deadline = around.now + least;
        stopping.deadline_wall = Wall(around.wall.0.saturating_add_unsigned(least.0));
    }
    signal(id, attempt, rules, stopping, around)
}

/// A stop command that has failed, or has not said how it ended, is run again: until its time is over,
/// and then once more.
fn press_external(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    let Stage::Up(up) = &mut slot.durable.stage else { return };
    let Some(stopping) = up.stopping.as_ref().filter(|stopping| stopping.given_up.is_none()) else { return };
    let again = slot.recheck.unwrap_or(stopping.deadline + RECHECK_AFTER);
    if again <= around.now {
        let timeout = stopping.deadline.since(around.now).max(COMMAND_MIN);
        // By then it has said how it ended, if anybody runs it.
        slot.recheck = Some(around.now + timeout + RECHECK_AFTER);
        let commands = StopRules::in_force(up, around).commands;
        effects.push(before_stop(id, up, commands, timeout));
    }
}

/// What is to be run before the signal, or in its place.
fn before_stop(id: &SlotId, up: &Up, commands: Vec<Arc<HookCommand>>, timeout: Millis) -> Effect {
    Effect::RunHooks {
        slot: id.clone(),
        attempt: up.attempt,
        moment: Moment::PreStop,
        begun: up.serial,
        serial: up.serial,
        commands,
        timeout,
        exit: None,
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
        slot.trouble = None;
        stopping.is_out = true;
        let has_slept = stopping.deadline + RECHECK_AFTER <= around.now;
        let least = if has_slept { rules.grace } else { rules.grace.min(GRACE_LEAST) };
        effects.push(ask(id, up.attempt, &rules, stopping, least, around));
        return;
    }
    let is_over = stopping.deadline <= around.now || around.rules.has(Bug::GiveUpAtOnce);
    match outcome {
        // Whoever kills wants it gone from here, whatever becomes of it.
        Err(why) if around.wish.kill => {
            ended(id, slot, Exit::Unknown(format!("its stop command failed: {why}")), around);
        }
        // Nothing else can be done about it, and it may run on: that is for a person to see.
        Err(why) if is_over => {
            stopping.given_up =
                Some(GivenUp { why, generation: around.wish.generation, operation: around.wish.operation });
            (slot.recheck, slot.trouble) = (None, None);
        }
        Err(why) if !around.rules.has(Bug::SkipStopCommand) => {
            slot.in_trouble(format!("its stop command failed: {why}"), around);
        }
        _ => ended(id, slot, Exit::Code(0), around),
    }
}

/// What is run first could not be: it is run again soon, until its time is over.
pub(super) fn hooks_unable(
    id: &SlotId,
    slot: &mut Slot,
    why: String,
    around: &Around<'_>,
    effects: &mut Vec<Effect>,
) {
    let Stage::Up(up) = &mut slot.durable.stage else { return };
    let rules = StopRules::in_force(up, around);
    let Some(stopping) = up.stopping.as_mut().filter(|stopping| stopping.command_runs) else { return };
    stopping.is_out = true;
    if stopping.deadline <= around.now {
        if up.mark.external {
            return hooks_ended(id, slot, Err(why), around, effects);
        }
        effects.push(ask_late(id, up.attempt, &rules, stopping, around));
        (slot.recheck, slot.trouble) = (None, None);
        return;
    }
    let what = match up.mark.external {
        true => format!("its stop command could not be run, and is run again: {why}"),
        false => not_run(Moment::PreStop, &why),
    };
    slot.in_trouble(what, around);
}

/// The process asks for more time. What it asked for before it was asked to stop was for something else;
/// from then on its shim tells of nothing older.
pub(super) fn extend(up: &mut Up, until: Mono) {
    if let Some(stopping) = &mut up.stopping
        && !stopping.killed
        && !stopping.command_runs
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
