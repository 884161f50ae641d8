//! Judges what a container says of things that are declared elsewhere in the project.

use std::collections::HashMap;

use super::process::undeclared;
use super::read::At;
use super::report::{Problem, Report, shown};
use super::tree::{Entry, Node, Value};

/// The network every container is in unless it says something else.
const DEFAULT: &str = "default";

/// Keys of a container whose value may be `service:NAME`.
const SHARED: [&str; 3] = ["ipc", "network_mode", "pid"];

/// Everything a container uses has to be there. `services`: all there
/// are, each with the profiles that it would take to run it; none, where it runs.
pub(super) fn judge(
    service: &Node<'_>,
    root: &Node<'_>,
    services: &HashMap<&str, Vec<String>>,
    at: &At<'_>,
    report: &mut Report<'_>,
) {
    for Entry { key, value } in service.entries() {
        let at = at.key(key);
        match key.text {
            "networks" => networks(value, root, &at, report),
            "volumes" => volumes(value, root, &at, report),
            "volumes_from" => {
                for item in texts(value) {
                    let Some(text) = item.as_text() else { continue };
                    if !text.starts_with("container:") {
                        used(text.split(':').next().unwrap_or_default(), item, services, &at, report);
                    }
                }
            }
            "links" => {
                for item in texts(value) {
                    let name = item.as_text().unwrap_or_default();
                    used(name.split(':').next().unwrap_or_default(), item, services, &at, report);
                }
            }
            name if SHARED.contains(&name) => {
                if let Some(name) = value.as_text().and_then(|text| text.strip_prefix("service:")) {
                    used(name, value, services, &at, report);
                }
            }
            _ => {}
        }
    }
    if let (Some(mode), Some(networks)) = (service.get("network_mode"), service.get("networks")) {
        report.error(networks.span, || {
            let mode = shown(mode.as_text().unwrap_or_default());
            Problem::new(format!("`{at}` has `networks`, and `network_mode: {mode}`"))
                .hint("keep one of the two".to_owned())
        });
    }
}

fn networks(node: &Node<'_>, root: &Node<'_>, at: &At<'_>, report: &mut Report<'_>) {
    let declared = root.get("networks");
    for Entry { key, .. } in node.entries() {
        if key.text != DEFAULT && !names(declared).any(|name| name == key.text) {
            undeclared("networks", key.text, key.span, declared, at, report);
        }
    }
}

fn volumes(node: &Node<'_>, root: &Node<'_>, at: &At<'_>, report: &mut Report<'_>) {
    let declared = root.get("volumes");
    for item in texts(node) {
        let text = |name: &str| item.get(name).and_then(|node| node.as_text());
        if text("type") != Some("volume") {
            continue;
        }
        if let Some(source) = text("source").filter(|source| !names(declared).any(|name| name == *source)) {
            let span = item.get("source").map_or(item.span, |node| node.span);
            undeclared("volumes", source, span, declared, at, report);
        }
    }
}

/// A service that is named.
fn used(
    name: &str,
    node: &Node<'_>,
    services: &HashMap<&str, Vec<String>>,
    at: &At<'_>,
    report: &mut Report<'_>,
) {
    let missed = match services.get(name) {
        Some(profiles) if profiles.is_empty() => return,
        Some(profiles) => Some(&profiles[0]),
        None => None,
    };
    report.error(node.span, || {
        let name_shown = shown(name);
        if let Some(profile) = missed.map(|profile| shown(profile)) {
            let what =
                format!("`{at}` uses the service `{name_shown}`, which only runs in profile `{profile}`");
            return Problem::new(what).hint(format!("ask for it with `--profile {profile}`"));
        }
        let hint = super::words::did_you_mean(name, services.keys().copied())
            .unwrap_or_else(|| "declare it under `services`".to_owned());
        Problem::new(format!("`{at}` uses the service `{name_shown}`, which is not declared")).hint(hint)
    });
}

fn names<'a>(node: Option<&Node<'a>>) -> impl Iterator<Item = &'a str> {
    node.map(|node| node.entries()).unwrap_or_default().iter().map(|entry| entry.key.text)
}

fn texts<'a>(node: &Node<'a>) -> &'a [&'a Node<'a>] {
    match node.value {
        Value::List(items) => items,
        _ => &[],
    }
}
