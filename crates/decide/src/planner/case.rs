//! What a plan is made of: what is there, what was wanted so far, what is wanted, and how.

use std::collections::BTreeMap;

use upbeat_model::plan::{Container, Observed, Release, Strategy, World};
use upbeat_model::target::{Goal, TargetSlot};
use upbeat_model::{AppName, ServiceName, SlotId};

use super::{Limits, Slots};

/// What a plan is made of.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// What is there.
    pub world: &'a World,
    /// What was wanted so far: what running copies rest on.
    pub current: &'a Slots,
    /// What is wanted. A slot that is not declared any more may be missing or be there with the goal
    /// `Absent`.
    pub wanted: &'a Slots,
    /// How to get there.
    pub how: &'a How,
    /// Bounds of planning itself.
    pub limits: Limits<'a>,
}

/// How to get from what is to what is wanted.
#[derive(Clone, Debug, Default)]
pub struct How {
    /// Apps whose releases are kept track of, each with the release that is wanted, or with none where the
    /// app shall go. Images are kept under names of such a release, and a container comes to belong to
    /// another release by a step of its own. What is missing here is planned without releases.
    pub releases: BTreeMap<AppName, Option<Release>>,
    /// How copies are replaced; stop-first where nothing is said.
    pub strategies: BTreeMap<(AppName, ServiceName), Strategy>,
    /// What becomes of volumes.
    pub volumes: Volumes,
    /// What update locks mean.
    pub locks: Locks,
}

/// What becomes of volumes nobody needs any more, or that are wanted with other settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Volumes {
    /// They stay, and where that cannot be, there is no plan.
    #[default]
    Keep,
    /// They are removed, with what is in them.
    Remove,
}

/// What update locks mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Locks {
    /// What holds one is not interrupted: there is no plan.
    #[default]
    Respected,
    /// It is interrupted all the same, and the plan says so.
    Forced,
}

/// The input, with what is looked up again and again.
pub(super) struct Case<'a> {
    pub(super) input: Input<'a>,
    containers: BTreeMap<&'a SlotId, Vec<(&'a str, &'a Container)>>,
}

impl<'a> Case<'a> {
    pub(super) fn new(input: Input<'a>) -> Self {
        let mut containers: BTreeMap<&'a SlotId, Vec<(&'a str, &'a Container)>> = BTreeMap::new();
        for (name, container) in &input.world.containers {
            containers.entry(&container.slot).or_default().push((name, container));
        }
        Self { input, containers }
    }

    /// All slots anything is known of, each once and in order.
    pub(super) fn slots(&self) -> impl Iterator<Item = &'a SlotId> {
        let Input { world, current, wanted, .. } = self.input;
        let all = world.observed.keys().chain(current.keys()).chain(wanted.keys());
        let all: std::collections::BTreeSet<&'a SlotId> =
            all.chain(self.containers.keys().copied()).collect();
        all.into_iter()
    }

    /// The containers of a slot, by name.
    pub(super) fn containers(&self, slot: &SlotId) -> &[(&'a str, &'a Container)] {
        self.containers.get(slot).map_or(&[], Vec::as_slice)
    }

    pub(super) fn observed(&self, slot: &SlotId) -> Option<&'a Observed> {
        self.input.world.observed.get(slot)
    }

    pub(super) fn current(&self, slot: &SlotId) -> Option<&'a TargetSlot> {
        self.input.current.get(slot)
    }

    /// The wish for a slot, where it is not that there be none.
    pub(super) fn wish(&self, slot: &SlotId) -> Option<&'a TargetSlot> {
        self.input.wanted.get(slot).filter(|wish| wish.goal != Goal::Absent)
    }

    /// The wanted container slots.
    pub(super) fn wanted_containers(&self) -> impl Iterator<Item = (&'a SlotId, &'a TargetSlot)> {
        let is_wanted = |wish: &TargetSlot| wish.goal != Goal::Absent && wish.spec.container.is_some();
        self.input.wanted.iter().filter(move |(_, wish)| is_wanted(wish))
    }

    /// Whether releases of an app are kept track of.
    pub(super) fn is_tracked(&self, app: &AppName) -> bool {
        self.input.how.releases.contains_key(app)
    }

    /// A release by its number, as plans name it; `None` where they are not kept track of.
    pub(super) fn release(&self, app: &AppName, number: Option<u64>) -> Option<Release> {
        let (wanted, number) = (self.input.how.releases.get(app)?, number?);
        if let Some(wanted) = wanted.as_ref().filter(|wanted| wanted.number == number) {
            return Some(wanted.clone());
        }
        let known = self.input.world.apps.get(app).and_then(|known| known.get(&number));
        Some(Release { number, name: known.cloned().unwrap_or_else(|| number.to_string()) })
    }

    /// The name an image is kept under for a release.
    pub(super) fn tag(&self, slot: &SlotId, wish: &TargetSlot) -> Option<String> {
        let release = self.release(&slot.app, Some(wish.release))?;
        Some(format!("{}_{}:{}", slot.app, slot.service, release.name))
    }

    /// Whether a container is what a wish asks for: made of the same, and of the image that is meant by
    /// its name now, as far as that is known.
    pub(super) fn fits(&self, container: &Container, slot: &SlotId, wish: &TargetSlot) -> bool {
        let Some(asked) = wish.spec.container.as_deref().filter(|_| container.digest == wish.digest) else {
            return false;
        };
        let images = &self.input.world.images;
        let now = match self.tag(slot, wish) {
            Some(tag) => images.get(&tag),
            None => images.get(&asked.image.full()),
        };
        !matches!((now, &container.image), (Some(now), Some(of)) if now != of)
    }

    pub(super) fn strategy(&self, slot: &SlotId) -> Strategy {
        let key = (slot.app.clone(), slot.service.clone());
        self.input.how.strategies.get(&key).copied().unwrap_or_default()
    }
}
