//! Images that are built: the context goes to the engine as it comes, and what the engine says comes back.
//!
//! It is the engine's own (classic) builder that is asked. A build ends with whoever listens: the engine calls it off
//! when the connection is closed, and removes what it has made of containers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::TryStreamExt;
use http_body_util::{Empty, StreamBody};
use hyper::body::Frame;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use upbeat_model::build::{BuildWord, ImageBuild};
use upbeat_model::withheld::without_secrets_of;

use super::wire::{Ask, Stream};
use super::{Engine, EngineError, labels, words};

/// Each build has the engine run what it likes; more at once than this get in the way of what is to run.
const BUILDS: usize = 2;

/// So many wait for their turn, each with a connection of a client that waits with it.
const WAITING_MAX: usize = 16;

/// A line of output that has no end by then is told in parts.
const LINE_MAX: usize = 4 << 10;

/// All that is said of a build stands in its address, of which HTTP libraries take 64 KiB.
const SAID_MAX: usize = 60_000;

/// Why an image was not built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// What is asked for cannot be built: for the person who wrote it.
    #[error("{0}")]
    Refused(String),
    /// A step failed.
    #[error("step {number} of {of}, `{text}`, failed: {why}")]
    Step {
        /// Which, counted from one.
        number: u32,
        /// Of how many.
        of: u32,
        /// The instruction.
        text: String,
        /// In the engine's words.
        why: String,
    },
    /// Too many wait already.
    #[error("{WAITING_MAX} builds wait for their turn, which is as many as may")]
    Busy,
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Turns of builds.
pub(super) struct Builds {
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Default for Builds {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(BUILDS)), waiting: AtomicUsize::new(0) }
    }
}

/// Counted as long as it waits.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Builds {
    async fn turn(&self) -> Result<OwnedSemaphorePermit, BuildError> {
        if let Ok(turn) = self.turns.clone().try_acquire_owned() {
            return Ok(turn);
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= WAITING_MAX {
            return Err(BuildError::Busy);
        }
        // It is never closed.
        self.turns.clone().acquire_owned().await.map_err(|_| BuildError::Busy)
    }
}

/// An image that is being built. Dropped, it is called off.
pub struct Building {
    stream: Stream,
    told: Telling,
    _turn: OwnedSemaphorePermit,
}

impl std::fmt::Debug for Building {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Building").finish_non_exhaustive()
    }
}

/// A message about a build.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Message {
    stream: Option<String>,
    status: Option<String>,
    id: Option<String>,
    #[serde(rename = "progressDetail")]
    detail: Option<serde_json::Value>,
    aux: Option<Aux>,
    error: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Aux {
    #[serde(rename = "ID")]
    id: String,
}

impl Engine {
    /// Has an image built of a context: the parts of a tar, which are read as fast as the engine takes them; of one
    /// that the engine fetches nothing is read. Returns when the engine has it all and says something.
    ///
    /// Errors: as they are named. A context that breaks off is an engine that broke off.
    pub async fn build<C, E>(&self, wanted: &ImageBuild, context: C) -> Result<Building, BuildError>
    where
        C: futures_util::Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        check(wanted)?;
        let ask = ask_of(wanted);
        if ask.length() > SAID_MAX {
            let why = "`args`, `labels` and the like are too long for an engine; put what they hold into files of the context";
            return Err(BuildError::Refused(why.to_owned()));
        }
        let turn = self.inner.builds.turn().await?;
        let credentials = self.all_credentials().await;
        let ask = ask.of_type("application/x-tar").secret("x-registry-config", &credentials.header)?;
        let asked = match wanted.build.is_fetched() {
            true => self.wire().stream_of(ask, Empty::<Bytes>::new()).await,
            false => self.wire().stream_of(ask, StreamBody::new(context.map_ok(Frame::data))).await,
        };
        let from = wanted.build.context.clone();
        let stream = match asked {
            Err(EngineError::Said { message, .. }) => {
                return Err(BuildError::Refused(words::not_built(&without_secrets_of(&from, message))));
            }
            stream => stream?,
        };
        let notes =
            credentials.lacks.into_iter().map(|text| BuildWord::Output { text: format!("note: {text}") });
        let marks = u32::try_from(marks_of(wanted).len()).unwrap_or(0);
        let told = Telling { words: notes.collect(), marks, from, ..Telling::default() };
        Ok(Building { stream, told, _turn: turn })
    }
}

fn check(wanted: &ImageBuild) -> Result<(), BuildError> {
    let refuse = |why: &str| Err(BuildError::Refused(why.to_owned()));
    if wanted.image.digest().is_some() || wanted.build.tags.iter().any(|tag| tag.digest().is_some()) {
        return refuse("an image that is built has no digest before; give it a tag alone");
    }
    if wanted.build.dockerfile_inline.is_some() {
        return refuse("`dockerfile_inline` is a file of the context by now; name it under `dockerfile`");
    }
    Ok(())
}

/// Labels of the image: those of its file, and whose it is.
fn marks_of(wanted: &ImageBuild) -> BTreeMap<String, String> {
    let mut marks = wanted.build.labels.clone();
    marks.insert(labels::APP.to_owned(), wanted.app.to_string());
    marks.insert(labels::SERVICE.to_owned(), wanted.service.to_string());
    marks
}

/// As the engine reads it.
fn ask_of(wanted: &ImageBuild) -> Ask {
    let ImageBuild { image, build, .. } = wanted;
    let json = |value: serde_json::Value| value.to_string();
    // Nothing is left of a step that failed.
    let mut ask = Ask::post("/build").query("version", "1").query("rm", "1").query("forcerm", "1");
    ask = ask.query("t", image.full()).query("labels", json(serde_json::json!(marks_of(wanted))));
    for tag in &build.tags {
        ask = ask.query("t", tag.full());
    }
    for (host, addresses) in &build.extra_hosts {
        for address in addresses {
            ask = ask.query("extrahosts", format!("{host}:{address}"));
        }
    }
    let ulimits: Vec<_> = (build.ulimits.iter())
        .map(|(name, limit)| serde_json::json!({ "Name": name, "Soft": limit.soft, "Hard": limit.hard }))
        .collect();
    let said = [
        ("remote", build.is_fetched().then(|| build.context.clone())),
        ("dockerfile", build.dockerfile.clone()),
        ("buildargs", (!build.args.is_empty()).then(|| json(serde_json::json!(build.args)))),
        ("cachefrom", (!build.cache_from.is_empty()).then(|| json(serde_json::json!(build.cache_from)))),
        ("networkmode", build.network.clone()),
        ("nocache", build.no_cache.then(|| "1".to_owned())),
        ("platform", build.platform.clone()),
        ("pull", build.pull.then(|| "1".to_owned())),
        ("shmsize", build.shm_size.map(|bytes| bytes.to_string())),
        ("target", build.target.clone()),
        ("ulimits", (!ulimits.is_empty()).then(|| json(ulimits.into()))),
    ];
    for (key, value) in said {
        if let Some(value) = value {
            ask = ask.query(key, value);
        }
    }
    ask
}

impl Building {
    /// What is told next. `None`: it was built, and that was told. May be given up and asked again.
    ///
    /// Errors: it was not built; what was there before is as it was.
    pub async fn next(&mut self) -> Result<Option<BuildWord>, BuildError> {
        loop {
            if let Some(word) = self.told.words.pop_front() {
                return Ok(Some(word));
            }
            if self.told.is_over {
                return Ok(None);
            }
            match self.stream.line().await? {
                Some(line) => {
                    let message = serde_json::from_slice(&line).map_err(|_| {
                        EngineError::Nonsense("a message about a build that is none".to_owned())
                    })?;
                    self.told.hear(message)?;
                }
                None => self.told.end()?,
            }
        }
    }
}

/// From the engine's messages to words.
#[derive(Default)]
struct Telling {
    words: VecDeque<BuildWord>,
    /// Of a line that has not ended.
    left: String,
    step: Option<(u32, u32, String)>,
    /// So many steps are the engine's own, behind those of the file: each label is one.
    marks: u32,
    id: Option<String>,
    is_over: bool,
    /// What it is built of: an address, with what it says of who asks, comes up in the engine's words.
    from: String,
}

impl Telling {
    fn hear(&mut self, message: Message) -> Result<(), BuildError> {
        if let Some(why) = message.error {
            let why = without_secrets_of(&self.from, why);
            return Err(match self.step.take() {
                Some((number, of, text)) => {
                    BuildError::Step { number, of, text, why: words::not_built(&why) }
                }
                None => BuildError::Refused(words::not_built(&why)),
            });
        }
        if let Some(aux) = message.aux.filter(|aux| !aux.id.is_empty()) {
            // Each stage has one; the last is the image.
            self.id = Some(aux.id);
        }
        if let Some(text) = message.stream {
            // What a step said without an end, and what the engine says next, are two lines.
            let first = uncoloured(&text).split('\n').next().unwrap_or_default();
            if !self.left.is_empty() && (is_of_the_engine(first) || step(first).is_some()) {
                self.line();
            }
            for part in uncoloured(&text).split_inclusive('\n') {
                self.left.push_str(part);
                if part.ends_with('\n') || self.left.len() > LINE_MAX {
                    self.line();
                }
            }
        }
        // How far a pull is would be a word for each chunk.
        let is_count =
            message.detail.is_some_and(|detail| detail.as_object().is_some_and(|all| !all.is_empty()));
        if let Some(status) = message.status.filter(|_| !is_count) {
            let id = message.id.map(|id| format!("{id}: ")).unwrap_or_default();
            let text = without_secrets_of(&self.from, format!("{id}{status}"));
            self.words.push_back(BuildWord::Output { text });
        }
        Ok(())
    }

    fn line(&mut self) {
        let text = std::mem::take(&mut self.left);
        let text = text.trim_end_matches(['\n', '\r']);
        if let Some((number, of, instruction)) = step(text) {
            let of = of.saturating_sub(self.marks);
            self.step = Some((number, of, instruction.to_owned()));
            if number <= of {
                self.words.push_back(BuildWord::Step { number, of, text: instruction.to_owned() });
            }
        } else if !text.trim().is_empty() && !is_of_the_engine(text) {
            let text = without_secrets_of(&self.from, text.to_owned());
            self.words.push_back(BuildWord::Output { text });
        }
    }

    /// The engine has no more to say.
    fn end(&mut self) -> Result<(), BuildError> {
        self.line();
        let Some(id) = self.id.take() else {
            return Err(EngineError::Nonsense("a build that ended without an image".to_owned()).into());
        };
        self.words.push_back(BuildWord::Built { id });
        self.is_over = true;
        Ok(())
    }
}

/// `Step 2/3 : RUN make`.
fn step(line: &str) -> Option<(u32, u32, &str)> {
    let (count, instruction) = line.strip_prefix("Step ")?.split_once(" : ")?;
    let (number, of) = count.split_once('/')?;
    Some((number.parse().ok()?, of.parse().ok()?, instruction))
}

/// The engine paints red what a step says on standard error.
fn uncoloured(text: &str) -> &str {
    text.strip_prefix("\u{1b}[91m").and_then(|text| text.strip_suffix("\u{1b}[0m")).unwrap_or(text)
}

/// What an engine says between what steps say.
fn is_of_the_engine(line: &str) -> bool {
    let is_id = |text: &str| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let marks = [" ---> Running in ", " ---> ", "Removing intermediate container ", "Successfully built "];
    marks.iter().any(|mark| line.strip_prefix(mark).is_some_and(is_id))
        || line.starts_with("Successfully tagged ")
        || line == " ---> Using cache"
}

#[cfg(test)]
mod tests;
