//! A tree as one file would say it: for people who want to see what their files come to, and for
//! programs. Read again it means the same.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value as Json, json};

use super::index::Index;
use super::place::Span;
use super::report::Report;
use super::service::Draft;
use super::tree::{Entry, Node, Style, Value};
use super::{copies, project};
use crate::ids::AppName;

/// Keys whose work is done: what they ask for is in the document itself.
const DONE: [&str; 4] = ["env_file", "extends", "label_file", "profiles"];

/// Stands for a text that differs from copy to copy: `{"{{": "--port={{ 8000 + index }}"}`. No key of
/// the grammar is called so.
pub(super) const EACH: &str = "{{";

/// What values mean by where they stand.
pub(super) struct Light<'l, 'a> {
    pub(super) report: &'l Report<'a>,
    /// Variables were filled in.
    pub(super) interpolated: bool,
}

impl Light<'_, '_> {
    /// The absolute path that is meant by one.
    pub(super) fn absolute(&self, span: Span, path: &str) -> String {
        match self.report.sources.file(span.file) {
            // Where it starts is not known before it is filled in.
            Some(_) if !self.interpolated && path.contains('$') => path.to_owned(),
            Some(file) if path.starts_with('~') => {
                project::at_home(path, file).unwrap_or_else(|| path.to_owned())
            }
            Some(file) => project::joined(&file.dir, path),
            None => project::joined("/", path),
        }
    }

    /// What a variable that is named without a value has there; nothing, where it has none.
    fn asked(&self, span: Span, name: &str) -> Option<Json> {
        match self.interpolated {
            true => Some(self.report.sources.file(span.file)?.variables.get(name)?.into()),
            false => Some(Json::Null),
        }
    }

    fn json(&self, node: &Node<'_>) -> Json {
        match node.value {
            Value::Scalar(_) if node.is_null() => Json::Null,
            Value::Scalar(scalar) => match (self.report.template_of(scalar.style), scalar.style) {
                (Some(template), _) => json!({ EACH: template }),
                (None, Style::Bare) => bare(scalar.text),
                (None, _) => Json::from(scalar.text),
            },
            Value::List(items) => Json::Array(items.iter().map(|item| self.json(item)).collect()),
            Value::Map(entries) => {
                Json::Object(entries.iter().map(|e| (e.key.text.to_owned(), self.json(e.value))).collect())
            }
            Value::Bad => Json::Null,
        }
    }

    /// A directory, also where it differs from copy to copy.
    fn directory(&self, node: &Node<'_>, dir: &str) -> Json {
        let Value::Scalar(scalar) = node.value else { return Json::from(dir) };
        match self.report.template_of(scalar.style) {
            Some(template) if scalar.text.starts_with('/') => json!({ EACH: template }),
            Some(template) => json!({ EACH: format!("{}/{template}", self.absolute(node.span, ".")) }),
            None => Json::from(dir),
        }
    }
}

/// Whether something of it differs from copy to copy.
pub(super) fn differs(node: &Node<'_>) -> bool {
    match node.value {
        Value::Scalar(scalar) => matches!(scalar.style, Style::Each(_)),
        Value::List(items) => items.iter().any(|item| differs(item)),
        Value::Map(entries) => entries.iter().any(|entry| differs(entry.value)),
        Value::Bad => false,
    }
}

/// The document of a project whose services were read.
pub(super) fn of(name: &AppName, drafts: &[Draft], tree: &Node<'_>, light: &Light<'_, '_>) -> Json {
    let mut document = Map::new();
    document.insert("name".to_owned(), Json::from(name.as_str()));
    let Value::Map(entries) = tree.value else { return Json::Object(document) };
    for &Entry { key, value } in entries {
        match key.text {
            "name" => {}
            "services" => {
                let (nodes, mut index) = (value.entries(), Index::default());
                let services = drafts.iter().filter_map(|draft| {
                    let node = nodes[index.find(nodes, &draft.name)?].value;
                    Some((draft.name.clone(), service(draft, node, light)))
                });
                let (services, templates) = copies::as_templates(services.collect());
                document.insert("services".to_owned(), Json::Object(services));
                if !templates.is_empty() {
                    document.insert("templates".to_owned(), Json::Object(templates));
                }
            }
            name => drop(document.insert(name.to_owned(), light.json(value))),
        }
    }
    Json::Object(document)
}

pub(super) fn service(draft: &Draft, node: &Node<'_>, light: &Light<'_, '_>) -> Json {
    let Value::Map(entries) = node.value else { return Json::Null };
    let mut fields = Map::new();
    for &Entry { key, value } in entries {
        let value = match key.text {
            done if DONE.contains(&done) => continue,
            "volumes" => mounts(value, light),
            "build" => build(value, light),
            // Directories of a container are inside of it.
            "post_start" | "pre_stop" if draft.container.is_some() => hooks(value, false, light),
            "post_start" | "post_stop" | "pre_start" | "pre_stop" => hooks(value, true, light),
            "security_opt" => security(value, light),
            "healthcheck" => probe(value, light),
            "probes" => {
                let probes = value.entries().iter();
                Json::Object(probes.map(|e| (e.key.text.to_owned(), probe(e.value, light))).collect())
            }
            _ => light.json(value),
        };
        fields.insert(key.text.to_owned(), value);
    }
    let spec = &draft.spec;
    for (key, texts) in [("environment", &spec.environment), ("labels", &spec.labels)] {
        fields.remove(key);
        if !texts.is_empty() {
            fields.insert(key.to_owned(), Json::Object(pairs(texts, node.get(key), light)));
        }
    }
    if draft.container.is_none() {
        if !["command", "entrypoint"].into_iter().filter_map(|key| node.get(key)).any(differs) {
            let command = spec.command.iter().map(|word| Json::from(word.as_str()));
            fields.insert("command".to_owned(), Json::Array(command.collect()));
            for told in ["entrypoint", "shell"] {
                fields.remove(told);
            }
        }
        let dir = match node.get("working_dir") {
            Some(given) => light.directory(given, &spec.working_dir),
            None => Json::from(spec.working_dir.as_str()),
        };
        fields.insert("working_dir".to_owned(), dir);
    }
    Json::Object(fields)
}

/// Names and texts, of which those that differ from copy to copy are only in the tree.
fn pairs(
    texts: &BTreeMap<String, String>,
    given: Option<&Node<'_>>,
    light: &Light<'_, '_>,
) -> Map<String, Json> {
    let all = texts.iter().map(|(name, value)| (name.clone(), Json::from(value.as_str())));
    let mut all: Map<String, Json> = all.collect();
    for Entry { key, value } in given.map(|given| given.entries()).unwrap_or_default() {
        if differs(value) {
            all.insert(key.text.to_owned(), light.json(value));
        }
    }
    all
}

/// Directories of this machine are absolute.
fn mounts(node: &Node<'_>, light: &Light<'_, '_>) -> Json {
    let Value::List(items) = node.value else { return Json::Null };
    let mount = |item: &&Node<'_>| {
        let mut mount = light.json(item);
        let is_bind = item.get("type").and_then(|kind| kind.as_text()) == Some("bind");
        if let Some(source) = item.get("source").filter(|_| is_bind)
            && let Some(text) = source.as_text()
        {
            mount["source"] = Json::from(light.absolute(source.span, text));
        }
        mount
    };
    Json::Array(items.iter().map(mount).collect())
}

/// The files of it are absolute.
fn security(node: &Node<'_>, light: &Light<'_, '_>) -> Json {
    let Value::List(items) = node.value else { return Json::Null };
    let option = |item: &&Node<'_>| match item.as_text().and_then(|text| Some((text, profile(text)?))) {
        Some((text, path)) => {
            let sign = &text[..text.len() - path.len()];
            Json::from(format!("{sign}{}", light.absolute(item.span, path)))
        }
        None => light.json(item),
    };
    Json::Array(items.iter().map(option).collect())
}

/// The file of rules for system calls that an option names, if it names one.
pub(super) fn profile(option: &str) -> Option<&str> {
    const INBUILT: [&str; 2] = ["unconfined", "builtin"];
    let profile = option.strip_prefix("seccomp=").or_else(|| option.strip_prefix("seccomp:"));
    // What was read before stands there already.
    profile.filter(|profile| !INBUILT.contains(profile) && !profile.trim_start().starts_with('{'))
}

fn build(node: &Node<'_>, light: &Light<'_, '_>) -> Json {
    let mut build = light.json(node);
    let given = node.get("context").and_then(|node| Some((node.span, node.as_text()?)));
    let (span, text) = given.unwrap_or((node.span, "."));
    if !crate::project::container::Build::is_address(text) && matches!(node.value, Value::Map(_)) {
        build["context"] = Json::from(light.absolute(span, text));
    }
    if let Some(args) = node.get("args") {
        build["args"] = variables(args, light);
    }
    build
}

fn hooks(node: &Node<'_>, is_here: bool, light: &Light<'_, '_>) -> Json {
    let Value::List(items) = &node.value else { return Json::Null };
    let hook = |item: &&Node<'_>| {
        let mut hook = light.json(item);
        if let Some(environment) = item.get("environment") {
            hook["environment"] = variables(environment, light);
        }
        let dir = item.get("working_dir").filter(|_| is_here);
        if let Some(dir) = dir.and_then(|node| Some((node, node.as_text()?))) {
            hook["working_dir"] = light.directory(dir.0, &light.absolute(dir.0.span, dir.1));
        }
        hook
    };
    Json::Array(items.iter().map(hook).collect())
}

/// Paths are absolute, also those that differ from copy to copy.
fn probe(node: &Node<'_>, light: &Light<'_, '_>) -> Json {
    let mut probe = light.json(node);
    let place = |node: &Node<'_>| node.as_text().map(|path| light.directory(node, path));
    if let Some(socket) = node.get("unix").filter(|socket| differs(socket)).and_then(place) {
        probe["unix"] = socket;
    }
    if let Some(path) = node.get("file").and_then(|file| file.get("path")).filter(|path| differs(path))
        && let Some(path) = place(path)
    {
        probe["file"]["path"] = path;
    }
    probe
}

/// Names and values, also of those whose values the person's session has.
fn variables(node: &Node<'_>, light: &Light<'_, '_>) -> Json {
    let Value::Map(entries) = &node.value else { return Json::Null };
    let known = entries.iter().filter_map(|Entry { key, value }| {
        let value = if value.is_null() { light.asked(key.span, key.text)? } else { light.json(value) };
        Some((key.text.to_string(), value))
    });
    Json::Object(known.collect())
}

/// A number, true or false.
fn bare(text: &str) -> Json {
    match text.to_ascii_lowercase().as_str() {
        "true" => Json::Bool(true),
        "false" => Json::Bool(false),
        _ => match (text.parse::<i64>(), text.parse::<f64>().ok().and_then(Number::from_f64)) {
            (Ok(whole), _) => Json::from(whole),
            (_, Some(number)) => Json::Number(number),
            _ => Json::from(text),
        },
    }
}

/// With every `$` as `$$`, so that none is taken for a variable when it is read again.
pub(super) fn doubled(json: Json) -> Json {
    match json {
        Json::String(text) => Json::from(text.replace('$', "$$")),
        Json::Array(items) => Json::Array(items.into_iter().map(doubled).collect()),
        Json::Object(fields) => {
            Json::Object(fields.into_iter().map(|(name, value)| (name, doubled(value))).collect())
        }
        other => other,
    }
}
