//! Random fleets, options, failures, silences and requests, and an onlooker that knows nothing of the machine
//! but what it assigns.

use std::collections::BTreeSet;

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
        1 => Just(Move::Restart),
    ];
    proptest::collection::vec(one, 1..120)
}

fn version(n: u8) -> Version {
    v(&format!("v{n}"))
}

/// What only looks on: which versions were assigned to whom before and after a call.
fn assigned(rollout: &Rollout) -> BTreeMap<TargetId, Option<Version>> {
    rollout.targets.iter().map(|(id, target)| (id.clone(), target.assigned.version.clone())).collect()
}

struct Onlooker {
    /// Versions that some target was reported to be well on for as long as was asked.
    proven: BTreeSet<Version>,
}

impl Onlooker {
    fn see(&mut self, before: &Rollout, after: &Rollout, now: Mono) {
        let (was, is) = (assigned(before), assigned(after));
        let moved: Vec<&TargetId> = is
            .iter()
            .filter(|(id, version)| was.get(*id).is_some_and(|was| was != *version))
            .map(|(id, _)| id)
            .collect();
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
            let is_one =
                |target: &&Target| target.assigned.version == *version && !well(target) && !late(target);
            rollout.targets.values().filter(is_one).count()
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
        }
        Move::Pass(seconds) => story.pass(seconds),
        Move::Error(n, is) => {
            if let Some(device) = story.devices.get_mut(&name(n)) {
                device.is_error = is;
            }
        }
        Move::Lose(n) => drop(story.devices.remove(&name(n))),
        Move::Come(n) => drop(story.devices.entry(name(n)).or_insert_with(|| device("v1"))),
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
    match story.try_decide() {
        Ok(()) => onlooker.see(&before, &story.rollout, story.now),
        Err(nothing) => assert_eq!((nothing, &story.rollout), (Nothing::NoVersion, &before)),
    }
}

fn played(moves: Vec<Move>, count: usize) -> (Story, Onlooker) {
    let mut story = Story::new();
    story.devices.extend((0..count).map(|n| (id(&format!("t{n}")), device("v1"))));
    story.options(options(30, 80, 1, 3));
    let mut onlooker = Onlooker { proven: BTreeSet::new() };
    for step in moves {
        play(&mut story, &mut onlooker, step);
    }
    (story, onlooker)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_no_promise_is_broken(moves in moves(), count in 1..12_usize) {
        played(moves, count);
    }

    /// From wherever it was: a fleet that is all there, is well, and asked for nothing more, comes to run one version.
    #[test]
    fn a_healthy_fleet_always_finishes(moves in moves(), count in 1..12_usize) {
        let (mut story, mut onlooker) = played(moves, count);
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
