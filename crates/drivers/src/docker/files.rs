//! Configs and secrets of containers: files of this machine that only the engine and the daemon reach, and
//! that are mounted into one container.
//!
//! They lie in the directory of the slot, by the digest of the service, so that a container that is made
//! beside the one that runs changes nothing of that.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use upbeat_model::SlotId;
use upbeat_model::project::{PrivateFile, Service};

use super::{Engine, EngineError, PrepareError};

/// Below a slot's directory.
const DIR: &str = "files";

/// Only the daemon looks into it; the engine mounts single files out of it.
const DIR_MODE: u32 = 0o700;

impl Engine {
    /// The files of a container that is to be made, which are there when this returns. Those of other
    /// digests than these are removed.
    ///
    /// Errors: the engine is on another machine; an owner that only root can give; the disk.
    pub(super) fn files(
        &self,
        slot: &SlotId,
        spec: &Service,
        digest: &str,
        kept: &[&str],
    ) -> Result<PathBuf, PrepareError> {
        let all = self.slot_dir(slot).join(DIR);
        forget(&all, |name| name == digest || kept.contains(&name))
            .map_err(|error| EngineError::io("files of containers", &error))?;
        let own = all.join(digest);
        if spec.files.is_empty() {
            return Ok(own);
        }
        if !self.wire().is_local() {
            let why = "configs and secrets are files of this machine, and the container engine is on another; \
                       have Upbeat run where the engine is";
            return Err(PrepareError::Refused(why.to_owned()));
        }
        let made = fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(&own);
        made.map_err(|error| EngineError::io("the directory of a container's files", &error))?;
        for file in &spec.files {
            write(&own, file).map_err(|error| match error.kind() {
                ErrorKind::PermissionDenied if file.uid.is_some() || file.gid.is_some() => {
                    PrepareError::Refused(format!(
                        "`{}` is to have an owner, which only a daemon that is root can give it; take out its \
                         `uid` and `gid`",
                        file.name
                    ))
                }
                _ => EngineError::io("a container's file", &error).into(),
            })?;
        }
        Ok(own)
    }

    /// The file that is its update lock, where it has one. Also for a container that is there: it may be gone
    /// with a boot.
    pub(super) fn update_lock(&self, slot: &SlotId, spec: &Service) -> Result<Option<PathBuf>, PrepareError> {
        if !spec.update_lock {
            return Ok(None);
        }
        if !self.wire().is_local() {
            let why = "`update_lock` is a file of this machine, and the container engine is on another; \
                       have Upbeat run where the engine is, or take it out";
            return Err(PrepareError::Refused(why.to_owned()));
        }
        let made = self.inner.settings.locks.make(slot);
        Ok(Some(made.map_err(|error| EngineError::io("an update lock", &error))?))
    }
}

/// Removes what no container has any more.
fn forget(all: &Path, is_kept: impl Fn(&str) -> bool) -> std::io::Result<()> {
    let entries = match fs::read_dir(all) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if !is_kept(&entry.file_name().to_string_lossy()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// One file, whole or not at all. One that is there as it should be is not touched: a container may have it
/// mounted.
fn write(dir: &Path, file: &PrivateFile) -> std::io::Result<()> {
    let (path, content) = (dir.join(&file.name), file.content.reveal());
    let has_mode =
        |path: &Path| fs::metadata(path).is_ok_and(|there| there.permissions().mode() & 0o777 == file.mode);
    if fs::read(&path).is_ok_and(|there| there == content) && has_mode(&path) {
        return own(&path, file);
    }
    // A name that no file of a container has: theirs begin with their kind.
    let beside = dir.join(format!(".{}", file.name));
    let mut made = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    made.write_all(content)?;
    made.set_permissions(fs::Permissions::from_mode(file.mode))?;
    own(&beside, file)?;
    fs::rename(&beside, &path)
}

fn own(path: &Path, file: &PrivateFile) -> std::io::Result<()> {
    match (file.uid, file.gid) {
        (None, None) => Ok(()),
        (uid, gid) => std::os::unix::fs::chown(path, uid, gid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use upbeat_model::project::Secret;

    #[test]
    fn a_file_is_there_whole_with_its_mode_and_is_not_written_twice() {
        let dir = tempfile::tempdir().unwrap();
        let file = PrivateFile { mode: 0o440, ..PrivateFile::new("secret.key", Secret::new(*b"hush")) };
        write(dir.path(), &file).unwrap();
        let path = dir.path().join("secret.key");
        let look = || {
            let there = fs::metadata(&path).unwrap();
            (std::os::unix::fs::MetadataExt::ino(&there), there.permissions().mode() & 0o777)
        };
        let (first, mode) = look();
        assert_eq!((fs::read(&path).unwrap(), mode), (b"hush".to_vec(), 0o440));
        write(dir.path(), &file).unwrap();
        assert_eq!(look(), (first, 0o440), "whoever has it mounted has this one");
        write(dir.path(), &PrivateFile { mode: 0o400, ..file }).unwrap();
        assert_eq!(look().1, 0o400);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_no_container_has_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        for digest in ["old", "runs", "new"] {
            fs::create_dir_all(dir.path().join(digest)).unwrap();
        }
        forget(dir.path(), |name| name != "old").unwrap();
        let mut left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["new", "runs"]);
        forget(&dir.path().join("nothing"), |_| false).unwrap();
    }
}
