//! The daemon: decides, commits, has it performed, dies, and comes back.

use std::collections::BTreeSet;

use upbeat_decide::instance::{Input, Observation};
use upbeat_decide::{Bundle, Effect, Node};
use upbeat_model::{Exit, Mono, Phase, SlotId, Wall};

use super::check::Sight;
use super::driver::{Heard, Order};
use super::people::Nature;
use super::world::{Happening, LOOK_ANYWAY, World};
use crate::check::Verdict;

impl World {
    pub(super) fn decide(&mut self, with: impl FnOnce(&mut Node, Mono, Wall) -> Bundle) -> Verdict {
        let (now, wall) = self.clocks();
        let Some(node) = &mut self.node else { return Ok(()) };
        let bundle = with(node, now, wall);
        self.carry_out(bundle)
    }

    /// The daemon, if there is one, reads the newest wishes.
    pub(super) fn decide_wishes(&mut self) -> Verdict {
        let target = self.people.target.clone();
        self.decide(|node, now, wall| node.aim(&target, now, wall))
    }

    /// Commit, perform, tell; the daemon may die in between.
    fn carry_out(&mut self, bundle: Bundle) -> Verdict {
        let deadly = self.malice && !bundle.effects.is_empty() && self.random.percent(3);
        let dies_after = if deadly { self.random.below(bundle.effects.len() as u64 + 2) } else { u64::MAX };
        for effect in &bundle.effects {
            self.note(format!("order {}", shown(effect)));
        }
        if let Some(node) = &self.node {
            let (people, docker, processes) = (&self.people, &self.docker, &self.processes);
            let sight = Sight { node, people, docker, processes };
            self.ledger.judge(&bundle, &sight)?;
        }
        if dies_after == 0 {
            self.crash("before the commit");
            return Ok(());
        }
        for (slot, durable) in &bundle.persist {
            match durable {
                Some(durable) => self.store.insert(slot.clone(), durable.clone()),
                None => self.store.remove(slot),
            };
        }
        for (index, effect) in bundle.effects.iter().enumerate() {
            if dies_after == index as u64 + 1 {
                self.crash("between effects");
                return Ok(());
            }
            self.perform(effect);
        }
        if dies_after != u64::MAX {
            self.crash("after the effects");
            return Ok(());
        }
        self.tell(&bundle)
    }

    fn tell(&mut self, bundle: &Bundle) -> Verdict {
        let mut gone = BTreeSet::new();
        for change in bundle.statuses.values() {
            let status = &change.status;
            if change.from != status.phase {
                self.note(format!("{} is {} (was {})", status.slot, status.phase, change.from));
            }
            if status.phase == Phase::Absent {
                gone.insert(status.slot.clone());
            }
        }
        self.forget(&gone)
    }

    /// It dies. What it has ordered may be half done, and the rest come later.
    pub(super) fn crash(&mut self, when: &str) {
        self.note(format!("the daemon dies {when}"));
        self.outcome.crashes += 1;
        let incarnation = self.incarnation;
        let is_order = |(at, happening): (&(u64, u64), &Happening)| {
            matches!(happening, Happening::Arrive { incarnation: of, .. } if *of == incarnation)
                .then_some(*at)
        };
        let orders: Vec<(u64, u64)> = self.queue.iter().filter_map(is_order).collect();
        for at in orders {
            if let Some(Happening::Arrive { effect, .. }) = self.queue.remove(&at)
                && self.random.percent(50)
            {
                let left = self.random.below(5) as u32;
                self.carried_out(&effect, left);
            }
        }
        self.node = None;
        self.heard.clear();
        self.ledger.died();
        self.newest.clear();
        self.turns.clear();
        self.incarnation += 1;
        let away = if self.random.percent(70) { self.random.below(200) } else { self.random.below(30_000) };
        self.at(away, Happening::Revive);
    }

    pub(super) fn revive(&mut self) -> Verdict {
        self.note("a daemon starts".into());
        let mut node = Node::recover(self.remembered()?, self.rules);
        node.found(self.processes.places.keys().cloned());
        self.node = Some(node);
        let incarnation = self.incarnation;
        let soon = if self.malice { self.random.below(3_000) } else { 10 };
        self.at(soon, Happening::Find { incarnation });
        self.at(LOOK_ANYWAY, Happening::LookAnyway { incarnation });
        self.decide_wishes()
    }

    /// How long something takes on its way.
    fn delay(&mut self) -> u64 {
        match self.random.below(100) {
            _ if !self.malice => self.random.below(30),
            0..88 => self.random.below(50),
            88..97 => self.random.below(3_000),
            _ => self.random.below(150_000),
        }
    }

    fn perform(&mut self, effect: &Effect) {
        if matches!(effect, Effect::Remove { .. }) {
            self.call_off(effect.slot());
        }
        let incarnation = self.incarnation;
        let is_cut = self.malice && self.random.percent(4);
        let left = if is_cut { self.random.below(4) as u32 } else { u32::MAX };
        // What is wished of processes is done at once.
        let delay = if is_of_process(effect) { self.random.below(5) } else { self.delay() };
        let mut at = self.now + delay;
        if takes_turn(effect) {
            // What is done to a slot is done in the order in which it is ordered.
            let turn = self.turns.entry(effect.slot().clone()).or_default();
            *turn = at.max(*turn);
            at = *turn;
        }
        let delay = at - self.now;
        self.at(delay, Happening::Arrive { effect: effect.clone(), left, incarnation });
        if self.malice && is_of_container(effect) && self.random.percent(2) {
            let again = delay + self.random.below(60_000);
            self.at(again, Happening::Arrive { effect: effect.clone(), left: u32::MAX, incarnation });
        }
    }

    /// The driver carries it out, and answers.
    pub(super) fn arrive(&mut self, effect: &Effect, left: u32) {
        let slot = effect.slot().clone();
        let answers = self.carried_out(effect, left);
        let is_sure = is_of_process(effect) || !self.malice;
        // Who looks is told how it is not too late to be of use, and who removes, once.
        let is_once = matches!(effect, Effect::Observe { .. } | Effect::Remove { .. });
        let (chance, late) =
            (self.random.below(100), self.random.below(if is_once { 4_000 } else { 150_000 }));
        let soon = self.random.below(20);
        if chance < 3 && !is_sure {
            self.note(format!("the answer is lost: {answers:?}"));
            self.outcome.missing += u32::from(!answers.is_empty());
            return;
        }
        let delay = if chance < 6 && !is_sure { late } else { soon };
        let again = (6..9).contains(&chance) && !is_sure && !is_once;
        for input in answers {
            if again {
                self.outcome.doubled += 1;
                self.deliver(late, slot.clone(), input.clone());
            }
            self.deliver(delay, slot.clone(), input);
        }
    }

    pub(super) fn deliver(&mut self, delay: u64, slot: SlotId, input: Input) {
        let incarnation = self.incarnation;
        self.at(delay, Happening::Deliver { slot, input, incarnation });
    }

    pub(super) fn receive(&mut self, slot: SlotId, input: Input) -> Verdict {
        self.note(format!("{slot} hears {input:?}"));
        self.ledger.told(&slot, &input);
        self.decide(|node, now, wall| node.take([(slot, input)], now, wall))
    }

    /// What an order comes to, and what is told of it.
    fn carried_out(&mut self, effect: &Effect, left: u32) -> Vec<Input> {
        let slot = effect.slot();
        if is_of_process(effect) || self.processes.alive(slot).is_some() && !is_of_container(effect) {
            return self.process_order(effect);
        }
        let before = self.heard.get(slot).cloned();
        let mut order = Order {
            docker: &mut self.docker,
            records: &mut self.records,
            heard: &mut self.heard,
            newest: &mut self.newest,
            left,
            cut: None,
            slip: self.slip,
            now: self.now,
        };
        let mut answers = order.carry_out(effect);
        if let Some(request) = order.cut.take()
            && self.random.percent(70)
        {
            let late = self.random.below(120_000);
            self.at(late, Happening::Late(request));
        }
        for answer in &mut answers {
            self.ledger.answered(slot, answer);
            if *answer == Input::Removed {
                self.processes.places.remove(slot);
                self.is_removed(slot);
            }
            self.may_contradict(slot, answer, before.as_ref());
        }
        answers
    }

    /// All that there was to tell of a slot is told before its removal is, and who was to be stopped was: its
    /// attempts are counted anew.
    fn is_removed(&mut self, slot: &SlotId) {
        self.queue.retain(|_, happening| match happening {
            Happening::Deliver { slot: of, .. } => of != slot,
            Happening::Arrive { effect: Effect::Stop { slot: of, .. }, .. } => of != slot,
            _ => true,
        });
    }

    /// Who removes does not wait for what is being made, and nothing more is made of it.
    fn call_off(&mut self, slot: &SlotId) {
        self.queue.retain(|_, happening| match happening {
            Happening::Arrive { effect: Effect::Prepare { slot: of, .. }, .. } => of != slot,
            _ => true,
        });
    }

    /// Says of what runs that it never did.
    fn may_contradict(&mut self, slot: &SlotId, answer: &mut Input, before: Option<&Heard>) {
        let Input::Observed { seen: seen @ Observation::Running { .. }, .. } = answer else { return };
        if self.malice && self.lies && self.random.percent(4) {
            self.note(format!("{slot}: a lie is told of it"));
            self.ledger.lied(slot);
            self.outcome.lies += 1;
            // What was not seen is not listened to, but for what was before.
            let run = |heard: &Heard| (heard.attempt, heard.container.clone(), heard.run);
            let is_new = self.heard.get(slot).map(run) != before.map(run);
            self.heard.retain(|of, _| of != slot || !is_new);
            *seen = Observation::Never;
        }
    }

    fn process_order(&mut self, effect: &Effect) -> Vec<Input> {
        match effect {
            Effect::Observe { slot, attempt, .. } => {
                let seen = self.processes.observe(slot, self.now);
                vec![Input::Observed { asked: *attempt, seen }]
            }
            Effect::Start { slot, attempt, spec, .. } => {
                let attempt = *attempt;
                let nature = Nature::of(spec);
                match self.processes.start(slot, attempt, &spec.digest(), nature) {
                    Ok(pid) => {
                        self.ledger.ran(slot, &spec.digest());
                        self.lives(slot, pid, nature);
                        vec![Input::Started { attempt, pid, at: Wall(self.now as i64), log_start: 1 }]
                    }
                    Err(Some(seen)) => vec![Input::StartRefused { attempt, seen }],
                    Err(None) => vec![Input::StartFailed { attempt, why: "there is no such program".into() }],
                }
            }
            Effect::Stop { slot, attempt, .. } => {
                let alive = self.processes.alive(slot).filter(|alive| alive.attempt == *attempt);
                if let Some(pid) = alive.map(|alive| alive.pid) {
                    let delay = self.random.below(500);
                    self.at(delay, Happening::Dies { slot: slot.clone(), pid, exit: Exit::Signal(15) });
                }
                Vec::new()
            }
            Effect::Remove { slot, .. } if self.processes.alive(slot).is_some() => {
                vec![Input::RemoveFailed { why: "it runs".into() }]
            }
            Effect::Remove { slot, .. } => {
                self.processes.places.remove(slot);
                vec![Input::Removed]
            }
            _ => Vec::new(),
        }
    }

    /// A process is there, and ends by itself at some time.
    fn lives(&mut self, slot: &SlotId, pid: i32, nature: Nature) {
        if let Some((after, code)) = self.own_end(nature) {
            self.at(after, Happening::Dies { slot: slot.clone(), pid, exit: Exit::Code(code) });
        }
    }

    /// When and how a program ends by itself, if it does.
    pub(super) fn own_end(&mut self, nature: Nature) -> Option<(u64, i32)> {
        let fails = self.malice && self.random.percent(15);
        match nature {
            Nature::Serves if fails => Some((self.random.below(60_000), 1)),
            Nature::Serves | Nature::Broken => None,
            Nature::Completes => Some((self.random.below(5_000), i32::from(fails))),
        }
    }
}

/// It is done to processes alone, and to the slot's directory.
fn is_of_process(effect: &Effect) -> bool {
    match effect {
        Effect::Observe { container, .. } | Effect::Remove { container, .. } => !container,
        Effect::Start { container, .. } => container.is_none(),
        Effect::Prepare { .. } | Effect::Mend { .. } | Effect::Stop { .. } => false,
        _ => true,
    }
}

/// It waits for what was ordered before. Who looks, and who stops, does not.
fn takes_turn(effect: &Effect) -> bool {
    !matches!(effect, Effect::Observe { .. } | Effect::Stop { .. })
}

/// It is done to containers alone.
fn is_of_container(effect: &Effect) -> bool {
    matches!(effect, Effect::Prepare { .. } | Effect::Mend { .. } | Effect::Start { container: Some(_), .. })
}

fn shown(effect: &Effect) -> String {
    match effect {
        Effect::Start { slot, attempt, container: Some(container), .. } => {
            format!("start {slot} attempt {attempt} as {container}")
        }
        Effect::Start { slot, attempt, .. } => format!("start {slot} attempt {attempt}"),
        Effect::Stop { slot, attempt, grace, .. } => format!("stop {slot} attempt {attempt} within {grace}"),
        Effect::Observe { slot, .. } => format!("observe {slot}"),
        Effect::Remove { slot, networks, .. } => format!("remove {slot} and {networks:?}"),
        Effect::Prepare { slot, digest, generation, .. } => format!("prepare {slot} {digest} ({generation})"),
        Effect::Mend { slot, .. } => format!("mend {slot}"),
        other => format!("something else: {other:?}"),
    }
}
