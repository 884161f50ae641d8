//! For tests with a real container engine: a plain client that knows nothing of ours, an image of busybox, a
//! registry, and an engine of one's own that may be killed.
//!
//! All of it panics where it cannot go on: a test that cannot has failed.

mod listen;
mod private;

pub use listen::Listener;
pub use private::PrivateEngine;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use serde_json::{Value, json};

/// The version of the API that is spoken here: that of the oldest engine.
const VERSION: &str = "/v1.41";

/// What is started here says within this that it is there, on a machine that is busy with other tests too.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// An engine, as anybody speaks with it.
#[derive(Clone, Debug)]
pub struct Docker {
    socket: PathBuf,
}

impl Docker {
    /// That of `DOCKER_HOST`, or the usual one. `None`: it does not answer.
    pub fn here() -> Option<Self> {
        let host = std::env::var("DOCKER_HOST").unwrap_or_default();
        let socket = match host.as_str() {
            "" => "/var/run/docker.sock",
            host => host.strip_prefix("unix://")?,
        };
        let docker = Self { socket: socket.into() };
        docker.answers().then_some(docker)
    }

    fn answers(&self) -> bool {
        self.ask("GET", "/_ping", &[], &[]).is_ok_and(|(status, _)| status == 200)
    }

    /// Where it is, as `DOCKER_HOST` has it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<(u16, Vec<u8>)> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(START_PATIENCE))?;
        // So the answer is what comes until the end.
        let mut head = format!(
            "{method} {VERSION}{path} HTTP/1.0\r\nHost: docker\r\nContent-Length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(head.as_bytes())?;
        stream.write_all(b"\r\n")?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let unreadable = || std::io::Error::other("an answer without a head");
        let end = answer.windows(4).position(|at| at == b"\r\n\r\n").ok_or_else(unreadable)?;
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(unreadable)?;
        Ok((status, answer.split_off(end + 4)))
    }

    /// Asks. The status and the answer, which is null where it is none of JSON.
    pub fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let (text, kind) = match body {
            Value::Null => (Vec::new(), Vec::new()),
            body => (body.to_string().into_bytes(), vec![("Content-Type", "application/json")]),
        };
        let (status, answer) =
            self.ask(method, path, &kind, &text).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        (status, serde_json::from_slice(&answer).unwrap_or_default())
    }

    /// Asks for what is to go well.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.well("GET", path, &Value::Null)
    }

    /// Asks that something be done, which goes well.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Value {
        self.well("POST", path, body)
    }

    #[track_caller]
    fn well(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.call(method, path, body);
        assert!(status < 400, "{method} {path}: {status} {answer}");
        answer
    }

    /// What happened between two moments (seconds of the wall clock, as the engine writes them), as it tells it.
    pub fn history(&self, since: &str, until: &str) -> Vec<Value> {
        let path = format!("/events?since={since}&until={until}");
        let (status, answer) =
            self.ask("GET", &path, &[], &[]).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(status, 200, "{path}");
        serde_json::Deserializer::from_slice(&answer).into_iter().map_while(Result::ok).collect()
    }

    /// What `docker inspect` says. `None`: there is no such container.
    pub fn inspect(&self, container: &str) -> Option<Value> {
        let (status, answer) = self.call("GET", &format!("/containers/{container}/json"), &Value::Null);
        (status == 200).then_some(answer)
    }

    /// Ids of all containers that have this label.
    pub fn labelled(&self, label: &str) -> Vec<String> {
        let filters = json!({ "label": [label] }).to_string();
        let found = self.get(&format!("/containers/json?all=1&filters={}", escaped(&filters)));
        let ids = found.as_array().into_iter().flatten().filter_map(|one| one["Id"].as_str());
        ids.map(str::to_owned).collect()
    }

    /// Removes all that has this label, whether it runs or not. An engine that is gone has none.
    pub fn purge(&self, label: &str) {
        if !self.answers() {
            return;
        }
        for id in self.labelled(label) {
            self.call("DELETE", &format!("/containers/{id}?force=1&v=1"), &Value::Null);
        }
        let filters = escaped(&json!({ "label": [label] }).to_string());
        for network in self.get(&format!("/networks?filters={filters}")).as_array().into_iter().flatten() {
            self.call(
                "DELETE",
                &format!("/networks/{}", network["Id"].as_str().unwrap_or_default()),
                &Value::Null,
            );
        }
        let volumes = self.get(&format!("/volumes?filters={filters}"));
        for volume in volumes["Volumes"].as_array().into_iter().flatten() {
            self.call(
                "DELETE",
                &format!("/volumes/{}", volume["Name"].as_str().unwrap_or_default()),
                &Value::Null,
            );
        }
        let filters = escaped(&json!({ "label": [label], "dangling": ["false"] }).to_string());
        self.call("POST", &format!("/images/prune?filters={filters}"), &Value::Null);
    }

    /// Makes an image of busybox: `name:tag`, with a shell and all its usual commands.
    pub fn import_busybox(&self, name: &str, tag: &str) -> Image {
        let (status, answer) = self
            .ask(
                "POST",
                &format!("/images/create?fromSrc=-&repo={name}&tag={tag}"),
                &[("Content-Type", "application/x-tar")],
                &busybox(),
            )
            .unwrap_or_else(|error| panic!("an import: {error}"));
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(status == 200 && !answer.contains("errorDetail"), "an import: {status} {answer}");
        Image { docker: self.clone(), name: format!("{name}:{tag}") }
    }

    /// An image that is there, or will be.
    pub fn named(&self, name: &str) -> Image {
        Image { docker: self.clone(), name: name.to_owned() }
    }

    /// Puts an image into a registry, as whoever has these credentials. Its name there.
    pub fn push(&self, image: &Image, registry: &Registry, path: &str, tag: &str) -> Image {
        let name = format!("{}/{path}", registry.address);
        self.post(&format!("/images/{}/tag?repo={name}&tag={tag}", image.name), &Value::Null);
        let auth = base64(registry.credentials().to_string().as_bytes());
        let (status, answer) = self
            .ask("POST", &format!("/images/{name}/push?tag={tag}"), &[("X-Registry-Auth", &auth)], &[])
            .unwrap_or_else(|error| panic!("a push: {error}"));
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(status == 200 && !answer.contains("errorDetail"), "a push: {status} {answer}");
        Image { docker: self.clone(), name: format!("{name}:{tag}") }
    }
}

/// An image, as long as this lives.
#[derive(Debug)]
pub struct Image {
    docker: Docker,
    name: String,
}

impl Image {
    /// With its tag.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As the engine has it now.
    pub fn id(&self) -> String {
        let there = self.docker.get(&format!("/images/{}/json", self.name));
        there["Id"].as_str().unwrap_or_default().to_owned()
    }

    /// Removes its name, and it, if it has no other.
    pub fn remove(&self) {
        // Whoever tidies up after an engine that is gone has nothing to tidy.
        let _ = self.docker.ask("DELETE", &format!("/images/{}?force=1", self.name), &[], &[]);
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if self.docker.answers() {
            self.remove();
        }
    }
}

/// A file system with nothing but busybox, packed.
fn busybox() -> Vec<u8> {
    let root = tempfile::tempdir().unwrap_or_else(|error| panic!("a directory: {error}"));
    let run = |command: &mut Command| {
        let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    };
    for dir in ["bin", "tmp", "etc", "root"] {
        fs::create_dir(root.path().join(dir)).unwrap_or_else(|error| panic!("{dir}: {error}"));
    }
    let program = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .map(|dir| dir.join("busybox"))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("no busybox"));
    let bin = root.path().join("bin");
    run(Command::new("cp").arg("-L").arg(program).arg(bin.join("busybox")));
    for name in String::from_utf8_lossy(&run(Command::new(bin.join("busybox")).arg("--list"))).lines() {
        if name != "busybox" {
            let _ = std::os::unix::fs::symlink("busybox", bin.join(name));
        }
    }
    let people = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
    fs::write(root.path().join("etc/passwd"), people).unwrap_or_else(|error| panic!("passwd: {error}"));
    run(Command::new("tar").arg("-C").arg(root.path()).args(["--owner=0", "--group=0", "-cf", "-", "."]))
}

/// What stands in a query.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte.is_ascii_alphanumeric() {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

/// With the letters that may stand in a path, as the engine wants it.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let three = [chunk[0], *chunk.get(1).unwrap_or(&0), *chunk.get(2).unwrap_or(&0)];
        let number = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for n in 0..4 {
            let letter = LETTERS[(number >> (18 - 6 * n)) as usize & 63];
            text.push(if n <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

/// A program of the system's that a test has started; it ends with it.
#[derive(Debug)]
struct Started {
    child: Child,
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What nobody else asks of a registry.
const BARRIER: &str = "/v2/upbeat-barrier/manifests/none";

/// A registry of one's own, on a free port.
#[derive(Debug)]
pub struct Registry {
    /// `127.0.0.1:port`.
    pub address: String,
    user: Option<String>,
    manifests: Arc<AtomicUsize>,
    barrier: mpsc::Receiver<()>,
    _program: Started,
    _dir: tempfile::TempDir,
}

impl Registry {
    /// Who may use one with a password.
    pub const USER: &str = "ali";
    /// The password.
    pub const PASSWORD: &str = "sesame";
    /// The same, as `htpasswd -B` writes it.
    const HASHED: &str = "$2b$04$MY1BbWLOzMEUhVu4ULXjVuCbP5WBhI7hkUf6tdq8IDgN9.OqbW9sa";

    /// One that anybody may use.
    pub fn open() -> Self {
        Self::start(None)
    }

    /// One for [`Registry::USER`] alone.
    pub fn with_password() -> Self {
        Self::for_user(Self::USER)
    }

    /// One for this user alone, with [`Registry::PASSWORD`].
    pub fn for_user(user: &str) -> Self {
        Self::start(Some(user.to_owned()))
    }

    /// One that anybody may use in the network of this engine, and nobody else: nobody counts what it is asked.
    pub fn beside(engine: &PrivateEngine) -> Self {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &engine.pid().to_string(), "docker-registry"]);
        Self::start_by(command, None)
    }

    fn start(user: Option<String>) -> Self {
        Self::start_by(Command::new("docker-registry"), user)
    }

    fn start_by(mut command: Command, user: Option<String>) -> Self {
        let dir = tempfile::tempdir().unwrap_or_else(|error| panic!("a directory: {error}"));
        let write = |name: &str, text: &str| {
            fs::write(dir.path().join(name), text).unwrap_or_else(|error| panic!("{name}: {error}"));
        };
        write("htpasswd", &format!("{}:{}\n", user.as_deref().unwrap_or(Self::USER), Self::HASHED));
        let root = dir.path().display();
        let auth = match user.is_some() {
            true => format!("auth:\n  htpasswd:\n    realm: test\n    path: {root}/htpasswd\n"),
            false => String::new(),
        };
        write(
            "config.yml",
            &format!(
                "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {root}/data\nhttp:\n  addr: 127.0.0.1:0\n{auth}"
            ),
        );
        command.arg("serve").arg(dir.path().join("config.yml"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("docker-registry: {error}"));
        let accesses = child.stdout.take().unwrap_or_else(|| panic!("its output is piped"));
        let says = child.stderr.take().unwrap_or_else(|| panic!("its output is piped"));
        let program = Started { child };
        let (found, address) = mpsc::channel();

        let (reached, barrier) = mpsc::channel();
        let manifests = Arc::<AtomicUsize>::default();
        let counted = manifests.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(accesses).lines().map_while(Result::ok) {
                // As web servers write it.
                if line.contains(BARRIER) {
                    let _ = reached.send(());
                } else if line.contains("\"HEAD /v2/") && line.contains("/manifests/") {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        // It is read to its end, as it would stand still otherwise.
        std::thread::spawn(move || {
            for line in BufReader::new(says).lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("listening on ") {
                    let end =
                        rest.find(|c: char| !(c.is_ascii_digit() || ".:".contains(c))).unwrap_or(rest.len());
                    let _ = found.send(rest[..end].to_owned());
                }
            }
        });
        let address =
            address.recv_timeout(START_PATIENCE).unwrap_or_else(|_| panic!("the registry does not listen"));
        Self { address, user, manifests, barrier, _program: program, _dir: dir }
    }

    /// How often somebody has asked what a tag stands for, as each pull does once, of all that has been answered by now.
    pub fn manifests_asked(&self) -> usize {
        // What it writes down of this question comes after all of that.
        let mut stream =
            TcpStream::connect(&self.address).unwrap_or_else(|error| panic!("the registry: {error}"));
        let asked = stream.write_all(format!("GET {BARRIER} HTTP/1.0\r\nHost: registry\r\n\r\n").as_bytes());
        asked.unwrap_or_else(|error| panic!("the registry: {error}"));
        let seen = self.barrier.recv_timeout(START_PATIENCE);
        seen.unwrap_or_else(|error| panic!("what the registry writes down: {error}"));
        self.manifests.load(Ordering::Relaxed)
    }

    /// As the engine is told them.
    pub fn credentials(&self) -> Value {
        match &self.user {
            Some(user) => {
                json!({ "username": user, "password": Self::PASSWORD, "serveraddress": self.address })
            }
            None => json!({}),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_stand_for_bytes() {
        assert_eq!(
            [base64(b""), base64(b"a"), base64(b"ab"), base64(b"abc?")],
            ["", "YQ==", "YWI=", "YWJjPw=="]
        );
        assert_eq!(escaped("{\"a b\"}"), "%7B%22a%20b%22%7D");
    }
}
