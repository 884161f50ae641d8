//! Checks a tree by the grammar and writes every value in its long form: lists of `name=value`
//! become mappings, texts that stand for mappings become these, commands become lists of words.
//!
//! Laws: what cannot be right is reported once, at its place, and stands as [`Value::Bad`]
//! afterwards, so that nobody misses or judges it again. Places are kept. What comes out means the
//! same as what went in, and comes out unchanged when it goes in again.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::pattern::Patterns;
use super::place::Span;
use super::read::{At, broken, each_item, mapping, wrong_type};
use super::report::{Problem, Report, shown};
use super::rules::Broken;
use super::shape::{
    Alone, Check, Fields, Items, Key, Keys, Kind, Leaf, Named, Pairs, Same, Shape, Short, Verdict,
};
use super::tree::{Directive, Entry, Node, Scalar, Style, Value};
use super::{OURS, grammar, project, tree};

/// Checks values, and writes them in their long forms.
pub(super) struct Canon<'r, 'a> {
    pub(super) report: &'r mut Report<'a>,
    pub(super) patterns: &'r mut Patterns,
    /// Our own keys may stand among those of Compose.
    pub(super) ours: bool,
    /// Variables were not filled in, so what has one cannot be judged.
    pub(super) raw: bool,
    /// A shell reads the command of the service that is being checked.
    pub(super) shell: bool,
}

pub(super) type Canonical<'a> = Option<Rc<Node<'a>>>;

impl<'r, 'a> Canon<'r, 'a> {
    /// With variables filled in, and our keys beside those of Compose.
    pub(super) fn new(report: &'r mut Report<'a>, patterns: &'r mut Patterns) -> Self {
        Self { report, patterns, ours: true, raw: false, shell: false }
    }

    /// A mapping with known keys.
    pub(super) fn keys(&mut self, node: &Node<'a>, keys: &'static Keys, at: &At<'_>) -> Canonical<'a> {
        let entries = mapping(node, at, self.report)?;
        let mut found: Vec<Entry<'a>> = Vec::with_capacity(entries.len());
        if keys.find("shell").is_some() {
            self.shell = node.get("shell").or_else(|| node.get(OURS)?.get("shell")).is_some();
        }
        for entry in entries {
            if entry.key.text == OURS {
                self.lift(entry, keys, at, &mut found);
            } else if !entry.key.text.starts_with("x-") {
                self.add(entry, keys, at, &mut found);
            }
        }
        // What is misspelled is not missed as well.
        for Entry { key, value } in entries.iter().filter(|entry| keys.find(&entry.key.text).is_none()) {
            let meant = keys.meant(&key.text).filter(|_| !key.text.starts_with("x-"));
            let meant = meant.filter(|name| !found.iter().any(|entry| entry.key.text == *name));
            found.extend(meant.map(|name| {
                let key = tree::Key { text: name.into(), span: key.span };
                Entry { key, value: value.with(Value::Bad) }
            }));
        }
        Some(node.with(Value::Map(found)))
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
        let Some(entries) = mapping(&entry.value, &inner, self.report) else { return };
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
        let Some(key) = keys.find(&name.text) else {
            self.report.error(name.span, || {
                Problem::new(format!("Unknown key `{}`", at.key(name)))
                    .label(format!("not a key of {}", keys.owner))
                    .hint(grammar::hint(keys, &name.text))
            });
            return None;
        };
        if !self.allows(key, entry, at, ours) {
            return None;
        }
        let value = match entry.value.tag {
            Directive::Reset => Some(Rc::clone(&entry.value)),
            Directive::Merge | Directive::Override => self.value(&entry.value, &key.shape, &at.key(name)),
        };
        let value = value.unwrap_or_else(|| entry.value.with(Value::Bad));
        Some(Entry { key: name.clone(), value })
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

    pub(super) fn value(&mut self, node: &Rc<Node<'a>>, shape: &'static Shape, at: &At<'_>) -> Canonical<'a> {
        if matches!(node.value, Value::Bad) {
            return None;
        }
        match shape {
            Shape::Leaf(leaf) => self.leaf(node, leaf, at),
            Shape::Map(keys) => self.keys(node, keys, at),
            Shape::Named(named) => self.named(node, named, at),
            Shape::Names(named) => self.names(node, named, at),
            Shape::List(items) => self.list(node, items, at),
            Shape::Items(items) => match &node.value {
                Value::List(_) => self.list(node, items, at),
                _ => {
                    let only = self.item(node, items, at)?;
                    Some(node.with(Value::List(only)))
                }
            },
            Shape::Pairs(pairs) => self.pairs(node, pairs, at),
            Shape::Argv => self.argv(node, at),
            Shape::Test => self.test(node, at),
            Shape::Short(short) => self.short(node, short, at).and_then(|mut nodes| nodes.pop()),
            Shape::Optional(_) if node.is_null() => Some(Rc::clone(node)),
            // Not the image's command but none; what a process makes of it is said by `service`.
            Shape::Optional(Shape::Argv) if !self.shell && is_blank(node) => Some(Rc::clone(node)),
            Shape::Optional(shape) => self.value(node, shape, at),
            Shape::Free => Some(Rc::clone(node)),
        }
    }

    /// Any scalar as text: `8080` is the text `8080`.
    pub(super) fn text<'n>(
        &mut self,
        node: &'n Node<'a>,
        at: &At<'_>,
        wanted: &str,
    ) -> Option<&'n Cow<'a, str>> {
        match &node.value {
            Value::Scalar(scalar) if !node.is_null() => {
                if scalar.text.contains('\0') {
                    self.report.error(node.span, || {
                        Problem::new(format!("`{at}` contains a NUL character"))
                            .hint("take it out; no program can be given one".to_owned())
                    });
                    return None;
                }
                Some(&scalar.text)
            }
            Value::Bad => None,
            _ => {
                wrong_type(node, at, wanted, self.report);
                None
            }
        }
    }

    fn leaf(&mut self, node: &Rc<Node<'a>>, leaf: &'static Leaf, at: &At<'_>) -> Canonical<'a> {
        let text = self.text(node, at, leaf.wanted)?;
        if self.raw && text.contains('$') {
            return Some(Rc::clone(node));
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
                Some(node.with(quoted(path)))
            }
            Kind::Bare => {
                let scalar = Scalar { text: text.clone(), style: Style::Bare };
                Some(node.with(Value::Scalar(scalar)))
            }
            Kind::Text => Some(Rc::clone(node)),
        }
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

    fn named(&mut self, node: &Rc<Node<'a>>, named: &'static Named, at: &At<'_>) -> Canonical<'a> {
        let Value::Map(entries) = &node.value else {
            wrong_type(node, at, named.wanted, self.report);
            return None;
        };
        let mut found = Vec::with_capacity(entries.len());
        for Entry { key, value } in entries {
            if !self.name(&key.text, key.span, named, at) {
                continue;
            }
            let canonical = match value.tag {
                Directive::Reset => Some(Rc::clone(value)),
                _ => self.value(value, &named.each, &at.key(key)),
            };
            let value = canonical.unwrap_or_else(|| value.with(Value::Bad));
            found.push(Entry { key: key.clone(), value });
        }
        Some(node.with(Value::Map(found)))
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
    fn names(&mut self, node: &Rc<Node<'a>>, named: &'static Named, at: &At<'_>) -> Canonical<'a> {
        let Value::List(items) = &node.value else { return self.named(node, named, at) };
        let mut seen = HashSet::new();
        let mut found = Vec::with_capacity(items.len());
        each_item(items, at, |item, at| {
            let Some(name) = self.text(item, at, "text") else { return };
            if !self.name(name, item.span, named, at) {
                return;
            }
            if !seen.insert(name.clone()) {
                self.duplicate(item.span, name, at);
                return;
            }
            let value = match named.each {
                Shape::Optional(_) => null(),
                _ => Value::Map(Vec::new()),
            };
            let key = tree::Key { text: name.clone(), span: item.span };
            found.push(Entry { key, value: item.with(value) });
        });
        Some(node.with(Value::Map(found)))
    }

    fn duplicate(&mut self, span: Span, name: &str, at: &At<'_>) {
        self.report.error(span, || {
            Problem::new(format!("Duplicate `{}` in `{}`", shown(name), at.above()))
                .label("the second one")
                .hint("keep one of the two".to_owned())
        });
    }

    fn list(&mut self, node: &Rc<Node<'a>>, items: &'static Items, at: &At<'_>) -> Canonical<'a> {
        let Value::List(list) = &node.value else {
            wrong_type(node, at, items.wanted, self.report);
            return None;
        };
        let mut found = Vec::with_capacity(list.len());
        let mut seen: HashMap<String, ()> = HashMap::new();
        each_item(list, at, |item, at| {
            for new in self.item(item, items, at).unwrap_or_default() {
                if let Some(identity) = identity(&new, items.same)
                    && seen.insert(identity.clone(), ()).is_some()
                {
                    self.duplicate(item.span, &identity, at);
                    continue;
                }
                found.push(new);
            }
        });
        Some(node.with(Value::List(found)))
    }

    /// One text may stand for several.
    fn item(&mut self, node: &Rc<Node<'a>>, items: &'static Items, at: &At<'_>) -> Option<Vec<Rc<Node<'a>>>> {
        match &items.each {
            Shape::Short(short) => self.short(node, short, at),
            each => Some(vec![self.value(node, each, at)?]),
        }
    }

    fn short(
        &mut self,
        node: &Rc<Node<'a>>,
        short: &'static Short,
        at: &At<'_>,
    ) -> Option<Vec<Rc<Node<'a>>>> {
        if let Value::Map(_) = node.value {
            return Some(vec![self.keys(node, short.long, at)?]);
        }
        let text = self.text(node, at, short.wanted)?;
        if self.raw && text.contains('$') {
            return Some(vec![Rc::clone(node)]);
        }
        match (short.read)(text) {
            Ok(all) => all.iter().map(|fields| self.keys(&long(node, fields), short.long, at)).collect(),
            Err(rule) => {
                broken(node, at, rule, self.report);
                None
            }
        }
    }

    fn pairs(&mut self, node: &Rc<Node<'a>>, pairs: &'static Pairs, at: &At<'_>) -> Canonical<'a> {
        let mut found = Found { pairs, entries: Vec::new(), seen: HashSet::new() };
        match &node.value {
            Value::Map(entries) => {
                for Entry { key, value } in entries {
                    let text = match (value.is_null(), value.tag) {
                        (_, Directive::Reset) => {
                            found.entries.push(Entry { key: key.clone(), value: Rc::clone(value) });
                            continue;
                        }
                        (true, _) => None,
                        (false, _) => match self.text(value, &at.key(key), "text") {
                            Some(text) => Some(text.clone()),
                            None => continue,
                        },
                    };
                    let place = if value.span.is_empty() { key.span } else { value.span };
                    self.pair(&mut found, key.clone(), text, place, at);
                }
            }
            Value::List(items) => each_item(items, at, |item, item_at| {
                let Some(line) = self.text(item, item_at, "text") else { return };
                let (name, value) = match split_once(line, pairs.signs) {
                    Some((name, value)) => (name, Some(value)),
                    None => (line.clone(), None),
                };
                let key = tree::Key { text: name, span: item.span };
                self.pair(&mut found, key, value, item.span, at);
            }),
            _ => {
                wrong_type(node, at, "a mapping, or a list of `name=value`", self.report);
                return None;
            }
        }
        Some(node.with(Value::Map(found.entries)))
    }

    /// Adds one; also a name that stays without a value, so that it is not given twice.
    fn pair(
        &mut self,
        found: &mut Found<'a>,
        key: tree::Key<'a>,
        value: Option<Cow<'a, str>>,
        place: Span,
        at: &At<'_>,
    ) {
        let (span, name) = (key.span, &key.text);
        if let Err(rule) = (found.pairs.rule)(name, value.as_deref().unwrap_or_default()) {
            self.report.error(span, || Problem::new(format!("`{at}` {}", rule.what)).hint(rule.hint));
        } else if !found.seen.insert(name.clone()) {
            self.report.error(span, || {
                Problem::new(format!("Duplicate name `{}` in `{at}`", shown(name)))
                    .label("the second one")
                    .hint("keep one of the two".to_owned())
            });
        } else {
            let value = match (value, found.pairs.alone) {
                (Some(value), _) => quoted(value),
                (None, Alone::Empty) => quoted(""),
                (None, Alone::Asked) => null(),
            };
            found.entries.push(Entry { key, value: Rc::new(Node::new(place, value)) });
        }
    }
}

/// The pairs of one mapping as they are found.
struct Found<'a> {
    pairs: &'static Pairs,
    entries: Vec<Entry<'a>>,
    seen: HashSet<Cow<'a, str>>,
}

pub(super) fn quoted<'a>(text: impl Into<Cow<'a, str>>) -> Value<'a> {
    Value::Scalar(Scalar { text: text.into(), style: Style::Quoted })
}

/// A list without words, or a text without any.
fn is_blank(node: &Node<'_>) -> bool {
    match &node.value {
        Value::List(words) => words.is_empty(),
        _ => node.as_text().is_some_and(|text| text.trim().is_empty()),
    }
}

/// Nothing.
fn null<'a>() -> Value<'a> {
    Value::Scalar(Scalar { text: "".into(), style: Style::Plain })
}

/// At the first sign, in the order of their worth, that is there.
fn split_once<'a>(line: &Cow<'a, str>, signs: &[char]) -> Option<(Cow<'a, str>, Cow<'a, str>)> {
    let sign = *signs.iter().find(|sign| line.contains(**sign))?;
    match line {
        Cow::Borrowed(line) => line.split_once(sign).map(|(name, value)| (name.into(), value.into())),
        Cow::Owned(line) => {
            line.split_once(sign).map(|(name, value)| (name.to_owned().into(), value.to_owned().into()))
        }
    }
}

/// The mapping a text stands for: `bind.selinux` is a field of a field.
fn long<'a>(node: &Node<'a>, fields: &Fields) -> Node<'a> {
    let mut entries: Vec<Entry<'a>> = Vec::with_capacity(fields.len());
    for (name, text) in fields {
        let key = |name: &'static str| tree::Key { text: name.into(), span: node.span };
        let value = Rc::new(Node::new(node.span, quoted(text.clone())));
        let Some((outer, inner)) = name.split_once('.') else {
            entries.push(Entry { key: key(name), value });
            continue;
        };
        let inner = Entry { key: key(inner), value };
        match entries.iter_mut().find(|entry| entry.key.text == outer) {
            Some(entry) => {
                let mut fields = match &entry.value.value {
                    Value::Map(fields) => fields.clone(),
                    _ => Vec::new(),
                };
                fields.push(inner);
                entry.value = Rc::new(Node::new(node.span, Value::Map(fields)));
            }
            None => {
                let value = Rc::new(Node::new(node.span, Value::Map(vec![inner])));
                entries.push(Entry { key: key(outer), value });
            }
        }
    }
    Node { span: node.span, value: Value::Map(entries), tag: node.tag }
}

/// What makes an item of a list itself, for people; `None` when each stands for itself.
pub(super) fn identity(node: &Node<'_>, same: Same) -> Option<String> {
    match same {
        Same::Never => None,
        Same::Whole => node.as_text().map(str::to_owned),
        // A short form whose variables were not filled in.
        Same::Fields(_) if node.as_text().is_some() => node.as_text().map(str::to_owned),
        Same::Fields(fields) => {
            let field = |names: &&[&str]| {
                let found = names.iter().find_map(|name| node.get(name)?.as_text());
                found.unwrap_or_default().to_owned()
            };
            let parts: Vec<String> = fields.iter().map(field).filter(|part| !part.is_empty()).collect();
            (!parts.is_empty()).then(|| parts.join(":"))
        }
    }
}
