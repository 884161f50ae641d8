//! What a store can refuse, and what can go wrong.

use std::path::PathBuf;

/// Why a store did not do it. Nothing was changed, but for [`StoreError::Unknown`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Too many operations in one transaction.
    #[error("a transaction of {count} operations is larger than the limit of {max}")]
    TooManyOps {
        /// How many.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// A value that is too large.
    #[error("the value of `{key}` has {size} bytes, more than the limit of {max}")]
    ValueTooLarge {
        /// Of which key.
        key: String,
        /// Its size.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// A transaction that is too large.
    #[error("a request of {size} bytes is larger than the limit of {max}")]
    RequestTooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// A key that is empty or too long.
    #[error("a key of {size} bytes is not allowed: from 1 to {max}")]
    BadKey {
        /// Its size.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// One key is written twice in one transaction.
    #[error("`{0}` is written twice in one transaction")]
    DuplicateKey(String),
    /// Another process has the file open.
    #[error("{} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// The file is not ours, or is damaged.
    #[error("{} is damaged: {detail}", path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The system said no: the disk is full, or worse.
    #[error("the store cannot use its file: {0}")]
    Io(String),
    /// The system said no half-way, and does not let the file be read again: the change may be there.
    #[error("the store cannot tell what it has kept: {0}")]
    Unknown(String),
    /// A value that cannot be read as what it should be.
    #[error("`{key}` holds something else than expected: {detail}")]
    Unreadable {
        /// Which key.
        key: String,
        /// What was found.
        detail: String,
    },
    /// Somebody else wrote the key at the same time.
    #[error("`{0}` was written by somebody else at the same time")]
    Conflict(String),
    /// The writer is gone: it panicked, which is a bug.
    #[error("the store has stopped")]
    Stopped,
}
