//! The laws of the house, kept for the whole workspace: each test is one law, reads every source
//! file and manifest, and lists each offender with its file and line.
//!
//! The reading is by a careful scanner, not by a parser: it blanks comments and strings, then looks
//! at words, paths and braces. It sees no macro expansion and no renamed import; `planted.rs`
//! plants every offence, and every innocent look-alike, and says what must be found.

mod laws;
mod manifest;
mod native;
#[cfg(test)]
mod planted;
mod source;
mod workspace;

use std::fmt;

use workspace::Workspace;

/// A broken law, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Offence {
    path: String,
    line: usize,
    what: String,
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

fn keep(law: impl Fn(&Workspace) -> Vec<Offence>) {
    let workspace = workspace::read();
    let mut offences = law(&workspace);
    offences.sort();
    let list: Vec<String> = offences.iter().map(Offence::to_string).collect();
    assert!(list.is_empty(), "{} offences:\n{}", list.len(), list.join("\n"));
}

#[test]
fn every_room_is_looked_at() {
    let workspace = workspace::read();
    let rooms: Vec<&str> = workspace.manifests.iter().map(|m| m.room.as_str()).collect();
    let known: Vec<&str> = manifest::ARROWS.iter().map(|(room, _)| *room).collect();
    assert_eq!(rooms, known, "a room came or went: say in `ARROWS` which rooms it may see");
    for room in rooms {
        assert!(workspace.sources.iter().any(|s| s.room == room), "no source of {room} was found");
    }
}

#[test]
fn arrows_between_rooms_point_one_way() {
    keep(manifest::arrows);
}

#[test]
fn what_one_room_knows_no_other_room_depends_on() {
    keep(manifest::private_dependencies);
}

#[test]
fn nouns_and_decisions_are_pure() {
    keep(laws::purity);
}

#[test]
fn only_the_store_names_redb_and_only_the_server_names_axum() {
    keep(laws::private_names);
}

#[test]
fn only_the_binary_prints() {
    keep(laws::printing);
}

#[test]
fn only_the_binary_reads_the_environment() {
    keep(laws::environment);
}

#[test]
fn unsafe_stays_where_the_machine_is_touched_and_argues_for_itself() {
    keep(laws::unsafety);
}

#[test]
fn nothing_unwraps_outside_tests() {
    keep(laws::unwrapping);
}

#[test]
fn nothing_is_left_undone_or_ignored() {
    keep(laws::leftovers);
}

#[test]
fn every_file_says_what_it_is_for() {
    keep(laws::documentation);
}

#[test]
fn functions_and_files_stay_short() {
    keep(laws::length);
}

#[test]
fn modules_are_named_by_their_subject() {
    keep(laws::names);
}

#[test]
fn rust_and_a_c_compiler_are_all_it_takes_to_build() {
    let offences = native::more_than_a_compiler(&workspace::file("Cargo.lock"));
    let list: Vec<String> = offences.iter().map(Offence::to_string).collect();
    assert!(list.is_empty(), "{}", list.join("\n"));
}

#[test]
fn the_readme_asks_for_the_rust_that_cargo_asks_for() {
    let manifest = workspace::file("Cargo.toml");
    let rust = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap();
    let words = format!("You need Rust ({} or newer) and a C compiler.", rust.trim_matches('"'));
    let readme = workspace::file("README.md");
    assert!(readme.contains(&words), "{words}");
    // A pinned toolchain would be one more thing to install.
    for pin in ["rust-toolchain", "rust-toolchain.toml"] {
        assert!(!workspace::root().join(pin).exists(), "{pin}");
    }
    for room in workspace::read().manifests {
        let path = format!("crates/{}/Cargo.toml", room.room);
        assert!(workspace::file(&path).contains("\nrust-version.workspace = true\n"), "{path}");
    }
}

/// To run it, and to test it: each is typed in a block of its own.
#[test]
fn the_readme_builds_with_two_commands_of_cargo_and_nothing_else() {
    let readme = workspace::file("README.md");
    let blocks = readme.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let of_cargo: Vec<&str> = blocks.filter(|block| block.contains("cargo")).collect();
    assert_eq!(of_cargo, ["cargo run -- -f examples/shop/upbeat.yaml up --detach --wait\n", "cargo test\n"]);
}

#[test]
fn no_test_sleeps() {
    keep(laws::sleeping);
}
