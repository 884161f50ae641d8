//! What it costs to have Upbeat ask the engine: one container up and healthy, against `docker run` and the
//! same check, and against the engine's own answers to no more than is needed; an `up` that has nothing to
//! do; one of five services updated, both against docker-compose.
//!
//! `containers`. Needs an engine, the `docker` program and busybox; where there is no `docker-compose`
//! (1.29 of Debian), it says so and leaves that out. Ends with status 1 where a bound is broken.
#![expect(clippy::print_stdout, reason = "a bench prints its numbers")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use upbeat_bench::{Failure, Home, median, ms, percentile};
use upbeat_needs::docker::Docker;

const ROUNDS: usize = 9;
/// Between two checks, for all.
const INTERVAL: Duration = Duration::from_millis(100);
/// Nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// `up` to healthy, in bare `docker run`s with the same check. As fast is the aim; single runs of the same
/// differ by a quarter.
const BOUND_HEALTHY: f64 = 1.25;
/// An `up` without anything to do, and an update, in docker-compose's.
const BOUND_COMPOSE: f64 = 1.0;

const COMMAND: &str = "touch /tmp/ready; trap 'exit 0' TERM; sleep 600 & wait";
const CHECK: [&str; 3] = ["test", "-e", "/tmp/ready"];

fn main() -> Result<ExitCode, Failure> {
    let docker = Docker::here().ok_or("no engine answers")?;
    // As this process is called: nothing that another run made has it.
    let name = format!("bench{}", std::process::id());
    let image = docker.import_busybox(&name, "1");
    let bench = Bench { docker, image: image.name().to_owned(), name };
    let mut broken = Vec::new();
    let there = Made::network(&bench)?;
    for network in [Network::There(&there.0), Network::Own] {
        bench.healthy(network, &mut broken)?;
    }
    bench.five(&mut broken)?;
    broken.iter().for_each(|what| println!("broken: {what}"));
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Which network a container is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Network<'a> {
    /// One of this name, which is there.
    There(&'a str),
    /// One that is made for it, as for every project file.
    Own,
}

struct Bench {
    docker: Docker,
    image: String,
    name: String,
}

/// A network that is there as long as this is.
struct Made<'a>(String, &'a Docker);

impl<'a> Made<'a> {
    fn network(bench: &'a Bench) -> Result<Self, Failure> {
        let name = format!("{}there", bench.name);
        bench.docker.post("/networks/create", &json!({ "Name": name }));
        Ok(Self(name, &bench.docker))
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        self.1.call("DELETE", &format!("/networks/{}", self.0), &Value::Null);
    }
}

/// Measured times, in milliseconds.
#[derive(Default)]
struct Times(Vec<f64>);

impl Times {
    fn say(&self, what: &str, floor: &Self) -> f64 {
        let ratio = median(self.0.clone()) / median(floor.0.clone());
        let (least, most) = (percentile(&self.0, 0), percentile(&self.0, 100));
        println!("{what:44} {:7.0} ms ({least:.0} to {most:.0}) {ratio:5.2} ×", median(self.0.clone()));
        ratio
    }
}

impl Bench {
    /// One container with a check, from nothing to where that passes.
    fn healthy(&self, network: Network<'_>, broken: &mut Vec<String>) -> Result<(), Failure> {
        let of_network = match network {
            Network::There(name) => format!("networks: {{ default: {{ external: true, name: {name} }} }}\n"),
            Network::Own => String::new(),
        };
        let file = format!(
            "{of_network}services:\n  web: {{ image: '{}', command: [sh, -c, \"{COMMAND}\"], healthcheck: {{ test: [CMD, {}], interval: {}ms }} }}\n",
            self.image,
            CHECK.join(", "),
            INTERVAL.as_millis(),
        );
        let home = Home::with(&file)?;
        let _app = Leftovers::of(self, &home)?;
        let mut times: [Times; 3] = Default::default();
        // So a daemon runs.
        home.run(&["up", "-d", "--wait"])?;
        home.run(&["down"])?;
        for _ in 0..ROUNDS {
            times[0].0.push(self.by_api(network)?);
            times[1].0.push(self.by_run(network)?);
            times[2].0.push(ms(home.time(&["up", "-d", "--wait"])?));
            home.run(&["down"])?;
        }
        println!(
            "\none container, in {}, to where its check passes; medians of {ROUNDS}, against `docker run`",
            if network == Network::Own { "a network of its own" } else { "a network that is there" }
        );
        let [api, run, up] = &times;
        api.say("the engine asked for no more than that", run);
        run.say("docker run -d, docker exec", run);
        if up.say("upbeat up -d --wait", run) > BOUND_HEALTHY {
            broken.push(format!("`up` takes longer than {BOUND_HEALTHY} × `docker run` and the check"));
        }
        Ok(())
    }

    /// By no more than the engine has to be asked.
    fn by_api(&self, network: Network<'_>) -> Result<f64, Failure> {
        let begun = Instant::now();
        let mode = match network {
            Network::There(name) => name,
            Network::Own => &self.name,
        };
        if network == Network::Own {
            self.docker.post("/networks/create", &json!({ "Name": mode }));
        }
        let made = self.docker.post(
            &format!("/containers/create?name={}", self.name),
            &json!({
                "Image": self.image, "Cmd": ["sh", "-c", COMMAND], "HostConfig": { "NetworkMode": mode },
                "Labels": { (&self.name): "" },
            }),
        );
        let id = made["Id"].as_str().ok_or("no id")?;
        self.docker.post(&format!("/containers/{id}/start"), &Value::Null);
        asked(begun, || {
            let exec = json!({ "Cmd": CHECK, "AttachStdout": true, "AttachStderr": true });
            let exec = self.docker.post(&format!("/containers/{id}/exec"), &exec);
            let exec = exec["Id"].as_str().ok_or("no id")?;
            self.docker.post(&format!("/exec/{exec}/start"), &json!({ "Detach": false }));
            Ok(self.docker.get(&format!("/exec/{exec}/json"))["ExitCode"] == json!(0))
        })?;
        let took = ms(begun.elapsed());
        self.docker.call("DELETE", &format!("/containers/{id}?force=1"), &Value::Null);
        if network == Network::Own {
            self.docker.call("DELETE", &format!("/networks/{}", self.name), &Value::Null);
        }
        Ok(took)
    }

    /// As a person does it.
    fn by_run(&self, network: Network<'_>) -> Result<f64, Failure> {
        let begun = Instant::now();
        let mode = match network {
            Network::There(name) => name,
            Network::Own => &self.name,
        };
        if network == Network::Own {
            run(Command::new("docker").args(["network", "create", mode]))?;
        }
        let mut command = Command::new("docker");
        command.args([
            "run",
            "-d",
            "--name",
            &self.name,
            "--network",
            mode,
            &self.image,
            "sh",
            "-c",
            COMMAND,
        ]);
        run(&mut command)?;
        asked(begun, || {
            let mut command = Command::new("docker");
            command.args(["exec", &self.name]).args(CHECK);
            Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?.success())
        })?;
        let took = ms(begun.elapsed());
        run(Command::new("docker").args(["rm", "-f", &self.name]))?;
        if network == Network::Own {
            run(Command::new("docker").args(["network", "rm", mode]))?;
        }
        Ok(took)
    }

    /// Five services, of which nothing, or one, has changed.
    fn five(&self, broken: &mut Vec<String>) -> Result<(), Failure> {
        let home = Home::with(&self.file_of_five(0))?;
        let app = Leftovers::of(self, &home)?;
        let peer = Compose::beside(self)?;
        home.run(&["up", "-d", "--wait"])?;
        peer.iter().try_for_each(|peer| peer.up(&self.file_of_five(0)).map(drop))?;
        let (mut same, mut changed, mut gaps): ([Times; 3], [Times; 2], [Times; 2]) = Default::default();
        for round in 1..=ROUNDS {
            let file = self.file_of_five(round);
            same[0].0.push(self.five_looked_at(&app.name)?);
            same[1].0.push(ms(home.time(&["up", "-d", "--wait"])?));
            let since = self.now()?;
            home.write("upbeat.yaml", &file)?;
            changed[0].0.push(ms(home.time(&["up", "-d", "--wait"])?));
            gaps[0].0.push(self.interrupted(&since, "io.upbeat.app", &app.name)?);
            let Some(peer) = &peer else { continue };
            same[2].0.push(peer.up(&self.file_of_five(round - 1))?);
            let since = self.now()?;
            changed[1].0.push(peer.up(&file)?);
            gaps[1].0.push(self.interrupted(&since, "com.docker.compose.project", &peer.name)?);
        }
        println!("\nfive services that run; medians of {ROUNDS}, against docker-compose up -d");
        let [looked, up, compose] = &same;
        let is_there = peer.is_some();
        let against = if is_there { compose } else { looked };
        looked.say("nothing to do: docker inspect of the five", against);
        let of_same = up.say("nothing to do: upbeat up -d --wait", against);
        if !is_there {
            println!(
                "no `docker-compose` here: `apt-get install docker-compose`, or see scripts/bench-peers"
            );
            changed[0].say("one changed: upbeat up -d --wait", &changed[0]);
            gaps[0].say("  its container did not run for", &gaps[0]);
            return Ok(());
        }
        compose.say("nothing to do: docker-compose up -d", compose);
        let of_changed = changed[0].say("one changed: upbeat up -d --wait", &changed[1]);
        changed[1].say("one changed: docker-compose up -d", &changed[1]);
        gaps[0].say("  upbeat: no container of it ran for", &gaps[1]);
        gaps[1].say("  docker-compose: no container of it ran for", &gaps[1]);
        for (what, ratio) in [("an `up` with nothing to do", of_same), ("an update", of_changed)] {
            if ratio > BOUND_COMPOSE {
                broken.push(format!("{what} takes longer than {BOUND_COMPOSE} × docker-compose"));
            }
        }
        Ok(())
    }

    fn file_of_five(&self, version: usize) -> String {
        let service = |name: &str| {
            let version = if name == "c" { version } else { 0 };
            format!(
                "  {name}:\n    image: '{}'\n    command: [sh, -c, \"{COMMAND}\"]\n    environment: {{ VERSION: '{version}' }}\n",
                self.image
            )
        };
        format!("services:\n{}", ["a", "b", "c", "d", "e"].map(service).concat())
    }

    fn five_looked_at(&self, app: &str) -> Result<f64, Failure> {
        let begun = Instant::now();
        let names = ["a", "b", "c", "d", "e"].map(|service| format!("{app}-{service}-1"));
        run(Command::new("docker").arg("inspect").args(names))?;
        Ok(ms(begun.elapsed()))
    }

    /// The engine's clock.
    fn now(&self) -> Result<String, Failure> {
        let info = self.docker.get("/info");
        Ok(info["SystemTime"].as_str().ok_or("the engine has no clock")?.to_owned())
    }

    /// For how long no container of the changed one ran: from the end of one to the start of the other.
    fn interrupted(&self, since: &str, label: &str, app: &str) -> Result<f64, Failure> {
        let until = self.now()?;
        let mut command = Command::new("docker");
        command.args(["events", "--since", since, "--until", &until, "--format", "{{json .}}"]);
        command.args(["--filter", &format!("label={label}={app}"), "--filter", "type=container"]);
        let (mut died, mut started) = (None, None);
        for line in run(&mut command)?.lines() {
            let event: Value = serde_json::from_str(line)?;
            let at = event["timeNano"].as_f64().map(|nanos| nanos / 1e6);
            match event["Action"].as_str() {
                Some("die") => died = at,
                Some("start") => started = at,
                _ => {}
            }
        }
        Ok(started.ok_or("nothing was started")? - died.ok_or("nothing has ended")?)
    }
}

/// Asks at once and then at each interval, until the answer is yes.
fn asked(begun: Instant, mut question: impl FnMut() -> Result<bool, Failure>) -> Result<(), Failure> {
    loop {
        let next = Instant::now() + INTERVAL;
        if question()? {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err("the check does not come to pass".into());
        }
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// Runs it to its end; its output. Errors: it ended badly.
fn run(command: &mut Command) -> Result<String, Failure> {
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// What an app has in the engine, which goes in the end, however that comes.
struct Leftovers<'a> {
    docker: &'a Docker,
    name: String,
}

impl<'a> Leftovers<'a> {
    fn of(bench: &'a Bench, home: &Home) -> Result<Self, Failure> {
        let project: Value = serde_json::from_str(&home.run(&["config", "-o", "json"])?)?;
        let name = project["name"].as_str().ok_or("a project without a name")?.to_owned();
        Ok(Self { docker: &bench.docker, name })
    }
}

impl Drop for Leftovers<'_> {
    fn drop(&mut self) {
        self.docker.purge(&format!("io.upbeat.app={}", self.name));
    }
}

/// The peer, with a directory and a project of its own.
struct Compose {
    dir: tempfile::TempDir,
    program: PathBuf,
    name: String,
}

impl Compose {
    /// `None`: it is not here.
    fn beside(bench: &Bench) -> Result<Option<Self>, Failure> {
        let program = Path::new("/usr/bin/docker-compose");
        if !program.is_file() {
            return Ok(None);
        }
        let name = format!("{}peer", bench.name);
        Ok(Some(Self { dir: tempfile::tempdir()?, program: program.into(), name }))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["-p", &self.name]).args(words).current_dir(self.dir.path());
        command
    }

    fn up(&self, file: &str) -> Result<f64, Failure> {
        std::fs::write(self.dir.path().join("docker-compose.yml"), file)?;
        let begun = Instant::now();
        run(&mut self.command(&["up", "-d"]))?;
        Ok(ms(begun.elapsed()))
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        if let Err(error) = run(&mut self.command(&["down", "-t", "1"])) {
            println!("docker-compose left something behind: {error}");
        }
    }
}
