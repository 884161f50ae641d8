//! What is foretold of a rollout.

use upbeat_model::rollout::{Gate, Stage};

use super::simulate::{Crowd, End, Scenario, forecast, simulate};
use super::*;

fn scenario(targets: usize, failure_rate: f64) -> Scenario {
    Scenario {
        crowds: vec![Crowd { targets, labels: BTreeMap::new(), failure_rate }],
        options: options(10, 90, 60, 300),
        strategy: Strategy::default(),
        switch: (Millis::seconds(5), Millis::seconds(30)),
        every: Millis::seconds(5),
        approves_after: None,
        begins: upbeat_model::Wall(0),
    }
}

#[test]
fn who_is_well_comes_to_the_end_and_the_same_seed_to_the_same() {
    let run = simulate(&scenario(100, 0.0), 7).unwrap();
    assert_eq!((run.end, run.hurt), (End::Good, 0));
    assert!(run.exposed >= 90, "{run:?}");
    // Nine batches of ten at least, each of whom needs its switch and a minute.
    assert!(run.lasted > Millis::seconds(9 * 65), "{}", run.lasted);
    assert_eq!(simulate(&scenario(100, 0.0), 7).unwrap(), run);
    assert_ne!(simulate(&scenario(100, 0.0), 8).unwrap(), run);
    let last = run.timeline.last().unwrap();
    assert_eq!(last.after, run.lasted);
    assert!(last.counts.well >= 90);
}

#[test]
fn a_version_that_is_bad_goes_back_and_a_canary_keeps_it_small() {
    let run = simulate(&scenario(100, 1.0), 1).unwrap();
    assert_eq!(run.end, End::RolledBack);
    assert!(
        (11..=20).contains(&run.exposed),
        "a batch, and what follows it until more than ten failed: {run:?}"
    );
    assert_eq!(run.exposed, run.hurt);
    assert!(run.reasons[0].to_string().contains("targets failed, and 10 may"), "{:?}", run.reasons);
    let mut careful = scenario(100, 1.0);
    careful.strategy.stages = vec![Stage::canary(Amount::Count(1), Gate::Approval)];
    let run = simulate(&careful, 1).unwrap();
    assert_eq!((run.end, run.exposed), (End::RolledBack, 1));
}

#[test]
fn who_waits_for_nobody_is_undecided_and_says_for_what() {
    let mut waits = scenario(20, 0.0);
    waits.strategy.stages = vec![Stage::canary(Amount::Count(1), Gate::Approval)];
    let run = simulate(&waits, 1).unwrap();
    assert_eq!(run.end, End::Undecided);
    assert_eq!(run.reasons[0].to_string(), "waits for approval after stage `canary`");
    waits.approves_after = Some(Millis::seconds(600));
    let run = simulate(&waits, 1).unwrap();
    assert_eq!(run.end, End::Good);
    assert!(run.lasted > Millis::seconds(600));
}

#[test]
fn many_runs_say_how_long_and_how_bad() {
    let of = forecast(&scenario(50, 0.08), 1, 40).unwrap();
    assert_eq!((of.runs, of.good + of.rolled_back + of.undecided), (40, 40));
    assert!(of.good > 10 && of.rolled_back > 3, "{of:?}");
    assert!(of.lasted.p50 <= of.lasted.p95 && of.lasted.p95 <= of.lasted.max);
    assert!(of.on_bad.max > 5, "what was found to be bad late was on many");
    assert_eq!(forecast(&scenario(50, 0.08), 1, 40).unwrap(), of);
    let text = serde_json::to_string(&of).unwrap();
    assert_eq!(serde_json::from_str::<simulate::Forecast>(&text).unwrap(), of);
}

#[test]
fn what_cannot_be_tried_is_refused_by_its_name() {
    let refused = |scenario: Scenario, runs| forecast(&scenario, 1, runs).unwrap_err().to_string();
    assert_eq!(refused(scenario(0, 0.0), 1), "`targets` must be 1 at least");
    assert_eq!(refused(scenario(1, f64::NAN), 1), "`failure_rate` must be between 0 and 1");
    assert_eq!(refused(scenario(1, 0.0), 0), "`runs` must be between 1 and 10000");
    let many = refused(scenario(1_000_000, 0.0), 1);
    assert_eq!(many, "`runs` must be fewer: with so many targets they would take too long");
    let strange = Scenario { options: options(101, 100, 0, 1), ..scenario(1, 0.0) };
    assert_eq!(refused(strange, 1), "`batch` must be between 0 and 100");
    let turned = Scenario { switch: (Millis(2), Millis(1)), ..scenario(1, 0.0) };
    assert_eq!(refused(turned, 1), "`switch` must have the shorter time first");
}
