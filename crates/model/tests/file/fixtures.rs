//! Project files of our own writing, and what becomes of each: the grammar by example.
//!
//! `fixtures/ROOM/NAME.yaml` is a project file; where it needs others, `fixtures/ROOM/NAME/` is the
//! project's directory. Beside it stands what becomes of it: `NAME.json` is what it comes to,
//! `NAME.txt` all that is said, errors and notes, each with the text it underlines. A file that is
//! refused has no `.json`. `UPDATE_FIXTURES=1` writes both; read them before they are kept.
//!
//! Comments at the top of a file that start with `#:` say in which light it is read:
//!
//! * `#: file compose.yaml`: the name it is read by, where that is not `upbeat.yaml`;
//! * `#: session NAME=value`: a variable of the session;
//! * `#: profile NAME`, `#: env-file NAME`: as on the command line;
//! * `#: raw`: variables stay as they are.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use upbeat_model::Diagnostic;
use upbeat_model::file::{Errors, Resolved, resolve};

use super::answer::{answer, moves};
use super::machine::Machine;

/// A project of the fixtures.
#[derive(Clone)]
pub(super) struct Fixture {
    /// `service/ports_long`.
    pub(super) name: String,
    pub(super) machine: Machine,
    /// The files the person names, as they lie in `/srv/shop`.
    pub(super) files: Vec<String>,
    /// Without its ending.
    path: PathBuf,
}

/// What is kept of an outcome.
#[derive(Default, PartialEq, Eq)]
struct Kept {
    json: Option<String>,
    txt: Option<String>,
}

/// Every fixture, by name.
pub(super) fn all() -> Vec<Fixture> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/file/fixtures");
    let mut found = Vec::new();
    for room in entries(&root) {
        for path in entries(&room) {
            let ending = path.extension().and_then(|ending| ending.to_str());
            match ending {
                Some("yaml") => found.push(Fixture::of_file(&path)),
                None if path.is_dir() => found.push(Fixture::of_directory(&path)),
                Some("json" | "txt") => {}
                _ => panic!("{} is no fixture", path.display()),
            }
        }
    }
    found
}

/// The project files by which the driver of containers is tested.
pub(super) fn of_the_driver() -> Vec<String> {
    let room = Path::new(env!("CARGO_MANIFEST_DIR")).join("../drivers/tests/containers");
    let paths = entries(&room).into_iter().chain(entries(&room.join("sent")));
    paths.filter(|path| path.extension().is_some_and(|e| e == "yaml")).map(|path| text_of(&path)).collect()
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let read = std::fs::read_dir(directory).expect("the directory can be read");
    let mut paths: Vec<PathBuf> = read.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

fn text_of(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

impl Fixture {
    fn of_file(path: &Path) -> Self {
        let text = text_of(path);
        let name = lights(&text).find_map(|light| light.strip_prefix("file ")).unwrap_or("upbeat.yaml");
        let (name, files) = (name.to_owned(), BTreeMap::from([(format!("/srv/shop/{name}"), text)]));
        Self::new(path.with_extension(""), files, vec![name])
    }

    fn of_directory(path: &Path) -> Self {
        let mut files = BTreeMap::new();
        let mut left = vec![path.to_owned()];
        while let Some(next) = left.pop() {
            if next.is_dir() {
                left.extend(entries(&next));
                continue;
            }
            let inside = next.strip_prefix(path).expect("it is inside").display();
            files.insert(format!("/srv/shop/{inside}"), text_of(&next));
        }
        const MAIN: [&str; 6] = [
            "Procfile",
            "compose.yaml",
            "upbeat.yaml",
            "compose.override.yaml",
            "upbeat.override.yaml",
            "upbeat.third.yaml",
        ];
        let is_there = |name: &&str| files.contains_key(&format!("/srv/shop/{name}"));
        let names = MAIN.into_iter().filter(is_there).map(str::to_owned).collect();
        Self::new(path.to_owned(), files, names)
    }

    fn new(path: PathBuf, files: BTreeMap<String, String>, names: Vec<String>) -> Self {
        let parts: Vec<_> = path.iter().rev().take(2).map(|part| part.to_string_lossy()).collect();
        let name = format!("{}/{}", parts[1], parts[0]);
        let mut machine = Machine { files, ..Machine::default() };
        let main = machine.files[&format!("/srv/shop/{}", names[0])].clone();
        for light in lights(&main) {
            match light.split_once(' ') {
                Some(("file", _)) => {}
                Some(("session", pair)) => {
                    let (name, value) = pair.split_once('=').expect("NAME=value");
                    machine.session.insert(name.to_owned(), value.to_owned());
                }
                Some(("profile", profile)) => machine.profiles.push(profile.to_owned()),
                Some(("env-file", file)) => machine.env_files.push(format!("/srv/shop/{file}")),
                None if light == "raw" => machine.raw = true,
                _ => panic!("{name}: `#: {light}` says nothing"),
            }
        }
        Self { name, machine, files: names, path }
    }

    /// The texts of the files the person names.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|name| &*self.machine.files[&format!("/srv/shop/{name}")])
    }

    /// What becomes of it.
    pub(super) fn outcome(&self) -> Result<Resolved, Errors> {
        let names: Vec<&str> = self.files.iter().map(String::as_str).collect();
        resolve(&self.machine.sources(&names), &self.machine.context())
    }

    /// The same, held against the laws of answers.
    pub(super) fn answered(&self) -> Result<Resolved, Errors> {
        let names: Vec<&str> = self.files.iter().map(String::as_str).collect();
        answer(&self.machine.sources(&names), &self.machine.context())
    }

    /// The same, as it is kept.
    fn told_of(&self) -> Kept {
        match self.answered() {
            Ok(Resolved { document, notes }) => {
                let json = serde_json::to_string_pretty(&document).expect("JSON");
                let txt = notes.iter().map(|note| format!("note: {}", self.told(note))).collect::<String>();
                Kept { json: Some(format!("{json}\n")), txt: (!txt.is_empty()).then_some(txt) }
            }
            Err(errors) => {
                let mut txt: String = errors.diagnostics.iter().map(|error| self.told(error)).collect();
                if errors.more > 0 {
                    let _ = writeln!(txt, "and {} more", errors.more);
                }
                Kept { json: None, txt: Some(txt) }
            }
        }
    }

    /// As a person reads it, and below it what is underlined, with its label.
    fn told(&self, said: &Diagnostic) -> String {
        let text = self.machine.files.get(&self.path_of(&said.file)).map_or("", String::as_str);
        let underlined = text[said.span.clone()].replace(moves, "?");
        let label = said.label.as_deref().map(|label| format!(" {label}")).unwrap_or_default();
        format!("{said}\n  ^ `{underlined}`{label}\n")
    }

    fn path_of(&self, shown: &str) -> String {
        if shown.starts_with('/') { shown.to_owned() } else { format!("/srv/shop/{shown}") }
    }

    fn kept(&self) -> Kept {
        let read = |ending: &str| std::fs::read_to_string(self.path.with_extension(ending)).ok();
        Kept { json: read("json"), txt: read("txt") }
    }

    fn keep(&self, answer: &Kept) {
        for (ending, text) in [("json", &answer.json), ("txt", &answer.txt)] {
            let path = self.path.with_extension(ending);
            match text {
                Some(text) => std::fs::write(&path, text).expect("the fixture can be written"),
                None => drop(std::fs::remove_file(&path)),
            }
        }
    }
}

/// What the comments at the top of a file say of how it is read.
fn lights(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map_while(|line| line.strip_prefix("#: "))
}

/// What differs, line by line.
fn difference(kept: &Kept, answer: &Kept) -> String {
    let mut out = String::new();
    for (ending, kept, answer) in [("json", &kept.json, &answer.json), ("txt", &kept.txt, &answer.txt)] {
        let (kept, answer) = (kept.as_deref().unwrap_or_default(), answer.as_deref().unwrap_or_default());
        if kept != answer {
            let diff = similar::TextDiff::from_lines(kept, answer);
            let diff = diff.unified_diff().context_radius(3).header("kept", "now").to_string();
            let _ = writeln!(out, ".{ending}:\n{diff}");
        }
    }
    out
}

#[test]
fn every_fixture_comes_to_what_is_kept_of_it() {
    let update = std::env::var_os("UPDATE_FIXTURES").is_some();
    let mut differing = Vec::new();
    for fixture in all() {
        let kept = fixture.kept();
        let Ok(answer) = std::panic::catch_unwind(|| fixture.told_of()) else {
            differing.push(format!("--- {}\nits answer breaks a law; see above", fixture.name));
            continue;
        };
        if kept != answer && update {
            fixture.keep(&answer);
        } else if kept != answer {
            differing.push(format!("--- {}\n{}", fixture.name, difference(&kept, &answer)));
        }
    }
    assert!(
        differing.is_empty(),
        "{} fixtures come to something else; `UPDATE_FIXTURES=1 cargo test` keeps it\n{}",
        differing.len(),
        differing.join("\n")
    );
}

#[test]
fn what_is_kept_belongs_to_a_fixture() {
    let fixtures = all();
    for room in entries(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/file/fixtures")) {
        for path in entries(&room) {
            let belongs = fixtures.iter().any(|fixture| fixture.path == path.with_extension(""));
            assert!(belongs, "{} is the outcome of no fixture", path.display());
        }
    }
}

/// Only at the top of a file is it said how it is read.
#[test]
fn no_light_is_lost() {
    for fixture in all() {
        for text in fixture.texts() {
            let said = text.lines().filter(|line| line.starts_with("#:")).count();
            assert_eq!(said, lights(text).count(), "{}", fixture.name);
        }
    }
}

#[test]
fn there_are_as_many_as_the_grammar_needs() {
    let (accepted, refused): (Vec<_>, Vec<_>) = all().into_iter().partition(|f| f.outcome().is_ok());
    assert!(accepted.len() + refused.len() >= 150, "{} and {}", accepted.len(), refused.len());
    assert!(accepted.len() >= 100 && refused.len() >= 50, "{} and {}", accepted.len(), refused.len());
}
