//! What of a webhook outlives the daemon: how far it came, and under which ids.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use upbeat_model::{AppName, Wall, WebhookLost, WebhookName};
use upbeat_store::{Op, Store, StoreError};

use super::Webhook;

/// Where they are in the store.
const PREFIX: &str = "webhook/";

/// What is kept of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// What its ids begin with.
    pub(super) origin: String,
    /// Up to this number all was told, or was not wanted.
    pub(super) after: u64,
    /// To whom, and what was wanted: [`aim`]. None: it was kept by a daemon that did not know it.
    #[serde(default)]
    pub(super) aim: Option<String>,
    /// The last event that was taken, and when.
    pub(super) delivered: Option<(u64, Wall)>,
    /// What was gone before it was told.
    pub(super) lost: Option<WebhookLost>,
}

/// A hash of whom it tells, and of what; another for each origin, so that what is kept does not show which webhooks
/// have the same address. In which order the settings name what is wanted does not matter, nor which kinds of events
/// there are by now: it is made of what was written, or a webhook would have to begin anew with each that is added.
pub(super) fn aim(origin: &str, webhook: &Webhook) -> String {
    let Webhook { url, wanted, .. } = webhook;
    let kinds = wanted.words.iter().map(String::as_str).collect();
    let apps = wanted.apps.iter().map(AppName::as_str).collect();
    let namespaces = wanted.namespaces.iter().map(String::as_str).collect();
    let mut hasher = blake3::Hasher::new();
    for words in [BTreeSet::from([origin]), BTreeSet::from([url.as_str()]), kinds, apps, namespaces] {
        // With their numbers before them, no two aims are the same bytes.
        hasher.update(&(words.len() as u64).to_le_bytes());
        for word in words {
            hasher.update(&(word.len() as u64).to_le_bytes());
            hasher.update(word.as_bytes());
        }
    }
    hasher.finalize().to_hex().to_string()
}

fn key(name: &WebhookName) -> String {
    format!("{PREFIX}{name}")
}

/// What is kept of it.
#[derive(Debug)]
pub(super) enum Found {
    Kept(Kept),
    /// It is new.
    Nothing,
    /// What is there cannot be understood: nobody knows how far it came.
    Unreadable(serde_json::Error),
}

/// Errors: the store cannot be read.
pub(super) async fn read(store: &Store, name: &WebhookName) -> Result<Found, StoreError> {
    Ok(match store.get(&key(name)).await? {
        None => Found::Nothing,
        Some(found) => match serde_json::from_slice(&found.value) {
            Ok(kept) => Found::Kept(kept),
            Err(error) => Found::Unreadable(error),
        },
    })
}

/// Returns once it is kept.
///
/// Errors: it is not, or nobody knows.
pub(super) async fn write(store: &Store, name: &WebhookName, kept: &Kept) -> Result<(), StoreError> {
    let value = serde_json::to_vec(kept)
        .map_err(|error| StoreError::Unreadable { key: key(name), detail: error.to_string() })?;
    store.write(vec![Op::put(key(name), value)]).await.map(drop)
}

/// Forgets those that are not among these: a name that comes again is a new webhook.
///
/// Errors: they are still there.
pub(super) async fn keep_only(store: &Store, names: &[&WebhookName]) -> Result<(), StoreError> {
    let known: Vec<String> = names.iter().map(|name| key(name)).collect();
    let all = store.all(PREFIX).await?;
    let gone = all.into_iter().map(|kept| kept.key).filter(|key| !known.contains(key));
    for key in gone {
        store.write(vec![Op::delete(key)]).await?;
    }
    Ok(())
}
