//! What is owed to whoever wrote the file: remedies within their budgets, hooks around a life, reloads,
//! reactions to the end of a dependency, commands of what runs elsewhere. Noted from orders and from
//! what the daemon hears, and checked by nothing else.

mod told;

pub(crate) use told::gave_up;

use std::collections::{BTreeMap, BTreeSet};

use upbeat_decide::instance::{Input, Moment, Observation};
use upbeat_decide::{Bundle, Effect, Node};
use upbeat_model::project::{OnRestart, Reaction};
use upbeat_model::target::{Ask, Goal, Target, TargetSlot};
use upbeat_model::{Attempt, Exit, Phase, ProbeName, Reason, ServiceName, SlotId, SlotStatus};

use crate::check::{Onlooker, Verdict};

/// Of one slot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    generation: u64,
    /// When something was done about which probe, since somebody asked anew.
    remedies: Vec<(ProbeName, u64)>,
    /// These attempts are no good, as a probe of theirs has failed.
    condemned: BTreeSet<Attempt>,
    /// The last of those that is to be started again, whatever the restart policy says.
    comes_back: Option<Attempt>,
    /// Somebody must ask before it is started again: the generation it was under.
    stays_down: Option<u64>,
    /// It was shown as up, in an attempt that this daemon or one before it had ordered.
    up: Option<Attempt>,
    /// An attempt that has ended, and whether hooks are to be run for it.
    ended: Option<(Attempt, bool)>,
    /// Its hooks after the end have ended.
    parted: Option<Attempt>,
    /// The keys of the hooks of an attempt.
    serials: BTreeMap<Attempt, u64>,
    /// Its hooks before the start have succeeded.
    prepared: Option<Attempt>,
    /// The last start that was ordered, and when.
    pub(crate) ordered: Option<(Attempt, u64)>,
    /// Who kills waits for nothing.
    killed: bool,
    /// Its command was run elsewhere, and is to be followed by a stop command.
    pub(crate) outside: Option<Attempt>,
    /// The living daemon has asked this attempt to stop, and has heard until when that wants more time.
    asked_to_stop: Option<(Attempt, Option<u64>)>,
    /// When the daemon that stops it has had all its time for that.
    gives_up_at: Option<u64>,
    gave_up: bool,
    /// A command is to be run about a failing probe.
    mends: Option<Mends>,
    /// When it was last wished, ended, or met by a new daemon: it waits since then at the earliest.
    pub(crate) waits_since: u64,
    /// The last attempt whose end was heard of.
    heard_end: Option<Attempt>,
    /// Something has ended that an attempt rests on.
    bereft: Option<Bereft>,
    /// Reasons to reload since it was started, and which reloads were ordered.
    reasons_to_reload: u32,
    reloads: BTreeSet<u64>,
    /// Somebody has asked this attempt to reload, then.
    reload_due: Option<(Attempt, u64)>,
    /// What it was seen to rest on: attempts of slots.
    rests_on: BTreeMap<SlotId, Attempt>,
    rests_as: Option<Attempt>,
    needs_attention: Option<Attempt>,
    /// It was shown as completed, by this end.
    completed: Option<Exit>,
}

/// A command is to be run about a failing probe, and has not ended as far as the daemon has kept it.
#[derive(Clone, Debug)]
struct Mends {
    attempt: Attempt,
    probe: ProbeName,
    /// By the living daemon.
    is_ordered: bool,
    serial: Option<u64>,
}

/// Something has ended that an attempt rests on.
#[derive(Clone, Copy, Debug)]
struct Bereft {
    attempt: Attempt,
    /// Each time it was to stay down then.
    stops: bool,
    /// What was wished when the first did.
    generation: u64,
}

/// Of all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) pages: BTreeMap<SlotId, Page>,
    /// What the daemon has heard and not committed.
    heard: Vec<(SlotId, Attempt)>,
    asked: Vec<(SlotId, Attempt)>,
    mended: Vec<SlotId>,
    removed: Vec<SlotId>,
    /// When a daemon was last born.
    born: u64,
}

impl Ledger {
    fn page(&mut self, slot: &SlotId) -> &mut Page {
        self.pages.entry(slot.clone()).or_default()
    }

    /// The daemon, which is there, reads the newest wishes.
    pub(crate) fn aim(&mut self, target: &Target, node: &Node, now: u64) {
        self.pages.retain(|slot, _| target.slots.contains_key(slot));
        for (slot, wish) in &target.slots {
            let is_up = node.status(slot).filter(|status| is_up(status) && !node.is_observing(slot));
            // One that was ordered may have read its configuration before anybody hears of its start.
            let ordered = self.pages.get(slot).and_then(|page| page.ordered);
            let is_begun = node.status(slot).filter(|status| {
                let is_it = ordered.is_some_and(|(ordered, _)| ordered == status.attempt);
                status.phase == Phase::Starting && is_it && !node.is_observing(slot)
            });
            let attempt = is_up.or(is_begun).map(|status| status.attempt);
            let page = self.pages.entry(slot.clone()).or_default();
            page.killed |= wish.kill;
            let asked_anew = page.generation != wish.generation;
            if wish.goal != Goal::Running || asked_anew {
                page.remedies.clear();
                page.waits_since = now;
                page.completed = page.completed.take().filter(|_| wish.goal == Goal::Running);
                page.needs_attention = None;
            }
            if asked_anew && page.gave_up {
                // Whoever asks anew decides anew about it.
                page.condemned.clear();
                (page.comes_back, page.stays_down) = (None, None);
                (page.gave_up, page.gives_up_at) = (false, None);
            }
            if asked_anew && wish.ask == Ask::Reload && wish.goal == Goal::Running {
                page.reasons_to_reload += 1;
                if let Some(attempt) = attempt.filter(|_| wish.spec.reload.is_some()) {
                    self.asked.push((slot.clone(), attempt));
                }
            }
            if wish.spec.reload.is_none() {
                page.reload_due = None;
            }
            page.mends.take_if(|mends| {
                let probe = wish.spec.probes.get(&mends.probe);
                let action = probe.map(|probe| probe.remedy(mends.probe.role()).action);
                !matches!(action, Some(Reaction::Exec(_)))
            });
            page.generation = wish.generation;
            page.rests_on.retain(|on, _| rests(wish, &on.service).is_some() && is_wished(target, on));
        }
    }

    /// The daemon hears something.
    pub(crate) fn hears(&mut self, slot: &SlotId, input: &Input, kills: bool, now: u64) {
        if *input == Input::Removed {
            return self.removed.push(slot.clone());
        }
        let page = self.page(slot);
        match input {
            Input::Exited { attempt, .. }
            | Input::Observed { seen: Observation::Ended { attempt, .. }, .. }
            | Input::StartFailed { attempt, .. } => self.heard.push((slot.clone(), *attempt)),
            Input::Observed { asked, seen: Observation::Never }
                if page.ordered.is_some_and(|(ordered, _)| ordered == *asked) =>
            {
                self.heard.push((slot.clone(), *asked));
            }
            Input::Notified { attempt, said } => {
                if let Some((of, more)) = &mut page.asked_to_stop
                    && of == attempt
                {
                    *more = said.extended.map(|until| until.0);
                }
            }
            // What could not be started for a lack of ours is started by the next without them.
            Input::StartUnable { attempt, .. } if page.prepared == Some(*attempt) => {
                page.prepared = Some(attempt.next());
            }
            Input::HooksEnded { attempt, moment: Moment::PreStart, outcome: Ok(()), .. } => {
                page.prepared = Some(*attempt);
            }
            Input::HooksEnded { attempt, moment: Moment::PostStop, .. } => {
                page.parted = page.parted.max(Some(*attempt));
            }
            Input::HooksEnded { attempt, moment: Moment::Remedy, serial, .. }
                if page
                    .mends
                    .as_ref()
                    .is_some_and(|mends| mends.attempt == *attempt && mends.serial == Some(*serial)) =>
            {
                self.mended.push(slot.clone());
            }
            Input::HooksEnded { attempt, moment: Moment::PreStop, outcome, .. }
                if page.outside == Some(*attempt) && (outcome.is_ok() || kills) =>
            {
                self.heard.push((slot.clone(), *attempt));
            }
            // Whoever kills waits for what could not be run no longer than it may take.
            Input::HooksUnable { attempt, moment: Moment::PreStop, .. }
                if kills
                    && page.outside == Some(*attempt)
                    && page.gives_up_at.is_some_and(|at| at <= now) =>
            {
                self.heard.push((slot.clone(), *attempt));
            }
            _ => {}
        }
    }

    /// The daemon is dead. What it has not committed it has not heard.
    pub(crate) fn died(&mut self) {
        self.heard.clear();
        self.asked.clear();
        self.mended.clear();
        self.removed.clear();
        for page in self.pages.values_mut() {
            page.gives_up_at.take_if(|_| !page.gave_up);
            page.asked_to_stop = None;
            page.mends.iter_mut().for_each(|mends| mends.is_ordered = false);
        }
    }

    pub(crate) fn is_born(&mut self, now: u64) {
        self.born = now;
    }

    /// Since when a slot can have waited at the most.
    pub(crate) fn waits_since(&self, slot: &SlotId) -> u64 {
        self.pages.get(slot).map_or(self.born, |page| page.waits_since).max(self.born)
    }

    /// A decision is made: whether it may be.
    pub(crate) fn judge(&self, bundle: &Bundle, onlooker: &Onlooker<'_>, now: u64) -> Verdict {
        for reacted in &bundle.reacted {
            let slot = &reacted.slot;
            let Some(probe) = onlooker.workload.target.slots[slot].spec.probes.get(&reacted.probe) else {
                return Err(format!("{slot}: something is done about `{}`, which it has not", reacted.probe));
            };
            if !onlooker.probing.may_fail(slot, reacted.attempt, &reacted.probe, now) {
                return Err(format!(
                    "{slot}: {} though `{}` has not failed: {}",
                    reacted.action,
                    reacted.probe,
                    onlooker.probing.tells(slot, &reacted.probe)
                ));
            }
            let remedy = probe.remedy(reacted.probe.role());
            let times = 1 + self.times(slot, &reacted.probe, now.saturating_sub(remedy.window.0));
            if times > remedy.max_attempts {
                return Err(format!(
                    "{slot}: {} for the {times}th time within {}, {} are allowed",
                    reacted.action, remedy.window, remedy.max_attempts
                ));
            }
        }
        bundle.effects.iter().try_for_each(|effect| self.presses(effect, now))?;
        bundle.effects.iter().try_for_each(|effect| self.order(effect, bundle, onlooker))
    }

    /// What it has outside, as far as the daemon has heard by now.
    fn outside(&self, slot: &SlotId) -> Option<Attempt> {
        let outside = self.pages.get(slot)?.outside?;
        (!self.heard.iter().any(|heard| heard == &(slot.clone(), outside))).then_some(outside)
    }

    fn times(&self, slot: &SlotId, probe: &ProbeName, after: u64) -> u32 {
        let all = self.pages.get(slot).into_iter().flat_map(|page| &page.remedies);
        all.filter(|(name, at)| name == probe && *at > after).count() as u32
    }

    fn order(&self, effect: &Effect, bundle: &Bundle, onlooker: &Onlooker<'_>) -> Verdict {
        let slot = effect.slot();
        let was_removed = self.removed.contains(slot);
        let Some(page) = self.pages.get(slot).filter(|_| !was_removed) else { return Ok(()) };
        let wish = &onlooker.workload.target.slots[slot];
        let outside = self.outside(slot);
        match effect {
            Effect::Start { attempt, .. } => {
                let before = page.ordered.and_then(|(before, _)| onlooker.runs.held(slot, before));
                let is_same = before.is_some_and(|before| before.digest() == wish.digest);
                self.start(slot, page, wish, *attempt, (effect, is_same))
            }
            Effect::RunHooks { attempt, moment, serial, .. } => {
                let known = page.serials.get(attempt).is_some_and(|known| known != serial);
                // One that came late is taken for a stranger, which has none.
                let stranger = *serial == 0;
                if known && !stranger && *moment != Moment::Remedy {
                    return Err(format!("{slot}: its hooks are run again under another key"));
                }
                match moment {
                    Moment::PreStart => parted(slot, page, *attempt),
                    Moment::Remedy => mends(slot, page, *serial, bundle),
                    Moment::PreStop if onlooker.is_external(slot, *attempt) && outside != Some(*attempt) => {
                        Err(format!("{slot}: its stop command is run before its start command"))
                    }
                    _ => Ok(()),
                }
            }
            Effect::Remove { .. } if outside.is_some() => {
                Err(format!("{slot}: is removed, and its stop command was not run"))
            }
            Effect::Remove { .. } => parted(slot, page, Attempt(u64::MAX)),
            Effect::Observe { .. } | Effect::Stop { .. } | Effect::Signal { .. } if outside.is_some() => {
                Err(format!("{slot}: it runs elsewhere, and is looked for here"))
            }
            Effect::Reload { serial, .. } => {
                let ordered = page.reloads.len() as u32 + u32::from(!page.reloads.contains(serial));
                let same = bundle.effects.iter().filter(|other| matches!(other, Effect::Reload { .. }));
                let lost =
                    self.heard.iter().filter(|(on, _)| rests(wish, &on.service) == Some(OnRestart::Reload));
                let reasons = page.reasons_to_reload + lost.count() as u32;
                if ordered > reasons || same.filter(|other| other.slot() == slot).count() > 1 {
                    return Err(format!("{slot}: is reloaded without a cause"));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn start(
        &self,
        slot: &SlotId,
        page: &Page,
        wish: &TargetSlot,
        attempt: Attempt,
        (effect, is_same): (&Effect, bool),
    ) -> Verdict {
        if page.ordered.is_some_and(|(ordered, _)| ordered == attempt) {
            // Of what runs elsewhere: nobody knows whether its command was run.
            return Ok(());
        }
        if page.stays_down == Some(wish.generation) {
            return Err(format!(
                "{slot}: is started again, though nobody has asked since it was stopped for good"
            ));
        }
        let leaves_it = matches!(wish.ask, Ask::Ensure | Ask::Reload);
        let completed = page.completed.as_ref().is_some_and(|exit| wish.spec.succeeds_with(exit));
        if completed && leaves_it && is_same {
            return Err(format!("{slot}: is started again, and has completed"));
        }
        if self.outside(slot).is_some() {
            return Err(format!("{slot}: is started again, and its stop command was not run"));
        }
        let has_hooks = matches!(effect, Effect::Start { spec, .. } if !spec.pre_start.is_empty());
        if has_hooks && page.prepared != Some(attempt) {
            return Err(format!("{slot}: is started, and its `pre_start` hooks have not succeeded"));
        }
        parted(slot, page, attempt)
    }

    /// It is committed.
    pub(crate) fn committed(&mut self, bundle: &Bundle, onlooker: &Onlooker<'_>, now: u64) {
        for slot in std::mem::take(&mut self.removed) {
            let generation = self.page(&slot).generation;
            self.pages.insert(slot, Page { generation, waits_since: now, ..Page::default() });
        }
        for (slot, attempt) in std::mem::take(&mut self.heard) {
            let owes = onlooker.runs.held(&slot, attempt).is_some_and(|held| !held.post_stop.is_empty());
            self.has_ended(&slot, attempt, owes, onlooker, now);
        }
        for (slot, attempt) in std::mem::take(&mut self.asked) {
            self.page(&slot).reload_due = Some((attempt, now));
        }
        for slot in std::mem::take(&mut self.mended) {
            self.page(&slot).mends = None;
        }
        for reacted in &bundle.reacted {
            let generation = onlooker.workload.target.slots[&reacted.slot].generation;
            let is_replaced = awaits_locks(&reacted.slot, reacted.attempt, onlooker);
            let page = self.page(&reacted.slot);
            page.remedies.push((reacted.probe.clone(), now));
            match reacted.action {
                Reaction::Restart => {
                    page.condemned.insert(reacted.attempt);
                    page.comes_back = Some(reacted.attempt);
                }
                Reaction::Stop => {
                    page.condemned.insert(reacted.attempt);
                    page.stays_down = (!is_replaced).then_some(generation);
                }
                Reaction::Exec(_) => {
                    let (attempt, probe) = (reacted.attempt, reacted.probe.clone());
                    page.mends = Some(Mends { attempt, probe, is_ordered: false, serial: None });
                }
                _ => {}
            }
        }
        for effect in &bundle.effects {
            let page = self.page(effect.slot());
            match effect {
                Effect::Start { attempt, spec, .. } => {
                    if page.ordered.is_none_or(|(ordered, _)| ordered != *attempt) {
                        page.begin(*attempt, now);
                    }
                    page.outside = spec.external.then_some(*attempt);
                }
                Effect::RunHooks { moment: Moment::Remedy, serial, .. } => {
                    page.mends.iter_mut().for_each(|mends| {
                        (mends.is_ordered, mends.serial) = (true, Some(*serial));
                    });
                }
                Effect::RunHooks { attempt, moment, serial, timeout, .. } => {
                    if *moment == Moment::PreStop && page.outside == Some(*attempt) {
                        // It is begun anew, with all its time.
                        if std::mem::take(&mut page.gave_up) {
                            page.gives_up_at = None;
                        }
                        page.gives_up_at.get_or_insert(now + timeout.0);
                    }
                    page.serials.insert(*attempt, *serial);
                }
                Effect::Reload { serial, .. } => drop(page.reloads.insert(*serial)),
                Effect::Stop { attempt, .. } => {
                    page.asked_to_stop.take_if(|(of, _)| of != attempt);
                    page.asked_to_stop.get_or_insert((*attempt, None));
                }
                _ => {}
            }
        }
    }

    fn has_ended(&mut self, slot: &SlotId, attempt: Attempt, owes: bool, onlooker: &Onlooker<'_>, now: u64) {
        let page = self.page(slot);
        if page.outside == Some(attempt) {
            page.outside = None;
        }
        if page.heard_end >= Some(attempt) {
            // The same news once more.
            return;
        }
        page.heard_end = Some(attempt);
        page.waits_since = now;
        if page.up == Some(attempt) && page.ended.is_none_or(|(ended, _)| ended != attempt) {
            page.ended = Some((attempt, owes));
        }
        for (dependent, wish) in &onlooker.workload.target.slots {
            let page = self.page(dependent);
            let Some(follows) = rests(wish, &slot.service) else { continue };
            page.reasons_to_reload += u32::from(follows == OnRestart::Reload);
            let Some((attempt, _)) = page.ordered else { continue };
            let before = page.bereft.filter(|before| before.attempt == attempt);
            let stops = follows == OnRestart::Stop && before.is_none_or(|before| before.stops);
            let generation = before.map_or(page.generation, |before| before.generation);
            page.bereft = Some(Bereft { attempt, stops, generation });
        }
    }

    /// Whether a copy may be stopped, though it is as wished: a probe has failed, or something has
    /// ended that it rests on.
    pub(crate) fn has_cause(
        &self,
        slot: &SlotId,
        attempt: Attempt,
        bundle: &Bundle,
        onlooker: &Onlooker<'_>,
    ) -> bool {
        let stops = |action: &Reaction| matches!(action, Reaction::Restart | Reaction::Stop);
        let now = bundle.reacted.iter().any(|reacted| reacted.slot == *slot && stops(&reacted.action));
        let Some(page) = self.pages.get(slot) else { return now };
        if page.ordered.is_none_or(|(of, _)| of != attempt) {
            return true;
        }
        let wish = &onlooker.workload.target.slots[slot];
        let lost = self
            .heard
            .iter()
            .any(|(on, _)| matches!(rests(wish, &on.service), Some(OnRestart::Restart | OnRestart::Stop)));
        let process = onlooker.kernel.process(slot).filter(|process| process.attempt == attempt);
        let said = onlooker.probing.said(slot, attempt);
        let leaves =
            said.is_some_and(|said| said.stopping) || process.is_some_and(|process| process.said.stopping);
        now || lost || leaves || page.is_bereft(attempt) || page.condemned.contains(&attempt)
    }

    /// Hooks were ordered for this attempt.
    pub(crate) fn had_hooks(&self, slot: &SlotId, attempt: Attempt) -> bool {
        self.pages.get(slot).is_some_and(|page| page.serials.contains_key(&attempt))
    }

    /// It was stopped for what its probes or its dependencies did: how that end counts is not seen.
    pub(crate) fn was_no_good(&self, slot: &SlotId, attempt: Attempt) -> bool {
        let page = self.pages.get(slot);
        page.is_some_and(|page| page.is_bereft(attempt) || page.condemned.contains(&attempt))
    }

    /// What the daemon has heard to be removed, and has not committed yet.
    pub(crate) fn removed(&self) -> &[SlotId] {
        &self.removed
    }

    /// It was removed: whoever comes to that place has no past.
    pub(crate) fn is_gone(&mut self, slot: &SlotId) {
        self.pages.remove(slot);
    }
}

impl Page {
    fn is_bereft(&self, attempt: Attempt) -> bool {
        self.bereft.is_some_and(|of| of.attempt == attempt)
    }

    fn begin(&mut self, attempt: Attempt, now: u64) {
        self.ordered = Some((attempt, now));
        self.killed = false;
        // Its hooks were judged with this order.
        self.ended = None;
        self.stays_down = None;
        self.reasons_to_reload = 0;
        self.reloads.clear();
        self.reload_due = None;
        (self.mends, self.gives_up_at) = (None, None);
        self.serials.retain(|of, _| *of >= attempt);
        self.condemned.retain(|of| *of >= attempt);
    }
}

/// A command about a failing probe is run because one failed, and under one key.
fn mends(slot: &SlotId, page: &Page, serial: u64, bundle: &Bundle) -> Verdict {
    let acts = |action: &Reaction| matches!(action, Reaction::Exec(_));
    let is_new = bundle.reacted.iter().any(|reacted| reacted.slot == *slot && acts(&reacted.action));
    match &page.mends {
        _ if is_new => Ok(()),
        Some(mends) if mends.serial.is_none_or(|known| known == serial) => Ok(()),
        Some(_) => Err(format!("{slot}: what is run about a probe is run again under another key")),
        None => Err(format!("{slot}: something is run about a probe that nobody knows to fail")),
    }
}

/// Nothing is begun before the hooks of what has ended have ended too.
fn parted(slot: &SlotId, page: &Page, next: Attempt) -> Verdict {
    match page.ended {
        Some((attempt, true)) if attempt < next && page.parted < Some(attempt) && !page.killed => {
            Err(format!("{slot}: the `post_stop` hooks of attempt {attempt} have not ended"))
        }
        _ => Ok(()),
    }
}

/// Another one was asked for, which only waits for locks: however this one is stopped, that one comes.
fn awaits_locks(slot: &SlotId, attempt: Attempt, onlooker: &Onlooker<'_>) -> bool {
    let Some(wish) = onlooker.workload.target.slots.get(slot).filter(|wish| wish.heeds_locks) else {
        return false;
    };
    onlooker.runs.of_attempt(slot, attempt).is_some_and(|run| {
        let is_older = wish.ask == Ask::Restart && run.ordered_for < wish.generation;
        wish.goal != Goal::Running || run.held.digest() != wish.digest || is_older
    })
}

/// Something of it runs, here or elsewhere, as far as people are told.
pub(crate) fn is_up(status: &SlotStatus) -> bool {
    status.started_at.is_some()
}

fn runs_hooks(status: &SlotStatus) -> bool {
    status.reasons.iter().any(|reason| matches!(reason, Reason::RunsHooks { .. }))
}

fn is_wished(target: &Target, slot: &SlotId) -> bool {
    target.slots.get(slot).is_some_and(|wish| wish.goal != Goal::Absent)
}

/// What the end of that service means for this one.
fn rests(wish: &TargetSlot, on: &ServiceName) -> Option<OnRestart> {
    let edge = wish.spec.depends_on.get(on)?;
    Some(edge.on_restart).filter(|follows| *follows != OnRestart::Ignore)
}
