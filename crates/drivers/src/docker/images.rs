//! Images: there, or pulled; each once, and not all at a time.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};
use upbeat_model::SlotId;
use upbeat_model::project::Container;
use upbeat_model::project::container::{ImageRef, PullPolicy};

use super::credentials::Credentials;
use super::wire::{Ask, part};
use super::{Engine, EngineError, PrepareError, words};

/// Each pull fetches several layers at once; more than so many get in each other's way.
const PULLS: usize = 3;

/// A registry that sends nothing for so long is given up: the engine itself tells of every chunk.
const SILENCE_MAX: Duration = Duration::from_secs(180);

/// Layers whose progress is counted. An image has at most 127.
const LAYERS_MAX: usize = 512;

/// Slots whose last pull is remembered, so that it is not done again for the same operation.
const PULLED_MAX: usize = 16_384;

/// Images of which it is noted when they were pulled. With more all are forgotten, which costs a pull each.
const NOTED_MAX: usize = 1024;

/// How far something is that takes time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// An image waits for others that are pulled.
    Waiting {
        /// Its name.
        image: String,
        /// So many are pulled at once.
        at_once: usize,
    },
    /// The engine is asked for an image, and has said nothing yet.
    Asked {
        /// Its name.
        image: String,
    },
    /// The engine has not answered what it was asked before about the same slot.
    Engaged,
    /// It has, and is asked now.
    Begun,
    /// An image is pulled.
    Pulling {
        /// Its name.
        image: String,
        /// Layers that are there.
        done: usize,
        /// Layers that are known of.
        layers: usize,
        /// Bytes that came.
        bytes: u64,
        /// Bytes that are known of; not the whole before the last layer has begun.
        of: u64,
    },
    /// An image was pulled.
    Pulled {
        /// Its name.
        image: String,
    },
    /// Something a person should know.
    Note(String),
}

/// What is pulled now, and was for whom.
pub(super) struct Images {
    turns: Semaphore,
    /// By what the registry is asked for, and for which platform. Two tags of one digest are pulled apart: the registry
    /// alone knows that they are one, and to ask it first is a question more for every pull that can be answered
    /// otherwise a moment later. What it would save is the question for the second's manifest, as the engine itself
    /// fetches each layer once, for all who wait for it.
    under_way: Mutex<HashMap<(String, String), Pull>>,
    /// For which operation a slot's image was pulled last, and which.
    pulled: Mutex<HashMap<SlotId, (u64, String)>>,
}

type Pull = watch::Receiver<State>;

/// How a pull stands for all who wait for it.
#[derive(Clone, Debug)]
enum State {
    Going(Progress),
    Ended(Result<(), PrepareError>),
}

impl Default for Images {
    fn default() -> Self {
        let (under_way, pulled) = (Mutex::default(), Mutex::default());
        Self { turns: Semaphore::new(PULLS), under_way, pulled }
    }
}

/// Of an image what is used.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct There {
    id: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

/// A message about a pull.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Message {
    id: String,
    status: String,
    #[serde(rename = "progressDetail")]
    detail: Option<Detail>,
    error: Option<String>,
    #[serde(rename = "errorDetail")]
    why: Option<Why>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Detail {
    current: i64,
    total: i64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Why {
    message: String,
}

impl Engine {
    /// The image of a container is there; its id.
    ///
    /// Errors: it is not, and is not to be pulled; it cannot be pulled; it is for another machine.
    pub(super) async fn image(
        &self,
        slot: &SlotId,
        generation: u64,
        wanted: &Container,
        progress: &impl Fn(Progress),
    ) -> Result<String, PrepareError> {
        let there = self.image_there(&wanted.image).await?;
        let is_due = match (wanted.build.is_some(), wanted.pull_policy) {
            (true, _) | (_, PullPolicy::Never | PullPolicy::Build) => false,
            (_, PullPolicy::Missing) => there.as_ref().is_none_or(|there| !there.suits(wanted)),
            (_, PullPolicy::Always) => !self.was_pulled(slot, generation, &wanted.image),
            (_, PullPolicy::Every(age)) => {
                let is_old = self.pulled_longer_ago_than(&wanted.image, age.as_duration());
                there.is_none() || is_old && !self.was_pulled(slot, generation, &wanted.image)
            }
        };
        if !is_due {
            let there = there.ok_or_else(|| PrepareError::Image(words::no_image(wanted)))?;
            return there.checked(wanted);
        }
        self.pull(wanted, progress).await?;
        self.failpoint("image_pulled");
        self.note_pull(slot, generation, &wanted.image);
        if matches!(wanted.pull_policy, PullPolicy::Every(_)) {
            self.note_time_of_pull(&wanted.image);
        }
        let there = self.image_there(&wanted.image).await?;
        there.ok_or_else(|| PrepareError::Image(words::no_image(wanted)))?.checked(wanted)
    }

    /// Whether an image is there: its id.
    pub async fn image_id(&self, image: &ImageRef) -> Result<Option<String>, EngineError> {
        Ok(self.image_there(image).await?.map(|there| there.id))
    }

    async fn image_there(&self, image: &ImageRef) -> Result<Option<There>, EngineError> {
        let path = format!("/images/{}/json", part(&image.full()));
        match self.wire().answer::<There>(Ask::get(path)).await {
            Err(error) if error.is_absent() => Ok(None),
            there => there.map(Some),
        }
    }

    fn was_pulled(&self, slot: &SlotId, generation: u64, image: &ImageRef) -> bool {
        let pulled = self.inner.images.pulled.lock().unwrap_or_else(PoisonError::into_inner);
        pulled.get(slot).is_some_and(|(of, which)| *of == generation && which == image.as_str())
    }

    fn note_pull(&self, slot: &SlotId, generation: u64, image: &ImageRef) {
        let mut pulled = self.inner.images.pulled.lock().unwrap_or_else(PoisonError::into_inner);
        if pulled.len() >= PULLED_MAX {
            // Forgotten, one is pulled once too often, which finds all its layers there.
            pulled.clear();
        }
        pulled.insert(slot.clone(), (generation, image.as_str().to_owned()));
    }

    /// Where it is noted when an image was asked for last: the time of a file of its name. Beside the
    /// directories of apps; no app has such a name.
    fn noted_pull(&self, image: &ImageRef) -> PathBuf {
        self.inner.settings.slots.join(".pulls").join(part(&image.full()))
    }

    /// Where that is not known it counts as long ago.
    fn pulled_longer_ago_than(&self, image: &ImageRef, age: Duration) -> bool {
        let noted = std::fs::metadata(self.noted_pull(image)).and_then(|file| file.modified());
        noted.ok().and_then(|at| at.elapsed().ok()).is_none_or(|passed| passed >= age)
    }

    fn note_time_of_pull(&self, image: &ImageRef) {
        let path = self.noted_pull(image);
        let dir = path.parent().unwrap_or(&path);
        let note = || {
            crate::process::private_dir(dir)?;
            if std::fs::read_dir(dir)?.count() >= NOTED_MAX {
                std::fs::remove_dir_all(dir)?;
                crate::process::private_dir(dir)?;
            }
            std::fs::write(&path, "")
        };
        if let Err(error) = note() {
            tracing::warn!(%image, %error, "that it was pulled cannot be noted: it will be again");
        }
    }

    /// Pulls an image, or waits for who does. One that nobody waits for any more comes to its end all the same.
    async fn pull(&self, wanted: &Container, progress: &impl Fn(Progress)) -> Result<(), PrepareError> {
        let key = (asked_for(&wanted.image), wanted.platform.clone().unwrap_or_default());
        let mut state = {
            let mut under_way = self.inner.images.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            match under_way.get(&key) {
                Some(pull) => pull.clone(),
                None => {
                    let asked = Progress::Asked { image: wanted.image.to_string() };
                    let (tell, state) = watch::channel(State::Going(asked));
                    under_way.insert(key.clone(), state.clone());
                    tokio::spawn(self.clone().pull_for_all(key, wanted.image.clone(), tell));
                    state
                }
            }
        };
        loop {
            let now = state.borrow_and_update().clone();
            match now {
                State::Going(how) => progress(how),
                State::Ended(Ok(())) => {
                    progress(Progress::Pulled { image: wanted.image.to_string() });
                    return Ok(());
                }
                State::Ended(Err(error)) => return Err(error),
            }
            if state.changed().await.is_err() {
                let why = format!("image `{}` was not pulled: its pull broke off", wanted.image);
                return Err(PrepareError::Image(why));
            }
        }
    }

    async fn pull_for_all(self, key: (String, String), image: ImageRef, tell: watch::Sender<State>) {
        let pulled = async {
            let turns = &self.inner.images.turns;
            let _turn = match turns.try_acquire() {
                Ok(turn) => Some(turn),
                Err(_) => {
                    let waiting = Progress::Waiting { image: image.to_string(), at_once: PULLS };
                    tell.send_replace(State::Going(waiting));
                    // INVARIANT: the semaphore is never closed, so a turn comes.
                    let turn = turns.acquire().await.ok();
                    tell.send_replace(State::Going(Progress::Asked { image: image.to_string() }));
                    turn
                }
            };
            self.pull_now(&image, &key.1, &tell).await
        }
        .await;
        self.inner.images.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        tell.send_replace(State::Ended(pulled));
    }

    async fn pull_now(
        &self,
        image: &ImageRef,
        platform: &str,
        tell: &watch::Sender<State>,
    ) -> Result<(), PrepareError> {
        let credentials = self.credentials(image).await.map_err(PrepareError::Image)?;
        let is_by_key = matches!(credentials, Credentials::Key(_));
        let refused = |message: &str| PrepareError::Image(words::not_pulled(image, message, is_by_key));
        let mut ask = Ask::post("/images/create").query("fromImage", asked_for(image)).patience(SILENCE_MAX);
        if !platform.is_empty() {
            ask = ask.query("platform", platform);
        }
        if let Some(header) = credentials.header() {
            ask = ask.secret("x-registry-auth", header)?;
        }
        let mut stream = match self.wire().stream(ask).await {
            Err(EngineError::Said { message, .. }) => return Err(refused(&message)),
            stream => stream?,
        };
        let mut layers = Layers::default();
        loop {
            let Ok(line) = timeout(SILENCE_MAX, stream.line()).await else {
                return Err(refused(&format!("nothing came for {} s", SILENCE_MAX.as_secs())));
            };
            let Some(line) = line? else { return Ok(()) };
            let Ok(message) = serde_json::from_slice::<Message>(&line) else {
                return Err(EngineError::Nonsense("a message about a pull that is none".to_owned()).into());
            };
            if let Some(error) = message.error.or(message.why.map(|why| why.message)) {
                return Err(refused(&error));
            }
            if layers.heard(&message.id, &message.status, message.detail) {
                tell.send_replace(State::Going(layers.progress(image)));
            }
        }
    }
}

/// By what its registry is asked for it. A reference with a tag and a digest is pulled by its digest: that says more.
fn asked_for(image: &ImageRef) -> String {
    match image.digest() {
        Some(digest) => format!("{}@{digest}", image.name()),
        None => image.full(),
    }
}

impl There {
    /// It is for the platform that is asked for, as far as that says.
    fn suits(&self, wanted: &Container) -> bool {
        let Some(platform) = &wanted.platform else { return true };
        let mut parts = platform.split('/');
        let os = parts.next().unwrap_or_default();
        let architecture = parts.next().unwrap_or(&self.architecture);
        os == self.os && architecture == self.architecture
    }

    fn checked(self, wanted: &Container) -> Result<String, PrepareError> {
        let is_digest = self.id.strip_prefix("sha256:").is_some_and(super::look::is_id);
        if !is_digest {
            return Err(EngineError::Nonsense("an image without an id".to_owned()).into());
        }
        if self.suits(wanted) {
            return Ok(self.id);
        }
        Err(PrepareError::Image(format!(
            "image `{}` is for {}/{}, and `platform` asks for {}; pull or build it for that",
            wanted.image,
            self.os,
            self.architecture,
            wanted.platform.as_deref().unwrap_or_default()
        )))
    }
}

/// How far the layers of one pull are.
#[derive(Default)]
struct Layers {
    of: HashMap<String, (u64, u64, bool)>,
    told: Option<Instant>,
}

/// Between two words about a pull; an engine has ten a second for each layer.
const TOLD_EVERY: Duration = Duration::from_millis(200);

impl Layers {
    /// Whether there is something to tell.
    fn heard(&mut self, id: &str, status: &str, detail: Option<Detail>) -> bool {
        let is_layer = id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_layer || self.of.len() >= LAYERS_MAX && !self.of.contains_key(id) {
            return false;
        }
        let layer = self.of.entry(id.to_owned()).or_default();
        let Detail { current, total } = detail.unwrap_or_default();
        let (current, total) = (u64::try_from(current).unwrap_or(0), u64::try_from(total).unwrap_or(0));
        match status {
            "Downloading" => *layer = (current, total.max(layer.1), false),
            "Download complete" => layer.0 = layer.1,
            "Pull complete" | "Already exists" => *layer = (layer.1, layer.1, true),
            _ => {}
        }
        let is_due = self.told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) || layer.2;
        if is_due {
            self.told = Some(Instant::now());
        }
        is_due
    }

    fn progress(&self, image: &ImageRef) -> Progress {
        let sum =
            |pick: fn(&(u64, u64, bool)) -> u64| self.of.values().map(pick).fold(0_u64, u64::saturating_add);
        Progress::Pulling {
            image: image.to_string(),
            done: self.of.values().filter(|layer| layer.2).count(),
            layers: self.of.len(),
            bytes: sum(|layer| layer.0),
            of: sum(|layer| layer.1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_counts_layers_and_bytes_and_never_more_than_it_can_hold() {
        let mut layers = Layers::default();
        let image = ImageRef::parse("web").unwrap();
        let detail = |current, total| Some(Detail { current, total });
        assert!(layers.heard("0123456789ab", "Downloading", detail(10, 100)));
        layers.heard("ba9876543210", "Downloading", detail(-5, i64::MAX));
        layers.heard("0123456789ab", "Pull complete", None);
        assert!(!layers.heard("latest", "Pulling from web", None));
        let Progress::Pulling { done, layers: all, bytes, of, .. } = layers.progress(&image) else {
            panic!()
        };
        assert_eq!((done, all, bytes, of), (1, 2, 100, 100 + i64::MAX as u64));
        for n in 0..2 * LAYERS_MAX {
            layers.heard(&format!("{n:012x}"), "Downloading", detail(i64::MAX, i64::MAX));
        }
        assert_eq!(layers.of.len(), LAYERS_MAX);
        layers.progress(&image);
    }

    #[test]
    fn an_image_suits_the_platform_it_is_for() {
        let there = There { id: String::new(), os: "linux".to_owned(), architecture: "arm64".to_owned() };
        let mut wanted = Container::new(ImageRef::parse("web").unwrap());
        for (platform, suits) in [
            (None, true),
            (Some("linux"), true),
            (Some("linux/arm64/v8"), true),
            (Some("linux/amd64"), false),
        ] {
            wanted.platform = platform.map(str::to_owned);
            assert_eq!(there.suits(&wanted), suits, "{platform:?}");
        }
    }
}
