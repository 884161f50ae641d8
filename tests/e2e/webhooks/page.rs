//! The page about webhooks, typed.

use std::fs;
use std::path::Path;

use super::receiver::{Heard, Receiver};
use super::set_up;
use crate::home::{Home, Ran, eventually};
use crate::readme::{ROOT, blocks};
use crate::{Journey, Need};

const PAGE: &str = "docs/webhooks.md";

pub(super) fn journeys() -> Vec<Journey> {
    vec![
        Journey::needing(&[Need::OPENSSL], "the page about webhooks, typed", typed),
        Journey::new("the page about webhooks says what is bounded, and how much", bounds),
    ]
}

fn type_in(home: &Home, typed: &str) -> Ran {
    let dir = Path::new(env!("CARGO_BIN_EXE_upbeat")).parent().unwrap().display().to_string();
    let ran = home.shell(&format!("set -euo pipefail; PATH=\"{dir}:$PATH\"\n{typed}")).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = ran.status.code().unwrap_or(-1);
    Ran { stdout: text(&ran.stdout), stderr: text(&ran.stderr), code }.ok()
}

/// With what was heard, as the page's shell has it.
fn verified(home: &Home, verify: &str, heard: &Heard) -> String {
    home.write("body", &heard.body);
    let headers =
        format!("id='{}' timestamp='{}' signature='{}'\n", heard.id, heard.timestamp, heard.signature);
    type_in(home, &(headers + verify)).stdout
}

fn typed() {
    let mut home = Home::new();
    let [secret, start, verify, rotate] = &blocks(PAGE, "sh")[..] else { panic!("four are on the page") };
    let [settings] = &blocks(PAGE, "toml")[..] else { panic!("one file of settings is on the page") };
    type_in(&home, secret);
    let own = home.outside("upbeat-hook.secret");
    let read = || fs::read_to_string(&own).unwrap().trim().to_owned();
    let receiver = Receiver::new(&read());
    let settings = settings
        .replace("127.0.0.1:8099", &receiver.address)
        .replace("/home/ann/upbeat-hook.secret", &own.display().to_string());
    // One that runs with other settings.
    home.run(&["rollout", "start", "demo/web", "v1"]).ok();
    set_up(&mut home, &settings);
    let said = type_in(&home, start).stdout;
    assert!(said.contains("local: taken within ") && said.contains("HTTP 204"), "{said}");
    assert!(said.contains("https://hooks.example.com/…"), "{said}");
    home.run(&["rollout", "start", "prod/web", "v1"]).ok();
    home.run(&["rollout", "report", "prod/web", "a=v1"]).ok();
    eventually("an event is heard", || !receiver.numbers().is_empty());
    for heard in receiver.heard() {
        assert!(heard.is_right, "{heard:?}");
        assert_eq!(verified(&home, verify, &heard), "it is from your daemon\n");
        let changed = Heard { body: heard.body.replace('1', "2"), ..heard };
        assert_eq!(verified(&home, verify, &changed), "it is not\n");
    }
    let before = receiver.heard().len();
    let said = type_in(&home, rotate).stdout;
    assert_eq!(said.matches("local: taken").count(), 2, "{said}");
    receiver.learns(&read());
    let tests: Vec<Heard> = receiver
        .heard()
        .split_off(before)
        .into_iter()
        .filter(|heard| heard.event()["sequence"] == 0)
        .collect();
    assert!(tests[0].is_right && tests[0].signature.contains(' '), "both sign, and it knew the old one");
    assert!(!tests[1].is_right && !tests[1].signature.contains(' '), "the new one alone");
    assert_eq!(verified(&home, verify, &tests[1]), "it is from your daemon\n");
}

fn bounds() {
    use upbeat_control::{EVENTS_KEPT, webhooks};
    let page = fs::read_to_string(format!("{ROOT}/{PAGE}")).unwrap();
    for words in [
        format!("at most {} of them", webhooks::WEBHOOKS_MAX),
        format!("a secret of fewer than {} bytes", webhooks::SECRET_BYTES_MIN),
        format!("the daemon keeps {},000 events", EVENTS_KEPT / 1_000),
        format!("{} MiB of them", upbeat_store::JOURNAL_BYTES_MAX >> 20),
        format!("no answer within {} s", upbeat_drivers::controllers::QUESTION_TIME.as_secs()),
    ] {
        assert!(page.contains(&words), "{words}");
    }
    assert_eq!(upbeat_decide::webhook::LONGEST_WAIT.0, 5 * 60 * 1_000);
    assert!(page.contains("five minutes at most"));
}
