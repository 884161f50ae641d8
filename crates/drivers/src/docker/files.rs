//! Configs and secrets of containers: files that the engine mounts one by one, so that nobody in between has
//! to be let through to them.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use upbeat_model::SlotId;
use upbeat_model::project::{PrivateFile, Service};

use super::wire::part;
use super::{Engine, EngineError, PrepareError};

/// Their directory in that of the slot begins so, and ends with the digest of the service: what runs has its
/// own as long as it runs.
const DIR: &str = "files.";

impl Engine {
    /// Writes them where a container of this digest has them mounted from; where that is. What is there
    /// already stays, as it may be mounted.
    ///
    /// Errors: the engine is on another machine; the disk.
    pub(super) fn write_files(
        &self,
        slot: &SlotId,
        spec: &Service,
        digest: &str,
    ) -> Result<PathBuf, PrepareError> {
        let dir = self.slot_dir(slot).join(format!("{DIR}{}", part(digest)));
        if spec.files.is_empty() {
            return Ok(dir);
        }
        if !self.wire().is_local() {
            let why = "configs and secrets are files of this machine, and the container engine is on another; \
                       have Upbeat run where the engine is";
            return Err(PrepareError::Refused(why.to_owned()));
        }
        let io = |error| EngineError::io("the slot's configs and secrets", &error);
        crate::process::private_dir(&dir).map_err(io)?;
        for file in &spec.files {
            write(&dir, file).map_err(io)?;
        }
        Ok(dir)
    }

    /// Removes those of services that nobody runs or is about to.
    pub(super) fn prune_files(&self, slot: &SlotId, digests: &[&str]) {
        let entries = fs::read_dir(self.slot_dir(slot)).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name().into_string().unwrap_or_default();
            let is_wanted = |digest: &str| digests.iter().any(|wanted| part(wanted) == digest);
            if name.strip_prefix(DIR).is_some_and(|digest| !is_wanted(digest))
                && let Err(error) = fs::remove_dir_all(entry.path())
            {
                tracing::warn!(%slot, %error, "configs and secrets that nobody needs cannot be removed");
            }
        }
    }
}

fn write(dir: &Path, file: &PrivateFile) -> std::io::Result<()> {
    let path = dir.join(&file.name);
    match fs::read(&path) {
        Ok(there) if there == file.content.reveal() => return Ok(()),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // By another name first: it is there whole, or not at all.
    let new = dir.join(format!("{}.new", file.name));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut made = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
    made.write_all(file.content.reveal())?;
    if file.uid.is_some() || file.gid.is_some() {
        std::os::unix::fs::fchown(&made, file.uid, file.gid)?;
    }
    made.set_permissions(fs::Permissions::from_mode(file.mode & 0o7777))?;
    fs::rename(&new, &path)
}
