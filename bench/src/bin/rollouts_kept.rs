//! What it takes to decide about many targets and to keep that, and a change of one of them, on a store that does not
//! sync: so it is the work and not the disk that is measured. Also what a target takes in memory.
//!
//! `rollouts_kept`.
#![expect(clippy::print_stdout, reason = "a bench prints its numbers")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use upbeat_bench::Failure;
use upbeat_control::rollouts::{Answering, Asked, Asker, Change, Rollouts, Settings};
use upbeat_model::Wall;
use upbeat_model::rollout::{Amount, Controllers, EntityId, Options, Report, TargetId, Version};
use upbeat_store::{Durability, open_redb};

const TARGETS: usize = 100_000;
const ROUNDS: usize = 15;

/// Nobody is asked.
struct Nobody;

impl Asker for Nobody {
    fn ask<'a>(&'a self, _: &'a EntityId, _: &'a Controllers, _: Asked) -> Answering<'a> {
        Box::pin(std::future::pending())
    }
}

fn wall() -> Wall {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    Wall(i64::try_from(since.as_millis()).unwrap_or_default())
}

fn report(n: usize, version: &Version, message: &str) -> Report {
    Report {
        target: TargetId { group: format!("region{}", n % 10), name: format!("device{n}") },
        version: Some(version.clone()),
        is_error: false,
        message: message.to_owned(),
        labels: BTreeMap::new(),
        failed: false,
    }
}

/// What the process has of memory, in KiB.
fn resident() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Ok(line.unwrap_or_default().trim().trim_end_matches(" kB").parse()?)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let (store, _journal) = open_redb(&directory.path().join("bench.redb"), Durability::Process)?;
    let settings = Settings { wall, asker: Arc::new(Nobody), events: None, failpoint: |_| {} };
    let rollouts = Rollouts::open(store, settings).await?;
    let id = EntityId::new("prod", "web")?;
    let (good, next) = (Version::new("v1")?, Version::new("v2")?);
    let options = Options { batch: Amount::Percent(5), success_percent: 0, ..Options::default() };
    rollouts.change(id.clone(), Change::SetOptions(Some(options)), None).await?;
    rollouts.change(id.clone(), Change::SetVersion(good.clone()), None).await?;
    let empty = resident()?;
    let all: Vec<Report> = (0..TARGETS).map(|n| report(n, &good, "")).collect();
    let begun = Instant::now();
    rollouts.orchestrate_later(id.clone(), all).await?;
    rollouts.idle().await;
    println!("{TARGETS} targets reported and kept: {:.2?}", begun.elapsed());
    println!("memory of a target: {} bytes", (resident()? - empty) * 1024 / TARGETS as u64);
    let options = Options { success_percent: 95, ..options };
    rollouts.change(id.clone(), Change::SetOptions(Some(options)), None).await?;
    rollouts.change(id.clone(), Change::SetVersion(next), None).await?;
    rollouts.orchestrate(id.clone(), Vec::new()).await?;
    rollouts.orchestrate(id.clone(), Vec::new()).await?;
    let mut times: [Vec<Duration>; 3] = Default::default();
    for n in 0..ROUNDS {
        let begun = Instant::now();
        rollouts.orchestrate(id.clone(), Vec::new()).await?;
        times[0].push(begun.elapsed());
        let one = vec![report(n * 997, &good, &format!("round {n}"))];
        let begun = Instant::now();
        rollouts.orchestrate(id.clone(), one.clone()).await?;
        times[1].push(begun.elapsed());
        let one = one.into_iter().map(|report| Report { message: "again".into(), ..report }).collect();
        let begun = Instant::now();
        rollouts.orchestrate_later(id.clone(), one).await?;
        times[2].push(begun.elapsed());
        rollouts.idle().await;
    }
    let [decision, change, report] = times.map(median);
    println!("a decision and its answer: {decision:.2?}; with a change of one target: {change:.2?}");
    println!("a change of one target is taken down and kept: {report:.2?}");
    Ok(())
}
