//! What is kept of device documents beside the apps: keys of registries, and the document that is queued.
//!
//! In a file of its own, which only its owner may read, and not in the store: a secret that is taken away is in no page
//! of it any more. The file is written anew for each change, beside the old one, and takes its place when it is on the
//! disk; it goes when nothing is kept.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, MutexGuard, watch};
use upbeat_model::device::{self, KeyChange, RegistryKeys, Request};
use upbeat_model::{AppName, IdempotencyKey, Wall};

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Documents {
    /// Keys of registries.
    pub keys: RegistryKeys,
    /// The document that waits for its turn.
    pub queued: Option<Queued>,
}

/// A document that waits for its turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Queued {
    /// What is asked. It may hold secrets: of one that could not be begun nothing is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Request>,
    /// In words: [`Request::what`].
    pub what: String,
    /// Who asks.
    pub who: String,
    /// When that was.
    pub at: Wall,
    /// Why it could not be begun when its turn came.
    pub problem: Option<String>,
}

impl Queued {
    /// One that waits from now on.
    pub fn new(request: Request, who: String, at: Wall) -> Self {
        Self { what: request.what(), request: Some(request), who, at, problem: None }
    }

    /// Under which it changes an app: begun once more, as a daemon died or a disk was full half-way, it changes nothing a
    /// second time, whatever was asked for in between.
    pub fn key(&self, app: &AppName) -> Option<IdempotencyKey> {
        let Self { request, what, who, at, .. } = self;
        let said = serde_json::to_vec(&(request, what, who)).unwrap_or_default();
        let mark = blake3::hash(&said).to_hex();
        // INVARIANT: the name of an app is as short and plain as a key has to be, and so is the rest.
        IdempotencyKey::new(format!("queued-{}-{}-{app}", at.0, &mark[..16])).ok()
    }

    /// It could not be begun.
    pub fn failed(self, problem: String) -> Self {
        Self { request: None, problem: Some(problem), ..self }
    }

    /// For whoever looks: nothing of what it says.
    pub fn shown(&self) -> device::Queued {
        let Self { what, who, at, problem, .. } = self;
        device::Queued { what: what.clone(), who: who.clone(), at: *at, problem: problem.clone() }
    }
}

/// Where it is kept. A cheap handle; clones share it.
#[derive(Clone)]
pub struct DocumentFile(Arc<Inner>);

struct Inner {
    path: PathBuf,
    kept: watch::Sender<Arc<Documents>>,
    keys: watch::Sender<Arc<RegistryKeys>>,
    turn: Mutex<()>,
}

/// One at a time seeks a document, or changes what is kept.
pub struct Turn<'a> {
    of: &'a DocumentFile,
    _turn: MutexGuard<'a, ()>,
}

impl DocumentFile {
    /// Reads it. Errors: it cannot be read, or is none.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let kept = match std::fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Documents::default(),
            // What stands there may be a key: only where it is garbled is said.
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                let why = format!("garbled in line {}, column {}", error.line(), error.column());
                io::Error::new(ErrorKind::InvalidData, why)
            })?,
            Err(error) => return Err(error),
        };
        let keys = watch::channel(Arc::new(kept.keys.clone())).0;
        let kept = watch::channel(Arc::new(kept)).0;
        Ok(Self(Arc::new(Inner { path, kept, keys, turn: Mutex::new(()) })))
    }

    /// What is kept now.
    pub fn kept(&self) -> Arc<Documents> {
        self.0.kept.borrow().clone()
    }

    /// What is kept, to be watched.
    pub fn watch(&self) -> watch::Receiver<Arc<Documents>> {
        self.0.kept.subscribe()
    }

    /// The keys, for who pulls images.
    pub fn keys(&self) -> watch::Receiver<Arc<RegistryKeys>> {
        self.0.keys.subscribe()
    }

    /// Waits for one's turn.
    pub async fn turn(&self) -> Turn<'_> {
        Turn { of: self, _turn: self.0.turn.lock().await }
    }
}

impl Turn<'_> {
    /// Whether the keys are still those that a change was worked out from.
    pub fn suits(&self, change: &KeyChange) -> bool {
        self.of.kept().keys == change.from
    }

    /// Keeps these keys. Errors: the disk is full or worse; others are kept in no case.
    pub async fn set_keys(&self, keys: RegistryKeys) -> io::Result<()> {
        self.keep(|kept| kept.keys = keys).await
    }

    /// Keeps this document in the place of one that was queued, if any. Errors: as above.
    pub async fn set_queued(&self, queued: Option<Queued>) -> io::Result<()> {
        if self.of.kept().queued == queued {
            return Ok(());
        }
        self.keep(|kept| kept.queued = queued).await
    }

    async fn keep(&self, change: impl FnOnce(&mut Documents)) -> io::Result<()> {
        let mut kept = Documents::clone(&self.of.kept());
        change(&mut kept);
        let (inner, written) = (self.of.0.clone(), kept.clone());
        // A disk takes its time.
        let writing = tokio::task::spawn_blocking(move || write(&inner.path, &written));
        writing.await.unwrap_or_else(|_| Err(io::Error::other("writing broke off")))?;
        let Inner { keys, kept: shown, .. } = &*self.of.0;
        keys.send_if_modified(|keys| {
            let is_other = **keys != kept.keys;
            if is_other {
                *keys = Arc::new(kept.keys.clone());
            }
            is_other
        });
        shown.send_replace(Arc::new(kept));
        Ok(())
    }
}

fn write(path: &Path, kept: &Documents) -> io::Result<()> {
    let synced = || match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    };
    if *kept == Documents::default() {
        return match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => synced(),
        };
    }
    let beside = path.with_extension("new");
    // One that a daemon left which was killed here.
    if let Err(error) = std::fs::remove_file(&beside)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let written = serde_json::to_vec(kept).map_err(io::Error::other).and_then(|text| {
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    });
    if written.is_err() {
        // Half of a file may hold a key; what cannot be removed either is removed by the next change.
        let _ = std::fs::remove_file(&beside);
    }
    written?;
    synced()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;
    use upbeat_model::device::RegistryKey;

    use super::*;

    fn keys(all: &[(&str, &str)]) -> RegistryKeys {
        all.iter().map(|(host, key)| ((*host).to_owned(), RegistryKey::from(*key))).collect()
    }

    fn queued(what: &str) -> Queued {
        let request = Request::Whole(json!({ "apps": {}, "keys": { "r.example": what } }));
        Queued::new(request, "uid 1".to_owned(), Wall(7))
    }

    #[test]
    fn a_document_has_one_key_for_an_app_and_shares_it_with_none() {
        let apps = ["shop", &"a".repeat(63)].map(|name| AppName::new(name).unwrap());
        let document = queued("hush");
        let later = Queued { at: Wall(8), ..document.clone() };
        let by_another = Queued { who: "uid 2".to_owned(), ..document.clone() };
        let all = [&document, &queued("other"), &later, &by_another];
        let keys: std::collections::BTreeSet<_> = all
            .iter()
            .flat_map(|document| apps.iter().map(|app| document.key(app).unwrap().to_string()))
            .collect();
        assert_eq!(keys.len(), all.len() * apps.len());
        assert!(keys.iter().all(|key| !key.contains("hush")));
        assert_eq!(document.key(&apps[0]), document.clone().key(&apps[0]));
    }

    #[tokio::test]
    async fn what_is_kept_is_its_owners_alone_and_leaves_nothing_behind_when_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device.json");
        let files = || {
            let found = std::fs::read_dir(dir.path()).unwrap();
            found.map(|file| file.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
        };
        let documents = DocumentFile::open(path.clone()).unwrap();
        // What a daemon left that was killed while it wrote, with too wide a mode.
        std::fs::write(path.with_extension("new"), "half of a ke").unwrap();
        let engine = documents.keys();
        let turn = documents.turn().await;
        turn.set_keys(keys(&[("r.example", "open sesame"), ("s.example", "s")])).await.unwrap();
        turn.set_queued(Some(queued("hush"))).await.unwrap();
        assert_eq!(engine.borrow()["r.example"].secret(), "open sesame");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(files(), ["device.json"]);
        assert_eq!(*DocumentFile::open(path.clone()).unwrap().kept(), *documents.kept());
        assert!(!format!("{:?}", documents.kept().keys).contains("sesame"));
        assert_eq!(documents.kept().queued.as_ref().unwrap().shown().what, "all of the device document");
        turn.set_keys(keys(&[("s.example", "s")])).await.unwrap();
        assert!(!std::fs::read_to_string(&path).unwrap().contains("sesame"));
        turn.set_queued(Some(queued("hush").failed("its turn came".to_owned()))).await.unwrap();
        let left = std::fs::read_to_string(&path).unwrap();
        assert!(left.contains("its turn came") && !left.contains("hush"), "{left}");
        turn.set_queued(None).await.unwrap();
        turn.set_keys(RegistryKeys::new()).await.unwrap();
        assert_eq!(files(), [""; 0]);
        assert_eq!(*DocumentFile::open(path).unwrap().kept(), Documents::default());
    }

    #[tokio::test]
    async fn what_could_not_be_kept_does_not_hold() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gone/device.json");
        let documents = DocumentFile::open(path).unwrap();
        let turn = documents.turn().await;
        turn.set_keys(keys(&[("r.example", "k")])).await.unwrap_err();
        turn.set_queued(Some(queued("k"))).await.unwrap_err();
        assert_eq!(*documents.kept(), Documents::default());
        assert!(documents.keys().borrow().is_empty());
    }

    #[test]
    fn a_garbled_file_is_said_without_what_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device.json");
        std::fs::write(&path, r#"{"keys": {"r.example": ["sesame"]}}"#).unwrap();
        let error = DocumentFile::open(path).map(drop).unwrap_err().to_string();
        assert!(error.starts_with("garbled in line 1, column ") && !error.contains("sesame"), "{error}");
    }
}
