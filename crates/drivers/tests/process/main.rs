//! The process driver with real shims and real processes.
//!
//! This program is everything a test needs: the tests, the zygote, and the few odd services that no
//! shell script can be. A test whose needs are not met on this machine is counted as ignored and
//! says why; where `UPBEAT_REQUIRE` names the need, it fails instead.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod exec;
mod life;
mod machine;
mod output;
mod rig;
mod survival;

use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

/// One test.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// As a sentence.
    pub(crate) name: &'static str,
    /// Only root can do it: to mount a small disk, to become another user.
    pub(crate) needs_root: bool,
    /// The test.
    pub(crate) run: fn(),
}

impl Case {
    /// A test that anybody can run.
    pub(crate) const fn new(name: &'static str, run: fn()) -> Self {
        Self { name, needs_root: false, run }
    }

    /// A test that only root can run.
    pub(crate) const fn of_root(name: &'static str, run: fn()) -> Self {
        Self { name, needs_root: true, run }
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().as_ref().and_then(|first| first.to_str()) {
        Some("zygote") => upbeat_shim::main(),
        Some("in-a-session-of-its-own") => {
            rustix::process::setsid().unwrap();
            let program = arguments.next().unwrap();
            panic!("{}", std::process::Command::new(program).args(arguments).exec());
        }
        Some("list-descriptors") => {
            list_descriptors();
            ExitCode::SUCCESS
        }
        _ => run(),
    }
}

/// Prints each open descriptor and what it is, but not the one this takes.
fn list_descriptors() {
    let fds = std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let listed = fds.filter_map(|fd| Some((fd.clone(), std::fs::read_link(&fd).ok()?)));
    for (fd, target) in listed.filter(|(_, target)| !target.ends_with("fd")) {
        println!("{} {}", fd.file_name().unwrap().display(), target.display());
    }
}

/// What the drivers here are given, and may raise for themselves only.
const OPEN_FILES: u64 = 1024;

/// A start of this program that leaves as much as possible to be inherited by mistake.
fn be_a_careless_parent() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(OPEN_FILES), ..limit }).unwrap();
    if rustix::process::geteuid().is_root() {
        rustix::thread::set_thread_groups(&[0, 1, 2].map(rustix::process::Gid::from_raw)).unwrap();
    }
}

fn run() -> ExitCode {
    be_a_careless_parent();
    let arguments = Arguments::from_args();
    let required = std::env::var_os("UPBEAT_REQUIRE").unwrap_or_default();
    let required: Vec<String> =
        required.to_string_lossy().split(',').map(|need| need.trim().to_owned()).collect();
    // A typing mistake must not let a machine skip what it was to run.
    if let Some(unknown) = required.iter().find(|need| !["", "root"].contains(&need.as_str())) {
        eprintln!("UPBEAT_REQUIRE names `{unknown}`, which nothing needs; known: root");
        return ExitCode::from(2);
    }
    let is_required = required.iter().any(|need| need == "root");
    let cases = [life::CASES, output::CASES, survival::CASES, exec::CASES, machine::CASES].concat();
    let trials = cases.into_iter().map(|case| trial(case, is_required)).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(case: Case, root_is_required: bool) -> Trial {
    let Case { name, needs_root, run } = case;
    if !needs_root || rustix::process::geteuid().is_root() {
        return Trial::test(name, move || {
            run();
            Ok(())
        });
    }
    if root_is_required {
        return Trial::test(name, || {
            Err(Failed::from("UPBEAT_REQUIRE names `root`, which this user is not"))
        });
    }
    eprintln!("SKIPPED {name}: needs root");
    Trial::test(name, || Ok(())).with_ignored_flag(true)
}
