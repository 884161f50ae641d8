//! Random fleets, options, failures, silences, requests and controllers, and an onlooker that knows nothing of the
//! machine but what it assigns.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop_assert_eq, prop_assume, prop_oneof, proptest,
};

use super::*;

#[derive(Clone, Debug)]
enum Move {
    /// All, or those whose number leaves this rest, are reported.
    Report(Option<usize>),
    /// Everybody does what they shall.
    Obey,
    /// Time goes by.
    Pass(u64),
    /// A device is not well, or is again.
    Error(usize, bool),
    /// It is not there any more, or is there again, with the version it was made with.
    Lose(usize),
    Come(usize),
    Ask(Request),
    /// These are asked from now on (a bit each), and answer as this number has it.
    Controllers(u8, u64),
    /// The daemon dies, and another reads what was kept.
    Restart,
}

#[derive(Clone, Debug)]
enum Request {
    Set(u8),
    Force(u8),
    Batch(u32),
    Pause,
    Resume,
    Abort,
    Retry,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let request = prop_oneof![
        4 => (1..5_u8).prop_map(Request::Set),
        1 => (1..5_u8).prop_map(Request::Force),
        1 => (0..=100_u32).prop_map(Request::Batch),
        1 => Just(Request::Pause),
        2 => Just(Request::Resume),
        1 => Just(Request::Abort),
        1 => Just(Request::Retry),
    ];
    let one = prop_oneof![
        8 => Just(Move::Report(None)),
        3 => (0..3_usize).prop_map(|rest| Move::Report(Some(rest))),
        6 => Just(Move::Obey),
        4 => (0..4_u64).prop_map(Move::Pass),
        1 => (0..12_usize, any::<bool>()).prop_map(|(n, is)| Move::Error(n, is)),
        1 => (0..12_usize).prop_map(Move::Lose),
        1 => (0..12_usize).prop_map(Move::Come),
        2 => request.prop_map(Move::Ask),
        2 => (any::<u8>(), any::<u64>()).prop_map(|(who, seed)| Move::Controllers(who, seed)),
        1 => Just(Move::Restart),
    ];
    proptest::collection::vec(one, 1..120)
}

/// What controllers say: some of those they are asked about, others that they are not, new ones, and sometimes that
/// they cannot say.
fn answers(seed: u64, unwell: Rc<RefCell<BTreeSet<TargetId>>>) -> Box<dyn FnMut(&Question) -> Answer> {
    let mut asked = 0_u64;
    let new = |n: u64| NewTarget { id: id(&format!("new{n}")), labels: BTreeMap::new() };
    Box::new(move |question| {
        asked += 1;
        let says = |what: &dyn std::fmt::Debug| {
            let mut hasher = DefaultHasher::new();
            (seed, asked, format!("{what:?}")).hash(&mut hasher);
            hasher.finish()
        };
        let cannot = |times: u64| says(&"cannot").is_multiple_of(times);
        let some = |all: &[TargetId]| {
            let some = all.iter().filter(|id| says(id) % 4 != 0).cloned();
            some.chain((0..2).map(|n| id(&format!("t{}", says(&n) % 12)))).collect::<Vec<_>>()
        };
        let no = || "no answer".to_owned();
        match question {
            Question::External(_) if cannot(9) => Answer::External(Err(no())),
            Question::External(_) => Answer::External(Ok(())),
            Question::Monitoring(all) => {
                let bad = all.iter().filter(|id| says(id).is_multiple_of(13)).cloned();
                unwell.replace(bad.collect());
                Answer::Monitoring(
                    unwell.borrow().iter().map(|id| (id.clone(), "unwell".to_owned())).collect(),
                )
            }
            Question::Removal(..) if cannot(9) => Answer::Removal(Err(no())),
            Question::Removal(old, _) => Answer::Removal(Ok(some(old))),
            Question::Selection(..) if cannot(9) => Answer::Selection(Err(no())),
            Question::Selection(all, _) => {
                let known = some(all).into_iter().map(|id| NewTarget { id, labels: BTreeMap::new() });
                let made = (0..says(&"new") % 4).map(|n| new(says(&n) % 40));
                // New ones come first, or would find no place.
                Answer::Selection(Ok(made.chain(known).collect()))
            }
            Question::Approval(_) if cannot(9) => Answer::Approval(Err(no())),
            Question::Approval(all) => Answer::Approval(Ok(some(all))),
        }
    })
}

fn version(n: u8) -> Version {
    v(&format!("v{n}"))
}

/// What only looks on: which versions were assigned to whom before and after a call.
fn assigned(rollout: &Rollout) -> BTreeMap<TargetId, Option<Version>> {
    rollout.targets.iter().map(|(id, target)| (id.clone(), target.assigned.version.clone())).collect()
}

#[derive(Default)]
struct Onlooker {
    /// Versions that some target was reported to be well on for as long as was asked.
    proven: BTreeSet<Version>,
    /// Of which rollout it has seen these last.
    number: u64,
    /// Made by whoever selects, since it began.
    made: BTreeSet<TargetId>,
    /// So many that were there before were removed.
    gone: usize,
    /// Who was said not to be well, for this decision.
    unwell: Rc<RefCell<BTreeSet<TargetId>>>,
    /// How often it saw what it watches over.
    seen: BTreeMap<&'static str, usize>,
}

impl Onlooker {
    fn saw(&mut self, what: &'static str, times: usize) {
        *self.seen.entry(what).or_default() += times;
    }

    /// Who was made and removed.
    fn count(&mut self, before: &Rollout, after: &Rollout) {
        if before.rolling.is_none() || before.number != self.number {
            (self.gone, self.number) = (0, before.number);
            self.made.clear();
        }
        let (was, is) = (assigned(before), assigned(after));
        let in_force = before.in_force().or(before.target.clone());
        let gone: Vec<&TargetId> = was.keys().filter(|id| !is.contains_key(*id)).collect();
        for id in &gone {
            assert_ne!(before.targets.get(id).unwrap().current.version, in_force, "{id} is no old one");
        }
        let slots = before.options.slots(was.len());
        assert!(gone.len() <= slots, "{} were removed at once, of {slots}", gone.len());
        self.gone += gone.iter().filter(|id| !self.made.contains(**id)).count();
        self.saw("removed", gone.len());
        let made: Vec<TargetId> = is.keys().filter(|id| !was.contains_key(*id)).cloned().collect();
        self.saw("made", made.len());
        let is_any = !made.is_empty();
        self.made.extend(made);
        self.made.retain(|id| is.contains_key(id));
        if let Some(Amount::Count(may)) = before.strategy.max_surge
            && is_any
        {
            let (made, gone) = (self.made.len(), self.gone);
            assert!(made <= may as usize + gone, "{made} were made, {may} may be, and {gone} are gone");
            self.saw("surge", 1);
        }
        if after.number != self.number {
            (self.gone, self.number) = (0, after.number);
            self.made.clear();
        }
    }

    fn see(&mut self, before: &Rollout, after: &Rollout, now: Mono) {
        self.count(before, after);
        let (was, is) = (assigned(before), assigned(after));
        let in_force = before.in_force().or(before.target.clone());
        // One that was made, and not approved, is as good as one that comes by itself.
        let is_moved = |(id, version): &(&TargetId, &Option<Version>)| match was.get(*id) {
            Some(was) => was != *version,
            None => **version == in_force,
        };
        let moved: Vec<&TargetId> = is.iter().filter(is_moved).map(|(id, _)| id).collect();
        let total = before.targets.len();
        let on_the_way = |rollout: &Rollout, version: &Option<Version>| {
            let late = |target: &Target| {
                now.since(target.assigned.since).0 / 1000 > rollout.options.duration_timeout.0 / 1000
            };
            let well = |target: &Target| {
                target.current.version == *version
                    && !target.current.note.is_error
                    && target.seen.since(target.current.note.at).0 / 1000
                        > rollout.options.success_timeout.0 / 1000
            };
            let has_failed = |id: &TargetId| self.unwell.borrow().contains(id);
            let is_one = |(id, target): &(&TargetId, &Target)| {
                target.assigned.version == *version && !well(target) && !late(target) && !has_failed(id)
            };
            rollout.targets.iter().filter(is_one).count()
        };
        if let Some(first) = moved.first() {
            let to = &is[*first];
            assert!(moved.iter().all(|id| is[*id] == *to), "one version at a time: {moved:?}");
            let slots = before.options.slots(total);
            let there = on_the_way(before, to);
            assert!(
                there + moved.len() <= slots.max(there),
                "{there} were on their way, {} more, of {slots}",
                moved.len()
            );
            assert!(to.is_some(), "nobody is moved to nothing");
            // Where a version is bad, all that are moved go to one that was good.
            let is_bad = before.rolling.as_ref().is_some_and(|rolling| rolling.is_bad);
            if is_bad {
                assert_eq!(*to, before.good, "back to what was good");
                assert!(self.proven.contains(to.as_ref().unwrap()), "{to:?} was never shown to be good");
            }
            assert!(before.pause.is_none() || is_bad || before.good == *to, "paused");
        }
        if after.good != before.good {
            let good = after.good.clone().unwrap();
            let well = on_it(before, &good, now);
            assert!(
                well >= before.options.required(total) && total > 0,
                "{well} of {total} are well on {good}"
            );
            self.proven.insert(good);
        }
    }
}

/// How many are well on it, counted anew.
fn on_it(rollout: &Rollout, version: &Version, _now: Mono) -> usize {
    let is_well = |target: &&Target| {
        target.assigned.version.as_ref() == Some(version)
            && target.current.version.as_ref() == Some(version)
            && !target.current.note.is_error
            && target.seen.since(target.current.note.at) > rollout.options.success_timeout
    };
    rollout.targets.values().filter(is_well).count()
}

fn play(story: &mut Story, onlooker: &mut Onlooker, step: Move) {
    let name = |n: usize| id(&format!("t{n}"));
    match step {
        Move::Report(rest) => {
            let is_one = |n: &usize| rest.is_none_or(|rest| n % 3 == rest);
            let some: Vec<TargetId> =
                (0..12).filter(is_one).map(name).filter(|id| story.devices.contains_key(id)).collect();
            report(story, onlooker, &some);
        }
        Move::Obey => {
            for (id, device) in &mut story.devices {
                if let Some(target) = story.rollout.targets.get(id)
                    && target.assigned.version.is_some()
                {
                    device.version = target.assigned.version.clone();
                }
            }
            // Who was made is there.
            let targets = story.rollout.targets.iter();
            let made = targets.filter(|(id, _)| id.name.starts_with("new"));
            for (id, target) in made.filter(|(_, target)| target.assigned.version.is_some()) {
                let is = Device { version: target.assigned.version.clone(), ..device("v1") };
                story.devices.entry(id.clone()).or_insert(is);
            }
        }
        Move::Pass(seconds) => story.pass(seconds),
        Move::Error(n, is) => {
            if let Some(device) = story.devices.get_mut(&name(n)) {
                device.is_error = is;
            }
        }
        Move::Lose(n) => drop(story.devices.remove(&name(n))),
        Move::Come(n) => drop(story.devices.entry(name(n)).or_insert_with(|| device("v1"))),
        Move::Controllers(who, seed) => {
            let is = |bit: u8| who & 1 << bit != 0;
            story.asks = Asks {
                external: is(0),
                monitoring: is(1) && is(5),
                removal: is(2),
                selection: is(3),
                approval: is(4),
            };
            story.answers = answers(seed, onlooker.unwell.clone());
        }
        Move::Restart => story.restart(),
        Move::Ask(request) => {
            let by = "ann".to_owned();
            let change = match request {
                Request::Set(n) => Change::SetVersion(version(n)),
                Request::Force(n) => Change::ForceVersion(version(n)),
                Request::Batch(percent) => Change::SetOptions(Some(options(percent, 80, 1, 3))),
                Request::Pause => Change::Pause { by },
                Request::Resume => Change::Resume,
                Request::Abort => Change::Abort { by, why: String::new() },
                Request::Retry => Change::Retry,
            };
            let before = story.rollout.clone();
            if story.rollout.change(change, story.now).is_err() {
                assert_eq!(story.rollout, before, "what is refused changes nothing");
            }
        }
    }
}

fn report(story: &mut Story, onlooker: &mut Onlooker, some: &[TargetId]) {
    let reports: Vec<Report> = some.iter().map(|id| story.devices[id].report(id, "")).collect();
    let mut other = story.rollout.clone();
    other.report(reports.iter().rev().cloned(), story.now);
    story.rollout.report(reports, story.now);
    assert_eq!(other, story.rollout, "the order of reports changes nothing");
    let before = story.rollout.clone();
    onlooker.unwell.borrow_mut().clear();
    match story.try_decide() {
        Ok(()) => onlooker.see(&before, &story.rollout, story.now),
        Err(nothing) => {
            assert!(story.asks != Asks::default() || nothing == Nothing::NoVersion, "{nothing:?}");
            assert_eq!(story.rollout, before);
        }
    }
    story.devices.retain(|id, _| {
        !before.targets.keys().any(|was| was == id) || story.rollout.targets.get(id).is_some()
    });
}

fn played(moves: Vec<Move>, count: usize, surge: Option<u32>) -> (Story, Onlooker) {
    let mut story = Story::new();
    story.devices.extend((0..count).map(|n| (id(&format!("t{n}")), device("v1"))));
    story.options(options(30, 80, 1, 3));
    let max_surge = surge.map(Amount::Count);
    let strategy = upbeat_model::rollout::Strategy { max_surge, ..Default::default() };
    story.ask(Change::SetStrategy(Some(Box::new(strategy))));
    let mut onlooker = Onlooker::default();
    for step in moves {
        play(&mut story, &mut onlooker, step);
    }
    (story, onlooker)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_no_promise_is_broken(
        moves in moves(), count in 1..12_usize, surge in proptest::option::of(0..4_u32)
    ) {
        played(moves, count, surge);
    }

    /// From wherever it was: a fleet that is all there, is well, and asked for nothing more, comes to run one version.
    #[test]
    fn a_healthy_fleet_always_finishes(
        moves in moves(), count in 1..12_usize, surge in proptest::option::of(0..4_u32)
    ) {
        let (mut story, mut onlooker) = played(moves, count, surge);
        // Nobody is asked who could say no for good.
        story.asks = Asks::default();
        prop_assume!(!story.devices.is_empty());
        // Whoever is gone is forgotten, or would be found to have failed.
        story.pass(901);
        let all: Vec<TargetId> = story.devices.keys().cloned().collect();
        report(&mut story, &mut onlooker, &all);
        story.ask(Change::ForceVersion(v("last")));
        let _ = story.rollout.change(Change::Resume, story.now);
        story.devices.values_mut().for_each(|device| device.is_error = false);
        for _ in 0..200 {
            let all: Vec<TargetId> = story.devices.keys().cloned().collect();
            report(&mut story, &mut onlooker, &all);
            play(&mut story, &mut onlooker, Move::Obey);
            story.pass(1);
        }
        let expected = count_of(&[("last", story.devices.len())]);
        prop_assert_eq!(story.assigned(), expected, "{}", story.why());
        prop_assert_eq!(story.rollout.course(), Course::Steady(v("last")));
    }
}

/// A check that never has anything to look at shows nothing.
#[test]
fn the_stories_come_to_where_controllers_could_break_promises() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for _ in 0..400 {
        let story = (moves(), 1..12_usize, proptest::option::of(0..4_u32));
        let (moves, count, surge) =
            proptest::strategy::ValueTree::current(&story.new_tree(&mut runner).unwrap());
        for (what, times) in played(moves, count, surge).1.seen {
            *seen.entry(what).or_default() += times;
        }
    }
    for what in ["made", "removed", "surge"] {
        assert!(seen.get(what).is_some_and(|times| *times >= 10), "{what}: {seen:?}");
    }
}
