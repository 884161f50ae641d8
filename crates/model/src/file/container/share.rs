//! What a container has of another one's has to be there first: the edges that nobody writes.
//!
//! Source: the Compose Specification, `depends_on`: what is shared implies a dependency.

use super::network::{CONTAINER, SERVICE};
use super::{text, texts};
use crate::file::edges::Edge;
use crate::file::read::At;
use crate::file::report::{Problem, Report};
use crate::file::service::Draft;
use crate::file::tree::Node;
use crate::project::{Dependency, OnRestart};

/// Keys of which a value may be `service:NAME`.
const SHARED: [&str; 3] = ["network_mode", "ipc", "pid"];

/// Adds to a service the edges that follow from what it shares, to services that run. One that is written
/// stays as it is.
pub(in crate::file) fn edges(
    service: &Node<'_>,
    runs: impl Fn(&str) -> bool,
    at: &At<'_>,
    draft: &mut Draft,
    report: &mut Report<'_>,
) {
    for (key, name, dependency) in implied(service) {
        let span = service.get(key).map_or(draft.name_span, |node| node.span);
        if name == draft.name {
            report.error(span, || {
                Problem::new(format!("`{at}.{key}` names its own service"))
                    .hint("name another one, or take it out".to_owned())
            });
        } else if runs(&name) && !draft.edges.iter().any(|edge| edge.target == name) {
            draft.edges.push(Edge::implied(name, span, dependency));
        }
    }
}

/// The key that implies it, the service, and the edge.
fn implied(service: &Node<'_>) -> Vec<(&'static str, String, Dependency)> {
    let made_anew = Dependency { restart: true, ..Dependency::default() };
    // A namespace ends with its owner, for whatever reason that one ends.
    let namespace = Dependency { on_restart: OnRestart::Restart, ..made_anew.clone() };
    let mut found = Vec::new();
    for key in SHARED {
        let name = text(service, key).and_then(|text| Some(text.strip_prefix(SERVICE)?.to_owned()));
        found.extend(name.map(|name| (key, name, namespace.clone())));
    }
    let name_of = |text: &String| text.split(':').next().unwrap_or_default().to_owned();
    let links = texts(service.get("links"));
    found.extend(links.iter().map(|link| ("links", name_of(link), made_anew.clone())));
    let from = texts(service.get("volumes_from"));
    let from = from.iter().filter(|text| !text.starts_with(CONTAINER));
    found.extend(from.map(|text| ("volumes_from", name_of(text), made_anew.clone())));
    found
}
