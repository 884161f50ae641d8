//! Tokens: who may come in over TCP.
//!
//! A token is `upb_` and 256 random bits. Only its hash is kept, so who reads the store learns
//! none. The hash is a plain one (BLAKE3): a slow one protects words that can be guessed, and 256
//! random bits cannot. A token that is shown is hashed and the hash is looked up; how long that takes
//! tells something of hashes, from which nobody finds a token, and nothing of tokens.
//!
//! `tokens/<name>` holds what is known of a token, `token-hashes/<hash>` its name. Both are written
//! and deleted in one transaction.

use std::fmt::Write as _;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use upbeat_model::{Role, TokenInfo, TokenName, Wall};
use upbeat_store::{Compare, Op, Store, StoreError, Txn};

const TOKENS: &str = "tokens/";
const HASHES: &str = "token-hashes/";

/// How every token begins, so that people and scanners of published files know one when they see it.
pub const TOKEN_PREFIX: &str = "upb_";

/// The prefix and 32 bytes in hexadecimal. What is longer or shorter is not even hashed.
const TOKEN_LENGTH: usize = TOKEN_PREFIX.len() + 64;

/// Tokens at once: one for each of a few hundred people and machines. Those that have expired count
/// until they are revoked, since they are told from unknown ones until then.
pub const TOKENS_MAX: usize = 1_000;

/// The longest life that can be asked for, in seconds: a century. What shall live longer has no end.
pub const EXPIRES_MAX_S: u64 = 100 * 365 * 86_400;

/// Why there is no such token, or none more.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The name is taken.
    #[error("there is a token `{0}` already")]
    Taken(TokenName),
    /// No token of that name.
    #[error("there is no token `{0}`")]
    NoSuchToken(TokenName),
    /// There are as many as there may be.
    #[error("there are {TOKENS_MAX} tokens, which is as many as there may be")]
    TooMany,
    /// It would never be of use, or for ever.
    #[error("a token lives between a second and a century")]
    BadLife,
    /// The change could not be kept.
    #[error("the change could not be stored")]
    Store(#[from] StoreError),
}

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoEntry {
    /// There is no such token; it may have been revoked.
    #[error("the token is not known")]
    Unknown,
    /// There was.
    #[error("the token `{0}` has expired")]
    Expired(TokenName),
    /// It cannot be looked up.
    #[error("the token cannot be looked up: {0}")]
    Store(StoreError),
}

/// What is kept of a token.
#[derive(Serialize, Deserialize)]
struct Kept {
    hash: String,
    role: Role,
    created_at: Wall,
    created_by: String,
    expires_at: Option<Wall>,
}

impl Kept {
    fn is_expired(&self, now: Wall) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    fn shown(self, name: TokenName, now: Wall) -> TokenInfo {
        let expired = self.is_expired(now);
        let Self { role, created_at, created_by, expires_at, .. } = self;
        TokenInfo { name, role, created_at, created_by, expires_at, expired }
    }
}

/// What a new token is to be.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its name.
    pub name: TokenName,
    /// What it allows.
    pub role: Role,
    /// How long it lives, in seconds; for ever where nothing is said.
    pub expires_in_s: Option<u64>,
    /// Who makes it.
    pub by: String,
}

/// All tokens. A cheap handle; clones share them.
#[derive(Clone)]
pub struct Tokens {
    store: Store,
    /// One is made at a time, so that there are never too many.
    making: Arc<Mutex<()>>,
}

impl Tokens {
    /// Those that a store keeps.
    pub fn new(store: Store) -> Self {
        Self { store, making: Arc::default() }
    }

    /// Makes a token of 256 bits, which have to be random. Returns what is kept of it and the token
    /// itself, which is not kept.
    pub async fn create(
        &self,
        wanted: Wanted,
        bits: [u8; 32],
        now: Wall,
    ) -> Result<(TokenInfo, String), TokenError> {
        let Wanted { name, role, expires_in_s, by } = wanted;
        if expires_in_s.is_some_and(|s| s == 0 || s > EXPIRES_MAX_S) {
            return Err(TokenError::BadLife);
        }
        let expires_at = expires_in_s
            .map(|s| Wall(now.0.saturating_add(i64::try_from(s).unwrap_or(i64::MAX).saturating_mul(1_000))));
        let _turn = self.making.lock().await;
        if self.store.all(TOKENS).await?.len() >= TOKENS_MAX {
            return Err(TokenError::TooMany);
        }
        let token = text(&bits);
        let kept = Kept { hash: hash(&token), role, created_at: now, created_by: by, expires_at };
        let key = format!("{TOKENS}{name}");
        let value = serde_json::to_vec(&kept)
            .map_err(|error| StoreError::Unreadable { key: key.clone(), detail: error.to_string() })?;
        let success =
            vec![Op::put(key.clone(), value), Op::put(format!("{HASHES}{}", kept.hash), name.as_str())];
        let txn = Txn { compare: vec![Compare::Absent(key)], success, failure: Vec::new() };
        if !self.store.txn(txn).await?.succeeded {
            return Err(TokenError::Taken(name));
        }
        Ok((kept.shown(name, now), token))
    }

    /// All of them, by name.
    pub async fn list(&self, now: Wall) -> Result<Vec<TokenInfo>, StoreError> {
        let mut found = Vec::new();
        for entry in self.store.all(TOKENS).await? {
            let Ok(name) = TokenName::new(&entry.key[TOKENS.len()..]) else { continue };
            found.push(read(&entry.key, &entry.value)?.shown(name, now));
        }
        Ok(found)
    }

    /// From now on it lets nobody in.
    pub async fn revoke(&self, name: &TokenName) -> Result<(), TokenError> {
        let _turn = self.making.lock().await;
        let key = format!("{TOKENS}{name}");
        let Some(entry) = self.store.get(&key).await? else {
            return Err(TokenError::NoSuchToken(name.clone()));
        };
        let hash = read(&key, &entry.value)?.hash;
        self.store.write(vec![Op::delete(key), Op::delete(format!("{HASHES}{hash}"))]).await?;
        Ok(())
    }

    /// Whose token this is, and what it allows.
    pub async fn check(&self, shown: &str, now: Wall) -> Result<(TokenName, Role), NoEntry> {
        if shown.len() != TOKEN_LENGTH || !shown.starts_with(TOKEN_PREFIX) {
            return Err(NoEntry::Unknown);
        }
        let shown = hash(shown);
        let entry = self.store.get(&format!("{HASHES}{shown}")).await.map_err(NoEntry::Store)?;
        let name = entry.and_then(|entry| TokenName::new(String::from_utf8_lossy(&entry.value)).ok());
        let Some(name) = name else { return Err(NoEntry::Unknown) };
        let key = format!("{TOKENS}{name}");
        let Some(entry) = self.store.get(&key).await.map_err(NoEntry::Store)? else {
            return Err(NoEntry::Unknown);
        };
        let kept = read(&key, &entry.value).map_err(NoEntry::Store)?;
        if kept.is_expired(now) {
            return Err(NoEntry::Expired(name));
        }
        Ok((name, kept.role))
    }
}

fn read(key: &str, value: &[u8]) -> Result<Kept, StoreError> {
    serde_json::from_slice(value)
        .map_err(|error| StoreError::Unreadable { key: key.to_owned(), detail: error.to_string() })
}

fn text(bits: &[u8; 32]) -> String {
    let mut text = String::with_capacity(TOKEN_LENGTH);
    text.push_str(TOKEN_PREFIX);
    for byte in bits {
        // Writing to a text does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn hash(token: &str) -> String {
    blake3::hash(token.as_bytes()).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use upbeat_store::open_memory;

    fn wanted(name: &str, expires_in_s: Option<u64>) -> Wanted {
        let name = TokenName::new(name).unwrap();
        Wanted { name, role: Role::Operator, expires_in_s, by: "uid 0".into() }
    }

    #[tokio::test]
    async fn a_token_lives_from_its_making_to_its_end() {
        let (store, _) = open_memory().unwrap();
        let tokens = Tokens::new(store);
        let (info, token) = tokens.create(wanted("ci", Some(60)), [7; 32], Wall(1_000)).await.unwrap();
        assert_eq!(token, format!("upb_{}", "07".repeat(32)));
        assert_eq!((info.expires_at, info.expired), (Some(Wall(61_000)), false));
        let name = info.name.clone();
        assert_eq!(tokens.check(&token, Wall(60_999)).await, Ok((name.clone(), Role::Operator)));
        assert_eq!(tokens.check(&token, Wall(61_000)).await, Err(NoEntry::Expired(name.clone())));
        assert!(tokens.list(Wall(61_000)).await.unwrap()[0].expired);
        tokens.revoke(&name).await.unwrap();
        assert_eq!(tokens.check(&token, Wall(2_000)).await, Err(NoEntry::Unknown));
        assert!(matches!(tokens.revoke(&name).await, Err(TokenError::NoSuchToken(_))));
        assert!(tokens.list(Wall(0)).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn nothing_that_is_kept_is_a_token_and_nothing_else_opens() {
        let (store, _) = open_memory().unwrap();
        let tokens = Tokens::new(store.clone());
        let (_, token) = tokens.create(wanted("ci", None), [9; 32], Wall(0)).await.unwrap();
        for entry in store.all("").await.unwrap() {
            let value = String::from_utf8_lossy(&entry.value).into_owned();
            for text in [entry.key.clone(), value] {
                assert!(!text.contains(&token[4..]), "{}", entry.key);
                assert_eq!(tokens.check(&text, Wall(0)).await, Err(NoEntry::Unknown));
            }
        }
        let stored = hash(&token);
        for other in ["", "upb_", &stored, &format!("upb_{stored}"), &token[..67], &token.to_uppercase()] {
            assert_eq!(tokens.check(other, Wall(0)).await, Err(NoEntry::Unknown), "{other}");
        }
    }

    #[tokio::test]
    async fn names_are_taken_once_and_lives_are_bounded() {
        let (store, _) = open_memory().unwrap();
        let tokens = Tokens::new(store);
        let (_, first) = tokens.create(wanted("ci", None), [1; 32], Wall(0)).await.unwrap();
        let again = tokens.create(wanted("ci", None), [2; 32], Wall(0)).await;
        assert!(matches!(again, Err(TokenError::Taken(_))));
        assert!(tokens.check(&first, Wall(i64::MAX)).await.is_ok(), "it has no end");
        for life in [0, EXPIRES_MAX_S + 1, u64::MAX] {
            let refused = tokens.create(wanted("x", Some(life)), [3; 32], Wall(0)).await;
            assert!(matches!(refused, Err(TokenError::BadLife)), "{life}");
        }
    }

    #[tokio::test]
    async fn there_are_only_so_many() {
        let (store, _) = open_memory().unwrap();
        let tokens = Tokens::new(store);
        for n in 0..TOKENS_MAX {
            let mut bits = [0; 32];
            bits[..8].copy_from_slice(&n.to_le_bytes());
            tokens.create(wanted(&format!("t{n}"), None), bits, Wall(0)).await.unwrap();
        }
        assert!(matches!(
            tokens.create(wanted("one-more", None), [255; 32], Wall(0)).await,
            Err(TokenError::TooMany)
        ));
        tokens.revoke(&TokenName::new("t7").unwrap()).await.unwrap();
        tokens.create(wanted("one-more", None), [255; 32], Wall(0)).await.unwrap();
    }
}
