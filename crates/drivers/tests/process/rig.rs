//! A driver with a directory of its own, and what tests ask of it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::Receiver;
use upbeat_drivers::cgroups::OF_THIS_PROCESS;
use upbeat_drivers::logs::{Reader, watch_for};
use upbeat_drivers::process::{
    Launch, Observation, Places, ProcessDriver, ProcessEvent, Rights, ShimProgram, StartError, Started, Stdio,
};
use upbeat_drivers::watch::Watches;
use upbeat_model::project::{Resources, Signal as StopSignal};
use upbeat_model::{Attempt, Exit, Millis, SlotId};

/// Nothing here takes longer, even on a busy machine; what does has hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Longer than [`PATIENCE`]: what ends sooner was not waited for.
pub(crate) const FOREVER: Millis = Millis(600_000);

/// A directory, which outlives the drivers that are made for it.
pub(crate) struct Place {
    dir: tempfile::TempDir,
    slots: PathBuf,
    private: PathBuf,
    process: PathBuf,
}

impl Place {
    /// Its slots' paths are longer than the address of a socket may be.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("upbeat-driver-").tempdir().unwrap();
        let slots = dir.path().join("long".repeat(40)).join("slots");
        let private = dir.path().join("private");
        Self { dir, slots, private, process: OF_THIS_PROCESS.into() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// What is marked so is ended with this.
    pub(crate) fn mark(&self) -> String {
        self.slots.join("a-test").display().to_string()
    }

    /// A file for services to write to or to read from.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Lets services wait for a line, and tests for the service to wait for it.
    pub(crate) fn fifo(&self, name: &str) -> PathBuf {
        let path = self.file(name);
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        path
    }

    /// Moves the slots, to a disk of their own.
    pub(crate) fn with_slots_in(mut self, dir: PathBuf) -> Self {
        self.slots = dir;
        self
    }

    /// Lets every user pass through, as through `/run`, or none, as through the state of a daemon.
    pub(crate) fn let_through(&self, lets: bool) {
        use std::os::unix::fs::PermissionsExt;
        let mode = if lets { 0o711 } else { 0o700 };
        std::fs::set_permissions(self.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// What there is of private files, of whatever slot.
    pub(crate) fn private(&self) -> Vec<PathBuf> {
        let listed = std::fs::read_dir(&self.private).into_iter().flatten();
        listed.map(|entry| entry.unwrap().path()).collect()
    }

    /// Has the kernel tell something else of this process.
    pub(crate) fn with_process(mut self, dir: PathBuf) -> Self {
        self.process = dir;
        self
    }

    /// The same for private files.
    pub(crate) fn with_private_in(mut self, dir: PathBuf) -> Self {
        self.private = dir;
        self
    }

    /// A driver, as a daemon has one. Dropping what this runs is the daemon's end: nothing of it is
    /// closed down in order.
    pub(crate) fn daemon<T>(&self, life: impl AsyncFnOnce(Rig<'_>) -> T) -> T {
        self.daemon_with(&[], life)
    }

    /// The same with variables for the zygote.
    pub(crate) fn daemon_with<T>(&self, variables: &[String], life: impl AsyncFnOnce(Rig<'_>) -> T) -> T {
        let mut args: Vec<OsString> = variables.iter().map(OsString::from).collect();
        args.extend([std::env::current_exe().unwrap().into(), "zygote".into()]);
        let program = ShimProgram { path: "/usr/bin/env".into(), args };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(async {
            let places = Places {
                slots: self.slots.clone(),
                private: self.private.clone(),
                process: self.process.clone(),
            };
            let (driver, events) = ProcessDriver::new(program, places).unwrap();
            let rig = Rig { place: self, driver, events };
            tokio::time::timeout(2 * PATIENCE, life(rig)).await.expect("it has hung")
        });
        Runtime::shutdown_background(runtime);
        outcome
    }

    /// Returns when no shim holds the slot.
    pub(crate) fn wait_until_free(&self, slot: &str) {
        let lock = std::fs::File::open(self.slots.join(slot).join("lock")).unwrap();
        flock(&lock, FlockOperation::LockShared).unwrap();
    }
}

/// Ends whatever a failed test has left running.
impl Drop for Place {
    fn drop(&mut self) {
        let mark = format!("UPBEAT_INSTANCE={}", self.slots.display());
        for pid in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let environment = std::fs::read(pid.path().join("environ")).unwrap_or_default();
            let is_ours =
                environment.split(|byte| *byte == 0).any(|entry| entry.starts_with(mark.as_bytes()));
            if let Some(pid) = pid.file_name().to_str().and_then(|pid| pid.parse().ok()).filter(|_| is_ours) {
                kill(pid);
            }
        }
        if let Ok(group) = std::fs::read_link(self.slots.join("app/web/1/cgroup")) {
            let _ = std::fs::write(group.join("cgroup.kill"), "1");
        }
    }
}

/// A small disk. Unmounted when dropped.
pub(crate) struct Disk(pub(crate) PathBuf);

impl Disk {
    /// Of so many KiB.
    pub(crate) fn mount(place: &Place, size: u32) -> Self {
        let dir = place.file("disk");
        std::fs::create_dir(&dir).unwrap();
        let size = format!("size={size}k");
        let options = ["-t", "tmpfs", "-o", &size, "upbeat-test"];
        assert!(Command::new("mount").args(options).arg(&dir).status().unwrap().success());
        Self(dir)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A daemon's view.
pub(crate) struct Rig<'a> {
    pub(crate) place: &'a Place,
    pub(crate) driver: ProcessDriver,
    events: Receiver<ProcessEvent>,
}

impl Rig<'_> {
    /// What runs a shell script. `$SELF` is this program.
    pub(crate) fn script(&self, script: &str) -> Launch {
        let own = std::env::current_exe().unwrap();
        let environment = BTreeMap::from([
            ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned()),
            ("SELF".to_owned(), own.display().to_string()),
        ]);
        Launch {
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            environment,
            working_dir: self.place.path().display().to_string(),
            user: None,
            rights: Rights::default(),
            stdio: Stdio::Plain,
            files: Vec::new(),
            resources: Resources::default(),
            notify: None,
            log_max_size: 10 << 20,
            log_max_files: 5,
        }
    }

    pub(crate) async fn start(&self, slot: &str, attempt: u64, script: &str) -> Started {
        self.try_start(slot, attempt, &self.script(script)).await.unwrap()
    }

    pub(crate) async fn try_start(
        &self,
        slot: &str,
        attempt: u64,
        launch: &Launch,
    ) -> Result<Started, StartError> {
        self.driver.start(&id(slot), Attempt(attempt), launch).await
    }

    pub(crate) async fn stop(&self, slot: &str, attempt: u64, signal: i32, grace: Millis) {
        self.driver.stop(&id(slot), Attempt(attempt), StopSignal(signal), grace).await.unwrap();
    }

    pub(crate) async fn observe(&self, slot: &str) -> Observation {
        self.driver.observe(&id(slot), Attempt(0)).await.unwrap()
    }

    /// The next event.
    pub(crate) async fn event(&mut self) -> ProcessEvent {
        tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("no event came").unwrap()
    }

    /// The next event, which is this attempt's end.
    pub(crate) async fn exit(&mut self, slot: &str, attempt: u64) -> Exit {
        match self.event().await {
            ProcessEvent::Exited { slot: seen, attempt: which, exit, .. } => {
                assert_eq!((seen, which), (id(slot), Attempt(attempt)));
                exit
            }
            other => panic!("{other:?}"),
        }
    }

    /// Returns when a line of output matches; the line.
    pub(crate) async fn says(&self, slot: &str, pattern: &str) -> String {
        let dir = self.driver.log_dir(&id(slot));
        let watches = Watches::new().unwrap();
        tokio::time::timeout(PATIENCE, watch_for(&watches, &dir, 1, pattern))
            .await
            .expect("it said no such thing")
            .unwrap()
    }

    /// Everything it has printed, without the numbers of records.
    pub(crate) fn lines(&self, slot: &str) -> Vec<String> {
        self.records(slot).into_iter().map(|(_, text)| text).collect()
    }

    /// Everything it has printed.
    pub(crate) fn records(&self, slot: &str) -> Vec<(u64, String)> {
        let mut reader = Reader::from(&self.driver.log_dir(&id(slot)), 1);
        let mut records = Vec::new();
        loop {
            let lines = reader.read().unwrap();
            if lines.is_empty() {
                return records;
            }
            records.extend(lines.into_iter().map(|l| (l.sequence, String::from_utf8(l.text).unwrap())));
        }
    }
}

/// For [`Place::daemon_with`]: becomes the zygote, `"$@"`, by a script.
pub(crate) fn zygote_by(script: &str) -> [String; 4] {
    ["sh", "-c", script, "sh"].map(str::to_owned)
}

pub(crate) fn id(slot: &str) -> SlotId {
    slot.parse().unwrap()
}

/// A number a service has printed.
pub(crate) fn number(line: &str) -> i32 {
    line.trim().parse().unwrap()
}

pub(crate) fn kill(pid: i32) {
    signal(pid, Signal::KILL);
}

/// Gone is as good.
pub(crate) fn signal(pid: i32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
}

/// It exists and is no zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != "Z")
}

/// It exists, if only as a zombie.
pub(crate) fn is_there(pid: i32) -> bool {
    stat(pid).is_some()
}

/// Somebody has stopped it.
pub(crate) fn is_stopped(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state == "T")
}

pub(crate) fn parent(pid: i32) -> i32 {
    stat(pid).unwrap().1
}

fn stat(pid: i32) -> Option<(String, i32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    Some((fields.next().unwrap().to_owned(), fields.next().unwrap().parse().unwrap()))
}

/// Returns when something about another process has become true.
pub(crate) async fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(2));
    let all = tokio::time::timeout(PATIENCE, async {
        while !is_true() {
            looks.tick().await;
        }
    });
    all.await.unwrap_or_else(|_| panic!("it never came true: {what}"));
}
