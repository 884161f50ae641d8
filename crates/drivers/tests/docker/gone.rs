//! Engines that are killed, that stand still, and that are none.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;
use upbeat_drivers::docker::{Engine, EngineError, EngineEvent, EngineSettings, Seen};
use upbeat_drivers::update_locks::UpdateLocks;
use upbeat_model::Attempt;
use upbeat_model::project::Service;
use upbeat_model::project::container::ImageRef;
use upbeat_needs::docker::PrivateEngine;
use upbeat_needs::{Need, Test};

use crate::rig::{PATIENCE, of, run_at, wish};

pub(crate) const CASES: &[Test] = &[
    Test::needing(
        &[Need::DOCKER, Need::ROOT],
        "an_engine_that_is_killed_ends_nothing_until_it_says_so",
        killed,
    ),
    Test::new("where_no_engine_is_the_error_says_what_to_do", nowhere),
    Test::new("an_engine_that_never_answers_is_said_to_be_slow", silent),
    Test::new("what_answers_nonsense_is_an_error_and_no_panic", nonsense),
];

fn killed() {
    let mut private = PrivateEngine::start();
    let image = private.docker.import_busybox("gone", "v1");
    run_at(private.docker.clone(), async |rig| {
        let slot = rig.slot("web");
        let mut spec = rig.lasting();
        of(&mut spec).image = ImageRef::parse(image.name()).unwrap();
        rig.hears().await;
        let id = rig.up(&slot, 1, &spec).await;
        private.kill();
        let why = loop {
            let event = tokio::time::timeout(PATIENCE, rig.events.recv()).await.unwrap().unwrap();
            match event {
                EngineEvent::Engine { reachable: false, why } => break why.unwrap(),
                EngineEvent::Engine { .. } | EngineEvent::Found(_) => {}
                event => panic!("{event:?}"),
            }
        };
        assert!(why.contains("cannot be reached") && why.contains(&rig.docker.host()), "{why}");
        let unseen = rig.engine.observe(&slot).await;
        assert!(unseen.is_err_and(|error| error.is_unreachable()));
        rig.hears_nothing();
        private.start_again();
        // What it ran, it has ended itself, as another hand would have, and that is told: once.
        let ended = rig.event().await;
        let (EngineEvent::Exited { attempt, .. } | EngineEvent::Taken { attempt, .. }) = ended else {
            panic!("{ended:?}")
        };
        assert_eq!(attempt, Attempt(1));
        let Seen::Ended { attempt, container, .. } = rig.seen(&slot).await else { panic!() };
        assert_eq!((attempt, container), (Attempt(1), Some(id.clone())));
        rig.engine.start(&slot, Attempt(2), &id).await.unwrap();
        rig.hears_nothing();
    });
    drop(image);
}

pub(crate) fn engine(socket: &Path) -> (Engine, mpsc::Receiver<EngineEvent>) {
    let (tell, events) = mpsc::channel(64);
    let settings = EngineSettings {
        host: Some(format!("unix://{}", socket.display())),
        config: None,
        keys: tokio::sync::watch::channel(Default::default()).1,
        owner: "me".to_owned(),
        slots: socket.with_extension("slots"),
        locks: UpdateLocks::new(socket.with_extension("locks")),
        failpoint: |_| {},
    };
    (Engine::new(settings, tell), events)
}

pub(crate) fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(4 * PATIENCE, test).await.expect("an end") });
}

fn nowhere() {
    block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let (engine, _events) = engine(&dir.path().join("s"));
        let error = engine.slots().await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("is it installed and started?") && error.is_unreachable(), "{text}");
    });
}

fn silent() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        // Nobody takes who comes, which is what an engine is like that stands still.
        let _listener = UnixListener::bind(dir.path().join("s")).unwrap();
        let (engine, _events) = engine(&dir.path().join("s"));
        let begun = tokio::time::Instant::now();
        let error = engine.slots().await.unwrap_err();
        assert_eq!(error.to_string(), "the container engine did not answer /version within 60 s");
        assert!(error.is_unreachable());
        assert_eq!(begun.elapsed().as_secs(), 60);
    });
}

/// Answers each request with the next of these, over and over.
fn liar(socket: &Path, answers: Vec<Vec<u8>>) {
    let listener = UnixListener::bind(socket).unwrap();
    let count = Arc::<AtomicUsize>::default();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(mut stream), count) = (stream, count.clone()) else { return };
            let answers = answers.clone();
            std::thread::spawn(move || {
                let mut asked = [0; 4096];
                let Ok(length) = stream.read(&mut asked) else { return };
                let is_version = asked[..length].starts_with(b"GET /version");
                let sound = b"HTTP/1.1 200 OK\r\n\r\n{\"ApiVersion\":\"1.41\"}".to_vec();
                let lie = count.fetch_add(1, Ordering::Relaxed) % answers.len();
                let _ = stream.write_all(if is_version { &sound } else { &answers[lie] });
            });
        }
    });
}

pub(crate) fn said(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn nonsense() {
    let id = "a".repeat(64);
    let labels =
        r#"{"io.upbeat.owner":"me","io.upbeat.app":"a","io.upbeat.service":"web","io.upbeat.slot":"1"}"#;
    let listed = format!(r#"[{{"Id":"{id}","Labels":{labels}}},{{"Id":"{id}","Labels":{labels}}}]"#);
    let mut endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    endless.resize(80 << 20, b'[');
    let lies = [
        vec![],
        b"no HTTP at all\r\n\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[".to_vec(),
        said("200 OK", ""),
        said("200 OK", "null"),
        said("200 OK", "[{}]"),
        said("200 OK", "{\"Id\": 5}"),
        said("200 OK", r#"[{"Id":"../../etc","Labels":null}]"#),
        said("500 Oh", "<html>"),
        said("404 None", ""),
        said("204 No", ""),
        said("101 Switching Protocols", ""),
        [said("200 OK", &listed), said("200 OK", &listed)].concat(),
        said("200 OK", &format!(r#"{{"Id":"{}","Name":"x","Image":"y"}}"#, "b".repeat(64))),
        said("200 OK", &"[".repeat(100_000)),
        endless,
    ];
    block_on(async {
        let mut spec = Service::of_image(ImageRef::parse("web").unwrap());
        of(&mut spec).network = upbeat_model::project::container::NetworkMode::None;
        let slot = "a/web/1".parse().unwrap();
        // Each lie alone, and in the company of a list that is sound: then it is that of a container.
        for lie in &lies {
            for answers in [vec![lie.clone()], vec![said("200 OK", &listed), lie.clone()]] {
                let dir = tempfile::tempdir().unwrap();
                let socket = dir.path().join("s");
                liar(&socket, answers);
                let (engine, _events) = engine(&socket);
                let _ = engine.slots().await;
                let seen = engine.observe(&slot).await;
                assert!(!matches!(seen, Ok(Seen::Running { .. } | Seen::Ended { .. })), "{seen:?}");
                assert!(engine.prepare(wish(&slot, &spec), |_| {}).await.is_err());
                assert!(engine.start(&slot, Attempt(1), &id).await.is_err());
                let gone: Result<_, EngineError> = engine.remove(&slot, &[]).await;
                drop(gone);
            }
        }
    });
}
