//! From apps as they are held to the document that shows them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::read::Wanted;
use super::withhold::withheld;
use super::{Device, DeviceApp, DeviceRelease, Held, Queued, QueuedDocument, Runs, Standing, State};
use crate::ids::{ReleaseName, ServiceName};
use crate::project::Service;
use crate::state::{Phase, SlotStatus};
use crate::target::Goal;
use crate::time::Wall;
use crate::withheld::WITHHELD;

/// How a moment is written.
type Written = fn(Wall) -> String;

/// The whole document.
pub fn device(state: &State, written: Written) -> Device {
    let apps = state.apps.iter().map(|(name, held)| (name.clone(), of_app(held, written)));
    Device {
        name: state.name.clone(),
        uuid: state.uuid.clone(),
        keys: state.keys.keys().map(|host| (host.clone(), WITHHELD.to_owned())).collect(),
        apps: apps.collect(),
        status: standing(state),
        queued: state.queued.as_ref().map(|queued| QueuedDocument {
            what: queued.what.clone(),
            who: queued.who.clone(),
            at: written(queued.at),
            problem: queued.problem.clone(),
        }),
    }
}

/// How far all of a device is. While a document waits for its turn, that is on its way, too.
pub fn standing(state: &State) -> Standing {
    if state.queued.as_ref().is_some_and(Queued::waits) {
        return Standing::Applying;
    }
    settled(state)
}

/// How far all apps are.
pub fn settled(state: &State) -> Standing {
    state.apps.values().map(|held| held.standing).max().unwrap_or(Standing::Done)
}

impl Queued {
    /// Its turn is still to come.
    pub fn waits(&self) -> bool {
        self.problem.is_none()
    }
}

impl Held {
    /// What a number of a release is called.
    fn called(&self, release: u64) -> ReleaseName {
        let named = self.declared.aliases.get(&release).cloned();
        // INVARIANT: a number is a name.
        named.unwrap_or_else(|| {
            ReleaseName::new(release.to_string()).unwrap_or_else(|_| unreachable!("digits"))
        })
    }

    /// What is wanted of it; nothing, where that is that it goes.
    pub(super) fn wanted(&self) -> Option<Wanted> {
        if self.is_leaving || self.app.project.services.is_empty() {
            return None;
        }
        let services = &self.app.project.services;
        let text = self.declared.text.clone().unwrap_or_else(|| {
            let outline = services.iter().map(|(name, service)| (name.to_string(), outline(service)));
            [("services".to_owned(), Value::Object(outline.collect()))].into_iter().collect()
        });
        Some(Wanted {
            name: self.declared.name.clone(),
            release: self.called(self.app.release),
            is_partial: self.declared.text.is_none(),
            text,
            runs: services.keys().map(|name| (name.clone(), self.runs(name))).collect(),
        })
    }

    fn runs(&self, service: &ServiceName) -> Runs {
        let shall = |goal: Goal| self.goals.iter().any(|(id, (is, _))| id.service == *service && *is == goal);
        if shall(Goal::Running) { Runs::Yes } else { Runs::No }
    }
}

/// Of a service that was declared elsewhere.
fn outline(service: &Service) -> Value {
    let mut outline = Map::new();
    match &service.container {
        Some(container) => {
            outline.insert("image".to_owned(), container.image.to_string().into());
            outline.extend(container.command.as_ref().map(|command| ("command".to_owned(), json!(command))));
        }
        None => drop(outline.insert("command".to_owned(), json!(service.command))),
    }
    Value::Object(outline)
}

/// How a copy is, in the words of the document.
fn word(slot: &SlotStatus) -> &'static str {
    match slot {
        slot if slot.started_at.is_some() && slot.phase.is_alive() => "running",
        slot if slot.attempt.0 == 0 => "created",
        _ => "stopped",
    }
}

/// One app.
pub fn of_app(held: &Held, written: Written) -> DeviceApp {
    let wanted = held.wanted();
    let mut releases: BTreeMap<ReleaseName, DeviceRelease> = BTreeMap::new();
    if let Some(wanted) = &wanted {
        let mut text = withheld(&wanted.text);
        let mut release = DeviceRelease { partial: wanted.is_partial, ..DeviceRelease::default() };
        let services = text.remove("services");
        for (name, runs) in &wanted.runs {
            let declared = services.as_ref().and_then(|all| all.get(name.as_str())?.as_object().cloned());
            let here = copies(held, name).filter(|slot| !is_of_another(held, slot, &wanted.release));
            let seen = seen(declared.unwrap_or_default(), here.collect(), Some(*runs), written);
            release.services.insert(name.clone(), seen);
        }
        release.more = text.into_iter().collect();
        releases.insert(wanted.release.clone(), release);
    }
    // What is still there of others.
    let mut going: BTreeMap<(ReleaseName, ServiceName), Vec<&SlotStatus>> = BTreeMap::new();
    for slot in &held.app.slots {
        let release = held.called(slot.release);
        let is_shown = wanted.as_ref().is_some_and(|wanted| {
            wanted.runs.contains_key(&slot.slot.service)
                && goal(held, slot) != Goal::Absent
                && !is_of_another(held, slot, &wanted.release)
        });
        let is_copy_too_many =
            wanted.as_ref().is_some_and(|w| w.release == release && w.runs.contains_key(&slot.slot.service));
        if !is_shown && !is_copy_too_many {
            going.entry((release, slot.slot.service.clone())).or_default().push(slot);
        }
    }
    for ((release, name), slots) in going {
        let services = &mut releases.entry(release).or_default().services;
        services.entry(name).or_insert_with(|| seen(Map::new(), slots, None, written));
    }
    DeviceApp { name: held.declared.name.clone(), releases }
}

/// The copies of a service that are to be there.
fn copies<'a>(held: &'a Held, service: &'a ServiceName) -> impl Iterator<Item = &'a SlotStatus> {
    let slots = held.app.slots.iter().filter(move |slot| slot.slot.service == *service);
    slots.filter(|slot| goal(held, slot) != Goal::Absent)
}

fn goal(held: &Held, slot: &SlotStatus) -> Goal {
    held.goals.get(&slot.slot).map_or(Goal::Absent, |(goal, _)| *goal)
}

/// It runs, and as another release has it.
fn is_of_another(held: &Held, slot: &SlotStatus, wanted: &ReleaseName) -> bool {
    let by_wish = held.goals.get(&slot.slot).map(|(_, release)| *release);
    // Who is not named by a change goes on by an older release, and belongs to the newest all the same.
    slot.phase.is_alive() && by_wish != Some(slot.release) && held.called(slot.release) != *wanted
}

/// A service: what is declared of it, and how its copies are. `runs`: nothing, where it is going.
fn seen(
    mut said: Map<String, Value>,
    slots: Vec<&SlotStatus>,
    runs: Option<Runs>,
    written: Written,
) -> Value {
    let words = || slots.iter().map(|slot| word(slot));
    // As the one is that is least far.
    let status = ["created", "stopped"].into_iter().find(|least| words().any(|word| word == *least));
    let status = status.unwrap_or(if slots.is_empty() { "created" } else { "running" });
    said.insert("status".to_owned(), status.into());
    let wanted = match runs {
        None => Some("absent"),
        Some(Runs::Yes) => (status != "running").then_some("running"),
        Some(Runs::No) => words().any(|word| word == "running").then_some("stopped"),
    };
    said.extend(wanted.map(|wanted| ("wanted".to_owned(), wanted.into())));
    if let Some(first) = slots.first() {
        said.extend(of_copy(first, written));
    }
    if slots.len() > 1 {
        let each = |slot: &&SlotStatus| {
            let mut copy = of_copy(slot, written);
            copy.insert("status".to_owned(), word(slot).into());
            (slot.slot.index.to_string(), Value::Object(copy))
        };
        said.insert("copies".to_owned(), Value::Object(slots.iter().map(each).collect()));
    }
    Value::Object(said)
}

/// What is known of one copy.
fn of_copy(slot: &SlotStatus, written: Written) -> Map<String, Value> {
    let has_ended = matches!(slot.phase, Phase::Stopped | Phase::Completed | Phase::Failed);
    let finished = (has_ended && slot.attempt.0 > 0).then_some(slot.since);
    [
        ("containerId", slot.container.clone()),
        ("startedAt", slot.started_at.map(written)),
        ("finishedAt", finished.map(written)),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key.to_owned(), Value::String(value?))))
    .collect()
}
