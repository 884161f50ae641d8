//! Every key of a container by example: what a project file says, and what the engine has understood.
//!
//! `NN-name.yaml` is a project whose service `web` is made by the driver, and not started. `NN-name.json` is
//! what `docker inspect` shows of it that it does not show of a container which says nothing: the fields
//! that the key sets, and no other. Where an engine is too old for a key, it is what the driver says
//! instead. `UPDATE_FIXTURES=1` writes them; read them before they are kept. They are of an engine with API
//! 1.41, the oldest that is spoken with.
//!
//! `sent/` has what not every machine can: what the request says that makes the container, beside one that says
//! nothing. That takes no engine.
//!
//! In all of them `IMAGE` stands for an image of busybox, `APP` for the name of the app, and `DIR` for its directory.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use upbeat_drivers::docker::body::{Identity, create_body};
use upbeat_drivers::docker::{
    Engine, EngineEvent, EngineSettings, Prepare, PrepareError, StartError, Version,
};
use upbeat_drivers::update_locks::UpdateLocks;
use upbeat_model::file::{Context, Resolver, Source, Unread, parse, validate};
use upbeat_model::project::container::{Attachment, ImageRef, Network, NetworkMode};
use upbeat_model::project::{Project, Service};
use upbeat_model::{Attempt, ServiceName, SlotId};
use upbeat_needs::docker::Docker;
use upbeat_needs::{Need, Test};

/// So many at least show what an engine has understood; what it is too old for counts for nothing here.
const COUNT_MIN: usize = 60;

/// And no more than that: what else needs a number for its app takes this one.
const COUNT_MAX: usize = 1000;

const CASES: &[Test] = &[
    Test::new("there_are_as_many_as_containers_have_keys", there_are_enough),
    Test::new("what_is_sent_is_as_its_fixture_says", all_are_sent),
    Test::needing(
        &[Need::DOCKER],
        "the_engine_understands_every_key_as_its_fixture_says",
        all_are_understood,
    ),
    Test::needing(&[Need::DOCKER], "who_shares_something_is_made_anew_with_its_owner", is_made_anew),
];

fn main() -> ExitCode {
    upbeat_needs::run(CASES.iter().copied())
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/containers")
}

/// The project files there, by name.
fn fixtures(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect();
    found.sort();
    found
}

fn there_are_enough() {
    let says_something = |project: &PathBuf| {
        let text = std::fs::read_to_string(project.with_extension("json")).unwrap();
        let shown: Map<String, Value> = serde_json::from_str(&text).unwrap();
        !shown.is_empty() && !shown.contains_key("refused")
    };
    let count = fixtures(&directory()).iter().filter(|project| says_something(project)).count();
    assert!(count >= COUNT_MIN, "{count} show something of a container");
    for directory in [directory(), directory().join("sent")] {
        let fixtures = fixtures(&directory);
        let entries = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
        for outcome in entries.filter(|path| path.extension().is_some_and(|e| e == "json")) {
            let project = outcome.with_extension("yaml");
            assert!(fixtures.contains(&project), "{} is of no fixture", outcome.display());
        }
    }
}

/// Files that the projects refer to.
struct Files;

impl Resolver for Files {
    fn read(&self, path: &str) -> Result<String, Unread> {
        Ok(match path.rsplit('/').next().unwrap_or_default() {
            "web.env" => "A=of-the-file\nB=of-the-file\n",
            "web.labels" => "of.the.file=1\nown=0\n",
            "seccomp.json" => "{\"defaultAction\":\"SCMP_ACT_ALLOW\"}",
            "key" => "hush",
            "base.yaml" => {
                "services:\n  base: { image: web, command: [sleep, '60'], environment: { A: of-base } }\n"
            }
            "more.yaml" => "volumes: { more: }\n",
            _ => return Err(Unread::Missing),
        }
        .to_owned())
    }

    fn variable(&self, name: &str) -> Option<String> {
        (name == "WORDS").then(|| "hush".to_owned())
    }
}

fn all_are_understood() {
    let docker = Docker::here().unwrap();
    let image = docker.import_busybox(&format!("upbeat-containers-{}", std::process::id()), "v1");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    all_are_as_kept(&directory(), |number, text| {
        let bed = Bed::new(&docker, image.name(), number);
        runtime.block_on(bed.outcome(text))
    });
}

/// Each of what lies there, by its number and its text.
fn all_are_as_kept(directory: &Path, outcome: impl Fn(usize, &str) -> Value) {
    let update = std::env::var_os("UPDATE_FIXTURES").is_some();
    let mut wrong = Vec::new();
    for (number, path) in fixtures(directory).into_iter().enumerate() {
        let now = outcome(number, &std::fs::read_to_string(&path).unwrap());
        let now = format!("{}\n", serde_json::to_string_pretty(&now).unwrap());
        let kept_at = path.with_extension("json");
        let kept = std::fs::read_to_string(&kept_at).unwrap_or_default();
        if update && kept != now {
            std::fs::write(&kept_at, &now).unwrap();
        } else if kept != now {
            wrong.push(format!("--- {}\nkept: {kept}now: {now}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{} are otherwise\n{}", wrong.len(), wrong.join("\n"));
}

fn all_are_sent() {
    const OLDEST: Version = Version { major: 1, minor: 41 };
    let slot: SlotId = "shop/web/1".parse().unwrap();
    let sent = |text: &str| {
        let project = project(&text.replace("IMAGE", "web"), "/srv/shop", "shop");
        let web = &project.services[&slot.service];
        create_body(web, &slot, &Identity::default(), OLDEST).unwrap().body()
    };
    let plain = sent("services: { web: { image: IMAGE, command: [sleep, '60'] } }");
    all_are_as_kept(&directory().join("sent"), |_, text| difference(&plain, &sent(text)).unwrap());
}

/// What a file comes to.
fn project(text: &str, dir: &str, app: &str) -> Project {
    let parsed = parse(&[Source { name: "compose.yaml", text }], &Context::new(dir, app, &Files));
    let project = parsed.unwrap_or_else(|errors| panic!("{errors}\n{text}")).project;
    assert_eq!(validate(&project), Ok(()), "{text}");
    project
}

/// It has the network of a container, and not of a name: a container that was made for one that still runs
/// is started, and one that was made for one that is gone is not: another is made.
fn is_made_anew() {
    let docker = Docker::here().unwrap();
    let image = docker.import_busybox(&format!("upbeat-sharing-{}", std::process::id()), "v1");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bed = Bed::new(&docker, image.name(), COUNT_MAX);
    let project = |mark: &str| {
        bed.project(&format!(
            "services:\n  web: &shares {{ image: IMAGE, command: [sleep, '60'], network_mode: 'service:db' }}\n  \
             tap: *shares\n  db: {{ image: IMAGE, command: [sleep, '60'], labels: {{ mark: '{mark}' }} }}\n"
        ))
    };
    runtime.block_on(async {
        let (engine, _events) = bed.driver();
        let [web, tap, db]: [ServiceName; 3] = ["web", "tap", "db"].map(|name| name.parse().unwrap());
        let slot = |name: &ServiceName| -> SlotId { format!("{}/{name}/1", bed.app).parse().unwrap() };
        let prepare = async |project: &Project, name: &ServiceName| {
            engine.prepare(bed.wish(name, &project.services[name]), |_| {}).await
        };
        let old = project("old");
        let lacks = prepare(&old, &web).await;
        assert_eq!(lacks, Err(PrepareError::Lacks { service: db.clone() }));
        let first = prepare(&old, &db).await.unwrap().container;
        let sharing = prepare(&old, &web).await.unwrap().container;
        let tapping = prepare(&old, &tap).await.unwrap().container;
        engine.start(&slot(&db), Attempt(1), &first).await.unwrap();
        // Another one is made beside it, and the first serves on until its successor takes over.
        let second = prepare(&project("new"), &db).await.unwrap().container;
        engine.start(&slot(&tap), Attempt(1), &tapping).await.unwrap();
        docker.post(&format!("/containers/{first}/kill"), &Value::Null);
        let start = engine.start(&slot(&web), Attempt(1), &sharing).await;
        assert!(matches!(start, Err(StartError::Gone)), "{start:?}");
        let anew = prepare(&old, &web).await.unwrap().container;
        assert_ne!(anew, sharing);
        let mode = docker.inspect(&anew).unwrap()["HostConfig"]["NetworkMode"].clone();
        assert_eq!(mode, format!("container:{second}"));
        assert_eq!(prepare(&old, &web).await.unwrap().container, anew, "it is taken as it is");
    });
}

/// An app of its own, and all of it removed at the end.
struct Bed<'d> {
    docker: &'d Docker,
    image: &'d str,
    app: String,
    dir: tempfile::TempDir,
}

impl Drop for Bed<'_> {
    fn drop(&mut self) {
        self.docker.purge(&format!("io.upbeat.owner={}", self.app));
    }
}

impl<'d> Bed<'d> {
    fn new(docker: &'d Docker, image: &'d str, number: usize) -> Self {
        let app = format!("c{}x{number}", std::process::id());
        Self { docker, image, app, dir: tempfile::tempdir().unwrap() }
    }

    fn project(&self, text: &str) -> Project {
        let text = text.replace("IMAGE", self.image).replace("APP", &self.app);
        project(&text, self.dir.path().to_str().unwrap(), &self.app)
    }

    /// What the fields say that are set, or why there are none.
    async fn outcome(&self, text: &str) -> Value {
        let project = self.project(text);
        let (engine, _events) = self.driver();
        let web: ServiceName = "web".parse().unwrap();
        let mut others = Vec::new();
        for (name, spec) in project.services.iter().filter(|(name, _)| **name != web) {
            others.push((self.made(&engine, name, spec).await.unwrap().0, format!("the id of {name}")));
        }
        let (_, plain) = self.made(&engine, &"plain".parse().unwrap(), &self.plain()).await.unwrap();
        match self.made(&engine, &web, &project.services[&web]).await {
            Ok((_, made)) => {
                let made = difference(&plain, &made).unwrap_or_else(|| json!({})).to_string();
                let made = others.iter().fold(made, |made, (id, name)| made.replace(id, name));
                serde_json::from_str(&made).unwrap()
            }
            Err(PrepareError::Refused(why)) => json!({ "refused": self.general(&why) }),
            Err(error) => panic!("{error}\n{text}"),
        }
    }

    /// One that says nothing but what it is made of and runs.
    fn plain(&self) -> Service {
        let mut spec = Service::of_image(ImageRef::parse(self.image).unwrap());
        let container = spec.container.as_mut().unwrap();
        container.command = Some(["sleep", "60"].map(str::to_owned).to_vec());
        let network = Network::new("default", format!("{}_default", self.app));
        container.network = NetworkMode::Networks(vec![Attachment::to(network)]);
        spec
    }

    fn driver(&self) -> (Engine, mpsc::Receiver<EngineEvent>) {
        let (tell, events) = mpsc::channel(64);
        let settings = EngineSettings {
            host: Some(self.docker.host()),
            config: None,
            keys: tokio::sync::watch::channel(Default::default()).1,
            owner: self.app.clone(),
            slots: self.dir.path().join("slots"),
            locks: UpdateLocks::new(self.dir.path().join("locks")),
            failpoint: |_| {},
        };
        (Engine::new(settings, tell), events)
    }

    fn wish(&self, name: &ServiceName, spec: &Service) -> Prepare {
        let slot: SlotId = format!("{}/{name}/1", self.app).parse().unwrap();
        let (digest, release) = (spec.digest(), "1".to_owned());
        Prepare { slot, spec: spec.clone().into(), digest, release, generation: 1 }
    }

    /// The id of a container, and what the engine shows of it.
    async fn made(
        &self,
        engine: &Engine,
        name: &ServiceName,
        spec: &Service,
    ) -> Result<(String, Value), PrepareError> {
        let wanted = self.wish(name, spec);
        let prepared = engine.prepare(wanted, |_| {}).await?;
        let mut shown = self.docker.inspect(&prepared.container).unwrap();
        let shown = self.kept(&mut shown, &prepared.container, name).to_string();
        let shown = serde_json::from_str(&shown.replace(&spec.digest(), "DIGEST")).unwrap();
        Ok((prepared.container, shown))
    }

    /// Of what the engine shows all that a file can set, with general names.
    fn kept(&self, shown: &mut Value, id: &str, service: &ServiceName) -> Value {
        let networks = shown["NetworkSettings"]["Networks"].take();
        let networks = networks.as_object().cloned().unwrap_or_default().into_iter().map(|(name, joined)| {
            const SET: [&str; 4] = ["Aliases", "DriverOpts", "IPAMConfig", "Links"];
            let fields: Map<String, Value> =
                SET.iter().map(|key| ((*key).to_owned(), joined[key].clone())).collect();
            (name, Value::Object(fields))
        });
        let networks = Value::Object(networks.collect());
        let mut config = shown["Config"].take();
        if let Some(labels) = config["Labels"].as_object_mut() {
            labels.retain(|label, _| !label.starts_with("io.upbeat."));
        }
        let kept = json!({
            "Name": shown["Name"], "Config": config, "HostConfig": shown["HostConfig"], "Networks": networks,
        });
        let text = self.general(&kept.to_string());
        let own = format!("APP-{service}-1");
        let text = text
            .replace(&id[..12], "ID")
            .replace(&own, "OWN")
            .replace(&format!("\"{service}\""), "\"SERVICE\"");
        serde_json::from_str(&text).unwrap()
    }

    fn general(&self, text: &str) -> String {
        let dir = self.dir.path().to_str().unwrap();
        text.replace(dir, "DIR").replace(self.image, "IMAGE").replace(&self.app, "APP")
    }
}

/// What one says that the other does not; null, where only the other says something.
fn difference(plain: &Value, made: &Value) -> Option<Value> {
    match (plain, made) {
        _ if plain == made => None,
        (Value::Object(one), Value::Object(other)) => {
            let keys: BTreeMap<&String, ()> = one.keys().chain(other.keys()).map(|key| (key, ())).collect();
            let fields = keys.into_keys().filter_map(|key| {
                let (one, other) =
                    (one.get(key).unwrap_or(&Value::Null), other.get(key).unwrap_or(&Value::Null));
                Some((key.clone(), difference(one, other)?))
            });
            Some(Value::Object(fields.collect()))
        }
        (_, made) => Some(made.clone()),
    }
}
