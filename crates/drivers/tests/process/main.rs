//! The process driver with real shims and real processes.
//!
//! This program is everything a test needs: the tests, the zygote, and the few odd services that no
//! shell script can be. A test whose needs are not met on this machine is counted as ignored and
//! says why; where `UPBEAT_REQUIRE` names the need, it fails instead.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod cgroup;
mod exec;
mod life;
mod machine;
mod notify;
mod notify_sender;
mod output;
mod private;
mod probes;
mod rig;
mod surroundings;
mod survival;

use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use upbeat_drivers::cgroups::{Capabilities, OF_THIS_PROCESS};
use upbeat_model::project::Resources;

/// One test.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// As a sentence.
    pub(crate) name: &'static str,
    /// What it needs of the machine.
    pub(crate) needs: Option<Need>,
    /// The test.
    pub(crate) run: fn(),
}

impl Case {
    /// A test that anybody can run.
    pub(crate) const fn new(name: &'static str, run: fn()) -> Self {
        Self { name, needs: None, run }
    }

    /// A test that not every machine can run.
    pub(crate) const fn needing(need: Need, name: &'static str, run: fn()) -> Self {
        Self { name, needs: Some(need), run }
    }
}

/// What a test can need. The journeys know the same names: one variable is for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// To be root: to mount a small disk, to become another user.
    Root,
    /// To be let beyond limits (`CAP_SYS_RESOURCE`), which root in a container mostly is not.
    SysResource,
    /// To limit processor time, memory and processes: cgroups of version 2 with their controllers.
    Controllers,
    /// Debian's `redis-server`: of the journeys.
    Redis,
    /// A server of numbers: of the journeys.
    Prometheus,
}

impl Need {
    const ALL: [Self; 5] = [Self::Root, Self::SysResource, Self::Controllers, Self::Redis, Self::Prometheus];

    fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::SysResource => "sys_resource",
            Self::Controllers => "controllers",
            Self::Redis => "redis",
            Self::Prometheus => "prometheus",
        }
    }

    fn is_met(self) -> bool {
        match self {
            Self::Controllers => {
                let [cpus, memory, memory_reservation, pids] = [Some(1); 4];
                let all = Resources { cpus, memory, memory_reservation, pids };
                Capabilities::look(OF_THIS_PROCESS.as_ref()).lacks(&all).is_empty()
            }
            Self::Root => rustix::process::geteuid().is_root(),
            // No test here needs it.
            Self::Redis | Self::Prometheus => true,
            Self::SysResource => {
                let set = rustix::thread::capabilities(None);
                set.is_ok_and(|set| set.effective.contains(rustix::thread::CapabilitySet::SYS_RESOURCE))
            }
        }
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
        Some("notify") => {
            notify_sender::run(&mut arguments.map(|argument| argument.into_string().unwrap()));
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
    let arguments = Arguments::from_args();
    let required = std::env::var_os("UPBEAT_REQUIRE").unwrap_or_default();
    let required: Vec<String> =
        required.to_string_lossy().split(',').map(|need| need.trim().to_owned()).collect();
    // A typing mistake must not let a machine skip what it was to run.
    let known = Need::ALL.map(Need::name);
    if let Some(unknown) = required.iter().find(|need| !need.is_empty() && !known.contains(&need.as_str())) {
        eprintln!("UPBEAT_REQUIRE names `{unknown}`, which nothing needs; known: {}", known.join(", "));
        return ExitCode::from(2);
    }
    let cases = [
        life::CASES,
        output::CASES,
        survival::CASES,
        exec::CASES,
        machine::CASES,
        surroundings::CASES,
        private::CASES,
        probes::CASES,
        cgroup::CASES,
        notify::CASES,
    ]
    .concat();
    let trials = cases.into_iter().map(|case| trial(case, &required)).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(case: Case, required: &[String]) -> Trial {
    let Case { name, needs, run } = case;
    let Some(missing) = needs.filter(|need| !need.is_met()).map(Need::name) else {
        return Trial::test(name, move || {
            run();
            Ok(())
        });
    };
    if required.iter().any(|need| need == missing) {
        return Trial::test(name, move || {
            Err(Failed::from(format!("UPBEAT_REQUIRE names `{missing}`, which this machine lacks")))
        });
    }
    eprintln!("SKIPPED {name}: needs {missing}");
    Trial::test(name, || Ok(())).with_ignored_flag(true)
}
