//! How long a plan of containers takes, how much memory, and how both grow: everything new, everything of
//! another image, some dropped, one chain; against copying what the plan is made of once, and, with the
//! feature `mahler`, against the crate of that name.
//!
//! `planner`. Each case of each size is measured in a process of its own, so none has the memory, or the
//! warm caches, of the one before. Ends with status 1 where a bound is broken.
#![expect(clippy::print_stdout, reason = "a bench prints its numbers")]

#[cfg(feature = "mahler")]
mod mahler;
mod ours;

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use upbeat_bench::Failure;

const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];
/// A thousand slots, however they change.
const BOUND_MS: f64 = 10.0;
/// Linear is 1. What is looked up in a tree of all slots costs the logarithm of them; and ten slots are in
/// the processor's nearest cache, ten thousand in none that is its own.
const BOUND_EXPONENT: f64 = 1.25;
/// So long one plan of the peer may take.
const BUDGET: Duration = Duration::from_secs(10);

/// What changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    /// Nothing is there.
    Fresh,
    /// All run, and all are wanted of another image.
    UpdateAll,
    /// All run, and one in ten is wanted no more.
    DropSome,
    /// Nothing is there, and each depends on the one before.
    Chain,
}

impl Case {
    const ALL: [Self; 4] = [Self::Fresh, Self::UpdateAll, Self::DropSome, Self::Chain];

    fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::UpdateAll => "update-all",
            Self::DropSome => "drop-some",
            Self::Chain => "chain",
        }
    }

    /// Whom a service depends on: in tens, the one before; so that the last of each ten can be dropped.
    fn needs(self, service: usize) -> Option<usize> {
        let is_first = match self {
            Self::Chain => service == 0,
            _ => service.is_multiple_of(TEN),
        };
        (!is_first).then(|| service - 1)
    }

    fn drops(self, service: usize) -> bool {
        self == Self::DropSome && service % TEN == TEN - 1
    }
}

/// So many share a network.
const TEN: usize = 10;

fn main() -> Result<ExitCode, Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["ours", case, slots] => {
            println!("{}", ours::measure(named(case)?, slots.parse()?)?);
            Ok(ExitCode::SUCCESS)
        }
        #[cfg(feature = "mahler")]
        ["mahler", case, slots] => {
            println!("{}", mahler::measure(named(case)?, slots.parse()?)?);
            Ok(ExitCode::SUCCESS)
        }
        _ => table(),
    }
}

fn named(name: &str) -> Result<Case, Failure> {
    Case::ALL.into_iter().find(|case| case.name() == name).ok_or_else(|| "there is no such case".into())
}

fn table() -> Result<ExitCode, Failure> {
    let mut broken = Vec::new();
    println!("case        slots  steps  edges       plan   copied   ×    memory  a slot   mahler");
    for case in Case::ALL {
        let (mut times, mut memories) = (Vec::new(), Vec::new());
        for slots in SIZES {
            let found = apart("ours", case, slots, None)?.ok_or("a measurement without an end")?;
            let number = |key: &str| found[key].as_f64().ok_or_else(|| format!("no {key} in {found}"));
            let (plan, copied, bytes) = (number("plan_ms")?, number("copied_ms")?, number("bytes")?);
            println!(
                "{:10} {slots:>6} {:>6} {:>6} {plan:>7.3} ms {copied:>5.2} ms {:>4.1} {:>6.2} MB {:>5.0} B   {}",
                case.name(),
                number("steps")?,
                number("edges")?,
                plan / copied,
                bytes / 1e6,
                bytes / slots as f64,
                peer(case, slots, plan)?
            );
            if slots == 1_000 && plan > BOUND_MS {
                broken.push(format!("{} of {slots} slots: {plan:.1} ms of {BOUND_MS} ms", case.name()));
            }
            times.push((slots as f64, plan));
            // Less than a page each is not to be told from nothing.
            if slots >= 1_000 {
                memories.push((slots as f64, bytes));
            }
        }
        let (time, memory) = (exponent(&times), exponent(&memories));
        println!("{:10} growth exponent: time {time:.2}, memory {memory:.2}", case.name());
        if time > BOUND_EXPONENT || memory > BOUND_EXPONENT {
            broken.push(format!("{} grows with {time:.2}, {memory:.2} of {BOUND_EXPONENT}", case.name()));
        }
    }
    broken.iter().for_each(|what| println!("broken: {what}"));
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What this program says of one case in a process of its own. `None`: it took longer than it may.
fn apart(whose: &str, case: Case, slots: usize, budget: Option<Duration>) -> Result<Option<Value>, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([whose, case.name(), &slots.to_string()]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let begun = Instant::now();
    while child.try_wait()?.is_none() {
        if budget.is_some_and(|budget| begun.elapsed() > budget) {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(format!("{whose} {} {slots}: {}", case.name(), output.status).into());
    }
    Ok(Some(serde_json::from_slice(&output.stdout)?))
}

/// What the peer makes of the same.
fn peer(case: Case, slots: usize, plan: f64) -> Result<String, Failure> {
    if cfg!(not(feature = "mahler")) {
        return Ok("not built: `--features mahler`".to_owned());
    }
    let Some(found) = apart("mahler", case, slots, Some(BUDGET))? else {
        return Ok(format!("no plan within {} s", BUDGET.as_secs()));
    };
    let took = found["plan_ms"].as_f64().ok_or("no time of the peer")?;
    let memory = found["bytes"].as_f64().ok_or("no memory of the peer")? / 1e6;
    Ok(match found["failed"].as_str() {
        Some(why) => format!("{why}, after {took:.1} ms"),
        None => {
            let steps = &found["steps"];
            format!("{steps} steps, {took:.2} ms, {:.0} ×, {memory:.1} MB", took / plan)
        }
    })
}

/// The power with which the second grows with the first: least squares of the logarithms.
fn exponent(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let points: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let (x, y) = points.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
    let (x, y) = (x / count, y / count);
    let slope: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    slope / points.iter().map(|point| (point.0 - x).powi(2)).sum::<f64>()
}
