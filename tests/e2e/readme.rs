//! What the README and the pages of `docs/` say, typed.

use crate::Journey;
use crate::home::Home;

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        Journey { name: "the readme's five minutes, typed", needs: &[], run: five_minutes },
        Journey { name: "upbeat needs no program but itself", needs: &[], run: no_other_program },
        Journey { name: "every project file in the docs is read", needs: &[], run: project_files },
    ]
}

/// The checkout.
pub(crate) const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The fenced blocks of a page in this language.
pub(crate) fn blocks(page: &str, language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(format!("{ROOT}/{page}")).unwrap();
    let mut found = Vec::new();
    let mut block: Option<String> = None;
    for line in text.lines() {
        match &mut block {
            Some(_) if line == "```" => found.extend(block.take()),
            Some(block) => *block += &format!("{line}\n"),
            None if line == format!("```{language}") => block = Some(String::new()),
            None => {}
        }
    }
    found
}

/// What the first command prints.
const SHOP: &str = "\
api-1      healthy
cache-1    healthy
db-1       healthy
migrate-1  completed
web-1      healthy
worker-1   running
worker-2   running
";

/// All that is typed before the tests, in one shell. `cargo run --` is this build's binary, and the
/// daemon that is killed is this home's own.
fn five_minutes() {
    let home = Home::new();
    // A copy, so that the journey leaves the checkout as it was.
    assert!(home.shell(&format!("cp -r '{ROOT}/examples' .")).status().unwrap().success());
    let binary = env!("CARGO_BIN_EXE_upbeat");
    std::fs::create_dir_all(home.project().join("target/debug")).unwrap();
    std::os::unix::fs::symlink(binary, home.project().join("target/debug/upbeat")).unwrap();
    let typed = blocks("README.md", "sh").concat();
    let (typed, tests) = typed.split_once("cargo test").expect("the README says how to test");
    assert_eq!(tests.trim(), "");
    let pid = r#"sed -n 's/.*"pid": *\([0-9]*\).*/\1/p'"#;
    let replaced = [
        ("cargo run -- ", "\"$UPBEAT\" ".to_owned()),
        ("pkill -9 -x upbeat", format!("kill -9 $(\"$UPBEAT\" version -o json | {pid})")),
    ];
    let typed = replaced.iter().fold(typed.to_owned(), |typed, (line, instead)| {
        assert_eq!(typed.matches(line).count(), 1, "{line} in the README");
        typed.replace(line, instead)
    });
    let ran = home
        .shell(&format!("set -euo pipefail; shopt -s expand_aliases\n{typed}"))
        .env("UPBEAT", binary)
        .output()
        .unwrap();
    let (said, errors) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{said}\n{errors}");
    assert!(said.starts_with(SHOP), "the first command shows each of them:\n{said}");
    let page = std::fs::read_to_string(format!("{ROOT}/README.md")).unwrap();
    assert!(page.contains("seven processes") && SHOP.lines().count() == 7);
    assert!(said.contains("found again"), "{said}");
    assert_eq!(home.run(&["apps", "-o", "json"]).ok().stdout, "[]\n");
}

/// Nothing is found by its name: whatever Upbeat called would be missing.
fn no_other_program() {
    let mut home = Home::with(
        "services:\n  web: { command: [/bin/sh, -c, \"echo up; exec /bin/sleep 600\"], healthcheck: { log: up } }\n",
    );
    let empty = home.outside("empty");
    std::fs::create_dir(&empty).unwrap();
    home.set("PATH", empty.display().to_string());
    home.run(&["up", "--detach", "--wait"]).ok();
    for command in [&["ps"][..], &["logs"], &["why", "web"], &["graph"], &["plan"], &["restart"]] {
        home.run(command).ok();
    }
    home.kill_daemon();
    home.run(&["events"]).ok();
    home.run(&["down"]).ok();
}

fn project_files() {
    let mut home = Home::new();
    // What the examples take from outside.
    home.write("secrets/db_password.txt", "hush");
    home.set("API_TOKEN", "hush");
    let mut read = 0;
    for page in ["README.md", "docs/services.md", "docs/containers.md", "docs/files.md", "docs/seeing.md"] {
        for block in blocks(page, "yaml") {
            home.write("upbeat.yaml", &block);
            let plan = home.run(&["graph"]);
            assert_eq!(plan.code, 0, "{page}: {block}\n{}", plan.stderr);
            read += 1;
        }
    }
    assert!(read > 5, "{read}");
}
