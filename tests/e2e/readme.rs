//! What the README says, typed.

use std::process::Command;

use crate::Journey;
use crate::home::Home;

pub(crate) fn journeys() -> Vec<Journey> {
    vec![Journey {
        name: "the readme's first command brings up the example and shows it healthy",
        needs: &[],
        run: first_command,
    }]
}

/// The arguments behind `cargo run --` in the README's first command.
fn first_command() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let readme = std::fs::read_to_string(format!("{root}/README.md")).unwrap();
    let line = readme
        .lines()
        .find_map(|line| line.trim().strip_prefix("cargo run -- "))
        .expect("the README runs something");
    let arguments: Vec<&str> = line.split_whitespace().collect();
    let home = Home::new();
    // A copy, so that the journey leaves the checkout as it was.
    let copied = Command::new("cp")
        .args(["-r", &format!("{root}/examples"), "."])
        .current_dir(home.project())
        .status();
    assert!(copied.unwrap().success());
    let ran = home.run(&arguments).ok();
    assert!(ran.stdout.contains("healthy"), "{ran:?}");
    for service in ["db", "cache", "api", "web"] {
        assert!(ran.stdout.contains(service), "{service} in {}", ran.stdout);
    }
    home.run(&["-p", "shop", "down"]).ok();
}
