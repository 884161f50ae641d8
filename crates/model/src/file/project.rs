//! Reads the top of a file, and what a project's name and directories are.

use super::pattern::Patterns;
use super::read::{self, At};
use super::report::{Problem, Report, Span};
use super::service::{Draft, Reader};
use super::tree::{Entry, Node};
use super::{Context, SLOTS_MAX, graph, keys};
use crate::ids::{AppName, NAME_MAX};
use crate::project::Project;

/// What an app is called whose directory has no usable character in its name.
const NAMELESS: &str = "default";

/// The name Compose gives a project after its directory: the last component in lower case, without
/// what is neither letter, digit, `_` nor `-`.
pub fn name_from_directory(directory: &str) -> AppName {
    let last = directory.split('/').rfind(|part| !part.is_empty()).unwrap_or_default();
    let kept = last
        .to_ascii_lowercase()
        .replace(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-'), "");
    let name = kept.trim_start_matches(['_', '-']);
    let name = if name.is_empty() { NAMELESS } else { &name[..name.len().min(NAME_MAX)] };
    AppName::new(name).unwrap_or_else(|_| unreachable!("`{name}` is made of a name's characters"))
}

/// Joins a directory to an absolute one and removes `.`, `..` and empty components, by the text
/// alone.
pub(super) fn joined(base: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let base = if path.starts_with('/') { "" } else { base };
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Reads the whole file. `None`: what is wrong is in the report.
pub(super) fn read(
    root: Option<&Node<'_>>,
    context: &Context<'_>,
    report: &mut Report<'_>,
) -> Option<Project> {
    let Some(root) = root.filter(|root| !root.is_null()) else {
        report.error(Span::default(), || Problem::new("The file is empty").hint(first_file()));
        return None;
    };
    let at = At::FILE;
    let mut name = None;
    let mut drafts = None;
    let mut reader = Reader { context, patterns: Patterns::default() };
    for Entry { key, value } in read::mapping(root, &at, report)? {
        let inner = at.key(key);
        match &*key.text {
            "name" => name = read_name(value, &inner, report),
            "services" => drafts = Some(services(value, &inner, &mut reader, report)),
            "version" => report.note(key.span, || {
                Problem::new("`version` has no effect; Compose gave it up too").hint("take it out".to_owned())
            }),
            _ => read::unknown_key(key, &at, &keys::FILE, report),
        }
    }
    let Some(drafts) = drafts else {
        // Said already where a misspelled one was refused.
        let seems = |key: &str| keys::FILE.seems(key, &["services"]);
        if read::mapping(root, &at, report)?.iter().any(|e| seems(&e.key.text)) {
            return None;
        }
        report.error(Span { start: root.span.start, end: root.span.start }, || {
            Problem::new("The file has no `services`").hint(first_file())
        });
        return None;
    };
    let name = name.unwrap_or_else(|| name_from_directory(context.default_name));
    let services = graph::join(drafts, report);
    Some(Project { name, services, base_environment: Default::default() })
}

fn first_file() -> String {
    "write `services:`, under it a name, and under that a `command`".to_owned()
}

fn read_name(node: &Node<'_>, at: &At<'_>, report: &mut Report<'_>) -> Option<AppName> {
    let text = read::text(node, at, report)?;
    match AppName::new(&text) {
        Ok(name) => Some(name),
        Err(error) => {
            report.error(node.span, || Problem::new(error.to_string()));
            None
        }
    }
}

fn services(node: &Node<'_>, at: &At<'_>, reader: &mut Reader<'_>, report: &mut Report<'_>) -> Vec<Draft> {
    let Some(entries) = read::mapping(node, at, report) else { return Vec::new() };
    if entries.is_empty() {
        report.error(node.span, || Problem::new("There is no service under `services`").hint(first_file()));
    }
    if u64::try_from(entries.len()).is_ok_and(|n| n > SLOTS_MAX) {
        report.error(at.span_of_key(), || too_many_slots(&format!("{} services", entries.len())));
        return Vec::new();
    }
    entries.iter().map(|e| reader.read(&e.key, &e.value, &at.key(&e.key), report)).collect()
}

pub(super) fn too_many_slots(what: &str) -> Problem {
    Problem::new(format!("The project has {what}, and {SLOTS_MAX} copies are the most on one machine"))
        .hint("lower `scale`, or split the project".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_called_after_its_directory_as_in_compose() {
        for (directory, name) in [
            ("/home/ann/Shop", "shop"),
            ("My App.v2/", "myappv2"),
            ("__x-1", "x-1"),
            ("/", "default"),
            ("", "default"),
            ("日本", "default"),
            (&"A".repeat(80), &"a".repeat(63)),
        ] {
            assert_eq!(name_from_directory(directory).as_str(), name, "{directory}");
        }
    }

    #[test]
    fn a_directory_is_joined_by_its_text_alone() {
        for (path, whole) in [
            (".", "/srv/shop"),
            ("web/./x//", "/srv/shop/web/x"),
            ("../../../..", "/"),
            ("/opt/../etc", "/etc"),
        ] {
            assert_eq!(joined("/srv/./shop/", path), whole, "{path}");
        }
    }
}
