//! Who may depend on whom: the arrows between rooms, and the libraries only one room may know.

use crate::Offence;
use crate::workspace::Workspace;

/// Which rooms each room may see. A room that is not listed may not be there.
pub(crate) const ARROWS: &[(&str, &[&str])] = &[
    ("agent", &["model", "decide", "store", "drivers", "api"]),
    ("api", &["model"]),
    ("control", &["model", "decide", "store", "api"]),
    ("decide", &["model"]),
    ("drivers", &["model", "shim"]),
    ("model", &[]),
    ("needs", &[]),
    ("server", &["model", "control", "agent", "api"]),
    ("shim", &[]),
    ("sim", &["model", "decide", "store", "shim", "drivers", "agent", "control", "api", "server"]),
    ("store", &[]),
    ("upbeat", &["model", "decide", "store", "shim", "drivers", "agent", "control", "api", "server"]),
];

/// Libraries that one room alone may know.
pub(crate) const PRIVATE: &[(&str, &str)] = &[("redb", "store"), ("axum", "server")];

/// The shim has one copy per process: each library it links is paid for a thousand times.
const SHIM_LIBRARIES: &[&str] = &["rustix", "libc"];

/// What a `Cargo.toml` says a room needs at run time.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) room: String,
    /// Name and line of each dependency; none of those for tests and builds.
    pub(crate) dependencies: Vec<(String, usize)>,
}

impl Manifest {
    pub(crate) fn new(room: &str, text: &str) -> Self {
        let mut dependencies = Vec::new();
        let mut inside = false;
        for (line, text) in text.lines().enumerate().map(|(i, text)| (i + 1, text.trim())) {
            if let Some(section) = text.strip_prefix('[') {
                let section = section.split(']').next().unwrap_or_default();
                inside = section == "dependencies"
                    || section.starts_with("target.") && section.ends_with(".dependencies");
                if let Some((_, name)) = section.rsplit_once("dependencies.")
                    && !section.contains("dev-dependencies")
                    && !section.contains("build-dependencies")
                {
                    dependencies.push((name.to_owned(), line));
                }
            } else if inside && text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
                let name = text.split(['=', '.', ' ']).next().unwrap_or_default();
                dependencies.push((name.to_owned(), line));
            }
        }
        Self { room: room.to_owned(), dependencies }
    }

    fn offence(&self, line: usize, what: String) -> Offence {
        Offence { path: format!("crates/{}/Cargo.toml", self.room), line, what }
    }
}

pub(crate) fn arrows(workspace: &Workspace) -> Vec<Offence> {
    let mut found = Vec::new();
    for manifest in &workspace.manifests {
        let allowed = ARROWS.iter().find(|(room, _)| *room == manifest.room).map_or(&[][..], |(_, to)| *to);
        for (name, line) in &manifest.dependencies {
            let seen = match name.strip_prefix("upbeat-") {
                Some(room) => room,
                None if name == "upbeat" => name,
                None => continue,
            };
            if !allowed.contains(&seen) {
                found.push(manifest.offence(*line, format!("{} may not see {seen}", manifest.room)));
            }
        }
    }
    found
}

pub(crate) fn private_dependencies(workspace: &Workspace) -> Vec<Offence> {
    let mut found = Vec::new();
    for manifest in &workspace.manifests {
        for (name, line) in &manifest.dependencies {
            if let Some((_, owner)) = PRIVATE.iter().find(|(library, _)| library == name)
                && *owner != manifest.room
            {
                found.push(manifest.offence(*line, format!("only {owner} may know {name}")));
            }
            if manifest.room == "shim" && !SHIM_LIBRARIES.contains(&name.as_str()) {
                found.push(manifest.offence(*line, format!("the shim may not link {name}")));
            }
        }
    }
    found
}
