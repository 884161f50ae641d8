//! What the agent keeps of its slots across its own death.

use std::collections::BTreeMap;

use upbeat_decide::instance::{Durable, Stage};
use upbeat_model::{Millis, Mono, SlotId, Wall};
use upbeat_store::{OPS_MAX, Op, REQUEST_MAX, Store, StoreError};

const SLOTS: &str = "slots/";
const BOOT: &str = "boot";
const SEAL: &str = "seal";

/// Why the agent cannot know its slots.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A slot's state is not what this version writes.
    #[error("the state of `{key}` cannot be read")]
    Slot {
        /// The key in the store.
        key: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// What hashes that are given away are keyed with, so that nobody can try out what they are of. Shown by
/// nothing.
#[derive(Clone, Copy)]
pub(crate) struct Seal([u8; 32]);

impl Seal {
    /// Of 256 random bits.
    pub(crate) fn of(bits: [u8; 32]) -> Self {
        Self(bits)
    }

    pub(crate) fn hash(&self, what: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(&self.0, what)
    }
}

/// The agent's own small store.
pub struct Keep {
    store: Store,
    boot_id: String,
    bits: [u8; 32],
}

impl Keep {
    /// In this store, in this boot of the machine. The bits, which are random, are of use for a store that
    /// is new.
    pub fn new(store: Store, boot_id: String, bits: [u8; 32]) -> Self {
        Self { store, boot_id, bits }
    }

    /// The same for as long as there is the store.
    pub(crate) async fn seal(&self) -> Result<Seal, KeepError> {
        let kept = self.store.get(SEAL).await?;
        if let Some(bits) = kept.and_then(|kept| kept.value[..].try_into().ok()) {
            return Ok(Seal::of(bits));
        }
        if let Err(error) = self.store.write(vec![Op::put(SEAL, self.bits.to_vec())]).await {
            // A store of an earlier version, on a full disk: that is no reason to look after nothing.
            tracing::warn!(%error, "what keys of hooks are made with cannot be stored: run again by the next daemon, a hook is given another");
        }
        Ok(Seal::of(self.bits))
    }

    /// What was kept. After a reboot deadlines mean nothing: what rested may start.
    pub(crate) async fn load(&self) -> Result<Vec<(SlotId, Durable)>, KeepError> {
        let kept_boot = self.store.get(BOOT).await?;
        let same_boot = kept_boot.is_some_and(|kept| kept.value[..] == *self.boot_id.as_bytes());
        let mut slots = Vec::new();
        for kv in self.store.all(SLOTS).await? {
            let unreadable = |source| KeepError::Slot { key: kv.key.clone(), source };
            let mut durable: Durable = serde_json::from_slice(&kv.value).map_err(unreadable)?;
            let Ok(id) = kv.key[SLOTS.len()..].parse::<SlotId>() else { continue };
            if !same_boot {
                forget_clock(&mut durable);
            }
            slots.push((id, durable));
        }
        if !same_boot {
            // First what was forgotten, then that it was: a crash in between has it done again.
            let forgotten = slots.iter().map(|(id, durable)| (id.clone(), Some(durable.clone())));
            self.save(&forgotten.collect()).await?;
            self.store.write(vec![Op::put(BOOT, self.boot_id.clone())]).await?;
        }
        Ok(slots)
    }

    /// Keeps a bundle: in as few transactions as the store's limits allow. A crash between two of
    /// them leaves slots that are each consistent, which is all that is needed: no two slots'
    /// states are ever compared.
    pub(crate) async fn save(&self, persist: &BTreeMap<SlotId, Option<Durable>>) -> Result<(), KeepError> {
        let mut ops = Vec::with_capacity(persist.len().min(OPS_MAX));
        let mut size = 0;
        for (id, durable) in persist {
            let key = format!("{SLOTS}{id}");
            let value = durable.as_ref().map(serde_json::to_vec).transpose();
            let value = value.map_err(|source| KeepError::Slot { key: key.clone(), source })?;
            let more = key.len() + value.as_ref().map_or(0, Vec::len);
            if ops.len() == OPS_MAX || size + more > REQUEST_MAX {
                self.store.write(std::mem::take(&mut ops)).await?;
                size = 0;
            }
            size += more;
            ops.push(match value {
                Some(value) => Op::put(key, value),
                None => Op::delete(key),
            });
        }
        match ops.is_empty() {
            true => Ok(()),
            false => Ok(self.store.write(ops).await.map(drop)?),
        }
    }
}

fn forget_clock(durable: &mut Durable) {
    // What was ordered before the boot does not come after it.
    durable.late = None;
    durable.done.clear();
    durable.timeline = None;
    match &mut durable.stage {
        // Nobody sees that what ran elsewhere is gone: it is started again, when its conditions hold and its
        // hooks have run.
        Stage::Up(up) if up.mark.external => {
            let (until, until_wall, delay) = (Mono(0), Wall(0), Millis(0));
            durable.stage = Stage::Resting { mark: up.mark.clone(), until, until_wall, delay };
        }
        Stage::Resting { until, .. } => *until = Mono(0),
        Stage::Up(up) => {
            up.started = Mono(0);
            up.stopping = None;
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use upbeat_decide::instance::Late;

    #[tokio::test]
    async fn a_seal_that_cannot_be_stored_keeps_no_agent_from_beginning() {
        let faults = upbeat_store::faults::Faults::default();
        let (store, _journal) = upbeat_store::faults::open_faulty(&faults).unwrap();
        faults.full.store(true, std::sync::atomic::Ordering::SeqCst);
        let seal = Keep::new(store, "a".into(), [1; 32]).seal().await.unwrap();
        assert_eq!(seal.hash(b"x"), Seal([1; 32]).hash(b"x"));
    }

    #[tokio::test]
    async fn the_seal_is_made_once() {
        let (store, _journal) = upbeat_store::open_memory().unwrap();
        let seal = async |boot: &str, bits| Keep::new(store.clone(), boot.into(), bits).seal().await.unwrap();
        let first = seal("a", [1; 32]).await.hash(b"x");
        assert_eq!(first, Seal([1; 32]).hash(b"x"));
        assert_eq!(seal("b", [2; 32]).await.hash(b"x"), first, "the next daemon has it, in any boot");
        assert_ne!(Seal([2; 32]).hash(b"x"), first);
    }

    #[test]
    fn after_a_reboot_what_ran_elsewhere_is_started_again() {
        let up = serde_json::json!({
            "stage": "up", "attempt": 3, "pid": 0, "started": 5, "started_at": 5, "log_start": 0, "stopping": null,
            "mark": { "generation": 1, "digest": "x", "release": 1, "external": true },
        });
        let mut durable = Durable { stage: serde_json::from_value(up).unwrap(), ..Durable::default() };
        forget_clock(&mut durable);
        assert!(matches!(&durable.stage, Stage::Resting { mark, .. } if mark.external));
    }

    #[test]
    fn after_a_reboot_no_start_comes_late() {
        let late = serde_json::json!({
            "until": 864_000_000,
            "mark": { "generation": 1, "digest": "x", "release": 1 },
        });
        let late: Late = serde_json::from_value(late).unwrap();
        let mut durable = Durable { late: Some(late), ..Durable::default() };
        forget_clock(&mut durable);
        assert_eq!(durable.late, None);
    }
}
