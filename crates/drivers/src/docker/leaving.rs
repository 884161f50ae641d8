//! Containers that go, and the networks that go with them.
//!
//! Which networks a container was in is written on it alone. So it is kept on disk before the container goes: whoever
//! dies in between finds there what is left to do.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use upbeat_model::SlotId;
use upbeat_model::project::container::Attachment;

use super::look::Found;
use super::{Engine, EngineError};

/// In the slot's directory: names, one a line.
const FILE: &str = "networks-left";

/// Larger is none that was written here.
const LENGTH_MAX: u64 = 64 << 10;

impl Engine {
    /// Removes containers that do not run; then the networks that they were in and the slot needs no more, each with
    /// the last that is in it. A network that cannot go keeps nothing else from happening.
    ///
    /// Errors: one runs; the engine; the disk.
    pub(super) async fn take_away(
        &self,
        slot: &SlotId,
        left: &[Found],
        stays_in: &[Attachment],
    ) -> Result<(), EngineError> {
        let stays = |name: &str| stays_in.iter().any(|attachment| attachment.network.name == name);
        let mut names = self.networks_left(slot)?;
        let made = left.iter().flat_map(|found| &found.marks.networks).map(|attachment| &attachment.network);
        let own = made.filter(|network| !network.external).map(|network| network.name.clone());
        let known = names.len();
        names.extend(own.filter(|name| !stays(name)));
        if names.len() > known {
            self.keep_networks_left(slot, &names)?;
        }
        for container in left {
            self.discard(slot, container).await?;
        }
        for name in names.iter().filter(|name| !stays(name)) {
            match self.remove_network(&slot.app, name).await {
                // It goes with that one.
                Ok(()) | Err(EngineError::InUse { .. }) => {}
                Err(error) => tracing::warn!(network = name, %error, "a network that nobody needs stays"),
            }
        }
        if names.is_empty() { Ok(()) } else { self.keep_networks_left(slot, &BTreeSet::new()) }
    }

    fn file_of_networks_left(&self, slot: &SlotId) -> PathBuf {
        self.slot_dir(slot).join(FILE)
    }

    /// What was not done of it. Errors: the disk cannot be read.
    fn networks_left(&self, slot: &SlotId) -> Result<BTreeSet<String>, EngineError> {
        let path = self.file_of_networks_left(slot);
        let text = match fs::metadata(&path) {
            Ok(file) if file.len() > LENGTH_MAX => return Ok(BTreeSet::new()),
            Ok(_) => fs::read_to_string(&path),
            Err(error) => Err(error),
        };
        match text {
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            // Torn by a crash of the machine, it says nothing.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => {
                Ok(BTreeSet::new())
            }
            Err(error) => Err(EngineError::io("which networks the slot leaves", &error)),
        }
    }

    fn keep_networks_left(&self, slot: &SlotId, names: &BTreeSet<String>) -> Result<(), EngineError> {
        let path = self.file_of_networks_left(slot);
        let kept = if names.is_empty() {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        } else {
            let text: String = names.iter().flat_map(|name| [name.as_str(), "\n"]).collect();
            crate::process::private_dir(&self.slot_dir(slot)).and_then(|()| fs::write(&path, text))
        };
        kept.map_err(|error| EngineError::io("which networks the slot leaves", &error))
    }
}
