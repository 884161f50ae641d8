//! The key of the codes, in a file of its own.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::chain::Key;

/// More than a key is no key.
const FILE_MAX: u64 = 256;

impl Key {
    /// Reads a key. Errors: there is none, or what is there is none.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut text = String::new();
        File::open(path)?.take(FILE_MAX).read_to_string(&mut text)?;
        Self::of_hex(&text).ok_or_else(|| {
            let why = format!("`{}` holds no key: 64 hexadecimal digits", path.display());
            io::Error::new(io::ErrorKind::InvalidData, why)
        })
    }

    /// Reads a key, or makes one of 256 random bits, for its owner alone. Also says whether it was
    /// made.
    pub fn read_or_make(
        path: &Path,
        bits: impl FnOnce() -> io::Result<[u8; 32]>,
    ) -> io::Result<(Self, bool)> {
        match Self::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            read => return read.map(|key| (key, false)),
        }
        let key = Self(bits()?);
        // Beside it and renamed: a daemon that is killed here leaves no half of a key.
        let beside = path.with_extension("new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        writeln!(file, "{}", key.hex())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        if let Some(dir) = path.parent() {
            File::open(dir)?.sync_all()?;
        }
        Ok((key, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_and_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.key");
        let (made, is_new) = Key::read_or_make(&path, || Ok([5; 32])).unwrap();
        assert!(is_new);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (read, is_new) = Key::read_or_make(&path, || Ok([6; 32])).unwrap();
        assert!(!is_new);
        assert_eq!(made.hex(), read.hex());
        std::fs::write(&path, "short").unwrap();
        let error = Key::read_or_make(&path, || Ok([6; 32])).unwrap_err();
        assert!(error.to_string().contains("holds no key"), "{error}");
    }
}
