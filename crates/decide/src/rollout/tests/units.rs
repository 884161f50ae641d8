//! Units of real rollouts, in virtual time, with a daemon that may die after each thing it does; and somebody who
//! looks at the targets alone and says whether the order was kept.

use proptest::prelude::{Just, ProptestConfig, Strategy as _, any, prop_oneof, proptest};
use upbeat_model::rollout::{MemberWord, UnitMember, UnitWord};

use super::super::unit::{NextUnit, Seen, Unit, UnitChange, UnitRefused};
use super::*;

/// Who needs whom, by their numbers; each comes after all it needs.
type Needs = &'static [&'static [usize]];
const CHAIN: Needs = &[&[], &[0], &[1]];
const DIAMOND: Needs = &[&[], &[0], &[0], &[1, 2]];
const APART: Needs = &[&[], &[], &[0], &[1]];

/// What becomes of a member on `v2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Well,
    Bad,
    /// Its targets never come to run it.
    Stuck,
}

/// The daemon has died.
struct Died;

struct House {
    needs: Needs,
    members: Vec<Story>,
    fates: Vec<Fate>,
    /// As it is kept.
    unit: Unit,
    /// So many things are done before the daemon dies.
    left: Option<usize>,
    /// Who has had a target on `v2`; who was good on it.
    moved: Vec<bool>,
    was_good: Vec<bool>,
    /// Who had no version.
    fresh: Vec<bool>,
    /// Whom somebody gave another version, past the unit.
    changed: Option<usize>,
}

fn name(n: usize) -> String {
    char::from(b'a' + u8::try_from(n).unwrap()).to_string()
}

fn asked(needs: Needs) -> Vec<UnitMember> {
    let one = |(n, needs): (usize, &&[usize])| UnitMember {
        entity: name(n),
        version: v("v2"),
        needs: needs.iter().map(|n| name(*n)).collect(),
    };
    needs.iter().enumerate().map(one).collect()
}

fn member(is_fresh: bool) -> Story {
    let mut story = Story::new();
    let version = if is_fresh { "v0" } else { "v1" };
    story.devices.extend((0..4).map(|n| (id(&format!("t{n}")), device(version))));
    if !is_fresh {
        story.options(options(100, 0, 0, 0));
        story.ask(Change::SetVersion(v("v1")));
        story.call();
        assert_eq!(story.rollout.good, Some(v("v1")));
    }
    story.options(options(50, 100, 0, 5));
    story
}

fn begin(members: &[Story], needs: Needs) -> Result<Unit, UnitRefused> {
    let seen = |asked: &UnitMember| {
        let story = &members[usize::from(asked.entity.as_bytes()[0] - b'a')];
        let bad = story.rollout.is_known_bad(&asked.version, story.now).map(|bad| bad.reason.clone());
        (Seen::of(&story.rollout, story.now), bad)
    };
    let id = upbeat_model::rollout::EntityId::new("prod", "release").unwrap();
    Unit::begin(id, asked(needs), "ann".into(), None, seen, Mono(0))
}

impl House {
    fn new(needs: Needs, fates: &[Fate], fresh: &[bool]) -> Self {
        let members: Vec<Story> = (0..needs.len()).map(|n| member(fresh[n])).collect();
        let unit = begin(&members, needs).unwrap();
        let count = needs.len();
        Self {
            needs,
            members,
            unit,
            fates: fates[..count].to_vec(),
            left: None,
            moved: vec![false; count],
            was_good: vec![false; count],
            fresh: fresh[..count].to_vec(),
            changed: None,
        }
    }

    fn well(needs: Needs) -> Self {
        Self::new(needs, &[Fate::Well; 4], &[false; 4])
    }

    fn done(&mut self) -> Result<(), Died> {
        match &mut self.left {
            Some(0) => Err(Died),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn seen(&self) -> Vec<Seen> {
        self.members.iter().map(|story| Seen::of(&story.rollout, story.now)).collect()
    }

    /// As control does it: what is decided is kept, and then asked, until there is nothing to do.
    fn drive(&mut self) -> Result<(), Died> {
        for _ in 0..50 {
            let NextUnit { unit, asks } = self.unit.decide(&self.seen(), self.members[0].now);
            if unit == self.unit && asks.is_empty() {
                return Ok(());
            }
            if unit != self.unit {
                self.done()?;
                self.unit = unit;
            }
            for ask in asks {
                self.done()?;
                let story = &mut self.members[ask.member];
                story.rollout.change(ask.change, story.now).unwrap();
                self.check();
            }
        }
        panic!("it asks forever: {:?}", self.unit);
    }

    /// Another daemon reads what was kept.
    fn restart(&mut self) {
        self.left = None;
        self.unit = serde_json::from_str(&serde_json::to_string(&self.unit).unwrap()).unwrap();
        self.members.iter_mut().for_each(Story::restart);
    }

    fn drive_and_rise(&mut self) {
        if self.drive().is_err() {
            self.restart();
        }
    }

    /// Each member's controller does what it is told, and reports; a second goes by.
    fn turn(&mut self) {
        for n in 0..self.members.len() {
            let story = &mut self.members[n];
            if story.rollout.target.is_none() {
                // Nothing can be decided without a version.
                continue;
            }
            match self.fates[n] {
                // Nobody has reported them yet.
                _ if story.rollout.targets.is_empty() => {}
                Fate::Stuck => {
                    let before = story.devices.clone();
                    story.obey();
                    for (id, device) in &mut story.devices {
                        if device.version == Some(v("v2")) {
                            device.version = before[id].version.clone();
                        }
                    }
                }
                Fate::Well | Fate::Bad => story.obey(),
            }
            let is_bad = self.fates[n] == Fate::Bad;
            for device in story.devices.values_mut() {
                device.is_error = is_bad && device.version == Some(v("v2"));
            }
            story.call();
            self.check();
            self.drive_and_rise();
        }
        self.members.iter_mut().for_each(|story| story.pass(1));
    }

    fn run(&mut self) {
        for _ in 0..200 {
            if self.unit.course.is_over() {
                return;
            }
            self.turn();
        }
        panic!("it does not end: {:#?}", self.unit);
    }

    fn is_on(&self, n: usize) -> bool {
        self.members[n].rollout.targets.values().any(|target| target.assigned.version == Some(v("v2")))
    }

    /// Looks at the targets and at what is good, and at nothing of the unit.
    fn check(&mut self) {
        for n in 0..self.members.len() {
            let is_good = self.members[n].rollout.good == Some(v("v2"));
            if self.is_on(n) && !self.moved[n] {
                self.moved[n] = true;
                for needs in self.needs[n] {
                    let good = self.members[*needs].rollout.good.clone();
                    assert_eq!(good, Some(v("v2")), "{} went before {}", name(n), name(*needs));
                }
            }
            if self.was_good[n] && !is_good {
                for other in (0..self.members.len()).filter(|other| self.needs[*other].contains(&n)) {
                    let is_left = self.is_on(other) && !self.fresh[other] && self.changed != Some(other);
                    assert!(!is_left, "{} went back before {}", name(n), name(other));
                }
            }
            self.was_good[n] = is_good;
        }
    }

    /// Never half: all are good, or none that could go back has not.
    fn check_end(&self) {
        let is_good = |n: usize| self.members[n].rollout.good == Some(v("v2"));
        let all = 0..self.members.len();
        match self.unit.course {
            UnitWord::Good => assert!(all.clone().all(is_good)),
            UnitWord::RolledBack | UnitWord::Halted => {
                for n in all.clone().filter(|n| !self.fresh[*n]) {
                    assert!(!self.is_on(n), "{} is left behind", name(n));
                    assert_eq!(self.members[n].rollout.good, Some(v("v1")));
                }
                let stays = all.clone().any(|n| self.fresh[n] && self.moved[n]);
                assert!(self.unit.course == UnitWord::Halted || !stays, "some stay, and nobody says so");
                for n in all.filter(|n| self.fresh[*n] && self.moved[*n]) {
                    let course = self.members[n].rollout.course();
                    assert!(is_good(n) || course == Course::Halted(v("v2")), "{}: {course:?}", name(n));
                }
            }
            word => panic!("{word:?} is no end"),
        }
        // It asks for nothing any more.
        let next = self.unit.decide(&self.seen(), Mono(0));
        assert_eq!((next.unit, next.asks), (self.unit.clone(), Vec::new()));
    }

    fn words(&self) -> Vec<MemberWord> {
        self.unit.words(&self.seen())
    }
}

#[test]
fn a_unit_goes_forward_in_the_order_of_its_needs_and_is_good_when_all_are() {
    for needs in [CHAIN, DIAMOND, APART] {
        let mut house = House::well(needs);
        house.drive_and_rise();
        let roots = house.unit.members.iter().filter(|member| member.asked.needs.is_empty()).count();
        let begun = house.unit.members.iter().filter(|member| member.has_begun).count();
        assert_eq!(begun, roots, "those who need nobody begin, and nobody else");
        house.run();
        assert_eq!((house.unit.course, &house.unit.why), (UnitWord::Good, &None));
        house.check_end();
    }
}

#[test]
fn when_the_last_is_bad_all_go_back_though_they_were_good() {
    let mut house = House::new(CHAIN, &[Fate::Well, Fate::Well, Fate::Bad], &[false; 3]);
    house.drive_and_rise();
    house.run();
    assert_eq!(house.was_good, [false; 3]);
    assert_eq!(house.moved, [true; 3], "the first two were good on it");
    assert_eq!(house.unit.course, UnitWord::RolledBack);
    assert_eq!(house.words(), [MemberWord::Back; 3]);
    let why = house.unit.why.clone().unwrap().to_string();
    assert!(why.starts_with("`v2` of `c` is bad: "), "{why}");
    house.check_end();
    // Only the one that was bad is held to be so: the others may have it with the next.
    let known: Vec<bool> =
        house.members.iter().map(|story| story.rollout.known_bad.contains_key(&v("v2"))).collect();
    assert_eq!(known, [false, false, true]);
    let refused = begin(&house.members, CHAIN).unwrap_err().to_string();
    assert!(refused.starts_with("version `v2` of `c` is known to be bad: "), "{refused}");
    // Forgiven, it is tried again.
    house.members[2].ask(Change::Forgive { version: v("v2"), until: None });
    house.unit = begin(&house.members, CHAIN).unwrap();
    (house.fates, house.moved) = (vec![Fate::Well; 3], vec![false; 3]);
    house.members.iter_mut().for_each(|story| story.pass(1));
    house.run();
    assert_eq!(house.unit.course, UnitWord::Good);
    house.check_end();
}

#[test]
fn in_a_diamond_the_other_side_goes_back_and_the_last_never_begins() {
    let mut house = House::new(DIAMOND, &[Fate::Well, Fate::Well, Fate::Bad, Fate::Well], &[false; 4]);
    house.drive_and_rise();
    house.run();
    assert_eq!(house.moved, [true, true, true, false]);
    assert_eq!(house.words(), [MemberWord::Back, MemberWord::Back, MemberWord::Back, MemberWord::Waits]);
    house.check_end();
}

#[test]
fn who_never_had_a_good_version_halts_and_the_unit_says_so() {
    let mut house = House::new(CHAIN, &[Fate::Well, Fate::Well, Fate::Bad], &[true, false, true]);
    house.drive_and_rise();
    house.run();
    assert_eq!(house.unit.course, UnitWord::Halted);
    assert_eq!(house.words(), [MemberWord::Halted, MemberWord::Back, MemberWord::Halted]);
    house.check_end();
}

#[test]
fn it_is_paused_resumed_promoted_and_aborted_as_one() {
    let mut house = House::well(CHAIN);
    house.drive_and_rise();
    while !house.moved[0] {
        house.turn();
    }
    house.unit.change(UnitChange::Pause { by: "ann".into() }).unwrap();
    house.drive_and_rise();
    assert_eq!(house.members[0].rollout.pause.as_ref().unwrap().by, "unit prod/release");
    for _ in 0..20 {
        house.turn();
    }
    assert_eq!(house.moved, [true, false, false]);
    house.unit.change(UnitChange::Resume).unwrap();
    let twice = house.unit.change(UnitChange::Resume).unwrap_err();
    assert_eq!(twice.to_string(), "unit `prod/release` is not paused");
    house.drive_and_rise();
    assert_eq!(house.members[0].rollout.pause, None);
    // On `v2` nobody is well, and nobody asks for that any more.
    house.fates = vec![Fate::Stuck; 3];
    house.unit.change(UnitChange::Promote { by: "ann".into() }).unwrap();
    house.run();
    assert_eq!(house.unit.course, UnitWord::Good);
    house.check_end();
    let over = house.unit.change(UnitChange::Abort { by: "ann".into(), why: String::new() }).unwrap_err();
    assert_eq!(over.to_string(), "unit `prod/release` does not go forward: all its members are good");

    let mut house = House::well(CHAIN);
    house.drive_and_rise();
    while !house.was_good[1] {
        house.turn();
    }
    house.unit.change(UnitChange::Abort { by: "ann".into(), why: "friday".into() }).unwrap();
    house.drive_and_rise();
    house.run();
    assert_eq!(house.unit.why.as_ref().unwrap().to_string(), "aborted by ann: friday");
    assert_eq!(house.unit.course, UnitWord::RolledBack);
    house.check_end();
}

#[test]
fn a_member_with_a_version_that_the_unit_knows_nothing_of_is_left_alone() {
    let mut house = House::well(CHAIN);
    house.drive_and_rise();
    while !house.was_good[0] {
        house.turn();
    }
    house.turn();
    house.members[1].ask(Change::ForceVersion(v("v9")));
    house.changed = Some(1);
    house.run();
    assert_eq!(house.unit.course, UnitWord::RolledBack);
    assert_eq!(house.unit.why.as_ref().unwrap().to_string(), "`b` was given another version meanwhile");
    assert_eq!(house.members[1].rollout.target, Some(v("v9")));
}

#[test]
fn a_version_that_is_on_its_way_is_not_taken_over() {
    let mut members: Vec<Story> = (0..3).map(|_| member(false)).collect();
    members[1].ask(Change::SetVersion(v("v9")));
    assert_eq!(
        begin(&members, CHAIN).unwrap_err().to_string(),
        "a version is on its way in `b` already",
        "it is queued"
    );
    members[1].call();
    assert_eq!(begin(&members, CHAIN).unwrap_err(), UnitRefused::Busy("b".into()));
}

/// At each point of a way forward, and of one back.
#[test]
fn a_daemon_that_dies_after_anything_it_did_goes_on() {
    for needs in [CHAIN, DIAMOND] {
        for last in [Fate::Well, Fate::Bad] {
            let mut fates = [Fate::Well; 4];
            fates[needs.len() - 1] = last;
            let mut points = 0;
            for point in 0.. {
                let mut house = House::new(needs, &fates, &[false; 4]);
                house.left = Some(point);
                house.drive_and_rise();
                house.run();
                let expected = if last == Fate::Well { UnitWord::Good } else { UnitWord::RolledBack };
                assert_eq!(house.unit.course, expected, "died after {point}");
                house.check_end();
                if house.left.is_some() {
                    break;
                }
                points += 1;
            }
            assert!(points >= 2 * needs.len(), "{points}");
        }
    }
}

fn fate() -> impl proptest::strategy::Strategy<Value = Fate> {
    prop_oneof![6 => Just(Fate::Well), 2 => Just(Fate::Bad), 1 => Just(Fate::Stuck)]
}

#[derive(Clone, Copy, Debug)]
enum Deed {
    Turn,
    DieAfter(usize),
    Pause,
    Resume,
    Promote,
    Abort,
}

fn deed() -> impl proptest::strategy::Strategy<Value = Deed> {
    prop_oneof![
        20 => Just(Deed::Turn),
        5 => (0..6_usize).prop_map(Deed::DieAfter),
        2 => Just(Deed::Pause),
        2 => Just(Deed::Resume),
        1 => Just(Deed::Promote),
        1 => Just(Deed::Abort),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever becomes of the members, and whatever people ask: the orders are kept (`check`), and it never ends
    /// half.
    #[test]
    fn a_unit_ends_whole(
        needs in prop_oneof![Just(CHAIN), Just(DIAMOND), Just(APART)],
        fates in proptest::collection::vec(fate(), 4),
        fresh in proptest::collection::vec(prop_oneof![4 => Just(false), 1 => Just(true)], 4),
        deeds in proptest::collection::vec(deed(), 0..60),
        dies in any::<bool>(),
    ) {
        let mut house = House::new(needs, &fates, &fresh);
        // Whoever starts a unit drives it, also where nobody reports yet.
        house.drive_and_rise();
        let by = || "ann".to_owned();
        for deed in deeds {
            // What makes no sense where it is is refused, and changes nothing.
            let asked = match deed {
                Deed::Turn => { house.turn(); continue }
                Deed::DieAfter(count) => { house.left = dies.then_some(count); continue }
                Deed::Pause => UnitChange::Pause { by: by() },
                Deed::Resume => UnitChange::Resume,
                Deed::Promote => UnitChange::Promote { by: by() },
                Deed::Abort => UnitChange::Abort { by: by(), why: String::new() },
            };
            let before = house.unit.clone();
            if house.unit.change(asked).is_err() {
                assert_eq!(house.unit, before);
            }
            house.drive_and_rise();
        }
        drop(house.unit.change(UnitChange::Resume));
        house.run();
        house.check_end();
    }
}
