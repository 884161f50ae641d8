//! Keys, values, transactions: etcd's shape and etcd's limits.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::StoreError;

/// etcd's `--max-txn-ops`.
pub const OPS_MAX: usize = 128;

/// Below [`REQUEST_MAX`], with room for the rest of a request.
pub const VALUE_MAX: usize = 1024 * 1024;

/// etcd's `--max-request-bytes`, of keys and values together.
pub const REQUEST_MAX: usize = 1536 * 1024;

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

impl Op {
    fn key(&self) -> &str {
        let (Self::Put { key, .. } | Self::Delete { key } | Self::DeletePrefix { prefix: key }) = self;
        key
    }

    fn size(&self) -> usize {
        match self {
            Self::Put { key, value } => key.len() + value.len(),
            Self::Delete { key } | Self::DeletePrefix { prefix: key } => key.len(),
        }
    }
}

impl Compare {
    fn key(&self) -> &str {
        let (Self::Absent(key) | Self::ModRevision(key, _) | Self::Version(key, _) | Self::Value(key, _)) =
            self;
        key
    }

    fn size(&self) -> usize {
        match self {
            Self::Value(key, value) => key.len() + value.len(),
            _ => self.key().len(),
        }
    }
}

impl Txn {
    /// Whether it keeps the limits.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        for count in [self.compare.len(), self.success.len(), self.failure.len()] {
            if count > OPS_MAX {
                return Err(StoreError::TooManyOps { count, max: OPS_MAX });
            }
        }
        let ops = || self.success.iter().chain(&self.failure);
        for key in self.compare.iter().map(Compare::key).chain(ops().map(Op::key)) {
            if key.is_empty() || key.len() > KEY_MAX {
                return Err(StoreError::BadKey { size: key.len(), max: KEY_MAX });
            }
        }
        for op in ops() {
            if let Op::Put { key, value } = op
                && value.len() > VALUE_MAX
            {
                let (key, size) = (key.clone(), value.len());
                return Err(StoreError::ValueTooLarge { key, size, max: VALUE_MAX });
            }
        }
        let size = self.compare.iter().map(Compare::size).chain(ops().map(Op::size)).sum();
        if size > REQUEST_MAX {
            return Err(StoreError::RequestTooLarge { size, max: REQUEST_MAX });
        }
        once_each(&self.success)?;
        once_each(&self.failure)
    }
}

/// No key is written twice: what would be left of it were a matter of order.
fn once_each(ops: &[Op]) -> Result<(), StoreError> {
    let mut written = BTreeSet::new();
    for op in ops {
        if !matches!(op, Op::DeletePrefix { .. }) && !written.insert(op.key()) {
            return Err(StoreError::DuplicateKey(op.key().to_owned()));
        }
    }
    for op in ops {
        if let Op::DeletePrefix { prefix } = op
            && let Some(key) = written.range(prefix.as_str()..).next().filter(|key| key.starts_with(prefix))
        {
            return Err(StoreError::DuplicateKey((*key).to_owned()));
        }
    }
    Ok(())
}
