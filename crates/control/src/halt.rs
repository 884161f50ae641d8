//! Calling off what is sought for an app: what wishes become when nothing further is to be begun. Pure.
//!
//! Services are held to their wishes all the time, so calling off is a wish, too: that what is there stays. Of each
//! service that means:
//! * what is as it is wanted, or has begun to become so, goes on: what is half done settles;
//! * what still stands as the release before has it is wanted so again;
//! * what was not begun rests.
//!
//! Where nothing of a new release has been begun, all of the release before is wanted again. Where something has, it is
//! a release of both.

use std::collections::{BTreeMap, BTreeSet};

use upbeat_decide::outcome;
use upbeat_model::target::Goal;
use upbeat_model::{OperationId, Phase, Reason, Service, ServiceName, SlotId, SlotStatus, Wish};

use crate::error::ControlError;
use crate::record::AppRecord;
use crate::wishes::{self, Change};

/// The copies of an app.
pub(crate) type Seen = BTreeMap<SlotId, Copy>;

/// A copy as it was seen last.
pub(crate) struct Copy {
    pub(crate) status: SlotStatus,
    /// Of what it was started by.
    pub(crate) digest: Option<String>,
    /// It was where it is wanted: should it not be there now, that is its restart policy's matter.
    pub(crate) was_reached: bool,
}

/// What becomes of a service.
enum Way<'a> {
    /// It is as it is wanted, or becomes so.
    GoesOn,
    /// It is as the release before had it, and stays so.
    Stays(&'a Service),
    /// It is there in name.
    Rests,
    /// It was dropped, and is on its way.
    Goes,
}

/// What an app was before what is sought now; nothing, where that is of no use any more. `is_reached`: what was sought
/// when this came was.
pub(crate) fn remembered(
    old: &AppRecord,
    is_reached: impl FnOnce() -> bool,
    new: &AppRecord,
) -> Option<Box<AppRecord>> {
    if new.leaving || old.leaving {
        return None;
    }
    let known = old.before.as_ref().filter(|_| !is_reached());
    if new.release != old.release {
        // What runs may still be of long ago, where much has come since that was never reached.
        return Some(known.cloned().unwrap_or_else(|| Box::new(AppRecord { before: None, ..old.clone() })));
    }
    // Somebody has asked for something else since: going back would undo that.
    let goals = |record: &AppRecord| record.slots.values().map(|slot| slot.goal).collect::<Vec<_>>();
    known.filter(|_| goals(old) == goals(new)).cloned()
}

/// What is to be kept when all that can be called off is; nothing, where that is nothing.
pub(crate) fn halt(
    now: &AppRecord,
    seen: &Seen,
    operation: OperationId,
) -> Result<Option<Change>, ControlError> {
    if now.leaving {
        return Ok(None);
    }
    let before = now.before.as_deref();
    let declared = before.into_iter().chain([now]).flat_map(|record| record.project.services.keys());
    let all: BTreeSet<&ServiceName> = declared.collect();
    let ways: BTreeMap<&ServiceName, Way<'_>> =
        all.into_iter().map(|service| (service, way(now, service, seen))).collect();
    if ways.values().all(|way| matches!(way, Way::GoesOn | Way::Goes)) {
        return Ok(None);
    }
    let has_begun = ways.iter().any(|(service, way)| match way {
        Way::GoesOn => spec(before, service) != spec(Some(now), service),
        Way::Goes => true,
        Way::Stays(_) | Way::Rests => false,
    });
    match before.filter(|_| !has_begun) {
        Some(before) => restored(now, before, &ways, operation),
        None => mixed(now, &ways, operation),
    }
    // Nobody insists on what goes on.
    .map(|change| Some(change.heeding_locks()))
}

/// As a record has a service.
fn spec<'a>(record: Option<&'a AppRecord>, service: &ServiceName) -> Option<&'a Service> {
    let record = record?;
    let older = record.copies(service).find_map(|id| record.slots[id].spec.as_deref());
    older.or_else(|| record.project.services.get(service))
}

fn shall_run(record: Option<&AppRecord>, service: &ServiceName) -> bool {
    record.is_some_and(|record| {
        let mut copies = record.copies(service);
        copies.any(|id| record.slots[id].goal == Goal::Running)
    })
}

fn way<'a>(now: &'a AppRecord, service: &ServiceName, seen: &Seen) -> Way<'a> {
    let before = now.before.as_deref();
    let copies = || seen.values().filter(|copy| copy.status.slot.service == *service);
    let stands = |status: &SlotStatus| match status.phase {
        Phase::Completed => true,
        Phase::Stopping => false,
        phase => phase.is_alive(),
    };
    let standing = || copies().filter(|copy| stands(&copy.status));
    let (old, new) = (spec(before, service), spec(Some(now), service));
    let runs = shall_run(Some(now), service);
    let is_dropped = !now.project.services.contains_key(service);
    if let Some(old) = old.filter(|old| new != Some(*old))
        && (runs || is_dropped)
        && standing().next().is_some()
        && standing().all(|copy| copy.digest == digest_of(old, &copy.status.slot))
    {
        return Way::Stays(old);
    }
    if is_dropped {
        return Way::Goes;
    }
    if !runs {
        return Way::Rests;
    }
    if standing().next().is_some() || copies().any(|copy| copy.was_reached) {
        return Way::GoesOn;
    }
    let is_begun = copies().all(|Copy { status, .. }| {
        !matches!(outcome(status), Some(Wish::Failed { .. })) && !status.reasons.iter().any(is_of_making)
    });
    // The old one has stopped for the new one.
    if is_begun && shall_run(before, service) { Way::GoesOn } else { Way::Rests }
}

fn digest_of(service: &Service, id: &SlotId) -> Option<String> {
    service.for_copy(id.service.as_str(), id.index).ok().map(|copy| copy.digest())
}

fn is_of_making(reason: &Reason) -> bool {
    matches!(reason, Reason::Prepares { .. } | Reason::CannotPrepare { .. } | Reason::NothingIsTouched { .. })
}

/// All of the release before is wanted again.
fn restored(
    now: &AppRecord,
    before: &AppRecord,
    ways: &BTreeMap<&ServiceName, Way<'_>>,
    operation: OperationId,
) -> Result<Change, ControlError> {
    let mut project = before.project.clone();
    for (name, service) in &mut project.services {
        // One that ran by an older spec than was declared goes on by that.
        if let Some(Way::Stays(old)) = ways.get(name) {
            *service = (*old).clone();
        }
    }
    let is_same = project.services == before.project.services;
    let mut change = wishes::up(Some(now), project, &[], operation)?;
    let record = &mut change.record;
    if let Some(was) = before.device.as_ref().filter(|_| is_same) {
        let mut declared = record.device.take().unwrap_or_default();
        declared
            .aliases
            .extend(was.aliases.get(&before.release).map(|alias| (record.release, alias.clone())));
        while declared.aliases.len() > upbeat_model::device::ALIASES_MAX {
            declared.aliases.pop_first();
        }
        declared.name.clone_from(&was.name);
        declared.text.clone_from(&was.text);
        record.device = Some(declared);
    }
    let rest = ways.iter().filter(|(_, way)| matches!(way, Way::Rests)).map(|(name, _)| (*name).clone());
    wishes::rest(&mut change, &rest.collect(), operation);
    Ok(change)
}

/// What has begun stays, and so does what has not; what has neither rests.
fn mixed(
    now: &AppRecord,
    ways: &BTreeMap<&ServiceName, Way<'_>>,
    operation: OperationId,
) -> Result<Change, ControlError> {
    let mut project = now.project.clone();
    let mut rest = BTreeSet::new();
    for (name, way) in ways {
        match way {
            Way::Stays(old) => drop(project.services.insert((*name).clone(), (*old).clone())),
            Way::Rests => drop(rest.insert((*name).clone())),
            Way::GoesOn | Way::Goes => {}
        }
    }
    // What goes on may need what was not begun: that goes on, too.
    let mut going: Vec<&ServiceName> =
        ways.iter().filter(|(_, way)| matches!(way, Way::GoesOn)).map(|(name, _)| *name).collect();
    while let Some(name) = going.pop() {
        let needs = project.services.get(name).into_iter().flat_map(|service| &service.depends_on);
        let needs = needs.filter(|(_, edge)| edge.required).map(|(need, _)| need);
        for need in needs {
            if shall_run(Some(now), need) && rest.remove(need) {
                going.extend(ways.get_key_value(need).map(|(name, _)| *name));
            }
        }
    }
    let mut change = wishes::up(Some(now), project, &[], operation)?;
    wishes::rest(&mut change, &rest, operation);
    Ok(change)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use upbeat_model::file::{self, Context, Resolver, Source, Unread};
    use upbeat_model::operation::Action;
    use upbeat_model::{Attempt, Project};

    use super::*;

    fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
        text.parse().unwrap()
    }

    fn slot(service: &str) -> SlotId {
        SlotId { app: name("a"), service: name(service), index: 1 }
    }

    /// Services and the word that makes them what they are.
    fn project(services: &[(&str, &str)]) -> Project {
        let each = services.iter().map(|(service, word)| (service.to_string(), json!({ "command": [word] })));
        read(&serde_json::Value::Object(each.collect()))
    }

    fn read(services: &serde_json::Value) -> Project {
        let text = json!({ "name": "a", "services": services }).to_string();
        let source = Source { name: "f", text: &text };
        file::parse(&[source], &Context::new("/", "a", &NoFiles)).unwrap().project
    }

    struct NoFiles;

    impl Resolver for NoFiles {
        fn read(&self, _: &str) -> Result<String, Unread> {
            Err(Unread::Missing)
        }

        fn variable(&self, _: &str) -> Option<String> {
            None
        }
    }

    /// An app that was asked for with these words, one after the other, and of which each was reached before the next.
    fn sought(all: &[&[(&str, &str)]]) -> AppRecord {
        let mut record: Option<AppRecord> = None;
        for (n, services) in all.iter().enumerate() {
            let mut next = wishes::up(record.as_ref(), project(services), &[], OperationId(n as u64 + 1))
                .unwrap()
                .record;
            next.before = record.and_then(|old| remembered(&old, || true, &next));
            // What was dropped before is gone by now.
            if let Some(before) = &next.before {
                next.slots.retain(|id, _| {
                    before.slots.contains_key(id) || next.project.services.contains_key(&id.service)
                });
            }
            record = Some(next);
        }
        record.unwrap()
    }

    /// A copy in this phase, started by this word; or not started.
    fn seen(all: &[(&str, Phase, &str)]) -> Seen {
        let copy = |(service, phase, word): &(&str, Phase, &str)| {
            let spec = (!word.is_empty()).then(|| project(&[(service, word)]).services[*service].clone());
            let status = SlotStatus {
                slot: slot(service),
                goal: Goal::Running,
                phase: *phase,
                attempt: Attempt(1),
                pid: None,
                container: None,
                exit: None,
                restarts: 0,
                since: upbeat_model::Wall(0),
                started_at: None,
                log_start: None,
                health: None,
                probes: BTreeMap::new(),
                says: None,
                reasons: Vec::new(),
                operation: OperationId(1),
                release: 1,
            };
            let digest = spec.and_then(|spec| digest_of(&spec, &slot(service)));
            (slot(service), Copy { status, digest, was_reached: false })
        };
        all.iter().map(copy).collect()
    }

    fn shown(now: &AppRecord, seen: &Seen) -> Vec<String> {
        let Some(change) = halt(now, seen, OperationId(9)).unwrap() else {
            return vec!["goes on".to_owned()];
        };
        let record = &change.record;
        let of = |(id, slot): (&SlotId, &crate::record::SlotRecord)| {
            let spec = slot.spec.as_deref().or_else(|| record.project.services.get(&id.service));
            let word = spec.map(|spec| spec.command.join(" ")).unwrap_or_default();
            format!("{} {:?} {word}", id.service, slot.goal)
        };
        record.slots.iter().map(of).collect()
    }

    #[test]
    fn an_update_that_waits_for_locks_is_forced_by_none_but_who_names_it() {
        let all: [&[(&str, &str)]; 2] = [&[("db", "old"), ("web", "w")], &[("db", "new"), ("web", "w")]];
        let mut waiting = sought(&all);
        waiting.slots.values_mut().for_each(|slot| slot.heeds_locks = true);
        let db = [name::<ServiceName>("db")];
        let heeds = |record: &AppRecord| record.slots[&slot("db")].heeds_locks;
        let after = |action: Action| wishes::act(&waiting, &action, OperationId(9)).unwrap().record;
        assert!(heeds(&after(Action::Start { services: db.to_vec() })));
        assert!(heeds(&after(Action::Start { services: Vec::new() })));
        assert!(!heeds(&after(Action::Restart { services: db.to_vec() })));
        let stopped = after(Action::Stop { services: vec![name("web")], kill: false });
        assert!(heeds(&stopped), "who stops another says nothing of it");
        // What was before is not known any more: it goes on, and still nobody insists.
        let there = [("db", Phase::Running, "old"), ("web", Phase::Stopped, "")];
        let now = AppRecord { before: None, ..stopped };
        let change = halt(&now, &seen(&there), OperationId(10)).unwrap();
        assert!(change.is_none_or(|change| heeds(&change.record)));
        let called_off = halt(
            &waiting,
            &seen(&[("db", Phase::Running, "old"), ("web", Phase::Running, "w")]),
            OperationId(10),
        );
        assert!(heeds(&called_off.unwrap().unwrap().record));
    }

    #[test]
    fn what_was_not_begun_is_as_it_was_before_and_what_comes_new_goes() {
        let now = sought(&[
            &[("main", "old"), ("same", "s"), ("out", "o")],
            &[("main", "new"), ("same", "s"), ("in", "i")],
        ]);
        let copies = seen(&[
            ("main", Phase::Running, "old"),
            ("same", Phase::Healthy, "s"),
            ("out", Phase::Running, "o"),
            ("in", Phase::Waiting, ""),
        ]);
        let wishes = ["in Absent i", "main Running old", "out Running o", "same Running s"];
        let halted = halt(&now, &copies, OperationId(9)).unwrap().unwrap().record;
        assert_eq!(halted.project, now.before.as_ref().unwrap().project);
        assert_eq!(halted.release, 3, "a number is never of two contents");
        let goals: Vec<_> =
            halted.slots.iter().map(|(id, slot)| format!("{} {:?}", id.service, slot.goal)).collect();
        assert_eq!(goals, wishes.map(|wish| wish.rsplit_once(' ').unwrap().0.to_owned()));
        assert_eq!(shown(&now, &copies)[1..], wishes[1..]);
    }

    #[test]
    fn what_is_half_done_goes_on_and_the_rest_stays_or_rests() {
        let now = sought(&[
            &[("done", "old"), ("half", "old"), ("main", "old"), ("out", "o")],
            &[("done", "new"), ("half", "new"), ("main", "new"), ("in", "i")],
        ]);
        let copies = seen(&[
            ("done", Phase::Running, "new"),
            ("half", Phase::Stopping, "old"),
            ("main", Phase::Running, "old"),
            ("in", Phase::Waiting, ""),
            ("out", Phase::Running, "o"),
        ]);
        let wishes =
            ["done Running new", "half Running new", "in Stopped i", "main Running old", "out Running o"];
        assert_eq!(shown(&now, &copies), wishes);
        // All of it has begun: there is nothing to call off.
        let copies = seen(&[
            ("done", Phase::Running, "new"),
            ("half", Phase::Starting, "new"),
            ("main", Phase::Stopping, "old"),
            ("in", Phase::Starting, "i"),
            ("out", Phase::Stopping, "o"),
        ]);
        assert_eq!(shown(&now, &copies), ["goes on"]);
    }

    #[test]
    fn of_an_app_that_comes_new_what_stands_stays() {
        let now = sought(&[&[("main", "m"), ("side", "s")]]);
        let copies = seen(&[("main", Phase::Starting, "m"), ("side", Phase::Waiting, "")]);
        assert_eq!(shown(&now, &copies), ["main Running m", "side Stopped s"]);
        let copies = seen(&[("main", Phase::Waiting, ""), ("side", Phase::Failed, "")]);
        assert_eq!(shown(&now, &copies), ["main Stopped m", "side Stopped s"], "nothing of it was begun");
        // One that was well, and is between two attempts now, is not what is sought.
        let mut copies = seen(&[("main", Phase::Waiting, ""), ("side", Phase::CrashLooping, "s")]);
        copies.get_mut(&slot("side")).unwrap().was_reached = true;
        assert_eq!(shown(&now, &copies), ["main Stopped m", "side Running s"]);
    }

    #[test]
    fn what_goes_on_takes_along_what_it_needs() {
        let mut now = sought(&[&[("db", "d"), ("rest", "r"), ("web", "w")]]);
        let web = json!({ "command": ["w"], "depends_on": ["db"] });
        now.project = read(&json!({ "db": { "command": ["d"] }, "rest": { "command": ["r"] }, "web": web }));
        let copies =
            seen(&[("db", Phase::Waiting, ""), ("rest", Phase::Waiting, ""), ("web", Phase::Starting, "w")]);
        assert_eq!(shown(&now, &copies), ["db Running d", "rest Stopped r", "web Running w"]);
    }

    #[test]
    fn what_it_was_is_remembered_until_it_is_of_no_use() {
        let first = sought(&[&[("main", "1")]]);
        let up = |old: &AppRecord, word: &str, is_reached: bool| {
            let mut next =
                wishes::up(Some(old), project(&[("main", word)]), &[], OperationId(5)).unwrap().record;
            next.before = remembered(old, || is_reached, &next);
            next
        };
        let word = |record: &AppRecord| {
            record.before.as_ref().map(|before| before.project.services["main"].command.join(""))
        };
        let second = up(&first, "2", true);
        assert_eq!(word(&second), Some("1".to_owned()));
        assert_eq!(word(&up(&second, "3", false)), Some("1".to_owned()), "the second was never reached");
        assert_eq!(word(&up(&second, "3", true)), Some("2".to_owned()));
        assert_eq!(word(&up(&second, "2", false)), Some("1".to_owned()), "said again");
        assert_eq!(word(&up(&second, "2", true)), None);
        let stop = upbeat_model::Action::Stop { services: vec![], kill: false };
        let stopped = wishes::act(&second, &stop, OperationId(6)).unwrap().record;
        assert!(remembered(&second, || false, &stopped).is_none(), "going back would start it");
        let gone = wishes::down(&second, false, OperationId(6)).record;
        assert!(remembered(&second, || false, &gone).is_none());
    }
}
