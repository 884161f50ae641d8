//! The journal: records that are only ever added at the end, and forgotten at the beginning.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use crate::writer::{Request, Shared, ask};
use crate::{StoreError, VALUE_MAX};

/// So many records are kept; a day of a lively machine.
pub const JOURNAL_COUNT_MAX: usize = 100_000;

/// So many bytes are kept.
pub const JOURNAL_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Numbers and sizes of what a journal holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extent {
    /// The number of the first record there is, or will be.
    first: u64,
    sizes: VecDeque<u32>,
    bytes: usize,
}

impl Extent {
    pub(crate) fn of(records: Vec<(u64, usize)>) -> Self {
        let first = records.first().map_or(1, |(number, _)| *number);
        let bytes = records.iter().map(|(_, size)| size).sum();
        let size = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        Self { first, sizes: records.into_iter().map(|(_, bytes)| size(bytes)).collect(), bytes }
    }

    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    pub(crate) fn last(&self) -> u64 {
        self.first + self.sizes.len() as u64 - 1
    }

    pub(crate) fn append(&mut self, size: usize) -> u64 {
        self.sizes.push_back(u32::try_from(size).unwrap_or(u32::MAX));
        self.bytes += size;
        self.last()
    }

    pub(crate) fn truncate_before(&mut self, first: u64) {
        // The last record stays, so that numbers go on from it after a restart.
        while self.first < first && self.sizes.len() > 1 {
            self.drop_first();
        }
    }

    pub(crate) fn keep_bounds(&mut self) {
        while self.sizes.len() > JOURNAL_COUNT_MAX || (self.bytes > JOURNAL_BYTES_MAX && self.sizes.len() > 1)
        {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some(size) = self.sizes.pop_front() {
            self.first += 1;
            self.bytes -= size as usize;
        }
    }
}

/// Records, numbered from 1. A cheap handle; clones share it.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
    requests: Sender<Request>,
}

impl Journal {
    pub(crate) fn new(shared: Arc<Shared>, requests: Sender<Request>) -> Self {
        Self { shared, requests }
    }

    /// Adds records; returns the number of the last once all are kept. The oldest go when there
    /// are more than [`JOURNAL_COUNT_MAX`] or [`JOURNAL_BYTES_MAX`].
    pub async fn append(&self, records: Vec<Vec<u8>>) -> Result<u64, StoreError> {
        if let Some(large) = records.iter().find(|record| record.len() > VALUE_MAX) {
            let key = "a journal record".to_owned();
            return Err(StoreError::ValueTooLarge { key, size: large.len(), max: VALUE_MAX });
        }
        ask(&self.requests, |reply| Request::Append(records, reply)).await
    }

    /// Records after a number, in order.
    pub async fn read(&self, after: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        self.shared.backend().read(after, limit)
    }

    /// The number of the last record; 0 before the first.
    pub fn last(&self) -> u64 {
        self.shared.content().journal.last()
    }

    /// Forgets records before this number (but never the last).
    pub async fn truncate_before(&self, first: u64) -> Result<(), StoreError> {
        ask(&self.requests, |reply| Request::TruncateBefore(first, reply)).await
    }
}
