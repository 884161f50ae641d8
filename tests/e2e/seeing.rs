//! What can be seen of a daemon from outside: numbers, usage, times, events, its own log.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::access::{Served, new_token};
use crate::home::{Home, eventually, kill};
use crate::{Journey, Need};

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        Journey {
            name: "numbers tell of starts and crashes, and go with their slots",
            needs: &[],
            run: numbers,
        },
        Journey { name: "stats tell who burns a processor from who sleeps", needs: &[], run: stats },
        Journey { name: "the critical chain leads to what it all waited for", needs: &[], run: chain },
        Journey { name: "events are asked for by time, kind and service", needs: &[], run: events },
        Journey {
            name: "the daemon's log goes to a logstash that comes and goes",
            needs: &[],
            run: logstash,
        },
        Journey { name: "the daemon's log goes to the journal with its fields", needs: &[], run: journal },
        Journey { name: "the page about seeing, typed", needs: &[], run: typed },
        Journey {
            name: "a log that cannot be had is refused before anything is started",
            needs: &[],
            run: bad_log,
        },
        Journey {
            name: "a real Prometheus scrapes the daemon over TCP, with a token",
            needs: &[Need::PROMETHEUS],
            run: from_afar,
        },
        Journey {
            name: "a real Prometheus scrapes the daemon, and promtool finds nothing to complain of",
            needs: &[Need::PROMETHEUS],
            run: prometheus,
        },
    ]
}

/// The daemon's socket.
fn socket(home: &Home) -> PathBuf {
    home.outside("run").join("upbeat.sock")
}

/// The page of numbers, as a scraper gets it.
fn page(home: &Home) -> String {
    let mut stream = UnixStream::connect(socket(home)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    body.to_owned()
}

/// The number on the line that begins so.
fn number(page: &str, name: &str, labels: &str) -> Option<f64> {
    let start = format!("{name}{{{labels}}} ");
    page.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok())
}

const CRASHES: &str = "name: shop
services:
  web: { command: [sleep, '600'], probes: { readiness: { exec: ['true'], interval: 100ms } } }
  crash: { command: [sh, -c, 'exit 3'], restart: 'on-failure:1', depends_on: { web: { condition: service_healthy } } }
  nope: { command: [./nope] }
  burner: { command: [sh, -c, 'while :; do :; done'] }
  sick:
    command: [sleep, '600']
    probes:
      liveness: { exec: ['false'], interval: 50ms, timeout: 1m, failure_threshold: 1, on_failure: { action: restart, max_attempts: 2, window: 1h } }
  outside:
    command: [touch, unit]
    stop_command: [rm, -f, unit]
    external: true
    probes: { readiness: { file: unit, interval: 50ms, timeout: 1m } }
";

/// All of [`CRASHES`] has gone as far as it goes.
fn crashed(home: &Home) {
    // It may have failed before `up` has ended, and may not.
    home.run(&["up", "-d"]);
    eventually("it has failed for good", || home.phase("crash-1") == "failed");
    eventually("it could not be started", || home.phase("nope-1") == "failed");
    eventually("it was restarted as often as it may be", || home.phase("sick-1") == "needs_attention");
    eventually("it is there", || home.phase("outside-1") == "healthy");
}

fn numbers() {
    let home = Home::with(CRASHES);
    crashed(&home);
    let slot = |service: &str| format!("app=\"shop\",service=\"{service}\",slot=\"1\"");
    let (web, crash) = (slot("web"), slot("crash"));
    let (sick, burner, outside) = (slot("sick"), slot("burner"), slot("outside"));
    let page = page_where(&home, |page| {
        number(page, "upbeat_slot_last_exit_code", &crash) == Some(3.0)
            // An end may be heard before the answer to the start.
            && number(page, "upbeat_slot_exec_seconds_count", &crash) == Some(2.0)
            && number(page, "upbeat_slot_cpu_seconds_total", &burner) > Some(0.0)
            && number(page, "upbeat_slot_uptime_seconds", &web) > Some(0.0)
    });
    for (name, labels, wanted) in [
        ("upbeat_slot_state", format!("{web},state=\"healthy\""), 1.0),
        ("upbeat_slot_state", format!("{web},state=\"failed\""), 0.0),
        ("upbeat_slot_state", format!("{crash},state=\"failed\""), 1.0),
        ("upbeat_slot_starts_total", web.clone(), 1.0),
        ("upbeat_slot_starts_total", crash.clone(), 2.0),
        ("upbeat_slot_restarts_total", crash.clone(), 1.0),
        ("upbeat_slot_failed_starts_total", slot("nope"), 1.0),
        // It ran, and no health check has to pass before it is ready.
        ("upbeat_slot_failed_starts_total", crash.clone(), 0.0),
        ("upbeat_slot_failed_starts_total", web.clone(), 0.0),
        ("upbeat_slot_restarts_total", sick.clone(), 2.0),
        ("upbeat_slot_remedies_total", format!("{sick},probe=\"liveness\",action=\"restart\""), 2.0),
        ("upbeat_slot_exec_seconds_count", web.clone(), 1.0),
        ("upbeat_slot_exec_seconds_count", crash.clone(), 2.0),
        ("upbeat_slot_state", format!("{sick},state=\"needs_attention\""), 1.0),
        ("upbeat_slot_state", format!("{outside},state=\"healthy\""), 1.0),
        ("upbeat_slot_ready_seconds_count", web.clone(), 1.0),
        ("upbeat_slot_processes", web.clone(), 1.0),
        ("upbeat_probe_passing", format!("{web},probe=\"readiness\""), 1.0),
    ] {
        assert_eq!(number(&page, name, &labels), Some(wanted), "{name} {labels} in\n{page}");
    }
    let asked = number(
        &page,
        "upbeat_probe_duration_seconds_count",
        &format!("{web},probe=\"readiness\",outcome=\"pass\""),
    );
    assert!(asked.is_some_and(|n| n >= 1.0), "{page}");
    for (name, labels) in [
        ("upbeat_slot_memory_bytes", &web),
        ("upbeat_slot_open_fds", &web),
        ("upbeat_slot_exec_seconds_sum", &web),
        ("upbeat_slot_uptime_seconds", &outside),
    ] {
        assert!(number(&page, name, labels).is_some_and(|n| n > 0.0), "{name} {labels} in\n{page}");
    }
    assert_eq!(number(&page, "upbeat_slot_uptime_seconds", &crash), None, "it is not up");
    let up = number(&page, "upbeat_slot_uptime_seconds", &web);
    page_where(&home, |page| number(page, "upbeat_slot_uptime_seconds", &web) > up);
    home.run(&["down"]).ok();
    page_where(&home, |page| !page.contains("service="));
}

/// A page is made once a second at most.
#[track_caller]
fn page_where(home: &Home, is_so: impl Fn(&str) -> bool) -> String {
    let mut found = String::new();
    let is_found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually("the page says so", || {
            found = page(home);
            is_so(&found)
        });
    }));
    assert!(is_found.is_ok(), "it said at last\n{found}");
    found
}

fn stats() {
    let home = Home::with(
        "services:\n  burner: { command: [sh, -c, 'while :; do :; done'] }\n  sleeper: { command: [sleep, '600'] }\n  done: { command: ['true'] }\n",
    );
    home.run(&["up", "-d"]).ok();
    let of = |home: &Home| -> BTreeMap<String, Value> {
        let ran = home.run(&["stats", "-o", "json"]).ok();
        let stats: Value = serde_json::from_str(&ran.stdout).unwrap();
        let slots = stats["slots"].as_array().unwrap().clone();
        slots.into_iter().map(|slot| (slot["slot"].as_str().unwrap().to_owned(), slot)).collect()
    };
    let mut seen = BTreeMap::new();
    eventually("the burner has burned", || {
        seen = of(&home);
        seen["project/burner/1"]["usage"]["cpu_percent"].as_f64().is_some_and(|percent| percent > 1.0)
    });
    let usage = |slot: &str| &seen[&format!("project/{slot}/1")]["usage"];
    assert!(usage("sleeper")["cpu_percent"].as_f64() < usage("burner")["cpu_percent"].as_f64(), "{seen:?}");
    assert_eq!(usage("sleeper")["processes"], 1);
    assert!(usage("sleeper")["memory_bytes"].as_u64() > Some(0), "{seen:?}");
    assert!(usage("done").is_null(), "{seen:?}");
    let table = home.run(&["stats", "burner"]).ok().stdout;
    assert!(
        table.starts_with("NAME ") && table.contains("burner-1") && !table.contains("sleeper"),
        "{table}"
    );
    let mut watched = home.spawn(&["stats", "--watch", "-o", "json"]);
    for _ in 0..2 {
        let stats: Value = serde_json::from_str(&watched.line().unwrap()).unwrap();
        assert_eq!(stats["slots"].as_array().unwrap().len(), 3);
    }
    home.run(&["down"]).ok();
    while watched.line().is_some() {}
    assert_eq!(watched.end().code, 0, "it ends with the app");
}

const CHAIN: &str = "name: shop
services:
  cache: { command: [sleep, '600'] }
  db: { command: [sh, -c, 'sleep 0.5; echo up; exec sleep 600'], healthcheck: { log: up } }
  migrate: { command: [sh, -c, 'sleep 0.2'], depends_on: { db: { condition: service_healthy } } }
  web:
    command: [sleep, '600']
    depends_on: { migrate: { condition: service_completed_successfully }, cache: { condition: service_started } }
";

fn chain() {
    let home = Home::with(CHAIN);
    home.run(&["up", "-d", "--wait"]).ok();
    let json = |arguments: &[&str]| -> Value {
        let ran = home.run(&[arguments, &["-o", "json"]].concat()).ok();
        serde_json::from_str(&ran.stdout).unwrap()
    };
    let slots = |links: &Value| -> Vec<String> {
        links.as_array().unwrap().iter().map(|link| link["slot"].as_str().unwrap().to_owned()).collect()
    };
    let chain = json(&["analyze", "critical-chain"]);
    assert_eq!(slots(&chain["links"]), ["shop/web/1", "shop/migrate/1", "shop/db/1"], "{chain}");
    assert!(chain["total"].as_u64() >= Some(700), "{chain}");
    let links = chain["links"].as_array().unwrap();
    assert!(links[2]["own"].as_u64() >= Some(500) && links[1]["own"].as_u64() >= Some(200), "{chain}");
    assert_eq!(links[1]["condition"], "service_completed_successfully");
    assert_eq!(slots(&json(&["analyze", "critical-chain", "cache"])["links"]), ["shop/cache/1"]);
    let blame = slots(&json(&["analyze", "blame"]));
    assert_eq!(blame.len(), 4);
    let place = |slot: &str| blame.iter().position(|name| name == slot);
    assert!(place("shop/db/1") < place("shop/web/1"), "{blame:?}");
    let text = home.run(&["analyze", "critical-chain"]).ok().stdout;
    assert!(text.contains("└─ migrate-1") && text.contains("   └─ db-1"), "{text}");
    home.run(&["analyze", "critical-chain", "wbe"]).code(3);
    // What the start took is known after the daemon, and a restart is a start of its own.
    home.kill_daemon();
    assert_eq!(json(&["analyze", "critical-chain"])["total"], chain["total"]);
    home.run(&["restart", "web"]).ok();
    assert_eq!(slots(&json(&["analyze", "critical-chain", "web"])["links"]), ["shop/web/1"]);
}

fn events() {
    let home = Home::with("services:\n  a: { command: [sleep, '600'] }\n  b: { command: [sleep, '600'] }\n");
    home.run(&["up", "-d", "--wait"]).ok();
    let of = |arguments: &[&str]| -> Vec<Value> {
        let ran = home.run(&[&["events", "--json"], arguments].concat()).ok();
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let all = of(&[]);
    assert_eq!(of(&["--since", "1h"]), all);
    assert!(of(&["--since", "2100-01-01"]).is_empty() && of(&["--until", "1h"]).is_empty());
    let last = all.last().unwrap()["at"].as_i64().unwrap();
    let before = all.iter().filter(|event| event["at"].as_i64() < Some(last)).count();
    let moment = |ms: i64| format!("{}.{:03}Z", date(ms / 1_000), ms % 1_000);
    assert_eq!(of(&["--since", &moment(last)]).len(), all.len() - before);
    let started = of(&["--kind", "operation_started"]);
    assert_eq!((started.len(), &started[0]["what"]), (1, &"up".into()));
    let of_a = of(&["a", "--kind", "phase"]);
    assert!(!of_a.is_empty() && of_a.iter().all(|event| event["slot"] == "project/a/1"), "{of_a:?}");
    let mut followed = home.spawn(&["events", "-f", "--json", "b", "--since", "2000-01-01"]);
    followed.until(|line| line.contains("\"to\":\"running\""));
    home.run(&["stop"]).ok();
    let line = followed.until(|line| line.contains("\"to\":\"stopped\""));
    assert!(line.contains("project/b/1"), "{line}");
    followed.signal(9);
    followed.end();
    home.run(&["events", "--since", "soon"]).code(2);
    home.run(&["events", "-f", "--until", "1h"]).code(2);
}

/// `2026-03-01T14:00:00`, of the clock's seconds.
fn date(seconds: i64) -> String {
    let at = format!("@{seconds}");
    let out = Command::new("date").args(["-u", "-d", &at, "+%Y-%m-%dT%H:%M:%S"]).output().unwrap();
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

const SLEEPER: &str = "services:\n  web: { command: [sleep, '600'] }\n";

fn logstash() {
    let mut home = Home::with(SLEEPER);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    home.set("UPBEAT_LOG_FORMAT", "logstash");
    home.set("UPBEAT_LOG_TARGET", format!("tcp://{}", listener.local_addr().unwrap()));
    home.run(&["up", "-d", "--wait"]).ok();
    let until = |words: &str| -> Value {
        loop {
            // A connection that ends is one of a daemon that has.
            let lines = BufReader::new(listener.accept().unwrap().0).lines();
            for line in lines.map_while(Result::ok) {
                let record: Value = serde_json::from_str(&line).unwrap();
                if record["message"].as_str().unwrap().contains(words) {
                    return record;
                }
            }
        }
    };
    let ready = until("the daemon is ready");
    assert_eq!((&ready["@version"], &ready["level"]), (&"1".into(), &"INFO".into()));
    assert!(ready["fields"]["socket"].as_str().unwrap().ends_with("upbeat.sock"), "{ready}");
    assert!(ready["logger_name"].as_str().unwrap().starts_with("upbeat::"), "{ready}");
    // The connection was dropped with its lines: what the daemon says next arrives all the same.
    kill(home.daemon().unwrap(), 15);
    until("the daemon ends");
    home.run(&["ps"]).ok();
    assert_eq!(home.phase("web-1"), "running", "the log is nothing that services depend on");
}

fn journal() {
    let mut home = Home::with(SLEEPER);
    let path = home.outside("journal");
    let socket = UnixDatagram::bind(&path).unwrap();
    home.set("UPBEAT_LOG_FORMAT", "journald");
    home.set("UPBEAT_LOG_TARGET", path.display().to_string());
    home.run(&["up", "-d"]).ok();
    let mut datagram = vec![0; 1 << 16];
    // Others of its messages come before.
    let text = loop {
        let length = socket.recv(&mut datagram).unwrap();
        let text = String::from_utf8(datagram[..length].to_vec()).unwrap();
        if text.lines().any(|line| line == "MESSAGE=the daemon is ready") {
            break text;
        }
    };
    let fields: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    assert_eq!(fields.get("PRIORITY"), Some(&"6"), "{text}");
    assert_eq!(fields.get("SYSLOG_IDENTIFIER"), Some(&"upbeat"), "{text}");
    assert!(fields.contains_key("UPBEAT_SOCKET"), "{text}");
}

fn typed() {
    let blocks = |language| crate::readme::blocks("docs/seeing.md", language);
    let mut home = Home::with(&blocks("yaml").concat());
    let bin = home.outside("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_upbeat"), bin.join("upbeat")).unwrap();
    let path = std::env::var("PATH").unwrap();
    home.set("PATH", format!("{}:{path}", bin.display()));
    let ran = home.shell(&format!("set -euo pipefail\n{}", blocks("sh").concat())).output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{said}\n{errors}");
    for words in ["NAME ", "\"cpu_percent\"", "└─ migrate-1", "   └─ db-1", "WAITED", "\"event\":\"phase\""]
    {
        assert!(said.contains(words), "{words} in\n{said}");
    }
}

fn bad_log() {
    let home = Home::with(SLEEPER);
    for arguments in [&["--log-format", "logstash"][..], &["--log-format", "syslog", "--log-target", "here"]]
    {
        let ran = home.run(&[&["serve"], arguments].concat()).code(2);
        assert!(ran.stderr.contains("hint:"), "{}", ran.stderr);
    }
    assert_eq!(home.daemon(), None);
}

/// Lets whoever connects over TCP speak to a unix socket.
fn bridge(to: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let Ok(daemon) = UnixStream::connect(&to) else { continue };
            let (mut asked, mut answers) = (stream.try_clone().unwrap(), stream);
            let (mut ask, mut answer) = (daemon.try_clone().unwrap(), daemon);
            std::thread::spawn(move || std::io::copy(&mut asked, &mut ask));
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut answer, &mut answers);
                let _ = answers.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    port
}

/// A server that ends with the journey.
pub(crate) struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts it on a port that is free, with this about what it scrapes. Somebody else may take that port first:
/// then on another one.
pub(crate) fn scraper(home: &Home, scraped: &str) -> (Server, u16) {
    let config = home.outside("prometheus.yml");
    let text = format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\nscrape_configs:\n  - job_name: upbeat\n    {scraped}\n"
    );
    std::fs::write(&config, text).unwrap();
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", home.outside("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut server = Server(child.unwrap());
        let mut has_ended = false;
        eventually("it answers, or has ended", || {
            has_ended = server.0.try_wait().unwrap().is_some();
            has_ended || TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        if !has_ended {
            return (server, port);
        }
    }
}

/// What the server answers to a query: the number of its first result.
fn query(port: u16, query: &str) -> Option<f64> {
    let escaped: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let request =
        format!("GET /api/v1/query?query={escaped} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
    body["data"]["result"][0]["value"][1].as_str()?.parse().ok()
}

fn prometheus() {
    let beats = crate::stand_in::command(&["say", "READY=1", "beat", "go", "forever"]);
    let home = Home::with(&format!(
        "{CRASHES}  beats: {{ command: {beats}, probes: {{ liveness: {{ watchdog: 2s }}, readiness: {{ notify: true }} }} }}\n"
    ));
    crashed(&home);
    eventually("it is seen to live", || home.slots()["beats-1"]["probes"]["liveness"]["passing"] == true);
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(page(&home).as_bytes()).unwrap();
    let checked = promtool.wait_with_output().unwrap();
    let said = [checked.stdout, checked.stderr].concat();
    assert!(checked.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
    let target = format!("static_configs: [{{ targets: ['localhost:{}'] }}]", bridge(socket(&home)));
    let (_server, port) = scraper(&home, &target);
    for (asked, wanted) in [
        ("up{job=\"upbeat\"}", 1.0),
        ("upbeat_slot_state{service=\"web\",state=\"healthy\"}", 1.0),
        ("upbeat_slot_last_exit_code{service=\"crash\"}", 3.0),
        ("sum(upbeat_slot_starts_total)", 10.0),
        ("sum(upbeat_slot_remedies_total)", 2.0),
        ("upbeat_probe_passing{service=\"beats\",probe=\"liveness\"}", 1.0),
        ("histogram_quantile(0.5, upbeat_slot_ready_seconds_bucket{service=\"web\"}) > bool 0", 1.0),
    ] {
        let mut last = None;
        eventually(asked, || {
            last = query(port, asked);
            last == Some(wanted)
        });
    }
    home.run(&["down"]).ok();
    // What is gone is not scraped any more: its series end.
    eventually("its series have ended", || query(port, "count(upbeat_slot_state)").is_none());
}

fn from_afar() {
    let home = Home::with(SLEEPER);
    let served = Served::start(&home, &["--listen", "127.0.0.1:0"]);
    home.run(&["up", "-d", "--wait"]).ok();
    let token = new_token(&home, "prometheus", &["--role", "viewer"]);
    let target = format!("static_configs: [{{ targets: ['{}'] }}]", served.address());
    let with = |credentials: &str| format!("{target}\n    authorization: {{ credentials: '{credentials}' }}");
    let (_server, port) = scraper(&home, &with(&token));
    eventually("it is let in", || query(port, "up{job=\"upbeat\"}") == Some(1.0));
    eventually("it has the numbers", || query(port, "sum(upbeat_slot_starts_total)") == Some(1.0));
    home.run(&["token", "revoke", "prometheus"]).ok();
    eventually("it is let in no more", || query(port, "up{job=\"upbeat\"}") == Some(0.0));
    let log = std::fs::read_to_string(served.log()).unwrap();
    assert!(!log.contains(&token), "a token is told");
}
