//! Reads the top of the tree, and what a project's name and directories are.

use super::index::Index;
use super::pattern::Patterns;
use super::place::File;
use super::read::{self, At};
use super::report::{Problem, Report, shown};
use super::service::{Draft, Reader};
use super::tree::{Entry, Node, Value};
use super::{Context, SLOTS_MAX, container, copies, document, graph, probes, process, questions, references};
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

/// A path that starts with `~`: in the person's home, if that is known and nobody else's is meant.
pub(super) fn at_home(path: &str, file: &File<'_>) -> Option<String> {
    let inside = path.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
    let home = file.variables.of_session("HOME")?;
    Some(joined(&home, &format!(".{inside}")))
}

/// The directory a file stands in.
pub(super) fn parent(path: &str) -> String {
    joined(path, "..")
}

/// A project as far as it can be read.
pub(super) struct Reading<'a> {
    name: AppName,
    drafts: Vec<Draft>,
    tree: &'a Node<'a>,
}

/// Reads the whole tree. `None`: what is wrong is in the report.
pub(super) fn read<'a>(
    root: &'a Node<'a>,
    context: &Context<'_>,
    report: &mut Report<'a>,
) -> Option<Reading<'a>> {
    let at = At::file(root.span);
    let mut drafts = None;
    read::mapping(root, &at, report)?;
    // First: networks, volumes and images are called after it.
    let name = root.get("name").and_then(|node| read_name(node, context, report));
    let name = context.name.cloned().or(name);
    let name = name.unwrap_or_else(|| name_from_directory(context.default_name));
    if let Some(entry) = root.entries().iter().find(|entry| entry.key.text == "services") {
        drafts = Some(services(entry.value, root, &at.key(&entry.key), (&name, context), report));
    }
    let Some(mut drafts) = drafts else {
        // Said already where a misspelled one was refused.
        if report.is_clean() {
            report.error(root.span.front(), || Problem::new("The file has no `services`").hint(first_file()));
        }
        return None;
    };
    note_unused(root, &drafts, report);
    graph::judge(&mut drafts, root.get("services"), report);
    if let Some(services) = root.get("services").filter(|_| context.interpolate) {
        container::introduce(&name, &mut drafts);
        container::judge_together(&name, &drafts, services, report);
    }
    let mut reading = Reading { name, drafts, tree: root };
    if context.interpolate {
        reading.keep_templates(report);
    }
    Some(reading)
}

/// What only containers use, where there is none.
fn note_unused(root: &Node<'_>, drafts: &[Draft], report: &mut Report<'_>) {
    let Value::Map(entries) = root.value else { return };
    if drafts.iter().any(|draft| draft.container.is_some()) {
        return;
    }
    let unused = |name: &str| matches!(name, "networks" | "volumes");
    for entry in entries.iter().filter(|entry| unused(entry.key.text)) {
        report.note(entry.key.span, || {
            Problem::new(format!("`{}` has no effect: no service is a container", shown(entry.key.text)))
                .hint("take it out".to_owned())
        });
    }
}

impl Reading<'_> {
    /// What can be run, with what is in other files.
    pub(super) fn runnable(mut self, context: &Context<'_>, report: &mut Report<'_>) -> Option<Project> {
        let mut left = process::FILES_BYTES_MAX;
        for draft in &mut self.drafts {
            let taken = container::targets(&draft.spec);
            let files = process::files(&draft.name, &draft.grants, taken, context, report);
            let held = files.iter().map(|file| file.content.reveal().len()).sum::<usize>();
            let sum = held + probes::believe(draft, context, report);
            let Some(rest) = left.checked_sub(sum) else {
                report.error(draft.name_span, || {
                    let most = process::FILES_BYTES_MAX >> 20;
                    Problem::new(format!(
                        "All services together have more than {most} MiB of configs, secrets and certificates"
                    ))
                    .label("the limit is passed here")
                });
                return None;
            };
            (left, draft.spec.files) = (rest, files);
            if let Some(span) = draft.container.filter(|_| !context.interpolate) {
                report.error(span, || {
                    let name = shown(&draft.name);
                    Problem::new(format!("Service `{name}` is a container whose variables are not filled in"))
                        .hint("it can be shown, and not be run".to_owned())
                });
            }
            for (_, rule) in questions::of_service(&draft.spec) {
                let name = shown(&draft.name);
                report.error(draft.name_span, || Problem::new(format!("Probes of `{name}` {}", rule.what)));
            }
        }
        let services = graph::join(self.drafts);
        Some(Project { name: self.name, services, base_environment: Default::default() })
    }

    /// What is made anew for each copy is kept as templates, and tried for each there is to be.
    fn keep_templates(&mut self, report: &mut Report<'_>) {
        if report.keeps_none() {
            return;
        }
        let services = self.tree.get("services").map(|node| node.entries()).unwrap_or_default();
        let (mut index, mut work) = (Index::default(), 0_usize);
        let mut patterns = Patterns::default();
        for draft in &mut self.drafts {
            let Some(node) = index.find(services, &draft.name).map(|place| services[place].value) else {
                continue;
            };
            if !document::differs(node) {
                continue;
            }
            let light = document::Light { report, interpolated: true };
            draft.spec.per_copy = Some(copies::recipe(document::service(draft, node, &light)));
            work = work.saturating_add(copies::work(&draft.spec));
            if work > copies::WORK_MAX {
                report.error(draft.name_span, || {
                    let name = shown(&draft.name);
                    Problem::new(format!("`{name}` is too much: {}", copies::too_much_work()))
                        .hint("let fewer texts use `index`".to_owned())
                });
                return;
            }
            for copy in 1..=draft.spec.scale {
                if let Err(wrong) = draft.spec.copy(&draft.name, copy, &mut patterns) {
                    report.error(draft.name_span, || {
                        let name = shown(&draft.name);
                        Problem::new(format!("Copy {copy} of `{name}` cannot be made: {}", wrong.join("; ")))
                    });
                    break;
                }
            }
        }
    }

    /// All of it, as a file would say it.
    pub(super) fn document(self, interpolated: bool, report: &Report<'_>) -> serde_json::Value {
        let light = document::Light { report, interpolated };
        let document = document::of(&self.name, &self.drafts, self.tree, &light);
        if interpolated { document::doubled(document) } else { document }
    }
}

pub(super) fn first_file() -> String {
    "write `services:`, under it a name, and under that a `command`".to_owned()
}

fn read_name(node: &Node<'_>, context: &Context<'_>, report: &mut Report<'_>) -> Option<AppName> {
    let is_open = !context.interpolate && node.as_text().is_some_and(|text| text.contains('$'));
    if is_open {
        return None;
    }
    match AppName::new(node.as_text()?) {
        Ok(name) => Some(name),
        Err(error) => {
            report.error(node.span, || Problem::new(error.to_string()));
            None
        }
    }
}

fn services<'a>(
    node: &Node<'a>,
    root: &Node<'a>,
    at: &At<'_>,
    (app, context): (&AppName, &Context<'_>),
    report: &mut Report<'a>,
) -> Vec<Draft> {
    let Value::Map(entries) = node.value else { return Vec::new() };
    if entries.is_empty() {
        report.error(node.span, || Problem::new("There is no service under `services`").hint(first_file()));
    }
    if u64::try_from(entries.len()).is_ok_and(|n| n > SLOTS_MAX) {
        report.error(at.span_of_key(), || too_many_slots(&format!("{} services", entries.len())));
        return Vec::new();
    }
    let enabled: Vec<&Entry<'a>> =
        entries.iter().filter(|entry| is_enabled(&profiles_of(entry.value), context.profiles)).collect();
    if context.interpolate {
        let missed = |entry: &Entry<'a>| {
            let profiles = profiles_of(entry.value);
            if is_enabled(&profiles, context.profiles) { Vec::new() } else { profiles }
        };
        let all = entries.iter().map(|entry| (entry.key.text, missed(entry))).collect();
        for entry in &enabled {
            references::judge(entry.value, root, &all, &at.key(&entry.key), report);
        }
    }
    let mut reader =
        Reader { context, report, root, files: Default::default(), sum: Default::default(), app };
    enabled.into_iter().filter_map(|e| reader.read(&e.key, e.value, &at.key(&e.key))).collect()
}

/// The profiles of a service.
pub(super) fn profiles_of(node: &Node<'_>) -> Vec<String> {
    let names = node.get("profiles").and_then(|profiles| super::service::words(profiles));
    names.unwrap_or_default()
}

/// One without profiles always is.
pub(super) fn is_enabled(profiles: &[String], active: &[String]) -> bool {
    profiles.is_empty() || active.iter().any(|name| name == "*" || profiles.contains(name))
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
