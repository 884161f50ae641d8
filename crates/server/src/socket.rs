//! The daemon's socket in the file system: private, and owned by one daemon at a time.
//!
//! Laws: the directory and the socket are the owner's alone, or its and one group's, which may pass
//! through the one and speak to the other. A socket is replaced only when nobody
//! listens on it, decided and done under a lock of the directory, so that of two daemons that start
//! at once one learns of the other. Nothing that is not a socket is ever removed. No lock file is
//! left behind: the lock is on the directory itself.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use tokio::net::UnixListener;

/// Why there is no socket to serve on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another daemon listens there.
    #[error("a daemon is already serving on `{}`", socket.display())]
    AlreadyServing {
        /// Where.
        socket: PathBuf,
    },
    /// Others could reach into the directory.
    #[error(
        "the directory `{}` must belong to uid {owner} with mode 0700 (it belongs to uid {found} with mode {mode:04o})",
        directory.display()
    )]
    NotPrivate {
        /// Which.
        directory: PathBuf,
        /// Who runs this daemon.
        owner: u32,
        /// Whose it is.
        found: u32,
        /// What others may do in it.
        mode: u32,
    },
    /// There is something else of that name, which is left alone.
    #[error("`{}` is there and is not a socket; move it away, or serve elsewhere", socket.display())]
    NotASocket {
        /// Where.
        socket: PathBuf,
    },
    /// The system refused.
    #[error("cannot {doing} `{}`", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Listens on a socket at `path`, 0600 in a directory of 0700, which is created where it is
/// missing. To be called in a tokio runtime.
pub fn bind(path: &Path) -> Result<UnixListener, BindError> {
    bind_for(path, None)
}

/// As [`bind`], but where a group is named, its members may connect: 0660 in a directory of 0710, both
/// of that group.
pub fn bind_for(path: &Path, group: Option<u32>) -> Result<UnixListener, BindError> {
    let refused = |doing, path: &Path| {
        let path = path.to_path_buf();
        move |source| BindError::Io { doing, path, source }
    };
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(refused("create the directory", directory))?;
    let lock = File::open(directory).map_err(refused("open the directory", directory))?;
    let found = lock.metadata().map_err(refused("look at the directory", directory))?;
    check_private(directory, &found, group)?;
    // Held by another daemon for the few system calls below only; given back with `lock`.
    lock.lock().map_err(refused("lock the directory", directory))?;
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(refused("look at", path)(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(BindError::NotASocket { socket: path.to_path_buf() });
        }
        Ok(_) if is_served(path).map_err(refused("connect to", path))? => {
            return Err(BindError::AlreadyServing { socket: path.to_path_buf() });
        }
        Ok(_) => fs::remove_file(path).map_err(refused("remove the stale socket", path))?,
    }
    let listener = UnixListener::bind(path).map_err(refused("listen on", path))?;
    // Until here the directory's mode keeps others out.
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(refused("protect", path))?;
    if group.is_some() {
        chown(path, None, group).map_err(refused("give to the group", path))?;
        fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(refused("protect", path))?;
        chown(directory, None, group).map_err(refused("give to the group", directory))?;
        let through = Permissions::from_mode(0o710);
        fs::set_permissions(directory, through).map_err(refused("protect", directory))?;
    }
    Ok(listener)
}

fn check_private(directory: &Path, found: &fs::Metadata, group: Option<u32>) -> Result<(), BindError> {
    let owner = rustix::process::geteuid().as_raw();
    let mode = found.mode() & 0o7777;
    let is_theirs = group == Some(found.gid()) && mode & 0o077 == 0o010;
    if found.uid() == owner && (mode & 0o077 == 0 || is_theirs) {
        return Ok(());
    }
    Err(BindError::NotPrivate { directory: directory.to_path_buf(), owner, found: found.uid(), mode })
}

/// True when somebody listens. Never waits: a daemon too busy to accept is one, too.
fn is_served(path: &Path) -> io::Result<bool> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) | Err(Errno::AGAIN | Errno::INPROGRESS) => Ok(true),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The name of a listening socket in the file system, to be removed when it is not needed any more.
pub(crate) struct Name {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Name {
    /// Of a listener that has one.
    pub(crate) fn of(listener: &UnixListener) -> Option<Self> {
        let address = listener.local_addr().ok()?;
        let path = address.as_pathname()?.to_path_buf();
        let found = fs::symlink_metadata(&path).ok()?;
        Some(Self { path, device: found.dev(), inode: found.ino() })
    }

    /// Removes it, unless somebody else's socket has taken its place. To be called while the
    /// listener still listens: so nobody can take its place meanwhile.
    pub(crate) fn remove(self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(socket = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}
