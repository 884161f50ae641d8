//! Makes one tree of two, the second over the first, by the grammar's rules.
//!
//! Both are canonical, so that everything that can be said in two ways is said in one.
//! Source: the Compose Specification, "Merge".

use std::collections::HashMap;
use std::rc::Rc;

use super::canon::identity;
use super::shape::{Items, Keys, Merge, Shape};
use super::tree::{Directive, Entry, Node, Value};

/// What two mappings with these keys make.
pub(super) fn over<'a>(base: &Rc<Node<'a>>, over: &Rc<Node<'a>>, keys: &'static Keys) -> Rc<Node<'a>> {
    let (Value::Map(below), Value::Map(above)) = (&base.value, &over.value) else { return Rc::clone(over) };
    over.with(Value::Map(entries(below, above, &|name| {
        keys.find(name).map_or((None, Merge::Deep), |key| (Some(&key.shape), key.merge))
    })))
}

/// How the value of a key is merged.
type Rule<'r> = &'r dyn Fn(&str) -> (Option<&'static Shape>, Merge);

fn entries<'a>(below: &[Entry<'a>], above: &[Entry<'a>], rule: Rule<'_>) -> Vec<Entry<'a>> {
    let mut found: Vec<Option<Entry<'a>>> = below.iter().cloned().map(Some).collect();
    let places: HashMap<&str, usize> = below.iter().enumerate().map(|(i, e)| (&*e.key.text, i)).collect();
    for entry in above {
        match places.get(&*entry.key.text) {
            None if entry.value.tag == Directive::Reset => {}
            None => found.push(Some(entry.clone())),
            Some(&place) => {
                let (shape, merge) = rule(&entry.key.text);
                let below = found[place].as_ref().map(|below| Rc::clone(&below.value));
                let value = match below {
                    Some(below) => value(&below, &entry.value, shape, merge),
                    None => Some(Rc::clone(&entry.value)),
                };
                found[place] = value.map(|value| Entry { key: entry.key.clone(), value });
            }
        }
    }
    found.into_iter().flatten().collect()
}

/// `None`: there is none any more.
fn value<'a>(
    base: &Rc<Node<'a>>,
    over: &Rc<Node<'a>>,
    shape: Option<&'static Shape>,
    merge: Merge,
) -> Option<Rc<Node<'a>>> {
    match over.tag {
        Directive::Reset => return None,
        Directive::Override => return Some(Rc::clone(over)),
        Directive::Merge => {}
    }
    let is_other_driver = || {
        let driver =
            |node: &Node<'a>| node.get("driver").and_then(|driver| driver.as_text()).map(str::to_owned);
        matches!((driver(base), driver(over)), (Some(one), Some(other)) if one != other)
    };
    match (merge, shape) {
        (Merge::Replace, _) => return Some(Rc::clone(over)),
        (Merge::SameDriver, _) if is_other_driver() => return Some(Rc::clone(over)),
        _ => {}
    }
    Some(match (&base.value, &over.value, shape.map(bare)) {
        (Value::Map(below), Value::Map(above), Some(shape)) => {
            over.with(Value::Map(entries(below, above, &|name| inner(shape, name))))
        }
        (Value::List(below), Value::List(above), Some(Shape::List(items) | Shape::Items(items))) => {
            over.with(Value::List(list(below, above, items)))
        }
        // Nothing is no word against something.
        (Value::Map(_), Value::Scalar(_), Some(Shape::Map(_) | Shape::Named(_))) if over.is_null() => {
            Rc::clone(base)
        }
        _ => Rc::clone(over),
    })
}

fn bare(shape: &'static Shape) -> &'static Shape {
    match shape {
        Shape::Optional(shape) => bare(shape),
        shape => shape,
    }
}

fn inner(shape: &'static Shape, name: &str) -> (Option<&'static Shape>, Merge) {
    let of = |keys: &'static Keys| {
        keys.find(name).map_or((None, Merge::Deep), |key| (Some(&key.shape), key.merge))
    };
    match shape {
        Shape::Map(keys) => of(keys),
        Shape::Short(short) => of(short.long),
        Shape::Named(named) | Shape::Names(named) => (Some(&named.each), Merge::Deep),
        _ => (None, Merge::Deep),
    }
}

/// One after the other; of two that are the same one, the later in the place of the earlier.
fn list<'a>(below: &[Rc<Node<'a>>], above: &[Rc<Node<'a>>], items: &'static Items) -> Vec<Rc<Node<'a>>> {
    let mut found: Vec<Rc<Node<'a>>> = below.to_vec();
    let mut places: HashMap<String, usize> = HashMap::new();
    for (place, item) in below.iter().enumerate() {
        places.extend(identity(item, items.same).map(|identity| (identity, place)));
    }
    for item in above {
        match identity(item, items.same).and_then(|identity| places.get(&identity)) {
            Some(&place) => found[place] = Rc::clone(item),
            None => found.push(Rc::clone(item)),
        }
    }
    found
}

/// What is left of a tree: without what `!reset` takes away, where nothing stood below it.
pub(super) fn settled<'a>(node: &Rc<Node<'a>>) -> Rc<Node<'a>> {
    if !has_directive(node) {
        return Rc::clone(node);
    }
    let value = match &node.value {
        Value::Map(entries) => {
            let left = entries.iter().filter(|entry| entry.value.tag != Directive::Reset);
            Value::Map(left.map(|e| Entry { key: e.key.clone(), value: settled(&e.value) }).collect())
        }
        Value::List(items) => {
            Value::List(items.iter().filter(|item| item.tag != Directive::Reset).map(settled).collect())
        }
        other => other.clone(),
    };
    Rc::new(Node::new(node.span, value))
}

fn has_directive(node: &Node<'_>) -> bool {
    node.tag != Directive::Merge
        || match &node.value {
            Value::Map(entries) => entries.iter().any(|entry| has_directive(&entry.value)),
            Value::List(items) => items.iter().any(|item| has_directive(item)),
            Value::Scalar(_) | Value::Bad => false,
        }
}
