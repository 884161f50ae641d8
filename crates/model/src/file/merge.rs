//! Makes one tree of two, the second over the first, by the grammar's rules.
//!
//! Both are canonical, so that everything that can be said in two ways is said in one.
//! Source: the Compose Specification, "Merge".

use std::collections::HashMap;

use super::arena::Arena;
use super::canon::identity;
use super::index::Index;
use super::shape::{Items, Keys, Merge, Shape};
use super::tree::{Directive, Entry, Node, Value};

/// Puts trees over each other.
#[derive(Clone, Copy)]
pub(super) struct Merger<'a> {
    pub(super) arena: Arena<'a>,
}

/// How the value of a key is merged.
type Rule<'r> = &'r dyn Fn(&str) -> (Option<&'static Shape>, Merge);

impl<'a> Merger<'a> {
    /// What two mappings with these keys make.
    pub(super) fn over(self, base: &'a Node<'a>, over: &'a Node<'a>, keys: &'static Keys) -> &'a Node<'a> {
        let (Value::Map(below), Value::Map(above)) = (base.value, over.value) else { return over };
        let whole = self.entries(below, above, &|name| of(keys, name));
        self.arena.with_entries(over, &whole)
    }

    fn entries(self, below: &[Entry<'a>], above: &[Entry<'a>], rule: Rule<'_>) -> Vec<Entry<'a>> {
        let mut found: Vec<Option<Entry<'a>>> = below.iter().copied().map(Some).collect();
        let mut index = Index::default();
        for &Entry { key, value } in above {
            match index.find(below, key.text) {
                None if value.tag == Directive::Reset => {}
                None => found.push(Some(Entry { key, value })),
                Some(place) => {
                    let (shape, merge) = rule(key.text);
                    let merged = self.value(below[place].value, value, shape, merge);
                    found[place] = merged.map(|value| Entry { key, value });
                }
            }
        }
        found.into_iter().flatten().collect()
    }

    /// `None`: there is none any more.
    fn value(
        self,
        base: &'a Node<'a>,
        over: &'a Node<'a>,
        shape: Option<&'static Shape>,
        merge: Merge,
    ) -> Option<&'a Node<'a>> {
        match over.tag {
            Directive::Reset => return None,
            Directive::Override => return Some(over),
            Directive::Merge => {}
        }
        let is_other_driver = || {
            let driver = |node: &Node<'a>| node.get("driver").and_then(|driver| driver.as_text());
            matches!((driver(base), driver(over)), (Some(one), Some(other)) if one != other)
        };
        match (merge, shape) {
            (Merge::Replace, _) => return Some(over),
            (Merge::SameDriver, _) if is_other_driver() => return Some(over),
            _ => {}
        }
        Some(match (base.value, over.value, shape.map(bare)) {
            (Value::Map(below), Value::Map(above), Some(shape)) => {
                let whole = self.entries(below, above, &|name| inner(shape, name));
                self.arena.with_entries(over, &whole)
            }
            (Value::List(below), Value::List(above), Some(Shape::List(items) | Shape::Items(items))) => {
                self.arena.with_items(over, &list(below, above, items))
            }
            // Nothing is no word against something.
            (Value::Map(_), Value::Scalar(_), Some(Shape::Map(_) | Shape::Named(_))) if over.is_null() => {
                base
            }
            _ => over,
        })
    }

    /// What is left of a tree: without what `!reset` takes away, where nothing stood below it.
    pub(super) fn settled(self, node: &'a Node<'a>) -> &'a Node<'a> {
        if !has_directive(node) {
            return node;
        }
        let value = match node.value {
            Value::Map(entries) => {
                let left = entries.iter().filter(|entry| entry.value.tag != Directive::Reset);
                let settled = left.map(|entry| Entry { value: self.settled(entry.value), ..*entry });
                self.arena.map(&settled.collect::<Vec<_>>())
            }
            Value::List(items) => {
                let left = items.iter().filter(|item| item.tag != Directive::Reset);
                self.arena.list(&left.map(|item| self.settled(item)).collect::<Vec<_>>())
            }
            other => other,
        };
        self.arena.at(node.span, value)
    }
}

fn bare(shape: &'static Shape) -> &'static Shape {
    match shape {
        Shape::Optional(shape) => bare(shape),
        shape => shape,
    }
}

fn of(keys: &'static Keys, name: &str) -> (Option<&'static Shape>, Merge) {
    keys.find(name).map_or((None, Merge::Deep), |key| (Some(&key.shape), key.merge))
}

fn inner(shape: &'static Shape, name: &str) -> (Option<&'static Shape>, Merge) {
    match shape {
        Shape::Map(keys) => of(keys, name),
        Shape::Short(short) => of(short.long, name),
        Shape::Named(named) | Shape::Names(named) | Shape::Hosts(named) => (Some(&named.each), Merge::Deep),
        _ => (None, Merge::Deep),
    }
}

/// One after the other; of two that are the same one, the later in the place of the earlier.
fn list<'a>(below: &[&'a Node<'a>], above: &[&'a Node<'a>], items: &'static Items) -> Vec<&'a Node<'a>> {
    let mut found = below.to_vec();
    let mut places = HashMap::new();
    for (place, item) in below.iter().enumerate() {
        places.extend(identity(item, items.same).map(|identity| (identity, place)));
    }
    for item in above {
        match identity(item, items.same).and_then(|identity| places.get(&identity)) {
            Some(&place) => found[place] = item,
            None => found.push(item),
        }
    }
    found
}

fn has_directive(node: &Node<'_>) -> bool {
    node.tag != Directive::Merge
        || match node.value {
            Value::Map(entries) => entries.iter().any(|entry| has_directive(entry.value)),
            Value::List(items) => items.iter().any(|item| has_directive(item)),
            Value::Scalar(_) | Value::Bad => false,
        }
}
