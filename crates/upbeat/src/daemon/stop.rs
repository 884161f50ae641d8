//! Ends the daemon of these directories.

use std::path::PathBuf;
use std::time::Duration;

use upbeat_drivers::ending::{Ending, end_listener};

use super::Dirs;
use super::serve::{ServeError, wait_for_lock};

/// A daemon that ends gives those it talks to five seconds; after so long it is stuck.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why it goes on.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// There is none.
    #[error("no daemon is listening on `{}`", .0.display())]
    NotRunning(PathBuf),
    /// It cannot be reached, or not be sent a signal.
    #[error("the daemon cannot be ended")]
    System(#[source] std::io::Error),
    /// It does not end.
    #[error("the daemon (pid {pid}) was asked to end, and has not within {} s", PATIENCE.as_secs())]
    GoesOn {
        /// Its process.
        pid: i32,
    },
}

/// Ends it, and returns its process id once its place is free for another one. Services go on.
pub async fn stop(dirs: &Dirs) -> Result<i32, StopError> {
    let dirs = dirs.clone();
    let ending = move || {
        let ended = end_listener(&dirs.socket(), PATIENCE).map_err(StopError::System)?;
        match ended {
            Ending::Nobody => Err(StopError::NotRunning(dirs.socket())),
            Ending::GoesOn(pid) => Err(StopError::GoesOn { pid }),
            // Another may have begun meanwhile, such as that of a unit: then the place is not free, and
            // that is as it should be.
            Ending::Ended(pid) => match wait_for_lock(&dirs) {
                Ok(_) | Err(ServeError::Running(_)) => Ok(pid),
                Err(ServeError::System { source, .. }) => Err(StopError::System(source)),
                Err(error) => Err(StopError::System(std::io::Error::other(error))),
            },
        }
    };
    let ended = tokio::task::spawn_blocking(ending).await;
    ended.map_err(|error| StopError::System(std::io::Error::other(error)))?
}
