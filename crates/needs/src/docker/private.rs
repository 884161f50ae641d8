//! An engine of one's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Docker, START_PATIENCE, Started};

/// An engine of one's own, without a network, that may be killed and started again. Needs root.
#[derive(Debug)]
pub struct PrivateEngine {
    /// To speak with it.
    pub docker: Docker,
    program: Option<Started>,
    /// What it keeps is on a small disk of its own.
    has_disk: bool,
    dir: tempfile::TempDir,
}

impl PrivateEngine {
    /// Starts one, and waits until it answers.
    pub fn start() -> Self {
        let mut engine = Self::new();
        engine.start_again();
        engine
    }

    /// One that keeps all in memory, and no more than this: `64m`.
    pub fn on_small_disk(size: &str) -> Self {
        let mut engine = Self::new();
        fs::create_dir(engine.data()).unwrap_or_else(|error| panic!("its disk: {error}"));
        let options = format!("size={size},mode=0700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "upbeat-test"]).arg(engine.data());
        let mounted = mount.status().unwrap_or_else(|error| panic!("mount: {error}"));
        assert!(mounted.success(), "its disk: {mounted}");
        engine.has_disk = true;
        engine.start_again();
        engine
    }

    fn new() -> Self {
        // Its socket's path has at most 108 letters.
        let dir = tempfile::Builder::new()
            .prefix("ubdk")
            .tempdir_in("/tmp")
            .unwrap_or_else(|error| panic!("a directory: {error}"));
        fs::write(dir.path().join("daemon.json"), "{}").unwrap_or_else(|error| panic!("settings: {error}"));
        let docker = Docker { socket: dir.path().join("s") };
        Self { docker, program: None, has_disk: false, dir }
    }

    /// Where it keeps what it has.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Its first process.
    pub(super) fn pid(&self) -> u32 {
        self.program.as_ref().map_or(0, |program| program.child.id())
    }

    /// The directory that is its own.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts it after it was killed, and waits until it answers.
    pub fn start_again(&mut self) {
        let root = self.dir.path();
        let log = fs::File::options().create(true).append(true).open(root.join("log"));
        let log = log.unwrap_or_else(|error| panic!("its log: {error}"));
        let _ = fs::remove_file(root.join("pid"));
        // What it kept containers by has died with it, and may wait for somebody to notice.
        let _ = fs::remove_file(root.join("exec/containerd/containerd.pid"));
        // In a network of its own: one without a bridge removes that of the machine's engine.
        // There it can reach itself.
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "busybox ifconfig lo up && exec dockerd \"$@\"", "sh"]);
        command.arg("--config-file").arg(root.join("daemon.json"));
        command.arg("--data-root").arg(self.data()).arg("--exec-root").arg(root.join("exec"));
        command.arg("--pidfile").arg(root.join("pid")).arg("--host").arg(self.docker.host());
        command.args(["--bridge=none", "--iptables=false", "--ip6tables=false"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("dockerd: {error}"));
        self.program = Some(Started { child });
        let begun = Instant::now();
        let (_nobody, tells) = mpsc::channel::<()>();
        while !self.docker.answers() {
            let log = fs::read_to_string(root.join("log")).unwrap_or_default();
            assert!(begun.elapsed() < START_PATIENCE, "the engine does not answer:\n{log}");
            // Nobody tells that its socket is there: it is looked for so often.
            let _ = tells.recv_timeout(Duration::from_millis(20));
        }
    }

    /// Kills it, as `kill -9` does. What it runs, its keeper ends when it is started again.
    pub fn kill(&mut self) {
        self.program = None;
    }

    /// It stands still, and goes on.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = self.program.as_ref().and_then(|program| i32::try_from(program.child.id()).ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        if self.program.is_none() {
            self.start_again();
        }
        let all = self.docker.call("GET", "/containers/json?all=1", &Value::Null).1;
        for one in all.as_array().into_iter().flatten() {
            let id = one["Id"].as_str().unwrap_or_default();
            self.docker.call("DELETE", &format!("/containers/{id}?force=1"), &Value::Null);
        }
        self.signal(rustix::process::Signal::TERM);
        if let Some(program) = &mut self.program {
            let _ = program.child.wait();
        }
        if self.has_disk {
            // Also what is mounted in it still.
            let _ = Command::new("umount").args(["--lazy", "--recursive"]).arg(self.data()).status();
        }
    }
}
