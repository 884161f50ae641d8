//! Networks and volumes that wanted containers need: which are there, which are missing, and which have to
//! be made anew.

use std::collections::BTreeMap;

use upbeat_model::plan::{Kept, Note, StepReason, Task, World};
use upbeat_model::project::container::{Network, Volume};
use upbeat_model::target::{Goal, TargetSlot};
use upbeat_model::{AppName, SlotId};

use super::case::{Case, Volumes};
use super::graph::{Graph, Node};
use super::{Budget, NoPlan};

/// What is to be done about one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// It is there.
    There,
    /// It has to be made.
    Missing,
    /// It has to be made anew: what is there was made of something else.
    Renewed,
}

/// One that is needed.
pub(super) struct Supply<T> {
    spec: T,
    /// Who needs it; of several the first.
    pub(super) slot: SlotId,
    pub(super) need: Need,
    /// Something that runs uses it now.
    pub(super) is_held: bool,
    /// It was made of something else, and is used all the same.
    is_otherwise: bool,
}

/// All that are needed, by name.
pub(super) struct Supplies<'a> {
    pub(super) networks: BTreeMap<&'a str, Supply<&'a Network>>,
    pub(super) volumes: BTreeMap<&'a str, Supply<&'a Volume>>,
}

/// What networks and volumes have in common.
trait Declared: PartialEq + Copy {
    const WHAT: &'static str;
    const A: &'static str;
    /// One of somebody else is used as it is.
    const IS_SHARED: bool;
    fn is_external(self) -> bool;
    fn digest(self) -> String;
}

impl Declared for &Network {
    const WHAT: &'static str = "network";
    const A: &'static str = "a network";
    const IS_SHARED: bool = false;
    fn is_external(self) -> bool {
        self.external
    }
    fn digest(self) -> String {
        Network::digest(self)
    }
}

impl Declared for &Volume {
    const WHAT: &'static str = "volume";
    const A: &'static str = "a volume";
    // It may hold data, which is what it is wanted for.
    const IS_SHARED: bool = true;
    fn is_external(self) -> bool {
        self.external
    }
    fn digest(self) -> String {
        Volume::digest(self)
    }
}

impl<'a> Supplies<'a> {
    /// Looks at each wanted container. Errors: what cannot be had.
    pub(super) fn gather(case: &Case<'a>, budget: &Budget<'_>) -> Result<Self, NoPlan> {
        let world = case.input.world;
        let mut all = Self { networks: BTreeMap::new(), volumes: BTreeMap::new() };
        let runs =
            |slot: &SlotId, wish: &TargetSlot| wish.goal == Goal::Running || case.is_tracked(&slot.app);
        for (slot, wish) in case.wanted_containers().filter(|(slot, wish)| runs(slot, wish)) {
            let Some(container) = wish.spec.container.as_deref() else { continue };
            for attachment in container.networks() {
                budget.spend()?;
                let network = &attachment.network;
                note(&mut all.networks, &network.name, network, slot, &world.networks)?;
            }
            for volume in container.volumes() {
                budget.spend()?;
                note(&mut all.volumes, &volume.name, volume, slot, &world.volumes)?;
            }
        }
        if case.input.how.volumes == Volumes::Keep {
            for supply in all.volumes.values_mut().filter(|supply| supply.need == Need::Renewed) {
                (supply.need, supply.is_otherwise) = (Need::There, true);
            }
        }
        // What shall not run keeps what it has, and gets what it lacks when it shall.
        for (slot, wish) in case.wanted_containers().filter(|(slot, wish)| !runs(slot, wish)) {
            let Some(container) = wish.spec.container.as_deref() else { continue };
            for attachment in container.networks() {
                keep(&mut all.networks, &attachment.network.name, &attachment.network, slot);
            }
            container.volumes().for_each(|volume| keep(&mut all.volumes, &volume.name, volume, slot));
        }
        for container in world.containers.values().filter(|container| container.state.is_running()) {
            let networks = container.networks.iter();
            networks.for_each(|name| hold(&mut all.networks, name));
            container.volumes.iter().for_each(|name| hold(&mut all.volumes, name));
        }
        Ok(all)
    }

    /// Of volumes that are used as they are, though the file says otherwise: those of others, and those that were
    /// made of something else.
    pub(super) fn notes(&self, world: &World) -> impl Iterator<Item = Note> {
        let is_ours = |name: &str, app: &AppName| {
            world.volumes.get(name).is_none_or(|kept| kept.app.as_ref() == Some(app))
        };
        self.volumes.iter().filter(|(_, supply)| !supply.spec.external).filter_map(move |(name, supply)| {
            let (app, service) = (supply.slot.app.clone(), supply.slot.service.clone());
            let volume = (*name).to_owned();
            match is_ours(name, &app) {
                false => Some(Note::UsedAsItIs { app, service, volume }),
                true if supply.is_otherwise => Some(Note::MadeOtherwise { app, service, volume }),
                true => None,
            }
        })
    }

    /// The first network among these that has to be made anew, or made again though something is in it.
    pub(super) fn renewed_network<'b>(&self, names: impl IntoIterator<Item = &'b String>) -> Option<&'b str> {
        let is_gone =
            |name: &&String| self.networks.get(name.as_str()).is_some_and(|s| s.need != Need::There);
        names.into_iter().find(is_gone).map(String::as_str)
    }

    /// Likewise of volumes.
    pub(super) fn renewed_volume<'b>(&self, names: impl IntoIterator<Item = &'b String>) -> Option<&'b str> {
        let is_gone = |name: &&String| self.volumes.get(name.as_str()).is_some_and(|s| s.need != Need::There);
        names.into_iter().find(is_gone).map(String::as_str)
    }
}

fn keep<'a, T>(all: &mut BTreeMap<&'a str, Supply<T>>, name: &'a str, spec: T, slot: &SlotId) {
    let kept = Supply { spec, slot: slot.clone(), need: Need::There, is_held: false, is_otherwise: false };
    all.entry(name).or_insert(kept);
}

fn hold<T>(all: &mut BTreeMap<&str, Supply<T>>, name: &str) {
    if let Some(supply) = all.get_mut(name) {
        supply.is_held = true;
    }
}

fn note<'a, T: Declared>(
    all: &mut BTreeMap<&'a str, Supply<T>>,
    name: &'a str,
    spec: T,
    slot: &SlotId,
    there: &BTreeMap<String, Kept>,
) -> Result<(), NoPlan> {
    let owned = || (name.to_owned(), slot.clone());
    if let Some(known) = all.get(name) {
        if known.spec == spec {
            return Ok(());
        }
        let (name, other) = owned();
        return Err(NoPlan::Different { what: T::WHAT, name, slot: known.slot.clone(), other });
    }
    let need = match there.get(name) {
        None if spec.is_external() => {
            let (name, slot) = owned();
            return Err(NoPlan::NotThere { what: T::WHAT, name, slot });
        }
        None => Need::Missing,
        Some(_) if spec.is_external() => Need::There,
        Some(Kept { app, .. }) if app.as_ref() != Some(&slot.app) && T::IS_SHARED => Need::There,
        Some(Kept { app, .. }) if app.as_ref() != Some(&slot.app) => {
            let (name, slot) = owned();
            return Err(NoPlan::NotOurs { what: T::A, name, slot });
        }
        // Of what it was made is not known: it is taken for the wanted one.
        Some(Kept { digest: None, .. }) => Need::There,
        Some(Kept { digest: Some(digest), .. }) if *digest == spec.digest() => Need::There,
        Some(_) => Need::Renewed,
    };
    all.insert(name, Supply { spec, slot: slot.clone(), need, is_held: false, is_otherwise: false });
    Ok(())
}

/// What of ours is there for these apps and needed by nobody any more.
pub(super) fn unneeded<'a, T>(
    there: &'a BTreeMap<String, Kept>,
    needed: &BTreeMap<&str, T>,
    is_ours: impl Fn(&AppName) -> bool,
) -> Vec<&'a str> {
    let goes = |(name, kept): &(&String, &Kept)| {
        kept.app.as_ref().is_some_and(&is_ours) && !needed.contains_key(name.as_str())
    };
    there.iter().filter(goes).map(|(name, _)| name.as_str()).collect()
}

/// The step by which a network or a volume is there; none where it is there already.
pub(super) fn made<'a, T>(
    graph: &mut Graph<'_>,
    known: &mut BTreeMap<&'a str, Node>,
    supply: Option<(&&'a str, &Supply<T>)>,
    slot: &SlotId,
    task: impl FnOnce() -> Task,
) -> Result<Option<Node>, NoPlan> {
    let Some((name, _)) = supply.filter(|(_, supply)| supply.need != Need::There) else { return Ok(None) };
    if let Some(node) = known.get(name) {
        return Ok(Some(*node));
    }
    let node = graph.add(task(), StepReason::NeededBy { slot: slot.clone() })?;
    known.insert(name, node);
    Ok(Some(node))
}
