//! Checks a tree by the grammar and writes every value in its long form: lists of `name=value`
//! become mappings, texts that stand for mappings become these, commands become lists of words.
//!
//! Laws: what cannot be right is reported once, at its place, and stands as [`Value::Bad`]
//! afterwards, so that nobody misses or judges it again. Places are kept. What comes out means the
//! same as what went in, and comes out unchanged when it goes in again.

use std::borrow::Cow;
use std::collections::HashSet;

use super::arena::Arena;
use super::index::Index;
use super::pattern::Patterns;
use super::place::Span;
use super::read::{At, broken, each_item, mapping, wrong_type};
use super::render::{INDEX, is_template};
use super::report::{Problem, Report, shown};
use super::rules::Broken;
use super::shape::{
    Alone, Check, Fields, Items, Key, Keys, Kind, Leaf, Named, Pairs, Same, Shape, Short, Verdict,
};
use super::tree::{Directive, Entry, Node, Scalar, Style, Value};
use super::{OURS, argv, grammar, project, tree};

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
    fn is(self, text: &str) -> bool {
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
            let meant = keys.meant(key.text).filter(|_| !key.text.starts_with("x-"));
            let meant = meant.filter(|name| !found.iter().any(|entry| entry.key.text == *name));
            found.extend(meant.map(|name| {
                let key = tree::Key { text: name, span: key.span };
                Entry { key, value: self.bad(value) }
            }));
        }
        Some(self.arena.with_entries(node, &found))
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
        let shell = self.shell;
        self.shell &= key.name == "command";
        let value = match entry.value.tag {
            Directive::Reset => Some(entry.value),
            Directive::Merge | Directive::Override => self.value(entry.value, &key.shape, &at.key(name)),
        };
        self.shell = shell;
        Some(Entry { key: *name, value: value.unwrap_or_else(|| self.bad(entry.value)) })
    }

    /// What stands for a value of which it was said what is wrong.
    fn bad(&self, node: &Node<'a>) -> &'a Node<'a> {
        self.arena.with(node, Value::Bad)
    }

    /// Says what is to be said of a key alone.
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
                        .hint(format!("put it under `{OURS}`, which Compose passes over"))
                });
                false
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
            Shape::Argv => self.argv(node, at),
            Shape::Test => self.test(node, at),
            Shape::Short(short) => self.short(node, short, at).and_then(|mut nodes| nodes.pop()),
            Shape::Optional(_) if node.is_null() => Some(node),
            // Not the image's command but none; what a process makes of it is said by `service`.
            Shape::Optional(Shape::Argv) if !self.shell && argv::is_blank(node) => Some(node),
            Shape::Optional(shape) => self.value(node, shape, at),
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
        if leaf.kind != Kind::Text {
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
        match leaf.kind {
            Kind::Path => {
                let path = self.absolute(node, text, at)?;
                let is_own = path == text;
                Some(if is_own { node } else { self.arena.with(node, quoted(self.arena.text(path))) })
            }
            Kind::Bare if matches!(node.value, Value::Scalar(scalar) if scalar.style == Style::Bare) => {
                Some(node)
            }
            Kind::Bare => Some(self.arena.with(node, Value::Scalar(Scalar { text, style: Style::Bare }))),
            Kind::Text => Some(node),
        }
    }

    /// What is asked for before there is any copy cannot differ from one to the other.
    fn one_for_all(&mut self, node: &Node<'a>, at: &At<'_>) -> Option<()> {
        if !matches!(node.value, Value::Scalar(Scalar { style: Style::Each(_), .. })) {
            return Some(());
        }
        self.report
            .error(node.span, || Problem::new(format!("`{at}` uses `{INDEX}`, and is one for all copies")));
        None
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

    fn named(&mut self, node: &'a Node<'a>, named: &'static Named, at: &At<'_>) -> Canonical<'a> {
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

    fn name(&mut self, name: &str, span: Span, named: &'static Named, at: &At<'_>) -> bool {
        match (named.name)(name) {
            Ok(()) => true,
            Err(rule) => {
                self.report.error(span, || Problem::new(format!("`{at}` {}", rule.what)).hint(rule.hint));
                false
            }
        }
    }

    /// A list of names stands for a mapping with nothing behind them.
    fn names(&mut self, node: &'a Node<'a>, named: &'static Named, at: &At<'_>) -> Canonical<'a> {
        let Value::List(items) = node.value else { return self.named(node, named, at) };
        let mut index = Index::default();
        let mut found = Vec::with_capacity(items.len());
        each_item(items, at, |item, at| {
            let Some(name) = self.text(item, at, "text") else { return };
            if !self.name(name, item.span, named, at) {
                return;
            }
            if index.has(&found, name) {
                self.duplicate(item.span, name, at);
                return;
            }
            let value = match named.each {
                Shape::Optional(_) => NULL,
                _ => Value::Map(&[]),
            };
            let key = tree::Key { text: name, span: item.span };
            found.push(Entry { key, value: self.arena.with(item, value) });
        });
        Some(self.arena.with(node, self.arena.map(&found)))
    }

    fn duplicate(&mut self, span: Span, name: &str, at: &At<'_>) {
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

    fn short(&mut self, node: &'a Node<'a>, short: &'static Short, at: &At<'_>) -> Option<Vec<&'a Node<'a>>> {
        if let Value::Map(_) = node.value {
            return Some(vec![self.keys(node, short.long, at)?]);
        }
        let text = self.text(node, at, short.wanted)?;
        self.one_for_all(node, at)?;
        if self.open.is(text) {
            return Some(vec![node]);
        }
        match (short.read)(text) {
            Ok(all) => all.iter().map(|fields| self.keys(self.long(node, fields), short.long, at)).collect(),
            Err(rule) => {
                broken(node, at, rule, self.report);
                None
            }
        }
    }

    /// The mapping a text stands for: `bind.selinux` is a field of a field.
    fn long(&self, node: &Node<'a>, fields: &Fields) -> &'a Node<'a> {
        let entry = |text: &'static str, value| {
            let key = tree::Key { text, span: node.span };
            Entry { key, value: self.arena.at(node.span, value) }
        };
        let mut entries: Vec<Entry<'a>> = Vec::with_capacity(fields.len());
        for (name, text) in fields {
            let text = quoted(self.arena.text(text.clone()));
            let Some((outer, inner)) = name.split_once('.') else {
                entries.push(entry(name, text));
                continue;
            };
            let place = entries.iter().position(|entry| entry.key.text == outer);
            let before = place.map_or(&[][..], |place| entries[place].value.entries());
            let whole = entry(outer, self.arena.map(&[before, &[entry(inner, text)]].concat()));
            match place {
                Some(place) => entries[place] = whole,
                None => entries.push(whole),
            }
        }
        self.arena.with(node, self.arena.map(&entries))
    }

    fn pairs(&mut self, node: &'a Node<'a>, pairs: &'static Pairs, at: &At<'_>) -> Canonical<'a> {
        let mut found = Found { pairs, entries: Vec::new(), index: Index::default() };
        match node.value {
            Value::Map(entries) => {
                found.entries.reserve_exact(entries.len());
                for entry in entries {
                    self.given(&mut found, *entry, at);
                }
            }
            Value::List(items) => each_item(items, at, |item, item_at| {
                let Some(line) = self.text(item, item_at, "text") else { return };
                let (name, value) = match split_once(line, pairs.signs) {
                    Some((name, value)) => (name, Some(value)),
                    None => (line, None),
                };
                let value = self.arena.with(item, found.value(value));
                self.pair(&mut found, Entry { key: tree::Key { text: name, span: item.span }, value }, at);
            }),
            _ => {
                wrong_type(node, at, "a mapping, or a list of `name=value`", self.report);
                return None;
            }
        }
        Some(self.arena.with_entries(node, &found.entries))
    }

    /// A pair of a mapping.
    fn given(&mut self, found: &mut Found<'a>, entry: Entry<'a>, at: &At<'_>) {
        let Entry { key, value } = entry;
        let text = match (value.is_null(), value.tag) {
            (_, Directive::Reset) => return self.pair(found, entry, at),
            (true, _) => None,
            (false, _) => match self.text(value, &at.key(&key), "text") {
                Some(text) => Some(text),
                None => return,
            },
        };
        let is_told = text.is_some() || found.pairs.alone == Alone::Asked;
        let is_canonical = is_told && value.tag == Directive::Merge && !value.span.is_empty();
        let value = match is_canonical {
            true => value,
            false => {
                let place = if value.span.is_empty() { key.span } else { value.span };
                self.arena.at(place, found.value(text))
            }
        };
        self.pair(found, Entry { key, value }, at);
    }

    /// Adds one; also a name that stays without a value, so that it is not given twice.
    fn pair(&mut self, found: &mut Found<'a>, entry: Entry<'a>, at: &At<'_>) {
        let tree::Key { text: name, span } = entry.key;
        let rule = match entry.value.tag {
            Directive::Reset => Ok(()),
            _ if self.open.is(name) => Ok(()),
            _ => (found.pairs.rule)(name, entry.value.as_text().unwrap_or_default()),
        };
        if let Err(rule) = rule {
            self.report.error(span, || Problem::new(format!("`{at}` {}", rule.what)).hint(rule.hint));
        } else if found.index.has(&found.entries, name) {
            self.report.error(span, || {
                Problem::new(format!("Duplicate name `{}` in `{at}`", shown(name)))
                    .label("the second one")
                    .hint("keep one of the two".to_owned())
            });
        } else {
            found.entries.push(entry);
        }
    }
}

/// The pairs of one mapping as they are found.
struct Found<'a> {
    pairs: &'static Pairs,
    entries: Vec<Entry<'a>>,
    index: Index<'a>,
}

impl<'a> Found<'a> {
    /// What a name has, or what it means that it has none.
    fn value(&self, text: Option<&'a str>) -> Value<'a> {
        match (text, self.pairs.alone) {
            (Some(text), _) => quoted(text),
            (None, Alone::Empty) => quoted(""),
            (None, Alone::Asked) => NULL,
        }
    }
}

pub(super) fn quoted(text: &str) -> Value<'_> {
    Value::Scalar(Scalar { text, style: Style::Quoted })
}

/// Nothing.
const NULL: Value<'static> = Value::Scalar(Scalar { text: "", style: Style::Plain });

/// At the first sign, in the order of their worth, that is there.
fn split_once<'a>(line: &'a str, signs: &[char]) -> Option<(&'a str, &'a str)> {
    signs.iter().find_map(|sign| line.split_once(*sign))
}

/// What makes an item of a list itself, for people; `None` when each stands for itself.
pub(super) fn identity<'a>(node: &Node<'a>, same: Same) -> Option<Cow<'a, str>> {
    match same {
        Same::Never => None,
        Same::Whole => node.as_text().map(Cow::Borrowed),
        // A short form whose variables were not filled in.
        Same::Fields(_) if node.as_text().is_some() => node.as_text().map(Cow::Borrowed),
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
