//! Where trees and their texts live: side by side, and given back all at once.
//!
//! A large file makes a million nodes. Each with an allocation of its own, half of the time would go
//! into giving them back one by one.
//!
//! Laws: nothing that lives here needs dropping, since nobody would; whoever makes a tree of another
//! shares with it what is the same, down to the whole.

use std::borrow::Cow;

use bumpalo::Bump;

use super::place::Span;
use super::tree::{Entry, Node, Value};

/// Makes what lives as long as the reading of a project takes.
#[derive(Clone, Copy)]
pub(super) struct Arena<'a>(&'a Bump);

impl<'a> Arena<'a> {
    pub(super) fn new(bump: &'a Bump) -> Self {
        Self(bump)
    }

    pub(super) fn text<'t: 'a>(self, text: impl Into<Cow<'t, str>>) -> &'a str {
        match text.into() {
            Cow::Borrowed(text) => text,
            Cow::Owned(text) => self.0.alloc_str(&text),
        }
    }

    pub(super) fn node(self, node: Node<'a>) -> &'a Node<'a> {
        self.0.alloc(node)
    }

    pub(super) fn list(self, items: &[&'a Node<'a>]) -> Value<'a> {
        Value::List(self.0.alloc_slice_copy(items))
    }

    pub(super) fn map(self, entries: &[Entry<'a>]) -> Value<'a> {
        Value::Map(self.0.alloc_slice_copy(entries))
    }

    /// A value at this place.
    pub(super) fn at(self, span: Span, value: Value<'a>) -> &'a Node<'a> {
        self.node(Node::new(span, value))
    }

    /// The same place, with another value.
    pub(super) fn with(self, node: &Node<'a>, value: Value<'a>) -> &'a Node<'a> {
        self.node(Node { value, ..*node })
    }

    /// The same place, with these items. The very same node, where they are its own.
    pub(super) fn with_items(self, node: &'a Node<'a>, items: &[&'a Node<'a>]) -> &'a Node<'a> {
        let is_own = |own: &[&'a Node<'a>]| {
            own.len() == items.len() && own.iter().zip(items).all(|(own, item)| std::ptr::eq(*own, *item))
        };
        match node.value {
            Value::List(own) if is_own(own) => node,
            _ => self.with(node, self.list(items)),
        }
    }

    /// The same place, with these entries. The very same node, where they are its own.
    pub(super) fn with_entries(self, node: &'a Node<'a>, entries: &[Entry<'a>]) -> &'a Node<'a> {
        let is_own = |own: &[Entry<'a>]| {
            let same = |(own, entry): (&Entry<'a>, &Entry<'a>)| {
                std::ptr::eq(own.value, entry.value) && own.key == entry.key
            };
            own.len() == entries.len() && own.iter().zip(entries).all(same)
        };
        match node.value {
            Value::Map(own) if is_own(own) => node,
            _ => self.with(node, self.map(entries)),
        }
    }
}
