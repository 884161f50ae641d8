//! The journal: records that are only ever added at the end, and forgotten at the beginning.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::writer::{Line, Request, Shared};
use crate::{RANGE_MAX, StoreError, VALUE_MAX};

/// So many records are kept; a day of a lively machine.
pub const JOURNAL_COUNT_MAX: usize = 100_000;

/// So many bytes are kept.
pub const JOURNAL_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Bytes of records that are added at once: a page of large ones, and little beside what is kept.
pub const APPEND_MAX: usize = 4 * 1024 * 1024;

/// Numbers and sizes of what a journal holds.
#[derive(Debug)]
pub(crate) struct Extent {
    /// The number of the first record there is, or will be.
    first: u64,
    sizes: VecDeque<u32>,
    bytes: usize,
}

impl Default for Extent {
    fn default() -> Self {
        Self::of(Vec::new())
    }
}

impl Extent {
    pub(crate) fn of(records: Vec<(u64, usize)>) -> Self {
        let first = records.first().map_or(1, |(number, _)| *number);
        let bytes = records.iter().map(|(_, size)| size).sum();
        let size = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        Self { first, sizes: records.into_iter().map(|(_, bytes)| size(bytes)).collect(), bytes }
    }

    pub(crate) fn last(&self) -> u64 {
        self.first + self.sizes.len() as u64 - 1
    }

    /// What may be added to it; nothing of it is there before it is committed.
    pub(crate) fn growth(&self) -> Growth {
        Growth { next: self.last() + 1, sizes: Vec::new(), first: self.first }
    }

    /// The number the journal shall begin with after a growth, if that is another than now: so
    /// that it keeps its bounds. The last record stays, so that numbers go on after a restart.
    pub(crate) fn first_after(&self, growth: &Growth) -> Option<u64> {
        let added: usize = growth.sizes.iter().map(|size| *size as usize).sum();
        let (mut count, mut bytes) = (self.sizes.len() + growth.sizes.len(), self.bytes + added);
        let mut first = self.first;
        for size in self.sizes.iter().chain(&growth.sizes) {
            let asked = first < growth.first;
            let too_much = count > JOURNAL_COUNT_MAX || bytes > JOURNAL_BYTES_MAX;
            if count <= 1 || !(asked || too_much) {
                break;
            }
            first += 1;
            count -= 1;
            bytes -= *size as usize;
        }
        (first != self.first).then_some(first)
    }

    /// What was committed is there.
    pub(crate) fn grow(&mut self, growth: &Growth, first: Option<u64>) {
        self.bytes += growth.sizes.iter().map(|size| *size as usize).sum::<usize>();
        self.sizes.extend(&growth.sizes);
        while first.is_some_and(|first| self.first < first)
            && let Some(size) = self.sizes.pop_front()
        {
            self.first += 1;
            self.bytes -= size as usize;
        }
    }
}

/// Records that are about to be committed.
pub(crate) struct Growth {
    next: u64,
    sizes: Vec<u32>,
    /// Somebody asked to forget all before this.
    first: u64,
}

impl Growth {
    /// One more; returns its number.
    pub(crate) fn append(&mut self, size: usize) -> u64 {
        self.sizes.push(u32::try_from(size).unwrap_or(u32::MAX));
        self.next += 1;
        self.next - 1
    }

    pub(crate) fn last(&self) -> u64 {
        self.next - 1
    }

    pub(crate) fn truncate_before(&mut self, first: u64) {
        self.first = self.first.max(first);
    }
}

/// Records, numbered from 1. A cheap handle; clones share it.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
    line: Arc<Line>,
}

impl Journal {
    pub(crate) fn new(shared: Arc<Shared>, line: Arc<Line>) -> Self {
        Self { shared, line }
    }

    /// Adds records; returns the number of the last once all are kept. The oldest go when there
    /// are more than [`JOURNAL_COUNT_MAX`] or [`JOURNAL_BYTES_MAX`]. At most [`APPEND_MAX`] bytes at
    /// once.
    pub async fn append(&self, records: Vec<Vec<u8>>) -> Result<u64, StoreError> {
        if let Some(large) = records.iter().find(|record| record.len() > VALUE_MAX) {
            let key = "a journal record".to_owned();
            return Err(StoreError::ValueTooLarge { key, size: large.len(), max: VALUE_MAX });
        }
        let size = records.iter().map(Vec::len).sum();
        if size > APPEND_MAX {
            return Err(StoreError::RequestTooLarge { size, max: APPEND_MAX });
        }
        self.line.ask(|reply| Request::Append(records, reply)).await
    }

    /// Records after a number, in order, at most [`RANGE_MAX`].
    pub async fn read(&self, after: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        self.shared.backend().read(after, limit.min(RANGE_MAX))
    }

    /// The number of the last record; 0 before the first.
    pub fn last(&self) -> u64 {
        self.shared.content().journal.last()
    }

    /// Forgets records before this number (but never the last).
    pub async fn truncate_before(&self, first: u64) -> Result<(), StoreError> {
        self.line.ask(|reply| Request::TruncateBefore(first, reply)).await
    }
}
