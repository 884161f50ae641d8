//! What a registry wants to be told, from the person's settings of Docker: `config.json`, and the helpers it
//! names.
//!
//! They are read when they are needed and kept nowhere. No error and no log holds any of them, or anything
//! else that is in that file or that a helper says.

use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use serde::Deserialize;
use upbeat_model::project::container::ImageRef;

use super::Engine;

/// A helper may ask a keychain, which may be locked, but not a person: nobody is there.
const HELPER_PATIENCE: Duration = Duration::from_secs(30);

/// Of what a helper says. Tokens are some KB.
const SAID_MAX: u64 = 64 << 10;

/// Of the file.
const FILE_MAX: u64 = 1 << 20;

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
    pub(super) async fn credentials(&self, image: &ImageRef) -> Result<Option<String>, String> {
        let Some(dir) = self.inner.settings.config.clone() else { return Ok(None) };
        let registry = image.registry().to_owned();
        // Files and programs may hang.
        let looked = tokio::task::spawn_blocking(move || look(&dir, &registry, None)).await;
        looked.unwrap_or_else(|_| Err("the credentials could not be looked for".to_owned()))
    }
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
        && let Some(said) = ask(helper, &keys[0], search)?
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

fn header(registry: &str, auth: &Auth) -> String {
    let address = if registry == ImageRef::DOCKER_HUB { DOCKER_HUB } else { registry };
    let mut said = serde_json::json!({ "serveraddress": address });
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
fn ask(helper: &str, key: &str, search: Option<&Path>) -> Result<Option<Said>, String> {
    let is_name = helper.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if !is_name || helper.starts_with('.') {
        return Err("`config.json` names a helper for credentials that is no name of a program".to_owned());
    }
    let program = format!("docker-credential-{helper}");
    let path = search.map_or_else(|| program.clone().into(), |dir| dir.join(&program));
    let mut command = Command::new(path);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
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
    let said = told.recv_timeout(HELPER_PATIENCE);
    if !matches!(said, Ok(Some(_))) {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| format!("`{program}`: {}", error.kind()))?;
    let seconds = HELPER_PATIENCE.as_secs();
    match said {
        Err(RecvTimeoutError::Timeout) => {
            Err(format!("`{program}` did not give credentials within {seconds} s"))
        }
        Ok(Some(said)) if status.success() && said.len() as u64 <= SAID_MAX => serde_json::from_slice(&said)
            .map(Some)
            .map_err(|_| format!("`{program}` did not say credentials as Docker's helpers do")),
        // As all helpers say it.
        Ok(Some(said)) if said.starts_with(b"credentials not found") => Ok(None),
        _ => Err(format!("`{program}` failed; try `echo REGISTRY | {program} get`")),
    }
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
}
