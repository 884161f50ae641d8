//! Values larger than one key may hold: immutable chunks under a new generation, then one
//! transaction that moves the head.
//!
//! A crash in between leaves chunks that no head names; the next write of the key, or
//! [`Store::sweep`], deletes them.

use crate::kv::{Compare, KEY_MAX, OPS_MAX, Op, Txn, VALUE_MAX};
use crate::{Store, StoreError};

/// Bytes in one chunk.
pub const CHUNK_MAX: usize = VALUE_MAX / 2;

/// What stands between a key and its generation. Sorts after every name of ours.
const MARK: &str = "/~";

impl Store {
    /// Writes a value of any size, together with other changes.
    ///
    /// Errors: as [`Store::txn`]; the head moved meanwhile, because another wrote it.
    pub async fn put_chunked(&self, key: &str, value: &[u8], also: Vec<Op>) -> Result<(), StoreError> {
        // A key no chunk of which would fit must be refused before anything is written.
        let longest = key.len() + MARK.len() + 40;
        if key.is_empty() || longest > KEY_MAX {
            return Err(StoreError::BadKey { size: key.len(), max: KEY_MAX });
        }
        let head = self.get(key).await?;
        let generation = self.generation(key).await? + 1;
        let chunks: Vec<&[u8]> = value.chunks(CHUNK_MAX).collect();
        // Two a transaction: a request must stay below the limit of a value as a whole.
        for (index, chunk) in chunks.iter().enumerate() {
            self.write(vec![Op::put(chunk_key(key, generation, index), *chunk)]).await?;
        }
        let compare = match &head {
            Some(head) => Compare::ModRevision(key.to_owned(), head.mod_revision),
            None => Compare::Absent(key.to_owned()),
        };
        let mut success = also;
        success.push(Op::put(key, format!("{generation} {}", chunks.len())));
        let outcome = self.txn(Txn { compare: vec![compare], success, failure: Vec::new() }).await?;
        if !outcome.succeeded {
            let detail = "somebody else wrote it at the same time".to_owned();
            return Err(StoreError::Unreadable { key: key.to_owned(), detail });
        }
        self.collect(key, generation).await
    }

    /// Reads a value written by [`Store::put_chunked`].
    pub async fn get_chunked(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(head) = self.get(key).await? else { return Ok(None) };
        let unreadable =
            |detail: &str| StoreError::Unreadable { key: key.to_owned(), detail: detail.to_owned() };
        let text = std::str::from_utf8(&head.value).map_err(|_| unreadable("its head is no text"))?;
        let numbers = text.split_once(' ').and_then(|(generation, count)| {
            Some((generation.parse::<u64>().ok()?, count.parse::<usize>().ok()?))
        });
        let (generation, count) = numbers.ok_or_else(|| unreadable("its head has no two numbers"))?;
        let mut value = Vec::new();
        for index in 0..count {
            let chunk = self.get(&chunk_key(key, generation, index)).await?;
            value.extend_from_slice(&chunk.ok_or_else(|| unreadable("a chunk is missing"))?.value);
        }
        Ok(Some(value))
    }

    /// Deletes a value written by [`Store::put_chunked`], together with other changes.
    pub async fn delete_chunked(&self, key: &str, also: Vec<Op>) -> Result<(), StoreError> {
        let mut ops = also;
        ops.push(Op::delete(key));
        self.write(ops).await?;
        self.collect(key, u64::MAX).await
    }

    /// The keys below a prefix that are heads, or plain.
    pub async fn heads(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let all = self.all(prefix).await?;
        Ok(all.into_iter().map(|kv| kv.key).filter(|key| !key.contains(MARK)).collect())
    }

    /// Deletes chunks below a prefix that no head names. For the start, before anybody writes.
    pub async fn sweep(&self, prefix: &str) -> Result<usize, StoreError> {
        let mut swept = 0;
        let mut ops = Vec::new();
        for chunk in self.all(prefix).await? {
            let Some((key, rest)) = chunk.key.split_once(MARK) else { continue };
            let generation = rest.split('/').next().unwrap_or_default();
            let head = self.get(key).await?;
            let current =
                head.as_ref().and_then(|head| std::str::from_utf8(&head.value).ok()?.split(' ').next());
            if current.and_then(|n| n.parse::<u64>().ok()) != generation.parse().ok() {
                ops.push(Op::delete(chunk.key.clone()));
                swept += 1;
            }
            if ops.len() == OPS_MAX {
                self.write(std::mem::take(&mut ops)).await?;
            }
        }
        self.write(ops).await?;
        Ok(swept)
    }

    /// The highest generation any chunk of a key has, named by its head or not.
    async fn generation(&self, key: &str) -> Result<u64, StoreError> {
        let chunks = self.all(&format!("{key}{MARK}")).await?;
        let of = |chunk: &str| chunk[key.len() + MARK.len()..].split('/').next()?.parse::<u64>().ok();
        Ok(chunks.iter().filter_map(|chunk| of(&chunk.key)).max().unwrap_or(0))
    }

    /// Deletes chunks of other generations.
    async fn collect(&self, key: &str, keep: u64) -> Result<(), StoreError> {
        let chunks = self.all(&format!("{key}{MARK}")).await?;
        let kept = format!("{key}{MARK}{keep:020}/");
        let old: Vec<Op> =
            chunks.into_iter().filter(|kv| !kv.key.starts_with(&kept)).map(|kv| Op::delete(kv.key)).collect();
        for ops in old.chunks(OPS_MAX) {
            self.write(ops.to_vec()).await?;
        }
        Ok(())
    }
}

fn chunk_key(key: &str, generation: u64, index: usize) -> String {
    format!("{key}{MARK}{generation:020}/{index:06}")
}
