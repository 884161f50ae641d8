//! A cgroup (version 2) for one process and all its descendants: what limits them together.
//!
//! Made while the slot's lock is held, and joined by the child before it is executed; removed when its
//! tree is gone. What a shim that was killed has left is ended by the cgroup itself, whatever it made
//! of its variables and its output. A link in the slot's directory says where it is, for a daemon that
//! comes when the shim is gone, and for people.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::spec;

/// The link in the slot's directory.
pub const LINK: &str = "cgroup";

/// A directory above may go with the last of another slot at the moment it is needed, and systemd may
/// take back what it lent at the moment it is used: then it is all made again, so often.
const MAKE_TRIES: u32 = 8;

/// The kernel ends what is in a cgroup within milliseconds; what waits for a disk takes longer.
const REMOVE_TRIES: u32 = 400;
const REMOVE_AGAIN: Duration = Duration::from_millis(5);

/// The cgroup of one attempt. Removed when dropped.
pub(crate) struct Group {
    dir: PathBuf,
}

impl Group {
    /// Makes it. Errors, in words: where, and what the system said.
    pub(crate) fn make(order: &spec::Cgroup) -> Result<Self, String> {
        let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
        let (top, names) = (path(&order.top), order.path.iter().map(|name| path(name)));
        let dirs: Vec<PathBuf> = names
            .scan(top.clone(), |dir, name| {
                dir.push(name);
                Some(dir.clone())
            })
            .collect();
        let Some((leaf, above)) = dirs.split_last() else { return Err("a cgroup without a name".into()) };
        clear(leaf).map_err(|error| told(leaf, &error))?;
        // Removed again, as far as it was made, should anything below fail.
        let group = Self { dir: leaf.clone() };
        let mut made = Ok(());
        for _ in 0..MAKE_TRIES {
            made = divide(&top, above, leaf, &order.controllers);
            if made.is_ok() {
                break;
            }
        }
        made?;
        for (file, value) in &order.settings {
            write(&leaf.join(path(file)), value)?;
        }
        let _ = std::fs::remove_file(LINK);
        std::os::unix::fs::symlink(leaf, LINK).map_err(|error| told(Path::new(LINK), &error))?;
        Ok(group)
    }

    /// What the child writes itself into.
    pub(crate) fn door(&self) -> Result<File, String> {
        let path = self.dir.join("cgroup.procs");
        File::options().write(true).open(&path).map_err(|error| told(&path, &error))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What cannot be removed now is removed before the next attempt.
        if remove(&self.dir).is_ok() {
            let _ = std::fs::remove_file(LINK);
        }
    }
}

fn told(path: &Path, error: &std::io::Error) -> String {
    format!("the service's cgroup: {}: {error}", path.display())
}

/// Makes the cgroups from the top down, each of which lends these controllers to those in it.
fn divide(top: &Path, above: &[PathBuf], leaf: &Path, controllers: &[Vec<u8>]) -> Result<(), String> {
    lend(top, controllers)?;
    for dir in above {
        create(dir)?;
        lend(dir, controllers)?;
    }
    create(leaf)
}

fn create(dir: &Path) -> Result<(), String> {
    match std::fs::create_dir(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(told(dir, &error)),
        _ => Ok(()),
    }
}

fn lend(dir: &Path, controllers: &[Vec<u8>]) -> Result<(), String> {
    let path = dir.join("cgroup.subtree_control");
    let lent = std::fs::read(&path).map_err(|error| told(&path, &error))?;
    let lent: Vec<&[u8]> = lent.split(u8::is_ascii_whitespace).collect();
    for controller in controllers.iter().filter(|controller| !lent.contains(&&controller[..])) {
        write(&path, &[b"+", &controller[..]].concat())?;
    }
    Ok(())
}

/// One write: the kernel takes each for one order.
fn write(path: &Path, value: &[u8]) -> Result<(), String> {
    let file = File::options().write(true).open(path);
    file.and_then(|mut file| file.write_all(value))
        .map_err(|error| format!("{} (`{}`)", told(path, &error), String::from_utf8_lossy(value)))
}

/// Ends what is in a cgroup, and removes it with those above that it leaves empty. None: fine.
///
/// Errors: something in it does not end; what the system said.
fn clear(dir: &Path) -> std::io::Result<()> {
    let mut removed = Ok(());
    for _ in 0..REMOVE_TRIES {
        removed = remove(dir);
        if !matches!(&removed, Err(error) if error.kind() == ErrorKind::ResourceBusy) {
            break;
        }
        std::thread::sleep(REMOVE_AGAIN);
    }
    removed
}

/// The same, without waiting for the end. Errors: `ResourceBusy` where something in it has not ended
/// yet.
pub fn remove(dir: &Path) -> std::io::Result<()> {
    remove_all(dir)?;
    // Those of the app and of the daemon.
    for above in dir.ancestors().skip(1).take(2) {
        match std::fs::remove_dir(above) {
            Err(error) if error.kind() != ErrorKind::NotFound => break,
            _ => {}
        }
    }
    Ok(())
}

fn remove_all(dir: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() != ErrorKind::ResourceBusy => return Err(error),
        Err(_) => {}
        Ok(()) => return Ok(()),
    }
    // A kernel before 5.14 has no such file: then what is in it is found by its mark, or not.
    let _ = write(&dir.join("cgroup.kill"), b"1");
    // Those that its processes have made.
    for entry in std::fs::read_dir(dir)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_all(&entry.path())?;
        }
    }
    std::fs::remove_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that looks like a cgroup in which nothing was made yet. What the kernel would put
    /// into a new one is put there beforehand.
    fn place(levels: &[&str], controllers: &str) -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        let mut dir = place.path().to_owned();
        for level in [""].iter().chain(levels) {
            dir.push(level);
            std::fs::create_dir_all(&dir).unwrap();
            for file in ["cgroup.procs", "memory.max", "cpu.max"] {
                std::fs::write(dir.join(file), "").unwrap();
            }
            std::fs::write(dir.join("cgroup.subtree_control"), controllers).unwrap();
        }
        place
    }

    fn order(top: &Path) -> spec::Cgroup {
        let texts = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        spec::Cgroup {
            top: top.as_os_str().as_bytes().to_vec(),
            path: texts(&["upbeat", "app", "web-1"]),
            controllers: texts(&["cpu", "memory"]),
            settings: vec![(b"memory.max".to_vec(), b"1024".to_vec())],
        }
    }

    #[test]
    fn each_level_lends_what_is_needed_and_the_last_is_limited() {
        let place = place(&["upbeat", "app", "web-1"], "pids cpu");
        let read = |file: &str| std::fs::read_to_string(place.path().join(file)).unwrap();
        // The directory of these tests is no slot's, and what is in the way here is no process.
        let dirs: Vec<PathBuf> = ["upbeat", "upbeat/app"].iter().map(|dir| place.path().join(dir)).collect();
        let leaf = place.path().join("upbeat/app/web-1");
        let order = order(place.path());
        divide(place.path(), &dirs, &leaf, &order.controllers).unwrap();
        // One order each; of a file that is none of the kernel's the last one stands.
        for dir in ["", "upbeat/", "upbeat/app/"] {
            assert_eq!(read(&format!("{dir}cgroup.subtree_control")), "+memoryu");
        }
        assert_eq!(read("upbeat/app/web-1/cgroup.subtree_control"), "pids cpu");
    }

    #[test]
    fn what_the_system_refuses_is_told_with_its_place() {
        let place = place(&[], "cpu memory");
        let missing = place.path().join("missing");
        let error = divide(&missing, &[], &missing.join("leaf"), &[b"cpu".to_vec()]).unwrap_err();
        assert!(error.contains("missing/cgroup.subtree_control: No such file"), "{error}");
        let error = write(&place.path().join("pids.max"), b"7").unwrap_err();
        assert!(error.contains("pids.max: No such file") && error.ends_with("(`7`)"), "{error}");
    }

    #[test]
    fn a_cgroup_goes_with_those_above_that_it_leaves_empty() {
        let place = tempfile::tempdir().unwrap();
        let leaf = place.path().join("upbeat/app/web-1");
        std::fs::create_dir_all(&leaf).unwrap();
        std::fs::create_dir_all(place.path().join("upbeat/other")).unwrap();
        clear(&leaf).unwrap();
        assert!(!place.path().join("upbeat/app").exists() && place.path().join("upbeat/other").exists());
        clear(&leaf).unwrap();
    }
}
