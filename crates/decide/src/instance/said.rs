//! What a process says of itself: the protocol of systemd's `sd_notify`, heard by its shim.

use upbeat_model::{Millis, Mono};

/// Everything it has said so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// `READY=1`.
    pub ready: bool,
    /// `RELOADING=1`, and not ready since.
    pub reloading: bool,
    /// `STOPPING=1`.
    pub stopping: bool,
    /// `STATUS=`: for people.
    pub status: Option<String>,
    /// `MAINPID=`.
    pub main_pid: Option<i32>,
    /// `EXTEND_TIMEOUT_USEC=`: whoever waits for it waits at least until then.
    pub extended: Option<Mono>,
    /// `WATCHDOG=`.
    pub watchdog: Watchdog,
    /// How often its watchdog has expired, or it has asked to be treated so: also what was over before
    /// anybody was told.
    pub expiries: u32,
    /// The interval of its watchdog, which it may have changed (`WATCHDOG_USEC=`).
    pub watchdog_every: Option<Millis>,
}

/// Whether it says often enough that it is alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Watchdog {
    /// It need not, or not yet.
    #[default]
    Off,
    /// It does.
    Alive,
    /// It does not.
    Expired,
    /// It says that something is wrong with it (`WATCHDOG=trigger`).
    Triggered,
}
