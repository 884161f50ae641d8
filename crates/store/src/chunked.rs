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

/// How a head begins that holds its whole value; one that does not names chunks.
const INLINE: u8 = b'=';

/// What a head says.
enum Head<'a> {
    Inline(&'a [u8]),
    Chunks { generation: u64, count: usize },
}

fn read_head<'a>(key: &str, value: &'a [u8]) -> Result<Head<'a>, StoreError> {
    if let Some(inline) = value.strip_prefix(&[INLINE]) {
        return Ok(Head::Inline(inline));
    }
    let numbers = std::str::from_utf8(value).ok().and_then(|text| {
        let (generation, count) = text.split_once(' ')?;
        Some(Head::Chunks { generation: generation.parse().ok()?, count: count.parse().ok()? })
    });
    numbers.ok_or_else(|| unreadable(key, "its head is neither a value nor two numbers"))
}

fn unreadable(key: &str, detail: &str) -> StoreError {
    StoreError::Unreadable { key: key.to_owned(), detail: detail.to_owned() }
}

impl Store {
    /// Writes a value of any size, together with other changes: a small one in one transaction.
    ///
    /// Errors: as [`Store::txn`]; [`StoreError::Conflict`] when another wrote it at the same time.
    pub async fn put_chunked(&self, key: &str, value: &[u8], also: Vec<Op>) -> Result<(), StoreError> {
        // A key no chunk of which would fit must be refused before anything is written.
        let longest = key.len() + MARK.len() + 40;
        if key.is_empty() || longest > KEY_MAX || key.contains(MARK) {
            return Err(StoreError::BadKey { size: key.len(), max: KEY_MAX });
        }
        let before = self.get(key).await?;
        let old = match &before {
            Some(head) => match read_head(key, &head.value)? {
                Head::Chunks { generation, .. } => Some(generation),
                Head::Inline(_) => None,
            },
            None => None,
        };
        let (head, generation) = match value.len() <= CHUNK_MAX {
            true => ([&[INLINE], value].concat(), None),
            false => {
                let (generation, count) = self.put_chunks(key, value, old).await?;
                (format!("{generation} {count}").into_bytes(), Some(generation))
            }
        };
        let compare = match &before {
            Some(head) => Compare::ModRevision(key.to_owned(), head.mod_revision),
            None => Compare::Absent(key.to_owned()),
        };
        let mut success = also;
        success.push(Op::put(key, head));
        if !self.txn(Txn { compare: vec![compare], success, failure: Vec::new() }).await?.succeeded {
            return Err(StoreError::Conflict(key.to_owned()));
        }
        if old.is_some() || generation.is_some() {
            // Only garbage is left to do: should it fail, the next sweep does it.
            let _ = self.collect(key, generation.unwrap_or(u64::MAX)).await;
        }
        Ok(())
    }

    /// Uploads chunks under a generation nobody has; another that wants the same one loses here.
    async fn put_chunks(
        &self,
        key: &str,
        value: &[u8],
        old: Option<u64>,
    ) -> Result<(u64, usize), StoreError> {
        let generation = self.generation(key).await?.max(old.unwrap_or(0)) + 1;
        let mut count = 0;
        for chunk in value.chunks(CHUNK_MAX) {
            let name = chunk_key(key, generation, count);
            let txn = Txn {
                compare: vec![Compare::Absent(name.clone())],
                success: vec![Op::put(name, chunk)],
                failure: Vec::new(),
            };
            if !self.txn(txn).await?.succeeded {
                return Err(StoreError::Conflict(key.to_owned()));
            }
            count += 1;
        }
        Ok((generation, count))
    }

    /// Reads a value written by [`Store::put_chunked`].
    pub async fn get_chunked(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let mut seen = None;
        loop {
            let Some(head) = self.get(key).await? else { return Ok(None) };
            let (generation, count) = match read_head(key, &head.value)? {
                Head::Inline(value) => return Ok(Some(value.to_vec())),
                Head::Chunks { generation, count } => (generation, count),
            };
            match self.chunks(key, generation, count).await? {
                Some(value) => return Ok(Some(value)),
                // Written anew while it was read: each time round somebody else got on.
                None if seen != Some(head.mod_revision) => seen = Some(head.mod_revision),
                None => return Err(unreadable(key, "a chunk is missing")),
            }
        }
    }

    /// `None`: one is not there (any more).
    async fn chunks(&self, key: &str, generation: u64, count: usize) -> Result<Option<Vec<u8>>, StoreError> {
        let mut value = Vec::new();
        for index in 0..count {
            match self.get(&chunk_key(key, generation, index)).await? {
                Some(chunk) => value.extend_from_slice(&chunk.value),
                None => return Ok(None),
            }
        }
        Ok(Some(value))
    }

    /// Deletes a value written by [`Store::put_chunked`], together with other changes.
    pub async fn delete_chunked(&self, key: &str, also: Vec<Op>) -> Result<(), StoreError> {
        let mut ops = also;
        ops.push(Op::delete(key));
        self.write(ops).await?;
        let _ = self.collect(key, u64::MAX).await;
        Ok(())
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
            let current = match head.as_ref().map(|head| read_head(key, &head.value)).transpose()? {
                Some(Head::Chunks { generation, .. }) => Some(generation),
                _ => None,
            };
            if current != generation.parse().ok() {
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

    /// Deletes chunks of generations before this one. Later ones are somebody's upload.
    async fn collect(&self, key: &str, generation: u64) -> Result<(), StoreError> {
        let chunks = self.all(&format!("{key}{MARK}")).await?;
        let first_kept = format!("{key}{MARK}{generation:020}");
        let old: Vec<Op> =
            chunks.into_iter().filter(|kv| kv.key < first_kept).map(|kv| Op::delete(kv.key)).collect();
        for ops in old.chunks(OPS_MAX) {
            self.write(ops.to_vec()).await?;
        }
        Ok(())
    }
}

fn chunk_key(key: &str, generation: u64, index: usize) -> String {
    format!("{key}{MARK}{generation:020}/{index:06}")
}
