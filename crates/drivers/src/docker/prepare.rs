//! Preparing a container: its image, its networks and volumes, and itself, so that a start is all that is
//! left to do. Nothing that runs is touched.

use std::sync::Arc;

use futures_util::FutureExt;
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
        self.must_be_checked(slot, spec, &image).await?;
        let turn = match self.turn_of(slot).now_or_never() {
            Some(turn) => turn,
            // An earlier wish was given up, and what the engine was asked for it is still out.
            None => {
                progress(Progress::Engaged);
                let turn = self.turn_of(slot).await;
                progress(Progress::Begun);
                turn
            }
        };
        let (engine, wanted) = (self.clone(), wanted.clone());
        // Whoever gives up does not leave the engine at work on what a removal would not see: this ends, and the
        // next in turn comes after it.
        let made = tokio::spawn(async move {
            let _turn = turn;
            engine.make(&wanted, image).await
        });
        let (prepared, notes) =
            made.await.map_err(|_| EngineError::Nonsense("Upbeat itself stumbled over it".to_owned()))??;
        notes.into_iter().for_each(|note| progress(Progress::Note(note)));
        Ok(prepared)
    }

    /// The same, of an image that is there, by whoever has the slot's turn; with what a person should know.
    async fn make(&self, wanted: &Prepare, image: String) -> Result<(Prepared, Vec<String>), PrepareError> {
        let Prepare { slot, spec, .. } = wanted;
        let Some(container) = spec.container.as_deref() else {
            return Err(PrepareError::Refused(format!("service `{}` is no container", slot.service)));
        };
        let found = look::settled(self.wire(), self.owner(), slot).await?;
        self.make_of(wanted, container, image, found).await.map_err(|error| match error {
            PrepareError::Engine(error) if error.is_unreachable() => PrepareError::BrokenOff(error),
            error => error,
        })
    }

    /// Of these that are there already.
    async fn make_of(
        &self,
        wanted: &Prepare,
        container: &Container,
        image: String,
        found: Vec<Found>,
    ) -> Result<(Prepared, Vec<String>), PrepareError> {
        let Prepare { slot, spec, .. } = wanted;
        let mut notes = Vec::new();
        let anonymous = self.anonymous(slot, &found)?;
        // One that has ended is still in its networks, which may have to be made anew.
        let is_other = |found: &&Found| found.marks.digest != wanted.digest && !found.state.is_alive();
        let (left, found): (Vec<Found>, Vec<Found>) = found.into_iter().partition(|found| is_other(&found));
        self.take_away(slot, &left, container.networks()).await?;
        for attachment in container.networks() {
            self.network(&slot.app, &attachment.network).await?;
        }
        for volume in container.volumes() {
            notes.extend(self.volume(&slot.app, volume).await?);
        }
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
        let update_lock = self.update_lock(slot, spec)?;
        // What runs would be stopped for one that cannot be started.
        if !there.is_some_and(|there| there.state.is_alive())
            && let Some((port, by)) = self.held_by_a_stranger(container).await?
        {
            return Err(PrepareError::Refused(words::port_held(&port, &by)));
        }
        if let Some(there) = there {
            if !there.state.is_alive() {
                self.join(there, container.networks(), &slot.service).await?;
            }
            return Ok((Prepared { container: there.id.clone(), image }, notes));
        }
        let anonymous = self.carried_over(anonymous, container, &image).await?;
        let identity = body::Identity {
            image: image.clone(),
            peers,
            files,
            update_lock,
            anonymous,
            ..Default::default()
        };
        let id = self.create(wanted, container, identity, &mut notes).await?;
        Ok((Prepared { container: id, image }, notes))
    }

    async fn create(
        &self,
        wanted: &Prepare,
        container: &Container,
        mut identity: body::Identity,
        notes: &mut Vec<String>,
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
        notes.extend(created.warnings.iter().flatten().map(|warning| words::warned(warning)));
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
            let Some(holder) = self.holder_of(name).await? else { return Ok(name.to_owned()) };
            match self.marks_of(&holder).map(|marks| marks.slot.app) {
                // It has it until it is replaced, or goes: then it is given away.
                Some(app) if app == slot.app => {}
                other => return Err(PrepareError::Refused(words::name_taken(name, other.as_ref()))),
            }
        }
        // One of the same digest runs under it, of another image.
        let number = crate::clock::wall().0;
        Ok(format!("{beside}.{number}"))
    }
}

impl Engine {
    /// The container that is called so.
    pub(super) async fn holder_of(&self, name: &str) -> Result<Option<Listed>, EngineError> {
        // The engine's filter finds parts of names too.
        let ask = Ask::get("/containers/json").query("all", "1").filters(&[("name", &[name])]);
        let found: Vec<Listed> = self.wire().answer(ask).await?;
        let has_it = |one: &Listed| one.names.iter().flatten().any(|own| own.trim_start_matches('/') == name);
        Ok(found.into_iter().find(has_it))
    }

    /// What one of ours says of itself.
    pub(super) fn marks_of(&self, listed: &Listed) -> Option<labels::Marks> {
        listed.labels.as_ref().and_then(|all| labels::Marks::read(self.owner(), all))
    }
}

/// What a container is called whose file does not say.
pub fn usual_name(slot: &SlotId) -> String {
    format!("{}-{}-{}", slot.app, slot.service, slot.index)
}
