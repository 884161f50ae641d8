use upbeat_sim::{Pace, run};
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let (from, to): (u64, u64) = (args[1].parse().unwrap(), args[2].parse().unwrap());
    let pace = if args.get(3).is_some_and(|w| w == "weeks") { Pace::Weeks } else { Pace::Minutes };
    let show = args.get(4).is_some();
    let mut bad = 0;
    for seed in from..to {
        if let Err(broken) = run(seed, pace, None) {
            bad += 1;
            println!("seed {seed} at {}: {}", broken.at - 1_000_000, broken.what.chars().take(400).collect::<String>());
            if show { println!("{}", broken.trace.join("\n")); }
        }
    }
    println!("{bad} bad");
}
