//! Puts what a file includes beside it: projects of their own, each with its directory and variables.
//!
//! Laws: two files that say the same of a name are no quarrel, as when both include a third; what
//! they say differently is refused, with both places. The same inclusion is read once.
//! Source: the Compose Specification, "Include".

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::Unread;
use super::compose::{Composer, Place, without};
use super::index::Index;
use super::place::{Span, Via};
use super::project;
use super::report::{Problem, shown};
use super::tree::{Entry, Node, Value};
use super::variables::Variables;

/// What is being included, and what was.
#[derive(Default)]
pub(super) struct Inclusions<'a> {
    /// The first file of each project that is being read, the outermost first, by the names people
    /// know them by: those that nobody included have no others.
    open: Vec<String>,
    known: HashMap<Inclusion<'a>, Option<&'a Node<'a>>>,
}

/// What makes two inclusions the same one.
#[derive(PartialEq, Eq, Hash)]
struct Inclusion<'a> {
    paths: Vec<&'a str>,
    dir: String,
    env_files: Vec<&'a str>,
    /// The variables around it.
    outer: *const Variables<'a>,
}

impl Inclusions<'_> {
    /// These files are being read from the start.
    pub(super) fn of(names: impl Iterator<Item = String>) -> Self {
        Self { open: names.collect(), known: HashMap::new() }
    }
}

impl<'a> Composer<'_, 'a> {
    /// A file and beside it all that it includes.
    pub(super) fn include(&mut self, tree: &'a Node<'a>, place: &Place<'a>) -> Option<&'a Node<'a>> {
        let Some(include) = tree.get("include") else { return Some(tree) };
        let Value::List(items) = include.value else { return None };
        let mut whole = without(tree, "include", self.arena());
        let mut is_good = true;
        for item in items {
            match self.included(item, place) {
                Some(other) => whole = self.beside(whole, other),
                None => is_good = false,
            }
        }
        is_good.then_some(whole)
    }

    /// One inclusion: a project of its own, with its own directory and variables.
    fn included(&mut self, item: &'a Node<'a>, place: &Place<'a>) -> Option<&'a Node<'a>> {
        let paths = paths_of(item.get("path"));
        let &(first, first_span) = paths.first()?;
        let name = self.resolver.shown(first);
        if self.inclusions.open.contains(&name) {
            self.report.error(first_span, || {
                Problem::new(format!("`{}` includes itself", shown(&name)))
                    .hint("take one of these inclusions out".to_owned())
            });
            return None;
        }
        let dir = match item.get("project_directory").and_then(|node| node.as_text()) {
            Some(dir) => dir.to_owned(),
            None => project::parent(first),
        };
        let env_files = paths_of(item.get("env_file"));
        let texts = |paths: &[(&'a str, Span)]| paths.iter().map(|(path, _)| *path).collect();
        let outer = Rc::as_ptr(&place.variables);
        let inclusion =
            Inclusion { paths: texts(&paths), dir: dir.clone(), env_files: texts(&env_files), outer };
        if let Some(known) = self.inclusions.known.get(&inclusion) {
            return *known;
        }
        let via = self.report.sources.add_step(first_span, "included".to_owned());
        let variables = self.variables(&env_files, &dir, &place.variables, via);
        let read =
            |(path, span): &(&'a str, Span)| Some((self.resolver.shown(path), self.read(path, *span)?));
        let files: Option<Vec<_>> = paths.iter().map(read).collect();
        self.inclusions.open.push(name);
        let templates = std::mem::take(&mut self.templates);
        let whole = files.and_then(|files| self.merged(files, &Place { dir, variables, via }));
        self.templates = templates;
        self.inclusions.open.pop();
        self.inclusions.known.insert(inclusion, whole);
        whole
    }

    /// The variables of an included project: those of the one that includes it come first.
    fn variables(
        &mut self,
        env_files: &[(&'a str, Span)],
        dir: &str,
        outer: &Rc<Variables<'a>>,
        via: Via,
    ) -> Rc<Variables<'a>> {
        let mut found = BTreeMap::new();
        if env_files.is_empty() && self.report.sources.refusal().is_none() {
            let path = project::joined(dir, ".env");
            match self.resolver.read(&path) {
                Ok(text) => {
                    let text = self.arena().text(text);
                    found = self.dotenv(&path, text, outer, via).unwrap_or_default();
                }
                Err(Unread::Missing) => {}
                Err(unread) => self.unread(&path, &unread, self.report.sources.asked_at(via)),
            }
        }
        for (path, span) in env_files {
            let Some(text) = self.read(path, *span) else { continue };
            let via = self.report.sources.add_step(*span, "read".to_owned());
            found.extend(self.dotenv(path, text, outer, via).unwrap_or_default());
        }
        outer.with(found)
    }

    /// Two trees beside each other.
    fn beside(&mut self, one: &'a Node<'a>, other: &'a Node<'a>) -> &'a Node<'a> {
        let mut whole = one.entries().to_vec();
        for &Entry { key, value } in other.entries().iter().filter(|entry| entry.key.text != "name") {
            match whole.iter().position(|entry| entry.key.text == key.text) {
                None => whole.push(Entry { key, value }),
                Some(place) => whole[place].value = self.joined(whole[place].value, value, key.text),
            }
        }
        self.arena().with_entries(one, &whole)
    }

    /// The declarations of one kind.
    fn joined(&mut self, one: &'a Node<'a>, other: &'a Node<'a>, kind: &str) -> &'a Node<'a> {
        let (Value::Map(below), Value::Map(above)) = (one.value, other.value) else { return one };
        let mut whole = below.to_vec();
        let mut index = Index::default();
        for entry in above {
            let Some(place) = index.find(below, entry.key.text) else {
                whole.push(*entry);
                continue;
            };
            let (first, name) = (&below[place], entry.key.text);
            let quarrel = match first.value.says_as(entry.value) {
                false => "and not alike",
                true if kind == "services" && !self.means_as(first, entry) => {
                    "alike, but with other variables or in another directory"
                }
                true => continue,
            };
            self.report.error(entry.key.span, || {
                let (kind, name) = (shown(kind), shown(name));
                Problem::new(format!("`{kind}.{name}` is declared twice, {quarrel}"))
                    .label("the second one")
                    .hint("give one of the two another name".to_owned())
                    .also(first.key.span, "declared first")
            });
        }
        self.arena().with_entries(one, &whole)
    }

    /// Whether two services that say the same also mean it: each starts in the directory of its file,
    /// and is given the variables of its project.
    fn means_as(&self, one: &Entry<'a>, other: &Entry<'a>) -> bool {
        let file = |span: Span| self.report.sources.file(span.file);
        let (Some(first), Some(second)) = (file(one.key.span), file(other.key.span)) else { return false };
        let asked = |entry: &Entry<'a>| -> BTreeMap<&'a str, Option<String>> {
            let variables = entry.value.get("environment").map_or(&[][..], |node| node.entries());
            let asked = variables.iter().filter(|variable| variable.value.is_null());
            let value = |key: Span, name| Some(file(key)?.variables.get(name)?.into_owned());
            asked.map(|variable| (variable.key.text, value(variable.key.span, variable.key.text))).collect()
        };
        let is_filled_alike = || match one.value.get("env_file") {
            Some(_) => first.variables.are_as(&second.variables),
            None => asked(one) == asked(other),
        };
        let is_same_project = Rc::ptr_eq(&first.variables, &second.variables);
        first.dir == second.dir && (is_same_project || is_filled_alike())
    }
}

/// The texts of a list of paths, which canonical trees have absolute.
fn paths_of<'a>(node: Option<&Node<'a>>) -> Vec<(&'a str, Span)> {
    match node.map(|node| node.value) {
        Some(Value::List(items)) => {
            items.iter().filter_map(|item| Some((item.as_text()?, item.span))).collect()
        }
        _ => Vec::new(),
    }
}
