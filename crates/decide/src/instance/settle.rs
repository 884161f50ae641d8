//! What to do next, judged from what is wished and what is there, as often as needed.

use upbeat_model::reason::StopCause;
use upbeat_model::target::{Ask, Goal, TargetSlot};
use upbeat_model::{Exit, Millis, Reason, SlotId};

use super::end::ended;
use super::react::{press as press_remedy, react};
use super::stop::{self, StopRules, begin_stop, press};
use super::{
    Around, Begun, Condemned, Follows, Mark, Preparation, RECHECK_AFTER, Reloading, Slot, Stage, come_up,
    drift, edges, hooks, making, reload, timeline,
};
use crate::effect::Effect;
use crate::gate::{Opening, Verdict};
use crate::rules::Bug;

/// What the wish means for what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    /// Leave no trace.
    Clear,
    /// Nothing shall run.
    Down(StopCause),
    /// A copy shall be started.
    Run,
    /// What is there is what is wanted.
    Hold,
}

pub(crate) fn intent(slot: &Slot, wish: &TargetSlot) -> Intent {
    match wish.goal {
        Goal::Absent if slot.durable.stage == Stage::Gone => Intent::Hold,
        Goal::Absent => match slot.durable.stage {
            Stage::Up(_) if slot.untouched.is_some() => Intent::Hold,
            Stage::Starting { .. } | Stage::Up(_) => Intent::Down(StopCause::Goal),
            _ => Intent::Clear,
        },
        Goal::Stopped => match slot.durable.stage {
            Stage::Idle => Intent::Hold,
            _ => Intent::Down(StopCause::Goal),
        },
        Goal::Running => match &slot.durable.stage {
            Stage::Idle | Stage::Gone | Stage::Removing | Stage::Resting { .. } => Intent::Run,
            Stage::Starting { begun, .. } => {
                replaced(slot, &begun.mark, wish).map_or(Intent::Hold, Intent::Down)
            }
            Stage::Up(up) => {
                let condemned = || up.condemned.as_ref().map(|condemned| condemned.cause);
                let replaced = replaced(slot, &up.mark, wish).filter(|_| slot.untouched.is_none());
                replaced.or_else(condemned).map_or(Intent::Hold, Intent::Down)
            }
            Stage::Ended { mark } => match runs_again(slot, mark, wish) {
                true => Intent::Run,
                false => Intent::Hold,
            },
        },
    }
}

fn replaced(slot: &Slot, mark: &Mark, wish: &TargetSlot) -> Option<StopCause> {
    let is_other = match (&wish.spec.container, making::made(slot, wish)) {
        (Some(_), Some(made)) => mark.container.as_ref() != Some(&made.container),
        // What shall take its place is not there yet.
        (Some(_), None) if making::is_due(slot, wish) => {
            return making::is_held_up(slot, wish).then_some(StopCause::Changed);
        }
        _ => mark.digest != wish.digest,
    };
    if is_other {
        return Some(StopCause::Changed);
    }
    // Of one that says by itself what it is, and that nobody remembers, the restart may have been before.
    let is_older = (1..wish.generation).contains(&mark.generation);
    (wish.ask == Ask::Restart && is_older).then_some(StopCause::Restart)
}

fn runs_again(slot: &Slot, mark: &Mark, wish: &TargetSlot) -> bool {
    let completed = slot.durable.exit.as_ref().is_some_and(|exit| wish.spec.succeeds_with(exit));
    let asked_anew = mark.generation < wish.generation;
    let leaves_completed = matches!(wish.ask, Ask::Ensure | Ask::Reload);
    let is_other = match (&wish.spec.container, making::made(slot, wish)) {
        (Some(_), Some(made)) => mark.container.as_ref() != Some(&made.container),
        // It may be the same once more, which is seen when it is made.
        (Some(_), None) if making::is_due(slot, wish) => return false,
        _ => mark.digest != wish.digest,
    };
    is_other || (asked_anew && !(leaves_completed && completed))
}

/// It would be stopped for the sake of what is wished now, and was not asked to yet. Who kills does not wait,
/// and what is no good any more is stopped for that.
pub(crate) fn goes_for_a_change(slot: &Slot, wish: &TargetSlot) -> bool {
    let Stage::Up(up) = &slot.durable.stage else { return false };
    let is_wished =
        wish.goal == Goal::Absent || (wish.goal == Goal::Running && replaced(slot, &up.mark, wish).is_some());
    up.stopping.is_none() && !wish.kill && is_wished
}

/// The same of one that is being looked for: what a dead daemon decided may be taken back, and it may run though
/// nobody remembers it.
pub(crate) fn may_go_for_a_change(slot: &Slot, wish: &TargetSlot) -> bool {
    let Stage::Up(up) = &slot.durable.stage else { return true };
    let is_unsaid = up.stopping.as_ref().is_some_and(|stopping| stopping.unsaid);
    is_unsaid || goes_for_a_change(slot, wish)
}

/// It is being stopped, or about to be.
pub(crate) fn is_going(slot: &Slot) -> bool {
    matches!(&slot.durable.stage, Stage::Up(up) if up.stopping.is_some() || up.condemned.is_some())
}

/// Decides until nothing more is to be decided now.
pub(super) fn settle(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    slot.blocked = None;
    follow(id, slot, around.wish);
    if matches!(slot.durable.stage, Stage::Idle | Stage::Resting { .. } | Stage::Ended { .. })
        && slot.durable.late.as_ref().is_some_and(|late| late.until <= around.now)
    {
        slot.observing = true;
    }
    if slot.observing {
        return recheck(id, slot, around, effects);
    }
    making::press(id, slot, around, effects);
    stop::take_back(slot, around);
    slot.untouched = None;
    if goes_for_a_change(slot, around.wish) {
        slot.untouched = (around.untouched)().filter(|_| !around.rules.has(Bug::TouchUnprepared));
    }
    if slot.durable.farewell.is_some() {
        hooks::part(id, slot, around, effects);
        if slot.durable.farewell.is_some() {
            return;
        }
    }
    let intent = intent(slot, around.wish);
    if intent != Intent::Run {
        slot.waiting_since = None;
    }
    match intent {
        Intent::Hold => hold(id, slot, around, effects),
        Intent::Clear => clear(id, slot, around, effects),
        Intent::Run => run(id, slot, around, effects),
        Intent::Down(cause) => down(id, slot, cause, around, effects),
    }
    if slot.recheck.is_some_and(|at| at <= around.now) {
        // Whoever still needs one has set it anew.
        slot.recheck = None;
    }
}

/// What the newest file changes about the copy that is there, whatever is decided about it. In the
/// state at once, so that a daemon that dies forgets none of it.
fn follow(id: &SlotId, slot: &mut Slot, wish: &TargetSlot) {
    reload::follow(&mut slot.durable.stage, wish);
    match &mut slot.durable.stage {
        Stage::Starting { begun, .. } => StopRules::follow(&mut begun.stop, &begun.mark, wish),
        Stage::Up(up) => {
            StopRules::follow(&mut up.stop, &up.mark, wish);
            stop::forgive(up, wish);
            slot.health.follow(id, up, &Slot::said_by(&slot.said, up.attempt), wish);
        }
        _ => {}
    }
}

/// An observation was asked for: nothing is decided before it comes; it is asked for again if it
/// does not.
fn recheck(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    if slot.recheck.is_none_or(|at| at <= around.now) {
        slot.recheck = Some(around.now + RECHECK_AFTER);
        effects.push(slot.look(id));
    }
}

fn hold(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    let is_due = making::is_due(slot, around.wish);
    match &mut slot.durable.stage {
        Stage::Starting { before: Preparation::Due, .. } => hooks::precede(id, slot, around, effects),
        Stage::Starting { .. } => recheck_start(id, slot, around, effects),
        Stage::Up(up) if up.stopping.is_some() => press(id, slot, around, effects),
        Stage::Up(_) => live(id, slot, around, effects),
        Stage::Ended { .. } if is_due => {}
        Stage::Ended { mark } => mark.generation = around.wish.generation,
        _ => {}
    }
}

/// A copy that is as wished.
fn live(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    let settled = slot.untouched.is_none() && !making::is_due(slot, around.wish);
    let Stage::Up(up) = &mut slot.durable.stage else { return };
    if up.mark.generation < around.wish.generation && settled {
        // `start`, `up` or `reload` found it running: from now on it runs under their wish.
        // A reload that is due stays so: somebody else's, or for the sake of what it rests on.
        let forgets = around.rules.has(Bug::ReplaceReloads) && around.wish.ask != Ask::Reload;
        if !matches!(up.reload, Some(Reloading::Due { .. })) || forgets {
            up.reload = None;
        }
        up.mark.pass_to(around.wish, around.rules);
        // Somebody looks after it.
        up.answers.values_mut().for_each(|answer| answer.spent = false);
        slot.durable.restarts = 0;
        slot.reload_again = None;
        if !up.preparation.is_done() {
            // Its hooks may be others by now. Whoever runs the same ones goes on.
            slot.recheck = None;
        }
    }
    if !up.preparation.is_done() {
        hooks::prepare(id, slot, around, effects);
    }
    see_off(slot, around);
    drift::press(id, slot, around, effects);
    let Stage::Up(up) = &mut slot.durable.stage else { return };
    if up.preparation.is_done() {
        edges::look(up, around);
        ask(id, slot, around, effects);
        press_remedy(id, slot, around, effects);
        reload::press(id, slot, around, effects);
    }
    let Stage::Up(up) = &mut slot.durable.stage else { return };
    if let Some(condemned) = &up.condemned {
        let cause = condemned.cause;
        down(id, slot, cause, around, effects);
    }
}

/// Who has said that it is about to end, and has not in the time it would have if it were asked to, is
/// made to. Nothing else would see that: its watchdog is off, and nobody asks it anew.
fn see_off(slot: &mut Slot, around: &Around<'_>) {
    let Stage::Up(up) = &slot.durable.stage else { return };
    let is_late = slot.leaves_by(up).is_some_and(|by| by <= around.now);
    let Stage::Up(up) = &mut slot.durable.stage else { return };
    if is_late && up.condemned.is_none() {
        up.condemned =
            Some(Condemned { cause: StopCause::SaidStopping, exit: None, follows: Follows::Policy });
    }
}

/// It is to be stopped, and waits for others: until then it is held to what it shall be.
fn go_on_for_now(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    (slot.reload_again, slot.remedy_again) = (None, None);
    drift::press(id, slot, around, effects);
    if matches!(&slot.durable.stage, Stage::Up(up) if up.preparation.is_done()) {
        ask(id, slot, around, effects);
    }
}

/// Asks its probes, and does what is to be done about those that say no.
fn ask(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    let Stage::Up(up) = &mut slot.durable.stage else { return };
    let said = Slot::said_by(&slot.said, up.attempt);
    for failed in slot.health.probe(id, up, &said, around, effects) {
        let reacted = react(id, slot, failed, around, effects);
        slot.reacted.extend(reacted);
    }
}

/// The answer to a start is overdue when the driver was lost: then look.
fn recheck_start(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    if matches!(&slot.durable.stage, Stage::Starting { begun, .. } if begun.mark.external) {
        // There is nothing to look at. Whoever runs its command takes it once.
        if slot.recheck.is_none_or(|at| at <= around.now) {
            start(id, slot, around, effects);
        }
        return;
    }
    match slot.recheck {
        None => slot.recheck = Some(around.now + START_OVERDUE),
        Some(at) if at <= around.now => {
            slot.observing = true;
            slot.recheck = Some(around.now + RECHECK_AFTER);
            effects.push(slot.look(id));
        }
        Some(_) => {}
    }
}

/// A start is answered in milliseconds; on a machine that swaps, in seconds. The driver calls it off
/// after twenty, so that one that is overdue here was lost with its driver.
pub(super) const START_OVERDUE: Millis = Millis::seconds(60);

fn clear(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    if slot.durable.stage != Stage::Removing {
        slot.durable.stage = Stage::Removing;
        slot.recheck = None;
    }
    remove(id, slot, around, effects);
}

/// Orders the removal, once the last order was answered. Where it failed, or was not answered, a
/// copy may be there after all, which was late: then that goes first.
fn remove(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    match slot.recheck {
        Some(at) if at > around.now => return,
        Some(_) => {
            slot.observing = true;
            effects.push(slot.look(id));
        }
        None => {
            let container = slot.may_be_container();
            let networks = if container { (around.last_in)(&slot.durable.networks) } else { Vec::new() };
            effects.push(Effect::Remove { slot: id.clone(), container, networks });
        }
    }
    slot.recheck = Some(around.now + RECHECK_AFTER);
}

fn run(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    if slot.durable.stage == Stage::Gone {
        slot.durable.stage = Stage::Idle;
    }
    let asked_anew =
        |mark: &Mark| mark.generation < around.wish.generation || mark.digest != around.wish.digest;
    match &slot.durable.stage {
        // A removal under way ends first; its files must not vanish under a new copy.
        Stage::Removing => return remove(id, slot, around, effects),
        Stage::Resting { mark, .. } | Stage::Ended { mark } if asked_anew(mark) => {
            slot.durable.failures = 0;
            slot.durable.restarts = 0;
            slot.durable.stage = Stage::Idle;
        }
        Stage::Resting { until_wall, .. }
            if around.rules.has(Bug::TrustTheWall) && *until_wall > around.wall =>
        {
            return;
        }
        Stage::Resting { until, .. } if *until > around.now && !around.rules.has(Bug::TrustTheWall) => return,
        Stage::Resting { .. } => {}
        _ => slot.durable.restarts = 0,
    }
    let since = slot.waiting_since.map_or(around.now, |(_, since)| since);
    if around.wish.spec.external && slot.durable.late.is_some() {
        // Nothing of it would ever be met by what is begun now.
        slot.trouble = Some("a start that was ordered before may still come".to_owned());
        slot.durable.stage = Stage::Idle;
        return;
    }
    let verdict = match making::reason(slot, around.wish) {
        Some(reason) => Verdict::Wait(reason),
        None => gate(slot, around),
    };
    if verdict != Verdict::Open {
        (slot.blocked, slot.prepared) = (Some(verdict), None);
        timeline::waits(&mut slot.durable, since);
        return;
    }
    timeline::opens(&mut slot.durable, since, around.now);
    if matches!(slot.durable.stage, Stage::Resting { .. }) {
        slot.durable.restarts += 1;
    }
    if !around.rules.has(Bug::ReuseAttempts) {
        slot.durable.attempt = slot.durable.attempt.next();
    }
    let mark = Mark::made_of(around.wish, slot.durable.made.as_ref());
    let prepared = slot.prepared.take().filter(|begun| begun.mark == mark);
    let begun = Begun {
        mark,
        serial: prepared.as_ref().map_or(u64::try_from(around.wall.0).unwrap_or(0), |begun| begun.serial),
        stop: Some(StopRules::of(around.wish)),
        rests_on: edges::now(around.wish, around),
        reload: None,
    };
    let before = match prepared {
        Some(_) => Preparation::Done,
        None => Preparation::before(around),
    };
    slot.durable.stage = Stage::Starting { begun, before };
    slot.recheck = None;
    slot.trouble = None;
    match before {
        Preparation::Due => hooks::precede(id, slot, around, effects),
        Preparation::Done => start(id, slot, around, effects),
    }
}

/// What it needs, and since when it waits for that.
fn gate(slot: &mut Slot, around: &Around<'_>) -> Verdict {
    if around.rules.has(Bug::IgnoreGate) {
        return Verdict::Open;
    }
    let generation = around.wish.generation;
    let known =
        slot.waiting_since.filter(|(of, _)| *of == generation || around.rules.has(Bug::WaitSinceEver));
    let (_, since) = *slot.waiting_since.insert(known.unwrap_or((generation, around.now)));
    // It was there before, as it is wished: as long as nothing is touched it goes on with what there is.
    let resumes =
        matches!(&slot.durable.stage, Stage::Resting { mark, .. } if mark.digest == around.wish.digest);
    let Opening { verdict, due } = (around.start_gate)(since, resumes);
    slot.gate_due = due.filter(|_| !around.rules.has(Bug::IgnoreTimeouts));
    if verdict == Verdict::Open {
        slot.waiting_since = None;
    }
    verdict
}

/// Orders the start of what is begun.
fn start(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    (slot.recheck, slot.trouble) = (Some(around.now + START_OVERDUE), None);
    // One that came late is met by this order, and not before.
    slot.durable.late = None;
    let container = slot.begun().and_then(|begun| begun.mark.container.clone());
    let order = |attempt| Effect::Start {
        slot: id.clone(),
        attempt,
        spec: around.wish.spec.clone(),
        base_environment: around.wish.base_environment.clone(),
        container: container.clone(),
    };
    effects.push(order(slot.durable.attempt));
    if around.rules.has(Bug::StartTwice) {
        effects.push(order(slot.durable.attempt.next()));
    }
}

/// The `pre_start` hooks have ended. What it needs must still be there.
pub(super) fn preceded(
    id: &SlotId,
    slot: &mut Slot,
    outcome: Result<(), String>,
    around: &Around<'_>,
    effects: &mut Vec<Effect>,
) {
    let Stage::Starting { before: before @ Preparation::Due, .. } = &mut slot.durable.stage else { return };
    (slot.recheck, slot.trouble) = (None, None);
    if let Err(why) = outcome {
        return ended(id, slot, Exit::NotStarted(format!("pre_start: {why}")), around);
    }
    *before = Preparation::Done;
    if gate(slot, around) != Verdict::Open {
        slot.durable.stage = Stage::Idle;
        return;
    }
    if let Stage::Starting { begun, .. } = &mut slot.durable.stage {
        // It is started as the newest file says, and rests on what runs now, not on what ran when its
        // hooks were.
        begun.mark = Mark::made_of(around.wish, slot.durable.made.as_ref());
        if !around.rules.has(Bug::RestOnThePast) {
            begun.rests_on = edges::now(around.wish, around);
        }
    }
    start(id, slot, around, effects);
}

/// Why something runs on that is to be stopped, and started again.
const UNKEPT: &str = "it is not stopped before it could be started again: what is decided cannot be \
    stored, as the daemon's log says";

fn down(id: &SlotId, slot: &mut Slot, cause: StopCause, around: &Around<'_>, effects: &mut Vec<Effect>) {
    let readiness = making::readiness(slot, around.wish);
    match &mut slot.durable.stage {
        // Nothing was started yet.
        Stage::Starting { before: Preparation::Due, .. } => {
            slot.durable.stage = Stage::Idle;
            slot.durable.failures = 0;
            (slot.recheck, slot.trouble) = (None, None);
            match intent(slot, around.wish) {
                Intent::Run => run(id, slot, around, effects),
                Intent::Clear => clear(id, slot, around, effects),
                Intent::Hold | Intent::Down(_) => {}
            }
        }
        // Its command runs, or was ordered by a daemon that is gone, and there is nothing to look at: what it
        // starts may be there. Whoever runs the stop command ends the other first.
        Stage::Starting { begun, .. } if begun.mark.external => {
            let (begun, attempt) = (begun.clone(), slot.durable.attempt);
            come_up(slot, begun, attempt, 0, around.wall, 0, around);
            if let Stage::Up(up) = &mut slot.durable.stage {
                // It was never seen to be up, whatever is wished by the time that it can be stopped.
                up.condemned = Some(Condemned::half_stopped());
            }
            down(id, slot, cause, around, effects);
        }
        Stage::Starting { .. } => recheck_start(id, slot, around, effects),
        Stage::Up(up) if up.stopping.is_some() => press(id, slot, around, effects),
        Stage::Up(up)
            if !around.keeps
                && stop::comes_back(up, around.wish, around.rules)
                && !around.rules.has(Bug::RetryWithheld) =>
        {
            let detail = UNKEPT.to_owned();
            slot.blocked = Some(Verdict::Wait(Reason::Trouble { detail }));
            go_on_for_now(id, slot, around, effects);
        }
        Stage::Up(up) => {
            let skip = around.wish.kill || around.rules.has(Bug::StopInAnyOrder);
            if let Some(reason) = (!skip).then(|| (around.stop_gate)(readiness)).flatten() {
                slot.blocked = Some(Verdict::Wait(reason));
                return go_on_for_now(id, slot, around, effects);
            }
            begin_stop(id, up, cause, around, effects);
            // What could not be run beside it is not waited for.
            (slot.recheck, slot.trouble) = (None, None);
        }
        _ => {
            slot.durable.stage = Stage::Idle;
            slot.durable.failures = 0;
            slot.durable.done.clear();
            slot.recheck = None;
        }
    }
}
