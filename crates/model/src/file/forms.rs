//! Values that can be written in more than one form: mappings as lists or as one text, names alone,
//! hosts, and what is no longer written so.

use std::collections::HashMap;

use super::canon::{Canon, Canonical, NULL, quoted};
use super::index::Index;
use super::read::{At, broken, each_item, wrong_type};
use super::report::{Problem, shown};
use super::rules::Broken;
use super::shape::{Alone, Default, Fields, Keys, Named, Pairs, Shape, Short};
use super::tree::{Directive, Entry, Key, Node, Scalar, Style, Value};

impl<'a> Canon<'_, 'a> {
    /// A list of names stands for a mapping in which nothing is said of them, or what goes without
    /// saying.
    pub(super) fn names(&mut self, node: &'a Node<'a>, named: &'static Named, at: &At<'_>) -> Canonical<'a> {
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
            let value = match &named.each {
                Shape::Map(keys) => self.of_name(item, keys, at),
                _ => NULL,
            };
            let key = Key { text: name, span: item.span };
            found.push(Entry { key, value: self.arena.with(item, value) });
        });
        Some(self.arena.with(node, self.arena.map(&found)))
    }

    /// What goes without saying of a name alone.
    fn of_name(&mut self, item: &Node<'a>, keys: &'static Keys, at: &At<'_>) -> Value<'a> {
        let mut found = Vec::new();
        for key in keys.keys {
            if let Default::OfName(text) = key.default {
                found.extend(self.meant(item.span, key, text, at));
            }
        }
        self.arena.map(&found)
    }

    pub(super) fn short(
        &mut self,
        node: &'a Node<'a>,
        short: &'static Short,
        at: &At<'_>,
    ) -> Option<Vec<&'a Node<'a>>> {
        if let Value::Map(_) = node.value {
            return Some(vec![self.keys(node, short.long, at)?]);
        }
        let text = self.text(node, at, short.wanted)?;
        if self.open.is(text) {
            return Some(vec![node]);
        }
        match (short.read)(text) {
            Ok(all) => {
                // What is one field as it stands may differ from copy to copy where the field may.
                let whole = match &all[..] {
                    [fields] => fields.first().filter(|(_, field)| fields.len() == 1 && field == text),
                    _ => None,
                };
                if let Some((name, _)) = whole {
                    let key = Key { text: name, span: node.span };
                    let entry = Entry { key, value: self.arena.at(node.span, node.value) };
                    let long = self.arena.with(node, self.arena.map(&[entry]));
                    return Some(vec![self.keys(long, short.long, at)?]);
                }
                self.one_for_all(node, at)?;
                all.iter().map(|fields| self.keys(self.long(node, fields), short.long, at)).collect()
            }
            Err(rule) => {
                broken(node, at, rule, self.report);
                None
            }
        }
    }

    /// The mapping a text stands for: `bind.selinux` is a field of a field.
    fn long(&self, node: &Node<'a>, fields: &Fields) -> &'a Node<'a> {
        let entry = |text: &'static str, value| {
            let key = Key { text, span: node.span };
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

    pub(super) fn pairs(&mut self, node: &'a Node<'a>, pairs: &'static Pairs, at: &At<'_>) -> Canonical<'a> {
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
                let (name, value) = match line.split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None => (line, None),
                };
                let value = self.arena.with(item, found.value(value));
                self.pair(&mut found, Entry { key: Key { text: name, span: item.span }, value }, at);
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
        let Key { text: name, span } = entry.key;
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

    /// Lines of `host=address`, of which several may name one host, and several addresses each. As
    /// Compose does, the first `=` counts, and the first `:` where there is none.
    pub(super) fn hosts(&mut self, node: &'a Node<'a>, named: &'static Named, at: &At<'_>) -> Canonical<'a> {
        let Value::List(items) = node.value else { return self.named(node, named, at) };
        let open = self.open;
        if items.iter().any(|item| item.as_text().is_some_and(|text| open.is(text))) {
            return Some(node);
        }
        let mut hosts: Vec<(Entry<'a>, Vec<&'a Node<'a>>)> = Vec::new();
        let mut places = HashMap::new();
        each_item(items, at, |item, at| {
            let Some(text) = self.text(item, at, "text") else { return };
            let split = text.split_once('=').or_else(|| text.split_once(':'));
            let (host, addresses) = match split {
                Some((host, addresses)) => (host, Some(addresses)),
                None => (text, None),
            };
            if addresses.is_none() && item.tag != Directive::Reset {
                let rule = Broken::new(format!("has no address: `{}`", shown(text)));
                broken(item, at, rule.hint("write `host=address`"), self.report);
                return;
            }
            let place = *places.entry(host).or_insert(hosts.len());
            if place == hosts.len() {
                let value = if addresses.is_some() { self.arena.at(item.span, NULL) } else { item };
                hosts.push((Entry { key: Key { text: host, span: item.span }, value }, Vec::new()));
            }
            let new = addresses.into_iter().flat_map(|addresses| addresses.split(','));
            hosts[place].1.extend(new.map(|address| self.arena.with(item, quoted(address))));
        });
        let entries = hosts.into_iter().map(|(entry, addresses)| match addresses.is_empty() {
            true => entry,
            false => Entry { value: self.arena.at(entry.key.span, self.arena.list(&addresses)), ..entry },
        });
        let entries: Vec<Entry<'a>> = entries.collect();
        self.named(self.arena.with(node, self.arena.map(&entries)), named, at)
    }

    /// `external: { name: x }` is an old form of `external: true` beside `name: x`.
    pub(super) fn external(&mut self, node: &'a Node<'a>, keys: &'static Keys, at: &At<'_>) -> &'a Node<'a> {
        let has_old_form = keys.find("external").is_some_and(|key| matches!(key.shape, Shape::External));
        let external = node.get("external").filter(|_| has_old_form);
        let Some(external) = external.filter(|external| matches!(external.value, Value::Map(_))) else {
            return node;
        };
        let name = external.get("name");
        let given = node.get("name").and_then(|name| name.as_text());
        if given.zip(name.and_then(|name| name.as_text())).is_some_and(|(one, other)| one != other) {
            self.report.error(external.span, || {
                Problem::new(format!("`{at}` is given two names")).hint("keep `name`".to_owned())
            });
        }
        if let Some(name) = name.filter(|name| name.as_text().is_none() && !name.is_null()) {
            let outer = node.entries().iter().find(|entry| std::ptr::eq(entry.value, external));
            let at = outer.map_or(*at, |entry| at.key(&entry.key));
            wrong_type(name, &at.key(&Key { text: "name", span: name.span }), "text", self.report);
        }
        for entry in external.entries().iter().filter(|entry| entry.key.text != "name") {
            self.report.error(entry.key.span, || {
                Problem::new(format!("Unknown key `{at}.external.{}`", shown(entry.key.text)))
                    .hint("write `external: true`".to_owned())
            });
        }
        self.report.note(external.span, || {
            Problem::new(format!("`{at}.external` is written in an old form"))
                .hint("write `external: true`, and `name` beside it".to_owned())
        });
        let yes = self.arena.with(external, Value::Scalar(Scalar { text: "true", style: Style::Bare }));
        let mut entries: Vec<Entry<'a>> = node.entries().to_vec();
        for entry in entries.iter_mut().filter(|entry| std::ptr::eq(entry.value, external)) {
            entry.value = yes;
        }
        let key = |value: &Node<'a>| Key { text: "name", span: value.span };
        let name = name.filter(|name| given.is_none() && name.as_text().is_some());
        entries.extend(name.map(|value| Entry { key: key(value), value }));
        self.arena.with_entries(node, &entries)
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
