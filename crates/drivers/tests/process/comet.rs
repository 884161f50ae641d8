//! A service of which at any time one process is there, and never for long: it makes another and ends.
#![allow(unsafe_code)]

use std::time::Instant;

use crate::rig::PATIENCE;

/// Flies. `hops`: each in a session of its own. Ends by itself some time after the test has failed.
pub(crate) fn run(hops: bool) -> ! {
    let until = Instant::now() + 2 * PATIENCE;
    rustix::process::setsid().unwrap();
    println!("flies");
    while Instant::now() < until {
        // SAFETY: this process has one thread, and what it does next is allowed after a fork.
        if unsafe { libc::fork() } != 0 {
            // SAFETY: ends this process, without a word.
            unsafe { libc::_exit(0) };
        }
        if hops {
            let _ = rustix::process::setsid();
        }
    }
    std::process::exit(0)
}
