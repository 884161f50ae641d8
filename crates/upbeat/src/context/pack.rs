//! The context of a build as a tar: what of a directory is not left out, in the order of names.
//!
//! Laws: nothing is followed out of the directory: a symbolic link is sent as one, and a directory that becomes one
//! meanwhile is an error, as each path is resolved by the kernel below the directory that was opened first. What was written is what was
//! read: a file that changes meanwhile is an error, and no tar that looks whole. No file, and no list of more than
//! one directory on the way, is held in memory. Who owns a file here means nothing there: all are root's.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use rustix::fs::{CWD, Dir, Mode, OFlags, ResolveFlags, openat, openat2, readlinkat};
use tar::{Builder, EntryType, Header};

use super::ContextError;
use super::ignore::Ignore;

/// The name in a header is no longer.
const NAME_MAX: usize = 100;

/// The latest time a header holds by its digits, in seconds: in 2242. An engine takes one that is much later for 1970.
const MTIME_MAX: u64 = 0o777_7777_7777;

const CHANGED: &str = "changed while it was read";

/// What the entry before one with a longer name is called.
const LONG: &[u8] = b"././@LongLink";

/// A context that is to be packed.
#[derive(Debug)]
pub(super) struct Pack {
    /// Absolute, and no link.
    pub(super) root: PathBuf,
    pub(super) ignore: Ignore,
    /// Files that are there in any case, with what they hold: whatever the directory has under that name is not sent.
    pub(super) own: Vec<(String, Vec<u8>)>,
}

/// A context whose directory is open: whatever takes its place, or that of one below it, is none of it.
struct Walk<'a> {
    pack: &'a Pack,
    root: OwnedFd,
}

/// A directory that is being looked through.
struct Level {
    /// Relative to the root, as bytes; empty for the root.
    path: Vec<u8>,
    /// What is left of it, the next at the end.
    names: Vec<OsString>,
    /// Its own entry was written, or is not to be.
    is_written: bool,
}

impl Pack {
    /// Writes all of it.
    ///
    /// Errors: what cannot be sent, or has changed; whoever reads it is gone.
    pub(super) fn write(&self, to: impl Write) -> Result<(), ContextError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = openat(CWD, &self.root, flags, Mode::empty());
        let root = root.map_err(|error| self.error(b"", &error.into()))?;
        Walk { pack: self, root }.write(to)
    }

    fn at(&self, path: &[u8]) -> PathBuf {
        self.root.join(OsStr::from_bytes(path))
    }

    fn error(&self, path: &[u8], error: &io::Error) -> ContextError {
        let why = match error.kind() {
            io::ErrorKind::NotFound => "is gone: it changed while it was read".to_owned(),
            _ if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => CHANGED.to_owned(),
            io::ErrorKind::NotADirectory => CHANGED.to_owned(),
            _ => format!("cannot be read: {error}"),
        };
        ContextError::Path { path: self.at(path), why }
    }

    fn changed(&self, path: &[u8]) -> ContextError {
        ContextError::Path { path: self.at(path), why: CHANGED.to_owned() }
    }
}

impl Walk<'_> {
    fn write(&self, to: impl Write) -> Result<(), ContextError> {
        let mut tar = Builder::new(to);
        let mut levels = vec![Level { path: Vec::new(), names: self.names(b"")?, is_written: true }];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.pop() else {
                levels.pop();
                continue;
            };
            let path = match level.path.is_empty() {
                true => name.into_vec(),
                false => [&level.path, &b"/"[..], name.as_bytes()].concat(),
            };
            let shown = String::from_utf8_lossy(&path).into_owned();
            let is_out = self.pack.ignore.leaves_out(&shown);
            let there = match self.metadata(&path) {
                // What comes and goes meanwhile is no reason where it is left out anyway.
                Err(_) if is_out => continue,
                there => there?,
            };
            if there.is_dir() {
                if !is_out || self.pack.ignore.may_keep_below(&shown) {
                    let names = self.names(&path)?;
                    levels.push(Level { path, names, is_written: false });
                    if !is_out {
                        self.write_levels(&mut levels, &mut tar)?;
                    }
                }
            } else if !is_out && !self.pack.own.iter().any(|(own, _)| own.as_bytes() == path) {
                self.write_levels(&mut levels, &mut tar)?;
                self.write_one(&path, &there, &mut tar)?;
            }
        }
        for (name, content) in &self.pack.own {
            let mut header = head(EntryType::Regular, 0o644, 0);
            header.set_size(content.len() as u64);
            append(&mut tar, &mut header, name.as_bytes(), None, content.as_slice())?;
        }
        tar.finish().and_then(|()| tar.get_mut().flush()).map_err(ContextError::Unwritten)
    }

    /// Opens something of it, itself: no part of its path is a link.
    fn open(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat2(&self.root, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?)
    }

    /// Which may be that of a link.
    fn open_any(&self, path: &[u8]) -> Result<File, ContextError> {
        self.open(path, OFlags::PATH).map(File::from).map_err(|error| self.pack.error(path, &error))
    }

    fn metadata(&self, path: &[u8]) -> Result<Metadata, ContextError> {
        self.open_any(path)?.metadata().map_err(|error| self.pack.error(path, &error))
    }

    /// In reverse order: the next is taken from the end.
    fn names(&self, path: &[u8]) -> Result<Vec<OsString>, ContextError> {
        let read = || -> io::Result<Vec<OsString>> {
            let dir = Dir::new(self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?)?;
            let mut names = Vec::new();
            for entry in dir {
                let name = entry?.file_name().to_bytes().to_vec();
                if name != b"." && name != b".." {
                    names.push(OsString::from_vec(name));
                }
            }
            Ok(names)
        };
        let mut names = read().map_err(|error| self.pack.error(path, &error))?;
        names.sort_unstable_by(|one, other| other.cmp(one));
        Ok(names)
    }

    /// The directories something is in, which may be left out themselves.
    fn write_levels(&self, levels: &mut [Level], tar: &mut Builder<impl Write>) -> Result<(), ContextError> {
        for level in levels.iter_mut().filter(|level| !level.is_written) {
            let there = self.metadata(&level.path)?;
            let mut header = head(EntryType::Directory, there.mode(), there.mtime());
            append(tar, &mut header, &[&level.path, &b"/"[..]].concat(), None, io::empty())?;
            level.is_written = true;
        }
        Ok(())
    }

    fn write_one(
        &self,
        path: &[u8],
        there: &Metadata,
        tar: &mut Builder<impl Write>,
    ) -> Result<(), ContextError> {
        let kind = there.file_type();
        if kind.is_symlink() {
            let target = readlinkat(self.open_any(path)?, "", Vec::new());
            let target = target.map_err(|error| self.pack.error(path, &error.into()))?;
            let mut header = head(EntryType::Symlink, 0o777, there.mtime());
            return append(tar, &mut header, path, Some(target.as_bytes()), io::empty());
        }
        // A program of the project listens there: it is no part of what is built.
        if kind.is_socket() {
            return Ok(());
        }
        if kind.is_fifo() {
            let mut header = head(EntryType::Fifo, there.mode(), there.mtime());
            return append(tar, &mut header, path, None, io::empty());
        }
        if !kind.is_file() {
            let why = "is a device, and no build can use it; name it in `.dockerignore`".to_owned();
            return Err(ContextError::Path { path: self.pack.at(path), why });
        }
        // It may be another by now, and is not followed, nor waited for.
        let opened = self.open(path, OFlags::RDONLY | OFlags::NONBLOCK);
        let file = File::from(opened.map_err(|error| self.pack.error(path, &error))?);
        let before = file.metadata().map_err(|error| self.pack.error(path, &error))?;
        if !before.is_file() {
            return Err(self.pack.changed(path));
        }
        let mut header = head(EntryType::Regular, before.mode(), before.mtime());
        header.set_size(before.len());
        let mut content = Content { file, left: before.len(), failed: None };
        let written = append(tar, &mut header, path, None, &mut content);
        if let Some(error) = content.failed.take() {
            return Err(self.pack.error(path, &error));
        }
        written?;
        // It is short, or has grown, or was written to in between.
        let after = content.file.metadata().map_err(|error| self.pack.error(path, &error))?;
        let is_other = content.left > 0 || before.len() != after.len();
        if is_other || (before.mtime(), before.mtime_nsec()) != (after.mtime(), after.mtime_nsec()) {
            return Err(self.pack.changed(path));
        }
        Ok(())
    }
}

/// As much of a file as its header says.
struct Content {
    file: File,
    left: u64,
    /// Why it cannot be read, told from why it cannot be written.
    failed: Option<io::Error>,
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        match self.file.read(&mut buffer[..most]) {
            Ok(read) => {
                self.left -= read as u64;
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.failed = Some(error);
                Err(kind.into())
            }
        }
    }
}

fn head(kind: EntryType, mode: u32, seconds: i64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode & 0o7777);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    // What is older than all files is as old as the oldest, and what is newer as new as the newest.
    header.set_mtime(u64::try_from(seconds).unwrap_or(0).min(MTIME_MAX));
    header
}

/// One entry, under a name as it is: whatever it holds, it leads nowhere else, as it is one of a directory.
fn append(
    tar: &mut Builder<impl Write>,
    header: &mut Header,
    name: &[u8],
    target: Option<&[u8]>,
    content: impl Read,
) -> Result<(), ContextError> {
    let write = || {
        let short = named(tar, EntryType::GNULongName, name)?;
        header.as_old_mut().name[..short.len()].copy_from_slice(short);
        if let Some(target) = target {
            let short = named(tar, EntryType::GNULongLink, target)?;
            header.as_old_mut().linkname[..short.len()].copy_from_slice(short);
        }
        header.set_cksum();
        tar.append(header, content)
    };
    write().map_err(ContextError::Unwritten)
}

/// As much of a name as a header holds; where that is not all, an entry before it has the whole.
fn named<'n>(tar: &mut Builder<impl Write>, kind: EntryType, name: &'n [u8]) -> io::Result<&'n [u8]> {
    if name.len() <= NAME_MAX {
        return Ok(name);
    }
    let mut header = head(kind, 0o644, 0);
    header.as_old_mut().name[..LONG.len()].copy_from_slice(LONG);
    header.set_size(name.len() as u64 + 1);
    header.set_cksum();
    tar.append(&header, name.chain(&b"\0"[..]))?;
    Ok(&name[..NAME_MAX])
}

#[cfg(test)]
mod tests;
