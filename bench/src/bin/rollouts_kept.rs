//! What it takes to decide about many targets and to keep that, in memory and time, and how that grows: on a store that
//! does not sync, so that it is the work that is measured and not the disk; and on one that does, beside a bare synced
//! write of as much.
//!
//! `rollouts_kept [DIRECTORY]`: where the stores are; a directory that is memory shows nothing of the second.
#![expect(clippy::print_stdout, reason = "a bench prints its numbers")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use upbeat_bench::{Failure, resident};
use upbeat_control::rollouts::{Answering, Asked, Asker, Change, Rollouts, Settings};
use upbeat_model::Wall;
use upbeat_model::rollout::{Amount, Controllers, EntityId, Options, Report, TargetId, Version};
use upbeat_store::{Durability, open_redb};

const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 250_000];
const ROUNDS: usize = 9;

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

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// How fast it grows: 1 where ten times as many take ten times as long.
fn exponent((before, after): (usize, usize), (first, then): (Duration, Duration)) -> f64 {
    (then.as_secs_f64() / first.as_secs_f64()).ln() / (after as f64 / before as f64).ln()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let place = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, Into::into);
    for (durability, name) in
        [(Durability::Process, "not synced"), (Durability::Machine, "each write synced")]
    {
        println!("{name:<17}  reported, kept  bytes each  a decision  with a change  a synced write");
        let mut last = None;
        for size in SIZES {
            let Took { reported, memory, decision, change, floor } = of(size, durability, &place).await?;
            println!(
                "{size:>9} targets  {reported:>14.1?}  {memory:>10}  {decision:>10.2?}  {change:>13.2?}  {floor:>14.2?}"
            );
            if let Some((before, first)) = last.replace((size, change)) {
                println!("          growth exponent {:.2}", exponent((before, size), (first, change)));
            }
        }
    }
    Ok(())
}

struct Took {
    /// All of them, for the first time.
    reported: Duration,
    /// Bytes of memory that a target takes.
    memory: u64,
    /// That changes nothing, and its answer.
    decision: Duration,
    /// That takes in that one target says something else, which is kept.
    change: Duration,
    /// A leaf and a head of bytes written bare, and synced where the store does.
    floor: Duration,
}

async fn of(size: usize, durability: Durability, place: &Path) -> Result<Took, Failure> {
    let directory = tempfile::tempdir_in(place)?;
    let (store, _journal) = open_redb(&directory.path().join("bench.redb"), durability)?;
    let settings = Settings { wall, asker: Arc::new(Nobody), events: None, failpoint: |_| {} };
    let rollouts = Rollouts::open(store, settings).await?;
    let id = EntityId::new("prod", "web")?;
    let (good, next) = (Version::new("v1")?, Version::new("v2")?);
    let options = Options { batch: Amount::Percent(5), success_percent: 0, ..Options::default() };
    rollouts.change(id.clone(), Change::SetOptions(Some(options)), None).await?;
    rollouts.change(id.clone(), Change::SetVersion(good.clone()), None).await?;
    let empty = resident()?;
    let all: Vec<Report> = (0..size).map(|n| report(n, &good, "")).collect();
    let begun = Instant::now();
    rollouts.orchestrate_later(id.clone(), all).await?;
    rollouts.idle().await;
    let reported = begun.elapsed();
    let memory = resident()?.saturating_sub(empty) / size as u64;
    let options = Options { success_percent: 95, ..options };
    rollouts.change(id.clone(), Change::SetOptions(Some(options)), None).await?;
    rollouts.change(id.clone(), Change::SetVersion(next), None).await?;
    rollouts.orchestrate(id.clone(), Vec::new()).await?;
    rollouts.orchestrate(id.clone(), Vec::new()).await?;
    let mut times: [Vec<Duration>; 3] = Default::default();
    let mut file = File::create(directory.path().join("floor"))?;
    for n in 0..ROUNDS {
        let begun = Instant::now();
        rollouts.orchestrate(id.clone(), Vec::new()).await?;
        times[0].push(begun.elapsed());
        let one = vec![report(n * 97, &good, &format!("round {n}"))];
        let begun = Instant::now();
        rollouts.orchestrate(id.clone(), one).await?;
        times[1].push(begun.elapsed());
        let begun = Instant::now();
        file.write_all(&[n as u8; 16 << 10])?;
        if matches!(durability, Durability::Machine) {
            file.sync_data()?;
        }
        times[2].push(begun.elapsed());
    }
    let [decision, change, floor] = times.map(median);
    Ok(Took { reported, memory, decision, change, floor })
}
