//! Makes one tree of all files: overrides over the first, what is included beside it, what is
//! extended below each service.
//!
//! The way of one file: read, its variables filled in, checked and made canonical, its services put
//! over those they extend. Then files are merged in order, and what is included is added.
//! Source: the Compose Specification, "Merge", "Include" and "Extends".

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;

use typed_arena::Arena;

use super::canon::Canon;
use super::pattern::Patterns;
use super::place::{File, FileId, Span, Via};
use super::read::At;
use super::report::{Problem, Report, shown};
use super::tree::{Entry, Node, Value};
use super::{
    Context, EXTENDS_MAX, Resolver, Source, Unread, Variables, dotenv, fill, grammar, merge, procfile,
    project, tree,
};

/// Reads files and what they refer to.
pub(super) struct Composer<'r, 'a> {
    pub(super) texts: &'a Arena<String>,
    pub(super) resolver: &'a dyn Resolver,
    pub(super) report: &'r mut Report<'a>,
    pub(super) patterns: &'r mut Patterns,
    /// Files that are being read, by the names people know them by: for whom includes itself.
    pub(super) open: Vec<String>,
    /// Canonical trees of files that services extend, by path.
    pub(super) extended: BTreeMap<(String, *const Variables<'a>), Option<Rc<Node<'a>>>>,
    /// Services of which it was said that they extend each other.
    pub(super) circular: BTreeSet<(FileId, String)>,
    /// Variables are filled in.
    pub(super) interpolate: bool,
}

/// Where a file belongs.
#[derive(Clone)]
pub(super) struct Place<'a> {
    /// What relative paths start from.
    pub(super) dir: String,
    pub(super) variables: Rc<Variables<'a>>,
    /// What led to it.
    pub(super) via: Via,
}

impl<'a> Composer<'_, 'a> {
    /// The files the person named, in the light of where they are.
    pub(super) fn project(&mut self, sources: &[Source<'_>], context: &Context<'_>) -> Option<Rc<Node<'a>>> {
        let session = Rc::new(Variables { resolver: self.resolver, files: BTreeMap::new() });
        let dir = project::joined(context.project_dir, ".");
        let mut found = BTreeMap::new();
        let default = [project::joined(&dir, ".env")];
        let is_default = context.env_files.is_empty();
        for path in if is_default { &default } else { context.env_files } {
            let text = match self.resolver.read(path) {
                Ok(text) => text,
                Err(Unread::Missing) if is_default => continue,
                Err(unread) => {
                    self.unread(path, &unread);
                    continue;
                }
            };
            found.extend(self.dotenv(path, text, &session, Via::default())?);
        }
        let variables = Rc::new(session.with(found));
        self.open.extend(sources.iter().map(|source| source.name.to_owned()));
        let files = sources.iter().map(|source| (source.name.to_owned(), source.text.to_owned()));
        self.merged(files.collect(), &Place { dir, variables, via: Via::default() })
    }

    fn unread(&mut self, path: &str, unread: &Unread) {
        let why = match unread {
            Unread::Missing => "it is not there",
            Unread::Unreadable(why) => why,
        };
        self.report.error(Span::default(), || {
            Problem::new(format!("The file of variables `{}` cannot be read: {}", shown(path), shown(why)))
        });
    }

    /// One tree of several files, each over those before.
    pub(super) fn merged(&mut self, files: Vec<(String, String)>, place: &Place<'a>) -> Option<Rc<Node<'a>>> {
        let mut whole: Option<Rc<Node<'a>>> = None;
        let mut is_good = true;
        for (name, text) in files {
            let file = self.add(name, text, place)?;
            let Some(tree) = self.file(file, place) else {
                is_good = false;
                continue;
            };
            whole = Some(match whole {
                None => tree,
                Some(below) => merge::over(&below, &tree, &grammar::FILE),
            });
        }
        whole.filter(|_| is_good).map(|whole| merge::settled(&whole))
    }

    /// Takes a file among the sources.
    fn add(&mut self, name: String, text: String, place: &Place<'a>) -> Option<FileId> {
        let text: &'a str = self.texts.alloc(text);
        let (dir, variables) = (place.dir.clone(), Rc::clone(&place.variables));
        let added = self.report.sources.add(File { name, text, dir, variables, via: place.via });
        if added.is_none() {
            self.report.error(Span::default(), || {
                Problem::new(format!("The project has more than {} files", super::FILES_MAX))
            });
        }
        added
    }

    /// One file, with what it includes and what its services extend.
    fn file(&mut self, file: FileId, place: &Place<'a>) -> Option<Rc<Node<'a>>> {
        let tree = self.canonical(file)?;
        let tree = self.extend(&tree, file);
        self.include(&tree, place)
    }

    /// One file, checked and in long forms.
    fn canonical(&mut self, file: FileId) -> Option<Rc<Node<'a>>> {
        let name = self.report.sources.file(file).map_or("", |file| &file.name);
        let at = At::file(Span::new(file, 0, 0));
        if procfile::is_one(name) {
            let root = procfile::load(file, self.report)?;
            let mut canon = Canon::new(self.report, self.patterns);
            return canon.keys(&root, &grammar::FILE, &at);
        }
        let ours = !is_compose(name);
        let root = tree::load(file, self.report)?;
        let front = Span::new(file, 0, 0);
        let Some(root) = root.filter(|root| !root.is_null()) else {
            self.report.error(front, || Problem::new("The file is empty").hint(project::first_file()));
            return None;
        };
        let filled = if self.interpolate { fill::tree(&root, &at, self.report) } else { Rc::clone(&root) };
        // Of a large file each tree is many times the file.
        drop(root);
        let raw = !self.interpolate;
        let mut canon = Canon::new(self.report, self.patterns);
        (canon.ours, canon.raw) = (ours, raw);
        canon.keys(&filled, &grammar::FILE, &at)
    }

    /// The services of a file, each over the one it extends.
    fn extend(&mut self, tree: &Rc<Node<'a>>, file: FileId) -> Rc<Node<'a>> {
        let Some(services) = tree.get("services").map(Rc::clone) else { return Rc::clone(tree) };
        let Value::Map(entries) = &services.value else { return Rc::clone(tree) };
        if !entries.iter().any(|entry| entry.value.get("extends").is_some()) {
            return Rc::clone(tree);
        }
        let extended = entries.iter().map(|Entry { key, value }| {
            let mut chain = vec![(file, key.text.to_string())];
            let value =
                self.whole(value, &services, file, &mut chain).unwrap_or_else(|| value.with(Value::Bad));
            Entry { key: key.clone(), value }
        });
        let extended = services.with(Value::Map(extended.collect()));
        replace(tree, "services", extended)
    }

    /// A service over all that it extends. `None`: what is wrong was said.
    fn whole(
        &mut self,
        service: &Rc<Node<'a>>,
        services: &Rc<Node<'a>>,
        file: FileId,
        chain: &mut Vec<(FileId, String)>,
    ) -> Option<Rc<Node<'a>>> {
        let Some(extends) = service.get("extends").map(Rc::clone) else { return Some(Rc::clone(service)) };
        let text = |key: &str| extends.get(key).and_then(|node| node.as_text()).map(str::to_owned);
        if matches!(extends.value, Value::Bad) {
            return None;
        }
        let Some(name) = text("service") else {
            self.report.error(extends.span, || {
                Problem::new("An extension names no `service`")
                    .hint("say which service is extended".to_owned())
            });
            return None;
        };
        let (base_services, base_file) = match text("file") {
            None => (Rc::clone(services), file),
            Some(path) => self.other(&path, &extends, file)?,
        };
        let place = extends.get("service").map_or(extends.span, |node| node.span);
        let link = (base_file, name.clone());
        if self.circular.contains(&link) {
            return None;
        }
        if chain.len() >= EXTENDS_MAX && !chain.contains(&link) {
            self.report.error(place, || {
                Problem::new(format!("More than {EXTENDS_MAX} services extend each other in a row"))
            });
            return None;
        }
        if chain.contains(&link) {
            let names: Vec<String> = chain.iter().chain([&link]).map(|(_, name)| shown(name)).collect();
            self.circular.extend(chain.drain(..));
            self.report.error(place, || {
                Problem::new(format!("Services extend each other in a circle: {}", names.join(" → ")))
                    .hint("take one of these extensions out".to_owned())
            });
            return None;
        }
        let Some(base) = base_services.get(&name).map(Rc::clone) else {
            let known: Vec<String> = names_of(&base_services);
            self.report.error(place, || {
                let hint = super::words::did_you_mean(&name, known.iter().map(String::as_str));
                Problem::new(format!("There is no service `{}` to extend", shown(&name))).hint(hint)
            });
            return None;
        };
        if matches!(base.value, Value::Bad) {
            return None;
        }
        chain.push(link);
        let base = self.whole(&base, &base_services, base_file, chain)?;
        chain.pop();
        let own = without(service, "extends");
        Some(merge::over(&merge::settled(&base), &own, &grammar::SERVICE))
    }

    /// The services of another file.
    fn other(&mut self, path: &str, extends: &Node<'a>, file: FileId) -> Option<(Rc<Node<'a>>, FileId)> {
        let from = self.report.sources.file(file)?;
        let whole = project::joined(&from.dir, path);
        let variables = Rc::clone(&from.variables);
        let place = extends.get("file").map_or(extends.span, |node| node.span);
        // What the file says depends on whose variables it is filled with.
        let known = (whole.clone(), Rc::as_ptr(&variables));
        if !self.extended.contains_key(&known) {
            let tree = self.read(&whole, place).and_then(|text| {
                let via = self.report.sources.step(place, "extended".to_owned());
                let dir = project::parent(&whole);
                let file = self.add(self.resolver.shown(&whole), text, &Place { dir, variables, via })?;
                self.canonical(file)
            });
            self.extended.insert(known.clone(), tree);
        }
        let tree = self.extended.get(&known)?.as_ref()?;
        let Some(services) = tree.get("services").map(Rc::clone) else {
            self.report.error(place, || Problem::new(format!("`{}` has no services to extend", shown(path))));
            return None;
        };
        Some((services, tree.span.file))
    }

    /// The text of another file.
    fn read(&mut self, path: &str, place: Span) -> Option<String> {
        match self.resolver.read(path) {
            Ok(text) => Some(text),
            Err(Unread::Missing) => {
                let name = self.resolver.shown(path);
                self.report.error(place, || {
                    Problem::new(format!("There is no file `{}`", shown(&name)))
                        .hint(format!("it is looked for at `{}`", shown(path)))
                });
                None
            }
            Err(Unread::Unreadable(why)) => {
                let name = self.resolver.shown(path);
                self.report.error(place, || {
                    Problem::new(format!("The file `{}` cannot be read: {}", shown(&name), shown(&why)))
                });
                None
            }
        }
    }

    /// A file and beside it all that it includes.
    fn include(&mut self, tree: &Rc<Node<'a>>, place: &Place<'a>) -> Option<Rc<Node<'a>>> {
        let Some(include) = tree.get("include").map(Rc::clone) else { return Some(Rc::clone(tree)) };
        let Value::List(items) = &include.value else { return None };
        let mut whole = without(tree, "include");
        let mut is_good = true;
        for item in items {
            match self.included(item, place) {
                Some(other) => whole = self.beside(&whole, &other, item.span),
                None => is_good = false,
            }
        }
        is_good.then_some(whole)
    }

    /// One inclusion: a project of its own, with its own directory and variables.
    fn included(&mut self, item: &Rc<Node<'a>>, place: &Place<'a>) -> Option<Rc<Node<'a>>> {
        let paths = paths_of(item.get("path"));
        let Some((first, first_span)) = paths.first().cloned() else {
            self.report.error(item.span, || Problem::new("An inclusion has no `path`"));
            return None;
        };
        let name = self.resolver.shown(&first);
        if self.open.contains(&name) {
            self.report.error(first_span, || {
                Problem::new(format!("`{}` includes itself", shown(&name)))
                    .hint("take one of these inclusions out".to_owned())
            });
            return None;
        }
        let via = self.report.sources.step(first_span, "included".to_owned());
        let dir = match item.get("project_directory").and_then(|node| node.as_text()) {
            Some(dir) => dir.to_owned(),
            None => project::parent(&first),
        };
        let env_files = paths_of(item.get("env_file"));
        let variables = self.variables(&env_files, &dir, &place.variables);
        let mut files = Vec::with_capacity(paths.len());
        for (path, span) in &paths {
            files.push((self.resolver.shown(path), self.read(path, *span)?));
        }
        self.open.push(name);
        let whole = self.merged(files, &Place { dir, variables, via });
        self.open.pop();
        whole
    }

    /// The variables of an included project: those of the one that includes it come first.
    fn variables(
        &mut self,
        env_files: &[(String, Span)],
        dir: &str,
        outer: &Rc<Variables<'a>>,
    ) -> Rc<Variables<'a>> {
        let mut found = BTreeMap::new();
        if env_files.is_empty() {
            let path = project::joined(dir, ".env");
            match self.resolver.read(&path) {
                Ok(text) => found = self.dotenv(&path, text, outer, Via::default()).unwrap_or_default(),
                Err(Unread::Missing) => {}
                Err(unread) => self.unread(&path, &unread),
            }
        }
        for (path, span) in env_files {
            let Some(text) = self.read(path, *span) else { continue };
            let via = self.report.sources.step(*span, "read".to_owned());
            found.extend(self.dotenv(path, text, outer, via).unwrap_or_default());
        }
        Rc::new(outer.with(found))
    }

    /// A file of variables.
    pub(super) fn dotenv(
        &mut self,
        path: &str,
        text: String,
        outer: &Rc<Variables<'a>>,
        via: Via,
    ) -> Option<BTreeMap<String, String>> {
        let place = Place { dir: project::parent(path), variables: Rc::clone(outer), via };
        let file = self.add(self.resolver.shown(path), text, &place)?;
        let found = variables_in(file, dotenv::Format::Compose, outer, self.report)?;
        let known = found.into_iter().filter_map(|(name, value)| {
            let value = value.or_else(|| outer.get(&name))?;
            Some((name, value))
        });
        Some(known.collect())
    }

    /// Two trees beside each other: what is in both is there twice.
    fn beside(&mut self, one: &Rc<Node<'a>>, other: &Rc<Node<'a>>, _include: Span) -> Rc<Node<'a>> {
        let (Value::Map(below), Value::Map(above)) = (&one.value, &other.value) else {
            return Rc::clone(one);
        };
        let mut whole = below.clone();
        for Entry { key, value } in above {
            if key.text == "name" {
                continue;
            }
            let Some(place) = whole.iter().position(|entry| entry.key.text == key.text) else {
                whole.push(Entry { key: key.clone(), value: Rc::clone(value) });
                continue;
            };
            let joined = self.joined(&whole[place].value, value, &key.text);
            whole[place].value = joined;
        }
        one.with(Value::Map(whole))
    }

    fn joined(&mut self, one: &Rc<Node<'a>>, other: &Rc<Node<'a>>, kind: &str) -> Rc<Node<'a>> {
        let (Value::Map(below), Value::Map(above)) = (&one.value, &other.value) else {
            return Rc::clone(one);
        };
        let mut whole = below.clone();
        let known: HashSet<&str> = below.iter().map(|entry| &*entry.key.text).collect();
        for entry in above {
            if known.contains(&*entry.key.text) {
                self.report.error(entry.key.span, || {
                    Problem::new(format!(
                        "`{}.{}` is declared here and by the file that includes this one",
                        shown(kind),
                        shown(&entry.key.text)
                    ))
                    .hint("give one of the two another name".to_owned())
                });
                continue;
            }
            whole.push(entry.clone());
        }
        one.with(Value::Map(whole))
    }
}

/// A file of variables, read; what is wrong with it is reported there.
pub(super) fn variables_in(
    file: FileId,
    format: dotenv::Format,
    outer: &Variables<'_>,
    report: &mut Report<'_>,
) -> Option<BTreeMap<String, Option<String>>> {
    let text = report.sources.file(file)?.text;
    match dotenv::read(text, format, &|name| outer.get(name), super::EXPANDED_MAX) {
        Ok(found) => Some(found),
        Err(mistake) => {
            let span = Span::new(file, mistake.place.start, mistake.place.end);
            report.error(span, || mistake.problem());
            None
        }
    }
}

/// Whether other tools read this file too.
fn is_compose(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or_default();
    last.starts_with("compose.") || last.starts_with("docker-compose.")
}

fn names_of(services: &Node<'_>) -> Vec<String> {
    match &services.value {
        Value::Map(entries) => entries.iter().map(|entry| entry.key.text.to_string()).collect(),
        _ => Vec::new(),
    }
}

/// The texts of a list of paths, which canonical trees have absolute.
fn paths_of(node: Option<&Rc<Node<'_>>>) -> Vec<(String, Span)> {
    match node.map(|node| &node.value) {
        Some(Value::List(items)) => {
            items.iter().filter_map(|item| Some((item.as_text()?.to_owned(), item.span))).collect()
        }
        _ => Vec::new(),
    }
}

fn without<'a>(node: &Rc<Node<'a>>, name: &str) -> Rc<Node<'a>> {
    match &node.value {
        Value::Map(entries) => {
            let left = entries.iter().filter(|entry| entry.key.text != name).cloned();
            node.with(Value::Map(left.collect()))
        }
        _ => Rc::clone(node),
    }
}

fn replace<'a>(node: &Rc<Node<'a>>, name: &str, value: Rc<Node<'a>>) -> Rc<Node<'a>> {
    match &node.value {
        Value::Map(entries) => {
            let replaced = entries.iter().map(|entry| match entry.key.text == name {
                true => Entry { key: entry.key.clone(), value: Rc::clone(&value) },
                false => entry.clone(),
            });
            node.with(Value::Map(replaced.collect()))
        }
        _ => Rc::clone(node),
    }
}
