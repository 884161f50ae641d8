//! What a registry wants to be told: the key that the device document has for it; or else what the person's settings
//! of Docker have, `config.json` and the helpers it names.
//!
//! Of both the key is meant for this machine, by whoever says what runs on it; the settings are those of a person who
//! may have logged in for something else. A key that is refused is no reason to try these: who has changed it shall
//! learn of that.
//!
//! The settings are read when they are needed and kept nowhere. No error and no log holds a key, or anything that is in
//! that file or that a helper says.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use upbeat_model::device::{RegistryKey, RegistryKeys};
use upbeat_model::project::container::ImageRef;

use super::Engine;

/// A helper may ask a keychain, which may be locked, but not a person: nobody is there.
const HELPER_PATIENCE: Duration = Duration::from_secs(30);

/// Of what a helper says. Tokens are some KB.
const SAID_MAX: u64 = 64 << 10;

/// Of the file.
const FILE_MAX: u64 = 1 << 20;

/// Registries of which a build is told. Each may have a helper that is asked, which takes its time.
const REGISTRIES_MAX: usize = 16;

/// As which Docker's own registry is known there.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// The name by which a helper says that what it gives is a token.
const TOKEN: &str = "<token>";

/// Of the file what is used.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: HashMap<String, Auth>,
    cred_helpers: HashMap<String, String>,
    creds_store: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

/// What a helper says.
#[derive(Deserialize)]
struct Said {
    #[serde(rename = "Username", default)]
    username: String,
    #[serde(rename = "Secret", default)]
    secret: String,
}

impl Engine {
    /// The header for the registry of an image, where there are credentials for it.
    ///
    /// Errors: they cannot be had, in words that hold none of them.
    pub(super) async fn credentials(&self, image: &ImageRef) -> Result<Credentials, String> {
        let registry = image.registry().to_owned();
        if let Some(key) = self.keys().get(&registry) {
            return Ok(Credentials::Key(self.of_key(&registry, key)));
        }
        let Some(dir) = self.inner.settings.config.clone() else { return Ok(Credentials::None) };
        // Files and programs may hang.
        let looked = tokio::task::spawn_blocking(move || look(&dir, &registry, None)).await;
        let looked = looked.unwrap_or_else(|_| Err("the credentials could not be looked for".to_owned()))?;
        Ok(looked.map_or(Credentials::None, Credentials::Settings))
    }

    fn keys(&self) -> Arc<RegistryKeys> {
        self.inner.settings.keys.borrow().clone()
    }

    /// As the first such agent said it: a device is known to registries by its uuid.
    fn of_key(&self, registry: &str, key: &RegistryKey) -> String {
        let username = format!("d_{}", self.inner.settings.owner);
        header(registry, &Auth { username, password: key.secret().to_owned(), ..Auth::default() })
    }
}

/// The header for a registry, and where it comes from.
pub(super) enum Credentials {
    /// There are none.
    None,
    /// The device document has a key.
    Key(String),
    /// The person's settings of Docker.
    Settings(String),
}

impl Credentials {
    pub(super) fn header(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Key(header) | Self::Settings(header) => Some(header),
        }
    }
}

/// What is known of all registries there are credentials for.
pub(super) struct OfAll {
    /// The header; where there are none, it holds none.
    pub(super) header: String,
    /// What cannot be had, in words that hold none of them.
    pub(super) lacks: Vec<String>,
}

impl Engine {
    /// The header for whatever registries a build asks: nobody knows beforehand which.
    pub(super) async fn all_credentials(&self) -> OfAll {
        let dir = self.inner.settings.config.clone();
        // Files and programs may hang.
        let look = move || dir.map(|dir| look_for_all(&dir, None)).unwrap_or_default();
        let broken = || vec!["the credentials could not be looked for".to_owned()];
        let (mut said, lacks) =
            tokio::task::spawn_blocking(look).await.unwrap_or_else(|_| (Default::default(), broken()));
        for (registry, key) in &*self.keys() {
            said.extend(entry(registry, &self.of_key(registry, key)));
        }
        OfAll { header: URL_SAFE.encode(serde_json::Value::Object(said).to_string()), lacks }
    }
}

type Found = (serde_json::Map<String, serde_json::Value>, Vec<String>);

fn look_for_all(dir: &Path, search: Option<&Path>) -> Found {
    let (mut said, mut lacks) = (serde_json::Map::new(), Vec::new());
    let config = match read(&dir.join("config.json")) {
        Ok(config) => config,
        Err(why) => return (said, vec![why]),
    };
    let names = config.auths.keys().chain(config.cred_helpers.keys()).map(|key| host(key));
    let registries: BTreeSet<&str> = names
        .map(|name| match keys(ImageRef::DOCKER_HUB).iter().any(|key| host(key) == name) {
            true => ImageRef::DOCKER_HUB,
            false => name,
        })
        .collect();
    if registries.len() > REGISTRIES_MAX {
        lacks.push(format!(
            "`config.json` has credentials for {} registries, and a build is given those of {REGISTRIES_MAX}, the first in the order of their names",
            registries.len()
        ));
    }
    for registry in registries.into_iter().take(REGISTRIES_MAX) {
        match look(dir, registry, search) {
            Ok(None) => {}
            Ok(Some(header)) => said.extend(entry(registry, &header)),
            Err(why) => lacks.push(why),
        }
    }
    (said, lacks)
}

/// A header as one of many.
fn entry(registry: &str, header: &str) -> Option<(String, serde_json::Value)> {
    let found = URL_SAFE.decode(header).ok().and_then(|json| serde_json::from_slice(&json).ok());
    found.map(|found| (address(registry).to_owned(), found))
}

/// By which names a registry may be known there.
fn keys(registry: &str) -> Vec<String> {
    match registry {
        ImageRef::DOCKER_HUB => {
            vec![DOCKER_HUB.to_owned(), "index.docker.io".to_owned(), "docker.io".to_owned()]
        }
        other => vec![other.to_owned()],
    }
}

/// `https://host/v1/` is `host`.
fn host(key: &str) -> &str {
    let bare = key.split_once("://").map_or(key, |(_, rest)| rest);
    bare.split('/').next().unwrap_or(bare)
}

/// `search`: where helpers are, in place of where all programs are.
fn look(dir: &Path, registry: &str, search: Option<&Path>) -> Result<Option<String>, String> {
    let config = read(&dir.join("config.json"))?;
    let keys = keys(registry);
    let of_registry = keys.iter().find_map(|key| config.cred_helpers.get(key));
    let helper = of_registry.or(Some(&config.creds_store)).filter(|helper| !helper.is_empty());
    if let Some(helper) = helper
        && let Some(said) = ask(helper, &keys[0], search, HELPER_PATIENCE)?
    {
        return Ok(Some(match said.username.as_str() {
            TOKEN => header(registry, &Auth { identitytoken: said.secret, ..Auth::default() }),
            _ => {
                header(registry, &Auth { username: said.username, password: said.secret, ..Auth::default() })
            }
        }));
    }
    let exact = keys.iter().find_map(|key| config.auths.get(key));
    let auth = exact.or_else(|| {
        config
            .auths
            .iter()
            .find(|(key, _)| keys.iter().any(|wanted| host(key) == wanted))
            .map(|(_, auth)| auth)
    });
    let Some(auth) = auth else { return Ok(None) };
    let auth = plain(auth, registry)?;
    let is_empty = [&auth.username, &auth.password, &auth.identitytoken, &auth.registrytoken];
    Ok((!is_empty.iter().all(|text| text.is_empty())).then(|| header(registry, &auth)))
}

fn read(path: &Path) -> Result<Config, String> {
    let shown = path.display();
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut text));
    match read {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Config::default()),
        Err(error) => return Err(format!("the credentials in {shown} cannot be read: {}", error.kind())),
        Ok(_) if text.len() as u64 > FILE_MAX => {
            return Err(format!("{shown} is larger than {FILE_MAX} bytes, and no file of credentials"));
        }
        Ok(_) => {}
    }
    serde_json::from_slice(&text).map_err(|error| {
        // What it found there may be a secret.
        let (line, column) = (error.line(), error.column());
        format!("the credentials in {shown} cannot be read: line {line}, column {column} is not as Docker writes it")
    })
}

/// With the name and the password apart.
fn plain(auth: &Auth, registry: &str) -> Result<Auth, String> {
    let Auth { username, password, identitytoken, registrytoken, .. } = auth;
    let mut plain = Auth {
        auth: String::new(),
        username: username.clone(),
        password: password.clone(),
        identitytoken: identitytoken.clone(),
        registrytoken: registrytoken.clone(),
    };
    if !auth.auth.is_empty() {
        let text = auth.auth.trim();
        let decoded = STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).ok();
        let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        let Some((username, password)) = decoded.as_deref().and_then(|text| text.split_once(':')) else {
            return Err(format!(
                "the credentials for registry {registry} in `config.json` are garbled; log in anew with `docker login {registry}`"
            ));
        };
        plain.username = username.to_owned();
        plain.password = password.trim_end_matches('\0').to_owned();
    }
    Ok(plain)
}

/// As which the engine knows a registry.
fn address(registry: &str) -> &str {
    if registry == ImageRef::DOCKER_HUB { DOCKER_HUB } else { registry }
}

fn header(registry: &str, auth: &Auth) -> String {
    let mut said = serde_json::json!({ "serveraddress": address(registry) });
    let fields = [
        ("username", &auth.username),
        ("password", &auth.password),
        ("identitytoken", &auth.identitytoken),
        ("registrytoken", &auth.registrytoken),
    ];
    for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
        said[name] = value.as_str().into();
    }
    URL_SAFE.encode(said.to_string())
}

/// Asks a helper. `None`: it has none for this registry.
fn ask(helper: &str, key: &str, search: Option<&Path>, patience: Duration) -> Result<Option<Said>, String> {
    let is_name = helper.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if !is_name || helper.starts_with('.') {
        return Err("`config.json` names a helper for credentials that is no name of a program".to_owned());
    }
    let program = format!("docker-credential-{helper}");
    let path = search.map_or_else(|| program.clone().into(), |dir| dir.join(&program));
    let mut command = Command::new(path);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
    let deadline = Instant::now() + patience;
    let mut child = command.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            format!(
                "`{program}`, which `config.json` names for credentials, is not in the PATH of the daemon"
            )
        }
        kind => format!("`{program}`, which `config.json` names for credentials, cannot be run: {kind}"),
    })?;
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let key = key.to_owned();
    let (tell, told) = sync_channel(1);
    // Should what it started hold its output open, this thread waits for that, and nobody for it.
    std::thread::spawn(move || {
        if let Some(mut input) = input {
            // One that does not read it says something all the same.
            let _ = writeln!(input, "{key}");
        }
        let mut said = Vec::new();
        let read = output.map_or(Ok(0), |output| output.take(SAID_MAX + 1).read_to_end(&mut said));
        let _ = tell.send(read.is_ok().then_some(said));
    });
    let said = told.recv_timeout(patience);
    // It may have said all, and not end.
    let status = ends_by(&mut child, deadline).map_err(|error| format!("`{program}`: {}", error.kind()))?;
    match (said, status) {
        (Err(RecvTimeoutError::Timeout), _) | (_, None) => {
            Err(format!("`{program}` did not give credentials within {} s", patience.as_secs()))
        }
        (Ok(Some(said)), Some(status)) if status.success() && said.len() as u64 <= SAID_MAX => {
            serde_json::from_slice(&said)
                .map(Some)
                .map_err(|_| format!("`{program}` did not say credentials as Docker's helpers do"))
        }
        // As all helpers say it.
        (Ok(Some(said)), _) if said.starts_with(b"credentials not found") => Ok(None),
        _ => Err(format!("`{program}` failed; try `echo REGISTRY | {program} get`")),
    }
}

/// How it has ended; nothing, where it had not by then: it does now, with what it has started.
fn ends_by(child: &mut Child, deadline: Instant) -> std::io::Result<Option<ExitStatus>> {
    const LOOKED: Duration = Duration::from_millis(5);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            break;
        }
        std::thread::sleep(LOOKED);
    }
    // It is its own group's first process, and was not waited for yet: the number is its own still.
    if let Some(pid) = Pid::from_raw(child.id().cast_signed()) {
        let _ = kill_process_group(pid, Signal::KILL);
    }
    let _ = child.kill();
    child.wait().map(|_| None)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn said(dir: &Path, registry: &str) -> Result<Option<serde_json::Value>, String> {
        let header = look(dir, registry, Some(dir))?;
        Ok(header.map(|header| serde_json::from_slice(&URL_SAFE.decode(header).unwrap()).unwrap()))
    }

    fn config(text: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), text).unwrap();
        dir
    }

    fn helper(dir: &Path, name: &str, script: &str) {
        let path = dir.join(format!("docker-credential-{name}"));
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn they_are_found_by_registry_in_the_file() {
        let auth = STANDARD.encode("ali:open:sesame");
        let text = format!(
            r#"{{"auths": {{"https://reg.example/v1/": {{"auth": "{auth}"}}, "{DOCKER_HUB}": {{"identitytoken": "tok"}},
                "empty.example": {{}}}}, "HttpHeaders": {{"x": "y"}}}}"#
        );
        let dir = config(&text);
        let found = said(dir.path(), "reg.example").unwrap().unwrap();
        let wanted = serde_json::json!({
            "serveraddress": "reg.example", "username": "ali", "password": "open:sesame",
        });
        assert_eq!(found, wanted);
        let found = said(dir.path(), "docker.io").unwrap().unwrap();
        assert_eq!(found, serde_json::json!({ "serveraddress": DOCKER_HUB, "identitytoken": "tok" }));
        assert_eq!(said(dir.path(), "empty.example"), Ok(None));
        assert_eq!(said(dir.path(), "other.example"), Ok(None));
        assert_eq!(said(tempfile::tempdir().unwrap().path(), "reg.example"), Ok(None));
    }

    #[test]
    fn a_helper_that_says_all_and_does_not_end_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let script =
            "read r; echo '{\"Username\":\"u\",\"Secret\":\"s\"}'; exec >&- 2>&- </dev/null; sleep 1000";
        helper(dir.path(), "slow", script);
        let asked = ask("slow", "r.example", Some(dir.path()), Duration::from_millis(300));
        assert!(asked.is_err_and(|why| why.contains("did not give credentials within")));
    }

    #[test]
    fn helpers_are_asked_and_that_of_a_registry_before_that_of_all() {
        let dir = config(r#"{"credHelpers": {"one.example": "one"}, "credsStore": "all"}"#);
        helper(dir.path(), "one", r#"read r; echo "{\"Username\": \"$1\", \"Secret\": \"for $r\"}""#);
        helper(
            dir.path(),
            "all",
            r#"read r; test $r = none.example && { echo credentials not found in native keychain; exit 1; }; echo '{"Username": "<token>", "Secret": "t"}'"#,
        );
        let found = said(dir.path(), "one.example").unwrap().unwrap();
        assert_eq!((&found["username"], &found["password"]), (&"get".into(), &"for one.example".into()));
        let found = said(dir.path(), "two.example").unwrap().unwrap();
        assert_eq!((&found["identitytoken"], &found["username"]), (&"t".into(), &serde_json::Value::Null));
        assert_eq!(said(dir.path(), "none.example"), Ok(None));
    }

    #[test]
    fn a_build_is_told_those_of_all_registries_and_what_lacks_is_said() {
        let auth = STANDARD.encode("ali:sesame");
        let text = format!(
            r#"{{"auths": {{"reg.example:5000": {{"auth": "{auth}"}}, "{DOCKER_HUB}": {{"identitytoken": "tok"}},
                "empty.example": {{}}}}, "credHelpers": {{"gone.example": "gone"}}}}"#
        );
        let dir = config(&text);
        let (said, lacks) = look_for_all(dir.path(), Some(dir.path()));
        let wanted = serde_json::json!({
            DOCKER_HUB: { "serveraddress": DOCKER_HUB, "identitytoken": "tok" },
            "reg.example:5000": { "serveraddress": "reg.example:5000", "username": "ali", "password": "sesame" },
        });
        assert_eq!(serde_json::Value::Object(said), wanted);
        assert!(lacks.len() == 1 && lacks[0].contains("docker-credential-gone"), "{lacks:?}");
        let many: Vec<String> =
            (0..=REGISTRIES_MAX).map(|n| format!(r#""r{n:02}.example": {{"auth": "{auth}"}}"#)).collect();
        let (said, lacks) =
            look_for_all(config(&format!(r#"{{"auths": {{{}}}}}"#, many.join(","))).path(), None);
        assert_eq!(said.len(), REGISTRIES_MAX);
        assert!(lacks.len() == 1 && lacks[0].contains("17 registries"), "{lacks:?}");
        let (said, lacks) = look_for_all(config("{").path(), None);
        assert!(said.is_empty() && lacks[0].contains("line 1"), "{lacks:?}");
        assert_eq!(look_for_all(tempfile::tempdir().unwrap().path(), None), Found::default());
    }

    #[test]
    fn no_error_holds_what_is_secret() {
        let check = |text: &str, script: Option<&str>, words: &str| {
            let dir = config(text);
            if let Some(script) = script {
                helper(dir.path(), "x", script);
            }
            let error = said(dir.path(), "reg.example").unwrap_err();
            assert!(error.contains(words) && !error.contains("s3same"), "{error}");
        };
        check(r#"{"auths": "s3same"}"#, None, "line 1, column");
        check(r#"{"auths": {"reg.example": {"auth": "s3same!"}}}"#, None, "docker login reg.example");
        check(r#"{"credsStore": "../../s3same"}"#, None, "no name of a program");
        check(r#"{"credsStore": "x"}"#, None, "is not in the PATH");
        check(r#"{"credsStore": "x"}"#, Some("echo s3same; exit 1"), "failed");
        check(r#"{"credsStore": "x"}"#, Some("echo s3same"), "did not say credentials");
        check(r#"{"credsStore": "x"}"#, Some("head -c 1000000 /dev/zero | tr '\\0' s"), "failed");
        check(&format!("{{{}}}", " ".repeat(FILE_MAX as usize)), None, "larger than");
    }

    fn read(header: &str) -> serde_json::Value {
        serde_json::from_slice(&URL_SAFE.decode(header).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_key_of_the_document_comes_before_the_settings_and_holds_for_its_registry_alone() {
        let auth = STANDARD.encode("ali:sesame");
        let dir = config(&format!(
            r#"{{"auths": {{"one.example": {{"auth": "{auth}"}}, "two.example": {{"auth": "{auth}"}}}}}}"#
        ));
        let (tell, keys) = tokio::sync::watch::channel(Arc::default());
        let settings = crate::docker::EngineSettings {
            host: Some("unix:///dev/null/none".to_owned()),
            config: Some(dir.path().to_owned()),
            keys,
            owner: "0f".to_owned(),
            slots: dir.path().join("slots"),
            locks: crate::update_locks::UpdateLocks::new("/locks".into()),
            failpoint: |_| {},
        };
        let engine = Engine::new(settings, tokio::sync::mpsc::channel(1).0);
        let of = async |image: &str| engine.credentials(&ImageRef::parse(image).unwrap()).await.unwrap();
        let Credentials::Settings(header) = of("one.example/web").await else { panic!("no settings") };
        assert_eq!(read(&header)["username"], "ali");
        // From now on, without a daemon that starts anew.
        let key = |text: &str| RegistryKey::from(text);
        tell.send_replace(Arc::new(
            [("one.example".into(), key("k")), ("docker.io".into(), key("h"))].into(),
        ));
        let Credentials::Key(header) = of("one.example/web").await else { panic!("no key") };
        let wanted =
            serde_json::json!({ "serveraddress": "one.example", "username": "d_0f", "password": "k" });
        assert_eq!(read(&header), wanted);
        let Credentials::Key(header) = of("alpine").await else { panic!("no key") };
        assert_eq!(read(&header)["serveraddress"], DOCKER_HUB);
        assert!(matches!(of("two.example/web").await, Credentials::Settings(_)));
        assert!(matches!(of("three.example/web").await, Credentials::None));
        let all = engine.all_credentials().await;
        let all = read(&all.header);
        let users: Vec<_> = ["one.example", "two.example", DOCKER_HUB].map(|at| &all[at]["username"]).into();
        assert_eq!(users, ["d_0f", "ali", "d_0f"]);
    }
}
