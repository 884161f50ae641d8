//! The small program that owns one process: its tree, its output, its exit.
//!
//! The daemon starts one **zygote**: a single-threaded process that forks one shim for each order
//! it gets, and nothing else. A shim belongs to nobody: when the daemon and the zygote die, it goes
//! on, and a later daemon finds it by the socket in its slot's directory.
//!
//! What a shim guarantees:
//! * It holds an exclusive lock on its slot's `lock` file from before it forks until its whole tree
//!   is gone and the exit is on record: the kernel keeps a slot from having two copies.
//! * It does not start an attempt when the record names the same or a higher one.
//! * It is the subreaper of its tree: no descendant escapes it, and it knows that the tree is empty
//!   when it has no child left. Its main process dies with it (`PR_SET_PDEATHSIG`).
//! * It does not block its child: records that cannot be written are dropped whole, and counted. Only a
//!   disk that neither writes nor refuses holds up both.
//! * A stop it was asked for ends in time, whoever asked and whether or not they live.
//! * What its tree says of itself is kept and told to whoever comes, if it was to be heard at all.
//!
//! Single-threaded; std, rustix and libc only (libc for `fork`, signals and `waitpid`, which rustix
//! does not offer so). Nothing is allocated between `fork` and `exec`.

pub mod cgroup;
mod child;
mod exec;
mod failpoint;
mod grace;
mod leader;
pub mod log;
pub mod notify;
pub mod private;
mod privileges;
pub mod record;
pub mod spec;
pub mod stat;
mod stdio;
pub mod supervise;
pub mod system;
mod tree;
pub mod user;
pub mod wire;
mod zygote;

use std::process::ExitCode;

/// Runs the zygote: its standard input is the socket its orders come through.
///
/// Ends with 0 when the daemon closes the socket, with 2 when there is no such socket.
pub fn main() -> ExitCode {
    zygote::run()
}
