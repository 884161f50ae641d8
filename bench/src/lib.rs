//! What the bench programs share: a daemon of their own, a clock, medians.
//!
//! Every program takes the path of a release `upbeat` as its first argument, or finds it beside
//! itself. Numbers are printed with the floor or peer they are measured against, in the same run.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A bench that cannot go on.
pub type Failure = Box<dyn std::error::Error>;

/// A home with a daemon of its own; taken down when dropped.
pub struct Home {
    dir: tempfile::TempDir,
    program: PathBuf,
}

impl Home {
    /// With this project file.
    pub fn with(file: &str) -> Result<Self, Failure> {
        let program = match std::env::args_os().nth(1) {
            Some(path) => PathBuf::from(path),
            None => std::env::current_exe()?.with_file_name("upbeat"),
        };
        if !program.is_file() {
            return Err(format!(
                "no `upbeat` at {}: build it, or name it as first argument",
                program.display()
            )
            .into());
        }
        let dir = tempfile::tempdir()?;
        let home = Self { dir, program: std::fs::canonicalize(program)? };
        home.write("upbeat.yaml", file)?;
        Ok(home)
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file.
    pub fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        Ok(std::fs::write(self.dir.path().join(name), text)?)
    }

    /// The command, ready to be run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env("UPBEAT_STATE_DIR", self.dir.path().join("state"))
            .env("UPBEAT_RUNTIME_DIR", self.dir.path().join("run"))
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end; its output. Errors: it ended badly.
    pub fn run(&self, arguments: &[&str]) -> Result<String, Failure> {
        let Output { stdout, stderr, status } = self.command(arguments).output()?;
        if !status.success() {
            return Err(
                format!("upbeat {arguments:?}: {status}\n{}", String::from_utf8_lossy(&stderr)).into()
            );
        }
        Ok(String::from_utf8(stdout)?)
    }

    /// How long a command takes.
    pub fn time(&self, arguments: &[&str]) -> Result<Duration, Failure> {
        let begun = Instant::now();
        self.run(arguments)?;
        Ok(begun.elapsed())
    }

    /// The daemon's process.
    pub fn daemon(&self) -> Result<i32, Failure> {
        let version: Value = serde_json::from_str(&self.run(&["version", "-o", "json"])?)?;
        version["daemon"]["pid"].as_i64().map(|pid| pid as i32).ok_or_else(|| "no daemon runs".into())
    }

    /// The slots, as `ps -o json` has them.
    pub fn slots(&self) -> Result<Vec<Value>, Failure> {
        let app: Value = serde_json::from_str(&self.run(&["ps", "-a", "-o", "json"])?)?;
        Ok(app["slots"].as_array().cloned().unwrap_or_default())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = self.run(&["down"]);
        if let Ok(pid) = self.daemon()
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }
}

/// Processes that are killed and reaped when dropped.
#[derive(Default)]
pub struct Flock(pub Vec<Child>);

impl Drop for Flock {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The floor: so many processes by a bare `posix_spawn` loop.
pub fn spawn_loop(count: usize) -> Result<(Duration, Flock), Failure> {
    let begun = Instant::now();
    let mut flock = Flock::default();
    for _ in 0..count {
        let mut command = Command::new("/bin/sleep");
        flock.0.push(command.arg("600").stdin(Stdio::null()).stdout(Stdio::null()).spawn()?);
    }
    Ok((begun.elapsed(), flock))
}

/// What this process has of memory now, in bytes.
pub fn resident() -> Result<u64, Failure> {
    of_memory("VmRSS:")
}

fn of_memory(field: &str) -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    Ok(line.unwrap_or_default().trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// How much more memory this process has at most, from some moment on.
pub struct Memory {
    before: u64,
}

impl Memory {
    /// From now on: the kernel forgets what there was at most until now.
    pub fn begin() -> Result<Self, Failure> {
        std::fs::write("/proc/self/clear_refs", "5")?;
        Ok(Self { before: resident()? })
    }

    /// In bytes, as pages are counted.
    pub fn at_most(&self) -> Result<u64, Failure> {
        Ok(of_memory("VmHWM:")?.saturating_sub(self.before))
    }
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The value so many of a hundred are not above.
pub fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let index = (values.len() * percent / 100).min(values.len().saturating_sub(1));
    values.get(index).copied().unwrap_or(f64::NAN)
}

/// Milliseconds.
pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// One field of a process' `smaps_rollup`, in kilobytes.
pub fn pss_kb(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find(|line| line.starts_with("Pss:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// A project of so many services that sleep.
pub fn sleepers(count: usize) -> String {
    let mut file = String::from("services:\n");
    for index in 0..count {
        file.push_str(&format!("  s{index}: {{ command: [/bin/sleep, \"600\"] }}\n"));
    }
    file
}

/// What a process has used of the CPU, in hundredths of a second.
pub fn cpu_ticks(pid: i32) -> Result<u64, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> =
        stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let field = |index: usize| fields.get(index).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    Ok(field(11) + field(12))
}
