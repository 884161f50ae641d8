//! What differs from copy to copy of one service: kept as it is written, and made for each.
//!
//! Laws: each copy is what the file would say with its number in the place of `index`, read by the
//! same rules; whoever has no such text is every copy himself.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use bumpalo::Bump;
use serde_json::{Map, Value as Json, json};

use super::arena::Arena;
use super::canon::{Canon, quoted};
use super::document::EACH;
use super::pattern::Patterns;
use super::place::{File, FileId, Span};
use super::read::At;
use super::render::{self, Renderer, Values};
use super::report::{Problem, Report, shown};
use super::service::Reader;
use super::templates::AT;
use super::tree::{Entry, Key, Node, Scalar, Style, Value};
use super::variables::Variables;
use super::{Context, Resolver, container, grammar, instance, project};
use crate::ids::ProbeName;
use crate::project::{Container, PerCopy, Probe, Service};

/// Copies that are made of templates may take so much in all, in bytes: 16,384 of 8 KB.
pub(super) const WORK_MAX: usize = 128 << 20;

/// What is kept of a service's document: what may differ, and what that is read with.
pub(super) fn recipe(document: Json) -> PerCopy {
    let Json::Object(fields) = document else { return PerCopy(Json::Null) };
    let mut kept: Map<String, Json> = fields.into_iter().filter(|(key, _)| is_kept(key)).collect();
    if let Some(check) = kept.get_mut("healthcheck") {
        forget_files(check);
    }
    if let Some(Json::Object(probes)) = kept.get_mut("probes") {
        probes.values_mut().for_each(forget_files);
    }
    PerCopy(Json::Object(kept))
}

/// Files of certificates are read once, for all copies.
fn forget_files(probe: &mut Json) {
    for question in ["http", "grpc"] {
        if let Some(Json::Object(tls)) = probe.get_mut(question).and_then(|question| question.get_mut("tls"))
        {
            tls.remove(CA_FILE);
        }
    }
}

const CA_FILE: &str = "ca_file";

fn is_kept(key: &str) -> bool {
    instance::EACH.contains(&key) || key == "shell"
}

/// Services with texts that differ, as templates they use, so that a file can say it.
pub(super) fn as_templates(services: Map<String, Json>) -> (Map<String, Json>, Map<String, Json>) {
    let names: BTreeSet<String> = services.keys().cloned().collect();
    // A service `web@x` would be made of a template `web`, whatever it says itself.
    let asked: BTreeSet<&str> = names.iter().filter_map(|name| Some(name.split_once(AT)?.0)).collect();
    let is_free = |template: &str, name: &str| {
        !asked.contains(template) && (template == name || !names.contains(template))
    };
    let mut templates: Map<String, Json> = Map::new();
    let told = services.into_iter().map(|(name, service)| {
        if !differs(&service) {
            return (name, service);
        }
        // The name of a template has no `@`, and is nobody else's.
        let mut template = name.replace(AT, "-");
        while !is_free(&template, &name) || templates.contains_key(&template) {
            template.push('-');
        }
        templates.insert(template.clone(), json!({ "service": opened(service) }));
        (name, json!({ "template": { "use": template } }))
    });
    let told = told.collect();
    (told, templates)
}

fn differs(json: &Json) -> bool {
    match json {
        Json::Array(items) => items.iter().any(differs),
        Json::Object(fields) => template(fields).is_some() || fields.values().any(differs),
        _ => false,
    }
}

/// The template of a text, where one is kept in its place.
fn template(fields: &Map<String, Json>) -> Option<&str> {
    match fields.get(EACH) {
        Some(Json::String(template)) if fields.len() == 1 => Some(template),
        _ => None,
    }
}

/// As a template has it.
fn opened(json: Json) -> Json {
    match json {
        Json::String(text) => Json::from(render::literal(&text)),
        Json::Array(items) => Json::Array(items.into_iter().map(opened).collect()),
        Json::Object(fields) => match template(&fields) {
            Some(template) => Json::from(template),
            None => Json::Object(fields.into_iter().map(|(key, value)| (key, opened(value))).collect()),
        },
        other => other,
    }
}

/// What it takes to make all copies there are to be, in bytes and for each value some more.
pub(super) fn work(service: &Service) -> usize {
    fn weight(json: &Json) -> usize {
        const EACH_VALUE: usize = 64;
        let inside = match json {
            Json::String(text) => text.len(),
            Json::Array(items) => items.iter().map(weight).sum(),
            Json::Object(fields) => fields.iter().map(|(key, value)| key.len() + weight(value)).sum(),
            Json::Null | Json::Bool(_) | Json::Number(_) => 0,
        };
        EACH_VALUE + inside
    }
    let recipe = service.per_copy.as_ref().map_or(0, |PerCopy(recipe)| weight(recipe));
    recipe.saturating_mul(service.scale.max(1) as usize)
}

pub(super) fn too_much_work() -> String {
    format!("the copies that differ say more than {} MB in all", WORK_MAX >> 20)
}

impl Service {
    /// What copy `index` (from 1) of this service is, which is called `name`. Errors: what is wrong
    /// with that copy, one line each.
    pub fn for_copy(&self, name: &str, index: u32) -> Result<Cow<'_, Self>, Vec<String>> {
        self.copy(name, index, &mut Patterns::default())
    }

    /// The same, where patterns were seen before: one that all copies have is compiled once, and all that
    /// they have in all is bounded.
    pub(in crate::file) fn copy(
        &self,
        name: &str,
        index: u32,
        patterns: &mut Patterns,
    ) -> Result<Cow<'_, Self>, Vec<String>> {
        let Some(PerCopy(recipe)) = &self.per_copy else { return Ok(Cow::Borrowed(self)) };
        let bump = Bump::new();
        let made = read(recipe, self.container.as_deref(), name, index, Arena::new(&bump), patterns)?;
        let container = self.container.as_ref().map(|own| Box::new(container::of_copy(own, &made)));
        Ok(Cow::Owned(Self {
            // That of a container is its project's.
            working_dir: if container.is_some() { self.working_dir.clone() } else { made.working_dir },
            container,
            command: made.command,
            environment: made.environment,
            user: made.user,
            probes: self.probes_of_copy(made.probes),
            stop_command: made.stop_command,
            pre_start: made.pre_start,
            post_start: made.post_start,
            pre_stop: made.pre_stop,
            post_stop: made.post_stop,
            reload: made.reload,
            labels: made.labels,
            per_copy: None,
            ..self.clone()
        }))
    }

    /// Those of a copy: besides what was written there is what others wait for, and certificates are one
    /// for all copies.
    fn probes_of_copy(&self, made: BTreeMap<ProbeName, Probe>) -> BTreeMap<ProbeName, Probe> {
        let mut probes = self.probes.clone();
        for (name, mut probe) in made {
            let ca = probes.get(&name).and_then(|probe| probe.ask.tls()?.ca.clone());
            if let Some(tls) = probe.ask.tls_mut() {
                tls.ca = ca;
            }
            probes.insert(name, probe);
        }
        probes
    }
}

/// There is nothing but what is kept.
struct Nothing;

impl Resolver for Nothing {
    fn read(&self, _: &str) -> Result<String, super::Unread> {
        Err(super::Unread::Missing)
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

fn read<'a>(
    recipe: &'a Json,
    container: Option<&'a Container>,
    name: &str,
    index: u32,
    arena: Arena<'a>,
    patterns: &mut Patterns,
) -> Result<Service, Vec<String>> {
    // Whoever sent it may have written anything: with an `image` it would be another kind of service.
    let other = recipe.as_object().and_then(|fields| fields.keys().find(|key| !is_kept(key)));
    if let Some(key) = other {
        return Err(vec![format!("`{}` is one for all copies", shown(key))]);
    }
    let mut report = Report::new(arena);
    let file = File {
        name: String::new(),
        text: "",
        dir: "/".to_owned(),
        variables: Variables::session(&Nothing),
        via: Default::default(),
    };
    let Some(file) = report.sources.add(file) else { return Err(Vec::new()) };
    let values = Values::from([("service".to_owned(), Json::from(name))]);
    let mut maker = Maker {
        arena,
        renderer: Renderer::default(),
        context: render::context(&values, index),
        span: Span::new(file, 0, 0),
        wrong: Vec::new(),
    };
    let node = maker.service(recipe, container);
    if !maker.wrong.is_empty() {
        return Err(maker.wrong);
    }
    let service = service(node, name, file, patterns, &mut report);
    match report.finish(service) {
        Ok((service, _)) => Ok(service),
        Err(errors) => Err(errors.diagnostics.into_iter().map(|diagnostic| diagnostic.message).collect()),
    }
}

fn service<'a>(
    node: &'a Node<'a>,
    name: &str,
    file: FileId,
    patterns: &mut Patterns,
    report: &mut Report<'a>,
) -> Option<Service> {
    let arena = report.arena();
    let span = Span::new(file, 0, 0);
    let at = At::file(span);
    let node = Canon::new(report, patterns).keys(node, &grammar::SERVICE, &at)?;
    let key = Key { text: arena.text(name.to_owned()), span };
    let context = Context::new("/", "copy", &Nothing);
    let root = arena.at(span, Value::Map(&[]));
    let app = project::name_from_directory("copy");
    let (files, sum) = Default::default();
    let mut reader = Reader { context: &context, report, root, files, sum, app: &app };
    let draft = reader.read(&key, node, &at)?;
    if !draft.authorities.is_empty() {
        report.error(span, || Problem::new(format!("`{CA_FILE}` is one for all copies")));
        return None;
    }
    Some(draft.spec)
}

/// Makes a tree of what is kept, with the number of a copy in its texts.
struct Maker<'a> {
    arena: Arena<'a>,
    renderer: Renderer<'a>,
    context: render::Context,
    span: Span,
    wrong: Vec<String>,
}

impl<'a> Maker<'a> {
    /// A container is known by its image.
    fn service(&mut self, recipe: &'a Json, container: Option<&'a Container>) -> &'a Node<'a> {
        let node = self.node(recipe);
        let Some(container) = container else { return node };
        let key = Key { text: "image", span: self.span };
        let value = self.arena.at(self.span, quoted(container.image.as_str()));
        let entries = [node.entries(), &[Entry { key, value }]].concat();
        self.arena.at(self.span, self.arena.map(&entries))
    }

    fn node(&mut self, json: &'a Json) -> &'a Node<'a> {
        let scalar = |text: &'a str, style| Value::Scalar(Scalar { text, style });
        let value = match json {
            Json::Null => scalar("", Style::Plain),
            Json::Bool(flag) => scalar(if *flag { "true" } else { "false" }, Style::Bare),
            Json::Number(number) => scalar(self.arena.text(number.to_string()), Style::Bare),
            Json::String(text) => quoted(text),
            Json::Array(items) => {
                let items: Vec<_> = items.iter().map(|item| self.node(item)).collect();
                self.arena.list(&items)
            }
            Json::Object(fields) => match template(fields) {
                Some(template) => match self.renderer.render(template, &self.context) {
                    Ok(text) => quoted(self.arena.text(text)),
                    Err(fault) => {
                        self.wrong.push(format!("a text {}", fault.what));
                        Value::Bad
                    }
                },
                None => {
                    let entries: Vec<Entry<'a>> = (fields.iter())
                        .map(|(key, value)| Entry {
                            key: Key { text: key, span: self.span },
                            value: self.node(value),
                        })
                        .collect();
                    self.arena.map(&entries)
                }
            },
        };
        self.arena.at(self.span, value)
    }
}
