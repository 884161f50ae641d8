//! Rollouts on the command line.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::Journey;
use crate::home::{Home, Ran, Running, eventually, kill};
use crate::terminal::OnTerminal;

pub(super) fn journeys() -> Vec<Journey> {
    vec![
        Journey::new("a canary is typed from its start to its approval, and on to the end", canary),
        Journey::new("a bad version is typed: failed, refused, retried, aborted, undone", bad),
        Journey::new("what cannot be done with a rollout says why, and what can", wrong),
        Journey::new(
            "whoever watches a rollout sees each step there and back, until it is forgotten",
            watched,
        ),
        Journey::new("how long and how bad is told beforehand, each time the same", beforehand),
        Journey::new("whoever lists rollouts waits for a daemon that is starting", starting),
        Journey::new(
            "of two daemons that start at once, whoever lists rollouts waits for the one that stays",
            two_start,
        ),
        Journey::new("a unit is watched, and events are asked for by their rollout", watched_unit),
    ]
}

/// Three targets, in the hands of somebody who types.
struct Typist {
    home: Home,
    runs: BTreeMap<&'static str, String>,
}

/// As fast as it goes, and nothing fails by itself.
const QUICK: [&str; 6] = ["--batch", "100%", "--success-timeout", "0s", "--duration-timeout", "10m"];

impl Typist {
    /// v1 is good.
    fn new() -> Self {
        let runs = ["a", "b", "eu/c"].map(|name| (name, "v0".to_owned())).into();
        let mut typist = Self { home: Home::new(), runs };
        typist.start("v1", &QUICK).ok();
        typist.until_good("v1");
        typist
    }

    fn rollout(&self, words: &[&str]) -> Ran {
        self.home.run(&[&["rollout"], words].concat())
    }

    /// About the one.
    fn of_it(&self, word: &str, more: &[&str]) -> Ran {
        self.rollout(&[&[word, "prod/web"], more].concat())
    }

    fn start(&self, version: &str, more: &[&str]) -> Ran {
        self.of_it("start", &[&[version], more].concat())
    }

    fn state(&self) -> Value {
        serde_json::from_str(&self.of_it("show", &["-o", "json"]).ok().stdout).unwrap()
    }

    /// Reports, and does what is printed.
    #[track_caller]
    fn report(&mut self) -> Vec<String> {
        let said: Vec<String> = self.runs.iter().map(|(name, version)| format!("{name}={version}")).collect();
        let said: Vec<&str> = said.iter().map(String::as_str).collect();
        let table = self.of_it("report", &said).ok().stdout;
        let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        assert_eq!(lines.next().unwrap(), ["TARGET", "SHALL", "RUN"]);
        for (line, (name, version)) in lines.zip(&mut self.runs) {
            assert_eq!(line[0], *name);
            *version = line[1].to_owned();
        }
        self.runs.values().cloned().collect()
    }

    #[track_caller]
    fn until(&mut self, what: &str, is_so: impl Fn(&Value) -> bool) {
        eventually(what, || {
            self.report();
            is_so(&self.state())
        });
    }

    #[track_caller]
    fn until_good(&mut self, version: &str) {
        self.until(&format!("{version} is good"), |state| {
            state["good"] == version && state["course"] == "steady"
        });
    }

    /// What is printed has these words, in this order.
    #[track_caller]
    fn says(&self, word: &str, words: &[&str]) {
        let text = self.of_it(word, &[]).ok().stdout;
        let mut rest = text.as_str();
        for word in words {
            let at = rest.find(word).unwrap_or_else(|| panic!("{word} is not there, or not there:\n{text}"));
            rest = &rest[at..];
        }
    }

    /// It is not done: with this code, for that reason, and there is that to do.
    #[track_caller]
    fn refused(&self, words: &[&str], code: i32, why: &str, hint: &str) {
        let ran = self.rollout(words).code(code);
        assert!(ran.stderr.contains(why), "{words:?}: {}", ran.stderr);
        let told = ran.stderr.lines().find(|line| line.starts_with("hint: ")).unwrap_or_default();
        assert_eq!(told.contains(hint), !hint.is_empty() || told.is_empty(), "{words:?}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{words:?}");
    }
}

fn canary() {
    let mut it = Typist::new();
    let said = it.start("v2", &["--canary", "1"]).ok().stderr;
    assert!(said.contains("`prod/web` is to run `v2`; its targets are moved as they are reported"), "{said}");
    it.refused(&["approve", "prod/web"], 4, "There is nothing to approve", "upbeat rollout show");
    assert_eq!(it.report(), ["v1", "v1", "v1"], "it begins with the next");
    assert_eq!(it.report(), ["v2", "v1", "v1"]);
    it.until("it waits for approval", |state| state["gate"].is_object());
    assert_eq!(it.report(), ["v2", "v1", "v1"], "and nobody else is moved");
    it.says(
        "show",
        &["v1 → v2", "rolling out", "1 well", "2 to come", "canary", "1/1  waits for approval", "rest"],
    );
    it.says("why", &["waits for approval after stage `canary`"]);
    it.of_it("approve", &[]).ok();
    it.of_it("pause", &[]).ok();
    assert_eq!(it.report(), ["v2", "v1", "v1"], "nobody is moved while it is paused");
    it.says("show", &["v1 → v2", "paused by", "because", "paused by"]);
    it.of_it("resume", &[]).ok();
    assert_eq!(it.report(), ["v2", "v2", "v2"]);
    it.says("targets", &["TARGET", "a ", "v2", "b ", "eu/c"]);
    let europe = it.of_it("targets", &["--group", "eu"]).ok().stdout;
    assert!(europe.contains("eu/c") && europe.lines().count() == 2, "{europe}");
    it.until_good("v2");
    it.says("history", &["NUMBER", "2 ", "v2", "v1", "good", "3 of 3 targets are well", "1 ", "v1", "good"]);
    it.says("why", &["steady", "all is as it shall be"]);
    // The next is promoted beyond its canary, and then for good, by whoever knows better.
    it.start("v3", &[]).ok();
    it.report();
    it.of_it("promote", &[]).ok();
    it.says("show", &["canary", "waits for approval"]);
    it.of_it("promote", &["--all"]).ok();
    let state = it.state();
    assert_eq!((&state["course"], &state["good"]), (&"steady".into(), &"v3".into()));
    it.says("history", &["v3", "promoted by"]);
    it.of_it("undo", &[]).ok();
    it.until_good("v2");
    it.says("history", &["3 ", "v3", "good"]);
    let listed = it.rollout(&["ls"]).ok().stdout;
    assert!(listed.contains("prod/web  steady  v2"), "{listed}");
}

fn bad() {
    let mut it = Typist::new();
    it.start("v2", &[]).ok();
    it.report();
    assert_eq!(it.report(), ["v2", "v2", "v2"]);
    it.refused(&["fail", "prod/web", "nobody"], 3, "There is no target `nobody`", "upbeat rollout targets");
    it.of_it("fail", &["eu/c", "--reason", "it burns"]).ok();
    it.report();
    let state = it.state();
    assert_eq!((&state["course"], &state["bad"]), (&"back".into(), &"v2".into()), "{state}");
    it.says("why", &["`v2` is held to be bad: 1 of 3 targets failed, and 0 may: eu/c"]);
    assert_eq!(it.report(), ["v1", "v1", "v1"]);
    it.refused(&["start", "prod/web", "v2"], 4, "known to be bad: 1 of 3", "upbeat rollout retry prod/web");
    it.of_it("retry", &[]).ok();
    it.until("it is tried again", |state| state["course"] == "forward");
    it.of_it("abort", &["--reason", "it burns again"]).ok();
    it.says("why", &["`v2` is held to be bad: aborted by", "it burns again"]);
    it.refused(&["abort", "prod/web"], 4, "already", "upbeat rollout show");
    it.says("history", &["v2", "aborted", "v2", "bad", "v1", "good"]);
    it.start("v3", &[]).ok();
    it.refused(&["start", "prod/web", "v2"], 4, "known to be bad: aborted by", "forgive");
    it.of_it("forgive", &["v2"]).ok();
    it.until_good("v3");
    it.start("v2", &[]).ok();
    it.until_good("v2");
}

fn wrong() {
    let it = Typist::new();
    let ask = |words: &[&str], code, why, hint| it.refused(words, code, why, hint);
    ask(&["start", "prod", "v1"], 2, "expected `NAMESPACE/ENTITY`", "");
    ask(&["start", "prod/web", "v2", "--batch", "101%"], 2, "expected a number from 0 to 100", "");
    ask(
        &["start", "prod/web", "v2", "--canary", "0"],
        2,
        "`stages[0].who.amount` must be more than none",
        "",
    );
    ask(&["start", "prod/web", "v2", "--stages", "region"], 2, "names no waves", "region=eu,us");
    ask(&["options", "prod/web"], 2, "Nothing was said about how carefully", "--reset");
    ask(&["report", "prod/web", "a"], 2, "says of no target what it runs", "name=version");
    ask(&["show", "prod/none"], 3, "There is no entity `prod/none`", "lists");
    ask(&["forget", "prod/none"], 3, "There is no rollout `prod/none`", "upbeat rollout ls");
    ask(&["resume", "prod/web"], 4, "It is not paused", "upbeat rollout show");
    ask(&["retry", "prod/web"], 4, "There is nothing to retry", "upbeat rollout show");
    ask(&["promote", "prod/web"], 4, "its version is good", "upbeat rollout show");
    ask(&["undo", "prod/web"], 4, "There is no version to go back to", "upbeat rollout show");
    ask(&["forgive", "prod/web", "v9"], 4, "`v9` is not known to be bad", "upbeat rollout show");
    // Nothing of that has changed anything.
    let state = it.state();
    assert_eq!((&state["course"], &state["number"]), (&"steady".into(), &1.into()), "{state}");
    assert_eq!(state["strategy"], Value::Null, "{state}");
    let said = it.of_it("forget", &[]).ok().stderr;
    assert!(said.contains("`prod/web` is forgotten; its targets run on"), "{said}");
    ask(&["show", "prod/web"], 3, "There is no entity `prod/web`", "lists");
}

/// Reads what whoever watches is told, until it is so.
#[track_caller]
fn told(watcher: &mut Running, is_so: impl Fn(&Value) -> bool) {
    watcher.until(|line| is_so(&serde_json::from_str(line).unwrap()));
}

fn watched() {
    let mut it = Typist::new();
    let mut states = it.home.spawn(&["rollout", "show", "prod/web", "--watch", "-o", "json"]);
    let mut picture = it.home.spawn(&["rollout", "show", "prod/web", "--watch"]);
    told(&mut states, |state| state["course"] == "steady" && state["good"] == "v1");
    picture.until(|line| line.starts_with("prod/web  v1  steady"));
    it.start("v2", &["--canary", "1"]).ok();
    it.report();
    told(&mut states, |state| state["course"] == "forward" && state["target"] == "v2");
    it.report();
    told(&mut states, |state| state["counts"]["on_the_way"] == 1 && state["counts"]["available"] == 2);
    it.until("it waits for approval", |state| state["gate"].is_object());
    told(&mut states, |state| state["gate"]["stage"] == "canary" && state["counts"]["well"] == 1);
    picture.until(|line| line.contains("1/1  waits for approval"));
    it.of_it("approve", &[]).ok();
    it.report();
    told(&mut states, |state| state["gate"].is_null() && state["counts"]["available"] == 0);
    it.of_it("fail", &["b"]).ok();
    it.report();
    told(&mut states, |state| state["course"] == "back" && state["bad"] == "v2");
    picture.until(|line| line.starts_with("prod/web  v1 ← v2  rolling back"));
    it.until("all are well on v1", |state| state["counts"]["well"] == 3);
    told(&mut states, |state| state["course"] == "back" && state["counts"]["well"] == 3);
    // On a terminal it is drawn over itself.
    let mut drawn = OnTerminal::spawn(&it.home, &["rollout", "show", "prod/web", "--watch"]);
    assert!(drawn.until("v1 ← v2").starts_with("\u{1b}[2J\u{1b}[H"));
    it.start("v3", &[]).ok();
    it.report();
    drawn.until("v1 → v3");
    it.of_it("forget", &[]).ok();
    let (text, code) = drawn.end();
    assert!(code == 0 && text.ends_with("it is forgotten\n"), "{code}: {text:?}");
    assert_eq!(text.matches("\u{1b}[2J").count(), 1, "it is cleared once: {text:?}");
    for watcher in [states, picture] {
        let Ran { stderr, .. } = watcher.end().ok();
        assert!(stderr.contains("it is forgotten"), "{stderr}");
    }
}

fn beforehand() {
    let home = Home::new();
    let simulate = |more: &[&str]| {
        home.run(&[&["rollout", "simulate", "--targets", "100", "--runs", "20"], more].concat())
    };
    let text = simulate(&["--failure-rate", "0.02", "--success", "95"]).ok().stdout;
    let (table, example) = text.split_once("\n\nOne of them, which ends well:\n").unwrap();
    let expected = "\
100 targets in 20 runs: good in 100%, rolled back in 0%

OF ALL RUNS                MEDIAN  95%     WORST
it takes                   30m10s  30m10s  30m50s
targets on a bad version   0       0       0
targets that are not well  2       3       3";
    assert_eq!(table, expected);
    assert!(example.starts_with("     0ms  rollout 2 from `old` to `new` began\n"), "{example}");
    let last = "`new` is good: 96 of 100 targets are well on it, and 95 have to be\n";
    assert!(example.ends_with(last), "{example}");
    let risky = ["--failure-rate", "0.3", "--success", "95", "--canary", "5%", "--approve-after", "10m"];
    let text = simulate(&risky).ok().stdout;
    assert!(text.starts_with("100 targets in 20 runs: good in 0%, rolled back in 100%\n"), "{text}");
    let why = "2 of 5 targets of stage `canary` failed, and 1 may: target1, target12\n";
    assert!(text.ends_with(why), "{text}");
    let json = |seed: &str| simulate(&["--failure-rate", "0.1", "--seed", seed, "-o", "json"]);
    let (seven, eight) = (json("7").ok().stdout, json("8").ok().stdout);
    assert_eq!(json("7").ok().stdout, seven, "the same seed tells the same");
    assert_ne!(seven, eight);
    assert_eq!(serde_json::from_str::<Value>(&seven).unwrap()["runs"], 20);
    for (more, why) in [
        (["--failure-rate", "2"], "`failure_rate` must be between 0 and 1"),
        (["--switch", "9s..2s"], "`switch` must have the shorter time first"),
        (["--every", "0s"], "`every`"),
    ] {
        let refused = simulate(&more).code(2);
        assert!(refused.stderr.contains(why) && refused.stdout.is_empty(), "{more:?}: {refused:?}");
    }
    assert_eq!(home.daemon(), None, "no daemon was asked");
}

/// It has its lock, and has not begun to listen: that is no daemon that has nothing.
fn starting() {
    let mut home = Home::new();
    home.run(&["rollout", "start", "prod/web", "v1"]).ok();
    home.kill_daemon();
    for end in ["continued", "killed"] {
        let marker = home.outside(end);
        home.set("UPBEAT_FAILPOINT", format!("daemon_begun+stop:{}", marker.display()));
        let mut daemon = home.command(&["serve"]).stderr(Stdio::null()).spawn().unwrap();
        eventually("the daemon has come so far", || marker.exists());
        home.unset("UPBEAT_FAILPOINT");
        let mut listing =
            home.command(&["rollout", "ls"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut errors = BufReader::new(listing.stderr.take().unwrap()).lines();
        let first = errors.next().unwrap().unwrap();
        assert_eq!(first, "upbeat: the daemon is starting; waiting for it");
        match end {
            "continued" => {
                kill(daemon.id() as i32, 18);
                let listed = listing.wait_with_output().unwrap();
                let text = String::from_utf8(listed.stdout).unwrap();
                assert!(listed.status.success() && text.contains("prod/web  rolling out"), "{text}");
            }
            // What is not there any more is not waited for.
            _ => {
                kill(daemon.id() as i32, 9);
                daemon.wait().unwrap();
                let next = errors.next().unwrap().unwrap();
                assert!(next.contains("the daemon does not run"), "{next}");
                assert_eq!(listing.wait().unwrap().code(), Some(3), "it may have some");
                continue;
            }
        }
        home.kill_daemon();
        daemon.wait().unwrap();
    }
}

/// Whoever said first that it starts is not the one that has the directories then.
fn two_start() {
    let mut home = Home::new();
    home.run(&["rollout", "start", "prod/web", "v1"]).ok();
    home.kill_daemon();
    let mut stopped_at = |place: &str| {
        let marker = home.outside(place);
        home.set("UPBEAT_FAILPOINT", format!("{place}+stop:{}", marker.display()));
        let daemon = home.command(&["serve"]).stderr(Stdio::null()).spawn().unwrap();
        eventually("the daemon has come so far", || marker.exists());
        home.unset("UPBEAT_FAILPOINT");
        daemon
    };
    let mut loses = stopped_at("daemon_starting");
    let mut wins = stopped_at("daemon_begun");
    kill(loses.id() as i32, 18);
    assert_eq!(loses.wait().unwrap().code(), Some(4), "the other one has the directories");
    let mut listing =
        home.command(&["rollout", "ls"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = BufReader::new(listing.stderr.take().unwrap()).lines();
    assert_eq!(errors.next().unwrap().unwrap(), "upbeat: the daemon is starting; waiting for it");
    kill(wins.id() as i32, 18);
    let listed = listing.wait_with_output().unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.status.success() && text.contains("prod/web  rolling out"), "{text}");
    home.kill_daemon();
    wins.wait().unwrap();
}

fn watched_unit() {
    let home = Home::new();
    for entity in ["shop/db", "shop/api"] {
        home.run(&["rollout", "start", entity, "v1", "--success", "0", "--batch", "100%"]).ok();
        home.run(&["rollout", "report", entity, "a=v1"]).ok();
        home.run(&["rollout", "options", entity, "--success", "100", "--success-timeout", "0s"]).ok();
    }
    home.run(&["rollout", "unit", "start", "shop/release", "db=v2", "api=v2", "--needs", "api:db"]).ok();
    let mut watch = home.spawn(&["rollout", "unit", "show", "shop/release", "--watch", "-o", "json"]);
    let of = |line: &str| -> Value { serde_json::from_str(line).unwrap() };
    let first = of(&watch.line().unwrap());
    assert_eq!(
        (&first["course"], &first["members"][1]["state"]),
        (&"forward".into(), &"waits".into()),
        "{first}"
    );
    home.run(&["rollout", "unit", "pause", "shop/release"]).ok();
    watch.until(|line| of(line)["paused_by"].is_string());
    home.run(&["rollout", "unit", "resume", "shop/release"]).ok();
    // Through the next daemon, too; and of a member alone, that its target is on its way.
    home.kill_daemon();
    eventually("its target is on its way", || {
        let told = home.run(&["rollout", "report", "shop/db", "a=v1"]).ok().stdout;
        told.contains("v2")
    });
    watch.until(|line| {
        let state = of(line);
        state["paused_by"].is_null() && state["members"][0]["counts"]["on_the_way"] == 1
    });
    home.run(&["rollout", "unit", "abort", "shop/release"]).ok();
    watch.until(|line| of(line)["course"] == "back");
    // Nobody reports any more; who had not begun is free, and who had, when the unit is forgotten.
    home.run(&["rollout", "start", "shop/api", "v9"]).ok();
    let refused = home.run(&["rollout", "forget", "shop/db"]).code(4).stderr;
    assert!(refused.contains("`shop/release`") && refused.contains("forget it"), "{refused}");
    let said = home.run(&["rollout", "unit", "forget", "shop/release"]).ok().stderr;
    assert!(said.contains("`shop/release` is forgotten; its members stay where they are"), "{said}");
    assert!(watch.end().ok().stderr.contains("it is forgotten"));
    home.run(&["rollout", "unit", "show", "shop/release"]).code(3);
    home.run(&["rollout", "start", "shop/db", "v9", "--force"]).ok();

    let events = home.run(&["events", "--rollout", "shop/db", "--json"]).ok().stdout;
    let entities: BTreeSet<String> =
        events.lines().map(|line| of(line)["entity"].as_str().unwrap().to_owned()).collect();
    assert_eq!(entities, BTreeSet::from(["db".to_owned()]), "{events}");
    assert!(events.contains("\"began\""), "{events}");
    let mut followed = home.spawn(&["events", "--rollout", "shop/other", "-f", "--json"]);
    home.run(&["rollout", "start", "test/other", "v1", "--success", "0"]).ok();
    for entity in ["test/other", "shop/db"] {
        home.run(&["rollout", "report", entity, "a=v1"]).ok();
    }
    home.run(&["rollout", "start", "shop/other", "v1", "--success", "0"]).ok();
    home.run(&["rollout", "report", "shop/other", "a=v1"]).ok();
    let line = followed.line().unwrap();
    assert_eq!((&of(&line)["namespace"], &of(&line)["entity"]), (&"shop".into(), &"other".into()), "{line}");
    followed.signal(9);
    followed.end();
    home.run(&["events", "--rollout", "shop/db", "--all"]).code(2);
}
