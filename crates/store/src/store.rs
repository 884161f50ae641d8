//! The handle of the store.

use std::sync::Arc;

use crate::StoreError;
use crate::kv::{KeyValue, Op, RANGE_MAX, Txn, TxnOutcome};
use crate::writer::{Line, Request, Shared};

/// Keys and values under one revision. A cheap handle; clones share it.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    line: Arc<Line>,
}

impl Store {
    pub(crate) fn new(shared: Arc<Shared>, line: Arc<Line>) -> Self {
        Self { shared, line }
    }

    /// Grows by one with each transaction that changes something.
    pub fn revision(&self) -> u64 {
        self.shared.content().state.revision
    }

    /// One key.
    pub async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError> {
        Ok(self.shared.content().state.keys.get(key).cloned())
    }

    /// Keys that begin so, in order, after one of them, at most [`RANGE_MAX`].
    pub async fn range(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<KeyValue>, StoreError> {
        let content = self.shared.content();
        let from = after.unwrap_or(prefix).max(prefix).to_owned();
        let found = (content.state.keys.range(from..))
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(key, _)| after.is_none_or(|after| key.as_str() > after))
            .take(limit.min(RANGE_MAX));
        Ok(found.map(|(_, kv)| kv.clone()).collect())
    }

    /// All keys that begin so, page by page.
    pub async fn all(&self, prefix: &str) -> Result<Vec<KeyValue>, StoreError> {
        let mut found: Vec<KeyValue> = Vec::new();
        loop {
            let after = found.last().map(|kv| kv.key.clone());
            let page = self.range(prefix, after.as_deref(), RANGE_MAX).await?;
            if page.is_empty() {
                return Ok(found);
            }
            found.extend(page);
        }
    }

    /// Changes that happen together. Returns once they are kept.
    ///
    /// Errors: a limit is broken; the file cannot be written. Then nothing was changed.
    pub async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        txn.check()?;
        self.line.ask(|reply| Request::Txn(txn, reply)).await
    }

    /// Returns once readers see what is kept, also of what could not tell that it was: after
    /// [`StoreError::Unknown`] they do not, before this.
    ///
    /// Errors: it is still not known.
    pub async fn settle(&self) -> Result<(), StoreError> {
        // The writer finds out before it does anything; and there is nothing to do.
        self.txn(Txn::default()).await.map(drop)
    }

    /// Changes without a condition.
    pub async fn write(&self, ops: Vec<Op>) -> Result<TxnOutcome, StoreError> {
        self.txn(Txn { success: ops, ..Txn::default() }).await
    }
}
