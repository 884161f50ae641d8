//! The store's content, and what a transaction does to it. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kv::{Compare, KeyValue, Op, Txn, TxnOutcome};

/// All keys, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) keys: BTreeMap<String, KeyValue>,
    pub(crate) revision: u64,
}

/// What a group of transactions changed: what to write, and how to take it back.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// As it was before the group.
    before: BTreeMap<String, Option<KeyValue>>,
    revision: Option<u64>,
}

impl Changes {
    /// The keys that changed.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &String> {
        self.before.keys()
    }
}

impl State {
    fn holds(&self, compare: &Compare) -> bool {
        let is = |key: &str, test: &dyn Fn(&KeyValue) -> bool| self.keys.get(key).is_some_and(test);
        match compare {
            Compare::Absent(key) => !self.keys.contains_key(key),
            Compare::ModRevision(key, revision) => is(key, &|found| found.mod_revision == *revision),
            Compare::Version(key, version) => is(key, &|found| found.version == *version),
            Compare::Value(key, value) => is(key, &|found| found.value[..] == value[..]),
        }
    }

    /// Does a transaction that keeps the limits.
    pub(crate) fn apply(&mut self, txn: &Txn, changes: &mut Changes) -> TxnOutcome {
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare));
        let ops = if succeeded { &txn.success } else { &txn.failure };
        changes.revision.get_or_insert(self.revision);
        let next = self.revision + 1;
        let mut changed = false;
        for op in ops {
            match op {
                Op::Put { key, value } => {
                    let before = self.keys.get(key);
                    let after = KeyValue {
                        key: key.clone(),
                        value: Arc::from(&value[..]),
                        create_revision: before.map_or(next, |before| before.create_revision),
                        mod_revision: next,
                        version: before.map_or(1, |before| before.version + 1),
                    };
                    changed = true;
                    self.set(key, Some(after), changes);
                }
                Op::Delete { key } => changed |= self.set(key, None, changes),
                Op::DeletePrefix { prefix } => {
                    let found: Vec<String> = self.prefix(prefix).map(|(key, _)| key.clone()).collect();
                    for key in found {
                        changed |= self.set(&key, None, changes);
                    }
                }
            }
        }
        self.revision += u64::from(changed);
        TxnOutcome { succeeded, revision: self.revision }
    }

    fn set(&mut self, key: &str, after: Option<KeyValue>, changes: &mut Changes) -> bool {
        let before = match after {
            Some(after) => self.keys.insert(key.to_owned(), after),
            None => self.keys.remove(key),
        };
        let was_there = before.is_some();
        changes.before.entry(key.to_owned()).or_insert(before);
        was_there
    }

    /// As it was before these changes.
    pub(crate) fn take_back(&mut self, changes: Changes) {
        for (key, before) in changes.before {
            match before {
                Some(before) => drop(self.keys.insert(key, before)),
                None => drop(self.keys.remove(&key)),
            }
        }
        self.revision = changes.revision.unwrap_or(self.revision);
    }

    /// Keys that begin so, in order.
    pub(crate) fn prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a String, &'a KeyValue)> {
        self.keys.range(prefix.to_owned()..).take_while(move |(key, _)| key.starts_with(prefix))
    }
}
