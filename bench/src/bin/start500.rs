//! 500 independent processes, output captured: `upbeat up` against a bare spawn loop, and against
//! s6, runit and supervisord where they are installed (`scripts/bench-peers`).
#![expect(clippy::print_stdout, reason = "a bench prints its numbers")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use upbeat_bench::{Failure, Flock, Home, median, ms, sleepers, spawn_loop};

const COUNT: usize = 500;
const ROUNDS: usize = 5;

/// A peer that does not get there in so long is given up.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Failure> {
    let (mut floor, mut ours, mut down) = (Vec::new(), Vec::new(), Vec::new());
    let home = Home::with(&sleepers(COUNT))?;
    home.run(&["plan"])?;
    for _ in 0..ROUNDS {
        floor.push(ms(spawn_loop(COUNT)?.0));
        ours.push(ms(home.time(&["up", "-d"])?));
        let running = home.slots()?.iter().filter(|slot| slot["phase"] == "running").count();
        if running != COUNT {
            return Err(format!("only {running} of {COUNT} run").into());
        }
        down.push(ms(home.time(&["down"])?));
    }
    let floor = median(floor);
    println!("{COUNT} processes, median of {ROUNDS} rounds");
    println!("spawn loop        {floor:8.1} ms   1.0 ×");
    let ours = median(ours);
    println!("upbeat up -d      {ours:8.1} ms   {:.1} ×", ours / floor);
    let down = median(down);
    println!("upbeat down       {down:8.1} ms   {:.1} ×", down / floor);
    for (name, program, peer) in PEERS {
        if !in_path(program) {
            println!("{name:<17} not installed");
            continue;
        }
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            times.push(ms(peer()?));
        }
        let time = median(times);
        println!("{name:<17} {time:8.1} ms   {:.1} ×", time / floor);
    }
    Ok(())
}

type Peer = (&'static str, &'static str, fn() -> Result<Duration, Failure>);

const PEERS: &[Peer] = &[
    ("s6 with loggers", "s6-svscan", s6),
    ("runit, loggers", "runsvdir", runit),
    ("supervisord", "supervisord", supervisord),
];

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

fn script(path: &Path, text: &str) -> Result<(), Failure> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(path, format!("#!/bin/sh\n{text}\n"))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

/// Sleeps of this bench: told from others by their argument.
fn sleeping(seconds: &str) -> usize {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let wanted = [b"sleep\0", seconds.as_bytes(), b"\0"].concat();
    entries
        .filter(|entry| fs::read(entry.path().join("cmdline")).is_ok_and(|line| line.ends_with(&wanted)))
        .count()
}

/// Starts a supervisor and waits until all its services sleep; then ends it and them.
fn measure(mut supervisor: Command, seconds: &str) -> Result<Duration, Failure> {
    let begun = Instant::now();
    let _flock =
        Flock(vec![supervisor.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?]);
    while sleeping(seconds) < COUNT {
        if begun.elapsed() > PATIENCE {
            return Err(format!("a peer started only {} of {COUNT}", sleeping(seconds)).into());
        }
    }
    let elapsed = begun.elapsed();
    drop(_flock);
    for name in ["s6-supervise", "s6-log", "runsv", "svlogd"] {
        Command::new("pkill").args(["-9", "-x", name]).status()?;
    }
    Command::new("pkill").args(["-9", "-f", &format!("sleep {seconds}$")]).status()?;
    Ok(elapsed)
}

fn s6() -> Result<Duration, Failure> {
    let dir = tempfile::tempdir()?;
    for index in 0..COUNT {
        let service = dir.path().join(format!("s{index}"));
        script(&service.join("run"), "exec 2>&1\nexec sleep 7101")?;
        script(&service.join("log/run"), "mkdir -p main\nexec s6-log main")?;
    }
    let mut command = Command::new("s6-svscan");
    command.args(["-c", "2000"]).arg(dir.path());
    measure(command, "7101")
}

fn runit() -> Result<Duration, Failure> {
    let dir = tempfile::tempdir()?;
    for index in 0..COUNT {
        let service = dir.path().join(format!("s{index}"));
        script(&service.join("run"), "exec 2>&1\nexec sleep 7102")?;
        script(&service.join("log/run"), "mkdir -p main\nexec svlogd main")?;
    }
    let mut command = Command::new("runsvdir");
    command.arg(dir.path());
    measure(command, "7102")
}

fn supervisord() -> Result<Duration, Failure> {
    let dir = tempfile::tempdir()?;
    let at = dir.path().display();
    let mut text = format!(
        "[supervisord]\nnodaemon=true\nlogfile={at}/log\npidfile={at}/pid\nchildlogdir={at}\nminfds=4096\n"
    );
    for index in 0..COUNT {
        text.push_str(&format!("[program:s{index}]\ncommand=sleep 7103\n"));
    }
    fs::write(dir.path().join("conf"), text)?;
    let mut command = Command::new("supervisord");
    command.arg("-c").arg(dir.path().join("conf"));
    measure(command, "7103")
}
