//! The device document: apps, their releases, and the services of those, as one JSON value.
//!
//! It is a *view*. Nothing is kept in it: what is shown is made of what apps are, and what is asked for by it becomes
//! wishes for apps. Laws:
//! * A value is honoured or refused with its place, as a JSON pointer. What only tells how something is may come back
//!   as it was shown, and is not looked at.
//! * What is shown, said again, changes nothing.
//! * What is absent stays in a merge, and goes in a whole: the one who asks says which of them it is.
//! * No value that may be a secret is shown.

mod keys;
mod merge;
mod place;
mod read;
mod said;
mod show;
#[cfg(test)]
mod tests;
mod translate;
mod withhold;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::app::App;
use crate::ids::{AppName, ReleaseName, ServiceName, SlotId};
use crate::operation::Operation;
use crate::project::Project;
use crate::target::Goal;
use crate::time::Wall;

pub use keys::{KEY_MAX, KEYS_MAX, KeyChange, RegistryKey, RegistryKeys};
pub use merge::merge;
pub use place::{Mistake, Mistakes};
pub use said::Said;
pub use show::{device, of_app, settled, standing};
pub use translate::{Request, changes};

/// So many apps may stand in a document: each is looked at by itself, and a machine has some tens.
pub const APPS_MAX: usize = 1_000;

/// So many releases of an app may stand in a document: one that is wanted, and those that are going.
pub const RELEASES_MAX: usize = 64;

/// So many names of older releases are remembered of an app: as many as can still be going.
pub const ALIASES_MAX: usize = RELEASES_MAX;

/// The longest name for people of an app, in bytes: a line.
pub const TITLE_MAX: usize = 255;

/// What was said of an app through the document: kept with the app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What releases are called, by their numbers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<u64, ReleaseName>,
    /// The newest release, as it was declared; nothing, where the app was declared otherwise since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Map<String, Value>>,
}

/// How far an app, or a device, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Standing {
    /// All is as wanted.
    #[serde(rename = "done")]
    Done,
    /// Something cannot be reached as it is; the rest is as wanted. It is tried again where that makes sense.
    #[serde(rename = "aborted")]
    Aborted,
    /// Something is on its way.
    #[serde(rename = "applying changes")]
    Applying,
}

/// An app as it is held: what the document shows of it is made of this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// For whoever only looks.
    pub app: App,
    /// Where each slot shall get to, and by which release.
    pub goals: BTreeMap<SlotId, (Goal, u64)>,
    /// What was said of it through the document.
    pub declared: Declared,
    /// Somebody asked for it to be forgotten.
    pub is_leaving: bool,
    /// Which state of its wishes this is: a change that was worked out from another is refused.
    pub stamp: String,
    /// How far it is.
    pub standing: Standing,
}

/// Whose document it is, and what is held there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// What the machine is called.
    pub name: String,
    /// By which the engine's containers of this daemon are known.
    pub uuid: String,
    /// Keys of registries.
    pub keys: RegistryKeys,
    /// App by app.
    pub apps: BTreeMap<AppName, Held>,
    /// A document that waits until what is under way is settled.
    pub queued: Option<Queued>,
}

/// A document that waits for its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// What of all it says: [`Request::what`].
    pub what: String,
    /// Who sent it.
    pub who: String,
    /// When.
    pub at: Wall,
    /// Why it could not be begun when its turn came. It waits no more.
    pub problem: Option<String>,
}

/// What comes of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// One for each app that changes, those that go first.
    pub apps: Vec<Change>,
    /// What becomes of keys, if anything.
    pub keys: Option<KeyChange>,
    /// What should be known all the same.
    pub notes: Vec<String>,
    /// What all of it was worked out from.
    pub from: From,
}

/// What a request was worked out from: all that it speaks of, also what it leaves as it is. Of two requests at once
/// the later one is refused where this is otherwise by then; or there could be what neither asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct From {
    /// [`Held::stamp`] of each app it speaks of; none: it was not there, or going.
    pub apps: BTreeMap<AppName, Option<String>>,
    /// It speaks of all there are: by then there is no other.
    pub is_whole: bool,
    /// Keys of registries, where it speaks of these.
    pub keys: Option<RegistryKeys>,
}

impl From {
    /// All of it is so still.
    pub fn suits(&self, state: &State) -> bool {
        let there = |app: &AppName| state.apps.get(app).filter(|held| !held.is_leaving);
        let are_same =
            self.apps.iter().all(|(app, stamp)| there(app).map(|held| &held.stamp) == stamp.as_ref());
        let has_another =
            || state.apps.keys().any(|app| !self.apps.contains_key(app) && there(app).is_some());
        let are_keys_same = self.keys.as_ref().is_none_or(|keys| *keys == state.keys);
        are_same && are_keys_same && !(self.is_whole && has_another())
    }
}

/// One app is to change.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Which.
    pub app: AppName,
    /// [`Held::stamp`] of what it was worked out from; none: there was no such app.
    pub stamp: Option<String>,
    /// How.
    pub seek: Seek,
}

/// Where an app shall get to.
#[derive(Clone, Debug, PartialEq)]
pub enum Seek {
    /// All of it goes.
    Gone,
    /// It is declared anew.
    Declared {
        /// What it is.
        project: Project,
        /// What it is called.
        release: ReleaseName,
        /// What people call it.
        name: Option<String>,
        /// As it was said.
        text: Map<String, Value>,
        /// Services that are there and do not run.
        stopped: Vec<ServiceName>,
    },
    /// It stays what it is; these are to run, or not to.
    Goals(BTreeMap<ServiceName, Runs>),
    /// It stays what it is; of these, what shall run and cannot is tried again.
    Again(BTreeSet<ServiceName>),
}

/// Whether a service is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// It is.
    Yes,
    /// It is there, and does not.
    No,
}

/// The document: `GET /api/v1/device`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Device {
    /// What the machine is called.
    pub name: String,
    /// By which the engine's containers of this daemon are known.
    pub uuid: String,
    /// Registries there are keys for: `***` for each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<String, String>,
    /// App by app.
    pub apps: BTreeMap<AppName, DeviceApp>,
    /// How far all of them are.
    pub status: Standing,
    /// A document that waits until what is under way is settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued: Option<QueuedDocument>,
}

/// A document that waits until what is under way is settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QueuedDocument {
    /// What it says something of: `all of the device document`.
    pub what: String,
    /// Who sent it: `uid 1000`.
    pub who: String,
    /// When.
    pub at: String,
    /// Why it could not be begun when its turn came; it is not begun any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// An app of the document: `GET /api/v1/device/apps/{app}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeviceApp {
    /// What people call it, where that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The one that is wanted, and those of which something is still there.
    pub releases: BTreeMap<ReleaseName, DeviceRelease>,
}

/// A release of an app. Of the one that is wanted also what was declared beside its services: `networks`, `volumes`,
/// `configs`, `secrets`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeviceRelease {
    /// Service by service: keys of a project file, what is wanted, and how it is.
    pub services: BTreeMap<ServiceName, Value>,
    /// It was declared by a project file, and not all of that is shown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// What else was declared.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// The answer to a change of the document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeviceChanged {
    /// One for each app that changes, to wait on; none: all was wanted already.
    pub operations: Vec<Operation>,
    /// Registries whose keys are others now, or gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// It waits until what is under way is settled. Nothing was begun for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub queued: bool,
    /// What should be known all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}
