//! From what is asked of a document to changes of apps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::place::{Mistake, Mistakes, Place, with_places};
use super::read::{self, Wanted, known, object};
use super::withhold::put_back;
use super::{APPS_MAX, Change, Changes, From, Held, Runs, Seek, State, keys, merge};
use crate::diagnostic::Diagnostic;
use crate::file::{self, Context, Resolver, Source, Unread};
use crate::ids::{AppName, ServiceName};
use crate::project::Project;

/// What somebody asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// This is all there shall be: `PUT /api/v1/device`.
    Whole(Value),
    /// What it names shall be so, the rest stays: `PATCH /api/v1/device`.
    Merge(Value),
    /// This is all there shall be of an app.
    WholeApp(AppName, Value),
    /// What it names of an app shall be so.
    MergeApp(AppName, Value),
    /// An app shall go.
    NoApp(AppName),
}

impl Request {
    /// What of all it says: `some of the device document`, `all of app \`web\``.
    pub fn what(&self) -> String {
        match self {
            Self::Whole(_) => "all of the device document".to_owned(),
            Self::Merge(_) => "some of the device document".to_owned(),
            Self::WholeApp(app, _) => format!("all of app `{app}`"),
            Self::MergeApp(app, _) => format!("some of app `{app}`"),
            Self::NoApp(app) => format!("nothing of app `{app}`"),
        }
    }
}

/// What a request changes.
///
/// `base` is what processes are given before their own variables. Errors: everything that is wrong with it, or what
/// kept it from being read further.
pub fn changes(
    request: &Request,
    state: &State,
    base: &BTreeMap<String, String>,
) -> Result<Changes, Mistakes> {
    let root = Place::default();
    let of_keys = match request {
        Request::Whole(said) => keys::change(said.get("keys"), true, state),
        Request::Merge(said) => keys::change(said.get("keys"), false, state),
        _ => Ok(None),
    };
    let mut wanted: BTreeMap<AppName, Option<Asked<'_>>> = BTreeMap::new();
    match request {
        Request::NoApp(app) => drop(wanted.insert(app.clone(), None)),
        Request::WholeApp(app, said) => {
            wanted.insert(app.clone(), Some(Asked { said, how: How::Whole, at: root }));
        }
        Request::MergeApp(app, said) => {
            object(said, &root)?;
            wanted.insert(app.clone(), Some(Asked { said, how: How::Merged, at: root }));
        }
        Request::Whole(said) => {
            let missing = || {
                root.key("apps").wrong("it is missing, and what is not said here goes").remedy(
                    "say `\"apps\": {}` where nothing shall be left; `PATCH` leaves alone what it does not name",
                )
            };
            wanted.extend(state.apps.keys().map(|app| (app.clone(), None)));
            wanted.extend(of_device(said, How::Whole, state)?.ok_or_else(missing)?);
        }
        Request::Merge(said) => wanted.extend(of_device(said, How::Merged, state)?.unwrap_or_default()),
    }
    let from = from(request, wanted.keys(), state);
    let (mut all, mut notes, mut mistakes) = (Vec::new(), Vec::new(), Vec::new());
    let keys = of_keys.unwrap_or_else(|Mistakes(more)| {
        mistakes = more;
        None
    });
    for (app, asked) in wanted {
        match change(&app, asked, state.apps.get(&app), base, &mut notes) {
            Ok(change) => all.extend(change),
            Err(Mistakes(more)) => mistakes.extend(more),
        }
    }
    // What goes makes room for what comes.
    all.sort_by_key(|change: &Change| change.seek != Seek::Gone);
    if let Some(keys) = &keys {
        let again = keys::again(keys, &all, state);
        all.extend(again);
    }
    if mistakes.is_empty() { Ok(Changes { apps: all, keys, notes, from }) } else { Err(Mistakes(mistakes)) }
}

fn from<'a>(request: &Request, apps: impl Iterator<Item = &'a AppName>, state: &State) -> From {
    let stamp = |app: &AppName| {
        let held = state.apps.get(app).filter(|held| !held.is_leaving);
        (app.clone(), held.map(|held| held.stamp.clone()))
    };
    let keys = match request {
        Request::Whole(_) => true,
        Request::Merge(said) => said.get("keys").is_some(),
        _ => false,
    };
    let is_whole = matches!(request, Request::Whole(_));
    From { apps: apps.map(stamp).collect(), is_whole, keys: keys.then(|| state.keys.clone()) }
}

/// What is said of an app, and where.
struct Asked<'a> {
    said: &'a Value,
    how: How,
    at: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Whole,
    Merged,
}

type Apps<'a> = BTreeMap<AppName, Option<Asked<'a>>>;

/// What a document says of apps, if anything.
fn of_device<'a>(said: &'a Value, how: How, state: &State) -> Result<Option<Apps<'a>>, Mistake> {
    let root = Place::default();
    let said = object(said, &root)?;
    known(said, &["name", "uuid", "apps", "keys", "status", "queued"], &root)?;
    for (key, ours) in [("name", &state.name), ("uuid", &state.uuid)] {
        if said.get(key).is_some_and(|said| said.as_str() != Some(ours)) {
            let wrong = root.key(key).wrong(format!("this is `{ours}`, and the document is for another"));
            return Err(wrong.remedy("leave it out, or ask the device it is for"));
        }
    }
    let Some(apps) = said.get("apps") else { return Ok(None) };
    let at = root.key("apps");
    let apps = object(apps, &at)?;
    if apps.len() > APPS_MAX {
        return Err(at.wrong(format!("there are {} apps, and {APPS_MAX} are the most", apps.len())));
    }
    let each = |(key, said): (&String, &'a Value)| {
        let at = at.key(key);
        let app =
            AppName::new(key).map_err(|error| at.wrong(format!("the name of an app: {}", error.why())))?;
        match said {
            Value::Null if how == How::Merged => Ok((app, None)),
            said => Ok((app, Some(Asked { said, how, at }))),
        }
    };
    apps.iter().map(each).collect::<Result<_, _>>().map(Some)
}

/// What becomes of one app; nothing, where all is wanted already.
fn change(
    app: &AppName,
    asked: Option<Asked<'_>>,
    held: Option<&Held>,
    base: &BTreeMap<String, String>,
    notes: &mut Vec<String>,
) -> Result<Option<Change>, Mistakes> {
    let before = held.and_then(Held::wanted);
    let stamp = held.map(|held| held.stamp.clone());
    let to = |seek| Ok(Some(Change { app: app.clone(), stamp, seek }));
    let (wanted, at) = match asked {
        None => (None, Place::default()),
        Some(Asked { said, how: How::Whole, at }) => (read::app(said, &at)?, at),
        Some(Asked { said, how: How::Merged, at }) => {
            let begun = before.as_ref().map_or_else(|| json!({}), Wanted::document);
            (read::app(&merge(begun, said), &at)?, at)
        }
    };
    let Some(mut wanted) = wanted else {
        return if before.is_some() { to(Seek::Gone) } else { Ok(None) };
    };
    let at = at.key("releases").key(wanted.release.as_str());
    put_back(&mut wanted.text, before.as_ref().map(|before| &before.text), &at)?;
    if before.as_ref() == Some(&wanted) {
        return Ok(None);
    }
    if let Some(before) = &before
        && wanted.text == before.text
        && (&wanted.name, &wanted.release, wanted.is_partial)
            == (&before.name, &before.release, before.is_partial)
    {
        let changed = wanted.runs.iter().filter(|(name, runs)| before.runs.get(*name) != Some(*runs));
        let changed: BTreeMap<ServiceName, Runs> =
            changed.map(|(name, runs)| (name.clone(), *runs)).collect();
        if let Some(held) = held {
            let begun = changed.iter().filter(|(_, runs)| **runs == Runs::Yes).map(|(name, _)| name);
            can_run(&held.app.project, begun, &wanted, &at)?;
        }
        return to(Seek::Goals(changed));
    }
    if wanted.is_partial {
        return Err(at
            .key("partial")
            .wrong(format!(
                "`{app}` was declared by a project file, and not all of that is shown here: of its services only \
                 `status` can be changed"
            ))
            .remedy("use `upbeat up` with its file, or declare a release of your own, without `partial`")
            .into());
    }
    let project = project(app, &wanted, base, &at, notes)?;
    can_run(&project, project.services.keys(), &wanted, &at)?;
    let stopped = wanted.runs.iter().filter(|(_, runs)| **runs == Runs::No).map(|(name, _)| name.clone());
    let (stopped, Wanted { name, release, text, .. }) = (stopped.collect(), wanted.clone());
    to(Seek::Declared { project, release, name, text, stopped })
}

/// What is to run needs nothing that the same document has stopped: said at the edge, which only the document knows.
/// Control judges it again from what is wanted by then.
fn can_run<'a>(
    project: &Project,
    begun: impl Iterator<Item = &'a ServiceName>,
    wanted: &Wanted,
    at: &Place,
) -> Result<(), Mistake> {
    let is_stopped = |name: &ServiceName| wanted.runs.get(name) == Some(&Runs::No);
    let exists = |name: &ServiceName| project.services.get(name).is_some_and(|service| service.scale > 0);
    for name in begun.filter(|name| !is_stopped(name)) {
        let Some(service) = project.services.get(name) else { continue };
        let mut needs =
            service.depends_on.iter().filter(|(_, edge)| edge.required && !edge.condition.is_end());
        let Some((need, _)) = needs.find(|(need, _)| is_stopped(need) && exists(need)) else { continue };
        let edges = at.key("services").key(name.as_str()).key("depends_on");
        let said = wanted.text.get("services").and_then(|all| all.get(name.as_str()));
        let listed = said.and_then(|said| said.get("depends_on")).and_then(Value::as_array);
        let place = listed.and_then(|all| all.iter().position(|one| one.as_str() == Some(need.as_str())));
        let edge = place.map_or_else(|| edges.key(need.as_str()), |place| edges.key(&place.to_string()));
        let what = format!("`{name}` shall run and needs `{need}`, which shall be stopped");
        return Err(edge.wrong(what).remedy("have both run, or neither"));
    }
    Ok(())
}

/// No file of this machine: whoever sends a document may be elsewhere.
struct NoFiles;

impl Resolver for NoFiles {
    fn read(&self, path: &str) -> Result<String, Unread> {
        match path {
            // It is looked for whoever asks.
            "/.env" => Err(Unread::Missing),
            _ => Err(Unread::Unreadable("a document names no files; say what is in it".to_owned())),
        }
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

/// The project that a release is, as the reader of project files has it.
fn project(
    app: &AppName,
    wanted: &Wanted,
    base: &BTreeMap<String, String>,
    at: &Place,
    notes: &mut Vec<String>,
) -> Result<Project, Mistakes> {
    let mut said: Map<String, Value> = wanted.text.clone();
    said.insert("name".to_owned(), app.as_str().into());
    let mut said = Value::Object(said);
    literally(&mut said);
    let (text, places) = with_places(&said, at);
    let mistake = |diagnostic: &Diagnostic| {
        let place = usize::try_from(diagnostic.line).ok().and_then(|line| places.get(line.checked_sub(1)?));
        let mistake = place.filter(|_| !diagnostic.file.is_empty()).unwrap_or(at).wrong(&diagnostic.message);
        Mistake { remedy: diagnostic.hint.clone(), ..mistake }
    };
    let context = Context::new("/", app.as_str(), &NoFiles);
    let read = file::parse(&[Source { name: "document", text: &text }], &context);
    let parsed = read.map_err(|errors| Mistakes(errors.diagnostics.iter().map(mistake).collect()))?;
    if let Some(name) = wanted.runs.keys().find(|name| !parsed.project.services.contains_key(*name)) {
        let at = at.key("services").key(name.as_str());
        return Err(at.wrong("no service comes of it").remedy("name it without an `@`").into());
    }
    notes.extend(parsed.notes.iter().map(|note| mistake(note).to_string()));
    Ok(Project { base_environment: base.clone(), ..parsed.project })
}

/// A document has no variables: a `$` in it is one.
fn literally(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('$') => *text = text.replace('$', "$$"),
        Value::Array(items) => items.iter_mut().for_each(literally),
        Value::Object(map) => map.values_mut().for_each(literally),
        _ => {}
    }
}
