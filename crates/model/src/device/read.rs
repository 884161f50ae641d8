//! From what a document says of an app to what is wanted of it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::place::{Mistake, Place};
use super::{RELEASES_MAX, Runs, TITLE_MAX};
use crate::ids::{ReleaseName, ServiceName};

/// What tells how a service is, and says nothing of how it shall be.
pub(super) const SEEN: [&str; 6] =
    ["createdAt", "startedAt", "finishedAt", "containerId", "imageId", "copies"];

/// What may stand in a release. Besides `services` it is as in a project file.
const OF_RELEASE: [&str; 6] = ["services", "networks", "volumes", "configs", "secrets", "partial"];

/// What is wanted of an app.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    pub(super) name: Option<String>,
    pub(super) release: ReleaseName,
    /// Not all that it is is in its text.
    pub(super) is_partial: bool,
    /// The release as it is declared: nothing of how it is, and nothing of which service runs.
    pub(super) text: Map<String, Value>,
    pub(super) runs: BTreeMap<ServiceName, Runs>,
}

impl Wanted {
    /// As a document says it, with nothing withheld.
    pub(super) fn document(&self) -> Value {
        let mut release = self.text.clone();
        for (name, runs) in &self.runs {
            if let Some(Value::Object(service)) =
                release.get_mut("services").and_then(|all| all.get_mut(name.as_str()))
            {
                let word = if *runs == Runs::Yes { "running" } else { "stopped" };
                service.insert("status".to_owned(), word.into());
            }
        }
        if self.is_partial {
            release.insert("partial".to_owned(), true.into());
        }
        let mut app = json!({ "releases": { self.release.as_str(): release } });
        if let Some(name) = &self.name {
            app["name"] = name.as_str().into();
        }
        app
    }
}

/// What a document says of an app; nothing, where no service of it is wanted.
pub(super) fn app(said: &Value, at: &Place) -> Result<Option<Wanted>, Mistake> {
    let said = object(said, at)?;
    known(said, &["name", "releases"], at)?;
    let name = said.get("name").map(|name| title(name, &at.key("name"))).transpose()?;
    let (all, at) = (said.get("releases"), at.key("releases"));
    let all = all.ok_or_else(|| {
        at.wrong("it is missing").remedy("say `releases: {\"r0\": {\"services\": …}}`, or leave the app out")
    })?;
    let all = object(all, &at)?;
    if all.len() > RELEASES_MAX {
        return Err(at.wrong(format!("there are {} releases, and {RELEASES_MAX} are the most", all.len())));
    }
    let mut wanted: Option<Wanted> = None;
    for (key, said) in all {
        let at = at.key(key);
        let release = ReleaseName::new(key).map_err(|error| at.wrong(error.to_string()))?;
        let Some(more) = self::release(said, release, name.clone(), &at)? else { continue };
        if let Some(first) = &wanted {
            let (one, other) = (&first.release, &more.release);
            return Err(at
                .wrong(format!(
                    "an app runs one release, and services of both `{one}` and `{other}` are wanted"
                ))
                .remedy(format!("leave one out; in a `PATCH`, `\"{one}\": null` takes the old one away")));
        }
        wanted = Some(more);
    }
    Ok(wanted)
}

/// A release, where any service of it is wanted.
fn release(
    said: &Value,
    name: ReleaseName,
    title: Option<String>,
    at: &Place,
) -> Result<Option<Wanted>, Mistake> {
    let said = object(said, at)?;
    known(said, &OF_RELEASE, at)?;
    let is_partial = match said.get("partial") {
        None | Some(Value::Bool(false)) => false,
        Some(Value::Bool(true)) => true,
        Some(_) => return Err(at.key("partial").wrong("it is neither `true` nor `false`")),
    };
    let mut runs = BTreeMap::new();
    let mut services = Map::new();
    let all_at = at.key("services");
    let empty = Map::new();
    let all = said.get("services").map_or(Ok(&empty), |all| object(all, &all_at))?;
    for (key, said) in all {
        let at = all_at.key(key);
        let service = ServiceName::new(key).map_err(|error| at.wrong(error.to_string()))?;
        let Some((declared, how)) = self::service(said, &at)? else { continue };
        services.insert(key.clone(), Value::Object(declared));
        runs.insert(service, how);
    }
    if runs.is_empty() {
        return Ok(None);
    }
    for kind in ["configs", "secrets"] {
        let mut all = said.get(kind).and_then(Value::as_object).into_iter().flatten();
        all.try_for_each(|(key, said)| is_said(said, &at.key(kind).key(key)))?;
    }
    let mut text = said.clone();
    text.remove("partial");
    text.insert("services".to_owned(), Value::Object(services));
    Ok(Some(Wanted { name: title, release: name, is_partial, text, runs }))
}

/// What is in a config or a secret is said by the document itself.
fn is_said(said: &Value, at: &Place) -> Result<(), Mistake> {
    let elsewhere = [("file", "a document names no files"), ("environment", "a document has no variables")];
    match elsewhere.into_iter().find(|(key, _)| said.get(key).is_some()) {
        None => Ok(()),
        Some((key, why)) => Err(at.key(key).wrong(why).remedy("say what is in it under `content`")),
    }
}

/// What is declared of a service, and whether it is to run.
type Declared = (Map<String, Value>, Runs);

/// A service; nothing, where it is to go.
fn service(said: &Value, at: &Place) -> Result<Option<Declared>, Mistake> {
    let mut declared = object(said, at)?.clone();
    SEEN.iter().for_each(|key| drop(declared.remove(*key)));
    let status = declared.remove("status").map(|said| word(&said, &at.key("status"))).transpose()?;
    let wanted = match declared.remove("wanted") {
        Some(Value::String(word)) if word == "absent" => return Ok(None),
        Some(said) => Some(word(&said, &at.key("wanted"))?),
        None => None,
    };
    if declared.contains_key("profiles") {
        return Err(at
            .key("profiles")
            .wrong("a document has no profiles: what is in it is wanted")
            .remedy("leave it out; `status` says whether a service runs"));
    }
    if declared.contains_key("build") {
        return Err(at
            .key("build")
            .wrong("a document names no files, so nobody can build an image for it")
            .remedy("name an image that a registry has under `image`"));
    }
    // Without a word: whoever declares a service wants it to run.
    Ok(Some((declared, wanted.or(status).unwrap_or(Runs::Yes))))
}

/// What is created is there and does not run.
fn word(said: &Value, at: &Place) -> Result<Runs, Mistake> {
    match said.as_str() {
        Some("running") => Ok(Runs::Yes),
        Some("created" | "stopped") => Ok(Runs::No),
        _ => Err(at.wrong("it is none of `running`, `stopped` and `created`")),
    }
}

fn title(said: &Value, at: &Place) -> Result<String, Mistake> {
    match said.as_str() {
        Some(name) if name.len() <= TITLE_MAX => Ok(name.to_owned()),
        Some(_) => Err(at.wrong(format!("it is longer than {TITLE_MAX} bytes"))),
        None => Err(at.wrong("it is no text")),
    }
}

pub(super) fn object<'a>(said: &'a Value, at: &Place) -> Result<&'a Map<String, Value>, Mistake> {
    match said {
        Value::Object(map) => Ok(map),
        Value::Null => Err(at
            .wrong("it is `null`")
            .remedy("`null` takes away in a `PATCH`; where all is said, leave out what shall go")),
        _ => Err(at.wrong("it is no object")),
    }
}

/// Every key must be known.
pub(super) fn known(said: &Map<String, Value>, keys: &[&str], at: &Place) -> Result<(), Mistake> {
    let unknown = said.keys().find(|key| !keys.contains(&key.as_str()));
    match unknown {
        None => Ok(()),
        Some(key) => Err(at.key(key).wrong("there is no such key").remedy(match key.as_str() {
            "images" => "leave it out: images are pulled as services need them".to_owned(),
            _ => format!("there are {}", keys.join(", ")),
        })),
    }
}
