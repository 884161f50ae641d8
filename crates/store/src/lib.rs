//! State that survives: an etcd-shaped store, and a journal that is appended to.
//!
//! Guarantees: what was acknowledged is there after `kill -9`, and with [`Durability::Machine`] after
//! a power cut; a transaction is there whole or not at all; what a failed commit said is either not there, or it is
//! and that is found out: only [`StoreError::Unknown`] leaves it open, until the file can be read again.
//! Every backend keeps etcd's limits from the first day, so that nothing has to shrink when etcd
//! comes. Watches and leases come with their first tenant, the cluster.

mod backend;
mod chunked;
mod error;
#[cfg(any(test, feature = "faults"))]
pub mod faults;
mod journal;
mod kv;
mod state;
mod store;
mod writer;

use std::path::Path;

pub use backend::Durability;
pub use chunked::CHUNK_MAX;
pub use error::StoreError;
pub use journal::{APPEND_MAX, JOURNAL_BYTES_MAX, JOURNAL_COUNT_MAX, Journal};
pub use kv::{Compare, KEY_MAX, KeyValue, OPS_MAX, Op, RANGE_MAX, REQUEST_MAX, Txn, TxnOutcome, VALUE_MAX};
pub use store::Store;

/// Opens, or makes, a file that holds a store and a journal. Private to its owner.
///
/// Errors: another process has it open; it is not ours or is damaged; the system said no.
pub fn open_redb(path: &Path, durability: Durability) -> Result<(Store, Journal), StoreError> {
    writer::start(backend::Redb::open(path, durability)?)
}

/// A store and a journal that are gone with the process.
pub fn open_memory() -> Result<(Store, Journal), StoreError> {
    writer::start(backend::Memory::default())
}

#[cfg(test)]
mod tests;
