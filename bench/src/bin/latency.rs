//! How late: a dependency ready → its dependent exec'd; a process killed → its next exec; a daemon
//! started → its first answer.
#![expect(clippy::print_stdout, reason = "a bench prints its numbers")]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use upbeat_bench::{Failure, Home, median, ms, percentile};

const CHAIN: usize = 100;
const KILLED: usize = 50;
const ROUNDS: usize = 5;

fn main() -> Result<(), Failure> {
    chain()?;
    restart()?;
    first_answer()
}

/// Each link notes when it runs, says that it is ready, and notes when it said so.
const LINK: &str = "date +%s%N > $1.begun\necho ready\nexec sleep 600\n";

/// The time from one link's first instruction to the next one's: it holds a shell, a `date`, the
/// log, the match, the commit and the start; the floor is the same link run by a bare loop.
fn chain() -> Result<(), Failure> {
    let mut file = String::from("services:\n");
    for index in 0..CHAIN {
        file.push_str(&format!("  s{index:03}:\n    command: [/bin/sh, link.sh, s{index:03}]\n    healthcheck: {{ log: ready }}\n"));
        if let Some(before) = index.checked_sub(1) {
            file.push_str(&format!("    depends_on: {{ s{before:03}: {{ condition: service_healthy }} }}\n"));
        }
    }
    let home = Home::with(&file)?;
    home.write("link.sh", LINK)?;
    home.run(&["plan"])?;
    let mut floor = Vec::new();
    for _ in 0..CHAIN {
        let begun = Instant::now();
        let status = Command::new("/bin/sh")
            .args(["-c", "date +%s%N > /dev/null; echo ready"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()?;
        if !status.success() {
            return Err("the floor failed".into());
        }
        floor.push(ms(begun.elapsed()));
    }
    let mut edges = Vec::new();
    for _ in 0..ROUNDS {
        home.run(&["up", "-d", "--wait"])?;
        let begun = |index: usize| -> Result<f64, Failure> {
            let text = std::fs::read_to_string(home.path().join(format!("s{index:03}.begun")))?;
            Ok(text.trim().parse::<u64>()? as f64 / 1e6)
        };
        for index in 1..CHAIN {
            edges.push(begun(index)? - begun(index - 1)?);
        }
        home.run(&["down"])?;
    }
    let floor = median(floor);
    println!("chain of {CHAIN} by log line, {} edges", edges.len());
    println!("the link alone    {floor:8.2} ms");
    println!("per edge          {:8.2} ms p50, {:.2} ms p99", percentile(&edges, 50), percentile(&edges, 99));
    println!(
        "added per edge    {:8.2} ms p50, {:.2} ms p99",
        percentile(&edges, 50) - floor,
        percentile(&edges, 99) - floor
    );
    Ok(())
}

/// The notes tell the time; looking for them must not take it.
const LOOK: Duration = Duration::from_millis(1);

/// Notes when it runs.
const AGAIN: &str = "date +%s%N > $1.begun\nexec sleep 600\n";

/// The wall clock, as `date` has it.
fn now() -> Result<u64, Failure> {
    Ok(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos() as u64)
}

fn restart() -> Result<(), Failure> {
    let mut file = String::from("services:\n");
    for index in 0..KILLED {
        file.push_str(&format!(
            "  s{index:03}: {{ command: [/bin/sh, again.sh, s{index:03}], restart: always }}\n"
        ));
    }
    let home = Home::with(&file)?;
    home.write("again.sh", AGAIN)?;
    home.run(&["up", "-d", "--wait"])?;
    let mut times = Vec::new();
    for slot in home.slots()? {
        let pid = slot["pid"].as_i64().and_then(|pid| rustix::process::Pid::from_raw(pid as i32));
        let Some(pid) = pid else { return Err("a slot does not run".into()) };
        let name =
            slot["slot"].as_str().and_then(|slot| slot.split('/').nth(1)).unwrap_or_default().to_owned();
        let note = home.path().join(format!("{name}.begun"));
        let read = || std::fs::read_to_string(&note).ok().and_then(|text| text.trim().parse::<u64>().ok());
        let begun = Instant::now();
        while read().is_none() && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(LOOK);
        }
        let before = read().unwrap_or(0);
        let killed = now()?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
        let again = loop {
            match read() {
                Some(at) if at != before => break at,
                _ if begun.elapsed() > Duration::from_secs(20) => {
                    return Err("it was not started again".into());
                }
                _ => std::thread::sleep(LOOK),
            }
        };
        times.push((again as f64 - killed as f64) / 1e6);
    }
    let mut floor = Vec::new();
    for _ in 0..KILLED {
        let begun = now()?;
        let mut child = Command::new("/bin/sh")
            .args(["again.sh", "floor"])
            .current_dir(home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let note = home.path().join("floor.begun");
        let at = loop {
            match std::fs::read_to_string(&note).ok().and_then(|text| text.trim().parse::<u64>().ok()) {
                Some(at) if at > begun => break at,
                _ => std::thread::sleep(LOOK),
            }
        };
        floor.push((at - begun) as f64 / 1e6);
        child.kill()?;
        child.wait()?;
    }
    println!("kill → next instruction of the successor, {KILLED} services, one after the other");
    println!("a bare spawn      {:8.2} ms p50, {:.2} ms p99", percentile(&floor, 50), percentile(&floor, 99));
    println!("upbeat            {:8.2} ms p50, {:.2} ms p99", percentile(&times, 50), percentile(&times, 99));
    Ok(())
}

fn first_answer() -> Result<(), Failure> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let home = Home::with("services: { s: { command: [\"true\"] } }\n")?;
        // Starts the daemon, asks it, and prints the answer.
        times.push(ms(home.time(&["plan"])?));
    }
    println!("no daemon → started, asked, answered (a new home each)");
    println!("upbeat plan       {:8.2} ms p50", median(times));
    Ok(())
}
