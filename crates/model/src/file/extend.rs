//! Puts services over those they extend, in the same file or in another.
//!
//! Laws: each service is made once, however many extend it, and what is wrong with it is said once;
//! what is said does not hang on the order in which services stand. Nothing recurses, and all that
//! is made is bounded as what aliases make is.
//! Source: the Compose Specification, "Extends".

use std::collections::HashMap;
use std::rc::Rc;

use super::compose::{Composer, Place, without};
use super::index::Index;
use super::merge::Merger;
use super::place::{FileId, Span};
use super::report::{Problem, shown};
use super::tree::{Directive, Entry, Node, Value, Weight};
use super::variables::Variables;
use super::{EXPANDED_MAX, EXTENDS_MAX, VALUES_MAX, grammar, project, words};

/// What is known of services that extend others, and of those they extend.
#[derive(Default)]
pub(super) struct Extensions<'a> {
    /// Trees of other files, by path; what a file says depends on whose variables fill it in.
    files: HashMap<(String, *const Variables<'a>), Option<&'a Node<'a>>>,
    names: HashMap<FileId, Index<'a>>,
    /// `None` while it is being found out, and when it is wrong.
    services: HashMap<(FileId, &'a str), Option<Extended<'a>>>,
    /// What all that extend something hold together.
    total: Weight,
}

/// A service with all that it extends.
#[derive(Clone, Copy)]
struct Extended<'a> {
    whole: &'a Node<'a>,
    /// The same, as others extend it.
    settled: &'a Node<'a>,
    /// How many services it is made of.
    depth: usize,
}

/// A service as it stands in a file.
#[derive(Clone, Copy)]
struct Member<'a> {
    file: FileId,
    /// Those of the file.
    services: &'a Node<'a>,
    name: &'a str,
    service: &'a Node<'a>,
    /// Where it is named.
    place: Span,
}

/// What is wrong was said.
#[derive(Clone, Copy)]
pub(super) struct Said;

impl<'a> Composer<'_, 'a> {
    /// The services of a file, each over the one it extends.
    pub(super) fn extend(&mut self, tree: &'a Node<'a>, file: FileId) -> &'a Node<'a> {
        let Some(services) = tree.get("services") else { return tree };
        let extends = |node: &Node<'a>| node.tag != Directive::Reset && node.get("extends").is_some();
        if !services.entries().iter().any(|entry| extends(entry.value)) {
            return tree;
        }
        let extended = services.entries().iter().map(|&Entry { key, value }| {
            if !extends(value) {
                return Entry { key, value };
            }
            let member = Member { file, services, name: key.text, service: value, place: key.span };
            let value = match self.extended(member) {
                Ok(extended) => extended.whole,
                Err(Said) => self.arena().with(value, Value::Bad),
            };
            Entry { key, value }
        });
        let extended: Vec<Entry<'a>> = extended.collect();
        let extended = self.arena().with_entries(services, &extended);
        let entries = tree.entries().iter().map(|entry| match std::ptr::eq(entry.value, services) {
            true => Entry { value: extended, ..*entry },
            false => *entry,
        });
        self.arena().with_entries(tree, &entries.collect::<Vec<_>>())
    }

    /// A service over all that it extends.
    fn extended(&mut self, member: Member<'a>) -> Result<Extended<'a>, Said> {
        let mut way = Vec::new();
        let mut below = self.descend(member, &mut way);
        while let Some(step) = way.pop() {
            let extended = below.and_then(|below| self.over(step, below));
            self.extensions.services.insert((step.file, step.name), extended.ok());
            below = extended.map(Some);
        }
        below.and_then(|extended| extended.ok_or(Said))
    }

    /// From a service down to one that extends nothing, or to what one on the way extends and is
    /// known already: that is what comes back.
    fn descend(
        &mut self,
        member: Member<'a>,
        way: &mut Vec<Member<'a>>,
    ) -> Result<Option<Extended<'a>>, Said> {
        let mut next = member;
        loop {
            let link = (next.file, next.name);
            match self.extensions.services.get(&link) {
                Some(Some(known)) => return Ok(Some(*known)),
                Some(None) => {
                    if let Some(start) = way.iter().position(|step| (step.file, step.name) == link) {
                        self.circle(&way[start..], next);
                    }
                    return Err(Said);
                }
                None => {}
            }
            self.extensions.services.insert(link, None);
            way.push(next);
            match self.base(next)? {
                Some(base) => next = base,
                None => return Ok(None),
            }
        }
    }

    fn circle(&mut self, way: &[Member<'a>], last: Member<'a>) {
        self.report.error(last.place, || {
            let names: Vec<String> = way.iter().chain([&last]).map(|step| shown(step.name)).collect();
            Problem::new(format!("Services extend each other in a circle: {}", names.join(" → ")))
                .hint("take one of these extensions out".to_owned())
        });
    }

    /// A service over the one it extends, if it does.
    fn over(&mut self, member: Member<'a>, base: Option<Extended<'a>>) -> Result<Extended<'a>, Said> {
        let merger = Merger { arena: self.arena() };
        let Some(base) = base else {
            let settled = merger.settled(member.service);
            return Ok(Extended { whole: member.service, settled, depth: 1 });
        };
        if base.depth >= EXTENDS_MAX {
            self.report.error(member.place_of("service"), || {
                Problem::new(format!("More than {EXTENDS_MAX} services extend each other in a row"))
            });
            return Err(Said);
        }
        let own = without(member.service, "extends", self.arena());
        let whole = merger.over(base.settled, own, &grammar::SERVICE);
        self.count(whole, member.place_of("service"))?;
        Ok(Extended { whole, settled: merger.settled(whole), depth: base.depth + 1 })
    }

    /// A few lines can make thousands of services of one that is large: this ends them.
    pub(super) fn count(&mut self, whole: &'a Node<'a>, place: Span) -> Result<(), Said> {
        let is_over = |total: &Weight| total.values > VALUES_MAX || total.bytes > EXPANDED_MAX;
        let total = &mut self.extensions.total;
        let was_over = is_over(total);
        if !was_over {
            total.add(Weight::of(whole));
        }
        if is_over(total) && !was_over {
            self.report.error(place, || {
                let bytes = EXPANDED_MAX >> 20;
                Problem::new(format!(
                    "All services that extend others or use templates hold more than {VALUES_MAX} values, or {bytes} MB of text"
                ))
                .label("the limit is passed here")
            });
        }
        if is_over(total) { Err(Said) } else { Ok(()) }
    }

    /// What a service extends; `None`: nothing.
    fn base(&mut self, member: Member<'a>) -> Result<Option<Member<'a>>, Said> {
        let Some(extends) = member.service.get("extends") else { return Ok(None) };
        if matches!(extends.value, Value::Bad) {
            return Err(Said);
        }
        let text = |key: &str| extends.get(key).and_then(|node| node.as_text());
        let Some(name) = text("service") else { return Err(Said) };
        let (services, file) = match text("file") {
            None => (member.services, member.file),
            Some(path) => self.other(path, member)?,
        };
        let place = member.place_of("service");
        let index = self.extensions.names.entry(file).or_default();
        let found = index.find(services.entries(), name).map(|place| services.entries()[place].value);
        let Some(service) = found.filter(|service| service.tag != Directive::Reset) else {
            self.report.error(place, || {
                let known = services.entries().iter().map(|entry| entry.key.text);
                let hint = words::did_you_mean(name, known);
                Problem::new(format!("There is no service `{}` to extend", shown(name))).hint(hint)
            });
            return Err(Said);
        };
        match service.value {
            Value::Bad => Err(Said),
            _ => Ok(Some(Member { file, services, name, service, place })),
        }
    }

    /// The services of another file.
    fn other(&mut self, path: &str, member: Member<'a>) -> Result<(&'a Node<'a>, FileId), Said> {
        let from = self.report.sources.file(member.file).ok_or(Said)?;
        let whole = project::joined(&from.dir, path);
        let variables = Rc::clone(&from.variables);
        let place = member.place_of("file");
        let known = (whole.clone(), Rc::as_ptr(&variables));
        if !self.extensions.files.contains_key(&known) {
            let tree = self.read(&whole, place).and_then(|text| {
                let via = self.report.sources.add_step(place, "extended".to_owned());
                let dir = project::parent(&whole);
                let file = self.add(self.resolver.shown(&whole), text, &Place { dir, variables, via })?;
                // Of its own templates, not of those of whoever extends it.
                let templates = std::mem::take(&mut self.templates);
                let tree = self.canonical(file);
                self.templates = templates;
                tree
            });
            self.extensions.files.insert(known.clone(), tree);
        }
        let tree = self.extensions.files.get(&known).copied().flatten().ok_or(Said)?;
        let Some(services) = tree.get("services") else {
            self.report.error(place, || Problem::new(format!("`{}` has no services to extend", shown(path))));
            return Err(Said);
        };
        Ok((services, tree.span.file))
    }
}

impl<'a> Member<'a> {
    /// Where it says what it extends.
    fn place_of(&self, key: &str) -> Span {
        let extends = self.service.get("extends");
        let inner = extends.and_then(|extends| extends.get(key));
        inner.or(extends).map_or(self.place, |node| node.span)
    }
}
