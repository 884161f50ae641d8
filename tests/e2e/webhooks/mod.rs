//! Journeys of webhooks: a receiver that is away, daemons that are killed, secrets that change.

mod page;
mod receiver;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::Journey;
use crate::home::{Home, eventually};
use receiver::Receiver;

pub(crate) fn journeys() -> Vec<Journey> {
    let mut journeys = vec![
        Journey::new(
            "webhooks: a rollout's events arrive in order, though receiver and daemon die",
            nothing_is_missing,
        ),
        Journey::new(
            "webhooks: a daemon killed between telling and keeping tells the same again",
            told_and_not_kept,
        ),
        Journey::new("a webhook's secret is rotated, and is found nowhere", rotated),
        Journey::new("a webhook to where keys are given out is refused", refused),
        Journey::new("webhooks: a receiver that is gone is left alone until the next start", gone),
    ];
    journeys.extend(page::journeys());
    journeys
}

const SECRET: &str = "first-secret-of-the-journey-0123456789";
const NEXT: &str = "second-secret-of-the-journey-0123456789";

/// In its path, as many a receiver has it.
const HIDDEN: &str = "hidden-in-the-path";

/// A home whose daemon tells a receiver.
struct Site {
    home: Home,
    receiver: Receiver,
    secret: PathBuf,
}

impl Site {
    fn new() -> Self {
        let (mut home, receiver) = (Home::new(), Receiver::new(SECRET));
        // Beside the home's directories, which are looked through for it.
        let kept = home.outside("kept");
        fs::create_dir(&kept).unwrap();
        let secret = kept.join("secret");
        let url = format!("http://{}/{HIDDEN}", receiver.address);
        let settings = format!("[webhooks.ci]\nurl = '{url}'\nsecret_file = '{}'\n", secret.display());
        set_up(&mut home, &settings);
        write_secret(&secret, SECRET);
        Self { home, receiver, secret }
    }

    /// Another version of an entity, of which two targets say what they run.
    fn roll(&self, version: &str) {
        self.home.run(&["rollout", "start", "prod/web", version, "--success", "0", "--batch", "100%"]).ok();
        for _ in 0..2 {
            let targets = [format!("a={version}"), format!("b={version}")];
            self.home.run(&["rollout", "report", "prod/web", &targets[0], &targets[1]]).ok();
        }
    }

    /// The events of rollouts, as the API has them.
    fn events(&self) -> Vec<Value> {
        let ran = self.home.run(&["events", "--all", "--json", "--kind", "rollout"]).ok();
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn webhook(&self) -> Value {
        let ran = self.home.run(&["webhook", "ls", "-o", "json"]).ok();
        serde_json::from_str::<Value>(&ran.stdout).unwrap()[0].clone()
    }

    /// Until the receiver has heard all there is.
    fn all_is_heard(&self) {
        eventually("all is heard", || {
            let last = self.events().last().and_then(|event| event["sequence"].as_u64());
            self.receiver.numbers().last().copied() == last && self.webhook()["state"] == "idle"
        });
    }

    /// Each event came, as the API has it, signed, under an id of its own, and for the first time in order. One that
    /// the journal holds twice, with two numbers, is one event.
    fn is_whole(&self) {
        let mut ids: BTreeMap<String, Value> = BTreeMap::new();
        let mut first_times = Vec::new();
        for heard in self.receiver.heard() {
            assert!(heard.is_right, "{heard:?}");
            let event = without_sequence(heard.event());
            match ids.insert(heard.id.clone(), event.clone()) {
                None => first_times.push(event),
                Some(before) => assert_eq!(before, event, "{} is two events", heard.id),
            }
        }
        let (mut told, mut numbers) = (Vec::new(), BTreeSet::new());
        for event in self.events() {
            numbers.insert(event["sequence"].as_u64().unwrap());
            let event = without_sequence(event);
            if !told.contains(&event) {
                told.push(event);
            }
        }
        assert_eq!(first_times, told);
        assert_eq!(BTreeSet::from_iter(self.receiver.numbers()), numbers, "and each as often as it is there");
    }
}

/// What tells an event about a rollout from all others: its entity, its number there, and when.
fn without_sequence(mut event: Value) -> Value {
    assert!(event["number"].is_u64() && event["at"].is_number(), "{event}");
    event.as_object_mut().unwrap().remove("sequence");
    event
}

fn set_up(home: &mut Home, settings: &str) {
    let config = home.outside("config");
    fs::create_dir_all(config.join("upbeat")).unwrap();
    fs::write(config.join("upbeat/config.toml"), settings).unwrap();
    home.set("XDG_CONFIG_HOME", config.display().to_string());
}

/// As people replace it: whole, or not at all.
fn write_secret(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(new, path).unwrap();
}

fn nothing_is_missing() {
    let site = Site::new();
    site.roll("v1");
    site.all_is_heard();
    site.is_whole();
    let begun = site.receiver.numbers().len();
    assert!(begun >= 3, "a rollout began, was assigned, and is good: {begun}");

    // The receiver goes away, then the daemon.
    site.receiver.is_down(true);
    site.roll("v2");
    eventually("it is not taken", || site.webhook()["state"] == "retrying");
    let state = site.webhook();
    assert!(state["last_error"]["why"].is_string() && state["next_try"].is_number(), "{state}");
    assert!(state["pending"].as_u64().unwrap() >= 3, "{state}");
    site.home.kill_daemon();
    site.roll("v3");
    assert_eq!(site.receiver.numbers().len(), begun, "nobody is there");
    site.home.kill_daemon();
    site.receiver.is_down(false);
    site.roll("v4");
    site.all_is_heard();
    site.is_whole();
    assert_eq!(site.webhook()["lost"], Value::Null);
}

fn told_and_not_kept() {
    let mut site = Site::new();
    let marker = site.home.outside("marker");
    site.home.set("UPBEAT_FAILPOINT", format!("webhook_told:{}", marker.display()));
    eventually("the rollout is asked for by a daemon that lives", || {
        site.home.run(&["rollout", "start", "prod/web", "v1"]).code == 0
    });
    eventually("the daemon died of the first event", || {
        // Which may be lost with it.
        drop(site.home.run(&["rollout", "report", "prod/web", "a=v0"]));
        marker.exists()
    });
    site.home.unset("UPBEAT_FAILPOINT");
    site.roll("v2");
    site.all_is_heard();
    site.is_whole();
    let all = site.receiver.heard();
    assert_eq!((&all[0].id, &all[0].body), (&all[1].id, &all[1].body), "it came again as the same");
    let numbers = site.receiver.numbers();
    assert_eq!(numbers.len(), site.events().len() + 1, "and nothing else did: {numbers:?}");
}

fn rotated() {
    let site = Site::new();
    let test = || {
        let ran = site.home.run(&["webhook", "test", "ci"]);
        (ran.code, ran.stdout)
    };
    let last = || site.receiver.heard().pop().unwrap();
    site.roll("v1");
    assert_eq!(test().0, 0);
    assert!(last().is_right && !last().signature.contains(' '), "{:?}", last());
    assert_eq!(last().event()["event"], "webhook_test");
    // Both sign: the receiver may know either.
    write_secret(&site.secret, &format!("{NEXT}\n{SECRET}\n"));
    for knows in [SECRET, NEXT] {
        site.receiver.learns(knows);
        assert_eq!(test().0, 0);
        assert!(last().is_right && last().signature.split(' ').count() == 2, "{:?}", last());
    }
    write_secret(&site.secret, NEXT);
    assert_eq!(test().0, 0);
    assert!(last().is_right && !last().signature.contains(' '));
    // One that others may read is not used.
    let heard = site.receiver.heard().len();
    fs::set_permissions(&site.secret, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, said) = test();
    assert!(code == 1 && said.contains("others than its owner may use it (mode 0644)"), "{said}");
    assert_eq!(site.receiver.heard().len(), heard);
    fs::set_permissions(&site.secret, fs::Permissions::from_mode(0o600)).unwrap();
    site.receiver.answers(500);
    assert!(test().1.contains("HTTP 500"));
    site.receiver.answers(204);
    is_found_nowhere(&site);
    let ran = site.home.run(&["webhook", "test", "cd"]).code(3);
    assert!(ran.stderr.contains("there are ci"), "{}", ran.stderr);
    let audit = site.home.run(&["audit", "ls"]).ok().stdout;
    assert!(audit.contains("test webhook ci (POST /api/v1/webhooks/{webhook}/test)"), "{audit}");
}

/// Neither a secret nor what is hidden in the address: in no answer, no log, and no file of state.
fn is_found_nowhere(site: &Site) {
    let mut said = String::new();
    for typed in [
        &["webhook", "ls"][..],
        &["webhook", "ls", "-o", "json"],
        &["webhook", "test", "ci", "-o", "json"],
        &["serve", "--print-settings"],
        &["serve", "--print-settings", "-o", "json"],
        &["audit", "ls"],
        &["events", "--all"],
    ] {
        let ran = site.home.run(typed).ok();
        said += &ran.stdout;
        said += &ran.stderr;
    }
    assert!(said.contains(&format!("http://{}/…", site.receiver.address)), "{said}");
    let (mut files, mut dirs) = (0, vec![site.home.state(), site.home.outside("run")]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            if kind.is_dir() {
                dirs.push(path);
            } else if kind.is_file() {
                files += 1;
                said += &String::from_utf8_lossy(&fs::read(path).unwrap());
            }
        }
    }
    assert!(files > 4, "{files}");
    for hidden in [SECRET, NEXT, HIDDEN] {
        assert!(!said.contains(hidden), "{hidden} is found");
    }
}

fn refused() {
    let mut home = Home::new();
    let secret = home.outside("secret");
    write_secret(&secret, SECRET);
    for (url, words) in [
        ("http://169.254.169.254/latest/hush", "it is a link-local address"),
        ("http://[fe80::1]/hush", "it is a link-local address"),
        ("http://192.0.2.1/hush", "no entry of the allow-list is for it"),
    ] {
        let hook = format!("[webhooks.ci]\nsecret_file = '{}'\nurl = '{url}'\n", secret.display());
        set_up(&mut home, &hook);
        let ran = home.run(&["serve"]).code(2);
        assert!(ran.stderr.contains("config.toml:3:7") && ran.stderr.contains(words), "{}", ran.stderr);
        assert!(!ran.stderr.contains("hush"), "{}", ran.stderr);
    }
    // A name is judged by what it leads to, when it is told; here this machine, whom the list leaves out as
    // others may say whom to ask.
    let (cert, key) = (home.outside("cert.pem"), home.outside("key.pem"));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(&cert, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let api = format!(
        "[api]\nlisten = '0.0.0.0:0'\ntls_cert = '{}'\ntls_key = '{}'\n",
        cert.display(),
        key.display()
    );
    let hook = "url = 'http://localhost:9/hush'\n";
    set_up(&mut home, &format!("{api}[webhooks.ci]\nsecret_file = '{}'\n{hook}", secret.display()));
    let ran = home.run(&["webhook", "test", "ci"]).code(1);
    assert!(ran.stdout.contains("it is a loopback address"), "{}", ran.stdout);
}

fn gone() {
    let site = Site::new();
    site.receiver.answers(410);
    site.roll("v1");
    eventually("it is off", || site.webhook()["state"] == "off");
    let told = site.home.run(&["webhook", "ls"]).ok().stdout;
    assert!(told.contains("its receiver is gone for good (HTTP 410)"), "{told}");
    site.receiver.answers(204);
    site.roll("v2");
    assert_eq!(site.webhook()["state"], "off");
    assert_eq!(site.receiver.numbers().len(), 1);
    site.home.kill_daemon();
    site.roll("v3");
    site.all_is_heard();
    site.is_whole();
}
