//! Thousands of machines whose containers are at the mercy of a malicious engine, each from its seed; and
//! some with a bug in them, to see that the checkers can see.
//!
//! `UPBEAT_ENGINE_SEED=n` replays one; `UPBEAT_ENGINE_SEEDS=n` runs so many.

use upbeat_decide::rules::Bug;
use upbeat_sim::engine::{Outcome, Plant, Slip, run};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[track_caller]
fn must_hold(seed: u64) -> Outcome {
    match run(seed, None) {
        Ok(outcome) => outcome,
        Err(broken) => panic!(
            "seed {seed} breaks a promise at {} ms: {}\n{}\nreplay: UPBEAT_ENGINE_SEED={seed} cargo test -p upbeat-sim --test engine promises",
            broken.at - 1_000_000,
            broken.what,
            broken.trace.join("\n"),
        ),
    }
}

/// A simulation in which nothing happens would hold every promise.
#[test]
fn promises_hold_whatever_an_engine_does() {
    let seeds = match (number("UPBEAT_ENGINE_SEED"), number("UPBEAT_ENGINE_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, seeds) => 0..seeds.unwrap_or(1_500),
    };
    let many = seeds.end - seeds.start;
    let mut all = Outcome::default();
    for seed in seeds {
        let Outcome { starts, crashes, late, missing, doubled, lies, deeds } = must_hold(seed);
        all.starts += starts;
        all.crashes += crashes;
        all.late += late;
        all.missing += missing;
        all.doubled += doubled;
        all.lies += lies;
        all.deeds += deeds;
    }
    println!("{all:?} in {many} runs");
    let often =
        |count: u32, each: u64| assert!(many < 100 || u64::from(count) > each, "{all:?} in {many} runs");
    often(all.starts, many * 4);
    often(all.crashes, many);
    often(all.late, many / 4);
    often(all.missing, many);
    often(all.doubled, many);
    often(all.lies, many / 10);
    often(all.deeds, many * 3);
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
    let both = [Bug::IgnoreGate, Bug::StopInAnyOrder, Bug::LoseTimers];
    let decisions = Bug::OF_CONTAINERS.iter().chain(&both).map(|bug| Plant::Decision(*bug));
    let slips = [Slip::IgnoreOthers, Slip::LeaveOthers].map(Plant::Driver);
    for plant in decisions.chain(slips) {
        let found = (0..WITHIN).find_map(|seed| run(seed, Some(plant)).err().map(|broken| (seed, broken)));
        match found {
            Some((seed, broken)) => println!("{plant:?}: seed {seed}: {}", broken.what),
            None => panic!("{plant:?} is not found within {WITHIN} seeds"),
        }
    }
}
