//! Journeys: the real binary, real processes, a daemon that is really killed.
//!
//! A test whose needs are not met on this machine is counted as ignored and says why; where
//! `UPBEAT_REQUIRE` names the need, it fails instead.

#![expect(clippy::unwrap_used, reason = "a journey that cannot go on has failed")]

mod absence;
mod clients;
mod crash;
mod extremes;
mod graph;
mod home;
mod lifecycle;
mod readme;
mod requests;
mod terminal;

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
}

impl Need {
    fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
        }
    }

    fn is_met(self) -> bool {
        match self {
            Self::Root => rustix::process::geteuid().is_root(),
        }
    }
}

fn main() {
    let arguments = Arguments::from_args();
    let required = std::env::var("UPBEAT_REQUIRE").unwrap_or_default();
    let journeys = [
        readme::journeys(),
        graph::journeys(),
        lifecycle::journeys(),
        requests::journeys(),
        clients::journeys(),
        terminal::journeys(),
        absence::journeys(),
        crash::journeys(),
        extremes::journeys(),
    ];
    let trials = journeys.into_iter().flatten().map(|journey| trial(journey, &required)).collect();
    libtest_mimic::run(&arguments, trials).exit();
}

fn trial(journey: Journey, required: &str) -> Trial {
    let Journey { name, needs, run } = journey;
    let missing = needs.iter().find(|need| !need.is_met());
    let Some(missing) = missing else {
        return Trial::test(name, move || {
            run();
            Ok(())
        });
    };
    let missing = missing.name();
    if required.split(',').any(|need| need == missing) {
        return Trial::test(name, move || {
            Err(Failed::from(format!("UPBEAT_REQUIRE names `{missing}`, which this machine lacks")))
        });
    }
    eprintln!("SKIPPED {name}: needs {missing}");
    Trial::test(name, || Ok(())).with_ignored_flag(true)
}
