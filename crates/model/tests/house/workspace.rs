//! Reads the workspace: every manifest and every source file of every room.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::manifest::Manifest;
use crate::source::Source;

/// All that the laws look at.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    /// By room.
    pub(crate) manifests: Vec<Manifest>,
    /// By path.
    pub(crate) sources: Vec<Source>,
}

/// The checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A file of the checkout.
pub(crate) fn file(path: &str) -> String {
    read_text(&root().join(path))
}

pub(crate) fn read() -> Workspace {
    let crates = root().join("crates");
    let mut workspace = Workspace::default();
    for room in entries(&crates).into_iter().filter(|path| path.join("Cargo.toml").is_file()) {
        let name = file_name(&room);
        let path = format!("crates/{name}");
        workspace.manifests.push(Manifest::new(&name, &read_text(&room.join("Cargo.toml"))));
        for folder in ["src", "tests", "benches", "examples"] {
            collect(&room.join(folder), &format!("{path}/{folder}"), &name, &mut workspace.sources);
        }
    }
    mark_test_modules(&mut workspace.sources);
    workspace
}

fn collect(folder: &Path, shown: &str, room: &str, sources: &mut Vec<Source>) {
    if !folder.is_dir() {
        return;
    }
    for path in entries(folder) {
        let shown = format!("{shown}/{}", file_name(&path));
        if path.is_dir() {
            collect(&path, &shown, room, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(Source::new(room, &shown, &read_text(&path)));
        }
    }
}

/// Rooms that are there for tests alone: no other may need them at run time.
const OF_TESTS: &[&str] = &["needs"];

/// A file declared by `#[cfg(test)] mod name;` is test code wholly, with all below it; and so is a room
/// of tests.
pub(crate) fn mark_test_modules(sources: &mut [Source]) {
    let roots: BTreeSet<String> = sources.iter().flat_map(Source::test_modules).collect();
    for source in sources {
        let inside = |root: &String| {
            source.path.strip_prefix(root.as_str()).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        if roots.iter().any(inside) || OF_TESTS.contains(&source.room.as_str()) {
            source.is_test.fill(true);
        }
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let failed = |e: std::io::Error| -> ! { panic!("{}: {e}", folder.display()) };
    let listing = std::fs::read_dir(folder).unwrap_or_else(|e| failed(e));
    let mut paths: Vec<PathBuf> = listing.map(|entry| entry.unwrap_or_else(|e| failed(e)).path()).collect();
    paths.sort();
    paths
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn read_text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
