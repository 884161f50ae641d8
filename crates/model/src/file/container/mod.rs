//! Reads what only containers have, into the words of an engine: names as they are there, sizes in bytes,
//! paths of this machine absolute.
//!
//! What is wrong with the text of one value was said when it was checked by the grammar. Here it is judged
//! what the keys of one container say together (`rules`), and what containers say of each other
//! (`together`); both by nouns, so that they hold on the wire as well.

mod image;
mod limits;
mod network;
pub(super) mod rules;
mod share;
mod storage;
pub(super) mod together;

use std::collections::{BTreeMap, HashMap, HashSet};

use super::place::Span;
use super::read::At;
use super::report::{Problem, Report};
use super::rules::Broken;
use super::service::{Draft, Reader, is_set, words};
use super::tree::{Key, Node, Value};
use super::{Unread, document, project, scalar};
use crate::project::container::{Container, Logging, Namespaces};
use crate::project::{Service, Signal};

pub(super) use share::edges;

/// Where in a service something stands: behind a key, as one of its items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    key: &'static str,
    item: Option<usize>,
}

impl Place {
    const fn key(key: &'static str) -> Self {
        Self { key, item: None }
    }

    const fn item(key: &'static str, item: usize) -> Self {
        Self { key, item: Some(item) }
    }

    /// Where that is in the file, if there is such a key. Some have two words.
    fn span(self, service: &Node<'_>) -> Option<Span> {
        let other = match self.key {
            "cpus" => "deploy.resources.limits.cpus",
            "mem_limit" => "deploy.resources.limits.memory",
            "mem_reservation" => "deploy.resources.reservations.memory",
            "gpus" => "deploy.resources.reservations.devices",
            _ => return self.span_at(self.key, service),
        };
        self.span_at(self.key, service).or_else(|| self.span_at(other, service))
    }

    fn span_at(self, path: &str, service: &Node<'_>) -> Option<Span> {
        let path = path.split('.');
        let mut node = *service;
        let mut span = None;
        for name in path {
            let entry = node.entries().iter().find(|entry| entry.key.text == name)?;
            node = *entry.value;
            span = Some(if node.span.is_empty() { entry.key.span } else { node.span });
        }
        let item = match (node.value, self.item) {
            (Value::List(items), Some(item)) => items.get(item).map(|item| item.span),
            _ => None,
        };
        item.filter(|span| !span.is_empty()).or(span)
    }
}

/// `ports[2]`.
impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.key)?;
        match self.item {
            Some(item) => write!(f, "[{}]", item + 1),
            None => Ok(()),
        }
    }
}

/// A rule that is broken, and where.
pub(super) type Complaint = (Place, Broken);

impl<'a> Reader<'_, '_, 'a> {
    /// All of it, into the draft.
    pub(super) fn container(&mut self, service: &Node<'a>, key: &Key<'a>, at: &At<'_>, draft: &mut Draft) {
        let Some(image) = self.image(service, key) else { return };
        let mut found = Container::new(image);
        self.image_and_command(service, at, &mut found);
        self.rights(service, at, &mut found);
        network::names(service, &mut found);
        found.network = network::mode(self.app, self.root, service);
        storage::read(service, at, self, &mut found);
        limits::read(service, &mut found);
        draft.spec.container = Some(Box::new(found));
        draft.spec.command.clear();
        for (place, rule) in rules::broken(&draft.spec) {
            let span = place.span(service).unwrap_or(draft.name_span);
            self.report.error(span, || Problem::new(format!("`{at}.{place}` {}", rule.what)).hint(rule.hint));
        }
    }

    fn image_and_command(&mut self, service: &Node<'a>, at: &At<'_>, found: &mut Container) {
        found.build = service.get("build").and_then(|node| self.build(node, service, at));
        found.pull_policy =
            text(service, "pull_policy").and_then(|text| image::pull_policy(&text)).unwrap_or_default();
        found.platform = text(service, "platform");
        found.image_check = service.get("healthcheck").is_none() && !has_readiness(service);
        found.stop_signal = text(service, "stop_signal").and_then(|text| Signal::parse(&text));
        (found.entrypoint, found.command) = (argv(service, "entrypoint"), argv(service, "command"));
        found.working_dir = text(service, "working_dir");
        found.name = text(service, "container_name");
        found.init = flag(service, "init");
        found.runtime = text(service, "runtime");
        found.annotations = pairs(service.get("annotations"));
        found.logging = service
            .get("logging")
            .map(|node| Logging { driver: text(node, "driver"), options: pairs(node.get("options")) });
    }

    fn rights(&mut self, service: &Node<'a>, at: &At<'_>, found: &mut Container) {
        found.cap_add = texts(service.get("cap_add"));
        found.cap_drop = texts(service.get("cap_drop"));
        found.privileged = flag(service, "privileged").unwrap_or(false);
        found.read_only = flag(service, "read_only").unwrap_or(false);
        found.sysctls = pairs(service.get("sysctls"));
        found.security_opt = self.security(service, at);
        let word = |name: &str| text(service, name).filter(|word| !word.is_empty());
        found.namespaces = Namespaces {
            ipc: word("ipc"),
            pid: word("pid"),
            uts: word("uts"),
            user: word("userns_mode"),
            cgroup: word("cgroup"),
            cgroup_parent: word("cgroup_parent"),
        };
    }

    /// The engine is given what is in a file of rules for system calls, and not where it is.
    fn security(&mut self, service: &Node<'a>, at: &At<'_>) -> Vec<String> {
        let Some(Value::List(items)) = service.get("security_opt").map(|node| node.value) else {
            return Vec::new();
        };
        let mut found = Vec::with_capacity(items.len());
        for item in items {
            let Some(option) = item.as_text() else { continue };
            let Some(path) = document::profile(option) else {
                // The old form has a colon.
                let is_old = option.split_once(':').is_some_and(|(name, _)| !name.contains('='));
                found.push(if is_old { option.replacen(':', "=", 1) } else { option.to_owned() });
                continue;
            };
            let path = self.absolute(item.span, path);
            match self.context.resolver.read(&path) {
                Ok(text) => found.push(format!("seccomp={text}")),
                Err(unread) => {
                    let shown = super::report::shown(&self.context.resolver.shown(&path));
                    let why = match unread {
                        Unread::Missing => "which is not there".to_owned(),
                        Unread::Unreadable(why) => {
                            format!("which cannot be read: {}", super::report::shown(&why))
                        }
                    };
                    self.report.error(item.span, || {
                        Problem::new(format!("`{at}.security_opt` names the file `{shown}`, {why}"))
                            .hint("write it, or take it out".to_owned())
                    });
                }
            }
        }
        found
    }
}

fn has_readiness(service: &Node<'_>) -> bool {
    service.get("probes").is_some_and(|probes| probes.get(crate::ids::ProbeName::READINESS).is_some())
}

/// A word of it that is there.
fn text(node: &Node<'_>, name: &str) -> Option<String> {
    node.get(name)?.as_text().map(str::to_owned)
}

/// The texts of a list, or of what stands for one.
fn texts(node: Option<&Node<'_>>) -> Vec<String> {
    match node.map(|node| node.value) {
        Some(Value::List(items)) => {
            items.iter().filter_map(|item| item.as_text().map(str::to_owned)).collect()
        }
        _ => node.and_then(|node| node.as_text()).map(str::to_owned).into_iter().collect(),
    }
}

/// Names and texts; a name without one has an empty one.
fn pairs(node: Option<&Node<'_>>) -> BTreeMap<String, String> {
    let entries = node.map(|node| node.entries()).unwrap_or_default();
    let pair = |entry: &super::tree::Entry<'_>| {
        (entry.key.text.to_owned(), entry.value.as_text().unwrap_or_default().to_owned())
    };
    entries.iter().map(pair).collect()
}

fn flag(node: &Node<'_>, name: &str) -> Option<bool> {
    node.get(name).map(|node| is_set(node))
}

fn number(node: &Node<'_>, name: &str) -> Option<i64> {
    node.get(name)?.as_text()?.parse().ok()
}

fn bytes(node: &Node<'_>, name: &str) -> Option<u64> {
    scalar::bytes(node.get(name)?.as_text()?).ok()
}

/// The words of a command; none at all, where it says so; `None`: those of the image.
fn argv(service: &Node<'_>, name: &str) -> Option<Vec<String>> {
    words(service.get(name)?)
}

/// Where in a container something is mounted.
pub(super) fn targets(service: &Service) -> HashSet<String> {
    let Some(container) = &service.container else { return HashSet::new() };
    let mounts = container.mounts.iter().map(|mount| &mount.target);
    mounts.chain(container.tmpfs.keys()).map(|target| project::joined("/", target)).collect()
}

/// What of a container's copy differs from the first one's.
pub(super) fn of_copy(container: &Container, made: &Service) -> Container {
    let mut copy = container.clone();
    if let Some(made) = &made.container {
        copy.entrypoint.clone_from(&made.entrypoint);
        copy.command.clone_from(&made.command);
        copy.working_dir.clone_from(&made.working_dir);
    }
    copy
}

/// Tells each container what those are called of which it has something.
pub(super) fn introduce(app: &crate::ids::AppName, drafts: &mut [Draft]) {
    let named = |draft: &Draft| Some((draft.name.clone(), draft.spec.container.as_ref()?.name.clone()?));
    let names: HashMap<String, String> = drafts.iter().filter_map(named).collect();
    for container in drafts.iter_mut().filter_map(|draft| draft.spec.container.as_deref_mut()) {
        for (_, service) in rules::others(container) {
            let name = names.get(service.as_str());
            container.peers.extend(name.map(|name| (service, name.clone())));
        }
        let own = container.links.iter().map(|(service, alias)| (container.peer(app, service), alias));
        let others = container.external_links.iter().map(|(name, alias)| (name.clone(), alias));
        let links: Vec<String> = own.chain(others).map(|(name, alias)| format!("{name}:{alias}")).collect();
        if let crate::project::container::NetworkMode::Networks(attachments) = &mut container.network {
            attachments.iter_mut().for_each(|attachment| attachment.links.clone_from(&links));
        }
    }
}

/// What containers of a project say of each other, said where it stands.
pub(super) fn judge_together(
    app: &crate::ids::AppName,
    drafts: &[Draft],
    services: &Node<'_>,
    report: &mut Report<'_>,
) {
    let named = drafts.iter().map(|draft| (draft.name.as_str(), &draft.spec));
    let entries = services.entries();
    let mut index = super::index::Index::default();
    for clash in together::broken(app, named) {
        let draft = &drafts[clash.service];
        let node = index.find(entries, &draft.name).map(|place| entries[place].value);
        let span = node.and_then(|node| clash.place.span(node)).unwrap_or(draft.name_span);
        let name = super::report::shown(&draft.name);
        report.error(span, || {
            let rule = clash.rule;
            Problem::new(format!("`services.{name}.{}` {}", clash.place, rule.what)).hint(rule.hint)
        });
    }
}
