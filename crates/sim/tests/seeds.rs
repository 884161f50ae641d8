//! Thousands of machines, each from its seed; and machines with a bug in them, to see that the
//! checkers can see.
//!
//! `UPBEAT_SIM_SEED=n` replays one; `UPBEAT_SIM_SEEDS=n` runs so many.

use upbeat_decide::rules::Bug;
use upbeat_sim::{Outcome, run};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[track_caller]
fn must_hold(seed: u64) -> Outcome {
    match run(seed, None) {
        Ok(outcome) => outcome,
        Err(broken) => panic!(
            "seed {seed} breaks a promise at {} ms: {}\n{}\nreplay: UPBEAT_SIM_SEED={seed} cargo test -p upbeat-sim --test seeds promises",
            broken.at - 1_000_000,
            broken.what,
            broken.trace.join("\n"),
        ),
    }
}

#[test]
fn promises_hold_for_thousands_of_seeds() {
    if let Some(seed) = number("UPBEAT_SIM_SEED") {
        must_hold(seed);
        return;
    }
    let seeds = number("UPBEAT_SIM_SEEDS").unwrap_or(3_000);
    let (mut starts, mut crashes) = (0, 0);
    for seed in 0..seeds {
        let outcome = must_hold(seed);
        starts += outcome.starts;
        crashes += outcome.crashes;
    }
    // A simulation in which nothing happens would hold every promise.
    assert!(u64::from(starts) > seeds * 5, "only {starts} starts in {seeds} runs");
    assert!(u64::from(crashes) > seeds / 2, "only {crashes} crashes in {seeds} runs");
}

#[test]
fn one_seed_is_one_run() {
    for seed in 0..20 {
        assert_eq!(must_hold(seed), must_hold(seed));
    }
}

/// A bug that the checkers do not find within so many runs would go unseen for weeks.
#[test]
fn every_planted_bug_is_found() {
    const WITHIN: u64 = 2_000;
    for bug in Bug::ALL {
        let found = (0..WITHIN).find_map(|seed| run(seed, Some(*bug)).err().map(|broken| (seed, broken)));
        match found {
            Some((seed, broken)) => println!("{bug:?}: seed {seed}: {}", broken.what),
            None => panic!("{bug:?} is not found within {WITHIN} seeds"),
        }
    }
}
