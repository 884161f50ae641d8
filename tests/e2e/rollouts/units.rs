//! Three entities that go forward and back as one, under daemons that die in the midst of it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Journey;
use crate::home::{Home, eventually};

pub(super) fn journeys() -> Vec<Journey> {
    vec![Journey::new("three entities go forward and back as one while daemons die", as_one)]
}

const MEMBERS: [&str; 3] = ["a", "b", "c"];
const TARGETS: usize = 3;

/// The controller of all, and what its targets run.
struct Site {
    home: Home,
    runs: BTreeMap<&'static str, Vec<String>>,
    /// The version from which `c` fails.
    bad: Option<String>,
}

impl Site {
    fn json(&self, typed: &[&str]) -> Option<Value> {
        let ran = self.home.run(&[typed, &["-o", "json"]].concat());
        (ran.code == 0).then(|| serde_json::from_str(&ran.stdout).unwrap())
    }

    /// Reports the targets of a member and does what it is told; not where the daemon died meanwhile.
    fn report(&mut self, member: &'static str) {
        let entity = format!("prod/{member}");
        let runs = self.runs[member].iter().enumerate().map(|(n, version)| format!("t{n}={version}"));
        let said: Vec<String> = runs.collect();
        let mut typed = vec!["rollout", "report", &entity];
        typed.extend(said.iter().map(String::as_str));
        let Some(told) = self.json(&typed) else { return };
        for target in told["targets"].as_array().unwrap() {
            let Some(version) = target["assigned"]["version"].as_str() else { continue };
            let n: usize = target["name"].as_str().unwrap()[1..].parse().unwrap();
            if self.runs[member][n] != version {
                self.is_in_order(member, &self.runs[member][n], version);
                self.runs.get_mut(member).unwrap()[n] = version.to_owned();
            }
        }
        if member == "c" && self.bad.as_ref().is_some_and(|bad| self.runs["c"].contains(bad)) {
            let bad = self.bad.clone().unwrap();
            let n = self.runs["c"].iter().position(|version| *version == bad).unwrap();
            self.home.run(&["rollout", "fail", "prod/c", &format!("t{n}"), "--reason", "it does not answer"]);
        }
    }

    /// Forward after those it needs, back before them. Nobody else reports, so nobody came further meanwhile.
    fn is_in_order(&self, member: &str, from: &str, to: &str) {
        let at = MEMBERS.iter().position(|other| *other == member).unwrap();
        let others = if from < to { &MEMBERS[..at] } else { &MEMBERS[at + 1..] };
        for other in others {
            let all = &self.runs[other];
            assert!(
                all.iter().all(|version| version == to),
                "{member} goes to {to}, and {other} runs {all:?}"
            );
        }
    }

    fn turn(&mut self) {
        MEMBERS.iter().for_each(|member| self.report(member));
    }

    fn course(&self) -> Option<String> {
        let shown = self.json(&["rollout", "unit", "show", "prod/release"])?;
        shown["course"].as_str().map(str::to_owned)
    }

    fn all_run(&self, version: &str) -> bool {
        self.runs.values().flatten().all(|runs| runs == version)
    }

    /// The next daemon dies at this point, once.
    fn dies_at(&mut self, point: &str, n: usize) -> std::path::PathBuf {
        let marker = self.home.outside(&format!("marker-{n}"));
        self.home.kill_daemon();
        self.home.set("UPBEAT_FAILPOINT", format!("{point}:{}", marker.display()));
        marker
    }

    fn start(&self, version: &str) {
        let members: Vec<String> = MEMBERS.iter().map(|member| format!("{member}={version}")).collect();
        let mut typed = vec!["rollout", "unit", "start", "prod/release"];
        // The order is that of the needs, not of the words.
        typed.extend(members.iter().rev().map(String::as_str));
        typed.extend(["--needs", "b:a", "--needs", "c:b"]);
        eventually("the unit is kept by a daemon that lives", || self.home.run(&typed).code == 0);
    }

    /// Until the unit is over: by this word.
    fn until(&mut self, word: &str) {
        eventually(&format!("the unit is {word}"), || {
            self.turn();
            self.course().as_deref() == Some(word)
        });
    }
}

fn as_one() {
    let runs = MEMBERS.iter().map(|member| (*member, vec!["v1".to_owned(); TARGETS])).collect();
    let mut site = Site { home: Home::new(), runs, bad: None };
    for member in MEMBERS {
        let entity = format!("prod/{member}");
        site.home.run(&["rollout", "start", &entity, "v1", "--success", "0", "--batch", "100%"]).ok();
        eventually("v1 is good", || {
            site.report(member);
            site.json(&["rollout", "show", &entity]).is_some_and(|state| state["good"] == "v1")
        });
        let careful = ["--success", "100", "--batch", "2", "--success-timeout", "0s"];
        site.home.run(&[&["rollout", "options", &entity], &careful[..]].concat()).ok();
    }
    for (n, point) in ["unit_kept", "unit_member_asked"].into_iter().enumerate() {
        let (good, bad) = (format!("v{}", 2 + 2 * n), format!("v{}", 3 + 2 * n));
        site.bad = None;
        site.start(&good);
        eventually("the first has begun", || {
            site.turn();
            site.runs["a"].contains(&good)
        });
        // With the next that is decided: that b begins.
        let marker = site.dies_at(point, 2 * n);
        site.until("good");
        assert!(marker.exists(), "it died at {point} on the way");
        assert!(site.all_run(&good), "{:?}", site.runs);
        site.home.unset("UPBEAT_FAILPOINT");
        site.home.kill_daemon();

        site.start(&bad);
        eventually("the last but one has begun", || {
            site.turn();
            site.runs["b"].contains(&bad)
        });
        site.home.kill_daemon();
        eventually("the last has begun", || {
            site.turn();
            site.runs["c"].contains(&bad)
        });
        assert_eq!(site.course().as_deref(), Some("forward"));
        site.bad = Some(bad);
        // With the next that is decided: that all go back.
        let marker = site.dies_at(point, 2 * n + 1);
        site.until("rolled_back");
        assert!(marker.exists(), "it died at {point} on the way back");
        assert!(site.all_run(&good), "{:?}", site.runs);
        site.home.unset("UPBEAT_FAILPOINT");
    }
    let shown = site.home.run(&["rollout", "unit", "show", "prod/release"]).ok().stdout;
    for words in ["prod/release  rolled back", "a  v4 → v5  back", "c  v4 → v5  b"] {
        assert!(shown.contains(words), "{words} in\n{shown}");
    }
    assert_eq!(site.home.run(&["rollout", "unit", "ls", "-q"]).ok().stdout, "prod/release\n");
    site.home.run(&["rollout", "unit", "abort", "prod/release"]).code(4);
}
