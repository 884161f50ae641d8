//! What the device document asks for, as commands; and apps as it shows them.
//!
//! The document is a view: of what it says an app keeps its words ([`Declared`]) and nothing else. Whoever declares
//! the app otherwise takes them away.

use std::collections::{BTreeMap, BTreeSet};

use upbeat_model::device::{ALIASES_MAX, Change, Declared, Held, Runs, Seek, Standing};
use upbeat_model::target::{Ask, Goal};
use upbeat_model::{App, AppName, Operation, OperationId, Origin, ServiceName, SlotId, Wish};

use crate::control::{Control, Request, command_text};
use crate::error::ControlError;
use crate::halt::halt;
use crate::persist;
use crate::record::AppRecord;
use crate::state::State;
use crate::wishes::{self, slot_id, wish, wish_as_it_is};

impl Control {
    /// Every app, as the device document shows it.
    pub fn held(&self) -> BTreeMap<AppName, Held> {
        let state = self.state();
        let names = state.summaries().into_iter().map(|app| app.name);
        names.filter_map(|name| held(&state, &name).map(|held| (name, held))).collect()
    }

    /// Whether all of these changes could be made now. Errors: why the first could not.
    pub fn judge(&self, changes: &[Change]) -> Result<(), ControlError> {
        let state = self.state();
        let operation = state.next_operation();
        changes
            .iter()
            .try_for_each(|change| seek(state.app(&change.app).as_deref(), change, operation).map(drop))
    }

    /// Calls off what is sought for an app and was not reached; nothing, where nothing of it can be called off.
    pub async fn halt(&self, app: &AppName, origin: Origin) -> Result<Option<Operation>, ControlError> {
        let is_none = {
            let state = self.state();
            let seen = state.copies(app);
            let record = state.app(app).ok_or_else(|| ControlError::NoSuchApp(app.clone()))?;
            halt(&record, &seen, state.next_operation())?.is_none()
        };
        if is_none {
            return Ok(None);
        }
        let request = Request::new(app, "stop seeking".to_owned(), origin, &());
        let halted = self.command(request, |old, operation| {
            let meanwhile = || ControlError::Meanwhile(app.clone());
            // As they are by now: others may have had their turn before.
            let seen = self.state().copies(app);
            halt(old.ok_or_else(meanwhile)?, &seen, operation)?.ok_or_else(meanwhile)
        });
        halted.await.map(Some)
    }

    /// What an app was before is of no use to anybody once what was sought of it since is reached.
    pub(crate) async fn forget_before(&self, app: &AppName) {
        let turn = self.inner.commands.lock().await;
        // While it is not known what is kept, nothing is put beside it.
        if turn.is_some() {
            return;
        }
        let Some(record) = self.state().without_before(app) else { return };
        match persist::save_app(&self.inner.store, &record).await {
            Ok(()) => self.state().replace(record),
            Err(error) => tracing::warn!(%error, %app, "what it was before stays on the disk for now"),
        }
    }

    /// Makes one change. Whoever asks for it shows it to the agent.
    pub(crate) async fn seek_later(&self, change: Change, origin: Origin) -> Result<Operation, ControlError> {
        let what = match &change.seek {
            Seek::Gone => "down".to_owned(),
            Seek::Declared { release, .. } => format!("release {release}"),
            Seek::Again(services) => command_text("try again", services.iter()),
            Seek::Goals(goals) => {
                let word = |runs| if runs == Runs::Yes { "running" } else { "stopped" };
                command_text("seek", goals.iter().map(|(name, runs)| format!("{name}={}", word(*runs))))
            }
        };
        let request = Request::new(&change.app, what, origin, &()).of_bunch();
        self.command(request, |old, operation| seek(old, &change, operation)).await
    }
}

/// What a change makes of an app. Errors: the app is another than the one it was worked out from; its wishes
/// contradict each other.
pub(crate) fn seek(
    old: Option<&AppRecord>,
    change: &Change,
    operation: OperationId,
) -> Result<wishes::Change, ControlError> {
    if old.map(stamp) != change.stamp {
        return Err(ControlError::Meanwhile(change.app.clone()));
    }
    let none = || ControlError::NoSuchApp(change.app.clone());
    match &change.seek {
        Seek::Gone => Ok(wishes::down(old.ok_or_else(none)?, false, operation)),
        Seek::Goals(goals) => set_goals(old.ok_or_else(none)?, goals, operation),
        Seek::Again(services) => Ok(again(old.ok_or_else(none)?, services, operation)),
        Seek::Declared { project, release, name, text, stopped } => {
            let mut made = wishes::up(old, project.clone(), &[], operation)?;
            let record = &mut made.record;
            let mut declared = record.device.take().unwrap_or_default();
            declared.name.clone_from(name);
            declared.text = Some(text.clone());
            declared.aliases.insert(record.release, release.clone());
            while declared.aliases.len() > ALIASES_MAX {
                declared.aliases.pop_first();
            }
            record.device = Some(declared);
            wishes::rest(&mut made, &stopped.iter().cloned().collect(), operation);
            let record = &made.record;
            let begun = record.project.services.keys().filter(|name| !stopped.contains(name)).cloned();
            let begun: BTreeSet<ServiceName> = begun.collect();
            can_run(record, &begun)?;
            Ok(made.heeding_locks())
        }
    }
}

/// Services of an app that stays what it is are to run, or not to; others keep their wishes.
fn set_goals(
    old: &AppRecord,
    goals: &BTreeMap<ServiceName, Runs>,
    operation: OperationId,
) -> Result<wishes::Change, ControlError> {
    let mut record = old.clone();
    let mut slots = BTreeSet::new();
    for (service, runs) in goals {
        let mut copies: BTreeSet<SlotId> = record.copies(service).cloned().collect();
        if *runs == Runs::Yes {
            let scale = record.project.services.get(service).map_or(0, |declared| declared.scale);
            copies.extend((1..=scale).map(|index| slot_id(&record.name, service, index)));
        }
        for id in copies {
            match runs {
                Runs::Yes => wish_as_it_is(&mut record, &id, Ask::Start, operation),
                Runs::No => wish(&mut record, &id, Goal::Stopped, Ask::Ensure, operation),
            }
            slots.insert(id);
        }
    }
    let begun = goals.iter().filter(|(_, runs)| **runs == Runs::Yes).map(|(name, _)| name.clone());
    can_run(&record, &begun.collect())?;
    Ok(wishes::Change { record, slots })
}

/// What shall run of these services is asked for anew, as it is. What runs so already is not touched.
fn again(old: &AppRecord, services: &BTreeSet<ServiceName>, operation: OperationId) -> wishes::Change {
    let mut record = old.clone();
    let copies = services.iter().flat_map(|service| old.copies(service));
    let slots: BTreeSet<SlotId> = copies.filter(|id| old.slots[*id].goal == Goal::Running).cloned().collect();
    slots.iter().for_each(|id| wish_as_it_is(&mut record, id, Ask::Ensure, operation));
    wishes::Change { record, slots }
}

/// What is to run needs nothing that is to be stopped. What has run to its end need not run again.
fn can_run(record: &AppRecord, begun: &BTreeSet<ServiceName>) -> Result<(), ControlError> {
    let is_stopped = |name: &ServiceName| {
        let mut copies = record.copies(name).peekable();
        copies.peek().is_some() && copies.all(|id| record.slots[id].goal == Goal::Stopped)
    };
    for name in begun {
        let Some(service) = record.project.services.get(name) else { continue };
        let edges = service.depends_on.iter();
        let mut needs = edges.filter(|(_, edge)| edge.required && !edge.condition.is_end());
        if let Some((need, _)) = needs.find(|(need, _)| is_stopped(need)) {
            return Err(ControlError::Refused(format!(
                "`{name}` of `{}` shall run and needs `{need}`, which shall be stopped; have both run, or neither",
                record.name
            )));
        }
    }
    Ok(())
}

/// Which state of its wishes an app is in. What has gone does not count: nobody asked for it.
fn stamp(record: &AppRecord) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut say = |text: String| {
        hasher.update(text.as_bytes()).update(b"\0");
    };
    say(format!("{} {}", record.release, record.leaving));
    for (id, slot) in record.slots.iter().filter(|(_, slot)| slot.goal != Goal::Absent) {
        say(format!("{id} {:?} {}", slot.goal, slot.operation));
    }
    if let Some(declared) = &record.device {
        say(format!("{declared:?}"));
    }
    hasher.finalize().to_hex().to_string()
}

fn held(state: &State, name: &AppName) -> Option<Held> {
    let record = state.app(name)?;
    let app = state.shown(name)?;
    let standing = standing(&record, &app);
    Some(Held {
        standing,
        goals: record.slots.iter().map(|(id, slot)| (id.clone(), (slot.goal, slot.release))).collect(),
        declared: record.device.clone().unwrap_or_default(),
        is_leaving: record.leaving,
        stamp: stamp(&record),
        app,
    })
}

impl State {
    /// What is sought for an app was reached.
    pub(crate) fn is_reached(&self, name: &AppName) -> bool {
        let Some((record, app)) = self.app(name).zip(self.shown(name)) else { return true };
        standing(&record, &app) == Standing::Done
    }
}

fn standing(record: &AppRecord, app: &App) -> Standing {
    let standing = match record.leaving {
        true => Standing::Applying,
        false => Standing::Done,
    };
    let of_slots = app.slots.iter().map(|status| {
        let wish = record.slots.get(&status.slot);
        // What is told of an older wish says nothing of this one.
        if wish.is_none_or(|wish| (wish.goal, wish.operation) != (status.goal, status.operation)) {
            return Standing::Applying;
        }
        match upbeat_decide::outcome(status) {
            Some(Wish::Reached) => Standing::Done,
            Some(Wish::Failed { .. }) => Standing::Aborted,
            _ => Standing::Applying,
        }
    });
    // What is going and cannot is no longer on its way.
    of_slots.max().unwrap_or(standing)
}

/// An app is declared by somebody else: the document's words for its newest release are none of it any more.
pub(crate) fn declared_elsewhere(declared: Option<Declared>) -> Option<Declared> {
    declared.map(|declared| Declared { text: None, ..declared })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use upbeat_model::device::{self, Request, State as Document};
    use upbeat_model::project::container::ImageRef;
    use upbeat_model::{Service, SlotStatus};

    use super::*;

    fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
        text.parse().unwrap()
    }

    /// As control shows it, to the device document.
    fn document(record: Option<&AppRecord>) -> Document {
        let (state, _) = State::new(record.cloned(), [], OperationId(1));
        let apps = record.and_then(|record| Some((record.name.clone(), held(&state, &record.name)?)));
        let (keys, apps) = (BTreeMap::new(), apps.into_iter().collect());
        Document { name: "d".into(), uuid: "u".into(), keys, apps, queued: None }
    }

    fn asked(record: Option<&AppRecord>, app: Value) -> Vec<Change> {
        let request = Request::MergeApp(name("a0"), app);
        device::changes(&request, &document(record), &BTreeMap::new()).unwrap().apps
    }

    fn made(record: Option<&AppRecord>, app: Value) -> Result<AppRecord, String> {
        let changes = asked(record, app);
        let [change] = &changes[..] else { panic!("{changes:?}") };
        let operation =
            OperationId(record.map_or(1, |record| record.slots.len() as u64 + record.release + 1));
        seek(record, change, operation).map(|made| made.record).map_err(|error| error.to_string())
    }

    fn release(release: &str, services: Value) -> Value {
        json!({ "releases": { release: { "services": services } } })
    }

    fn shown(record: &AppRecord) -> Vec<String> {
        let slot = |(id, slot): (&SlotId, &crate::record::SlotRecord)| {
            format!("{} {:?} of {}", id.short(), slot.goal, slot.release)
        };
        record.slots.iter().map(slot).collect()
    }

    #[test]
    fn a_name_of_a_release_stands_for_each_content_it_had() {
        let first = made(None, release("r0", json!({ "main": { "image": "a" } }))).unwrap();
        assert_eq!(shown(&first), ["main-1 Running of 1"]);
        let again = asked(Some(&first), release("r0", json!({ "main": { "image": "a" } })));
        assert_eq!(again, [], "the same is no change");
        let other = made(Some(&first), release("r0", json!({ "main": { "image": "b" } }))).unwrap();
        assert_eq!((other.release, shown(&other)), (2, vec!["main-1 Running of 2".to_owned()]));
        let aliases = &other.device.as_ref().unwrap().aliases;
        assert_eq!(*aliases, [(1, name("r0")), (2, name("r0"))].into());
        let renamed =
            json!({ "releases": { "r0": null, "r1": { "services": { "main": { "image": "b" } } } } });
        let renamed = made(Some(&other), renamed).unwrap();
        assert_eq!(renamed.release, 2, "the same content is the same release, whatever it is called");
        assert_eq!(renamed.device.unwrap().aliases[&2], name("r1"));
    }

    #[test]
    fn what_is_stopped_is_there_and_what_is_started_keeps_its_spec() {
        let services = json!({ "main": { "image": "a", "status": "stopped" }, "side": { "image": "a" } });
        let first = made(None, release("r0", services)).unwrap();
        assert_eq!(shown(&first), ["main-1 Stopped of 1", "side-1 Running of 1"]);
        let status = |word: &str| release("r0", json!({ "main": { "status": word } }));
        let second = made(Some(&first), status("running")).unwrap();
        assert_eq!(shown(&second), ["main-1 Running of 1", "side-1 Running of 1"]);
        let side = SlotId { app: name("a0"), service: name("side"), index: 1 };
        assert_eq!(second.slots[&side], first.slots[&side], "who is not named is left alone");
        let third = made(Some(&second), status("stopped")).unwrap();
        assert_eq!(shown(&third), ["main-1 Stopped of 1", "side-1 Running of 1"]);
        assert_eq!(third.project, first.project);
    }

    #[test]
    fn what_is_tried_again_is_what_shall_run_and_as_it_is() {
        let services = json!({ "main": { "image": "a" }, "side": { "image": "a" }, "rest": { "image": "a", "status": "stopped" } });
        let first = made(None, release("r0", services)).unwrap();
        let again = |services: &[&str]| {
            let seek = Seek::Again(services.iter().map(|service| name(service)).collect());
            let change = Change { app: name("a0"), stamp: Some(stamp(&first)), seek };
            super::seek(Some(&first), &change, OperationId(9)).unwrap()
        };
        let made = again(&["main", "rest"]);
        let main = SlotId { app: name("a0"), service: name("main"), index: 1 };
        assert_eq!(made.slots, [main.clone()].into());
        let (before, after) = (&first.slots[&main], &made.record.slots[&main]);
        assert_eq!((after.generation, after.operation), (before.generation + 1, OperationId(9)));
        let mut same = made.record.clone();
        same.slots.insert(main, before.clone());
        assert_eq!(same, first, "nothing else is touched");
    }

    #[test]
    fn a_wish_that_contradicts_another_is_refused_by_both_names() {
        let services = json!({ "db": { "image": "a" }, "web": { "image": "a", "depends_on": ["db"] } });
        let mut changes = asked(None, release("r0", services));
        // Whoever worked it out judged it too, by what was wanted then.
        let Seek::Declared { stopped, .. } = &mut changes[0].seek else { panic!("{changes:?}") };
        stopped.push(name("db"));
        let refused = seek(None, &changes[0], OperationId(1)).map(drop).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "`web` of `a0` shall run and needs `db`, which shall be stopped; have both run, or neither"
        );
    }

    #[test]
    fn what_was_worked_out_from_another_state_is_refused() {
        let first = made(None, release("r0", json!({ "main": { "image": "a" } }))).unwrap();
        let changes = asked(Some(&first), release("r0", json!({ "main": { "image": "b" } })));
        let stop = upbeat_model::Action::Stop { services: vec![], kill: false };
        let meanwhile = wishes::act(&first, &stop, OperationId(9)).unwrap().record;
        let refused = |old| seek(old, &changes[0], OperationId(10)).map(drop).unwrap_err().to_string();
        assert_eq!(refused(Some(&meanwhile)), "app `a0` was changed meanwhile");
        assert_eq!(refused(None), "app `a0` was changed meanwhile");
        assert!(seek(Some(&first), &changes[0], OperationId(9)).is_ok());
    }

    #[test]
    fn who_declares_the_app_by_a_file_takes_the_documents_words_away() {
        let first = made(None, release("r0", json!({ "main": { "image": "a" } }))).unwrap();
        let same = wishes::up(Some(&first), first.project.clone(), &[], OperationId(5)).unwrap().record;
        assert_eq!(same.device, first.device, "the same file says the same");
        let mut project = first.project.clone();
        let image: ImageRef = "b".parse().unwrap();
        project.services.insert(name("main"), Service::of_image(image));
        let other = wishes::up(Some(&first), project, &[], OperationId(5)).unwrap().record;
        let declared = other.device.clone().unwrap();
        assert!(declared.text.is_none() && declared.aliases.len() == 1, "{declared:?}");
        let scale = upbeat_model::Action::Scale { services: [(name("main"), 3)].into() };
        let scaled = wishes::act(&first, &scale, OperationId(5)).unwrap().record;
        assert!(scaled.device.unwrap().text.is_none());
    }

    #[test]
    fn it_is_done_when_what_was_told_is_of_the_newest_wish() {
        let record =
            made(None, release("r0", json!({ "main": { "image": "a", "status": "stopped" } }))).unwrap();
        let standing = |change: &dyn Fn(&mut AppRecord, &mut SlotStatus)| {
            let mut record = record.clone();
            let (state, _) = State::new([record.clone()], [], OperationId(1));
            let mut status = state.shown(&record.name).unwrap().slots.remove(0);
            change(&mut record, &mut status);
            let (mut state, _) = State::new([record.clone()], [], OperationId(1));
            let told = upbeat_decide::Change {
                from: status.phase,
                status,
                mark: None,
                timeline: None,
                up_since: None,
                is_looked_at: true,
                is_seen: true,
            };
            state.take(told, &mut Default::default());
            held(&state, &record.name).unwrap().standing
        };
        use upbeat_model::Phase;
        assert_eq!(standing(&|_, _| {}), Standing::Done);
        let newer = |record: &mut AppRecord, _: &mut SlotStatus| {
            record.slots.values_mut().for_each(|slot| slot.operation = OperationId(7));
        };
        assert_eq!(standing(&newer), Standing::Applying);
        let failed = |record: &mut AppRecord, status: &mut SlotStatus| {
            record.slots.values_mut().for_each(|slot| slot.goal = Goal::Running);
            (status.goal, status.phase) = (Goal::Running, Phase::Failed);
        };
        assert_eq!(standing(&failed), Standing::Aborted);
        let leaving = |record: &mut AppRecord, _: &mut SlotStatus| {
            record.leaving = true;
            record.slots.clear();
        };
        assert_eq!(standing(&leaving), Standing::Applying);
    }
}
