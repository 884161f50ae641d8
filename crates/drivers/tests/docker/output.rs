//! What containers print.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tokio::sync::mpsc;
use upbeat_drivers::docker::{Engine, EngineEvent, EngineSettings, Seen};
use upbeat_drivers::update_locks::UpdateLocks;
use upbeat_model::project::Signal;
use upbeat_model::project::container::Logging;
use upbeat_model::{Attempt, Millis};
use upbeat_needs::{Need, Test};
use upbeat_shim::log::{Stream, parse, segment_name, segments};

use crate::rig::{Rig, eventually, of, run};

pub(crate) const CASES: &[Test] = &[
    Test::needing(
        &[Need::DOCKER],
        "lines_are_in_the_log_with_the_times_of_the_engine_before_the_end_is_told",
        lines,
    ),
    Test::needing(&[Need::DOCKER], "a_terminal_s_lines_are_lines", terminal),
    Test::needing(&[Need::DOCKER], "a_daemon_that_is_killed_costs_no_line_and_doubles_none", survives),
    Test::needing(&[Need::DOCKER], "what_was_printed_while_nobody_looked_is_there_too", late),
    Test::needing(&[Need::DOCKER], "a_log_that_cannot_be_read_is_said", unreadable),
];

pub(crate) struct Line {
    stream: Stream,
    at_ns: i64,
    pub(crate) text: String,
}

/// All lines, their parts put together.
pub(crate) fn log(dir: &Path) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut part = Vec::new();
    for first in segments(dir).unwrap() {
        let file = std::fs::read(dir.join(segment_name(first))).unwrap();
        for record in file.split(|byte| *byte == b'\n').filter_map(parse) {
            part.extend_from_slice(record.text);
            if record.is_final {
                let text = String::from_utf8(std::mem::take(&mut part)).unwrap();
                lines.push(Line { stream: record.stream, at_ns: record.at_ns, text });
            }
        }
    }
    lines
}

fn texts(rig: &Rig, service: &str) -> Vec<String> {
    log(&rig.engine.log_dir(&rig.slot(service))).into_iter().map(|line| line.text).collect()
}

fn lines() {
    run(async |rig| {
        let slot = rig.slot("web");
        let long = "head -c 40000 /dev/zero | tr '\\0' x; echo";
        let spec = rig.shell(&format!("echo one; sleep 0.2; echo two >&2; sleep 0.2; {long}; printf open"));
        let prepared = rig.prepare(&slot, &spec).await.unwrap();
        let first = rig.engine.start(&slot, Attempt(1), &prepared.container).await.unwrap();
        assert_eq!(first.log_start, 1);
        let EngineEvent::Exited { .. } = rig.event().await else { panic!() };
        let lines = log(&rig.engine.log_dir(&slot));
        let found: Vec<_> = lines.iter().map(|line| (line.stream, line.text.as_str())).collect();
        let long = "x".repeat(40_000);
        // The last has no end, and is one all the same.
        let wanted = [(Stream::Stdout, "one"), (Stream::Stderr, "two"), (Stream::Stdout, long.as_str())];
        assert!(found == wanted, "{} lines", found.len());
        assert!(lines.windows(2).all(|two| two[0].at_ns < two[1].at_ns));
        // Its next start goes on behind that.
        let second = rig.engine.start(&slot, Attempt(2), &prepared.container).await.unwrap();
        assert!(second.log_start >= 7, "{second:?}");
        let EngineEvent::Exited { .. } = rig.event().await else { panic!() };
        let ones = texts(rig, "web").iter().filter(|text| text.ends_with("one")).count();
        assert_eq!(ones, 2);
    });
}

fn terminal() {
    run(async |rig| {
        let slot = rig.slot("web");
        let mut spec = rig.shell("echo one; echo two >&2; test -t 1 && echo three");
        spec.tty = true;
        rig.up(&slot, 1, &spec).await;
        let EngineEvent::Exited { .. } = rig.event().await else { panic!() };
        assert_eq!(texts(rig, "web"), ["one", "two", "three"]);
    });
}

/// A daemon that finds a slot, says so, and looks after it until it is killed.
pub(crate) fn adopt(host: &str, owner: &str, dir: &str, slot: &str) -> ! {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (tell, _events) = mpsc::channel(64);
        let settings = EngineSettings {
            host: Some(host.to_owned()),
            config: None,
            keys: tokio::sync::watch::channel(Default::default()).1,
            owner: owner.to_owned(),
            slots: dir.into(),
            locks: UpdateLocks::new(format!("{dir}-locks").into()),
            failpoint: |_| {},
        };
        let engine = Engine::new(settings, tell);
        let seen = engine.observe(&slot.parse().unwrap()).await.unwrap();
        assert!(matches!(seen, Seen::Running { .. }), "{seen:?}");
        println!("adopted");
        std::future::pending().await
    })
}

fn adopted(rig: &Rig, service: &str) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["adopt", &rig.docker.host(), &rig.name])
        .arg(rig.dir.path().join("slots"))
        .arg(rig.slot(service).to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "adopted\n");
    child
}

fn survives() {
    run(async |rig| {
        let slot = rig.slot("web");
        // Many of them have the same time to the microsecond, as they are written at once.
        let script = "n=0; trap 'echo last; exit 0' TERM; while :; do \
            for i in 0 1 2 3 4 5 6 7 8 9; do echo $n$i; done; n=$((n+1)); sleep 0.01; done";
        let prepared = rig.prepare(&slot, &rig.shell(script)).await.unwrap();
        // Started by a hand that keeps nothing, and looked after by one daemon after the other.
        rig.by_hand(&prepared.container, "start");
        for round in 1..=8 {
            let mut daemon = adopted(rig, "web");
            let dir = rig.engine.log_dir(&slot);
            eventually("are they there", || log(&dir).len() >= round * 97).await;
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
        let Seen::Running { .. } = rig.seen(&slot).await else { panic!() };
        rig.engine.stop(&slot, Attempt(1), Signal::TERM, Millis(20_000)).await.unwrap();
        let EngineEvent::Exited { .. } = rig.event().await else { panic!() };
        let found = texts(rig, "web");
        let (last, numbers) = found.split_last().unwrap();
        assert_eq!(last, "last");
        assert!(numbers.len() >= 8 * 97);
        for (n, text) in numbers.iter().enumerate() {
            assert_eq!(*text, format!("{}{}", n / 10, n % 10), "line {n}");
        }
    });
}

fn late() {
    run(async |rig| {
        let slot = rig.slot("web");
        let prepared = rig.prepare(&slot, &rig.shell("echo one; echo two; exit 5")).await.unwrap();
        rig.by_hand(&prepared.container, "start");
        rig.by_hand(&prepared.container, "wait");
        let before = upbeat_drivers::clock::wall();
        for _ in 0..2 {
            let Seen::Ended { .. } = rig.seen(&slot).await else { panic!() };
            let lines = log(&rig.engine.log_dir(&slot));
            let texts: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
            assert_eq!(texts, ["one", "two"]);
            assert!(
                lines.iter().all(|line| line.at_ns / 1_000_000 <= before.0),
                "their time is that of the engine"
            );
        }
    });
}

fn unreadable() {
    run(async |rig| {
        let slot = rig.slot("web");
        let mut spec = rig.shell("echo unheard");
        of(&mut spec).logging = Some(Logging { driver: Some("none".to_owned()), options: [].into() });
        rig.up(&slot, 1, &spec).await;
        let EngineEvent::Exited { .. } = rig.event().await else { panic!() };
        let lines = log(&rig.engine.log_dir(&slot));
        let [line] = &lines[..] else { panic!("{} lines", lines.len()) };
        assert!(line.stream == Stream::Upbeat && line.text.contains("cannot be read"), "{}", line.text);
    });
}
