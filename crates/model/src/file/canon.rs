//! Checks a tree by the grammar and writes every value in its long form: lists of `name=value`
//! become mappings, texts that stand for mappings become these, commands become lists of words.
//!
//! Laws: what cannot be right is reported once, at its place, and stands as [`Value::Bad`]
//! afterwards, so that nobody misses or judges it again. Places are kept. What comes out means the
//! same as what went in, and comes out unchanged when it goes in again.

use std::borrow::Cow;
use std::collections::HashSet;

use super::arena::Arena;
use super::pattern::Patterns;
use super::place::Span;
use super::read::{At, broken, each_item, mapping, wrong_type};
use super::render::{INDEX, is_template};
use super::report::{Problem, Report, shown};
use super::rules::Broken;
use super::shape::{Check, Default, Items, Key, Keys, Kind, Leaf, Named, Same, Shape, Verdict, leaf};
use super::tree::{Directive, Entry, Node, Scalar, Style, Value};
use super::{OURS, grammar, project, tree};

/// Checks values, and writes them in their long forms.
pub(super) struct Canon<'r, 'a> {
    pub(super) arena: Arena<'a>,
    pub(super) report: &'r mut Report<'a>,
    pub(super) patterns: &'r mut Patterns,
    /// Our own keys may stand among those of Compose.
    pub(super) ours: bool,
    /// Which texts cannot be judged.
    pub(super) open: Open,
    /// A shell reads the command of the service that is being checked.
    pub(super) shell: bool,
}

/// Texts whose meaning is not known yet.
#[derive(Clone, Copy, Default)]
pub(super) struct Open {
    /// Those with variables that were not filled in.
    pub(super) variables: bool,
    /// Those of templates.
    pub(super) templates: bool,
}

impl Open {
    pub(super) fn is(self, text: &str) -> bool {
        (self.variables && text.contains('$')) || self.is_template(text)
    }

    pub(super) fn is_template(self, text: &str) -> bool {
        self.templates && is_template(text)
    }
}

pub(super) type Canonical<'a> = Option<&'a Node<'a>>;

impl<'r, 'a> Canon<'r, 'a> {
    /// With variables filled in, and our keys beside those of Compose.
    pub(super) fn new(report: &'r mut Report<'a>, patterns: &'r mut Patterns) -> Self {
        Self { arena: report.arena(), report, patterns, ours: true, open: Open::default(), shell: false }
    }

    /// A mapping with known keys.
    pub(super) fn keys(&mut self, node: &'a Node<'a>, keys: &'static Keys, at: &At<'_>) -> Canonical<'a> {
        let node = self.external(node, keys, at);
        let entries = mapping(node, at, self.report)?;
        let mut found: Vec<Entry<'a>> = Vec::with_capacity(entries.len());
        if keys.find("shell").is_some() {
            let shell = node.get("shell").or_else(|| node.get(OURS)?.get("shell"));
            self.shell = shell.is_some_and(|shell| shell.as_text() != Some("false"));
        }
        for entry in entries {
            if entry.key.text == OURS {
                self.lift(entry, keys, at, &mut found);
            } else if !entry.key.text.starts_with("x-") {
                self.add(entry, keys, at, &mut found);
            }
        }
        // What is misspelled is not missed as well.
        for Entry { key, value } in entries.iter().filter(|entry| keys.find(entry.key.text).is_none()) {
            let is_guess = !key.text.starts_with("x-") && grammar::misplaced(keys, key.text).is_none();
            let meant = keys.meant(key.text).filter(|_| is_guess);
            let meant = meant.filter(|name| !found.iter().any(|entry| entry.key.text == *name));
            found.extend(meant.map(|name| {
                let key = tree::Key { text: name, span: key.span };
                Entry { key, value: self.bad(value) }
            }));
        }
        for key in keys.keys.iter().filter(|key| matches!(key.default, Default::Text(_) | Default::Needed)) {
            if found.iter().any(|entry| entry.key.text == key.name) {
                continue;
            }
            match key.default {
                Default::Text(text) => found.extend(self.meant(node.span, key, text, at)),
                _ => self.report.error(node.span, || {
                    Problem::new(format!("`{at}` has no `{}`", key.name))
                        .hint(format!("{} needs one", keys.owner))
                }),
            }
        }
        Some(self.arena.with_entries(node, &found))
    }

    /// A key that is not written, and what is meant by that.
    pub(super) fn meant(
        &mut self,
        span: Span,
        key: &'static Key,
        text: &'static str,
        at: &At<'_>,
    ) -> Option<Entry<'a>> {
        let name = tree::Key { text: key.name, span };
        let value = self.arena.at(span, quoted(text));
        Some(Entry { key: name, value: self.value(value, &key.shape, &at.key(&name))? })
    }

    /// Takes the keys below `x-upbeat` as if they stood beside it.
    fn lift(&mut self, entry: &Entry<'a>, keys: &'static Keys, at: &At<'_>, found: &mut Vec<Entry<'a>>) {
        let inner = at.key(&entry.key);
        if entry.value.tag != Directive::Merge {
            self.report.error(entry.value.span, || {
                Problem::new(format!("`{inner}` cannot be reset or overridden as a whole"))
                    .hint("give the tag to the keys below it".to_owned())
            });
            return;
        }
        let Some(entries) = mapping(entry.value, &inner, self.report) else { return };
        let ours = std::mem::replace(&mut self.ours, true);
        for entry in entries.iter().filter(|entry| !entry.key.text.starts_with("x-")) {
            self.add(entry, keys, &inner, found);
        }
        self.ours = ours;
    }

    /// Adds a key, which may stand beside `x-upbeat` and below it, and not in both.
    fn add(&mut self, entry: &Entry<'a>, keys: &'static Keys, at: &At<'_>, found: &mut Vec<Entry<'a>>) {
        if found.iter().any(|other| other.key.text == entry.key.text) {
            self.report.error(entry.key.span, || {
                Problem::new(format!("`{}` is given beside `{OURS}` and below it", at.key(&entry.key)))
                    .label("the second one")
                    .hint("keep one of the two".to_owned())
            });
            return;
        }
        found.extend(self.entry(entry, keys, at, self.ours));
    }

    fn entry(
        &mut self,
        entry: &Entry<'a>,
        keys: &'static Keys,
        at: &At<'_>,
        ours: bool,
    ) -> Option<Entry<'a>> {
        let name = &entry.key;
        let Some(key) = keys.find(name.text) else {
            self.report.error(name.span, || {
                Problem::new(format!("Unknown key `{}`", at.key(name)))
                    .label(format!("not a key of {}", keys.owner))
                    .hint(grammar::hint(keys, name.text))
            });
            return None;
        };
        if !self.allows(key, entry, at, ours) {
            return None;
        }
        // A shell reads the command alone, and not what stands beside it.
        let (shell, outer) = (self.shell, self.ours);
        self.shell &= key.name == "command";
        self.ours |= key.ours;
        let value = match entry.value.tag {
            Directive::Reset => Some(entry.value),
            Directive::Merge | Directive::Override => self.value(entry.value, &key.shape, &at.key(name)),
        };
        (self.shell, self.ours) = (shell, outer);
        Some(Entry { key: *name, value: value.unwrap_or_else(|| self.bad(entry.value)) })
    }

    /// What stands for a value of which it was said what is wrong.
    fn bad(&self, node: &Node<'a>) -> &'a Node<'a> {
        self.arena.with(node, Value::Bad)
    }

    /// Says what is to be said of a key alone, and whether its value is read. Of one that is out of place
    /// it is: what else is said of the file then holds where that was mended.
    fn allows(&mut self, key: &Key, entry: &Entry<'a>, at: &At<'_>, ours: bool) -> bool {
        let span = entry.key.span;
        match key.verdict {
            Verdict::Refused(hint) => {
                self.report.error(span, || {
                    Problem::new(format!("`{}` is not supported", at.key(&entry.key))).hint(hint.to_owned())
                });
                false
            }
            Verdict::Inert(why) => {
                self.report.note(span, || {
                    Problem::new(format!("`{}` has no effect: {why}", at.key(&entry.key)))
                        .hint("take it out".to_owned())
                });
                false
            }
            _ if key.ours && !ours => {
                self.report.error(span, || {
                    Problem::new(format!("`{}` is no key of Compose, whose file this is", at.key(&entry.key)))
                        .hint(format!(
                            "put it under `{OURS}`, which Compose passes over, or name the file `upbeat.yaml`"
                        ))
                });
                true
            }
            _ => true,
        }
    }

    pub(super) fn value(&mut self, node: &'a Node<'a>, shape: &'static Shape, at: &At<'_>) -> Canonical<'a> {
        if matches!(node.value, Value::Bad) {
            return None;
        }
        match shape {
            Shape::Leaf(leaf) => self.leaf(node, leaf, at),
            Shape::Map(keys) => self.keys(node, keys, at),
            Shape::Named(named) => self.named(node, named, at),
            Shape::Names(named) => self.names(node, named, at),
            Shape::List(items) => self.list(node, items, at),
            Shape::Items(items) => match node.value {
                Value::List(_) => self.list(node, items, at),
                _ => {
                    let only = self.item(node, items, at)?;
                    Some(self.arena.with(node, self.arena.list(&only)))
                }
            },
            Shape::Pairs(pairs) => self.pairs(node, pairs, at),
            Shape::Hosts(named) => self.hosts(node, named, at),
            Shape::Argv => self.argv(node, at),
            Shape::Command => self.command(node, at),
            Shape::Test => self.test(node, at),
            Shape::Short(short) => self.short(node, short, at).and_then(|mut nodes| nodes.pop()),
            Shape::Optional(_) if node.is_null() => Some(node),
            Shape::Optional(shape) => self.value(node, shape, at),
            Shape::External => self.leaf(node, &leaf::FLAG, at),
            Shape::Free => Some(node),
            Shape::Later => mapping(node, at, self.report).map(|_| node),
        }
    }

    /// Any scalar as text: `8080` is the text `8080`.
    pub(super) fn text(&mut self, node: &Node<'a>, at: &At<'_>, wanted: &str) -> Option<&'a str> {
        match node.value {
            Value::Scalar(scalar) if !node.is_null() => {
                if scalar.text.contains('\0') {
                    self.report.error(node.span, || {
                        Problem::new(format!("`{at}` contains a NUL character"))
                            .hint("take it out; no program can be given one".to_owned())
                    });
                    return None;
                }
                Some(scalar.text)
            }
            Value::Bad => None,
            _ => {
                wrong_type(node, at, wanted, self.report);
                None
            }
        }
    }

    fn leaf(&mut self, node: &'a Node<'a>, leaf: &'static Leaf, at: &At<'_>) -> Canonical<'a> {
        let text = self.text(node, at, leaf.wanted)?;
        if !matches!(leaf.kind, Kind::Text | Kind::Place) {
            self.one_for_all(node, at)?;
        }
        if self.open.is(text) {
            return Some(node);
        }
        if let Check::Pattern = leaf.check {
            self.pattern(node, text, at)?;
        } else if let Err(rule) = leaf.judge(text) {
            broken(node, at, rule, self.report);
            return None;
        }
        if let Check::Signed(signed) = &leaf.check
            && !self.ours
            && !signed.is_of_compose(text)
        {
            let rule = Broken::new(format!("is `{}`, no word of Compose, whose file this is", shown(text)));
            let hint = format!("put the key under `{OURS}`, which Compose passes over");
            broken(node, at, rule.hint(hint), self.report);
            return None;
        }
        match leaf.kind {
            Kind::Place if matches!(node.value, Value::Scalar(Scalar { style: Style::Each(_), .. })) => {
                if text.starts_with('~') {
                    let rule = Broken::new("starts with `~`, and differs from copy to copy");
                    broken(node, at, rule.hint("write the directory out"), self.report);
                    return None;
                }
                Some(node)
            }
            Kind::Path | Kind::Place => {
                let path = self.absolute(node, text, at)?;
                Some(self.again(node, text, path))
            }
            Kind::Target if text.starts_with('/') => Some(self.again(node, text, project::joined("/", text))),
            Kind::Address => Some(self.again(node, text, text.trim_matches(['[', ']']).to_owned())),
            Kind::Bare if matches!(node.value, Value::Scalar(scalar) if scalar.style == Style::Bare) => {
                Some(node)
            }
            Kind::Bare => Some(self.arena.with(node, Value::Scalar(Scalar { text, style: Style::Bare }))),
            Kind::Text | Kind::Target => Some(node),
        }
    }

    /// What is asked for before there is any copy cannot differ from one to the other.
    pub(super) fn one_for_all(&mut self, node: &Node<'a>, at: &At<'_>) -> Option<()> {
        if !matches!(node.value, Value::Scalar(Scalar { style: Style::Each(_), .. })) {
            return Some(());
        }
        self.report
            .error(node.span, || Problem::new(format!("`{at}` uses `{INDEX}`, and is one for all copies")));
        None
    }

    /// The same, written otherwise.
    fn again(&self, node: &'a Node<'a>, text: &str, written: String) -> &'a Node<'a> {
        if written == text { node } else { self.arena.with(node, quoted(self.arena.text(written))) }
    }

    /// By the directory of the file it stands in.
    fn absolute(&mut self, node: &Node<'a>, path: &str, at: &At<'_>) -> Option<String> {
        let file = self.report.sources.file(node.span.file)?;
        if path == "~" || path.starts_with("~/") {
            if let Some(path) = project::at_home(path, file) {
                return Some(path);
            }
            let rule = Broken::new("starts with `~`, and `HOME` is not set").hint("write the directory out");
            broken(node, at, rule, self.report);
            return None;
        }
        Some(project::joined(&file.dir, path))
    }

    fn pattern(&mut self, node: &Node<'a>, text: &str, at: &At<'_>) -> Option<()> {
        let Err((rule, inside)) = self.patterns.check(text) else { return Some(()) };
        // The caret can stand inside of the pattern where the pattern stands in the file as it is.
        let place = self.report.text(node.span).find(text).zip(inside);
        let place = place.map(|(offset, inside)| node.span.part(offset + inside.start..offset + inside.end));
        let place = place.unwrap_or(node.span);
        self.report.error(place, || Problem::new(format!("`{at}` {}", rule.what)).hint(rule.hint));
        None
    }

    pub(super) fn named(&mut self, node: &'a Node<'a>, named: &'static Named, at: &At<'_>) -> Canonical<'a> {
        let Value::Map(entries) = node.value else {
            wrong_type(node, at, named.wanted, self.report);
            return None;
        };
        let mut found = Vec::with_capacity(entries.len());
        for &Entry { key, value } in entries {
            if !self.name(key.text, key.span, named, at) {
                continue;
            }
            let canonical = match value.tag {
                Directive::Reset => Some(value),
                _ if value.is_null() && named.alone.is_some_and(|sign| key.text.contains(sign)) => {
                    Some(value)
                }
                _ => self.value(value, &named.each, &at.key(&key)),
            };
            found.push(Entry { key, value: canonical.unwrap_or_else(|| self.bad(value)) });
        }
        Some(self.arena.with_entries(node, &found))
    }

    pub(super) fn name(&mut self, name: &str, span: Span, named: &'static Named, at: &At<'_>) -> bool {
        match (named.name)(name) {
            Ok(()) => true,
            Err(rule) => {
                self.report.error(span, || Problem::new(format!("`{at}` {}", rule.what)).hint(rule.hint));
                false
            }
        }
    }

    pub(super) fn duplicate(&mut self, span: Span, name: &str, at: &At<'_>) {
        self.report.error(span, || {
            Problem::new(format!("Duplicate `{}` in `{}`", shown(name), at.above()))
                .label("the second one")
                .hint("keep one of the two".to_owned())
        });
    }

    fn list(&mut self, node: &'a Node<'a>, items: &'static Items, at: &At<'_>) -> Canonical<'a> {
        let Value::List(list) = node.value else {
            wrong_type(node, at, items.wanted, self.report);
            return None;
        };
        let mut found = Vec::with_capacity(list.len());
        let mut seen = HashSet::new();
        each_item(list, at, |item, at| {
            for new in self.item(item, items, at).unwrap_or_default() {
                match identity(new, items.same) {
                    Some(identity) if seen.contains(&identity) => self.duplicate(item.span, &identity, at),
                    identity => {
                        seen.extend(identity);
                        found.push(new);
                    }
                }
            }
        });
        Some(self.arena.with_items(node, &found))
    }

    /// One text may stand for several.
    fn item(&mut self, node: &'a Node<'a>, items: &'static Items, at: &At<'_>) -> Option<Vec<&'a Node<'a>>> {
        match &items.each {
            Shape::Short(short) => self.short(node, short, at),
            each => Some(vec![self.value(node, each, at)?]),
        }
    }
}

pub(super) fn quoted(text: &str) -> Value<'_> {
    Value::Scalar(Scalar { text, style: Style::Quoted })
}

/// Nothing.
pub(super) const NULL: Value<'static> = Value::Scalar(Scalar { text: "", style: Style::Plain });

/// What makes an item of a list itself, for people; `None` when each stands for itself.
pub(super) fn identity<'a>(node: &Node<'a>, same: Same) -> Option<Cow<'a, str>> {
    match same {
        Same::Never => None,
        Same::Whole => node.as_text().map(Cow::Borrowed),
        // A short form whose variables were not filled in.
        Same::Fields(_) if node.as_text().is_some() => node.as_text().map(Cow::Borrowed),
        // Which one it is meant to be cannot be told.
        Same::Fields(_) if node.entries().iter().any(|entry| matches!(entry.value.value, Value::Bad)) => None,
        Same::Fields(fields) => {
            let field = |names: &&[&str]| names.iter().find_map(|name| node.get(name)?.as_text());
            let parts: Vec<&str> = fields.iter().filter_map(field).filter(|part| !part.is_empty()).collect();
            match parts[..] {
                [] => None,
                [part] => Some(Cow::Borrowed(part)),
                _ => Some(Cow::Owned(parts.join(":"))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bumpalo::Bump;

    use super::*;
    use crate::file::variables::Variables;
    use crate::file::{place, report, yaml};

    #[test]
    fn a_canonical_tree_comes_out_as_the_very_same_one() {
        let text = "\
name: shop
services:
  web:
    command: [./web, --port, 80]
    environment: { A: b, C: }
    env_file: [/srv/.env]
    labels: [a=b]
    depends_on: [db]
    x-upbeat: { healthcheck: { http: http://127.0.0.1:80/, interval: 5s } }
  db:
    image: db
    ports: ['8000-8002:80-82', { target: 90 }]
    volumes: ['data:/data', './x:/x:ro,z']
    healthcheck: { test: true, retries: 2 }
volumes: { data: , other: { driver: local } }
";
        let bump = Bump::new();
        let mut report = report::Report::new(Arena::new(&bump));
        let resolver = |_: &str| None;
        let variables = Variables::session(&resolver);
        let (name, dir, via) = ("compose.yaml".to_owned(), "/srv".to_owned(), place::Via::default());
        let file = report.sources.add(place::File { name, text, dir, variables, via }).unwrap();
        let written = yaml::load(file, &mut report).flatten().unwrap();
        let (mut patterns, at) = (Patterns::default(), At::file(written.span));
        let mut canon = Canon::new(&mut report, &mut patterns);
        let once = canon.keys(written, &grammar::FILE, &at).unwrap();
        let twice = canon.keys(once, &grammar::FILE, &at).unwrap();
        assert!(!std::ptr::eq(written, once));
        assert!(std::ptr::eq(once, twice));
        assert!(report.is_clean());
    }
}
