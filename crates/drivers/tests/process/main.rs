//! The process driver with real shims and real processes.
//!
//! This program is everything a test needs: the tests, the zygote, and the few odd services that no
//! shell script can be.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod asked;
mod cgroup;
mod comet;
mod exec;
mod life;
mod machine;
mod notify;
mod notify_sender;
mod output;
mod private;
mod privileges;
mod probes;
mod rig;
mod surroundings;
mod survival;

use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use upbeat_drivers::cgroups::{Capabilities, OF_THIS_PROCESS};
use upbeat_model::project::Resources;
pub(crate) use upbeat_needs::{Need, Test as Case};

/// To be let beyond limits (`CAP_SYS_RESOURCE`), which root in a container mostly is not.
pub(crate) const SYS_RESOURCE: Need = Need::new("sys_resource", || {
    let set = rustix::thread::capabilities(None);
    set.is_ok_and(|set| set.effective.contains(rustix::thread::CapabilitySet::SYS_RESOURCE))
});

/// To limit processor time, memory and processes: cgroups of version 2 with their controllers.
pub(crate) const CONTROLLERS: Need = Need::new("controllers", || {
    let [cpus, memory, memory_reservation, pids] = [Some(1); 4];
    let all = Resources { cpus, memory, memory_reservation, pids };
    Capabilities::look(OF_THIS_PROCESS.as_ref()).lacks(&all).is_empty()
});

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().as_ref().and_then(|first| first.to_str()) {
        Some("zygote") => upbeat_shim::main(),
        Some("in-a-session-of-its-own") => {
            rustix::process::setsid().unwrap();
            let program = arguments.next().unwrap();
            panic!("{}", std::process::Command::new(program).args(arguments).exec());
        }
        Some("notify") => {
            notify_sender::run(&mut arguments.map(|argument| argument.into_string().unwrap()));
            ExitCode::SUCCESS
        }
        Some("comet") => comet::run(arguments.next().is_some()),
        Some("ask-with-few-files") => {
            probes::ask_with_few_files();
            ExitCode::SUCCESS
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
    let cases = [
        life::CASES,
        output::CASES,
        survival::CASES,
        exec::CASES,
        asked::CASES,
        machine::CASES,
        surroundings::CASES,
        private::CASES,
        privileges::CASES,
        probes::CASES,
        cgroup::CASES,
        notify::CASES,
    ]
    .concat();
    upbeat_needs::run(cases)
}
