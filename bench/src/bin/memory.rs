//! How small: the idle daemon, and each supervised process with its shim; and what it does when
//! nothing happens.
#![expect(clippy::print_stdout, reason = "a bench prints its numbers")]

use std::fs;
use std::time::Duration;

use upbeat_bench::{Failure, Home, cpu_ticks, median, pss_kb, sleepers};

const COUNT: usize = 500;
const IDLE: Duration = Duration::from_secs(10);

fn main() -> Result<(), Failure> {
    let empty = Home::with("services: { s: { command: [\"true\"] } }\n")?;
    empty.run(&["plan"])?;
    let daemon = empty.daemon()?;
    println!("daemon, nothing to do      {:6} KB PSS", pss_kb(daemon).unwrap_or(0));
    drop(empty);
    let home = Home::with(&sleepers(COUNT))?;
    home.run(&["up", "-d", "--wait"])?;
    let daemon = home.daemon()?;
    let shims: Vec<i32> = shims_of(&home)?;
    let total: u64 = shims.iter().filter_map(|pid| pss_kb(*pid)).sum();
    let sizes: Vec<f64> = shims.iter().filter_map(|pid| pss_kb(*pid)).map(|kb| kb as f64).collect();
    println!("daemon with {COUNT}            {:6} KB PSS", pss_kb(daemon).unwrap_or(0));
    println!("a shim, median of {}      {:6} KB PSS ({total} KB together)", shims.len(), median(sizes));
    let (before, switched) = (cpu_ticks(daemon)?, switches(daemon)?);
    std::thread::sleep(IDLE);
    println!(
        "idle {IDLE:?} with {COUNT}: {} ticks of CPU, {} wake-ups",
        cpu_ticks(daemon)? - before,
        switches(daemon)? - switched
    );
    Ok(())
}

/// The parents of the services' main processes.
fn shims_of(home: &Home) -> Result<Vec<i32>, Failure> {
    let mut shims = Vec::new();
    for slot in home.slots()? {
        let Some(pid) = slot["pid"].as_i64() else { continue };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let parent: Option<i32> =
            stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        shims.extend(parent);
    }
    Ok(shims)
}

fn switches(pid: i32) -> Result<u64, Failure> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"));
    Ok(line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0))
}
