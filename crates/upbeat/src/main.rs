//! The `upbeat` binary.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    // Decided before anything else is looked at: the shim is a small program of its own that
    // happens to be in the same file.
    if args.get(1).is_some_and(|arg| arg == upbeat::daemon::SHIM_ARGUMENT) {
        return upbeat_shim::main();
    }
    upbeat::cli::main(args).into()
}
