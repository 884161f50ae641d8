//! Named places in the daemon where a test can kill or stop it. In a release build there are none.

/// Kills this process at the point named by `UPBEAT_FAILPOINT`, as `kill -9` would: once, which is
/// remembered by the marker file that follows the name (`name:/path/marker`). At `name+stop` it is stopped there until
/// somebody continues it.
#[cfg(debug_assertions)]
pub(super) fn reach(name: &str) {
    use std::sync::OnceLock;
    static CHOSEN: OnceLock<Option<(String, String)>> = OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let value = std::env::var("UPBEAT_FAILPOINT").ok()?;
        let (name, marker) = value.split_once(':')?;
        Some((name.to_owned(), marker.to_owned()))
    });
    use rustix::process::Signal;
    if let Some((chosen, marker)) = chosen
        && let Some(signal) = match chosen.strip_suffix("+stop") {
            Some(chosen) => (chosen == name).then_some(Signal::STOP),
            None => (chosen == name).then_some(Signal::KILL),
        }
        && std::fs::OpenOptions::new().write(true).create_new(true).open(marker).is_ok()
    {
        let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
    }
}

/// Nothing, in a release build.
#[cfg(not(debug_assertions))]
pub(super) fn reach(_name: &str) {}
