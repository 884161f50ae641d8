//! Templates: what services are made of that differ in a few values.
//!
//! A template is read and checked once, where it stands. Each service that uses it is made by putting
//! values into its texts; the rest of the way it goes as if a person had written it: checked by the
//! grammar, under the keys the service gives besides. What is wrong in one is said at the template's
//! line, with the place that uses it.
//!
//! Laws: `{{ … }}` means something in templates and nowhere else; keys are never made; what stands in
//! a value is not read again.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value as Json;

use super::canon::{Canon, Open};
use super::compose::{Composer, without};
use super::instance::Maker;
use super::place::Span;
use super::read::At;
use super::render::{self, GIVEN, Values, is_template};
use super::report::{Problem, Report, shown};
use super::tree::{Directive, Entry, Key, Node, Value};
use super::{grammar, scalar, words};

/// Between the name of a template and what makes one of it, in the name of a service.
pub(super) const AT: char = '@';

/// A template that is declared.
#[derive(Clone)]
pub(super) struct Template<'a> {
    parameters: BTreeMap<&'a str, Parameter>,
    /// The service, with its texts as they are written.
    pub(super) service: &'a Node<'a>,
}

#[derive(Clone)]
struct Parameter {
    kind: Kind,
    default: Option<Json>,
    /// What it may be, where that is said.
    allowed: Vec<Json>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    String,
    Integer,
    Number,
    Boolean,
    List,
}

impl Kind {
    fn of(word: Option<&str>) -> Self {
        match word {
            Some("integer") => Self::Integer,
            Some("number") => Self::Number,
            Some("boolean") => Self::Boolean,
            Some("list") => Self::List,
            _ => Self::String,
        }
    }

    fn wanted(self) -> &'static str {
        match self {
            Self::String => "text",
            Self::Integer => "a whole number",
            Self::Number => "a number",
            Self::Boolean => "`true` or `false`",
            Self::List => "a list of texts",
        }
    }

    /// What a value of this kind says; `None`: it is none.
    fn read(self, node: &Node<'_>) -> Option<Json> {
        if let Value::List(items) = node.value {
            let texts = items.iter().map(|item| item.as_text().map(Json::from)).collect::<Option<Vec<_>>>();
            return texts.filter(|_| self == Self::List).map(Json::from);
        }
        let text = node.as_text()?;
        match self {
            Self::String => Some(Json::from(text)),
            Self::Integer => text.parse::<i64>().ok().map(Json::from),
            Self::Number => {
                let number = scalar::number(text.strip_prefix('-').unwrap_or(text)).ok()?;
                Some(Json::from(if text.starts_with('-') { -number } else { number }))
            }
            Self::Boolean => scalar::flag(text).ok().map(Json::from),
            Self::List => None,
        }
    }
}

/// The templates that can be used; `None` for one with which something is wrong.
pub(super) type Templates<'a> = HashMap<&'a str, Option<Template<'a>>>;

impl<'a> Composer<'_, 'a> {
    /// The services of a canonical tree that use templates, made; the templates are done with then.
    pub(super) fn instantiate(&mut self, tree: &'a Node<'a>, open: Open) -> &'a Node<'a> {
        for &Entry { key, value } in tree.get("templates").map(|node| node.entries()).unwrap_or_default() {
            let template = self.template(key, value, open);
            self.templates.insert(key.text, template);
        }
        let tree = without(tree, "templates", self.arena());
        let Some(services) = tree.get("services").filter(|node| matches!(node.value, Value::Map(_))) else {
            return tree;
        };
        let at = At::file(tree.span);
        let entries = tree.entries().iter().map(|entry| match std::ptr::eq(entry.value, services) {
            true => Entry { value: self.made(services, &at.key(&entry.key), open), ..*entry },
            false => *entry,
        });
        let entries: Vec<Entry<'a>> = entries.collect();
        self.arena().with_entries(tree, &entries)
    }

    fn made(&mut self, services: &'a Node<'a>, at: &At<'_>, open: Open) -> &'a Node<'a> {
        let made = services.entries().iter().map(|&Entry { key, value }| {
            let value = match value.tag {
                Directive::Reset => value,
                _ => self.service(key, value, &at.key(&key), open),
            };
            Entry { key, value }
        });
        let made: Vec<Entry<'a>> = made.collect();
        self.arena().with_entries(services, &made)
    }

    /// One service: made of the template it uses, if it does.
    fn service(&mut self, key: Key<'a>, node: &'a Node<'a>, at: &At<'_>, open: Open) -> &'a Node<'a> {
        let uses = node.get("template");
        let by_name = key.text.split_once(AT);
        let (name, place) = match (uses.map(|uses| (uses, uses.get("use"))), by_name) {
            (Some((_, Some(name))), _) => (name.as_text().unwrap_or_default(), name.span),
            (Some((uses, None)), None) => {
                if !matches!(uses.value, Value::Bad) {
                    self.report.error(uses.span, || {
                        Problem::new(format!("`{at}.template` names none"))
                            .hint("say which one it uses".to_owned())
                    });
                }
                return self.arena().with(node, Value::Bad);
            }
            (None, Some((name, _))) if !self.templates.contains_key(name) && says_what_runs(node) => {
                return node;
            }
            (_, Some((name, _))) => (name, key.span),
            (None, None) => return node,
        };
        let bad = self.arena().with(node, Value::Bad);
        let Some(template) = self.find(name, place, at) else { return bad };
        let instance = by_name.map(|(_, instance)| instance);
        let given = uses.and_then(|uses| uses.get("with"));
        let Some(values) = self.values(&template, name, given, (key.text, instance), place, at) else {
            return bad;
        };
        let via = self.report.sources.add_step(place, "used".to_owned());
        let file = self.report.sources.again(template.service.span.file, via);
        let made = {
            let (renderer, report) = (&mut *self.renderer, &mut *self.report);
            Maker::new(renderer, report, values, file).service(template.service, at)
        };
        let Some(made) = made else { return bad };
        let mut canon = Canon::new(self.report, self.patterns);
        canon.open = open;
        let Some(made) = canon.keys(made, &grammar::SERVICE, at) else { return bad };
        let merger = super::merge::Merger { arena: self.arena() };
        let own = if node.is_null() { self.arena().with(node, Value::Map(&[])) } else { node };
        let own = without(own, "template", self.arena());
        let whole = merger.over(merger.settled(made), own, &grammar::SERVICE);
        match self.count(whole, place) {
            Ok(()) => whole,
            Err(_) => bad,
        }
    }

    fn find(&mut self, name: &str, place: Span, at: &At<'_>) -> Option<Template<'a>> {
        if let Some(template) = self.templates.get(name) {
            return template.clone();
        }
        let known: Vec<&str> = self.templates.keys().copied().collect();
        self.report.error(place, || {
            let hint =
                words::did_you_mean(name, known).unwrap_or_else(|| "declare it under `templates`".to_owned());
            Problem::new(format!("`{at}` uses the template `{}`, which is not declared", shown(name)))
                .hint(hint)
        });
        None
    }

    /// What the parameters of a template are for one service. `service`: its name, and what stands
    /// behind its `@`.
    fn values(
        &mut self,
        template: &Template<'a>,
        name: &str,
        given: Option<&'a Node<'a>>,
        (service, instance): (&str, Option<&'a str>),
        place: Span,
        at: &At<'_>,
    ) -> Option<Values> {
        let mut values = Values::new();
        let mut is_good = true;
        let report = &mut *self.report;
        for Entry { key, value } in given.map(|given| given.entries()).unwrap_or_default() {
            let Some(parameter) = template.parameters.get(key.text) else {
                report.error(key.span, || {
                    let hint = words::did_you_mean(key.text, template.parameters.keys().copied());
                    Problem::new(format!(
                        "The template `{}` has no parameter `{}`",
                        shown(name),
                        shown(key.text)
                    ))
                    .hint(hint)
                });
                is_good = false;
                continue;
            };
            let of = format!("`{at}.template.with.{}`", shown(key.text));
            match judged(parameter, value, &of, report) {
                Some(json) => drop(values.insert(key.text.to_owned(), json)),
                None => is_good = false,
            }
        }
        let missing = |values: &Values| -> Vec<&'a str> {
            let is_missing = |(name, parameter): &(&&'a str, &Parameter)| {
                parameter.default.is_none() && !values.contains_key(**name)
            };
            template.parameters.iter().filter(is_missing).map(|(name, _)| *name).collect()
        };
        // `worker@mail`: what is behind the `@` is the one that is asked for.
        if let (Some(instance), [only]) = (instance, &missing(&values)[..]) {
            let kind = template.parameters[only].kind;
            let node = Node::new(place, super::canon::quoted(instance));
            match judged(&template.parameters[only], &node, &format!("`{at}`: its `{only}`"), report) {
                Some(json) if kind != Kind::List => drop(values.insert((*only).to_owned(), json)),
                _ => is_good = false,
            }
        }
        if let (true, missing @ [first, ..]) = (is_good, &missing(&values)[..]) {
            report.error(place, || {
                Problem::new(format!(
                    "`{at}` gives the template `{}` no {}",
                    shown(name),
                    words::quoted(missing)
                ))
                .hint(format!("write `template: {{ use: {}, with: {{ {first}: … }} }}`", shown(name)))
            });
            return None;
        }
        for (name, parameter) in &template.parameters {
            if let Some(default) = &parameter.default {
                values.entry((*name).to_owned()).or_insert_with(|| default.clone());
            }
        }
        values.insert("service".to_owned(), Json::from(service));
        values.insert("instance".to_owned(), Json::from(instance.unwrap_or_default()));
        is_good.then_some(values)
    }

    /// Reads a template. `None`: what is wrong with it was said.
    fn template(&mut self, key: Key<'a>, node: &'a Node<'a>, open: Open) -> Option<Template<'a>> {
        if matches!(node.value, Value::Bad) {
            return None;
        }
        let mut is_good = true;
        let mut parameters = BTreeMap::new();
        for Entry { key: name, value } in
            node.get("parameters").map(|node| node.entries()).unwrap_or_default()
        {
            match parameter(name, value, self.report) {
                Some(parameter) => drop(parameters.insert(name.text, parameter)),
                None => is_good = false,
            }
        }
        let Some(service) = node.get("service").filter(|service| matches!(service.value, Value::Map(_)))
        else {
            self.report.error(node.span, || {
                Problem::new(format!("The template `{}` has no `service`", shown(key.text)))
                    .hint("under it stands what a service says".to_owned())
            });
            return None;
        };
        let before = self.report.count();
        if let Some(other) = service.get("template").or_else(|| service.get(super::OURS)?.get("template")) {
            self.report.error(other.span, || {
                Problem::new("A template cannot use another one").hint("let it extend a service".to_owned())
            });
        }
        let top = At::file(node.span);
        let templates = Key { text: "templates", span: key.span };
        let at = top.key(&templates);
        let at = at.key(&key);
        let inner = Key { text: "service", span: service.span };
        // Also those with which something is wrong.
        let declared = node.get("parameters").map(|node| node.entries()).unwrap_or_default();
        let known: Vec<&str> = declared.iter().map(|entry| entry.key.text).chain(GIVEN).collect();
        self.check(service, &known, &at.key(&inner));
        let mut canon = Canon::new(self.report, self.patterns);
        canon.open = Open { templates: true, ..open };
        canon.keys(service, &grammar::SERVICE, &at.key(&inner));
        is_good &= self.report.count() == before;
        is_good.then_some(Template { parameters, service })
    }

    /// Every text of a template is one, and asks for nothing but what there is.
    fn check(&mut self, node: &'a Node<'a>, known: &[&str], at: &At<'_>) {
        match node.value {
            Value::Scalar(scalar) if is_template(scalar.text) => match self.renderer.names(scalar.text) {
                Ok(names) => {
                    let mut unknown: Vec<String> =
                        names.iter().filter(|name| !known.contains(&name.as_str())).cloned().collect();
                    unknown.sort();
                    for name in unknown {
                        let place = place_of(node, scalar.text, &name, self.report);
                        self.report.error(place, || {
                            let hint = words::did_you_mean(&name, known.iter().copied())
                                .unwrap_or_else(|| "declare it under `parameters`".to_owned());
                            Problem::new(format!(
                                "`{at}` uses `{}`, which stands for nothing here",
                                shown(&name)
                            ))
                            .hint(hint)
                        });
                    }
                }
                Err(fault) => {
                    let place = super::instance::place(node, scalar.text, &fault, self.report);
                    self.report.error(place, || Problem::new(format!("`{at}` {}", fault.what)));
                }
            },
            Value::List(items) => super::read::each_item(items, at, |item, at| self.check(item, known, at)),
            Value::Map(entries) => entries.iter().for_each(|e| self.check(e.value, known, &at.key(&e.key))),
            Value::Scalar(_) | Value::Bad => {}
        }
    }
}

/// Whether a service needs no template to be one.
fn says_what_runs(node: &Node<'_>) -> bool {
    ["build", "command", "entrypoint", "extends", "image"].into_iter().any(|key| node.get(key).is_some())
}

/// Where a name stands in a text, if that stands in the file as it is.
fn place_of(node: &Node<'_>, text: &str, name: &str, report: &Report<'_>) -> Span {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let word = text
        .match_indices(name)
        .find(|(at, _)| !text[..*at].ends_with(is_part) && !text[at + name.len()..].starts_with(is_part));
    let range = word.map(|(at, word)| at..at + word.len());
    let fault = render::Fault { what: String::new(), range };
    super::instance::place(node, text, &fault, report)
}

fn parameter<'a>(name: &Key<'a>, node: &'a Node<'a>, report: &mut Report<'a>) -> Option<Parameter> {
    if matches!(node.value, Value::Bad) {
        return None;
    }
    let kind = Kind::of(node.get("type").and_then(|node| node.as_text()));
    let of = |what: &str| format!("The {what} of the parameter `{}`", shown(name.text));
    let mut parameter = Parameter { kind, default: None, allowed: Vec::new() };
    if let Some(Value::List(items)) = node.get("enum").map(|node| node.value) {
        for item in items {
            parameter.allowed.push(json(kind, item, &of("`enum`"), report)?);
        }
    }
    if let Some(default) = node.get("default") {
        parameter.default = Some(judged(&parameter, default, &of("`default`"), report)?);
    }
    Some(parameter)
}

/// A value of this kind. `None`: it is none, and that was said.
fn json<'a>(kind: Kind, node: &Node<'a>, of: &str, report: &mut Report<'a>) -> Option<Json> {
    let json = kind.read(node);
    if json.is_none() {
        report
            .error(node.span, || Problem::new(format!("{of} must be {}, not {}", kind.wanted(), told(node))));
    }
    json
}

/// A value a parameter may have. `None`: it may not, and that was said.
fn judged<'a>(parameter: &Parameter, node: &Node<'a>, of: &str, report: &mut Report<'a>) -> Option<Json> {
    let json = json(parameter.kind, node, of, report)?;
    if parameter.allowed.is_empty() || parameter.allowed.contains(&json) {
        return Some(json);
    }
    report.error(node.span, || {
        let allowed: Vec<String> = parameter.allowed.iter().map(shown_json).collect();
        let allowed: Vec<&str> = allowed.iter().map(String::as_str).collect();
        let hint = words::did_you_mean(&shown_json(&json), allowed.iter().copied())
            .unwrap_or_else(|| format!("write one of {}", words::quoted(&allowed)));
        Problem::new(format!("{of} may not be `{}`", shown(&shown_json(&json)))).hint(hint)
    });
    None
}

fn shown_json(json: &Json) -> String {
    match json {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn told(node: &Node<'_>) -> String {
    match node.as_text() {
        Some(text) => format!("`{}`", shown(text)),
        None => node.kind().to_owned(),
    }
}
