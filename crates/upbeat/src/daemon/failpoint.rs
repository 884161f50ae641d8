//! Named places in the daemon where a test can kill or stop it. In a release build there are none.

/// Kills this process at the point named by `UPBEAT_FAILPOINT`, as `kill -9` would: once, which is
/// remembered by the marker file that follows the name (`name:/path/marker`). At `name#3` it is not the first time
/// that this process comes there but the third, and at `name+stop` it is stopped there until somebody continues it.
#[cfg(debug_assertions)]
pub(super) fn reach(name: &str) {
    use std::sync::OnceLock;
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    let armed = ARMED.get_or_init(|| Armed::read(&std::env::var("UPBEAT_FAILPOINT").ok()?));
    if let Some(armed) = armed
        && armed.is_due(name)
        && std::fs::OpenOptions::new().write(true).create_new(true).open(&armed.marker).is_ok()
    {
        let _ = rustix::process::kill_process(rustix::process::getpid(), armed.signal);
    }
}

/// What `UPBEAT_FAILPOINT` says.
#[cfg(debug_assertions)]
#[derive(Debug)]
struct Armed {
    name: String,
    signal: rustix::process::Signal,
    /// Which time, from 1 on.
    turn: u32,
    marker: String,
    /// How often it was reached so far.
    reached: std::sync::atomic::AtomicU32,
}

#[cfg(debug_assertions)]
impl Armed {
    /// None: it is not said as it must be.
    fn read(value: &str) -> Option<Self> {
        use rustix::process::Signal;
        let (point, marker) = value.split_once(':')?;
        let (point, turn) = match point.split_once('#') {
            Some((point, turn)) => (point, turn.parse().ok()?),
            None => (point, 1),
        };
        let (name, signal) = match point.strip_suffix("+stop") {
            Some(name) => (name, Signal::STOP),
            None => (point, Signal::KILL),
        };
        let (name, marker) = (name.to_owned(), marker.to_owned());
        Some(Self { name, signal, turn, marker, reached: Default::default() })
    }

    fn is_due(&self, name: &str) -> bool {
        self.name == name && self.reached.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1 == self.turn
    }
}

/// Nothing, in a release build.
#[cfg(not(debug_assertions))]
pub(super) fn reach(_name: &str) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_armed_for_the_time_that_is_said() {
        let due = |value: &str| {
            let armed = Armed::read(value).unwrap();
            (1..=4).filter(|_| !armed.is_due("other") && armed.is_due("here")).collect::<Vec<u32>>()
        };
        assert_eq!([due("here:/m"), due("here#3:/m"), due("here+stop#2:/m")], [[1], [3], [2]]);
        assert_eq!(due("here#9:/m"), [0; 0]);
        assert!(Armed::read("here").is_none() && Armed::read("here#x:/m").is_none());
    }
}
