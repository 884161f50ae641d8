//! A person's home for one journey: a project directory, a daemon of its own, and a broom.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// No step of a journey takes longer, even on a busy machine; what does has hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// A project directory with a daemon of its own. Dropping it takes everything down.
pub(crate) struct Home {
    dir: tempfile::TempDir,
    environment: BTreeMap<String, String>,
    /// Whose it is, if somebody else's.
    user: Option<u32>,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: i32,
}

impl Ran {
    /// It ended well.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// It ended with this code.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

impl Home {
    /// An empty one.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("upbeat-e2e-").tempdir().unwrap();
        fs::create_dir(dir.path().join("project")).unwrap();
        Self { dir, environment: BTreeMap::new(), user: None }
    }

    /// One with this project file.
    pub(crate) fn with(file: &str) -> Self {
        let home = Self::new();
        home.write("upbeat.yaml", file);
        home
    }

    /// Gives it to another user, who alone may enter it: every later command is that user's, and so is a
    /// daemon it starts. Only for root.
    pub(crate) fn give_to(&mut self, uid: u32) {
        for path in [self.dir.path(), &self.project()] {
            std::os::unix::fs::chown(path, Some(uid), Some(uid)).unwrap();
        }
        self.user = Some(uid);
    }

    /// The project's directory.
    pub(crate) fn project(&self) -> PathBuf {
        self.dir.path().join("project")
    }

    /// The daemon's state directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// A file outside of the project, for marks and markers.
    pub(crate) fn outside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Sets a variable for every later command, and for a daemon it starts.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.environment.insert(name.to_owned(), value.into());
    }

    /// No longer sets it.
    pub(crate) fn unset(&mut self, name: &str) {
        self.environment.remove(name);
    }

    /// Writes a file of the project.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.project().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Reads a file of the project; empty when it is not there yet.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.project().join(name)).unwrap_or_default()
    }

    /// The command, ready to be run.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.here(env!("CARGO_BIN_EXE_upbeat"));
        command.args(arguments);
        command
    }

    /// A script for bash, ready to be run as a command would be.
    pub(crate) fn shell(&self, script: &str) -> Command {
        let mut command = self.here("bash");
        command.args(["-c", script]);
        command
    }

    fn here(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.project())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("UPBEAT_STATE_DIR", self.state())
            .env("UPBEAT_RUNTIME_DIR", self.dir.path().join("run"))
            .envs(&self.environment)
            .stdin(Stdio::null());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        let Output { stdout, stderr, status } = self.command(arguments).output().unwrap();
        Ran {
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
            code: status.code().unwrap_or(-1),
        }
    }

    /// Starts it and leaves it running; its output can be read line by line.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Running {
        Running::of(self.command(arguments).stderr(Stdio::piped()))
    }

    /// The app, as `ps -o json` has it.
    #[track_caller]
    pub(crate) fn app(&self) -> Value {
        let ran = self.run(&["ps", "-a", "-o", "json"]).ok();
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stdout))
    }

    /// The slots by their short names: `web-1`.
    #[track_caller]
    pub(crate) fn slots(&self) -> BTreeMap<String, Value> {
        let app = self.app();
        let slots = app["slots"].as_array().cloned().unwrap_or_default();
        slots.into_iter().map(|slot| (short(slot["slot"].as_str().unwrap()), slot)).collect()
    }

    /// The phase of a slot.
    #[track_caller]
    pub(crate) fn phase(&self, slot: &str) -> String {
        let slots = self.slots();
        let found = slots.get(slot).unwrap_or_else(|| panic!("no slot {slot} in {:?}", slots.keys()));
        found["phase"].as_str().unwrap().to_owned()
    }

    /// The main process of a slot.
    #[track_caller]
    pub(crate) fn pid(&self, slot: &str) -> i32 {
        let slots = self.slots();
        slots[slot]["pid"].as_i64().unwrap_or_else(|| panic!("{slot} has no process: {:?}", slots[slot]))
            as i32
    }

    /// The daemon, if one answers.
    pub(crate) fn daemon(&self) -> Option<i32> {
        let ran = self.run(&["version", "-o", "json"]);
        let version: Value = serde_json::from_str(&ran.stdout).ok()?;
        version["daemon"]["pid"].as_i64().map(|pid| pid as i32)
    }

    /// Kills the daemon as `kill -9` does, and waits until it is gone.
    #[track_caller]
    pub(crate) fn kill_daemon(&self) {
        let pid = self.daemon().expect("a daemon runs");
        kill(pid, 9);
        eventually("the daemon is gone", || !is_alive(pid));
    }

    /// Processes that carry the mark of a slot of this home.
    pub(crate) fn leftovers(&self) -> Vec<(i32, String)> {
        let mark = self.dir.path().display().to_string();
        processes()
            .filter(|pid| {
                let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
                let text = [read("environ"), read("cmdline")].concat();
                String::from_utf8_lossy(&text).contains(&mark)
                    || fs::read_link(format!("/proc/{pid}/cwd"))
                        .is_ok_and(|cwd| cwd.starts_with(self.dir.path()))
            })
            .map(|pid| (pid, fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default()))
            .collect()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Whatever the journey did: nothing of it stays. The daemon first, so that it restarts
        // nothing; then shims and services, found by where they live.
        if let Some(pid) = self.daemon() {
            kill(pid, 9);
        }
        for _ in 0..50 {
            let left = self.leftovers();
            if left.is_empty() {
                return;
            }
            for (pid, _) in left {
                kill(pid, 9);
            }
            pause();
        }
    }
}

/// A command that runs on.
pub(crate) struct Running {
    pub(crate) child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Running {
    /// Starts it.
    pub(crate) fn of(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// The next line it prints; none when it has closed its output.
    pub(crate) fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).unwrap();
        (read > 0).then(|| line.trim_end_matches('\n').to_owned())
    }

    /// Reads lines until one matches.
    #[track_caller]
    pub(crate) fn until(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        let mut seen = Vec::new();
        while let Some(line) = self.line() {
            if wanted(&line) {
                return line;
            }
            seen.push(line);
        }
        panic!("its output ended without the line; it said:\n{}", seen.join("\n"));
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: i32) {
        kill(self.child.id() as i32, signal);
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ran {
        let mut stdout = String::new();
        std::io::Read::read_to_string(&mut self.lines, &mut stdout).unwrap();
        let output = self.child.wait_with_output().unwrap();
        Ran {
            stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code().unwrap_or(-1),
        }
    }
}

/// `app/web/2` → `web-2`.
fn short(slot: &str) -> String {
    let parts: Vec<&str> = slot.split('/').collect();
    format!("{}-{}", parts[1], parts[2])
}

/// All processes of the machine.
pub(crate) fn processes() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Whether a process is there and not a zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with(['Z', 'X']))
}

/// Which signals a process ignores.
pub(crate) fn ignored_signals(pid: u32) -> Vec<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim();
    let mask = u64::from_str_radix(mask, 16).unwrap();
    (1..=64).filter(|signal| mask >> (signal - 1) & 1 == 1).collect()
}

/// Sends a signal; one that is gone already is fine.
pub(crate) fn kill(pid: i32, signal: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let signal = rustix::process::Signal::from_named_raw(signal).unwrap();
    let _ = rustix::process::kill_process(pid, signal);
}

/// Looks until it is so. For facts of the outside world that announce themselves to nobody.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "after {PATIENCE:?} it is still not so that {what}");
        pause();
    }
}

fn pause() {
    let (_sender, receiver) = std::sync::mpsc::channel::<()>();
    let _ = receiver.recv_timeout(Duration::from_millis(10));
}

/// The lines of a file, if it is there.
pub(crate) fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}
