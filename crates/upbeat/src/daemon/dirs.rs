//! Where the daemon keeps its things.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The directories of one daemon. Both private (0700).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirs {
    /// What survives a reboot: stores, slots with their logs, the daemon's own log.
    pub state: PathBuf,
    /// What does not: the socket.
    pub runtime: PathBuf,
}

/// Neither `HOME` nor `XDG_STATE_HOME` nor `UPBEAT_STATE_DIR` says where.
#[derive(Debug, thiserror::Error)]
#[error("there is no place for the daemon's state: neither `HOME` nor `XDG_STATE_HOME` is set")]
pub struct NoHome;

impl Dirs {
    /// For this user: `UPBEAT_STATE_DIR` and `UPBEAT_RUNTIME_DIR` where set; else `/var/lib/upbeat`
    /// and `/run/upbeat` for root, and the XDG directories for others.
    pub fn find(is_root: bool, var: impl Fn(&str) -> Option<OsString>) -> Result<Self, NoHome> {
        let path = |name: &str| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let absolute = |name: &str| path(name).filter(|path| path.is_absolute());
        let state = match path("UPBEAT_STATE_DIR") {
            Some(dir) => dir,
            None if is_root => PathBuf::from("/var/lib/upbeat"),
            None => match (absolute("XDG_STATE_HOME"), absolute("HOME")) {
                (Some(dir), _) => dir.join("upbeat"),
                (None, Some(home)) => home.join(".local/state/upbeat"),
                (None, None) => return Err(NoHome),
            },
        };
        let runtime = match (path("UPBEAT_RUNTIME_DIR"), path("UPBEAT_STATE_DIR")) {
            (Some(dir), _) => dir,
            (None, Some(_)) => state.join("run"),
            (None, None) if is_root => PathBuf::from("/run/upbeat"),
            (None, None) => match absolute("XDG_RUNTIME_DIR") {
                Some(dir) => dir.join("upbeat"),
                None => state.join("run"),
            },
        };
        Ok(Self { state, runtime })
    }

    /// For this process.
    pub fn of_process() -> Result<Self, NoHome> {
        let dirs = Self::find(rustix::process::geteuid().is_root(), |name| std::env::var_os(name))?;
        // The daemon does not live in the directory somebody types in. Fails only without one.
        let absolute = |dir: PathBuf| std::path::absolute(&dir).unwrap_or(dir);
        Ok(Self { state: absolute(dirs.state), runtime: absolute(dirs.runtime) })
    }

    /// The socket clients talk to.
    pub fn socket(&self) -> PathBuf {
        self.runtime.join("upbeat.sock")
    }

    /// Held by a daemon while it starts.
    pub fn starting(&self) -> PathBuf {
        self.state.join("daemon.starting")
    }

    /// Held by the daemon for its whole life.
    pub fn lock(&self) -> PathBuf {
        self.state.join("daemon.lock")
    }

    /// What the daemon says when nobody listens.
    pub fn log(&self) -> PathBuf {
        self.state.join("daemon.log")
    }

    /// What control keeps.
    pub fn control(&self) -> PathBuf {
        self.state.join("control.redb")
    }

    /// Who changed what: the segments of the audit log.
    pub fn audit(&self) -> PathBuf {
        self.state.join("audit")
    }

    /// The key of its codes. Beside it and not in it, so that the log can be taken along without.
    pub fn audit_key(&self) -> PathBuf {
        self.state.join("audit.key")
    }

    /// Keys of registries, and the device document that is queued: where there are any.
    pub fn documents(&self) -> PathBuf {
        self.state.join("device.json")
    }

    /// A daemon was here, so there may be apps that are not forgotten.
    pub fn are_in_use(&self) -> bool {
        self.control().exists()
    }

    /// Slots: one directory each, below app and service.
    pub fn slots(&self) -> PathBuf {
        self.state.join("slots")
    }

    /// Update locks, a file for each copy: `/run/upbeat-locks`. Beside the runtime directory, as
    /// [`Self::credentials`].
    pub fn update_locks(&self) -> PathBuf {
        let mut name = self.runtime.file_name().unwrap_or_default().to_owned();
        name.push("-locks");
        self.runtime.with_file_name(name)
    }

    /// Configs and secrets of services, a directory for each copy: `/run/upbeat-credentials`. Beside
    /// the runtime directory and not in it, because the users of services must be let through.
    ///
    /// In memory where that one is: `/run` and `XDG_RUNTIME_DIR` are, as a rule. Where it is below the
    /// state directory, they lie on a disk, and only the daemon's own user gets there.
    pub fn credentials(&self) -> PathBuf {
        let mut name = self.runtime.file_name().unwrap_or_default().to_owned();
        name.push("-credentials");
        self.runtime.with_file_name(name)
    }

    /// Makes both, private. Errors: the path and what the system said.
    pub fn create(&self) -> std::io::Result<()> {
        for dir in [&self.state, &self.runtime] {
            create_private(dir)
                .map_err(|error| std::io::Error::new(error.kind(), format!("{}: {error}", dir.display())))?;
        }
        Ok(())
    }
}

fn create_private(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    // An existing directory may have been made by a more generous hand.
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(is_root: bool, vars: &[(&str, &str)]) -> Option<(String, String)> {
        let var = |name: &str| {
            vars.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        };
        let dirs = Dirs::find(is_root, var).ok()?;
        Some((dirs.state.display().to_string(), dirs.runtime.display().to_string()))
    }

    #[test]
    fn directories_follow_xdg_and_root_has_the_systems() {
        let found = |state: &str, runtime: &str| Some((state.to_owned(), runtime.to_owned()));
        assert_eq!(find(true, &[]), found("/var/lib/upbeat", "/run/upbeat"));
        assert_eq!(
            find(false, &[("HOME", "/home/a"), ("XDG_RUNTIME_DIR", "/run/user/7")]),
            found("/home/a/.local/state/upbeat", "/run/user/7/upbeat")
        );
        assert_eq!(
            find(false, &[("HOME", "/home/a"), ("XDG_STATE_HOME", "relative")]),
            found("/home/a/.local/state/upbeat", "/home/a/.local/state/upbeat/run")
        );
        assert_eq!(find(true, &[("UPBEAT_STATE_DIR", "/x")]), found("/x", "/x/run"));
        assert_eq!(find(false, &[("HOME", "")]), None);
    }

    #[test]
    fn credentials_are_beside_the_runtime_directory_which_lets_nobody_through() {
        let dirs = |runtime: &str| Dirs { state: "/s".into(), runtime: runtime.into() };
        assert_eq!(dirs("/run/upbeat").credentials(), Path::new("/run/upbeat-credentials"));
        assert_eq!(dirs("/s/run").credentials(), Path::new("/s/run-credentials"));
    }
}
