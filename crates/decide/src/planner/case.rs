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

impl Input<'_> {
    /// A release by its number, as plans name it; `None` where they are not kept track of.
    pub(super) fn release(&self, app: &AppName, number: Option<u64>) -> Option<Release> {
        let (wanted, number) = (self.how.releases.get(app)?, number?);
        if let Some(wanted) = wanted.as_ref().filter(|wanted| wanted.number == number) {
            return Some(wanted.clone());
        }
        let known = self.world.apps.get(app).and_then(|known| known.get(&number));
        Some(Release { number, name: known.cloned().unwrap_or_else(|| number.to_string()) })
    }

    /// The name an image is kept under for a release.
    pub(super) fn tag(&self, slot: &SlotId, wish: &TargetSlot) -> Option<String> {
        let release = self.release(&slot.app, Some(wish.release))?;
        Some(format!("{}_{}:{}", slot.app, slot.service, release.name))
    }
}

/// All that is known of one slot.
pub(super) struct Seat<'a> {
    pub(super) slot: &'a SlotId,
    /// Its containers, by name.
    pub(super) there: Vec<(&'a str, &'a Container)>,
    pub(super) seen: Option<&'a Observed>,
    pub(super) current: Option<&'a TargetSlot>,
    /// Also that it shall be absent.
    pub(super) wanted: Option<&'a TargetSlot>,
}

/// The input, with what is looked up again and again.
pub(super) struct Case<'a> {
    pub(super) input: Input<'a>,
    seats: Vec<Seat<'a>>,
}

impl<'a> Case<'a> {
    pub(super) fn new(input: Input<'a>) -> Self {
        let Input { world, current, wanted, .. } = input;
        let containers =
            world.containers.iter().map(|(name, container)| (&container.slot, (name, container)));
        let mut containers: Vec<(&SlotId, (&String, &Container))> = containers.collect();
        containers.sort_by_key(|(slot, _)| *slot);
        let all = world.observed.keys().chain(current.keys()).chain(wanted.keys());
        let mut slots: Vec<&'a SlotId> = all.chain(containers.iter().map(|(slot, _)| *slot)).collect();
        // Each of the four is in order already, which this sort makes use of.
        slots.sort();
        slots.dedup();
        let empty = |slot| Seat { slot, there: Vec::new(), seen: None, current: None, wanted: None };
        let mut seats: Vec<Seat<'a>> = slots.into_iter().map(empty).collect();
        seat(&mut seats, containers, |seat, (name, container)| seat.there.push((name, container)));
        seat(&mut seats, &world.observed, |seat, seen| seat.seen = Some(seen));
        seat(&mut seats, current, |seat, current| seat.current = Some(current));
        seat(&mut seats, wanted, |seat, wanted| seat.wanted = Some(wanted));
        Self { input, seats }
    }

    /// All slots anything is known of, each once and in order.
    pub(super) fn seats(&self) -> &[Seat<'a>] {
        &self.seats
    }

    /// The containers of a slot, by name.
    pub(super) fn containers(&self, slot: &SlotId) -> &[(&'a str, &'a Container)] {
        let place = self.seats.binary_search_by(|seat| seat.slot.cmp(slot));
        place.map_or(&[], |place| &self.seats[place].there)
    }

    /// All wanted copies of a service, in order.
    pub(super) fn copies(
        &self,
        app: &AppName,
        service: &ServiceName,
    ) -> impl Iterator<Item = (&'a SlotId, &'a TargetSlot)> {
        let first = self.seats.partition_point(|seat| (&seat.slot.app, &seat.slot.service) < (app, service));
        let copies = self.seats[first..].iter();
        let copies = copies.take_while(move |seat| seat.slot.app == *app && seat.slot.service == *service);
        copies.filter_map(|seat| Some((seat.slot, seat.wanted.filter(|wish| wish.goal != Goal::Absent)?)))
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

    /// Whether a container is what a wish asks for: made of the same, and of the image that is meant by
    /// its name now, as far as that is known.
    pub(super) fn fits(&self, container: &Container, slot: &SlotId, wish: &TargetSlot) -> bool {
        let Some(asked) = wish.spec.container.as_deref().filter(|_| container.digest == wish.digest) else {
            return false;
        };
        let images = &self.input.world.images;
        let now = match self.input.tag(slot, wish) {
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

/// Gives each its own, of what is in the order of the slots too: so nothing is looked up.
fn seat<'a, T>(
    seats: &mut [Seat<'a>],
    all: impl IntoIterator<Item = (&'a SlotId, T)>,
    mut give: impl FnMut(&mut Seat<'a>, T),
) {
    let mut place = 0;
    for (slot, one) in all {
        while seats[place].slot != slot {
            place += 1;
        }
        give(&mut seats[place], one);
    }
}
