//! The journeys' own bookkeeping: what is skipped says so and is counted, and fails where it is
//! required.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

use crate::Journey;
use crate::home::Ran;
use crate::readme::ROOT;

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        Journey {
            name: "without root what needs it is skipped and counted, and fails where it is required",
            needs: &[],
            run: skipped,
        },
        Journey { name: "an unknown need is refused before anything runs", needs: &[], run: unknown },
        Journey { name: "the results of all test programs make one line", needs: &[], run: one_line },
    ]
}

/// Some other user than root, without any right of root's.
const NOBODY: u32 = 65534;

/// One that needs root.
const OF_ROOT: &str = "a full disk drops whole records and says so";

/// This very program, run by somebody who is not root.
fn run(required: Option<&str>, filter: &str) -> Ran {
    // Nobody else can read the directory this program was built in.
    let dir = tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o755)).tempdir().unwrap();
    let program = dir.path().join("e2e");
    // By another program: what this one has open for writing a journey beside this one may inherit for
    // a moment, in which it cannot be run.
    let copied = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program).status();
    assert!(copied.unwrap().success());
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = Command::new(&program);
    command.args(["--exact", filter]).current_dir(dir.path()).env_clear().stdin(Stdio::null());
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    if let Some(required) = required {
        command.env("UPBEAT_REQUIRE", required);
    }
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let Output { stdout, stderr, status } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { stdout: text(stdout), stderr: text(stderr), code: status.code().unwrap_or(-1) }
}

fn skipped() {
    // Each says so, also where the filter leaves it out.
    // Who is nobody may not speak to an engine either. Of several needs the first that is missing is said.
    let missing = |journey: &Journey| {
        journey.needs.iter().map(|need| need.name()).find(|name| ["root", "docker"].contains(name))
    };
    let skips = |required: &str| -> String {
        let lacks =
            crate::journeys().into_iter().filter_map(|journey| Some((journey.name, missing(&journey)?)));
        let skipped = lacks.filter(|(_, need)| *need != required);
        skipped.map(|(name, need)| format!("SKIPPED {name}: needs {need}\n")).collect()
    };
    assert!(skips("").contains(OF_ROOT));
    for (required, code, errors, results) in [
        (None, 0, skips(""), "0 passed, 0 failed, 1 skipped"),
        (Some(""), 0, skips(""), "0 passed, 0 failed, 1 skipped"),
        (Some("root"), 101, skips("root"), "0 passed, 1 failed, 0 skipped"),
        (Some(" root, "), 101, skips("root"), "0 passed, 1 failed, 0 skipped"),
    ] {
        let ran = run(required, OF_ROOT).code(code);
        assert_eq!(ran.stderr, errors, "{required:?}");
        assert_eq!(counted(&ran.stdout), (format!("{results}\n"), true), "{required:?}: {}", ran.stdout);
        let said = ran.stdout.contains("UPBEAT_REQUIRE names `root`, which this machine lacks");
        assert_eq!(said, code != 0, "{required:?}: {}", ran.stdout);
    }
    // It is the need that skips, not the user.
    let ran = run(None, "an unknown need is refused before anything runs").ok();
    assert_eq!(counted(&ran.stdout).0, "1 passed, 0 failed, 0 skipped\n");
}

fn unknown() {
    for required in ["rooot", "root,rooot", "Root"] {
        let ran = run(Some(required), OF_ROOT).code(2);
        let name = required.rsplit(',').next().unwrap();
        let known = upbeat_needs::NAMES.join(", ");
        assert_eq!(
            ran.stderr,
            format!("UPBEAT_REQUIRE names `{name}`, which nothing needs; known: {known}\n")
        );
        assert_eq!(ran.stdout, "", "nothing runs");
    }
}

/// What `.ci/run` says of the output of `cargo test`, and whether it found a result in it.
fn counted(output: &str) -> (String, bool) {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, output.as_bytes()).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let ran = Command::new(format!("{ROOT}/.ci/count")).stdin(file).output().unwrap();
    (String::from_utf8(ran.stdout).unwrap(), ran.status.success())
}

fn one_line() {
    let output = "\
     Running unittests src/lib.rs (target/debug/deps/upbeat-1)

running 3 tests
test result: not yet
test tests::a ... ok
test result: ok. 28 passed; 0 failed; 2 ignored; 0 measured; 4 filtered out; finished in 0.00s

test a journey ... FAILED
a test result: ok. 100 passed; 100 failed; 100 ignored; of somebody else
test result: FAILED. 10 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.23s
test result: \u{1b}[32mok\u{1b}[0m. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
    assert_eq!(counted(output), ("39 passed, 1 failed, 3 skipped\n".to_owned(), true));
    // Where no test program has reported there is nothing to be content with.
    assert_eq!(counted("error: could not compile\n"), ("0 passed, 0 failed, 0 skipped\n".to_owned(), false));
}
