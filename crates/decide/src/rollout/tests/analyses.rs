//! Analyses in virtual time.

use proptest::prelude::*;
use upbeat_model::rollout::{Cadence, SampleOutcome as Outcome};
use upbeat_model::{Millis, Mono};

use crate::rollout::{Analysis, Next, Verdict};

const BEGUN: Mono = Mono(7_000);

fn outcome(sign: char) -> Outcome {
    match sign {
        's' => Outcome::Success,
        'f' => Outcome::Failure,
        'i' => Outcome::Inconclusive,
        _ => Outcome::Error("silent".into()),
    }
}

/// Three samples, five seconds apart, and nothing may go wrong.
fn cadence() -> Cadence {
    Cadence { interval: Some(Millis::seconds(5)), count: Some(3), ..Cadence::default() }
}

/// What these samples say.
fn verdict(cadence: Cadence, signs: &str) -> Verdict {
    let outcomes: Vec<_> = signs.chars().map(outcome).collect();
    let at = |index: usize| BEGUN + Millis::seconds(5 * index as u64);
    Analysis::of(BEGUN, &cadence, outcomes.iter().enumerate().map(|(index, it)| (at(index), it))).verdict
}

#[test]
fn each_limit_says_so_when_it_is_exceeded_and_not_before() {
    let failed = |why: &str| Verdict::Failed(why.into());
    let unclear = |why: &str| Verdict::Inconclusive(why.into());
    let tolerant = Cadence { failure_limit: 1, inconclusive_limit: 1, count: Some(5), ..cadence() };
    let endless = Cadence { count: None, failure_limit: 1, ..cadence() };
    let enough = Cadence { consecutive_success_limit: 2, failure_limit: 2, count: Some(4), ..cadence() };
    for (cadence, signs, expected) in [
        (Cadence::default(), "", Verdict::Running),
        (Cadence::default(), "s", Verdict::Successful),
        (Cadence::default(), "f", failed("1 failed, and 0 may")),
        (Cadence::default(), "eeee", Verdict::Running),
        (Cadence::default(), "eeees", Verdict::Successful),
        (Cadence::default(), "eeeee", Verdict::Error("5 errors in a row, and 4 may be: silent".into())),
        (cadence(), "ss", Verdict::Running),
        (cadence(), "sss", Verdict::Successful),
        (cadence(), "sesess", Verdict::Successful),
        (cadence(), "si", unclear("1 inconclusive, and 0 may be")),
        (tolerant, "sfisi", unclear("2 inconclusive, and 1 may be")),
        (tolerant, "sfisf", failed("2 failed, and 1 may")),
        (tolerant, "sfiss", Verdict::Successful),
        (tolerant, "eeeeseeee", Verdict::Running),
        (endless, "sssssssssssss", Verdict::Running),
        (endless, "fssssssf", failed("2 failed, and 1 may")),
        (enough, "fss", Verdict::Successful),
        (enough, "fses", Verdict::Running),
        (enough, "fsfs", unclear("never 2 successes in a row within 4 samples")),
        // What comes after the verdict is not heard.
        (Cadence::default(), "fsss", failed("1 failed, and 0 may")),
        (cadence(), "sssf", Verdict::Successful),
    ] {
        assert_eq!(verdict(cadence, signs), expected, "{signs}");
    }
}

#[test]
fn it_is_measured_after_its_delay_and_then_at_its_interval() {
    let cadence = Cadence { initial_delay: Millis::seconds(30), ..cadence() };
    let mut analysis = Analysis::new(BEGUN);
    let due = BEGUN + Millis::seconds(30);
    assert_eq!(analysis.next(&cadence, BEGUN), Next::Wait(due));
    assert_eq!(analysis.next(&cadence, Mono(due.0 - 1)), Next::Wait(due));
    assert_eq!(analysis.next(&cadence, due), Next::Measure);
    // It took a while: the interval begins with its end.
    let at = due + Millis::seconds(3);
    analysis.take(&cadence, &Outcome::Success, at);
    assert_eq!(analysis.next(&cadence, at), Next::Wait(at + Millis::seconds(5)));
    // The machine has slept: it is measured once, and not once for each interval.
    let woken = at + Millis::seconds(3_600);
    assert_eq!(analysis.next(&cadence, woken), Next::Measure);
    analysis.take(&cadence, &Outcome::Success, woken);
    assert_eq!(analysis.next(&cadence, woken), Next::Wait(woken + Millis::seconds(5)));
    analysis.take(&cadence, &Outcome::Success, woken + Millis::seconds(5));
    assert_eq!(analysis.next(&cadence, Mono(u64::MAX)), Next::Over);
}

#[test]
fn what_could_not_be_measured_once_is_tried_again_after_ten_seconds() {
    let mut analysis = Analysis::new(BEGUN);
    assert_eq!(analysis.next(&Cadence::default(), BEGUN), Next::Measure);
    analysis.take(&Cadence::default(), &outcome('e'), BEGUN);
    assert_eq!(analysis.next(&Cadence::default(), BEGUN), Next::Wait(BEGUN + Millis::seconds(10)));
}

fn cadences() -> impl Strategy<Value = Cadence> {
    let count = proptest::option::of(1_u32..8);
    (1_u64..9, 0_u64..9, count, 0_u32..4, 0_u32..4, 0_u32..4, 0_u32..4).prop_map(
        |(interval, delay, count, failure_limit, inconclusive_limit, errors, successes)| Cadence {
            initial_delay: Millis::seconds(delay),
            interval: Some(Millis::seconds(interval)),
            count,
            failure_limit,
            inconclusive_limit,
            consecutive_error_limit: errors,
            consecutive_success_limit: successes,
        },
    )
}

/// How many at the end are this one.
fn at_end(signs: &[char], sign: char) -> usize {
    signs.iter().rev().take_while(|other| **other == sign).count()
}

/// What may be said after these samples, from all of them and with nothing remembered: by what it begins with.
fn oracle(cadence: &Cadence, signs: &[char]) -> &'static str {
    let count = |sign| signs.iter().filter(|other| **other == sign).count();
    let enough = cadence.consecutive_success_limit as usize;
    let taken = signs.len() - count('e');
    let is_full = cadence.count.is_some_and(|count| taken >= count as usize);
    match () {
        () if count('f') > cadence.failure_limit as usize => "Failed",
        () if count('i') > cadence.inconclusive_limit as usize => "Inconclusive",
        () if at_end(signs, 'e') > cadence.consecutive_error_limit as usize => "Error",
        () if enough > 0 && at_end(signs, 's') >= enough => "Successful",
        () if is_full && enough > 0 => "Inconclusive",
        () if is_full => "Successful",
        () => "Running",
    }
}

proptest! {
    /// The first verdict that all samples so far give stands; until then it is measured at its times, and
    /// never more often than is asked for; and a daemon that comes later goes on where another stopped.
    #[test]
    fn it_says_what_its_samples_say_and_measures_no_more_than_it_has_to(
        cadence in cadences(),
        signs in proptest::collection::vec(prop_oneof![4 => Just('s'), 2 => Just('f'), 1 => Just('i'), 2 => Just('e')], 0..30),
        wakes in proptest::collection::vec(0_u64..15_000, 30),
    ) {
        let mut analysis = Analysis::new(BEGUN);
        let (mut now, mut taken, mut last) = (BEGUN, Vec::new(), None::<Mono>);
        for (sign, wake) in signs.into_iter().zip(wakes) {
            // As it is kept from one daemon to the next.
            analysis = serde_json::from_str(&serde_json::to_string(&analysis).unwrap()).unwrap();
            let due = match last {
                None => BEGUN + cadence.initial_delay,
                Some(last) => last + cadence.interval.unwrap(),
            };
            now = now + Millis(wake);
            let next = analysis.next(&cadence, now);
            let is_over = oracle(&cadence, &taken) != "Running";
            prop_assert_eq!(next == Next::Over, is_over);
            let before = analysis.clone();
            if is_over {
                analysis.take(&cadence, &outcome(sign), now);
                prop_assert_eq!(&analysis, &before);
                continue;
            }
            prop_assert_eq!(next == Next::Measure, now >= due);
            if let Next::Wait(then) = next {
                prop_assert_eq!(then, due);
                now = then;
                prop_assert_eq!(analysis.next(&cadence, now), Next::Measure);
            }
            taken.push(sign);
            last = Some(now);
            analysis.take(&cadence, &outcome(sign), now);
            let said = format!("{:?}", analysis.verdict);
            prop_assert!(said.starts_with(oracle(&cadence, &taken)), "{}: {:?}", said, taken);
        }
        if let Some(count) = cadence.count {
            prop_assert!(taken.iter().filter(|sign| **sign != 'e').count() <= count as usize);
        }
    }
}
