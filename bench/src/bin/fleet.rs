//! Rollouts over HTTP with durable storage: a hundred entities of a hundred targets each and fifty controllers that
//! report without a pause, against an answer that costs nothing and against a bare synced write, in the same run;
//! then one entity of more and more targets.
//!
//! `fleet [UPBEAT]`; `TMPDIR` says on which disk the daemon keeps what it knows.
#![expect(clippy::print_stdout, reason = "a bench prints its numbers")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use upbeat_bench::{Failure, Home, median, ms, percentile, pss_kb};

const ENTITIES: usize = 100;
const TARGETS: usize = 100;
const CONTROLLERS: usize = 50;
/// Of each entity.
const STEADY_CALLS: usize = 100;
const SYNCED_WRITES: usize = 500;
const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 250_000];
const ROUNDS: usize = 5;

fn main() -> Result<(), Failure> {
    let home = Home::with("services: { s: { command: [\"true\"] } }\n")?;
    home.run(&["plan"])?;
    let (socket, daemon) = (home.path().join("run/upbeat.sock"), home.daemon()?);
    let mut empty = Vec::new();
    let mut nothing = Wire::open(&socket)?;
    for _ in 0..1_000 {
        empty.push(nothing.timed("GET", "/api/v1/version", None)?.0);
    }
    println!("                            calls    calls/s    p50 ms    p99 ms");
    told("the version, one client", &empty, empty.iter().sum::<f64>() / 1e3);
    let synced = synced_writes(home.path())?;
    told("a bare synced write, 4 KiB", &synced, synced.iter().sum::<f64>() / 1e3);

    let fleet: Vec<Mutex<Entity>> = (0..ENTITIES).map(|n| Mutex::new(Entity::new(n, TARGETS))).collect();
    establish(&socket, &fleet)?;
    let begun = Instant::now();
    let steady = all(&fleet, |part| {
        let (mut wire, mut took) = (Wire::open(&socket)?, Vec::new());
        for _ in 0..STEADY_CALLS {
            for entity in part {
                took.push(entity.lock().map_err(|_| "a controller died")?.report(&mut wire)?);
            }
        }
        Ok(took)
    })?;
    told("reports, nothing changes", &steady, begun.elapsed().as_secs_f64());

    let begun = Instant::now();
    let rolling = all(&fleet, |part| roll_out(&socket, part))?;
    let seconds = begun.elapsed().as_secs_f64();
    told("reports of a rollout", &rolling, seconds);
    println!("{} targets from v1 to v2 in {seconds:.1} s", ENTITIES * TARGETS);
    println!("the daemon: {} MB PSS", pss_kb(daemon).unwrap_or(0) / 1024);
    drop(home);
    sizes()
}

/// One entity, ever larger: reported as a whole where nothing changes, and where one target does.
fn sizes() -> Result<(), Failure> {
    println!("\n targets   nothing changes   one changes   daemon PSS");
    let mut last: Option<(usize, f64)> = None;
    for size in SIZES {
        let home = Home::with("services: { s: { command: [\"true\"] } }\n")?;
        home.run(&["plan"])?;
        let (socket, daemon) = (home.path().join("run/upbeat.sock"), home.daemon()?);
        let entity = [Mutex::new(Entity::new(0, size))];
        establish(&socket, &entity)?;
        let [entity] = entity;
        let mut entity = entity.into_inner().map_err(|_| "a controller died")?;
        let mut wire = Wire::open(&socket)?;
        let (mut same, mut one) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            same.push(entity.report(&mut wire)?);
            entity.runs[size / 2] = format!("other{round}");
            one.push(entity.report_only(&mut wire)?);
            entity.runs[size / 2] = "v1".into();
            entity.report_only(&mut wire)?;
        }
        let (same, one) = (median(same), median(one));
        let growth = last.map_or(String::new(), |(before, took)| {
            format!("   growth exponent {:.2}", (same / took).ln() / (size as f64 / before as f64).ln())
        });
        last = Some((size, same));
        let pss = pss_kb(daemon).unwrap_or(0) / 1024;
        println!("{size:>8} {same:>14.1} ms {one:>10.1} ms {pss:>9} MB{growth}");
    }
    Ok(())
}

/// v1 is good for all, and each runs it; v2 is on its way nowhere.
fn establish(socket: &Path, fleet: &[Mutex<Entity>]) -> Result<(), Failure> {
    let mut wire = Wire::open(socket)?;
    for entity in fleet {
        let mut entity = entity.lock().map_err(|_| "a controller died")?;
        entity.options(&mut wire, json!({"batchpercent": 100, "successpercent": 0}))?;
        entity.version(&mut wire, "v1")?;
        entity.report(&mut wire)?;
        entity.report(&mut wire)?;
        let careful = json!({"batchpercent": 20, "successpercent": 100, "durationtimeoutsecs": 3600});
        entity.options(&mut wire, careful)?;
    }
    Ok(())
}

/// Reports, and does what is said, until v2 is good for each.
fn roll_out(socket: &Path, part: &[Mutex<Entity>]) -> Result<Vec<f64>, Failure> {
    let (mut wire, mut took) = (Wire::open(socket)?, Vec::new());
    for entity in part {
        entity.lock().map_err(|_| "a controller died")?.version(&mut wire, "v2")?;
    }
    loop {
        let mut is_done = true;
        for entity in part {
            let mut entity = entity.lock().map_err(|_| "a controller died")?;
            took.push(entity.report(&mut wire)?);
            is_done &= entity.runs.iter().all(|runs| runs == "v2") && entity.good(&mut wire)? == "v2";
        }
        if is_done {
            return Ok(took);
        }
    }
}

/// What each controller measures, of its part of the fleet.
fn all(
    fleet: &[Mutex<Entity>],
    controller: impl Fn(&[Mutex<Entity>]) -> Result<Vec<f64>, Failure> + Sync,
) -> Result<Vec<f64>, Failure> {
    std::thread::scope(|scope| {
        let parts = fleet.chunks(fleet.len() / CONTROLLERS);
        let controllers: Vec<_> = parts
            .map(|part| {
                let controller = &controller;
                scope.spawn(move || controller(part).map_err(|error| error.to_string()))
            })
            .collect();
        let mut took = Vec::new();
        for controller in controllers {
            took.extend(controller.join().map_err(|_| "a controller died")??);
        }
        Ok(took)
    })
}

/// So many, one after the other, of a file beside the daemon's.
fn synced_writes(beside: &Path) -> Result<Vec<f64>, Failure> {
    let mut file = std::fs::File::create(beside.join("synced"))?;
    let mut took = Vec::new();
    for _ in 0..SYNCED_WRITES {
        let begun = Instant::now();
        file.write_all(&[b'x'; 4096])?;
        file.sync_data()?;
        took.push(ms(begun.elapsed()));
    }
    Ok(took)
}

fn told(what: &str, took: &[f64], seconds: f64) {
    let (calls, p50, p99) = (took.len(), percentile(took, 50), percentile(took, 99));
    println!("{what:<26} {calls:>6} {:>10.0} {p50:>9.2} {p99:>9.2}", calls as f64 / seconds);
}

/// An entity as its controller knows it.
struct Entity {
    path: String,
    runs: Vec<String>,
}

impl Entity {
    fn new(number: usize, targets: usize) -> Self {
        Self { path: format!("/v1/orchestrate/bench/entity{number}"), runs: vec!["v1".into(); targets] }
    }

    fn options(&self, wire: &mut Wire, options: Value) -> Result<(), Failure> {
        wire.timed("POST", &format!("{}/options", self.path), Some(&options.to_string())).map(drop)
    }

    fn version(&self, wire: &mut Wire, version: &str) -> Result<(), Failure> {
        let body = json!({ "version": version }).to_string();
        wire.timed("POST", &format!("{}/version", self.path), Some(&body)).map(drop)
    }

    fn good(&self, wire: &mut Wire) -> Result<String, Failure> {
        let (_, state) = wire.timed("GET", &format!("{}/rollout", self.path), None)?;
        Ok(state["lastknowngoodversion"].as_str().unwrap_or_default().to_owned())
    }

    /// All of it is reported, and what is said is done. How long that took, in milliseconds.
    fn report(&mut self, wire: &mut Wire) -> Result<f64, Failure> {
        let (took, shall) = self.asked(wire)?;
        for said in shall.as_array().ok_or("no list of targets is answered")? {
            let number = said["name"].as_str().and_then(|name| name.strip_prefix('t')?.parse().ok());
            let runs = self.runs.get_mut(number.unwrap_or(usize::MAX)).ok_or("a target that is none")?;
            said["version"].as_str().unwrap_or_default().clone_into(runs);
        }
        Ok(took)
    }

    /// And nothing is done.
    fn report_only(&mut self, wire: &mut Wire) -> Result<f64, Failure> {
        Ok(self.asked(wire)?.0)
    }

    fn asked(&self, wire: &mut Wire) -> Result<(f64, Value), Failure> {
        let mut body = String::from("[");
        for (n, runs) in self.runs.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            body.push_str(&format!("{comma}{{\"name\":\"t{n}\",\"version\":\"{runs}\"}}"));
        }
        body.push(']');
        wire.timed("POST", &self.path, Some(&body))
    }
}

/// One connection, kept alive.
struct Wire(BufReader<UnixStream>);

impl Wire {
    fn open(socket: &Path) -> Result<Self, Failure> {
        let stream = UnixStream::connect(PathBuf::from(socket))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// The answer, and how many milliseconds went by between the first byte of the question and its last one.
    fn timed(&mut self, method: &str, path: &str, body: Option<&str>) -> Result<(f64, Value), Failure> {
        let body = body.unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let begun = Instant::now();
        self.0.get_mut().write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
        let status = self.line()?;
        let mut length = 0;
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes)?;
        let took = ms(begun.elapsed());
        if !status.contains(" 200 ") {
            return Err(format!("{method} {path}: {status}\n{}", String::from_utf8_lossy(&bytes)).into());
        }
        Ok((took, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err("the daemon closed the connection".into());
        }
        Ok(line.trim_end().to_owned())
    }
}
