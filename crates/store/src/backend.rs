//! Where content is kept: nowhere, or in a redb file.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use crate::StoreError;
use crate::kv::KeyValue;
use crate::state::State;

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A power cut: every commit is synced.
    Machine,
    /// `kill -9`: every commit is handed to the kernel. For state that is of no use after a reboot.
    Process,
}

/// A group of changes, committed together.
#[derive(Default)]
pub(crate) struct Group {
    /// Keys and what they hold now; none where deleted.
    pub(crate) keys: Vec<(String, Option<KeyValue>)>,
    /// The store's revision now.
    pub(crate) revision: u64,
    /// Records for the journal, numbered.
    pub(crate) append: Vec<(u64, Vec<u8>)>,
    /// The journal begins here.
    pub(crate) truncate_before: Option<u64>,
}

/// What is read when a file is opened.
#[derive(Default)]
pub(crate) struct Loaded {
    pub(crate) state: State,
    /// Numbers and sizes of the journal's records, in order.
    pub(crate) journal: Vec<(u64, usize)>,
}

/// A place that keeps content.
pub(crate) trait Backend: Send + Sync + 'static {
    /// All of it, once, when it is opened.
    fn load(&self) -> Result<Loaded, StoreError>;
    /// Keeps a group, all of it or nothing.
    fn commit(&self, group: &Group) -> Result<(), StoreError>;
    /// Records after a number, in order.
    fn read(&self, after: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError>;
}

/// Gone with the process.
#[derive(Default)]
pub(crate) struct Memory {
    journal: std::sync::Mutex<std::collections::BTreeMap<u64, Vec<u8>>>,
}

impl Backend for Memory {
    fn load(&self) -> Result<Loaded, StoreError> {
        Ok(Loaded::default())
    }

    fn commit(&self, group: &Group) -> Result<(), StoreError> {
        let mut journal = self.journal.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        journal.extend(group.append.iter().cloned());
        if let Some(first) = group.truncate_before {
            *journal = journal.split_off(&first);
        }
        Ok(())
    }

    fn read(&self, after: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let journal = self.journal.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let found = journal.range((Bound::Excluded(after), Bound::Unbounded)).take(limit);
        Ok(found.map(|(number, bytes)| (*number, bytes.clone())).collect())
    }
}

/// Create revision, modification revision, version, value.
type Row = (u64, u64, u64, &'static [u8]);

const KEYS: TableDefinition<'static, &str, Row> = TableDefinition::new("keys");
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
const JOURNAL: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("journal");

/// Pages kept in memory. Small: all keys are held in memory already.
const CACHE: usize = 1024 * 1024;

/// A redb file.
pub(crate) struct Redb {
    database: Database,
    path: PathBuf,
}

impl Redb {
    pub(crate) fn open(path: &Path, durability: Durability) -> Result<Self, StoreError> {
        let io = |error: io::Error| StoreError::Io(format!("{}: {error}", path.display()));
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(io)?;
        if file.try_lock().is_err() {
            return Err(StoreError::Locked(path.to_owned()));
        }
        let backend = PlainFile { file, syncs: durability == Durability::Machine };
        // A damaged file must be an error, whatever the library makes of it.
        let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            Database::builder().set_cache_size(CACHE).create_with_backend(backend)
        }));
        let corrupt = |detail: String| StoreError::Corrupt { path: path.to_owned(), detail };
        match opened {
            Ok(Ok(database)) => Ok(Self { database, path: path.to_owned() }),
            Ok(Err(DatabaseError::Storage(redb::StorageError::Io(error))))
                if error.kind() != io::ErrorKind::InvalidData
                    && error.kind() != io::ErrorKind::UnexpectedEof =>
            {
                Err(io(error))
            }
            Ok(Err(error)) => Err(corrupt(error.to_string())),
            Err(_) => Err(corrupt("it cannot be read as a redb file".into())),
        }
    }

    fn failed(&self, error: impl Into<redb::Error>) -> StoreError {
        match error.into() {
            redb::Error::Corrupted(detail) => StoreError::Corrupt { path: self.path.clone(), detail },
            error => StoreError::Io(format!("{}: {error}", self.path.display())),
        }
    }

    fn write(&self, group: &Group) -> Result<(), redb::Error> {
        let txn = self.database.begin_write()?;
        {
            let mut keys = txn.open_table(KEYS)?;
            for (key, now) in &group.keys {
                match now {
                    Some(kv) => {
                        let row = (kv.create_revision, kv.mod_revision, kv.version, &kv.value[..]);
                        keys.insert(key.as_str(), row)?;
                    }
                    None => drop(keys.remove(key.as_str())?),
                }
            }
            txn.open_table(META)?.insert("revision", group.revision)?;
            let mut journal = txn.open_table(JOURNAL)?;
            for (number, bytes) in &group.append {
                journal.insert(number, &bytes[..])?;
            }
            if let Some(first) = group.truncate_before {
                journal.retain_in(..first, |_, _| false)?;
            }
        }
        txn.commit()?;
        Ok(())
    }

    fn load_all(&self) -> Result<Loaded, redb::Error> {
        let mut loaded = Loaded::default();
        // Makes the tables, so that reading them never fails for want of one.
        let txn = self.database.begin_write()?;
        {
            loaded.state.revision = txn.open_table(META)?.get("revision")?.map_or(0, |found| found.value());
            for row in txn.open_table(KEYS)?.iter()? {
                let (key, row) = row?;
                let (create_revision, mod_revision, version, value) = row.value();
                let key = key.value().to_owned();
                let kv = KeyValue {
                    key: key.clone(),
                    value: Arc::from(value),
                    create_revision,
                    mod_revision,
                    version,
                };
                loaded.state.keys.insert(key, kv);
            }
            for row in txn.open_table(JOURNAL)?.iter()? {
                let (number, bytes) = row?;
                loaded.journal.push((number.value(), bytes.value().len()));
            }
        }
        txn.commit()?;
        Ok(loaded)
    }

    fn read_journal(&self, after: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, redb::Error> {
        let txn = self.database.begin_read()?;
        let journal = txn.open_table(JOURNAL)?;
        let mut found = Vec::new();
        for row in journal.range((Bound::Excluded(after), Bound::Unbounded))?.take(limit) {
            let (number, bytes) = row?;
            found.push((number.value(), bytes.value().to_vec()));
        }
        Ok(found)
    }
}

impl Backend for Redb {
    fn load(&self) -> Result<Loaded, StoreError> {
        self.load_all().map_err(|error| self.failed(error))
    }

    fn commit(&self, group: &Group) -> Result<(), StoreError> {
        self.write(group).map_err(|error| self.failed(error))
    }

    fn read(&self, after: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        self.read_journal(after, limit).map_err(|error| self.failed(error))
    }
}

/// A file with or without syncs. The exclusive lock was taken before: redb is told that there is
/// nothing to lock.
#[derive(Debug)]
struct PlainFile {
    file: File,
    syncs: bool,
}

impl StorageBackend for PlainFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.syncs { self.file.sync_data() } else { Ok(()) }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.file, data, offset)
    }
}
