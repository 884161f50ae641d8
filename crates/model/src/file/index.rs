//! Finds entries by name, in a mapping that may still grow.

use std::collections::HashMap;

use super::tree::Entry;

/// So many are faster looked through than looked up.
const FEW: usize = 12;

/// The table of one mapping. Most have few keys and need none.
#[derive(Default)]
pub(super) struct Index<'a> {
    /// The first places of the mapping, as many as are known yet.
    places: HashMap<&'a str, usize>,
}

impl<'a> Index<'a> {
    /// The place of a name. Always asked with the same entries, of which each name is there once;
    /// there may be more of them than the last time.
    pub(super) fn find(&mut self, entries: &[Entry<'a>], name: &str) -> Option<usize> {
        if entries.len() <= FEW {
            return entries.iter().position(|entry| entry.key.text == name);
        }
        let known = self.places.len();
        let new = entries.iter().enumerate().skip(known);
        self.places.extend(new.map(|(place, entry)| (entry.key.text, place)));
        self.places.get(name).copied()
    }

    pub(super) fn has(&mut self, entries: &[Entry<'a>], name: &str) -> bool {
        self.find(entries, name).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::place::Span;
    use crate::file::tree::{Key, Node, Value};

    #[test]
    fn a_name_is_found_among_few_and_among_many_also_while_they_grow() {
        let names: Vec<String> = (0..3 * FEW).map(|n| format!("n{n}")).collect();
        let (span, node) = (Span::NOWHERE, Node::new(Span::NOWHERE, Value::Bad));
        let entry = |text| Entry { key: Key { text, span }, value: &node };
        let (mut entries, mut index) = (Vec::new(), Index::default());
        for (place, name) in names.iter().enumerate() {
            assert_eq!(index.find(&entries, name), None);
            entries.push(entry(name));
            assert_eq!(index.find(&entries, name), Some(place));
            assert_eq!(index.find(&entries, "n0"), Some(0));
        }
    }
}
