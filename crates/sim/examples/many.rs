//! Many seeds, for whoever looks for a fault: `many FROM TO [weeks] [show]`, `many bugs WITHIN`.
#![allow(clippy::unwrap_used)]
use upbeat_decide::rules::Bug;
use upbeat_sim::{Pace, run};
fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args[1] == "bugs" {
        for bug in Bug::ALL {
            let found = (0..args[2].parse().unwrap())
                .find_map(|seed| run(seed, Pace::Minutes, Some(*bug)).err().map(|broken| (seed, broken)));
            match found {
                Some((seed, broken)) => {
                    println!("{bug:?}: seed {seed}: {}", broken.what.chars().take(150).collect::<String>())
                }
                None => println!("{bug:?}: NOT FOUND"),
            }
        }
        return;
    }
    let (from, to): (u64, u64) = (args[1].parse().unwrap(), args[2].parse().unwrap());
    let pace = if args.get(3).is_some_and(|w| w == "weeks") { Pace::Weeks } else { Pace::Minutes };
    let show = args.get(4).is_some();
    let mut bad = 0;
    for seed in from..to {
        if let Err(broken) = run(seed, pace, None) {
            bad += 1;
            println!(
                "seed {seed} at {}: {}",
                broken.at - 1_000_000,
                broken.what.chars().take(1400).collect::<String>()
            );
            if show {
                println!("{}", broken.trace.join("\n"));
            }
        }
    }
    println!("{bad} bad");
}
