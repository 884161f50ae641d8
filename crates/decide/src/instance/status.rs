//! What people and gates see of a slot.

use upbeat_model::project::Probe;
use upbeat_model::state::{Exit, SlotStatus};
use upbeat_model::target::{Goal, TargetSlot};
use upbeat_model::{Mono, Phase, ProbeName, Reason, SlotId, Wall};

use super::health::{Health, Standing};
use super::settle::{Intent, intent};
use super::{
    GivenUp, Healing, Moment, Preparation, Reloading, Slot, Stage, Up, backoff, health, making, stop,
};
use crate::gate::{Verdict, View};
use crate::rules::{Bug, Rules};

/// The phase, from the stage, the wish and what the gate said.
pub(super) fn phase(slot: &Slot, wish: &TargetSlot) -> Phase {
    let shall_go = wish.goal != Goal::Running || matches!(intent(slot, wish), Intent::Down(_));
    if slot.observing && shall_go && slot.durable.stage != Stage::Removing {
        // Whatever is there shall go, and it is not known yet what that is.
        return Phase::Stopping;
    }
    if slot.durable.farewell.is_some() {
        // Neither is its end over, nor has anything new begun.
        return match intent(slot, wish) {
            Intent::Run if !shall_go => Phase::Waiting,
            _ => Phase::Stopping,
        };
    }
    match (&slot.durable.stage, &slot.blocked) {
        (Stage::Gone, _) => Phase::Absent,
        (Stage::Removing, _) if wish.goal == Goal::Running => Phase::Waiting,
        (Stage::Removing, _) => Phase::Stopped,
        (Stage::Starting { .. }, _) => Phase::Starting,
        (Stage::Up(up), blocked) => up_phase(&slot.health, up, blocked.is_some(), wish),
        (_, Some(Verdict::Failed(_))) => Phase::DependencyFailed,
        (_, Some(Verdict::Wait(_))) => Phase::Waiting,
        (Stage::Idle, _) if wish.goal == Goal::Running => Phase::Waiting,
        (Stage::Idle, _) => Phase::Stopped,
        (Stage::Resting { .. }, _) if slot.durable.failures >= backoff::CRASH_LOOP => Phase::CrashLooping,
        (Stage::Resting { .. }, _) => Phase::BackingOff,
        (Stage::Ended { .. }, _) => match &slot.durable.exit {
            Some(exit) if wish.spec.succeeds_with(exit) => Phase::Completed,
            _ => Phase::Failed,
        },
    }
}

fn up_phase(health: &Health, up: &Up, blocked: bool, wish: &TargetSlot) -> Phase {
    if given_up(up).is_some() {
        return Phase::NeedsAttention;
    }
    if up.stopping.is_some() || blocked {
        return Phase::Stopping;
    }
    if !up.preparation.is_done() {
        return Phase::Starting;
    }
    match health::worst(health, up, wish) {
        Some((_, _, Standing::Spent)) => Phase::NeedsAttention,
        Some((_, _, Standing::Fails)) => Phase::Unhealthy,
        Some((_, _, Standing::Awaited)) => Phase::Starting,
        None if wish.spec.readiness().is_some() => Phase::Healthy,
        None => Phase::Running,
    }
}

/// Whether it was seen, by this daemon, how it is.
pub fn is_known(slot: &Slot, wish: &TargetSlot, rules: Rules) -> bool {
    let is_known = |up: &Up| health::is_known(&slot.health, up, wish, rules);
    !slot.observing && !matches!(&slot.durable.stage, Stage::Up(up) if !is_known(up))
}

/// It could not be stopped, and nothing more is done about that.
fn given_up(up: &Up) -> Option<&GivenUp> {
    up.stopping.as_ref()?.given_up.as_ref()
}

/// What the gates of others see.
pub fn view(id: &SlotId, slot: &Slot, wish: &TargetSlot, keeps: bool, rules: Rules) -> View {
    let leaving = match intent(slot, wish) {
        Intent::Down(_) | Intent::Clear => slot.durable.stage != Stage::Idle || slot.observing,
        Intent::Run => matches!(slot.durable.stage, Stage::Ended { .. }),
        // Whatever is there shall go, and it is not known yet what that is.
        Intent::Hold if slot.observing && wish.goal != Goal::Running => true,
        Intent::Hold => matches!(&slot.durable.stage, Stage::Up(up) if up.stopping.is_some()),
    };
    // Nobody waits for an end that does not come.
    let is_given_up = matches!(&slot.durable.stage, Stage::Up(up) if given_up(up).is_some());
    let says_so = matches!(&slot.durable.stage, Stage::Up(up) if slot.leaves_by(up).is_some());
    let leaving = (leaving || says_so) && !is_given_up;
    let parting = slot.durable.farewell.is_some();
    let up = match &slot.durable.stage {
        Stage::Up(up) if up.preparation.is_done() => Some(up),
        _ => None,
    };
    View {
        slot: id.clone(),
        phase: phase(slot, wish),
        running: up.is_some(),
        given_up: is_given_up,
        stays: !keeps && matches!(&slot.durable.stage, Stage::Up(up) if stop::is_held_back(up, wish, rules)),
        leaving: leaving
            || parting
            || (slot.observing && matches!(slot.durable.stage, Stage::Up(_) | Stage::Starting { .. })),
        outdated: !rules.has(Bug::BelieveTheOld) && making::is_outdated(slot, wish),
        stuck: is_stuck(slot, wish),
        exit: slot.durable.exit.clone(),
        passing: up
            .filter(|_| !is_given_up)
            .map(|up| health::passing(&slot.health, up, wish))
            .unwrap_or_default(),
        attempt: slot.durable.attempt,
        is_known: is_known(slot, wish, rules),
    }
}

/// It does not run, and what it takes cannot be had for now.
fn is_stuck(slot: &Slot, wish: &TargetSlot) -> bool {
    let is_up = matches!(slot.durable.stage, Stage::Up(_) | Stage::Starting { .. });
    let waits_in_vain = matches!(slot.blocked, Some(Verdict::Wait(Reason::WaitsInVain { .. })));
    !is_up && (waits_in_vain || making::is_stuck(slot, wish))
}

/// A stop of it is begun, of which nothing was carried out yet, and after which it would be started again.
pub fn comes_back(slot: &Slot, wish: &TargetSlot, rules: Rules) -> bool {
    let repeats = rules.has(Bug::WithholdRepeated);
    let is_begun = |up: &Up| up.stopping.as_ref().is_some_and(|stopping| !stopping.is_out || repeats);
    matches!(&slot.durable.stage, Stage::Up(up) if is_begun(up) && stop::comes_back(up, wish, rules))
}

/// A start of it was ordered that is not wanted any more, or not so. Not of what runs elsewhere: that is
/// stopped at once, whether it was started or not.
pub fn is_called_off(slot: &Slot, wish: &TargetSlot) -> bool {
    matches!(slot.durable.stage, Stage::Starting { before: Preparation::Done, .. })
        && matches!(intent(slot, wish), Intent::Down(_))
}

/// Since when the copy is up that is there.
pub fn up_since(slot: &Slot) -> Option<Mono> {
    match &slot.durable.stage {
        Stage::Up(up) => Some(up.started),
        _ => None,
    }
}

/// Everything people may know of it.
pub fn status(id: &SlotId, slot: &Slot, wish: &TargetSlot) -> SlotStatus {
    let phase = phase(slot, wish);
    let durable = &slot.durable;
    let (pid, started_at, release) = match &durable.stage {
        Stage::Up(up) => (Some(up.pid).filter(|_| !up.mark.external), Some(up.started_at), up.mark.release),
        Stage::Starting { begun, .. } => (None, None, begun.mark.release),
        Stage::Ended { mark } | Stage::Resting { mark, .. } => (None, None, mark.release),
        _ => (None, None, wish.release),
    };
    let up = match &durable.stage {
        Stage::Up(up) => Some(up),
        _ => None,
    };
    SlotStatus {
        slot: id.clone(),
        goal: wish.goal,
        phase,
        attempt: durable.attempt,
        pid,
        container: super::mark(durable).and_then(|mark| mark.container.clone()),
        exit: durable.exit.clone(),
        restarts: durable.restarts,
        since: durable.entered.map_or(Wall(0), |(_, at)| at),
        started_at,
        log_start: up.filter(|up| !up.mark.external).map(|up| up.log_start),
        health: up.and_then(|_| slot.health.last(ProbeName::READINESS).0),
        probes: up.map(|up| slot.health.shown(up)).unwrap_or_default(),
        says: up.and_then(|up| Slot::said_by(&slot.said, up.attempt).status),
        reasons: reasons(slot, phase, wish),
        operation: wish.operation,
        release,
    }
}

fn reasons(slot: &Slot, phase: Phase, wish: &TargetSlot) -> Vec<Reason> {
    let durable = &slot.durable;
    let mut reasons = Vec::new();
    if let Some(Verdict::Wait(reason) | Verdict::Failed(reason)) = &slot.untouched {
        reasons.push(reason.clone());
    }
    if !matches!(durable.stage, Stage::Idle | Stage::Resting { .. } | Stage::Gone) {
        reasons.extend(making::reason(slot, wish));
    }
    if let Some(Verdict::Wait(reason) | Verdict::Failed(reason)) = &slot.blocked {
        reasons.push(reason.clone());
    }
    let is_unmade = reasons.iter().any(|reason| matches!(reason, Reason::CannotPrepare { .. }));
    match &durable.stage {
        Stage::Starting { before: Preparation::Due, .. } => reasons.push(hooks(Moment::PreStart)),
        Stage::Starting { .. } => reasons.push(Reason::BeingStarted),
        Stage::Removing => reasons.push(Reason::BeingRemoved),
        Stage::Up(up) => reasons.extend(up_reasons(slot, up, phase, wish)),
        Stage::Resting { until_wall, delay, .. } if slot.blocked.is_none() => {
            if let Some(exit) = &durable.exit {
                reasons.push(Reason::BacksOff {
                    exit: exit.clone(),
                    failures: durable.failures,
                    delay: *delay,
                    until: *until_wall,
                });
            }
        }
        // How it ended before is no reason any more: somebody wants it to run, and it cannot be made.
        Stage::Ended { .. } if phase == Phase::Failed && !is_unmade => {
            if let Some(exit) = &durable.exit {
                reasons.push(match exit {
                    Exit::Stopped(_) => Reason::StaysDown { exit: exit.clone() },
                    exit => Reason::NotRestarted {
                        exit: exit.clone(),
                        policy: backoff::policy_text(&wish.spec),
                        restarts: durable.restarts,
                    },
                });
            }
        }
        Stage::Idle if wish.goal == Goal::Stopped => {
            reasons.push(Reason::StoppedBy { operation: wish.operation });
        }
        _ => {}
    }
    if durable.farewell.is_some() {
        reasons.push(hooks(Moment::PostStop));
    }
    if let (Some(Exit::Unknown(detail)), Stage::Resting { .. } | Stage::Ended { .. }) =
        (&durable.exit, &durable.stage)
        && !is_unmade
    {
        reasons.push(Reason::ShimLost { detail: detail.clone() });
    }
    if let Some(detail) = &slot.trouble {
        reasons.push(Reason::Trouble { detail: detail.clone() });
    }
    reasons
}

fn hooks(moment: Moment) -> Reason {
    Reason::RunsHooks { hooks: moment.key().to_owned() }
}

fn up_reasons(slot: &Slot, up: &Up, phase: Phase, wish: &TargetSlot) -> Vec<Reason> {
    if let Some(given_up) = given_up(up) {
        return vec![Reason::StopFailed { detail: given_up.why.clone() }];
    }
    if let Some(stopping) = &up.stopping {
        return vec![Reason::BeingStopped {
            how: stopping.how.clone(),
            kill_at: Some(stopping.deadline_wall).filter(|_| !up.mark.external),
            why: stopping.cause,
        }];
    }
    if !up.preparation.is_done() {
        return vec![hooks(Moment::PostStart)];
    }
    let reload = up.reload.as_ref().map(|reload| match reload {
        Reloading::Due { .. } => Reason::Reloads,
        Reloading::Failed(why) => Reason::ReloadFailed { detail: why.clone() },
    });
    let said = Slot::said_by(&slot.said, up.attempt);
    let says = [(said.stopping, Reason::SaysStopping), (said.reloading, Reason::SaysReloading)];
    let says = says.into_iter().filter_map(|(is_so, reason)| is_so.then_some(reason));
    let remedy = up.remedy.as_ref().and_then(|remedy| match remedy {
        Healing::Due { .. } => None,
        Healing::Failed { probe, why } => {
            Some(Reason::RemedyFailed { name: probe.clone(), detail: why.clone() })
        }
    });
    if phase == Phase::Stopping {
        // It goes: nothing is ordered of it any more.
        return says.collect();
    }
    let mut reasons: Vec<Reason> = says.chain(reload).collect();
    if let Some((name, probe, standing)) = health::worst(&slot.health, up, wish) {
        if standing == Standing::Spent {
            let (remedy, name) = (probe.remedy(name.role()), name.clone());
            let (action, times, window) = (remedy.action.to_look_at(), remedy.max_attempts, remedy.window);
            reasons.push(Reason::NeedsAttention { name, action, times, window });
        }
        reasons.push(match standing {
            Standing::Awaited => Reason::NotReadyYet {
                name: name.clone(),
                probe: probe.ask.to_look_at(),
                last: slot.health.last(name.as_str()).0,
            },
            Standing::Spent | Standing::Fails => fails(slot, name, probe),
        });
    }
    let others = health::failing(&slot.health, up, wish);
    reasons.extend(others.map(|(name, probe)| fails(slot, name, probe)));
    reasons.extend(remedy);
    reasons.extend(slot.health.mute().filter_map(|(name, why)| {
        let probe = wish.spec.probes.get(name)?.ask.to_look_at();
        Some(Reason::CannotAsk { name: name.clone(), probe, detail: why.clone() })
    }));
    reasons
}

fn fails(slot: &Slot, name: &ProbeName, probe: &Probe) -> Reason {
    let (last, failures) = slot.health.last(name.as_str());
    let last = last.unwrap_or_else(|| "it has not answered since Upbeat was restarted".to_owned());
    Reason::ProbeFails { name: name.clone(), probe: probe.ask.to_look_at(), last, failures }
}
