//! How long a decision about an entity takes, and how that grows: everything reported, decided and taken on,
//! against walking the same targets once.
//!
//! `rollouts`.
#![expect(clippy::print_stdout, reason = "a bench prints its numbers")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use upbeat_bench::{Failure, resident};
use upbeat_decide::rollout::{Asks, Change, Rollout, Step, Told, decide};
use upbeat_model::rollout::{Amount, Concurrency, Gate, Options, Report, Stage, Strategy, TargetId, Version};
use upbeat_model::{Millis, Mono};

const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
const ROUNDS: usize = 5;

fn main() -> Result<(), Failure> {
    println!("targets     walk      decision   (×)      report   in stages  bytes each");
    let mut last = None;
    for size in SIZES {
        let before = resident()?;
        let ([walk, decision, report, staged], after) = of(size)?;
        let memory = after.saturating_sub(before) / size as u64;
        let ratio = decision.as_secs_f64() / walk.as_secs_f64();
        println!(
            "{size:>9} {walk:>9.2?} {decision:>10.2?} {ratio:>6.1} {report:>10.2?} {staged:>10.2?} {memory:>10}"
        );
        if let Some((before, took)) = last.replace((size, decision)) {
            let growth = (decision.as_secs_f64() / Duration::as_secs_f64(&took)).ln()
                / (size as f64 / before as f64).ln();
            println!("          growth exponent {growth:.2}");
        }
    }
    Ok(())
}

fn reports(size: usize, version: &Version) -> Vec<Report> {
    let report = |n| Report {
        target: TargetId { group: format!("region{}", n % 10), name: format!("device{n}") },
        version: Some(version.clone()),
        is_error: false,
        message: String::new(),
        labels: BTreeMap::new(),
        failed: false,
    };
    (0..size).map(report).collect()
}

/// Medians of the floor, of a decision in the middle of a rollout, of taking in what everybody reports, and of a
/// decision in the first of three stages, with a limit on those that are unwell; and what the process had of memory when
/// all were reported for the first time, in bytes.
fn of(size: usize) -> Result<([Duration; 4], u64), Failure> {
    let (good, next) = (Version::new("v1")?, Version::new("v2")?);
    let mut rollout = Rollout::default();
    let mut now = Mono(1_000_000);
    let options = Options {
        batch: Amount::Percent(5),
        success_percent: 0,
        success_timeout: Millis::seconds(60),
        duration_timeout: Millis::seconds(3600),
    };
    rollout.change(Change::SetOptions(Some(options)), now)?;
    rollout.change(Change::SetVersion(good.clone()), now)?;
    rollout.report(reports(size, &good), now);
    let memory = resident()?;
    settle(&mut rollout, now)?;
    rollout.change(Change::SetOptions(Some(Options { success_percent: 95, ..options })), now)?;
    rollout.change(Change::SetVersion(next), now)?;
    settle(&mut rollout, now)?;
    let mut times: [Vec<Duration>; 4] = Default::default();
    for _ in 0..ROUNDS {
        now = now + Millis::seconds(1);
        let begun = Instant::now();
        let floor =
            rollout.targets.values().filter(|target| target.assigned.version == target.current.version);
        std::hint::black_box(floor.count());
        times[0].push(begun.elapsed());
        let begun = Instant::now();
        settle(&mut rollout, now)?;
        times[1].push(begun.elapsed());
        let all = reports(size, &good);
        let begun = Instant::now();
        rollout.report(all, now);
        times[2].push(begun.elapsed());
    }
    let stages = vec![
        Stage::canary(Amount::Percent(1), Gate::Approval),
        Stage::wave("first", [("ring".to_owned(), "1".to_owned())]),
    ];
    let max_unavailable = Some(Amount::Percent(5));
    let concurrency = Concurrency::Replace;
    let strategy = Strategy { stages, max_unavailable, concurrency, ..Strategy::default() };
    rollout.change(Change::SetStrategy(Some(Box::new(strategy))), now)?;
    rollout.change(Change::SetVersion(Version::new("v3")?), now)?;
    for _ in 0..ROUNDS {
        now = now + Millis::seconds(1);
        let begun = Instant::now();
        settle(&mut rollout, now)?;
        times[3].push(begun.elapsed());
    }
    let times = times.map(|mut times| {
        times.sort();
        times[times.len() / 2]
    });
    Ok((times, memory))
}

fn settle(rollout: &mut Rollout, now: Mono) -> Result<(), Failure> {
    match decide(rollout, Asks::default(), &Told::default(), now)? {
        Step::Settle(decision) => rollout.take_on(*decision, now),
        Step::Ask(question) => return Err(format!("nobody answers {question:?}").into()),
    }
    Ok(())
}
