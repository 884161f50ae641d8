//! What `${…}` stands for in a file: the session comes first, then the files of variables of the
//! outermost project, then those of what it includes.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::{Resolver, words};

/// The variables of one project; those of all it includes are built upon them.
pub(super) struct Variables<'a> {
    resolver: &'a dyn Resolver,
    /// Of its own files.
    own: BTreeMap<String, String>,
    /// Of the project that includes this one.
    outer: Option<Rc<Variables<'a>>>,
}

impl<'a> Variables<'a> {
    /// Those of the session alone.
    pub(super) fn session(resolver: &'a dyn Resolver) -> Rc<Self> {
        Rc::new(Self { resolver, own: BTreeMap::new(), outer: None })
    }

    /// These, and for what they do not know the others.
    pub(super) fn with(self: &Rc<Self>, others: BTreeMap<String, String>) -> Rc<Self> {
        match others.is_empty() {
            true => Rc::clone(self),
            false => Rc::new(Self { resolver: self.resolver, own: others, outer: Some(Rc::clone(self)) }),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        let in_files = || self.all().filter_map(|variables| variables.own.get(name)).last();
        self.of_session(name).map(Cow::Owned).or_else(|| in_files().map(Cow::from))
    }

    /// A variable of the session.
    pub(super) fn of_session(&self, name: &str) -> Option<String> {
        self.resolver.variable(name)
    }

    /// What somebody may have meant who named one that there is not, worded as a hint.
    pub(super) fn did_you_mean(&self, name: &str) -> Option<String> {
        let of_session = self.resolver.names();
        let of_files = self.all().flat_map(|variables| variables.own.keys());
        words::did_you_mean(name, of_session.iter().chain(of_files).map(String::as_str))
    }

    /// Whether both give the same to every name.
    pub(super) fn are_as(&self, other: &Self) -> bool {
        let names: BTreeSet<&String> = self.all().chain(other.all()).flat_map(|v| v.own.keys()).collect();
        names.into_iter().all(|name| self.get(name) == other.get(name))
    }

    /// The innermost first.
    fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |variables| variables.outer.as_deref())
    }
}
