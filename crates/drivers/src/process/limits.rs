//! How many descriptors may be open: many for the daemon, as many as it was given for services.

use std::io;
use std::process::Child;
use std::sync::OnceLock;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

/// What this process was given.
static GIVEN: OnceLock<Rlimit> = OnceLock::new();

/// Lets this process open as many as it may. The usual 1,024 would end at some thousand services:
/// each has one channel.
pub(super) fn raise() -> io::Result<()> {
    let given = *GIVEN.get_or_init(|| getrlimit(Resource::Nofile));
    Ok(setrlimit(Resource::Nofile, Rlimit { current: given.maximum, ..given })?)
}

/// Gives a child what this process was given: programs that use `select` break with more.
pub(crate) fn restore(child: &Child) -> io::Result<()> {
    let Some(given) = GIVEN.get() else { return Ok(()) };
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    prlimit(pid, Resource::Nofile, *given)?;
    Ok(())
}
