//! Makes steps of lives, and the edges within each slot and around what slots share: images, networks,
//! volumes, releases.

use std::collections::{BTreeMap, BTreeSet};

use upbeat_model::plan::{Container, ContainerState, Note, StepReason, Strategy, Task};
use upbeat_model::project::Condition;
use upbeat_model::project::container::PullPolicy;
use upbeat_model::target::{Goal, TargetSlot};
use upbeat_model::{AppName, SlotId};

use super::case::{Case, Volumes};
use super::change::Action;
use super::clashes::{Takeovers, final_name};
use super::graph::{Graph, Node};
use super::life::{Life, Started};
use super::supplies::{Need, Supplies, made, unneeded};
use super::{Budget, NoPlan};

/// The steps of one slot.
#[derive(Clone, Debug, Default)]
pub(super) struct Own {
    pub(super) makes: Option<Node>,
    /// Starts a container, or a process, or replaces that.
    pub(super) starts: Option<Node>,
    pub(super) stops: Vec<Node>,
    pub(super) removes: Vec<Node>,
    /// Stops or removes a process.
    pub(super) ends: Option<Node>,
    pub(super) migrates: Option<Node>,
}

/// The steps of one app.
#[derive(Debug, Default)]
pub(super) struct OfApp {
    app: Option<Node>,
    release: Option<Node>,
    /// What is prepared before anything that runs is touched.
    prepares: Vec<Node>,
    /// What touches what runs.
    touches: Vec<Node>,
    /// What waits until all have started.
    late: Vec<Node>,
    /// What starts, or at least is made.
    ready: Vec<Node>,
}

/// All steps so far.
pub(super) struct Build<'a, 'b> {
    pub(super) case: &'b Case<'a>,
    pub(super) lives: &'b [Life<'a>],
    supplies: &'b Supplies<'a>,
    pub(super) graph: Graph<'b>,
    pub(super) own: Vec<Own>,
    apps: BTreeMap<&'a AppName, OfApp>,
    /// By each name an image is to be had under: the step that sees to that.
    images: BTreeMap<String, Node>,
    networks: BTreeMap<&'a str, Node>,
    volumes: BTreeMap<&'a str, Node>,
    /// Networks and volumes that are removed to be made anew.
    renewing: BTreeMap<&'a str, Node>,
    names: BTreeSet<String>,
    /// Steps that wait for a condition of a slot.
    pub(super) awaited: BTreeMap<(&'a SlotId, String), Node>,
    /// What a person should know besides.
    pub(super) notes: Vec<Note>,
}

impl<'a, 'b> Build<'a, 'b> {
    pub(super) fn new(
        case: &'b Case<'a>,
        lives: &'b [Life<'a>],
        supplies: &'b Supplies<'a>,
        budget: &'b Budget<'b>,
    ) -> Self {
        Self {
            case,
            lives,
            supplies,
            graph: Graph::new(budget),
            own: vec![Own::default(); lives.len()],
            apps: BTreeMap::new(),
            images: BTreeMap::new(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            renewing: BTreeMap::new(),
            names: BTreeSet::new(),
            awaited: BTreeMap::new(),
            notes: Vec::new(),
        }
    }

    /// All steps, and all edges but those between services.
    pub(super) fn steps(&mut self, takeovers: &Takeovers) -> Result<(), NoPlan> {
        self.releases()?;
        self.renewals()?;
        for place in 0..self.lives.len() {
            self.life(place)?;
        }
        for (by, holder) in takeovers {
            let (life, held) = (&self.lives[*holder], &self.own[*holder]);
            let goes = |name: &str| life.removes.iter().any(|(removed, _)| *removed == name);
            let only_stops = held.stops.iter().zip(&life.stops).filter(|(_, (name, _))| !goes(name));
            let over = held.removes.iter().chain(only_stops.map(|(node, _)| node)).copied();
            let (over, starts): (Vec<Node>, _) = (over.collect(), self.own[*by].starts);
            if let Some(starts) = starts {
                over.iter().try_for_each(|on| self.graph.wait(starts, *on))?;
            }
        }
        self.renewed_when_unused()
    }

    fn releases(&mut self) -> Result<(), NoPlan> {
        let case = self.case;
        let known = &case.input.world.apps;
        for (app, wanted) in &case.input.how.releases {
            let mut of_app = OfApp::default();
            let Some(release) = wanted else {
                self.apps.insert(app, of_app);
                continue;
            };
            if !known.contains_key(app) {
                let task = Task::CreateApp { app: app.clone() };
                of_app.app = Some(self.graph.add(task, StepReason::New)?);
            }
            if !known.get(app).is_some_and(|releases| releases.contains_key(&release.number)) {
                let task = Task::CreateRelease { app: app.clone(), release: release.clone() };
                let node = self.graph.add(task, StepReason::NewRelease)?;
                of_app.app.map_or(Ok(()), |app| self.graph.wait(node, app))?;
                of_app.release = Some(node);
            }
            self.apps.insert(app, of_app);
        }
        Ok(())
    }

    /// What is there, but was made of something else, is removed and made.
    fn renewals(&mut self) -> Result<(), NoPlan> {
        let supplies = self.supplies;
        let makers = self.lives.iter().filter(|life| life.makes).filter_map(|life| life.wish);
        let made: Vec<_> = makers.filter_map(|wish| wish.spec.container.as_deref()).collect();
        let joined: BTreeSet<&str> = made
            .iter()
            .flat_map(|container| container.networks().iter().map(|a| a.network.name.as_str()))
            .chain(made.iter().flat_map(|container| container.volumes().map(|v| v.name.as_str())))
            .collect();
        // What nobody joins may stay as it is until somebody does.
        let is_due = |name: &str, need: Need| need == Need::Renewed && joined.contains(name);
        for (name, supply) in supplies.networks.iter().filter(|(name, s)| is_due(name, s.need)) {
            let network = (*name).to_owned();
            if let Some(by) = self.case.input.world.strangers.get(*name) {
                let (slot, by) = (supply.slot.clone(), by.iter().cloned().collect());
                return Err(NoPlan::Shared { name: network, slot, by });
            }
            let reason = StepReason::NeededBy { slot: supply.slot.clone() };
            let goes = self.graph.add(Task::RemoveNetwork { network: network.clone() }, reason.clone())?;
            let comes = self.graph.add(Task::CreateNetwork { network }, reason)?;
            self.graph.wait(comes, goes)?;
            self.renewing.insert(name, goes);
            self.networks.insert(name, comes);
        }
        for (name, supply) in supplies.volumes.iter().filter(|(name, s)| is_due(name, s.need)) {
            let volume = (*name).to_owned();
            let reason = StepReason::NeededBy { slot: supply.slot.clone() };
            let goes = self.graph.add(Task::RemoveVolume { volume: volume.clone() }, reason.clone())?;
            let comes = self.graph.add(Task::CreateVolume { volume }, reason)?;
            self.graph.wait(comes, goes)?;
            self.renewing.insert(name, goes);
            self.volumes.insert(name, comes);
        }
        Ok(())
    }

    /// They are removed when whatever used them has gone.
    fn renewed_when_unused(&mut self) -> Result<(), NoPlan> {
        if self.renewing.is_empty() {
            return Ok(());
        }
        let removed = self.removed();
        for (name, container) in &self.case.input.world.containers {
            for used in container.networks.iter().chain(&container.volumes) {
                let Some(goes) = self.renewing.get(used.as_str()) else { continue };
                let Some(on) = removed.get(name.as_str()) else {
                    return Err(NoPlan::InUse { name: used.clone(), slot: container.slot.clone() });
                };
                self.graph.wait(*goes, *on)?;
            }
        }
        Ok(())
    }

    /// By the name of each container that is removed, the step that does it.
    fn removed(&self) -> BTreeMap<&'a str, Node> {
        let of = |(life, own): (&Life<'a>, &Own)| -> Vec<(&'a str, Node)> {
            life.removes.iter().map(|(name, _)| *name).zip(own.removes.iter().copied()).collect()
        };
        self.lives.iter().zip(&self.own).flat_map(of).collect()
    }

    fn life(&mut self, place: usize) -> Result<(), NoPlan> {
        let (case, life) = (self.case, &self.lives[place]);
        let mut own = Own::default();
        for (name, container) in &life.stops {
            let release = case.input.release(&life.slot.app, container.release);
            let (slot, container) = (life.slot.clone(), Some((*name).to_owned()));
            let node = self.graph.add(Task::Stop { slot, container, release }, life.reason.clone())?;
            let runs_beside = life.beside.is_some() || life.is_late && life.strategy == Strategy::StartFirst;
            if !runs_beside || life.is_dropped() {
                self.graph.interrupts(node);
            }
            own.stops.push(node);
        }
        for (name, container) in &life.removes {
            let release = case.input.release(&life.slot.app, container.release);
            let (slot, container) = (life.slot.clone(), (*name).to_owned());
            let task = Task::RemoveContainer { slot, container, release };
            let node = self.graph.add(task, life.reason.clone())?;
            let stopped = life.stops.iter().position(|(stopped, _)| stopped == name);
            stopped.map_or(Ok(()), |at| self.graph.wait(node, own.stops[at]))?;
            own.removes.push(node);
        }
        self.process(life, &mut own)?;
        if let Some(wish) = life.wish.filter(|wish| wish.spec.container.is_some()) {
            self.container(life, wish, &mut own)?;
        }
        self.sort_in(life, &own);
        self.own[place] = own;
        Ok(())
    }

    fn process(&mut self, life: &Life<'a>, own: &mut Own) -> Result<(), NoPlan> {
        let slot = life.slot.clone();
        let task = match life.process {
            Some(Action::Start) => Task::Start { slot, container: None, release: None, temporary: false },
            Some(Action::Replace) => Task::Replace { slot },
            Some(Action::Stop) => Task::Stop { slot, container: None, release: None },
            Some(Action::Remove) => Task::Remove { slot },
            Some(Action::Make) | None => return Ok(()),
        };
        let node = self.graph.add(task, life.reason.clone())?;
        if life.process == Some(Action::Start) {
            own.removes.iter().try_for_each(|on| self.graph.wait(node, *on))?;
        } else if self.case.observed(life.slot).is_some_and(|seen| seen.phase.is_alive()) {
            self.graph.interrupts(node);
        }
        match life.process {
            Some(Action::Start | Action::Replace) => own.starts = Some(node),
            _ => own.ends = Some(node),
        }
        Ok(())
    }

    fn container(&mut self, life: &Life<'a>, wish: &'a TargetSlot, own: &mut Own) -> Result<(), NoPlan> {
        let slot = life.slot;
        let release = self.case.input.release(&slot.app, Some(wish.release));
        let initialized = self.apps.get(&slot.app).and_then(|app| app.release);
        if let (Some(name), Some(release)) = (life.migrates, &release) {
            let (container, release) = (name.to_owned(), release.clone());
            let task = Task::Migrate { slot: slot.clone(), container, release };
            let node = self.graph.add(task, StepReason::Unchanged)?;
            initialized.map_or(Ok(()), |on| self.graph.wait(node, on))?;
            own.migrates = Some(node);
        }
        let mut name = String::new();
        if life.makes {
            name = self.name(slot, wish)?;
            let task = Task::Create { slot: slot.clone(), container: name.clone(), release: release.clone() };
            let node = self.graph.add(task, life.reason.clone())?;
            initialized.map_or(Ok(()), |on| self.graph.wait(node, on))?;
            self.supply(node, life, wish)?;
            if life.makes_anew() {
                own.removes.iter().try_for_each(|on| self.graph.wait(node, *on))?;
            } else if !(life.strategy == Strategy::StartFirst && life.is_late) {
                // What runs waits for more than this, by way of its stop.
                let resting =
                    own.removes.iter().zip(&life.removes).filter(|(_, (_, c))| !c.state.is_running());
                let resting: Vec<Node> = resting.map(|(on, _)| *on).collect();
                resting.into_iter().try_for_each(|on| self.graph.wait(on, node))?;
            }
            own.makes = Some(node);
        }
        let is_unready =
            |c: &Container| c.state != ContainerState::Healthy && wish.spec.readiness().is_some();
        if life.beside.is_some_and(is_unready) {
            let reason = StepReason::NeededBy { slot: slot.clone() };
            let on = self.awaits(slot, &Condition::Healthy, reason)?;
            own.stops.iter().try_for_each(|stop| self.graph.wait_for(*stop, on, Some(Condition::Healthy)))?;
        }
        let Some(started) = life.starts else { return Ok(()) };
        if let Started::There(there) = started {
            name = there.to_owned();
        }
        let temporary = life.strategy == Strategy::StartFirst && life.is_late;
        let (slot, container) = (slot.clone(), Some(name));
        let node =
            self.graph.add(Task::Start { slot, container, release, temporary }, life.reason.clone())?;
        self.order_start(life, wish, own, node, temporary)?;
        own.starts = Some(node);
        Ok(())
    }

    /// Never two in one slot: a container starts when the others of its slot have gone, and in a temporary
    /// slot they go when it is ready.
    fn order_start(
        &mut self,
        life: &Life<'a>,
        wish: &'a TargetSlot,
        own: &mut Own,
        node: Node,
        temporary: bool,
    ) -> Result<(), NoPlan> {
        if temporary {
            own.makes.map_or(Ok(()), |on| self.graph.wait(node, on))?;
            let mut ready = (node, None);
            if wish.spec.readiness().is_some() {
                own.starts = Some(node);
                let place = self.lives.partition_point(|other| other.slot < life.slot);
                self.own[place].starts = Some(node);
                let reason = StepReason::NeededBy { slot: life.slot.clone() };
                ready = (self.awaits(life.slot, &Condition::Healthy, reason)?, Some(Condition::Healthy));
            }
            let (on, condition) = ready;
            return own.stops.iter().try_for_each(|stop| self.graph.wait_for(*stop, on, condition.clone()));
        }
        let before: Vec<Node> = match (own.removes.is_empty(), life.makes_anew()) {
            (_, true) => own.makes.into_iter().collect(),
            (false, false) => own.removes.clone(),
            (true, false) => own.makes.into_iter().collect(),
        };
        let again = |(_, (name, _)): &(_, &(&str, _))| life.starts == Some(Started::There(name));
        let restarted = own.stops.iter().zip(&life.stops).filter(again).map(|(node, _)| node);
        let before = before.into_iter().chain(restarted.copied()).chain(own.ends).chain(own.migrates);
        let before: Vec<Node> = before.collect();
        before.into_iter().try_for_each(|on| self.graph.wait(node, on))
    }

    /// The step that waits for a condition of a slot, after that has been started.
    pub(super) fn awaits(
        &mut self,
        slot: &'a SlotId,
        condition: &Condition,
        reason: StepReason,
    ) -> Result<Node, NoPlan> {
        let key = (slot, condition.to_string());
        if let Some(node) = self.awaited.get(&key) {
            return Ok(*node);
        }
        let task = Task::Await { slot: slot.clone(), condition: condition.clone() };
        let node = self.graph.add(task, reason)?;
        let place = self.lives.binary_search_by(|life| life.slot.cmp(slot)).ok();
        if let Some(starts) = place.and_then(|place| self.own[place].starts) {
            self.graph.wait(node, starts)?;
        }
        self.awaited.insert(key, node);
        Ok(node)
    }

    /// The new container has its own name at once, where nobody has it.
    fn name(&mut self, slot: &SlotId, wish: &TargetSlot) -> Result<String, NoPlan> {
        let Some(container) = wish.spec.container.as_deref() else { return Ok(String::new()) };
        let own = final_name(slot, container);
        if self.case.input.world.foreign.contains_key(&own) {
            return Err(NoPlan::NotOurs { what: "a container", name: own, slot: slot.clone() });
        }
        let is_free = |build: &Self, name: &str| {
            !build.names.contains(name) && !build.case.input.world.containers.contains_key(name)
        };
        let mut name = own.clone();
        let mut beside = 1;
        while !is_free(self, &name) {
            name = match beside {
                1 => format!("{own}.{}", wish.digest),
                n => format!("{own}.{}.{n}", wish.digest),
            };
            beside += 1;
        }
        self.names.insert(name.clone());
        Ok(name)
    }

    fn supply(&mut self, node: Node, life: &Life<'a>, wish: &'a TargetSlot) -> Result<(), NoPlan> {
        let Some(container) = wish.spec.container.as_deref() else { return Ok(()) };
        let slot = life.slot;
        if let Some(image) = self.image(slot, wish)? {
            self.graph.wait(node, image)?;
            if life.waits_for_stop {
                self.apps.entry(&slot.app).or_default().prepares.push(image);
            }
        }
        let supplies = self.supplies;
        for attachment in container.networks() {
            let name = attachment.network.name.as_str();
            let task = || Task::CreateNetwork { network: name.to_owned() };
            made(&mut self.graph, &mut self.networks, supplies.networks.get_key_value(name), slot, task)?
                .map_or(Ok(()), |on| self.graph.wait(node, on))?;
        }
        for volume in container.volumes() {
            let name = volume.name.as_str();
            let task = || Task::CreateVolume { volume: name.to_owned() };
            made(&mut self.graph, &mut self.volumes, supplies.volumes.get_key_value(name), slot, task)?
                .map_or(Ok(()), |on| self.graph.wait(node, on))?;
        }
        Ok(())
    }

    /// The step after which the image of a slot is there under its name; none where it is.
    fn image(&mut self, slot: &SlotId, wish: &TargetSlot) -> Result<Option<Node>, NoPlan> {
        let Some(container) = wish.spec.container.as_deref() else { return Ok(None) };
        let there = &self.case.input.world.images;
        let (image, tag) = (container.image.full(), self.case.input.tag(slot, wish));
        let name = tag.as_ref().unwrap_or(&image);
        if let Some(node) = self.images.get(name) {
            return Ok(Some(*node));
        }
        let is_fresh = matches!(container.pull_policy, PullPolicy::Always | PullPolicy::Build);
        if there.contains_key(name) && !is_fresh {
            return Ok(None);
        }
        let reason = StepReason::NeededBy { slot: slot.clone() };
        let got = self.images.get(&image).copied();
        if let Some(tag) = tag.clone().filter(|_| got.is_some() || there.contains_key(&image) && !is_fresh) {
            let node = self.graph.add(Task::Tag { image, tag: tag.clone() }, reason)?;
            got.map_or(Ok(()), |on| self.graph.wait(node, on))?;
            self.images.insert(tag, node);
            return Ok(Some(node));
        }
        let is_built = container.build.is_some() && container.pull_policy != PullPolicy::Always;
        let task = match is_built || container.pull_policy == PullPolicy::Build {
            true => Task::Build { image: image.clone(), tag: tag.clone() },
            false if container.pull_policy == PullPolicy::Never && !self.others_get(&image) => {
                return Err(NoPlan::NoImage { slot: slot.clone(), image });
            }
            false => Task::Pull { image: image.clone(), tag: tag.clone() },
        };
        let node = self.graph.add(task, reason)?;
        self.images.extend(std::iter::once(image).chain(tag).map(|name| (name, node)));
        Ok(Some(node))
    }

    /// Another slot lets it be pulled, so it is there for all.
    fn others_get(&self, image: &str) -> bool {
        let containers = self.case.wanted_containers().filter_map(|(_, wish)| wish.spec.container.as_deref());
        let mut getting = containers.filter(|container| container.pull_policy != PullPolicy::Never);
        getting.any(|container| container.image.full() == image)
    }

    fn sort_in(&mut self, life: &Life<'a>, own: &Own) {
        let of_app = self.apps.entry(&life.slot.app).or_default();
        if !life.waits_for_stop {
            of_app.prepares.extend(own.makes);
        }
        let is_dropped_late = life.is_late && life.is_dropped();
        if is_dropped_late {
            let first = own.stops.is_empty();
            of_app.late.extend(if first { &own.removes } else { &own.stops });
            let resting = own.removes.iter().zip(&life.removes).filter(|(_, (_, c))| !c.state.is_running());
            of_app.late.extend(resting.filter(|_| !first).map(|(node, _)| *node));
        } else {
            of_app.touches.extend(own.stops.iter().copied().chain(own.ends));
            of_app.touches.extend(own.starts.filter(|_| life.process == Some(Action::Replace)));
        }
        of_app.ready.extend(own.starts.or(own.makes));
    }

    /// Edges around whole apps, and what goes at the very end.
    pub(super) fn close(&mut self) -> Result<(), NoPlan> {
        for (name, of_app) in std::mem::take(&mut self.apps) {
            let app = name.clone();
            if !of_app.prepares.is_empty() && !of_app.touches.is_empty() {
                self.graph.wait_all(&of_app.touches, &of_app.prepares, Task::Prepared { app })?;
            }
            let forgotten = self.forget(name)?;
            let ready = if of_app.ready.is_empty() { &of_app.prepares } else { &of_app.ready };
            let last: Vec<Node> = of_app.late.iter().chain(&forgotten).copied().collect();
            if !last.is_empty() && !ready.is_empty() {
                self.graph.wait_all(&last, ready, Task::Ready { app: name.clone() })?;
            }
        }
        self.drop_supplies()
    }

    /// Releases of an app that are not wanted any more; those of them that have to wait until all have
    /// started, because nothing that waits for that goes with them.
    fn forget(&mut self, app: &'a AppName) -> Result<Vec<Node>, NoPlan> {
        let (case, mut waiting) = (self.case, Vec::new());
        let Some(wanted) = case.input.how.releases.get(app) else { return Ok(waiting) };
        let known = case.input.world.apps.get(app);
        let is_kept = |number: u64| wanted.as_ref().is_some_and(|wanted| wanted.number == number);
        let leaving = self.leaving(app);
        let (mut gone, mut is_left) = (Vec::new(), false);
        let known_releases = known.into_iter().flatten().map(|(number, _)| *number);
        for number in known_releases.filter(|number| !is_kept(*number)) {
            let Some(release) = case.input.release(app, Some(number)) else { continue };
            let members = leaving.get(&number).map_or(&[][..], Vec::as_slice);
            let Some(members) = members.iter().copied().collect::<Option<Vec<_>>>() else {
                is_left = true;
                continue;
            };
            let task = Task::RemoveRelease { app: app.clone(), release };
            let node = self.graph.add(task, StepReason::NotDeclared)?;
            let has_late = members.iter().any(|(_, leaves)| *leaves == Leaves::Late);
            for (on, _) in members.into_iter().filter(|(_, leaves)| *leaves != Leaves::ByStart) {
                self.graph.wait(node, on)?;
            }
            waiting.extend((!has_late).then_some(node));
            gone.push(node);
        }
        if wanted.is_none() && known.is_some() && !is_left {
            let node = self.graph.add(Task::RemoveApp { app: app.clone() }, StepReason::NotDeclared)?;
            gone.into_iter().try_for_each(|on| self.graph.wait(node, on))?;
        }
        Ok(waiting)
    }

    /// Of each release the steps by which what is of it leaves it; `None` for what stays.
    fn leaving(&self, app: &AppName) -> BTreeMap<u64, Vec<Option<(Node, Leaves)>>> {
        let mut leaving: BTreeMap<u64, Vec<Option<(Node, Leaves)>>> = BTreeMap::new();
        for (name, container) in &self.case.input.world.containers {
            let Some(number) = container.release.filter(|_| container.slot.app == *app) else { continue };
            let place = self.lives.binary_search_by(|life| life.slot.cmp(&container.slot)).ok();
            let step = place.and_then(|place| leave(&self.lives[place], &self.own[place], name, container));
            leaving.entry(number).or_default().push(step);
        }
        leaving
    }

    /// Networks nobody needs any more go with the last container that was in them; volumes where that was
    /// asked for.
    fn drop_supplies(&mut self) -> Result<(), NoPlan> {
        let world = self.case.input.world;
        let seats = self.case.seats().iter().map(|seat| &seat.slot.app);
        let in_scope: BTreeSet<&AppName> = seats.chain(self.case.input.how.releases.keys()).collect();
        let is_ours = |app: &AppName| in_scope.contains(app);
        let networks = unneeded(&world.networks, &self.supplies.networks, is_ours);
        let volumes = match self.case.input.how.volumes {
            Volumes::Keep => Vec::new(),
            Volumes::Remove => unneeded(&world.volumes, &self.supplies.volumes, is_ours),
        };
        if networks.is_empty() && volumes.is_empty() {
            return Ok(());
        }
        let mut users: BTreeMap<&str, Option<Vec<Node>>> = BTreeMap::new();
        users.extend(networks.iter().chain(&volumes).map(|name| (*name, Some(Vec::new()))));
        let removed = self.removed();
        for (name, container) in &world.containers {
            for used in container.networks.iter().chain(&container.volumes) {
                let Some(users) = users.get_mut(used.as_str()) else { continue };
                match removed.get(name.as_str()) {
                    Some(node) => users.iter_mut().for_each(|users| users.push(*node)),
                    // Something that stays is in it: it goes with that.
                    None => *users = None,
                }
            }
        }
        let (left, networks): (Vec<&str>, Vec<&str>) =
            networks.into_iter().partition(|name| world.strangers.contains_key(*name));
        for name in left.into_iter().filter(|name| users[name].is_some()) {
            let app = world.networks.get(name).and_then(|kept| kept.app.clone());
            let by = world.strangers.get(name).into_iter().flatten().cloned().collect();
            let note = |app| Note::NetworkStays { app, network: name.to_owned(), by };
            self.notes.extend(app.map(note));
        }
        let networks =
            networks.into_iter().map(|name| (name, Task::RemoveNetwork { network: name.to_owned() }));
        let volumes = volumes.into_iter().map(|name| (name, Task::RemoveVolume { volume: name.to_owned() }));
        for (name, task) in networks.chain(volumes) {
            let Some(on) = users.get(name).cloned().flatten() else { continue };
            let node = self.graph.add(task, StepReason::NotNeeded)?;
            on.into_iter().try_for_each(|on| self.graph.wait(node, on))?;
        }
        Ok(())
    }
}

/// When something leaves its release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaves {
    /// Before its successor starts.
    ByStart,
    /// By a step nothing else waits for.
    ByItself,
    /// After all have started.
    Late,
}

fn leave(life: &Life<'_>, own: &Own, name: &str, container: &Container) -> Option<(Node, Leaves)> {
    if let Some(at) = life.removes.iter().position(|(removed, _)| *removed == name) {
        let leaves = match own.starts {
            Some(_) if !(life.is_late && life.strategy == Strategy::StartFirst) => Leaves::ByStart,
            _ if life.is_late && life.is_dropped() => Leaves::Late,
            _ => Leaves::ByItself,
        };
        return Some((own.removes[at], leaves));
    }
    let stays =
        life.wish.is_some_and(|wish| wish.goal != Goal::Absent && container.release == Some(wish.release));
    own.migrates.filter(|_| !stays).map(|node| (node, Leaves::ByItself))
}
