//! Named places in a shim where a test can kill the daemon, or the shim. In a release build there
//! are none.
//!
//! `UPBEAT_SHIM_FAILPOINT=name:/path/marker` in the zygote's environment: the first shim that comes
//! to `name` makes the marker, kills the daemon as `kill -9` would, and goes on. With
//! `self:name:/path/marker` it kills itself.

#[cfg(debug_assertions)]
mod chosen {
    use std::sync::atomic::{AtomicI32, Ordering};

    use rustix::process::{Pid, Signal, getpid, kill_process};

    /// Whom to kill; 0 for nobody.
    static DAEMON: AtomicI32 = AtomicI32::new(0);

    pub(super) fn set_daemon(pid: i32) {
        DAEMON.store(pid, Ordering::Relaxed);
    }

    pub(super) fn reach(name: &str) {
        let daemon = Pid::from_raw(DAEMON.load(Ordering::Relaxed));
        let (Some(daemon), Ok(value)) = (daemon, std::env::var("UPBEAT_SHIM_FAILPOINT")) else { return };
        let (value, victim) = match value.strip_prefix("self:") {
            Some(rest) => (rest, getpid()),
            None => (&value[..], daemon),
        };
        if let Some((chosen, marker)) = value.split_once(':')
            && chosen == name
            && std::fs::OpenOptions::new().write(true).create_new(true).open(marker).is_ok()
        {
            let _ = kill_process(victim, Signal::KILL);
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
