//! Journeys: the real binary, real processes, a daemon that is really killed.
//!
//! A test whose needs are not met on this machine is counted as ignored and says why; where
//! `UPBEAT_REQUIRE` names the need, it fails instead.

#![expect(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

mod absence;
mod access;
mod clients;
mod crash;
mod extremes;
mod files;
mod graph;
mod guide;
mod health;
mod health_edges;
mod health_hooks;
mod health_outside;
mod home;
mod itself;
mod lifecycle;
mod readme;
mod requests;
mod seeing;
mod stand_in;
mod surroundings;
mod terminal;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

/// One journey.
pub(crate) struct Journey {
    /// As a sentence.
    pub(crate) name: &'static str,
    /// What it needs of the machine.
    pub(crate) needs: &'static [Need],
    /// The journey.
    pub(crate) run: fn(),
}

/// What a journey can need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// To be root: to mount a small tmpfs, to become another user.
    Root,
    /// To be let beyond limits: of the tests of drivers, as one variable is for all.
    SysResource,
    /// To limit all processes of a copy together: of those too.
    Controllers,
    /// Debian's `redis-server`.
    Redis,
    /// `prometheus` and `promtool`, of Debian's package.
    Prometheus,
}

impl Need {
    const ALL: [Self; 5] = [Self::Root, Self::SysResource, Self::Controllers, Self::Redis, Self::Prometheus];

    /// Those that `UPBEAT_REQUIRE` names, by commas. Errors: a name that is no need, for a typing
    /// mistake must not let a machine skip what it was to run.
    fn required() -> Result<Vec<Self>, String> {
        let names = std::env::var_os("UPBEAT_REQUIRE").unwrap_or_default();
        let names = names.to_string_lossy();
        let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
        let need = |name: &str| Self::ALL.into_iter().find(|need| need.name() == name);
        names.map(|name| need(name).ok_or_else(|| name.to_owned())).collect()
    }

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
            Self::Root => rustix::process::geteuid().is_root(),
            Self::Prometheus => ["prometheus", "promtool"].iter().all(|program| is_installed(program)),
            // No journey needs it.
            Self::SysResource | Self::Controllers => true,
            Self::Redis => is_installed("redis-server"),
        }
    }
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    if words.next_if(|word| word == stand_in::WORD).is_some() {
        return stand_in::run(words);
    }
    let arguments = Arguments::from_args();
    let required = match Need::required() {
        Ok(required) => required,
        Err(name) => {
            let known = Need::ALL.map(Need::name).join(", ");
            eprintln!("UPBEAT_REQUIRE names `{name}`, which nothing needs; known: {known}");
            return ExitCode::from(2);
        }
    };
    let trials = journeys().into_iter().map(|journey| trial(journey, &required)).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// All of them.
pub(crate) fn journeys() -> Vec<Journey> {
    let journeys = [
        readme::journeys(),
        graph::journeys(),
        guide::journeys(),
        lifecycle::journeys(),
        requests::journeys(),
        clients::journeys(),
        terminal::journeys(),
        absence::journeys(),
        crash::journeys(),
        extremes::journeys(),
        files::journeys(),
        surroundings::journeys(),
        health::journeys(),
        health_edges::journeys(),
        health_hooks::journeys(),
        health_outside::journeys(),
        seeing::journeys(),
        access::journeys(),
        itself::journeys(),
    ];
    journeys.into_iter().flatten().collect()
}

fn trial(journey: Journey, required: &[Need]) -> Trial {
    let Journey { name, needs, run } = journey;
    let missing = needs.iter().find(|need| !need.is_met());
    let Some(missing) = missing else {
        return Trial::test(name, move || {
            run();
            Ok(())
        });
    };
    let (is_required, missing) = (required.contains(missing), missing.name());
    if is_required {
        return Trial::test(name, move || {
            Err(Failed::from(format!("UPBEAT_REQUIRE names `{missing}`, which this machine lacks")))
        });
    }
    eprintln!("SKIPPED {name}: needs {missing}");
    Trial::test(name, || Ok(())).with_ignored_flag(true)
}
