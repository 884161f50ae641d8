//! The machine's clocks, as the data that decisions take.

use upbeat_model::{Mono, Wall};

/// The boot clock, in milliseconds: never steps, goes on while the machine sleeps.
pub fn mono() -> Mono {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Mono(now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000)
}

/// The clock on the wall, in milliseconds since the Unix epoch.
pub fn wall() -> Wall {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    Wall(now.tv_sec * 1000 + now.tv_nsec / 1_000_000)
}

/// Which boot of the machine this is. Two boots never share it.
///
/// Errors: `/proc` is not mounted.
pub fn boot_id() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}
