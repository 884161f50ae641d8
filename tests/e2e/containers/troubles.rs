//! Engines that stand still, and engines whose disk is full.

use rustix::process::Signal;
use serde_json::json;
use upbeat_needs::docker::{PrivateEngine, Registry};

use super::Harbour;
use super::killed::never_two;
use crate::extremes::fill;
use crate::home::{eventually, kill};
use crate::{Journey, Need};

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        Journey::needing(
            &[Need::DOCKER, Need::ROOT],
            "an engine that stands still keeps nothing else from going on, and nothing is doubled when it goes on",
            stands_still,
        ),
        Journey::needing(
            &[Need::DOCKER, Need::REGISTRY, Need::ROOT],
            "an engine whose disk is full is said to be, nothing that runs is touched, and with room it goes on",
            full,
        ),
    ]
}

fn stands_still() {
    let engine = PrivateEngine::start();
    let harbour = Harbour::at(engine.docker.clone());
    let file = |version: u32| {
        harbour.file(&format!(
            "  web: {{ image: IMAGE, command: STAYS, network_mode: none, environment: {{ V: \"{version}\" }} }}
  tool: {{ command: [sleep, \"600\"], restart: always }}
"
        ));
    };
    file(1);
    let listener = engine.docker.listen(&format!("io.upbeat.app={}", harbour.app));
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    let (before, tool) = (harbour.run_of("web-1"), harbour.home.pid("tool-1"));
    engine.signal(Signal::STOP);
    // What needs no engine goes on, and of the rest is shown what was known.
    kill(tool, 9);
    let is_anew = || harbour.home.slots()["tool-1"]["pid"].as_i64().is_some_and(|pid| pid != i64::from(tool));
    eventually("the process is there again", is_anew);
    assert_eq!(harbour.home.phase("web-1"), "running");
    file(2);
    let up = harbour.home.spawn(&["up", "-d", "--wait"]);
    let said = "the container engine did not answer";
    eventually("why says so", || harbour.home.run(&["why", "web"]).stdout.contains(said));
    eventually("it is told", || harbour.home.run(&["events"]).ok().stdout.contains(said));
    // An answer that is late is no reason to call it stopped.
    let shown = harbour.home.run(&["ps"]).ok().stdout;
    assert_eq!(harbour.home.slots()["web-1"]["container"], json!(before.0), "{shown}");
    engine.signal(Signal::CONT);
    let told = up.end().code(1);
    assert!(told.stderr.contains("Not everything came up"), "{}", told.stderr);
    eventually("it is updated by itself", || {
        harbour.is_running("web-1")
            && harbour.inspect("web-1").unwrap()["Config"]["Env"].to_string().contains("V=2")
    });
    harbour.home.run(&["wait", "--timeout", "60s"]).ok();
    eventually("the old one has gone", || harbour.containers().len() == 1);
    eventually("the engine has told of all of it", || {
        let running = never_two(&listener.told(), "it went on");
        running.into_iter().collect::<Vec<_>>() == [("web-1".to_owned(), harbour.id("web-1"))]
    });
    harbour.agree();
    harbour.home.run(&["down"]).ok();
    assert_eq!(harbour.containers(), Vec::<String>::new());
}

fn full() {
    let engine = PrivateEngine::on_small_disk("96m");
    let registry = Registry::beside(&engine);
    let harbour = Harbour::at(engine.docker.clone());
    let other = harbour.docker.import_busybox(&format!("{}x", harbour.app), "1");
    let pushed = harbour.docker.push(&other, &registry, &harbour.app, "1");
    pushed.remove();
    other.remove();
    let calm = "  calm: { image: IMAGE, command: STAYS, network_mode: none }\n";
    let web = |image: &str, version: u32| {
        format!(
            "  web: {{ {image}, command: STAYS, network_mode: none, environment: {{ V: \"{version}\" }} }}\n"
        )
    };
    harbour.file(&format!("{calm}{}", web("image: IMAGE", 1)));
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    harbour.home.write(
        "Dockerfile",
        &format!("FROM {}\nRUN busybox dd if=/dev/zero of=/large bs=1M count=8\n", harbour.image.name()),
    );
    let ballast = engine.data().join("ballast");
    let image_of = |name: &str| format!("image: {name:?}");
    let cases = [
        ("pulled", image_of(pushed.name())),
        ("made", "image: IMAGE".to_owned()),
        ("built", "build: { context: ., network: none }".to_owned()),
    ];
    for (version, (what, image)) in (2..).zip(cases) {
        let before = [harbour.run_of("web-1"), harbour.run_of("calm-1")];
        fill(&ballast);
        harbour.file(&format!("{calm}{}", web(&image, version)));
        let ran = harbour.home.run(&["up", "-d", "--wait"]);
        let remedy = "`docker system df` says what takes it";
        let why = harbour.home.run(&["why", "web"]).stdout;
        assert_ne!(ran.code, 0, "{what}: {ran:?}");
        let said = format!("{}{why}", ran.stderr);
        assert!(
            said.contains("the disk of the container engine is full") && said.contains(remedy),
            "{what}: {said}"
        );
        assert_eq!([harbour.run_of("web-1"), harbour.run_of("calm-1")], before, "{what}");
        harbour.agree();
        std::fs::remove_file(&ballast).unwrap();
        if what == "built" {
            // What is built is built by who asks for it.
            harbour.home.run(&["up", "-d", "--wait"]).ok();
        }
        let version = format!("V={version}");
        eventually(&format!("with room it is {what}"), || {
            harbour.is_running("web-1")
                && harbour.inspect("web-1").unwrap()["Config"]["Env"].to_string().contains(&version)
        });
        harbour.home.run(&["wait", "--timeout", "60s"]).ok();
        assert_eq!(harbour.run_of("calm-1"), before[1], "{what}");
        assert_eq!(harbour.containers().len(), 2, "{what}");
    }
    harbour.home.run(&["down"]).ok();
}
