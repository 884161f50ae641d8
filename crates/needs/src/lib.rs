//! For tests: what one needs of the machine, and what becomes of it where that is not there.
//!
//! A test whose needs are not met is counted as ignored and says why; where the variable
//! `UPBEAT_REQUIRE` names the need, it fails instead. One variable is for all programs of tests, so all
//! of them know all names.

pub mod docker;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

/// All that any test needs. A name in `UPBEAT_REQUIRE` that is none of these is a typing mistake, which
/// must not let a machine skip what it was to run.
pub const NAMES: [&str; 9] =
    ["root", "sys_resource", "controllers", "redis", "prometheus", "openssl", "curl", "docker", "registry"];

/// What a test can need.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    name: &'static str,
    is_met: fn() -> bool,
}

impl Need {
    /// To be root: to mount a small disk, to become another user.
    pub const ROOT: Self = Self::new("root", || rustix::process::geteuid().is_root());
    /// Debian's `redis-server`.
    pub const REDIS: Self = Self::new("redis", || are_installed(&["redis-server"]));
    /// A server of numbers, and what checks them: of Debian's package `prometheus`.
    pub const PROMETHEUS: Self = Self::new("prometheus", || are_installed(&["prometheus", "promtool"]));
    /// The command that makes certificates.
    pub const OPENSSL: Self = Self::new("openssl", || are_installed(&["openssl"]));
    /// The command that asks over HTTP, as pages of the documentation type it.
    pub const CURL: Self = Self::new("curl", || are_installed(&["curl"]));

    /// A container engine, at `DOCKER_HOST` or at its usual socket, and `busybox`, of which images are made.
    pub const DOCKER: Self =
        Self::new("docker", || docker::Docker::here().is_some() && are_installed(&["busybox", "tar"]));
    /// Debian's `docker-registry`.
    pub const REGISTRY: Self = Self::new("registry", || are_installed(&["docker-registry"]));

    /// As `UPBEAT_REQUIRE` has it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// One that only some tests can look for.
    pub const fn new(name: &'static str, is_met: fn() -> bool) -> Self {
        Self { name, is_met }
    }
}

fn are_installed(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_installed = |program: &&str| std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    programs.iter().all(is_installed)
}

/// One test of a program that is its own harness.
#[derive(Clone, Copy, Debug)]
pub struct Test {
    /// As a sentence.
    pub name: &'static str,
    /// What it needs of the machine.
    pub needs: &'static [Need],
    /// Panics if it fails.
    pub run: fn(),
}

impl Test {
    /// One that anybody can run.
    pub const fn new(name: &'static str, run: fn()) -> Self {
        Self { name, needs: &[], run }
    }

    /// One that not every machine can run.
    pub const fn needing(needs: &'static [Need], name: &'static str, run: fn()) -> Self {
        Self { name, needs, run }
    }
}

/// Runs those that the arguments of this program ask for.
pub fn run(tests: impl IntoIterator<Item = Test>) -> ExitCode {
    let arguments = Arguments::from_args();
    let required = match required() {
        Ok(required) => required,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    let trials = tests.into_iter().map(|test| trial(test, &required)).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// For tests of another harness, which can count none as ignored: whether this one is not to be run here.
///
/// Panics where it was to be.
#[track_caller]
pub fn is_skipped(test: &str, need: Need) -> bool {
    if (need.is_met)() {
        return false;
    }
    let required = required();
    assert!(required.as_ref().is_ok_and(|required| !required.contains(&need.name)), "{}", lacks(need.name));
    eprintln!("{}", skipped(test, need.name));
    true
}

/// What `UPBEAT_REQUIRE` names, by commas. Errors: a name that is none.
fn required() -> Result<Vec<&'static str>, String> {
    let names = std::env::var_os("UPBEAT_REQUIRE").unwrap_or_default();
    known(&names.to_string_lossy())
}

fn known(names: &str) -> Result<Vec<&'static str>, String> {
    let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
    let known = |name: &str| {
        let unknown =
            || format!("UPBEAT_REQUIRE names `{name}`, which nothing needs; known: {}", NAMES.join(", "));
        NAMES.into_iter().find(|known| *known == name).ok_or_else(unknown)
    };
    names.map(known).collect()
}

fn lacks(need: &str) -> String {
    format!("UPBEAT_REQUIRE names `{need}`, which this machine lacks")
}

fn skipped(test: &str, need: &str) -> String {
    format!("SKIPPED {test}: needs {need}")
}

fn trial(test: Test, required: &[&str]) -> Trial {
    let Test { name, needs, run } = test;
    let Some(missing) = needs.iter().find(|need| !(need.is_met)()).map(|need| need.name) else {
        return Trial::test(name, move || {
            run();
            Ok(())
        });
    };
    if !NAMES.contains(&missing) {
        return Trial::test(name, move || Err(Failed::from(format!("no need is called `{missing}`"))));
    }
    if required.contains(&missing) {
        return Trial::test(name, move || Err(Failed::from(lacks(missing))));
    }
    eprintln!("{}", skipped(name, missing));
    Trial::test(name, || Ok(())).with_ignored_flag(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_no_need_is_refused_with_those_that_are() {
        assert_eq!(known(" root, redis,"), Ok(vec!["root", "redis"]));
        assert_eq!(known(""), Ok(vec![]));
        let refused = known("root,radis").unwrap_err();
        assert!(refused.contains("`radis`") && refused.ends_with("curl, docker, registry"), "{refused}");
    }

    #[test]
    fn what_is_missing_is_ignored_or_has_failed() {
        const MISSING: Need = Need::new("root", || false);
        const TEST: Test = Test::needing(&[MISSING], "it would run", || unreachable!());
        assert!(trial(TEST, &[]).has_ignored_flag());
        assert!(trial(TEST, &["redis"]).has_ignored_flag());
        assert!(!trial(TEST, &["root"]).has_ignored_flag());
        const UNKNOWN: Test = Test::needing(&[Need::new("luck", || false)], "it would run", || ());
        assert!(!trial(UNKNOWN, &[]).has_ignored_flag());
    }
}
