//! Keys, values, transactions: etcd's shape and etcd's limits.

use std::sync::Arc;

use crate::StoreError;

/// etcd's `--max-txn-ops`.
pub const OPS_MAX: usize = 128;

/// Below etcd's `--max-request-bytes` of 1.5 MiB, with room for the rest of a request.
pub const VALUE_MAX: usize = 1024 * 1024;

/// Long enough for any of our paths.
pub const KEY_MAX: usize = 1024;

/// No page is larger.
pub const RANGE_MAX: usize = 1000;

/// A key, its value, and when it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Arc<[u8]>,
    /// The store's revision when the key was made.
    pub create_revision: u64,
    /// The store's revision when it was written last.
    pub mod_revision: u64,
    /// How often it was written since it was made, from 1.
    pub version: u64,
}

/// One condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// There is no such key.
    Absent(String),
    /// The key was written last at this revision.
    ModRevision(String, u64),
    /// The key was written so often.
    Version(String, u64),
    /// The key has this value.
    Value(String, Vec<u8>),
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Write a key.
    Put {
        /// Which.
        key: String,
        /// What.
        value: Vec<u8>,
    },
    /// Delete a key; one that is not there is fine.
    Delete {
        /// Which.
        key: String,
    },
    /// Delete all keys that begin so.
    DeletePrefix {
        /// How.
        prefix: String,
    },
}

impl Op {
    /// Writes a key.
    pub fn put(key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self::Put { key: key.into(), value: value.into() }
    }

    /// Deletes a key.
    pub fn delete(key: impl Into<String>) -> Self {
        Self::Delete { key: key.into() }
    }
}

/// Changes that happen together, if all conditions hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// The conditions.
    pub compare: Vec<Compare>,
    /// What to do when all hold.
    pub success: Vec<Op>,
    /// What to do when one does not.
    pub failure: Vec<Op>,
}

/// What a transaction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnOutcome {
    /// All conditions held.
    pub succeeded: bool,
    /// The store's revision after it. Each transaction that changes something adds one.
    pub revision: u64,
}

impl Txn {
    /// Whether it keeps the limits.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        for ops in [&self.success, &self.failure] {
            if ops.len() > OPS_MAX {
                return Err(StoreError::TooManyOps { count: ops.len(), max: OPS_MAX });
            }
            let mut written = std::collections::BTreeSet::new();
            for op in ops {
                let (Op::Put { key, .. } | Op::Delete { key } | Op::DeletePrefix { prefix: key }) = op;
                if key.is_empty() || key.len() > KEY_MAX {
                    return Err(StoreError::BadKey { size: key.len(), max: KEY_MAX });
                }
                if let Op::Put { key, value } = op
                    && value.len() > VALUE_MAX
                {
                    return Err(StoreError::ValueTooLarge {
                        key: key.clone(),
                        size: value.len(),
                        max: VALUE_MAX,
                    });
                }
                if !matches!(op, Op::DeletePrefix { .. }) && !written.insert(key) {
                    return Err(StoreError::DuplicateKey(key.clone()));
                }
            }
        }
        if self.compare.len() > OPS_MAX {
            return Err(StoreError::TooManyOps { count: self.compare.len(), max: OPS_MAX });
        }
        Ok(())
    }
}
