//! A tree as one file would say it: for people who want to see what their files come to, and for
//! programs. Read again it means the same.

use serde_json::{Map, Number, Value as Json};

use super::index::Index;
use super::place::Span;
use super::service::Draft;
use super::tree::{Entry, Node, Style, Value};
use crate::ids::AppName;

/// Keys whose work is done: what they ask for is in the document itself.
const DONE: [&str; 4] = ["env_file", "extends", "label_file", "profiles"];

/// What values mean by where they stand.
pub(super) struct Light<'l> {
    /// The absolute path that is meant by one.
    pub(super) absolute: &'l dyn Fn(Span, &str) -> String,
    /// What a variable that is named without a value has there; nothing, where it has none.
    pub(super) asked: &'l dyn Fn(Span, &str) -> Option<Json>,
}

/// The document of a project whose services were read.
pub(super) fn of(name: &AppName, drafts: &[Draft], tree: &Node<'_>, light: &Light<'_>) -> Json {
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
                document.insert("services".to_owned(), Json::Object(services.collect()));
            }
            name => drop(document.insert(name.to_owned(), json(value))),
        }
    }
    Json::Object(document)
}

fn service(draft: &Draft, node: &Node<'_>, light: &Light<'_>) -> Json {
    let Value::Map(entries) = node.value else { return Json::Null };
    let mut fields = Map::new();
    for &Entry { key, value } in entries {
        let value = match key.text {
            done if DONE.contains(&done) => continue,
            "volumes" => mounts(value, light),
            "build" => build(value, light),
            "post_start" | "pre_stop" => hooks(value, light),
            _ => json(value),
        };
        fields.insert(key.text.to_owned(), value);
    }
    let spec = &draft.spec;
    for (key, texts) in [("environment", &spec.environment), ("labels", &spec.labels)] {
        fields.remove(key);
        if !texts.is_empty() {
            let pairs = texts.iter().map(|(name, value)| (name.clone(), Json::from(value.as_str())));
            fields.insert(key.to_owned(), Json::Object(pairs.collect()));
        }
    }
    if draft.container.is_none() {
        let command = spec.command.iter().map(|word| Json::from(word.as_str()));
        fields.insert("command".to_owned(), Json::Array(command.collect()));
        for told in ["entrypoint", "shell"] {
            fields.remove(told);
        }
        fields.insert("working_dir".to_owned(), Json::from(spec.working_dir.as_str()));
    }
    Json::Object(fields)
}

/// Directories of this machine are absolute.
fn mounts(node: &Node<'_>, light: &Light<'_>) -> Json {
    let Value::List(items) = node.value else { return Json::Null };
    let mount = |item: &&Node<'_>| {
        let mut mount = json(item);
        let is_bind = item.get("type").and_then(|kind| kind.as_text()) == Some("bind");
        if let Some(source) = item.get("source").filter(|_| is_bind)
            && let Some(text) = source.as_text()
        {
            mount["source"] = Json::from((light.absolute)(source.span, text));
        }
        mount
    };
    Json::Array(items.iter().map(mount).collect())
}

fn build(node: &Node<'_>, light: &Light<'_>) -> Json {
    let mut build = json(node);
    let is_remote =
        |text: &str| text.contains("://") || text.starts_with("git@") || text.starts_with("github.com/");
    if let Some(context) = node.get("context")
        && let Some(text) = context.as_text().filter(|text| !is_remote(text))
    {
        build["context"] = Json::from((light.absolute)(context.span, text));
    }
    if let Some(args) = node.get("args") {
        build["args"] = variables(args, light);
    }
    build
}

fn hooks(node: &Node<'_>, light: &Light<'_>) -> Json {
    let Value::List(items) = &node.value else { return Json::Null };
    let hook = |item: &&Node<'_>| {
        let mut hook = json(item);
        if let Some(environment) = item.get("environment") {
            hook["environment"] = variables(environment, light);
        }
        hook
    };
    Json::Array(items.iter().map(hook).collect())
}

/// Names and values, also of those whose values the person's session has.
fn variables(node: &Node<'_>, light: &Light<'_>) -> Json {
    let Value::Map(entries) = &node.value else { return Json::Null };
    let known = entries.iter().filter_map(|Entry { key, value }| {
        let value = if value.is_null() { (light.asked)(key.span, &key.text)? } else { json(value) };
        Some((key.text.to_string(), value))
    });
    Json::Object(known.collect())
}

fn json(node: &Node<'_>) -> Json {
    match node.value {
        Value::Scalar(_) if node.is_null() => Json::Null,
        Value::Scalar(scalar) if scalar.style == Style::Bare => bare(scalar.text),
        Value::Scalar(scalar) => Json::from(scalar.text),
        Value::List(items) => Json::Array(items.iter().map(|item| json(item)).collect()),
        Value::Map(entries) => {
            Json::Object(entries.iter().map(|e| (e.key.text.to_owned(), json(e.value))).collect())
        }
        Value::Bad => Json::Null,
    }
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
