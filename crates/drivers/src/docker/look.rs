//! What an engine says of a container, read with care: what is missing or wrong in it is an error or
//! passed over.

use std::time::Duration;

use serde::Deserialize;
use upbeat_model::{Exit, SlotId, Wall};

use super::Drift;
use super::anonymous::Anonymous;
use super::error::EngineError;
use super::labels::{self, Labels, Marks};
use super::wire::{Ask, Wire, part};

/// What the engine writes where something was never started.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// A container that is ours.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) id: String,
    /// Without the slash before it.
    pub(super) name: String,
    pub(super) marks: Marks,
    pub(super) state: State,
    pub(super) tty: bool,
    pub(super) stop_signal: Option<String>,
    /// Networks it is in, and their ids; empty for those it has not joined yet.
    pub(super) networks: Vec<(String, String)>,
    /// Volumes without a name.
    pub(super) anonymous: Anonymous,
    /// When it was made; nothing, where the engine does not say it so that it can be read.
    created: Option<jiff::Timestamp>,
}

/// How it is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct State {
    pub(super) status: String,
    pub(super) running: bool,
    pub(super) paused: bool,
    pub(super) restarting: bool,
    #[serde(rename = "OOMKilled")]
    pub(super) oom_killed: bool,
    pub(super) pid: i64,
    pub(super) exit_code: i64,
    pub(super) error: String,
    pub(super) started_at: String,
    pub(super) finished_at: String,
}

impl State {
    /// Something of it is alive.
    pub(super) fn is_alive(&self) -> bool {
        self.running || self.paused || self.restarting
    }

    /// It ran at some time.
    pub(super) fn ever_ran(&self) -> bool {
        !self.started_at.is_empty() && self.started_at != NEVER
    }

    /// How it ended. Assumes that it did.
    pub(super) fn exit(&self) -> Exit {
        match i32::try_from(self.exit_code) {
            // Only here does the engine say that it was a signal: any program may end with 137.
            Ok(137) if self.oom_killed => Exit::Signal(9),
            Ok(code @ 0..=255) => Exit::Code(code),
            _ => Exit::Unknown(format!("the engine says it ended with {}", self.exit_code)),
        }
    }

    /// When it ended.
    pub(super) fn ended_at(&self) -> Wall {
        wall(&self.finished_at).unwrap_or_else(crate::clock::wall)
    }
}

/// A time of the engine's.
pub(super) fn wall(text: &str) -> Option<Wall> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(Wall(time.as_millisecond()))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    name: String,
    state: State,
    config: Config,
    network_settings: Option<NetworkSettings>,
    #[serde(default)]
    mounts: Option<Vec<Mounted>>,
    #[serde(default)]
    created: String,
}

#[derive(Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[derive(Default)]
struct Mounted {
    r#type: String,
    name: String,
    destination: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    labels: Option<Labels>,
    #[serde(default)]
    tty: bool,
    #[serde(default)]
    stop_signal: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    networks: Option<std::collections::BTreeMap<String, Option<Endpoint>>>,
}

#[derive(Deserialize)]
struct Endpoint {
    #[serde(rename = "NetworkID", default)]
    network: String,
}

/// One of a list.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listed {
    pub(super) id: String,
    #[serde(default)]
    pub(super) names: Option<Vec<String>>,
    #[serde(default)]
    pub(super) labels: Option<Labels>,
}

impl Listed {
    /// The first of its names, without the slash.
    pub(super) fn name(&self) -> String {
        name_of(self.names.as_deref(), &self.id)
    }
}

/// Of the names that a list has the one that is no link's, or else the beginning of the id.
pub(super) fn name_of(names: Option<&[String]>, id: &str) -> String {
    let names = names.unwrap_or_default();
    let own = names.iter().find(|name| name.matches('/').count() == 1).or(names.first());
    own.map_or_else(|| id.chars().take(12).collect(), |name| name.trim_start_matches('/').to_owned())
}

/// An id of the engine: what is none must not become a part of a path, nor be remembered.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The container of this id, if it is there and ours.
pub(super) async fn container(wire: &Wire, owner: &str, id: &str) -> Result<Option<Found>, EngineError> {
    let asked: Result<Inspected, _> = wire.answer(Ask::get(format!("/containers/{}/json", part(id)))).await;
    let said = match asked {
        Err(error) if error.is_absent() => return Ok(None),
        said => said?,
    };
    if said.id != id {
        return Err(EngineError::Nonsense("asked of one container it answered of another".to_owned()));
    }
    let Some(marks) = Marks::read(owner, &said.config.labels.unwrap_or_default()) else { return Ok(None) };
    let networks = said.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let networks =
        networks.into_iter().map(|(name, end)| (name, end.map(|end| end.network).unwrap_or_default()));
    let mounts = said.mounts.into_iter().flatten();
    // What has a name is called so by somebody; what has none has an id.
    let anonymous = mounts.filter(|mount| mount.r#type == "volume" && is_id(&mount.name));
    Ok(Some(Found {
        name: said.name.trim_start_matches('/').to_owned(),
        id: said.id,
        marks,
        state: said.state,
        tty: said.config.tty,
        stop_signal: said.config.stop_signal.filter(|signal| !signal.is_empty()),
        networks: networks.collect(),
        anonymous: anonymous.map(|mount| (mount.destination, mount.name)).collect(),
        created: said.created.parse().ok(),
    }))
}

/// All containers with these labels. What is no container is passed over; one that is said twice is one.
pub(super) async fn list(wire: &Wire, wanted: &[String]) -> Result<Vec<Listed>, EngineError> {
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let ask = Ask::get("/containers/json").query("all", "1").filters(&[("label", &wanted)]);
    let mut found: Vec<Listed> = wire.answer(ask).await?;
    found.retain(|one| is_id(&one.id));
    found.sort_by(|a, b| a.id.cmp(&b.id));
    found.dedup_by(|a, b| a.id == b.id);
    Ok(found)
}

/// The containers of a slot, the oldest first. One that goes away meanwhile is not among them.
pub(super) async fn of_slot(wire: &Wire, owner: &str, slot: &SlotId) -> Result<Vec<Found>, EngineError> {
    let wanted = [
        labels::is(labels::OWNER, owner),
        labels::is(labels::APP, slot.app.as_str()),
        labels::is(labels::SERVICE, slot.service.as_str()),
        labels::is(labels::SLOT, &slot.index.to_string()),
    ];
    let mut found = Vec::new();
    for one in list(wire, &wanted).await? {
        found
            .extend(container(wire, owner, &one.id).await?.filter(|container| container.marks.slot == *slot));
    }
    // A list knows seconds, in which two may be made.
    found.sort_by_key(|found| found.created);
    Ok(found)
}

/// A removal takes an engine milliseconds; one that is busy longer is asked again later.
const GOING_PATIENCE: Duration = Duration::from_secs(10);

/// The same, when none of them is being removed any more. One that the engine once failed to remove is removed: nobody
/// else ever comes back to it.
///
/// Errors: one is being removed for long; one cannot be removed.
pub(super) async fn settled(wire: &Wire, owner: &str, slot: &SlotId) -> Result<Vec<Found>, EngineError> {
    let found = of_slot(wire, owner, slot).await?;
    for going in found.iter().filter(|found| found.is_going()) {
        let mut gone = Ok(());
        if going.is_dead() {
            gone = wire.done(Ask::delete(format!("/containers/{}", part(&going.id)))).await;
        }
        // Another hand may have come back to it, at this moment.
        if !going.is_dead() || gone.as_ref().is_err_and(EngineError::is_conflict) {
            gone = wait(wire, &going.id, "removed", GOING_PATIENCE).await;
        }
        match gone {
            Err(error) if error.is_absent() => {}
            gone => gone?,
        }
    }
    Ok(found.into_iter().filter(|found| !found.is_going()).collect())
}

/// Until a container is `removed`, or `not-running`, as the engine says.
///
/// Errors: not in this time; the engine.
pub(super) async fn wait(
    wire: &Wire,
    container: &str,
    until: &str,
    patience: Duration,
) -> Result<(), EngineError> {
    let ask = Ask::post(format!("/containers/{}/wait", part(container))).query("condition", until);
    wire.done(ask.patience(patience)).await
}

impl Found {
    /// It is being removed: neither can it be started, nor has anybody else its name before it is gone.
    pub(super) fn is_going(&self) -> bool {
        self.state.status == "removing" || self.is_dead()
    }

    /// The engine began to remove it, and could not. It stays so until it is removed once more.
    fn is_dead(&self) -> bool {
        self.state.status == "dead"
    }

    /// What was changed by another hand while it runs.
    pub(super) fn drift(&self) -> Vec<Drift> {
        let mut drift = Vec::new();
        if self.state.paused {
            drift.push(Drift::Paused);
        }
        if self.marks.name.as_ref().is_some_and(|name| *name != self.name) {
            drift.push(Drift::Renamed(self.name.clone()));
        }
        for wanted in &self.marks.networks {
            let name = &wanted.network.name;
            if !self.networks.iter().any(|(joined, _)| joined == name) {
                drift.push(Drift::Disconnected(name.clone()));
            }
        }
        drift
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_status_or_what_is_known_of_it() {
        let state = |exit_code, oom_killed| State { exit_code, oom_killed, ..State::default() };
        assert_eq!(state(3, false).exit(), Exit::Code(3));
        assert_eq!(state(137, false).exit(), Exit::Code(137));
        assert!(matches!(state(-1, false).exit(), Exit::Unknown(_)));
        assert!(matches!(state(i64::MAX, false).exit(), Exit::Unknown(_)));
        assert_eq!(state(137, true).exit(), Exit::Signal(9));
        // The kernel ended another of its processes.
        assert_eq!(state(0, true).exit(), Exit::Code(0));
    }

    #[test]
    fn times_and_names_are_read_as_the_engine_writes_them() {
        assert_eq!(wall("2026-11-22T15:55:06.453621282Z"), Some(Wall(1_795_362_906_453)));
        assert_eq!(wall("soon"), None);
        let listed = |names: &[&str]| Listed {
            id: "f".repeat(64),
            names: Some(names.iter().map(|name| (*name).to_owned()).collect()),
            labels: None,
        };
        assert_eq!(listed(&["/web/db", "/db"]).name(), "db");
        assert_eq!(listed(&[]).name(), "f".repeat(12));
        assert!(!State { started_at: NEVER.to_owned(), ..State::default() }.ever_ran());
    }
}
