//! Webhooks: whoever wants to know is told of events, even when it was away.
//!
//! A webhook reads the journal at its own pace, one event after the other, and keeps how far it came. Laws:
//! * At least once, in order: the next is told when the one before was taken and not earlier. What was taken and
//!   not kept, as the daemon was killed between, is told again under the same id.
//! * A webhook holds one event at a time, whatever waits: the journal is the queue. What it has dropped meanwhile
//!   is told of as lost.
//! * Each goes on its own, so who is slow delays nobody else.
//! * No secret leaves this room but by a signature, and no address but to its receiver.

mod keep;
mod one;
mod sign;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use tokio::task::AbortHandle;
use upbeat_model::webhook::Wanted;
use upbeat_model::{Wall, WebhookName, WebhookState, WebhookTested};
use upbeat_store::{Store, StoreError};

use crate::events::EventLog;
use one::One;
pub use sign::{SECRET_BYTES_MIN, SECRETS_MAX, Secrets};

/// So many webhooks, each of which is a task and a connection at times.
pub const WEBHOOKS_MAX: usize = 16;

/// A webhook, as the settings have it.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Its name.
    pub name: WebhookName,
    /// Whom it tells.
    pub url: String,
    /// Where its secrets are.
    pub secret_file: PathBuf,
    /// Of which events.
    pub wanted: Wanted,
}

/// Without its address, of which any part may be a secret.
impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Something that comes later.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who reads secrets and sends requests. Bounds the time each takes.
pub trait Courier: Send + Sync + 'static {
    /// The text of a file of secrets, as it is now.
    ///
    /// Errors, in words: it cannot be read, or could be read by others.
    fn secrets<'a>(&'a self, file: &'a Path) -> Pending<'a, Result<String, String>>;

    /// Posts JSON with these headers besides; the status of the answer. No redirect is followed.
    ///
    /// Errors, in words, without the address: there is no answer.
    fn post<'a>(
        &'a self,
        url: &'a str,
        headers: BTreeMap<String, String>,
        body: Vec<u8>,
    ) -> Pending<'a, Result<u16, String>>;
}

/// What is needed of the surroundings.
#[derive(Clone)]
pub struct Settings {
    /// The clock on the wall.
    pub wall: fn() -> Wall,
    /// Any number, each time another.
    pub chance: fn() -> u64,
    /// Who sends.
    pub courier: Arc<dyn Courier>,
    /// Called at named points (`webhook_told`: something was told, and nothing of that is kept yet), so that a
    /// test can kill the process there.
    pub failpoint: fn(&str),
}

/// Why a webhook could not be tested.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TestError {
    /// There is none of that name.
    #[error("there is no webhook `{name}`")]
    NoSuchWebhook {
        /// Which.
        name: WebhookName,
        /// Those there are.
        known: Vec<WebhookName>,
    },
    /// One test of one webhook at a time.
    #[error("the webhook `{0}` is being tested already")]
    UnderWay(WebhookName),
    /// The test itself could not be written.
    #[error("the test could not be written: {0}")]
    Unwritable(String),
}

/// All webhooks of a daemon. A cheap handle; clones share it. When the last is dropped, nothing more is told.
#[derive(Clone)]
pub struct Webhooks {
    inner: Arc<Inner>,
}

struct Inner {
    all: Vec<Arc<One>>,
    telling: Vec<AbortHandle>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.telling.iter().for_each(AbortHandle::abort);
    }
}

impl Webhooks {
    /// Goes on where each came to; a new one begins with what happens from now on. Names are told apart by whoever
    /// read the settings.
    ///
    /// Errors: what was kept cannot be read.
    pub async fn open(
        store: Store,
        events: EventLog,
        webhooks: Vec<Webhook>,
        settings: Settings,
    ) -> Result<Self, StoreError> {
        let names: Vec<&WebhookName> = webhooks.iter().map(|webhook| &webhook.name).collect();
        if let Err(error) = keep::keep_only(&store, &names).await {
            tracing::warn!(%error, "webhooks that are no longer set could not be forgotten");
        }
        let (mut all, mut telling) = (Vec::new(), Vec::new());
        for webhook in webhooks {
            let one = Arc::new(One::open(store.clone(), events.clone(), webhook, settings.clone()).await?);
            telling.push(tokio::spawn(one.clone().tell()).abort_handle());
            all.push(one);
        }
        Ok(Self { inner: Arc::new(Inner { all, telling }) })
    }

    /// Each, and how it goes, by name.
    ///
    /// Errors: the events cannot be read.
    pub async fn list(&self) -> Result<Vec<WebhookState>, StoreError> {
        let mut states = Vec::new();
        for one in &self.inner.all {
            states.push(one.state().await?);
        }
        states.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(states)
    }

    /// Sends a test, now and once, whatever else waits.
    ///
    /// Errors: it was not sent. That it was not taken is an answer.
    pub async fn test(&self, name: &WebhookName) -> Result<WebhookTested, TestError> {
        let Some(one) = self.inner.all.iter().find(|one| one.name() == name) else {
            let known = self.inner.all.iter().map(|one| one.name().clone()).collect();
            return Err(TestError::NoSuchWebhook { name: name.clone(), known });
        };
        one.test().await
    }
}
