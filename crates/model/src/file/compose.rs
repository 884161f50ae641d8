//! Makes one tree of all files: overrides over the first, what is included (`include`) beside it,
//! what is extended (`extend`) below each service.
//!
//! The way of one file: read, its variables filled in, checked and made canonical, its services put
//! over those they extend. Then files are merged in order, and what is included is added.
//! Source: the Compose Specification, "Merge".

use std::collections::BTreeMap;
use std::rc::Rc;

use super::arena::Arena;
use super::canon::{Canon, Open};
use super::extend::Extensions;
use super::include::Inclusions;
use super::merge::Merger;
use super::pattern::Patterns;
use super::place::{File, FileId, Span, Via};
use super::read::At;
use super::render::Renderer;
use super::report::{Problem, Report, shown};
use super::templates::Templates;
use super::tree::Node;
use super::variables::Variables;
use super::{Context, Resolver, Source, Unread, dotenv, fill, grammar, procfile, project, yaml};

/// Reads files and what they refer to.
pub(super) struct Composer<'r, 'a> {
    pub(super) resolver: &'a dyn Resolver,
    pub(super) report: &'r mut Report<'a>,
    pub(super) patterns: &'r mut Patterns,
    pub(super) inclusions: Inclusions<'a>,
    pub(super) extensions: Extensions<'a>,
    /// Those that services of the file that is read may use.
    pub(super) templates: Templates<'a>,
    pub(super) renderer: &'r mut Renderer<'a>,
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
    pub(super) fn arena(&self) -> Arena<'a> {
        self.report.arena()
    }

    /// The files the person named, in the light of where they are.
    pub(super) fn project(&mut self, sources: &[Source<'a>], context: &Context<'_>) -> Option<&'a Node<'a>> {
        let session = Variables::session(self.resolver);
        let dir = project::joined(context.project_dir, ".");
        let mut found = BTreeMap::new();
        let default = [project::joined(&dir, ".env")];
        let is_default = context.env_files.is_empty();
        for path in if is_default { &default } else { context.env_files } {
            let text = match self.resolver.read(path) {
                Ok(text) => text,
                Err(Unread::Missing) if is_default => continue,
                Err(unread) => {
                    self.unread(path, &unread, Span::NOWHERE);
                    continue;
                }
            };
            found.extend(self.dotenv(path, self.arena().text(text), &session, Via::default())?);
        }
        let variables = session.with(found);
        let files = sources.iter().map(|source| (source.name.to_owned(), source.text));
        self.merged(files.collect(), &Place { dir, variables, via: Via::default() })
    }

    /// A file of variables that somebody asked for, or that is there and cannot be read.
    pub(super) fn unread(&mut self, path: &str, unread: &Unread, place: Span) {
        let why = match unread {
            Unread::Missing => "it is not there",
            Unread::Unreadable(why) => why,
        };
        self.report.error(place, || {
            let name = shown(&self.resolver.shown(path));
            Problem::new(format!("The file of variables `{name}` cannot be read: {}", shown(why)))
        });
    }

    /// One tree of several files, each over those before.
    pub(super) fn merged(
        &mut self,
        files: Vec<(String, &'a str)>,
        place: &Place<'a>,
    ) -> Option<&'a Node<'a>> {
        let merger = Merger { arena: self.arena() };
        let mut whole: Option<&'a Node<'a>> = None;
        let mut is_good = true;
        for (name, text) in files {
            let file = self.add(name, text, place)?;
            let Some(tree) = self.file(file, place) else {
                is_good = false;
                continue;
            };
            whole = Some(match whole {
                None => tree,
                Some(below) => merger.over(below, tree, &grammar::FILE),
            });
        }
        whole.filter(|_| is_good).map(|whole| merger.settled(whole))
    }

    /// Takes a file among the sources.
    pub(super) fn add(&mut self, name: String, text: &'a str, place: &Place<'a>) -> Option<FileId> {
        let (dir, variables) = (place.dir.clone(), Rc::clone(&place.variables));
        let added = self.report.sources.add(File { name, text, dir, variables, via: place.via });
        if added.is_none() {
            let refusal = self.report.sources.refusal().unwrap_or_default().to_owned();
            self.report.error(self.report.sources.asked_at(place.via), || Problem::new(refusal));
        }
        added
    }

    /// One file, with what it includes and what its services extend.
    fn file(&mut self, file: FileId, place: &Place<'a>) -> Option<&'a Node<'a>> {
        let tree = self.canonical(file)?;
        let tree = self.extend(tree, file);
        self.include(tree, place)
    }

    /// One file, checked and in long forms.
    pub(super) fn canonical(&mut self, file: FileId) -> Option<&'a Node<'a>> {
        let name = self.report.sources.file(file).map_or("", |file| &file.name);
        let at = At::file(Span::new(file, 0, 0));
        if procfile::is_one(name) {
            let root = procfile::load(file, self.report)?;
            let mut canon = Canon::new(self.report, self.patterns);
            return canon.keys(root, &grammar::FILE, &at);
        }
        let ours = !is_compose(name);
        let root = yaml::load(file, self.report)?;
        let front = Span::new(file, 0, 0);
        let Some(root) = root.filter(|root| !root.is_null()) else {
            self.report.error(front, || Problem::new("The file is empty").hint(project::first_file()));
            return None;
        };
        let filled = if self.interpolate { fill::tree(root, &at, self.report) } else { root };
        let open = Open { variables: !self.interpolate, templates: false };
        let mut canon = Canon::new(self.report, self.patterns);
        (canon.ours, canon.open) = (ours, open);
        let tree = canon.keys(filled, &grammar::FILE, &at)?;
        Some(self.instantiate(tree, open))
    }

    /// The text of another file.
    pub(super) fn read(&mut self, path: &str, place: Span) -> Option<&'a str> {
        if self.report.sources.refusal().is_some() {
            return None;
        }
        match self.resolver.read(path) {
            Ok(text) => Some(self.arena().text(text)),
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

    /// A file of variables.
    pub(super) fn dotenv(
        &mut self,
        path: &str,
        text: &'a str,
        outer: &Rc<Variables<'a>>,
        via: Via,
    ) -> Option<BTreeMap<String, String>> {
        let place = Place { dir: project::parent(path), variables: Rc::clone(outer), via };
        let file = self.add(self.resolver.shown(path), text, &place)?;
        let found = variables_in(file, dotenv::Format::Compose, outer, self.report)?;
        let known = found.into_iter().filter_map(|(name, value)| {
            let value = value.or_else(|| Some(outer.get(&name)?.into_owned()))?;
            Some((name, value))
        });
        Some(known.collect())
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

pub(super) fn without<'a>(node: &'a Node<'a>, name: &str, arena: Arena<'a>) -> &'a Node<'a> {
    let left = node.entries().iter().filter(|entry| entry.key.text != name);
    arena.with_entries(node, &left.copied().collect::<Vec<_>>())
}
