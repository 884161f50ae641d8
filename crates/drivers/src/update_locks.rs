//! Update locks: a file for each copy that was given one, which whoever must not be interrupted holds by flock(2).
//!
//! The kernel lets go of the lock of a process that ends, however it does: none is ever left behind. Who holds one
//! the kernel tells, too (`/proc/locks`), so that a holder has to write nothing.

use std::collections::HashMap;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use upbeat_model::SlotId;
use upbeat_model::plan::Lock;

/// Whoever the file is given to can open it: a service may run as any user, and so may what is in a container. A lock
/// needs no more than reading: who could write would write into the memory of the machine.
const FILE_MODE: u32 = 0o444;

/// They are let through to it, and see no names.
const DIR_MODE: u32 = 0o711;

/// Update locks of copies of this machine. A cheap handle; clones share it. Who drops the last lets go of all.
#[derive(Clone, Debug)]
pub struct UpdateLocks {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    held: Mutex<HashMap<SlotId, File>>,
}

/// Why none was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// This one is another's.
    Held(SlotId, Lock),
    /// This one cannot be tried: what the system said.
    Failed(SlotId, String),
}

impl UpdateLocks {
    /// In this directory, which is made when it is needed.
    pub fn new(dir: PathBuf) -> Self {
        Self { inner: Arc::new(Inner { dir, held: Mutex::default() }) }
    }

    /// Where a copy's is: names are safe as components of a path, by their types.
    pub fn path(&self, slot: &SlotId) -> PathBuf {
        let SlotId { app, service, index } = slot;
        self.inner.dir.join(format!("{app}@{service}@{index}"))
    }

    /// Makes the file, where it is not there. Blocks for moments. Errors: what the system said.
    pub fn make(&self, slot: &SlotId) -> std::io::Result<PathBuf> {
        self.open(slot).map(|_| self.path(slot))
    }

    /// Takes those of all these, besides those that are held here already; or none.
    ///
    /// Errors: one is another's, or cannot be tried.
    pub fn take(&self, slots: &[SlotId]) -> Result<(), NotTaken> {
        let mut taken = Vec::new();
        let mut held = self.held();
        for slot in slots.iter().filter(|slot| !held.contains_key(*slot)) {
            let failed = |error: std::io::Error| NotTaken::Failed(slot.clone(), error.to_string());
            let file = self.open(slot).map_err(failed)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => taken.push((slot.clone(), file)),
                Err(Errno::WOULDBLOCK) => {
                    // It may be free by now; whoever asks tries again.
                    let lock = holder(&file).unwrap_or_else(unknown);
                    return Err(NotTaken::Held(slot.clone(), lock));
                }
                Err(error) => return Err(failed(error.into())),
            }
        }
        held.extend(taken);
        Ok(())
    }

    /// Lets go of it.
    pub fn let_go(&self, slot: &SlotId) {
        self.held().remove(slot);
    }

    /// Lets go of it, and deletes the file. Errors: what the system said.
    pub fn remove(&self, slot: &SlotId) -> std::io::Result<()> {
        self.let_go(slot);
        match std::fs::remove_file(self.path(slot)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Who holds it now. Only looks: who takes one for a moment may be in the way of its holder to be.
    pub fn holder(&self, slot: &SlotId) -> Option<Lock> {
        if self.held().contains_key(slot) {
            return None;
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | SAFELY;
        holder(&rustix::fs::open(self.path(slot), flags, Mode::empty()).ok()?.into())
    }

    fn held(&self) -> MutexGuard<'_, HashMap<SlotId, File>> {
        // Every change is one insertion or removal: nothing is half-done after a panic.
        self.inner.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, slot: &SlotId) -> std::io::Result<File> {
        let path = self.path(slot);
        let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::CLOEXEC | SAFELY;
        let open = || rustix::fs::open(&path, flags, Mode::from_raw_mode(FILE_MODE));
        let file = File::from(match open() {
            Err(Errno::NOENT) => {
                let dir = &self.inner.dir;
                std::fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)?;
                // Whatever the umask says.
                std::fs::set_permissions(dir, PermissionsExt::from_mode(DIR_MODE))?;
                open()?
            }
            opened => opened?,
        });
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(std::io::Error::other(format!("`{}` is no file", path.display())));
        }
        if meta.mode() & 0o777 != FILE_MODE {
            file.set_permissions(PermissionsExt::from_mode(FILE_MODE))?;
        }
        Ok(file)
    }
}

/// No link is followed, and nothing waits for the other end of a pipe.
const SAFELY: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK);

fn unknown() -> Lock {
    Lock { holder: "a process that cannot be seen from here".to_owned(), since: None }
}

/// Who holds a lock on this file, as the kernel says. `None`: nobody.
fn holder(file: &File) -> Option<Lock> {
    let meta = file.metadata().ok()?;
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let pid = holding(&locks, (meta.dev(), meta.ino()))?;
    if pid <= 0 {
        // Of another namespace of processes.
        return Some(unknown());
    }
    match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) if has_it(pid, (meta.dev(), meta.ino())) => {
            Some(Lock { holder: format!("{} (pid {pid})", shown(name.trim_end())), since: begun(pid) })
        }
        // As a script does by `flock 9`: who took it has ended, and whoever has it open holds it.
        _ => Some(Lock { holder: format!("who has it of process {pid}, which took it"), since: None }),
    }
}

/// A process is looked at up to so many open files.
const FILES_MAX: usize = 1024;

/// The process has the lock on the file of this device and number, as the kernel says of each file that it has open:
/// the files themselves are left alone, as one may be on a server that is gone. One that does not let itself be
/// looked at is believed to.
fn has_it(pid: i32, file: (u64, u64)) -> bool {
    let Ok(all) = std::fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return true };
    let is_it = |path: PathBuf| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().filter_map(|line| line.strip_prefix("lock:")).any(|line| holding(line, file).is_some())
    };
    all.flatten().take(FILES_MAX).any(|entry| is_it(entry.path()))
}

/// The process that holds a lock on the file of this device and number, by the lines of `/proc/locks`:
/// `1: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF`. Those that wait have an arrow.
fn holding(locks: &str, (device, inode): (u64, u64)) -> Option<i32> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    // Some file systems say another device there than of the file.
    let number = format!(":{inode}");
    let found = |is_it: &dyn Fn(&str) -> bool| {
        locks.lines().find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_, "FLOCK", _, _, pid, of, ..] = words.as_slice() else { return None };
            is_it(of).then(|| pid.parse().ok()).flatten()
        })
    };
    found(&|of| of == file).or_else(|| found(&|of| of.ends_with(&number)))
}

/// When a process was started, as people read it.
fn begun(pid: i32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Its name, in brackets, may hold anything.
    let after = stat.rsplit_once(')')?.1;
    let ticks: u64 = after.split_whitespace().nth(19)?.parse().ok()?;
    let since_boot_ms = ticks.saturating_mul(1000) / rustix::param::clock_ticks_per_second().max(1);
    let ago = crate::clock::mono().0.checked_sub(since_boot_ms)?;
    let at = crate::clock::wall().0.checked_sub_unsigned(ago)?;
    let at = jiff::Timestamp::from_millisecond(at).ok()?;
    Some(at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// On one line: a process may call itself anything, of 15 bytes.
fn shown(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::Stdio;

    use super::*;

    fn id(name: &str) -> SlotId {
        format!("app/{name}/1").parse().unwrap()
    }

    fn foreign(locks: &UpdateLocks, slot: &SlotId) -> File {
        let file = File::open(locks.make(slot).unwrap()).unwrap();
        flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        file
    }

    #[test]
    fn all_are_taken_or_none_and_a_holder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let locks = UpdateLocks::new(dir.path().join("locks"));
        let (a, b) = (id("a"), id("b"));
        let holder = foreign(&locks, &b);
        let refused = locks.take(&[a.clone(), b.clone()]).unwrap_err();
        let NotTaken::Held(of, lock) = refused else { panic!("{refused:?}") };
        assert_eq!(of, b);
        let pid = std::process::id();
        assert!(lock.holder.ends_with(&format!("(pid {pid})")), "{}", lock.holder);
        assert!(lock.since.is_some());
        // The first was not kept.
        drop(foreign(&locks, &a));
        assert_eq!(locks.holder(&a), None);
        drop(holder);
        assert_eq!(locks.take(&[a.clone(), b.clone()]), Ok(()));
        assert_eq!(locks.take(&[a.clone(), b.clone()]), Ok(()), "asked for again it is held");
        let other = File::open(locks.path(&b)).unwrap();
        assert!(flock(&other, FlockOperation::NonBlockingLockShared).is_err());
        locks.let_go(&b);
        flock(&other, FlockOperation::NonBlockingLockShared).unwrap();
    }

    #[test]
    fn one_that_was_handed_on_is_not_said_to_be_of_who_took_it() {
        let dir = tempfile::tempdir().unwrap();
        let locks = UpdateLocks::new(dir.path().into());
        let path = locks.make(&id("a")).unwrap();
        // The program `flock` ends, and the shell has the file open.
        let script = "exec 9< \"$0\" && flock -n 9 && echo held && read -r line";
        let mut shell = std::process::Command::new("sh");
        shell.arg("-c").arg(script).arg(&path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        let mut held = [0; 5];
        shell.stdout.as_mut().unwrap().read_exact(&mut held).unwrap();
        let lock = locks.holder(&id("a")).unwrap();
        assert!(lock.holder.starts_with("who has it of process"), "{lock}");
        assert_eq!(lock.since, None);
        drop(shell.stdin.take());
        shell.wait().unwrap();
        assert_eq!(locks.holder(&id("a")), None);
        assert_eq!(locks.take(&[id("a")]), Ok(()), "the kernel has let go");
    }

    #[test]
    fn who_only_reads_the_file_keeps_an_update_off_too() {
        let dir = tempfile::tempdir().unwrap();
        let locks = UpdateLocks::new(dir.path().into());
        let reader = File::open(locks.make(&id("a")).unwrap()).unwrap();
        flock(&reader, FlockOperation::NonBlockingLockShared).unwrap();
        assert!(matches!(locks.take(&[id("a")]), Err(NotTaken::Held(_, _))));
        assert!(locks.holder(&id("a")).is_some());
    }

    #[test]
    fn a_link_in_its_place_is_an_error_and_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let locks = UpdateLocks::new(dir.path().into());
        std::os::unix::fs::symlink("/etc/passwd", locks.path(&id("a"))).unwrap();
        assert!(matches!(locks.take(&[id("a")]), Err(NotTaken::Failed(_, _))));
    }

    #[test]
    fn who_waits_for_a_lock_does_not_hold_it() {
        let lines = "1: POSIX  ADVISORY  WRITE 7 08:01:131 0 EOF\n2: FLOCK  ADVISORY  WRITE 12 08:01:131 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 13 08:01:131 0 EOF\n3: FLOCK ADVISORY READ 14 00:2b:77 0 EOF\n";
        let device = rustix::fs::makedev(8, 1);
        assert_eq!(holding(lines, (device, 131)), Some(12));
        assert_eq!(holding(lines, (device, 77)), Some(14), "of a file system that says another device");
        assert_eq!(holding(lines, (device, 1)), None);
    }

    #[test]
    fn who_has_a_lock_writes_nothing_into_it() {
        let dir = tempfile::tempdir().unwrap();
        let locks = UpdateLocks::new(dir.path().into());
        let mode = std::fs::metadata(locks.make(&id("a")).unwrap()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o444, "it is in the memory of the machine");
    }

    #[test]
    fn what_is_removed_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let locks = UpdateLocks::new(dir.path().into());
        locks.take(&[id("a")]).unwrap();
        locks.remove(&id("a")).unwrap();
        locks.remove(&id("a")).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
