//! Malice: another hand, an engine that goes away, and what is told of it all.

use upbeat_decide::instance::{Input, Taken};
use upbeat_model::{Exit, SlotId};

use super::docker::{End, News, State};
use super::people::{IMAGES, reference};
use super::world::{Happening, World};
use crate::check::Verdict;

/// What somebody, or the engine, does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deed {
    Stop,
    Kill,
    RemoveByForce,
    Restart,
    Pause,
    Rename,
    Disconnect,
    /// Of one that has ended.
    Start,
    RemoveNetwork,
    /// It is another one at the registry.
    Publish,
    RemoveImage,
    EngineGone,
    /// Its containers have ended, or all is as it was.
    EngineBack {
        restarted: bool,
    },
    /// An end is told of a run that goes on.
    Lie,
    KillDaemon,
    /// What the daemon remembers is lost, and perhaps what its driver does.
    LoseStore {
        records: bool,
    },
}

impl World {
    pub(super) fn plan_deeds(&mut self, length: u64) {
        for _ in 0..self.random.below(10) {
            let when = self.random.below(length);
            let deed = match self.random.below(34) {
                0..3 => Deed::Stop,
                3..5 => Deed::Kill,
                5..8 => Deed::RemoveByForce,
                8..10 => Deed::Restart,
                10..12 => Deed::Pause,
                12..14 => Deed::Rename,
                14..16 => Deed::Disconnect,
                16..18 => Deed::Start,
                18 => Deed::RemoveNetwork,
                19..22 => Deed::Publish,
                22 => Deed::RemoveImage,
                23..26 => Deed::EngineGone,
                26..28 => Deed::Lie,
                28..31 => Deed::KillDaemon,
                _ => Deed::LoseStore { records: self.random.percent(50) },
            };
            self.at(when, Happening::Deed(deed));
        }
    }

    fn any(&mut self, alive: bool) -> Option<String> {
        let fits = |id: &&String| {
            let one = &self.docker.containers[*id];
            let is_free = self.docker.alive(&one.slot).is_none() && self.processes.alive(&one.slot).is_none();
            one.is_alive() == alive && (alive || is_free)
        };
        let all: Vec<String> = self.docker.containers.keys().filter(fits).cloned().collect();
        if all.is_empty() { None } else { Some(self.random.pick(&all).clone()) }
    }

    pub(super) fn does(&mut self, deed: Deed) {
        self.note(format!("deed: {deed:?}"));
        match deed {
            Deed::Publish => {
                let image = self.random.below(IMAGES);
                self.docker.publish(&reference(image));
            }
            Deed::RemoveImage => {
                let image = self.random.below(IMAGES);
                self.docker.local.remove(&reference(image));
            }
            Deed::RemoveNetwork => self.remove_a_network(),
            Deed::EngineGone => self.goes_away(),
            Deed::EngineBack { restarted } => self.comes_back(restarted),
            Deed::KillDaemon if self.node.is_some() => self.crash("by another hand"),
            Deed::LoseStore { records } if self.node.is_some() => {
                self.crash("and its store is lost");
                self.store.clear();
                self.ledger.forgotten(&self.processes);
                if records {
                    self.records.clear();
                }
            }
            Deed::KillDaemon | Deed::LoseStore { .. } => {}
            _ if !self.docker.is_there => {}
            Deed::Start => {
                if let Some(id) = self.any(false) {
                    self.note(format!("somebody starts {id}"));
                    // It may be without its networks.
                    let _ = self.docker.apply(super::docker::Request::Start { id: id.clone() });
                    let run = self.docker.containers.get(&id).map(|one| one.run);
                    self.ledger.began_by_hand(run);
                }
            }
            _ => {
                if let Some(id) = self.any(true) {
                    self.is_done_to(deed, &id);
                }
            }
        }
    }

    fn is_done_to(&mut self, deed: Deed, id: &str) {
        let Some(container) = self.docker.containers.get_mut(id) else { return };
        let (slot, run) = (container.slot.clone(), container.run);
        match deed {
            Deed::Stop => {
                let after = self.random.below(3_000);
                self.at(after, Happening::Ends { id: id.to_owned(), run, code: 143, end: End::Asked });
            }
            Deed::Kill => self.docker.end(id, 137, End::Asked),
            Deed::RemoveByForce => {
                self.docker.end(id, 137, End::Asked);
                self.docker.containers.remove(id);
                self.docker.news.push(News::Changed { id: id.to_owned() });
            }
            Deed::Restart => {
                self.docker.end(id, 143, End::Asked);
                let _ = self.docker.apply(super::docker::Request::Start { id: id.to_owned() });
                let run = self.docker.containers.get(id).map(|one| one.run);
                self.ledger.began_by_hand(run);
            }
            Deed::Pause => container.state = State::Running { paused: true },
            Deed::Rename => container.name = format!("{}.renamed-{run}", container.proper),
            Deed::Disconnect => drop(container.joined.pop_first()),
            Deed::Lie if self.lies => {
                if let Some(heard) = self.heard.get(&slot).filter(|heard| heard.container == id) {
                    let exit = Exit::Code(0);
                    let input = Input::Exited { attempt: heard.attempt, exit };
                    self.heard.remove(&slot);
                    self.ledger.lied(&slot);
                    self.deliver(0, slot, input);
                }
            }
            _ => {}
        }
        self.docker.news.push(News::Changed { id: id.to_owned() });
    }

    /// Out of its network with all that is in it, and the network is gone.
    fn remove_a_network(&mut self) {
        let names: Vec<String> = self.docker.networks.keys().cloned().collect();
        if !self.docker.is_there || names.is_empty() {
            return;
        }
        let name = self.random.pick(&names).clone();
        self.docker.networks.remove(&name);
        for (id, container) in &mut self.docker.containers {
            if container.is_alive() && container.joined.remove(&name).is_some() {
                self.docker.news.push(News::Changed { id: id.clone() });
            }
        }
    }

    fn goes_away(&mut self) {
        if self.docker.is_there {
            self.docker.is_there = false;
            let restarted = self.random.percent(50);
            let after = self.random.below(40_000);
            self.at(after, Happening::Deed(Deed::EngineBack { restarted }));
        }
    }

    fn comes_back(&mut self, restarted: bool) {
        if self.docker.is_there {
            return;
        }
        self.docker.is_there = true;
        if restarted {
            let all: Vec<String> = self.docker.containers.keys().cloned().collect();
            all.iter().for_each(|id| self.docker.end(id, 137, End::Engine));
        }
        let (soon, incarnation) = (self.random.below(5_000), self.incarnation);
        self.at(soon, Happening::Find { incarnation });
    }

    /// What happened to containers takes its course, and is told to the driver: late, twice, or not at all.
    pub(super) fn spread_news(&mut self) -> Verdict {
        for news in std::mem::take(&mut self.docker.news) {
            match &news {
                News::Started { id, run } => self.lives_on(id, *run)?,
                News::Asked { id, run, grace } => {
                    let own = self.random.below(7_000);
                    let code = if own < *grace { 143 } else { 137 };
                    let (id, run) = (id.clone(), *run);
                    self.at(own.min(*grace), Happening::Ends { id, run, code, end: End::Asked });
                }
                News::Ended { .. } | News::Changed { .. } => {}
            }
            let (id, incarnation) = (news.id().to_owned(), self.incarnation);
            let (late, chance) = (self.random.below(60_000), self.random.below(100));
            let soon = self.random.below(30);
            match chance {
                0..8 if self.malice => self.outcome.missing += 1,
                8..13 if self.malice => self.at(late, Happening::Hear { id, incarnation }),
                13..18 if self.malice => {
                    self.outcome.doubled += 1;
                    self.at(late, Happening::Hear { id: id.clone(), incarnation });
                    self.at(soon, Happening::Hear { id, incarnation });
                }
                _ => self.at(soon, Happening::Hear { id, incarnation }),
            }
        }
        Ok(())
    }

    fn lives_on(&mut self, id: &str, run: u64) -> Verdict {
        self.outcome.starts += 1;
        let Some(container) = self.docker.containers.get(id) else { return Ok(()) };
        let (slot, nature, digest) = (container.slot.clone(), container.nature, container.digest.clone());
        self.note(format!("{slot} runs as {id} (run {run})"));
        let alive = self.docker.of(&slot).filter(|(_, one)| one.is_alive()).count();
        if alive + usize::from(self.processes.alive(&slot).is_some()) > 1 {
            return Err(format!("{slot}: two are alive, one of them {id}"));
        }
        self.ledger.ran(&slot, &digest);
        if let Some((after, code)) = self.own_end(nature) {
            self.at(after, Happening::Ends { id: id.to_owned(), run, code, end: End::Own });
        }
        Ok(())
    }

    /// An event wakes the driver: it looks.
    pub(super) fn hear(&mut self, id: &str) -> Verdict {
        if !self.docker.is_there {
            return Ok(());
        }
        let slots: Vec<SlotId> = (self.heard.iter())
            .filter(|(_, heard)| heard.container == id)
            .map(|(slot, _)| slot.clone())
            .collect();
        slots.iter().for_each(|slot| self.tell_of(slot));
        self.appear_unheard()
    }

    /// Without an event: what is listened to, and what there is that nobody knows of.
    pub(super) fn look_anyway(&mut self) -> Verdict {
        if !self.docker.is_there {
            return Ok(());
        }
        let slots: Vec<SlotId> = self.heard.keys().cloned().collect();
        slots.iter().for_each(|slot| self.tell_of(slot));
        let all: Vec<SlotId> = self.docker.containers.values().map(|one| one.slot.clone()).collect();
        let strangers = self.people.strangers(&all);
        self.appear(strangers)?;
        self.appear_unheard()
    }

    /// What there is to tell of what is listened to. Its end is told once.
    fn tell_of(&mut self, slot: &SlotId) {
        let Some(heard) = self.heard.get_mut(slot) else { return };
        let attempt = heard.attempt;
        let taken = |how| Input::Taken { attempt, how };
        let input = match self.docker.containers.get(&heard.container) {
            None => taken(Taken::Removed),
            Some(found) if found.run != heard.run => taken(Taken::Restarted),
            Some(found) if found.is_alive() => {
                let drift = found.drift(&self.docker.networks);
                if heard.drift == drift {
                    return;
                }
                heard.drift.clone_from(&drift);
                if let Some(what) = drift {
                    self.deliver(1, slot.clone(), Input::Drifted { attempt, what });
                }
                return;
            }
            Some(found) if found.end == Some(End::Asked) && !heard.asked => taken(Taken::Stopped),
            Some(found) => {
                let code = if let State::Exited(code) = found.state { code } else { -1 };
                Input::Exited { attempt, exit: Exit::Code(code) }
            }
        };
        self.heard.remove(slot);
        let delay = self.random.below(15);
        if self.malice && self.random.percent(8) {
            let late = self.random.below(120_000);
            self.deliver(late, slot.clone(), input.clone());
        }
        self.deliver(delay, slot.clone(), input);
    }

    /// Containers that run, and that nobody listens to.
    fn appear_unheard(&mut self) -> Verdict {
        let is_unheard =
            |slot: &SlotId, id: &String| self.heard.get(slot).is_none_or(|heard| heard.container != *id);
        let found: Vec<SlotId> = (self.docker.containers.iter())
            .filter(|(id, one)| one.is_alive() && is_unheard(&one.slot, id))
            .map(|(_, one)| one.slot.clone())
            .collect();
        self.appear(found)
    }

    /// The engine was found: so was what there is in it.
    pub(super) fn find(&mut self) -> Verdict {
        if !self.docker.is_there {
            return Ok(());
        }
        let slots: Vec<SlotId> = self.heard.keys().cloned().collect();
        slots.iter().for_each(|slot| self.tell_of(slot));
        let found = self.docker.containers.values().map(|one| one.slot.clone()).collect();
        self.appear(found)
    }

    fn appear(&mut self, found: Vec<SlotId>) -> Verdict {
        if found.is_empty() {
            return Ok(());
        }
        self.note(format!(
            "containers appear: {}",
            found.iter().map(SlotId::short).collect::<Vec<_>>().join(" ")
        ));
        let strangers = self.people.strangers(&found);
        self.decide(|node, now, wall| node.appeared(found, now, wall))?;
        // They go. That they are containers is known by now.
        match self.people.disown(strangers) {
            true => self.decide_wishes(),
            false => Ok(()),
        }
    }
}
