//! A store in memory whose disk goes bad when a test says so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::backend::{Backend, Group, Loaded, Memory};
use crate::kv::KeyValue;
use crate::{Journal, Store, StoreError};

/// What is wrong with the disk.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// It takes nothing, and gives nothing.
    pub full: Arc<AtomicBool>,
    /// It takes a commit, and says that it has not: the next one, or one after so many that are well.
    denies: Arc<Mutex<Option<u32>>>,
    /// After it has denied one, it is full.
    pub then_full: Arc<AtomicBool>,
}

impl Faults {
    /// After so many commits it takes one and says that it has not.
    pub fn deny_after(&self, commits: u32) {
        *self.denies.lock().unwrap_or_else(PoisonError::into_inner) = Some(commits);
    }

    fn denies(&self) -> bool {
        let mut denies = self.denies.lock().unwrap_or_else(PoisonError::into_inner);
        let now = *denies == Some(0);
        *denies = denies.and_then(|left| left.checked_sub(1));
        now
    }
}

/// Opens a store on such a disk.
pub fn open_faulty(faults: &Faults) -> Result<(Store, Journal), StoreError> {
    crate::writer::start(BadDisk { faults: faults.clone(), ..BadDisk::default() })
}

#[derive(Default)]
struct BadDisk {
    faults: Faults,
    memory: Memory,
    kept: Mutex<BTreeMap<String, KeyValue>>,
    revision: AtomicU64,
}

impl BadDisk {
    fn is_well(&self) -> Result<(), StoreError> {
        match self.faults.full.load(Ordering::SeqCst) {
            true => Err(StoreError::Io("full".into())),
            false => Ok(()),
        }
    }
}

impl Backend for BadDisk {
    fn load(&self) -> Result<Loaded, StoreError> {
        let mut loaded = Loaded::default();
        loaded.state.keys = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        loaded.state.revision = self.revision.load(Ordering::SeqCst);
        let records = self.memory.read(0, usize::MAX)?;
        loaded.journal = records.into_iter().map(|(number, bytes)| (number, bytes.len())).collect();
        Ok(loaded)
    }

    fn reopen(&self) -> Result<Loaded, StoreError> {
        self.is_well()?;
        self.load()
    }

    fn commit(&self, group: &Group) -> Result<(), StoreError> {
        self.is_well()?;
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            for (key, now) in &group.keys {
                match now {
                    Some(kv) => drop(kept.insert(key.clone(), kv.clone())),
                    None => drop(kept.remove(key)),
                }
            }
        }
        self.revision.store(group.revision, Ordering::SeqCst);
        self.memory.commit(group)?;
        // Only what changes keys can be missed by somebody.
        if group.keys.is_empty() || !self.faults.denies() {
            return Ok(());
        }
        self.faults.full.store(self.faults.then_full.load(Ordering::SeqCst), Ordering::SeqCst);
        Err(StoreError::Io("cannot sync".into()))
    }

    fn read(&self, after: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        self.memory.read(after, limit)
    }
}
