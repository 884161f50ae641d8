//! Virtual receivers, journals and times; and random stories of them, watched from outside.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, any, prop_oneof, proptest};
use proptest::strategy::Strategy;

use super::*;

#[test]
fn waits_grow_from_a_second_to_five_minutes_and_are_never_all_the_same() {
    let bounds = |failures| {
        let all: Vec<u64> = (0..1_000_000).step_by(997).map(|chance| wait(failures, chance).0).collect();
        (*all.iter().min().unwrap(), *all.iter().max().unwrap())
    };
    let mut before = (0, 0);
    for failures in 1..=40 {
        let (least, most) = bounds(failures);
        assert!(least >= FIRST_WAIT.0 && most <= LONGEST_WAIT.0, "{failures}: {least} to {most}");
        assert!(most > least + least / 2, "{failures}: {least} to {most} are all the same");
        assert!(least >= before.0 && most >= before.1, "{failures}: shorter than the one before");
        before = (least, most);
    }
    assert_eq!(bounds(1).0, 1_000);
    assert!(bounds(2).0 >= 2_000 && bounds(9).1 > 290_000);
    assert!(wait(u32::MAX, u64::MAX) <= LONGEST_WAIT);
}

#[test]
fn what_was_not_taken_is_told_again_before_anything_else() {
    let mut hook = Hook::new(Some(4), 9);
    assert_eq!(hook.step(Mono(0)), Step::Look(4));
    let parcel = hook.found(Stands::Event(7)).unwrap();
    assert_eq!((parcel, hook.after()), (Parcel::Event(7), 4), "it is not told yet");
    hook.came_of(parcel, Outcome::Failed, Mono(0), 0);
    assert_eq!((hook.step(Mono(0)), hook.failures()), (Step::WaitUntil(Mono(1_000)), 1));
    assert_eq!(hook.step(Mono(999)), Step::WaitUntil(Mono(1_000)));
    assert_eq!(hook.step(Mono(1_000)), Step::Look(4));
    hook.came_of(parcel, Outcome::Failed, Mono(1_000), 0);
    assert_eq!(hook.step(Mono(1_000)), Step::WaitUntil(Mono(3_000)));
    hook.came_of(parcel, Outcome::Taken, Mono(3_000), 0);
    assert_eq!((hook.step(Mono(3_000)), hook.failures()), (Step::Look(7), 0));
    assert_eq!(hook.found(Stands::Nothing(9)), None);
    assert_eq!(hook.step(Mono(3_000)), Step::Look(9), "what is not wanted is not looked at twice");
}

#[test]
fn a_receiver_that_is_gone_is_left_alone_for_good() {
    let mut hook = Hook::new(Some(1), 1);
    hook.came_of(Parcel::Event(2), Outcome::Gone, Mono(0), 0);
    assert_eq!((hook.step(Mono(u64::MAX)), hook.after()), (Step::Off, 1));
    assert_eq!(Hook::new(Some(hook.after()), 2).step(Mono(0)), Step::Look(1), "the next daemon tries");
}

#[test]
fn a_new_one_is_told_of_what_comes_and_one_that_is_ahead_of_the_journal_of_what_is_new() {
    assert_eq!(Hook::new(None, 41).after(), 41);
    assert_eq!(Hook::new(Some(17), 41).after(), 17);
    assert_eq!(Hook::new(Some(170), 41).after(), 41, "a journal that began anew");
}

/// Events, of which the oldest are dropped; every third is of a kind nobody wants.
#[derive(Default)]
struct Journal {
    first: u64,
    last: u64,
}

impl Journal {
    fn is_wanted(number: u64) -> bool {
        !number.is_multiple_of(3)
    }

    fn stands(&self, after: u64) -> Stands {
        if self.first > after + 1 {
            return Stands::Lost(after + 1, self.first - 1);
        }
        match (after + 1..=self.last).find(|number| Self::is_wanted(*number)) {
            Some(number) => Stands::Event(number),
            None => Stands::Nothing(self.last.max(after)),
        }
    }
}

#[derive(Clone, Debug)]
enum Move {
    Happen(u64),
    /// The journal keeps so many.
    Drop(u64),
    /// The receiver answers so.
    Answer(Answer),
    Pass(u64),
    /// The daemon is killed: before it tells, after it told and before it kept that, or between.
    Kill(Point),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Takes,
    Fails,
    /// It takes it, and its answer comes too late.
    Late,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    Now,
    BeforeItTells,
    BeforeItKeeps,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        6 => (1..6_u64).prop_map(Move::Happen),
        1 => (1..12_u64).prop_map(Move::Drop),
        4 => prop_oneof![Just(Answer::Takes), Just(Answer::Fails), Just(Answer::Late)].prop_map(Move::Answer),
        4 => (0..400_000_u64).prop_map(Move::Pass),
        2 => prop_oneof![Just(Point::Now), Just(Point::BeforeItTells), Just(Point::BeforeItKeeps)]
            .prop_map(Move::Kill),
    ];
    vec(one, 1..120)
}

/// Everything but the hook: what it is told by, and what the receiver heard.
struct World {
    journal: Journal,
    hook: Hook,
    /// What outlives the daemon.
    kept: u64,
    now: Mono,
    answer: Answer,
    kill: Option<Point>,
    heard: Vec<Parcel>,
    told: u64,
}

impl World {
    fn new() -> Self {
        Self {
            journal: Journal { first: 1, last: 0 },
            hook: Hook::new(None, 0),
            kept: 0,
            now: Mono(0),
            answer: Answer::Takes,
            kill: None,
            heard: Vec::new(),
            told: 0,
        }
    }

    fn killed(&mut self) {
        self.kill = None;
        self.hook = Hook::new(Some(self.kept), self.journal.last);
    }

    /// As the loop that joins hook, journal and receiver does, until there is nothing to do.
    fn run(&mut self, chance: u64) {
        loop {
            let Step::Look(after) = self.hook.step(self.now) else { return };
            let Some(parcel) = self.hook.found(self.journal.stands(after)) else { return };
            if self.kill == Some(Point::BeforeItTells) {
                self.killed();
                continue;
            }
            self.told += 1;
            if self.answer != Answer::Fails {
                self.heard.push(parcel);
            }
            if self.kill == Some(Point::BeforeItKeeps) {
                self.killed();
                continue;
            }
            let outcome = if self.answer == Answer::Takes { Outcome::Taken } else { Outcome::Failed };
            self.hook.came_of(parcel, outcome, self.now, chance);
            if outcome == Outcome::Taken {
                self.kept = self.hook.after();
            }
        }
    }

    fn does(&mut self, one: &Move, chance: u64) {
        match one {
            Move::Happen(count) => self.journal.last += count,
            Move::Drop(keeps) => {
                self.journal.first =
                    self.journal.first.max((self.journal.last + 1).saturating_sub(*keeps).max(1));
            }
            Move::Answer(answer) => self.answer = *answer,
            Move::Pass(ms) => self.now = self.now + Millis(*ms),
            Move::Kill(Point::Now) => self.killed(),
            Move::Kill(point) => self.kill = Some(*point),
        }
        self.run(chance);
    }

    /// Each event that is wanted was heard, or was told to be lost; and first times are in order.
    fn is_right(&self) {
        let mut heard = BTreeSet::new();
        let mut newest = 0;
        for parcel in &self.heard {
            match parcel {
                Parcel::Event(number) => {
                    assert!(Journal::is_wanted(*number), "nobody wanted {number}");
                    // Only what was heard before may come again.
                    assert!(
                        *number > newest || heard.contains(number),
                        "{number} comes after {newest}: {:?}",
                        self.heard
                    );
                    heard.insert(*number);
                }
                Parcel::Lost(first, last) => heard.extend(*first..=*last),
            }
            newest = newest.max(parcel.last());
        }
        let missing: Vec<u64> = (1..=self.journal.last)
            .filter(|number| Journal::is_wanted(*number) && !heard.contains(number))
            .collect();
        assert_eq!(missing, [0; 0], "never told: {:?}", self.heard);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// However receivers, disks and daemons fail.
    #[test]
    fn every_event_is_heard_at_least_once_and_in_order(story in vec((any::<u64>(), moves()), 1..3)) {
        let mut world = World::new();
        for (chance, moves) in &story {
            for one in moves {
                let (told, now) = (world.told, world.now);
                world.does(one, *chance);
                if world.now == now && !matches!(one, Move::Happen(_) | Move::Kill(_)) {
                    // Whoever fails is not asked again at the same moment.
                    assert!(world.told <= told + 1 || world.answer == Answer::Takes, "{one:?}");
                }
            }
        }
        // All is well again, for as long as the longest wait.
        world.does(&Move::Answer(Answer::Takes), 0);
        world.does(&Move::Pass(LONGEST_WAIT.0), 0);
        world.is_right();
        let told = world.told;
        world.does(&Move::Pass(LONGEST_WAIT.0), 0);
        assert_eq!(world.told, told, "and nothing is told when all is told");
    }
}
