//! What goes on on a connection once it is no HTTP any more.
//!
//! A handler that answers with 101 leaves here what is to be done then; the connection does it in its own place at the
//! door, when HTTP has ended. So it is counted, cut off and waited for like any other connection.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;

/// Of one connection: what follows HTTP, if something does.
#[derive(Clone, Default)]
pub(crate) struct Afterwards(Arc<Mutex<Option<BoxFuture<'static, ()>>>>);

impl Afterwards {
    /// This is done then.
    pub(crate) fn then(&self, what: impl Future<Output = ()> + Send + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::pin(what));
    }

    /// What is to be done, by whoever does it; or drops it, and then it is not.
    pub(crate) fn take(&self) -> Option<BoxFuture<'static, ()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// It holds this until it is over.
    pub(crate) fn holding(&self, held: impl Send + 'static) {
        self.unless(async move {
            let _held = held;
            std::future::pending().await
        });
    }

    /// It breaks off when this is over.
    pub(crate) fn unless(&self, over: impl Future<Output = ()> + Send + 'static) {
        if let Some(what) = self.take() {
            self.then(async move {
                tokio::select! {
                    () = what => {}
                    () = over => {}
                }
            });
        }
    }
}
