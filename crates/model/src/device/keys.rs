//! Keys of registries: what a document says of them, and what becomes of those there are.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::place::{Mistake, Mistakes, Place};
use super::read::object;
use super::{Change, Runs, Seek, State};
use crate::ids::AppName;
use crate::project::container::ImageRef;
use crate::withheld::WITHHELD;

/// So many registries may have keys: a machine pulls from a handful.
pub const KEYS_MAX: usize = 64;

/// The longest key, in bytes: tokens of registries are some KB, and it goes in a header.
pub const KEY_MAX: usize = 8 << 10;

/// The key of a registry. It is a secret: nothing prints it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RegistryKey(String);

impl RegistryKey {
    /// For whoever tells the registry.
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl From<&str> for RegistryKey {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl std::fmt::Debug for RegistryKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(WITHHELD)
    }
}

/// Keys by the registries they are for, as names of images have these: `host`, or `host:port`.
pub type RegistryKeys = BTreeMap<String, RegistryKey>;

/// Keys become others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// What it was worked out from: where they are others by then, it is refused.
    pub from: RegistryKeys,
    /// What they are to be.
    pub to: RegistryKeys,
}

impl KeyChange {
    /// Registries that get a key, or another, or lose theirs.
    pub fn registries(&self) -> BTreeSet<String> {
        let all = self.from.keys().chain(self.to.keys());
        all.filter(|host| self.from.get(*host) != self.to.get(*host)).cloned().collect()
    }
}

/// What becomes of the keys there are; nothing, where they are so already. `is_whole`: what is not said goes.
pub(super) fn change(
    said: Option<&Value>,
    is_whole: bool,
    state: &State,
) -> Result<Option<KeyChange>, Mistakes> {
    let at = Place::default().key("keys");
    let known = &state.keys;
    let begun = if is_whole { RegistryKeys::new() } else { known.clone() };
    let to = match said {
        None => begun,
        Some(Value::Null) if !is_whole => RegistryKeys::new(),
        Some(said) => {
            let (mut to, mut mistakes) = (begun, Vec::new());
            for (host, said) in object(said, &at)? {
                match key(host, said, known, is_whole, &at.key(host)) {
                    Ok(Some(key)) => drop(to.insert(host.clone(), key)),
                    Ok(None) => drop(to.remove(host)),
                    Err(mistake) => mistakes.push(mistake),
                }
            }
            if !mistakes.is_empty() {
                return Err(Mistakes(mistakes));
            }
            to
        }
    };
    if to.len() > KEYS_MAX {
        let wrong = format!("there are keys of {} registries, and {KEYS_MAX} are the most", to.len());
        return Err(at.wrong(wrong).into());
    }
    Ok((to != *known).then(|| KeyChange { from: known.clone(), to }))
}

/// One key; nothing, where it shall go. What is said is in no mistake: it may be a key.
fn key(
    host: &str,
    said: &Value,
    known: &RegistryKeys,
    is_whole: bool,
    at: &Place,
) -> Result<Option<RegistryKey>, Mistake> {
    let is_registry = ImageRef::parse(&format!("{host}/x")).is_ok_and(|image| image.registry() == host);
    // That is what Docker's own settings call it, and no image does.
    if !is_registry || host == "index.docker.io" {
        return Err(at.wrong("it is no registry as names of images have it").remedy(
            "say its host, and its port where that has one: `registry.example:5000`; Docker's own is `docker.io`",
        ));
    }
    match said {
        Value::Null if !is_whole => Ok(None),
        Value::String(text) if text == WITHHELD => known.get(host).cloned().map(Some).ok_or_else(|| {
            at.wrong(format!("`{WITHHELD}` stands for a key that is not shown, and none is known there"))
                .remedy("say the key itself")
        }),
        Value::String(text) if text.is_empty() => {
            Err(at.wrong("the key is empty").remedy("say the key; leave the registry out where it has none"))
        }
        Value::String(text) if text.len() > KEY_MAX => {
            Err(at.wrong(format!("the key has {} bytes, and {KEY_MAX} are the most", text.len())))
        }
        Value::String(text) => Ok(Some(RegistryKey(text.clone()))),
        _ => Err(at.wrong("a key is a text")),
    }
}

/// Apps that lack something which a registry with another key may have, and that nothing else is changed of: they
/// try again now, and not when their time has come.
pub(super) fn again(change: &KeyChange, changed: &[Change], state: &State) -> Vec<Change> {
    let hosts: BTreeSet<String> =
        change.registries().into_iter().filter(|host| change.to.contains_key(host)).collect();
    let is_changed = |app: &AppName| changed.iter().any(|change| change.app == *app);
    let mut all = Vec::new();
    for (app, held) in &state.apps {
        let Some(wanted) = held.wanted().filter(|_| held.standing != super::Standing::Done) else { continue };
        let services = held.app.project.services.iter();
        let concerned = services.filter(|(name, service)| {
            let image = service.container.as_ref().map(|container| &container.image);
            let is_of_them = image.is_some_and(|image| hosts.contains(image.registry()));
            is_of_them && wanted.runs.get(*name) == Some(&Runs::Yes)
        });
        let concerned: BTreeSet<_> = concerned.map(|(name, _)| name.clone()).collect();
        if !concerned.is_empty() && !is_changed(app) {
            let (app, stamp) = (app.clone(), Some(held.stamp.clone()));
            all.push(Change { app, stamp, seek: Seek::Again(concerned) });
        }
    }
    all
}
