//! Named places in a shim where a test can kill the daemon. In a release build there are none.
//!
//! `UPBEAT_SHIM_FAILPOINT=name:/path/marker` in the zygote's environment: the first shim that comes
//! to `name` makes the marker, kills the daemon as `kill -9` would, and goes on.

#[cfg(debug_assertions)]
mod chosen {
    use std::sync::atomic::{AtomicI32, Ordering};

    /// Whom to kill; 0 for nobody.
    static DAEMON: AtomicI32 = AtomicI32::new(0);

    pub(super) fn set_daemon(pid: i32) {
        DAEMON.store(pid, Ordering::Relaxed);
    }

    pub(super) fn reach(name: &str) {
        let Ok(value) = std::env::var("UPBEAT_SHIM_FAILPOINT") else { return };
        let Some((chosen, marker)) = value.split_once(':') else { return };
        let daemon = DAEMON.load(Ordering::Relaxed);
        if chosen == name
            && let Some(daemon) = rustix::process::Pid::from_raw(daemon)
            && std::fs::OpenOptions::new().write(true).create_new(true).open(marker).is_ok()
        {
            let _ = rustix::process::kill_process(daemon, rustix::process::Signal::KILL);
        }
    }
}

/// Whom a failpoint kills.
pub(crate) fn set_daemon(pid: i32) {
    #[cfg(debug_assertions)]
    chosen::set_daemon(pid);
    #[cfg(not(debug_assertions))]
    let _ = pid;
}

/// A named place.
pub(crate) fn reach(name: &str) {
    #[cfg(debug_assertions)]
    chosen::reach(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}
