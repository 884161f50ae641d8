//! Says when files in directories have changed: told by the kernel, nothing is polled.
//!
//! One inotify instance for the whole process. A user may have only so many (128, often), and to
//! close one takes the kernel milliseconds.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::inotify;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// Bytes of events taken from the kernel at once: a few hundred.
const READ: usize = 16 * 1024;

/// What makes watchers. A cheap handle; clones share the instance.
#[derive(Clone)]
pub struct Watches(Arc<Hub>);

struct Hub {
    inotify: Arc<AsyncFd<OwnedFd>>,
    watched: Arc<Watched>,
    pump: AbortHandle,
}

/// Whom a watch of the kernel wakes.
#[derive(Default)]
struct Watched(Mutex<HashMap<i32, Vec<mpsc::Sender<()>>>>);

impl Watches {
    /// Inside the runtime that is to listen to the kernel. Watchers may be used in any.
    ///
    /// Errors: this user has as many instances as the kernel allows.
    pub fn new() -> io::Result<Self> {
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let inotify = Arc::new(crate::readiness::register(fd, Interest::READABLE)?);
        let watched = Arc::<Watched>::default();
        let pump = tokio::spawn(pump(inotify.clone(), watched.clone())).abort_handle();
        Ok(Self(Arc::new(Hub { inotify, watched, pump })))
    }

    /// One that watches nothing yet.
    pub fn watcher(&self) -> Watcher {
        // One wake-up that waits is as good as many.
        let (wake, woken) = mpsc::channel(1);
        Watcher { hub: self.0.clone(), wake, woken, watches: Vec::new() }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

impl Watched {
    fn lock(&self) -> MutexGuard<'_, HashMap<i32, Vec<mpsc::Sender<()>>>> {
        // Every change is one insertion or removal: nothing is half-done after a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, event: &inotify::Event<'_>) {
        let mut watched = self.lock();
        if event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW) {
            watched.values().flatten().for_each(wake);
            return;
        }
        watched.get(&event.wd()).into_iter().flatten().for_each(wake);
        if event.events().contains(inotify::ReadFlags::IGNORED) {
            // The directory is gone, and the kernel's watch with it.
            watched.remove(&event.wd());
        }
    }
}

fn wake(sender: &mpsc::Sender<()>) {
    // Full: it will wake anyway.
    let _ = sender.try_send(());
}

/// Passes on what the kernel tells, as long as there is somebody to tell.
async fn pump(inotify: Arc<AsyncFd<OwnedFd>>, watched: Arc<Watched>) {
    let mut buffer = [std::mem::MaybeUninit::uninit(); READ];
    loop {
        let Ok(mut ready) = inotify.readable().await else { return };
        let mut events = inotify::Reader::new(inotify.get_ref(), &mut buffer);
        loop {
            match events.next() {
                Ok(event) => watched.wake(&event),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    ready.clear_ready();
                    break;
                }
                Err(error) => {
                    // Not in the manual. Everybody looks at once rather than never.
                    tracing::error!(%error, "changes of log files are not told any more");
                    watched.lock().values().flatten().for_each(wake);
                    return;
                }
            }
        }
    }
}

/// Watches some directories.
pub struct Watcher {
    hub: Arc<Hub>,
    wake: mpsc::Sender<()>,
    woken: mpsc::Receiver<()>,
    watches: Vec<i32>,
}

impl Watcher {
    /// This one too. One that is not there, or no longer, never changes.
    ///
    /// Errors: this user has as many watches as the kernel allows.
    pub fn add(&mut self, dir: &Path) -> io::Result<()> {
        let flags = inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::DELETE_SELF
            | inotify::WatchFlags::ONLYDIR;
        // Held meanwhile, so that nobody removes the watch that the kernel says is there already.
        let mut watched = self.hub.watched.lock();
        match inotify::add_watch(self.hub.inotify.get_ref(), dir, flags) {
            Ok(watch) => {
                watched.entry(watch).or_default().push(self.wake.clone());
                self.watches.push(watch);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns when something has changed since the last call, or since it was added.
    pub async fn changed(&mut self) {
        // It never ends: a sender of its own is held here.
        self.woken.recv().await;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut watched = self.hub.watched.lock();
        for watch in &self.watches {
            let Some(others) = watched.get_mut(watch) else { continue };
            others.retain(|other| !other.same_channel(&self.wake));
            if others.is_empty() {
                watched.remove(watch);
                // It may be gone by itself by now.
                let _ = inotify::remove_watch(self.hub.inotify.get_ref(), *watch);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::future::poll_fn;
    use std::task::Poll;

    async fn is_quiet(watcher: &mut Watcher) -> bool {
        // The pump has had its turns by then.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        poll_fn(|context| Poll::Ready(watcher.woken.poll_recv(context).is_pending())).await
    }

    #[tokio::test]
    async fn each_watcher_hears_of_its_own_directories_and_of_no_others() {
        let root = tempfile::tempdir().unwrap();
        let dirs = ["a", "b"].map(|name| root.path().join(name));
        for dir in &dirs {
            fs::create_dir(dir).unwrap();
        }
        let watches = Watches::new().unwrap();
        let [mut both, mut first] = [watches.watcher(), watches.watcher()];
        both.add(&dirs[0]).unwrap();
        both.add(&dirs[1]).unwrap();
        first.add(&dirs[0]).unwrap();
        fs::write(dirs[1].join("log"), "x").unwrap();
        both.changed().await;
        assert!(is_quiet(&mut first).await);
        drop(both);
        fs::write(dirs[0].join("log"), "x").unwrap();
        first.changed().await;
    }

    #[tokio::test]
    async fn a_directory_that_goes_and_comes_back_can_be_watched_again() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("dir");
        let watches = Watches::new().unwrap();
        let mut watcher = watches.watcher();
        watcher.add(&dir).unwrap();
        assert!(is_quiet(&mut watcher).await);
        for _ in 0..3 {
            fs::create_dir(&dir).unwrap();
            watcher.add(&dir).unwrap();
            fs::remove_dir(&dir).unwrap();
            watcher.changed().await;
        }
        drop(watcher);
        assert!(watches.0.watched.lock().is_empty());
    }
}
