//! Volumes without a name: those that an image asks for, or a mount without a source.
//!
//! An engine gives each container new ones. What is in them is the service's all the same, as the data of a database
//! whose file names no volume: so a container that takes the place of another is given those of that one, and they go
//! with the slot. Which they are is written on the containers, and kept on disk before one goes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use serde::Deserialize;
use upbeat_model::SlotId;
use upbeat_model::project::container::{Container, MountKind};

use super::look::{Found, is_id};
use super::wire::{Ask, part};
use super::{Engine, EngineError};

/// In the slot's directory: what [`Anonymous`] says, as JSON.
const FILE: &str = "volumes-without-name";

/// Larger is none that was written here.
const LENGTH_MAX: u64 = 64 << 10;

/// Where they are mounted, each with what the engine calls it.
pub(super) type Anonymous = BTreeMap<String, String>;

impl Engine {
    /// Those of a slot: of its containers that ever ran, and of those that have gone. They are on disk by then.
    ///
    /// Errors: the disk.
    pub(super) fn anonymous(&self, slot: &SlotId, found: &[Found]) -> Result<Anonymous, EngineError> {
        let kept = self.anonymous_kept(slot)?;
        let mut all = kept.clone();
        for one in found.iter().filter(|one| one.state.ever_ran()) {
            all.extend(one.anonymous.clone());
        }
        if all != kept {
            let path = self.file_of_anonymous(slot);
            let text = serde_json::to_vec(&all).unwrap_or_default();
            crate::process::private_dir(&self.slot_dir(slot))
                .and_then(|()| fs::write(&path, text))
                .map_err(|error| EngineError::io("which volumes the slot has", &error))?;
        }
        Ok(all)
    }

    /// Those of them that a container of this image has, too.
    pub(super) async fn carried_over(
        &self,
        mut all: Anonymous,
        container: &Container,
        image: &str,
    ) -> Result<Anonymous, EngineError> {
        if all.is_empty() {
            return Ok(all);
        }
        let asks = |kind: &MountKind| matches!(kind, MountKind::Volume { volume: None, .. });
        let mounts =
            || container.mounts.iter().map(|mount| (mount.target.trim_end_matches('/'), &mount.kind));
        let mut wanted = self.volumes_of_image(image).await?;
        wanted.retain(|target| !mounts().any(|(other, kind)| other == target && !asks(kind)));
        wanted.extend(mounts().filter(|(_, kind)| asks(kind)).map(|(target, _)| target.to_owned()));
        wanted.retain(|target| !container.tmpfs.keys().any(|other| other.trim_end_matches('/') == target));
        all.retain(|target, _| wanted.contains(target.trim_end_matches('/')));
        Ok(all)
    }

    /// The slot goes, and with it what is in them. One that somebody else uses stays.
    pub(super) async fn remove_anonymous(&self, all: &Anonymous) -> Result<(), EngineError> {
        for name in all.values().filter(|name| is_id(name)) {
            match self.wire().done(Ask::delete(format!("/volumes/{}", part(name)))).await {
                Err(error) if error.is_absent() => {}
                Err(error) if error.is_conflict() => {
                    tracing::warn!(volume = name, %error, "a volume without a name stays, as another uses it");
                }
                done => done?,
            }
        }
        Ok(())
    }

    async fn volumes_of_image(&self, image: &str) -> Result<BTreeSet<String>, EngineError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct There {
            config: Option<Config>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Config {
            volumes: Option<BTreeMap<String, serde_json::Value>>,
        }
        let there: There = self.wire().answer(Ask::get(format!("/images/{}/json", part(image)))).await?;
        let volumes = there.config.and_then(|config| config.volumes).unwrap_or_default();
        Ok(volumes.into_keys().map(|target| target.trim_end_matches('/').to_owned()).collect())
    }

    /// There are none any more.
    pub(super) fn forget_anonymous(&self, slot: &SlotId) -> Result<(), EngineError> {
        match fs::remove_file(self.file_of_anonymous(slot)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(EngineError::io("which volumes the slot has", &error))
            }
            _ => Ok(()),
        }
    }

    fn file_of_anonymous(&self, slot: &SlotId) -> PathBuf {
        self.slot_dir(slot).join(FILE)
    }

    fn anonymous_kept(&self, slot: &SlotId) -> Result<Anonymous, EngineError> {
        let path = self.file_of_anonymous(slot);
        let text = match fs::metadata(&path) {
            Ok(file) if file.len() > LENGTH_MAX => return Ok(Anonymous::new()),
            Ok(_) => fs::read(&path),
            Err(error) => Err(error),
        };
        match text {
            // Torn by a crash of the machine, it says nothing.
            Ok(text) => Ok(serde_json::from_slice(&text).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Anonymous::new()),
            Err(error) => Err(EngineError::io("which volumes the slot has", &error)),
        }
    }
}
