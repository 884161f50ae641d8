//! The container of a wish: made before anything that runs is touched for it.
//!
//! ```text
//!   wished by a newer generation, or by another spec
//!          │                       prepared
//!          ▼        ┌──────────────────────────────▶ made: started, or put in place of what runs, if it
//!       ordered ────┤                                is another; taken by another's hand: not made
//!          ▲        │ held up: everything is there but what can only be made anew when what runs
//!          │ due    ├─────────────────▶ has stopped; then it is stopped first
//!          └────────┘ failed, no engine: after a while
//! ```
//!
//! Which container it is says the engine: one of the same spec and the same image is taken as it is.
//! So whether a copy is the wanted one is whether it *is* the container that was made.

use upbeat_model::project::Container;
use upbeat_model::target::{Goal, TargetSlot};
use upbeat_model::{Millis, Mono, Reason, SlotId};

use super::{Around, Made, Mark, Slot, Stage, Unprepared};
use crate::effect::Effect;
use crate::gate::Verdict;
use crate::rules::{Bug, Rules};

/// An order that was not answered is given again: whoever carries it out takes it once. Pulls take
/// minutes, and their answer is not lost but with the daemon.
const ORDER_AGAIN: Millis = Millis::seconds(60);

/// How soon it is tried again (`spec/mahler.md 1.B.4`: from one second, doubled each time, to five minutes).
const AGAIN_FIRST: Millis = Millis::seconds(1);
const AGAIN_MAX: Millis = Millis::seconds(300);

/// What cannot be reached is asked after so often: it costs one connection that is refused.
const REACH_AGAIN: Millis = Millis::seconds(2);

/// A container that is being made, or could not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Making {
    /// For the wish of which generation,
    generation: u64,
    /// and which spec.
    digest: String,
    /// When the order is given again.
    due: Mono,
    /// How often it has failed in a row.
    failures: u32,
    /// Before it was first ordered there was nothing of the slot in an engine, as far as anybody knows.
    is_fresh: bool,
    /// How far it is.
    standing: Standing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    /// Ordered, and this is being done.
    Ordered(Option<String>),
    /// It could not be made.
    Failed(Unprepared),
}

impl Making {
    fn is_for(&self, wish: &TargetSlot) -> bool {
        (self.generation, &self.digest) == (wish.generation, &wish.digest)
    }
}

/// What the rest of its app has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Everything that is wished here is there, or nothing has to be.
    There,
    /// It is being made.
    OnItsWay,
    /// It cannot be made, for now.
    Failed,
}

fn container(wish: &TargetSlot) -> Option<&Container> {
    wish.spec.container.as_deref().filter(|_| wish.goal == Goal::Running)
}

/// Networks of the engine that are made for a wish.
pub(crate) fn networks(wish: &TargetSlot) -> impl Iterator<Item = &str> {
    let attachments = wish.spec.container.iter().flat_map(|container| container.networks());
    attachments.filter(|at| !at.network.external).map(|at| at.network.name.as_str())
}

/// The container that was made for this wish.
pub(super) fn made<'a>(slot: &'a Slot, wish: &TargetSlot) -> Option<&'a Made> {
    slot.durable.made.as_ref().filter(|made| made.generation >= wish.generation && made.digest == wish.digest)
}

/// What runs has to stop before it can be made.
pub(super) fn is_held_up(slot: &Slot, wish: &TargetSlot) -> bool {
    slot.making.as_ref().is_some_and(|making| {
        making.is_for(wish) && matches!(making.standing, Standing::Failed(Unprepared::HeldUp(_)))
    })
}

/// A container is wished and not made.
pub(super) fn is_due(slot: &Slot, wish: &TargetSlot) -> bool {
    if container(wish).is_none() || made(slot, wish).is_some() {
        return false;
    }
    let mark = match &slot.durable.stage {
        Stage::Idle | Stage::Resting { .. } | Stage::Gone => return true,
        Stage::Starting { .. } | Stage::Removing => return false,
        Stage::Up(up) => &up.mark,
        Stage::Ended { mark } => mark,
    };
    // As wished, though nobody remembers how it was made.
    is_older(mark, wish)
}

/// It will be due as soon as what is under way has ended: a start that was ordered for an older wish, or a
/// removal.
fn will_be_due(slot: &Slot, wish: &TargetSlot) -> bool {
    if container(wish).is_none() || made(slot, wish).is_some() {
        return false;
    }
    match &slot.durable.stage {
        Stage::Starting { begun, .. } => is_older(&begun.mark, wish),
        Stage::Removing => true,
        _ => false,
    }
}

fn is_older(mark: &Mark, wish: &TargetSlot) -> bool {
    mark.generation < wish.generation || mark.digest != wish.digest
}

/// Whether others may be touched for the sake of the same operation.
pub fn readiness(slot: &Slot, wish: &TargetSlot) -> Readiness {
    if will_be_due(slot, wish) {
        return Readiness::OnItsWay;
    }
    if !is_due(slot, wish) || is_held_up(slot, wish) {
        return Readiness::There;
    }
    match slot.making.as_ref().filter(|making| making.is_for(wish)).map(|making| &making.standing) {
        Some(Standing::Failed(_)) => Readiness::Failed,
        _ => Readiness::OnItsWay,
    }
}

/// What is there is of an older wish, and there is another to come: one that is being made, or waits until what
/// others need is made. Where that has failed, what runs is all there is, and may be used; but what has ended
/// has done what the older file said, and not what this one does.
pub(super) fn is_outdated(slot: &Slot, wish: &TargetSlot) -> bool {
    if wish.goal != Goal::Running {
        return false;
    }
    match &slot.durable.stage {
        Stage::Ended { mark } => is_due(slot, wish) && (mark.digest != wish.digest || !is_stuck(slot, wish)),
        Stage::Up(_) => match &slot.untouched {
            Some(_) => !stays_for_now(slot, wish),
            None => is_due(slot, wish) && !is_stuck(slot, wish),
        },
        _ => false,
    }
}

/// What shall take its place could not be made.
pub(super) fn is_stuck(slot: &Slot, wish: &TargetSlot) -> bool {
    let making = slot.making.as_ref().filter(|making| making.is_for(wish));
    let failed = |making: &Making| {
        !matches!(making.standing, Standing::Ordered(_) | Standing::Failed(Unprepared::HeldUp(_)))
    };
    is_due(slot, wish) && making.is_some_and(failed)
}

/// It shall go, or be another, and runs on as something could not be made: that is tried again.
pub fn stays_for_now(slot: &Slot, wish: &TargetSlot) -> bool {
    let for_others =
        matches!(slot.untouched, Some(Verdict::Wait(Reason::NothingIsTouched { failed: true, .. })));
    for_others || is_stuck(slot, wish)
}

/// Orders what is due.
pub(super) fn press(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    let wish = around.wish;
    if !is_due(slot, wish) {
        slot.making = None;
        return;
    }
    let known = slot.making.take().filter(|making| making.is_for(wish));
    if let Some(making) = &known
        && making.due > around.now
    {
        slot.making = known;
        return;
    }
    let is_fresh = !slot.appeared && slot.durable.networks.is_empty();
    slot.appeared = true;
    slot.durable.networks.extend(networks(wish).map(str::to_owned));
    effects.push(Effect::Prepare {
        slot: id.clone(),
        generation: wish.generation,
        digest: wish.digest.clone(),
        release: wish.release,
        spec: wish.spec.clone(),
    });
    slot.making = Some(Making {
        generation: wish.generation,
        digest: wish.digest.clone(),
        due: around.now + ORDER_AGAIN,
        failures: known.as_ref().map_or(0, |making| making.failures),
        is_fresh,
        // What has failed is said until it has succeeded.
        standing: known.map_or(Standing::Ordered(None), |making| making.standing),
    });
}

/// How far it is.
pub(super) fn goes_on(slot: &mut Slot, generation: u64, step: String, around: &Around<'_>) {
    if let Some(making) = &mut slot.making
        && making.generation == generation
    {
        making.standing = Standing::Ordered(Some(step));
        making.due = around.now + ORDER_AGAIN;
    }
}

/// It is made. Of an older wish it is none of this one's; and where nothing is being made, it is an answer to
/// an order that another one has answered since, perhaps by another container.
pub(super) fn done(slot: &mut Slot, made: Made, wish: &TargetSlot, rules: Rules) {
    let is_awaited = slot.making.as_ref().is_some_and(|making| making.is_for(wish));
    if rules.has(Bug::BelieveOldPrepared) {
        let (generation, digest) = (wish.generation, wish.digest.clone());
        slot.durable.made = Some(Made { generation, digest, ..made });
    } else if is_awaited && made.generation == wish.generation && made.digest == wish.digest {
        slot.durable.made = Some(made);
        slot.making = None;
    }
}

/// It could not be made.
pub(super) fn failed(slot: &mut Slot, generation: u64, digest: &str, why: Unprepared, around: &Around<'_>) {
    let Some(making) = &mut slot.making else { return };
    if making.generation != generation || making.digest != digest {
        return;
    }
    let delay = match &why {
        Unprepared::Failed(_) => {
            making.failures = making.failures.saturating_add(1);
            let doubled = AGAIN_FIRST.0.saturating_mul(1 << (making.failures - 1).min(16));
            Millis(doubled.min(AGAIN_MAX.0))
        }
        Unprepared::Unreachable(_) => {
            // Nothing was made. Should there be something, the engine tells when it is back; until then
            // nobody has to wait for it who only wants the slot to go.
            if making.is_fresh {
                slot.appeared = false;
                slot.durable.networks.clear();
            }
            REACH_AGAIN
        }
        Unprepared::BrokenOff(_) => REACH_AGAIN,
        Unprepared::HeldUp(_) => AGAIN_FIRST,
    };
    if matches!(why, Unprepared::HeldUp(_))
        && !matches!(slot.durable.stage, Stage::Starting { .. } | Stage::Up(_))
    {
        // Who holds it up may be a copy of its own that an earlier look has missed.
        slot.observing = true;
        slot.recheck = None;
    }
    let never = around.rules.has(Bug::PrepareOnce);
    making.due = around.now + if never { Millis(u64::MAX / 4) } else { delay };
    let why = match why {
        Unprepared::HeldUp(why) if around.rules.has(Bug::IgnoreHeldUp) => Unprepared::Failed(why),
        why => why,
    };
    making.standing = Standing::Failed(why);
}

/// It is not there any more.
pub(super) fn gone(slot: &mut Slot) {
    slot.durable.made = None;
}

/// What it waits for, in words.
pub(super) fn reason(slot: &Slot, wish: &TargetSlot) -> Option<Reason> {
    if !is_due(slot, wish) {
        return None;
    }
    let making = slot.making.as_ref().filter(|making| making.is_for(wish));
    Some(match making.map(|making| &making.standing) {
        None | Some(Standing::Ordered(None)) => Reason::Prepares { step: None },
        Some(Standing::Ordered(Some(step))) => Reason::Prepares { step: Some(step.clone()) },
        Some(Standing::Failed(Unprepared::HeldUp(why))) => Reason::Prepares { step: Some(why.clone()) },
        Some(Standing::Failed(
            Unprepared::Failed(why) | Unprepared::Unreachable(why) | Unprepared::BrokenOff(why),
        )) => Reason::CannotPrepare { detail: why.clone() },
    })
}

/// When the order is given again, if nothing is heard.
pub(super) fn deadline(slot: &Slot, wish: &TargetSlot) -> Option<Mono> {
    slot.making.as_ref().filter(|making| making.is_for(wish)).map(|making| making.due)
}
