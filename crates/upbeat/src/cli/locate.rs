//! Which file is the project: the first of the known names, here or in the nearest directory above.

use std::path::{Path, PathBuf};

use crate::exit::ExitCode;
use crate::failure::Failure;

/// In the order they are preferred.
const NAMES: [&str; 7] = [
    "upbeat.yaml",
    "upbeat.yml",
    "compose.yaml",
    "compose.yml",
    "docker-compose.yaml",
    "docker-compose.yml",
    LAST,
];

/// What is not supported yet comes before it.
const LAST: &str = "Procfile";

/// Known to people who come from elsewhere; said so rather than passed over.
const NOT_YET: [&str; 2] = ["process-compose.yaml", "process-compose.yml"];

/// A project file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// What goes over it, by its name.
    pub(super) overrides: Option<PathBuf>,
    /// Others beside it that would have been taken, had it not been there.
    pub(super) passed_over: Vec<&'static str>,
}

/// The names of a file that goes over one of this name without being asked for.
fn overrides_of(name: &str) -> [String; 2] {
    let stem = name.split('.').next().unwrap_or_default();
    [format!("{stem}.override.yaml"), format!("{stem}.override.yml")]
}

/// Looks from `start` upwards. Errors: there is none, or only one that is not supported yet.
pub(super) fn locate(start: &Path) -> Result<Found, Failure> {
    for dir in start.ancestors() {
        let mut here = NAMES.into_iter().filter(|name| dir.join(name).is_file());
        let not_yet = NOT_YET.into_iter().find(|name| dir.join(name).is_file());
        if let Some(name) = here.next().filter(|name| *name != LAST || not_yet.is_none()) {
            let overrides =
                overrides_of(name).into_iter().map(|name| dir.join(name)).find(|path| path.is_file());
            return Ok(Found { path: dir.join(name), overrides, passed_over: here.collect() });
        }
        if let Some(name) = not_yet {
            let path = dir.join(name);
            return Err(Failure::new(ExitCode::Usage, format!("`{}` is not supported yet", path.display()))
                .hint("write its services into an `upbeat.yaml` beside it"));
        }
    }
    Err(Failure::new(ExitCode::Usage, "there is no project file here or in a directory above")
        .hint("write an `upbeat.yaml`, or name a file with `--file`")
        .hint("`upbeat apps` lists what runs, and `-p NAME` names an app without its file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_directory_wins_and_in_it_the_first_name() {
        let root = tempfile::tempdir().unwrap();
        let below = root.path().join("a/b");
        std::fs::create_dir_all(&below).unwrap();
        std::fs::write(root.path().join("upbeat.yaml"), "").unwrap();
        std::fs::write(root.path().join("a/docker-compose.yml"), "").unwrap();
        std::fs::write(root.path().join("a/compose.yaml"), "").unwrap();
        let found = locate(&below).unwrap();
        assert_eq!(found.path, root.path().join("a/compose.yaml"));
        assert_eq!(found.passed_over, ["docker-compose.yml"]);
        assert_eq!(found.overrides, None);
        std::fs::write(root.path().join("a/compose.override.yml"), "").unwrap();
        let found = locate(&below).unwrap();
        assert_eq!(found.overrides, Some(root.path().join("a/compose.override.yml")));
    }

    #[test]
    fn a_file_of_another_tool_is_named_and_refused() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("process-compose.yaml"), "").unwrap();
        let failure = locate(root.path()).unwrap_err();
        assert_eq!(failure.exit, ExitCode::Usage);
        assert!(failure.message.unwrap().ends_with("/process-compose.yaml` is not supported yet"));
    }
}
