//! Finds the daemon, or starts it.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use upbeat_api::{Client, ClientError};

use super::Dirs;

/// A daemon that lost the race to be the one waits so long for the other to answer, in steps.
const WAIT_FOR_WINNER: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(20);

/// What the daemon writes when it answers, to whoever started it.
pub(super) const READY: &str = "ready\n";

/// Why there is no daemon to talk to.
#[derive(Debug, thiserror::Error)]
pub enum EnsureError {
    /// This program's own file cannot be found.
    #[error("the daemon cannot be started: this program's own file is not to be found")]
    Executable(#[source] std::io::Error),
    /// A directory or file could not be made.
    #[error("the daemon cannot be started")]
    Create(#[source] std::io::Error),
    /// It was started and ended at once.
    #[error("the daemon ended before it was ready; its log is {log}\n{last}", log = log.display())]
    Ended {
        /// Where it says why.
        log: PathBuf,
        /// Its last lines.
        last: String,
    },
    /// It does not answer as it should.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// A client of the daemon for these directories, which is started if it does not run.
pub async fn ensure(dirs: &Dirs) -> Result<Client, EnsureError> {
    let client = Client::new(dirs.socket())?;
    match client.version().await {
        Ok(_) => return Ok(client),
        Err(ClientError::NotRunning { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    dirs.create().map_err(EnsureError::Create)?;
    let dirs_of_daemon = dirs.clone();
    let started = tokio::task::spawn_blocking(move || start(&dirs_of_daemon)).await;
    let is_ready = started.map_err(|error| EnsureError::Create(std::io::Error::other(error)))??;
    if is_ready {
        return Ok(client);
    }
    // Either it failed, or another client was faster and its daemon has the lock: then that one
    // answers in a moment.
    for _ in 0..WAIT_FOR_WINNER.as_millis() / STEP.as_millis() {
        match client.version().await {
            Ok(_) => return Ok(client),
            Err(ClientError::NotRunning { .. }) if lock_is_held(dirs) => tokio::time::sleep(STEP).await,
            Err(ClientError::NotRunning { .. }) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Err(EnsureError::Ended { log: dirs.log(), last: last_lines(dirs) })
}

/// Starts the daemon in a session of its own (it makes that itself) and waits until it says that
/// it is ready, or is no more.
fn start(dirs: &Dirs) -> Result<bool, EnsureError> {
    let program = std::env::current_exe().map_err(EnsureError::Executable)?;
    let log = private_log(dirs).map_err(EnsureError::Create)?;
    let mut child = Command::new(program)
        .args(["serve", "--announce"])
        .env("UPBEAT_STATE_DIR", &dirs.state)
        .env("UPBEAT_RUNTIME_DIR", &dirs.runtime)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(EnsureError::Create)?;
    let mut said = String::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(READY.len() as u64).read_to_string(&mut said).map_err(EnsureError::Create)?;
    }
    if said == READY {
        return Ok(true);
    }
    child.wait().map_err(EnsureError::Create)?;
    Ok(false)
}

fn private_log(dirs: &Dirs) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    /// A daemon's own log is short; what an earlier one wrote is of use for so long.
    const KEEP: u64 = 1024 * 1024;
    let path = dirs.log();
    let too_long = std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() > KEEP);
    std::fs::OpenOptions::new()
        .create(true)
        .append(!too_long)
        .write(true)
        .truncate(too_long)
        .mode(0o600)
        .open(path)
}

fn lock_is_held(dirs: &Dirs) -> bool {
    use rustix::fs::{FlockOperation, flock};
    let Ok(file) = std::fs::File::open(dirs.lock()) else { return false };
    flock(&file, FlockOperation::NonBlockingLockShared).is_err()
}

fn last_lines(dirs: &Dirs) -> String {
    const LINES: usize = 10;
    let text = std::fs::read(dirs.log()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
