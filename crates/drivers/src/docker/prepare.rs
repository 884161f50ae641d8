//! Preparing a container: its image, its networks and volumes, and itself, so that a start is all that is
//! left to do. Nothing that runs is touched.

use std::sync::Arc;

use serde::Deserialize;
use upbeat_model::SlotId;
use upbeat_model::project::{Container, Service};

use super::images::Progress;
use super::look::{self, Found, Listed, is_id};
use super::wire::{Ask, part};
use super::{Engine, EngineError, PrepareError, body, labels, words};

/// What to prepare.
#[derive(Clone, Debug)]
pub struct Prepare {
    /// Where it will run.
    pub slot: SlotId,
    /// What: a service that is a container, as this copy has it.
    pub spec: Arc<Service>,
    /// Of that.
    pub digest: String,
    /// It is made for this one.
    pub release: String,
    /// Of the wish: for one of them an image is asked for at its registry once.
    pub generation: u64,
}

/// What was prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The id of the container.
    pub container: String,
    /// The id of its image.
    pub image: String,
}

#[derive(Deserialize)]
struct Created {
    #[serde(rename = "Id")]
    id: String,
    #[serde(rename = "Warnings", default)]
    warnings: Option<Vec<String>>,
}

impl Engine {
    /// Makes all ready for a start: whatever is there already is taken as it is. May be asked again at any
    /// time, and given up at any time; an image that is being pulled then is pulled to its end.
    ///
    /// Errors: as they are named.
    pub async fn prepare(
        &self,
        wanted: Prepare,
        progress: impl Fn(Progress),
    ) -> Result<Prepared, PrepareError> {
        self.watch();
        let Prepare { slot, spec, .. } = &wanted;
        let Some(container) = spec.container.as_deref() else {
            return Err(PrepareError::Refused(format!("service `{}` is no container", slot.service)));
        };
        let image = self.image(slot, wanted.generation, container, &progress).await?;
        for attachment in container.networks() {
            self.network(&slot.app, &attachment.network).await?;
        }
        for volume in container.volumes() {
            if let Some(note) = self.volume(&slot.app, volume).await? {
                progress(Progress::Note(note));
            }
        }
        let _turn = self.turn_of(slot).await;
        let found = look::settled(self.wire(), self.owner(), slot).await?;
        let peers = self.peers(slot, container).await?;
        let is_it = |found: &&Found| {
            let marks = &found.marks;
            marks.digest == wanted.digest && marks.image == image && marks.peers == peers
        };
        // Of two, that which runs.
        let there = found.iter().filter(is_it).max_by_key(|found| found.state.is_alive());
        let keep = there.map(|found| found.id.clone());
        for other in found.iter().filter(|other| Some(&other.id) != keep.as_ref() && !other.state.is_alive())
        {
            self.discard(slot, other).await?;
        }
        let alive = found.iter().filter(|other| other.state.is_alive());
        let kept: Vec<&str> = alive.map(|other| other.marks.digest.as_str()).collect();
        // Also for one that is there: they may be gone with all that this daemon kept.
        let files = self.files(slot, spec, &wanted.digest, &kept)?;
        if let Some(there) = there {
            if !there.state.is_alive() {
                self.join(there, container.networks(), &slot.service).await?;
            }
            return Ok(Prepared { container: there.id.clone(), image });
        }
        let identity = body::Identity { image: image.clone(), peers, files, ..Default::default() };
        let id = self.create(&wanted, container, identity, &progress).await?;
        Ok(Prepared { container: id, image })
    }

    async fn create(
        &self,
        wanted: &Prepare,
        container: &Container,
        mut identity: body::Identity,
        progress: &impl Fn(Progress),
    ) -> Result<String, PrepareError> {
        let Prepare { slot, spec, digest, release, .. } = wanted;
        let proper = container.name.clone().unwrap_or_else(|| usual_name(slot));
        let name = self.free_name(slot, &proper, digest).await?;
        let version = self.wire().version().await?;
        // Only then it has to be said anew.
        let has_none =
            container.entrypoint.is_none() && container.command.as_ref().is_some_and(Vec::is_empty);
        if has_none {
            identity.entrypoint = self.entrypoint_of(&identity.image).await?;
        }
        let made = body::create_body(spec, slot, &identity, version).map_err(PrepareError::Refused)?;
        let mut made = made;
        made.create.labels.get_or_insert_default().extend(labels::of_container(
            self.owner(),
            slot,
            spec,
            [digest, release, &identity.image, &proper],
        ));
        made.create.labels.get_or_insert_default().extend(labels::of_peers(&identity.peers));
        let mut ask = Ask::post("/containers/create").query("name", &name);
        if let Some(platform) = &container.platform {
            ask = ask.query("platform", platform);
        }
        self.failpoint("container_creating");
        let created = self.wire().answer::<Created>(ask.json(&made.body())?).await;
        let created = match created {
            Ok(created) if is_id(&created.id) => created,
            Ok(_) => return Err(EngineError::Nonsense("it made a container without an id".to_owned()).into()),
            Err(EngineError::Said { status, message }) if words::is_of_the_engine(&message) => {
                return Err(EngineError::Said { status, message }.into());
            }
            Err(EngineError::Said { message, .. }) => {
                return Err(PrepareError::Refused(words::not_created(&message)));
            }
            Err(error) => return Err(error.into()),
        };
        self.failpoint("container_created");
        for warning in created.warnings.iter().flatten() {
            progress(Progress::Note(words::tidy(warning)));
        }
        for attachment in &made.connect {
            let network = self.network(&slot.app, &attachment.network).await?;
            self.connect(&network, &created.id, attachment, &slot.service).await?;
        }
        self.failpoint("container_connected");
        Ok(created.id)
    }

    /// What an image runs its command by.
    async fn entrypoint_of(&self, image: &str) -> Result<Vec<String>, EngineError> {
        #[derive(Deserialize)]
        struct There {
            #[serde(rename = "Config")]
            config: Option<Config>,
        }
        #[derive(Deserialize)]
        struct Config {
            #[serde(rename = "Entrypoint")]
            entrypoint: Option<Vec<String>>,
        }
        let there: There = self.wire().answer(Ask::get(format!("/images/{}/json", part(image)))).await?;
        Ok(there.config.and_then(|config| config.entrypoint).unwrap_or_default())
    }

    /// The name of the slot, or, as long as another container of the slot has that, one beside it.
    async fn free_name(&self, slot: &SlotId, proper: &str, digest: &str) -> Result<String, PrepareError> {
        let beside = format!("{proper}.{digest}");
        for name in [proper, &beside] {
            // The engine's filter finds parts of names too.
            let ask = Ask::get("/containers/json").query("all", "1").filters(&[("name", &[name])]);
            let found: Vec<Listed> = self.wire().answer(ask).await?;
            let has_it =
                |one: &&Listed| one.names.iter().flatten().any(|own| own.trim_start_matches('/') == name);
            let Some(holder) = found.iter().find(has_it) else { return Ok(name.to_owned()) };
            let marks = holder.labels.as_ref().and_then(|all| labels::Marks::read(self.owner(), all));
            if marks.is_none_or(|marks| marks.slot != *slot) {
                return Err(PrepareError::Refused(words::name_taken(name)));
            }
        }
        // One of the same digest runs under it, of another image.
        let number = crate::clock::wall().0;
        Ok(format!("{beside}.{number}"))
    }
}

/// What a container is called whose file does not say.
pub fn usual_name(slot: &SlotId) -> String {
    format!("{}-{}-{}", slot.app, slot.service, slot.index)
}
