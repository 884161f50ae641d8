//! Finds the daemon, or starts it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use upbeat_api::{Client, ClientError};

use super::{Dirs, is_starting};
use crate::exit::ExitCode;

/// A daemon that ends gives those it talks to five seconds; after so long it is stuck.
const PREDECESSOR: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(50);

/// A daemon is ready within milliseconds; one that repairs its store after a power cut, within seconds.
pub const READY_PATIENCE: Duration = Duration::from_secs(60);

/// A daemon's own log is short. One that is longer begins anew.
pub const LOG_MAX: u64 = 1024 * 1024;

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
    #[error("the daemon did not get ready; its log is `{}`", log.display())]
    Ended {
        /// Where it says why.
        log: PathBuf,
        /// What it said last. Not what was said by others before.
        last: Vec<String>,
    },
    /// It is still at reading what was kept, and will answer.
    #[error("the daemon is starting, and does not answer yet")]
    Starting {
        /// Where it says how that goes.
        log: PathBuf,
    },
    /// It does not answer as it should.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// A client of the daemon for these directories, which is started if it does not run.
pub async fn ensure(dirs: &Dirs) -> Result<Client, EnsureError> {
    let client = Client::new(dirs.socket());
    if answers(&client).await? {
        return Ok(client);
    }
    dirs.create().map_err(EnsureError::Create)?;
    let begun = Instant::now();
    loop {
        let dirs_of_daemon = dirs.clone();
        let started = tokio::task::spawn_blocking(move || start(&dirs_of_daemon)).await;
        let (started, said_from) =
            started.map_err(|error| EnsureError::Create(std::io::Error::other(error)))??;
        let failed = || EnsureError::Ended { log: dirs.log(), last: last_lines(&dirs.log(), said_from) };
        let is_there = match started {
            Started::Ready => true,
            // Another client was faster, and its daemon answers in a moment; or the one before is on
            // its way out. Or ours takes long.
            Started::NotAlone | Started::GoesOn => awaited(dirs, &client, begun + READY_PATIENCE).await?,
            Started::Failed => return Err(failed()),
        };
        if is_there {
            return Ok(client);
        }
        match patience(is_starting(dirs), begun.elapsed()) {
            Patience::Lasts => tokio::time::sleep(STEP).await,
            Patience::EndsWhileStarting => return Err(EnsureError::Starting { log: dirs.log() }),
            Patience::Ends => return Err(failed()),
        }
    }
}

/// Whether a daemon is waited for that does not answer.
#[derive(Debug, PartialEq, Eq)]
enum Patience {
    Lasts,
    /// It goes on with what it is at, and answers later.
    EndsWhileStarting,
    /// There is none that gets ready.
    Ends,
}

fn patience(is_starting: bool, waited: Duration) -> Patience {
    match is_starting {
        true if waited >= READY_PATIENCE => Patience::EndsWhileStarting,
        false if waited >= PREDECESSOR => Patience::Ends,
        _ => Patience::Lasts,
    }
}

/// Whether it answers; asked again as long as there is one that is starting, and until then.
async fn awaited(dirs: &Dirs, client: &Client, until: Instant) -> Result<bool, EnsureError> {
    loop {
        // Looked at first: it answers before it says that it is no longer starting.
        let waits = is_starting(dirs) && Instant::now() < until;
        if answers(client).await? {
            return Ok(true);
        }
        if !waits {
            return Ok(false);
        }
        tokio::time::sleep(STEP).await;
    }
}

/// No daemon answers there, or the one there is on its way out.
pub async fn is_gone(client: &Client) -> bool {
    matches!(answers(client).await, Ok(false))
}

async fn answers(client: &Client) -> Result<bool, EnsureError> {
    match client.version().await {
        Ok(_) => Ok(true),
        Err(
            ClientError::NotRunning { .. }
            | ClientError::ShuttingDown { .. }
            | ClientError::Interrupted { .. },
        ) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What became of a daemon that was started.
enum Started {
    /// It answers.
    Ready,
    /// It ended, because there is another one.
    NotAlone,
    /// It has neither ended nor got ready within [`READY_PATIENCE`].
    GoesOn,
    /// It ended, for a reason that its log tells.
    Failed,
}

/// Starts the daemon. Returns where in its log begins what it says, besides.
fn start(dirs: &Dirs) -> Result<(Started, u64), EnsureError> {
    let (log, length) = private_log(dirs).map_err(EnsureError::Create)?;
    Ok((launch(dirs, log)?, length))
}

/// Starts the daemon in a session of its own (it makes that itself) and waits until it says that
/// it is ready, or is no more.
fn launch(dirs: &Dirs, log: File) -> Result<Started, EnsureError> {
    let program = std::env::current_exe().map_err(EnsureError::Executable)?;
    let mut child = Command::new(program)
        .args(["serve", "--announce"])
        .env("UPBEAT_STATE_DIR", &dirs.state)
        .env("UPBEAT_RUNTIME_DIR", &dirs.runtime)
        // Of whoever asks, for another daemon.
        .env_remove("UPBEAT_TOKEN")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(EnsureError::Create)?;
    let mut said = String::new();
    if let Some(stdout) = child.stdout.take() {
        if !is_readable(&stdout).map_err(EnsureError::Create)? {
            return Ok(Started::GoesOn);
        }
        stdout.take(READY.len() as u64).read_to_string(&mut said).map_err(EnsureError::Create)?;
    }
    if said == READY {
        return Ok(Started::Ready);
    }
    let ended = child.wait().map_err(EnsureError::Create)?;
    match ended.code() == Some(i32::from(ExitCode::Conflict.number())) {
        true => Ok(Started::NotAlone),
        false => Ok(Started::Failed),
    }
}

/// Within [`READY_PATIENCE`]; the end can be read, too.
fn is_readable(pipe: &impl AsFd) -> std::io::Result<bool> {
    let patience = rustix::event::Timespec::try_from(READY_PATIENCE).map_err(std::io::Error::other)?;
    let mut fds = [PollFd::new(pipe, PollFlags::IN)];
    Ok(rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, Some(&patience)))? > 0)
}

/// The log, and how long it is.
fn private_log(dirs: &Dirs) -> std::io::Result<(File, u64)> {
    use std::os::unix::fs::OpenOptionsExt;
    let log = File::options().create(true).append(true).mode(0o600).open(dirs.log())?;
    let length = log.metadata()?.len();
    // What an earlier one wrote is of use for so long.
    if length > LOG_MAX {
        log.set_len(0)?;
        return Ok((log, 0));
    }
    Ok((log, length))
}

/// The last lines of what was written from there on. A log that is shorter has begun anew since, and
/// all of it is new.
fn last_lines(log: &Path, from: u64) -> Vec<String> {
    const LINES: usize = 10;
    let read = || {
        let mut log = File::open(log)?;
        if log.metadata()?.len() >= from {
            log.seek(SeekFrom::Start(from))?;
        }
        let mut text = Vec::new();
        log.read_to_end(&mut text).map(|_| text)
    };
    let text = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines[lines.len().saturating_sub(LINES)..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_daemon_that_did_not_get_ready_its_own_words_are_shown() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("daemon.log");
        std::fs::write(&log, "of another\nof another\n").unwrap();
        let from = std::fs::metadata(&log).unwrap().len();
        assert_eq!(last_lines(&log, from), [""; 0], "it was killed and said nothing");
        let own: String = (1..=12).map(|n| format!("line {n}\n")).collect();
        std::fs::write(&log, format!("of another\nof another\n{own}")).unwrap();
        let last = last_lines(&log, from);
        assert_eq!((last.len(), last[0].as_str(), last[9].as_str()), (10, "line 3", "line 12"));
        std::fs::write(&log, "anew\n").unwrap();
        assert_eq!(last_lines(&log, from), ["anew"], "it got too long and begins anew");
        assert_eq!(last_lines(&dir.path().join("none"), 0), [""; 0]);
    }

    #[test]
    fn one_that_is_starting_is_waited_for_longer_and_is_no_failure_then() {
        let almost = |time: Duration| time - Duration::from_nanos(1);
        for (is_starting, waited, expected) in [
            (false, almost(PREDECESSOR), Patience::Lasts),
            (false, PREDECESSOR, Patience::Ends),
            (false, READY_PATIENCE, Patience::Ends),
            (true, PREDECESSOR, Patience::Lasts),
            (true, almost(READY_PATIENCE), Patience::Lasts),
            (true, READY_PATIENCE, Patience::EndsWhileStarting),
        ] {
            assert_eq!(patience(is_starting, waited), expected, "{is_starting}, {waited:?}");
        }
    }

    #[test]
    fn a_log_that_is_too_long_begins_anew_with_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = Dirs { state: dir.path().to_owned(), runtime: dir.path().to_owned() };
        std::fs::write(dirs.log(), "old\n").unwrap();
        assert_eq!(private_log(&dirs).unwrap().1, 4);
        std::fs::write(dirs.log(), vec![b'x'; LOG_MAX as usize + 1]).unwrap();
        assert_eq!(private_log(&dirs).unwrap().1, 0);
    }
}
