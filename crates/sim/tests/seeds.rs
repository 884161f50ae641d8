//! Thousands of machines, each from its seed; and machines with a bug in them, to see that the
//! checkers can see.
//!
//! `UPBEAT_SIM_SEED=n` replays one; `UPBEAT_SIM_SEEDS=n` runs so many.

use upbeat_decide::rules::Bug;
use upbeat_sim::{Outcome, Pace, run};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[track_caller]
fn must_hold(seed: u64, pace: Pace) -> Outcome {
    let test = match pace {
        Pace::Minutes => "promises",
        Pace::Weeks => "weeks",
    };
    match run(seed, pace, None) {
        Ok(outcome) => outcome,
        Err(broken) => panic!(
            "seed {seed} breaks a promise at {} ms: {}\n{}\nreplay: UPBEAT_SIM_SEED={seed} cargo test -p upbeat-sim --test seeds {test}",
            broken.at - 1_000_000,
            broken.what,
            broken.trace.join("\n"),
        ),
    }
}

/// So many seeds, or the one that is asked for.
fn seeds(many: u64) -> std::ops::Range<u64> {
    match (number("UPBEAT_SIM_SEED"), number("UPBEAT_SIM_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, seeds) => 0..seeds.unwrap_or(many),
    }
}

/// A simulation in which nothing happens would hold every promise.
fn must_hold_for(seeds: std::ops::Range<u64>, pace: Pace) {
    let many = seeds.end - seeds.start;
    let (mut starts, mut crashes, mut held) = (0, 0, 0);
    for seed in seeds {
        let outcome = must_hold(seed, pace);
        starts += outcome.starts;
        crashes += outcome.crashes;
        held += outcome.held;
    }
    assert!(many == 1 || u64::from(starts) > many * 5, "only {starts} starts in {many} runs");
    assert!(many == 1 || u64::from(crashes) > many / 2, "only {crashes} crashes in {many} runs");
    // In weeks it seldom is full when anything happens.
    let is_rare = many == 1 || pace == Pace::Weeks;
    assert!(is_rare || u64::from(held) > many / 5, "only {held} orders met a full disk in {many} runs");
}

#[test]
fn promises_hold_for_thousands_of_seeds() {
    must_hold_for(seeds(3_000), Pace::Minutes);
}

#[test]
fn promises_hold_for_weeks() {
    must_hold_for(seeds(150), Pace::Weeks);
}

#[test]
fn one_seed_is_one_run() {
    for seed in 0..20 {
        assert_eq!(must_hold(seed, Pace::Minutes), must_hold(seed, Pace::Minutes));
    }
}

/// A bug that the checkers do not find within so many runs would go unseen for weeks.
#[test]
fn every_planted_bug_is_found() {
    const WITHIN: u64 = 2_000;
    for bug in Bug::ALL {
        let found = (0..WITHIN)
            .find_map(|seed| run(seed, Pace::Minutes, Some(*bug)).err().map(|broken| (seed, broken)));
        match found {
            Some((seed, broken)) => println!("{bug:?}: seed {seed}: {}", broken.what),
            None => panic!("{bug:?} is not found within {WITHIN} seeds"),
        }
    }
}
