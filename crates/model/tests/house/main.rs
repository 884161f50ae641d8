//! The laws of the house, kept for the whole workspace: each test is one law, reads every source
//! file and manifest, and lists each offender with its file and line.
//!
//! The reading is by a careful scanner, not by a parser: it blanks comments and strings, then looks
//! at words, paths and braces. It sees no macro expansion and no renamed import; `planted.rs`
//! plants every offence, and every innocent look-alike, and says what must be found.

mod laws;
mod manifest;
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
fn no_test_sleeps() {
    keep(laws::sleeping);
}
