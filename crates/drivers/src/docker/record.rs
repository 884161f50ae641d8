//! What is on disk of a slot's last start, so that a daemon that comes later can tell whether it happened.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use upbeat_model::Attempt;

use super::error::EngineError;

/// In the slot's directory.
const FILE: &str = "container.json";

/// While it is written.
const NEW: &str = "container.json.new";

/// Larger is none that was written here.
const LENGTH_MAX: u64 = 64 << 10;

/// An attempt that was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// By this container.
    pub(super) container: String,
    pub(super) attempt: Attempt,
    /// When the engine said that it was started last, before this: another time there now is this attempt.
    pub(super) started_before: String,
    /// The number of its first log record.
    pub(super) log_start: u64,
    /// In which boot of the machine. Records of an older version have none.
    #[serde(default)]
    pub(super) boot: String,
    /// The engine said that it runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) ran: bool,
    /// It could not be started; why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) failed: Option<String>,
}

/// Whether a container may run in one of these slots: one was begun since the machine was booted, and whoever has
/// stopped it left the slot. Only an engine could say more.
pub(crate) fn may_run(slots_dir: &Path) -> bool {
    let Ok(boot) = crate::clock::boot_id() else { return false };
    crate::process::slots_in(slots_dir).iter().any(|slot| {
        let read = Record::read(&crate::process::dir_of(slots_dir, slot));
        matches!(read, Ok(Some(record)) if record.boot == boot && record.failed.is_none())
    })
}

impl Record {
    /// What is there. One that says nothing is none: it was torn by a crash of the machine.
    ///
    /// Errors: the disk cannot be read.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, EngineError> {
        let path = dir.join(FILE);
        let text = match fs::metadata(&path) {
            Ok(file) if file.len() > LENGTH_MAX => return Ok(None),
            Ok(_) => fs::read(&path),
            Err(error) => Err(error),
        };
        match text {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(EngineError::io("the slot's record", &error)),
        }
    }

    /// Nothing was ever started here.
    pub(super) fn forget(dir: &Path) -> Result<(), EngineError> {
        match fs::remove_file(dir.join(FILE)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(EngineError::io("the slot's record", &error))
            }
            _ => Ok(()),
        }
    }

    /// Writes it in place of what is there: whole, or not at all, and before anything else is done.
    pub(super) fn write(&self, dir: &Path) -> Result<(), EngineError> {
        let write = || {
            crate::process::private_dir(dir)?;
            let mut file = File::create(dir.join(NEW))?;
            file.write_all(&serde_json::to_vec(self).unwrap_or_default())?;
            file.sync_data()?;
            fs::rename(dir.join(NEW), dir.join(FILE))?;
            File::open(dir)?.sync_all()
        };
        write().map_err(|error| EngineError::io("the slot's record", &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_torn_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let slot = dir.path().join("a/web/1");
        assert_eq!(Record::read(&slot), Ok(None));
        let record = Record {
            container: "f".repeat(64),
            attempt: Attempt(3),
            started_before: "never".to_owned(),
            log_start: 7,
            boot: "b".to_owned(),
            ran: true,
            failed: None,
        };
        record.write(&slot).unwrap();
        assert_eq!(Record::read(&slot), Ok(Some(record)));
        for torn in ["", "{", "[]", "{\"container\": 1}"] {
            fs::write(slot.join(FILE), torn).unwrap();
            assert_eq!(Record::read(&slot), Ok(None));
        }
        fs::write(slot.join(FILE), vec![b' '; LENGTH_MAX as usize + 1]).unwrap();
        assert_eq!(Record::read(&slot), Ok(None));
    }
}
