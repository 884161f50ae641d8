//! What a slot has beside its directory: private files and a cgroup, and what is left of them when a
//! shim was killed.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use upbeat_model::SlotId;
use upbeat_model::project::PrivateFile;
use upbeat_shim::spec::{self, Hidden};
use upbeat_shim::supervise::LOCK;
use upbeat_shim::{cgroup, private};

use super::{DriverError, ProcessDriver, unlock};

/// What a memory's file system says it is: `tmpfs`, and `ramfs`.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// Looks so often, so far apart, until what was killed is gone.
const KILL_ROUNDS: u32 = 500;
const BETWEEN_KILLS: Duration = Duration::from_millis(2);

impl ProcessDriver {
    /// Where the private files of its processes are, if they have any.
    pub(super) fn private_dir(&self, slot: &SlotId) -> PathBuf {
        dir_of(&self.inner.places.private, slot)
    }

    /// Removes what a killed shim has left beside its processes: private files, a cgroup and whoever is
    /// in it. One that has the slot by now does so by itself.
    ///
    /// Errors: something does not die; what the system said.
    pub(super) async fn clear_left(&self, slot: &SlotId) -> Result<(), DriverError> {
        let (dir, private) = (self.slot_dir(slot), self.private_dir(slot));
        let link = dir.join(cgroup::LINK);
        let group = fs::read_link(&link).ok();
        if group.is_none() && !private.exists() {
            return Ok(());
        }
        let lock = match fs::File::open(dir.join(LOCK)) {
            Ok(lock) if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() => return Ok(()),
            Ok(lock) => Some(lock),
            // The slot is gone, and with it whoever could make another.
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(source) => return Err(DriverError::io("the slot's lock", source)),
        };
        if let Err(error) = private::remove(&private) {
            // No reason to say that something runs on; the next attempt tries again, and must succeed.
            tracing::warn!(%slot, %error, "private files are left");
        }
        if let Some(group) = group {
            clear_group(&group).await.map_err(|source| DriverError::io("the slot's cgroup", source))?;
            let _ = fs::remove_file(link);
        }
        lock.iter().for_each(unlock);
        Ok(())
    }
}

/// What is in it is killed, and a moment later gone.
async fn clear_group(dir: &Path) -> std::io::Result<()> {
    let mut removed = Ok(());
    for _ in 0..KILL_ROUNDS {
        removed = cgroup::remove(dir);
        if !matches!(&removed, Err(error) if error.kind() == ErrorKind::ResourceBusy) {
            break;
        }
        tokio::time::sleep(BETWEEN_KILLS).await;
    }
    removed
}

/// The same for each attempt: of those a slot has one at a time. One name for the three, as a
/// directory above that comes and goes with its last slot would have to be guarded against itself;
/// `@` stands in none of them.
fn dir_of(root: &Path, slot: &SlotId) -> PathBuf {
    let SlotId { app, service, index } = slot;
    root.join(format!("{app}@{service}@{index}"))
}

/// The order to make them, if there are any.
pub(super) fn private(files: &[PrivateFile], dir: &Path) -> Option<spec::Private> {
    let file = |file: &PrivateFile| spec::PrivateFile {
        name: file.name.clone().into_bytes(),
        mode: file.mode,
        content: Hidden(file.content.reveal().to_vec()),
    };
    let dir = dir.as_os_str().as_bytes().to_vec();
    (!files.is_empty()).then(|| spec::Private { dir, files: files.iter().map(file).collect() })
}

/// Says so, once, where they come to lie on a disk: without a directory in memory there is no better
/// place, and a service that does not start for that helps nobody.
pub(super) fn warn_of_disk(dir: &Path) {
    static SAID: AtomicBool = AtomicBool::new(false);
    let found = dir.ancestors().find_map(|above| rustix::fs::statfs(above).ok());
    let on_disk = found.is_some_and(|found| !IN_MEMORY.contains(&(found.f_type as u64)));
    if on_disk && !SAID.swap(true, Ordering::Relaxed) {
        let dir = dir.parent().unwrap_or(dir);
        tracing::warn!(dir = %dir.display(), "configs and secrets of services lie on a disk, not in memory");
    }
}
