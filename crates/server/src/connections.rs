//! How many connections this process serves, over all its listeners.

use std::sync::atomic::{AtomicUsize, Ordering};

static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Connections that are served now.
pub fn open() -> usize {
    OPEN.load(Ordering::Relaxed)
}

/// One connection, until it is dropped.
pub(crate) struct Open(());

impl Open {
    pub(crate) fn one() -> Self {
        OPEN.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}
