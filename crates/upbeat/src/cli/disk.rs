//! What project files refer to: other files of this machine, and the person's session.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use upbeat_model::file::{Resolver, TEXT_MAX, Unread};
use upbeat_model::project::PrivateFile;

/// This machine, and a session's variables.
pub(super) struct Disk<'v> {
    pub(super) variable: &'v dyn Fn(&str) -> Option<String>,
    /// Where the person is.
    pub(super) cwd: &'v Path,
}

impl Resolver for Disk<'_> {
    fn read(&self, path: &str) -> Result<String, Unread> {
        match bytes(Path::new(path), TEXT_MAX) {
            Ok(bytes) => String::from_utf8(bytes).map_err(|error| {
                let at = error.utf8_error().valid_up_to();
                Unread::Unreadable(format!("it is not UTF-8, from byte {} on", at + 1))
            }),
            Err(unread) => Err(unread),
        }
    }

    fn read_bytes(&self, path: &str) -> Result<Vec<u8>, Unread> {
        bytes(Path::new(path), PrivateFile::SIZE_MAX)
    }

    fn variable(&self, name: &str) -> Option<String> {
        (self.variable)(name)
    }

    fn shown(&self, path: &str) -> String {
        Path::new(path).strip_prefix(self.cwd).unwrap_or(Path::new(path)).display().to_string()
    }

    fn names(&self) -> Vec<String> {
        std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect()
    }
}

/// The bytes of a regular file. A pipe or a device may have no end, and one that nobody writes to
/// would never be opened: neither is read.
fn bytes(path: &Path, most: usize) -> Result<Vec<u8>, Unread> {
    let unreadable = |why: String| Unread::Unreadable(why);
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let file = match File::options().read(true).custom_flags(nonblocking).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(Unread::Missing),
        Err(error) => return Err(unreadable(said(&error))),
    };
    let metadata = file.metadata().map_err(|error| unreadable(said(&error)))?;
    if metadata.is_dir() {
        return Err(unreadable("it is a directory".to_owned()));
    }
    if !metadata.is_file() {
        return Err(unreadable("it is no regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut bytes).map_err(|error| unreadable(said(&error)))?;
    match bytes.len() > most {
        true => Err(unreadable(format!("it is larger than {} MiB", most >> 20))),
        false => Ok(bytes),
    }
}

/// What the system said, without its number.
fn said(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Result<String, Unread> {
        Disk { variable: &|_| None, cwd: Path::new("/") }.read(path.to_str().unwrap())
    }

    #[test]
    fn only_regular_files_of_text_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("good"), "A=1\n").unwrap();
        assert_eq!(read(&path("good")).unwrap(), "A=1\n");
        assert_eq!(read(&path("none")).unwrap_err(), Unread::Missing);
        let refused = |path: &Path| match read(path).unwrap_err() {
            Unread::Unreadable(why) => why,
            Unread::Missing => "missing".to_owned(),
        };
        assert_eq!(refused(dir.path()), "it is a directory");
        assert_eq!(refused(Path::new("/dev/zero")), "it is no regular file");
        std::fs::write(path("latin"), b"A=\xf6\n").unwrap();
        assert_eq!(refused(&path("latin")), "it is not UTF-8, from byte 3 on");
        let fifo = path("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
            .unwrap();
        assert_eq!(refused(&fifo), "it is no regular file");
        std::os::unix::fs::symlink(path("loop"), path("loop")).unwrap();
        assert_eq!(refused(&path("loop")), "too many levels of symbolic links");
        let large = File::create(path("large")).unwrap();
        large.set_len(TEXT_MAX as u64 + 1).unwrap();
        assert_eq!(refused(&path("large")), "it is larger than 10 MiB");
    }
}
