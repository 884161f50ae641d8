//! The files only one process can read: its configs and secrets.
//!
//! They lie in a directory of their own, which is its user's and nobody else's (0500), beside those of
//! other slots in one that is the daemon's (0711: to be passed through, not to be listed). Made while
//! the slot's lock is held, so by one at a time; what a shim that was killed has left there goes first.
//! No moment in which somebody else could open one: the directory is the daemon's alone (0700) until
//! every file in it has its owner and its mode.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, Permissions};
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, fstat, mkdirat, open, openat};

use crate::spec;
use crate::user::User;

/// Those of one attempt. Removed when dropped.
pub(crate) struct Private {
    dir: PathBuf,
}

impl Private {
    /// Makes them. Errors, in words: the disk is full, or something else is in the way; nothing of
    /// them is left.
    pub(crate) fn make(order: &spec::Private, owner: Option<User>) -> Result<Self, String> {
        let dir = Path::new(OsStr::from_bytes(&order.dir));
        let told = |error: std::io::Error| format!("the service's files in {}: {error}", dir.display());
        remove(dir).map_err(told)?;
        let made = Self { dir: dir.to_owned() };
        made.fill(&order.files, owner).map_err(told)?;
        Ok(made)
    }

    fn fill(&self, files: &[spec::PrivateFile], owner: Option<User>) -> std::io::Result<()> {
        let (Some(parent), Some(name)) = (self.dir.parent(), self.dir.file_name()) else {
            return Err(ErrorKind::InvalidInput.into());
        };
        let parent = open_parent(parent)?;
        mkdirat(&parent, name, Mode::RWXU)?;
        let dir = openat(&parent, name, DIRECTORY, Mode::empty())?;
        for file in files {
            let name = OsStr::from_bytes(&file.name);
            // One that leads elsewhere would be another directory's.
            if Path::new(name).components().count() != 1 || Path::new(name).file_name() != Some(name) {
                return Err(std::io::Error::other(format!("`{}` is no name", name.display())));
            }
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut made = File::from(openat(&dir, name, flags, Mode::RUSR | Mode::WUSR)?);
            made.write_all(&file.content.0)?;
            give(&made, owner);
            fchmod(&made, Mode::from_raw_mode(file.mode & 0o777))?;
        }
        give(&dir, owner);
        fchmod(&dir, Mode::RUSR | Mode::XUSR)?;
        Ok(())
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // What cannot be removed now is removed before the next attempt.
        let _ = remove(&self.dir);
    }
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The directory of all of them; made if need be. Where others may write, as in `/tmp`, somebody may
/// have been there before: then nothing is put there.
fn open_parent(path: &Path) -> std::io::Result<OwnedFd> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let dir = open(path, DIRECTORY, Mode::empty())?;
    let (owner, own) = (fstat(&dir)?.st_uid, rustix::process::geteuid().as_raw());
    if owner != own {
        let why = format!("{} belongs to the user {owner}, not to {own}", path.display());
        return Err(std::io::Error::other(why));
    }
    fchmod(&dir, Mode::RWXU | Mode::XGRP | Mode::XOTH)?;
    Ok(dir)
}

/// Where it may not, the process will not be able to read it, and say so: nobody else can then.
fn give(file: impl AsFd, owner: Option<User>) {
    if let Some(User { uid, gid }) = owner {
        let _ = fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    }
}

/// Removes a directory of private files, and whatever its user has put there. None: fine.
///
/// Errors: what the system said.
pub fn remove(dir: &Path) -> std::io::Result<()> {
    match open(dir, DIRECTORY, Mode::empty()) {
        // Its owner may not change it either; whoever is not root is its owner.
        Ok(opened) => drop(fchmod(&opened, Mode::RWXU)),
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        // Not a directory: removed as what it is, never followed.
        Err(_) => {}
    }
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() == ErrorKind::NotADirectory => std::fs::remove_file(dir),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            open_up(dir);
            std::fs::remove_dir_all(dir)
        }
        removed => removed,
    }
}

/// Directories in it that its user has shut, even for himself.
fn open_up(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let _ = std::fs::set_permissions(entry.path(), Permissions::from_mode(0o700));
            open_up(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;
    use crate::spec::Hidden;

    fn order(dir: &Path, names: &[&str]) -> spec::Private {
        let file = |name: &&str| spec::PrivateFile {
            name: name.as_bytes().to_vec(),
            mode: 0o440,
            content: Hidden(b"hush".to_vec()),
        };
        let files = names.iter().map(file).collect();
        spec::Private { dir: dir.as_os_str().as_bytes().to_vec(), files }
    }

    fn mode(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn files_are_made_with_their_modes_and_are_gone_with_their_owner() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("all/app@web@1");
        let made = Private::make(&order(&dir, &["key", ".hidden", "a b"]), None).unwrap();
        assert_eq!(std::fs::read(dir.join("a b")).unwrap(), b"hush");
        assert_eq!((mode(&dir), mode(&dir.join("key")), mode(dir.parent().unwrap())), (0o500, 0o440, 0o711));
        // Whatever its user has put there goes too.
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o700)).unwrap();
        std::fs::create_dir_all(dir.join("more/shut")).unwrap();
        std::fs::write(dir.join("more/shut/file"), "x").unwrap();
        for shut in ["more/shut", "more"] {
            std::fs::set_permissions(dir.join(shut), PermissionsExt::from_mode(0o000)).unwrap();
        }
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o500)).unwrap();
        drop(made);
        assert!(!dir.exists() && dir.parent().unwrap().exists());
        remove(&dir).unwrap();
    }

    #[test]
    fn what_is_in_the_way_goes_and_is_never_followed() {
        let place = tempfile::tempdir().unwrap();
        let (all, elsewhere) = (place.path().join("all"), place.path().join("elsewhere"));
        std::fs::create_dir(&all).unwrap();
        std::fs::create_dir(&elsewhere).unwrap();
        std::fs::write(elsewhere.join("key"), "not ours").unwrap();
        let dir = all.join("app@web@1");
        symlink(&elsewhere, &dir).unwrap();
        drop(Private::make(&order(&dir, &["key"]), None).unwrap());
        std::fs::write(&dir, "a file").unwrap();
        drop(Private::make(&order(&dir, &["key"]), None).unwrap());
        std::fs::create_dir(&dir).unwrap();
        symlink(&elsewhere, dir.join("key")).unwrap();
        let made = Private::make(&order(&dir, &["key"]), None).unwrap();
        assert!(std::fs::symlink_metadata(dir.join("key")).unwrap().is_file());
        drop(made);
        assert_eq!(std::fs::read(elsewhere.join("key")).unwrap(), b"not ours");
        // A link in place of the directory of all of them is not followed either.
        std::fs::remove_dir(&all).unwrap();
        symlink(&elsewhere, &all).unwrap();
        assert!(Private::make(&order(&dir, &["key"]), None).is_err());
        assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 1);
    }

    #[test]
    fn a_name_that_is_none_or_that_is_there_twice_leaves_nothing() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("all/app@web@1");
        for names in
            [&["key", "../key"][..], &["/tmp/key"], &["."], &[".."], &[""], &["a/b"], &["a/"], &["k", "k"]]
        {
            let error = Private::make(&order(&dir, names), None).err().unwrap();
            assert!(error.contains("app@web@1") && !error.contains("hush"), "{error}");
            assert!(!dir.exists(), "{names:?}");
        }
    }
}
