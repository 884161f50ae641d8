//! What control keeps, and how.
//!
//! `apps/<name>`: an [`AppRecord`], chunked. `operations/<number>`: an [`OperationRecord`], chunked.
//! `next-operation` and `boot`: a number and a text. A command's record and its operation's number
//! are one transaction; the operation's record is written before it, so that an acknowledged
//! operation is never without one.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use upbeat_model::{AppName, OperationId};
use upbeat_store::{Op, Store, StoreError};

use crate::record::{AppRecord, OperationRecord};
use crate::state::Forgotten;

const APPS: &str = "apps/";
const OPERATIONS: &str = "operations/";
const NEXT: &str = "next-operation";
const BOOT: &str = "boot";

/// What was kept.
pub(crate) struct Kept {
    pub(crate) apps: BTreeMap<AppName, AppRecord>,
    pub(crate) operations: BTreeMap<OperationId, OperationRecord>,
    pub(crate) next_operation: OperationId,
    pub(crate) boot_id: Option<String>,
}

pub(crate) async fn load(store: &Store) -> Result<Kept, StoreError> {
    store.sweep(APPS).await?;
    store.sweep(OPERATIONS).await?;
    let mut apps = BTreeMap::new();
    for key in store.heads(APPS).await? {
        if let Some(record) = read::<AppRecord>(store, &key).await? {
            apps.insert(record.name.clone(), record);
        }
    }
    let next = next_operation(store).await?;
    let mut operations = BTreeMap::new();
    for key in store.heads(OPERATIONS).await? {
        let Ok(id) = key[OPERATIONS.len()..].parse::<u64>() else { continue };
        // One that was written and never became a command.
        let unborn = id >= next.0;
        if unborn {
            store.delete_chunked(&key, Vec::new()).await?;
        } else if let Some(record) = read(store, &key).await? {
            operations.insert(OperationId(id), record);
        }
    }
    let boot_id = store.get(BOOT).await?.map(|kv| String::from_utf8_lossy(&kv.value).into_owned());
    Ok(Kept { apps, operations, next_operation: next, boot_id })
}

async fn read<T: DeserializeOwned>(store: &Store, key: &str) -> Result<Option<T>, StoreError> {
    let Some(bytes) = store.get_chunked(key).await? else { return Ok(None) };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| StoreError::Unreadable { key: key.to_owned(), detail: error.to_string() })
}

async fn write(store: &Store, key: &str, record: &impl Serialize, also: Vec<Op>) -> Result<(), StoreError> {
    let bytes = serde_json::to_vec(record)
        .map_err(|error| StoreError::Unreadable { key: key.to_owned(), detail: error.to_string() })?;
    store.put_chunked(key, &bytes, also).await
}

/// A command: its operation, then the app it changed and the number it took.
pub(crate) async fn save(
    store: &Store,
    record: &AppRecord,
    id: OperationId,
    operation: &OperationRecord,
) -> Result<(), StoreError> {
    save_operation(store, id, operation).await?;
    let next = Op::put(NEXT, id.next().to_string());
    write(store, &format!("{APPS}{}", record.name), record, vec![next]).await
}

/// An app whose gone slots were dropped.
pub(crate) async fn save_app(store: &Store, record: &AppRecord) -> Result<(), StoreError> {
    write(store, &format!("{APPS}{}", record.name), record, Vec::new()).await
}

/// An app that is gone.
pub(crate) async fn forget(store: &Store, app: &AppName) -> Result<(), StoreError> {
    store.delete_chunked(&format!("{APPS}{app}"), Vec::new()).await
}

/// How far an operation is.
pub(crate) async fn save_operation(
    store: &Store,
    id: OperationId,
    operation: &OperationRecord,
) -> Result<(), StoreError> {
    write(store, &operation_key(id), operation, Vec::new()).await
}

/// What nobody will ask for any more.
pub(crate) async fn forget_operations(store: &Store, forgotten: &Forgotten) -> Result<(), StoreError> {
    for id in &forgotten.whole {
        store.delete_chunked(&operation_key(*id), Vec::new()).await?;
    }
    for (id, outline) in &forgotten.slots {
        save_operation(store, *id, outline).await?;
    }
    Ok(())
}

/// A command whose fate was not told, if it was kept: what it made of its app, and its operation.
///
/// Errors: the store cannot be read yet.
pub(crate) async fn kept(
    store: &Store,
    app: &AppName,
    id: OperationId,
) -> Result<Option<(AppRecord, OperationRecord)>, StoreError> {
    store.settle().await?;
    if next_operation(store).await? <= id {
        return Ok(None);
    }
    let record = read(store, &format!("{APPS}{app}")).await?;
    let operation = read(store, &operation_key(id)).await?;
    Ok(record.zip(operation))
}

async fn next_operation(store: &Store) -> Result<OperationId, StoreError> {
    let next = store.get(NEXT).await?;
    Ok(OperationId(next.and_then(|kv| std::str::from_utf8(&kv.value).ok()?.parse().ok()).unwrap_or(1)))
}

fn operation_key(id: OperationId) -> String {
    format!("{OPERATIONS}{:020}", id.0)
}

/// Which boot this is, after the apps it changed.
pub(crate) async fn save_boot(store: &Store, boot_id: &str, changed: &[AppRecord]) -> Result<(), StoreError> {
    for record in changed {
        save_app(store, record).await?;
    }
    store.write(vec![Op::put(BOOT, boot_id)]).await.map(drop)
}
