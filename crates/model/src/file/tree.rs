//! A tree of values that know their place in a text. All of it is `Copy` and lives in an arena.

use super::index::Index;
use super::place::Span;

/// A value and its place. Shared where aliases name it more than once.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    pub(super) span: Span,
    pub(super) value: Value<'a>,
    pub(super) tag: Directive,
}

#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Scalar(Scalar<'a>),
    List(&'a [&'a Node<'a>]),
    Map(&'a [Entry<'a>]),
    /// What is wrong with it was said: nobody should look at it again.
    Bad,
}

/// What a value does to that of the files before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Directive {
    /// It is merged with it.
    #[default]
    Merge,
    /// `!override`: it takes its place.
    Override,
    /// `!reset`: there is none.
    Reset,
}

#[derive(Clone, Copy)]
pub(super) struct Scalar<'a> {
    pub(super) text: &'a str,
    pub(super) style: Style,
}

/// How a scalar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Without quotes, and not a block: only so it is a null.
    Plain,
    /// With quotes, or as a block; or made up.
    Quoted,
    /// In a canonical tree: a number, or true or false.
    Bare,
    /// As the first copy has it, made of a template that makes it anew for each: its number in the
    /// report.
    Each(u32),
}

#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) key: Key<'a>,
    pub(super) value: &'a Node<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Key<'a> {
    pub(super) text: &'a str,
    pub(super) span: Span,
}

impl<'a> Node<'a> {
    pub(super) fn new(span: Span, value: Value<'a>) -> Self {
        Self { span, value, tag: Directive::default() }
    }

    /// The value of a key, if this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&'a Node<'a>> {
        let found = self.entries().iter().find(|entry| entry.key.text == key);
        found.map(|entry| entry.value).filter(|node| node.tag != Directive::Reset)
    }

    /// The entries of a mapping; of anything else none.
    pub(super) fn entries(&self) -> &'a [Entry<'a>] {
        match self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The text of a scalar that is there.
    pub(super) fn as_text(&self) -> Option<&'a str> {
        match self.value {
            Value::Scalar(scalar) if !self.is_null() => Some(scalar.text),
            _ => None,
        }
    }

    /// `key:` with nothing behind it, or one of the words for nothing.
    pub(super) fn is_null(&self) -> bool {
        matches!(self.value, Value::Scalar(s)
            if s.style == Style::Plain && matches!(s.text, "" | "~" | "null" | "Null" | "NULL"))
    }

    /// Whether two canonical trees say the same, wherever they stand. What is wrong with one was said.
    pub(super) fn says_as(&self, other: &Node<'a>) -> bool {
        match (self.value, other.value) {
            _ if std::ptr::eq(self, other) => true,
            (Value::Bad, _) | (_, Value::Bad) => true,
            _ if self.tag != other.tag => false,
            (Value::Scalar(_), Value::Scalar(_)) if self.is_null() || other.is_null() => {
                self.is_null() && other.is_null()
            }
            (Value::Scalar(one), Value::Scalar(other)) => one.text == other.text,
            (Value::List(one), Value::List(other)) => {
                one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one.says_as(other))
            }
            (Value::Map(one), Value::Map(other)) => {
                let mut index = Index::default();
                let mut find = |name: &str| index.find(other, name).map(|place| other[place].value);
                let is_same =
                    |entry: &Entry<'a>| find(entry.key.text).is_some_and(|other| entry.value.says_as(other));
                one.len() == other.len() && one.iter().all(is_same)
            }
            _ => false,
        }
    }

    /// What it is, for people.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Scalar(_) if self.is_null() => "nothing",
            Value::Scalar(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
            Value::Bad => "something wrong",
        }
    }
}

/// How much a value is after following the aliases in it.
#[derive(Clone, Copy, Default)]
pub(super) struct Weight {
    pub(super) values: usize,
    pub(super) bytes: usize,
    pub(super) height: usize,
}

impl Weight {
    pub(super) fn of(node: &Node<'_>) -> Self {
        let mut weight = Self { values: 1, ..Self::default() };
        match node.value {
            Value::Scalar(scalar) => weight.bytes = scalar.text.len(),
            Value::List(items) => items.iter().for_each(|item| weight.add(Self::of(item))),
            Value::Map(entries) => entries.iter().for_each(|entry| weight.add(Self::of(entry.value))),
            Value::Bad => {}
        }
        weight
    }

    pub(super) fn add(&mut self, inner: Weight) {
        self.values = self.values.saturating_add(inner.values);
        self.bytes = self.bytes.saturating_add(inner.bytes);
        self.height = self.height.max(inner.height + 1);
    }
}
