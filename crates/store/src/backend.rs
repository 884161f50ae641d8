//! Where content is kept: nowhere, or in a redb file.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

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
    /// All of it, again, after a commit failed.
    fn reopen(&self) -> Result<Loaded, StoreError>;
    /// Keeps a group, all of it or nothing; after an error, which of both is known by reopening.
    fn commit(&self, group: &Group) -> Result<(), StoreError>;
    /// Records after a number, in order.
    fn read(&self, after: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError>;
}

/// Gone with the process.
#[derive(Default)]
pub(crate) struct Memory {
    journal: Mutex<std::collections::BTreeMap<u64, Vec<u8>>>,
}

impl Backend for Memory {
    fn load(&self) -> Result<Loaded, StoreError> {
        Ok(Loaded::default())
    }

    fn reopen(&self) -> Result<Loaded, StoreError> {
        // INVARIANT: a commit to memory does not fail, so there is nothing to find out.
        Err(StoreError::Stopped)
    }

    fn commit(&self, group: &Group) -> Result<(), StoreError> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.extend(group.append.iter().cloned());
        if let Some(first) = group.truncate_before {
            *journal = journal.split_off(&first);
        }
        Ok(())
    }

    fn read(&self, after: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
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

/// A redb file. The library does not use a file again after it could not write to it once, so it is
/// closed and opened anew then.
pub(crate) struct Redb {
    database: Mutex<Option<Database>>,
    /// Holds the lock on the file for as long as this lives.
    file: File,
    path: PathBuf,
    durability: Durability,
}

impl Redb {
    pub(crate) fn open(path: &Path, durability: Durability) -> Result<Self, StoreError> {
        if !path.exists() {
            create(path)?;
        }
        let file = open_file(path, path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(StoreError::Locked(path.to_owned())),
            Err(std::fs::TryLockError::Error(error)) => return Err(failed_at(path, &error)),
        }
        let redb = Self { database: Mutex::new(None), file, path: path.to_owned(), durability };
        *redb.lock() = Some(redb.open_database()?);
        Ok(redb)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Database>> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_database(&self) -> Result<Database, StoreError> {
        let file = self.file.try_clone().map_err(|error| failed_at(&self.path, &error))?;
        open_database(file, &self.path, self.durability == Durability::Machine)
    }

    /// Runs something on the open file. A panic of the library over a damaged file is an error.
    fn with<T>(&self, run: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let database = self.lock();
        let Some(database) = database.as_ref() else {
            return Err(StoreError::Io(format!("{}: it is closed after an error", self.path.display())));
        };
        guarded(&self.path, || run(database))?.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: impl Into<redb::Error>) -> StoreError {
        match error.into() {
            redb::Error::Corrupted(detail) => StoreError::Corrupt { path: self.path.clone(), detail },
            error => StoreError::Io(format!("{}: {error}", self.path.display())),
        }
    }

    fn write(database: &Database, group: &Group) -> Result<(), redb::Error> {
        let txn = database.begin_write()?;
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

    fn load_all(database: &Database) -> Result<Loaded, redb::Error> {
        let mut loaded = Loaded::default();
        // Makes the tables, so that reading them never fails for want of one.
        let txn = database.begin_write()?;
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

    fn read_journal(
        database: &Database,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, redb::Error> {
        let txn = database.begin_read()?;
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
        self.with(Self::load_all)
    }

    fn reopen(&self) -> Result<Loaded, StoreError> {
        // Closed before it is opened: two of them on one file would undo each other's work.
        *self.lock() = None;
        let database = self.open_database()?;
        *self.lock() = Some(database);
        self.load()
    }

    fn commit(&self, group: &Group) -> Result<(), StoreError> {
        self.with(|database| Self::write(database, group))
    }

    fn read(&self, after: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        self.with(|database| Self::read_journal(database, after, limit))
    }
}

fn failed_at(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Io(format!("{}: {error}", path.display()))
}

fn open_file(path: &Path, shown: &Path) -> Result<File, StoreError> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map_err(|error| failed_at(shown, &error))
}

/// Makes a new file under another name first: a crash half-way leaves none that is half made.
fn create(path: &Path) -> Result<(), StoreError> {
    let beside = path.with_extension("new");
    let failed = |error: io::Error| failed_at(path, &error);
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let database = open_database(open_file(&beside, path)?, path, true)?;
    guarded(path, || Redb::load_all(&database))?
        .map_err(|error| StoreError::Io(format!("{}: {error}", path.display())))?;
    drop(database);
    std::fs::rename(&beside, path).map_err(failed)?;
    // Its name is to outlive a power cut as well as what it holds.
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
}

fn open_database(file: File, path: &Path, syncs: bool) -> Result<Database, StoreError> {
    let backend = PlainFile { file, syncs };
    let opened = guarded(path, || Database::builder().set_cache_size(CACHE).create_with_backend(backend))?;
    opened.map_err(|error| match error {
        DatabaseError::Storage(redb::StorageError::Io(error))
            if !matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
        {
            failed_at(path, &error)
        }
        error => StoreError::Corrupt { path: path.to_owned(), detail: error.to_string() },
    })
}

/// The library trusts what it reads: over a damaged file it may panic. That is an error like any
/// other here; nothing it left half-done is used again.
fn guarded<T>(path: &Path, run: impl FnOnce() -> T) -> Result<T, StoreError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).map_err(|_| StoreError::Corrupt {
        path: path.to_owned(),
        detail: "it cannot be read as a redb file".into(),
    })
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

    /// What a file that is synced grows by is taken from the disk now: on a disk that is full later, what
    /// fits into it can still be kept, such as that something shall stop. Where no sync is waited for,
    /// it costs more than it gives: measured, a fourth on top of the time from one start to the next.
    fn set_len(&self, len: u64) -> io::Result<()> {
        let now = self.file.metadata()?.len();
        if len > now && self.syncs {
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), now, len - now) {
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                grown => return Ok(grown?),
            }
        }
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.syncs { self.file.sync_data() } else { Ok(()) }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.file, data, offset)
    }
}
